"""Give the doors of the package what nobody would think of, for as long as you like.

    python tests/fuzz.py --minutes 10
    python tests/fuzz.py --seed 1234 --targets picture

Hypothesis makes the input: pictures whose bytes were changed in and behind their headers, batch files, lists of what
was written, models.toml, and command lines of options. Whatever it is, the answer is a result or a UserError of one
line, within half a minute, and nothing is written over. Every round has a seed, from which it is made again; seeds
that found something are kept in tests/fuzz_seeds.txt, are tried first, and stay there when the fault is mended. The
exit code is 1 if anything was found.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import signal
import struct
import sys
import tempfile
import time
import traceback
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from unittest import mock

import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from PIL import Image

from lr_helpers.batch.items import plan
from lr_helpers.cli import main
from lr_helpers.cli.options import SETTINGS
from lr_helpers.errors import UserError
from lr_helpers.files import pictures
from lr_helpers.files.outputs import LEDGER, Output
from lr_helpers.files.paths import DATA
from lr_helpers.method import Method
from lr_helpers.models import profiles

SEEDS = Path(__file__).with_name("fuzz_seeds.txt")
SECONDS = 30
"""An answer that takes longer is a hang."""
ROUND = 60
"""Examples of a target in a round."""
answers: Counter[str] = Counter()
"""What was answered, by target: a result, or a sentence."""


# Input


def _pictures() -> dict[str, bytes]:
    """A small whole picture in each format, by the ending of its name."""
    rng, found = np.random.default_rng(0), {}
    colours = Image.fromarray(rng.integers(0, 256, (12, 17, 3), dtype=np.uint8))
    other = Image.fromarray(rng.integers(0, 256, (12, 17, 3), dtype=np.uint8))
    for name, kind, image, options in (
            ("png", "PNG", colours, {}), ("rgba.png", "PNG", colours.convert("RGBA"), {}),
            ("palette.png", "PNG", colours.quantize(8), {"transparency": 2}),
            ("deep.png", "PNG", Image.fromarray(rng.integers(0, 65536, (12, 17), dtype=np.uint16)), {}),
            ("film.png", "PNG", colours, {"save_all": True, "append_images": [other]}),
            ("jpg", "JPEG", colours, {"exif": b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"}),
            ("cmyk.jpg", "JPEG", colours.convert("CMYK"), {}),
            ("phone.jpg", "MPO", colours, {"save_all": True, "append_images": [other]}),
            ("gif", "GIF", colours, {"save_all": True, "append_images": [other]}),
            ("webp", "WEBP", colours, {}), ("film.webp", "WEBP", colours, {"save_all": True, "append_images": [other]}),
            ("bmp", "BMP", colours, {}), ("tif", "TIFF", colours, {}), ("lzw.tif", "TIFF", colours, {"compression": "tiff_lzw"}),
            ("float.tif", "TIFF", Image.fromarray(rng.random((12, 17), dtype=np.float32)), {}),
            ("pages.tif", "TIFF", colours, {"save_all": True, "append_images": [other]}), ("ico", "ICO", colours, {}),
            ("ppm", "PPM", colours, {}), ("tga", "TGA", colours, {}), ("pcx", "PCX", colours, {}),
            ("jp2", "JPEG2000", colours, {}), ("sgi", "SGI", colours, {}), ("dds", "DDS", colours, {})):
        buffer = io.BytesIO()
        with contextlib.suppress(OSError, KeyError, ValueError, TypeError):  # a format that this Pillow can't write
            image.save(buffer, kind, **options)
            found[name] = buffer.getvalue()
    return found


PICTURES = _pictures()
NUMBERS = [0, 1, 2, 255, 256, 32767, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1]


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@st.composite
def changed_bytes(draw, sources: st.SearchStrategy[bytes]) -> bytes:
    """A whole file, of which some bytes were changed, most of them near its beginning."""
    data = bytearray(draw(sources))
    for _ in range(draw(st.integers(0, 5))):
        if not data:
            break
        near = draw(st.booleans())
        at = draw(st.integers(0, min(len(data), 80 if near else 10**9) - 1))
        how = draw(st.sampled_from(["byte", "number", "cut", "repeat", "insert", "remove"]))
        if how == "byte":
            data[at] = draw(st.integers(0, 255))
        elif how == "number":
            form = draw(st.sampled_from([">I", "<I", ">H", "<H"]))
            number = draw(st.sampled_from(NUMBERS)) & (0xFFFF if form[1] == "H" else 0xFFFFFFFF)
            data[at:at + struct.calcsize(form)] = struct.pack(form, number)
        elif how == "cut":
            del data[at:]
        elif how == "repeat":
            data[at:at] = data[at:at + draw(st.integers(1, 40))] * draw(st.integers(1, 20))
        elif how == "insert":
            data[at:at] = draw(st.binary(max_size=20))
        else:
            del data[at:at + draw(st.integers(1, 20))]
    return bytes(data)


@st.composite
def picture_bytes(draw) -> tuple[str, bytes]:
    """A picture's file: its ending, and changed bytes; a PNG's changed header gets its right checksum half of the times."""
    name = draw(st.sampled_from(sorted(PICTURES)))
    data = draw(changed_bytes(st.just(PICTURES[name])))
    if name.endswith("png") and len(data) > 33 and draw(st.booleans()):
        data = data[:8] + _chunk(b"IHDR", data[16:29]) + data[33:]
    if name.endswith("png") and len(data) > 33 and draw(st.booleans()):
        kind = draw(st.sampled_from([b"tRNS", b"gAMA", b"iCCP", b"zTXt", b"iTXt", b"eXIf", b"acTL", b"fcTL", b"PLTE", b"cICP"]))
        data = data[:33] + _chunk(kind, draw(st.binary(max_size=40))) + data[33:]
    return name, data


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
    | st.sampled_from(["1.png", "../1.png", "wolf", ".x.tmp.png", LEDGER, *(f.name for f in fields(Method)), "learned"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
        st.sampled_from(["image", "source", "prompt", "seed", "name", "method", "settings", "full_frame", "steps", "sizes",
                         "defects", "1.png", "lr", ""]) | st.text(max_size=3), inner, max_size=6), max_leaves=20)
BATCHES = [json.dumps({"1.png": ["wolf", "a fox"]}).encode(), json.dumps([{
    "image": "1.png", "source": "wolf", "prompt": ["a fox", "a cat"], "seed": 7, "name": "x", "method": "paper",
    "settings": {"steps": 3, "sizes": [0.4]}, "full_frame": True}], indent=1).encode()]
WORDS = st.sampled_from(["0", "1", "-1", "0.5", "1e300", "1e-300", "nan", "inf", "-inf", "", " ", "x", "1_000", "٣", "0x10",
                         "99999999999999999999", "\u200b", "a\nb", "é", "\udce9", "--", "-", "@file", "%s", "{}"]) | st.text(
                             st.characters(exclude_characters="\0"), max_size=6)
NUMBERS_AS_WORDS = (st.integers(-3, 400) | st.floats() | st.floats(0, 1) | st.sampled_from(NUMBERS)).map(str)
OPTIONS = [*(f"--{name.replace('_', '-')}" for name in SETTINGS), "--seed", "--profile", "--device", "--method", "--editor",
           "--backbone", "--clip", "--prompt", "--source", "--image", "--output", "--then", "--full-frame", "--draw-boxes",
           "--quiet", "--allow-cpu"]
"""The last five take no value, or two."""


# Doors


def picture(folder: Path, given: tuple[str, bytes]) -> object:
    name, data = given
    file = folder / f"a.{name}"
    file.write_bytes(data)
    reader = getattr(pictures, "read_noted", None) or (lambda f: (pictures.read_image(f, keep_alpha=True), pictures.reading_notes(f)))
    image, notes = reader(file)
    assert image.mode in ("RGB", "RGBA") and min(image.size) > 0
    assert all("\n" not in note for note in notes)
    image.load()
    return image


def batch_file(folder: Path, data: bytes) -> object:
    (folder / "1.png").write_bytes(PICTURES["png"])
    (folder / "b.json").write_bytes(data)
    found = plan(folder / "b.json", folder, folder / "out")
    assert len({item.name.casefold() for item in found.items}) == len(found.items)
    assert all(item.folder.parent == folder / "out" for item in found.items)
    assert all("\n" not in str(problem) for problem in found.problems)
    return found


def ledger(folder: Path, data: bytes) -> object:
    """Whatever the list says, only files of the very content that it tells of are ours."""
    (folder / LEDGER).write_bytes(data)
    (folder / "input.png").write_bytes(b"somebody's")
    output = Output(folder, "edit")
    try:
        with output.change() as change:
            change.remove_others()
            change.write("final_output.png", b"new")
        output.require(["input.png"])
    finally:
        assert (folder / "input.png").read_bytes() == b"somebody's"
    return output


def models_toml(folder: Path, data: bytes) -> object:
    (folder / "models.toml").write_bytes(data)
    return profiles._read(folder / "models.toml")


def options(folder: Path, words: list[str]) -> object:
    """The command up to the loading of models, which is left out."""
    (folder / "scene.png").write_bytes(PICTURES["png"])
    said = io.StringIO()
    stop = UserError("The models are not loaded here.")
    given = ["edit", "--image", str(folder / "scene.png"), "--source", "wolf", "--prompt", "a fox", "--output",
             str(folder / "out"), *words]
    with (mock.patch("lr_helpers.models.loading.load_models", side_effect=stop), contextlib.redirect_stderr(said),
          contextlib.redirect_stdout(io.StringIO()), contextlib.chdir(folder)):
        try:
            code = main(given)
        except SystemExit as ended:  # argparse
            assert ended.code in (0, 2), ended.code
            raise UserError("the usage of the command") from ended
    assert code == 2 and "Traceback" not in said.getvalue(), said.getvalue()
    assert said.getvalue().strip().count("\n") == 0, said.getvalue()
    if str(stop) not in said.getvalue():
        raise UserError(said.getvalue().strip())
    return "models"


TOML = (DATA / "models.toml").read_bytes()
LINES = b"".join(json.dumps(["edit", "0" * 64, "0123456789abcdef", name]).encode() + b"\n"
                 for name in ("input.png", "results/00.png", "../x", "/etc/passwd", ""))
TARGETS: dict[str, tuple[Callable[[Path, object], object], st.SearchStrategy]] = {
    "picture": (picture, picture_bytes()),
    "batch file": (batch_file, changed_bytes(st.sampled_from(BATCHES)) | VALUES.map(
        lambda value: json.dumps(value).encode())),
    "ledger": (ledger, changed_bytes(st.just(LINES)) | st.binary(max_size=60)),
    "models.toml": (models_toml, changed_bytes(st.just(TOML))),
    "options": (options, st.lists(st.builds("{}={}".format, st.sampled_from(OPTIONS[:-5]), NUMBERS_AS_WORDS | WORDS)
                                  | st.sampled_from(OPTIONS), max_size=4)),
}


# Rounds


def _hang(*_) -> None:
    raise TimeoutError(f"no answer in {SECONDS} seconds")


def _try(name: str, given_: object) -> None:
    """One example: raises what is neither a result nor a UserError of one line."""
    door, _ = TARGETS[name]
    with tempfile.TemporaryDirectory() as folder:
        signal.signal(signal.SIGALRM, _hang)
        signal.alarm(SECONDS)
        try:
            door(Path(folder), given_)
            answers[f"{name}: a result"] += 1
        except UserError as error:
            assert "\n" not in str(error), error
            answers[f"{name}: a sentence"] += 1
        finally:
            signal.alarm(0)


def fuzz(name: str, number: int, examples: int = ROUND) -> str | None:
    """A round of one target; what it found, with the smallest example, or None."""
    _, strategy = TARGETS[name]

    @seed(number)
    @settings(max_examples=examples, deadline=None, database=None, report_multiple_bugs=False,
              suppress_health_check=list(HealthCheck), phases=(Phase.generate, Phase.shrink))
    @given(strategy)
    def round_(given_):
        _try(name, given_)

    try:
        with contextlib.redirect_stdout(io.StringIO()):
            round_()
    except Exception as error:
        notes = " ".join(getattr(error, "__notes__", ()))
        where = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__}: {str(error)[:300]} at {where.filename}:{where.lineno}\n  {notes[:600]}"
    return None


def kept() -> list[tuple[str, int]]:
    """The seeds that once found something."""
    lines = SEEDS.read_text(encoding="utf-8").splitlines() if SEEDS.exists() else []
    return [(name.strip(), int(number)) for name, number in (line.rsplit(" ", 1) for line in lines if line and line[0] != "#")]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, help="of the first round; the default is drawn")
    parser.add_argument("--targets", nargs="+", choices=TARGETS, default=list(TARGETS))
    given_options = parser.parse_args()
    first = given_options.seed if given_options.seed is not None else int.from_bytes(os.urandom(4), "big")
    end, number, found = time.monotonic() + 60 * given_options.minutes, first, []
    print(f"the first seed is {first}", flush=True)
    rounds = [(name, known) for name, known in kept() if name in given_options.targets]
    while rounds or time.monotonic() < end:
        if not rounds:
            rounds, number = [(name, number) for name in given_options.targets], number + 1
        name, of = rounds.pop(0)
        said = fuzz(name, of)
        if said:
            found.append((name, of))
            print(f"found: {name}, seed {of}: {said}", flush=True)
            if (name, of) not in kept():
                with SEEDS.open("a", encoding="utf-8") as file:
                    file.write(f"{name} {of}\n")
    for what, count in sorted(answers.items()):
        print(f"{what:28} {count:>8,}")
    print(f"{sum(answers.values()):,} examples, seeds {first} to {number - 1}; found: {len(found)}")
    sys.exit(bool(found))
