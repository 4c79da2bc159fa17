"""Tasks beyond the study of regions: unseen combinations, another drawing style, two objects (notebook 10).

Each kind has scenes of its own, by their seeds; no model and no choice of a setting has seen them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random

from lr_helpers.study.tasks import Task, replacing
from tiny_world.scenes import Recipe, scene, square
from tiny_world.words import NAMES, PLACES, held_out, with_article

COMPOSITIONAL, TWO = 600_000, 700_000
"""First seeds of the scenes for unseen combinations, and of those for two objects."""


def combinations(seed: int) -> tuple[Task, Task]:
    """The same scene and the same object to be replaced, twice: by an object that the editor, its autoencoder and CLIP
    never saw in this place, and, as control, by one that they did.

    Even seeds have one object, odd ones two, all in places where they were trained. The control's target is one that
    is held out in another place, so both ask for the same objects when many scenes are taken together. (The ViT saw
    objects on any background; it learns no words. So did the judge, which only measures.)
    """
    full, rng = scene(seed, 1 + seed % 2), Random(f"combination {seed}")
    there, index = {o.name for o in full.objects}, rng.randrange(len(full.objects))
    somewhere = [n for n in NAMES if n not in there and any(held_out(n, p) for p in PLACES)]
    unseen = rng.choice([n for n in somewhere if held_out(n, full.place)])
    seen = rng.choice([n for n in somewhere if not held_out(n, full.place)])
    return replacing("unseen", seed, full, index, unseen), replacing("seen", seed, full, index, seen)


def restyled(task: Task, style: str) -> Task:
    """The same task, its scene drawn with sprites of another style (`tiny_world.sprites.styles`), the truth with it.
    Its kind says so.

    The judge learned the shipped style: it knows what the editor paints, but whether it names objects of another
    style must be measured before "others kept" and "source gone" are read.
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
    final = full.replaced(first, targets[first]).replaced(second, targets[second])
    tasks = []
    for index, other in ((first, second), (second, first)):
        one = replacing("turn", seed, full, index, targets[index])
        tasks.append(replace(one, others=((final.objects[other].name, square(final.objects[other])),)))
    turns = tuple((full.objects[i].name, with_article(targets[i])) for i in (first, second))
    return TwoTurns(seed, full, turns, tuple(tasks))
