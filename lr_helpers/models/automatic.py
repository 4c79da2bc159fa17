"""The generic adapter: pipelines whose denoiser is a transformer, driven by their own public arguments alone."""

from __future__ import annotations

import inspect
from typing import Any, ClassVar

import diffusers
import torch
from diffusers import AutoPipelineForInpainting
from torch.nn import functional as F

from lr_helpers.errors import UserError
from lr_helpers.inpainting import Editor, Texts


def generators(seed: int, count: int) -> list[torch.Generator]:
    """The same noise for every picture of a batch."""
    return [torch.Generator().manual_seed(seed) for _ in range(count)]


def form(draft: bool) -> str:
    """What a pipeline gives: latents, which the small decoder takes, or pictures in 0..1."""
    return "latent" if draft else "pt"


def whole(masks: torch.Tensor, side: int) -> torch.Tensor:
    """(n, 1, S, S) masks of whole latents or tokens of `side` pixels: one is edited if any of its pixels is to be."""
    return F.interpolate(F.max_pool2d(masks, side), scale_factor=side, mode="nearest")


class Automatic(Editor):
    """Any pipeline that diffusers resolves to an inpainting one and whose denoiser is a transformer, driven by its own
    public arguments: texts, pictures, masks, a generator for each edit.

    Such denoisers mostly know no mask: outside it, the picture's own latents take the place of theirs after every step.
    So a mask is one of whole latents here, and a latent is edited if any of its pixels is to be. Edits are made one by
    one, unless it is known (`apart`) that a pipeline keeps those of one batch apart.
    """

    denoiser = "transformer"
    auto = AutoPipelineForInpainting
    without: ClassVar = {}
    text_encoders: ClassVar = {}
    """Those that the checkpoint's index names."""
    apart = False
    """Does the pipeline keep the edits of one batch apart?"""

    def __init__(self, pipeline: Any, size: int, **settings):
        unit = pipeline.image_processor.config.vae_scale_factor
        if size % unit:
            raise UserError(f"{type(pipeline).__name__} edits squares whose side is a multiple of {unit} pixels, not "
                            f"{size}; use a profile of such a size.")
        super().__init__(pipeline, size, **settings)
        if pipeline.tokenizer.chat_template is None and "Qwen" in type(pipeline.tokenizer).__name__:
            pipeline.tokenizer.chat_template = DIALOGUE
        if pipeline.device.type == "cuda" and hasattr(pipeline.vae, "enable_slicing"):
            pipeline.vae.enable_slicing()  # one picture at a time through the VAE

    @staticmethod
    def widths(pipeline: Any) -> tuple[int, int]:
        """Numbers a token that the text encoder gives, and that the denoiser takes."""
        given, config = _width(pipeline.text_encoder), pipeline.transformer.config
        taken = config.get("cap_feat_dim", config.get("joint_attention_dim"))
        other = getattr(pipeline, "text_encoder_3", None) or getattr(pipeline, "text_encoder_2", None)
        return (_width(other) if other is not None else given), taken

    def _encode_prompts(self, prompts: list[str]) -> Texts:
        return {"prompt": prompts}  # each pipeline has tensors of its own for them, and arguments of other names

    def _guided(self, guidance: float) -> dict[str, Any]:
        """The guidance scale, 1 or less for none, as the pipeline takes it."""
        if "true_cfg_scale" in inspect.signature(type(self.pipeline).__call__).parameters:
            # Its `guidance_scale` is another thing, which its denoiser was distilled to be told.
            return {"true_cfg_scale": guidance, "negative_prompt": ""}
        return {"guidance_scale": guidance}

    def _paint(self, images: torch.Tensor, masks: torch.Tensor, texts: Texts, seed: int, steps: int, guidance: float,
               draft: bool) -> torch.Tensor:
        masks = whole(masks, self.pipeline.vae_scale_factor)
        at_once = len(masks) if self.apart else 1
        frames = []
        for i in range(0, len(masks), at_once):
            part = slice(i, i + at_once)
            own = {name: values[part] for name, values in texts.items()}
            frames.append(self._call(images[part], masks[part], own, seed, draft, num_inference_steps=steps,
                                     **self._guided(guidance)))
        return torch.cat(frames)

    def _call(self, images: torch.Tensor, masks: torch.Tensor, texts: Texts, seed: int, draft: bool,
              **settings: Any) -> torch.Tensor:
        """The pipeline's answer to one batch."""
        return self.pipeline(
            image=images, mask_image=masks, height=self.size, width=self.size, **texts,
            generator=generators(seed, len(masks)), strength=1.0, output_type=form(draft), **settings).images


class ZImage(Automatic):
    """Z-Image and Z-Image-Turbo (arXiv 2511.22699)."""

    apart = True

    def _guided(self, guidance: float) -> dict[str, Any]:
        # Its scale is what is added to the answer to the prompt: 0 for none, where others have 1.
        return {"guidance_scale": max(guidance - 1, 0.0)}


class StableDiffusion3(Automatic):
    """Stable Diffusion 3 and 3.5 (arXiv 2403.03206)."""

    apart = True

    @staticmethod
    def widths(pipeline: Any) -> tuple[int, int]:
        """Numbers a token that the text encoder gives, and that the denoiser takes; CLIP's are filled up with zeros."""
        taken = pipeline.transformer.config.joint_attention_dim
        return (taken if pipeline.text_encoder_3 is None else _width(pipeline.text_encoder_3)), taken

    @torch.no_grad()
    def _call(self, images: torch.Tensor, masks: torch.Tensor, texts: Texts, seed: int, draft: bool,
              **settings: Any) -> torch.Tensor:
        # The inpainting pipeline, other than the one from text, forgets the autoencoder's shift when it decodes.
        latents, vae = super()._call(images, masks, texts, seed, True, **settings), self.pipeline.vae
        if draft:
            return latents
        latents = latents.to(vae.dtype) / vae.config.scaling_factor + vae.config.shift_factor
        return (vae.decode(latents).sample / 2 + 0.5).clamp(0, 1)


class Flux2Klein(Automatic):
    """FLUX.2 klein, whose inpainting pipeline diffusers has but does not resolve."""

    auto = getattr(diffusers, "Flux2KleinInpaintPipeline", None)

    @staticmethod
    def widths(pipeline: Any) -> tuple[int, int]:
        """Numbers a token that the text encoder gives, by three of its layers, and that the denoiser takes."""
        return 3 * _width(pipeline.text_encoder), pipeline.transformer.config.joint_attention_dim


DIALOGUE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}{% endif %}")
"""How Qwen 3 is asked one question, as its own template writes it. A model's template is a program, which is never run.
"""


def _width(encoder: torch.nn.Module) -> int:
    """Numbers a token that a text encoder gives."""
    return encoder.config.hidden_size
