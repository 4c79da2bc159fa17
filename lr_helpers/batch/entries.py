"""A batch file as a list of entries that know their line; JSON's own parser reads the values."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lr_helpers.errors import UserError

_SPACE = re.compile(r"[ \t\n\r]*")
FORMS = '{"1.png": ["what is there", "what you want to see"]} or [{"image": …, "source": …, "prompt": …}]'


class Fields(dict):
    """An object of the file, and the keys it names twice (of which Python's parser would keep the last alone)."""

    def __init__(self, pairs: list[tuple[str, Any]]):
        super().__init__(pairs)
        keys = [key for key, _ in pairs]
        self.twice = sorted({key for key in keys if keys.count(key) > 1}) if len(self) < len(keys) else []


@dataclass(frozen=True)
class Entry:
    """One top-level value of the file."""

    line: int
    """Where it begins, from 1 on."""
    key: str | None
    """Its key in the official form; None in a list."""
    value: Any


def read_entries(file: str | Path) -> list[Entry]:
    """The entries of a batch file, in its order.

    Raises UserError if there is no such plain file, it is no UTF-8 text, no JSON (with line and column), neither an
    object nor a list, or empty.
    """
    file = Path(file)
    try:
        if file.exists() and not file.is_file():
            kind = "a folder" if file.is_dir() else "no plain file but a pipe or a device"
            raise UserError(f"The batch file {str(file)!r} is {kind}; give a JSON file.")
        text = file.read_bytes().decode("utf-8-sig")
        whole = json.loads(text)
    except UnicodeDecodeError as error:
        raise UserError(f"{file.name} is no UTF-8 text (byte {error.start}); save it as UTF-8.") from error
    except json.JSONDecodeError as error:
        raise UserError(f"{file.name} is not valid JSON: line {error.lineno}, column {error.colno}: {error.msg}; "
                        "correct it there.") from error
    except OSError as error:
        raise UserError(f"The batch file {str(file)!r} can't be read ({error.strerror}); check its path.") from error
    except RecursionError as error:
        raise UserError(f"{file.name} is nested too deep for a batch file; write {FORMS}.") from error
    except ValueError as error:  # a number of thousands of digits
        raise UserError(f"{file.name} can't be read as JSON ({error}); correct it.") from error
    if not isinstance(whole, (dict, list)):
        raise UserError(f"{file.name} holds neither an object nor a list; write {FORMS}.")
    if not whole:
        raise UserError(f"{file.name} names no picture; write {FORMS}.")
    if isinstance(whole, dict) and {"image", "prompt"} <= whole.keys() and not isinstance(whole["image"], list):
        raise UserError(f"{file.name} is one entry by itself; put it into a list: [{{\"image\": …, \"source\": …, "
                        "\"prompt\": …}].")
    return _scan(text)


def _scan(text: str) -> list[Entry]:
    """The top level of a JSON text that is known to be valid: where each value begins, and what it is."""
    decoder, entries, line, counted = json.JSONDecoder(object_pairs_hook=Fields), [], 1, 0

    def skip(at: int) -> int:
        return _SPACE.match(text, at).end()

    at = skip(0)
    keyed, at = text[at] == "{", skip(at + 1)
    while text[at] not in "}]":
        begin, key = at, None
        if keyed:
            key, at = decoder.raw_decode(text, at)
            at = skip(skip(at) + 1)  # over the colon
        value, at = decoder.raw_decode(text, at)
        line, counted = line + text.count("\n", counted, begin), begin
        entries.append(Entry(line, key, value))
        at = skip(at)
        if text[at] == ",":
            at = skip(at + 1)
    return entries
