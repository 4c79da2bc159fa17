"""Proposals, RoIAlign, sampled weights (notebook 03)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure

from lr_helpers.plots.charts import shades
from lr_helpers.plots.style import BLUE, HEAT, ORANGE, Picture, add_box, pixels


def principal_colours(features: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    """To look at features: their three principal components as red, green and blue.

    (d, h, w) → a function from any (d, a, b) to a picture (3, a, b) in 0..1, with the same colours for all.
    """
    flat = features.flatten(1).T
    mean = flat.mean(0)
    directions = torch.linalg.svd(flat - mean, full_matrices=False).Vh[:3]
    directions = directions * directions.sum(1, keepdim=True).sign()  # else their signs are chance
    seen = (flat - mean) @ directions.T
    low, high = (torch.quantile(seen, q, dim=0) for q in (0.02, 0.98))

    def colours(part: torch.Tensor) -> torch.Tensor:
        values = (part.flatten(1).T - mean) @ directions.T
        return ((values - low) / (high - low)).clamp(0, 1).T.reshape(-1, *part.shape[1:])

    return colours


def show_nested(picture: Picture, groups: Sequence[torch.Tensor], titles: Sequence[str]) -> Figure:
    """The picture once for each group of (M, 4) boxes, with all of these on it."""
    figure, grid = plt.subplots(1, len(groups), figsize=(3.1 * len(groups), 3.4), squeeze=False, layout="constrained")
    for axes, boxes, title in zip(grid[0], groups, titles, strict=True):
        axes.imshow(pixels(picture))
        for box, shade in zip(boxes.tolist(), shades(len(boxes)), strict=True):
            add_box(axes, box, shade)
        axes.set_title(title)
        axes.axis("off")
    return figure


def show_sampling(picture: Picture, tokens: Picture, box: Sequence[float], points: torch.Tensor) -> Figure:
    """A box on the picture and on its grid of tokens, with the points (l, l, 2), (x, y) in tokens, where it is read."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.2, 4.7), layout="constrained")
    shown = pixels(tokens)
    left.imshow(pixels(picture))
    add_box(left, box)
    left.set_title("the box on the picture")
    right.imshow(shown)
    rows, columns = shown.shape[:2]
    right.set_xticks(np.arange(columns + 1) - 0.5, minor=True)
    right.set_yticks(np.arange(rows + 1) - 0.5, minor=True)
    right.grid(which="minor", color="white", linewidth=0.4)
    right.tick_params(which="minor", length=0)
    scale = columns / pixels(picture).shape[1]
    add_box(right, [v * scale for v in box])
    right.scatter(points[..., 0], points[..., 1], s=16, color="white", edgecolor="black", linewidth=0.8)
    right.set(title=f"its {points.shape[0]} × {points.shape[1]} sampling points on the {rows} × {columns} tokens",
              xlabel="token, to the right", ylabel="token, downwards")
    left.axis("off")
    return figure


def show_reads(picture: Picture, reads: Sequence[torch.Tensor], titles: Sequence[str],
               boxes: torch.Tensor) -> Figure:
    """How often each token (h, w) is read, laid over the picture; `boxes` (M, 4) in pixels are where it was meant."""
    figure, grid = plt.subplots(1, len(reads), figsize=(4.2 * len(reads), 4.1), squeeze=False, layout="constrained")
    side = pixels(picture).shape[1]
    for axes, read, title in zip(grid[0], reads, titles, strict=True):
        axes.imshow(pixels(picture).mean(-1), cmap="gray", vmin=-0.3, vmax=1.3)
        heat = np.ma.masked_less_equal(read.detach().numpy(), 0)
        axes.imshow(heat, cmap=HEAT, alpha=0.75, extent=(-0.5, side - 0.5, side - 0.5, -0.5))
        for box in boxes.tolist():
            add_box(axes, box, ORANGE, 1.5, linestyle="--")
        axes.set_title(title)
        axes.axis("off")
    return figure


def show_temperatures(samples: dict[float, torch.Tensor], sizes: Sequence[float], rows: int = 24) -> Figure:
    """Soft samples (N, M) by temperature: some of them row by row, and below the mean size each one stands for."""
    figure, grid = plt.subplots(2, len(samples), figsize=(10, 5), sharey="row", layout="constrained",
                                gridspec_kw={"height_ratios": [1.2, 1]}, squeeze=False)
    for (temperature, soft), top, bottom in zip(samples.items(), *grid, strict=True):
        top.imshow(soft[:rows], cmap=HEAT, vmin=0, vmax=1, aspect="auto")
        top.set_title(f"temperature {temperature:g}")
        top.set_xticks(range(len(sizes)), [f"{s:.3g}" for s in sizes], rotation=90, fontsize=8)
        top.set_yticks([])
        mean = (soft @ torch.tensor(sizes, dtype=soft.dtype)).numpy()
        bins = np.linspace(min(sizes) - 0.03, max(sizes) + 0.03, 41)
        bottom.hist(mean, bins, weights=np.full(len(mean), 1 / len(mean)), color=BLUE)
        bottom.set_xlabel("Σ weight · side")
    grid[0, 0].set_ylabel("samples")
    grid[1, 0].set_ylabel("share of samples")
    figure.set_label("Soft samples as rows of weights over the sizes, and a histogram of the mean size of each, "
                     f"at the temperatures {', '.join(f'{t:g}' for t in samples)}")
    return figure


def show_generator(picture: Picture, boxes: torch.Tensor, weights: torch.Tensor, panels: dict[str, Picture]) -> Figure:
    """One anchor's (M, 4) proposals, their (M,) weights in the same colours, and any pictures beside them."""
    figure, grid = plt.subplots(1, 2 + len(panels), figsize=(10, 10 / (2 + len(panels)) + 0.5), layout="constrained")
    grid[0].imshow(pixels(picture))
    chosen = int(weights.argmax())
    for m, (box, shade) in enumerate(zip(boxes.tolist(), shades(len(boxes)), strict=True)):
        add_box(grid[0], box, shade, 4 if m == chosen else 1.5)
    grid[0].set_title(f"{len(boxes)} proposals")
    grid[1].bar(range(len(weights)), weights.detach(), color=shades(len(weights)))
    grid[1].set(title="weights", xlabel="proposal", ylim=(0, 1.02), box_aspect=0.85)
    for axes, (title, panel) in zip(grid[2:], panels.items(), strict=True):
        shown = pixels(panel)
        axes.imshow(shown, **({"cmap": "gray", "vmin": 0, "vmax": 1} if shown.shape[-1] == 1 else {}))
        axes.set_title(title)
    for axes in (grid[0], *grid[2:]):
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set(visible=True, color="#999999")  # else a white mask would run into the page
    return figure
