"""Where the memory holds fewer edits than were asked for: none is lost, none is made twice, each is in its place."""

from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lr_helpers.candidates import Candidates, Edits
from lr_helpers.errors import UserError
from lr_helpers.inpainting import Editor
from lr_helpers.method import Method
from lr_helpers.study import zoo
from tiny_world.scenes import scene

SIZE = 128
BOXES = [(x, y, x + side, y + side) for side in (8, 20, 37) for y in range(0, 20, 5) for x in range(0, 24, 4)]


def colour(box) -> float:
    """What the editor paints into this box: another value for each of BOXES."""
    return (1 + BOXES.index(tuple(int(v) for v in box))) / (1 + len(BOXES))


class Small(Editor):
    """An editor whose memory holds `holds[i]` edits in its i-th call, and any number in later ones.

    It paints `colour` of the mask's box; the prompt's length and the picture's mean are added where they are told apart.
    """

    denoiser = "denoiser"

    def __init__(self, batch: int, holds=(), stop: int | None = None):
        pipeline = SimpleNamespace(set_progress_bar_config=lambda **_: None, denoiser=torch.nn.Identity(), device="a GPU")
        super().__init__(pipeline, SIZE, steps=1, guidance=1.0, batch=batch)
        self.holds, self.stop, self.calls, self.painted = list(holds), stop, 0, Counter()

    def _encode_prompts(self, prompts):
        return {"length": torch.tensor([[float(len(p))] for p in prompts])}

    def _paint(self, images, masks, texts, seed, steps, guidance, draft):
        call, self.calls = self.calls, self.calls + 1
        if call == self.stop:
            raise KeyboardInterrupt
        if call < len(self.holds) and len(masks) > self.holds[call]:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
        assert len(masks) == len(images) == len(texts["length"]) <= self.batch
        frames = []
        for image, mask, length in zip(images, masks, texts["length"], strict=True):
            rows, columns = mask[0].nonzero(as_tuple=True)
            box = tuple(int(v) for v in (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1))
            self.painted[box] += 1
            frames.append(torch.full((3, SIZE, SIZE), colour(box)) + 10 * length + 1000 * image.mean())
        return torch.stack(frames)


boxes_of = st.builds(lambda order, count, twice: order[:count] + order[:twice], st.permutations(BOXES),
                     st.integers(1, 60), st.integers(0, 10))
"""Many boxes in any order, some of them twice."""
batch_of = st.integers(1, 20)
holds_of = st.lists(st.integers(1, 20), max_size=12)
"""At least one edit fits in, so every edit can be made."""


def inside(picture: torch.Tensor, box) -> set[float]:
    """The values of a picture in a box."""
    return set(picture[:, box[1]:box[3], box[0]:box[2]].flatten().tolist())


def expected(box, prompt: str = "", mean: float = 0.0) -> pytest.approx:
    return pytest.approx(colour(box) + 10 * len(prompt) + 1000 * mean, abs=1e-3)


def test_forty_boxes_and_a_batch_that_is_halved_once():
    editor = Small(16, holds=[8])
    boxes = torch.tensor(BOXES[:40])
    found = Edits(SimpleNamespace(editor=editor), torch.zeros(3, SIZE, SIZE), "", 0)(boxes)
    assert editor.batch == 8
    assert editor.painted == Counter(BOXES[:40])
    for box, picture in zip(BOXES[:40], found, strict=True):
        (value,) = inside(picture, box)
        assert value == expected(box)


@settings(deadline=None)
@given(boxes=boxes_of, batch=batch_of, holds=holds_of)
def test_the_store_makes_every_edit_once(boxes, batch, holds):
    editor = Small(batch, holds)
    store = Edits(SimpleNamespace(editor=editor), torch.zeros(3, SIZE, SIZE), "ab", 0)
    for _ in range(2):  # the second time nothing is left to do
        found = store(torch.tensor(boxes))
        assert editor.painted == Counter(set(boxes))
        assert set(store.seconds) == set(store.patches) == set(boxes)
        for box, picture in zip(boxes, found, strict=True):
            (value,) = inside(picture, box)
            assert value == expected(box, "ab")


@settings(deadline=None)
@given(boxes=boxes_of, batch=batch_of, holds=holds_of, stop=st.integers(0, 8))
def test_a_stop_loses_one_batch_at_most(boxes, batch, holds, stop):
    """What was made before the batch that was stopped is there and is not made again."""
    editor = Small(batch, holds, stop)
    store = Edits(SimpleNamespace(editor=editor), torch.zeros(3, SIZE, SIZE), "", 0)
    try:
        store(torch.tensor(boxes))
    except KeyboardInterrupt:
        kept = set(store.patches)
        lost = sum(editor.painted.values()) - len(kept)
        assert 0 <= lost < batch
        store(torch.tensor(boxes))
        assert {editor.painted[box] for box in kept} <= {1}
        assert sum(editor.painted.values()) == len(set(boxes)) + lost
    assert set(store.patches) == set(boxes)


@settings(deadline=None)
@given(boxes=boxes_of, batch=batch_of, holds=holds_of)
def test_pictures_and_prompts_of_their_own_keep_their_order(boxes, batch, holds):
    editor = Small(batch, holds)
    images = torch.stack([torch.full((3, SIZE, SIZE), i / len(boxes)) for i in range(len(boxes))])
    prompts = ["x" * (i % 7) for i in range(len(boxes))]
    masks = torch.zeros(len(boxes), 1, SIZE, SIZE)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes, strict=True):
        mask[:, y0:y1, x0:x1] = 1
    frames = editor.inpaint(images, masks, prompts, seed=0)
    assert editor.painted == Counter(boxes)
    for i, box in enumerate(boxes):
        assert float(frames[i, 0, 0, 0]) == expected(box, prompts[i], i / len(boxes))


@settings(max_examples=25, deadline=None)
@given(boxes=st.lists(st.sampled_from(BOXES), min_size=12, max_size=12), kept=st.lists(st.booleans(), min_size=12, max_size=12),
       batch=batch_of, holds=holds_of)
def test_the_table_makes_and_judges_every_kept_box_once(models, boxes, kept, batch, holds):
    editor, steps = Small(batch, holds), []
    kept = torch.tensor(kept).reshape(4, 3)
    table = Candidates(replace(models, editor=editor), torch.zeros(3, SIZE, SIZE), "wolf", "", torch.tensor(boxes).reshape(4, 3, 4),
                       Method(steps=1), 0, kept=kept)
    table.on_edit = steps.append
    table.losses(None)
    wanted = {box for box, keep in zip(boxes, kept.flatten().tolist(), strict=True) if keep}
    assert editor.painted == Counter(wanted)
    assert sum(steps) == table.made == table.count == len(wanted)
    for i, box in enumerate(boxes):
        k, m = divmod(i, 3)
        made = [table.loss, table.score, *(table.terms[name] for name in ("clip", "structure", "direction", "source"))]
        assert [bool(values[k, m].isfinite()) for values in made] == [box in wanted] * 6
        if box in wanted:
            (value,) = inside(table.picture(k, m), box)
            assert value == expected(box)


@settings(max_examples=25, deadline=None)
@given(count=st.integers(1, 30), batch=batch_of, holds=holds_of)
def test_the_evaluation_of_the_zoo_edits_every_case(count, batch, holds):
    editor = Small(batch, holds)
    chosen = [(scene(7, 1), BOXES[i % len(BOXES)], "rabbit") for i in range(count)]
    made, outside = zoo.edits(SimpleNamespace(editor=editor), chosen)
    assert len(made) == len(outside) == count
    assert editor.painted == Counter(box for _, box, _ in chosen)


@settings(deadline=None)
@given(batch=batch_of, count=st.integers(1, 20))
def test_a_memory_that_holds_no_edit_is_said_once_a_single_one_fails(batch, count):
    editor = Small(batch, holds=[0] * 20)
    with pytest.raises(UserError, match=f"does not hold one edit of {SIZE}×{SIZE} pixels"):
        editor.edit(torch.zeros(3, SIZE, SIZE), BOXES[:count], "", seed=0)
    assert editor.batch == 1 or count == 1
    assert not editor.painted
