"""The method as one picture, drawn from a real run: `docs/figures/method.png`, at the top of README.md."""

from __future__ import annotations

from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from lr_helpers.anchors import anchor_centres, spread_anchors
from lr_helpers.course.samples import Sample, sample
from lr_helpers.editing import edit
from lr_helpers.method import METHODS
from lr_helpers.models.loading import load_models
from lr_helpers.plots.style import BLACK, BLUE, ORANGE, add_box, pixels
from lr_helpers.result import EditResult

SEED = 42
SHOWN = {"a": 0.6, "b": 1.0, "c": 0.0, "d": 0.3}
"""The edits that the diagram shows, by their place from the lowest loss, 0, to the highest, 1."""
CARD, EDGE, GREY, GOLD = "#f6f7f9", "#d5d9e0", "#5b6370", "#f0c808"
WIDTH, HEIGHT = 10.0, 5.75
"""Inches. At 160 dots an inch the picture has 1,600 pixels, twice what GitHub shows in a README."""
SIDE = 1.9
"""Inches of a panel's side."""


@dataclass
class Run:
    """What the diagram shows of one edit."""

    sample: Sample
    prompt: str
    result: EditResult
    centres: torch.Tensor
    """(K, 2) all anchors as (x, y), in pixels of the edited square; the result has those with a shortlisted box."""


def run() -> Run:
    """Edit the course's sample scene with the miniatures and `learned`."""
    models, wolf = load_models("tiny", "cpu"), sample("tiny")
    return of(wolf, edit(models, wolf.picture, wolf.source, wolf.prompt, METHODS["learned"], SEED, progress=False))


def of(found: Sample, result: EditResult) -> Run:
    """What the diagram shows of an edit of this sample, of a square picture in the editor's size."""
    method, grid = result.method, tuple(result.attention.shape[1:])
    anchors = spread_anchors(result.attention, method.anchors, method.distance * min(grid))
    return Run(found, result.prompt, result, anchor_centres(anchors, grid, result.picture.shape[-1]))


def draw(made: Run) -> Figure:
    """The diagram: seven panels in two rows, joined by arrows; its label is the alternative text."""
    result, method = made.result, made.result.method
    figure = plt.figure(figsize=(WIDTH, HEIGHT), facecolor="white")
    figure.add_artist(FancyBboxPatch((0.008, 0.012), 0.984, 0.976, transform=figure.transFigure, zorder=-1,
                                     boxstyle="round,pad=0,rounding_size=0.015", facecolor=CARD, edgecolor=EDGE))

    edits = _ordered_edits(result)

    # First row: where could we edit, and what would that look like?
    columns, top, bottom = (0.35, 2.78, 5.21, 7.64), 3.18, 0.42
    start = _panel(figure, columns[0], top, "A picture and words", f"“{made.sample.source}” → “{made.prompt}”")
    start.imshow(pixels(result.picture))

    look = _panel(figure, columns[1], top, "Anchor points", "where a self-supervised ViT looks", 1)
    _draw_attention(look, made)

    squares = _panel(figure, columns[2], top, "Square proposals",
                     f"{len(made.centres)} × {len(method.sizes)} boxes, {len(edits)} are tried", 2)
    _draw_squares(squares, made)

    _title(figure, columns[3], top, "Trial edits", "by a frozen inpainting model", 3)
    _draw_edits(figure, columns[3], top, result, edits)

    # Second row: which of them is best?
    losses = _panel(figure, columns[0], bottom, "Losses", "CLIP judges every edit", 4)
    _draw_losses(losses, edits, result)

    learning = _panel(figure, columns[1], bottom, "Learning", "a small network picks the box", 5)
    _draw_learning(learning, result)

    region = _panel(figure, columns[2], bottom, "The learned region", "nobody drew a mask")
    _draw_region(region, result)

    final = _panel(figure, columns[3], bottom, "The result", f"“{made.prompt}” in its place")
    final.imshow(pixels(result.image))

    # Arrows along both rows, and one that leads from the end of the first to the start of the second.
    for row in (top, bottom):
        for column in columns[:-1]:
            _arrow(figure, column + SIDE + 0.07, row + SIDE / 2, columns[1] - columns[0] - SIDE - 0.14)
    _lead_over(figure, columns, top)

    figure.set_label(
        f"The method in pictures: a picture of a {made.sample.source}; 1, {len(made.centres)} anchor points from the "
        f"attention of a vision transformer; 2, squares of {len(method.sizes)} sizes; 3, {len(edits)} boxes with "
        f"{made.prompt} painted inside; 4, the losses of these edits; 5, the loss falls as a network learns the box; "
        f"the learned region around the {made.sample.source}; the result, {made.prompt} in its place")
    return figure


def _title(figure: Figure, left: float, low: float, title: str, below: str, number: int | None = None) -> None:
    """Words above and below a panel whose lower left corner is at (left, low) inches."""
    x, y = left / WIDTH, (low + SIDE + 0.2) / HEIGHT
    if number:
        figure.text(x + 0.0125, y, str(number), fontsize=10.5, fontweight="bold", color="white", ha="center",
                    va="center", bbox={"boxstyle": "circle,pad=0.22", "facecolor": BLUE, "edgecolor": "none"})
        x += 0.033
    figure.text(x, y, title, fontsize=12, fontweight="bold", color=BLACK, va="center")
    figure.text((left + SIDE / 2) / WIDTH, (low - 0.17) / HEIGHT, below, fontsize=10.5, color=GREY, ha="center",
                va="center")


def _axes(figure: Figure, left: float, low: float, width: float, height: float) -> plt.Axes:
    """Axes at a place in inches, with a thin frame and no ticks."""
    axes = figure.add_axes((left / WIDTH, low / HEIGHT, width / WIDTH, height / HEIGHT))
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set(visible=True, color=EDGE)
    return axes


def _panel(figure: Figure, left: float, low: float, title: str, below: str, number: int | None = None) -> plt.Axes:
    """A square panel with its words."""
    _title(figure, left, low, title, below, number)
    return _axes(figure, left, low, SIDE, SIDE)


def _arrow(figure: Figure, x: float, y: float, length: float) -> None:
    """To the right, from (x, y) inches."""
    figure.add_artist(FancyArrowPatch((x / WIDTH, y / HEIGHT), ((x + length) / WIDTH, y / HEIGHT), color=GREY,
                                      linewidth=2, arrowstyle="-|>,head_width=4,head_length=6",
                                      transform=figure.transFigure, shrinkA=0, shrinkB=0))


def _lead_over(figure: Figure, columns: tuple[float, ...], top: float) -> None:
    """A line from below the last panel of the first row to above the first panel of the second."""
    y = (top - 0.36) / HEIGHT
    x0, x1 = (columns[0] + SIDE / 2) / WIDTH, (columns[-1] + SIDE / 2) / WIDTH
    style = {"color": GREY, "linewidth": 2, "transform": figure.transFigure, "shrinkA": 0, "shrinkB": 0}
    figure.add_artist(FancyArrowPatch((x1, y + 0.012), (x1, y), arrowstyle="-", **style))
    figure.add_artist(FancyArrowPatch((x1, y), (x0, y), arrowstyle="-", **style))
    figure.add_artist(FancyArrowPatch((x0, y), (x0, y - 0.03), arrowstyle="-|>,head_width=4,head_length=6", **style))


def _draw_attention(axes: plt.Axes, made: Run) -> None:
    """The picture under its attention, and the anchors."""
    size = made.result.picture.shape[-1]
    axes.imshow(pixels(made.result.picture).mean(2), cmap="gray", vmin=0, vmax=1.3)
    attention = made.result.attention.mean(0).numpy()
    axes.imshow(attention, cmap="magma", alpha=0.72, extent=(-0.5, size - 0.5, size - 0.5, -0.5),
                interpolation="bilinear")
    x, y = (made.centres - 0.5).T.numpy()
    axes.scatter(x, y, s=13, color="white", edgecolor=BLACK, linewidth=0.5)
    axes.set(xlim=(-0.5, size - 0.5), ylim=(size - 0.5, -0.5))


def _draw_squares(axes: plt.Axes, made: Run) -> None:
    """All sizes around the anchor that won."""
    result = made.result
    winner = result.candidates[0]
    axes.imshow(pixels(result.picture), alpha=0.75)
    for m, box in enumerate(result.boxes[winner.anchor].tolist()):
        colour = plt.get_cmap("plasma")(0.08 + 0.72 * m / (result.boxes.shape[1] - 1))
        add_box(axes, box, colour, 2.2)
    x, y = np.mean(np.reshape(winner.box, (2, 2)), axis=0) - 0.5
    axes.scatter(x, y, s=34, color="white", edgecolor=BLACK, linewidth=1, zorder=3)


def _ordered_edits(result: EditResult) -> list[tuple[int, int]]:
    """(anchor, size) of all edits that were made, lowest loss first."""
    made = (~result.loss.isnan()).nonzero().tolist()
    return sorted(((k, m) for k, m in made), key=lambda at: float(result.loss[at]))


def _named(edits: list[tuple[int, int]]) -> dict[str, int]:
    """Letter → place in `edits` of those that are shown."""
    return {letter: round(share * (len(edits) - 1)) for letter, share in SHOWN.items()}


def _draw_edits(figure: Figure, left: float, low: float, result: EditResult, edits: list[tuple[int, int]]) -> None:
    """Four of the edits, two by two, each with its box and its letter."""
    gap = 0.08
    side = (SIDE - gap) / 2
    for i, (letter, place) in enumerate(_named(edits).items()):
        row, column = divmod(i, 2)
        axes = _axes(figure, left + column * (side + gap), low + (1 - row) * (side + gap), side, side)
        axes.imshow(pixels(result.edits[edits[place]]))
        add_box(axes, result.boxes[edits[place]].tolist(), BLUE if place == 0 else ORANGE, 1.8)
        axes.text(0.05, 0.93, letter, transform=axes.transAxes, fontsize=10, fontweight="bold", color="white", va="top",
                  bbox={"boxstyle": "round,pad=0.15", "facecolor": BLUE if place == 0 else BLACK, "edgecolor": "none"})


def _draw_losses(axes: plt.Axes, edits: list[tuple[int, int]], result: EditResult) -> None:
    """A point an edit; those that are shown have their letter, the lowest is blue."""
    values = [float(result.loss[at]) for at in edits]
    colours = [BLUE, *[ORANGE] * (len(values) - 1)]
    low, high = min(values), max(values)
    room = (high - low) * 0.12
    axes.hlines(range(len(values)), low - 2 * room, values, color=colours, linewidth=1.8, alpha=0.6)
    axes.scatter(values, range(len(values)), color=colours, s=34, zorder=3)
    for letter, place in _named(edits).items():
        axes.text(values[place] + room * 0.7, place, letter, fontsize=10.5, fontweight="bold", color=colours[place],
                  va="center")
    axes.set(xlim=(low - 2 * room, high + 3 * room), ylim=(len(values) - 0.4, -0.6), facecolor="white")
    axes.text(0.96, 0.9, "lower\nis better", transform=axes.transAxes, fontsize=9.5, color=GREY, ha="right", va="top")


def _draw_learning(axes: plt.Axes, result: EditResult) -> None:
    """The expected loss over the updates."""
    axes.plot(result.history.loss, color=BLUE, linewidth=2.4)
    axes.set(facecolor="white", ylim=_padded(result.history.loss, 0.12))
    axes.text(0.93, 0.92, "expected loss", transform=axes.transAxes, fontsize=10, color=BLUE, ha="right", va="top")
    axes.text(0.93, 0.06, f"{len(result.history.loss)} updates", transform=axes.transAxes, fontsize=10, color=GREY,
              ha="right", va="bottom")


def _padded(values: list[float], share: float) -> tuple[float, float]:
    """Limits with a share of the range as room below and above."""
    room = (max(values) - min(values)) * share
    return min(values) - 2 * room, max(values) + room


def _draw_region(axes: plt.Axes, result: EditResult) -> None:
    """The picture, pale outside the learned region."""
    x0, y0, x1, y1 = result.box
    seen = pixels(result.picture).copy()
    pale = 0.45 + 0.55 * seen
    pale[y0:y1, x0:x1] = seen[y0:y1, x0:x1]
    axes.imshow(pale)
    add_box(axes, result.box, BLUE, 2.8)
