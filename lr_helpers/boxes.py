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


def covered(box: Sequence[float] | torch.Tensor, known: Sequence[float] | torch.Tensor) -> float:
    """Which share of a known region lies in a box; both (x0, y0, x1, y1). What lies beside it stays as it was."""
    box, known = torch.as_tensor(box), torch.as_tensor(known)
    return float(intersection(box, known) / area(known))


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


Size = int | tuple[int, int]
"""A picture's size in pixels: the side of a square, or (height, width)."""


def height_width(size: Size) -> tuple[int, int]:
    """Both sides of a picture in pixels."""
    return (size, size) if isinstance(size, int) else size


def square_around(x: float, y: float, side: float, size: Size) -> Box:
    """The square of this side centred on (x, y), rounded to pixels and clamped to the picture; a pixel at least."""
    height, width = height_width(size)
    x0, y0 = min(max(round(x - side / 2), 0), width - 1), min(max(round(y - side / 2), 0), height - 1)
    x1, y1 = min(round(x + side / 2), width), min(round(y + side / 2), height)
    return x0, y0, max(x1, x0 + 1), max(y1, y0 + 1)


def grown(boxes: torch.Tensor, margin: float, shape: tuple[int, int]) -> torch.Tensor:
    """(..., 4) int64 boxes → the same, wider on each side by `margin`, clamped to a picture of this (height, width).

    `margin` is a share of the picture's shorter side; it is rounded to pixels.
    """
    height, width = shape
    by = round(margin * min(shape))
    low, high = (boxes[..., :2] - by).clamp(min=0), boxes[..., 2:] + by
    return torch.cat([low, torch.minimum(high, torch.tensor([width, height]))], dim=-1)


def least_overlap(boxes: torch.Tensor, others: Sequence[Box]) -> torch.Tensor:
    """(..., 4) boxes → (...) boolean: those that share the fewest pixels with `others`; commonly none at all."""
    shared = sum((intersection(boxes, torch.tensor(other)) for other in others), torch.zeros_like(area(boxes)))
    return shared == shared.min()
