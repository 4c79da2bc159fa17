"""All that can be wrong with what we are given, and what is answered; `python tests/bad_input.py` prints the table.

CASES are entries of one batch, WHOLE are batch files, COMMANDS are command lines, some of them in a process of their
own, with the environment and the streams that the case is about. None may end in a traceback, a hang or a wrong picture.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import re
import shlex
import signal
import struct
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin

from lr_helpers.cli import main
from lr_helpers.files import pictures
from lr_helpers.files.outputs import LEDGER

ROOT = Path(__file__).resolve().parent.parent

GOOD = {"source": "wolf", "prompt": "a mushroom"}
FAST = ["--steps", "1", "--anchors", "2", "--sizes", "0.4", "--shortlist", "1", "--iterations", "1", "--device", "cpu",
        "--profile", "tiny"]


def colours(width: int = 48, height: int = 36) -> Image.Image:
    """Random pixels."""
    return Image.fromarray(np.random.default_rng(3).integers(0, 256, (height, width, 3), dtype=np.uint8))


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def data(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def file(called: str, content: bytes | Callable[[], bytes], **more) -> Callable[[Path], dict]:
    """An entry whose picture has this name and content."""
    def make(folder: Path) -> dict:
        (folder / called).write_bytes(content() if callable(content) else content)
        return {"image": called, **GOOD, **more}
    return make


def entry(**fields) -> Callable[[Path], object]:
    """An entry on a picture that is good; None leaves a key out."""
    return lambda _: {k: v for k, v in {"image": "good.png", **GOOD, **fields}.items() if v is not None}


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return data(colours(60, 20), "JPEG", exif=exif)


def text_bomb() -> bytes:
    whole, bomb = data(colours()), b"Comment\0\0" + zlib.compress(bytes(80_000_000))
    return whole[:33] + chunk(b"zTXt", bomb) + whole[33:]


def much_text() -> bytes:
    info = PngImagePlugin.PngInfo()
    for i in range(30):
        info.add_text(f"Key{i}", "metadata " * 20_000)
    return data(colours(), pnginfo=info)


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n"


def iptc(inner: bytes) -> bytes:
    """A picture in an IPTC container, as Pillow knew them: what it holds is read by its content."""
    def field(record: int, number: int, content: bytes) -> bytes:
        return bytes([28, record, number]) + len(content).to_bytes(2, "big") + content

    return (field(3, 20, b"\0\x08") + field(3, 30, b"\0\x08") + field(3, 60, b"\1\0") + field(3, 120, b"\5")
            + field(8, 10, inner))


def png_header(width: int, height: int, colour: int = 2) -> bytes:
    """A PNG of this size and kind of colour whose pixels are all 0."""
    pixels = zlib.compress((b"\0" + bytes(width * (3 if colour == 2 else 1))) * height)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0))
            + chunk(b"IDAT", pixels) + chunk(b"IEND", b""))


def png48() -> bytes:
    """16 bits for each of three colours."""
    pixels = np.random.default_rng(3).integers(0, 65536, (30, 40, 3), dtype=np.uint16).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 40, 30, 16, 2, 0, 0, 0))
            + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def link_out(folder: Path) -> dict:
    outside = folder.parent / "outside.png"
    colours().save(outside)
    os.symlink(outside, folder / "link.png")
    return {"image": "link.png", **GOOD}


def link_in_a_circle(folder: Path) -> dict:
    os.symlink(folder / "circle.png", folder / "circle.png")
    return {"image": "circle.png", **GOOD}


@dataclass(frozen=True)
class Case:
    """One entry of the batch file."""

    title: str
    make: Callable[[Path], object]
    """Writes its picture into the folder, and gives the entry."""
    status: str
    """"done" or "refused"; "either" where the picture is fine for one reader and not for another, but never "failed"."""
    words: str
    """Of the message, which has to hold them."""
    reader: bool = False
    """Is it the answer of the reader with a short list of formats, `pictures.read_noted`? Without it, any will do."""

    def is_right(self, status: str, message: str) -> bool:
        """Is this the answer it should be?"""
        if self.status == "either" or (self.reader and not hasattr(pictures, "read_noted")):
            return status in ("done", "refused")
        return status == self.status and self.words in message and "Ghostscript" not in message


ORANGE = Image.new("RGB", (40, 40), "orange")
CASES = [
    Case("good", entry(), "done", ""),
    Case("missing file", entry(image="nowhere.png"), "refused", "There is no file 'nowhere.png'"),
    Case("empty file", file("empty.png", b""), "refused", "empty.png is not a picture"),
    Case("truncated PNG", file("half.png", lambda: data(colours())[:1500]), "refused", "half.png is damaged"),
    Case("truncated JPEG", file("half.jpg", lambda: data(colours(), "JPEG")[:900]), "refused", "half.jpg is damaged"),
    Case("no picture", file("page.jpg", b"<html>404</html>"), "refused", "page.jpg is not a picture"),
    Case("animated GIF", file("film.gif", lambda: data(colours(), "GIF", save_all=True, append_images=[ORANGE])),
         "done", "film.gif has 2 frames; only the first is used"),
    Case("CMYK", file("print.jpg", lambda: data(colours().convert("CMYK"), "JPEG")), "done", "print.jpg is CMYK"),
    Case("16-bit grey", file("deep.png", lambda: data(Image.fromarray(np.full((30, 40), 40_000, np.uint16)))),
         "done", "deep.png has 16 bits"),
    Case("palette with transparency", file("palette.png", lambda: data(colours().quantize(16), transparency=3)),
         "done", ""),
    Case("RGBA", file("glass.png", lambda: data(colours().convert("RGBA"))), "done", ""),
    Case("grey", file("grey.png", lambda: data(colours().convert("L"))), "done", ""),
    Case("one bit a pixel", file("ink.png", lambda: data(colours().convert("1"))), "done", ""),
    Case("turned by EXIF", file("turned.jpg", turned), "done", ""),
    Case("1×1", file("dot.png", lambda: data(colours(1, 1))), "done", ""),
    Case("20,000×20,000", file("bomb.png", lambda: data(Image.new("1", (20_000, 20_000)))), "refused",
         "bomb.png has too many pixels"),
    Case("claims 60,000×60,000", file("claim.png", lambda: b"\x89PNG\r\n\x1a\n" + chunk(
        b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)) + chunk(b"IDAT", b"")), "refused",
         "claim.png has too many pixels"),
    Case("10,000×2", file("line.png", lambda: data(colours(10_000, 2))), "done", ""),
    Case("2×10,000", file("pole.png", lambda: data(colours(2, 10_000))), "done", ""),
    Case("5 MB of metadata", file("talk.png", much_text), "done", ""),
    Case("metadata that unpack to 80 MB", file("boom.png", text_bomb), "refused", "boom.png is damaged"),
    Case("wrong extension", file("really_png.jpg", lambda: data(colours())), "done", ""),
    Case("no extension", file("picture", lambda: data(colours())), "done", ""),
    Case("Unicode and spaces in the name", file("ein Häuschen 猫 #1.png", lambda: data(colours())), "done", ""),
    Case("the same picture again", entry(image="grey.png"), "refused", "different names"),
    Case("the same stem, another ending", file("grey.jpg", lambda: data(colours(), "JPEG")), "done", ""),
    Case("a folder's name that differs in case alone", entry(name="Picture"), "refused", "as that of line"),
    Case("name climbs out", entry(image="../outside.png"), "refused", "leads out of the image folder"),
    Case("absolute name", entry(image="/etc/passwd"), "refused", "leads out of the image folder"),
    Case("Windows name", entry(image="C:\\x.png"), "refused", "leads out of the image folder"),
    Case("link that leads out", link_out, "refused", "is a link that leads out"),
    Case("link in a circle", link_in_a_circle, "refused", "'circle.png'"),
    Case("output name climbs out", entry(name="../x"), "refused", "can't be that of a folder"),
    Case("output name of the table", entry(name="summary.csv"), "refused", "can't be called"),
    Case("a folder as picture", entry(image="."), "refused", "There is no file '.'"),
    Case("NUL in the name", entry(image="a\0.png"), "refused", "control character"),
    Case("control character in the prompt", entry(prompt="a\x1b[2J fox"), "refused", "control character '\\x1b'"),
    Case("half a surrogate pair", entry(prompt="a \ud83e fox"), "refused", "control character '\\ud83e'"),
    Case("line breaks in the prompt", entry(prompt="a\nfox", name="breaks"), "done", ""),
    Case("empty prompt", entry(prompt=" "), "refused", "The prompt is empty"),
    Case("empty caption", entry(source=""), "refused", "The source is empty"),
    Case("invisible prompt", entry(prompt="\u200b"), "refused", "The prompt is empty"),
    Case("no prompt", entry(prompt=None), "refused", "prompt is missing"),
    Case("no prompt in the list", entry(prompt=[]), "refused", "The list of prompts is empty"),
    Case("a number as prompt", entry(prompt=7), "refused", "The prompt is 7"),
    Case("5,000 words", entry(prompt=" ".join(f"word{i}" for i in range(5000)), name="novel"), "done", "cut off"),
    Case("emoji in the prompt", entry(prompt="a 🦄", name="unicorn"), "done", "do not know the word '🦄'"),
    Case("word that tiny models don't know", entry(prompt="a wolverine", name="wolverine"), "done",
         "the nearest they know: orange, wolf, lion"),
    Case("unknown key", entry(promt="x"), "refused", "The key 'promt' is unknown"),
    Case("seed out of range", entry(seed=-1), "refused", "seed is -1"),
    Case("seed is a text", entry(seed="7"), "refused", "seed is '7'"),
    Case("unknown preset", entry(method="best"), "refused", "The method 'best' is unknown"),
    Case("unknown setting", entry(settings={"stepz": 3}), "refused", "The setting 'stepz' is unknown"),
    Case("NaN setting", entry(settings={"lr": float("nan")}), "refused", "lr is nan"),
    Case("infinite setting", entry(settings={"guidance": float("inf")}), "refused", "guidance is inf"),
    Case("K of 0", entry(settings={"anchors": 0}), "refused", "anchors is 0; give a value from 1 to 256"),
    Case("M of 0", entry(settings={"sizes": []}), "refused", "number of sizes (M) is 0"),
    Case("size beyond the image", entry(settings={"sizes": [1.5]}), "refused", "each of sizes is 1.5; give a value from 0.02 to 1.0"),
    Case("a text as number of steps", entry(settings={"steps": "many"}), "refused", "steps is 'many'"),
    Case("half a step", entry(settings={"steps": 2.5}), "refused", "steps is 2.5"),
    Case("not an object", lambda _: ["good.png", "wolf", "fox"], "refused", "The entry is not an object"),
    # Names
    Case("a name of 300 letters", entry(image="a" * 300 + ".png"), "refused", "can't be looked up"),
    Case("a name like a temporary file's", file(".x.tmp.png", lambda: data(colours())), "done", ""),
    Case("a hidden picture", file(".hidden.png", lambda: data(colours())), "done", ""),
    Case("a picture called like our list", file(".written_by_learnable_regions.png", lambda: data(colours())), "refused",
         "can't be called"),
    Case("a picture called contact_sheet", file("contact_sheet_x.png", lambda: data(colours())), "refused",
         "can't be called"),
    Case("a pipe as picture", lambda f: (os.mkfifo(f / "pipe.png"), {"image": "pipe.png", **GOOD})[1], "refused", "is no plain file but a pipe", reader=True),
    Case("a link to a device", lambda f: (os.symlink("/dev/zero", f / "zero.png"), {"image": "zero.png", **GOOD})[1],
         "refused", "'zero.png'"),
    Case("an address as picture", entry(image="https://example.org/a.png"), "refused", "is an address; download it", reader=True),
    Case("a number as picture", entry(image=7), "refused", "The image is 7"),
    Case("no name of a picture", entry(image=None), "refused", "image is missing"),
    Case("a list as picture", entry(image=["good.png"]), "refused", "The image is ['good.png']"),
    Case("only spaces as picture", entry(image="  "), "refused", "The image is '  '"),
    Case("a backslash out of the folder", entry(image="..\\x.png"), "refused", "leads out of the image folder"),
    Case("a name with half a surrogate pair", entry(image="a\udce9.png"), "refused", "control character"),
    Case("an output name of 300 letters", entry(name="n" * 300), "refused", "can't be called"),
    Case("an output name that is a number", entry(name=7), "refused", "The name is 7"),
    Case("an output name with a colon", entry(name="a:b"), "refused", "can't be that of a folder"),
    Case("an output name that begins with a dot", entry(name=".git"), "refused", "can't be that of a folder"),
    Case("an output name with a line break", entry(name="a\nb"), "refused", "can't be that of a folder"),
    # Texts
    Case("a formula in the prompt", entry(prompt="=HYPERLINK(1)", name="formula"), "done", ""),
    Case("HTML in the prompt", entry(prompt="<script>alert(1)</script> fox", name="html"), "done", ""),
    Case("text that runs from right to left", entry(prompt="\u202ea fox", name="bidi"), "either", ""),
    Case("a list as source", entry(source=["wolf"]), "refused", "The source is ['wolf']"),
    Case("an object as prompt", entry(prompt={"a": 1}), "refused", "The prompt is {'a': 1}"),
    Case("a list of prompts with a number", entry(prompt=["a fox", 7]), "refused", "The prompt is 7"),
    # Settings
    Case("seed of half a number", entry(seed=1.5), "refused", "seed is 1.5"),
    Case("seed true", entry(seed=True), "refused", "seed is True"),
    Case("seed of 30 digits", entry(seed=10**29), "refused", "seed is"),
    Case("full_frame is a text", entry(full_frame="yes"), "refused", "full_frame is 'yes'"),
    Case("settings are a list", entry(settings=[1]), "refused", "settings is [1]"),
    Case("method is a list", entry(method=["learned"]), "refused", "method is ['learned']"),
    Case("an area weight of 1e300", entry(settings={"area_weight": 1e300}), "refused", "area_weight is"),
    Case("a guidance of 1e30", entry(settings={"guidance": 1e30}), "refused", "guidance is"),
    Case("a learning rate of 1e30", entry(settings={"lr": 1e30}), "refused", "lr is"),
    Case("a temperature of 0", entry(settings={"temperature": 0}), "refused", "temperature is"),
    Case("a number of 400 digits", entry(settings={"lr": int("9" * 400)}), "refused", "lr is"),
    Case("all of the paper's weights 0", entry(method="paper", settings={
        "clip_weight": 0, "structure_weight": 0, "direction_weight": 0}, name="weightless"), "either", ""),
    Case("1000 steps", entry(settings={"steps": 100_000}), "refused", "steps is 100000"),
    # Pictures that one reader takes for another reason than another
    Case("EPS", file("page.eps", EPS), "refused", "an EPS drawing, which is a program", reader=True),
    Case("EPS in an IPTC container", file("w.png", lambda: iptc(EPS)), "refused", "w.png is not a picture that can be read", reader=True),
    Case("PDF", file("page.pdf.png", b"%PDF-1.4\n1 0 obj\n"), "refused", "a PDF document", reader=True),
    Case("SVG", file("drawing.svg", b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>'), "refused", "an SVG drawing", reader=True),
    Case("HEIC", file("phone.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64)), "refused", "a HEIC photograph", reader=True),
    Case("a text that begins like a PNG", file("fake.png", b"\x89PNG\r\n\x1a\n" + b"x" * 200), "refused", ""),
    Case("PNG without its data", file("empty_data.png", lambda: data(colours())[:33] + chunk(b"IEND", b"")), "refused", ""),
    Case("PNG with a wrong checksum", file("checksum.png", lambda: data(colours())[:60] + b"????" + data(colours())[64:]),
         "refused", ""),
    Case("PNG of 0×0", file("zero_size.png", lambda: png_header(0, 0)), "refused", ""),
    Case("PNG of a palette that is missing", file("no_palette.png", lambda: png_header(4, 4, 3)), "either", ""),
    Case("PNG with a gamma", file("gamma.png", lambda: data(colours())[:33] + chunk(b"gAMA", struct.pack(">I", 100_000))
                                   + data(colours())[33:]), "done", "says a gamma of 1", reader=True),
    Case("48-bit PNG", file("bits48.png", png48), "done", "has 16 bits a channel", reader=True),
    Case("16-bit grey with transparency", file("la.png", lambda: data(colours().convert("LA"))), "done", ""),
    Case("float TIFF of 0..1", file("float.tif", lambda: data(Image.fromarray(
        np.random.default_rng(1).random((30, 40), dtype=np.float32)), "TIFF")), "refused", "decimal numbers for pixels", reader=True),
    Case("float TIFF with NaN", file("nan.tif", lambda: data(Image.fromarray(
        np.full((30, 40), np.nan, np.float32)), "TIFF")), "refused", "decimal numbers for pixels", reader=True),
    Case("32-bit grey TIFF", file("deep.tif", lambda: data(Image.fromarray(np.full((30, 40), 2**30, np.int32)), "TIFF")),
         "refused", "nothing says what is black and white", reader=True),
    Case("TIFF of two pages", file("pages.tif", lambda: data(colours(), "TIFF", save_all=True, append_images=[ORANGE])),
         "done", "pages.tif has 2 pages", reader=True),
    Case("LAB TIFF", file("lab.tif", lambda: data(Image.new("LAB", (40, 30), (128, 128, 128)), "TIFF")), "either", ""),
    Case("animated WebP", file("film.webp", lambda: data(colours(), "WEBP", save_all=True, append_images=[
        ORANGE.resize((48, 36))])), "done", ""),
    Case("animated PNG", file("film.png", lambda: data(colours(), "PNG", save_all=True, append_images=[
        ORANGE.resize((48, 36))])), "done", ""),
    Case("MPO of a phone", file("phone.jpg", lambda: data(colours(), "MPO", save_all=True, append_images=[ORANGE])),
         "done", ""),
    Case("BMP", file("paint.bmp", lambda: data(colours(), "BMP")), "done", ""),
    Case("BMP that is cut off", file("half.bmp", lambda: data(colours(), "BMP")[:900]), "refused", ""),
    Case("GIF that is cut off", file("half.gif", lambda: data(colours(), "GIF")[:200]), "refused", ""),
    Case("WebP that is cut off", file("half.webp", lambda: data(colours(), "WEBP")[:200]), "refused", ""),
    Case("TIFF that is cut off", file("half.tif", lambda: data(colours(), "TIFF")[:300]), "refused", ""),
    Case("TIFF whose directory points to itself", file("circle.tif", b"II*\0\x08\0\0\0\0\0\x08\0\0\0" + bytes(40)),
         "refused", ""),
    Case("icon", file("app.ico", lambda: data(colours(32, 32), "ICO")), "refused", "a picture of a rare format", reader=True),
    Case("Netpbm", file("scan.ppm", lambda: data(colours(), "PPM")), "refused", "a picture of a rare format", reader=True),
    Case("Photoshop file", file("work.psd", b"8BPS\0\1" + bytes(60)), "refused", "a Photoshop document", reader=True),
    Case("a zip file", file("pictures.png", b"PK\3\4" + bytes(60)), "refused", ""),
    Case("a Git LFS pointer", file("large.png", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"), "refused",
         ""),
]

WHOLE = [
    ("not there", None, "can't be read"),
    ("empty", b"", "line 1, column 1"),
    ("cut off", b'{"1.png": ["a",', "line 1, column 16"),
    ("error in line 3", b'{\n"1.png": ["a", "b"],\n"2.png" ["a", "b"]}', "line 3, column 9"),
    ("no text", b"\xff\xfe\x00\x80", "no UTF-8 text"),
    ("a number", b"7", "neither an object nor a list"),
    ("no entries", b"{}", "names no picture"),
    ("nested 100,000 deep", b"[" * 100_000, "nested too deep"),
    ("a number of 10,000 digits", b"[" + b"9" * 10_000 + b"]", "can't be read as JSON"),
    ("no entry is good", b'{"1.png": ["a", ""], "2.png": 3}', "line 1, 1.png: "),
    ("one entry by itself", b'{"image": "1.png", "source": "wolf", "prompt": "a fox"}', "put it into a list"),
    ("UTF-16", '{"1.png": ["a", "b"]}'.encode("utf-16"), "no UTF-8 text"),
    ("Latin-1", '{"1.png": ["wölf", "b"]}'.encode("latin-1"), "no UTF-8 text"),
    ("JSON lines", b'{"1.png": ["a", "b"]}\n{"2.png": ["a", "b"]}\n', "line 2, column 1"),
    ("a comma too many", b'{"1.png": ["a", "b"],}', "line 1, column"),
    ("single quotes", b"{'1.png': ['a', 'b']}", "line 1, column 2"),
    ("a comment", b'// mine\n{"1.png": ["a", "b"]}', "line 1, column 1"),
    ("a text", b'"1.png"', "neither an object nor a list"),
    ("an empty list", b"[]", "names no picture"),
    ("zeros", bytes(1000), "line 1, column 1"),
    ("a picture", b"\x89PNG\r\n\x1a\n", "no UTF-8 text"),
    ("a list of lists", b'[["1.png", "a", "b"]]', "The entry is not an object"),
    ("a list of nothing", b"[null, null]", "The entry is not an object"),
    ("null", b"null", "neither an object nor a list"),
]
"""Batch files of which nothing can be used, and words of the sentence."""


def run_cases(folder: Path) -> dict[str, tuple[str, str]]:
    """All of CASES as one batch, by the command: title → status and message. The exit code has to be 1."""
    images = folder / "images"
    images.mkdir(parents=True)
    colours().save(images / "good.png")
    batch = folder / "batch.json"
    batch.write_text("[\n" + ",\n".join(json.dumps(case.make(images)) for case in CASES) + "\n]\n")
    with contextlib.redirect_stderr(io.StringIO()):
        code = main(["batch", str(batch), "--images", str(images), "--output", str(folder / "out"), "--quiet", *FAST])
    assert code == 1, f"the exit code is {code}"
    with (folder / "out" / "summary.csv").open(encoding="utf-8", newline="") as table:
        rows = {int(row["line"]): row for row in csv.DictReader(table)}
    assert len(rows) == len(CASES)
    for row in rows.values():
        if row["status"] == "done":
            outside_is_the_inputs(folder / "out" / row["name"], tuple(int(row[side]) for side in ("x0", "y0", "x1", "y1")))
    return {case.title: (rows[i]["status"], rows[i]["message"]) for i, case in enumerate(CASES, 2)}


def outside_is_the_inputs(item: Path, box: tuple[int, int, int, int]) -> None:
    """Asserts that an edit is no wrong picture: as large as its input, and the same outside the box."""
    before, after = (np.asarray(Image.open(item / name)).copy() for name in ("input.png", "final_output.png"))
    assert before.shape == after.shape, item
    for picture in (before, after):
        picture[box[1]:box[3], box[0]:box[2]] = 0
    assert np.array_equal(before, after), item


def run_whole(folder: Path, content: bytes | None) -> tuple[int, str]:
    """A batch file with this content (None: no file) by the command: exit code and what it says."""
    folder.mkdir(parents=True, exist_ok=True)
    if content is not None:
        (folder / "batch.json").write_bytes(content)
        colours().save(folder / "1.png")
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        code = main(["batch", str(folder / "batch.json"), "--images", str(folder), "--output", str(folder / "out"),
                     "--quiet"])
    return code, said.getvalue().strip()


@dataclass(frozen=True)
class Command:
    """A command line. `{}` in its words stands for a folder with scene.png, and batch.json that names it."""

    title: str
    words: str
    code: int
    said: str
    """A pattern of what it says on the standard error."""
    make: Callable[[Path], object] | None = None
    """What lies in the folder besides."""
    environment: dict[str, str] | None = None
    """Of a process of its own; None: the command runs in this one."""
    shell: str = "{python} -m lr_helpers {words}"
    """How the shell starts the process."""

    def run(self, folder: Path) -> tuple[int, str]:
        """The exit code, and what is said; TimeoutError for a hang."""
        folder.mkdir(parents=True)
        colours().save(folder / "scene.png")
        (folder / "batch.json").write_text(json.dumps({"scene.png": ["wolf", "a fox"]}))
        if self.make:
            self.make(folder)
        words = [word.replace("{}", str(folder)) for word in shlex.split(self.words)]
        if self.environment is not None:
            line = self.shell.format(python=shlex.quote(sys.executable), words=shlex.join(words))
            known = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
            given = {name: value.replace("{}", str(folder)) for name, value in self.environment.items()}
            done = subprocess.run(["bash", "-o", "pipefail", "-c", line], cwd=folder, timeout=300, capture_output=True,
                                  env={**known, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "0", **given})
            return done.returncode, (done.stderr.decode(errors="replace").strip() or done.stdout.decode(errors="replace").strip())
        said = io.StringIO()
        before, old = Path.cwd(), signal.signal(signal.SIGALRM, _hang)
        signal.alarm(120)
        try:
            os.chdir(folder)
            with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
                code = main(words)
        except SystemExit as stop:  # argparse
            code = stop.code
        finally:
            signal.alarm(0)
            signal.signal(signal.SIGALRM, old)
            os.chdir(before)
        return code, said.getvalue().strip()


def _hang(*_) -> None:
    raise TimeoutError("two minutes without an answer")


def mine(*names: str) -> Callable[[Path], None]:
    """Files of somebody else."""
    def make(folder: Path) -> None:
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(b"mine")
    return make


EDIT = "edit --source wolf --prompt mushroom --profile tiny --device cpu --steps 1 --anchors 2 --shortlist 1 --iterations 1 "
ONCE = EDIT + "--image {}/scene.png --output {}/out "
BATCH = "batch {}/batch.json --images {} --output {}/out --profile tiny --device cpu "
LINE = r"error: [^\n]+[.\])]"
COMMANDS = [
    # edit
    Command("edit: no picture", EDIT + "--image {}/nowhere.png --output {}/out", 2, "nowhere.png"),
    Command("edit: a folder as picture", EDIT + "--image {} --output {}/out", 2, "error: "),
    Command("edit: an address as picture", EDIT + "--image https://example.org/a.png --output {}/out", 2, "example.org"),
    Command("edit: a name of 300 letters", EDIT + f"--image {'a' * 300}.png --output {{}}/out", 2, "too long"),
    Command("edit: a pipe as picture", EDIT + "--image {}/pipe --output {}/out", 2, "pipe", lambda f: os.mkfifo(f / "pipe")),
    Command("edit: a link in a circle", EDIT + "--image {}/circle --output {}/out", 2, "circle",
            lambda f: os.symlink(f / "circle", f / "circle")),
    Command("edit: an empty picture", EDIT + "--image {}/empty.png --output {}/out", 2, "empty.png is",
            lambda f: (f / "empty.png").touch()),
    Command("edit: EPS in a container", EDIT + "--image {}/w.png --output {}/out", 2, "w.png",
            lambda f: (f / "w.png").write_bytes(iptc(EPS))),
    Command("edit: output over the picture", EDIT + "--image {}/scene.png --output {}", 2, "holds the input"),
    Command("edit: output is the picture", EDIT + "--image {}/scene.png --output {}/scene.png", 2, "scene.png"),
    Command("edit: output below a file", EDIT + "--image {}/scene.png --output {}/scene.png/out", 2, "scene.png"),
    Command("edit: output of 300 letters", EDIT + f"--image {{}}/scene.png --output {'o' * 300}", 2, "name too long"),
    Command("edit: output is a link in a circle", EDIT + "--image {}/scene.png --output {}/circle", 2, "circle",
            lambda f: os.symlink(f / "circle", f / "circle")),
    Command("edit: the user's input.png", ONCE, 2, "input.png' is there already", mine("out/input.png")),
    Command("edit: the user's results", ONCE, 2, "results/00.png' is there already", mine("out/results/00.png")),
    Command("edit: a file called results", ONCE, 2, "results' is there already", mine("out/results")),
    Command("edit: results is a link", ONCE, 2, "results' is there already",
            lambda f: ((f / "out").mkdir(), (f / "my").mkdir(), os.symlink(f / "my", f / "out" / "results"))),
    Command("edit: the user's turns.json", ONCE + "--then fox 'a cat'", 2, "turns.json' is there", mine("out/turns.json")),
    Command("edit: somebody's list of files", ONCE, 2, "not the list", mine(f"out/{LEDGER}")),
    Command("edit: --then and --full-frame", ONCE + "--then fox 'a cat' --full-frame", 2, "exclude each other"),
    Command("edit: an empty prompt", ONCE + "--prompt ''", 2, "prompt is empty"),
    Command("edit: an invisible source", ONCE + "--source '\u200b'", 2, "source is empty"),
    Command("edit: NaN as guidance", ONCE + "--guidance nan", 2, "guidance"),
    Command("edit: infinite sizes", ONCE + "--sizes inf", 2, "sizes"),
    Command("edit: an area weight of 1e300", ONCE + "--area-weight 1e300", 2, "area"),
    Command("edit: weights of 0", ONCE + "--method paper --clip-weight 0 --structure-weight 0 --direction-weight 0", 2, "weight"),
    Command("edit: a temperature of 1e-300", ONCE + "--temperature 1e-300", 2, "temperature"),
    Command("edit: a seed below 0", ONCE + "--seed -1", 2, "seed"),
    Command("edit: a seed of 25 digits", ONCE + f"--seed {10**24}", 2, "seed"),
    Command("edit: words for numbers", ONCE + "--anchors many", 2, "invalid int value"),
    Command("edit: two dashes for a number", ONCE + "--anchors=--", 2, "'--' is no value"),
    Command("edit: an unknown option", ONCE + "--colour red", 2, "unrecognized arguments"),
    Command("edit: an unknown profile", ONCE + "--profile sd9", 2, "'sd9'"),
    Command("edit: an unknown device", ONCE + "--device toaster", 2, "toaster"),
    Command("edit: a folder that holds no editor", ONCE + "--editor {}", 2, "error: "),
    Command("edit: a file as editor", ONCE + "--editor {}/scene.png", 2, "error: "),
    Command("edit: no folder as CLIP", ONCE + "--clip {}/nowhere", 2, "nowhere"),
    # batch
    Command("batch: output over the pictures", "batch {}/batch.json --images {} --output {}", 2, "holds the input"),
    Command("batch: no folder of pictures", "batch {}/batch.json --images {}/nowhere --output {}/out", 2, "nowhere"),
    Command("batch: a file as folder of pictures", "batch {}/batch.json --images {}/scene.png --output {}/out", 2, "scene.png"),
    Command("batch: a pipe as batch file", "batch {}/pipe --images {} --output {}/out", 2, "no plain file but a pipe",
            lambda f: os.mkfifo(f / "pipe")),
    Command("batch: a folder as batch file", "batch {} --images {} --output {}/out", 2, "is a folder; give a JSON file"),
    Command("batch: a device as batch file", "batch /dev/zero --images {} --output {}/out", 2, "no plain file"),
    Command("batch: a batch file of 300 letters", f"batch {'b' * 300} --images {{}} --output {{}}/out", 2, "name too long"),
    Command("batch: the user's summary.csv", BATCH, 2, "summary.csv' is there already", mine("out/summary.csv")),
    Command("batch: the user's batch.lock", BATCH, 2, "batch.lock' is there already", mine("out/batch.lock")),
    Command("batch: the user's item", BATCH, 1, "scene/input.png' is there already", mine("out/scene/input.png")),
    Command("batch: a file where the item's folder would be", BATCH, 1, "is no folder", mine("out/scene")),
    Command("batch: --workers without Ray", BATCH + "--workers 2", 2, "belong to --engine ray"),
    Command("batch: no worker", BATCH + "--engine ray --workers 0", 2, "--workers is 0"),
    Command("batch: an address of another form", BATCH + "--engine ray --address here", 2, "give HOST:PORT"),
    # the others
    Command("scene: a seed below 0", "scene --seed -1 --output {}/out", 2, "--seed is -1"),
    Command("scene: words for a seed", "scene --seed x --output {}/out", 2, "not a whole number"),
    Command("scene: the user's scene.png", "scene --seed 7 --output {}", 2, "scene.png' is there already"),
    Command("report: no notebook", "report --output {}/out {}/nowhere.ipynb", 2, "nowhere.ipynb"),
    Command("report: a notebook that is none", "report --output {}/out {}/a.ipynb", 2, "can't be read",
            lambda f: (f / "a.ipynb").write_text("{")),
    Command("report: output over the notebook", "report --output {} {}/a.ipynb", 2, "holds the input",
            lambda f: (f / "a.ipynb").write_text("{}")),
    Command("report: no time", "report --output {}/out --time-limit 0", 2, "0 minutes"),
    Command("study: no task", "study regions --output {}/out --replace 0 --add 0", 2, "all 0"),
    Command("study: no task of a kind", "study objectives --output {}/out --replace 0 --add 0 --remove 0", 2, "all 0"),
    Command("study: no task, learning", "study learning --output {}/out --replace 0 --add 0", 2, "both 0"),
    Command("study: another style", "study regions --output {}/out --style pencil", 2, "--style is 'pencil'"),
    Command("study: no predictor", "study regions --output {}/out --methods fast --regions {}/none", 2, "There is no region predictor"),
    Command("study: no predictor to trust", "study confidence --output {}/out --regions {}/none", 2,
            "There is no region predictor"),
    Command("study: the user's figure", "study confidence --output {}/out --replace 1 --add 0 --remove 0 --strange 0", 2,
            "thresholds.png' is there already", mine("out/thresholds.png")),
    Command("study: an unknown row", "study regions --output {}/out --methods taste", 2, "'taste' is unknown"),
    Command("study: no training", "study predictors --output {}/out --training {}/none", 2, "holds no edits of emoji scenes"),
    Command("study: a picture to learn from", "study predictors --output {}/out --training {}/none --pictures 1", 2, "--pictures is 1"),
    Command("study: a method that is none", "study compare --output {}/out --methods magic", 2, "magic"),
    Command("study: the user's settings.json", "study regions --output {}/out --replace 1 --add 0", 2,
            "settings.json' is there already", mine("out/settings.json")),
    Command("study: the user's table", "study regions --output {}/out --replace 1 --add 0", 2,
            "tasks.csv' is there already", mine("out/tasks.csv")),
    Command("study: data without a mapping", "study pie --output {}/out --data {} --profile tiny", 2, "error: "),
    Command("study: causes over somebody's file", "study causes --output {}/batch.json", 2, "holds something else"),
    Command("study: a benchmark into a folder with files", "study pie-data --output {}", 2, "is not empty"),
    Command("benchmark: an output without its option", "benchmark --output {}/a.json", 2, "belong to --random-weights"),
    Command("notebooks: no such name", "notebooks --check 99", 2, "No notebook is called '99'"),
    Command("no command", "", 2, "COMMAND"),
    Command("an unknown command", "paint", 2, "invalid choice"),
    # the environment, in a process of its own
    Command("environment: a console of ASCII", ONCE, 0, "Final picture", environment={"PYTHONIOENCODING": "ascii"},
            shell="{python} -m lr_helpers {words} 2>/dev/null"),
    Command("environment: the output's reader is gone", "doctor --profile tiny", 141, "", environment={},
            shell="{python} -m lr_helpers {words} | head -0"),
    Command("environment: the output's disk is full", "notebooks --check 01", 2, "No space left on device", environment={},
            shell="{python} -m lr_helpers {words} >/dev/full"),
    Command("environment: a launcher's variables left over", BATCH, 2, "unset WORLD_SIZE and RANK",
            environment={"WORLD_SIZE": "2", "RANK": "0"}),
    Command("environment: more threads than there are", ONCE, 2, "give a number from 1 to 1024",
            environment={"LR_THREADS": "99999999999999999999"}),
    Command("environment: nonsense of a launcher", BATCH, 2, "unset WORLD_SIZE and RANK",
            environment={"WORLD_SIZE": "two", "RANK": "0"}),
    Command("environment: models.toml is broken", "doctor", 2, r"models.toml can't be read .*line 1.*correct it there",
            lambda f: ((f / "data").mkdir(), (f / "data" / "models.toml").write_text("[profiles\n")),
            environment={"LR_DATA": "{}/data"}),
    Command("environment: models.toml is empty", "doctor", 2, "models.toml can't be read .'profiles' is missing",
            lambda f: ((f / "data").mkdir(), (f / "data" / "models.toml").touch()), environment={"LR_DATA": "{}/data"}),
    Command("environment: models.toml is missing", "doctor", 2, "models.toml is missing", environment={"LR_DATA": "{}/data"}),
    Command("environment: an unknown profile", "doctor", 2, "'sd9'", environment={"LR_PROFILE": "sd9"}),
    Command("environment: a SOCKS proxy without its package", EDIT.replace("tiny", "sd15") +
            "--image {}/scene.png --output {}/out --allow-cpu", 2, "pip install socksio.*, or unset ALL_PROXY",
            environment={"ALL_PROXY": "socks5://127.0.0.1:9"}),
    Command("environment: the hub's address without https", EDIT.replace("tiny", "sd15") +
            "--image {}/scene.png --output {}/out --allow-cpu", 2, "add https:// to it",
            environment={"HF_ENDPOINT": "hf-mirror.com"}),
    Command("environment: no address as proxy", EDIT.replace("tiny", "sd15") +
            "--image {}/scene.png --output {}/out --allow-cpu", 2, "correct HTTPS_PROXY",
            environment={"HTTPS_PROXY": "htp://127.0.0.1:9"}),
]


def table(scratch: Path) -> Iterator[tuple[str, str, str, bool]]:
    """The lines of the table: what is wrong, the answer, the message, and is it as it should be?"""
    answers = run_cases(scratch / "cases")
    for case in CASES:
        status, message = answers[case.title]
        yield case.title, status, message, case.is_right(status, message)
    for number, (title, content, words) in enumerate(WHOLE):
        code, message = run_whole(scratch / f"whole {number}", content)
        yield f"file: {title}", f"exit code {code}", message, code == 2 and words in message
    for number, command in enumerate(COMMANDS):
        try:
            code, message = command.run(scratch / f"command {number}")
        except (TimeoutError, subprocess.TimeoutExpired) as error:
            code, message = "none", f"hangs ({error})"
        right = code == command.code and re.search(command.said, message) is not None and "Traceback" not in message
        yield command.title, f"exit code {code}", message, right


if __name__ == "__main__":
    count, wrong = 0, []
    with tempfile.TemporaryDirectory() as scratch:
        print("| input | answer | message |\n|---|---|---|")
        for title, answer, message, right in table(Path(scratch)):
            count += 1
            last = message.strip().splitlines()[-1] if message.strip() else ""
            print(f"| {title} | {answer} | {last.replace(scratch, '…').replace('|', '¦')[:300]} |", flush=True)
            if not right:
                wrong.append(title)
    print(f"\n{count} cases; answered otherwise than they should be: {', '.join(wrong) or 'none'}")
    sys.exit(bool(wrong))
