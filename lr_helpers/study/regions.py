"""`python -m lr_helpers study regions`: ways to choose a region, on scenes whose regions are known.

Every row is run on every task, so that they can be compared pair by pair; edits that several rows want are made once.
The study `learning` is the same with other variants.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from lr_helpers import plots
from lr_helpers.baselines import ACROSS, TITLES, Edited, Request, rows_here
from lr_helpers.baselines.request import Share
from lr_helpers.boxes import covered, iou
from lr_helpers.candidates import TERMS, occlusion_table, patches_table
from lr_helpers.files.writing import csv_bytes
from lr_helpers.losses import score
from lr_helpers.method import METHODS
from lr_helpers.models.loading import Models, load_models
from lr_helpers.models.profiles import Profile, get_profile
from lr_helpers.models.region_weights import which
from lr_helpers.study import measures, tables
from lr_helpers.study.learning import VARIANTS
from lr_helpers.study.rules import curves, rules, sweeps
from lr_helpers.study.run import Done, Study
from lr_helpers.study.tasks import TEST, VALIDATION, Task, restyled, task
from lr_helpers.study.variants import Variant, plain
from tiny_world import judge

ROWS = ("random_anchors", "random_sizes", "official_code", "paper", "straight_through", "reinforce", "learned",
        "exhaustive", "edit_free", "known_region")
"""The ways to choose a region that are compared."""
STRANGE = ("style", "texture")
"""Kinds of task that show what no model was trained on: another drawing style, other ground."""
STRANGE_ROWS = ("official_code", "paper", "learned", *ACROSS, "edit_free", "known_region")
"""Those that are run on tasks of these kinds."""
COMPARING = ("clip", "source", "patches", "occlusion")
"""The terms that compare with one text, so that they are others once it is centred."""
COMPARED_WITH = "official_code"
MEASURES = ("iou", "hit", "covered", "centre_inside", "target_seen", "source_gone", "others_kept", "success", "psnr",
            "ssim", "vit_distance", "score", "evaluations", "seconds")
COLUMNS = ("task", "objects", "row", "x0", "y0", "x1", "y1", *MEASURES)
PRINTED = ("iou", "hit", "covered", "centre_inside", "success", "target_seen", "source_gone", "others_kept", "psnr",
           "evaluations", "seconds")


# One task


def run_task(one: Task, models: Models, judge_model: judge.Judge, variants: Sequence[Variant] = (), steps: int = 12,
             table: bool = False) -> dict:
    """All variants (default: ROWS) on one task: a record of plain data, the measures of each in "choices".

    Of a task whose objects the judge doesn't name, as they were drawn, `measures.JUDGED` are None. With
    `table`, where the region is known, also all terms of the paper's whole table of candidates.
    """
    request = Request(one.picture, one.source, one.prompt, name=one.name, known=one.truth,
                      traced=one.truth is not None)
    # One request for all rows, so that they share its edits.
    choices = {}
    for variant in variants or plain(ROWS):
        # An added object has no known place.
        if variant.row == "known_region" and one.truth is None:
            continue
        row = Variant(variant.name, variant.row, {"steps": steps, **variant.settings}).load(models)
        choices[variant.name] = measured(one, row.run(request), models, judge_model)
    if not all(measures.names_objects(one, judge_model)):
        for choice in choices.values():
            choice |= dict.fromkeys(measures.JUDGED)  # the judge can't tell
    record = {"task": one.name, "kind": one.kind, "seed": one.seed, "source": one.source, "prompt": one.prompt,
              "objects": len(one.recipe.objects), "truth": one.truth, "choices": choices}
    if table and one.truth is not None:
        record["table"] = _table(one, request, models, steps)
    return record


def measured(one: Task, made: Edited, models: Models, judge_model: judge.Judge) -> dict:
    """All that is measured of a row's choice, its box, and along its trace how good the box would have been."""
    with torch.no_grad():
        # S of the paper, by which it ranks edits: here it is only measured.
        seen = models.clip.encode_image(torch.stack([made.picture, one.picture]))[0]
        quality = score(seen[:1], seen[1], models.clip.encode_text([one.prompt])[0])
    painted = made.painted or made.box  # the region is one question, what was painted another
    found = {**measures.region(one, made.box), **measures.success(one, painted, made.picture, judge_model),
             **measures.background(one, made.picture, models), "score": float(quality),
             "evaluations": made.evaluations, "seconds": made.seconds}
    trace = []
    for edits, box in made.trace:
        # A trace has the box it would have chosen by then; what counts is how good that was.
        then = measures.region(one, box)
        trace.append([edits, round(then["iou"], 5), then["hit"]])
    if one.truth is not None:
        found["covered"] = covered(painted, one.truth)
    sure = {} if made.confidence is None else {"confidence": made.confidence}
    return {"box": list(made.box), **{k: round(v, 5) for k, v in found.items()}, **sure, "trace": trace}


def _table(one: Task, request: Request, models: Models, steps: int) -> dict:
    """Boxes' IoU and all terms of the paper's K×M candidates, every one edited."""
    method, share = METHODS["paper"].but(steps=steps), Share(request, models)
    boxes = share.proposals(method).boxes
    values = {}
    # The paper compares with the texts as they are; with what all texts share taken off, these terms are others.
    for prefix, centre in (("", False), ("centred_", True)):
        found = share.candidates(method.but(centre_texts=centre), boxes)
        # Edits all 63 candidates; those that `paper` has edited are there already.
        found.losses(None)
        # The paper does not weigh these terms, so its table lacks them.
        found.terms["occlusion"] = occlusion_table(models, one.picture, one.source, boxes, centre)
        found.terms["patches"] = patches_table(models, one.picture, one.source, boxes, centre)
        values |= {prefix + term: found.terms[term] for term in (COMPARING if centre else TERMS)}
    values |= {"text": found.text_similarity, "image": found.image_similarity,
               "iou": iou(boxes.float(), torch.tensor(one.truth).float())}
    return {name: [[round(v, 5) for v in row] for row in rows.tolist()] for name, rows in values.items()}


# The study


@dataclass
class Regions(Study):
    """So many tasks of each kind, each by all variants."""

    folder: Path
    name: str = "regions"
    """"regions" or "learning"."""
    replace: int = 200
    add: int = 200
    steps: int = 6
    """Denoising steps of an edit."""
    validation: bool = False
    """On the scenes on which settings are chosen, instead of those that are reported."""
    remove: int = 0
    style: str | None = None
    """All scenes drawn in this style, instead of the one that the models were trained on."""
    rows: Sequence[str] | None = None
    """Of "regions"; None: ROWS, and those of ACROSS if there is a region predictor."""
    regions: str | Path | None = None
    """The region predictor's file, where it is not the profile's."""
    strange: int = 0
    """So many of the replacements again in the held-out style, and on held-out textures, with STRANGE_ROWS."""

    shows = ("tasks.csv", "success_*.png", "regions_*.png", "curves.png", "sweeps_*.png", "rules_*.png")

    def settings(self, about: dict) -> dict:
        return {"study": self.name, "steps": self.steps, "validation": self.validation, "style": self.style,
                "rows": list(self.variants), "regions": which(self.profile.regions),
                "methods": {name: asdict(method) for name, method in METHODS.items()}}

    @property
    def profile(self) -> Profile:
        return get_profile("tiny").but(regions=self.regions)

    @property
    def variants(self) -> dict[str, Variant]:
        """What is compared, by name."""
        found = VARIANTS if self.name == "learning" else plain(self.rows or rows_here(ROWS, self.profile))
        return {variant.name: variant for variant in found}

    def jobs(self) -> list[tuple[str, int]]:
        return kinds_and_seeds(self.replace, self.add, self.validation, self.remove, self.strange)

    def file(self, job: tuple[str, int]) -> str:
        return f"{job[0]}_{job[1]}"

    def load(self) -> None:
        self.models, self.judge = load_models(self.profile, device="cpu"), judge.load()

    def do(self, job: tuple[str, int]) -> dict:
        one = task(*job) if self.style is None else restyled(task(*job), self.style)
        # The table of candidates costs 63 edits a task: only those who compare rules with the paper's need it.
        strange = job[0] in STRANGE
        table = self.name == "regions" and self.rows is None and not strange
        rows = [row for name, row in self.variants.items() if not strange or name in STRANGE_ROWS]
        return run_task(one, self.models, self.judge, rows, self.steps, table=table)

    def summarise(self, done: Done) -> dict:
        return {"study": self.name, "steps": self.steps, "scenes": "validation" if self.validation else "test",
                "tasks": {"replace": self.replace, "add": self.add, "remove": self.remove, "strange": self.strange},
                "style": self.style,
                **summarise(done.records)}

    def show(self, summary: dict, done: Done) -> None:
        self.output.write("tasks.csv", csv_bytes(COLUMNS, flat(done.records)))
        for name, figure in figures(summary).items():
            self.output.write(f"{name}.png", plots.as_png(figure))
        for title, means in summary["means"].items():
            tables.print_means(title, {TITLES.get(name, name): found for name, found in means.items()}, PRINTED)
        for title, found in summary["rules"].items():
            print(f"\n{title}: if the final box were the best of the paper's whole table by …")
            for rule, value in found.items():
                print(f"  {rule:40} IoU {tables.said(value['iou'])}   hit {tables.said(value['hit'])}")


def kinds_and_seeds(replace: int, add: int, validation: bool, remove: int = 0,
                    strange: int = 0) -> list[tuple[str, int]]:
    """So many tasks of each kind, as `tasks.task` takes them; `strange` of each of "style" and "texture"."""
    first = VALIDATION if validation else TEST
    counts = {"replace": replace, "add": add, "remove": remove, "style": strange, "texture": strange}
    return [(kind, seed) for kind, count in counts.items()
            for seed in range(first, first + count)]


@dataclass
class Choosing(Study):
    """So many replacements by the miniatures, on the scenes on which settings are chosen."""

    folder: Path
    replace: int = 60
    steps: int = 6
    """Denoising steps of an edit."""

    def jobs(self) -> list[tuple[str, int]]:
        return kinds_and_seeds(self.replace, 0, True)

    def file(self, job: tuple[str, int]) -> str:
        return f"{job[0]}_{job[1]}"

    def load(self) -> None:
        self.models, self.judge = load_models("tiny", device="cpu"), judge.load()


def flat(records: Sequence[dict]) -> list[dict]:
    """One record for each task and variant, as `tables` wants them."""
    found = []
    for record in records:
        for row, choice in record["choices"].items():
            found.append({"task": record["task"], "objects": record["objects"], "row": row,
                          **dict(zip(("x0", "y0", "x1", "y1"), choice["box"], strict=True)), **choice})
    return found


def summarise(records: Sequence[dict]) -> dict:
    """Means and differences from the official code by group, row and measure; of replacements curves, rules, sweeps."""
    groups = tables.by_group(flat(records))
    means = {title: tables.means(part, MEASURES) for title, part in groups.items()}
    differences = {title: _differences(part) for title, part in groups.items()}
    replaced = [r for r in flat(records) if r["task"].startswith("replace")]
    # The terms of the paper's candidates, a table a task.
    known = {}
    for title, part in tables.by_group(records).items():
        terms = [{k: torch.tensor(v) for k, v in r["table"].items()} for r in part if "table" in r]
        if terms:
            known[title] = terms
    return {"means": means, "differences": differences, "overall": overall(flat(records)), "curves": curves(replaced),
            "rules": {title: rules(part) for title, part in known.items()},
            "sweeps": {title: sweeps(part) for title, part in known.items()}}


def _differences(records: Sequence[dict]) -> dict:
    """Each row less the official code on the same task; {} where that was not run."""
    by_row = tables.rows_of(records)
    if COMPARED_WITH not in by_row:
        return {}
    return {row: tables.differences(own, by_row[COMPARED_WITH], MEASURES) for row, own in by_row.items()
            if row != COMPARED_WITH}


def overall(records: Sequence[dict], ours: str = "learned", measures: Sequence[str] = ("success", "hit", "evaluations")
            ) -> dict:
    """Rows that were run on all tasks, over all kinds: means, and paired differences from `ours`; {} without it. Tasks
    come several to a scene (one object replaced, added, removed, drawn otherwise); "scenes" says how many there are.
    """
    by_row = tables.rows_of(records)
    tasks = {record["task"] for record in records}
    whole = {row: own for row, own in by_row.items() if len(own) == len(tasks)}
    if ours not in whole:
        return {}
    scenes = {tables.scene_of(record, i) for i, record in enumerate(whole[ours])}
    return {"scenes": len(scenes), "means": {row: tables.means_of(own, measures) for row, own in whole.items()},
            "differences": {row: tables.differences(own, whole[ours], measures) for row, own in whole.items()
                            if row != ours}}


def figures(summary: dict) -> dict:
    """The figures of a summary by name."""
    means = summary["means"]
    # Variants of the study `learning` are called what they are.
    titles = {name: TITLES.get(name, name) for found in means.values() for name in found}
    drawn = {}
    for kind in ("replace", "add", "remove", "held-out"):
        own = {title: found for title, found in means.items() if title.startswith(kind)}
        if own:
            drawn[f"success_{kind}"] = plots.show_measures(
                own, titles, ("success", "target_seen", "source_gone", "others_kept"))
        if any("hit" in value for found in own.values() for value in found.values()):
            drawn[f"regions_{kind}"] = plots.show_measures(own, titles, ("hit", "iou"))
    if summary["curves"] and summary["study"] == "regions":
        drawn["curves"] = plots.show_cost(summary["curves"], TITLES)
    for title, found in summary["sweeps"].items():
        drawn["sweeps_" + _as_file(title)] = plots.show_sweeps(found)
    for title, found in summary["rules"].items():
        drawn["rules_" + _as_file(title)] = plots.show_rules(found, title)
    return drawn


def _as_file(title: str) -> str:
    return title.replace(", ", "_").replace(" ", "_")
