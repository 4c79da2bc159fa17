"""`python -m lr_helpers study confidence`: from which confidence on is the predictor's first box better left alone?

On scenes for choosing settings, every picture is edited twice: in the network's first box, as by `predicted`, and in
the best of the places that it likes, by trial edits, as by `fast` where it is not confident. A threshold says which of
the two counts, so one run answers for all thresholds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from matplotlib.figure import Figure

from lr_helpers import plots
from lr_helpers.method import METHODS
from lr_helpers.models.loading import load_models
from lr_helpers.models.profiles import Profile, get_profile
from lr_helpers.models.region_weights import which
from lr_helpers.predictor import predictor_of
from lr_helpers.study import tables
from lr_helpers.study.regions import kinds_and_seeds, run_task
from lr_helpers.study.run import Done, Study
from lr_helpers.study.tasks import task
from lr_helpers.study.variants import Variant
from tiny_world.judge import load

THRESHOLDS = (0.0, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""0 never tries, 1 always does."""
MEASURES = ("success", "hit", "psnr", "evaluations")
WAYS = (Variant("first", "predicted", {"method": METHODS["predicted"]}),
        Variant("tried", "predicted", {"method": METHODS["fast"].but(confident=1.0)}))
"""`predicted`, and `fast` that is never confident."""


@dataclass
class Confidence(Study):
    """So many tasks of each kind."""

    folder: Path
    replace: int = 120
    add: int = 60
    remove: int = 40
    strange: int = 60
    """So many of the replacements again in the held-out style, and on held-out textures."""
    steps: int = 6
    """Denoising steps of an edit."""
    regions: str | Path | None = None
    """The region predictor's file, where it is not the profile's."""

    shows = ("thresholds.png",)

    @property
    def profile(self) -> Profile:
        return get_profile("tiny").but(regions=self.regions)

    def settings(self, about: dict) -> dict:
        return {"study": "confidence", "steps": self.steps, "regions": which(self.profile.regions),
                "methods": {way.name: asdict(way.settings["method"]) for way in WAYS}}

    def jobs(self) -> list[tuple[str, int]]:
        return kinds_and_seeds(self.replace, self.add, True, self.remove, self.strange)

    def file(self, job: tuple[str, int]) -> str:
        return f"{job[0]}_{job[1]}"

    def load(self) -> None:
        self.models, self.judge = load_models(self.profile, device="cpu"), load()
        predictor_of(self.models)

    def do(self, job: tuple[str, int]) -> dict:
        return run_task(task(*job), self.models, self.judge, WAYS, self.steps)

    def summarise(self, done: Done) -> dict:
        return {"study": "confidence", "steps": self.steps, "scenes": "validation",
                "tasks": {"replace": self.replace, "add": self.add, "remove": self.remove, "strange": self.strange},
                **summarise(done.records)}

    def show(self, summary: dict, done: Done) -> None:
        for title, means in summary["means"].items():
            tables.print_means(f"{title}, one edit from this confidence on", means, MEASURES)
        tables.print_means("all tasks, less never trying", summary["differences"], MEASURES)
        self.output.write("thresholds.png", plots.as_png(thresholds(summary)))


def flat(records: Sequence[dict]) -> list[dict]:
    """One record for each task and threshold, as `tables` wants them."""
    found = []
    for record in records:
        for threshold in THRESHOLDS:
            first, tried = (record["choices"][way.name] for way in WAYS)
            taken = first if first["confidence"] >= threshold else tried
            found.append({"task": record["task"], "objects": record["objects"], "row": f"{threshold:g}", **taken})
    return found


def summarise(records: Sequence[dict]) -> dict:
    """Means by group, threshold and measure, and over all tasks; there also the paired differences from one edit."""
    every = flat(records)
    by_row = tables.rows_of(every)
    never, *others = by_row
    return {"means": {title: tables.means(part, MEASURES)
                      for title, part in {"all tasks": every, **tables.by_group(every)}.items()},
            "differences": {row: tables.differences(by_row[row], by_row[never], MEASURES) for row in others}}


def thresholds(summary: dict) -> Figure:
    """Task done and hit by threshold, over all tasks; what is added has no known place, so no hit."""
    means = summary["means"]["all tasks"]
    bars = {said: [found[name] for found in means.values()]
            for said, name in (("task done", "success"), ("hit", "hit")) if name in means["0"]}
    return plots.show_bars(list(means), bars, "one edit from this confidence on, else up to four",
                           "share, with 95 % interval")
