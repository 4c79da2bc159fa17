"""Where the course lies: the one place that finds its root and its data."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""The clone: README.md, notebooks/ and data/ stand in it."""

DATA = Path(os.environ.get("LR_DATA") or ROOT / "data")
"""What is shipped with it; the environment variable LR_DATA names another folder."""
