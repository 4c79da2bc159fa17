"""A region, found without any edit, then one edit inside it by the profile's editor, pasted back."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import torch
from scipy import ndimage
from torch.nn import functional as F

from lr_helpers.baselines.base import Baseline, Made, smallest_box
from lr_helpers.baselines.request import Request, Share
from lr_helpers.boxes import box_mask
from lr_helpers.errors import UserError
from lr_helpers.inpainting import composite
from lr_helpers.method import setting


def bounding_box(mask: torch.Tensor) -> torch.Tensor:
    """(S, S), 0 outside → (S, S), 1 in the smallest box around what is not 0; zeros stay zeros."""
    return box_mask(smallest_box(mask) or (0, 0, 0, 0), *mask.shape)[0]


@dataclass(frozen=True, eq=False)
class _Region(Baseline):
    """One edit inside `region`. Where nothing is found, nothing is edited: the picture stays as it is."""

    shape: str = setting(
        "box", "what is edited: 'box', the smallest around what was found (the paper's regions are boxes), or 'mask'",
        options=("box", "mask"))

    @abstractmethod
    def region(self, request: Request) -> torch.Tensor:
        """What the source names: (S, S), 1 there, else 0."""

    def _edit(self, request: Request, share: Share) -> Made:
        picture, mask = request.picture, self.region(request).float()
        if self.shape == "box":
            mask = bounding_box(mask)
        # Nothing found: nothing to edit, and nothing to pay.
        if not mask.any():
            return Made(picture, mask)
        frame = self.models.editor.inpaint(picture, mask[None, None], request.prompt, seed=request.seed,
                                           steps=self._steps)[0]
        return Made(composite(frame, picture, mask[None]), mask)


@dataclass(frozen=True, eq=False)
class WholePicture(Baseline):
    """Inpainting with a mask of everything: the editor never sees the picture. The floor of all regions."""

    def _edit(self, request: Request, share: Share) -> Made:
        everything = torch.ones(1, 1, *request.picture.shape[1:])
        return Made(self.models.editor.inpaint(request.picture, everything, request.prompt, seed=request.seed,
                                               steps=self._steps)[0])


@dataclass(frozen=True, eq=False)
class KnownRegion(_Region):
    """Inpainting where the truth is known: the ceiling of all regions."""

    shape: str = setting("mask", "'mask': the known region as the request gives it, or 'box': the smallest around it",
                         options=("box", "mask"))

    def region(self, request: Request) -> torch.Tensor:
        """Raises UserError for a request without a known region, and for one that does not fit the picture."""
        known, size = request.known, request.picture.shape[-1]
        if known is None:
            raise UserError("The known region is missing; give known=(x0, y0, x1, y1), or known=mask.")
        # A mask is taken as it is, a box in pixels is filled.
        if isinstance(known, torch.Tensor):
            if known.shape != (size, size):
                raise UserError(f"known has the shape {tuple(known.shape)}; give a mask of ({size}, {size}).")
            return (known > 0.5).float()
        if not (len(known) == 4 and 0 <= known[0] < known[2] <= size and 0 <= known[1] < known[3] <= size):
            raise UserError(f"known is {tuple(known)}; give 0 ≤ x0 < x1 ≤ {size} and 0 ≤ y0 < y1 ≤ {size}.")
        return box_mask(known, size, size)[0]


@dataclass(frozen=True, eq=False)
class ClipSegRegion(_Region):
    """Where CLIPSeg sees the source: the closest peer of learned regions."""

    threshold: float = setting(0.4, "a pixel belongs to the region above this probability", within=(0.0, 1.0))

    def region(self, request: Request) -> torch.Tensor:
        return self.parts.clipseg.heat(request.picture, request.source) > self.threshold


@dataclass(frozen=True, eq=False)
class GroundedRegion(_Region):
    """Where Grounding DINO detects the source; with `segment`, what SAM finds in these boxes. All boxes count."""

    threshold: float = setting(0.25, "least score of a box (default: the processor's)", within=(0.0, 1.0))
    segment: bool = setting(True, "let SAM cut out what is in the boxes")

    def region(self, request: Request) -> torch.Tensor:
        picture = request.picture
        boxes = self.parts.grounding_dino.boxes(picture, request.source, self.threshold)
        region = torch.zeros(picture.shape[1:])
        if not len(boxes):
            return region
        # SAM cuts out what is in each box; else the boxes themselves are the region.
        if self.segment:
            return self.parts.sam.mask(picture, boxes)
        # Whole pixels: every one that a box touches.
        for box in torch.cat([boxes[:, :2].floor(), boxes[:, 2:].ceil()], 1).tolist():
            region = torch.maximum(region, box_mask(box, *region.shape)[0])
        return region


@dataclass(frozen=True, eq=False)
class Sam3Region(_Region):
    """Where SAM 3 sees instances of the source, all of them."""

    threshold: float = setting(0.5, "least score of an instance (default: the model card's)", within=(0.0, 1.0))

    def region(self, request: Request) -> torch.Tensor:
        return self.parts.sam3.mask(request.picture, request.source, self.threshold)


@dataclass(frozen=True, eq=False)
class PatchSimilarity(_Region):
    """Where the profile's own CLIP finds patches like the source: the connected region around the most similar one."""

    path: str = setting("value", "'value' or 'last', see `Clip.patches`", options=("value", "last"))
    threshold: float = setting(
        0.5, "a pixel belongs to the region from this height on, between the lowest similarity (0) and the highest "
             "(1); chosen on validation scenes", within=(0.0, 1.0))

    def similarity(self, picture: torch.Tensor, text: str) -> torch.Tensor:
        """(3, S, S) → (S, S) cosines of the patches with the text, interpolated between their centres."""
        similar = self.models.clip.patches(picture, self.path) @ self.models.clip.encode_text([text])[0]
        return F.interpolate(similar[None, None], size=picture.shape[1:], mode="bilinear")[0, 0]

    def region(self, request: Request) -> torch.Tensor:
        similar = self.similarity(request.picture, request.source)
        # From 0 to 1 on this picture, because cosines lie close together.
        height = (similar - similar.min()) / (similar.max() - similar.min()).clamp(min=1e-9)
        # Of the pieces above the threshold, the one that holds the most similar pixel.
        pieces, _ = ndimage.label((height >= self.threshold).numpy())
        return torch.from_numpy(pieces == pieces.flat[int(height.argmax())]).float()
