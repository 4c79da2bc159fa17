"""What a wrong result has to do with the right one: the slips that leave a mark on any array of numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

TOLERANCE = 1e-4
"""Relative to the largest value expected."""

NEARLY = 3e-3
"""Relative to it, too: what differs by no more is nearly right."""

NEARLY_RIGHT = "nearly right: look for rounding, for a small number that is added, and for what is cut off"
NOTHING = "only zeros come out: is something multiplied by 0, or never filled in?"


def diagnose(results: list[tuple[Any, Any]], inputs: list[tuple]) -> str | None:
    """The slip that explains every wrong result, in a sentence; None if no single one does.

    `results`: (came, expected) of each case that went wrong; `inputs` of the same cases, whose lengths tell a sum from
    a mean.
    """
    sentences, largest = [], 0.0
    for (came, expected), given in zip(results, inputs, strict=True):
        lengths = {n for value in given for n in _lengths(value) if n > 1}
        for a, b in _arrays(came, expected):
            largest = max(largest, _largest_difference(a, b))
            found = _slips(a, b, lengths)
            # One factor in several cases is no length of an axis, since those differ.
            if len(results) > 1:
                found.sort(key=lambda sentence: not sentence.startswith("everything"))
            sentences.append(found)
    if not sentences:
        return None
    # The first sentence that all wrong results have in common.
    for sentence in sentences[0]:
        if all(sentence in others for others in sentences):
            return f"{sentence}; the largest difference is {largest:.2g}" if sentence == NEARLY_RIGHT else sentence
    return None


def _largest_difference(came: np.ndarray, expected: np.ndarray) -> float:
    """0 where the shapes differ."""
    if came.shape != expected.shape:
        return 0.0
    with np.errstate(all="ignore"):
        apart = np.abs(came - expected)
    return float(apart[np.isfinite(apart)].max(initial=0.0))


def _arrays(came: Any, expected: Any) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The pairs of numbers or arrays that differ, wherever they stand in the two results."""
    if isinstance(expected, Mapping) and isinstance(came, Mapping):
        for name in expected:
            if name in came:
                yield from _arrays(came[name], expected[name])
        return
    a, b = _numbers(came), _numbers(expected)
    if a is None or b is None:
        return
    if a.shape != b.shape or not np.allclose(a, b, rtol=1e-5, atol=1e-5, equal_nan=True):
        yield a, b


def _numbers(value: Any) -> np.ndarray | None:
    """A number, a list of them or an array as float64; None for all else."""
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().double().numpy()
    if isinstance(value, (bool, str, bytes, Mapping)) or value is None or callable(value):
        return None
    try:
        return np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        return None


def _lengths(value: Any) -> Iterator[int]:
    """The lengths of an input's axes, and their products, by which sums and means may differ."""
    if isinstance(value, Mapping):
        for part in value.values():
            yield from _lengths(part)
    elif isinstance(value, (torch.Tensor, np.ndarray)):
        yield from value.shape
        yield int(np.prod(value.shape))
        yield int(np.prod(value.shape[-2:]))
    elif isinstance(value, int) and not isinstance(value, bool):
        yield value
        yield value * value


def _slips(came: np.ndarray, expected: np.ndarray, lengths: set[int]) -> list[str]:
    """All slips by which `expected` becomes `came`, the most telling first."""
    if came.shape != expected.shape:
        return list(_slips_of_shape(came, expected))
    if not np.isfinite(came[np.isfinite(expected)]).all():
        return ["NaN or ∞ comes out: look for 0 / 0, for the logarithm of 0, and for what may overflow"]
    found = [sentence for sentence, wrong in _changes(expected) if _same(came, wrong) and not _same(expected, wrong)]
    found += _factors(came, expected, lengths)
    # Whole numbers are right or wrong.
    if _same(came, expected, NEARLY) and not (_whole(came) and _whole(expected)):
        found.insert(0, NEARLY_RIGHT)
    elif not came.any() and expected.any():
        found.insert(0, NOTHING)
    return found


def _whole(values: np.ndarray) -> bool:
    return bool((values == np.round(values)).all())


def _same(a: np.ndarray, b: np.ndarray, tolerance: float = TOLERANCE) -> bool:
    if a.shape != b.shape:
        return False
    with np.errstate(all="ignore"):
        scale = max(float(np.abs(b[np.isfinite(b)]).max(initial=0.0)), 1e-6)
        return bool(np.allclose(a, b, rtol=tolerance, atol=tolerance * scale, equal_nan=True))


def _changes(right: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Sentence → what would come out. Only changes that do change something."""
    with np.errstate(all="ignore"):
        yield "the sign is wrong everywhere", -right
        yield "that is 1 minus what is asked for", 1 - right
        if right.ndim and right.shape[-1] == 2:
            yield "the two numbers of each pair are swapped: x and y, or row and column", right[..., ::-1]
        if right.ndim and right.shape[-1] == 4:
            yield "x and y are swapped in each box", right[..., [1, 0, 3, 2]]
        if right.ndim >= 2:
            yield "rows and columns are swapped: transpose the last two axes", right.swapaxes(-1, -2)
            yield "rows and columns are swapped: transpose the first two axes", right.swapaxes(0, 1)
            for axis in range(right.ndim):
                yield f"axis {axis} runs backwards", np.flip(right, axis)
        yield "that is the absolute value: the sign got lost", np.abs(right)
        yield "that is the square of what is asked for: the root is missing", right**2
        yield "that is the root of what is asked for", np.sqrt(right)
        yield "that is the logarithm of what is asked for", np.log(right)
        yield "that is e to the power of what is asked for: a logarithm is missing", np.exp(right)
        yield "that is 1 divided by what is asked for", 1 / right
        yield "decimals are cut off: the division or conversion gives whole numbers", np.floor(right)
        yield "it is rounded to whole numbers", np.round(right)
        if right.ndim:
            yield "one softmax too many", _softmax(right)


def _softmax(values: np.ndarray) -> np.ndarray:
    powers = np.exp(values - values.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def _factors(came: np.ndarray, expected: np.ndarray, lengths: set[int]) -> Iterator[str]:
    """Too large or too small by the same factor everywhere, or shifted by the same amount; or in another order."""
    shift = came - expected
    if came.size and np.isfinite(shift).all() and np.ptp(shift) < 1e-6 + TOLERANCE * abs(shift.flat[0]):
        amount = float(shift.flat[0])
        yield f"every value is off by {amount:+.4g}"
    large = np.abs(expected) > 1e-6
    if large.any() and _same(came[~large], expected[~large]):
        factors = came[large] / expected[large]
        factor = float(factors.flat[0])
        if np.isfinite(factors).all() and np.ptp(factors) <= TOLERANCE * abs(factor) and abs(factor) > 1e-9:
            if any(abs(abs(factor) - n) < TOLERANCE * n for n in lengths):
                yield "too large by the length of an axis: a sum where a mean is asked for, or a division left out"
            if any(abs(abs(1 / factor) - n) < TOLERANCE * n for n in lengths):
                yield "too small by the length of an axis: a mean where a sum is asked for, or a division too many"
            for known, name in ((100, "100: it is asked for as a share, not in per cent"), (255, "255"),
                                (1 / 255, "1/255"), (2, "2"), (0.5, "1/2"), (3600, "3600"), (60, "60")):
                if abs(factor - known) < TOLERANCE * known:
                    yield f"everything is too large by the factor {name}" if known > 1 else (
                        f"everything comes out multiplied by {name}")
            if abs(abs(factor) - 1) > 10 * TOLERANCE:  # −1 is the sign, and 1 no factor
                yield f"everything comes out multiplied by {factor:.4g}"
    in_order = _same(np.sort(came, axis=None), np.sort(expected, axis=None))
    if came.ndim and came.size > 1 and in_order and not _same(came, expected):
        yield "the right numbers, but in another order"


def _slips_of_shape(came: np.ndarray, expected: np.ndarray) -> Iterator[str]:
    a, b = came.shape, expected.shape
    if len(a) != len(b) and [n for n in a if n != 1] == [n for n in b if n != 1]:
        yield ("an axis of length 1 too many: squeeze it, or leave keepdim away" if len(a) > len(b) else
               "an axis of length 1 is missing: unsqueeze it, or use keepdim")
    if len(a) == len(b) and a == b[::-1]:
        yield "the axes are turned round: transpose"
    if len(a) == len(b) and sorted(a) == sorted(b):
        yield "the right axes in another order: permute them"
    if len(a) == len(b) - 1:
        for axis in range(len(b)):
            if b[:axis] + b[axis + 1:] == a:
                yield f"axis {axis} is gone: it was summed, averaged or indexed away, and has to stay"
    if len(a) < len(b):
        missing = f"{len(b) - len(a)} of {len(b)} axes"
        yield f"{missing} are missing: something was summed, averaged or indexed away that has to stay"
    if len(a) == len(b) + 1:
        yield "an axis too many: it has to be summed, averaged or indexed away"
    if len(a) == len(b) > 1:
        wrong = [i for i in range(len(a)) if a[i] != b[i]]
        yield f"axis {wrong[0]} has the wrong length" if len(wrong) == 1 else "the lengths of several axes are wrong"


CONSTANT = "the same comes out whatever goes in: is a number written down instead of computed?"


def is_constant(results: list[tuple[Any, Any]]) -> bool:
    """Is what came the same in all of these (came, expected), and what was expected is not?"""
    came, expected = ([_numbers(pair[i]) for pair in results] for i in (0, 1))
    if len(results) < 2 or any(value is None for value in (*came, *expected)):
        return False
    constant = all(c.shape == came[0].shape and np.array_equal(c, came[0], equal_nan=True) for c in came)
    varied = any(e.shape != expected[0].shape or not np.allclose(e, expected[0]) for e in expected)
    return constant and varied


def hint_of_error(error: BaseException) -> str | None:
    """What is behind an error message of torch, numpy or Python that a beginner may not understand."""
    text = str(error)
    for part, hint in _ERRORS.items():
        if part in text:
            return hint
    return None


_ERRORS: dict[str, str] = {
    "is not defined": "this name is not known here: import it, or mind the spelling",
    "could not infer output dtype": "booleans and whole numbers have no mean: .float() first",
    "only support floating point": "booleans and whole numbers have no deviation: .float() first",
    "xpected a floating point or complex tensor": "whole numbers have no norm: .float() first",
    "does not support bool": "torch can't do this with True and False: .float() or .int() first",
    "not implemented for 'Bool'": "torch can't do this with True and False: .float() or .int() first",
    "not implemented for 'Long'": "torch can't do this with whole numbers: .float() first",
    "must match the size of tensor": "the shapes don't broadcast: look at both; keepdim=True or [:, None] keep an axis",
    "Quantiles must be in the range [0, 1]": "np.quantile counts from 0 to 1, np.percentile from 0 to 100",
    "Can't call numpy() on Tensor that requires grad": "gradients have to flow through here: stay in torch",
    "modified by an inplace operation": "something was changed in place that the gradient needs: make a new tensor",
    "does not require grad": "no gradient is recorded here: something on the way left the graph",
    "Boolean value of Tensor": "a whole tensor was used as one yes or no: use & and |, torch.where, or any() and all()",
    "truth value of an array": "a whole array was used as one yes or no: use & and |, np.where, or any() and all()",
    "too many values to unpack": "there are more values than names: look at the shape",
    "'tuple' and '": "numbers in a tuple can't be calculated with: make a tensor of them, torch.tensor(…)",
    "' and 'tuple'": "numbers in a tuple can't be calculated with: make a tensor of them, torch.tensor(…)",
    "can't multiply sequence by": "numbers in a tuple can't be calculated with: make a tensor of them, torch.tensor(…)",
    "channels, but got": "a convolution was made for another number of channels than it gets: count all that go in",
    "mat1 and mat2 shapes": "a linear layer (or @) gets rows of another length than it was made for: compare the two "
                            "numbers; flatten(1) keeps the first axis",
    "before Module.__init__() call": "call super().__init__() first in __init__",
    "Sizes of tensors must match except in dimension": "what is joined by cat has to agree on all axes but one: bring "
                                                       "the others to the same length first, and look at dim",
    'missing 1 required positional arguments: "dim"': "say along which axis: dim=-1 is the last one",
    "only one element tensors can be converted": "a whole tensor was used as one number: use torch's functions, as "
                                                 "torch.log, and torch.stack for a list of tensors",
    "only integer tensors of a single element": "an index or the end of a slice is a whole number: int(…), or tolist() "
                                                "of a whole-number tensor",
    "is invalid for input of size": "as many numbers have to come out of a reshape as went in: multiply the axes of "
                                    "both",
    "applicable to index tensor": "one_hot takes positions, whole numbers as argmax gives them, not the weights "
                                  "themselves",
    "NVIDIA driver": "this machine has no such graphics card: leave cuda away, and stay on the device of what is given",
    "for -: 'list' and 'list'": "lists can't be calculated with: leave them as arrays or tensors, or make some of them",
    "positional argument": "a function takes other arguments here than it is given: keep the stub's parameters as they "
                           "are, and count those of the functions that you call",
    "maximum recursion depth": "the function calls itself for ever: it needs a case in which it doesn't, or another "
                               "name",
}
