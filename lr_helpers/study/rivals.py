"""`python -m lr_helpers study rivals`: settings of the other editors, chosen on validation scenes.

The weights of `learned` were chosen on scenes of this kind. A rival at its pipeline's defaults, which were chosen for
large models and photographs, would meet it unprepared. So each gets the settings that serve it best here: the most
tasks done, and of as many the best background. `data/models.toml` holds them for `tiny`, and every study takes them
from there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from lr_helpers.baselines import TITLES, settings_of
from lr_helpers.files.writing import csv_bytes
from lr_helpers.models.profiles import get_profile
from lr_helpers.study import tables
from lr_helpers.study.compare import AT, MEASURES, Compare
from lr_helpers.study.regions import kinds_and_seeds
from lr_helpers.study.run import Done
from lr_helpers.study.variants import Variant

GRID: Mapping[str, Mapping[str, Sequence[float]]] = {
    "sdedit": {"guidance": (2.5, 5.0, 7.5), "strength": (0.4, 0.5, 0.6, 0.7, 0.8)},
    "diffedit": {"guidance": (2.5, 5.0, 7.5), "ratio": (1.5, 2.0, 3.0)},
    "instruct_pix2pix": {"guidance": (2.5, 5.0, 7.5), "image_guidance": (1.0, 1.5, 2.0)},
    "ledits_pp": {"guidance": (5.0, 10.0, 15.0), "threshold": (0.6, 0.75, 0.85)}}
"""By row, what is tried of its settings, each with each; among them the pipeline's default."""


def variants() -> list[Variant]:
    """All that is tried, at AT steps; names say the settings, e.g. "sdedit, guidance 2.5, strength 0.4"."""
    found = []
    for row, grid in GRID.items():
        for values in product(*grid.values()):
            own = dict(zip(grid, values, strict=True))
            found.append(Variant(named(row, own), row, {"steps": AT, **own}))
    return found


def named(row: str, settings: Mapping[str, float]) -> str:
    """What a variant is called."""
    return ", ".join([row, *(f"{name} {value:g}" for name, value in settings.items())])


def usual(row: str) -> dict[str, Any]:
    """What the row's settings in GRID are where nobody chose any."""
    guidance = get_profile("tiny").guidance  # who has no guidance of its own takes the profile's
    return {name: settings_of(row)[name][0] or guidance for name in GRID[row]}


@dataclass
class Rivals(Compare):
    """So many tasks of each kind, each by every variant."""

    replace: int = 24
    add: int = 12
    validation: bool = True

    def settings(self, about: dict) -> dict:
        return {"study": "rivals", "steps": AT}

    def jobs(self) -> list[tuple[str, int, Variant]]:
        tasks = kinds_and_seeds(self.replace, self.add, True)
        return [(kind, seed, variant) for variant in variants() for kind, seed in tasks]

    def summarise(self, done: Done) -> dict:
        means = tables.means(done.records, MEASURES)
        return {**self.scenes, "study": "rivals", "means": means, "not_run": done.not_run,
                "usual": {row: usual(row) for row in GRID}, "chosen": {row: best(row, means) for row in GRID}}

    def show(self, summary: dict, done: Done) -> None:
        self.output.write("edits.csv", csv_bytes(("task", "objects", "row", *MEASURES), done.records))
        tables.print_means(f"settings of other editors, at {AT} steps", summary["means"],
                           ("success", "psnr", "evaluations"))
        for row, settings in summary["chosen"].items():
            print(f"{TITLES[row]}: {settings}, usual {summary['usual'][row]}")


def best(row: str, means: Mapping[str, dict]) -> dict[str, float]:
    """The settings of a row under which it does the most tasks, and of several such those that keep the background."""
    tried = [dict(zip(GRID[row], values, strict=True)) for values in product(*GRID[row].values())]
    there = [own for own in tried if named(row, own) in means]
    if not there:
        return {}

    def worth(own: Mapping[str, float]) -> tuple[float, float]:
        found = means[named(row, own)]
        return found["success"]["value"], found["psnr"]["value"] if "psnr" in found else 0.0

    return max(there, key=worth)
