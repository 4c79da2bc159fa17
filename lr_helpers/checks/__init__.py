"""Checks of the exercises: `checks.NAME(your_function)` tries it, and says what is not right yet.

One module for each notebook; `ALL` is what the tests go through.
"""

from lr_helpers.checks import (
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

ALL: dict[str, Exercise] = {
    name: value
    for module in (inpainting, anchors, regions, losses, learning, capstone, batch, study, comparison, extended)
    for name, value in vars(module).items()
    if isinstance(value, Exercise)
}
globals().update(ALL)
__all__ = ["ALL", "CheckFailed", "Exercise", "pieces", *ALL]
