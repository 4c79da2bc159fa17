"""The autoencoder: 128×128 pictures to 12×16×16 latents and back (diffusers `AutoencoderKL`)."""

from __future__ import annotations

from pathlib import Path
from random import Random

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import nn
from torch.nn import functional as F

from tiny_world.two import SIZE
from tiny_world.two.scenes import Recipe, random_recipe
from tiny_world.zoo.training import save_half, train

CHANNELS = 12
"""Latent channels: 16 numbers of a picture for each number of its latent."""

CROP = 64


def build() -> AutoencoderKL:
    """An untrained autoencoder of 1.7 M weights."""
    vae = AutoencoderKL(
        in_channels=3, out_channels=3, latent_channels=CHANNELS, sample_size=SIZE, scaling_factor=1.0,
        block_out_channels=(16, 32, 64, 96), layers_per_block=1, norm_num_groups=2,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        mid_block_add_attention=False)
    open_up(vae)
    return vae


@torch.no_grad()
def open_up(vae: AutoencoderKL) -> None:
    """Weights that let a picture through from the first step: downsamplers rotate each 2×2 square into its channels,
    the other outer convolutions begin near identity or a rotation, residual branches small, biases 0, latents nearly
    without noise.

    With the usual weights 240 steps give 14 dB instead of 21: colours arrive some 500 steps late, and later still with
    8 groups in the norms, which divide out what colour a group of few channels holds.
    """
    for name, layer in vae.named_modules():
        if not isinstance(layer, nn.Conv2d) or name == "quant_conv":
            continue
        nn.init.zeros_(layer.bias)
        if "conv2" in name:
            layer.weight *= 0.1
        elif "conv1" not in name:
            out, into, side, _ = layer.weight.shape
            layer.weight *= 0.3
            if "downsamplers" in name:
                layer.weight[:, :, :2, :2] += nn.init.orthogonal_(torch.empty(out, 4 * into)).reshape(out, into, 2, 2)
            elif "upsamplers" in name:
                layer.weight[:, :, 1, 1] += torch.eye(out)
            else:
                layer.weight[:, :, side // 2, side // 2] += nn.init.orthogonal_(torch.empty(out, into))
    vae.quant_conv.weight[CHANNELS:] = 0
    vae.quant_conv.bias[CHANNELS:] = -5


def recipes(step: int, size: int) -> list[Recipe]:
    """The scenes of one batch."""
    rng = Random(f"vae {step}")
    return [random_recipe(rng) for _ in range(size)]


def batch(step: int, size: int, crop: int) -> torch.Tensor:
    """(size, 3, crop, crop) in -1..1: crops, most of them around an object, at any pixel offset."""
    rng = Random(f"vae crop {step}")
    out = np.empty((size, crop, crop, 3), np.uint8)
    for i, recipe in enumerate(recipes(step, size)):
        x, y = rng.randrange(SIZE - crop + 1), rng.randrange(SIZE - crop + 1)
        if crop < SIZE and recipe.objects and rng.random() < 0.85:
            x0, y0, x1, y1 = rng.choice(recipe.objects).box
            x = min(max((x0 + x1 - crop) // 2 + rng.randint(-16, 16), 0), SIZE - crop)
            y = min(max((y0 + y1 - crop) // 2 + rng.randint(-16, 16), 0), SIZE - crop)
        out[i] = recipe.render()[y:y + crop, x:x + crop]
    return torch.from_numpy(out).permute(0, 3, 1, 2).float() / 127.5 - 1


def opponents(pictures: torch.Tensor) -> torch.Tensor:
    """(N, 3, H, W) → (N, 2, H / 2, W / 2): red less blue, and green less their mean."""
    red, green, blue = F.avg_pool2d(pictures, 2).unbind(1)
    return torch.stack([red - blue, 2 * green - red - blue], 1)


def reconstruction_loss(result: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """L1 + 2 MSE + L1 of the differences between neighbours, which keeps outlines crisp, and of the colour opponents
    (red - blue, green - magenta), which vary less than brightness and would be learned last.
    """
    loss = F.l1_loss(result, target) + 2 * F.mse_loss(result, target)
    loss = loss + F.l1_loss(opponents(result), opponents(target))
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
    quant, post, n = vae.quant_conv, vae.post_quant_conv, CHANNELS
    quant.weight[:n] /= deviation[:, None, None, None]
    quant.bias[:n] = (quant.bias[:n] - mean) / deviation
    quant.bias[n:] -= 2 * deviation.log()
    post.bias += post.weight[:, :, 0, 0] @ mean
    post.weight *= deviation[None, :, None, None]


@torch.no_grad()
def basis(vae: AutoencoderKL, pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A matrix A (C, C) and means μ (C): the channels of A (z − μ) are not correlated, and their deviations follow the
    square root of what each is worth in pixels; on average they are 1.

    Channels as they are learned are nearly copies of each other: three directions (the colours) hold four fifths of
    the variance, and what tells a face from a blot lies in nine others of a third of the deviation. A denoiser that
    meets them under the noise of all channels alike learns colours, and shapes last.
    """
    latents = vae.encode(pictures).latent_dist.mode()
    mean = latents.mean((0, 2, 3))
    flat = (latents - mean[:, None, None]).permute(1, 0, 2, 3).flatten(1)
    variances, directions = torch.linalg.eigh(flat @ flat.T / flat.shape[1])  # columns are directions
    some = latents[:16]
    there, worth = vae.decode(some).sample, []
    for direction in directions.T:
        # Without this direction: how much do the pixels change?
        along = torch.einsum("c,nchw->nhw", direction, some)
        without = some - direction[:, None, None] * (along - along.mean())[:, None]
        worth.append((vae.decode(without).sample - there).square().mean().sqrt())
    wanted = torch.stack(worth).sqrt()
    wanted = wanted / wanted.square().mean().sqrt()
    return (wanted / variances.clamp(min=1e-6).sqrt())[:, None] * directions.T, mean


@torch.no_grad()
def rebase(vae: AutoencoderKL, matrix: torch.Tensor, mean: torch.Tensor) -> None:
    """Fold z → A (z − μ) into the (de)quantising convolutions; pictures in give the same pictures out, and
    scaling_factor is 1. What the posterior says of its variance, which is next to nothing, is set to e⁻⁹.
    """
    quant, post, n = vae.quant_conv, vae.post_quant_conv, CHANNELS
    quant.weight[:n] = torch.einsum("kc,cihw->kihw", matrix, quant.weight[:n])
    quant.bias[:n] = matrix @ (quant.bias[:n] - mean)
    quant.weight[n:], quant.bias[n:] = 0, -9
    post.bias += post.weight[:, :, 0, 0] @ mean
    post.weight.copy_(torch.einsum("ochw,ck->okhw", post.weight, torch.linalg.inv(matrix)))


def _losses(result: torch.Tensor, pictures: torch.Tensor) -> dict[str, torch.Tensor]:
    error = F.mse_loss(result.detach(), pictures) / 4
    return {"loss": reconstruction_loss(result, pictures), "psnr": -10 * torch.log10(error)}


def run(folder: Path, out: Path, steps: int, size: int, device: str) -> None:
    """Train on crops, in the last quarter on whole pictures too; write `out/inpainting/vae`."""
    torch.manual_seed(0)
    vae = build().to(device, memory_format=torch.channels_last)

    def loss_of(step: int) -> dict[str, torch.Tensor]:
        whole = step >= 0.75 * steps and step % 3 == 0
        pictures = batch(step, max(size // 4, 1) if whole else size, SIZE if whole else CROP)
        pictures = pictures.to(device, memory_format=torch.channels_last)
        with torch.autocast(device, torch.bfloat16):  # half as long again without it
            posterior = vae.encode(pictures).latent_dist
            torch.manual_seed(step)
            result = vae.decode(posterior.sample()).sample
        losses = _losses(result.float(), pictures)
        mean, variance, log = (t.float() for t in (posterior.mean, posterior.var, posterior.logvar))
        kl = 0.5 * (mean.square() + variance - 1 - log).mean()
        return {**losses, "loss": losses["loss"] + 2e-4 * kl, "kl": kl}

    def export(modules: dict[str, nn.Module]) -> None:
        save_half(modules["vae"], folder / "averaged")

    train({"vae": vae}, loss_of, folder=folder, steps=steps, rate=8e-4, weight_decay=0.0, export=export)
    finished = AutoencoderKL.from_pretrained(folder / "averaged", torch_dtype=torch.float32)
    pictures = batch(-1, 24 * size, SIZE)
    whiten(finished, pictures)
    rebase(finished, *basis(finished, pictures))
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
        whole = step % 3 == 0
        pictures = batch(10**9 + step, max(size // 4, 1) if whole else size, SIZE if whole else CROP)
        pictures = pictures.to(device, memory_format=torch.channels_last)
        with torch.autocast(device, torch.bfloat16):
            with torch.no_grad():
                latents = vae.encode(pictures).latent_dist.mode()
            noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(step)).to(device)
            result = vae.decode(latents + (0.05 if step % 4 < 2 else 0.0) * noise).sample
        return _losses(result.float(), pictures)

    def export(modules: dict[str, nn.Module]) -> None:
        averaged = AutoencoderKL.from_pretrained(source)
        averaged.decoder.load_state_dict(modules["decoder"].state_dict())
        averaged.post_quant_conv.load_state_dict(modules["post_quant_conv"].state_dict())
        save_half(averaged, out / "inpainting" / "vae")

    train(learned, loss_of, folder=folder, steps=steps, rate=5e-4, weight_decay=0.0, export=export)
