"""`doctor`: every state of an origin, of the machine and of the packages gets its sentence, its fix and the verdict."""

import os
import re
import shutil
import socket
import subprocess
import sys
from collections import namedtuple
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import layouts
import pytest
import torch
from fake_hub import SHA, Hub
from huggingface_hub import constants

from lr_helpers.cli import main
from lr_helpers.costs import random_weights
from lr_helpers.files.paths import DATA
from lr_helpers.machine.installing import install_command
from lr_helpers.models import doctor
from lr_helpers.models import loading as models
from lr_helpers.models.profiles import PROFILES, get_profile

ROOT = Path(__file__).resolve().parents[1]
TINY = get_profile("tiny")


@pytest.fixture(autouse=True)
def a_machine_without_gpu(monkeypatch):
    monkeypatch.delenv("LR_PROFILE", raising=False)
    monkeypatch.setattr(models, "default_device", lambda profile=None: "cpu")


@pytest.fixture
def report(capsys, monkeypatch):
    """Runs the command on a profile, known by name or made here; returns exit code, report and verdict."""

    def run(profile, *options: str) -> tuple[int, str, str]:
        if not isinstance(profile, str):
            monkeypatch.setitem(PROFILES, profile.name, profile)
            profile = profile.name
        code = main(["doctor", "--profile", profile, *options])
        return code, *check(capsys.readouterr().out)

    return run


def check(text: str) -> tuple[str, str]:
    """The report and its last line; each kind of failure must have its fix, and count in the verdict."""
    *lines, verdict = text.rstrip().split("\n")
    failed = [line for line in lines if line.startswith(("!", "✗"))]
    assert bool(failed) == any("fix: " in line for line in lines)
    problems = [line for line in lines if line.startswith("✗")]
    counted = re.fullmatch(r"not ready: (\d+) problems? \(.+\)", verdict)
    assert int(counted[1]) == len(problems) if counted else not problems and verdict.startswith("ready: ")
    return text, verdict


# The shipped profile


def test_the_shipped_profile_is_ready(report):
    code, text, verdict = report("tiny")
    assert code == 0
    assert verdict == "ready: profile tiny runs here"
    assert "fix" not in text
    assert f"torch            {metadata.version('torch')}" in text
    assert "GPU              none" in text
    assert "float32" in text
    assert "nothing to download" in text
    assert "data/tiny_world/inpainting: a folder, complete" in text


def test_an_unknown_profile_is_bad_input(capsys):
    assert main(["doctor", "--profile", "sd9"]) == 2
    assert re.fullmatch(r"error: [^\n]*'sd9'[^\n]*tiny[^\n]*\.\n", capsys.readouterr().err)


def test_every_part_has_licence_and_size():
    for profile in PROFILES.values():
        for part in profile.models:
            about = profile.parts[part]
            assert about.licence != "not stated"
            assert about.gigabytes > 0
            assert all(re.fullmatch(r"20\d\d-(0[1-9]|1[0-2])", since) for since in about.gone.values())
            assert not set(about.gone) & set(getattr(profile, part))
        for extra in profile.comparison.values():
            assert extra.about.licence != "not stated"
            assert extra.about.gigabytes > 0
        assert isinstance(hash(profile), int)


SHIPPED = {**{part: (getattr(TINY, part)[0], TINY.parts[part]) for part in TINY.models},
           **{part: (TINY.comparison[part].origins[0], TINY.comparison[part].about)
              for part in ("text_to_image", "instruct")}}


@pytest.mark.parametrize("part", SHIPPED)
def test_the_sizes_of_the_shipped_models_are_right(part):
    folder, about = SHIPPED[part]
    assert sum(f.stat().st_size for f in Path(folder).rglob("*")) / 1e9 == pytest.approx(about.gigabytes, rel=0.1)


def test_models_of_the_comparison_are_told_if_asked_for_and_are_no_problem(report, tmp_path):
    assert "clipseg" not in report("tiny")[1]
    code, text, verdict = report("tiny", "--comparison")  # conftest.py sets HF_HUB_OFFLINE
    assert (code, verdict) == (0, "ready: profile tiny runs here")
    assert "data/tiny_world/text_to_image: a folder, complete" in text  # without the VAE, which it borrows
    assert "clipseg          no origin serves; 600 MB; licence: Apache-2.0" in text
    folder = shutil.copytree(SHIPPED["instruct"][0], tmp_path / "instruct")
    (folder / "unet" / "config.json").unlink()
    broken = {**TINY.comparison, "instruct": replace(TINY.comparison["instruct"], origins=(str(folder),))}
    assert "missing or damaged: unet/config.json" in report(replace(TINY, comparison=broken), "--comparison")[1]


# The model hub, played on loopback

GONE = "404: gone or never there"
LOGIN = "log in with `hf auth login` and accept the licence at http://127.0.0.1:"
ANSWERS = {
    # name of profile and repository: text, fix, trouble of the editor
    "good": (f"on the hub, commit {SHA[:7]}", "", ""),
    "gone": (GONE, "name a mirror of fake/gone", "is gone"),
    "private": ("401: needs a login", LOGIN, "needs a login"),
    "forbidden": ("403: gated", LOGIN, "needs a login"),
    "gated": ("403: gated", LOGIN, "needs a login"),
    "slow": ("no answer from http://127.0.0.1:", "HF_HUB_ETAG_TIMEOUT", "can't be reached"),
    "ill": ("the hub answers 503", "try again later", "can't be reached"),
    "portal": ("does not answer as a model hub", "HF_ENDPOINT", "can't be reached"),
    "a/b/c": ("neither a folder nor a hub id", "name a folder or OWNER/NAME", "is missing"),
}
MIRROR = """
[profiles.mirror]
title = "the first origin is gone, the second serves; the backbone is in the cache"
size = 64
steps = 1
guidance = 1.0
batch = 1
backbone_size = 64
editor.origins = ["fake/gone", "fake/good", "fake/private"]
editor.licence = "a licence"
editor.gigabytes = 2.5
editor.gone = [{origin = "fake/gone", since = "2025-11"}, {origin = "fake/older", since = "2024-09"}]
backbone.origins = ["fake/cached"]
clip.origins = ["openclip:ViT-B-16:openai"]
clip.gigabytes = 0.5
"""
SCRIPT = """
import sys
from lr_helpers.cli import main
for name in sys.argv[1:]:
    print("exit", main(["doctor", "--profile", name, "--allow-cpu"]))
    print("next")
"""


def write_profiles(data: Path) -> None:
    """A data folder with a profile for each answer of the hub."""
    data.mkdir()
    (data / "tiny_world").symlink_to(DATA / "tiny_world")
    text = MIRROR
    for name in ANSWERS:
        repo = name if "/" in name else f"fake/{name}"
        text += MIRROR.split("editor.origins")[0].replace("profiles.mirror", f'profiles."{name}"')
        text += f'editor.origins = ["{repo}"]\nbackbone.origins = ["tiny_world/dino"]\n'
        text += 'clip.origins = ["tiny_world/clip"]\n'
    (data / "models.toml").write_text(text, encoding="utf-8")


@pytest.fixture(scope="module")
def hub_reports(tmp_path_factory) -> dict[str, tuple[int, str, str]]:
    """Exit code, report and verdict for each of these profiles, from one process: importing takes seconds."""
    root = tmp_path_factory.mktemp("hub")
    write_profiles(root / "data")
    cached = root / "home" / "hub" / "models--fake--cached"
    shutil.copytree(DATA / "tiny_world" / "dino", cached / "snapshots" / SHA)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text(SHA)
    names = [*ANSWERS, "mirror"]
    folders = {"fake/good": DATA / "tiny_world" / "inpainting",
               "timm/vit_base_patch16_clip_224.openai": layouts.true_clip("ViT-B-16", root / "released")}
    with Hub(folders) as hub:
        done = subprocess.run([sys.executable, "-c", SCRIPT, *names], cwd=ROOT, capture_output=True, text=True,
                              env=hub.environment(root / "home") | {"LR_DATA": str(root / "data")}, encoding="utf-8",
                              timeout=300)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    found = {}
    for name, text in zip(names, done.stdout.split("next\n"), strict=False):
        text, _, code = text.rpartition("exit ")
        found[name] = (int(code), *check(text))
    return found


@pytest.mark.parametrize("name", ANSWERS)
def test_each_answer_of_the_hub_has_its_sentence(name, hub_reports):
    text, fix, trouble = ANSWERS[name]
    code, report, verdict = hub_reports[name]
    origin, below = re.search(r"\n(.   origin 1 .*)\n(.*)\n", report).groups()
    assert text in origin
    assert (origin[0] == "!") == below.startswith(" " * 19 + "fix: ") == bool(fix)
    assert fix in below
    assert code == (1 if trouble else 0)
    assert verdict == (f"not ready: 1 problem (the editor {trouble})" if trouble else f"ready: profile {name} runs here")


def test_a_mirror_or_the_cache_serves(hub_reports):
    code, report, verdict = hub_reports["mirror"]
    assert (code, verdict) == (0, "ready: profile mirror runs here")
    assert "editor           origin 2 serves; 2.5 GB; licence: a licence" in report
    assert f"!   origin 1       fake/gone (seen gone since 2025-11): {GONE}\n" in report
    assert "    not tried      fake/older: seen gone since 2024-09\n" in report
    assert f"fake/cached: in the hub's cache, commit {SHA[:7]}" in report
    assert f"openclip:ViT-B-16:openai: timm/vit_base_patch16_clip_224.openai, on the hub, commit {SHA[:7]}" in report
    assert "; 3.0 GB to download" in report


# Without the hub


def test_offline_is_told_once(report):
    code, text, verdict = report("sd2", "--allow-cpu")  # conftest.py sets HF_HUB_OFFLINE
    assert code == 1
    assert verdict == ("not ready: 3 problems (the editor can't be reached; the backbone can't be reached; "
                       "the CLIP model can't be reached)")
    assert text.count("fix: ") == text.count("fix: unset HF_HUB_OFFLINE") == 1
    assert "3.5 GB to download" in text
    assert "stabilityai/stable-diffusion-2-inpainting: seen gone since 2025-11" in text


def test_the_comparison_and_its_measures_count_on_the_disk(report):
    text = report("sd2", "--allow-cpu", "--comparison")[1]
    # 3.5 and, beside them, SD 2.1 base, InstructPix2Pix, CLIPSeg, Grounding DINO, SAM and ViT-L/14; DINO counts once.
    assert "19.8 GB to download" in text
    assert "measure: clip    no origin serves; 1.7 GB; licence: MIT (OpenAI)" in text
    assert "measure: structure no origin serves; 340 MB; licence: Apache-2.0" in text


def test_no_connection_names_the_address(report, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = f"http://127.0.0.1:{closed.getsockname()[1]}"
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", address)
    code, text, verdict = report(replace(TINY, backbone=("facebook/dino-vitb8",)))
    assert (code, verdict) == (1, "not ready: 1 problem (the backbone can't be reached)")
    assert f"facebook/dino-vitb8: no connection to {address} (" in text
    assert "fix: connect to the network" in text


def test_an_unknown_released_clip(report):
    code, text, verdict = report(replace(TINY, clip=("openclip:ViT-B-16:nothing",)))
    assert (code, verdict) == (1, "not ready: 1 problem (the CLIP model is unknown)")
    assert "open_clip.list_pretrained()" in text


def test_a_released_clip_outside_the_hub_is_a_pickle(report, monkeypatch):
    monkeypatch.setattr("open_clip.pretrained.get_pretrained_cfg", lambda name, tag: {"url": "https://a.place/x.pt"})
    code, text, verdict = report(replace(TINY, clip=("openclip:any:tag",)))
    assert (code, verdict) == (1, "not ready: 1 problem (the CLIP model holds pickles)")
    assert "it is not on the hub as safetensors" in text
    assert "nothing to download" in text


# Folders


@pytest.mark.parametrize(("part", "file"), [
    ("editor", "unet/diffusion_pytorch_model.safetensors"), ("editor", "model_index.json"),
    ("backbone", "model.safetensors"), ("clip", "open_clip_model.safetensors")])
@pytest.mark.parametrize("damage", ["missing", "cut off"])
def test_an_incomplete_folder_names_the_file(part, file, damage, report, tmp_path):
    folder = tmp_path / "a model"
    shutil.copytree(getattr(TINY, part)[0], folder)
    whole = (folder / file).read_bytes()
    (folder / file).unlink()
    if damage == "cut off":
        (folder / file).write_bytes(whole[: len(whole) // 2])
    code, text, verdict = report(replace(TINY, **{part: (str(folder),)}))
    assert (code, verdict) == (1, f"not ready: 1 problem (the {doctor.PARTS[part]} is incomplete)")
    pattern = file if file.endswith(".json") or part == "clip" else re.sub(r"[^/]+$", "*.safetensors", file)
    assert f"{folder}: missing or damaged: {pattern}\n" in text
    assert f"fix: put the whole model into {folder}\n" in text


@pytest.mark.parametrize("name", ["sd2", "sdxl", "amused", "zimage", "sd15_lcm"])
def test_each_family_needs_its_own_files(name, report, tmp_path):
    profile = replace(random_weights.write(name, tmp_path), name="mine")
    assert report(profile, "--allow-cpu")[0] == 0
    lost = {"sd2": "unet", "sdxl": "text_encoder_2", "amused": "vqvae", "zimage": "transformer", "sd15_lcm": "vae"}[name]
    for file in (tmp_path / "editor" / lost).glob("*.safetensors"):
        file.unlink()
    code, text, verdict = report(profile, "--allow-cpu")
    assert (code, verdict) == (1, "not ready: 1 problem (the editor is incomplete)")
    assert f"missing or damaged: {lost}/*.safetensors\n" in text


def test_a_shipped_folder_that_is_missing_is_restored(report):
    code, text, verdict = report(replace(TINY, editor=(str(DATA / "tiny_world" / "lost"),)))
    assert (code, verdict) == (1, "not ready: 1 problem (the editor is missing)")
    assert "fix: restore it from the repository, e.g. by: git checkout -- data/tiny_world/lost\n" in text


def test_different_troubles_share_one_verdict(report, tmp_path):
    code, _, verdict = report(replace(TINY, editor=(str(tmp_path / "no"), "fake/offline")))
    assert (code, verdict) == (1, "not ready: 1 problem (the editor has no origin that serves)")


def test_a_missing_word_list(report):
    code, text, verdict = report(replace(TINY, vocabulary=DATA / "words.txt"))
    assert (code, verdict) == (1, "not ready: 1 problem (the word list is missing)")
    assert "git checkout -- data/words.txt" in text


# The machine


def test_other_profiles_need_a_gpu(report):
    other = replace(TINY, name="other", needs_gpu=True)
    code, text, verdict = report(other)
    assert (code, verdict) == (1, "not ready: 1 problem (no GPU)")
    assert "add --allow-cpu" in text
    assert report(other, "--allow-cpu")[0] == 0


def test_a_gpu_is_told_with_its_memory(report, monkeypatch):
    monkeypatch.setattr(models, "default_device", lambda profile=None: "cuda")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla T4")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (14_000_000_000, 15_800_000_000))
    code, text, _ = report(replace(TINY, name="other", needs_gpu=True))
    assert code == 0
    assert "GPU              Tesla T4, 15.8 GB, 14.0 GB of them free; float16\n" in text


def test_a_gpu_that_fails(report, monkeypatch):
    def fail(*_):
        raise RuntimeError("CUDA error: all CUDA-capable devices are busy or unavailable\nCUDA kernel errors …")

    monkeypatch.setattr(models, "default_device", lambda profile=None: "cuda")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    monkeypatch.setattr(torch.cuda, "mem_get_info", fail)
    code, text, verdict = report("tiny")
    assert (code, verdict) == (1, "not ready: 1 problem (the GPU can't be used)")
    assert "devices are busy or unavailable\n" in text
    assert "fix: see by nvidia-smi" in text


def test_a_disk_that_is_too_small(report, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(8e9, 6e9, 2e9))
    code, text, verdict = report("sd2", "--allow-cpu")
    assert code == 1
    assert "the disk is too small" in verdict
    assert "2.0 GB free" in text
    assert "fix: free 1.5 GB, or set HF_HOME" in text
    assert report("tiny")[0] == 0  # which downloads nothing


# The packages


def versions(monkeypatch, **changed: str | None) -> None:
    """Let these packages have these versions, or be missing (None)."""
    true = metadata.version

    def version(name: str) -> str:
        if changed.get(name, "") is None:
            raise metadata.PackageNotFoundError(name)
        return changed.get(name) or true(name)

    monkeypatch.setattr(metadata, "version", version)


def test_a_library_that_is_too_old(report, monkeypatch):
    versions(monkeypatch, diffusers="0.30.3", torch="2.15.0+cu130")
    code, text, verdict = report("tiny")
    assert (code, verdict) == (1, "not ready: 1 problem (diffusers is too old)")
    assert "0.30.3 is too old, >=0.39,<1 is needed" in text
    assert f"fix: {install_command('diffusers>=0.39,<1')}\n" in text


@pytest.mark.parametrize(("text", "code", "said"), [
    ("two", 1, "fix: LR_THREADS is 'two'; give a number from 1 to 1024, auto or off"), ("3", 0, "torch takes 3 threads (LR_THREADS)"), ("off", 0, "CPU cores")])
def test_the_threads_that_are_asked_for_are_told_or_refused(report, monkeypatch, text, code, said):
    monkeypatch.setenv("LR_THREADS", text)
    found, told, verdict = report("tiny")
    assert found == code and said in told and ("LR_THREADS is wrong" in verdict) == bool(code)


def test_a_library_that_is_too_new_is_a_warning(report, monkeypatch):
    versions(monkeypatch, transformers="6.1.0")
    code, text, _ = report("tiny")
    assert code == 0
    assert "! transformers     6.1.0 is newer than what was tried, >=5.15,<6\n" in text
    assert f"fix: if something fails: {install_command('transformers>=5.15,<6')}\n" in text


def test_a_python_that_is_too_old(report, monkeypatch):
    monkeypatch.setattr("platform.python_version", lambda: "3.10.4")
    code, text, verdict = report("tiny")
    assert (code, verdict) == (1, "not ready: 1 problem (Python is too old)")
    assert "fix: install Python >=3.11,<3.14" in text


def test_missing_libraries_end_the_report(report, monkeypatch):
    versions(monkeypatch, torch=None, open_clip_torch=None)
    code, text, verdict = report("tiny")
    assert (code, verdict) == (1, "not ready: 2 problems (torch is missing; open_clip_torch is missing)")
    assert text.count("fix: ") == text.count(f"fix: {doctor.INSTALL}") == 1
    assert "editor" not in text


def test_it_runs_where_nothing_is_installed():
    # -S leaves out the installed packages, as the system's own Python would
    done = subprocess.run([sys.executable, "-S", "-m", "lr_helpers", "doctor", "--profile", "tiny"], cwd=ROOT,
                          env=os.environ | {"PYTHONUTF8": "1"}, capture_output=True, text=True, encoding="utf-8",
                          timeout=60)
    assert done.returncode == 1
    assert done.stderr == ""
    assert "not ready: 8 problems (torch is missing; " in check(done.stdout)[1]


def test_libraries_that_do_not_load(report, monkeypatch):
    monkeypatch.setitem(sys.modules, "lr_helpers.models.loading", None)
    code, text, verdict = report("tiny")
    assert (code, verdict) == (1, "not ready: 1 problem (the libraries do not load)")
    assert "ModuleNotFoundError" in text


def test_the_ranges_are_those_of_an_installed_package_too(monkeypatch):
    monkeypatch.setattr(metadata, "requires", lambda name: ["torch<3,>=2.11", "pytest>=8.3; extra == 'test'"])
    monkeypatch.setattr(metadata, "metadata", lambda name: {"Requires-Python": ">=3.11,<3.14"})
    installed = doctor._ranges()

    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", missing)
    cloned = doctor._ranges()
    assert all(installed[name] == cloned[name] for name in ("torch", "python"))


# reproduce.sh asks the doctor first

STUB = """#!/bin/sh
[ "$1" = -c ] && exit 0
echo "$*" >>calls
[ "$3" != doctor ] || exit "$DOCTOR"
"""


@pytest.fixture
def reproduce(tmp_path):
    """Runs reproduce.sh where .venv's Python only notes how it is called; returns exit code and the calls."""
    for name in ("reproduce.sh", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    python = tmp_path / ".venv" / "bin" / "python"
    python.write_text(STUB)
    python.chmod(0o755)
    stamp = 'printf "%s %s\\n" "$(cat pyproject.toml constraints.txt | cksum)" "$PWD" >.venv/stamp'
    subprocess.run(["bash", "-c", stamp], cwd=tmp_path, check=True)
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "01.ipynb").touch()

    def run(*arguments: str, doctor: int = 0) -> tuple[int, list[str]]:
        (tmp_path / "calls").write_text("")
        done = subprocess.run(["bash", "reproduce.sh", *arguments], cwd=tmp_path, timeout=60,
                              env=os.environ | {"DOCTOR": str(doctor)}, capture_output=True, text=True)
        return done.returncode, (tmp_path / "calls").read_text().splitlines()

    return run


def test_run_asks_the_doctor_first(reproduce):
    assert reproduce("run", "--profile", "sd2") == (0, [
        "-m lr_helpers doctor --profile sd2 --comparison", "-m lr_helpers report --profile sd2 --output results/sd2"])
    assert reproduce("--allow-cpu")[1][0] == "-m lr_helpers doctor --profile tiny --allow-cpu"


@pytest.mark.parametrize("limit", [("--time-limit", "90"), ("--time-limit=90",)])
def test_run_passes_the_options_of_the_report_on(limit, reproduce):
    assert reproduce("--again", "--allow-cpu", *limit)[1][1] == (
        "-m lr_helpers report --profile tiny --output results/tiny --allow-cpu --again --time-limit 90")


@pytest.mark.parametrize("arguments", [("--time-limit",), ("--time-limit", "soon"), ("--time-limit=-1",)])
def test_a_time_limit_that_is_no_number_is_refused_before_any_work(arguments, reproduce):
    assert reproduce("run", *arguments) == (2, [])


@pytest.mark.parametrize("code", [1, 2])
def test_run_stops_where_the_doctor_does(code, reproduce):
    assert reproduce("run", doctor=code) == (code, ["-m lr_helpers doctor --profile tiny"])


def test_lab_asks_the_doctor_too(reproduce):
    assert reproduce("lab", "--profile", "sd2", doctor=1) == (1, ["-m lr_helpers doctor --profile sd2 --comparison"])
    assert reproduce("lab", "--profile", "sd2", "--allow-cpu")[1] == ["-m lr_helpers doctor --profile sd2 --comparison --allow-cpu", "-m lr_helpers fetch --profile sd2", "-m jupyterlab notebooks"]


def test_app_asks_the_doctor_of_what_it_loads(reproduce):
    assert reproduce("app", "--profile", "sd2", doctor=1) == (1, ["-m lr_helpers doctor --profile sd2"])
    assert reproduce("app", "--allow-cpu") == (0, [
        "-m lr_helpers doctor --profile tiny --allow-cpu", "-m lr_helpers app --profile tiny --browser --allow-cpu"])


def test_test_does_not_ask_the_doctor(reproduce):
    code, calls = reproduce("test", doctor=1)
    assert code == 0
    assert calls
    assert not any("doctor" in call for call in calls)
