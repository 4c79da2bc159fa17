"""Exercises of notebook 01: what an inpainting model is given, and what it costs."""

from __future__ import annotations

from collections.abc import Callable

import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler, HeunDiscreteScheduler
from torch.nn import functional as F

from lr_helpers.checks.exercise import Exercise, case
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
    several = case(_random(2, 3, 4, 4), _random(3, 4, 4, seed=1), _mask(4, 4, (0, 0, 2, 3)).expand(2, -1, -1, -1),
                   about="several frames may come at once, with one picture: let them be broadcast")
    each = case(_random(3, 3, 4, 5), _random(3, 3, 4, 5, seed=1), _random(3, 1, 4, 5, seed=2).round(),
                about="several frames may come at once, each with a mask of its own")
    soft = case(_random(3, 4, 4), _random(3, 4, 4, seed=1), _random(1, 4, 4, seed=2),
                about="the mask may be soft: weigh frame and picture with its value, whatever it is")
    nothing = case(_random(3, 4, 4), _random(3, 4, 4, seed=1), torch.zeros(1, 4, 4),
                   about="where the mask is 0 everywhere, the picture comes back")
    shared = case(_random(3, 3, 4, 5), _random(3, 3, 4, 5, seed=1), _mask(4, 5, (1, 0, 4, 2)),
                  about="one mask may stand for several frames: let it be broadcast")
    return [*small, several, each, soft, nothing, shared]


composite = Exercise(
    name="composite", reference=_composite, cases=_composite_cases,
    reminder="mask · frame + (1 − mask) · picture, pixel by pixel",
    mistakes={
        "inside and outside are swapped: the mask is 1 where the model painted":
            lambda frame, image, mask: (1 - mask) * frame + mask * image,
        "outside the mask this is still the frame: the picture must come back there": (
            lambda frame, image, mask: frame + 0 * image * mask,
            lambda frame, image, mask: mask * frame + (1 - mask) * frame + 0 * image),
        "outside the mask it is black: the picture must come back there, weighted with 1 − mask":
            lambda frame, image, mask: mask * frame + 0 * image,
        "inside the mask it is black: the frame is missing there":
            lambda frame, image, mask: (1 - mask) * image + 0 * frame,
        "inside the mask the old picture shines through: it has to be weighted with 1 − mask":
            lambda frame, image, mask: mask * frame + image,
        "outside the mask the frame shines through: it has to be weighted with the mask":
            lambda frame, image, mask: frame + (1 - mask) * image,
        "the mask may be soft: weigh with its value instead of asking whether it is above a half": (
            lambda frame, image, mask: torch.where(mask > 0.5, frame, image),
            lambda frame, image, mask: torch.where(mask >= 0.5, frame, image),
            lambda frame, image, mask: torch.where(mask > 0, frame, image),
            lambda frame, image, mask: torch.where(mask == 1, frame, image)),
        "that is the mean of both everywhere: the mask says which of them to take":
            lambda frame, image, mask: (frame + image) / 2 + 0 * mask,
        "that is the picture as it was: the frame is missing inside the mask":
            lambda frame, image, mask: image + 0 * frame * mask,
    })


def _denoiser_input(noisy: torch.Tensor, mask: torch.Tensor, masked: torch.Tensor, shrink: Callable | None = None,
                    order: tuple[int, int, int] = (0, 1, 2)) -> torch.Tensor:
    small = (shrink or (lambda m, size: F.interpolate(m, size=size)))(mask, noisy.shape[-2:])
    parts = noisy, small, masked
    return torch.cat([parts[i] for i in order], dim=1)


def _input_cases() -> list[tuple]:
    def one(n: int, h: int, w: int, factor: int, seed: int, about: str = "", channels: int = 4) -> tuple:
        # Every border lies just before the last pixel of a cell: whether the nearest is the first pixel of it or one
        # in its middle, it says the same, and the mean or the largest of the cell says something else.
        end = factor - 1
        masks = torch.cat([_mask(h * factor, w * factor, (end + i % 2 * factor, end, (w - 1) * factor + end,
                                                          (h - 1) * factor + end)) for i in range(n)])[:, None]
        return case(_random(n, channels, h, w, seed=seed), masks, _random(n, channels, h, w, seed=seed + 1),
                    about=about)

    def rough(h: int, w: int, factor: int, seed: int, about: str) -> tuple:
        # Any pattern, in which the first pixel of each cell and the one in its middle say the same.
        mask = _random(1, 1, h * factor, w * factor, seed=seed).round()
        mask[..., factor // 2::factor, factor // 2::factor] = mask[..., ::factor, ::factor]
        return case(_random(1, 4, h, w, seed=seed), mask, _random(1, 4, h, w, seed=seed + 1), about=about)

    return [one(1, 4, 4, 4, 0), one(3, 4, 6, 4, 2), one(2, 5, 3, 8, 4),
            rough(4, 5, 4, 8, "shrink the mask by the nearest pixel (mode=\"nearest\"): no value between 0 and 1 may "
                              "appear"),
            one(1, 3, 4, 16, 6, about="the latents need not be an eighth or a quarter of the picture: take their own "
                                      "size"),
            one(2, 3, 4, 8, 10, channels=16, about="latents need not have four channels: take as many as come")]


def _area(mask: torch.Tensor, size: torch.Size) -> torch.Tensor:
    return F.interpolate(mask, size=size, mode="area")


def _last(mask: torch.Tensor, size: torch.Size) -> torch.Tensor:
    """The last pixel of each cell."""
    high, wide = mask.shape[-2] // size[0], mask.shape[-1] // size[1]
    return mask[..., high - 1::high, wide - 1::wide]


denoiser_input = Exercise(
    name="denoiser_input", reference=_denoiser_input, cases=_input_cases,
    reminder="concatenate along axis 1: the noisy latents, the mask, the latents of the masked picture",
    mistakes={
        "the mask comes fifth, between the noisy latents and those of the masked picture": (
            lambda noisy, mask, masked: _denoiser_input(noisy, mask, masked, order=(0, 2, 1)),
            lambda noisy, mask, masked: _denoiser_input(noisy, mask, masked, order=(1, 0, 2)),
            lambda noisy, mask, masked: _denoiser_input(noisy, mask, masked, order=(1, 2, 0))),
        "the noisy latents come first and the masked picture's last":
            lambda noisy, mask, masked: _denoiser_input(noisy, mask, masked, order=(2, 1, 0)),
        "shrink the mask by the nearest pixel: an averaged border is neither painted nor kept": (
            lambda noisy, mask, masked: _denoiser_input(noisy, mask, masked, _area),
            lambda noisy, mask, masked: _denoiser_input(
                noisy, mask, masked, lambda m, size: F.interpolate(m, size=size, mode="bilinear")),
            lambda noisy, mask, masked: _denoiser_input(
                noisy, mask, masked, lambda m, size: F.interpolate(m, size=size, mode="bilinear", antialias=True)),
            lambda noisy, mask, masked: _denoiser_input(
                noisy, mask, masked, lambda m, size: F.interpolate(m, size=size, mode="bicubic"))),
        "that marks every cell that the mask touches: shrink the mask by the nearest pixel": (
            lambda noisy, mask, masked: _denoiser_input(noisy, mask, masked, F.adaptive_max_pool2d),
            lambda noisy, mask, masked: _denoiser_input(noisy, mask, masked,
            lambda m, size: (_area(m, size) > 0).float())),
        "that keeps only cells that lie wholly inside: shrink the mask by the nearest pixel":
            lambda noisy, mask, masked: _denoiser_input(noisy, mask, masked,
            lambda m, size: (_area(m, size) == 1).float()),
        "the mask is inverted: 1 means paint here":
            lambda noisy, mask, masked: _denoiser_input(noisy, 1 - mask, masked),
        "the mask was cropped to the size of the latents: shrink all of it":
            lambda noisy, mask, masked: _denoiser_input(noisy, mask, masked,
            lambda m, size: m[..., :size[0], :size[1]]),
        "one channel of mask, not three or four: concatenate it once": (
            lambda noisy, mask, masked: _denoiser_input(
                noisy, mask, masked, lambda m, size: F.interpolate(m, size=size).expand(-1, 4, -1, -1)),
            lambda noisy, mask, masked: _denoiser_input(
                noisy, mask, masked, lambda m, size: F.interpolate(m, size=size).expand(-1, 3, -1, -1))),
        "that is the last pixel of each cell: the nearest one is its first, or one in its middle":
            lambda noisy, mask, masked: _denoiser_input(noisy, mask, masked, _last),
        "each picture of the batch has a mask of its own; that of the first is used for all":
            lambda noisy, mask, masked: _denoiser_input(noisy, mask[:1].expand_as(mask), masked),
        "the mask stays 0 or 1: only pictures go to −1 … 1":
            lambda noisy, mask, masked: _denoiser_input(noisy, 2 * mask - 1, masked),
        "the noisy latents go in as they are: don't multiply them by the mask": (
            lambda noisy, mask, masked: _denoiser_input(
                noisy * F.interpolate(mask, size=noisy.shape[-2:]), mask, masked),
            lambda noisy, mask, masked: _denoiser_input(
                noisy * (1 - F.interpolate(mask, size=noisy.shape[-2:])), mask, masked)),
        "torch.cat joins along an axis that is there; torch.stack makes a new one": (
            lambda noisy, mask, masked: torch.stack([noisy, masked], dim=1),
            lambda noisy, mask, masked: torch.stack(
                [noisy, F.interpolate(mask, size=noisy.shape[-2:]).expand_as(noisy), masked], dim=1)),
        "channels are axis 1: concatenate along it, not along the pictures of the batch":
            lambda noisy, mask, masked: torch.cat(
                [noisy, F.interpolate(mask, size=noisy.shape[-2:]).expand(-1, 4, -1, -1), masked], dim=0),
        "the masked picture's latents are missing: they come last":
            lambda noisy, mask, masked: torch.cat([noisy, F.interpolate(mask, size=noisy.shape[-2:])], dim=1),
        "the masked picture's latents are masked already: pass them on as they are":
            lambda noisy, mask, masked: _denoiser_input(
                noisy, mask, masked * (1 - F.interpolate(mask, size=noisy.shape[-2:]))),
    })


def _guide(unconditional: torch.Tensor, conditional: torch.Tensor, scale: float) -> torch.Tensor:
    return unconditional + scale * (conditional - unconditional)


guide = Exercise(
    name="guide", reference=_guide,
    cases=lambda: [*((_random(1, 4, 3, 5, seed=i), _random(1, 4, 3, 5, seed=i + 9), scale)
                     for i, scale in enumerate((2.5, 7.5, 1.7))),
                   case(_random(2, 3, seed=3), _random(2, 3, seed=12), 1.0,
                        about="at scale 1 the prediction with prompt comes out as it is"),
                   case(_random(7, seed=4), _random(7, seed=13), 0.0,
                        about="at scale 0 the prediction without prompt comes out as it is"),
                   case(_random(3, 4, seed=5), _random(3, 4, seed=14), 0.4,
                        about="a scale between 0 and 1 is a scale like others: the result lies between both "
                              "predictions"),
                   case(_random(3, 4, seed=6), _random(3, 4, seed=15), 15.0,
                        about="the scale may be large: don't cut it off")],
    reminder="the prediction without prompt, plus the scale times the difference (with − without)",
    mistakes={
        "the two predictions are swapped: start from the one without prompt, and go towards the one with it":
            lambda unconditional, conditional, scale: conditional + scale * (unconditional - conditional),
        "the difference has the wrong sign: with prompt less without prompt":
            lambda unconditional, conditional, scale: unconditional + scale * (unconditional - conditional),
        "start from the prediction without prompt; at scale 1 the one with prompt must come out":
            lambda unconditional, conditional, scale: conditional + scale * (conditional - unconditional),
        "scale the difference of both, not the prediction with prompt":
            lambda unconditional, conditional, scale: unconditional + scale * conditional,
        "only the difference is left: add it to the prediction without prompt":
            lambda unconditional, conditional, scale: scale * (conditional - unconditional),
        "the scale multiplies the difference alone, not the sum":
            lambda unconditional, conditional, scale: scale * (unconditional + (conditional - unconditional)),
        "the scale has no effect: multiply the difference by it": (
            lambda unconditional, conditional, scale: conditional + 0 * unconditional,
            lambda unconditional, conditional, scale: (unconditional + conditional) / 2),
        "the scale may go beyond 1: don't cut it off there":
            lambda unconditional, conditional, scale: torch.lerp(unconditional, conditional, min(scale, 1.0)),
        "use the scale that is given, not a fixed 7.5":
            lambda unconditional, conditional, scale: _guide(unconditional, conditional, 7.5),
        "the factor of the difference is the scale itself, not scale − 1":
            lambda unconditional, conditional, scale: _guide(unconditional, conditional, scale - 1),
    })

Predict = Callable[[torch.Tensor, torch.Tensor, bool], torch.Tensor]


def _denoise(predict: Predict, scheduler, latents: torch.Tensor, steps: int, scale: float,
             ready: bool = True, swapped: bool = False, scaled_on: bool = False, set_steps: bool = True,
             guided: Callable = _guide, times: Callable = lambda times: times, numbered: bool = False,
             forgetful: bool = False, taken: str = "prev_sample") -> torch.Tensor:
    """The loop; each option is a slip: `numbered` asks about the number of the step, `forgetful` goes on with the first
    noise, `taken` names another of the things that `step` returns.
    """
    if set_steps:
        scheduler.set_timesteps(steps)
    made = latents
    for i, time in enumerate(times(scheduler.timesteps)):
        scaled = scheduler.scale_model_input(latents, time) if ready else latents
        asked = i if numbered else time
        without, with_prompt = predict(scaled, asked, swapped), predict(scaled, asked, not swapped)
        step = scheduler.step(guided(without, with_prompt, scale), time, scaled if scaled_on else latents)
        made = getattr(step, taken)
        latents = latents if forgetful else made
    return made


def _pretended(scaled_latents: torch.Tensor, time: torch.Tensor, with_prompt: bool) -> torch.Tensor:
    """Stands for the UNet: depends on all that it is given, also by these names."""
    return torch.tanh(scaled_latents) * (0.5 if with_prompt else -0.2) + float(time) / 2000


def _denoise_cases() -> list[tuple]:
    def one(make: Callable, steps: int, scale: float, about: str = "", n: int = 1) -> tuple:
        return case(_pretended, make(), _random(n, 4, 3, 5, seed=steps) - 0.5, steps, scale, about=about)

    return [one(DDIMScheduler, 7, 2.5), one(DDIMScheduler, 4, 5.0, n=2), one(EulerDiscreteScheduler, 4, 2.5),
            one(DDIMScheduler, 1, 1.0, about="a single step at scale 1 is a step too"),
            one(EulerDiscreteScheduler, 6, 1.0, about="at scale 1 the prediction with prompt decides"),
            one(HeunDiscreteScheduler, 5, 2.5,
                about="some schedulers have more timesteps than steps: go through all of scheduler.timesteps")]


def _slip(**options) -> Callable:
    """The loop with a slip, as `_denoise` names it."""
    return lambda predict, scheduler, latents, steps, scale: _denoise(
        predict, scheduler, latents, steps, scale, **options)


def _scaled_noise(predict, scheduler, latents, steps, scale):
    scheduler.set_timesteps(steps)
    return _denoise(predict, scheduler, latents * scheduler.init_noise_sigma, steps, scale)


def _once_asked(predict, scheduler, latents, steps, scale):
    scheduler.set_timesteps(steps)
    time = scheduler.timesteps[0]
    scaled = scheduler.scale_model_input(latents, time)
    prediction = _guide(predict(scaled, time, False), predict(scaled, time, True), scale)
    for time in scheduler.timesteps:
        scheduler.scale_model_input(latents, time)
        latents = scheduler.step(prediction, time, latents).prev_sample
    return latents


denoise = Exercise(
    name="denoise", reference=_denoise, cases=_denoise_cases, tolerance=1e-4,
    reminder="at each of scheduler.timesteps: scale_model_input, predict twice, guide, step, and go on with "
             "prev_sample",
    mistakes={
        "the guidance scale has no effect: combine both predictions with guide": (
            lambda predict, scheduler, latents, steps, scale: _denoise(predict, scheduler, latents, steps, 1.0),
            _slip(guided=lambda u, c, s: c),
            lambda predict, scheduler, latents, steps, scale: _denoise(predict, scheduler, latents, steps, 7.5)),
        "only the prediction without prompt is used: ask with prompt too, and guide": (
            lambda predict, scheduler, latents, steps, scale: _denoise(predict, scheduler, latents, steps, 0.0)),
        "with and without prompt are swapped":
            _slip(swapped=True),
        "some schedulers scale what the model sees: pass scheduler.scale_model_input(latents, time) to predict":
            _slip(ready=False),
        "the noise comes scaled already: don't multiply it by scheduler.init_noise_sigma": _scaled_noise,
        "step takes the latents as they were, not the scaled ones that the denoiser saw":
            _slip(scaled_on=True),
        "only one step was taken: go through all of scheduler.timesteps, and keep what step returns":
            _slip(times=lambda times: times[:1]),
        "every step began with the first noise again: go on with what the last step returned":
            _slip(forgetful=True),
        "the last step is missing: go through all of scheduler.timesteps": _slip(times=lambda times: times[:-1]),
        "the first step is missing: go through all of scheduler.timesteps": _slip(times=lambda times: times[1:]),
        "the timesteps run from much noise to none: take them in the scheduler's order":
            _slip(times=lambda times: times.flip(0)),
        "the next latents are step(…).prev_sample, not its guess of the clean ones":
            _slip(taken="pred_original_sample"),
        "predict takes the time itself, one of scheduler.timesteps, not the number of the step":
            (_slip(numbered=True), _slip(times=lambda times: torch.arange(len(times)))),
        "ask the denoiser anew at every step: its prediction belongs to these latents and this time": _once_asked,
        "the number of steps has no effect: call scheduler.set_timesteps(steps) first": (
            _slip(set_steps=False),
            lambda predict, scheduler, latents, steps, scale: _denoise(predict, scheduler, latents, 50, scale)),
        "nothing was done to the latents: keep what step returns":
            lambda predict, scheduler, latents, steps, scale: latents.clone(),
    })


count_evaluations = Exercise(
    name="count_evaluations", reference=_count_evaluations,
    cases=lambda: [(1, 50, 7.5), (54, 12, 2.5), (99, 50, 7.5), (3, 20, 1.5),
                   case(9, 4, 1.0, about="at a guidance scale of 1 one evaluation a step is enough"),
                   case(7, 6, 0.5, about="at a guidance scale below 1 one evaluation a step is enough, too"),
                   case(5, 8, 0.0, about="at a guidance scale of 0 one evaluation a step is enough, too"),
                   case(0, 10, 5.0, about="no edits take no evaluations"),
                   case(4, 11, 1.01, about="the model is asked twice wherever the scale is above 1, however little"),
                   case(3, 7, -2.0, about="a scale below 0 is below 1, too: one evaluation a step is enough")],
    reminder="edits × steps, times 2 where the guidance is above 1",
    mistakes={
        "with guidance above 1 the model is asked twice a step": lambda edits, steps, guidance: edits * steps,
        "without guidance (a scale of 1 or less) one evaluation a step is enough":
            lambda edits, steps, guidance: 2 * edits * steps,
        "the scale decides by whether it is above 1: below 1 the question without prompt is skipped as well": (
            lambda edits, steps, guidance: edits * steps * (2 if guidance != 1 else 1),
            lambda edits, steps, guidance: edits * steps * (2 if guidance > 0 and guidance != 1 else 1)),
        "at a scale of exactly 1 the question without prompt is skipped: compare with >, not >=": (
            lambda edits, steps, guidance: edits * steps * (2 if guidance >= 1 else 1)),
        "any scale above 1 asks twice; what counts is not whether it is above 0": (
            lambda edits, steps, guidance: edits * steps * (2 if guidance > 0 else 1),
            lambda edits, steps, guidance: edits * steps * (2 if guidance else 1)),
        "the scale itself is compared with 1, not its absolute value or its square": (
            lambda edits, steps, guidance: edits * steps * (2 if abs(guidance) > 1 else 1)),
        "any scale above 1 asks twice, however little it is above: don't round it": (
            lambda edits, steps, guidance: edits * steps * (2 if int(guidance) > 1 else 1),
            lambda edits, steps, guidance: edits * steps * (2 if round(guidance) > 1 else 1)),
        "the number of evaluations doesn't grow with the scale itself": (
            lambda edits, steps, guidance: round(edits * steps * guidance),
            lambda edits, steps, guidance: edits * steps * guidance),
        "it is the other way round: twice a step where there is guidance, above 1": (
            lambda edits, steps, guidance: edits * steps * (1 if guidance > 1 else 2)),
        "each edit takes all steps: multiply edits and steps": (
            lambda edits, steps, guidance: edits + steps * (2 if guidance > 1 else 1),
            lambda edits, steps, guidance: (edits + steps) * (2 if guidance > 1 else 1)),
        "the edits are left out: each takes all steps":
            lambda edits, steps, guidance: steps * (2 if guidance > 1 else 1),
        "the steps are left out: each asks the denoiser":
            lambda edits, steps, guidance: edits * (2 if guidance > 1 else 1),
        "both questions are asked at every step, not once more for each edit":
            lambda edits, steps, guidance: edits * (steps + 1) if guidance > 1 else edits * steps,
    })
