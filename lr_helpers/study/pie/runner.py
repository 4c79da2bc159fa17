"""Every item by every row, on several processes: the edit as PNG, its record as JSON; what is there is kept."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from tqdm.auto import tqdm

from lr_helpers.baselines import Parts
from lr_helpers.errors import OutputError, UserError
from lr_helpers.files.pictures import read_image, to_image, to_tensor
from lr_helpers.files.writing import prepare_folder, write_image, write_json
from lr_helpers.method import METHODS
from lr_helpers.models.loading import Models, default_device, load_models
from lr_helpers.models.profiles import Profile
from lr_helpers.study.measures import EXACT
from lr_helpers.study.metrics import Measures, load_measures
from lr_helpers.study.pie.emoji import SCENES, recipe_of, success
from lr_helpers.study.pie.items import Benchmark, Item, dealt
from lr_helpers.study.pie.rows import asked, check_rows, edit, overlap
from lr_helpers.study.pool import worker_pool
from tiny_world import judge


@dataclass(frozen=True)
class Settings:
    """What decides the results of a study."""

    profile: Profile
    steps: int | None = None
    """Denoising steps of rows that have none of their own; None for the profile's."""
    seed: int = 42
    device: str | None = None

    @property
    def stepping(self) -> Profile:
        """The profile with these steps."""
        return self.profile if self.steps is None else replace(self.profile, steps=self.steps)


@dataclass
class Done:
    """What a study has found out so far."""

    records: list[dict]
    """One for each item and row that is done, rows in the order in which they were asked for."""
    not_run: dict[str, str]
    """Why a row could not be run here, or not on all items."""
    about: dict
    """Origins of the models by part, device, and which models measured ("labels", "of") or could not ("missing")."""
    items: int = 0
    """Asked of each row."""


@dataclass
class _Loaded:
    """A worker's models."""

    models: Models
    measures: Measures
    parts: Parts
    judge: judge.Judge
    seed: int
    failed: dict[str, str] = field(default_factory=dict)


_here: list[_Loaded] = []


def _start(settings: Settings) -> None:
    models = load_models(settings.stepping, settings.device)
    _here[:] = [_Loaded(models, load_measures(models), Parts(models.profile, models), judge.load(), settings.seed)]


def _about() -> dict:
    here = _here[0]
    return {"origins": here.models.origins, "device": here.models.device, "labels": here.measures.labels,
            "missing": here.measures.missing, "of": here.measures.of}


def _work(row: str, item: Item, scene: dict | None, folder: Path) -> tuple[str, str, str]:
    """Do one item by one row; row, id, and why it can't be done ("" if it is)."""
    here = _here[0]
    file, picture = _files(folder, row, item)
    if row in here.failed:
        return row, item.name, here.failed[row]
    try:
        # An edit that is there already was only measured with other models.
        record = _stored(file) if picture.is_file() else None
        if record is None:
            made = edit(row, item, here.models, here.parts, here.seed)
            caption, prompt = asked(row, item)
            record = {"id": item.name, "row": row, "kind": item.kind, "source": caption, "prompt": prompt,
                      "evaluations": made.evaluations, "seconds": round(made.seconds, 3)}
            if made.region is not None:
                record["iou"] = round(overlap(made.region, item), 5)
            file.unlink(missing_ok=True)  # a record is only ever beside its own picture
            write_image(picture, to_image(made.picture))
    except OutputError:
        raise
    except UserError as error:
        here.failed[row] = str(error)
        return row, item.name, str(error)
    write_json(file, record | _measured(here, item, to_tensor(read_image(picture)), scene))
    return row, item.name, ""


def _measured(here: _Loaded, item: Item, after: torch.Tensor, scene: dict | None) -> dict:
    """All that is measured of an edit, as its PNG has it; None where a metric does not apply."""
    mask = torch.from_numpy(item.mask()).float()
    found = here.measures.measure(to_tensor(item.picture), after, mask, item.after)
    found["psnr"] = min(found["psnr"], EXACT)  # JSON has no infinity; NaN stays
    known = success(recipe_of(scene["before"]), recipe_of(scene["after"]), after, here.judge) if scene else {}
    return {"measures": {k: None if math.isnan(v) else round(v, 7) for k, v in found.items()}, "judge": known,
            "measured_by": here.measures.labels}


def run(benchmark: Benchmark, data: Path, folder: Path, rows: Sequence[str], settings: Settings,
        limit: int | None = None, workers: int | None = None) -> Done:
    """Do what is missing of `rows` on the benchmark's items (at most `limit`, see `items.dealt`).

    A row whose models are out of reach is left out, with its reason. Raises UserError for an unknown row, if the folder
    holds a study with other settings or data, and if a worker dies; what is finished stays.
    """
    check_rows(rows)
    folder, items = prepare_folder(folder), dealt(benchmark.items, limit)
    scenes = _scenes(data) if settings.profile.vocabulary is not None else {}
    jobs = [(row, item, scenes.get(item.name), folder) for row in rows for item in items]
    if workers is None:  # one process fills a GPU, and large models fill the memory
        small = settings.profile.vocabulary is not None and (settings.device or default_device()) == "cpu"
        workers = (os.cpu_count() or 1) if small else 1
    not_run: dict[str, str] = {}
    with worker_pool(max(1, min(workers, len(jobs))), _start, (settings,)) as each:
        (about,) = each(_about, [()])
        _check_settings(folder / "settings.json", benchmark, settings, about)
        todo = [job for job in jobs if not _complete(*job, about)]
        with tqdm(total=len(jobs), initial=len(jobs) - len(todo), desc="edits", unit="edit") as bar:
            for row, name, reason in each(_work, todo):
                if reason:
                    not_run[row] = reason
                bar.set_postfix_str(f"{row} {name}")
                bar.update()
    found = (_stored(_files(folder, row, item)[0]) for row, item, _, _ in jobs)
    return Done([record for record in found if record], {row: not_run[row] for row in rows if row in not_run}, about,
                len(items))


def _files(folder: Path, row: str, item: Item) -> tuple[Path, Path]:
    return folder / "records" / row / f"{item.name}.json", folder / "edits" / row / f"{item.name}.png"


def _stored(file: Path) -> dict | None:
    """What a file holds; None if it is not there or damaged, so it is made again."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None


def _complete(row: str, item: Item, scene: dict | None, folder: Path, about: dict) -> bool:
    file, picture = _files(folder, row, item)
    record = _stored(file) if picture.is_file() else None
    return record is not None and record["measured_by"] == about["labels"]


def _check_settings(file: Path, benchmark: Benchmark, settings: Settings, about: dict) -> None:
    wanted = {"profile": settings.profile.name, "models": about["origins"], "steps": settings.stepping.steps,
              "seed": settings.seed, "data": benchmark.digest, "presets": {k: asdict(m) for k, m in METHODS.items()}}
    wanted = json.loads(json.dumps(wanted))
    if other := [key for key, value in (_stored(file) or wanted).items() if wanted.get(key) != value]:
        raise UserError(f"{file.parent} holds a study with other {' and '.join(other)}; give another --output, or "
                        "delete it.")
    write_json(file, wanted)


def _scenes(data: Path) -> dict[str, dict]:
    """The recipes of an emoji benchmark; {} for any other."""
    file = data / SCENES
    try:
        return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    except (OSError, ValueError) as error:
        raise UserError(f"{file} can't be read ({error}); restore it, or take it away.") from error
