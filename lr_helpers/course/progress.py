"""A learner's way through the exercises: a small JSON file of their own, a map of it, and the table of a whole class.

The file is results/progress.json in the course's folder, or what the environment variable LR_PROGRESS names:

    {"schema": "learnable-regions/progress", "version": 1, "learner": "Ada",
     "exercises": {"proposals": {"notebook": "03_the_box_generator", "state": "done", "attempts": 3,
                                 "first_passed": "2026-11-26T10:12:31+00:00"}}}

`learner` may be null; an exercise that was never tried may be missing. A check writes only after `keep`, which the
exercise notebooks call: who runs a solved notebook has not solved anything.
"""

from __future__ import annotations

import functools
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from html import escape
from pathlib import Path

from lr_helpers.errors import UserError
from lr_helpers.files import locks
from lr_helpers.files.names import brief
from lr_helpers.files.paths import ROOT
from lr_helpers.files.writing import csv_bytes, json_bytes, write_bytes

SCHEMA, VERSION = "learnable-regions/progress", 1
COLUMNS = ("learner", "notebook", "exercise", "state", "attempts", "first_passed")
"""Of the table of a class: a line for each learner and exercise."""

DONE, OURS, OPEN = "done", "ours", "open"
MARKS = {DONE: "✓", OURS: "◐", OPEN: "○"}
SAID = {DONE: "done", OURS: "done with ours", OPEN: "open"}
_SHADES = {DONE: "#cfe8d5", OURS: "#fbe3b9", OPEN: "#ececec"}
_CHIP = "display:inline-block;margin:2px;padding:1px 7px;border-radius:9px;color:#111;background:"

LARGEST = 1_000_000
"""Bytes: no learner's file is near it."""
PATIENCE = 5.0
"""Seconds to wait for another window of the same learner, which writes for milliseconds."""


@functools.cache
def exercises(folder: Path = ROOT / "notebooks") -> dict[str, list[str]]:
    """The exercises of each notebook that has some, by the names of their checks, in the order of the course."""
    found = {}
    for script in sorted(folder.glob("*.py")):
        # The cell after each solution calls the check of its function.
        text = script.read_text(encoding="utf-8")
        names = re.findall(r'tags=\["solution"\][\s\S]*?^checks\.(\w+)\(', text, re.MULTILINE)
        if names:
            found[script.stem] = names
    return found


@functools.cache
def _notebook_of(exercise: str) -> str:
    return next((notebook for notebook, names in exercises().items() if exercise in names), "")


@dataclass(frozen=True)
class Entry:
    """How far one exercise is."""

    notebook: str
    """Name of the notebook that sets it, without its ending."""
    state: str = OPEN
    """"done", "ours" (gone on with the course's own function) or "open"."""
    attempts: int = 0
    """How often the check was asked, up to the first time it was satisfied; an untouched stub does not count."""
    first_passed: str | None = None
    """ISO 8601, UTC; None unless `state` is "done"."""

    def after(self, outcome: str) -> Entry:
        """The entry after one more check with this outcome: `DONE`, `OURS`, or `OPEN` for a wrong answer."""
        if self.state == DONE:
            return self
        if outcome == DONE:
            return replace(self, state=DONE, attempts=self.attempts + 1, first_passed=_now())
        if outcome == OURS:
            return replace(self, state=OURS)
        return replace(self, attempts=self.attempts + 1)

    def with_other(self, other: Entry) -> Entry:
        """Both together, of one learner who worked in two places."""
        order = (OPEN, OURS, DONE)
        passed = min(filter(None, (self.first_passed, other.first_passed)), default=None)
        return Entry(self.notebook, max(self.state, other.state, key=order.index), self.attempts + other.attempts,
                     passed)


@dataclass(frozen=True)
class Progress:
    """A learner's progress. In a notebook it shows itself as a map of the course."""

    learner: str | None = None
    entries: dict[str, Entry] = field(default_factory=dict)
    """By exercise; who never tried one has no entry for it."""

    def rows(self) -> list[dict]:
        """A row with `COLUMNS` for each exercise of the course, and for those that an older course had."""
        found = []
        known = {name: notebook for notebook, names in exercises().items() for name in names}
        for name in [*known, *(n for n in self.entries if n not in known)]:
            entry = self.entries.get(name, Entry(known.get(name, "")))
            found.append({"learner": self.learner, "notebook": known.get(name, entry.notebook), "exercise": name,
                          "state": entry.state, "attempts": entry.attempts, "first_passed": entry.first_passed})
        return found

    def _by_notebook(self) -> dict[str, list[dict]]:
        found: dict[str, list[dict]] = {}
        for row in self.rows():
            found.setdefault(row["notebook"], []).append(row)
        return found

    def _summary(self) -> str:
        states = [row["state"] for row in self.rows()]
        whose = f"{self.learner}: " if self.learner else ""
        return (f"{whose}{states.count(DONE)} of {len(states)} exercises done, {states.count(OURS)} done with ours, "
                f"{states.count(OPEN)} open")

    def __repr__(self) -> str:
        lines = [self._summary()]
        for notebook, rows in self._by_notebook().items():
            lines.append(f"{notebook}  {sum(r['state'] == DONE for r in rows)} of {len(rows)}")
            lines += [f"  {MARKS[r['state']]} {r['exercise']:20} {_details(r)}".rstrip() for r in rows]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        lines = []
        for notebook, rows in self._by_notebook().items():
            chips = []
            for row in rows:
                small = f' <small style="color:#444">{escape(_details(row))}</small>' if _details(row) else ""
                chips.append(
                    f'<span title="{escape(SAID[row["state"]])}" style="{_CHIP}{_SHADES[row["state"]]}">'
                    f'{MARKS[row["state"]]} {escape(row["exercise"])}{small}</span>')
            done = sum(row["state"] == DONE for row in rows)
            lines.append(f'<tr><th style="text-align:left;white-space:nowrap">{escape(notebook.replace("_", " "))}</th>'
                         f'<td style="text-align:right;white-space:nowrap">{done} of {len(rows)}</td>'
                         f'<td style="text-align:left">{"".join(chips)}</td></tr>')
        key = ", ".join(f"{MARKS[state]} {said}" for state, said in SAID.items())
        return (f"<p><b>{escape(self._summary())}</b> &nbsp; ({key})</p>"
                f"<table><tbody>{''.join(lines)}</tbody></table>")


def _details(row: dict) -> str:
    """Attempts and first time passed, as far as there are any."""
    parts = []
    if row["attempts"]:
        parts.append(f"{row['attempts']} attempt{'s' if row['attempts'] > 1 else ''}")
    if row["first_passed"]:
        parts.append(datetime.fromisoformat(row["first_passed"]).astimezone().strftime("%Y-%m-%d %H:%M"))
    return ", ".join(parts)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


# One learner's file


def place() -> Path:
    """The file: what LR_PROGRESS names (a folder stands for progress.json in it), else results/progress.json."""
    named = os.environ.get("LR_PROGRESS")
    if not named:
        return ROOT / "results" / "progress.json"
    path = Path(named).expanduser()
    return path / "progress.json" if path.is_dir() else path


def clean_name(name: str) -> str:
    """A learner's name with single spaces; raises UserError for none and for more than 80 letters."""
    found = " ".join(name.split())
    if not 1 <= len(found) <= 80 or not found.isprintable():
        raise UserError(f"The learner's name is {brief(name)}; give 1 to 80 letters.")
    return found


def read(file: Path) -> Progress:
    """The progress in a file; raises UserError, one sentence, for one that is missing, damaged or something else."""
    try:
        if file.stat().st_size > LARGEST:
            raise UserError(f"{file} is larger than any progress file; check the path.")
        record = json.loads(file.read_bytes())
    except OSError as error:
        raise UserError(f"The progress in {file} can't be read ({error.strerror}); check the path.") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file} is no JSON; move it away, or give a file that a check has written.") from error
    if not isinstance(record, dict) or record.get("schema") != SCHEMA:
        raise UserError(f"{file} holds something else than progress; give a file that a check has written.")
    if record.get("version") != VERSION:
        raise UserError(f"{file} is of version {brief(record.get('version'), 20)}, and this course reads {VERSION}; use"
                        " the course that wrote it.")
    try:
        learner = record.get("learner")
        entries = {str(name): _entry(found) for name, found in record["exercises"].items()}
        return Progress(None if learner is None else clean_name(learner), entries)
    except (AttributeError, KeyError, TypeError, ValueError, UserError) as error:  # the last: of the name
        raise UserError(f"{file} is damaged; move it away, or give a file as a check has written it.") from error


def _entry(found: dict) -> Entry:
    entry = Entry(**{name: found[name] for name in ("notebook", "state", "attempts", "first_passed")})
    right = isinstance(entry.notebook, str) and entry.state in MARKS and type(entry.attempts) is int
    if not right or entry.attempts < 0 or (entry.first_passed is not None) != (entry.state == DONE):
        raise ValueError(found)
    if entry.first_passed is not None and datetime.fromisoformat(entry.first_passed).tzinfo is None:
        raise ValueError(found)
    return entry


def change(file: Path, how: Callable[[Progress], Progress]) -> Progress:
    """Read the file, change it, and write it whole; a file that is missing holds nothing yet. Windows of the same
    learner take turns.

    Raises UserError (OutputError) if it can't be written or holds something else, OSError if its folder can't be made.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    taken = f"{file} is in use by another process; try again."
    with locks.alone(file.with_name(f".{file.name}.lock"), taken, PATIENCE):
        before = read(file) if file.exists() else None
        after = how(before or Progress())
        if after != before:
            entries = {name: vars(entry) for name, entry in after.entries.items()}
            write_bytes(file, json_bytes({"schema": SCHEMA, "version": VERSION, "learner": after.learner,
                                          "exercises": entries}))
    return after


def rename(learner: str) -> Progress:
    """Put this name into the learner's file; raises UserError for a name or a file that can't be."""
    name = clean_name(learner)
    try:
        return change(place(), lambda found: replace(found, learner=name))
    except OSError as error:
        raise UserError(f"{place()} can't be written ({error.strerror}); set LR_PROGRESS to a file that you may write "
                        "to.") from error


# What checks call


class _Session:
    """Whether this process keeps progress, and what it has complained of."""

    keeps = False
    complained = False


def keep() -> None:
    """From now on, the checks of this process write down how they went; says where, or why not, in a sentence."""
    _Session.keeps, _Session.complained = True, False
    if _safely(lambda found: replace(found, learner=found.learner or _asked_name())):
        lasts = ("; Colab forgets it with the runtime, so download it, or mount your Drive and set LR_PROGRESS"
                 if "google.colab" in sys.modules else "")
        print(f"Your progress is kept in {place()}: checks.progress() shows it{lasts}.")


def _asked_name() -> str | None:
    """The name that the environment variable LR_LEARNER gives."""
    return clean_name(os.environ["LR_LEARNER"]) if os.environ.get("LR_LEARNER") else None


def note(exercise: str, outcome: str) -> None:
    """Write down one check, if this process keeps progress.

    The outcome is `DONE`, `OURS`, or `OPEN` for a wrong answer. What stands in the way is said in a sentence, once; no
    exercise fails because of it.
    """
    if _Session.keeps:
        _safely(lambda found: replace(found, entries={
            **found.entries,
            exercise: found.entries.get(exercise, Entry(_notebook_of(exercise))).after(outcome)}))


def _safely(how: Callable[[Progress], Progress]) -> bool:
    """Change the learner's file; where that is impossible, say so once."""
    try:
        change(place(), how)
    except (UserError, OSError, NotImplementedError) as error:  # the last: a disk without locks
        reason = getattr(error, "strerror", None) or str(error).partition("; ")[0].rstrip(".")
        if not _Session.complained:
            print(f"Your progress is not kept ({reason}); set LR_PROGRESS to a file that you may write to.")
        _Session.complained = True
        return False
    return True


# A class


def read_class(files: Iterable[Path]) -> tuple[list[Progress], list[str], list[str]]:
    """The learners in these files by name; a sentence for each file that can't be counted, and one for each that is
    counted together with another file of the same learner.

    A file without a name counts for a learner of the file's name, or of its folder's if it is called progress.json.
    """
    found: dict[str, Progress] = {}
    refused, joined = [], []
    for file in files:
        try:
            one = read(file)
        except UserError as error:
            refused.append(str(error))
            continue
        name = one.learner or (file.parent.name if file.stem == "progress" else file.stem) or file.name
        if name in found:
            joined.append(f"{file} is another file of {name}, and both are counted together; give two people of one "
                          "name two names.")
            both = dict(found[name].entries)
            for exercise, entry in one.entries.items():
                both[exercise] = both[exercise].with_other(entry) if exercise in both else entry
            one = Progress(name, both)
        found[name] = replace(one, learner=name)
    return [found[name] for name in sorted(found)], refused, joined


def class_csv(learners: Sequence[Progress]) -> bytes:
    """The table of a class as a CSV file with `COLUMNS`."""
    return csv_bytes(COLUMNS, (row for learner in learners for row in learner.rows()))


def run(folder: Path, output: Path, say: Callable[[str], None] = print) -> int:
    """Write the table of all progress files in `folder` and below to `output`, and say what is in it.

    Returns the exit code: 1 if a file in it could not be counted, which is told. Raises UserError if the folder is
    missing or none of its files can be counted, and if `output` is something else than such a table.
    """
    if not folder.is_dir():
        raise UserError(f"There is no folder {str(folder)!r}; give the one with the learners' .json files.")
    files = sorted(f for f in folder.rglob("*.json") if f.is_file() and not f.name.startswith("."))
    learners, refused, joined = read_class(files)
    for remark in (*refused, *joined):
        say(remark)
    if not learners:
        raise UserError(f"{folder} holds no progress of a learner; collect their results/progress.json there.")
    header = csv_bytes(COLUMNS, [])
    try:
        foreign = output.exists() and not (output.is_file() and output.read_bytes().startswith(header))
    except OSError as error:
        raise UserError(f"{output} can't be read ({error.strerror}); give another --output.") from error
    if foreign:
        raise UserError(f"{output} is there, and it is no table of this command; give another --output.")
    write_bytes(output, class_csv(learners))
    states = [row["state"] for learner in learners for row in learner.rows()]
    say(f"{len(learners)} learner{'s' if len(learners) > 1 else ''}: {states.count(DONE)} of {len(states)} exercises "
        f"done, {states.count(OURS)} done with ours, {states.count(OPEN)} open; the table is {output}")
    return 1 if refused else 0
