"""`python -m lr_helpers study`: run, summarise, print, and write JSON, CSV and figures."""

from __future__ import annotations

import time
from pathlib import Path

from lr_helpers import plots
from lr_helpers.files.writing import write_json
from lr_helpers.study.choosers import TITLES
from lr_helpers.study.runner import Settings, write_csv
from lr_helpers.study.runner import run as run_tasks
from lr_helpers.study.summary import summarise

SHOWN = ("iou", "hit", "centre_inside", "success", "target_seen", "source_gone", "others_kept", "psnr", "evaluations",
         "seconds")


def run(study: str, folder: Path, replace: int, add: int, steps: int, workers: int | None, validation: bool) -> dict:
    """Run what is missing; write `summary.json`, `tasks.csv` and figures into `folder`; print the means."""
    begun, settings = time.perf_counter(), Settings(study, steps, validation)
    records = run_tasks(settings, folder, replace, add, workers)
    summary = {"study": study, "steps": steps, "scenes": "validation" if validation else "test",
               "tasks": {"replace": replace, "add": add}, **summarise(records)}
    write_json(folder / "summary.json", summary)
    write_csv(folder / "tasks.csv", records)
    for name, figure in figures(summary).items():
        figure.savefig(folder / f"{name}.png", dpi=130)
        plots.close(figure)
    for title, means in summary["means"].items():
        _print(title, means)
    for title, rules in summary["rules"].items():
        print(f"\n{title}: if the final box were the best of the paper's whole table by …")
        for name, found in rules.items():
            print(f"  {name:40} IoU {_interval(found['iou'])}   hit {_interval(found['hit'])}")
    print(f"\n{len(records)} tasks; {time.perf_counter() - begun:.0f} s in this run. Tables and figures: {folder}")
    return summary


def figures(summary: dict) -> dict:
    """The figures of a summary by name."""
    means = summary["means"]
    titles = {name: TITLES.get(name, name) for found in means.values() for name in found}
    known = {title: m for title, m in means.items() if any("hit" in v for v in m.values())}
    drawn = {"success": plots.show_measures(means, titles, ("success", "target_seen", "source_gone", "others_kept"))}
    if known:
        drawn["regions"] = plots.show_measures(known, titles, ("hit", "iou"))
    for title, sweeps in summary["sweeps"].items():
        drawn["sweeps_" + title.replace(", ", "_").replace(" ", "_")] = plots.show_sweeps(sweeps)
    if summary["curves"] and summary["study"] == "regions":
        drawn["curves"] = plots.show_cost(summary["curves"], TITLES)
    for title, rules in summary["rules"].items():
        drawn["rules_" + title.replace(", ", "_").replace(" ", "_")] = plots.show_rules(rules, title)
    return drawn


def _interval(found: dict) -> str:
    return f"{found['value']:.2f} [{found['low']:.2f}, {found['high']:.2f}]"


def _print(title: str, means: dict) -> None:
    count = next(iter(next(iter(means.values())).values()))["count"]
    print(f"\n{title} (n = {count}): mean with 95 % interval")
    for name, measured in means.items():
        print(f"  {TITLES.get(name, name)}")
        parts = [f"{m} {_interval(measured[m])}" for m in SHOWN if m in measured]
        print("    " + "   ".join(parts))
