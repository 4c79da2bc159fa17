"""One blending for whoever edited: outlines and softness that give an editor away are gone, what was changed stays.

A region editor pastes a box, which leaves a hard outline; an editor without a region returns a copy by its
autoencoder, in which all is a little softer than it was. Both betray who made a picture. `blend` starts from the two
pictures alone, so it can't know the editor: the edit counts where it really differs from what was there, the picture
itself counts everywhere else, and between them the edit fades out.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage

from lr_helpers.inpainting import composite

TOLERANCE = 0.24
"""What differs by less, in the channel that differs most and averaged over `WIDTH`, is taken for a copy. Values lie in
0..1. Chosen on 60 validation scenes: the autoencoder's copy of an untouched picture stays below it in 56 of them."""
WIDTH = 1 / 64
"""Standard deviation of the averaging, as a share of the picture's shorter side."""
SPECK = 1 / 32
"""Places narrower than this share of the side are specks, and are dropped."""
FADE = 1 / 16
"""Within this share of the side, outside what differs, the edit fades out."""


def weight(before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    """Two pictures (3, H, W) in 0..1 → how much of the second counts: (H, W) in 0..1, 1 where it was edited."""
    side = min(before.shape[1:])
    difference = (after - before).abs().amax(0).numpy()
    edited = ndimage.gaussian_filter(difference, WIDTH * side) > TOLERANCE
    # Lone pixels along an outline are the autoencoder's, not an edit.
    edited = ndimage.binary_opening(edited, np.ones((2, 2)), iterations=max(1, round(SPECK * side / 2)))
    if not edited.any():
        return torch.zeros(before.shape[1:])
    far = ndimage.distance_transform_edt(~edited) / (FADE * side)
    return torch.from_numpy(np.clip(1 - far, 0, 1)).float()


def blend(before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    """An edit (3, H, W) in 0..1 of the picture `before`, as voters see it. Raises ValueError for other shapes."""
    if before.shape != after.shape:
        raise ValueError(f"the edit has the shape {tuple(after.shape)}, its picture {tuple(before.shape)}")
    return composite(after, before, weight(before, after)[None])
