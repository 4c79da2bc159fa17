"""The notebooks run on another profile, their code unchanged: pictures, grids and batches of other sizes."""

import re
from pathlib import Path

import nbformat
import pytest

from lr_helpers.authoring import notebooks, report

SOURCES = sorted(notebooks.FOLDER.glob(notebooks.PATTERN + ".ipynb"))

# The shipped models at another size: the networks take any. One step, because pictures are not looked at.
PROFILE = """
[profiles.other]
title = "the miniature models, enlarged"
size = 96
steps = 1
guidance = 2.0
batch = 9
backbone_size = 72
vocabulary = "tiny_world/vocabulary.txt"
editor.origins = ["tiny_world/inpainting"]
backbone.origins = ["tiny_world/dino"]
clip.origins = ["tiny_world/clip"]
"""
FEWER = {"01": {"scenes": 2}, "02": {"scenes": 40}, "04": {"scenes": 2}, "05": {"runs": 2, "draws": 20}, "07": {"count": 4},
         "08": {"live": 1}, "09": {"seeds": 1}, "10": {"scenes": 1}}
"""Measurements are shortened in the cell for that: every cell runs, on less."""


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Runs a notebook on a profile "other"; returns what came of it as text, as soon as it has passed."""
    def run(source: Path, profile: str) -> str:
        data = Path(__file__).resolve().parents[1] / "data"
        (tmp_path / "data").mkdir()
        known = (data / "models.toml").read_text(encoding="utf-8")
        (tmp_path / "data" / "models.toml").write_text(known + profile, encoding="utf-8")
        for part in ("tiny_world", "studies", "photographs", "prompts.toml", "emoji_prompts.toml", "pie_emoji", "user_study.toml"):
            (tmp_path / "data" / part).symlink_to(data / part)
        (tmp_path / "notebooks").mkdir()
        notebook = nbformat.read(source, as_version=4)
        (cell,) = (c for c in notebook.cells if "parameters" in c.metadata.get("tags", []))
        for name, value in FEWER.get(source.stem[:2], {}).items():
            cell.source, found = re.subn(rf"^{name} = \d+", f"{name} = {value}", cell.source, flags=re.MULTILINE)
            assert found == 1
        nbformat.write(notebook, tmp_path / "notebooks" / source.name)
        monkeypatch.setenv("LR_DATA", str(tmp_path / "data"))
        failed = report.run("other", tmp_path / "results", [tmp_path / "notebooks" / source.name])
        assert failed == 0, capsys.readouterr().out
        return (tmp_path / "results" / source.name).read_text(encoding="utf-8")
    return run


@pytest.mark.slow
@pytest.mark.parametrize("source", SOURCES, ids=lambda s: s.stem)
def test_a_notebook_runs_unchanged_on_another_profile(source, run):
    run(source, PROFILE)


@pytest.mark.slow
@pytest.mark.parametrize("source", [s for s in SOURCES if s.stem[:2] in ("01", "06")], ids=lambda s: s.stem)
def test_models_that_know_the_world_get_a_photograph(source, run):
    # The miniatures again, which understand none of it; that there is a word list is what tells them apart.
    worldly = PROFILE.replace('vocabulary = "tiny_world/vocabulary.txt"\n', "").replace("size = 96", "size = 64")
    assert worldly != PROFILE
    assert "a dahlia in a garden" in run(source, worldly)
