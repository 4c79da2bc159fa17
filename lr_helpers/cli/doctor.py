"""`python -m lr_helpers doctor`: say whether a profile can run here, and if not, how to fix it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from lr_helpers.cli.options import add_allow_cpu, add_command, add_models, add_regions, chosen_profile

if TYPE_CHECKING:
    from lr_helpers.predictor import RegionPredictor


def add(commands) -> None:
    """Declare the command's options."""
    doctor = add_command(commands, "doctor", run,
                         summary="say whether a profile can run here, and if not, how to fix it")
    add_models(doctor)
    add_regions(doctor)
    add_allow_cpu(doctor)
    doctor.add_argument("--comparison", action="store_true",
                        help="also look for the models that only notebook 09 and `study compare | pie` need")


def run(options: argparse.Namespace) -> int:
    """Look and tell; the exit code."""
    from lr_helpers.models import doctor

    return doctor.run(chosen_profile(options), options.allow_cpu, options.comparison, _load_regions)


def _load_regions(file: Path) -> RegionPredictor:
    from lr_helpers.predictor import RegionPredictor  # once the libraries are known to be there

    return RegionPredictor.load(file)
