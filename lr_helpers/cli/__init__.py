"""The command line: `python -m lr_helpers edit | batch | train-regions | scene | study | report | doctor | fetch |
benchmark | notebooks | docs`.

One file a command. Each has `add(commands)`, which declares its options, and `run(options)`, which returns the exit
code. What takes seconds to import (torch, diffusers) is imported in `run`, so that a wrong option is told at once.
"""

from __future__ import annotations

import argparse
import os
import select
import sys

from lr_helpers.cli import batch, benchmark, docs, doctor, edit, fetch, notebooks, report, scene, study, train_regions
from lr_helpers.errors import UserError

COMMANDS = (edit, batch, train_regions, scene, study, report, doctor, fetch, benchmark, notebooks, docs)


def parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    top = argparse.ArgumentParser(prog="python -m lr_helpers",
                                  description="Learn where to edit a picture, and edit it.")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add(commands)
    return top


def main(arguments: list[str] | None = None) -> int:
    """Run one command.

    Returns the exit code: 0 if it worked, 1 if a part failed, 2 for input that can't work, 130 if it was interrupted,
    141 if nobody reads its output any more.
    """
    try:
        try:
            return _run(arguments)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            print("stopped", file=sys.stderr)
            return 130
        finally:
            if sys.stdout is not None:  # it is None where the program was started without one
                sys.stdout.flush()  # here, where a closed pipe is answered, and not at the interpreter's end
    except BrokenPipeError:  # `… | head` has read enough
        if not _silence_closed_pipes():
            raise  # another pipe of the program broke, which is an error like any other
        return 141  # as shells report a program that SIGPIPE ended: 128 + 13


def _run(arguments: list[str] | None) -> int:
    options, unknown = parser().parse_known_args(arguments)
    if unknown:  # told with the usage of the command, which lists the options there are
        options.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    return options.run(options)


def _silence_closed_pipes() -> bool:
    """Lead standard streams whose reader has gone to devnull, so that the last flush can't fail; was there one?"""
    closed = False
    for stream in filter(None, (sys.stdout, sys.stderr)):
        poll = select.poll()
        poll.register(stream.fileno(), 0)  # 0: only errors, such as a pipe without a reader
        if poll.poll(0):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
            closed = True
    return closed
