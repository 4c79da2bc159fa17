"""`python -m lr_helpers study extended`: the extended experiments, measured with the preset `learned`.

The same scenes three times: replaced by a target that was seen in this place in training, by one that never was, and by
the first, all drawn in another style. Then two objects, one after the other, and the prompts of
`samples.emoji_prompts`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from lr_helpers.boxes import Box, iou
from lr_helpers.course.samples import EmojiPrompt, emoji_groups, emoji_prompts
from lr_helpers.editing import edit
from lr_helpers.files.pictures import to_image, to_tensor
from lr_helpers.intervals import rate
from lr_helpers.method import METHODS
from lr_helpers.models.loading import Models, load_models
from lr_helpers.sequence import edit_in_turn
from lr_helpers.study import measures, tables
from lr_helpers.study.causes import proposed, region_cause
from lr_helpers.study.regions import run_task
from lr_helpers.study.run import Done, Study
from lr_helpers.study.tasks import COMPOSITIONAL, TWO, Task, combinations, restyled, two_turns
from lr_helpers.study.variants import plain
from tiny_world.judge import Judge, load

ROWS = ("learned", "known_region")
MEASURES = ("hit", "iou", "success", "target_seen", "source_gone", "others_kept", "psnr")
SHIPPED = "training styles"
"""What scenes are drawn in unless another style is asked for: the styles in which everything was trained."""


# One job


def combination_record(seed: int, style: str, models: Models, judge: Judge, steps: int) -> dict:
    """Learned and known region on each version of one scene, and what the judge calls its objects in each style."""
    unseen, seen = combinations(seed)
    kinds = {one.kind: one for one in (seen, unseen, restyled(seen, style))}
    # Does the judge know these objects, as they are drawn, before any edit?
    named = {SHIPPED: measures.names_objects(seen, judge), style: measures.names_objects(kinds[f"seen_{style}"], judge)}
    # Each version edited by both rows; where `learned` missed, by which stage.
    choices, missed = {}, {}
    for kind, one in kinds.items():
        choices[kind] = run_task(one, models, judge, plain(ROWS), steps)["choices"]
        missed[kind] = lost(one, tuple(choices[kind]["learned"]["box"]), models)
    return {"seed": seed, "objects": len(seen.recipe.objects), "place": seen.recipe.place,
            "targets": {"seen": seen.target, "unseen": unseen.target}, "named": named, "kinds": choices, "lost": missed}


def lost(one: Task, box: Box, models: Models) -> str | None:
    """Which stage of `learned` lost the region, as `causes.region_cause` names it; None if it did not."""
    return region_cause(one.truth, one.known_others, box, proposed(models, one, METHODS["learned"]))


def turns_record(seed: int, models: Models, judge: Judge, steps: int) -> dict:
    """Both edits of a scene, with and without keeping the second away from the first; measured on the final picture."""
    two, found = two_turns(seed), {}
    for name, keep in (("kept apart", True), ("free", False)):
        # Both turns are made first: the second may spoil what the first did.
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
    # The judge looks where it was edited; of several targets, any will do.
    (said,) = judge.name(to_tensor(done.image)[None], [done.box])
    overlap = float(iou(torch.tensor(done.box), torch.tensor(one.truth)))
    return {"group": group, "prompt": one.prompt, "source": one.source, "targets": one.targets,
            "box": done.box, "said": said, "iou": round(overlap, 5), "hit": float(overlap >= 0.5),
            "a target seen": float(said in one.targets)}


def all_prompts() -> dict[str, tuple[str, EmojiPrompt]]:
    """The emoji world's prompts, each with its group, by name."""
    return {one.name: (group, one) for group in emoji_groups() for one in emoji_prompts(group)}


# The study


@dataclass
class Extended(Study):
    """So many scenes, pairs of edits, and prompts (None: all)."""

    folder: Path
    style: str
    """The other drawing style."""
    scenes: int = 100
    pairs: int = 50
    prompts: int | None = None
    steps: int = 6
    """Denoising steps of an edit."""

    unit = "scenes"

    def settings(self, about: dict) -> dict:
        return {"style": self.style, "steps": self.steps, "method": asdict(METHODS["learned"])}

    def jobs(self) -> list[tuple[str, str]]:
        # Names tell a job's kind; scenes and pairs are their seeds.
        scenes = [("scene", str(COMPOSITIONAL + i)) for i in range(self.scenes)]
        pairs = [("turns", str(TWO + i)) for i in range(self.pairs)]
        return [*scenes, *pairs, *(("prompt", name) for name in list(all_prompts())[:self.prompts])]

    def file(self, job: tuple[str, str]) -> str:
        return "_".join(job)

    def load(self) -> None:
        self.models, self.judge = load_models("tiny", device="cpu"), load()

    def do(self, job: tuple[str, str]) -> dict:
        kind, name = job
        if kind == "scene":
            return combination_record(int(name), self.style, self.models, self.judge, self.steps)
        if kind == "turns":
            return turns_record(int(name), self.models, self.judge, self.steps)
        return prompt_record(*all_prompts()[name], self.models, self.judge, self.steps)

    def summarise(self, done: Done) -> dict:
        scenes = [record for record in done.records if "kinds" in record]
        pairs = [record for record in done.records if "found" in record]
        prompts = [record for record in done.records if "group" in record]
        return {**self.settings({}), **summarise(scenes, pairs, prompts)}

    def show(self, summary: dict, done: Done) -> None:
        show(summary)


# Its tables


def summarise(scenes: Sequence[dict], pairs: Sequence[dict], prompts: Sequence[dict]) -> dict:
    """Means with 95 % intervals by kind, row and measure; paired differences from "seen"; both turns; prompts.

    The `measures.JUDGED` are of those scenes alone whose objects the judge named, all of them, as they were drawn.
    "count" says how many.
    """
    kinds = list(scenes[0]["kinds"]) if scenes else []
    versions = {kind: flat(scenes, kind) for kind in kinds}
    learned = {kind: [r for r in found if r["row"] == "learned"] for kind, found in versions.items()}
    named = {style: [right for record in scenes for right in record["named"][style]]
             for style in (scenes[0]["named"] if scenes else ())}
    groups: dict[str, list[dict]] = {}
    for record in prompts:
        groups.setdefault(record["group"], []).append(record)
    return {"means": {kind: tables.means(found, MEASURES) for kind, found in versions.items()},
            "turns": summarise_turns(pairs),
            "prompts": {group: tables.means_of(own, ("hit", "iou", "a target seen")) for group, own in groups.items()},
            "regions lost": {kind: Counter(r["lost"][kind] for r in scenes if r["lost"][kind]) for kind in kinds},
            "less seen": {kind: tables.differences(learned[kind], learned["seen"], ("hit", "success"))
                          for kind in kinds[1:]},
            "judge names the objects": {style: rate(sum(right), len(right)) for style, right in named.items()}}


def flat(scenes: Sequence[dict], kind: str) -> list[dict]:
    """One record for each scene and row of this kind, without `measures.JUDGED` where the judge knew not all."""
    found = []
    for record in scenes:
        # "seen" and "unseen" are drawn in the training styles.
        style = kind.removeprefix("seen_")
        known = all(record["named"].get(style, record["named"][SHIPPED]))
        for row, choice in record["kinds"][kind].items():
            measured = {m: v for m, v in choice.items() if known or m not in measures.JUDGED}
            found.append({"task": record["seed"], "row": row, **measured})
    return found


def summarise_turns(pairs: Sequence[dict]) -> dict:
    """With the regions kept apart, and free: how often both tasks are done, and what became of each turn's."""
    found = {}
    for name in (pairs[0]["found"] if pairs else ()):
        own = [record["found"][name] for record in pairs]
        found[name] = {"both done": rate(sum(int(f["both"]) for f in own), len(own)),
                       "no free proposal": sum(bool(f["warnings"]) for f in own)}
        for measure in ("hit", "target_seen", "source_gone", "others_kept"):
            for turn in (0, 1):
                # A measure at a time, so that the two turns stand side by side.
                mean = tables.means_of([f["turns"][turn] for f in own], (measure,))
                found[name][f"{measure}, turn {turn + 1}"] = mean[measure]
    return found


def show(summary: dict) -> None:
    """Print the tables."""
    for kind, means in summary["means"].items():
        tables.print_means(kind, {**means, "less seen": summary["less seen"].get(kind, {})}, MEASURES)
        lost_by = [f"{cause} {count}" for cause, count in summary["regions lost"][kind].items()]
        print(f"  regions lost: {', '.join(lost_by) or 'none'}")
    for name, value in summary["judge names the objects"].items():
        print(f"\nThe judge names the objects of the scenes, {name}: {tables.said(value)} of {value['count']}")
    for name, found in summary["turns"].items():
        measured = {name: value for name, value in found.items() if isinstance(value, dict)}
        tables.print_means("two turns", {name: measured}, list(measured))
        print(f"  no free proposal: {found['no free proposal']}")
    tables.print_means("prompts", summary["prompts"], ("hit", "iou", "a target seen"))
