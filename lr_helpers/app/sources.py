"""Where the editor's pictures come from: samples, uploads, and emoji scenes that are composed."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

from lr_helpers.course import samples
from lr_helpers.course.samples import SCENE_PROMPTS, Sample
from lr_helpers.errors import UserError
from lr_helpers.files.pictures import read_noted
from lr_helpers.models.profiles import Profile
from tiny_world import SIZE
from tiny_world.scenes import Placed, Recipe, scene
from tiny_world.sprites import SIZES
from tiny_world.words import NAMES, PLACES

NOBODY = "nothing"
"""Instead of an object's name."""
WHERE = {"left": 0.0, "middle": 0.5, "right": 1.0}
"""Where an object stands, as a share of the room beside it."""
SCENES = {"cow": (4756, 1, "a penguin"), "apple": (4750, 1, "a cake"), "cake": (4740, 2, "a panda"),
          "dog": (4734, 2, "a fox")}
"""More emoji scenes, which no model has seen: the seed, the number of objects, what may take the place of the first."""
LARGEST = 100
"""MB of a file, at most."""


def sample_names(profile: Profile) -> tuple[str, ...]:
    """The samples that lie in the clone; in the emoji world, some more scenes."""
    return samples.shipped(profile) + (tuple(SCENES) if profile.vocabulary else ())


def sample(profile: Profile, name: str) -> Sample:
    """One of them. Raises UserError for another name."""
    if not profile.vocabulary or name not in SCENES:
        return samples.sample(profile, name)
    seed, count, wanted = SCENES[name]
    recipe = scene(seed, count)
    thing = next(one for one in recipe.objects if one.name == name)
    prompts = (wanted, *(one for one in SCENE_PROMPTS if one != wanted))
    return Sample(name, recipe.caption(), Image.fromarray(recipe.render()), name, prompts,
                  samples.scene_credit(recipe), thing.box)


def uploaded(name: str, data: bytes) -> tuple[Image.Image, list[str]]:
    """A file's content as a picture, by the house's reader, and what is lost of it. Raises UserError."""
    if not data:
        raise UserError("The file is empty; give a JPEG, PNG or WebP file.")
    if len(data) > LARGEST * 1_000_000:
        raise UserError(f"The file has {len(data) / 1e6:,.0f} MB; give one of at most {LARGEST} MB.")
    # A name of our own, of which messages show the last part; nothing of it decides where it lies.
    last = Path(name.replace("\\", "/")).name.replace("\0", "")[-80:] or "picture"
    with TemporaryDirectory() as folder:
        file = Path(folder, last if last not in (".", "..") else "picture")
        file.write_bytes(data)
        return read_noted(file)


def compose(place: str, first: str, where: str = "middle", size: int = 64, second: str = NOBODY) -> Image.Image:
    """An emoji scene, 128×128: `first` stands at `where`; `second`, if there is one, is small, on the other side.

    Raises UserError for names that the emoji world does not know.
    """
    for kind, name, known in (("place", place, PLACES), ("object", first, NAMES), ("position", where, WHERE),
                              ("size", size, SIZES), ("object", second, (NOBODY, *NAMES))):
        if name not in known:
            raise UserError(f"The {kind} {name!r} is unknown; choose one of {', '.join(map(str, known))}.")
    things = [Placed(first, round(WHERE[where] * (SIZE - size)), SIZE - size - 8, size)]
    if second != NOBODY:
        small = SIZES[0]
        things.append(Placed(second, 0 if where == "right" else SIZE - small, 4, small))
    return Image.fromarray(Recipe(place, 0, tuple(things)).render())
