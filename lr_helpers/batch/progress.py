"""What a batch tells while it works: a bar and sentences for people, lines of JSON for machines, and a log file."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
from datetime import UTC, datetime
from pathlib import Path

from tqdm.auto import tqdm

from lr_helpers.batch.folder import output_of
from lr_helpers.batch.work import DONE, Outcome
from lr_helpers.errors import UserError
from lr_helpers.files.names import shown
from lr_helpers.files.writing import explained

LOG = "batch.log"
LINE = re.compile(rb"\d{4}-\d\d-\d\dT[\d:.]+\+00:00 \[\d+\] ")
"""How a line of the log begins."""


def require_log(file: Path) -> None:
    """Raises UserError where something else lies in the log's place, although a log of ours was there once.

    An empty file is a log whose first line is still to come.
    """
    if file.is_file():
        with explained(file), file.open("rb") as there:
            begin = there.read(64)
        if begin and not LINE.match(begin):
            raise UserError(f"{shown(str(file))} is not the log that a batch wrote; move it away, or give another "
                            "output folder.")


class Log:
    """Appends lines with time and process to a file; each is one write, so several processes may share the file and
    a kill leaves no half line. A full disk loses lines, never the batch.
    """

    def __init__(self, file: Path):
        output_of(file.parent).claim(file.name)
        require_log(file)
        with explained(file):
            self.handle = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)

    def write(self, text: str) -> None:
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        with contextlib.suppress(OSError):
            os.write(self.handle, f"{now} [{os.getpid()}] {text}\n".encode(errors="backslashreplace"))

    def close(self) -> None:
        os.close(self.handle)


class Reporter:
    """Every event of a batch goes through `tell`; a context manager, so that bar and log are closed."""

    def __init__(self, folder: Path, quiet: bool = False, json_lines: bool = False):
        self.log, self.quiet, self.json_lines = Log(folder / LOG), quiet, json_lines
        self.bar: tqdm | None = None
        self.out = sys.stdout  # as it is now; an engine may lead aside what its library prints

    def __enter__(self) -> Reporter:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, _: object) -> None:
        self.close_bar()
        if error is not None:
            self.tell("stopped", f"{kind.__name__}: {error}", message=str(error), shown=False)
        self.log.close()

    def open_bar(self, total: int, kept: int) -> None:
        """So many items in all, of which so many are done already; the time left is counted from here on."""
        if not self.quiet:
            self.bar = tqdm(total=total, initial=kept, desc="batch", unit="item", file=sys.stderr, dynamic_ncols=True)

    def close_bar(self) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None

    def outcome(self, outcome: Outcome) -> None:
        """An item has been tried."""
        told = {"name": outcome.name, **outcome.row} | ({"message": outcome.message} if outcome.message else {})
        if outcome.status == DONE:
            self.tell(DONE, f"{outcome.name} in {outcome.row['seconds']:.2f} s", shown=False, **told)
            for warning in outcome.row["warnings"]:
                self.tell("warning", f"{outcome.name}: {warning}", json_line=False)
        else:
            self.tell(outcome.status, f"{outcome.name}: {outcome.message}", always=True, **told)
            if outcome.detail:
                self.log.write(outcome.detail.rstrip().replace("\n", "\n    "))
        if self.bar is not None:
            self.bar.update()

    def tell(self, event: str, text: str, *, shown: bool = True, always: bool = False, json_line: bool = True,
             **fields: object) -> None:
        """Log an event; a JSON line of its fields on stdout, if asked for; its text on stderr if `shown`, even in a
        quiet batch if `always`.
        """
        self.log.write(f"{event} {text}")
        if self.json_lines and json_line:
            # Where the stream knows but few letters, JSON has its own way to write all others.
            ascii_only = not (getattr(self.out, "encoding", None) or "").lower().startswith("utf")
            print(json.dumps({"event": event, **fields}, ensure_ascii=ascii_only), file=self.out, flush=True)
        if always or (shown and not self.quiet):
            tqdm.write(text if event == "end" else f"{event}: {text}", file=sys.stderr)
