"""Profiles: which models, at which sizes, and where they come from; plain data, read from `data/models.toml`."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lr_helpers.errors import UserError
from lr_helpers.files.paths import DATA

NEEDED = ("editor", "backbone", "clip")
PARTS = (*NEEDED, "lora", "decoder")
"""The models of a profile; the last two only where it names them."""


@dataclass(frozen=True)
class Part:
    """What is known of a model beside its origins."""

    licence: str = "not stated"
    gigabytes: float | None = None
    """Size of what is loaded, in 10⁹ bytes; a download takes as much. None where it is not stated."""
    gigabytes_per_edit: float | None = None
    """Memory that one edit of a batch takes beside the weights, in float32; of an editor. None where it is small."""
    variant: str | None = None
    """"fp16" where a pipeline's half-precision files are loaded, which are half the download: of each origin those of
    its components that have such files, and of the others the whole ones."""
    gone: dict[str, str] = field(default_factory=dict)
    """Origins that vanished, each with the month since when, as YYYY-MM."""


@dataclass(frozen=True)
class Extra:
    """A model that only the comparison with other editors needs (`baselines`)."""

    origins: tuple[str, ...]
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
    """Denoising steps of a full edit."""
    guidance: float
    """Classifier-free guidance scale."""
    batch: int
    """Edits made at once, at most; of large models as many as the GPU's free memory holds."""
    backbone_size: int
    """Side in pixels of the picture the backbone sees."""
    editor: tuple[str, ...]
    """Origins of a diffusers inpainting pipeline, folders or hub ids, tried in order; likewise below."""
    backbone: tuple[str, ...]
    clip: tuple[str, ...]
    lora: tuple[str, ...] = ()
    """Origins of a LoRA that becomes part of the editor's denoiser; () for none, likewise below."""
    decoder: tuple[str, ...] = ()
    """Origins of a small autoencoder that decodes the candidates, of which only the winner is then decoded whole."""
    vocabulary: Path | None = None
    """Text file of all words the models know, one a line; None where any word may be used."""
    neutral_texts: Path = DATA / "neutral_texts.txt"
    """Text file of names of things and of grounds, one a line: what all texts of this CLIP share is their mean."""
    parts: dict[str, Part] = field(default_factory=dict, hash=False)
    """By part, with licence and size; a profile of your own may leave them out."""
    comparison: dict[str, Extra] = field(default_factory=dict, hash=False)
    """What other editors and region choosers need, by part, e.g. "text_to_image"; only `baselines` loads it."""

    rivals: dict[str, dict[str, Any]] = field(default_factory=dict, hash=False)
    """Settings of other editors that were chosen for these models, by the row's name; `study rivals` chooses them."""

    screening_steps: int | None = None
    """Denoising steps of a candidate, of which only the winner then gets a full edit; None: candidates are full."""
    solver: str | None = None
    """diffusers' class of the scheduler that takes the place of the editor's own; None keeps that."""
    few_steps: int | None = None
    """Denoising steps of an edit that is only looked at: one that a region predictor learns from, or that the method
    `fast` chooses by. None: `screening_steps`, or a full edit's."""
    needs_gpu: bool = True
    """Is it refused where there is no GPU, unless that is allowed? All but miniatures, which say so."""
    regions: Path | None = None
    """Weights of the region predictor (`predictor`), which need not be there; None where there are none."""

    @property
    def models(self) -> dict[str, tuple[str, ...]]:
        """The origins of all that an edit needs, by part: "editor", "backbone", "clip", and what else there is."""
        return {part: getattr(self, part) for part in PARTS if getattr(self, part)}

    @property
    def predicts(self) -> bool:
        """Is the region predictor's file there? Whether it is sound, and of these models, is seen when it is loaded."""
        return self.regions is not None and self.regions.is_file()

    @property
    def few(self) -> int:
        """`few_steps` as they hold."""
        return self.few_steps or self.screening_steps or self.steps

    def but(self, editor: str | None = None, backbone: str | None = None, clip: str | None = None,
            regions: str | Path | None = None) -> Profile:
        """A copy whose models come from these folders or hub ids alone, and whose region predictor from this file; None
        keeps the profile's own.
        """
        given = {"editor": editor, "backbone": backbone, "clip": clip}
        own = {part: origin for part, origin in given.items() if origin}
        parts = dict(self.parts)
        for part in own:
            # A stranger's size is not known; what an edit takes is, roughly, at the same size of picture.
            per_edit = self.parts.get("editor", Part()).gigabytes_per_edit if part == "editor" else None
            parts[part] = Part(gigabytes_per_edit=per_edit)
        return replace(self, **{part: (origin,) for part, origin in own.items()}, parts=parts,
                       vocabulary=None if editor and clip else self.vocabulary,
                       neutral_texts=DATA / "neutral_texts.txt" if clip else self.neutral_texts,
                       regions=Path(regions).absolute() if regions else self.regions)


NO_GPU = ("run it where there is a CUDA GPU, e.g. on Colab, or give allow_cpu=True in Python, set LR_ALLOW_CPU=1, or "
          "add --allow-cpu, which is very slow")
"""The fix for a profile that `needs_gpu`."""


def get_profile(name: str) -> Profile:
    """The profile of this name; raises UserError for an unknown one."""
    if name not in PROFILES:
        raise UserError(f"The profile {name!r} is unknown; choose one of {', '.join(PROFILES)}.")
    return PROFILES[name]


# Reading the file


def _read(file: Path) -> tuple[dict[str, Profile], dict[str, tuple[str, ...]], dict[str, Part]]:
    """The profiles of `models.toml` by name; the origins of the models that PIE-Bench's metrics need, by part; and what
    else is known of these.
    """
    if not file.exists():
        raise UserError(f"{file} is missing; run from a full clone, or set LR_DATA to its data folder.")
    try:
        return _parsed(tomllib.loads(file.read_text(encoding="utf-8")))
    except (ValueError, KeyError, TypeError, AttributeError) as error:  # ValueError: no TOML, or no UTF-8
        said = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise UserError(f"{file} can't be read ({said}); correct it there, or restore it.") from error


def _parsed(found: dict) -> tuple[dict[str, Profile], dict[str, tuple[str, ...]], dict[str, Part]]:
    comparison = found.get("comparison", {})
    profiles = {}
    for name, entry in found["profiles"].items():
        # Origins are fields of the profile; what else is said of a model is a Part.
        tables = {part: entry.pop(part) for part in PARTS if part in entry or part in NEEDED}
        origins = {part: _origins(table) for part, table in tables.items()}
        parts = {part: _part(table) for part, table in tables.items()}
        # Models of the comparison: those for all profiles, then the profile's own.
        extras = {}
        for part, table in (comparison.get("any", {}) | comparison.get(name, {})).items():
            extras[part] = Extra(_origins(table), tuple(table.get("borrows", ())), _part(table))
        words, neutral = entry.pop("vocabulary", None), entry.pop("neutral_texts", "neutral_texts.txt")
        regions = entry.pop("regions", f"regions/{name}.safetensors")
        profiles[name] = Profile(name=name, **entry, **origins, vocabulary=DATA / words if words else None,
                                 neutral_texts=DATA / neutral, regions=DATA / regions,
                                 parts=parts, comparison=extras)
    measures = {part: _origins(table) for part, table in found.get("measures", {}).items()}
    about = {part: _part(table) for part, table in found.get("measures", {}).items()}
    return profiles, {"structure": (), "clip": ()} | measures, about


def _origins(table: dict) -> tuple[str, ...]:
    # An origin whose first folder stands beside models.toml is a folder, be it missing; anything else is a hub id.
    return tuple(str(DATA / o) if (DATA / o.split("/")[0]).is_dir() else o for o in table["origins"])


def _part(table: dict) -> Part:
    known = {key: table[key] for key in ("licence", "gigabytes", "gigabytes_per_edit", "variant") if key in table}
    return Part(**known, gone={lost["origin"]: lost["since"] for lost in table.get("gone", ())})


PROFILES, MEASURES, ABOUT_MEASURES = _read(DATA / "models.toml")
