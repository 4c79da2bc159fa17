"""Names from a batch file: files that stay in their folder, and names that any file system takes."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path, PurePosixPath
from typing import Any

from lr_helpers.errors import UserError


def find_image(name: Any, root: Path, resolved: Path) -> Path:
    """The picture's file, which lies in the folder and is not empty; it is not opened."""
    if not isinstance(name, str) or not name.strip():
        raise UserError(f"The image is {brief(name)}; give the name of a file in the image folder.")
    if _has_control(name):
        raise UserError(f"The name {brief(name)} holds a control character; rename the file.")
    if is_address(name):
        raise UserError(f"{brief(name)} is an address; download it into the image folder, and give the file's name.")
    pure = PurePosixPath(name.replace("\\", "/"))
    if pure.is_absolute() or ".." in pure.parts or re.match(r"[A-Za-z]:", name):
        raise UserError(f"The name {brief(name)} leads out of the image folder; give names inside it.")
    try:
        spellings = dict.fromkeys((name, *(unicodedata.normalize(form, name) for form in ("NFC", "NFD"))))
        file = next((root / s for s in spellings if (root / s).is_file()), None)
        if file is None:
            other = next((root / s for s in spellings if (root / s).exists()), None)
            if other is None:
                raise UserError(f"There is no file {brief(name)} in the image folder; check the name.")
            if other.is_dir():
                raise UserError(f"There is no file {brief(name)} in the image folder, but a folder; name a picture in "
                                "it.")
            raise UserError(f"{brief(name)} is no plain file but a pipe or a device; save the picture to a file first.")
        inside = file.resolve().is_relative_to(resolved)
    except (OSError, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"The file {brief(name)} can't be looked up ({reason}); check the name.") from error
    if not inside:
        raise UserError(f"{brief(name)} is a link that leads out of the image folder; copy the file into it.")
    return file


def check_name(name: Any) -> None:
    """Raises UserError for what can't be the name of a folder."""
    if not isinstance(name, str) or not name.strip():
        raise UserError(f"The name is {brief(name)}; give a text, or leave it out.")
    if set(name) & set("/\\:") or name.startswith(".") or _has_control(name):
        raise UserError(f"The name {brief(name)} can't be that of a folder; leave out / \\ : and a dot at its start.")


def is_address(name: str) -> bool:
    """Is it an address on the web, or a picture written out as one, instead of a path?"""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+://|data:", name) is not None


def _has_control(name: str) -> bool:
    return any(unicodedata.category(c) in ("Cc", "Cs") for c in name)


def brief(value: Any, length: int = 80) -> str:
    """A value from outside as a message shows it."""
    text = repr(value)
    return text if len(text) <= length else f"{text[:length]} …"


def shown(name: str) -> str:
    """A name for a message: nothing in it can break the line or the terminal."""
    return brief(name) if not name.isprintable() or len(name) > 80 else name
