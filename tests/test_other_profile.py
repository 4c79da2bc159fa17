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


@pytest.mark.slow
@pytest.mark.parametrize("source", SOURCES, ids=lambda s: s.stem)
def test_a_notebook_runs_unchanged_on_another_profile(source, tmp_path, monkeypatch, capsys):
    data = Path(__file__).resolve().parents[1] / "data"
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "models.toml").write_text(PROFILE, encoding="utf-8")
    for part in ("tiny_world", "studies"):
        (tmp_path / "data" / part).symlink_to(data / part)
    (tmp_path / "notebooks").mkdir()
    shutil.copy(source, tmp_path / "notebooks")
    monkeypatch.setenv("LR_DATA", str(tmp_path / "data"))
    failed = report.run("other", tmp_path / "results", [tmp_path / "notebooks" / source.name])
    assert failed == 0, capsys.readouterr().out
