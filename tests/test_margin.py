"""`margin`: the region is one question, what is painted another; nothing outside of what was painted changes."""

import pytest
import torch
from PIL import Image

from lr_helpers import METHODS, EditResult, UserError, edit
from lr_helpers.baselines import Request, load_baseline
from lr_helpers.baselines.request import Share
from lr_helpers.boxes import grown, intersection
from lr_helpers.candidates import Candidates
from lr_helpers.editing import propose
from lr_helpers.files.pictures import to_image, to_tensor
from lr_helpers.method import default_method
from lr_helpers.sequence import edit_in_turn
from lr_helpers.study.regions import measured
from lr_helpers.study.tasks import task
from tiny_world.judge import load

STEPS = {"steps": 2}


@pytest.fixture(scope="module")
def one():
    return task("replace", 300_001)


def changed(before: Image.Image, after: Image.Image) -> torch.Tensor:
    return (to_tensor(before) != to_tensor(after)).any(0)


def test_a_box_grows_on_all_sides_and_stays_in_the_picture():
    boxes = torch.tensor([[10, 20, 30, 40], [0, 1, 100, 62]])
    assert grown(boxes, 0.05, (64, 100)).tolist() == [[7, 17, 33, 43], [0, 0, 100, 64]]  # 3 pixels of the shorter side
    assert torch.equal(grown(boxes, 0.0, (64, 100)), boxes)
    assert grown(boxes[0], 1 / 32, (128, 128)).tolist() == [6, 16, 34, 44]
    assert grown(boxes.reshape(2, 1, 4), 0.05, (64, 100)).shape == (2, 1, 4)


@pytest.mark.parametrize("method", [METHODS["predicted"], METHODS["fast"].but(confident=1.0), METHODS["learned"].but(
    margin=0.05), METHODS["paper"].but(margin=0.05, iterations=3)], ids=["predicted", "fast", "learned", "paper"])
@pytest.mark.slow
def test_what_is_painted_changes_and_nothing_else(models, one, method, tmp_path):
    picture = to_image(one.picture)
    result = edit(models, picture, one.source, one.prompt, method.but(**STEPS), progress=False)
    x0, y0, x1, y1 = result.painted
    assert (x0, y0, x1, y1) == tuple(grown(torch.tensor(result.box), method.margin, (128, 128)).tolist()) != result.box
    inside = torch.zeros(128, 128, dtype=torch.bool)
    inside[y0:y1, x0:x1] = True
    moved = changed(picture, result.image)
    assert not moved[~inside].any()
    around = inside.clone()
    around[result.box[1]:result.box[3], result.box[0]:result.box[2]] = False
    assert moved[around].float().mean() > 0.3  # it is painted there, blended at the edge
    # On the disk too, in the record and after loading.
    assert EditResult.load(result.save(tmp_path / "e")).painted == result.painted
    assert result.to_dict()["painted"] == list(result.painted) and result.to_dict()["box"] == list(result.box)


@pytest.mark.slow
def test_a_wide_picture_with_transparency_keeps_all_else(models):
    wide = Image.new("RGBA", (300, 160), (90, 140, 90, 200))
    wide.paste(to_image(task("replace", 300_002).picture), (60, 20))
    result = edit(models, wide, "wolf", "a mushroom", METHODS["predicted"].but(**STEPS), progress=False)
    x0, y0, x1, y1 = result.painted
    by = round(160 / 32)
    assert all(edge in (a + s * by, 0, 300, 160) for edge, a, s in zip(result.painted, result.box, (-1, -1, 1, 1), strict=True))
    kept = torch.ones(160, 300, dtype=torch.bool)
    kept[y0:y1, x0:x1] = False
    before, after = (torch.frombuffer(bytearray(p.tobytes()), dtype=torch.uint8).reshape(160, 300, 4) for p in (wide, result.image))
    assert torch.equal(before[kept], after[kept])


@pytest.mark.slow
def test_what_shall_not_change_is_not_painted_over(models, one):
    """A proposal whose box is free of it, but whose margin isn't, is passed over; so is one in a second turn."""
    picture = to_image(one.picture)
    first = edit(models, picture, one.source, one.prompt, METHODS["predicted"].but(**STEPS), progress=False)
    x0, y0, x1, y1 = first.box
    beside = (x1 + 1, y0, min(x1 + 12, 128), y1) if x1 < 100 else (max(x0 - 12, 0), y0, x0 - 1, y1)  # the margin's own
    again = edit(models, picture, one.source, one.prompt, METHODS["predicted"].but(**STEPS), progress=False, avoid=[beside])
    assert not intersection(torch.tensor(again.painted), torch.tensor(beside))
    plain = METHODS["predicted"].but(margin=0.0, **STEPS)
    assert edit(models, picture, one.source, one.prompt, plain, progress=False, avoid=[beside]).box == first.box
    others = [o.name for o in one.recipe.objects if o.name != one.source]
    turns = edit_in_turn(models, picture, [(one.source, one.prompt), (others[0], "a mushroom")],
                         METHODS["predicted"].but(**STEPS), progress=False)
    assert turns.warnings or not intersection(*(torch.tensor(step.painted) for step in turns.steps))


def test_rows_with_another_margin_share_no_edit(models, one):
    request = Request(one.picture, one.source, one.prompt)
    share, box = Share(request, models), torch.tensor([[40, 40, 72, 72]])
    plain, wider = (share.edits(2, margin=margin)(box)[0] for margin in (0.0, 0.0625))
    differs = (plain != one.picture).any(0), (wider != one.picture).any(0)
    assert not differs[0][:40].any() and differs[1][32:40, 32:80].any() and not differs[1][:32].any()
    assert share.saved_evaluations == 0


def test_the_gradient_goes_through_what_is_painted(models, one):
    """The straight-through loss is, in value, that of the edit as it was painted."""
    method = METHODS["paper"].but(margin=0.0625, **STEPS)
    found = propose(models, one.picture, one.source, method)
    table = Candidates(models, one.picture, one.source, one.prompt, found.boxes[:2, :3], method, 42)
    weights = torch.eye(3)[[1, 2]].requires_grad_()
    losses = table.blended(weights)
    assert torch.allclose(losses, table.losses(torch.tensor([1, 2]))) and torch.autograd.grad(losses.sum(), weights)[0].any()
    with pytest.raises(ValueError, match="margin"):
        table.under(METHODS["paper"])


@pytest.mark.slow
def test_studies_tell_the_region_from_what_was_painted(models, one):
    request = Request(one.picture, one.source, one.prompt)
    made = load_baseline("predicted", models.profile, models, steps=2).run(request)
    found = measured(one, made, models, load())
    box = torch.tensor(found["box"])
    assert made.painted == tuple(grown(box, 1 / 32, (128, 128)).tolist()) and made.box == tuple(found["box"])
    plain = load_baseline("predicted", models.profile, models, steps=2, method=METHODS["predicted"].but(margin=0.0)).run(request)
    without = measured(one, plain, models, load())
    assert plain.painted is None and without["iou"] == found["iou"] and without["covered"] <= found["covered"]


def test_a_margin_is_no_setting_of_the_search_and_wrong_ones_are_refused():
    assert default_method(True, ["margin"]) == "predicted" == default_method(True, ["steps", "margin"])
    assert METHODS["learned"].margin == METHODS["paper"].margin == METHODS["official_code"].margin == 0
    for wrong in (-0.1, 0.3, float("nan")):
        with pytest.raises(UserError, match="margin is"):
            METHODS["predicted"].but(margin=wrong)
