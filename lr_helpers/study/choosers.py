"""The ways to choose a region that are compared, each with what it would cost if it ran alone."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

import torch

from lr_helpers.anchors import anchor_centres, top_anchors
from lr_helpers.boxes import Box
from lr_helpers.candidates import Candidates, Edits
from lr_helpers.editing import Proposals, final_value, learn_region, propose
from lr_helpers.learning import NoGradient, make_estimator
from lr_helpers.method import METHODS, Method
from lr_helpers.models.loading import Models
from lr_helpers.study.tasks import Task

LATER = {"estimator", "temperature", "samples", "iterations", "lr", "update_every", "entropy_weight", "clip_weight",
         "structure_weight", "direction_weight", "source_weight", "alpha", "beta", "choice", "steps", "guidance"}
"""Settings that decide nothing before the first edit; methods that differ in these alone share their proposals."""


@dataclass
class Choice:
    """A chooser's box, and what it took to choose and to edit it."""

    box: Box
    edits: int
    """Different edits made, the final one included."""
    seconds: float
    """On this machine, one thread; a shared edit counts as if it had been made for this chooser."""
    trace: list[tuple[int, Box]] = field(default_factory=list)
    """Along the iterations: edits paid by then, had it stopped there, and the box it would have chosen."""


class Unpaid:
    """A problem for an estimator that does not look at the losses: it only counts the edits that are asked for."""

    def __init__(self, candidates: Candidates):
        self.asked = torch.zeros_like(candidates.kept)

    def losses(self, choices: torch.Tensor) -> torch.Tensor:
        """(K,) choices → zeros (K,)."""
        self.asked |= torch.nn.functional.one_hot(choices, self.asked.shape[1]).bool()
        return torch.zeros(len(choices))


class Scene:
    """A task with its models and its store of edits; what several choosers need is found once."""

    def __init__(self, task: Task, models: Models, steps: int, seed: int = 42):
        self.task, self.models, self.steps, self.seed, self.picture = task, models, steps, seed, task.picture
        self.edits = Edits(models, self.picture, task.prompt, seed, steps)
        self._found: dict[tuple, tuple[Proposals, float]] = {}

    def method(self, name: str, **changes) -> Method:
        """A preset at the study's number of denoising steps."""
        return METHODS[name].but(steps=self.steps, **changes)

    def found(self, method: Method) -> tuple[Proposals, float]:
        """The method's proposals for this picture, and the seconds they took."""
        key = tuple(value for name, value in vars(method).items() if name not in LATER)
        if key not in self._found:
            begun = time.perf_counter()
            proposals = propose(self.models, self.picture, self.task.source, method)
            self._found[key] = proposals, time.perf_counter() - begun
        return self._found[key]

    def table(self, method: Method) -> Candidates:
        """A fresh table of candidates, nothing asked of it yet."""
        found, _ = self.found(method)
        return Candidates(self.models, self.picture, self.task.source, self.task.prompt, found.boxes, method,
                          self.seed, kept=found.kept, occlusion=found.occlusion, edits=self.edits)

    def one(self, box: Box) -> Choice:
        """A box that was chosen without any edit but its own."""
        self.edits(torch.tensor([box]))
        return Choice(box, 1, self.edits.seconds[box])


def random_anchors(scene: Scene) -> Choice:
    """The paper's first ablation: nine random patches as anchors, boxes of random height and width, highest S."""
    rng = Random(f"by lot {scene.task.name}")
    h, w = scene.found(scene.method("paper"))[0].attention.shape[1:]
    return _best_of(scene, torch.tensor([[rng.randrange(h), rng.randrange(w)] for _ in range(9)]), rng)


def random_sizes(scene: Scene) -> Choice:
    """The paper's second ablation: the nine most attended patches, boxes of random height and width, highest S."""
    rng = Random(f"anchor by lot {scene.task.name}")
    return _best_of(scene, top_anchors(scene.found(scene.method("paper"))[0].attention, 9), rng)


def _best_of(scene: Scene, anchors: torch.Tensor, rng: Random) -> Choice:
    """The highest S among one box at each anchor: height and width uniform up to the picture's, clamped to it."""
    method, size = scene.method("paper"), scene.picture.shape[-1]
    found, seconds = scene.found(method)
    boxes = []
    for x, y in anchor_centres(anchors, tuple(found.attention.shape[1:]), size).tolist():
        # At least two patches of the ViT each way: the editor has nothing to paint in less.
        width, height = (rng.uniform(2 * size / found.attention.shape[-1], size) for _ in range(2))
        boxes.append([[max(round(x - width / 2), 0), max(round(y - height / 2), 0),
                       min(round(x + width / 2), size), min(round(y + height / 2), size)]])
    table = Candidates(scene.models, scene.picture, scene.task.source, scene.task.prompt, torch.tensor(boxes), method,
                       scene.seed, edits=scene.edits)
    table.losses(None)
    return Choice(tuple(boxes[int(table.score.argmax())][0]), table.made, seconds + table.seconds)


def official_code(scene: Scene) -> Choice:
    """The preset `official_code`. Its losses change nothing, so the edits it draws are counted, not made."""
    method = scene.method("official_code")
    found, seconds = scene.found(method)
    drawn = scene.table(method)
    asked = Unpaid(drawn)
    counted = NoGradient()
    region = learn_region(found, drawn, method, scene.seed, lambda logits, _, rng: counted(logits, asked, rng))
    k = region.order[0]
    asked.losses(region.best)
    edits = drawn.different(asked.asked)
    return Choice(tuple(drawn.boxes[k, region.best[k]].tolist()), edits, seconds + drawn.seconds / drawn.made * edits)


def learning(method: Method) -> Callable[[Scene], Choice]:
    """A chooser that learns as this method does."""

    def choose(scene: Scene) -> Choice:
        begun = time.perf_counter()
        here = method.but(steps=scene.steps)
        found, seconds = scene.found(here)
        table, made = scene.table(here), []
        plain = make_estimator(here.estimator, here.temperature, here.samples)

        def counting(logits: torch.Tensor, problem: Candidates, rng: torch.Generator) -> torch.Tensor:
            loss = plain(logits, problem, rng)
            made.append(~table.loss.isnan())
            return loss

        paid = sum(scene.edits.seconds.values())
        region = learn_region(found, table, here, scene.seed, counting)
        edited = sum(scene.edits.seconds.values()) - paid  # was spent here, and counts in `table.seconds` already
        k = region.order[0]
        spent = time.perf_counter() - begun - edited + sum(
            scene.edits.seconds[tuple(b)] for b in table.boxes[~table.loss.isnan()].unique(dim=0).tolist())
        choice = Choice(tuple(table.boxes[k, region.best[k]].tolist()), table.made, seconds + spent)
        choice.trace = _trace(scene, here, found, region.history.probabilities, made, (choice.edits, choice.box))
        return choice

    return choose


def _trace(scene: Scene, method: Method, found: Proposals, probabilities: list, made: list,
           end: tuple[int, Box]) -> list[tuple[int, Box]]:
    """Edits paid and box chosen, had the learning stopped after each iteration; only where something changes."""
    table, trace = scene.table(method), []
    rows = torch.arange(len(found.boxes))
    for before, after in zip(made, probabilities[1:], strict=False):
        best = torch.tensor(after).argmax(1)
        table.losses(best)
        k = int(final_value(table, rows, best, method).argmax())
        wanted = before.clone()
        wanted[rows, best] = True
        point = (table.different(wanted), tuple(table.boxes[k, best[k]].tolist()))
        if not trace or point != trace[-1]:
            trace.append(point)
    return [*trace, end] if not trace or end != trace[-1] else trace


def exhaustive(scene: Scene) -> Choice:
    """The lowest loss of `learned` over all of its shortlist, no network; the trace is in the shortlist's order."""
    method = scene.method("learned")
    found, seconds = scene.found(method)
    table = scene.table(method)
    boxes, losses = table.boxes[table.kept], table.losses(None)[table.kept]
    free = found.edit_free[table.kept]
    trace, best = [], None
    for n, i in enumerate(free.argsort(stable=True).tolist(), 1):
        best = i if best is None or losses[i] < losses[best] else best
        trace.append((n, tuple(boxes[best].tolist())))
    return Choice(trace[-1][1], table.made, seconds + table.seconds, trace)


def edit_free(scene: Scene) -> Choice:
    """The first of the shortlist: `learned` without any edit but the final one."""
    method = scene.method("learned", shortlist=1)
    found, seconds = scene.found(method)
    choice = scene.one(tuple(found.boxes[found.kept][0].tolist()))
    return Choice(choice.box, 1, choice.seconds + seconds)


def oracle(scene: Scene) -> Choice:
    """The known region. Only for tasks that have one."""
    return scene.one(tuple(scene.task.truth))


CHOOSERS: dict[str, Callable[[Scene], Choice]] = {
    "random_anchors": random_anchors,
    "random_sizes": random_sizes,
    "official_code": official_code,
    "paper": learning(METHODS["paper"]),
    "straight_through": learning(METHODS["learned"].but(estimator="straight_through")),
    "reinforce": learning(METHODS["learned"].but(estimator="reinforce")),
    "expectation": learning(METHODS["learned"]),
    "exhaustive": exhaustive,
    "edit_free": edit_free,
    "oracle": oracle,
}
"""By name. straight_through, reinforce and expectation are `learned` with that estimator; expectation is `learned`."""
TITLES = {
    "random_anchors": "random anchors and sizes", "random_sizes": "DINO anchors, random sizes",
    "official_code": "official code", "paper": "paper", "straight_through": "learned, straight-through",
    "reinforce": "learned, reinforce", "expectation": "learned (expectation)",
    "exhaustive": "exhaustive, same shortlist", "edit_free": "occlusion alone, no edit", "oracle": "known region",
}
