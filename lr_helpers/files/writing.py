"""Writing files whole or not at all."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import secrets
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
    except (OSError, ValueError) as error:  # ValueError: a NUL in its name
        raise OutputError(f"The output folder {str(folder)!r} can't be written to "
                          f"({getattr(error, 'strerror', None) or error}); choose another one.") from error
    return folder


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turns an OSError of writing into an OutputError."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"{path} can't be written ({error.strerror}); free space or choose another "
                          "folder.") from error


def write_new(path: Path, data: bytes, shown: Path | None = None) -> None:
    """A new file, flushed to disk, or none. Raises OutputError, which names `shown`, also if the file is there."""
    with explained(shown or path):
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            with os.fdopen(handle, "wb", buffering=0) as file:
                rest = memoryview(data)
                while rest:
                    rest = rest[file.write(rest):]
                os.fsync(file.fileno())
        except BaseException:
            with contextlib.suppress(OSError):
                path.unlink()
            raise


def write_bytes(path: Path, data: bytes) -> None:
    """Write whole or not at all: a temporary name beside it, flushed to disk, then renamed.

    What is there is replaced, whosever it is; in an output folder `files.outputs.Output` writes.
    """
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_new(temporary, data, shown=path)
        try:
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise


def png_bytes(image: Image.Image) -> bytes:
    """`image` as a PNG file."""
    buffer = BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def json_bytes(record: dict | list) -> bytes:
    """`record` as a JSON file (no NaN)."""
    text = json.dumps(record, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    return text.encode(errors="backslashreplace")  # half a surrogate pair, of a file's name, is \\uXXXX in JSON too


def csv_bytes(columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> bytes:
    """A CSV file with a line for each row; empty where a row lacks a column (or has None). Other keys are left out.

    Texts stand in quotes, and one that a spreadsheet would run as a formula gets an apostrophe before it.
    """
    out = io.StringIO()
    # In quotes, since a spreadsheet may take semicolons or tabs for the borders of cells, too.
    writer = csv.DictWriter(out, columns, restval="", extrasaction="ignore", lineterminator="\n",
                            quoting=csv.QUOTE_NONNUMERIC)
    writer.writeheader()
    for row in rows:
        writer.writerow({name: _harmless(value) for name, value in row.items()})
    return out.getvalue().encode(errors="backslashreplace")


def write_image(path: Path, image: Image.Image) -> None:
    """`image` as PNG, atomically."""
    write_bytes(path, png_bytes(image))


def write_json(path: Path, record: dict | list) -> None:
    """`record` as JSON (no NaN), atomically."""
    write_bytes(path, json_bytes(record))


FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""What a cell begins with that a spreadsheet takes for a formula (OWASP's list)."""


def _harmless(value: object) -> object:
    """A text as spreadsheets show it, instead of running it as a formula."""
    if value is None:
        return ""
    formula = isinstance(value, str) and (value.startswith(FORMULA) or value.strip().startswith(FORMULA))
    return f"'{value}" if formula else value
