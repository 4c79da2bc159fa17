"""Variants of how the region network learns, for the study "learning": what do its settings do?"""

from __future__ import annotations

from lr_helpers.method import METHODS
from lr_helpers.study.choosers import learning

PAPER, LEARNED = METHODS["paper"], METHODS["learned"]

VARIANTS = {
    "paper": learning(PAPER),
    **{f"paper, lr {v:g}": learning(PAPER.but(lr=v)) for v in (3e-4, 1e-3, 1e-2)},
    **{f"paper, temperature {v:g}": learning(PAPER.but(temperature=v)) for v in (0.3, 3.0)},
    **{f"paper, {v} iterations": learning(PAPER.but(iterations=v)) for v in (15, 50)},
    "paper, expectation": learning(PAPER.but(estimator="expectation")),
    "paper, final choice by loss": learning(PAPER.but(choice="loss")),
    "learned": learning(LEARNED),
    **{f"learned, lr {v:g}": learning(LEARNED.but(lr=v)) for v in (1e-4, 1e-2)},
    **{f"learned, {v} iterations": learning(LEARNED.but(iterations=v)) for v in (15, 50)},
}
"""By name; only what the name says differs from the preset."""
