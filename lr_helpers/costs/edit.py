"""What one learned edit costs here: seconds, denoiser evaluations, peak memory."""

from __future__ import annotations

import resource
import sys
import time
from typing import Any

import torch
from PIL import Image

from lr_helpers.editing import edit
from lr_helpers.method import get_method
from lr_helpers.models.loading import load_models
from lr_helpers.models.profiles import Profile
from tiny_world.scenes import scene


def run(profile: Profile, repeats: int, allow_cpu: bool | None = None) -> dict[str, float]:
    """Load the models, edit once to warm up, then `repeats` times at the default setting; print and return figures."""
    begun = time.perf_counter()
    models = load_models(profile, allow_cpu=allow_cpu)
    loaded = time.perf_counter() - begun
    recipe, method = scene(12, count=1), get_method("learned")
    picture, source = Image.fromarray(recipe.render()), recipe.objects[0].name
    edit(models, picture, source, "a rabbit", method.but(steps=1), progress=False)
    seconds, result = [], None
    for seed in range(repeats):
        result = edit(models, picture, source, "a rabbit", method, seed=seed, progress=False)
        seconds.append(result.cost["seconds"]["total"])
    evaluations = result.cost["denoiser_evaluations"]
    median = sorted(seconds)[len(seconds) // 2]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 2**30
    figures = {"threads": torch.get_num_threads(), "seconds to load": round(loaded, 2),
               "boxes that the network chooses among": result.loss.numel(),
               "different edits": result.cost["different_edits"],
               "denoiser evaluations of one learned edit": evaluations,
               "denoiser evaluations of the official code": 99 * 50 * 2,
               "seconds of one learned edit, warm": round(median, 2),
               "of them learning": result.cost["seconds"]["learning"],
               "slowest of the repeats": round(max(seconds), 2), "peak memory GiB": round(peak, 2)}
    show(figures)
    return figures


def show(figures: dict[str, Any]) -> None:
    """Print figures by name, one a line."""
    for name, value in figures.items():
        print(f"{name:42} {value:>10,}" if isinstance(value, (int, float)) else f"{name:42} {value}")
