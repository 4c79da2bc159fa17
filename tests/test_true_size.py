"""`benchmark --random-weights`: the figures are those of the models that were run, and the table says what was not."""

import json
import mmap
import time

import pytest
import torch

from lr_helpers.cli import main
from lr_helpers.costs import evaluations, random_weights, true_size
from lr_helpers.errors import UserError
from lr_helpers.files.paths import DATA
from lr_helpers.models.profiles import get_profile


@pytest.fixture(scope="module", params=["sd2", "amused"])
def small(request):
    models = random_weights.models(request.param, "cpu", reduced=True)
    models.editor.steps = 3
    return models


EACH = 2 * 3
"""Evaluations of one edit of three steps with guidance; candidates of sd2 take as many, since it screens with eight."""


@pytest.fixture
def small_ones(monkeypatch):
    """Lets the command measure the reduced architectures: the true ones take minutes and gigabytes."""
    made = random_weights.models
    monkeypatch.setattr(random_weights, "models", lambda name, device, dtype: made(name, device, True, dtype))
    monkeypatch.setattr(true_size, "default_device", lambda: "cpu")
    monkeypatch.setattr(true_size, "OTHERS_GB", -1e3)


def test_what_is_computed_is_the_product_of_the_parts(small):
    found = true_size.measure(small, whole=False)
    assert found["computed"]
    assert found["edits"] == 12
    assert found["evaluations"] == 12 * EACH
    parts = found["evaluations"] * found["seconds_per_evaluation"]
    parts += 12 * (found["seconds_to_encode"] + found["seconds_to_decode"])
    assert found["seconds_of_a_learned_edit"] == pytest.approx(parts, rel=0.05, abs=0.15)
    assert found["seconds_per_evaluation"] > 0
    assert found["peak_gb"] > 0.1

def test_what_is_measured_is_a_whole_edit(small):
    found = true_size.measure(small, whole=True)
    assert not found["computed"]
    assert 1 <= found["edits"] <= 12
    assert found["evaluations"] == found["edits"] * EACH
    assert found["seconds_of_a_learned_edit"] > 0


def test_the_clock_leaves_out_what_others_compute():
    clock = true_size.Clock(on_gpu=False)
    _, asleep = clock.timed(lambda: time.sleep(0.3))
    _, busy = clock.timed(lambda: [torch.rand(400, 400) @ torch.rand(400, 400) for _ in range(20)])
    assert asleep < 0.1 < 0.3
    assert busy > 0


def test_the_peak_is_seen():
    with true_size.Peak("cpu") as peak:
        before = peak.used()
        held = mmap.mmap(-1, 200_000_000)  # fresh from the kernel; a tensor may get memory that was freed earlier
        for at in range(0, len(held), mmap.PAGESIZE):
            held[at] = 1
        waited = time.monotonic() + 30
        while peak.gigabytes - before < 0.15 and time.monotonic() < waited:
            time.sleep(0.02)
        held.close()
    assert 0.15 < peak.gigabytes - before < 0.3


def test_rows_are_kept_by_profile_and_device(small_ones, tmp_path, capsys):
    file = tmp_path / "rows.json"
    for remark in ("first", "second"):
        assert main(["benchmark", "--profile", "sd2", "--random-weights", "--output", str(file), "--remark", remark]) == 0
    assert main(["benchmark", "--profile", "amused", "--random-weights", "--output", str(file)]) == 0
    rows = json.loads(file.read_text())
    assert [(row["profile"], row["remark"]) for row in rows] == [("sd2", "second"), ("amused", "")]
    assert rows[0]["weights_gb"] == 5.16  # of the true architecture, by its parameters
    out = capsys.readouterr().out
    table = out[out.rindex(true_size.HEAD):].splitlines()
    assert sum("not measured" in line for line in table) == 6 * 2 + 4  # GPUs of six profiles; four without a CPU's row
    assert sum("computed from the parts" in line for line in table) == 2
    assert len({line.count("|") for line in table}) == 1


def test_another_precision_is_another_row_and_no_one_reckons_with_it(small_ones, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluations, "DATA", tmp_path)
    (tmp_path / "costs.json").write_text((DATA / "costs.json").read_text())
    file = tmp_path / "benchmarks.json"
    command = ["benchmark", "--profile", "sd2", "--random-weights", "--output", str(file)]
    for precision in ("bfloat16", "float32", "bfloat16"):
        assert main([*command, "--precision", precision]) == 0
    rows = true_size.read(file)
    assert [(row["dtype"], row["usual"]) for row in rows] == [("float32", True), ("bfloat16", False)]  # of a CPU
    assert rows[1]["weights_gb"] == pytest.approx(rows[0]["weights_gb"] / 2, abs=0.01)
    rows.reverse()
    file.write_text(json.dumps(rows))
    known = evaluations.speed(get_profile("sd2"), None)
    assert known.seconds == rows[1]["seconds_per_evaluation"]  # not that of the first row


def test_an_unknown_precision_is_refused(small_ones):
    with pytest.raises(UserError, match="'int8' is unknown; choose one of bfloat16, float16, float32"):
        true_size.run("sd2", precision="int8")


def test_without_output_nothing_is_written(small_ones, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["benchmark", "--profile", "amused", "--random-weights"]) == 0
    assert list(tmp_path.iterdir()) == []
    assert true_size.HEAD in capsys.readouterr().out


def test_the_stored_rows_are_rows():
    rows = true_size.read()
    assert rows
    assert all(row["seconds_per_evaluation"] > 0 and row["peak_gb"] > row["weights_gb"] for row in rows)


@pytest.mark.parametrize(("arguments", "said"), [
    (["--profile", "tiny", "--random-weights"], "'tiny' has no random weights; choose one of sd15, sd2, sdxl, amused, zimage, sd15_lcm"),
    (["--profile", "sd9", "--random-weights"], "'sd9' is unknown"),
    (["--profile", "sd2", "--random-weights", "--editor", "a/b"], "leave out --editor"),
    (["--output", "x.json"], "belong to --random-weights"),
    (["--precision", "float16"], "belong to --random-weights"),
    (["--profile", "sd2", "--random-weights", "--output", __file__], "holds no rows of this benchmark"),
])
def test_bad_options_are_said_in_a_sentence(arguments, said, capsys):
    assert main(["benchmark", *arguments]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


def test_memory_that_can_not_hold_the_weights(monkeypatch):
    monkeypatch.setattr(true_size, "OTHERS_GB", 1e6)
    monkeypatch.setattr(true_size, "default_device", lambda: "cpu")
    with pytest.raises(UserError, match=r"'sdxl' needs 1000013\.\d GB of memory and"):
        true_size.run("sdxl")
