"""What the notebooks are given beside the method: samples, sliders, a blind vote, and the editor to play with."""

from __future__ import annotations

import importlib
import os
from typing import Any


def editor(models: Any = None) -> Any:
    """The editor as a widget, for the last line of a cell: choose a picture, type what is there and what you want, Run.

    `models` as `load_models` returns them; by default those of the profile in LR_PROFILE, or else "tiny". Raises
    UserError if they can't be loaded.
    """
    # By name, and not before it is asked for: the widget stands on the method, the samples below it.
    if models is None:
        loading = importlib.import_module("lr_helpers.models.loading")
        models = loading.load_models(os.environ.get("LR_PROFILE", "tiny"))
    return importlib.import_module("lr_helpers.app.widget").EditorWidget(models)
