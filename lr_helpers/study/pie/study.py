"""`python -m lr_helpers study pie`: every item of a benchmark by every row, each edit kept as PNG beside its record."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from lr_helpers.baselines import Parts
from lr_helpers.errors import UserError
from lr_helpers.files.outputs import refuse_inside
from lr_helpers.files.pictures import read_image, to_image, to_tensor
from lr_helpers.files.writing import csv_bytes, png_bytes
from lr_helpers.method import METHODS
from lr_helpers.models.loading import default_device, load_models
from lr_helpers.models.profiles import Profile
from lr_helpers.models.region_weights import which
from lr_helpers.study.measures import EXACT
from lr_helpers.study.metrics import load_measures
from lr_helpers.study.pie import table
from lr_helpers.study.pie.emoji import SCENES, recipe_of, success
from lr_helpers.study.pie.items import MAPPING, Benchmark, Item, dealt, load
from lr_helpers.study.pie.rows import ROWS, asked, check_rows, edit, overlap
from lr_helpers.study.run import Done, Study, read
from tiny_world import judge

Job = tuple[str, Item, dict | None]
"""Row, item, and of an emoji scene its recipes."""


@dataclass
class Pie(Study):
    """So many items of the benchmark in the folder `data`, by these rows."""

    folder: Path
    data: Path
    profile: Profile
    rows: Sequence[str] = ROWS
    limit: int | None = None
    """At most so many items, see `items.dealt`; None for all."""
    steps: int | None = None
    """Denoising steps of rows that have none of their own; None for the profile's."""
    seed: int = 42
    device: str | None = None
    allow_cpu: bool | None = None
    """As for `load_models`."""

    unit = "edits"
    shows = ("edits.csv", "table.md")
    asks_models = True  # which origins served, and who measures, decides what is kept

    def __post_init__(self) -> None:
        """Raises UserError for rows that there are not, and, after all that is wrong has been printed, if an entry of
        the benchmark can't be used.
        """
        check_rows(self.rows)
        refuse_inside(self.folder, [self.data])
        self.benchmark: Benchmark = load(self.data)
        for problem in self.benchmark.problems:
            print(problem, file=sys.stderr)
        if self.benchmark.problems:
            raise UserError(f"{self.data / MAPPING} has {len(self.benchmark.problems)} problems, listed above; fix "
                            "these entries, or take them out.")
        self.items = dealt(self.benchmark.items, self.limit)
        if self.steps is not None:
            self.profile = replace(self.profile, steps=self.steps)

    def settings(self, about: dict) -> dict:
        return {"profile": self.profile.name, "models": about["origins"], "steps": self.profile.steps,
                "screening_steps": self.profile.screening_steps, "solver": self.profile.solver,
                "seed": self.seed, "data": self.benchmark.digest, "regions": which(self.profile.regions),
                "rivals": self.profile.rivals, "presets": {name: asdict(method) for name, method in METHODS.items()}}

    def weights(self) -> str | None:
        return super().weights() if self.profile.name == "tiny" else None

    def jobs(self) -> list[Job]:
        scenes = read_scenes(self.data) if self.profile.vocabulary is not None else {}
        return [(row, item, scenes.get(item.name)) for row in self.rows for item in self.items]

    def file(self, job: Job) -> str:
        row, item, _ = job
        return f"{row}/{item.name}"

    def picture(self, job: Job) -> Path:
        """The edit's file."""
        return self.folder / self.names(job)[0]

    def names(self, job: Job) -> list[str]:
        """Its picture and its record."""
        return [f"edits/{self.file(job)}.png", *super().names(job)]

    def row(self, job: Job) -> str:
        return job[0]

    def processes(self) -> int:
        """One fills a GPU, and large models fill the memory."""
        # Only the emoji world's models are so small that each core can have its own.
        small = self.profile.vocabulary is not None and (self.device or default_device(self.profile)) == "cpu"
        return super().processes() if small else 1

    def load(self) -> None:
        self.models, self.judge = load_models(self.profile, self.device, allow_cpu=self.allow_cpu), judge.load()
        self.measures, self.parts = load_measures(self.models), Parts(self.models.profile, self.models)

    def about(self) -> dict:
        """Model origins by part, device, and which models measure ("labels", "of") or can't ("missing")."""
        return {"origins": self.models.origins, "device": self.models.device, "labels": self.measures.labels,
                "missing": self.measures.missing, "of": self.measures.of}

    def complete(self, job: Job, about: dict) -> bool:
        """What was measured by other models is measured again."""
        # An edit that is there is not made again, though it may have to be measured again.
        record = self._kept(job)
        return record is not None and record["measured_by"] == about["labels"]

    def _kept(self, job: Job) -> dict | None:
        """The record of an edit whose picture is there."""
        return read(self.record(job)) if self.picture(job).is_file() else None

    def do(self, job: Job) -> dict:
        row, item, scene = job
        record = self._kept(job)
        if record is None:
            made = edit(row, item, self.models, self.parts, self.seed)
            source, prompt = asked(row, item)
            record = {"id": item.name, "row": row, "kind": item.kind, "source": source, "prompt": prompt,
                      "evaluations": made.evaluations, "seconds": round(made.seconds, 3)}
            if made.region is not None:
                record["iou"] = round(overlap(made.region, item), 5)
            picture, stored = self.names(job)
            self.output.remove(stored)  # a record is only ever beside its own picture
            self.output.write(picture, png_bytes(to_image(made.picture)))
        # Measured is what the PNG holds.
        return record | self._measured(item, to_tensor(read_image(self.picture(job))), scene)

    def _measured(self, item: Item, after: torch.Tensor, scene: dict | None) -> dict:
        """All that is measured of an edit; None where a metric does not apply."""
        mask = torch.from_numpy(item.mask()).float()
        found = self.measures.measure(to_tensor(item.picture), after, mask, item.after)
        found["psnr"] = min(found["psnr"], EXACT)  # JSON has no infinity; NaN stays
        known = {}
        if scene:
            known = success(recipe_of(scene["before"]), recipe_of(scene["after"]), after, self.judge)
        return {"measures": {k: None if math.isnan(v) else round(v, 7) for k, v in found.items()}, "judge": known,
                "measured_by": self.measures.labels}

    def summarise(self, done: Done) -> dict:
        return {"profile": self.profile.name, "steps": self.profile.steps, "seed": self.seed,
                "items": len(self.items), "data": self.benchmark.digest, **done.about,
                "not_run": {row: done.not_run[row] for row in self.rows if row in done.not_run},
                "groups": table.summarise(done.records), "published": table.published()}

    def show(self, summary: dict, done: Done) -> None:
        few = self.profile.screening_steps
        screened = f" ({few} for candidates)" if few else ""
        setting = (f"{len(self.items)} items of {len(self.benchmark.items)} in `{self.data.name}`, profile "
                   f"`{self.profile.name}`, {self.profile.steps} denoising steps{screened} where a row has none of its "
                   f"own, seed {self.seed}, on {summary['device']}.")
        self.output.write("edits.csv", csv_bytes(table.COLUMNS, table.flat(done.records, percent=True)))
        self.output.write("table.md", table.page(summary, setting).encode(errors="backslashreplace"))
        print(table.page({**summary, "groups": {"all": summary["groups"]["all"]}}, setting))


def read_scenes(data: Path) -> dict[str, dict]:
    """The recipes of an emoji benchmark; {} for any other."""
    file = data / SCENES
    try:
        return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    except (OSError, ValueError) as error:
        raise UserError(f"{file} can't be read ({error}); restore it, or take it away.") from error
