"""What several commands share: how a command is declared, and the options for models and for the method."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from dataclasses import fields
from typing import TYPE_CHECKING

from lr_helpers.errors import UserError
from lr_helpers.method import LOSSES, METHODS, OBJECTIVES, Method, default_method, get_method

if TYPE_CHECKING:
    from lr_helpers.models.profiles import Profile

# Options that set a field of the method, with their types.
SETTINGS = {"anchors": int, "border": float, "distance": float, "sizes": float, "shortlist": int,
            "confident": float, "margin": float, "pool": int, "estimator": str, "temperature": float, "samples": int,
            "iterations": int, "lr": float, "choice": str, "steps": int, "screening_steps": int, "guidance": float,
            "clip_weight": float, "structure_weight": float, "direction_weight": float, "source_weight": float,
            "patches_weight": float, "occlusion_weight": float, "area_weight": float}


class Help(argparse.ArgumentDefaultsHelpFormatter):
    """Help with the default of every option that has one."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        # Without this, an option that is simply left out would show "(default: None)" or "(default: False)".
        nothing = action.default is None or action.default is False or action.default == []
        return action.help if nothing else super()._get_help_string(action)


def add_command(commands, name: str, run: Callable[[argparse.Namespace], int], *, summary: str,
                description: str | None = None) -> argparse.ArgumentParser:
    """A command (or a study) of this name; `main` calls `run` with its options."""
    command = commands.add_parser(name, help=summary, description=description, formatter_class=Help)
    command.set_defaults(run=run, parser=command)
    return command


def add_count(parser, option: str, *, low: int, help: str, default: int | None = None, required: bool = False,
              metavar: str = "N") -> None:
    """An option for a whole number. One below `low` raises UserError, already while the arguments are read."""

    def count(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
        if value < low:
            raise UserError(f"{option} is {value}; give {low} or more.")
        return value

    parser.add_argument(option, type=count, default=default, required=required, metavar=metavar, help=help)


def add_profile(parser: argparse.ArgumentParser) -> None:
    """--profile."""
    # Imported here, since it raises UserError where data/models.toml is missing, which `main` tells.
    from lr_helpers.models.profiles import PROFILES

    parser.add_argument("--profile", default=os.environ.get("LR_PROFILE", "tiny"),
                        help=f"models: {', '.join(PROFILES)}")


def add_models(parser: argparse.ArgumentParser) -> None:
    """--profile, and --editor, --backbone and --clip, which replace one of its models."""
    add_profile(parser)
    for part, what in (("editor", "inpainting model"), ("backbone", "ViT"), ("clip", "open_clip model")):
        parser.add_argument(f"--{part}", metavar="ID_OR_FOLDER",
                            help=f"{what} to take instead of the profile's: a folder, or OWNER/NAME on the hub, with "
                                 "@REVISION if you like")


def chosen_profile(options: argparse.Namespace) -> Profile:
    """The profile that the options of `add_models` name; raises UserError for an unknown one."""
    from lr_helpers.models.profiles import get_profile

    return get_profile(options.profile).but(editor=options.editor, backbone=options.backbone, clip=options.clip,
                                            regions=getattr(options, "regions", None))


def add_regions(parser: argparse.ArgumentParser) -> None:
    """--regions."""
    parser.add_argument("--regions", metavar="FILE",
                        help="weights of the region predictor instead of the profile's, as train-regions writes them; "
                             "for methods that predict")


def add_allow_cpu(parser: argparse.ArgumentParser) -> None:
    """--allow-cpu; None where it is not given, which leaves it to the environment variable LR_ALLOW_CPU."""
    parser.add_argument("--allow-cpu", action="store_true", default=None,
                        help="do without a GPU where one is needed (very slow)")


def add_device(parser: argparse.ArgumentParser) -> None:
    """--device."""
    parser.add_argument("--device",
                        help="cpu, cuda or mps (Apple's GPU, untried); the default is a GPU if there is one")


def add_method(parser: argparse.ArgumentParser) -> None:
    """--method, --objective, one option for each of SETTINGS, --regions, --seed, --device, --allow-cpu and
    --full-frame.
    """
    parser.add_argument("--method", choices=list(METHODS),
                        help="preset whose settings the options below change; predicted and fast ask a network that "
                             "was trained on other pictures. The default is predicted where the profile has such a "
                             "network for its models (tiny has) and no setting but steps, guidance and margin is "
                             "given, or where --regions is; otherwise learned, a search")
    parser.add_argument("--objective", choices=list(OBJECTIVES),
                        help="all weights of the loss by name; the default is the preset's")
    preset = METHODS["learned"]
    for setting in fields(Method):
        if setting.name not in SETTINGS:
            continue
        default, more = getattr(preset, setting.name), {}
        if default is None:
            default = "the profile's"
        if setting.name == "sizes":
            default, more = " ".join(map(str, default)), {"nargs": "+"}
        meaning = setting.metadata["help"].split(" (default")[0]
        # Only options that were given become attributes, so `method_changes` finds those and no others.
        parser.add_argument(f"--{setting.name.replace('_', '-')}", type=SETTINGS[setting.name],
                            default=argparse.SUPPRESS, help=f"{meaning} (in 'learned': {default})", **more)
    add_regions(parser)
    parser.add_argument("--seed", type=int, default=42, help="seed of noise and of the region network")
    add_device(parser)
    add_allow_cpu(parser)
    parser.add_argument("--full-frame", action="store_true",
                        help="paste in all that the model saw and made, for one more edit: no edge at the region, but "
                             "pixels outside it change too")


def predicts(options: argparse.Namespace, profile: Profile) -> bool:
    """Has the profile, with these options, a region network that was trained for its models?"""
    # The profile's own was trained on its own ViT and CLIP.
    return profile.predicts and not (options.backbone or options.clip)


def named_method(options: argparse.Namespace) -> str | None:
    """The preset that the options of `add_method` name, or None."""
    # Who names a region network wants it asked, whatever else is set; that it is missing is said later.
    return options.method or ("predicted" if options.regions else None)


def chosen_method(options: argparse.Namespace, profile: Profile) -> tuple[str, Method]:
    """The preset that the options of `add_method` name, or else the default one; and the method, with their changes."""
    changes = method_changes(options)
    name = named_method(options) or default_method(predicts(options, profile), changes)
    return name, get_method(name).but(**changes)


def method_changes(options: argparse.Namespace) -> dict:
    """The fields that the options of `add_method` change in the preset; a weight's own option wins over --objective."""
    changes = {name: value for name, value in vars(options).items() if name in SETTINGS}
    if "sizes" in changes:
        changes["sizes"] = tuple(changes["sizes"])
    if options.objective:
        shortlist = changes.get("shortlist")
        # An objective is a setting of the search, the default where one is given.
        aimed = get_method(named_method(options) or "learned").but(shortlist=shortlist).aiming(options.objective)
        changes = {f"{term}_weight": getattr(aimed, f"{term}_weight") for term in LOSSES} | changes
    return changes
