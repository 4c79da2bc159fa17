"""The author's tool: execute the percent scripts in notebooks/ into their .ipynb twins, and check that both agree."""

from __future__ import annotations

import base64
import os
import re
import sys
import tomllib
from io import BytesIO
from pathlib import Path

import nbformat
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpec
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode
from PIL import Image

from lr_helpers.authoring import badges
from lr_helpers.authoring.exercises import SOLUTION
from lr_helpers.authoring.pairs import (
    MAX_BYTES,
    keep_tags_only,
    problems,
    read_script,
    renew,
    tags,
    touch,
    write_exercises,
)
from lr_helpers.errors import UserError
from lr_helpers.files.paths import ROOT
from lr_helpers.files.writing import write_bytes

FOLDER = ROOT / "notebooks"
PATTERN = "[0-9A][0-9]_*"
"""Chapters are numbered 00, 01, …, appendices A1, A2, …: sorted by name, appendices come last."""

WIDGET = "application/vnd.jupyter.widget-view+json"
PROGRESS = re.compile(r"\r|\d+%\||\d(it/s|s/it)\b")


def order(root: Path = ROOT) -> list[str]:
    """The names of the course's notebooks, e.g. "01_the_inpainting_model", in the order in which they are read.

    docs/notebooks.toml lists them. Numbers may be left out, and each notebook's "Next" leads to the one after it here.
    """
    return list(tomllib.loads((root / "docs" / "notebooks.toml").read_text(encoding="utf-8")))


MINUTES = re.compile(r"(?m)^# \| time \| (?:.*\D)?(\d+)(?: minutes?)?(?: with the|(?! .*with the).* on a laptop)")
"""What a notebook's first table says: the minutes with the exercises, or else those that it runs."""


def course_map(root: Path = ROOT) -> str:
    """The map of the course in notebook 00 as Markdown: a row a notebook, from docs/notebooks.toml and the scripts.

    Raises UserError for a notebook whose first table does not say how many minutes it takes.
    """
    ideas = tomllib.loads((root / "docs" / "notebooks.toml").read_text(encoding="utf-8"))
    rows = ["| notebook | the one idea | minutes | exercises |", "|---|---|---|---|"]
    for name, idea in ideas.items():
        script = (root / "notebooks" / f"{name}.py").read_text(encoding="utf-8")
        title, minutes = re.search(r"(?m)^# # (.+)$", script)[1], MINUTES.search(script)
        if minutes is None:
            raise UserError(f"{name}.py does not say how long it takes; begin its table with: | time | N minutes …")
        count = script.count(f'tags=["{SOLUTION}"]')
        exercises = f"[{count}](exercises/{name}.ipynb)" if count else ""
        title = f"**{title}**" if name.startswith("00_") else f"[{title}]({name}.ipynb)"
        rows.append(f"| {title} | {idea} | {minutes[1]} | {exercises} |")
    return "\n".join(rows)


def kernel_spec() -> KernelSpec:
    """A kernel with the interpreter and the packages that run now, and with pictures shown in the notebook."""
    path = os.pathsep.join(p for p in (str(ROOT), os.environ.get("PYTHONPATH")) if p)
    launch = [sys.executable, "-Xfrozen_modules=off", "-m", "ipykernel_launcher", "--IPKernelApp.log_level=ERROR"]
    return KernelSpec(
        argv=[*launch, "-f", "{connection_file}"],
        display_name="Python 3",
        language="python",
        env={"PYTHONPATH": path, "MPLBACKEND": "module://matplotlib_inline.backend_inline"},
    )


class ThisPython(AsyncKernelManager):
    """Starts kernels by `kernel_spec`, whatever kernels the machine knows."""

    kernel_spec = property(lambda self: kernel_spec())


def first_error(notebook: NotebookNode) -> str | None:
    """One sentence on the first cell that stopped with an exception: its number, the exception and its first line."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.output_type == "error" and "raises-exception" not in tags(cell):
                text = next((line.strip() for line in output.evalue.splitlines() if line.strip()), "")
                return f"cell [{cell.execution_count or '?'}] raised {output.ename}" + (f": {text}" if text else "")
    return None


def _select(names: list[str]) -> list[Path]:
    """The scripts of these names ("06", "06_the_whole_method" or a path); all if none is given."""
    sources = sorted(FOLDER.glob(PATTERN + ".py"))
    if not sources:
        raise UserError(f"{FOLDER} holds no notebook; expected files like 01_name.py there.")
    if not names:
        return sources
    chosen = []
    for name in names:
        stem = Path(name).stem
        found = [s for s in sources if s.stem == stem or s.stem.startswith(stem + "_")]
        if not found:
            raise UserError(f"No notebook is called {name!r}; there are {', '.join(s.stem for s in sources)}.")
        chosen += [s for s in found if s not in chosen]
    return chosen


def _clean(notebook: NotebookNode) -> list[str]:
    """Drop in place what would change from run to run or needs a live kernel; returns remarks for the author."""
    remarks = []
    for cell in notebook.cells:
        keep_tags_only(cell)
        if cell.cell_type != "code":
            continue
        kept = []
        for output in cell.outputs:
            if output.output_type == "stream" and output.name == "stderr":
                # Progress bars are dropped without a word; anything else on stderr may be a warning to heed.
                if not PROGRESS.search(output.text):
                    remarks.append(f"cell [{cell.execution_count}] wrote to stderr: {output.text.strip()[:200]}")
            elif WIDGET not in output.get("data", {}):
                if "image/png" in output.get("data", {}):
                    output.data["image/png"] = in_few_colours(output.data["image/png"])
                kept.append(output)
        cell.outputs = kept
    notebook.metadata.pop("widgets", None)
    notebook.metadata["language_info"] = NotebookNode({"name": "python"})
    return remarks


def in_few_colours(picture: str) -> str:
    """A figure (PNG in base64) in 256 colours, or as it is where that does not save a fifth: figures that show many
    pictures take most of a notebook.
    """
    data = base64.b64decode(picture)
    with Image.open(BytesIO(data)) as image:
        few, small = image.convert("RGB").quantize(256, dither=Image.Dither.NONE), BytesIO()
        few.save(small, "PNG", optimize=True)
    return base64.b64encode(small.getvalue()).decode() if small.tell() < 0.8 * len(data) else picture


def build(source: Path) -> str | None:
    """Execute a percent script on profile tiny and write its .ipynb beside it; returns what went wrong, or None.

    The .ipynb is replaced only by a whole and correct one.
    """
    notebook = read_script(source)
    client = NotebookClient(
        notebook,
        timeout=None,
        kernel_name="python3",
        kernel_manager_class=ThisPython,
        coalesce_streams=True,
        record_timing=False,
        resources={"metadata": {"path": str(source.parent)}},
    )
    try:
        client.execute(env={**os.environ, "LR_PROFILE": "tiny"})
    except CellExecutionError as error:
        return first_error(notebook) or error.ename
    for remark in _clean(notebook):
        print(f"  note: {remark}")
    nbformat.validate(notebook)
    text = nbformat.writes(notebook) + "\n"
    if str(ROOT) in text:
        return f"an output or a source names the folder {ROOT}, which is another one on every machine"
    if len(text.encode()) > MAX_BYTES:
        return f"the notebook would take {len(text.encode()):,} bytes, more than {MAX_BYTES:,}; show fewer pictures"
    write_bytes(source.with_suffix(".ipynb"), text.encode())
    touch(source)
    write_exercises(source)
    return None


def run(names: list[str], check: bool, renewing: bool = False) -> int:
    """Build the named notebooks (all if `names` is empty), or only compare the pairs, or only renew how they open.

    Returns 0 if all went well, else 1; raises UserError for a name without notebook.
    """
    failed = 0
    for source in _select(names):
        if check:
            found, done = problems(source), "both halves agree"
        elif renewing:
            problem, done = renew(source), "its badge and set-up cell are right"
            found = [problem] if problem else []
        else:
            print(f"{source.stem} …", flush=True)
            problem, done = build(source), "written"
            found = [f"{source.stem}: {problem}"] if problem else []
        for problem in found:
            print(problem, file=sys.stderr)
        if found:
            failed += 1
        else:
            print(f"{source.stem}: {done}")
    if check and not names:
        for orphan in sorted(p for p in FOLDER.glob(PATTERN + ".ipynb") if not p.with_suffix(".py").exists()):
            print(f"{orphan.name} has no {orphan.stem}.py; write it or delete the .ipynb", file=sys.stderr)
            failed += 1
    if (check or renewing) and badges.placeholder():
        print(f"note: {badges.placeholder()}")
    return 1 if failed else 0
