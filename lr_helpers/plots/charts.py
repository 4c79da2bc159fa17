"""Curves, bars, points and tables of numbers."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure

from lr_helpers.plots.style import BLACK, BLUE, GREEN, HEAT, ORANGE, PURPLE, looks


def show_table(table: torch.Tensor, sizes: Sequence[float], title: str, axes: plt.Axes | None = None,
               marked: Sequence[int] | None = None) -> Figure:
    """A (K, M) table as a heat map over anchors × sizes; `marked` rings one proposal an anchor."""
    if axes is None:
        _, axes = plt.subplots(figsize=(4.2, 3.6), layout="constrained")
    shown = axes.imshow(table, cmap=HEAT, aspect="auto")
    axes.set_xticks(range(table.shape[1]), [f"{s:.2g}" for s in sizes], rotation=90)
    axes.set_yticks(range(table.shape[0]))
    axes.set_xlabel("side of the box / side of the picture")
    axes.set_ylabel("anchor")
    axes.set_title(title)
    axes.spines[:].set_visible(False)
    axes.figure.colorbar(shown, ax=axes, shrink=0.85)
    if marked is not None:
        axes.scatter(list(marked), range(len(marked)), s=70, facecolor="none", edgecolor="white", linewidth=1.8)
    return axes.figure


def shades(count: int) -> np.ndarray:
    """Colours for values that grow, e.g. the sizes of proposals."""
    return plt.get_cmap("plasma")(np.linspace(0.1, 0.85, count))


def show_bars(names: Sequence[str], groups: dict[str, Sequence[float] | Sequence[dict]], xlabel: str,
              ylabel: str) -> Figure:
    """Bars side by side, one colour a group; a value may be a dict of value, low and high, drawn with its interval."""
    figure, axes = plt.subplots(figsize=(7.5, 3.1), layout="constrained")
    width = 0.8 / len(groups)
    for i, ((label, values), (colour, _)) in enumerate(zip(groups.items(), looks(len(groups)), strict=True)):
        heights, bars = [float(v["value"]) if isinstance(v, dict) else float(v) for v in values], None
        if any(isinstance(v, dict) for v in values):
            bars = [[v["value"] - v["low"] for v in values], [v["high"] - v["value"] for v in values]]
        at = np.arange(len(names)) + (i - (len(groups) - 1) / 2) * width
        axes.bar(at, heights, width, yerr=bars, color=colour, label=label, capsize=3, ecolor=BLACK)
    axes.set_xticks(range(len(names)), names)
    axes.axhline(0, color=BLACK, linewidth=0.8)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    # Beside the bars: they fill the panel, so within it the names would lie on them.
    figure.legend(loc="outside right upper", frameon=False)
    figure.set_label(f"Bars of {ylabel} by {xlabel}: {', '.join(groups)}")
    return figure


def show_processes(rows: Sequence[tuple[str, int, float, float]]) -> Figure:
    """Who did what, and when: a bar for each (item, number of the process, begin, seconds), a row a process."""
    figure, axes = plt.subplots(figsize=(8, 1.8), layout="constrained")
    for name, process, begin, seconds in rows:
        axes.barh(process, seconds, left=begin, color=(BLUE, ORANGE)[process % 2], edgecolor="white")
        axes.text(begin + seconds / 2, process, name, ha="center", va="center", color="white")
    workers = sorted({process for _, process, _, _ in rows})
    axes.set(xlabel="seconds", ylabel="process", yticks=workers, title="Which process edited which item")
    figure.set_label(f"Which of {len(workers)} processes edited which of {len(rows)} items, over the seconds")
    return figure


def show_curves(curves: dict[str, Sequence[Sequence[float]]], xlabel: str, ylabel: str) -> Figure:
    """Lines over the iterations: one colour a name, a thin line a run."""
    figure, axes = plt.subplots(figsize=(5.6, 3.1), layout="constrained")
    for (name, runs), (colour, _) in zip(curves.items(), looks(len(curves)), strict=True):
        for i, run in enumerate(runs):
            axes.plot(run, color=colour, linewidth=1.3, alpha=0.8, label=name if i == 0 else None)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.legend(frameon=False)
    figure.set_label(f"Curves of {ylabel} over {xlabel}: {', '.join(curves)}")
    return figure


def show_bands(x: Sequence[float], panels: dict[str, dict[str, Sequence[dict]]], label: str) -> Figure:
    """Shares with their intervals as bands over x, panels side by side (title → curve → one dict of value, low and
    high for each x), with one legend for all.
    """
    width = 1 + min(4.4 * len(panels), 10)
    figure, grid = plt.subplots(1, len(panels), figsize=(width, 3.5), squeeze=False, sharey=True, layout="constrained")
    for axes, (title, curves) in zip(grid.flat, panels.items(), strict=True):
        for (name, points), (colour, marker) in zip(curves.items(), looks(len(curves)), strict=True):
            axes.plot(x, [p["value"] for p in points], color=colour, marker=marker, markersize=5, label=name)
            axes.fill_between(x, [p["low"] for p in points], [p["high"] for p in points], color=colour, alpha=0.18)
        axes.set(title=title, xlabel=label, ylim=(-0.02, 1.02))
    grid[0, 0].set_ylabel("share, with 95 % interval")
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    return figure


def show_tables(tables: dict[str, torch.Tensor], sizes: Sequence[float], marked: dict[str, Sequence[int]] | None = None,
                columns: int = 3) -> Figure:
    """Several (K, M) tables as heat maps side by side; `marked[title]` rings one proposal an anchor."""
    columns = min(columns, len(tables))
    rows = -(-len(tables) // columns)
    figure, grid = plt.subplots(rows, columns, figsize=(3 * columns, 2.9 * rows), squeeze=False, layout="constrained")
    for axes in grid.flat[len(tables):]:
        axes.axis("off")
    for axes, (title, table) in zip(grid.flat, tables.items(), strict=False):
        show_table(table, sizes, title, axes, (marked or {}).get(title))
    return figure


def show_scatter(groups: dict[str, tuple[torch.Tensor, torch.Tensor]], xlabel: str, ylabel: str) -> Figure:
    """Points (x, y), one colour and marker a group."""
    figure, axes = plt.subplots(figsize=(6, 3.4), layout="constrained")
    for (name, (x, y)), (colour, marker) in zip(groups.items(), looks(len(groups)), strict=True):
        axes.scatter(x, y, s=26, color=colour, marker=marker, alpha=0.75, edgecolor="white", linewidth=0.5, label=name)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.legend(frameon=False)
    figure.set_label(f"Points: {ylabel} over {xlabel}, for {', '.join(groups)}")
    return figure


def show_points(values: dict[str, Sequence[float]], ylabel: str, title: str) -> Figure:
    """All values of each name as points above it, in the same order from left to right, and a bar at their median."""
    figure, axes = plt.subplots(figsize=(9, 3.6), layout="constrained")
    for i, points in enumerate(values.values()):
        axes.scatter(i + np.linspace(-0.22, 0.22, len(points)), points, s=30, color=BLUE, alpha=0.85)
        axes.plot((i - 0.32, i + 0.32), [np.median(points)] * 2, color=ORANGE, linewidth=2.5)
    axes.axhline(0, color=BLACK, linewidth=0.8)
    axes.set_xticks(range(len(values)), list(values))
    axes.set(ylabel=ylabel, title=title)
    medians = ", ".join(f"{name} {np.median(points):.2f}" for name, points in values.items())
    figure.set_label(f"{title}. {ylabel}, medians: {medians}")
    return figure


def show_against(panels: dict[str, dict[str, tuple[torch.Tensor, ...]]], xlabel: str, ylabel: str) -> Figure:
    """Points (x, y) or (x, y, error of y) against the diagonal, panels side by side, one colour a group."""
    figure, grid = plt.subplots(1, len(panels), figsize=(10, 10 / max(3, len(panels)) + 0.6), squeeze=False,
                                layout="constrained")
    for axes, (title, groups) in zip(grid[0], panels.items(), strict=True):
        for (name, (x, y, *error)), (colour, marker) in zip(groups.items(), looks(len(groups)), strict=True):
            axes.errorbar(x.flatten(), y.flatten(), error[0].flatten() if error else None, fmt=marker, color=colour,
                          markersize=4.5, alpha=0.7, markeredgewidth=0, elinewidth=1, label=name)
        axes.axline((0, 0), slope=1, color=BLACK, linewidth=1, linestyle=":")
        axes.set(title=title, xlabel=xlabel)
        axes.locator_params(nbins=5)
    grid[0, 0].set_ylabel(ylabel)
    if len(next(iter(panels.values()))) > 1:
        grid[0, 0].legend(frameon=False, fontsize=9)
    figure.set_label(f"{ylabel} against {xlabel}, with the diagonal where both agree, for {', '.join(panels)}")
    return figure


def show_runs(panels: dict[str, dict[str, Sequence[tuple[Sequence[float], Sequence[float]]]]], ylabel: str,
              floor: float, logarithmic: Sequence[str] = ()) -> Figure:
    """Runs (x, y) as steps: their mean as a line, from the lowest to the highest as a band; one colour a name.

    Panels are named by what lies on their x axis; those in `logarithmic` have it in powers of ten. At an x, a run
    has the y of its last point up to there. `floor` is drawn as the best that is possible.
    """
    figure, grid = plt.subplots(1, len(panels), figsize=(10, 3.6), squeeze=False, sharey=True, layout="constrained")
    for axes, (label, curves) in zip(grid[0], panels.items(), strict=True):
        for (name, runs), colour, style in zip(curves.items(), (BLUE, GREEN, PURPLE, ORANGE), ("-", "--", "-.", ":"),
                                               strict=False):
            x = np.unique(np.concatenate([np.asarray(a, float) for a, _ in runs]))
            y = np.stack([np.asarray(b, float)[np.searchsorted(a, x, side="right") - 1] for a, b in runs])
            axes.step(x, y.mean(0), where="post", color=colour, linestyle=style, linewidth=1.8, label=name)
            axes.fill_between(x, y.min(0), y.max(0), step="post", color=colour, alpha=0.18, linewidth=0)
        axes.axhline(floor, color=BLACK, linewidth=0.8)
        axes.set_xlabel(label)
        if label in logarithmic:
            axes.set_xscale("log")
    grid[0, 0].annotate("each anchor's best", (0, floor), xytext=(3, 3), textcoords="offset points", fontsize=8)
    grid[0, 0].set_ylabel(ylabel)
    names = max((curves for curves in panels.values()), key=len)
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=len(names), frameon=False)
    figure.set_label(f"Curves of {ylabel} for {', '.join(names)}, over {' | '.join(panels)}")
    return figure
