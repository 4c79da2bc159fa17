"""`python -m tiny_world`: import sprites, draw contact sheets, train the miniature models. (`lr_helpers study zoo`
measures them.)
"""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

from lr_helpers.errors import UserError
from lr_helpers.machine.boundary import answered
from tiny_world import DATA

# part -> (module, function, steps, batch) of the shipped zoo
PARTS = {
    "critic": ("judge", "run_critic", 1500, 64),
    "wide_vae": ("vae", "run_wide", 40_000, 4),
    "vae": ("vae", "run", 10_000, 4),
    "decoder": ("vae", "run_decoder", 6000, 4),
    "inpainting": ("inpainting", "run", 20_000, 32),
    "text_to_image": ("comparison", "text_to_image", 2500, 32),
    "instruct": ("comparison", "instruct", 3000, 32),
    "clip": ("clip", "run", 8500, 96),
    "clip_alike": ("clip", "run_alike", 4500, 96),
    "dino": ("dino", "run", 2000, 48),
    "dino_whole": ("dino", "run_whole", 1400, 32),
    "classifier": ("judge", "run", 4000, 64),
}

NEEDS = {
    "vae": {"wide": "wide_vae", "critic": "critic"},
    "decoder": {"inpainting/vae": "vae", "critic": "critic"},
    "inpainting": {"inpainting/vae": "vae"},
    "text_to_image": {"inpainting/unet": "inpainting"},
    "instruct": {"inpainting/unet": "inpainting"},
    "clip_alike": {"clip/open_clip_model.safetensors": "clip"},
    "dino_whole": {"dino/model.safetensors": "dino"},
}
"""What a part goes on from, in the folder of the output, and the part that writes it."""


def parser() -> argparse.ArgumentParser:
    """The command line of `python -m tiny_world`."""
    show = argparse.ArgumentDefaultsHelpFormatter
    top = argparse.ArgumentParser(prog="python -m tiny_world", description=__doc__)
    commands = top.add_subparsers(dest="command", required=True)

    train = commands.add_parser("train", formatter_class=show,
                                help="train one part of the zoo; resumes where it stopped")
    train.add_argument("--part", choices=PARTS, required=True,
                       help="critic and wide_vae, then vae, then inpainting (and decoder, which sharpens the vae), "
                            "then text_to_image and instruct, which start from inpainting's weights; clip, then "
                            "clip_alike; dino, then dino_whole; classifier")
    train.add_argument("--steps", type=int, help="updates (default: as for the shipped zoo)")
    train.add_argument("--batch", type=int, help="samples an update (default: as shipped; 8 times that on cuda)")
    train.add_argument("--device", default="cpu", help="cpu or cuda")
    train.add_argument("--threads", type=int, default=0, help="CPU threads (0: all)")
    train.add_argument("--runs", type=Path, default=Path("runs/tiny_world"), help="checkpoints and logs")
    train.add_argument("--output", type=Path, default=DATA, help="where the trained model goes")

    sheet = commands.add_parser("contact-sheet", formatter_class=show, help="draw sprites, backgrounds and scenes")
    sheet.add_argument("--output", type=Path, default=Path("runs/tiny_world/sheets"), help="folder")

    sprites = commands.add_parser("sprites", help="import the objects in another style", formatter_class=show)
    origin = sprites.add_mutually_exclusive_group(required=True)
    origin.add_argument("--pictures", type=Path, help="folder of PNG or WebP pictures named by code point: 1f430.webp")
    origin.add_argument("--iconify", type=Path, help="icons.json of an @iconify-json package (needs cairosvg)")
    origin.add_argument("--font", type=Path, help="colour font of 109-pixel bitmaps, as NotoColorEmoji.ttf")
    sprites.add_argument("--style", required=True, help="the new style's name")
    commands.add_parser("vocabulary", help="write vocabulary.txt again")
    return top


def main(arguments: list[str] | None = None) -> None:
    """Run one command; what can't work ends the program with a sentence and the exit code of `boundary`."""
    options = parser().parse_args(arguments)
    command = {"train": _train, "contact-sheet": _sheet, "sprites": _sprites,
               "vocabulary": _vocabulary}[options.command]
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
    for name, before in NEEDS.get(options.part, {}).items():
        if not (options.output / name).exists():
            raise UserError(f"{options.output / name} is missing, from which {options.part} goes on; train --part "
                            f"{before} first, with the same --output.")
    train = getattr(importlib.import_module(f"tiny_world.zoo.{module}"), function)
    train(options.runs / options.part, options.output, options.steps or steps, options.batch or batch, options.device)


def _sheet(options: argparse.Namespace) -> None:
    from tiny_world.sheets import write

    write(options.output)


def _sprites(options: argparse.Namespace) -> None:
    from tiny_world.sprites import import_folder, import_font, import_iconify

    if options.font:
        import_font(options.font, options.style)
    elif options.iconify:
        import_iconify(options.iconify, options.style)
    else:
        import_folder(options.pictures, options.style)


def _vocabulary(options: argparse.Namespace) -> None:
    from tiny_world.words import known_words

    (DATA / "vocabulary.txt").write_text("\n".join(known_words()) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
