"""Learnable regions: from an image and a sentence alone, learn where to edit, then edit there.

>>> from lr_helpers import edit, load_models
>>> models = load_models("tiny")
>>> result = edit(models, "picture.png", source="bird", prompt="a rabbit")   # doctest: +SKIP
"""

import importlib
from typing import TYPE_CHECKING

from lr_helpers.machine import threads

if TYPE_CHECKING:
    from lr_helpers.editing import edit
    from lr_helpers.errors import UserError
    from lr_helpers.method import METHODS, Method
    from lr_helpers.models.loading import Models, load_models
    from lr_helpers.models.profiles import PROFILES, Profile
    from lr_helpers.result import EditResult

__version__ = "0.1.0"

threads.prepare()  # before torch loads

# Loaded when first used: diffusers and transformers take seconds, a wrong option should be told at once, and on Colab
# the set-up runs before open_clip is there.
_HOME = {"edit": "editing", "EditResult": "result", "METHODS": "method", "Method": "method", "UserError": "errors",
         "load_models": "models.loading", "Models": "models.loading", "PROFILES": "models.profiles",
         "Profile": "models.profiles"}
__all__ = ["METHODS", "PROFILES", "EditResult", "Method", "Models", "Profile", "UserError", "edit", "load_models"]


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module 'lr_helpers' has no attribute {name!r}")
    return getattr(importlib.import_module(f"lr_helpers.{_HOME[name]}"), name)
