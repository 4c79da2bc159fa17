"""Sliders over a plain drawing function."""

from __future__ import annotations

from collections.abc import Callable

import ipywidgets
import matplotlib.pyplot as plt
from IPython.display import display
from matplotlib.figure import Figure


def explore(draw: Callable[..., Figure], **controls: ipywidgets.ValueWidget) -> None:
    """Show `draw(**values)` and, below it, the controls; moving one draws the figure again, in its place.

    The first picture is ordinary output: it stays in a stored or headless notebook, where the sliders are
    dead, and an error in it stops the notebook like any other. A later error is shown below the sliders.
    """

    def drawn() -> Figure:
        figure = draw(**{name: control.value for name, control in controls.items()})
        plt.close(figure)  # else the notebook would show it a second time
        return figure

    picture, errors = display(drawn(), display_id=True), ipywidgets.Output()

    def redraw(change: dict) -> None:
        errors.clear_output()
        with errors:  # shows the traceback of what goes wrong inside
            picture.update(drawn())

    for name, control in controls.items():
        control.description = control.description or name
        control.style.description_width = "initial"
        if hasattr(control, "continuous_update"):
            control.continuous_update = False
        control.observe(redraw, names="value")
    display(ipywidgets.VBox([*controls.values(), errors]))
