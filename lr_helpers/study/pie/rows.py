"""Who edits: the baselines, our presets among them, each asked in the words it is made for."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional as F

from lr_helpers.baselines import BASELINES, EDITOR, Edited, Parts, load_baseline
from lr_helpers.errors import UserError
from lr_helpers.files.pictures import to_tensor
from lr_helpers.inpainting import composite
from lr_helpers.models.loading import Models
from lr_helpers.study.pie.items import Item

MASK = "known_region"
"""The row whose region is the benchmark's own mask."""
FIRST = ("learned", "paper", "official_code", MASK, "whole_picture")
ROWS = (*FIRST, *(name for name in BASELINES if name not in FIRST))
"""The rows by name, ours first, in the table's order."""
SENTENCES = {"whole_picture", "sdedit", "diffedit"}
"""Rows that paint the whole picture and so get both whole sentences. The others get `Item.wording`, what is to go and
what is to come, because they look for it in the picture or paint it into a region; and who follows an instruction gets
the benchmark's.
"""


def title(row: str) -> str:
    """What tables call a row."""
    return "the benchmark's mask" if row == MASK else BASELINES[row].title


def check_rows(rows: Sequence[str]) -> None:
    """Raises UserError for a row that there isn't, or that is named twice."""
    for row in rows:
        if row not in ROWS:
            raise UserError(f"The method {row!r} is unknown; choose from {', '.join(ROWS)}.")
    if len(set(rows)) < len(rows):
        raise UserError(f"--methods names {next(r for r in rows if rows.count(r) > 1)!r} twice; name each once.")


def asked(row: str, item: Item) -> tuple[str, str]:
    """Caption and prompt of this item for this row."""
    return (item.before, item.after) if row in SENTENCES else (item.wording.source, item.wording.prompt)


def edit(row: str, item: Item, models: Models, parts: Parts, seed: int) -> Edited:
    """One item by one row, its picture as large as the item's.

    Edits are made at the model's size. Where a row has a region, only that is enlarged and pasted into the item's own
    picture. Raises UserError where the row can't be run here.
    """
    size, settings = models.profile.size, {}
    if row == MASK:
        settings["known"] = _resized(torch.from_numpy(item.mask(border=False))[None].float(), size, "nearest-exact")[0]
    if row == "instruct_pix2pix" and item.instruction:
        said = item.instruction.replace("{", "{{").replace("}", "}}")
        settings |= {"replace": said, "add": said}
    baseline = load_baseline(row, models.profile, models, parts=parts, **settings)
    made = baseline(to_tensor(item.picture, size), *asked(row, item), seed)
    picture = made.picture
    if item.size != size:
        picture = _resized(picture, item.size, "bicubic").clamp(0, 1)
        if made.region is not None and baseline.family != EDITOR:
            mask = _resized(made.region[None].float(), item.size, "nearest-exact")
            picture = composite(picture, to_tensor(item.picture), mask)
    region = None if row == "whole_picture" else made.region  # that one is no choice
    return Edited(picture, region, made.evaluations, made.seconds)


def overlap(region: torch.Tensor, item: Item) -> float:
    """Intersection over union of a (S, S) region in {0, 1} with the benchmark's mask, its border left out."""
    mask = _resized(torch.from_numpy(item.mask(border=False))[None].float(), region.shape[-1], "nearest-exact")[0]
    both, either = (region * mask).sum(), torch.maximum(region, mask).sum()
    return float(both / either) if either else 1.0


def _resized(picture: torch.Tensor, size: int, mode: str) -> torch.Tensor:
    """(C, H, W) → (C, size, size)."""
    if picture.shape[-2:] == (size, size):
        return picture
    return F.interpolate(picture[None], size=(size, size), mode=mode, antialias=mode == "bicubic")[0]
