"""The notebooks run unchanged on another profile: pictures, grids and batches of other sizes."""

import shutil
from pathlib import Path

import pytest

from lr_helpers import notebooks, report

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
editor.sources = ["tiny_world/inpainting"]
backbone.sources = ["tiny_world/dino"]
clip.sources = ["tiny_world/clip"]
"""



@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Runs a notebook on a profile "other"; returns what came of it as text, as soon as it has passed."""
    def run(source: Path, profile: str) -> str:
        data = Path(__file__).resolve().parents[1] / "data"
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "models.toml").write_text(profile, encoding="utf-8")
        for part in ("tiny_world", "studies", "photographs"):
            (tmp_path / "data" / part).symlink_to(data / part)
        (tmp_path / "notebooks").mkdir()
        shutil.copy(source, tmp_path / "notebooks")
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
