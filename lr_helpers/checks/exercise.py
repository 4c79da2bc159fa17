"""What all exercises share: try the learner's own function, and say what was expected, what came, and why."""

from __future__ import annotations

import contextlib
import copy
import inspect
import io
import logging
import math
import numbers
import re
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

import numpy as np
import torch

from lr_helpers.checks.diagnosis import CONSTANT, diagnose, hint_of_error, is_constant
from lr_helpers.course import progress
from lr_helpers.method import METHODS, Method


class CheckFailed(AssertionError):  # noqa: N818, what a learner reads
    """A solution that is not right yet. In a notebook only its message is shown, not the way to it."""

    def _render_traceback_(self) -> list[str]:  # IPython asks for this name
        return [str(self)]


class _StillAStub(CheckFailed):
    """Nothing was written yet, so it is no attempt."""


class Case(tuple):
    """The inputs of one try. `about` says what it is there for: the hint for who is right before it and fails here."""

    about: str = ""


def case(*inputs: Any, about: str = "") -> Case:
    """A case; give `about` where only one slip can go wrong."""
    made = Case(inputs)
    made.about = about
    return made


class Raised(NamedTuple):
    """An outcome: the function raised this."""

    error: Exception


class Outcome(NamedTuple):
    """What came of one try."""

    value: Any
    changed: str | None
    """The input that the function changed in place."""


class Instead(str):
    """What an `observe` puts in the place of a tensor: the sentence that says what is wrong with it."""


NO_GRADIENT = "no gradient"

STUBS = ("", "your code here")
"""What a stub's NotImplementedError says. Torch raises the same class for a wrong dtype, with more words."""

BEGIN = "Hint 1 under the stub says how to begin"
"""For a function that breaks off for an unknown reason: what is asked for would only give the solution away."""


def forward_and_gradient(function: Callable, values: torch.Tensor, *rest: Any) -> dict | None:
    """To be observed where gradients have to flow: the result, and what its random weighted sum sends back to the first
    input; `NO_GRADIENT` if it is cut off on the way. None where nothing was returned.
    """
    leaf = values.clone().requires_grad_()
    given = leaf.clone()  # no leaf, so that a change in place is found by us and not by autograd
    result = function(given, *rest)
    if not torch.equal(given.detach(), values):
        raise _ChangedError
    if result is None:
        return None
    if not (isinstance(result, torch.Tensor) and result.requires_grad):
        return {"result": result, "gradient": NO_GRADIENT}
    weights = torch.rand(result.shape, generator=torch.Generator().manual_seed(5)).to(result.dtype)
    gradient, = torch.autograd.grad((result * weights).sum(), leaf, allow_unused=True)
    return {"result": result.detach(), "gradient": NO_GRADIENT if gradient is None else gradient}


class _ChangedError(Exception):
    """The first input was changed in place."""


@dataclass(frozen=True)
class Exercise:
    """One exercise; calling it with the learner's function raises `CheckFailed` or prints one line.

    The same data test the check itself: every function in `mistakes` has to be refused, with its hint.
    """

    name: str
    reference: Callable
    """The right function; where the package has one, that one. Where it raises, an exception of that class is
    expected."""
    cases: Callable[[], list[tuple]]
    """Makes the inputs, the same at every call: random ones, and edge cases, which say what they are about."""
    mistakes: Mapping[str, Callable | tuple[Callable, ...]] = field(repr=False)
    """Hint → functions that make this mistake; a learner whose results agree with one gets the hint."""
    tolerance: float = 1e-5
    observe: Callable = lambda function, *case: function(*case)
    """What is compared: by default the result; a gradient or the facts about a module where that is the point."""
    reminder: str = ""
    """What is asked for, in a sentence: the hint where nothing more precise is found."""
    outcomes: dict = field(default_factory=dict, repr=False, compare=False)
    """What mistakes and reference gave in each case."""

    def __call__(self, function: Callable) -> None:
        try:
            told = self.judge(function)
        except _StillAStub:
            raise
        except CheckFailed:
            progress.note(self.name, progress.OPEN)
            raise
        progress.note(self.name, progress.OURS if function is self.reference else progress.DONE)
        print(told)

    def judge(self, function: Callable) -> str:
        """What is to be said of a right function; raises `CheckFailed` for a wrong one. It is not counted as a try."""
        cases = self.cases()
        first, notes, defaults = None, set(), copy.deepcopy(_defaults(function))
        for number, given in enumerate(cases, 1):
            expected, came = self._outcome(self.reference, given), self._outcome(function, given)
            if _is_stub(came.value):
                raise _StillAStub(f"✗ {self.name} is still a stub: write its body, run that cell, then this one.")
            if came.changed:
                raise CheckFailed(f"✗ {self.name} changed its input in place ({came.changed}); make a new tensor "
                                  "(or clone() or copy() it) instead.")
            problem = difference(came.value, expected.value, self.tolerance)
            if problem:
                first = (number, given, expected.value, came.value, problem)
                break
            notes.add(other_type(came.value, expected.value))
        if first is None:
            note = next((f" ({note})" for note in sorted(filter(None, notes))), "")
            return f"✓ {self.name}: right in all {len(cases)} cases{note}"
        with _quietly():
            # A list that is a default is made once: what one call puts into it is there in the next.
            filled = next((name for name, now in _defaults(function).items()
                           if now is first[3] or len(now) != len(defaults[name]) or _changed(now, defaults[name])), "")
            message = self._message(function, cases, *first, filled)
        raise CheckFailed(message) from (first[3].error if isinstance(first[3], Raised) else None)

    def _outcome(self, function: Callable, case: tuple) -> Outcome:
        given = copy.deepcopy(tuple(case))
        try:
            value = self.observe(function, *given)
        except _ChangedError:
            return Outcome(None, self._names(case)[0])
        except Exception as error:  # whatever a learner's code may raise
            value = Raised(error)
        pairs = zip(self._names(case), given, case, strict=True)
        return Outcome(value, next((name for name, a, b in pairs if _changed(a, b)), None))

    def _message(self, function: Callable, cases: list[tuple], number: int, case: tuple, expected: Any, came: Any,
                 problem: str, filled: str) -> str:
        found = [_filled(filled)] if filled else self._hints(function, cases, case, came)
        hints = [f"  hint      {hint}" for hint in found]
        if isinstance(came, Raised):
            return "\n".join([f"✗ {self.name} raised {type(came.error).__name__}: {came.error}",
                              *_own_line(came.error), *self._given(case), *hints])
        # Of several named things only those that are wrong, the first one first.
        pairs = _named_pairs(came, expected, self.tolerance)
        return "\n".join([
            f"✗ {self.name}: case {number} of {len(cases)} is not right yet",
            *self._given(case),
            *(line for name, a, b in pairs for line in (f"  expected  {name}{describe(b)}",
                                                        f"  came      {name}{describe(a)}")),
            f"  so        {problem}",
            *hints])

    def _names(self, case: tuple) -> list[str]:
        """A name for each input: the parameters' where the inputs go straight to the function."""
        direct = self.observe in (_PLAIN, forward_and_gradient)
        # What observes takes the function first, then the inputs.
        of = self.reference if direct else self.observe
        parameters = list(inspect.signature(of).parameters.values())[0 if direct else 1:]
        names = [p.name for p in parameters if p.kind is not p.VAR_POSITIONAL][:len(case)]
        return names + [f"input {i + 1}" for i in range(len(names), len(case))]

    def _given(self, case: tuple) -> list[str]:
        return [f"  given     {name} = {describe(value)}" for name, value in zip(self._names(case), case, strict=True)]

    def _hints(self, function: Callable, cases: list[tuple], first: tuple, came: Any) -> list[str]:
        """Why it went wrong, the surest explanation that is found."""
        if any(isinstance(part, Iterator) for part in (came.values() if isinstance(came, Mapping) else [came])):
            return ["that gives its items one by one (a generator, map, zip, filter): make a list of them, list(…), or "
                    "a tensor"]
        only = self._only_the_gradient(came, first)

        def shown(value: Any) -> Any:
            """Of a result and its gradient the result, which is looked at first; both if only the gradient is wrong."""
            both = self.observe is forward_and_gradient and isinstance(value, Mapping)
            return value["result"] if both and not only else value

        theirs = [shown(self._outcome(function, case).value) for case in cases]
        right = [shown(self._known((), self.reference, i, case)) for i, case in enumerate(cases)]
        failed = [i for i, (a, b) in enumerate(zip(theirs, right, strict=True)) if difference(a, b, self.tolerance)]
        plain = [i for i, case in enumerate(cases) if not getattr(case, "about", "")]
        # 1. A known mistake gives the same in every case.
        known = self._agreeing(theirs, cases, range(len(cases)), shown)
        if known:
            return known
        about = getattr(first, "about", "")
        only_about = about and not set(failed) & set(plain)
        if isinstance(came, Raised) and (hint := hint_of_error(came.error)):
            return [f"{about} ({hint})" if only_about else hint]
        if only and came["gradient"] is NO_GRADIENT:
            return [f"something on the way from {self._names(first)[0]} to the result left the graph: detach, item, "
                    f"float, "
                    "numpy, torch.tensor, argmax, a comparison or rounding"]
        if only and not torch.isfinite(came["gradient"]).all():
            return ["the gradient is NaN or ∞: look for the logarithm of 0, and for 0 / 0"]
        again = self._outcome(function, first).value
        if not isinstance(came, Raised) and difference(again, came, self.tolerance):
            return ["the same call gives another result each time: take what is given, and draw no numbers of your own"]
        # 2. Only the cases that are about one thing each went wrong: it is the first of these things.
        if only_about:
            return [about]
        # 3. A known mistake in all plain cases; the edges may be another matter.
        known = self._agreeing(theirs, cases, plain, shown) if plain else []
        # 4. A slip that leaves its mark on any numbers; in the plain cases if it went wrong there.
        wrong = [i for i in failed if not isinstance(theirs[i], Raised)]
        wrong = [i for i in wrong if i in plain] or wrong
        every = [(a, b) for a, b in zip(theirs, right, strict=True) if not isinstance(a, Raised)]
        slip = CONSTANT if is_constant(every) else diagnose([(theirs[i], right[i]) for i in wrong],
            [cases[i] for i in wrong])
        # 5. What the case is about, or what is asked for at all.
        slip = f"the gradient is wrong: {slip}" if slip and only else slip
        part = f"the result is right, but not its gradient: is a part that depends on {self._names(first)[0]} detached?"
        reminder = BEGIN if isinstance(came, Raised) else self.reminder
        return (known or [hint for hint in (slip, only and part, about, reminder) if hint])[:1]

    def _only_the_gradient(self, came: Any, first: tuple) -> bool:
        """Is the result right, and what it sends back is not?"""
        if not (self.observe is forward_and_gradient and isinstance(came, Mapping)):
            return False
        return difference(came["result"], self._outcome(self.reference, first).value["result"], self.tolerance) is None

    def _agreeing(self, theirs: list, cases: list[tuple], where: Sequence[int], shown: Callable) -> list[str]:
        """The hints of which a mistake gives what the learner's function gives, in these cases."""
        right = [self._known((), self.reference, i, case) for i, case in enumerate(cases)]
        meant = tuple(_base(value.error) for value in right if isinstance(value, Raised))

        def agrees(of: tuple, wrong: Callable, i: int) -> bool:
            return self._same(theirs[i], shown(self._known(of, wrong, i, cases[i])), meant)

        found = []
        for hint, wrongs in self.mistakes.items():
            for number, wrong in enumerate(wrongs if isinstance(wrongs, tuple) else (wrongs,)):
                if hint not in found and all(agrees((hint, number), wrong, i) for i in where):
                    found.append(hint)
        return found

    def _known(self, of: tuple, function: Callable, number: int, case: tuple) -> Any:
        """What a mistake, or the reference, gives in a case: always the same, so it is made once."""
        if (of, number) not in self.outcomes:
            self.outcomes[of, number] = self._outcome(function, case).value
        return self.outcomes[of, number]

    def _same(self, came: Any, known: Any, meant: tuple[type, ...]) -> bool:
        """Is it the same? Errors of a class that is `meant` to be raised are, whatever they say."""
        if isinstance(came, Raised) and isinstance(known, Raised):
            both = isinstance(came.error, meant) and isinstance(known.error, meant)
            return both or _kind_of_error(came.error) == _kind_of_error(known.error)
        return difference(came, known, self.tolerance) is None


_PLAIN = Exercise.__dataclass_fields__["observe"].default


def _is_stub(came: Any) -> bool:
    """Was nothing written yet?"""
    return isinstance(came, Raised) and isinstance(came.error, NotImplementedError) and str(came.error) in STUBS


def _kind_of_error(error: Exception) -> tuple[type, str]:
    """The class and the message, whatever names in quotes and numbers stand in it: two crashes may have two reasons."""
    return type(error), re.sub(r"'[^']*'|\d+", "#", str(error))


def _defaults(function: Callable) -> dict[str, list | dict | set]:
    """The defaults that a call can change, by the names of their parameters."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # some functions that are not written in Python have none
        return {}
    return {p.name: p.default for p in parameters if isinstance(p.default, (list, dict, set))}


def _filled(name: str) -> str:
    return f"the default of `{name}` is made once, and keeps what earlier calls put into it: make it in the function"


def _named_pairs(came: Any, expected: Any, tolerance: float, name: str = "") -> list[tuple[str, Any, Any]]:
    """(name, came, expected) of all that differs: of dicts with the same keys their parts, else the whole."""
    if not (isinstance(expected, Mapping) and isinstance(came, Mapping) and set(came) == set(expected)):
        return [(name, came, expected)]
    parts = [(k, came[k], expected[k]) for k in expected if _part_difference(came[k], expected[k], tolerance)]
    return [pair for k, a, b in parts for pair in _named_pairs(a, b, tolerance, f"{k}: ")]


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """What is tried in search of a hint prints nothing, and nobody wants its warnings."""
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


def _changed(after: Any, before: Any) -> bool:
    """Was an input of plain data changed?"""
    if isinstance(before, torch.Tensor):
        return after.shape != before.shape or not torch.equal(torch.nan_to_num(after), torch.nan_to_num(before))
    if isinstance(before, np.ndarray):
        return not np.array_equal(after, before, equal_nan=before.dtype.kind == "f")
    if isinstance(before, dict):
        return list(after) != list(before) or any(_changed(after[k], v) for k, v in before.items())
    if isinstance(before, (list, tuple)):
        return len(after) != len(before) or any(map(_changed, after, before))
    return isinstance(before, (int, float, str, bytes)) and after != before


def _own_line(error: Exception) -> list[str]:
    """The last line of the learner's own code on the way to the error."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "ipykernel" in f.filename]
    return [f"  at        line {frames[-1].lineno} of that cell: {frames[-1].line}"] if frames else []


def describe(value: Any) -> str:
    """A value in a line or so: shape, type and range of a tensor, and all of a small one."""
    if isinstance(value, Raised):
        return f"{_base(value.error).__name__}: {value.error}"
    if isinstance(value, Instead):
        return str(value)
    if isinstance(value, (torch.Tensor, np.ndarray)):
        return _describe_array(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{k}: {describe(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list) and any(isinstance(v, torch.Tensor) for v in value):
        return "[" + ", ".join(map(describe, value)) + "]"
    if isinstance(value, Method):
        learned = METHODS["learned"]
        other = (f.name for f in fields(value) if getattr(value, f.name) != getattr(learned, f.name))
        return ", ".join(["`learned`", *(f"{name} {getattr(value, name)}" for name in other)])
    if callable(value) or hasattr(value, "__dict__"):
        return getattr(value, "__name__", type(value).__name__)
    text = repr(_rounded(value)) if isinstance(value, (list, tuple, float)) else repr(value)
    return text if len(text) <= 200 else text[:200] + " …"


def _describe_array(value: torch.Tensor | np.ndarray) -> str:
    kind, shape = str(value.dtype).removeprefix("torch."), tuple(value.shape)
    text = f"{kind} {'tensor' if isinstance(value, torch.Tensor) else 'array'} {shape}"
    numbers_ = value.detach().cpu() if isinstance(value, torch.Tensor) else value
    if math.prod(shape) == 0 or kind == "object":
        return text
    if math.prod(shape) <= 12:
        return f"{text} {_rounded(numbers_.tolist())}"
    numbers_ = torch.as_tensor(numbers_).double()
    return f"{text}, {numbers_.min():.4g} … {numbers_.max():.4g}, mean {numbers_.mean():.4g}"


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, (list, tuple)):
        return type(value)(_rounded(v) for v in value)
    return value


# Comparing


def other_type(came: Any, expected: Any) -> str | None:
    """A right result of another type than the cells below want: what to turn it into."""
    if isinstance(expected, torch.Tensor) and not isinstance(came, torch.Tensor):
        return f"yours returns a {type(came).__name__}; the cells below take a tensor: wrap it in torch.as_tensor(…)"
    if isinstance(expected, Mapping) and isinstance(came, Mapping):
        parts = ((k, other_type(came[k], expected[k])) for k in expected)
        return next((f"{k}: {note}" for k, note in parts if note), None)
    return None


def _as_tensor(value: Any) -> Any:
    """An array, or numbers or tensors in lists, as a tensor; all else as it is."""
    if isinstance(value, (np.ndarray, np.generic)):
        return torch.from_numpy(np.array(value)) if np.asarray(value).dtype.kind in "biuf" else value
    if isinstance(value, (bool, int, float)):
        return torch.tensor(value)
    if type(value) in (list, tuple) and value:
        parts = [_as_tensor(v) for v in value]
        if all(isinstance(p, torch.Tensor) for p in parts) and len({p.shape for p in parts}) == 1:
            return torch.stack([p.detach().cpu() for p in parts])
    return value


def _plain(value: Any) -> Any:
    """An array of any kind as numbers and lists."""
    return value.tolist() if isinstance(value, (torch.Tensor, np.ndarray, np.generic)) else value


def difference(came: Any, expected: Any, tolerance: float) -> str | None:
    """What is different, in one sentence; None if nothing is. Arrays of any kind are compared by their numbers."""
    if isinstance(expected, Raised) or isinstance(came, Raised):
        return _difference_of_errors(came, expected)
    expected = _as_tensor(expected) if isinstance(expected, np.ndarray) else expected
    if came is None and expected is not None:
        return "nothing was returned; is the return statement missing?"
    if isinstance(expected, Mapping):
        if not isinstance(came, Mapping):
            return f"a dict with the keys {', '.join(map(str, expected))} was expected"
        if missing := [str(k) for k in expected if k not in came]:
            return f"missing in the dict: {', '.join(missing)}"
        if more := [str(k) for k in came if k not in expected]:
            return f"not asked for in the dict: {', '.join(more)}"
        parts = ((k, came[k], expected[k]) for k in expected)
        return next((_of_fact(k, b, problem) for k, a, b in parts if (problem := _part_difference(a, b, tolerance))),
                    None)
    if isinstance(expected, (list, tuple)):
        came = list(came) if isinstance(came, range) else _plain(came)
        if not isinstance(came, (list, tuple)):
            return f"{len(expected)} values were expected, not a {type(came).__name__}"
        if len(came) != len(expected):
            return f"{len(expected)} values were expected, not {len(came)}"
        parts = ((f"value {i}: ", a, b) for i, (a, b) in enumerate(zip(came, expected, strict=True)))
        return next((name + problem for name, a, b in parts if (problem := _part_difference(a, b, tolerance))), None)
    return _leaf_difference(came, expected, tolerance)


def _part_difference(came: Any, expected: Any, tolerance: float) -> str | None:
    """As `difference`, of what stands in a list or dict: there None is a value like others, not a missing return."""
    if came is None and expected is not None:
        return f"{describe(expected)} was expected, None came"
    return difference(came, expected, tolerance)


def _of_fact(name: str, expected: Any, problem: str) -> str:
    """A difference in one of several named things. A fact that is true or false speaks for itself."""
    if isinstance(expected, bool):
        return f"this should {'hold' if expected else 'not hold'}: {name}"
    return f"{name}: {problem}"


def _base(error: Exception) -> type[Exception]:
    """The class that a learner knows: ours count as ValueError."""
    kind = type(error)
    return next(k for k in kind.__mro__ if k.__module__ == "builtins" and k is not object) if (
        kind.__module__ == "builtins") else ValueError


def _difference_of_errors(came: Any, expected: Any) -> str | None:
    if not isinstance(expected, Raised):
        return f"it raised {type(came.error).__name__}: {came.error}"
    wanted = _base(expected.error).__name__
    if not isinstance(came, Raised):
        return f"{wanted} should be raised here, and nothing was raised"
    if not isinstance(came.error, (_base(expected.error), type(expected.error))):
        return f"{wanted} should be raised here, not {type(came.error).__name__}"
    return None


def _kind(dtype: torch.dtype) -> str:
    return "floating-point" if dtype.is_floating_point else "boolean" if dtype == torch.bool else "whole-number"


def _leaf_difference(came: Any, expected: Any, tolerance: float) -> str | None:
    if isinstance(expected, torch.Tensor):
        return _tensor_difference(_as_tensor(came), expected, tolerance)
    if isinstance(came, (torch.Tensor, np.ndarray, np.generic)) and np.ndim(came) == 0:
        came = came.item()
    if isinstance(expected, numbers.Number) and not isinstance(expected, bool):
        if isinstance(came, bool) or not isinstance(came, numbers.Number):
            shape = f" of shape {tuple(came.shape)}" if hasattr(came, "shape") else ""
            return f"a number was expected, not a {type(came).__name__}{shape}"
        whole = isinstance(expected, numbers.Integral)
        if whole and not isinstance(came, numbers.Integral) and came == expected:
            return f"a whole number was expected, {expected}, not the {type(came).__name__} {came}"
        # Whole numbers have to agree to the last one, however large.
        near = 0.0 if whole else tolerance
        close = math.isclose(came, expected, rel_tol=near, abs_tol=near) or (came != came and expected != expected)
        return None if close else f"{expected:.7g} was expected, {came:.7g} came"
    return None if type(came) is type(expected) and came == expected else f"{expected!r} was expected"


def _tensor_difference(came: Any, expected: torch.Tensor, tolerance: float) -> str | None:
    if isinstance(came, Instead):
        return str(came)
    if isinstance(came, str) and came is NO_GRADIENT:
        return "no gradient comes back"
    if isinstance(came, tuple) and hasattr(came, "indices"):
        return "this holds values and indices: a tensor was expected, one of the two"
    if not isinstance(came, torch.Tensor):
        return f"a tensor was expected, not a {type(came).__name__}"
    if came.shape != expected.shape:
        return f"the shape should be {tuple(expected.shape)}, not {tuple(came.shape)}"
    if came.numel() and _kind(came.dtype) != _kind(expected.dtype):
        return f"the values should be {_kind(expected.dtype)}, not {_kind(came.dtype)}"
    a, b = came.detach().double().cpu(), expected.detach().double().cpu()
    wrong = ~torch.isclose(a, b, rtol=tolerance, atol=tolerance, equal_nan=True)
    if not wrong.any():
        return None
    place = tuple(wrong.nonzero()[0].tolist())
    where = f" at {list(place)}" if place else ""
    return (f"{int(wrong.sum())} of {wrong.numel()} values differ; the first{where}: "
            f"{b[place]:.5g} expected, {a[place]:.5g} came")
