"""The headless report: what is true is kept, what is not is run again, and nothing outlives its time or its caller."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import nbformat
import psutil
import pytest
import torch

from lr_helpers.authoring import report
from lr_helpers.authoring.report_page import Figure, NotebookRun, index
from lr_helpers.cli import main
from lr_helpers.errors import UserError

ROOT = Path(__file__).resolve().parents[1]

HUNGRY = "block = bytearray(300 * 2**20)\nblock[::4096] = b'x' * len(block[::4096])"
"""The source of a cell that takes 300 MiB."""


def write(folder: Path, name: str, *cells: str, title: str = "") -> Path:
    """A notebook of these code cells."""
    made = [nbformat.v4.new_markdown_cell(f"# {title or name}"), *map(nbformat.v4.new_code_cell, cells)]
    nbformat.write(nbformat.v4.new_notebook(cells=made), folder / f"{name}.ipynb")
    return folder / f"{name}.ipynb"


def logging(log: Path, word: str = "run") -> str:
    """The source of a cell that leaves a trace of each execution."""
    return f"with open({str(log)!r}, 'a') as file:\n    file.write({word!r} + '\\n')"


@pytest.fixture(autouse=True)
def clone(tmp_path, monkeypatch) -> Path:
    """A copy of our code that nobody edits while the tests run; results depend on it."""
    for package in ("lr_helpers", "tiny_world"):
        shutil.copytree(ROOT / package, tmp_path / "clone" / package, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "clone" / "data").mkdir()
    shutil.copy(ROOT / "data" / "models.toml", tmp_path / "clone" / "data")
    monkeypatch.setattr(report, "ROOT", tmp_path / "clone")
    monkeypatch.setattr(report, "DATA", tmp_path / "clone" / "data")
    return tmp_path / "clone"


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "my notebooks").mkdir()
    return tmp_path / "my notebooks"


def wait_for(condition, seconds: float = 30.0):
    """Its value as soon as it is true; fails after `seconds`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.05)
    pytest.fail("this never came true")


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


# Keeping and running again


@pytest.mark.slow
def test_a_result_is_kept_until_something_it_depends_on_changes(folder, tmp_path, capsys, monkeypatch):
    log, out = tmp_path / "log", tmp_path / "results"
    book = write(folder, "01_one", logging(log), "print('seen')", HUNGRY)

    def told(**options) -> str:
        assert report.run("tiny", out, [book], **options) == 0
        return capsys.readouterr().out

    def runs() -> int:
        return len(log.read_text().splitlines())

    first = told()
    assert re.search(r"passed, \d+\.\d s\n1 of 1 notebooks passed\. Open the report: ", first)
    record = json.loads((out / "01_one.json").read_text(encoding="utf-8"))["outcome"]
    assert 0.5 < record["seconds"] < 60 and 300 * 2**20 < record["peak"] < 2**30
    assert record["gpu_peak"] == 0

    kept = told()
    assert re.search(r"01_one … unchanged, kept \(passed in \d+\.\d s, \d{4}-\d\d-\d\d \d\d:\d\d UTC\)\n1 of 1", kept)
    page = (out / "index.html").read_text(encoding="utf-8")
    assert page.count(f"kept from {record['date']}") == 2 and f"{record['seconds']:.1f} s" in page
    assert f"{record['peak'] / 2**30:.2f} GiB" in page
    assert runs() == 1

    # Outputs stored with the source don't make another notebook of it.
    notebook = nbformat.read(book, as_version=4)
    notebook.cells[2].outputs = [nbformat.v4.new_output("stream", text="seen\n")]
    notebook.cells[2].execution_count = 2
    nbformat.write(notebook, book)
    assert "unchanged, kept" in told() and runs() == 1

    assert "01_one … passed, " in told(again=True) and runs() == 2
    whole = (out / "01_one.json").read_text(encoding="utf-8")
    (out / "01_one.json").write_text(whole[:200], encoding="utf-8")
    with pytest.raises(UserError, match=r"01_one\.json' is not as a report wrote it \(changed or damaged since\)"):
        report.run("tiny", out, [book])
    (out / "01_one.json").unlink()
    assert "01_one … passed, " in told() and runs() == 3
    write(folder, "01_one", logging(log), "print('seen and changed')")
    assert "the source changed, so again: passed" in told() and runs() == 4
    monkeypatch.setenv("LR_PROFILE", "other")  # does not count: the profile is told
    assert "unchanged, kept" in told() and runs() == 4


def test_each_thing_a_result_depends_on_is_in_the_fingerprint(tmp_path, monkeypatch):
    """One file changed at a time."""
    files = {"lr_helpers/sub/a.py": "code", "tiny_world/b.py": "code", "data/models.toml": "data",
             "data/tiny_world/weights.bin": "data"}
    for file in files:
        (tmp_path / file).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / file).write_text("before")
    (tmp_path / "lr_helpers" / "cache.pyc").write_text("before")
    monkeypatch.setattr(report, "ROOT", tmp_path)
    monkeypatch.setattr(report, "DATA", tmp_path / "data")
    before = report.surroundings("tiny")
    assert before == report.surroundings("tiny")
    for file, part in files.items():
        (tmp_path / file).write_text("after!")
        after = report.surroundings("tiny")
        assert {key for key in before if before[key] != after[key]} == {part}, file
        before = after
    (tmp_path / "lr_helpers" / "cache.pyc").write_text("after!")
    (tmp_path / "lr_helpers" / "sub" / "a.py").rename(tmp_path / "lr_helpers" / "sub" / "c.py")
    assert report.surroundings("tiny")["code"] != before["code"]
    assert report.surroundings("sd2")["profile"] != before["profile"]
    assert json.loads(before["libraries"])["torch"] == version("torch")
    monkeypatch.setattr(report, "LARGE", 3)  # bytes: now all files are told by size and time
    large = report.surroundings("tiny")["data"]
    os.utime(tmp_path / "data" / "models.toml", (1, 1))
    assert report.surroundings("tiny")["data"] != large


# Time limit


def holding(pid: Path, wait: Path) -> str:
    """The source of a cell that tells its process and a child's, and goes on when the file `wait` is gone."""
    return f"""import os, subprocess, time
child = subprocess.Popen(['sleep', '300'])
print('before the end')
with open({str(pid)!r}, 'w') as file:
    file.write(f'{{os.getpid()}} {{child.pid}}\\n')
while os.path.exists({str(wait)!r}):
    time.sleep(0.05)
child.kill()
"""


@pytest.mark.all
def test_the_time_limit_ends_the_kernel_and_the_others_go_on(folder, tmp_path, capsys):
    pids, wait, out = tmp_path / "pids", tmp_path / "wait", tmp_path / "results"
    wait.touch()
    books = [write(folder, "01_slow", HUNGRY, holding(pids, wait), title="Slow & one"), write(folder, "02_good", "1 + 1")]
    assert report.run("tiny", out, books, time_limit=0.4) == 1
    assert all(gone(int(pid)) for pid in pids.read_text().split())
    told = capsys.readouterr().out.splitlines()
    assert re.search(r"01_slow … failed after \d+\.\d s: it was stopped at the time limit of 0\.4 minutes; give more by "
                     r"--time-limit$", told[0])
    assert "02_good … passed, " in told[1] and told[2].startswith("1 of 2 notebooks passed. ")
    slow = json.loads((out / "01_slow.json").read_text(encoding="utf-8"))["outcome"]
    assert 24 <= slow["seconds"] < 50 and 300 * 2**20 < slow["peak"] < 2**30
    page = (out / "index.html").read_text(encoding="utf-8")
    assert "Failed: it was stopped at the time limit of 0.4 minutes; give more by --time-limit." in page
    assert "Slow &amp; one" in page
    assert "before the end" in (out / "01_slow.html").read_text(encoding="utf-8")  # what it did is shown

    # What failed is run again, unchanged though it is, and so is what lost its page.
    wait.unlink()
    (out / "02_good.html").unlink()
    assert report.run("tiny", out, books) == 0
    told = capsys.readouterr().out
    assert "01_slow … it failed before, so again: passed" in told
    assert "02_good … files were lost, so again: passed" in told


# Interruption


def start(clone: Path, out: Path, *books: Path) -> subprocess.Popen:
    """The command, as its users start it."""
    return subprocess.Popen([sys.executable, "-m", "lr_helpers", "report", "--output", str(out), *map(str, books)],
                            cwd=clone, env={**os.environ, "LR_PROFILE": "tiny", "PYTHONPATH": str(clone)},
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            # A shell's background jobs are deaf to Ctrl-C, and so are these tests where they are one.
                            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))


@pytest.mark.slow
def test_a_killed_report_leaves_no_process_and_goes_on_where_it_was(clone, folder, tmp_path, capsys):
    log, pid, wait, out = tmp_path / "log", tmp_path / "pid", tmp_path / "wait", tmp_path / "results"
    wait.touch()
    books = [write(folder, "01_one", logging(log, "one")),
             write(folder, "02_two", holding(pid, wait), logging(log, "two"))]
    first = start(clone, out, *books)
    kernel = int(wait_for(lambda: pid.exists() and pid.read_text().endswith("\n"), 90) and pid.read_text().split()[0])
    with pytest.raises(UserError, match="Another report is being written"):
        report.run("tiny", out, books)
    started = psutil.Process(first.pid).children(recursive=True)
    assert kernel in {p.pid for p in started} and len(started) >= 4
    assert "1 of 2 notebooks passed, 1 not run yet" in (out / "index.html").read_text(encoding="utf-8")
    first.kill()
    first.communicate(timeout=120)
    wait_for(lambda: all(gone(p.pid) for p in started))
    assert not (out / "02_two.json").exists() and not (out / "02_two.html").exists()

    wait.unlink()
    capsys.readouterr()
    assert report.run("tiny", out, books) == 0
    told = capsys.readouterr().out
    assert "01_one … unchanged, kept" in told and "02_two … passed, " in told
    assert log.read_text().split() == ["one", "two"]
    assert [f.name for f in out.iterdir() if "running" in f.name or f.name.endswith(".tmp")] == []


@pytest.mark.slow
def test_ctrl_c_ends_all_processes_and_is_told(clone, folder, tmp_path):
    pid, out = tmp_path / "pid", tmp_path / "results"
    report_ = start(clone, out, write(folder, "01_one", holding(pid, tmp_path)))
    wait_for(lambda: pid.exists() and pid.read_text().endswith("\n"), 90)
    started = psutil.Process(report_.pid).children(recursive=True)
    report_.send_signal(signal.SIGINT)
    _, errors = report_.communicate(timeout=120)
    assert (report_.returncode, errors) == (130, "stopped\n")
    assert len(started) >= 4 and all(gone(p.pid) for p in started)
    assert not (out / "01_one.json").exists()


# GPU memory


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
def test_gpu_memory_is_recorded(folder, tmp_path):
    book = write(folder, "01_gpu", "import torch\nx = torch.zeros(2**28, device='cuda')\ndel x", "1 + 1")
    assert report.run("tiny", tmp_path / "results", [book]) == 0
    record = json.loads((tmp_path / "results" / "01_gpu.json").read_text(encoding="utf-8"))["outcome"]
    assert 2**30 <= record["gpu_peak"] < 2**31
    assert "GPU memory" in (tmp_path / "results" / "index.html").read_text(encoding="utf-8")


def test_the_page_shows_gpu_memory_where_there_was_a_gpu():
    one = NotebookRun("01", "One", None, 1.0, 2**30, 3 * 2**30, "today", figures=[Figure("One", text="<b>")])
    two = NotebookRun("02", "Two", None, 1.0, 2**30, 0, "today")
    facts = {"profile": "sd2"}
    assert "GPU" not in index([two], [], facts)
    page = index([one, two], ["<Three>"], facts)
    assert page.count(">GPU memory</th>") == 1 and page.count('<td class="number">3.00 GiB</td>') == 1
    assert '<td class="number">none</td>' in page and "&lt;Three&gt;" in page and "&lt;b&gt;" in page
    rows = re.findall(r"<tr>.*?</tr>", page.split("</tbody>")[0], re.DOTALL)
    assert len(rows) == 3  # the heads, and a row for each notebook that was run
    for row in rows:
        assert len(re.findall(r"<t[hd]\b", row)) == 6
    assert "2 of 3 notebooks passed, 1 not run yet." in page


def test_every_text_of_a_notebook_is_escaped():
    nasty = """<script>alert("1")</script> & 'x'"""
    found = [Figure(nasty, nasty, file="pictures/a b&c.png"), Figure(nasty, text=nasty)]
    run = NotebookRun("01 <a>", nasty, nasty, 1.0, 0, 0, nasty, {"page": "01 <a>.html"}, found)
    page = index([run], [nasty], {"profile": nasty, "system": nasty})
    assert "<script" not in page and "alert(&#34;1&#34;)" in page
    assert 'src="pictures/a%20b%26c.png"' in page and 'href="01%20%3Ca%3E.html"' in page
    assert not re.search(r"&(?!amp;|lt;|gt;|#3[49];)", page)


# Input that can't work


@pytest.mark.parametrize(("options", "told"), [
    (["--time-limit", "0"], "0 minutes"), (["--time-limit", "-5"], "-5 minutes"), (["--time-limit", "nan"], "nan minutes"),
    (["--time-limit", "inf"], "inf minutes"), (["{folder}/01_broken.ipynb"], "01_broken|JSON"),
    (["{folder}/02_one.ipynb", "{folder}/sub/02_one.ipynb"], "Two notebooks are called 02_one"),
    (["--profile", "sd9"], "'sd9'")])
def test_what_cannot_work_is_answered_in_one_line(options, told, folder, tmp_path, capsys):
    (folder / "01_broken.ipynb").write_text("{", encoding="utf-8")
    (folder / "sub").mkdir()
    write(folder, "02_one", "1")
    write(folder / "sub", "02_one", "2")
    out = tmp_path / "results"
    assert main(["report", "--output", str(out), *(o.format(folder=folder) for o in options)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert re.fullmatch(r"error: [^\n]+\.\n", captured.err) and re.search(told, captured.err)
    assert not out.exists() or list(out.iterdir()) == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_profile_that_needs_a_gpu_is_refused_without_one_unless_that_is_allowed(tmp_path, capsys):
    out = tmp_path / "results"
    assert main(["report", "--profile", "sd2", "--output", str(out)]) == 2
    assert re.fullmatch(r"error: The profile 'sd2' needs a GPU [^\n]+ --allow-cpu, which is very slow\.\n",
                        capsys.readouterr().err)
    assert main(["report", "--profile", "sd2", "--output", str(out), "--allow-cpu", "nowhere.ipynb"]) == 2
    assert "nowhere.ipynb" in capsys.readouterr().err
    assert report.default_time_limit(True) == 60 and report.default_time_limit(False) == 1440
