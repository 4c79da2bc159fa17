"""The box generator: proposals around anchors, their pooled features, and the network that scores them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn
from torchvision.ops import roi_align

from lr_helpers.boxes import Size, height_width, square_around
from lr_helpers.errors import UserError
from lr_helpers.files.writing import write_bytes


def proposals(centres: torch.Tensor, sizes: Sequence[float], size: Size) -> torch.Tensor:
    """M squares of growing side around each of K centres (section 3.2).

    `centres` (K, 2) as (x, y) in pixels; `sizes` sides as shares of the picture's shorter side; `size` of the picture
    in pixels, the side of a square or (height, width) → (K, M, 4) int64 boxes (x0, y0, x1, y1), clamped to the picture.
    """
    shorter = min(height_width(size))
    boxes = [[square_around(x, y, share * shorter, size) for share in sizes] for x, y in centres.tolist()]
    return torch.tensor(boxes, dtype=torch.int64)


def pool_proposals(features: torch.Tensor, boxes: torch.Tensor, size: Size, side: int,
                   scale: float = 1.0) -> torch.Tensor:
    """RoIAlign of each proposal, the M results of an anchor side by side in the channels.

    `features` (d, h, w), `boxes` (K, M, 4) in pixels of a picture of this size (the side of a square, or (height,
    width)) → (K, M·d, side, side).
    `scale` multiplies the boxes' coordinates first; 1/8 repeats a defect of the official code, which scales boxes
    that are in patches already and so pools another place.
    """
    k, m = boxes.shape[:2]
    (h, w), (height, width) = features.shape[1:], height_width(size)
    to_grid = torch.tensor([scale * w / width, scale * h / height] * 2)
    pooled = roi_align(features[None], [boxes.reshape(-1, 4).to(features) * to_grid], output_size=side,
                       sampling_ratio=2, aligned=True)
    return pooled.reshape(k, m * features.shape[0], side, side)


def standardise(pooled: torch.Tensor) -> torch.Tensor:
    """Pooled features (K, C, l, l) with mean 0 and deviation 1 over the K anchors.

    What all anchors share says nothing about where they differ, yet it dominates the raw features: the
    network then learns one size for all and its softmax saturates before it can tell them apart.
    """
    if len(pooled) == 1:
        return pooled
    return (pooled - pooled.mean(0)) / (pooled.std(0, correction=0) + 1e-5)


def gumbel_softmax(logits: torch.Tensor, temperature: float, uniform: torch.Tensor) -> torch.Tensor:
    """A soft sample from the categorical distribution with these logits (section 3.2; Jang et al. 2017).

    `logits` (..., M), `uniform` random numbers in 0..1 of the same shape (given, so that the result can be
    repeated), `temperature` > 0 → (..., M), each row in 0..1 with sum 1. The position of its largest value
    follows softmax(logits) at every temperature; towards 0 the row becomes one-hot, towards ∞ even.
    Differentiable in the logits. Raises UserError for a temperature that is not above 0 or other shapes.
    """
    if not temperature > 0:
        raise UserError(f"temperature is {temperature}; give a number above 0.")
    if uniform.shape != logits.shape:
        raise UserError(f"uniform has the shape {tuple(uniform.shape)}, the logits have {tuple(logits.shape)}; "
                        "give one random number for each logit.")
    limits = torch.finfo(logits.dtype)
    gumbel = -(-uniform.to(logits).clamp(limits.tiny, 1 - limits.eps).log()).log()
    noisy = logits + gumbel
    # The largest value becomes 0 before the division, so that no temperature makes it overflow.
    return ((noisy - noisy.detach().amax(-1, keepdim=True)) / temperature).softmax(-1)


def straight_through(soft: torch.Tensor) -> torch.Tensor:
    """Forward the one-hot of the largest value, backward the gradient of `soft` (section 3.2).

    (..., M) → (..., M), exactly 0 and 1; among equal values the first wins.
    """
    hard = torch.zeros_like(soft).scatter_(-1, soft.argmax(-1, keepdim=True), 1.0)
    return hard + (soft - soft.detach())  # in this order: x − x is exactly 0


def region_mask(weights: torch.Tensor, boxes: torch.Tensor, size: Size) -> torch.Tensor:
    """The weighted sum of the boxes' masks, Σ_m w_m · mask_m; differentiable in the weights.

    `weights` (..., M), `boxes` (..., M, 4) in pixels of a picture of this size (the side of a square, or (height,
    width)), end exclusive → (..., 1, height, width); in 0..1 if the weights of a row are not negative and sum to 1.
    One-hot weights give the mask of that box. Raises UserError if there isn't one box for each weight.
    """
    if weights.shape[-1:] != boxes.shape[-2:-1] or boxes.shape[-1] != 4:
        raise UserError(f"weights have the shape {tuple(weights.shape)}, boxes {tuple(boxes.shape)}; "
                        "give one box of four numbers for each weight.")
    height, width = height_width(size)
    x, y = torch.arange(width, device=weights.device), torch.arange(height, device=weights.device)
    x0, y0, x1, y1 = boxes.to(weights.device).unsqueeze(-1).unbind(-2)
    columns, rows = (x0 <= x) & (x < x1), (y0 <= y) & (y < y1)
    mask = torch.einsum("...m,...my,...mx->...yx", weights, rows.to(weights), columns.to(weights))
    return mask.unsqueeze(-3)


class RegionNetwork(nn.Module):
    """The region generation network (eq. 1): two convolutions and two linear layers, ReLU between.

    (K, M·d, l, l) pooled proposals → (K, M) logits π; their softmax over M scores the proposals (eq. 2).
    """

    def __init__(self, proposals: int, channels: int, pool: int, hidden: int = 32):
        super().__init__()
        self.settings = {"proposals": proposals, "channels": channels, "pool": pool, "hidden": hidden}
        self.layers = nn.Sequential(
            nn.Conv2d(proposals * channels, hidden, 1), nn.ReLU(),
            nn.Conv2d(hidden, hidden // 2, 1), nn.ReLU(), nn.Flatten(),
            nn.Linear(hidden // 2 * pool * pool, hidden), nn.ReLU(),
            nn.Linear(hidden, proposals))

    def forward(self, pooled: torch.Tensor) -> torch.Tensor:
        return self.layers(pooled)

    def save(self, path: str | Path) -> None:
        """Weights and settings as one safetensors file, written atomically."""
        write_bytes(Path(path), self.to_bytes())

    def to_bytes(self) -> bytes:
        """What `save` writes."""
        state = {k: v.detach().cpu().contiguous() for k, v in self.state_dict().items()}
        settings = {k: torch.tensor(v) for k, v in self.settings.items()}
        return save({**state, **{f"settings.{k}": v for k, v in settings.items()}})

    @classmethod
    def load(cls, path: str | Path) -> RegionNetwork:
        """What `save` wrote; raises UserError if the file is missing, damaged or something else."""
        try:
            state = load_file(path)
            stored = [k for k in state if k.startswith("settings.")]
            settings = {k.removeprefix("settings."): int(state.pop(k)) for k in stored}
            network = cls(**settings)
            network.load_state_dict(state)
        except (OSError, SafetensorError, TypeError, RuntimeError) as error:
            raise UserError(f"{path} is not a stored region network; give a region_network.safetensors "
                            "that an edit has written.") from error
        return network
