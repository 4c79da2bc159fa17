"""`python -m lr_helpers report`: run all notebooks headless and write an HTML report; resumable."""

from __future__ import annotations

import argparse
from pathlib import Path

from lr_helpers.cli.options import add_allow_cpu, add_command, add_profile


def add(commands) -> None:
    """Declare the command's options."""
    report = add_command(commands, "report", run,
                         summary="run all notebooks headless and write an HTML report (resumable)")
    add_profile(report)
    report.add_argument("--output", type=Path, help="folder; the default is results/PROFILE")
    report.add_argument("--again", action="store_true", help="run also notebooks whose stored result is still true")
    report.add_argument("--time-limit", type=float, metavar="MINUTES",
                        help="for each notebook; the default is 120 with a GPU, without one 60, or 1440 for full-size "
                             "models")
    add_allow_cpu(report)
    report.add_argument("notebooks", nargs="*", type=Path, help="only these")


def run(options: argparse.Namespace) -> int:
    """Run what is not true any more, and write the report; the exit code."""
    from lr_helpers.authoring import report
    from lr_helpers.models.hub import download
    from lr_helpers.models.loading import check_device
    from lr_helpers.models.profiles import get_profile

    profile = get_profile(options.profile)
    check_device(profile, None, options.allow_cpu)
    limit = options.time_limit
    if limit is None:
        limit = report.default_time_limit(miniature=bool(profile.vocabulary))
    folder = options.output or Path("results") / profile.name
    return report.run(profile.name, folder, options.notebooks or None, options.again, limit,
                      before=(lambda: download(profile)) if profile.needs_gpu else None)
