"""Region choosers of the paper and ours: they propose boxes, edit some of them, and rank the edits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from random import Random

import torch

from lr_helpers.anchors import anchor_centres, top_anchors
from lr_helpers.baselines.base import Baseline, Made, Trace
from lr_helpers.baselines.request import Request, Share
from lr_helpers.boxes import Box, box_mask, grown
from lr_helpers.candidates import Candidates
from lr_helpers.editing import Proposals, Search, final_value, predict, search
from lr_helpers.learning import Estimator, Problem, make_estimator
from lr_helpers.method import METHODS, Method, get_method, setting


def _inside(picture: torch.Tensor, box: Box, margin: float, retrace: Callable[[], Trace] | None = None) -> Made:
    """This edit, whose region is the box; painted was the box with the margin."""
    shape = tuple(picture.shape[1:])
    painted = tuple(grown(torch.tensor(box), margin, shape).tolist()) if margin else None
    return Made(picture, box_mask(box, *shape)[0], painted, retrace)


@dataclass(frozen=True, eq=False)
class _Chooser(Baseline):
    """A chooser that proposes as a method does."""

    method: str | Method = field(default="learned", metadata={"help": f"a preset ({', '.join(METHODS)}) or a Method"})

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.method, str):
            get_method(self.method)  # complains of an unknown one

    @property
    def _method(self) -> Method:
        """The method with the denoising steps that hold: this row's, else the method's own, else the profile's."""
        method = get_method(self.method) if isinstance(self.method, str) else self.method
        return method.but(steps=self.steps or method.steps or self.models.profile.steps)


@dataclass(frozen=True, eq=False)
class Learned(_Chooser):
    """The whole method, as `edit` does it: a region network learns which proposals to edit."""

    def _edit(self, request: Request, share: Share) -> Made:
        method, reached = self._method, []
        found = share.proposals(method)
        # The same search as `edit` makes, with edits that other rows may have made.
        done = search(self.models, request.picture, request.source, request.prompt, method, request.seed, found=found,
                      edits=partial(share.edits, guidance=method.guidance), estimator=_noting(method, reached))
        # The best anchor's most probable box is the result.
        k = done.region.order[0]
        m = int(done.region.best[k])

        def trace() -> Trace:
            # By a share of its own: what it asks for is not charged.
            table = Share(request, self.models).candidates(method, found.boxes, kept=found.kept,
                                                           free=found.free)
            return retrace(done, reached, table, method)

        return _inside(done.candidates.picture(k, m), tuple(found.boxes[k, m].tolist()), method.margin, trace)


def _noting(method: Method, reached: list[torch.Tensor]) -> Estimator:
    """The method's estimator, which also notes what was edited, (K, M) boolean, after each update."""
    plain = make_estimator(method.estimator, method.temperature, method.samples)

    def estimate(logits: torch.Tensor, problem: Problem, generator: torch.Generator) -> torch.Tensor:
        loss = plain(logits, problem, generator)
        # An entry without a loss has not been edited.
        reached.append(~problem.loss.isnan())
        return loss

    return estimate


def retrace(done: Search, reached: list[torch.Tensor], table: Candidates, method: Method) -> Trace:
    """What a search would have chosen, had it stopped after each update, and for how many different edits.

    `reached` as `_noting` notes it; `table`: the same proposals as the search's, of which boxes may be asked for that
    the search passed over. Points that change nothing are left out.
    """
    rows, trace = torch.arange(len(table.boxes)), []
    # The network that an update leaves is the one of the next entry of the history.
    for before, after in zip(reached, done.region.history.probabilities[1:], strict=False):
        # It would have edited each anchor's most probable box, and taken the best of these edits.
        best = torch.tensor(after).argmax(1)
        table.losses(best)
        k = int(final_value(table, rows, best, method).argmax())
        paid = before.clone()
        paid[rows, best] = True
        _append(trace, (table.different(paid), tuple(table.boxes[k, best[k]].tolist())))
    k = done.region.order[0]
    _append(trace, (done.candidates.made, tuple(table.boxes[k, done.region.best[k]].tolist())))
    return trace


def _append(trace: Trace, point: tuple[int, Box]) -> None:
    if not trace or point != trace[-1]:
        trace.append(point)


@dataclass(frozen=True, eq=False)
class Predicted(_Chooser):
    """A network that was trained on other pictures says where, as `edit` asks it."""

    method: str | Method = field(default="predicted", metadata={"help": "a preset that predicts, or such a Method"})

    def _edit(self, request: Request, share: Share) -> Made:
        method = self._method
        found = share.proposals(method)
        done = predict(self.models, request.picture, request.source, request.prompt, method, request.seed, found=found,
                       edits=partial(share.edits, guidance=method.guidance))
        k, m = done.order[0]
        box = tuple(found.boxes[k, m].tolist())
        # Nothing is learned on the way: there is one choice, for so many different edits.
        trace = [(done.candidates.made, box)]
        made = _inside(done.candidates.picture(k, m), box, method.margin, lambda: trace)
        return made._replace(confidence=done.confidence)


@dataclass(frozen=True, eq=False)
class Exhaustive(_Chooser):
    """The lowest loss over the whole shortlist, without a network."""

    def _edit(self, request: Request, share: Share) -> Made:
        method = self._method
        found = share.proposals(method)
        table = share.candidates(method, found.boxes, kept=found.kept, free=found.free)
        losses = table.losses(None)[table.kept]
        boxes, places = [tuple(box) for box in table.boxes[table.kept].tolist()], table.kept.nonzero().tolist()
        # In the order in which the shortlist has them: what was best so far?
        best, trace = None, []
        for number, i in enumerate(found.edit_free[table.kept].argsort(stable=True).tolist(), 1):
            if best is None or losses[i] < losses[best]:
                best = i
            trace.append((number, boxes[best]))
        table.finish(*places[best])
        return _inside(table.picture(*places[best]), boxes[best], method.margin, lambda: trace)


@dataclass(frozen=True, eq=False)
class EditFree(_Chooser):
    """The first of the shortlist: the box that the edit-free terms like best, chosen without any edit."""

    def _edit(self, request: Request, share: Share) -> Made:
        method = self._method.but(shortlist=1)
        found = share.proposals(method)
        box = tuple(found.boxes[found.kept][0].tolist())
        picture = share.edits(method.steps, method.guidance, margin=method.margin)(torch.tensor([box]))[0]
        return _inside(picture, box, method.margin, lambda: [(1, box)])  # one choice, for the one edit


RANDOM_SEEDS = {"random": "by lot", "attended": "anchor by lot"}
"""By where the anchors are: the words that seed the draw. Stored studies were drawn with these."""


@dataclass(frozen=True, eq=False)
class RandomBoxes(_Chooser):
    """The paper's ablations: at each anchor a box of random height and width, and of their edits the highest S."""

    method: str | Method = field(default="paper", metadata={
        "help": "whose attention, number of anchors and ranking: a preset or a Method"})
    anchors: str = setting("random", "'random' patches, or those that the backbone 'attended' to most",
                           options=tuple(RANDOM_SEEDS))

    def _edit(self, request: Request, share: Share) -> Made:
        method = self._method
        boxes = self._boxes(request, share.proposals(method), method.anchors)
        table = share.candidates(method, boxes)
        # Edits every box, then the paper's score ranks them.
        table.losses(None)
        best = int(table.score.argmax())
        table.finish(best, 0)
        return _inside(table.picture(best, 0), tuple(boxes[best, 0].tolist()), method.margin)

    def _boxes(self, request: Request, found: Proposals, count: int) -> torch.Tensor:
        """(count, 1, 4): height and width uniform up to the picture's side, clamped to it."""
        seed = request.name or f"{request.source}, {request.prompt}, {request.seed}"
        rng, size = Random(f"{RANDOM_SEEDS[self.anchors]} {seed}"), request.picture.shape[-1]
        height, width = found.attention.shape[1:]
        # Anchors are (row, column) of the backbone's patches.
        if self.anchors == "random":
            anchors = torch.tensor([[rng.randrange(height), rng.randrange(width)] for _ in range(count)])
        else:
            anchors = top_anchors(found.attention, count)
        boxes = []
        for x, y in anchor_centres(anchors, (height, width), size).tolist():
            # At least two patches of the ViT each way: the editor has nothing to paint in less.
            across, down = (rng.uniform(2 * size / width, size) for _ in range(2))
            boxes.append([[max(round(x - across / 2), 0), max(round(y - down / 2), 0),
                           min(round(x + across / 2), size), min(round(y + down / 2), size)]])
        return torch.tensor(boxes)
