"""What a predictor is trained on: pictures with two texts each; of an emoji scene no truth is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

from PIL import Image

from lr_helpers.batch.items import plan
from lr_helpers.course.samples import Sample, shipped_photographs
from lr_helpers.errors import UserError
from lr_helpers.files.pictures import read_image
from lr_helpers.models.profiles import Profile
from tiny_world.scenes import Recipe, scene
from tiny_world.words import NAMES, PLACES, caption, held_out, noun_phrase, with_article

FIRST = 2_000_000
"""Seed of the first emoji scene. No study reports on scenes from 1,000,000 on, nor on the grounds in them."""

LESSONS = 2_900_000
"""Seed of the first scene of notebook 07, behind those that the shipped network was trained on."""

CYCLE = ("replace", "add", "replace", "remove", "add")
"""What is asked of every five scenes."""
KINDS = ("replace", "add beside", "add", "remove")
"""The kinds of task; "add" is to an empty scene, "add beside" to one with an object. One scene in two has two objects,
one of which is taken away where something is to be added.
"""


@dataclass(frozen=True)
class Ask:
    """One picture, what is there, and what is wanted. Small and picklable."""

    name: str
    """Unique; the name of its file."""
    kind: str
    """One of KINDS for emoji scenes; "given" for a user's own."""
    source: str
    prompt: str
    seed: int | None = None
    """Of the emoji scene."""
    image: Path | None = None
    """Of a user's own picture."""

    def picture(self) -> Image.Image:
        """RGB or RGBA. Raises UserError if a file can't be read."""
        return read_image(self.image) if self.image else Image.fromarray(_world(self.seed)[1].render())


def emoji_asks(count: int, first: int = FIRST) -> list[Ask]:
    """So many scenes from the seed `first` on, their texts in varied words; no scene that a study reports on."""
    found = []
    for seed in range(first, first + count):
        kind, _, source, prompt = _world(seed)
        found.append(Ask(f"{CYCLE[seed % len(CYCLE)]}_{seed}", kind, source, prompt, seed))
    return found


def _world(seed: int) -> tuple[str, Recipe, str, str]:
    """The kind, scene, source and prompt."""
    asked = CYCLE[seed % len(CYCLE)]
    rng = Random(f"across pictures {seed}")
    full = scene(seed, 1 + rng.randrange(2))
    index = rng.randrange(len(full.objects))
    thing = full.objects[index]
    absent = [n for n in NAMES if n not in {o.name for o in full.objects} and not held_out(n, full.place)]
    target = rng.choice(absent)
    # Half of the texts are said plainly, as studies say them; the others as people might.
    wanted = with_article(target) if rng.random() < 0.5 else noun_phrase(target, rng)
    there = thing.name if rng.random() < 0.5 else noun_phrase(thing.name, rng)
    if asked == "replace":
        return asked, full, there, wanted
    if asked == "remove":
        return asked, full, there, caption([], full.place)
    left = full.removed(index)
    return "add beside" if left.objects else "add", left, full.place, f"{wanted} {PLACES[full.place]}"


def given_asks(file: str | Path, images: str | Path) -> list[Ask]:
    """A user's own pictures and texts: a file as `batch` reads it, and the pictures' folder.

    Raises UserError for a file that can't be read, and names the first entry that is wrong.
    """
    found = plan(file, images, Path("unused"))
    if found.problems:
        raise UserError(f"{file}: {found.problems[0]}" + (
            f" ({len(found.problems) - 1} more are wrong.)" if len(found.problems) > 1 else ""))
    return [Ask(item.name, "given", item.source, item.prompt, image=item.image.absolute()) for item in found.items]


def lessons(profile: Profile, count: int, first: int = LESSONS) -> list[Sample]:
    """So many pictures with texts for notebook 07: emoji scenes of all kinds where the profile knows those, else the
    shipped photographs, each with one prompt after the other.
    """
    if profile.vocabulary:
        return [Sample(one.name, one.kind, one.picture(), one.source, (one.prompt,), "drawn by tiny_world")
                for one in emoji_asks(count, first)]
    photographs, found = shipped_photographs(), []
    for i in range(count):
        photo = photographs[i % len(photographs)]
        asked = photo.prompts[i // len(photographs) % len(photo.prompts)]
        found.append(replace(photo, prompts=(asked,)))
    return found


def kinds_of(asks: Sequence[Ask]) -> dict[str, int]:
    """How many there are of each kind."""
    return {kind: sum(ask.kind == kind for ask in asks) for kind in dict.fromkeys(ask.kind for ask in asks)}
