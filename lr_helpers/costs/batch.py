"""What the batch layer costs: `python -m lr_helpers.costs.batch` (profile tiny, CPU).

Overhead over bare edits, memory over many images, going on with a batch that is done, and images an hour with one and
two processes. Every figure comes from this one run; `--output` keeps them as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from lr_helpers.batch import folder, key
from lr_helpers.batch.items import plan
from lr_helpers.batch.progress import LOG
from lr_helpers.batch.work import edit_item
from lr_helpers.files.outputs import own_json
from lr_helpers.files.paths import DATA
from lr_helpers.files.writing import write_json
from lr_helpers.models.profiles import get_profile

SMALL = ("--steps", "1", "--anchors", "2", "--sizes", "0.4", "--shortlist", "1", "--iterations", "2")
"""For memory and resuming, where the edits themselves don't matter."""
TURNS = 2
"""Ways that are compared are gone through in order, and once more in reverse: what drifts hits all alike."""
RESUMED = 3
"""How often a finished batch is started again, after a first time that draws the contact sheets."""


def batch_file(scratch: Path, count: int) -> Path:
    """So many entries over the sample pictures, each with its own seed."""
    samples = list(json.loads((DATA / "images.json").read_text(encoding="utf-8")).items())
    entries = [{"image": image, "source": source, "prompt": prompt, "seed": i, "name": f"item {i:05}"}
               for i, (image, (source, prompt)) in ((i, samples[i % len(samples)]) for i in range(count))]
    file = scratch / f"{count}.json"
    file.write_text(json.dumps(entries, indent=1), encoding="utf-8")
    return file


def command(file: Path, images: Path, output: Path, *more: str, launcher: Sequence[str] = ()) -> list[str]:
    """The command line of a batch."""
    return [sys.executable, *launcher, "-m", "lr_helpers", "batch", str(file), "--images", str(images), "--output",
            str(output), "--device", "cpu", *more]


def overhead(scratch: Path, count: int) -> dict[str, float]:
    """Seconds of `count` items at the default setting, by the batch layer and by `edit` and `save` alone, in turn."""
    from lr_helpers.editing import edit
    from lr_helpers.models.loading import load_models

    models, identity = load_models("tiny", "cpu"), key.identity(get_profile("tiny"))
    items = plan(batch_file(scratch, count + 1), DATA / "images", scratch / "batch").items
    spent: dict[str, list[float]] = {"edit": [], "batch": []}

    def alone(item) -> None:
        result = edit(models, item.image, item.source, item.prompt, item.method, item.seed, progress=False)
        result.save(scratch / "edit" / item.name, draw_boxes=True)

    with folder.locked(scratch / "batch"):
        for i, item in enumerate(items):
            order = (("edit", alone), ("batch", lambda item: edit_item(models, item, identity)))
            for name, work in order if i % 2 else order[::-1]:
                begun = time.perf_counter()
                work(item)
                if i:  # the first warms up
                    spent[name].append(time.perf_counter() - begun)
    ratios = [batch / edit for batch, edit in zip(spent["batch"], spent["edit"], strict=True)]
    return {"edits compared": count, "seconds of an edit, median": round(statistics.median(spent["edit"]), 3),
            "seconds of a batch item, median": round(statistics.median(spent["batch"]), 3),
            "overhead %, median of pairs": round(100 * (statistics.median(ratios) - 1), 2),
            "overhead %, of the sums": round(100 * (sum(spent["batch"]) / sum(spent["edit"]) - 1), 2)}


def memory(scratch: Path, count: int) -> dict[str, float]:
    """Resident memory of the real command after each of `count` items, in its first and last quarter."""
    import psutil

    words = command(batch_file(scratch, count), DATA / "images", scratch / "memory", "--json", "--quiet", *SMALL)
    held = []
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        watched = psutil.Process(process.pid)
        for line in process.stdout:
            if json.loads(line)["event"] == "done":
                held.append(watched.memory_info().rss / 2**20)
    if process.returncode or len(held) != count:
        raise RuntimeError(f"the batch ended with {process.returncode} after {len(held)} of {count} items")
    quarter = max(1, count // 4)
    first, last = (statistics.median(part) for part in (held[:quarter], held[-quarter:]))
    return {"items": count, "MiB in the first quarter": round(first), "MiB in the last quarter": round(last),
            "growth %": round(100 * (last / first - 1), 2), "peak MiB after an item": round(max(held))}


def resume(scratch: Path, count: int) -> dict[str, float]:
    """Seconds of the real command on a batch of `count` items that is done: one item is edited, the others are its
    links.
    """
    images, output = scratch / "resume images", scratch / "resumed"
    images.mkdir()
    shutil.copy2(DATA / "images" / "1.png", images / "00000.png")
    texts, file = ["wolf", "a mushroom"], scratch / "resume.json"
    file.write_text(json.dumps({"00000.png": texts}), encoding="utf-8")
    words = command(file, images, output, "--quiet", *SMALL)
    subprocess.run(words, check=True)
    files = [f.relative_to(output / "00000") for f in (output / "00000").rglob("*") if f.is_file()]
    for name in (f"{i:05}" for i in range(1, count)):
        os.link(images / "00000.png", images / f"{name}.png")
        for part in ("results", "boxes"):
            (output / name / part).mkdir(parents=True)
        for one in files:
            os.link(output / "00000" / one, output / name / one)
    file.write_text(json.dumps({f"{i:05}.png": texts for i in range(count)}, indent=0), encoding="utf-8")
    spent, cpu = [], []
    for _ in range(1 + RESUMED):
        begun, before = time.perf_counter(), os.times()
        subprocess.run(words, check=True)
        spent.append(time.perf_counter() - begun)
        after = os.times()
        cpu.append(after.children_user + after.children_system - before.children_user - before.children_system)
    counts = json.loads((output / "summary.json").read_text(encoding="utf-8"))
    if counts["kept"] != count:
        raise RuntimeError(f"{counts['kept']} of {count} items were kept")
    return {"finished items": count, f"seconds to resume, median of {RESUMED}": round(statistics.median(spent[1:]), 2),
            f"seconds of a core, median of {RESUMED}": round(statistics.median(cpu[1:]), 2),
            "seconds of the first time, which draws the contact sheets": round(spent[0], 2)}


BARE = """
import time, torch
from lr_helpers.models.loading import load_models
torch.set_num_threads(1)
editor, picture, made = load_models("tiny", "cpu").editor, torch.rand(3, 128, 128), 0
work = lambda: editor.edit(picture, [(8, 8, 40, 40)] * 6, "a fox", seed=0, steps=1)
work()
print("ready", flush=True)
end = float(input())
while time.time() < end:
    work()
    made += 1
print(made)
"""
"""Calls of the editor until a moment, with one thread and nothing of the batch layer; prints how many."""


def machine(scratch: Path, seconds: int) -> dict[str, float]:
    """Calls of the bare editor in so many seconds by two processes at once against those by one, each with one thread:
    what this machine gives at most.
    """
    rates: dict[int, list[float]] = {1: [], 2: []}
    for processes in (1, 2, 2, 1)[:2 * TURNS]:
        running = [subprocess.Popen([sys.executable, "-c", BARE], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                    text=True) for _ in range(processes)]
        if any(one.stdout.readline() != "ready\n" for one in running):
            raise RuntimeError("the editor could not be loaded")
        end = f"{time.time() + seconds}\n"
        for one in running:
            one.stdin.write(end)
            one.stdin.flush()
        rates[processes].append(sum(int(one.communicate()[0]) for one in running) / seconds)
    one, two = (statistics.mean(found) for found in rates.values())
    return {"seconds, each way and back": seconds, "calls a second, 1 process": round(one, 2),
            "calls a second, 2 processes": round(two, 2), "2 processes against 1": round(two / one, 2)}


def throughput(scratch: Path, count: int) -> dict[str, float]:
    """Images an hour of the real command at the default setting, from the first edit's begin to the last's end, so
    without start and loading: one process with one thread, two with one each, and one with two, there and back.
    """
    file = batch_file(scratch, count)
    ways = {"1 process, 1 thread": (1, 1), "2 processes, 1 thread each": (2, 1), "1 process, 2 threads": (1, 2)}
    spent: dict[str, list[float]] = {name: [] for name in ways}
    begun: dict[str, list[float]] = {name: [] for name in ways}
    for turn, names in enumerate((list(ways), list(ways)[::-1])[:TURNS]):
        for name in names:
            processes, threads = ways[name]
            output = scratch / f"{name} {turn}"
            launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
            words = command(file, DATA / "images", output, "--quiet", launcher=launcher if processes > 1 else ())
            start = time.time()
            subprocess.run(words, check=True, env={**os.environ, "OMP_NUM_THREADS": str(threads)})
            log = (output / LOG).read_text(encoding="utf-8").splitlines()
            times = [[datetime.fromisoformat(line.split(" ", 1)[0]).timestamp() for line in log if f"] {word} " in line]
                     for word in ("begin", "done")]
            if len(times[1]) != count:
                raise RuntimeError(f"{len(times[1])} of {count} items were done")
            spent[name].append(max(times[1]) - min(times[0]))
            begun[name].append(min(times[0]) - start)
    hour = {name: 3600 * count * len(seconds) / sum(seconds) for name, seconds in spent.items()}
    one, two, threads = hour.values()
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    return {"items, each way and back": count,
            **{f"images an hour, {name}": round(value) for name, value in hour.items()},
            "2 processes against 1, 1 thread each": round(two / one, 2),
            "2 processes against 1 with 2 threads": round(two / threads, 2),
            "seconds of an item, 1 thread": round(3600 / one, 2),
            **{f"seconds until the first edit, {name}": round(statistics.mean(s), 1) for name, s in begun.items()},
            "MiB of the largest process, at its peak": round(peak)}


PARTS = {"machine": (machine, 20), "throughput": (throughput, 16), "overhead": (overhead, 20), "memory": (memory, 500),
         "resume": (resume, 10_000)}
"""Each measures in a folder of its own; the number is its default count of items, or of seconds for `machine`."""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m lr_helpers.costs.batch", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, (measure, count) in PARTS.items():
        parser.add_argument(f"--{name}", type=int, default=count, metavar="N",
                            help=f"how many; 0 leaves it out (default {count}). {' '.join(measure.__doc__.split())}")
    parser.add_argument("--output", type=Path, help="JSON file for the figures")
    options, figures = parser.parse_args(arguments), {}
    for name, (measure, _) in PARTS.items():
        if count := getattr(options, name):
            with tempfile.TemporaryDirectory() as scratch:
                figures[name] = measure(Path(scratch), count)
            for what, value in figures[name].items():
                print(f"{name:10} {what:60} {value:>10,}", flush=True)
    if options.output:
        own_json(options.output, PARTS)
        write_json(options.output, figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
