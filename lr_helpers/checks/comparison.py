"""Exercises of notebook 09: whom nobody beats, a mask from its runs, and two ways to measure a background."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch

from lr_helpers.checks.exercise import Exercise, case


def _points() -> list[tuple]:
    """(quality, background, cost) tables: scattered ones, a tie, two equal methods, and one that is best in nothing."""
    rng = np.random.default_rng(3)
    return [(rng.random((12, 3)).round(1) * [1, 40, 500],), (rng.random((9, 3)) * [1, 40, 500],),
            (rng.random((15, 3)).round(1) * [1, 40, 500],),
            case(np.array([[0.9, 30.0, 100.0], [0.9, 30.0, 200.0], [0.8, 35.0, 100.0]]),
                 about="to be beaten it is enough to be as good in two things and worse in one"),
            case(np.array([[0.5, 20.0, 10.0], [0.5, 20.0, 10.0]]),
                 about="two methods that are equal in everything do not beat each other"),
            case(np.array([[0.9, 20.0, 50.0], [0.5, 40.0, 50.0], [0.7, 30.0, 50.0], [0.6, 29.0, 60.0]]),
                 about="the frontier holds good compromises too, not only the best in each thing"),
            case(np.array([[0.1, 10.0, 1.0], [0.9, 30.0, 100.0]]),
                 about="a cost is better when it is lower: a cheap method may be worse and still worth it"),
            case(np.array([[0.3, 12.0, 7.0]]), about="a single method is beaten by nobody"),
            case(np.array([[0.9, 30.0, 100.0], [0.9, 25.0, 100.0], [0.8, 30.0, 100.0], [0.9, 30.0, 150.0]]),
                 about="to be beaten it is enough to be as good in two things and worse in one, whichever that is"),
            case(np.array([[0.9, 30.0, 100.0], [0.91, 30.0, 100.0]]),
                 about="a small difference is one, too: compare the numbers as they are"),
            case(np.array([[0.9, 30.0, 100.0], [0.9, 30.004, 100.0], [0.9, 30.004, 99.996]]),
                 about="a small difference is one, too: compare the numbers as they are")]


def _frontier(points: np.ndarray, signs: tuple[int, int, int] = (1, 1, -1), strict: bool = True) -> list[int]:
    worth = points * np.array(signs)
    found = []
    for i, mine in enumerate(worth):
        at_least, more = (worth >= mine).all(1), (worth > mine).any(1)
        beaten = at_least & more if strict else at_least & (np.arange(len(worth)) != i)
        if not beaten.any():
            found.append(i)
    return found


def _by(beats: Callable) -> Callable:
    """A frontier with another rule of who beats whom: `beats(worths of all, worth of one)`."""

    def find(points: np.ndarray) -> list[int]:
        worth = points * np.array([1, 1, -1])
        return [i for i, mine in enumerate(worth) if not beats(worth, mine).any()]

    return find


def _only_once(points: np.ndarray) -> list[int]:
    """Of equal methods only the first."""
    return [i for i in _frontier(points) if not any((points[i] == points[j]).all() for j in range(i))]


def _by_those_before(points: np.ndarray, among_taken: bool = False) -> list[int]:
    """Compares each with those above it, or with those of them that were taken."""
    worth, found = points * np.array([1, 1, -1]), []
    for i, mine in enumerate(worth):
        others = worth[found if among_taken else range(i)].reshape(-1, 3)
        if not ((others >= mine).all(1) & (others > mine).any(1)).any():
            found.append(i)
    return found


def _champions(points: np.ndarray) -> list[int]:
    worth = points * np.array([1, 1, -1])
    return sorted({int(i) for i in worth.argmax(0)})


def _without(column: int) -> Callable:
    return lambda points: _frontier(np.where(np.arange(3) == column, 0, points))


frontier = Exercise(
    name="frontier", reference=_frontier, cases=_points,
    reminder="j beats i if it is at least as good in all three, cost counted the other way, and better in one",
    mistakes={
        "a cost is better when it is lower": lambda points: _frontier(points, (1, 1, 1)),
        "quality and background are better when they are higher": (
            lambda points: _frontier(points, (-1, -1, -1)), lambda points: _frontier(points, (-1, -1, 1)),
            lambda points: _frontier(points, (-1, 1, -1)), lambda points: _frontier(points, (1, -1, -1))),
        "two methods that are equal in everything do not beat each other": (
            lambda points: _frontier(points, strict=False), _only_once),
        "a method further down can beat one above it: compare each with all, not only with those before it": (
            _by_those_before, lambda points: _by_those_before(points, among_taken=True)),
        "a method is as good as itself: that doesn't beat it": _by(lambda worth, mine: (worth >= mine).all(1)),
        "to beat another a method need not be better in everything: as good in all and better in one will do":
            _by(lambda worth, mine: (worth > mine).all(1)),
        "to beat another a method has to be at least as good in all three, not only in some": (
            _by(lambda worth, mine: (worth > mine).any(1)), _by(lambda worth, mine: (worth > mine).sum(1) >= 2),
            _by(lambda worth, mine: (worth >= mine).sum(1) > (worth <= mine).sum(1))),
        "the frontier holds more than the best in each column: nobody beats a good compromise either": _champions,
        "that is the cost left out: a cheap method may be worse and still worth it": _without(2),
        "that is the background left out: all three things count": _without(1),
        "that is the quality left out: all three things count": _without(0),
        "three things can't be added up: a method is beaten only by one that is as good in each": (
            lambda points: [int((points * [1, 1, -1]).sum(1).argmax())],
            _by(lambda worth, mine: worth.sum(1) > mine.sum())),
        "these are the ones that are beaten":
            lambda points: [i for i in range(len(points)) if i not in _frontier(points)],
        "return the indices, not a mask of True and False": (
            lambda points: np.isin(np.arange(len(points)), _frontier(points)),
            lambda points: np.isin(np.arange(len(points)), _frontier(points)).tolist()),
        "return the indices, not the rows of the table": lambda points: points[_frontier(points)].tolist(),
        "the indices rise": (lambda points: _frontier(points)[::-1], lambda points: sorted(
            _frontier(points), key=lambda i: (-points[i, 0], i)), lambda points: sorted(
                _frontier(points), key=lambda i: (points[i, 2], i))),
        "indices count from 0": lambda points: [i + 1 for i in _frontier(points)],
        "that is only the first: return all that nobody beats": lambda points: _frontier(points)[:1],
    })


def _runs() -> list[tuple]:
    """(runs, height, width): several, single pixels, one over a line's end, one to the last pixel, none."""
    rng = np.random.default_rng(8)
    starts = np.sort(rng.choice(20, 5, replace=False)) * 6
    random = [int(n) for pair in zip(starts, rng.integers(1, 6, 5), strict=True) for n in pair]
    return [([6, 2, 11, 2, 16, 2], 5, 5), (random, 8, 15), (random, 15, 8), ([2, 3, 9, 1], 3, 6),
            case([0, 1, 19, 1], 4, 5, about="a run may be a single pixel, also the first or the last: the first is "
                                            "number 0"),
            case([3, 4], 4, 5, about="a run may go on over the end of a row"),
            case([12, 8], 4, 5, about="a run may go to the last pixel"),
            case([], 4, 5, about="there may be no run at all: then nothing is in the mask"),
            case([0, 20], 4, 5, about="a run may cover all of the mask"),
            case([3, 4, 7, 2, 12, 3], 4, 5, about="runs may touch: then one begins right where another ends")]


def _unrolled(runs: list[int], height: int, width: int, last: int = 0, base: int = 0) -> torch.Tensor:
    flat = torch.zeros(height * width, dtype=torch.bool)
    for start, length in zip(runs[::2], runs[1::2], strict=True):
        flat[max(start - base, 0):start - base + length + last] = True
    return flat.reshape(height, width)


def _as_ends(runs: list[int], last: int = 0) -> list[int]:
    return [n for start, end in zip(runs[::2], runs[1::2], strict=True) for n in (start, max(end + last - start, 0))]


def _alternating(runs: list[int], height: int, width: int) -> torch.Tensor:
    flat, at = torch.zeros(height * width, dtype=torch.bool), 0
    for i, length in enumerate(runs):
        flat[at:at + length] = bool(i % 2)
        at += length
    return flat.reshape(height, width)


def _in_row(runs: list[int], height: int, width: int) -> torch.Tensor:
    mask = torch.zeros(height, width, dtype=torch.bool)
    for start, length in zip(runs[::2], runs[1::2], strict=True):
        row, column = divmod(start, width)
        mask[row, column:column + length] = True
    return mask


def _gaps(runs: list[int], height: int, width: int) -> torch.Tensor:
    flat, at = torch.zeros(height * width, dtype=torch.bool), 0
    for start, length in zip(runs[::2], runs[1::2], strict=True):
        flat[at + start:at + start + length] = True
        at += start + length
    return flat.reshape(height, width)


mask_of_runs = Exercise(
    name="mask_of_runs", reference=_unrolled, cases=_runs,
    reminder="in a flat mask of height · width pixels set start:start + length to True for each pair; reshape to "
             "(height, width)",
    mistakes={
        "row by row, not column by column": (
            lambda runs, h, w: _unrolled(runs, w, h).T, lambda runs, h, w: _unrolled(runs, w, h)),
        "a run of length n has n pixels, its first one included": (
            lambda runs, h, w: _unrolled(runs, h, w, last=1), lambda runs, h, w: _unrolled(runs, h, w, last=-1)),
        "the first pixel is number 0": lambda runs, h, w: _unrolled(runs, h, w, base=1),
        "a run begins with the pixel `start` itself, not behind it":
            lambda runs, h, w: _unrolled([n + (i % 2 == 0) for i, n in enumerate(runs)], h, w),
        "the second number of a pair is a length, not where the run ends": (
            lambda runs, h, w: _unrolled(_as_ends(runs), h, w), lambda runs, h, w: _unrolled(_as_ends(runs, 1), h, w)),
        "the first number of a pair is where the run starts in the picture, not how long a gap is":
            (_alternating, _gaps),
        "start comes first, then length": lambda runs, h, w: _unrolled(
            [runs[i ^ 1] for i in range(len(runs))], h, w),
        "True in the runs, False elsewhere": lambda runs, h, w: ~_unrolled(runs, h, w),
        "every run counts, not only the first": lambda runs, h, w: _unrolled(runs[:2], h, w),
        "every run counts, the last one as well": lambda runs, h, w: _unrolled(runs[:-2], h, w),
        "every run counts: the last one does not wipe out the others": lambda runs, h, w: _unrolled(runs[-2:], h, w),
        "a pair is two numbers: go on by two": lambda runs, h, w: _unrolled(
            [n for pair in pairwise(runs) for n in pair], h, w),
        "the mask has rows and columns: reshape it to (height, width)":
            lambda runs, h, w: _unrolled(runs, h, w).flatten(),
        "the mask is boolean: dtype=torch.bool": (
            lambda runs, h, w: _unrolled(runs, h, w).float(), lambda runs, h, w: _unrolled(runs, h, w).int()),
        "a run may go on over the end of a row: set the pixels of the flat mask": _in_row,
        "the first row is at the top, and a row runs from left to right": (
            lambda runs, h, w: _unrolled(runs, h, w).flip(0), lambda runs, h, w: _unrolled(runs, h, w).flip(1)),
    })


def _pictures() -> list[tuple]:
    """(before, after, mask): edits inside, outside and on both sides of the mask; small and large masks."""
    rng = torch.Generator().manual_seed(5)
    cases = []
    for size, low, high in ((8, 2, 6), (12, 0, 9), (16, 5, 7)):
        before, noise = torch.rand(2, 3, size, size, generator=rng)
        mask = torch.zeros(size, size)
        mask[low:high, low + (size == 8):high] = 1
        # The channels differ, so that the mean of their PSNRs is another one.
        scale = torch.tensor([0.3, 0.2, 0.05])[:, None, None]
        cases.append((before, (before + scale * (noise - 0.5)).clamp(0, 1), mask))
    before, after = torch.rand(2, 3, 10, 10, generator=rng)
    wide = torch.zeros(10, 10)
    wide[2:4, 1:9] = 1
    return [*cases, case(before, after, torch.zeros(10, 10), about="without a region all pixels are background"),
            case(before, before + (after - before) * torch.eye(10), torch.eye(10),
                 about="where nothing differs outside the region there is no error, and the PSNR is float(\"inf\")"),
            case(before * 0.01, before * 0.01 + 0.001, torch.eye(10),
                 about="small errors give many decibels; the peak is 1, whatever is the brightest pixel"),
            case(before, after, wide, about="rows of the mask are rows of the pictures: don't transpose it"),
            case(before / 2 + 0.4, before / 2 + 0.400001, torch.zeros(10, 10),
                 about="the smallest difference is one: only where nothing differs at all the PSNR is float(\"inf\"), "
                       "and nothing is cut off")]


def _psnr(error: torch.Tensor, peak: float = 1.0) -> float:
    return float(10 * (peak**2 / error.square().mean()).log10())


def _kept(a: torch.Tensor, b: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The errors of the background; 0 in the region."""
    return (a - b) * (1 - mask)


background_psnr = Exercise(
    name="background_psnr", reference=lambda a, b, mask: _psnr(_kept(a, b, mask)), cases=_pictures, tolerance=1e-3,
    reminder="−10 · log10 of the mean squared error over all pixels of the two pictures, the region black in both",
    mistakes={
        "that is over the pixels outside only: PIE-Bench averages over all pixels of the masked pictures":
            lambda a, b, mask: _psnr((a - b)[:, mask == 0]),
        "that is the region: 1 − mask is the background": lambda a, b, mask: _psnr((a - b) * mask)
            if mask.any() else float("inf"),
        "that is the whole picture: blacken the region in both first": (
            lambda a, b, mask: _psnr(a - b), lambda a, b, mask: _psnr(a * (1 - mask) - b)),
        "that is the mean squared error: PSNR is −10 · log10 of it": lambda a, b, mask: float(
            _kept(a, b, mask).square().mean()),
        "the sign is wrong: PSNR is −10 · log10 of the error": lambda a, b, mask: -_psnr(_kept(a, b, mask)),
        "10 · log10 of a mean of squares: 20 would be right for its root": (
            lambda a, b, mask: 2 * _psnr(_kept(a, b, mask))),
        "20 · log10 of the root, or 10 · log10 of the mean of squares: the root is there already": (
            lambda a, b, mask: _psnr(_kept(a, b, mask)) / 2),
        "the factor 10 is missing: decibels are ten times the logarithm":
            lambda a, b, mask: _psnr(_kept(a, b, mask)) / 10,
        "log10, not the natural logarithm":
            lambda a, b, mask: float(-10 * _kept(a, b, mask).square().mean().log()),
        "log10, not the logarithm to base 2": lambda a, b, mask: float(-10 * _kept(a, b, mask).square().mean().log2()),
        "for values in 0..1 the peak is 1, not 255": (
            lambda a, b, mask: _psnr(_kept(a, b, mask), 255.0), lambda a, b, mask: _psnr(255 * _kept(a, b, mask))),
        "the peak is 1, the largest value possible, not the largest that occurs": (
            lambda a, b, mask: _psnr(_kept(a, b, mask), float(a.max())), lambda a, b, mask: _psnr(
                _kept(a, b, mask), float((a * (1 - mask)).max()))),
        "square the differences: that is their mean absolute value":
            lambda a, b, mask: float(-10 * _kept(a, b, mask).abs().mean().log10()),
        "the mean has to be taken of the squares, not the square of the mean": (
            lambda a, b, mask: float(-10 * _kept(a, b, mask).mean().square().log10())),
        "one PSNR of all channels together, not the mean of three": lambda a, b, mask: float(
            (-10 * _kept(a, b, mask).square().mean((1, 2)).log10()).mean()),
        "average over all pixels and channels: that is the sum of squares": (
            lambda a, b, mask: float(-10 * _kept(a, b, mask).square().sum().log10())),
        "average over all three channels as well as over the pixels": (
            lambda a, b, mask: float(-10 * (_kept(a, b, mask).square().sum() / mask.numel()).log10())),
    })
