"""Students' answers to the exercises of notebook 01."""

import numpy as np
import torch
from torch.nn import functional as F


def blend_in_place(frame, image, mask):
    frame *= mask
    frame += (1 - mask) * image
    return frame


def paste_box(frame, image, mask):
    out = image.clone().expand(frame.shape).clone()
    rows, columns = mask[0].any(1).nonzero()[:, 0], mask[0].any(0).nonzero()[:, 0]
    out[..., rows.min():rows.max() + 1, columns.min():columns.max() + 1] = frame[
        ..., rows.min():rows.max() + 1, columns.min():columns.max() + 1]
    return out


def zipped(frame, image, mask):
    if frame.ndim == 3:
        return mask * frame + (1 - mask) * image
    images = image if image.ndim == 4 else image.expand_as(frame)
    return torch.stack([m * f + (1 - m) * i for f, i, m in zip(frame, images, mask)])


def guided(u, c, s):
    return u + s * (c - u)


def loop(predict, scheduler, latents, steps, scale, combine=guided):
    scheduler.set_timesteps(steps)
    for t in scheduler.timesteps:
        x = scheduler.scale_model_input(latents, t)
        latents = scheduler.step(combine(predict(x, t, False), predict(x, t, True), scale), t, latents).prev_sample
    return latents


def loop_with_range(predict, scheduler, latents, steps, scale):
    scheduler.set_timesteps(steps)
    for t in range(steps):
        x = scheduler.scale_model_input(latents, scheduler.timesteps[t])
        latents = scheduler.step(guided(predict(x, t, False), predict(x, t, True), scale), scheduler.timesteps[t],
                                 latents).prev_sample
    return latents


def loop_forgets(predict, scheduler, latents, steps, scale):
    scheduler.set_timesteps(steps)
    for t in scheduler.timesteps:
        x = scheduler.scale_model_input(latents, t)
        scheduler.step(guided(predict(x, t, False), predict(x, t, True), scale), t, latents)
    return latents


def loop_keeps_scaled(predict, scheduler, latents, steps, scale):
    scheduler.set_timesteps(steps)
    for t in scheduler.timesteps:
        latents = scheduler.scale_model_input(latents, t)
        latents = scheduler.step(guided(predict(latents, t, False), predict(latents, t, True), scale), t,
                                 latents).prev_sample
    return latents


def loop_returns_step(predict, scheduler, latents, steps, scale):
    scheduler.set_timesteps(steps)
    for t in scheduler.timesteps:
        x = scheduler.scale_model_input(latents, t)
        out = scheduler.step(guided(predict(x, t, False), predict(x, t, True), scale), t, latents)
        latents = out.prev_sample
    return out


def loop_returns_early(predict, scheduler, latents, steps, scale):
    scheduler.set_timesteps(steps)
    for t in scheduler.timesteps:
        x = scheduler.scale_model_input(latents, t)
        latents = scheduler.step(guided(predict(x, t, False), predict(x, t, True), scale), t, latents).prev_sample
        return latents


def loop_scales_the_noise(predict, scheduler, latents, steps, scale):
    scheduler.set_timesteps(steps)
    return loop(predict, scheduler, latents * scheduler.init_noise_sigma, steps, scale)


def loop_counts(predict, scheduler, latents, steps, scale):
    scheduler.set_timesteps(steps)
    for t in range(steps):
        x = scheduler.scale_model_input(latents, t)
        latents = scheduler.step(guided(predict(x, t, False), predict(x, t, True), scale), t, latents).prev_sample
    return latents


def loop_cheap(predict, scheduler, latents, steps, scale):
    scheduler.set_timesteps(steps)
    for t in scheduler.timesteps:
        x = scheduler.scale_model_input(latents, t)
        v = predict(x, t, True)
        if scale != 1:
            v = guided(predict(x, t, False), v, scale)
        latents = scheduler.step(v, t, latents, return_dict=False)[0]
    return latents


def loop_over_range(predict, scheduler, latents, steps, scale):
    scheduler.set_timesteps(steps)
    for i in range(steps):
        t = scheduler.timesteps[i]
        x = scheduler.scale_model_input(latents, t)
        latents = scheduler.step(guided(predict(x, t, False), predict(x, t, True), scale), t, latents).prev_sample
    return latents


def loop_with_keywords(predict, scheduler, latents, steps, scale):
    scheduler.set_timesteps(num_inference_steps=steps)
    for t in scheduler.timesteps:
        x = scheduler.scale_model_input(sample=latents, timestep=t)
        with_it = predict(scaled_latents=x, time=t, with_prompt=True)
        without = predict(scaled_latents=x, time=t, with_prompt=False)
        latents = scheduler.step(model_output=guided(without, with_it, scale), timestep=t, sample=latents).prev_sample
    return latents


def count_by_loop(edits, steps, guidance):
    n = 0
    for _ in range(edits):
        for _ in range(steps):
            n += 1
            if guidance > 1:
                n += 1
    return n


WRONG = {
    "composite": [
        ("swapped", "swapped", lambda frame, image, mask: image * mask + frame * (1 - mask)),
        ("black outside", "black", lambda frame, image, mask: frame * mask),
        ("picture shines through", "shines through", lambda frame, image, mask: image + mask * frame),
        ("threshold", "soft", lambda frame, image, mask: torch.where(mask.bool(), frame, image)),
        ("rounds the mask", "soft", lambda frame, image, mask: mask.round() * frame + (1 - mask.round()) * image),
        ("in place", "in place", blend_in_place),
        ("cuts the box out", "soft|several frames|frames may come", paste_box),
        ("arguments of lerp swapped", "swapped", lambda frame, image, mask: torch.lerp(frame, image, mask)),
        ("returns nothing", "return statement", lambda frame, image, mask: None),
        ("adds a clamp of the sum", "shines through", lambda frame, image, mask: frame + image * (1 - mask)),
        ("only the frame", "still the frame", lambda frame, image, mask: frame),
        ("a mask for each frame, by zip", "one mask may stand", zipped),
        ("a mask for each frame, by reshape", "one mask may stand", lambda frame, image, mask: (
            lambda m: m * frame + (1 - m) * image)(mask.reshape(len(frame), 1, *mask.shape[-2:]) if frame.ndim == 4 else mask)),
        ("first mask", "of its own", lambda frame, image, mask: mask[0] * frame + (1 - mask[0]) * image),
        ("half precision", "nearly right", lambda frame, image, mask: (
            mask.half() * frame.half() + (1 - mask.half()) * image.half()).float()),
        ("in 255 steps", "nearly right", lambda frame, image, mask: ((mask * frame + (1 - mask) * image) * 255).round() / 255),
    ],
    "denoiser_input": [
        ("mask last", "between|fifth", lambda n, m, z: torch.cat([n, z, F.interpolate(m, n.shape[-2:])], 1)),
        ("bilinear", "nearest", lambda n, m, z: torch.cat(
            [n, F.interpolate(m, n.shape[-2:], mode="bilinear", align_corners=False), z], 1)),
        ("average pooling", "nearest", lambda n, m, z: torch.cat([n, F.adaptive_avg_pool2d(m, n.shape[-2:]), z], 1)),
        ("max pooling", "touches|nearest", lambda n, m, z: torch.cat([n, F.adaptive_max_pool2d(m, n.shape[-2:]), z], 1)),
        ("along the batch", "axis 1|Sizes of tensors", lambda n, m, z: torch.cat([n, F.interpolate(m, n.shape[-2:]), z], 0)),
        ("always an eighth", "own size|Sizes of tensors", lambda n, m, z: torch.cat([n, F.interpolate(m, scale_factor=1 / 8), z], 1)),
        ("every fourth pixel", "own size|Sizes of tensors", lambda n, m, z: torch.cat([n, m[..., ::4, ::4], z], 1)),
        ("inverted", "inverted", lambda n, m, z: torch.cat([n, 1 - F.interpolate(m, n.shape[-2:]), z], 1)),
        ("eight channels", "mask|axis 1 has the wrong length", lambda n, m, z: torch.cat([n, z], 1)),
        ("height and width swapped", "Sizes of tensors|own size", lambda n, m, z: torch.cat(
            [n, F.interpolate(m, n.shape[:-3:-1]), z], 1)),
        ("four channels written down", "four channels", lambda n, m, z: torch.cat(
            [n.reshape(len(n), 4, *n.shape[-2:]), F.interpolate(m, n.shape[-2:]), z.reshape(len(z), 4, *z.shape[-2:])], 1)),
        ("last pixel of a cell", "last pixel", lambda n, m, z: (lambda a, b: torch.cat([n, m[..., a - 1::a, b - 1::b], z], 1))(
            m.shape[-2] // n.shape[-2], m.shape[-1] // n.shape[-1])),
        ("noisy latents masked", "as they are", lambda n, m, z: (lambda s: torch.cat([n * s, s, z], 1))(
            F.interpolate(m, n.shape[-2:]))),
        ("first mask for all", "of its own", lambda n, m, z: torch.cat(
            [n, F.interpolate(m[:1], n.shape[-2:]).expand(len(n), -1, -1, -1), z], 1)),
        ("mask in −1 … 1", "0 or 1", lambda n, m, z: torch.cat([n, 2 * F.interpolate(m, n.shape[-2:]) - 1, z], 1)),
        ("stack", "makes a new one", lambda n, m, z: torch.stack([n, z], 1)),
        ("mask in colours", "one channel of mask", lambda n, m, z: torch.cat(
            [n, F.interpolate(m.expand(-1, 3, -1, -1), n.shape[-2:]), z], 1)),
        ("not shrunk", "same length", lambda n, m, z: torch.cat([n, m, z], 1)),
        ("four channels taken", "four channels", lambda n, m, z: torch.cat(
            [n[:, :4], F.interpolate(m, n.shape[-2:]), z[:, :4]], 1)),
    ],
    "guide": [
        ("swapped", "swapped|start from", lambda u, c, s: guided(c, u, s)),
        ("wrong sign", "sign", lambda u, c, s: u - s * (c - u)),
        ("scales the prompt", "difference", lambda u, c, s: u + s * c),
        ("forgets to add", "add it", lambda u, c, s: s * (c - u)),
        ("constant", "7.5", lambda u, c, s: u + 7.5 * (c - u)),
        ("from the prompt", "start from", lambda u, c, s: c + s * (c - u)),
        ("in place", "in place", lambda u, c, s: u.add_(s * (c - u))),
        ("whole scale", "scale", lambda u, c, s: u + int(s) * (c - u)),
        ("normalises by the scale", "scale|factor", lambda u, c, s: (u + s * (c - u)) / s),
        ("one less", "scale − 1", lambda u, c, s: u + (s - 1) * (c - u)),
        ("no guidance up to 1", "between 0 and 1", lambda u, c, s: c if 0 < s <= 1 else guided(u, c, s)),
        ("no prompt below 1", "between 0 and 1", lambda u, c, s: u if s < 1 else guided(u, c, s)),
        ("at most 10", "don't cut it off", lambda u, c, s: guided(u, c, min(s, 10.0))),
        ("bfloat16", "nearly right", lambda u, c, s: guided(u, c, s).bfloat16().float()),
        ("one argument more", "stub's parameters", lambda u, c, s, rescale: guided(u, c, s)),
    ],
    "denoise": [
        ("numbers instead of times", "time itself", loop_with_range),
        ("numbers instead of times, in step too", "time itself", loop_counts),
        ("scales the noise as the pipelines do", "scaled already", loop_scales_the_noise),
        ("forgets prev_sample", "keep what step returns", loop_forgets),
        ("goes on with the scaled ones", "as they were|scale", loop_keeps_scaled),
        ("returns the step's output", "tensor was expected", loop_returns_step),
        ("return in the loop", "one step", loop_returns_early),
        ("predictions swapped", "swapped", lambda p, s, x, n, g: loop(p, s, x, n, g, lambda u, c, k: guided(c, u, k))),
        ("no guidance", "guidance", lambda p, s, x, n, g: loop(p, s, x, n, g, lambda u, c, k: c)),
        ("no prompt", "without prompt", lambda p, s, x, n, g: loop(p, s, x, n, g, lambda u, c, k: u)),
        ("one step more", "set_timesteps|steps", lambda p, s, x, n, g: loop(p, s, x, n + 1, g)),
        ("fixed scale", "scale has no effect|guidance scale", lambda p, s, x, n, g: loop(p, s, x, n, 7.5)),
        ("as many times as steps", "more timesteps than steps", loop_over_range),
        ("returns nothing", "return statement", lambda p, s, x, n, g: None),
        ("decoded range", "1 minus|factor|prev_sample|multiplied", lambda p, s, x, n, g: loop(p, s, x, n, g) / 2),
    ],
    "count_evaluations": [
        ("no doubling", "twice", lambda edits, steps, guidance: edits * steps),
        ("always doubled", "one evaluation", lambda edits, steps, guidance: edits * steps * 2),
        ("!= 1", "below 1", lambda edits, steps, guidance: edits * steps * (2 if guidance != 1 else 1)),
        (">= 1", "exactly 1", lambda edits, steps, guidance: edits * steps * (1 + (guidance >= 1))),
        ("truth of the scale", "above 0|scale above 1", lambda edits, steps, guidance: edits * steps * (1 + bool(guidance))),
        ("times the scale", "grow", lambda edits, steps, guidance: int(edits * steps * guidance)),
        ("one edit", "edits are left out", lambda edits, steps, guidance: 2 * steps if guidance > 1 else steps),
        ("the paper's edits", "goes in|edits", lambda edits, steps, guidance: 99 * steps * (2 if guidance > 1 else 1)),
        ("adds", "multiply", lambda edits, steps, guidance: edits + steps * (2 if guidance > 1 else 1)),
        ("absolute value", "below 0|absolute value", lambda edits, steps, guidance: edits * steps * (2 if abs(guidance) > 1 else 1)),
        ("square", "below 0|square", lambda edits, steps, guidance: edits * steps * (2 if guidance ** 2 > 1 else 1)),
        ("int", "round", lambda edits, steps, guidance: edits * steps * (2 if int(guidance) > 1 else 1)),
        ("round", "round", lambda edits, steps, guidance: edits * steps * (2 if round(guidance) > 1 else 1)),
        ("floats", "whole number", lambda edits, steps, guidance: edits * steps * (2.0 if guidance > 1 else 1.0)),
        ("two parameters", "stub's parameters", lambda edits, steps: edits * steps * 2),
        ("above 1.5 only", "however little|above 1", lambda edits, steps, guidance: edits * steps * (2 if guidance > 1.2 else 1)),
    ],
}

RIGHT = {
    "composite": [
        ("lerp", lambda frame, image, mask: torch.lerp(image.expand_as(frame), frame, mask.expand_as(frame))),
        ("difference", lambda frame, image, mask: image + mask * (frame - image)),
        ("numpy", lambda frame, image, mask: mask.numpy() * frame.numpy() + (1 - mask.numpy()) * image.numpy()),
        ("double precision", lambda frame, image, mask: mask.double() * frame + (1 - mask.double()) * image),
    ],
    "denoiser_input": [
        ("nearest-exact", lambda n, m, z: torch.cat([n, F.interpolate(m, n.shape[-2:], mode="nearest-exact"), z], 1)),
        ("slices", lambda n, m, z: torch.cat([n, m[..., ::m.shape[-2] // n.shape[-2], ::m.shape[-1] // n.shape[-1]], z], 1)),
        ("numpy", lambda n, m, z: np.concatenate([n, F.interpolate(m, n.shape[-2:]), z], 1)),
    ],
    "guide": [
        ("weighted", lambda u, c, s: (1 - s) * u + s * c),
        ("torch.lerp", lambda u, c, s: torch.lerp(u, c, s)),
        ("numpy", lambda u, c, s: np.asarray(u) + s * (np.asarray(c) - np.asarray(u))),
    ],
    "denoise": [("asks twice only where it must", loop_cheap), ("plain", loop), ("keywords", loop_with_keywords)],
    "count_evaluations": [("loops", count_by_loop), ("sum", lambda e, s, g: e * s + e * s * int(g > 1)),
                          ("numpy", lambda e, s, g: np.int64(e) * s * (1 + np.greater(g, 1)))],
}
