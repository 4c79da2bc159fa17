"""The objects as pictures: sprites with transparency in several styles, at every size, flip and turn of the world."""

from __future__ import annotations

import io
import json
import unicodedata
from collections.abc import Callable
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from lr_helpers.errors import UserError
from lr_helpers.files.pictures import read_image
from lr_helpers.machine.installing import install_command
from tiny_world import DATA
from tiny_world.words import OBJECTS

STYLES = ("noto", "blob", "fluent")
"""The hands that the models are trained on, the usual one first; all that the editor paints."""

MORE_STYLES = ("fluent_flat", "emojitwo")
"""Further hands that CLIP, the ViT and the judge have seen: who looks has seen more drawings than who paints."""

SEEN_STYLES = (*STYLES, *MORE_STYLES)
"""All hands in any training."""

HELD_OUT_STYLE = "twemoji"
"""The hand that no model ever sees in training."""

CREDITS: dict[str, str] = {
    "noto": "Noto Color Emoji, SIL Open Font License 1.1", "blob": "Noto Emoji's first drawings, Apache License 2.0",
    "fluent": "Fluent Emoji, MIT License", "fluent_flat": "Fluent Emoji's flat drawings, MIT License",
    "emojitwo": "EmojiTwo, CC BY 4.0", "twemoji": "Twemoji, CC BY 4.0",
}
"""Where each style is from, and its licence."""

SIZES = (40, 48, 56, 64, 72, 80)
"""Sides in pixels of the square that a sprite fills in a scene."""

TURNS = (-12, -6, 0, 6, 12)
"""Degrees, counter-clockwise, by which a sprite may lean."""

STORED = 128


def _file(name: str, style: str) -> Path:
    suffix = "png" if style in ("noto", HELD_OUT_STYLE) else "webp"
    return DATA / "sprites" / style / f"{name.replace(' ', '_')}.{suffix}"


def styles() -> tuple[str, ...]:
    """All styles there are: those of the trainings, the usual one first, then the others."""
    return (*STYLES, *sorted(f.name for f in (DATA / "sprites").iterdir() if f.is_dir() and f.name not in STYLES))


def fit(glyph: Image.Image, side: int) -> Image.Image:
    """An RGBA picture without its empty border, as large as a side×side square allows, in the square's middle."""
    glyph = glyph.crop(glyph.getchannel("A").getbbox())
    scale = side / max(glyph.size)
    w, h = (max(round(s * scale), 1) for s in glyph.size)
    square = Image.new("RGBA", (side, side))
    # Premultiplied, so that the colour of what is transparent never bleeds into an outline.
    small = glyph.convert("RGBa").resize((w, h), Image.Resampling.LANCZOS).convert("RGBA")
    square.paste(small, ((side - w) // 2, (side - h) // 2))
    return square


def import_style(style: str, glyph_of: Callable[[str, str], Image.Image]) -> None:
    """Store every object in `style`; `glyph_of(name, code point)` gives its picture, RGBA of any size.

    Raises UserError if one is missing, can't be read or shows nothing, or if the style is one of the world's and there
    already; nothing is stored then.
    """
    if not style.isidentifier() or any(_file(name, style).exists() for name in OBJECTS):
        raise UserError(f"The style {style!r} can't be imported; give a new name of letters, digits and _.")
    glyphs = {name: glyph_of(name, code).convert("RGBA") for name, (code, _) in OBJECTS.items()}
    if empty := [name for name, glyph in glyphs.items() if glyph.getchannel("A").getbbox() is None]:
        raise UserError(f"The pictures of {', '.join(empty)} show nothing; give others.")
    for name, glyph in glyphs.items():
        file, square = _file(name, style), fit(glyph, STORED)
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix == ".webp":
            square.save(file, quality=88, alpha_quality=100, method=6)
        else:
            square.quantize(128, method=Image.Quantize.FASTOCTREE).save(file, optimize=True)


def import_folder(folder: Path, style: str) -> None:
    """Store a style from PNG or WebP pictures named by code point, e.g. `1f430.webp`; raises UserError as
    `import_style` does.
    """
    def glyph(name: str, code: str) -> Image.Image:
        file = next((f for f in sorted(folder.glob(f"{code}.*")) if f.suffix in (".png", ".webp")), None)
        return read_image(file or folder / f"{code}.png", keep_alpha=True)

    import_style(style, glyph)


def import_font(font: Path, style: str) -> None:
    """Store a style from a colour font of 109-pixel bitmaps, as Debian's NotoColorEmoji.ttf is."""
    face = ImageFont.truetype(str(font), 109)  # the only size that such a font has

    def glyph(name: str, code: str) -> Image.Image:
        drawn = Image.new("RGBA", (160, 160))
        ImageDraw.Draw(drawn).text((12, 12), chr(int(code, 16)), font=face, embedded_color=True)
        return drawn

    import_style(style, glyph)


ICONIFY = {"soft drink": "tropical-drink", "train": "locomotive", "gift": "wrapped-gift", "castle": "castle",
           "house": "house"}
"""Iconify's names where they aren't Unicode's; the blobs know no cup with a straw, so a tropical drink stands in."""


def import_iconify(icons: Path, style: str) -> None:
    """Store a style from an `icons.json` of an `@iconify-json` package; needs the package cairosvg. Raises UserError as
    `import_style` does, and without that package.
    """
    try:
        import cairosvg
    except ImportError as error:
        raise UserError(f"SVG icons need the package cairosvg; install it by: {install_command('cairosvg')}") from error
    book = json.loads(icons.read_text(encoding="utf-8"))

    def glyph(name: str, code: str) -> Image.Image:
        icon = ICONIFY.get(name) or unicodedata.name(chr(int(code, 16))).lower().replace(" ", "-")
        if icon not in book["icons"] and icon not in book["aliases"]:
            icon = icon.removesuffix("-face")  # some call "wolf" what Unicode calls "wolf face"
        while icon in book["aliases"]:
            icon = book["aliases"][icon]["parent"]
        if icon not in book["icons"]:
            raise UserError(f"{icons} has no icon {icon}; give a package that has all {len(OBJECTS)} objects.")
        body = book["icons"][icon]["body"]
        svg = (f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
               f'viewBox="0 0 {book["width"]} {book["height"]}">{body}</svg>')
        return Image.open(io.BytesIO(cairosvg.svg2png(svg.encode(), output_width=4 * STORED)))

    import_style(style, glyph)


@cache
def _stored(name: str, style: str, flip: bool, turn: int) -> Image.Image:
    """The sprite at its stored size, mirrored, then turned, premultiplied."""
    image = Image.open(_file(name, style)).convert("RGBA")
    if flip:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if turn:
        turned = image.convert("RGBa").rotate(turn, Image.Resampling.BICUBIC, expand=True)
        image = fit(turned.convert("RGBA"), STORED)
    return image.convert("RGBa")


@lru_cache(12_000)
def sprite(name: str, size: int, style: str = STYLES[0], flip: bool = False, turn: int = 0) -> np.ndarray:
    """(size, size, 4) uint8: colour premultiplied by alpha, and alpha; shared and read-only."""
    pixels = np.asarray(_stored(name, style, flip, turn).resize((size, size), Image.Resampling.HAMMING))
    pixels.setflags(write=False)
    return pixels


@lru_cache(12_000)
def extent(name: str, size: int, style: str = STYLES[0], flip: bool = False, turn: int = 0) -> tuple[int, ...]:
    """(x0, y0, x1, y1): the visible part of the sprite inside its square, in pixels, end exclusive."""
    seen = sprite(name, size, style, flip, turn)[..., 3] > 63
    columns, rows = np.flatnonzero(seen.any(0)), np.flatnonzero(seen.any(1))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
