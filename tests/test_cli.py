"""The command line: files and exit codes, and one line for each input that can't work."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lr_helpers import METHODS, EditResult, method, sequence
from lr_helpers.cli import edit as cli_edit
from lr_helpers.cli import main
from lr_helpers.files import pictures
from lr_helpers.files.outputs import LEDGER
from lr_helpers.files.pictures import read_image, to_tensor, upright
from lr_helpers.method import check_texts
from tiny_world.scenes import scene

ROOT = Path(__file__).resolve().parents[1]
FAST = ["--profile", "tiny", "--device", "cpu", "--steps", "2", "--anchors", "2", "--sizes", "0.4", "0.6",
        "--iterations", "3"]


@pytest.fixture(autouse=True)
def no_profile_from_outside(monkeypatch):
    monkeypatch.delenv("LR_PROFILE", raising=False)


def edit_arguments(image, output, source="wolf", prompt="a rabbit") -> list[str]:
    return ["edit", "--image", str(image), "--output", str(output), "--source", source, "--prompt", prompt, *FAST]


# scene


@pytest.mark.parametrize("more", [[], ["--objects", "3"]])
def test_a_scene_is_written_with_its_truth(tmp_path, capsys, more):
    folder = tmp_path / "a scene"
    assert main(["scene", "--seed", "7", "--output", str(folder), *more]) == 0
    assert sorted(f.name for f in folder.iterdir()) == [LEDGER, "scene.json", "scene.png"]
    recipe = scene(7, 3 if more else None)
    assert np.array_equal(np.asarray(Image.open(folder / "scene.png")), recipe.render())
    truth = json.loads((folder / "scene.json").read_text(encoding="utf-8"))
    assert truth["seed"] == 7
    assert truth["place"] == recipe.place
    assert [(o["name"], tuple(o["box"])) for o in truth["objects"]] == [(o.name, o.box) for o in recipe.objects]
    assert recipe.caption() in capsys.readouterr().out


def test_a_scene_of_a_negative_seed_is_refused(tmp_path, capsys):
    assert main(["scene", "--seed", "-1", "--output", str(tmp_path / "x")]) == 2
    assert capsys.readouterr().err.startswith("error: ")
    assert not (tmp_path / "x").exists()


# edit


@pytest.fixture(scope="module")
def edited(tmp_path_factory):
    """The folder that one edit of a larger picture wrote, and that picture."""
    root = tmp_path_factory.mktemp("edited")
    file, folder = root / "my picture.jpg", root / "out put"
    Image.fromarray(scene(9, 1).render()).resize((150, 100)).save(file, quality=95)
    assert main([*edit_arguments(file, folder), "--seed", "5", "--draw-boxes", "--anchors", "4"]) == 0  # two places
    return folder, file


def test_an_edit_writes_the_documented_files(edited):
    folder, file = edited
    written = sorted(str(f.relative_to(folder)) for f in folder.rglob("*") if f.is_file())
    record = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    names = ["00.png", "01.png"]
    assert written == [LEDGER, *(f"boxes/{name}" for name in names), "final_output.png", "input.png",
                                 "overview.png", "region_network.safetensors", "result.json",
                                 *(f"results/{name}" for name in names)]
    assert read_image(folder / "input.png").tobytes() == read_image(file).tobytes()
    assert read_image(folder / "final_output.png").size == (150, 100)
    assert read_image(folder / "final_output.png").tobytes() != read_image(folder / "input.png").tobytes()
    assert (record["prompt"], record["source"], record["seed"]) == ("a rabbit", "wolf", 5)
    assert (record["profile"], record["device"], record["steps"]) == ("tiny", "cpu", 2)
    assert {"torch", "diffusers", "transformers", "open_clip", "python"} <= record["versions"].keys()
    assert set(record["origins"]) == {"editor", "backbone", "clip"}
    assert record["cost"]["denoiser_evaluations"] == record["cost"]["different_edits"] * 2 * 2
    assert len(record["anchors"]) == len(record["boxes"]) == 2
    assert len(record["history"]["loss"]) == 3


def test_a_written_edit_is_loaded_again_and_is_what_the_arguments_say(edited, models):
    from lr_helpers import edit

    folder, file = edited
    loaded = EditResult.load(folder)
    method = METHODS["learned"].but(anchors=4, sizes=(0.4, 0.6), iterations=3, steps=2)
    again = edit(models, file, "wolf", "a rabbit", method, 5, progress=False)
    assert loaded.method == method
    assert loaded.box == again.box
    assert loaded.image.tobytes() == again.image.tobytes()
    assert torch.equal(loaded.boxes, again.boxes)
    assert torch.allclose(loaded.loss, again.loss, atol=1e-5, equal_nan=True)
    for mine, theirs in zip(loaded.candidates, again.candidates, strict=True):
        assert mine.box == theirs.box
        assert (mine.picture - theirs.picture).abs().max() <= 0.5 / 255 + 1e-6
    weights = again.network.state_dict()
    assert all(torch.equal(values, weights[name]) for name, values in loaded.network.state_dict().items())


def test_drawn_boxes_show_where(edited):
    folder, _ = edited
    original = read_image(folder / "input.png")
    for i, candidate in enumerate(EditResult.load(folder).candidates):
        plain = read_image(folder / "results" / f"{i:02}.png")
        marked = read_image(folder / "boxes" / f"{i:02}.png")
        large = to_tensor(plain.resize(marked.size, Image.Resampling.NEAREST))
        rows, columns = np.nonzero((large != to_tensor(marked)).any(0).numpy())
        scale = marked.width / original.width
        found = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert np.abs(np.array(found) - np.array(candidate.box) * scale).max() <= 2


def test_a_second_edit_leaves_nothing_of_the_first(scene_file, tmp_path):
    arguments = [*edit_arguments(scene_file, tmp_path / "out"), "--quiet"]
    assert main([*arguments, "--draw-boxes"]) == 0
    assert main([*arguments, "--anchors", "1"]) == 0
    written = sorted(str(f.relative_to(tmp_path / "out")) for f in (tmp_path / "out").rglob("*") if f.is_file())
    assert written == [LEDGER, "final_output.png", "input.png", "region_network.safetensors", "result.json",
                       "results/00.png"]


def test_the_summary_names_cost_and_file(scene_file, tmp_path, capsys):
    assert main(edit_arguments(scene_file, tmp_path / "out")) == 0
    out = capsys.readouterr().out
    assert "denoiser evaluations" in out
    assert str(tmp_path / "out" / "final_output.png") in out
    assert main([*edit_arguments(scene_file, tmp_path / "out2"), "--quiet"]) == 0
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""
    first, second = (read_image(tmp_path / o / "final_output.png").tobytes() for o in ("out", "out2"))
    assert first == second
    assert not (tmp_path / "out" / "boxes").exists()


@pytest.mark.parametrize("more", [[], ["--then", "fox", "a cat"]], ids=["once", "in turn"])
def test_input_is_checked_once_and_made_upright_once(more, scene_file, tmp_path, monkeypatch):
    uprights, checks = [], []
    monkeypatch.setattr(pictures, "upright", lambda image: uprights.append(image) or upright(image))
    monkeypatch.setattr(method, "check_texts", lambda *texts: pytest.fail("checked again"))  # behind check_input, too
    monkeypatch.setattr(cli_edit, "check_texts", lambda *texts: checks.append(texts) or check_texts(*texts))
    monkeypatch.setattr(sequence, "check_texts", lambda *texts: pytest.fail("checked again"))
    assert main([*edit_arguments(scene_file, tmp_path / "out", " wolf "), *more, "--quiet"]) == 0
    assert checks == [(" wolf ", "a rabbit"), *([tuple(more[1:])] if more else [])]
    assert len(uprights) == 1
    folder = tmp_path / "out" / "step_1" if more else tmp_path / "out"
    assert EditResult.load(folder).source == "wolf"


def test_unknown_words_are_warned_of_and_the_edit_is_made(scene_file, tmp_path, capsys):
    assert main([*edit_arguments(scene_file, tmp_path / "out", "wolf", "a zebra and a giraffe"), "--quiet"]) == 0
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 2
    assert all(line.startswith("warning: ") for line in lines)
    assert "'zebra'" in lines[0]
    assert "'giraffe'" in lines[1]
    assert (tmp_path / "out" / "final_output.png").is_file()
    assert len(EditResult.load(tmp_path / "out").warnings) == 2


# Input that can't work

BAD = {
    "missing image": ["--image", "{folder}/nowhere.png"],
    "a folder": ["--image", "{folder}"],
    "no image": ["--image", "{folder}/text.png"],
    "empty prompt": ["--prompt", ""],
    "blank prompt": ["--prompt", "  \n "],
    "empty source": ["--source", ""],
    "unknown profile": ["--profile", "sd9"],
    "no anchors": ["--anchors", "0"],
    "too many anchors": ["--anchors", "10000"],
    "negative anchors": ["--anchors", "-3"],
    "size 0": ["--sizes", "0", "0.5"],
    "size 1.5": ["--sizes", "0.5", "1.5"],
    "size nan": ["--sizes", "nan"],
    "size inf": ["--sizes", "inf"],
    "a size twice": ["--sizes", "0.5", "0.5"],
    "no steps": ["--steps", "0"],
    "too many steps": ["--steps", "100000"],
    "lr nan": ["--lr", "nan"],
    "lr 0": ["--lr", "0"],
    "guidance nan": ["--guidance", "nan"],
    "negative iterations": ["--iterations", "-1"],
    "pool 0": ["--pool", "0"],
    "unknown estimator": ["--estimator", "magic"],
    "unknown choice": ["--choice", "best"],
    "negative seed": ["--seed", "-1"],
    "huge seed": ["--seed", "99999999999999999999999"],
    "output under a file": ["--output", "{folder}/text.png/out"],
    "output is a file": ["--output", "{folder}/text.png"],
    "an empty output": ["--output", ""],
    "an empty output, as one word": ["--output="],
    "a region network that nobody asks": ["--regions", "{folder}/nowhere.safetensors"],
}
NAMED = {"missing image": "nowhere.png", "no image": "text.png", "empty prompt": "prompt", "empty source": "source",
         "unknown profile": "'sd9'", "too many anchors": "10000", "size 1.5": "1.5", "size nan": "nan",
         "a size twice": "0.5", "no steps": "steps", "lr nan": "lr", "negative seed": "-1",
         "output under a file": "text.png", "unknown estimator": "'magic'"}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_answered_in_one_line(case, scene_file, capsys):
    folder = scene_file.parent
    (folder / "text.png").write_text("no picture")
    before = {f: f.read_bytes() for f in folder.rglob("*") if f.is_file()}
    arguments = [*edit_arguments(scene_file, folder / "out"), *(a.format(folder=folder) for a in BAD[case])]
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert re.fullmatch(r"error: [^\n]+\.\n", captured.err)
    assert NAMED.get(case, "") in captured.err
    assert {f: f.read_bytes() for f in folder.rglob("*") if f.is_file()} == before
    assert not (folder / "out").exists()


@pytest.mark.parametrize(
    "more", [["--anchors", "many"], ["--seed", "1.5"], ["--method", "magic"], ["--sizes"], ["--what", "1"]], ids=str)
def test_arguments_of_the_wrong_kind_are_explained(more, scene_file, capsys):
    with pytest.raises(SystemExit) as stop:
        main([*edit_arguments(scene_file, scene_file.parent / "out"), *more])
    assert stop.value.code == 2
    assert "error: " in capsys.readouterr().err
    assert not (scene_file.parent / "out").exists()


def test_a_folder_blocked_by_a_file_is_named(scene_file, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    (out / "results").write_text("a file where the folder must be")
    assert main([*edit_arguments(scene_file, out), "--quiet"]) == 2
    assert re.fullmatch(r"error: [^\n]+results[^\n]+\.\n", capsys.readouterr().err)
    assert not (out / "result.json").exists()


def test_a_device_that_is_not_there_is_named(scene_file, capsys):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    assert main([*edit_arguments(scene_file, scene_file.parent / "out"), "--device", "cuda"]) == 2
    assert re.fullmatch(r"error: [^\n]*'cuda'[^\n]*\.\n", capsys.readouterr().err)


# A reader that has read enough


@pytest.mark.parametrize("command", [
    ["notebooks", "--check", "01", "02"], ["scene", "--seed", "7"],
    ["batch", str(ROOT / "data" / "images.json"), "--images", str(ROOT / "data" / "images"), "--output", "o", "--check"],
    ["scene", "--help"]], ids=lambda command: f"{command[0]} {command[-1]}")
@pytest.mark.parametrize("both", [False, True], ids=["stdout", "stdout and stderr"])
def test_a_closed_pipe_ends_the_program_without_a_word(command, both, tmp_path):
    """As `… | head -0` and `… 2>&1 | head -0` do: the reader is gone before anything is written."""
    errors = tmp_path / "errors"
    reader, writer = os.pipe()
    os.close(reader)
    with errors.open("w") as file:
        ended = subprocess.run([sys.executable, "-m", "lr_helpers", *command], stdout=writer, stderr=writer if both else file,
                               cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=120)
    os.close(writer)
    # argparse itself swallows what goes wrong when it prints help to an unbuffered stream, and then ends with 0
    assert ended.returncode in ((0, 141) if "--help" in command else (141,))
    assert "Traceback" not in errors.read_text() and "BrokenPipe" not in errors.read_text()
    if command[0] == "scene" and "--seed" in command:
        assert (tmp_path / "scene" / "scene.png").is_file()  # its work was done, only not told


def test_a_program_without_standard_output_works(tmp_path):
    ended = subprocess.run(f'"{sys.executable}" -m lr_helpers scene --seed 7 >&-', shell=True, cwd=tmp_path,
                           env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE, timeout=120)
    assert (ended.returncode, ended.stderr) == (0, b"")


def test_a_program_without_standard_error_works(tmp_path, scene_file):
    ended = subprocess.run(f'"{sys.executable}" -m lr_helpers edit --image "{scene_file}" --source wolf --prompt "a cake" '
                           "--output out --steps 1 2>&-", shell=True, cwd=tmp_path,
                           env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, timeout=120)
    assert ended.returncode == 0 and (tmp_path / "out" / "final_output.png").is_file()


def test_another_broken_pipe_is_an_error_like_any_other(monkeypatch, tmp_path):
    def run(options):
        raise BrokenPipeError("a worker died")

    monkeypatch.setattr("lr_helpers.cli.scene.run", run)
    with (tmp_path / "out").open("w") as file:
        monkeypatch.setattr(sys, "stdout", file)
        monkeypatch.setattr(sys, "stderr", file)
        assert main(["scene", "--seed", "7"]) == 70
    said = (tmp_path / "out").read_text()
    assert "Traceback" in said and "BrokenPipeError: a worker died" in said
    assert said.splitlines()[-1].startswith("error: This is a fault of the program, not of yours; please report it")


# Help


@pytest.mark.parametrize("command", ["edit", "scene", "report", "doctor", "notebooks"])
def test_every_command_has_help(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    options = set(re.findall(r"--[a-z-]+", text)) - {"--help"}
    assert options
    if command == "edit":
        text = " ".join(text.split())  # argparse breaks long lines anywhere
        default = METHODS["learned"]
        for value in (default.anchors, " ".join(map(str, default.sizes)), default.iterations, default.lr):
            assert f"'learned': {value})" in text
        assert "(default: 42)" in text
        assert {"--image", "--source", "--prompt", "--output", "--draw-boxes", "--steps"} <= options
    if command in ("edit", "report", "doctor"):
        assert "(default: tiny)" in text
    if command == "scene":
        assert "(default: scene)" in text


def test_the_top_lists_the_commands(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert all(re.search(rf"^ +{name}\b", text, re.MULTILINE) for name in ("edit", "scene", "report", "doctor", "notebooks"))
    with pytest.raises(SystemExit) as stop:
        main([])
    assert stop.value.code == 2


def test_the_profile_may_come_from_the_environment(monkeypatch, scene_file, capsys):
    monkeypatch.setenv("LR_PROFILE", "sd9")
    arguments = edit_arguments(scene_file, scene_file.parent / "out")
    at = arguments.index("--profile")
    assert main(arguments[:at] + arguments[at + 2:]) == 2
    assert "'sd9'" in capsys.readouterr().err
