"""What files a model is read from: the same answer for a folder, the hub's cache and a listing of the hub.

A model of the hub often stores its weights several times: as pickles, as safetensors, and each in half precision (the
variant "fp16"). `choose` names the files that loading reads, and `kind_of` looks into the small JSON files for models
of another kind, so that both are known before anything large is downloaded.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lr_helpers.models.origins import State

# Libraries are imported where they are used: `doctor` has to run where they are missing.

Read = Callable[[str], Any]
"""Gives the content of one small JSON file of an origin by its name; None where it is missing or damaged."""

PIPELINES = {"editor": ("inpainting model", (2, 1)), "text_to_image": ("text-to-image model", (1, 0)),
             "instruct": ("instruction-following model", (2, 0))}
"""Parts that are diffusers pipelines: what sentences call them, and what their UNet takes: latents so many times, and
masks. With latents of four channels, as Stable Diffusion's are, an inpainting UNet takes nine.
"""

WITH_TEXT = ("clipseg", "grounding_dino", "sam3")
"""Parts of transformers that read texts, and so need a tokenizer; others are "backbone" and "sam"."""

DENOISERS = {
    "StableDiffusionInpaintPipeline": "unet", "StableDiffusionPipeline": "unet",
    "StableDiffusionXLInpaintPipeline": "unet", "StableDiffusionXLPipeline": "unet",
    "AmusedInpaintPipeline": "transformer", "AmusedPipeline": "transformer", "AmusedImg2ImgPipeline": "transformer",
    **{f"{family}{task}Pipeline": "transformer" for family in ("ZImage", "StableDiffusion3", "Flux", "Flux2Klein")
       for task in ("", "Img2Img", "Inpaint") if (family, task) != ("Flux2Klein", "Img2Img")},
}
"""The denoiser's folder, by the class that an editor's index names; a text-to-image class may hold an inpainting
denoiser too, and transformers that know no mask channels inpaint by keeping the picture's latents outside the mask."""

LORA_WEIGHTS = "pytorch_lora_weights.safetensors"
"""The one file of a LoRA, by diffusers' name; it comes without settings."""

INDEX = {"editor": "model_index.json", "text_to_image": "model_index.json", "instruct": "model_index.json",
         "clip": "open_clip_config.json", "lora": LORA_WEIGHTS}
"""The file that says what else there is; of all other parts "config.json"."""

CLIP_WEIGHTS = "open_clip_model.safetensors"

UNUSED = ("safety_checker", "feature_extractor", "image_encoder")
"""Components of a pipeline that are never loaded."""

PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")
"""Endings of files that can run code when they are read; they never are."""

TOKENIZER = ("added_tokens.json", "merges.txt", "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json",
             "vocab.json", "vocab.txt")
"""Files that a tokenizer is read from, in whichever form."""

LARGEST_JSON, LARGEST_HEADER = 2**26, 2**24
"""Bytes that a JSON file and the header of a safetensors file may have; those of real models stay far below."""


@dataclass(frozen=True)
class Choice:
    """What loading reads of an origin."""

    files: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    """What it needs and the origin lacks, with wildcards."""
    variants: tuple[str, ...] = ()
    """Components whose half-precision files were chosen; "" for a model without components."""


def index_of(part: str) -> str:
    """The file of a part that says what else there is."""
    return INDEX.get(part, "config.json")


def choose(part: str, names: Collection[str], read: Read, variant: str | None = None,
           borrows: Sequence[str] = ()) -> Choice:
    """The files among `names` that a part is read from; of components that it `borrows`, none.

    `variant`: "fp16" for half-precision weights, taken for each component that has them.
    """
    names = set(names)
    if part == "clip":
        return _choice(names, [INDEX["clip"], CLIP_WEIGHTS, *(n for n in TOKENIZER if n in names)])
    if part == "lora":
        return _choice(names, [LORA_WEIGHTS])
    if part == "decoder":
        return _with_weights(names, "", ["config.json"], "diffusion_pytorch_model", None)
    if part not in PIPELINES:
        return _of_transformers(part, names)
    components = _components(read(INDEX[part]), borrows)
    if components is None:  # the index itself is missing or damaged, which is what will be told
        return Choice(missing=(INDEX[part],))
    files, missing, variants = [INDEX[part]], [], []
    for name, library in components.items():
        if name == "scheduler":
            found = _choice(names, [f"{name}/scheduler_config.json"])
        elif name.startswith("tokenizer"):
            found = _tokenizer(names, f"{name}/")
        else:
            stem = "model" if library == "transformers" else "diffusion_pytorch_model"
            found = _with_weights(names, f"{name}/", ["config.json"], stem, variant)
        files += found.files
        missing += found.missing
        variants += [name] * bool(found.variants)
    return Choice(tuple(files), tuple(missing), tuple(variants))


def _components(index: Any, borrows: Sequence[str]) -> dict[str, str] | None:
    """The components of a pipeline's index that are read from its folder, with their library; None for no index."""
    try:
        # A component is an entry [library, class]; [null, null] is one that this checkpoint does without.
        return {name: entry[0] for name, entry in index.items()
                if isinstance(entry, list) and entry[0] and name not in (*UNUSED, *borrows)}
    except (AttributeError, IndexError):
        return None


def _of_transformers(part: str, names: set[str]) -> Choice:
    # How pictures are prepared stands in one of two files, or in both; of the models of this year in the second.
    only_second = part == "sam3" and "preprocessor_config.json" not in names and "processor_config.json" in names
    settings = ["config.json"] if only_second else ["config.json", "preprocessor_config.json"]
    found = _with_weights(names, "", settings, "model", None)
    texts = _tokenizer(names, "") if part in WITH_TEXT else Choice()
    extra = [n for n in ("processor_config.json",) if n in names]
    return Choice((*found.files, *texts.files, *extra), (*found.missing, *texts.missing))


def _choice(names: set[str], needed: Sequence[str]) -> Choice:
    return Choice(tuple(n for n in needed if n in names), tuple(n for n in needed if n not in names))


def _tokenizer(names: set[str], folder: str) -> Choice:
    """In whichever of the forms that transformers reads."""
    inside = [n for n in TOKENIZER if folder + n in names]
    complete = "tokenizer.json" in inside or "vocab.txt" in inside or {"vocab.json", "merges.txt"} <= set(inside)
    return Choice(tuple(folder + n for n in inside), () if complete else (f"{folder}tokenizer.json",))


def _with_weights(names: set[str], folder: str, settings: Sequence[str], stem: str, variant: str | None) -> Choice:
    """Settings, and weights as safetensors: in half precision if they are wanted and there, else whole."""
    found = _choice(names, [folder + name for name in settings])
    for which in dict.fromkeys((variant, None)):
        weights = _weights(names, folder, stem, which)
        if weights:
            return Choice((*found.files, *weights), found.missing, ("",) if which else ())
    return Choice(found.files, (*found.missing, f"{folder}*.safetensors"))


def _weights(names: set[str], folder: str, stem: str, variant: str | None) -> list[str]:
    """One file, or its parts with their index; [] where they are not all there."""
    dotted = f".{variant}" if variant else ""
    if (whole := f"{folder}{stem}{dotted}.safetensors") in names:
        return [whole]
    index = f"{folder}{stem}.safetensors.index{dotted}.json"
    if index not in names:
        return []
    # model-00001-of-00002.safetensors, of a variant model.fp16-00001-of-00002 or model-00001-of-00002.fp16
    number = r"-(\d+)-of-(\d+)"
    pattern = re.compile(rf"{re.escape(folder + stem)}(?:{re.escape(dotted)}{number}|{number}{re.escape(dotted)})"
                         r"\.safetensors")
    parts = {n: int(m[2] or m[4]) for n in names if (m := pattern.fullmatch(n))}
    return [index, *sorted(parts)] if parts and all(len(parts) == total for total in parts.values()) else []


def kind_of(part: str, read: Read) -> State | None:
    """The refusal of a pipeline that is of another kind than the part, by its small files; None for any other."""
    if part not in PIPELINES:
        return None
    what, (latents, masks) = PIPELINES[part]
    index = read(INDEX[part])
    family = index.get("_class_name") if isinstance(index, dict) else None
    if not isinstance(family, str):  # missing, or code of its own, which is refused for that
        return None
    if part == "editor" and family not in DENOISERS:
        return State(f"it holds a {family}, which can't be driven here", "is of another kind",
                     "give an inpainting checkpoint of Stable Diffusion 1.x, 2.x or XL, of aMUSEd, Z-Image, Stable "
                     "Diffusion 3, FLUX.1 or FLUX.2 klein")
    if part == "editor" and DENOISERS.get(family) == "transformer":
        return None
    settings = read("unet/config.json")
    if not isinstance(settings, dict):
        return None
    made = settings.get("out_channels", 4)
    wanted = latents * made + masks if isinstance(made, int) else 0
    given = settings.get("in_channels", 4)  # both as diffusers' UNet has them where they are not said
    if given == wanted:
        return None
    fix = "give an inpainting checkpoint" if part == "editor" else "name another one in data/models.toml"
    return State(f"it is no {what}: its UNet takes {given} channels, not {wanted}", "is of another kind", fix)


def pickled(part: str, names: Collection[str]) -> State | None:
    """The refusal of a model that has its weights as pickles only, by the names of its files; None for others."""
    if part in PIPELINES:
        if INDEX[part] not in names:  # then it is no model at all
            return None
        # Each component has its folder; what lies beside these folders are single-file copies.
        names = [n for n in names if n.count("/") == 1 and not n.startswith(UNUSED)]
    safe = {Path(n).parent for n in names if n.endswith(".safetensors")}
    found = [n for n in names if n.endswith(PICKLES) and Path(n).parent not in safe]
    if not found:
        return None
    return State(f"its weights are pickles ({found[0]}), which can run code and are never loaded", "holds pickles",
                 "give a copy stored as safetensors, which `save_pretrained` writes")


# A folder


def names_in(folder: Path) -> list[str]:
    """The files of a folder and of its components' folders, by their place in it; nothing that is read lies deeper."""
    found = []
    for directory in (folder, *sorted(d for d in _listed(folder) if d.is_dir() and not d.name.startswith("."))):
        found += [f.relative_to(folder).as_posix() for f in sorted(_listed(directory)) if f.is_file()]
    return found


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:  # a component's folder that may not be read has nothing to read
        return []


def led_out(folder: Path, names: Iterable[str]) -> State | None:
    """The refusal of a folder of which a file that is read is a link to another place; None for others.

    Within the hub's cache, files are links to its own store.
    """
    home = folder.resolve()
    homes = [home, home.parent.parent / "blobs"] if home.parent.name == "snapshots" else [home]
    for name in names:
        try:
            place = (folder / name).resolve()
        except (OSError, RuntimeError):  # a circle
            place = Path(os.sep)
        if not any(place.is_relative_to(own) for own in homes):
            return State(f"{name} is a link that leads out of the folder", "asks for another place",
                         "put the file itself into the folder")
    return None


def reader(folder: Path) -> Read:
    """`Read` for a folder."""

    def read(name: str) -> Any:
        return read_json(folder / name)

    return read


def read_json(file: Path) -> Any:
    """What a JSON file holds; None where it is missing, damaged or absurdly large or deep."""
    try:
        if file.stat().st_size > LARGEST_JSON:
            return None
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


def look_inside(part: str, folder: Path, variant: str | None = None, borrows: Sequence[str] = ()) -> Choice:
    """`choose` for a folder, in which also files that are cut off, or no JSON or safetensors at all, are missing."""
    found = choose(part, names_in(folder), reader(folder), variant, borrows)
    damaged = []
    for name in found.files:
        if not is_whole(folder / name):
            is_weights = name.endswith(".safetensors") and part != "clip"
            damaged.append(re.sub(r"[^/]+$", "*.safetensors", name) if is_weights else name)
    return Choice(found.files, (*found.missing, *dict.fromkeys(damaged)), found.variants)


def is_whole(file: Path) -> bool:
    """Does a file hold what its ending says?"""
    from safetensors import SafetensorError, safe_open

    if file.suffix == ".json":
        return read_json(file) is not None
    if file.suffix != ".safetensors":
        return True
    try:
        with file.open("rb") as stream:
            if int.from_bytes(stream.read(8), "little") > LARGEST_HEADER:
                return False
        with safe_open(file, "np"):  # compares the header with the file's length
            return True
    except (OSError, ValueError, SafetensorError):
        return False
