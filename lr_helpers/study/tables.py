"""From records to tables. A record here is flat: a dict of a task, a "row" of the registry, and what was measured.

All tables are of plain data: means by row and measure, each with its 95 % interval and the number of values.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping, Sequence

from lr_helpers.intervals import difference_with_interval, mean_with_interval

Value = dict[str, float]
"""A mean: "value", "low", "high" and "count"."""

SHARES = ("hit", "centre_inside", "target_seen", "source_gone", "others_kept", "success", "a target seen",
          "listed", "first_hit")
"""Measures that are 0 or 1 on each task."""

GROUPS = {"replace, one object": ("replace", 1), "replace, two objects": ("replace", 2), "add, empty scene": ("add", 0),
          "add, one object there": ("add", 1), "remove, one object": ("remove", 1),
          "remove, two objects": ("remove", 2), "held-out style, one object": ("style", 1),
          "held-out style, two objects": ("style", 2), "held-out textures, one object": ("texture", 1),
          "held-out textures, two objects": ("texture", 2)}
"""Tasks are told apart by what is asked, and by how many objects the scene has."""


def by_group(records: Sequence[dict]) -> dict[str, list[dict]]:
    """The records of each of GROUPS that there is, by "task" and "objects"."""
    found = {}
    for title, (kind, objects) in GROUPS.items():
        # "replace_400000" is a task of the kind "replace".
        part = [r for r in records if r["task"].startswith(kind) and r["objects"] == objects]
        if part:
            found[title] = part
    return found


def rows_of(records: Sequence[dict]) -> dict[str, list[dict]]:
    """The records of each row, in the order in which rows appear."""
    found: dict[str, list[dict]] = {}
    for record in records:
        found.setdefault(record["row"], []).append(record)
    return found


def scene_of(record: dict, number: int) -> Hashable:
    """Which scene a record is of. Tasks of one seed are asked of one scene, drawn as it is, in another style or on
    other ground ("replace_400000", "add_400000"); other names are scenes of their own, and so are records without a
    name (`number` tells them apart).
    """
    name = str(record.get("task", number))
    found = re.fullmatch(r"(?:replace|add|remove|style|texture)(?:_.+)?_(\d+)", name)
    return found[1] if found else name


def means_of(records: Sequence[dict], measures: Sequence[str]) -> dict[str, Value]:
    """By measure, over the records to which it applies: those that have it, and not as None."""
    found = {}
    for measure in measures:
        # A scene of one object has no others to keep: such tasks don't count.
        own = [(r[measure], scene_of(r, i)) for i, r in enumerate(records) if r.get(measure) is not None]
        if own:
            values, scenes = zip(*own, strict=True)
            found[measure] = mean_with_interval(values, share=measure in SHARES, scenes=scenes)
    return found


def means(records: Sequence[dict], measures: Sequence[str]) -> dict[str, dict[str, Value]]:
    """By row and measure."""
    return {row: means_of(own, measures) for row, own in rows_of(records).items()}


def differences(ours: Sequence[dict], theirs: Sequence[dict], measures: Sequence[str]) -> dict[str, Value]:
    """By measure, ours less theirs on the same task, over the tasks to which it applies in both."""
    other = {record["task"]: record for record in theirs}
    found = {}
    for measure in measures:
        values, scenes = [], []
        for i, record in enumerate(ours):
            a, b = record.get(measure), other.get(record["task"], {}).get(measure)
            if a is not None and b is not None:
                # Some tasks are hard for every row; the difference on the same task leaves that out.
                values.append(a - b)
                scenes.append(scene_of(record, i))
        if values:
            found[measure] = difference_with_interval(values, share=measure in SHARES, scenes=scenes)
    return found


def said(value: Value, digits: int = 2) -> str:
    """A mean and its interval as tables print it."""
    return f"{value['value']:.{digits}f} [{value['low']:.{digits}f}, {value['high']:.{digits}f}]"


def print_means(title: str, means: Mapping[str, Mapping[str, Value]], measures: Sequence[str]) -> None:
    """A line for each row that has some of the measures, each with the number of tasks to which it applies."""
    print(f"\n{title}: means with 95 % intervals")
    for row, found in means.items():
        parts = [f"{name} {said(found[name])} of {found[name]['count']}" for name in measures if name in found]
        if parts:
            print(f"  {row:34} {'   '.join(parts)}")


def markdown(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose columns stand under each other in a terminal too."""
    # Each column is as wide as its widest cell.
    widths = [max(len(line[i]) for line in (head, *lines)) for i in range(len(head))]
    rows = [" | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in (head, *lines)]
    rule = "|".join("-" * (width + 2) for width in widths)
    return "\n".join([f"| {rows[0]} |", f"|{rule}|", *(f"| {row} |" for row in rows[1:])])
