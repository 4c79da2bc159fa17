"""Ways to choose anchors beside the K most attended patches: keeping a distance, and the official border rule."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lr_helpers.anchors import inside_anchors, spread_anchors, top_anchors
from lr_helpers.errors import UserError


def random_attention(seed=0, heads=3, h=6, w=9):
    return torch.rand(heads, h, w, generator=torch.Generator().manual_seed(seed))


def peaks(h, w, *places):
    """Attention with these peaks (row, column), the first the highest."""
    attention = torch.zeros(1, h, w)
    for i, (row, column) in enumerate(places):
        attention[0, row, column] = len(places) - i
    return attention


# Keeping a distance


def test_distance_zero_is_the_plain_choice():
    attention = random_attention()
    for distance in (0, 1):
        assert spread_anchors(attention, 54, distance).tolist() == top_anchors(attention, 54).tolist()


def test_a_peak_too_near_to_any_chosen_one_is_passed_over():
    attention = peaks(6, 9, (1, 1), (1, 2), (4, 7), (3, 6), (1, 4))
    assert spread_anchors(attention, 3, 2).tolist() == [[1, 1], [4, 7], [1, 4]]


@pytest.mark.parametrize(("distance", "second"), [(math.sqrt(2), [2, 2]), (1.5, [1, 3]), (2, [1, 3]), (2.01, [5, 8])])
def test_distance_is_euclidean_and_exactly_that_far_is_far_enough(distance, second):
    attention = peaks(6, 9, (1, 1), (2, 2), (1, 3), (5, 8))
    assert spread_anchors(attention, 2, distance)[1].tolist() == second


def test_ties_go_to_reading_order():
    assert spread_anchors(torch.ones(2, 4, 5), 4, 2).tolist() == [[0, 0], [0, 2], [0, 4], [2, 0]]


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 1000), count=st.integers(1, 5), distance=st.floats(0, 2.5))
def test_anchors_keep_their_distance_and_stand_in_order(seed, count, distance):
    attention = random_attention(seed)
    anchors = spread_anchors(attention, count, distance)
    apart = torch.pdist(anchors.double())
    assert anchors.shape == (count, 2) and anchors.dtype == torch.int64
    assert count == 1 or apart.min() >= max(distance, 1)
    strength = attention.mean(0)[anchors[:, 0], anchors[:, 1]]
    assert (strength.diff() <= 0).all()
    assert anchors[0].tolist() == top_anchors(attention, 1)[0].tolist()


def test_too_many_for_the_distance_is_answered():
    with pytest.raises(UserError, match=r"distance is 4 patches, which leaves room for \d anchors on 6×9"):
        spread_anchors(random_attention(), 20, 4)
    with pytest.raises(UserError, match="54 patches"):
        spread_anchors(random_attention(), 55, 0)


@pytest.mark.parametrize("distance", [-1, float("nan")])
def test_no_negative_distance(distance):
    with pytest.raises(UserError, match="distance is"):
        spread_anchors(random_attention(), 1, distance)


# The border rule


def test_border_patches_are_passed_over():
    attention = peaks(6, 9, (0, 4), (3, 8), (2, 5), (5, 0), (3, 2))
    assert inside_anchors(attention, 2, 2).tolist() == [[2, 5], [3, 2]]
    assert inside_anchors(attention, 2, 0).tolist() == [[0, 4], [3, 8]]


@pytest.mark.parametrize(("h", "w", "margin"), [(6, 9, 1), (9, 6, 2), (32, 32, 15)])
def test_the_patches_that_fit_come_first(h, w, margin):
    attention = random_attention(1, h=h, w=w)
    fitting = (h - 2 * margin) * (w - 2 * margin)
    anchors = inside_anchors(attention, fitting + 3, margin)
    room = torch.stack([anchors[:, 0], anchors[:, 1], h - 1 - anchors[:, 0], w - 1 - anchors[:, 1]]).amin(0)
    assert (room[:fitting] >= margin).all() and (room[fitting:] < margin).all()
    assert len({tuple(a) for a in anchors.tolist()}) == fitting + 3


def test_the_others_are_taken_after_all_when_too_few_fit():
    attention = peaks(6, 6, (0, 4), (5, 5), (2, 2))
    assert inside_anchors(attention, 6, 2).tolist() == [[2, 2], [2, 3], [3, 2], [3, 3], [0, 4], [5, 5]]
    assert inside_anchors(attention, 3, 10).tolist() == top_anchors(attention, 3).tolist()


def test_bad_counts_and_margins_are_answered():
    with pytest.raises(UserError, match="margin is -1"):
        inside_anchors(random_attention(), 3, -1)
    for count in (0, 55):
        with pytest.raises(UserError, match="54 patches"):
            inside_anchors(random_attention(), count, 1)
