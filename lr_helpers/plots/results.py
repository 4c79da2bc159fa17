"""What one edit did: figures of an `EditResult`."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure

from lr_helpers.anchors import anchor_centres
from lr_helpers.errors import UserError
from lr_helpers.plots.charts import show_tables
from lr_helpers.plots.style import BLACK, BLUE, HEAT, ORANGE, add_box, pixels, show_pictures
from lr_helpers.result import EditResult


def show_attention(result: EditResult) -> Figure:
    """The picture, its [CLS] attention averaged over the heads, and the anchor points on the picture."""
    h, w = result.attention.shape[1:]
    height, width = result.picture.shape[1:]
    x, y = (anchor_centres(result.anchors, (h, w), (height, width)) - 0.5).T
    figure, axes = plt.subplots(1, 3, figsize=(9, 3.2), layout="constrained")
    axes[0].imshow(pixels(result.picture))
    axes[0].set_title("picture")
    shown = axes[1].imshow(result.attention.mean(0), cmap=HEAT, extent=(-0.5, width - 0.5, height - 0.5, -0.5))
    axes[1].set_title(f"attention of [CLS], {h}×{w} patches")
    figure.colorbar(shown, ax=axes[1], shrink=0.8)
    axes[2].imshow(pixels(result.picture))
    axes[2].scatter(x, y, s=90, color=ORANGE, edgecolor="white", linewidth=1.2)
    for i in range(len(x)):
        axes[2].annotate(str(i), (x[i], y[i]), ha="center", va="center", color="white", fontsize=7)
    axes[2].set_title(f"{len(x)} anchor points, 0 = most attended")
    for a in axes:
        a.axis("off")
    return figure


def show_proposals(result: EditResult, anchor: int = 0) -> Figure:
    """All M proposals around one anchor."""
    figure, axes = plt.subplots(figsize=(3.4, 3.6), layout="constrained")
    axes.imshow(pixels(result.picture))
    shades = plt.get_cmap("plasma")(np.linspace(0.1, 0.85, result.boxes.shape[1]))
    for box, shade in zip(result.in_frame(result.boxes[anchor]).tolist(), shades, strict=True):
        add_box(axes, box, shade)
    axes.set_title(f"{result.boxes.shape[1]} proposals around anchor {anchor}")
    axes.axis("off")
    return figure


def show_candidates(result: EditResult, columns: int = 5) -> Figure:
    """Each anchor's edit, best first, with its box."""
    titles = [f"{'★ ' if i == 0 else ''}anchor {c.anchor}\nloss {c.loss:.2f}  S {c.score:.2f}"
              for i, c in enumerate(result.candidates)]
    colours = [ORANGE if i == 0 else BLUE for i in range(len(titles))]
    return show_pictures([c.picture for c in result.candidates], titles, columns,
                         [result.in_frame(torch.tensor(c.box)).tolist() for c in result.candidates], colours=colours)


def show_terms(result: EditResult) -> Figure:
    """Every loss term and their weighted sum over anchors × sizes, each anchor's choice ringed; white: not edited."""
    tables = {"$L_{Clip}$": result.terms["clip"], "$L_{Str}$": result.terms["structure"],
              "$L_{Dir}$": result.terms["direction"], "source still there": result.terms["source"],
              "patches (no edit)": result.terms["patches"], "occlusion (no edit)": result.terms["occlusion"],
              "weighted sum": result.loss}
    tables = {title: table for title, table in tables.items() if not table.isnan().all()}
    marked = result.probabilities.argmax(1).tolist()
    if result.history is None:  # a predictor chose: only anchors with an edit have something to show
        rows = (~result.loss.isnan()).any(1)
        tables = {title: table[rows] for title, table in tables.items()}
        marked = result.loss[rows].nan_to_num(float("inf")).argmin(1).tolist()
    return show_tables(tables, result.method.sizes, dict.fromkeys(tables, marked))


def show_prediction(result: EditResult) -> Figure:
    """Where a predictor would edit: the picture, the probability of all boxes that cover a pixel, and what it chose.

    Raises UserError for a result of a search.
    """
    if result.confidence is None:
        raise UserError("This region was learned on the picture, not predicted; look at it by show_learning.")
    height, width = result.picture.shape[1:]
    # Proposals that were clamped to the same box share its probability, so each different box counts once.
    first = {tuple(box): i for i, box in reversed(list(enumerate(result.boxes.reshape(-1, 4).tolist())))}
    chance = torch.zeros(height, width)
    for box, i in first.items():
        x0, y0, x1, y1 = result.in_frame(torch.tensor(box)).round().int().tolist()
        chance[y0:y1, x0:x1] += result.probabilities.flatten()[i]
    figure, axes = plt.subplots(1, 3, figsize=(9, 3.2), layout="constrained")
    axes[0].imshow(pixels(result.picture))
    axes[0].set_title("picture")
    drawn = axes[1].imshow(chance, cmap=HEAT, vmin=0, vmax=1)
    axes[1].set_title("probability of being edited")
    figure.colorbar(drawn, ax=axes[1], shrink=0.8)
    axes[2].imshow(pixels(result.picture))
    for i, candidate in reversed(list(enumerate(result.candidates))):
        add_box(axes[2], result.in_frame(torch.tensor(candidate.box)).tolist(), BLUE if i else ORANGE)
    axes[2].set_title(f"{len(result.candidates)} edited; confidence {result.confidence:.2f}")
    for a in axes:
        a.axis("off")
    return figure


def show_learning(result: EditResult) -> Figure:
    """Loss and gradient norm of the region network, and how its probabilities moved for the chosen anchor; where a
    predictor chose, nothing was learned, and it is `show_prediction`.
    """
    if result.history is None:
        return show_prediction(result)
    history, best = result.history, result.candidates[0].anchor
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(10, 2.9), layout="constrained")
    left.plot(history.loss, color=BLUE)
    floor = float(result.loss.nan_to_num(float("inf")).min(1).values.mean())
    if np.isfinite(floor):
        left.axhline(floor, color=BLACK, linestyle=":", linewidth=1)
        left.annotate("each anchor's best", (len(history.loss), floor), ha="right", va="bottom", fontsize=8)
    left.set(title="loss", xlabel="iteration")
    norms = [np.nan if g is None else g for g in history.gradient_norm]
    if np.isnan(norms).all():
        middle.text(0.5, 0.5, "no gradient\nreaches the network", ha="center", va="center", transform=middle.transAxes)
    else:
        middle.plot(norms, color=ORANGE)
        middle.set_yscale("log")
    middle.set(title="gradient norm", xlabel="iteration")
    curves = np.array([p[best] for p in history.probabilities]).reshape(len(history.probabilities), -1)
    shades = plt.get_cmap("plasma")(np.linspace(0.1, 0.85, max(1, curves.shape[1])))
    for m in range(curves.shape[1]):
        right.plot(curves[:, m], color=shades[m], label=f"{result.method.sizes[m]:.2g}")
    right.set(title=f"π of anchor {best}, by size", xlabel="iteration", ylim=(-0.02, 1.02))
    if curves.size:
        right.legend(fontsize=7, ncols=2)
    return figure


def show_before_after(result: EditResult) -> Figure:
    """The input with the learned region, and the final picture."""
    return show_pictures([result.original, result.original, result.image],
                         [f"“{result.source}”", "learned region", f"“{result.prompt}”"], 3,
                         [None, result.box, None], side=2.8)
