"""Reading, converting and writing pictures: the right pixels, or one sentence that names the file."""

import errno
import json
import os
import struct
import zlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile, features

from lr_helpers.errors import UserError
from lr_helpers.files.pictures import draw_box, open_picture, paste_back, read_image, to_image, to_tensor
from lr_helpers.files.writing import prepare_folder, write_bytes, write_image, write_json


def colours(width: int, height: int, seed: int = 0) -> Image.Image:
    """Random pixels."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def png(width: int, height: int) -> bytes:
    """A PNG that claims this size and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

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
