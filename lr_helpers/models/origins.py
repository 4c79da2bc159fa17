"""Where a model comes from: a folder, `OWNER/NAME` on the model hub, or a CLIP that open_clip has released.

This module knows the forms of an origin and looks into folders; `look` asks the hub, `hub` downloads from it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lr_helpers.files.paths import DATA

# Libraries are imported where they are used: `doctor` has to run where they are missing.

NEEDED = {
    "editor": ("model_index.json",),
    "backbone": ("config.json", "*.safetensors", "preprocessor_config.json"),
    "clip": ("open_clip_config.json", "open_clip_model.safetensors"),
}
"""Files without which a part can't be loaded; the first has no wildcard. An editor's index names the others."""

UNUSED = ("safety_checker", "feature_extractor", "image_encoder")
"""Components of an editor that are never loaded."""

PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")
"""Endings of files that can run code when they are read; they never are."""


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


# The forms of an origin


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


def open_clip_repository(origin: str) -> str:
    """The hub id where open_clip keeps the released model `openclip:NAME:TAG`; UnavailableError if there is none."""
    from open_clip.pretrained import get_pretrained_cfg

    name, _, tag = origin.removeprefix("openclip:").partition(":")
    config = get_pretrained_cfg(name, tag)
    if not config:
        raise UnavailableError(State("open_clip knows no such model", "is unknown",
                                     "name one of open_clip.list_pretrained(), as openclip:NAME:TAG"))
    repo = config.get("hf_hub", "").rpartition("/")[0]
    if not repo:
        raise UnavailableError(State("it is not on the hub as safetensors, and pickles are never loaded",
                                     "holds pickles", "name one of open_clip.list_pretrained() that is on the hub"))
    return repo


# What a folder holds


def look_folder(part: str, folder: Path, borrows: Sequence[str] = ()) -> State:
    """Is the whole "editor", "backbone" or "clip" in this folder, as safetensors?

    `borrows`: components of an editor that the folder need not hold.
    """
    if not folder.is_dir():
        return State("there is no such folder", "is missing", restore(folder))
    missing = lacking(part, folder, borrows)
    if not missing:
        return State("a folder, complete")
    names = [f.relative_to(folder).as_posix() for f in folder.rglob("*") if f.is_file()]
    return pickled(part, names) or State(f"missing or damaged: {', '.join(missing)}", "is incomplete", restore(folder))


def restore(path: Path) -> str:
    """How to fix a file or folder that is missing or damaged."""
    if path.is_relative_to(DATA):
        return f"restore it from the repository, e.g. by: git checkout -- {label(str(path))}"
    return f"put the whole model into {path}"


def pickled(part: str, names: Sequence[str]) -> State | None:
    """The refusal of a model that has its weights as pickles only, by the names of its files; None for others."""
    if part == "editor":
        # Each component has its folder; what lies beside these folders are single-file copies.
        names = [n for n in names if n.count("/") == 1 and not n.startswith(UNUSED)]
    safe = {Path(n).parent for n in names if n.endswith(".safetensors")}
    found = [n for n in names if n.endswith(PICKLES) and Path(n).parent not in safe]
    if not found:
        return None
    return State(f"its weights are pickles ({found[0]}), which can run code and are never loaded", "holds pickles",
                 "give a copy stored as safetensors, which `save_pretrained` writes")


def lacking(part: str, folder: Path, borrows: Sequence[str] = ()) -> list[str]:
    """Those of the needed files (with wildcards) that are missing, cut off, or no JSON or safetensors at all."""
    missing = []
    for pattern in _needed(part, folder, borrows):
        files = list(folder.glob(pattern))
        if not files or not all(map(_is_whole, files)):
            missing.append(pattern)
    return missing


def _needed(part: str, folder: Path, borrows: Sequence[str]) -> list[str]:
    """The files of a part that must be in its folder, with wildcards; an editor's by its own index."""
    patterns = list(NEEDED[part])
    if part != "editor":
        return patterns
    try:
        index = json.loads((folder / NEEDED[part][0]).read_text(encoding="utf-8"))
        # A component is an entry [library, class]; [null, null] is one that this checkpoint does without.
        names = [name for name, entry in index.items()
                 if isinstance(entry, list) and entry[0] and name not in (*UNUSED, *borrows)]
    except (OSError, ValueError, AttributeError, IndexError):
        return patterns  # the index itself is missing or damaged, which is what will be told
    for name in names:
        if name == "scheduler":
            patterns.append("scheduler/scheduler_config.json")
        elif name.startswith("tokenizer"):
            patterns.append(f"{name}/*.json")
        else:
            patterns += [f"{name}/config.json", f"{name}/*.safetensors"]
    return patterns


def _is_whole(file: Path) -> bool:
    from safetensors import SafetensorError, safe_open

    try:
        if file.suffix == ".json":
            json.loads(file.read_text(encoding="utf-8"))
        else:
            with safe_open(file, "np"):  # compares the header with the file's length
                pass
    except (OSError, ValueError, SafetensorError):
        return False
    return True
