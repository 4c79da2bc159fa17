"""The notebooks run on other profiles, their code unchanged: pictures, grids and batches of other sizes, and all
families of real models at reduced width. What they cost is what was said before.
"""

import ast
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import random_parts
from shorter import FEWER, shorten

from lr_helpers.authoring import notebooks, report
from lr_helpers.costs import course, random_weights
from lr_helpers.models.profiles import Profile, _read

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted(notebooks.FOLDER.glob(notebooks.PATTERN + ".py"))
PAIRS = [(family, source) for i, family in enumerate(random_weights.FULL) for j, source in enumerate(SOURCES)
         if family == "sd15" or (i + j) % 2 == 0]
"""All notebooks on one family; on each of the others every second one, so that each meets several families in less time."""

# The shipped models at another size: the networks take any. One step, because pictures are not looked at.
PROFILE = """
[profiles.other]
title = "the miniature models at another size"
size = 96
steps = 1
guidance = 2.0
batch = 9
backbone_size = 72
vocabulary = "tiny_world/vocabulary.txt"
needs_gpu = false
editor.origins = ["tiny_world/inpainting"]
backbone.origins = ["tiny_world/dino"]
clip.origins = ["tiny_world/clip"]
"""
# The miniatures again, which understand none of a photograph; that there is a word list is what tells them apart.
WORLDLY = PROFILE.replace('vocabulary = "tiny_world/vocabulary.txt"\n', "").replace("size = 96", "size = 64")


def write_family(family: str, folder: Path) -> str:
    """Reduced checkpoints of a family's true classes, three steps an edit; returns the entry of a profile "other"."""
    small, parts = random_weights.write(family, folder), {}
    if family in ("sd2", "sd15"):  # the others have no models of the comparison
        parts = {part: extra for part, extra in random_parts.write(family, folder / "parts").items()
                 if part in ("text_to_image", "instruct")}
    lines = ["", "[profiles.other]", f'title = "{family} at reduced width"', "needs_gpu = false"]
    lines += [f"{name} = {json.dumps(getattr(small, name))}"
              for name in ("size", "steps", "screening_steps", "solver", "guidance", "batch", "backbone_size")
              if getattr(small, name) is not None]
    lines += [f"{part}.origins = {json.dumps(origins)}" for part, origins in small.models.items()]
    lines += ["", "[comparison.other]"] + [f"{part}.origins = {json.dumps(extra.origins)}" for part, extra in parts.items()]
    return "\n".join(lines) + "\n"


def write_data(folder: Path, profile: str) -> None:
    """A data folder like the shipped one, with a profile "other"."""
    data = ROOT / "data"
    folder.mkdir()
    known = (data / "models.toml").read_text(encoding="utf-8")
    (folder / "models.toml").write_text(known + profile, encoding="utf-8")
    for part in data.iterdir():
        if part.name != "models.toml":
            (folder / part.name).symlink_to(part)


def write_notebook(source: Path, folder: Path) -> Path:
    """The notebook of a script, with shorter measurements, alone in a folder as in a clone."""
    notebook = notebooks.read_script(source)
    (cell,) = (c for c in notebook.cells if "parameters" in c.metadata.get("tags", []))
    cell.source = shorten(source.stem, cell.source)
    (folder / "notebooks").mkdir(parents=True)
    nbformat.write(notebook, folder / "notebooks" / f"{source.stem}.ipynb")
    return folder / "notebooks" / f"{source.stem}.ipynb"


class Cells:
    """A process that runs notebooks' cells on one profile; the next notebook finds libraries and models loaded."""

    def __init__(self, folder: Path, profile: str, name: str = "other"):
        """`profile`: the entry of a profile of this `name`; "" for one that there is."""
        self.folder, self.name = folder, name
        write_data(folder / "data", profile)
        environment = {**os.environ, "LR_DATA": str(folder / "data"), "LR_PROFILE": name, "PYTHONPATH": str(ROOT),
                       "MPLBACKEND": "module://matplotlib_inline.backend_inline"}
        self.log = (folder / "log").open("w+", encoding="utf-8", errors="replace")
        self.process = subprocess.Popen([sys.executable, str(ROOT / "tests" / "notebook_cells.py")], cwd=folder, text=True,
                                        env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log)

    @property
    def profile(self) -> Profile:
        """The profile."""
        return _read(self.folder / "data" / "models.toml")[0][self.name]

    def run(self, source: Path) -> str:
        """What the cells of this notebook showed, as soon as all have run; it must cost what was said before."""
        question = {"notebook": str(write_notebook(source, self.folder / source.stem)), "profile": self.name}
        print(json.dumps(question), file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if not answer:
            self.log.seek(0)
            pytest.fail(f"the process ended: {self.log.read()[-3000:]}")
        answer = json.loads(answer)
        assert answer["error"] is None, answer["error"]
        self.check_cost(source, answer["text"], answer["evaluations"])
        return answer["text"]

    def check_cost(self, source: Path, text: str, evaluations: int) -> None:
        """The evaluations counted in this process, and in those that notebook A1 starts, are those that were said."""
        number, profile = source.stem[:2], self.profile
        asked = {name: FEWER.get(number, {}).get(name, value) for name, value in course.defaults(number).items()}
        for record in (self.folder / source.stem / "results").glob("A1_*/*/*/item.json"):
            evaluations += json.loads(record.read_text())["row"]["evaluations"]
        found = course.cost(number, profile, **asked)
        parts = [*found.parts, *found.world]
        told = (source.stem, profile.title, evaluations, parts)
        print(*told)
        assert course.sentence(number, profile, None, **asked) in text
        exact = sum(part.evaluations for part in parts if not part.at_most)
        assert exact <= evaluations <= sum(part.evaluations for part in parts), told
        if number != "09" or "text_to_image" in profile.comparison:  # else most of its rows are left out
            assert evaluations >= 0.6 * sum(part.evaluations for part in parts), told

    def close(self) -> None:
        self.process.communicate(timeout=60)  # no question is left, so it ends
        self.log.close()


def cells(tmp_path_factory: pytest.TempPathFactory, profile: str, name: str = "other"):
    opened = Cells(tmp_path_factory.mktemp(name), profile, name)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def enlarged(tmp_path_factory):
    yield from cells(tmp_path_factory, PROFILE)


@pytest.fixture(scope="module")
def worldly(tmp_path_factory):
    assert WORLDLY != PROFILE
    yield from cells(tmp_path_factory, WORLDLY)


@pytest.fixture(scope="module")
def family(tmp_path_factory, request):
    folder = tmp_path_factory.mktemp(request.param)
    yield from cells(tmp_path_factory, write_family(request.param, folder))


@pytest.fixture(scope="module")
def miniatures(tmp_path_factory):
    yield from cells(tmp_path_factory, "", "tiny")


@pytest.mark.parametrize("source", SOURCES, ids=lambda s: s.stem)
def test_what_a_notebook_imports_is_there(source):
    """Seen without running it, as the default command does not run all of them."""
    found = 0
    for cell in notebooks.read_script(source).cells:
        if cell.cell_type == "code":
            for node in ast.walk(ast.parse(cell.source)):
                if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] in ("lr_helpers", "tiny_world"):
                    for name in node.names:
                        assert hasattr(importlib.import_module(node.module), name.name) or importlib.import_module(
                            f"{node.module}.{name.name}")
                        found += 1
    assert found


@pytest.mark.all
@pytest.mark.parametrize("source", SOURCES, ids=lambda s: s.stem)
def test_a_notebook_runs_unchanged_on_another_profile(source, enlarged):
    enlarged.run(source)


@pytest.mark.all
@pytest.mark.parametrize("source", [s for s in SOURCES if s.stem[:2] in ("01", "06")], ids=lambda s: s.stem)
def test_models_that_know_the_world_get_a_photograph(source, worldly):
    assert "a dahlia in a garden" in worldly.run(source)


@pytest.mark.all
@pytest.mark.parametrize(("family", "source"), PAIRS, indirect=["family"],
                         ids=lambda one: one if isinstance(one, str) else one.stem)
def test_a_notebook_runs_on_each_family_of_real_models(source, family):
    text = family.run(source)
    if source.stem[:2] in ("01", "04", "08"):
        assert "Skipped with this profile: " in text


@pytest.mark.all
@pytest.mark.parametrize("source", [s for s in SOURCES if s.stem[:2] in ("08", "09", "10")], ids=lambda s: s.stem)
def test_what_only_the_miniatures_repeat_costs_what_was_said(source, miniatures):
    miniatures.run(source)


@pytest.mark.all
def test_a_report_runs_a_notebook_on_another_profile(tmp_path, monkeypatch, capsys):
    """As `python -m lr_helpers report` does: by papermill, in a kernel, the profile given as a parameter."""
    write_data(tmp_path / "data", PROFILE)
    (source,) = (s for s in SOURCES if s.stem[:2] == "02")
    notebook = write_notebook(source, tmp_path)
    monkeypatch.setenv("LR_DATA", str(tmp_path / "data"))
    assert report.run("other", tmp_path / "results", [notebook]) == 0, capsys.readouterr().out
    assert "the miniature models at another size" in (tmp_path / "results" / notebook.name).read_text(encoding="utf-8")
