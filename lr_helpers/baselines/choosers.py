"""The project's own region choosers behind the interface of the baselines."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from lr_helpers.baselines.base import Baseline
from lr_helpers.boxes import box_mask
from lr_helpers.editing import edit
from lr_helpers.errors import UserError
from lr_helpers.files.pictures import to_image
from lr_helpers.method import METHODS, Method, get_method
from lr_helpers.study.choosers import CHOOSERS, Scene


@dataclass(frozen=True, eq=False)
class Learned(Baseline):
    """The whole method under a preset, by `edit`: edits are paid once each, however often they are drawn."""

    method: str | Method = field(default="learned", metadata={"help": f"a preset ({', '.join(METHODS)}) or a Method"})

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.method, str):
            get_method(self.method)  # complains of an unknown one

    def _edit(self, image: torch.Tensor, caption: str, prompt: str, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        method = get_method(self.method) if isinstance(self.method, str) else self.method
        result = edit(self.models, to_image(image), caption, prompt, method.but(steps=self.steps), seed, progress=False)
        return result.candidates[0].picture, box_mask(result.box, *image.shape[1:])[0]


@dataclass(frozen=True, eq=False)
class Request:
    """What the study's choosers want to know of a task."""

    name: str
    """Seeds what is drawn by lot."""
    picture: torch.Tensor
    source: str
    prompt: str


@dataclass(frozen=True, eq=False)
class Chosen(Baseline):
    """A chooser of the regions study, then one edit of its box."""

    chooser: str = field(default="edit_free", metadata={"help": "one of study.choosers.CHOOSERS; not 'oracle'"})

    def __post_init__(self) -> None:
        super().__post_init__()
        known = [name for name in CHOOSERS if name != "oracle"]
        if self.chooser not in known:
            raise UserError(f"chooser is {self.chooser!r}; choose one of {', '.join(known)}.")

    def _edit(self, image: torch.Tensor, caption: str, prompt: str, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        request = Request(f"{caption}, {prompt}, {seed}", image, caption, prompt)
        scene = Scene(request, self.models, self._steps, seed)
        box = CHOOSERS[self.chooser](scene).box
        return scene.edits(torch.tensor([box]))[0], box_mask(box, *image.shape[1:])[0]
