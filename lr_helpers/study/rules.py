"""What if? From the records of the regions study: other rules to pick a box, other settings, fewer edits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from lr_helpers.candidates import EDIT_FREE, TERMS, weighted
from lr_helpers.intervals import mean_with_interval
from lr_helpers.losses import SHARES, standardised
from lr_helpers.method import METHODS, OFFICIAL_SIZES, Method
from lr_helpers.study.tables import rows_of

Table = dict[str, torch.Tensor]
"""Of one task, by name, (K, M) each: all terms of the paper's candidates, their "iou", and S's "text" and "image"."""
Rule = Callable[[Table], torch.Tensor]
"""What a rule thinks of each candidate, (K, M); it picks the lowest."""
PAPER, LEARNED = METHODS["paper"], METHODS["learned"]


# Fewer edits


def curves(records: Sequence[dict]) -> dict:
    """By row, hit rate and mean IoU over the number of edits that were paid, and "end", the last hit rate with its
    interval; {} for a row that has no traces.

    A task without a choice by then counts as 0.
    """
    found = {}
    for row, own in rows_of(records).items():
        traces = [record["trace"] for record in own]
        if not all(traces):
            continue
        counts = sorted({edits for trace in traces for edits, _, _ in trace})
        curve: dict[str, Any] = {"edits": counts, "iou": [], "hit": []}
        for count in counts:
            then = [_by(trace, count) for trace in traces]
            curve["iou"].append(round(sum(iou for _, iou, _ in then) / len(then), 4))
            curve["hit"].append(round(sum(hit for _, _, hit in then) / len(then), 4))
        curve["end"] = mean_with_interval([hit for _, _, hit in then], share=True)
        found[row] = curve
    return found


def _by(trace: Sequence[Sequence[float]], count: int) -> Sequence[float]:
    """The point (edits, IoU, hit) of a trace that holds after so many edits: of those that cost no more the dearest.

    Of several at the same cost the last counts, so that a curve ends with the final choice.
    """
    found = (0, 0.0, 0.0)
    for point in trace:
        if found[0] <= point[0] <= count:
            found = point
    return found


# Other rules


def loss_of(method: Method) -> Rule:
    """The method's loss as a rule; terms that it standardises, over the table."""
    def rule(table: Table) -> torch.Tensor:
        terms = {term: table[term] for term in TERMS}
        if method.centre_texts:  # only those that compare with one text are others then
            terms = {term: table.get(f"centred_{term}", values) for term, values in terms.items()}
        if method.standardise_terms:
            terms = {term: values if term in SHARES else standardised(values) for term, values in terms.items()}
        return weighted(terms, method)

    return rule


def quality(alpha: float = 2.0, beta: float = 1.0) -> Rule:
    """−S as a rule (eq. 7)."""
    return lambda table: -(alpha * table["text"] + beta * table["image"])


def column(name: str) -> Rule:
    """One column of the table as a rule."""
    return lambda table: table[name]


def ceiling(table: Table) -> torch.Tensor:
    """The best IoU, as no rule can know it."""
    return -table["iou"]


def pick(tables: Sequence[Table], rule: Rule) -> dict:
    """IoU and hit rate of the candidate that the rule picks from each table."""
    picked = [float(table["iou"].flatten()[rule(table).flatten().argmin()]) for table in tables]
    hits = [float(overlap >= 0.5) for overlap in picked]
    return {"iou": mean_with_interval(picked), "hit": mean_with_interval(hits, share=True)}


def rules(tables: Sequence[Table]) -> dict:
    """What if the final box were the best of the paper's whole table by this rule? Names say the rule."""
    chosen = {"the best IoU (ceiling)": ceiling, "S (the paper's ranking)": quality(), "paper's loss": loss_of(PAPER)}
    for term in ("clip", "structure", "direction"):
        chosen[f"paper's loss without {term}"] = loss_of(without(PAPER, term))
    for term in TERMS:
        chosen[f"{term} alone"] = column(term)
    chosen["edit-free terms"] = loss_of(without(LEARNED, *(t for t in TERMS if t not in EDIT_FREE)))
    chosen["learned's loss"] = loss_of(LEARNED)
    for term in TERMS:
        if getattr(LEARNED, f"{term}_weight"):
            chosen[f"learned's loss without {term}"] = loss_of(without(LEARNED, term))
    return {name: pick(tables, rule) for name, rule in chosen.items()}


def without(method: Method, *terms: str) -> Method:
    """The method with these terms' weights 0."""
    return method.but(shortlist=0, **{f"{term}_weight": 0.0 for term in terms})


# Other settings


def sweeps(tables: Sequence[Table]) -> dict:
    """One setting at a time on the paper's table, by its loss or its S, exhaustively: learning plays no part."""
    anchors, sizes = tables[0]["iou"].shape
    every, loss = range(anchors), loss_of(PAPER)
    found: dict[str, dict] = {}

    # Fewer anchors, then fewer sizes: a part of the table.
    fewer = {str(k): part(tables, range(k), range(sizes)) for k in (1, 3, 5, 7, 9) if k <= anchors}
    found["anchors K"] = {name: picked(some, loss) for name, some in fewer.items()}
    smaller = {str(m): part(tables, every, range(m)) for m in range(1, sizes + 1)}
    found["largest sizes left out, M"] = {name: picked(some, loss) for name, some in smaller.items()}
    columns = {"official six": [i for i, size in enumerate(PAPER.sizes) if size in OFFICIAL_SIZES],
               "small three": [0, 1, 2], "middle three": [2, 3, 4], "large three": range(sizes - 3, sizes)}
    found["sizes"] = {name: picked(part(tables, every, some), loss) for name, some in columns.items()}

    # Other weights: the whole table by another rule.
    found["α of S (β = 1)"] = {f"{a:g}": picked(tables, quality(a)) for a in (0.5, 1, 2, 4, 8)}
    for term in ("clip", "structure", "direction"):
        found[f"λ of {term} (others 1)"] = _weights(tables, f"{term}_weight", (0.0, 0.5, 1.0, 2.0, 4.0))
    found["λ of area, added (paper: 0)"] = _weights(tables, "area_weight", (0.0, 0.25, 0.5, 1.0, 2.0))
    return found


def part(tables: Sequence[Table], rows: Sequence[int], columns: Sequence[int]) -> list[Table]:
    """These anchors and sizes of every table."""
    return [{name: values[list(rows)][:, list(columns)] for name, values in table.items()} for table in tables]


def picked(tables: Sequence[Table], rule: Rule) -> dict:
    """`pick`, and as "ceiling" the hit rate of the best box that there is."""
    return {**pick(tables, rule), "ceiling": pick(tables, ceiling)["hit"]}


def _weights(tables: Sequence[Table], name: str, values: Sequence[float]) -> dict:
    return {f"{value:g}": picked(tables, loss_of(PAPER.but(**{name: value}))) for value in values}
