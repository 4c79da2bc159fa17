"""The names of what edits save in a folder, and how a new edit removes what an earlier one saved there."""

from __future__ import annotations

import contextlib
import json
import re
from pathlib import Path

RESULT = "result.json"
"""The record of an edit, written last."""
TURNS = "turns.json"
"""The record of several edits in turn, written last; each edit lies in a folder of its own, "step_1" and so on."""
FINAL = "final_output.png"

ALWAYS = ("input.png", FINAL, "region_network.safetensors")
"""What every edit saves beside its record."""
NUMBERED = ("results/[0-9][0-9].png", "results/[0-9][0-9][0-9].png", "boxes/[0-9][0-9].png",
            "boxes/[0-9][0-9][0-9].png", "overview.png")
"""Patterns of what an edit saves or not: so many pictures as it has anchors, and those with boxes if asked for."""


def clear(folder: Path) -> None:
    """Remove what earlier edits saved in the folder, as far as a record of theirs tells of it.

    That is what an edit saves, where its `result.json` lies, and the same in each step that `turns.json` lists. All
    other files stay, and so do the folders they lie in.
    """
    if {"format", "box", "candidates"} <= _read(folder / RESULT).keys():
        (folder / RESULT).unlink()  # first: a record is only ever beside its own pictures
        remove(folder, *ALWAYS, *NUMBERED)
        _remove_empty(folder / "results", folder / "boxes")
    steps = _steps(folder)
    for step in steps:
        if step.is_dir() and not step.is_symlink():
            clear(step)
            _remove_empty(step)
    if steps:
        remove(folder, FINAL)
        (folder / TURNS).unlink()  # last: if this run is killed, the next one still finds the steps


def remove(folder: Path, *patterns: str) -> None:
    """Remove the files in the folder that fit one of the patterns."""
    for pattern in patterns:
        for file in folder.glob(pattern):
            file.unlink()


def _remove_empty(*folders: Path) -> None:
    for folder in folders:
        with contextlib.suppress(OSError):  # it is not there, or somebody else's file lies in it
            folder.rmdir()


def _steps(folder: Path) -> list[Path]:
    """The folders that `turns.json` lists; none where it is missing, or somebody else's."""
    listed = _read(folder / TURNS).get("steps")
    names = [step.get("folder") for step in listed if isinstance(step, dict)] if isinstance(listed, list) else []
    return [folder / name for name in names if isinstance(name, str) and re.fullmatch("step_[1-9][0-9]*", name)]


def _read(file: Path) -> dict:
    """A record as it lies there; empty where it is missing or no JSON object."""
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}
