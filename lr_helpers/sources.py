"""What can be had from a source of a model: a folder, the hub's cache, or the hub, which may have its reasons."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lr_helpers.config import DATA

# Libraries are imported where they are used: `doctor` has to run where they are missing.

NEEDED = {
    "editor": ("model_index.json", "unet/config.json", "unet/*.safetensors", "vae/config.json", "vae/*.safetensors",
               "text_encoder/config.json", "text_encoder/*.safetensors", "tokenizer/*.json",
               "scheduler/scheduler_config.json"),
    "backbone": ("config.json", "*.safetensors", "preprocessor_config.json"),
    "clip": ("open_clip_config.json", "open_clip_model.safetensors"),
}
"""Files without which a part can't be loaded; the first has no wildcard."""


@dataclass(frozen=True)
class State:
    """What was found out about one source of a model."""

    text: str
    trouble: str = ""
    """Why it can't serve, e.g. "can't be reached"; "" where it can."""
    mend: str = ""
    download: bool = False
    """Does it come from the network?"""


def label(source: str) -> str:
    """What the report says of a source: a shipped folder by its place in the project."""
    return Path(source).relative_to(DATA.parent).as_posix() if Path(source).is_relative_to(DATA) else source


def restore(path: Path) -> str:
    """How to mend a file or folder that is missing or damaged."""
    if path.is_relative_to(DATA):
        return f"restore it from the repository, e.g. by: git checkout -- {label(str(path))}"
    return f"put the whole model into {path}"


def look(part: str, source: str) -> State:
    """The state of one source of "editor", "backbone" or "clip"; asks the hub about what is neither here nor cached."""
    path = Path(source)
    if path.is_absolute() or path.is_dir() or path.is_relative_to(DATA):
        return _look_folder(path, NEEDED[part])
    if source.startswith("openclip:"):
        return _look_open_clip(source)
    return _look_hub(source, NEEDED[part])


def _look_folder(folder: Path, needed: Sequence[str]) -> State:
    if not folder.is_dir():
        return State("there is no such folder", "is missing", restore(folder))
    if lacking := _lacking(folder, needed):
        return State(f"missing or damaged: {', '.join(lacking)}", "is incomplete", restore(folder))
    return State("a folder, complete")


def _lacking(folder: Path, needed: Sequence[str]) -> list[str]:
    """Those of the needed files (wildcards allowed) that are missing, cut off or no JSON or safetensors at all."""
    found = {name: list(folder.glob(name)) for name in needed}
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


def _look_open_clip(source: str) -> State:
    from open_clip.pretrained import get_pretrained_cfg

    name, _, tag = source.removeprefix("openclip:").partition(":")
    config = get_pretrained_cfg(name, tag)
    if not config:
        return State("open_clip knows no such model", "is unknown",
                     "name one of open_clip.list_pretrained() in data/models.toml, as openclip:NAME:TAG")
    repo, _, file = config.get("hf_hub", "").rpartition("/")
    if not repo:
        return State(f"a download from {config.get('url')}, which was not asked", download=True)
    state = _look_hub(repo, (file or "open_clip_model.safetensors",))
    return State(f"{repo}, {state.text}", state.trouble, state.mend, state.download)


def _look_hub(repo: str, needed: Sequence[str]) -> State:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        first = try_to_load_from_cache(repo, needed[0])
    except HFValidationError:
        return State("neither a folder nor a hub id", "is missing",
                     f"name a folder or OWNER/NAME in data/models.toml instead of {repo}")
    if isinstance(first, str) and not _lacking(Path(first).parent, needed):
        return State(f"in the hub's cache, commit {Path(first).parent.name[:7]}")
    return replace(_ask_hub(repo), download=True)


def _ask_hub(repo: str) -> State:
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError

    hub = HfApi()  # at HF_ENDPOINT, if that is set
    try:
        info = hub.model_info(repo, timeout=constants.HF_HUB_ETAG_TIMEOUT)
        if info.gated:  # anyone may read about it, not everyone may have it
            hub.auth_check(repo)
    except HfHubHTTPError as error:
        return _refusal(repo, hub.endpoint, error.response.status_code, isinstance(error, GatedRepoError))
    except Exception as error:  # of the hub's HTTP library, which differs between its versions
        return _silence(hub.endpoint, error)
    return State(f"on the hub, commit {(info.sha or 'unknown')[:7]}")


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
