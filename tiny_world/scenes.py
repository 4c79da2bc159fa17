"""Scenes as recipes: what stands where, so that any scene can be made again with one thing changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from random import Random
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageFilter

from lr_helpers.errors import UserError
from lr_helpers.files.pictures import to_tensor
from tiny_world import GRID, SIZE
from tiny_world.places import SHADOWS, VARIANTS, place
from tiny_world.sprites import SIZES, STYLES, TURNS, extent, sprite, styles
from tiny_world.words import NAMES, PLACES, caption, held_out

if TYPE_CHECKING:
    import torch

    from lr_helpers.boxes import Box

HELD_OUT_SEEDS = range(0, 1_000_000)
"""Seeds for tests, examples and studies; no model is trained on their scenes, nor on the grounds in them."""

VALIDATION_SEEDS, TEST_SEEDS = range(300_000, 400_000), range(400_000, 1_000_000)
"""Their shares for choosing settings, and for what is reported."""

TRAINING_SEEDS = range(1_000_000, 1_000_000_000)


@dataclass(frozen=True)
class Placed:
    """One object: its square has its left top corner at (x, y) and the side `size`, in pixels."""

    name: str
    x: int
    y: int
    size: int
    style: str = STYLES[0]
    """How it is drawn; see `sprites.styles`."""
    flip: bool = False
    """Mirrored."""
    turn: int = 0
    """Degrees that it leans to the left; one of `sprites.TURNS`."""

    @property
    def look(self) -> tuple:
        """Everything that decides its pixels: the arguments of `sprites.sprite`."""
        return self.name, self.size, self.style, self.flip, self.turn

    @property
    def box(self) -> Box:
        """(x0, y0, x1, y1) of what is seen of it, in pixels, end exclusive; its shadow doesn't count."""
        x0, y0, x1, y1 = extent(*self.look)
        return self.x + x0, self.y + y0, self.x + x1, self.y + y1


@lru_cache(6_000)
def shadow(name: str, size: int, style: str, flip: bool, turn: int, kind: str) -> np.ndarray:
    """(2·size, 2·size) uint8: a soft shadow of strength 0..255, half a size larger than the sprite on all sides.

    The light comes from the left above. A thing that lies throws its outline right and down; one that stands, a flat
    copy of it at its foot.
    """
    alpha = Image.fromarray(sprite(name, size, style, flip, turn)[..., 3])
    canvas, half = Image.new("L", (2 * size, 2 * size)), size // 2
    if kind == "lie":
        canvas.paste(alpha, (half + round(0.05 * size), half + round(0.06 * size)))
    else:
        x0, y0, x1, y1 = extent(name, size, style, flip, turn)
        flat = alpha.crop((x0, y0, x1, y1)).resize((x1 - x0, max(round(0.2 * (y1 - y0)), 2)))
        canvas.paste(flat, (half + x0 + round(0.06 * size), half + y1 - round(0.75 * flat.height)))
    soft = np.asarray(canvas.filter(ImageFilter.GaussianBlur(0.045 * size))) // 2
    soft.setflags(write=False)
    return soft


def paint(picture: np.ndarray, thing: Placed, where: str, shade: np.ndarray | None = None) -> None:
    """Draw the object, with its shadow if things throw one there, into a (128, 128, 3) float32 picture of 0..255.

    `shade`, (128, 128) in 0..1, says how much of the shadow is seen at each pixel.
    """
    if where in SHADOWS:
        x, y, side = thing.x - thing.size // 2, thing.y - thing.size // 2, 2 * thing.size
        x0, y0, x1, y1 = max(x, 0), max(y, 0), min(x + side, SIZE), min(y + side, SIZE)
        dark = shadow(*thing.look, SHADOWS[where])[y0 - y:y1 - y, x0 - x:x1 - x] * np.float32(0.8 / 255)
        if shade is not None:
            dark = dark * shade[y0:y1, x0:x1]
        picture[y0:y1, x0:x1] *= 1 - dark[..., None]
    pixels = sprite(*thing.look).astype(np.float32)
    part = picture[thing.y:thing.y + thing.size, thing.x:thing.x + thing.size]
    part *= 1 - pixels[..., 3:] / 255
    part += pixels[..., :3]


@dataclass(frozen=True)
class Recipe:
    """A scene, object by object, painted in this order."""

    place: str
    variant: int
    objects: tuple[Placed, ...]

    def canvas(self) -> np.ndarray:
        """(128, 128, 3) float32 picture in 0..255, for painting on."""
        picture = place(self.place, self.variant).astype(np.float32)
        for thing in self.objects:
            paint(picture, thing, self.place)
        return picture

    def render(self) -> np.ndarray:
        """(128, 128, 3) uint8 picture."""
        return np.clip(self.canvas() + 0.5, 0, 255).astype(np.uint8)

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
        """The same scene with all its objects in this style; their boxes differ by a few pixels. Raises UserError for
        a style that is not there.
        """
        if style not in styles():
            raise UserError(f"The style {style!r} is unknown; choose one of {', '.join(styles())}.")
        return replace(self, objects=tuple(replace(thing, style=style) for thing in self.objects))

    def on(self, place: str, variant: int | None = None) -> Recipe:
        """The same objects on another background."""
        return replace(self, place=place, variant=self.variant if variant is None else variant)

    def to_dict(self) -> dict:
        """Plain data for JSON, with the known boxes and the caption."""
        objects = [{**asdict(thing), "box": list(thing.box)} for thing in self.objects]
        return {"place": self.place, "variant": self.variant, "objects": objects,
                "caption": self.caption()}


def overlap(a: Placed, b: Placed) -> float:
    """Shared area of two squares over the smaller one's area."""
    w = min(a.x + a.size, b.x + b.size) - max(a.x, b.x)
    h = min(a.y + a.size, b.y + b.size) - max(a.y, b.y)
    return max(w, 0) * max(h, 0) / min(a.size, b.size) ** 2


FOOT = 56
"""Where things stand, their feet are at least so far down: below every horizon but a room's."""


def random_placed(name: str, rng: Random, sizes=SIZES, style: str | None = None, where: str = "sky",
                  hands: Sequence[str] = STYLES) -> Placed:
    """`name` at a random size and place on the grid, wholly inside the picture; half are mirrored, a third lean. Drawn
    in `style`, or by one of the `hands`.
    """
    size = rng.choice(sizes)
    low = max(FOOT - size, 0) if SHADOWS.get(where) == "stand" else 0
    x, y = rng.randrange(0, SIZE - size + 1, GRID), rng.randrange(low // GRID * GRID, SIZE - size + 1, GRID)
    turn = rng.choice(TURNS) if rng.random() < 0.4 else 0
    return Placed(name, x, y, size, style or rng.choice(hands), rng.random() < 0.5, turn)


def random_recipe(rng: Random, count: int | None = None, combinations: str = "training",
                  hands: Sequence[str] = STYLES) -> Recipe:
    """A random scene of `count` objects (1-3, or 0 when asked for) that hardly overlap, all different, three times of
    four in one style, always in those of `hands`.

    `combinations`: "training" leaves the held-out object-place pairs away, "held_out" takes only
    those, "all" does not mind.
    """
    if combinations not in ("training", "held_out", "all"):
        raise ValueError(f"combinations is {combinations!r}; use 'training', 'held_out' or 'all'.")
    where = rng.choice(list(PLACES))
    style = rng.choice(hands) if rng.random() < 0.75 else None
    names = [n for n in NAMES if combinations == "all" or held_out(n, where) == (combinations == "held_out")]
    count = rng.choice((1, 1, 2, 2, 3)) if count is None else count
    sizes = SIZES if count <= 1 else SIZES[:4] if count == 2 else SIZES[:2]
    objects: list[Placed] = []
    for name in rng.sample(names, min(count, len(names))):
        for _ in range(40):
            thing = random_placed(name, rng, sizes, style, where, hands)
            if all(overlap(thing, other) < 0.05 for other in objects):
                objects.append(thing)
                break
    # What stands further down is nearer, so it is painted later.
    return Recipe(where, rng.randrange(VARIANTS), tuple(sorted(objects, key=lambda o: o.y + o.size)))


def scene(seed: int, count: int | None = None, combinations: str = "training") -> Recipe:
    """The scene with this number; those below 1,000,000 are held out from every training, and so is what they stand on:
    an empty scene is nothing but its ground.
    """
    rng = Random(f"scene {seed}")
    recipe = random_recipe(rng, count, combinations)
    while count is not None and len(recipe.objects) < count:  # a first object in the middle can leave no room
        recipe = random_recipe(rng, count, combinations)
    return replace(recipe, variant=recipe.variant + VARIANTS) if seed in HELD_OUT_SEEDS else recipe


def tensor(recipe: Recipe) -> torch.Tensor:
    """The rendered scene as (3, 128, 128) in 0..1."""
    return to_tensor(Image.fromarray(recipe.render()))


def square(thing: Placed, room: int = 6) -> Box:
    """The object's square with a little room around, clamped to the picture."""
    return (max(thing.x - room, 0), max(thing.y - room, 0),
            min(thing.x + thing.size + room, SIZE), min(thing.y + thing.size + room, SIZE))
