"""The batch by several processes: real launchers, a real Ray pool, and workers that are killed over an item."""

import contextlib
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch
from kill_loop import begun, content

from lr_helpers.batch import folder, key
from lr_helpers.batch.items import plan
from lr_helpers.batch.progress import LOG, Log
from lr_helpers.batch.ranks import STOPPED, Mailbox, _lead
from lr_helpers.batch.ray_pool import _map, _started, pool
from lr_helpers.batch.run import Survey, run
from lr_helpers.batch.work import DONE, FAILED, Outcome
from lr_helpers.batch.worker import TRIES, Worker
from lr_helpers.cli import main
from lr_helpers.errors import OutputError, UserError
from lr_helpers.files.paths import DATA
from lr_helpers.models.profiles import get_profile

ROOT, TINY = Path(__file__).resolve().parents[1], get_profile("tiny")
CHANGES = {"steps": 1, "anchors": 2, "sizes": (0.4,), "shortlist": 1, "iterations": 2}
ITEMS = 7
needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed (extra: cluster)")


def batch_file(there: Path, count: int = ITEMS) -> Path:
    """So many items over the sample pictures; number 4 is the only one of 5.png."""
    entries = [{"image": f"{1 + i % 6}.png", "source": "wolf", "prompt": "a mushroom", "seed": i, "name": f"item {i}"}
               for i in range(count)]
    file = there / f"{count}.json"
    file.write_text(json.dumps(entries), encoding="utf-8")
    return file


def command(file: Path, output: Path, *more: str, images: Path = DATA / "images") -> list[str]:
    return ["-m", "lr_helpers", "batch", str(file), "--images", str(images), "--output", str(output), "--profile",
            "tiny", "--device", "cpu", "--steps", "1", "--anchors", "2", "--sizes", "0.4", "--shortlist", "1", "--iterations", "2",
            "--quiet", *more]


def environment(**more: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if k not in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_ADDRESS")}
    return {**kept, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **more}


def start(words: list[str], **more: str) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            env=environment(**more), cwd=ROOT)


TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
ACCELERATE = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes=2", "--num_machines=1",
              "--mixed_precision=no", "--dynamo_backend=no", "--main_process_port=0"]


def workers_of(output: Path) -> dict[str, list[str]]:
    """Process id → the items it began, by the log."""
    found: dict[str, list[str]] = {}
    for pid, name in re.findall(r"\[(\d+)\] begin (.*)", (output / LOG).read_text(encoding="utf-8")):
        found.setdefault(pid, []).append(name)
    return found


def kill_a_worker(output: Path, process: subprocess.Popen) -> str:
    """SIGKILL a worker as soon as it has begun an item that is not done; the item's name."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError, ValueError):
            for pid, names in workers_of(output).items():
                if not (output / names[-1] / folder.RECORD).exists():
                    os.kill(int(pid), signal.SIGSTOP)  # so that it can't end the item meanwhile
                    if not (output / names[-1] / folder.RECORD).exists():
                        os.kill(int(pid), signal.SIGKILL)
                        return names[-1]
                    os.kill(int(pid), signal.SIGCONT)
        time.sleep(0.01)
    process.terminate()  # a launcher passes it on
    raise AssertionError(f"no item was begun: {process.communicate(timeout=60)}")


@pytest.fixture(scope="module")
def alone(models, tmp_path_factory):
    """What the same batch by one process gives."""
    there, threads = tmp_path_factory.mktemp("alone"), torch.get_num_threads()
    wanted = plan(batch_file(there), DATA / "images", there / "out", changes=CHANGES)
    torch.set_num_threads(1)  # as a rank or an actor has, for the very bits
    assert run(wanted, TINY, lambda: models, quiet=True) == 0
    torch.set_num_threads(threads)
    return content(there / "out")


@pytest.mark.all
def test_ranks_that_are_killed_and_started_again_do_what_one_process_does(alone, tmp_path):
    file, output, images = batch_file(tmp_path), tmp_path / "out", tmp_path / "images"
    shutil.copytree(DATA / "images", images)
    (images / "5.png").write_bytes(b"no picture")
    first = start([*TORCHRUN, *command(file, output, images=images)])
    killed = kill_a_worker(output, first)
    _, errors = first.communicate(timeout=300)
    assert first.returncode != 0 and "SIGKILL" in errors
    done = {f.parent.name: f.stat().st_mtime_ns for f in output.glob(f"*/{folder.RECORD}")}
    assert killed not in done

    second = start([*ACCELERATE, *command(file, output, "--json", images=images)])
    said, errors = second.communicate(timeout=400)
    assert second.returncode == 1, errors  # for the picture that is none
    assert errors.count("refused: item 4: 5.png is not a picture that can be read") == 1
    assert "7 entries: " in errors and " 1 refused" in errors
    events = [json.loads(line) for line in said.splitlines()]
    assert [e["event"] for e in events].count("start") == [e["event"] for e in events].count("end") == 1
    todo = [f"item {i}" for i in range(ITEMS) if f"item {i}" not in done]
    assert sorted(e["name"] for e in events if e["event"] in ("done", "refused")) == todo
    # Each rank has taken every other one of what was left to do.
    text = (output / LOG).read_text(encoding="utf-8").rpartition("] start ")[2]
    shares: dict[str, list[str]] = {}
    for pid, name in re.findall(r"\[(\d+)\] begin (.*)", text):
        shares.setdefault(pid, []).append(name)
    assert sorted(shares.values()) == sorted(part for part in (todo[::2], todo[1::2]) if part)
    assert all((output / name / folder.RECORD).stat().st_mtime_ns == when for name, when in done.items())
    assert without_item_4(content(output)) == without_item_4(alone)
    assert not list(output.rglob("*.tmp"))


def without_item_4(files: dict[str, object]) -> dict[str, object]:
    return {name: data for name, data in files.items() if not name.startswith(("item 4/", "contact_sheet"))}


@pytest.mark.all
@needs_ray
def test_a_killed_actors_item_is_given_out_again(alone, tmp_path):
    output = tmp_path / "out"
    ran = start(command(batch_file(tmp_path), output, "--engine", "ray", "--workers", "2", "--json"))
    killed = kill_a_worker(output, ran)
    said, errors = ran.communicate(timeout=500)
    assert ran.returncode == 0, errors
    events = [json.loads(line) for line in said.splitlines()]  # what Ray prints goes elsewhere
    assert sorted(e["name"] for e in events if e["event"] == "done") == [f"item {i}" for i in range(ITEMS)]
    assert {name: begun(output).count(name) for name in begun(output)} == {
        f"item {i}": 1 + (f"item {i}" == killed) for i in range(ITEMS)}
    assert content(output) == alone
    assert not list(output.rglob("*.tmp"))


@needs_ray
def test_ray_is_only_started_for_what_is_to_do_and_asked_for_what_there_is(models, tmp_path, monkeypatch):
    import ray

    wanted = plan(batch_file(tmp_path, 1), DATA / "images", tmp_path / "out", changes=CHANGES)
    assert run(wanted, TINY, lambda: models, quiet=True) == 0
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_USAGE_STATS_ENABLED"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv(name, "")
    assert run(wanted, TINY, lambda: models, quiet=True, engine=pool(wanted.folder, TINY, "cpu")) == 0
    assert not ray.is_initialized()
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0" and len(os.environ["RAY_AUTH_TOKEN"]) == 64
    with pytest.raises(UserError, match="--workers is 0; give at least 1"):
        pool(wanted.folder, TINY, "cpu", workers=0)
    with pytest.raises(UserError, match="--address is 'auto'; give HOST:PORT"):
        pool(wanted.folder, TINY, "cpu", address="auto")
    found = Survey(key.identity(TINY), [], list(wanted.items * 3), {})
    with pytest.raises(UserError, match="Ray has 1 CPU cores for 2 workers; give --workers 1 or less"):
        next(_map({"CPU": 1.0}, found, wanted.folder, TINY, "cpu", 2, None))
    with pytest.raises(UserError, match=r"no Ray cluster to be reached at '127\.0\.0\.1:1' \(.*refused\)"), _started(
            "127.0.0.1:1", None):
        pass


def test_without_ray_the_way_to_it_is_told(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)  # what Python itself does for a module that can't be imported
    arguments = command(batch_file(tmp_path, 1), tmp_path / "out", "--engine", "ray")[2:]
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert "-c constraints.txt -e '.[cluster]'" in said and said.count("\n") == 1
    assert not (tmp_path / "out").exists()
    assert main([*arguments[:-2], "--workers", "2"]) == 2
    assert "belong to --engine ray" in capsys.readouterr().err


# A worker by itself


@pytest.fixture
def begun_batch(models, tmp_path):
    """Items, and their locked output folder with workers let in."""
    wanted = plan(batch_file(tmp_path, 3), DATA / "images", tmp_path / "out", changes=CHANGES)
    with folder.locked(wanted.folder) as let_in:
        let_in()
        yield wanted


def test_a_worker_does_no_item_twice_and_gives_up_one_that_kills(models, begun_batch):
    identity, items = key.identity(TINY), begun_batch.items
    make = partial(Worker, begun_batch.folder, TINY, identity, lambda: models)
    with contextlib.closing(make()) as worker:
        first = worker(items[0])
        record = (items[0].folder / folder.RECORD).read_bytes()
        assert first.status == DONE
        assert worker(items[0]) == Outcome("item 0", DONE, row=first.row)
        assert (items[0].folder / folder.RECORD).read_bytes() == record
    assert begun(begun_batch.folder) == ["item 0"]

    log = Log(begun_batch.folder / LOG)
    for _ in range(TRIES):
        log.write("begin item 1")
    with contextlib.closing(make()) as worker:
        gone = worker(items[1])
        assert (gone.status, f"after {TRIES} workers died over it" in gone.message) == (FAILED, True)
        assert worker(items[2]).status == DONE
    log.write("start 3 items, 2 of them done already")  # another run tries it anew
    log.close()
    with contextlib.closing(make()) as worker:
        assert worker(items[1]).status == DONE


def test_a_worker_with_other_models_is_refused(models, begun_batch):
    identity = {**key.identity(TINY), "clip": "another"}
    with pytest.raises(UserError, match=r"not those of the batch's main process \(clip\); give both machines the same"):
        Worker(begun_batch.folder, TINY, identity, lambda: models)


def test_no_batch_begins_while_a_worker_of_another_lives(models, tmp_path):
    wanted = plan(batch_file(tmp_path, 1), DATA / "images", tmp_path / "out", changes=CHANGES)
    with folder.locked(wanted.folder) as let_in:
        with pytest.raises(OutputError, match="Another batch has begun to write"), folder.joined(wanted.folder):
            pass
        let_in()
        worker = Worker(wanted.folder, TINY, key.identity(TINY), lambda: models)
    with pytest.raises(OutputError, match="Another batch"), folder.locked(wanted.folder):
        pass
    worker.close()
    with folder.locked(wanted.folder):
        pass


# What ranks tell each other


def test_the_others_are_sent_home_if_there_is_nothing_to_lead(tmp_path):
    def wanted():
        raise UserError("The batch file is bad.")

    sent = []
    with pytest.raises(UserError, match="is bad"):
        _lead(wanted, TINY, lambda: None, 2, sent.append, True, False)
    assert sent == [None]


def test_outcomes_arrive_once_each_and_whole(tmp_path):
    box, reader = Mailbox(tmp_path / "box", 1), Mailbox(tmp_path / "box", 1)
    assert list(reader.receive()) == []
    outcomes = [Outcome("ä\n", DONE, row={"box": [1, 2, 3, 4], "warnings": []}), Outcome("b", FAILED, "x", detail="y\nz")]
    with box.opened() as send:
        send(outcomes[0])
        assert list(reader.receive()) == outcomes[:1]
        with box.file.open("ab") as file:
            file.write(b'{"name": "ha')  # half a line
            file.flush()
            assert list(reader.receive()) == [] and not reader.ended
            file.write(b'lf", "status": "done"}\n')
        send(outcomes[1])
        assert [o.name for o in reader.receive()] == ["half", "b"]
        send(None)
        assert list(reader.receive()) == [] and reader.ended


def test_a_rank_that_stopped_or_died_is_noticed(tmp_path):
    program = ("import sys, time\nfrom pathlib import Path\nfrom lr_helpers.batch.ranks import Mailbox\n"
               "with Mailbox(Path(sys.argv[1], 'box'), 1).opened():\n    print('here', flush=True)\n    time.sleep(600)\n")
    with start(["-c", program, str(tmp_path)]) as other:
        assert other.stdout.readline() == "here\n"
        reader = Mailbox(tmp_path / "box", 1)
        assert list(reader.receive()) == []
        other.kill()
        other.wait()
        with pytest.raises(UserError, match="Rank 1 died before its share was done; start the batch again"):
            list(reader.receive())
    with Mailbox(tmp_path / "two", 2).opened() as send:
        send(Outcome("rank 2", STOPPED, "The disk is full."))
        with pytest.raises(UserError, match=r"The disk is full\."):
            list(Mailbox(tmp_path / "two", 2).receive())
