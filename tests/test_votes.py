"""Blind voting: nobody sees who made what, each vote counts once, a kill loses none, and the shares are right."""

import inspect
import json
import os
import signal
import subprocess
import sys
import time
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image
from scipy.stats import binomtest

from lr_helpers import plots
from lr_helpers.course.vote_widget import VoteWidget
from lr_helpers.course.votes import Pair, Poll, paper_preferences, preferences, read_votes
from lr_helpers.errors import OutputError, UserError

ROOT = Path(__file__).resolve().parent.parent
GOOD, BAD, INPUT = (0, 160, 0), (160, 0, 0), (90, 90, 90)


def plain(colour, number: int = 0) -> Image.Image:
    """A picture of one colour, and of one pixel that tells pictures apart."""
    picture = Image.new("RGB", (8, 8), colour)
    picture.putpixel((7, 7), (number % 256, number // 256, 0))
    return picture


def make_pairs(count: int, theirs: str = "DiffEdit") -> list[Pair]:
    """The edits of "learned" are green, the others red."""
    return [Pair(plain(INPUT, i), "wolf", f"prompt {i}", {"learned": plain(GOOD, i), theirs: plain(BAD, i)})
            for i in range(count)]


def is_green(picture: Image.Image) -> bool:
    return picture.getpixel((0, 0)) == GOOD


def vote_all(poll: Poll, choose=lambda ballot: "left" if is_green(ballot.left) else "right") -> list[str]:
    seen = []
    while ballot := poll.ballot:
        seen.append(ballot.prompt)
        poll.vote(choose(ballot))
    return seen


# The way through the pairs


def test_every_pair_is_seen_once_in_an_order_of_the_voters_own(tmp_path):
    pairs = make_pairs(40)
    orders = {name: vote_all(Poll(pairs, tmp_path / f"{name}.jsonl", name)) for name in ("Ada", "Ben")}
    assert all(sorted(order) == sorted(p.prompt for p in pairs) for order in orders.values())
    assert orders["Ada"] != orders["Ben"]
    again = vote_all(Poll(pairs[::-1], tmp_path / "again.jsonl", "Ada"))
    assert again == orders["Ada"]  # whatever the order in which the pairs are given
    assert vote_all(Poll(pairs, tmp_path / "seed.jsonl", "Ada", seed=1)) != orders["Ada"]


def test_a_vote_goes_to_who_made_the_picture_that_was_clicked(tmp_path):
    file = tmp_path / "votes.jsonl"
    vote_all(Poll(make_pairs(30), file, "Ada"))
    found = preferences(read_votes(file), "learned")
    assert found["DiffEdit"]["value"] == 1 and found["DiffEdit"]["count"] == 30
    assert preferences(read_votes(file), "DiffEdit")["learned"]["value"] == 0


def test_a_voter_who_always_clicks_left_decides_nothing(tmp_path):
    file = tmp_path / "votes.jsonl"
    vote_all(Poll(make_pairs(200), file, "Ada"), lambda _: "left")
    found = preferences(read_votes(file), "learned")["DiffEdit"]
    assert found["low"] < 0.5 < found["high"]


def test_a_ballot_does_not_tell_the_methods():
    ballot = Poll(make_pairs(1, "DiffEdit"), "unwritten.jsonl", "Ada").ballot
    assert sorted(vars(ballot)) == ["left", "picture", "prompt", "right", "source"]
    assert not any("learned" in str(v) or "DiffEdit" in str(v) for v in vars(ballot).values())


def test_who_comes_back_goes_on_where_they_stopped(tmp_path):
    pairs, file = make_pairs(10), tmp_path / "votes.jsonl"
    whole = vote_all(Poll(pairs, tmp_path / "whole.jsonl", "Ada"))
    first = Poll(pairs, file, "Ada")
    for _ in range(4):
        first.vote("left")
    other = Poll(pairs, file, "Ben")
    assert (other.done, other.total) == (0, 10)
    back = Poll(pairs, file, "  Ada ")
    assert (back.done, back.total) == (4, 10)
    assert vote_all(back) == whole[4:]
    assert Poll(pairs, file, "Ada").ballot is None
    with pytest.raises(UserError, match="Ada has voted on all 10 pairs"):
        back.vote("left")


def test_new_pictures_are_new_pairs(tmp_path):
    file, pairs = tmp_path / "votes.jsonl", make_pairs(3)
    vote_all(Poll(pairs, file, "Ada"))
    edited = Pair(pairs[0].picture, pairs[0].source, pairs[0].prompt, {**pairs[0].edits, "learned": plain((0, 0, 200))})
    assert Poll([edited, *pairs[1:]], file, "Ada").done == 2


def test_pairs_without_a_difference_are_left_out(tmp_path):
    same = Pair(plain(INPUT), "wolf", "a fox", {"learned": plain(GOOD), "DiffEdit": plain(GOOD)})
    poll = Poll([*make_pairs(2), same], tmp_path / "votes.jsonl", "Ada")
    assert (poll.total, poll.alike) == (2, 1)
    with pytest.raises(UserError, match="nothing to vote on"):
        Poll([same], tmp_path / "votes.jsonl", "Ada")


def test_ties_only_where_they_are_asked_for(tmp_path):
    pairs, file = make_pairs(4), tmp_path / "votes.jsonl"
    forced, free = Poll(pairs, file, "Ada"), Poll(pairs, file, "Ben", ties=True)
    with pytest.raises(UserError, match="choose one of left, right"):
        forced.vote("tie")
    free.vote("tie")
    vote_all(free)
    found = preferences(read_votes(file), "learned")["DiffEdit"]
    assert (found["value"], found["count"], found["ties"]) == (1, 3, 1)
    only = Poll(pairs, tmp_path / "only.jsonl", "Cleo", ties=True)
    only.vote("tie")
    assert preferences(read_votes(tmp_path / "only.jsonl"), "learned") == {}


@pytest.mark.parametrize("voter", ["", "   ", "x" * 81, "a\x1bb"])
def test_a_voter_needs_a_name(voter, tmp_path):
    with pytest.raises(UserError, match="voter's name"):
        Poll(make_pairs(1), tmp_path / "votes.jsonl", voter)


def test_bad_pairs_are_told(tmp_path):
    with pytest.raises(UserError, match="has 1 edits"):
        Pair(plain(INPUT), "wolf", "a fox", {"learned": plain(GOOD)})
    with pytest.raises(UserError, match="only 2 differ"):
        Poll([*make_pairs(2), *make_pairs(1)], tmp_path / "votes.jsonl", "Ada")


# The file


def test_a_half_line_is_written_over(tmp_path):
    pairs, file = make_pairs(3), tmp_path / "votes.jsonl"
    Poll(pairs, file, "Ada").vote("left")
    whole = file.read_bytes()
    for torn in (b'{"vo', whole.rstrip(b"\n"), whole[:40]):
        file.write_bytes(whole + torn)
        assert len(read_votes(file)) == 1
    poll = Poll(pairs, file, "Ada")
    poll.vote("right")
    assert file.read_bytes().startswith(whole)
    assert [v.choice for v in read_votes(file)] == ["left", "right"]


@pytest.mark.parametrize("content", ["my essay", "my essay\n", '{"voter": "Ada"}\n', '{"voter": 1, "pair": 2, "left": 3, '
                                     '"right": 4, "choice": "left", "time": 5}\n', "[1]\n", "\n"])
def test_a_file_of_something_else_is_refused_and_left_alone(content, tmp_path):
    file = tmp_path / "essay.txt"
    file.write_text(content)
    poll = Poll(make_pairs(1), tmp_path / "votes.jsonl", "Ada")
    poll.file = file
    for act in (lambda: Poll(make_pairs(1), file, "Ada"), lambda: read_votes(file), lambda: poll.vote("left")):
        with pytest.raises(UserError, match=r"Line 1 of .*essay\.txt is no vote"):
            act()
    assert file.read_text() == content


def test_a_file_that_cannot_be_written_or_read_is_told_and_the_pair_stays(tmp_path):
    (tmp_path / "file").write_text("")
    poll = Poll(make_pairs(2), tmp_path / "file" / "votes.jsonl", "Ada")
    before = poll.ballot.prompt
    with pytest.raises(OutputError, match="this vote is not counted"):
        poll.vote("left")
    assert (poll.ballot.prompt, poll.done) == (before, 0)
    with pytest.raises(UserError, match="can't be read"):
        read_votes(tmp_path / "missing.jsonl")
    with pytest.raises(UserError, match="can't be read"):
        Poll(make_pairs(1), tmp_path, "Ada")


VOTER = """
import resource, sys
from PIL import Image
from lr_helpers.course.votes import Pair, Poll
GOOD, BAD, INPUT = {colours}
{helpers}
poll = Poll(make_pairs({count}), {file!r}, sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
{before}
while poll.ballot:
    poll.vote("left")
"""


def voter(name: str, file: Path, count: int, before: str = "") -> subprocess.Popen:
    helpers = inspect.getsource(plain) + inspect.getsource(make_pairs)
    code = VOTER.format(colours=(GOOD, BAD, INPUT), helpers=helpers, count=count, file=str(file), before=before)
    process = subprocess.Popen([sys.executable, "-c", code, name], cwd=ROOT, stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert process.stdout.readline() == "ready\n"
    return process


def go(process: subprocess.Popen) -> None:
    process.stdin.write("go\n")
    process.stdin.flush()


def test_voters_at_the_same_time_and_two_windows_of_one_lose_and_double_nothing(tmp_path):
    file, count = tmp_path / "votes.jsonl", 60
    crowd = [voter(name, file, count) for name in ("Ada", "Ada", "Ben")]
    for one in crowd:
        go(one)
    assert [one.wait(120) for one in crowd] == [0, 0, 0]
    votes = read_votes(file)
    assert len(file.read_text().splitlines()) == len(votes) == 2 * count


def test_a_killed_voter_goes_on(tmp_path):
    file, count = tmp_path / "votes.jsonl", 2000
    one = voter("Ada", file, count)
    go(one)
    while not file.exists() or file.stat().st_size < 2000:
        time.sleep(0.002)
    one.send_signal(signal.SIGKILL)
    one.wait(60)
    kept = len(read_votes(file))
    assert 0 < kept < count
    poll = Poll(make_pairs(count), file, "Ada")
    assert poll.done == kept
    poll.vote("left")
    assert len(read_votes(file)) == kept + 1


def test_a_full_disk_costs_one_vote_and_that_is_told(tmp_path):
    file, count = tmp_path / "votes.jsonl", 30
    # A limit on the size of files: the write that crosses it is cut short, as on a full disk.
    one = voter("Ada", file, count, "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))")
    go(one)
    assert one.wait(60) == 1 and "this vote is not counted" in one.stderr.read()
    assert file.stat().st_size <= 1000
    kept = len(read_votes(file))
    assert 0 < kept < count
    poll = Poll(make_pairs(count), file, "Ada")
    vote_all(poll)
    assert len(read_votes(file)) == count


# The shares


@pytest.mark.parametrize(("won", "lost"), [(0, 7), (7, 0), (3, 4), (81, 19), (1, 0)])
def test_intervals_are_wilsons(won, lost, tmp_path):
    file = tmp_path / "votes.jsonl"
    lucky = iter([True] * won + [False] * lost)

    def choose(ballot):
        return "left" if is_green(ballot.left) == next(lucky) else "right"

    vote_all(Poll(make_pairs(won + lost), file, "Ada"), choose)
    found = preferences(read_votes(file), "learned")["DiffEdit"]
    interval = binomtest(won, won + lost).proportion_ci(method="wilson")
    assert found["value"] == pytest.approx(won / (won + lost), abs=1e-4)
    assert (found["low"], found["high"]) == pytest.approx((interval.low, interval.high), abs=2e-4)


def test_voters_files_and_opponents_are_kept_apart(tmp_path):
    files = [tmp_path / f"{name}.jsonl" for name in ("Ada", "Ben")]
    for file in files:
        vote_all(Poll([*make_pairs(5), *make_pairs(3, "SDEdit")], file, file.stem))
    votes = read_votes(*files, files[0])  # a file twice: each vote still counts once
    found = preferences(votes, "learned")
    assert {name: (f["count"], f["pairs"], f["voters"]) for name, f in found.items()} == {
        "DiffEdit": (10, 5, 2), "SDEdit": (6, 3, 2)}
    with pytest.raises(UserError, match="votes about DiffEdit, SDEdit, learned"):
        preferences(votes, "paper")


def test_the_papers_figures_are_its_own():
    paper = paper_preferences()
    editors = [row["value"] for row in paper.values() if row["kind"] == "editor"]
    assert len(editors) == 5 and sum(editors) / 5 == pytest.approx(0.849, abs=0.0005)  # the average it states
    assert paper["random anchors and sizes"]["value"] == 0.839
    assert (paper["DINO anchors, random sizes"]["low"], paper["DINO anchors, random sizes"]["high"]) == pytest.approx(
        (0.678, 0.742))


def test_the_chart_has_a_bar_for_each_figure_and_says_them():
    ours = {"DiffEdit": {"value": 0.8, "low": 0.6, "high": 0.9, "count": 20}, "SDEdit": {"value": 0.5, "low": 0.3, "high": 0.7, "count": 20}}
    figure = plots.show_preferences(ours, paper_preferences())
    (axes,) = figure.axes
    assert sorted(round(bar.get_width(), 3) for bar in axes.patches) == sorted(
        [0.8, 0.5, *(row["value"] for row in paper_preferences().values())])
    assert [t.get_text() for t in axes.get_yticklabels()][:3] == ["DiffEdit", "SDEdit", "Plug-and-Play"]
    assert "DiffEdit 0.80 [0.60, 0.90]" in plots.describe(figure) and "MasaCtrl 0.91" in plots.describe(figure)
    plots.close(figure)


# The form in a notebook


def pictures(form: VoteWidget) -> dict[str, Image.Image]:
    return {part: Image.open(BytesIO(bytes(widget.value))) for part, widget in form.pictures.items()}


def shown(form: VoteWidget) -> bool:
    return form.paper.layout.display != "none"


@pytest.fixture
def form(tmp_path):
    return VoteWidget(make_pairs(4), tmp_path / "votes.jsonl", pause=0)


def test_a_class_votes_by_clicking(form, tmp_path):
    assert not shown(form)
    for name in ("Ada", "Ben"):
        form.name.value = name
        form.start.click()
        for i in range(4):
            assert shown(form) and form.status.value == f"{i} of 4 done"
            seen = pictures(form)
            assert seen["input"].getpixel((0, 0)) == INPUT
            assert {seen[side].getpixel((0, 0)) for side in ("left", "right")} == {GOOD, BAD}
            form.buttons["left" if is_green(seen["left"]) else "right"].click()
        assert not shown(form) and f"Thank you, {name}" in form.status.value
    found = preferences(read_votes(tmp_path / "votes.jsonl"), "learned")["DiffEdit"]
    assert (found["value"], found["count"], found["voters"]) == (1, 8, 2)


def test_pictures_are_enlarged_in_whole_pixels_or_made_smaller(tmp_path):
    large = {"learned": Image.new("RGB", (900, 600), GOOD), "DiffEdit": Image.new("RGB", (900, 600), BAD)}
    for pair, size in ((make_pairs(1)[0], (96, 96)), (Pair(large["learned"], "wolf", "a fox", large), (100, 67))):
        form = VoteWidget([pair], tmp_path / "votes.jsonl", side=100)
        form.name.value = "Ada"
        form.start.click()
        assert {p.size for p in pictures(form).values()} == {size}


def test_a_double_click_is_one_vote(tmp_path):
    form = VoteWidget(make_pairs(3), tmp_path / "votes.jsonl", pause=0.3)
    form.name.value = "Ada"
    form.start.click()
    time.sleep(0.35)
    for _ in range(3):
        form.buttons["left"].click()
    assert len(read_votes(tmp_path / "votes.jsonl")) == 1
    time.sleep(0.35)
    form.buttons["left"].click()
    assert len(read_votes(tmp_path / "votes.jsonl")) == 2


def test_what_is_wrong_is_said_and_the_pair_stays(form, tmp_path):
    form.start.click()
    assert "voter&#x27;s name" in form.status.value and not shown(form)
    form.name.value = "Ada"
    form.start.click()
    before = bytes(form.pictures["left"].value)
    (tmp_path / "votes.jsonl").write_text("<b>essay</b>\n")
    form.buttons["left"].click()
    assert "Line 1 of" in form.status.value
    assert shown(form) and bytes(form.pictures["left"].value) == before


def walk(widget):
    yield widget
    for child in getattr(widget, "children", ()):
        yield from walk(child)


def test_the_form_names_no_method_and_escapes_what_it_shows(tmp_path):
    pair = Pair(plain(INPUT), "wolf", "a <script>fox", {"learned": plain(GOOD), "DiffEdit": plain(BAD)})
    form = VoteWidget([pair], tmp_path / "votes.jsonl", ties=True)
    form.name.value = "Ada"
    form.start.click()
    said = " ".join(str({k: v for k, v in w.get_state().items() if isinstance(v, str)}) for w in walk(form))
    assert "a &lt;script&gt;fox" in said and "<script>" not in said
    assert "learned" not in said and "DiffEdit" not in said
    assert "can't tell" in said


def test_a_line_is_plain_json(form, tmp_path):
    form.name.value = "Zoë"
    form.start.click()
    form.buttons["right"].click()
    line = json.loads((tmp_path / "votes.jsonl").read_text(encoding="utf-8"))
    assert set(line) == {"voter", "pair", "left", "right", "choice", "time"}
    assert line["voter"] == "Zoë" and {line["left"], line["right"]} == {"learned", "DiffEdit"}
    assert line["choice"] == "right" and len(line["pair"]) == 16
