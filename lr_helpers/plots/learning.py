"""Gradients, and boxes that move while they are learned (notebook 05)."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure

from lr_helpers.plots.charts import shades
from lr_helpers.plots.style import BLACK, BLUE, GREEN, ORANGE, PURPLE, Picture, add_box, pixels


def show_chain(stations: dict[str, float | None]) -> Figure:
    """The way from the network to the loss, and what each station's gradient is worth when it is back at the network.

    A number above 0: it arrives; 0: connected, but dead; None: cut off.
    """
    figure, axes = plt.subplots(figsize=(10, 1.5), layout="constrained")
    said = []
    for i, (name, value) in enumerate(stations.items()):
        colour, text = (ORANGE, "cut off") if value is None else (BLUE, "arrives") if value else (PURPLE, "exactly 0")
        axes.text(i, 0.62, name, ha="center", va="center", color="white", fontsize=9, linespacing=1.3,
                  bbox={"boxstyle": "round,pad=0.5", "facecolor": colour, "edgecolor": "none"})
        axes.text(i, 0.08, text, ha="center", va="center", color=colour, fontsize=9)
        if i:
            style = {"arrowstyle": "->", "color": BLACK if value is not None else ORANGE,
                     "linestyle": "-" if value is not None else ":"}
            axes.annotate("", (i - 0.4, 0.62), (i - 0.6, 0.62), arrowprops=style)
        said.append(f"{' '.join(name.split())}: {text}")
    axes.set(xlim=(-0.5, len(stations) - 0.5), ylim=(0, 1), title="does this station's gradient reach the network?")
    axes.axis("off")
    figure.set_label("From the network to the loss, does the gradient reach the network? " + ", ".join(said))
    return figure


def show_gradient_norms(norms: dict[str, dict[str, float | None]]) -> Figure:
    """The norm of every weight's gradient, one marker and colour a name; a weight without any is a cross at None."""
    figure, (axes, none) = plt.subplots(2, 1, figsize=(9, 3.8), sharex=True, layout="constrained",
                                        gridspec_kw={"height_ratios": [1, 0.14]})
    layers = list(next(iter(norms.values())))
    for i, ((name, values), colour, marker) in enumerate(zip(norms.items(), (BLUE, GREEN, PURPLE, ORANGE), "osDX",
                                                             strict=False)):
        at = np.arange(len(layers)) + (i - (len(norms) - 1) / 2) * 0.12
        there = [np.nan if values[layer] is None else values[layer] for layer in layers]
        missing = [x for x, layer in zip(at, layers, strict=True) if values[layer] is None]
        axes.scatter(at, there, s=42, color=colour, marker=marker, label=name)
        none.scatter(missing, [0] * len(missing), s=42, color=colour, marker=marker)
    axes.set(yscale="log", ylabel="gradient norm", title="gradient of every weight of the region network")
    axes.legend(frameon=False, ncols=len(norms), loc="upper center")
    axes.margins(y=0.3)
    none.set_xticks(range(len(layers)), layers)
    none.set_yticks([0], ["None"])
    none.set_ylim(-1, 1)
    said = (f"{name} {'None for all' if all(v is None for v in values.values()) else 'a number for every weight'}"
            for name, values in norms.items())
    figure.set_label(f"Gradient norms of {' '.join(', '.join(layers).split())}: {', '.join(said)}")
    return figure


def show_moving(picture: Picture, boxes: torch.Tensor, probabilities: dict[int, torch.Tensor],
                sizes: Sequence[float]) -> Figure:
    """How an anchor makes up its mind: its (M, 4) boxes, and by iteration their (M,) probabilities.

    Above, the stronger a box is drawn the more probable it is; below, the probabilities in the same colours.
    """
    count = len(probabilities)
    width = min(10, 2.9 * count)
    figure, grid = plt.subplots(2, count, figsize=(width, width / count + 1.6), squeeze=False, sharey="row",
                                layout="constrained", gridspec_kw={"height_ratios": [1, 0.6]})
    for (step, weights), top, bottom in zip(probabilities.items(), *grid, strict=True):
        top.imshow(pixels(picture))
        for box, shade, weight in zip(boxes.tolist(), shades(len(boxes)), weights.tolist(), strict=True):
            add_box(top, box, shade, 1 + 3 * weight, alpha=min(1.0, 0.12 + 1.2 * weight))
        top.set_title(f"iteration {step}")
        top.axis("off")
        bottom.bar(range(len(weights)), weights, color=shades(len(weights)))
        bottom.set_xticks(range(len(weights)), [f"{s:.2g}" for s in sizes], rotation=90, fontsize=8)
        bottom.set_ylim(0, 1.02)
    grid[1, 0].set_ylabel("π")
    figure.supxlabel("side of the box / side of the picture", fontsize=9)
    ends = (f"iteration {i}: side {sizes[int(w.argmax())]:.2g}, π = {w.max():.2f}" for i, w in probabilities.items())
    figure.set_label(f"The most probable box of one anchor, {'; '.join(ends)}")
    return figure


def show_strips(picture: Picture, boxes: torch.Tensor, strips: dict[str, dict[int, torch.Tensor]],
                truth: Sequence[float] | None = None) -> Figure:
    """The most probable of an anchor's (M, 4) boxes over the iterations, a row a name; `truth` is dashed.

    `strips[name][iteration]` are (M,) probabilities.
    """
    count = len(next(iter(strips.values())))
    figure, grid = plt.subplots(len(strips), count, squeeze=False, layout="constrained",
                                figsize=(1.55 * count + 0.4, 1.6 * len(strips) + 0.3))
    colours, said = shades(len(boxes)), []
    for axes, step in zip(grid[0], next(iter(strips.values())), strict=True):
        axes.set_title(f"iteration {step}", fontsize=9)
    for row, (name, weights) in zip(grid, strips.items(), strict=True):
        for axes, w in zip(row, weights.values(), strict=True):
            axes.imshow(pixels(picture))
            if truth is not None:
                add_box(axes, truth, "white", 1.2, linestyle="--")
            add_box(axes, boxes[int(w.argmax())].tolist(), colours[int(w.argmax())], 2.5)
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
        row[0].set_ylabel(name, fontsize=9)
        said.append(f"{name}: proposals {', '.join(str(int(w.argmax())) for w in weights.values())}")
    figure.set_label(f"Most probable proposal of one anchor, 0 the smallest, at iterations "
                     f"{', '.join(map(str, next(iter(strips.values()))))}. {'; '.join(said)}")
    return figure
