"""How many threads torch takes: by what others use, by what the user has set, by the container's limit."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch

from lr_helpers.costs import busy
from lr_helpers.errors import UserError
from lr_helpers.machine import threads
from lr_helpers.machine.threads import Quota, Threads, Usage, find_quota, free_cores, prepare, threads_for, usable, wish
from lr_helpers.study.pool import _start

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def torch_as_it_was():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


# The decision


def used(others: float, own: float, seconds: float = 10.0, group: float = 0.0) -> tuple[Usage, Usage]:
    """Two looks between which others kept so many cores busy, and this process so many."""
    return (Usage(100.0, 5000.0, 300.0, 70.0),
            Usage(100.0 + seconds, 5000.0 + (others + own) * seconds, 300.0 + (group + own) * seconds, 70.0 + own * seconds))


@pytest.mark.parametrize(("cores", "others", "own", "wanted"), [
    (2, 0.0, 0.0, 2), (2, 0.0, 2.0, 2),  # nobody else: all, whatever we use ourselves
    (2, 0.2, 1.8, 2), (2, 0.4, 1.6, 1),  # a browser in the background does not count, half a core does
    (2, 1.0, 1.0, 1), (2, 2.0, 0.0, 1), (2, 1.33, 0.67, 1),  # beside one and two busy processes
    (1, 0.0, 1.0, 1), (1, 1.0, 0.0, 1),  # never none
    (16, 0.0, 16.0, 16), (16, 7.9, 8.0, 8), (16, 8.5, 4.0, 7), (16, 15.9, 0.1, 1)])
def test_threads_are_as_many_as_cores_are_free(cores, others, own, wanted):
    assert threads_for(free_cores(*used(others, own), cores), most=cores) == wanted


@pytest.mark.parametrize(("quota", "group", "own", "wanted"), [
    (2.0, 0.0, 2.0, 2), (2.0, 1.0, 1.0, 1),  # 64 cores, of which the container may use two; another process in it
    (0.5, 0.0, 0.5, 1), (3.5, 0.0, 1.0, 3), (100.0, 0.0, 1.0, 64)])
def test_a_containers_limit_counts(quota, group, own, wanted):
    assert threads_for(free_cores(*used(group, own, group=group), 64, quota), most=64) == wanted


def test_a_busy_machine_counts_in_a_container_too():
    assert threads_for(free_cores(*used(63.0, 1.0), 64, quota=8.0), most=64) == 1


def test_never_more_than_torch_takes_by_itself():
    assert threads_for(16.0, most=8) == 8  # physical cores, say


# What the user has set


@pytest.mark.parametrize(("environment", "wanted"), [
    ({}, "auto"), ({"LR_THREADS": ""}, "auto"), ({"LR_THREADS": " 3 "}, 3), ({"OMP_NUM_THREADS": "4"}, "off"),
    ({"MKL_NUM_THREADS": "1"}, "off"), ({"OMP_NUM_THREADS": ""}, "auto"), ({"LR_THREADS": "off"}, "off"),
    ({"LR_THREADS": "auto", "OMP_NUM_THREADS": "1"}, "auto"), ({"LR_THREADS": "2", "OMP_NUM_THREADS": "1"}, 2)])
def test_what_the_variables_ask_for(environment, wanted):
    assert wish(environment) == wanted


@pytest.mark.parametrize("text", ["0", "-1", "two", "1.5", "²", "9" * 20])
def test_what_is_no_number_of_threads_is_told(text):
    with pytest.raises(UserError, match=r"^LR_THREADS is .*; give a number from 1 to 1024, auto or off\.$"):
        wish({"LR_THREADS": text})


@pytest.mark.parametrize(("environment", "spin"), [
    ({}, threads.SPIN), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "passive"}, None), ({"LR_THREADS": "off"}, None),
    ({"OMP_NUM_THREADS": "2"}, threads.SPIN), ({"LR_THREADS": "two"}, threads.SPIN)])
def test_how_threads_wait_is_set_unless_it_is_already(environment, spin):
    before = dict(environment)
    prepare(environment)
    assert environment.get("GOMP_SPINCOUNT") == spin
    assert {name: environment[name] for name in before} == before


def test_it_is_set_before_torch_loads_and_torch_is_not_loaded_for_it():
    program = ("import os, sys\nimport lr_helpers\n"
               "print(os.environ['GOMP_SPINCOUNT'], [m for m in ('torch', 'numpy', 'psutil') if m in sys.modules])")
    clean = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "LR_THREADS")}
    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=clean, capture_output=True, text=True)
    assert (ran.stdout, ran.stderr) == (f"{threads.SPIN} []\n", "")


# Adapting


class Machine:
    """Torch, the clock and the counters of a machine on which others do what a test says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, cores: int = 4):
        self.at, self.busy, self.own, self.threads, self.looks = 1000.0, 0.0, 0.0, cores, 0
        monkeypatch.setattr(threads, "usable", lambda: list(range(cores)))
        monkeypatch.setattr(threads, "find_quota", lambda: None)
        monkeypatch.setattr(threads, "look", self.look)
        monkeypatch.setattr(threads.time, "monotonic", lambda: self.at)
        monkeypatch.setattr(torch, "get_num_threads", lambda: self.threads)
        monkeypatch.setattr(torch, "set_num_threads", lambda count: setattr(self, "threads", count))
        for name in ("LR_THREADS", *threads.USERS):
            monkeypatch.delenv(name, raising=False)

    def look(self, cores, quota) -> Usage:
        self.looks += 1
        return Usage(self.at, self.busy, 0.0, self.own)

    def work(self, seconds: float, others: float) -> None:
        """So long, others keep so many cores busy and we use what is left for our threads."""
        own = min(self.threads, max(1.0, 4 - others))
        self.at, self.busy, self.own = self.at + seconds, self.busy + (own + others) * seconds, self.own + own * seconds


def test_a_long_lived_process_follows_what_the_machine_does(monkeypatch):
    machine, ours = Machine(monkeypatch), Threads()
    assert ours.adapt() == 4  # nothing is known yet
    taken = []
    for others in (0, 0, 1, 2, 3, 3, 0, 0):
        machine.work(2.0, others)
        taken.append(ours.adapt())
    assert taken == [4, 4, 3, 2, 1, 1, 4, 4] and machine.threads == 4


def test_it_looks_at_most_twice_a_second(monkeypatch):
    machine, ours = Machine(monkeypatch), Threads()
    ours.adapt()
    for _ in range(9):
        machine.work(0.05, others=3)
        assert ours.adapt() == 4
    assert machine.looks == 1
    machine.work(0.1, others=3)
    assert ours.adapt() == 1 and machine.looks == 2


@pytest.mark.parametrize(("variable", "value", "wanted"), [
    ("OMP_NUM_THREADS", "4", 4), ("MKL_NUM_THREADS", "4", 4), ("LR_THREADS", "off", 4), ("LR_THREADS", "3", 3)])
def test_what_a_variable_says_stays_on_a_busy_machine(monkeypatch, variable, value, wanted):
    machine, ours = Machine(monkeypatch), Threads()
    monkeypatch.setenv(variable, value)
    for _ in range(3):
        assert ours.adapt() == wanted
        machine.work(2.0, others=4)
    assert machine.threads == wanted and machine.looks == 0


def test_what_is_set_in_torch_stays(monkeypatch):
    machine, ours = Machine(monkeypatch), Threads()
    ours.adapt()
    torch.set_num_threads(2)  # by the user
    for others in (3, 0):
        machine.work(2.0, others)
        assert ours.adapt() == 2


def test_what_was_set_in_torch_before_is_the_most(monkeypatch):
    machine, ours = Machine(monkeypatch), Threads()
    torch.set_num_threads(1)
    ours.adapt()
    machine.work(2.0, others=0)
    assert ours.adapt() == 1


def test_a_workers_share_is_fixed(monkeypatch):
    machine, ours = Machine(monkeypatch), Threads()
    monkeypatch.setattr("lr_helpers.study.pool.fix", ours.fix)
    monkeypatch.setattr("lr_helpers.study.pool.signal.signal", lambda *_: None)
    monkeypatch.setattr("lr_helpers.study.pool.threading.Thread", lambda **_: type("T", (), {"start": lambda self: None})())
    _start(2, lambda: None, ())
    for others in (3, 0):
        machine.work(2.0, others)
        assert ours.adapt() == 2


# The counters


def test_the_counters_see_a_busy_process_and_not_this_one():
    """Beside others' processes only bounds can be told: a process of ours adds to what others use."""
    quota = find_quota()

    def others(seconds: float) -> float:
        before, until = threads.look(usable(), quota), time.monotonic() + seconds
        while time.monotonic() < until:  # busy ourselves
            pass
        after = threads.look(usable(), quota)
        assert after.own - before.own <= after.at - before.at + 0.05
        assert after.cores - before.cores >= after.own - before.own - 0.1
        return len(usable()) - free_cores(before, after, len(usable()))

    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as busy:
        try:
            assert others(1.0) >= 0.15  # its fair part of a core, however crowded
        finally:
            busy.kill()
    assert others(0.5) <= len(usable()) + 0.2


@pytest.mark.parametrize(("files", "own", "cores", "used_"), [
    # version 2, seen from inside a container, and limited further down than where the process is
    ({"cpu.max": "150000 100000\n", "cpu.stat": "usage_usec 2500000\nuser_usec 1\n"}, "0::/\n", 1.5, 2.5),
    ({"a/cpu.max": "50000 100000", "a/cpu.stat": "usage_usec 1000000", "a/b/cpu.max": "max 100000",
      "a/b/cpu.stat": "usage_usec 5"}, "0::/a/b\n", 0.5, 1.0),
    # version 1, mounted together, and in a container that does not see its own group
    ({"cpu/d/cpu.cfs_quota_us": "400000", "cpu/d/cpu.cfs_period_us": "100000", "cpu/d/cpuacct.usage": "7000000000",
      "cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, "4:cpu,cpuacct:/d\n3:memory:/m\n0::/\n", 4.0, 7.0),
    ({"cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "100000", "cpu/cpuacct.usage": "3000000000"},
     "4:cpu,cpuacct:/docker/1f\n", 1.0, 3.0),
    # version 1, with the counter mounted apart
    ({"cpu/d/cpu.cfs_quota_us": "100000", "cpu/d/cpu.cfs_period_us": "50000", "cpuacct/d/cpuacct.usage": "1000000000"},
     "4:cpu:/d\n5:cpuacct:/d\n", 2.0, 1.0)])
def test_the_tightest_limit_of_the_groups_is_found(tmp_path, files, own, cores, used_):
    for name, text in files.items():
        file = tmp_path / "cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    (tmp_path / "own").write_text(own)
    quota = find_quota(tmp_path / "cgroup", tmp_path / "own")
    assert (quota.cores, quota.used()) == (cores, used_)


@pytest.mark.parametrize("files", [{}, {"cpu.max": "max 100000", "cpu.stat": "usage_usec 1"}, {"cpu.max": "nonsense"},
                                   {"cpu.max": "100000 100000"}])
def test_no_limit_is_no_limit(tmp_path, files):
    (tmp_path / "own").write_text("0::/\n")
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert find_quota(tmp_path, tmp_path / "own") is None
    assert find_quota(tmp_path, tmp_path / "missing") is None


def test_the_limit_read_is_used(tmp_path, monkeypatch):
    machine, ours = Machine(monkeypatch), Threads()
    monkeypatch.setattr(threads, "find_quota", lambda: Quota(2.0, tmp_path))
    ours.adapt()
    machine.work(2.0, others=0)
    assert ours.adapt() == 2


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity")
def test_only_the_cores_that_may_be_used_count():
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert usable() == [min(allowed)]
    finally:
        os.sched_setaffinity(0, allowed)


def test_an_edit_asks_for_the_threads_it_may_have(models, scene_picture, monkeypatch):
    from lr_helpers.boxes import box_mask
    from lr_helpers.files.pictures import to_tensor

    asked = []
    monkeypatch.setattr("lr_helpers.inpainting.adapt", lambda: asked.append(torch.get_num_threads()))
    models.editor.inpaint(to_tensor(scene_picture, 128), box_mask((0, 0, 64, 64), 128, 128)[None], "a mushroom", seed=1, steps=1)
    assert len(asked) == 1


@pytest.mark.parametrize(("quota", "wanted"), [(None, 4), (Quota(2.5, Path()), 2), (Quota(0.5, Path()), 1), (Quota(9.0, Path()), 4)])
def test_workers_share_the_cores_that_may_be_used(monkeypatch, quota, wanted):
    monkeypatch.setattr(threads, "usable", lambda: [0, 1, 2, 3])
    monkeypatch.setattr(threads, "find_quota", lambda: quota)
    assert threads.cores() == wanted


# The benchmark


def test_the_table_compares_settings_that_take_turns(monkeypatch, capsys):
    order = []

    def measured(setting: str, repeats: int, spinners: int) -> dict[str, list[float]]:
        order.append(setting)
        quiet, beside = {"defaults": (2.1, 6.3), "one thread": (4.0, 7.0), "torch's own": (2.0, 20.0)}[setting]
        late = 100.0 * (len(order) > 3)  # something has come over the machine, which hits an outlier of each alike
        return {"quiet": [quiet, quiet, quiet + late], "quiet threads": [2], "busy": [beside] * 3, "busy threads": [1]}

    monkeypatch.setattr(busy, "in_a_process", measured)
    figures = busy.run(3, 2)
    assert order == [*busy.SETTINGS, *reversed(busy.SETTINGS)]
    assert figures["defaults"] == {"quiet": 2.1, "quiet threads": 2, "busy": 6.3, "busy threads": 1}
    rows = {line[:12].strip(): line[12:].split() for line in capsys.readouterr().out.splitlines()[3:]}
    assert rows == {"defaults": ["2.10", "2", "1.05", "6.30", "1", "3.00"], "one thread": ["4.00", "2", "2.00", "7.00", "1", "1.75"],
                    "torch's own": ["2.00", "2", "1.00", "20.00", "1", "10.00"]}


def test_spinning_processes_end_with_the_block():
    with pytest.raises(ZeroDivisionError), busy.spinning(2):
        started = [p for p in psutil.Process().children() if "while True" in " ".join(p.cmdline())]
        assert len(started) == 2
        raise ZeroDivisionError
    assert not any(p.is_running() for p in started)


@pytest.mark.all
def test_the_benchmark_measures_quiet_and_busy_in_one_run(tmp_path, capsys):
    assert busy.main(["--repeats", "1", "--spinners", "1", "--output", str(tmp_path / "f.json")]) == 0
    figures = json.loads((tmp_path / "f.json").read_text(encoding="utf-8"))
    assert list(figures) == list(busy.SETTINGS)
    assert all(value > 0 for row in figures.values() for value in row.values())
    assert figures["one thread"]["quiet threads"] == figures["one thread"]["busy threads"] == 1
    own = figures["torch's own"]
    assert own["quiet threads"] == own["busy threads"] >= figures["defaults"]["busy threads"]
    assert "beside 1 spinning processes" in capsys.readouterr().out
