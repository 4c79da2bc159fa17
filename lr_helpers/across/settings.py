"""What a predictor is trained on, and how; and what that costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lr_helpers.across.asks import Ask
from lr_helpers.baselines.wording import adds
from lr_helpers.costs.evaluations import T4, duration, speed
from lr_helpers.inpainting import count_evaluations
from lr_helpers.method import ADDING, OBJECTIVES
from lr_helpers.models.profiles import Profile

H100 = 8.5
"""An H100 is assumed to be so many times as fast as a T4."""


@dataclass(frozen=True)
class Training:
    """What to train on, and how."""

    output: Path
    profile: Profile
    asks: Sequence[Ask]
    boxes: int = 16
    """Edited of each picture and round."""
    steps: int = 4
    """Denoising steps of an edit."""
    rounds: int = 1
    """In each but the first, half of the boxes are those that the network trained so far likes best."""
    updates: int = 1200
    estimator: str = "expectation"
    temperature: float = 0.3
    """Of the entropy bonus, see `fit`; in mean deviations of a picture's losses."""
    lr: float = 1e-3
    objective: str = "tight"
    """Which weights the terms have, a key of OBJECTIVES (where something is to be added: of ADDING). Each term but
    area, which is a share, is standardised over the boxes of its picture first.
    """
    without: Sequence[str] = ()
    """Those of `predictor.INPUTS` that the network shall not see."""
    seed: int = 0
    device: str | None = None
    allow_cpu: bool | None = None
    workers: int | None = None

    @property
    def weights(self) -> dict[str, float]:
        """Of the terms."""
        return OBJECTIVES[self.objective]

    @property
    def weights_to_add(self) -> dict[str, float]:
        """Of the terms where the texts ask to add something."""
        return OBJECTIVES[ADDING.get(self.objective, self.objective)]

    def weights_for(self, ask: Ask) -> dict[str, float]:
        """Of the terms, as this picture's texts decide."""
        return self.weights_to_add if adds(ask.source, ask.prompt) else self.weights

    @property
    def evaluations(self) -> int:
        """Denoiser evaluations of all edits, guidance included."""
        return count_evaluations(len(self.asks) * self.rounds * self.boxes, self.steps, self.profile.guidance)

    def costs(self) -> str:
        """What it will cost, in one sentence."""
        said = (f"{len(self.asks):,} pictures, {self.boxes} edits of {self.steps} steps in each of {self.rounds} "
                f"round{'s' * (self.rounds > 1)}: {self.evaluations:,} denoiser evaluations")
        known = speed(self.profile, T4 if self.profile.needs_gpu else None)
        if known:
            said += f", {known.said(self.evaluations)}"
        if known and self.profile.needs_gpu:
            said += f", {duration(known.seconds * self.evaluations / H100)} on an H100 (assumed)"
        return said + "."
