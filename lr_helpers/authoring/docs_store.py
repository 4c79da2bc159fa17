"""What the documentation quotes: the stored studies and measurements, read from one clone."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lr_helpers.baselines import TITLES as REGISTERED
from lr_helpers.errors import UserError

FILES = {"regions": "studies/regions.json", "compare": "studies/compare.json", "extended": "studies/extended.json",
         "causes": "studies/causes.json", "pie": "studies/pie.json", "learning": "studies/learning.json",
         "photographs": "studies/photographs.json", "gaps": "studies/gaps.json", "weights": "studies/weights.json",
         "predictors": "studies/predictors.json", "objectives": "studies/objectives.json",
         "confidence": "studies/confidence.json", "rivals": "studies/rivals.json",
         "zoo": "tiny_world/METRICS.json", "benchmarks": "benchmarks.json", "costs": "costs.json"}
"""Name → file in data/."""


TITLES = {**REGISTERED, "learned": "learned (ours)", "predicted": "predicted (ours)"}
"""What figures and tables call the ways to edit, by their name in the studies."""


@dataclass(frozen=True)
class Store:
    """The studies of the clone at `root`; each file is read when it is first asked for."""

    root: Path

    def __getattr__(self, name: str) -> Any:
        """The study of this name, as plain data. Raises UserError if its file is missing or damaged."""
        if name not in FILES:
            raise AttributeError(name)
        file = self.root / "data" / FILES[name]
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(f"{file} can't be read ({error}); restore it, or run its study again.") from error
        self.__dict__[name] = found
        return found

    def find(self, path: str) -> Any:
        """The value at a path like "regions / means / add, empty scene / learned / success".

        Raises UserError if nothing lies there.
        """
        study, *keys = path.split(" / ")
        if study not in FILES:
            raise UserError(f"{path!r} names no study; begin it with one of {', '.join(FILES)}.")
        found = getattr(self, study)
        for key in keys:
            try:
                found = found[int(key)] if isinstance(found, list) else found[key]
            except (KeyError, IndexError, ValueError, TypeError) as error:
                raise UserError(f"{path!r} leads nowhere: there is no {key!r} in it.") from error
        return found
