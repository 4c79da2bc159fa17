"""The one registry of ways to edit: other editors, text-prompted regions, region choosers, ours among them.

    baseline = load_baseline("sdedit", "tiny", models)
    edited = baseline(picture, "wolf", "a mushroom", seed=42)   # or baseline.run(Request(…))

Picture, source, prompt and seed in; picture, region and cost out. A study compares rows of this registry, or rows with
other settings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from types import MappingProxyType
from typing import Any

from lr_helpers.baselines.base import Baseline, Edited, Row
from lr_helpers.baselines.editors import DiffEdit, InstructPix2Pix, LEditsPlusPlus, SDEdit
from lr_helpers.baselines.learned import EditFree, Exhaustive, Learned, Predicted, RandomBoxes
from lr_helpers.baselines.parts import Parts
from lr_helpers.baselines.regions import (
    ClipSegRegion,
    GroundedRegion,
    KnownRegion,
    PatchSimilarity,
    Sam3Region,
    WholePicture,
)
from lr_helpers.baselines.request import Request
from lr_helpers.errors import UserError
from lr_helpers.method import METHODS
from lr_helpers.models.loading import Models
from lr_helpers.models.profiles import Profile, get_profile

__all__ = ["ABLATIONS", "ACROSS", "BASELINES", "TITLES", "Baseline", "Edited", "Parts", "Request", "Row", "known_row",
           "load_baseline", "rows_here", "settings_of"]

EDITOR, PROMPTED, CHOOSER = "editor", "text-prompted region", "region chooser"
INPAINTING = "the profile's inpainting pipeline"
PAPER = "arXiv 2311.16432"
CLIPSEG = {"library": "transformers.CLIPSegForImageSegmentation", "published": "arXiv 2112.10003",
           "needs": ("clipseg",)}
DETECTOR = "transformers.GroundingDinoForObjectDetection"
SAM3 = {"library": "transformers.Sam3Model", "published": "arXiv 2511.16719", "needs": ("sam3",)}
PATCHES = {"library": "open_clip.CLIP", "published": "arXiv 2112.01071"}
LEARNED = METHODS["learned"]

BASELINES: Mapping[str, Row] = MappingProxyType({row.name: row for row in (
    Row("whole_picture", "whole picture inpainted", EDITOR, WholePicture, INPAINTING, sentences=True),
    Row("sdedit", "SDEdit", EDITOR, SDEdit, "diffusers.StableDiffusionImg2ImgPipeline", "arXiv 2108.01073",
        ("text_to_image",), sentences=True),
    Row("diffedit", "DiffEdit", EDITOR, DiffEdit, "diffusers.StableDiffusionDiffEditPipeline", "arXiv 2210.11427",
        ("text_to_image",), sentences=True),
    Row("instruct_pix2pix", "InstructPix2Pix", EDITOR, InstructPix2Pix,
        "diffusers.StableDiffusionInstructPix2PixPipeline", "arXiv 2211.09800", ("instruct",)),
    Row("ledits_pp", "LEDITS++", EDITOR, LEditsPlusPlus, "diffusers.LEditsPPPipelineStableDiffusion",
        "arXiv 2311.16711", ("text_to_image",)),
    Row("clipseg", "CLIPSeg, its box", PROMPTED, ClipSegRegion, **CLIPSEG),
    Row("clipseg_mask", "CLIPSeg, its mask", PROMPTED, ClipSegRegion, **CLIPSEG, settings={"shape": "mask"}),
    Row("grounding_dino", "Grounding DINO, its boxes", PROMPTED, GroundedRegion, DETECTOR, "arXiv 2303.05499",
        ("grounding_dino",), settings={"segment": False, "shape": "mask"}),
    Row("grounded_sam", "Grounding DINO and SAM, their mask", PROMPTED, GroundedRegion,
        f"{DETECTOR}, transformers.SamModel", "arXiv 2303.05499, 2304.02643", ("grounding_dino", "sam"),
        settings={"shape": "mask"}),
    Row("sam3", "SAM 3, its box", PROMPTED, Sam3Region, **SAM3),
    Row("sam3_mask", "SAM 3, its mask", PROMPTED, Sam3Region, **SAM3, settings={"shape": "mask"}),
    Row("patch_similarity", "CLIP's patches, their box", PROMPTED, PatchSimilarity, **PATCHES),
    Row("patch_similarity_mask", "CLIP's patches, their mask", PROMPTED, PatchSimilarity, **PATCHES,
        settings={"shape": "mask"}),
    Row("random_anchors", "random anchors and sizes", CHOOSER, RandomBoxes, published=PAPER),
    Row("random_sizes", "DINO anchors, random sizes", CHOOSER, RandomBoxes, published=PAPER,
        settings={"anchors": "attended"}),
    Row("official_code", "official code", CHOOSER, Learned, published=PAPER, settings={"method": "official_code"}),
    Row("paper", "paper", CHOOSER, Learned, published=PAPER, settings={"method": "paper"}),
    Row("straight_through", "learned, straight-through", CHOOSER, Learned,
        settings={"method": LEARNED.but(estimator="straight_through")}),
    Row("reinforce", "learned, reinforce", CHOOSER, Learned,
        settings={"method": LEARNED.but(estimator="reinforce")}),
    Row("learned", "learned", CHOOSER, Learned),
    Row("predicted", "predicted", CHOOSER, Predicted, needs=("regions",)),
    Row("fast", "predicted, the best of 4", CHOOSER, Predicted, needs=("regions",), settings={"method": "fast"}),
    Row("exhaustive", "exhaustive, same shortlist", CHOOSER, Exhaustive),
    Row("edit_free", "edit-free terms alone", CHOOSER, EditFree),
    Row("known_region", "known region", CHOOSER, KnownRegion, INPAINTING),
)})
"""By name, in the order of tables. `known_region` wants the truth in the request: `Request(…, known=(x0, y0, x1, y1))`.
"""
TITLES: Mapping[str, str] = MappingProxyType({name: row.title for name, row in BASELINES.items()})
"""What tables and figures call each row."""
ABLATIONS = ("straight_through", "reinforce", "exhaustive")
"""`learned` with another way to learn. The regions study has them; what compares editors leaves them out."""

ACROSS = ("predicted", "fast")
"""Rows that ask the profile's region predictor. A study has them where there is one."""


def rows_here(rows: Sequence[str], profile: Profile) -> tuple[str, ...]:
    """These rows of a study, and after `learned` those of ACROSS if the profile has a region predictor."""
    if not profile.predicts:
        return tuple(rows)
    own = [row for row in rows if row not in ACROSS]
    place = own.index("learned") + 1 if "learned" in own else len(own)
    return (*own[:place], *ACROSS, *own[place:])


def known_row(name: str) -> Row:
    """The row of this name; raises UserError for an unknown one."""
    if name not in BASELINES:
        raise UserError(f"The method {name!r} is unknown; choose from {', '.join(BASELINES)}.")
    return BASELINES[name]


def settings_of(name: str) -> dict[str, tuple[Any, str]]:
    """The settings of a row: by name, its value and what it means. Raises UserError for an unknown row."""
    row = known_row(name)
    return {f.name: (row.settings.get(f.name, f.default), f.metadata.get("help", ""))
            for f in fields(row.make) if f.name not in ("row", "models", "parts")}


def load_baseline(name: str, profile: str | Profile, models: Models, *, parts: Parts | None = None,
                  **settings: Any) -> Baseline:
    """The row of this name with its models loaded; `settings` replace its own, and those that the profile has for it.

    `parts` holds what several rows need (`Parts(profile, models)`), so that each is loaded once; without it they
    are loaded for this one alone. Raises UserError, one sentence, for an unknown name or setting, a value out of
    range, and models that are missing, damaged or out of reach: then this row can't be run here.
    """
    row, profile = known_row(name), get_profile(profile) if isinstance(profile, str) else profile
    known = settings_of(name)
    if unknown := [setting for setting in settings if setting not in known]:
        raise UserError(f"The method {name!r} has no setting {unknown[0]!r}; choose from {', '.join(known)}.")
    parts = parts or Parts(profile, models)
    baseline = row.make(row, models, parts, **{**row.settings, **profile.rivals.get(name, {}), **settings})
    # Load now what the row needs, so that a row that can't be run is told before any work.
    for part in row.needs:
        getattr(parts, part)
    return baseline
