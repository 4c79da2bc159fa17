"""`study photographs`: what is measured of a box and of its edges, and the whole study on real and on random weights."""

import csv
import json

import pytest
import torch

from lr_helpers.boxes import box_mask
from lr_helpers.cli import main
from lr_helpers.costs import random_weights
from lr_helpers.course.samples import shipped_photographs
from lr_helpers.files.canvas import Canvas
from lr_helpers.inpainting import colour_shift, seam
from lr_helpers.regions import proposals
from lr_helpers.study.photographs import MEASURES, ROWS, Photographs, ceiling, method_of, region, summarise
from lr_helpers.study.run import run

COFFEE = next(one for one in shipped_photographs() if one.name == "coffee")


# A box


def test_a_box_counts_by_the_reading_that_it_fits_best():
    cup, with_saucer = COFFEE.readings
    for box in (cup, with_saucer):
        assert region(box, COFFEE.readings) == {"iou": 1, "hit": 1, "centre_inside": 1, "covered": 1}
    beside = region((500, 300, 600, 400), COFFEE.readings)
    assert beside == {"iou": 0, "hit": 0, "centre_inside": 0, "covered": 0}
    # Half of the only reading, at its left: IoU and share covered are a half each, and the centre is inside.
    assert region((0, 0, 50, 80), [(0, 0, 100, 80)]) == {"iou": 0.5, "hit": 1, "centre_inside": 1, "covered": 0.5}
    # What was painted around the region covers more of it; how the region lies is as before.
    assert region((0, 0, 50, 80), [(0, 0, 100, 80)], (0, 0, 75, 80)) == {"iou": 0.5, "hit": 1, "centre_inside": 1,
                                                                         "covered": 0.75}
    # All of it, and four times as much.
    assert region((0, 0, 200, 160), [(0, 0, 100, 80)]) == pytest.approx(
        {"iou": 0.25, "hit": 0, "centre_inside": 0, "covered": 1})


def test_no_square_fits_the_rocket_as_its_entry_says():
    rocket = next(one for one in shipped_photographs() if one.name == "rocket")
    w, h = rocket.picture.size
    centres = torch.tensor([[x, y] for x in range(310, 336, 3) for y in range(140, 400, 10)]).float()
    boxes = proposals(centres, [s / 50 for s in range(1, 51)], (h, w))
    best = max(region(tuple(box), rocket.readings)["iou"] for box in boxes.reshape(-1, 4).tolist())
    assert 0.15 < best < 0.21


# Its edges


def test_a_seam_is_what_the_picture_has_not_of_its_own():
    picture = torch.full((3, 60, 90), 0.5)
    assert seam(picture, (20, 20, 40, 50)) == (0, 0)
    picture[:, 20:50, 20:40] = 0.6
    jump, own = seam(picture, (20, 20, 40, 50))
    assert jump == pytest.approx(25.5, abs=0.1) and own == pytest.approx(0, abs=0.5)
    # A ramp of 2.55 levels a pixel has that step everywhere, on the box's left and right edges.
    ramp = (torch.arange(90) / 100).expand(3, 60, 90)
    assert seam(ramp, (20, 0, 40, 60)) == pytest.approx((2.55, 2.55), abs=1e-3)
    # The picture's own border is no edge of a region.
    assert seam(picture, (0, 0, 90, 60)) == (0, 0)


def test_colours_shift_by_what_the_frame_adds_outside_the_mask():
    image, mask = torch.rand(3, 32, 32) / 2, box_mask((8, 8, 24, 24), 32, 32)
    frame = image + torch.tensor([0.1, 0.0, 0.05])[:, None, None]
    frame[:, 8:24, 8:24] = 1
    assert colour_shift(frame, image, mask) == pytest.approx(255 * 0.05, rel=1e-4)
    # Noise is no shift.
    assert colour_shift(image + 0.05 * torch.randn(3, 32, 32), image, mask) < 2
    assert colour_shift(frame, image, torch.ones(1, 32, 32)) == 0


@pytest.mark.parametrize("row", ["learned", "edit_free", "predicted", "fast", "paper", "official_code"])
def test_any_row_could_have_chosen_some_box(models, row):
    one = next(iter(shipped_photographs()))
    assert 0 < ceiling(one, models, method_of(row, 1)) <= 1


# The study


def test_the_study_runs_goes_on_and_shows_what_it_found(tmp_path, capsys):
    command = ["study", "photographs", "--output", str(tmp_path), "--methods", "edit_free", "--prompts", "1", "--steps",
               "1", "--workers", "1"]
    assert main(command) == 0
    summary = json.loads((tmp_path / "summary.json").read_text())
    found = summary["means"]["edit_free"]
    assert set(found) == set(MEASURES) and all(value["count"] == 5 for value in found.values())
    assert found["evaluations"]["value"] == 2  # one edit of one step, with guidance
    pictures = summary["pictures"]["edit_free"]
    assert set(pictures) == {one.name for one in shipped_photographs()}
    assert all(found["iou"] <= found["ceiling"] + 1e-4 for found in pictures.values())
    rows = list(csv.DictReader((tmp_path / "edits.csv").open(encoding="utf-8")))
    assert [row["task"] for row in rows] == list(pictures) and (tmp_path / "regions.png").stat().st_size > 10_000
    # Again: nothing is left to do. With other settings: refused.
    times = {file: file.stat().st_mtime_ns for file in (tmp_path / "records").rglob("*.json")}
    assert main(command) == 0
    assert times == {file: file.stat().st_mtime_ns for file in (tmp_path / "records").rglob("*.json")}
    capsys.readouterr()
    assert main([*command[:-4], "--steps", "2"]) == 2
    assert "other settings (steps)" in capsys.readouterr().err


def test_unknown_rows_and_prompts_are_refused(tmp_path, capsys):
    assert main(["study", "photographs", "--output", str(tmp_path), "--methods", "photoshop"]) == 2
    assert "'photoshop' is unknown" in capsys.readouterr().err
    assert main(["study", "photographs", "--output", str(tmp_path), "--prompts", "9"]) == 2
    assert "have 3 prompts" in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_means_are_over_photographs_not_over_their_prompts():
    records = [{"task": name, "row": "learned", "box": [0, 0, 9, 9], **dict.fromkeys(MEASURES, value)}
               for name, value in (("a", 0.0), ("a", 0.0), ("a", 0.0), ("b", 1.0))]
    found = summarise(records)
    assert found["means"]["learned"]["iou"]["value"] == 0.5 and found["means"]["learned"]["iou"]["count"] == 2
    assert found["pictures"]["learned"]["b"]["hit"] == 1


def test_rows_are_presets_and_one_without_trial_edits():
    assert [method_of(row).shortlist for row in ROWS] == [12, 1, 0, 0]
    assert method_of("paper", steps=3).steps == 3


@pytest.mark.slow
def test_a_large_profiles_models_are_measured_too(tmp_path):
    """Random weights of Stable Diffusion 2's classes, on the pictures' own aspect."""
    torch.manual_seed(0)
    profile = random_weights.write("sd2", tmp_path / "models")
    study = Photographs(tmp_path / "out", profile, ["edit_free"], prompts=1, steps=1, device="cpu", allow_cpu=True)
    found = run(study, workers=1)["pictures"]["edit_free"]
    assert len(found) == 5 and all(value["evaluations"] == 2 for value in found.values())
    for one in shipped_photographs():
        canvas = Canvas(one.picture, profile.size)
        assert canvas.shape == one.picture.size[::-1] and 0 < found[one.name]["ceiling"] <= 1
