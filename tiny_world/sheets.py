"""Contact sheets: many small pictures in one, to be looked at before and after a training."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from lr_helpers.files.outputs import Output
from lr_helpers.files.writing import png_bytes
from tiny_world.places import place
from tiny_world.scenes import TEST_SEEDS, Placed, Recipe, scene
from tiny_world.sprites import HELD_OUT_STYLE, styles
from tiny_world.words import HELD_OUT_TEXTURES, NAMES, PLACES


def sheet(pictures: Iterable[np.ndarray], columns: int, gap: int = 4) -> Image.Image:
    """(H, W, 3) uint8 pictures of one size, row by row on white."""
    pictures = list(pictures)
    h, w = pictures[0].shape[:2]
    rows = -(-len(pictures) // columns)
    page = np.full((rows * (h + gap), columns * (w + gap), 3), 255, np.uint8)
    for i, picture in enumerate(pictures):
        y, x = i // columns * (h + gap), i % columns * (w + gap)
        page[y:y + h, x:x + w] = picture
    return Image.fromarray(page)


def write(folder: Path) -> None:
    """`sprites.png` (a row a style), `places.png` (a row a background), `scenes.png`, and `held_out.png`, the same
    scenes in the held-out style on held-out textures.
    """
    things = (Recipe("snow", 0, (Placed(name, 24, 32, 80, style),)) for style in styles() for name in NAMES)
    scenes = [scene(TEST_SEEDS[i]) for i in range(48)]
    strange = (r.styled(HELD_OUT_STYLE).on(HELD_OUT_TEXTURES[i % 4]) for i, r in enumerate(scenes))
    pages = {"sprites": sheet((r.render()[::2, ::2] for r in things), 25),
             "places": sheet((place(name, v) for name in (*PLACES, *HELD_OUT_TEXTURES) for v in range(8)), 8),
             "scenes": sheet((r.render() for r in scenes), 8),
             "held_out": sheet((r.render() for r in strange), 8)}
    output = Output(folder, "zoo")
    output.require(f"{name}.png" for name in pages)
    for name, page in pages.items():
        output.write(f"{name}.png", png_bytes(page))


def as_pictures(batch: np.ndarray) -> list[np.ndarray]:
    """(N, 3, H, W) in 0..1 → uint8 pictures for `sheet`."""
    return list((np.asarray(batch).transpose(0, 2, 3, 1).clip(0, 1) * 255 + 0.5).astype(np.uint8))


