"""Exercises of notebook 10: proposals that leave earlier regions alone, and where a region was lost."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from lr_helpers.boxes import area as _area
from lr_helpers.boxes import intersection as _intersection
from lr_helpers.boxes import iou as _iou
from lr_helpers.checks.exercise import Exercise, case


def _proposals() -> list[tuple]:
    """((K, M) boxes, earlier regions): random ones, then boxes of which each is about one way to overlap or not."""
    rng = torch.Generator().manual_seed(4)
    corner = torch.randint(0, 44, (5, 3, 2), generator=rng)
    boxes = torch.cat([corner, corner + torch.randint(6, 20, (5, 3, 1), generator=rng)], -1)
    flat = torch.cat([corner, corner + torch.randint(3, 30, (5, 3, 2), generator=rng)], -1)
    touching = torch.tensor([[[0, 0, 10, 10], [10, 0, 20, 10]], [[5, 10, 15, 20], [2, 2, 8, 8]]])
    across = torch.tensor([[[0, 20, 60, 30], [20, 0, 30, 60]], [[0, 0, 60, 9], [12, 18, 50, 22]]])
    around = torch.tensor([[[0, 0, 60, 60], [14, 14, 46, 46]], [[50, 0, 60, 60], [0, 41, 60, 60]]])
    inside = torch.tensor([[[20, 20, 30, 30], [18, 5, 22, 39]], [[41, 41, 50, 50], [0, 0, 10, 10]]])
    region = [(15, 10, 40, 40)]
    return [(boxes, [(10, 10, 40, 40)]), (flat, [(0, 0, 20, 64), (44, 0, 64, 30)]), (flat[:3], [(30, 5, 33, 60)]),
            case(touching, [(0, 0, 10, 10)], about="ends are exclusive: boxes that only touch share no pixel"),
            case(across, region, about="boxes may cross like the bars of a plus: then neither has a corner in the "
                                       "other"),
            case(around, region, about="a proposal may hold a whole region: then none of its own corners lies in it"),
            case(inside, region, about="a proposal may lie wholly inside a region"),
            case(boxes, [(0, 0, 20, 20), (30, 30, 50, 50), (5, 40, 15, 60)], about="all earlier regions count"),
            case(torch.tensor([[[0, 30, 9, 39], [30, 0, 39, 9]]]), [(0, 0, 9, 9), (30, 30, 39, 39)],
                 about="a box that shares only rows with a region, or only columns, is free"),
            case(boxes, [], about="without earlier regions all are free, with the shape (K, M)"),
            case(boxes[:1, :1], [(0, 0, 64, 64)], about="one anchor with one proposal keeps its axes: (1, 1)"),
            case(torch.tensor([[[0, 0, 11, 11], [0, 0, 10, 10]], [[39, 39, 60, 60], [40, 40, 60, 60]]]),
                 [(10, 10, 40, 40)], about="one shared pixel is enough to be in the way, however large the boxes are"),
            case(torch.tensor([[[300, 300, 400, 400], [100, 300, 200, 400]]]), [(350, 350, 500, 500)],
                 about="a picture may be larger than 64 pixels, and than 128: compare the boxes themselves")]


def _free(boxes: torch.Tensor, before: list[tuple]) -> torch.Tensor:
    kept = torch.ones(boxes.shape[:2], dtype=torch.bool)
    for region in before:
        kept &= _intersection(boxes, torch.tensor(region)) == 0
    return kept


def _by_iou(least: float, boxes: torch.Tensor, before: list[tuple]) -> torch.Tensor:
    """Free where the IoU with each region is below `least`."""
    kept = torch.ones(boxes.shape[:2], dtype=torch.bool)
    for region in before:
        kept &= _iou(boxes.float(), torch.tensor(region).float()) < least
    return kept


def _by(hits: Callable) -> Callable:
    """`free_proposals` with another test of overlap: hits(x0, y0, x1, y1 of the boxes, region)."""

    def find(boxes: torch.Tensor, before: list[tuple]) -> torch.Tensor:
        kept = torch.ones(boxes.shape[:2], dtype=torch.bool)
        for region in before:
            kept &= ~hits(*boxes.unbind(-1), region)
        return kept

    return find


def _within(x: torch.Tensor, y: torch.Tensor, box: tuple) -> torch.Tensor:
    return (box[0] <= x) & (x < box[2]) & (box[1] <= y) & (y < box[3])


def _corners(x0, y0, x1, y1, region) -> torch.Tensor:
    """Does a corner of the box lie in the region?"""
    return (_within(x0, y0, region) | _within(x1 - 1, y0, region) | _within(x0, y1 - 1, region)
            | _within(x1 - 1, y1 - 1, region))


def _their_corners(x0, y0, x1, y1, region) -> torch.Tensor:
    """Does a corner of the region lie in the box?"""
    box = (x0, y0, x1, y1)
    places = [(x, y) for x in (region[0], region[2] - 1) for y in (region[1], region[3] - 1)]
    return torch.stack([_within(torch.tensor(x), torch.tensor(y), box) for x, y in places]).any(0)


free_proposals = Exercise(
    name="free_proposals", reference=_free, cases=_proposals,
    reminder="a box is apart from a region if it ends before it begins or begins where it ends, in x or in y",
    mistakes={
        "ends are exclusive: boxes that only touch share no pixel":
            _by(lambda x0, y0, x1, y1, r: ~((x1 < r[0]) | (x0 > r[2]) | (y1 < r[1]) | (y0 > r[3]))),
        "ends are exclusive, and that is all: boxes that share one row or column of pixels overlap":
            _by(lambda x0, y0, x1, y1, r: ~((x1 - 1 <= r[0]) | (x0 >= r[2] - 1) | (y1 - 1 <= r[1]) | (y0 >= r[3] - 1))),
        "sharing a part is enough to be in the way": (
            _by(lambda x0, y0, x1, y1, r: (x0 >= r[0]) & (x1 <= r[2]) & (y0 >= r[1]) & (y1 <= r[3])),
            lambda boxes, before: torch.stack([torch.ones(boxes.shape[:2], dtype=torch.bool), *(
                _intersection(boxes, torch.tensor(r)) < _area(boxes) for r in before)]).all(0),
            lambda boxes, before: torch.stack([torch.ones(boxes.shape[:2], dtype=torch.bool), *(
                _intersection(boxes, torch.tensor(r)) < _area(boxes) / 2 for r in before)]).all(0),
            lambda boxes, before: torch.stack([torch.ones(boxes.shape[:2], dtype=torch.bool), *(
                _intersection(boxes, torch.tensor(r)) <= _area(boxes) / 2 for r in before)]).all(0)),
        "corners are not enough: boxes can cross, or one can hold the other, without a corner inside": (
            _by(_corners), _by(_their_corners), _by(lambda *given: _corners(*given) | _their_corners(*given))),
        "the first corner is not enough: the box may reach into the region from outside":
            _by(lambda x0, y0, x1, y1, r: _within(x0, y0, r)),
        "the centre is not enough: a box may reach into the region with its rim": (
            _by(lambda x0, y0, x1, y1, r: _within((x0 + x1) / 2, (y0 + y1) / 2, r)),
            _by(lambda x0, y0, x1, y1, r: _within((x0 + x1) // 2, (y0 + y1) // 2, r))),
        "boxes overlap only if they share rows and columns: one without the other is free": (
            _by(lambda x0, y0, x1, y1, r: ((x0 < r[2]) & (r[0] < x1)) | ((y0 < r[3]) & (r[1] < y1))),
            _by(lambda x0, y0, x1, y1, r: (x0 < r[2]) & (r[0] < x1)), _by(lambda x0, y0, x1, y1, r: (y0 < r[3]) & (
                r[1] < y1))),
        "a box may lie on either side of a region: compare both ends, in x and in y": (
            _by(lambda x0, y0, x1, y1, r: ~((x1 <= r[0]) | (y1 <= r[1]))),
            _by(lambda x0, y0, x1, y1, r: ~((x0 >= r[2]) | (y0 >= r[3])))),
        "x and y are swapped: a box is (x0, y0, x1, y1)": lambda boxes, before: _free(
            boxes[..., [1, 0, 3, 2]], before),
        "the last two numbers of a box are its other corner, not its width and height": (
            lambda boxes, before: _free(torch.cat([boxes[..., :2], boxes[..., :2] + boxes[..., 2:]], -1), [
                (x, y, x + w, y + h) for x, y, w, h in before])),
        "keep those that do *not* overlap": lambda boxes, before: ~_free(boxes, before),
        "all earlier regions count, not only the last": lambda boxes, before: _free(boxes, before[-1:]),
        "all earlier regions count, not only the first": lambda boxes, before: _free(boxes, before[:1]),
        "a proposal has to be free of every region, not of any one of them": lambda boxes, before: torch.stack(
            [_free(boxes, [r]) for r in before]).any(0) if before else _free(boxes, before),
        "sides may be negative where boxes share nothing: clamp them to 0 before you multiply": lambda boxes, before: (
            torch.stack([torch.ones(boxes.shape[:2], dtype=torch.bool), *((torch.minimum(boxes[..., 2:], torch.tensor(
                r[2:])) - torch.maximum(boxes[..., :2], torch.tensor(r[:2]))).prod(-1) <= 0 for r in before)]).all(0)),
        "one shared pixel is enough to be in the way: no part of the area or of the IoU is asked for": tuple(
            partial(_by_iou, least) for least in (0.5, 0.25, 0.1, 0.05, 0.02, 0.01)),
        "return booleans, not 0 and 1": (
            lambda boxes, before: _free(boxes, before).float(), lambda boxes, before: _free(boxes, before).int()),
        "each proposal has an answer of its own, (K, M): don't join those of an anchor": (
            lambda boxes, before: _free(boxes, before).all(1), lambda boxes, before: _free(boxes, before).any(1)),
        "True and False for each proposal are asked for, not the proposals themselves": lambda boxes, before: boxes[
            _free(boxes, before)],
    })


def _tables() -> list[tuple]:
    """((K, M) IoU, (K, M) shortlist, chosen index (k, m)): random ones, then some about one thing each."""
    rng = torch.Generator().manual_seed(11)
    cases = []
    for number in range(24):
        iou = torch.rand(4, 3, generator=rng) * 0.66
        kept = torch.rand(4, 3, generator=rng) < 0.45
        k, m = (int(torch.randint(n, (), generator=rng)) for n in (4, 3))
        kept[k, m] |= number % 3 > 0
        cases.append((iou, kept, (k, m)))
    iou = torch.tensor([[0.1, 0.5, 0.3], [0.7, 0.2, 0.0]])
    none = torch.zeros(2, 3, dtype=torch.bool)
    some, others = none.clone(), none.clone()
    some[0, 1] = some[0, 0] = True
    others[0, 0] = others[1, 2] = True
    return [*cases,
            case(iou, some, (0, 1), about="an IoU of exactly 0.5 fits: compare with >="),
            case(iou, others, (1, 2), about="some box fits, but none of the shortlist: the shortlist lost it"),
            case(iou, ~none, (0, 2), about="the shortlist held a box that fits, around another anchor: the choice "
                                           "lost it"),
            case(iou * 0.5, ~none, (1, 0), about="no proposal fits: the proposals lost it, whatever was kept"),
            case(iou, ~none, (1, 0), about="the chosen box fits: found"),
            case(torch.tensor([[0.2, 0.5]]), torch.tensor([[True, False]]), (0, 0),
                 about="an IoU of exactly 0.5 fits, wherever it is: compare with >="),
            case(torch.tensor([[0.4995, 0.1]]), torch.tensor([[True, True]]), (0, 0),
                 about="an IoU a little below 0.5 doesn't fit"),
            case(iou, none, (0, 0), about="where nothing was kept at all, and some box fits, the shortlist lost it"),
            case(iou, others, (1, 0), about="the chosen box fits, so the region was found, whatever was kept")]


def _stage(iou: torch.Tensor, kept: torch.Tensor, chosen: tuple[int, int], least: float = 0.5,
    exact: bool = True) -> str:
    fits = iou >= least if exact else iou > least
    if fits[chosen]:
        return "found"
    if not fits.any():
        return "proposals"
    return "choice" if (fits & kept).any() else "shortlist"


def _renamed(**names: str) -> Callable:
    """The right answer with some stages called otherwise."""
    return lambda iou, kept, chosen: names.get(_stage(iou, kept, chosen), _stage(iou, kept, chosen))


def _of_anchor(iou: torch.Tensor, kept: torch.Tensor, chosen: tuple[int, int]) -> str:
    k, m = chosen
    return _stage(iou[k:k + 1], kept[k:k + 1], (0, m))


def _shortlist_of_anchor(iou: torch.Tensor, kept: torch.Tensor, chosen: tuple[int, int]) -> str:
    stage = _stage(iou, kept, chosen)
    if stage not in ("choice", "shortlist"):
        return stage
    return "choice" if ((iou >= 0.5) & kept)[chosen[0]].any() else "shortlist"


def _proposals_of_anchor(iou: torch.Tensor, kept: torch.Tensor, chosen: tuple[int, int]) -> str:
    stage = _stage(iou, kept, chosen)
    return stage if stage == "found" or (iou[chosen[0]] >= 0.5).any() else "proposals"


def _any_of_anchor(iou: torch.Tensor, kept: torch.Tensor, chosen: tuple[int, int]) -> str:
    return "found" if (iou[chosen[0]] >= 0.5).any() else _stage(iou, kept, chosen)


def _best_kept(iou: torch.Tensor, kept: torch.Tensor, chosen: tuple[int, int]) -> str:
    stage = _stage(iou, kept, chosen)
    if stage not in ("choice", "shortlist"):
        return stage
    return "choice" if kept.flatten()[iou.argmax()] else "shortlist"


def _both_any(iou: torch.Tensor, kept: torch.Tensor, chosen: tuple[int, int]) -> str:
    stage = _stage(iou, kept, chosen)
    return "choice" if stage == "shortlist" and kept.any() else stage


lost_at = Exercise(
    name="lost_at", reference=_stage, cases=_tables,
    reminder="found, proposals, shortlist, choice: the first stage after which no box that fits is left",
    mistakes={
        "an IoU of exactly 0.5 fits: compare with >=": lambda iou, kept, chosen: _stage(iou, kept, chosen, exact=False),
        "a box fits with an IoU of 0.5 or more, not of another number": (
            lambda iou, kept, chosen: _stage(iou, kept, chosen, 0.6),
            lambda iou, kept, chosen: _stage(iou, kept, chosen, 0.3),
            lambda iou, kept, chosen: _stage(iou, kept, chosen, 0.0, exact=False)),
        "the choice is to blame only if a box was kept that fits, (fits & kept).any()": (
            _renamed(shortlist="choice", proposals="choice"), _renamed(shortlist="choice"), _both_any),
        "the shortlist is to blame only if none that fits was kept": _renamed(choice="shortlist"),
        "the shortlist is to blame only if there was a box that fits among all proposals":
            _renamed(proposals="shortlist"),
        "the proposals are to blame only if none of them fits": _renamed(shortlist="proposals"),
        "choice and shortlist are swapped: it is the choice's fault if a box that fits was kept": _renamed(
            shortlist="choice", choice="shortlist"),
        "shortlist and proposals are swapped: it is the proposals' fault if none fits": _renamed(
            shortlist="proposals", proposals="shortlist"),
        "all proposals count, not only those of the chosen anchor": (
            _of_anchor, _shortlist_of_anchor, _proposals_of_anchor),
        "`chosen` is one box, (k, m): whether that one fits decides, not whether another one of its anchor does":
            _any_of_anchor,
        "any box that fits will do for the shortlist, not the best one alone": _best_kept,
        "the chosen box decides whether the region was found, not the best one": (
            lambda iou, kept, chosen: "found" if (iou * kept).max() >= 0.5 else _stage(iou, kept, chosen),
            lambda iou, kept, chosen: "found" if iou.max() >= 0.5 else "proposals"),
        "the index is (k, m): anchor first, then proposal": lambda iou, kept, chosen: _stage(
            iou, kept, (chosen[1] % len(iou), chosen[0] % iou.shape[1])),
        "the names are \"found\", \"proposals\", \"shortlist\" and \"choice\"": (
            _renamed(found="Found", choice="Choice", shortlist="Shortlist", proposals="Proposals"),
            _renamed(proposals="proposal"), _renamed(found="")),
        "kept says which were kept: True means it is in the shortlist":
            lambda iou, kept, chosen: _stage(iou, ~kept, chosen),
        "that is only whether it was found: name the stage that lost it":
            lambda iou, kept, chosen: bool(iou[chosen] >= 0.5),
    })
