"""One class for each family of inpainting pipelines, and `load_editor`: diffusers' differences end here."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import diffusers
import torch
from diffusers import AmusedInpaintPipeline, AutoencoderTiny, AutoPipelineForInpainting
from torch.nn import functional as F
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from lr_helpers.errors import UserError
from lr_helpers.inpainting import Editor, Texts
from lr_helpers.models.automatic import Automatic, Flux2Klein, StableDiffusion3, ZImage, form, generators, whole
from lr_helpers.models.hub import opened
from lr_helpers.models.layouts import DENOISERS
from lr_helpers.models.libraries import quiet, read_pipeline
from lr_helpers.models.lora import Lora
from lr_helpers.models.origins import label

PIPELINES_CHANNELS = 4
"""Latent channels that diffusers' inpainting pipelines insist on; all of Stable Diffusion 1.x, 2.x and XL has them."""


class StableDiffusion(Editor):
    """Stable Diffusion 1.x and 2.x, whose denoiser is given noisy latents, mask and masked picture's latents: nine
    channels with their latents of four.
    """

    denoiser = "unet"
    denoises_latents = True
    auto = AutoPipelineForInpainting
    """The class that reads a checkpoint of this family."""
    without: ClassVar = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    """Components that are not read, and how the pipeline is told so."""
    text_encoders: ClassVar = {"text_encoder": CLIPTextModel}
    """The class of each text encoder by its name; the tokenizers have the same numbers."""

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

    @torch.no_grad()
    def encode(self, pictures: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
        """(N, 3, S, S) in 0..1 → (N, C, s, s) latents as the denoiser takes them: the likeliest, or drawn."""
        own = self.pipeline.vae.dtype
        with self._autoencoder() as vae:
            found = vae.encode(pictures.to(vae.device, vae.dtype) * 2 - 1).latent_dist
        latents = found.mode() if generator is None else found.sample(generator)
        return latents.to(own) * vae.config.scaling_factor

    @torch.no_grad()
    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """(N, C, s, s) latents → (N, 3, S, S), about 0..1, on the CPU."""
        with self._autoencoder() as vae:
            return vae.decode(latents.to(vae.dtype) / vae.config.scaling_factor).sample.float().cpu() / 2 + 0.5

    @contextlib.contextmanager
    def _autoencoder(self) -> Iterator[Any]:
        """The autoencoder in the precision in which it works, for a while."""
        vae, own, works = self.pipeline.vae, self.pipeline.vae.dtype, self._vae_type()
        if works == own:
            yield vae
            return
        with quiet():  # the library warns of every change of type, whatever it changes
            vae.to(dtype=works)
        try:
            yield vae
        finally:
            with quiet():
                vae.to(dtype=own)

    def _vae_type(self) -> torch.dtype:
        """The precision in which the autoencoder works."""
        return self.pipeline.vae.dtype

    def texts(self, prompt: str) -> dict[str, torch.Tensor]:
        """A prompt, and no prompt, as `predict` takes them."""
        return self._encode_prompts([prompt])

    @torch.no_grad()
    def predict(self, channels: torch.Tensor, time: torch.Tensor, texts: dict[str, torch.Tensor],
                with_prompt: bool) -> torch.Tensor:
        """One evaluation: the denoiser's channels (N, 2 C + 1, s, s) at a time step → its prediction (N, C, s, s)."""
        sign = "" if with_prompt else "negative_"
        return self.pipeline.unet(channels, time, encoder_hidden_states=texts[f"{sign}prompt_embeds"],
                                  **self._conditions(texts, sign)).sample

    def _conditions(self, texts: dict[str, torch.Tensor], sign: str) -> dict[str, Any]:
        """What the denoiser is told beside the text's tokens."""
        return {}

    def _paint(self, images: torch.Tensor, masks: torch.Tensor, texts: Texts, seed: int, steps: int, guidance: float,
               draft: bool) -> torch.Tensor:
        if self.pipeline.vae.config.latent_channels != PIPELINES_CHANNELS:
            return self._denoise(images, masks, texts, seed, steps, guidance, draft)
        return self.pipeline(
            image=images, mask_image=masks, height=self.size, width=self.size, **texts,
            generator=generators(seed, len(masks)), num_inference_steps=steps, guidance_scale=guidance, strength=1.0,
            output_type=form(draft)).images

    @torch.no_grad()
    def _denoise(self, images: torch.Tensor, masks: torch.Tensor, texts: Texts, seed: int, steps: int, guidance: float,
                 draft: bool) -> torch.Tensor:
        """What the pipeline does, for latents of any number of channels; only the masked picture's latents are the
        likeliest, where the pipeline draws them."""
        pipeline, scheduler = self.pipeline, self.pipeline.scheduler
        masked = self.encode(torch.where(masks < 0.5, images, 0.5))
        small = F.interpolate(masks, size=masked.shape[-2:]).to(masked)
        beside = torch.cat([small, masked], dim=1)
        # The pipeline draws in the model's own precision, on the CPU, one generator a picture.
        own = generators(seed, len(masks))
        noise = [torch.randn(masked.shape[1:], generator=g, dtype=masked.dtype) for g in own]
        scheduler.set_timesteps(steps, device=masked.device)
        latents = torch.stack(noise).to(masked.device) * scheduler.init_noise_sigma
        context = torch.cat([texts["negative_prompt_embeds"], texts["prompt_embeds"]]) if guidance > 1 else \
            texts["prompt_embeds"]
        drawn = pipeline.prepare_extra_step_kwargs(own, 0.0)  # for solvers that draw at each step
        for time in scheduler.timesteps:
            channels = torch.cat([scheduler.scale_model_input(latents, time), beside], dim=1)
            if guidance > 1:  # both halves in one batch
                plain, told = pipeline.unet(channels.repeat(2, 1, 1, 1), time, context).sample.chunk(2)
                predicted = plain + guidance * (told - plain)
            else:
                predicted = pipeline.unet(channels, time, context).sample
            latents = scheduler.step(predicted, time, latents, **drawn).prev_sample
        return latents if draft else self.decode(latents).clamp(0, 1)


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

    def _vae_type(self) -> torch.dtype:
        # It overflows in float16; its pipeline too takes float32 then, where the configuration asks for that.
        vae = self.pipeline.vae
        return torch.float32 if vae.config.force_upcast and vae.dtype == torch.float16 else vae.dtype

    def _conditions(self, texts: dict[str, torch.Tensor], sign: str) -> dict[str, Any]:
        # The text's summary; and that the picture is of this size, and not cut out of a larger one.
        summary = texts[f"{sign}pooled_prompt_embeds"]
        sizes = torch.tensor([[self.size, self.size, 0, 0, self.size, self.size]]).to(summary)
        return {"added_cond_kwargs": {"text_embeds": summary, "time_ids": sizes}}

    def _paint(self, images: torch.Tensor, masks: torch.Tensor, texts: Texts, seed: int, steps: int, guidance: float,
               draft: bool) -> torch.Tensor:
        # Its inpainting checkpoint blurs when it starts from noise alone, says its model card, whose example leaves
        # out the first of 20 steps: so does this, of steps + 1, and makes `steps` all the same.
        with quiet():  # the library warns of its own change of the VAE's type
            return self.pipeline(
                image=images, mask_image=masks, height=self.size, width=self.size, **texts,
                generator=generators(seed, len(masks)), num_inference_steps=steps + 1, guidance_scale=guidance,
                strength=(steps + 0.5) / (steps + 1), output_type=form(draft)).images


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

    def _paint(self, images: torch.Tensor, masks: torch.Tensor, texts: Texts, seed: int, steps: int, guidance: float,
               draft: bool) -> torch.Tensor:
        masks = whole(masks, self.pipeline.vae_scale_factor)  # the pipeline looks at one pixel of each token
        frames = []
        for i in range(len(masks)):
            own = {name: values[i, None] for name, values in texts.items()}
            (generator,) = generators(seed, 1)
            frames.append(self.pipeline(
                image=images[i, None], mask_image=masks[i, None], **own, generator=generator,
                num_inference_steps=steps, guidance_scale=guidance, output_type="pt").images)
        return torch.cat(frames)


FAMILIES: dict[str, type[Editor]] = {
    "StableDiffusionInpaintPipeline": StableDiffusion, "StableDiffusionPipeline": StableDiffusion,
    "StableDiffusionXLInpaintPipeline": StableDiffusionXL, "StableDiffusionXLPipeline": StableDiffusionXL,
    "AmusedInpaintPipeline": Amused, "AmusedPipeline": Amused, "AmusedImg2ImgPipeline": Amused,
    **{f"{family}{task}Pipeline": kind for task in ("", "Img2Img", "Inpaint") for family, kind in (
        ("ZImage", ZImage), ("StableDiffusion3", StableDiffusion3), ("Flux", Automatic), ("Flux2Klein", Flux2Klein))
       if f"{family}{task}Pipeline" in DENOISERS},
}
"""By the class that a checkpoint's index names: those of `layouts.DENOISERS`."""


DISTILLED = ("LCMScheduler", "TCDScheduler")
"""Samplers that belong to what a checkpoint has learned; no other solver takes their place."""


def use_solver(pipeline: Any, solver: str | None) -> None:
    """Let this class of diffusers' schedulers, e.g. "DPMSolverMultistepScheduler", take the place of a pipeline's own.

    The noise levels and what the network predicts (noise, velocity or the picture) stay those of the checkpoint. The
    steps are spread over all levels, the last one included: a loop over few steps that begins lower is given noise
    where it expects some of the picture. A distilled solver, which belongs to a LoRA, spreads its few steps itself.
    Left as they are: schedulers that diffusers does not call compatible (tokens, flows), and distilled ones. Raises
    UserError for a name that diffusers does not have.
    """
    if solver is None:
        return
    kind = getattr(diffusers, solver, None)
    if not (isinstance(kind, type) and issubclass(kind, diffusers.SchedulerMixin)):
        raise UserError(f"The solver {solver!r} is no scheduler of diffusers; give e.g. DPMSolverMultistepScheduler in "
                        "data/models.toml.")
    own = pipeline.scheduler
    # A distilled one is in nobody's list of compatible ones, but has the noise levels of all that DDIM can replace.
    alike = diffusers.DDIMScheduler if solver in DISTILLED else kind
    if alike in own.compatibles and type(own).__name__ not in DISTILLED:
        spread = {} if solver in DISTILLED else {"timestep_spacing": "linspace"}
        with quiet():  # it tells which settings the other class does not have
            pipeline.scheduler = kind.from_config(own.config, **spread)


def load_editor(origin: str, device: str, dtype: torch.dtype, variant: str | None = None, solver: str | None = None,
                lora: Lora | None = None, decoder: Any = None, **settings) -> tuple[Editor, str]:
    """An editor from a folder or a hub id, and what the record says of its origin; safetensors only.

    `solver` as `use_solver` takes it; `lora` becomes part of its denoiser; `decoder`: see `load_decoder`; `settings`:
    those of `Editor`. Raises UnavailableError for an origin that can't
    serve, among them what is no inpainting model or of another family, before it is downloaded; UserError and
    ValueError for parts that do not belong together; else what diffusers raises.
    """
    with opened("editor", origin, variant) as found:
        index = json.loads(Path(found.place, "model_index.json").read_text(encoding="utf-8"))
        family = FAMILIES[index["_class_name"]]
        pipeline = read_pipeline(found.place, family.auto, family.text_encoders, dtype, found.variants, variant,
                                 **family.without)
    require_fit(pipeline, family, origin)
    if lora is not None:
        lora.put_on(pipeline, origin)
    use_solver(pipeline, solver)
    if decoder is not None:
        require_decoder(pipeline, decoder, origin)
        with quiet():  # as for the autoencoder above
            decoder = decoder.to(device, dtype)
    editor = family(pipeline.to(device), decoder=decoder, **settings)
    return editor, found.label


def load_decoder(origin: str) -> tuple[Any, str]:
    """A small autoencoder, whose decoder stands for the editor's own in drafts, in float32, and its origin's label."""
    with opened("decoder", origin) as found, quiet():
        decoder = AutoencoderTiny.from_pretrained(found.place, use_safetensors=True, local_files_only=True)
    return decoder.eval(), found.label


def require_decoder(pipeline: Any, decoder: Any, origin: str) -> None:
    """Raise UserError if a small decoder does not fit a pipeline."""
    vae = getattr(pipeline, "vae", None)
    own = None if vae is None else vae.config.latent_channels
    if own != decoder.config.latent_channels:
        raise UserError(f"The small decoder does not fit {label(origin)}: it takes {decoder.config.latent_channels} "
                        f"channels, the editor has {own or 'no latents'}; use a profile without one.")


def require_fit(pipeline: Any, family: type[Editor], origin: str) -> None:
    """Raise UserError if its text encoder does not fit its denoiser, ValueError if a tokenizer does not fit."""
    given, taken = family.widths(pipeline)
    if given != taken:
        raise UserError(f"The text encoder of {label(origin)} does not fit: it gives {given} numbers a token, the "
                        f"denoiser takes {taken}; give a checkpoint whose parts belong together.")
    for name in ("text_encoder", "text_encoder_2", "text_encoder_3"):
        encoder = getattr(pipeline, name, None)
        if encoder is None:
            continue
        words, most = len(getattr(pipeline, name.replace("text_encoder", "tokenizer"))), encoder.config.vocab_size
        # CLIP has one place for each of its tokens; others have some to spare, up to a round number.
        if words > most or words < (most if "CLIP" in type(encoder).__name__ else 0.9 * most):
            raise ValueError(f"its tokenizer has {words} tokens, its text encoder {most}")
