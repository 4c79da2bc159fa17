"""The judge: a small CNN that names the object in a box. It only measures; no method ever sees it."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

from lr_helpers.boxes import Box
from tiny_world import DATA, SIZE
from tiny_world.words import NAMES

CROP = 64
NOTHING = len(NAMES)
"""The class of a crop that shows no object."""


class Judge(nn.Module):
    """(N, 3, 64, 64) crops in 0..1 → (N, 51) logits over the object names and "nothing"."""

    def __init__(self) -> None:
        super().__init__()
        widths, layers = (3, 32, 64, 128, 192), []
        for i, (before, after) in enumerate(pairwise(widths)):
            layers += [nn.Conv2d(before, after, 5 if i == 0 else 3, stride=2, padding=2 if i == 0 else 1),
                       nn.GroupNorm(8, after), nn.SiLU(),
                       nn.Conv2d(after, after, 3, padding=1), nn.GroupNorm(8, after), nn.SiLU()]
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(widths[-1], len(NAMES) + 1)

    def forward(self, crops: torch.Tensor) -> torch.Tensor:
        seen = self.layers(crops * 2 - 1).mean((2, 3))
        return self.head(F.dropout(seen, 0.2, self.training))

    @torch.no_grad()
    def name(self, pictures: torch.Tensor, boxes: list[Box]) -> list[str]:
        """The judge's word for each box of each picture ((N, 3, H, W) in 0..1), or "nothing"; N may be 0."""
        if not boxes:
            return []
        crops = torch.stack([crop(p, b) for p, b in zip(pictures, boxes, strict=True)])
        words = (*NAMES, "nothing")
        return [words[i] for i in self(crops).argmax(1).tolist()]


def crop(picture: torch.Tensor, box: Box) -> torch.Tensor:
    """The square around `box` (its longer side, clamped to the picture), resized to 64×64."""
    side = min(max(box[2] - box[0], box[3] - box[1]), *picture.shape[1:])
    x = min(max((box[0] + box[2] - side) // 2, 0), picture.shape[2] - side)
    y = min(max((box[1] + box[3] - side) // 2, 0), picture.shape[1] - side)
    part = picture[None, :, y:y + side, x:x + side]
    return F.interpolate(part, size=CROP, mode="bilinear", align_corners=False, antialias=True)[0]


def load(folder: Path = DATA / "classifier") -> Judge:
    """The shipped judge, or the one stored in `folder`, ready to use."""
    judge = Judge().eval()
    judge.load_state_dict({k: v.float() for k, v in load_file(folder / "model.safetensors").items()})
    return judge


LOOKS = [(x, y, x + side, y + side) for side in (40, 48, 56, 64, 80, 96)
         for y in range(0, SIZE - side + 1, 8) for x in range(0, SIZE - side + 1, 8)]
SURE = 0.9
"""The judge counts as seeing an object somewhere if one of LOOKS gives it this probability."""


@torch.no_grad()
def sees(picture: torch.Tensor, name: str, judge: Judge) -> float:
    """The judge's highest probability of this object, over squares of all sizes and places of (3, 128, 128) in 0..1."""
    return float(judge(torch.stack([crop(picture, box) for box in LOOKS])).softmax(1)[:, NAMES.index(name)].max())


def overlap_share(inner: Box, outer: Box) -> float:
    """Share of `inner`'s area that lies in `outer`."""
    w = min(inner[2], outer[2]) - max(inner[0], outer[0])
    h = min(inner[3], outer[3]) - max(inner[1], outer[1])
    return max(w, 0) * max(h, 0) / ((inner[2] - inner[0]) * (inner[3] - inner[1]))
