"""Reading and writing pictures safely; the only place where pictures become tensors and back."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageOps, UnidentifiedImageError

from lr_helpers.errors import UserError

if TYPE_CHECKING:  # torch takes seconds to load; a wrong option or a finished batch need not wait for it
    import torch

    from lr_helpers.boxes import Box, Size


def read_image(path: str | Path, keep_alpha: bool = False) -> Image.Image:
    """Any JPEG, PNG, WebP … as RGB, turned as its EXIF says, transparency laid on white (or RGBA, if it is kept).

    Raises UserError if there is no such file, it is no picture, is damaged, or has over 179 M pixels
    (twice Pillow's limit, from which on it may be a decompression bomb).
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"There is no file {str(path)!r}; check the path of the image.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the error stands
            with _open(path) as image:
                return upright(image) if keep_alpha else flatten(image)
    except Image.DecompressionBombError as error:
        raise UserError(f"{path.name} has too many pixels to be opened safely; make it smaller first.") from error
    except UnidentifiedImageError as error:
        raise UserError(f"{path.name} is not a picture that can be read; give a JPEG, PNG or WebP file.") from error
    except PermissionError as error:
        raise UserError(f"{path.name} may not be read; change its permissions.") from error
    except (OSError, ValueError, SyntaxError, RuntimeError) as error:
        raise UserError(f"{path.name} is damaged ({error}); give a whole file.") from error


def open_picture(image: str | Path | Image.Image) -> Image.Image:
    """`upright` for a picture that is open already, and for the file at a path, which raises UserError as `read_image`
    does.
    """
    return upright(image) if isinstance(image, Image.Image) else read_image(image, keep_alpha=True)


def _open(path: Path) -> Image.Image:
    Image.init()
    # An EPS file is a program, for which Pillow calls Ghostscript.
    return Image.open(path, formats=[name for name in Image.OPEN if name != "EPS"])


def flatten(image: Image.Image) -> Image.Image:
    """Any picture as RGB: `upright`, with transparency laid on white."""
    return on_white(upright(image))


def on_white(image: Image.Image) -> Image.Image:
    """A picture that is `upright` already as RGB: transparency laid on white."""
    if image.mode == "RGB":
        return image
    flat = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    flat.info = image.info
    return flat


def upright(image: Image.Image) -> Image.Image:
    """Any picture as 8-bit RGB, or RGBA where it has transparency, turned as its EXIF says.

    A colour profile stays with RGB pixels; one of another colour space does not describe the result and is dropped.
    """
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16") or image.mode == "I":
        scaled = np.asarray(image, np.float64) / 257
        return Image.fromarray(np.clip(scaled, 0, 255).astype(np.uint8)).convert("RGB")
    transparent = image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info
    result = image.convert("RGBA" if transparent else "RGB")
    kept = ("icc_profile",) if image.mode in ("RGB", "RGBA", "RGBX", "RGBa", "P", "PA") else ()
    result.info = {name: image.info[name] for name in kept if name in image.info}
    return result


def reading_notes(path: Path) -> list[str]:
    """What is lost of a picture when it is read: the other frames, depth over 8 bits, colours of print. For a file
    that `read_image` takes.
    """
    with _open(path) as image:
        notes = []
        if getattr(image, "is_animated", False):
            notes.append(f"{path.name} has {image.n_frames} frames; only the first is used.")
        if image.mode.startswith("I"):
            notes.append(f"{path.name} has 16 bits a pixel; the result has 8.")
        if image.mode in ("CMYK", "YCCK", "LAB"):
            notes.append(f"{path.name} is {image.mode}; its colours as RGB may look different.")
    return notes


def to_tensor(image: Image.Image, size: int | None = None) -> torch.Tensor:
    """(3, H, W) float in 0..1, transparency laid on white; resized to a size×size square first if `size` is given.

    RGB and RGBA pictures are taken as they are, which means upright.
    """
    import torch

    image = on_white(image) if image.mode in ("RGB", "RGBA") else flatten(image)
    if size is not None and image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.asarray(image, np.float32) / 255).permute(2, 0, 1).contiguous()


def to_image(tensor: torch.Tensor) -> Image.Image:
    """(3, H, W) in 0..1 → PIL RGB, rounded to 8 bits."""
    import torch

    array = (tensor.detach().float().cpu().clamp(0, 1) * 255).round().to(torch.uint8)
    return Image.fromarray(array.permute(1, 2, 0).numpy())


def paste_back(original: Image.Image, edited: torch.Tensor, box: Sequence[float], feather: float = 0.0,
               window: Box | None = None) -> Image.Image:
    """Put the inside of `box` of an edited square into the original at its own resolution.

    `edited` (3, S, S) in 0..1 shows the `window` of the original, (x0, y0, x1, y1) in the original's pixels (default:
    all of it); `box` is in pixels of `edited`. Pixels outside the box stay bit-identical. `feather` is the width of
    the inward blend as a share of the box's shorter side; edges that lie on the original's own border are not blended.
    A transparent (RGBA) original becomes opaque inside the box and keeps its transparency outside.
    """
    side, (w, h) = edited.shape[-1], original.size
    left, top, right, bottom = window or (0, 0, w, h)
    sx, sy = (right - left) / side, (bottom - top) / side
    x0, x1 = (left + round(v * sx) for v in (box[0], box[2]))
    y0, y1 = (top + round(v * sy) for v in (box[1], box[3]))
    if x1 <= x0 or y1 <= y0:  # a sliver of an extremely long picture
        return original.copy()
    patch = to_image(edited)
    if (sx, sy) == (1, 1) and all(float(v).is_integer() for v in box):
        patch = patch.crop(tuple(int(v) for v in box))
    else:
        patch = patch.resize((x1 - x0, y1 - y0), Image.Resampling.BICUBIC, box=tuple(box))
    weight = _ramp(x0, x1, y0, y1, w, h, feather)
    result = original.copy()
    result.paste(_blended(original.crop((x0, y0, x1, y1)), patch, weight), (x0, y0))
    return result


def _ramp(x0: int, x1: int, y0: int, y1: int, width: int, height: int, feather: float) -> np.ndarray:
    """(y1 − y0, x1 − x0) weights of a patch: 1 inside, falling towards each edge that is not the picture's own."""
    edge = max(1, round(feather * min(x1 - x0, y1 - y0))) if feather else 0
    sides = []
    for low, high, end in ((y0, y1, height), (x0, x1, width)):
        at, ramp = np.arange(high - low), np.ones(high - low)
        if edge and low > 0:
            ramp = np.minimum(ramp, (at + 1) / (edge + 1))
        if edge and high < end:
            ramp = np.minimum(ramp, (at[::-1] + 1) / (edge + 1))
        sides.append(ramp)
    return np.minimum.outer(*sides)


def _blended(below: Image.Image, above: Image.Image, weight: np.ndarray) -> Image.Image:
    """An opaque picture laid over another with these weights. Colours are weighed by how opaque they are
    (premultiplied): what is transparent has a colour, too, that nobody sees.
    """
    if (weight == 1).all():
        return above.convert(below.mode)
    old, new = np.asarray(below, np.float64), np.asarray(above, np.float64)
    weight = weight[..., None]
    if below.mode == "RGB":
        return Image.fromarray((weight * new + (1 - weight) * old).round().astype(np.uint8))
    opacity = (1 - weight) * old[..., 3:] / 255
    alpha = weight + opacity
    colour = (weight * new + opacity * old[..., :3]) / np.maximum(alpha, 1e-9)
    return Image.fromarray(np.concatenate([colour, 255 * alpha], 2).round().astype(np.uint8), "RGBA")


def draw_box(image: Image.Image, box: Box, size: Size, colour: str = "#d55e00") -> Image.Image:
    """A copy with `box` (in pixels of a picture of this size, see `boxes.Size`) drawn on it."""
    image = image.copy()
    height, width = (size, size) if isinstance(size, int) else size
    sx, sy = image.width / width, image.height / height
    x0, y0, x1, y1 = box[0] * sx, box[1] * sy, box[2] * sx - 1, box[3] * sy - 1
    thick = max(1, round(min(image.size) / 100))
    ImageDraw.Draw(image).rectangle((x0, y0, max(x0, x1), max(y0, y1)), outline=colour, width=thick)
    return image
