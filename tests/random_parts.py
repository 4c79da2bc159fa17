"""The models that only baselines need, with random weights of the true classes, in the real file formats.

For tests where the trained ones can't be had: at reduced width, and the emoji world's miniatures untrained.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLFlux2,
    EulerAncestralDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinInpaintPipeline,
    Flux2Transformer2DModel,
    FluxInpaintPipeline,
    FluxTransformer2DModel,
    PNDMScheduler,
    SD3Transformer2DModel,
    StableDiffusion3InpaintPipeline,
)
from transformers import (
    BertConfig,
    BertTokenizer,
    CLIPSegConfig,
    CLIPSegForImageSegmentation,
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    GroundingDinoImageProcessor,
    Qwen3Config,
    Qwen3ForCausalLM,
    Sam3ImageProcessor,
    Sam3Processor,
    Sam3VideoConfig,
    Sam3VideoModel,
    SamConfig,
    SamImageProcessor,
    SamModel,
    SwinConfig,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
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
    configs["unet"] |= {"in_channels": 8 if part == "instruct" else 4}  # latents of four channels, unlike the miniatures'
    # The schedulers of the published checkpoints.
    scheduler = (EulerAncestralDiscreteScheduler(**NOISE) if part == "instruct"
                 else PNDMScheduler(**NOISE, skip_prk_steps=True, set_alpha_to_one=False))
    return kind.pipeline(
        **{name: random_weights.network(name, config) for name, config in configs.items()},
        tokenizer=random_weights.tokenizer(), scheduler=scheduler, **NOT_USED)


def t5() -> tuple[T5EncoderModel, T5Tokenizer]:
    """T5's encoder and its tokenizer, which reads letters here."""
    letters = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    letters += [(letter, -3.0) for letter in "abcdefghijklmnopqrstuvwxyz"]
    words = T5Tokenizer(vocab=letters, extra_ids=0, model_max_length=512)
    config = T5Config(vocab_size=32, d_model=40, d_kv=8, d_ff=48, num_layers=2, num_heads=4,
                      feed_forward_proj="gated-gelu")
    return T5EncoderModel(config).eval(), words


def editor(name: str) -> Any:
    """The inpainting pipeline of "sd3", "sd3 without T5", "flux" or "klein" at reduced width."""
    flow = FlowMatchEulerDiscreteScheduler(shift=3.0)
    vae = random_weights.FLOW_VAE | random_weights.SMALL["vae"] | {"scaling_factor": 1.5305, "shift_factor": 0.0609}
    clip = random_weights.CLIP_L | random_weights.SMALL_TEXT
    if name == "klein":
        qwen = Qwen3Config(**random_weights.SMALL["qwen"] | {"num_hidden_layers": 28})  # layers 9, 18 and 27 are asked
        small = {"block_out_channels": (8, 8, 16, 16), "layers_per_block": 1, "norm_num_groups": 4, "latent_channels": 4}
        denoiser = Flux2Transformer2DModel(in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16,
                                           num_attention_heads=2, joint_attention_dim=72, axes_dims_rope=(4, 4, 4, 4),
                                           guidance_embeds=False)
        return Flux2KleinInpaintPipeline(
            vae=AutoencoderKLFlux2(**small).eval(), text_encoder=Qwen3ForCausalLM(qwen).eval(),
            tokenizer=random_weights.qwen_tokenizer(), transformer=denoiser.eval(), scheduler=flow)
    encoder, words = t5()
    if name == "flux":
        denoiser = FluxTransformer2DModel(in_channels=64, num_layers=1, num_single_layers=1, attention_head_dim=16,
                                          num_attention_heads=2, joint_attention_dim=40, pooled_projection_dim=32,
                                          guidance_embeds=True, axes_dims_rope=(4, 4, 8))
        return FluxInpaintPipeline(
            vae=random_weights.network("vae", vae), text_encoder=random_weights.network("text_encoder", clip),
            tokenizer=random_weights.tokenizer(), text_encoder_2=encoder, tokenizer_2=words,
            transformer=denoiser.eval(), scheduler=flow)
    denoiser = SD3Transformer2DModel(sample_size=8, patch_size=2, num_layers=2, attention_head_dim=8, num_attention_heads=4,
                                     joint_attention_dim=72 if "without" in name else 40, caption_projection_dim=32,
                                     pooled_projection_dim=48, pos_embed_max_size=16)
    # CLIP's two widths together may not be wider than T5's.
    narrow = clip | {"hidden_size": 16, "num_attention_heads": 2}
    both = [random_weights.network("text_encoder", clip if "without" in name else narrow, projection=True)
            for _ in range(2)]
    return StableDiffusion3InpaintPipeline(
        vae=random_weights.network("vae", vae), text_encoder=both[0], tokenizer=random_weights.tokenizer(),
        text_encoder_2=both[1], tokenizer_2=random_weights.tokenizer(pad_token="!"),
        text_encoder_3=None if "without" in name else encoder, tokenizer_3=None if "without" in name else words,
        transformer=denoiser.eval(), scheduler=flow)


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


def sam3(reduced: bool = True) -> Sam3VideoModel:
    """SAM 3 as it is published: the model for pictures, which is the detector within the one for videos."""
    if not reduced:
        return Sam3VideoModel(Sam3VideoConfig()).eval()
    vit = {"model_type": "sam3_vit_model", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
           "num_attention_heads": 2, "image_size": 112, "pretrain_image_size": 56, "window_size": 4,
           "global_attn_indexes": [1]}
    vision = {"backbone_config": vit, "fpn_hidden_size": 32, "backbone_feature_sizes": [[32, 32], [16, 16], [8, 8]]}
    text = {"model_type": "clip_text_model", "vocab_size": 49408, "hidden_size": 32, "intermediate_size": 48,
            "num_hidden_layers": 2, "num_attention_heads": 4, "projection_dim": 24, "max_position_embeddings": 32,
            "hidden_act": "gelu"}
    layers = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4}
    detector = {
        "model_type": "sam3", "vision_config": vision, "text_config": text,
        "geometry_encoder_config": layers | {"num_layers": 1}, "detr_encoder_config": layers | {"num_layers": 1},
        "detr_decoder_config": layers | {"num_layers": 2, "num_queries": 12},
        "mask_decoder_config": {"hidden_size": 32, "num_attention_heads": 4, "num_upsampling_stages": 3}}
    # The tracker stays behind when the detector is loaded; it is made as small as its class allows.
    tracker = {"model_type": "sam3_tracker_video", "vision_config": vision, "memory_attention_num_layers": 1,
               "num_maskmem": 1}
    return Sam3VideoModel(Sam3VideoConfig(detector_config=detector, tracker_config=tracker)).eval()


def sam3_processor() -> Sam3Processor:
    """How SAM 3 takes pictures, at reduced size, and texts."""
    pictures = Sam3ImageProcessor(size={"height": 112, "width": 112}, mask_size={"height": 32, "width": 32})
    return Sam3Processor(pictures, random_weights.tokenizer(pad_token="!"))


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
        for part, model in (("clipseg", clipseg()), ("grounding_dino", grounding_dino()), ("sam", sam()), ("sam3", sam3())):
            model.save_pretrained(folder / part)
    seen = {"image_mean": list(IMAGENET_MEAN), "image_std": list(IMAGENET_STD)}
    ViTImageProcessor(size={"height": 64, "width": 64}, **seen).save_pretrained(folder / "clipseg")
    random_weights.tokenizer().save_pretrained(folder / "clipseg")
    GroundingDinoImageProcessor(size={"shortest_edge": 128, "longest_edge": 128}, **seen).save_pretrained(
        folder / "grounding_dino")
    words().save_pretrained(folder / "grounding_dino")
    SamImageProcessor(size={"longest_edge": 128}, pad_size={"height": 128, "width": 128}).save_pretrained(
        folder / "sam")
    sam3_processor().save_pretrained(folder / "sam3")
    return {part: Extra((str(folder / part),), borrows if part in comparison.KINDS else ())
            for part in (*comparison.KINDS, "clipseg", "grounding_dino", "sam", "sam3")}
