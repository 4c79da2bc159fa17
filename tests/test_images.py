"""Reading, converting and writing pictures: the right pixels, or one sentence that names the file."""

import ast
import errno
import io
import json
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageCms, ImageFile, TiffImagePlugin, features

from lr_helpers.errors import UserError
from lr_helpers.files.pictures import (
    draw_box,
    open_noted,
    open_picture,
    paste_back,
    read_image,
    read_noted,
    to_image,
    to_tensor,
)
from lr_helpers.files.writing import prepare_folder, write_bytes, write_image, write_json


def colours(width: int, height: int, seed: int = 0) -> Image.Image:
    """Random pixels."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int) -> bytes:
    """A PNG that claims this size and holds next to nothing."""

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 10))
            + chunk(b"IEND", b""))


def sentence(error: pytest.ExceptionInfo) -> str:
    """The message; fails unless it is one sentence on one line."""
    text = str(error.value)
    assert "\n" not in text
    assert text.endswith(".")
    return text


# What can't be read


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    for path in (tmp_path / "nowhere.png", tmp_path, tmp_path / "nowhere" / "x.png"):
        for given_path in (path, str(path)):
            with pytest.raises(UserError) as error:
                read_image(given_path)
            assert path.name in sentence(error)


def encoded(kind: str, tmp_path, size=(40, 30)) -> bytes:
    file = tmp_path / f"whole.{kind}"
    colours(*size).save(file)
    return file.read_bytes()


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("empty.png", lambda _: b""),
        ("text.png", lambda _: b"I am a text, not a picture.\n"),
        ("page.jpg", lambda _: b"<!DOCTYPE html><html><body>404</body></html>"),
        ("zeros.webp", lambda _: bytes(3000)),
        ("no_width.png", lambda _: png(0, 5)),
        ("no_height.png", lambda _: png(5, 0)),
        ("no_pixels.png", lambda _: png(50, 50)),
        ("half.png", lambda t: encoded("png", t)[:1500]),
        ("half.jpg", lambda t: encoded("jpg", t)[:900]),
        ("half.webp", lambda t: encoded("webp", t)[:500]),
        ("half.gif", lambda t: encoded("gif", t)[:900]),
        ("head.png", lambda t: encoded("png", t)[:20]),
        ("broken.png", lambda t: encoded("png", t).replace(b"IDAT", b"IDAX")),
        ("späte Änderung 猫.png", lambda _: b"no picture"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_a_damaged_file_is_named(tmp_path, name, data):
    file = tmp_path / name
    file.write_bytes(data(tmp_path))
    with pytest.raises(UserError) as error:
        read_image(file)
    assert name in sentence(error)


def test_an_eps_file_is_no_picture(tmp_path):
    # Pillow would have Ghostscript run the program that it is.
    file = tmp_path / "drawing.jpg"
    file.write_bytes(encoded("eps", tmp_path))
    with pytest.raises(UserError) as error:
        read_image(file)
    assert "drawing.jpg is not a picture that can be read" in sentence(error)


FORMATS = ("png", "jpg", "webp", "gif", "bmp", "tiff")


@pytest.fixture(scope="module")
def wholes(tmp_path_factory):
    folder, exif = tmp_path_factory.mktemp("wholes"), Image.Exif()
    exif[0x0112] = 6
    for kind in FORMATS:
        colours(17, 11).save(folder / f"whole.{kind}", **({"exif": exif} if kind in ("png", "jpg", "webp") else {}))
    return folder


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=250, deadline=None, derandomize=True)
@given(kind=st.sampled_from(FORMATS), keep=st.floats(0.1, 1),
       spots=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=5))
def test_damage_anywhere_gives_a_picture_or_a_sentence(wholes, kind, keep, spots):
    data = bytearray((wholes / f"whole.{kind}").read_bytes())
    for where, value in spots:
        data[int(where**2 * (len(data) - 1))] = value  # more of them near the header
    file = wholes / "damaged"
    file.write_bytes(data[: int(keep * len(data))])
    try:
        picture = read_image(file)
    except UserError as error:
        assert "damaged" in str(error)
        assert "\n" not in str(error)
    else:
        assert picture.mode == "RGB"
        assert min(picture.size) > 0


def test_a_damaged_avif_is_named(tmp_path):
    # libavif's errors reach us as RuntimeError
    if not features.check("avif"):
        pytest.skip("this Pillow reads no AVIF")
    file = tmp_path / "broken.avif"
    colours(40, 30).save(file)
    data = file.read_bytes()
    pixels_at = data.index(b"mdat") + 4
    file.write_bytes(data[:pixels_at] + bytes(len(data) - pixels_at))
    with pytest.raises(UserError) as error:
        read_image(file)
    assert file.name in sentence(error)


@pytest.mark.parametrize("side", [15_000, 60_000])
def test_a_decompression_bomb_is_refused_before_its_pixels(tmp_path, monkeypatch, side):
    def load(self):
        raise AssertionError("pixels were asked for")

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    file = tmp_path / "bomb.png"
    file.write_bytes(png(side, side))
    with pytest.raises(UserError) as error:
        read_image(file)
    assert "bomb.png" in sentence(error)
    assert "pixels" in sentence(error)


def test_a_name_with_any_letters_is_read(tmp_path):
    file = tmp_path / "ein Häuschen – 猫 #1 {x}.png"
    picture = colours(5, 4)
    picture.save(file)
    assert read_image(file).tobytes() == read_image(str(file)).tobytes() == picture.tobytes()


# What a path can be, and what a file is that is no picture


def refused(path) -> str:
    """The sentence with which a picture is refused, by both doors of the reader."""
    with pytest.raises(UserError) as error:
        read_image(path)
    with pytest.raises(UserError) as other:
        open_picture(path)
    assert sentence(error) == sentence(other)
    return sentence(error)


def test_each_thing_that_is_no_file_has_its_own_sentence(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "circle.png").symlink_to(tmp_path / "circle.png")
    assert "pipe.png' is no plain file but a pipe or a device" in refused(tmp_path / "pipe.png")  # and does not wait
    assert "is no plain file" in refused("/dev/null")
    assert f"'{tmp_path}' is a folder; give the path of one picture" in refused(tmp_path)
    assert "is a link in a circle" in refused(tmp_path / "circle.png")
    assert "is too long" in refused(tmp_path / ("x" * 300 + ".png"))
    assert len(refused(tmp_path / ("x" * 5000))) < 300
    assert r"\n\x1b[2J" in refused(tmp_path / ("x" * 5000 + "\n\x1b[2J.png"))  # breaks no line and no terminal
    assert "can't be looked up" in refused("a\0b.png")
    for address in ("https://example.org/a.png", "file:///tmp/a.png", "ftp://x/y.jpg", "data:image/png;base64,AAAA"):
        assert f"The image {address} is an address; download it" in refused(address)
    assert "There is no file" in refused("http:/one-slash.png")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path):
    file = tmp_path / "mine.png"
    colours(4, 4).save(file)
    file.chmod(0)
    assert "mine.png may not be read" in refused(file)


def test_a_file_that_may_not_be_read_is_told_whoever_runs_this(tmp_path, monkeypatch):
    def forbidden(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    file = tmp_path / "mine.png"
    colours(4, 4).save(file)
    monkeypatch.setattr(Image, "open", forbidden)
    assert "mine.png may not be read; change its permissions." in refused(file)
    monkeypatch.setattr(Path, "stat", forbidden)
    assert "mine.png may not be read; change the permissions of its folder." in refused(file)


HEIC = b"\0\0\0\x18ftyp%s\0\0\0\0mif1heic" + bytes(300)
STRANGE = {
    "phone.heic": (HEIC % b"heic", "a HEIC photograph, as iPhones take them; save it as JPEG"),
    "phone.jpg": (HEIC % b"mif1", "a HEIC photograph, as iPhones take them; save it as JPEG"),
    "burst.heif": (HEIC % b"hevc", "a HEIC photograph"),
    "clip.mp4": (HEIC % b"isom", "a film; give one of its pictures"),
    "page.png": (b"<!DOCTYPE html><html><body>404</body></html>", "a web page; download the picture that it shows"),
    "drawing.svg": (b"<?xml version='1.0'?>\n<!-- a -->\n<svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG drawing"),
    "paper.pdf": (b"%PDF-1.7\n", "a PDF document; save the page as PNG"),
    "drawing.eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n", "an EPS drawing, which is a program"),
    "layers.psd": (b"8BPS\0\1" + bytes(50), "a Photoshop document"),
    "new.jxl": (b"\xff\n" + bytes(50), "a picture of a rare format"),
    "scan.tif": (b"II*\0\x08\0\0\0\0\0\0\0", "a TIFF of a rare kind; save it with 8 bits a channel"),
}


@pytest.mark.parametrize("name", STRANGE)
def test_what_is_no_picture_that_is_read_is_named_with_its_mend(tmp_path, name):
    data, words = STRANGE[name]
    (tmp_path / name).write_bytes(data)
    text = refused(tmp_path / name)
    assert text.startswith(f"{name} is not a picture that can be read: it is ")
    assert words in text


@pytest.mark.parametrize("kind", ["ppm", "tga", "pcx", "sgi", "ico", "icns", "jp2", "dds", "im", "msp", "spider", "xbm"])
def test_formats_beyond_the_short_list_are_not_opened_whatever_they_are_called(tmp_path, kind):
    picture = colours(64, 64)
    picture = picture.convert("1") if kind in ("msp", "xbm") else picture.convert("F") if kind == "spider" else picture
    # Written under its own name: Pillow would call this name SPIDER's from then on.
    picture.save(tmp_path / f"a.{kind}", format={"jp2": "JPEG2000"}.get(kind, kind.upper()))
    (tmp_path / f"a.{kind}").rename(tmp_path / "a.png")
    assert "a.png is not a picture that can be read" in refused(tmp_path / "a.png")


def test_the_reader_is_the_only_one_that_opens_pictures():
    """All doors read through `files.pictures`; drawings of the docs and figures of notebooks are our own."""
    found = set()
    for file in Path(read_image.__code__.co_filename).parents[1].rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and node.attr == "open" and getattr(node.value, "id", "") == "Image":
                found.add(file.name)
    assert found == {"pictures.py", "docs_figures.py", "notebooks.py"}


# What is lost, and what would be nonsense


def stored(tmp_path, name: str, data: bytes | Image.Image, **options) -> tuple[Image.Image, list[str]]:
    """A picture's way through the reader: pixels and notes, each a sentence that begins with its name."""
    if isinstance(data, Image.Image):
        data.save(tmp_path / name, **options)
    else:
        (tmp_path / name).write_bytes(data)
    picture, notes = read_noted(tmp_path / name)
    assert all(note.startswith(f"{name} ") and note.endswith(".") and "\n" not in note for note in notes)
    # A picture that somebody opened, but did not load, is told of alike.
    with (tmp_path / name).open("rb") as stream, Image.open(stream) as opened:
        other, said = open_noted(opened)
    assert other.tobytes() == picture.tobytes()
    assert [note.split(" ", 2)[2] for note in said] == [note.split(" ", 1)[1] for note in notes] or "AVIF" in name
    return picture, notes


def deep_png(colour: int, channels: int, values: list[int], *chunks: bytes) -> bytes:
    """A PNG of 16 bits a channel, one row of pixels whose channels are alike."""
    row = b"\0" + np.repeat(np.array(values, ">u2"), channels).tobytes()
    header = struct.pack(">IIBBBBB", len(values), 1, 16, colour, 0, 0, 0)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(chunks) + chunk(b"IDAT", zlib.compress(row))
            + chunk(b"IEND", b""))


def with_chunks(*chunks: bytes) -> bytes:
    """A PNG with these chunks in front of its pixels."""
    out = io.BytesIO()
    colours(9, 7).save(out, "PNG")
    return out.getvalue()[:33] + b"".join(chunks) + out.getvalue()[33:]


def profile(name: str) -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile(name)).tobytes()


def test_what_loses_nothing_is_told_nothing(tmp_path):
    for name in ("a.png", "a.jpg", "a.webp", "a.bmp", "a.tif"):
        assert stored(tmp_path, name, colours(9, 7))[1] == []
    assert stored(tmp_path, "glass.png", colours(9, 7).convert("RGBA"))[1] == []
    assert stored(tmp_path, "palette.png", colours(9, 7).quantize(16))[1] == []
    assert stored(tmp_path, "srgb.jpg", colours(9, 7), icc_profile=profile("sRGB"))[1] == []
    assert open_noted(colours(9, 7))[1] == []


@pytest.mark.parametrize(("name", "data", "grey"), [
    ("grey16.png", deep_png(0, 1, [0, 1000, 65535]), True), ("rgb48.png", deep_png(2, 3, [0, 1000, 65535]), False),
    ("grey_alpha.png", deep_png(4, 2, [0, 1000, 65535]), True), ("rgba64.png", deep_png(6, 4, [0, 1000, 65535]), False)])
def test_bits_over_eight_are_told(tmp_path, name, data, grey):
    picture, notes = stored(tmp_path, name, data)
    assert f"{name} has 16 bits a channel; the result has 8." in notes
    assert any("is grey" in note for note in notes) == grey
    assert [int(v) for v in np.asarray(picture)[0, :, 0]] == [0, 3, 255]


@pytest.mark.parametrize(("colour", "channels"), [(0, 1), (2, 3)])
def test_a_transparent_colour_of_sixteen_bits_stays_transparent(tmp_path, colour, channels):
    key = chunk(b"tRNS", struct.pack(f">{channels}H", *[1000] * channels))
    picture, _ = stored(tmp_path, "deep.png", deep_png(colour, channels, [1000, 40_000], key))
    assert picture.mode == "RGBA"
    assert np.asarray(picture)[0, :, 3].tolist() == [0, 255]


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_a_transparent_grey_of_any_depth_stays_transparent(tmp_path, bits):
    most = 2**bits - 1
    head = struct.pack(">2I5B", 2, 1, bits, 0, 0, 0, 0)
    row = bytes([0, (most << 8 - bits | 0) & 255] if bits < 8 else [0, most, 0])  # white, then black
    data = (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"tRNS", struct.pack(">H", most))
            + chunk(b"IDAT", zlib.compress(row)) + chunk(b"IEND", b""))
    picture, _ = stored(tmp_path, "few.png", data)
    assert picture.mode == "RGBA" and np.asarray(picture)[0].tolist() == [[255, 255, 255, 0], [0, 0, 0, 255]]


def deep_tiff(tmp_path, bits: int, photometric: int, values: np.ndarray) -> bytes:
    """A grey TIFF of one row, written by hand: Pillow writes neither 12 bits nor white as 0."""
    if bits == 12:
        digits = "".join(f"{v:03x}" for v in values)
        pixels = bytes.fromhex(digits)
    else:
        pixels = values.astype("<u2").tobytes()
    entries = [(256, 4, len(values)), (257, 4, 1), (258, 3, bits), (259, 3, 1), (262, 3, photometric), (273, 4, 8 + 2 + 9 * 12 + 4),
               (277, 3, 1), (278, 4, 1), (279, 4, len(pixels))]
    directory = struct.pack("<H", len(entries)) + b"".join(
        struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries) + struct.pack("<I", 0)
    return b"II*\0" + struct.pack("<I", 8) + directory + pixels


@pytest.mark.parametrize(("bits", "photometric", "expected"), [
    (16, 1, [0, 100, 255]), (16, 0, [255, 155, 0]), (12, 1, [0, 100, 255])])
def test_grey_tiffs_of_any_depth_keep_their_black_and_white(tmp_path, bits, photometric, expected):
    top = 2**bits - 1
    values = np.array([0, round(100 * top / 255), top])
    values = np.append(values, values[:1]) if bits == 12 else values  # whole bytes
    picture, notes = stored(tmp_path, "scan.tif", deep_tiff(tmp_path, bits, photometric, values))
    assert [int(v) for v in np.asarray(picture)[0, :3, 0]] == expected
    assert notes == [f"scan.tif has {bits} bits a channel; the result has 8.",
                     "scan.tif is grey; what is edited may get colours."]


def test_a_deep_tiff_is_turned_as_it_says(tmp_path):
    values = np.array([[0, 100, 255], [10, 20, 30]])
    for compression in (None, "tiff_lzw"):  # Pillow reads the plain one wrongly where it is given a path
        deep = Image.fromarray((257 * values).astype(np.uint16))
        for orientation, turned in UPRIGHT.items():
            deep.save(tmp_path / "scan.tif", tiffinfo={274: orientation}, compression=compression)
            picture = np.asarray(read_image(tmp_path / "scan.tif"))[..., 0]
            assert picture.tolist() == turned(values[..., None])[..., 0].tolist(), (compression, orientation)


@pytest.mark.parametrize(("values", "words"), [
    (np.array([[0, 0.5, 1]], np.float32), "has decimal numbers for pixels"),
    (np.array([[0, 128, 255]], np.float32), "has decimal numbers for pixels"),
    (np.array([[np.nan, 1, 2]], np.float32), "has decimal numbers for pixels"),
    (np.array([[0, 70_000]], np.int32), "has pixels from 0 to 70000"),
    (np.array([[-5, 200]], np.int32), "has pixels from -5 to 200"),
    (np.array([[0, 255]], np.int32), "has pixels from 0 to 255")])
def test_numbers_without_a_known_black_and_white_are_refused(tmp_path, values, words):
    Image.fromarray(values).save(tmp_path / "sum.tif")
    text = refused(tmp_path / "sum.tif")
    assert text.startswith(f"sum.tif {words}")
    assert text.endswith("save it with 8 or 16 bits a channel.")


def test_a_picture_in_memory_is_refused_alike():
    with pytest.raises(UserError, match="The picture has decimal numbers"):
        open_picture(Image.new("F", (3, 3), 0.5))
    with pytest.raises(UserError, match="The picture has pixels from 7 to 66000"):
        open_picture(Image.fromarray(np.array([[7, 66_000]], np.int32)))
    assert np.asarray(open_picture(Image.fromarray(np.array([[0, 65535]], np.int32))))[0, :, 0].tolist() == [0, 255]


@pytest.mark.parametrize("tags", [{50706: b"\1\4\0\0"}, {254: 1}])
def test_a_cameras_raw_file_is_more_than_its_preview(tmp_path, tags):
    info = TiffImagePlugin.ImageFileDirectory_v2()
    for tag, value in tags.items():
        info[tag] = value
    colours(9, 7).save(tmp_path / "IMG_1.dng", format="TIFF", tiffinfo=info)
    assert refused(tmp_path / "IMG_1.dng").startswith("IMG_1.dng is a camera's raw file")


def test_a_phones_mpo_is_one_picture(tmp_path):
    picture, notes = stored(tmp_path, "phone.jpg", colours(32, 16), format="MPO", save_all=True,
                            append_images=[colours(16, 8, 1)], quality=95)
    assert picture.size == (32, 16)
    assert notes == []


@pytest.mark.parametrize(("kind", "what"), [("gif", "frames"), ("webp", "frames"), ("png", "frames"), ("tif", "pages")])
def test_later_frames_and_pages_are_told(tmp_path, kind, what):
    several = [Image.new("RGB", (6, 4), c) for c in ("red", "lime", "blue")]
    _, notes = stored(tmp_path, f"film.{kind}", several[0], save_all=True, append_images=several[1:])
    assert notes == [f"film.{kind} has 3 {what}; only the first is used."]


def test_a_gamma_is_told_unless_it_is_srgbs(tmp_path):
    def gamma(value: int) -> bytes:
        return chunk(b"gAMA", struct.pack(">I", value))

    assert stored(tmp_path, "a.png", with_chunks(gamma(100_000)))[1] == [
        "a.png says a gamma of 1, which is not taken into account; it may look darker or lighter."]
    assert "a gamma of 0.55" in stored(tmp_path, "b.png", with_chunks(gamma(55_000)))[1][0]
    assert stored(tmp_path, "c.png", with_chunks(gamma(45_455)))[1] == []
    # These say it better, and then gAMA does not count.
    assert stored(tmp_path, "d.png", with_chunks(chunk(b"sRGB", b"\0"), gamma(100_000)))[1] == []
    colours(9, 7).save(tmp_path / "e.png", icc_profile=profile("sRGB"))
    whole = (tmp_path / "e.png").read_bytes()
    assert stored(tmp_path, "e.png", whole[:33] + gamma(100_000) + whole[33:])[1] == []


def test_other_colours_than_srgbs_are_told(tmp_path):
    wide = struct.pack(">8I", 31_270, 32_900, 68_000, 32_000, 26_500, 69_000, 15_000, 6_000)
    usual = struct.pack(">8I", 31_270, 32_900, 64_000, 33_000, 30_000, 60_000, 15_000, 6_000)
    assert "(cHRM)" in stored(tmp_path, "a.png", with_chunks(chunk(b"cHRM", wide)))[1][0]
    assert stored(tmp_path, "b.png", with_chunks(chunk(b"cHRM", usual)))[1] == []
    picture, notes = stored(tmp_path, "c.jpg", colours(9, 7), icc_profile=profile("XYZ"))
    assert "c.jpg has the colour space XYZ identity built-in, which the result keeps" in notes[0]
    assert picture.info["icc_profile"] == profile("XYZ")
    assert "the colour space unknown" in stored(tmp_path, "d.jpg", colours(9, 7), icc_profile=b"no profile" * 20)[1][0]
    for name, value, told in (("adobe", 65535, True), ("usual", 1, False)):  # a camera's, without a profile
        exif = Image.Exif()
        exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.ColorSpace] = value
        for kind in ("jpg", "webp"):
            assert bool(stored(tmp_path, f"{name}.{kind}", colours(9, 7), exif=exif)[1]) == told
    hdr, plain = bytes([9, 16, 0, 1]), bytes([1, 13, 0, 1])
    (tmp_path / "hdr.png").write_bytes(with_chunks(chunk(b"cICP", hdr)))
    assert "(cICP)" in read_noted(tmp_path / "hdr.png")[1][0]
    (tmp_path / "plain.png").write_bytes(with_chunks(chunk(b"cICP", plain)))
    assert read_noted(tmp_path / "plain.png")[1] == []


@pytest.mark.parametrize(("mode", "name"), [("CMYK", "a.jpg"), ("CMYK", "a.tif"), ("LAB", "a.tif")])
def test_colours_of_print_are_told(tmp_path, mode, name):
    _, notes = stored(tmp_path, name, colours(9, 7).convert(mode))
    assert notes == [f"{name} is {mode}; its colours as RGB may look different."]


@pytest.mark.parametrize(("mode", "name"), [("L", "a.jpg"), ("L", "a.png"), ("LA", "a.png"), ("1", "a.png"), ("1", "a.tif")])
def test_grey_is_told(tmp_path, mode, name):
    assert stored(tmp_path, name, colours(9, 7).convert(mode))[1] == [f"{name} is grey; what is edited may get colours."]


def test_a_profile_for_grey_is_dropped_and_told(tmp_path):
    picture, notes = stored(tmp_path, "a.png", colours(9, 7).convert("L"), icc_profile=profile("sRGB"))
    assert "icc_profile" not in picture.info
    assert notes[1] == "a.png has a colour profile for grey, which the result in RGB has not; it may look different."


def test_an_avifs_ten_bits_are_told(tmp_path):
    if not features.check("avif"):
        pytest.skip("this Pillow reads no AVIF")
    colours(40, 30).save(tmp_path / "AVIF.avif")
    assert read_noted(tmp_path / "AVIF.avif")[1] == []
    from lr_helpers.files import pictures

    data = bytearray((tmp_path / "AVIF.avif").read_bytes()[:4096])
    at = data.index(b"av1C") + 6
    with Image.open(tmp_path / "AVIF.avif") as image:
        for flags, bits in ((0x00, 8), (0x40, 10), (0x60, 12)):
            data[at] = data[at] & ~0x60 | flags
            assert pictures._bits(image, bytes(data)) == bits


@pytest.mark.parametrize("door", ["edit", "edit in turn", "batch", "Python"])
def test_every_door_tells_what_is_lost(door, tmp_path, capsys, models):
    from bad_input import FAST

    from lr_helpers.cli import main
    from lr_helpers.editing import edit
    from lr_helpers.method import get_method

    Image.fromarray(np.full((40, 40), 9000, np.uint16)).save(tmp_path / "deep.png")
    wanted = ["deep.png has 16 bits a channel; the result has 8.", "deep.png is grey; what is edited may get colours."]
    out = tmp_path / "out"
    texts = ["--source", "wolf", "--prompt", "a mushroom"]
    if door == "Python":
        method = get_method("learned").but(steps=1, anchors=2, sizes=(0.4,), shortlist=1, iterations=1)
        assert edit(models, tmp_path / "deep.png", "wolf", "a mushroom", method, progress=False).warnings[:2] == wanted
        return
    if door == "batch":
        (tmp_path / "batch.json").write_text(json.dumps({"deep.png": ["wolf", "a mushroom"]}))
        assert main(["batch", str(tmp_path / "batch.json"), "--images", str(tmp_path), "--output", str(out), *FAST]) == 0
        record = out / "deep" / "result.json"
    else:
        then = ["--then", "wolf", "an apple"] if door == "edit in turn" else []
        assert main(["edit", "--image", str(tmp_path / "deep.png"), *texts, *then, "--output", str(out), "--quiet", *FAST]) == 0
        record = out / ("step_1/result.json" if then else "result.json")
    said = capsys.readouterr().err
    assert all(said.count(text) == 1 for text in wanted)
    assert json.loads(record.read_text(encoding="utf-8"))["warnings"][:2] == wanted


# What can be read


def saved(tmp_path, image: Image.Image, kind: str = "png", **options) -> Image.Image:
    """The picture after a way over the disk."""
    file = tmp_path / f"a.{kind}"
    image.save(file, **options)
    result = read_image(file)
    assert result.mode == "RGB"
    return result


def pixels(image: Image.Image) -> list[tuple[int, int, int]]:
    return [tuple(p) for p in np.asarray(image).reshape(-1, 3).tolist()]


def test_transparency_is_laid_on_white(tmp_path):
    rgba = Image.new("RGBA", (3, 1))
    for x, colour in enumerate([(200, 10, 20, 255), (0, 0, 0, 0), (0, 0, 0, 128)]):
        rgba.putpixel((x, 0), colour)
    expected = [(200, 10, 20), (255, 255, 255), (127, 127, 127)]
    assert pixels(saved(tmp_path, rgba)) == expected
    assert pixels(saved(tmp_path, rgba, "webp", lossless=True, exact=True)) == expected

    grey = Image.new("LA", (2, 1))
    grey.putpixel((0, 0), (40, 255))
    grey.putpixel((1, 0), (40, 0))
    assert pixels(saved(tmp_path, grey)) == [(40, 40, 40), (255, 255, 255)]


@pytest.mark.parametrize("kind", ["png", "gif"])
def test_a_palette_with_a_transparent_colour_is_laid_on_white(tmp_path, kind):
    image = Image.new("P", (2, 1))
    image.putpalette([10, 200, 30, 90, 80, 70])
    image.putpixel((1, 0), 1)
    assert pixels(saved(tmp_path, image, kind)) == [(10, 200, 30), (90, 80, 70)]
    assert pixels(saved(tmp_path, image, kind, transparency=0)) == [(255, 255, 255), (90, 80, 70)]


def test_a_transparent_rgb_or_grey_colour_is_laid_on_white(tmp_path):
    rgb = Image.new("RGB", (2, 1), (1, 2, 3))
    rgb.putpixel((1, 0), (4, 5, 6))
    assert pixels(saved(tmp_path, rgb, transparency=(1, 2, 3))) == [(255, 255, 255), (4, 5, 6)]
    grey = Image.new("L", (2, 1), 7)
    grey.putpixel((1, 0), 8)
    assert pixels(saved(tmp_path, grey, transparency=7)) == [(255, 255, 255), (8, 8, 8)]


def test_grey_and_two_colour_pictures(tmp_path):
    grey = Image.fromarray(np.array([[0, 100, 255]], np.uint8))
    assert pixels(saved(tmp_path, grey)) == [(0, 0, 0), (100, 100, 100), (255, 255, 255)]
    two = Image.fromarray(np.array([[0, 255, 0]], np.uint8)).convert("1")
    assert pixels(saved(tmp_path, two)) == [(0, 0, 0), (255, 255, 255), (0, 0, 0)]


@pytest.mark.parametrize("kind", ["png", "tiff"])
def test_sixteen_bits_become_eight(tmp_path, kind):
    deep = Image.fromarray(np.array([[0, 257 * 100, 257 * 200, 65535]], np.uint16))
    assert [p[0] for p in pixels(saved(tmp_path, deep, kind))] == [0, 100, 200, 255]


def test_cmyk(tmp_path):
    cmyk = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    red, green, blue = np.asarray(saved(tmp_path, cmyk, "jpg", quality=100))[8, 8].tolist()
    assert red > 230
    assert max(green, blue) < 40


UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a),
}


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_exif_orientation_is_honoured(tmp_path, orientation):
    stored, exif = colours(5, 3), Image.Exif()
    exif[0x0112] = orientation
    upright = UPRIGHT[orientation](np.asarray(stored))
    assert np.array_equal(np.asarray(saved(tmp_path, stored, exif=exif)), upright)
    large = saved(tmp_path, stored.resize((50, 30), Image.Resampling.NEAREST), "jpg", quality=95, exif=exif)
    assert (large.height, large.width) == (10 * upright.shape[0], 10 * upright.shape[1])


def test_a_path_and_an_open_picture_of_any_kind_give_the_same(tmp_path):
    exif, file = Image.Exif(), tmp_path / "turned.png"
    exif[0x0112] = 6
    for image, mode in ((colours(5, 3), "RGB"), (colours(5, 3).convert("L"), "RGB"), (colours(5, 3).convert("P"), "RGB"),
                        (colours(5, 3).convert("RGBA"), "RGBA"), (colours(5, 3).convert("LA"), "RGBA")):
        image.save(file, exif=exif)
        from_path, from_text = open_picture(file), open_picture(str(file))
        with Image.open(file) as opened:
            from_pil = open_picture(opened)
        assert (from_path.mode, from_path.size) == (mode, (3, 5))
        assert from_path.tobytes() == from_text.tobytes() == from_pil.tobytes()
        assert torch.equal(to_tensor(from_path), to_tensor(read_image(file)))  # transparency on white either way


def test_of_an_animation_the_first_frame(tmp_path):
    frames = [Image.new("RGB", (6, 4), c) for c in ("red", "lime", "blue")]
    for kind in ("gif", "webp", "png"):
        extra = {"lossless": True} if kind == "webp" else {}
        first = saved(tmp_path, frames[0], kind, save_all=True, append_images=frames[1:], duration=50, **extra)
        assert set(pixels(first)) == {(255, 0, 0)}, kind


# Tensors


def test_pictures_survive_the_way_to_tensors_and_back():
    image = Image.fromarray(np.arange(256 * 3, dtype=np.uint16).astype(np.uint8).reshape(16, 16, 3))
    tensor = to_tensor(image)
    assert tensor.shape == (3, 16, 16)
    assert tensor.dtype == torch.float32
    assert 0 <= tensor.min() < tensor.max() <= 1
    assert to_image(tensor).tobytes() == image.tobytes()
    # (row, column) keep their meaning
    image = Image.new("RGB", (4, 3))
    image.putpixel((3, 1), (255, 0, 51))
    assert to_tensor(image)[:, 1, 3].tolist() == pytest.approx([1, 0, 0.2])
    assert to_image(to_tensor(image)).size == (4, 3)


def test_tensors_beyond_the_range_are_clamped_and_rounded():
    values = torch.tensor([-1.0, 0.0, 0.4999 / 255, 0.5001 / 255, 2.0]).expand(3, 1, 5)
    assert [p[0] for p in pixels(to_image(values))] == [0, 0, 0, 1, 255]
    assert to_image(values.half().requires_grad_(True)).size == (5, 1)


def test_resizing_makes_a_square_and_leaves_fitting_pictures_alone():
    image = colours(64, 64)
    assert torch.equal(to_tensor(image, 64), to_tensor(image))
    for size in ((1, 1), (100, 40), (3, 900)):
        tensor = to_tensor(Image.new("RGB", size, (255, 0, 102)), 64)
        assert tensor.shape == (3, 64, 64)
        assert torch.allclose(tensor.mean((1, 2)), torch.tensor([1, 0, 0.4]), atol=1e-3)


# Pasting back

BOXES = [(0, 0, 64, 64), (10, 20, 41, 53), (0, 30, 7, 64), (63, 0, 64, 1)]


@pytest.mark.parametrize("box", BOXES, ids=str)
@pytest.mark.parametrize("feather", [0, 0.06, 0.5])
@pytest.mark.parametrize("size", [(64, 64), (63, 65), (200, 120), (31, 500), (1920, 1281), (20, 20)], ids=str)
def test_outside_the_box_every_bit_is_kept(size, feather, box):
    original = colours(*size)
    edited = 1 - to_tensor(original, 64)
    result = paste_back(original, edited, box, feather)
    assert (result.mode, result.size) == ("RGB", size)
    assert original.tobytes() == colours(*size).tobytes()
    sx, sy = size[0] / 64, size[1] / 64
    different = (np.asarray(result) != np.asarray(original)).any(2)
    x0, x1, y0, y1 = int(box[0] * sx), -int(-box[2] * sx // 1), int(box[1] * sy), -int(-box[3] * sy // 1)
    inside = different[y0:y1, x0:x1].mean()
    different[y0:y1, x0:x1] = False
    assert not different.any()
    if (box[2] - box[0]) * sx > 8 and (box[3] - box[1]) * sy > 8:
        assert inside > 0.4


@pytest.mark.parametrize("size", [(64, 64), (200, 120), (640, 640)], ids=str)
def test_the_edit_fills_its_box(size):
    original, edited = Image.new("RGB", size, (0, 0, 0)), torch.tensor([1, 0.4, 0.2]).view(3, 1, 1).expand(3, 64, 64)
    box = (16, 8, 48, 40)
    x0, y0, x1, y1 = (round(v * s / 64) for v, s in zip(box, (*size, *size), strict=True))
    hard = np.asarray(paste_back(original, edited, box))
    assert (hard[y0:y1, x0:x1] == (255, 102, 51)).all()
    soft = np.asarray(paste_back(original, edited, box, 0.2))
    assert soft[(y0 + y1) // 2, (x0 + x1) // 2].tolist() == [255, 102, 51]
    across = soft[(y0 + y1) // 2, x0:x1, 0].astype(int)
    half = len(across) // 2
    assert 0 < across[0] < 128
    assert (np.diff(across[:half]) >= 0).all()
    assert (np.diff(across[-half:]) <= 0).all()


def test_the_edit_is_not_shifted_or_mirrored():
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    edited = torch.stack([x, y, x * 0]) / 63
    result = np.asarray(paste_back(Image.new("RGB", (640, 320)), edited, (16, 8, 48, 40))).astype(float)
    for column, row in ((200, 60), (420, 60), (200, 180), (420, 180), (320, 120)):
        expected = np.array([(column + 0.5) / 10 - 0.5, (row + 0.5) / 5 - 0.5]) / 63 * 255
        assert np.abs(result[row, column, :2] - expected).max() < 2.5


@pytest.mark.parametrize("feather", [0, 0.06])
@pytest.mark.parametrize("size", [(1, 1), (1, 4000), (4000, 1), (3, 2000), (2, 2)], ids=str)
def test_tiny_and_extremely_long_pictures(size, feather):
    original, white = Image.new("RGB", size), torch.ones(3, 64, 64)
    for box in BOXES:
        assert paste_back(original, white, box, feather).size == size
        assert draw_box(original, box, 64).size == size
    assert np.asarray(paste_back(original, white, BOXES[0])).min() == 255


def test_a_drawn_box_lies_on_its_edges():
    original = Image.new("RGB", (128, 64))
    marked = np.asarray(draw_box(original, (16, 8, 32, 24), 64)).any(2)
    rows, columns = np.flatnonzero(marked.any(1)), np.flatnonzero(marked.any(0))
    assert (columns[0], columns[-1], rows[0], rows[-1]) == (32, 63, 8, 23)
    assert not marked[12:20, 36:60].any()
    assert not np.asarray(original).any()


# Writing


def test_writing_makes_folders_and_leaves_nothing_else(tmp_path):
    file = tmp_path / "a" / "b" / "c.bin"
    write_bytes(file, b"one")
    write_bytes(file, b"two")
    assert file.read_bytes() == b"two"
    assert os.listdir(file.parent) == ["c.bin"]


@pytest.mark.parametrize("function", ["replace", "fsync"])
def test_if_the_disk_is_full_the_old_file_stays(tmp_path, monkeypatch, function):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    file = tmp_path / "result.json"
    write_bytes(file, b"old")
    with monkeypatch.context() as patch:
        patch.setattr(os, function, full)
        with pytest.raises(UserError) as error:
            write_bytes(file, b"new")
    assert "result.json" in sentence(error)
    assert "No space left" in sentence(error)
    assert file.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["result.json"]


def test_where_nothing_can_be_written_the_path_is_named(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_bytes(b"x")
    (tmp_path / "folder.png").mkdir()
    for file in (blocked / "a.png", blocked / "b" / "a.png", tmp_path / "folder.png"):
        with pytest.raises(UserError) as error:
            write_bytes(file, b"data")
        assert file.name in sentence(error)
    assert blocked.read_bytes() == b"x"
    assert sorted(os.listdir(tmp_path)) == ["file", "folder.png"]


def test_written_pictures_and_records_come_back(tmp_path):
    picture = colours(9, 7)
    write_image(tmp_path / "a.png", picture)
    assert read_image(tmp_path / "a.png").tobytes() == picture.tobytes()
    record = {"text": "猫 – “x”", "values": [1, 0.5, None]}
    write_json(tmp_path / "a.json", record)
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == record
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"loss": float("nan")})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == record


def test_a_folder_is_made_or_refused(tmp_path):
    folder = prepare_folder(str(tmp_path / "new one" / "ü"))
    assert folder.is_dir()
    assert prepare_folder(folder) == folder
    assert os.listdir(folder) == []
    blocked = tmp_path / "file"
    blocked.write_bytes(b"x")
    for path in (blocked, blocked / "below"):
        with pytest.raises(UserError) as error:
            prepare_folder(path)
        assert str(path) in sentence(error)
