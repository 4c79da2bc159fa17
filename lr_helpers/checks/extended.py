"""Exercises of notebook 10: proposals that leave earlier regions alone, and where a region was lost."""

from __future__ import annotations

import torch

from lr_helpers.boxes import area as _area
from lr_helpers.boxes import intersection as _intersection
from lr_helpers.checks.exercise import Exercise


def _proposals() -> list[tuple]:
    """((K, M, 4) boxes, earlier regions): none, one, two; boxes that only touch, and boxes inside a region."""
    rng = torch.Generator().manual_seed(4)
    corner = torch.randint(0, 44, (5, 3, 2), generator=rng)
    boxes = torch.cat([corner, corner + torch.randint(6, 20, (5, 3, 1), generator=rng)], -1)
    touching = torch.tensor([[[0, 0, 10, 10], [10, 0, 20, 10]], [[5, 10, 15, 20], [2, 2, 8, 8]]])
    return [(boxes, []), (boxes, [(10, 10, 40, 40)]), (boxes, [(0, 0, 20, 64), (44, 0, 64, 64)]),
            (touching, [(0, 0, 10, 10)])]


def _free(boxes: torch.Tensor, before: list[tuple]) -> torch.Tensor:
    kept = torch.ones(boxes.shape[:2], dtype=torch.bool)
    for region in before:
        kept &= _intersection(boxes, torch.tensor(region)) == 0
    return kept


def _touching(boxes: torch.Tensor, before: list[tuple]) -> torch.Tensor:
    kept = torch.ones(boxes.shape[:2], dtype=torch.bool)
    for x0, y0, x1, y1 in before:
        apart = (boxes[..., 2] < x0) | (boxes[..., 0] > x1) | (boxes[..., 3] < y0) | (boxes[..., 1] > y1)
        kept &= apart
    return kept


def _not_inside(boxes: torch.Tensor, before: list[tuple]) -> torch.Tensor:
    kept = torch.ones(boxes.shape[:2], dtype=torch.bool)
    for region in before:
        kept &= _intersection(boxes, torch.tensor(region)) < _area(boxes)
    return kept


free_proposals = Exercise(
    name="free_proposals", reference=_free, cases=_proposals,
    mistakes={
        "ends are exclusive: boxes that only touch share no pixel": _touching,
        "sharing a part is enough to be in the way": _not_inside,
        "keep those that do *not* overlap": lambda boxes, before: ~_free(boxes, before),
        "all earlier regions count, not only the last": lambda boxes, before: _free(boxes, before[-1:]),
        "all earlier regions count, not only the first": lambda boxes, before: _free(boxes, before[:1]),
    })


def _tables() -> list[tuple]:
    """((K, M) IoU, (K, M) shortlist, chosen index (k, m))."""
    iou = torch.tensor([[0.1, 0.5, 0.3], [0.7, 0.2, 0.0]])
    none = torch.zeros(2, 3, dtype=torch.bool)
    some, others = none.clone(), none.clone()
    some[0, 1] = some[0, 0] = True
    others[0, 0] = others[1, 2] = True
    return [(iou, some, (0, 1)), (iou, some, (0, 0)), (iou, others, (1, 2)), (iou * 0.5, some, (0, 1)),
            (iou, ~none, (1, 0)), (iou, ~none, (0, 2)), (iou * 0.5, ~none, (1, 0))]


def _stage(iou: torch.Tensor, kept: torch.Tensor, chosen: tuple[int, int], exact: bool = True) -> str:
    fits = iou >= 0.5 if exact else iou > 0.5
    if fits[chosen]:
        return "found"
    if not fits.any():
        return "proposals"
    return "choice" if (fits & kept).any() else "shortlist"


def _blames_choice(iou: torch.Tensor, kept: torch.Tensor, chosen: tuple[int, int]) -> str:
    stage = _stage(iou, kept, chosen)
    return "choice" if stage in ("shortlist", "proposals") else stage


lost_at = Exercise(
    name="lost_at", reference=_stage, cases=_tables,
    mistakes={
        "an IoU of exactly 0.5 fits": lambda iou, kept, chosen: _stage(iou, kept, chosen, exact=False),
        "the choice is to blame only if the shortlist offered a box that fits": _blames_choice,
        "the shortlist is to blame only if there was a box that fits among all proposals":
            lambda iou, kept, chosen: "shortlist" if _stage(iou, kept, chosen) == "proposals"
            else _stage(iou, kept, chosen),
        "the chosen box decides whether the region was found, not the best one":
            lambda iou, kept, chosen: "found" if (iou * kept).max() >= 0.5 else _stage(iou, kept, chosen),
    })
