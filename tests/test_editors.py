"""This year's editors: the generic adapter on reduced checkpoints of the true classes, a LoRA, a small decoder."""

import json
from dataclasses import replace

import pytest
import random_parts
import torch
from diffusers import LCMScheduler
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from safetensors.torch import load_file, save_file

from lr_helpers import METHODS, UserError, edit, load_models
from lr_helpers.batch.key import identity
from lr_helpers.costs import random_weights
from lr_helpers.costs.evaluations import search
from lr_helpers.models import pipelines
from lr_helpers.models.layouts import LORA_WEIGHTS
from lr_helpers.models.libraries import truncated
from lr_helpers.models.loading import first_origin
from lr_helpers.models.lora import Lora
from lr_helpers.models.origins import UnavailableError
from lr_helpers.models.pipelines import load_decoder, load_editor


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


def changed_by(profile, folder):
    """Its editor with the LoRA of a folder."""
    return plain(profile, lora=first_origin("LoRA", (str(folder),), Lora.load)[0])


# The loop for latents of other than four channels


@pytest.mark.parametrize("guidance", [1.0, 5.0])
@pytest.mark.parametrize("draft", [False, True])
def test_the_loop_of_our_own_paints_what_the_librarys_pipeline_paints(written, monkeypatch, guidance, draft):
    """The miniature's latents have eight channels, which the pipeline refuses; where there are four, both can be asked.
    The pipeline draws the masked picture's latents, ours are the likeliest, so here a draw is made that too."""
    editor = plain(written)
    monkeypatch.setattr(DiagonalGaussianDistribution, "sample", lambda self, generator=None: self.mode())
    images, masks = torch.rand(2, 3, 64, 64), torch.zeros(2, 1, 64, 64)
    masks[0, :, 16:48, 8:40] = masks[1, :, 0:24, 32:64] = 1
    given = images, masks, editor._encode_prompts(["a wolf", "an apple"]), 7, 3, guidance, draft
    with torch.no_grad():
        theirs = editor._paint(*given)
        monkeypatch.setattr(pipelines, "PIPELINES_CHANNELS", 0)
        ours = editor._paint(*given)
    assert ours.shape == theirs.shape and theirs.std() > 1e-2
    assert torch.allclose(ours, theirs, atol=1e-4), (ours - theirs).abs().max()


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


@pytest.mark.all
def test_alpha_scales_the_change(written, tmp_path):
    tensors = load_file(f"{written.lora[0]}/{LORA_WEIGHTS}")
    doubled = {name: value * 2 if name.endswith("alpha") else value for name, value in tensors.items()}
    save_file(doubled, tmp_path / LORA_WEIGHTS)
    name = "mid_block.attentions.0.proj_in.weight"
    own, once, twice = (editor.pipeline.unet.state_dict()[name] for editor in (
        plain(written), changed_by(written, written.lora[0]), changed_by(written, tmp_path)))
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
        changed_by(written, tmp_path)
    assert "\n" not in str(error.value)


def test_a_lora_on_an_editor_of_another_family(written, tmp_path):
    other = random_weights.write("zimage", tmp_path)
    with pytest.raises(UserError, match="does not fit the editor"):
        load_models(replace(written, editor=other.editor, decoder=()), device="cpu")


def test_a_lora_as_a_pickle_is_never_read(written, tmp_path):
    (tmp_path / "pytorch_lora_weights.bin").write_bytes(b"cos\nsystem\n")
    with pytest.raises(UserError, match="pickles"):
        load_models(replace(written, lora=(str(tmp_path),)), device="cpu")


def test_a_batch_knows_an_edit_by_its_lora_and_decoder_too(written, tmp_path):
    same, other = identity(written), tmp_path / LORA_WEIGHTS
    assert {"lora", "decoder"} <= same.keys()
    save_file({name: value * 2 for name, value in load_file(f"{written.lora[0]}/{LORA_WEIGHTS}").items()}, other)
    changed = identity(replace(written, lora=(str(tmp_path),)))
    assert {part for part in same if same[part] != changed[part]} == {"lora"}


def test_what_a_loras_header_says_beside_is_not_looked_at(written, tmp_path):
    """diffusers builds peft's configuration of it."""
    tensors = load_file(f"{written.lora[0]}/{LORA_WEIGHTS}")
    save_file(tensors, tmp_path / LORA_WEIGHTS, {"lora_adapter_metadata": json.dumps({"unet.r": 999, "unet.evil": 1})})
    found, same = (changed_by(written, folder).pipeline.unet.state_dict() for folder in (tmp_path, written.lora[0]))
    assert all(torch.equal(found[name], same[name]) for name in same)


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
    editor, _ = load_editor(profile.editor[0], "cpu", torch.bfloat16, decoder=load_decoder(profile.decoder[0])[0], size=64,
                            steps=2, guidance=1.0, batch=2)
    assert editor.decoder.dtype == torch.bfloat16
    found = editor.inpaint(torch.rand(3, 64, 64), torch.ones(1, 1, 64, 64), "a cat", seed=0, draft=True)
    assert found.isfinite().all()
    assert 0 <= found.min() <= found.max() <= 1


# The generic adapter


FAMILIES = ("zimage", "sd3", *(pytest.param(name, marks=pytest.mark.all) for name in ("sd3 without T5", "flux", "klein")))


class Editors(dict):
    """One of each family, from a folder as `save_pretrained` writes it; made when it is first asked for."""

    def __init__(self, root):
        super().__init__()
        self.root = root

    def __missing__(self, name):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            made = random_weights.pipeline(name, reduced=True) if name == "zimage" else random_parts.editor(name)
            made.save_pretrained(self.root / name)
        self[name], _ = load_editor(str(self.root / name), "cpu", torch.float32, size=64, steps=3, guidance=2.0, batch=3)
        return self[name]


@pytest.fixture(scope="module")
def editors(tmp_path_factory):
    return Editors(tmp_path_factory.mktemp("families"))


@pytest.mark.parametrize("name", FAMILIES)
def test_an_edit_is_what_the_pipeline_gives(name, editors):
    """Called as its own documentation does, for whole latents; its scale of guidance may be another."""
    editor, pipeline = editors[name], editors[name].pipeline
    image, mask = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0)), torch.zeros(1, 1, 64, 64)
    mask[..., 8:40, 16:56] = 1
    scale = {"zimage": {"guidance_scale": 1.0}, "flux": {"true_cfg_scale": 2.0, "negative_prompt": ""}}
    theirs = pipeline(
        prompt="a cat", image=image[None], mask_image=mask, height=64, width=64, strength=1.0, num_inference_steps=3,
        generator=torch.Generator().manual_seed(5), output_type="latent" if "sd3" in name else "pt",
        **scale.get(name, {"guidance_scale": 2.0})).images
    if "sd3" in name:  # as diffusers' pipeline from text to picture decodes
        config = pipeline.vae.config
        with torch.no_grad():
            theirs = pipeline.vae.decode(theirs / config.scaling_factor + config.shift_factor).sample
        theirs = (theirs / 2 + 0.5).clamp(0, 1)
    before = editor.evaluations
    assert torch.allclose(editor.inpaint(image, mask, "a cat", seed=5), theirs, atol=1e-5)
    assert editor.evaluations - before == 2 * 3
    editor.inpaint(image, mask, "a cat", seed=5, guidance=1.0)
    assert editor.evaluations - before == 3 * 3


@pytest.mark.parametrize("name", FAMILIES)
def test_edits_of_a_batch_are_kept_apart(name, editors):
    """Other pictures, prompts of other lengths, other masks: each as alone, from the same noise."""
    editor, images = editors[name], torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    masks, texts = torch.zeros(3, 1, 64, 64), ["a cat", "a very large dog in the snow", "a fox"]
    masks[0, :, 8:40, 8:40] = masks[1, :, 20:60, 0:64] = masks[2, :, :24, :16] = 1
    together = editor.inpaint(images, masks, texts, seed=2, steps=2)
    for i in range(3):
        alone = editor.inpaint(images[i], masks[i, None], texts[i], seed=2, steps=2)[0]
        assert torch.allclose(together[i], alone, atol=1e-4)
    for other in ({"prompt": "a dog"}, {"seed": 3}):
        changed = editor.inpaint(images[0], masks[:1], **{"prompt": "a cat", "seed": 2} | other, steps=2)[0]
        assert (changed - together[0])[:, 8:40, 8:40].abs().max() > 1e-3


@pytest.mark.parametrize("name", FAMILIES)
def test_every_pixel_of_a_mask_is_edited_and_none_outside(name, editors):
    editor = editors[name]
    image = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0))
    odd, whole = torch.zeros(2, 1, 64, 64)
    odd[:, 17:30, 9:23] = whole[:, 16:32, 8:24] = 1  # a latent is 8 pixels wide
    assert torch.equal(*(editor.inpaint(image, mask[None], "a cat", seed=0, steps=2) for mask in (odd, whole)))
    edited = editor.edit(image, [(9, 17, 23, 30)], "a cat", seed=0, steps=2)[0]
    assert torch.equal(edited[:, odd[0] == 0], image[:, odd[0] == 0])
    assert (edited != image).any(0)[odd[0] == 1].float().mean() > 0.9


@pytest.mark.parametrize("name", FAMILIES)
def test_a_size_that_the_pipeline_can_not_edit_is_refused(name, editors):
    with pytest.raises(UserError, match=r"multiple of (8|16) pixels, not 60"):
        type(editors[name])(editors[name].pipeline, 60, steps=1, guidance=1.0, batch=1)


@pytest.mark.parametrize(("name", "most"), [
    ("zimage", 480), ("sd3", 200), pytest.param("flux", 400, marks=pytest.mark.all),
    pytest.param("sd3 without T5", 70, marks=pytest.mark.all)])
def test_what_no_text_encoder_reads_is_said(name, most, editors):
    """Z-Image reads 512 tokens, here letters; SD 3's T5 256 and FLUX's 512; CLIP 77 pieces of words."""
    pipeline = editors[name].pipeline
    short = "a cat " * (most // (6 if "without" not in name else 2))
    assert truncated(pipeline, short) == ""
    assert truncated(pipeline, f"{short * 3}zebra").endswith("zebra")


def test_a_models_own_dialogue_is_never_run(editors, tmp_path):
    """It is a program; ours, written as Qwen's, takes its place."""
    editors["zimage"].pipeline.save_pretrained(tmp_path)
    (tmp_path / "tokenizer" / "chat_template.jinja").write_text("{{ evil }}")
    file = tmp_path / "tokenizer" / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"chat_template": "{{ evil }}"}))
    editor, _ = load_editor(str(tmp_path), "cpu", torch.float32, size=64, steps=1, guidance=1.0, batch=1)
    said = editor.pipeline.tokenizer.apply_chat_template(
        [{"role": "user", "content": "a cat"}], tokenize=False, add_generation_prompt=True, enable_thinking=True)
    assert said == "<|im_start|>user\na cat<|im_end|>\n<|im_start|>assistant\n"


def test_qwens_base_of_positions_is_taken_over(editors, tmp_path):
    """Published configurations have it as `rope_theta`, without which the text would be read in another order."""
    editors["zimage"].pipeline.save_pretrained(tmp_path)
    file = tmp_path / "text_encoder" / "config.json"
    config = json.loads(file.read_text())
    assert config.pop("rope_parameters")["rope_theta"] == 1000000
    file.write_text(json.dumps(config | {"rope_theta": 500000, "rope_scaling": None}))
    editor, _ = load_editor(str(tmp_path), "cpu", torch.float32, size=64, steps=1, guidance=1.0, batch=1)
    assert editor.pipeline.text_encoder.config.rope_parameters["rope_theta"] == 500000


@pytest.mark.parametrize(("change", "said"), [
    ({"transformer": ["diffusers", "QwenImageTransformer2DModel"]}, "QwenImageTransformer2DModel"),
    ({"text_encoder": ["transformers", "AutoModel"]}, "AutoModel"),
    ({"text_encoder": ["evil", "Qwen3Model"]}, "evil"),
    ({"_class_name": "QwenImagePipeline"}, "QwenImagePipeline"),
    ({"_class_name": "ZImageControlNetPipeline"}, "ZImageControlNetPipeline"),
])
def test_parts_that_are_not_driven_here_are_refused(change, said, editors, tmp_path):
    editors["zimage"].pipeline.save_pretrained(tmp_path)
    file = tmp_path / "model_index.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(UnavailableError, match=said):
        load_editor(str(tmp_path), "cpu", torch.float32, size=64, steps=1, guidance=1.0, batch=1)


def test_a_text_encoder_of_another_width_is_refused(editors, tmp_path):
    pipeline = editors["zimage"].pipeline
    pipeline.save_pretrained(tmp_path)
    config = random_weights.SMALL["qwen"] | {"hidden_size": 32}
    random_weights.Qwen3Model(random_weights.Qwen3Config(**config)).save_pretrained(tmp_path / "text_encoder")
    with pytest.raises(UserError, match="gives 32 numbers a token, the denoiser takes 24"):
        load_editor(str(tmp_path), "cpu", torch.float32, size=64, steps=1, guidance=1.0, batch=1)
