"""What is asked of a region chooser: an emoji scene, a source and a prompt, and the truth that it never sees."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

import torch

from lr_helpers.boxes import Box
from tiny_world.scenes import Recipe, scene, square, tensor
from tiny_world.words import NAMES, PLACES, held_out, with_article

VALIDATION, TEST = 300_000, 400_000
"""First seeds of the scenes on which weights are chosen, and of those that are reported. No model has seen either."""


@dataclass(frozen=True)
class Task:
    """"Replace this object by X", or "add X" to a scene that has one object less."""

    kind: str
    """"replace" or "add"; other studies have names of their own."""
    seed: int
    recipe: Recipe
    """The scene as it is given."""
    source: str
    prompt: str
    target: str
    """The object that the judge must see afterwards."""
    truth: Box | None
    """The known region: the replaced object's box. None for "add": any free place would do."""
    others: tuple[tuple[str, Box], ...]
    """The objects that must stay, with the squares the judge looks at."""
    replaced: tuple[str, Box] | None
    """The object that must go, with its square."""

    @property
    def name(self) -> str:
        """E.g. "replace_400000"."""
        return f"{self.kind}_{self.seed}"

    @property
    def picture(self) -> torch.Tensor:
        """(3, S, S) in 0..1."""
        return tensor(self.recipe)


def task(kind: str, seed: int) -> Task:
    """The task of this kind and seed: even seeds have one object, odd ones two (an object less for "add")."""
    full = scene(seed, 1 + seed % 2)
    rng = Random(f"task {seed}")
    index = rng.randrange(len(full.objects))
    names = [n for n in NAMES if n not in {o.name for o in full.objects} and not held_out(n, full.place)]
    target = rng.choice(names)
    if kind == "replace":
        return replacing(kind, seed, full, index, target)
    if kind == "add":
        prompt = f"{with_article(target)} {PLACES[full.place]}"
        return Task(kind, seed, full.removed(index), full.place, prompt, target, None, _others(full, index), None)
    raise ValueError(f"kind is {kind!r}; use 'replace' or 'add'.")


def replacing(kind: str, seed: int, full: Recipe, index: int, target: str) -> Task:
    """Replace object `index` of the scene by `target`."""
    thing = full.objects[index]
    return Task(kind, seed, full, thing.name, with_article(target), target, thing.box, _others(full, index),
                (thing.name, square(thing)))


def _others(full: Recipe, index: int) -> tuple[tuple[str, Box], ...]:
    return tuple((o.name, square(o)) for i, o in enumerate(full.objects) if i != index)


def tasks(replace: int, add: int, first: int = TEST) -> Iterator[Task]:
    """This many tasks of each kind, on the scenes from `first` on."""
    for kind, count in (("replace", replace), ("add", add)):
        for seed in range(first, first + count):
            yield task(kind, seed)
