"""Can a profile run here? Versions, machine, disk and the origins of its models, each failure with its fix."""

from __future__ import annotations

import os
import platform
import shutil
import tomllib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lr_helpers.errors import UserError
from lr_helpers.files.names import shown
from lr_helpers.files.paths import ROOT
from lr_helpers.machine.installing import install_command, install_extra
from lr_helpers.machine.threads import wish
from lr_helpers.models.origins import State, label, restore
from lr_helpers.models.profiles import ABOUT_MEASURES, MEASURES, NO_GPU, Part, Profile
from lr_helpers.models.region_weights import read_header

if TYPE_CHECKING:
    from packaging.specifiers import SpecifierSet

# Libraries are imported where they are used: this module has to run where they are missing.

LIBRARIES = ("torch", "torchvision", "diffusers", "transformers", "open_clip_torch", "accelerate", "peft", "numpy")
PARTS = {"editor": "editor", "backbone": "backbone", "clip": "CLIP model", "lora": "LoRA", "decoder": "small decoder"}
INSTALL = f"install the packages by ./reproduce.sh, or: {install_extra()}"


@dataclass(frozen=True)
class Line:
    """One line of the report; a fix without a problem is a warning."""

    name: str
    text: str
    problem: str = ""
    """A few words for the verdict; "" where the profile runs all the same."""
    fix: str = ""


def run(profile: Profile, allow_cpu: bool | None = None, comparison: bool = False,
        load_regions: Callable[[Path], Any] = read_header) -> int:
    """Print the report on a profile; 0 if it can run here, else 1.

    `allow_cpu`: as `loading.check_device`. With `comparison` also what only the comparison with other editors and its
    measures need; without these the profile runs all the same. `load_regions` reads the region predictor, as
    `RegionPredictor.load` does, which stands above this module; by itself only its header is read.
    """
    print(f"profile {profile.name}: {profile.title}\n")
    lines = examine(profile, allow_cpu, comparison, load_regions)
    told = set()
    for line in lines:
        mark = "✗" if line.problem else "!" if line.fix else " "
        print(f"{mark} {line.name:<16} {line.text}")
        if line.fix and line.fix not in told:  # without a network, every origin has the same
            print(f"  {'':<16} fix: {line.fix}")
            told.add(line.fix)
    problems = [line.problem for line in lines if line.problem]
    if problems:
        count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
        print(f"\nnot ready: {count} ({'; '.join(problems)})")
        return 1
    print(f"\nready: profile {profile.name} runs here")
    return 0


def examine(profile: Profile, allow_cpu: bool | None = None, comparison: bool = False,
            load_regions: Callable[[Path], Any] = read_header) -> list[Line]:
    """All lines of the report; it ends early where libraries are missing or do not load."""
    lines = _missing()
    if lines:
        return lines
    lines = _versions()
    try:
        import lr_helpers.models.loading  # noqa: F401  imports all that an edit needs
    except Exception as error:  # a library that fits no other fails in its own way
        reason = str(error).strip().splitlines()[:1]
        return [*lines, Line("import", f"{type(error).__name__}: {' '.join(reason)[:160]}", "the libraries do not load",
                             INSTALL)]
    wanted = [Wanted(part, part, origins, profile.parts.get(part, Part())) for part, origins in profile.models.items()]
    extras = _extras(profile) if comparison else []
    states = _states([*wanted, *extras])
    lines += [*_machine(profile, allow_cpu), _disk(states)]
    for want in wanted:
        lines += _part(want, states[want], _problem(want.name, states[want]))
    if profile.vocabulary is not None and not profile.vocabulary.is_file():
        lines.append(Line("word list", f"{profile.vocabulary} is missing", "the word list is missing",
                          restore(profile.vocabulary)))
    lines.append(_regions(profile, load_regions))
    for want in extras:  # one that no origin serves is no problem: its rows are left out
        lines += _part(want, states[want], "")
    return lines


# Versions


def _missing() -> list[Line]:
    missing = []
    for name in LIBRARIES:
        try:
            metadata.version(name)
        except metadata.PackageNotFoundError:
            missing.append(Line(name, "missing", f"{name} is missing", INSTALL))
    return missing


def _ranges() -> dict[str, SpecifierSet]:
    """The versions asked for, by canonical name, and for "python"; from pyproject.toml where we are not installed."""
    from packaging.requirements import Requirement
    from packaging.specifiers import SpecifierSet
    from packaging.utils import canonicalize_name

    try:
        wanted = metadata.requires("learnable-regions") or []
        python = metadata.metadata("learnable-regions")["Requires-Python"]
    except metadata.PackageNotFoundError:
        file = ROOT / "pyproject.toml"
        project = tomllib.loads(file.read_text(encoding="utf-8"))["project"]
        wanted, python = project["dependencies"], project["requires-python"]
    ranges = {canonicalize_name(r.name): r.specifier for r in map(Requirement, wanted)}
    return ranges | {"python": SpecifierSet(python)}


def _versions() -> list[Line]:
    from packaging.utils import canonicalize_name

    ranges = _ranges()
    found = {"Python": platform.python_version()} | {name: metadata.version(name) for name in LIBRARIES}
    return [_version(name, version, ranges[canonicalize_name(name)]) for name, version in found.items()]


def _version(name: str, version: str, wanted: SpecifierSet) -> Line:
    if wanted.contains(version, prereleases=True):
        return Line(name, version)
    limits = ",".join(sorted(map(str, wanted), reverse=True))
    fix = f"install Python {limits} and start anew from it" if name == "Python" else install_command(name + limits)
    if any(limit.operator.startswith(">") and not limit.contains(version, prereleases=True) for limit in wanted):
        return Line(name, f"{version} is too old, {limits} is needed", f"{name} is too old", fix)
    return Line(name, f"{version} is newer than what was tried, {limits}", fix=f"if something fails: {fix}")


# Machine


def _size(gigabytes: float) -> str:
    return f"{gigabytes:.1f} GB" if gigabytes >= 0.95 else f"{1000 * gigabytes:.0f} MB"


def _machine(profile: Profile, allow_cpu: bool | None) -> list[Line]:
    import psutil

    memory = psutil.virtual_memory()
    return [_cores(),
            Line("memory", f"{_size(memory.total / 1e9)}, {_size(memory.available / 1e9)} of them available"),
            _gpu(profile, allow_cpu)]


def _cores() -> Line:
    """How many there are, and how many threads torch was asked to take."""
    text = str(os.cpu_count())
    try:
        asked = wish()
    except UserError as error:
        return Line("CPU cores", text, "LR_THREADS is wrong", str(error).rstrip("."))
    return Line("CPU cores", text if asked in ("auto", "off") else f"{text}; torch takes {asked} threads (LR_THREADS)")


def _gpu(profile: Profile, allow_cpu: bool | None) -> Line:
    import torch

    from lr_helpers.models.loading import default_device, dtype_for, is_too_slow

    device = default_device(profile)
    try:
        dtype = str(dtype_for(device)).removeprefix("torch.")
        if device == "cuda":
            free, total = (_size(count / 1e9) for count in torch.cuda.mem_get_info())
            return Line("GPU", f"{torch.cuda.get_device_name()}, {total}, {free} of them free; {dtype}")
    except RuntimeError as error:
        return Line("GPU", str(error).strip().splitlines()[0][:160], "the GPU can't be used",
                    "see by nvidia-smi who holds it, or hide it: export CUDA_VISIBLE_DEVICES=")
    if device == "mps":
        return Line("GPU", f"Apple's, by MPS, in {dtype}; untried here", fix="if something fails: export "
                    "PYTORCH_ENABLE_MPS_FALLBACK=1, or add --device cpu --allow-cpu, which is very slow")
    text = f"none{'' if torch.version.cuda else ' (this build of torch knows none)'}; the CPU is used, in {dtype}"
    if is_too_slow(profile, device, allow_cpu):
        return Line("GPU", text, "no GPU", NO_GPU)
    return Line("GPU", text)


def _disk(states: dict[Wanted, dict[str, State]]) -> Line:
    from huggingface_hub import constants

    parts = {want.origins: want.about for want in states if _is_download(states[want])}  # of the same, one
    cache = Path(constants.HF_HUB_CACHE)
    there = next(folder for folder in (cache, *cache.absolute().parents) if folder.is_dir())
    free = shutil.disk_usage(there).free / 1e9
    needed = sum(about.gigabytes or 0 for about in parts.values())
    text = f"{_size(free)} free at {cache}; " + (f"{_size(needed)} to download" if parts else "nothing to download")
    if free >= needed:
        return Line("disk", text)
    return Line("disk", text, "the disk is too small",
                f"free {_size(needed - free)}, or set HF_HOME to a folder on a larger disk")


# Origins of the models


@dataclass(frozen=True)
class Wanted:
    """A model that is asked for."""

    name: str
    """What its line is called."""
    part: str
    """As for `resolve`."""
    origins: tuple[str, ...]
    about: Part = field(compare=False)
    borrows: tuple[str, ...] = ()


def _serving(states: dict[str, State]) -> State | None:
    """The first that can serve: `load_models` tries them in this order."""
    return next((state for state in states.values() if not state.trouble), None)


def _is_download(states: dict[str, State]) -> bool:
    """Does the part take space in the cache: from what serves, or once one of its origins does?"""
    serving = _serving(states)
    return serving.download if serving else any(state.download for state in states.values())


def _part(want: Wanted, states: dict[str, State], problem: str) -> list[Line]:
    """The part's own line with its licence and size, one for each origin, one for each that is gone."""
    serving, about = _serving(states), want.about
    size = "size not stated" if about.gigabytes is None else _size(about.gigabytes)
    which = f"origin {list(states.values()).index(serving) + 1} serves" if serving else "no origin serves"
    lines = [Line(want.name, f"{which}; {size}; licence: {about.licence}", problem)]
    for number, (origin, state) in enumerate(states.items(), start=1):
        since = f" (seen gone since {about.gone[origin]})" if origin in about.gone else ""
        lines.append(Line(f"  origin {number}", f"{label(origin)}{since}: {state.text}", fix=state.fix))
    return lines + [Line("  not tried", f"{origin}: seen gone since {since}")
                    for origin, since in about.gone.items() if origin not in states]


def _extras(profile: Profile) -> list[Wanted]:
    """The models of the comparison, and what measures a profile of photographs (`study pie`)."""
    found = [Wanted(part, part, extra.origins, extra.about, extra.borrows)
             for part, extra in profile.comparison.items()]
    if profile.vocabulary is None:
        found += [Wanted(f"measure: {name}", part, MEASURES[name], ABOUT_MEASURES.get(name, Part()))
                  for name, part in (("structure", "backbone"), ("clip", "clip"))]
    return found


def _regions(profile: Profile, load: Callable[[Path], Any]) -> Line:
    """The region predictor, which only some methods ask: that there is none is no problem."""
    file, train = profile.regions, f"python -m lr_helpers train-regions --profile {profile.name}"
    if file is None or not file.exists():
        return Line("regions", f"no predictor yet, so the methods predicted and fast can't be used; train one: {train}")
    try:
        trained_on = load(file).trained_on
    except (UserError, OSError, ValueError) as error:
        said = str(error) if isinstance(error, UserError) else f"{label(str(file))} is no region predictor ({error})"
        return Line("regions", said, fix=f"give another file, or train one: {train}")
    names = " and ".join(shown(model["name"]) for model in trained_on.values())
    return Line("regions", f"{label(str(file))}, trained on {names}")


def _problem(part: str, states: dict[str, State]) -> str:
    if _serving(states):
        return ""
    troubles = {state.trouble for state in states.values()}
    return f"the {PARTS[part]} {troubles.pop() if len(troubles) == 1 else 'has no origin that serves'}"


def _states(wanted: Sequence[Wanted]) -> dict[Wanted, dict[str, State]]:
    """For each model, the state of each origin, in order; asked side by side, because the hub may be slow."""
    from lr_helpers.models.resolve import resolve

    pairs = [(want, origin) for want in wanted for origin in want.origins]
    with ThreadPoolExecutor() as pool:
        states = pool.map(
            lambda pair: resolve(pair[0].part, pair[1], pair[0].about.variant, pair[0].borrows).state, pairs)
    found: dict[Wanted, dict[str, State]] = {want: {} for want in wanted}
    for (want, origin), state in zip(pairs, states, strict=True):
        found[want][origin] = state
    return found
