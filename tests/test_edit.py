"""The whole method on the shipped models: one learned edit whose region is known, and its properties."""

import json

import pytest
import torch
from PIL import Image

from lr_helpers import METHODS, EditResult, UserError, edit
from lr_helpers.boxes import iou
from lr_helpers.files.pictures import to_tensor
from tiny_world.scenes import scene

FAST = METHODS["learned"].but(anchors=3, sizes=(0.4, 0.6), steps=3, iterations=20)


@pytest.fixture(scope="module")
def wolf():
    return scene(4730, 1)


@pytest.fixture(scope="module")
def picture(wolf):
    return Image.fromarray(wolf.render())


@pytest.fixture(scope="module")
def learned(models, picture):
    return edit(models, picture, "wolf", "a mushroom", seed=42, progress=False)


def test_the_learned_region_overlaps_the_true_object(learned, wolf):
    truth = torch.tensor(wolf.objects[0].box).float()
    assert iou(torch.tensor(learned.box).float(), truth) >= 0.5


def test_the_judge_sees_the_new_object_and_not_the_old(learned):
    from tiny_world import judge

    seen = judge.load().name(learned.candidates[0].picture[None], [learned.box])
    assert seen == ["mushroom"]


def test_nothing_outside_the_region_changes(learned, picture):
    x0, y0, x1, y1 = learned.box
    before, after = to_tensor(picture), to_tensor(learned.image)
    changed = (before != after).any(0)
    assert changed[y0:y1, x0:x1].float().mean() > 0.5
    changed[y0:y1, x0:x1] = False
    assert not changed.any()


def test_cost_counts_every_different_box_once(learned, models):
    edited = learned.boxes[~learned.loss.isnan()]
    different = len(torch.unique(edited, dim=0))
    assert learned.cost["different_edits"] == different == METHODS["learned"].shortlist
    assert learned.cost["denoiser_evaluations"] == different * models.profile.steps * 2


def test_the_final_candidate_is_the_best_of_its_rule(learned, models, picture):
    assert [c.loss for c in learned.candidates] == sorted(c.loss for c in learned.candidates)
    by_score = edit(models, picture, "wolf", "an apple", FAST.but(choice="score", standardise_terms=False), progress=False)
    assert [c.score for c in by_score.candidates] == sorted((c.score for c in by_score.candidates), reverse=True)
    for c in by_score.candidates:
        assert c.score == pytest.approx(2 * c.text_similarity + c.image_similarity, abs=1e-5)
        weights = {name: getattr(FAST, f"{name}_weight") for name in c.terms}
        assert sum(w > 0 for w in weights.values()) == 6
        assert c.loss == pytest.approx(sum(w * c.terms[name] for name, w in weights.items() if w), abs=1e-5)


def test_same_seed_same_pixels_and_other_seed_other_pixels(models, picture):
    a, b = (edit(models, picture, "wolf", "an apple", FAST, seed=7, progress=False) for _ in range(2))
    c = edit(models, picture, "wolf", "an apple", FAST, seed=8, progress=False)
    assert torch.equal(a.edits, b.edits)
    assert a.image.tobytes() == b.image.tobytes()
    assert a.box == b.box
    assert torch.equal(a.boxes, c.boxes)
    assert not torch.equal(a.edits, c.edits)


def test_the_callers_random_state_is_left_alone(models, picture):
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    edit(models, picture, "wolf", "an apple", FAST, progress=False)
    assert torch.equal(torch.rand(4), expected)


def test_an_edit_depends_on_its_box_and_seed_only(models, picture):
    image, boxes = to_tensor(picture), [(16, 16, 80, 80), (40, 24, 120, 104), (0, 48, 60, 108)]
    together = models.editor.edit(image, boxes, "a cat", seed=5, steps=3)
    alone = torch.cat([models.editor.edit(image, [b], "a cat", seed=5, steps=3) for b in boxes])
    # Kernels may sum in another order for another batch size; measured spread 4e-6.
    assert (together - alone).abs().max() < 1e-4
    again = models.editor.edit(image, boxes, "a cat", seed=5, steps=3)
    assert torch.equal(together, again)
    other = models.editor.edit(image, boxes, "a cat", seed=6, steps=3)
    assert (together - other).abs().max() > 0.05


def test_only_the_shortlist_is_edited_and_chosen_from(models, picture):
    result = edit(models, picture, "wolf", "an apple", FAST.but(shortlist=2, places=0, nms_iou=1.0), progress=False)
    kept = ~result.loss.isnan()
    assert int(kept.sum()) == 2 and len(result.candidates) == int(kept.any(1).sum())
    free = result.terms["patches"] + 0.25 * result.terms["occlusion"]
    everything = edit(models, picture, "wolf", "an apple", FAST, progress=False)
    all_free = everything.terms["patches"] + 0.25 * everything.terms["occlusion"]
    assert free[kept].max() <= all_free.flatten().sort().values[1] + 1e-5
    assert result.probabilities[~kept].sum() == 0
    assert all(kept[c.anchor, c.proposal] for c in result.candidates)
    assert result.cost["denoiser_evaluations"] == 2 * 3 * 2


def test_without_gradient_the_network_stays_as_it_began(models, picture):
    one = edit(models, picture, "wolf", "an apple", FAST.but(estimator="none", iterations=1), progress=False)
    many = edit(models, picture, "wolf", "an apple", FAST.but(estimator="none", iterations=9), progress=False)
    for a, b in zip(one.network.parameters(), many.network.parameters(), strict=True):
        assert torch.equal(a, b)
    assert many.history.gradient_norm == [None] * 9


def test_a_result_comes_back_from_disk(learned, tmp_path):
    folder = learned.save(tmp_path / "a result", draw_boxes=True)
    again = EditResult.load(folder)
    assert again.box == learned.box
    assert again.cost == learned.cost
    assert again.method == learned.method
    assert again.image.tobytes() == learned.image.tobytes()
    assert torch.allclose(again.loss, learned.loss, atol=1e-5, equal_nan=True)
    assert again.history.loss == learned.history.loss
    assert len(list(folder.glob("results/*.png"))) == len(list(folder.glob("boxes/*.png"))) == len(
        learned.candidates) == len(learned.anchors)
    record = json.loads((folder / "result.json").read_text())
    assert record["seed"] == 42
    assert record["origins"]["editor"].endswith("inpainting")
    assert not list(folder.rglob("*.tmp"))


@pytest.mark.parametrize("older", [1, 2, 3])
def test_a_result_of_an_older_format_is_refused_in_a_sentence(older, learned, tmp_path):
    file = learned.save(tmp_path) / "result.json"
    record = json.loads(file.read_text())
    assert record["format"] == 4
    record["sources"] = record.pop("origins")  # as formats 1 and 2 called them
    file.write_text(json.dumps(record | {"format": older}))
    with pytest.raises(UserError) as error:
        EditResult.load(tmp_path)
    assert str(error.value) == f"{file} has format {older}, not 4; make the edit again."


def test_a_second_save_leaves_no_pictures_of_the_first(models, learned, picture, tmp_path):
    learned.save(tmp_path, draw_boxes=True)
    again = edit(models, picture, "wolf", "a cat", FAST, progress=False)
    again.save(tmp_path)
    assert len(list(tmp_path.glob("results/*.png"))) == len(again.candidates) < len(learned.candidates)
    assert not list(tmp_path.glob("boxes/*.png"))


@pytest.mark.parametrize("size", [(200, 120), (33, 500)])
def test_pictures_of_any_size_are_edited_at_their_own_resolution(models, picture, size):
    wide = picture.resize(size)
    result = edit(models, wide, "wolf", "an apple", FAST, progress=False)
    assert result.image.size == size
    before, after = to_tensor(wide), to_tensor(result.image)
    x0, y0, x1, y1 = result.box
    changed = (before != after).any(0)
    assert changed[y0:y1, x0:x1].any()
    changed[y0:y1, x0:x1] = False
    assert not changed.any()
