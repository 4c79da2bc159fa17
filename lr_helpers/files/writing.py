"""Writing files whole or not at all."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from io import BytesIO
from pathlib import Path

from PIL import Image

from lr_helpers.errors import OutputError


def prepare_folder(folder: str | Path) -> Path:
    """Make the folder if need be; raises OutputError if it can't be written to."""
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(f"The output folder {str(folder)!r} can't be written to ({error.strerror}); "
                          "choose another one.") from error
    return folder


def write_bytes(path: Path, data: bytes) -> None:
    """Write whole or not at all: a temporary name beside it, flushed to disk, then renamed."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise OutputError(f"{path} can't be written ({error.strerror}); free space or choose another "
                          "folder.") from error


def write_image(path: Path, image: Image.Image) -> None:
    """`image` as PNG, atomically."""
    buffer = BytesIO()
    image.save(buffer, "PNG")
    write_bytes(path, buffer.getvalue())


def write_json(path: Path, record: dict) -> None:
    """`record` as JSON (no NaN), atomically."""
    write_bytes(path, (json.dumps(record, indent=1, allow_nan=False, ensure_ascii=False) + "\n").encode())


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> None:
    """A line for each row, atomically; empty where a row lacks a column (or has None). Other keys are left out."""
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: _harmless(value) for name, value in row.items()})
    write_bytes(path, out.getvalue().encode())


def _harmless(value: object) -> object:
    """A text as spreadsheets show it, instead of running it as a formula."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value
