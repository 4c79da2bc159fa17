"""Exercises of notebook 08: from boxes to a rate, and from two lists of results to a paired difference."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from lr_helpers.boxes import area as _area
from lr_helpers.boxes import intersection as _intersection
from lr_helpers.boxes import iou as _iou
from lr_helpers.checks.exercise import Exercise, case


def _boxes(count: int, seed: int) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    corner = torch.randint(0, 30, (count, 2), generator=rng)
    return torch.cat([corner, corner + torch.randint(8, 30, (count, 2), generator=rng)], 1)


def _pairs() -> list[tuple]:
    """(chosen, true) boxes: random ones, then pairs of which each is about one thing."""

    def pair(chosen: list, truth: list, about: str) -> tuple:
        return case(torch.tensor([chosen]), torch.tensor([truth]), about=about)

    truths, others = _boxes(40, 1), _boxes(37, 6)
    shifted = truths + torch.randint(-5, 6, (40, 2), generator=torch.Generator().manual_seed(2)).repeat(1, 2)
    moved = others + torch.randint(-4, 5, (37, 4), generator=torch.Generator().manual_seed(7))
    apart = "these boxes share nothing: keep the sides of the shared box from falling below 0 before you multiply them"
    return [(shifted, truths), (moved, others),
            (torch.cat([moved[:9], _boxes(8, 8)]), torch.cat([others[:9], _boxes(8, 9)])),
            pair([0, 0, 10, 10], [0, 0, 10, 20], "an IoU of exactly 0.5 is a hit too: compare with >="),
            pair([0, 0, 10, 49], [0, 0, 10, 99], "an IoU a little below 0.5 is no hit"),
            pair([0, 0, 10, 10], [20, 20, 30, 30], apart), pair([50, 60, 60, 70], [20, 20, 30, 30], apart),
            pair([0, 0, 12, 9], [40, 0, 52, 9], apart),
            pair([0, 0, 4, 4], [0, 0, 4, 9], "the end of a box is exclusive: a side is x1 − x0, without a pixel more"),
            pair([5, 5, 15, 15], [5, 5, 15, 15], "the same box has the IoU 1"),
            pair([0, 0, 40, 40], [10, 10, 20, 20], "a huge box around the true one is no hit: divide by the union"),
            pair([12, 12, 18, 18], [10, 10, 20, 20], "a small box inside the true one is no hit: divide by the union")]


def _hit_rate(chosen: torch.Tensor, truths: torch.Tensor, over: Callable | None = None) -> float:
    shared, a, b = _intersection(chosen, truths), _area(chosen), _area(truths)
    ratio = shared / (a + b - shared) if over is None else over(shared.float(), a.float(), b.float())
    return float((ratio >= 0.5).float().mean())


def _unclamped(chosen: torch.Tensor, truths: torch.Tensor) -> float:
    low, high = torch.maximum(chosen[:, :2], truths[:, :2]), torch.minimum(chosen[:, 2:], truths[:, 2:])
    shared = (high - low).prod(1)
    return float((shared / (_area(chosen) + _area(truths) - shared) >= 0.5).float().mean())


def _clamped_after(chosen: torch.Tensor, truths: torch.Tensor) -> float:
    low, high = torch.maximum(chosen[:, :2], truths[:, :2]), torch.minimum(chosen[:, 2:], truths[:, 2:])
    shared = (high - low).prod(1).clamp(min=0)
    return float((shared / (_area(chosen) + _area(truths) - shared) >= 0.5).float().mean())


def _longer(boxes: torch.Tensor) -> torch.Tensor:
    return boxes + torch.tensor([0, 0, 1, 1])


def _centre_inside(chosen: torch.Tensor, truths: torch.Tensor) -> float:
    centre = (chosen[:, :2] + chosen[:, 2:]) / 2
    return float(((centre >= truths[:, :2]) & (centre < truths[:, 2:])).all(1).float().mean())


def _all_pairs(chosen: torch.Tensor, truths: torch.Tensor) -> torch.Tensor:
    return (_iou(chosen[:, None].float(), truths[None].float()) >= 0.5).float()


def _by_sides(chosen: torch.Tensor, truths: torch.Tensor) -> float:
    def corners(boxes: torch.Tensor) -> torch.Tensor:
        return torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1)

    return float((_iou(corners(chosen).float(), corners(truths).float()) >= 0.5).float().mean())


hit_rate = Exercise(
    name="hit_rate", reference=_hit_rate, cases=_pairs,
    reminder="IoU is the shared area divided by both areas minus the shared one; the rate is the share of IoUs >= 0.5",
    mistakes={
        "that is the mean IoU: count how often it reaches 0.5":
            lambda chosen, truths: float(_iou(chosen.float(), truths.float()).mean()),
        "an IoU of exactly 0.5 is a hit too: compare with >=":
            lambda chosen, truths: float((_iou(chosen.float(), truths.float()) > 0.5).float().mean()),
        "boxes that share nothing have negative sides in common: clamp them to 0 before you multiply": (
            _unclamped, _clamped_after,
            lambda chosen, truths: float(((torch.minimum(chosen[:, 2:], truths[:, 2:]) - torch.maximum(
                chosen[:, :2], truths[:, :2])).abs().prod(1) / (_area(chosen) + _area(truths) - (torch.minimum(
                    chosen[:, 2:], truths[:, 2:]) - torch.maximum(chosen[:, :2], truths[:, :2])).abs().prod(1)) >= 0.5
            ).float().mean())),
        "divide the shared area by the area of the union, not by the true box's: a huge box would always hit":
            lambda chosen, truths: _hit_rate(chosen, truths, lambda shared, a, b: shared / b),
        "divide the shared area by the area of the union, not by the chosen box's: a tiny box would often hit":
            lambda chosen, truths: _hit_rate(chosen, truths, lambda shared, a, b: shared / a),
        "divide the shared area by the area of the union, not by the smaller or larger of both": (
            lambda chosen, truths: _hit_rate(chosen, truths, lambda shared, a, b: shared / torch.minimum(a, b)),
            lambda chosen, truths: _hit_rate(chosen, truths, lambda shared, a, b: shared / torch.maximum(a, b))),
        "the shared area is counted twice in the sum of both areas: take it off once for the union": (
            lambda chosen, truths: _hit_rate(chosen, truths, lambda shared, a, b: shared / (a + b))),
        "that is the Dice coefficient, 2 · shared / (a + b): IoU divides by the union": (
            lambda chosen, truths: _hit_rate(chosen, truths, lambda shared, a, b: 2 * shared / (a + b))),
        "the end of a box is exclusive: a side is x1 − x0, without a pixel more":
            lambda chosen, truths: _hit_rate(_longer(chosen), _longer(truths)),
        "a centre inside says nothing of the size: take the IoU": _centre_inside,
        "that is the number of hits: divide it by the number of boxes":
            lambda chosen, truths: float((_iou(chosen.float(), truths.float()) >= 0.5).sum()),
        "a rate lies between 0 and 1: don't make a whole number of it": (
            lambda chosen, truths: int(_hit_rate(chosen, truths)),
            lambda chosen, truths: round(_hit_rate(chosen, truths))),
        "that is the share of misses": lambda chosen, truths: 1 - _hit_rate(chosen, truths),
        "a rate lies in 0..1: it is not asked for in per cent": lambda chosen, truths: 100 * _hit_rate(chosen, truths),
        "each chosen box has its own true box, in the same row: don't compare all with all": (
            lambda chosen, truths: float(_all_pairs(chosen, truths).mean()),
            lambda chosen, truths: float(_all_pairs(chosen, truths).amax(1).mean())),
        "the last two numbers of a box are its other corner, not its width and height": _by_sides,
        "a hit needs an IoU of 0.5, not of more or of anything above 0": (
            lambda chosen, truths: float((_iou(chosen.float(), truths.float()) >= 0.75).float().mean()),
            lambda chosen, truths: float((_iou(chosen.float(), truths.float()) > 0).float().mean())),
    })


def _results() -> list[tuple]:
    rng = np.random.default_rng(0)
    cases = []
    for n, gain in ((200, 0.3), (30, 0.05), (12, -0.4)):
        hard = rng.random(n)  # the tasks differ, and both methods feel it
        theirs, ours = (hard > 0.5).astype(float), (hard + gain + 0.1 * rng.standard_normal(n) > 0.5).astype(float)
        cases.append((ours, theirs, rng.integers(0, n, (400, n))))
    scores = rng.normal(size=(2, 25)) * [[3.0], [1.0]]
    return [*cases, case(*scores, rng.integers(0, 25, (999, 25)), about="results may be any numbers, not only 0 and 1"),
            case(np.ones(6), np.ones(6), rng.integers(0, 6, (50, 6)), about="without any difference all three are 0")]


def _of(values: np.ndarray, draws: np.ndarray, outside: float = 5.0, average: Callable | None = None) -> tuple:
    means = values[draws].mean(1) if average is None else average(values[draws])
    low, high = np.percentile(means, (outside / 2, 100 - outside / 2))
    return float(values.mean()), float(low), float(high)


def _unpaired(ours: np.ndarray, theirs: np.ndarray, draws: np.ndarray,
              other: Callable = lambda draws: np.roll(draws, 1, axis=0)) -> tuple[float, float, float]:
    """The two resampled apart, theirs by `other` draws."""
    means = ours[draws].mean(1) - theirs[other(draws)].mean(1)
    return float(ours.mean() - theirs.mean()), *(float(v) for v in np.percentile(means, (2.5, 97.5)))


def _apart(ours: np.ndarray, theirs: np.ndarray, draws: np.ndarray) -> tuple[float, float, float]:
    (a, b), (c, d) = (np.percentile(v[draws].mean(1), (2.5, 97.5)) for v in (ours, theirs))
    return float(ours.mean() - theirs.mean()), float(a - c), float(b - d)


def _normal(ours: np.ndarray, theirs: np.ndarray, draws: np.ndarray, ddof: int = 1) -> tuple[float, float, float]:
    d = ours - theirs
    half = 1.96 * d.std(ddof=ddof) / len(d) ** 0.5
    return float(d.mean()), float(d.mean() - half), float(d.mean() + half)


def _normal_of_means(ours: np.ndarray, theirs: np.ndarray, draws: np.ndarray) -> tuple[float, float, float]:
    d = ours - theirs
    half = 1.96 * d[draws].mean(1).std()
    return float(d.mean()), float(d.mean() - half), float(d.mean() + half)


def _picked(values: np.ndarray, draws: np.ndarray, whole: Callable) -> tuple[float, float, float]:
    """By places in the sorted means."""
    means = np.sort(values[draws].mean(1))
    return float(values.mean()), float(means[whole(0.025 * len(means))]), float(means[whole(0.975 * len(means))])


def _by_method(method: str, ours: np.ndarray, theirs: np.ndarray, draws: np.ndarray) -> tuple[float, float, float]:
    low, high = np.percentile((ours - theirs)[draws].mean(1), (2.5, 97.5), method=method)
    return float((ours - theirs).mean()), float(low), float(high)


paired_difference = Exercise(
    name="paired_difference", reference=lambda ours, theirs, draws: _of(ours - theirs, draws), cases=_results,
    reminder="the mean of the differences on the same tasks, and the 2.5th and 97.5th percentile of the means of their "
             "resamples",
    mistakes={
        "the other way round: ours minus theirs": lambda ours, theirs, draws: _of(theirs - ours, draws),
        "both must be resampled by the same draws, or the tasks' own differences come back as noise": (
            _unpaired, lambda ours, theirs, draws: _unpaired(ours, theirs, draws, np.flipud)),
        "take the interval of the difference, not the difference of two intervals": _apart,
        "those are percentiles of the single differences: average each resample, then take percentiles": (
            lambda ours, theirs, draws: (float((ours - theirs).mean()), *map(float, np.percentile(ours - theirs, (2.5,
                97.5)))),
            lambda ours, theirs, draws: (float((ours - theirs).mean()), *map(float, np.percentile(
                (ours - theirs)[draws], (2.5, 97.5))))),
        "95 % leave 2.5 % out on each side, not 5 %": lambda ours, theirs, draws: _of(ours - theirs, draws, 10.0),
        "95 % leave 2.5 % out on each side: percentiles 2.5 and 97.5, not others": (
            lambda ours, theirs, draws: _of(ours - theirs, draws, 50.0), lambda ours, theirs, draws: _of(
                ours - theirs, draws, 1.0), lambda ours, theirs, draws: _of(ours - theirs, draws, 32.0)),
        "np.percentile counts from 0 to 100: 2.5, not 0.025": lambda ours, theirs, draws: (
            float((ours - theirs).mean()), *map(float, np.percentile((ours - theirs)[draws].mean(1), (0.025, 0.975)))),
        "these are the lowest and the highest mean of all resamples: leave 2.5 % out on each side": (
            lambda ours, theirs, draws: _of(ours - theirs, draws, 0.0)),
        "that is the interval of ours alone: take the difference first": (
            lambda ours, theirs, draws: _of(ours, draws), lambda ours, theirs, draws: (
                float((ours - theirs).mean()), *_of(ours, draws)[1:])),
        "a row of draws is a resample: average along axis 1": lambda ours, theirs, draws: _of(
            ours - theirs, draws, average=lambda d: d.mean(0)),
        "the middle value is the mean of the differences themselves, not of the resamples": (
            lambda ours, theirs, draws: (float((ours - theirs)[draws].mean()), *_of(ours - theirs, draws)[1:]),
            lambda ours, theirs, draws: (float(np.median((ours - theirs)[draws].mean(1))), *_of(ours - theirs,
                draws)[1:])),
        "the mean is asked for, not the median": (
            lambda ours, theirs, draws: _of(ours - theirs, draws, average=lambda d: np.median(d, axis=1)),
            lambda ours, theirs, draws: (float(np.median(ours - theirs)), *_of(ours - theirs, draws)[1:])),
        "the interval comes from the resamples, not from 1.96 standard errors": (
            _normal, lambda ours, theirs, draws: _normal(ours, theirs, draws, 0), _normal_of_means),
        "np.percentile interpolates between two of the sorted means: to pick one of them gives another number": (
            lambda ours, theirs, draws: _picked(ours - theirs, draws, int),
            lambda ours, theirs, draws: _picked(ours - theirs, draws, round),
            *(partial(_by_method, method) for method in ("nearest", "lower", "higher"))),
        "the order is mean, low, high": (
            lambda ours, theirs, draws: tuple(_of(ours - theirs, draws)[i] for i in (0, 2, 1)),
            lambda ours, theirs, draws: tuple(_of(ours - theirs, draws)[i] for i in (1, 0, 2)),
            lambda ours, theirs, draws: tuple(_of(ours - theirs, draws)[i] for i in (1, 2, 0))),
        "low and high are the ends of the interval themselves, not how far they are from the mean": (
            lambda ours, theirs, draws: (lambda m, a, b: (m, m - a, b - m))(*_of(ours - theirs, draws))),
        "keep the sign of the differences: no absolute values":
            lambda ours, theirs, draws: _of(abs(ours - theirs), draws),
        "a difference, not a ratio in shares of theirs": lambda ours, theirs, draws: _of(
            (ours - theirs) / max(abs(theirs.mean()), 1e-9), draws),
    })
