"""The objects as pictures: PNG sprites with transparency, cached at every size the world uses."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tiny_world import DATA
from tiny_world.words import OBJECTS

SIZES = (20, 24, 28, 32, 36, 40)
"""Sides in pixels of the square that a sprite fills."""

STORED = 128


def _file(name: str) -> Path:
    return DATA / "sprites" / f"{name.replace(' ', '_')}.png"


def render_sprites(font: Path) -> None:
    """Draw every object once from Debian's NotoColorEmoji.ttf and store it as a 128×128 PNG."""
    # 109 is the only size of this bitmap font.
    face = ImageFont.truetype(str(font), 109)
    _file("x").parent.mkdir(parents=True, exist_ok=True)
    for name, (code, _) in OBJECTS.items():
        glyph = Image.new("RGBA", (160, 160))
        ImageDraw.Draw(glyph).text((12, 12), chr(int(code, 16)), font=face, embedded_color=True)
        glyph = glyph.crop(glyph.getbbox())
        scale = STORED / max(glyph.size)
        w, h = (round(s * scale) for s in glyph.size)
        square = Image.new("RGBA", (STORED, STORED))
        glyph = glyph.resize((w, h), Image.Resampling.LANCZOS)
        square.paste(glyph, ((STORED - w) // 2, (STORED - h) // 2))
        square.quantize(128, method=Image.Quantize.FASTOCTREE).save(_file(name), optimize=True)


@cache
def sprite(name: str, size: int) -> tuple[np.ndarray, np.ndarray]:
    """(colour, alpha): float32 arrays (size, size, 3) in 0..255, premultiplied, and (size, size, 1)
    in 0..1. Both are shared and read-only.
    """
    image = Image.open(_file(name)).convert("RGBA")
    rgba = np.asarray(image, np.float32)
    alpha = rgba[..., 3:] / 255
    planes = np.concatenate([rgba[..., :3] * alpha, alpha * 255], axis=2)
    small = [Image.fromarray(planes[..., c]).resize((size, size), Image.Resampling.BOX)
             for c in range(4)]
    small = np.stack([np.asarray(p, np.float32) for p in small], axis=2)
    colour, alpha = small[..., :3], small[..., 3:] / 255
    colour.setflags(write=False)
    alpha.setflags(write=False)
    return colour, alpha


@cache
def extent(name: str, size: int) -> tuple[int, int, int, int]:
    """(x0, y0, x1, y1): the visible part of the sprite inside its square, in pixels, end exclusive."""
    seen = sprite(name, size)[1][..., 0] > 0.25
    columns, rows = np.flatnonzero(seen.any(0)), np.flatnonzero(seen.any(1))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
