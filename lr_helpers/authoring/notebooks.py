"""The author's tool: execute the percent scripts in notebooks/ into their .ipynb twins, and check that both agree."""

from __future__ import annotations

import os
import re
import sys
from itertools import zip_longest
from pathlib import Path

import jupytext
import nbformat
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpec
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode

from lr_helpers.authoring import badges, exercises
from lr_helpers.errors import UserError
from lr_helpers.files.paths import ROOT
from lr_helpers.files.writing import write_bytes

FOLDER = ROOT / "notebooks"
PATTERN = "[0-9][0-9]_*"
MAX_BYTES = 1_000_000
"""Largest committed .ipynb."""

WIDGET = "application/vnd.jupyter.widget-view+json"
PROGRESS = re.compile(r"\r|\d+%\||\d(it/s|s/it)\b")


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
            if output.output_type == "error" and "raises-exception" not in _tags(cell):
                text = next((line.strip() for line in output.evalue.splitlines() if line.strip()), "")
                return f"cell [{cell.execution_count or '?'}] raised {output.ename}" + (f": {text}" if text else "")
    return None


def _select(names: list[str]) -> list[Path]:
    """The scripts of these names ("06", "06_editing_one_image" or a path); all if none is given."""
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


def _tags(cell: NotebookNode) -> list[str]:
    return list(cell.metadata.get("tags", []))


def read_script(source: Path) -> NotebookNode:
    """The notebook that a percent script describes: no outputs, only tags in the cells' metadata, cell ids by position.

    Raises UserError for a script that jupytext can't read as notebook.
    """
    try:
        notebook = jupytext.read(source)
    except (ValueError, OSError, SyntaxError) as error:
        raise UserError(f"{source} can't be read as a percent notebook ({error}); fix its jupytext header.") from error
    formats = notebook.metadata.get("jupytext", {}).get("formats")
    notebook.metadata = NotebookNode(
        {
            **({"jupytext": {"formats": formats}} if formats else {}),
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
    )
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for index, cell in enumerate(notebook.cells):
        tags = _tags(cell)
        cell.metadata = NotebookNode({"tags": tags} if tags else {})
        cell.id = f"cell-{index:03d}"
    return notebook


def _clean(notebook: NotebookNode) -> list[str]:
    """Drop in place what would change from run to run or needs a live kernel; returns remarks for the author."""
    remarks = []
    for cell in notebook.cells:
        cell.metadata = NotebookNode({"tags": _tags(cell)} if _tags(cell) else {})
        if cell.cell_type != "code":
            continue
        kept = []
        for output in cell.outputs:
            if output.output_type == "stream" and output.name == "stderr":
                if not PROGRESS.search(output.text):
                    remarks.append(f"cell [{cell.execution_count}] wrote to stderr: {output.text.strip()[:200]}")
            elif WIDGET not in output.get("data", {}):
                kept.append(output)
        cell.outputs = kept
    notebook.metadata.pop("widgets", None)
    notebook.metadata["language_info"] = NotebookNode({"name": "python"})
    return remarks


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
    os.utime(source)  # JupyterLab's jupytext refuses a pair whose .ipynb is the younger half
    _write_exercises(source)
    return None


def _write_exercises(source: Path) -> None:
    stubs = exercises.text_of(read_script(source), source.stem)
    if stubs:
        exercises.path_of(source).parent.mkdir(exist_ok=True)
        write_bytes(exercises.path_of(source), stubs.encode())


def renew(source: Path) -> str | None:
    """Renew badge and set-up cell in a percent script, its .ipynb and its exercises; outputs stay as they are.

    Returns why the .ipynb could not follow, or None. Raises UserError where they have no place in the script.
    """
    text = source.read_text(encoding="utf-8")
    wanted = badges.opened(text, source.stem)
    if wanted != text:
        write_bytes(source, wanted.encode())
    twin, execute = source.with_suffix(".ipynb"), f"execute it by: python -m lr_helpers notebooks {source.stem}"
    if not twin.exists():
        return f"{twin.name} is missing; {execute}"
    stored, script = nbformat.read(twin, as_version=4), read_script(source).cells
    if [(c.cell_type, _tags(c)) for c in stored.cells] != [(c.cell_type, _tags(c)) for c in script]:
        return f"{twin.name} has other cells than {source.name}; {execute}"
    for ours, theirs in zip(script, stored.cells, strict=True):
        if badges.TAG in _tags(ours) or badges.BADGE.search(ours.source):
            theirs.source = ours.source
    new = (nbformat.writes(stored) + "\n").encode()
    if new != twin.read_bytes():
        write_bytes(twin, new)
        os.utime(source)
    _write_exercises(source)
    return None


def problems(source: Path) -> list[str]:
    """What is wrong with the pair of a percent script and its .ipynb, in one sentence each; empty if all is well."""
    twin = source.with_suffix(".ipynb")
    if not twin.exists():
        return [f"{twin.name} is missing; make it by: python -m lr_helpers notebooks {source.stem}"]
    try:
        stored = nbformat.read(twin, as_version=4).cells
    except (ValueError, OSError) as error:
        return [f"{twin.name} can't be read ({error})"]
    found = []
    for index, (ours, theirs) in enumerate(zip_longest(read_script(source).cells, stored), 1):
        if ours is None or theirs is None:
            found.append(f"{twin.name} and {source.name} differ from cell {index} on: one has no more cells")
            break
        if (ours.cell_type, ours.source, _tags(ours)) != (theirs.cell_type, theirs.source, _tags(theirs)):
            found.append(f"{twin.name} and {source.name} differ in cell {index}")
            break
    for index, cell in enumerate(stored, 1):
        if cell.cell_type != "code" or not cell.source.strip():
            continue
        if cell.execution_count is None:
            found.append(f"{twin.name}: cell {index} was not executed")
        if "raises-exception" not in _tags(cell):
            found += [
                f"{twin.name}: cell {index} holds an error, {output.ename}"
                for output in cell.outputs
                if output.output_type == "error"
            ]
    text = source.read_text(encoding="utf-8")
    if badges.opens(text) and badges.opened(text, source.stem) != text:
        found.append(f"{source.name}: its badge or set-up cell is not what pyproject.toml gives; renew them by: python "
                     "-m lr_helpers notebooks --badges")
    if twin.stat().st_size > MAX_BYTES:
        found.append(f"{twin.name} takes {twin.stat().st_size:,} bytes, more than {MAX_BYTES:,}")
    stubs, file = exercises.text_of(read_script(source), source.stem), exercises.path_of(source)
    if stubs != (file.read_text(encoding="utf-8") if file.exists() else None):
        found.append(f"exercises/{file.name} is not what {source.name} gives; make it by: python -m lr_helpers "
                     f"notebooks {source.stem}")
    return found


def run(names: list[str], check: bool, renewing: bool = False) -> int:
    """Build the named notebooks (all if `names` is empty), or only compare the pairs, or only renew how they open.

    Returns 0 if all went well, else 1; raises UserError for a name without notebook.
    """
    failed = 0
    for source in _select(names):
        if check:
            found = problems(source)
        elif renewing:
            problem = renew(source)
            found = [problem] if problem else []
        else:
            print(f"{source.stem} …", flush=True)
            problem = build(source)
            found = [f"{source.stem}: {problem}"] if problem else []
        for problem in found:
            print(problem, file=sys.stderr)
        failed += bool(found)
        if not found:
            done = "both halves agree" if check else "its badge and set-up cell are right" if renewing else "written"
            print(f"{source.stem}: {done}")
    if check and not names:
        for orphan in sorted(p for p in FOLDER.glob(PATTERN + ".ipynb") if not p.with_suffix(".py").exists()):
            print(f"{orphan.name} has no {orphan.stem}.py; write it or delete the .ipynb", file=sys.stderr)
            failed += 1
    if (check or renewing) and badges.placeholder():
        print(f"note: {badges.placeholder()}")
    return 1 if failed else 0
