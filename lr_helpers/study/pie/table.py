"""From the records of a study to its tables: means with 95 % intervals by row and edit type, beside published ones."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence

from lr_helpers.files.paths import DATA
from lr_helpers.study import tables
from lr_helpers.study.measures import EXACT
from lr_helpers.study.metrics import METRICS
from lr_helpers.study.pie.items import TYPES
from lr_helpers.study.pie.rows import title
from lr_helpers.study.tables import Value

JUDGED = {"success": "task done, %", "target_seen": "target seen, %", "source_gone": "source gone, %",
          "others_kept": "others kept, %"}
COST = {"evaluations": "denoiser evaluations", "seconds": "seconds"}
MEASURES = (*METRICS, *JUDGED, "iou", *COST)
COLUMNS = ("id", "type", "row", "source", "prompt", *MEASURES)
NOT_RUN = "not run here"


def flat(records: Sequence[dict], percent: bool = False) -> list[dict]:
    """One record for each item and row, metrics in the table's units; `percent`: what is judged as well."""
    found = []
    for record in records:
        # A record keeps its measures in their own units; a table has the published ones.
        line = {**record, "type": TYPES[record["kind"]], **record["judge"]}
        for name, value in record["measures"].items():
            line[name] = None if value is None else value * METRICS[name].factor
        if percent:
            line |= {name: 100 * value for name, value in record["judge"].items()}
            line |= {name: round(line[name], 5) for name in MEASURES if line.get(name) is not None}
        found.append(line)
    return found


def summarise(records: Sequence[dict]) -> dict[str, dict[str, dict[str, Value]]]:
    """By group ("all" and each edit type that there is), row and column: mean and interval in the table's unit."""
    lines = flat(records)
    groups = {"all": lines}
    for kind in sorted({line["kind"] for line in lines}):
        groups[TYPES[kind]] = [line for line in lines if line["kind"] == kind]
    return {name: _means(part) for name, part in groups.items()}


def _means(lines: Sequence[dict]) -> dict[str, dict[str, Value]]:
    found = {}
    for row, own in tables.rows_of(lines).items():
        means = tables.means_of(own, MEASURES)
        for name in JUDGED:
            if name in means:  # a share, which the table has in %
                means[name] = {k: v if k == "count" else round(100 * v, 2) for k, v in means[name].items()}
        found[row] = {"items": len(own), **means}
    return found


def published() -> dict:
    """PIE-Bench's published rows, from data/published.toml, with "source", "note" and "columns"."""
    return tomllib.loads((DATA / "published.toml").read_text(encoding="utf-8"))["pie_bench"]


def page(summary: dict, setting: str) -> str:
    """The tables of a study's summary as Markdown, with what is needed to read them; `setting`: how it was run."""
    of = summary["of"]
    parts = [f"# PIE-Bench study\n\n{setting}\n\nMeans with 95 % intervals; n counts edits. ↑ more is "
             f"better, ↓ less is. A background PSNR of {EXACT:g} dB stands for “no pixel differs” (or more). Cost: as "
             "counted and timed on this machine."]
    if of:
        parts.append("The models that measure structure distance and CLIP similarity here are those by which region "
                     "choosers choose, which favours these rows; the judge of “task done” has no part in any method.")
    for name, means in summary["groups"].items():
        not_run = [row for row in summary["not_run"] if row not in means] if name == "all" else []
        parts.append(f"## {name}\n\n{_group(means, not_run, of)}")
    parts.append(_published())
    if reasons := _reasons(summary):
        parts.append("## Not run here\n\n" + "\n".join(reasons))
    return "\n\n".join(parts) + "\n"


def _group(means: dict, not_run: Sequence[str], of: str) -> str:
    """One table: all metrics, and of what is judged, found and paid what there is."""
    # All metrics, even those that were not run, as the published table has them.
    columns = list(METRICS)
    for column in ("success", "others_kept", "iou", *COST):
        if any(column in found for found in means.values()):
            columns.append(column)
    head = ["method", "n", *(heading(column, of) for column in columns)]
    lines = [[title(row), str(found["items"]), *(_cell(found, c) for c in columns)] for row, found in means.items()]
    lines += [[title(row), "0", *[NOT_RUN] * len(columns)] for row in not_run]
    return tables.markdown(head, lines)


def _published() -> str:
    there = published()
    rows = [[name, "700", *(f"{v:.2f}" for v in values)] for name, values in there["rows"].items()]
    head = ["method", "n", *(heading(column) for column in there["columns"])]
    return f"## Published\n\n{tables.markdown(head, rows)}\n\n{there['source']}. {there['note']}"


def _reasons(summary: dict) -> list[str]:
    """Why rows and metrics are not there."""
    reasons = [f"- {title(row)}: {reason}" for row, reason in summary["not_run"].items()]
    for part, reason in summary["missing"].items():
        names = [heading(m.name, summary["of"]) for m in METRICS.values() if m.model == part]
        reasons.append(f"- {', '.join(names)}: {reason}")
    return reasons


def heading(column: str, of: str = "") -> str:
    """A column's title with its unit; `of`: whose models measure, where they are not the benchmark's."""
    if column in METRICS:
        metric = METRICS[column]
        return f"{metric.heading(of)} {'↑' if metric.up else '↓'}"
    return {**JUDGED, "iou": "IoU of region and mask", **COST}[column]


def _cell(found: dict[str, Value], column: str) -> str:
    if column not in found:
        return NOT_RUN if column in METRICS else ""
    digits = METRICS[column].digits if column in METRICS else {"iou": 2, "seconds": 1}.get(column, 0)
    count = found[column]["count"]
    return tables.said(found[column], digits) + ("" if count == found["items"] else f" (n = {count})")
