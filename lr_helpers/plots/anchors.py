"""Attention and anchor points (notebook 02)."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure

from lr_helpers.plots.style import BLUE, HEAT, ORANGE, Picture, add_box, pixels, show_pictures


def add_anchors(axes: plt.Axes, centres: torch.Tensor, colour: str = ORANGE) -> None:
    """Numbered points (K, 2) as (x, y) in pixels of the picture on these axes; 0 is the most attended."""
    for i, (x, y) in enumerate((centres - 0.5).tolist()):  # pixel i is drawn from i - 0.5 to i + 0.5
        axes.scatter(x, y, s=62, color=colour, edgecolor="white", linewidth=0.9, zorder=3)
        axes.annotate(str(i), (x, y), ha="center", va="center_baseline", color="white", fontsize=6, zorder=4)


def show_anchors(pictures: Sequence[Picture], anchors: Sequence[torch.Tensor], titles: Sequence[str],
                 boxes: Sequence[torch.Tensor], columns: int = 4, side: float = 2.4) -> Figure:
    """Pictures with their anchors, (K, 2) centres (x, y) in pixels, and their known boxes (N, 4)."""
    figure = show_pictures(pictures, titles, columns, side=side)
    for axes, points, known in zip(figure.axes, anchors, boxes, strict=False):
        for box in known.tolist():
            add_box(axes, box, BLUE, linestyle="--")
        add_anchors(axes, points)
    return figure


def heat_picture(values: torch.Tensor, size: int) -> torch.Tensor:
    """(h, w) values ≥ 0, the highest brightest, as a (3, size, size) picture in the colours of the heat maps."""
    colours = torch.tensor(plt.get_cmap(HEAT)(values / values.max())[..., :3])
    return torch.nn.functional.interpolate(colours.permute(2, 0, 1)[None], size=(size, size))[0]


def show_heads(picture: Picture, attention: torch.Tensor, anchors: Sequence[torch.Tensor] = (),
               columns: int = 6) -> Figure:
    """The picture, the attention (heads, h, w) of each head, and their mean, side by side.

    `anchors`: (K, 2) rows and columns to mark, one tensor for each head and one for the mean.
    """
    maps = {f"head {i}": head for i, head in enumerate(attention)} | {"mean of the heads": attention.mean(0)}
    columns = min(columns, len(maps) + 1)
    rows = -(-(len(maps) + 1) // columns)
    figure, grid = plt.subplots(rows, columns, figsize=(10, rows * (10 / columns + 0.25)), squeeze=False,
                                layout="constrained")
    for axes in grid.flat:
        axes.axis("off")
    grid.flat[0].imshow(pixels(picture))
    grid.flat[0].set_title("picture")
    for i, (axes, (title, values)) in enumerate(zip(grid.flat[1:], maps.items(), strict=False)):
        axes.imshow(values, cmap=HEAT)
        axes.set_title(title)
        if len(anchors):
            axes.scatter(anchors[i][:, 1], anchors[i][:, 0], s=26, facecolor="none", edgecolor="#ff7f0e", linewidth=1.4)
    return figure
