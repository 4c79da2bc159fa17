"""Profiles (which models) and methods (how the region is found): plain data, with its sources."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field, replace
from pathlib import Path

from lr_helpers.errors import UserError
from lr_helpers.files.paths import DATA


@dataclass(frozen=True)
class Part:
    """What `doctor` tells of a model beside its sources."""

    licence: str = "not stated"
    gigabytes: float | None = None
    """Size of what is loaded, in 10⁹ bytes; a download takes as much. None where it is not stated."""
    gigabytes_per_edit: float | None = None
    """Memory that one edit of a batch takes beside the weights, in float32; of an editor. None where it is small."""
    variant: str | None = None
    """"fp16" where an editor's half-precision files are loaded from the hub, which are half the download."""
    gone: dict[str, str] = field(default_factory=dict)
    """Sources that vanished, each with the month since when, as YYYY-MM."""


@dataclass(frozen=True)
class Extra:
    """A model that only the comparison with other editors needs (`baselines`)."""

    sources: tuple[str, ...]
    """Folders or hub ids, tried in order."""
    borrows: tuple[str, ...] = ()
    """Components that are the editor's own, e.g. its "vae"; the folder lacks them."""
    about: Part = Part()


@dataclass(frozen=True)
class Profile:
    """One editor, one backbone and one CLIP, and the sizes at which they are used."""

    name: str
    title: str
    size: int
    """Side in pixels of the square picture that is edited."""
    steps: int
    """Denoising steps of one edit."""
    guidance: float
    """Classifier-free guidance scale."""
    batch: int
    """Edits made at once, at most; of large models as many as the GPU's free memory holds."""
    backbone_size: int
    """Side in pixels of the picture the backbone sees."""
    editor: tuple[str, ...]
    """Folders or hub ids of a diffusers inpainting pipeline, tried in order; likewise below."""
    backbone: tuple[str, ...]
    clip: tuple[str, ...]
    vocabulary: Path | None = None
    """Text file of all words the models know, one a line; None where any word may be used."""
    parts: dict[str, Part] = field(default_factory=dict, hash=False)
    """"editor", "backbone" and "clip", with licence and size; a profile of your own may leave them out."""
    comparison: dict[str, Extra] = field(default_factory=dict, hash=False)
    """What other editors and region choosers need, by part, e.g. "text_to_image"; only `baselines` loads it."""

    @property
    def needs_gpu(self) -> bool:
        """Is it refused where there is no GPU, unless that is allowed? All but the shipped miniatures."""
        return self.name != "tiny"

    def but(self, editor: str | None = None, backbone: str | None = None, clip: str | None = None) -> Profile:
        """A copy whose models come from these folders or hub ids alone; None keeps the profile's own sources."""
        own = {part: source for part, source in (("editor", editor), ("backbone", backbone), ("clip", clip)) if source}
        # A stranger's size is not known; what an edit takes is, roughly, at the same size of picture.
        per_edit = self.parts.get("editor", Part()).gigabytes_per_edit
        parts = {part: Part(gigabytes_per_edit=per_edit if part == "editor" else None) for part in own}
        return replace(self, **{part: (source,) for part, source in own.items()}, parts={**self.parts, **parts},
                       vocabulary=None if editor and clip else self.vocabulary)


NO_GPU = "run it where there is a CUDA GPU, e.g. on Colab, or add --allow-cpu, which is very slow"
"""The fix for a profile that `needs_gpu`."""


def _sources(entry: dict) -> tuple[str, ...]:
    # A source whose first folder stands beside models.toml is a folder, be it missing; anything else is a hub id.
    return tuple(str(DATA / s) if (DATA / s.split("/")[0]).is_dir() else s for s in entry["sources"])


def _part(entry: dict) -> Part:
    known = {key: entry[key] for key in ("licence", "gigabytes", "gigabytes_per_edit", "variant") if key in entry}
    return Part(**known, gone={lost["source"]: lost["since"] for lost in entry.get("gone", ())})


def _read_profiles() -> dict[str, Profile]:
    file = DATA / "models.toml"
    if not file.exists():
        raise UserError(f"{file} is missing; run from a full clone, or set LR_DATA to its data folder.")
    profiles, found = {}, tomllib.loads(file.read_text(encoding="utf-8"))
    comparison = found.get("comparison", {})
    for name, entry in found["profiles"].items():
        tables = {part: entry.pop(part) for part in ("editor", "backbone", "clip")}
        words = entry.pop("vocabulary", None)
        profiles[name] = Profile(
            name=name, **entry, **{part: _sources(table) for part, table in tables.items()},
            vocabulary=DATA / words if words else None, parts={part: _part(table) for part, table in tables.items()},
            comparison={part: Extra(_sources(table), tuple(table.get("borrows", ())), _part(table))
                        for part, table in (comparison.get("any", {}) | comparison.get(name, {})).items()})
    return profiles


PROFILES = _read_profiles()
MEASURES = {"structure": (), "clip": ()} | {part: _sources(entry) for part, entry in tomllib.loads(
    (DATA / "models.toml").read_text(encoding="utf-8")).get("measures", {}).items()}
"""Sources of the models that PIE-Bench's metrics are measured with."""


def get_profile(name: str) -> Profile:
    """The profile of this name; raises UserError for an unknown one."""
    if name not in PROFILES:
        raise UserError(f"The profile {name!r} is unknown; choose one of {', '.join(PROFILES)}.")
    return PROFILES[name]
