"""One class for each family of inpainting pipelines, and `load_editor`. diffusers is called here, in `hub` and in
`baselines.diffusion` only."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any, ClassVar

import torch
from diffusers import AmusedInpaintPipeline, AutoPipelineForInpainting
from diffusers.utils import logging
from torch.nn import functional as F
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from lr_helpers.errors import UserError
from lr_helpers.inpainting import Editor
from lr_helpers.models.hub import fetch, peek, quiet
from lr_helpers.models.sources import label

logging.disable_progress_bar()  # loading takes a second; bars would litter the notebooks


def _generators(seed: int, count: int) -> list[torch.Generator]:
    """The same noise for every picture of a batch."""
    return [torch.Generator().manual_seed(seed) for _ in range(count)]


class StableDiffusion(Editor):
    """Stable Diffusion 1.x and 2.x with nine input channels."""

    denoiser = "unet"
    auto = AutoPipelineForInpainting
    without: ClassVar = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    text_encoders: ClassVar = {"text_encoder": CLIPTextModel}

    def __init__(self, pipeline: Any, size: int, **settings):
        super().__init__(pipeline, size, **settings)
        if pipeline.device.type == "cuda":
            pipeline.vae.enable_slicing()  # one picture at a time through the VAE

    @staticmethod
    def widths(pipeline: Any) -> tuple[int, int]:
        """Numbers a token that the text encoders give, and that the denoiser takes."""
        return pipeline.text_encoder.config.hidden_size, pipeline.unet.config.cross_attention_dim

    def _encode_prompts(self, prompts: list[str]) -> dict[str, torch.Tensor]:
        positive, negative = self.pipeline.encode_prompt(
            prompts, self.pipeline.device, 1, do_classifier_free_guidance=True)
        return {"prompt_embeds": positive, "negative_prompt_embeds": negative}

    def _paint(self, images: torch.Tensor, masks: torch.Tensor, texts: dict[str, torch.Tensor], seed: int, steps: int,
               guidance: float) -> torch.Tensor:
        return self.pipeline(
            image=images, mask_image=masks, height=self.size, width=self.size, **texts,
            generator=_generators(seed, len(masks)), num_inference_steps=steps, guidance_scale=guidance, strength=1.0,
            output_type="pt").images


class StableDiffusionXL(StableDiffusion):
    """Stable Diffusion XL with nine input channels and two text encoders."""

    without: ClassVar = {"feature_extractor": None, "image_encoder": None, "add_watermarker": False}
    text_encoders: ClassVar = {"text_encoder": CLIPTextModel, "text_encoder_2": CLIPTextModelWithProjection}

    @staticmethod
    def widths(pipeline: Any) -> tuple[int, int]:
        """Numbers a token that the text encoders give together, and that the denoiser takes."""
        given = pipeline.text_encoder.config.hidden_size + pipeline.text_encoder_2.config.hidden_size
        return given, pipeline.unet.config.cross_attention_dim

    def _encode_prompts(self, prompts: list[str]) -> dict[str, torch.Tensor]:
        embeds = self.pipeline.encode_prompt(prompts, device=self.pipeline.device, do_classifier_free_guidance=True)
        return dict(zip(("prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds",
                         "negative_pooled_prompt_embeds"), embeds, strict=True))

    def _paint(self, images: torch.Tensor, masks: torch.Tensor, texts: dict[str, torch.Tensor], seed: int, steps: int,
               guidance: float) -> torch.Tensor:
        # Its inpainting checkpoint blurs when it starts from noise alone, says its model card, whose example leaves
        # out the first of 20 steps: so does this, of steps + 1, and makes `steps` all the same.
        with quiet():  # the library warns of its own change of the VAE's type
            return self.pipeline(
                image=images, mask_image=masks, height=self.size, width=self.size, **texts,
                generator=_generators(seed, len(masks)), num_inference_steps=steps + 1, guidance_scale=guidance,
                strength=(steps + 0.5) / (steps + 1), output_type="pt").images


class Amused(Editor):
    """aMUSEd, an open MUSE: a transformer over discrete tokens, whose masks are boxes of whole tokens.

    Its pipeline takes one generator and one share of masked tokens for a whole batch, so that an edit would depend on
    its neighbours: every edit is a call of its own.
    """

    denoiser = "transformer"
    auto = AmusedInpaintPipeline  # AutoPipelineForInpainting does not know it
    without: ClassVar = {}
    text_encoders: ClassVar = {"text_encoder": CLIPTextModelWithProjection}

    def __init__(self, pipeline: Any, size: int, **settings):
        if size % (unit := pipeline.vae_scale_factor**2):  # its pipeline's masks have no other sizes
            raise UserError(f"aMUSEd edits squares whose side is a multiple of {unit} pixels, not {size}; use a "
                            "profile of such a size, e.g. 'amused'.")
        super().__init__(pipeline, size, **settings)
        pipeline.vqvae.register_to_config(force_upcast=True)  # in float16 it gives NaN; other types are left alone

    @staticmethod
    def widths(pipeline: Any) -> tuple[int, int]:
        """Numbers a token that the text encoder gives, and that the denoiser takes."""
        return pipeline.text_encoder.config.hidden_size, pipeline.transformer.config.encoder_hidden_size

    def _encode_prompts(self, prompts: list[str]) -> dict[str, torch.Tensor]:
        texts = {}
        for sign, words in (("", prompts), ("negative_", [""] * len(prompts))):
            ids = self.pipeline.tokenizer(words, return_tensors="pt", padding="max_length", truncation=True,
                                          max_length=self.pipeline.tokenizer.model_max_length).input_ids
            out = self.pipeline.text_encoder(ids.to(self.pipeline.device), output_hidden_states=True)
            texts |= {f"{sign}prompt_embeds": out.text_embeds, f"{sign}encoder_hidden_states": out.hidden_states[-2]}
        return texts

    def _paint(self, images: torch.Tensor, masks: torch.Tensor, texts: dict[str, torch.Tensor], seed: int, steps: int,
               guidance: float) -> torch.Tensor:
        # The pipeline looks at one pixel of each token; a token is edited if any of its pixels is to be.
        side = self.pipeline.vae_scale_factor
        masks = F.interpolate(F.max_pool2d(masks, side), scale_factor=side, mode="nearest")
        return torch.cat([
            self.pipeline(image=images[i, None], mask_image=masks[i, None], generator=_generators(seed, 1)[0],
                          num_inference_steps=steps, guidance_scale=guidance, output_type="pt",
                          **{name: values[i, None] for name, values in texts.items()}).images
            for i in range(len(masks))])


FAMILIES: dict[str, type[Editor]] = {
    "StableDiffusionInpaintPipeline": StableDiffusion, "StableDiffusionPipeline": StableDiffusion,
    "StableDiffusionXLInpaintPipeline": StableDiffusionXL, "StableDiffusionXLPipeline": StableDiffusionXL,
    "AmusedInpaintPipeline": Amused, "AmusedPipeline": Amused, "AmusedImg2ImgPipeline": Amused,
}
"""By the class that a checkpoint's index names; a text-to-image class may hold an inpainting denoiser too."""


def load_editor(source: str, device: str, dtype: torch.dtype, variant: str | None = None,
                **settings) -> tuple[Editor, str]:
    """An editor from a folder or a hub id, and what the record says of its source; safetensors only.

    `settings`: size, steps, guidance, batch. Raises UserError for a model that is no inpainting model or of another
    family, before it is downloaded; UnavailableError for a source that can't serve; ValueError for parts that do not
    belong together; else what diffusers raises.
    """
    family = _family(source)
    found = fetch("editor", source, variant)
    if not any(Path(found.place, family.denoiser).glob(f"*.{variant}.*")):  # a folder may hold the whole files
        variant = None
    pipeline = read_pipeline(found.place, family.auto, family.text_encoders, dtype, variant, **family.without)
    require_fit(pipeline, family, source)
    editor = family(pipeline.to(device), **settings)
    return editor, found.label


def read_pipeline(place: str, kind: Any, encoders: dict[str, Any], dtype: torch.dtype, variant: str | None = None,
                  **given: Any) -> Any:
    """A diffusers pipeline of this kind from a folder, safetensors only; `given` components are not read from it.

    `encoders`: the class of each text encoder by its name. Raises ValueError if weights of one are missing.
    """
    # diffusers would fill missing weights of a text encoder with random ones, so they are loaded here.
    read = {}
    for name, encoder in encoders.items():
        read[name], loaded = encoder.from_pretrained(
            place, subfolder=name, variant=variant, use_safetensors=True, dtype=dtype, output_loading_info=True)
        require_weights(loaded)
    with warnings.catch_warnings(), quiet():  # the family of aMUSEd says at every start that it is old
        # Newer versions prefer `dtype`, which older ones (Colab's) don't know.
        warnings.filterwarnings("ignore", "`torch_dtype` is deprecated", FutureWarning)
        return kind.from_pretrained(place, **read, torch_dtype=dtype, variant=variant, use_safetensors=True, **given)


def require_fit(pipeline: Any, family: type[Editor], source: str) -> None:
    """Raise UserError if its text encoder does not fit its denoiser, ValueError if a tokenizer does not fit."""
    given, taken = family.widths(pipeline)
    if given != taken:
        raise UserError(f"The text encoder of {label(source)} does not fit: it gives {given} numbers a token, the "
                        f"denoiser takes {taken}; give a checkpoint whose parts belong together.")
    for name in family.text_encoders:
        words, most = getattr(pipeline, name.replace("text_encoder", "tokenizer")), getattr(pipeline, name).config
        if len(words) < most.vocab_size:
            raise ValueError(f"its tokenizer has {len(words)} tokens, its text encoder {most.vocab_size}")


def require_weights(loaded: dict) -> None:
    """Raise ValueError if transformers found no stored value for some weights (it would make them up)."""
    if loaded["missing_keys"]:
        raise ValueError(f"{len(loaded['missing_keys'])} weights are missing, e.g. {sorted(loaded['missing_keys'])[0]}")


def _family(source: str) -> type[Editor]:
    """The class for this source, by two small files of it; where they are missing or damaged, `fetch` will say so."""
    kind = _settings(source, "model_index.json").get("_class_name")
    if kind is None:
        return StableDiffusion
    if kind not in FAMILIES:
        raise UserError(f"{label(source)} holds a {kind}, which can't be driven here; give an inpainting checkpoint of "
                        "Stable Diffusion 1.x, 2.x or XL, or of aMUSEd.")
    channels = _settings(source, "unet/config.json").get("in_channels", 9) if FAMILIES[kind].denoiser == "unet" else 9
    if channels != 9:
        raise UserError(f"{label(source)} is no inpainting model: its UNet takes {channels} channels, not 9; give an "
                        "inpainting checkpoint.")
    return FAMILIES[kind]


def _settings(source: str, file: str) -> dict[str, Any]:
    path = peek("editor", source, file)
    try:
        found = json.loads(path.read_text(encoding="utf-8")) if path else {}
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
