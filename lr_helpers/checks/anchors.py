"""Exercises of notebook 02: from the attention of a ViT to anchor points, and whether they land on objects."""

from __future__ import annotations

import torch

from lr_helpers import anchors
from lr_helpers.boxes import area, box_mask
from lr_helpers.checks.exercise import Exercise


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _attention(seed: int, heads: int, h: int, w: int) -> torch.Tensor:
    """(heads, h, w) in 0..1, strong in some heads and weak in others, as it is in a real ViT."""
    strength = torch.linspace(0.2, 1, heads)[:, None, None]
    return torch.rand(heads, h, w, generator=_generator(seed)) ** 3 * strength


def _order(values: torch.Tensor, count: int) -> torch.Tensor:
    """The `count` highest of (h, w) values as (row, column)."""
    index = values.flatten().sort(descending=True, stable=True).indices[:count]
    return torch.stack([index // values.shape[1], index % values.shape[1]], dim=1)


# cls_attention


def _cls_attention(attention: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    return attention[0, :, 0, 1:].reshape(-1, *grid)


def _raw_attentions() -> list[tuple]:
    cases = []
    for seed, (heads, h, w) in enumerate([(4, 3, 5), (2, 6, 4), (1, 1, 3), (3, 4, 4)]):
        scores = torch.randn(1, heads, 1 + h * w, 1 + h * w, generator=_generator(seed))
        cases.append((scores.softmax(-1), (h, w)))
    return cases


cls_attention = Exercise(
    name="cls_attention",
    reference=_cls_attention,
    cases=_raw_attentions,
    mistakes={
        "This is a column: what all patches pay to [CLS]. We want its row: what [CLS] pays to the patches.":
            lambda attention, grid: attention[0, :, 1:, 0].reshape(-1, *grid),
        "This is the row of the first patch. [CLS] comes before all patches, so its row has the index 0.":
            lambda attention, grid: attention[0, :, 1, 1:].reshape(-1, *grid),
        "What [CLS] pays to itself is still in there: leave out the first key, not the last.":
            lambda attention, grid: attention[0, :, 0, :-1].reshape(-1, *grid),
        "Columns run fastest: the patches are in reading order, so reshape to (h, w) and don't transpose.":
            lambda attention, grid: attention[0, :, 0, 1:].reshape(-1, *grid[::-1]).transpose(1, 2),
        "The heads are gone. Keep them apart, (heads, h, w); they are averaged later.":
            lambda attention, grid: attention[0, :, 0, 1:].mean(0).reshape(*grid),
    },
)


# top_anchors


def _attentions_and_counts() -> list[tuple]:
    ties = torch.zeros(2, 3, 4)
    ties[:, 1, 2] = 1
    return [(_attention(0, 4, 5, 7), 6), (_attention(1, 3, 8, 4), 9), (_attention(2, 6, 3, 9), 27),
            (_attention(3, 1, 4, 6), 1), (ties, 4)]


def _divided_by_rows(attention: torch.Tensor, count: int) -> torch.Tensor:
    h = attention.shape[1]
    index = attention.mean(0).flatten().sort(descending=True, stable=True).indices[:count]
    return torch.stack([index // h, index % h], dim=1)


top_anchors = Exercise(
    name="top_anchors",
    reference=anchors.top_anchors,
    cases=_attentions_and_counts,
    mistakes={
        "These are (column, row). An anchor is (row, column), as a matrix is indexed.":
            lambda attention, count: anchors.top_anchors(attention, count).flip(1),
        "A row is `index // w`, where w is the number of columns; you have divided by the number of rows.":
            _divided_by_rows,
        "These are the least attended patches. Sort in descending order.":
            lambda attention, count: _order(-attention.mean(0), count),
        "Only the first head was asked. Average over the heads first.":
            lambda attention, count: _order(attention[0], count),
        "One loud head decides here: you took the highest value over the heads, not their mean.":
            lambda attention, count: _order(attention.amax(0), count),
    },
)


# anchor_centres


def _anchors_and_grids() -> list[tuple]:
    cases = [(torch.tensor([[0, 0], [1, 3], [2, 5]]), (3, 6), 60)]
    for seed, (h, w) in enumerate([(8, 5), (4, 10), (16, 16)]):
        rows = torch.randint(h, (7,), generator=_generator(seed))
        columns = torch.randint(w, (7,), generator=_generator(seed + 10))
        cases.append((torch.stack([rows, columns], dim=1), (h, w), 64))
    return cases


anchor_centres = Exercise(
    name="anchor_centres",
    reference=anchors.anchor_centres,
    cases=_anchors_and_grids,
    mistakes={
        "Rows and columns are swapped, as in the official code: x comes from the column, y from the row.":
            lambda a, grid, size: torch.stack([(a[:, 0] + 0.5) * size / grid[0], (a[:, 1] + 0.5) * size / grid[1]], 1),
        "These are the left top corners of the patches. The centre is half a patch further, both ways.":
            lambda a, grid, size: torch.stack([a[:, 1] * size / grid[1], a[:, 0] * size / grid[0]], 1),
        "A patch is size / w pixels wide and size / h high; you have used the other number for each.":
            lambda a, grid, size: torch.stack([(a[:, 1] + 0.5) * size / grid[0], (a[:, 0] + 0.5) * size / grid[1]], 1),
        "This is half a pixel beyond the corner. Add half a patch before you scale, not half a pixel after.":
            lambda a, grid, size: torch.stack([a[:, 1] * size / grid[1] + 0.5, a[:, 0] * size / grid[0] + 0.5], 1),
        "The last patch ends at the border; there are w patches across, not w - 1 steps between them.":
            lambda a, grid, size: torch.stack([a[:, 1] * size / (grid[1] - 1), a[:, 0] * size / (grid[0] - 1)], 1),
    },
)


# points_in_boxes


def _points_in_boxes(points: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
    p = points[:, None]
    return ((p >= boxes[:, :2]) & (p < boxes[:, 2:])).all(-1)


def _points_and_boxes() -> list[tuple]:
    edges = torch.tensor([[10.0, 20.0], [30.0, 50.0], [10.0, 50.0], [30.0, 20.0], [29.9, 49.9], [20.0, 35.0]])
    cases = [(edges, torch.tensor([[10, 20, 30, 50]])), (edges, torch.tensor([[0, 0, 64, 64], [5, 5, 5, 9]]))]
    for seed in range(3):
        corners = torch.randint(0, 40, (3, 2), generator=_generator(seed))
        sides = torch.randint(8, 24, (3, 2), generator=_generator(seed + 10))
        points = torch.rand(9, 2, generator=_generator(seed + 20)) * 64
        cases.append((points, torch.cat([corners, corners + sides], dim=1)))
    return cases


def _swapped_points(points: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
    return _points_in_boxes(points.flip(1), boxes)


def _with_the_end(points: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
    p = points[:, None]
    return ((p >= boxes[:, :2]) & (p <= boxes[:, 2:])).all(-1)


def _without_the_start(points: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
    p = points[:, None]
    return ((p > boxes[:, :2]) & (p < boxes[:, 2:])).all(-1)


points_in_boxes = Exercise(
    name="points_in_boxes",
    reference=_points_in_boxes,
    cases=_points_and_boxes,
    mistakes={
        "x and y are swapped: boxes are (x0, y0, x1, y1) and points are (x, y).": _swapped_points,
        "The end of a box is exclusive: a point at x = x1 or y = y1 is outside.": _with_the_end,
        "The start of a box belongs to it: a point at x = x0 or y = y0 is inside.": _without_the_start,
        "Only x was compared; y has to be within the box as well.":
            lambda points, boxes: (points[:, :1] >= boxes[:, 0]) & (points[:, :1] < boxes[:, 2]),
        "The last two numbers of a box are its other corner, not its width and height.":
            lambda points, boxes: _points_in_boxes(points, torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1)),
        "The answer is turned: one row for each point, one column for each box.":
            lambda points, boxes: _points_in_boxes(points, boxes).T,
    },
)


# covered_share


def _covered_share(boxes: torch.Tensor, size: int) -> float:
    masks = [box_mask(box, size, size) for box in boxes.tolist()]
    return float(torch.stack(masks).amax(0).mean())


def _boxes_and_sizes() -> list[tuple]:
    return [(torch.tensor([[10, 20, 30, 50]]), 64), (torch.tensor([[0, 0, 20, 30], [10, 10, 40, 40]]), 64),
            (torch.tensor([[0, 0, 16, 16], [16, 16, 32, 32]]), 32), (torch.tensor([[0, 0, 48, 48]]), 48),
            (torch.tensor([[5, 5, 25, 20], [8, 7, 12, 19], [30, 2, 44, 40]]), 64)]


covered_share = Exercise(
    name="covered_share",
    reference=_covered_share,
    cases=_boxes_and_sizes,
    mistakes={
        "Where boxes overlap, pixels were counted twice. Mark the pixels first, then count them once.":
            lambda boxes, size: float(area(boxes).sum()) / size**2,
        "A pixel in any of the boxes counts; you have counted those that are in all of them.":
            lambda boxes, size: float(torch.stack([box_mask(b, size, size) for b in boxes.tolist()]).amin(0).mean()),
        "This is the share of one box on average. We want the share of all boxes together.":
            lambda boxes, size: float(area(boxes).float().mean()) / size**2,
        "This is a number of pixels. Divide by those of the picture, size × size.":
            lambda boxes, size: _covered_share(boxes, size) * size**2,
        "This is what lies outside of the boxes.": lambda boxes, size: 1 - _covered_share(boxes, size),
    },
)


# spread_anchors


def _attentions_and_distances() -> list[tuple]:
    hill = -((torch.arange(9.0)[:, None] - 3) ** 2 + (torch.arange(12.0)[None] - 7) ** 2)
    return [(hill[None], 6, 2.0), (hill[None], 7, 2.5), (_attention(0, 4, 9, 6), 5, 2.5),
            (_attention(1, 2, 6, 11), 7, 2.0), (_attention(2, 3, 8, 8), 9, 0), (torch.ones(2, 6, 7), 4, 3.0),
            (_attention(4, 3, 10, 10), 8, 1.5)]


def _greedy(far_enough):
    """`spread_anchors` with another rule: `far_enough(candidate, chosen, distance)`."""

    def spread(attention: torch.Tensor, count: int, distance: float) -> torch.Tensor:
        order = anchors.top_anchors(attention, attention[0].numel())
        chosen = [order[0]]
        for candidate in order[1:]:
            if len(chosen) < count and far_enough(candidate.double(), torch.stack(chosen).double(), distance):
                chosen.append(candidate)
        return torch.stack(chosen)

    return spread


spread_anchors = Exercise(
    name="spread_anchors",
    reference=anchors.spread_anchors,
    cases=_attentions_and_distances,
    mistakes={
        "These are the plain top anchors: nothing was passed over for being too near.":
            lambda attention, count, distance: anchors.top_anchors(attention, count),
        "Exactly `distance` away is far enough: compare with >=, not >.":
            _greedy(lambda p, chosen, d: ((chosen - p).norm(dim=1) > d).all()),
        "You have compared with the last chosen anchor only; it must be far from all of them.":
            _greedy(lambda p, chosen, d: (chosen[-1] - p).norm() >= d),
        "You have compared with the first anchor only; it must be far from all of them.":
            _greedy(lambda p, chosen, d: (chosen[0] - p).norm() >= d),
        "This is the larger of the two differences. Euclidean distance takes both: √(Δrow² + Δcolumn²).":
            _greedy(lambda p, chosen, d: ((chosen - p).abs().amax(1) >= d).all()),
        "This is the sum of the two differences. Euclidean distance is √(Δrow² + Δcolumn²).":
            _greedy(lambda p, chosen, d: ((chosen - p).abs().sum(1) >= d).all()),
        "The squared distance was compared with `distance`: take the root, or square both.":
            _greedy(lambda p, chosen, d: ((chosen - p).square().sum(1) >= d).all()),
    },
)
