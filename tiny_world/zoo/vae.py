"""The autoencoder: 128×128 pictures to 8×16×16 latents and back (diffusers `AutoencoderKL`).

It is trained in two parts. The first learns with 12 latent channels and hardly any noise in them: pictures come back
crisp, but from latents that are a little wrong, as a small denoiser's are, the decoder paints blots (after 9,000
updates an editor painted nothing else). `narrow` keeps the eight directions that are worth most in pixels and trains on
with noise in the latents, so that the decoder draws objects from fewer and inexact numbers.
"""

from __future__ import annotations

import copy
from pathlib import Path
from random import Random

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import nn
from torch.nn import functional as F

from tiny_world import SIZE
from tiny_world.judge import Judge
from tiny_world.judge import load as load_judge
from tiny_world.scenes import Recipe, random_recipe
from tiny_world.zoo.training import save_half, train

WIDE, CHANNELS = 12, 8
"""Latent channels of the first part, and of the autoencoder as it is used: 24 numbers of a picture for each of its
latent.
"""

NOISE = 0.3
"""The most noise in the latents while the autoencoder is narrow, in deviations of each channel."""

CROP = 64


def build(channels: int = WIDE) -> AutoencoderKL:
    """An untrained autoencoder of 1.7 M weights."""
    vae = AutoencoderKL(
        in_channels=3, out_channels=3, latent_channels=channels, sample_size=SIZE, scaling_factor=1.0,
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
    channels = vae.config.latent_channels
    vae.quant_conv.weight[channels:] = 0
    vae.quant_conv.bias[channels:] = -5


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
    quant, post, n = vae.quant_conv, vae.post_quant_conv, vae.config.latent_channels
    quant.weight[:n] /= deviation[:, None, None, None]
    quant.bias[:n] = (quant.bias[:n] - mean) / deviation
    quant.bias[n:] -= 2 * deviation.log()
    post.bias += post.weight[:, :, 0, 0] @ mean
    post.weight *= deviation[None, :, None, None]


@torch.no_grad()
def sharpen_posterior(vae: AutoencoderKL) -> None:
    """No spread but exp(−4.5), whatever the picture: the loss looks at the mean alone, so what was learned of the
    variance means nothing; and some pipelines (image to image, say) draw from the posterior.
    """
    n = vae.config.latent_channels
    vae.quant_conv.weight[n:] = 0
    vae.quant_conv.bias[n:] = -9


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
def narrow(wide: AutoencoderKL, pictures: torch.Tensor, channels: int = CHANNELS) -> AutoencoderKL:
    """An autoencoder of fewer latent channels: the directions of `wide` that are worth most in pixels, each with mean 0
    and deviation 1. Its (de)quantising convolutions are folded into their neighbours and begin as identities.
    """
    matrix, mean = basis(wide, pictures)
    latents = torch.einsum("kc,nchw->nkhw", matrix, wide.encode(pictures).latent_dist.mode() - mean[:, None, None])
    deviation = latents.std((0, 2, 3))
    best = deviation.argsort(descending=True)[:channels]
    into = matrix[best] / deviation[best, None]  # (channels, wide)
    back = torch.linalg.inv(matrix)[:, best] * deviation[best]  # (wide, channels)

    result = AutoencoderKL.from_config({**wide.config, "latent_channels": channels})
    state = result.state_dict()
    changed = ("quant_conv", "encoder.conv_out", "decoder.conv_in")
    state.update({key: value for key, value in wide.state_dict().items() if not any(c in key for c in changed)})
    n = wide.config.latent_channels
    last, quant = wide.encoder.conv_out, wide.quant_conv
    mix = into @ quant.weight[:n, :, 0, 0]
    weight = torch.einsum("kd,dihw->kihw", mix, last.weight)
    state["encoder.conv_out.weight"] = torch.cat([weight, torch.zeros_like(weight)])
    bias = mix @ last.bias + into @ (quant.bias[:n] - mean)
    state["encoder.conv_out.bias"] = torch.cat([bias, torch.full_like(bias, -9)])  # a posterior without spread
    first, post = wide.decoder.conv_in, wide.post_quant_conv
    state["decoder.conv_in.weight"] = torch.einsum("oihw,ik->okhw", first.weight, post.weight[:, :, 0, 0] @ back)
    bias = torch.einsum("oihw,i->o", first.weight, post.bias + post.weight[:, :, 0, 0] @ mean)
    state["decoder.conv_in.bias"] = first.bias + bias
    for key, size in (("quant_conv", 2 * channels), ("post_quant_conv", channels)):
        state[f"{key}.weight"], state[f"{key}.bias"] = torch.eye(size)[:, :, None, None], torch.zeros(size)
    result.load_state_dict(state)
    return result


def _losses(result: torch.Tensor, pictures: torch.Tensor) -> dict[str, torch.Tensor]:
    error = F.mse_loss(result.detach(), pictures) / 4
    return {"loss": reconstruction_loss(result, pictures), "psnr": -10 * torch.log10(error)}


def run_wide(folder: Path, out: Path, steps: int, size: int, device: str) -> None:
    """The first part: 12 channels. Train on crops, in the last quarter on whole pictures too; write `out/wide`."""
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
    whiten(finished, batch(-1, 24 * size, SIZE))
    save_half(finished, out / "wide")


FEATURES = (5, 11, 17)
"""Layers of the critic, at a half, a quarter and an eighth of a crop's side, whose features are compared."""


def feature_loss(judge: Judge, result: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """How unlike two batches of crops in -1..1 look to a judge: squared distance of its features, each scaled to
    length 1 (as LPIPS does), averaged over places and summed over three layers.
    """
    loss = torch.zeros(())
    for number, layer in enumerate(judge.layers):
        result, target = layer(result), layer(target)
        if number in FEATURES:
            difference = F.normalize(result, dim=1) - F.normalize(target, dim=1)
            loss = loss + difference.square().sum(1).mean()
    return loss


def noisy(latents: torch.Tensor, draw: torch.Generator) -> torch.Tensor:
    """Latents as a denoiser leaves them: each picture's with noise of up to NOISE deviations of each channel. So
    larger latents don't drown it.
    """
    deviation = latents.detach().float().std((0, 2, 3), keepdim=True)
    level = NOISE * torch.rand(len(latents), 1, 1, 1, generator=draw).to(latents.device) * deviation
    noise = level * torch.randn(latents.shape, generator=draw).to(latents.device)
    return latents + noise.to(latents)


def run(folder: Path, out: Path, steps: int, size: int, device: str) -> None:
    """The second part: 8 channels, from `out/wide`, compared by `out/critic` too; write `out/inpainting/vae`."""
    torch.manual_seed(0)
    wide = AutoencoderKL.from_pretrained(out / "wide", torch_dtype=torch.float32).eval()
    vae = narrow(wide, batch(-1, 24 * size, SIZE)).to(device, memory_format=torch.channels_last)
    critic = load_judge(out / "critic").requires_grad_(False).to(device, memory_format=torch.channels_last)

    def loss_of(step: int) -> dict[str, torch.Tensor]:
        whole = step > steps // 2 and step % 4 == 0
        pictures = batch(step, max(size // 4, 1) if whole else size, SIZE if whole else CROP)
        pictures = pictures.to(device, memory_format=torch.channels_last)
        with torch.autocast(device, torch.bfloat16):
            mean = vae.encode(pictures).latent_dist.mean
            result = vae.decode(noisy(mean, torch.Generator().manual_seed(step))).sample.float()
            features = feature_loss(critic, result, pictures)
        losses, scale = _losses(result, pictures), 0.5 * mean.float().square().mean()
        # The last term slows the latents' growth, which means nothing; it has no other use.
        return {**losses, "loss": losses["loss"] + 0.1 * features + 1e-4 * scale, "features": features, "scale": scale}

    def export(modules: dict[str, nn.Module]) -> None:
        finished = copy.deepcopy(modules["vae"]).float().cpu()
        whiten(finished, batch(-1, 24 * size, SIZE))
        sharpen_posterior(finished)
        save_half(finished, out / "inpainting" / "vae")

    train({"vae": vae}, loss_of, folder=folder, steps=steps, rate=5e-4, weight_decay=0.0, export=export, every=1000)


def run_decoder(folder: Path, out: Path, steps: int, size: int, device: str) -> None:
    """Sharpen the decoder of `out/inpainting/vae` while the encoder stays: latents keep their meaning, so this can run
    beside the training of the UNet.
    """
    source = folder / "start"
    if not source.exists():
        AutoencoderKL.from_pretrained(out / "inpainting" / "vae", torch_dtype=torch.float32).save_pretrained(source)
    vae = AutoencoderKL.from_pretrained(source).to(device, memory_format=torch.channels_last).requires_grad_(False)
    learned = {"decoder": vae.decoder.requires_grad_(True), "post_quant_conv": vae.post_quant_conv.requires_grad_(True)}
    critic = load_judge(out / "critic").requires_grad_(False).to(device, memory_format=torch.channels_last)

    def loss_of(step: int) -> dict[str, torch.Tensor]:
        whole = step % 3 == 0
        pictures = batch(10**9 + step, max(size // 4, 1) if whole else size, SIZE if whole else CROP)
        pictures = pictures.to(device, memory_format=torch.channels_last)
        with torch.autocast(device, torch.bfloat16):
            with torch.no_grad():
                latents = vae.encode(pictures).latent_dist.mode()
            result = vae.decode(noisy(latents, torch.Generator().manual_seed(step))).sample.float()
            features = feature_loss(critic, result, pictures)
        losses = _losses(result, pictures)
        return {**losses, "loss": losses["loss"] + 0.1 * features, "features": features}

    def export(modules: dict[str, nn.Module]) -> None:
        averaged = AutoencoderKL.from_pretrained(source)
        averaged.decoder.load_state_dict(modules["decoder"].state_dict())
        averaged.post_quant_conv.load_state_dict(modules["post_quant_conv"].state_dict())
        save_half(averaged, out / "inpainting" / "vae")

    train(learned, loss_of, folder=folder, steps=steps, rate=5e-4, weight_decay=0.0, export=export)
