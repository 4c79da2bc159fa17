"""From the records of a study to its tables: means with 95 % intervals by row and edit type, beside published ones."""

from __future__ import annotations

import csv
import io
import tomllib
from collections.abc import Sequence

from lr_helpers.files.paths import DATA
from lr_helpers.intervals import mean_with_interval
from lr_helpers.study.measures import EXACT
from lr_helpers.study.metrics import METRICS
from lr_helpers.study.pie.items import TYPES
from lr_helpers.study.pie.rows import title
from lr_helpers.study.pie.runner import Done

JUDGED = {"success": "task done, %", "target_seen": "target seen, %", "source_gone": "source gone, %",
          "others_kept": "others kept, %"}
COST = {"evaluations": "denoiser evaluations", "seconds": "seconds"}
NOT_RUN = "not run here"
Value = dict[str, float]


def value(record: dict, column: str) -> float | None:
    """One figure of a record in the table's unit; None where it does not apply."""
    if column in METRICS:
        found, factor = record["measures"].get(column), METRICS[column].factor
    else:
        found, factor = {**record["judge"], **record}.get(column), 100.0 if column in JUDGED else 1.0
    return None if found is None else found * factor


def mean(values: Sequence[float | None], rate: bool = False) -> Value | None:
    """Mean and 95 % interval of the values that there are; None if there is none. `rate`: in %, of zeros and ones."""
    there = [v for v in values if v is not None]
    if not there:
        return None
    if rate:
        found = mean_with_interval([v / 100 for v in there], share=True)
        return {k: round(100 * v, 2) if k != "count" else v for k, v in found.items()}
    return mean_with_interval(there)


def summarise(done: Done) -> dict[str, dict[str, dict[str, Value]]]:
    """By group ("all" and each edit type that there is), row and column: what `mean` gives."""
    kinds = sorted({record["kind"] for record in done.records})
    groups = {"all": done.records} | {TYPES[k]: [r for r in done.records if r["kind"] == k] for k in kinds}
    return {name: _means(records) for name, records in groups.items()}


def _means(records: Sequence[dict]) -> dict[str, dict[str, Value]]:
    found: dict[str, dict[str, Value]] = {}
    for row in dict.fromkeys(record["row"] for record in records):
        own = [record for record in records if record["row"] == row]
        columns = {c: mean([value(r, c) for r in own], c in JUDGED) for c in (*METRICS, *JUDGED, "iou", *COST)}
        found[row] = {"items": len(own), **{c: v for c, v in columns.items() if v}}
    return found


def published() -> dict:
    """PIE-Bench's published rows, from data/published.toml, with "source", "note" and "columns"."""
    return tomllib.loads((DATA / "published.toml").read_text(encoding="utf-8"))["pie_bench"]


def markdown(groups: dict[str, dict[str, dict[str, Value]]], done: Done, setting: str) -> str:
    """The tables of these groups as Markdown, with what is needed to read them."""
    of = done.about["of"]
    parts = [f"# PIE-Bench study\n\n{setting}\n\nMeans with 95 % bootstrap intervals; n counts edits. ↑ more is "
             f"better, ↓ less is. A background PSNR of {EXACT:g} dB stands for “no pixel differs” (or more). Cost: as "
             "counted and timed on this machine."]
    if of:
        parts.append("The models that measure structure distance and CLIP similarity here are those by which region "
                     "choosers choose, which favours these rows; the judge of “task done” has no part in any method.")
    for name, means in groups.items():
        columns = [c for c in (*METRICS, "success", "others_kept", "iou", *COST)
                   if c in METRICS or any(c in found for found in means.values())]
        head = ["method", "n", *(heading(c, of) for c in columns)]
        lines = [[title(row), str(found["items"]), *(_cell(found, c) for c in columns)] for row, found in means.items()]
        if name == "all":
            lines += [[title(row), "0", *[NOT_RUN] * len(columns)] for row in done.not_run if row not in means]
        parts.append(f"## {name}\n\n{table(head, lines)}")
    there = published()
    rows = [[name, "700", *(f"{v:.2f}" for v in values)] for name, values in there["rows"].items()]
    parts.append(f"## Published\n\n{table(['method', 'n', *(heading(c) for c in there['columns'])], rows)}\n\n"
                 f"{there['source']}. {there['note']}")
    reasons = [f"- {title(row)}: {reason}" for row, reason in done.not_run.items()]
    reasons += [f"- {', '.join(heading(m.name, of) for m in METRICS.values() if m.model == part)}: {reason}"
                for part, reason in done.about["missing"].items()]
    if reasons:
        parts.append("## Not run here\n\n" + "\n".join(reasons))
    return "\n\n".join(parts) + "\n"


def heading(column: str, of: str = "") -> str:
    """A column's title with its unit; `of`: whose models measure, where they are not the benchmark's."""
    if column in METRICS:
        metric = METRICS[column]
        return f"{metric.heading(of)} {'↑' if metric.up else '↓'}"
    return {**JUDGED, "iou": "IoU of region and mask", **COST}[column]


def _cell(found: dict[str, Value], column: str) -> str:
    if column not in found:
        return NOT_RUN if column in METRICS else ""
    v = found[column]
    digits = METRICS[column].digits if column in METRICS else {"iou": 2, "seconds": 1}.get(column, 0)
    fewer = "" if v["count"] == found["items"] else f" (n = {v['count']})"
    return f"{v['value']:.{digits}f} [{v['low']:.{digits}f}, {v['high']:.{digits}f}]{fewer}"


def table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose columns stand under each other in a terminal too."""
    widths = [max(len(line[i]) for line in (head, *lines)) for i in range(len(head))]
    rows = [" | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in (head, *lines)]
    rule = "|".join("-" * (width + 2) for width in widths)
    return "\n".join([f"| {rows[0]} |", f"|{rule}|", *(f"| {row} |" for row in rows[1:])])


def as_csv(records: Sequence[dict]) -> str:
    """One line for each item and row, in the table's units; empty where a measure does not apply."""
    out, columns = io.StringIO(), (*METRICS, *JUDGED, "iou", *COST)
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["id", "type", "row", "source", "prompt", *columns])
    for r in records:
        figures = [value(r, c) for c in columns]
        writer.writerow([r["id"], TYPES[r["kind"]], r["row"], r["source"], r["prompt"],
                         *("" if v is None else round(v, 5) for v in figures)])
    return out.getvalue()
