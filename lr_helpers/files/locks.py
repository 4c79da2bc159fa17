"""Every lock of the project: who may write to a place while others want to.

A process that ends, or is killed, lets go of its locks at once. `alone` is filelock's. A batch needs what filelock
has not: a lock that its main process first holds alone and then shares with its workers, so that the last of them lets
go of it. For that, `hold`, `share` and `is_free` lock an open file.
"""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from filelock import FileLock, Timeout

from lr_helpers.errors import UserError


class TakenError(Exception):
    """Another process holds the lock."""


@contextlib.contextmanager
def alone(file: Path, refusal: str | None = None, patience: float = 0) -> Iterator[None]:
    """Hold the lock `file` while the block runs; the file is made if need be, and stays.

    While another process holds it, this waits, or raises UserError with the sentence `refusal` if there is one, after
    `patience` seconds. Raises OSError if the file can't be made.
    """
    lock = FileLock(file)
    try:
        lock.acquire(timeout=-1 if refusal is None else patience)
    except Timeout as error:
        raise UserError(refusal) from error
    try:
        yield
    finally:
        lock.release()


def hold(file: IO, wait: bool = False) -> None:
    """Lock an open file for this process alone, until it is closed.

    While others hold or share it, this waits or raises TakenError.
    """
    _lock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))


def share(file: IO) -> None:
    """Lock an open file together with others that share it, until it is closed; who held it alone now shares it.

    Raises TakenError if another process holds it alone.
    """
    _lock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)


def is_free(file: IO) -> bool:
    """Is there no other process that holds the open file's lock alone?"""
    try:
        share(file)
    except TakenError:
        return False
    fcntl.flock(file, fcntl.LOCK_UN)
    return True


def _lock(file: IO, how: int) -> None:
    try:
        fcntl.flock(file, how)
    except BlockingIOError as error:
        raise TakenError(f"{file.name} is locked by another process.") from error
