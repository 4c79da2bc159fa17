"""What edits are worth, and what they cost (notebook 09 and `python -m lr_helpers study compare`)."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from lr_helpers.plots.study import MEASURES
from lr_helpers.plots.style import BLACK, BLUE, GREEN, ORANGE, PURPLE

COLOURS = {"editor": ORANGE, "text-prompted region": PURPLE, "region chooser": GREEN}
"""By family of rows; ours is blue, the known region black. Within a family, each has its marker."""
MARKERS = "s^DvPX<>p"
OURS, KNOWN = "learned", "known_region"


def show_frontier(means: dict[str, dict], titles: dict[str, str], families: dict[str, str],
                  axes_of: Sequence[tuple[str, str]] = (("evaluations", "success"), ("psnr", "success"))) -> Figure:
    """One panel a pair of measures (across, up): a line a row, from its cheapest variant (small) to its dearest.

    `means[variant][measure]` has value, low and high; a variant is named "row at steps". Bars are 95 %
    intervals of the upward measure, on the last point.
    """
    figure, grid = plt.subplots(1, len(axes_of), figsize=(4.3 * len(axes_of) + 2.4, 4.6), squeeze=False,
                                sharey=len({up for _, up in axes_of}) == 1, layout="constrained")
    names = _ordered(means, families)
    styles = {name: _style(name, names, families) for name in names}
    for axes, (across, up) in zip(grid[0], axes_of, strict=True):
        for name, (colour, marker) in styles.items():
            line = [m for variant, m in means.items() if variant.split(" at ")[0] == name and across in m]
            if not line:
                continue
            x, y = ([m[k]["value"] for m in line] for k in (across, up))
            front = 3 if name in (OURS, KNOWN) else 2
            axes.plot(x, y, "-", color=colour, linewidth=2.2 if name == OURS else 1, alpha=0.8, zorder=front)
            axes.scatter(x, y, s=[50 - 12 * i for i in range(len(x))][::-1], color=colour, marker=marker, zorder=front)
            last = line[-1][up]
            axes.errorbar(x[-1], y[-1], yerr=[[last["value"] - last["low"]], [last["high"] - last["value"]]],
                          color=colour, elinewidth=1, capsize=2, zorder=front)
        if across == "evaluations":
            axes.set_xscale("log")
        if up == "success":
            axes.set_ylim(-0.03, 1.03)
        axes.set(xlabel=MEASURES[across], ylabel=MEASURES[up])
        axes.grid(color="#dddddd", linewidth=0.7)
        axes.set_axisbelow(True)
    handles = [plt.Line2D([], [], color=colour, marker=marker, linewidth=2.2 if name == OURS else 1,
                          markersize=9 if name == KNOWN else 6, label=titles[name])
               for name, (colour, marker) in styles.items()]
    figure.legend(handles=handles, loc="outside right center", frameon=False, fontsize=9)
    figure.set_label("; ".join(
        f"{variant}: " + ", ".join(f"{MEASURES[k]} {m[k]['value']:.3g}"
                                   for k in dict.fromkeys(k for pair in axes_of for k in pair) if k in m)
        for variant, m in means.items()))
    return figure


def _ordered(means: dict[str, dict], families: dict[str, str]) -> list[str]:
    """Ours first, then the families one after another, the known region last."""
    names = dict.fromkeys(variant.split(" at ")[0] for variant in means)
    order = list(COLOURS)
    return sorted(names, key=lambda n: (n != OURS, n == KNOWN, order.index(families[n])))


def _style(name: str, names: Sequence[str], families: dict[str, str]) -> tuple[str, str]:
    """Colour and marker."""
    if name in (OURS, KNOWN):
        return (BLUE, "o") if name == OURS else (BLACK, "*")
    mates = [n for n in names if families[n] == families[name] and n not in (OURS, KNOWN)]
    return COLOURS[families[name]], MARKERS[mates.index(name) % len(MARKERS)]
