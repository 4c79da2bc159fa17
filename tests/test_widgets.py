"""Sliders over a drawing function: live they redraw in place, stored they leave the picture and nothing else."""

import nbformat
import pytest
from nbclient import NotebookClient

from lr_helpers.authoring import notebooks

SETUP = """import ipywidgets
import matplotlib.pyplot as plt
from lr_helpers import plots
from lr_helpers.course.widgets import explore


def draw(k):
    figure, axes = plt.subplots(figsize=(2, 2))
    axes.set_title(f"1 / {k} is {1 / k:.2f}")
    return figure


slider = ipywidgets.IntSlider({start}, 0, 9)"""


def executed(*cells: str, start: int = 2, allow_errors: bool = False):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in
                                               (SETUP.replace("{start}", str(start)), *cells)])
    NotebookClient(notebook, kernel_name="python3", kernel_manager_class=notebooks.ThisPython,
                   allow_errors=allow_errors, resources={"metadata": {"path": str(notebooks.FOLDER)}}).execute()
    return notebook


def alt(cell) -> list[str]:
    return [o.metadata["image/png"]["alt"] for o in cell.outputs if "image/png" in o.get("data", {})]


@pytest.mark.slow
def test_a_moved_slider_redraws_the_picture_in_its_place():
    still = executed("explore(draw, k=slider)")
    moved = executed("explore(draw, k=slider)", "slider.value = 4")
    assert alt(still.cells[1]) == ["1 / 2 is 0.50"]
    assert alt(moved.cells[1]) == ["1 / 4 is 0.25"]
    assert moved.cells[2].outputs == []


@pytest.mark.slow
def test_an_error_is_never_swallowed():
    at_once = executed("explore(draw, k=slider)", start=0, allow_errors=True)
    assert [o.ename for o in at_once.cells[1].outputs if o.output_type == "error"] == ["ZeroDivisionError"]
    later = executed("explore(draw, k=slider)", "slider.value = 0")
    assert "ZeroDivisionError" in str(later.metadata.widgets)
    mended = executed("explore(draw, k=slider)", "slider.value = 0\nslider.value = 5")
    assert "ZeroDivisionError" not in str(mended.metadata.widgets)
    assert alt(mended.cells[1]) == ["1 / 5 is 0.20"]


@pytest.mark.slow
def test_stored_notebooks_keep_the_picture_and_no_widget_state():
    notebook = executed("explore(draw, k=slider)")
    assert "widgets" in notebook.metadata
    assert notebooks._clean(notebook) == []
    assert "widgets" not in notebook.metadata
    assert [list(o.data) for o in notebook.cells[1].outputs] == [["text/plain", "image/png"]]
