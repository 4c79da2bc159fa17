"""How many CPU threads torch takes, so that an edit stays fast on a machine that others use too.

This is the one place where that is decided. With torch's own defaults, two threads that wait for each other beside two
busy processes on two cores make an edit four to twelve times slower, beside six busy processes fifty times. So

- before torch loads, its threads are told to wait only shortly by spinning (GOMP_SPINCOUNT), and then to sleep;
- before every edit, torch gets as many threads as there are cores free now (`adapt`): those that this process may use
  (affinity, limit of the container) less what other processes have used since the last look.

What you set wins:

    LR_THREADS=4        4 threads, always        LR_THREADS=auto   what is said above, whatever else is set
    LR_THREADS=off      everything as torch has it
    OMP_NUM_THREADS=4   4 threads, always        OMP_WAIT_POLICY, GOMP_SPINCOUNT   how threads wait

and so does `torch.set_num_threads` after the models are loaded; before, it sets the most that are taken. Processes that
share a machine on purpose (studies, torchrun, Ray) have a fixed share each and do not adapt.

The same seed and the same number of threads give the same bits. Another number changes the order in which numbers are
summed up, and with it the last digits of a loss; pixels of 8 bits have been the same in all our trials.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from math import floor
from pathlib import Path

from lr_helpers.errors import UserError

SPIN = "10000"
"""Turns that a waiting thread spins before it sleeps. libgomp's own 300,000 double the time of an edit beside two busy
processes; with 1,000 one takes longer on a quiet machine."""
SLACK = 0.3
"""Cores that others may use before a thread is given up for them."""
INTERVAL = 0.5
"""Seconds over which use is measured at least: the system counts it in hundredths."""
MOST = 1024
"""Threads that can be asked for."""
USERS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""Variables by which a user, torchrun, accelerate or Ray has chosen already."""


def wish(environment: Mapping[str, str] = os.environ) -> int | str:
    """What the variables ask for: a number of threads, "auto", or "off"; raises UserError for anything else."""
    text = environment.get("LR_THREADS", "").strip()
    if text in ("auto", "off"):
        return text
    if not text:
        return "off" if any(environment.get(name) for name in USERS) else "auto"
    if not text.isdecimal() or not 0 < int(text) <= MOST:
        raise UserError(f"LR_THREADS is {text!r}; give a number from 1 to {MOST}, auto or off.")
    return int(text)


def prepare(environment: MutableMapping[str, str] = os.environ) -> None:
    """Set how torch's threads wait, which is read when torch loads. Called when lr_helpers is imported.

    What is set already stays. Processes that are started from here get the same.
    """
    if environment.get("LR_THREADS", "").strip() != "off" and "OMP_WAIT_POLICY" not in environment:
        environment.setdefault("GOMP_SPINCOUNT", SPIN)


# What there is and what is used


@dataclass(frozen=True)
class Quota:
    """A limit that the system sets to a group of processes (cgroup), as a container's."""

    cores: float
    usage: Path
    """The file with the CPU time that the group has used so far."""

    def used(self) -> float:
        """Seconds of CPU time that the group has used so far."""
        text = self.usage.read_text(encoding="utf-8")
        if self.usage.name == "cpu.stat":  # version 2: lines like "usage_usec 1234"
            return int(dict(line.split() for line in text.splitlines())["usage_usec"]) / 1e6
        return int(text) / 1e9


def find_quota(mounted: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> Quota | None:
    """The tightest limit on this process's cores; None where there is none, as on a Mac."""
    found = []
    try:
        lines = own.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    for line in lines:  # like "0::/user.slice" in version 2, "4:cpu,cpuacct:/docker/1f" in version 1
        _, controllers, group = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        base = mounted / "cpu" if controllers else mounted
        inner = base / group.lstrip("/")
        # A limit of a group holds for the groups in it; in a container only the outer folders can be seen.
        for folder in (inner, *inner.parents):
            if limit := _limit(folder, mounted):
                found.append(limit)
            if folder == base:
                break
    return min(found, key=lambda quota: quota.cores, default=None)


def _limit(folder: Path, mounted: Path) -> Quota | None:
    """The limit that one group's folder sets, if it does."""
    try:
        if (folder / "cpu.max").is_file():  # version 2: "200000 100000" or "max 100000", microseconds
            most, period = (folder / "cpu.max").read_text(encoding="utf-8").split()
            usage = folder / "cpu.stat"
        else:
            most, period = (int((folder / f"cpu.cfs_{name}_us").read_text(encoding="utf-8"))
                            for name in ("quota", "period"))
            usage = folder / "cpuacct.usage"
            if not usage.is_file():  # the counter is mounted apart from the limit
                usage = mounted / "cpuacct" / folder.relative_to(mounted / "cpu") / "cpuacct.usage"
        if most in ("max", -1) or not usage.is_file():
            return None
        return Quota(int(most) / int(period), usage)
    except (OSError, ValueError):
        return None


def usable() -> list[int]:
    """The numbers of the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def cores() -> int:
    """How many cores this process may use, by affinity and by the limit of its container: one or more."""
    quota = find_quota()
    return max(1, min(len(usable()), floor(quota.cores) if quota else len(usable())))


@dataclass(frozen=True)
class Usage:
    """CPU seconds used up to a moment."""

    at: float
    """Of `time.monotonic`."""
    cores: float
    """By all processes, on the cores that this one may use."""
    group: float
    """By the group with the quota; 0 where there is none."""
    own: float
    """By this process, all its threads."""


def look(cores: list[int], quota: Quota | None) -> Usage:
    """What has been used up to now."""
    import psutil

    busy = 0.0
    times = psutil.cpu_times(percpu=True)
    for number in cores:
        if number < len(times):
            spent = times[number]._asdict()
            # Time of guests is in "user" already; in the rest the core was free.
            busy += sum(s for name, s in spent.items() if name not in ("idle", "iowait", "guest", "guest_nice"))
    return Usage(time.monotonic(), busy, quota.used() if quota else 0.0, time.process_time())


def free_cores(before: Usage, after: Usage, cores: int, quota: float | None = None) -> float:
    """How many cores others left free between two looks: of `cores`, and of what the `quota` allows."""
    seconds, own = after.at - before.at, after.own - before.own
    free = cores - max(0.0, after.cores - before.cores - own) / seconds
    if quota is not None:
        free = min(free, quota - max(0.0, after.group - before.group - own) / seconds)
    return free


def threads_for(free: float, most: int) -> int:
    """How many threads to take where so many cores are free: 1 to `most`."""
    return max(1, min(most, floor(free + SLACK)))


# Adapting


class Threads:
    """The number of torch's threads in this process."""

    def __init__(self) -> None:
        self.most = 0
        """What torch has taken by itself; more are never given."""
        self.given = 0
        self.before: Usage | None = None
        self.left_alone = False

    def fix(self, count: int) -> None:
        """From now on so many, whatever others do: a worker's share of the machine."""
        import torch

        torch.set_num_threads(count)
        self.left_alone = True

    def adapt(self) -> int:
        """Give torch as many threads as there are cores free now; how many it has then.

        Cheap enough for every edit: it compares what was used since the last look, and looks every INTERVAL at most.
        Raises UserError for a value of LR_THREADS that can't be.
        """
        import torch

        now = torch.get_num_threads()
        if self.left_alone:
            return now
        wanted = wish()
        if isinstance(wanted, int):
            self.fix(wanted)
            return wanted
        if not self.most:
            self.most = self.given = now
        if wanted == "off" or now != self.given:  # the latter: somebody has chosen since
            self.left_alone = True
            return now
        if self.before and time.monotonic() - self.before.at < INTERVAL:
            return now

        numbers, quota = usable(), find_quota()
        after = look(numbers, quota)
        if self.before:
            free = free_cores(self.before, after, len(numbers), quota.cores if quota else None)
            self.given = threads_for(free, min(self.most, len(numbers)))
            if self.given != now:
                torch.set_num_threads(self.given)
        self.before = after
        return self.given


_threads = Threads()
adapt, fix = _threads.adapt, _threads.fix
