"""A batch that is killed, or whose disk is full, read-only, taken away or shared: nothing finished is lost."""

import contextlib
import json
import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from lr_helpers import EditResult
from lr_helpers.batch import folder, key, run
from lr_helpers.batch.items import plan
from lr_helpers.cli import main
from lr_helpers.errors import OutputError, UserError
from lr_helpers.files.outputs import FINAL, LEDGER
from lr_helpers.files.paths import DATA
from lr_helpers.models.profiles import get_profile

TESTS = Path(__file__).parent
TINY = get_profile("tiny")
CHANGES = {"steps": 1, "anchors": 2, "sizes": (0.4,), "shortlist": 1, "iterations": 1}


def planned(output: Path, count: int):
    """A plan of the first so many items of the sample batch."""
    file = output.parent / f"{count}.json"
    sample = json.loads((DATA / "images.json").read_text(encoding="utf-8"))
    file.write_text(json.dumps(dict(list(sample.items())[:count])), encoding="utf-8")
    return plan(file, DATA / "images", output, changes=CHANGES)


def go(wanted, models) -> int:
    return run.run(wanted, TINY, lambda: models, quiet=True)


def whole(output: Path, wanted) -> list[str]:
    """The names of the items that are complete in this folder, and loadable."""
    names = []
    for item in wanted.items:
        state = folder.check(type(item)(**{**vars(item), "folder": output / item.name}), key.identity(TINY))
        if state.done:
            EditResult.load(output / item.name)
            names.append(item.name)
    return names


def temporary(output: Path) -> list[Path]:
    return list(output.rglob("*.tmp"))


@pytest.mark.all
def test_a_batch_killed_again_and_again_ends_as_if_it_had_been_left_in_peace():
    # `python tests/kill_loop.py --kills 100` is the long one.
    ran = subprocess.run([sys.executable, str(TESTS / "kill_loop.py"), "--kills", "5", "--victims", "batch"], capture_output=True, text=True,
                         cwd=TESTS.parent, env={**os.environ, "PYTHONPATH": str(TESTS.parent), "HF_HUB_OFFLINE": "1"})
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert re.search(r"^batch +kills +5$", ran.stdout, re.MULTILINE)


@pytest.mark.all
def test_edits_studies_reports_and_trainings_can_be_killed_anywhere():
    # `python tests/kill_loop.py --kills 300` is the long one, of all five.
    ran = subprocess.run([sys.executable, str(TESTS / "kill_loop.py"), "--kills", "12", "--victims", "edit", "study",
                          "report", "training"], capture_output=True, text=True, cwd=TESTS.parent,
                         env={**os.environ, "PYTHONPATH": str(TESTS.parent), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"})
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "12 kills in all, and nothing was lost" in ran.stdout


# The disk


@contextlib.contextmanager
def largest_file(size: int):
    """No file of this process may grow beyond `size` bytes; the write that would fails, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_file_that_can_not_grow_stops_the_batch_and_loses_nothing(models, tmp_path):
    output = tmp_path / "out"
    assert go(planned(output, 2), models) == 0
    with largest_file(6000), pytest.raises(OutputError) as error:
        go(planned(output, 4), models)
    assert "can't be written (File too large); free space" in str(error.value)
    assert whole(output, planned(output, 4)) == ["1", "2"]
    assert not temporary(output)
    assert go(planned(output, 4), models) == 0
    assert whole(output, planned(output, 4)) == ["1", "2", "3", "4"]


@contextlib.contextmanager
def small_disk(where: Path, size: str):
    """A file system of its own at `where`; skips the test where that is not allowed."""
    where.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(where)], capture_output=True)
    if made.returncode:
        pytest.skip("mounting is not allowed here")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(where)], check=True)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0 or sys.platform != "linux", reason="needs root")
def test_a_full_disk_stops_the_batch_with_a_sentence(models, tmp_path, capsys):
    disk = tmp_path / "disk"
    with small_disk(disk, "512k"):
        wanted = planned(disk / "out", 6)
        with pytest.raises(OutputError) as error:
            go(wanted, models)
        assert "can't be written (No space left on device); free space or choose another folder." in str(error.value)
        before = whole(disk / "out", wanted)
        assert 0 < len(before) < 6
        assert not temporary(disk / "out")
        stopped = [line for line in (disk / "out" / "batch.log").read_text().splitlines() if "] stopped " in line]
        assert len(stopped) <= 1  # the log, too, is on the full disk
        subprocess.run(["mount", "-o", "remount,size=4m", str(disk)], check=True)
        assert go(wanted, models) == 0
        log = (disk / "out" / "batch.log").read_text()
        assert all(log.count(f"] begin {name}\n") == 1 for name in before)
        assert len(whole(disk / "out", wanted)) == 6

        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        arguments = ["batch", str(tmp_path / "disk.json"), "--images", str(DATA / "images"), "--output",
                     str(disk / "out"), "--profile", "tiny"]
        (tmp_path / "disk.json").write_text((DATA / "images.json").read_text())
        assert main(arguments) == 2
        assert capsys.readouterr().err == (
            f"error: The output folder '{disk}/out' can't be written to (Read-only file system); choose another one.\n")
        assert len(whole(disk / "out", wanted)) == 6


@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_told(tmp_path, models):
    (tmp_path / "out").mkdir(mode=0o555)
    with pytest.raises(OutputError, match="can't be written to"):
        go(planned(tmp_path / "out", 1), models)


@pytest.mark.parametrize("where", ["out", "out/1", "out/batch.lock/x", "out/batch.log/x", "out/1/item.json/x"])
def test_something_in_the_way_is_told(models, tmp_path, where, capsys):
    way = tmp_path / where
    if way.name == "x":
        way = way.parent
        way.mkdir(parents=True)
        (way / "x").write_text("mine")
    else:
        way.parent.mkdir(parents=True, exist_ok=True)
        way.write_text("mine")
    if where.startswith("out/1"):  # only the item can't be edited; the other one goes on
        assert go(planned(tmp_path / "out", 2), models) == 1
        said = capsys.readouterr().err.splitlines()[0]
        assert whole(tmp_path / "out", planned(tmp_path / "out", 2)) == ["2"]
    else:
        with pytest.raises(UserError) as error:
            go(planned(tmp_path / "out", 1), models)
        said = str(error.value)
    assert said.count("\n") == 0 and str(tmp_path / where.removesuffix("/x")) in said
    assert (way / "x" if way.is_dir() else way).read_text() == "mine"


# The folder is taken away


@pytest.mark.parametrize("when", ["between two items", "while an item is written"])
def test_a_folder_that_is_taken_away_stops_the_batch(models, tmp_path, monkeypatch, when):
    output, moved = tmp_path / "out", tmp_path / "moved"
    save, edit_item = EditResult.save, run.edit_item

    def save_and_move(self, to, **options):
        saved = save(self, to, **options)
        if to.name == "2":
            output.rename(moved)
        return saved

    def edit_and_move(models, item, identity):
        outcome = edit_item(models, item, identity)
        if item.name == "1":
            output.rename(moved)
        return outcome

    if when == "between two items":
        monkeypatch.setattr(run, "edit_item", edit_and_move)
    else:
        monkeypatch.setattr(EditResult, "save", save_and_move)
    wanted = planned(output, 3)
    with pytest.raises(OutputError, match="was removed or replaced while the batch ran; put it back"):
        go(wanted, models)
    monkeypatch.undo()
    assert not output.exists()
    assert whole(moved, wanted) == ["1"]
    moved.rename(output)
    assert go(wanted, models) == 0
    log = (output / "batch.log").read_text()
    assert [log.count(f"] begin {i.name}\n") for i in wanted.items] == [1, 2, 1]
    assert "] stopped OutputError: The output folder" in log


# Two at once


def test_two_batches_do_not_share_a_folder(models, tmp_path, capsys):
    output = tmp_path / "out"
    arguments = ["batch", str(DATA / "images.json"), "--images", str(DATA / "images"), "--output", str(output)]
    with folder.locked(output):
        assert main(arguments) == 2
        said = capsys.readouterr().err
        assert f"Another batch (process {os.getpid()} on " in said and said.count("\n") == 1
        assert {f.name for f in output.iterdir()} == {folder.LOCK, LEDGER}
    assert go(planned(output, 1), models) == 0


def test_a_killed_batch_lets_go_of_its_folder(tmp_path):
    output = tmp_path / "out"
    program = ("import sys, time\nfrom pathlib import Path\nfrom lr_helpers.batch.folder import locked\n"
               "with locked(Path(sys.argv[1])):\n    print('mine', flush=True)\n    time.sleep(600)\n")
    with subprocess.Popen([sys.executable, "-c", program, str(output)], stdout=subprocess.PIPE, text=True,
                          cwd=TESTS.parent) as other:
        assert other.stdout.readline() == "mine\n"
        with pytest.raises(OutputError, match=f"process {other.pid} on "), folder.locked(output):
            pass
        other.kill()
        other.wait()
        with folder.locked(output):
            pass


def test_what_a_kill_has_left_is_cleaned_before_the_item_is_done_again(models, tmp_path):
    wanted = planned(tmp_path / "out", 1)
    assert go(wanted, models) == 0
    item = wanted.items[0]
    (item.folder / folder.RECORD).unlink()
    folder.item_output(item).write("results/01.png", b"of another setting")
    for output, name in ((folder.item_output(item), FINAL), (folder.item_output(item), "results/00.png"),
                         (folder.output_of(item.folder.parent), "summary.csv")):
        if not os.fork():  # a process that is killed while it writes
            with output.change(sweep=False) as change:
                change.write(name, b"half")
                os._exit(9)
        os.wait()
    assert len(temporary(item.folder.parent)) == 3
    mine = [item.folder / ".mine.tmp", item.folder / "results" / ".x.tmp.png", item.folder.parent / ".notes.tmp"]
    for file in mine:
        file.write_bytes(b"mine")
    assert go(wanted, models) == 0
    assert sorted(temporary(item.folder.parent)) == sorted(f for f in mine if f.suffix == ".tmp")
    assert sorted(f.name for f in (item.folder / "results").iterdir()) == [".x.tmp.png", "00.png"]
