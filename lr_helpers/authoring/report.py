"""Run the notebooks headless, keep what is still true, and show all of it on one page, index.html."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path

import nbformat

from lr_helpers.authoring import guard
from lr_helpers.authoring.notebooks import FOLDER, PATTERN, ROOT, first_error, kernel_spec
from lr_helpers.authoring.report_page import (
    Figure,
    NotebookRun,
    device,
    index,
    is_picture_of,
    machine,
    now,
    render,
    title_of,
    versions,
)
from lr_helpers.authoring.report_page import write_figures as figures_of
from lr_helpers.errors import UserError
from lr_helpers.files import locks
from lr_helpers.files.outputs import Output, refuse_inside
from lr_helpers.files.paths import DATA
from lr_helpers.files.writing import explained, json_bytes, prepare_folder

LARGE = 100 * 2**20
"""Bytes from which on a file under data/ is told from another by size and time, not by content."""


def default_time_limit(miniature: bool) -> float:
    """Minutes that each notebook may take on this device: the miniatures need one or two, on two CPU cores."""
    if device():
        return 120
    return 60 if miniature else 24 * 60


# What a result depends on


def _digest(files: Iterable[Path], root: Path) -> str:
    """SHA-256 over names and contents."""
    total = sha256()
    for file in sorted(files):
        about = file.stat()
        content = f"{about.st_size} {about.st_mtime_ns}".encode() if about.st_size > LARGE else file.read_bytes()
        total.update(f"{file.relative_to(root)}\0".encode() + sha256(content).digest())
    return total.hexdigest()


def _files(folder: Path, suffix: str = "") -> list[Path]:
    found = (Path(at, name) for at, _, names in os.walk(folder, followlinks=True) for name in names)
    return [file for file in found if file.name.endswith(suffix) and file.is_file()]


def surroundings(profile: str) -> dict[str, str]:
    """What all notebooks' results depend on, each part as text that differs when it does."""
    code = [file for package in ("lr_helpers", "tiny_world") for file in _files(ROOT / package, ".py")]
    return {"profile": profile, "code": _digest(code, ROOT), "data": _digest(_files(DATA), DATA),
            "libraries": json.dumps(versions()), "device": device() or "CPU"}


def _source(notebook: nbformat.NotebookNode) -> str:
    """What a notebook's result depends on in itself: its cells, not the outputs stored with them."""
    cells = [(cell.cell_type, cell.source, cell.metadata.get("tags", [])) for cell in notebook.cells]
    return sha256(json.dumps(cells).encode()).hexdigest()


def _kept(folder: Path, name: str, fingerprint: dict[str, str]) -> tuple[NotebookRun | None, str]:
    """The outcome of an earlier report if it is whole, passed, and still true; else None, and what has changed."""
    try:
        record = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        figures = [Figure(**figure) for figure in record["outcome"].pop("figures")]
        outcome = NotebookRun(**record["outcome"], figures=figures)
        then = dict(record["fingerprint"])
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None, ""
    changed = [part for part, text in fingerprint.items() if then.get(part) != text]
    if changed:
        return None, f"the {changed[0]} changed"
    if outcome.error:
        return None, "it failed before"
    if not all((folder / file).is_file() for file in (*outcome.files.values(), *(f.file for f in figures if f.file))):
        return None, "files were lost"
    outcome.kept = True
    return outcome, ""


# Running one


def _execute(source: Path, target: Path, profile: str, minutes: float) -> tuple[str | None, int, int]:
    """Run papermill in a process of its own, whose peak memory is this notebook's alone: (error, bytes, GPU bytes).

    It ends with this process, whatever ends it, and at the time limit.
    """
    # papermill fills in names in braces, which a folder's name may hold too
    paths = [str(p).replace("{", "{{").replace("}", "}}") for p in (source, target)]
    command = [sys.executable, "-m", "papermill", *paths, "--parameters_raw", "profile", profile, "--cwd", "."]
    command += ["--kernel", "python3", "--language", "python", "--no-progress-bar"]
    with tempfile.TemporaryDirectory() as scratch:
        result, gpu = Path(scratch, "result.json"), Path(scratch, "gpu")
        kernel, spec = Path(scratch, "kernels", "python3", "kernel.json"), kernel_spec()
        line = f"__import__('lr_helpers.authoring.guard', fromlist=['']).record_gpu_peak({str(gpu)!r})"  # binds no name
        spec.argv.append(f"--IPKernelApp.exec_lines={[line]!r}")
        kernel.parent.mkdir(parents=True)
        kernel.write_text(spec.to_json(), encoding="utf-8")
        # kernels found here come before all others of the same name
        kernels = os.pathsep.join(p for p in (scratch, os.environ.get("JUPYTER_PATH")) if p)
        # Whether the CPU will do was asked before the first notebook, by `loading.check_device`.
        environment = {**os.environ, "LR_PROFILE": profile, "LR_ALLOW_CPU": "1", "JUPYTER_PATH": kernels}
        guarded = [sys.executable, "-P", guard.__file__, str(result), str(60 * minutes), *command]
        with Path(scratch, "log").open("w+", encoding="utf-8", errors="replace") as log:
            # in a session of its own, Ctrl-C reaches it by its standard input alone
            process = subprocess.Popen(guarded, cwd=source.parent, env=environment, stdin=subprocess.PIPE, stdout=log,
                                       stderr=log, start_new_session=True)
            try:
                process.wait()
            finally:
                process.stdin.close()
                process.wait()
            log.seek(0)
            last = next((line.strip() for line in reversed(log.readlines()) if line.strip()), "no message")
        killed = {"code": 128, "peak": 0, "timed_out": False}  # the guard itself was
        found = json.loads(result.read_text(encoding="utf-8")) if result.exists() else killed
        gpu_peak = int(gpu.read_text(encoding="utf-8")) if gpu.exists() else 0
    if found["code"] == 0:
        return None, found["peak"], gpu_peak
    if found["timed_out"]:
        return f"it was stopped at the time limit of {minutes:g} minutes; give more by --time-limit", found["peak"], 0
    try:
        error = first_error(nbformat.read(target, as_version=4)) if target.exists() else None
    except ValueError:  # broken off while it was written: the disk is full, say
        error = None
    # papermill says 138 for a kernel that died; signals count from 128 up
    if found["code"] >= 128:
        error = "its process was killed, perhaps for want of memory"
    return error or last, found["peak"], gpu_peak


def _run_one(source: Path, title: str, output: Output, profile: str, minutes: float) -> NotebookRun:
    """Execute one notebook, write its executed copy, its page and its pictures to the folder."""
    name = source.stem
    running = output.temporary()  # papermill writes it, again and again
    date, start = now(), time.perf_counter()
    try:
        error, peak, gpu_peak = _execute(source.resolve(), running, profile, minutes)
        outcome = NotebookRun(name, title, error, time.perf_counter() - start, peak, gpu_peak, date)
        if running.exists():
            output.write(f"{name}.ipynb", running.read_bytes())
            try:
                notebook = nbformat.read(output.folder / f"{name}.ipynb", as_version=4)
                outcome.figures = figures_of(notebook, output, name)
                output.write(f"{name}.html", render(notebook).encode(errors="xmlcharrefreplace"))
                outcome.files = {"page": f"{name}.html", "notebook": f"{name}.ipynb"}
            except ValueError as problem:
                outcome.error = error or f"its result can't be shown ({str(problem).splitlines()[0]})"
    finally:
        running.unlink(missing_ok=True)
    return outcome


@contextlib.contextmanager
def _locked(output: Output) -> Iterator[None]:
    """Keep other reports out of the folder while this one is written."""
    file = output.claim(".lock")
    with contextlib.ExitStack() as opened:
        with explained(file):
            lock = opened.enter_context(file.open("ab"))
        try:
            locks.hold(lock)
        except locks.TakenError as error:
            raise UserError(f"Another report is being written to {output.folder}; wait for it, or choose another "
                            "--output.") from error
        yield


def _require_free(output: Output, names: Iterable[str]) -> None:
    """Raises ForeignError if the report would replace anything that no report wrote."""
    output.require(["index.html", *(f"{name}{end}" for name in names for end in (".ipynb", ".html", ".json"))])
    pictures = [f"pictures/{file.name}" for file in (output.folder / "pictures").glob("*.png")]
    output.require(file for file in pictures if any(is_picture_of(file, name) for name in names))


# Running all


def _sources(notebooks: list[Path] | None, folder: Path) -> dict[Path, nbformat.NotebookNode]:
    """The notebooks to run, all of notebooks/ by default, each read; raises UserError for what can't be run."""
    sources = sorted(FOLDER.glob(PATTERN + ".ipynb")) if notebooks is None else [Path(n) for n in notebooks]
    if not sources:
        raise UserError(f"{FOLDER} holds no .ipynb; make them by: python -m lr_helpers notebooks")
    for source in sources:
        if source.suffix != ".ipynb" or not source.is_file():
            raise UserError(f"{source} is not a notebook; give the path of an .ipynb file.")
        refuse_inside(folder, [source])
        if sum(other.stem == source.stem for other in sources) > 1:
            raise UserError(f"Two notebooks are called {source.stem}; make a report of each, in folders of their own.")
    try:
        return {source: nbformat.read(source, as_version=4) for source in sources}
    except (OSError, ValueError) as error:
        raise UserError(f"A notebook can't be read ({str(error).splitlines()[0]}); restore it.") from error


def run(profile: str, output: Path, notebooks: list[Path] | None = None, again: bool = False,
        time_limit: float = 60.0, before: Callable[[], None] | None = None) -> int:
    """Execute notebooks (all of notebooks/ by default) with `profile` and write `output`/index.html.

    A notebook that passed before is kept unless it, the profile, our code, our data, a library or the device changed,
    or `again` is true. One that fails, or takes longer than `time_limit` (minutes), doesn't stop the others.
    `before` is called before the first, e.g. to download what they need outside their time limit.
    index.html is written anew after each. Returns 0 if all passed, else 1. Raises UserError if there is no notebook,
    one is missing, or `output` holds one, can't be written, is being written by another report, or has files of our
    names that no report wrote.
    """
    if not 0 < time_limit < float("inf"):
        raise UserError(f"The time limit is {time_limit:g} minutes; give a number above 0.")
    sources = _sources(notebooks, output)
    output = Output(prepare_folder(output).resolve(), "report")
    folder, names = output.folder, [source.stem for source in sources]
    _require_free(output, names)
    with _locked(output):
        output.sweep()
        if before:
            before()
        common, facts, outcomes = surroundings(profile), machine(profile), []
        titles = [title_of(notebook, source.stem) for source, notebook in sources.items()]
        for number, (source, notebook) in enumerate(sources.items(), 1):
            print(f"[{number}/{len(sources)}] {source.stem} … ", end="", flush=True)
            fingerprint = {"source": _source(notebook), **common}
            outcome, reason = (None, "") if again else _kept(folder, source.stem, fingerprint)
            if outcome:
                print(f"unchanged, kept (passed in {outcome.seconds:.1f} s, {outcome.date})", flush=True)
            else:
                print(f"{reason}, so again: " if reason else "", end="", flush=True)
                record = f"{source.stem}.json"
                output.remove(record)  # from here until it is written anew, there is no result
                outcome = _run_one(source, titles[number - 1], output, profile, time_limit)
                output.write(record, json_bytes({"fingerprint": fingerprint, "outcome": asdict(outcome)}))
                error, seconds = outcome.error, outcome.seconds
                print(f"failed after {seconds:.1f} s: {error}" if error else f"passed, {seconds:.1f} s", flush=True)
            outcomes.append(outcome)
            output.write("index.html", index(outcomes, titles[number:], facts).encode(errors="xmlcharrefreplace"))
    failed = sum(bool(o.error) for o in outcomes)
    print(f"{len(outcomes) - failed} of {len(outcomes)} notebooks passed. Open the report: {folder / 'index.html'}")
    return 1 if failed else 0
