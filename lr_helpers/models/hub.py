"""Fetch a part of a profile: a folder stays where it is, what the hub has goes to its cache, at a known commit.

`opened` is what loading calls: libraries read a folder of ours, in which is only what they may see.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from huggingface_hub import snapshot_download

from lr_helpers.models import settings
from lr_helpers.models.layouts import CLIP_WEIGHTS, look_inside, reader
from lr_helpers.models.origins import State, UnavailableError, is_folder, label
from lr_helpers.models.profiles import Part, Profile
from lr_helpers.models.refusals import explain
from lr_helpers.models.resolve import Found, resolve


@dataclass(frozen=True)
class Fetched:
    """Where a part lies now."""

    place: str
    """A folder."""
    label: str
    """What the record says: the origin, for the hub's with `@` and the commit. It can be given as an origin again."""
    variants: tuple[str, ...] = ()
    """Components of an editor that are read in half precision."""
    files: tuple[str, ...] = ()
    """What is read of the folder."""


@contextmanager
def opened(part: str, origin: str, variant: str | None = None, borrows: Sequence[str] = ()) -> Iterator[Fetched]:
    """`fetch`, with a folder of ours as its place for as long as the `with` lasts.

    It holds the files that are read and nothing else: weights and vocabularies as links, and settings written anew as
    `settings.admitted` gives them. What else lies in the model's folder (code, pickles, settings that libraries look
    for of their own accord) is not there for them, and the settings they read are those that were checked.
    """
    found = fetch(part, origin, variant, borrows)
    # Of a CLIP that open_clip builds by its name, only the weights are the repository's.
    files = (CLIP_WEIGHTS,) if origin.startswith("openclip:") else found.files
    source, read = Path(found.place), cache(reader(Path(found.place)))
    with tempfile.TemporaryDirectory(prefix="model-") as scratch:
        for name in files:
            taken = settings.admitted(part, name, read, files)
            place = Path(scratch, name)
            place.parent.mkdir(parents=True, exist_ok=True)
            if taken is None:
                place.symlink_to((source / name).resolve())
            else:
                place.write_text(json.dumps(taken), encoding="utf-8")
        yield replace(found, place=scratch)


def fetch(part: str, origin: str, variant: str | None = None, borrows: Sequence[str] = ()) -> Fetched:
    """Get one origin of a part onto the disk, as `resolve` says; safetensors only.

    Raises UnavailableError with the reason and its fix where the origin can't serve.
    """
    found = resolve(part, origin, variant, borrows)
    if found.state.trouble:
        raise UnavailableError(found.state)
    if found.place is None:
        found = _download(part, found, variant, borrows)
    if is_folder(origin):
        said = label(origin)
    elif origin.startswith("openclip:"):
        said = f"{origin.partition('@')[0]}@{found.place.name}"
    else:
        said = f"{found.repo}@{found.place.name}"
    return Fetched(str(found.place), said, found.variants, found.files)


def download(profile: Profile, comparison: bool = True) -> list[str]:
    """Get all that a profile lacks on this machine, and says first how much that is; each part from the first origin
    that serves. With `comparison` also what its comparison with other editors loads.

    Nothing is raised: what can't be had is told by whoever asks for it. Returns the parts that an edit needs and that
    are not here now.
    """
    parts = [(part, part, origins, profile.parts.get(part, Part()), ()) for part, origins in profile.models.items()]
    own = len(parts)
    if comparison:
        parts += [(part, part.replace("_", " "), extra.origins, extra.about, extra.borrows)
                  for part, extra in profile.comparison.items()]
    # What is to come, before any of it does.
    wanted = {name: about for part, name, origins, about, borrows in parts if _lacks(part, origins, about, borrows)}
    if not wanted:
        print(f"Nothing to download for the profile {profile.name}.", flush=True)
    else:
        sizes = ", ".join(f"{name} {about.gigabytes or '?'} GB" for name, about in wanted.items())
        total = sum(about.gigabytes or 0 for about in wanted.values())
        print(f"To download for the profile {profile.name}: {sizes}; {total:.1f} GB in all", flush=True)
    lacking = []
    for number, (part, name, origins, about, borrows) in enumerate(parts):
        had = any(_get(part, name, origin, about, borrows) for origin in origins)  # ends with the first that serves
        if not had and number < own:
            lacking.append(name)
    return lacking


def _lacks(part: str, origins: Sequence[str], about: Part, borrows: Sequence[str]) -> bool:
    """Would the first origin that serves have to be downloaded?"""
    states = (resolve(part, origin, about.variant, borrows) for origin in origins)
    serving = next((found for found in states if not found.state.trouble), None)
    return serving is not None and serving.place is None


def _get(part: str, name: str, origin: str, about: Part, borrows: Sequence[str]) -> bool:
    """Is one origin of a part here, after it was downloaded if need be?"""
    try:
        found = resolve(part, origin, about.variant, borrows)
        if found.state.trouble:
            return False
        if found.place is None:
            print(f"Downloading the {name}, {label(origin)}", flush=True)
            fetch(part, origin, about.variant, borrows)
        return True
    except UnavailableError:
        return False


def _download(part: str, found: Found, variant: str | None, borrows: Sequence[str]) -> Found:
    """What was found, in the hub's cache: a folder whose name is the commit."""
    try:
        # By the name of the branch, under which the cache finds it again without the hub.
        folder = Path(snapshot_download(found.repo, revision=found.revision, allow_patterns=list(found.files)))
    except Exception as error:  # each kind of refusal has its own
        raise UnavailableError(explain(found.repo, error)) from error
    missing = set(look_inside(part, folder, variant, borrows).missing)
    if missing and not (part == "clip" and missing == {"open_clip_config.json"} - set(found.files)):
        raise UnavailableError(State(f"missing or damaged: {', '.join(sorted(missing))}", "is incomplete",
                                     f"remove {folder} and try again"))
    return Found(found.state, folder, found.repo, found.revision, folder.name, found.files, found.variants)
