"""What can be had from an origin of a model, found out without loading it; and what the hub's errors mean."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from lr_helpers.models.origins import (
    NEEDED,
    State,
    UnavailableError,
    is_folder,
    lacking,
    look_folder,
    open_clip_repository,
    pickled,
    split,
)

# Libraries are imported where they are used: `doctor` has to run where they are missing.

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def look(part: str, origin: str, borrows: Sequence[str] = ()) -> State:
    """The state of one origin of "editor", "backbone" or "clip"; asks the hub about what is neither here nor cached.

    A folder may lack the components that it `borrows`.
    """
    if is_folder(origin):
        return look_folder(part, Path(origin), borrows)
    if origin.startswith("openclip:"):
        return _look_open_clip(origin)
    return _look_hub(part, origin)


def _look_open_clip(origin: str) -> State:
    try:
        repo = open_clip_repository(origin)
    except UnavailableError as error:
        return error.state
    # open_clip knows the configuration itself, so the weights are all that is needed.
    state = _look_hub("clip", repo, NEEDED["clip"][1:])
    return replace(state, text=f"{repo}, {state.text}")


def _look_hub(part: str, origin: str, files: Sequence[str] = ()) -> State:
    """`files`: what is needed, if not all of the part."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    repo, revision = split(origin)
    try:
        first = try_to_load_from_cache(repo, (files or NEEDED[part])[0], revision=revision)
    except HFValidationError:
        return _neither(repo)
    if isinstance(first, str) and (files or not lacking(part, Path(first).parent)):
        return State(f"in the hub's cache, commit {Path(first).parent.name[:7]}")
    return replace(_ask_hub(part, repo, revision), download=True)


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


# What went wrong


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
            return _neither(repo)
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


def _neither(repo: str) -> State:
    """The state of what can't be a hub id and is no folder."""
    return State("neither a folder nor a hub id", "is missing",
                 f"name a folder or OWNER/NAME in data/models.toml instead of {repo}")
