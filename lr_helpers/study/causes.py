"""Why did an edit fail? One cause for each, by the first stage that went wrong; counted over a stored study.

`python -m lr_helpers.study.causes --output data/studies/causes.json` counts them for the rows of
data/studies/regions.csv. Nothing is edited for it: the boxes and verdicts are stored, and what was proposed is found
again in a second a task.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from lr_helpers.anchors import anchor_centres
from lr_helpers.boxes import Box, area, intersection, iou
from lr_helpers.candidates import shortlist
from lr_helpers.editing import propose
from lr_helpers.errors import UserError
from lr_helpers.files.paths import DATA
from lr_helpers.files.writing import write_json
from lr_helpers.method import METHODS, Method
from lr_helpers.models.loading import Models, load_models
from lr_helpers.study.choosers import TITLES
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
    fits = iou(proposed.boxes, right) >= FITS
    if not fits.any():
        x, y = proposed.centres.unbind(1)
        on_it = (truth[0] <= x) & (x < truth[2]) & (truth[1] <= y) & (y < truth[3])
        return "sizes" if on_it.any() else "anchors"
    if not (fits & proposed.kept).any():
        return "shortlist"
    covered = _covered(right, box)
    if any(_covered(torch.tensor(other), box) > covered for other in others):
        return "other object"
    return "too large" if covered > 0.5 else "beside"


def cause(truth: Box, others: Sequence[Box], chosen: Box, proposed: Proposed, verdicts: dict[str, float]) -> str | None:
    """Why the task failed: one of CAUSES, or None if it did not.

    `verdicts` as `lr_helpers.study.measures.success` gives them. The first stage that went wrong is named, though a
    later one might have failed as well: an editor is not blamed for a region that was wrong.
    """
    if verdicts["success"]:
        return None
    if lost := region_cause(truth, others, chosen, proposed):
        return lost
    for part, name in (("target_seen", "editor"), ("source_gone", "leftover"), ("others_kept", "neighbour")):
        if not verdicts.get(part, 1.0):
            return name
    raise ValueError(f"The verdicts {verdicts} say that the task failed, but no part of it did.")


def _covered(inner: torch.Tensor, box: torch.Tensor) -> float:
    """The share of `inner` that lies in `box`."""
    return float(intersection(inner, box) / area(inner))


def proposed(models: Models, one: Task, method: Method) -> Proposed:
    """What the method proposes for a task; nothing is edited."""
    whole = propose(models, one.picture, one.source, method.but(shortlist=0))
    drawn = whole.anchors.flip(1) if "transposed_anchors" in method.defects else whole.anchors
    centres = anchor_centres(drawn, tuple(whole.attention.shape[1:]), one.picture.shape[-1])
    return Proposed(centres, whole.boxes, shortlist(whole.edit_free, whole.boxes, method.shortlist))


LEARNED = METHODS["learned"]
METHOD_OF = {"official_code": METHODS["official_code"], "paper": METHODS["paper"], "straight_through": LEARNED,
             "reinforce": LEARNED, "expectation": LEARNED, "exhaustive": LEARNED, "edit_free": LEARNED.but(shortlist=1)}
"""Whose proposals a chooser of the study chose from. The others draw boxes by lot, or know the region."""
SHOWN = ("official_code", "paper", "expectation")


def read_rows(file: Path = DATA / "studies" / "regions.csv") -> list[dict[str, str]]:
    """The rows of a study, one for each task and chooser."""
    with file.open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def failures(rows: Iterable[dict[str, str]], chooser: str, models: Models) -> list[dict]:
    """The chooser's "replace" tasks that failed, or whose region was missed although the task was done.

    Each with its "task" (name), "box", "iou", "cause" (None where the task was done) and "region_cause" (None where
    the region is right). Raises UserError for a chooser that has no proposals.
    """
    if chooser not in METHOD_OF:
        raise UserError(f"The chooser {chooser!r} has no proposals; choose one of {', '.join(METHOD_OF)}.")
    found = []
    for row in rows:
        if row["chooser"] != chooser or not row["iou"] or (float(row["success"]) and float(row["hit"])):
            continue
        kind, seed = row["task"].split("_")
        one, box = task(kind, int(seed)), tuple(int(row[k]) for k in ("x0", "y0", "x1", "y1"))
        others = [o.box for o in one.recipe.objects if o.box != one.truth]
        verdicts = {k: float(row[k]) for k in ("success", "target_seen", "source_gone", "others_kept") if row[k]}
        among = proposed(models, one, METHOD_OF[chooser])
        found.append({"task": row["task"], "box": box, "iou": float(row["iou"]),
                      "cause": cause(one.truth, others, box, among, verdicts),
                      "region_cause": region_cause(one.truth, others, box, among)})
    return found


def counted(found: Sequence[dict], key: str = "cause") -> dict[str, int]:
    """How often each cause was named, in the order of CAUSES, zeros included; `key` "cause" or "region_cause"."""
    return {name: sum(f[key] == name for f in found) for name in CAUSES}


def summarise(rows: Sequence[dict[str, str]], chooser: str, models: Models) -> dict:
    """The chooser's "replace" tasks counted: "tasks", "failed", "missed" (regions), and by each cause, how many failed
    ("lost") and how many regions were missed ("lost_region"); "failures" lists them as `failures` does.
    """
    found = failures(rows, chooser, models)
    lost, missed = counted(found), counted(found, "region_cause")
    return {"tasks": sum(row["chooser"] == chooser and bool(row["iou"]) for row in rows),
            "failed": sum(lost.values()), "missed": sum(missed.values()), "lost": lost, "lost_region": missed,
            "failures": found}


def main(arguments: Sequence[str] | None = None) -> None:
    """Print, and store if asked to, how often each cause lost a task, and a region."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, metavar="FILE", help="also write the counts to this JSON file")
    options = parser.parse_args(arguments)
    rows, models = read_rows(), load_models("tiny", "cpu")
    found = {chooser: summarise(rows, chooser, models) for chooser in SHOWN}
    for chooser, one in found.items():
        print(f"\n{TITLES[chooser]}: of {one['tasks']} tasks {one['failed']} failed; {one['missed']} regions missed")
        for name, text in CAUSES.items():
            print(f"  {name:13} {one['lost'][name]:4} {one['lost_region'][name]:4}   {text}")
    if options.output:
        write_json(options.output, found)


if __name__ == "__main__":
    main()
