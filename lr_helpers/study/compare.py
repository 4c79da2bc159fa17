"""What `python -m lr_helpers study compare` compares: every baseline at several costs, on tasks whose truth is known.

Unlike the regions study, methods here may have no region. So the judge looks for the target in the whole picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from lr_helpers.baselines import BASELINES, Edited, Parts, load_baseline
from lr_helpers.boxes import iou
from lr_helpers.errors import UserError
from lr_helpers.intervals import rate
from lr_helpers.models.loading import Models
from lr_helpers.study import measures
from lr_helpers.study.pie.rows import SENTENCES
from lr_helpers.study.tasks import VALIDATION, Task, task
from tiny_world.judge import SURE, Judge, sees
from tiny_world.scenes import tensor
from tiny_world.words import caption

STEPS = (3, 6, 12, 25)
"""Denoising steps at which a baseline is tried: its cost."""
AT = 12
"""The steps that tables report: the profile's."""
MANY = ("random_anchors", "random_sizes", "official_code", "paper")
"""These edit many boxes and would take most of the study's time: tried at AT alone, and on replacements alone (the
regions study has them on additions too)."""


@dataclass(frozen=True)
class Variant:
    """A baseline at one cost."""

    baseline: str
    steps: int

    @property
    def name(self) -> str:
        """E.g. "sdedit at 12"."""
        return f"{self.baseline} at {self.steps}"

    @property
    def file(self) -> str:
        """Its name in a path."""
        return f"{self.baseline}_at_{self.steps}"


def variants(baselines: Sequence[str] | None = None, steps: Sequence[int] = STEPS) -> list[Variant]:
    """Every baseline (default: all) at those of these steps at which it is tried: those in MANY at AT alone, `learned`
    at no more, LEDITS++ at 6 or more (it leaves out a fifth). Raises UserError for an unknown baseline.
    """
    found = []
    for name in baselines or BASELINES:
        if name not in BASELINES:
            raise UserError(f"The method {name!r} is unknown; choose from {', '.join(BASELINES)}.")
        low = AT if name in MANY else 6 if name == "ledits_pp" else 1
        high = AT if name in (*MANY, "learned") else max(steps)
        found += [Variant(name, count) for count in steps if low <= count <= high]
    return found


def asked(one: Task, baseline: str) -> tuple[str, str]:
    """Caption and prompt for a baseline: who paints the whole picture gets both whole sentences, the others what is to
    go and what is to come (as in the PIE study).
    """
    if baseline not in SENTENCES:
        return one.source, one.prompt
    there, place = [o.name for o in one.recipe.objects], one.recipe.place
    wanted = [one.target if name == one.source else name for name in there] if one.replaced else [*there, one.target]
    return caption(there, place), caption(wanted, place)


def edit(one: Task, variant: Variant, models: Models, parts: Parts, seed: int = 42) -> Edited:
    """One task by one variant. Raises UserError where its models are out of reach."""
    known = {"box": one.truth} if variant.baseline == "known_region" else {}
    return load_baseline(variant.baseline, models.profile, models, parts=parts, steps=variant.steps, **known)(
        one.picture, *asked(one, variant.baseline), seed)


# Measures that do not need a region

def calibrate(count: int, judge_model: Judge) -> dict[str, dict]:
    """How often `sees` is right on `count` validation scenes, before and after an object takes another's place."""
    absent = present = 0
    for seed in range(VALIDATION, VALIDATION + count):
        one = task("replace", seed)
        index = next(i for i, o in enumerate(one.recipe.objects) if o.name == one.source)
        absent += sees(one.picture, one.target, judge_model) >= SURE
        present += sees(tensor(one.recipe.replaced(index, one.target)), one.target, judge_model) >= SURE
    return {"seen though not there": rate(absent, count), "seen where it is": rate(present, count)}


def measure(one: Task, picture: torch.Tensor, region: torch.Tensor | None, models: Models,
            judge_model: Judge) -> dict[str, float]:
    """The task by the judge, the background outside the known region, CLIP's similarity with the prompt, and the IoU of
    the region's box with the known one. "success": target seen anywhere, source gone, all others still in their places.
    """
    looks = [*([one.replaced[1]] if one.replaced else []), *(box for _, box in one.others)]
    said = judge_model.name(picture.expand(len(looks), -1, -1, -1), looks) if looks else []
    parts = {"target_seen": sees(picture, one.target, judge_model) >= SURE}
    if one.replaced:
        parts["source_gone"] = said.pop(0) != one.replaced[0]
    if one.others:
        parts["others_kept"] = said == [name for name, _ in one.others]
    found = {**{k: float(v) for k, v in parts.items()}, "success": float(all(parts.values())),
             **measures.background(one, picture, models)}
    with torch.no_grad():
        found["clip"] = float(models.clip.encode_image(picture[None])[0][0] @ models.clip.encode_text([one.prompt])[0])
    if region is not None and one.truth is not None:
        rows, columns = region.any(1).nonzero()[:, 0], region.any(0).nonzero()[:, 0]
        box = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1] if len(rows) else [0, 0, 0, 0]
        found["iou"] = float(iou(torch.tensor(box).float(), torch.tensor(one.truth).float()))
        found["hit"] = float(found["iou"] >= 0.5)
    return found
