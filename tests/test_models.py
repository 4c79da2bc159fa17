"""Loading models: what goes wrong is said in one sentence. test_real_models.py has the real architectures."""

import json
import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file, save_file

from lr_helpers import Profile, UserError, load_models
from lr_helpers.models.loading import dtype_for
from lr_helpers.models.profiles import get_profile
from tiny_world.scenes import scene
from tiny_world.zoo import tokenizer

TINY = get_profile("tiny")
FOLDERS = {part: Path(getattr(TINY, part)[0]) for part in ("editor", "backbone", "clip")}


def refused(profile, *names: str, device: str = "cpu") -> str:
    """The one sentence with which loading is refused; it must hold all `names`."""
    with pytest.raises(UserError) as error:
        load_models(profile, device=device)
    text = str(error.value)
    assert "\n" not in text
    assert text.endswith(".")
    for name in names:
        assert name in text
    return text


# What can't be loaded


def test_an_unknown_profile_is_answered_with_the_known_ones():
    refused("sd3", "'sd3'", "tiny", "sd2")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_a_gpu_that_is_not_there(device):
    refused("tiny", device, "cpu", device=device)


def test_an_unknown_device_is_named():
    assert "No origin" not in refused("tiny", "'tpu9'", device="tpu9")


@pytest.mark.parametrize("part", FOLDERS)
def test_a_missing_folder_is_named(part, tmp_path):
    for origin in (tmp_path / "nowhere", tmp_path):
        refused(replace(TINY, **{part: (str(origin),)}), str(origin))


@pytest.mark.parametrize("part", FOLDERS)
def test_an_unreachable_hub_is_named(part):
    # conftest.py sets HF_HUB_OFFLINE
    refused(replace(TINY, **{part: ("no-such-owner/no-such-model",)}), "no-such-owner/no-such-model")


def test_a_released_clip_out_of_reach_is_named():
    refused(replace(TINY, clip=("openclip:ViT-B-16:no_such_tag",)), "openclip:ViT-B-16:no_such_tag")
    refused(replace(TINY, clip=("openclip:no-such-model:openai",)), "openclip:no-such-model:openai")


def test_origins_are_tried_in_order(tmp_path, models):
    missing = str(tmp_path / "gone")
    found = load_models(replace(TINY, editor=(missing, *TINY.editor), backbone=(*TINY.backbone, missing)), "cpu")
    assert found.origins == models.origins
    assert all(Path(found.origins[part]).name == folder.name for part, folder in FOLDERS.items())
    refused(replace(TINY, clip=(missing, missing + "2")), missing, missing + "2")


def test_a_missing_word_list_is_named(tmp_path):
    refused(replace(TINY, vocabulary=tmp_path / "words.txt"), "words.txt")


WEIGHTS = {
    "unet": ("editor", "unet/diffusion_pytorch_model.safetensors"),
    "vae": ("editor", "vae/diffusion_pytorch_model.safetensors"),
    "text_encoder": ("editor", "text_encoder/model.safetensors"),
    "backbone": ("backbone", "model.safetensors"),
    "clip": ("clip", "open_clip_model.safetensors"),
}


@pytest.fixture
def copy_of(tmp_path):
    """Copies the folder of a part; returns it and a profile that uses it."""

    def copied(part: str) -> tuple[Path, Profile]:
        folder = tmp_path / f"my {part}"
        shutil.copytree(FOLDERS[part], folder)
        return folder, replace(TINY, **{part: (str(folder),)})

    return copied


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def lose_a_tensor(file: Path) -> None:
    state = load_file(file)
    del state[max(state, key=lambda k: state[k].numel())]
    save_file(state, file, {"format": "pt"})


def reshape_a_tensor(file: Path) -> None:
    state = load_file(file)
    name = max((k for k in state if state[k].ndim == 2), key=lambda k: state[k].numel())
    state[name] = state[name][:, 1:].contiguous()
    save_file(state, file, {"format": "pt"})


@pytest.mark.parametrize("damage", [Path.unlink, truncate, lose_a_tensor, reshape_a_tensor], ids=lambda f: f.__name__)
@pytest.mark.parametrize("which", WEIGHTS)
def test_damaged_weights_are_refused(which, damage, copy_of):
    part, file = WEIGHTS[which]
    folder, profile = copy_of(part)
    if damage is reshape_a_tensor and which == "vae":
        pytest.skip("has no matrices")
    damage(folder / file)
    refused(profile, str(folder))


@pytest.mark.parametrize(
    ("part", "file"),
    [
        ("editor", "model_index.json"),
        ("editor", "unet/config.json"),
        ("editor", "vae/config.json"),
        ("editor", "text_encoder/config.json"),
        ("editor", "scheduler/scheduler_config.json"),
        ("editor", "tokenizer/tokenizer.json"),
        ("backbone", "config.json"),
        ("backbone", "preprocessor_config.json"),
        ("clip", "open_clip_config.json"),
        ("clip", "tokenizer.json"),
    ],
)
@pytest.mark.parametrize("damage", [Path.unlink, truncate], ids=["unlink", "truncate"])
def test_damaged_settings_are_refused(part, file, damage, copy_of):
    folder, profile = copy_of(part)
    damage(folder / file)
    refused(profile, str(folder))


def test_an_editor_that_is_no_inpainting_model_is_refused(copy_of):
    folder, profile = copy_of("editor")
    file = folder / "unet" / "config.json"
    config = json.loads(file.read_text()) | {"in_channels": 4}
    UNet2DConditionModel.from_config(config).save_pretrained(folder / "unet")
    refused(profile, str(folder), "inpainting", "4")


def test_the_shipped_models_load_without_a_warning():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        load_models("tiny", device="cpu")
    ours = [str(w.message) for w in caught if not issubclass(w.category, (DeprecationWarning, ResourceWarning))]
    assert not [text for text in ours if "outdated" in text or "scheduler" in text], ours


def test_the_shipped_weights_are_safetensors_within_the_limit():
    root = FOLDERS["clip"].parent
    files = [f for f in root.rglob("*") if f.is_file()]
    assert {f.suffix for f in files}.isdisjoint({".bin", ".pt", ".pth", ".pkl", ".ckpt"})
    assert sum(f.stat().st_size for f in files) <= 48_000_000


@pytest.mark.parametrize(("capability", "dtype"), [
    ((7, 5), torch.float16), ((8, 0), torch.bfloat16), ((8, 9), torch.bfloat16), ((9, 0), torch.bfloat16)])
def test_a_gpu_gets_the_type_it_is_fast_in(capability, dtype, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert dtype_for("cuda") == dtype_for("cuda:1") == dtype


def test_the_cpu_gets_float32(models):
    assert dtype_for("cpu") == models.editor.pipeline.unet.dtype == torch.float32


# What the user is told about words


def test_unknown_words_come_with_near_ones(models):
    (text,) = models.warnings_for("a rabit")
    assert "'rabit'" in text
    assert "rabbit" in text.split("know")[-1]
    assert "'tiny'" in text
    found = models.warnings_for("Zebra, zebra and a QUICK wolf!")
    assert len(found) == 2
    assert "'zebra'" in found[0]
    assert "'quick'" in found[1]
    assert all(near in models.words for t in found for near in t.rstrip(".").split(": ")[-1].split(", "))


@pytest.mark.parametrize("text", ["a rabbit", "A Rabbit, in the SNOW.", "a big tree with many flowers in the center"])
def test_known_words_give_no_warning(models, text):
    assert models.warnings_for(text) == []


@pytest.mark.parametrize("letters", ["чёрный кот", "兔子", "una piñata", "🐇"])
def test_words_in_other_letters_are_unknown_too(models, letters):
    assert models.warnings_for(letters)


def test_a_long_prompt_names_what_is_cut_off(models):
    fits = " ".join(["cat"] * (tokenizer.LENGTH - 2))
    assert models.warnings_for(fits) == []
    (text,) = models.warnings_for(f"{fits} rabbit in the snow")
    assert "'rabbit in the snow'" in text
    assert "cat" not in text


def test_any_word_may_be_used_without_a_word_list(models):
    assert replace(models, words=None).warnings_for("a zebra") == []


# What the models see


@pytest.fixture
def picture(scene_recipe):
    return torch.from_numpy(scene_recipe.render()).permute(2, 0, 1) / 255


def test_the_backbone_gives_features_and_attention(models, picture):
    features, attention = models.backbone.encode_image(picture)
    vit = models.backbone.vit.config
    assert features.shape == (vit.hidden_size, 16, 16)
    assert attention.shape == (vit.num_attention_heads, 16, 16)
    # what is missing to 1 is the attention of [CLS] to itself
    total = attention.sum((1, 2))
    assert (total > 0).all()
    assert (total <= 1 + 1e-5).all()
    assert (attention >= 0).all()


def test_rows_of_the_features_stay_rows(models):
    """Other pixels in the left top change the features there most: over 24 scenes 3.0 times as much as below on average,
    1.2 at least, and 1.5 times as much as where rows and columns were swapped.
    """
    below, swapped = [], []
    for seed in range(12):
        picture = torch.from_numpy(scene(seed, 1).render()).permute(2, 0, 1) / 255
        other = picture.clone()
        other[:, :32, :64] = 1 - other[:, :32, :64]
        (before, _), (after, _) = (models.backbone.encode_image(one) for one in (picture, other))
        change = (after - before).norm(dim=0)
        below.append(float(change[:4, :8].mean() / change[8:, :].mean()))
        swapped.append(float(change[:4, :8].mean() / change[:8, :4].mean()))
    assert min(below) > 1.1 and sum(below) / len(below) > 2
    assert min(swapped) > 1.1 and sum(swapped) / len(swapped) > 1.3


def test_the_autoencoder_draws_what_it_means(models, picture):
    """Pipelines that draw from the posterior (image to image, say) must get what those get that take its mean."""
    vae = models.editor.pipeline.vae
    with torch.no_grad():
        posterior = vae.encode(picture[None] * 2 - 1).latent_dist
        drawn = posterior.sample(torch.Generator().manual_seed(0))
    assert posterior.std.max() < 0.05
    assert posterior.mode().std() > 0.3 and (drawn - posterior.mode()).abs().max() < 0.1


def test_the_backbone_takes_any_size(models, picture):
    large = torch.nn.functional.interpolate(picture[None], scale_factor=3, mode="nearest")[0]
    assert torch.allclose(models.backbone.encode_image(large)[0], models.backbone.encode_image(picture)[0], atol=0.8)
    assert models.backbone.encode_image(large)[0].shape[1:] == (16, 16)


def test_clip_gives_unit_embeddings_tokens_and_a_gradient(models, picture):
    images = torch.stack([picture, picture.flip(2)]).requires_grad_(True)
    embeddings, tokens = models.clip.encode_image(images)
    assert torch.allclose(embeddings.norm(dim=1), torch.ones(2), atol=1e-5)
    assert tokens.shape == (2, 64, 128)
    read = models.clip.encode_text(["a rabbit", "a wolf", "a rabbit"])
    assert torch.allclose(read.norm(dim=1), torch.ones(3), atol=1e-5)
    assert torch.equal(read[0], read[2])
    assert not torch.allclose(read[0], read[1], atol=0.1)
    (embeddings @ read[0]).sum().backward()
    assert images.grad.abs().max() > 0
    alone = models.clip.encode_image(picture[None])[0]
    assert torch.allclose(alone[0], embeddings[0], atol=1e-4)


def test_clip_prefers_the_right_caption(models, scene_recipe, picture):
    name = scene_recipe.objects[0].name
    others = [n for n in ("wolf", "car", "cake", "banana", "tree") if n != name]
    texts = [scene_recipe.caption(), *(scene_recipe.replaced(0, n).caption() for n in others)]
    likeness = models.clip.encode_text(texts) @ models.clip.encode_image(picture[None])[0][0]
    assert int(likeness.argmax()) == 0


def test_no_boxes_no_edits(models):
    before = models.editor.evaluations
    assert models.editor.edit(torch.rand(3, 128, 128), [], "a cat", seed=0).shape == (0, 3, 128, 128)
    assert models.editor.evaluations == before
