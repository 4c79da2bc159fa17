"""Augmentation: other colours, shapes, sharpness and grain, so that what only looks at pictures isn't blind to a
hand it has never seen.
"""

from __future__ import annotations

import math

import torch
from torch.nn import functional as F

_TO_YIQ = torch.tensor([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])


class Lots:
    """Random numbers for a batch, all from one generator."""

    def __init__(self, count: int, seed: int) -> None:
        self.count, self.draw = count, torch.Generator().manual_seed(seed)

    def uniform(self, low: float, high: float, *shape: int) -> torch.Tensor:
        """(count, *shape) numbers."""
        return low + (high - low) * torch.rand(self.count, *shape, generator=self.draw)

    def chance(self, share: float) -> torch.Tensor:
        """(count, 1, 1, 1): 1 for about this share of the pictures, else 0."""
        return (self.uniform(0, 1, 1, 1, 1) < share).float()

    def normal(self, *shape: int) -> torch.Tensor:
        """(count, *shape) numbers."""
        return torch.randn(self.count, *shape, generator=self.draw)


def recoloured(pictures: torch.Tensor, lots: Lots) -> torch.Tensor:
    """Hue turned (a little, or for a fifth of the pictures to anything), saturation, contrast and brightness changed;
    one picture of twelve is grey.
    """
    wild = lots.chance(0.2).flatten()
    angle = lots.uniform(-0.35, 0.35) * (1 - wild) + lots.uniform(-math.pi, math.pi) * wild
    strength = lots.uniform(0.5, 1.5) * (1 - lots.chance(0.08).flatten())
    cos, sin = strength * angle.cos(), strength * angle.sin()
    one, none = torch.ones_like(angle), torch.zeros_like(angle)
    turn = torch.stack([one, none, none, none, cos, -sin, none, sin, cos], 1).reshape(-1, 3, 3)
    matrix = torch.linalg.inv(_TO_YIQ) @ turn @ _TO_YIQ
    pictures = torch.einsum("nij,njhw->nihw", matrix, pictures)
    middle = pictures.mean((1, 2, 3), keepdim=True)
    pictures = middle + lots.uniform(0.65, 1.35, 1, 1, 1) * (pictures - middle)
    pictures = pictures * lots.uniform(0.85, 1.15, 3, 1, 1) + lots.uniform(-0.12, 0.12, 1, 1, 1)
    return pictures.clamp(0, 1) ** lots.uniform(-0.35, 0.35, 1, 1, 1).exp()


def bent(pictures: torch.Tensor, lots: Lots, turn: float = 0.2, scale: float = 0.1, warp: float = 0.05) -> torch.Tensor:
    """Turned (radians), scaled, sheared, and warped smoothly by about `warp` half-sides."""
    angle, shear = lots.uniform(-turn, turn), lots.uniform(-0.12, 0.12)
    sx, sy = lots.uniform(1 - scale, 1 + scale), lots.uniform(1 - scale, 1 + scale)
    none = torch.zeros_like(angle)
    cos, sin = angle.cos(), angle.sin()
    rows = torch.stack([sx * cos, sx * (shear - sin), none, sy * sin, sy * cos, none], 1)
    grid = F.affine_grid(rows.reshape(-1, 2, 3), pictures.shape, align_corners=False)
    if warp:
        field = warp * lots.uniform(0, 1, 1, 1, 1) * lots.normal(2, 4, 4)
        grid = grid + F.interpolate(field, pictures.shape[-2:], mode="bicubic").permute(0, 2, 3, 1)
    return F.grid_sample(pictures, grid, padding_mode="reflection", align_corners=False)


def worn(pictures: torch.Tensor, lots: Lots) -> torch.Tensor:
    """Softened, smeared in places, and noisy, as edits may be."""
    def softer(pixels: int) -> torch.Tensor:
        return F.interpolate(F.avg_pool2d(pictures, pixels), pictures.shape[-2:], mode="bilinear")

    share = lots.uniform(0, 1, 1, 1, 1) * lots.chance(0.5)
    pictures = (1 - share) * pictures + share * softer(4 if lots.draw.initial_seed() % 3 == 0 else 2)
    where = F.interpolate(lots.normal(1, 4, 4), pictures.shape[-2:], mode="bicubic")
    smear = ((where - 0.8) * 3).clamp(0, 1) * lots.chance(0.4)
    pictures = (1 - smear) * pictures + smear * softer(8)
    grain = 0.06 * lots.uniform(0, 1, 1, 1, 1) ** 2 * lots.normal(*pictures.shape[1:])
    return (pictures + grain).clamp(0, 1)
