"""`python -m lr_helpers study extended`: the extended experiments, measured with the preset `learned`.

The same scenes three times: replaced by a target that was seen in this place in training, by one that never was, and by
the first, all drawn in another style. Then two objects, one after the other, and the prompts of
`samples.emoji_prompts`. Every scene is a file, so a run that was stopped goes on.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from tqdm.auto import tqdm

from lr_helpers.boxes import iou
from lr_helpers.course.samples import EmojiPrompt, emoji_groups, emoji_prompts
from lr_helpers.editing import edit
from lr_helpers.errors import UserError
from lr_helpers.files.pictures import to_image, to_tensor
from lr_helpers.files.writing import prepare_folder, write_json
from lr_helpers.intervals import rate
from lr_helpers.method import METHODS
from lr_helpers.models.loading import Models, load_models
from lr_helpers.sequence import edit_in_turn
from lr_helpers.study import measures
from lr_helpers.study.causes import proposed, region_cause
from lr_helpers.study.extended import COMPOSITIONAL, TWO, combinations, restyled, two_turns
from lr_helpers.study.pool import worker_pool
from lr_helpers.study.runner import SETS, run_task
from lr_helpers.study.tasks import Task
from tiny_world.judge import Judge, load
from tiny_world.scenes import square

SHOWN = ("hit", "iou", "success", "target_seen", "source_gone", "others_kept", "psnr")
JUDGED = ("success", "source_gone", "others_kept")
"""What says something only where the judge named the objects before the edit."""


def combination_record(seed: int, style: str, models: Models, judge: Judge, steps: int) -> dict:
    """Learned and known region on each version of one scene, and what the judge calls its objects in each style."""
    unseen, seen = combinations(seed)
    kinds = {one.kind: one for one in (seen, unseen, restyled(seen, style))}
    names = [o.name for o in seen.recipe.objects]
    looks = [square(o) for o in seen.recipe.objects]
    said = {name: judge.name(one.picture.expand(len(looks), -1, -1, -1), looks) for name, one in
            (("noto", seen), (style, kinds[f"seen_{style}"]))}
    choices = {kind: run_task(one, models, judge, "extended", steps)["choices"] for kind, one in kinds.items()}
    return {"seed": seed, "objects": len(names), "place": seen.recipe.place,
            "targets": {"seen": seen.target, "unseen": unseen.target},
            "named": {name: [a == b for a, b in zip(words, names, strict=True)] for name, words in said.items()},
            "kinds": choices,
            "lost": {kind: lost(one, choices[kind]["expectation"]["box"], models) for kind, one in kinds.items()}}


def lost(one: Task, box: Sequence[int], models: Models) -> str | None:
    """Which stage of `learned` lost the region, as `causes.region_cause` names it; None if it did not."""
    others = [o.box for o in one.recipe.objects if o.box != one.truth]
    return region_cause(one.truth, others, box, proposed(models, one, METHODS["learned"]))


def turns_record(seed: int, models: Models, judge: Judge, steps: int) -> dict:
    """Both edits of a scene, with and without keeping the second away from the first; measured on the final picture."""
    two, found = two_turns(seed), {}
    for name, keep in (("kept apart", True), ("free", False)):
        done = edit_in_turn(models, to_image(two.tasks[0].picture), two.turns, METHODS["learned"].but(steps=steps),
                            keep=keep, progress=False)
        final = to_tensor(done.image)
        turns = [{**measures.region(one, box), **measures.success(one, box, final, judge)}
                 for one, box in zip(two.tasks, done.boxes, strict=True)]
        found[name] = {"turns": turns, "boxes": done.boxes, "both": float(all(t["success"] for t in turns)),
                       "evaluations": done.cost["denoiser_evaluations"], "warnings": done.warnings}
    return {"seed": seed, "found": found}


def prompt_record(group: str, one: EmojiPrompt, models: Models, judge: Judge, steps: int) -> dict:
    """One edit by a prompt of `samples.emoji_prompts`: its region, and which of its objects the judge sees there."""
    done = edit(models, one.picture, one.source, one.prompt, METHODS["learned"].but(steps=steps), progress=False)
    (said,) = judge.name(to_tensor(done.image)[None], [done.box])
    overlap = float(iou(torch.tensor(done.box), torch.tensor(one.truth)))
    return {"group": group, "prompt": one.prompt, "source": one.source, "targets": one.targets,
            "box": done.box, "said": said, "iou": round(overlap, 5), "hit": float(overlap >= 0.5),
            "a target seen": float(said in one.targets)}


_loaded: list = []  # a worker's models


def _start() -> None:
    _loaded[:] = [load_models("tiny", device="cpu"), load()]


def _work(name: str, style: str, steps: int, folder: Path) -> str:
    kind, seed = name.split("_")
    if kind == "scene":
        record = combination_record(int(seed), style, *_loaded, steps)
    elif kind == "turns":
        record = turns_record(int(seed), *_loaded, steps)
    else:
        record = prompt_record(*_prompts()[seed], *_loaded, steps)
    write_json(folder / f"{name}.json", record)
    return name


def _prompts() -> dict[str, tuple[str, EmojiPrompt]]:
    return {one.name: (group, one) for group in emoji_groups() for one in emoji_prompts(group)}


def run(folder: Path, style: str, scenes: int = 100, pairs: int = 50, prompts: int | None = None, steps: int = 6,
        workers: int | None = None) -> dict:
    """Do what is missing of so many scenes, pairs of edits, and prompts (default: all); write `summary.json`, print it,
    and return it. Raises UserError if the folder holds experiments with other settings.
    """
    begun, folder = time.perf_counter(), prepare_folder(folder)
    wanted = json.loads(json.dumps({"style": style, "steps": steps, "method": asdict(METHODS["learned"])}))
    file, parts = folder / "settings.json", folder / "tasks"
    if file.exists() and json.loads(file.read_text(encoding="utf-8")) != wanted:
        raise UserError(f"{folder} holds experiments with other settings; give another --output, or delete it.")
    parts.mkdir(exist_ok=True)
    write_json(file, wanted)
    names = [[f"{kind}_{first + i}" for i in range(count)]
             for kind, first, count in (("scene", COMPOSITIONAL, scenes), ("turns", TWO, pairs))]
    names.append([f"prompt_{seed}" for seed in _prompts()][:prompts])
    total = sum(map(len, names))
    missing = [n for part in names for n in part if not (parts / f"{n}.json").exists()]
    if missing:
        bar = tqdm(total=total, initial=total - len(missing), desc="scenes", unit="scene")
        with bar, worker_pool(min(workers or os.cpu_count() or 1, len(missing)), _start, ()) as each:
            for done in each(_work, [(n, style, steps, parts) for n in missing]):
                bar.set_postfix_str(done)
                bar.update()
    found = [[json.loads((parts / f"{n}.json").read_text(encoding="utf-8")) for n in part] for part in names]
    summary = {**wanted, **summarise(*found)}
    write_json(folder / "summary.json", summary)
    show(summary)
    print(f"\n{time.perf_counter() - begun:.0f} s in this run. Tables: {folder / 'summary.json'}")
    return summary


def summarise(scenes: Sequence[dict], pairs: Sequence[dict], prompts: Sequence[dict]) -> dict:
    """Means with 95 % intervals by kind, chooser and measure; paired differences from "seen"; both turns; prompts.

    The JUDGED measures are of those scenes alone whose objects the judge named, all of them, as they were drawn: an
    object that it never knew would always be "gone". "count" says how many.
    """
    kinds = list(scenes[0]["kinds"]) if scenes else []

    def known(record: dict, kind: str, measure: str) -> bool:
        return measure not in JUDGED or all(record["named"].get(kind.removeprefix("seen_"), record["named"]["noto"]))

    def values(kind: str, chooser: str, measure: str) -> list[float]:
        return [r["kinds"][kind][chooser][measure] for r in scenes
                if measure in r["kinds"][kind][chooser] and known(r, kind, measure)]

    def less(kind: str, measure: str) -> list[float]:
        return [r["kinds"][kind]["expectation"][measure] - r["kinds"]["seen"]["expectation"][measure] for r in scenes
                if known(r, kind, measure) and known(r, "seen", measure)]

    means = {kind: {chooser: _means({m: values(kind, chooser, m) for m in SHOWN}) for chooser in SETS["extended"]}
             for kind in kinds}
    named = {style: [right for r in scenes for right in r["named"][style]]
             for style in (scenes[0]["named"] if scenes else ())}
    turns = {}
    for name in (pairs[0]["found"] if pairs else ()):
        found = [r["found"][name] for r in pairs]
        turns[name] = {"both done": rate(sum(int(f["both"]) for f in found), len(found)),
                       "no free proposal": sum(bool(f["warnings"]) for f in found),
                       **{f"{m}, turn {i + 1}": measures.mean_with_interval([f["turns"][i][m] for f in found],
                                                                            share=True)
                          for m in ("hit", "target_seen", "source_gone", "others_kept") for i in (0, 1)}}
    groups: dict[str, list[dict]] = {}
    for record in prompts:
        groups.setdefault(record["group"], []).append(record)
    asked = {group: _means({m: [r[m] for r in part] for m in ("hit", "iou", "a target seen")})
             for group, part in groups.items()}
    missed = {kind: Counter(r["lost"][kind] for r in scenes if r["lost"][kind]) for kind in kinds}
    return {"means": means, "turns": turns, "prompts": asked, "regions lost": missed,
            "less seen": {kind: {m: measures.mean_with_interval(v) for m in ("hit", "success") if (v := less(kind, m))}
                          for kind in kinds[1:]},
            "judge names the objects": {style: rate(sum(v), len(v)) for style, v in named.items()}}


def _means(found: dict[str, list[float]]) -> dict[str, dict]:
    return {name: measures.mean_with_interval(values, share=name in measures.SHARES)
            for name, values in found.items() if values}


def show(summary: dict) -> None:
    """Print the tables."""
    def said(v: dict) -> str:
        return f"{v['value']:.2f} [{v['low']:.2f}, {v['high']:.2f}] of {v['count']}"

    for kind, found in summary["means"].items():
        print(f"\n{kind}")
        for title, values in (*found.items(), ("less seen", summary["less seen"].get(kind, {}))):
            if values:
                print(f"  {title:12}" + "   ".join(f"{m} {said(v)}" for m, v in values.items()))
        print("  regions lost: " + (", ".join(f"{c} {n}" for c, n in summary["regions lost"][kind].items()) or "none"))
    for style, v in summary["judge names the objects"].items():
        print(f"\nThe judge names the objects of the scenes, {style}: {said(v)}")
    for name, found in summary["turns"].items():
        print(f"\ntwo turns, {name}; no free proposal: {found['no free proposal']}")
        print("  " + "   ".join(f"{m} {said(v)}" for m, v in found.items() if isinstance(v, dict)))
    for group, found in summary["prompts"].items():
        print(f"\nprompts, {group}\n  " + "   ".join(f"{m} {said(v)}" for m, v in found.items()))
