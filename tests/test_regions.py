"""From logits to a mask: Gumbel-softmax, straight-through, and the weighted sum of the proposals' masks."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from lr_helpers.boxes import box_mask
from lr_helpers.errors import UserError
from lr_helpers.intervals import rate
from lr_helpers.regions import gumbel_softmax, region_mask, straight_through


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def uniform(*shape, seed=0):
    return torch.rand(*shape, generator=generator(seed))


# Gumbel-softmax


@given(temperature=st.floats(1e-6, 1e6), seed=st.integers(0, 1000), scale=st.floats(0, 100))
@settings(max_examples=50, deadline=None)
def test_a_soft_sample_is_a_distribution(temperature, seed, scale):
    logits = torch.randn(3, 5, generator=generator(seed)) * scale
    sample = gumbel_softmax(logits, temperature, uniform(3, 5, seed=seed))
    assert sample.shape == logits.shape
    assert (sample >= 0).all()
    torch.testing.assert_close(sample.sum(-1), torch.ones(3))


def test_it_is_what_torch_computes_from_the_same_noise():
    logits = torch.randn(4, 6, generator=generator())
    noise = uniform(4, 6, seed=1)
    expected = F.softmax((logits - (-noise.log()).log()) / 0.7, dim=-1)
    torch.testing.assert_close(gumbel_softmax(logits, 0.7, noise), expected)


def test_the_largest_value_follows_the_softmax_at_every_temperature():
    logits, count = torch.tensor([1.0, 0.0, -1.0, 0.5]), 20_000
    noise = uniform(count, 4)
    chosen = [gumbel_softmax(logits.expand(count, 4), t, noise).argmax(-1) for t in (0.05, 1.0, 20.0)]
    assert torch.equal(chosen[0], chosen[1])
    assert torch.equal(chosen[1], chosen[2])
    for m, p in enumerate(logits.softmax(-1).tolist()):
        found = rate(int((chosen[0] == m).sum()), count)
        assert found["low"] - 0.01 < p < found["high"] + 0.01


def test_low_temperatures_are_hard_and_high_ones_even():
    logits = torch.randn(50, 6, generator=generator())
    hardness = [gumbel_softmax(logits, t, uniform(50, 6)).amax(-1).mean() for t in (0.01, 0.3, 1.0, 3.0, 1000.0)]
    assert hardness == sorted(hardness, reverse=True)
    assert hardness[0] > 0.97
    assert hardness[-1] == pytest.approx(1 / 6, abs=0.01)


@pytest.mark.parametrize("edge", [0.0, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_numbers_at_the_edge_stay_finite(edge, dtype):
    logits = torch.zeros(2, 3, dtype=dtype, requires_grad=True)
    sample = gumbel_softmax(logits, 0.1, torch.full((2, 3), edge))
    sample[:, 0].sum().backward()
    assert sample.dtype == dtype
    assert sample.isfinite().all()
    assert logits.grad.isfinite().all()


def test_gradients_are_those_of_finite_differences():
    logits, noise = torch.randn(2, 4, generator=generator(), dtype=torch.float64), uniform(2, 4).double()
    assert torch.autograd.gradcheck(lambda x: gumbel_softmax(x, 0.8, noise), logits.requires_grad_())


@pytest.mark.parametrize("temperature", [0, 0.0, -1.0, float("nan")])
def test_a_temperature_that_is_not_above_0_is_refused(temperature):
    with pytest.raises(UserError, match="temperature is"):
        gumbel_softmax(torch.zeros(3), temperature, torch.rand(3))


def test_each_logit_needs_its_own_number():
    with pytest.raises(UserError, match=r"uniform has the shape \(3,\)"):
        gumbel_softmax(torch.zeros(2, 3), 1.0, torch.rand(3))


# Straight-through


def test_forward_is_exactly_one_hot_and_backward_that_of_the_soft():
    logits, weight = torch.randn(7, 5, generator=generator()) * 3, torch.randn(7, 5, generator=generator(1))
    gradients = []
    for choose in (straight_through, lambda soft: soft):
        leaf = logits.clone().requires_grad_()
        out = choose(leaf.softmax(-1))
        (out * weight).sum().backward()
        gradients.append(leaf.grad)
        if choose is straight_through:
            assert set(out.unique().tolist()) == {0.0, 1.0}
            assert torch.equal(out.argmax(-1), logits.argmax(-1))
            assert torch.equal(out.sum(-1), torch.ones(7))
    assert torch.equal(*gradients)
    assert gradients[0].abs().sum() > 0


def test_of_equal_values_the_first_wins():
    assert straight_through(torch.full((2, 3), 1 / 3)).tolist() == [[1, 0, 0], [1, 0, 0]]


# Mask


def test_one_hot_weights_give_the_mask_of_that_box():
    boxes = torch.tensor([[1, 2, 5, 4], [0, 0, 8, 8], [3, 3, 4, 8]])
    for m, box in enumerate(boxes):
        assert torch.equal(region_mask(torch.eye(3)[m], boxes, 8), box_mask(box, 8, 8))


def test_a_mask_is_the_weighted_sum_for_every_anchor():
    boxes = torch.tensor([[[0, 0, 4, 4], [2, 0, 6, 3]], [[1, 1, 2, 6], [0, 0, 6, 6]]])
    weights = torch.tensor([[0.25, 0.75], [0.9, 0.1]])
    masks = region_mask(weights, boxes, 6)
    assert masks.shape == (2, 1, 6, 6)
    for k in range(2):
        expected = sum(w * box_mask(b, 6, 6) for w, b in zip(weights[k], boxes[k], strict=True))
        torch.testing.assert_close(masks[k], expected)
    assert masks.min() >= 0
    assert masks.max() <= 1 + 1e-6


def test_the_gradient_of_a_weight_is_what_its_box_covers():
    boxes, weights = torch.tensor([[0, 0, 2, 3], [0, 0, 5, 5]]), torch.tensor([0.5, 0.5], requires_grad=True)
    region_mask(weights, boxes, 5).sum().backward()
    assert weights.grad.tolist() == [6, 25]


def test_a_box_beyond_the_picture_is_cut_and_an_empty_one_is_nothing():
    boxes = torch.tensor([[-3, -3, 2, 2], [4, 1, 4, 5]])
    assert region_mask(torch.tensor([1.0, 0.0]), boxes, 5).sum() == 4
    assert region_mask(torch.tensor([0.0, 1.0]), boxes, 5).sum() == 0


@pytest.mark.parametrize("shape", [(2, 4), (3, 3), (4,)])
def test_there_must_be_one_box_for_each_weight(shape):
    with pytest.raises(UserError, match="one box of four numbers for each weight"):
        region_mask(torch.ones(3), torch.zeros(shape, dtype=torch.int64), 8)


def test_the_whole_way_from_logits_to_a_mask_learns_the_right_size():
    boxes = torch.tensor([[6, 6, 10, 10], [4, 4, 12, 12], [0, 0, 16, 16]])
    truth, logits = box_mask([4, 4, 12, 12], 16, 16), torch.zeros(3, requires_grad=True)
    optimiser, source = torch.optim.Adam([logits], lr=0.1), generator()
    for _ in range(100):
        chosen = straight_through(gumbel_softmax(logits, 1.0, torch.rand(3, generator=source)))
        loss = (region_mask(chosen, boxes, 16) - truth).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert logits.argmax() == 1
    assert logits.softmax(-1)[1] > 0.8


# The two exercises on RoIAlign, taken together, are RoIAlign


def test_points_and_pooling_are_torchvisions_roi_align():
    from torchvision.ops import roi_align

    from lr_helpers import checks

    features = torch.randn(5, 9, 12, generator=generator())
    for box in ([0, 0, 48, 36], [3, 5, 20, 30], [40, 1, 48, 9], [10, 10, 11, 36]):
        box = torch.tensor(box)
        points = checks.sample_points.reference(box, 0.25, 7)
        expected = roi_align(features[None], [box[None].float()], 7, 0.25, sampling_ratio=1, aligned=True)[0]
        torch.testing.assert_close(checks.pool_box.reference(features, points), expected, rtol=1e-4, atol=1e-5)
