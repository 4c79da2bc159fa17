"""Exercises of notebook 08: from boxes to a rate, and from two lists of results to a paired difference."""

from __future__ import annotations

import numpy as np
import torch

from lr_helpers.boxes import area as _area
from lr_helpers.boxes import intersection as _intersection
from lr_helpers.boxes import iou as _iou
from lr_helpers.checks.exercise import Exercise


def _boxes(count: int, seed: int) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    corner = torch.randint(0, 30, (count, 2), generator=rng)
    return torch.cat([corner, corner + torch.randint(8, 30, (count, 2), generator=rng)], 1)


def _pairs() -> list[tuple]:
    """(chosen, true) boxes: overlapping ones, one pair with an IoU of just 0.5, and boxes inside others."""
    truths = _boxes(40, 1)
    shifted = truths + torch.randint(-5, 6, (40, 2), generator=torch.Generator().manual_seed(2)).repeat(1, 2)
    just = torch.tensor([[0, 0, 10, 10]]), torch.tensor([[0, 0, 10, 20]])
    inside = truths + torch.tensor([2, 2, -2, -2])
    return [(shifted, truths), just, (inside, truths), (_boxes(5, 3), _boxes(5, 3))]


def _hit_rate(chosen: torch.Tensor, truths: torch.Tensor) -> float:
    return float((_iou(chosen.float(), truths.float()) >= 0.5).float().mean())


def _centre_inside(chosen: torch.Tensor, truths: torch.Tensor) -> float:
    centre = (chosen[:, :2] + chosen[:, 2:]) / 2
    return float(((centre >= truths[:, :2]) & (centre < truths[:, 2:])).all(1).float().mean())


def _covered(chosen: torch.Tensor, truths: torch.Tensor) -> float:
    return float((_intersection(chosen, truths) / _area(truths) >= 0.5).float().mean())


hit_rate = Exercise(
    name="hit_rate", reference=_hit_rate, cases=_pairs,
    mistakes={
        "that is the mean IoU: count how often it reaches 0.5":
            lambda chosen, truths: float(_iou(chosen.float(), truths.float()).mean()),
        "an IoU of exactly 0.5 is a hit too":
            lambda chosen, truths: float((_iou(chosen.float(), truths.float()) > 0.5).float().mean()),
        "divide the shared area by the area of the union, not by the true box's: a huge box would always hit": _covered,
        "a centre inside says nothing of the size: take the IoU": _centre_inside,
        "that is the number of hits: divide it by the number of boxes":
            lambda chosen, truths: float((_iou(chosen.float(), truths.float()) >= 0.5).sum()),
    })


def _results() -> list[tuple]:
    rng = np.random.default_rng(0)
    cases = []
    for n, gain in ((200, 0.3), (30, 0.0), (12, -0.4)):
        hard = rng.random(n)  # the tasks differ, and both methods feel it
        theirs, ours = (hard > 0.5).astype(float), (hard + gain + 0.1 * rng.standard_normal(n) > 0.5).astype(float)
        cases.append((ours, theirs, rng.integers(0, n, (400, n))))
    return cases


def _interval(values: np.ndarray, draws: np.ndarray, outside: float = 5.0) -> tuple[float, float, float]:
    low, high = np.percentile(values[draws].mean(1), (outside / 2, 100 - outside / 2))
    return float(values.mean()), float(low), float(high)


def _unpaired(ours: np.ndarray, theirs: np.ndarray, draws: np.ndarray) -> tuple[float, float, float]:
    means = ours[draws].mean(1) - theirs[np.roll(draws, 1, axis=0)].mean(1)
    return float(ours.mean() - theirs.mean()), *(float(v) for v in np.percentile(means, (2.5, 97.5)))


def _spread(ours: np.ndarray, theirs: np.ndarray, draws: np.ndarray) -> tuple[float, float, float]:
    low, high = np.percentile(ours - theirs, (2.5, 97.5))
    return float((ours - theirs).mean()), float(low), float(high)


paired_difference = Exercise(
    name="paired_difference", reference=lambda ours, theirs, draws: _interval(ours - theirs, draws), cases=_results,
    mistakes={
        "the other way round: ours less theirs": lambda ours, theirs, draws: _interval(theirs - ours, draws),
        "both must be resampled by the same draws, or the tasks' own differences come back as noise": _unpaired,
        "those are percentiles of the single differences: average each resample, then take percentiles": _spread,
        "95 % leave 2.5 % out on each side, not 5 %": lambda ours, theirs, draws: _interval(ours - theirs, draws, 10.0),
        "that is the interval of ours alone: take the difference first":
            lambda ours, theirs, draws: _interval(ours, draws),
    })
