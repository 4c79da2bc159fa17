"""`python -m lr_helpers study photographs`: where the presets edit in photographs whose objects are marked by hand.

There are five photographs, so this says whether a profile's models find an object at all, not how often they would.
What is measured of each picture is averaged first; intervals are over the pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from matplotlib.figure import Figure

from lr_helpers import plots
from lr_helpers.boxes import Box, area, box_mask, covered, iou
from lr_helpers.course.samples import Sample, shipped_photographs
from lr_helpers.editing import edit_checked, propose
from lr_helpers.errors import UserError
from lr_helpers.files.canvas import Canvas
from lr_helpers.files.pictures import to_tensor
from lr_helpers.files.writing import csv_bytes
from lr_helpers.inpainting import colour_shift, seam
from lr_helpers.method import METHODS, Method, get_method
from lr_helpers.models.loading import Models, load_models
from lr_helpers.models.profiles import Profile
from lr_helpers.models.region_weights import which
from lr_helpers.study import tables
from lr_helpers.study.run import Done, Study

ROWS = ("learned", "edit_free", "paper", "official_code")
"""Presets, and `learned` without trial edits."""
MEASURES = ("iou", "hit", "centre_inside", "covered", "share", "ceiling", "seam", "colour_shift", "evaluations",
            "seconds")
COLUMNS = ("task", "row", "prompt", "seed", "x0", "y0", "x1", "y1", *MEASURES)


def method_of(row: str, steps: int | None = None) -> Method:
    """The settings of a row; raises UserError for an unknown one."""
    if row == "edit_free":
        # One box is left, which is then edited.
        return METHODS["learned"].but(shortlist=1, steps=steps)
    return get_method(row).but(steps=steps)


# One edit


def region(box: Box, readings: Sequence[Box], painted: Box | None = None) -> dict[str, float]:
    """How a chosen box lies to the object, for the reading of the text that it fits best: IoU and hit (at least 0.5),
    whether its centre lies inside, and which share of the object was painted over; `painted` None: the box was.
    """
    chosen, known = torch.tensor(box).float(), torch.tensor(readings).float()
    overlaps = iou(chosen, known)
    best = int(overlaps.argmax())
    x0, y0, x1, y1 = readings[best]
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    return {"iou": float(overlaps[best]), "hit": float(overlaps[best] >= 0.5),
            "centre_inside": float(x0 <= x < x1 and y0 <= y < y1),
            "covered": covered(painted or box, known[best])}


def ceiling(one: Sample, models: Models, method: Method) -> float:
    """The highest IoU of any box that the method could have chosen: its proposals, before the shortlist."""
    # No box is weighed, so CLIP needn't look.
    every = method.but(finder="search", shortlist=0, patches_weight=0.0, occlusion_weight=0.0, area_weight=1.0)
    boxes = propose(models, Canvas(one.picture, models.editor.size), one.source, every).boxes.reshape(-1, 1, 4)
    return float(iou(boxes.float(), torch.tensor(one.readings).float()).max())


def photograph_record(one: Sample, prompt: str, seed: int, row: str, models: Models, steps: int | None) -> dict:
    """One photograph edited by one row: its box, and all that is measured."""
    method = method_of(row, steps)
    done = edit_checked(models, one.picture, one.source, prompt, method, seed)
    # Step across the region's edges, less what such steps are in the picture beside them.
    across, beside = seam(to_tensor(done.image), done.painted)
    # The model's own frame for the final box, once more: what does it do to colours that it was to leave alone?
    best = done.candidates[0]
    patch = done.table.patch(best.anchor, best.proposal)
    size = models.profile.size
    window, mask = done.table.canvas.crop(patch.window), box_mask([round(v) for v in patch.inner], size, size)
    (frame,) = models.editor.inpaint(window, mask[None], prompt, seed=seed, steps=done.table.full_steps,
                                     guidance=method.guidance)
    w, h = one.picture.size
    found = {**region(done.box, one.readings, done.painted), "share": float(area(torch.tensor(done.box))) / (w * h),
             "ceiling": ceiling(one, models, method), "seam": across - beside,
             "colour_shift": colour_shift(frame, window, mask), "evaluations": done.cost["denoiser_evaluations"],
             "seconds": done.cost["seconds"]["total"]}
    return {"task": one.name, "row": row, "prompt": prompt, "seed": seed, "box": list(done.box),
            **{k: round(v, 5) for k, v in found.items()}}


# The study


@dataclass
class Photographs(Study):
    """Every shipped photograph with so many of its prompts and seeds, each by all rows."""

    folder: Path
    profile: Profile
    rows: Sequence[str] = ROWS
    prompts: int = 3
    seeds: int = 1
    steps: int | None = None
    """Denoising steps of an edit; None: the profile's."""
    device: str | None = None
    allow_cpu: bool | None = None

    unit = "edits"
    shows = ("edits.csv", "regions.png")
    asks_models = True  # which origins served

    def __post_init__(self) -> None:
        for row in self.rows:
            method_of(row)  # complains of an unknown one
        # Nothing is begun that can't be finished.
        fewest = min(len(one.prompts) for one in shipped_photographs())
        if self.prompts > fewest:
            raise UserError(f"--prompts is {self.prompts}; the photographs have {fewest} prompts, so give that or "
                            "less.")

    def settings(self, about: dict) -> dict:
        return {"study": "photographs", "profile": self.profile.name, "steps": self.steps,
                "models": about["origins"], "regions": which(self.profile.regions),
                "methods": {row: asdict(method_of(row)) for row in self.rows}}

    def weights(self) -> str | None:
        return super().weights() if self.profile.name == "tiny" else None

    def about(self) -> dict:
        """Model origins by part."""
        return {"origins": self.models.origins}

    def jobs(self) -> list[tuple[str, int, int, str]]:
        return [(one.name, i, 42 + j, row) for one in shipped_photographs() for i in range(self.prompts)
                for j in range(self.seeds) for row in self.rows]

    def file(self, job: tuple[str, int, int, str]) -> str:
        name, i, seed, row = job
        return f"{row}/{name}_{i}_{seed}"

    def processes(self) -> int:
        # A large model fills the GPU, or the memory, alone.
        return super().processes() if self.profile.size < 256 else 1

    def load(self) -> None:
        self.models = load_models(self.profile, device=self.device, allow_cpu=self.allow_cpu)
        self.samples = {one.name: one for one in shipped_photographs()}

    def do(self, job: tuple[str, int, int, str]) -> dict:
        name, i, seed, row = job
        one = self.samples[name]
        return photograph_record(one, one.prompts[i], seed, row, self.models, self.steps)

    def summarise(self, done: Done) -> dict:
        return {"study": "photographs", "profile": self.profile.name, "steps": self.steps, **summarise(done.records)}

    def show(self, summary: dict, done: Done) -> None:
        self.output.write("edits.csv", csv_bytes(COLUMNS, [
            dict(zip(("x0", "y0", "x1", "y1"), record["box"], strict=True)) | record for record in done.records]))
        self.output.write("regions.png", plots.as_png(draw(summary["boxes"])))
        tables.print_means(f"{self.profile.name}, means over {len(shipped_photographs())} photographs",
                           summary["means"], MEASURES)


def draw(boxes: dict[str, dict[str, Box]]) -> Figure:
    """The photographs with their objects' boxes, and those that each row chose: `boxes[row][name]`."""
    samples = shipped_photographs()
    chosen = {row: [found.get(one.name) for one in samples] for row, found in boxes.items()}
    return plots.show_found([one.picture for one in samples], [one.title for one in samples],
                            [one.readings for one in samples], chosen)


def summarise(records: Sequence[dict]) -> dict:
    """Means by row and measure over the photographs, those of each photograph, and the box of its first edit."""
    pictures: dict[str, dict[str, dict[str, float]]] = {}
    means, boxes = {}, {}
    for row, own in tables.rows_of(records).items():
        # Several prompts of one photograph are no independent trials: they are averaged first.
        by_picture, boxes[row] = {}, {}
        for name in dict.fromkeys(record["task"] for record in own):
            part = [record for record in own if record["task"] == name]
            by_picture[name] = {m: sum(record[m] for record in part) / len(part) for m in MEASURES}
            boxes[row][name] = part[0]["box"]
        pictures[row] = {name: {m: round(v, 4) for m, v in found.items()} for name, found in by_picture.items()}
        means[row] = tables.means_of(list(by_picture.values()), MEASURES)
    return {"means": means, "pictures": pictures, "boxes": boxes}
