"""The HTML half of the report: a notebook's page, its pictures, and index.html."""

from __future__ import annotations

import base64
import os
import platform
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

import torch
from jinja2 import Environment, PackageLoader, StrictUndefined
from nbconvert import HTMLExporter
from nbformat import NotebookNode

from lr_helpers.files.outputs import Output

PACKAGES = ("torch", "torchvision", "diffusers", "transformers", "accelerate", "open_clip_torch", "safetensors",
            "numpy", "scipy", "matplotlib", "pillow", "torchmetrics")
GIB = 2**30


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

    @property
    def status(self) -> str:
        """What the page calls it: passed, or failed."""
        return "failed" if self.error else "passed"

    @property
    def remark(self) -> str:
        """Why it failed, or when a kept one was run, without a full stop; "" for one that passed now."""
        if self.error:
            return self.error
        return f"kept from {self.date}" if self.kept else ""


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


def write_figures(notebook: NotebookNode, folder: Output, name: str) -> list[Figure]:
    """All pictures of a notebook, written to the folder `pictures`, and the texts of cells tagged figure-text."""
    heading, figures, written = name, [], set()
    for index, cell in enumerate(notebook.cells):
        if cell.cell_type == "markdown":
            heading = ([heading, *_headings(cell)])[-1]
        if cell.cell_type != "code":
            continue
        for number, output in enumerate(cell.outputs):
            picture = output.get("data", {}).get("image/png")
            if picture:
                file = f"pictures/{name}-{index:02d}-{number}.png"
                folder.write(file, base64.b64decode(picture))
                written.add(file)
                about = {**output.metadata, **output.metadata.get("image/png", {})}
                caption = str(about.get("caption") or about.get("alt") or "")
                figures.append(Figure(heading, caption, file=file))
        if "figure-text" in cell.metadata.get("tags", []):
            texts = [_text(o).rstrip() for o in cell.outputs if "image/png" not in o.get("data", {})]
            text = "\n".join(t for t in texts if t).strip("\n")
            if text:
                figures.append(Figure(heading, text=re.sub(r"\x1b\[[0-9;]*m", "", text)))
    stale = [file for file in folder.ours() if is_picture_of(file, name) and file not in written]
    folder.remove(*stale)
    return figures


def is_picture_of(file: str, name: str) -> bool:
    """Is this what `write_figures` calls a picture of the notebook of this name?"""
    return re.fullmatch(rf"pictures/{re.escape(name)}-\d+-\d+\.png", file) is not None


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


def _gib(count: int, unknown: str = "") -> str:
    """Bytes as GiB; `unknown` for 0."""
    return f"{count / GIB:.2f} GiB" if count else unknown


# Every text is escaped where it enters the page, and a name that the template misspells is an error.
TEMPLATES = Environment(loader=PackageLoader("lr_helpers.authoring"), autoescape=True, undefined=StrictUndefined,
                        trim_blocks=True, lstrip_blocks=True)
TEMPLATES.filters["gib"] = _gib


def index(outcomes: list[NotebookRun], waiting: list[str], facts: dict[str, str]) -> str:
    """index.html as text.

    `waiting` are the titles of notebooks that have not been run yet, `facts` what `machine` gives.
    """
    gpu = any(outcome.gpu_peak for outcome in outcomes)
    page = TEMPLATES.get_template("report.html").render(runs=outcomes, waiting=waiting, facts=facts, gpu=gpu)
    return page.strip() + "\n"
