"""Box geometry. A box is (x0, y0, x1, y1) in pixels, x to the right, y down, the end exclusive."""

from __future__ import annotations

from collections.abc import Sequence

import torch

Box = tuple[int, int, int, int]
"""(x0, y0, x1, y1) in pixels; every box of the course."""


def area(boxes: torch.Tensor) -> torch.Tensor:
    """(..., 4) boxes → (...) areas in pixels²; 0 for empty ones."""
    return (boxes[..., 2] - boxes[..., 0]).clamp(min=0) * (boxes[..., 3] - boxes[..., 1]).clamp(min=0)


def intersection(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Areas in pixels² shared by boxes (..., 4), broadcast against each other."""
    low, high = torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:])
    return area(torch.cat([low, high], dim=-1))


def iou(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Intersection over union, 0..1, of boxes (..., 4), broadcast against each other."""
    shared = intersection(a, b)
    return shared / (area(a) + area(b) - shared).clamp(min=1e-9)


def box_mask(box: Box, height: int, width: int) -> torch.Tensor:
    """(1, height, width) float mask: 1 inside the box, 0 outside."""
    mask = torch.zeros(1, height, width)
    x0, y0, x1, y1 = (int(v) for v in box)
    mask[:, y0:y1, x0:x1] = 1
    return mask


def square_around(x: float, y: float, side: float, size: int) -> tuple[int, int, int, int]:
    """The square of this side centred on (x, y), rounded to pixels and clamped to a size×size picture."""
    x0, y0 = round(x - side / 2), round(y - side / 2)
    x1, y1 = round(x + side / 2), round(y + side / 2)
    return max(x0, 0), max(y0, 0), min(x1, size), min(y1, size)


def least_overlap(boxes: torch.Tensor, others: Sequence[Box]) -> torch.Tensor:
    """(..., 4) boxes → (...) boolean: those that share the fewest pixels with `others`; commonly none at all."""
    shared = sum((intersection(boxes, torch.tensor(other)) for other in others), torch.zeros_like(area(boxes)))
    return shared == shared.min()
