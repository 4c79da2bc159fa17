"""Without a GPU every door refuses a full-size profile by the same sentence, before anything is downloaded."""

import re
from dataclasses import replace

import pytest
import torch

from lr_helpers import UserError, load_models
from lr_helpers.batch import ray_pool
from lr_helpers.batch.ray_pool import Editing
from lr_helpers.cli import main
from lr_helpers.models import doctor, hub, loading, resolve
from lr_helpers.models.profiles import PROFILES, get_profile

SD2, TINY = get_profile("sd2"), get_profile("tiny")
SENTENCE = re.compile(r"The profile 'sd2' needs a GPU and would run on the CPU; [^\n]*--allow-cpu, which is very slow\.")


class AskedError(BaseException):  # which nothing on the way turns into a sentence
    """Something was looked for, or downloaded."""


@pytest.fixture(autouse=True)
def a_machine_without_gpu(monkeypatch):
    """No GPU; and who asks for a model there gets AskedError."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.delenv("LR_ALLOW_CPU", raising=False)

    def ask(*args, **settings):
        raise AskedError

    for module, name in ((hub, "resolve"), (hub, "snapshot_download"), (resolve, "_ask")):
        monkeypatch.setattr(module, name, ask)


@pytest.fixture
def commands(scene_file, tmp_path):
    """The arguments of every command that loads models, by name."""
    items = tmp_path / "items.json"
    items.write_text(f'{{"{scene_file.name}": ["wolf", "a rabbit"]}}')
    return {
        "edit": ["edit", "--image", str(scene_file), "--source", "wolf", "--prompt", "a fox", "--output",
                 str(tmp_path / "edited")],
        "batch": ["batch", str(items), "--images", str(scene_file.parent), "--output", str(tmp_path / "batch")],
        "study": ["study", "pie", "--output", str(tmp_path / "pie"), "--limit", "1"],
        "benchmark": ["benchmark", "--repeats", "1"],
        "report": ["report", "--output", str(tmp_path / "report")]}


DOORS = ("edit", "batch", "study", "benchmark", "report")


@pytest.mark.parametrize("door", DOORS)
def test_every_command_refuses(door, commands, capsys):
    assert main([*commands[door], "--profile", "sd2"]) == 2
    assert SENTENCE.fullmatch(capsys.readouterr().err.strip().removeprefix("error: "))


def test_an_explicit_cpu_is_refused_too(commands, capsys):
    assert main([*commands["edit"], "--profile", "sd2", "--device", "cpu"]) == 2
    assert SENTENCE.search(capsys.readouterr().err)


@pytest.mark.parametrize("door", ["edit", "study", "benchmark"])
def test_allow_cpu_lets_through(door, commands):
    with pytest.raises(AskedError):
        main([*commands[door], "--profile", "sd2", "--allow-cpu", *(["--workers", "1"] if door == "study" else [])])


def test_load_models_refuses_and_can_be_allowed(monkeypatch):
    with pytest.raises(UserError) as error:
        load_models("sd2")
    assert SENTENCE.fullmatch(str(error.value))
    assert "allow_cpu=True" in str(error.value)
    with pytest.raises(AskedError):
        load_models("sd2", allow_cpu=True)
    monkeypatch.setenv("LR_ALLOW_CPU", "1")
    with pytest.raises(AskedError):
        load_models("sd2", "cpu")
    with pytest.raises(UserError):
        load_models("sd2", allow_cpu=False)
    monkeypatch.setenv("LR_ALLOW_CPU", "0")
    with pytest.raises(UserError):
        load_models("sd2")


def test_a_worker_of_a_cluster_refuses_too(tmp_path, monkeypatch):
    monkeypatch.setattr(ray_pool, "Worker", lambda output, profile, identity, load: load())
    with pytest.raises(AskedError):
        Editing(tmp_path, SD2, {}, None, allow_cpu=True)
    assert SENTENCE.fullmatch(str(Editing(tmp_path, SD2, {}, None).problem))


def test_the_doctor_decides_alike(monkeypatch):
    def gpu(profile, allow_cpu=None):
        return doctor._gpu(profile, allow_cpu)

    assert gpu(SD2).problem == "no GPU"
    assert gpu(SD2, True).problem == gpu(TINY).problem == ""
    monkeypatch.setenv("LR_ALLOW_CPU", "1")
    assert gpu(SD2).problem == ""


def test_miniatures_and_small_models_are_let_in(tmp_path):
    assert [name for name, profile in PROFILES.items() if not profile.needs_gpu] == ["tiny"]
    small = TINY.but(editor=str(tmp_path), backbone=str(tmp_path), clip=str(tmp_path))
    assert loading.check_device(small) == loading.check_device(replace(SD2, needs_gpu=False)) == "cpu"


# Apple's GPU


@pytest.fixture
def apple(monkeypatch):
    """A machine whose GPU is Apple's, as far as torch says."""
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)


def test_apples_gpu_is_taken_by_what_needs_one(apple, monkeypatch):
    assert loading.default_device(SD2) == loading.default_device() == "mps"
    assert loading.default_device(TINY) == "cpu"
    assert not loading.is_too_slow(SD2, "mps")
    assert loading.dtype_for("mps") == torch.float32
    assert loading.batch_for("mps", 16, None) == loading.batch_for("mps", 16, 1.4) == 1
    assert loading.encoder_device("mps") == loading.encoder_device("mps:0") == "cpu"
    assert loading.encoder_device("cuda:1") == "cuda:1"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert loading.default_device(SD2) == "cuda"


def test_the_doctor_says_that_apples_gpu_is_untried(apple):
    line = doctor._gpu(SD2, None)
    assert line.problem == ""
    assert line.text == "Apple's, by MPS, in float32; untried here"
    assert "PYTORCH_ENABLE_MPS_FALLBACK=1" in line.fix
    assert doctor._gpu(TINY, None).text.startswith("none")


@pytest.mark.skipif(torch.backends.mps.is_built(), reason="this torch may have Apple's GPU")
def test_apples_gpu_where_there_is_none():
    with pytest.raises(UserError, match="The device 'mps' is not available here; use 'cpu'"):
        load_models("tiny", "mps")
