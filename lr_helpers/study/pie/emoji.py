"""A small benchmark in PIE-Bench's format, of emoji scenes whose true edits are known: `study pie-data`.

Beside the published format, `scenes.json` keeps the recipes before and after by id, so that the judge can say whether
an edit was done, which PIE-Bench itself can't know.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from random import Random

import numpy as np
import torch
from PIL import Image

from lr_helpers.boxes import Box
from lr_helpers.errors import UserError
from lr_helpers.files.writing import prepare_folder, write_bytes, write_image, write_json
from lr_helpers.study.pie.items import MAPPING, PICTURES
from lr_helpers.study.pie.masks import encode
from tiny_world import SIZE
from tiny_world.judge import Judge
from tiny_world.places import VARIANTS
from tiny_world.scenes import Placed, Recipe, scene, square
from tiny_world.sprites import SIZES, sprite
from tiny_world.words import NAMES, PLACES, held_out, with_article

FIRST_SEED, MOST = 800_000, 1000
"""Seeds 800,000 … are this benchmark's share of the held-out ones; nothing else uses them. Each edit type has MOST of
them, from FIRST_SEED + MOST × type on, so no two items show the same scene."""
KINDS = {1: "change_object", 2: "add_object", 3: "delete_object", 8: "change_background"}
"""Those of PIE-Bench's edit types that a recipe can tell, with the names of their folders."""
SCENES = "scenes.json"
ABOUT = f"""\
# A small benchmark in PIE-Bench's format

Written by `python -m lr_helpers study pie-data`: {{count}} edits of emoji scenes that no model was trained on.
`{MAPPING}` and `{PICTURES}/` are as the published benchmark has them, at {SIZE} × {SIZE} pixels; `{SCENES}` holds the
scenes before and after each edit as recipes. Drawn of Noto Color Emoji (SIL Open Font License 1.1), of its first
drawings (Apache-2.0), of Fluent Emoji (MIT) and of free textures; see ../tiny_world/LICENSES.md.
"""


def edit(kind: int, seed: int) -> tuple[Recipe, Recipe, int | None]:
    """The scene of this number before and after an edit of this type, and which object is edited (of the scene that has
    it); None for the background. Even seeds have one object, odd ones two.
    """
    full, rng = scene(seed, 1 + seed % 2), Random(f"pie {kind} {seed}")
    index = rng.randrange(len(full.objects))
    if kind == 1:
        # Another object in the same square.
        there = {thing.name for thing in full.objects}
        name = rng.choice([n for n in NAMES if n not in there and not held_out(n, full.place)])
        return full, full.replaced(index, name), index
    if kind in (2, 3):
        # To add is to delete the other way round.
        less = full.removed(index)
        return (less, full, index) if kind == 2 else (full, less, index)
    places = [p for p in PLACES if p != full.place and not any(held_out(t.name, p) for t in full.objects)]
    return full, Recipe(rng.choice(places), VARIANTS + rng.randrange(VARIANTS), full.objects), None


def true_mask(before: Recipe, after: Recipe, index: int | None) -> np.ndarray:
    """(128, 128) uint8, 1 where the edit belongs: the box of all pixels that the true edit changes; for the background,
    all that no object covers by half.
    """
    if index is None:
        # How much of each pixel an object covers.
        covered = np.zeros((SIZE, SIZE, 1))
        for thing in before.objects:
            part = covered[thing.y:thing.y + thing.size, thing.x:thing.x + thing.size]
            np.maximum(part, sprite(*thing.look)[..., 3:] / 255, out=part)
        return (covered[..., 0] < 0.5).astype(np.uint8)
    # The box of every pixel in which the two scenes differ.
    changed = (before.render() != after.render()).any(2)
    rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[rows[0]:rows[-1] + 1, columns[0]:columns[-1] + 1] = 1
    return mask


def entry(kind: int, seed: int) -> tuple[dict, Recipe, Recipe]:
    """One entry of the mapping file but its image_path, and the recipes before and after."""
    before, after, index = edit(kind, seed)
    # Which object of each scene stands in brackets.
    old, new = index if kind in (1, 3) else None, index if kind in (1, 2) else None
    names = [thing.name for thing in before.objects]
    target = "" if new is None else after.objects[new].name
    instruction = {
        1: lambda: f"replace the {names[index]} by {with_article(target)}",
        2: lambda: f"add {with_article(target)}",
        3: lambda: f"remove the {names[index]}",
        8: lambda: f"put {' and '.join(f'the {name}' for name in names)} {PLACES[after.place]}"}[kind]()
    # PIE-Bench has one word of each sentence here, so of a name of two words the last.
    blended = f"{names[index].split()[-1]} {target.split()[-1]}" if kind == 1 else ""
    return {"original_prompt": sentence(before, old, kind == 8), "editing_prompt": sentence(after, new, kind == 8),
            "editing_instruction": instruction, "editing_type_id": str(kind), "blended_word": blended,
            "mask": encode(true_mask(before, after, index))}, before, after


def sentence(recipe: Recipe, marked: int | None = None, place: bool = False) -> str:
    """The scene's caption with what is edited in brackets, as PIE-Bench marks it; an empty scene is its place alone."""
    where = PLACES[recipe.place]
    if not recipe.objects:
        return where.split(maxsplit=1)[1]
    things = [with_article(thing.name) for thing in recipe.objects]
    if marked is not None:
        things[marked] = f"[{things[marked]}]"
    return f"{' and '.join(things)} {f'[{where}]' if place else where}"


def write(folder: Path, count: int) -> int:
    """Write `count` items, as evenly over the types as can be; returns the bytes of all files.

    Raises UserError for fewer items than types, and for a folder that holds something.
    """
    if not len(KINDS) <= count <= MOST * len(KINDS):
        raise UserError(f"--count is {count}; give a number from {len(KINDS)} to {MOST * len(KINDS)}.")
    folder = prepare_folder(folder)
    if any(folder.iterdir()):
        raise UserError(f"The folder {str(folder)!r} is not empty; give another one, or remove it.")
    mapping, recipes = {}, {}
    for place, (kind, title) in enumerate(KINDS.items()):
        many = count // len(KINDS) + (place < count % len(KINDS))
        for seed in range(FIRST_SEED + MOST * kind, FIRST_SEED + MOST * kind + many):
            name = f"{kind}{seed:011d}"
            about, before, after = entry(kind, seed)
            mapping[name] = {"image_path": f"{kind}_{title}_{many}/{name}.png", **about}
            recipes[name] = {"before": before.to_dict(), "after": after.to_dict()}
            write_image(folder / PICTURES / mapping[name]["image_path"], Image.fromarray(before.render()))
    write_json(folder / MAPPING, mapping)
    write_json(folder / SCENES, recipes)
    write_bytes(folder / "README.md", ABOUT.format(count=count).encode())
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def recipe_of(stored: dict) -> Recipe:
    """What `Recipe.to_dict` gave."""
    names = [field.name for field in fields(Placed)]
    objects = tuple(Placed(**{name: thing[name] for name in names}) for thing in stored["objects"])
    return Recipe(stored["place"], stored["variant"], objects)


def _windows() -> list[Box]:
    """Squares as the judge looks at objects, at every size of a sprite, an eighth of the picture apart."""
    sides, step = [size + 12 for size in SIZES], SIZE // 8
    return [(x, y, x + side, y + side) for side in sides
            for y in range(0, SIZE - side + 1, step) for x in range(0, SIZE - side + 1, step)]


def success(before: Recipe, after: Recipe, picture: torch.Tensor, judge: Judge) -> dict[str, float]:
    """Is the edit done, by the judge? `picture` (3, 128, 128) in 0..1. The parts, and "success" if all of them hold.

    A changed object must be seen where the old one stood. An added one may stand anywhere: it must be seen in some
    window. Where one was deleted, nothing must be seen. Others must be seen where they stood. Of a changed background
    only that last part is known.
    """
    def seen(boxes: Sequence[Box]) -> list[str]:
        return judge.name(picture.expand(len(boxes), -1, -1, -1), list(boxes)) if boxes else []

    # Recipes tell which objects went, came and stayed.
    old, new = set(before.objects), set(after.objects)
    gone, came, stay = old - new, new - old, sorted(old & new, key=lambda t: t.name)
    parts = {}
    if stay:
        parts["others_kept"] = seen([square(t) for t in stay]) == [t.name for t in stay]
    for thing in came:
        parts["target_seen"] = thing.name in seen([square(thing)] if gone else _windows())
    if gone and not came:
        parts["source_gone"] = seen([square(t) for t in gone]) == ["nothing"]
    known = {k: float(v) for k, v in parts.items()}
    return {**known, "success": float(all(parts.values()))} if gone or came else known
