"""`python -m lr_helpers vote make`: the pairs of edits for a class's blind vote, in a folder.

A scene for each pair: who saw one scene twice would know the edit that comes back. All edits are blended by one rule
(`lr_helpers.course.blending`), and the files' names tell nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

from lr_helpers.baselines import TITLES, Parts, known_row
from lr_helpers.course.blending import blend
from lr_helpers.course.votes import Pair
from lr_helpers.errors import UserError
from lr_helpers.files.pictures import to_image
from lr_helpers.files.writing import png_bytes
from lr_helpers.method import METHODS
from lr_helpers.models.loading import Models, load_models
from lr_helpers.models.profiles import get_profile
from lr_helpers.models.region_weights import which
from lr_helpers.study.compare import AT, edit, variants
from lr_helpers.study.run import Done, Study
from lr_helpers.study.tasks import VOTE, task

OURS = "learned"
OTHERS = ("sdedit", "instruct_pix2pix", "diffedit", "patch_similarity")
"""Whose edits are shown beside ours: three editors that choose no box, and one region found by a text."""
PART = ("input", "a", "b")


def make_pair(seed: int, ours: str, other: str, models: Models, parts: Parts, steps: int = AT) -> tuple[Pair, dict]:
    """One scene, edited by two rows of the registry, as voters see it; and what it cost: "evaluations" and "seconds" by
    row. Raises UserError where a row's models are out of reach.
    """
    one, edits, cost = task("replace", seed), {}, {"evaluations": {}, "seconds": {}}
    for row in (ours, other):
        (variant,) = variants([row], [steps])
        made = edit(one, variant, models, parts)
        edits[TITLES[row]] = to_image(blend(one.picture, made.picture))
        cost["evaluations"][row], cost["seconds"][row] = made.evaluations, round(made.seconds, 3)
    return Pair(to_image(one.picture), one.source, one.prompt, edits), cost


@dataclass
class VotePairs(Study):
    """So many pairs, ours beside each of the others in turn."""

    folder: Path
    pairs: int = 48
    others: Sequence[str] = OTHERS
    ours: str = OURS
    steps: int = AT

    unit = "pairs"

    def __post_init__(self) -> None:
        for row in (self.ours, *self.others):
            known_row(row)
            if not variants([row], [self.steps]):
                raise UserError(f"{row} is not made with {self.steps} steps; give {AT}.")
        if self.ours in self.others or len(set(self.others)) < len(self.others):
            raise UserError(f"The editors are {', '.join((self.ours, *self.others))}; name each once.")

    def settings(self, about: dict) -> dict:
        return {"study": "vote", "ours": self.ours, "others": list(self.others), "steps": self.steps, "first": VOTE,
                "presets": {name: asdict(method) for name, method in METHODS.items()},
                "regions": which(get_profile("tiny").regions)}

    def jobs(self) -> list[tuple[int, str]]:
        # Scenes with one object and with two take turns, and two in a row have the same editor: each gets both.
        return [(VOTE + i, self.others[i // 2 % len(self.others)]) for i in range(self.pairs)]

    def file(self, job: tuple[int, str]) -> str:
        return f"pair_{job[0]}"

    def names(self, job: tuple[int, str]) -> list[str]:
        return [*(f"pictures/{job[0]}_{part}.png" for part in PART), *super().names(job)]

    def load(self) -> None:
        self.models = load_models("tiny", device="cpu")
        self.parts = Parts(self.models.profile, self.models)

    def do(self, job: tuple[int, str]) -> dict:
        seed, other = job
        pair, cost = make_pair(seed, self.ours, other, self.models, self.parts, self.steps)
        # Which of the two is called a, is drawn: the name of a file tells nothing.
        methods = sorted(pair.edits)
        Random(f"names {seed}").shuffle(methods)
        with self.output.change(sweep=False) as change:
            for name, picture in zip(self.names(job), (pair.picture, *(pair.edits[m] for m in methods)), strict=False):
                change.write(name, png_bytes(picture))
        return {"seed": seed, "source": pair.source, "prompt": pair.prompt, "a": methods[0], "b": methods[1],
                "alike": pair.alike, **cost}

    def summarise(self, done: Done) -> dict:
        return {"study": "vote", "ours": TITLES[self.ours], "others": [TITLES[row] for row in self.others],
                "steps": self.steps, "pairs": done.records,
                "evaluations": sum(sum(r["evaluations"].values()) for r in done.records),
                "seconds": round(sum(sum(r["seconds"].values()) for r in done.records), 1)}

    def show(self, summary: dict, done: Done) -> None:
        alike = sum(record["alike"] for record in done.records)
        print(f"{len(done.records)} pairs, {summary['evaluations']:,} denoiser evaluations, {summary['seconds']:.0f} s "
              f"of editing; in {alike} both edits are the same, and these are not voted on.")
