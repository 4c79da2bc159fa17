"""What all ways to edit have in common: the answer, what it is charged for, and how a row is described."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import torch

from lr_helpers.baselines.request import Request, Share
from lr_helpers.boxes import Box
from lr_helpers.errors import UserError
from lr_helpers.method import check_input, check_settings, setting
from lr_helpers.models.loading import Models

Trace = list[tuple[int, Box]]
"""Along the iterations: how many different edits were paid by then, and the box it would have chosen."""


@dataclass(frozen=True)
class Edited:
    """One picture edited by one row."""

    picture: torch.Tensor
    """(3, S, S) in 0..1, as the method leaves it: pasted back into the input where the method has a mask for that."""
    region: torch.Tensor | None
    """(S, S), 1 where the method chose to edit, else 0; None where it chooses no region."""
    evaluations: int
    """Denoiser evaluations: pictures that went through the denoiser, guidance and inversion included; counted."""
    seconds: float
    """What is shared with other rows counts, here and in `evaluations`, as if this row had made it alone."""
    painted: Box | None = None
    """What was painted, where that is more than the region: the region with a margin."""
    confidence: float | None = None
    """Of a row that asks a region predictor: how sure that is of the place (`predictor.Ranking.confidence`)."""
    trace: Trace = field(default_factory=list)
    """Of a row that learns or ranks, if the request asks for it; it ends with the final choice."""

    @property
    def box(self) -> Box | None:
        """The smallest box around the region; None where there is no region, or an empty one."""
        return None if self.region is None else smallest_box(self.region)


class Made(NamedTuple):
    """What a row's own work gives; `Baseline.run` adds what it cost."""

    picture: torch.Tensor
    region: torch.Tensor | None = None
    painted: Box | None = None
    retrace: Callable[[], Trace] | None = None
    """Finds the trace, if it is asked for."""
    confidence: float | None = None


def smallest_box(mask: torch.Tensor) -> Box | None:
    """(S, S) → the smallest box around what is not 0; None if all is 0."""
    if not mask.any():
        return None
    rows, columns = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


class Counted(Protocol):
    """Whoever counts the evaluations of a denoiser; `inpainting.Editor` is one."""

    @property
    def evaluations(self) -> int: ...


@dataclass(frozen=True)
class Row:
    """What there is to know of a way to edit before it is loaded."""

    name: str
    title: str
    family: str
    """"editor" (chooses no region), "text-prompted region" or "region chooser"."""
    make: Callable[..., Baseline]
    library: str = ""
    """Class of the maintained library that does the work; "" where it is our own code."""
    published: str = ""
    """Where the method is from; "" where it is ours."""
    needs: tuple[str, ...] = ()
    """Parts beside the profile's editor, backbone and CLIP, as `Profile.comparison` names them."""
    sentences: bool = False
    """Does it paint the whole picture, and so want source and prompt as two whole sentences? The others look for the
    source in the picture, or paint the prompt into a region, and want two phrases."""
    settings: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    """What differs from the defaults of `make`."""


@dataclass(frozen=True, eq=False)
class Baseline(ABC):
    """A row with its models. Further fields are its settings."""

    row: Row
    models: Models = field(repr=False)
    parts: Any = field(repr=False)
    """The `Parts` that the row needs."""
    steps: int | None = setting(None, "denoising steps of an edit (default: the profile's)", within=(1, 1000))

    def __post_init__(self) -> None:
        check_settings(self)

    @property
    def _steps(self) -> int:
        return self.models.profile.steps if self.steps is None else self.steps

    @property
    def counted(self) -> Counted:
        """Who counts the evaluations; the profile's editor, unless another network does the work."""
        return self.models.editor

    @abstractmethod
    def _edit(self, request: Request, share: Share) -> Made:
        """The row's own work. `share` gives edits and proposals that rows of the same request share."""

    def __call__(self, picture: torch.Tensor, source: str, prompt: str, seed: int = 42, **more: Any) -> Edited:
        """`run` on a request of its own, with these fields."""
        return self.run(Request(picture, source, prompt, seed, **more))

    def run(self, request: Request) -> Edited:
        """Edit the picture, so that the source becomes the prompt.

        Raises UserError for input that can't work, and where the memory does not suffice.
        """
        request = self._checked(request)
        share = Share(request, self.models)
        before, begun = self.counted.evaluations, time.perf_counter()
        try:
            made = self._edit(request, share)
        except torch.OutOfMemoryError as error:
            raise UserError(f"The memory of {self.models.device} does not hold one edit by {self.row.name}; free it "
                            "(nvidia-smi shows who holds it), or use a profile with a smaller model.") from error
        # The charge: what was done now, and what was found done already.
        seconds = time.perf_counter() - begun + share.saved_seconds
        evaluations = self.counted.evaluations - before + share.saved_evaluations
        # Behind the clock: a trace is no part of the row's work.
        trace = made.retrace() if request.traced and made.retrace else []
        return Edited(made.picture, made.region, evaluations, seconds, made.painted, made.confidence, trace)

    def _checked(self, request: Request) -> Request:
        """The request with its texts on one line each."""
        # Line breaks in a text would decide pixels.
        source, prompt = check_input(request.source, request.prompt, request.seed)
        picture, size = request.picture, self.models.profile.size
        if picture.shape != (3, size, size):
            raise UserError(f"The picture has the shape {tuple(picture.shape)}; {self.row.name} edits (3, {size}, "
                            f"{size}) with the profile {self.models.profile.name!r}, as `to_tensor` gives.")
        if not (picture.min() >= 0 and picture.max() <= 1):
            raise UserError(f"The picture has values from {picture.min():.3g} to {picture.max():.3g}; give 0 to 1.")
        return replace(request, source=source, prompt=prompt)
