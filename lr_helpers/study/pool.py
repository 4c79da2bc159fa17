"""Several processes that each load once and then work: how studies use all cores, or all of a GPU's memory."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any

from lr_helpers.errors import UserError
from lr_helpers.machine.threads import cores, fix

Each = Callable[[Callable, Iterable[tuple]], Iterator[Any]]
"""`each(work, jobs)`: the results of work(*job) for every job, in the order in which they are done."""


_failed: list[Exception] = []
"""In a worker: why it could not start."""


@contextmanager
def worker_pool(workers: int, start: Callable, arguments: tuple) -> Iterator[Each]:
    """So many processes, in each of which `start(*arguments)` has run; a pool of one is this process itself.

    Each gets its share of the cores. An error of a job or of `start` is raised here, and what has not begun by then is
    given up. The processes end with this one, however it ends. Raises UserError if one of them dies.
    """
    if workers == 1:
        start(*arguments)
        yield lambda work, jobs: (work(*job) for job in jobs)
        return
    # More threads than cores would only wait for each other.
    threads = max(1, cores() // workers)
    # A fresh interpreter each: torch's thread pools do not survive a fork.
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _start, (threads, start, arguments))

    def each(work: Callable, jobs: Iterable[tuple]) -> Iterator[Any]:
        for done in as_completed([pool.submit(_do, work, *job) for job in jobs]):
            yield done.result()

    try:
        yield each
    except BrokenProcessPool as error:
        raise UserError("A worker process died, perhaps of too little memory; start the same command again, with fewer "
                        "--workers.") from error
    finally:
        pool.shutdown(cancel_futures=True)


def _start(threads: int, start: Callable, arguments: tuple) -> None:
    fix(threads)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears it too, and ends the pool
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        start(*arguments)
    except Exception as error:  # raised here, it would only be logged, and the pool would be called broken
        _failed.append(error)


def _do(work: Callable, *job: Any) -> Any:
    if _failed:
        raise _failed[0]
    return work(*job)


def _end_with_parent() -> None:
    """Without this, workers of a parent that was killed would wait for its next job for ever."""
    multiprocessing.parent_process().join()
    os._exit(1)
