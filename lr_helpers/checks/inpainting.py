"""Exercises of notebook 01: what an inpainting model is given, and what it costs."""

from __future__ import annotations

from collections.abc import Callable

import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler
from torch.nn import functional as F

from lr_helpers.checks.exercise import Exercise
from lr_helpers.inpainting import composite as _composite
from lr_helpers.inpainting import count_evaluations as _count_evaluations


def _random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def _mask(height: int, width: int, box: tuple[int, int, int, int]) -> torch.Tensor:
    mask = torch.zeros(1, height, width)
    mask[:, box[1]:box[3], box[0]:box[2]] = 1
    return mask


def _composite_cases() -> list[tuple]:
    small = [(_random(3, 6, 9, seed=s), _random(3, 6, 9, seed=s + 9), _mask(6, 9, (1, 2, 5, 6))) for s in range(3)]
    several = (_random(2, 3, 4, 4), _random(3, 4, 4, seed=1), _mask(4, 4, (0, 0, 2, 3)).expand(2, -1, -1, -1))
    soft = (_random(3, 4, 4), _random(3, 4, 4, seed=1), _random(1, 4, 4, seed=2))
    return [*small, several, soft, (_random(3, 4, 4), _random(3, 4, 4, seed=1), torch.zeros(1, 4, 4))]


composite = Exercise(
    name="composite", reference=_composite, cases=_composite_cases,
    mistakes={
        "inside and outside are swapped: the mask is 1 where the model painted":
            lambda frame, image, mask: (1 - mask) * frame + mask * image,
        "outside the mask this is still the frame: the picture must come back there":
            lambda frame, image, mask: frame + 0 * image * mask,
        "inside the mask the old picture shines through: it has to be weighted with 1 − mask":
            lambda frame, image, mask: mask * frame + image,
        "the mask may be soft: weigh with its value instead of asking whether it is above a half":
            lambda frame, image, mask: torch.where(mask > 0.5, frame, image),
    })


def _denoiser_input(noisy: torch.Tensor, mask: torch.Tensor, masked: torch.Tensor) -> torch.Tensor:
    return torch.cat([noisy, F.interpolate(mask, size=noisy.shape[-2:]), masked], dim=1)


def _input_cases() -> list[tuple]:
    def case(n: int, h: int, w: int, factor: int, seed: int) -> tuple:
        mask = _mask(h * factor, w * factor, (factor // 2, 1, w * factor - 3, h * factor - 1)).expand(n, -1, -1, -1)
        return _random(n, 4, h, w, seed=seed), mask, _random(n, 4, h, w, seed=seed + 1)

    return [case(1, 4, 4, 4, 0), case(3, 4, 6, 4, 2), case(2, 5, 3, 8, 4)]


denoiser_input = Exercise(
    name="denoiser_input", reference=_denoiser_input, cases=_input_cases,
    mistakes={
        "the mask comes fifth, between the noisy latents and those of the masked picture":
            lambda noisy, mask, masked: torch.cat([noisy, masked, F.interpolate(mask, size=noisy.shape[-2:])], 1),
        "the noisy latents come first and the masked picture's last":
            lambda noisy, mask, masked: torch.cat([masked, F.interpolate(mask, size=noisy.shape[-2:]), noisy], 1),
        "shrink the mask by the nearest pixel: an averaged border is neither painted nor kept":
            lambda noisy, mask, masked: torch.cat(
                [noisy, F.interpolate(mask, size=noisy.shape[-2:], mode="area"), masked], 1),
        "the mask is inverted: 1 means paint here":
            lambda noisy, mask, masked: torch.cat(
                [noisy, 1 - F.interpolate(mask, size=noisy.shape[-2:]), masked], 1),
    })


def _guide(unconditional: torch.Tensor, conditional: torch.Tensor, scale: float) -> torch.Tensor:
    return unconditional + scale * (conditional - unconditional)


guide = Exercise(
    name="guide", reference=_guide,
    cases=lambda: [(_random(1, 4, 3, 5, seed=i), _random(1, 4, 3, 5, seed=i + 9), scale)
                   for i, scale in enumerate((0.0, 1.0, 2.5, 7.5))],
    mistakes={
        "the two predictions are swapped: start from the one without prompt":
            lambda unconditional, conditional, scale: conditional + scale * (unconditional - conditional),
        "start from the prediction without prompt; at scale 1 the one with prompt must come out":
            lambda unconditional, conditional, scale: conditional + scale * (conditional - unconditional),
        "scale the difference of both, not the prediction with prompt":
            lambda unconditional, conditional, scale: unconditional + scale * conditional,
    })

Predict = Callable[[torch.Tensor, torch.Tensor, bool], torch.Tensor]


def _denoise(predict: Predict, scheduler, latents: torch.Tensor, steps: int, scale: float,
             ready: bool = True, swapped: bool = False) -> torch.Tensor:
    scheduler.set_timesteps(steps)
    for time in scheduler.timesteps:
        scaled = scheduler.scale_model_input(latents, time) if ready else latents
        without, with_prompt = predict(scaled, time, swapped), predict(scaled, time, not swapped)
        latents = scheduler.step(_guide(without, with_prompt, scale), time, latents).prev_sample
    return latents


def _pretended(latents: torch.Tensor, time: torch.Tensor, with_prompt: bool) -> torch.Tensor:
    """Stands for the UNet: depends on all that it is given."""
    return torch.tanh(latents) * (0.5 if with_prompt else -0.2) + float(time) / 2000


def _denoise_cases() -> list[tuple]:
    settings = ((DDIMScheduler, 1, 1.0), (DDIMScheduler, 7, 2.5), (EulerDiscreteScheduler, 4, 2.5))
    return [(_pretended, make(), _random(1, 4, 3, 5, seed=steps) - 0.5, steps, scale)
            for make, steps, scale in settings]


def _one_step(predict, scheduler, latents, steps, scale):
    scheduler.set_timesteps(steps)
    time = scheduler.timesteps[0]
    scaled = scheduler.scale_model_input(latents, time)
    return scheduler.step(_guide(predict(scaled, time, False), predict(scaled, time, True), scale), time,
                          latents).prev_sample


denoise = Exercise(
    name="denoise", reference=_denoise, cases=_denoise_cases, tolerance=1e-4,
    mistakes={
        "the guidance scale has no effect: combine both predictions with guide":
            lambda predict, scheduler, latents, steps, scale: _denoise(predict, scheduler, latents, steps, 1.0),
        "with and without prompt are swapped":
            lambda predict, scheduler, latents, steps, scale: _denoise(
                predict, scheduler, latents, steps, scale, swapped=True),
        "some schedulers scale what the model sees: pass scheduler.scale_model_input(latents, time) to predict":
            lambda predict, scheduler, latents, steps, scale: _denoise(
                predict, scheduler, latents, steps, scale, ready=False),
        "only one step was taken: go through all of scheduler.timesteps, and keep what step returns": _one_step,
    })


count_evaluations = Exercise(
    name="count_evaluations", reference=_count_evaluations,
    cases=lambda: [(1, 50, 7.5), (54, 12, 2.5), (9, 4, 1.0), (99, 50, 7.5), (3, 20, 1.5), (0, 10, 5.0)],
    mistakes={
        "with guidance above 1 the model is asked twice a step": lambda edits, steps, guidance: edits * steps,
        "without guidance (scale 1) one evaluation a step is enough":
            lambda edits, steps, guidance: 2 * edits * steps,
        "the number of evaluations doesn't grow with the scale itself":
            lambda edits, steps, guidance: round(edits * steps * guidance),
    })
