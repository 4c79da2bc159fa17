"""The output folder: one batch at a time, a folder for each item, and which of them are complete."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from lr_helpers.batch import key
from lr_helpers.batch.items import Item
from lr_helpers.errors import OutputError, UserError
from lr_helpers.files import locks
from lr_helpers.files.outputs import ForeignError, Output, edit_names
from lr_helpers.files.writing import explained, json_bytes, prepare_folder

RECORD = "item.json"
"""Written last; an item without it is not done."""
LOCK = "batch.lock"
HOLDER = "process "
"""What the lock begins with: who holds it."""


def output_of(folder: Path) -> Output:
    """The batch's own folder."""
    return Output(folder, "batch")


def item_output(item: Item) -> Output:
    """An item's folder."""
    return Output(item.folder, "edit")


def item_names(item: Item) -> list[str]:
    """The files that an item may write into its folder."""
    return [*edit_names(item.method.most_candidates), RECORD]


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[Callable[[], None]]:
    """Keep other batches out of the folder while this one runs; a killed process lets go of it at once.

    Yields a function that lets other processes of this batch in, as `joined`. Raises OutputError if another batch has
    the folder, or it can't be written to, and ForeignError if the lock is a file of somebody else.
    """
    folder = prepare_folder(folder)
    output_of(folder).claim(LOCK)
    with contextlib.ExitStack() as opened:
        with explained(folder):
            file = opened.enter_context((folder / LOCK).open("a+", encoding="utf-8", errors="replace"))
            try:
                locks.hold(file)
            except locks.TakenError as error:
                file.seek(0)
                other = file.read().strip() or "just begun"
                raise OutputError(f"Another batch ({other}) is writing to {str(folder)!r}; wait until it ends, or "
                                  "choose another output folder.") from error
            file.seek(0)
            if (said := file.read(len(HOLDER))) not in ("", HOLDER):
                raise ForeignError(f"{str(folder / LOCK)!r} is no lock of a batch (it begins with {said!r}); move it "
                                   "away, or choose another output folder.")
            file.truncate(0)
            file.write(f"{HOLDER}{os.getpid()} on {socket.gethostname()}")
            file.flush()
        output_of(folder).sweep()
        yield lambda: _share(file, folder)


@contextlib.contextmanager
def joined(folder: Path) -> Iterator[None]:
    """Work in a folder whose batch has let others in: no other batch gets it before this process, too, has ended.

    Raises OutputError if the folder was taken away, or another batch has it.
    """
    require(folder)
    with contextlib.ExitStack() as opened:
        with explained(folder):
            file = opened.enter_context((folder / LOCK).open(encoding="utf-8"))
        _share(file, folder)
        yield


def _share(file: TextIO, folder: Path) -> None:
    try:
        locks.share(file)
    except locks.TakenError as error:
        raise OutputError(f"Another batch has begun to write to {str(folder)!r}; wait until it ends, then start this "
                          "one again.") from error


def require(folder: Path) -> None:
    """Raises OutputError if the output folder of a running batch was taken away, so that nothing makes it anew."""
    if not (folder / LOCK).is_file():
        raise OutputError(f"The output folder {str(folder)!r} was removed or replaced while the batch ran; put it "
                          "back, and start the batch again.")


@dataclass(frozen=True)
class State:
    """What a batch finds of an item."""

    done: bool
    record: dict = field(default_factory=dict)
    """The item's record if it is done."""
    why: str = ""
    """Why something that is there already is edited again; "" where there is nothing."""
    in_the_way: str = ""
    """One sentence if something lies in its folder that nobody may replace; the item can't be edited then."""


def check(item: Item, models: dict[str, str]) -> State:
    """Is the item done, with all its files, and of the very input? Reads its picture only if its stamp differs.

    `models` as `key.identity` gives them.
    """
    state = _look(item, models)
    if state.done:
        return state
    try:
        if item.folder.is_symlink() or (item.folder.exists() and not item.folder.is_dir()):
            raise ForeignError(f"{str(item.folder)!r} is no folder; move it away, or give the entry another name.")
        item_output(item).require(item_names(item))
    except UserError as error:
        return State(False, in_the_way=str(error))
    except OSError as error:  # a name too long, say
        return State(False, in_the_way=f"{str(item.folder)!r} can't be used ({error.strerror}); give the entry another "
                                       "name.")
    return state


def _look(item: Item, models: dict[str, str]) -> State:
    try:
        text = (item.folder / RECORD).read_text(encoding="utf-8", errors="replace")  # what is no text is no record
    except OSError:
        return State(False, why="it was not finished" if (item.folder / "input.png").exists() else "")
    try:
        record = json.loads(text)
        stamp, before, files = record["stamp"], record["inputs"], record["files"]
        image = before["image"] if stamp == stamp_of(item.image) else key.digest(item.image)
        if not all(_has_size(f"{item.folder}/{name}", size) for name, size in files.items()):
            return State(False, why="some of its files are missing or damaged")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return State(False, why="its record or its picture can't be read")
    now = key.inputs(item, image, models)
    if key.key(now) == record.get("key"):
        return State(True, record)
    changed = sorted(name for name in {*now, *before} if now.get(name) != before.get(name))
    return State(False, why=f"changed since: {', '.join(changed)}")


def _has_size(file: str, size: int) -> bool:
    try:
        return os.stat(file).st_size == size
    except OSError:
        return False


def stamp_of(file: Path) -> list[int]:
    """What tells whether to read a file again, as for git: its size, its times of change, and which file it is. Another
    picture may come with the same size and the same time, from an archive or a copy that keeps times.
    """
    state = file.stat()
    return [state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino]


def begin(item: Item) -> None:
    """From here on the item is not done; what a killed process left half-written is removed."""
    require(item.folder.parent)
    output = item_output(item)
    if item.folder.is_dir():
        output.remove(RECORD)
        with explained(item.folder):
            _flush(item.folder)
        output.sweep()


def complete(item: Item, decides: dict, stamp: list[int], row: dict) -> dict:
    """Write the item's record, after all its files have reached the disk; returns it."""
    require(item.folder.parent)
    output = item_output(item)
    with explained(item.folder):
        files = sorted(item.folder / name for name in output.ours())
        record = {"key": key.key(decides), "inputs": decides, "stamp": stamp, "row": row,
                  "files": {f.relative_to(item.folder).as_posix(): f.stat().st_size for f in files}}
        for folder in {f.parent for f in files}:
            _flush(folder)
        output.write(RECORD, json_bytes(record))
        _flush(item.folder)
    return record


def _flush(folder: Path) -> None:
    """Names, too, are on the disk only when their folder is."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
