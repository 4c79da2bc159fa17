"""`python -m lr_helpers edit`: edit one picture, once or several times in turn."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from lr_helpers.cli.options import add_command, add_method, add_models, chosen_method, chosen_profile
from lr_helpers.errors import UserError
from lr_helpers.method import Method, check_seed, check_texts

if TYPE_CHECKING:
    from PIL import Image

    from lr_helpers.models.loading import Models


def add(commands) -> None:
    """Declare the command's options."""
    edit = add_command(commands, "edit", run, summary="edit one picture")
    edit.add_argument("--image", required=True, help="JPEG, PNG, WebP …, any size")
    edit.add_argument("--source", required=True, help='what is there now, e.g. "bird" (the paper\'s T_ROI)')
    edit.add_argument("--prompt", required=True, help='what you want to see, e.g. "a rabbit"')
    edit.add_argument("--then", nargs=2, action="append", metavar=("SOURCE", "PROMPT"), default=[],
                      help="afterwards, in the picture so far: another object and what to see in its place, in a "
                           "region of its own; may be given again")
    edit.add_argument("--output", required=True,
                      help="folder for pictures, result.json and, after a search, the region network")
    add_models(edit)
    add_method(edit)
    edit.add_argument("--draw-boxes", action="store_true",
                      help="also write each candidate with its box, and overview.png")
    edit.add_argument("--quiet", action="store_true", help="no progress bar, no table")


def run(options: argparse.Namespace) -> int:
    """Edit and save; the exit code."""
    from lr_helpers.files.outputs import Output, edit_names, refuse_inside, turn_names
    from lr_helpers.files.pictures import read_noted
    from lr_helpers.files.writing import prepare_folder

    # All input is read and checked here, before a model is loaded, and nowhere else.
    profile = chosen_profile(options)
    preset, method = chosen_method(options, profile)
    check_seed(options.seed)
    if options.regions and not method.predicts:
        raise UserError(f"--regions is for methods that predict, and {preset} does not; leave one out.")
    if method.predicts:
        from lr_helpers.predictor import require_predictor

        require_predictor(profile)
    turns = [check_texts(source, prompt) for source, prompt in [(options.source, options.prompt), *options.then]]
    if options.then and options.full_frame:
        raise UserError("--then and --full-frame exclude each other; leave one out.")
    refuse_inside(options.output, [options.image])
    image, notes = read_noted(options.image)
    for note in notes:
        print(f"warning: {note}", file=sys.stderr)
    names = (turn_names(method.most_candidates, len(turns), options.draw_boxes) if options.then else
             edit_names(method.most_candidates, options.draw_boxes))
    Output(options.output, "edit").require(names)
    folder = prepare_folder(options.output)

    from lr_helpers.models.loading import load_models

    models = load_models(profile, options.device, allow_cpu=options.allow_cpu)
    if not options.method and not options.quiet:
        print(f"The method is {preset}, the default here; another one by --method.")
    for source, prompt in turns:
        for warning in (*models.warnings_for(prompt), *models.warnings_for(source)):
            print(f"warning: {warning}", file=sys.stderr)
    if options.then:
        _edit_in_turn(options, models, image, notes, turns, method, folder)
    else:
        _edit_once(options, models, image, notes, *turns[0], method, folder)
    return 0


def _edit_once(options: argparse.Namespace, models: Models, image: Image.Image, notes: list[str], source: str,
               prompt: str, method: Method, folder: Path) -> None:
    from lr_helpers.editing import edit_checked

    result = edit_checked(models, image, source, prompt, method, options.seed, progress=not options.quiet,
                          full_frame=options.full_frame, notes=notes)
    result.save(folder, draw_boxes=options.draw_boxes)
    if options.quiet:
        return
    if result.confidence is not None:
        print(f"The predictor's confidence in the place of its first box: {result.confidence:.2f}")
    print(f"{'rank':>4} {'anchor':>6} {'box (x0, y0, x1, y1)':>22} {'loss':>7} {'S':>7} {'π':>6}")
    for rank, c in enumerate(result.candidates):
        print(f"{rank:>4} {c.anchor:>6} {c.box!s:>22} {c.loss:>7.3f} {c.score:>7.3f} {c.probability:>6.2f}")
    _print_cost(result.cost, result.cost["seconds"]["total"], folder)


def _edit_in_turn(options: argparse.Namespace, models: Models, image: Image.Image, notes: list[str],
                  turns: list[tuple[str, str]], method: Method, folder: Path) -> None:
    from lr_helpers.sequence import edit_in_turn_checked

    done = edit_in_turn_checked(models, image, turns, method, options.seed, progress=not options.quiet, notes=notes)
    done.save(folder, draw_boxes=options.draw_boxes)
    for warning in done.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    if options.quiet:
        return
    for step in done.steps:
        print(f"{step.source} → {step.prompt}: box (x0, y0, x1, y1) = {step.box}")
    _print_cost(done.cost, done.cost["seconds"], folder)


def _print_cost(cost: dict, seconds: float, folder: Path) -> None:
    print(f"{cost['different_edits']} different edits, {cost['denoiser_evaluations']} denoiser evaluations, "
          f"{seconds:.1f} s. Final picture: {folder / 'final_output.png'}")
