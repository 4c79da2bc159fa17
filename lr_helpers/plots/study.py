"""Tables of a study as pictures (notebook 08 and `python -m lr_helpers study`)."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from lr_helpers.boxes import Box
from lr_helpers.plots.style import BLACK, BLUE, GREEN, ORANGE, PURPLE, Picture, add_box, looks, pixels

MEASURES = {
    "iou": "IoU with the known region", "hit": "hit rate (IoU ≥ 0.5)", "centre_inside": "centre inside",
    "success": "task success", "target_seen": "target seen", "source_gone": "source gone", "others_kept": "others kept",
    "psnr": "background PSNR, dB", "ssim": "background SSIM", "vit_distance": "background, ViT distance",
    "score": "quality score S", "evaluations": "denoiser evaluations", "seconds": "seconds, one thread",
}
LINES = {"official_code": (ORANGE, ":"), "paper": (ORANGE, "-."), "straight_through": (GREEN, ":"),
         "reinforce": (GREEN, "--"), "learned": (BLUE, "-"), "predicted": (PURPLE, "-"), "fast": (PURPLE, "--")}
"""Colour and style of a row's curve; all others are black."""


def close(figure: Figure) -> None:
    """Forget a figure that has been shown or written to a file."""
    plt.close(figure)


def as_png(figure: Figure) -> bytes:
    """A figure as a PNG file; it is closed, so that it takes no more memory."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    plt.close(figure)
    return buffer.getvalue()


def show_measures(means: dict[str, dict], titles: dict[str, str], measures: Sequence[str]) -> Figure:
    """Points with 95 % intervals: a line a row, a panel a measure, one colour and marker a group of tasks.

    `means[group][row][measure]` has value, low and high; what is missing is left out.
    """
    names = [n for n in titles if any(n in m for m in means.values())]
    figure, grid = plt.subplots(1, len(measures), figsize=(2.4 + 2.1 * len(measures), 0.9 + 0.36 * len(names)),
                                sharey=True, squeeze=False, layout="constrained")
    for axes, measure in zip(grid[0], measures, strict=True):
        for i, ((group, found), (colour, marker)) in enumerate(
                zip(means.items(), looks(len(means)), strict=True)):
            rows = [(y, found[n][measure]) for y, n in enumerate(names) if measure in found.get(n, {})]
            if not rows:
                continue
            y = np.array([r for r, _ in rows]) + (i - (len(means) - 1) / 2) * 0.18
            value, low, high = (np.array([v[k] for _, v in rows]) for k in ("value", "low", "high"))
            axes.errorbar(value, y, xerr=[value - low, high - value], fmt=marker, color=colour, markersize=4.5,
                          elinewidth=1.4, label=group)
        axes.set(xlabel=MEASURES[measure], xlim=(-0.03, 1.03), xticks=(0, 0.5, 1))
        axes.grid(axis="x", color="#dddddd", linewidth=0.7)
        axes.set_axisbelow(True)
    grid[0, 0].set_yticks(range(len(names)), [titles[n] for n in names])
    grid[0, 0].set_ylim(len(names) - 0.4, -0.6)  # from above; the outer groups stand a little beside their line
    handles = {label: h for axes in grid[0] for h, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=4, frameon=False)
    said = "; ".join(f"{titles[n]}: " + ", ".join(
        f"{found[n][measures[0]]['value']:.2f} ({g})" for g, found in means.items() if measures[0] in found.get(n, {}))
        for n in names)
    figure.set_label(f"{', '.join(MEASURES[m] for m in measures)} by row, with 95 % intervals. "
                     f"{MEASURES[measures[0]]}: {said}")
    return figure


def show_found(pictures: Sequence[Picture], titles: Sequence[str], known: Sequence[Sequence[Box]],
               chosen: dict[str, Sequence[Box | None]]) -> Figure:
    """A row of panels for each way to choose, a column a picture: its `known` boxes dashed, the chosen one whole.

    `chosen[row][i]`: the row's box in picture i, None where there is none.
    """
    figure, grid = plt.subplots(len(chosen), len(pictures), figsize=(2.0 * len(pictures), 1.55 * len(chosen)),
                                squeeze=False, layout="constrained")
    for panels, (row, boxes) in zip(grid, chosen.items(), strict=True):
        for axes, picture, readings, box in zip(panels, pictures, known, boxes, strict=True):
            axes.imshow(pixels(picture))
            axes.set(xticks=(), yticks=())
            axes.spines[:].set_visible(False)
            for reading in readings:
                add_box(axes, reading, "white", 1.6, linestyle="--")
            if box:
                add_box(axes, box, ORANGE, 2.2)
        panels[0].set_ylabel(row)
    for axes, title in zip(grid[0], titles, strict=True):
        axes.set_title(title, fontsize=9)
    figure.set_label(f"The box that each of {', '.join(chosen)} chose in each of {', '.join(titles)}, "
                     "and, dashed, the object's own box, marked by hand.")
    return figure


def show_cost(curves: dict[str, dict], titles: dict[str, str]) -> Figure:
    """Hit rate against the number of different edits that were paid, a line a row; at its end the 95 % interval.

    Ends at the same number of edits stand side by side.
    """
    figure, axes = plt.subplots(figsize=(8.6, 3.8), layout="constrained")
    step = max(curve["edits"][-1] for curve in curves.values()) / 60
    at: dict[int, int] = {}  # how many curves have ended there
    for name, curve in curves.items():
        colour, style = LINES.get(name, (BLACK, "-"))
        axes.step(curve["edits"], curve["hit"], where="post", color=colour, linestyle=style, linewidth=1.8,
                  label=titles.get(name, name))
        last, end = curve["edits"][-1], curve["end"]
        at[last] = at.get(last, -1) + 1
        axes.errorbar(last + at[last] * step, end["value"], color=colour, fmt="o", markersize=4.5, elinewidth=1.1,
                      yerr=[[end["value"] - end["low"]], [end["high"] - end["value"]]])
    axes.set(xlabel="different edits paid for", ylabel="hit rate (IoU ≥ 0.5)", ylim=(-0.02, 1))
    axes.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5))
    ends = ", ".join(f"{titles.get(n, n)} {c['hit'][-1]:.2f} after {c['edits'][-1]}" for n, c in curves.items())
    figure.set_label(f"Hit rate over the number of edits: {ends}")
    return figure


def show_rules(rules: dict[str, dict], title: str) -> Figure:
    """Hit rate with its interval for each rule that picks one box from the same table."""
    figure, axes = plt.subplots(figsize=(8, 0.8 + 0.27 * len(rules)), layout="constrained")
    values = [r["hit"] for r in rules.values()]
    value, low, high = (np.array([v[k] for v in values]) for k in ("value", "low", "high"))
    axes.errorbar(value, range(len(rules)), xerr=[value - low, high - value], fmt="o", color=BLUE, markersize=5)
    axes.set_yticks(range(len(rules)), list(rules))
    axes.invert_yaxis()
    axes.grid(axis="x", color="#dddddd", linewidth=0.7)
    axes.set(title=f"{title}: the best of the paper's table by this rule", xlabel="hit rate (IoU ≥ 0.5)",
             xlim=(-0.02, 1.02))
    said = ", ".join(f"{n} {r['hit']['value']:.2f}" for n, r in rules.items())
    figure.set_label(f"Hit rates, {title}: {said}")
    return figure


def show_sweeps(sweeps: dict[str, dict], columns: int = 3) -> Figure:
    """One panel a setting: hit rate with its interval over the setting's values; dotted, the best that is possible."""
    rows = -(-len(sweeps) // columns)
    figure, grid = plt.subplots(rows, columns, figsize=(3.3 * columns, 2.3 * rows), sharey=True, squeeze=False,
                                layout="constrained")
    for axes in grid.flat[len(sweeps):]:
        axes.axis("off")
    for axes, (name, found) in zip(grid.flat, sweeps.items(), strict=False):
        hits = [f["hit"] for f in found.values()]
        value, low, high = (np.array([v[k] for v in hits]) for k in ("value", "low", "high"))
        axes.errorbar(range(len(found)), value, yerr=[value - low, high - value], fmt="o-", color=BLUE, markersize=4,
                      label="chosen")
        ceiling = [f["ceiling"]["value"] for f in found.values()]
        axes.plot(ceiling, ":", color=BLACK, linewidth=1, label="best in the table")
        axes.set_xticks(range(len(found)), list(found), fontsize=8, rotation=20 if max(map(len, found)) > 6 else 0)
        axes.set(xlabel=name, ylim=(-0.02, 1.02))
    for row in grid:
        row[0].set_ylabel("hit rate")
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    figure.set_label("Hit rates over settings: " + "; ".join(
        f"{name}: " + ", ".join(f"{k} {v['hit']['value']:.2f}" for k, v in found.items())
        for name, found in sweeps.items()))
    return figure
