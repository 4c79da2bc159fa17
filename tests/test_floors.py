"""The floors of the house, held by import-linter: its contracts stand in pyproject.toml."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from importlinter.api import read_configuration

ROOT = Path(__file__).resolve().parents[1]
CONTRACTS = {c["id"]: c for c in read_configuration(str(ROOT / "pyproject.toml"))["contracts_options"]}
LINT = "from importlinter.cli import lint_imports_command\nlint_imports_command()"


def lint(folder: Path) -> subprocess.CompletedProcess:
    """`lint-imports` on the packages in `folder`; in a process of its own, as it imports them from there."""
    return subprocess.run([sys.executable, "-c", LINT, "--no-cache", "--no-logo"], cwd=folder, capture_output=True, text=True,
                          timeout=120)


def test_no_arrow_leads_up_and_there_is_no_circle():
    done = lint(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(CONTRACTS)} kept, 0 broken" in done.stdout


def test_every_module_stands_on_one_floor():
    floors = [[name.strip(" ()") for name in floor.split("|")] for floor in CONTRACTS["floors"]["layers"]]
    found = [f"lr_helpers.{p.stem}" for p in (ROOT / "lr_helpers").iterdir()
             if (p.suffix == ".py" and p.stem != "__init__") or (p / "__init__.py").exists()]
    missing = sorted({*found, "tiny_world"} - {name for floor in floors for name in floor})
    assert not missing, f"give them a floor in pyproject.toml: {missing}"
    assert len({name for floor in floors for name in floor}) == sum(map(len, floors))


@pytest.mark.parametrize(("file", "line", "said"), [
    ("lr_helpers/boxes.py", "from lr_helpers.editing import edit", "lr_helpers.boxes is not allowed to import lr_helpers.editing"),
    ("lr_helpers/boxes.py", "def f():\n    import lr_helpers.plots", "lr_helpers.boxes is not allowed to import lr_helpers.plots"),
    ("lr_helpers/files/names.py", "from lr_helpers import losses", "lr_helpers.files is not allowed to import lr_helpers.losses"),
    ("lr_helpers/errors.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from lr_helpers import method",
     "lr_helpers.errors is not allowed to import lr_helpers.method"),
    ("tiny_world/words.py", "from tiny_world import judge", "tiny_world.words is not allowed to import tiny_world.judge"),
    ("lr_helpers/plots/style.py", "from lr_helpers.plots import charts", "No cycles are allowed in lr_helpers.plots"),
])
def test_an_arrow_that_leads_up_is_seen(tmp_path, file, line, said):
    for package in ("lr_helpers", "tiny_world"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / file).open("a", encoding="utf-8") as text:
        text.write(f"\n\n{line}\n")
    done = lint(tmp_path)
    assert done.returncode == 1
    assert said in " ".join(done.stdout.split()), done.stdout
