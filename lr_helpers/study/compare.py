"""`python -m lr_helpers study compare`: what each way to edit is worth, and what it costs.

Every row of the registry at several numbers of denoising steps, on tasks whose truth is known. Unlike the regions
study, a row here may have no region. So the judge looks for the target in the whole picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from lr_helpers import plots
from lr_helpers.baselines import ABLATIONS, ACROSS, BASELINES, TITLES, Edited, Parts, Request, known_row, rows_here
from lr_helpers.baselines.base import smallest_box
from lr_helpers.errors import UserError
from lr_helpers.files.writing import csv_bytes
from lr_helpers.intervals import rate
from lr_helpers.method import METHODS
from lr_helpers.models.loading import Models, load_models
from lr_helpers.models.profiles import Profile, get_profile
from lr_helpers.models.region_weights import which
from lr_helpers.study import measures, tables
from lr_helpers.study.regions import kinds_and_seeds
from lr_helpers.study.run import Done, Study, read
from lr_helpers.study.tasks import VALIDATION, Task, task
from lr_helpers.study.variants import Variant
from tiny_world.judge import SURE, Judge, load, sees
from tiny_world.scenes import tensor
from tiny_world.words import caption

ROWS = tuple(row for row in BASELINES if row not in (*ABLATIONS, *ACROSS))
STEPS = (3, 6, 12, 25)
"""Denoising steps at which a row is tried: its cost."""
AT = 12
"""The steps that tables report: the profile's."""
MANY = ("random_anchors", "random_sizes", "official_code", "paper", *ABLATIONS)
"""These edit many boxes and would take most of the study's time: tried at AT alone, and on replacements alone (the
regions study has them on additions too)."""
MEASURES = ("success", "target_seen", "source_gone", "others_kept", "psnr", "ssim", "vit_distance", "clip", "iou",
            "hit", "evaluations", "seconds")
PRINTED = ("success", "psnr", "clip", "iou", "evaluations", "seconds")


# Who edits, and what is asked of whom


def at(row: str, steps: int) -> Variant:
    """A row at so many denoising steps, e.g. "sdedit at 12"."""
    return Variant(f"{row} at {steps}", row, {"steps": steps})


def variants(rows: Sequence[str] | None = None, steps: Sequence[int] = STEPS) -> list[Variant]:
    """Each row (default: ROWS, and those of ACROSS if `tiny` has a region predictor) at those of these steps at which
    it is tried: those in MANY at AT alone, `learned` and `fast` at no more, LEDITS++ at 6 or more (it leaves out a
    fifth). Raises UserError for an unknown row.
    """
    # The cost of a row is its number of denoising steps.
    found = []
    for row in rows or rows_here(ROWS, get_profile("tiny")):
        known_row(row)
        low, high = 1, max(steps)
        if row in MANY:
            low = high = AT
        elif row in ("learned", "fast"):
            high = AT
        elif row == "ledits_pp":
            low = 6
        found += [at(row, count) for count in steps if low <= count <= high]
    return found


def asked(one: Task, row: str) -> tuple[str, str]:
    """Source and prompt for a row: whole sentences of the scene for who wants these, else what is to go and what is to
    come.
    """
    if not BASELINES[row].sentences:
        return one.source, one.prompt
    there, place = [o.name for o in one.recipe.objects], one.recipe.place
    wanted = [one.target if name == one.source else name for name in there]
    if not one.replaced:  # the source is the place, and the target comes to what is there
        wanted.append(one.target)
    return caption(there, place), caption(wanted, place)


def edit(one: Task, variant: Variant, models: Models, parts: Parts, seed: int = 42) -> Edited:
    """One task by one variant. Raises UserError where its models are out of reach."""
    request = Request(one.picture, *asked(one, variant.row), seed, known=one.truth)
    return variant.load(models, parts).run(request)


# Measures that do not need a region


def calibrate(count: int, judge_model: Judge) -> dict[str, dict]:
    """How often `sees` is right on `count` validation scenes, before and after an object takes another's place."""
    absent = present = 0
    for seed in range(VALIDATION, VALIDATION + count):
        one = task("replace", seed)
        # The same scene with the target in the old object's place: a perfect edit.
        index = next(i for i, o in enumerate(one.recipe.objects) if o.name == one.source)
        absent += sees(one.picture, one.target, judge_model) >= SURE
        present += sees(tensor(one.recipe.replaced(index, one.target)), one.target, judge_model) >= SURE
    return {"seen though not there": rate(absent, count), "seen where it is": rate(present, count)}


def measure(one: Task, picture: torch.Tensor, region: torch.Tensor | None, models: Models,
            judge_model: Judge) -> dict[str, float]:
    """The task by the judge, the background outside the known region, CLIP's similarity with the prompt, and the IoU of
    the region's box with the known one. "success": target seen anywhere, source gone, all others still in their places.
    """
    found = {**measures.success(one, None, picture, judge_model), **measures.background(one, picture, models)}
    # CLIP judges the edits of region choosers too, which favours them here.
    with torch.no_grad():
        found["clip"] = float(models.clip.encode_image(picture[None])[0][0] @ models.clip.encode_text([one.prompt])[0])
    if region is not None:
        # A mask is compared by its box, as the known region is one.
        found |= measures.region(one, smallest_box(region) or (0, 0, 0, 0))
    return found


# The study


@dataclass
class Compare(Study):
    """So many tasks of each kind, each by every variant of these rows (None: ROWS)."""

    folder: Path
    replace: int = 100
    add: int = 50
    rows: Sequence[str] | None = None
    validation: bool = False
    """On the scenes on which settings are chosen, instead of those that are reported."""
    regions: str | Path | None = None
    """The region predictor's file, where it is not the profile's."""
    onto: Path | None = None
    """A summary of an earlier run on the same scenes: it is kept but for the rows of this run."""

    unit = "edits"

    def __post_init__(self):
        """Raises UserError if there is no summary to go `onto`, or one of other scenes: before anything is edited."""
        self.earlier = None
        if self.onto is not None:
            self.earlier = read(self.onto)
            said = self.earlier or {}
            if "means" not in said or any(said.get(name) != value for name, value in self.scenes.items()):
                raise UserError("The summary of --onto is not there, or of another study, or of other scenes; give one "
                                "of the same command.")

    @property
    def scenes(self) -> dict:
        """What a summary says of the scenes that it is of."""
        return {"study": "compare", "steps": AT, "scenes": "validation" if self.validation else "test",
                "tasks": {"replace": self.replace, "add": self.add}}

    @property
    def profile(self) -> Profile:
        return get_profile("tiny").but(regions=self.regions)

    def settings(self, about: dict) -> dict:
        return {"study": "compare", "validation": self.validation, "regions": which(self.profile.regions),
                "rivals": self.profile.rivals, "methods": {name: asdict(method) for name, method in METHODS.items()}}

    def jobs(self) -> list[tuple[str, int, Variant]]:
        found = []
        for variant in variants(self.rows or rows_here(ROWS, self.profile)):
            for kind, seed in kinds_and_seeds(self.replace, self.add, self.validation):
                # No place to add at is known.
                if kind == "replace" or variant.row not in (*MANY, "known_region"):
                    found.append((kind, seed, variant))
        return found

    def file(self, job: tuple[str, int, Variant]) -> str:
        # One folder a variant.
        kind, seed, variant = job
        return f"{variant.name.replace(' ', '_')}/{kind}_{seed}"

    def row(self, job: tuple[str, int, Variant]) -> str:
        return job[2].row

    def load(self) -> None:
        self.models, self.judge = load_models(self.profile, device="cpu"), load()
        self.parts = Parts(self.models.profile, self.models)

    def do(self, job: tuple[str, int, Variant]) -> dict:
        kind, seed, variant = job
        one = task(kind, seed)
        made = edit(one, variant, self.models, self.parts)
        found = {**measure(one, made.picture, made.region, self.models, self.judge), "seconds": made.seconds}
        return {"task": one.name, "row": variant.name, "objects": len(one.recipe.objects),
                **{k: round(v, 5) for k, v in found.items()}, "evaluations": made.evaluations}

    def summarise(self, done: Done) -> dict:
        found = {**self.scenes, "not_run": done.not_run, **summarise(done.records),
                 "worst": {"learned": worst(done.records, "learned")}}
        return found if self.earlier is None else onto(self.earlier, found)

    def show(self, summary: dict, done: Done) -> None:
        self.output.write("edits.csv", csv_bytes(("task", "objects", "row", *MEASURES), done.records))
        # Additions have no known region, so no background to plot.
        if "replace" in summary["means"]:
            figure = plots.show_frontier(summary["means"]["replace"], TITLES,
                                         {name: row.family for name, row in BASELINES.items()})
            self.output.write("frontier.png", plots.as_png(figure))
        for group, means in summary["means"].items():
            shown = {title: means[at(row, AT).name] for row, title in TITLES.items() if at(row, AT).name in means}
            tables.print_means(f"{group}, at {AT} steps", shown, PRINTED)
        for group, found in summary["beaten_by"].items():
            for name, by in found.items():
                print(f"{group}: {name} is beaten by {', '.join(by) or 'nobody'}")
        for row, reason in summary["not_run"].items():
            print(f"{TITLES[row]}: not run here. {reason}")


# Its tables


def summarise(records: Sequence[dict]) -> dict:
    """Means with 95 % intervals by group and variant, over all replacements and all additions too; and who beats
    `learned`.
    """
    kinds = {kind: [r for r in records if r["task"].startswith(kind)] for kind in ("replace", "add")}
    groups = {**kinds, **tables.by_group(records)}
    means = {title: tables.means(part, MEASURES) for title, part in groups.items() if part}
    return {"means": means, "beaten_by": {title: better(found) for title, found in means.items()
                                          if title.startswith("replace")}}


def onto(earlier: dict, found: dict) -> dict:
    """The earlier summary, of the same scenes, with the rows of this one in place of its own.

    Edits know nothing of each other, so that is what one run of all rows would have found.
    """
    means = {title: {**earlier["means"].get(title, {}), **found["means"].get(title, {})}
             for title in dict.fromkeys([*earlier["means"], *found["means"]])}
    tried = {name.split(" at ")[0] for rows in found["means"].values() for name in rows}
    not_run = {row: why for row, why in earlier["not_run"].items() if row not in tried} | found["not_run"]
    return {**earlier, "means": means, "not_run": not_run,
            "beaten_by": {title: better(rows) for title, rows in means.items() if title.startswith("replace")},
            "worst": found["worst"] if "learned" in tried else earlier["worst"]}


def better(means: dict[str, dict], ours: str = "learned") -> dict[str, list[str]]:
    """For each variant of ours, the variants with at least its task success and background PSNR at no higher cost, one
    of the three better. (The known region knows what nobody is told; it is left out.) Empty: it is on the frontier.
    """
    def worth(name: str) -> tuple[float, float, float]:
        found = means[name]
        return found["success"]["value"], found["psnr"]["value"], -found["evaluations"]["value"]

    # Our own other costs do not compete with us.
    others = [name for name in means if not name.startswith((f"{ours} at", "known_region"))]
    found = {}
    for mine in means:
        if mine.startswith(f"{ours} at"):
            # At least as good in all three, and not the same in all three.
            found[mine] = [name for name in others if worth(name) != worth(mine)
                           and all(a >= b for a, b in zip(worth(name), worth(mine), strict=True))]
    return found


def worst(records: Sequence[dict], row: str) -> list[int]:
    """The seeds of its replacements at AT steps, the worst first: by the task, then by the background."""
    mine = [r for r in records if r["row"] == at(row, AT).name and r["task"].startswith("replace")]
    return [int(r["task"].split("_")[1]) for r in sorted(mine, key=lambda r: (r["success"], r["psnr"], r["task"]))]
