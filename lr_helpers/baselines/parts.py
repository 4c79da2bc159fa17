"""The models that baselines need beside the profile's own, each loaded when it is first asked for, and shared."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TypeVar

from lr_helpers.baselines.diffusion import InstructionFollower, TextToImage
from lr_helpers.baselines.segmenters import ClipSeg, Detector, Sam
from lr_helpers.errors import UserError
from lr_helpers.models.loading import Models, first_source
from lr_helpers.models.profiles import Extra, Profile

T = TypeVar("T")

NAMES = {"text_to_image": "text-to-image model", "instruct": "instruction-following model", "clipseg": "CLIPSeg model",
         "grounding_dino": "Grounding DINO model", "sam": "Segment Anything model"}
"""What each part is called in sentences."""


class Parts:
    """Loads what `profile.comparison` names; raises UserError, one sentence, where no source can serve."""

    def __init__(self, profile: Profile, models: Models):
        self.profile, self.models = profile, models
        self.sources: dict[str, str] = {}
        """Which source served, by part; what came from the hub with `@` and its commit."""

    @cached_property
    def text_to_image(self) -> TextToImage:
        return self._load("text_to_image", lambda source, extra: TextToImage.load(source, self.models, extra))

    @cached_property
    def instruct(self) -> InstructionFollower:
        return self._load("instruct", lambda source, extra: InstructionFollower.load(source, self.models, extra))

    @cached_property
    def clipseg(self) -> ClipSeg:
        return self._load("clipseg", lambda source, extra: ClipSeg.load(source, self.models.device))

    @cached_property
    def grounding_dino(self) -> Detector:
        return self._load("grounding_dino", lambda source, extra: Detector.load(source, self.models.device))

    @cached_property
    def sam(self) -> Sam:
        return self._load("sam", lambda source, extra: Sam.load(source, self.models.device))

    def _load(self, part: str, load: Callable[[str, Extra], tuple[T, str]]) -> T:
        extra = self.profile.comparison.get(part)
        if extra is None:
            raise UserError(f"The profile {self.profile.name!r} has no {NAMES[part]}; name one in data/models.toml, "
                            f"under [comparison.{self.profile.name}], or use another profile.")
        model, self.sources[part] = first_source(NAMES[part], extra.sources, lambda source: load(source, extra),
                                                 "leave this row out")
        return model
