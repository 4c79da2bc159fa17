"""The three losses (eq. 3-6), and one of ours. All take CLIP's outputs, so nothing is encoded here."""

from __future__ import annotations

import torch
from torch.nn import functional as F


def cosine_distance(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """D_cos = 1 − cos over the last axis, 0..2; broadcasts."""
    return 1 - F.cosine_similarity(a, b, dim=-1)


def clip_loss(edited: torch.Tensor, prompt: torch.Tensor) -> torch.Tensor:
    """L_Clip (eq. 3): how far the edit (N, D) is from the prompt (D,) → (N,) in 0..2."""
    return cosine_distance(edited, prompt)


def direction_loss(edited: torch.Tensor, image: torch.Tensor, prompt: torch.Tensor,
                   source: torch.Tensor) -> torch.Tensor:
    """L_Dir (eq. 5): did the picture change as the text did? Edits (N, D), the rest (D,) → (N,) in 0..2.

    An edit that changes nothing, to the last digit, has no direction and gets 1.
    """
    return cosine_distance(edited - image, (prompt - source).expand_as(edited))


def source_loss(edited: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
    """Is the old object gone? cos of the edit (N, D) and the source text (D,) → (N,) in -1..1. Not in the paper."""
    return F.cosine_similarity(edited, source.expand_as(edited), dim=-1)


def self_similarity(tokens: torch.Tensor) -> torch.Tensor:
    """Q: cosine similarity of all pairs of visual tokens, (N, L, d) → (N, L, L)."""
    unit = F.normalize(tokens, dim=-1)
    return unit @ unit.transpose(-1, -2)


def structure_loss(edited: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
    """L_Str (eq. 4): change of the self-similarity, tokens (N, L, d) against (L, d) → (N,).

    The paper's ‖·‖₂ grows with the number of tokens; divided by L it is the root mean square over the
    pairs, so that a weight means the same on 64 tokens as on 196.
    """
    difference = self_similarity(edited) - self_similarity(image[None])
    return torch.linalg.matrix_norm(difference) / difference.shape[-1]
