"""Cells that do not apply to every profile."""

from __future__ import annotations


def only_if(applies: bool, reason: str) -> bool:
    """Shall a cell run? Where it does not apply, it says that it is skipped with this profile, and why."""
    if not applies:
        print(f"Skipped with this profile: {reason}.")
    return applies
