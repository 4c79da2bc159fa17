"""No stranger's model, picture or text runs code, reaches another place, or is shown as anything but text."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import attacks
import pytest
import torch
from safetensors.torch import load_file, save_file

from lr_helpers.baselines.segmenters import ClipSeg, Detector, Sam, Sam3
from lr_helpers.batch.key import identity
from lr_helpers.models import settings
from lr_helpers.models.layouts import names_in, reader
from lr_helpers.models.libraries import LOCAL
from lr_helpers.models.loading import load_backbone
from lr_helpers.models.profiles import PROFILES
from lr_helpers.models.resolve import resolve


@pytest.fixture(scope="module")
def played() -> dict:
    """What `python tests/attacks.py` finds, where "y" waits for whoever asks for leave."""
    done = subprocess.run([sys.executable, attacks.__file__, "--json"], capture_output=True, text=True, timeout=600,
                          input="y\n" * 1000)
    assert done.stdout, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    found["by"] = {row["title"]: row for row in found["rows"]}
    return found


def test_nobody_is_asked_for_leave(played):
    assert played["questions"] == 0


def test_every_trap_would_have_told(played):
    assert played["traps"] == dict.fromkeys(("a tokenizer's code", "a question at the terminal", "a pickle", "Ghostscript",
                                             "another place", "a formula"), True)


@pytest.mark.parametrize("attack", [*attacks.MODELS, *attacks.REGIONS], ids=lambda attack: attack.title.replace(" ", "-"))
def test_a_strangers_model_runs_nothing_and_asks_nobody(attack, played):
    row = played["by"][attack.title]
    assert (row["ran"], row["asked"]) == (False, [])
    assert row["got"] == ("refused" if attack.words else "loads without it")
    assert attack.words in row["message"]
    assert "\n" not in row["message"]
    assert row["alike"], f"the doctor says {row['doctor']}"


def test_strangers_pictures_start_no_program(played):
    rows = [row for row in played["rows"] if row["door"] == "picture"]
    assert len(rows) == len(attacks.PICTURES) == 4
    assert {(row["got"], row["ran"], *row["asked"]) for row in rows} == {("refused", False)}


def test_texts_stay_texts(played):
    rows = [row for row in played["rows"] if row["door"] == "text"]
    assert [(row["got"], row["ran"]) for row in rows] == [("shown as text", False)] * 2


# What passes


def test_calls_neither_trust_nor_ask():
    assert LOCAL == {"local_files_only": True, "trust_remote_code": False}


def test_every_class_that_is_loaded_has_its_settings():
    assert {kind.part: kind.kind.__name__ for kind in (ClipSeg, Detector, Sam, Sam3)} == {
        part: name for part, name in settings.NETWORKS.items() if part != "backbone"}
    assert set(settings.NETWORKS) == set(settings.PROCESSORS)


def folders() -> list[tuple[str, str, tuple[str, ...]]]:
    tiny = PROFILES["tiny"]
    return [*((part, getattr(tiny, part)[0], ()) for part in ("editor", "backbone", "clip")),
            *((part, tiny.comparison[part].origins[0], tiny.comparison[part].borrows)
              for part in ("text_to_image", "instruct"))]


@pytest.mark.parametrize(("part", "folder", "borrows"), folders(), ids=lambda v: v if isinstance(v, str) and "/" not in v else "")
def test_nothing_of_the_shipped_models_is_left_behind_but_notes(part, folder, borrows):
    """The libraries get all settings of the miniatures, except what says where or how they were saved."""
    found = resolve(part, folder, borrows=borrows)
    assert found.state.trouble == ""
    read = reader(found.place)
    for file in found.files:
        taken, whole = settings.admitted(part, file, read, found.files), read(file)
        if taken is None:
            continue
        lost = {key for key in whole if key not in taken}
        assert lost <= {"dtype", "backend"}, file
        changed = {key for key in taken if key in whole and taken[key] != whole[key]}
        assert changed == (set() if file != "open_clip_config.json" else changed), file


# As they are published: old versions wrote more, and said where they came from.
PUBLISHED = {
    "unet/config.json": {"_name_or_path": "./stable-diffusion-v1-5-inpainting/unet", "_diffusers_version": "0.6.0.dev0"},
    "vae/config.json": {"_name_or_path": "../sdxl-vae/"},
    "text_encoder/config.json": {"_name_or_path": "/home/somebody/text_encoder", "dropout": 0.0, "torch_dtype": "float16",
                                 "transformers_version": "4.22.0.dev0", "return_dict": True, "bad_words_ids": None},
    "tokenizer/tokenizer_config.json": {
        "name_or_path": "./stable-diffusion-v1-5-inpainting/tokenizer", "add_prefix_space": False, "errors": "replace",
        "special_tokens_map_file": "./special_tokens_map.json", "do_lower_case": True, "tokenizer_file": None,
        "bos_token": {"__type": "AddedToken", "content": "<|startoftext|>", "lstrip": False, "normalized": True,
                      "rstrip": False, "single_word": False}},
    "scheduler/scheduler_config.json": {"skip_prk_steps": True, "clip_sample": False, "_name_or_path": "x/y"},
    "model_index.json": {"safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
                         "feature_extractor": ["transformers", "CLIPFeatureExtractor"], "_name_or_path": "a/b"},
}


def test_what_published_models_say_besides_stays_behind():
    folder = resolve("editor", PROFILES["tiny"].editor[0])
    whole = reader(folder.place)

    def read(file):
        return whole(file) | PUBLISHED.get(file, {})

    files = [file for file in folder.files if file in PUBLISHED]
    assert len(files) == len(PUBLISHED)
    taken = {file: settings.admitted("editor", file, read, folder.files) for file in files}
    assert settings.refusal("editor", files, read) is None
    said = json.dumps(taken)
    assert "name_or_path" not in said and "somebody" not in said and "map_file" not in said and "tokenizer_file" not in said
    assert taken["unet/config.json"]["_diffusers_version"] == "0.6.0.dev0"  # an old one is read otherwise
    assert taken["tokenizer/tokenizer_config.json"]["bos_token"]["content"] == "<|startoftext|>"
    # Another scheduler that is made of this one takes over what this one does not use.
    assert taken["scheduler/scheduler_config.json"]["clip_sample"] is False
    assert taken["model_index.json"]["safety_checker"] == taken["model_index.json"]["feature_extractor"] == [None, None]


@pytest.mark.parametrize(("part", "kind"), [("clipseg", "clipseg"), ("grounding_dino", "grounding-dino"), ("sam", "sam"),
                                            ("sam3", "sam3_video")])
def test_settings_within_settings_pass_and_are_looked_through(part, kind):
    import random_parts

    config = json.loads(getattr(random_parts, part)().config.to_json_string(use_diff=False))
    assert config["model_type"] == kind
    if part == "sam3":  # published within a model for videos, of which the detector alone is taken over
        taken = settings.admitted(part, "config.json", lambda _, c=config: c, ())
        config = config["detector_config"]
        assert taken == settings.admitted(part, "config.json", lambda _: config, ())
        assert taken["vision_config"]["backbone_config"]["model_type"] == "sam3_vit_model"
    taken = settings.admitted(part, "config.json", lambda _: config, ())
    inner = [key for key in taken if key.endswith("_config")]
    assert len(inner) >= 2
    for key in inner:
        assert {k for k in taken[key] if k in config[key]} >= {"model_type"}
        word = "hidden_act" if "hidden_act" in config[key] else "initializer_range"
        for bad in ({"auto_map": {"AutoModel": "evil.E"}}, {word: "http://x/y"}, {"backbone": "evil/elsewhere"}):
            assert settings.refusal(part, ("config.json",), lambda _, k=key, b=bad: config | {k: config[k] | b}) is not None
    for key in inner:
        # Where the class leaves the kind open, it is looked at; elsewhere published models have none, or a wrong one.
        other = config | {key: config[key] | {"model_type": "llama"}}
        state = settings.refusal(part, ("config.json",), lambda _, o=other: o)
        is_open = part == "grounding_dino" or (part, key) == ("sam3", "text_config")
        assert "'llama'" in state.text if is_open else state is None
        empty = config | {key: config[key] | {"model_type": ""}}
        assert settings.refusal(part, ("config.json",), lambda _, e=empty: e) is None
    assert "'llama'" in settings.refusal(part, ("config.json",), lambda _: config | {"model_type": "llama"}).text


@pytest.mark.parametrize("bad", [
    [], "text", 7, {"model_cfg": []}, {"model_cfg": {"embed_dim": 1, "vision_cfg": 3, "text_cfg": {}}},
    {"model_cfg": {"embed_dim": 1, "vision_cfg": {}, "text_cfg": {"tokenizer_kwargs": {"bpe_path": "/etc/passwd"}}}},
    {"model_cfg": {"embed_dim": 1, "vision_cfg": {"pretrained": "/etc/passwd"}, "text_cfg": {}}},
    {"model_cfg": {"embed_dim": {"a": "../x"}, "vision_cfg": {}, "text_cfg": {}}},
    {"model_cfg": {"embed_dim": 1, "vision_cfg": {"act_kwargs": {"a/b": 1}}, "text_cfg": {}}},
    {"model_cfg": {"embed_dim": 1, "vision_cfg": {}, "text_cfg": {}}, "preprocess_cfg": {"interpolation": "../x"}},
    {"model_cfg": {"embed_dim": 1, "vision_cfg": {}, "text_cfg": {}, "pretrained_image": "/x"}}], ids=str)
def test_a_clips_settings_that_are_odd_are_refused(bad):
    state = settings.refusal("clip", ("open_clip_config.json",), lambda _: bad)
    assert state is not None
    assert "open_clip_config.json" in state.text
    assert "\n" not in state.text


def test_a_folder_is_looked_into_two_levels_deep(tmp_path):
    (tmp_path / "unet" / "deep" / "deeper").mkdir(parents=True)
    (tmp_path / ".cache").mkdir()
    for name in ("a.json", "unet/b.json", "unet/deep/c.json", "unet/deep/deeper/d.json", ".cache/e.json"):
        (tmp_path / name).write_text("{}")
    assert names_in(tmp_path) == ["a.json", "unet/b.json"]
    # A folder that is no model is known as such at once, however much lies below it.
    assert resolve("editor", "/usr").state.text == "missing or damaged: model_index.json"
    assert identity(replace(PROFILES["tiny"], editor=("/usr",))) is None


def test_links_within_the_folder_and_into_the_hubs_cache_are_as_good_as_files(tmp_path):
    """The cache of the hub keeps a repository's files elsewhere; so may a folder, within itself."""
    store, snapshot = tmp_path / "models--a--b" / "blobs", tmp_path / "models--a--b" / "snapshots" / "0123"
    store.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    source = Path(PROFILES["tiny"].backbone[0])
    for file in names_in(source):
        store.joinpath(file).write_bytes((source / file).read_bytes())
        snapshot.joinpath(file).symlink_to(store / file)
    assert resolve("backbone", str(snapshot)).state.trouble == ""
    (tmp_path / "my link").symlink_to(snapshot)
    assert resolve("backbone", str(tmp_path / "my link")).state.trouble == ""
    (snapshot / "config.json").unlink()
    (tmp_path / "config.json").write_bytes(store.joinpath("config.json").read_bytes())
    (snapshot / "config.json").symlink_to(tmp_path / "config.json")
    assert resolve("backbone", str(snapshot)).state.text == "config.json is a link that leads out of the folder"


def test_weights_in_parts_are_read_through_their_index(tmp_path):
    """The view that libraries get has the parts, too."""
    source = PROFILES["tiny"].backbone[0]
    folder = tmp_path / "in parts"
    shutil.copytree(source, folder)
    weights = load_file(folder / "model.safetensors")
    names = sorted(weights)
    where = {name: f"model-0000{1 + (i % 2)}-of-00002.safetensors" for i, name in enumerate(names)}
    for part in set(where.values()):
        save_file({name: weights[name] for name in names if where[name] == part}, folder / part, {"format": "pt"})
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": where}))
    ours, label = load_backbone((str(folder),), "cpu", 64)
    whole, _ = load_backbone((source,), "cpu", 64)
    assert label == str(folder)
    for mine, theirs in zip(ours.vit.parameters(), whole.vit.parameters(), strict=True):
        assert torch.equal(mine, theirs)
