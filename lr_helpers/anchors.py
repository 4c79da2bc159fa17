"""Where could we edit? Anchor points: the patches that the [CLS] token attends to (section 3.1)."""

from __future__ import annotations

import torch

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


def anchor_centres(anchors: torch.Tensor, grid: tuple[int, int], size: int) -> torch.Tensor:
    """(K, 2) patches (row, column) of an h×w grid → (K, 2) float centres (x, y) in pixels of a size×size
    picture. (The official code swaps rows and columns here.)
    """
    h, w = grid
    x = (anchors[:, 1] + 0.5) * size / w
    y = (anchors[:, 0] + 0.5) * size / h
    return torch.stack([x, y], dim=1)
