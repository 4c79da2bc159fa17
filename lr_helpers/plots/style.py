"""The one style, alternative text, and grids of pictures."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

# Okabe and Ito's palette.
BLUE, ORANGE, GREEN, PURPLE, BLACK = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#222222"
LOOKS = ((BLUE, "o"), (ORANGE, "s"), (GREEN, "D"), (PURPLE, "^"), (BLACK, "v"))
"""Colour and marker of a figure's groups, in this order."""
HEAT = "viridis"

STYLE = {"figure.dpi": 100, "figure.facecolor": "white", "savefig.facecolor": "white", "font.size": 10,
         "axes.titlesize": 10, "axes.spines.top": False, "axes.spines.right": False, "image.interpolation": "nearest"}
plt.rcParams.update(STYLE)

Picture = torch.Tensor | np.ndarray | Image.Image


def looks(count: int) -> tuple[tuple[str, str], ...]:
    """Colour and marker of so many groups. Raises ValueError for more than can be told apart: none is left out."""
    if count > len(LOOKS):
        raise ValueError(f"{count} groups can't be told apart in one figure, {len(LOOKS)} at most; draw several.")
    return LOOKS[:count]


def describe(figure: Figure) -> str:
    """Alternative text of a figure: its label if `figure.set_label` gave one, else what its titles, axes and legends
    say. It is never empty.
    """
    if figure.get_label():
        return str(figure.get_label())
    parts = [figure.get_suptitle()]
    for axes in figure.axes:
        names = [axes.get_title(), *(f"{n}: {t}" for n, t in (("x", axes.get_xlabel()), ("y", axes.get_ylabel())) if t)]
        _, series = axes.get_legend_handles_labels()
        if series:
            names.append(f"of {', '.join(dict.fromkeys(series))}")
        parts.append(", ".join(n for n in names if n))
    said = " | ".join(" ".join(p.split()) for p in parts if p)
    pictures = sum(bool(axes.images) for axes in figure.axes)
    return said or (f"{pictures} picture{'s' * (pictures != 1)}" if pictures else "a chart without titles")


def _describe_figures() -> None:
    """Let figures in notebooks carry their alternative text, which Jupyter, nbconvert and our report show."""
    from IPython import get_ipython

    shell = get_ipython()
    if shell is None:
        return
    plt.switch_backend(plt.get_backend())  # the inline backend sets its own formatter when it starts, so start it first
    formatter = shell.display_formatter.formatters["image/png"]
    plain = formatter.type_printers.get(Figure)
    if plain is None or getattr(plain, "described", False):
        return

    def described(figure: Figure):
        data = plain(figure)
        return data if data is None else (data, {"alt": describe(figure)})

    described.described = True
    formatter.for_type(Figure, described)


_describe_figures()


def pixels(picture: Picture) -> np.ndarray:
    """(3, H, W) in 0..1, (H, W, 3) uint8 or a PIL image → what matplotlib draws."""
    if isinstance(picture, torch.Tensor):
        return picture.detach().float().cpu().clamp(0, 1).permute(1, 2, 0).numpy()
    return np.asarray(picture)


def add_box(axes: plt.Axes, box: Sequence[float], colour: str = ORANGE, width: float = 2.0, **style) -> None:
    """Outline a box (x0, y0, x1, y1), in pixels of the picture on these axes."""
    x0, y0, x1, y1 = (float(v) for v in box)
    # Pixel i is drawn from i - 0.5 to i + 0.5.
    axes.add_patch(Rectangle((x0 - 0.5, y0 - 0.5), x1 - x0, y1 - y0, fill=False, edgecolor=colour,
                             linewidth=width, clip_on=False, **style))


def show_pictures(pictures: Sequence[Picture], titles: Sequence[str] | None = None, columns: int = 6,
                  boxes: Sequence[Sequence[float] | None] | None = None, side: float = 1.8,
                  colours: Sequence[str] | None = None) -> Figure:
    """A grid of pictures with optional titles and one box each."""
    count = len(pictures)
    columns = min(columns, count)
    rows = -(-count // columns)
    extra = 0.45 if titles else 0.1
    figure, grid = plt.subplots(rows, columns, figsize=(columns * side, rows * (side + extra)), squeeze=False,
                                layout="constrained")
    for i, axes in enumerate(grid.flat):
        axes.axis("off")
        if i >= count:
            continue
        axes.imshow(pixels(pictures[i]))
        if titles:
            axes.set_title(titles[i])
        if boxes is not None and boxes[i] is not None:
            add_box(axes, boxes[i], colours[i] if colours else ORANGE)
    return figure
