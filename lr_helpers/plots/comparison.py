"""What edits are worth, and what they cost (notebook 09 and `python -m lr_helpers study compare`)."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from lr_helpers.plots.study import MEASURES
from lr_helpers.plots.style import BLACK, BLUE, GREEN, ORANGE, PURPLE

FAMILIES = {"editor": (ORANGE, "s"), "text-prompted region": (PURPLE, "D"), "region chooser": (GREEN, "^")}
"""Colour and marker of each family of baselines; ours is a blue circle, the known region a black star."""
OURS, KNOWN = "learned", "known_region"


def show_frontier(means: dict[str, dict], titles: dict[str, str], families: dict[str, str],
                  axes_of: Sequence[tuple[str, str]] = (("evaluations", "success"), ("psnr", "success"))) -> Figure:
    """One panel a pair of measures (across, up): a line a baseline, from its cheapest variant (small) to its dearest.

    `means[variant][measure]` has value, low and high; a variant is named "baseline at steps". Bars are 95 %
    intervals of the upward measure, on the last point.
    """
    figure, grid = plt.subplots(1, len(axes_of), figsize=(5.2 * len(axes_of), 4.6), squeeze=False, sharey=True,
                                layout="constrained")
    names = list(dict.fromkeys(variant.split(" at ")[0] for variant in means))
    for axes, (across, up) in zip(grid[0], axes_of, strict=True):
        for name in names:
            colour, marker = ((BLUE, "o") if name == OURS else (BLACK, "*") if name == KNOWN
                              else FAMILIES[families[name]])
            line = [m for variant, m in means.items() if variant.split(" at ")[0] == name and across in m]
            if not line:
                continue
            x, y = ([m[k]["value"] for m in line] for k in (across, up))
            front = 3 if name in (OURS, KNOWN) else 2
            axes.plot(x, y, "-", color=colour, linewidth=2.2 if name == OURS else 1, alpha=0.9, zorder=front)
            axes.scatter(x, y, s=[18 + 14 * i for i in range(len(x))], color=colour, marker=marker, zorder=front)
            last = line[-1][up]
            axes.errorbar(x[-1], y[-1], yerr=[[last["value"] - last["low"]], [last["high"] - last["value"]]],
                          color=colour, elinewidth=1, capsize=2, zorder=front)
            axes.annotate(titles[name], (x[-1], y[-1]), xytext=(5, 3), textcoords="offset points", fontsize=8,
                          color=colour)
        if across == "evaluations":
            axes.set_xscale("log")
        axes.set(xlabel=MEASURES[across], ylim=(-0.03, 1.03))
        axes.grid(color="#dddddd", linewidth=0.7)
        axes.set_axisbelow(True)
        axes.margins(x=0.18)
    grid[0, 0].set_ylabel(MEASURES[axes_of[0][1]])
    figure.set_label("; ".join(
        f"{variant}: " + ", ".join(f"{MEASURES[k]} {m[k]['value']:.3g}" for pair in axes_of for k in pair if k in m)
        for variant, m in means.items()))
    return figure
