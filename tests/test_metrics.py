"""PIE-Bench's metrics: each against a value computed by hand or by an independent formula."""

import math
import pickle
import urllib.request
from importlib.resources import files
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from torch.nn import functional as F
from torchvision.models import squeezenet1_1

from lr_helpers.costs import random_weights
from lr_helpers.errors import UserError
from lr_helpers.models.encoders import Backbone
from lr_helpers.models.profiles import MEASURES, PROFILES
from lr_helpers.study import metrics
from lr_helpers.study.metrics import (
    METRICS,
    background,
    background_lpips,
    clip_similarity,
    load_measures,
    lpips_network,
    self_similarity,
    structure_distance,
)


def noise(seed: int, size: int = 64) -> torch.Tensor:
    return torch.rand(3, size, size, generator=torch.Generator().manual_seed(seed))


def left_half(size: int = 64) -> torch.Tensor:
    mask = torch.zeros(size, size)
    mask[:, :size // 2] = 1
    return mask


@pytest.fixture(scope="module")
def vit() -> Backbone:
    """DINO ViT-B/8's class at reduced width with random weights, seen at 32."""
    torch.manual_seed(0)
    return Backbone(random_weights.backbone("sd2", reduced=True), (0.4, 0.5, 0.6), (0.2, 0.3, 0.4), 32)


@pytest.fixture
def squeezenet(tmp_path, monkeypatch) -> dict[str, torch.Tensor]:
    """SqueezeNet with random weights in torch's cache, where torchvision would have put the trained one."""
    torch.manual_seed(1)
    weights = squeezenet1_1(weights=None).state_dict()
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    torch.save(weights, tmp_path / "hub" / "checkpoints" / "squeezenet1_1-b8a52dc0.pth")
    return weights


@pytest.fixture
def no_network(tmp_path, monkeypatch):
    """An empty torch cache, and a proxy at whose port nobody listens."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(urllib.request, "_opener", None)  # made once, with the proxies of whoever asked first
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    return tmp_path / "hub" / "checkpoints"


# Structure distance


def test_self_similarity_by_hand():
    keys = torch.tensor([[3.0, 0.0], [0.0, 2.0], [1.0, 1.0], [0.0, 0.0]])
    r = 1 / math.sqrt(2)
    expected = torch.tensor([[1, 0, r, 0], [0, 1, r, 0], [r, r, 1, 0], [0, 0, 0, 0]])  # keys of length 0 give no NaN
    assert torch.allclose(self_similarity(keys), expected, atol=1e-6)


@pytest.mark.parametrize("scale", [255.0, 1.0])
def test_structure_distance_from_the_weights_themselves(vit, scale):
    """The keys recomputed with numpy from the last block's input, [CLS] included, on pixels of 0..255 or 0..1."""
    def similarities(picture: torch.Tensor) -> np.ndarray:
        mean, std = (torch.tensor(v)[:, None, None] for v in ((0.4, 0.5, 0.6), (0.2, 0.3, 0.4)))
        with torch.no_grad():
            out = vit.vit((scale * picture - mean)[None] / std, output_hidden_states=True, interpolate_pos_encoding=True)
        weights = {k.split("layers.")[-1]: v.double().numpy() for k, v in vit.vit.state_dict().items()}
        last = max(int(k.split(".")[0]) for k in weights if k[0].isdigit())
        x = out.hidden_states[last][0].double().numpy()  # what enters the last block
        x = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-12)
        x = x * weights[f"{last}.layernorm_before.weight"] + weights[f"{last}.layernorm_before.bias"]
        keys = x @ weights[f"{last}.attention.k_proj.weight"].T + weights[f"{last}.attention.k_proj.bias"]
        assert len(keys) == 1 + (32 // 8) ** 2
        keys /= np.linalg.norm(keys, axis=1, keepdims=True)
        return keys @ keys.T

    before, after = noise(0, 32), noise(1, 32)
    expected = np.square(similarities(before) - similarities(after)).mean()
    assert expected > 1e-6
    assert structure_distance(vit, before, after, scale) == pytest.approx(expected, rel=1e-3)
    assert structure_distance(vit, before, before, scale) == 0


def test_keys_leave_no_hook_behind_and_the_scale_matters(vit):
    before = [len(m._forward_hooks) for m in vit.vit.modules()]
    bright, plain = vit.keys(noise(0, 32), 255.0), vit.keys(noise(0, 32))
    assert [len(m._forward_hooks) for m in vit.vit.modules()] == before
    assert bright.shape == plain.shape == (17, vit.vit.config.hidden_size)
    assert not torch.allclose(bright, plain, atol=1e-3)


def test_larger_pictures_are_resized_as_the_benchmark_did(vit):
    picture = noise(2, 64)
    small = F.interpolate(picture[None], size=(32, 32), mode="bilinear", antialias=False)[0]
    assert torch.allclose(vit.keys(picture), vit.keys(small), atol=1e-6)


# Background


def test_background_of_flat_pictures_by_hand():
    before, after = torch.full((3, 16, 16), 0.5), torch.full((3, 16, 16), 0.7)
    found = background(before, after, left_half(16))
    # Half of the pixels are 0 in both, half differ by 0.2: all of them count.
    assert found["mse"] == pytest.approx(0.5 * 0.04)
    assert found["psnr"] == pytest.approx(-10 * math.log10(0.02), abs=1e-4)
    whole = background(before, after, torch.zeros(16, 16))
    assert whole["mse"] == pytest.approx(0.04) and whole["psnr"] == pytest.approx(13.9794, abs=1e-3)
    # Without variance SSIM is its luminance term alone, c1 = 0.01².
    assert whole["ssim"] == pytest.approx((2 * 0.5 * 0.7 + 1e-4) / (0.25 + 0.49 + 1e-4), abs=1e-5)


def test_background_ssim_by_its_formula():
    """Windows of 11×11 with Gaussian weights (σ = 1.5) around every pixel, the picture mirrored at its edges."""
    before, after = noise(3, 20).double(), (0.7 * noise(3, 20) + 0.3 * noise(4, 20)).double()
    mask = left_half(20).double()
    line = np.exp(-np.square(np.arange(-5, 6)) / (2 * 1.5 ** 2))
    kernel = np.outer(line, line) / line.sum() ** 2

    def blur(x):
        padded = np.pad(x, ((0, 0), (5, 5), (5, 5)), mode="reflect")
        windows = np.lib.stride_tricks.sliding_window_view(padded, (11, 11), axis=(1, 2))
        return (windows * kernel).sum((-2, -1))

    a, b = ((p * (1 - mask)).numpy() for p in (before, after))
    ma, mb = blur(a), blur(b)
    va, vb, cov = blur(a * a) - ma**2, blur(b * b) - mb**2, blur(a * b) - ma * mb
    expected = ((2 * ma * mb + 1e-4) * (2 * cov + 9e-4) / ((ma**2 + mb**2 + 1e-4) * (va + vb + 9e-4))).mean()
    assert background(before.float(), after.float(), mask.float())["ssim"] == pytest.approx(expected, abs=1e-4)


def test_background_of_the_same_picture_and_of_none():
    picture, mask = noise(5), left_half()
    assert background(picture, picture, mask) == {"psnr": math.inf, "mse": 0, "ssim": pytest.approx(1, abs=1e-5)}
    nothing = background(picture, noise(6), torch.ones(64, 64))
    assert set(nothing) == {"psnr", "mse", "ssim"} and all(math.isnan(v) for v in nothing.values())


def test_what_happens_inside_the_mask_does_not_matter():
    before, mask = noise(7), left_half()
    edit = torch.where(mask > 0, noise(8), before)
    assert background(before, edit, mask)["psnr"] == math.inf
    assert background(before, edit, 1 - mask)["psnr"] < 20


# LPIPS


def test_lpips_by_its_formula(squeezenet):
    """Features normalised over channels, squared differences weighted by the shipped heads, averaged over places."""
    before, after, mask = noise(9), noise(10), left_half()
    net = squeezenet1_1(weights=None)
    net.load_state_dict(squeezenet)
    heads = torch.load(files("torchmetrics.functional.image") / "lpips_models" / "squeeze.pth", map_location="cpu")
    shift, scale = (torch.tensor(v)[:, None, None] for v in ((-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)))

    def layers(picture: torch.Tensor) -> list[torch.Tensor]:
        x, found = ((2 * picture * (1 - mask) - 1 - shift) / scale)[None], []
        for i, layer in enumerate(net.features):
            x = layer(x)
            if i in (1, 4, 7, 9, 10, 11, 12):
                found.append(x / x.square().sum(1, keepdim=True).add(1e-8).sqrt())
        return found

    with torch.no_grad():
        expected = sum(float(((a - b).square() * heads[f"lin{i}.model.1.weight"]).sum(1).mean())
                       for i, (a, b) in enumerate(zip(layers(before), layers(after), strict=True)))
    lpips = lpips_network()
    assert expected > 0.01
    for _ in range(2):  # nothing is left over from the last call
        assert background_lpips(lpips, before, after, mask) == pytest.approx(expected, rel=1e-3)
    assert background_lpips(lpips, before, before, mask) == 0
    assert math.isnan(background_lpips(lpips, before, after, torch.ones(64, 64)))


def test_lpips_out_of_reach_is_told_in_a_sentence(no_network):
    with pytest.raises(UserError, match=r"^SqueezeNet's weights for LPIPS can't be had \(URLError: .*refused.*\); put "
                                        r"squeezenet1_1-\w+\.pth .* into .*checkpoints, or go without this metric\.$"):
        lpips_network()


def test_a_file_in_the_cache_that_would_run_code_is_refused(no_network):
    class Evil:
        def __reduce__(self):
            return Path.touch, (no_network / "ran",)

    no_network.mkdir(parents=True)
    (no_network / "squeezenet1_1-b8a52dc0.pth").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(UserError, match="SqueezeNet's weights"):
        lpips_network()
    assert not (no_network / "ran").exists()


# CLIP


def test_clip_similarity_by_open_clip_itself(models):
    """On pictures of CLIP's own size, so that nothing is resized."""
    picture, mask, text = noise(11, models.clip.size[0]), left_half(models.clip.size[0]), "a fox on the grass"
    net, mean, std = models.clip.model, models.clip.mean, models.clip.std
    with torch.no_grad():
        t = net.encode_text(models.clip.tokenizer([text]))[0].double()
        for seen, given in ((picture, None), (picture * mask, mask)):
            v = net.encode_image(((seen - mean) / std)[None])[0].double()
            expected = 100 * float(v @ t / (v.norm() * t.norm()))
            assert clip_similarity(models.clip, picture, text, given) == pytest.approx(expected, abs=1e-3)
    assert math.isnan(clip_similarity(models.clip, picture, text, torch.zeros_like(mask)))


def test_clip_prefers_the_prompt_that_is_true(models, scene_recipe):
    from tiny_world.scenes import tensor

    picture, (thing,) = tensor(scene_recipe), scene_recipe.objects
    other = scene_recipe.replaced(0, "rocket" if thing.name != "rocket" else "wolf").caption()
    assert clip_similarity(models.clip, picture, scene_recipe.caption()) > clip_similarity(models.clip, picture, other)


# Who measures


def test_the_emoji_world_measures_with_its_own_models_and_says_so(models):
    measures = load_measures(models)
    assert measures.structure is models.backbone and measures.clip is models.clip and measures.scale == 1
    found = measures.measure(noise(12), noise(13), left_half(), "a fox")
    assert list(found) == [name for name in METRICS if name != "lpips"]
    assert "not run in the emoji world" in measures.missing["lpips"]
    assert METRICS["clip_whole"].heading(measures.of) == "CLIP of the emoji world, whole picture"
    assert METRICS["clip_whole"].heading() == "CLIP, whole picture"


def test_photographs_are_measured_with_the_benchmarks_models(squeezenet, tmp_path, monkeypatch):
    """Random weights of the true classes, from folders as from the hub; all seven metrics."""
    torch.manual_seed(2)
    random_weights.write("sd2", tmp_path / "models")
    monkeypatch.setitem(metrics.MEASURES, "structure", (str(tmp_path / "models" / "backbone"),))
    monkeypatch.setitem(metrics.MEASURES, "clip", (str(tmp_path / "models" / "clip"),))
    measures = load_measures(random_weights.models("sd2", reduced=True))
    assert measures.missing == {} and set(measures.labels) == {"structure", "clip", "lpips"}
    assert measures.structure.size == 224 and measures.scale == 255
    found = measures.measure(noise(14, 96), noise(15, 96), left_half(96), "a fox")
    assert list(found) == list(METRICS) and all(math.isfinite(v) for v in found.values())


def test_what_is_out_of_reach_is_left_out_with_its_reason(no_network):
    """The hub is offline in all tests; the caches are empty."""
    measures = load_measures(random_weights.models("sd2", reduced=True))
    assert (measures.structure, measures.clip, measures.lpips) == (None, None, None)
    assert set(measures.missing) == {"structure", "clip", "lpips"}
    assert all(text.endswith(("go without this metric.",)) for text in measures.missing.values())
    assert set(measures.measure(noise(16), noise(17), left_half(), "a fox")) == {"psnr", "mse", "ssim"}


def test_the_published_measures_are_named_and_their_size_is_counted():
    assert MEASURES["structure"] == PROFILES["sd2"].backbone == ("facebook/dino-vitb8",)
    assert MEASURES["clip"] == ("openclip:ViT-L-14:openai",)
    with torch.device("meta"):
        clip = open_clip.CLIP(**open_clip.get_model_config("ViT-L-14"))
    assert sum(p.numel() for p in clip.parameters()) * 4 / 1e9 == pytest.approx(1.71, abs=0.005)
