"""CLIP is built as its weights were trained: the activation above all, and what else its configuration says."""

import json

import layouts
import open_clip
import psutil
import pytest
import torch
from open_clip.transformer import QuickGELU
from torch import nn

from lr_helpers import UserError
from lr_helpers.models import clip_config
from lr_helpers.models.encoders import Clip
from lr_helpers.models.loading import load_clip
from lr_helpers.models.origins import UnavailableError
from lr_helpers.models.profiles import MEASURES, PROFILES

OPENAI = "openclip:ViT-B-16:openai"
IMAGES = torch.rand(2, 3, 48, 48, generator=torch.Generator().manual_seed(0))


def activations(model: nn.Module) -> dict[str, int]:
    """How many layers have each activation."""
    found = [type(m.gelu).__name__ for name, m in model.named_modules() if name.endswith(".mlp")]
    return {kind: found.count(kind) for kind in set(found)}


@pytest.fixture
def small(monkeypatch):
    """open_clip's own configuration of the name, reduced; the tag and its settings stay."""
    model = layouts.clip_config("ViT-B-16", reduced=True)["model_cfg"]
    del model["quick_gelu"]  # as in the configuration that open_clip carries
    assert "quick_gelu" not in open_clip.get_model_config("ViT-B-16")
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "ViT-B-16", model)


def test_openais_weights_get_their_activation(small, tmp_path, recwarn):
    folder = layouts.clip("ViT-B-16", tmp_path / "clip", reduced=True)
    found = Clip.load(str(folder), "cpu", OPENAI)
    assert activations(found.model) == {"QuickGELU": 4}
    assert not [w for w in recwarn if "QuickGELU" in str(w.message)]
    # The same numbers as by the checkpoint's own configuration, and others than with open_clip's default.
    own = Clip.load(str(folder), "cpu")
    assert torch.equal(found.encode_image(IMAGES)[0], own.encode_image(IMAGES)[0])
    assert torch.equal(found.encode_text(["a cat"]), own.encode_text(["a cat"]))
    plain = open_clip.create_model("ViT-B-16", pretrained=str(folder / "open_clip_model.safetensors"))
    assert activations(plain) == {"GELU": 4}
    assert (found.encode_image(IMAGES)[0] - Clip(plain, None, "cpu").encode_image(IMAGES)[0]).abs().max() > 1e-4


@pytest.mark.parametrize("quick", [True, False])
def test_a_folders_own_configuration_decides(quick, tmp_path):
    folder = layouts.clip("ViT-B-16", tmp_path / "clip", reduced=True, quick_gelu=quick)
    found, label = load_clip([str(folder)], "cpu")
    assert label == str(folder)
    assert activations(found.model) == {"QuickGELU" if quick else "GELU": 4}


def test_the_shipped_clip_is_what_its_configuration_says(models):
    config = json.loads((layouts.Path(PROFILES["tiny"].clip[0]) / "open_clip_config.json").read_text())
    clip_config.require_built(models.clip.model, config)
    assert set(clip_config.facts(config)) == set(clip_config.built(models.clip.model))


@pytest.mark.parametrize(("wrong", "said"), [
    (lambda m: [setattr(b.mlp, "gelu", nn.GELU()) for b in (*m.visual.transformer.resblocks, *m.transformer.resblocks)],
     "QuickGELU yes and not no"),
    (lambda m: setattr(m.transformer.resblocks[0].mlp, "gelu", nn.GELU()), "QuickGELU yes and not in a part of"),
    (lambda m: setattr(m.visual, "image_mean", (0.5, 0.5, 0.5)), "mean (0.481455, 0.457827, 0.408211) and not (0.5"),
    (lambda m: setattr(m, "context_length", 32), "context length 77 and not 32"),
    (lambda m: setattr(m.visual.transformer.resblocks[0].attn, "num_heads", 4), "heads of the image tower 2 and not 4")])
def test_what_is_built_otherwise_is_refused(wrong, said, tmp_path, monkeypatch):
    folder, create = layouts.clip("ViT-B-16", tmp_path / "clip", reduced=True), open_clip.create_model

    def create_otherwise(*args, **settings):
        model = create(*args, **settings)
        wrong(model)
        return model

    monkeypatch.setattr(open_clip, "create_model", create_otherwise)
    with pytest.raises(UserError) as error:
        load_clip([str(folder)], "cpu")
    assert f"({folder}"[1:] in str(error.value)
    assert said in str(error.value)
    assert str(error.value).endswith(".")
    assert "\n" not in str(error.value)


CHANGES = [
    (("model_cfg", "embed_dim"), 640, "embedding width 640 and not 512"),
    (("model_cfg", "quick_gelu"), False, "QuickGELU no and not yes"),
    (("model_cfg", "vision_cfg", "image_size"), 336, "picture side 336 and not 224"),
    (("model_cfg", "vision_cfg", "patch_size"), 32, "patch side 32 and not 16"),
    (("model_cfg", "vision_cfg", "head_width"), 32, "heads of the image tower 24 and not 12"),
    (("model_cfg", "text_cfg", "context_length"), 64, "context length 64 and not 77"),
    (("model_cfg", "text_cfg", "vocab_size"), 32000, "vocabulary 32000 and not 49408"),
    (("model_cfg", "text_cfg", "heads"), 4, "heads of the text tower 4 and not 8"),
    (("preprocess_cfg", "mean"), [0.5] * 3, "mean (0.5, 0.5, 0.5) and not (0.481455"),
    (("preprocess_cfg", "std"), [0.5] * 3, "standard deviation (0.5, 0.5, 0.5) and not (0.26863"),
]


@pytest.mark.parametrize(("where", "value", "said"), CHANGES, ids=lambda x: x[-1] if isinstance(x, tuple) else "")
def test_a_released_checkpoint_of_another_configuration_is_refused(where, value, said):
    config = layouts.clip_config("ViT-B-16")
    assert clip_config.misfit(OPENAI, config) is None
    place = config
    for key in where[:-1]:
        place = place[key]
    place[where[-1]] = value
    state = clip_config.misfit(OPENAI, config)
    assert said in state.text
    assert state.trouble
    assert state.fix


def test_a_configuration_that_is_silent_of_the_activation_leaves_it_to_the_tag():
    config = layouts.clip_config("ViT-B-16")
    del config["model_cfg"]["quick_gelu"]
    assert clip_config.misfit(OPENAI, config) is None
    assert clip_config.released(OPENAI).config["model_cfg"]["quick_gelu"] is True
    assert clip_config.misfit(OPENAI, {"model_cfg": 3}).trouble == "is incomplete"


def test_every_released_clip_of_the_profiles_wants_quick_gelu():
    names = {origin for p in PROFILES.values() for origin in p.clip if origin.startswith("openclip:")}
    for origin in names | set(MEASURES["clip"]):
        assert clip_config.released(origin).config["model_cfg"]["quick_gelu"] is True
    laion = clip_config.released("openclip:ViT-B-16:laion2b_s34b_b88k")
    assert laion.config["model_cfg"]["quick_gelu"] is False
    with pytest.raises(UnavailableError, match="knows no such model"):
        clip_config.released("openclip:ViT-B-16:nothing")


@pytest.mark.slow
@pytest.mark.parametrize(("origin", "layers"), [(OPENAI, 12 + 12), ("openclip:ViT-L-14:openai", 24 + 12)])
def test_at_full_size_every_layer_has_quick_gelu(origin, layers):
    config = clip_config.released(origin).config
    with torch.device("meta"):
        model = open_clip.CLIP(**config["model_cfg"])
    model.visual.image_mean, model.visual.image_std = config["preprocess_cfg"]["mean"], config["preprocess_cfg"]["std"]
    clip_config.require_built(model, config)
    assert activations(model) == {"QuickGELU": layers}


@pytest.mark.slow
def test_the_true_vit_b_16_is_loaded_with_quick_gelu(tmp_path):
    if psutil.virtual_memory().available < 4e9:
        pytest.skip("less than 4 GB of memory are available")
    folder = layouts.clip("ViT-B-16", tmp_path / "clip")
    found = Clip.load(str(folder), "cpu", OPENAI)
    assert activations(found.model) == {"QuickGELU": 24}
    assert isinstance(found.model.transformer.resblocks[0].mlp.gelu, QuickGELU)
    embedding, tokens = found.encode_image(torch.rand(1, 3, 224, 224))
    assert embedding.shape == (1, 512)
    assert tokens.shape == (1, 196, 768)
