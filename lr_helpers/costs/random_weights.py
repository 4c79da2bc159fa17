"""The real architectures with random weights: true shapes, memory and time where the trained weights can't be had.

Configurations are those that the released checkpoints carry; `reduced` keeps classes and topology and shrinks widths,
so that a whole edit takes a second. Tests and `benchmark` build from here.
"""

from __future__ import annotations

import copy
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import open_clip
import torch
from diffusers import (
    AmusedInpaintPipeline,
    AmusedScheduler,
    AutoencoderKL,
    AutoencoderTiny,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionInpaintPipeline,
    StableDiffusionXLInpaintPipeline,
    UNet2DConditionModel,
    UVit2DModel,
    VQModel,
    ZImageInpaintPipeline,
    ZImageTransformer2DModel,
)
from safetensors.torch import save_file
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    Qwen2Tokenizer,
    Qwen3Config,
    Qwen3Model,
    ViTConfig,
    ViTImageProcessor,
    ViTModel,
)

from lr_helpers.machine.seeding import seeded
from lr_helpers.models.encoders import Backbone, Clip
from lr_helpers.models.layouts import LORA_WEIGHTS
from lr_helpers.models.libraries import quiet
from lr_helpers.models.loading import Models, batch_for, dtype_for
from lr_helpers.models.pipelines import FAMILIES, use_solver
from lr_helpers.models.profiles import NEEDED, Part, Profile, get_profile

Config = dict[str, Any]

UNET: Config = {
    "in_channels": 9, "out_channels": 4, "sample_size": 64, "layers_per_block": 2, "norm_num_groups": 32,
    "block_out_channels": (320, 640, 1280, 1280),
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3}
VAE: Config = {
    "in_channels": 3, "out_channels": 3, "latent_channels": 4, "sample_size": 512, "scaling_factor": 0.18215,
    "block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "norm_num_groups": 32,
    "down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
FLOW_VAE = VAE | {"latent_channels": 16, "sample_size": 1024, "use_quant_conv": False, "use_post_quant_conv": False}
CLIP_L: Config = {  # the text tower of OpenAI's CLIP ViT-L/14
    "vocab_size": 49408, "max_position_embeddings": 77, "hidden_size": 768, "intermediate_size": 3072,
    "num_hidden_layers": 12, "num_attention_heads": 12, "projection_dim": 768}
CLIP_H = CLIP_L | {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 23, "num_attention_heads": 16,
                   "projection_dim": 512, "hidden_act": "gelu"}
CLIP_G = CLIP_L | {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20,
                   "projection_dim": 1280, "hidden_act": "gelu"}
VIT: Config = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072,
               "image_size": 224, "layer_norm_eps": 1e-12}

FULL: dict[str, dict[str, Config]] = {
    "sd15": {"unet": UNET | {"cross_attention_dim": 768, "attention_head_dim": 8}, "vae": VAE, "text_encoder": CLIP_L},
    "sd2": {"unet": UNET | {"cross_attention_dim": 1024, "attention_head_dim": (5, 10, 20, 20),
                            "use_linear_projection": True},
            "vae": VAE, "text_encoder": CLIP_H},
    "sdxl": {"unet": UNET | {
                 "sample_size": 128, "block_out_channels": (320, 640, 1280), "attention_head_dim": (5, 10, 20),
                 "down_block_types": ("DownBlock2D",) + ("CrossAttnDownBlock2D",) * 2,
                 "up_block_types": ("CrossAttnUpBlock2D",) * 2 + ("UpBlock2D",),
                 "transformer_layers_per_block": (1, 2, 10), "cross_attention_dim": 2048,
                 "use_linear_projection": True, "addition_embed_type": "text_time", "addition_time_embed_dim": 256,
                 "projection_class_embeddings_input_dim": 2816},
             "vae": VAE | {"sample_size": 1024, "scaling_factor": 0.13025, "force_upcast": True},
             "text_encoder": CLIP_L, "text_encoder_2": CLIP_G},
    "amused": {"transformer": {"downsample": True, "upsample": True, "sample_size": 32},  # the rest: the class's own
               "vqvae": {"block_out_channels": (128, 256, 256, 512, 768), "layers_per_block": 2, "latent_channels": 64,
                         "down_block_types": ("DownEncoderBlock2D",) * 5, "up_block_types": ("UpDecoderBlock2D",) * 5,
                         "num_vq_embeddings": 8192, "mid_block_add_attention": False, "lookup_from_codebook": True},
               "text_encoder": CLIP_L},
    "zimage": {"transformer": {"axes_lens": (1536, 512, 512)},  # the rest: the class's own
               "vae": FLOW_VAE | {"scaling_factor": 0.3611, "shift_factor": 0.1159},
               "text_encoder": {  # Qwen 3 4B
                   "vocab_size": 151936, "hidden_size": 2560, "intermediate_size": 9728, "num_hidden_layers": 36,
                   "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "tie_word_embeddings": True,
                   "max_position_embeddings": 40960, "rms_norm_eps": 1e-6,
                   "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0}}}}
FULL["sd15_lcm"] = FULL["sd15"]
"""By profile, then by component."""

SMALL_TEXT: Config = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
                      "projection_dim": 24}
SMALL: dict[str, Config] = {
    "unet": {"block_out_channels": (16, 16, 32, 32), "attention_head_dim": (2, 2, 4, 4), "layers_per_block": 1,
             "norm_num_groups": 8, "cross_attention_dim": 32, "sample_size": 8},
    "vae": {"block_out_channels": (8, 8, 16, 16), "layers_per_block": 1, "norm_num_groups": 4, "sample_size": 64},
    "text_encoder": SMALL_TEXT, "text_encoder_2": SMALL_TEXT | {"hidden_size": 40},
    "transformer": {"hidden_size": 32, "cond_embed_dim": 24, "micro_cond_encode_dim": 8, "micro_cond_embed_dim": 40,
                    "encoder_hidden_size": 32, "vocab_size": 264, "codebook_size": 256, "in_channels": 32,
                    "block_out_channels": 32, "num_res_blocks": 1, "block_num_heads": 4, "num_hidden_layers": 2,
                    "num_attention_heads": 4, "intermediate_size": 48, "sample_size": 8},
    "vqvae": {"block_out_channels": (8, 8, 16, 16), "down_block_types": ("DownEncoderBlock2D",) * 4,
              "up_block_types": ("UpDecoderBlock2D",) * 4, "layers_per_block": 1, "norm_num_groups": 4,
              "latent_channels": 8, "num_vq_embeddings": 256},
    "qwen": {"vocab_size": 288, "hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 3,
             "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 12, "max_position_embeddings": 640},
    "zimage": {"dim": 32, "n_layers": 2, "n_refiner_layers": 1, "n_heads": 2, "n_kv_heads": 2, "cap_feat_dim": 24,
               "axes_dims": (8, 4, 4), "axes_lens": (1024, 32, 32)},
    "vit": {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 32,
            "image_size": 48}}
SMALL_SDXL: Config = {"block_out_channels": (16, 16, 32), "attention_head_dim": (2, 2, 4),
                      "transformer_layers_per_block": (1, 2, 2), "cross_attention_dim": 72,
                      "addition_time_embed_dim": 8, "projection_class_embeddings_input_dim": 24 + 6 * 8}
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PATCH = {"sd2": 8, "sd15": 16, "sd15_lcm": 16, "sdxl": 8, "amused": 8, "zimage": 8}
"""Patch side of each profile's backbone."""
GRID = 8
"""Patches a side that a reduced backbone sees: enough for the anchors of every preset."""


def configurations(profile: str, reduced: bool = False) -> dict[str, Config]:
    """The editor's networks of a profile: their configurations by component."""
    small = SMALL | {"transformer": SMALL["zimage"], "text_encoder": SMALL["qwen"]} if profile == "zimage" else SMALL
    found = {name: config | (small[name] if reduced else {}) for name, config in FULL[profile].items()}
    if reduced and profile == "sdxl":
        found["unet"] |= SMALL_SDXL
    return found


def network(component: str, config: Config, projection: bool = False) -> torch.nn.Module:
    """One network of an editor, on torch's default device; `projection`: a text encoder with a projected summary."""
    if component == "text_encoder" and "rope_parameters" in config:
        return Qwen3Model(Qwen3Config(**config)).eval()
    if component.startswith("text_encoder"):
        kind = CLIPTextModelWithProjection if projection else CLIPTextModel
        return kind(CLIPTextConfig(bos_token_id=49406, eos_token_id=49407, pad_token_id=1, **config)).eval()
    if "axes_lens" in config:
        made = ZImageTransformer2DModel(**config)
        for padding in (made.x_pad_token, made.cap_pad_token):  # the class leaves what the memory held
            torch.nn.init.normal_(padding, std=0.02)
        return made.eval()
    kinds = {"unet": UNet2DConditionModel, "vae": AutoencoderKL, "transformer": UVit2DModel, "vqvae": VQModel}
    return kinds[component](**config).eval()


def networks(profile: str, reduced: bool = False, device: str = "cpu",
             dtype: torch.dtype = torch.float32) -> dict[str, torch.nn.Module]:
    """All networks of a profile's editor by component; on the device "meta" they take no memory."""
    summary = {"sdxl": "text_encoder_2", "amused": "text_encoder"}.get(profile)
    found = {}
    for name, config in configurations(profile, reduced).items():
        with torch.device(device), quiet():
            found[name] = network(name, config, name == summary).to(dtype)
    return found


def tokenizer(**settings) -> CLIPTokenizer:
    """CLIP's own word pieces, which open_clip carries: 49,408 of them, 77 a text."""
    pieces = open_clip.tokenizer.SimpleTokenizer()
    vocabulary = [*list(pieces.encoder)[:-2], "<|startoftext|>", "<|endoftext|>"]  # as transformers writes them
    return CLIPTokenizer(vocab={word: i for i, word in enumerate(vocabulary)}, merges=list(pieces.bpe_ranks),
                         model_max_length=77, **settings)


def qwen_tokenizer() -> Qwen2Tokenizer:
    """Qwen's, reduced to single bytes: its first 256 tokens, and those of its dialogues."""
    letters = open_clip.tokenizer.bytes_to_unicode().values()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>"]
    return Qwen2Tokenizer(vocab={letter: i for i, letter in enumerate(letters)}, merges=[], model_max_length=131072,
                          pad_token=special[0], eos_token=special[2], extra_special_tokens=special)


def pipeline(profile: str, reduced: bool = False, device: str = "cpu", dtype: torch.dtype = torch.float32) -> Any:
    """The inpainting pipeline of a profile with random weights, without its LoRA."""
    parts = networks(profile, reduced, device, dtype)
    noise = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
    if profile == "amused":
        with quiet():  # it says at every start that it is old
            mask = AmusedScheduler(mask_token_id=parts["transformer"].config.vocab_size - 1)
            return AmusedInpaintPipeline(**parts, tokenizer=tokenizer(), scheduler=mask)
    if profile == "zimage":
        return ZImageInpaintPipeline(**parts, tokenizer=qwen_tokenizer(),
                                     scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0))
    if profile == "sdxl":
        return StableDiffusionXLInpaintPipeline(
            **parts, tokenizer=tokenizer(), tokenizer_2=tokenizer(pad_token="!"),
            scheduler=EulerDiscreteScheduler(**noise), add_watermarker=False)
    return StableDiffusionInpaintPipeline(
        **parts, tokenizer=tokenizer(), scheduler=PNDMScheduler(**noise, skip_prk_steps=True, set_alpha_to_one=False),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False)


LORA_ON = re.compile(r"time_embedding\.linear_[12]|.*\.(to_[qkv]|to_out\.0|proj_in|proj_out|ff\.net\.(0\.proj|2)|"
                     r"conv[12]|conv_shortcut|time_emb_proj|(down|up)samplers\.0\.conv)")
"""The layers that LCM-LoRA changes: at rank 64 these are the 67.5 million numbers that its card states."""


def lora(unet: torch.nn.Module, rank: int = 64, size: float = 0.01) -> dict[str, torch.Tensor]:
    """A LoRA of a UNet by the names of kohya's scripts, as LCM-LoRA is published, with random changes of this size."""
    found = {}
    for name, layer in unet.named_modules():
        if not LORA_ON.fullmatch(name):
            continue
        out, into, *window = layer.weight.shape
        stem = f"lora_unet_{name.replace('.', '_')}"
        found[f"{stem}.lora_down.weight"] = torch.randn(rank, into, *window, device=layer.weight.device) * size
        found[f"{stem}.lora_up.weight"] = torch.randn(out, rank, *[1] * len(window), device=layer.weight.device)
        found[f"{stem}.alpha"] = torch.tensor(float(rank))
    return found


def small_decoder(profile: str, reduced: bool = False) -> AutoencoderTiny:
    """The small autoencoder of a profile (TAESD) with random weights."""
    width = {"encoder_block_out_channels": (8,) * 4, "decoder_block_out_channels": (8,) * 4} if reduced else {}
    return AutoencoderTiny(latent_channels=configurations(profile)["vae"]["latent_channels"], **width).eval()


def teraflop(profile: str) -> float:
    """10¹² floating-point operations of one denoiser evaluation at the profile's true size; nothing is computed."""
    denoiser = next(iter(networks(profile, device="meta").values()))
    config, side = denoiser.config, denoiser.config.sample_size
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        if profile == "amused":
            denoiser(torch.zeros(1, side, side, dtype=torch.long), torch.zeros(1, 77, config.encoder_hidden_size),
                     pooled_text_emb=torch.zeros(1, config.cond_embed_dim), micro_conds=torch.zeros(1, 5))
        else:
            beside = {"text_embeds": torch.zeros(1, CLIP_G["projection_dim"]), "time_ids": torch.zeros(1, 6)}
            denoiser(torch.zeros(1, 9, side, side), torch.tensor([500]), torch.zeros(1, 77, config.cross_attention_dim),
                     added_cond_kwargs=beside if config.addition_embed_type else None)
    return counter.get_total_flops() / 1e12


def backbone(profile: str, reduced: bool = False, device: str = "cpu") -> ViTModel:
    """The DINO ViT of a profile with random weights."""
    config = ViTConfig(**VIT | (SMALL["vit"] if reduced else {}), patch_size=PATCH[profile],
                       attn_implementation="eager")
    with torch.device(device):
        return ViTModel(config, add_pooling_layer=False).eval()


def clip_configuration(reduced: bool = False) -> Config:
    """open_clip's folder configuration of OpenAI's CLIP ViT-B/16."""
    model = copy.deepcopy(open_clip.get_model_config("ViT-B-16")) | {"quick_gelu": True}
    if reduced:
        model["embed_dim"] = 16
        model["vision_cfg"] |= {"image_size": 48, "layers": 3, "width": 32, "head_width": 16}
        model["text_cfg"] |= {"width": 32, "heads": 2, "layers": 1}
    return {"model_cfg": model, "preprocess_cfg": {"mean": open_clip.OPENAI_DATASET_MEAN,
                                                   "std": open_clip.OPENAI_DATASET_STD}}


def clip(reduced: bool = False, device: str = "cpu") -> open_clip.CLIP:
    """CLIP ViT-B/16 with random weights."""
    config = clip_configuration(reduced)
    with torch.device(device):
        model = open_clip.CLIP(**config["model_cfg"]).eval()
    model.visual.image_mean, model.visual.image_std = config["preprocess_cfg"].values()  # as open_clip sets them
    return model


def models(profile: str, device: str = "cpu", reduced: bool = False, dtype: torch.dtype | None = None) -> Models:
    """All models of a profile with random weights in memory; `dtype` of the editor, None: that of the device."""
    about, dtype = get_profile(profile), dtype or dtype_for(device)
    pipe = pipeline(profile, reduced, device, dtype)
    use_solver(pipe, about.solver)  # a LoRA, once it is part of the denoiser, costs nothing
    decoder = small_decoder(profile, reduced).to(device, dtype) if about.decoder else None
    editor = FAMILIES[type(pipe).__name__](pipe, 64 if reduced else about.size, steps=about.steps,
                                           guidance=about.guidance, batch=about.batch,
                                           screening_steps=about.screening_steps, decoder=decoder)
    see = Backbone(backbone(profile, reduced, device), IMAGENET_MEAN, IMAGENET_STD,
                   GRID * PATCH[profile] if reduced else about.backbone_size)
    judge = Clip(clip(reduced, device), open_clip.get_tokenizer("ViT-B-16"), device)
    editor.batch = batch_for(device, about.batch, about.parts["editor"].gigabytes_per_edit)
    profile = replace(about, size=editor.size)
    return Models(profile, editor, see, judge, device, dict.fromkeys(about.models, "random weights"))


def write(profile: str, folder: Path, seed: int = 0) -> Profile:
    """Write reduced checkpoints of a profile in the real file formats; returns a profile of edits of 64×64 pixels."""
    real = get_profile(profile)
    with seeded(seed):
        made = pipeline(profile, reduced=True)
        made.save_pretrained(folder / "editor")
        backbone(profile, reduced=True).save_pretrained(folder / "backbone")
        judge = clip(reduced=True)
        extra = {}
        if real.lora:
            (folder / "lora").mkdir()
            save_file(lora(made.unet, rank=4), folder / "lora" / LORA_WEIGHTS)
            extra["lora"] = (str(folder / "lora"),)
        if real.decoder:
            small_decoder(profile, reduced=True).save_pretrained(folder / "decoder")
            extra["decoder"] = (str(folder / "decoder"),)
    ViTImageProcessor(size={"height": 48, "width": 48}, image_mean=list(IMAGENET_MEAN),
                      image_std=list(IMAGENET_STD)).save_pretrained(folder / "backbone")
    (folder / "clip").mkdir()
    (folder / "clip" / "open_clip_config.json").write_text(json.dumps(clip_configuration(reduced=True)))
    save_file({k: v.contiguous() for k, v in judge.state_dict().items()},
              folder / "clip" / "open_clip_model.safetensors")
    return Profile(
        name=f"small {profile}", title="random weights", size=64, steps=3, guidance=real.guidance, batch=3,
        screening_steps=real.screening_steps and 2, solver=real.solver,
        backbone_size=GRID * PATCH[profile], needs_gpu=False, editor=(str(folder / "editor"),),
        backbone=(str(folder / "backbone"),),
        clip=(str(folder / "clip"),), **extra,
        parts={part: Part(licence="MIT") for part in (*NEEDED, *extra)})


if __name__ == "__main__":
    for each in (name for name in FULL if name != "zimage"):  # which is too large for the GPU that is reckoned with
        print(f"{each}: {teraflop(each):.3f} teraflop an evaluation")
