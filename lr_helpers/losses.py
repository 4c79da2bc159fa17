"""The three losses (eq. 3-6), and ours. They take CLIP's outputs, so nothing is encoded here."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional as F

from lr_helpers.boxes import Box


def cosine_distance(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """D_cos = 1 − cos over the last axis, 0..2; broadcasts."""
    return 1 - F.cosine_similarity(a, b, dim=-1)


def clip_loss(edited: torch.Tensor, prompt: torch.Tensor) -> torch.Tensor:
    """L_Clip (eq. 3): how far the edit (N, D) is from the prompt (D,) → (N,) in 0..2."""
    return cosine_distance(edited, prompt)


def direction_loss(edited: torch.Tensor, image: torch.Tensor, source: torch.Tensor,
                   prompt: torch.Tensor) -> torch.Tensor:
    """L_Dir (eq. 5): did the picture change as the text did? Edits (N, D), the texts (D,), the picture (D,), or (N, D)
    where each edit has its own view of it → (N,) in 0..2.

    An edit that changes nothing, to the last digit, has no direction and gets 1.
    """
    return cosine_distance(edited - image, (prompt - source).expand_as(edited))


def source_loss(edited: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
    """Is the old object gone? cos of the edit (N, D) and the source text (D,) → (N,) in -1..1. Not in the paper."""
    return F.cosine_similarity(edited, source.expand_as(edited), dim=-1)


def occluded(image: torch.Tensor, boxes: Sequence[Box] | torch.Tensor) -> torch.Tensor:
    """`image` (3, H, W) with each of N boxes filled in from its border → (N, 3, H, W).

    A pixel inside becomes the mean of the four pixels just outside the box in its row and column, each weighed by
    1 / distance: the cheapest inpainting there is. A box that cuts an object keeps the object's colour, so hiding
    it hides little. Sides at the picture's edge have no such pixels; the whole picture becomes its mean colour.
    """
    filled = image.repeat(len(boxes), 1, 1, 1)
    h, w = image.shape[1:]
    for picture, box in zip(filled, boxes, strict=True):
        x0, y0, x1, y1 = (int(v) for v in box)
        right, down = torch.arange(x1 - x0) + 1.0, torch.arange(y1 - y0)[:, None] + 1.0
        borders = [  # colours, distance of each pixel from them
            (x0 > 0, image[:, y0:y1, x0 - 1:x0], right), (x1 < w, image[:, y0:y1, x1:x1 + 1], right.flip(0)),
            (y0 > 0, image[:, y0 - 1:y0, x0:x1], down), (y1 < h, image[:, y1:y1 + 1, x0:x1], down.flip(0))]
        inside = [(colours, 1 / distance) for there, colours, distance in borders if there]
        if inside:
            picture[:, y0:y1, x0:x1] = sum(c * v for c, v in inside) / sum(v for _, v in inside)
        else:
            picture[:] = image.mean((1, 2))[:, None, None]
    return filled


def occlusion_loss(hidden: torch.Tensor, image: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
    """Does hiding a box take the source away? Occluded pictures (N, D), the rest (D,) → (N,) in 0..2.

    1 − cos(E(picture) − E(picture with the box hidden), E(source text)): occlusion sensitivity (Zeiler & Fergus
    2014) along the text. It says where the source is without one edit. Not in the paper.
    """
    return cosine_distance(image - hidden, source.expand_as(hidden))


def patches_loss(similarity: torch.Tensor, boxes: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
    """Does a box hold what looks like the source, and nothing else? (h, w) cosines of the patches with the source text;
    boxes (..., 4) in pixels of a picture of this (height, width) → (...) of about −1..1.

    −Σ (z − 0.4) over the box's pixels, as a share of the picture; z: the cosines in standard deviations from the
    picture's mean, so the scale of CLIP counts nothing. A box gains by what stands out and pays for all else: sums of
    patch weights find objects (Lampert et al. 2008, efficient subwindow search). Not in the paper.
    """
    height, width = shape
    z = F.interpolate(standardised(similarity)[None, None].double(), size=shape, mode="bilinear")[0, 0]
    # With sums over all boxes that begin in the corner, each box takes four look-ups.
    sums = F.pad((z - STANDS_OUT).cumsum(0).cumsum(1), (1, 0, 1, 0))
    x0, y0, x1, y1 = boxes.long().unbind(-1)
    inside = sums[y1, x1] - sums[y0, x1] - sums[y1, x0] + sums[y0, x0]
    return -(inside / (height * width)).float()


STANDS_OUT = 0.4
"""From how many deviations on a patch counts for a box, chosen on validation scenes. With 0.5 boxes are tighter, which
finds as many regions, but leaves more of the object beside the box."""

SHARES = ("area",)
"""Terms that are shares of the picture: of no model's scale, so they are never standardised."""


def standardised(values: torch.Tensor, among: torch.Tensor | None = None,
                 dim: int | tuple[int, ...] | None = None) -> torch.Tensor:
    """Values, of any shape, in standard deviations from their mean: over all of them, or along `dim`; or both are those
    of `among`, without its NaNs. Equal values become 0; NaN stays NaN.

    So a model's own scale, which differs between CLIPs, weighs nothing. Not in the paper.
    """
    if dim is not None:
        mean, deviation = values.mean(dim, keepdim=True), values.std(dim, keepdim=True, correction=0)
        return (values - mean) / (deviation + 1e-6)
    known = values if among is None else among
    known = known[~known.isnan()]
    if not len(known):
        return values
    return (values - known.mean()) / (known.std(correction=0) + 1e-6)


def self_similarity(tokens: torch.Tensor) -> torch.Tensor:
    """Q: cosine similarity of all pairs of visual tokens, (N, L, d) → (N, L, L)."""
    unit = F.normalize(tokens, dim=-1)
    return unit @ unit.transpose(-1, -2)


def structure_loss(edited: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
    """L_Str (eq. 4): change of the self-similarity, tokens (N, L, d) against (L, d) or (N, L, d) → (N,).

    The paper's ‖·‖₂ grows with the number of tokens; divided by L it is the root mean square over the
    pairs, so that a weight means the same on 64 tokens as on 196.
    """
    difference = self_similarity(edited) - self_similarity(image if image.dim() == 3 else image[None])
    return torch.linalg.matrix_norm(difference) / difference.shape[-1]


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
