"""The final choice among the edited pictures (eq. 7), and the official code's version of it."""

from __future__ import annotations

import torch
from torch.nn import functional as F


def score(edited: torch.Tensor, image: torch.Tensor, prompt: torch.Tensor, alpha: float = 2.0,
          beta: float = 1.0) -> torch.Tensor:
    """S = α·cos(edit, prompt) + β·cos(edit, image); edits (N, D), the rest (D,) → (N,); higher is better."""
    return alpha * F.cosine_similarity(edited, prompt, dim=-1) + beta * F.cosine_similarity(edited, image, dim=-1)


def softmax_score(text: torch.Tensor, image: torch.Tensor, alpha: float = 2.0, beta: float = 1.0) -> torch.Tensor:
    """What the official code ranks by: (N,) similarities to the prompt and to the source picture → (N,).

    Both are softmaxed over the candidates before they are weighed, and only the three nearest to the text can
    win: the others come after them all, in the order of the same sum.
    """
    total = alpha * text.softmax(0) + beta * image.softmax(0)
    nearest = torch.zeros_like(total).scatter_(0, text.topk(min(3, len(text))).indices, 1.0)
    return total + nearest * (alpha + beta + 1)  # more than any sum
