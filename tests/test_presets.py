"""What sets the presets apart, one difference at a time: the paper, the official code with its defects, ours."""

from dataclasses import asdict

import pytest
import torch
from PIL import Image

from lr_helpers import METHODS, edit
from lr_helpers.anchors import anchor_centres, inside_anchors, top_anchors
from lr_helpers.editing import propose
from lr_helpers.files.canvas import Canvas
from lr_helpers.files.pictures import to_tensor
from lr_helpers.learning import Expectation, learn
from lr_helpers.losses import clip_loss, softmax_score
from lr_helpers.method import DEFECTS, Method
from lr_helpers.regions import RegionNetwork, pool_proposals, proposals
from tiny_world.scenes import scene

QUICK = Method(anchors=3, sizes=(0.4, 0.6), iterations=1, steps=1, estimator="expectation")


@pytest.fixture(scope="module")
def picture():
    return Image.fromarray(scene(4730, 1).render())


def quick(models, picture, **changes):
    return edit(models, picture, "wolf", "an apple", QUICK.but(**changes), seed=1, progress=False)


@pytest.fixture(scope="module")
def plain(models, picture):
    return quick(models, picture)


def test_the_presets_differ_in_just_these_fields():
    paper, official = asdict(METHODS["paper"]), asdict(METHODS["official_code"])
    assert {k: (paper[k], official[k]) for k in paper if paper[k] != official[k]} == {
        "border": (0.0, 15 / 32),
        "sizes": ((0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0), (0.25, 0.375, 0.5, 0.625, 0.75, 0.875)),
        "pool": (7, 8), "estimator": ("straight_through", "none"), "iterations": (150, 10), "lr": (3e-3, 5e-3),
        "update_every": (1, 25), "choice": ("score", "softmax_score"),
        "defects": ((), ("raw_backbone", "transposed_anchors", "scaled_twice", "pixels_255"))}
    assert (paper["alpha"], paper["beta"]) == (2, 1)
    assert (paper["clip_weight"], paper["structure_weight"], paper["direction_weight"]) == (1, 1, 1)
    assert paper["source_weight"] == 0
    ours = ("patches_weight", "occlusion_weight", "area_weight", "entropy_weight", "distance", "shortlist")
    assert [paper[name] for name in ours] == [0] * 6
    assert {name for name in ours if not asdict(METHODS["learned"])[name]} == {"area_weight"}
    switches = ("centre_texts", "standardise_terms", "standardise")
    assert not any(paper[name] for name in switches) and all(asdict(METHODS["learned"])[name] for name in switches)
    assert paper["nms_iou"] == 1 > METHODS["learned"].nms_iou
    assert tuple(DEFECTS) == METHODS["official_code"].defects


def test_raw_backbone_leaves_the_pixels_as_they_are(models, picture, plain):
    raw = quick(models, picture, defects=("raw_backbone",))
    with torch.no_grad():
        pixels = torch.nn.functional.interpolate(to_tensor(picture)[None], size=(models.backbone.size,) * 2)
        attention = models.backbone.vit(pixels, output_attentions=True).attentions[-1][0, :, 0, 1:]
    assert torch.allclose(raw.attention.flatten(1), attention, atol=1e-5)
    assert not torch.allclose(raw.attention, plain.attention, atol=1e-3)


def test_transposed_anchors_move_the_boxes_across_the_diagonal(models, picture, plain):
    swapped = quick(models, picture, defects=("transposed_anchors",))
    assert torch.equal(swapped.anchors, plain.anchors)
    assert torch.equal(swapped.boxes, plain.boxes[..., [1, 0, 3, 2]])
    assert not torch.equal(swapped.boxes, plain.boxes)


@pytest.mark.parametrize("size", [(96, 64), (64, 200), (640, 427), (63, 64)])
def test_transposed_anchors_stay_inside_a_picture_that_is_no_square(models, picture, size):
    """Rows and columns are swapped as shares of the sides; as pixels they would leave the picture, and no box be left."""
    wide = picture.resize(size)
    plain, swapped = (propose(models, Canvas(wide, models.editor.size), "wolf", QUICK.but(anchors=9, defects=defects))
                      for defects in ((), ("transposed_anchors",)))
    boxes, (width, height) = swapped.boxes, size
    assert torch.equal(boxes, boxes.clamp(torch.tensor(0), torch.tensor([width, height, width, height])))
    assert ((boxes[..., 2:] - boxes[..., :2]) > 0).all()
    # The anchors' centres, as shares, are mirrored at the diagonal.
    grid = tuple(plain.attention.shape[1:])
    at = anchor_centres(plain.anchors, grid, (height, width)) / torch.tensor([width, height])
    middle = (boxes[:, 0, :2] + boxes[:, 0, 2:]) / 2 / torch.tensor([width, height])
    half = 0.4 * min(size) / 2 / torch.tensor([width, height])
    free = ((at.flip(1) > half) & (at.flip(1) < 1 - half)).all(1)  # whose boxes the border does not cut
    assert free.any()
    assert torch.allclose(middle[free], at.flip(1)[free], atol=1 / min(size))
    result = edit(models, wide, "wolf", "an apple", METHODS["official_code"].but(steps=1, iterations=1), progress=False)
    assert result.image.size == size


def test_scaled_twice_pools_an_eighth_of_the_place():
    features = torch.randn(5, 16, 16, generator=torch.Generator().manual_seed(0))
    boxes = torch.tensor([[[16, 24, 48, 56], [8, 8, 24, 40]]])
    assert torch.allclose(pool_proposals(features, boxes, 64, 7, 1 / 8), pool_proposals(features, boxes // 8, 64, 7))
    corner = features.clone()
    corner[:, 4:, 4:] = 0  # whatever is not near the left top corner doesn't matter any more
    assert torch.equal(pool_proposals(features, boxes, 64, 7, 1 / 8), pool_proposals(corner, boxes, 64, 7, 1 / 8))


def test_pixels_255_changes_what_clip_sees_of_the_edits(models, picture, plain):
    bright = quick(models, picture, defects=("pixels_255",))
    assert torch.equal(bright.edits, plain.edits)
    seen, words = models.clip.encode_image(255 * plain.edits.flatten(0, 1))[0], models.clip.encode_text(["an apple"])[0]
    assert torch.allclose(bright.terms["clip"].flatten(), clip_loss(seen, words), atol=1e-5)
    assert not torch.allclose(bright.terms["clip"], plain.terms["clip"], atol=1e-2)


def test_the_border_rule_passes_over_patches_near_the_border(models, picture, plain):
    inner = quick(models, picture, border=0.25)
    assert torch.equal(inner.anchors, inside_anchors(plain.attention, 3, 4))
    assert inner.anchors.min() >= 4
    assert inner.anchors.max() <= 11


def test_the_optimiser_steps_once_in_ten_iterations():
    pooled, table = torch.randn(3, 8, 2, 2, generator=torch.Generator().manual_seed(0)), torch.rand(3, 2)

    class Known:
        def losses(self, choices):
            return table

    after = []
    for iterations, every in ((1, 1), (10, 25), (10, 1)):
        torch.manual_seed(0)
        network = RegionNetwork(2, 4, 2)
        learn(network, pooled, Known(), estimator=Expectation(), iterations=iterations, lr=1e-2,
              generator=torch.Generator(), update_every=every)
        after.append(torch.cat([p.detach().flatten() for p in network.parameters()]))
    assert torch.equal(after[0], after[1])
    assert not torch.equal(after[0], after[2])


def test_the_official_choice_softmaxes_and_takes_one_of_the_three_nearest_to_the_text():
    text, image = torch.tensor([0.30, 0.28, 0.26, 0.25]), torch.tensor([0.1, 0.7, 0.1, 0.99])
    value = softmax_score(text, image)
    by_hand = 2 * text.exp() / text.exp().sum() + image.exp() / image.exp().sum()
    assert torch.allclose(value[:3] - 4, by_hand[:3])
    assert value[3] == by_hand[3]
    assert value.argsort(descending=True).tolist() == [1, 0, 2, 3]  # the last is best by the sum alone
    assert by_hand.argmax() == 3
    assert softmax_score(text[:2], image[:2]).argmax() == 1  # fewer candidates than three


def test_official_code_learns_nothing_and_paper_does(models, picture):
    official = edit(models, picture, "wolf", "an apple", METHODS["official_code"].but(steps=1), progress=False)
    assert official.history.gradient_norm == [None] * 10
    assert len(set(map(str, official.history.probabilities))) == 1
    paper = edit(models, picture, "wolf", "an apple", METHODS["paper"].but(steps=1, iterations=3), progress=False)
    assert min(paper.history.gradient_norm) > 0


def test_official_boxes_are_those_of_the_official_arithmetic(models, picture):
    # Half-sizes 4, 6 … 14 of 32 tokens, around (column, row) taken as (row, column).
    official = edit(models, picture, "wolf", "an apple", METHODS["official_code"].but(steps=1, iterations=0),
                    progress=False)
    side = models.profile.size
    grid = official.attention.shape[1:]
    centres = anchor_centres(official.anchors.flip(1), grid, side)
    assert torch.equal(official.boxes, proposals(centres, [2 * half / 32 for half in range(4, 15, 2)], side))
    assert not torch.equal(official.anchors, top_anchors(official.attention, 9))
