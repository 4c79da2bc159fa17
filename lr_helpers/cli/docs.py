"""`python -m lr_helpers docs`: for authors, keep the tables and figures of README.md and docs/ in step."""

from __future__ import annotations

import argparse

from lr_helpers.cli.options import add_command


def add(commands) -> None:
    """Declare the command's options."""
    docs = add_command(commands, "docs", run,
                       summary="for authors: write the tables and figures of README.md and docs/")
    docs.add_argument("--check", action="store_true", help="only say what is stale")


def run(options: argparse.Namespace) -> int:
    """Renew, or only check; the exit code."""
    from lr_helpers.authoring import docs

    return docs.run(options.check)
