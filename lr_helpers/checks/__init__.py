"""Checks of the exercises: `checks.NAME(your_function)` tries it, and says what is not right yet.

One module for each notebook; `ALL` is what the tests go through.
"""

from lr_helpers.checks import anchors, batch, comparison, extended, inpainting, learning, losses, regions, study
from lr_helpers.checks.exercise import CheckFailed, Exercise

ALL: dict[str, Exercise] = {
    name: value
    for module in (inpainting, anchors, regions, losses, learning, batch, study, comparison, extended)
    for name, value in vars(module).items()
    if isinstance(value, Exercise)
}
globals().update(ALL)
__all__ = ["ALL", "CheckFailed", "Exercise", *ALL]
