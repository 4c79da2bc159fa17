"""Run a study: every task once, resumable, on several processes; then one summary of it all."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from tqdm.auto import tqdm

from lr_helpers.candidates import TERMS, occlusion_table
from lr_helpers.errors import UserError
from lr_helpers.files.writing import prepare_folder, write_bytes, write_json
from lr_helpers.losses import score
from lr_helpers.method import METHODS
from lr_helpers.models.loading import Models, load_models
from lr_helpers.study import measures
from lr_helpers.study.choosers import CHOOSERS, Choice, Scene
from lr_helpers.study.learning import VARIANTS
from lr_helpers.study.pool import worker_pool
from lr_helpers.study.tasks import TEST, VALIDATION, Task, task
from tiny_world import judge

SETS = {"regions": CHOOSERS, "learning": VARIANTS,
        "extended": {name: CHOOSERS[name] for name in ("expectation", "oracle")}}
"""What each study compares."""


@dataclass(frozen=True)
class Settings:
    """What decides the results of a study; kept beside them."""

    study: str
    steps: int
    """Denoising steps of an edit."""
    validation: bool
    """Scenes on which settings are chosen, instead of those that are reported."""

    @property
    def first(self) -> int:
        """The first seed."""
        return VALIDATION if self.validation else TEST


def run_task(one: Task, models: Models, judge_model: judge.Judge, study: str = "regions", steps: int = 12) -> dict:
    """All choosers of a study on one task: a record of plain data.

    "choices" has the measures of each chooser; "table", for "regions" on tasks with a known region, all terms of the
    paper's whole table of candidates.
    """
    scene, choices = Scene(one, models, steps), {}
    for name, choose in SETS[study].items():
        if name == "oracle" and one.truth is None:
            continue
        choices[name] = _record(scene, choose(scene), judge_model)
    record = {"name": one.name, "kind": one.kind, "seed": one.seed, "source": one.source, "prompt": one.prompt,
              "objects": len(one.recipe.objects), "truth": one.truth, "choices": choices}
    if study == "regions" and one.truth is not None:
        record["table"] = _table(scene)
    return record


def _record(scene: Scene, choice: Choice, judge_model: judge.Judge) -> dict:
    one, models = scene.task, scene.models
    picture = scene.edits(torch.tensor([choice.box]))[0]
    with torch.no_grad():
        seen = models.clip.encode_image(torch.stack([picture, scene.picture]))[0]
        quality = score(seen[:1], seen[1], models.clip.encode_text([one.prompt])[0])
    found = {**measures.region(one, choice.box), **measures.success(one, choice.box, picture, judge_model),
             **measures.background(one, picture, models), "score": float(quality),
             "evaluations": choice.edits * scene.steps * 2, "seconds": choice.seconds}
    trace = [(edits, measures.region(one, box)) for edits, box in choice.trace] if one.truth else []
    return {"box": list(choice.box), **{k: round(v, 5) for k, v in found.items()},
            "trace": [[edits, round(region["iou"], 5), region["hit"]] for edits, region in trace]}


def _table(scene: Scene) -> dict:
    """Boxes, IoU and all terms of the paper's K×M candidates, every one edited."""
    table = scene.table(scene.method("paper"))
    table.losses(None)
    table.terms["occlusion"] = occlusion_table(scene.models, scene.picture, scene.task.source, table.boxes)
    values = {**{t: table.terms[t] for t in TERMS}, "text": table.text_similarity, "image": table.image_similarity,
              "iou": measures.iou(table.boxes.float(), torch.tensor(scene.task.truth).float())}
    return {name: [[round(v, 5) for v in row] for row in rows.tolist()] for name, rows in values.items()}


_loaded: list = []  # a worker's models


def _start() -> None:
    _loaded[:] = [load_models("tiny", device="cpu"), judge.load()]


def _work(kind: str, seed: int, settings: Settings, folder: Path) -> str:
    one = task(kind, seed)
    write_json(folder / f"{one.name}.json", run_task(one, *_loaded, settings.study, settings.steps))
    return one.name


def run(settings: Settings, folder: Path, replace: int, add: int, workers: int | None = None) -> list[dict]:
    """Do what is missing of so many tasks of each kind; the records in order.

    Each is a file in `folder`/tasks, written whole, so a study that was stopped goes on where it was. Raises
    UserError if the folder holds a study with other settings.
    """
    folder = prepare_folder(folder)
    wanted = {**asdict(settings), "methods": {k: asdict(m) for k, m in METHODS.items()}}
    file, parts = folder / "settings.json", folder / "tasks"
    plain = json.loads(json.dumps(wanted))
    if file.exists() and json.loads(file.read_text(encoding="utf-8")) != plain:
        raise UserError(f"{folder} holds a study with other settings; give another --output, or delete it.")
    parts.mkdir(exist_ok=True)
    write_json(file, plain)
    all_tasks = [(kind, seed) for kind, count in (("replace", replace), ("add", add))
                 for seed in range(settings.first, settings.first + count)]
    missing = [t for t in all_tasks if not (parts / f"{t[0]}_{t[1]}.json").exists()]
    workers = min(workers or os.cpu_count() or 1, max(1, len(missing)))
    with tqdm(total=len(all_tasks), initial=len(all_tasks) - len(missing), desc="tasks", unit="task") as bar:
        if missing:
            with worker_pool(workers, _start, ()) as each:
                for done in each(_work, [(*t, settings, parts) for t in missing]):
                    bar.set_postfix_str(done)
                    bar.update()
    return [json.loads((parts / f"{kind}_{seed}.json").read_text(encoding="utf-8")) for kind, seed in all_tasks]


COLUMNS = ("iou", "hit", "centre_inside", "target_seen", "source_gone", "others_kept", "success", "psnr", "ssim",
           "vit_distance", "score", "evaluations", "seconds")


def write_csv(path: Path, records: Sequence[dict]) -> None:
    """One row for each task and chooser; empty where a measure does not apply."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["task", "objects", "chooser", "x0", "y0", "x1", "y1", *COLUMNS])
    for r in records:
        for name, c in r["choices"].items():
            writer.writerow([r["name"], r["objects"], name, *c["box"], *(c.get(k, "") for k in COLUMNS)])
    write_bytes(path, out.getvalue().encode())
