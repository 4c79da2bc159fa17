"""Saving over what an earlier edit saved: nothing of it stays, and nothing that is somebody else's goes."""

import json
from pathlib import Path

import pytest
from PIL import Image

from lr_helpers.files.outputs import LEDGER, ForeignError, Output
from lr_helpers.method import METHODS
from lr_helpers.sequence import edit_in_turn
from tiny_world.scenes import Placed, Recipe

QUICK = METHODS["learned"].but(steps=1, shortlist=2, iterations=2)
SCENE = Recipe("grass", 5, (Placed("lion", 8, 56, 64), Placed("strawberry", 80, 16, 48)))
ONE = {"final_output.png", "input.png", "region_network.safetensors", "result.json", "results"}


@pytest.fixture(scope="module")
def three(models):
    """Three edits in turn."""
    turns = [("lion", "a fox"), ("strawberry", "an apple"), ("fox", "a cat")]
    return edit_in_turn(models, Image.fromarray(SCENE.render()), turns, QUICK, progress=False)


@pytest.fixture(scope="module")
def two(models):
    """Two edits in turn."""
    turns = [("lion", "a fox"), ("strawberry", "an apple")]
    return edit_in_turn(models, Image.fromarray(SCENE.render()), turns, QUICK, progress=False)


def names(folder: Path) -> set[str]:
    """What lies there, but the list of what was written."""
    return {file.name for file in folder.iterdir()} - {LEDGER}


def test_a_shorter_second_run_leaves_no_step_of_the_first(two, three, tmp_path):
    three.save(tmp_path, draw_boxes=True)
    assert names(tmp_path) == {"final_output.png", "step_1", "step_2", "step_3", "turns.json"}
    two.save(tmp_path)
    assert names(tmp_path) == {"final_output.png", "step_1", "step_2", "turns.json"}
    assert names(tmp_path / "step_1") == names(tmp_path / "step_2") == ONE  # without the first run's boxes
    assert len(json.loads((tmp_path / "turns.json").read_text(encoding="utf-8"))["steps"]) == 2


def test_a_folder_that_no_record_lists_stays(two, three, tmp_path):
    (tmp_path / "step_9").mkdir()
    (tmp_path / "step_9" / "result.json").write_text("somebody's")
    three.save(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "step_3" / "notes.txt").write_text("mine")
    two.save(tmp_path)
    assert names(tmp_path) == {"final_output.png", "notes.txt", "step_1", "step_2", "step_3", "step_9", "turns.json"}
    assert names(tmp_path / "step_3") == {"notes.txt"}  # in a listed step, only what an edit saves goes
    assert (tmp_path / "step_9" / "result.json").read_text() == "somebody's"


def test_an_edit_over_edits_in_turn_and_back(two, tmp_path):
    two.save(tmp_path)
    two.steps[0].save(tmp_path, draw_boxes=True)
    assert names(tmp_path) == ONE | {"boxes", "overview.png"}
    two.save(tmp_path)
    assert names(tmp_path) == {"final_output.png", "step_1", "step_2", "turns.json"}


def test_a_record_of_somebody_else_removes_nothing(two, tmp_path):
    outside = tmp_path / "outside"
    two.steps[0].save(outside)
    out = tmp_path / "out"
    out.mkdir()
    (out / "step_2").symlink_to(outside)
    (out / "notes.txt").write_text("mine")
    # A ledger that was copied here tells of files that lie elsewhere; and records of other hands tell nothing.
    (out / LEDGER).write_bytes((outside / LEDGER).read_bytes().replace(b'"input.png', b'"step_2/input.png'))
    for text in ('{"steps": [{"folder": "../outside"}, {"folder": "step_2"}, {"folder": 7}, "step_2"]}', '{"steps": 3}',
                 "[]", "no JSON"):
        (out / "turns.json").write_text(text)
        with pytest.raises(ForeignError, match="is there already, and an edit did not write it; move it away"):
            two.save(out)
        with Output(out, "edit").change() as change:
            change.remove_others()
        assert names(outside) == ONE
        assert names(out) == {"notes.txt", "step_2", "turns.json"}
        assert (out / "turns.json").read_text() == text


def test_what_a_killed_run_left_to_remove_is_removed_by_the_next(three, two, tmp_path, monkeypatch):
    three.save(tmp_path)
    listed, unlink, left = list(tmp_path.rglob("*.png")), Path.unlink, 8

    def killed(self, *arguments, **options):
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        unlink(self, *arguments, **options)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Path, "unlink", killed)
        two.save(tmp_path)
    assert len(list(tmp_path.rglob("*.png"))) < len(listed) and list(tmp_path.rglob(".*.tmp"))  # as a kill leaves it
    two.save(tmp_path)
    assert names(tmp_path) == {"final_output.png", "step_1", "step_2", "turns.json"}
    assert names(tmp_path / "step_1") == ONE
