"""Why did an edit fail? One cause for each, by the first stage that went wrong; counted over a stored study.

`python -m lr_helpers study causes` counts them for the rows of data/studies/regions.csv. Nothing is edited for it: the
boxes and verdicts are stored, and what was proposed is found again in a second a task.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from lr_helpers.anchors import anchor_centres
from lr_helpers.baselines import TITLES
from lr_helpers.boxes import Box, covered, iou
from lr_helpers.candidates import shortlist
from lr_helpers.editing import propose
from lr_helpers.errors import UserError
from lr_helpers.files.outputs import own_json
from lr_helpers.files.paths import DATA
from lr_helpers.files.writing import write_json
from lr_helpers.method import METHODS, Method
from lr_helpers.models.loading import Models, load_models
from lr_helpers.study.tasks import Task, task

FITS = 0.5
"""IoU with the known region from which on a box is right."""

CAUSES = {
    "anchors": "no proposal fits, and no anchor lies on the object",
    "sizes": "an anchor lies on the object, but no proposal fits it",
    "shortlist": "a proposal fits, but the shortlist left it out",
    "other object": "a shortlisted proposal fits, but one on another object was chosen",
    "too large": "a shortlisted proposal fits, but one was chosen that takes in much background",
    "beside": "a shortlisted proposal fits, but one was chosen that misses half of the object or more",
    "editor": "the region is right, but the target is not seen in it",
    "leftover": "region and target are right, but the old object is still recognised",
    "neighbour": "region, target and source are right, but another object is not recognised any more",
}
"""What each cause means, in the order in which they are asked. A proposal fits if its IoU is at least 0.5."""


@dataclass(frozen=True)
class Proposed:
    """What a method could choose from, the boxes that its shortlist left out included."""

    centres: torch.Tensor
    """(K, 2) the anchors as (x, y) in pixels, where boxes were drawn around them."""
    boxes: torch.Tensor
    """(K, M, 4) in pixels."""
    kept: torch.Tensor
    """(K, M) boolean: the shortlist."""


def region_cause(truth: Box, others: Sequence[Box], chosen: Box, proposed: Proposed) -> str | None:
    """Which stage lost the region: one of the first six of CAUSES, or None if the chosen box is right.

    `truth`: the known region; `others`: the boxes of the other objects; all (x0, y0, x1, y1) in pixels.
    """
    right, box = (torch.tensor(b) for b in (truth, chosen))
    if float(iou(box, right)) >= FITS:
        return None
    # Could it have been chosen? First by all proposals, then by the shortlist.
    fits = iou(proposed.boxes, right) >= FITS
    if not fits.any():
        # None fits: was no anchor on the object, or no size right?
        x, y = proposed.centres.unbind(1)
        on_it = (truth[0] <= x) & (x < truth[2]) & (truth[1] <= y) & (y < truth[3])
        return "sizes" if on_it.any() else "anchors"
    if not (fits & proposed.kept).any():
        return "shortlist"
    # One that fits was offered, and another one chosen. What does that cover instead?
    share = covered(box, right)
    if any(covered(box, other) > share for other in others):
        return "other object"
    return "too large" if share > 0.5 else "beside"


def cause(truth: Box, others: Sequence[Box], chosen: Box, proposed: Proposed, verdicts: dict[str, float]) -> str | None:
    """Why the task failed: one of CAUSES, or None if it did not.

    `verdicts` as `lr_helpers.study.measures.success` gives them. The first stage that went wrong is named, though a
    later one might have failed as well: an editor is not blamed for a region that was wrong.
    """
    if verdicts["success"]:
        return None
    if lost := region_cause(truth, others, chosen, proposed):
        return lost
    # The region is right, so the edit inside it is asked, in the order of the task.
    for part, name in (("target_seen", "editor"), ("source_gone", "leftover"), ("others_kept", "neighbour")):
        if not verdicts.get(part, 1.0):
            return name
    raise ValueError(f"The verdicts {verdicts} say that the task failed, but no part of it did.")


def proposed(models: Models, one: Task, method: Method) -> Proposed:
    """What the method proposes for a task; nothing is edited."""
    # Without a shortlist, so that what it left out is known too.
    whole = propose(models, one.picture, one.source, method.but(shortlist=0))
    # The official code draws its boxes around the transposed anchors.
    drawn = whole.anchors.flip(1) if "transposed_anchors" in method.defects else whole.anchors
    centres = anchor_centres(drawn, tuple(whole.attention.shape[1:]), one.picture.shape[-1])
    kept = shortlist(whole.edit_free, whole.boxes, method.shortlist, method.nms_iou, method.places)
    return Proposed(centres, whole.boxes, kept)


LEARNED = METHODS["learned"]
METHOD_OF = {"official_code": METHODS["official_code"], "paper": METHODS["paper"], "straight_through": LEARNED,
             "reinforce": LEARNED, "learned": LEARNED, "exhaustive": LEARNED, "edit_free": LEARNED.but(shortlist=1),
             "predicted": LEARNED.but(shortlist=0)}
"""Whose proposals a row of the study chose from; `predicted` from all of them. The others draw boxes at random, or know
the region."""
SHOWN = ("official_code", "paper", "learned", "predicted")


def read_rows(file: Path = DATA / "studies" / "regions.csv") -> list[dict[str, str]]:
    """The lines of a study's table, one for each task and row."""
    with file.open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def replacements(lines: Iterable[dict[str, str]], row: str) -> list[dict[str, str]]:
    """The row's "replace" tasks."""
    return [line for line in lines if line["row"] == row and line["task"].startswith("replace_")]


def failures(lines: Iterable[dict[str, str]], row: str, models: Models) -> list[dict]:
    """The row's "replace" tasks that failed, or whose region was missed although the task was done.

    Each with its "task" (name), "box", "iou", "cause" (None where the task was done) and "region_cause" (None where
    the region is right). Raises UserError for a row that has no proposals.
    """
    if row not in METHOD_OF:
        raise UserError(f"The row {row!r} has no proposals; choose one of {', '.join(METHOD_OF)}.")
    found = []
    for line in replacements(lines, row):
        # The task may be done though the region was missed, and the other way round.
        if float(line["success"]) and float(line["hit"]):
            continue
        kind, seed = line["task"].split("_")
        one, box = task(kind, int(seed)), tuple(int(line[k]) for k in ("x0", "y0", "x1", "y1"))
        # An empty cell: there was no other object to keep.
        verdicts = {k: float(line[k]) for k in ("success", "target_seen", "source_gone", "others_kept") if line[k]}
        among = proposed(models, one, METHOD_OF[row])
        found.append({"task": line["task"], "box": box, "iou": float(line["iou"]),
                      "cause": cause(one.truth, one.known_others, box, among, verdicts),
                      "region_cause": region_cause(one.truth, one.known_others, box, among)})
    return found


def counted(found: Sequence[dict], key: str = "cause") -> dict[str, int]:
    """How often each cause was named, in the order of CAUSES, zeros included; `key` "cause" or "region_cause"."""
    return {name: sum(f[key] == name for f in found) for name in CAUSES}


def summarise(lines: Sequence[dict[str, str]], row: str, models: Models) -> dict:
    """The row's "replace" tasks counted: "tasks", "failed", "missed" (regions), and by each cause, how many failed
    ("lost") and how many regions were missed ("lost_region"); "failures" lists them as `failures` does.
    """
    found = failures(lines, row, models)
    lost, missed = counted(found), counted(found, "region_cause")
    return {"tasks": len(replacements(lines, row)), "failed": sum(lost.values()), "missed": sum(missed.values()),
            "lost": lost, "lost_region": missed, "failures": found}


def run(output: Path | None = None) -> dict:
    """Print, and store if asked to, how often each cause lost a task, and a region, of the rows in SHOWN.

    Raises ForeignError if the file holds something else.
    """
    if output:
        own_json(output, SHOWN)
    lines, models = read_rows(), load_models("tiny", "cpu")
    found = {row: summarise(lines, row, models) for row in SHOWN}
    for row, one in found.items():
        print(f"\n{TITLES[row]}: of {one['tasks']} tasks {one['failed']} failed; {one['missed']} regions missed")
        for name, text in CAUSES.items():
            print(f"  {name:13} {one['lost'][name]:4} {one['lost_region'][name]:4}   {text}")
    if output:
        write_json(output, found)
    return found
