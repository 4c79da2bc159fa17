"""Scenes as recipes: what stands where, so that any scene can be made again with one thing changed."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from random import Random
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from lr_helpers.errors import UserError
from lr_helpers.files.pictures import to_tensor
from tiny_world import GRID, SIZE
from tiny_world.places import VARIANTS, place
from tiny_world.sprites import SIZES, STYLE, extent, sprite, styles
from tiny_world.words import NAMES, PLACES, caption, held_out

if TYPE_CHECKING:
    import torch

    from lr_helpers.boxes import Box

HELD_OUT_SEEDS = range(0, 1_000_000)
"""Seeds for tests, examples and studies; no model is trained on them."""

TRAINING_SEEDS = range(1_000_000, 1_000_000_000)


@dataclass(frozen=True)
class Placed:
    """One object: its square has its left top corner at (x, y) and the side `size`, in pixels."""

    name: str
    x: int
    y: int
    size: int
    style: str = STYLE
    """How it is drawn; see `sprites.styles`."""

    @property
    def box(self) -> Box:
        """(x0, y0, x1, y1) of what is seen of it, in pixels, end exclusive."""
        x0, y0, x1, y1 = extent(self.name, self.size, self.style)
        return self.x + x0, self.y + y0, self.x + x1, self.y + y1


@dataclass(frozen=True)
class Recipe:
    """A scene, object by object, painted in this order."""

    place: str
    variant: int
    objects: tuple[Placed, ...]

    def render(self) -> np.ndarray:
        """(64, 64, 3) uint8 picture."""
        picture = place(self.place, self.variant).copy()
        for thing in self.objects:
            colour, alpha = sprite(thing.name, thing.size, thing.style)
            part = picture[thing.y:thing.y + thing.size, thing.x:thing.x + thing.size]
            part *= 1 - alpha
            part += colour
        return np.clip(picture + 0.5, 0, 255).astype(np.uint8)

    def caption(self, rng: Random | None = None) -> str:
        """What a person would say of the scene; always the same words without `rng`."""
        return caption([thing.name for thing in self.objects], self.place, rng)

    def replaced(self, index: int, name: str) -> Recipe:
        """The same scene with another object in the square of object `index`."""
        objects = list(self.objects)
        objects[index] = replace(objects[index], name=name)
        return replace(self, objects=tuple(objects))

    def removed(self, index: int) -> Recipe:
        """The same scene without object `index`."""
        return replace(self, objects=self.objects[:index] + self.objects[index + 1:])

    def added(self, thing: Placed) -> Recipe:
        """The same scene with one more object, in front."""
        return replace(self, objects=(*self.objects, thing))

    def styled(self, style: str) -> Recipe:
        """The same scene with all its objects in this style; their boxes differ by a pixel or two. Raises UserError for
        a style that is not there.
        """
        if style not in styles():
            raise UserError(f"The style {style!r} is unknown; choose one of {', '.join(styles())}.")
        return replace(self, objects=tuple(replace(thing, style=style) for thing in self.objects))

    def to_dict(self) -> dict:
        """Plain data for JSON, with the known boxes and the caption."""
        objects = [{**asdict(thing), "box": list(thing.box)} for thing in self.objects]
        return {"place": self.place, "variant": self.variant, "objects": objects,
                "caption": self.caption()}


def _overlap(a: Placed, b: Placed) -> float:
    """Shared area of two squares over the smaller one's area."""
    w = min(a.x + a.size, b.x + b.size) - max(a.x, b.x)
    h = min(a.y + a.size, b.y + b.size) - max(a.y, b.y)
    return max(w, 0) * max(h, 0) / min(a.size, b.size) ** 2


def random_placed(name: str, rng: Random, sizes=SIZES) -> Placed:
    """`name` at a random size and place on the grid, wholly inside the picture."""
    size = rng.choice(sizes)
    return Placed(name, rng.randrange(0, SIZE - size + 1, GRID), rng.randrange(0, SIZE - size + 1, GRID), size)


def random_recipe(rng: Random, count: int | None = None, combinations: str = "training") -> Recipe:
    """A random scene of `count` objects (1-3, or 0 when asked for) that hardly overlap, all different.

    `combinations`: "training" leaves the held-out object-place pairs away, "held_out" takes only
    those, "all" does not mind.
    """
    if combinations not in ("training", "held_out", "all"):
        raise ValueError(f"combinations is {combinations!r}; use 'training', 'held_out' or 'all'.")
    where = rng.choice(list(PLACES))
    names = [n for n in NAMES if combinations == "all" or held_out(n, where) == (combinations == "held_out")]
    count = rng.choice((1, 1, 2, 2, 3)) if count is None else count
    sizes = SIZES if count <= 1 else SIZES[:4] if count == 2 else SIZES[:2]
    objects: list[Placed] = []
    for name in rng.sample(names, min(count, len(names))):
        for _ in range(40):
            thing = random_placed(name, rng, sizes)
            if all(_overlap(thing, other) < 0.05 for other in objects):
                objects.append(thing)
                break
    return Recipe(where, rng.randrange(VARIANTS), tuple(objects))


def scene(seed: int, count: int | None = None, combinations: str = "training") -> Recipe:
    """The scene with this number; seeds below 1,000,000 are held out from every training."""
    rng = Random(f"scene {seed}")
    recipe = random_recipe(rng, count, combinations)
    while count is not None and len(recipe.objects) < count:  # a first object in the middle can leave no room
        recipe = random_recipe(rng, count, combinations)
    return recipe


def tensor(recipe: Recipe) -> torch.Tensor:
    """The rendered scene as (3, 64, 64) in 0..1."""
    return to_tensor(Image.fromarray(recipe.render()))


def square(thing: Placed, room: int = 3) -> Box:
    """The object's square with a little room around, clamped to the picture."""
    return (max(thing.x - room, 0), max(thing.y - room, 0),
            min(thing.x + thing.size + room, SIZE), min(thing.y + thing.size + room, SIZE))
