"""`python -m lr_helpers progress`: one table of how far a class is with the exercises."""

from __future__ import annotations

import argparse
from pathlib import Path

from lr_helpers.cli.options import add_command


def add(commands) -> None:
    """Declare the command's options."""
    progress = add_command(
        commands, "progress", run, summary="one table of how far a class is with the exercises",
        description="Read the progress files of a class, which its learners' checks have written "
                    "(results/progress.json), in a folder and the folders in it, and write one table: a line for each "
                    "learner and exercise. A file that is something else is named, and the others are counted.")
    progress.add_argument("folder", type=Path, metavar="FOLDER", help="with the learners' .json files")
    progress.add_argument("--output", type=Path, default=Path("progress.csv"), metavar="FILE",
                          help="the table, CSV; a table of this command that is there is replaced")


def run(options: argparse.Namespace) -> int:
    """Write the table and say how far the class is; the exit code: 1 if a file was not counted."""
    from lr_helpers.course import progress

    return progress.run(options.folder, options.output)
