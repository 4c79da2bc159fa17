"""Other editors and other ways to choose a region, behind one interface: picture, caption, prompt and seed in, picture,
region and cost out.

    baseline = load_baseline("sdedit", "tiny", models)
    edited = baseline(image, "wolf", "a mushroom", seed=42)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from types import MappingProxyType
from typing import Any

from lr_helpers.baselines.base import Baseline, Edited, Row
from lr_helpers.baselines.choosers import Chosen, Learned
from lr_helpers.baselines.editors import DiffEdit, InstructPix2Pix, LEditsPlusPlus, SDEdit
from lr_helpers.baselines.parts import Parts
from lr_helpers.baselines.regions import ClipSegRegion, GroundedRegion, KnownRegion, PatchSimilarity, WholePicture
from lr_helpers.errors import UserError
from lr_helpers.models.loading import Models
from lr_helpers.models.profiles import Profile, get_profile

__all__ = ["BASELINES", "Baseline", "Edited", "Parts", "Row", "load_baseline", "settings_of"]

EDITOR, PROMPTED, CHOOSER = "editor", "text-prompted region", "region chooser"
INPAINTING = "the profile's inpainting pipeline"
PAPER = "arXiv 2311.16432"


def _row(name: str, title: str, family: str, make: type[Baseline], library: str, source: str, *needs: str,
         **settings: Any) -> Row:
    return Row(name, title, family, make, library, source, needs, MappingProxyType(settings))


BASELINES: Mapping[str, Row] = MappingProxyType({row.name: row for row in (
    _row("whole_picture", "whole picture inpainted", EDITOR, WholePicture, INPAINTING, ""),
    _row("sdedit", "SDEdit", EDITOR, SDEdit, "diffusers.StableDiffusionImg2ImgPipeline", "arXiv 2108.01073",
         "text_to_image"),
    _row("diffedit", "DiffEdit", EDITOR, DiffEdit, "diffusers.StableDiffusionDiffEditPipeline", "arXiv 2210.11427",
         "text_to_image"),
    _row("instruct_pix2pix", "InstructPix2Pix", EDITOR, InstructPix2Pix,
         "diffusers.StableDiffusionInstructPix2PixPipeline", "arXiv 2211.09800", "instruct"),
    _row("ledits_pp", "LEDITS++", EDITOR, LEditsPlusPlus, "diffusers.LEditsPPPipelineStableDiffusion",
         "arXiv 2311.16711", "text_to_image"),
    _row("clipseg", "CLIPSeg, its box", PROMPTED, ClipSegRegion, "transformers.CLIPSegForImageSegmentation",
         "arXiv 2112.10003", "clipseg"),
    _row("clipseg_mask", "CLIPSeg, its mask", PROMPTED, ClipSegRegion, "transformers.CLIPSegForImageSegmentation",
         "arXiv 2112.10003", "clipseg", shape="mask"),
    _row("grounding_dino", "Grounding DINO, its boxes", PROMPTED, GroundedRegion,
         "transformers.GroundingDinoForObjectDetection", "arXiv 2303.05499", "grounding_dino", segment=False,
         shape="mask"),
    _row("grounded_sam", "Grounding DINO and SAM, their mask", PROMPTED, GroundedRegion,
         "transformers.GroundingDinoForObjectDetection, transformers.SamModel", "arXiv 2303.05499, 2304.02643",
         "grounding_dino", "sam", shape="mask"),
    _row("patch_similarity", "CLIP's patches, their box", PROMPTED, PatchSimilarity, "open_clip.CLIP",
         "arXiv 2112.01071"),
    _row("patch_similarity_mask", "CLIP's patches, their mask", PROMPTED, PatchSimilarity, "open_clip.CLIP",
         "arXiv 2112.01071", shape="mask"),
    _row("random_anchors", "random anchors and sizes", CHOOSER, Chosen, "", PAPER, chooser="random_anchors"),
    _row("random_sizes", "DINO anchors, random sizes", CHOOSER, Chosen, "", PAPER, chooser="random_sizes"),
    _row("official_code", "official code", CHOOSER, Learned, "", PAPER, method="official_code"),
    _row("paper", "paper", CHOOSER, Learned, "", PAPER, method="paper"),
    _row("learned", "learned", CHOOSER, Learned, "", "", method="learned"),
    _row("edit_free", "occlusion alone, no edit", CHOOSER, Chosen, "", "", chooser="edit_free"),
    _row("known_region", "known region", CHOOSER, KnownRegion, INPAINTING, ""),
)})
"""By name. `known_region` wants the truth as a setting: `load_baseline("known_region", …, box=(x0, y0, x1, y1))`."""


def settings_of(name: str) -> dict[str, tuple[Any, str]]:
    """The settings of a baseline: by name, value in its row and what it means."""
    row = _known(name)
    return {f.name: (row.settings.get(f.name, f.default), f.metadata.get("help", ""))
            for f in fields(row.make) if f.name not in ("row", "models", "parts")}


def load_baseline(name: str, profile: str | Profile, models: Models, *, parts: Parts | None = None,
                  **settings: Any) -> Baseline:
    """The baseline of this name, with its models loaded; `settings` replace those of its row.

    `parts` holds what several baselines need (`Parts(profile, models)`), so that each is loaded once; without it they
    are loaded for this one alone. Raises UserError, one sentence, for an unknown name or setting, a value out of
    range, and models that are missing, damaged or out of reach: then this row can't be run here.
    """
    row, profile = _known(name), get_profile(profile) if isinstance(profile, str) else profile
    known = settings_of(name)
    if unknown := [setting for setting in settings if setting not in known]:
        raise UserError(f"The baseline {name!r} has no setting {unknown[0]!r}; choose from {', '.join(known)}.")
    parts = parts or Parts(profile, models)
    baseline = row.make(row, models, parts, **{**row.settings, **settings})
    for part in row.needs:
        getattr(parts, part)
    return baseline


def _known(name: str) -> Row:
    if name not in BASELINES:
        raise UserError(f"The baseline {name!r} is unknown; choose one of {', '.join(BASELINES)}.")
    return BASELINES[name]
