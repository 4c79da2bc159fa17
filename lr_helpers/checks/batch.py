"""Exercises of notebook 07: files that are whole or not there, keys, shares, and the size of a pool."""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from lr_helpers.batch.key import key as _key
from lr_helpers.batch.run import share as _share
from lr_helpers.checks.exercise import Exercise
from lr_helpers.files.writing import write_bytes as _write_bytes


class _Crash(BaseException):
    pass


def _crash(function: Callable, path: Path, data: bytes, at: int) -> tuple[bool, list[str]]:
    """Run it, and break it off after its `at`-th call of a function that is not written in Python: whatever touches the
    disk is one. Did it end before that, and which of the calls that matter did it make?
    """
    count, seen, running = 0, [], True

    def watch(_: Any, event: str, what: Any) -> None:
        nonlocal count
        if event != "c_return":
            return
        if what.__name__ in ("fsync", "fdatasync", "replace", "rename"):
            seen.append(what.__name__)
        count += 1
        if count == at and running:
            raise _Crash  # what a profiler raises breaks off what it watches

    before = sys.getprofile()
    try:
        sys.setprofile(watch)
        function(path, data)
    except _Crash:
        return False, seen
    finally:
        running = False
        sys.setprofile(before)
    return True, seen


def _after_crashes(function: Callable, before: bytes | None, data: bytes) -> dict[str, object]:
    """Break the function off everywhere, in a new folder each time, and look at what is there then."""
    whole, done, at = True, False, 0
    while not done:
        at += 1
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "picture.png"
            if before is not None:
                path.write_bytes(before)
            done, seen = _crash(function, path, data, at)
            content = path.read_bytes() if path.exists() else None
            whole = whole and content in (before, data)
            files = len(os.listdir(folder))
    moved = [i for i, name in enumerate(seen) if name in ("replace", "rename")]
    return {"broken off anywhere, the old file or the new one is whole": whole,
            "in the end the new content is there": content == data,
            "files in the folder in the end": files,
            "flushed to the disk before it gets its name": bool(moved) and any("sync" in s for s in seen[:moved[0]])}


def _direct(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def _temporary(path: Path, data: bytes) -> Path:
    other = path.with_name(path.name + ".tmp")
    with other.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return other


def _not_flushed(path: Path, data: bytes) -> None:
    other = path.with_name(path.name + ".tmp")
    other.write_bytes(data)
    os.replace(other, path)


def _copied(path: Path, data: bytes) -> None:
    shutil.copyfile(_temporary(path, data), path)


def _removed_first(path: Path, data: bytes) -> None:
    other = _temporary(path, data)
    path.unlink(missing_ok=True)
    os.rename(other, path)


write_whole = Exercise(
    name="write_whole", reference=_write_bytes, observe=_after_crashes,
    cases=lambda: [(b"old", b"new content"), (None, b"new"), (b"a longer old content", bytes(100_000))],
    mistakes={
        "opening a file for writing empties it: write under another name in the same folder first": _direct,
        "the name may reach the disk before the content: flush() and os.fsync() before the file is renamed":
            _not_flushed,
        "copying is writing, which can break off in the middle: os.replace moves the file in one step": _copied,
        "between removing the old file and renaming the new one there is none: os.replace alone does both":
            _removed_first,
    })


def _reference_key(picture: bytes, settings: dict[str, Any]) -> str:
    return _key({"image": sha256(picture).hexdigest(), **settings})


def _hash(value: Any, **options: Any) -> str:
    return sha256(json.dumps(value, **options).encode()).hexdigest()


def _keyed() -> list[tuple]:
    settings = {"prompt": "a fox", "seed": 42, "method": {"steps": 6, "anchors": 9}}
    return [(b"\x89PNG one", settings), (b"\x89PNG two", dict(reversed(settings.items()))),
            (b"", {"seed": 1, "prompt": "ein Fuchs"}), (b"\x89PNG one", {"z": 1, "a": [0.5, None]})]


key_of = Exercise(
    name="key_of", reference=_reference_key, cases=_keyed,
    mistakes={
        "the same settings in another order should give the same key: sort them":
            lambda picture, settings: _hash({"image": sha256(picture).hexdigest(), **settings}),
        "the picture decides too: put its hash beside the settings":
            lambda picture, settings: _hash(settings, sort_keys=True),
        "the settings decide too: hash them together with the picture's hash":
            lambda picture, settings: sha256(picture).hexdigest(),
        "another picture of the same length should give another key: hash its bytes":
            lambda picture, settings: _hash({"image": len(picture), **settings}, sort_keys=True),
    })


def _blocks(items: Sequence, rank: int, processes: int) -> list:
    size = math.ceil(len(items) / processes)
    return list(items[rank * size:(rank + 1) * size])


dealt = Exercise(
    name="dealt", reference=lambda items, rank, processes: list(_share(items, rank, processes)),
    cases=lambda: [(list(range(10)), rank, 3) for rank in range(3)]
    + [(list("abc"), 0, 1), (["one"], 1, 2), (list(range(5)), 4, 5)],
    mistakes={
        "that is a block; deal the items out in turn, so that a hard stretch of the batch is shared": _blocks,
        "ranks count from 0": lambda items, rank, processes: list(items[rank - 1::processes]) if rank else
            list(items[processes - 1::processes]),
        "every item has to be somebody's, also if their number can't be divided evenly":
            lambda items, rank, processes: list(items[:len(items) // processes * processes][rank::processes]),
        "that is the number of items; return the items": lambda items, rank, processes: len(items[rank::processes]),
    })


def _plan(items: int, seconds: float, hours: float, gigabytes: float, cores: int, memory: float) -> tuple[int, int]:
    workers = math.ceil(items * seconds / (hours * 3600))
    return workers, math.ceil(workers / min(cores, math.floor(memory / gigabytes)))


def _pools() -> list[tuple]:
    return [(1_000_000, 2.4, 24.0, 1.1, 16, 64.0), (1_000_000, 2.4, 24.0, 6.0, 16, 64.0),
            (10_000, 1.3, 8.0, 2.0, 4, 7.9), (100, 0.5, 1.0, 1.0, 2, 8.0)]


plan_pool = Exercise(
    name="plan_pool", reference=_plan, cases=_pools,
    mistakes={
        "round up: part of a worker does not finish in time": lambda items, seconds, hours, gigabytes, cores, memory: (
            int(items * seconds / (hours * 3600)), max(1, math.ceil(int(items * seconds / (hours * 3600)) / min(
                cores, math.floor(memory / gigabytes))))),
        "a machine also holds no more workers than fit into its memory":
            lambda items, seconds, hours, gigabytes, cores, memory: (
                _plan(items, seconds, hours, 1e-9, cores, 1e9)),
        "a machine also holds no more workers than it has cores":
            lambda items, seconds, hours, gigabytes, cores, memory: (
                _plan(items, seconds, hours, gigabytes, 10**9, memory)),
        "an hour has 3600 seconds": lambda items, seconds, hours, gigabytes, cores, memory: (
            _plan(items, seconds, hours / 60, gigabytes, cores, memory)),
    })
