"""`python -m lr_helpers notebooks`: for authors, keep the notebook pairs in step."""

from __future__ import annotations

import argparse

from lr_helpers.cli.options import add_command


def add(commands) -> None:
    """Declare the command's options."""
    notebooks = add_command(commands, "notebooks", run,
                            summary="for authors: sync, execute and clean the notebook pairs")
    notebooks.add_argument("names", nargs="*", help="only these, e.g. 06_the_whole_method")
    only = notebooks.add_mutually_exclusive_group()
    only.add_argument("--check", action="store_true", help="only compare both halves of each pair")
    only.add_argument("--badges", action="store_true",
                      help="only renew the Colab badges and set-up cells, by the address and version in pyproject.toml")


def run(options: argparse.Namespace) -> int:
    """Renew, or only check, what is named; the exit code."""
    from lr_helpers.authoring import notebooks

    return notebooks.run(options.names, options.check, options.badges)
