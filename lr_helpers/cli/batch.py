"""`python -m lr_helpers batch`: edit many pictures, in one process or many; resumable."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from lr_helpers.cli.options import (
    add_command,
    add_count,
    add_method,
    add_models,
    chosen_profile,
    method_changes,
    named_method,
    predicts,
)
from lr_helpers.errors import UserError
from lr_helpers.method import get_method

if TYPE_CHECKING:
    from lr_helpers.models.loading import Models


def add(commands) -> None:
    """Declare the command's options."""
    batch = add_command(
        commands, "batch", run, summary="edit many pictures (resumable)",
        description="Edit many pictures. Each gets a folder; what is complete there is not done again, so a batch that "
                    "was stopped goes on. A wrong entry is told before any work, and the rest is done. Exit code: 0 "
                    "if all entries are done, 1 if some were refused or failed, 2 if the batch could not run or had "
                    "to stop.")
    batch.add_argument("file", help='JSON: {"1.png": ["what is there", "what you want to see"], …}, or a list of '
                                    'objects with image, source, prompt (one or a list), and if you like seed, name, '
                                    'method, settings (fields of the method), full_frame')
    batch.add_argument("--images", required=True, help="folder of the pictures; names can't lead out of it")
    batch.add_argument("--output", required=True, help="folder for the results, contact sheet, summary.csv and "
                                                       "batch.log")
    add_models(batch)
    add_method(batch)
    batch.add_argument("--check", action="store_true", help="only check the file and read the pictures; edit nothing")
    batch.add_argument("--json", action="store_true", help="one JSON object for each event on standard output")
    batch.add_argument("--quiet", action="store_true", help="no progress bar; only what went wrong")
    batch.add_argument("--engine", choices=("processes", "ray"), default="processes",
                       help="who edits: this process, or all that torchrun or accelerate launch started; ray: a pool "
                            "of workers, here or on a cluster (needs Ray, which ./reproduce.sh installs)")
    add_count(batch, "--workers", low=1,
              help="with --engine ray: how many; the default is one a GPU, or a CPU core where there is none")
    batch.add_argument("--address", metavar="HOST:PORT",
                       help="with --engine ray: of a running Ray cluster; the default starts Ray here")


def run(options: argparse.Namespace) -> int:
    """Check, and edit what is not done; the exit code."""
    from lr_helpers.batch import ranks
    from lr_helpers.batch import run as batch_run
    from lr_helpers.batch.items import Plan, plan

    def wanted() -> Plan:
        return plan(options.file, options.images, options.output, method=named_method(options),
                    changes=method_changes(options), seed=options.seed, full_frame=options.full_frame,
                    predicts=predicts(options, profile))

    def load() -> Models:
        from lr_helpers.models.loading import load_models

        return load_models(profile, options.device, allow_cpu=options.allow_cpu)

    profile, engine = chosen_profile(options), None
    if options.engine != "ray" and (options.workers is not None or options.address):
        raise UserError("--workers and --address belong to --engine ray; add it, or leave them out.")
    if options.check and options.json:
        raise UserError("--check prints sentences; leave --json out.")
    if options.check:
        return batch_run.check_only(wanted())
    # Where an entry says another method, that one alone is refused.
    if options.method and get_method(options.method).predicts:
        from lr_helpers.predictor import require_predictor

        require_predictor(profile)
    if options.engine == "ray":
        from lr_helpers.batch.ray_pool import pool

        engine = pool(Path(options.output), profile, options.device, workers=options.workers, address=options.address,
                      allow_cpu=options.allow_cpu)
    elif ranks.launched():
        return ranks.run_ranks(wanted, profile, options.device, quiet=options.quiet, json_lines=options.json,
                               allow_cpu=options.allow_cpu)
    return batch_run.run(wanted(), profile, load, quiet=options.quiet, json_lines=options.json, engine=engine)
