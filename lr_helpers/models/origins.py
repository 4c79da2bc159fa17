"""Where a model comes from: a folder, `OWNER/NAME` on the model hub, or a CLIP that open_clip has released.

This module knows the forms of an origin; `layouts` knows what files a model is read from, `resolve` finds out what an
origin would give, and `hub` downloads it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lr_helpers.files.paths import DATA


@dataclass(frozen=True)
class State:
    """What was found out about one origin of a model."""

    text: str
    trouble: str = ""
    """Why it can't serve, e.g. "can't be reached"; "" where it can."""
    fix: str = ""
    download: bool = False
    """Does it come from the network?"""


class UnavailableError(Exception):
    """An origin can't serve; `state` says why, and how to fix it."""

    def __init__(self, state: State):
        super().__init__(state.text)
        self.state = state


def label(origin: str) -> str:
    """What reports and records say of an origin: a shipped folder by its place in the project, not on this machine."""
    return Path(origin).relative_to(DATA.parent).as_posix() if Path(origin).is_relative_to(DATA) else origin


def is_folder(origin: str) -> bool:
    """Is it a folder, be it missing? One that is there always wins over the hub."""
    path = Path(origin)
    return path.is_absolute() or path.is_dir() or path.is_relative_to(DATA) or origin.startswith(("./", "../"))


def split(origin: str) -> tuple[str, str | None]:
    """`OWNER/NAME@REVISION` → the hub id and the branch, tag or commit; without one, None (the newest)."""
    repo, _, revision = origin.partition("@")
    return repo, revision or None


def restore(path: Path) -> str:
    """How to fix a file or folder that is missing or damaged."""
    if path.is_relative_to(DATA):
        return f"restore it from the repository, e.g. by: git checkout -- {label(str(path))}"
    return f"put the whole model into {path}"
