"""PIE-Bench's masks: a flat list [start, length, start, length, …] of runs of ones, row by row."""

from __future__ import annotations

from typing import Any

import numpy as np

from lr_helpers.errors import UserError


def decode(runs: Any, height: int, width: int, border: bool = True) -> np.ndarray:
    """The (height, width) mask, uint8 0 or 1.

    With `border`, its outermost pixels are 1, as the benchmark has it ("to avoid annotation errors"). A run that goes
    on past the last pixel is cut there, also as in the benchmark. Raises UserError for what is no list of runs.
    """
    if not isinstance(runs, list) or not all(type(n) is int for n in runs) or len(runs) % 2:
        raise UserError("The mask is no list [start, length, …] of whole numbers; give both of each run.")
    starts, lengths = np.array(runs[::2], dtype=object), np.array(runs[1::2], dtype=object)
    pixels = height * width
    if len(runs) and (min(runs) < 0 or max(starts) >= pixels):
        raise UserError(f"The mask has a run that does not begin within its {width}×{height} pixels; "
                        "check the picture's size.")
    # Runs may overlap: count how many begin and end at each pixel, then sum.
    steps = np.zeros(pixels + 1, np.int64)
    np.add.at(steps, starts.astype(np.int64), 1)
    np.add.at(steps, np.minimum(starts + lengths, pixels).astype(np.int64), -1)
    mask = (steps[:-1].cumsum() > 0).astype(np.uint8).reshape(height, width)
    if border:
        mask[[0, -1], :] = 1
        mask[:, [0, -1]] = 1
    return mask


def encode(mask: np.ndarray) -> list[int]:
    """The runs of a (height, width) mask, whose values are 0 and not 0; each as long as can be, in order."""
    # A run begins and ends where two neighbours differ; the row of pixels is framed by zeros.
    flat = np.concatenate([[False], np.asarray(mask).ravel() != 0, [False]])
    edges = np.flatnonzero(flat[1:] != flat[:-1]).reshape(-1, 2)
    return [int(n) for start, end in edges for n in (start, end - start)]
