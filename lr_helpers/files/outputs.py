"""Output folders: what we wrote there is listed in a ledger, and nothing else is ever replaced or removed.

The ledger lies in the folder. A line is added to it before a file appears, so a program that is killed at any moment
leaves nothing that the next one would not know. A file is ours if the ledger lists its name with the very content
that lies there: a file of ours that somebody has changed is theirs.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import file_digest, sha256
from pathlib import Path, PurePosixPath
from typing import IO

from lr_helpers.errors import OutputError, UserError
from lr_helpers.files import locks
from lr_helpers.files.writing import explained, prepare_folder, write_new

LEDGER = ".written_by_learnable_regions"
"""A line of JSON for each thing that was written: [kind, SHA-256, token, name]. A temporary file is called by the
token; what changes all the time, such as a log, has "" for its content, and a folder that we made "folder".
"""
FOLDER = "folder"
START = b'["'

KINDS = {"edit": "an edit", "batch": "a batch", "study": "a study", "report": "a report", "scene": "the command scene",
         "zoo": "the study zoo", "training": "a training",
         "site": "the command site", "vote": "the command vote", "slides": "the command slides"}
"""Who writes. What one kind wrote is a stranger's to the others."""

RESULT = "result.json"
"""The record of an edit, written last."""
TURNS = "turns.json"
"""The record of several edits in turn, written last; each edit lies in a folder of its own, "step_1" and so on."""
FINAL = "final_output.png"


class ForeignError(UserError):
    """Something lies where we would write, and we did not write it."""


def edit_names(candidates: int, draw_boxes: bool = True, prefix: str = "") -> list[str]:
    """The files that an edit of at most so many candidates may write, its record last."""
    names = ["input.png", FINAL, "region_network.safetensors", *(f"results/{i:02}.png" for i in range(candidates))]
    if draw_boxes:
        names += ["overview.png", *(f"boxes/{i:02}.png" for i in range(candidates))]
    return [prefix + name for name in (*names, RESULT)]


def turn_names(candidates: int, turns: int, draw_boxes: bool = True) -> list[str]:
    """The files that so many edits in turn may write, the record last."""
    steps = [name for step in range(1, turns + 1) for name in edit_names(candidates, draw_boxes, f"step_{step}/")]
    return [*steps, FINAL, TURNS]


def refuse_inside(folder: str | Path, inputs: Iterable[str | Path]) -> None:
    """Raises UserError if one of the inputs, files or folders, lies in the output folder or is it."""
    try:
        place = Path(folder).resolve()
        held = next((str(i) for i in inputs if Path(i).resolve().is_relative_to(place)), None)
    except (OSError, RuntimeError) as error:  # a link in a circle
        raise UserError(f"The output folder {str(folder)!r} can't be looked up ({error}); give another one.") from error
    if held is not None:
        raise UserError(f"The output folder {str(folder)!r} holds the input {held!r}; choose another one, such as "
                        f"{str(Path(folder) / 'edited')!r}.")


def own_json(file: Path, keys: Iterable[str]) -> dict:
    """What a JSON file holds that we may replace: an object with none but these keys; {} where there is no file.

    Raises ForeignError for anything else that lies there.
    """
    if not os.path.lexists(file):
        return {}
    try:
        found = json.loads(file.read_text(encoding="utf-8")) if stat.S_ISREG(os.lstat(file).st_mode) else None
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict) or not found.keys() <= set(keys):
        raise ForeignError(f"{str(file)!r} is there already and holds something else; give another file.")
    return found


@dataclass(frozen=True)
class Line:
    """What the ledger says of one thing."""

    kind: str
    digest: str
    token: str
    name: str

    @property
    def stays_inside(self) -> bool:
        """Does it name something in the folder? A list from elsewhere could name any file of the machine."""
        pure = PurePosixPath(self.name)
        return (bool(self.name) and "\0" not in self.name and not pure.is_absolute() and ".." not in pure.parts
                and re.fullmatch("[0-9a-f]{16}", self.token) is not None)

    @property
    def temporary(self) -> PurePosixPath:
        """What its temporary file is called."""
        return PurePosixPath(self.name).parent / f".{self.token}.tmp"


class Output:
    """A folder into which one kind of program writes. Small and picklable; several processes may have one each.

    Names are relative, with `/`. Whatever writes raises OutputError where the folder can't be written to, and
    ForeignError, before it changes anything, where something lies in its way that is not ours.
    """

    def __init__(self, folder: str | Path, kind: str):
        self.folder, self.kind = Path(folder), kind
        KINDS[kind]  # a KeyError here, rather than a sentence without a subject later

    # Whose is it?

    def is_ours(self, name: str) -> bool:
        """Does the file that lies there have a content that we wrote under this name?"""
        return self._is_plain(name) and _digest(self.folder / name) in self._listed().get(name, set())

    def require(self, names: Iterable[str]) -> None:
        """Raises ForeignError if anything lies at one of these names that is not ours."""
        self._require_list()
        listed: dict[str, set[str]] | None = None
        for name in names:
            if not self._has_real_parents(name):
                raise ForeignError(self._sentence(PurePosixPath(name).parts[0]))
            if not os.path.lexists(self.folder / name):
                continue
            listed = self._listed() if listed is None else listed  # a study's ledger is long, and seldom asked
            digests = listed.get(name, set())
            if not (self._is_plain(name) and ("" in digests or _digest(self.folder / name) in digests)):
                raise ForeignError(self._sentence(name, changed=bool(digests)))

    def require_pattern(self, *patterns: str) -> None:
        """`require` for all that is there and fits one of the patterns."""
        there = (found for pattern in patterns for found in self.folder.glob(pattern))
        self.require(found.relative_to(self.folder).as_posix() for found in there)

    def ours(self) -> list[str]:
        """The names of the files that are there and ours, those we claimed included."""
        return [name for name, digests in self._listed().items()
                if digests != {FOLDER} and self._is_plain(name) and {"", _digest(self.folder / name)} & digests]

    # Writing

    def write(self, name: str, data: bytes) -> None:
        """One file, whole or not at all; what we wrote there before is replaced."""
        with self.change(sweep=False) as change:
            change.write(name, data)

    def remove(self, *names: str) -> None:
        """Remove files; raises ForeignError for one that is not ours."""
        if any(os.path.lexists(self.folder / name) for name in names):
            with self.change(sweep=False) as change:
                change.remove(*names)

    @contextlib.contextmanager
    def change(self, sweep: bool = True) -> Iterator[Change]:
        """Several files at once: what is written in the block appears at its end, and if anything goes wrong in it,
        the disk full say, all stays as it was. `sweep`: also remove what a killed program left half-written.
        """
        prepare_folder(self.folder)
        with self._ledger() as ledger:
            if sweep:
                self._sweep()
            change = Change(self, ledger)
            try:
                yield change
                change.commit()
            finally:
                change.close()

    def claim(self, name: str) -> Path:
        """A file that is ours whatever it holds, such as a log; it is not made here. Once claimed, it stays so."""
        prepare_folder(self.folder)
        claimed = "" in self._listed().get(name, set())
        if os.path.lexists(self.folder / name) and not (claimed and self._is_plain(name)):
            raise ForeignError(self._sentence(name, changed=claimed))
        if not claimed:
            self._append(Line(self.kind, "", secrets.token_hex(8), name))
        return self.folder / name

    def adopt(self, name: str, changing: bool = False) -> None:
        """Take over a file as it lies there: one whose content the caller knows to be ours, of a time before there was
        a list. `changing`: as `claim` does.
        """
        if not self._is_plain(name):
            raise ForeignError(self._sentence(name))
        self._append(Line(self.kind, "" if changing else _digest(self.folder / name), secrets.token_hex(8), name))

    def temporary(self) -> Path:
        """A name for a file that the next `sweep` removes; it is not made here."""
        line = Line(self.kind, FOLDER, secrets.token_hex(8), "temporary")
        self._append(line)
        return self.folder / line.temporary

    def sweep(self) -> None:
        """Remove what a killed program of ours left half-written."""
        if self.folder.is_dir():
            with self._ledger():
                self._sweep()

    # The ledger

    def _sweep(self) -> None:
        with explained(self.folder):
            for line in self._lines():
                temporary = self.folder / line.temporary
                if line.kind == self.kind and os.path.lexists(temporary) and self._has_real_parents(line.name):
                    temporary.unlink()

    @contextlib.contextmanager
    def _ledger(self) -> Iterator[IO[bytes]]:
        """The ledger, opened to add lines, and locked: one writer at a time changes the folder."""
        file = self.folder / LEDGER
        self._require_list()
        with explained(file), contextlib.ExitStack() as stack:
            handle = os.open(file, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
            ledger = stack.enter_context(os.fdopen(handle, "r+b", buffering=0))
            with contextlib.suppress(OSError):  # a file system without locks
                locks.hold(ledger, wait=True)
            yield ledger

    def _require_list(self) -> None:
        """Raises ForeignError if what lies at the ledger's place is none."""
        file = self.folder / LEDGER
        if not os.path.lexists(file):
            return
        try:
            if not stat.S_ISREG(os.lstat(file).st_mode):
                raise self._no_ledger("no plain file")
            with file.open("rb") as stream:
                if stream.read(len(START)) not in (b"", START[:1], START):
                    raise self._no_ledger("it begins otherwise")
        except OSError as error:
            raise OutputError(f"{file} can't be read ({error.strerror}); choose another output folder.") from error

    def _append(self, line: Line) -> None:
        with self._ledger() as ledger:
            add_line(ledger, line)

    def _lines(self) -> list[Line]:
        """All whole lines; raises ForeignError if the ledger is none."""
        file = self.folder / LEDGER
        self._require_list()
        try:
            if not os.path.lexists(file):
                return []
            *whole, _ = file.read_bytes().split(b"\n")
            lines = [Line(*map(str, json.loads(text))) for text in whole if text.endswith(b"]")]
            return [line for line in lines if line.stays_inside]
        except (ValueError, TypeError) as error:
            raise self._no_ledger(str(error)) from error
        except OSError as error:
            raise OutputError(f"{file} can't be read ({error.strerror}); choose another output folder.") from error

    def _listed(self) -> dict[str, set[str]]:
        """What our kind wrote: name → the contents it had."""
        listed: dict[str, set[str]] = {}
        for line in self._lines():
            if line.kind == self.kind:
                listed.setdefault(line.name, set()).add(line.digest)
        return listed

    def _no_ledger(self, why: str) -> ForeignError:
        return ForeignError(f"{str(self.folder / LEDGER)!r} is not the list of what was written there ({why}); choose "
                            "another output folder.")

    # What lies there

    def _has_real_parents(self, name: str) -> bool:
        """Are the folders between the output folder and the file folders, or not there? A link leads elsewhere."""
        parts = PurePosixPath(name).parts[:-1]
        between = (self.folder.joinpath(*parts[:n]) for n in range(1, len(parts) + 1))
        return all(not os.path.lexists(p) or (p.is_dir() and not p.is_symlink()) for p in between)

    def _is_plain(self, name: str) -> bool:
        """Does a plain file lie there, and no link on the way?"""
        try:
            return stat.S_ISREG(os.lstat(self.folder / name).st_mode) and self._has_real_parents(name)
        except OSError:
            return False

    def _sentence(self, name: str, changed: bool = False) -> str:
        file = str(self.folder / name)
        if changed:
            return (f"{file!r} is not as {KINDS[self.kind]} wrote it (changed or damaged since); move it away, or "
                    "choose another output folder.")
        return (f"{file!r} is there already, and {KINDS[self.kind]} did not write it; move it away, or choose another "
                "output folder.")


class Change:
    """Files on their way into an `Output`, under temporary names until all of them are whole on the disk."""

    def __init__(self, output: Output, ledger: IO[bytes]):
        self.output, self.ledger = output, ledger
        self.staged: dict[str, Path] = {}
        self.records: list[str] = []
        self.gone: dict[str, None] = {}
        self.made: list[str] = []
        self.committed = False

    def write(self, name: str, data: bytes, record: bool = False) -> None:
        """A file with this content. A `record` tells of the others: it appears last, and its old version goes first."""
        output = self.output
        output.require([name])
        line = Line(output.kind, sha256(data).hexdigest(), secrets.token_hex(8), name)
        with explained(output.folder / name):
            add_line(self.ledger, line)
            self._make_parents(name)
        self.staged[name] = output.folder / line.temporary
        write_new(self.staged[name], data, shown=output.folder / name)
        if record:
            self.records.append(name)

    def remove(self, *names: str) -> None:
        """Files that are to go; raises ForeignError for one that is not ours."""
        self.output.require(names)
        self.gone |= dict.fromkeys(names)

    def remove_others(self) -> None:
        """All of ours that is not written in this change is to go, and the folders that we made for it."""
        self.gone |= dict.fromkeys(self.output.ours())

    def commit(self) -> None:
        """Let go what goes and appear what comes; the records that are replaced go first, the new ones come last."""
        output = self.output
        output.require([*self.staged, *self.gone])  # once more, as late as can be
        with explained(output.folder):
            os.fsync(self.ledger.fileno())  # it must know the files before they are there
            known = [*self.records, *(name for name in self.gone if name.endswith(".json"))]
            for name in (*known, *(name for name in self.gone if name not in self.staged)):
                (output.folder / name).unlink(missing_ok=True)
            for name in sorted(self.staged, key=self._rank):
                with explained(output.folder / name):
                    os.replace(self.staged[name], output.folder / name)
                del self.staged[name]
        self.committed = True

    def close(self) -> None:
        """Remove what was not committed, and folders of ours that are empty now."""
        for temporary in self.staged.values():
            with contextlib.suppress(OSError):
                temporary.unlink()
        folders = self.made if not self.committed else {parent for name in self.gone for parent in _parents(name)}
        listed = self.output._listed() if folders else {}
        for name in sorted(set(folders), key=len, reverse=True):
            if FOLDER in listed.get(name, set()) and self.output._has_real_parents(f"{name}/x"):
                with contextlib.suppress(OSError):  # something lies in it
                    (self.output.folder / name).rmdir()

    def _rank(self, name: str) -> int:
        """Records come last, in the order in which they were written; all others stay in theirs (sorting is stable)."""
        return 1 + self.records.index(name) if name in self.records else 0

    def _make_parents(self, name: str) -> None:
        for parent in reversed(_parents(name)):
            with contextlib.suppress(FileExistsError):
                (self.output.folder / parent).mkdir()
                self.made.append(parent)
                add_line(self.ledger, Line(self.output.kind, FOLDER, secrets.token_hex(8), parent))


def add_line(ledger: IO[bytes], line: Line) -> None:
    """Add to the ledger in one write; half a line, which a full disk may have left, is ended first."""
    end = ledger.seek(0, os.SEEK_END)
    if end:
        ledger.seek(end - 1)
    start = b"\n" if end and ledger.read(1) != b"\n" else b""
    text = json.dumps([line.kind, line.digest, line.token, line.name])  # ASCII: any name, in one line
    data = start + text.encode() + b"\n"
    if os.write(ledger.fileno(), data) < len(data):
        raise OSError(28, os.strerror(28))  # ENOSPC: the disk took a part


def _parents(name: str) -> list[str]:
    """The folders between the output folder and a file, the nearest first."""
    return [parent.as_posix() for parent in PurePosixPath(name).parents][:-1]


def _digest(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            return file_digest(stream, "sha256").hexdigest()
    except OSError:
        return "can't be read"
