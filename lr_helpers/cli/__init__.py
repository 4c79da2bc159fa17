"""The command line: `python -m lr_helpers edit | app | batch | train-regions | scene | study | report | doctor |
fetch | benchmark | progress | vote | notebooks | slides | docs | site`.

One file a command. Each has `add(commands)`, which declares its options, and `run(options)`, which returns the exit
code. What takes seconds to import (torch, diffusers) is imported in `run`, so that a wrong option is told at once.
"""

from __future__ import annotations

import argparse
import sys
from itertools import pairwise

from lr_helpers.cli import (
    app,
    batch,
    benchmark,
    docs,
    doctor,
    edit,
    fetch,
    notebooks,
    progress,
    report,
    scene,
    site,
    slides,
    study,
    train_regions,
    vote,
)
from lr_helpers.errors import UserError
from lr_helpers.machine.boundary import answered

COMMANDS = (edit, app, batch, train_regions, scene, study, report, doctor, fetch, benchmark, progress, vote, notebooks,
            slides, docs, site)


FILES = ("--output", "--image", "--images", "--items", "--regions", "--data", "--training", "--onto")
"""Options that take a file or a folder."""


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

    Returns the exit code: 0 if it worked, 1 if a part failed, 2 for input or a machine that can't work, 70 for a fault
    of ours, 130 if it was interrupted, 141 if nobody reads its output any more.
    """
    return answered(lambda: _run(arguments))


def _run(arguments: list[str] | None) -> int:
    arguments, top = sys.argv[1:] if arguments is None else arguments, parser()
    for word in arguments:
        if word.startswith("-") and word.endswith("=--"):  # over which argparse of Python 3.11 falls
            top.error(f"argument {word.removesuffix('=--')}: '--' is no value")
    for option in FILES:  # as from a variable that is not set; as a path, "" is the folder one stands in
        if f"{option}=" in arguments or (option, "") in pairwise(arguments):
            raise UserError(f"{option} is empty; give a path (a dot for the folder you are in).")
    options, unknown = top.parse_known_args(arguments)
    if unknown:  # told with the usage of the command, which lists the options there are
        options.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    return options.run(options)
