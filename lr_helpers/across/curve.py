"""`python -m lr_helpers study predictors`: what a region predictor is worth by the number of pictures that it learned
from, and what each thing that it sees is worth.

Networks are trained on parts of the edits that `train-regions` has kept, and each says of the same tasks where to edit.
There is one edit a task, in the network's first box.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lr_helpers import plots
from lr_helpers.across.asks import emoji_asks
from lr_helpers.across.collect import Collect, editing_models
from lr_helpers.across.settings import Training
from lr_helpers.across.train import learn
from lr_helpers.baselines import Edited
from lr_helpers.boxes import box_mask
from lr_helpers.candidates import Edits
from lr_helpers.editing import Proposals, propose
from lr_helpers.errors import UserError
from lr_helpers.files.canvas import Canvas
from lr_helpers.method import METHODS
from lr_helpers.models.loading import load_models
from lr_helpers.models.profiles import get_profile
from lr_helpers.predictor import INPUTS, RegionPredictor, View, ranking, view_of
from lr_helpers.study import tables
from lr_helpers.study.regions import kinds_and_seeds, measured
from lr_helpers.study.run import Done, Study, read
from lr_helpers.study.tasks import Task, task
from tiny_world.judge import load

MEASURES = ("hit", "success", "target_seen", "source_gone", "others_kept", "psnr", "confidence")
LEFT_OUT = (*((name,) for name in INPUTS), ("patches", "texts"))
"""What the ablation's networks do without: each input, and all that is known of the texts."""


@dataclass(frozen=True)
class Trial:
    """One network: on how many pictures it is trained, without which inputs, and on how many rounds of their edits."""

    pictures: int
    without: tuple[str, ...] = ()
    rounds: int = 1

    @property
    def name(self) -> str:
        """E.g. "400 pictures, without texts", or "400 pictures, 2 rounds"."""
        name = f"{self.pictures} pictures"
        if self.without:
            name += f", without {' and '.join(self.without)}"
        if self.rounds > 1:
            name += f", {self.rounds} rounds"
        return name


@dataclass
class Predictors(Study):
    """Networks on parts of a training's edits of emoji scenes, by so many tasks of each kind."""

    folder: Path
    training: Path
    """The output folder of `train-regions`."""
    pictures: Sequence[int] = ()
    """The curve's numbers of pictures; () for all that there are."""
    ablation: bool = False
    """Also train without each input, on all of them."""
    replace: int = 60
    add: int = 60
    remove: int = 30
    steps: int = 6
    """Denoising steps of an edit."""
    validation: bool = False
    updates: int = 1200
    objective: str = "tight"
    seed: int = 0
    rounds: int = 1
    """Also train on so many rounds of edits, on all pictures."""

    unit = "networks"
    shows = ("curve.png",)

    def __post_init__(self) -> None:
        """Raises UserError for a folder without edits of emoji scenes, and for more pictures or rounds than it has."""
        settings = read(self.training / "settings.json") or {}
        self.there = self._there(0)
        if settings.get("training") != "regions" or self.there < 2:
            raise UserError(f"{self.training} holds no edits of emoji scenes; make some by: python -m lr_helpers "
                            f"train-regions --output {self.training}")
        if settings["models"] != editing_models(get_profile("tiny")):
            raise UserError(f"The edits in {self.training} are of other models than those that are here; make new ones "
                            "by train-regions, in another folder.")
        if self.pictures and max(self.pictures) > self.there:
            raise UserError(f"{self.training} has edits of {self.there} pictures, not of {max(self.pictures)}; give "
                            "smaller numbers, or make more by train-regions.")
        for round_ in range(1, self.rounds):
            if self._there(round_) < self.most:
                raise UserError(f"{self.training} lacks edits of round {round_ + 1} for some of {self.most} pictures; "
                                f"make them by: python -m lr_helpers train-regions --pictures {self.most} --rounds "
                                f"{self.rounds} --output {self.training}")
        self.boxes, self.few = settings["boxes"], settings["steps"]

    def _there(self, round_: int) -> int:
        """How many pictures have edits of this round. Scenes are made in the order of their seeds: one that is missing
        ends what can be used.
        """
        edits = self.training / "edits" / f"round{round_}"
        there = {file.stem for file in edits.glob("*.safetensors")} if edits.is_dir() else set()
        asks = emoji_asks(max(len(there), 2))
        return next((i for i, ask in enumerate(asks) if ask.name not in there), len(asks))

    @property
    def most(self) -> int:
        """On how many pictures the networks behind the curve are trained."""
        return max(self.pictures, default=self.there)

    def settings(self, about: dict) -> dict:
        return {"study": "predictors", "training": read(self.training / "settings.json"),
                "tasks": [self.replace, self.add, self.remove], "steps": self.steps, "validation": self.validation,
                "updates": self.updates, "objective": self.objective, "seed": self.seed}

    def jobs(self) -> list[Trial]:
        found = [Trial(count) for count in self.pictures or (self.most,)]
        found += [Trial(self.most, rounds=rounds) for rounds in range(2, self.rounds + 1)]
        return found + [Trial(self.most, without) for without in LEFT_OUT if self.ablation]

    def file(self, job: Trial) -> str:
        return job.name.replace(", ", "_").replace(" ", "_")

    def load(self) -> None:
        self.models, self.judge = load_models("tiny", device="cpu"), load()
        self.known: dict[str, tuple[Task, Proposals, View, Edits]] = {}

    def do(self, job: Trial) -> dict:
        begun = time.perf_counter()
        training = Training(self.training, get_profile("tiny"), emoji_asks(job.pictures), self.boxes, self.few,
                            job.rounds, updates=self.updates, objective=self.objective, seed=self.seed,
                            without=job.without)
        predictor, _ = learn(training, Collect(training, job.rounds - 1))
        trained = time.perf_counter() - begun
        records = [self._record(predictor, kind, seed) for kind, seed in
                   kinds_and_seeds(self.replace, self.add, self.validation, self.remove)]
        return {"name": job.name, "pictures": job.pictures, "without": list(job.without), "seconds": round(trained, 1),
                "card": predictor.card, "records": records}

    def _record(self, predictor: RegionPredictor, kind: str, seed: int) -> dict:
        """One task by one network."""
        one, found, view, edits = self._known(kind, seed)
        ranked = ranking(predictor, view, found.boxes)
        box = tuple(ranked.boxes[0].tolist())
        (picture,) = edits(ranked.boxes[:1])
        made = Edited(picture, box_mask(box, *picture.shape[1:])[0], edits.evaluations[box], edits.seconds[box],
                      edits.patches[box].box, ranked.confidence)
        return {"task": one.name, "objects": len(one.recipe.objects),
                **measured(one, made, self.models, self.judge)}

    def _known(self, kind: str, seed: int) -> tuple[Task, Proposals, View, Edits]:
        """What all networks share of a task: the proposals, what they see, and the edits that were made so far."""
        one = task(kind, seed)
        if one.name not in self.known:
            canvas = Canvas.of(one.picture, self.models.editor.size)
            found = propose(self.models, canvas, one.source, METHODS["predicted"])
            view = view_of(self.models, canvas, one.source, one.prompt, (found.features, found.attention))
            edits = Edits(self.models, canvas, one.prompt, 42, self.steps, margin=METHODS["predicted"].margin)
            self.known[one.name] = one, found, view, edits
        return self.known[one.name]

    def summarise(self, done: Done) -> dict:
        rows = [{**choice, "row": record["name"]} for record in done.records for choice in record["records"]]
        means = {title: tables.means(part, MEASURES) for title, part in tables.by_group(rows).items()}
        return {**self.settings({}), "trained in seconds": {r["name"]: r["seconds"] for r in done.records},
                "means": means, "calibration": calibration(rows)}

    def show(self, summary: dict, done: Done) -> None:
        for title, means in summary["means"].items():
            tables.print_means(title, means, MEASURES)
        for title, bins in summary["calibration"].items():
            tables.print_means(f"{title}, by the predictor's confidence", bins, ("hit", "success"))
        curve = sorted(trial.pictures for trial in self.jobs() if trial == Trial(trial.pictures))
        if len(curve) > 1:
            panels = {}
            for title, means in summary["means"].items():
                points = [means[Trial(count).name] for count in curve]
                panels[title] = {said: [p[name] for p in points] for said, name in
                                 (("task done", "success"), ("hit", "hit")) if name in points[0]}
            self.output.write("curve.png", plots.as_png(plots.show_bands(curve, panels, "training pictures")))


BINS = (0.0, 0.25, 0.5, 0.75, 0.9)
"""Confidences from which on a row of the calibration counts."""


def calibration(rows: Sequence[dict]) -> dict:
    """By network, how often the region was right and the task was done, by the confidence in it."""
    found = {}
    for name, own in tables.rows_of(rows).items():
        bins: dict[str, list[dict]] = {}
        for record in own:
            low = max(low for low in BINS if low <= record["confidence"])
            bins.setdefault(f"from {low:g}", []).append(record)
        found[name] = {title: tables.means_of(part, ("hit", "success")) for title, part in sorted(bins.items())}
    return found
