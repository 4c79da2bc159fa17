"""The two halves of a notebook: the percent script NAME.py is the source, NAME.ipynb its executed twin."""

from __future__ import annotations

import os
from itertools import zip_longest
from pathlib import Path

import jupytext
import nbformat
from nbformat import NotebookNode

from lr_helpers.authoring import badges, exercises
from lr_helpers.errors import UserError
from lr_helpers.files.writing import write_bytes

MAX_BYTES = 1_000_000
"""Largest committed .ipynb."""


def tags(cell: NotebookNode) -> list[str]:
    """A cell's tags, as a list of its own."""
    return list(cell.metadata.get("tags", []))


def read_script(source: Path) -> NotebookNode:
    """The notebook that a percent script describes: no outputs, only tags in the cells' metadata, cell ids by position.

    Raises UserError for a script that jupytext can't read as notebook.
    """
    try:
        notebook = jupytext.read(source)
    except (ValueError, OSError, SyntaxError) as error:
        raise UserError(f"{source} can't be read as a percent notebook ({error}); fix its jupytext header.") from error
    metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
                "language_info": {"name": "python"}}
    formats = notebook.metadata.get("jupytext", {}).get("formats")
    if formats:
        metadata = {"jupytext": {"formats": formats}, **metadata}
    notebook.metadata = NotebookNode(metadata)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for index, cell in enumerate(notebook.cells):
        keep_tags_only(cell)
        cell.id = f"cell-{index:03d}"
    return notebook


def keep_tags_only(cell: NotebookNode) -> None:
    """Drop everything but the tags from a cell's metadata, in place."""
    cell.metadata = NotebookNode({"tags": tags(cell)} if tags(cell) else {})


def write_exercises(source: Path) -> None:
    """Write the exercise version of a script, if it has exercises."""
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
    if [(c.cell_type, tags(c)) for c in stored.cells] != [(c.cell_type, tags(c)) for c in script]:
        return f"{twin.name} has other cells than {source.name}; {execute}"
    for ours, theirs in zip(script, stored.cells, strict=True):
        if badges.TAG in tags(ours) or badges.BADGE.search(ours.source):
            theirs.source = ours.source
    new = (nbformat.writes(stored) + "\n").encode()
    if new != twin.read_bytes():
        write_bytes(twin, new)
        touch(source)
    write_exercises(source)
    return None


def touch(source: Path) -> None:
    """Make the script the younger half of its pair, for JupyterLab's jupytext refuses one whose .ipynb is younger."""
    os.utime(source)


def problems(source: Path) -> list[str]:
    """What is wrong with the pair of a percent script and its .ipynb, in one sentence each; empty if all is well."""
    twin = source.with_suffix(".ipynb")
    if not twin.exists():
        return [f"{twin.name} is missing; make it by: python -m lr_helpers notebooks {source.stem}"]
    try:
        stored = nbformat.read(twin, as_version=4).cells
    except (ValueError, OSError) as error:
        return [f"{twin.name} can't be read ({error})"]
    script = read_script(source)
    found = [*_differences(source, script.cells, stored), *_failures(twin, stored)]

    text = source.read_text(encoding="utf-8")
    if badges.opens(text) and badges.opened(text, source.stem) != text:
        found.append(f"{source.name}: its badge or set-up cell is not what pyproject.toml gives; renew them by: python "
                     "-m lr_helpers notebooks --badges")
    size = twin.stat().st_size
    if size > MAX_BYTES:
        found.append(f"{twin.name} takes {size:,} bytes, more than {MAX_BYTES:,}")
    stubs, file = exercises.text_of(script, source.stem), exercises.path_of(source)
    if stubs != (file.read_text(encoding="utf-8") if file.exists() else None):
        found.append(f"exercises/{file.name} is not what {source.name} gives; make it by: python -m lr_helpers "
                     f"notebooks {source.stem}")
    return found


def _differences(source: Path, script: list[NotebookNode], stored: list[NotebookNode]) -> list[str]:
    """The first cell in which the halves differ, as a list of one sentence; empty if they agree."""
    both = f"{source.stem}.ipynb and {source.name}"
    for index, (ours, theirs) in enumerate(zip_longest(script, stored), 1):
        if ours is None or theirs is None:
            return [f"{both} differ from cell {index} on: one has no more cells"]
        if (ours.cell_type, ours.source, tags(ours)) != (theirs.cell_type, theirs.source, tags(theirs)):
            return [f"{both} differ in cell {index}"]
    return []


def _failures(twin: Path, stored: list[NotebookNode]) -> list[str]:
    """The code cells that were not executed, or that ended in an error they were not meant to end in."""
    found = []
    for index, cell in enumerate(stored, 1):
        if cell.cell_type != "code" or not cell.source.strip():
            continue
        if cell.execution_count is None:
            found.append(f"{twin.name}: cell {index} was not executed")
        if "raises-exception" in tags(cell):
            continue
        for output in cell.outputs:
            if output.output_type == "error":
                found.append(f"{twin.name}: cell {index} holds an error, {output.ename}")
    return found
