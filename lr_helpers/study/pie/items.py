"""PIE-Bench's folder: `mapping_file.json` and `annotation_images/`, read and checked as a whole before any work."""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lr_helpers.batch.entries import Fields
from lr_helpers.errors import UserError
from lr_helpers.files.names import brief, check_name, find_image, shown
from lr_helpers.files.pictures import read_image
from lr_helpers.method import check_texts
from lr_helpers.study.pie.masks import decode
from lr_helpers.study.pie.wording import Wording, wording

MAPPING, PICTURES = "mapping_file.json", "annotation_images"
TYPES = {0: "random", 1: "change object", 2: "add object", 3: "delete object", 4: "change content", 5: "change pose",
         6: "change colour", 7: "change material", 8: "change background", 9: "change style"}
"""The benchmark's edit types by `editing_type_id`."""
TEXTS = ("original_prompt", "editing_prompt", "editing_instruction", "blended_word")


@dataclass(frozen=True)
class Item:
    """One edit of the benchmark. Small and picklable; the picture stays on the disk."""

    name: str
    """Its id in the mapping file."""
    path: Path
    before: str
    """The sentence of the picture as it is, without brackets; `after` of the picture as it should be."""
    after: str
    instruction: str
    kind: int
    """A key of TYPES."""
    blended: tuple[str, ...]
    """One word of each sentence, or nothing."""
    runs: tuple[int, ...]
    size: int
    """Side of the square picture in pixels."""

    @property
    def picture(self) -> Image.Image:
        """RGB."""
        return read_image(self.path)

    @property
    def wording(self) -> Wording:
        """The edit as two phrases, for methods that look for a region."""
        return wording(self.before, self.after, self.blended)

    def mask(self, border: bool = True) -> np.ndarray:
        """(size, size) uint8, 1 where the edit belongs; with the border of 1 that the benchmark evaluates with."""
        return decode(list(self.runs), self.size, self.size, border)


@dataclass(frozen=True)
class Benchmark:
    """What a folder holds, and all that is wrong with it."""

    items: tuple[Item, ...]
    """In the mapping file's order."""
    problems: tuple[str, ...]
    """Each with the id it is about."""
    digest: str
    """SHA-256 of mapping file and pictures: a study of other data is another study."""


def load(folder: str | Path) -> Benchmark:
    """Read a folder in PIE-Bench's format, every picture of it included.

    Pictures are square, of any size (the benchmark's have 512 pixels), and masks count in their pixels. Keys that the
    benchmark has not are ignored. Raises UserError if the mapping file as a whole can't be read.
    """
    folder = Path(folder)
    root = folder / PICTURES
    if not root.is_dir():
        raise UserError(f"There is no folder {str(root)!r}; give the folder that holds {MAPPING} and {PICTURES}.")
    entries, raw = _read(folder / MAPPING)
    digest, items, problems = sha256(raw), [], [f"{shown(name)}: The id is there twice; give each once."
                                                for name in entries.twice]
    resolved = root.resolve()
    # Everything wrong with any entry is told at once, before any work.
    for name, entry in entries.items():
        item, wrong = _item(name, entry, root, resolved)
        problems += [f"{shown(name)}: {message}" for message in wrong]
        if item is not None:
            items.append(item)
            digest.update(sha256(item.path.read_bytes()).digest())
    return Benchmark(tuple(items), tuple(problems), digest.hexdigest())


def dealt(items: tuple[Item, ...], limit: int | None) -> list[Item]:
    """At most `limit` of the items: the first of each edit type, then the second of each, and so on; a larger limit
    only adds to them. All of them in their own order for None.
    """
    if limit is None:
        return list(items)
    # How many of its type come before each item?
    rank: dict[int, int] = {}
    turns = []
    for item in items:
        rank[item.kind] = rank.get(item.kind, -1) + 1
        turns.append(rank[item.kind])
    # The first of every type, then the second of every type …
    order = sorted(range(len(items)), key=lambda i: (turns[i], items[i].kind))
    return [items[i] for i in order[:limit]]


def _read(file: Path) -> tuple[Fields, bytes]:
    try:
        raw = file.read_bytes()
        entries = json.loads(raw.decode("utf-8-sig"), object_pairs_hook=Fields)
    except OSError as error:
        raise UserError(f"{file} can't be read ({error.strerror}); check the folder of the benchmark.") from error
    except (ValueError, RecursionError) as error:
        said = " ".join(str(error).split())[:120]
        raise UserError(f"{file} is not valid JSON ({said}); give the benchmark's own file.") from error
    if not isinstance(entries, Fields) or not entries:
        raise UserError(f"{file} holds no items; give an object of ids, as the benchmark's own file has it.")
    return entries, raw


def _item(name: str, entry: Any, root: Path, resolved: Path) -> tuple[Item | None, list[str]]:
    """One entry as an item, or all that is wrong with it."""
    if not isinstance(entry, Fields):
        return None, ["The entry is not an object; write image_path, prompts, editing_type_id and mask."]
    if missing := [k for k in ("image_path", *TEXTS[:2], "editing_type_id", "mask") if k not in entry]:
        return None, [f"{', '.join(missing)} is missing; every item needs it."]
    wrong: list[str] = []

    def attempt(function, *arguments):
        try:
            return function(*arguments)
        except UserError as error:
            wrong.append(str(error))
            return None

    # Each field is tried, whatever is wrong with the others.
    attempt(check_name, name)
    path = attempt(find_image, entry["image_path"], root, resolved)
    size = attempt(_size, path) if path else None
    texts = {key: attempt(_text, key, entry.get(key, "")) for key in TEXTS}
    kind = attempt(_kind, entry["editing_type_id"])
    if texts["original_prompt"] is not None and texts["editing_prompt"] is not None:
        attempt(check_texts, texts["original_prompt"], texts["editing_prompt"])
    if size:
        attempt(decode, entry["mask"], size, size)
    if wrong:
        return None, wrong
    return Item(name, path, texts["original_prompt"], texts["editing_prompt"], texts["editing_instruction"], kind,
                tuple(texts["blended_word"].split()), tuple(entry["mask"]), size), []


def _size(path: Path) -> int:
    width, height = read_image(path).size
    if width != height:
        raise UserError(f"{path.name} has {width}×{height} pixels; the benchmark's pictures are square.")
    return width


def _text(key: str, value: Any) -> str:
    """Without the brackets around what changes, which are no part of the sentence."""
    if not isinstance(value, str):
        raise UserError(f"{key} is {brief(value)}; give a text.")
    return " ".join(value.replace("[", "").replace("]", "").split())


def _kind(value: Any) -> int:
    for kind in TYPES:
        if value in (kind, str(kind)) and not isinstance(value, bool):
            return kind
    raise UserError(f"editing_type_id is {brief(value)}; give a number from 0 to 9.")
