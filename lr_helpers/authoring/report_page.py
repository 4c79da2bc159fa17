"""The HTML half of the report: a notebook's page, its pictures, and index.html."""

from __future__ import annotations

import base64
import os
import platform
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from html import escape
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from urllib.parse import quote

import torch
from nbconvert import HTMLExporter
from nbformat import NotebookNode

from lr_helpers.files.writing import write_bytes

PACKAGES = ("torch", "torchvision", "diffusers", "transformers", "accelerate", "open_clip_torch", "safetensors",
            "numpy", "scipy", "matplotlib", "pillow", "torchmetrics")
GIB = 2**30

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
.soft, .waiting { color: var(--soft) } .passed { color: var(--good) } .failed { color: var(--bad) }
.wide { overflow-x: auto }
table { border-collapse: collapse }
th, td { padding: .3rem .9rem .3rem 0; text-align: left; border-bottom: 1px solid var(--line); vertical-align: top }
th { white-space: nowrap }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
td:first-child { min-width: 12rem } td.status { min-width: 13rem } td.files { white-space: nowrap }
td small { display: block; max-width: 26rem; overflow-wrap: anywhere }
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
class NotebookRun:
    """What came of one notebook."""

    name: str
    title: str
    error: str | None
    """One sentence without its full stop; None if the notebook passed."""
    seconds: float
    peak: int
    """Memory in bytes of the largest process the notebook started; 0 where it is not known."""
    gpu_peak: int
    """Most GPU memory in bytes that torch held; 0 if there was none."""
    date: str
    """When it was run."""
    files: dict[str, str] = field(default_factory=dict)
    figures: list[Figure] = field(default_factory=list)
    kept: bool = False
    """Is it the result of an earlier report?"""


def _plain(markdown: str) -> str:
    """A heading's text without pictures, link targets and emphasis."""
    text = re.sub(r"!\[[^\]]*\]\([^)]*\)|<[^>]+>", "", markdown)
    return re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text).replace("`", "").replace("**", "").strip(" #")


def _headings(cell: NotebookNode) -> list[str]:
    """The texts of a Markdown cell's headings, in order."""
    text = re.sub(r"^```.*?^```", "", cell.source, flags=re.MULTILINE | re.DOTALL)
    return [_plain(h) for h in re.findall(r"^#{1,6}\s+(.+)$", text, flags=re.MULTILINE)]


def title_of(notebook: NotebookNode, default: str) -> str:
    """The first heading, or `default` where there is none."""
    return next((h for c in notebook.cells if c.cell_type == "markdown" for h in _headings(c)), default)


def _text(output: NotebookNode) -> str:
    if output.output_type == "stream":
        return output.text if output.name == "stdout" else ""
    return output.get("data", {}).get("text/plain", "")


def write_figures(notebook: NotebookNode, folder: Path, name: str) -> list[Figure]:
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


def render(notebook: NotebookNode) -> str:
    """A page that needs no other file; only formulas ask the network for MathJax and stay TeX without it."""
    notebook.metadata.pop("widgets", None)
    exporter = HTMLExporter(template_name="lab", embed_images=True, require_js_url="")
    return exporter.from_notebook_node(notebook)[0].replace('<script src=""></script>', "")


def now() -> str:
    """The time as people write it, in UTC."""
    return f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"


def device() -> str:
    """The name of the GPU that is used; "" where there is none."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else ""


def versions() -> dict[str, str]:
    """Version of Python and of each library that results may depend on."""
    table = {"Python": platform.python_version()}
    for package in PACKAGES:
        try:
            table[package] = version(package)
        except PackageNotFoundError:
            table[package] = "not installed"
    return table


def machine(profile: str) -> dict[str, str]:
    """What the report ran on: label → text; nothing that names the machine or its user."""
    table = {
        "profile": profile,
        "date": now(),
        "system": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPU cores, "
        f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / GIB:.0f} GiB memory",
        "GPU": device() or "none used",
    }
    return table | versions()


def _figure_html(figure: Figure) -> str:
    heading, caption = escape(figure.heading), escape(figure.caption)
    if figure.text:
        return f"<figure><pre>{escape(figure.text)}</pre><figcaption>{heading}</figcaption></figure>"
    image = f'<img src="{quote(figure.file)}" alt="{caption or heading}" loading="lazy">'
    below = f"<strong>{heading}</strong><br>{caption}" if caption else heading
    return f'<figure><a href="{quote(figure.file)}">{image}</a><figcaption>{below}</figcaption></figure>'


def _about(o: NotebookRun) -> str:
    """Why it failed, or when a kept one was run, as a sentence without its full stop; "" for one that passed now."""
    return o.error or (f"kept from {o.date}" if o.kept else "")


def _gib(count: int, unknown: str) -> str:
    return f"{count / GIB:.2f} GiB" if count else unknown


def _row(o: NotebookRun, gpu: bool) -> str:
    status = "failed" if o.error else "passed"
    about = f'<small class="soft">{escape(_about(o))}</small>' if _about(o) else ""
    numbers = [f"{o.seconds:.1f} s", _gib(o.peak, "unknown")]
    if gpu:  # a kernel that was killed told nothing
        numbers.append(_gib(o.gpu_peak, "unknown" if o.error else "none"))
    return (f'<tr><td><a href="#{quote(o.name)}">{escape(o.title)}</a></td>'
            f'<td class="status"><span class="{status}">{status}</span>{about}</td>'
            + "".join(f'<td class="number">{number}</td>' for number in numbers)
            + f'<td class="files">{_links(o)}</td></tr>\n')


def _links(o: NotebookRun) -> str:
    return " · ".join(f'<a href="{quote(file)}">{label}</a>' for label, file in o.files.items())


def _section(o: NotebookRun) -> str:
    memory = f"peak memory {_gib(o.peak, 'unknown')}" + (f" · GPU {_gib(o.gpu_peak, '')}" if o.gpu_peak else "")
    status = "" if o.error else '<span class="passed">passed</span>' + (f", {escape(_about(o))}" if o.kept else "")
    facts = " · ".join(x for x in (status, f"{o.seconds:.1f} s", memory, _links(o)) if x)
    error = f'<p class="failed">Failed: {escape(o.error)}.</p>\n' if o.error else ""
    figures = f'<div class="figures">\n{"".join(map(_figure_html, o.figures))}\n</div>' if o.figures else ""
    return f'<section id="{escape(o.name)}"><h2>{escape(o.title)}</h2>\n{error}<p>{facts}</p>\n{figures}</section>\n'


def index(outcomes: list[NotebookRun], waiting: list[str], facts: dict[str, str]) -> str:
    """index.html as text; every text that came from a notebook is escaped.

    `waiting` are the titles of notebooks that have not been run yet, `facts` what `machine` gives.
    """
    gpu = any(o.gpu_peak for o in outcomes)
    numbers = ["time", "peak memory", *(["GPU memory"] if gpu else [])]
    heads = f"<th>notebook</th><th>status</th>{''.join(f'<th class=number>{n}</th>' for n in numbers)}<th>files</th>"
    rows = "".join(_row(o, gpu) for o in outcomes)
    rest = f'<td colspan="{len(numbers) + 2}">not run yet</td>'
    rows += "".join(f'<tr class="waiting"><td>{escape(title)}</td>{rest}</tr>\n' for title in waiting)
    passed, all_ = sum(not o.error for o in outcomes), len(outcomes) + len(waiting)
    coming = f", {len(waiting)} not run yet" if waiting else ""
    held = ", GPU memory the most that torch held on one" if gpu else ""
    table = "".join(f"<tr><th>{escape(k)}</th><td>{escape(v)}</td></tr>" for k, v in facts.items())
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Learnable regions: report, profile {escape(facts["profile"])}</title><style>{STYLE}</style></head><body>
<h1>Learnable regions: what the notebooks showed</h1>
<p>{passed} of {all_} notebooks passed{coming}.
Peak memory is that of the largest process a notebook started{held}.</p>
<div class="wide"><table><thead><tr>{heads}</tr></thead>
<tbody>{rows}</tbody></table></div>
{"".join(map(_section, outcomes))}
<h2>Versions and machine</h2><div class="wide"><table>{table}</table></div>
</body></html>
"""
