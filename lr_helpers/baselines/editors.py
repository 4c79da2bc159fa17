"""Editors without a mask of their own making: SDEdit, DiffEdit, InstructPix2Pix, LEDITS++.

Defaults are the pipelines' own, which follow the papers, unless a field says otherwise; steps and guidance are the
profile's unless given.
"""

from __future__ import annotations

from dataclasses import dataclass

from lr_helpers.baselines.base import Baseline, Counted, Made
from lr_helpers.baselines.request import Request, Share
from lr_helpers.baselines.wording import ADD, REPLACE, adds, instruction
from lr_helpers.errors import UserError
from lr_helpers.method import setting


@dataclass(frozen=True, eq=False)
class _Denoising(Baseline):
    guidance: float | None = setting(None, "guidance scale (default: the profile's)", within=(1.0, 100.0))

    @property
    def _guidance(self) -> float:
        return self.models.profile.guidance if self.guidance is None else self.guidance


def _check_strength(name: str, strength: float, steps: int) -> None:
    # The pipelines round down, and with no step left they fail.
    if int(steps * strength) < 1:
        raise UserError(f"{name} is {strength:g}, which leaves none of {steps} steps; give {1 / steps:.3g} or more.")


@dataclass(frozen=True, eq=False)
class SDEdit(_Denoising):
    """Noise is added to the picture and taken away again under the prompt (Meng et al. 2022)."""

    strength: float = setting(0.8, "how much noise: the share of the steps that is made", within=(0.0, 1.0))

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_strength("strength", self.strength, self._steps)

    @property
    def counted(self) -> Counted:
        return self.parts.text_to_image

    def _edit(self, request: Request, share: Share) -> Made:
        return Made(self.parts.text_to_image.from_noisy(
            request.picture, request.prompt, strength=self.strength, steps=self._steps, guidance=self._guidance,
            seed=request.seed))


@dataclass(frozen=True, eq=False)
class DiffEdit(_Denoising):
    """A mask where the denoiser answers source and prompt differently, then DDIM inversion and an edit inside the mask
    of the latents (Couairon et al. 2023). Outside, the autoencoder's copy of the picture is left. Where the mask is
    empty, the picture stays as it is.
    """

    strength: float = setting(0.8, "inpaint_strength: share of the steps inverted and made", within=(0.0, 1.0))
    maps: int = setting(10, "noises that the mask is averaged over; four times as many pictures go through the "
                            "denoiser at once", within=(1, 1000))
    mask_strength: float = setting(0.5, "mask_encode_strength: how much noise, for the mask", within=(0.0, 1.0))
    ratio: float = setting(3.0, "mask_thresholding_ratio: the mask is where the difference is above half of this times "
                                "its mean", within=(0.01, 100.0))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self._guidance <= 1:
            raise UserError(f"guidance is {self._guidance:g}; the mask of DiffEdit needs more than 1.")
        for name in ("strength", "mask_strength"):
            _check_strength(name, getattr(self, name), self._steps)

    @property
    def counted(self) -> Counted:
        return self.parts.text_to_image

    def _edit(self, request: Request, share: Share) -> Made:
        return Made(*self.parts.text_to_image.differing(
            request.picture, request.source, request.prompt, steps=self._steps, guidance=self._guidance,
            strength=self.strength, maps=self.maps, mask_strength=self.mask_strength, ratio=self.ratio,
            seed=request.seed))


@dataclass(frozen=True, eq=False)
class InstructPix2Pix(_Denoising):
    """A denoiser trained to follow instructions (Brooks et al. 2023)."""

    image_guidance: float = setting(1.5, "image_guidance_scale: nearness to the picture", within=(1.0, 100.0))
    replace: str = setting(REPLACE, "the instruction where the prompt replaces the source")
    add: str = setting(ADD, "the instruction where the source is a place the prompt names")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("replace", "add"):
            try:
                # A wrong wording shall be told before a model is loaded.
                getattr(self, name).format(source="", prompt="")
            except (KeyError, IndexError, ValueError) as error:
                raise UserError(f"{name} is {getattr(self, name)!r}; in curly brackets it may hold {{source}} and "
                                "{prompt} only.") from error

    @property
    def counted(self) -> Counted:
        return self.parts.instruct

    def _edit(self, request: Request, share: Share) -> Made:
        # A benchmark has an instruction of its own; else source and prompt make one.
        told = request.instruction or instruction(request.source, request.prompt, self.replace, self.add)
        return Made(self.parts.instruct.follow(
            request.picture, told, steps=self._steps, guidance=self._guidance, image_guidance=self.image_guidance,
            seed=request.seed))


@dataclass(frozen=True, eq=False)
class LEditsPlusPlus(Baseline):
    """Edit-friendly inversion, then steered away from the source and towards the prompt, each inside a mask of its own
    (Brack et al. 2024). Where the source is a place that the prompt names, only towards. The masks differ from step to
    step, so there is no region. Defaults are those of the pipeline's documented example, which replaces an object.
    """

    steps: int | None = setting(50, "inversion steps, and as many back; None: the profile's", within=(1, 1000))
    skip: float = setting(0.2, "share of the noisiest steps left out", within=(0.0, 0.99))
    guidance: float = setting(10.0, "edit_guidance_scale towards the prompt", within=(0.0, 100.0))
    threshold: float = setting(0.85, "edit_threshold of the prompt: share of the picture kept", within=(0.0, 1.0))
    away_guidance: float = setting(5.0, "edit_guidance_scale away from the source", within=(0.0, 100.0))
    away_threshold: float = setting(0.9, "edit_threshold of the source", within=(0.0, 1.0))

    def __post_init__(self) -> None:
        super().__post_init__()
        # Its pipeline cuts attention maps at a quarter of the latents' side.
        if (size := self.models.profile.size) % 32:
            raise UserError(f"LEDITS++ edits squares whose side is a multiple of 32 pixels, not {size}; use a profile "
                            "of such a size.")

    @property
    def counted(self) -> Counted:
        return self.parts.text_to_image

    def _edit(self, request: Request, share: Share) -> Made:
        # To add a cat to the grass, the grass must stay.
        away = None if adds(request.source, request.prompt) else request.source
        return Made(self.parts.text_to_image.steered(
            request.picture, away, request.prompt, steps=self._steps, skip=self.skip,
            guidance=(self.away_guidance, self.guidance), threshold=(self.away_threshold, self.threshold),
            seed=request.seed))
