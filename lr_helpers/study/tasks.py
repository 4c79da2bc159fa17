"""What is asked of a way to edit: an emoji scene, a source and a prompt, and the truth that it never sees.

Each kind has scenes of its own, by their seeds; no model and no choice of a setting has seen them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random

import torch

from lr_helpers.boxes import Box
from tiny_world.places import VARIANTS
from tiny_world.scenes import Recipe, scene, square, tensor
from tiny_world.sprites import HELD_OUT_STYLE
from tiny_world.words import HELD_OUT_TEXTURES, NAMES, PLACES, caption, held_out, with_article

VALIDATION, TEST = 300_000, 400_000
"""First seeds of the scenes on which weights are chosen, and of those that are reported."""
COMPOSITIONAL, TWO = 600_000, 700_000
"""First seeds of the scenes for unseen combinations, and of those for two objects."""
VOTE, VOTE_LIVE = 500_000, 550_000
"""First seeds of the scenes for a class's blind vote, and of the few with which notebook 09 shows how it works: who
votes has seen none of them anywhere in the course."""


@dataclass(frozen=True)
class Task:
    """"Replace this object by X", "add X" to a scene that has one object less, or "remove this object"."""

    kind: str
    """One of KINDS; other studies have names of their own."""
    seed: int
    recipe: Recipe
    """The scene as it is given."""
    source: str
    prompt: str
    target: str
    """The object that the judge must see afterwards; NOTHING where one is to be removed."""
    truth: Box | None
    """The known region: the box of the object to be replaced or removed. None for "add": any free place would do."""
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

    @property
    def known_others(self) -> list[Box]:
        """The boxes of the objects that must stay, as they are seen."""
        return [o.box for o in self.recipe.objects if o.box != self.truth]


KINDS = ("replace", "add", "remove", "style", "texture")
"""The last two are "replace", drawn in the held-out style, and on a held-out texture."""
NOTHING = "nothing"
"""What the judge calls a place without an object."""


def task(kind: str, seed: int) -> Task:
    """The task of this kind and seed: even seeds have one object, odd ones two (an object less for "add", so that every
    other scene is empty).
    """
    full = scene(seed, 1 + seed % 2)
    rng = Random(f"task {seed}")
    index = rng.randrange(len(full.objects))
    # A target that is not there yet, and that the editor has seen in this place.
    names = [n for n in NAMES if n not in {o.name for o in full.objects} and not held_out(n, full.place)]
    target = rng.choice(names)
    if kind == "replace":
        return replacing(kind, seed, full, index, target)
    if kind == "add":
        # The source is the place, and the prompt names both.
        prompt = f"{with_article(target)} {PLACES[full.place]}"
        return Task(kind, seed, full.removed(index), full.place, prompt, target, None, _others(full, index), None)
    if kind == "remove":
        # The prompt is what is left to see there: the place.
        return replace(replacing(kind, seed, full, index, target), prompt=caption([], full.place), target=NOTHING)
    if kind == "style":
        return replace(restyled(replacing("replace", seed, full, index, target), HELD_OUT_STYLE), kind=kind)
    if kind == "texture":
        return replacing(kind, seed, on_strange_ground(full, seed), index, target)
    raise ValueError(f"kind is {kind!r}; use one of {', '.join(KINDS)}.")


def on_strange_ground(recipe: Recipe, seed: int) -> Recipe:
    """The scene of this seed on a held-out texture."""
    rng = Random(f"strange {seed}")
    return recipe.on(rng.choice(HELD_OUT_TEXTURES), rng.randrange(VARIANTS))


def replacing(kind: str, seed: int, full: Recipe, index: int, target: str) -> Task:
    """Replace object `index` of the scene by `target`."""
    thing = full.objects[index]
    return Task(kind, seed, full, thing.name, with_article(target), target, thing.box, _others(full, index),
                (thing.name, square(thing)))


def _others(full: Recipe, index: int) -> tuple[tuple[str, Box], ...]:
    return tuple((o.name, square(o)) for i, o in enumerate(full.objects) if i != index)


# Beyond the study of regions: unseen combinations, another drawing style, two objects


def combinations(seed: int) -> tuple[Task, Task]:
    """The same scene and the same object to be replaced, twice: by an object that the editor, its autoencoder and CLIP
    never saw in this place, and, as control, by one that they did.

    Even seeds have one object, odd ones two, all in places where they were trained. The control's target is one that
    is held out in another place, so both ask for the same objects when many scenes are taken together. (The ViT saw
    objects on any background; it learns no words. So did the judge, which only measures.)
    """
    full, rng = scene(seed, 1 + seed % 2), Random(f"combination {seed}")
    there, index = {o.name for o in full.objects}, rng.randrange(len(full.objects))
    # Both targets are among the objects that are held out in some place.
    somewhere = [n for n in NAMES if n not in there and any(held_out(n, p) for p in PLACES)]
    unseen = rng.choice([n for n in somewhere if held_out(n, full.place)])
    seen = rng.choice([n for n in somewhere if not held_out(n, full.place)])
    return replacing("unseen", seed, full, index, unseen), replacing("seen", seed, full, index, seen)


def restyled(task: Task, style: str) -> Task:
    """The same task, its scene drawn with sprites of another style (`tiny_world.sprites.styles`), the truth with it.
    Its kind says so.

    The judge learned the styles of the trainings: it knows what the editor paints, but whether it names objects of the
    held-out style must be measured before "others kept" and "source gone" are read.
    """
    recipe = task.recipe.styled(style)
    here = [o.box for o in recipe.objects if (o.name, square(o)) == task.replaced]
    return replace(task, kind=f"{task.kind}_{style}", recipe=recipe, truth=here[0] if here else None)


@dataclass(frozen=True)
class TwoTurns:
    """Replace one object of a scene by X, then the other by Y."""

    seed: int
    recipe: Recipe
    turns: tuple[tuple[str, str], tuple[str, str]]
    """(source, prompt), as `lr_helpers.sequence.edit_in_turn` takes them."""
    tasks: tuple[Task, Task]
    """What each turn must do, for the measures: its known region, and as the object that must stay the other one (in
    the second turn the first turn's target). Measure both on the final picture.
    """


def two_turns(seed: int) -> TwoTurns:
    """A scene of two objects, both to be replaced, in a random order, by two others that are neither of them."""
    full, rng = scene(seed, 2), Random(f"two turns {seed}")
    first, second = rng.sample(range(2), 2)
    there = {o.name for o in full.objects}
    names = [n for n in NAMES if n not in there and not held_out(n, full.place)]
    targets = dict(zip((first, second), rng.sample(names, 2), strict=True))
    # How the scene looks when both turns are done: what must still be there.
    final = full.replaced(first, targets[first]).replaced(second, targets[second])
    tasks = []
    for index, other in ((first, second), (second, first)):
        one = replacing("turn", seed, full, index, targets[index])
        tasks.append(replace(one, others=((final.objects[other].name, square(final.objects[other])),)))
    turns = tuple((full.objects[i].name, with_article(targets[i])) for i in (first, second))
    return TwoTurns(seed, full, turns, tuple(tasks))
