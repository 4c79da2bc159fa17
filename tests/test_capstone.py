"""Notebook 06: its check compares with what `edit` does, and finds the learner's own functions in their notebooks."""

import nbformat
import pytest
import torch

from lr_helpers import checks, edit, regions
from lr_helpers.checks import capstone, own
from lr_helpers.files.pictures import to_tensor


@pytest.fixture(scope="module")
def expected():
    """Each case with what the package finds in it."""
    return [(case, checks.whole_edit.reference(*case)) for case in checks.whole_edit.cases()]


def test_what_is_expected_is_what_edit_gives(models, scene_picture) -> None:
    method = capstone.METHOD.but(anchors=2, sizes=(0.25, 0.5), steps=2, screening_steps=2, pool=3)
    found = checks.whole_edit.reference(models, to_tensor(scene_picture), "wolf", "an apple", method, 3)
    result = edit(models, scene_picture, "wolf", "an apple", method, 3, progress=False)
    assert tuple(found["box"].tolist()) == result.box
    assert torch.equal(found["boxes"], result.boxes)
    assert torch.allclose(found["loss"], result.loss, atol=1e-5)
    assert torch.allclose(found["probabilities"], result.probabilities, atol=1e-5)
    assert torch.allclose(found["image"], result.candidates[0].picture, atol=1e-5)


def test_written_out_it_is_the_same_on_the_miniatures(models, scene_picture) -> None:
    given = (models, to_tensor(scene_picture), "wolf", "an apple",
             capstone.METHOD.but(anchors=2, sizes=(0.25, 0.5), steps=2, screening_steps=2), 3)
    found, written = checks.whole_edit.reference(*given), capstone._by_hand()(*given)
    for name in found:
        assert torch.allclose(torch.as_tensor(found[name]), torch.as_tensor(written[name]), atol=1e-3), name


def test_no_choice_hangs_on_the_last_bits(expected) -> None:
    for _, found in expected:
        first, second = found["probabilities"].topk(2, dim=1).values.T
        assert (first - second).min() > 5e-3
        best = found["probabilities"].argmax(1)
        losses = found["loss"][torch.arange(len(best)), best].sort().values
        assert len(losses) == 1 or losses[1] - losses[0] > 5e-3


def test_the_cases_ask_for_every_setting(expected) -> None:
    methods = [case[4] for case, _ in expected]
    for name in ("anchors", "sizes", "pool", "steps", "lr", "iterations", "direction_weight", "structure_weight", "area_weight"):
        assert len({getattr(method, name) for method in methods}) > 1, name
    assert len({found["boxes"].shape[0] for _, found in expected}) > 2
    assert len({case[5] for case, _ in expected}) == len(expected)  # seeds


# The learner's own functions


def notebook(folder, name: str, *cells: str) -> None:
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    nbformat.write(made, folder / f"{name}.ipynb")


def test_the_solved_notebooks_give_every_piece() -> None:
    found = checks.pieces(capstone.__file__.rpartition("lr_helpers")[0] + "notebooks")
    lines = repr(found).splitlines()
    assert [line.split()[0] for line in lines] == list(own.PIECES)
    assert all(" from " in line for line in lines)
    assert found.proposals.__module__ == "03_the_box_generator"


PROPOSALS = '''import torch

def proposals(centres, sizes, size):
    half = torch.tensor(sizes)[None, :, None] * size / 2
    return torch.cat([centres[:, None] - half, centres[:, None] + half], -1).round().clamp(0, size).long()'''
OTHER_ORDER = '''import torch
from torch import nn

class RegionNetwork(nn.Module):
    def __init__(self, proposals, channels, pool, hidden=32):
        super().__init__()
        self.score = nn.Linear(hidden, proposals)
        self.look = nn.Linear(hidden // 2 * pool * pool, hidden)
        self.mix = nn.Conv2d(proposals * channels, hidden, 1)
        self.narrow = nn.Conv2d(hidden, hidden // 2, 1)

    def forward(self, pooled):
        return self.score(self.look(self.narrow(self.mix(pooled).relu()).relu().flatten(1)).relu())'''


def test_pieces_are_taken_where_they_are_right_and_else_ours(tmp_path) -> None:
    mark = tmp_path / "ran"
    notebook(tmp_path, "03_mine", "%matplotlib inline\nimport torch", PROPOSALS, f"open({str(mark)!r}, 'w')", OTHER_ORDER)
    notebook(tmp_path, "04_mine", "def direction_loss(edited, image, source, prompt):\n    raise NotImplementedError('your code here')",
             "def structure_loss(edited, image):\n    return edited.sum((1, 2))", "def broken(:", "import no_such_module")
    (tmp_path / "05_mine.ipynb").write_text("no notebook")
    found = checks.pieces(tmp_path)
    assert dict(line.split(maxsplit=1) for line in repr(found).splitlines()) == {
        "spread_anchors": "ours: there is no 02_….ipynb here",
        "anchor_centres": "ours: there is no 02_….ipynb here",
        "proposals": "from 03_mine.ipynb",
        "RegionNetwork": "ours: yours makes its layers in another order, so a seed gives it other weights",
        "direction_loss": "ours: yours is still a stub",
        "structure_loss": "ours: yours does not pass its check yet",
        "expected_loss": "ours: yours is not defined there"}
    assert found.proposals is not regions.proposals and found.RegionNetwork is regions.RegionNetwork
    assert not mark.exists()  # only definitions were run


def test_a_piece_can_be_put_in_by_hand(tmp_path) -> None:
    mine = checks.pieces(tmp_path)
    mine.proposals = len
    assert mine.proposals is len
