"""`python -m lr_helpers study pie`: check, run, summarise, print, and write JSON, CSV and Markdown."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from lr_helpers.errors import UserError
from lr_helpers.files.writing import write_bytes, write_json
from lr_helpers.study.pie import table
from lr_helpers.study.pie.items import MAPPING, load
from lr_helpers.study.pie.rows import check_rows
from lr_helpers.study.pie.runner import Settings
from lr_helpers.study.pie.runner import run as run_rows


def run(data: Path, folder: Path, rows: Sequence[str], settings: Settings, limit: int | None = None,
        workers: int | None = None) -> dict:
    """Run what is missing; write `summary.json`, `edits.csv` and `table.md` into `folder`; print the table.

    Raises UserError, after all that is wrong has been printed, if an entry of the benchmark can't be used.
    """
    check_rows(rows)
    benchmark, begun = load(data), time.perf_counter()
    for problem in benchmark.problems:
        print(problem, file=sys.stderr)
    if benchmark.problems:
        raise UserError(f"{data / MAPPING} has {len(benchmark.problems)} problems, listed above; fix these entries, "
                        "or take them out.")
    done = run_rows(benchmark, data, folder, rows, settings, limit, workers)
    groups = table.summarise(done)
    about = {"profile": settings.profile.name, "steps": settings.stepping.steps, "seed": settings.seed,
             "items": done.items, "data": benchmark.digest, **done.about}
    write_json(folder / "summary.json", {**about, "not_run": done.not_run, "groups": groups,
                                         "published": table.published()})
    write_bytes(folder / "edits.csv", table.as_csv(done.records).encode())
    setting = (f"{done.items} items of {len(benchmark.items)} in `{data.name}`, profile `{settings.profile.name}`, "
               f"{settings.stepping.steps} denoising steps, seed {settings.seed}, on {done.about['device']}.")
    write_bytes(folder / "table.md", table.markdown(groups, done, setting).encode())
    print(table.markdown({"all": groups["all"]}, done, setting))
    print(f"{len(done.records)} edits; {time.perf_counter() - begun:.0f} s in this run. Tables and pictures: {folder}")
    return {**about, "groups": groups, "not_run": done.not_run}
