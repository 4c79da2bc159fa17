"""The loop of all studies: jobs that are done once each, on several processes, and kept; then tables and figures.

A study can be killed at any time. Started again with the same folder, it goes on with the jobs that have no record;
with other settings it is refused.
"""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from lr_helpers.errors import OutputError, UserError
from lr_helpers.files.outputs import Output
from lr_helpers.files.writing import json_bytes, prepare_folder
from lr_helpers.machine.threads import cores
from lr_helpers.study.pool import Each, worker_pool
from tiny_world import weights_digest

Job = Any
"""What a study does at a time, e.g. a task; picklable. Its record is one file."""


@dataclass
class Done:
    """What a study has found out so far."""

    records: list[dict]
    """Of the jobs that are done, in the order of the jobs."""
    not_run: dict[str, str]
    """Rows that could not be run here, or not on all jobs, and why."""
    about: dict
    """What only the loaded models can tell (`Study.about`)."""


class Study(ABC):
    """One measurement. It is pickled into every process that works on it, and loads its models there."""

    folder: Path
    """Its records lie in `records/`, its settings beside them."""
    unit = "tasks"
    """What its jobs are called."""
    shows: Sequence[str] = ()
    """Patterns of the files that `show` writes."""
    asks_models = False
    """Must `about` be known before anything is kept? Then models are loaded even where nothing is to do."""

    @abstractmethod
    def settings(self, about: dict) -> dict:
        """All that decides the results but the number of jobs: records made under other settings don't belong here."""

    def weights(self) -> str | None:
        """Which weights decide the results; by default those of the miniatures, of which a training makes others. None
        where `settings` says which models serve.
        """
        return weights_digest()

    @abstractmethod
    def jobs(self) -> Sequence[Job]:
        """All that is to do, done or not."""

    @abstractmethod
    def file(self, job: Job) -> str:
        """Where the job's record lies, as a path below `records` without ".json"; also its name in the progress bar."""

    @abstractmethod
    def load(self) -> None:
        """Load what the jobs need, once in every process."""

    @abstractmethod
    def do(self, job: Job) -> dict:
        """Do the job; its record, plain data."""

    @abstractmethod
    def summarise(self, done: Done) -> dict:
        """The tables, plain data."""

    @abstractmethod
    def show(self, summary: dict, done: Done) -> None:
        """Print the tables, and write those that are not JSON, and figures, into the folder."""

    def row(self, job: Job) -> str | None:
        """The row of the registry that the job needs, if the study shall go on without it where it can't be run."""
        return None

    def about(self) -> dict:
        """What only the loaded models can tell; asked of a worker."""
        return {}

    def processes(self) -> int:
        """How many work on it, unless the user says so."""
        return cores()

    def complete(self, job: Job, about: dict) -> bool:
        """Is its record there, and whole?"""
        return read(self.record(job)) is not None

    @property
    def output(self) -> Output:
        """The folder as all writers of the study use it."""
        return Output(self.folder, "study")

    def names(self, job: Job) -> list[str]:
        """The files that a job may write, its record last."""
        return [f"records/{self.file(job)}.json"]

    def record(self, job: Job) -> Path:
        """The record's file."""
        return self.folder / self.names(job)[-1]


def run(study: Study, workers: int | None = None) -> dict:
    """Do what is missing, by so many processes (default: one a core); write `summary.json` and what the study shows.

    Returns the summary. Raises UserError if the folder holds a study with other settings, or files at our names that
    no study wrote, and if a worker dies; what is finished stays.
    """
    begun = time.perf_counter()
    done = work(study, workers)
    summary = study.summarise(done)
    study.output.write("summary.json", json_bytes(summary))
    study.show(summary, done)
    print(f"\n{len(done.records)} {study.unit}; {time.perf_counter() - begun:.0f} s in this run. "
          f"Tables and figures: {study.folder}")
    return summary


def work(study: Study, workers: int | None = None) -> Done:
    """Do what is missing, and read all records."""
    # Nothing is loaded for a folder that can't be written to, or holds another study.
    prepare_folder(study.folder)
    jobs, about, not_run = study.jobs(), {}, {}
    study.output.sweep()
    study.output.require(["settings.json", "summary.json", *(name for job in jobs for name in study.names(job))])
    study.output.require_pattern(*study.shows)
    # A study that asks the models needs a worker even if it is done; the others load nothing then.
    todo = jobs if study.asks_models else _todo(study, jobs, about)
    if todo:
        with worker_pool(min(workers or study.processes(), len(todo)), _start, (study,)) as each:
            if study.asks_models:
                (about,) = each(_about, [()])
                todo = _todo(study, jobs, about)
            not_run = _do(study, todo, len(jobs), each)
    records = [found for job in jobs if (found := read(study.record(job))) is not None]
    return Done(records, not_run, about)


def _todo(study: Study, jobs: Sequence[Job], about: dict) -> list[Job]:
    """The jobs without a record, once the folder is known to be this study's."""
    settings, weights = study.settings(about), study.weights()
    _check_settings(study.output, {**settings, "weights": weights} if weights else settings)
    return [job for job in jobs if not study.complete(job, about)]


def _do(study: Study, todo: Sequence[Job], total: int, each: Each) -> dict[str, str]:
    """Why rows could not be run, by name."""
    not_run = {}
    with tqdm(total=total, initial=total - len(todo), desc=study.unit, unit="") as bar:
        # Results come as they are done; the records lie on the disk by then.
        for name, row, reason in each(_work, [(job,) for job in todo]):
            if reason:
                not_run[row] = reason
            bar.set_postfix_str(name)
            bar.update()
    return not_run


def _check_settings(output: Output, settings: dict) -> None:
    """Raises UserError if the folder holds records that were made under other settings."""
    file, wanted = output.folder / "settings.json", json.loads(json.dumps(settings))  # as they come back from a file
    if file.exists():
        there = read(file) or {}
        # Only what differs is named, so that one option can be set right.
        if other := [name for name in {**wanted, **there} if there.get(name) != wanted.get(name)]:
            raise UserError(f"{output.folder} holds a study with other settings ({', '.join(other)}); give another "
                            "--output, or delete it.")
    output.write(file.name, json_bytes(wanted))


def read(file: Path) -> dict | None:
    """What a JSON file holds; None if it is not there or damaged."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None


# In a worker

_here: list[Study] = []
"""The process's own copy of the study, its models loaded."""
_failed: dict[str, str] = {}
"""Rows whose models can't be had, and why: they are tried once in a process."""


def _start(study: Study) -> None:
    _failed.clear()
    study.load()
    _here[:] = [study]


def _about() -> dict:
    return _here[0].about()


def _work(job: Job) -> tuple[str, str | None, str]:
    """Do one job and store its record: its name, its row, and why the row can't be run here ("" if it can)."""
    study = _here[0]
    name, row = study.file(job), study.row(job)
    if row in _failed:
        return name, row, _failed[row]
    try:
        record = study.do(job)
    except OutputError:  # nothing further could be kept
        raise
    except UserError as error:
        if row is None:
            raise
        _failed[row] = str(error)
        return name, row, str(error)
    # Whole or not at all: what is killed before this line is done again.
    study.output.write(study.names(job)[-1], json_bytes(record))
    return name, row, ""
