"""`python -m lr_helpers vote make | export | count`: a class's blind vote on pairs of edits."""

from __future__ import annotations

import argparse
from pathlib import Path

from lr_helpers.cli.options import add_command, add_count

PAIRS = Path("results/vote")


def add(commands) -> None:
    """Declare the command's options."""
    vote = commands.add_parser(
        "vote", help="a class's blind vote: which of two edits is better?",
        description="Make pairs of edits, write them as one page that runs offline in any browser, and count the files "
                    "of votes that come back.")
    doors = vote.add_subparsers(dest="door", required=True, metavar="STEP")
    make = add_command(doors, "make", _make, summary="edit the scenes (resumable): ours beside other editors")
    make.add_argument("--output", type=Path, default=PAIRS, metavar="FOLDER", help="where the pairs go")
    add_count(make, "--pairs", low=1, default=48, help="how many; a scene each")
    make.add_argument("--others", nargs="+", metavar="METHOD", default=[],
                      help="who is shown beside `learned`, in turn; the default is three editors and a region found by "
                           "a text")
    add_count(make, "--workers", low=1, help="processes; the default is one a core")
    export = add_command(doors, "export", _export, summary="write the pairs as one HTML page for the voters")
    _add_pairs(export)
    export.add_argument("--output", type=Path, default=Path("results/vote_page"), metavar="FOLDER",
                        help="for vote.html")
    add_count(export, "--repeats", low=0, default=4, help="pairs that come back at the end, their sides exchanged")
    add_count(export, "--seed", low=0, default=0, help="of order and sides")
    count = add_command(doors, "count", _count, summary="merge files of votes: shares with intervals, and a figure")
    count.add_argument("votes", nargs="+", type=Path, metavar="FILE_OR_FOLDER", help="with the votes of any number of "
                                                                                   "voters")
    _add_pairs(count)
    count.add_argument("--ours", help="whose share is counted; the default is the method that the pairs are about")
    count.add_argument("--output", type=Path, default=Path("results/vote_count"), metavar="FOLDER",
                       help="for table.csv, votes.csv and preferences.png")


def _add_pairs(step: argparse.ArgumentParser) -> None:
    step.add_argument("--pairs", type=Path, default=PAIRS, metavar="FOLDER", help="that `vote make` wrote")


def _make(options: argparse.Namespace) -> int:
    from lr_helpers.study.run import run
    from lr_helpers.study.vote import OTHERS, VotePairs

    run(VotePairs(options.output, options.pairs, options.others or OTHERS), options.workers)
    print(f"Now: python -m lr_helpers vote export --pairs {options.output}")
    return 0


def _export(options: argparse.Namespace) -> int:
    from lr_helpers.authoring.vote_page import write
    from lr_helpers.course.votes import read_pairs

    file = write(read_pairs(options.pairs), options.output, options.seed, options.repeats)
    print(f"{file}, {file.stat().st_size / 1e6:.1f} MB: hand it out; it needs a browser and nothing else. Count what "
          f"comes back by: python -m lr_helpers vote count FOLDER --pairs {options.pairs}")
    return 0


def _count(options: argparse.Namespace) -> int:
    from lr_helpers.authoring.vote_page import count

    return count(options.votes, options.pairs, options.output, options.ours)
