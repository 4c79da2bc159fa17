"""What `./reproduce.sh test` does with notebooks, without --all: the same cells, on less, in one kernel.

A notebook measures over fewer pictures; of the cells that hang on how many there are, the outputs are not compared. The
notebooks of a process share a kernel that is emptied in between, because each would take ten seconds to import torch. What
starts many processes is left out. `--all` runs every notebook as it stands, in a kernel of its own.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable

import pytest
from IPython.core.inputtransformer2 import TransformerManager
from nbval.plugin import IPyNbCell, IPyNbFile

FEWER = {"01": {"scenes": 2}, "02": {"scenes": 40}, "04": {"scenes": 2}, "05": {"runs": 2, "draws": 20}, "08": {"live": 1},
         "09": {"seeds": 1}, "10": {"scenes": 1}, "A1": {"count": 4}}
"""By a notebook's number: values for what its cell of parameters sets."""
MANY_PROCESSES = ("A1",)
"""Notebooks that start processes, each of which imports torch."""


def shorten(stem: str, parameters: str) -> str:
    """The source of the cell of parameters of the notebook of this name, with the smaller values.

    Raises ValueError if the cell does not set one of them as a number, on a line of its own.
    """
    for name, value in FEWER.get(stem[:2], {}).items():
        parameters, found = re.subn(rf"^{name} = \d+", f"{name} = {value}", parameters, flags=re.MULTILINE)
        if found != 1:
            raise ValueError(f"{stem} does not set the parameter {name!r} once")
    return parameters


def hanging_on(sources: list[str], names: set[str]) -> list[bool]:
    """Which cells, in order, use one of these names, or anything that such a cell has set."""
    found, known = [], set(names)
    for source in sources:
        used, stored = set(), set()
        for node in ast.walk(ast.parse(TransformerManager().transform_cell(source))):
            if isinstance(node, ast.Name):
                (used if isinstance(node.ctx, ast.Load) else stored).add(node.id)
            elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                stored.add(node.name)
        found.append(bool(used & known))
        if used & known:
            known |= stored
    return found


def shorten_items(items: list[pytest.Item]) -> None:
    """Let the notebooks among what nbval has collected measure on less, and mark those that start processes."""
    notebooks: dict[str, list[IPyNbCell]] = {}
    for item in items:
        if isinstance(item, IPyNbCell):
            notebooks.setdefault(item.path.stem, []).append(item)
    for stem, cells in notebooks.items():
        if stem[:2] in MANY_PROCESSES:
            for item in cells:
                item.add_marker("all")
            continue
        hanging = hanging_on([item.cell.source for item in cells], set(FEWER.get(stem[:2], ())))
        for item, hangs in zip(cells, hanging, strict=True):
            if "parameters" in item.cell.metadata.get("tags", []):
                item.cell.source = shorten(stem, item.cell.source)
            elif hangs:
                item.options["check"] = False


def share_kernel() -> Callable[[], None]:
    """From now on, the notebooks that nbval runs in this process share one kernel; returns what ends it."""
    start, running = IPyNbFile.setup, []

    def setup(notebook: IPyNbFile) -> None:
        if not running or not running[0].is_alive():
            start(notebook)
            running[:] = [notebook.kernel]
            return
        notebook.kernel = running[0]
        notebook.setup_sanitize_files()
        asked = notebook.kernel.execute_cell_input("%reset -f", allow_stdin=False)
        notebook.kernel.await_reply(asked, timeout=60)
        notebook.kernel.await_idle(asked, timeout=60)

    def stop() -> None:
        while running:
            running.pop().stop()

    IPyNbFile.setup, IPyNbFile.teardown = setup, lambda notebook: None
    return stop
