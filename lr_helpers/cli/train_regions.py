"""`python -m lr_helpers train-regions`: learn across pictures where to edit (resumable)."""

from __future__ import annotations

import argparse
from pathlib import Path

from lr_helpers.cli.options import add_allow_cpu, add_command, add_count, add_device, add_models, chosen_profile
from lr_helpers.errors import UserError
from lr_helpers.method import OBJECTIVES


def add(commands) -> None:
    """Declare the command's options."""
    train = add_command(
        commands, "train-regions", run, summary="learn across pictures where to edit (resumable)",
        description="Edit some boxes of many pictures, and train one network on the losses of these edits: it then "
                    "says where to edit a new picture without a trial edit. It sees no truth. Edits are kept, so a "
                    "training that was stopped goes on; torchrun and accelerate launch share them among processes.")
    train.add_argument("--output", type=Path, default=Path("results/regions_network"), help="folder")
    add_models(train)
    add_count(train, "--pictures", low=2, default=1000,
              help="so many emoji scenes: replace, add, add beside an object, remove; only where --items is not given")
    train.add_argument("--items", metavar="FILE", help="your own pictures and texts instead, as `batch` takes them")
    train.add_argument("--images", metavar="FOLDER", help="with --items: the pictures' folder")
    add_count(train, "--boxes", low=2, default=16, help="edits of each picture and round")
    add_count(train, "--steps", low=1,
              help="denoising steps of an edit; the default is the profile's for edits that are only looked at")
    add_count(train, "--rounds", low=1, default=1,
              help="in each but the first, half of the boxes are those that the network so far likes best")
    add_count(train, "--updates", low=1, default=1200, help="of the network, in each round")
    train.add_argument("--objective", choices=list(OBJECTIVES), default="tight",
                       help="by which loss an edit is good (study objectives compares them)")
    train.add_argument("--estimator", choices=("expectation", "reinforce"), default="expectation",
                       help="how the gradient reaches the network")
    train.add_argument("--seed", type=int, default=0, help="of the network's weights and its order of pictures")
    train.add_argument("--dry-run", action="store_true", help="only say what it would cost")
    add_device(train)
    add_allow_cpu(train)
    add_count(train, "--workers", low=1, help="processes; the default is one a core, with large models one")


def run(options: argparse.Namespace) -> int:
    """Say the cost, make the edits that are missing, and train; the exit code."""
    from lr_helpers.across.asks import emoji_asks, given_asks
    from lr_helpers.across.settings import Training
    from lr_helpers.across.train import RESULT, train_regions
    from lr_helpers.method import check_seed
    from lr_helpers.models.loading import check_device

    check_seed(options.seed)
    if bool(options.items) != bool(options.images):
        raise UserError("--items and --images belong together; give both, or neither for emoji scenes.")
    profile = chosen_profile(options)
    asks = given_asks(options.items, options.images) if options.items else emoji_asks(options.pictures)
    training = Training(options.output, profile, asks, options.boxes, options.steps or profile.few, options.rounds,
                        options.updates, options.estimator, objective=options.objective, seed=options.seed,
                        device=options.device, allow_cpu=options.allow_cpu, workers=options.workers)
    print(training.costs(), flush=True)
    if options.dry_run:
        return 0
    check_device(profile, options.device, options.allow_cpu)
    if train_regions(training):
        file = options.output / RESULT
        print(f"The network: {file}; edit with it by: python -m lr_helpers edit --method predicted --regions {file} …")
    return 0
