"""Text-to-image and instruction-following denoisers behind diffusers' own editing pipelines; its quirks stay here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from types import SimpleNamespace
from typing import Any

import torch
from diffusers import (
    DDIMInverseScheduler,
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    LEditsPPPipelineStableDiffusion,
    StableDiffusionDiffEditPipeline,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionInstructPix2PixPipeline,
)
from diffusers.pipelines.ledits_pp import pipeline_leditspp_stable_diffusion
from torch.nn import functional as F

from lr_helpers.inpainting import Evaluations
from lr_helpers.models.hub import opened
from lr_helpers.models.libraries import quiet, read_pipeline
from lr_helpers.models.loading import Models, dtype_for
from lr_helpers.models.pipelines import StableDiffusion, require_fit
from lr_helpers.models.profiles import Extra

COMPONENTS = ("vae", "text_encoder", "tokenizer", "unet")
NOT_USED = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}


class Denoiser:
    """A Stable Diffusion without mask channels, and the count of its evaluations."""

    kind: Any
    """The pipeline's class."""
    part: str
    """Its name in `layouts.PIPELINES`, which has the channels of its UNet's input."""

    def __init__(self, pipeline: Any):
        pipeline.set_progress_bar_config(disable=True)
        self.pipeline = pipeline
        self._evaluations = Evaluations(pipeline.unet)

    @property
    def evaluations(self) -> int:
        """Denoiser evaluations so far."""
        return self._evaluations.count

    @classmethod
    def load(cls, origin: str, models: Models, extra: Extra) -> tuple[Denoiser, str]:
        """From a folder or hub id, safetensors only, and the origin's label; what it borrows is the editor's own.

        Raises as `pipelines.load_editor`.
        """
        encoders = {k: v for k, v in StableDiffusion.text_encoders.items() if k not in extra.borrows}
        borrowed = {name: getattr(models.editor.pipeline, name) for name in extra.borrows}
        with opened(cls.part, origin, extra.about.variant, extra.borrows) as found:
            pipeline = read_pipeline(found.place, cls.kind, encoders, dtype_for(models.device), found.variants,
                                     extra.about.variant, **borrowed, **NOT_USED)
        require_fit(pipeline, StableDiffusion, origin)
        return cls(pipeline.to(models.device)), found.label

    def _like(self, kind: Any, **schedulers: Any) -> Any:
        """A pipeline of another class on the same networks."""
        with quiet():  # DiffEdit's says at every start that it is old
            other = kind(**{name: getattr(self.pipeline, name) for name in COMPONENTS}, **schedulers, **NOT_USED)
        other.set_progress_bar_config(disable=True)
        return other


def _noise(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _picture(result: Any) -> torch.Tensor:
    return result.images[0].float().cpu().clamp(0, 1)


class InstructionFollower(Denoiser):
    """InstructPix2Pix: noisy latents and the picture's go in."""

    kind = StableDiffusionInstructPix2PixPipeline
    part = "instruct"

    def follow(self, image: torch.Tensor, instruction: str, *, steps: int, guidance: float, image_guidance: float,
               seed: int) -> torch.Tensor:
        """(3, S, S) → (3, S, S): three evaluations a step, or one if `guidance` is 1."""
        with quiet():
            return _picture(self.pipeline(
                instruction, image[None], num_inference_steps=steps, guidance_scale=guidance,
                image_guidance_scale=image_guidance, generator=_noise(seed), output_type="pt"))


class TextToImage(Denoiser):
    """Four channels in: a picture from a text, or another picture from a noisy one."""

    kind = StableDiffusionImg2ImgPipeline
    part = "text_to_image"

    def from_noisy(self, image: torch.Tensor, prompt: str, *, strength: float, steps: int, guidance: float,
                   seed: int) -> torch.Tensor:
        """SDEdit: noise of `strength` is added, then the last `steps · strength` steps are made, (3, S, S) → same."""
        with quiet():
            return _picture(self.pipeline(
                prompt, image[None], strength=strength, num_inference_steps=steps, guidance_scale=guidance,
                generator=_noise(seed), output_type="pt"))

    @cached_property
    def _diffedit(self) -> StableDiffusionDiffEditPipeline:
        # "leading": the pipeline keeps the background by the inverted latents of the same step, and so ends with those
        # of the lowest noise inverted. With "trailing" that is a whole step of noise (t = 82 of 1000 at 12 steps), and
        # the background stays noisy; with "leading" it is t = 1. Clipping would cut off latents beyond ±1.
        settings = {"timestep_spacing": "leading", "steps_offset": 1, "clip_sample": False}
        config = self.pipeline.scheduler.config
        return self._like(StableDiffusionDiffEditPipeline, scheduler=DDIMScheduler.from_config(config, **settings),
                          inverse_scheduler=DDIMInverseScheduler.from_config(config, **settings))

    def differing(self, image: torch.Tensor, source: str, prompt: str, *, steps: int, guidance: float, strength: float,
                  maps: int, mask_strength: float, ratio: float, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        """DiffEdit: (3, S, S) → picture, and the mask (S, S) of whole latents where source and prompt differ."""
        pipeline, noise, here = self._diffedit, _noise(seed), {"num_inference_steps": steps}
        with quiet():
            found = pipeline.generate_mask(
                image[None], source_prompt=source, target_prompt=prompt, num_maps_per_mask=maps, **here,
                mask_encode_strength=mask_strength, mask_thresholding_ratio=ratio, guidance_scale=guidance,
                generator=noise)
            mask = torch.from_numpy(found).float()  # (1, h, w)
            if not mask.any():  # then nothing is to be changed; an edit would only be the autoencoder's copy
                return image, torch.zeros(image.shape[1:])
            # Without text and guidance, as the paper inverts; the pipeline's default, guidance 7.5, does not invert.
            latents = pipeline.invert("", image[None], inpaint_strength=strength, guidance_scale=1.0, generator=noise,
                                      **here).latents
            result = pipeline(prompt, mask.clone(), latents, inpaint_strength=strength, guidance_scale=guidance,
                              output_type="pt", **here)
        return _picture(result), F.interpolate(mask[None], size=image.shape[1:], mode="nearest")[0, 0]

    @cached_property
    def _ledits(self) -> LEditsPPPipelineStableDiffusion:
        # The second-order SDE solver is the paper's, and its inversion asks the scheduler what the network predicts.
        # The one for DDIM takes it for noise whatever it is, and fails before that: it indexes noise levels by a float.
        scheduler = DPMSolverMultistepScheduler.from_config(
            self.pipeline.scheduler.config, algorithm_type="sde-dpmsolver++", solver_order=2,
            timestep_spacing="leading", steps_offset=1)
        pipeline = self._like(LEditsPPPipelineStableDiffusion, scheduler=scheduler)
        pipeline.tokenizer = TrueLengths(pipeline.tokenizer)
        return pipeline

    def steered(self, image: torch.Tensor, away: str | None, towards: str, *, steps: int, skip: float,
                guidance: tuple[float, float], threshold: tuple[float, float], seed: int) -> torch.Tensor:
        """LEDITS++: (3, S, S) inverted without text, then steered `away` from one text and `towards` another.

        `guidance` and `threshold` for the two, in this order.
        """
        pipeline, noise, unet = self._ledits, _noise(seed), self.pipeline.unet
        kept = dict(unet.attn_processors)  # it puts its own into the network that it shares with others
        first = 0 if away else 1
        try:
            with quiet(), _masks_of(unet.config.out_channels):
                pipeline.invert(image[None], num_inversion_steps=steps, skip=skip, generator=noise)
                return _picture(pipeline(
                    editing_prompt=[away, towards][first:], reverse_editing_direction=[True, False][first:],
                    edit_guidance_scale=list(guidance)[first:], edit_threshold=list(threshold)[first:], generator=noise,
                    output_type="pt"))
        finally:
            unet.set_attn_processor(kept)


@contextmanager
def _masks_of(channels: int) -> Iterator[None]:
    """LEDITS++ in latents of other than four channels, a multiple of it.

    Its pipeline repeats the attention's mask, the same for every channel, four times whatever the latents have; here it
    is given the mask so many times already that all channels get it.
    """
    def interpolate(*args: Any, **kwargs: Any) -> torch.Tensor:
        return F.interpolate(*args, **kwargs).repeat(1, channels // 4, 1, 1)

    own = pipeline_leditspp_stable_diffusion.F
    pipeline_leditspp_stable_diffusion.F = SimpleNamespace(**{**vars(own), "interpolate": interpolate})
    try:
        yield
    finally:
        pipeline_leditspp_stable_diffusion.F = own


@dataclass(frozen=True)
class TrueLengths:
    """A tokenizer that says how long texts are before they are padded.

    LEDITS++ averages the attention of so many words. transformers 5 gives the padded length instead, so that the
    padding's attention, most of it, would decide the mask.
    """

    tokenizer: Any

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        found = self.tokenizer(*args, **kwargs)
        if "length" in found:
            found["length"] = found["attention_mask"].sum(-1)
        return found

    def __len__(self) -> int:
        return len(self.tokenizer)

    def __getattr__(self, name: str) -> Any:
        if name == "tokenizer":  # not there yet, while it is copied
            raise AttributeError(name)
        return getattr(self.tokenizer, name)
