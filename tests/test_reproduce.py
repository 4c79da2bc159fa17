"""reproduce.sh: what `test` runs, and that the script finds its folder; `run` is tested in test_doctor.py."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

STUB = """#!/bin/sh
[ "$1" = -c ] && { [ "$2" != "$LACKS" ]; exit; }
echo "$*" >>calls
[ "$2" != "$FAILS" ] || exit 7
"""


@pytest.fixture
def clone(tmp_path):
    """A clone whose .venv/bin/python only notes how it is called."""
    folder = tmp_path / "a clone"
    (folder / ".venv" / "bin").mkdir(parents=True)
    (folder / "notebooks").mkdir()
    (folder / ".ci").mkdir()
    for name in ("01_one", "02_two"):
        (folder / "notebooks" / f"{name}.ipynb").touch()
    for name in ("reproduce.sh", "pyproject.toml", "constraints.txt", ".ci/run"):
        shutil.copy(ROOT / name, folder / name)
    python = folder / ".venv" / "bin" / "python"
    python.write_text(STUB)
    python.chmod(0o755)
    stamp = 'printf "%s %s\\n" "$(cat pyproject.toml constraints.txt | cksum)" "$PWD" >.venv/stamp'
    subprocess.run(["bash", "-c", stamp], cwd=folder, check=True)
    return folder


def call(clone: Path, *words: str | Path, cwd: Path | None = None, fails: str = "nothing") -> tuple[int, list[str], str]:
    """Exit code, the calls of Python, and what was said."""
    (clone / "calls").unlink(missing_ok=True)
    done = subprocess.run([*map(str, words)], cwd=cwd or clone, env=os.environ | {"FAILS": fails, "LR_BROWSER_SOUGHT": "1"}, capture_output=True,
                          text=True, timeout=60)
    calls = (clone / "calls").read_text().splitlines() if (clone / "calls").exists() else []
    return done.returncode, calls, done.stdout + done.stderr


def pytest_words(calls: list[str]) -> list[str]:
    """The words of the one call of pytest."""
    (found,) = [c for c in calls if c.startswith("-m pytest ")]
    return found.split(" ")


def test_test_checks_the_style_and_leaves_the_long_tests_out(clone):
    code, calls, _ = call(clone, "bash", "reproduce.sh", "test")
    assert code == 0 and calls[:2] == ["-m compileall -q lr_helpers tiny_world", "-m ruff check ."] and len(calls) == 3
    words = pytest_words(calls)
    assert words[-6:] == ["tests", "-m", "not", "all", "notebooks/01_one.ipynb", "notebooks/02_two.ipynb"]
    assert "--durations=15" in words and "--nbval-lax" in words


@pytest.mark.parametrize("words", [("bash", "reproduce.sh", "test", "--all"), ("bash", "reproduce.sh", "--all", "test"),
                                   ("bash", ".ci/run")])
def test_all_runs_them_all_and_so_does_the_ci(clone, words):
    code, calls, _ = call(clone, *words)
    assert code == 0 and pytest_words(calls)[-3:] == ["tests", "notebooks/01_one.ipynb", "notebooks/02_two.ipynb"]
    assert pytest_words(calls).count("-m") == 1


def test_all_installs_what_drives_a_browser_once_and_goes_on_where_it_cannot_be_had(clone, monkeypatch):
    needed = "import gradio, jupyterlab, playwright"
    monkeypatch.setenv("PATH", str(clone / "tools") + os.pathsep + os.environ["PATH"])
    (clone / "tools").mkdir()
    uv = clone / "tools" / "uv"
    uv.write_text('#!/bin/sh\necho "uv $*" >>calls\n[ "$FAILS" != uv ]\n')
    uv.chmod(0o755)
    for words, fails, asked in ((("--all",), "nothing", 1), (("--all",), "uv", 1), ((), "nothing", 0)):
        monkeypatch.setenv("LACKS", needed)
        code, calls, said = call(clone, "bash", "reproduce.sh", "test", *words, fails=fails)
        assert code == 0 and pytest_words(calls) and sum(".[app,lab,browser]" in c for c in calls) == asked
        assert ("are skipped" in said) == (fails == "uv")
    monkeypatch.delenv("LACKS")
    _, calls, said = call(clone, "bash", "reproduce.sh", "test", "--all")
    assert not any(c.startswith("uv") for c in calls) and "Installing" not in said


def test_app_installs_gradio_once(clone, monkeypatch):
    uv = clone / "tools" / "uv"
    uv.parent.mkdir()
    uv.write_text('#!/bin/sh\necho "uv $*" >>calls\n')
    uv.chmod(0o755)
    monkeypatch.setenv("PATH", str(clone / "tools") + os.pathsep + os.environ["PATH"])
    monkeypatch.setenv("LACKS", "import gradio")
    code, calls, said = call(clone, "bash", "reproduce.sh", "app")
    assert code == 0 and "Installing Gradio" in said and sum(c.endswith("-e .[app]") for c in calls) == 1
    assert calls[-1] == "-m lr_helpers app --profile tiny --browser"
    monkeypatch.delenv("LACKS")
    _, calls, said = call(clone, "bash", "reproduce.sh", "app")
    assert "Installing" not in said and not any(c.startswith("uv") for c in calls)


@pytest.mark.parametrize("there", [True, False])
def test_the_ci_fetches_a_browser_where_it_may_and_none_stops_it(clone, monkeypatch, there):
    tools = clone / "tools"
    tools.mkdir()
    for name, line in (("apt-get", 'echo "apt-get $*" >>calls; exit 1'), ("id", "echo 0"), *([("chromium", "")] if there else [])):
        (tools / name).write_text(f"#!/bin/sh\n{line}\n")
        (tools / name).chmod(0o755)
    for name in ("bash", "sh", "cat", "cksum", "dirname", "timeout"):
        (tools / name).symlink_to(shutil.which(name))
    env = {"PATH": str(tools), "FAILS": "nothing", "HOME": str(clone)}
    done = subprocess.run([shutil.which("bash"), ".ci/run"], cwd=clone, env=env, capture_output=True, text=True, timeout=60)
    calls = (clone / "calls").read_text().splitlines()
    assert done.returncode == 0 and pytest_words(calls)
    assert any(c.startswith("apt-get") for c in calls) != there


def test_all_belongs_to_test(clone):
    code, calls, said = call(clone, "bash", "reproduce.sh", "--all")
    assert (code, calls) == (2, []) and "--all belongs to test" in said


@pytest.mark.parametrize(("fails", "code"), [("ruff", 1), ("pytest", 7), ("compileall", 0)])
def test_what_fails_is_told_and_the_tests_run_all_the_same(clone, fails, code):
    found, calls, said = call(clone, "bash", "reproduce.sh", "test", fails=fails)
    assert found == code and pytest_words(calls)
    assert ("The style check failed" in said) == (fails == "ruff")


@pytest.mark.parametrize("absolute", [True, False])
def test_a_link_to_the_script_finds_its_folder(clone, tmp_path, absolute):
    there = tmp_path / "else where"
    there.mkdir()
    (there / "first").symlink_to(clone / "reproduce.sh" if absolute else Path("..") / clone.name / "reproduce.sh")
    (tmp_path / "second").symlink_to(Path("else where") / "first")
    for link in (there / "first", tmp_path / "second"):
        code, calls, said = call(clone, "bash", link, "test", cwd=there)
        assert code == 0 and pytest_words(calls), said
