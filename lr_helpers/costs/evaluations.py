"""Denoiser evaluations of what is about to run, and how long they take: known before anything is loaded."""

from __future__ import annotations

import json
from dataclasses import dataclass

from lr_helpers.files.paths import DATA
from lr_helpers.inpainting import count_evaluations
from lr_helpers.method import METHODS, Method
from lr_helpers.models.profiles import Profile


@dataclass(frozen=True)
class Part:
    """What one part of a notebook or a command costs."""

    what: str
    evaluations: int
    at_most: bool = False
    """Is it a bound? Boxes that are clamped to the same are edited once, and what is drawn by chance may come twice."""


def full_edits(profile: Profile, count: int = 1, steps: int | None = None, guidance: float | None = None) -> int:
    """Evaluations of so many full edits; steps and guidance are the profile's unless given."""
    return count_evaluations(count, steps or profile.steps, profile.guidance if guidance is None else guidance)


def screened_edits(profile: Profile, count: int, method: Method | None = None) -> int:
    """Evaluations of so many candidates, none of which is finished."""
    screening, _ = (method or Method()).planned_steps(profile.steps, profile.screening_steps)
    return full_edits(profile, count, screening, method and method.guidance)


def candidates_of(method: Method) -> tuple[int, bool]:
    """How many different boxes a search edits, and whether that is a bound (see `Part.at_most`)."""
    table = method.anchors * len(method.sizes)
    if method.predicts:  # one where it is confident
        return min(table, method.shortlist), method.shortlist > 1
    kept = min(table, method.shortlist or table)
    if method.estimator == "expectation":  # it asks for all that is kept; a shortlist holds no box twice
        return kept, not method.shortlist
    drawn = method.iterations * (method.samples if method.estimator == "reinforce" else 1)
    return min(kept, method.anchors * (drawn + 1)), True  # and each anchor's best in the end


def search(profile: Profile, method: Method | str = "learned", what: str = "") -> Part:
    """One edit of a picture by a method, a search or a prediction: its candidates, and the full edit of the winner."""
    name, method = (method, METHODS[method]) if isinstance(method, str) else ("", method)
    count, at_most = candidates_of(method)
    if method.predicts:
        screening, full = method.predicted_steps(count, profile.steps, profile.few)
        method = method.but(screening_steps=screening)
    else:
        screening, full = method.planned_steps(profile.steps, profile.screening_steps)
    evaluations = full_edits(profile, count, screening, method.guidance)
    if screening != full or method.judges_drafts(profile.steps, profile.screening_steps, bool(profile.decoder)):
        evaluations += full_edits(profile, 1, full, method.guidance)
    return Part(what or f"an edit by {name or 'a method'}", evaluations, at_most)


def row(profile: Profile, name: str, steps: int | None = None) -> Part:
    """One edit by a row of the comparison; raises KeyError for one that is not counted here."""
    own = steps or profile.steps
    # DiffEdit and SDEdit make a part of their steps.
    chosen = [profile.rivals.get(editor, {}).get("strength", 0.8) for editor in ("diffedit", "sdedit")]
    strong, noisy = (int(strength * own) for strength in chosen)
    if name in ("learned", "fast", "predicted"):
        part = search(profile, METHODS[name].but(steps=steps))
        return Part(name, part.evaluations, part.at_most)
    known = {
        "known_region": (full_edits(profile, 1, steps), False),
        "patch_similarity": (full_edits(profile, 1, steps), True),  # nothing where nothing is found
        "instruct_pix2pix": (3 * own, False),  # text and picture, picture, nothing
        "diffedit": (4 * 10 + strong + 2 * strong, True),  # mask, inversion, edit; no more where the mask is empty
        "ledits_pp": (4 * (steps or 50), False),  # inversion; then source, prompt and nothing
        "sdedit": (2 * (noisy + 1), True),  # one more by schedulers that make a step twice
    }
    return Part(name, *known[name])


# How long?

T4 = "Tesla T4"
"""Colab's free GPU."""


@dataclass(frozen=True)
class Speed:
    """Seconds of one evaluation on a device."""

    seconds: float
    device: str
    assumed: bool

    def said(self, evaluations: int) -> str:
        """How long so many take: "about 5 minutes on a Tesla T4 (assumed: 0.12 s each)"."""
        how = "assumed" if self.assumed else "measured"
        return f"about {duration(self.seconds * evaluations)} on {self.device} ({how}: {self.seconds:.2g} s each)"


def duration(seconds: float) -> str:
    """"40 seconds", "5 minutes", "3.2 hours"."""
    if seconds < 90:
        return f"{max(round(seconds), 1)} second{'s' if round(seconds) > 1 else ''}"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"


def speed(profile: Profile, device: str | None) -> Speed | None:
    """What is known of an evaluation's seconds on a GPU of this name, None: on the CPU; None where nothing is.

    Measured rows come from data/benchmarks.json and data/costs.json. On a T4 none was measured: the seconds of one
    profile are assumed there, and those of the others follow from the multiplications that an evaluation takes.
    """
    costs = json.loads((DATA / "costs.json").read_text(encoding="utf-8"))
    if device is None and not profile.needs_gpu:
        edit = costs["edit"]
        seconds = edit["seconds of one learned edit, warm"] / edit["denoiser evaluations of one learned edit"]
        return Speed(seconds, "two quiet CPU cores, learning included", False)
    rows = json.loads((DATA / "benchmarks.json").read_text(encoding="utf-8"))
    for found in rows:
        here = found["profile"] == profile.name and found["device"].startswith(device or "CPU")
        if here and found["usual"]:  # in the precision that edits take on this device
            return Speed(found["seconds_per_evaluation"], found["device"], False)
    work, known = costs["evaluation"]["teraflop"], costs["evaluation"]["assumed"]
    if device == known["device"] and profile.name in work:
        seconds = known["seconds"] * work[profile.name] / work[known["profile"]]
        return Speed(round(seconds, 3), f"a {device}", True)
    return None
