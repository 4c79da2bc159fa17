"""What a learned edit costs beside other processes: `python -m lr_helpers.costs.busy` (profile tiny, CPU).

One warm edit is timed on the machine as it is, and beside processes that spin, with the defaults of `threads`, with one
thread, and with torch's own. Each setting is measured in processes of its own that take turns, first in order and then
in reverse, so that what drifts hits all alike; of a setting's edits, the median counts.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import psutil

from lr_helpers.files.writing import write_json
from lr_helpers.machine.threads import USERS, usable

WAITING = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
SETTINGS = {"defaults": {}, "one thread": {"LR_THREADS": "1"}, "torch's own": {"LR_THREADS": "off"}}
"""What each sets; all other variables about threads are taken away."""
IDLE = 0.15
"""Cores in use from which on a machine is not called quiet."""


@contextmanager
def spinning(count: int):
    """So many busy processes; they end with the block."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def measure(repeats: int, spinners: int) -> dict[str, list[float]]:
    """Seconds of warm learned edits in this process, alone and beside spinning processes, and the threads taken."""
    import torch
    from PIL import Image

    from lr_helpers.editing import edit
    from lr_helpers.models.loading import load_models
    from tiny_world.scenes import scene

    models, recipe = load_models("tiny", "cpu"), scene(12, count=1)
    picture, source = Image.fromarray(recipe.render()), recipe.objects[0].name

    def seconds(seed: int) -> float:
        begun = time.perf_counter()
        edit(models, picture, source, "a rabbit", seed=seed, progress=False)
        return time.perf_counter() - begun

    seconds(0)  # warms up
    figures = {"quiet": [seconds(seed) for seed in range(repeats)], "quiet threads": [torch.get_num_threads()]}
    with spinning(spinners):
        seconds(0)  # a process that lives long has noticed
        figures |= {"busy": [seconds(seed) for seed in range(repeats)], "busy threads": [torch.get_num_threads()]}
    return figures


def in_a_process(setting: str, repeats: int, spinners: int) -> dict[str, list[float]]:
    """`measure` under a setting: what it sets is read when torch loads."""
    clean = {name: value for name, value in os.environ.items() if name not in (*USERS, *WAITING, "LR_THREADS")}
    words = [sys.executable, "-m", "lr_helpers.costs.busy", "--one", "--repeats", str(repeats),
             "--spinners", str(spinners)]
    done = subprocess.run(words, env={**clean, **SETTINGS[setting]}, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def run(repeats: int, spinners: int, turns: int = 2) -> dict[str, dict[str, float]]:
    """The table, printed and returned: by setting, seconds of an edit and threads, quiet and busy."""
    used = psutil.cpu_percent(interval=1) / 100 * psutil.cpu_count()
    print(f"{len(usable())} cores for this process; others use {used:.1f} cores now"
          + ("." if used < IDLE else ": the quiet figures are not those of a quiet machine."))
    found: dict[str, dict[str, list[float]]] = {setting: {} for setting in SETTINGS}
    for turn in range(turns):
        for setting in list(SETTINGS)[::-1 if turn % 2 else 1]:
            for name, values in in_a_process(setting, repeats, spinners).items():
                found[setting].setdefault(name, []).extend(values)
    figures = {setting: {name: round(statistics.median(values), 2) for name, values in parts.items()}
               for setting, parts in found.items()}
    best = figures["torch's own"]["quiet"]

    print(f"Seconds of a warm learned edit, median of {repeats * turns}; busy: beside {spinners} spinning processes")
    print(f"{'':12} {'quiet':>7} {'threads':>8} {'of torch':>9} {'busy':>7} {'threads':>8} {'busy / quiet':>13}")
    for setting, row in figures.items():
        print(f"{setting:12} {row['quiet']:7.2f} {row['quiet threads']:8g} {row['quiet'] / best:9.2f} "
              f"{row['busy']:7.2f} {row['busy threads']:8g} {row['busy'] / row['quiet']:13.2f}")
    return figures


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m lr_helpers.costs.busy", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3, help="edits in each process, quiet and busy (default 3)")
    parser.add_argument("--spinners", type=int, default=2, help="processes that keep the machine busy (default 2)")
    parser.add_argument("--output", type=Path, help="JSON file for the figures")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.one:
        print(json.dumps(measure(options.repeats, options.spinners)))
        return 0
    figures = run(options.repeats, options.spinners)
    if options.output:
        write_json(options.output, figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
