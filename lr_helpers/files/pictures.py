"""Reading and writing pictures safely; the only place where pictures become tensors and back.

A file is read as one of a few formats, known by what it holds and not by its name; what reading loses is said in notes,
and what would come out as nonsense is refused.
"""

from __future__ import annotations

import errno
import re
import stat
import struct
import warnings
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from PIL import ExifTags, Image, ImageCms, ImageDraw, ImageOps, UnidentifiedImageError

from lr_helpers.errors import UserError
from lr_helpers.files.names import is_address, shown

if TYPE_CHECKING:  # torch takes seconds to load; a wrong option or a finished batch need not wait for it
    import torch

    from lr_helpers.boxes import Box, Size

FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
"""What is read. Pillow knows some fifty formats, of which one is a program (EPS), and others can hold one."""

GIVE = "give a JPEG, PNG or WebP file"

OTHERS: tuple[tuple[str, str, str], ...] = (
    (r"....ftyp(?:hei|hev|mif1|msf1)", "a HEIC photograph, as iPhones take them",
     "save it as JPEG (on the phone: Settings, Camera, Formats, Most Compatible)"),
    (r"....ftypavi", "an AVIF picture, which this build of Pillow does not know", "save it as PNG"),
    (r"....ftyp", "a film", "give one of its pictures as PNG"),
    (r"%!PS|\xc5\xd0\xd3\xc6", "an EPS drawing, which is a program", "save it as PNG"),
    (r"%PDF", "a PDF document", "save the page as PNG"),
    (r"8BPS", "a Photoshop document", "save it as PNG"),
    (r"gimp xcf", "a GIMP document", "save it as PNG"),
    (r"(?i)\s*<(?:!doctype html|html)", "a web page", "download the picture that it shows"),
    (r"(?is)\s*<(?:\?xml.*<)?svg", "an SVG drawing", "save it as PNG"),
    (r"\xff\n|....JXL |....jP  |\xff\x4f\xff\x51|P[1-6]\s|\0\0[\1\2]\0|qoif|icns|SIMPLE  =",
     "a picture of a rare format", "save it as PNG"),
    (r"II\*\0|MM\0\*", "a TIFF of a rare kind", "save it with 8 bits a channel"),
)
"""What begins like this, what it is, and what helps."""

SRGB = re.compile(r"(?i)srgb|^[cu]2|^urgb")
"""Names of colour profiles that are sRGB's."""


def read_image(path: str | Path, keep_alpha: bool = False) -> Image.Image:
    """Any picture of FORMATS as RGB, turned as its EXIF says, transparency laid on white (or RGBA, if it is kept).

    Raises UserError if there is no such file, it is no picture, is damaged, holds numbers whose meaning is not known,
    or has over 179 M pixels (twice Pillow's limit, from which on it may be a decompression bomb).
    """
    picture, _ = read_noted(path)
    return picture if keep_alpha else on_white(picture)


def read_noted(path: str | Path) -> tuple[Image.Image, list[str]]:
    """`read_image` with transparency kept, and what is lost of the picture so, a sentence each."""
    file = _plain_file(path)
    name = shown(file.name)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Pillow: errors stand, and what is lost is said here
            with file.open("rb") as stream, _open(stream) as image:
                _require_known_range(image, name)
                notes = _lost(image, name, _head(file))
                return upright(image), notes
    except Image.DecompressionBombError as error:
        raise UserError(f"{name} has too many pixels to be opened safely; make it smaller first.") from error
    except UnidentifiedImageError as error:
        raise UserError(f"{name} is not a picture that can be read{_kind(_head(file))}.") from error
    except PermissionError as error:
        raise UserError(f"{name} may not be read; change its permissions.") from error
    except (OSError, EOFError, ValueError, TypeError, LookupError, ArithmeticError, SyntaxError, RuntimeError,
            struct.error) as error:
        reason = " ".join(str(error).split())[:120]
        raise UserError(f"{name} is damaged ({reason}); give a whole file.") from error


def open_picture(image: str | Path | Image.Image) -> Image.Image:
    """`upright` for a picture that is open already, and for the file at a path, which raises UserError as `read_image`
    does.
    """
    return open_noted(image)[0]


def open_noted(image: str | Path | Image.Image) -> tuple[Image.Image, list[str]]:
    """`open_picture`, and what is lost of the picture so, a sentence each."""
    if not isinstance(image, Image.Image):
        return read_noted(image)
    notes = _lost(image, "The picture", b"")  # before its pixels are loaded, which forgets how they were stored
    return upright(image), notes


# The file


def _plain_file(path: str | Path) -> Path:
    """The path of a file that can be opened; UserError for anything else that a path can be, and for what is none."""
    if is_address(str(path)):
        raise UserError(f"The image {shown(str(path))} is an address; download it, and give the path of the file.")
    file = Path(path)
    name = repr(str(path)) if len(str(path)) <= 200 else f"… {str(path)[-80:]!r}"
    try:
        kind = file.stat().st_mode
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(f"There is no file {name}; check the path of the image.") from error
    except PermissionError as error:
        raise UserError(f"{shown(file.name)} may not be read; change the permissions of its folder.") from error
    except (OSError, ValueError) as error:
        why = {errno.ENAMETOOLONG: "is too long", errno.ELOOP: "is a link in a circle"}.get(
            getattr(error, "errno", None), "can't be looked up")
        raise UserError(f"The path of the image {why}: {name}; check it.") from error
    if stat.S_ISDIR(kind):
        raise UserError(f"{name} is a folder; give the path of one picture.")
    if not stat.S_ISREG(kind):
        raise UserError(f"{name} is no plain file but a pipe or a device; save the picture to a file first.")
    return file


def _open(stream: BinaryIO) -> Image.Image:
    # Of a path, Pillow maps plain pixels into memory: it mixes up those of a TIFF that is to be turned by a right
    # angle, and a file that somebody shortens meanwhile would end the process.
    Image.init()
    return Image.open(stream, formats=[name for name in FORMATS if name in Image.OPEN])


def _head(file: Path) -> bytes:
    """How a file begins."""
    with file.open("rb") as stream:
        return stream.read(4096)


def _kind(head: bytes) -> str:
    """What a file is that is no picture of FORMATS, and what helps, as the end of a sentence."""
    text = head.decode("latin-1")
    for pattern, what, fix in OTHERS:
        if re.match(f"(?s){pattern}" if not pattern.startswith("(?") else pattern, text):
            return f": it is {what}; {fix}"
    return f"; {GIVE}"


# What is lost


def _lost(image: Image.Image, name: str, head: bytes) -> list[str]:
    """What is lost of a picture that `upright` makes 8-bit RGB or RGBA of; `head`: how its file begins."""
    notes = []
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":  # a phone's second picture is its own: depth, or brighter light
        what = "pages" if image.format == "TIFF" else "frames"
        notes.append(f"{name} has {frames} {what}; only the first is used.")
    if (bits := _bits(image, head)) > 8:
        notes.append(f"{name} has {bits} bits a channel; the result has 8.")
    grey = image.mode in ("1", "L", "LA", "La") or image.mode.startswith("I")
    grey = grey or _raw(image).startswith("LA")  # which Pillow opens as RGBA
    if grey:
        notes.append(f"{name} is grey; what is edited may get colours.")
    if image.mode in ("CMYK", "YCCK", "LAB", "HSV"):
        notes.append(f"{name} is {image.mode}; its colours as RGB may look different.")
    elif grey and image.info.get("icc_profile"):
        notes.append(f"{name} has a colour profile for grey, which the result in RGB has not; it may look different.")
    else:
        notes += _other_colours(image, name, head)
    return notes


def _other_colours(image: Image.Image, name: str, head: bytes) -> list[str]:
    """The note of an RGB picture whose numbers mean other colours than sRGB's."""
    if profile := image.info.get("icc_profile"):
        try:
            said = ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(BytesIO(profile))).strip()
        except (ImageCms.PyCMSError, ImportError, OSError, ValueError, TypeError):
            said = "unknown"
        return [] if SRGB.search(said) else [
            f"{name} has the colour space {shown(said)}, which the result keeps; the models take it for sRGB."]
    # Of a PNG that has none at its head, Pillow would load the pixels to look for it, and forget how they are stored.
    has_exif = image.format != "PNG" or "exif" in image.info
    if has_exif and image.getexif().get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.ColorSpace) == UNCALIBRATED:
        return [f"{name} says in its EXIF data that its colours are not sRGB's (Adobe RGB, as a rule), which is not "
                "taken into account; it may look duller."]
    if "srgb" in image.info or image.format != "PNG":
        return []
    if (at := head.find(b"cICP")) > 0 and head[at + 4:at + 6] not in (b"\1\1", b"\1\x0d"):
        return [f"{name} says other colours than sRGB's (cICP), which are not taken into account."]
    gamma = image.info.get("gamma", 1 / 2.2)
    if abs(gamma * 2.2 - 1) > 0.02:
        return [f"{name} says a gamma of {gamma:g}, which is not taken into account; it may look darker or lighter."]
    wanted = (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)
    if np.abs(np.subtract(image.info.get("chromaticity", wanted), wanted)).max() > 0.01:
        return [f"{name} says other colours than sRGB's (cHRM), which are not taken into account."]
    return []


def _bits(image: Image.Image, head: bytes = b"") -> int:
    """Bits a channel."""
    if ";16" in _raw(image):
        return 16
    if image.format == "TIFF" and hasattr(image, "tag_v2"):
        return max(image.tag_v2.get(258, (8,)))
    if image.format == "AVIF" and (at := head.find(b"av1C")) > 0 and len(head) > at + 6:
        flags = head[at + 6]  # high_bitdepth, twelve_bit
        return (12 if flags & 0x20 else 10) if flags & 0x40 else 8
    return 16 if image.mode.startswith("I") else 8


def _raw(image: Image.Image) -> str:
    """How the pixels of a PNG that is not loaded yet are stored, in Pillow's words, e.g. "RGB;16B"."""
    return str(image.tile[0].args) if image.format == "PNG" and getattr(image, "tile", None) else ""


# The pixels


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


UNCALIBRATED = 65535
"""EXIF's ColorSpace of a picture that is not sRGB."""
FEW_GREYS = {"L;2": 85, "L;4": 17}
"""PNGs of 2 and 4 bits grey, as Pillow calls them, and by how much it multiplies their pixels."""


def upright(image: Image.Image) -> Image.Image:
    """Any picture as 8-bit RGB, or RGBA where it has transparency, turned as its EXIF says.

    A colour profile stays with RGB pixels; one of another colour space does not describe the result and is dropped.
    Raises UserError for pixels that are no numbers of 8 or 16 bits: their black and white are not known.
    """
    _require_known_range(image, "The picture")
    bits, tags, raw = _bits(image), getattr(image, "tag_v2", {}), _raw(image)
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        image = _in_eight_bits(image, bits, from_white=tags.get(262) == 0)
    colour = image.info.get("transparency")
    if image.mode == "RGB" and isinstance(colour, tuple) and bits > 8:  # the pixels have eight by now
        image.info["transparency"] = tuple(value >> bits - 8 for value in colour)
    if raw in FEW_GREYS and isinstance(colour, int):  # so have these, and the colour still counts in fewer
        image.info["transparency"] = colour * FEW_GREYS[raw]
    transparent = image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info
    result = image.convert("RGBA" if transparent else "RGB")
    kept = ("icc_profile",) if image.mode in ("RGB", "RGBA", "RGBX", "RGBa", "P", "PA") else ()
    result.info = {name: image.info[name] for name in kept if name in image.info}
    return result


def _require_known_range(image: Image.Image, name: str) -> None:
    tags, fix = getattr(image, "tag_v2", {}), "save it with 8 or 16 bits a channel"
    if image.mode == "F":
        raise UserError(f"{name} has decimal numbers for pixels, of which nothing says what is black and white; {fix}.")
    if image.mode == "I":
        low, high = image.getextrema()
        if low < 0 or high > 65535 or _bits(image) > 16:
            raise UserError(f"{name} has pixels from {low} to {high}, of which nothing says what is black and white; "
                            f"{fix}.")
    if 50706 in tags or tags.get(254, 0) & 1:  # DNG, and others whose first picture is reduced
        raise UserError(f"{name} is a camera's raw file, of which only a preview could be read; develop it, and save "
                        "it as PNG or JPEG.")


def _in_eight_bits(image: Image.Image, bits: int, from_white: bool) -> Image.Image:
    """A grey picture of 12 or 16 bits as "L", or "LA" where one of its values is transparent. `from_white`: it counts
    from white to black, as TIFFs may.
    """
    values = np.asarray(image, np.float64) * (255 / (2**bits - 1))
    grey = Image.fromarray(np.clip(255 - values if from_white else values, 0, 255).astype(np.uint8))
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        alpha = np.where(np.asarray(image) == transparent, 0, 255).astype(np.uint8)
        grey.putalpha(Image.fromarray(alpha))
    return grey


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


BAND = 128
"""Rows that are blended at once."""


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
    rows, columns = _ramps(x0, x1, y0, y1, w, h, feather)
    result = original.copy()
    # A band at a time: of a large region, numbers for all pixels at once would take many times what the picture takes.
    for y in range(y0, y1, BAND):
        below, above = (x0, y, x1, min(y + BAND, y1)), (0, y - y0, x1 - x0, min(y + BAND, y1) - y0)
        weight = np.minimum.outer(rows[above[1]:above[3]], columns)
        result.paste(_blended(original.crop(below), patch.crop(above), weight), (x0, y))
    return result


def _ramps(x0: int, x1: int, y0: int, y1: int, width: int, height: int, feather: float) -> list[np.ndarray]:
    """Weights of a patch's rows (y1 − y0,) and columns (x1 − x0,): 1 inside, falling towards each edge that is not the
    picture's own. A pixel has the smaller of its two.
    """
    edge = max(1, round(feather * min(x1 - x0, y1 - y0))) if feather else 0
    sides = []
    for low, high, end in ((y0, y1, height), (x0, x1, width)):
        at, ramp = np.arange(high - low), np.ones(high - low)
        if edge and low > 0:
            ramp = np.minimum(ramp, (at + 1) / (edge + 1))
        if edge and high < end:
            ramp = np.minimum(ramp, (at[::-1] + 1) / (edge + 1))
        sides.append(ramp)
    return sides


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
