"""The editor: an inpainting pipeline of diffusers behind one call. Only this module speaks to diffusers."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from diffusers import StableDiffusionInpaintPipeline
from diffusers.utils import logging
from transformers import CLIPTextModel

from lr_helpers.boxes import Box, box_mask
from lr_helpers.errors import UserError

logging.disable_progress_bar()  # loading takes a second; bars would litter the notebooks


def require_weights(loaded: dict) -> None:
    """Raise ValueError if transformers found no stored value for some weights (it would make them up)."""
    if loaded["missing_keys"]:
        raise ValueError(f"{len(loaded['missing_keys'])} weights are missing, e.g. {sorted(loaded['missing_keys'])[0]}")


def composite(frame: torch.Tensor, image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """`frame` inside the mask, `image` outside: (..., 3, H, W) each, mask (..., 1, H, W) in 0..1; broadcasts."""
    return mask * frame + (1 - mask) * image


class Editor:
    """Edits inside a mask: a pure function of picture, mask, prompt, steps, guidance and seed."""

    def __init__(self, pipeline: Any, size: int, steps: int, guidance: float, batch: int):
        pipeline.set_progress_bar_config(disable=True)
        self.pipeline, self.size, self.batch = pipeline, size, batch
        self.steps, self.guidance = steps, guidance
        self.evaluations = 0
        """Denoiser evaluations so far: pictures that went through the UNet, both guidance halves counted."""
        pipeline.unet.register_forward_pre_hook(self._count, with_kwargs=True)

    @classmethod
    def load(cls, source: str, device: str, dtype: torch.dtype, **settings) -> Editor:
        """From a folder or a hub id; safetensors only. Raises what diffusers raises."""
        # diffusers would fill missing weights of the text encoder with random ones, so it is loaded here.
        text_encoder, loaded = CLIPTextModel.from_pretrained(
            source, subfolder="text_encoder", use_safetensors=True, dtype=dtype, output_loading_info=True)
        require_weights(loaded)
        with warnings.catch_warnings():
            # Newer versions prefer `dtype`, which older ones (Colab's) don't know.
            warnings.filterwarnings("ignore", "`torch_dtype` is deprecated", FutureWarning)
            pipeline = StableDiffusionInpaintPipeline.from_pretrained(
                source, text_encoder=text_encoder, torch_dtype=dtype, use_safetensors=True, safety_checker=None,
                feature_extractor=None, requires_safety_checker=False)
        if pipeline.unet.config.in_channels != 9:
            raise UserError(f"{source} is no inpainting model: its UNet takes {pipeline.unet.config.in_channels} "
                            "channels, not 9; give an inpainting checkpoint.")
        if len(pipeline.tokenizer) < text_encoder.config.vocab_size:
            raise ValueError(f"its tokenizer has {len(pipeline.tokenizer)} tokens, its text encoder "
                             f"{text_encoder.config.vocab_size}")
        return cls(pipeline.to(device), **settings)

    def _count(self, module: torch.nn.Module, args: tuple, kwargs: dict) -> None:
        self.evaluations += (args[0] if args else kwargs["sample"]).shape[0]

    @torch.no_grad()
    def inpaint(self, image: torch.Tensor, masks: torch.Tensor, prompt: str | Sequence[str], *, seed: int,
                steps: int | None = None, guidance: float | None = None) -> torch.Tensor:
        """The model's own frames for several masks, of one picture and prompt or of N.

        `image` (3, S, S) or (N, 3, S, S) and `masks` (N, 1, S, S) in 0..1, 1 = edit here → (N, 3, S, S) in
        0..1. Every mask gets the same initial noise (common random numbers), so edits of one picture differ
        by the mask alone.
        """
        n = len(masks)
        if n == 0:
            return image.new_zeros(0, *image.shape[-3:])
        embeds, negative = self.pipeline.encode_prompt(
            prompt if isinstance(prompt, str) else list(prompt), self.pipeline.device, 1,
            do_classifier_free_guidance=True)
        each = (image.expand(n, -1, -1, -1), masks, embeds.expand(n, -1, -1), negative.expand(n, -1, -1))
        frames = []
        for pictures, part, positive, other in zip(*(t.split(self.batch) for t in each), strict=True):
            frames.append(self.pipeline(
                image=pictures, mask_image=part, height=self.size, width=self.size,
                prompt_embeds=positive, negative_prompt_embeds=other,
                generator=[torch.Generator().manual_seed(seed) for _ in range(len(part))],
                num_inference_steps=steps or self.steps,
                guidance_scale=self.guidance if guidance is None else guidance,
                strength=1.0, output_type="pt").images.float().cpu())
        return torch.cat(frames)

    def edit(self, image: torch.Tensor, boxes: Sequence[Box] | torch.Tensor, prompt: str, *, seed: int,
             steps: int | None = None, guidance: float | None = None) -> torch.Tensor:
        """`inpaint` inside each box, pasted back: pixels outside a box are those of `image`.

        `image` (3, S, S) in 0..1, `boxes` N × (x0, y0, x1, y1) in pixels → (N, 3, S, S) in 0..1.
        """
        if len(boxes) == 0:
            return image.new_zeros(0, *image.shape)
        masks = torch.stack([box_mask(box, *image.shape[1:]) for box in boxes])
        frames = self.inpaint(image, masks, prompt, seed=seed, steps=steps, guidance=guidance)
        return composite(frames, image, masks)

    def lost_words(self, prompt: str) -> str:
        """The end of the prompt that does not fit into the text encoder; "" if all of it does."""
        tokenizer = self.pipeline.tokenizer
        ids = tokenizer(prompt, truncation=False, verbose=False).input_ids
        kept = tokenizer.model_max_length - 1
        return tokenizer.decode(ids[kept:-1]).strip() if len(ids) > tokenizer.model_max_length else ""
