"""Every model of data/models.toml, from its repository's true layout: the doctor says what loading does."""

import json
import subprocess
import sys
from pathlib import Path

import layouts
import pytest
from fake_hub import PULL, PULL_SHA, SHA

from lr_helpers.models import layouts as files
from lr_helpers.models.profiles import MEASURES, PROFILES

SD15, SD2 = "stable-diffusion-v1-5/stable-diffusion-inpainting", "sd2-community/stable-diffusion-2-inpainting"


def origins() -> set[str]:
    """All hub ids that data/models.toml names."""
    found = {o for p in PROFILES.values() for several in p.models.values() for o in several}
    found |= {o for p in PROFILES.values() for extra in p.comparison.values() for o in extra.origins}
    found |= {o for several in MEASURES.values() for o in several}
    return {layouts.OPEN_CLIP.get(o, o) for o in found if not Path(o).is_absolute()}


def test_every_repository_of_the_profiles_has_its_layout():
    assert origins() == {name.split("@")[0] for name in layouts.REPOSITORIES}
    assert set(layouts.LAYOUTS["_assumed"]) < set(layouts.REPOSITORIES)


@pytest.fixture(scope="module")
def played() -> dict:
    """What `python tests/layouts.py` finds: rows by situation, profile and model; and what the hub was asked."""
    done = subprocess.run([sys.executable, layouts.__file__, "--json"], capture_output=True, text=True, timeout=900)
    assert done.stdout, done.stderr
    assert "mismatch" not in done.stderr  # open_clip's warning of a wrong activation
    found = json.loads(done.stdout.splitlines()[-1])
    found["by"] = {(row["situation"], row["profile"], row["model"]): row for row in found["rows"]}
    return found


@pytest.mark.slow
@pytest.mark.parametrize("situation", layouts.SITUATIONS)
def test_the_doctor_says_what_loading_does(situation, played):
    rows = [row for row in played["rows"] if row["situation"] == situation]
    assert len(rows) >= 20
    assert [row for row in rows if not row["same"]] == []


@pytest.mark.slow
@pytest.mark.parametrize("situation", ["online", "gone, loaded before", "offline, loaded before"])
def test_the_first_origin_of_every_model_serves(situation, played):
    rows = [row for row in played["rows"] if row["situation"] == situation]
    assert [row for row in rows if not row["doctor"].startswith("origin 1: ")] == []


@pytest.mark.slow
def test_editors_come_in_half_precision(played):
    for name in ("sd2", "sd15", "sdxl", "amused"):
        assert played["by"]["online", name, "editor"]["doctor"] == f"origin 1: on the hub, commit {SHA[:7]}, fp16"
    asked = {path for path in played["asked"] if path.endswith(".safetensors")}
    whole = {p for p in asked if any(f"/{repo}/" in p for repo in (SD15, SD2)) and ".fp16." not in p}
    assert whole == set()


@pytest.mark.slow
def test_the_second_origin_serves_where_the_first_is_gone(played):
    row = played["by"]["first origin gone", "sd2", "editor"]
    assert row["doctor"] == f"origin 2: on the hub, commit {SHA[:7]}, fp16"
    assert row["loading"] == f"origin 2: {SD15}@{SHA}"
    assert "404: gone" in played["by"]["first origin gone", "sd15", "editor"]["loading"]


@pytest.mark.slow
def test_a_conversion_of_the_hubs_own_robot_is_found_again_without_the_hub(played):
    assert played["by"]["online", "sd15", "backbone"]["doctor"] == f"origin 1: on the hub, commit {PULL_SHA[:7]}, {PULL}"
    row = played["by"]["offline, loaded before", "sd15", "backbone"]
    assert row["doctor"] == f"origin 1: in the hub's cache, commit {PULL_SHA[:7]}, {PULL}"
    assert row["loading"] == f"origin 1: facebook/dino-vitb16@{PULL_SHA}"


@pytest.mark.slow
def test_no_pickle_is_ever_asked_for(played):
    assert [path for path in played["asked"] if path.endswith((*files.PICKLES, ".h5"))] == []
    assert not any("safety_checker" in path for path in played["asked"])


# Which files are chosen


INDEX = {"_class_name": "StableDiffusionInpaintPipeline", "unet": ["diffusers", "UNet2DConditionModel"],
         "vae": ["diffusers", "AutoencoderKL"], "text_encoder": ["transformers", "CLIPTextModel"],
         "tokenizer": ["transformers", "CLIPTokenizer"], "scheduler": ["diffusers", "PNDMScheduler"],
         "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"], "feature_extractor": [None, None]}


def chosen(names, variant=None, borrows=()):
    return files.choose("editor", names, lambda name: INDEX if name == "model_index.json" else {}, variant, borrows)


def names_of(repository: str) -> list[str]:
    return [f"{c}/{n}" if c else n for c, names in layouts.LAYOUTS[repository].items() for n in names]


def test_only_the_half_precision_files_of_sd15_can_be_read():
    half = chosen(names_of(SD15), "fp16")
    assert half.missing == ()
    assert half.variants == ("unet", "vae", "text_encoder")
    assert [n for n in half.files if "model." in n and n != "model_index.json"] == [
        "unet/diffusion_pytorch_model.fp16.safetensors", "vae/diffusion_pytorch_model.fp16.safetensors",
        "text_encoder/model.fp16.safetensors"]
    assert {"tokenizer/vocab.json", "tokenizer/merges.txt", "scheduler/scheduler_config.json"} <= set(half.files)
    assert not any(n.startswith(("safety_checker", "feature_extractor")) for n in half.files)
    assert chosen(names_of(SD15)).missing == ("unet/*.safetensors", "vae/*.safetensors", "text_encoder/*.safetensors")


def test_a_component_without_half_precision_files_is_read_whole():
    names = [n for n in names_of(SD2) if n != "vae/diffusion_pytorch_model.fp16.safetensors"]
    found = chosen(names, "fp16")
    assert found.missing == ()
    assert found.variants == ("unet", "text_encoder")
    assert "vae/diffusion_pytorch_model.safetensors" in found.files


def test_what_is_borrowed_is_not_asked_for():
    names = [n for n in names_of(SD2) if not n.startswith("vae")]
    assert chosen(names).missing == ("vae/config.json", "vae/*.safetensors")
    assert chosen(names, borrows=("vae",)).missing == ()


@pytest.mark.parametrize(("dotted", "index"), [
    ("-{}.safetensors", "model.safetensors.index.json"),
    (".fp16-{}.safetensors", "model.safetensors.index.fp16.json"),
    ("-{}.fp16.safetensors", "model.safetensors.index.fp16.json")])
def test_weights_in_several_files(dotted, index):
    parts = [f"model{dotted.format(f'0000{i}-of-00003')}" for i in (1, 2, 3)]
    variant = "fp16" if "fp16" in index else None
    assert files._weights({*parts, index}, "", "model", variant) == [index, *parts]
    assert files._weights({*parts[:2], index}, "", "model", variant) == []
    assert files._weights(set(parts), "", "model", variant) == []


@pytest.mark.parametrize(("names", "whole"), [
    (["vocab.json", "merges.txt"], True), (["tokenizer.json"], True), (["vocab.txt", "tokenizer_config.json"], True),
    (["vocab.json"], False), (["tokenizer_config.json"], False)])
def test_a_tokenizer_in_any_of_its_forms(names, whole):
    base = ["config.json", "preprocessor_config.json", "model.safetensors"]
    assert (files.choose("clipseg", [*base, *names], lambda name: None).missing == ()) == whole
    assert files.choose("sam", base, lambda name: None).missing == ()
