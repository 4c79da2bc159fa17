"""`python -m lr_helpers study learning`: what do the settings of the region network do?"""

from __future__ import annotations

from lr_helpers.method import METHODS, Method
from lr_helpers.study.variants import Variant

PAPER, LEARNED = METHODS["paper"], METHODS["learned"]


def _variants(row: str, preset: Method, changes: dict[str, dict]) -> list[Variant]:
    """The preset, and the preset with one thing changed, which the name says."""
    found = [Variant(row, row)]
    for said, change in changes.items():
        found.append(Variant(f"{row}, {said}", row, {"method": preset.but(**change)}))
    return found


VARIANTS = (
    *_variants("paper", PAPER, {
        "lr 0.0003": {"lr": 3e-4}, "lr 0.001": {"lr": 1e-3}, "lr 0.01": {"lr": 1e-2},
        "temperature 0.3": {"temperature": 0.3}, "temperature 3": {"temperature": 3.0},
        "15 iterations": {"iterations": 15}, "50 iterations": {"iterations": 50},
        "expectation": {"estimator": "expectation"}, "final choice by loss": {"choice": "loss"}}),
    *_variants("learned", LEARNED, {
        "lr 0.0001": {"lr": 1e-4}, "lr 0.01": {"lr": 1e-2},
        "15 iterations": {"iterations": 15}, "50 iterations": {"iterations": 50}}),
)
"""What the study compares, in the order of its tables."""
