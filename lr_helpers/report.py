"""Run the notebooks headless and show what came of them on one page, index.html."""

from __future__ import annotations

import base64
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from html import escape
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from urllib.parse import quote

import nbformat
import torch
from nbconvert import HTMLExporter
from nbformat import NotebookNode

from lr_helpers.errors import UserError
from lr_helpers.images import prepare_folder, write_bytes
from lr_helpers.notebooks import FOLDER, PATTERN, first_error, kernel_spec

PACKAGES = ("torch", "torchvision", "diffusers", "transformers", "open_clip_torch", "safetensors", "numpy", "pillow")
GIB = 2**30

# A process counts its parent's memory at birth as its own, so a small one stands between this one and papermill.
# It writes the peak of the largest process below it, in bytes, and passes the exit status on as shells do.
MEASURE = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[2:])
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
with open(sys.argv[1], "w") as file:
    file.write(str(peak))
sys.exit(code if code >= 0 else 128 - code)
"""

STYLE = """
:root { color-scheme: light dark; --ink: #1c2128; --soft: #57606a; --line: #d0d7de; --back: #fff; --card: #f6f8fa;
  --good: #1a7f37; --bad: #cf222e; --link: #0969da }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --soft: #9ea7b3; --line: #30363d; --back: #0d1117;
  --card: #161b22; --good: #3fb950; --bad: #ff7b72; --link: #58a6ff } }
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 76rem; padding: 1.5rem 1rem 4rem; color: var(--ink); background: var(--back);
  font: 16px/1.5 system-ui, sans-serif }
a { color: var(--link) }
h2 { margin-top: 3rem; border-bottom: 1px solid var(--line); padding-bottom: .3rem }
.soft { color: var(--soft) } .passed { color: var(--good) } .failed { color: var(--bad) }
.wide { overflow-x: auto }
table { border-collapse: collapse }
th, td { padding: .3rem .9rem .3rem 0; text-align: left; border-bottom: 1px solid var(--line); vertical-align: top }
td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
.figures { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(min(100%, 26rem), 1fr)) }
figure { margin: 0; padding: .8rem; border: 1px solid var(--line); border-radius: .5rem; background: var(--card);
  min-width: 0 }
figure img { display: block; max-width: 100%; height: auto; margin: 0 auto; background: #fff; border-radius: .25rem }
figure pre { margin: 0; overflow-x: auto; font-size: .85rem }
figcaption { margin-top: .6rem; color: var(--soft); font-size: .9rem }
"""


@dataclass
class Figure:
    """A picture (`file`, relative to index.html) or a text that a notebook made, and the heading it stands under."""

    heading: str
    caption: str = ""
    file: str = ""
    text: str = ""


@dataclass
class Outcome:
    """What came of one notebook: `error` is None or one sentence; `seconds` of execution; `peak` memory in bytes."""

    name: str
    title: str
    error: str | None
    seconds: float
    peak: int
    files: dict[str, str] = field(default_factory=dict)
    figures: list[Figure] = field(default_factory=list)


def _execute(source: Path, target: Path, profile: str) -> tuple[str | None, float, int]:
    """Run papermill in a process of its own, whose peak memory is this notebook's alone: (error, seconds, bytes)."""
    # papermill fills in names in braces, which a folder's name may hold too
    paths = [str(p).replace("{", "{{").replace("}", "}}") for p in (source, target)]
    command = [sys.executable, "-m", "papermill", *paths, "--parameters_raw", "profile", profile, "--cwd", "."]
    command += ["--kernel", "python3", "--language", "python", "--no-progress-bar"]
    with tempfile.TemporaryDirectory() as scratch:
        kernel = Path(scratch, "kernels", "python3", "kernel.json")
        kernel.parent.mkdir(parents=True)
        kernel.write_text(kernel_spec().to_json(), encoding="utf-8")
        # kernels found here come before all others of the same name
        kernels = os.pathsep.join(p for p in (scratch, os.environ.get("JUPYTER_PATH")) if p)
        environment = {**os.environ, "LR_PROFILE": profile, "JUPYTER_PATH": kernels}
        start = time.perf_counter()
        with Path(scratch, "log").open("w+", encoding="utf-8", errors="replace") as log:
            measured = [sys.executable, "-c", MEASURE, str(Path(scratch, "peak")), *command]
            code = subprocess.run(measured, cwd=source.parent, env=environment, stdout=log, stderr=log).returncode
            log.seek(0)
            last = next((line.strip() for line in reversed(log.readlines()) if line.strip()), "no message")
        seconds = time.perf_counter() - start
        peak = int(Path(scratch, "peak").read_text()) if Path(scratch, "peak").exists() else 0
    if code == 0:
        return None, seconds, peak
    error = first_error(nbformat.read(target, as_version=4)) if target.exists() else None
    # papermill says 138 for a kernel that died; signals count from 128 up
    if code > 128 or code < 0:
        error = "its process was killed, perhaps for want of memory"
    return error or last, seconds, peak


def _plain(markdown: str) -> str:
    """A heading's text without pictures, link targets and emphasis."""
    text = re.sub(r"!\[[^\]]*\]\([^)]*\)|<[^>]+>", "", markdown)
    return re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text).replace("`", "").replace("**", "").strip(" #")


def _headings(cell: NotebookNode) -> list[str]:
    """The texts of a Markdown cell's headings, in order."""
    text = re.sub(r"^```.*?^```", "", cell.source, flags=re.MULTILINE | re.DOTALL)
    return [_plain(h) for h in re.findall(r"^#{1,6}\s+(.+)$", text, flags=re.MULTILINE)]


def _title(notebook: NotebookNode, default: str) -> str:
    return next((h for c in notebook.cells if c.cell_type == "markdown" for h in _headings(c)), default)


def _text(output: NotebookNode) -> str:
    if output.output_type == "stream":
        return output.text if output.name == "stdout" else ""
    return output.get("data", {}).get("text/plain", "")


def _figures(notebook: NotebookNode, folder: Path, name: str) -> list[Figure]:
    """All pictures of a notebook, written to `folder`/pictures, and the texts of cells tagged figure-text."""
    heading, figures, written = name, [], set()
    for index, cell in enumerate(notebook.cells):
        if cell.cell_type == "markdown":
            heading = ([heading, *_headings(cell)])[-1]
        if cell.cell_type != "code":
            continue
        for number, output in enumerate(cell.outputs):
            picture = output.get("data", {}).get("image/png")
            if picture:
                file = folder / "pictures" / f"{name}-{index:02d}-{number}.png"
                write_bytes(file, base64.b64decode(picture))
                written.add(file)
                about = {**output.metadata, **output.metadata.get("image/png", {})}
                caption = str(about.get("caption") or about.get("alt") or "")
                figures.append(Figure(heading, caption, file=f"pictures/{file.name}"))
        if "figure-text" in cell.metadata.get("tags", []):
            texts = [_text(o).rstrip() for o in cell.outputs if "image/png" not in o.get("data", {})]
            text = "\n".join(t for t in texts if t).strip("\n")
            if text:
                figures.append(Figure(heading, text=re.sub(r"\x1b\[[0-9;]*m", "", text)))
    for stale in set((folder / "pictures").glob(f"{name}-*.png")) - written:
        stale.unlink()
    return figures


def _render(notebook: NotebookNode) -> str:
    """A page that needs no other file; only formulas ask the network for MathJax and stay TeX without it."""
    notebook.metadata.pop("widgets", None)
    exporter = HTMLExporter(template_name="lab", embed_images=True, require_js_url="")
    return exporter.from_notebook_node(notebook)[0].replace('<script src=""></script>', "")


def _run_one(source: Path, folder: Path, profile: str) -> Outcome:
    """Execute one notebook, write its executed copy, its page and its pictures to `folder`."""
    name = source.stem
    running = folder / f"{name}.running.ipynb"
    running.unlink(missing_ok=True)
    error, seconds, peak = _execute(source.resolve(), running, profile)
    outcome = Outcome(name, _title(nbformat.read(source, as_version=4), name), error, seconds, peak)
    if running.exists():
        os.replace(running, folder / f"{name}.ipynb")
        try:
            notebook = nbformat.read(folder / f"{name}.ipynb", as_version=4)
            outcome.figures = _figures(notebook, folder, name)
            write_bytes(folder / f"{name}.html", _render(notebook).encode())
            outcome.files = {"page": f"{name}.html", "notebook": f"{name}.ipynb"}
        except ValueError as problem:
            outcome.error = error or f"its result can't be shown ({str(problem).splitlines()[0]})"
    return outcome


def _machine(profile: str) -> dict[str, str]:
    """What the report ran on: label → text; nothing that names the machine or its user."""
    table = {
        "profile": profile,
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "system": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPU cores, "
        f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / GIB:.0f} GiB memory",
        "GPU": torch.cuda.get_device_name() if torch.cuda.is_available() else "none used",
        "Python": platform.python_version(),
    }
    for package in PACKAGES:
        try:
            table[package] = version(package)
        except PackageNotFoundError:
            table[package] = "not installed"
    return table


def _figure_html(figure: Figure) -> str:
    heading, caption = escape(figure.heading), escape(figure.caption)
    if figure.text:
        return f"<figure><pre>{escape(figure.text)}</pre><figcaption>{heading}</figcaption></figure>"
    image = f'<img src="{quote(figure.file)}" alt="{caption or heading}" loading="lazy">'
    below = f"<strong>{heading}</strong><br>{caption}" if caption else heading
    return f'<figure><a href="{quote(figure.file)}">{image}</a><figcaption>{below}</figcaption></figure>'


def _index(outcomes: list[Outcome], machine: dict[str, str]) -> str:
    """index.html as text; every text that came from a notebook is escaped."""
    rows, sections = [], []
    for o in outcomes:
        status = "failed" if o.error else "passed"
        peak = f"{o.peak / GIB:.2f} GiB" if o.peak else "unknown"
        links = " · ".join(f'<a href="{quote(file)}">{label}</a>' for label, file in o.files.items())
        rows.append(
            f'<tr><td><a href="#{quote(o.name)}">{escape(o.title)}</a></td><td class="{status}">{status}</td>'
            f'<td class="number">{o.seconds:.1f} s</td><td class="number">{peak}</td><td>{links}</td></tr>'
        )
        error = f'<p class="failed">Failed: {escape(o.error)}.</p>' if o.error else ""
        sections.append(
            f'<section id="{escape(o.name)}"><h2>{escape(o.title)}</h2>\n'
            f'<p><span class="{status}">{status}</span> · {o.seconds:.1f} s · peak memory {peak} · {links}</p>\n{error}'
            f'<div class="figures">\n{"".join(_figure_html(f) for f in o.figures)}\n</div></section>'
        )
    failed = sum(bool(o.error) for o in outcomes)
    facts = "".join(f"<tr><th>{escape(k)}</th><td>{escape(v)}</td></tr>" for k, v in machine.items())
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Learnable regions: report, profile {escape(machine["profile"])}</title><style>{STYLE}</style></head><body>
<h1>Learnable regions: what the notebooks showed</h1>
<p>{len(outcomes) - failed} of {len(outcomes)} notebooks passed.
Peak memory is that of the largest process a notebook started.</p>
<div class="wide"><table><thead><tr><th>notebook</th><th>status</th><th>time</th><th>peak memory</th><th>files</th></tr>
</thead><tbody>{"".join(rows)}</tbody></table></div>
{"".join(sections)}
<h2>Versions and machine</h2><div class="wide"><table>{facts}</table></div>
</body></html>
"""


def run(profile: str, output: Path, notebooks: list[Path] | None = None) -> int:
    """Execute notebooks (all of notebooks/ by default) with `profile` and write `output`/index.html.

    A notebook that fails doesn't stop the others. Returns 0 if all passed, else 1. Raises UserError if there is no
    notebook, one is missing, or `output` can't be written.
    """
    sources = sorted(FOLDER.glob(PATTERN + ".ipynb")) if notebooks is None else [Path(n) for n in notebooks]
    if not sources:
        raise UserError(f"{FOLDER} holds no .ipynb; make them by: python -m lr_helpers notebooks")
    folder = prepare_folder(output).resolve()
    for source in sources:
        if source.suffix != ".ipynb" or not source.is_file():
            raise UserError(f"{source} is not a notebook; give the path of an .ipynb file.")
        if source.resolve().parent == folder:
            raise UserError(f"The report would overwrite {source}; choose another output folder.")
    outcomes = []
    for number, source in enumerate(sources, 1):
        print(f"[{number}/{len(sources)}] {source.stem} … ", end="", flush=True)
        outcomes.append(_run_one(source, folder, profile))
        error, seconds = outcomes[-1].error, outcomes[-1].seconds
        print(f"failed after {seconds:.1f} s: {error}" if error else f"passed, {seconds:.1f} s", flush=True)
    write_bytes(folder / "index.html", _index(outcomes, _machine(profile)).encode())
    failed = sum(bool(o.error) for o in outcomes)
    print(f"{len(outcomes) - failed} of {len(outcomes)} notebooks passed. Open the report: {folder / 'index.html'}")
    return 1 if failed else 0
