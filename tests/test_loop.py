"""The denoising loop that notebook 01 writes, on the families of real models: it gives what the pipelines give."""

import pytest
import torch
from torch.nn import functional as F

from lr_helpers.boxes import box_mask
from lr_helpers.checks.inpainting import _denoise
from lr_helpers.costs import random_weights

LATENT = ("sd15", "sd2", "sdxl")


@pytest.fixture(scope="module")
def editors():
    """By profile, at reduced width and three steps."""
    found = {}
    for name in LATENT:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            found[name] = random_weights.models(name, reduced=True).editor
        found[name].steps = 3
    return found


def loop(editor, picture: torch.Tensor, mask: torch.Tensor, prompt: str, seed: int) -> torch.Tensor:
    """As notebook 01: noise, the masked picture's latents, and the loop over the scheduler's time steps."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(editor.encode(picture[None]).shape, generator=generator)
    masked = editor.encode((picture * (1 - mask) + 0.5 * mask)[None], generator)
    texts, small = editor.texts(prompt), F.interpolate(mask[None], size=noise.shape[-2:])

    def predict(latents, time, with_prompt):
        return editor.predict(torch.cat([latents, small, masked], 1), time, texts, with_prompt)

    scheduler = editor.pipeline.scheduler
    return editor.decode(_denoise(predict, scheduler, noise * scheduler.init_noise_sigma, editor.steps, editor.guidance))[0]


@pytest.mark.parametrize("name", LATENT)
def test_the_loop_gives_what_the_pipeline_gives(editors, name):
    editor, seed = editors[name], 3
    picture = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0))
    mask = box_mask((16, 8, 48, 56), 64, 64)
    before = editor.evaluations
    mine = loop(editor, picture, mask, "a cat", seed).clamp(0, 1)
    assert editor.evaluations - before == 2 * editor.steps
    # Our editor lets Stable Diffusion XL begin a step later; here its pipeline begins with noise alone, as the loop does.
    theirs = editor.pipeline(
        image=picture[None], mask_image=mask[None], height=64, width=64, **editor._encode_prompts(["a cat"]),
        generator=torch.Generator().manual_seed(seed), num_inference_steps=editor.steps, guidance_scale=editor.guidance,
        strength=1.0, output_type="pt").images[0]
    assert torch.allclose(mine, theirs, atol=1e-3)
    assert not torch.allclose(loop(editor, picture, mask, "a dog", seed).clamp(0, 1), theirs, atol=1e-3)
    if name != "sdxl":
        assert torch.allclose(mine, editor.inpaint(picture, mask[None], "a cat", seed=seed)[0], atol=1e-3)


def test_the_miniature_has_the_loop_and_amused_says_that_it_has_none(models):
    assert models.editor.denoises_latents
    assert not random_weights.models("amused", reduced=True).editor.denoises_latents


@pytest.mark.parametrize("name", ["sd2", "sdxl"])
def test_an_autoencoder_that_overflows_in_half_precision_works_in_float32(name):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        editor = random_weights.models(name, reduced=True).editor
    vae, seen = editor.pipeline.vae.half(), []
    vae.encoder.register_forward_pre_hook(lambda module, given: seen.append(given[0].dtype))
    vae.decoder.register_forward_pre_hook(lambda module, given: seen.append(given[0].dtype))
    latents = editor.encode(torch.rand(1, 3, 64, 64))
    editor.decode(latents)
    assert seen == [torch.float32 if name == "sdxl" else torch.float16] * 2
    assert vae.dtype == latents.dtype == torch.float16
