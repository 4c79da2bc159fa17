"""Who edits the benchmark's items: rows of the registry, each asked in the words it is made for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch.nn import functional as F

from lr_helpers.baselines import (
    ABLATIONS,
    ACROSS,
    BASELINES,
    EDITOR,
    TITLES,
    Edited,
    Parts,
    Request,
    known_row,
    load_baseline,
)
from lr_helpers.boxes import box_mask
from lr_helpers.errors import UserError
from lr_helpers.files.pictures import to_tensor
from lr_helpers.inpainting import composite
from lr_helpers.models.loading import Models
from lr_helpers.study.pie.items import Item

MASK = "known_region"
"""The row whose region is the benchmark's own mask."""
FIRST = ("learned", "paper", "official_code", MASK, "whole_picture")
ROWS = (*FIRST, *(row for row in BASELINES if row not in (*FIRST, *ABLATIONS, *ACROSS)))
"""The rows by name, ours first, in the table's order; where there is a region predictor, those of ACROSS come to them.
"""


def title(row: str) -> str:
    """What tables call a row."""
    return "the benchmark's mask" if row == MASK else TITLES[row]


def check_rows(rows: Sequence[str]) -> None:
    """Raises UserError for a row that there isn't, or that is named twice."""
    for row in rows:
        known_row(row)
        if rows.count(row) > 1:
            raise UserError(f"--methods names {row!r} twice; name each once.")


def asked(row: str, item: Item) -> tuple[str, str]:
    """Source and prompt of this item for this row: the benchmark's sentences, or the edit in two phrases."""
    return (item.before, item.after) if BASELINES[row].sentences else (item.wording.source, item.wording.prompt)


def edit(row: str, item: Item, models: Models, parts: Parts, seed: int) -> Edited:
    """One item by one row, its picture as large as the item's.

    Edits are made at the model's size. Where a row has a region, only that is enlarged and pasted into the item's own
    picture. Raises UserError where the row can't be run here.
    """
    size = models.profile.size
    # Only the row MASK looks at the known region, only InstructPix2Pix at the instruction.
    known = _resized(_mask(item), size, "nearest-exact")[0]
    request = Request(to_tensor(item.picture, size), *asked(row, item), seed, known=known, instruction=item.instruction)
    made = load_baseline(row, models.profile, models, parts=parts).run(request)
    if item.size == size:
        return made
    # The edit is smaller than the item: enlarge it, and keep the item's own pixels outside.
    picture = _resized(made.picture, item.size, "bicubic").clamp(0, 1)
    if made.region is not None and BASELINES[row].family != EDITOR:
        region = made.region[None].float()
        if made.painted:
            region = box_mask(made.painted, *region.shape[1:])
        region = _resized(region, item.size, "nearest-exact")
        picture = composite(picture, to_tensor(item.picture), region)
    return replace(made, picture=picture)


def overlap(region: torch.Tensor, item: Item) -> float:
    """Intersection over union of a (S, S) region in {0, 1} with the benchmark's mask, its border left out."""
    mask = _resized(_mask(item), region.shape[-1], "nearest-exact")[0]
    both, either = (region * mask).sum(), torch.maximum(region, mask).sum()
    return float(both / either) if either else 1.0


def _mask(item: Item) -> torch.Tensor:
    """(1, size, size): the benchmark's mask without its border."""
    return torch.from_numpy(item.mask(border=False))[None].float()


def _resized(picture: torch.Tensor, size: int, mode: str) -> torch.Tensor:
    """(C, H, W) → (C, size, size)."""
    if picture.shape[-2:] == (size, size):
        return picture
    return F.interpolate(picture[None], size=(size, size), mode=mode, antialias=mode == "bicubic")[0]
