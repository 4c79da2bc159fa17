"""`python -m lr_helpers benchmark`: what one learned edit costs on this machine."""

from __future__ import annotations

import argparse
from pathlib import Path

from lr_helpers.cli.options import add_allow_cpu, add_command, add_models, chosen_profile
from lr_helpers.errors import UserError


def add(commands) -> None:
    """Declare the command's options."""
    benchmark = add_command(commands, "benchmark", run, summary="what one learned edit costs on this machine")
    add_models(benchmark)
    add_allow_cpu(benchmark)
    benchmark.add_argument("--repeats", type=int, choices=range(1, 101), metavar="1-100",
                           help="timed edits (default: 3)")
    benchmark.add_argument("--random-weights", action="store_true",
                           help="measure the profile's true architecture with random weights: nothing is downloaded")
    benchmark.add_argument("--output", type=Path, metavar="FILE.json",
                           help="with --random-weights: add the figures to this file, and print the table of all in it")
    benchmark.add_argument("--precision", metavar="NAME",
                           help="with --random-weights: the editor's numbers, bfloat16, float16 or float32; "
                                "the default is what edits use on this device")
    benchmark.add_argument("--remark", default="", help="with --random-weights: a remark for the row")


def run(options: argparse.Namespace) -> int:
    """Measure and print; the exit code."""
    profile = chosen_profile(options)
    if options.random_weights:
        if options.editor or options.backbone or options.clip:
            raise UserError("--random-weights measures a profile's own architecture; leave out --editor, --backbone "
                            "and --clip.")
        if options.repeats is not None or options.allow_cpu:
            raise UserError("--random-weights times single evaluations, on the CPU too; leave out --repeats and "
                            "--allow-cpu.")
        from lr_helpers.costs import true_size

        true_size.run(profile.name, options.output, options.remark, options.precision)
        return 0
    if options.output or options.remark or options.precision:
        raise UserError("--output, --remark and --precision belong to --random-weights; add it, or leave them out.")
    from lr_helpers.costs import edit as edit_cost

    edit_cost.run(profile, options.repeats or 3, options.allow_cpu)
    return 0
