"""The author's tool for notebooks/exercises/: each is its solved notebook with the solutions taken out, and with a
learner's layer: folded hints and solutions, a quiz, a summary and the map of what is done.

Its texts stand in notebooks/learner/NAME.toml:

    summary = "What a learner can do now, in three to five sentences."

    [hints]
    top_anchors = ["The idea.", "The call, or the usual slip."]

    [[quiz]]
    question = "…"
    answer = "…"
    check = "a Python expression that is true if the answer is right; tests only; may be left out"
"""

from __future__ import annotations

import ast
import re
import tomllib
from dataclasses import dataclass, field
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
tells whether you are right. Under a stub are two hints, our solution, and a line to go on with it, folded. All of it \
solved, explained and executed: [{name}](../{name}.ipynb)."""


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


# The learner's layer


@dataclass(frozen=True)
class Question:
    """One question of a quiz."""

    question: str
    answer: str
    check: str = ""
    """A Python expression that is true if the answer is right; "" where no code can tell."""


@dataclass(frozen=True)
class Texts:
    """What a person wrote for the exercise version of one notebook."""

    hints: dict[str, list[str]] = field(default_factory=dict)
    """By the name of the function or class: first the idea, then the call or the usual slip."""
    quiz: tuple[Question, ...] = ()
    summary: str = ""


def read_texts(name: str, folder: Path = ROOT / "notebooks") -> Texts:
    """The texts in learner/NAME.toml; none if that file is missing. Raises UserError if it can't be used."""
    file = folder / "learner" / f"{name}.toml"
    if not file.exists():
        return Texts()
    try:
        found = tomllib.loads(file.read_text(encoding="utf-8"))
        quiz = tuple(Question(**question) for question in found.pop("quiz", []))
        return Texts(quiz=quiz, **found)
    except (TypeError, ValueError) as error:
        raise UserError(f"{file} can't be used ({error}); lr_helpers/authoring/exercises.py has its form.") from error


def folded(title: str, text: str) -> str:
    """Markdown that shows `text` at a click on `title`; in the blank lines' midst it is Markdown again."""
    return f"<details><summary>{title}</summary>\n\n{text.strip()}\n\n</details>"


CHECK = re.compile(r"(?m)^checks\.(\w+)\((\w+)\)")


def help_for(solution: str, check: str | None, hints: list[str]) -> str:
    """The text below a stub: its hints, its solution, and how to go on with ours, each folded.

    `check`: the call of the exercise's check, whose function's name is that of the hints.
    """
    parts = [folded(f"Hint {number}", hint) for number, hint in enumerate(hints, 1)]
    parts.append(folded("Solution", f"```python\n{solution.strip()}\n```"))
    called = CHECK.search(check or "")
    if called:
        parts.append(folded("Go on with ours", "Put this line above the check, into its cell, and come back when you "
                            f"like:\n\n```python\n{ours_line(called)}\n```"))
    return "\n\n".join(parts)


def ours_line(called: re.Match) -> str:
    """The line by which a learner goes on with the course's function, from the `CHECK` of the exercise."""
    return f'{called[2]} = checks.ours("{called[1]}")'


def name_of(solution: str) -> str:
    """The name of the function or class that a solution defines; hints are found by it."""
    return next(n.name for n in ast.parse(solution).body if isinstance(n, (ast.FunctionDef, ast.ClassDef)))


KEEP = """
# Your checks write down how far you are.
checks.keep_progress()"""


def keeping(source: str) -> str | None:
    """The code of the cell that imports `checks`, which from then on keep progress; None for any other cell."""
    statements = ast.parse(source).body
    imports = [n for n in statements if isinstance(n, (ast.Import, ast.ImportFrom))]
    if not any(alias.name == "checks" for n in imports for alias in n.names):
        return None
    lines = source.splitlines()
    lines.insert(imports[-1].end_lineno, KEEP)
    return "\n".join(lines)


ENDING = """## What you now can do

{summary}

Words to look up: the [glossary](../../docs/glossary.md)."""

MAP = """# Where you are: ✓ done, ◐ done with ours, ○ open
checks.progress()"""


def ending(texts: Texts) -> list[NotebookNode]:
    """The last cells: quiz, summary, and the map of what is done."""
    cells = []
    if texts.quiz:
        questions = [f"**{number}.** {asked.question.strip()}\n\n{folded('Answer', asked.answer)}"
                     for number, asked in enumerate(texts.quiz, 1)]
        cells.append(nbformat.v4.new_markdown_cell("\n\n".join(["## Quiz", *questions]), id="layer-quiz"))
    if texts.summary:
        cells.append(nbformat.v4.new_markdown_cell(ENDING.format(summary=texts.summary.strip()), id="layer-summary"))
        cells.append(nbformat.v4.new_code_cell(MAP, id="layer-progress"))
    return cells


LINK = re.compile(r"\]\((?!\w+:|#|/)(?:(\w+)\.ipynb)?")
"""How a link begins that leads to another file of the repository; with the name of a notebook beside this one."""


def has_exercises(script: Path) -> bool:
    """Is there an exercise version of this notebook's .py half?"""
    return script.is_file() and f'"{SOLUTION}"' in script.read_text(encoding="utf-8")


def led_on(text: str, folder: Path) -> str:
    """A notebook's Markdown with its links as they must be in an exercise notebook, which lies one folder deeper.

    A link to a notebook with exercises leads to its exercise version, so that it shows no solutions; any other one
    leads to where it led.
    """
    def lead(link: re.Match) -> str:
        beside = link[1] and has_exercises(folder / f"{link[1]}.py")
        return link[0] if beside else link[0].replace("](", "](../", 1)

    return LINK.sub(lead, text)


def exercise_version(notebook: NotebookNode, name: str, folder: Path = ROOT / "notebooks") -> NotebookNode | None:
    """The notebook with stubs for solutions and without outputs; None if it has no solutions.

    Its links lead to other exercise notebooks where there are any; only the one to itself, under the title, leads to
    the solved one.
    """
    if not any(SOLUTION in c.metadata.get("tags", []) for c in notebook.cells):
        return None
    copy, texts = nbformat.from_dict(notebook), read_texts(name, folder)
    cells, helped, kept = [], [], False
    for number, cell in enumerate(copy.cells):
        cells.append(cell)
        if cell.cell_type == "markdown":
            cell.source = led_on(cell.source, folder)
            continue
        cell.outputs, cell.execution_count = [], None
        tags = cell.metadata.get("tags", [])
        # What the learner's own code prints is not compared.
        kept_tags = [t for t in tags if t == "parameters"]
        cell.metadata = NotebookNode({"tags": kept_tags} if kept_tags else {})
        if SOLUTION in tags:
            solution, function = cell.source, name_of(cell.source)
            cell.source = stub(solution)
            after = copy.cells[number + 1] if number + 1 < len(copy.cells) else None
            check = after.source if after is not None and after.cell_type == "code" else None
            text = help_for(solution, check, texts.hints.get(function, []))
            cells.append(nbformat.v4.new_markdown_cell(text, id=f"layer-{function}"[:64]))
            helped.append(function)
        elif not kept:
            keeps = keeping(cell.source)
            cell.source, kept = keeps or cell.source, keeps is not None
    unknown = sorted(set(texts.hints) - set(helped))
    if unknown:
        raise UserError(f"learner/{name}.toml has hints for {', '.join(unknown)}, which the notebook does not ask for.")
    # The way to the next notebook comes last, below the quiz.
    body, there, leads = cells[-1].source.partition("**Next:**")
    layer = ending(texts)
    if there and layer:
        cells[-1].source = body.strip()
        layer.append(nbformat.v4.new_markdown_cell(there + leads, id="layer-next"))
    copy.cells = [*cells, *layer]
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
