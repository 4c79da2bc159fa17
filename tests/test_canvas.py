"""Geometry in the picture's own pixels: nothing is squashed, nothing outside the region changes."""

from __future__ import annotations

import math
import resource

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from lr_helpers import METHODS, edit
from lr_helpers.boxes import box_mask
from lr_helpers.candidates import Candidates, Edits, area_table, occlusion_table
from lr_helpers.editing import propose
from lr_helpers.files.canvas import Canvas, inner_box, scaled
from lr_helpers.files.pictures import paste_back, to_image, to_tensor
from lr_helpers.inpainting import Editor

QUICK = METHODS["learned"].but(anchors=6, shortlist=3, steps=2, iterations=5)
SIZES = [(64, 64), (192, 64), (64, 192), (640, 427), (384, 128), (33, 70), (1000, 20), (4000, 3000)]


class DiscPainter(Editor):
    """An editor whose every edit is a white disc that fills its mask, on black: its shape tells the geometry."""

    denoiser = "unet"

    def __init__(self, size: int):
        self.size, self.batch = size, 4

    def _encode_prompts(self, prompts):
        return {"prompts": torch.zeros(len(prompts), 1)}

    def _paint(self, images, masks, texts, seed, steps, guidance, draft):
        frames = []
        for mask in masks[:, 0]:
            rows, columns = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
            disc = Image.new("RGB", (8 * self.size,) * 2)
            ends = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
            ImageDraw.Draw(disc).ellipse([8 * v for v in ends[:2]] + [8 * v - 1 for v in ends[2:]], fill="white")
            small = np.asarray(disc.resize((self.size,) * 2, Image.Resampling.BOX), np.float32) / 255
            frames.append(torch.from_numpy(small).permute(2, 0, 1))
        return torch.stack(frames)

    steps, guidance, evaluations = 1, 1.0, 0


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))


@pytest.mark.parametrize("size", [64, 512])
@pytest.mark.parametrize("shape", [(192, 64), (64, 192), (1536, 512), (427, 640), (3000, 1000), (512, 512)], ids=str)
def test_a_disc_painted_into_a_square_comes_back_round_within_3_percent(shape, size):
    original = Image.new("RGB", shape, (90, 90, 90))
    side = round(0.5 * min(shape))
    for x, y in ((shape[0] // 2, shape[1] // 2), (side // 2, side // 2), (shape[0] - side // 2, shape[1] - side // 2)):
        box = (x - side // 2, y - side // 2, x - side // 2 + side, y - side // 2 + side)
        canvas, store = Canvas(original, size), None
        store = Edits(_with(DiscPainter(size)), canvas, "a disc", 0)
        store(torch.tensor([box]))
        patch = store.patches[box]
        result = np.asarray(paste_back(original, patch.edited, patch.inner, 0.0, patch.window), np.float64)
        bright = (result[..., 0] - 90).clip(0) / 165
        area = bright.sum()
        # Extents by the second moments: an ellipse of semi-axes a, b has the variances a²/4 and b²/4.
        spread = []
        for axis in (0, 1):
            profile, at = bright.sum(axis), np.arange(bright.shape[1 - axis])
            middle = (profile * at).sum() / area
            spread.append(math.sqrt((profile * (at - middle) ** 2).sum() / area))
        assert abs(spread[0] / spread[1] - 1) < 0.03
        assert abs(4 * spread[0] / side - 1) < 0.05  # and it fills its box


def _with(editor: Editor):
    class Models:
        pass

    models = Models()
    models.editor = editor
    return models


@pytest.mark.parametrize("shape", SIZES, ids=str)
def test_proposals_are_squares_of_the_picture(models, shape):
    found = propose(models, Canvas(noise(*shape), 128), "wolf", QUICK)
    boxes = found.boxes
    width, height = boxes[..., 2] - boxes[..., 0], boxes[..., 3] - boxes[..., 1]
    assert (boxes[..., :2] >= 0).all() and (boxes[..., 2] <= shape[0]).all() and (boxes[..., 3] <= shape[1]).all()
    free = (boxes[..., 0] > 0) & (boxes[..., 1] > 0) & (boxes[..., 2] < shape[0]) & (boxes[..., 3] < shape[1])
    assert ((width - height).abs()[free] <= 1).all()  # rounding
    assert (width.amax() <= 0.75 * min(shape) + 1) and (width >= 1).all() and (height >= 1).all()


def test_the_vit_sees_the_pictures_own_aspect(models):
    backbone = models.backbone
    for height, width in ((128, 128), (64, 64), (64, 192), (427, 640), (1000, 20)):
        rows, columns = backbone.grid(height, width)
        features, attention = backbone.encode_image(torch.rand(3, height, width))
        assert features.shape[1:] == attention.shape[1:] == (rows, columns)
        square = backbone.grid(128, 128)[0] ** 2
        assert 0.7 <= rows * columns / square <= 1.6
        if min(height, width) > 60:  # whole patches allow it
            assert (columns / rows) / (width / height) == pytest.approx(1, rel=0.15)


def test_square_pictures_of_the_models_size_are_their_own_frame_and_window():
    picture = torch.rand(3, 64, 64)
    canvas = Canvas(picture, 64)
    assert canvas.frame is not None and torch.equal(canvas.frame, picture)
    for box in ((0, 0, 16, 16), (20, 8, 60, 48), (0, 0, 64, 64)):
        assert canvas.window(box) == (0, 0, 64, 64)
        assert torch.equal(canvas.crop((0, 0, 64, 64)), picture)
        assert inner_box(box, (0, 0, 64, 64), 64) == box


@pytest.mark.parametrize("shape", SIZES, ids=str)
@pytest.mark.parametrize("share", [0.05, 0.25, 0.75, 1.0])
def test_windows_are_squares_that_hold_the_region_and_its_surroundings(shape, share):
    canvas = Canvas(Image.new("RGB", shape), 64)
    side = max(1, round(share * min(shape)))
    for x0, y0 in ((0, 0), (shape[0] - side, shape[1] - side), ((shape[0] - side) // 2, (shape[1] - side) // 3)):
        box = (x0, y0, x0 + side, y0 + side)
        left, top, right, bottom = canvas.window(box)
        assert 0 <= left <= x0 and 0 <= top <= y0 and x0 + side <= right <= shape[0] and y0 + side <= bottom <= shape[1]
        assert right - left == bottom - top == min(max(64, 2 * side), *shape)


def test_a_small_region_of_a_large_picture_is_edited_at_the_pictures_own_resolution():
    original = noise(1200, 900)
    canvas = Canvas(original, 512)
    window = canvas.window((500, 400, 650, 550))
    assert window[2] - window[0] == 512
    assert torch.equal(to_tensor_of(original.crop(window)), canvas.crop(window))


def to_tensor_of(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.asarray(image, np.float32) / 255).permute(2, 0, 1)


@pytest.mark.parametrize("shape", [(192, 64), (64, 192), (250, 250), (300, 200), (2000, 1500)], ids=str)
def test_pixels_outside_the_region_are_bit_identical(models, shape):
    original = noise(*shape)
    result = edit(models, original, "wolf", "an apple", QUICK, progress=False)
    x0, y0, x1, y1 = result.box
    assert 0 <= x0 < x1 <= shape[0] and 0 <= y0 < y1 <= shape[1]
    changed = (np.asarray(result.image) != np.asarray(original)).any(2)
    assert changed[y0:y1, x0:x1].mean() > 0.5
    changed[y0:y1, x0:x1] = False
    assert not changed.any()


def test_a_large_photograph_takes_no_more_memory_in_the_models(models):
    """Only the picture itself and its copy grow: 12 megapixels are 36 MB each, a float tensor of them 144 MB. The region
    is a large one, whose pasting must not take numbers for all of its pixels at once.
    """
    small, large, method = noise(1200, 900), noise(4000, 3000), QUICK.but(sizes=(0.75,))
    edit(models, small, "wolf", "an apple", method, progress=False)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = edit(models, large, "wolf", "an apple", method, progress=False)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert min(result.picture.shape[1:]) == models.profile.size
    # The result's copy, and Pillow's of the largest window (the regions' windows are at most 3,000 pixels wide).
    assert grown < 36 + 36 + 40


@pytest.mark.parametrize("shape", [(64, 64), (128, 64), (64, 200), (640, 427), (2000, 100)], ids=str)
def test_clip_sees_the_largest_square_around_a_box(shape):
    canvas = Canvas(noise(*shape), 64)
    height, width = canvas.frame.shape[1:]
    assert min(height, width) <= 64 and max(height, width) <= 4 * 64
    side, views = min(height, width), set()
    for x in range(0, shape[0], max(1, shape[0] // 40)):
        box = (x, 0, min(x + max(1, min(shape) // 3), shape[0]), max(1, min(shape) // 3))
        left, top, right, bottom = view = canvas.view(box)
        assert right - left == bottom - top == side and left >= 0 and right <= width and top >= 0 and bottom <= height
        x0, _, x1, _ = canvas.in_frame(torch.tensor(box)).tolist()
        slack = (max(height, width) - side) / 8 + 1  # views stand in steps
        assert left - slack <= x0 and x1 <= right + slack
        views.add(view)
    assert len(views) <= 10
    if shape[0] == shape[1]:
        assert views == {(0, 0, 64, 64)}


def test_an_edit_of_a_long_picture_is_judged_like_that_of_its_square(models):
    """Where the square around the region is the same, the terms are, whatever stands beyond."""
    square = noise(128, 128)
    beyond = Image.fromarray(np.pad(np.asarray(square), ((0, 0), (128, 0), (0, 0)), "edge"))
    box = torch.tensor([[[60, 40, 108, 88]]])
    method = METHODS["paper"].but(steps=2, occlusion_weight=1.0)
    tables = [Candidates(models, Canvas(picture, 128), "wolf", "an apple", boxes, method, 0)
              for picture, boxes in ((square, box), (beyond, box + torch.tensor([128, 0, 128, 0])))]
    assert tables[1].canvas.view((188, 40, 236, 88)) == (128, 0, 256, 128)
    for table in tables:
        table.losses(None)
    for name in tables[0].terms:
        assert torch.allclose(tables[0].terms[name], tables[1].terms[name], atol=1e-5, equal_nan=True), name
    assert torch.allclose(tables[0].score, tables[1].score, atol=1e-5)


def test_tables_of_a_square_picture_are_what_they_were(models):
    picture = torch.rand(3, 128, 128, generator=torch.Generator().manual_seed(0))
    boxes = torch.tensor([[[0, 0, 32, 32], [16, 16, 80, 80]]])
    assert torch.equal(area_table(boxes, (128, 128)), torch.tensor([[1024 / 16384, 4096 / 16384]]))
    assert torch.equal(occlusion_table(models, picture, "wolf", boxes),
                       occlusion_table(models, Canvas(picture, 128), "wolf", boxes))


def test_scaled_boxes_keep_a_pixel_and_stay_inside():
    boxes = torch.tensor([[0, 0, 1, 1], [639, 426, 640, 427], [0, 0, 640, 427], [100, 50, 420, 370]])
    small = scaled(boxes, (427, 640), (52, 78))
    assert (small[:, 2:] > small[:, :2]).all() and (small >= 0).all()
    assert (small[:, 2] <= 78).all() and (small[:, 3] <= 52).all()
    assert small[2].tolist() == [0, 0, 78, 52]
    assert scaled(boxes, (427, 640), (427, 640)) is boxes


# Blending


def test_transparent_pictures_get_no_dark_rim():
    clear = Image.new("RGBA", (200, 200), (0, 0, 0, 0))
    result = paste_back(clear, torch.ones(3, 64, 64), (16, 16, 48, 48), 0.06)
    on_white = Image.alpha_composite(Image.new("RGBA", (200, 200), "white"), result)
    assert np.asarray(on_white)[..., :3].min() >= 254
    half = Image.new("RGBA", (200, 200), (255, 255, 255, 128))
    assert np.asarray(paste_back(half, torch.ones(3, 64, 64), (16, 16, 48, 48), 0.3))[..., :3].min() == 255
    solid = Image.new("RGBA", (200, 200), (200, 10, 10, 255))
    opaque = np.asarray(paste_back(solid, torch.ones(3, 64, 64), (16, 16, 48, 48), 0.3))
    assert (opaque[..., 3] == 255).all()


@pytest.mark.parametrize("box, full, blended", [
    ((0, 0, 64, 64), ("top", "left", "bottom", "right"), ()),
    ((0, 0, 32, 32), ("top", "left"), ("bottom", "right")),
    ((32, 16, 64, 48), ("right",), ("top", "left", "bottom")),
], ids=str)
def test_only_inner_edges_are_feathered(box, full, blended):
    result = np.asarray(paste_back(Image.new("RGB", (200, 200)), torch.ones(3, 64, 64), box, 0.1))[..., 0]
    x0, y0, x1, y1 = (round(v * 200 / 64) for v in box)
    middle_x, middle_y = (x0 + x1) // 2, (y0 + y1) // 2
    edge = {"top": result[y0, middle_x], "bottom": result[y1 - 1, middle_x],
            "left": result[middle_y, x0], "right": result[middle_y, x1 - 1]}
    assert all(edge[name] == 255 for name in full)
    assert all(0 < edge[name] < 128 for name in blended)


def test_masks_are_squares_in_the_window(models):
    """On a 3:1 panorama the editor gets a square of the picture with a square mask in it."""
    asked = []
    painter = DiscPainter(64)
    painter._paint = lambda images, masks, *rest: asked.append(masks) or images
    Edits(_with(painter), Canvas(noise(384, 128), 64), "x", 0)(torch.tensor([[100, 30, 164, 94]]))
    mask = asked[0][0, 0]
    assert int(mask.any(0).sum()) == int(mask.any(1).sum()) == 32
    assert torch.equal(mask[None], box_mask((16, 16, 48, 48), 64, 64)) or mask.sum() == 32 * 32


def test_a_pasted_patch_of_a_long_picture_lies_where_its_box_is():
    canvas = Canvas(Image.new("RGB", (384, 128)), 64)
    store = Edits(_with(DiscPainter(64)), canvas, "x", 0)
    frame = store(torch.tensor([[200, 20, 300, 120]]))[0]
    x0, y0, x1, y1 = canvas.in_frame(torch.tensor([200, 20, 300, 120])).tolist()
    outside = frame.clone()
    outside[:, y0:y1, x0:x1] = 0
    assert outside.abs().max() == 0 and frame[:, (y0 + y1) // 2, (x0 + x1) // 2].min() > 0.9
    assert to_image(frame).size == (canvas.frame.shape[2], canvas.frame.shape[1])


@pytest.mark.parametrize("hidden", [(0, 0, 0), (255, 0, 0)], ids=["black", "red"])
@pytest.mark.parametrize("size", [(64, 64), (200, 200), (384, 128)], ids=str)
def test_colours_that_transparency_hides_reach_no_model(size, hidden):
    """White beside what is transparent: all that is seen is white, however it is resized."""
    picture = Image.new("RGBA", size, (*hidden, 0))
    picture.paste((255, 255, 255, 255), (0, 0, size[0] // 2, size[1]))
    canvas = Canvas(picture, 64)
    box = (size[0] // 2 - 10, 20, size[0] // 2 + 10, 40)
    for seen in (canvas.frame, canvas.crop(canvas.window(box)), to_tensor(picture, 64)):
        assert seen.min() >= 254 / 255
