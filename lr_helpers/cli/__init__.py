"""The command line: `python -m lr_helpers edit | batch | scene | study | report | doctor | benchmark | notebooks`."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from lr_helpers.errors import UserError

if TYPE_CHECKING:
    from lr_helpers.models.profiles import Profile

# options that set a field of the method, with their types
SETTINGS = {"anchors": int, "border": float, "distance": float, "sizes": float, "shortlist": int,
            "pool": int, "estimator": str, "temperature": float, "samples": int, "iterations": int, "lr": float,
            "choice": str, "steps": int, "guidance": float, "clip_weight": float,
            "structure_weight": float, "direction_weight": float, "source_weight": float, "occlusion_weight": float,
            "area_weight": float}


def _parser() -> argparse.ArgumentParser:
    from lr_helpers.models.profiles import PROFILES

    top = argparse.ArgumentParser(prog="python -m lr_helpers",
                                  description="Learn where to edit a picture, and edit it.")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    edit = commands.add_parser("edit", help="edit one picture", formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    edit.add_argument("--image", required=True, help="JPEG, PNG, WebP …, any size")
    edit.add_argument("--source", required=True, help='what is there now, e.g. "bird" (the paper\'s T_ROI)')
    edit.add_argument("--prompt", required=True, help='what you want to see, e.g. "a rabbit"')
    edit.add_argument("--then", nargs=2, action="append", metavar=("SOURCE", "PROMPT"), default=[],
                      help="afterwards, in the picture so far: another object and what to see in its place, in a "
                           "region of its own; may be given again")
    edit.add_argument("--output", required=True, help="folder for pictures, region network and result.json")
    _add_profile(edit, list(PROFILES))
    _add_origins(edit)
    _add_method(edit)
    edit.add_argument("--draw-boxes", action="store_true",
                      help="also write each candidate with its box, and overview.png")
    edit.add_argument("--quiet", action="store_true", help="no progress bar, no table")

    batch = commands.add_parser(
        "batch", help="edit many pictures (resumable)", formatter_class=argparse.ArgumentDefaultsHelpFormatter,
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
    _add_profile(batch, list(PROFILES))
    _add_origins(batch)
    _add_method(batch)
    batch.add_argument("--check", action="store_true", help="only check the file and read the pictures; edit nothing")
    batch.add_argument("--json", action="store_true", help="one JSON object for each event on standard output")
    batch.add_argument("--quiet", action="store_true", help="no progress bar; only what went wrong")
    batch.add_argument("--engine", choices=("processes", "ray"), default="processes",
                       help="who edits: this process, or all that torchrun or accelerate launch started; ray: a pool "
                            "of workers, here or on a cluster (pip install 'learnable-regions[cluster]')")
    batch.add_argument("--workers", type=int, default=None, metavar="N",
                       help="with --engine ray: how many; the default is one a GPU, or a CPU core where there is none")
    batch.add_argument("--address", default=None, metavar="HOST:PORT",
                       help="with --engine ray: of a running Ray cluster; the default starts Ray here")

    scene = commands.add_parser("scene", help="make a sample picture whose regions are known",
                                formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    scene.add_argument("--seed", type=int, required=True,
                       help="number of the scene; below 1000000 no model has seen it")
    scene.add_argument("--objects", type=int, choices=(1, 2, 3), default=None,
                       help="how many; the default lets the seed decide")
    scene.add_argument("--output", default="scene", help="folder for scene.png and scene.json")

    study = commands.add_parser(
        "study", help="measure ways to choose a region, and other editors (resumable)",
        description="Compare ways to choose a region on emoji scenes whose regions are known, or editors on a "
                    "benchmark in PIE-Bench's format. Every task is stored when it is done, so a study that was "
                    "stopped goes on. Tables and figures come last.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    study.add_argument("study", choices=("regions", "learning", "compare", "pie", "extended"),
                       help="regions: ways to choose a region; learning: settings of the region network; compare: all "
                            "editors and choosers, at several costs; pie: the same on PIE-Bench; extended: unseen "
                            "combinations and style, two objects, prompts")
    study.add_argument("--output", default=None, help="folder; the default is results/study_STUDY")
    study.add_argument("--replace", type=int, default=None, metavar="N",
                       help="scenes with 'replace this object by X'; the default is 200, for compare 100")
    study.add_argument("--add", type=int, default=None, metavar="N",
                       help="scenes with 'add X'; the default is 200 for regions, 50 for compare, 0 for learning")
    study.add_argument("--steps", type=int, default=None,
                       help="denoising steps of an edit; the default is 6, for pie the profile's; compare "
                            "takes several")
    study.add_argument("--workers", type=int, default=None,
                       help="processes; the default is one a core, for pie with a GPU or large models one")
    study.add_argument("--validation", action="store_true",
                       help="on the scenes for choosing settings, instead of those that are reported")
    study.add_argument("--methods", nargs="+", default=None, metavar="METHOD",
                       help="for pie and compare: presets and baselines by name; the default is all. One whose weights "
                            "are out of reach is named as not run")
    more = study.add_argument_group("only for extended")
    more.add_argument("--scenes", type=int, default=None, metavar="N",
                      help="scenes for unseen combinations and the other style; the default is 100")
    more.add_argument("--pairs", type=int, default=None, metavar="N",
                      help="scenes with two edits; the default is 50")
    more.add_argument("--prompts", type=int, default=None, metavar="N",
                      help="prompts of the emoji world; the default is all")
    more.add_argument("--style", default=None, help="the other drawing style; the default is the last there is")
    pie = study.add_argument_group("only for pie")
    pie.add_argument("--data", default=None, metavar="FOLDER",
                     help="with mapping_file.json and annotation_images; the default is data/pie_emoji")
    pie.add_argument("--limit", type=int, default=None, metavar="N",
                     help="only N items, dealt out evenly among the edit types; the default is all")
    pie.add_argument("--seed", type=int, default=None, help="of every edit; the default is 42")
    pie.add_argument("--profile", default=None, help="models; the default is LR_PROFILE, or tiny")
    pie.add_argument("--device", default=None, help="cpu or cuda; the default is cuda where there is one")

    report = commands.add_parser("report", help="run all notebooks headless and write an HTML report (resumable)",
                                 formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    _add_profile(report, list(PROFILES))
    report.add_argument("--output", default=None, help="folder; the default is results/PROFILE")
    report.add_argument("--again", action="store_true", help="run also notebooks whose stored result is still true")
    report.add_argument("--time-limit", type=float, default=None, metavar="MINUTES",
                        help="for each notebook; the default is 120 with a GPU, without one 60, or 1440 for full-size "
                             "models")
    report.add_argument("--allow-cpu", action="store_true", help="do without a GPU where one is needed (very slow)")
    report.add_argument("notebooks", nargs="*", type=Path, help="only these")

    doctor = commands.add_parser("doctor", help="say whether a profile can run here, and if not, how to fix it",
                                 formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    _add_profile(doctor, list(PROFILES))
    _add_origins(doctor)
    doctor.add_argument("--allow-cpu", action="store_true", help="do without a GPU where one is needed (very slow)")
    doctor.add_argument("--comparison", action="store_true",
                        help="also look for the models that only notebook 09 and `study compare | pie` need")

    bench = commands.add_parser("benchmark", help="what one learned edit costs on this machine",
                                formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    _add_profile(bench, list(PROFILES))
    _add_origins(bench)
    bench.add_argument("--repeats", type=int, default=3, choices=range(1, 101), metavar="1-100", help="timed edits")
    bench.add_argument("--random-weights", action="store_true",
                       help="measure the profile's true architecture with random weights: nothing is downloaded")
    bench.add_argument("--output", default=None, metavar="FILE.json",
                       help="with --random-weights: add the figures to this file, and print the table of all in it")
    bench.add_argument("--remark", default="", help="with --random-weights: a remark for the row")

    books = commands.add_parser("notebooks", help="for authors: sync, execute and clean the notebook pairs")
    books.add_argument("names", nargs="*", help="only these, e.g. 06_editing_one_image")
    only = books.add_mutually_exclusive_group()
    only.add_argument("--check", action="store_true", help="only compare both halves of each pair")
    only.add_argument("--badges", action="store_true",
                      help="only renew the Colab badges and set-up cells, by the address and version in pyproject.toml")
    return top


def _add_profile(parser: argparse.ArgumentParser, names: list[str]) -> None:
    parser.add_argument("--profile", default=os.environ.get("LR_PROFILE", "tiny"), help=f"models: {', '.join(names)}")


def _add_origins(parser: argparse.ArgumentParser) -> None:
    for part, what in (("editor", "inpainting model"), ("backbone", "ViT"), ("clip", "open_clip model")):
        parser.add_argument(f"--{part}", default=None, metavar="ID_OR_FOLDER",
                            help=f"{what} to take instead of the profile's: a folder, or OWNER/NAME on the hub, with "
                                 "@REVISION if you like")


def _profile(options: argparse.Namespace) -> Profile:
    from lr_helpers.models.profiles import get_profile

    return get_profile(options.profile).but(editor=options.editor, backbone=options.backbone, clip=options.clip)


def _add_method(parser: argparse.ArgumentParser) -> None:
    from lr_helpers.method import METHODS, Method

    parser.add_argument("--method", default="learned", choices=list(METHODS),
                        help="preset whose settings the options below change")
    preset = METHODS["learned"]
    for f in fields(Method):
        if f.name in SETTINGS:
            many = {"nargs": "+"} if f.name == "sizes" else {}
            default = getattr(preset, f.name)
            default = "the profile's" if default is None else " ".join(map(str, default)) if many else default
            parser.add_argument(f"--{f.name.replace('_', '-')}", type=SETTINGS[f.name], default=argparse.SUPPRESS,
                                **many, help=f"{f.metadata['help'].split(' (default')[0]} (in 'learned': {default})")
    parser.add_argument("--seed", type=int, default=42, help="seed of noise and of the region network")
    parser.add_argument("--device", default=None, help="cpu or cuda; the default is cuda where there is one")
    parser.add_argument("--full-frame", action="store_true",
                        help="the final picture is the model's own, at its size, for one more edit: without the "
                             "paste's edge, but pixels outside the region change too")


def _changes(options: argparse.Namespace) -> dict:
    """What the options change of the preset."""
    changes = {k: v for k, v in vars(options).items() if k in SETTINGS}
    return changes | ({"sizes": tuple(changes["sizes"])} if "sizes" in changes else {})


def _batch(options: argparse.Namespace) -> int:
    from lr_helpers.batch import ranks, run
    from lr_helpers.batch.items import Plan, plan

    def wanted() -> Plan:
        return plan(options.file, options.images, options.output, method=options.method, changes=_changes(options),
                    seed=options.seed, full_frame=options.full_frame)

    def load():
        from lr_helpers.models.loading import load_models

        return load_models(profile, options.device)

    profile, engine = _profile(options), None
    if options.engine != "ray" and (options.workers is not None or options.address):
        raise UserError("--workers and --address belong to --engine ray; add it, or leave them out.")
    if options.check:
        return run.check_only(wanted())
    if options.engine == "ray":
        from lr_helpers.batch.ray_pool import pool

        engine = pool(Path(options.output), profile, options.device, workers=options.workers, address=options.address)
    elif ranks.launched():
        return ranks.run_ranks(wanted, profile, options.device, quiet=options.quiet, json_lines=options.json)
    return run.run(wanted(), profile, load, quiet=options.quiet, json_lines=options.json, engine=engine)


def _edit(options: argparse.Namespace) -> int:
    from lr_helpers.files.pictures import read_image
    from lr_helpers.files.writing import prepare_folder
    from lr_helpers.method import check_input, get_method

    # Everything that can be wrong with the input is found before a model is loaded.
    method, profile = get_method(options.method).but(**_changes(options)), _profile(options)
    turns = [(options.source, options.prompt), *options.then]
    for source, prompt in turns:
        check_input(source, prompt, options.seed)
    if options.then and options.full_frame:
        raise UserError("--then and --full-frame exclude each other; leave one out.")
    image, folder = read_image(options.image, keep_alpha=True), prepare_folder(options.output)
    from lr_helpers.editing import edit
    from lr_helpers.models.loading import load_models

    models = load_models(profile, options.device)
    for turn in turns:
        for warning in (w for text in reversed(turn) for w in models.warnings_for(text)):
            print(f"warning: {warning}", file=sys.stderr)
    if options.then:
        return _edit_in_turn(options, models, image, turns, method, folder)
    result = edit(models, image, options.source, options.prompt, method, options.seed, progress=not options.quiet,
                  full_frame=options.full_frame)
    result.save(folder, draw_boxes=options.draw_boxes)
    if not options.quiet:
        print(f"{'rank':>4} {'anchor':>6} {'box (x0, y0, x1, y1)':>22} {'loss':>7} {'S':>7} {'π':>6}")
        for rank, c in enumerate(result.candidates):
            print(f"{rank:>4} {c.anchor:>6} {c.box!s:>22} {c.loss:>7.3f} {c.score:>7.3f} {c.probability:>6.2f}")
        cost = result.cost
        print(f"{cost['different_edits']} different edits, {cost['denoiser_evaluations']} denoiser evaluations, "
              f"{cost['seconds']['total']:.1f} s. Final picture: {folder / 'final_output.png'}")
    return 0


def _edit_in_turn(options: argparse.Namespace, models, image, turns: list, method, folder: Path) -> int:
    from lr_helpers.sequence import edit_in_turn

    done = edit_in_turn(models, image, turns, method, options.seed, progress=not options.quiet)
    done.save(folder, draw_boxes=options.draw_boxes)
    for warning in done.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    if not options.quiet:
        for step in done.steps:
            print(f"{step.source} → {step.prompt}: box (x0, y0, x1, y1) = {step.box}")
        cost = done.cost
        print(f"{cost['different_edits']} different edits, {cost['denoiser_evaluations']} denoiser evaluations, "
              f"{cost['seconds']:.1f} s. Final picture: {folder / 'final_output.png'}")
    return 0


def _scene(options: argparse.Namespace) -> int:
    from PIL import Image

    from lr_helpers.files.writing import prepare_folder, write_image, write_json
    from tiny_world.scenes import scene

    if options.seed < 0:
        raise UserError(f"seed is {options.seed}; give a whole number from 0 on.")
    folder, recipe = prepare_folder(options.output), scene(options.seed, options.objects)
    write_image(folder / "scene.png", Image.fromarray(recipe.render()))
    write_json(folder / "scene.json", {"seed": options.seed, **recipe.to_dict()})
    print(f"{recipe.caption()}: {folder / 'scene.png'}; boxes in {folder / 'scene.json'}")
    return 0


def _report(options: argparse.Namespace) -> int:
    from lr_helpers.authoring import report
    from lr_helpers.models.profiles import get_profile

    profile = get_profile(options.profile)
    report.check_device(profile, options.allow_cpu)
    limit = options.time_limit
    return report.run(profile.name, Path(options.output or f"results/{profile.name}"), options.notebooks or None,
                      options.again, report.default_time_limit(bool(profile.vocabulary)) if limit is None else limit)


def _doctor(options: argparse.Namespace) -> int:
    from lr_helpers.models import doctor

    return doctor.run(_profile(options), options.allow_cpu, options.comparison)


def _study(options: argparse.Namespace) -> int:
    from lr_helpers.study import compare_report, report

    own = {"regions": (scenes := ("replace", "add", "validation")), "learning": scenes,
           "compare": (*scenes, "methods"), "extended": ("scenes", "pairs", "prompts", "style"),
           "pie": ("data", "methods", "limit", "seed", "profile", "device")}
    for name in sorted(set().union(*own.values()) - set(own[options.study])):
        if getattr(options, name) not in (None, False):
            raise UserError(f"--{name} does not belong to the study {options.study!r}; leave it out.")
    if options.study == "pie":
        return _study_pie(options)
    if options.study == "extended":
        return _study_extended(options)
    if options.study == "compare" and options.steps is not None:
        raise UserError("--steps does not belong to the study 'compare', which takes several; leave it out.")
    replace, add = ({"regions": (200, 200), "learning": (200, 0), "compare": (100, 50)}[options.study][i]
                    if given is None else given for i, given in enumerate((options.replace, options.add)))
    steps = 6 if options.steps is None else options.steps
    for name, value, low in (("--replace", replace, 0), ("--add", add, 0), ("--steps", steps, 1),
                             ("--workers", options.workers or 1, 1)):
        if value < low:
            raise UserError(f"{name} is {value}; give {low} or more.")
    if replace + add == 0:
        raise UserError("--replace and --add are both 0; give at least one task.")
    folder = Path(options.output or f"results/study_{options.study}")
    if options.study == "compare":
        compare_report.run(folder, replace, add, options.methods, options.validation, options.workers)
    else:
        report.run(options.study, folder, replace, add, steps, options.workers, options.validation)
    return 0


def _study_extended(options: argparse.Namespace) -> int:
    from lr_helpers.study import beyond
    from tiny_world.sprites import styles

    wanted = {name: getattr(options, name) for name in ("scenes", "pairs", "prompts", "steps", "workers")}
    for name, value in wanted.items():
        if value is not None and value < (low := int(name in ("steps", "workers"))):
            raise UserError(f"--{name} is {value}; give {low} or more.")
    style = options.style or styles()[-1]
    if style not in styles()[1:]:
        raise UserError(f"--style is {style!r}; choose one of {', '.join(styles()[1:])}.")
    folder = Path(options.output or "results/study_extended")
    beyond.run(folder, style, **{name: value for name, value in wanted.items() if value is not None})
    return 0


def _study_pie(options: argparse.Namespace) -> int:
    from lr_helpers.files.paths import DATA
    from lr_helpers.method import check_input
    from lr_helpers.models.profiles import get_profile
    from lr_helpers.study.pie import report
    from lr_helpers.study.pie.rows import ROWS
    from lr_helpers.study.pie.runner import Settings

    for name in ("steps", "workers", "limit"):
        if (value := getattr(options, name)) is not None and value < 1:
            raise UserError(f"--{name} is {value}; give 1 or more.")
    seed = 42 if options.seed is None else options.seed
    check_input("x", "x", seed)
    profile = get_profile(options.profile or os.environ.get("LR_PROFILE", "tiny"))
    report.run(Path(options.data or DATA / "pie_emoji"), Path(options.output or "results/study_pie"),
               options.methods or ROWS, Settings(profile, options.steps, seed, options.device), options.limit,
               options.workers)
    return 0


def _notebooks(options: argparse.Namespace) -> int:
    from lr_helpers.authoring import notebooks

    return notebooks.run(options.names, options.check, options.badges)


def _benchmark(options: argparse.Namespace) -> int:
    profile = _profile(options)
    if options.random_weights:
        if options.editor or options.backbone or options.clip:
            raise UserError("--random-weights measures a profile's own architecture; leave out --editor, --backbone "
                            "and --clip.")
        from lr_helpers.costs import true_size

        true_size.run(profile.name, Path(options.output) if options.output else None, options.remark)
        return 0
    if options.output or options.remark:
        raise UserError("--output and --remark belong to --random-weights; add it, or leave them out.")
    from lr_helpers.costs import edit as benchmark

    benchmark.run(profile, options.repeats)
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Run one command; 0 if it worked, 1 if a part failed, 2 for input that can't work."""
    try:
        options = _parser().parse_args(arguments)
        commands = {"edit": _edit, "batch": _batch, "scene": _scene, "study": _study, "report": _report,
                    "doctor": _doctor, "benchmark": _benchmark, "notebooks": _notebooks}
        return commands[options.command](options)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
