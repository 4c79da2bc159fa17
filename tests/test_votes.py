"""Blind voting: nobody sees who made what, each vote counts once, a kill loses none, and the shares are right."""

import csv
import inspect
import json
import os
import re
import signal
import subprocess
import sys
import time
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import binomtest

from lr_helpers import plots
from lr_helpers.authoring import vote_page
from lr_helpers.baselines import BASELINES, TITLES
from lr_helpers.course.blending import FADE, TOLERANCE, blend, weight
from lr_helpers.course.vote_widget import VoteWidget
from lr_helpers.course.votes import (
    Pair,
    Poll,
    Turn,
    Vote,
    agreement,
    draw,
    paper_preferences,
    preferences,
    read_pairs,
    read_votes,
    reveal,
    turns,
)
from lr_helpers.errors import OutputError, UserError
from lr_helpers.files.writing import json_bytes, png_bytes
from lr_helpers.intervals import share_with_interval

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


def poll_of(pairs: list[Pair], folder: Path, voter: str = "Ada", **more) -> Poll:
    """A poll whose pairs don't come back, unless they shall."""
    return Poll(pairs, folder, voter, **{"repeats": 0, **more})


def vote_all(poll: Poll, choose=lambda ballot: "left" if is_green(ballot.left) else "right") -> list[str]:
    seen = []
    while ballot := poll.ballot:
        seen.append(ballot.prompt)
        poll.vote(choose(ballot))
    return seen


# The way through the pairs


def test_every_pair_is_seen_once_in_an_order_of_the_voters_own(tmp_path):
    pairs = make_pairs(40)
    orders = {name: vote_all(poll_of(pairs, tmp_path, name)) for name in ("Ada", "Ben")}
    assert all(sorted(order) == sorted(p.prompt for p in pairs) for order in orders.values())
    assert orders["Ada"] != orders["Ben"]
    again = vote_all(poll_of(pairs[::-1], tmp_path / "again"))
    assert again == orders["Ada"]  # whatever the order in which the pairs are given
    assert vote_all(poll_of(pairs, tmp_path / "seed", seed=1)) != orders["Ada"]


def test_sides_are_drawn_for_each_pair_and_voter_and_neither_side_nor_place_is_favoured():
    keys = [pair.key for pair in make_pairs(40)]
    ways = {name: turns(keys, 0, name) for name in (f"voter {i}" for i in range(200))}
    flipped = np.array([[t.flipped for t in sorted(way, key=lambda t: t.pair)] for way in ways.values()])
    assert abs(flipped.mean() - 0.5) < 0.02  # 8,000 draws: standard error 0.0056
    assert flipped.mean(0).min() > 0.3 and flipped.mean(0).max() < 0.7  # by pair
    assert flipped.mean(1).min() > 0.2 and flipped.mean(1).max() < 0.8  # by voter
    places = np.array([[[t.pair for t in way].index(key) for key in keys] for way in ways.values()])
    assert abs(places.mean(0) - 19.5).max() < 4  # each pair comes early and late alike: standard error 0.8
    together = np.corrcoef(places)[np.triu_indices(200, 1)]
    assert abs(together.mean()) < 0.02  # two voters' orders have nothing to do with each other


def test_draws_hardly_ever_meet():
    assert len({draw(0, "Ada", i) for i in range(10_000)}) > 9_990
    assert all(0 <= draw(word) < 2**32 for word in ("", "a", "ë", "李"))


def test_pairs_come_back_at_the_end_with_their_sides_exchanged(tmp_path):
    pairs = make_pairs(40)
    way = turns([p.key for p in pairs], 0, "Ada", 4)
    assert len(way) == 44 and [t.round for t in way] == [1] * 40 + [2] * 4
    assert way[40:] == [Turn(t.pair, not t.flipped, 2) for t in way[:4]]
    assert len(turns(["a", "b", "c"], 0, "Ada", 4)) == 4  # never two in a row of the same
    poll = Poll(pairs, tmp_path, "Ada")
    vote_all(poll)
    assert poll.done == poll.total == 44
    votes = read_votes(tmp_path)
    assert preferences(votes, pairs, "learned")["DiffEdit"]["count"] == 40  # the first votes alone
    assert agreement(votes)["again"] == {"value": 1, "low": 0.5101, "high": 1, "count": 4}
    vote_all(Poll(pairs, tmp_path / "left", "Ada"), lambda _: "left")
    trust = agreement(read_votes(tmp_path / "left"))
    assert (trust["again"]["value"], trust["left"]["value"], trust["left"]["count"]) == (0, 1, 40)
    assert agreement([]) == {}


def test_a_vote_goes_to_who_made_the_picture_that_was_clicked(tmp_path):
    pairs = make_pairs(30)
    vote_all(poll_of(pairs, tmp_path))
    found = preferences(read_votes(tmp_path), pairs, "learned")
    assert found["DiffEdit"]["value"] == 1 and found["DiffEdit"]["count"] == 30
    assert preferences(read_votes(tmp_path), reveal(pairs), "DiffEdit")["learned"]["value"] == 0


def test_a_voter_who_always_clicks_left_decides_nothing(tmp_path):
    pairs = make_pairs(100)
    vote_all(poll_of(pairs, tmp_path), lambda _: "left")
    found = preferences(read_votes(tmp_path), pairs, "learned")["DiffEdit"]
    assert found["low"] < 0.5 < found["high"]


def test_neither_a_ballot_nor_a_file_of_votes_tells_the_methods(tmp_path):
    poll = poll_of(make_pairs(1, "DiffEdit"), tmp_path)
    assert sorted(vars(poll.ballot)) == ["left", "picture", "prompt", "right", "source"]
    assert not any("learned" in str(v) or "DiffEdit" in str(v) for v in vars(poll.ballot).values())
    poll.vote("left")
    said = poll.file.read_text()
    assert "learned" not in said and "DiffEdit" not in said


def test_marks_differ_from_pair_to_pair():
    marks = [set(pair.marks.values()) for pair in make_pairs(20)]
    assert all(len(m) == 2 for m in marks) and len(set.union(*marks)) == 40


def test_who_comes_back_goes_on_where_they_stopped(tmp_path):
    pairs = make_pairs(10)
    whole = vote_all(poll_of(pairs, tmp_path / "whole"))
    first = poll_of(pairs, tmp_path)
    for _ in range(4):
        first.vote("left")
    other = poll_of(pairs, tmp_path, "Ben")
    assert (other.done, other.total) == (0, 10)
    back = poll_of(pairs, tmp_path, "  Ada ")
    assert (back.done, back.total) == (4, 10)
    assert vote_all(back) == whole[4:]
    assert poll_of(pairs, tmp_path).ballot is None
    with pytest.raises(UserError, match="Ada has voted on all 10 pairs"):
        back.vote("left")


def test_new_pictures_are_new_pairs(tmp_path):
    pairs = make_pairs(3)
    vote_all(poll_of(pairs, tmp_path))
    edited = Pair(pairs[0].picture, pairs[0].source, pairs[0].prompt, {**pairs[0].edits, "learned": plain((0, 0, 200))})
    assert poll_of([edited, *pairs[1:]], tmp_path).done == 2
    with pytest.raises(UserError, match="1 of 3 votes are about other pairs"):
        preferences(read_votes(tmp_path), [edited, *pairs[1:]], "learned")


def test_pairs_without_a_difference_are_left_out(tmp_path):
    same = Pair(plain(INPUT), "wolf", "a fox", {"learned": plain(GOOD), "DiffEdit": plain(GOOD)})
    poll = poll_of([*make_pairs(2), same], tmp_path)
    assert (poll.total, poll.alike) == (2, 1)
    with pytest.raises(UserError, match="nothing to vote on"):
        poll_of([same], tmp_path)


def test_ties_only_where_they_are_asked_for(tmp_path):
    pairs = make_pairs(4)
    forced, free = poll_of(pairs, tmp_path, ties=False), poll_of(pairs, tmp_path, "Ben")
    with pytest.raises(UserError, match="choose one of left, right"):
        forced.vote("tie")
    free.vote("tie")
    vote_all(free)
    found = preferences(read_votes(tmp_path), pairs, "learned")["DiffEdit"]
    assert (found["value"], found["count"], found["ties"]) == (1, 3, 1)
    only = poll_of(pairs, tmp_path / "only", "Cleo")
    only.vote("tie")
    assert preferences(read_votes(tmp_path / "only"), pairs, "learned") == {}


@pytest.mark.parametrize("voter", ["", "   ", "x" * 81, "a\x1bb"])
def test_a_voter_needs_a_name(voter, tmp_path):
    with pytest.raises(UserError, match="voter's name"):
        poll_of(make_pairs(1), tmp_path, voter)


def test_bad_pairs_are_told(tmp_path):
    with pytest.raises(UserError, match="has 1 edits"):
        Pair(plain(INPUT), "wolf", "a fox", {"learned": plain(GOOD)})
    with pytest.raises(UserError, match="other sizes"):
        Pair(plain(INPUT), "wolf", "a fox", {"learned": plain(GOOD), "DiffEdit": plain(BAD).resize((9, 8))})
    with pytest.raises(UserError, match="only 2 differ"):
        poll_of([*make_pairs(2), *make_pairs(1)], tmp_path)


# The files


def test_voters_whose_names_look_alike_have_files_of_their_own(tmp_path):
    pairs = make_pairs(2)
    names = ("Zoë", "Zoé", "zoë", "Z/o", "Z\\o", "李", "王", "../up")
    for name in names:
        poll_of(pairs, tmp_path, name).vote("left")
    assert len({v.voter for v in read_votes(tmp_path)}) == len(list(tmp_path.glob("*.json"))) == len(names)


@pytest.mark.parametrize("content", [
    "my essay", '{"voter": "Ada"}', "[1]", "", '{"form": "votes on pairs of edits, 1", "voter": "Ada", "votes": [{"pair": 1}]}',
    '{"form": "votes on pairs of edits, 1", "voter": "Ada", "votes": [{"pair": "a", "left": "b", "right": "c", "choice": '
    '"up", "time": ""}]}',
    '{"form": "votes on pairs of edits, 1", "voter": 7, "votes": [{"pair": "a", "left": "b", "right": "c", "choice": '
    '"left", "time": ""}]}'])
def test_a_file_of_something_else_is_refused_and_left_alone(content, tmp_path):
    poll = poll_of(make_pairs(1), tmp_path)
    poll.file.parent.mkdir(exist_ok=True)
    poll.file.write_text(content)
    for act in (lambda: poll_of(make_pairs(1), tmp_path), lambda: read_votes(tmp_path), lambda: poll.vote("left")):
        with pytest.raises(UserError, match=r"votes_Ada_.*\.json' is no file of votes"):
            act()
    assert poll.file.read_text() == content


def test_a_file_that_cannot_be_written_or_read_is_told_and_the_pair_stays(tmp_path):
    (tmp_path / "file").write_text("")
    poll = poll_of(make_pairs(2), tmp_path / "file")
    before = poll.ballot.prompt
    with pytest.raises(OutputError, match="this vote is not counted"):
        poll.vote("left")
    assert (poll.ballot.prompt, poll.done) == (before, 0)
    with pytest.raises(UserError, match="can't be read"):
        read_votes(tmp_path / "missing.json")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no votes"):
        read_votes(tmp_path / "empty")


VOTER = """
import resource, sys
from PIL import Image
from lr_helpers.course.votes import Pair, Poll
GOOD, BAD, INPUT = {colours}
{helpers}
poll = Poll(make_pairs({count}), {folder!r}, sys.argv[1], repeats=0)
print("ready", flush=True)
sys.stdin.readline()
{before}
while poll.ballot:
    poll.vote("left")
"""


def voter(name: str, folder: Path, count: int, before: str = "") -> subprocess.Popen:
    helpers = inspect.getsource(plain) + inspect.getsource(make_pairs)
    code = VOTER.format(colours=(GOOD, BAD, INPUT), helpers=helpers, count=count, folder=str(folder), before=before)
    process = subprocess.Popen([sys.executable, "-c", code, name], cwd=ROOT, stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert process.stdout.readline() == "ready\n"
    return process


def go(process: subprocess.Popen) -> None:
    process.stdin.write("go\n")
    process.stdin.flush()


def test_voters_at_the_same_time_and_two_windows_of_one_lose_and_double_nothing(tmp_path):
    count = 40
    crowd = [voter(name, tmp_path, count) for name in ("Ada", "Ada", "Ben")]
    for one in crowd:
        go(one)
    assert [one.wait(120) for one in crowd] == [0, 0, 0]
    entries = [json.loads(file.read_text())["votes"] for file in tmp_path.glob("votes_*.json")]
    assert [len(found) for found in entries] == [count, count] and len(read_votes(tmp_path)) == 2 * count


def test_a_killed_voter_goes_on(tmp_path):
    count = 200
    one = voter("Ada", tmp_path, count)
    go(one)
    while not any(file.stat().st_size > 2000 for file in tmp_path.glob("votes_*.json")):
        time.sleep(0.002)
    one.send_signal(signal.SIGKILL)
    one.wait(60)
    kept = len(read_votes(tmp_path))
    assert 0 < kept < count
    poll = poll_of(make_pairs(count), tmp_path)
    assert poll.done == kept
    poll.vote("left")
    assert len(read_votes(tmp_path)) == kept + 1


def test_a_full_disk_costs_one_vote_and_that_is_told(tmp_path):
    count = 30
    # A limit on the size of files: the write that crosses it is cut short, as on a full disk.
    one = voter("Ada", tmp_path, count, "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))")
    go(one)
    assert one.wait(60) == 1 and "This vote is not counted" in one.stderr.read()
    kept = len(read_votes(tmp_path))
    assert 0 < kept < count
    poll = poll_of(make_pairs(count), tmp_path)
    vote_all(poll)
    assert len(read_votes(tmp_path)) == count


# The shares


@pytest.mark.parametrize(("things", "won"), [(7, 0), (7, 7), (1, 1)])
def test_where_all_are_alike_the_interval_is_wilsons_for_as_many_pairs(things, won):
    found = share_with_interval(np.full((5, things), won / things), np.ones((5, things)))
    interval = binomtest(won, things).proportion_ci(method="wilson")
    assert (found["low"], found["high"]) == pytest.approx((interval.low, interval.high), abs=2e-4)
    assert found["count"] == 5 * things


def test_more_voters_on_the_same_pairs_do_not_make_the_interval_of_as_many_pairs():
    rng = np.random.default_rng(1)
    pairs = (rng.random(20) < 0.6).astype(float)  # who is better, which all voters see alike
    alone, crowd, many = (share_with_interval(right, np.ones_like(right)) for right in (
        pairs[None], np.tile(pairs, (30, 1)), (rng.random((1, 600)) < 0.6).astype(float)))
    width = {name: found["high"] - found["low"] for name, found in (("alone", alone), ("crowd", crowd), ("many", many))}
    assert width["crowd"] == pytest.approx(width["alone"], abs=0.08) and width["many"] < 0.3 * width["crowd"]


def test_the_interval_holds_the_truth_as_often_as_it_says():
    # 15 voters with a taste of their own, 20 pairs of their own difficulty: the truth is a half.
    rng, held = np.random.default_rng(0), 0
    for i in range(150):
        taste, ease = rng.normal(0, 0.5, (15, 1)), rng.normal(0, 1, (1, 20))
        right = (rng.random((15, 20)) < 1 / (1 + np.exp(-(taste + ease)))).astype(float)
        found = share_with_interval(right, np.ones((15, 20)), seed=i)
        held += found["low"] <= 0.5 <= found["high"]
    assert 0.9 <= held / 150 <= 1


def test_missing_votes_and_ties_leave_the_others_their_weight():
    count = np.array([[1, 1, 0], [0, 1, 1]])
    found = share_with_interval(np.array([[1, 0, 0], [0, 1, 0]]), count)
    assert found["value"] == 0.5 and found["count"] == 4 and 0 <= found["low"] < 0.5 < found["high"] <= 1


def test_voters_files_and_opponents_are_kept_apart(tmp_path):
    pairs = [*make_pairs(5), *make_pairs(3, "SDEdit")]
    for name in ("Ada", "Ben"):
        vote_all(poll_of(pairs, tmp_path, name))
    files = sorted(tmp_path.glob("*.json"))
    votes = read_votes(*files, files[0], tmp_path)  # a file twice: each vote still counts once
    found = preferences(votes, pairs, "learned")
    assert {name: (f["count"], f["pairs"], f["voters"]) for name, f in found.items()} == {
        "DiffEdit": (10, 5, 2), "SDEdit": (6, 3, 2)}
    with pytest.raises(UserError, match="votes about DiffEdit, SDEdit, learned"):
        preferences(votes, pairs, "paper")


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


# One blending for all


SIDES = (64, 128, 96)


@pytest.mark.parametrize("side", SIDES)
def test_what_an_autoencoder_does_to_a_picture_is_no_edit(side):
    picture = torch.rand(3, side, side, generator=torch.Generator().manual_seed(0)) * 0.6 + 0.2
    soft = picture + 0.05 * torch.randn(picture.shape, generator=torch.Generator().manual_seed(1)).clamp(-2, 2)
    assert torch.equal(blend(picture, soft), picture)
    pasted = picture.clone()  # by a box, whose colours are a little off
    pasted[:, 10:40, 10:40] += 0.8 * TOLERANCE
    assert torch.equal(blend(picture, pasted), picture)


@pytest.mark.parametrize("side", SIDES)
def test_an_edit_stays_and_fades_out_without_an_outline(side):
    picture, edited = torch.full((3, side, side), 0.4), torch.full((3, side, side), 0.4 + 0.5 * TOLERANCE)
    quarter = side // 4
    object_ = (slice(None), slice(quarter, 2 * quarter), slice(quarter, 2 * quarter))
    edited[object_] = 0.9
    found = blend(picture, edited)
    inner = (slice(None), slice(quarter + 2, 2 * quarter - 2), slice(quarter + 2, 2 * quarter - 2))
    assert torch.equal(found[inner], edited[inner])
    assert torch.equal(found[:, -quarter:], picture[:, -quarter:])  # far away: the picture, not the copy
    w = weight(picture, edited)
    step = max(w.diff(dim=0).abs().max(), w.diff(dim=1).abs().max())
    assert 0 < step <= 1.01 / (FADE * side)  # no hard edge anywhere


def test_the_blending_knows_no_editor():
    assert list(inspect.signature(blend).parameters) == ["before", "after"]
    with pytest.raises(ValueError, match="the edit has the shape"):
        blend(torch.zeros(3, 8, 8), torch.zeros(3, 8, 9))


# Making the pairs


def test_scenes_of_the_vote_are_shown_nowhere_else():
    from lr_helpers.course.samples import EMOJI_SEED
    from lr_helpers.study.pie.emoji import FIRST_SEED as PIE
    from lr_helpers.study.tasks import COMPOSITIONAL, TEST, TWO, VALIDATION, VOTE, VOTE_LIVE, task
    from lr_helpers.study.zoo import FIRST_SEED as ZOO
    from tiny_world.scenes import HELD_OUT_SEEDS, scene

    starts = [ZOO, 200_000, VALIDATION, TEST, COMPOSITIONAL, TWO, PIE, EMOJI_SEED]
    mine = {task("replace", first + i).recipe for first, count in ((VOTE, 200), (VOTE_LIVE, 20)) for i in range(count)}
    # Seeds that the notebooks and pages name, and as many as any study or notebook takes from its first one on.
    named = {int(found.replace("_", "")) for file in (*ROOT.glob("notebooks/*.py"), *ROOT.glob("docs/*.md"), ROOT / "README.md")
             for found in re.findall(r"(?:seed[ =s]*|scene\()(\d[\d_]*)", file.read_text(encoding="utf-8"))}
    assert not any(VOTE <= seed < VOTE + 100_000 for seed in (*named, *starts)) and VOTE in HELD_OUT_SEEDS
    seeds = {*named, *range(200), *(start + i for start in starts for i in range(500))}
    others = {scene(seed, count) for seed in seeds if seed in HELD_OUT_SEEDS for count in (None, 1, 2)}
    assert len(mine) == 220 and not mine & others


def test_each_editor_gets_both_kinds_of_scenes_and_names_of_files_tell_nothing(tmp_path):
    from lr_helpers.costs.course import VOTED_09
    from lr_helpers.study.vote import OTHERS, VotePairs

    assert OTHERS == VOTED_09  # what notebook 09 says it costs
    study = VotePairs(tmp_path)
    jobs = study.jobs()
    assert len(jobs) >= 40 and len({seed for seed, _ in jobs}) == len(jobs)
    counted = {(other, seed % 2): 0 for other in OTHERS for seed in (0, 1)}
    for seed, other in jobs:
        counted[other, seed % 2] += 1
    assert set(counted.values()) == {6}
    assert not any(row in name for job in jobs for name in study.names(job) for row in BASELINES)
    with pytest.raises(UserError, match="name each once"):
        VotePairs(tmp_path, others=("learned", "sdedit"))
    with pytest.raises(UserError, match="unknown"):
        VotePairs(tmp_path, others=("nobody",))


def folder_of(pairs: list[Pair], folder: Path) -> Path:
    """The pairs as `vote make` writes them."""
    (folder / "pictures").mkdir(parents=True)
    records = []
    for seed, pair in enumerate(pairs):
        a, b = sorted(pair.edits, reverse=seed % 2 == 1)
        for part, picture in (("input", pair.picture), ("a", pair.edits[a]), ("b", pair.edits[b])):
            (folder / "pictures" / f"{seed}_{part}.png").write_bytes(png_bytes(picture))
        records.append({"seed": seed, "source": pair.source, "prompt": pair.prompt, "a": a, "b": b})
    (folder / "summary.json").write_bytes(json_bytes({"study": "vote", "ours": "learned", "pairs": records}))
    return folder


def test_two_pairs_are_made_killed_and_gone_on_with(tmp_path, monkeypatch):
    from lr_helpers.study.run import run
    from lr_helpers.study.vote import VotePairs

    study = VotePairs(tmp_path, 2, ("sdedit", "instruct_pix2pix"), ours="edit_free", steps=3)
    with pytest.raises(UserError, match="holds no finished pairs"):
        read_pairs(tmp_path)
    done, do = [], VotePairs.do
    monkeypatch.setattr(VotePairs, "do", lambda self, job: done.append(job) or (do(self, job) if len(done) == 1 else 1 / 0))
    with pytest.raises(ZeroDivisionError):
        run(study, 1)
    monkeypatch.setattr(VotePairs, "do", lambda self, job: done.append(job) or do(self, job))
    summary = run(study, 1)
    assert len(done) == 3 and len(summary["pairs"]) == 2  # the first was kept
    assert summary["evaluations"] == sum(sum(r["evaluations"].values()) for r in summary["pairs"]) > 0
    pairs = read_pairs(tmp_path)
    assert [sorted(p.edits) for p in pairs] == [sorted([TITLES["edit_free"], TITLES["sdedit"]])] * 2
    assert sum(record["a"] == TITLES["edit_free"] for record in summary["pairs"]) in (0, 1, 2)
    assert len(pairs[0].picture.getcolors(100_000)) > 10


# The page


def test_the_page_is_one_file_that_asks_for_nothing_and_tells_nothing():
    html = vote_page.page(make_pairs(40, TITLES["sdedit"]), repeats=3)
    assert not re.search(r"https?:|@import|url\(|src=", html.replace("data:image/png", ""))
    for name in (*TITLES.values(), *BASELINES, "learned"):
        if len(name) > 4:  # "paper" is a colour's name in no style, but short words may be parts of others
            assert not re.search(rf"\b{re.escape(name)}\b", html.replace("--paper", "")), name
    assert "title=" not in html and html.count("alt=") == 3
    data = json.loads(re.search(r'id="data">(.*?)</script>', html, re.DOTALL)[1])
    assert len(data["pairs"]) == 40 and data["repeats"] == 3
    lengths = [len(edit["picture"]) for one in data["pairs"] for edit in one["edits"]]
    assert len(lengths) == 80
    # Neither edit comes first more often than by chance.
    made = reveal(make_pairs(40, TITLES["sdedit"]))
    first = [made[one["pair"]][one["edits"][0]["mark"]] == "learned" for one in data["pairs"]]
    assert 8 <= sum(first) <= 32


def test_texts_of_the_page_are_escaped():
    pair = make_pairs(1)[0]
    strange = Pair(pair.picture, "</script><b>", "<i>&", pair.edits)
    html = vote_page.page([strange])
    assert "</script><b>" not in html and "<i>&" not in html


def test_votes_of_a_class_are_counted_by_the_command(tmp_path, capsys):
    from lr_helpers.cli import main

    pairs = make_pairs(40, "SDEdit")
    folder, votes = folder_of(pairs, tmp_path / "pairs"), tmp_path / "votes"
    assert [p.key for p in read_pairs(folder)] == [p.key for p in pairs]
    for i in range(5):
        vote_all(Poll(pairs, votes, f"=voter {i}"))
    assert main(["vote", "export", "--pairs", str(folder), "--output", str(tmp_path / "page")]) == 0
    assert (tmp_path / "page" / "vote.html").is_file()
    assert main(["vote", "count", str(votes), "--pairs", str(folder), "--output", str(tmp_path / "count")]) == 0
    said = capsys.readouterr().out
    assert "220 votes of 5 voters on 40 pairs" in said and "n = 200" in said and "n = 20\n" in said
    rows = list(csv.DictReader((tmp_path / "count" / "table.csv").open()))
    assert rows[0]["beside"] == "SDEdit" and float(rows[0]["value"]) == 1
    lines = list(csv.DictReader((tmp_path / "count" / "votes.csv").open()))
    assert len(lines) == 220 and {line["preferred"] for line in lines} == {"learned"}
    assert all(line["voter"].startswith("'=") for line in lines)  # no spreadsheet runs a voter's name
    assert main(["vote", "count", str(votes), "--pairs", str(tmp_path), "--output", str(tmp_path / "count")]) == 2
    assert "holds no finished pairs" in capsys.readouterr().err


@pytest.mark.all
@pytest.mark.parametrize("width", [1280, 420])
def test_the_page_in_a_browser(width, tmp_path):
    """By click and keyboard, across a reload, down to the file that `preferences` reads."""
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    pairs = make_pairs(12)
    folder = tmp_path / "page"
    file = vote_page.write(pairs, folder, repeats=2)
    with playwright.sync_playwright() as engine:
        try:
            browser = engine.chromium.launch(executable_path=_chromium(), args=["--no-sandbox"])
        except playwright.Error as error:
            pytest.skip(f"no browser: {str(error).splitlines()[0]}")
        page = browser.new_page(viewport={"width": width, "height": 900})
        wrong: list[str] = []
        page.on("console", lambda m: wrong.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda r: wrong.append(r.url[:60]) if not r.url.startswith(("file:", "data:", "blob:")) else None)
        page.goto(file.as_uri())
        page.fill("#name", "Zoë <b>")
        page.keyboard.press("Enter")

        def voter_done() -> int:
            return int(re.search(r": (\d+) of 14 done", page.inner_text("#told"))[1])

        def is_green_at(side: str) -> bool:
            return page.evaluate("""id => { const c = document.createElement("canvas"), i = document.getElementById(id);
                c.width = c.height = 8; c.getContext("2d").drawImage(i, 0, 0);
                return c.getContext("2d").getImageData(0, 0, 1, 1).data[1] > 100; }""", side)

        assert page.evaluate("document.documentElement.scrollWidth") <= width
        sizes = {part: page.locator(f"#{part}").bounding_box() for part in ("left", "right")}
        assert sizes["left"]["width"] == pytest.approx(sizes["right"]["width"], abs=0.1) and sizes["left"]["width"] > 100
        assert sizes["left"]["y"] == sizes["right"]["y"]
        page.wait_for_timeout(450)
        for number in range(14):
            assert voter_done() == number
            better = "left" if is_green_at("left") else "right"
            if number == 5:
                page.keyboard.press("Space")  # can't tell
            elif number % 2:
                page.keyboard.press("ArrowLeft" if better == "left" else "ArrowRight")
                page.keyboard.press("ArrowLeft")  # too soon: not a vote on the next one
            else:
                page.click(f'[data-choice="{better}"]')
            if number == 7:
                page.reload()
            page.wait_for_timeout(450)
        assert page.is_visible("#thanks") and not page.is_visible("#ballot")
        with page.expect_download() as download:
            page.click("#download")
        download.value.save_as(tmp_path / "votes" / download.value.suggested_filename)
        way = page.evaluate("turns(kept.current)")
        voter = page.evaluate("kept.current")
        page.click("#next")
        assert page.is_visible("#welcome")
        browser.close()
    assert wrong == []
    votes = read_votes(tmp_path / "votes")
    assert len(votes) == 14 and {v.voter for v in votes} == {voter} and voter.startswith("Zoë <b> ")
    assert [Turn(**turn) for turn in way] == turns([p.key for p in pairs], 0, voter, 2)  # the server's own rule
    found = preferences(votes, pairs, "learned")["DiffEdit"]
    assert (found["value"], found["count"], found["ties"]) == (1, 11, 1)
    assert isinstance(votes[0], Vote) and agreement(votes)["again"]["count"] == 2


def _chromium() -> str | None:
    return next((str(p) for p in map(Path, ("/usr/bin/chromium", "/usr/bin/google-chrome")) if p.exists()), None)


# The form in a notebook


def pictures(form: VoteWidget) -> dict[str, Image.Image]:
    return {part: Image.open(BytesIO(bytes(widget.value))) for part, widget in form.pictures.items()}


def shown(form: VoteWidget) -> bool:
    return form.paper.layout.display != "none"


@pytest.fixture
def form(tmp_path):
    return VoteWidget(make_pairs(4), tmp_path / "votes", repeats=0, pause=0)


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
    found = preferences(read_votes(tmp_path / "votes"), make_pairs(4), "learned")["DiffEdit"]
    assert (found["value"], found["count"], found["voters"]) == (1, 8, 2)


def test_pictures_are_enlarged_in_whole_pixels_or_made_smaller(tmp_path):
    large = {"learned": Image.new("RGB", (900, 600), GOOD), "DiffEdit": Image.new("RGB", (900, 600), BAD)}
    for pair, size in ((make_pairs(1)[0], (96, 96)), (Pair(large["learned"], "wolf", "a fox", large), (100, 67))):
        form = VoteWidget([pair], tmp_path / "votes", side=100)
        form.name.value = "Ada"
        form.start.click()
        assert {p.size for p in pictures(form).values()} == {size}


def test_a_double_click_is_one_vote(tmp_path):
    form = VoteWidget(make_pairs(3), tmp_path / "votes", pause=0.3)
    form.name.value = "Ada"
    form.start.click()
    time.sleep(0.35)
    for _ in range(3):
        form.buttons["left"].click()
    assert len(read_votes(tmp_path / "votes")) == 1
    time.sleep(0.35)
    form.buttons["left"].click()
    assert len(read_votes(tmp_path / "votes")) == 2


def test_what_is_wrong_is_said_and_the_pair_stays(form, tmp_path):
    form.start.click()
    assert "voter&#x27;s name" in form.status.value and not shown(form)
    form.name.value = "Ada"
    form.start.click()
    before = bytes(form.pictures["left"].value)
    form.poll.file.parent.mkdir()
    form.poll.file.write_text("<b>essay</b>\n")
    form.buttons["left"].click()
    assert "is no file of votes" in form.status.value
    assert shown(form) and bytes(form.pictures["left"].value) == before


def walk(widget):
    yield widget
    for child in getattr(widget, "children", ()):
        yield from walk(child)


def test_the_form_names_no_method_and_escapes_what_it_shows(tmp_path):
    pair = Pair(plain(INPUT), "wolf", "a <script>fox", {"learned": plain(GOOD), "DiffEdit": plain(BAD)})
    form = VoteWidget([pair], tmp_path / "votes")
    form.name.value = "Ada"
    form.start.click()
    said = " ".join(str({k: v for k, v in w.get_state().items() if isinstance(v, str)}) for w in walk(form))
    assert "a &lt;script&gt;fox" in said and "<script>" not in said
    assert "learned" not in said and "DiffEdit" not in said
    assert "can't tell" in said


def test_a_file_of_votes_is_plain_json(form, tmp_path):
    form.name.value = "Zoë"
    form.start.click()
    form.buttons["right"].click()
    found = json.loads(form.poll.file.read_text(encoding="utf-8"))
    assert set(found) == {"form", "voter", "votes"} and found["voter"] == "Zoë"
    (vote,) = found["votes"]
    assert set(vote) == {"pair", "left", "right", "choice", "time", "round"}
    assert vote["choice"] == "right" and len(vote["pair"]) == 16 and {len(vote["left"]), len(vote["right"])} == {8}
