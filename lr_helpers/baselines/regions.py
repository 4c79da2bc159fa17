"""A region, found without any edit, then one edit inside it by the profile's editor, pasted back."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field

import torch
from scipy import ndimage
from torch.nn import functional as F

from lr_helpers.baselines.base import Baseline
from lr_helpers.boxes import box_mask
from lr_helpers.errors import UserError
from lr_helpers.inpainting import composite
from lr_helpers.method import check_range

SHAPES = ("box", "mask")


def bounding_box(mask: torch.Tensor) -> torch.Tensor:
    """(S, S), 0 outside → (S, S), 1 in the smallest box around what is not 0; zeros stay zeros."""
    if not mask.any():
        return torch.zeros(mask.shape)
    rows, columns = (mask.any(axis).nonzero()[:, 0] for axis in (1, 0))
    box = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
    return box_mask(box, *mask.shape)[0]


@dataclass(frozen=True, eq=False)
class _Region(Baseline):
    """One edit inside `region`. Where nothing is found, nothing is edited: the picture stays as it is."""

    shape: str = field(default="box", metadata={
        "help": "what is edited: 'box', the smallest around what was found (the paper's regions are boxes), or 'mask'"})

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.shape not in SHAPES:
            raise UserError(f"shape is {self.shape!r}; choose one of {', '.join(SHAPES)}.")

    @abstractmethod
    def region(self, image: torch.Tensor, caption: str) -> torch.Tensor:
        """What the caption names: (3, S, S) → (S, S), 1 there, else 0."""

    def _edit(self, image: torch.Tensor, caption: str, prompt: str, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        mask = self.region(image, caption).float()
        if self.shape == "box":
            mask = bounding_box(mask)
        if not mask.any():
            return image, mask
        frame = self.models.editor.inpaint(image, mask[None, None], prompt, seed=seed, steps=self._steps)[0]
        return composite(frame, image, mask[None]), mask


@dataclass(frozen=True, eq=False)
class WholePicture(_Region):
    """Inpainting with a mask of everything: the editor never sees the picture. The floor of all regions."""

    def region(self, image: torch.Tensor, caption: str) -> torch.Tensor:
        return torch.ones(image.shape[1:])


@dataclass(frozen=True, eq=False)
class KnownRegion(_Region):
    """Inpainting where the truth is known: the ceiling of all regions. Give a `box`, or any `known` mask."""

    box: tuple[int, int, int, int] | None = field(default=None, metadata={"help": "(x0, y0, x1, y1) in pixels"})
    known: torch.Tensor | None = field(default=None, repr=False, metadata={
        "help": "(S, S), 1 where to edit, else 0; edited as it is unless shape is 'box'"})
    shape: str = field(default="mask", metadata={"help": "'mask': as it is given, or 'box': the smallest around it"})

    def __post_init__(self) -> None:
        super().__post_init__()
        size = self.models.profile.size
        if (self.box is None) == (self.known is None):
            raise UserError("The known region is missing, or given twice; give box=(x0, y0, x1, y1) or known=mask.")
        if self.box is not None and not (len(self.box) == 4 and 0 <= self.box[0] < self.box[2] <= size
                                         and 0 <= self.box[1] < self.box[3] <= size):
            raise UserError(f"box is {tuple(self.box)}; give 0 ≤ x0 < x1 ≤ {size} and 0 ≤ y0 < y1 ≤ {size}.")
        if self.known is not None and self.known.shape != (size, size):
            raise UserError(f"known has the shape {tuple(self.known.shape)}; give a mask of ({size}, {size}).")

    def region(self, image: torch.Tensor, caption: str) -> torch.Tensor:
        if self.box is not None:
            return box_mask(self.box, *image.shape[1:])[0]
        return (self.known > 0.5).float()


@dataclass(frozen=True, eq=False)
class ClipSegRegion(_Region):
    """Where CLIPSeg sees the caption: the closest peer of learned regions."""

    threshold: float = field(default=0.4, metadata={"help": "a pixel belongs to the region above this probability"})

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("threshold", self.threshold, 0.0, 1.0)

    def region(self, image: torch.Tensor, caption: str) -> torch.Tensor:
        return self.parts.clipseg.heat(image, caption) > self.threshold


@dataclass(frozen=True, eq=False)
class GroundedRegion(_Region):
    """Where Grounding DINO detects the caption; with `segment`, what SAM finds in these boxes. All boxes count."""

    threshold: float = field(default=0.25, metadata={"help": "least score of a box (default: the processor's)"})
    segment: bool = field(default=True, metadata={"help": "let SAM cut out what is in the boxes"})

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("threshold", self.threshold, 0.0, 1.0)

    def region(self, image: torch.Tensor, caption: str) -> torch.Tensor:
        boxes = self.parts.grounding_dino.boxes(image, caption, self.threshold)
        if not len(boxes):
            return torch.zeros(image.shape[1:])
        if self.segment:
            return self.parts.sam.mask(image, boxes)
        low, high = boxes[:, :2].floor(), boxes[:, 2:].ceil()
        return torch.stack([box_mask(box, *image.shape[1:])[0] for box in torch.cat([low, high], 1).tolist()]).amax(0)


@dataclass(frozen=True, eq=False)
class PatchSimilarity(_Region):
    """Where the profile's own CLIP finds patches like the caption: the connected region around the most similar one."""

    path: str = field(default="value", metadata={"help": "'value' or 'last', see `Clip.patches`"})
    threshold: float = field(default=0.5, metadata={
        "help": "a pixel belongs to the region from this height on, between the lowest similarity (0) and the highest "
                "(1); chosen on validation scenes"})

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("threshold", self.threshold, 0.0, 1.0)
        if self.path not in ("value", "last"):
            raise UserError(f"path is {self.path!r}; choose 'value' or 'last'.")

    def similarity(self, image: torch.Tensor, caption: str) -> torch.Tensor:
        """(3, S, S) → (S, S) cosines of the patches with the caption, interpolated between their centres."""
        similar = self.models.clip.patches(image, self.path) @ self.models.clip.encode_text([caption])[0]
        return F.interpolate(similar[None, None], size=image.shape[1:], mode="bilinear")[0, 0]

    def region(self, image: torch.Tensor, caption: str) -> torch.Tensor:
        similar = self.similarity(image, caption)
        height = (similar - similar.min()) / (similar.max() - similar.min()).clamp(min=1e-9)
        pieces, _ = ndimage.label((height >= self.threshold).numpy())
        return torch.from_numpy(pieces == pieces.flat[int(height.argmax())]).float()
