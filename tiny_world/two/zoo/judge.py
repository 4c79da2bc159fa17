"""The judge: a small CNN that names the object in a box. It only measures; no method ever sees it."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from random import Random

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F

from tiny_world.two import SIZE
from tiny_world.two.scenes import Box, Recipe, random_recipe
from tiny_world.two.words import NAMES
from tiny_world.two.zoo.looks import Lots, bent, recoloured, worn
from tiny_world.zoo.training import train

CROP = 64
NOTHING = len(NAMES)
"""The class of a crop that shows no object."""


class Judge(nn.Module):
    """(N, 3, 64, 64) crops in 0..1 → (N, 51) logits over the object names and "nothing"."""

    def __init__(self) -> None:
        super().__init__()
        widths, layers = (3, 32, 64, 128, 192), []
        for i, (before, after) in enumerate(pairwise(widths)):
            layers += [nn.Conv2d(before, after, 5 if i == 0 else 3, stride=2, padding=2 if i == 0 else 1),
                       nn.GroupNorm(8, after), nn.SiLU(),
                       nn.Conv2d(after, after, 3, padding=1), nn.GroupNorm(8, after), nn.SiLU()]
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(widths[-1], len(NAMES) + 1)

    def forward(self, crops: torch.Tensor) -> torch.Tensor:
        seen = self.layers(crops * 2 - 1).mean((2, 3))
        return self.head(F.dropout(seen, 0.2, self.training))

    @torch.no_grad()
    def name(self, pictures: torch.Tensor, boxes: list[Box]) -> list[str]:
        """The judge's word for each box of each picture ((N, 3, H, W) in 0..1), or "nothing"."""
        crops = torch.stack([crop(p, b) for p, b in zip(pictures, boxes, strict=True)])
        words = (*NAMES, "nothing")
        return [words[i] for i in self(crops).argmax(1).tolist()]


def crop(picture: torch.Tensor, box: Box) -> torch.Tensor:
    """The square around `box` (its longer side, clamped to the picture), resized to 64×64."""
    side = min(max(box[2] - box[0], box[3] - box[1]), *picture.shape[1:])
    x = min(max((box[0] + box[2] - side) // 2, 0), picture.shape[2] - side)
    y = min(max((box[1] + box[3] - side) // 2, 0), picture.shape[1] - side)
    part = picture[None, :, y:y + side, x:x + side]
    return F.interpolate(part, size=CROP, mode="bilinear", align_corners=False, antialias=True)[0]


def load(folder: Path) -> Judge:
    """The judge stored in `folder`, ready to use."""
    judge = Judge().eval()
    judge.load_state_dict({k: v.float() for k, v in load_file(folder / "model.safetensors").items()})
    return judge


LOOKS = [(x, y, x + side, y + side) for side in (40, 48, 56, 64, 80, 96)
         for y in range(0, SIZE - side + 1, 8) for x in range(0, SIZE - side + 1, 8)]
SURE = 0.9
"""The judge counts as seeing an object somewhere if one of LOOKS gives it this probability."""


@torch.no_grad()
def sees(picture: torch.Tensor, name: str, judge: Judge) -> float:
    """The judge's highest probability of this object, over squares of all sizes and places of (3, 128, 128) in 0..1."""
    return float(judge(torch.stack([crop(picture, box) for box in LOOKS])).softmax(1)[:, NAMES.index(name)].max())


def overlap_share(inner: Box, outer: Box) -> float:
    """Share of `inner`'s area that lies in `outer`."""
    w = min(inner[2], outer[2]) - max(inner[0], outer[0])
    h = min(inner[3], outer[3]) - max(inner[1], outer[1])
    return max(w, 0) * max(h, 0) / ((inner[2] - inner[0]) * (inner[3] - inner[1]))


def example(rng: Random) -> tuple[Recipe, Box, int]:
    """A scene, a box in it around an object (or, one time of eight, around none), and its class."""
    recipe = random_recipe(rng, combinations="all")
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


def batch(step: int, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(size, 3, 64, 64) crops in 0..1, augmented, and their (size,) classes."""
    rng = Random(f"judge {step}")
    crops, labels = torch.empty(size, 3, CROP, CROP), []
    for i in range(size):
        recipe, box, label = example(rng)
        crops[i] = crop(torch.from_numpy(np.ascontiguousarray(recipe.render().transpose(2, 0, 1))) / 255, box)
        labels.append(label)
    lots = Lots(size, abs(step))
    return worn(recoloured(bent(crops, lots), lots), lots), torch.tensor(labels)


def run(folder: Path, out: Path, steps: int, size: int, device: str) -> None:
    """Train on crops of real scenes; write `out/classifier`."""
    _run(folder, out / "classifier", steps, size, device, seed=0)


def run_critic(folder: Path, out: Path, steps: int, size: int, device: str) -> None:
    """The same network from other weights and other crops, `out/critic`: what the autoencoder's pictures are compared
    by in training. The judge itself stays out of every training.
    """
    _run(folder, out / "critic", steps, size, device, seed=1)


def _run(folder: Path, target: Path, steps: int, size: int, device: str, seed: int) -> None:
    torch.manual_seed(seed)
    judge = Judge().to(device, memory_format=torch.channels_last)

    def loss_of(step: int) -> dict[str, torch.Tensor]:
        crops, labels = (t.to(device) for t in batch(step + seed * 10**7, size))
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
