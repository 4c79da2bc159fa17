"""The models that only baselines need, with random weights of the true classes, in the real file formats.

For tests where the trained ones can't be had: at reduced width, and the emoji world's miniatures untrained.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, EulerAncestralDiscreteScheduler, PNDMScheduler
from transformers import (
    BertConfig,
    BertTokenizer,
    CLIPSegConfig,
    CLIPSegForImageSegmentation,
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    GroundingDinoImageProcessor,
    SamConfig,
    SamImageProcessor,
    SamModel,
    SwinConfig,
    ViTImageProcessor,
)

from lr_helpers.baselines.diffusion import NOT_USED
from lr_helpers.costs import random_weights
from lr_helpers.costs.random_weights import IMAGENET_MEAN, IMAGENET_STD, Config
from lr_helpers.files.paths import DATA
from lr_helpers.models.profiles import Extra
from tiny_world.words import vocabulary
from tiny_world.zoo import comparison, tokenizer
from tiny_world.zoo.inpainting import build_text_encoder

NOISE: Config = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
CLIPSEG: Config = {"vision_config": {"patch_size": 16}, "use_complex_transposed_convolution": True}
"""How CIDAS/clipseg-rd64-refined differs from the class's defaults; the other two published models are the defaults."""


def write_miniature(part: str, folder: Path) -> None:
    """The emoji world's "text_to_image" or "instruct", as its training writes it: without the VAE, untrained."""
    kind = comparison.KINDS[part]
    words = tokenizer.build(vocabulary(kind.words))
    comparison.save_pipeline(folder, kind, AutoencoderKL.from_pretrained(DATA / "tiny_world" / "inpainting" / "vae"),
                             words, comparison.build_unet(kind.channels), build_text_encoder(words))


def denoiser(part: str, profile: str) -> Any:
    """The pipeline of "text_to_image" or "instruct" at reduced width."""
    kind = comparison.KINDS[part]
    configs = random_weights.configurations(profile, reduced=True)
    configs["unet"] |= {"in_channels": kind.channels}
    # The schedulers of the published checkpoints.
    scheduler = (EulerAncestralDiscreteScheduler(**NOISE) if part == "instruct"
                 else PNDMScheduler(**NOISE, skip_prk_steps=True, set_alpha_to_one=False))
    return kind.pipeline(
        **{name: random_weights.network(name, config) for name, config in configs.items()},
        tokenizer=random_weights.tokenizer(), scheduler=scheduler, **NOT_USED)


def clipseg(reduced: bool = True) -> CLIPSegForImageSegmentation:
    """CLIPSeg rd64, refined."""
    small = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4}
    extra = {"text_config": small, "vision_config": small | {"patch_size": 16, "image_size": 64}, "projection_dim": 24,
             "extract_layers": [0, 1, 2], "reduce_dim": 16, "decoder_intermediate_size": 32} if reduced else {}
    return CLIPSegForImageSegmentation(CLIPSegConfig(**CLIPSEG | extra)).eval()


def grounding_dino(reduced: bool = True) -> GroundingDinoForObjectDetection:
    """Grounding DINO tiny: a Swin tiny and a BERT base below it."""
    if not reduced:
        return GroundingDinoForObjectDetection(GroundingDinoConfig()).eval()
    swin = SwinConfig(embed_dim=12, depths=[1, 1, 1, 1], num_heads=[1, 2, 3, 4], out_indices=[2, 3, 4])
    bert = BertConfig(vocab_size=1300, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=48)
    return GroundingDinoForObjectDetection(GroundingDinoConfig(
        backbone_config=swin, text_config=bert, d_model=32, encoder_layers=1, decoder_layers=2, encoder_ffn_dim=48,
        decoder_ffn_dim=48, encoder_attention_heads=4, decoder_attention_heads=4, num_queries=20)).eval()


def sam(reduced: bool = True) -> SamModel:
    """Segment Anything, ViT-B."""
    if not reduced:
        return SamModel(SamConfig()).eval()
    vision = {"hidden_size": 24, "output_channels": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
              "image_size": 128, "window_size": 4, "global_attn_indexes": [1], "num_pos_feats": 16}
    decoder = {"hidden_size": 32, "mlp_dim": 48, "num_attention_heads": 4, "iou_head_hidden_dim": 32}
    return SamModel(SamConfig(vision_config=vision, mask_decoder_config=decoder,
                              prompt_encoder_config={"hidden_size": 32, "image_size": 128})).eval()


def words() -> BertTokenizer:
    """Letters, with BERT's special tokens and full stop at the ids that Grounding DINO relies on."""
    vocabulary = [f"[unused{i}]" for i in range(1300)]
    for i, token in {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 103: "[MASK]", 1012: ".", 1029: "?"}.items():
        vocabulary[i] = token
    for i, letter in enumerate("abcdefghijklmnopqrstuvwxyz"):
        vocabulary[1037 + i], vocabulary[1100 + i] = letter, f"##{letter}"
    return BertTokenizer(vocab={token: i for i, token in enumerate(vocabulary)}, model_max_length=256)


def write(profile: str, folder: Path, seed: int = 0) -> dict[str, Extra]:
    """Write all parts to `folder`; what a profile's `comparison` holds then. For "tiny" the denoisers borrow the
    editor's VAE, as the shipped ones do.
    """
    borrows = ("vae",) if profile == "tiny" else ()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for part in comparison.KINDS:
            if profile == "tiny":
                write_miniature(part, folder / part)
            else:
                denoiser(part, profile).save_pretrained(folder / part)
        for part, model in (("clipseg", clipseg()), ("grounding_dino", grounding_dino()), ("sam", sam())):
            model.save_pretrained(folder / part)
    seen = {"image_mean": list(IMAGENET_MEAN), "image_std": list(IMAGENET_STD)}
    ViTImageProcessor(size={"height": 64, "width": 64}, **seen).save_pretrained(folder / "clipseg")
    random_weights.tokenizer().save_pretrained(folder / "clipseg")
    GroundingDinoImageProcessor(size={"shortest_edge": 128, "longest_edge": 128}, **seen).save_pretrained(
        folder / "grounding_dino")
    words().save_pretrained(folder / "grounding_dino")
    SamImageProcessor(size={"longest_edge": 128}, pad_size={"height": 128, "width": 128}).save_pretrained(
        folder / "sam")
    return {part: Extra((str(folder / part),), borrows if part in comparison.KINDS else ())
            for part in (*comparison.KINDS, "clipseg", "grounding_dino", "sam")}
