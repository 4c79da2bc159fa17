"""The final choice among the edited pictures (eq. 7)."""

from __future__ import annotations

import torch
from torch.nn import functional as F


def score(edited: torch.Tensor, image: torch.Tensor, prompt: torch.Tensor, alpha: float = 2.0,
          beta: float = 1.0) -> torch.Tensor:
    """S = α·cos(edit, prompt) + β·cos(edit, image); edits (N, D), the rest (D,) → (N,); higher is better."""
    return alpha * F.cosine_similarity(edited, prompt, dim=-1) + beta * F.cosine_similarity(edited, image, dim=-1)
