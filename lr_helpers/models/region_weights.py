"""A stored region predictor, before it is believed: what its file says, read within limits.

It is one safetensors file. Its header holds, beside the weights' names and shapes, the network's settings, which ViT
and CLIP it was trained on, and a card of what on. Nothing is allocated by what the settings say: they are compared with
the weights that are there, and these are no larger than the file.
"""

from __future__ import annotations

import json
import stat
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

KIND = "learnable-regions predictor"
LIMITS = {"features": 4096, "embedding": 4096, "hidden": 512}
"""The largest sizes of a network; those of real models stay far below."""
LARGEST, LARGEST_HEADER = 2**26, 2**20
"""Bytes of the file and of its header."""
PARTS = ("backbone", "clip")
"""The models that it reads, and so depends on."""


@dataclass(frozen=True)
class Header:
    """What a predictor's file says of itself."""

    settings: dict[str, Any]
    """Sizes of the network, and the inputs that it does without."""
    trained_on: dict[str, dict[str, str]]
    """For each of PARTS, "name" and "fingerprint" (`encoders.fingerprint`)."""
    card: dict[str, Any] = field(default_factory=dict)
    """Plain data on its training; for people to read, and no more than text of its author."""


def metadata(settings: dict[str, Any], trained_on: dict[str, dict[str, str]], card: dict[str, Any]) -> dict[str, str]:
    """The header's free part for a file, as safetensors takes it."""
    # In one entry: safetensors writes several in any order, and the same network shall be the same bytes.
    return {KIND: json.dumps({"settings": settings, "trained_on": trained_on, "card": card})}


def which(file: Path | None) -> str | None:
    """Which predictor a file holds, for the settings of a study: its digest; None where there is none."""
    return sha256(file.read_bytes()).hexdigest()[:16] if file is not None and file.is_file() else None


def read_header(file: Path) -> Header:
    """What the file says; raises OSError or ValueError, whose text says why, if it is none or over the limits."""
    about = file.stat()
    if not stat.S_ISREG(about.st_mode):
        raise ValueError("it is no plain file")
    if about.st_size > LARGEST:
        raise ValueError(f"it has {about.st_size} bytes, more than any predictor")
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if length > min(LARGEST_HEADER, about.st_size):
            raise ValueError("its header is cut off or too long")
        said = _json(stream.read(length)).get("__metadata__")
    if not isinstance(said, dict) or KIND not in said:
        raise ValueError(f"its header does not say that it is a {KIND}")
    found = _json(said[KIND])
    settings, trained_on, card = (_object(found.get(name)) for name in ("settings", "trained_on", "card"))
    _check_sizes(settings)
    for part in PARTS:
        model = trained_on.get(part)
        if not isinstance(model, dict) or not all(isinstance(model.get(k), str) for k in ("name", "fingerprint")):
            raise ValueError(f"it does not say on which {part} it was trained")
    return Header(settings, trained_on, card)


def _check_sizes(settings: dict[str, Any]) -> None:
    for name, most in LIMITS.items():
        size = settings.get(name)
        if type(size) is not int or not 1 <= size <= most:
            raise ValueError(f"its {name} is {str(size)[:40]!r}, not a whole number from 1 to {most}")
    if not set(settings) <= {*LIMITS, "without"}:
        raise ValueError("it has settings that no predictor has")
    without = settings.get("without", [])
    if not isinstance(without, list) or not all(isinstance(name, str) for name in without):
        raise ValueError("what it does without is no list of names")


def _json(text: Any) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError("its header can't be read") from error
    return _object(found)


def _object(found: Any) -> dict[str, Any]:
    if not isinstance(found, dict):
        raise ValueError("its header can't be read")
    return found
