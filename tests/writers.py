"""All that writes into output folders, made cheap: no model is asked, but every file is written as it always is.

Shared by the tests of what is replaced and removed (test_outputs.py), of full disks, and by the kill loop.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from unittest import mock

import nbformat
from PIL import Image

from lr_helpers.authoring import report
from lr_helpers.batch import key, run
from lr_helpers.batch.items import plan
from lr_helpers.method import METHODS
from lr_helpers.models.profiles import get_profile
from lr_helpers.result import EditResult
from lr_helpers.sequence import Turns
from lr_helpers.study import run as study_run
from tiny_world.scenes import Placed, Recipe

SCENE = Recipe("grass", 5, (Placed("lion", 8, 56, 64), Placed("strawberry", 80, 16, 48)))
QUICK = METHODS["learned"].but(steps=1, anchors=3, shortlist=2, iterations=1)
NUMBER = 3
"""Items of the batch, jobs of the study."""


def results(models) -> tuple[EditResult, EditResult]:
    """Two edits: of three anchors, and of one."""
    from lr_helpers.editing import edit

    picture = Image.fromarray(SCENE.render())
    return (edit(models, picture, "lion", "a fox", QUICK, progress=False),
            edit(models, picture, "lion", "a cat", QUICK.but(anchors=1), seed=7, progress=False))


@dataclass
class Squares(study_run.Study):
    """A study whose jobs are numbers."""

    folder: Path
    count: int
    shows = ("table.md", "figure_*.png")

    def settings(self, about):
        return {"squares": True}

    def jobs(self):
        return range(self.count)

    def file(self, job):
        return f"part_{job % 2}/{job}"

    def load(self):
        pass

    def do(self, job):
        return {"square": job ** 2}

    def summarise(self, done):
        return {"sum": sum(record["square"] for record in done.records)}

    def show(self, summary, done):
        self.output.write("table.md", f"sum {summary['sum']}\n".encode())
        self.output.write("figure_sum.png", b"a figure")


class Writers:
    """Ways to write into a folder, by name; each is called with the folder, and makes the same files every time."""

    def __init__(self, scratch: Path, edits: tuple[EditResult, EditResult]):
        self.large, self.small = edits
        self.turns = Turns([self.small, self.large], [])
        self.scratch = scratch
        images = scratch / "images"
        images.mkdir(parents=True)
        for number in range(NUMBER):
            self.small.original.save(images / f"{number}.png")
        self.batch_file = scratch / "batch.json"
        self.batch_file.write_text(json.dumps({f"{n}.png": ["lion", "a cat"] for n in range(NUMBER)}))
        self.books = []
        for name in ("01_one", "02_two"):
            cell = nbformat.v4.new_code_cell("1", id="a")
            picture = self.small.original
            buffer = io.BytesIO()
            picture.save(buffer, "PNG")
            encoded = base64.b64encode(buffer.getvalue()).decode()
            cell.outputs = [nbformat.v4.new_output("display_data", {"image/png": encoded})]
            title = nbformat.v4.new_markdown_cell(f"# {name}", id="b")
            self.books.append(scratch / f"{name}.ipynb")
            nbformat.write(nbformat.v4.new_notebook(cells=[title, cell]), self.books[-1])

    def edit(self, folder: Path) -> None:
        self.large.save(folder, draw_boxes=True)

    def smaller_edit(self, folder: Path) -> None:
        self.small.save(folder)

    def edits_in_turn(self, folder: Path) -> None:
        self.turns.save(folder)

    def batch(self, folder: Path) -> None:
        made = replace(self.small, warnings=[])
        wanted = plan(self.batch_file, self.scratch / "images", folder)
        with (mock.patch("lr_helpers.editing.edit_checked", lambda *_, **__: replace(made, warnings=[])),
              mock.patch.object(key, "identity", lambda _: {"models": "none"}),
              contextlib.redirect_stderr(io.StringIO())):
            run.run(wanted, get_profile("tiny"), lambda: None, quiet=True)

    def study(self, folder: Path) -> None:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            study_run.run(Squares(folder, NUMBER), workers=1)

    def report(self, folder: Path) -> None:
        with (mock.patch.object(report, "_execute", _executed), mock.patch.object(report, "surroundings", _nothing),
              mock.patch.object(report, "machine", _nothing), mock.patch.object(report, "now", lambda: "today"),
              mock.patch.object(report, "render", lambda _: "<html>"), contextlib.redirect_stdout(io.StringIO())):
            report.run("tiny", folder, self.books)

    def ways(self) -> dict[str, Callable[[Path], None]]:
        names = ("edit", "smaller_edit", "edits_in_turn", "batch", "study", "report")
        return {name: getattr(self, name) for name in names}


def _executed(source: Path, target: Path, profile: str, minutes: float) -> tuple[None, int, int]:
    """In place of papermill, whose notebooks take seconds: a notebook that was run before."""
    target.write_bytes(source.read_bytes())
    return None, 0, 0


def _nothing(profile: str) -> dict[str, str]:
    return {"profile": profile}


def files(folder: Path) -> Iterator[Path]:
    """All files below a folder, links included."""
    return (f for f in folder.rglob("*") if f.is_symlink() or f.is_file())
