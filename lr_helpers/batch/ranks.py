"""A batch by the processes that `torchrun` or `accelerate launch` has started; accelerate connects them.

Rank 0 surveys the batch and sends the others what is to do. Each rank edits its share and writes what became of it to
a file of its own in the output folder, from which rank 0 reads it. So nobody waits in a collective call, with its time
limit, for a slower one.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from datetime import timedelta
from functools import partial
from pathlib import Path

from lr_helpers.batch import folder
from lr_helpers.batch.items import Item, Plan
from lr_helpers.batch.run import Survey, run, share
from lr_helpers.batch.work import Outcome
from lr_helpers.batch.worker import Worker
from lr_helpers.errors import UserError
from lr_helpers.files import locks
from lr_helpers.files.writing import explained
from lr_helpers.models.profiles import Profile

HERE, END = b"here", b"end"
STOPPED = "stopped"
"""Status of what a rank sends when it can't go on; its message tells why."""
PATIENCE = timedelta(hours=1)
"""How long ranks wait for each other to start, and for rank 0's survey and first download."""
PROMPT = 10
"""Seconds of waiting from which on it is said."""
LEFT_OVER = "unset WORLD_SIZE and RANK, or start the batch by torchrun or accelerate launch"
LOOK = 0.3
"""Seconds between two looks at the others' files."""


def launched() -> bool:
    """Has a launcher started this process as one of several?

    Raises UserError if the environment says half of it, or nonsense: variables that a launcher left over.
    """
    if "RANK" not in os.environ or os.environ.get("WORLD_SIZE", "1") == "1":
        return False
    rank, ranks = (_whole(os.environ.get(name, "")) for name in ("RANK", "WORLD_SIZE"))
    port = _whole(os.environ.get("MASTER_PORT", ""))
    if rank is None or not ranks or rank >= ranks:
        raise UserError(f"The environment says RANK={os.environ['RANK']} of WORLD_SIZE={os.environ['WORLD_SIZE']}, "
                        f"which no launcher does; {LEFT_OVER}.")
    if not os.environ.get("MASTER_ADDR") or not port or port > 65535:
        raise UserError(f"The environment says WORLD_SIZE={ranks}, but not where the processes meet (MASTER_ADDR and "
                        f"MASTER_PORT); {LEFT_OVER}.")
    return True


def _whole(text: str) -> int | None:
    return int(text) if re.fullmatch(r"[0-9]{1,9}", text) else None


@contextlib.contextmanager
def _waiting(rank: int, ranks: int) -> Iterator[None]:
    """Say after a while what is waited for, and how to go on without it; what goes wrong becomes a sentence."""
    others = "1 other process" if ranks == 2 else f"{ranks - 1} other processes"
    text = (f"waiting for {others} that WORLD_SIZE={ranks} tells of; if nothing has started them, stop this one and "
            "unset WORLD_SIZE and RANK")
    timer = threading.Timer(PROMPT, lambda: print(text, file=sys.stderr, flush=True))
    timer.daemon = True
    timer.start()
    try:
        yield
    except (RuntimeError, ValueError, OSError) as error:
        said = " ".join(str(error).split())[:200]
        raise UserError(f"Rank {rank} did not find the {others} that WORLD_SIZE={ranks} tells of ({said}); start all "
                        "of them, or unset WORLD_SIZE and RANK.") from error
    finally:
        timer.cancel()


class Mailbox:
    """A rank's outcomes, a line of JSON each, between "here" and "end"; rank 0 removes the file when all is done.

    The rank holds a lock on it, by which rank 0 sees that it lives. Rank 0 draws its name, that of a temporary file
    of the output folder, so that the next start clears it away if this one is killed.
    """

    def __init__(self, file: Path, rank: int):
        self.file, self.rank, self.read, self.ended = file, rank, 0, False

    @contextlib.contextmanager
    def opened(self) -> Iterator[Callable[[Outcome | None], None]]:
        """For the rank itself; yields the function that sends, None as the last."""
        def send(outcome: Outcome | None) -> None:
            with explained(self.file):
                file.write((json.dumps(asdict(outcome)).encode() if outcome else END) + b"\n")
                os.fsync(file.fileno())

        with contextlib.ExitStack() as stack:
            with explained(self.file):
                file = stack.enter_context(self.file.open("ab", buffering=0))
                locks.hold(file, wait=True)  # rank 0 may be looking whether it is free
                file.write(HERE + b"\n")
            yield send

    def receive(self) -> Iterator[Outcome]:
        """For rank 0: what has come since the last call. Raises UserError if the rank had to stop, or is dead."""
        with contextlib.suppress(FileNotFoundError), self.file.open("rb") as file:  # anew: NFS looks for changes then
            dead = locks.is_free(file)
            file.seek(self.read)
            for line in file:
                if not line.endswith(b"\n"):
                    break  # the rest is on its way
                self.read += len(line)
                self.ended = line.strip() == END
                if line.strip() not in (HERE, END):
                    outcome = Outcome(**json.loads(line))
                    if outcome.status == STOPPED:
                        raise UserError(outcome.message)
                    yield outcome
            if dead and self.read and not self.ended:  # without a line, it may be about to take the lock
                raise UserError(f"Rank {self.rank} died before its share was done; start the batch again.")


def run_ranks(wanted: Callable[[], Plan], profile: Profile, device: str | None, *, quiet: bool = False,
              json_lines: bool = False, allow_cpu: bool | None = None) -> int:
    """`run.run` for a process that `launched()`; `wanted` makes the plan, in rank 0 alone.

    The exit code of rank 0 is that of the batch. Raises UserError as `run.run` does, in the rank where it happens.
    """
    import torch
    from accelerate import PartialState
    from accelerate.utils import broadcast_object_list

    from lr_helpers.models.loading import default_device, load_models

    try:
        kind = torch.device(device or default_device(profile)).type
    except RuntimeError as error:
        raise UserError(f"The device {device!r} is not available here; use 'cpu'.") from error
    if device and kind not in ("cpu", "cuda"):
        raise UserError(f"Several processes edit on CPUs or on GPUs that CUDA knows, not on {device!r}; add "
                        "--device cpu, or start one process.")
    cpu = kind != "cuda"
    here, gpus = int(os.environ.get("LOCAL_WORLD_SIZE", "1")), torch.cuda.device_count()
    if not cpu and here > gpus:
        raise UserError(f"There are {here} processes on this machine, and {gpus} GPUs; start one for each GPU, or add "
                        "--device cpu.")
    with _waiting(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])):
        state = PartialState(cpu=cpu, timeout=PATIENCE)
    load = partial(load_models, profile, "cpu" if cpu else str(state.device), allow_cpu=allow_cpu)
    rank, ranks = state.process_index, state.num_processes
    try:
        if rank == 0:
            return _lead(wanted, profile, load, ranks, lambda what: broadcast_object_list([what]), quiet, json_lines)
        sent = broadcast_object_list([None])[0]
        return _follow(*sent, profile, load, rank, ranks) if sent else 0
    finally:
        state.destroy_process_group()


def _lead(wanted: Callable[[], Plan], profile: Profile, load: Callable[[], object], ranks: int,
          send: Callable[[object], object], quiet: bool, json_lines: bool) -> int:
    """Rank 0: the batch as a whole, and its own share; `send` tells the others folder, models and items, or None."""
    boxes: list[Mailbox] = []
    told = False

    def engine(found: Survey, let_in: Callable[[], None]) -> Iterator[Outcome]:
        nonlocal told
        let_in()
        output, todo = plan.folder.absolute(), [item.absolute() for item in found.todo]
        files = [folder.output_of(output).temporary() for _ in range(1, ranks)]
        send((output, files, found.identity, todo))
        told = True
        boxes.extend(Mailbox(file, rank) for rank, file in enumerate(files, 1))
        own = share(todo, 0, ranks)
        if own:
            with contextlib.closing(Worker(output, profile, found.identity, load)) as worker:
                for item in own:
                    yield worker(item)
                    for box in boxes:
                        yield from box.receive()
        while not all(box.ended for box in boxes):
            folder.require(output)
            time.sleep(LOOK)
            for box in boxes:
                yield from box.receive()

    try:
        plan = wanted()
        return run(plan, profile, load, quiet=quiet, json_lines=json_lines, engine=engine)
    finally:
        if not told:
            send(None)
        for box in boxes:
            box.file.unlink(missing_ok=True)


def _follow(output: Path, files: Sequence[Path], identity: dict[str, str], todo: Sequence[Item], profile: Profile,
            load: Callable[[], object], rank: int, ranks: int) -> int:
    """Another rank: its share, then waiting, because a launcher may take the first that ends as a sign to stop."""
    box, own = Mailbox(files[rank - 1], rank), share(todo, rank, ranks)
    with box.opened() as send:
        try:
            if own:
                with contextlib.closing(Worker(output, profile, identity, load)) as worker:
                    for item in own:
                        send(worker(item))
            send(None)
        except UserError as error:
            send(Outcome(f"rank {rank}", STOPPED, str(error)))
        while box.file.exists():
            time.sleep(LOOK)
    return 0
