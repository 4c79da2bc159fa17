"""Where models come from: the hub's answers when loading, overrides, and checkpoints that can't serve."""

import importlib.util
import json
import pickle
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import layouts
import pytest
import torch
from fake_hub import PULL, PULL_SHA, SHA, Hub
from safetensors.torch import load_file, save_file

from lr_helpers import UserError, load_models
from lr_helpers.cli import main
from lr_helpers.models.profiles import Part, get_profile
from lr_helpers.models.refusals import explain

# huggingface_hub carries its HTTP library under one name or the other.
httpx = importlib.import_module("httpx2" if importlib.util.find_spec("httpx2") else "httpx")
ROOT = Path(__file__).resolve().parents[1]
TINY = get_profile("tiny")
PARTS = ("editor", "backbone", "clip")
FOLDERS = {part: Path(getattr(TINY, part)[0]) for part in PARTS}

# Loads each profile of a list of {part: [origins]} (others: the shipped ones) and says what happened, a line each.
SCRIPT = """
import json, resource, sys
from dataclasses import replace
from lr_helpers import UserError, load_models
from lr_helpers.models.profiles import get_profile
from lr_helpers.models.hub import fetch
for case in json.loads(sys.argv[1]):
    profile, limit = get_profile("tiny"), case.pop("limit", None)
    if limit:  # of the size of files: a write beyond it fails as one on a full disk does
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        if "fetch" in case:
            found = fetch(*case["fetch"])
            print(json.dumps({"place": found.place, "label": found.label}), flush=True)
            continue
        models = load_models(replace(profile, **{k: tuple(v) for k, v in case.items()}), "cpu")
        print(json.dumps({"origins": models.origins}), flush=True)
    except UserError as error:
        print(json.dumps({"refused": str(error)}), flush=True)
"""


def load_in_a_process(hub: Hub, home: Path, cases: list[dict]) -> list[dict]:
    """What loading gives for each case where `hub` is the only one; one process, because importing takes seconds."""
    done = subprocess.run([sys.executable, "-c", SCRIPT, json.dumps(cases)], cwd=ROOT, text=True,
                          env=hub.environment(home), capture_output=True, timeout=400)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def pickled(folder: Path, to: Path) -> Path:
    """A copy of a model with its weights as pickles, as they used to be published."""
    shutil.copytree(folder, to)
    for file in list(to.rglob("*.safetensors")):
        torch.save(load_file(file), file.with_suffix(".bin"))
        file.unlink()
    return to


def in_both_precisions(to: Path) -> Path:
    """A copy of the shipped editor with half-precision files beside the whole ones."""
    shutil.copytree(FOLDERS["editor"], to)
    for file in list(to.rglob("*.safetensors")):
        half = {name: tensor.half() for name, tensor in load_file(file).items()}
        save_file(half, file.with_name(f"{file.stem}.fp16.safetensors"), {"format": "pt"})
    return to


BAD = {
    # repository: what the sentence says of it, and a fix
    "fake/gone": ("404: gone or never there", "name a mirror of fake/gone"),
    "fake/private": ("401: needs a login", "hf auth login"),
    "fake/gated": ("403: gated", "accept the licence at http://127.0.0.1:"),
    "fake/slow": ("no answer from http://127.0.0.1:", "HF_HUB_ETAG_TIMEOUT"),
    "fake/empty": ("it has no config.json", "name a model of the kind"),
    "fake/half": ("the download broke off", "try again"),
    "fake/pickles": ("its weights are pickles", "stored as safetensors"),
    "a/b/c": ("neither a folder nor a hub id", "name a folder or OWNER/NAME"),
}
GOOD = {part: f"fake/{part}" for part in PARTS}


@pytest.fixture(scope="module")
def answers(tmp_path_factory) -> dict:
    """Loading from the hub on loopback: by case, the origins that served or the sentence."""
    root = tmp_path_factory.mktemp("loading")
    folders = {GOOD[part]: folder for part, folder in FOLDERS.items()}
    folders |= {"fake/half": FOLDERS["backbone"], "fake/another": FOLDERS["backbone"],
                "fake/pickles": pickled(FOLDERS["backbone"], root / "pickles"),
                "fake/pickled-editor": pickled(FOLDERS["editor"], root / "pickled editor"),
                "timm/vit_base_patch16_clip_224.openai": layouts.true_clip("ViT-B-16", root / "released"), "fake/both": in_both_precisions(root / "both"),
                # what lies there is another model than open_clip builds by this name
                "timm/vit_large_patch14_clip_224.openai": layouts.true_clip("ViT-B-16", root / "misfit"),
                "fake/converted": root / "pickles", f"fake/converted@{PULL}": FOLDERS["backbone"]}
    cases = {"good": {part: [origin] for part, origin in GOOD.items()},
             "pinned": {"backbone": [f"fake/backbone@{SHA}"]},
             "released": {"fetch": ["clip", "openclip:ViT-B-16:openai"]},
             "released again": {"fetch": ["clip", f"openclip:ViT-B-16:openai@{SHA}"]},
             "half precision": {"fetch": ["editor", "fake/both", "fp16"]},
             "mirror without": {"fetch": ["editor", "fake/editor", "fp16"]},
             "converted": {"backbone": ["fake/converted"]},
             "pickled editor": {"editor": ["fake/pickled-editor"]},
             "all": {"backbone": list(BAD)},
             "gone editor": {"editor": ["fake/gone"]}, "gone clip": {"clip": ["fake/gone"]},
             **{bad: {"backbone": [bad, "fake/backbone"]} for bad in BAD},
             "misfit": {"clip": ["openclip:ViT-L-14:openai"]},
             "full": {"backbone": ["fake/another"], "limit": 100_000}}
    with Hub(folders) as hub:
        found = dict(zip(cases, load_in_a_process(hub, root / "home", list(cases.values())), strict=True))
        found["asked"] = list(hub.asked)
    # the hub is gone, its cache is here
    (found["cached"],) = load_in_a_process(hub, root / "home", [cases["good"]])
    return found


@pytest.mark.slow
def test_the_record_says_which_commit_served(answers):
    assert answers["good"] == {"origins": {part: f"{origin}@{SHA}" for part, origin in GOOD.items()}}


@pytest.mark.slow
def test_what_the_record_says_can_be_given_again(answers):
    assert answers["pinned"]["origins"]["backbone"] == answers["good"]["origins"]["backbone"]


@pytest.mark.slow
def test_a_released_clip_has_its_commit_too(answers):
    assert answers["released"]["label"] == f"openclip:ViT-B-16:openai@{SHA}"
    assert Path(answers["released"]["place"]).name == SHA
    assert answers["released again"] == answers["released"]  # what was recorded can be given again


@pytest.mark.slow
def test_a_released_clip_of_another_configuration_is_refused_before_it_is_downloaded(answers):
    text = answers["misfit"]["refused"]
    assert "its configuration wants embedding width 512 and not 768, " in text
    assert "width of the image tower 768 and not 1024" in text
    assert not [path for path in answers["asked"] if "vit_large" in path and path.endswith(".safetensors")]


@pytest.mark.slow
def test_only_half_is_downloaded_where_half_is_enough(answers):
    files = [path for path in answers["asked"] if path.startswith("/fake/both/") and path.endswith(".safetensors")]
    assert len(set(files)) == 3
    assert all(path.endswith(".fp16.safetensors") for path in files)
    assert answers["mirror without"]["label"] == f"fake/editor@{SHA}"


@pytest.mark.slow
def test_what_was_loaded_once_needs_no_hub(answers):
    assert answers["cached"] == answers["good"]


@pytest.mark.slow
def test_the_hubs_own_conversion_of_a_pickle_serves(answers):
    assert answers["converted"]["origins"]["backbone"] == f"fake/converted@{PULL_SHA}"


@pytest.mark.slow
@pytest.mark.parametrize("bad", BAD)
def test_the_next_origin_serves(bad, answers):
    assert answers[bad]["origins"]["backbone"] == f"fake/backbone@{SHA}"


@pytest.mark.slow
def test_if_none_serves_one_sentence_gives_every_reason(answers):
    text = answers["all"]["refused"]
    assert text.startswith("No origin of the backbone could be loaded: fake/gone (404: gone or never there); ")
    assert text.endswith("or use the profile 'tiny', which is shipped.")
    assert "\n" not in text
    for origin, (reason, fix) in BAD.items():
        assert f"{origin} ({reason}" in text
        assert fix in text


@pytest.mark.slow
@pytest.mark.parametrize("part", ["editor", "clip"])
def test_a_wrong_id_is_named(part, answers):
    assert "fake/gone (404: gone or never there); name a mirror of fake/gone" in answers[f"gone {part}"]["refused"]


@pytest.mark.slow
def test_a_pickled_editor_is_refused_before_it_is_downloaded(answers):
    text = answers["pickled editor"]["refused"]
    assert "its weights are pickles (" in text
    assert not [path for path in answers["asked"] if "pickled-editor" in path and path.endswith(".bin")]


@pytest.mark.slow
def test_a_disk_that_is_full_is_said_in_a_sentence(answers):
    assert "fake/another (the disk is full); free space at " in answers["full"]["refused"]
    assert "HF_HOME" in answers["full"]["refused"]


# Without the hub (conftest.py sets HF_HUB_OFFLINE)


def refused(**origins: str) -> str:
    """The one sentence with which an override is refused."""
    with pytest.raises(UserError) as error:
        load_models("tiny", "cpu", **origins)
    text = str(error.value)
    assert "\n" not in text
    assert text.endswith(".")
    return text


@pytest.mark.parametrize("part", PARTS)
def test_an_override_is_tried_alone(part, tmp_path, models):
    copy = tmp_path / "mine"
    shutil.copytree(FOLDERS[part], copy)
    found = load_models("tiny", "cpu", **{part: str(copy)})
    assert found.origins == models.origins | {part: str(copy)}
    shutil.rmtree(copy)
    copy.mkdir()
    assert str(copy) in refused(**{part: str(copy)})


def test_a_folder_without_weights_names_what_is_missing(tmp_path):
    folder = tmp_path / "editor"
    shutil.copytree(FOLDERS["editor"], folder, ignore=shutil.ignore_patterns("*.safetensors"))
    text = refused(editor=str(folder))
    assert "missing or damaged: " in text
    assert "unet/*.safetensors" in text
    assert f"put the whole model into {folder}" in text


def test_no_hub_is_named():
    assert "the hub may not be asked (HF_HUB_OFFLINE)); unset HF_HUB_OFFLINE" in refused(backbone="facebook/dino-vitb8")


@pytest.mark.parametrize("part", PARTS)
def test_pickles_are_refused(part, tmp_path):
    text = refused(**{part: str(pickled(FOLDERS[part], tmp_path / "pickles"))})
    assert "its weights are pickles (" in text
    assert "can run code" in text
    assert "give a copy stored as safetensors" in text


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, file: Path):
        self.file = file

    def __reduce__(self):
        return Path.touch, (self.file,)


@pytest.mark.parametrize("part", PARTS)
def test_no_pickle_is_ever_opened(part, tmp_path):
    folder, mark = pickled(FOLDERS[part], tmp_path / "pickles"), tmp_path / "opened"
    for file in folder.rglob("*.bin"):
        file.write_bytes(pickle.dumps(Bomb(mark)))
    refused(**{part: str(folder)})
    assert not mark.exists()
    pickle.loads(pickle.dumps(Bomb(mark)))
    assert mark.exists()


def changed(tmp_path: Path, file: str, **changes) -> str:
    """A copy of the shipped editor with a changed configuration file."""
    folder = tmp_path / "changed"
    shutil.copytree(FOLDERS["editor"], folder)
    config = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps(config | changes))
    return str(folder)


@pytest.mark.parametrize("kind", ["KandinskyV22InpaintPipeline", "PixArtAlphaPipeline", "QwenImagePipeline", "Unheard"])
def test_other_families_are_refused_by_name(kind, tmp_path):
    folder = changed(tmp_path, "model_index.json", _class_name=kind)
    assert f"{folder} (it holds a {kind}, which can't be driven here); give an inpainting checkpoint" in refused(editor=folder)


def test_a_text_to_image_checkpoint_is_no_inpainting_model(tmp_path, models):
    c = models.editor.pipeline.vae.config.latent_channels
    folder = changed(tmp_path, "unet/config.json", in_channels=c)
    assert f"{folder} (it is no inpainting model: its UNet takes {c} channels, not {2 * c + 1})" in refused(editor=folder)


def test_a_text_encoder_that_does_not_fit(tmp_path, models):
    folder = Path(changed(tmp_path, "unet/config.json"))
    encoder = models.editor.pipeline.text_encoder
    wide = type(encoder)(type(encoder.config).from_dict(encoder.config.to_dict() | {
        "hidden_size": 2 * encoder.config.hidden_size}))
    wide.save_pretrained(folder / "text_encoder")
    width = encoder.config.hidden_size
    assert f"gives {2 * width} numbers a token, the denoiser takes {width}" in refused(editor=str(folder))


def test_a_text_to_image_index_may_hold_an_inpainting_model(tmp_path, models):
    folder = changed(tmp_path, "model_index.json", _class_name="StableDiffusionPipeline")
    found = load_models("tiny", "cpu", editor=folder)
    image = torch.rand(3, 128, 128, generator=torch.Generator().manual_seed(0))
    edits = [m.editor.edit(image, [(16, 16, 80, 80)], "a fox", seed=0, steps=2) for m in (found, models)]
    assert torch.equal(*edits)


def test_half_precision_files_are_loaded_where_a_folder_has_them(tmp_path, models):
    folder = in_both_precisions(tmp_path / "both")
    for file in folder.rglob("*.safetensors"):
        if ".fp16." not in file.name:
            file.unlink()
    profile = replace(TINY.but(editor=str(folder)), parts={"editor": Part(variant="fp16")})
    image = torch.rand(3, 128, 128, generator=torch.Generator().manual_seed(0))
    halves = load_models(profile, "cpu").editor.edit(image, [(16, 16, 80, 80)], "a fox", seed=0, steps=2)
    whole = models.editor.edit(image, [(16, 16, 80, 80)], "a fox", seed=0, steps=2)
    assert torch.equal(halves, whole)  # the shipped files are in half precision themselves
    whole_files = replace(profile, editor=TINY.editor)
    assert load_models(whole_files, "cpu").origins == models.origins


@pytest.mark.parametrize(("error", "said"), [
    (ValueError("You are trying to load the model files of the `variant=fp16`, but no such modeling files are available.\n"
                "Second line"), "ValueError: You are trying to load the model files of the `variant=fp16`"),
    (OSError("Error no file named model.safetensors found in directory x."), "OSError: Error no file named model.safe"),
    (FileNotFoundError("config.json"), "FileNotFoundError: config.json"), (KeyError("a.weight"), "KeyError: 'a.weight'")])
def test_errors_that_are_not_of_the_network_keep_their_words(error, said):
    state = explain("a/b", error)
    assert state.text.startswith(said)
    assert "Second line" not in state.text
    assert "connection" not in state.text + state.fix
    assert "connect to" not in state.fix


@pytest.mark.parametrize("error", [ConnectionRefusedError("no"), httpx.ConnectError("no"), httpx.ProxyError("no")])
def test_errors_of_the_network_name_the_address(error):
    wrapped = FileNotFoundError("not in the cache")
    wrapped.__cause__ = error
    assert explain("a/b", wrapped).text.startswith("no connection to http")
    assert explain("a/b", httpx.ReadTimeout("slow")).text.startswith("no answer from http")


def test_a_pickle_beside_safetensors_of_another_precision_is_no_obstacle(tmp_path, models):
    """diffusers would ask the folder for half-precision safetensors, because it holds a pickle of that name."""
    folder = tmp_path / "mixed"
    shutil.copytree(FOLDERS["editor"], folder)
    (folder / "unet" / "diffusion_pytorch_model.fp16.bin").write_bytes(pickle.dumps(Bomb(tmp_path / "opened")))
    profile = replace(TINY.but(editor=str(folder)), parts={"editor": Part(variant="fp16")})
    assert load_models(profile, "cpu").origins["editor"] == str(folder)
    assert not (tmp_path / "opened").exists()


def test_a_clip_whose_tensors_are_others(tmp_path):
    folder = tmp_path / "clip"
    shutil.copytree(FOLDERS["clip"], folder)
    file = folder / "open_clip_model.safetensors"
    save_file({f"other.{k}": v for k, v in load_file(file).items()}, file)
    assert str(folder) in refused(clip=str(folder))


def test_the_command_takes_overrides(scene_file, tmp_path, capsys):
    copy = tmp_path / "mine"
    shutil.copytree(FOLDERS["editor"], copy)
    arguments = ["edit", "--image", str(scene_file), "--source", "wolf", "--prompt", "a fox", "--device", "cpu",
                 "--anchors", "1", "--sizes", "0.5", "--steps", "1", "--iterations", "0", "--quiet"]
    assert main([*arguments, "--output", str(tmp_path / "out"), "--editor", str(copy)]) == 0
    record = json.loads((tmp_path / "out" / "result.json").read_text())
    assert record["origins"]["editor"] == str(copy)
    assert record["origins"]["clip"] == "data/tiny_world/clip"
    assert main([*arguments, "--output", str(tmp_path / "no"), "--clip", str(copy)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_the_doctor_takes_overrides(capsys, tmp_path):
    assert main(["doctor", "--profile", "tiny", "--editor", str(tmp_path / "nowhere"), "--allow-cpu"]) == 1
    out = capsys.readouterr().out
    assert f"{tmp_path / 'nowhere'}: there is no such folder" in out
    assert "1 problem (the editor is missing)" in out
    assert main(["doctor", "--profile", "tiny", "--backbone", str(FOLDERS["backbone"])]) == 0


def test_no_gpu_is_said_by_the_doctor_and_by_loading(capsys):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    assert main(["doctor", "--profile", "amused"]) == 1
    assert "no GPU" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"'cuda' is not available here; use 'cpu'\."):
        load_models("tiny", "cuda")


def test_an_override_leaves_the_other_settings():
    mine = get_profile("sd2").but(editor="someone/model")
    assert mine.editor == ("someone/model",)
    assert mine.parts["editor"].gone == {}
    assert mine.parts["editor"].licence == "not stated"
    assert replace(mine, editor=(), parts={}) == replace(get_profile("sd2"), editor=(), parts={})
    assert TINY.but(editor="a/b").vocabulary == TINY.vocabulary
    assert TINY.but(editor="a/b", clip="a/c").vocabulary is None
    assert get_profile("sd2").but() == get_profile("sd2")
