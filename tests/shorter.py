"""Notebooks on less: what they measure over is cut down, so that every cell runs in a fraction of the time."""

from __future__ import annotations

import re

FEWER = {"01": {"scenes": 2}, "02": {"scenes": 40}, "04": {"scenes": 2}, "05": {"runs": 2, "draws": 20}, "07": {"count": 4},
         "08": {"live": 1}, "09": {"seeds": 1}, "10": {"scenes": 1}}
"""By a notebook's number: values for what its cell of parameters sets."""


def shorten(stem: str, parameters: str) -> str:
    """The source of the cell of parameters of the notebook of this name, with the smaller values.

    Raises ValueError if the cell does not set one of them as a number, on a line of its own.
    """
    for name, value in FEWER.get(stem[:2], {}).items():
        parameters, found = re.subn(rf"^{name} = \d+", f"{name} = {value}", parameters, flags=re.MULTILINE)
        if found != 1:
            raise ValueError(f"{stem} does not set the parameter {name!r} once")
    return parameters
