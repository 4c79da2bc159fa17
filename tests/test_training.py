"""The training loop resumes exactly, and each part's trainer writes what the package loads."""

import json
import os
import random
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import (
    AutoencoderKL,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionInstructPix2PixPipeline,
    UNet2DConditionModel,
)
from torch import nn
from transformers import CLIPTextModel

from lr_helpers import METHODS, Profile, UserError, edit, load_models
from lr_helpers.files.outputs import LEDGER, Output
from lr_helpers.files.paths import DATA
from tiny_world import judge, scenes, words
from tiny_world.__main__ import PARTS, main, parser
from tiny_world.zoo import clip, comparison, dino, inpainting, tokenizer, vae
from tiny_world.zoo import judge as judge_training
from tiny_world.zoo.training import cosine_rate, save_half, train


class StoppedError(Exception):
    """What a killed training raises here."""


def run(folder: Path, steps: int = 20, stop: int | None = None, **settings) -> dict[str, nn.Module]:
    """Train a line and a norm (which has buffers); returns the averaged weights that were exported last."""
    torch.manual_seed(1)
    modules = {"line": nn.Linear(3, 4), "norm": nn.BatchNorm1d(4)}
    exported = {}

    def loss_of(step: int) -> dict[str, torch.Tensor]:
        if step == stop:
            raise StoppedError
        x = torch.randn(16, 3, generator=torch.Generator().manual_seed(step))
        error = (modules["norm"](modules["line"](x)) - x.sum(1, keepdim=True)).square().mean()
        return {"loss": error, "one": torch.ones(())}

    def export(averaged: dict[str, nn.Module]) -> None:
        exported.update({k: {n: t.clone() for n, t in m.state_dict().items()} for k, m in averaged.items()})

    settings = {"rate": 1e-2, "every": 5, "log_every": 4, "export": export} | settings
    train(modules, loss_of, folder=folder, steps=steps, **settings)
    return exported


def equal(a, b) -> bool:
    """Same structure and the same bits."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(equal, a, b))
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


def last(folder: Path) -> dict:
    return torch.load(folder / "last.pt", weights_only=True)


def stopped(folder: Path, stop: int) -> None:
    with pytest.raises(StoppedError):
        run(folder, stop=stop)


def test_a_resumed_training_is_an_uninterrupted_one(tmp_path):
    whole = run(tmp_path / "whole")
    stopped(tmp_path / "parts", 8)
    assert last(tmp_path / "parts")["step"] == 5
    stopped(tmp_path / "parts", 17)
    assert last(tmp_path / "parts")["step"] == 15
    parts = run(tmp_path / "parts")
    assert equal(parts, whole)
    assert equal(last(tmp_path / "parts"), last(tmp_path / "whole"))
    assert last(tmp_path / "whole")["modules"]["norm"]["num_batches_tracked"] == 20
    assert last(tmp_path / "whole")["average"]["optimization_step"] == 20
    # a stop changes something where it isn't made good
    assert not equal(run(tmp_path / "short", steps=15), whole)


def test_a_finished_training_is_exported_again_without_a_step(tmp_path):
    first = run(tmp_path)
    again = run(tmp_path, stop=0)
    assert equal(first, again)


def test_a_write_cut_short_leaves_the_last_checkpoint(tmp_path):
    stopped(tmp_path, 8)
    if not os.fork():  # a training that is killed while it writes
        with Output(tmp_path, "training").change() as change:
            change.write("last.pt", b"half a file")
            os._exit(9)
    os.wait()
    assert list(tmp_path.glob(".*.tmp"))
    (tmp_path / "next.pt").write_bytes(b"somebody's")
    assert equal(run(tmp_path), run(tmp_path / "whole"))
    assert not list(tmp_path.glob(".*.tmp")) and (tmp_path / "next.pt").read_bytes() == b"somebody's"


def test_a_training_from_before_the_list_goes_on(tmp_path):
    stopped(tmp_path, 8)
    (tmp_path / LEDGER).unlink()
    assert equal(run(tmp_path), run(tmp_path / "whole"))


@pytest.mark.parametrize(("name", "content"), [
    ("last.pt", b"mine"), ("last.pt", b""), ("log.jsonl", b"mine\n"), ("log.jsonl", b"[1]\n"), ("log.jsonl", b"")])
def test_files_of_others_are_not_trained_over(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=rf"{name}.*move it away"):
        run(tmp_path)
    assert (tmp_path / name).read_bytes() == content


def test_a_checkpoint_of_something_else_is_not_trained_over(tmp_path):
    torch.save({"weights": torch.ones(2)}, tmp_path / "last.pt")
    with pytest.raises(UserError, match="is no checkpoint of a training; move it away"):
        run(tmp_path)


def test_logged_values_are_means_over_the_steps_since_the_last_line(tmp_path):
    stopped(tmp_path, 8)
    run(tmp_path, steps=18)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert {line["step"] for line in lines} == {4, 8, 12, 16, 18}
    assert [line["one"] for line in lines] == [1.0] * len(lines)


def test_training_lowers_the_loss_and_averages_the_weights(tmp_path):
    averaged = run(tmp_path, steps=300, log_every=10)
    losses = [json.loads(line)["loss"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert losses[-1] < 0.5 * losses[0]
    present = last(tmp_path)["modules"]
    assert not equal(averaged["line"], present["line"])
    assert torch.allclose(averaged["line"]["weight"], present["line"]["weight"], atol=0.2)


def test_the_average_is_the_one_of_its_formula(tmp_path):
    """Weights: s counts from 0, the decay is (1 + s) / (10 + s) up to the given one, and 0 at first. Buffers: as they are."""
    weights, exported = [], {}
    torch.manual_seed(1)
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))

    def loss_of(step: int) -> dict[str, torch.Tensor]:
        weights.append(module[0].weight.detach().double().clone())
        x = torch.randn(16, 3, generator=torch.Generator().manual_seed(step))
        return {"loss": (module(x) - 1).square().mean() + module[0].weight.square().sum()}

    def export(averaged: dict[str, nn.Module]) -> None:
        exported.update(averaged)
        assert not averaged["m"].training

    train({"m": module}, loss_of, folder=tmp_path, steps=30, rate=0.1, decay=0.6, export=export)
    present = module[0].weight.detach().double().clone()
    after = [*weights[1:], present]  # the weights after each update
    expected = after[0]
    for s, weight in enumerate(after[1:], start=1):
        decay = min(0.6, (1 + s) / (10 + s))
        expected = decay * expected + (1 - decay) * weight
    assert torch.allclose(exported["m"][0].weight.double(), expected, atol=1e-6)
    assert (expected - present).abs().max() > 1e-3
    assert (expected - after[0]).abs().max() > 1e-3
    assert exported["m"][1].num_batches_tracked == 30
    assert torch.equal(exported["m"][1].running_mean, module[1].running_mean)
    assert torch.equal(module[0].weight.double(), present)  # the weights that learn are left alone


def test_frozen_weights_are_copied(tmp_path):
    exported, frozen, learned = {}, nn.Linear(2, 2).requires_grad_(False), nn.Linear(2, 2)

    def loss_of(step: int) -> dict[str, torch.Tensor]:
        frozen.weight.fill_(step)  # as a teacher that follows by itself
        return {"loss": learned.weight.square().sum()}

    train({"frozen": frozen, "learned": learned}, loss_of, folder=tmp_path, steps=9, rate=0.1, export=exported.update)
    assert exported["frozen"].weight.tolist() == [[8.0, 8.0], [8.0, 8.0]]


def test_a_checkpoint_of_an_earlier_version_is_refused(tmp_path):
    run(tmp_path, steps=5)
    state = last(tmp_path)
    torch.save(state | {"average": state["modules"]}, tmp_path / "last.pt")  # as it was stored then
    before = (tmp_path / "last.pt").read_bytes()
    with pytest.raises(UserError, match=r"last\.pt is of an earlier version of this training; delete it"):
        run(tmp_path)
    assert (tmp_path / "last.pt").read_bytes() == before


@pytest.mark.parametrize("steps", [50, 1000, 9000])
def test_the_rate_warms_up_and_falls(steps):
    rates = [cosine_rate(s, steps) for s in range(steps)]
    assert min(rates) > 0
    assert max(rates) <= 1
    top = rates.index(max(rates))
    assert top <= 200
    assert rates[:top] == sorted(rates[:top])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    if steps > 200:
        assert max(rates) == 1
        assert rates[-1] == pytest.approx(0.02, abs=1e-3)
        assert cosine_rate((steps + 200) // 2, steps) == pytest.approx(0.51, abs=0.01)
    assert cosine_rate(10**6, steps) == pytest.approx(0.02)


def test_half_precision_is_stored_and_the_module_is_left_alone(tmp_path):
    torch.manual_seed(0)
    module = vae.build()
    save_half(module, tmp_path)
    assert next(module.parameters()).dtype == torch.float32
    assert [f.suffix for f in sorted(tmp_path.iterdir())] == [".json", ".safetensors"]
    stored = AutoencoderKL.from_pretrained(tmp_path, torch_dtype=torch.float32)
    assert torch.equal(stored.quant_conv.weight, module.quant_conv.weight.half().float())


# Parts of the trainings


@torch.no_grad()
def test_whitening_changes_latents_and_not_pictures():
    torch.manual_seed(3)
    autoencoder, pictures = vae.build().eval(), vae.batch(0, 32, 64)
    autoencoder.quant_conv.bias[:4] += torch.tensor([3.0, -2.0, 0.5, 10.0])
    autoencoder.quant_conv.weight[:4] *= torch.tensor([5.0, 0.2, 1.0, 2.0])[:, None, None, None]
    before = autoencoder.encode(pictures).latent_dist
    expected = autoencoder.decode(before.mode()).sample
    vae.whiten(autoencoder, pictures)
    after = autoencoder.encode(pictures).latent_dist
    mean, deviation = after.mode().mean((0, 2, 3)), after.mode().std((0, 2, 3))
    assert torch.allclose(mean, torch.zeros(4), atol=1e-3)
    assert torch.allclose(deviation, torch.ones(4), atol=1e-3)
    assert torch.allclose(autoencoder.decode(after.mode()).sample, expected, atol=1e-4)
    assert expected.std() > 1e-3
    # the noise of the posterior is scaled with its mean
    scale = before.mode().std((0, 2, 3))[:, None, None]
    assert torch.allclose(after.std * scale, before.std, rtol=1e-3)
    assert autoencoder.config.scaling_factor == 1


def test_sinkhorn_gives_every_prototype_its_share():
    scores = torch.rand(256, 8, generator=torch.Generator().manual_seed(0)) * 0.4
    scores[:, 0] += 0.5
    assert (scores / 0.05).softmax(1).mean(0)[0] > 0.95
    targets = dino.sinkhorn(scores)
    assert torch.allclose(targets.sum(1), torch.ones(256), atol=1e-5)
    assert (targets >= 0).all()
    shares = targets.mean(0) * 8
    assert shares.min() > 0.7
    assert shares.max() < 1.3
    # within a row the better prototype still wins more often than not
    best = (scores - scores.mean(0)).argmax(1)
    assert (targets.argmax(1) == best).float().mean() > 0.6


def test_sinkhorn_stands_extreme_scores():
    targets = dino.sinkhorn(torch.tensor([[1.0, -1.0], [1.0, -1.0], [-1.0, 1.0]]))
    assert targets.isfinite().all()


# Each trainer, one step


@pytest.fixture(scope="module")
def seeds():
    """The seeds of every `Random` that a trainer makes."""
    return []


@pytest.fixture(scope="module")
def zoo(tmp_path_factory, seeds):
    """A zoo of which every part was trained for one step, by the trainers themselves."""

    class Recorded(random.Random):
        def __init__(self, seed=None):
            seeds.append(seed)
            super().__init__(seed)

    root = tmp_path_factory.mktemp("training")
    out = root / "out"
    with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng(devices=[]):
        for module in (vae, inpainting, comparison, clip, dino, judge_training, scenes):
            patch.setattr(module, "Random", Recorded)
        scenes.scene(5)
        assert seeds == ["scene 5"]
        seeds.clear()
        shutil.copytree(DATA / "tiny_world" / "inpainting" / "vae", out / "inpainting" / "vae")
        inpainting.run(root / "inpainting", out, 1, 4, "cpu", examples=8)
        for name in comparison.KINDS:
            comparison.run(name, root / name, out, 1, 4, "cpu", examples=10)
        vae.run_decoder(root / "decoder", out, 1, 4, "cpu")
        vae.run(root / "vae", root / "other", 1, 4, "cpu")
        clip.run(root / "clip", out, 1, 8, "cpu")
        dino.run(root / "dino", out, 1, 8, "cpu")
        judge_training.run(root / "classifier", out, 1, 8, "cpu")
    return root, out


def test_no_trainer_draws_a_held_out_scene(zoo, seeds):
    drawn = {str(s).split()[0] for s in seeds}
    assert {"vae", "inpainting", "text_to_image", "instruct", "clip", "dino", "judge"} <= drawn
    assert "scene" not in drawn
    assert None not in seeds


def test_what_the_trainers_write_edits_a_picture(zoo, scene_picture):
    _, out = zoo
    profile = Profile(name="untrained", title="", size=64, steps=2, guidance=4.0, batch=8, backbone_size=64,
                      needs_gpu=False, editor=(str(out / "inpainting"),), backbone=(str(out / "dino"),), clip=(str(out / "clip"),))
    models = load_models(profile, device="cpu")
    scheduler = models.editor.pipeline.scheduler.config
    assert scheduler.prediction_type == "v_prediction"
    assert scheduler.rescale_betas_zero_snr
    method = METHODS["learned"].but(anchors=2, sizes=(0.4, 0.6), iterations=2)
    result = edit(models, scene_picture, "wolf", "a rabbit", method, progress=False)
    assert result.loss.isfinite().all()
    assert result.cost["denoiser_evaluations"] == result.cost["different_edits"] * 2 * 2


def test_the_comparison_models_run_in_their_pipelines(zoo):
    _, out = zoo
    vae_ = AutoencoderKL.from_pretrained(out / "inpainting" / "vae", torch_dtype=torch.float32)
    picture = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    for name, pipeline, channels, settings in (
            ("text_to_image", StableDiffusionImg2ImgPipeline, 4, {"strength": 0.6}),
            ("instruct", StableDiffusionInstructPix2PixPipeline, 8, {"image_guidance_scale": 1.5})):
        made = pipeline.from_pretrained(out / name, vae=vae_, torch_dtype=torch.float32)
        assert made.unet.config.in_channels == channels
        assert made.text_encoder.get_input_embeddings().num_embeddings == len(made.tokenizer)
        result = made("turn the cat into a car", image=picture, num_inference_steps=4, output_type="pt", **settings)
        assert result.images.shape == (1, 3, 64, 64)
        assert result.images.isfinite().all()


@pytest.mark.parametrize("name", comparison.KINDS)
def test_the_comparison_models_start_from_the_editor(name):
    """With its middle taken out, the editor says the same: of no mask, or, without a picture to see, of all masked."""
    source = DATA / "tiny_world" / "inpainting"
    editor = UNet2DConditionModel.from_pretrained(source / "unet", torch_dtype=torch.float32)
    unet, draw = comparison.build_unet(comparison.KINDS[name].channels), torch.Generator().manual_seed(1)
    grey = torch.randn(4, generator=draw)
    comparison.start_unet(unet, editor, grey)
    noisy, picture, text = (torch.randn(2, *shape, generator=draw) for shape in ((4, 16, 16), (4, 16, 16), (5, 128)))
    masked = name == "text_to_image"
    if masked:
        picture = grey[None, :, None, None].expand(2, 4, 16, 16)
    theirs = torch.cat([noisy, torch.full((2, 1, 16, 16), float(masked)), picture], 1)
    mine = noisy if masked else torch.cat([noisy, picture], 1)
    with torch.no_grad():
        inside = slice(None), slice(None), slice(1, -1), slice(1, -1)  # beyond the edge the editor sees no mask
        assert torch.allclose(unet.conv_in(mine)[inside], editor.conv_in(theirs)[inside], atol=1e-4)
        editor.mid_block = None
        editor.down_blocks[2].attentions[0].forward = lambda hidden, *_, **__: (hidden,)
        editor.conv_in.forward = unet.conv_in.forward
        times = torch.tensor([900, 100])
        assert torch.allclose(unet(mine, times, text).sample, editor(mine, times, text).sample, atol=1e-5)


def test_instructions_lead_from_one_scene_to_the_other():
    rng, kinds = random.Random("instructions"), set()
    known = set(words.vocabulary(words.INSTRUCTION_WORDS))
    for _ in range(400):
        one = comparison.instruction_example(rng)
        before, after = ({o.name for o in r.objects} for r in (one.before, one.after))
        assert set(one.text.split()) <= known, one.text
        gone, new = before - after, after - before
        kinds.add((len(gone), len(new)))
        change = one.before.render().astype(int) - one.after.render()
        differs = abs(change).max(2) > 128  # a box leaves out what is less than a fourth opaque
        for x0, y0, x1, y1 in one.boxes:
            differs[y0:y1, x0:x1] = False
        assert not differs.any()
        for recipe in (one.before, one.after):
            assert not any(words.held_out(o.name, recipe.place) for o in recipe.objects)
    assert kinds == {(1, 1), (0, 1), (1, 0)}


def test_a_text_encoder_with_more_words_starts_from_the_editors():
    source = DATA / "tiny_world" / "inpainting"
    editor = CLIPTextModel.from_pretrained(source / "text_encoder", torch_dtype=torch.float32)
    few, many = tokenizer.build(), tokenizer.build(words.vocabulary(words.INSTRUCTION_WORDS))
    encoder = inpainting.build_text_encoder(many)
    comparison.start_text_encoder(encoder, many, editor, few)
    said = "a white rabbit on the grass"
    with torch.no_grad():
        mine, theirs = (m(**t(said, padding="max_length", return_tensors="pt")).last_hidden_state
                        for m, t in ((encoder, many), (editor, few)))
    assert torch.allclose(mine, theirs, atol=1e-5)


def test_the_written_judge_names_crops(zoo):
    _, out = zoo
    named = judge.load(out / "classifier").name(torch.rand(2, 3, 64, 64), [(0, 0, 20, 20), (30, 10, 64, 60)])
    assert set(named) <= {*scenes.NAMES, "nothing"}


def test_sharpening_the_decoder_keeps_the_encoder(zoo):
    _, out = zoo
    shipped = AutoencoderKL.from_pretrained(DATA / "tiny_world" / "inpainting" / "vae").state_dict()
    sharpened = AutoencoderKL.from_pretrained(out / "inpainting" / "vae").state_dict()
    kept = {k for k in shipped if torch.equal(shipped[k], sharpened[k])}
    assert {k for k in shipped if k.startswith(("encoder.", "quant_conv."))} <= kept
    assert any(k.startswith("decoder.") for k in shipped.keys() - kept)


def test_a_new_autoencoder_is_whitened(zoo):
    root, _ = zoo
    stored = AutoencoderKL.from_pretrained(root / "other" / "inpainting" / "vae", torch_dtype=torch.float32)
    with torch.no_grad():
        latents = stored.encode(vae.batch(-1, 32, 64)).latent_dist.mode()
    assert latents.std((0, 2, 3)).tolist() == pytest.approx([1] * 4, abs=0.25)


@pytest.mark.filterwarnings("ignore")
def test_one_part_is_trained_by_the_command_line(tmp_path, capsys):
    folders = ["--runs", str(tmp_path / "runs"), "--output", str(tmp_path)]
    arguments = ["train", "--part", "classifier", "--batch", "8", *folders]
    main([*arguments, "--steps", "1"])
    assert (tmp_path / "classifier" / "model.safetensors").is_file()
    assert last(tmp_path / "runs" / "classifier")["step"] == 1
    main([*arguments, "--steps", "2"])
    out = capsys.readouterr().out
    assert "resumed at step 1 of 2" in out
    assert "min left" in out
    assert last(tmp_path / "runs" / "classifier")["step"] == 2
    with pytest.raises(SystemExit):
        parser().parse_args(["train", "--part", "everything"])
    assert {"vae", "inpainting", "clip", "dino", "classifier"} <= PARTS.keys()


def test_the_shipped_judge_names_the_objects_of_held_out_scenes():
    recipes = [scenes.scene(s, 1) for s in range(60)]
    pictures = torch.stack([torch.from_numpy(r.render()).permute(2, 0, 1) / 255 for r in recipes])
    named = judge.load().name(pictures, [r.objects[0].box for r in recipes])
    assert sum(n == r.objects[0].name for n, r in zip(named, recipes, strict=True)) >= 57
    empty = torch.stack([torch.from_numpy(r.removed(0).render()).permute(2, 0, 1) / 255 for r in recipes])
    named = judge.load().name(empty, [r.objects[0].box for r in recipes])
    assert named.count("nothing") >= 54
