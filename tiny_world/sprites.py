"""The objects as pictures: PNG sprites with transparency, in one or more styles, kept at every size the world uses."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from lr_helpers.errors import UserError
from lr_helpers.files.pictures import read_image
from tiny_world import DATA
from tiny_world.words import OBJECTS

SIZES = (20, 24, 28, 32, 36, 40)
"""Sides in pixels of the square that a sprite fills."""

STORED = 128


STYLE = "noto"
"""The style of every scene unless another is asked for, and the only one that the models were trained on."""


def _folder(style: str) -> Path:
    return DATA / ("sprites" if style == STYLE else f"sprites_{style}")


def _file(name: str, style: str) -> Path:
    return _folder(style) / f"{name.replace(' ', '_')}.png"


def styles() -> tuple[str, ...]:
    """The styles there are, the usual one first."""
    return (STYLE, *sorted(f.name.removeprefix("sprites_") for f in DATA.glob("sprites_*")))


def render_sprites(font: Path) -> None:
    """Draw every object once from Debian's NotoColorEmoji.ttf and store it as a 128×128 PNG."""
    # 109 is the only size of this bitmap font.
    face = ImageFont.truetype(str(font), 109)
    for name, (code, _) in OBJECTS.items():
        glyph = Image.new("RGBA", (160, 160))
        ImageDraw.Draw(glyph).text((12, 12), chr(int(code, 16)), font=face, embedded_color=True)
        _store(glyph, name, STYLE)


def import_sprites(folder: Path, style: str) -> None:
    """Store every object in another style, from a folder of square PNGs named by code point, e.g. `1f430.png`.

    Raises UserError if one is missing or can't be read, or if the style is not new; nothing is stored then.
    """
    if style == STYLE or not style.isidentifier():
        raise UserError(f"The style {style!r} can't be imported; give a new name of letters, digits and _.")
    glyphs = {name: read_image(folder / f"{code}.png", keep_alpha=True) for name, (code, _) in OBJECTS.items()}
    if empty := [name for name, glyph in glyphs.items() if glyph.convert("RGBA").getbbox() is None]:
        raise UserError(f"The pictures of {', '.join(empty)} in {str(folder)!r} show nothing; give others.")
    for name, glyph in glyphs.items():
        _store(glyph.convert("RGBA"), name, style)


def _store(glyph: Image.Image, name: str, style: str) -> None:
    """Cut off the empty border, fill a 128×128 square with the rest, and write it with 128 colours."""
    file = _file(name, style)
    file.parent.mkdir(parents=True, exist_ok=True)
    glyph = glyph.crop(glyph.getbbox())
    scale = STORED / max(glyph.size)
    w, h = (round(s * scale) for s in glyph.size)
    square = Image.new("RGBA", (STORED, STORED))
    glyph = glyph.resize((w, h), Image.Resampling.LANCZOS)
    square.paste(glyph, ((STORED - w) // 2, (STORED - h) // 2))
    square.quantize(128, method=Image.Quantize.FASTOCTREE).save(file, optimize=True)


@cache
def sprite(name: str, size: int, style: str = STYLE) -> tuple[np.ndarray, np.ndarray]:
    """(colour, alpha): float32 arrays (size, size, 3) in 0..255, premultiplied, and (size, size, 1)
    in 0..1. Both are shared and read-only.
    """
    image = Image.open(_file(name, style)).convert("RGBA")
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
def extent(name: str, size: int, style: str = STYLE) -> tuple[int, int, int, int]:
    """(x0, y0, x1, y1): the visible part of the sprite inside its square, in pixels, end exclusive."""
    seen = sprite(name, size, style)[1][..., 0] > 0.25
    columns, rows = np.flatnonzero(seen.any(0)), np.flatnonzero(seen.any(1))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
