"""What we did not write is never replaced or removed, and what we write is whole or not there, on a full disk too."""

import contextlib
import errno
import json
import os
import tempfile
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from writers import Writers, files, results

from lr_helpers import EditResult
from lr_helpers.cli import main
from lr_helpers.errors import OutputError, UserError
from lr_helpers.files.outputs import LEDGER, ForeignError, Output, own_json
from lr_helpers.files.writing import csv_bytes, json_bytes, write_bytes

OURS = ["input.png", "final_output.png", "region_network.safetensors", "result.json", "turns.json", "overview.png",
        "results/00.png", "results/02.png", "results/05.png", "results/100.png", "boxes/00.png", "step_1/input.png",
        "step_1/result.json", "step_2/results/00.png", "step_9/result.json", "summary.csv", "summary.json", "batch.log",
        "batch.lock", "contact_sheet.png", "contact_sheet_001.png", "0/input.png", "0/item.json", "1/results/00.png",
        "2/result.json", "settings.json", "records/part_0/0.json", "records/part_1/1.json", "table.md",
        "figure_sum.png", "index.html", ".lock", "01_one.html", "01_one.json", "02_two.ipynb",
        "pictures/01_one-01-0.png", "pictures/01_one-02-0.png", "pictures/01_one-99-0.png"]
"""Names that we write ourselves, or wrote once."""
THEIRS = ["contact_sheet_holiday.png", ".notes.tmp", ".x.tmp.png", "results/.00.png.tmp", "notes.txt", "results/mine.png",
          "boxes/x/y.png", "0/notes.txt", "0/.x.tmp", "records/old.json", "pictures/holiday.png", "step_1/notes.txt",
          "figure_mine.png", ".0123456789abcdef.tmp", "results", "boxes", "0", "pictures", "step_1"]
"""Names of other people's files; the last ones stand where we want folders."""
WAYS = ["edit", "smaller_edit", "edits_in_turn", "batch", "study", "report"]


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch):
    """No waiting for the disk: what is tested is the order of the calls, and a slow disk takes minutes."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture(scope="module")
def writers(models, tmp_path_factory):
    return Writers(tmp_path_factory.mktemp("writers"), results(models))


@contextlib.contextmanager
def fresh(base: Path):
    with tempfile.TemporaryDirectory(dir=base) as folder:
        yield Path(folder)


# Whose is it?


class Strangers:
    """Files of somebody else in and beside an output folder, and what is in them."""

    def __init__(self, folder: Path):
        self.folder, self.known = folder, {}

    def put(self, name: str, content: bytes, how: str) -> None:
        """A file, a link to one elsewhere, or an empty folder at this name, whatever lies there."""
        if name == "batch.log" and not content:
            return  # an empty log is one whose first line is still to come: nothing of anybody's is in it
        file = self.folder / "out" / name
        elsewhere = self.folder / "elsewhere" / name.replace("/", "_")
        elsewhere.parent.mkdir(exist_ok=True)
        with contextlib.suppress(OSError):  # a file stands where a folder would have to be, or the other way round
            file.parent.mkdir(parents=True, exist_ok=True)
            if how == "file" and not file.is_symlink():
                file.write_bytes(content)
            elif not os.path.lexists(file):
                if how == "folder":
                    (elsewhere / "deep").mkdir(parents=True)
                    (elsewhere / "deep" / "input.png").write_bytes(content)
                elif not elsewhere.exists():
                    elsewhere.write_bytes(content)
                file.symlink_to(elsewhere)
            else:
                return
            self.known = {f: self.seen(f) for f in {*self.known, file, *files(self.folder / "elsewhere")}}

    @staticmethod
    def seen(file: Path) -> object:
        if file.is_symlink():
            return os.readlink(file)
        return file.read_bytes() if file.is_file() else None

    def harmed(self) -> list[Path]:
        return [file for file, content in self.known.items() if self.seen(file) != content]


STRANGER = st.tuples(st.sampled_from(OURS + THEIRS) | st.text("ab.-_", min_size=1, max_size=8).filter(lambda n: set(n) != {"."}),
                     st.binary(max_size=12), st.sampled_from(["file", "file", "file", "link", "folder"]))
STEP = st.tuples(st.lists(STRANGER, max_size=5), st.sampled_from(WAYS))


STEPS = st.lists(STEP, min_size=1, max_size=4)
QUIET = (HealthCheck.too_slow, HealthCheck.function_scoped_fixture)


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=QUIET)
@given(steps=STEPS)
def test_every_byte_of_others_is_still_there(writers, tmp_path_factory, steps):
    """Any files in the folder, written into in any way, again and again, with more files in between."""
    others_stay(writers, tmp_path_factory, steps)


@pytest.mark.all
@settings(derandomize=True, max_examples=800, deadline=None, suppress_health_check=QUIET)
@given(steps=STEPS)
def test_every_byte_of_others_is_still_there_in_many_more_folders(writers, tmp_path_factory, steps):
    others_stay(writers, tmp_path_factory, steps)


def others_stay(writers, tmp_path_factory, steps):
    with fresh(tmp_path_factory.getbasetemp()) as folder:
        strangers = Strangers(folder)
        for more, way in steps:
            for stranger in more:
                strangers.put(*stranger)
            try:
                writers.ways()[way](folder / "out")
                event(f"{way}: written")
            except UserError as error:
                event(f"{way}: refused")
                assert "\n" not in str(error)
                assert strangers.known or len({w for _, w in steps}) > 1  # without others' files nothing is refused
            assert strangers.harmed() == []
        for name in {file.name for file in files(folder / "out")} if (folder / "out").is_dir() else ():
            assert not name.endswith(".tmp") or name in {file.name for file in strangers.known}


@pytest.mark.parametrize("way", WAYS)
def test_what_is_ours_is_written_again_and_again(writers, tmp_path, way):
    """And what stood there before, of the same kind and larger, is gone."""
    write = writers.ways()[way]
    write(tmp_path / "out")
    first = {f.relative_to(tmp_path): f.read_bytes() for f in files(tmp_path / "out")}
    (tmp_path / "out" / "notes.txt").write_text("mine")
    write(tmp_path / "out")
    now = {f.relative_to(tmp_path) for f in files(tmp_path / "out")}
    assert now == {*first, Path("out", "notes.txt")}
    if "edit" in way:
        writers.smaller_edit(tmp_path / "out")
        assert EditResult.load(tmp_path / "out").prompt == "a cat"
        assert {f.name for f in files(tmp_path / "out")} == {
            LEDGER, "notes.txt", "input.png", "final_output.png", "region_network.safetensors", "result.json", "00.png"}


def test_kinds_are_strangers_to_each_other(writers, tmp_path):
    writers.study(tmp_path)
    with pytest.raises(ForeignError, match=r"summary\.json' is there already, and a batch did not write it"):
        writers.batch(tmp_path)
    writers.edit(tmp_path)  # no name in common
    writers.study(tmp_path)
    assert EditResult.load(tmp_path).prompt == "a fox"


def test_the_list_of_what_was_written_may_be_somebody_elses(writers, tmp_path):
    for number, content in enumerate((b"mine", b'{"a": 1}\n', b'["edit", 1]\n', b"\x00\xff")):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / LEDGER).write_bytes(content)
        with pytest.raises(ForeignError, match="is not the list of what was written there"):
            writers.edit(folder)
        assert [(f.name, f.read_bytes()) for f in files(folder)] == [(LEDGER, content)]
    (tmp_path / "link").mkdir()
    (tmp_path / "target").write_text("")
    (tmp_path / "link" / LEDGER).symlink_to(tmp_path / "target")
    with pytest.raises(ForeignError):
        writers.edit(tmp_path / "link")
    assert (tmp_path / "target").read_text() == ""


def test_a_list_from_elsewhere_reaches_nothing_outside(writers, tmp_path):
    out = tmp_path / "out"
    writers.edit(out)
    digest = sha256(b"mine").hexdigest()
    names = ["../a.png", str(tmp_path / "a.png"), "results/../../a.png", "", "..", "a\0b"]
    lines = [["edit", digest, token, name] for name in names for token in ("0" * 16, "../../a", "")]
    (tmp_path / "a.png").write_bytes(b"mine")
    (tmp_path / f".{'0' * 16}.tmp").write_bytes(b"mine")
    with (out / LEDGER).open("a") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)
    writers.smaller_edit(out)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / f".{'0' * 16}.tmp").read_bytes() == b"mine"


def test_half_a_line_of_the_list_does_not_matter(writers, tmp_path):
    writers.edit(tmp_path)
    with (tmp_path / LEDGER).open("ab") as file:
        file.write(b'["edit", "12')
    writers.smaller_edit(tmp_path)
    writers.edit(tmp_path)
    assert EditResult.load(tmp_path).prompt == "a fox"


def test_a_moved_output_is_still_ours(writers, tmp_path):
    writers.edit(tmp_path / "a")
    (tmp_path / "a").rename(tmp_path / "b")
    writers.smaller_edit(tmp_path / "b")
    assert EditResult.load(tmp_path / "b").prompt == "a cat"


def test_a_file_of_ours_that_was_changed_is_the_users(writers, tmp_path):
    writers.edit(tmp_path)
    (tmp_path / "final_output.png").write_bytes(b"retouched")
    with pytest.raises(ForeignError, match=r"final_output\.png' is not as an edit wrote it \(changed or damaged since\)"):
        writers.edit(tmp_path)
    assert (tmp_path / "final_output.png").read_bytes() == b"retouched"
    assert (tmp_path / "result.json").exists()  # nothing else went either


def test_a_json_file_by_name_is_replaced_only_if_it_is_one_of_ours(tmp_path):
    file = tmp_path / "figures.json"
    assert own_json(file, ["a"]) == {}
    for content in ("mine", "[1]", '{"mine": 1}', '{"a": 1, "mine": 2}'):
        file.write_text(content)
        with pytest.raises(ForeignError, match="holds something else; give another file"):
            own_json(file, ["a", "b"])
    file.write_text('{"a": 1}')
    assert own_json(file, ["a", "b"]) == {"a": 1}


# The commands


def tree(folder: Path) -> dict[Path, object]:
    return {f: os.readlink(f) if f.is_symlink() else f.read_bytes() for f in files(folder)}


FAST = ["--profile", "tiny", "--device", "cpu", "--steps", "1", "--anchors", "2", "--sizes", "0.4", "--shortlist", "1",
        "--iterations", "1", "--quiet"]


@pytest.mark.parametrize(("name", "output"), [
    ("input.png", "p"), ("holiday.png", "p"), ("sub/a.png", "p"), ("input.png", "other/../p"), ("input.png", ".")])
def test_an_output_that_holds_the_input_is_refused_before_any_work(scene_picture, tmp_path, monkeypatch, capsys, name, output):
    monkeypatch.setattr("lr_helpers.models.loading.load_models", lambda *_, **__: pytest.fail("models were loaded"))
    monkeypatch.chdir(tmp_path)
    image = Path("p", name)
    image.parent.mkdir(parents=True)
    scene_picture.save(image)
    for other in ("overview.png", "results/05.png", "contact_sheet_holiday.png", ".notes.tmp"):
        (tmp_path / "p" / other).parent.mkdir(exist_ok=True)
        (tmp_path / "p" / other).write_bytes(b"mine")
    (tmp_path / "j.json").write_text(json.dumps({name: ["wolf", "a mushroom"]}))
    before = tree(tmp_path)
    for words in (["edit", "--image", str(image), "--source", "wolf", "--prompt", "a mushroom", "--output", output, *FAST],
                  ["batch", "j.json", "--images", "p", "--output", output, *FAST]):
        assert main(words) == 2
        said = capsys.readouterr().err
        assert f"holds the input '{image if words[0] == 'edit' or output != '.' else 'j.json'}" in said.replace("input 'p'", f"input '{image}'")
        assert said.count("\n") == 1
        assert tree(tmp_path) == before


@pytest.mark.parametrize("command", ["edit", "turns", "batch", "scene"])
def test_files_of_our_names_are_refused_before_any_work(scene_file, tmp_path, monkeypatch, capsys, command):
    monkeypatch.setattr("lr_helpers.models.loading.load_models", lambda *_, **__: pytest.fail("models were loaded"))
    (tmp_path / "j.json").write_text(json.dumps({"scene.png": ["wolf", "a mushroom"]}))
    once = ["edit", "--image", str(scene_file), "--source", "wolf", "--prompt", "a mushroom", *FAST]
    words = {"edit": once, "turns": [*once, "--then", "fox", "a cat"],
             "batch": ["batch", str(tmp_path / "j.json"), "--images", str(scene_file.parent), *FAST],
             "scene": ["scene", "--seed", "7"]}[command]
    for name in {"edit": ["input.png", "results/01.png"], "turns": ["step_2/input.png", "turns.json"],
                 "batch": ["summary.csv", "batch.lock", "contact_sheet.png"], "scene": ["scene.png"]}[command]:
        out = tmp_path / name.replace("/", "_")
        (out / name).parent.mkdir(parents=True)
        (out / name).write_bytes(b"mine")
        assert main([*words, "--output", str(out)]) == 2
        said = capsys.readouterr().err
        assert f"{name}' is there already, and " in said and said.count("\n") == 1
        assert {f: c for f, c in tree(out).items() if f.name != LEDGER} == {out / name: b"mine"}


@pytest.mark.slow
def test_the_commands_leave_others_files_alone(scene_file, tmp_path):
    """The cases of the public reports, twice each, by the whole commands."""
    out = tmp_path / "out"
    mine = ["overview.png", "results/05.png", "contact_sheet_holiday.png", ".notes.tmp", "scene/.x.tmp", "step_1/result.json"]
    for name in mine:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_bytes(b"mine")
    (tmp_path / "j.json").write_text(json.dumps({"scene.png": ["wolf", "a mushroom"], ".x.tmp.png": ["wolf", "a cake"]}))
    (scene_file.parent / ".x.tmp.png").write_bytes(scene_file.read_bytes())
    for _ in range(2):
        assert main(["edit", "--image", str(scene_file), "--source", "wolf", "--prompt", "a mushroom", "--output",
                     str(out), *FAST]) == 0
        assert main(["batch", str(tmp_path / "j.json"), "--images", str(scene_file.parent), "--output", str(out), *FAST]) == 0
        assert all((out / name).read_bytes() == b"mine" for name in mine)
        assert json.loads((out / "summary.json").read_text())["good"] == 2


# A full disk


class Faults:
    """The n-th call that writes fails, as on a full disk; the others work."""

    CALLS = ("open", "write", "fsync", "mkdir", "replace")

    def __init__(self, number: int):
        self.number, self.count = number, 0

    def __enter__(self):
        self.patch = pytest.MonkeyPatch()
        for name in self.CALLS:
            self.patch.setattr(os, name, self.wrapped(name, getattr(os, name)))
        return self

    def __exit__(self, *_):
        self.patch.undo()

    def wrapped(self, name, real):
        def call(*arguments, **options):
            if name == "open" and not (len(arguments) > 1 and arguments[1] & os.O_CREAT):
                return real(*arguments, **options)
            self.count += 1
            if self.count == self.number:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), *map(str, arguments[:1] if name == "open" else ()))
            return real(*arguments, **options)
        return call


def whole(folder: Path, before: dict[Path, bytes], after: dict[Path, bytes]) -> None:
    """Every file is as one of the two runs left it, and none is half written or left over."""
    for file in files(folder):
        name = file.relative_to(folder)
        assert not file.name.endswith(".tmp"), name
        if file.name == LEDGER or file.name in ("batch.log", "batch.lock"):
            continue
        same = [content for known in (before, after) if (content := known.get(name)) is not None]
        if file.suffix in (".json", ".csv", ".html"):
            assert same and (file.suffix != ".json" or json.loads(file.read_text()))  # seconds and dates differ
        else:
            assert file.read_bytes() in same, name


@pytest.mark.parametrize(("way", "step"), [
    ("edit", 3), ("study", 4), ("edits_in_turn", 13), ("batch", 41), ("report", 17),
    *(pytest.param(way, 1, marks=pytest.mark.all) for way in WAYS if way != "smaller_edit")])
def test_a_disk_that_is_full_at_any_write_harms_nothing(writers, tmp_path, way, step):
    """The first, second … write fails (or every so many-th), into an empty folder and over an earlier output."""
    write = writers.ways()[way]
    earlier = writers.smaller_edit if "edit" in way else write
    with Faults(0) as counted:
        write(tmp_path / "new")
    after = {f.relative_to(tmp_path / "new"): f.read_bytes() for f in files(tmp_path / "new")}
    told = set()
    for number in range(1, counted.count + 60, step):
        folder = tmp_path / f"{number}"
        earlier(folder)
        before = {f.relative_to(folder): f.read_bytes() for f in files(folder)}
        (folder / "notes.txt").write_bytes(b"mine")
        for place in (folder, tmp_path / f"{number} new"):
            known = {**(before if place == folder else {}), Path("notes.txt"): b"mine"}
            with Faults(number) as faults:
                try:
                    write(place)
                except OutputError as error:
                    told.add(str(error).split("(")[1].split(")")[0])
                    assert str(error).count("\n") == 0 and str(error).endswith(".")
            whole(place, known, after)
            write(place)  # the disk has room again
            whole(place, known, after)
            assert {f.relative_to(place) for f in files(place)} - {Path("notes.txt")} == set(after)
        if faults.count < number:
            break
    else:
        pytest.fail("there was no end of writes")
    assert told <= {"No space left on device"} and number > 10


def test_an_edit_that_finds_no_room_leaves_the_earlier_one_whole(writers, tmp_path, monkeypatch):
    writers.edit(tmp_path)
    before = {f: c for f, c in tree(tmp_path).items() if f.name != LEDGER}
    real = os.fsync
    for last in range(1, 6):
        left = last

        def full(handle):
            nonlocal left
            left -= 1
            if not left:
                raise OSError(errno.ENOSPC, "No space left on device")
            real(handle)

        with monkeypatch.context() as patched, pytest.raises(OutputError, match="No space left on device"):
            patched.setattr(os, "fsync", full)
            writers.smaller_edit(tmp_path)
        assert {f: c for f, c in tree(tmp_path).items() if f.name != LEDGER} == before
        assert EditResult.load(tmp_path).prompt == "a fox"


def test_a_single_file_is_whole_or_as_it_was(tmp_path):
    file = tmp_path / "a" / "figures.json"
    for number in range(1, 20):
        with Faults(number) as faults:
            try:
                write_bytes(file, b"new")
            except OutputError as error:
                assert "figures.json can't be written (No space left on device); free space" in str(error)
        assert [f for f in files(tmp_path) if f != file] == []
        if faults.count < number:
            break
        assert not file.exists()
    assert file.read_bytes() == b"new" and number > 3


# What is in the files


def test_a_spreadsheet_runs_no_cell():
    import csv
    import io

    cells = ["=1+1", "+1", "-1", "@SUM(1)", "\t=1", "\r=1", "\n=1", "  =1", "＝1", "＋1", "－1", "＠a"]
    safe = ["a=1", "1", "", "a;=1", "a\t=1", 'a"=1', "ä"]
    table = csv_bytes(["cell", "number", "none"], [{"cell": cell, "number": -1.5, "none": None} for cell in cells + safe])
    rows = list(csv.DictReader(io.StringIO(table.decode(), newline="")))
    assert [row["cell"] for row in rows] == ["'" + cell for cell in cells] + safe
    assert {row["number"] for row in rows} == {"-1.5"} and {row["none"] for row in rows} == {""}
    # Where semicolons or tabs part cells, too, none begins with a formula, since each stands in quotes.
    for delimiter in ";\t":
        first = [row[0] for row in csv.reader(io.StringIO(table.decode(), newline=""), delimiter=delimiter) if row]
        assert not [cell for cell in first if cell.strip('"').startswith(("=", "+", "-", "@"))]


def test_a_name_that_is_no_text_can_be_recorded():
    record = {"image": "caf\udce9.png", "ä": "🦄"}
    assert json.loads(json_bytes(record)) == record
    assert b"\\udce9" in csv_bytes(["image"], [record])


def test_a_claimed_file_is_ours_whatever_it_holds(tmp_path):
    output = Output(tmp_path, "batch")
    output.claim("batch.log").write_text("a line")
    output.claim("batch.log").write_text("another")
    output.require(["batch.log"])
    (tmp_path / "batch.lock").write_text("mine")
    with pytest.raises(ForeignError):
        output.claim("batch.lock")
    assert (tmp_path / "batch.lock").read_text() == "mine"
