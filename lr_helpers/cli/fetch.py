"""`python -m lr_helpers fetch`: download what a profile and its notebooks need, before they need it."""

from __future__ import annotations

import argparse

from lr_helpers.cli.options import add_command, add_models, chosen_profile


def add(commands) -> None:
    """Declare the command's options."""
    fetch = add_command(commands, "fetch", run, summary="download the models of a profile, and say how much that is",
                        description="Download what a profile lacks on this machine: its models, and those that the "
                                    "comparison (notebook 09, `study compare`) loads beside them. Says first how much "
                                    "it is. What is here already is not fetched again.")
    add_models(fetch)
    fetch.add_argument("--without-comparison", action="store_true", help="only what an edit needs")


def run(options: argparse.Namespace) -> int:
    """Tell the sum, then download; 0 if all that an edit needs is here now, else 1 and what is missing."""
    from lr_helpers.models.hub import download

    profile = chosen_profile(options)
    lacking = download(profile, comparison=not options.without_comparison)
    if lacking:
        print(f"not here: {', '.join(lacking)}; python -m lr_helpers doctor --profile {profile.name} says why")
    return int(bool(lacking))
