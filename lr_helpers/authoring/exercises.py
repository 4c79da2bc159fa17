"""The author's tool for notebooks/exercises/: each is its solved notebook with the solutions taken out."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from lr_helpers.authoring.badges import BADGE
from lr_helpers.errors import UserError
from lr_helpers.files.paths import ROOT

SOLUTION = "solution"
"""Tag of the cells whose functions the learner writes."""

STUB = 'raise NotImplementedError("your code here")'

NOTE = """> **Exercise version.** Where it says *your code here* it is your turn; the check below each stub \
tells whether you are right. Solutions, explained and executed: [{name}](../{name}.ipynb)."""


def stub(source: str) -> str:
    """The code of a solution cell with the bodies of its functions, or of its classes' methods, taken out.

    Signatures, decorators, docstrings and whatever stands outside of functions stay as they are. Raises
    UserError if there is no function in it or one has no docstring, because that is all the learner gets.
    """
    lines, functions = source.splitlines(), []
    for node in ast.parse(source).body:
        inside = node.body if isinstance(node, ast.ClassDef) else [node]
        functions += [(n, node) for n in inside if isinstance(n, ast.FunctionDef)]
    if not functions:
        raise UserError(f"A cell tagged {SOLUTION!r} defines no function: {lines[0] if lines else 'it is empty'}")
    for function, owner in reversed(functions):
        first = function.body[0].lineno - 1
        if ast.get_docstring(function):
            first = function.body[0].end_lineno
        elif not ast.get_docstring(owner):
            raise UserError(f"The exercise {function.name!r} has no docstring; say what goes in and comes out.")
        indent = " " * (function.col_offset + 4)
        lines[first:function.end_lineno] = [indent + STUB]
    return "\n".join(lines)


NEXT = re.compile(r"(?m)^(\*\*Next:\*\*[^\]]*\]\()\.\./((\w+)\.ipynb\))")
"""The link to the next notebook, as it stands in an exercise notebook after all links have been led one folder up."""


def has_exercises(script: Path) -> bool:
    """Is there an exercise version of this notebook's .py half?"""
    return script.is_file() and f'"{SOLUTION}"' in script.read_text(encoding="utf-8")


def exercise_version(notebook: NotebookNode, name: str, folder: Path = ROOT / "notebooks") -> NotebookNode | None:
    """The notebook with stubs for solutions and without outputs; None if it has no solutions.

    "Next" leads to the next exercise notebook, which lies beside this one; where that has no exercises, to the solved
    one in the folder above.
    """
    if not any(SOLUTION in c.metadata.get("tags", []) for c in notebook.cells):
        return None
    copy = nbformat.from_dict(notebook)
    for cell in copy.cells:
        if cell.cell_type == "markdown":
            # It lies one folder deeper than the notebook it is made from.
            cell.source = re.sub(r"\]\((?!\w+:|#|/)", "](../", cell.source)
            following = NEXT.search(cell.source)
            if following and has_exercises(folder / f"{following[3]}.py"):
                cell.source = NEXT.sub(r"\1\2", cell.source)
            continue
        cell.outputs, cell.execution_count = [], None
        tags = cell.metadata.get("tags", [])
        if SOLUTION in tags:
            cell.source = stub(cell.source)
        # What the learner's own code prints is not compared.
        tags = [t for t in tags if t == "parameters"]
        cell.metadata = NotebookNode({"tags": tags} if tags else {})
    # The badge opens the exercise version itself.
    source = copy.cells[0].source.replace(f"/notebooks/{name}.ipynb)", f"/notebooks/exercises/{name}.ipynb)")
    title = re.match(rf".*(\n\n{BADGE.pattern})?", source).group()
    copy.cells[0].source = f"{title}\n\n{NOTE.format(name=name)}\n{source.removeprefix(title + chr(10))}"
    return copy


def text_of(notebook: NotebookNode, name: str) -> str | None:
    """The exercise notebook's file as text, the same at every call; None if there are no exercises."""
    version = exercise_version(notebook, name)
    return None if version is None else nbformat.writes(version) + "\n"


def path_of(source: Path) -> Path:
    """Where the exercise version of notebooks/NAME.py lies."""
    return source.parent / "exercises" / f"{source.stem}.ipynb"
