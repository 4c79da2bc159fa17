"""Where could we edit? Anchor points: the patches that the [CLS] token attends to (section 3.1)."""

from __future__ import annotations

import torch

from lr_helpers.boxes import Size, height_width
from lr_helpers.errors import UserError


def top_anchors(attention: torch.Tensor, count: int) -> torch.Tensor:
    """The `count` most attended patches, strongest first.

    `attention` (heads, h, w) → (K, 2) int64 of (row, column). Ties go to the earlier patch in reading
    order. Raises UserError if there are fewer patches than that.
    """
    _, h, w = attention.shape
    if not 1 <= count <= h * w:
        raise UserError(f"anchors (K) is {count}, but the picture has {h * w} patches; give 1 to {h * w}.")
    order = attention.mean(0).flatten().sort(descending=True, stable=True).indices[:count]
    return torch.stack([order // w, order % w], dim=1)


def anchor_centres(anchors: torch.Tensor, grid: tuple[int, int], size: Size) -> torch.Tensor:
    """(K, 2) patches (row, column) of an h×w grid → (K, 2) float centres (x, y) in pixels of a picture of this size
    (the side of a square, or (height, width)). (The official code swaps rows and columns here.)
    """
    (h, w), (height, width) = grid, height_width(size)
    x = (anchors[:, 1] + 0.5) * width / w
    y = (anchors[:, 0] + 0.5) * height / h
    return torch.stack([x, y], dim=1)


def spread_anchors(attention: torch.Tensor, count: int, distance: float) -> torch.Tensor:
    """The most attended patches that keep their distance: each is the most attended of those at least
    `distance` (Euclidean, in patches) away from all chosen before. Ours; not in the paper.

    `attention` (heads, h, w) → (K, 2) int64 of (row, column). Ties go to the earlier patch in reading order;
    distance 0 gives `top_anchors`. Raises UserError if fewer than `count` can be placed so.
    """
    top_anchors(attention, count)  # complains of a count that no distance could fix
    if not distance >= 0:
        raise UserError(f"distance is {distance}; give 0 or more patches.")
    _, h, w = attention.shape
    left, chosen = top_anchors(attention, h * w), []
    while len(chosen) < count:
        if len(left) == 0:
            raise UserError(f"distance is {distance:g} patches, which leaves room for {len(chosen)} anchors on "
                            f"{h}×{w} patches, not for {count}; give a smaller distance or fewer anchors.")
        chosen.append(left[0])
        apart = (left - left[0]).square().sum(1).double().sqrt()
        left = left[(apart >= distance) & (apart > 0)]
    return torch.stack(chosen)


def inside_anchors(attention: torch.Tensor, count: int, margin: int) -> torch.Tensor:
    """The border rule of the official code: patches near the border are passed over while there are enough others.

    `attention` (heads, h, w); `margin` is how many patches there must be between a patch and each border, so that
    a box of that half-size around it does not leave the picture (official: max_window_size 15, of 32×32 patches)
    → (K, 2) int64 of (row, column): the patches that fit, most attended first, and if those are too few, the most
    attended of the others. (The official code fills up from all patches, so it may name one twice; its boxes are
    clamped to the picture anyway.) Raises UserError for a bad count or margin.
    """
    if margin < 0:
        raise UserError(f"margin is {margin}; give 0 or more patches.")
    _, h, w = attention.shape
    top_anchors(attention, count)  # complains of a bad count
    order = top_anchors(attention, h * w)
    room = torch.minimum(order, torch.tensor([h - 1, w - 1]) - order).amin(1)
    return torch.cat([order[room >= margin], order[room < margin]])[:count]
