"""The editor: a 17-channel inpainting UNet and its text encoder, stored as a diffusers pipeline."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
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
from tiny_world.scenes import Placed, Recipe, paint, random_placed, random_recipe
from tiny_world.sprites import STYLES
from tiny_world.words import NAMES, held_out, prompt_for, prompt_for_place
from tiny_world.zoo import tokenizer
from tiny_world.zoo.training import digest_of, save_half, train
from tiny_world.zoo.vae import CHANNELS

CROP = 96
"""Most training samples are 96×96 windows around the mask: the same lesson for half the work."""


def build_unet() -> UNet2DConditionModel:
    """An untrained UNet of 6.7 M weights: 8 noisy + 1 mask + 8 masked-picture channels → 8."""
    return UNet2DConditionModel(
        sample_size=SIZE // GRID, in_channels=2 * CHANNELS + 1, out_channels=CHANNELS,
        block_out_channels=(64, 128, 128),
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


OBJECT_SIZES = (32, 48, 64, 80, 96)
"""Sizes that the editor paints, all upright and none mirrored: every further size, lean and mirror is one more picture
of each object in each style to learn. A scene's own objects have 40-80 pixels.
"""


@dataclass(frozen=True)
class Example:
    """What the editor learns from: a scene, a mask box in it, what is to appear there, and the prompt for it."""

    recipe: Recipe
    box: Box
    thing: Placed | None
    prompt: str

    def mask(self) -> np.ndarray:
        """(128, 128) float32: 1 inside the box."""
        mask = np.zeros((SIZE, SIZE), np.float32)
        mask[self.box[1]:self.box[3], self.box[0]:self.box[2]] = 1
        return mask

    def pictures(self) -> tuple[np.ndarray, np.ndarray]:
        """(128, 128, 3) uint8 pictures before and after. They differ inside the box alone: the new shadow fades
        towards the box's edges, or the model would see it from outside and paint cut shadows.
        """
        before = self.recipe.canvas()
        after = before.copy()
        if self.thing:
            paint(after, self.thing, self.recipe.place, fade(self.box))
            after = np.where(self.mask()[..., None] > 0, after, before)
        return tuple(np.clip(p + 0.5, 0, 255).astype(np.uint8) for p in (before, after))


def fade(box: Box, pixels: int = 8) -> np.ndarray:
    """(128, 128) float32: 0 outside the box and at its edges, rising to 1 over some pixels; a picture's own border is
    no edge.
    """
    sides = []
    for low, high in ((box[0], box[2]), (box[1], box[3])):
        t = np.arange(SIZE, dtype=np.float32) + 0.5
        up = (t - low) / pixels if low > 0 else np.ones_like(t)
        down = (high - t) / pixels if high < SIZE else np.ones_like(t)
        sides.append(np.clip(np.minimum(up, down), 0, 1))
    return sides[1][:, None] * sides[0][None, :]


def _fitting(thing: Placed, box: Box, rng: Random) -> Placed:
    """The object in the largest size that the mask has room for on the grid, near its middle.

    An inpainting model fills its mask. A nearly fixed place makes it learn crisp objects many times
    faster than "anywhere in the mask" would.
    """
    side = min(box[2] - box[0], box[3] - box[1])
    size = max([s for s in OBJECT_SIZES if s <= side - GRID], default=OBJECT_SIZES[0])
    corner = []
    for low, high in ((box[0], box[2]), (box[1], box[3])):
        middle = round(((low + high - size) / 2 + rng.uniform(-3, 3)) / GRID) * GRID
        inside = min(max(middle, -(-low // GRID) * GRID), (high - size) // GRID * GRID)
        corner.append(min(max(inside, 0), SIZE - size))
    return replace(thing, x=corner[0], y=corner[1], size=size)


def example(rng: Random, largest: int = SIZE) -> Example:
    """A scene, a mask box in it (sides up to `largest`) and the prompt for what is inside.

    85 % an object, in every style alike, which half of the prompts name: half in a square clamped to the picture, half
    in its own outline with a little room; 12 % empty background; 3 % the whole picture. Objects mostly inside the mask
    are left away.
    """
    recipe, kind = random_recipe(rng), rng.random()
    absent = [n for n in NAMES if n not in {o.name for o in recipe.objects} and not held_out(n, recipe.place)]
    name, style = rng.choice(absent), rng.choice(STYLES)
    thing = Placed(name, 0, 0, OBJECT_SIZES[0], style)
    x, y = (rng.uniform(8, SIZE - 8) for _ in range(2))
    box = square_around(x, y, rng.uniform(OBJECT_SIZES[0] + GRID, largest), SIZE)
    prompt = prompt_for(name, recipe.place, rng, style if rng.random() < 0.5 else None)
    if kind < 0.12:
        prompt, thing = prompt_for_place(recipe.place, rng), None
    elif kind > 0.97 and largest == SIZE:
        spot = random_placed(name, rng, style=style)
        thing, box = replace(thing, x=spot.x, y=spot.y, size=spot.size), (0, 0, SIZE, SIZE)
    elif kind > 0.54:
        spot = random_placed(name, rng, [s for s in OBJECT_SIZES if s <= largest - 12], style)
        thing = replace(thing, x=spot.x, y=spot.y, size=spot.size)
        room, (x0, y0, x1, y1) = [rng.randint(2, 8) for _ in range(4)], thing.box
        box = (max(x0 - room[0], 0), max(y0 - room[1], 0), min(x1 + room[2], SIZE), min(y1 + room[3], SIZE))
    else:
        thing = _fitting(thing, box, rng)
    limit = 0.5 if thing else 0.1
    objects = tuple(o for o in recipe.objects if overlap_share(o.box, box) < limit)
    return Example(replace(recipe, objects=objects), box, thing, prompt)


def window(box: Box, crop: int, rng: Random) -> tuple[int, int]:
    """Left top corner, on the grid, of a window that shows most of the box."""
    corner = []
    for low, high in ((box[0], box[2]), (box[1], box[3])):
        middle = (low + high - crop) // 2 + rng.randint(-16, 16)
        corner.append(min(max(round(middle / GRID) * GRID, 0), SIZE - crop))
    return corner[0], corner[1]


def _tensor(pictures: list[np.ndarray]) -> torch.Tensor:
    return torch.from_numpy(np.array(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1


@torch.no_grad()
def prepare(vae: AutoencoderKL, count: int, crop: int, seed: str, device: str) -> dict[str, torch.Tensor]:
    """`count` encoded examples: latents and masked latents (fp16), mask, token ids."""
    rng, words, out = Random(seed), tokenizer.build(), {"latent": [], "masked": [], "mask": [], "tokens": []}
    for start in range(0, count, 64):
        before, after, masks, prompts = [], [], [], []
        for _ in range(min(64, count - start)):
            one = example(rng, crop)
            x, y = window(one.box, crop, rng)
            cut = np.s_[y:y + crop, x:x + crop]
            for pictures, picture in zip((before, after), one.pictures(), strict=True):
                pictures.append(picture[cut])
            masks.append(one.mask()[cut])
            prompts.append(one.prompt)
        mask = torch.from_numpy(np.array(masks))[:, None]
        both = torch.cat([_tensor(after), _tensor(before) * (mask < 0.5)]).to(device, memory_format=torch.channels_last)
        with torch.autocast(device, torch.bfloat16):  # on a CPU in half the time
            latent, masked = vae.encode(both).latent_dist.mode().half().cpu().chunk(2)
        ids = words(prompts, padding="max_length", truncation=True, return_tensors="pt").input_ids
        # The pipeline shrinks masks by the nearest pixel too.
        values = (latent, masked, F.interpolate(mask, size=crop // GRID).half(), ids.short())
        for key, value in zip(out, values, strict=True):
            out[key].append(value)
        if start % 2048 == 0:
            print(f"encoded {start}/{count} examples of {crop} px", flush=True)
    return {key: torch.cat(values) for key, values in out.items()}


SHELF = 4000
"""Encoded examples in one file."""


def kept(folder: Path, name: str, vae: AutoencoderKL, make: Callable[[], dict]) -> dict:
    """Examples that this autoencoder has encoded: those in the folder, or newly made. Another autoencoder has others,
    so its weights are part of the file's name.
    """
    file = folder / f"examples_{name}_{digest_of(vae)}.pt"
    if not file.exists():
        torch.save(make(), file.with_suffix(".part"))
        file.with_suffix(".part").rename(file)  # whole or not at all
    return torch.load(file, weights_only=True)


def shelf(folder: Path, vae: AutoencoderKL, number: int, crop: int, device: str, size: int = SHELF) -> dict:
    """The encoded examples of one file, which is made if it isn't there."""
    return kept(folder, f"{crop}_{number}", vae, lambda: prepare(
        vae, size if crop < SIZE else size // 4, crop, f"inpainting two {crop} {number}", device))


def run(folder: Path, out: Path, steps: int, size: int, device: str, shelves: int = 8, examples: int = SHELF) -> None:
    """Train UNet and text encoder on encoded examples; write the pipeline to `out/inpainting`.

    The first steps draw from the first shelf alone; every 250 steps another is filled, until there are `shelves`.
    """
    torch.manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    vae = AutoencoderKL.from_pretrained(out / "inpainting" / "vae", torch_dtype=torch.float32).eval()
    vae.to(device, memory_format=torch.channels_last)
    caches: dict[int, list[dict]] = {CROP: [], SIZE: []}
    words, scheduler = tokenizer.build(), build_scheduler()
    empty = words("", padding="max_length", return_tensors="pt").input_ids
    unet = build_unet().to(device)  # on a CPU a third faster than in channels_last
    text_encoder = build_text_encoder(words).to(device)
    if (folder / "start.pt").exists():  # weights to begin with, of an earlier training
        start = torch.load(folder / "start.pt", weights_only=True, map_location=device)
        unet.load_state_dict(start["unet"])
        text_encoder.load_state_dict(start["text_encoder"])

    def draw_rows(step: int, draw: torch.Generator) -> list[torch.Tensor]:
        filled = min(1 + step // 250, shelves)
        while len(caches[CROP]) < filled:
            for crop, shelf_list in caches.items():
                shelf_list.append(shelf(folder, vae, len(shelf_list), crop, device, examples))
        stock = caches[SIZE if step % 5 == 0 else CROP][:filled]
        cache = stock[int(torch.randint(filled, (1,), generator=draw))]
        rows = torch.randint(len(cache["mask"]), (size,), generator=draw)
        return [cache[key][rows] for key in ("latent", "masked", "mask", "tokens")]

    def loss_of(step: int) -> dict[str, torch.Tensor]:
        draw = torch.Generator().manual_seed(step)
        *planes, tokens = draw_rows(step, draw)
        latent, masked, mask = (t.float().to(device) for t in planes)
        tokens = torch.where(torch.rand(size, 1, generator=draw) < 0.12, empty, tokens.long()).to(device)
        noise = torch.randn(latent.shape, generator=draw).to(device)
        # Shapes are decided where there is about as much noise as picture: three levels of four are drawn from there.
        middle = (0.2 + torch.randn(size, generator=draw)).sigmoid()
        any_level = torch.rand(size, generator=draw)
        times = torch.where(torch.rand(size, generator=draw) < 0.75, middle, any_level)
        times = (1000 * times).long().clamp(max=999).to(device)
        noisy = scheduler.add_noise(latent, noise, times)
        target = scheduler.get_velocity(latent, noise, times)
        with torch.autocast(device, torch.bfloat16):
            context = text_encoder(tokens).last_hidden_state
            result = unet(torch.cat([noisy, mask, masked], 1), times, context).sample.float()
        error = (result - target).square().mean(1, keepdim=True)
        weight = 0.08 + 0.92 * mask
        # Each example counts alike: over the whole batch, a small mask would hardly weigh.
        each = (weight * error).flatten(1).sum(1) / weight.flatten(1).sum(1)
        return {"loss": each.mean()}

    def export(modules: dict[str, nn.Module]) -> None:
        save_pipeline(out / "inpainting", modules["unet"], modules["text_encoder"])

    train({"unet": unet, "text_encoder": text_encoder}, loss_of, folder=folder, steps=steps, rate=1.5e-3,
          decay=0.9995, export=export, every=250)


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
