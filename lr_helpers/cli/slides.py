"""`python -m lr_helpers slides`: for teachers, a page of slides a meeting."""

from __future__ import annotations

import argparse
from pathlib import Path

from lr_helpers.cli.options import add_command


def add(commands) -> None:
    """Declare the command's options."""
    slides = add_command(commands, "slides", run,
                         summary="for teachers: slides of each meeting, from the executed notebooks")
    slides.add_argument("--output", type=Path, default=Path("slides"), metavar="FOLDER", help="where they go")
    slides.add_argument("--list", type=Path, metavar="FILE.toml",
                        help="which headings of which notebooks; the default is docs/teaching/slides.toml")


def run(options: argparse.Namespace) -> int:
    """Build them; the exit code."""
    from lr_helpers.authoring import slides

    return slides.build(options.output, options.list or slides.LIST)
