"""`python -m tiny_world.two`: train the miniature models of world two, evaluate them, draw contact sheets."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

from lr_helpers.machine.boundary import answered
from tiny_world.two import DATA

# part -> (module, function, steps, batch)
PARTS = {
    "critic": ("judge", "run_critic", 1500, 64),
    "wide_vae": ("vae", "run_wide", 40_000, 4),
    "vae": ("vae", "run", 10_000, 4),
    "decoder": ("vae", "run_decoder", 6000, 4),
    "inpainting": ("inpainting", "run", 24_000, 32),
    "judge": ("judge", "run", 4000, 64),
    "dino": ("dino", "run", 2000, 48),
    "clip": ("clip", "run", 3000, 96),
}
RUNS = Path("runs/two")


def parser() -> argparse.ArgumentParser:
    """The command line of `python -m tiny_world.two`."""
    show = argparse.ArgumentDefaultsHelpFormatter
    top = argparse.ArgumentParser(prog="python -m tiny_world.two", description=__doc__)
    commands = top.add_subparsers(dest="command", required=True)

    train = commands.add_parser("train", formatter_class=show, help="train parts of the zoo; resumes where it stopped")
    train.add_argument("--part", choices=PARTS, nargs="+", required=True,
                       help="one after the other: critic and wide_vae, then vae, then inpainting (and decoder, which "
                            "sharpens the vae); the others stand alone")
    train.add_argument("--steps", type=int, help="updates (default: as for the shipped zoo)")
    train.add_argument("--batch", type=int, help="samples an update (default: as for the shipped zoo)")
    train.add_argument("--device", default="cpu", help="cpu or cuda")
    train.add_argument("--threads", type=int, default=1, help="CPU threads")
    train.add_argument("--runs", type=Path, default=RUNS, help="checkpoints and logs")
    train.add_argument("--output", type=Path, default=RUNS / "zoo", help="where the trained models go")

    evaluate = commands.add_parser("evaluate", formatter_class=show,
                                   help="measure the parts that are there on held-out scenes, write METRICS.json")
    evaluate.add_argument("--zoo", type=Path, default=RUNS / "zoo", help="the trained models")
    evaluate.add_argument("--part", nargs="+", help="only these parts")
    evaluate.add_argument("--cases", type=int, default=300, help="edits a row")
    evaluate.add_argument("--scenes", type=int, default=400, help="scenes a row of the other parts")
    evaluate.add_argument("--threads", type=int, default=1, help="CPU threads")
    evaluate.add_argument("--output", type=Path, default=RUNS / "METRICS.json", help="file to write")
    evaluate.add_argument("--pictures", type=Path, default=RUNS / "pictures", help="folder for grids of pictures")

    sheet = commands.add_parser("contact-sheet", formatter_class=show, help="draw sprites, backgrounds and scenes")
    sheet.add_argument("--output", type=Path, default=RUNS / "sheets", help="folder")

    sprites = commands.add_parser("sprites", help="import a style", formatter_class=show)
    sprites.add_argument("action", choices=["import"])
    source = sprites.add_mutually_exclusive_group(required=True)
    source.add_argument("--pictures", type=Path, help="folder of pictures named by code point, e.g. 1f430.webp")
    source.add_argument("--iconify", type=Path, help="icons.json of an @iconify-json package")
    sprites.add_argument("--style", required=True, help="the style's name")
    commands.add_parser("vocabulary", help="write vocabulary.txt again")
    return top


def main(arguments: list[str] | None = None) -> None:
    """Run one command; what can't work ends the program with a sentence and the exit code of `boundary`."""
    options = parser().parse_args(arguments)
    if code := answered(lambda: _run(options) or 0):
        raise SystemExit(code)


def _run(options: argparse.Namespace) -> None:
    if options.command == "train":
        import torch

        torch.set_num_threads(options.threads)
        for part in options.part:
            module, function, steps, size = PARTS[part]
            run = getattr(importlib.import_module(f"tiny_world.two.zoo.{module}"), function)
            run(options.runs / part, options.output, options.steps or steps, options.batch or size, options.device)
    elif options.command == "evaluate":
        import torch

        from tiny_world.two.evaluate import evaluate

        torch.set_num_threads(options.threads)
        evaluate(options.zoo, options.part, options.cases, options.scenes, options.output, options.pictures)
    elif options.command == "contact-sheet":
        from tiny_world.two.sheets import write

        write(options.output)
    elif options.command == "sprites":
        from tiny_world.two.sprites import import_folder, import_iconify

        if options.iconify:
            import_iconify(options.iconify, options.style)
        else:
            import_folder(options.pictures, options.style)
    else:
        from tiny_world.two.words import vocabulary

        (DATA / "vocabulary.txt").write_text("\n".join(vocabulary()) + "\n")


if __name__ == "__main__":
    main()
