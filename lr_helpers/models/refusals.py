"""What the errors of the hub's library mean: a reason and its fix, in a sentence."""

from __future__ import annotations

import errno
import json
import re
from collections.abc import Iterator

from lr_helpers.machine.installing import install_command
from lr_helpers.models.origins import State

# Libraries are imported where they are used: `doctor` has to run where they are missing.

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
NO_ADDRESS = ("UnsupportedProtocol", "MissingSchema", "InvalidURL", "InvalidSchema", "LocalProtocolError")
"""What the HTTP libraries raise for what can't be asked at all."""


def explain(repo: str, error: BaseException) -> State:
    """What an exception of the hub's library means; the cause may lie below it."""
    from huggingface_hub import constants
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, HFValidationError, RemoteEntryNotFoundError

    endpoint, chain = constants.ENDPOINT, list(_chain(error))
    for cause in chain:
        if "socks" in str(cause).lower() and (isinstance(cause, ImportError) or "Missing dependencies" in str(cause)):
            package = "socksio" if "socksio" in str(cause) else "pysocks"  # what the HTTP library at hand takes
            return State("a SOCKS proxy is set, and its package is missing", "can't be reached",
                         f"{install_command(package)}, or unset ALL_PROXY")
        if type(cause).__name__ in NO_ADDRESS or "Unknown scheme for proxy" in str(cause):
            return _no_address(endpoint, cause)
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
    for cause in chain:
        if _is_of_the_network(cause):
            return _silence(endpoint, cause)
    return told(error)


def told(error: BaseException) -> State:
    """An error that has nothing to do with the network, in its own words: their first line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = " ".join([type(error).__name__ + ":", *lines[:1]])
    return State(said[:240].rstrip(": ."), "can't be read", "give a folder with the whole model")


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An exception and what caused it, outermost first."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _is_of_the_network(error: BaseException) -> bool:
    from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled

    if isinstance(error, (OfflineModeIsEnabled, ConnectionError, TimeoutError, json.JSONDecodeError)):
        return True
    if isinstance(error, LocalEntryNotFoundError):  # it only says that the library looked in vain
        return error.__cause__ is None and error.__context__ is None
    # Of the hub's HTTP library, which differs between its versions.
    return type(error).__module__.startswith(("httpx", "httpcore", "requests", "urllib3", "socket", "ssl"))


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


def _silence(endpoint: str, error: BaseException) -> State:
    from huggingface_hub.errors import OfflineModeIsEnabled

    if isinstance(error, OfflineModeIsEnabled):
        return State("not in the cache, and the hub may not be asked (HF_HUB_OFFLINE)", "can't be reached",
                     "unset HF_HUB_OFFLINE, or give a folder in data/models.toml")
    if "Timeout" in type(error).__name__:
        return State(f"no answer from {endpoint} in time", "can't be reached",
                     "try again, or wait longer for an answer: export HF_HUB_ETAG_TIMEOUT=60 (seconds)")
    if isinstance(error, json.JSONDecodeError):  # the login page of a network, say
        return State(f"{endpoint} does not answer as a model hub does", "can't be reached",
                     "log in to the network, or correct HF_ENDPOINT")
    return State(f"no connection to {endpoint} ({type(error).__name__})", "can't be reached",
                 "connect to the network (behind a proxy, set HTTPS_PROXY), or give a folder in data/models.toml")


def _no_address(endpoint: str, error: BaseException) -> State:
    """What can't be asked because its address is none: the hub's, or a proxy's."""
    if not re.match("https?://", endpoint):
        return State(f"HF_ENDPOINT is {endpoint!r}, which is no address", "can't be reached",
                     f"add https:// to it: export HF_ENDPOINT=https://{endpoint.removeprefix('//')}")
    return State(f"an address can't be used ({' '.join(str(error).split())[:120]})", "can't be reached",
                 "correct HTTPS_PROXY, ALL_PROXY or HF_ENDPOINT, or unset it")


def neither(repo: str) -> State:
    """The state of what can't be a hub id and is no folder."""
    return State("neither a folder nor a hub id", "is missing",
                 f"name a folder or OWNER/NAME in data/models.toml instead of {repo}")
