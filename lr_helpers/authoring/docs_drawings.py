"""How the figures of docs/ are drawn: one idea each. A function takes the plain data of the stored studies, and another
makes the figure, whose label is the alternative text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from lr_helpers.authoring.docs_store import TITLES, Store
from lr_helpers.plots.style import BLACK, BLUE, GREEN, ORANGE, PURPLE
from lr_helpers.study.pie.emoji import recipe_of
from tiny_world.scenes import scene
from tiny_world.sprites import HELD_OUT_STYLE, MORE_STYLES, styles
from tiny_world.words import HELD_OUT_TEXTURES

GREY, PALE = "#5b6370", "#d5d9e0"
MARKS = {"one object": (BLUE, "o"), "two objects": (ORANGE, "D")}
"""Colour and marker of the two groups of scenes."""
GROUPS = {"one object": "replace, one object", "two objects": "replace, two objects"}
"""Their names in the stored study."""

FAMILIES = {
    "a region after trial edits": ("random_anchors", "random_sizes", "official_code", "paper"),
    "a region without a trial edit": ("patch_similarity", "patch_similarity_mask", "edit_free", "predicted"),
    "the whole picture edited": ("whole_picture", "sdedit", "diffedit", "instruct_pix2pix", "ledits_pp"),
}
"""The panels of the comparison, and who is in them; `learned` and the known region are in all."""


def _shares(rows: Sequence[str], groups: Mapping[str, Mapping[str, Mapping[str, dict]]], measures: Mapping[str, str],
            titles: Mapping[str, str]) -> Figure:
    """A panel a measure (its key → its title), a row a way to edit, a marker with its 95 % interval a group.

    `groups[group][row][measure]` has value, low and high; what is missing is left out.
    """
    figure, grid = plt.subplots(1, len(measures), figsize=(10, 1.25 + 0.42 * len(rows)), sharey=True, squeeze=False,
                                layout="constrained")
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.08, wspace=0.03)
    for axes, (measure, title) in zip(grid[0], measures.items(), strict=True):
        for i, (group, found) in enumerate(groups.items()):
            colour, marker = list(MARKS.values())[i]
            shift = (i - (len(groups) - 1) / 2) * 0.3
            for y, row in enumerate(rows):
                if measure not in found.get(row, {}):
                    continue
                value, low, high = (100 * found[row][measure][k] for k in ("value", "low", "high"))
                axes.errorbar(value, y + shift, xerr=[[value - low], [high - value]], fmt=marker, color=colour,
                              markersize=7, elinewidth=2, label=group)
        axes.set_title(title, loc="left", fontsize=12.5)
        axes.set(xlim=(-4, 104), xticks=(0, 50, 100))
        axes.set_xticks((25, 75), minor=True)
        axes.xaxis.set_major_formatter("{x:.0f} %")
        axes.tick_params(labelsize=11.5, length=0)
        axes.tick_params(which="minor", length=0)
        axes.tick_params(axis="y", pad=10)
        axes.grid(axis="x", which="both", color=PALE, linewidth=0.8)
        axes.spines[:].set_visible(False)
    grid[0, 0].set_yticks(range(len(rows)), [titles.get(row, row) for row in rows])
    grid[0, 0].set_ylim(len(rows) - 0.4, -0.6)
    if len(groups) > 1:
        handles = dict(zip(*grid[0, 0].get_legend_handles_labels()[::-1], strict=True))
        figure.legend([handles[g] for g in groups], list(groups), loc="outside lower center", ncols=len(groups),
                      frameon=False, fontsize=11.5)
    return figure


def _said(rows: Sequence[str], groups: Mapping[str, Mapping], measure: str, titles: Mapping[str, str]) -> str:
    """The values of one measure in words."""
    parts = []
    for row in rows:
        values = [f"{100 * found[row][measure]['value']:.0f} %" for found in groups.values()
                  if measure in found.get(row, {})]
        if values:
            parts.append(f"{titles.get(row, row)} {' and '.join(values)}")
    return "; ".join(parts)


REGION_ROWS = ("random_anchors", "random_sizes", "official_code", "paper", "learned", "predicted", "edit_free",
               "known_region")


def regions_data(store: Store) -> dict:
    means = store.regions["means"]
    return {group: {row: {m: means[name][row][m] for m in ("hit", "success") if m in means[name][row]}
                    for row in REGION_ROWS} for group, name in GROUPS.items()}


def draw_regions(data: dict) -> Figure:
    for found in data.values():  # the known region hits itself: that says nothing
        found["known_region"].pop("hit", None)
    figure = _shares(REGION_ROWS, data, {"hit": "region found (IoU ≥ 0.5)", "success": "task done"}, TITLES)
    figure.set_label("How often each way to choose a region finds it, and does the task, with 95 % intervals, for "
                     "scenes of one and of two objects. Task done: " + _said(REGION_ROWS, data, "success", TITLES))
    return figure


RULES = {"the best IoU (ceiling)": "the best box there is", "S (the paper's ranking)": "the paper's ranking S",
         "paper's loss": "the paper's loss", "learned's loss": "our loss",
         "edit-free terms": "edit-free terms, no edit"}
"""Rules that pick one box from the paper's 9 × 7 boxes: name in the study → in the figure."""


def rules_data(store: Store) -> dict:
    return {group: {rule: {"hit": store.regions["rules"][name][rule]["hit"]} for rule in RULES}
            for group, name in GROUPS.items()}


def draw_rules(data: dict) -> Figure:
    measures = {"hit": "region found (IoU ≥ 0.5) if the best of the same boxes is chosen by …"}
    figure = _shares(tuple(RULES), data, measures, RULES)
    figure.set_label("The same table of boxes and edits, ranked by five rules; share of regions found, with 95 % "
                     "intervals, for one and two objects: " + _said(tuple(RULES), data, "hit", RULES))
    return figure


def compare_data(store: Store) -> dict:
    names = {name for family in FAMILIES.values() for name in family} | {"learned", "known_region"}
    return {variant: {m: found[m] for m in ("success", "psnr", "evaluations")}
            for variant, found in store.compare["means"]["replace"].items() if variant.split(" at ")[0] in names}


def _lines(data: dict, name: str, across: str) -> tuple[list[float], list[float]]:
    """x and y = task done in percent, from the fewest denoising steps to the most."""
    mine = [found for variant, found in data.items() if variant.split(" at ")[0] == name]
    return [found[across]["value"] for found in mine], [100 * found["success"]["value"] for found in mine]


def _draw_panels(data: dict, across: str, label: str) -> Figure:
    """Task done over `across`: a panel a family, the others pale behind it, `learned` and the known region in all."""
    figure, grid = plt.subplots(1, len(FAMILIES), figsize=(10, 5), sharex=True, sharey=True, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.1, h_pad=0.1)
    colours = (ORANGE, GREEN, PURPLE, "#b8860b", "#56606e")
    for axes, (title, family) in zip(grid, FAMILIES.items(), strict=True):
        for other in (name for names in FAMILIES.values() if names != family for name in names):
            axes.plot(*_lines(data, other, across), "o-", color=PALE, markersize=3.5, linewidth=1, zorder=1)
        drawn = [*((name, colour, "o-") for name, colour in zip(family, colours, strict=False)),
                 ("known_region", BLACK, "*-"), ("learned", BLUE, "s-")]
        for name, colour, style in drawn:
            axes.plot(*_lines(data, name, across), style, color=colour, label=TITLES[name],
                      markersize=9 if style[0] == "*" else 6, linewidth=2.6 if name == "learned" else 1.6,
                      zorder=3 if name == "learned" else 2)
        axes.set_title(title, loc="left", fontsize=11.5)
        axes.set_xlabel(label, fontsize=11.5)
        axes.tick_params(labelsize=11)
        axes.grid(color="#eceef2", linewidth=0.8)
        axes.legend(frameon=False, fontsize=10.5, loc="upper left", bbox_to_anchor=(0, -0.24), borderaxespad=0)
    grid[0].set_ylabel("task done", fontsize=11.5)
    grid[0].yaxis.set_major_formatter("{x:.0f} %")
    grid[0].set_ylim(-3, 103)
    return figure


def _compared(data: dict, measure: str, digits: int) -> str:
    """Task done and a second measure at 12 steps, in words."""
    rows = [(name, data[f"{name} at 12"]) for name in TITLES if f"{name} at 12" in data]
    return "; ".join(f"{TITLES[name]} {100 * found['success']['value']:.0f} % and {found[measure]['value']:.{digits}f}"
                     for name, found in rows)


def draw_cost(data: dict) -> Figure:
    figure = _draw_panels(data, "evaluations", "denoiser evaluations")
    figure.axes[0].set_xscale("log")
    figure.set_label("Task done against denoiser evaluations at 3 to 25 denoising steps, in three panels. At 12 steps: "
                     + _compared(data, "evaluations", 0) + ".")
    return figure


def draw_background(data: dict) -> Figure:
    figure = _draw_panels(data, "psnr", "background PSNR, dB")
    figure.set_label("Task done against what is left of the background (PSNR in dB, 60 means untouched), in three "
                     "panels. At 12 steps: " + _compared(data, "psnr", 1) + ".")
    return figure


CAUSES = {"anchors": ("no anchor on the object", "#7b3294"), "sizes": ("no size fits", PURPLE),
          "shortlist": ("not shortlisted", BLACK), "other object": ("another object chosen", ORANGE),
          "too large": ("too large a box chosen", "#f0c808"), "beside": ("a box beside it chosen", GREEN)}
CAUSE_ROWS = ("official_code", "paper", "learned", "predicted")


def causes_data(store: Store) -> dict:
    return {row: {"tasks": store.causes[row]["tasks"], **{c: store.causes[row]["lost_region"][c] for c in CAUSES}}
            for row in CAUSE_ROWS}


def draw_causes(data: dict) -> Figure:
    figure, axes = plt.subplots(figsize=(10, 3.8), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.08)
    left = np.zeros(len(CAUSE_ROWS))
    for cause, (title, colour) in CAUSES.items():
        counts = np.array([data[row][cause] for row in CAUSE_ROWS])
        axes.barh(range(len(CAUSE_ROWS)), counts, left=left, color=colour, label=title, height=0.62, edgecolor="white")
        for y, (count, start) in enumerate(zip(counts, left, strict=True)):
            if count >= 5:
                axes.text(start + count / 2, y, str(count), ha="center", va="center", fontsize=11,
                          color=BLACK if colour == "#f0c808" else "white")
        left += counts
    for y, total in enumerate(left.astype(int)):
        axes.text(total + 1.5, y, f"{total} missed", va="center", fontsize=11.5, color=GREY)
    tasks = data[CAUSE_ROWS[0]]["tasks"]
    axes.set_yticks(range(len(CAUSE_ROWS)), [TITLES[row] for row in CAUSE_ROWS], fontsize=11.5)
    axes.set(xlim=(0, tasks * 1.12), ylim=(len(CAUSE_ROWS) - 0.45, -0.55))
    axes.set_title(f"regions missed, of {tasks}, by the first stage that went wrong", loc="left", fontsize=12.5)
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=11)
    figure.set_label(f"Regions missed of {tasks}, by the first stage that went wrong. " + ". ".join(
        f"{TITLES[row]}: " + ", ".join(f"{title} {data[row][cause]}" for cause, (title, _) in CAUSES.items())
        for row in CAUSE_ROWS))
    return figure


UNSEEN_ROWS = {"seen": "combinations seen in training", "unseen": "combinations never seen",
               "seen_twemoji": "drawn in another style"}


def unseen_data(store: Store) -> dict:
    means = store.extended["means"]
    return {"learned": {row: {m: means[row]["learned"][m] for m in ("hit", "target_seen", "success")}
                        for row in UNSEEN_ROWS}}


def draw_unseen(data: dict) -> Figure:
    measures = {"hit": "region found", "target_seen": "new object seen there", "success": "task done"}
    figure = _shares(tuple(UNSEEN_ROWS), data, measures, UNSEEN_ROWS)
    figure.set_label("Preset learned on what its models have not seen, with 95 % intervals. " + " ".join(
        f"{title.capitalize()}: {_said(tuple(UNSEEN_ROWS), data, m, UNSEEN_ROWS)}." for m, title in measures.items()))
    return figure


PIE_ROWS = ("known_region", "predicted", "learned", "edit_free", "instruct_pix2pix", "sdedit", "patch_similarity_mask",
            "patch_similarity", "diffedit", "whole_picture", "ledits_pp")


def pie_data(store: Store) -> dict:
    found = store.pie["groups"]["all"]
    # This study stores shares in percent.
    return {"all": {row: {m: {k: found[row][m][k] / 100 for k in ("value", "low", "high")}
                          for m in ("success", "others_kept")} for row in PIE_ROWS if row in found}}


def draw_pie(data: dict) -> Figure:
    titles = {**TITLES, "known_region": "the benchmark's own mask"}
    rows = tuple(row for row in PIE_ROWS if row in data["all"])
    figure = _shares(rows, data, {"success": "task done", "others_kept": "the other objects kept"}, titles)
    figure.set_label("The emoji set in PIE-Bench's format, with 95 % intervals. Task done: "
                     + _said(rows, data, "success", titles) + ". Others kept: "
                     + _said(rows, data, "others_kept", titles))
    return figure


HANDS = 3047
"""The scene that is shown in every style."""
SCENES = (3028, 3157, 3079, 3016, 3042, 3070, 3024, 3031, 3020, 3106, 3117, 3067, 3096, 3037, 3025, 3056)
"""Scenes on every ground of the trainings, in the order of `words.PLACES`."""
STRANGE = (3023, 3097, 3103, 3058)
"""Scenes that are shown on the held-out textures, and then in the held-out style as well."""


def world_data(store: Store) -> dict:
    """What each picture is called, and its recipe: a scene in every style, every ground, and what is held out."""
    notes = {HELD_OUT_STYLE: " (held out)", **dict.fromkeys(MORE_STYLES, " (only seen)")}
    hands = [(style + notes.get(style, ""), scene(HANDS, 2).styled(style)) for style in styles()]
    grounds = [(one.place, one) for one in (scene(seed, 2) for seed in SCENES)]
    strange = [(name, scene(seed, 2).on(name, 0)) for name, seed in zip(HELD_OUT_TEXTURES, STRANGE, strict=True)]
    both = [(f"{name}, {HELD_OUT_STYLE}", one.styled(HELD_OUT_STYLE)) for name, one in strange]
    return {"hands": [[title, one.to_dict()] for title, one in hands],
            "grounds": [[title, one.to_dict()] for title, one in grounds],
            "held out": [[title, one.to_dict()] for title, one in (*strange, *both)]}


def draw_world(data: dict) -> Figure:
    figure = plt.figure(figsize=(10, 6.6), layout="constrained")
    hands, grounds, held_out = figure.subfigures(3, 1, height_ratios=(1.95, 2.85, 1.55), hspace=0.02)
    hands.suptitle("One scene by six hands", fontsize=11.5)
    grounds.suptitle("The grounds of the trainings", fontsize=11.5)
    held_out.suptitle("Grounds that no model was trained on", fontsize=11.5)
    parts = ((hands, data["hands"], 1), (grounds, data["grounds"], 2), (held_out, data["held out"], 1))
    for part, shown, rows in parts:
        grid = part.subplots(rows, len(shown) // rows, squeeze=False)
        for axes, (title, stored) in zip(grid.flat, shown, strict=True):
            axes.imshow(recipe_of(stored).render(), interpolation="lanczos")
            axes.set_title(title, fontsize=9.5 if part is hands else 8.5, pad=2)
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
    names = [title for title, _ in data["hands"]]
    # A caption calls a held-out texture the ground, so its name is said instead.
    strange = [f"{stored['caption'].rsplit(' on ', 1)[0]} on {title}" for title, stored in data["held out"]]
    figure.set_label(f"Scenes of the emoji world. One by six hands, {', '.join(names)}: "
                     f"{data['hands'][0][1]['caption']}. On the grounds of the trainings: "
                     + "; ".join(stored["caption"] for _, stored in data["grounds"])
                     + ". On grounds that no model was trained on: " + "; ".join(strange))
    return figure
