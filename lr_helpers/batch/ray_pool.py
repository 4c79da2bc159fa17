"""A batch by a pool of Ray actors, on this machine or on a cluster; the extra `cluster` installs Ray.

Ray Data maps the items over the actors, each of which loads the models once. An actor that dies is started again, and
its item given out again, by Ray.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import re
import secrets
import socket
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from lr_helpers.batch.run import Survey
from lr_helpers.batch.work import Outcome
from lr_helpers.batch.worker import Worker
from lr_helpers.errors import UserError
from lr_helpers.machine.installing import install_extra
from lr_helpers.models.profiles import Profile

BLOCKS = 10_000
"""At most so many pieces are given out, of one item each where there are no more items."""


def pool(output: Path, profile: Profile, device: str | None, *, workers: int | None = None,
         address: str | None = None, allow_cpu: bool | None = None,
         ) -> Callable[[Survey, Callable[[], None]], Iterator[Outcome]]:
    """The engine for `run.run`: `workers` actors (default: one for each GPU, or CPU core where there is none).

    `address` (HOST:PORT) is that of a running cluster; None starts Ray here for the time of the batch. Raises UserError
    for an address of another form, no worker, and if Ray is not installed; and, when it is iterated over, if the
    cluster can't be reached, has no room for the pool, or fails.
    """
    if workers is not None and workers < 1:
        raise UserError(f"--workers is {workers}; give at least 1.")
    if address is not None and not re.fullmatch(r".+:\d{1,5}", address):
        raise UserError(f"--address is {address!r}; give HOST:PORT, as `ray start --head` prints it.")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    if address is None:
        # Ray listens to the network, so it shall obey only who has this token; it reads these when it is imported.
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    try:
        import ray.data  # noqa: F401
    except ImportError as error:
        raise UserError(f"The Ray engine can't be imported ({error}); install it by: "
                        f"{install_extra('cluster')}") from error

    def engine(found: Survey, let_in: Callable[[], None]) -> Iterator[Outcome]:
        if found.todo:
            let_in()
            with contextlib.redirect_stdout(sys.stderr), _started(address, workers) as cluster:
                yield from _map(cluster, found, output.absolute(), profile, device, workers, allow_cpu)

    return engine


class Editing:
    """What an actor is; what stops the batch travels as a value, because Ray wraps exceptions up."""

    def __init__(self, output: Path, profile: Profile, identity: dict[str, str], device: str | None,
                 allow_cpu: bool | None = None):
        from lr_helpers.models.loading import load_models

        self.problem: UserError | None = None
        try:
            self.worker = Worker(output, profile, identity, partial(load_models, profile, device, allow_cpu=allow_cpu))
        except UserError as error:
            self.problem = error

    def __call__(self, row: dict[str, bytes]) -> dict[str, bytes]:
        try:
            outcome = self.problem or self.worker(pickle.loads(row["item"]))
        except UserError as error:
            outcome = self.problem = error
        return {"outcome": pickle.dumps(outcome)}


@contextlib.contextmanager
def _started(address: str | None, workers: int | None) -> Iterator[dict[str, float]]:
    """A connection to Ray, started here if there is no address; yields the cluster's resources."""
    import ray

    logging.getLogger("ray.data").setLevel(logging.ERROR)
    options = {"address": address} if address else {"address": "local", "include_dashboard": False,
                                                    "num_cpus": workers}
    try:
        if address:
            host, _, port = address.rpartition(":")
            socket.create_connection((host, int(port)), timeout=10).close()  # Ray itself tries for minutes
        ray.init(**options, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, OverflowError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        said = " ".join(str(error).split())[:200]
        raise UserError(f"There is no Ray cluster to be reached at {address!r} ({said}); check the address, and `ray "
                        "status` there." if address else
                        f"Ray can't be started here ({said}); start the batch without --engine ray.") from error
    try:
        yield ray.cluster_resources()
    finally:
        ray.shutdown()


def _map(cluster: dict[str, float], found: Survey, output: Path, profile: Profile, device: str | None,
         workers: int | None, allow_cpu: bool | None) -> Iterator[Outcome]:
    import ray
    from ray.data import ActorPoolStrategy, DataContext

    gpus = int(cluster.get("GPU", 0)) if device is None or device.startswith("cuda") else 0
    room = gpus or int(cluster.get("CPU", 0))
    size = min(workers or room, len(found.todo))
    if not 0 < size <= room:
        raise UserError(f"Ray has {room} {'GPUs' if gpus else 'CPU cores'} for {size} workers; give --workers {room} "
                        "or less, or add machines.")
    DataContext.get_current().enable_progress_bars = False
    rows = [{"item": pickle.dumps(item.absolute())} for item in found.todo]
    mapped = ray.data.from_items(rows, override_num_blocks=min(len(rows), BLOCKS)).map(
        Editing, fn_constructor_args=(output, profile, found.identity, device, allow_cpu),
        compute=ActorPoolStrategy(size=size, max_tasks_in_flight_per_actor=1),
        **({"num_gpus": 1} if gpus else {"num_cpus": 1}))
    try:
        for row in mapped.iter_rows():
            outcome = pickle.loads(row["outcome"])
            if isinstance(outcome, UserError):
                raise outcome
            yield outcome
    except ray.exceptions.RayError as error:
        said = str(error).strip().splitlines()[-1:] or [type(error).__name__]
        raise UserError(f"Ray stopped ({said[0][:300]}); what is done stays, so start the batch again.") from error
