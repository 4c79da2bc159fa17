"""Pictures to try the method on, with a source word and prompts, and the paper's prompts.

Profiles with a vocabulary know the emoji world only, so theirs is an emoji scene, whose objects' boxes are known; the
others get photographs: those in data/photographs, or the official code's samples, fetched when they are asked for.
"""

from __future__ import annotations

import contextlib
import os
import tomllib
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

from PIL import Image

from lr_helpers.boxes import Box
from lr_helpers.errors import UserError
from lr_helpers.files.paths import DATA
from lr_helpers.files.pictures import read_image, to_tensor
from lr_helpers.files.writing import write_bytes
from lr_helpers.models.profiles import Profile, get_profile

if TYPE_CHECKING:
    import torch

    from tiny_world.scenes import Recipe

TIMEOUT = 20.0
"""Seconds without a byte from the server until it counts as out of reach."""
MAX_BYTES = 20_000_000
FIX = "try again when the network lets you through (behind a proxy, set HTTPS_PROXY), or take a sample that is shipped"

SCENE = 61074
"""The emoji scene of notebook 06: one wolf on the grass, which no model has seen."""
SCENE_PROMPTS = ("a mushroom", "a burger", "a fox", "an apple", "a strawberry", "a penguin", "a cake", "a panda")

EMOJI_SEED = 900_000
"""First seed of the scenes that the emoji prompts are asked of."""


@dataclass(frozen=True)
class Sample:
    """A picture and what to ask of it."""

    name: str
    title: str
    picture: Image.Image
    """RGB, of any size."""
    source: str
    """What is there now: the paper's T_ROI."""
    prompts: tuple[str, ...]
    """What may take its place, each alone."""
    credit: str
    """Author and licence, to be shown beside the picture."""
    truth: Box | None = None
    """The source's box in pixels of the picture (x0, y0, x1, y1), ends excluded; None where it is not known."""
    readings: tuple[Box, ...] = ()
    """Of a photograph: all boxes that fit the source text as well, marked by hand; the first is `truth`."""

    @property
    def prompt(self) -> str:
        """The first prompt."""
        return self.prompts[0]


def names(profile: Profile | str) -> tuple[str, ...]:
    """The samples for a profile; the first is its default. Raises UserError for an unknown profile."""
    profile = get_profile(profile) if isinstance(profile, str) else profile
    return ("wolf",) if profile.vocabulary else tuple(_photographs())


def sample(profile: Profile | str, name: str | None = None) -> Sample:
    """The sample of this name, by default the profile's first.

    Raises UserError for a name that the profile hasn't, and for a picture that can't be fetched or read.
    """
    profile = get_profile(profile) if isinstance(profile, str) else profile
    known = names(profile)
    name = known[0] if name is None else name
    if name not in known:
        raise UserError(f"The sample {name!r} is unknown; choose one of {', '.join(known)}.")
    if profile.vocabulary:
        return _emoji_scene(name, SCENE, SCENE_PROMPTS)
    return _photograph(name)


def shipped_photographs() -> tuple[Sample, ...]:
    """The photographs in data/photographs, whose sources' boxes are known."""
    return tuple(_photograph(name) for name in _photographs() if _is_shipped(name))


def _is_shipped(name: str) -> bool:
    return "file" in _photographs()[name]


def _photograph(name: str) -> Sample:
    entry = _photographs()[name]
    file = DATA / "photographs" / entry["file"] if _is_shipped(name) else _official(name, entry)
    boxes = tuple(tuple(box) for box in entry.get("boxes", ()))
    return Sample(name, entry["title"], read_image(file), entry["source"], tuple(entry["prompts"]), entry["credit"],
                  boxes[0] if boxes else None, boxes)


def square(found: Sample, size: int) -> tuple[torch.Tensor, Box]:
    """A sample as the notebooks take it apart: the largest square with its source, (3, size, size) in 0..1, and the
    source's box in pixels of it; the middle half where no box is known.
    """
    width, height = found.picture.size
    side = min(width, height)
    x0, y0, x1, y1 = found.truth or (width // 4, height // 4, 3 * width // 4, 3 * height // 4)
    # Around the box's middle, as far as the picture allows.
    left, top = (round(min(max((low + high - side) / 2, 0), whole - side))
                 for low, high, whole in ((x0, x1, width), (y0, y1, height)))
    picture = to_tensor(found.picture.crop((left, top, left + side, top + side)), size)
    box = [min(max(v, 0), side) * size // side for v in (x0 - left, y0 - top, x1 - left, y1 - top)]
    return picture, tuple(box)


def shipped(profile: Profile | str) -> tuple[str, ...]:
    """Those of `names` that lie in the clone, so that nothing is fetched."""
    return tuple(name for name in names(profile) if name == "wolf" or _is_shipped(name))


def scene_credit(recipe: Recipe) -> str:
    """Whose drawings an emoji scene shows, with their licences."""
    from tiny_world.sprites import CREDITS

    styles = dict.fromkeys(thing.style for thing in recipe.objects)
    return "drawn by tiny_world of " + " and ".join(CREDITS[style] for style in styles)


def _emoji_scene(name: str, seed: int, prompts: tuple[str, ...]) -> Sample:
    from tiny_world.scenes import scene

    recipe = scene(seed, count=1)
    (thing,) = recipe.objects
    return Sample(name, recipe.caption(), Image.fromarray(recipe.render()), thing.name, prompts,
                  scene_credit(recipe), thing.box)


def _official(name: str, entry: dict) -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    file = cache / "learnable-regions" / f"{name}.png"
    fetch(entry["url"], entry["sha256"], file)
    return file


def fetch(url: str, checksum: str, file: Path, timeout: float = TIMEOUT) -> None:
    """Make sure that `file` holds what has this SHA-256 (hex), if need be from `url`.

    Of anything else nothing is kept. Raises UserError if the server can't be reached, or sends something else.
    """
    with contextlib.suppress(OSError):
        if sha256(file.read_bytes()).hexdigest() == checksum:
            return
    try:
        with urlopen(url, timeout=timeout) as answer:
            data = answer.read(MAX_BYTES)
    except HTTPError as error:
        raise UserError(f"{url} answers {error.code} {error.reason}; {FIX}.") from error
    except (URLError, OSError, HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise UserError(f"{url} can't be fetched ({reason}); {FIX}.") from error
    if sha256(data).hexdigest() != checksum:
        raise UserError(f"What {url} sent is not the picture it should be (its SHA-256 differs), so it was not kept; "
                        f"{FIX}.")
    write_bytes(file, data)


def groups() -> tuple[str, ...]:
    """The names of the groups of the paper's prompts, by the kind of figure they stand in."""
    return tuple(_paper())


def prompts(group: str) -> tuple[str, ...]:
    """The paper's prompts of a group; raises UserError for an unknown one."""
    if group not in _paper():
        raise UserError(f"The group of prompts {group!r} is unknown; choose one of {', '.join(_paper())}.")
    return tuple(_paper()[group]["prompts"])


@dataclass(frozen=True)
class EmojiPrompt(Sample):
    """A prompt in the words of the emoji world and the one-object scene it is asked of, whose seed is its name."""

    targets: tuple[str, ...] = ()
    """The objects that the prompt names."""


def emoji_groups() -> tuple[str, ...]:
    """Those groups of the paper's prompts that have a counterpart in the emoji world's words."""
    return tuple(_emoji())


def emoji_prompts(group: str) -> tuple[EmojiPrompt, ...]:
    """The emoji world's prompts of a group, each with its scene; raises UserError for an unknown group."""
    if group not in _emoji():
        raise UserError(f"The group of prompts {group!r} is unknown; choose one of {', '.join(_emoji())}.")
    found = []
    for entry in _emoji()[group]["prompts"]:
        scene = _emoji_scene(str(entry["seed"]), entry["seed"], (entry["prompt"],))
        found.append(EmojiPrompt(**vars(scene), targets=tuple(entry["targets"])))
    return tuple(found)


@cache
def _emoji() -> dict[str, dict]:
    return _read(DATA / "emoji_prompts.toml")


@cache
def _photographs() -> dict[str, dict]:
    return _read(DATA / "photographs" / "index.toml")


@cache
def _paper() -> dict[str, dict]:
    return _read(DATA / "prompts.toml")


def _read(file: Path) -> dict[str, dict]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{file} is missing; run from a full clone, or set LR_DATA to its data folder.") from error
