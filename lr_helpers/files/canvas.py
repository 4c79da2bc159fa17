"""A picture to edit, in its own pixels: what the encoders see of it, and what the editor gets of it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from PIL import Image
from torch.nn import functional as F

from lr_helpers.boxes import Box
from lr_helpers.files.pictures import to_tensor

CONTEXT = 2.0
"""The editor's window is at least this many times as wide as the region: without surroundings it can't match them."""

LONGEST = 4
"""Of a frame: its longer side is at most this many times the editor's."""

VIEWS = 8
"""Steps from one end of a picture to the other in which views are placed, so that boxes share them."""

LARGE = 768
"""From this side on, edits are kept as 8-bit numbers: a dozen of 1024 pixels would take 150 MB as floats."""


class Canvas:
    """One picture with its boxes in its own pixels.

    The ViT sees `frame`, a copy of the picture's own aspect. The editor sees square windows of the picture (`window`,
    `crop`), so nothing is squashed and a small region is edited at the picture's own resolution. CLIP, which takes
    squares, sees the largest square around a box (`view`). A square picture of the editor's size is its own frame,
    window and view.
    """

    def __init__(self, picture: Image.Image | torch.Tensor, size: int):
        """`picture`: RGB or RGBA, any size, or a tensor (3, H, W) in 0..1; `size`: the editor's side S in pixels."""
        self.picture, self.size = picture, size
        if isinstance(picture, torch.Tensor):
            self.height, self.width = picture.shape[1:]
        else:
            self.width, self.height = picture.size
        scale = min(size / min(self.shape), LONGEST * size / max(self.shape))
        self.frame = self._resized((0, 0, self.width, self.height), max(1, round(self.height * scale)),
                                   max(1, round(self.width * scale)))
        """(3, h, w) in 0..1; the shorter side is the editor's, except in panoramas longer than LONGEST to 1."""

    @classmethod
    def of(cls, picture: Canvas | Image.Image | torch.Tensor, size: int) -> Canvas:
        """The canvas itself, or one of this picture."""
        return picture if isinstance(picture, Canvas) else cls(picture, size)

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W) of the picture, in which all boxes are given."""
        return self.height, self.width

    def window(self, box: Box) -> Box:
        """The square of the picture that the editor sees to edit this box, (x0, y0, x1, y1) in the picture's pixels.

        As much surrounding as fits at the editor's size, pixel for pixel; where the region is too large for that,
        CONTEXT times its side, scaled down; at most the largest square of the picture, which every box fits into.
        It is centred on the box as far as the picture's border allows.
        """
        longer = max(box[2] - box[0], box[3] - box[1])
        side = min(max(self.size, round(CONTEXT * longer)), self.width, self.height)
        side = max(side, longer)  # of a box that is wider than the picture is high
        x0 = _placed((box[0] + box[2] - side) / 2, side, self.width)
        y0 = _placed((box[1] + box[3] - side) / 2, side, self.height)
        return x0, y0, min(x0 + side, self.width), min(y0 + side, self.height)

    def view(self, box: Box) -> Box:
        """The square of the frame in which CLIP judges this box: the largest there is, around the box as far as the
        border allows. In pixels of the frame; the frame itself if that is a square.
        """
        height, width = self.frame.shape[1:]
        side = min(height, width)
        x0, y0, x1, y1 = self.in_frame(torch.tensor(box)).tolist()
        step = max(1.0, (max(height, width) - side) / VIEWS)
        left = _placed(round(((x0 + x1 - side) / 2) / step) * step, side, width)
        top = _placed(round(((y0 + y1 - side) / 2) / step) * step, side, height)
        return left, top, left + side, top + side

    def crop(self, window: Box) -> torch.Tensor:
        """What the editor sees of a window: (3, S, S) in 0..1."""
        return self._resized(window, self.size, self.size)

    def _resized(self, window: Box, height: int, width: int) -> torch.Tensor:
        whole = tuple(window) == (0, 0, self.width, self.height)
        if isinstance(self.picture, torch.Tensor):
            part = self.picture[:, window[1]:window[3], window[0]:window[2]]
            if tuple(part.shape[1:]) == (height, width):
                return part
            return F.interpolate(part[None], size=(height, width), mode="bicubic", antialias=True)[0].clamp(0, 1)
        if whole and self.picture.size == (width, height):
            return to_tensor(self.picture)
        # Pillow reads the window alone, so a large photograph is never a tensor as a whole.
        return to_tensor(self.picture.resize((width, height), Image.Resampling.LANCZOS, box=tuple(window)))

    def in_frame(self, boxes: torch.Tensor) -> torch.Tensor:
        """(..., 4) int64 boxes of the picture → the same in pixels of the frame, at least one pixel wide and high."""
        return scaled(boxes, self.shape, tuple(self.frame.shape[1:]))

    def pasted(self, patch: Patch) -> torch.Tensor:
        """The frame with a patch's box pasted in: (3, h, w) in 0..1."""
        edited = patch.edited
        if edited.shape == self.frame.shape and patch.window == (0, 0, self.width, self.height):
            x0, y0, x1, y1 = patch.box
            part = edited[:, y0:y1, x0:x1]
        else:
            x0, y0, x1, y1 = self.in_frame(torch.tensor(patch.box)).tolist()
            u0, v0, u1, v1 = (round(v) for v in patch.inner)
            part = F.interpolate(edited[None, :, v0:max(v1, v0 + 1), u0:max(u1, u0 + 1)],
                                 size=(y1 - y0, x1 - x0), mode="bicubic", antialias=True)[0].clamp(0, 1)
        frame = self.frame.clone()
        frame[:, y0:y1, x0:x1] = part
        return frame


@dataclass(frozen=True)
class Patch:
    """One edit at the editor's own resolution."""

    box: Box
    """The region, in the picture's pixels."""
    window: Box
    """What the editor saw, in the picture's pixels."""
    pixels: torch.Tensor
    """(3, S, S): the window with the region edited; in 0..1, or of large models as 8-bit numbers."""

    @classmethod
    def of(cls, box: Box, window: Box, edited: torch.Tensor) -> Patch:
        """From an edit (3, S, S) in 0..1."""
        large = edited.shape[-1] >= LARGE
        return cls(box, window, (255 * edited).round().to(torch.uint8) if large else edited)

    @property
    def edited(self) -> torch.Tensor:
        """(3, S, S) in 0..1."""
        return self.pixels / 255 if self.pixels.dtype == torch.uint8 else self.pixels

    @property
    def inner(self) -> tuple[float, float, float, float]:
        """The region in pixels of `edited`."""
        return inner_box(self.box, self.window, self.pixels.shape[-1])


def crop(picture: torch.Tensor, box: Box) -> torch.Tensor:
    """The part (3, y1 − y0, x1 − x0) of a picture (3, H, W) in this box of its pixels."""
    x0, y0, x1, y1 = box
    return picture[:, y0:y1, x0:x1]


def inner_box(box: Box, window: Box, size: int) -> tuple[float, float, float, float]:
    """A box of the picture in pixels of its window's size×size copy."""
    sx, sy = size / (window[2] - window[0]), size / (window[3] - window[1])
    return ((box[0] - window[0]) * sx, (box[1] - window[1]) * sy,
            (box[2] - window[0]) * sx, (box[3] - window[1]) * sy)


def scaled(boxes: torch.Tensor, before: tuple[int, int], after: tuple[int, int]) -> torch.Tensor:
    """(..., 4) int64 boxes of a picture of (H, W) → of its copy of another (H, W), at least a pixel wide and high."""
    if before == after:
        return boxes
    factor = torch.tensor([after[1] / before[1], after[0] / before[0]] * 2, dtype=torch.float64)
    limits = torch.tensor([after[1], after[0]])
    low, high = (boxes * factor).round().long().split(2, dim=-1)
    low = torch.minimum(low, limits - 1)
    return torch.cat([low, torch.maximum(torch.minimum(high, limits), low + 1)], dim=-1)


def _placed(start: float, side: int, length: int) -> int:
    return max(0, min(round(start), length - side))
