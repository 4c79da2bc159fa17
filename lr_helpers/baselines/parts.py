"""The models that baselines need beside the profile's own, each loaded when it is first asked for, and shared."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TypeVar

from lr_helpers.baselines.diffusion import InstructionFollower, TextToImage
from lr_helpers.baselines.segmenters import ClipSeg, Detector, Sam, Sam3
from lr_helpers.errors import UserError
from lr_helpers.models.loading import Models, first_origin
from lr_helpers.models.profiles import Extra, Profile
from lr_helpers.predictor import RegionPredictor, predictor_of

T = TypeVar("T")

NAMES = {"text_to_image": "text-to-image model", "instruct": "instruction-following model", "clipseg": "CLIPSeg model",
         "grounding_dino": "Grounding DINO model", "sam": "Segment Anything model", "sam3": "SAM 3 model"}
"""What each part is called in sentences."""


class Parts:
    """Loads what `profile.comparison` names, and the region predictor; raises UserError, one sentence, where no
    origin can serve.
    """

    def __init__(self, profile: Profile, models: Models):
        self.profile, self.models = profile, models
        self.origins: dict[str, str] = {}
        """Which origin served, by part; what came from the hub with `@` and its commit."""

    @cached_property
    def text_to_image(self) -> TextToImage:
        return self._load("text_to_image", lambda origin, extra: TextToImage.load(origin, self.models, extra))

    @cached_property
    def instruct(self) -> InstructionFollower:
        return self._load("instruct", lambda origin, extra: InstructionFollower.load(origin, self.models, extra))

    @cached_property
    def clipseg(self) -> ClipSeg:
        return self._load("clipseg", lambda origin, extra: ClipSeg.load(origin, self.models.device))

    @cached_property
    def grounding_dino(self) -> Detector:
        return self._load("grounding_dino", lambda origin, extra: Detector.load(origin, self.models.device))

    @cached_property
    def sam(self) -> Sam:
        return self._load("sam", lambda origin, extra: Sam.load(origin, self.models.device))

    @cached_property
    def sam3(self) -> Sam3:
        return self._load("sam3", lambda origin, extra: Sam3.load(origin, self.models.device))

    @cached_property
    def regions(self) -> RegionPredictor:
        return predictor_of(self.models)

    def _load(self, part: str, load: Callable[[str, Extra], tuple[T, str]]) -> T:
        # Not every family of models has all parts.
        extra = self.profile.comparison.get(part)
        if extra is None:
            raise UserError(f"The profile {self.profile.name!r} has no {NAMES[part]}; name one in data/models.toml, "
                            f"under [comparison.{self.profile.name}], or use another profile.")
        model, self.origins[part] = first_origin(NAMES[part], extra.origins, lambda origin: load(origin, extra),
                                                 "leave this row out")
        return model
