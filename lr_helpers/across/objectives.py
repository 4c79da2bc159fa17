"""`python -m lr_helpers study objectives`: which loss knows a good edit, for replacing, adding and removing alike?

On scenes for choosing settings, a pool of boxes of each picture is edited as for `train-regions`. Every objective takes
the box of its lowest loss; the judge, whom no objective sees, says whether the task is done there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from lr_helpers.across.collect import tried
from lr_helpers.baselines.wording import adds
from lr_helpers.candidates import EDIT_FREE, TERMS
from lr_helpers.files.canvas import Canvas
from lr_helpers.method import ADDING, OBJECTIVES
from lr_helpers.models.loading import Models, load_models
from lr_helpers.predictor import weighed
from lr_helpers.study import measures, tables
from lr_helpers.study.regions import kinds_and_seeds
from lr_helpers.study.run import Done, Study
from lr_helpers.study.tasks import task
from tiny_world.judge import Judge, load

AS_THEY_ARE = ("paper",)
"""Objectives that are tried without standardising too, as the methods of these names use them."""
MEASURES = ("success", "hit", "target_seen", "source_gone", "others_kept")


def pool_record(kind: str, seed: int, models: Models, judge: Judge, boxes: int, steps: int) -> dict:
    """One task: all terms of the edits in so many boxes, and what the judge says of each."""
    one = task(kind, seed)
    canvas = Canvas.of(one.picture, models.editor.size)
    _, table = tried(models, canvas, one.source, one.prompt, one.name, boxes, steps, liked=0.0)
    found: dict[str, list] = {name: [] for name in MEASURES}
    for i, box in enumerate(table.boxes[:, 0].tolist()):
        said = {**measures.region(one, box), **measures.success(one, box, table.picture(i, 0), judge)}
        for name, values in found.items():
            values.append(said.get(name))
    terms = {name: [round(v, 6) for v in table.terms[name][:, 0].tolist()] for name in TERMS}
    return {"task": one.name, "kind": kind, "objects": len(one.recipe.objects), "adds": adds(one.source, one.prompt),
            "boxes": table.boxes[:, 0].tolist(), "terms": terms, "score": table.score[:, 0].tolist(), "found": found}


@dataclass
class Objectives(Study):
    """So many tasks of each kind."""

    folder: Path
    replace: int = 60
    add: int = 60
    remove: int = 30
    boxes: int = 16
    steps: int = 4
    """Denoising steps of an edit."""
    reported: bool = False
    """On the scenes that are reported, instead of those on which settings are chosen."""

    def settings(self, about: dict) -> dict:
        return {"study": "objectives", "boxes": self.boxes, "steps": self.steps, "reported": self.reported}

    def jobs(self) -> list[tuple[str, int]]:
        return kinds_and_seeds(self.replace, self.add, not self.reported, self.remove)

    def file(self, job: tuple[str, int]) -> str:
        return f"{job[0]}_{job[1]}"

    def load(self) -> None:
        self.models, self.judge = load_models("tiny", device="cpu"), load()

    def do(self, job: tuple[str, int]) -> dict:
        return pool_record(*job, self.models, self.judge, self.boxes, self.steps)

    def summarise(self, done: Done) -> dict:
        return {**self.settings({}), "objectives": OBJECTIVES, "means": summarise(done.records)}

    def show(self, summary: dict, done: Done) -> None:
        for title, means in summary["means"].items():
            tables.print_means(f"{title}, the box of the lowest loss by", means, MEASURES)


def choices(record: dict) -> dict[str, int]:
    """By rule, the box that it chooses of one task."""
    terms = {name: torch.tensor(values) for name, values in record["terms"].items()}
    values = {name: weighed(terms, weights) for name, weights in OBJECTIVES.items()}
    for name in AS_THEY_ARE:
        values[f"{name}, not standardised"] = sum(w * terms[term] for term, w in OBJECTIVES[name].items())
    for name, to_add in (("learned", "direction_area"), *ADDING.items()):
        values[f"{name}, to add {to_add}"] = values[to_add if record["adds"] else name]
    values["edit-free terms"] = weighed(terms, {name: OBJECTIVES["learned"].get(name, 0.0) for name in EDIT_FREE})
    for name in terms:
        values[f"{name} alone"] = terms[name]
    values["S (the paper's ranking)"] = -torch.tensor(record["score"])
    return {name: int(loss.argmin()) for name, loss in values.items()}


def flat(records: Sequence[dict]) -> list[dict]:
    """One record for each task and rule, as `tables` wants them; and of each task its boxes' mean, and the best."""
    found = []
    for record in records:
        about = {"task": record["task"], "objects": record["objects"]}
        for rule, i in choices(record).items():
            found.append({**about, "row": rule, **{name: values[i] for name, values in record["found"].items()}})
        for row, of in (("any box, by lot", lambda values: sum(values) / len(values)), ("the best box", max)):
            own = {name: of(v) for name, v in record["found"].items() if None not in v and name in ("success", "hit")}
            found.append({**about, "row": row, **own})
    return found


def summarise(records: Sequence[dict]) -> dict:
    """Means by group, rule and measure, and over all tasks."""
    every = flat(records)
    groups = {**tables.by_group(every), "all tasks": every}
    return {title: tables.means(part, MEASURES) for title, part in groups.items()}
