"""The edits that a predictor learns from: of each picture some boxes, each edited once and judged by the losses.

Every picture has a file of its own, written whole when its edits are made, so a run that was stopped goes on; and
several processes, on one machine or on many with a common folder, can make them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import torch
from safetensors.torch import load_file, save

from lr_helpers.across.asks import Ask
from lr_helpers.across.settings import Training
from lr_helpers.batch import key
from lr_helpers.boxes import Box
from lr_helpers.candidates import TERMS, Candidates
from lr_helpers.editing import propose
from lr_helpers.files.canvas import Canvas
from lr_helpers.files.outputs import Output
from lr_helpers.method import METHODS
from lr_helpers.models.loading import Models, load_models
from lr_helpers.models.profiles import Profile
from lr_helpers.models.region_weights import which
from lr_helpers.predictor import Example, RegionPredictor, View, models_of, view_of, weighed
from lr_helpers.study.run import Done, Study, read

METHOD = METHODS["learned"].but(centre_texts=False, standardise_terms=False, occlusion_weight=0.0)
"""Whose proposals are the boxes; only those that are edited are hidden too, for the occlusion term. Terms are kept as
they are, so that whoever learns from them can choose their unit. Texts stay as they are: the direction loss compares
differences, in which what all texts have in common falls out."""
SEED = 42
"""Of all edits: what differs between two boxes of a picture is the box, not the noise."""
HALF = ("features", "patches")
"""Kept in half precision: they are the bulk of a file."""


def some_boxes(boxes: torch.Tensor, values: torch.Tensor, count: int, known: Sequence[Box], draw: torch.Generator,
               best: int) -> list[Box]:
    """`count` different ones of the (N, 4) boxes, none of `known`: the `best` of lowest value, the others by lot."""
    ranked = [tuple(box) for box in boxes[values.argsort(stable=True)].tolist()]
    left = [box for box in dict.fromkeys(ranked) if box not in set(known)]
    chosen, others = left[:best], left[best:]
    drawn = torch.randperm(len(others), generator=draw)[:max(count - len(chosen), 0)].tolist()
    return [*chosen, *(others[i] for i in sorted(drawn))][:count]


def tried(models: Models, canvas: Canvas, source: str, prompt: str, name: str, count: int, steps: int, *,
          predictor: RegionPredictor | None = None, known: Sequence[Box] = (),
          liked: float = 0.375) -> tuple[View, Candidates]:
    """What the network sees of a picture, and `count` of its boxes, (count, 1, 4), each edited once.

    Three eighths of the boxes, or another share `liked`, are those whose patches look most like the source, the others
    are drawn at random: those that are right for replacing are wrong for adding. With a `predictor` half are those that
    it likes best: where it is wrong, it shall learn so. `known`: boxes that have been edited before; `name` seeds the
    draw.
    """
    found = propose(models, canvas, source, METHOD.but(shortlist=0))
    view = view_of(models, canvas, source, prompt, (found.features, found.attention))
    boxes = found.boxes.reshape(-1, 4)
    draw = torch.Generator().manual_seed(crc32(name.encode()) + len(known))
    if predictor is None:
        chosen = some_boxes(boxes, found.edit_free.flatten(), count, known, draw, round(liked * count))
    else:
        with torch.no_grad():
            chosen = some_boxes(boxes, -predictor(view, boxes), count, known, draw, round(0.5 * count))
    # CLIP has looked already; and what is stored are edits of just so many steps.
    rows = {tuple(box): i for i, box in enumerate(boxes.tolist())}
    own = torch.tensor([rows[box] for box in chosen])
    table = Candidates(models, canvas, source, prompt, torch.tensor(chosen)[:, None],
                       METHOD.but(steps=steps, screening_steps=steps, occlusion_weight=1.0), SEED,
                       free={name: values.flatten()[own][:, None] for name, values in found.free.items()})
    table.losses(None)
    return view, table


def edited(models: Models, ask: Ask, count: int, steps: int, *, predictor: RegionPredictor | None = None,
           known: Sequence[Box] = ()) -> dict[str, torch.Tensor]:
    """One picture's view, boxes and terms as they are stored; arguments as for `tried`."""
    canvas = Canvas(ask.picture(), models.editor.size)
    view, table = tried(models, canvas, ask.source, ask.prompt, ask.name, count, steps, predictor=predictor,
                        known=known)
    terms = {f"term.{name}": table.terms[name][:, 0].contiguous() for name in TERMS}
    seen = {"features": view.features, "attention": view.attention, "patches": view.patches, "texts": view.texts}
    seen = {name: (value.half() if name in HALF else value).contiguous() for name, value in seen.items()}
    return {**seen, **terms, "shape": torch.tensor(view.shape), "boxes": table.boxes[:, 0].int().contiguous()}


def terms_of(files: Sequence[Path]) -> dict[str, torch.Tensor]:
    """The terms (N,) of one picture's edits, over all rounds."""
    rounds = [load_file(file) for file in files]
    return {name: torch.cat([one[f"term.{name}"] for one in rounds]) for name in TERMS}


def example(files: Sequence[Path], weights: dict[str, float], scales: dict[str, float] | None = None) -> Example:
    """What is stored of one picture, over all rounds, under these weights of the terms; `scales` as for `weighed`."""
    rounds = [load_file(file) for file in files]
    first = rounds[0]
    view = View(first["features"].float(), first["attention"], first["patches"].float(), first["texts"],
                tuple(first["shape"].tolist()))
    boxes = torch.cat([one["boxes"] for one in rounds]).long()
    return Example(view, boxes, weighed(terms_of(files), weights, scales))


def editing_models(profile: Profile) -> dict[str, str]:
    """What decides the edits that a training keeps: the profile's settings, and its models by their contents."""
    known = key.identity(profile) or {}
    return {part: known[part] for part in ("profile", "editor", "backbone", "clip") if part in known}


@dataclass
class Collect(Study):
    """One round of edits of all pictures."""

    training: Training
    round: int = 0
    """From 1 on, the network of the round before chooses half of the boxes."""
    rank: int = 0
    ranks: int = 1
    """This process does every so manieth picture."""

    unit = "pictures"
    asks_models = True

    @property
    def folder(self) -> Path:
        return self.training.output

    def settings(self, about: dict) -> dict:
        return {"training": "regions", "profile": self.training.profile.name, "models": about["models"],
                "boxes": self.training.boxes, "steps": self.training.steps}

    def weights(self) -> None:
        """The settings hold what the models are."""

    def jobs(self) -> list[Ask]:
        return list(self.training.asks[self.rank::self.ranks])

    def file(self, job: Ask) -> str:
        return f"round{self.round}/{job.name}"

    def tensors(self, job: Ask, round_: int | None = None) -> Path:
        """Where a picture's edits of a round lie."""
        return self.folder / self._name(job, round_)

    def _name(self, job: Ask, round_: int | None = None) -> str:
        return f"edits/round{self.round if round_ is None else round_}/{job.name}.safetensors"

    def network(self, round_: int) -> Path:
        """What was trained on the edits up to a round."""
        return self.folder / f"networks/round{round_}.safetensors"

    @property
    def output(self) -> Output:
        return Output(self.folder, "training")

    def names(self, job: Ask) -> list[str]:
        return [self._name(job), *super().names(job)]

    def complete(self, job: Ask, about: dict) -> bool:
        found = read(self.record(job))
        # Another list of pictures may have given the same name to something else, or another network have chosen boxes.
        asked = {"source": job.source, "prompt": job.prompt, **self._from(job)}
        return found is not None and asked == {key: found.get(key) for key in asked} and self.tensors(job).exists()

    def _from(self, job: Ask) -> dict[str, str | None]:
        """Digests of what decides a picture's edits beside its texts: its file, and the network that chooses boxes."""
        return {"image": which(job.image), "network": which(self.network(self.round - 1)) if self.round else None}

    def processes(self) -> int:
        # A large model fills the GPU, or the memory, alone.
        return super().processes() if self.training.profile.size < 256 and self.ranks == 1 else 1

    def load(self) -> None:
        self.models = load_models(self.training.profile, device=self.training.device,
                                  allow_cpu=self.training.allow_cpu)
        self.predictor = RegionPredictor.load(self.network(self.round - 1)) if self.round else None

    def about(self) -> dict:
        """"models" decide the edits; "encoders", as `predictor.models_of` gives them, are what a network depends on."""
        # Known for sure once they are loaded: before the first download they are not.
        return {"models": editing_models(self.training.profile), "encoders": models_of(self.models)}

    def do(self, job: Ask) -> dict:
        before = self.models.editor.evaluations
        known = [tuple(box) for i in range(self.round) for box in load_file(self.tensors(job, i))["boxes"].tolist()]
        found = edited(self.models, job, self.training.boxes, self.training.steps, predictor=self.predictor,
                       known=known)
        # The record comes last: a picture counts as done when both are there.
        self.output.write(self._name(job), save(found))
        return {"name": job.name, "kind": job.kind, "source": job.source, "prompt": job.prompt, **self._from(job),
                "boxes": len(found["boxes"]), "evaluations": self.models.editor.evaluations - before}

    def summarise(self, done: Done) -> dict:
        return {"pictures": len(done.records), "edits": sum(r["boxes"] for r in done.records),
                "evaluations": sum(r["evaluations"] for r in done.records)}

    def show(self, summary: dict, done: Done) -> None:
        print(", ".join(f"{value:,} {name}" for name, value in summary.items()))
