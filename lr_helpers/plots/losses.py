"""Tables of losses beside the edits they prefer (notebook 04)."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure

from lr_helpers.plots.charts import show_table
from lr_helpers.plots.style import BLUE, HEAT, ORANGE, Picture, add_box, pixels


def show_extremes(table: torch.Tensor, sizes: Sequence[float], edits: torch.Tensor, boxes: torch.Tensor, title: str,
                  count: int = 2, high: bool = False) -> Figure:
    """A (K, M) table as a heat map, and beside it the `count` best and worst of its edits (K, M, 3, S, S).

    Low values are good, or high ones if `high`. `boxes` (K, M, 4) in pixels; edits that share a box are shown once.
    """
    k, m = table.shape
    order, seen = [], set()
    for i in table.flatten().argsort(descending=high, stable=True).tolist():
        box = tuple(boxes[i // m, i % m].tolist())
        if box not in seen:
            seen.add(box)
            order.append((i // m, i % m))
    figure = plt.figure(figsize=(7.8, 3.8), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1, 0.9))
    axes = left.subplots()
    show_table(table, sizes, title, axes)
    grid = right.subplots(2, count, squeeze=False)
    for row, picks, colour, name, mark in ((grid[0], order[:count], BLUE, "best", "o"),
                                           (grid[1], order[:-count - 1:-1], ORANGE, "worst", "s")):
        for rank, (panel, (a, b)) in enumerate(zip(row, picks, strict=False), 1):
            panel.imshow(pixels(edits[a, b]))
            add_box(panel, boxes[a, b], colour)
            panel.set_title(f"{name} {rank}: {table[a, b]:.2f}\nanchor {a}, side {sizes[b]:.2g}", fontsize=9)
            panel.axis("off")
            axes.scatter(b, a, s=95, marker=mark, color=colour, edgecolor="white", linewidth=1)
            axes.annotate(str(rank), (b, a), ha="center", va="center_baseline", color="white", fontsize=7)
    names = [f"anchor {a} side {sizes[b]:.2g}" for a, b in order]
    figure.set_label(f"Heat map of {title} over {k} anchors and {m} sizes, beside it its {count} best edits, "
                     f"{', '.join(names[:count])}, and its {count} worst, {', '.join(names[:-count - 1:-1])}")
    return figure


def show_panels(panels: dict[str, Picture], boxes: dict[str, Sequence[float]] | None = None) -> Figure:
    """Pictures (3, H, W) and matrices (H, W) in one row; matrices as heat maps with their scale."""
    figure, grid = plt.subplots(1, len(panels), figsize=(10, 10 / len(panels) + 0.5), squeeze=False,
                                layout="constrained")
    for axes, (title, panel) in zip(grid[0], panels.items(), strict=True):
        if panel.ndim == 2:
            shown = axes.imshow(panel, cmap=HEAT)
            figure.colorbar(shown, ax=axes, location="bottom", shrink=0.85)
        else:
            axes.imshow(pixels(panel))
        if boxes and title in boxes:
            add_box(axes, boxes[title], BLUE)
        axes.set_title(title)
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    return figure


def show_choice(table: torch.Tensor, sizes: Sequence[float], choice: torch.Tensor, edit: Picture,
                box: Sequence[float]) -> Figure:
    """A (K, M) table of losses with each anchor's choice (K,) ringed, and beside it one edit with its box."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 3.7), layout="constrained")
    show_table(table, sizes, "weighted sum of the losses", left, choice.tolist())
    right.imshow(pixels(edit))
    add_box(right, box)
    right.axis("off")
    return figure
