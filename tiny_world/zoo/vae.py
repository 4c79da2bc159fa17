"""The autoencoder: 64×64 pictures to 4×16×16 latents and back (diffusers `AutoencoderKL`)."""

from __future__ import annotations

from pathlib import Path
from random import Random

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import nn
from torch.nn import functional as F

from tiny_world import SIZE
from tiny_world.scenes import random_recipe
from tiny_world.zoo.training import save_half, train

CROP = 32


def build() -> AutoencoderKL:
    """An untrained autoencoder of 1.5 M weights."""
    return AutoencoderKL(
        in_channels=3, out_channels=3, latent_channels=4, sample_size=SIZE, scaling_factor=1.0,
        block_out_channels=(24, 48, 96), layers_per_block=1, norm_num_groups=8,
        down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3,
        mid_block_add_attention=False)


def batch(step: int, size: int, crop: int) -> torch.Tensor:
    """(size, 3, crop, crop) in -1..1: crops, most of them around an object, at any pixel offset."""
    rng = Random(f"vae {step}")
    out = np.empty((size, crop, crop, 3), np.uint8)
    for i in range(size):
        recipe = random_recipe(rng)
        picture = recipe.render()
        x, y = rng.randrange(SIZE - crop + 1), rng.randrange(SIZE - crop + 1)
        if crop < SIZE and recipe.objects and rng.random() < 0.75:
            x0, y0, x1, y1 = rng.choice(recipe.objects).box
            x = min(max((x0 + x1 - crop) // 2 + rng.randint(-8, 8), 0), SIZE - crop)
            y = min(max((y0 + y1 - crop) // 2 + rng.randint(-8, 8), 0), SIZE - crop)
        out[i] = picture[y:y + crop, x:x + crop]
    return torch.from_numpy(out).permute(0, 3, 1, 2).float() / 127.5 - 1


def reconstruction_loss(result: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """L1 + MSE + L1 of the differences between neighbours, which keeps outlines crisp."""
    loss = F.l1_loss(result, target) + F.mse_loss(result, target)
    for axis in (2, 3):
        loss = loss + 0.5 * F.l1_loss(result.diff(dim=axis), target.diff(dim=axis))
    return loss


@torch.no_grad()
def whiten(vae: AutoencoderKL, pictures: torch.Tensor) -> None:
    """Fold a shift and scale into the (de)quantising convolutions so that each latent channel has
    mean 0 and deviation 1; pictures in give the same pictures out, and scaling_factor is 1.
    """
    latents = vae.encode(pictures).latent_dist.mode()
    mean, deviation = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
    quant, post = vae.quant_conv, vae.post_quant_conv
    quant.weight[:4] /= deviation[:, None, None, None]
    quant.bias[:4] = (quant.bias[:4] - mean) / deviation
    quant.bias[4:] -= 2 * deviation.log()
    post.bias += post.weight[:, :, 0, 0] @ mean
    post.weight *= deviation[None, :, None, None]


def _losses(vae: AutoencoderKL, pictures: torch.Tensor, latents: torch.Tensor) -> dict[str, torch.Tensor]:
    result = vae.decode(latents).sample
    error = F.mse_loss(result.detach(), pictures) / 4
    return {"loss": reconstruction_loss(result, pictures), "psnr": -10 * torch.log10(error)}


def run(folder: Path, out: Path, steps: int, size: int, device: str) -> None:
    """Train on crops, then for the last fifth on whole pictures too; write `out/inpainting/vae`."""
    torch.manual_seed(0)
    vae = build().to(device, memory_format=torch.channels_last)  # a tenth faster on a CPU

    def loss_of(step: int) -> dict[str, torch.Tensor]:
        whole = step >= 0.8 * steps and step % 2
        pictures = batch(step, size // 4 if whole else size, SIZE if whole else CROP).to(device)
        posterior = vae.encode(pictures).latent_dist
        torch.manual_seed(step)
        losses = _losses(vae, pictures, posterior.sample())
        kl = 0.5 * (posterior.mean.square() + posterior.var - 1 - posterior.logvar).mean()
        return {**losses, "loss": losses["loss"] + 2e-4 * kl, "kl": kl}

    def export(modules: dict[str, nn.Module]) -> None:
        save_half(modules["vae"], folder / "averaged")

    train({"vae": vae}, loss_of, folder=folder, steps=steps, rate=2e-3, weight_decay=0.0, export=export)
    finished = AutoencoderKL.from_pretrained(folder / "averaged", torch_dtype=torch.float32)
    whiten(finished, batch(-1, 256, SIZE))
    save_half(finished, out / "inpainting" / "vae")


def run_decoder(folder: Path, out: Path, steps: int, size: int, device: str) -> None:
    """Sharpen the decoder of `out/inpainting/vae` while the encoder stays: latents keep their meaning, so
    this can run beside the training of the UNet.

    Half of the latents carry a little noise, as those of a denoiser do.
    """
    source = folder / "start"
    if not source.exists():
        AutoencoderKL.from_pretrained(out / "inpainting" / "vae", torch_dtype=torch.float32).save_pretrained(source)
    vae = AutoencoderKL.from_pretrained(source).to(device, memory_format=torch.channels_last).requires_grad_(False)
    learned = {"decoder": vae.decoder.requires_grad_(True), "post_quant_conv": vae.post_quant_conv.requires_grad_(True)}

    def loss_of(step: int) -> dict[str, torch.Tensor]:
        whole = step % 2
        pictures = batch(10**9 + step, size // 4 if whole else size, SIZE if whole else CROP).to(device)
        with torch.no_grad():
            latents = vae.encode(pictures).latent_dist.mode()
        noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(step)).to(device)
        return _losses(vae, pictures, latents + (0.05 if step % 4 < 2 else 0.0) * noise)

    def export(modules: dict[str, nn.Module]) -> None:
        averaged = AutoencoderKL.from_pretrained(source)
        averaged.decoder.load_state_dict(modules["decoder"].state_dict())
        averaged.post_quant_conv.load_state_dict(modules["post_quant_conv"].state_dict())
        save_half(averaged, out / "inpainting" / "vae")

    train(learned, loss_of, folder=folder, steps=steps, rate=1e-3, weight_decay=0.0, export=export)
