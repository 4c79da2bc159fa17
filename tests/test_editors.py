"""This year's editors: the generic adapter on reduced checkpoints of the true classes, a LoRA, a small decoder."""

import json
from dataclasses import replace

import pytest
import torch
from diffusers import LCMScheduler
from safetensors.torch import load_file, save_file

from lr_helpers import METHODS, UserError, edit, load_models
from lr_helpers.costs import random_weights
from lr_helpers.costs.evaluations import search
from lr_helpers.models.layouts import LORA_WEIGHTS
from lr_helpers.models.pipelines import load_editor


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """SD 1.5's LCM profile in the real file formats."""
    return random_weights.write("sd15_lcm", tmp_path_factory.mktemp("lcm"))


@pytest.fixture(scope="module")
def lcm(written):
    return load_models(written, device="cpu")


def plain(profile, **settings):
    """Its editor without LoRA."""
    return load_editor(profile.editor[0], "cpu", torch.float32, size=64, steps=2, guidance=1.0, batch=3, **settings)[0]


# LoRA


def test_the_lora_is_in_the_weights_of_every_layer(written, lcm):
    own, changed = plain(written).pipeline.unet.state_dict(), lcm.editor.pipeline.unet.state_dict()
    tensors = load_file(f"{written.lora[0]}/{LORA_WEIGHTS}")
    layers = {name.removesuffix(".weight").replace(".", "_"): name for name in own if name.endswith(".weight")}
    assert own.keys() == changed.keys()
    seen = set()
    for stem in {name.split(".")[0] for name in tensors}:
        down, up = tensors[f"{stem}.lora_down.weight"], tensors[f"{stem}.lora_up.weight"]
        name = layers[stem.removeprefix("lora_unet_")]
        by = tensors[f"{stem}.alpha"] / len(down) * (up.flatten(1) @ down.flatten(1)).view(own[name].shape)
        assert torch.allclose(changed[name], own[name] + by, atol=1e-5), name
        assert by.abs().max() > 1e-3
        seen.add(name)
    assert len(seen) > 50
    assert all(torch.equal(own[name], changed[name]) for name in own if name not in seen)


def test_alpha_scales_the_change(written, tmp_path):
    tensors = load_file(f"{written.lora[0]}/{LORA_WEIGHTS}")
    doubled = {name: value * 2 if name.endswith("alpha") else value for name, value in tensors.items()}
    save_file(doubled, tmp_path / LORA_WEIGHTS)
    name = "mid_block.attentions.0.proj_in.weight"
    own, once, twice = (editor.pipeline.unet.state_dict()[name] for editor in (
        plain(written), load_models(written, device="cpu").editor,
        load_models(replace(written, lora=(str(tmp_path),)), device="cpu").editor))
    assert torch.allclose(twice - own, 2 * (once - own), atol=1e-5)


@pytest.mark.parametrize(("change", "said"), [
    (lambda t: {**t, "lora_te_text_model_encoder_layers_0_mlp_fc1.alpha": torch.ones(())}, "no LoRA of a UNet"),
    (lambda t: {**t, "__class__": torch.ones(1)}, "no LoRA of a UNet"),
    (lambda t: {**t, "lora_unet_no_such_layer.alpha": torch.ones(())}, "no_such_layer, which is not there"),
    (lambda t: {n: v[:, :1].contiguous() if "mid_block" in n and "down" in n else v for n, v in t.items()}, "size mismatch"),
    (lambda t: {n: v for n, v in t.items() if "mid_block" not in n or "up" not in n}, "does not fit"),
    (lambda t: {n: v * float("nan") if "up" in n else v for n, v in t.items()}, "NaN"),
])
def test_a_lora_that_does_not_fit_is_refused_in_a_sentence(change, said, written, tmp_path):
    save_file(change(load_file(f"{written.lora[0]}/{LORA_WEIGHTS}")), tmp_path / LORA_WEIGHTS)
    with pytest.raises(UserError, match=said) as error:
        load_models(replace(written, lora=(str(tmp_path),)), device="cpu")
    assert "\n" not in str(error.value)


def test_a_lora_on_an_editor_of_another_family(written, tmp_path):
    other = random_weights.write("zimage", tmp_path)
    with pytest.raises(UserError, match="does not fit the editor"):
        load_models(replace(written, editor=other.editor, decoder=()), device="cpu")


def test_a_lora_as_a_pickle_is_never_read(written, tmp_path):
    (tmp_path / "pytorch_lora_weights.bin").write_bytes(b"cos\nsystem\n")
    with pytest.raises(UserError, match="pickles"):
        load_models(replace(written, lora=(str(tmp_path),)), device="cpu")


def test_what_a_loras_header_says_beside_is_not_looked_at(written, tmp_path):
    """diffusers builds peft's configuration of it."""
    tensors = load_file(f"{written.lora[0]}/{LORA_WEIGHTS}")
    save_file(tensors, tmp_path / LORA_WEIGHTS, {"lora_adapter_metadata": json.dumps({"unet.r": 999, "unet.evil": 1})})
    load_models(replace(written, lora=(str(tmp_path),)), device="cpu")


def test_its_sampler_takes_the_place_of_the_checkpoints_own(written, lcm):
    scheduler = lcm.editor.pipeline.scheduler
    assert isinstance(scheduler, LCMScheduler)
    own = plain(written).pipeline.scheduler.config
    assert all(scheduler.config[name] == own[name] for name in ("beta_start", "beta_end", "prediction_type"))
    scheduler.set_timesteps(8)
    assert scheduler.timesteps.max() == 999
    assert len(scheduler.timesteps) == 8
    with pytest.raises(UserError, match="at most 50 steps, not 51"):
        lcm.editor.edit(torch.rand(3, 64, 64), [(0, 0, 32, 32)], "a cat", seed=0, steps=51)


# The small decoder


@pytest.fixture
def decoded(lcm):
    """How many pictures each decoder has decoded."""
    counts, vae, small = {"own": 0, "small": 0}, lcm.editor.pipeline.vae, lcm.editor.decoder
    hooks = [network.register_forward_pre_hook(
        lambda module, given, name=name: counts.update({name: counts[name] + len(given[0])}))
        for name, network in (("own", vae.decoder), ("small", small.decoder))]
    yield counts
    for hook in hooks:
        hook.remove()


FAST = METHODS["learned"].but(anchors=3, sizes=(0.4, 0.6), iterations=3, shortlist=4)


def test_candidates_are_decoded_small_and_the_winner_whole(lcm, decoded, scene_picture):
    found = edit(lcm, scene_picture, "wolf", "a rabbit", FAST, seed=1, progress=False)
    edits = found.cost["different_edits"]
    assert decoded == {"own": 1, "small": edits}
    # The winner is what the editor alone makes of this box.
    assert found.cost["denoiser_evaluations"] == (edits + 1) * 3 == search(lcm.profile, FAST).evaluations
    assert found.record["steps"] == found.record["screening_steps"] == 3
    assert found.record["origins"].keys() == {"editor", "backbone", "clip", "lora", "decoder"}
    best = found.candidates[0]
    patch = found.table.patch(best.anchor, best.proposal)
    mask = torch.zeros(1, 1, 64, 64)
    x0, y0, x1, y1 = (round(v) for v in patch.inner)
    mask[..., y0:y1, x0:x1] = 1
    whole, small = (lcm.editor.inpaint(found.table.canvas.crop(patch.window), mask, "a rabbit", seed=1, draft=draft)[0]
                    for draft in (False, True))
    inside = mask[0].bool().expand(3, -1, -1)
    assert torch.allclose(patch.edited[inside], whole[inside], atol=1e-5)
    assert not torch.allclose(small[inside], whole[inside], atol=0.05)


def test_full_edits_that_are_asked_for_by_name_are_decoded_whole(lcm, decoded, scene_picture):
    method = FAST.but(screening_steps=3)
    found = edit(lcm, scene_picture, "wolf", "a rabbit", method, seed=1, progress=False)
    assert decoded == {"own": found.cost["different_edits"], "small": 0}
    assert search(lcm.profile, method).evaluations == found.cost["denoiser_evaluations"]


def test_a_draft_without_a_small_decoder_is_an_edit(written):
    editor, mask = plain(written), torch.ones(1, 1, 64, 64)
    image = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(*(editor.inpaint(image, mask, "a cat", seed=0, draft=draft) for draft in (False, True)))


def test_a_decoder_of_other_latents_is_refused(written, tmp_path):
    other = random_weights.write("zimage", tmp_path)
    with pytest.raises(UserError, match="takes 4 channels, the editor has 16"):
        load_models(replace(other, decoder=written.decoder), device="cpu")


def test_a_drafts_decoder_works_in_the_editors_precision(written):
    profile = replace(written, lora=())
    from lr_helpers.models.pipelines import load_decoder

    editor, _ = load_editor(profile.editor[0], "cpu", torch.bfloat16, decoder=load_decoder(profile.decoder[0])[0], size=64,
                            steps=2, guidance=1.0, batch=2)
    assert editor.decoder.dtype == torch.bfloat16
    found = editor.inpaint(torch.rand(3, 64, 64), torch.ones(1, 1, 64, 64), "a cat", seed=0, draft=True)
    assert found.isfinite().all()
    assert 0 <= found.min() <= found.max() <= 1
