"""Exercises of notebook A1: files that are whole or not there, keys, shares, and the size of a pool."""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from hashlib import md5, sha256
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from lr_helpers.batch.run import share as _share
from lr_helpers.checks.exercise import Exercise, case
from lr_helpers.files.writing import write_bytes as _write_bytes

# write_whole

WHOLE = "at every moment the old content or the new one is there, whole"
ENDED = "in the end the new content is there"
TIDY = "nothing else is left in the folder"
BESIDE = "it is written under another name in the same folder first, and whole there"
MOVED = "that file gets its name by os.replace"
SYNCED = "os.fsync() is called, after flush() and before the file gets its name"
OWN = "os.fsync() is given the very file that gets the name, not another one or the folder"
STAY = "the folder's other files stay as they were"
AGAIN = "begun anew after a crash in the middle, it still works"


class _Crash(BaseException):
    pass


class _Watch:
    """Looks at the folder after each call of a function that is not written in Python: what touches a disk is one.

    That is what another process would see, or what a crash at this moment would leave.
    """

    def __init__(self, path: Path, before: bytes | None, data: bytes, crash: bool = False):
        self.path, self.allowed, self.data, self.crash = path, (before, data), data, crash
        self.whole, self.beside, self.synced, self.moves = True, False, False, 0
        self.asked: int | None = None
        """The number (inode) of the file that is being synced, if it is known."""
        self.numbers: set[int | None] = set()
        """Of those that were synced in time; None stands for any file."""

    def __call__(self, _: Any, event: str, what: Any) -> None:
        if event not in ("c_call", "c_return"):
            return
        name = what.__name__
        if event == "c_return":
            self.whole = self.whole and self.content() in self.allowed
            self.beside = self.beside or self.data in self.others()
        elif name in ("fsync", "fdatasync", "sync"):
            # The bytes are out of Python's buffer by now, if anybody looks at the file; and it has not its name yet.
            if not self.moves and self.data in self.others():
                self.synced = True
                self.numbers.add(self.asked)
        elif name in ("replace", "rename", "link"):
            self.moves += 1
            if self.crash:
                raise _Crash  # what a profiler raises breaks off what it watches

    def content(self) -> bytes | None:
        try:
            return self.path.read_bytes()
        except OSError:
            return None

    def others(self) -> list[bytes]:
        """The contents of the folder's files, but of the file itself."""
        found = []
        for file in self.path.parent.iterdir():
            if file != self.path and file.is_file():
                found.append(file.read_bytes())
        return found

    def noted(self, sync: Callable) -> Callable:
        """`os.fsync` or the like, which also notes what file it is given."""
        def sync_it(file: Any) -> None:
            self.asked = os.fstat(file if isinstance(file, int) else file.fileno()).st_ino
            try:
                sync(file)
            finally:
                self.asked = None

        return sync_it

    def run(self, function: Callable) -> None:
        before = sys.getprofile()
        syncs = {name: self.noted(getattr(os, name)) for name in ("fsync", "fdatasync") if hasattr(os, name)}
        with mock.patch.multiple(os, **syncs):
            try:
                sys.setprofile(self)
                function(self.path, self.data)
            except _Crash:
                pass
            finally:
                sys.setprofile(before)

    def own(self) -> bool:
        """Was the file that has the name now among those synced? Also true where none was."""
        if not self.synced or None in self.numbers:
            return True
        return self.path.exists() and self.path.stat().st_ino in self.numbers


OTHERS = {"notes.txt": b"mine", "other.tmp": b"half of another", "holiday.jpg": b"JPEG", ".hidden": b"hidden"}
"""What else lies in the folder."""


def _watched(function: Callable, before: bytes | None, data: bytes, name: str = "picture.png") -> dict[str, object]:
    """What can be seen while it writes, and what is there in the end."""
    shared = "/dev/shm"  # memory, where there is such a place: no disk to wait for
    place = shared if os.access(shared, os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=place) as folder:
        path = Path(folder) / name
        for other, content in OTHERS.items():
            path.with_name(other).write_bytes(content)
        if before is not None:
            path.write_bytes(before)
        watch = _Watch(path, before, data)
        watch.run(function)
        ended, own = watch.content() == data, watch.own()
        found = {p.name: p.read_bytes() if p.is_file() else None for p in Path(folder).iterdir()}
    with tempfile.TemporaryDirectory(dir=place) as folder:
        again = _Watch(Path(folder) / "picture.png", None, data, crash=True)
        again.run(function)
        with contextlib.suppress(OSError):
            function(again.path, data)
        recovered = again.content() == data
    return {WHOLE: watch.whole, ENDED: ended, TIDY: set(found) <= {name, *OTHERS},
            STAY: all(found.get(other) == content for other, content in OTHERS.items()), BESIDE: watch.beside,
            MOVED: watch.moves > 0, SYNCED: watch.synced, OWN: own, AGAIN: recovered}


def _direct(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def _temporary(path: Path, data: bytes, flush: bool = True, sync: bool = True, mode: str = "wb") -> Path:
    other = path.with_name(path.name + ".tmp")
    with other.open(mode) as file:
        file.write(data)
        if flush:
            file.flush()
        if sync:
            os.fsync(file.fileno())
    return other


def _replaced(**how: Any) -> Callable:
    return lambda path, data: os.replace(_temporary(path, data, **how), path)


def _copied(path: Path, data: bytes) -> None:
    shutil.copyfile(_temporary(path, data), path)


def _copied_and_tidied(path: Path, data: bytes) -> None:
    other = _temporary(path, data)
    shutil.copyfile(other, path)
    other.unlink()


def _removed_first(path: Path, data: bytes) -> None:
    other = _temporary(path, data)
    path.unlink(missing_ok=True)
    os.rename(other, path)


def _elsewhere(move: Callable) -> Callable:
    def write(path: Path, data: bytes) -> None:
        with tempfile.NamedTemporaryFile(delete=False) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        move(file.name, path)

    return write


def _backup(path: Path, data: bytes) -> None:
    other = _temporary(path, data)
    if path.exists():
        os.replace(path, path.with_suffix(".bak"))
    os.replace(other, path)
    path.with_suffix(".bak").unlink(missing_ok=True)


def _flushed_only(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _synced_after(path: Path, data: bytes) -> None:
    other = path.with_name(path.name + ".tmp")
    other.write_bytes(data)
    os.replace(other, path)
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _tidied(whose: Callable, first: bool = False) -> Callable:
    """Removes other files of the folder, before or after."""
    def tidy(path: Path) -> None:
        for file in path.parent.iterdir():
            if file != path and whose(file):
                file.unlink()

    def write(path: Path, data: bytes) -> None:
        if first:
            tidy(path)
        os.replace(_temporary(path, data), path)
        if not first:
            tidy(path)

    return write


def _synced_instead(of: Callable) -> Callable:
    """Syncs something else."""
    def write(path: Path, data: bytes) -> None:
        other = _temporary(path, data, sync=False)
        handle = os.open(of(path), os.O_RDONLY)
        os.fsync(handle)
        os.close(handle)
        os.replace(other, path)

    return write


write_whole = Exercise(
    name="write_whole", reference=_write_bytes, observe=_watched,
    cases=lambda: [(b"old", b"new content"), (None, b"new"), (b"a longer old content", bytes(100_000)),
                   case(b"old", b"new content", "photo 1.jpeg",
                        about="the file may have any name: take that of `path`")],
    reminder="write under another name in the same folder, flush(), os.fsync(), close, os.replace",
    mistakes={
        "opening a file for writing empties it: write under another name in the same folder first": (
            _direct, _flushed_only, _elsewhere(shutil.copyfile)),
        "the name may reach the disk before the content: flush() and os.fsync() before the file is renamed": (
            _replaced(sync=False), _replaced(sync=False, flush=False), _synced_after),
        "os.fsync() before flush() writes out an empty file: Python still holds the bytes": _replaced(flush=False),
        "copying is writing, which can break off in the middle: os.replace moves the file in one step": (
            _copied, _copied_and_tidied),
        "between removing the old file and renaming the new one there is none: os.replace alone does both": (
            _removed_first, _backup),
        "the temporary file has to lie in the same folder: from another disk a move is a copy, which can break off": (
            _elsewhere(shutil.move), _elsewhere(os.replace)),
        "leave the folder's other files alone, whatever their names end in: only the temporary file is yours": (
            _tidied(lambda path: True), _tidied(lambda path: path.suffix == ".tmp"),
            _tidied(lambda path: path.name != ".hidden"), _tidied(lambda path: True, first=True)),
        "os.fsync() takes the temporary file itself: another file, or the folder, brings none of its bytes to disk": (
            _synced_instead(lambda path: path.parent), _synced_instead(lambda path: path.with_name("notes.txt")),
            _synced_instead(lambda path: path if path.exists() else path.parent)),
        "the temporary file is left behind, or never gets the name": lambda path, data: _temporary(path, data),
        "a temporary file of an earlier crash may still be there: open it with \"wb\", which begins anew": (
            _replaced(mode="xb"), _replaced(mode="ab")),
    })


# key_of

HEX = "it is a text of 64 hex digits (hexdigest)"
SAME = "the same call gives the same key again"
ORDER = "the same settings in another order give the same key"
DEEP = "settings inside settings may come in another order, too (sort_keys=True)"
PICTURE = "another picture gives another key"
CONTENT = "another picture of the same length gives another key (hash its bytes)"
SETTING = "another value of a setting gives another key"
DEEPER = "another value at any depth gives another key"
SETTINGS = "the settings stay as they were (make a new dictionary)"
KEY = "the key"


def _key(picture: bytes, settings: dict[str, Any]) -> str:
    decides = {**settings, "image": sha256(picture).hexdigest()}
    return sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()


def _turned(value: Any, deep: bool) -> Any:
    """The same dictionary with its keys in the other order, at every depth if `deep`; lists keep theirs."""
    if isinstance(value, list) and deep:
        return [_turned(v, deep) for v in value]
    if not isinstance(value, dict):
        return value
    return {k: _turned(v, deep) if deep else v for k, v in reversed(value.items())}


def _facts_of_key(function: Callable, picture: bytes, settings: dict[str, Any]) -> dict[str, object] | None:
    """What a key has to be good for, and at last the very text. None where nothing was returned."""
    given = json.loads(json.dumps(settings))

    def key(picture: bytes, settings: dict) -> object:
        return function(picture, json.loads(json.dumps(settings)))

    found = function(picture, given)
    if found is None:
        return None
    facts: dict[str, object] = {
        SETTINGS: given == settings and list(given) == list(settings),
        HEX: isinstance(found, str) and len(found) == 64 and set(found) <= set("0123456789abcdef"),
        SAME: key(picture, settings) == found,
        ORDER: key(picture, _turned(settings, deep=False)) == found,
        DEEP: key(picture, _turned(settings, deep=True)) == found,
        PICTURE: key(picture + b"more", settings) != found,
        CONTENT: key(picture[:-1] + bytes([picture[-1] ^ 1]), settings) != found,
        SETTING: key(picture, {**settings, "seed": 7}) != found,
    }
    if "method" in settings:
        facts[DEEPER] = key(picture, {**settings, "method": {**settings["method"], "steps": 99}}) != found
    return {**facts, KEY: found}


def _keyed() -> list[tuple]:
    method = {"steps": 6, "anchors": 9, "area": {"weight": 0.5, "sides": [0.25, 0.5]}}
    exact = ("the text is json.dumps(…, sort_keys=True) of one dictionary, settings and \"image\", with its own "
             "separators and no indent")
    return [(b"\x89PNG one", {"prompt": "a fox", "seed": 42, "method": method}),
            case(b"\x89PNG two", {"seed": 1, "prompt": "a fox", "method": method, "again": True}, about=exact),
            case(b"one", {"z": 1, "a": [0.5, None], "seed": 3, "source": None}, about=exact),
            case(b"x", {"seed": 1, "prompt": "ein F\u00fcchslein \U0001f98a", "source": "\u72d0"},
                 about="texts may hold any letters: json.dumps writes \\u00fc for \u00fc unless told otherwise, so "
                       "leave "
                       "ensure_ascii as it is"),
            case(b"x", {"seed": 2, "steps": [3, 1, 2], "turns": [{"source": "wolf", "prompt": "a fox"},
                                                                 {"prompt": "a cake", "area": 1}]},
                 about="dictionaries may lie in lists, too: sort_keys=True sorts them there as well, and leaves the "
                       "order of the lists")]


def _hash(value: Any, **options: Any) -> str:
    return sha256(json.dumps(value, **options).encode()).hexdigest()


def _with_image(picture: bytes, settings: dict, name: str = "image") -> dict:
    return {**settings, name: sha256(picture).hexdigest()}


def _changes_settings(picture: bytes, settings: dict) -> str:
    settings["image"] = sha256(picture).hexdigest()
    return _hash(settings, sort_keys=True)


key_of = Exercise(
    name="key_of", reference=_key, observe=_facts_of_key, cases=_keyed,
    reminder="the key is the hash of one JSON text, by json.dumps with its own separators and no indent: that of the "
             "settings with one key more, \"image\", which holds the picture's hash",
    mistakes={
        "the same settings in another order should give the same key: sort them":
            lambda picture, settings: _hash(_with_image(picture, settings)),
        "dictionaries lie in dictionaries: sort at every depth, with sort_keys=True":
            lambda picture, settings: _hash(dict(sorted(_with_image(picture, settings).items()))),
        "the picture decides too: put its hash beside the settings":
            lambda picture, settings: _hash(settings, sort_keys=True),
        "the settings decide too: hash them together with the picture's hash":
            lambda picture, settings: sha256(picture).hexdigest(),
        "another picture of the same length should give another key: hash its bytes":
            lambda picture, settings: _hash({"image": len(picture), **settings}, sort_keys=True),
        "the caller's dictionary was changed: make a new one, {**settings, \"image\": …}": _changes_settings,
        "leave json.dumps as it is: ensure_ascii=False writes other letters, and so another key":
            lambda picture, settings: _hash(_with_image(picture, settings), sort_keys=True, ensure_ascii=False),
        "leave json.dumps as it is: other separators or an indent make another text, and so another key": (
            lambda picture, settings: _hash(_with_image(picture, settings), sort_keys=True, separators=(",", ":")),
            lambda picture, settings: _hash(_with_image(picture, settings), sort_keys=True, indent=1),
            lambda picture, settings: _hash(_with_image(picture, settings), sort_keys=True, indent=2)),
        "return the hash in hex, hexdigest(), not its bytes":
            lambda picture, settings: sha256(json.dumps(_with_image(picture, settings), sort_keys=True).encode(
                )).digest(),
        "return the hash of the text, not the text":
            lambda picture, settings: json.dumps(_with_image(picture, settings), sort_keys=True),
        "return the whole hash, all 64 digits":
            lambda picture, settings: _key(picture, settings)[:16],
        "SHA-256 is asked for, not another hash": (
            lambda picture, settings: md5(json.dumps(_with_image(picture, settings), sort_keys=True).encode(
                )).hexdigest(),
            lambda picture, settings: _hash({**settings, "image": md5(picture).hexdigest()}, sort_keys=True)),
        "the picture's hash goes under the name \"image\"":
            lambda picture, settings: _hash(_with_image(picture, settings, "picture"), sort_keys=True),
        "the settings lie beside \"image\", not in a dictionary of their own: {**settings, \"image\": …}":
            lambda picture, settings: _hash({"image": sha256(picture).hexdigest(), "settings": settings},
                sort_keys=True),
        "one dictionary holds both: don't put two texts or hashes one behind the other": (
            lambda picture, settings: sha256(picture + json.dumps(settings, sort_keys=True).encode()).hexdigest(),
            lambda picture, settings: sha256((sha256(picture).hexdigest() + json.dumps(
                settings, sort_keys=True)).encode()).hexdigest(),
            lambda picture, settings: sha256((json.dumps(settings, sort_keys=True) + sha256(
                picture).hexdigest()).encode()).hexdigest()),
        "turn the dictionary into text by json.dumps, not by str or repr": (
            lambda picture, settings: sha256(str(sorted(_with_image(picture, settings).items())).encode()).hexdigest(),
            lambda picture, settings: sha256(str(dict(sorted(_with_image(picture, settings).items()))).encode(
                )).hexdigest(),
            lambda picture, settings: sha256(str(_with_image(picture, settings)).encode()).hexdigest()),
        "the picture goes in by its hash, not by its bytes as text": (
            lambda picture, settings: _hash({**settings, "image": picture.hex()}, sort_keys=True),
            lambda picture, settings: _hash({**settings, "image": str(picture)}, sort_keys=True),
            lambda picture, settings: _hash({**settings, "image": picture.decode("latin-1")}, sort_keys=True)),
    })


# dealt


def _blocks(items: Sequence, rank: int, processes: int) -> list:
    size = math.ceil(len(items) / processes)
    return list(items[rank * size:(rank + 1) * size])


def _dealt(items: Sequence, rank: int, processes: int) -> list:
    return list(_share(items, rank, processes))


dealt = Exercise(
    name="dealt", reference=_dealt,
    cases=lambda: [*(([7, 3, 9, 1, 5, 8, 2, 6, 4, 0], rank, 3) for rank in range(3)),
                   *((list("learnable"), rank, 2) for rank in range(2)),
                   case(list("abc"), 0, 1, about="one process takes all items"),
                   case(["one"], 1, 2, about="there may be fewer items than processes: then some get none, an empty "
                                             "list"),
                   case([], 0, 3, about="there may be no items at all: an empty list"),
                   case([5, 1, 5, 1, 5, 2, 5], 0, 2, about="a process may get items that are alike: it takes each"),
                   case([5, 5, 2, 5, 2], 1, 3, about="items may be alike: deal them out by their place in the list"),
                   case(list(range(10, 15)), 4, 5, about="the last process takes the last of each round")],
    reminder="the items at the places rank, rank + processes, rank + 2 · processes and so on",
    mistakes={
        "that is a block; deal the items out in turn, so that a hard stretch of the batch is shared": (
            _blocks, lambda items, rank, processes: list(items[rank * (len(items) // processes):(rank + 1) * (
                len(items) // processes)]),
            lambda items, rank, processes: list(items[rank * (len(items) // processes + 1):(rank + 1) * (
                len(items) // processes + 1)]),
            lambda items, rank, processes: list(items[rank * round(len(items) / processes):(rank + 1) * round(
                len(items) / processes)]),
            lambda items, rank, processes: list(items[rank * processes:(rank + 1) * processes]),
            lambda items, rank, processes: list(items[rank * len(items) // processes:(rank + 1) * len(
                items) // processes])),
        "ranks count from 0": (
            lambda items, rank, processes: list(items[rank - 1::processes]),
            lambda items, rank, processes: list(items[rank - 1::processes]) if rank else list(
                items[processes - 1::processes]),
            lambda items, rank, processes: list(items[rank + 1::processes])),
        "every item has to be somebody's, also if their number can't be divided evenly":
            lambda items, rank, processes: list(items[:len(items) // processes * processes][rank::processes]),
        "that is the number of items; return the items": lambda items, rank, processes: len(items[rank::processes]),
        "the steps are as long as there are processes, not ranks": lambda items, rank, processes: list(
            items[rank::max(rank, 1)]),
        "rank and processes are swapped: begin at the rank, and go on by the number of processes":
            lambda items, rank, processes: list(items[processes::max(rank, 1)]),
        "deal by an item's place in the list, not by the item itself": lambda items, rank, processes: [
            x for x in items if x % processes == rank],
        "items may be alike: count their places with enumerate, index() finds the first one only":
            lambda items, rank, processes: [x for x in items if items.index(x) % processes == rank],
        "return the items, not their places": lambda items, rank, processes: list(range(rank, len(items), processes)),
        "keep the order of the items": (
            lambda items, rank, processes: _dealt(items, rank, processes)[::-1],
            lambda items, rank, processes: sorted(_dealt(items, rank, processes), key=str)),
        "that is one item; go on through the whole list, by the number of processes":
            lambda items, rank, processes: list(
            items[rank:rank + 1]),
        "each process takes only its own items": lambda items, rank, processes: list(items),
        "deal from the first item on, not from the last":
            lambda items, rank, processes: list(items[::-1][rank::processes]),
        "return the share of this rank only": lambda items, rank, processes: [
            list(items[r::processes]) for r in range(processes)],
    })


# plan_pool


def _plan(items: int, seconds: float, hours: float, gigabytes: float, cores: int, memory: float,
    workers: Callable = math.ceil,
          machines: Callable = math.ceil, held: Callable | None = None) -> tuple[int, int]:
    count = workers(items * seconds / (hours * 3600))
    each = held(cores, memory / gigabytes) if held else min(cores, math.floor(memory / gigabytes))
    return count, machines(count / each)


def _pools() -> list[tuple]:
    return [(1_000_000, 2.4, 24.0, 1.1, 16, 64.0), (1_000_000, 2.4, 24.0, 6.0, 16, 64.0), (500_000, 35.2, 9.9, 3.0, 8,
        20.0),
            (300_000, 4.1, 11.0, 1.0, 7, 64.0),
            (10_000, 1.3, 8.0, 2.0, 4, 7.9),
            case(100, 0.5, 1.0, 1.0, 2, 8.0, about="part of a worker does not finish in time: one worker at least"),
            case(7200, 1.0, 1.0, 2.0, 4, 16.0,
                 about="where it comes out even nothing is rounded: here 7200 s of work in an hour are exactly 2 "
                       "workers"),
            case(36_000, 2.0, 2.5, 4.0, 8, 16.0,
                 about="where it comes out even nothing is rounded: 8 workers, 4 on a machine, are exactly 2 machines"),
            case(10_800, 1.0, 1.0, 2.0, 4, 16.0,
                 about="where it comes out even nothing is rounded: here 10800 s of work in an hour are exactly 3 "
                       "workers"),
            case(7_201, 1.0, 1.0, 2.0, 4, 16.0,
                 about="a second of work that is left needs a worker, too: round up, however small the rest"),
            case(36_001, 1.0, 1.0, 2.0, 5, 16.0,
                 about="a second of work that is left needs a worker, too, and perhaps a machine: round both up"),
            case(925_200, 1.0, 1.0, 1.0, 128, 1024.0,
                 about="a worker that is left needs a machine, too: round up, however small the rest"),
            case(20_000, 9.0, 5.0, 5.0, 32, 19.0, about="memory holds whole workers only: round it down"),
            case(5_000, 2.0, 1.0, 8.0, 64, 8.0, about="memory for a single worker makes a machine of one worker")]


def _more(plan: Callable) -> Callable:
    """A `plan_pool` by the parts (workers wanted, workers by memory, cores)."""
    return lambda items, seconds, hours, gigabytes, cores, memory: plan(
        items * seconds / (hours * 3600), memory / gigabytes, cores)


def _up_down(wanted: float, by_memory: float, cores: int) -> tuple[int, int]:
    workers = math.ceil(wanted)
    return workers, max(1, workers // min(cores, math.floor(by_memory)))


plan_pool = Exercise(
    name="plan_pool", reference=lambda items, seconds, hours, gigabytes, cores, memory: _plan(
        items, seconds, hours, gigabytes, cores, memory), cases=_pools,
    reminder="workers: the whole work by the time that one has, rounded up; a machine holds as many as its cores and "
             "its memory allow; machines: the workers by that, rounded up",
    mistakes={
        "round up: part of a worker does not finish in time": (
            lambda *given: _plan(*given, workers=int), lambda *given: _plan(*given, workers=lambda x: max(1, int(x))),
            lambda *given: _plan(*given, workers=round),
            lambda *given: _plan(*given, workers=lambda x: max(1, round(x)))),
        "round up only where there is a rest: int(x) + 1 is one too many where it comes out even": (
            lambda *given: _plan(*given, workers=lambda x: int(x) + 1),
            lambda *given: _plan(*given, machines=lambda x: int(x) + 1),
            lambda *given: _plan(*given, workers=lambda x: int(x) + 1, machines=lambda x: int(x) + 1)),
        "math.ceil rounds up; to add a number below 1 and cut off misses small rests or rounds up what is even": (
            lambda *given: _plan(*given, workers=lambda x: int(x + 0.99)),
            lambda *given: _plan(*given, workers=lambda x: int(x + 0.9)),
            lambda *given: _plan(*given, workers=lambda x: int(x + 0.999)),
            lambda *given: _plan(*given, workers=lambda x: math.ceil(round(x, 2))),
            lambda *given: _plan(*given, workers=lambda x: round(x + 0.5)),
            lambda *given: _plan(*given, machines=lambda x: int(x + 0.99)),
            lambda *given: _plan(*given, machines=lambda x: round(x + 0.5))),
        "a whole number is an int: math.ceil gives one, np.ceil a float":
            lambda *given: _plan(*given, workers=np.ceil, machines=np.ceil),
        "the number of machines is rounded up, too: the last workers need one": (
            _more(_up_down), lambda *given: _plan(*given, machines=int), lambda *given: _plan(*given, machines=round),
            lambda *given: _plan(*given, machines=lambda x: max(1, round(x)))),
        "workers and machines are whole numbers: round up": (
            lambda *given: _plan(*given, workers=lambda x: x, machines=lambda x: x),
            lambda *given: _plan(*given, machines=lambda x: x)),
        "a machine also holds no more workers than fit into its memory":
            lambda *given: _plan(*given, held=lambda cores, by_memory: cores),
        "a machine also holds no more workers than it has cores":
            lambda *given: _plan(*given, held=lambda cores, by_memory: math.floor(by_memory)),
        "a machine holds as many workers as both its cores and its memory allow: the smaller number":
            lambda *given: _plan(*given, held=lambda cores, by_memory: max(cores, math.floor(by_memory))),
        "the workers that fit into memory are rounded down": (
            lambda *given: _plan(*given, held=lambda cores, by_memory: min(cores, math.ceil(by_memory))),
            lambda *given: _plan(*given, held=lambda cores, by_memory: min(cores, by_memory)),
            lambda *given: _plan(*given, held=lambda cores, by_memory: min(cores, round(by_memory)))),
        "a worker has `gigabytes` of memory: divide the machine's memory by it": (
            lambda *given: _plan(*given, held=lambda cores, by_memory: cores * max(1, math.floor(by_memory)))),
        "an hour has 3600 seconds": (
            lambda items, seconds, hours, gigabytes, cores, memory: _plan(
                items, seconds, hours / 60, gigabytes, cores, memory),
            lambda items, seconds, hours, gigabytes, cores, memory: _plan(
                items, seconds, hours / 3600, gigabytes, cores, memory)),
        "(workers, machines), in this order": lambda *given: _plan(*given)[::-1],
        "return both, (workers, machines)": (lambda *given: _plan(*given)[0], lambda *given: _plan(*given)[1]),
        "the work is items times seconds, not items divided by seconds":
            lambda items, seconds, hours, gigabytes, cores, memory: _plan(
                items, 1 / seconds, hours, gigabytes, cores, memory),
        "that is as many machines as workers: a machine holds several": lambda *given: (_plan(*given)[0],) * 2,
    })
