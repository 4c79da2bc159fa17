"""What is asked of a way to edit; and the edits and proposals that several rows want of the same picture.

A study runs ten rows on one task, and many of them edit the same boxes. An edit depends on picture, prompt, seed,
steps, guidance, margin and box only, so whoever asks first makes it; who finds it made is charged what it had cost.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import partial

import torch

from lr_helpers.boxes import Box
from lr_helpers.candidates import Candidates, Edits
from lr_helpers.editing import Proposals, propose
from lr_helpers.method import Method
from lr_helpers.models.loading import Models

LATER = {"estimator", "temperature", "samples", "iterations", "lr", "update_every", "entropy_weight", "clip_weight",
         "structure_weight", "direction_weight", "source_weight", "alpha", "beta", "choice", "steps",
         "screening_steps", "guidance", "confident"}
"""Settings that decide nothing before the first edit; methods that differ in these alone share their proposals."""


@dataclass
class Shared:
    """What has been made for a request so far, by whichever row."""

    edits: dict[tuple, Edits] = field(default_factory=dict)
    """By denoising steps, guidance, decoder and margin."""
    proposals: dict[tuple, tuple[Proposals, float]] = field(default_factory=dict)
    """With the seconds they took, by the settings that decide them."""


@dataclass(frozen=True, eq=False)
class Request:
    """What is asked of a way to edit. Rows that are run on the same object share their edits."""

    picture: torch.Tensor
    """(3, S, S) in 0..1, S the profile's size."""
    source: str
    """What is there now, e.g. "bird"; a whole sentence for a row that wants `sentences`, likewise below."""
    prompt: str
    """What is wanted, e.g. "a rabbit"."""
    seed: int = 42
    """The same seed on the same machine gives the same pixels."""
    name: str = ""
    """Seeds the boxes that a row draws at random; texts and seed if it is not given."""
    known: Box | torch.Tensor | None = None
    """The known region, for `known_region`: a box in pixels, or a mask (S, S) that is 1 where to edit, else 0."""
    instruction: str = ""
    """For who follows one; made of source and prompt if it is not given."""
    traced: bool = False
    """Also tell what would have been chosen earlier. Its edits are made beside, and nobody is charged for them."""
    shared: Shared = field(default_factory=Shared, repr=False)


class Share:
    """One row's use of what a request's rows share, and what it was spared by finding things made."""

    def __init__(self, request: Request, models: Models):
        self.request, self.models = request, models
        self.saved_seconds = 0.0
        self.saved_evaluations = 0

    def proposals(self, method: Method) -> Proposals:
        """What the method proposes for the request's picture."""
        # Rows that differ in how they learn propose the same.
        key = tuple(value for name, value in vars(method).items() if name not in LATER)
        known = self.request.shared.proposals
        if key in known:
            self.saved_seconds += known[key][1]
        else:
            begun = time.perf_counter()
            found = propose(self.models, self.request.picture, self.request.source, method)
            known[key] = found, time.perf_counter() - begun
        return known[key][0]

    def edits(self, steps: int, guidance: float | None = None, draft: bool = False,
              margin: float = 0.0) -> SharedEdits:
        """The request's edits at so many denoising steps, as this row pays for them; `guidance` None: the profile's;
        `draft` and `margin` as `Edits` takes them.
        """
        request, key = self.request, (steps, guidance, draft, margin)
        if key not in request.shared.edits:
            request.shared.edits[key] = Edits(self.models, request.picture, request.prompt, request.seed, *key)
        return SharedEdits(request.shared.edits[key], self)

    def candidates(self, method: Method, boxes: torch.Tensor, **known: torch.Tensor | None) -> Candidates:
        """A table of these (K, M, 4) boxes under a method whose steps are set; `known` as `Candidates` takes it."""
        request = self.request
        return Candidates(self.models, request.picture, request.source, request.prompt, boxes, method, request.seed,
                          edits=partial(self.edits, guidance=method.guidance), **known)


class SharedEdits:
    """A store of edits (`candidates.Edits`) that notes what one row was spared."""

    def __init__(self, store: Edits, share: Share):
        self.store, self.share = store, share
        self.seconds, self.patches = store.seconds, store.patches
        self._asked: set[tuple[int, ...]] = set()

    def __call__(self, boxes: torch.Tensor) -> torch.Tensor:
        """(N, 4) boxes → (N, 3, h, w) in 0..1, as `Edits` gives them."""
        for box in map(tuple, boxes.tolist()):
            # What is there although this row has not asked for it was made for another one.
            if box not in self._asked and box in self.store.patches:
                self.share.saved_seconds += self.store.seconds[box]
                self.share.saved_evaluations += self.store.evaluations[box]
            self._asked.add(box)
        return self.store(boxes)
