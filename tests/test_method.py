"""Anchors, proposals, pooling, region network, losses, ranking, learning: one property at a time."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from lr_helpers.anchors import anchor_centres, top_anchors
from lr_helpers.boxes import area, box_mask, intersection, iou, square_around
from lr_helpers.errors import UserError
from lr_helpers.losses import (
    clip_loss,
    cosine_distance,
    direction_loss,
    occluded,
    occlusion_loss,
    patches_loss,
    score,
    self_similarity,
    source_loss,
    structure_loss,
)
from lr_helpers.method import METHODS, Method
from lr_helpers.regions import RegionNetwork, pool_proposals, proposals, standardise


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


# Boxes


def test_iou_of_hand_computed_boxes():
    a = torch.tensor([0, 0, 10, 10])
    others = torch.tensor([[0, 0, 10, 10], [5, 0, 15, 10], [10, 10, 20, 20], [2, 2, 4, 4]])
    assert intersection(a, others).tolist() == [100, 50, 0, 4]
    assert iou(a, others).tolist() == pytest.approx([1, 1 / 3, 0, 0.04])


def test_mask_has_the_area_and_place_of_its_box():
    mask = box_mask((3, 5, 9, 6), 8, 16)
    assert mask.shape == (1, 8, 16)
    assert mask.sum() == 6
    assert mask[0, 5, 3:9].all()


@settings(deadline=None)
@given(x=st.floats(0, 64), y=st.floats(0, 64), side=st.floats(2, 200))
def test_squares_stay_inside_and_are_never_empty(x, y, side):
    x0, y0, x1, y1 = square_around(x, y, side, 64)
    assert 0 <= x0 < x1 <= 64
    assert 0 <= y0 < y1 <= 64


# Anchors


@pytest.mark.parametrize(("h", "w"), [(16, 16), (8, 12)])
def test_anchors_are_planted_peaks_at_the_right_row_and_column(h, w):
    attention = torch.rand(3, h, w, generator=generator()) * 0.1
    peaks = [(1, 7), (5, 2), (h - 1, w - 1)]
    for height, (row, column) in zip((9.0, 6.0, 3.0), peaks, strict=True):
        attention[:, row, column] = height
    anchors = top_anchors(attention, 3)
    assert [tuple(a) for a in anchors.tolist()] == peaks
    # x comes from the column, y from the row
    x, y = anchor_centres(anchors, (h, w), 480)[0].tolist()
    assert (x, y) == (7.5 * 480 / w, 1.5 * 480 / h)


def test_anchors_average_the_heads():
    attention = torch.zeros(2, 4, 4)
    attention[0, 0, 0] = 1.0  # strong in one head only
    attention[:, 2, 3] = 0.6
    assert top_anchors(attention, 1).tolist() == [[2, 3]]


@pytest.mark.parametrize("count", [0, 17])
def test_more_anchors_than_patches_are_refused(count):
    with pytest.raises(UserError, match=rf"\(K\) is {count}.*16 patches"):
        top_anchors(torch.rand(1, 4, 4), count)


# Proposals and pooling


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 64), st.floats(0, 64)), min_size=1, max_size=5),
       st.lists(st.floats(0.05, 1.0), min_size=1, max_size=5, unique=True).map(sorted))
def test_proposals_are_inside_and_grow(centres, sizes):
    boxes = proposals(torch.tensor(centres), sizes, 64)
    assert boxes.shape == (len(centres), len(sizes), 4)
    assert boxes.min() >= 0
    assert boxes.max() <= 64
    assert (area(boxes) > 0).all()
    assert (area(boxes).diff(dim=1) >= 0).all()


def test_proposals_are_centred_squares_where_there_is_room():
    boxes = proposals(torch.tensor([[30.0, 34.0]]), (0.25, 0.5), 64)
    assert boxes.tolist() == [[[22, 26, 38, 42], [14, 18, 46, 50]]]


def test_pooling_reads_the_place_of_the_box():
    # A feature that is the x coordinate of its patch, in pixels of a 64 px picture; another that is y.
    centre = torch.arange(16) * 4.0 + 2
    features = torch.stack([centre.expand(16, 16), centre[:, None].expand(16, 16)])
    boxes = torch.tensor([[[8, 24, 24, 40], [16, 8, 48, 40]]])
    pooled = pool_proposals(features, boxes, 64, 7).reshape(2, 2, 7, 7)
    assert pooled.mean((2, 3)).tolist() == [pytest.approx([16, 32], abs=1e-3), pytest.approx([32, 24], abs=1e-3)]
    assert (pooled[0, 0].diff(dim=1) > 0).all()  # x grows to the right
    assert (pooled[0, 1].diff(dim=0) > 0).all()  # y grows downwards


def test_standardised_features_differ_only_between_anchors():
    pooled = torch.randn(9, 4, 7, 7, generator=generator()) * 3 + 5
    result = standardise(pooled)
    assert result.mean(0).abs().max() < 1e-5
    assert (result.std(0, correction=0) - 1).abs().max() < 1e-3
    assert torch.equal(standardise(pooled[:1]), pooled[:1])


def test_region_network_comes_back_from_disk(tmp_path):
    network = RegionNetwork(6, 8, 7)
    pooled = torch.randn(3, 48, 7, 7, generator=generator())
    network.save(tmp_path / "n.safetensors")
    assert torch.equal(RegionNetwork.load(tmp_path / "n.safetensors")(pooled), network(pooled))
    (tmp_path / "n.safetensors").write_bytes(b"no network")
    with pytest.raises(UserError, match="not a stored region network"):
        RegionNetwork.load(tmp_path / "n.safetensors")


# Losses


def unit(*shape, seed=0):
    return F.normalize(torch.randn(*shape, generator=generator(seed)), dim=-1)


def test_losses_are_zero_where_they_must_be():
    prompt, source, image = unit(8, seed=1), unit(8, seed=2), unit(8, seed=3)
    assert clip_loss(prompt[None], prompt).item() == pytest.approx(0, abs=1e-6)
    assert clip_loss(-prompt[None], prompt).item() == pytest.approx(2, abs=1e-6)
    moved = image + 0.3 * (prompt - source)
    assert direction_loss(moved[None], image, source, prompt).item() == pytest.approx(0, abs=1e-6)
    back = image - 0.3 * (prompt - source)
    assert direction_loss(back[None], image, source, prompt).item() == pytest.approx(2, abs=1e-6)
    assert direction_loss(image[None], image, source, prompt).item() == pytest.approx(1)
    assert source_loss(torch.stack([source, -source]), source).tolist() == pytest.approx([1, -1])
    tokens = torch.randn(5, 8, generator=generator())
    assert structure_loss(tokens[None], tokens).item() == pytest.approx(0, abs=1e-6)
    # Q is made of cosines: the length of the tokens doesn't count, nor a rotation of all of them
    rotation = torch.linalg.qr(torch.randn(8, 8, generator=generator(4))).Q
    assert structure_loss(3 * tokens[None] @ rotation, tokens).item() == pytest.approx(0, abs=1e-5)


def test_structure_loss_of_a_hand_computed_case():
    before = torch.tensor([[1.0, 0.0], [0.0, 1.0]])  # Q = identity
    after = torch.tensor([[1.0, 0.0], [2.0, 0.0]])  # Q = all ones
    assert self_similarity(after).tolist() == [[1, 1], [1, 1]]
    assert structure_loss(after[None], before).item() == pytest.approx(math.sqrt(2) / 2)


def test_losses_have_gradients():
    edited = unit(4, 8).requires_grad_(True)
    image, prompt, source = (unit(8, seed=s) for s in (2, 1, 3))
    (clip_loss(edited, prompt) + direction_loss(edited, image, source, prompt)).sum().backward()
    assert edited.grad.abs().sum(1).min() > 0
    tokens = torch.randn(4, 5, 8, generator=generator()).requires_grad_(True)
    structure_loss(tokens, torch.randn(5, 8, generator=generator(1))).sum().backward()
    assert tokens.grad.abs().sum((1, 2)).min() > 0


def test_score_weighs_text_and_picture():
    prompt, image = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    edits = torch.stack([prompt, image])
    assert score(edits, image, prompt).tolist() == [2, 1]
    assert score(edits, image, prompt, alpha=1, beta=3).tolist() == [1, 3]
    assert cosine_distance(edits, prompt).tolist() == [0, 1]


# Settings


@pytest.mark.parametrize("change", [
    {"anchors": 0}, {"sizes": ()}, {"sizes": (0.5, 0.5)}, {"sizes": (0.0,)}, {"sizes": (1.5,)}, {"sizes": (math.nan,)},
    {"iterations": -1}, {"lr": 0.0}, {"lr": math.inf}, {"steps": 0}, {"guidance": -1.0}, {"estimator": "magic"},
    {"choice": "taste"}, {"temperature": 0.0}, {"samples": 1}, {"defects": ("spelling",)}, {"border": 0.6}, {"update_every": 0}, {"pool": 0}, {"clip_weight": math.nan}])
def test_settings_that_cannot_work_are_refused_in_one_sentence(change):
    with pytest.raises(UserError) as refusal:
        Method(**change)
    assert "\n" not in str(refusal.value)
    assert len(str(refusal.value)) > 20


def test_every_setting_says_what_it_is_and_where_it_comes_from():
    from dataclasses import fields

    assert all(len(f.metadata.get("help", "")) > 20 for f in fields(Method))
    assert METHODS["paper"] == Method()


# Occlusion


def test_hiding_fills_a_box_from_its_border():
    # A slope is continued: the picture's value is its column, and so is the mean of left and right by distance.
    slope = torch.arange(12.0).expand(3, 10, 12)
    hidden = occluded(slope, [(3, 0, 8, 10)])[0]  # from top to bottom, so only left and right count
    assert torch.allclose(hidden, slope, atol=1e-5)
    dot = torch.zeros(3, 10, 12)
    dot[:, 4:6, 5:7] = 1
    whole, half, none = occluded(dot, [(4, 3, 8, 7), (5, 3, 8, 7), (0, 0, 3, 3)])
    assert whole.abs().max() == 0  # all of the dot is inside, the border is black
    assert torch.equal(none, dot)
    assert torch.equal(half[:, :, :5], dot[:, :, :5])
    cut = occluded(dot, torch.tensor([[6, 3, 9, 7]]))[0]
    assert cut[0, 4, 6] > 0.3  # a box that cuts the dot keeps some of its colour


def test_hiding_everything_leaves_the_mean_colour():
    picture = torch.rand(3, 8, 8, generator=generator())
    assert torch.allclose(occluded(picture, [(0, 0, 8, 8)])[0], picture.mean((1, 2))[:, None, None].expand(3, 8, 8))


def test_patches_that_stand_out_gain_and_all_others_cost():
    """Four patches of 2 × 2 pixels; one stands out. z is 1.73 there and −0.58 elsewhere; 0.4 is taken off."""
    similarity = torch.tensor([[0.9, 0.1], [0.1, 0.1]])
    boxes = torch.tensor([[[0, 0, 1, 1], [1, 1, 2, 2]], [[0, 0, 2, 2], [0, 0, 2, 1]]])
    found = patches_loss(similarity, boxes, (2, 2))
    out, other = 3**0.5 - 0.4, -(3**-0.5) - 0.4
    expected = [[-out / 4, -other / 4], [-(out + 3 * other) / 4, -(out + other) / 4]]
    assert torch.allclose(found, torch.tensor(expected), atol=1e-4)
    # CLIP's own scale and offset count nothing.
    assert torch.allclose(patches_loss(0.2 + 0.01 * similarity, boxes, (2, 2)), found, atol=1e-3)
    # Between the patches' centres it is interpolated; nothing stands out where all are alike.
    larger = patches_loss(similarity, 4 * boxes, (8, 8))
    assert torch.allclose(larger[1, 0], found[1, 0], atol=0.02) and larger[0, 0] < larger[1, 1] < larger[0, 1]
    assert patches_loss(torch.full((2, 2), 0.3), boxes, (2, 2))[1, 0] == pytest.approx(0.4)


def test_occlusion_is_0_where_hiding_takes_just_the_source_away():
    image, source = torch.tensor([1.0, 1.0, 0.0]), torch.tensor([0.0, 2.0, 0.0])
    hidden = torch.tensor([[1.0, 0.0, 0.0], [1.0, 2.0, 0.0], [0.0, 1.0, 0.0], [1.0, 1.0, 0.0]])
    assert occlusion_loss(hidden, image, source).tolist() == pytest.approx([0, 2, 1, 1])
