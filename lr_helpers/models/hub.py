"""Fetch a part of a profile: a folder stays where it is, what the hub has goes to its cache, at a known commit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from diffusers import DiffusionPipeline
from huggingface_hub import HfApi, constants, hf_hub_download, snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import EntryNotFoundError, HFValidationError

from lr_helpers.models.libraries import quiet
from lr_helpers.models.look import explain
from lr_helpers.models.origins import (
    NEEDED,
    UNUSED,
    State,
    UnavailableError,
    is_folder,
    label,
    look_folder,
    open_clip_repository,
    pickled,
    split,
)


@dataclass(frozen=True)
class Found:
    """Where a part lies now."""

    place: str
    """A folder, or for a released CLIP `openclip:NAME:TAG`."""
    label: str
    """What the record says: the origin, for the hub's with `@` and the commit. It can be given as an origin again."""


def fetch(part: str, origin: str, variant: str | None = None, borrows: Sequence[str] = ()) -> Found:
    """Get one origin of "editor", "backbone" or "clip" onto the disk; safetensors only.

    `variant`: "fp16" for the half-precision files of an editor's repository, where it has them. `borrows`: components
    that its folder need not hold. Raises UnavailableError with the reason and its fix where the origin can't serve.
    """
    if is_folder(origin):
        state = look_folder(part, Path(origin), borrows)
        if state.trouble:
            raise UnavailableError(state)
        return Found(str(Path(origin)), label(origin))
    if origin.startswith("openclip:"):
        # open_clip takes its released models from the hub's cache itself; the download makes sure of them.
        folder = _download(open_clip_repository(origin), part, None, file=NEEDED["clip"][1])
        return Found(origin, f"{origin}@{folder.name}")
    repo, revision = split(origin)
    folder = _download(repo, part, revision, variant=variant)
    state = look_folder(part, folder, borrows)
    if state.trouble:
        # Weights that were published as pickles may have been converted by the hub's own robot.
        refused = _pickles_of(part, repo, revision)
        converted = _converted(repo) if refused and part == "backbone" else None
        if converted is None:
            raise UnavailableError(refused or replace(state, fix=f"remove {folder} and try again"))
        folder = _download(repo, part, converted)
    return Found(str(folder), f"{repo}@{folder.name}")


def peek(part: str, origin: str, file: str) -> Path | None:
    """One small file of an origin, before the rest is fetched; None where the origin has no such file.

    Raises UnavailableError where the origin can't be reached at all.
    """
    if is_folder(origin):
        path = Path(origin) / file
        return path if path.is_file() else None
    repo, revision = split(origin)
    folder, _ = _begin(repo, NEEDED[part][0], revision)
    try:
        return Path(hf_hub_download(repo, file, revision=folder.name))
    except Exception as error:  # each kind of refusal has its own
        if isinstance(error, EntryNotFoundError) and not isinstance(error, FileNotFoundError):
            return None
        raise UnavailableError(explain(repo, error)) from error


def _begin(repo: str, file: str, revision: str | None) -> tuple[Path, bool]:
    """The folder of one commit in the cache, which holds this file of a repository, and whether the hub answered.

    The hub is asked once, by a call that waits no longer than HF_HUB_ETAG_TIMEOUT: a download asks a silent one for
    minutes. What is in the cache serves without it.
    """
    try:
        HfApi().model_info(repo, revision=revision, timeout=constants.HF_HUB_ETAG_TIMEOUT)
        return Path(hf_hub_download(repo, file, revision=revision)).parent, True
    except Exception as error:  # of the hub's HTTP library, which differs between its versions
        cached = None if isinstance(error, HFValidationError) else try_to_load_from_cache(repo, file, revision=revision)
        if isinstance(cached, str):
            return Path(cached).parent, False
        raise UnavailableError(explain(repo, error)) from error


def _download(repo: str, part: str, revision: str | None, file: str = "", variant: str | None = None) -> Path:
    """The folder of one commit in the hub's cache, whose name is the commit; of `file` alone, if that is given."""
    folder, answered = _begin(repo, file or NEEDED[part][0], revision)
    if file or not answered:
        return folder
    try:
        if part == "editor":
            with quiet():
                return _download_editor(repo, folder.name, variant)
        patterns = ["*.json", "*.txt", *(name for name in NEEDED[part] if name.endswith(".safetensors"))]
        return Path(snapshot_download(repo, revision=folder.name, allow_patterns=patterns))
    except Exception as error:
        state = explain(repo, error)
        raise UnavailableError(_pickles_of(part, repo, revision) or state) from error


def _download_editor(repo: str, commit: str, variant: str | None) -> Path:
    def download(which: str | None) -> Path:
        return Path(DiffusionPipeline.download(repo, revision=commit, variant=which, use_safetensors=True,
                                               **dict.fromkeys(UNUSED)))

    try:
        return download(variant)
    except ValueError:  # a mirror without these files
        if variant is None:
            raise
        return download(None)


def _converted(repo: str) -> str | None:
    """Where the hub's own robot keeps the safetensors of a model that was published as a pickle (transformers looks
    there too); None if nowhere."""
    requests = HfApi().get_repo_discussions(repo, author="SFconvertbot", discussion_type="pull_request")
    return next((r.git_reference for r in requests if r.title == "Adding `safetensors` variant of this model"), None)


def _pickles_of(part: str, repo: str, revision: str | None) -> State | None:
    """The refusal of a repository that holds pickles only, if it answers; else None."""
    try:
        return pickled(part, HfApi().list_repo_files(repo, revision=revision))
    except Exception:  # then the first reason stands
        return None
