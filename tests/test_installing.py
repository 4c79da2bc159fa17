"""How to install what is missing: the command is for the Python that runs, and works as it is given."""

import ast
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lr_helpers.machine import installing

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("pip", [True, False])
def test_the_python_that_runs_is_named(monkeypatch, pip):
    monkeypatch.setattr(installing.importlib.util, "find_spec", lambda name: object() if pip and name == "pip" else None)
    monkeypatch.setattr(sys, "executable", "/a folder/bin/python")
    words = shlex.split(installing.install_command("torch>=2.11,<3", "pysocks"))
    assert words == (["/a folder/bin/python", "-m", "pip", "install", "torch>=2.11,<3", "pysocks"] if pip else
                     ["uv", "pip", "install", "torch>=2.11,<3", "pysocks", "--python", "/a folder/bin/python"])


def test_the_command_is_understood_where_it_would_run():
    words = shlex.split(installing.install_command("numpy"))
    if not shutil.which(words[0]):
        pytest.skip("This environment holds neither pip nor uv.")
    done = subprocess.run([*words, "--dry-run", *(["--offline"] if words[0] == "uv" else ["--no-index"])],
                          capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("extra", ["app", "cluster", "test", ""])
def test_an_extra_is_this_projects_own(extra):
    said = installing.install_extra(extra)
    assert (f"'.[{extra}]'" if extra else " -e .") in said and "-c constraints.txt" in said and "learnable-regions" not in said


def test_every_sentence_that_asks_for_a_package_says_it_by_this_function():
    """Kind: a bare `pip install` in a sentence goes to another Python, or to nobody's, where uv made the environment."""
    found = []
    for file in sorted([*(ROOT / "lr_helpers").rglob("*.py"), *(ROOT / "tiny_world").rglob("*.py")]):
        if file.name in ("installing.py", "colab.py"):  # Colab has pip
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and "pip install" in node.value:
                found.append(f"{file.relative_to(ROOT)}:{node.lineno}")
    assert not found
