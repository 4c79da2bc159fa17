"""Several objects, a region for each: edits one after another. An extension; the paper edits one region."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image

from lr_helpers.boxes import Box, intersection
from lr_helpers.editing import edit_checked
from lr_helpers.errors import UserError
from lr_helpers.files.outputs import FINAL, RESULT, TURNS, Output, turn_names
from lr_helpers.files.pictures import open_noted
from lr_helpers.files.writing import json_bytes, png_bytes
from lr_helpers.method import Method, check_seed, check_texts, get_method
from lr_helpers.models.loading import Models
from lr_helpers.result import EditResult


@dataclass
class Turns:
    """What `edit_in_turn` returns: each step's input is the final picture of the one before."""

    steps: list[EditResult]
    warnings: list[str]
    """Of the turns as such; those of a step are its own."""

    @property
    def image(self) -> Image.Image:
        """The final picture, as large as the input."""
        return self.steps[-1].image

    @property
    def boxes(self) -> list[Box]:
        """The learned regions (x0, y0, x1, y1) in pixels of the picture, in the order of the steps."""
        return [step.box for step in self.steps]

    @property
    def cost(self) -> dict:
        """Summed over the steps: "denoiser_evaluations", "edits", "different_edits" and "seconds" in all."""
        counts = ("denoiser_evaluations", "edits", "different_edits")
        return {**{name: sum(step.cost[name] for step in self.steps) for name in counts},
                "seconds": round(sum(step.cost["seconds"]["total"] for step in self.steps), 3)}

    def save(self, folder: str | Path, draw_boxes: bool = False) -> Path:
        """Each step as `EditResult.save` lays it out in `step_1`, `step_2` …, then `final_output.png` and, last,
        `turns.json`; returns the folder. All appear at once, and what an earlier edit saved there goes; raises as
        `EditResult.save` does.
        """
        output = Output(folder, "edit")
        output.require(turn_names(max(len(step.candidates) for step in self.steps), len(self.steps), draw_boxes))
        with output.change() as change:
            change.remove_others()
            for number, step in enumerate(self.steps, 1):
                for name, data in step.files(draw_boxes):
                    change.write(f"step_{number}/{name}", data, record=name == RESULT)
            change.write(FINAL, png_bytes(self.image))
            record = {"steps": [{"folder": f"step_{number}", "source": step.source, "prompt": step.prompt,
                                 "box": list(step.box)} for number, step in enumerate(self.steps, 1)],
                      "cost": self.cost, "warnings": self.warnings}
            change.write(TURNS, json_bytes(record), record=True)
        return output.folder


def edit_in_turn(models: Models, image: str | Path | Image.Image, turns: Sequence[tuple[str, str]],
                 method: Method | str = "learned", seed: int = 42, keep: bool = True, progress: bool = True) -> Turns:
    """For each (source, prompt) in turn: learn a region and edit there, on the picture the last turn left.

    With `keep`, the regions edited before stay as they are: proposals that overlap them are left out. Only where every
    proposal overlaps them are those taken that do so least, and the warnings say it. Without `keep` a later turn
    may edit anywhere. All texts are checked before the first edit; raises UserError as `edit` does.
    """
    if not turns:
        raise UserError("There is no edit to make; give at least one pair of source and prompt.")
    method = get_method(method) if isinstance(method, str) else method
    check_seed(seed)
    turns = [check_texts(source, prompt) for source, prompt in turns]
    picture, notes = open_noted(image)
    return edit_in_turn_checked(models, picture, turns, method, seed, keep, progress, notes)


def edit_in_turn_checked(models: Models, picture: Image.Image, turns: Sequence[tuple[str, str]], method: Method,
                         seed: int, keep: bool = True, progress: bool = False, notes: Sequence[str] = ()) -> Turns:
    """`edit_in_turn` for a picture with its notes as `open_noted` returns them, and texts as `check_texts` does (see
    `edit_checked`).
    """
    steps, warnings = [], []
    for source, prompt in turns:
        before = [step.painted for step in steps]
        step = edit_checked(models, picture, source, prompt, method, seed, progress=progress,
                            avoid=before if keep else (), notes=() if steps else notes)
        if keep and _overlaps(step.painted, before):
            warnings.append(f"The region of {prompt!r} overlaps one that was edited before: no proposal was free "
                            "of them.")
        steps.append(step)
        picture = step.image
    return Turns(steps, warnings)


def _overlaps(box: Box, others: Sequence[Box]) -> bool:
    return bool(others) and bool((intersection(torch.tensor(box), torch.tensor(others)) > 0).any())
