"""`python -m lr_helpers site`: for authors, the course as a web site."""

from __future__ import annotations

import argparse
from pathlib import Path

from lr_helpers.cli.options import add_command


def add(commands) -> None:
    """Declare the command's options."""
    site = add_command(commands, "site", run,
                       summary="for authors: build notebooks, docs and an API reference as a web site")
    site.add_argument("--output", type=Path, default=Path("site"), metavar="FOLDER", help="where it goes")


def run(options: argparse.Namespace) -> int:
    """Build it; the exit code."""
    from lr_helpers.authoring import site

    return site.build(options.output)
