"""Learnable regions: from an image and a sentence alone, learn where to edit, then edit there.

>>> from lr_helpers import edit, load_models
>>> models = load_models("tiny")
>>> result = edit(models, "picture.png", source="bird", prompt="a rabbit")   # doctest: +SKIP
"""

import importlib

__version__ = "0.1.0"

# Loaded when first used: diffusers and transformers take seconds, and a wrong option should be told at once.
_HOME = {"edit": "editing", "EditResult": "result", "load_models": "models", "Models": "models", "METHODS": "config",
         "PROFILES": "config", "Method": "config", "Profile": "config", "UserError": "errors"}
__all__ = list(_HOME)


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module 'lr_helpers' has no attribute {name!r}")
    return getattr(importlib.import_module(f"lr_helpers.{_HOME[name]}"), name)
