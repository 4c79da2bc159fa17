"""`plan(...)`: a batch file becomes a list of items and a list of all that is wrong with it, before any work."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, get_type_hints

from lr_helpers.batch.entries import Entry, Fields, read_entries
from lr_helpers.errors import UserError
from lr_helpers.files.names import brief, check_name, find_image, shown
from lr_helpers.files.outputs import LEDGER, refuse_inside
from lr_helpers.method import Method, check_seed, check_text, default_method, get_method

KEYS = ("image", "source", "prompt", "seed", "name", "method", "settings", "full_frame")
RESERVED = {"batch.log", "batch.lock", "summary.csv", "summary.json", LEDGER}
"""Names in the output folder that are no item's; contact sheets are refused too."""


@dataclass(frozen=True)
class Item:
    """One picture and one prompt, checked as far as it can be without opening the picture. Small and picklable."""

    name: str
    """Unique in the batch; the name of its folder."""
    image: Path
    source: str
    prompt: str
    seed: int
    method: Method
    full_frame: bool
    folder: Path
    line: int
    """Of the batch file."""

    def absolute(self) -> Item:
        """The same item with paths that hold in any working directory."""
        return replace(self, image=self.image.absolute(), folder=self.folder.absolute())


@dataclass(frozen=True)
class Problem:
    """Something wrong with an entry of the batch file."""

    line: int
    name: str
    """The picture or key it is about."""
    message: str

    def __str__(self) -> str:
        return f"line {self.line}, {self.name}: {self.message}"


@dataclass(frozen=True)
class Plan:
    """What a batch file asks for: the items that can be tried, in the file's order, and what can't."""

    items: tuple[Item, ...]
    problems: tuple[Problem, ...]
    folder: Path


def plan(file: str | Path, images: str | Path, output: str | Path, *, method: str | None = "learned",
         changes: dict[str, Any] | None = None, seed: int = 42, full_frame: bool = False, predicts: bool = False
         ) -> Plan:
    """Read a batch file; opens no picture and loads no model.

    The official form is `{"1.png": ["what is there", "what you want to see"]}`. The list form is `[{"image": "1.png",
    "source": "trees", "prompt": "a big tree", ...}]`; its prompt may be a list of prompts, and `seed`, `name` (of the
    output folder), `method` (a preset), `settings` (fields of Method) and `full_frame` hold for the entry alone. The
    arguments `method`, `changes` (fields of Method), `seed` and `full_frame` hold where an entry says nothing. With the
    method None it is each entry's `default_method`; `predicts`: is there a region predictor for that?

    Raises UserError if the file as a whole can't be read, these arguments are wrong, or the output folder holds the
    batch file or a picture.
    """
    root, output = Path(images), Path(output)
    if not root.is_dir():
        raise UserError(f"There is no folder {str(root)!r}; check the path of the images.")
    defaults = {"method": method, "changes": changes or {}, "seed": seed, "full_frame": full_frame,
                "predicts": predicts}
    preset = default_method(predicts, defaults["changes"]) if method is None else method
    get_method(preset).but(**defaults["changes"])
    check_seed(seed)
    drafts, problems, resolved = [], [], root.resolve()
    for number, entry in enumerate(read_entries(file), 1):
        found, wrong = _read(entry, root, resolved, defaults)
        drafts += found
        problems += [Problem(entry.line, shown(_title(entry, number)), message) for message in wrong]
    # All pictures lie in the image folder, so they are looked up one by one only where the output lies there, too.
    within = _resolved(output).is_relative_to(resolved)
    refuse_inside(output, [file, *(dict.fromkeys(draft.item.image for draft in drafts) if within else [root])])
    items, doubles = _with_folders(drafts, output)
    return Plan(tuple(items), tuple(sorted([*problems, *doubles], key=lambda p: p.line)), output)


def _resolved(folder: Path) -> Path:
    try:
        return folder.resolve()
    except (OSError, RuntimeError) as error:  # a link in a circle
        raise UserError(f"The output folder {str(folder)!r} can't be looked up ({error}); give another one.") from error


@dataclass(frozen=True)
class Draft:
    """An item whose folder is not known yet."""

    item: Item
    short: str
    """The name its folder should have, and, if others' would be the same, must have:"""
    full: str


def _read(entry: Entry, root: Path, resolved: Path, defaults: dict) -> tuple[list[Draft], list[str]]:
    """The items of one entry, one for each of its prompts, and all that is wrong with it."""
    wrong: list[str] = []

    def attempt(function: Callable, *arguments: Any) -> Any:
        try:
            return function(*arguments)
        except UserError as error:
            wrong.append(str(error))
            return None

    fields = attempt(_fields, entry)
    if fields is None:
        return [], wrong
    fields = {"seed": defaults["seed"], "full_frame": defaults["full_frame"], **fields}

    # What all prompts of the entry share. Every check is made, whatever the others find.
    image = attempt(find_image, fields["image"], root, resolved)
    method = attempt(_method, fields, defaults)
    attempt(_check_plain, fields)
    several = isinstance(fields["prompt"], list)
    prompts = fields["prompt"] if several else [fields["prompt"]]
    if not prompts:
        wrong.append("The list of prompts is empty; give at least one.")
    source = attempt(_text, "source", fields["source"])

    # An item for each prompt; where something is wrong with the entry, the prompts are only checked.
    broken, drafts = bool(wrong), []
    for i, prompt in enumerate(prompts, 1):
        prompt = attempt(_text, "prompt", prompt)
        if prompt is None or broken:
            continue
        end = f"-{i}" if several else ""
        pure = PurePosixPath(fields["image"].replace("\\", "/"))
        full = fields.get("name") or str(pure).replace("/", "_")
        short = fields.get("name") or str(pure.with_suffix("")).replace("/", "_")
        item = Item(full + end, image, source, prompt, fields["seed"], method, fields["full_frame"], Path(),
                    entry.line)
        drafts.append(Draft(item, short + end, full + end))
    return drafts, list(dict.fromkeys(wrong))


def _text(name: str, text: Any) -> str:
    if not isinstance(text, str):
        raise UserError(f"The {name} is {brief(text)}; give a text.")
    return check_text(name, text)


def _title(entry: Entry, number: int) -> str:
    """What messages call an entry: its picture, if it names one."""
    if entry.key is not None:
        return entry.key
    image = entry.value.get("image") if isinstance(entry.value, dict) else None
    return image if isinstance(image, str) and image else f"entry {number}"


def _check_plain(fields: dict) -> None:
    seed, full_frame, name = fields["seed"], fields["full_frame"], fields.get("name")
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise UserError(f"seed is {brief(seed)}; give a whole number.")
    check_seed(seed)
    if not isinstance(full_frame, bool):
        raise UserError(f"full_frame is {brief(full_frame)}; give true or false.")
    if name is not None:
        check_name(name)


def _fields(entry: Entry) -> dict[str, Any]:
    """An entry of either form as a dictionary with image, source and prompt."""
    value = entry.value
    if entry.key is not None:
        if not isinstance(value, list) or len(value) != 2:
            raise UserError('What stands after the picture is not a list of two texts; write ["what is there", "what '
                            'you want to see"].')
        return {"image": entry.key, "source": value[0], "prompt": value[1]}
    if not isinstance(value, Fields):
        raise UserError('The entry is not an object; write {"image": …, "source": …, "prompt": …}.')
    if value.twice:
        raise UserError(f"{', '.join(map(repr, value.twice))} is given twice; give it once.")
    if unknown := sorted(set(value) - set(KEYS)):
        raise UserError(f"The key {unknown[0]!r} is unknown; choose from {', '.join(KEYS)}.")
    if missing := [k for k in ("image", "source", "prompt") if k not in value]:
        raise UserError(f"{' and '.join(missing)} is missing; an entry needs image, source and prompt.")
    return value


def _method(fields: dict, defaults: dict) -> Method:
    """The preset of an entry, its own or else the batch's, with the changes of both."""
    preset, settings = fields.get("method", defaults["method"]), fields.get("settings", {})
    if not isinstance(preset, str) and ("method" in fields or preset is not None):
        raise UserError(f"method is {brief(preset)}; give the name of a preset.")
    if not isinstance(settings, dict):
        raise UserError(f"settings is {brief(settings)}; give an object such as {{\"steps\": 20}}.")
    plain, kinds = {}, get_type_hints(Method) if settings else {}
    for name, value in settings.items():
        if name not in kinds:
            raise UserError(f"The setting {brief(name)} is unknown; choose from {', '.join(kinds)}.")
        if value is not None:  # null keeps the preset's, as everywhere
            plain[name] = _typed(name, value, str(kinds[name]))
    if isinstance(settings, Fields) and settings.twice:
        raise UserError(f"The setting {settings.twice[0]!r} is given twice; give it once.")
    changes = {**defaults["changes"], **plain}
    if preset is None:  # nobody names one
        preset = default_method(defaults["predicts"], changes)
    return get_method(preset).but(**changes)


def _typed(name: str, value: Any, kind: str) -> Any:
    """A JSON value as a field of Method takes it; `kind` is the field's type as text."""
    if "tuple" in kind:
        if not isinstance(value, list):
            raise UserError(f"{name} is {brief(value)}; give a list.")
        return tuple(_typed(name, v, kind.replace("tuple", "")) for v in value)
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    for word, fits, wanted in (("bool", isinstance(value, bool), "true or false"),
                               ("str", isinstance(value, str), "a text"),
                               ("float", number, "a number"),
                               ("int", number and not isinstance(value, float), "a whole number")):
        if word in kind:
            if not fits:
                raise UserError(f"{name} is {brief(value)}; give {wanted}.")
            return float(value) if word == "float" and abs(value) < 1e300 else value
    raise AssertionError(f"{name} has the type {kind}, which batch files can't give")


def _with_folders(drafts: list[Draft], output: Path) -> tuple[list[Item], list[Problem]]:
    """Each item's folder: called like its picture without the ending, unless another's would be; then with it."""
    def same(text: str) -> str:
        return unicodedata.normalize("NFC", text).casefold()  # as some file systems see it

    pictures = defaultdict(set)
    for draft in drafts:
        pictures[same(draft.short)].add(draft.item.image)
    items, problems, taken = [], [], {}
    for draft in drafts:
        item, name = draft.item, draft.short if len(pictures[same(draft.short)]) == 1 else draft.full
        title = shown(item.image.name)
        if same(name) in taken:
            problems.append(Problem(item.line, title, (
                f"Its output folder would be {name!r}, as that of line {taken[same(name)]}; give the entries "
                'different names ("name"), or one entry both prompts.')))
        elif same(name) in RESERVED or same(name).startswith("contact_sheet") or len(name.encode()) > 200:
            problems.append(Problem(item.line, title, (
                f"Its output folder can't be called {name[:60]!r}; give the entry another name.")))
        else:
            taken[same(name)] = item.line
            items.append(replace(item, name=name, folder=output / name))
    return items, problems
