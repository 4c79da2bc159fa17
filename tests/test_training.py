"""The training loop resumes exactly, and each part's trainer writes what the package loads."""

import json
import os
import random
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

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
from lr_helpers.authoring import docs_tables
from lr_helpers.files.outputs import LEDGER, Output
from lr_helpers.models.profiles import get_profile
from lr_helpers.study import zoo as zoo_study
from tiny_world import SIZE, judge, scenes, words
from tiny_world.__main__ import NEEDS, PARTS, main, parser
from tiny_world.sprites import HELD_OUT_STYLE
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
    module = vae.build(vae.CHANNELS)
    save_half(module, tmp_path)
    assert next(module.parameters()).dtype == torch.float32
    assert [f.suffix for f in sorted(tmp_path.iterdir())] == [".json", ".safetensors"]
    stored = AutoencoderKL.from_pretrained(tmp_path, torch_dtype=torch.float32)
    assert torch.equal(stored.quant_conv.weight, module.quant_conv.weight.half().float())


# Parts of the trainings


@torch.no_grad()
def test_whitening_changes_latents_and_not_pictures():
    torch.manual_seed(3)
    autoencoder, pictures = vae.build(vae.CHANNELS).eval(), vae.batch(0, 32, 64)
    autoencoder.quant_conv.bias[:4] += torch.tensor([3.0, -2.0, 0.5, 10.0])
    autoencoder.quant_conv.weight[:4] *= torch.tensor([5.0, 0.2, 1.0, 2.0])[:, None, None, None]
    before = autoencoder.encode(pictures).latent_dist
    expected = autoencoder.decode(before.mode()).sample
    vae.whiten(autoencoder, pictures)
    after = autoencoder.encode(pictures).latent_dist
    mean, deviation = after.mode().mean((0, 2, 3)), after.mode().std((0, 2, 3))
    assert torch.allclose(mean, torch.zeros(vae.CHANNELS), atol=1e-3)
    assert torch.allclose(deviation, torch.ones(vae.CHANNELS), atol=1e-3)
    assert torch.allclose(autoencoder.decode(after.mode()).sample, expected, atol=1e-4)
    assert expected.std() > 1e-3
    # the noise of the posterior is scaled with its mean
    scale = before.mode().std((0, 2, 3))[:, None, None]
    assert torch.allclose(after.std * scale, before.std, rtol=1e-3)
    assert autoencoder.config.scaling_factor == 1


@pytest.fixture(scope="module")
def wide():
    """An autoencoder of 12 channels after a few steps, pictures, and their latents."""
    torch.manual_seed(3)
    autoencoder, pictures = vae.build(), vae.batch(0, 24, 32)
    optimiser = torch.optim.AdamW(autoencoder.parameters(), lr=1e-3)
    for step in range(12):
        batch = vae.batch(step, 4, 32)
        loss = vae.reconstruction_loss(autoencoder.decode(autoencoder.encode(batch).latent_dist.mode()).sample, batch)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return autoencoder.eval(), pictures


@torch.no_grad()
def latents_of(autoencoder: AutoencoderKL, pictures: torch.Tensor) -> torch.Tensor:
    return autoencoder.encode(pictures).latent_dist.mode()


def correlations(latents: torch.Tensor) -> torch.Tensor:
    """(C, C) of the channels, without each one's with itself."""
    return torch.corrcoef(latents.transpose(0, 1).flatten(1)) - torch.eye(latents.shape[1])


@torch.no_grad()
def test_the_basis_of_the_latents_tells_directions_apart(wide):
    """Channels are not correlated, each is worth what its deviation says, and none drowns the others."""
    autoencoder, pictures = wide
    matrix, mean = vae.basis(autoencoder, pictures)
    latents = latents_of(autoencoder, pictures)
    assert correlations(latents).abs().max() > 0.3  # there is something to be told apart
    found = torch.einsum("kc,nchw->nkhw", matrix, latents - mean[:, None, None])
    deviations = found.transpose(0, 1).flatten(1).std(1, correction=0)
    assert found.mean((0, 2, 3)).abs().max() < 0.02 and float(deviations.square().mean()) == pytest.approx(1, abs=0.02)
    assert correlations(found).abs().max() < 0.05
    # leave each direction out: the more it changes the pictures, the larger its deviation
    back, there, worth = torch.linalg.inv(matrix), autoencoder.decode(latents).sample, []
    for k in range(vae.WIDE):
        less = found.clone()
        less[:, k] = 0
        said = autoencoder.decode(torch.einsum("ck,nkhw->nchw", back, less) + mean[:, None, None]).sample
        worth.append(float((said - there).square().mean().sqrt()))
    assert float(torch.corrcoef(torch.stack([torch.tensor(worth).sqrt(), deviations]))[0, 1]) > 0.9


@torch.no_grad()
def test_a_narrow_autoencoder_keeps_what_is_worth_most(wide):
    autoencoder, pictures = wide
    there, errors = autoencoder.decode(latents_of(autoencoder, pictures)).sample, {}
    for channels in (1, vae.CHANNELS, vae.WIDE):
        narrow = vae.narrow(autoencoder, pictures, channels).eval()
        assert narrow.config.latent_channels == channels
        posterior = narrow.encode(pictures).latent_dist
        latents = posterior.mode()
        assert latents.shape == (24, channels, 4, 4) and posterior.std.max() < 0.02
        assert latents.mean((0, 2, 3)).abs().max() < 0.01
        assert (latents.std((0, 2, 3)) - 1).abs().max() < 0.01
        assert channels == 1 or correlations(latents).abs().max() < 0.05
        errors[channels] = float((narrow.decode(latents).sample - there).square().mean())
        if channels == vae.WIDE:  # all that the decoder takes in is there, but for its border, which is padded with 0
            mine, theirs = (a.decoder.conv_in(a.post_quant_conv(a.encode(pictures).latent_dist.mode()))
                            for a in (narrow, autoencoder))
            assert torch.allclose(mine[:, :, 1:-1, 1:-1], theirs[:, :, 1:-1, 1:-1], atol=1e-4)
        for convolution in (narrow.quant_conv, narrow.post_quant_conv):  # folded into their neighbours
            assert torch.equal(convolution.weight[..., 0, 0], torch.eye(len(convolution.weight)))
    assert max(errors[vae.WIDE], errors[vae.CHANNELS]) < 0.5 * errors[1]
    # as many other directions are further away, of those tried: the last ones, and some good ones with the last
    matrix, mean = vae.basis(autoencoder, pictures)
    found = torch.einsum("kc,nchw->nkhw", matrix, latents_of(autoencoder, pictures) - mean[:, None, None])
    order, some = found.std((0, 2, 3)).argsort(descending=True), vae.CHANNELS
    for others in (order[-some:], torch.cat([order[2:some], order[-2:]])):
        less = torch.zeros_like(found)
        less[:, others] = found[:, others]
        said = torch.einsum("ck,nkhw->nchw", torch.linalg.inv(matrix), less) + mean[:, None, None]
        assert float((autoencoder.decode(said).sample - there).square().mean()) > errors[vae.CHANNELS]


def test_a_critic_tells_a_blur_from_the_picture():
    critic, pictures = judge.load(), vae.batch(0, 8, 64)
    blurred = torch.nn.functional.avg_pool2d(pictures, 5, 1, 2)
    found = [float(vae.feature_loss(critic, other, pictures).detach()) for other in (pictures, 0.5 * (pictures + blurred), blurred)]
    assert found[0] < 1e-6 < found[1] < found[2]


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


# Each trainer, one step and then another


@pytest.fixture(scope="module")
def seeds():
    """The seeds of every `Random` that a trainer makes."""
    return []


RUNS = {
    "critic": partial(judge_training.run_critic, size=8),
    "wide_vae": partial(vae.run_wide, size=1),
    "vae": partial(vae.run, size=1),
    "inpainting": partial(inpainting.run, size=4, shelves=1, examples=8),
    "text_to_image": partial(comparison.run, "text_to_image", size=4, examples=10),
    "instruct": partial(comparison.run, "instruct", size=4, examples=10),
    "decoder": partial(vae.run_decoder, size=1),
    "clip": partial(clip.run, size=8, count=12),
    "clip_alike": partial(clip.run_alike, size=8, count=12),
    "dino": partial(dino.run, size=8),
    "dino_whole": partial(dino.run_whole, size=4),
    "classifier": partial(judge_training.run, size=8),
}
"""Each part's trainer at a tiny size, in an order in which each finds what it begins with."""


@pytest.fixture(scope="module")
def zoo(tmp_path_factory, seeds):
    """A zoo of which every part was trained for one step, and then resumed for another, by the trainers themselves."""

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
        patch.setattr(vae, "SIZE", 64)  # the autoencoder's whole pictures: a corner of each does here
        for steps in (1, 2):
            for part, run_part in RUNS.items():
                run_part(folder=root / part, out=out, steps=steps, device="cpu")
    return root, out


def test_every_part_is_trained_and_resumed(zoo):
    root, _ = zoo
    assert set(RUNS) == set(PARTS)
    for part in PARTS:
        log = [json.loads(line) for line in (root / part / "log.jsonl").read_text(encoding="utf-8").splitlines()]
        assert [line["step"] for line in log] == [1, 2], part
        assert all(torch.isfinite(torch.tensor(value)) for line in log for value in line.values()), part
        assert last(root / part)["step"] == 2


def test_examples_of_another_autoencoder_are_encoded_anew(tmp_path):
    made = []
    one, other = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    for network in (one, one, other, one):
        found = inpainting.kept(tmp_path, "64_0", network, lambda own=network: made.append(own) or {"x": own.weight.detach()})
        assert torch.equal(found["x"], network.weight)
    assert made == [one, other] and not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize("part", NEEDS)
def test_a_part_that_goes_on_says_from_what(part, tmp_path, capsys):
    for name, before in NEEDS[part].items():
        with pytest.raises(SystemExit) as stopped:
            main(["train", "--part", part, "--steps", "1", "--output", str(tmp_path / "out"), "--runs", str(tmp_path / "runs")])
        said = capsys.readouterr().err
        assert stopped.value.code == 2 and said.count("\n") == 1, said
        assert f"{name} is missing" in said and f"train --part {before} first" in said and before in PARTS
        (tmp_path / "out" / name).mkdir(parents=True)
    assert not (tmp_path / "runs").exists()


def test_the_parts_are_listed_in_an_order_in_which_each_finds_what_it_needs():
    done = []
    for part in PARTS:
        assert set(NEEDS.get(part, {}).values()) <= set(done), part
        done.append(part)


def test_no_trainer_draws_a_held_out_scene(zoo, seeds):
    drawn = {str(s).split()[0] for s in seeds}
    assert {"vae", "inpainting", "text_to_image", "instruct", "clip", "dino", "judge"} <= drawn
    assert "scene" not in drawn
    assert None not in seeds


def untrained(out: Path, steps: int) -> Profile:
    """The profile tiny, but of these weights."""
    tiny = get_profile("tiny")
    comparison_parts = {name: replace(tiny.comparison[name], origins=(str(out / name),)) for name in comparison.KINDS}
    return replace(tiny, name="untrained", steps=steps, editor=(str(out / "inpainting"),), backbone=(str(out / "dino"),),
                   clip=(str(out / "clip"),), comparison={**tiny.comparison, **comparison_parts})


def test_what_the_trainers_write_edits_a_picture(zoo, scene_picture):
    _, out = zoo
    models = load_models(untrained(out, steps=2), device="cpu")
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
    picture = torch.rand(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    for name, pipeline, channels, settings in (
            ("text_to_image", StableDiffusionImg2ImgPipeline, vae.CHANNELS, {"strength": 0.6}),
            ("instruct", StableDiffusionInstructPix2PixPipeline, 2 * vae.CHANNELS, {"image_guidance_scale": 1.5})):
        made = pipeline.from_pretrained(out / name, vae=vae_, torch_dtype=torch.float32)
        assert made.unet.config.in_channels == channels
        assert made.text_encoder.get_input_embeddings().num_embeddings == len(made.tokenizer)
        result = made("turn the cat into a car", image=picture, num_inference_steps=4, output_type="pt", **settings)
        assert result.images.shape == (1, 3, SIZE, SIZE)
        assert result.images.isfinite().all()


@pytest.mark.parametrize("name", comparison.KINDS)
def test_the_comparison_models_start_from_the_editor(name, zoo):
    """With its middle taken out, the editor says the same: of no mask, or, without a picture to see, of all masked."""
    _, out = zoo
    editor, c = UNet2DConditionModel.from_pretrained(out / "inpainting" / "unet", torch_dtype=torch.float32), vae.CHANNELS
    unet, draw = comparison.build_unet(comparison.KINDS[name].channels), torch.Generator().manual_seed(1)
    grey = torch.randn(c, generator=draw)
    comparison.start_unet(unet, editor, grey)
    noisy, picture, text = (torch.randn(2, *shape, generator=draw) for shape in ((c, 16, 16), (c, 16, 16), (5, 128)))
    masked = name == "text_to_image"
    if masked:
        picture = grey[None, :, None, None].expand(2, c, 16, 16)
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
    for _ in range(200):
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


def test_a_text_encoder_with_more_words_starts_from_the_editors(zoo):
    _, out = zoo
    editor = CLIPTextModel.from_pretrained(out / "inpainting" / "text_encoder", torch_dtype=torch.float32)
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
    root, out = zoo
    begun, sharpened = (AutoencoderKL.from_pretrained(folder, torch_dtype=torch.float32).state_dict()
                        for folder in (root / "decoder" / "start", out / "inpainting" / "vae"))
    # the second run of `vae` came between: what `decoder` began with is its own copy
    kept = {k for k in begun if torch.equal(begun[k], sharpened[k])}
    assert {k for k in begun if k.startswith(("encoder.", "quant_conv."))} <= kept
    assert any(k.startswith("decoder.") for k in begun.keys() - kept)


def test_autoencoders_are_whitened(zoo):
    _, out = zoo
    for folder, channels in ((out / "wide", vae.WIDE), (out / "inpainting" / "vae", vae.CHANNELS)):
        stored = AutoencoderKL.from_pretrained(folder, torch_dtype=torch.float32)
        with torch.no_grad():
            latents = stored.encode(vae.batch(-1, 24, 64)).latent_dist.mode()
        assert latents.shape[1] == channels and stored.config.scaling_factor == 1
        assert latents.std((0, 2, 3)).tolist() == pytest.approx([1] * channels, abs=0.25)


def test_the_critic_is_another_judge(zoo):
    _, out = zoo
    mine, critics = (judge.load(out / name).state_dict() for name in ("classifier", "critic"))
    assert mine.keys() == critics.keys()
    assert not any(torch.equal(mine[name], critics[name]) for name in mine if mine[name].ndim == 4)


def test_the_study_measures_every_part(zoo, tmp_path, capsys, monkeypatch):
    _, out = zoo
    models = load_models(untrained(out, steps=1), device="cpu")
    monkeypatch.setattr(zoo_study, "load_models", lambda *_: models)
    monkeypatch.setattr(zoo_study, "NAMES", words.NAMES[:6])  # of the grid of all objects, six
    found = zoo_study.run(2, 2, tmp_path / "METRICS.json", tmp_path / "grids")
    assert list(found) == [*zoo_study.PARTS, "megabytes"]
    assert json.loads((tmp_path / "METRICS.json").read_text(encoding="utf-8")) == found
    assert {file.stem for file in (tmp_path / "grids").glob("*.png")} == set(zoo_study.GRIDS)
    said = capsys.readouterr().out
    for group in zoo_study.GROUPS:
        assert f"names objects, {group}" in said and found["vae"][f"reconstruction PSNR dB, {group}"]["count"] == 2
    assert found["editor"]["pasted edit exact outside the box, replace, training styles"]["value"] == 1
    # docs/tiny_world.md has all of it: each row of its table is measured, on the kinds of scenes that are its columns
    assert list(docs_tables.SCENES) == list(zoo_study.GROUPS)
    table = docs_tables.BLOCKS["zoo"](SimpleNamespace(zoo=found)).splitlines()
    assert len(table) == 2 + len(docs_tables.ZOO) and all(line.split("|")[3].strip() for line in table)
    assert len([line for line in table if "its autoencoder" in line and line.count(" dB [") == 4]) == 1


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


def test_the_shipped_judge_names_the_objects_of_held_out_scenes():
    recipes = [scenes.scene(s, 1) for s in range(60)]
    pictures = torch.stack([torch.from_numpy(r.render()).permute(2, 0, 1) / 255 for r in recipes])
    named = judge.load().name(pictures, [r.objects[0].box for r in recipes])
    assert sum(n == r.objects[0].name for n, r in zip(named, recipes, strict=True)) >= 57
    empty = torch.stack([torch.from_numpy(r.removed(0).render()).permute(2, 0, 1) / 255 for r in recipes])
    named = judge.load().name(empty, [r.objects[0].box for r in recipes])
    assert named.count("nothing") >= 54


@pytest.mark.parametrize("kind", ["empty", "replace"])
def test_cases_of_the_study_lie_on_held_out_ground(kind):
    for recipe, box, name in zoo_study.cases(kind, 20, "held-out textures"):
        assert recipe.place in words.HELD_OUT_TEXTURES
        assert name not in {o.name for o in recipe.objects}
        inside = [o for o in recipe.objects if judge.overlap_share(o.box, box) > 0.9]
        assert (len(inside) >= 1) == (kind == "replace")


def test_groups_of_the_study_are_drawn_in_known_and_held_out_styles():
    recipe, seed = scenes.scene(scenes.TEST_SEEDS[3]), 3
    there = {name: change(recipe, seed) for name, change in zoo_study.GROUPS.items()}
    assert there["training styles"] == recipe and zoo_study.FIRST_SEED in scenes.TEST_SEEDS
    for name, other in there.items():
        assert ({o.style for o in other.objects} == {HELD_OUT_STYLE}) == ("style" in name and "held-out" in name)
        assert (other.place in words.HELD_OUT_TEXTURES) == ("texture" in name)
        assert [(o.name, o.x, o.y, o.size) for o in other.objects] == [(o.name, o.x, o.y, o.size) for o in recipe.objects]
    first = zoo_study.FIRST_SEED
    assert list(zoo_study.scenes(3)) == [(first + i, scenes.scene(first + i)) for i in range(3)]
