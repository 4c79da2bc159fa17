"""Training of the judge, and of the autoencoder's critic, on crops of scenes, worn as edits may be."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from random import Random

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

from lr_helpers.boxes import Box
from tiny_world import SIZE
from tiny_world.judge import CROP, NOTHING, Judge, crop, overlap_share
from tiny_world.scenes import Recipe, random_recipe
from tiny_world.sprites import SEEN_STYLES, STYLES
from tiny_world.words import NAMES
from tiny_world.zoo.looks import Lots, bent, recoloured, worn
from tiny_world.zoo.training import train


def example(rng: Random, hands: Sequence[str] = SEEN_STYLES) -> tuple[Recipe, Box, int]:
    """A scene by these hands, a box in it around an object (or, one time of eight, around none), and its class."""
    recipe = random_recipe(rng, combinations="all", hands=hands)
    if rng.random() < 0.12:
        side = rng.randrange(40, 88)
        x, y = rng.randrange(SIZE - side + 1), rng.randrange(SIZE - side + 1)
        box = (x, y, x + side, y + side)
        empty = tuple(t for t in recipe.objects if overlap_share(t.box, box) < 0.1)
        return Recipe(recipe.place, recipe.variant, empty), box, NOTHING
    thing = rng.choice(recipe.objects)
    x0, y0, x1, y1 = thing.box
    side = max(x1 - x0, y1 - y0)
    grow, shift = round(side * rng.uniform(-0.05, 0.4)), round(0.12 * side)
    dx, dy = rng.randint(-shift, shift), rng.randint(-shift, shift)
    return recipe, (x0 - grow + dx, y0 - grow + dy, x1 + grow + dx, y1 + grow + dy), NAMES.index(thing.name)


def batch(step: int, size: int, hands: Sequence[str] = SEEN_STYLES) -> tuple[torch.Tensor, torch.Tensor]:
    """(size, 3, 64, 64) crops in 0..1, augmented, and their (size,) classes."""
    rng = Random(f"judge {step}")
    crops, labels = torch.empty(size, 3, CROP, CROP), []
    for i in range(size):
        recipe, box, label = example(rng, hands)
        crops[i] = crop(torch.from_numpy(np.ascontiguousarray(recipe.render().transpose(2, 0, 1))) / 255, box)
        labels.append(label)
    lots = Lots(size, abs(step))
    return worn(recoloured(bent(crops, lots), lots), lots), torch.tensor(labels)


def run(folder: Path, out: Path, steps: int, size: int, device: str) -> None:
    """Train on crops of real scenes; write `out/classifier`."""
    _run(folder, out / "classifier", steps, size, device, seed=0, hands=SEEN_STYLES)


def run_critic(folder: Path, out: Path, steps: int, size: int, device: str) -> None:
    """The same network from other weights, other crops and fewer hands, `out/critic`: what the autoencoder's pictures
    are compared by in training. The judge itself stays out of every training.
    """
    _run(folder, out / "critic", steps, size, device, seed=1, hands=STYLES)


def _run(folder: Path, target: Path, steps: int, size: int, device: str, seed: int,
         hands: Sequence[str]) -> None:
    torch.manual_seed(seed)
    judge = Judge().to(device, memory_format=torch.channels_last)

    def loss_of(step: int) -> dict[str, torch.Tensor]:
        crops, labels = (t.to(device) for t in batch(step + seed * 10**7, size, hands))
        torch.manual_seed(step + seed * 10**7)
        with torch.autocast(device, torch.bfloat16):
            logits = judge(crops.contiguous(memory_format=torch.channels_last)).float()
        right = (logits.argmax(1) == labels).float().mean()
        return {"loss": F.cross_entropy(logits, labels, label_smoothing=0.05), "right": right}

    def export(modules: dict[str, nn.Module]) -> None:
        target.mkdir(parents=True, exist_ok=True)
        state = {k: v.half().cpu().contiguous() for k, v in modules["judge"].state_dict().items()}
        save_file(state, target / "model.safetensors")

    train({"judge": judge}, loss_of, folder=folder, steps=steps, rate=2e-3, weight_decay=0.05, export=export, every=250)
