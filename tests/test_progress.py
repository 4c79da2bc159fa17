"""What is done is written down, by several windows at once, and nothing that goes wrong there disturbs a learner; a class
becomes one table."""

import csv
import io
import json
import multiprocessing
import os
import stat
import time
from pathlib import Path

import pytest

from lr_helpers import checks
from lr_helpers.checks.exercise import CheckFailed
from lr_helpers.cli import main
from lr_helpers.course import progress
from lr_helpers.errors import UserError
from lr_helpers.files import locks


def right(frame, image, mask):
    return mask * frame + (1 - mask) * image


def wrong(frame, image, mask):
    return frame


def stub(frame, image, mask):
    raise NotImplementedError("your code here")


@pytest.fixture
def file(tmp_path, monkeypatch) -> Path:
    """Where progress is kept in this test; it is not kept yet."""
    monkeypatch.setenv("LR_PROGRESS", str(tmp_path / "mine" / "progress.json"))
    monkeypatch.delenv("LR_LEARNER", raising=False)
    monkeypatch.setattr(progress._Session, "keeps", False)
    monkeypatch.setattr(progress._Session, "complained", False)
    return tmp_path / "mine" / "progress.json"


def entry(file: Path, exercise: str = "composite") -> progress.Entry:
    return progress.read(file).entries[exercise]


def failing(function) -> None:
    with pytest.raises(CheckFailed):
        checks.composite(function)


def test_nothing_is_written_unless_an_exercise_notebook_asked_for_it(file):
    checks.composite(right)
    failing(wrong)
    checks.ours("composite")
    assert not file.parent.exists()
    assert checks.progress().entries == {}


def test_attempts_are_counted_up_to_the_first_success(file, capsys):
    checks.keep_progress()
    assert str(file) in capsys.readouterr().out
    failing(stub)  # no attempt
    failing(wrong)
    failing(wrong)
    assert entry(file) == progress.Entry("01_the_inpainting_model", "open", 2, None)
    checks.composite(right)
    done = entry(file)
    assert (done.state, done.attempts) == ("done", 3) and done.first_passed.endswith("+00:00")
    # What comes later takes nothing back.
    failing(wrong)
    checks.composite(checks.ours("composite"))
    assert entry(file) == done


def test_going_on_with_ours_is_told_apart_from_an_own_solution(file):
    checks.keep_progress()
    failing(wrong)
    function = checks.ours("composite")
    assert entry(file) == progress.Entry("01_the_inpainting_model", "ours", 1, None)
    checks.composite(function)
    assert entry(file).state == "ours"
    failing(wrong)
    assert (entry(file).state, entry(file).attempts) == ("ours", 2)
    checks.composite(right)
    assert (entry(file).state, entry(file).attempts) == ("done", 3)


def test_a_name_that_no_exercise_has_is_answered_with_the_nearest():
    with pytest.raises(UserError, match=r"'my_composite'.*composite"):
        checks.ours("my_composite")


@pytest.mark.parametrize("name", checks.ALL)
def test_ours_passes_its_check(name, capsys):
    checks.ALL[name](checks.ours(name))
    assert "✓" in capsys.readouterr().out


def test_the_course_of_the_map_is_that_of_the_checks():
    found = [name for names in progress.exercises().values() for name in names]
    assert sorted(found) == sorted(checks.ALL)
    assert next(iter(progress.exercises())).startswith("01_")


def test_the_map_shows_every_exercise_with_its_state(file):
    checks.keep_progress()
    checks.composite(right)
    checks.ours("guide")
    with pytest.raises(CheckFailed):
        checks.proposals(lambda centres, sizes, size: centres)
    shown = checks.progress(learner=" Ada  <Lovelace> ")
    text, page = repr(shown), shown._repr_html_()
    assert text.startswith(f"Ada <Lovelace>: 1 of {len(checks.ALL)} exercises done, 1 done with ours")
    assert "✓ composite            1 attempt, 20" in text and "◐ guide\n" in text and "○ proposals            1 attempt\n" in text
    assert "Ada &lt;Lovelace&gt;" in page and "<Lovelace>" not in page
    assert all(f" {name}" in text and name in page for name in checks.ALL)
    assert checks.progress(file).learner == "Ada <Lovelace>" == checks.progress().learner


@pytest.mark.parametrize("name", ["", "  ", "x" * 81, "a\x00b", "a\u202eb"])
def test_a_name_that_is_none_is_refused(file, name):
    with pytest.raises(UserError, match="give 1 to 80 letters"):
        checks.progress(learner=name)
    assert not file.exists()


def test_the_name_may_come_from_the_environment(file, monkeypatch):
    monkeypatch.setenv("LR_LEARNER", "ada")
    checks.keep_progress()
    assert progress.read(file).learner == "ada"
    monkeypatch.setenv("LR_LEARNER", "bob")  # the name that was given stays
    checks.keep_progress()
    assert progress.read(file).learner == "ada"


def test_the_place_is_the_courses_results_a_file_or_in_a_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("LR_PROGRESS", raising=False)
    assert progress.place() == progress.ROOT / "results" / "progress.json"
    monkeypatch.setenv("LR_PROGRESS", str(tmp_path))
    assert progress.place() == tmp_path / "progress.json"
    monkeypatch.setenv("LR_PROGRESS", str(tmp_path / "ada.json"))
    assert progress.place() == tmp_path / "ada.json"


def test_on_colab_it_is_said_that_the_file_does_not_last(file, monkeypatch, capsys):
    import sys

    monkeypatch.setitem(sys.modules, "google.colab", sys)
    checks.keep_progress()
    assert "Colab forgets it with the runtime" in capsys.readouterr().out


# What may stand in the way


def _blocked_by_a_file(file: Path) -> None:
    file.parent.write_text("mine", encoding="utf-8")


def _without_rights(file: Path) -> None:
    file.parent.mkdir(mode=0o500)
    if os.access(file.parent, os.W_OK):
        pytest.skip("this user may write anywhere")


def _something_else(file: Path) -> None:
    file.parent.mkdir()
    file.write_text("my notes", encoding="utf-8")


def _a_newer_version(file: Path) -> None:
    file.parent.mkdir()
    file.write_text(json.dumps({"schema": progress.SCHEMA, "version": 2, "exercises": {}}), encoding="utf-8")


def _in_use(file: Path) -> None:
    file.parent.mkdir()
    process = multiprocessing.get_context("fork").Process(target=_hold, args=(file,), daemon=True)
    process.start()
    while not file.with_name("held").exists():
        time.sleep(0.05)


def _hold(file: Path) -> None:
    with locks.alone(file.with_name(f".{file.name}.lock")):
        file.with_name("held").touch()
        time.sleep(600)


@pytest.mark.parametrize("block", [_blocked_by_a_file, _without_rights, _something_else, _a_newer_version, _in_use])
def test_where_it_can_not_be_kept_one_sentence_says_so_and_checks_go_on(file, block, monkeypatch, capsys):
    monkeypatch.setattr(progress, "PATIENCE", 0.2)
    block(file)
    before = {f: f.read_bytes() for f in file.parent.parent.rglob("*") if f.is_file()}
    checks.keep_progress()
    checks.composite(right)
    failing(wrong)
    checks.ours("composite")
    said = capsys.readouterr().out
    assert said.count("Your progress is not kept (") == 1 and said.count("set LR_PROGRESS") == 1
    assert "✓ composite" in said and "Traceback" not in said
    assert {f: f.read_bytes() for f in before} == before
    for child in multiprocessing.active_children():
        child.kill()


def _solve(names: list[str]) -> None:
    progress._Session.keeps = True
    for name in names:
        progress.note(name, progress.OPEN)
        progress.note(name, progress.DONE)


def test_several_windows_at_once_lose_nothing(file):
    names = list(checks.ALL)
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_solve, args=(names[i::3] * 2,)) for i in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    found = progress.read(file).entries
    assert set(found) == set(names)
    assert {(e.state, e.attempts) for e in found.values()} == {("done", 2)}
    assert sorted(f.name for f in file.parent.iterdir()) == [".progress.json.lock", "progress.json"]


def test_the_file_may_be_read_by_the_teacher(file):
    checks.keep_progress()
    assert file.stat().st_mode & stat.S_IRUSR
    record = json.loads(file.read_text(encoding="utf-8"))
    assert record == {"schema": "learnable-regions/progress", "version": 1, "learner": None, "exercises": {}}


# A class


def handed_in(file: Path, learner: str | None = None, **states: tuple) -> Path:
    """A progress file: exercise → (state, attempts, first passed)."""
    file.parent.mkdir(parents=True, exist_ok=True)
    entries = {name: {"notebook": "01_the_inpainting_model", "state": s, "attempts": n, "first_passed": at}
               for name, (s, n, at) in states.items()}
    file.write_text(json.dumps({"schema": progress.SCHEMA, "version": 1, "learner": learner, "exercises": entries}),
                    encoding="utf-8")
    return file


MORNING, EVENING = "2026-11-02T09:00:00+00:00", "2026-11-02T18:00:00+00:00"


def table(file: Path) -> dict[tuple[str, str], dict]:
    rows = list(csv.DictReader(io.StringIO(file.read_text(encoding="utf-8"))))
    assert list(rows[0]) == ["learner", "notebook", "exercise", "state", "attempts", "first_passed"]
    return {(row["learner"], row["exercise"]): row for row in rows}


def test_a_class_becomes_one_table(tmp_path, capsys):
    folder = tmp_path / "class"
    handed_in(folder / "a.json", "Ada", composite=("done", 3, MORNING), guide=("ours", 1, None))
    handed_in(folder / "bob.json", composite=("open", 5, None))  # no name: that of the file
    handed_in(folder / "cyd" / "progress.json", composite=("done", 1, EVENING))  # or of the folder
    handed_in(folder / "e.json", "=HYPERLINK(1)")
    assert main(["progress", str(folder), "--output", str(tmp_path / "table.csv")]) == 0
    said = capsys.readouterr().out
    rows = table(tmp_path / "table.csv")
    learners = ["'=HYPERLINK(1)", "Ada", "bob", "cyd"]  # no spreadsheet runs a name
    assert set(rows) == {(who, name) for who in learners for name in checks.ALL}
    assert rows["Ada", "composite"] == {
        "learner": "Ada", "notebook": "01_the_inpainting_model", "exercise": "composite", "state": "done", "attempts": "3",
        "first_passed": MORNING}
    assert [rows[who, "composite"]["state"] for who in learners] == ["open", "done", "open", "done"]
    assert rows["Ada", "guide"]["state"] == "ours" and rows["Ada", "guide"]["first_passed"] == ""
    assert rows["bob", "lost_at"] == {"learner": "bob", "notebook": "10_extended_experiments", "exercise": "lost_at",
                                      "state": "open", "attempts": "0", "first_passed": ""}
    assert f"4 learners: 2 of {4 * len(checks.ALL)} exercises done, 1 done with ours" in said


def test_two_files_of_one_learner_are_counted_together(tmp_path, capsys):
    handed_in(tmp_path / "laptop.json", "Ada", composite=("done", 2, EVENING), guide=("open", 1, None))
    handed_in(tmp_path / "colab.json", "Ada", composite=("done", 1, MORNING), guide=("ours", 2, None), denoise=("open", 1, None))
    assert main(["progress", str(tmp_path), "--output", str(tmp_path / "table.csv")]) == 0
    rows = table(tmp_path / "table.csv")
    assert [(rows["Ada", n]["state"], rows["Ada", n]["attempts"], rows["Ada", n]["first_passed"])
            for n in ("composite", "guide", "denoise")] == [("done", "3", MORNING), ("ours", "3", ""), ("open", "1", "")]
    assert "laptop.json is another file of Ada" in capsys.readouterr().out


DAMAGED = {
    "not JSON": "{", "another kind": '{"nbformat": 4}', "a list": "[1]", "nested": "[" * 100_000, "binary": "\udcff\udcfe",
    "newer": '{"schema": "learnable-regions/progress", "version": 2}',
    "no exercises": '{"schema": "learnable-regions/progress", "version": 1, "learner": null}',
    "a name that is none": '{"schema": "learnable-regions/progress", "version": 1, "learner": 7, "exercises": {}}',
    "an unknown state": '{"schema": "learnable-regions/progress", "version": 1, "learner": "X", "exercises": {"composite": '
                        '{"notebook": "01", "state": "perfect", "attempts": 1, "first_passed": null}}}',
    "a state that can't be looked up": '{"schema": "learnable-regions/progress", "version": 1, "learner": "X", "exercises": '
                                       '{"composite": {"notebook": "01", "state": [], "attempts": 1, "first_passed": null}}}',
    "attempts that are none": '{"schema": "learnable-regions/progress", "version": 1, "learner": "X", "exercises": {"composite": '
                              '{"notebook": "01", "state": "open", "attempts": true, "first_passed": null}}}',
    "passed at no time": '{"schema": "learnable-regions/progress", "version": 1, "learner": "X", "exercises": {"composite": '
                         '{"notebook": "01", "state": "done", "attempts": 1, "first_passed": "yesterday"}}}',
}


def test_damaged_and_foreign_files_are_named_and_the_rest_is_counted(tmp_path, capsys):
    folder = tmp_path / "class"
    handed_in(folder / "ada.json", composite=("done", 3, MORNING))
    for number, text in enumerate(DAMAGED.values()):
        (folder / f"bad{number}.json").write_bytes(text.encode(errors="surrogateescape"))
    (folder / "large.json").write_bytes(b" " * 2_000_000)
    (folder / "notes.txt").write_text("not asked for", encoding="utf-8")
    os.mkfifo(folder / "pipe.json")
    (folder / "folder.json").mkdir()
    assert main(["progress", str(folder), "--output", str(tmp_path / "table.csv")]) == 1
    said = capsys.readouterr().out.splitlines()
    names = [f"bad{number}.json" for number in range(len(DAMAGED))] + ["large.json"]
    assert [sum(name in line for line in said) for name in names] == [1] * len(names)
    assert len(said) == len(names) + 1
    assert {who for who, _ in table(tmp_path / "table.csv")} == {"ada"}


def test_a_missing_or_empty_folder_and_a_foreign_table_are_refused(tmp_path, capsys):
    assert main(["progress", str(tmp_path / "none")]) == 2
    assert "There is no folder" in capsys.readouterr().err
    assert main(["progress", str(tmp_path)]) == 2
    assert "holds no progress" in capsys.readouterr().err

    handed_in(tmp_path / "ada.json")
    mine = tmp_path / "marks.csv"
    mine.write_text("my own table", encoding="utf-8")
    assert main(["progress", str(tmp_path), "--output", str(mine)]) == 2
    assert "no table of this command" in capsys.readouterr().err
    assert mine.read_text(encoding="utf-8") == "my own table"
    assert main(["progress", str(tmp_path), "--output", str(tmp_path)]) == 2
    for _ in range(2):  # its own table is written anew
        assert main(["progress", str(tmp_path), "--output", str(tmp_path / "t.csv")]) == 0
