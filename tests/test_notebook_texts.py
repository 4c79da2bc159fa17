"""What a reader of the notebooks sees beside the results: links to the next one, widths, alternative texts, terms."""

import ast
import re
from itertools import pairwise
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

from lr_helpers import plots
from lr_helpers.authoring import badges, notebooks
from lr_helpers.authoring.exercises import exercise_version

SCRIPTS = sorted(notebooks.FOLDER.glob(notebooks.PATTERN + ".py"))
WIDTH = 100
"""The longest line of code, in characters, that a laptop and Colab show without a scroll bar."""

NEXT = re.compile(r"(?m)^\*\*Next:\*\*.*?\]\(([^)]+)\)")


def texts(cells: list) -> str:
    return "\n".join(c.source for c in cells if c.cell_type == "markdown")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda s: s.stem)
def test_no_line_of_code_is_wider_than_a_laptop_shows(script: Path) -> None:
    lines = [line for c in notebooks.read_script(script).cells if c.cell_type == "code" for line in c.source.splitlines()]
    assert [line for line in lines if len(line) > WIDTH] == []


def test_nor_is_the_set_up_cell_of_a_course_with_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(badges, "project", lambda: ("https://github.com/somebodys-name/learnable-regions", "0.10.0"))
    assert max(map(len, badges.setup_cell().splitlines())) <= WIDTH
    ast.parse(badges.setup_cell())


def test_the_order_of_the_list_is_the_order_by_name() -> None:
    """Everything that sorts notebooks by name keeps the order, the site's menu and the report among it."""
    assert notebooks.order() == [s.stem for s in SCRIPTS]
    assert notebooks.order()[-1].startswith("A1_")  # appendices come last


def test_next_leads_from_each_solved_notebook_to_the_one_after_it() -> None:
    leads = {s.stem: NEXT.findall(texts(notebooks.read_script(s).cells)) for s in SCRIPTS}
    for this, after in pairwise(notebooks.order()):
        assert leads[this][:1] == [f"{after}.ipynb"], this
    assert all(len(found) == 1 for found in leads.values())


def test_next_leads_from_each_exercise_notebook_to_the_next_exercises() -> None:
    versions = {s.stem: exercise_version(notebooks.read_script(s), s.stem) for s in SCRIPTS}
    for this, after in pairwise(notebooks.order()):
        if versions[this] is None:
            continue
        (link,) = NEXT.findall(texts(versions[this].cells))
        # Beside it where there are exercises, and else in the folder of the solved ones.
        assert link == ("" if versions[after] else "../") + f"{after}.ipynb"


TERMS = {
    "IoU": r"IoU\W*, (?:the )?(?:intersection over union|area that)|IoU\W* with the known one, the area that both share|ntersection over union(?: \(IoU\)|, IoU)",
    "PSNR": r"PSNR\W*, the peak signal-to-noise ratio",
    "Wilson": r"Wilson's formula: |\(Wilson, 95 %\)",
    "DDIM inversion": r"DDIM inversion\* runs the denoising steps backwards",
    "60 dB": r"60 dB (?:where nothing changed|for it)",
}
"""Term → the words by which it is explained."""


@pytest.mark.parametrize("term", TERMS)
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda s: s.stem)
def test_a_term_is_explained_in_the_paragraph_that_first_uses_it(script: Path, term: str) -> None:
    paragraphs = re.split(r"\n\s*\n", texts(notebooks.read_script(script).cells))
    using = [" ".join(p.split()) for p in paragraphs if term in p]
    if using:
        assert re.search(TERMS[term], using[0]), f"{script.stem} does not explain {term} in: {using[0]}"


def test_terms_are_explained_before_code_or_figures_use_them() -> None:
    """In code a term stands in what is printed or drawn."""
    for script in SCRIPTS:
        cells = notebooks.read_script(script).cells
        for term in ("IoU", "PSNR"):
            used = next((i for i, c in enumerate(cells) if c.cell_type == "code" and term in _shown(c.source)), None)
            told = next((i for i, c in enumerate(cells) if c.cell_type == "markdown" and term in c.source), None)
            assert used is None or (told is not None and told < used), f"{script.stem} uses {term} in cell {used + 1} first"


def _shown(source: str) -> str:
    """The texts in a cell's code, but for docstrings."""
    tree = ast.parse(source)
    docs = {id(node.body[0].value) for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.ClassDef))
            and ast.get_docstring(node)}
    return " ".join(n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)
                    and id(n) not in docs)


# Alternative text


def test_a_figure_without_titles_still_says_what_it_is() -> None:
    figure = plots.show_pictures([plt.imread(notebooks.FOLDER.parent / "docs" / "figures" / "method.png")[..., :3]] * 2)
    assert plots.describe(figure) == "2 pictures"
    plots.close(figure)


def test_a_figure_of_curves_names_them() -> None:
    figure, axes = plt.subplots()
    axes.plot([0, 1], label="ours")
    axes.plot([1, 0], label="theirs")
    axes.set(xlabel="steps", ylabel="share")
    assert plots.describe(figure) == "x: steps, y: share, of ours, theirs"
    plots.close(figure)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda s: s.stem)
def test_every_stored_figure_has_an_alternative_text(script: Path) -> None:
    import nbformat

    notebook = nbformat.read(script.with_suffix(".ipynb"), as_version=4)
    for number, cell in enumerate(notebook.cells):
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                alternative = output.metadata.get("image/png", {}).get("alt") or output.metadata.get("alt") or ""
                assert len(alternative.split()) >= 2, f"cell {number + 1}: {alternative!r}"
