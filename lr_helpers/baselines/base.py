"""What all baselines share: the interface, counting and timing, and how one is described."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Protocol

import torch

from lr_helpers.errors import UserError
from lr_helpers.method import check_input, check_range
from lr_helpers.models.loading import Models


@dataclass(frozen=True)
class Edited:
    """One baseline's edit of one picture."""

    picture: torch.Tensor
    """(3, S, S) in 0..1, as the method leaves it: pasted back into the input where the method has a mask for that."""
    region: torch.Tensor | None
    """(S, S), 1 where the method chose to edit, else 0; None where it chooses no region."""
    evaluations: int
    """Denoiser evaluations: pictures that went through the denoiser, guidance and inversion included; counted."""
    seconds: float


class Counted(Protocol):
    """Whoever counts the evaluations of a denoiser; `inpainting.Editor` is one."""

    @property
    def evaluations(self) -> int: ...


@dataclass(frozen=True)
class Row:
    """What there is to know of a baseline before it is loaded."""

    name: str
    title: str
    family: str
    """"editor" (chooses no region), "text-prompted region" or "region chooser"."""
    make: Callable[..., Baseline]
    library: str
    """Class of the maintained library that does the work; "" where it is our own code."""
    source: str
    """Where the method was published."""
    needs: tuple[str, ...] = ()
    """Parts beside the profile's editor, backbone and CLIP, as `Profile.comparison` names them."""
    settings: MappingProxyType[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    """What differs from the defaults of `make`."""


@dataclass(frozen=True, eq=False)
class Baseline(ABC):
    """One way to edit a picture by what is there and what is wanted. Further fields are its settings."""

    row: Row
    models: Models = field(repr=False)
    parts: Any = field(repr=False)
    """The `Parts` that the row needs."""
    steps: int | None = field(default=None, metadata={"help": "denoising steps of an edit (default: the profile's)"})

    def __post_init__(self) -> None:
        check_range("steps", self._steps, 1, 1000)

    @property
    def _steps(self) -> int:
        return self.models.profile.steps if self.steps is None else self.steps

    @property
    def name(self) -> str:
        """Its key in BASELINES; likewise below."""
        return self.row.name

    @property
    def title(self) -> str:
        return self.row.title

    @property
    def family(self) -> str:
        return self.row.family

    @property
    def counted(self) -> Counted:
        """Who counts the evaluations; the profile's editor, unless another network does the work."""
        return self.models.editor

    @abstractmethod
    def _edit(self, image: torch.Tensor, caption: str, prompt: str, seed: int) -> tuple[torch.Tensor,
                                                                                        torch.Tensor | None]:
        """Picture and region, as in `Edited`."""

    def __call__(self, image: torch.Tensor, caption: str, prompt: str, seed: int) -> Edited:
        """Edit `image` (3, S, S) in 0..1, S the profile's size, so that `caption` ("bird") becomes `prompt`
        ("a rabbit"). The same seed on the same machine gives the same pixels. Raises UserError for input that can't
        work, and where the memory does not suffice.
        """
        caption, prompt = check_input(caption, prompt, seed)
        size = self.models.profile.size
        if image.shape != (3, size, size):
            raise UserError(f"The picture has the shape {tuple(image.shape)}; {self.name} edits (3, {size}, {size}) "
                            f"with the profile {self.models.profile.name!r}, as `images.to_tensor` gives.")
        if not (image.min() >= 0 and image.max() <= 1):
            raise UserError(f"The picture has values from {image.min():.3g} to {image.max():.3g}; give 0 to 1.")
        before, begun = self.counted.evaluations, time.perf_counter()
        try:
            picture, region = self._edit(image, caption, prompt, seed)
        except torch.OutOfMemoryError as error:
            raise UserError(f"The memory of {self.models.device} does not hold one edit by {self.name}; free it "
                            "(nvidia-smi shows who holds it), or use a profile with a smaller model.") from error
        return Edited(picture, region, self.counted.evaluations - before, time.perf_counter() - begun)
