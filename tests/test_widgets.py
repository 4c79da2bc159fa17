"""Sliders over a drawing function: live they redraw in place, stored they leave the picture and nothing else."""

import nbformat
import pytest
from jupyter_client import KernelManager
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


class ThisPython(KernelManager):
    """Starts a kernel by the notebooks' own `kernel_spec`."""

    kernel_spec = property(lambda self: notebooks.kernel_spec())


@pytest.fixture(scope="module")
def executed():
    """Runs cells after the SETUP, in one kernel for all, since each would load torch; returns the executed notebook."""
    kernel = ThisPython(kernel_name="python3")
    kernel.start_kernel(cwd=str(notebooks.FOLDER))

    def run(*cells: str, start: int = 2, allow_errors: bool = False):
        setup = SETUP.replace("{start}", str(start))
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in (setup, *cells)])
        NotebookClient(notebook, km=kernel, allow_errors=allow_errors).execute()
        return notebook

    yield run
    kernel.shutdown_kernel(now=True)


def alt(cell) -> list[str]:
    return [o.metadata["image/png"]["alt"] for o in cell.outputs if "image/png" in o.get("data", {})]


@pytest.mark.slow
def test_a_moved_slider_redraws_the_picture_in_its_place(executed):
    still = executed("explore(draw, k=slider)")
    moved = executed("explore(draw, k=slider)", "slider.value = 4")
    assert alt(still.cells[1]) == ["1 / 2 is 0.50"]
    assert alt(moved.cells[1]) == ["1 / 4 is 0.25"]
    assert moved.cells[2].outputs == []


@pytest.mark.slow
def test_an_error_is_never_swallowed(executed):
    at_once = executed("explore(draw, k=slider)", start=0, allow_errors=True)
    assert [o.ename for o in at_once.cells[1].outputs if o.output_type == "error"] == ["ZeroDivisionError"]
    later = executed("explore(draw, k=slider)", "slider.value = 0")
    assert "ZeroDivisionError" in str(later.metadata.widgets)
    mended = executed("explore(draw, k=slider)", "slider.value = 0\nslider.value = 5")
    assert "ZeroDivisionError" not in str(mended.metadata.widgets)
    assert alt(mended.cells[1]) == ["1 / 5 is 0.20"]


@pytest.mark.slow
def test_stored_notebooks_keep_the_picture_and_no_widget_state(executed):
    notebook = executed("explore(draw, k=slider)")
    assert "widgets" in notebook.metadata
    assert notebooks._clean(notebook) == []
    assert "widgets" not in notebook.metadata
    assert [list(o.data) for o in notebook.cells[1].outputs] == [["text/plain", "image/png"]]
