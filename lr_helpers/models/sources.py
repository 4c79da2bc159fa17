"""What can be had from a source of a model: a folder, the hub's cache, or the hub, which may have its reasons."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lr_helpers.files.paths import DATA

# Libraries are imported where they are used: `doctor` has to run where they are missing.

NEEDED = {
    "editor": ("model_index.json",),
    "backbone": ("config.json", "*.safetensors", "preprocessor_config.json"),
    "clip": ("open_clip_config.json", "open_clip_model.safetensors"),
}
"""Files without which a part can't be loaded; the first has no wildcard. An editor's index names the others."""

UNUSED = ("safety_checker", "feature_extractor", "image_encoder")
"""Components of an editor that are never loaded."""
PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class State:
    """What was found out about one source of a model."""

    text: str
    trouble: str = ""
    """Why it can't serve, e.g. "can't be reached"; "" where it can."""
    fix: str = ""
    download: bool = False
    """Does it come from the network?"""


class UnavailableError(Exception):
    """A source can't serve; `state` says why, and how to fix it."""

    def __init__(self, state: State):
        super().__init__(state.text)
        self.state = state


def label(source: str) -> str:
    """What reports and records say of a source: a shipped folder by its place in the project, not on this machine."""
    return Path(source).relative_to(DATA.parent).as_posix() if Path(source).is_relative_to(DATA) else source


def is_folder(source: str) -> bool:
    """Is it a folder, be it missing? One that is there always wins over the hub."""
    path = Path(source)
    return path.is_absolute() or path.is_dir() or path.is_relative_to(DATA) or source.startswith(("./", "../"))


def split(source: str) -> tuple[str, str | None]:
    """`OWNER/NAME@REVISION` → the hub id and the branch, tag or commit; without one, None (the newest)."""
    repo, _, revision = source.partition("@")
    return repo, revision or None


def restore(path: Path) -> str:
    """How to fix a file or folder that is missing or damaged."""
    if path.is_relative_to(DATA):
        return f"restore it from the repository, e.g. by: git checkout -- {label(str(path))}"
    return f"put the whole model into {path}"


def look(part: str, source: str, borrows: Sequence[str] = ()) -> State:
    """The state of one source of "editor", "backbone" or "clip"; asks the hub about what is neither here nor cached.

    A folder may lack the components that it `borrows`.
    """
    if is_folder(source):
        return look_folder(part, Path(source), borrows)
    if source.startswith("openclip:"):
        return _look_open_clip(source)
    return _look_hub(part, source)


def look_folder(part: str, folder: Path, borrows: Sequence[str] = ()) -> State:
    """Is the whole part in this folder, as safetensors, but for the components that it borrows?"""
    if not folder.is_dir():
        return State("there is no such folder", "is missing", restore(folder))
    lacking = _lacking(part, folder, borrows)
    if not lacking:
        return State("a folder, complete")
    names = [f.relative_to(folder).as_posix() for f in folder.rglob("*") if f.is_file()]
    return pickled(part, names) or State(f"missing or damaged: {', '.join(lacking)}", "is incomplete", restore(folder))


def pickled(part: str, names: Sequence[str]) -> State | None:
    """The refusal of a model that has its weights as pickles only, by the names of its files; None for others."""
    if part == "editor":  # each component has its folder; what lies beside them are single-file copies
        names = [n for n in names if n.count("/") == 1 and not n.startswith(UNUSED)]
    safe = {Path(n).parent for n in names if n.endswith(".safetensors")}
    found = [n for n in names if n.endswith(PICKLES) and Path(n).parent not in safe]
    if not found:
        return None
    return State(f"its weights are pickles ({found[0]}), which can run code and are never loaded", "holds pickles",
                 "give a copy stored as safetensors, which `save_pretrained` writes")


def needed(part: str, folder: Path, borrows: Sequence[str] = ()) -> tuple[str, ...]:
    """The files of a part that must be in its folder, with wildcards; an editor's by its own index, less the
    components that it borrows."""
    if part != "editor":
        return NEEDED[part]
    try:
        index = json.loads((folder / NEEDED[part][0]).read_text(encoding="utf-8"))
        names = [name for name, entry in index.items()
                 if isinstance(entry, list) and entry[0] and name not in (*UNUSED, *borrows)]
    except (OSError, ValueError, AttributeError, IndexError):
        return NEEDED[part]
    files = {"scheduler": ("scheduler_config.json",), "tokenizer": ("*.json",), "tokenizer_2": ("*.json",)}
    return (*NEEDED[part],
            *(f"{name}/{file}" for name in names for file in files.get(name, ("config.json", "*.safetensors"))))


def _lacking(part: str, folder: Path, borrows: Sequence[str] = ()) -> list[str]:
    """Those of the needed files (wildcards allowed) that are missing, cut off or no JSON or safetensors at all."""
    found = {name: list(folder.glob(name)) for name in needed(part, folder, borrows)}
    return [name for name, files in found.items() if not files or not all(map(_is_whole, files))]


def _is_whole(file: Path) -> bool:
    from safetensors import SafetensorError, safe_open

    try:
        if file.suffix == ".json":
            json.loads(file.read_text(encoding="utf-8"))
        else:
            with safe_open(file, "np"):  # compares the header with the file's length
                pass
    except (OSError, ValueError, SafetensorError):
        return False
    return True


def open_clip_repository(source: str) -> str:
    """The hub id where open_clip keeps the released model `openclip:NAME:TAG`; UnavailableError if there is none."""
    from open_clip.pretrained import get_pretrained_cfg

    name, _, tag = source.removeprefix("openclip:").partition(":")
    config = get_pretrained_cfg(name, tag)
    if not config:
        raise UnavailableError(State("open_clip knows no such model", "is unknown",
                                     "name one of open_clip.list_pretrained(), as openclip:NAME:TAG"))
    repo = config.get("hf_hub", "").rpartition("/")[0]
    if not repo:
        raise UnavailableError(State("it is not on the hub as safetensors, and pickles are never loaded",
                                     "holds pickles", "name one of open_clip.list_pretrained() that is on the hub"))
    return repo


def _look_open_clip(source: str) -> State:
    try:
        repo = open_clip_repository(source)
    except UnavailableError as error:
        return error.state
    state = _look_hub("clip", repo, NEEDED["clip"][1:])
    return replace(state, text=f"{repo}, {state.text}")


def _look_hub(part: str, source: str, files: Sequence[str] = ()) -> State:
    """`files`: what is needed, if not all of the part."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    repo, revision = split(source)
    try:
        first = try_to_load_from_cache(repo, (files or NEEDED[part])[0], revision=revision)
    except HFValidationError:
        return neither(repo)
    if isinstance(first, str) and (files or not _lacking(part, Path(first).parent)):
        return State(f"in the hub's cache, commit {Path(first).parent.name[:7]}")
    return replace(_ask_hub(part, repo, revision), download=True)


def neither(source: str) -> State:
    """The state of what can't be a hub id and is no folder."""
    return State("neither a folder nor a hub id", "is missing",
                 f"name a folder or OWNER/NAME in data/models.toml instead of {source}")


def _ask_hub(part: str, repo: str, revision: str | None) -> State:
    from huggingface_hub import HfApi, constants

    hub = HfApi()  # at HF_ENDPOINT, if that is set
    try:
        info = hub.model_info(repo, revision=revision, timeout=constants.HF_HUB_ETAG_TIMEOUT)
        if info.gated:  # anyone may read about it, not everyone may have it
            hub.auth_check(repo)
    except Exception as error:  # of the hub's HTTP library, which differs between its versions
        return explain(repo, error)
    return (pickled(part, [file.rfilename for file in info.siblings or ()])
            or State(f"on the hub, commit {(info.sha or 'unknown')[:7]}"))


def explain(repo: str, error: BaseException) -> State:
    """What an exception of the hub's library means; the cause may lie below it."""
    from huggingface_hub import constants
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, HFValidationError, RemoteEntryNotFoundError

    endpoint, chain = constants.ENDPOINT, list(_chain(error))
    for cause in chain:
        if getattr(cause, "errno", None) in FULL or "No space left" in str(cause):
            return State("the disk is full", "does not fit on the disk",
                         f"free space at {constants.HF_HUB_CACHE}, or set HF_HOME to a folder on a larger disk")
        if isinstance(cause, HFValidationError):
            return neither(repo)
        if isinstance(cause, RemoteEntryNotFoundError):
            return State(f"it has no {cause.response.url.path.rpartition('/')[2]}", "is incomplete",
                         "name a model of the kind that is asked for")
        if isinstance(cause, HfHubHTTPError):
            return _refusal(repo, endpoint, cause.response.status_code, isinstance(cause, GatedRepoError))
        if "Consistency check failed" in str(cause) or type(cause).__name__ == "RemoteProtocolError":
            return State("the download broke off", "can't be reached", "try again; it goes on where it stopped")
    # A FileNotFoundError only says where the library looked in vain.
    return _silence(endpoint, next((c for c in chain if not isinstance(c, FileNotFoundError)), error))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An exception and what caused it, outermost first."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _refusal(repo: str, endpoint: str, status: int, gated: bool) -> State:
    if status == 404:
        return State("404: gone or never there", "is gone",
                     f"name a mirror of {repo} in data/models.toml, or a folder that holds it")
    if status in (401, 403):
        # The hub answers 401 for what is private or gone too, to those who are not logged in.
        why = "gated, and not open to you" if gated or status == 403 else "needs a login, unless it is gone"
        return State(f"{status}: {why}", "needs a login",
                     f"log in with `hf auth login` and accept the licence at {endpoint}/{repo}")
    return State(f"the hub answers {status}", "can't be reached", "try again later")


def _silence(endpoint: str, error: Exception) -> State:
    from huggingface_hub.errors import OfflineModeIsEnabled

    if isinstance(error, OfflineModeIsEnabled):
        return State("not in the cache, and the hub may not be asked (HF_HUB_OFFLINE)", "can't be reached",
                     "unset HF_HUB_OFFLINE, or give a folder in data/models.toml")
    if "Timeout" in type(error).__name__:
        return State(f"no answer from {endpoint} in time", "can't be reached",
                     "try again, or wait longer for an answer: export HF_HUB_ETAG_TIMEOUT=60 (seconds)")
    if isinstance(error, ValueError):  # no JSON: the login page of a network, say
        return State(f"{endpoint} does not answer as a model hub does", "can't be reached",
                     "log in to the network, or correct HF_ENDPOINT")
    return State(f"no connection to {endpoint} ({type(error).__name__})", "can't be reached",
                 "connect to the network (behind a proxy, set HTTPS_PROXY), or give a folder in data/models.toml")
