"""The tables of README.md and docs/, written from the stored studies."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping, Sequence

from lr_helpers.authoring import badges
from lr_helpers.authoring import docs_drawings as drawings
from lr_helpers.authoring.docs_store import TITLES, Store
from lr_helpers.authoring.notebooks import PATTERN
from lr_helpers.errors import UserError
from lr_helpers.study import rivals

DECIMALS = {"psnr": 1, "iou": 2, "ceiling": 2, "seam": 1, "colour_shift": 1, "evaluations": 0, "seconds": 1}
"""Measures that are not shares, and how many decimals they are written with; all others are written in percent."""
NOTHING = ""
"""What a table shows where a measure does not apply."""


def interval(found: Mapping[str, float], measure: str, count: bool = False) -> str:
    """A mean with its 95 % interval: "93 % [88, 98]", "33.0 [30.1, 36.3]"; alone where the interval has no width."""
    decimals = DECIMALS.get(measure)
    scale, decimals, unit = (100, 0, " %") if decimals is None else (1, decimals, "")
    value, low, high = (f"{scale * found[key]:,.{decimals}f}" for key in ("value", "low", "high"))
    written = f"{value}{unit}" if low == value == high and not unit else f"{value}{unit} [{low}, {high}]"
    return f"{written} of {found['count']}" if count else written


def difference(found: Mapping[str, float]) -> str:
    """A difference of shares in points with its sign: "−7 points [−17, +2]"."""
    value, low, high = (f"{100 * found[key]:+.0f}".replace("-", "−") for key in ("value", "low", "high"))
    return f"{value} points [{low}, {high}]"


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; where a cell is narrow, an interval stays on one line."""
    lines = [head, ["---"] * len(head), *rows]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return re.sub(r"(\[[^],|]+), ([^],|]+\])", "\\1,\u00a0\\2", table)


def _row_title(name: str) -> str:
    """A way to edit as tables call it; ours in bold."""
    return f"**{TITLES[name]}**" if name in ("learned", "predicted") else TITLES[name]


def _measured(found: Mapping[str, dict], measure: str) -> str:
    """One cell."""
    return interval(found[measure], measure) if measure in found else NOTHING


# The notebooks, for README.md.

def _notebooks(store: Store) -> str:
    """Title and badge of each notebook, with the one idea that docs/notebooks.toml gives it; and a sentence while the
    badges lead nowhere.
    """
    ideas = tomllib.loads((store.root / "docs" / "notebooks.toml").read_text(encoding="utf-8"))
    rows = []
    for file in sorted((store.root / "notebooks").glob(PATTERN + ".py")):
        if file.stem not in ideas:
            raise UserError(f"docs/notebooks.toml has no line for {file.stem}; say its one idea there.")
        title = re.search(r"^# # (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE)[1].replace(" · ", " ")
        path = f"notebooks/{file.stem}.ipynb"
        rows.append([f"[{title}]({path})", ideas[file.stem], f"[![Colab][badge]]({badges.colab_address(path)})"])
    table = f"{markdown(['notebook', 'the one idea', ''], rows)}\n\n[badge]: {badges.BADGE_PICTURE}"
    if badges.placeholder():
        table += ("\n\nThe badges open nothing yet: the repository has no public address, and `OWNER` stands in its "
                  "place ([more](docs/notebooks.md#on-colab)).")
    return table


# Tables of the studies.

FRONT_ROWS = ("official_code", "paper", "learned", "predicted", "instruct_pix2pix", "sdedit", "known_region")
REGION_ROWS = ("random_anchors", "random_sizes", "official_code", "paper", "straight_through", "reinforce", "learned",
               "exhaustive", "predicted", "fast", "edit_free", "known_region")


def _front(store: Store) -> str:
    """The one table of README.md: who finds the region (study `regions`), and what the edit is worth (`compare`)."""
    regions, compared, steps = store.regions["means"], store.compare["means"]["replace"], store.compare["steps"]
    rows = []
    for name in FRONT_ROWS:
        found = compared[f"{name} at {steps}"]
        hits = [NOTHING, NOTHING]  # who paints the whole picture finds no region; the known one needs no finding
        if name in regions["replace, one object"] and name != "known_region":
            hits = [_measured(regions[group][name], "hit") for group in ("replace, one object", "replace, two objects")]
        rows.append([_row_title(name), *hits, _measured(found, "success"), _measured(found, "psnr"),
                     f"{found['evaluations']['value']:,.0f}"])
    return markdown(["", "region found, one object", "region found, two objects", "task done", "background PSNR, dB",
                     "denoiser evaluations"], rows)


def _regions(store: Store) -> str:
    means = store.regions["means"]
    one, two = means["replace, one object"], means["replace, two objects"]
    rows = []
    for name in REGION_ROWS:
        hits = [NOTHING, NOTHING] if name == "known_region" else [_measured(g[name], "hit") for g in (one, two)]
        evaluations = (one[name]["evaluations"]["value"] + two[name]["evaluations"]["value"]) / 2  # as many scenes each
        rows.append([_row_title(name), *hits, _measured(one[name], "success"), _measured(two[name], "success"),
                     f"{evaluations:,.0f}"])
    return markdown(["region", "found, one object", "found, two objects", "task done, one", "task done, two",
                     "denoiser evaluations"], rows)


def _add(store: Store) -> str:
    empty, beside = (store.regions["means"][g] for g in ("add, empty scene", "add, one object there"))
    rows = [[_row_title(name), _measured(empty[name], "success"), _measured(beside[name], "success")]
            for name in REGION_ROWS if name in empty]
    return markdown(["region", "add to an empty scene", "add beside an object"], rows)


STRANGE = {"replace": "as in training", "held-out style": "another style", "held-out textures": "other ground"}
"""The groups of the study whose scenes differ from those of the trainings, and what a table calls them."""
STRANGE_ROWS = ("official_code", "paper", "predicted", "fast", "learned", "edit_free", "known_region")


def _strange(store: Store) -> str:
    """Each row in the training styles, in the held-out style and on held-out textures."""
    rows = []
    for name in STRANGE_ROWS:
        for group, title in STRANGE.items():
            means = [store.regions["means"][f"{group}, {objects}"] for objects in ("one object", "two objects")]
            one, two = (found.get(name) for found in means)
            if one and two:
                hits = [NOTHING, NOTHING] if name == "known_region" else [_measured(g, "hit") for g in (one, two)]
                rows.append([_row_title(name), title, *hits, _measured(one, "success"), _measured(two, "success")])
    return markdown(["region", "scenes", "found, one object", "found, two objects", "task done, one", "task done, two"],
                    rows)


def _predictors(store: Store) -> str:
    """Networks by the number of pictures that they learned from, and without each thing that they see."""
    means = store.predictors["means"]
    one, two, beside = (means[g] for g in ("replace, one object", "replace, two objects", "add, one object there"))
    rows = [[name, *(_measured(g[name], "hit") for g in (one, two)),
             *(_measured(g[name], "success") for g in (one, two, beside))] for name in one]
    return markdown(["learned from", "found, one object", "found, two objects", "task done, one", "task done, two",
                     "added beside an object"], rows)


def _objectives(store: Store) -> str:
    """Losses by how often the box that each likes best does the task."""
    means = store.objectives["means"]
    every = means["all tasks"]
    # The objective `direction` is that term alone.
    names = sorted(set(every) - {"direction alone"}, key=lambda name: (-every[name]["success"]["value"], name))
    rows = [[name, *(_measured(means[group][name], "success") for group in OBJECTIVE_GROUPS),
             _measured(every[name], "success")] for name in names]
    return markdown(["the box of the lowest", *OBJECTIVE_GROUPS.values(), "all"], rows)


OBJECTIVE_GROUPS = {"replace, one object": "replace, one", "replace, two objects": "replace, two",
                    "add, empty scene": "add, empty", "add, one object there": "add, beside",
                    "remove, one object": "remove, one", "remove, two objects": "remove, two"}
"""Groups of that study, and their columns."""


def _confidence(store: Store) -> str:
    """Thresholds of `fast` by what comes of them, over all tasks."""
    found = store.confidence
    rows = []
    for threshold, means in found["means"]["all tasks"].items():
        paired = found["differences"].get(threshold)
        less = [difference(paired[measure]) if paired else "" for measure in ("success", "hit")]
        rows.append([{"0": "always", "1": "never"}.get(threshold, f"from {threshold} on"), _measured(means, "success"),
                     less[0], _measured(means, "hit"), less[1], f"{means['evaluations']['value']:.0f}"])
    return markdown(["first box alone", "task done", "less always", "found", "less always", "evaluations"], rows)


def _causes(store: Store) -> str:
    names = drawings.CAUSE_ROWS
    found = store.causes
    tasks = found["learned"]["tasks"]
    rows = [[f"regions missed, of {tasks}", *(str(found[n]["missed"]) for n in names)]]
    for cause, (title, _) in drawings.CAUSES.items():
        rows.append([title, *(str(found[n]["lost_region"][cause]) for n in names)])
    rows.append([f"tasks failed, of {tasks}", *(str(found[n]["failed"]) for n in names)])
    rows.append(["of them in a right region: the editor's", *(str(found[n]["lost"]["editor"]) for n in names)])
    return markdown(["", *(TITLES[n] for n in names)], rows)


def _unseen(store: Store) -> str:
    means = store.extended["means"]
    rows = []
    for name, title in drawings.UNSEEN_ROWS.items():
        found = means[name]["learned"]
        judged = found["success"]["count"] < found["hit"]["count"]
        rows.append([title, interval(found["hit"], "hit"), interval(found["target_seen"], "target_seen"),
                     interval(found["success"], "success", count=judged)])
    return markdown(["the same scenes", "region found", "new object seen there", "task done"], rows)


def _photographs(store: Store) -> str:
    rows = []
    for name, found in store.photographs["means"].items():
        rows.append([_row_title(name), *(interval(found[m], m) for m in (
            "iou", "hit", "centre_inside", "ceiling", "seam", "colour_shift", "evaluations"))])
    return markdown(["row", "IoU", "region found", "centre inside the marked box", "best proposal's IoU",
                     "seam, of 255", "colour shift, of 255", "evaluations"], rows)


def _prompts(store: Store) -> str:
    rows = [[group, interval(found["hit"], "hit"), interval(found["a target seen"], "target_seen"),
             str(found["hit"]["count"])] for group, found in store.extended["prompts"].items()]
    return markdown(["kind of prompt", "region found", "a named object seen", "n"], rows)


def _compare(store: Store) -> str:
    means = store.compare["means"]["replace"]
    steps = store.compare["steps"]
    wanted = [f"{name} at {steps}" for name in TITLES if f"{name} at {steps}" in means] + ["learned at 3"]
    rows = []
    for variant in sorted(wanted, key=lambda v: -means[v]["success"]["value"]):
        found, (name, at) = means[variant], variant.split(" at ")
        title = _row_title(name) + ("" if int(at) == steps else f", {at} steps an edit")
        rows.append([title, *(_measured(found, m) for m in ("success", "psnr")),
                     f"{found['evaluations']['value']:,.0f}", f"{found['seconds']['value']:.1f}"])
    return markdown(["", "task done", "background PSNR, dB", "denoiser evaluations", "seconds, one thread"], rows)


def _rivals(store: Store) -> str:
    """Each other editor with its usual settings (its pipeline's, and the profile's guidance), and with those that were
    chosen for it.
    """
    found, rows = store.rivals, []
    for row, usual in found["usual"].items():
        for said, settings in (("usual", usual), ("chosen", found["chosen"][row])):
            means = found["means"][rivals.named(row, settings)]
            rows.append([TITLES[row], f"{said}: " + ", ".join(f"{name} {value:g}" for name, value in settings.items()),
                         interval(means["success"], "success"), interval(means["psnr"], "psnr")])
    return markdown(["", "settings", "task done", "background PSNR, dB"], rows)


def _pie(store: Store) -> str:
    found = store.pie["groups"]["all"]
    titles = {**TITLES, "known_region": "the benchmark's own mask"}
    rows = []
    for name in drawings.PIE_ROWS:
        mine = found[name]
        shares = [{k: v / 100 if k != "count" else v for k, v in mine[m].items()} for m in ("success", "others_kept")]
        rows.append([titles[name], *(interval(share, "success") for share in shares), _measured(mine, "psnr"),
                     f"{mine['evaluations']['value']:,.0f}"])
    count = found["learned"]["success"]["count"]
    return markdown(["", f"task done, of {count}", f"others kept, of {found['learned']['others_kept']['count']}",
                     "background PSNR, dB", "denoiser evaluations"], rows)


ZOO = (
    ("editor", "paints the asked object into an empty place", "judge sees the object, empty"),
    ("editor", "replaces an object by another in its box", "judge sees the object, replace"),
    ("editor", "its own frame outside the box, empty place, PSNR in dB", "own frame outside the box, PSNR dB, empty"),
    ("editor", "its own frame outside the box, replacing, PSNR in dB", "own frame outside the box, PSNR dB, replace"),
    ("editor", "the pasted edit is exact outside the box", "pasted edit exact outside the box, replace"),
    ("editor", "jump across the box's edges less beside them, of 255, pasted hard, as candidates are",
     "jump across the box's edges less beside them, of 255, pasted hard, replace"),
    ("editor", "the same blended, as a finished picture is",
     "jump across the box's edges less beside them, of 255, blended, replace"),
    ("editor", "jump over twice that beside, pasted hard", "jump over twice that beside, pasted hard, replace"),
    ("editor", "the same blended", "jump over twice that beside, blended, replace"),
    ("editor", "paints the asked object, its style named", "judge sees the object, style named"),
    ("editor", "of the drawings the nearest is in the style named", "nearest drawing has the style named"),
    ("editor", "spread of its edits over seeds, as a share of that over styles",
     "spread over seeds / over styles"),
    ("vae", "its autoencoder, PSNR in dB", "reconstruction PSNR dB"),
    ("clip", "prefers the scene with X to the same with Y", "prefers the scene with X to the one with Y"),
    ("clip", "finds the right caption for a picture, of 200", "caption found for picture, of 200"),
    ("clip", "finds the right picture for a caption, of 200", "picture found for caption, of 200"),
    ("dino", "its top 9 anchors lie inside an object", "top 9 anchors inside an object"),
    ("dino", "the same by chance", "chance"),
    ("judge", "names the objects", "names objects"),
    ("judge", "names objects that are painted over", "names objects that are painted over"),
    ("judge", "sees nothing where nothing is", "sees nothing where nothing is"),
)
"""Model, what is measured, and its name in METRICS.json, to which kinds of scenes are added."""
MODELS = {"editor": "editor (`StableDiffusionInpaintPipeline`)", "vae": "", "clip": "CLIP (open_clip, ViT tower)",
          "dino": "ViT (`ViTModel`, DINO-style)", "judge": "judge (small CNN, only measures)"}
SCENES = {"training styles": "training styles", "held-out style": "held-out style",
          "held-out textures": "held-out textures", "held-out style and texture": "both"}
"""Kinds of scenes, as `lr_helpers.study.zoo.GROUPS`, and their columns."""


def _zoo(store: Store) -> str:
    rows, before = [], None
    for model, what, key in ZOO:
        found = store.zoo[model]
        # What is measured on no kind in particular stands in the first column, whose scenes it is of.
        cells = [found.get(f"{key}, {group}") for group in SCENES]
        if not any(cells):
            if key not in found:
                raise UserError(f"METRICS.json lacks {key!r} of {model}; run python -m lr_helpers study zoo.")
            cells[0] = found[key]
        counts = dict.fromkeys(str(cell["count"]) for cell in cells if isinstance(cell, dict))
        rows.append([MODELS[model] if model != before else "", what, *(_zoo_cell(key, cell) for cell in cells),
                     ", ".join(counts)])
        before = model
    return markdown(["model", "measured", *SCENES.values(), "n"], rows)


def _zoo_cell(key: str, found: Mapping[str, float] | float | None) -> str:
    """ "99.2 % [98.0, 99.7]"; a number without an interval as it is; nothing where it was not measured."""
    if found is None:
        return NOTHING
    if not isinstance(found, Mapping):
        return f"{found:.2f}"
    scale, unit = (1, " dB") if "PSNR" in key else (1, "") if "of 255" in key else (100, " %")
    value, low, high = (f"{scale * found[k]:.1f}" for k in ("value", "low", "high"))
    return f"{value}{unit} [{low}, {high}]"


def _profiles(store: Store) -> str:
    from lr_helpers.models.profiles import PARTS

    known = tomllib.loads((store.root / "data" / "models.toml").read_text(encoding="utf-8"))["profiles"]
    rows = []
    for name, profile in known.items():
        size = sum(profile[part]["gigabytes"] for part in PARTS if part in profile)
        needs = "nothing" if "vocabulary" in profile else f"a GPU, and {size:.1f} GB from the hub"
        screening = profile.get("screening_steps", profile["steps"])
        rows.append([f"`{name}`", profile["title"], str(profile["size"]), str(screening), str(profile["steps"]), needs])
    return markdown(["profile", "models", "edits at", "steps of a candidate", "of the final edit", "needs"], rows)


def _true_size(store: Store) -> str:
    from lr_helpers.costs import true_size

    return true_size.table(store.benchmarks)


def _course_costs(store: Store) -> str:
    from lr_helpers.costs import course

    return course.table()


def _batch_costs(store: Store) -> str:
    found = store.costs["batch"]
    speed, layer = found["throughput"], found["overhead"]
    rows = [
        ["images an hour: one process with one thread / two with one each / one with two",
         " / ".join(f"{v:,}" for k, v in speed.items() if k.startswith("images an hour"))],
        ["two processes against one, one thread each; the goal was 1.7",
         str(speed["2 processes against 1, 1 thread each"])],
        ["the same for the bare editor: what this machine gives at most",
         str(found["machine limit"]["2 processes against 1"])],
        ["seconds of an item, one thread", str(speed["seconds of an item, 1 thread"])],
        ["seconds until the first edit begins", str(speed["seconds until the first edit"])],
        ["MiB of a process at its peak", f"{speed['MiB of the largest process, at its peak']:,}"],
        ["the batch layer over bare `edit` and `save`; the goal was at most 3 %",
         f"{layer['overhead %, median of pairs']:+} % (median of {layer['edits compared']} pairs)".replace("-", "−")],
        [f"memory over {found['memory']['items']} items, last quarter against the first",
         f"{found['memory']['growth %']:+} %"],
        [f"seconds to start a batch of {found['resume']['finished items']:,} finished items again; the goal was 5",
         str(found["resume"]["seconds to resume, median of 3"])],
        ["the same when the contact sheets have to be drawn",
         str(found["resume"]["seconds of the first time, which draws the contact sheets"])],
    ]
    return markdown(["", "measured"], rows)


BLOCKS: Mapping[str, Callable[[Store], str]] = {
    "notebooks": _notebooks, "front": _front, "regions": _regions, "add": _add, "strange": _strange, "causes": _causes,
    "predictors": _predictors, "objectives": _objectives, "confidence": _confidence, "unseen": _unseen,
    "photographs": _photographs, "prompts": _prompts, "compare": _compare, "rivals": _rivals, "pie": _pie, "zoo": _zoo,
    "profiles": _profiles, "true size": _true_size, "course costs": _course_costs, "batch costs": _batch_costs,
}
"""Blocks by name; each is a paragraph of its own."""
