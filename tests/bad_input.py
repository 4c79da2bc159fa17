"""Everything that can be wrong with a batch, and what it answers; `python tests/bad_input.py` prints the table."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import struct
import sys
import tempfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin

from lr_helpers.cli import main

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
    words: str
    """Of the message, which has to hold them."""


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
    return {case.title: (rows[i]["status"], rows[i]["message"]) for i, case in enumerate(CASES, 2)}


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


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        print("| input | answer | message |\n|---|---|---|")
        for title, (status, message) in run_cases(Path(scratch) / "cases").items():
            print(f"| {title} | {status} | {message[:300]} |")
        for title, content, _ in WHOLE:
            code, message = run_whole(Path(scratch) / title.replace(" ", "_"), content)
            print(f"| file: {title} | exit code {code} | {message.replace(scratch, '…')[:300]} |")
    sys.exit(0)
