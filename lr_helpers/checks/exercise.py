"""What all exercises share: try the learner's own function, and say what was expected, what came, and why."""

from __future__ import annotations

import copy
import inspect
import math
import numbers
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch


class CheckFailed(AssertionError):  # noqa: N818, what a learner reads
    """A solution that is not right yet. In a notebook only its message is shown, not the way to it."""

    def _render_traceback_(self) -> list[str]:  # IPython asks for this name
        return [str(self)]


@dataclass(frozen=True)
class Exercise:
    """One exercise; calling it with the learner's function raises `CheckFailed` or prints one line.

    The same data test the check itself: every function in `mistakes` has to be refused, with its hint.
    """

    name: str
    reference: Callable
    """The right function; where the package has one, that one."""
    cases: Callable[[], list[tuple]]
    """Makes the inputs, the same at every call: random ones and edge cases."""
    mistakes: Mapping[str, Callable] = field(repr=False)
    """Hint → a function that makes this mistake; a learner whose results agree with it gets the hint."""
    tolerance: float = 1e-5
    observe: Callable = lambda function, *case: function(*case)
    """What is compared: by default the result; a gradient or the facts about a module where that is the point."""

    def __call__(self, function: Callable) -> None:
        cases = self.cases()
        for number, case in enumerate(cases, 1):
            expected = self.observe(self.reference, *copy.deepcopy(case))
            came = self._try(function, case)
            problem = difference(came, expected, self.tolerance)
            if problem:
                raise CheckFailed("\n".join([
                    f"✗ {self.name}: case {number} of {len(cases)} is not right yet",
                    *self._given(case),
                    f"  expected  {describe(expected)}",
                    f"  came      {describe(came)}",
                    f"  so        {problem}",
                    *(f"  hint      {hint}" for hint in self._hints(function, cases)),
                ]))
        print(f"✓ {self.name}: right in all {len(cases)} cases")

    def _try(self, function: Callable, case: tuple) -> Any:
        given = copy.deepcopy(case)
        try:
            came = self.observe(function, *given)
        except NotImplementedError:
            raise CheckFailed(f"✗ {self.name} is still a stub: write its body, run that cell, then this one.") from None
        except Exception as error:  # whatever a learner's code may raise
            raise CheckFailed("\n".join([
                f"✗ {self.name} raised {type(error).__name__}: {error}",
                *_own_line(error), *self._given(case)])) from error
        if any(difference(a, b, 0.0) for a, b in zip(given, case, strict=True) if isinstance(b, torch.Tensor)):
            raise CheckFailed(f"✗ {self.name} changed its input in place; make a new tensor (or clone() it) instead.")
        return came

    def _given(self, case: tuple) -> list[str]:
        names = list(inspect.signature(self.reference).parameters) if self.observe is _PLAIN else []
        names += [f"input {i + 1}" for i in range(len(names), len(case))]
        return [f"  given     {name} = {describe(value)}" for name, value in zip(names, case, strict=False)]

    def _hints(self, function: Callable, cases: list[tuple]) -> list[str]:
        """The hints of those mistakes that give what the learner's function gives, in every case."""
        found = []
        for hint, wrong in self.mistakes.items():
            try:
                same = all(difference(self._try(function, case), self._try(wrong, case), self.tolerance) is None
                           for case in cases)
            except CheckFailed:
                continue
            if same:
                found.append(hint)
        return found


_PLAIN = Exercise.__dataclass_fields__["observe"].default


def _own_line(error: Exception) -> list[str]:
    """The last line of the learner's own code on the way to the error."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "ipykernel" in f.filename]
    return [f"  at        line {frames[-1].lineno} of that cell: {frames[-1].line}"] if frames else []


def describe(value: Any) -> str:
    """A value in a line or so: shape, type and range of a tensor, and all of a small one."""
    if isinstance(value, torch.Tensor):
        value = value.detach()
        kind = str(value.dtype).removeprefix("torch.")
        text = f"{kind} tensor {tuple(value.shape)}"
        if value.numel() == 0:
            return text
        if value.numel() <= 12:
            return f"{text} {_rounded(value.tolist())}"
        numbers_ = value.double()
        return f"{text}, {numbers_.min():.4g} … {numbers_.max():.4g}, mean {numbers_.mean():.4g}"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{k}: {describe(v)}" for k, v in value.items()) + "}"
    if callable(value) or hasattr(value, "__dict__"):
        return getattr(value, "__name__", type(value).__name__)
    text = repr(_rounded(value)) if isinstance(value, (list, tuple, float)) else repr(value)
    return text if len(text) <= 200 else text[:200] + " …"


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, (list, tuple)):
        return type(value)(_rounded(v) for v in value)
    return value


def difference(came: Any, expected: Any, tolerance: float) -> str | None:
    """What is different, in one sentence; None if nothing is."""
    if isinstance(expected, Mapping):
        if not isinstance(came, Mapping) or set(came) != set(expected):
            return f"a dict with the keys {', '.join(map(str, expected))} was expected"
        parts = ((f"{k}: ", came[k], expected[k]) for k in expected)
    elif isinstance(expected, (list, tuple)):
        if not isinstance(came, (list, tuple)) or len(came) != len(expected):
            return f"{len(expected)} values were expected"
        parts = ((f"value {i}: ", a, b) for i, (a, b) in enumerate(zip(came, expected, strict=True)))
    else:
        return _leaf_difference(came, expected, tolerance)
    return next((name + problem for name, a, b in parts if (problem := difference(a, b, tolerance))), None)


def _kind(dtype: torch.dtype) -> str:
    return "floating-point" if dtype.is_floating_point else "boolean" if dtype == torch.bool else "whole-number"


def _leaf_difference(came: Any, expected: Any, tolerance: float) -> str | None:
    if came is None and expected is not None:
        return "nothing was returned; is the return statement missing?"
    if isinstance(expected, torch.Tensor):
        if not isinstance(came, torch.Tensor):
            return f"a tensor was expected, not a {type(came).__name__}"
        if came.shape != expected.shape:
            return f"the shape should be {tuple(expected.shape)}, not {tuple(came.shape)}"
        if _kind(came.dtype) != _kind(expected.dtype):
            return f"the values should be {_kind(expected.dtype)}, not {_kind(came.dtype)}"
        a, b = came.detach().double().cpu(), expected.detach().double().cpu()
        wrong = ~torch.isclose(a, b, rtol=tolerance, atol=tolerance, equal_nan=True)
        if not wrong.any():
            return None
        place = tuple(wrong.nonzero()[0].tolist())
        where = f" at {list(place)}" if place else ""
        return (f"{int(wrong.sum())} of {wrong.numel()} values differ; the first{where}: "
                f"{b[place]:.5g} expected, {a[place]:.5g} came")
    if isinstance(came, (torch.Tensor, np.generic)) and np.ndim(came) == 0:
        came = came.item()
    if isinstance(expected, numbers.Number) and not isinstance(expected, bool):
        if isinstance(came, bool) or not isinstance(came, numbers.Number):
            return f"a number was expected, not a {type(came).__name__}"
        close = math.isclose(came, expected, rel_tol=tolerance, abs_tol=tolerance)
        return None if close else f"{expected:.5g} was expected, {came:.5g} came"
    return None if came == expected else f"{expected!r} was expected"
