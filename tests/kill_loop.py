"""Kill every program that writes, again and again; then hold what it made against a run that was left in peace.

    python tests/kill_loop.py --kills 300
    python tests/kill_loop.py --kills 100 --victims batch

Each start is a process of its own that is ended by SIGKILL, which nothing can catch. It is forked from a process that
has imported the libraries, because imports alone take longer than all the edits here; a kill in them could harm
nothing. One process works at a time. A kill comes after a random time, or at a random call by which the victim
writes (open, write, flush, make a folder, rename, remove), which hits the moments that matter far more often.

The victims, and what of each is not as users run it:

    batch     the whole command, models loaded each time
    edit      the whole command, over what earlier ones left, in several settings; the models are loaded before the fork
    study     `study pie` with two rows of few steps; the models are loaded before the fork
    report    all of it but the notebooks' execution, which starts kernels for seconds: a notebook that was run before
              stands in
    training  the loop of all trainings, with a network of a few numbers instead of a model

In each output folder lie files of somebody else, whose every byte must stay. Prints what was counted; the exit code is
1 if anything is not as it should be.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from unittest import mock

from lr_helpers.batch.folder import RECORD
from lr_helpers.cli import main
from lr_helpers.files.outputs import LEDGER

ROOT = Path(__file__).resolve().parent.parent
TINY = ["--profile", "tiny", "--device", "cpu", "--steps", "1", "--anchors", "2", "--sizes", "0.4", "--shortlist", "1",
        "--iterations", "2", "--quiet"]


def arguments(file: Path, output: Path) -> list[str]:
    """The command of the batch."""
    return ["batch", str(file), "--images", str(ROOT / "data" / "images"), "--output", str(output), *TINY]


def batch_file(folder: Path, items: int) -> Path:
    """So many items over the sample pictures, each with its own seed."""
    entries = [{"image": f"{1 + i % 6}.png", "source": "wolf", "prompt": "a mushroom", "seed": i, "name": f"item {i:03}"}
               for i in range(items)]
    file = folder / "batch.json"
    file.write_text(json.dumps(entries), encoding="utf-8")
    return file


CALLS = ("open", "write", "fsync", "mkdir", "replace", "unlink", "rmdir")


def kill_at(number: int) -> Callable[[], int]:
    """Let this process kill itself at its `number`-th call that writes; returns what counts the calls so far."""
    left = number

    def wrapped(real: Callable) -> Callable:
        def call(*words, **options):
            nonlocal left
            writes = real is not opened or (len(words) > 1 and words[1] & os.O_CREAT)
            left -= bool(writes)
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*words, **options)
        return call

    opened = os.open
    for name in CALLS:
        setattr(os, name, wrapped(getattr(os, name)))
    return lambda: number - left


def start(run: Callable[[], int], at: int | None = None, count: Path | None = None) -> int:
    """Run in a child, which kills itself at its call number `at`; its process id. `count`: a file for the number of
    calls there were.
    """
    child = os.fork()
    if child:
        return child
    code = 99
    try:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 1)
            os.dup2(nowhere.fileno(), 2)
        counted = kill_at(at or 10**9) if at or count else None
        code = run()
        if count:
            count.write_text(str(counted()))
    finally:
        os._exit(code)


def wait(child: int, seconds: float | None = None, reached: Callable[[], bool] | None = None) -> int | None:
    """The exit code of the child, or None if it was killed: `seconds` after `reached` (default: at once) came true."""
    if seconds is not None:
        while reached and not reached():
            time.sleep(0.001)
            if (ended := os.waitpid(child, os.WNOHANG))[0]:
                return code_of(ended[1])
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(0.001)
            if (ended := os.waitpid(child, os.WNOHANG))[0]:
                return code_of(ended[1])
        os.kill(child, signal.SIGKILL)
    return code_of(os.waitpid(child, 0)[1])


def code_of(status: int) -> int | None:
    code = os.waitstatus_to_exitcode(status)
    return None if code == -signal.SIGKILL else code


# The batch


def records(output: Path) -> dict[str, tuple[int, int]]:
    """The finished items, each with its record's inode and time of change."""
    return {f.parent.name: (f.stat().st_ino, f.stat().st_mtime_ns) for f in output.glob(f"*/{RECORD}")}


def begun(output: Path) -> list[str]:
    """The names of the items whose edit was begun, by the log; once for each time."""
    if not (output / "batch.log").exists():
        return []
    lines = (output / "batch.log").read_text(encoding="utf-8").splitlines()
    assert all(line[:2] == "20" and "] " in line for line in lines), "the log has a broken line"
    return [line.split("] begin ", 1)[1] for line in lines if "] begin " in line]


def content(output: Path) -> dict[str, object]:
    """Every file of the finished items, without seconds and times."""
    found: dict[str, object] = {}
    for file in sorted(output.rglob("*")):
        if not file.is_file() or file.name == LEDGER or (file.parent == output
                                                         and not file.name.startswith("contact_sheet")):
            continue
        name = file.relative_to(output).as_posix()
        found[name] = file.read_bytes()
        if file.suffix == ".json":
            plain = json.loads(file.read_text(encoding="utf-8"))
            plain.pop("stamp", None)
            plain.get("files", {}).pop("result.json", None)  # its length depends on the digits of the seconds
            (plain.get("cost") or plain["row"]).pop("seconds")
            found[name] = plain
    return found


def loop(folder: Path, kills: int, items: int, seed: int) -> dict[str, object]:
    """Kill `kills` times, then let it end; raises AssertionError for what is not as it should be."""
    import lr_helpers.editing  # noqa: F401  what a child would import

    rng, file, output, peace = random.Random(seed), batch_file(folder, items), folder / "killed", folder / "peace"
    started = time.perf_counter()
    assert wait(start(lambda: main(arguments(file, peace)))) == 0
    times = [datetime.fromisoformat(line.split(" ", 1)[0]) for line in (peace / "batch.log").read_text().splitlines()]
    load, an_item = (times[1] - times[0]).total_seconds(), (times[-1] - times[1]).total_seconds() / items
    done, killed, unfinished = {}, 0, 0
    while killed < kills:  # as it starts, as it edits, or as it writes
        begins = len(begun(output))

        def editing(before: int = begins) -> bool:
            return len(begun(output)) > before

        def writing(before: int = begins) -> bool:
            return len(names := begun(output)) > before and (output / names[-1]).is_dir() and (
                time.time_ns() - (output / names[-1]).stat().st_mtime_ns < 1e8)

        delay, reached = rng.choice(((1.2 * load, None), (2 * an_item, editing), (0.2, writing)))
        code = wait(start(lambda: main(arguments(file, output))), rng.uniform(0, delay), reached)
        assert code is None, f"a start ended with {code} after {killed} kills; if it was done, give it more --items"
        killed += 1
        now = records(output)
        assert all(now.get(name) == state for name, state in done.items()), "a finished item was touched"
        since = begun(output)[begins:]
        assert not set(since) & set(done), "a finished item was edited again"
        unfinished += len(since) - (len(now) - len(done))
        done = now
    assert wait(start(lambda: main(arguments(file, output)))) == 0
    assert all(records(output)[name] == state for name, state in done.items()), "a finished item was touched"
    edits, stale = len(begun(output)), [str(f) for f in output.rglob("*.tmp")]
    assert not stale, f"temporary files are left: {stale}"
    assert edits == items + unfinished, f"{edits} edits begun for {items} items and {unfinished} interrupted ones"
    assert content(output) == content(peace), "the results differ from those of a batch left in peace"
    assert wait(start(lambda: main(arguments(file, output)))) == 0
    assert len(begun(output)) == edits, "a finished batch was edited again"
    return {"kills": killed, "items": items, "complete items": len(records(output)), "edits begun": edits,
            "of them interrupted by a kill": unfinished, "files compared": len(content(peace)),
            "items done when the kills ended": len(done),
            "ms an item, left in peace": round(1000 * an_item), "seconds": round(time.perf_counter() - started, 1)}


# The other victims


class Victim:
    """A program that writes into a folder. It may be started again and again, and says what is whole."""

    def __init__(self, scratch: Path):
        """Prepare all that is shared by its starts: it is forked then."""

    def run(self, output: Path, turn: int) -> int:
        """Write into the folder; the exit code. Another turn may write something else over it."""
        raise NotImplementedError

    def check(self, output: Path) -> dict[str, object]:
        """Raises AssertionError if what is there is not whole; what of it is finished and must not be touched again."""
        raise NotImplementedError

    def content(self, output: Path) -> dict[str, object]:
        """Every file, without seconds and dates."""
        return {name: file.read_bytes() for name, file in files(output).items()}


def files(output: Path) -> dict[str, Path]:
    return {file.relative_to(output).as_posix(): file for file in sorted(output.rglob("*"))
            if file.is_file() and file.name not in (LEDGER, *STRANGERS)}


STRANGERS = ("notes.txt", ".mine.tmp")


class EditVictim(Victim):
    MORE = (["--draw-boxes"], ["--anchors", "1"], ["--then", "turtle", "a red car"])

    def __init__(self, scratch: Path):
        from lr_helpers.models import loading

        self.models = loading.load_models("tiny", "cpu")
        self.main(scratch / "warm", 0)  # what is made at the first edit is made here

    def main(self, output: Path, turn: int) -> int:
        words = ["edit", "--image", str(ROOT / "data" / "images" / "1.png"), "--source", "wolf", "--prompt", "a mushroom",
                 "--output", str(output), *TINY, *self.MORE[turn % len(self.MORE)]]
        with mock.patch("lr_helpers.models.loading.load_models", lambda *_, **__: self.models):
            return main(words)

    run = main

    def check(self, output: Path) -> dict[str, object]:
        from lr_helpers.result import EditResult

        # A record is only ever beside the pictures that it tells of.
        for record in output.rglob("result.json"):
            loaded = EditResult.load(record.parent)
            assert len(list((record.parent / "results").glob("*.png"))) == len(loaded.candidates)
        if (output / "turns.json").exists():
            steps = json.loads((output / "turns.json").read_text())["steps"]
            assert all((output / step["folder"] / "result.json").exists() for step in steps)
            assert not (output / "result.json").exists()
        return {}

    def content(self, output: Path) -> dict[str, object]:
        found = super().content(output)
        for name in found:
            if name.endswith(".json"):
                plain = json.loads(found[name])
                plain["cost"].pop("seconds")
                found[name] = plain
        return found


class StudyVictim(Victim):
    def __init__(self, scratch: Path):
        from lr_helpers.models.profiles import get_profile
        from lr_helpers.study.pie.study import Pie

        rows = ["known_region", "whole_picture"]
        self.pie = Pie(scratch, ROOT / "data" / "pie_emoji", get_profile("tiny"), rows, 4, 1, device="cpu")
        self.pie.load()
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            self.run(scratch / "warm", 0)

    def run(self, output: Path, turn: int) -> int:
        from lr_helpers.study import run as study

        self.pie.folder = output
        with mock.patch.object(type(self.pie), "load", lambda _: None):
            study.run(self.pie, workers=1)
        return 0

    def check(self, output: Path) -> dict[str, object]:
        found = {}
        for record in output.glob("records/*/*.json"):
            json.loads(record.read_text())
            picture = output / "edits" / record.parent.name / f"{record.stem}.png"
            found[record.name + record.parent.name] = (record.stat().st_ino, picture.stat().st_mtime_ns)
        return found

    def content(self, output: Path) -> dict[str, object]:
        # Tables hold seconds, and their intervals; records and pictures are all they are made of.
        found = {name: data for name, data in super().content(output).items() if name.startswith(("records", "edits/"))}
        for name in found:
            if name.endswith(".json"):
                plain = json.loads(found[name])
                plain.pop("seconds")
                found[name] = plain
        return found


class ReportVictim(Victim):
    def __init__(self, scratch: Path):
        from writers import Writers

        from lr_helpers.models import loading

        models = loading.load_models("tiny", "cpu")
        self.writers = Writers(scratch / "writers", _results(models))
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            self.run(scratch / "warm", 0)

    def run(self, output: Path, turn: int) -> int:
        self.writers.report(output)
        return 0

    def check(self, output: Path) -> dict[str, object]:
        found = {}
        for record in output.glob("*.json"):
            outcome = json.loads(record.read_text())["outcome"]
            for name in (*outcome["files"].values(), *(f["file"] for f in outcome["figures"])):
                assert (output / name).is_file(), f"{record.name} tells of {name}, which is not there"
            found[record.name] = record.stat().st_ino
        if (output / "index.html").exists():
            assert (output / "index.html").read_text().rstrip().endswith("</html>")
        return found

    def content(self, output: Path) -> dict[str, object]:
        found = super().content(output)
        for name in found:
            if name.endswith(".json"):
                plain = json.loads(found[name])
                plain["outcome"].pop("seconds")
                found[name] = plain
        found.pop("index.html")  # seconds
        return found


class TrainingVictim(Victim):
    def __init__(self, scratch: Path):
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            self.run(scratch / "warm", 0)

    def run(self, output: Path, turn: int) -> int:
        import torch
        from torch import nn

        from tiny_world.zoo.training import train

        torch.manual_seed(1)
        modules = {"line": nn.Linear(8, 8), "norm": nn.BatchNorm1d(8)}

        def loss_of(step: int) -> dict[str, torch.Tensor]:
            x = torch.randn(16, 8, generator=torch.Generator().manual_seed(step))
            return {"loss": (modules["norm"](modules["line"](x)) - x.sum(1, keepdim=True)).square().mean()}

        train(modules, loss_of, folder=output, steps=24, rate=1e-2, every=3, log_every=2, export=lambda _: None)
        return 0

    def check(self, output: Path) -> dict[str, object]:
        import torch

        if (output / "log.jsonl").exists():
            assert all(json.loads(line)["step"] for line in (output / "log.jsonl").read_text().splitlines())
        if (output / "last.pt").exists():
            torch.load(output / "last.pt", weights_only=True)
        return {}

    def content(self, output: Path) -> dict[str, object]:
        import torch

        def plain(value: object) -> object:  # the same numbers may be stored as other bytes
            if isinstance(value, dict):
                return {key: plain(one) for key, one in value.items()}
            if isinstance(value, (list, tuple)):
                return [plain(one) for one in value]
            return value.tolist() if isinstance(value, torch.Tensor) else value

        return {"last.pt": plain(torch.load(output / "last.pt", weights_only=True))}


def _results(models):
    from writers import results

    return results(models)


VICTIMS = {"edit": EditVictim, "study": StudyVictim, "report": ReportVictim, "training": TrainingVictim}


def hunt(victim: Victim, scratch: Path, kills: int, seed: int) -> dict[str, object]:
    """Kill the victim so often; raises AssertionError for what is not as it should be."""
    rng, begun_at, killed, ends, at_calls = random.Random(seed), time.perf_counter(), 0, 0, 0
    peace = []
    seconds = calls = 0
    for turn in range(3):  # what each turn makes, in peace
        place = scratch / f"peace {turn}"
        before = time.perf_counter()
        assert wait(start(lambda place=place, turn=turn: victim.run(place, turn), count=scratch / "calls")) == 0
        seconds = max(seconds, time.perf_counter() - before)
        peace.append(victim.content(place))
        calls = max(calls, int((scratch / "calls").read_text()))
    output, turn, done = scratch / "killed", 0, {}
    while killed < kills:
        if not output.exists():
            output.mkdir()
            for name in STRANGERS:
                (output / name).write_bytes(b"mine")
        at = rng.randint(1, calls) if rng.random() < 0.5 else None
        code = wait(start(lambda turn=turn, at=at: victim.run(output, turn), at), rng.uniform(0, seconds) if at is None else None)
        assert code in (None, 0), f"a start ended with {code} after {killed} kills"
        now = victim.check(output)
        assert all((output / name).read_bytes() == b"mine" for name in STRANGERS), "a file of somebody else was touched"
        assert all(now.get(name) == state for name, state in done.items()), "what was finished was touched"
        done = now
        if code is None:
            killed += 1
            at_calls += at is not None
        else:  # it was done before the kill came: from the start, or over it
            ends += 1
            assert victim.content(output) == peace[turn % 3], "the results differ from those of a run left in peace"
            if not isinstance(victim, EditVictim):
                shutil.rmtree(output)
                done = {}
        turn += 1
    if output.exists():
        assert wait(start(lambda: victim.run(output, turn))) == 0
        assert victim.content(output) == peace[turn % 3], "the results differ from those of a run left in peace"
        stale = [f for f in output.rglob("*.tmp") if f.name not in STRANGERS]
        assert not stale, f"temporary files are left: {stale}"
        assert all((output / name).read_bytes() == b"mine" for name in STRANGERS), "a file of somebody else was touched"
    return {"kills": killed, "of them at a call that writes": at_calls, "calls that write, in peace": calls, "starts that ended before their kill": ends,
            "files compared": len(peace[0]), "seconds": round(time.perf_counter() - begun_at, 1)}


def shares(kills: int, victims: list[str]) -> dict[str, int]:
    """The kills of each victim, evenly."""
    return {name: kills // len(victims) + (place < kills % len(victims)) for place, name in enumerate(victims)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=300, help="in all, evenly over the victims")
    parser.add_argument("--victims", nargs="+", choices=("batch", *VICTIMS), default=["batch", *VICTIMS])
    parser.add_argument("--items", type=int, default=None,
                        help="of the batch; the default is two and a half for each kill, and 10")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # threads do not survive a fork
    total = 0
    for name, kills in shares(options.kills, options.victims).items():
        with tempfile.TemporaryDirectory() as scratch:
            try:
                if name == "batch":
                    figures = loop(Path(scratch), kills, options.items or 10 + 5 * kills // 2, options.seed)
                else:
                    (Path(scratch) / "victim").mkdir()
                    figures = hunt(VICTIMS[name](Path(scratch) / "victim"), Path(scratch), kills, options.seed)
            except AssertionError as error:
                sys.exit(f"failed: {name}: {error}")
        total += kills
        for what, value in figures.items():
            print(f"{name:10} {what:40} {value:>8}", flush=True)
    print(f"{total} kills in all, and nothing was lost")
