"""`python -m lr_helpers study compare`: what each way to edit is worth, and what it costs.

Each task by each variant (a baseline at a number of denoising steps) is a file, so a study that was stopped goes on.
"""

from __future__ import annotations

import csv
import io
import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from tqdm.auto import tqdm

from lr_helpers import plots
from lr_helpers.baselines import BASELINES, Parts
from lr_helpers.errors import UserError
from lr_helpers.files.writing import prepare_folder, write_bytes, write_json
from lr_helpers.method import METHODS
from lr_helpers.models.loading import load_models
from lr_helpers.study import measures
from lr_helpers.study.compare import AT, MANY, Variant, edit, measure, variants
from lr_helpers.study.pool import worker_pool
from lr_helpers.study.tasks import TEST, VALIDATION, task
from tiny_world.judge import load

_here: list = []
"""Of a worker: models, judge, parts, and why which baselines can't be run."""


def _start() -> None:
    models = load_models("tiny", device="cpu")
    _here[:] = [models, load(), Parts(models.profile, models), {}]


def _work(kind: str, seed: int, variant: Variant, folder: Path) -> tuple[str, str]:
    """Do one and store it; the baseline's name, and why it can't be run here ("" if it can)."""
    models, judge_model, parts, failed = _here
    if variant.baseline not in failed:
        one = task(kind, seed)
        try:
            made = edit(one, variant, models, parts)
        except UserError as error:
            failed[variant.baseline] = str(error)
        else:
            region = None if variant.baseline == "whole_picture" else made.region  # that one is no choice
            found = {**measure(one, made.picture, region, models, judge_model), "seconds": made.seconds}
            write_json(folder / variant.file / f"{one.name}.json", {
                "task": one.name, "variant": variant.name, "objects": len(one.recipe.objects),
                **{k: round(v, 5) for k, v in found.items()}, "evaluations": made.evaluations})
    return variant.baseline, failed.get(variant.baseline, "")


def run_tasks(folder: Path, replace: int, add: int, which: Sequence[Variant], validation: bool = False,
              workers: int | None = None) -> tuple[list[dict], dict[str, str]]:
    """Do what is missing of so many tasks of each kind; all records, and why some baselines could not be run here.

    Raises UserError if the folder holds a study with other settings.
    """
    folder, first = prepare_folder(folder), VALIDATION if validation else TEST
    wanted = json.loads(json.dumps({"study": "compare", "first": first,
                                    "methods": {name: asdict(method) for name, method in METHODS.items()}}))
    file = folder / "settings.json"
    if file.exists() and json.loads(file.read_text(encoding="utf-8")) != wanted:
        raise UserError(f"{folder} holds a study with other settings; give another --output, or delete it.")
    write_json(file, wanted)
    jobs = []
    for variant in which:
        (folder / variant.file).mkdir(exist_ok=True)
        for kind, count in (("replace", replace), ("add", add)):
            if kind == "replace" or variant.baseline not in (*MANY, "known_region"):  # no place to add at is known
                jobs += [(kind, seed, variant, folder) for seed in range(first, first + count)]
    todo = [j for j in jobs if not _file(*j).exists()]
    missing: dict[str, str] = {}
    with tqdm(total=len(jobs), initial=len(jobs) - len(todo), desc="edits", unit="edit") as bar:
        if todo:
            with worker_pool(min(workers or os.cpu_count() or 1, len(todo)), _start, ()) as each:
                for name, reason in each(_work, todo):
                    if reason:
                        missing[name] = reason
                    bar.update()
    return [json.loads(_file(*j).read_text(encoding="utf-8")) for j in jobs if _file(*j).exists()], missing


def _file(kind: str, seed: int, variant: Variant, folder: Path) -> Path:
    return folder / variant.file / f"{kind}_{seed}.json"


COLUMNS = ("success", "target_seen", "source_gone", "others_kept", "psnr", "ssim", "vit_distance", "clip", "iou", "hit",
           "evaluations", "seconds")


def write_csv(path: Path, records: Sequence[dict]) -> None:
    """One row for each task and variant; empty where a measure does not apply."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["task", "objects", "variant", *COLUMNS])
    for r in records:
        writer.writerow([r["task"], r["objects"], r["variant"], *(r.get(k, "") for k in COLUMNS)])
    write_bytes(path, out.getvalue().encode())


GROUPS = {"replace, one object": ("replace", 1), "replace, two objects": ("replace", 2), "add, empty scene": ("add", 0),
          "add, one object there": ("add", 1)}


def summarise(records: Sequence[dict]) -> dict:
    """Means with 95 % intervals by group and variant, over all replacements and all additions too; and who beats
    `learned`.
    """
    groups = {title: [r for r in records if r["task"].startswith(kind) and r["objects"] == objects]
              for title, (kind, objects) in GROUPS.items()}
    groups = {**{kind: [r for r in records if r["task"].startswith(kind)] for kind in ("replace", "add")}, **groups}
    means = {title: _means(part) for title, part in groups.items() if part}
    return {"means": means, "beaten_by": {title: better(found) for title, found in means.items()
                                       if title.startswith("replace")}}


def _means(records: Sequence[dict]) -> dict:
    found = {}
    for name in dict.fromkeys(r["variant"] for r in records):
        mine = [r for r in records if r["variant"] == name]
        values = {m: [r[m] for r in mine if m in r] for m in COLUMNS}  # who is alone in a scene has no others to keep
        found[name] = {m: measures.mean_with_interval(v, share=m in measures.SHARES) for m, v in values.items() if v}
    return found


def better(means: dict[str, dict], ours: str = "learned") -> dict[str, list[str]]:
    """For each variant of ours, the variants with at least its task success and background PSNR at no higher cost, one
    of the three better. (The known region knows what nobody is told; it is left out.) Empty: it is on the frontier.
    """
    def worth(name: str) -> tuple[float, float, float]:
        found = means[name]
        return found["success"]["value"], found["psnr"]["value"], -found["evaluations"]["value"]

    others = [n for n in means if not n.startswith((f"{ours} at", "known_region"))]
    return {mine: [n for n in others if worth(n) != worth(mine) and all(a >= b for a, b in zip(
        worth(n), worth(mine), strict=True))] for mine in means if mine.startswith(f"{ours} at")}


def worst(records: Sequence[dict], baseline: str) -> list[int]:
    """The seeds of its replacements at AT steps, the worst first: by the task, then by the background."""
    mine = [r for r in records if r["variant"] == Variant(baseline, AT).name and r["task"].startswith("replace")]
    return [int(r["task"].split("_")[1]) for r in sorted(mine, key=lambda r: (r["success"], r["psnr"], r["task"]))]


def run(folder: Path, replace: int, add: int, baselines: Sequence[str] | None = None, validation: bool = False,
        workers: int | None = None) -> dict:
    """Run what is missing; write `summary.json`, `edits.csv` and the figure; print the means; the summary."""
    begun = time.perf_counter()
    records, missing = run_tasks(folder, replace, add, variants(baselines), validation, workers)
    summary = {"study": "compare", "steps": AT, "scenes": "validation" if validation else "test",
               "tasks": {"replace": replace, "add": add}, "missing": missing, **summarise(records),
               "worst": {"learned": worst(records, "learned")}}
    write_json(folder / "summary.json", summary)
    write_csv(folder / "edits.csv", records)
    titles, families = ({name: getattr(row, part) for name, row in BASELINES.items()} for part in ("title", "family"))
    for title, means in summary["means"].items():
        _print(title, means)
        if title == "replace":
            figure = plots.show_frontier(means, titles, families)
            figure.savefig(folder / "frontier.png", dpi=130)
            plots.close(figure)
    for title, found in summary["beaten_by"].items():
        for name, by in found.items():
            print(f"{title}: {name} is beaten by {', '.join(by) or 'nobody'}")
    for name, reason in missing.items():
        print(f"{BASELINES[name].title}: not run here. {reason}")
    print(f"\n{len(records)} edits; {time.perf_counter() - begun:.0f} s in this run. Tables and figure: {folder}")
    return summary


def _print(group: str, means: dict) -> None:
    print(f"\n{group}, at {AT} steps: mean with 95 % interval")
    for name, found in means.items():
        if name.endswith(f" at {AT}"):
            said = [f"{k} {found[k]['value']:.2f} [{found[k]['low']:.2f}, {found[k]['high']:.2f}]"
                    for k in ("success", "psnr", "clip", "iou", "evaluations", "seconds") if k in found]
            title = BASELINES[name.split(" at ")[0]].title
            print(f"  {title:34} n = {found['success']['count']}   " + "   ".join(said))
