"""Kill a batch at random moments, again and again, until it is done; then hold it against one that was left in peace.

    python tests/kill_loop.py --kills 100

Each start is a process of its own that runs the real command and is killed by SIGKILL as it starts, edits or writes. It is forked from a process
that has imported the libraries, because imports alone take longer than all the edits of this batch; a kill in them
could harm nothing. Prints what was counted; the exit code is 1 if anything is not as it should be.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

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


def start(words: list[str]) -> int:
    """Run the command in a child; its process id."""
    child = os.fork()
    if child:
        return child
    code = 99
    try:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        code = main(words)
    finally:
        os._exit(code)


def wait(child: int, seconds: float | None = None, reached: Callable[[], bool] | None = None) -> int | None:
    """The exit code of the child, or None if it was killed: `seconds` after `reached` (default: at once) came true."""
    if seconds is not None:
        while reached and not reached():
            time.sleep(0.001)
            if (ended := os.waitpid(child, os.WNOHANG))[0]:
                return os.waitstatus_to_exitcode(ended[1])
        time.sleep(seconds)
        if (ended := os.waitpid(child, os.WNOHANG))[0]:
            return os.waitstatus_to_exitcode(ended[1])
        os.kill(child, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return None if code == -signal.SIGKILL else code


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
        if not file.is_file() or file.name == LEDGER or (file.parent == output and not file.name.startswith("contact_sheet")):
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
    assert wait(start(arguments(file, peace))) == 0
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
        code = wait(start(arguments(file, output)), rng.uniform(0, delay), reached)
        assert code is None, f"a start ended with {code} after {killed} kills; if it was done, give it more --items"
        killed += 1
        now = records(output)
        assert all(now.get(name) == state for name, state in done.items()), "a finished item was touched"
        since = begun(output)[begins:]
        assert not set(since) & set(done), "a finished item was edited again"
        unfinished += len(since) - (len(now) - len(done))
        done = now
    assert wait(start(arguments(file, output))) == 0
    assert all(records(output)[name] == state for name, state in done.items()), "a finished item was touched"
    edits, stale = len(begun(output)), [str(f) for f in output.rglob("*.tmp")]
    assert not stale, f"temporary files are left: {stale}"
    assert edits == items + unfinished, f"{edits} edits begun for {items} items and {unfinished} interrupted ones"
    assert content(output) == content(peace), "the results differ from those of a batch left in peace"
    assert wait(start(arguments(file, output))) == 0
    assert len(begun(output)) == edits, "a finished batch was edited again"
    return {"kills": killed, "items": items, "complete items": len(records(output)), "edits begun": edits,
            "of them interrupted by a kill": unfinished, "files compared": len(content(peace)),
            "items done when the kills ended": len(done),
            "ms an item, left in peace": round(1000 * an_item), "seconds": round(time.perf_counter() - started, 1)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--items", type=int, default=None, help="the default is two and a half for each kill, and 10")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        try:
            figures = loop(Path(scratch), options.kills, options.items or 10 + 5 * options.kills // 2, options.seed)
        except AssertionError as error:
            sys.exit(f"failed: {error}")
    for name, value in figures.items():
        print(f"{name:34} {value:>8}")
