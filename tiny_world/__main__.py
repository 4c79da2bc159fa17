"""`python -m tiny_world`: draw the sprites, train the miniature models. (`lr_helpers study zoo` measures them.)"""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

from lr_helpers.errors import UserError
from lr_helpers.machine.boundary import answered
from tiny_world import DATA

# part -> (module, function, steps, batch) of the shipped zoo
PARTS = {
    "vae": ("vae", "run", 5200, 16),
    "decoder": ("vae", "run_decoder", 2500, 16),
    "inpainting": ("inpainting", "run", 16_500, 32),
    "text_to_image": ("comparison", "text_to_image", 3600, 32),
    "instruct": ("comparison", "instruct", 4500, 32),
    "clip": ("clip", "run", 1300, 128),
    "dino": ("dino", "run", 600, 64),
    "classifier": ("judge", "run", 1800, 128),
}


def parser() -> argparse.ArgumentParser:
    """The command line of `python -m tiny_world`."""
    show = argparse.ArgumentDefaultsHelpFormatter
    top = argparse.ArgumentParser(prog="python -m tiny_world", description=__doc__)
    commands = top.add_subparsers(dest="command", required=True)

    train = commands.add_parser("train", formatter_class=show,
                                help="train one part of the zoo; resumes where it stopped")
    train.add_argument("--part", choices=PARTS, required=True,
                       help="vae, then inpainting (and decoder, which sharpens the vae), then text_to_image and "
                            "instruct, which start from inpainting's weights; the others stand alone")
    train.add_argument("--steps", type=int, help="updates (default: as for the shipped zoo)")
    train.add_argument("--batch", type=int, help="samples an update (default: as shipped; 8 times that on cuda)")
    train.add_argument("--device", default="cpu", help="cpu or cuda")
    train.add_argument("--threads", type=int, default=0, help="CPU threads (0: all)")
    train.add_argument("--runs", type=Path, default=Path("runs/tiny_world"), help="checkpoints and logs")
    train.add_argument("--output", type=Path, default=DATA, help="where the trained model goes")

    sprites = commands.add_parser("sprites", help="draw the sprites again from the emoji font, or import another style",
                                  formatter_class=show)
    origin = sprites.add_mutually_exclusive_group(required=True)
    origin.add_argument("--font", type=Path, help="NotoColorEmoji.ttf")
    origin.add_argument("--pictures", type=Path, help="folder of square PNGs named by code point, e.g. 1f430.png")
    sprites.add_argument("--style", help="with --pictures: the new style's name")
    commands.add_parser("vocabulary", help="write vocabulary.txt again")
    return top


def main(arguments: list[str] | None = None) -> None:
    """Run one command; what can't work ends the program with a sentence and the exit code of `boundary`."""
    options = parser().parse_args(arguments)
    command = {"train": _train, "sprites": _sprites, "vocabulary": _vocabulary}[options.command]
    code = answered(lambda: command(options) or 0)
    if code:
        raise SystemExit(code)


def _train(options: argparse.Namespace) -> None:
    import torch

    if options.threads:
        torch.set_num_threads(options.threads)
    module, function, steps, batch = PARTS[options.part]
    if options.device.startswith("cuda"):
        batch *= 8
    train = getattr(importlib.import_module(f"tiny_world.zoo.{module}"), function)
    train(options.runs / options.part, options.output, options.steps or steps, options.batch or batch, options.device)


def _sprites(options: argparse.Namespace) -> None:
    from tiny_world.sprites import import_sprites, render_sprites

    if bool(options.pictures) != bool(options.style):
        raise UserError("--pictures and --style belong together")
    if options.font:
        render_sprites(options.font)
    else:
        import_sprites(options.pictures, options.style)


def _vocabulary(options: argparse.Namespace) -> None:
    from tiny_world.words import vocabulary

    (DATA / "vocabulary.txt").write_text("\n".join(vocabulary()) + "\n")


if __name__ == "__main__":
    main()
