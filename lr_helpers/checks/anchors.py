"""Exercises of notebook 02: from the attention of a ViT to anchor points, and whether they land on objects."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from lr_helpers import anchors
from lr_helpers.boxes import area, box_mask, intersection
from lr_helpers.checks.exercise import Exercise, case


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _attention(seed: int, heads: int, h: int, w: int) -> torch.Tensor:
    """(heads, h, w) above 0, strong in some heads and weak in others, as it is in a real ViT."""
    strength = torch.linspace(0.2, 1, heads)[:, None, None]
    return (torch.rand(heads, h, w, generator=_generator(seed)) ** 3 + 1e-3) * strength


def _order(values: torch.Tensor, count: int) -> torch.Tensor:
    """The `count` highest of (h, w) values as (row, column)."""
    index = values.flatten().sort(descending=True, stable=True).indices[:count]
    return torch.stack([index // values.shape[1], index % values.shape[1]], dim=1)


# cls_attention


def _cls_attention(attention: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    return attention[0, :, 0, 1:].reshape(-1, *grid)


def _raw_attentions() -> list[tuple]:
    cases = []
    for seed, (heads, h, w, about) in enumerate([
            (4, 3, 5, ""), (2, 6, 4, ""), (3, 4, 4, ""),
            (1, 1, 3, "there may be one head only, and one row of patches: keep their axes")]):
        scores = torch.randn(1, heads, 1 + h * w, 1 + h * w, generator=_generator(seed))
        cases.append(case(scores.softmax(-1), (h, w), about=about))
    return cases


cls_attention = Exercise(
    name="cls_attention", reference=_cls_attention, cases=_raw_attentions,
    reminder="of the only picture, all heads, query 0, the keys from 1 on; reshaped to (heads, h, w)",
    mistakes={
        "This is a column: what all patches pay to [CLS]. We want its row: what [CLS] pays to the patches.":
            lambda attention, grid: attention[0, :, 1:, 0].reshape(-1, *grid),
        "This is the row of the first patch. [CLS] comes before all patches, so its row has the index 0.":
            lambda attention, grid: attention[0, :, 1, 1:].reshape(-1, *grid),
        "This is the row of the last patch. [CLS] comes before all patches, so its row has the index 0.":
            lambda attention, grid: attention[0, :, -1, 1:].reshape(-1, *grid),
        "What [CLS] pays to itself is still in there: leave out the first key, not the last.":
            lambda attention, grid: attention[0, :, 0, :-1].reshape(-1, *grid),
        "What [CLS] pays to itself is still in there: leave out the first key.": (
            lambda attention, grid: attention[0, :, 0, :],
            lambda attention, grid: attention[0, :, 0, :].reshape(-1, *grid)),
        "Columns run fastest: the patches are in reading order, so reshape to (h, w) and don't transpose.": (
            lambda attention, grid: attention[0, :, 0, 1:].reshape(-1, *grid[::-1]).transpose(1, 2),
            lambda attention, grid: attention[0, :, 0, 1:].reshape(-1, *grid[::-1])),
        "The heads are gone. Keep them apart, (heads, h, w); they are averaged later.": (
            lambda attention, grid: attention[0, :, 0, 1:].mean(0).reshape(*grid),
            lambda attention, grid: attention[0, 0, 0, 1:].reshape(*grid)),
        "Only the first head is there. Keep all of them, (heads, h, w).":
            lambda attention, grid: attention[0, 0, 0, 1:].reshape(1, *grid),
        "This is the attention averaged over all queries. We want only the row of [CLS], query 0.": (
            lambda attention, grid: attention[0, :, :, 1:].mean(1).reshape(-1, *grid),
            lambda attention, grid: attention[0, :, 1:, 1:].mean(1).reshape(-1, *grid)),
        "Leave the values as they are: don't divide by their sum, their largest or their range.": (
            lambda attention, grid: (attention[0, :, 0, 1:] / attention[0, :, 0, 1:].sum(-1, keepdim=True)).reshape(
                -1, *grid),
            lambda attention, grid: (attention[0, :, 0, 1:] / attention[0, :, 0, 1:].amax(-1, keepdim=True)).reshape(
                -1, *grid),
            lambda attention, grid: (attention[0, :, 0, 1:] / attention[0, :, 0, 1:].max()).reshape(-1, *grid),
            lambda attention, grid: attention[0, :, 0, 1:].softmax(-1).reshape(-1, *grid)),
        "The axis of the pictures is still there: there is one picture, so take its attention, [0].":
            lambda attention, grid: attention[:, :, 0, 1:].reshape(1, -1, *grid),
        "The patches are still in a line: reshape them to the grid, (heads, h, w).":
            lambda attention, grid: attention[0, :, 0, 1:],
    },
)


# top_anchors


def _attentions_and_counts() -> list[tuple]:
    ties = torch.zeros(2, 3, 4)
    ties[:, 1, 2] = 1
    tied = "equally attended patches come in reading order: sort with stable=True, in descending order"
    return [(_attention(0, 4, 5, 7), 6), (_attention(1, 3, 8, 4), 9), (_attention(2, 6, 3, 9), 27),
            case(_attention(3, 1, 4, 6), 1, about="one anchor is a row of its own: the shape is (1, 2)"),
            case(ties, 4, about=tied), case(torch.ones(3, 9, 8) / 72, 20, about=tied)]


def _divided_by_rows(attention: torch.Tensor, count: int) -> torch.Tensor:
    h = attention.shape[1]
    index = attention.mean(0).flatten().sort(descending=True, stable=True).indices[:count]
    return torch.stack([index // h, index % h], dim=1)


def _top_of_heads(attention: torch.Tensor, count: int) -> torch.Tensor:
    h, w = attention.shape[1:]
    index = attention.flatten().sort(descending=True, stable=True).indices[:count] % (h * w)
    return torch.stack([index // w, index % w], dim=1)


def _rows_of_all_heads(attention: torch.Tensor, count: int) -> torch.Tensor:
    """As if the heads stood one below the other in a single map."""
    w = attention.shape[2]
    index = attention.flatten().sort(descending=True, stable=True).indices[:count]
    return torch.stack([index // w, index % w], dim=1)


top_anchors = Exercise(
    name="top_anchors", reference=anchors.top_anchors, cases=_attentions_and_counts,
    reminder="average the heads, sort all patches in descending order, and turn an index into (index // w, index % w)",
    mistakes={
        "These are (column, row). An anchor is (row, column), as a matrix is indexed.":
            lambda attention, count: anchors.top_anchors(attention, count).flip(1),
        "A row is `index // w`, where w is the number of columns; you have divided by the number of rows.": (
            _divided_by_rows, lambda attention, count: _divided_by_rows(attention, count).flip(1)),
        "These are the least attended patches. Sort in descending order.": (
            lambda attention, count: _order(-attention.mean(0), count),
            lambda attention, count: anchors.top_anchors(attention, attention[0].numel())[-count:].flip(0),
            lambda attention, count: anchors.top_anchors(attention, attention[0].numel())[-count:]),
        "The right patches, but the strongest has to come first.": (
            lambda attention, count: anchors.top_anchors(attention, count).flip(0),
            lambda attention, count: _order(-torch.zeros_like(attention[0]).index_put(
                tuple(anchors.top_anchors(attention, count).T), torch.tensor(1.0)) * -1, count)),
        "Only the first head was asked. Average over the heads first.":
            lambda attention, count: _order(attention[0], count),
        "Only the last head was asked. Average over the heads first.":
            lambda attention, count: _order(attention[-1], count),
        "One loud head decides here: you took the highest value over the heads, not their mean.":
            lambda attention, count: _order(attention.amax(0), count),
        "The heads were not averaged: these are the highest values of single heads.": (
            _top_of_heads, _rows_of_all_heads),
        "One anchor too few: take `count` of them.": lambda attention, count: anchors.top_anchors(
            attention, attention[0].numel())[:count - 1],
        "All patches are there: keep the first `count`.":
            lambda attention, count: anchors.top_anchors(attention, attention[0].numel()),
        "The strongest is missing: begin with the first of the sorted patches.":
            lambda attention, count: _order(attention.mean(0), attention[0].numel())[1:count + 1],
        "These are positions in a line. Turn each into (row, column): index // w and index % w.":
            lambda attention, count: attention.mean(0).flatten().sort(descending=True, stable=True).indices[:count],
        "Rows and columns have to stand side by side: stack along axis 1, so that the shape is (K, 2).":
            lambda attention, count: anchors.top_anchors(attention, count).T,
        "Positions count from 0, not from 1.": lambda attention, count: anchors.top_anchors(attention, count) + 1,
    },
)


# anchor_centres


def _anchors_and_grids() -> list[tuple]:
    cases = [(torch.tensor([[0, 0], [1, 3], [2, 5]]), (3, 6), 60)]
    for seed, (h, w) in enumerate([(8, 5), (4, 10), (16, 16)]):
        rows = torch.randint(h, (7,), generator=_generator(seed))
        columns = torch.randint(w, (7,), generator=_generator(seed + 10))
        cases.append((torch.stack([rows, columns], dim=1), (h, w), 64))
    return [*cases,
            case(torch.tensor([[2, 1], [0, 2]]), (3, 3), 224,
                 about="the size need not be a multiple of the grid, nor 64: keep fractions of pixels"),
            case(torch.tensor([[1, 0]]), (2, 7), 100, about="one anchor is a row of its own: the shape is (1, 2)")]


def _centres(a: torch.Tensor, grid: tuple[int, int], size: float, before: float = 0.5,
    after: float = 0.0) -> torch.Tensor:
    return torch.stack([(a[:, 1] + before) * size / grid[1] + after, (a[:, 0] + before) * size / grid[0] + after], 1)


anchor_centres = Exercise(
    name="anchor_centres", reference=anchors.anchor_centres, cases=_anchors_and_grids,
    reminder="x = (column + ½) · size / w, and y = (row + ½) · size / h",
    mistakes={
        "Rows and columns are swapped, as in the official code: x comes from the column, y from the row.":
            lambda a, grid, size: torch.stack([(a[:, 0] + 0.5) * size / grid[0], (a[:, 1] + 0.5) * size / grid[1]], 1),
        "Rows and columns are swapped: x comes from the column, and a row is size / h high.":
            lambda a, grid, size: torch.stack([(a[:, 0] + 0.5) * size / grid[1], (a[:, 1] + 0.5) * size / grid[0]], 1),
        "These are the left top corners of the patches. The centre is half a patch further, both ways.":
            lambda a, grid, size: _centres(a, grid, size, before=0),
        "These are the right bottom corners of the patches. The centre is half a patch from the start, not a whole "
        "one.":
            lambda a, grid, size: _centres(a, grid, size, before=1),
        "A patch is size / w pixels wide and size / h high; you have used the other number for each.":
            lambda a, grid, size: torch.stack([(a[:, 1] + 0.5) * size / grid[0], (a[:, 0] + 0.5) * size / grid[1]], 1),
        "A patch need not be square: it is size / w wide and size / h high.": (
            lambda a, grid, size: (a.flip(1) + 0.5) * size / grid[0],
            lambda a, grid, size: (a.flip(1) + 0.5) * size / grid[1]),
        "This is half a pixel beyond the corner. Add half a patch before you scale, not half a pixel after.": (
            lambda a, grid, size: _centres(a, grid, size, before=0, after=0.5),
            lambda a, grid, size: _centres(a, grid, size, before=0, after=-0.5)),
        "The last patch ends at the border; there are w patches across, not w - 1 steps between them.": (
            lambda a, grid, size: torch.stack([a[:, 1] * size / (grid[1] - 1), a[:, 0] * size / (grid[0] - 1)], 1),
            lambda a, grid, size: torch.stack(
                [a[:, 1] * (size - 1) / (grid[1] - 1), a[:, 0] * (size - 1) / max(grid[0] - 1, 1)], 1)),
        "The picture is `size` pixels wide, not size - 1: the centres lie in 0..size.":
            lambda a, grid, size: _centres(a, grid, size - 1),
        "This is half a pixel too far to the left and up: (row + ½) · size / h is the centre already.":
            lambda a, grid, size: _centres(a, grid, size, after=-0.5),
        "These are centres in patches, not in pixels: multiply by size / w and size / h.": (
            lambda a, grid, size: a.flip(1) + 0.5, lambda a, grid, size: _centres(a, grid, 1)),
        "Fractions are cut off: divide with /, not with //, and keep the centre as float.": (
            lambda a, grid, size: torch.stack([a[:, 1] * (size // grid[1]) + size // grid[1] // 2,
                                               a[:, 0] * (size // grid[0]) + size // grid[0] // 2], 1).float(),
            lambda a, grid, size: torch.stack([(a[:, 1] + 0.5) * (size // grid[1]),
                                               (a[:, 0] + 0.5) * (size // grid[0])], 1),
            lambda a, grid, size: _centres(a, grid, size).floor(),
            lambda a, grid, size: _centres(a, grid, size).round()),
        "x and y have to stand side by side: stack along axis 1, so that the shape is (K, 2).":
            lambda a, grid, size: _centres(a, grid, size).T,
        "y grows downwards, as rows do: don't take it off the size.":
            lambda a, grid, size: torch.stack([(a[:, 1] + 0.5) * size / grid[1], size - (a[:,
                0] + 0.5) * size / grid[0]], 1),
    },
)


# points_in_boxes


def _points_in_boxes(points: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
    p = points[:, None]
    return ((p >= boxes[:, :2]) & (p < boxes[:, 2:])).all(-1)


def _points_and_boxes() -> list[tuple]:
    cases = []
    for seed in range(3):
        corners = torch.randint(0, 40, (3, 2), generator=_generator(seed))
        sides = torch.randint(8, 24, (3, 2), generator=_generator(seed + 10))
        points = torch.rand(12, 2, generator=_generator(seed + 20)) * 64
        cases.append((points, torch.cat([corners, corners + sides], dim=1)))
    box = torch.tensor([[10, 20, 30, 50]])
    one = torch.rand(5, 2, generator=_generator(30)) * 40 + 5
    return [*cases,
            case(torch.tensor([[30.0, 35.0], [20.0, 50.0], [29.9, 49.9], [20.0, 35.0]]), box,
                 about="the end of a box is exclusive: a point at x = x1 or y = y1 is outside"),
            case(torch.tensor([[10.0, 35.0], [20.0, 20.0], [10.0, 20.0], [9.9, 35.0]]), box,
                 about="the start of a box belongs to it: a point at x = x0 or y = y0 is inside"),
            case(one, torch.tensor([[0, 0, 64, 64], [5, 5, 5, 9], [12, 8, 31, 29], [2, 30, 40, 33]]),
                 about="a box may be flat or empty, and points may lie in several boxes"),
            case(one[:1], box, about="one point and one box give the shape (1, 1)"),
            case(torch.tensor([[10.2, 20.0], [10.7, 20.0], [20.6, 20.0], [15.0, 30.3], [-0.4, 5.0]]),
                 torch.tensor([[10.5, 8.0, 20.5, 30.5], [12.0, 10.0, 40.0, 40.0], [0.0, 0.0, 6.0, 9.0]]),
                 about="points and boxes may have fractions, and lie outside of the picture: don't round or cut them"),
            case(torch.tensor([[70.5, 90.2], [12.0, 12.0]]), torch.tensor([[0, 0, 100, 100], [60, 80, 99, 99]]),
                 about="a point may lie in several boxes, and a picture may be larger than 64 pixels: compare each box "
                       "by itself")]


def _within(points: torch.Tensor, boxes: torch.Tensor, low: Callable = torch.ge,
    high: Callable = torch.lt) -> torch.Tensor:
    p = points[:, None]
    return (low(p, boxes[:, :2]) & high(p, boxes[:, 2:])).all(-1)


points_in_boxes = Exercise(
    name="points_in_boxes", reference=_points_in_boxes, cases=_points_and_boxes,
    reminder="x0 ≤ x < x1 and y0 ≤ y < y1, for each point (a row) and each box (a column)",
    mistakes={
        "x and y are swapped: boxes are (x0, y0, x1, y1) and points are (x, y).":
            lambda points, boxes: _points_in_boxes(points.flip(1), boxes),
        "The end of a box is exclusive: a point at x = x1 or y = y1 is outside.":
            lambda points, boxes: _within(points, boxes, high=torch.le),
        "The start of a box belongs to it: a point at x = x0 or y = y0 is inside.":
            lambda points, boxes: _within(points, boxes, low=torch.gt),
        "Start and end are the wrong way round: the start of a box belongs to it, its end is exclusive.":
            lambda points, boxes: _within(points, boxes, low=torch.gt, high=torch.le),
        "Only x was compared; y has to be within the box as well.":
            lambda points, boxes: (points[:, :1] >= boxes[:, 0]) & (points[:, :1] < boxes[:, 2]),
        "Only y was compared; x has to be within the box as well.":
            lambda points, boxes: (points[:, 1:] >= boxes[:, 1]) & (points[:, 1:] < boxes[:, 3]),
        "Both x and y have to be within the box: join the comparisons with &, not with |.":
            lambda points, boxes: ((points[:, None] >= boxes[:, :2]) & (points[:, None] < boxes[:, 2:])).any(-1),
        "Only the starts were compared: a point has to be before the box's end as well.":
            lambda points, boxes: (points[:, None] >= boxes[:, :2]).all(-1),
        "Only the ends were compared: a point has to be behind the box's start as well.":
            lambda points, boxes: (points[:, None] < boxes[:, 2:]).all(-1),
        "The last two numbers of a box are its other corner, not its width and height.":
            lambda points, boxes: _points_in_boxes(points, torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1)),
        "A box is (x0, y0, x1, y1), not (x0, x1, y0, y1).":
            lambda points, boxes: _points_in_boxes(points, boxes[:, [0, 2, 1, 3]]),
        "The answer is turned: one row for each point, one column for each box.":
            lambda points, boxes: _points_in_boxes(points, boxes).T,
        "True means inside: this says which points are outside.":
            lambda points, boxes: ~_points_in_boxes(points, boxes),
        "Points have fractions: don't round them or cut them off.": (
            lambda points, boxes: _points_in_boxes(points.round(), boxes),
            lambda points, boxes: _points_in_boxes(points.ceil(), boxes),
            lambda points, boxes: _points_in_boxes(points.floor(), boxes),
            lambda points, boxes: _points_in_boxes(points.long(), boxes)),
        "Boxes may have fractions, too: don't round them or cut them off.": (
            lambda points, boxes: _points_in_boxes(points, boxes.long()),
            lambda points, boxes: _points_in_boxes(points, boxes.float().round())),
        "A point may lie in several boxes: don't stop at the first that holds it.":
            lambda points, boxes: (lambda m: m & (m.cumsum(1) == 1))(_points_in_boxes(points, boxes)),
        "Each box has an answer of its own, (K, N): don't join them with any().": (
            lambda points, boxes: _points_in_boxes(points, boxes).any(1),
            lambda points, boxes: _points_in_boxes(points, boxes).any(1, keepdim=True)),
    },
)


# covered_share


def _covered_share(boxes: torch.Tensor, size: int) -> float:
    masks = [box_mask(box, size, size) for box in boxes.tolist()]
    return float(torch.stack(masks).amax(0).mean())


def _boxes_and_sizes() -> list[tuple]:
    return [(torch.tensor([[10, 20, 30, 50]]), 64), (torch.tensor([[5, 2, 44, 20]]), 48),
            case(torch.tensor([[0, 0, 16, 16], [16, 16, 32, 32]]), 32, about="two boxes that share nothing: add both"),
            case(torch.tensor([[0, 0, 48, 48]]), 48, about="a box as large as the picture covers all of it"),
            case(torch.tensor([[0, 0, 20, 30], [10, 10, 40, 40]]), 64,
                 about="where boxes overlap, pixels count once: mark the pixels first, then count them"),
            case(torch.tensor([[0, 0, 30, 30], [10, 5, 40, 35], [5, 10, 35, 50]]), 64,
                 about="three boxes share pixels here: to take off what each pair shares takes that off too often; "
                       "mark "
                       "the pixels instead"),
            case(torch.tensor([[5, 5, 25, 20], [8, 7, 12, 19], [30, 2, 44, 40]]), 64,
                 about="one box lies inside another: its pixels are covered already"),
            case(torch.tensor([[3, 4, 20, 9], [3, 4, 20, 9]]), 50, about="the same box twice covers its pixels once"),
            case(torch.tensor([[0, 0, 12, 30], [8, 0, 22, 30], [18, 0, 30, 30], [0, 10, 30, 14]]), 30,
                 about="four boxes overlap in several places: mark the pixels, then count them once"),
            case(torch.tensor([[0, 0, 20, 20], [5, 5, 25, 25], [10, 0, 30, 20], [0, 10, 20, 30]]), 40,
                 about="four boxes share pixels here, all at once: mark the pixels, then count them once"),
            case(torch.tensor([[10, 20, 190, 60], [150, 100, 200, 200]]), 200,
                 about="the picture may be of any size: make the mask size × size, not 64 or 100 pixels wide")]


def _pairwise(boxes: torch.Tensor, size: int) -> float:
    shared = sum(float(intersection(boxes[i], boxes[j])) for i in range(len(boxes)) for j in range(i))
    return (float(area(boxes).sum()) - shared) / size**2


def _marked(boxes: torch.Tensor, size: int, low: int = 0, high: int = 0, turned: bool = False) -> float:
    covered = torch.zeros(size, size)
    for x0, y0, x1, y1 in boxes.tolist():
        if turned:
            covered[x0:y0, x1:y1] = 1
        else:
            covered[y0 + low:y1 + high, x0 + low:x1 + high] = 1
    return float(covered.mean())


def _hull(boxes: torch.Tensor, size: int) -> float:
    return float(area(torch.cat([boxes[:, :2].amin(0), boxes[:, 2:].amax(0)]))) / size**2


def _sides_as_corners(boxes: torch.Tensor, size: int) -> float:
    return _marked(torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1), size)


covered_share = Exercise(
    name="covered_share", reference=_covered_share, cases=_boxes_and_sizes,
    reminder="mark the pixels of every box in a size × size mask, and take the mean of the mask",
    mistakes={
        "Where boxes overlap, pixels were counted twice. Mark the pixels first, then count them once.": (
            lambda boxes, size: float(area(boxes).sum()) / size**2,  # or marks that are added up
            lambda boxes, size: min(1.0, float(area(boxes).sum()) / size**2)),
        "Where three boxes overlap, taking off what each pair shares takes too much off. Mark the pixels instead.":
            _pairwise,
        "A pixel in any of the boxes counts; you have counted those that are in all of them.":
            lambda boxes, size: float(torch.stack([box_mask(b, size, size) for b in boxes.tolist()]).amin(0).mean()),
        "This is the share of one box on average. We want the share of all boxes together.":
            lambda boxes, size: float(area(boxes).float().mean()) / size**2,
        "This is the share of the largest box alone. We want the share of all boxes together.":
            lambda boxes, size: float(area(boxes).max()) / size**2,
        "This is the share of the first box alone: go through all of them.":
            lambda boxes, size: float(area(boxes)[0]) / size**2,
        "This is the share of the last box alone: go through all of them, and keep what was marked before.":
            lambda boxes, size: float(area(boxes)[-1]) / size**2,
        "This is a number of pixels. Divide by those of the picture, size × size.":
            lambda boxes, size: _covered_share(boxes, size) * size**2,
        "Divide by the pixels of the picture, size × size, not by its side.":
            lambda boxes, size: _covered_share(boxes, size) * size,
        "A share lies in 0..1: don't multiply by 100.": lambda boxes, size: _covered_share(boxes, size) * 100,
        "Divide by the pixels of this picture, size × size, not of one of 64.":
            lambda boxes, size: _covered_share(boxes, size) * size**2 / 64**2,
        "This is what lies outside of the boxes.": lambda boxes, size: 1 - _covered_share(boxes, size),
        "The end of a box is exclusive: these boxes are a pixel too wide and too high.": (
            lambda boxes, size: _marked(boxes, size, high=1),
            lambda boxes, size: _marked(boxes, size + 1, high=1) * (size + 1) ** 2 / size**2),
        "The end of a box is exclusive already: these boxes are a pixel too narrow and too low.": (
            lambda boxes, size: _marked(boxes, size, high=-1), lambda boxes, size: _marked(boxes, size, low=1)),
        "This is the box around all boxes; what lies between them is not covered.": _hull,
        "The last two numbers of a box are its other corner, not its width and height.": _sides_as_corners,
    },
)


# spread_anchors


def _attentions_and_distances() -> list[tuple]:
    hill = 200 - ((torch.arange(9.0)[:, None] - 3) ** 2 + (torch.arange(12.0)[None] - 7) ** 2)
    return [(hill[None], 6, 2.3), (_attention(0, 4, 9, 6), 5, 2.5), (_attention(4, 3, 10, 10), 8, 1.5),
            (_attention(7, 5, 12, 9), 7, 3.3), (_attention(8, 2, 14, 15), 5, 1.7),
            (hill[None], 6, 3.0),
            case(hill[None], 6, 2.0, about="a patch exactly `distance` away is far enough: compare with >="),
            case(hill[None], 4, 5.0,
                 about="a patch exactly `distance` away is far enough, also across: √(3² + 4²) = 5"),
            case(_attention(2, 3, 8, 8), 9, 0, about="distance 0 gives the plain top anchors, each patch once"),
            case(torch.ones(2, 6, 7), 4, 3.0, about="equally attended patches come in reading order"),
            case(torch.ones(2, 4, 4), 16, 1, about="all patches fit where the distance is 1"),
            case(_attention(5, 2, 5, 5), 9, 3.0,
                 about="raise ValueError where fewer than `count` anchors can be placed"),
            case(_attention(6, 2, 3, 4), 2, 9.0,
                 about="raise ValueError where fewer than `count` anchors can be placed: here only one fits")]


def _greedy(far_enough: Callable, complain: bool = True, values: Callable = lambda a: a.mean(0)) -> Callable:
    """`spread_anchors` with another rule: `far_enough(candidate, chosen, distance)`."""

    def spread(attention: torch.Tensor, count: int, distance: float) -> torch.Tensor:
        order = _order(values(attention), attention[0].numel())
        chosen = [order[0]]
        for candidate in order[1:]:
            if len(chosen) < count and far_enough(candidate.double(), torch.stack(chosen).double(), distance):
                chosen.append(candidate)
        if complain and len(chosen) < count:
            raise ValueError(f"only {len(chosen)} of {count} fit")
        return torch.stack(chosen)

    return spread


def _far(p: torch.Tensor, chosen: torch.Tensor, distance: float) -> bool:
    return bool(((chosen - p).norm(dim=1) >= distance).all())


def _then_thinned(attention: torch.Tensor, count: int, distance: float) -> torch.Tensor:
    order, chosen = anchors.top_anchors(attention, min(count, attention[0].numel())), []
    for candidate in order:
        if not chosen or _far(candidate.double(), torch.stack(chosen).double(), distance):
            chosen.append(candidate)
    return torch.stack(chosen)


def _filled_up(attention: torch.Tensor, count: int, distance: float) -> torch.Tensor:
    order, chosen = anchors.top_anchors(attention, attention[0].numel()).tolist(), []
    for rule in (distance, 0):
        for candidate in order:
            if len(chosen) < count and candidate not in chosen and (not chosen or _far(
                    torch.tensor(candidate).double(), torch.tensor(chosen).double(), rule)):
                chosen.append(candidate)
    return torch.tensor(chosen)


spread_anchors = Exercise(
    name="spread_anchors", reference=anchors.spread_anchors, cases=_attentions_and_distances,
    reminder="go through the patches from the most attended on, and take each that is at least `distance` (Euclidean) "
             "away "
             "from all that are chosen",
    mistakes={
        "These are the plain top anchors: nothing was passed over for being too near.":
            lambda attention, count, distance: _order(attention.mean(0), count),
        "These are the top anchors without those too near: go on through all patches until there are `count`.":
            _then_thinned,
        "Exactly `distance` away is far enough: compare with >=, not >.": (
            _greedy(lambda p, chosen, d: ((chosen - p).norm(dim=1) > d).all()),
            _greedy(lambda p, chosen, d: ((chosen - p).norm(dim=1) > d).all(), complain=False)),
        "You have compared with the last chosen anchor only; it must be far from all of them.": (
            _greedy(lambda p, chosen, d: (chosen[-1] - p).norm() >= d),
            _greedy(lambda p, chosen, d: (chosen[-1] - p).norm() >= d, complain=False)),
        "You have compared with the first anchor only; it must be far from all of them.": (
            _greedy(lambda p, chosen, d: (chosen[0] - p).norm() >= d),
            _greedy(lambda p, chosen, d: (chosen[0] - p).norm() >= d, complain=False)),
        "It must be far from all chosen anchors, not from any one of them.":
            _greedy(lambda p, chosen, d: ((chosen - p).norm(dim=1) >= d).any()),
        "This is the larger of the two differences. Euclidean distance takes both: √(Δrow² + Δcolumn²).":
            _greedy(lambda p, chosen, d: ((chosen - p).abs().amax(1) >= d).all()),
        "This is the sum of the two differences. Euclidean distance is √(Δrow² + Δcolumn²).":
            _greedy(lambda p, chosen, d: ((chosen - p).abs().sum(1) >= d).all()),
        "The squared distance was compared with `distance`: take the root, or square both.":
            _greedy(lambda p, chosen, d: ((chosen - p).square().sum(1) >= d).all()),
        "Both differences count: rows and columns were compared one by one, and each had to be far enough.":
            _greedy(lambda p, chosen, d: ((chosen - p).abs().amin(1) >= d).all()),
        "Only rows were compared: distance is √(Δrow² + Δcolumn²).":
            _greedy(lambda p, chosen, d: ((chosen - p).abs()[:, 0] >= d).all()),
        "Patches nearer than `distance` are passed over, not those farther away.":
            _greedy(lambda p, chosen, d: ((chosen - p).norm(dim=1) <= d).all(), complain=False),
        "Only the first head was asked. Average over the heads first.": _greedy(_far, values=lambda a: a[0]),
        "You took the highest value over the heads. Average over them.": _greedy(_far, values=lambda a: a.amax(0)),
        "Where fewer than `count` anchors can be placed, raise ValueError: here too few were returned.":
            _greedy(_far, complain=False),
        "Where fewer than `count` anchors can be placed, raise ValueError: don't fill up with patches that are too "
        "near.":
            _filled_up,
        "Distances have fractions: don't round or cut off either of the two numbers that you compare.": (
            _greedy(lambda p, chosen, d: ((chosen - p).norm(dim=1).round() >= d).all()),
            _greedy(lambda p, chosen, d: ((chosen - p).norm(dim=1).ceil() >= d).all()),
            _greedy(lambda p, chosen, d: ((chosen - p).norm(dim=1).floor() >= d).all()),
            lambda attention, count, distance: _greedy(_far)(attention, count, math.ceil(distance)),
            lambda attention, count, distance: _greedy(_far)(attention, count, round(distance)),
            lambda attention, count, distance: _greedy(_far)(attention, count, int(distance))),
        "These are (column, row). An anchor is (row, column), as a matrix is indexed.":
            lambda attention, count, distance: _greedy(_far)(attention, count, distance).flip(1),
        "The least attended patches were taken first. Sort in descending order.":
            _greedy(_far, values=lambda a: -a.mean(0)),
    },
)
