"""Preferences of voters, beside those of the paper's users (notebook 09)."""

from __future__ import annotations

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from lr_helpers.plots.style import BLACK, BLUE, ORANGE


def show_preferences(ours: dict[str, dict], paper: dict[str, dict], method: str = "learned") -> Figure:
    """Share of votes for `method` against each other one, with 95 % intervals, and the paper's for its own method.

    Both by the other method's name, with value, low and high in 0..1 (of ours also "count"); a method in both gets two
    bars in one row. At the dotted line voters can't tell them apart.
    """
    names = [*ours, *(name for name in paper if name not in ours)]
    figure, axes = plt.subplots(figsize=(7.5, 1.1 + 0.42 * len(names)), layout="constrained")
    for shift, found, colour, label in ((-0.19, ours, BLUE, f"our voters, for {method!r}"),
                                        (0.19, paper, ORANGE, "the paper's users, for its method")):
        rows = [(y + (shift if name in ours and name in paper else 0), found[name])
                for y, name in enumerate(names) if name in found]
        if not rows:
            continue
        value = [v["value"] for _, v in rows]
        margin = [[v["value"] - v["low"] for _, v in rows], [v["high"] - v["value"] for _, v in rows]]
        axes.barh([y for y, _ in rows], value, 0.34, xerr=margin, color=colour, ecolor=BLACK, capsize=3, label=label)
        for y, v in rows:
            if "count" in v:
                axes.annotate(f"n = {v['count']}", (0, y), xytext=(4, 0), textcoords="offset points", va="center",
                              fontsize=8, color="white")
    axes.axvline(0.5, color=BLACK, linewidth=1, linestyle=":")
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set(xlabel="share of votes that prefer it to this method", xlim=(0, 1))
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    said = [f"{label}: " + ", ".join(f"{name} {v['value']:.2f} [{v['low']:.2f}, {v['high']:.2f}]"
                                     for name, v in found.items())
            for label, found in (("our voters", ours), ("the paper's users", paper)) if found]
    figure.set_label("Share of votes for the method by what it was beside. " + "; ".join(said))
    return figure
