"""Exercises of notebook 09: whom nobody beats, a mask from its runs, and two ways to measure a background."""

from __future__ import annotations

import numpy as np
import torch

from lr_helpers.checks.exercise import Exercise


def _points() -> list[tuple]:
    """(quality, background, cost) tables: scattered ones, a tie, two equal methods, and one that is best in nothing."""
    rng = np.random.default_rng(3)
    return [(rng.random((12, 3)).round(1),),
            (np.array([[0.9, 30.0, 100.0], [0.9, 30.0, 200.0], [0.8, 35.0, 100.0]]),),
            (np.array([[0.5, 20.0, 10.0], [0.5, 20.0, 10.0]]),),
            (np.array([[0.9, 20.0, 50.0], [0.5, 40.0, 50.0], [0.7, 30.0, 50.0], [0.6, 29.0, 60.0]]),)]


def _frontier(points: np.ndarray, signs: tuple[int, int, int] = (1, 1, -1), strict: bool = True) -> list[int]:
    worth = points * np.array(signs)
    found = []
    for i, mine in enumerate(worth):
        at_least, more = (worth >= mine).all(1), (worth > mine).any(1)
        beaten = at_least & more if strict else at_least & (np.arange(len(worth)) != i)
        if not beaten.any():
            found.append(i)
    return found


def _clearly(points: np.ndarray) -> list[int]:
    worth = points * np.array([1, 1, -1])
    return [i for i, mine in enumerate(worth) if not (worth > mine).all(1).any()]


def _champions(points: np.ndarray) -> list[int]:
    worth = points * np.array([1, 1, -1])
    return sorted({int(i) for i in worth.argmax(0)})


frontier = Exercise(
    name="frontier", reference=_frontier, cases=_points,
    mistakes={
        "a cost is better when it is lower": lambda points: _frontier(points, (1, 1, 1)),
        "two methods that are equal in everything do not beat each other":
            lambda points: _frontier(points, strict=False),
        "to beat another a method need not be better in everything: as good in all and better in one will do": _clearly,
        "the frontier holds more than the best in each column: nobody beats a good compromise either": _champions,
        "that is the cost left out: a cheap method may be worse and still worth it":
            lambda points: _frontier(np.column_stack([points[:, :2], np.zeros(len(points))])),
    })


def _runs() -> list[tuple]:
    """(runs, height, width): none, single pixels, one over a line's end, several, one to the last pixel."""
    return [([], 4, 5), ([0, 1, 19, 1], 4, 5), ([3, 4], 4, 5), ([6, 2, 11, 2, 16, 2], 5, 5), ([12, 8], 4, 5)]


def _unrolled(runs: list[int], height: int, width: int, last: int = 0, base: int = 0) -> torch.Tensor:
    flat = torch.zeros(height * width, dtype=torch.bool)
    for start, length in zip(runs[::2], runs[1::2], strict=True):
        flat[max(start - base, 0):start - base + length + last] = True
    return flat.reshape(height, width)


def _as_ends(runs: list[int]) -> list[int]:
    return [number for start, end in zip(runs[::2], runs[1::2], strict=True) for number in (start, max(end - start, 0))]


mask_of_runs = Exercise(
    name="mask_of_runs", reference=_unrolled, cases=_runs,
    mistakes={
        "row by row, not column by column": lambda runs, h, w: _unrolled(runs, w, h).T,
        "a run of length n has n pixels, its first one included": lambda runs, h, w: _unrolled(runs, h, w, last=1),
        "the first pixel is number 0": lambda runs, h, w: _unrolled(runs, h, w, base=1),
        "the second number of a pair is a length, not where the run ends":
            lambda runs, h, w: _unrolled(_as_ends(runs), h, w),
        "True in the runs, False elsewhere": lambda runs, h, w: ~_unrolled(runs, h, w),
    })


def _pictures() -> list[tuple]:
    """(before, after, mask): edits inside, outside and on both sides of the mask; small and large masks."""
    rng = torch.Generator().manual_seed(5)
    cases = []
    for size, low, high in ((8, 2, 6), (12, 0, 9), (16, 5, 7)):
        before, noise = torch.rand(2, 3, size, size, generator=rng)
        mask = torch.zeros(size, size)
        mask[low:high, low:high] = 1
        cases.append((before, (before + 0.2 * (noise - 0.5)).clamp(0, 1), mask))
    return cases


def _psnr(error: torch.Tensor) -> float:
    return float(-10 * error.square().mean().log10())


background_psnr = Exercise(
    name="background_psnr", reference=lambda a, b, mask: _psnr((a - b) * (1 - mask)), cases=_pictures, tolerance=1e-3,
    mistakes={
        "that is over the pixels outside only: PIE-Bench averages over all pixels of the masked pictures":
            lambda a, b, mask: _psnr((a - b)[:, mask == 0]),
        "that is the region: 1 − mask is the background": lambda a, b, mask: _psnr((a - b) * mask),
        "that is the whole picture: blacken the region in both first": lambda a, b, mask: _psnr(a - b),
        "that is the mean squared error: PSNR is −10 · log10 of it":
            lambda a, b, mask: float(((a - b) * (1 - mask)).square().mean()),
        "log10, not the natural logarithm":
            lambda a, b, mask: float(-10 * ((a - b) * (1 - mask)).square().mean().log()),
        "for values in 0..1 the peak is 1, not 255":
            lambda a, b, mask: _psnr((a - b) * (1 - mask)) + float(20 * torch.tensor(255.0).log10()),
    })
