"""The learner's layer of the exercise notebooks: hints, solutions and quizzes fold, are true, and give nothing away; with
the course's own functions every exercise notebook runs to its end.
"""

import ast
import json
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from markdown_it import MarkdownIt
from matplotlib.mathtext import MathTextParser
from shorter import shorten

from lr_helpers import checks
from lr_helpers.authoring import exercises, notebooks
from lr_helpers.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
SOURCES = [s for s in sorted(notebooks.FOLDER.glob(notebooks.PATTERN + ".py")) if exercises.has_exercises(s)]
SHORT = "02_where_could_we_edit"
"""The notebook that takes the fewest seconds with smaller measurements."""

each_notebook = pytest.mark.parametrize("source", SOURCES, ids=lambda s: s.stem)


@cache
def version(source: Path) -> nbformat.NotebookNode:
    """The exercise version of a script."""
    return exercises.exercise_version(notebooks.read_script(source), source.stem)


def solutions(source: Path) -> dict[str, str]:
    """Code by the name of the function."""
    cells = [c for c in notebooks.read_script(source).cells if exercises.SOLUTION in c.metadata.get("tags", [])]
    return {exercises.name_of(c.source): c.source for c in cells}


def written(source: Path) -> dict[str, str]:
    """Every text that a person wrote for a notebook's layer, by where it stands."""
    texts = exercises.read_texts(source.stem)
    found = {f"hint {n} of {name}": hint for name, hints in texts.hints.items() for n, hint in enumerate(hints, 1)}
    for number, asked in enumerate(texts.quiz, 1):
        found[f"question {number}"], found[f"answer {number}"] = asked.question, asked.answer
    return {**found, "summary": texts.summary}


# What is written


@each_notebook
def test_every_exercise_has_two_hints_of_its_own(source):
    hints = exercises.read_texts(source.stem).hints
    assert list(hints) == list(solutions(source))
    assert {len(both) for both in hints.values()} == {2}
    every = [" ".join(hint.split()) for both in hints.values() for hint in both]
    assert len(set(every)) == len(every)
    assert all(60 < len(hint) < 500 for hint in every)


def squeezed(code: str) -> str:
    return re.sub(r"[\s`()]", "", code)


def decisive(solution: str) -> list[str]:
    """The statements of the functions in a solution, and what they return or set."""
    found = []
    for function in (n for n in ast.walk(ast.parse(solution)) if isinstance(n, ast.FunctionDef)):
        for node in ast.walk(function):
            if isinstance(node, (ast.Return, ast.Assign, ast.AugAssign)) and node.value is not None:
                found += [ast.unparse(node), ast.unparse(node.value)]
            elif isinstance(node, ast.Expr) and not isinstance(node.value, ast.Constant):
                found.append(ast.unparse(node))
    return [s for s in map(squeezed, found) if len(s) >= 20]


@each_notebook
def test_no_hint_holds_a_decisive_line(source):
    for name, solution in solutions(source).items():
        for hint in exercises.read_texts(source.stem).hints[name]:
            assert [line for line in decisive(solution) if line in squeezed(hint)] == [], name


def test_a_hint_with_a_decisive_line_would_be_found():
    solution = 'def f(x):\n    """F."""\n    return (x * weights).sum(dim=1).mean()'
    assert any(line in squeezed("Take `(x * weights).sum( dim=1 ).mean()`.") for line in decisive(solution))


@each_notebook
def test_a_quiz_has_three_to_five_questions_and_a_summary_as_many_sentences(source):
    texts = exercises.read_texts(source.stem)
    assert 3 <= len(texts.quiz) <= 5
    assert all(asked.question.rstrip().endswith("?") and len(asked.answer) > 3 for asked in texts.quiz)
    assert 3 <= len(re.findall(r"[.!?](?=\s|$)", texts.summary.strip())) <= 5


ANSWERS = [pytest.param(asked, id=f"{s.stem}: {asked.question[:40]}") for s in SOURCES
           for asked in exercises.read_texts(s.stem).quiz if asked.check]


@pytest.mark.parametrize("asked", ANSWERS)
def test_an_answer_that_code_can_tell_is_right(asked):
    assert bool(eval(asked.check, {"torch": torch, "np": np, "checks": checks})) is True


def test_most_answers_are_told_by_code():
    assert len(ANSWERS) >= 0.5 * sum(len(exercises.read_texts(s.stem).quiz) for s in SOURCES)


FORMULA = re.compile(r"\$([^$]+)\$")


@each_notebook
def test_formulas_and_code_marks_parse(source):
    parser = MathTextParser("path")
    for where, text in written(source).items():
        assert text.count("$") % 2 == 0 and text.count("`") % 2 == 0, where
        for formula in FORMULA.findall(re.sub(r"`[^`]*`", "", text)):
            parser.parse(f"${' '.join(formula.split())}$".replace(r"\bmod", r"\mathrm{mod}"))
        # No line is one that Markdown takes for something else.
        assert not re.search(r"(?m)^\s*([-+*#>=|]|\d+[.)]\s|<|    )", text), where


# How it is folded


def folds(text: str) -> list[tuple[str, list]]:
    """(title, tokens within) of each fold of a Markdown text; fails where one is not closed or not Markdown inside."""
    found, inside = [], None
    for token in MarkdownIt().parse(text):
        if token.type == "html_block":
            opened = re.fullmatch(r"<details><summary>([^<]+)</summary>\n?", token.content)
            if opened:
                assert inside is None, "a fold within a fold"
                inside = []
                found.append((opened[1], inside))
            else:
                assert token.content.strip() == "</details>" and inside is not None, token.content
                inside = None
        elif inside is not None:
            inside.append(token)
    assert inside is None
    return found


@each_notebook
def test_below_each_stub_are_hints_solution_and_the_way_on_and_then_the_check(source):
    cells, solved = version(source).cells, solutions(source)
    places = [i for i, c in enumerate(cells) if c.cell_type == "code" and exercises.STUB in c.source]
    assert len(places) == len(solved)
    for at, (name, solution) in zip(places, solved.items(), strict=True):
        layer, check = cells[at + 1], cells[at + 2]
        assert (layer.cell_type, check.cell_type) == ("markdown", "code")
        found = folds(layer.source)
        assert [title for title, _ in found] == ["Hint 1", "Hint 2", "Solution", "Go on with ours"]
        shown, line = (next(t for t in tokens if t.type == "fence") for _, tokens in found[2:])
        assert (shown.info, shown.content.strip()) == ("python", solution.strip())
        called = re.fullmatch(rf'{name} = checks\.ours\("(\w+)"\)\n', line.content)
        assert check.source.startswith(f"checks.{called[1]}({name})")


@each_notebook
def test_it_ends_with_quiz_summary_map_and_the_way_on(source):
    *_, before, quiz, summary, shown, way = version(source).cells
    asked = exercises.read_texts(source.stem).quiz
    assert "What we learned" in before.source and "**Next:**" not in before.source
    assert quiz.source.startswith("## Quiz") and [title for title, _ in folds(quiz.source)] == ["Answer"] * len(asked)
    assert summary.source.startswith("## What you now can do") and "(../../docs/glossary.md)" in summary.source
    assert shown.cell_type == "code" and shown.source.endswith("checks.progress()")
    assert way.source.startswith("**Next:**")


@each_notebook
def test_progress_is_kept_from_the_first_cells_on(source):
    cells = [c.source for c in version(source).cells if c.cell_type == "code"]
    (at,) = (i for i, code in enumerate(cells) if "checks.keep_progress()" in code)
    assert not any(exercises.STUB in code or re.search(r"^checks\.", code) for code in cells[:at])
    ast.parse(cells[at])
    # The solved notebook keeps none: who runs it has solved nothing.
    assert "keep_progress" not in source.read_text(encoding="utf-8")


def test_cell_names_are_valid_and_different():
    for source in SOURCES:
        nbformat.validate(version(source))
        names = [c.id for c in version(source).cells]
        assert len(set(names)) == len(names)


@each_notebook
def test_no_link_leads_to_solutions_but_the_one_to_its_own(source):
    shown = "\n".join(c.source for c in version(source).cells if c.cell_type == "markdown")
    solved = [name for name in re.findall(r"\]\(\.\./(\w+)\.ipynb", shown)
              if exercises.has_exercises(notebooks.FOLDER / f"{name}.py")]
    assert solved == [source.stem]


def test_a_link_leads_to_exercises_where_there_are_any_and_else_where_it_led(tmp_path):
    (tmp_path / "01_small.py").write_text('# %% tags=["solution"]\n', encoding="utf-8")
    (tmp_path / "00_start.py").write_text("1 + 1\n", encoding="utf-8")
    for link, led in {"01_small.ipynb": "01_small.ipynb", "01_small.ipynb#2-part": "01_small.ipynb#2-part",
                      "00_start.ipynb": "../00_start.ipynb", "../docs/01_small.ipynb": "../../docs/01_small.ipynb",
                      "exercises/01_small.ipynb": "../exercises/01_small.ipynb", "#part": "#part",
                      "https://a.b/01_small.ipynb": "https://a.b/01_small.ipynb", "01_small.py": "../01_small.py"}.items():
        assert exercises.led_on(f"See [it]({link}), and [that]({link}).", tmp_path) == f"See [it]({led}), and [that]({led})."


# Wrong texts


def made(tmp_path: Path, texts: str, code: str = "checks.composite(twice)") -> nbformat.NotebookNode:
    (tmp_path / "learner").mkdir()
    (tmp_path / "learner" / "01_small.toml").write_text(texts, encoding="utf-8")
    cell, tags = nbformat.v4, {"tags": ["solution"]}
    book = cell.new_notebook(cells=[
        cell.new_markdown_cell("# Title"), cell.new_code_cell("from lr_helpers import (\n    checks,\n)\n1 + 1"),
        cell.new_code_cell('def twice(x):\n    """2 x."""\n    return 2 * x', metadata=tags), cell.new_code_cell(code)])
    return exercises.exercise_version(book, "01_small", tmp_path)


@pytest.mark.parametrize(("texts", "said"), [
    ('[hints]\nthrice = ["a", "b"]', "has hints for thrice"), ("[hints", "can't be used"),
    ("[[quiz]]\nquestion = 'a?'", "can't be used"), ("note = 'x'", "can't be used")])
def test_texts_that_fit_no_exercise_are_refused(tmp_path, texts, said):
    with pytest.raises(UserError, match=said):
        made(tmp_path, texts)


def test_a_solution_without_a_check_has_no_way_on_and_imports_of_several_lines_are_kept(tmp_path):
    cells = made(tmp_path, '[hints]\ntwice = ["a", "b"]', "print(twice(2))").cells
    assert [title for title, _ in folds(cells[3].source)] == ["Hint 1", "Hint 2", "Solution"]
    assert cells[1].source.splitlines()[:3] == ["from lr_helpers import (", "    checks,", ")"]
    assert cells[1].source.splitlines()[-1] == "1 + 1" and "checks.keep_progress()" in cells[1].source


# The glossary


GLOSSARY = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
TERMS = ("IoU", "PSNR", "Wilson interval", "DDIM inversion", "RoIAlign", "Gumbel-softmax", "Straight-through", "Anchor", "Proposal",
         "Candidate", "Shortlist", "Classifier-free guidance", "Latents", "Velocity prediction", "CLIP direction",
         "Structure loss", "PIE-Bench", "Denoiser evaluation", "Frontier", "Bootstrap", "Judge", "Token", "Occlusion")


def test_the_glossary_has_every_term_once_from_a_to_z():
    terms = re.findall(r"^## (.+)$", GLOSSARY, re.MULTILINE)
    assert terms == sorted(set(terms), key=str.lower)
    assert set(TERMS) <= set(terms)
    for entry in re.split(r"^## .+$", GLOSSARY, flags=re.MULTILINE)[1:]:
        assert 40 < len(entry.strip()) < 600
        assert re.search(r"\]\((\.\./notebooks/\S+\.ipynb|\w+\.md(#[\w-]+)?)\)\s*$", entry), entry


def test_a_term_of_the_glossary_stands_in_the_notebook_it_leads_to():
    """But for the words that stand for others: what the notebook calls them is listed."""
    other = {"CLS": "[CLS]", "CLIP guidance loss": "CLIP guidance", "CLIP direction": "Direction", "Editor": "edit",
             "Vision transformer": "vision transformer", "Ranking S": "ranking $S$", "Structure loss": "Structure",
             "Known region": "known box|true box", "Wilson interval": "Wilson", "Velocity prediction": "denoiser",
             "Patches loss": "`patches`", "Composite": "composite", "Latents": "latents"}
    for term, entry in re.findall(r"^## (.+)\n([\s\S]*?)(?=^## |\Z)", GLOSSARY, re.MULTILINE):
        for name in re.findall(r"\.\./notebooks/(\S+)\.ipynb", entry):
            text = (notebooks.FOLDER / f"{name}.py").read_text(encoding="utf-8").replace("\n# ", " ").lower()
            assert any(word.lower() in text for word in other.get(term, term).split("|")), (term, name)


# With the course's own functions


def gone_on_with(source: Path, folder: Path) -> Path:
    """The exercise notebook of a script, its stubs as they are, with the line that goes on in each check's cell, and with
    shorter measurements."""
    notebook = nbformat.from_dict(version(source))
    for layer, check in zip(notebook.cells, notebook.cells[1:], strict=False):
        line = re.search(r"^\w+ = checks\.ours\(.*$", layer.source, re.MULTILINE) if layer.cell_type == "markdown" else None
        if line:
            check.source = f"{line[0]}\n{check.source}"
        if "parameters" in layer.metadata.get("tags", []):
            layer.source = shorten(source.stem, layer.source)
    folder.mkdir(parents=True)
    nbformat.write(notebook, folder / f"{source.stem}.ipynb")
    return folder / f"{source.stem}.ipynb"


@pytest.fixture(scope="module")
def run_cells(tmp_path_factory):
    """Runs notebooks in a process of their own; returns what went wrong and what was shown."""
    folder = tmp_path_factory.mktemp("learner")
    environment = {**os.environ, "LR_PROFILE": "tiny", "PYTHONPATH": str(ROOT), "LR_PROGRESS": str(folder / "ada.json"),
                   "MPLBACKEND": "module://matplotlib_inline.backend_inline"}
    with (folder / "log").open("w+", encoding="utf-8", errors="replace") as log:
        process = subprocess.Popen([sys.executable, str(ROOT / "tests" / "notebook_cells.py")], cwd=folder, text=True,
                                   env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log)

        def run(source: Path) -> dict:
            notebook = gone_on_with(source, folder / source.stem / "notebooks" / "exercises")
            print(json.dumps({"notebook": str(notebook), "profile": "tiny"}), file=process.stdin, flush=True)
            answer = process.stdout.readline()
            assert answer, (folder / "log").read_text(encoding="utf-8")[-3000:]
            return {**json.loads(answer), "progress": checks.progress(folder / "ada.json")}

        yield run
        process.communicate(timeout=60)


@pytest.mark.parametrize("source", [pytest.param(s, id=s.stem, marks=[] if s.stem == SHORT else pytest.mark.all)
                                    for s in SOURCES])
def test_an_exercise_notebook_runs_to_its_end_with_ours(source, run_cells):
    answer = run_cells(source)
    assert answer["error"] is None, answer["error"]
    names = [row["exercise"] for row in answer["progress"].rows() if row["notebook"] == source.stem]
    assert len(names) == len(solutions(source)) == answer["text"].count("✓ ") - answer["text"].count("✓ done")
    assert {answer["progress"].entries[name].state for name in names} == {"ours"}
    assert "Your progress is kept in" in answer["text"] and "done with ours" in answer["text"]
