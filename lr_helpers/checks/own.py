"""The learner's own functions of notebooks 02 to 05, as notebook 06 puts them together; ours where one is missing."""

from __future__ import annotations

import ast
import contextlib
import io
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import nbformat

from lr_helpers.checks import anchors, learning, losses, regions
from lr_helpers.checks.exercise import CheckFailed, Exercise

PIECES: dict[str, tuple[str, Exercise]] = {
    "spread_anchors": ("02", anchors.spread_anchors),
    "anchor_centres": ("02", anchors.anchor_centres),
    "proposals": ("03", regions.proposals),
    "RegionNetwork": ("03", regions.region_network),
    "direction_loss": ("04", losses.direction_loss),
    "structure_loss": ("04", losses.structure_loss),
    "expected_loss": ("05", learning.expected_loss),
}
"""Function or class → the notebook that asks for it, and its check."""


class Pieces(SimpleNamespace):
    """The functions as attributes, e.g. `pieces.proposals`. Printed, it says where each is from."""

    def __init__(self, functions: dict[str, Callable], origins: dict[str, str]):
        super().__init__(**functions)
        self._origins = origins

    def __repr__(self) -> str:
        return "\n".join(f"{name:15} {origin}" for name, origin in self._origins.items())


def pieces(folder: str | Path = ".") -> Pieces:
    """The functions of PIECES, each from the notebook in `folder` that asks for it if it is there and passes its check.

    Of a notebook only imports and definitions are run, so nothing is computed; save it after you have changed it.
    Where a function is missing, still a stub, or not right yet, the package's own takes its place.
    """
    functions, origins, read = {}, {}, {}
    for name, (number, check) in PIECES.items():
        file = next(iter(sorted(Path(folder).glob(f"{number}_*.ipynb"))), None)
        if file not in read:
            read[file] = {} if file is None else definitions(file)
        problem = f"there is no {number}_….ipynb here" if file is None else _problem(read[file].get(name), check)
        functions[name] = check.reference if problem else read[file][name]
        origins[name] = f"ours: {problem}" if problem else f"from {file.name}"
    return Pieces(functions, origins)


def definitions(file: Path) -> dict[str, Callable]:
    """What the code cells of a notebook import and define; nothing else of it is run. Empty if it can't be read."""
    space: dict[str, Callable] = {"__name__": file.stem}
    try:
        cells = nbformat.read(file, as_version=4).cells
    except (OSError, ValueError, AttributeError):
        return {}
    for cell in cells:
        if cell.cell_type != "code":
            continue
        try:
            statements = ast.parse(cell.source).body
        except SyntaxError:
            continue  # unfinished, or it holds commands of IPython
        for statement in statements:
            if isinstance(statement, (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef)):
                # Whatever fails here is missing afterwards, and said to be.
                with contextlib.suppress(Exception):
                    exec(compile(ast.Module([statement], []), file.name, "exec"), space)
    return space


def _problem(function: Callable | None, check: Exercise) -> str | None:
    """Why a function can't be taken, in a few words; None if it passes its check."""
    if function is None:
        return "yours is not defined there"
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            check.judge(function)
    except CheckFailed as told:
        return "yours is still a stub" if "still a stub" in str(told) else "yours does not pass its check yet"
    if isinstance(function, type) and _shapes(function) != _shapes(check.reference):
        return "yours makes its layers in another order, so a seed gives it other weights"
    return None


def _shapes(network: Callable) -> list[tuple[int, ...]]:
    """The shapes of a region network's weights, in the order in which they are made."""
    return [tuple(weight.shape) for weight in network(3, 5, 2).parameters()]
