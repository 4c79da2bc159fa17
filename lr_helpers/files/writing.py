"""Writing files whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
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
