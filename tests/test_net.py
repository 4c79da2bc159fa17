"""The net catches: a mutated package makes the notebooks' checked cells fail, and the unit tests too."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

MUTATIONS = {
    "rows and columns of the anchors swapped": (
        "anchors.py", "torch.stack([order // w, order % w], dim=1)", "torch.stack([order % w, order // w], dim=1)",
        "02_where_could_we_edit", "test_method.py"),
    "RoIAlign scaled twice": (
        "regions.py", "to_grid = torch.tensor([scale * w / width, scale * h / height] * 2)",
        "to_grid = 0.125 * torch.tensor([scale * w / width, scale * h / height] * 2)",
        "03_the_box_generator", "test_method.py"),
    "nothing (so that it is the change that makes the others fail)": (
        "anchors.py", "", "", "02_where_could_we_edit", "test_method.py"),
    "structural loss dropped": (
        "losses.py", "return torch.linalg.matrix_norm(difference) / difference.shape[-1]",
        "return torch.zeros(len(difference))", "04_the_losses", "test_method.py"),
}


def run_tests(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    """pytest in a process of its own, on the package in `folder`."""
    environment = {**os.environ, "PYTHONPATH": str(folder), "LR_PROFILE": "tiny", "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-x", "-q", "--rootdir", str(folder), *arguments],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=600)


@pytest.fixture
def mutated(tmp_path, request):
    """A copy of the project in which one line of the package says something else."""
    file, right, wrong, notebook, tests = MUTATIONS[request.param]
    shutil.copytree(ROOT / "lr_helpers", tmp_path / "lr_helpers", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("tiny_world", "data", "pyproject.toml"):
        (tmp_path / name).symlink_to(ROOT / name)
    for part in ("tests", "notebooks"):
        (tmp_path / part).mkdir()
    shutil.copy(ROOT / "notebooks" / f"{notebook}.ipynb", tmp_path / "notebooks")
    for name in (tests, "conftest.py", "shorter.py"):
        shutil.copy(ROOT / "tests" / name, tmp_path / "tests")
    source = tmp_path / "lr_helpers" / file
    text = source.read_text(encoding="utf-8")
    assert not right or text.count(right) == 1, f"{file} no longer holds the line to mutate"
    if right:
        source.write_text(text.replace(right, wrong), encoding="utf-8")
    return tmp_path, notebook, tests, bool(right)


@pytest.mark.all
@pytest.mark.parametrize("mutated", MUTATIONS, indirect=True)
def test_a_changed_algorithm_is_seen_by_notebook_and_tests(mutated):
    folder, notebook, tests, changed = mutated
    for arguments in ([f"tests/{tests}"], ["--nbval-lax", "--nbval-current-env", f"notebooks/{notebook}.ipynb"]):
        done = run_tests(folder, *arguments)
        assert done.returncode == changed, done.stdout[-3000:] + done.stderr[-1000:]
        assert not changed or re.search(r"^FAILED|^1 failed", done.stdout, re.MULTILINE), done.stdout[-3000:]
        # It fails because a result differs, not because the copy is incomplete.
        assert not re.search(r"ModuleNotFoundError|ImportError|is missing", done.stdout), done.stdout[-3000:]
