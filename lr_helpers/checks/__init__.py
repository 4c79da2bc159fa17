"""Checks of the exercises: `checks.NAME(your_function)` tries it, and says what is not right yet.

One module for each notebook; `ALL` is what the tests go through. `checks.ours("NAME")` is the course's own function, to
go on with; `checks.progress()` shows what is done.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from pathlib import Path

from lr_helpers.checks import (
    across,
    anchors,
    batch,
    capstone,
    comparison,
    extended,
    inpainting,
    learning,
    losses,
    regions,
    study,
)
from lr_helpers.checks.exercise import CheckFailed, Exercise
from lr_helpers.checks.own import pieces
from lr_helpers.course import progress as _progress
from lr_helpers.errors import UserError

ALL: dict[str, Exercise] = {
    name: value
    for module in (inpainting, anchors, regions, losses, learning, capstone, across, batch, study, comparison, extended)
    for name, value in vars(module).items()
    if isinstance(value, Exercise)
}
globals().update(ALL)
__all__ = ["ALL", "CheckFailed", "Exercise", "keep_progress", "ours", "pieces", "progress", *ALL]


def ours(name: str) -> Callable:
    """The course's own function for the exercise whose check has this `name`, so that the cells below can go on.

    The exercise then counts as done with ours, until a function of yours passes its check. Raises UserError for a name
    that no check has.
    """
    if name not in ALL:
        near = difflib.get_close_matches(name, ALL, 3, 0.4)
        raise UserError(f"No exercise is called {name!r}; there are {', '.join(near or ALL)}.")
    _progress.note(name, _progress.OURS)
    return ALL[name].reference


def keep_progress() -> None:
    """From now on, each check writes down how it went, in the file of `lr_helpers.course.progress`; says which.

    Every exercise notebook calls it in its first cells. Where the file can't be written, one sentence says so.
    """
    _progress.keep()


def progress(file: str | Path | None = None, learner: str | None = None) -> _progress.Progress:
    """The map of what is done, notebook by notebook: ✓ done, ◐ done with ours, ○ open.

    `file`: somebody else's file instead of your own. `learner`: your name, which is put into your file for a teacher.
    Raises UserError for a file that is missing or holds something else, and for a name that is empty or too long.
    """
    if file is not None:
        return _progress.read(Path(file))
    if learner is not None:
        return _progress.rename(learner)
    return _progress.read(_progress.place()) if _progress.place().exists() else _progress.Progress()
