"""The backbone: a ViT trained without labels (student and teacher), transformers `ViTModel`.

Its views know where objects are: each is cut around one object, and the second view shows the same
object on another background. That stands in for DINO's ImageNet, whose photos are centred on objects
too, and it must be said wherever the result is shown.

Two trainings, one after the other, as DINOv2 ends with larger pictures: `run` looks at views of 64 and 40 pixels,
`run_whole` at whole scenes, as the method does, and the same objects elsewhere on other ground.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from transformers import ViTConfig, ViTImageProcessor, ViTModel

from tiny_world import SIZE
from tiny_world.places import VARIANTS
from tiny_world.scenes import Placed, Recipe, overlap, random_placed, random_recipe
from tiny_world.sprites import SEEN_STYLES, SIZES
from tiny_world.words import PLACES
from tiny_world.zoo.looks import Lots, bent, recoloured, worn
from tiny_world.zoo.training import save_half, train

GLOBAL, LOCAL = 64, 40
"""Sides in pixels of the large and the small views."""

PROTOTYPES = 96


def build() -> ViTModel:
    """An untrained ViT of 0.5 M weights with 8×8 patches."""
    config = ViTConfig(image_size=SIZE, patch_size=8, hidden_size=96, num_hidden_layers=4,
                       num_attention_heads=4, intermediate_size=288, attn_implementation="eager")
    return ViTModel(config, add_pooling_layer=False)


class Head(nn.Module):
    """The [CLS] token → scores over prototypes, and a unit vector for the contrastive term."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.project = nn.Sequential(nn.Linear(width, 192), nn.GELU(), nn.Linear(192, 64))
        self.prototypes = nn.Linear(64, PROTOTYPES, bias=False)

    def forward(self, token: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        vector = F.normalize(self.project(token), dim=1)
        return F.linear(vector, F.normalize(self.prototypes.weight, dim=1)), vector


def _window(picture: np.ndarray, box, side: int, spread: int, rng: Random) -> np.ndarray:
    x = (box[0] + box[2] - side) // 2 + rng.randint(-spread, spread)
    y = (box[1] + box[3] - side) // 2 + rng.randint(-spread, spread)
    x, y = min(max(x, 0), SIZE - side), min(max(y, 0), SIZE - side)
    return picture[y:y + side, x:x + side]


def recipes(rng: Random) -> tuple[Recipe, Recipe, int]:
    """A scene, the same object elsewhere (mirrored as often as not), and the object's index in the scene."""
    recipe = random_recipe(rng, combinations="all")
    index = rng.randrange(len(recipe.objects))
    thing = replace(recipe.objects[index], flip=rng.random() < 0.5)
    return recipe, Recipe(rng.choice(list(PLACES)), rng.randrange(VARIANTS), (thing,)), index


def views(step: int, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(2, size, 3, 64, 64) and (2, size, 3, 40, 40) augmented views in -1..1."""
    rng = Random(f"dino {step}")
    large, small = ([], []), ([], [])
    for _ in range(size):
        one, other, index = recipes(rng)
        for i, (recipe, thing) in enumerate(((one, one.objects[index]), (other, other.objects[0]))):
            picture = recipe.render()
            large[i].append(_window(picture, thing.box, GLOBAL, 16, rng))
            small[i].append(_window(picture, thing.box, LOCAL, 12, rng))
    return _looks(large, step, 0.1), _looks(small, step, 0.1)


def rearranged(recipe: Recipe, rng: Random) -> Recipe:
    """The same objects in the same styles, at other places and sizes on other ground."""
    where = rng.choice([name for name in PLACES if name != recipe.place])
    while True:  # a first object in the middle can leave no room
        objects: list[Placed] = []
        for thing in recipe.objects:
            for _ in range(40):
                moved = random_placed(thing.name, rng, SIZES[:5 - len(recipe.objects)], thing.style, where)
                if all(overlap(moved, other) < 0.05 for other in objects):
                    objects.append(moved)
                    break
        if len(objects) == len(recipe.objects):
            return Recipe(where, rng.randrange(VARIANTS), tuple(sorted(objects, key=lambda o: o.y + o.size)))


def whole_recipes(rng: Random) -> tuple[Recipe, Recipe, str]:
    """A scene, the same objects elsewhere, and the name of one of them."""
    one = random_recipe(rng, combinations="all", hands=SEEN_STYLES)
    return one, rearranged(one, rng), rng.choice(one.objects).name


def whole_views(step: int, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(2, size, 3, 128, 128) scenes and the same objects elsewhere, and (2, size, 3, 64, 64) views of one of these
    objects in both, augmented, in -1..1."""
    rng = Random(f"dino whole {step}")
    large, small = ([], []), ([], [])
    for _ in range(size):
        *pair, name = whole_recipes(rng)
        for i, recipe in enumerate(pair):
            picture = recipe.render()
            thing = next(o for o in recipe.objects if o.name == name)
            large[i].append(picture)
            small[i].append(_window(picture, thing.box, GLOBAL, 12, rng))
    return _looks(large, step, 0.0), _looks(small, step, 0.1)


def _looks(pictures: tuple[list, list], step: int, turn: float) -> torch.Tensor:
    """Two lists of (h, w, 3) uint8 pictures → (2, N, 3, h, w), augmented, in -1..1."""
    batch = torch.from_numpy(np.array(pictures)).flatten(0, 1).permute(0, 3, 1, 2).float() / 255
    lots = Lots(len(batch), step)
    batch = worn(recoloured(bent(batch, lots, turn, 0.1, 0.0), lots), lots) * 2 - 1
    return batch.unflatten(0, (2, -1))


@torch.no_grad()
def sinkhorn(scores: torch.Tensor, temperature: float = 0.05, rounds: int = 3) -> torch.Tensor:
    """(N, P) scores → targets whose rows sum to 1 and whose prototypes are used equally, so that the
    teacher can't collapse to a single one.
    """
    q = (scores / temperature - (scores / temperature).max()).exp()
    for _ in range(rounds):
        q = q / q.sum(0, keepdim=True)
        q = q / q.sum(1, keepdim=True)
    return q


def run(folder: Path, out: Path, steps: int, size: int, device: str) -> None:
    """Train student and teacher; write `out/dino`."""
    torch.manual_seed(0)
    _learn(build(), folder, out, steps, size, device, views, rate=1e-3)


def run_whole(folder: Path, out: Path, steps: int, size: int, device: str) -> None:
    """Goes on from the weights in `out/dino`, with whole scenes."""
    torch.manual_seed(0)
    vit = ViTModel.from_pretrained(out / "dino", add_pooling_layer=False, attn_implementation="eager",
                                   torch_dtype=torch.float32)
    _learn(vit, folder, out, steps, size, device, whole_views, rate=5e-4)


def _learn(vit: ViTModel, folder: Path, out: Path, steps: int, size: int, device: str, views_of: Callable,
           rate: float) -> None:
    """Both trainings; writes `out/dino`."""
    vit = vit.to(device)
    head = Head(vit.config.hidden_size).to(device)
    teacher, teacher_head = copy.deepcopy(vit).requires_grad_(False), copy.deepcopy(head).requires_grad_(False)

    def token(model: ViTModel, pictures: torch.Tensor) -> torch.Tensor:
        return model(pictures, interpolate_pos_encoding=True).last_hidden_state[:, 0]

    @torch.no_grad()
    def follow(momentum: float = 0.99) -> None:
        for mine, theirs in ((teacher, vit), (teacher_head, head)):
            for a, b in zip(mine.parameters(), theirs.parameters(), strict=True):
                a.lerp_(b, 1 - momentum)

    def loss_of(step: int) -> dict[str, torch.Tensor]:
        follow()
        large, small = (v.to(device) for v in views_of(step, size))
        with torch.no_grad():
            targets = [sinkhorn(teacher_head(token(teacher, v))[0]) for v in large]
        students = [head(token(vit, v)) for v in (*large, *small)]
        terms = [-(target * F.log_softmax(scores / 0.1, dim=1)).sum(1).mean()
                 for i, target in enumerate(targets) for j, (scores, _) in enumerate(students) if i != j]
        alike = students[0][1] @ students[1][1].T / 0.2
        same = torch.arange(size, device=device)
        contrast = (F.cross_entropy(alike, same) + F.cross_entropy(alike.T, same)) / 2
        used = torch.cat(targets).mean(0)
        return {"loss": sum(terms) / len(terms) + contrast, "contrast": contrast,
                "entropy": -(used * used.log()).sum()}

    def export(modules: dict[str, nn.Module]) -> None:
        save_half(modules["vit"], out / "dino")
        ViTImageProcessor(size={"height": SIZE, "width": SIZE}, image_mean=[0.5] * 3,
                          image_std=[0.5] * 3).save_pretrained(out / "dino")

    train({"vit": vit, "head": head, "teacher": teacher, "teacher_head": teacher_head}, loss_of,
          folder=folder, steps=steps, rate=rate, decay=0.99, weight_decay=0.04, export=export, every=100, log_every=25)
