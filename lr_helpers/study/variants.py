"""A row of the registry with settings of its own: what a study compares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lr_helpers.baselines import Baseline, Parts, known_row, load_baseline
from lr_helpers.models.loading import Models


@dataclass(frozen=True)
class Variant:
    """One line of a study's tables."""

    name: str
    """E.g. "sdedit at 12", or the row's own name where nothing of it is changed."""
    row: str
    """A key of BASELINES."""
    settings: Mapping[str, Any] = field(default_factory=dict)

    def load(self, models: Models, parts: Parts | None = None) -> Baseline:
        """Ready to run; raises UserError where its models are out of reach."""
        return load_baseline(self.row, models.profile, models, parts=parts, **self.settings)


def plain(rows: Sequence[str], **settings: Any) -> list[Variant]:
    """These rows under their own names, all with the same settings; raises UserError for an unknown row."""
    return [Variant(known_row(row).name, row, settings) for row in rows]
