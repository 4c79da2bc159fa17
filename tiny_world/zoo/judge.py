"""Training of the judge on crops of scenes, worn as edits may be."""

from __future__ import annotations

from pathlib import Path
from random import Random

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

from lr_helpers.boxes import Box
from tiny_world import SIZE
from tiny_world.judge import NOTHING, Judge, crop, overlap_share
from tiny_world.scenes import random_recipe
from tiny_world.words import NAMES
from tiny_world.zoo.training import train


def _example(rng: Random) -> tuple[np.ndarray, Box, int]:
    recipe = random_recipe(rng, combinations="all")
    if rng.random() < 0.12:
        side = rng.randrange(20, 44)
        x, y = rng.randrange(SIZE - side + 1), rng.randrange(SIZE - side + 1)
        box = (x, y, x + side, y + side)
        empty = [t for t in recipe.objects if overlap_share(t.box, box) < 0.1]
        return recipe.__class__(recipe.place, recipe.variant, tuple(empty)).render(), box, NOTHING
    thing = rng.choice(recipe.objects)
    x0, y0, x1, y1 = thing.box
    side = max(x1 - x0, y1 - y0)
    grow, shift = round(side * rng.uniform(-0.05, 0.4)), round(0.12 * side)
    dx, dy = rng.randint(-shift, shift), rng.randint(-shift, shift)
    return (recipe.render(), (x0 - grow + dx, y0 - grow + dy, x1 + grow + dx, y1 + grow + dy),
            NAMES.index(thing.name))


def batch(step: int, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(size, 3, 32, 32) crops in 0..1, worn as edits may be, and their (size,) classes."""
    rng = Random(f"judge {step}")
    crops, labels = [], []
    for _ in range(size):
        picture, box, label = _example(rng)
        crops.append(crop(torch.from_numpy(picture).permute(2, 0, 1) / 255, box))
        labels.append(label)
    return worn(torch.stack(crops), torch.Generator().manual_seed(abs(step))), torch.tensor(labels)


def worn(crops: torch.Tensor, draw: torch.Generator) -> torch.Tensor:
    """(N, 3, 32, 32) in 0..1 → the same, a little turned, recoloured, softened, smeared in places, and noisy.

    An edit is never as crisp as a drawing. Without this, the judge called readable watermelons tulips.
    """
    count = len(crops)

    def lot(low: float, high: float, *shape: int) -> torch.Tensor:
        return low + (high - low) * torch.rand(count, *shape, generator=draw)

    turn, scale = lot(-0.15, 0.15), lot(0.9, 1.1)
    rows = torch.stack([scale * turn.cos(), -scale * turn.sin(), torch.zeros(count),
                        scale * turn.sin(), scale * turn.cos(), torch.zeros(count)], 1).reshape(count, 2, 3)
    grid = F.affine_grid(rows, crops.shape, align_corners=False)
    crops = F.grid_sample(crops, grid, padding_mode="border", align_corners=False)
    middle = crops.mean((1, 2, 3), keepdim=True)
    crops = (middle + lot(0.8, 1.2, 1, 1, 1) * (crops - middle)) * lot(0.9, 1.1, 3, 1, 1)

    def softer(pixels: int) -> torch.Tensor:
        return F.interpolate(F.avg_pool2d(crops, pixels), scale_factor=pixels, mode="bilinear")

    share = lot(0, 1, 1, 1, 1) * (lot(0, 1, 1, 1, 1) < 0.5)
    crops = (1 - share) * crops + share * softer(2)
    where = F.interpolate(torch.randn(count, 1, 4, 4, generator=draw), size=crops.shape[-2:], mode="bicubic")
    smear = ((where - 0.7) * 3).clamp(0, 1) * (lot(0, 1, 1, 1, 1) < 0.5)
    crops = (1 - smear) * crops + smear * softer(8)
    return (crops + 0.03 * torch.randn(crops.shape, generator=draw)).clamp(0, 1)


def run(folder: Path, out: Path, steps: int, size: int, device: str) -> None:
    """Train on crops of real scenes; write `out/classifier`."""
    torch.manual_seed(0)
    judge = Judge().to(device)

    def loss_of(step: int) -> dict[str, torch.Tensor]:
        crops, labels = (t.to(device) for t in batch(step, size))
        logits = judge(crops)
        right = (logits.argmax(1) == labels).float().mean()
        return {"loss": F.cross_entropy(logits, labels, label_smoothing=0.05), "right": right}

    def export(modules: dict[str, nn.Module]) -> None:
        target = out / "classifier"
        target.mkdir(parents=True, exist_ok=True)
        state = {k: v.half().cpu().contiguous() for k, v in modules["judge"].state_dict().items()}
        save_file(state, target / "model.safetensors")

    train({"judge": judge}, loss_of, folder=folder, steps=steps, rate=2e-3, export=export)
