"""The editor: a 9-channel inpainting UNet and its text encoder, stored as a diffusers pipeline."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionInpaintPipeline, UNet2DConditionModel
from torch import nn
from torch.nn import functional as F
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from lr_helpers.boxes import Box, square_around
from tiny_world import GRID, SIZE
from tiny_world.judge import overlap_share
from tiny_world.scenes import Placed, Recipe, random_placed, random_recipe
from tiny_world.words import NAMES, held_out, prompt_for, prompt_for_place
from tiny_world.zoo import tokenizer
from tiny_world.zoo.training import save_half, train

CROP = 48
"""Most training samples are 48×48 windows around the mask: the same lesson for half the work."""


def build_unet() -> UNet2DConditionModel:
    """An untrained UNet of 6.7 M weights: 4 noisy + 1 mask + 4 masked-picture channels → 4."""
    return UNet2DConditionModel(
        sample_size=SIZE // GRID, in_channels=9, out_channels=4, block_out_channels=(64, 128, 128),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1, cross_attention_dim=128, attention_head_dim=4, norm_num_groups=16)


def build_text_encoder(words: CLIPTokenizer) -> CLIPTextModel:
    """An untrained text encoder of 0.4 M weights for this tokenizer, trained together with the UNet."""
    return CLIPTextModel(CLIPTextConfig(
        vocab_size=len(words), hidden_size=128, intermediate_size=256, num_hidden_layers=2,
        num_attention_heads=4, max_position_embeddings=tokenizer.LENGTH, projection_dim=128,
        bos_token_id=words.bos_token_id, eos_token_id=words.eos_token_id, pad_token_id=words.pad_token_id))


def build_scheduler() -> DDIMScheduler:
    """DDIM with v-prediction; zero terminal SNR and trailing steps, so sampling starts where training did."""
    return DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear",
                         prediction_type="v_prediction", clip_sample=False, set_alpha_to_one=False, steps_offset=1,
                         rescale_betas_zero_snr=True, timestep_spacing="trailing")


OBJECT_SIZES = range(16, 57, GRID)
"""Sizes that the editor paints; a scene's own objects have 20-40 pixels."""


def _fitting(name: str, box: Box, rng: Random) -> Placed:
    """The object as large as the mask allows (3 times of 10 one grid step smaller), near its middle.

    An inpainting model fills its mask. A nearly fixed place makes it learn crisp objects many times
    faster than "anywhere in the mask" would.
    """
    side = min(box[2] - box[0], box[3] - box[1])
    size = max((side - 1) // GRID * GRID - GRID * (rng.random() < 0.3), OBJECT_SIZES[0])
    size = min(size, OBJECT_SIZES[-1])
    corner = []
    for low, high in ((box[0], box[2]), (box[1], box[3])):
        middle = (low + high - size) / 2 + rng.uniform(-1.5, 1.5)
        corner.append(min(max(round(middle / GRID) * GRID, 0), SIZE - size))
    return Placed(name, *corner, size)


def example(rng: Random, largest: int = SIZE) -> tuple[Recipe, Box, str]:
    """A scene, a mask box in it (sides up to `largest`) and the prompt for what is inside.

    85 % an object: half in a square clamped to the picture, half in its own outline with a little room;
    12 % empty background; 3 % the whole picture. Objects mostly inside the mask are left away.
    """
    recipe, kind = random_recipe(rng), rng.random()
    absent = [n for n in NAMES if n not in {o.name for o in recipe.objects} and not held_out(n, recipe.place)]
    name, thing = rng.choice(absent), None
    x, y = (rng.uniform(4, SIZE - 4) for _ in range(2))
    box = square_around(x, y, rng.uniform(OBJECT_SIZES[0], largest), SIZE)
    if kind < 0.12:
        prompt = prompt_for_place(recipe.place, rng)
    else:
        prompt = prompt_for(name, recipe.place, rng)
        if kind > 0.97 and largest == SIZE:
            thing, box = random_placed(name, rng), (0, 0, SIZE, SIZE)
        elif kind > 0.54:
            thing = random_placed(name, rng, [s for s in OBJECT_SIZES if s <= largest - 6])
            room = [rng.randint(1, 4) for _ in range(4)]
            x0, y0, x1, y1 = thing.box
            box = (max(x0 - room[0], 0), max(y0 - room[1], 0), min(x1 + room[2], SIZE), min(y1 + room[3], SIZE))
        else:
            thing = _fitting(name, box, rng)
    limit = 0.5 if thing else 0.1
    objects = tuple(o for o in recipe.objects if overlap_share(o.box, box) < limit)
    return replace(recipe, objects=(*objects, thing) if thing else objects), box, prompt


def window(box: Box, crop: int, rng: Random) -> tuple[int, int]:
    """Left top corner, on the grid, of a window that shows most of the box."""
    corner = []
    for low, high in ((box[0], box[2]), (box[1], box[3])):
        middle = (low + high - crop) // 2 + rng.randint(-8, 8)
        corner.append(min(max(round(middle / GRID) * GRID, 0), SIZE - crop))
    return corner[0], corner[1]


@torch.no_grad()
def prepare(vae: AutoencoderKL, count: int, crop: int, seed: str, device: str) -> dict[str, torch.Tensor]:
    """`count` encoded examples: latents and masked latents (fp16), mask, token ids."""
    rng, words, out = Random(seed), tokenizer.build(), {"latent": [], "masked": [], "mask": [], "tokens": []}
    for start in range(0, count, 64):
        pictures, masks, prompts = [], [], []
        for _ in range(min(64, count - start)):
            recipe, box, prompt = example(rng, crop)
            x, y = window(box, crop, rng)
            mask = np.zeros((SIZE, SIZE), np.float32)
            mask[box[1]:box[3], box[0]:box[2]] = 1
            pictures.append(recipe.render()[y:y + crop, x:x + crop])
            masks.append(mask[y:y + crop, x:x + crop])
            prompts.append(prompt)
        picture = torch.from_numpy(np.array(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1
        mask = torch.from_numpy(np.array(masks))[:, None]
        both = torch.cat([picture, picture * (mask < 0.5)]).to(device)
        latent, masked = vae.encode(both).latent_dist.mode().half().cpu().chunk(2)
        ids = words(prompts, padding="max_length", truncation=True, return_tensors="pt").input_ids
        # The pipeline shrinks masks by the nearest pixel too.
        values = (latent, masked, F.interpolate(mask, size=crop // GRID).half(), ids.short())
        for key, value in zip(out, values, strict=True):
            out[key].append(value)
        if start % 4096 == 0:
            print(f"encoded {start}/{count} examples of {crop} px", flush=True)
    return {key: torch.cat(values) for key, values in out.items()}


def run(folder: Path, out: Path, steps: int, size: int, device: str, examples: int = 20_000) -> None:
    """Train UNet and text encoder on encoded examples; write the pipeline to `out/inpainting`."""
    torch.manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    vae = AutoencoderKL.from_pretrained(out / "inpainting" / "vae", torch_dtype=torch.float32).to(device).eval()
    caches = {}
    for crop, number in ((CROP, examples), (SIZE, examples * 3 // 10)):
        file = folder / f"examples_{crop}.pt"
        if not file.exists():
            torch.save(prepare(vae, number, crop, f"inpainting {crop}", device), file)
        caches[crop] = torch.load(file, weights_only=True)
    words, scheduler = tokenizer.build(), build_scheduler()
    empty = words("", padding="max_length", return_tensors="pt").input_ids
    unet = build_unet().to(device, memory_format=torch.channels_last)
    text_encoder = build_text_encoder(words).to(device)

    def loss_of(step: int) -> dict[str, torch.Tensor]:
        draw = torch.Generator().manual_seed(step)
        whole = step >= 0.7 * steps and step % 4 == 0
        cache = caches[SIZE if whole else CROP]
        rows = torch.randint(len(cache["mask"]), (size,), generator=draw)
        latent, masked, mask = (cache[k][rows].float().to(device) for k in ("latent", "masked", "mask"))
        tokens = cache["tokens"][rows].long()
        tokens = torch.where(torch.rand(size, 1, generator=draw) < 0.12, empty, tokens).to(device)
        noise = torch.randn(latent.shape, generator=draw).to(device)
        # What an object looks like is decided in the noisy half; the last few levels are never sampled.
        times = (1000 * torch.rand(size, generator=draw) ** 0.6).long().to(device)
        noisy = scheduler.add_noise(latent, noise, times)
        target = scheduler.get_velocity(latent, noise, times)
        context = text_encoder(tokens).last_hidden_state
        result = unet(torch.cat([noisy, mask, masked], 1), times, context).sample
        error = (result - target).square().mean(1, keepdim=True)
        weight = 0.08 + 0.92 * mask
        # Each example counts alike: over the whole batch, a small mask would hardly weigh.
        each = (weight * error).flatten(1).sum(1) / weight.flatten(1).sum(1)
        return {"loss": each.mean()}

    def export(modules: dict[str, nn.Module]) -> None:
        save_pipeline(out / "inpainting", modules["unet"], modules["text_encoder"])

    train({"unet": unet, "text_encoder": text_encoder}, loss_of, folder=folder, steps=steps, rate=1.5e-3,
          export=export)


def save_pipeline(folder: Path, unet: nn.Module, text_encoder: nn.Module) -> None:
    """Write the parts beside `folder/vae`, then the `model_index.json` that makes them a pipeline."""
    save_half(unet, folder / "unet")
    save_half(text_encoder, folder / "text_encoder")
    tokenizer.save(tokenizer.build(), folder / "tokenizer")
    build_scheduler().save_pretrained(folder / "scheduler")
    vae = AutoencoderKL.from_pretrained(folder / "vae", torch_dtype=torch.float32)
    pipeline = StableDiffusionInpaintPipeline(
        vae=vae, text_encoder=text_encoder, tokenizer=tokenizer.build(), unet=unet,
        scheduler=build_scheduler(), safety_checker=None, feature_extractor=None,
        requires_safety_checker=False)
    pipeline.to_json_file(folder / "model_index.json")
