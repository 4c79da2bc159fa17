"""The committed notebook pairs agree and are executed; the tools that make and run them say so when they are not."""

import base64
from io import BytesIO
from pathlib import Path

import nbformat
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from lr_helpers.authoring import notebooks, report
from lr_helpers.errors import UserError

SOURCES = sorted(notebooks.FOLDER.glob(notebooks.PATTERN + ".py"))

SCRIPT = '''# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation: {extension: .py, format_name: percent}
# ---

# %% [markdown]
# # A small <one>

# %% tags=["parameters"]
profile = "none"

# %% [markdown]
# ## Under this heading

# %% tags=["figure-text"]
import os, sys
print("profile", profile, os.environ["LR_PROFILE"], "<b>")
print(" 50%|#####     | 1/2 [00:00<00:00,  3.0it/s]", file=sys.stderr)

# %%
import matplotlib.pyplot as plt
plt.plot([0, 1]);
'''


def test_there_is_a_notebook() -> None:
    assert SOURCES
    assert {p.stem for p in notebooks.FOLDER.glob(notebooks.PATTERN + ".ipynb")} == {s.stem for s in SOURCES}


@pytest.mark.parametrize("source", SOURCES, ids=lambda s: s.stem)
def test_both_halves_agree_and_are_executed(source: Path) -> None:
    assert notebooks.problems(source) == []


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A notebooks folder with one script, in a path with a space and braces."""
    folder = tmp_path / "a {b} c"
    folder.mkdir()
    (folder / "01_small.py").write_text(SCRIPT, encoding="utf-8")
    monkeypatch.setattr(notebooks, "FOLDER", folder)
    monkeypatch.setattr(report, "FOLDER", folder)
    return folder


@pytest.mark.slow
def test_build_then_check_then_report(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert notebooks.run([], check=True) == 1
    assert notebooks.run(["01"], check=False) == 0
    assert notebooks.run([], check=True) == 0
    first = (folder / "01_small.ipynb").read_text(encoding="utf-8")
    stored = nbformat.reads(first, as_version=4)
    assert [c.id for c in stored.cells] == [f"cell-{i:03d}" for i in range(5)]
    assert [o.text for o in stored.cells[3].outputs] == ["profile none tiny <b>\n"]
    assert stored.cells[3].metadata == {"tags": ["figure-text"]}
    assert "image/png" in stored.cells[4].outputs[-1].data

    # JupyterLab's jupytext opens a pair only if its text half is not the older one.
    assert (folder / "01_small.py").stat().st_mtime >= (folder / "01_small.ipynb").stat().st_mtime

    output = folder / "results"
    assert report.run("dummy", output) == 0
    page = (output / "index.html").read_text(encoding="utf-8")
    assert str(output / "index.html") in capsys.readouterr().out
    assert "A small" in page and "profile dummy dummy &lt;b&gt;" in page and "<b>" not in page
    (picture,) = (output / "pictures").iterdir()
    assert f"pictures/{picture.name}" in page and "Under this heading" in page
    assert (output / "01_small.html").exists() and (output / "01_small.ipynb").exists()
    assert (folder / "01_small.ipynb").read_text(encoding="utf-8") == first


@pytest.mark.slow
def test_a_failing_notebook_is_told_and_does_not_stop_the_others(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1 / 0")])
    good = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1 + 1")])
    for name, notebook in (("02_bad", bad), ("03_good", good)):
        nbformat.write(notebook, folder / f"{name}.ipynb")
    assert report.run("tiny", folder / "results") == 1
    told = capsys.readouterr().out
    assert "ZeroDivisionError: division by zero" in told and "1 of 2 notebooks passed" in told
    assert "ZeroDivisionError" in (folder / "results" / "index.html").read_text(encoding="utf-8")

    (folder / "01_small.py").write_text(SCRIPT + "\n# %%\n1 / 0\n", encoding="utf-8")
    assert notebooks.run(["01_small"], check=False) == 1
    assert not (folder / "01_small.ipynb").exists()
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_check_finds_each_kind_of_difference(folder: Path) -> None:
    source = folder / "01_small.py"
    notebook = notebooks.read_script(source)
    for number, cell in enumerate(c for c in notebook.cells if c.cell_type == "code"):
        cell.execution_count = number + 1

    def found(change=lambda n: None) -> str:
        changed = nbformat.from_dict(notebook)
        change(changed)
        nbformat.write(changed, source.with_suffix(".ipynb"))
        return " ".join(notebooks.problems(source))

    error = nbformat.v4.new_output("error", ename="KeyError", evalue="x", traceback=[])
    assert found() == ""
    assert "differ in cell 1" in found(lambda n: n.cells[0].update(source="# Another title"))
    assert "differ in cell 4" in found(lambda n: n.cells[3].metadata.update(tags=["other"]))
    assert "differ from cell 5" in found(lambda n: n.cells.pop())
    assert "cell 5 was not executed" in found(lambda n: n.cells[4].update(execution_count=None))
    assert "cell 5 holds an error, KeyError" in found(lambda n: n.cells[4].outputs.append(error))


def test_wrong_names_and_folders_are_answered(folder: Path) -> None:
    with pytest.raises(UserError, match="there are 01_small"):
        notebooks.run(["07"], check=True)
    with pytest.raises(UserError, match=r"no \.ipynb"):
        report.run("tiny", folder / "results")
    with pytest.raises(UserError, match="not a notebook"):
        report.run("tiny", folder / "results", [folder / "09_none.ipynb"])
    nbformat.write(nbformat.v4.new_notebook(), folder / "01_small.ipynb")
    with pytest.raises(UserError, match="holds the input"):
        report.run("tiny", folder)


@pytest.mark.slow
def test_exercise_versions_are_written_and_compared(folder: Path) -> None:
    solved = SCRIPT + '''
# %% tags=["solution"]
def twice(x: float) -> float:
    """Twice x."""
    return 2 * x
'''
    (folder / "01_small.py").write_text(solved, encoding="utf-8")
    assert notebooks.run(["01"], check=False) == 0
    stubs = folder / "exercises" / "01_small.ipynb"
    written = nbformat.read(stubs, as_version=4)
    # The solution is in no cell of code, but folded below the stub.
    assert not any("return 2 * x" in cell.source for cell in written.cells if cell.cell_type == "code")
    (folded,) = [cell.source for cell in written.cells if "return 2 * x" in cell.source]
    assert folded.index("<summary>Solution") < folded.index("return 2 * x")
    assert "your code here" in stubs.read_text(encoding="utf-8")
    assert notebooks.run([], check=True) == 0
    stubs.write_text(stubs.read_text(encoding="utf-8").replace("your code here", "return 2 * x"), encoding="utf-8")
    assert "exercises/01_small.ipynb is not what 01_small.py gives" in " ".join(
        notebooks.problems(folder / "01_small.py"))


@pytest.mark.parametrize("source", SOURCES, ids=lambda s: s.stem)
def test_every_notebook_has_at_least_five_checked_cells_with_text(source: Path) -> None:
    cells = nbformat.read(source.with_suffix(".ipynb"), as_version=4).cells
    checked = [c for c in cells if "nbval-check-output" in c.metadata.get("tags", [])]
    texts = ["".join(o.get("text", "") for o in c.outputs) for c in checked]
    assert len(checked) >= 5
    assert all(text.strip() for text in texts)
    # At least five print figures, boxes or shapes, not only that an exercise is right.
    assert sum(not text.startswith("✓") for text in texts) >= 5


def test_figures_full_of_pictures_are_kept_in_few_colours():
    def png(picture: Image.Image) -> str:
        buffer = BytesIO()
        picture.save(buffer, "PNG")
        return base64.b64encode(buffer.getvalue()).decode()

    rng = np.random.default_rng(0)
    smooth = ndimage.gaussian_filter(rng.random((200, 300, 3)), (20, 20, 0))
    many = Image.fromarray((255 * (smooth - smooth.min()) / np.ptp(smooth)).astype(np.uint8))
    few = notebooks.in_few_colours(png(many))
    assert len(few) < 0.8 * len(png(many))
    with Image.open(BytesIO(base64.b64decode(few))) as again:
        assert np.abs(np.asarray(again.convert("RGB"), int) - np.asarray(many)).mean() < 6
    plain = png(Image.new("RGB", (40, 40), "red"))
    assert notebooks.in_few_colours(plain) == plain  # nothing to save
