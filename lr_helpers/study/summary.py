"""From the records of a study to its tables: means with intervals, paired differences, curves, rules, sweeps."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from lr_helpers.candidates import TERMS, weighted
from lr_helpers.intervals import mean_with_interval
from lr_helpers.method import METHODS, OFFICIAL_SIZES, Method
from lr_helpers.study.measures import SHARES
from lr_helpers.study.runner import COLUMNS

GROUPS: dict[str, Callable[[dict], bool]] = {
    "replace, one object": lambda r: r["kind"] == "replace" and r["objects"] == 1,
    "replace, two objects": lambda r: r["kind"] == "replace" and r["objects"] == 2,
    "add, empty scene": lambda r: r["kind"] == "add" and r["objects"] == 0,
    "add, one object there": lambda r: r["kind"] == "add" and r["objects"] == 1,
}
BASELINE = "official_code"

Table = dict[str, torch.Tensor]


def summarise(records: Sequence[dict]) -> dict:
    """Means and paired differences by group, chooser and measure; for the replacements curves, rules and sweeps."""
    groups = {title: [r for r in records if inside(r)] for title, inside in GROUPS.items()}
    groups = {title: part for title, part in groups.items() if part}
    replaced = [r for r in records if r["kind"] == "replace"]
    tables = {title: [{k: torch.tensor(v) for k, v in r["table"].items()} for r in part if "table" in r]
              for title, part in groups.items()}
    tables = {title: part for title, part in tables.items() if part}
    return {"means": {title: _means(part) for title, part in groups.items()},
            "differences": {title: _differences(part) for title, part in groups.items()},
            "curves": curves(replaced),
            "rules": {title: rules(part) for title, part in tables.items()},
            "sweeps": {title: sweeps(part) for title, part in tables.items()}}


def _choosers(records: Sequence[dict]) -> list[str]:
    return list(records[0]["choices"])


def _means(records: Sequence[dict]) -> dict:
    return {name: {m: mean_with_interval([r["choices"][name][m] for r in records], share=m in SHARES)
                   for m in COLUMNS if m in records[0]["choices"][name]} for name in _choosers(records)}


def _differences(records: Sequence[dict]) -> dict:
    """Each chooser less the official code on the same task."""
    if BASELINE not in records[0]["choices"]:
        return {}
    return {name: {m: mean_with_interval([r["choices"][name][m] - r["choices"][BASELINE][m] for r in records])
                   for m in COLUMNS if m in records[0]["choices"][name]}
            for name in _choosers(records) if name != BASELINE}


def curves(records: Sequence[dict]) -> dict:
    """Hit rate and mean IoU by the number of edits that were paid; a task without a choice by then counts as 0.

    Of several choices at the same cost the last counts, so that a curve ends with the final choice.
    """
    if not records:
        return {}
    found = {}
    for name in _choosers(records):
        traces = [r["choices"][name]["trace"] for r in records]
        if not all(traces):
            continue
        counts = sorted({n for trace in traces for n, _, _ in trace})
        found[name] = {"edits": counts}
        for column, measure in ((1, "iou"), (2, "hit")):
            found[name][measure] = [round(sum(_by(t, n)[column] for t in traces) / len(traces), 4) for n in counts]
    return found


def _by(trace: Sequence[Sequence[float]], edits: int) -> Sequence[float]:
    """The last point of a trace that had cost at most so many edits."""
    return max(((p[0], i, p) for i, p in enumerate(trace) if p[0] <= edits), default=(0, 0, (0, 0.0, 0.0)))[-1]


def _chosen(tables: Sequence[Table], value: Callable[[Table], torch.Tensor]) -> dict:
    """IoU and hit rate of the entry with the lowest value of each table."""
    picked = [float(t["iou"].flatten()[value(t).flatten().argmin()]) for t in tables]
    return {"iou": mean_with_interval(picked), "hit": mean_with_interval([float(v >= 0.5) for v in picked], share=True)}


def loss_of(method: Method) -> Callable[[Table], torch.Tensor]:
    """The method's loss as a rule."""
    return lambda t: weighted({name: t[name] for name in TERMS}, method)


def quality(alpha: float = 2.0, beta: float = 1.0) -> Callable[[Table], torch.Tensor]:
    """−S as a rule (eq. 7)."""
    return lambda t: -(alpha * t["text"] + beta * t["image"])


def rules(tables: Sequence[Table]) -> dict:
    """What if the final box were the best of the paper's whole table by this rule? Names say the rule."""
    paper, learned = METHODS["paper"], METHODS["learned"]
    chosen = {"the best IoU (ceiling)": lambda t: -t["iou"], "S (the paper's ranking)": quality(),
              "paper's loss": loss_of(paper)}
    for name in ("clip", "structure", "direction"):
        chosen[f"paper's loss without {name}"] = loss_of(paper.but(**{f"{name}_weight": 0.0}))
    for name in TERMS:
        chosen[f"{name} alone"] = lambda t, name=name: t[name]
    chosen["occlusion + area, no edit"] = loss_of(_only(learned, ("occlusion", "area")))
    chosen["learned's loss"] = loss_of(learned)
    for name in TERMS:
        if getattr(learned, f"{name}_weight"):
            chosen[f"learned's loss without {name}"] = loss_of(learned.but(**{f"{name}_weight": 0.0}))
    return {name: _chosen(tables, rule) for name, rule in chosen.items()}


def _only(method: Method, names: Sequence[str]) -> Method:
    return method.but(shortlist=0, **{f"{t}_weight": 0.0 for t in TERMS if t not in names})


def sweeps(tables: Sequence[Table]) -> dict:
    """One setting at a time on the paper's table, by its loss or its S, exhaustively: learning plays no part."""
    paper, sizes = METHODS["paper"], METHODS["paper"].sizes

    def part(rows: Sequence[int], columns: Sequence[int]) -> list[Table]:
        return [{k: v[list(rows)][:, list(columns)] for k, v in t.items()} for t in tables]

    k, m = tables[0]["iou"].shape
    found: dict[str, dict] = {}
    loss = loss_of(paper)
    found["anchors K"] = {str(n): _both(part(range(n), range(m)), loss) for n in (1, 3, 5, 7, 9) if n <= k}
    found["largest sizes left out, M"] = {str(n): _both(part(range(k), range(n)), loss) for n in range(1, m + 1)}
    names = {"official six": [i for i, s in enumerate(sizes) if s in OFFICIAL_SIZES],
             "small three": [0, 1, 2], "middle three": [2, 3, 4], "large three": [m - 3, m - 2, m - 1]}
    found["sizes"] = {name: _both(part(range(k), columns), loss) for name, columns in names.items()}
    found["α of S (β = 1)"] = {f"{a:g}": _both(tables, quality(a)) for a in (0.5, 1, 2, 4, 8)}
    for name in ("clip", "structure", "direction"):
        found[f"λ of {name} (others 1)"] = {
            f"{w:g}": _both(tables, loss_of(paper.but(**{f"{name}_weight": w}))) for w in (0.0, 0.5, 1.0, 2.0, 4.0)}
    found["λ of area, added (paper: 0)"] = {
        f"{w:g}": _both(tables, loss_of(paper.but(area_weight=w))) for w in (0.0, 0.25, 0.5, 1.0, 2.0)}
    return found


def _both(tables: Sequence[Table], rule: Callable[[Table], torch.Tensor]) -> dict:
    return {**_chosen(tables, rule), "ceiling": _chosen(tables, lambda t: -t["iou"])["hit"]}
