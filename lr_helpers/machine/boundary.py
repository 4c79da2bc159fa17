"""One boundary around every command: whatever goes wrong below is answered by one sentence and the right exit code.

A fault of ours shows its traceback, and a line on how to report it. With LR_TRACEBACK=1 in the environment, all do.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import sys
import tomllib
import traceback
from collections.abc import Callable
from pathlib import Path

from lr_helpers.errors import UserError
from lr_helpers.machine.installing import install_extra

WRONG, OUR_FAULT, STOPPED, UNREAD = 2, 70, 130, 141
"""Exit codes: input that can't work, or a machine that can't; a fault of ours (EX_SOFTWARE of sysexits.h); Ctrl-C
(128 + SIGINT); nobody reads the output any more (128 + SIGPIPE).
"""
OURS = ("lr_helpers", "tiny_world")

FIXES = {
    errno.ENOENT: "check the path, or restore what is missing",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.EACCES: "change its permissions, or give another place",
    errno.EPERM: "change its permissions, or give another place",
    errno.ENOSPC: "free space, or give another place",
    errno.EDQUOT: "free space, or give another place",
    errno.EFBIG: "give a place that takes larger files",
    errno.EROFS: "give a place that can be written to",
    errno.ELOOP: "it is a link that leads to itself; give the file",
    errno.ENOTDIR: "a part of the path is a file; give another path",
    errno.EISDIR: "it is a folder; give a file",
    errno.ENXIO: "give a plain file",
    errno.ENODEV: "give a plain file",
    errno.EMFILE: "close other programs, or raise the limit (ulimit -n)",
    errno.ENFILE: "close other programs",
    errno.EIO: "check the disk, or its connection",
    errno.ESTALE: "its file system went away; mount it again",
    errno.EBUSY: "something else uses it; end that, or give another place",
    errno.ETXTBSY: "something else uses it; end that, or give another place",
    errno.ENOMEM: "close other programs",
    errno.EAGAIN: "too many processes run; close other programs",
}
"""What to do about what the system says."""


def answered(run: Callable[[], int]) -> int:
    """The exit code of `run`, or of what went wrong in it, which is told on the standard error."""
    _open_streams_that_are_closed()
    _let_streams_take_all_letters()
    try:
        try:
            return run()
        except KeyboardInterrupt:
            print("stopped", file=sys.stderr)
            return STOPPED
        finally:
            if sys.stdout is not None:  # it is None where the program was started without one
                sys.stdout.flush()  # here, where a closed pipe is answered, and not at the interpreter's end
    except Exception as error:
        return _answer(error)


def _answer(error: Exception) -> int:
    """Tell what went wrong; the exit code."""
    closed = _silence_broken_streams()
    if closed and isinstance(error, BrokenPipeError):  # `… | head` has read enough
        return UNREAD
    if closed and isinstance(error, OSError) and error.filename is None:
        _say(f"error: The output can't be written ({error.strerror}); {FIXES.get(error.errno, 'lead it elsewhere')}.")
        return WRONG
    said = sentence(error)
    if said is None or os.environ.get("LR_TRACEBACK") == "1":
        _say("".join(traceback.format_exception(error)).rstrip())
    if said is None:
        _say(f"error: This is a fault of the program, not of yours; please report it with the lines above and your "
             f"command, {_address()}.")
        return OUR_FAULT
    _say(f"error: {said}")
    return WRONG


def sentence(error: BaseException) -> str | None:
    """What a user can do about an exception; None if nothing, because the fault is ours."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] not in ("", *OURS):
        return (f"The package {error.name!r} is not installed; run ./reproduce.sh, or in an environment of your own: "
                f"{install_extra()}")
    if isinstance(error, MemoryError) or _is_out_of_memory(error):
        return ("The memory of this machine or of its GPU does not suffice; close other programs, or take smaller "
                "models or pictures.")
    if isinstance(error, (ConnectionError, TimeoutError, socket.gaierror)) and not isinstance(error, BrokenPipeError):
        return f"The network can't be used ({' '.join(str(error).split())}); check the connection."
    if isinstance(error, OSError) and error.errno in FIXES and error.errno != errno.EPIPE:
        where = f"{error.filename!r} can't be used" if error.filename else "Something can't be read or written"
        if error.errno == errno.ENOENT and not error.filename:
            return None
        return f"{_short(where)} ({error.strerror}); {FIXES[error.errno]}."
    return None


def _is_out_of_memory(error: BaseException) -> bool:
    said = str(error) if isinstance(error, RuntimeError) else ""
    return type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in said or "not enough memory" in said


def _short(text: str, length: int = 240) -> str:
    return text if len(text) <= length else f"{text[:length // 2]} … {text[-length // 2:]}"


def _say(text: str) -> None:
    if sys.stderr is not None:
        try:
            print(text, file=sys.stderr, flush=True)
        except OSError:  # nobody reads it
            _silence_broken_streams()


def _address() -> str:
    """Where to report, as pyproject.toml has it."""
    try:
        text = (Path(__file__).resolve().parents[2] / "pyproject.toml").read_text(encoding="utf-8")
        address = tomllib.loads(text)["project"]["urls"]["Repository"]
    except (OSError, ValueError, KeyError):
        address = "OWNER"
    return "to whom you have this course from" if "OWNER" in address else f"at {address}/issues"


def _open_streams_that_are_closed() -> None:
    """Where the program was started without a standard stream (`2>&-`), libraries that print would fall over it, and
    the next file that is opened would get its number.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 - for as long as the program runs


def _let_streams_take_all_letters() -> None:
    """On a console that knows but a few letters, the others are written as their numbers."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _silence_broken_streams() -> bool:
    """Lead standard streams that take nothing any more to devnull, so that the last flush can't fail; was there one?"""
    broken = False
    for stream in filter(None, (sys.stdout, sys.stderr)):
        try:
            stream.flush()
            poll = select.poll()
            poll.register(stream.fileno(), 0)  # 0: only errors, such as a pipe without a reader
            fine = not poll.poll(0)
        except ValueError:  # closed, or no stream of the system
            continue
        except OSError:
            fine = False
        if not fine:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
            broken = True
    return broken
