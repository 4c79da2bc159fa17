"""What an origin of a model would give: the one answer that `doctor` tells and that loading acts on.

`resolve` asks in this order: a folder is looked into; the hub is asked once for the newest commit; what the cache has
of that commit serves as it is; else the files are chosen by the hub's listing. Where the hub can't be asked, what is
whole in the cache serves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lr_helpers.models import clip_config, settings
from lr_helpers.models.layouts import (
    CLIP_WEIGHTS,
    PIPELINES,
    Read,
    choose,
    index_of,
    kind_of,
    led_out,
    look_inside,
    names_in,
    pickled,
    read_json,
    reader,
)
from lr_helpers.models.origins import State, UnavailableError, is_folder, restore, split
from lr_helpers.models.refusals import explain, neither

# Libraries are imported where they are used: `doctor` has to run where they are missing.


@dataclass(frozen=True)
class Found:
    """What loading would read, or why it can't."""

    state: State
    """In words; with `trouble`, nothing else is set."""
    place: Path | None = None
    """The folder that holds all of it; None where it has to be downloaded first."""
    repo: str = ""
    """The hub id, and below where in it; "" for a folder."""
    revision: str = ""
    """The branch, tag, pull request or commit that was asked for."""
    commit: str = ""
    files: tuple[str, ...] = ()
    variants: tuple[str, ...] = ()
    """Components that are read in half precision."""


def resolve(part: str, origin: str, variant: str | None = None, borrows: Sequence[str] = ()) -> Found:
    """What one origin gives for a part; nothing but small JSON files is downloaded, and nothing is raised.

    `part`: "editor", "backbone", "clip", "lora", "decoder", or one of the comparison: "text_to_image", "instruct",
    "clipseg", "grounding_dino", "sam", "sam3". `variant`: "fp16" where half-precision files shall be taken if there are
    any. `borrows`: components that the origin need not hold.
    """
    if is_folder(origin):
        return _in_folder(part, Path(origin), variant, borrows)
    try:
        if origin.startswith("openclip:"):
            model = clip_config.released(origin)
            found = _on_hub(part, model.repo, model.revision, None, (), origin)
            return replace(found, state=replace(found.state, text=f"{model.repo}, {found.state.text}"))
        repo, revision = split(origin)
        return _on_hub(part, repo, revision, variant, borrows)
    except UnavailableError as error:
        return Found(error.state)


def _in_folder(part: str, folder: Path, variant: str | None, borrows: Sequence[str]) -> Found:
    if not folder.is_dir():
        return Found(State("there is no such folder", "is missing", restore(folder)))
    found, refused = _inside(part, folder, variant, borrows)
    if refused is None:
        return replace(found, state=State("a folder, complete"))
    # Restoring helps against what is missing; other refusals have a fix of their own.
    return Found(refused if refused.fix else replace(refused, fix=restore(folder)))


def _inside(part: str, folder: Path, variant: str | None, borrows: Sequence[str],
            released: str = "") -> tuple[Found, State | None]:
    """What a folder gives, and why it can't serve (without a fix where something is missing or damaged)."""
    read = reader(folder)
    if refused := led_out(folder, (index_of(part),)) or _of_index(part, read):
        return Found(refused), refused
    choice = look_inside(part, folder, variant, borrows)
    missing = [name for name in choice.missing if not (released and name == index_of("clip"))]
    if missing:
        damaged = State(f"missing or damaged: {', '.join(missing)}", "is incomplete")
        return Found(damaged), pickled(part, names_in(folder)) or damaged
    found = Found(State(""), folder, files=choice.files, variants=choice.variants)
    return found, led_out(folder, choice.files) or _by_settings(part, choice.files, read, released)


def _of_index(part: str, read: Read) -> State | None:
    """The refusal of a pipeline by its index, which says what else there is; None for all else."""
    if part not in PIPELINES or read(index_of(part)) is None:
        return None
    refused = settings.refusal(part, (index_of(part),), read)
    return refused and (kind_of(part, read) or refused)


def _by_settings(part: str, files: Sequence[str], read: Read, released: str) -> State | None:
    """The refusal of a model by what its small files say."""
    if released:  # which open_clip builds by its name; no library reads these files
        return _of_clip(read, released)
    return kind_of(part, read) or settings.refusal(part, files, read)


def _of_clip(read: Read, released: str) -> State | None:
    """The refusal of a released CLIP whose own configuration is another than open_clip's; one without any is taken."""
    config = read(index_of("clip")) if released else None
    return clip_config.misfit(released, config) if config is not None else None


# The hub and its cache


def _on_hub(part: str, repo: str, revision: str | None, variant: str | None, borrows: Sequence[str],
            released: str = "") -> Found:
    """`released`: the origin, for a CLIP that open_clip builds by its name."""
    from huggingface_hub.errors import HFValidationError

    about = (part, variant, borrows, released)
    try:
        before = _in_cache(repo, revision, *about)
    except HFValidationError:
        return Found(neither(repo))
    info = _ask(repo, revision)
    if isinstance(info, State):
        # Not to be asked, gone, behind a login …: what was loaded before still is what it was.
        return before or Found(replace(info, download=True))
    commit = info.sha or ""
    known = _cached(repo, commit, *about) if commit else before
    if known:
        return replace(known, revision=revision or "main")
    names = [file.rfilename for file in info.siblings or ()]
    read = _reader(repo, commit or revision, names)
    if refused := _of_index(part, read):
        return Found(refused)
    choice = choose(part, names, read, variant, borrows)
    missing = [name for name in choice.missing if not (released and name == index_of("clip"))]
    if missing:
        refused = pickled(part, names) or State(f"it has no {', '.join(missing)}", "is incomplete",
                                                "name a model of the kind that is asked for")
        may_be_converted = refused.trouble == "holds pickles" and revision is None and _is_one_model(part)
        if converted := _converted(repo) if may_be_converted else None:
            return _on_hub(part, repo, converted, variant, borrows)
    refused = refused or _by_settings(part, choice.files, read, released)
    if refused:
        return Found(refused)
    said = f"on the hub, commit {(commit or 'unknown')[:7]}{_remarks(revision, choice.variants, variant)}"
    return Found(State(said, download=True), None, repo, revision or "main", commit, choice.files, choice.variants)


def _remarks(revision: str | None, variants: Sequence[str], variant: str | None) -> str:
    pull = f", {revision}" if revision and revision.startswith("refs/pr/") else ""
    return f"{pull}, {variant}" if variants else pull


def cached(part: str, origin: str, variant: str | None = None) -> Found | None:
    """What the cache has of an origin on the hub, without asking the hub; None where it is not whole."""
    from huggingface_hub.errors import HFValidationError

    repo, revision = split(origin)
    try:
        return _in_cache(repo, revision, part, variant, (), "")
    except HFValidationError:
        return None


def _in_cache(repo: str, revision: str | None, part: str, variant: str | None, borrows: Sequence[str],
              released: str) -> Found | None:
    """`_cached`, and where no revision is asked for, also of a conversion that was loaded before."""
    found = _cached(repo, revision, part, variant, borrows, released)
    if found is None and revision is None and _is_one_model(part):
        for ref in _conversions_in_cache(repo):
            found = found or _cached(repo, ref, part, variant, borrows, released)
    return found


def _is_one_model(part: str) -> bool:
    """Is it a model of transformers, which the hub's own robot may have converted?"""
    return part not in (*PIPELINES, "clip", "lora", "decoder")


def _cached(repo: str, revision: str | None, part: str, variant: str | None, borrows: Sequence[str],
            released: str) -> Found | None:
    """What the hub's cache has of a revision, if it is whole; HFValidationError for what can't be a hub id."""
    from huggingface_hub import try_to_load_from_cache

    first = try_to_load_from_cache(repo, CLIP_WEIGHTS if released else index_of(part), revision=revision)
    if not isinstance(first, str):
        return None
    folder = Path(first).parent
    found, refused = _inside(part, folder, variant, borrows, released)
    if refused:
        return None
    said = f"in the hub's cache, commit {folder.name[:7]}{_remarks(revision, found.variants, variant)}"
    return replace(found, state=State(said), repo=repo, revision=revision or "main", commit=folder.name)


def _conversions_in_cache(repo: str) -> list[str]:
    """Pull requests of a repository that were loaded before: "refs/pr/1" …"""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    folder = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repo, repo_type="model") / "refs" / "refs" / "pr"
    return [f"refs/pr/{file.name}" for file in sorted(folder.glob("*"))]


def _ask(repo: str, revision: str | None) -> Any:
    """The hub's `ModelInfo`, or the State of its refusal.

    It is asked once, by a call that waits no longer than HF_HUB_ETAG_TIMEOUT: a download asks a silent hub for minutes.
    """
    from huggingface_hub import HfApi, constants

    hub = HfApi()  # at HF_ENDPOINT, if that is set
    try:
        info = hub.model_info(repo, revision=revision, timeout=constants.HF_HUB_ETAG_TIMEOUT)
        if info.gated:  # anyone may read about it, not everyone may have it
            hub.auth_check(repo)
        return info
    except Exception as error:  # of the hub's HTTP library, which differs between its versions
        return explain(repo, error)


def _reader(repo: str, revision: str | None, names: Sequence[str]) -> Read:
    """`Read` for a repository; raises UnavailableError where the hub does not give a file that it lists."""
    from huggingface_hub import hf_hub_download

    def read(name: str) -> Any:
        if name not in names:
            return None
        try:
            path = hf_hub_download(repo, name, revision=revision)
        except Exception as error:  # each kind of refusal has its own
            raise UnavailableError(replace(explain(repo, error), download=True)) from error
        return read_json(Path(path))

    return read


def _converted(repo: str) -> str | None:
    """Where the hub's own robot keeps the safetensors of a model that was published as a pickle (transformers looks
    there too), e.g. "refs/pr/1"; None if nowhere."""
    from huggingface_hub import HfApi

    try:
        requests = HfApi().get_repo_discussions(repo, author="SFconvertbot", discussion_type="pull_request")
        title = "Adding `safetensors` variant of this model"
        return next((request.git_reference for request in requests if request.title == title), None)
    except Exception:  # then the first reason stands
        return None
