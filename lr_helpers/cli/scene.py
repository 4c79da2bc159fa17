"""`python -m lr_helpers scene`: make a sample picture whose regions are known."""

from __future__ import annotations

import argparse

from lr_helpers.cli.options import add_command, add_count


def add(commands) -> None:
    """Declare the command's options."""
    scene = add_command(commands, "scene", run, summary="make a sample picture whose regions are known")
    add_count(scene, "--seed", low=0, required=True, help="number of the scene; below 1000000 no model has seen it")
    scene.add_argument("--objects", type=int, choices=(1, 2, 3), help="how many; the default lets the seed decide")
    scene.add_argument("--output", default="scene", help="folder for scene.png and scene.json")


def run(options: argparse.Namespace) -> int:
    """Draw the scene and write it with its boxes; the exit code."""
    from PIL import Image

    from lr_helpers.files.outputs import Output
    from lr_helpers.files.writing import json_bytes, png_bytes
    from tiny_world.scenes import scene

    output, recipe = Output(options.output, "scene"), scene(options.seed, options.objects)
    with output.change() as change:
        change.write("scene.png", png_bytes(Image.fromarray(recipe.render())))
        change.write("scene.json", json_bytes({"seed": options.seed, **recipe.to_dict()}), record=True)
    folder = output.folder
    print(f"{recipe.caption()}: {folder / 'scene.png'}; boxes in {folder / 'scene.json'}")
    return 0
