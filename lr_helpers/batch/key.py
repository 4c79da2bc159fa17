"""What decides an item's result, as one hash: with the same key it need not be edited again."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import lru_cache
from hashlib import file_digest, sha256
from pathlib import Path

from lr_helpers.batch.items import Item
from lr_helpers.method import Method
from lr_helpers.models import origins
from lr_helpers.models.layouts import look_inside, names_in
from lr_helpers.models.profiles import Profile

FORMAT = 3
"""Goes up when the same input is meant to give another result, or a result.json of another format, so that what is done
already is done again."""
SMALL = 2**26
"""Files of models up to this size, in bytes, are hashed whole; of larger ones the ends and the length."""


def digest(file: Path) -> str:
    """SHA-256 of a file; raises OSError if it can't be read."""
    with file.open("rb") as stream:
        return file_digest(stream, "sha256").hexdigest()


def inputs(item: Item, image: str, models: dict[str, str]) -> dict:
    """What decides the result of an item, as plain data: `image` is its picture's digest, `models` from `identity`.

    Device and versions of libraries are not among it: several machines may share a batch, and an update of a
    library need not throw a night's work away. They are in each result.json.
    """
    return {"format": FORMAT, "image": image, "source": item.source, "prompt": item.prompt, "seed": item.seed,
            "full_frame": item.full_frame, **_plain(item.method), **_asked(item.method, models)}


def key(decides: dict) -> str:
    """The hash of `inputs`."""
    return sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()


def _asked(method: Method, models: dict[str, str]) -> dict[str, str]:
    """What of them a method asks: a search has no use for a predictor, nor the paper for neutral texts."""
    unasked = {"regions": not method.predicts, "neutral_texts": not method.centre_texts}
    return {part: known for part, known in models.items() if not unasked.get(part)}


@lru_cache(maxsize=1024)
def _plain(method: Method) -> dict:
    return json.loads(json.dumps(asdict(method)))


def identity(profile: Profile) -> dict[str, str] | None:
    """The sizes and models of a profile as they lie here, without loading them; None before the first download.

    The region predictor is among them where its file is there: it may come later, and only what is predicted hangs on
    it. So is the file of neutral texts; where it is missing, loading says so.
    A model in a folder is known by its files' contents, one from the hub by its commit, and each by the first
    origin in the profile's order that is on this machine.
    """
    sizes = (profile.size, profile.steps, profile.screening_steps, profile.solver, profile.guidance,
             profile.backbone_size)
    known = {"profile": " ".join(map(str, (profile.name, *sizes)))}
    for part, places in profile.models.items():
        variant = profile.parts[part].variant if part in profile.parts else None
        found = next(filter(None, (_known(part, origin, variant) for origin in places)), None)
        if found is None:
            return None
        known[part] = found
    if profile.regions is not None and profile.regions.is_file():
        known["regions"] = digest(profile.regions)
    if profile.neutral_texts.is_file():
        known["neutral_texts"] = digest(profile.neutral_texts)
    return known


def _known(part: str, origin: str, variant: str | None) -> str | None:
    if origins.is_folder(origin):
        folder = Path(origin)
        if not folder.is_dir() or look_inside(part, folder, variant).missing:  # no model; loading says what is wrong
            return None
        return f"{origins.label(origin)} {_contents(folder)}"
    if origin.startswith("openclip:"):
        # A released model, whose weights are fixed; before, its activation was not always theirs.
        return f"{origin} with its own activation"
    from lr_helpers.models.resolve import cached

    found = cached(part, origin, variant)
    return f"{found.repo} {found.commit} {' '.join(found.variants)}".rstrip() if found else None


def _contents(folder: Path) -> str:
    whole = sha256()
    for file in sorted(folder / name for name in names_in(folder)):
        size = file.stat().st_size
        whole.update(f"{file.relative_to(folder).as_posix()} {size} ".encode())
        with file.open("rb") as stream:
            if size <= SMALL:
                whole.update(stream.read())
            else:
                whole.update(stream.read(SMALL // 2))
                stream.seek(-SMALL // 2, 2)
                whole.update(stream.read())
    return whole.hexdigest()
