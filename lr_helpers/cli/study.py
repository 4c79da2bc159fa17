"""`python -m lr_helpers study regions | learning | compare | pie | extended | objectives | …`: measurements.

One pair of functions a study: the first declares its options, the second runs it. All but causes, zoo and pie-data can
be killed and started again (`lr_helpers.study.run`).
"""

from __future__ import annotations

import argparse
from pathlib import Path

from lr_helpers.cli.options import (
    add_allow_cpu,
    add_command,
    add_count,
    add_device,
    add_profile,
    add_regions,
)
from lr_helpers.errors import UserError
from lr_helpers.method import OBJECTIVES


def add(commands) -> None:
    """Declare the studies and their options."""
    study = commands.add_parser(
        "study", help="measure ways to choose a region, and other editors (resumable)",
        description="Compare ways to choose a region on emoji scenes whose regions are known, or editors on a "
                    "benchmark in PIE-Bench's format. Every task is stored when it is done, so a study that was "
                    "stopped goes on. Tables and figures come last.")
    studies = study.add_subparsers(dest="study", required=True, metavar="STUDY")
    _add_regions(studies)
    _add_learning(studies)
    _add_compare(studies)
    _add_rivals(studies)
    _add_pie(studies)
    _add_extended(studies)
    _add_photographs(studies)
    _add_weights(studies)
    _add_gaps(studies)
    _add_objectives(studies)
    _add_predictors(studies)
    _add_confidence(studies)
    _add_causes(studies)
    _add_zoo(studies)
    _add_pie_data(studies)


def _add_output(study: argparse.ArgumentParser, name: str) -> None:
    study.add_argument("--output", type=Path, default=Path("results") / f"study_{name}", help="folder")


def _add_workers(study: argparse.ArgumentParser, default: str = "one a core") -> None:
    add_count(study, "--workers", low=1, help=f"processes; the default is {default}")


def _add_tasks(study: argparse.ArgumentParser, *, replace: int, add: int) -> None:
    """How many tasks of each kind, and on which scenes."""
    add_count(study, "--replace", low=0, default=replace, help="scenes with 'replace this object by X'")
    add_count(study, "--add", low=0, default=add, help="scenes with 'add X'")
    study.add_argument("--validation", action="store_true",
                       help="on the scenes for choosing settings, instead of those that are reported")


def _check_tasks(options: argparse.Namespace) -> None:
    if "remove" in options and options.replace + options.add + options.remove == 0:
        raise UserError("--replace, --add and --remove are all 0; give at least one task.")
    if "remove" not in options and options.replace + options.add == 0:
        raise UserError("--replace and --add are both 0; give at least one task.")


def _add_methods(study: argparse.ArgumentParser) -> None:
    study.add_argument("--methods", nargs="+", metavar="METHOD",
                       help="presets and baselines by name; the default is all. One whose weights are out of reach is "
                            "named as not run")


# regions, learning


def _add_regions(studies) -> None:
    regions = add_command(studies, "regions", _run_regions, summary="ways to choose a region")
    _add_output(regions, "regions")
    _add_tasks(regions, replace=200, add=200)
    add_count(regions, "--remove", low=0, default=0, help="scenes with 'remove this object'")
    add_count(regions, "--strange", low=0, default=0, help="so many of the replacements again in the held-out style, "
                                                           "and as many on held-out textures")
    regions.add_argument("--style", help="draw all scenes in this other style; the default is the shipped one")
    regions.add_argument("--methods", nargs="+", metavar="METHOD",
                         help="only these rows of the registry; then without the tables of other rules")
    add_regions(regions)
    add_count(regions, "--steps", low=1, default=6, help="denoising steps of an edit")
    _add_workers(regions)


def _add_learning(studies) -> None:
    learning = add_command(studies, "learning", _run_regions, summary="settings of the region network")
    _add_output(learning, "learning")
    _add_tasks(learning, replace=200, add=0)
    add_count(learning, "--steps", low=1, default=6, help="denoising steps of an edit")
    _add_workers(learning)


def _run_regions(options: argparse.Namespace) -> int:
    from lr_helpers.baselines import ACROSS, known_row
    from lr_helpers.predictor import require_predictor
    from lr_helpers.study.regions import Regions
    from lr_helpers.study.run import run

    _check_tasks(options)
    study = Regions(options.output, options.study, options.replace, options.add, options.steps, options.validation)
    if options.study == "regions":
        study.remove, study.strange, study.style = options.remove, options.strange, options.style
        study.rows, study.regions = options.methods, options.regions
        _check_style(options.style)
        for row in options.methods or ():
            known_row(row)
        if set(study.variants) & set(ACROSS):
            require_predictor(study.profile)
    run(study, options.workers)
    return 0


def _check_style(style: str | None) -> None:
    """Raises UserError for a style in which scenes can't be drawn; None is the shipped one."""
    from tiny_world.sprites import styles

    if style is not None and style not in styles():
        raise UserError(f"--style is {style!r}; choose one of {', '.join(styles())}.")


# compare


def _add_compare(studies) -> None:
    compare = add_command(studies, "compare", _run_compare,
                          summary="all editors and choosers, each at several numbers of denoising steps")
    _add_output(compare, "compare")
    _add_tasks(compare, replace=100, add=50)
    _add_methods(compare)
    compare.add_argument("--onto", type=Path, metavar="FILE",
                         help="the summary of an earlier run on the same scenes: kept, but for these --methods")
    add_regions(compare)
    _add_workers(compare)


def _run_compare(options: argparse.Namespace) -> int:
    from lr_helpers.study.compare import Compare
    from lr_helpers.study.run import run

    _check_tasks(options)
    run(Compare(options.output, options.replace, options.add, options.methods, options.validation, options.regions,
                options.onto), options.workers)
    return 0


# rivals


def _add_rivals(studies) -> None:
    rivals = add_command(studies, "rivals", _run_rivals,
                         summary="settings of the other editors, on validation scenes")
    _add_output(rivals, "rivals")
    add_count(rivals, "--replace", low=0, default=24, help="scenes with 'replace this object by X' (default: 24)")
    add_count(rivals, "--add", low=0, default=12, help="scenes with 'add X' (default: 12)")
    _add_workers(rivals)


def _run_rivals(options: argparse.Namespace) -> int:
    from lr_helpers.study.rivals import Rivals
    from lr_helpers.study.run import run

    _check_tasks(options)
    run(Rivals(options.output, options.replace, options.add), options.workers)
    return 0


# pie


def _add_pie(studies) -> None:
    from lr_helpers.files.paths import DATA

    pie = add_command(studies, "pie", _run_pie, summary="all editors and choosers on PIE-Bench")
    _add_output(pie, "pie")
    pie.add_argument("--data", type=Path, default=DATA / "pie_emoji", metavar="FOLDER",
                     help="with mapping_file.json and annotation_images")
    _add_methods(pie)
    add_count(pie, "--limit", low=1,
              help="only N items, dealt out evenly among the edit types; the default is all")
    add_count(pie, "--steps", low=1, help="denoising steps of an edit; the default is the profile's")
    pie.add_argument("--seed", type=int, default=42, help="of every edit")
    add_profile(pie)
    add_regions(pie)
    add_device(pie)
    add_allow_cpu(pie)
    _add_workers(pie, "one a core; with a GPU or large models one")


def _run_pie(options: argparse.Namespace) -> int:
    from lr_helpers.baselines import rows_here
    from lr_helpers.method import check_seed
    from lr_helpers.models.loading import check_device
    from lr_helpers.models.profiles import get_profile
    from lr_helpers.study.pie.rows import ROWS
    from lr_helpers.study.pie.study import Pie
    from lr_helpers.study.run import run

    check_seed(options.seed)
    profile = get_profile(options.profile).but(regions=options.regions)
    check_device(profile, options.device, options.allow_cpu)
    run(Pie(options.output, options.data, profile, options.methods or rows_here(ROWS, profile), options.limit,
            options.steps, options.seed, options.device, options.allow_cpu), options.workers)
    return 0


# extended


def _add_extended(studies) -> None:
    extended = add_command(studies, "extended", _run_extended,
                           summary="unseen combinations and style, two objects, prompts")
    _add_output(extended, "extended")
    add_count(extended, "--scenes", low=0, default=100, help="scenes for unseen combinations and the other style")
    add_count(extended, "--pairs", low=0, default=50, help="scenes with two edits")
    add_count(extended, "--prompts", low=0, help="prompts of the emoji world; the default is all")
    extended.add_argument("--style", help="the other drawing style; the default is the held-out one")
    add_count(extended, "--steps", low=1, default=6, help="denoising steps of an edit")
    _add_workers(extended)


def _run_extended(options: argparse.Namespace) -> int:
    from lr_helpers.study.extended import Extended
    from lr_helpers.study.run import run
    from tiny_world.sprites import HELD_OUT_STYLE, styles

    style = options.style or HELD_OUT_STYLE
    if style not in styles():
        raise UserError(f"--style is {style!r}; choose one of {', '.join(styles())}.")
    run(Extended(options.output, style, options.scenes, options.pairs, options.prompts, options.steps),
        options.workers)
    return 0


# photographs


def _add_photographs(studies) -> None:
    photographs = add_command(
        studies, "photographs", _run_photographs, summary="presets on five photographs whose objects are marked",
        description="Where the presets edit in the shipped photographs, whose objects are marked by hand, and how "
                    "visible the edges are. Meant for models that know photographs (--profile sd2); the miniatures "
                    "know nothing but emoji.")
    _add_output(photographs, "photographs")
    photographs.add_argument("--methods", nargs="+", metavar="METHOD",
                             help="presets, or edit_free; the default is learned edit_free paper official_code")
    add_count(photographs, "--prompts", low=1, default=3, help="prompts of each photograph, 3 at most")
    add_count(photographs, "--seeds", low=1, default=1, help="edits of each prompt")
    add_count(photographs, "--steps", low=1, help="denoising steps of an edit; the default is the profile's")
    add_profile(photographs)
    add_regions(photographs)
    add_device(photographs)
    add_allow_cpu(photographs)
    _add_workers(photographs, "one a core; with large models one")


def _run_photographs(options: argparse.Namespace) -> int:
    from lr_helpers.baselines import rows_here
    from lr_helpers.models.loading import check_device
    from lr_helpers.models.profiles import get_profile
    from lr_helpers.study.photographs import ROWS, Photographs
    from lr_helpers.study.run import run

    profile = get_profile(options.profile).but(regions=options.regions)
    check_device(profile, options.device, options.allow_cpu)
    rows = options.methods or rows_here(ROWS, profile)
    run(Photographs(options.output, profile, rows, options.prompts, options.seeds, options.steps, options.device,
                    options.allow_cpu), options.workers)
    return 0


# objectives, predictors: learning across pictures


def _add_objectives(studies) -> None:
    objectives = add_command(studies, "objectives", _run_objectives,
                             summary="which loss knows a good edit, for replacing, adding and removing")
    _add_output(objectives, "objectives")
    _add_kinds(objectives)
    objectives.add_argument("--reported", action="store_true",
                            help="on the scenes that are reported, instead of those for choosing settings")
    add_count(objectives, "--boxes", low=2, default=16, help="edits of each scene")
    add_count(objectives, "--steps", low=1, default=4, help="denoising steps of an edit")
    _add_workers(objectives)


def _add_kinds(study: argparse.ArgumentParser, replace: int = 60, add: int = 60, remove: int = 30) -> None:
    for kind, count, what in (("replace", replace, "replace this object by X"), ("add", add, "add X"),
                              ("remove", remove, "remove this object")):
        add_count(study, f"--{kind}", low=0, default=count, help=f"scenes with '{what}'")


def _run_objectives(options: argparse.Namespace) -> int:
    from lr_helpers.across.objectives import Objectives
    from lr_helpers.study.run import run

    _check_tasks(options)
    run(Objectives(options.output, options.replace, options.add, options.remove, options.boxes, options.steps,
                   options.reported), options.workers)
    return 0


def _add_weights(studies) -> None:
    _add_choosing(studies, "weights", _run_weights, 120, "the weights of the search, on validation scenes")


def _add_gaps(studies) -> None:
    _add_choosing(studies, "gaps", _run_gaps, 60, "the search with CLIPs of another geometry")


def _add_choosing(studies, name: str, command, replace: int, summary: str) -> None:
    """A study of replacements on the scenes on which settings are chosen."""
    study = add_command(studies, name, command, summary=summary)
    _add_output(study, name)
    add_count(study, "--replace", low=1, default=replace, help="scenes with 'replace this object by X'")
    add_count(study, "--steps", low=1, default=6, help="denoising steps of an edit")
    _add_workers(study)


def _run_weights(options: argparse.Namespace) -> int:
    from lr_helpers.study.run import run
    from lr_helpers.study.weights import Weights

    run(Weights(options.output, options.replace, options.steps), options.workers)
    return 0


def _run_gaps(options: argparse.Namespace) -> int:
    from lr_helpers.study.gaps import Gaps
    from lr_helpers.study.run import run

    run(Gaps(options.output, options.replace, options.steps), options.workers)
    return 0


def _add_predictors(studies) -> None:
    predictors = add_command(
        studies, "predictors", _run_predictors, summary="region predictors by what they learned from and see",
        description="Train networks on parts of the edits that train-regions has kept, and let each say where to edit: "
                    "what is the number of pictures worth, and what each thing that a network sees?")
    _add_output(predictors, "predictors")
    predictors.add_argument("--training", type=Path, default=Path("results/regions_network"), metavar="FOLDER",
                            help="the output of train-regions, with edits of emoji scenes")
    predictors.add_argument("--pictures", nargs="+", type=int, default=[], metavar="N",
                            help="train on the first N pictures, for each N; the default is on all")
    predictors.add_argument("--ablation", action="store_true", help="also train without each input")
    add_count(predictors, "--rounds", low=1, default=1,
              help="also train on so many rounds of edits, which train-regions --rounds has made")
    _add_kinds(predictors)
    predictors.add_argument("--validation", action="store_true",
                            help="on the scenes for choosing settings, instead of those that are reported")
    add_count(predictors, "--steps", low=1, default=6, help="denoising steps of an edit")
    add_count(predictors, "--updates", low=1, default=1200, help="of each network")
    predictors.add_argument("--objective", choices=list(OBJECTIVES), default="tight",
                            help="by which loss an edit is good")
    predictors.add_argument("--seed", type=int, default=0, help="of the networks' weights and order of pictures")
    _add_workers(predictors)


def _run_predictors(options: argparse.Namespace) -> int:
    from lr_helpers.across.curve import Predictors
    from lr_helpers.files.outputs import refuse_inside
    from lr_helpers.method import check_seed
    from lr_helpers.study.run import run

    _check_tasks(options)
    check_seed(options.seed)
    if wrong := [count for count in options.pictures if count < 2]:
        raise UserError(f"--pictures is {wrong[0]}; give 2 or more, since one is kept back.")
    refuse_inside(options.output, [options.training])
    run(Predictors(options.output, options.training, options.pictures, options.ablation, options.replace, options.add,
                   options.remove, options.steps, options.validation, options.updates, options.objective, options.seed,
                   options.rounds),
        options.workers)
    return 0


def _add_confidence(studies) -> None:
    confidence = add_command(
        studies, "confidence", _run_confidence, summary="from which confidence on one edit is enough",
        description="Edit scenes for choosing settings in the region predictor's first box, and in the best of its "
                    "places by trial edits: from which confidence on is the first box better left alone?")
    _add_output(confidence, "confidence")
    _add_kinds(confidence, replace=120, add=60, remove=40)
    add_count(confidence, "--strange", low=0, default=60,
              help="so many of the replacements again in the held-out style, and as many on held-out textures")
    add_count(confidence, "--steps", low=1, default=6, help="denoising steps of an edit")
    add_regions(confidence)
    _add_workers(confidence)


def _run_confidence(options: argparse.Namespace) -> int:
    from lr_helpers.across.confidence import Confidence
    from lr_helpers.predictor import require_predictor
    from lr_helpers.study.run import run

    _check_tasks(options)
    study = Confidence(options.output, options.replace, options.add, options.remove, options.strange, options.steps,
                       options.regions)
    require_predictor(study.profile)
    run(study, options.workers)
    return 0


# causes, zoo, pie-data: not resumable

ZOO = ("judge", "editor", "vae", "clip", "dino", "text_to_image", "instruct")
"""As `lr_helpers.study.zoo.PARTS`, without loading torch."""


def _add_causes(studies) -> None:
    causes = add_command(studies, "causes", _run_causes,
                         summary="why regions were missed in the stored study of regions")
    causes.add_argument("--output", type=Path, metavar="FILE.json", help="also write the counts to this file")


def _run_causes(options: argparse.Namespace) -> int:
    from lr_helpers.study import causes

    causes.run(options.output)
    return 0


def _add_zoo(studies) -> None:
    from lr_helpers.files.paths import DATA

    zoo = add_command(studies, "zoo", _run_zoo, summary="the shipped miniature models on held-out scenes")
    add_count(zoo, "--cases", low=1, default=500, help="edits a row")
    add_count(zoo, "--scenes", low=2, default=400, help="scenes for what needs no edit; half as many for the two "
                                                        "models of the comparison")
    zoo.add_argument("--parts", nargs="+", default=list(ZOO), choices=ZOO, metavar="PART",
                     help=f"only these of {', '.join(ZOO)}; what the file holds of the others stays")
    zoo.add_argument("--output", type=Path, default=DATA / "tiny_world" / "METRICS.json", metavar="FILE.json",
                     help="file to write")
    zoo.add_argument("--pictures", type=Path, default=Path("results/tiny_world"), metavar="FOLDER",
                     help="for grids of edits")


def _run_zoo(options: argparse.Namespace) -> int:
    from lr_helpers.study import zoo

    zoo.run(options.cases, options.scenes, options.output, options.pictures, options.parts)
    return 0


def _add_pie_data(studies) -> None:
    from lr_helpers.files.paths import DATA

    data = add_command(studies, "pie-data", _run_pie_data, summary="write a small benchmark in PIE-Bench's format")
    add_count(data, "--count", low=4, default=60, help="items, as evenly over the edit types as can be")
    data.add_argument("--output", type=Path, default=DATA / "pie_emoji", metavar="FOLDER",
                      help="an empty or new folder")


def _run_pie_data(options: argparse.Namespace) -> int:
    from lr_helpers.study.pie import emoji

    size = emoji.write(options.output, options.count)
    print(f"{options.count} items, {size / 1000:.0f} kB: {options.output}")
    return 0
