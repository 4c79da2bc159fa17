"""Bad input: the table of tests/bad_input.py, and whatever hypothesis finds."""

import json
import re
from dataclasses import fields

import bad_input
import fuzz
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from lr_helpers import METHODS, Method, edit
from lr_helpers.batch.items import Plan, plan
from lr_helpers.errors import UserError
from lr_helpers.files import pictures
from lr_helpers.files.pictures import flatten, paste_back
from tiny_world.scenes import scene


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """What the batch of all cases says to each."""
    return bad_input.run_cases(tmp_path_factory.mktemp("bad"))


@pytest.mark.slow
@pytest.mark.parametrize("case", bad_input.CASES, ids=lambda c: c.title)
def test_each_entry_gets_its_answer_and_the_others_go_on(answers, case):
    status, message = answers[case.title]
    assert case.is_right(status, message), (status, message)
    assert "\n" not in message
    assert bool(message) or status == "done"


@pytest.mark.parametrize(("title", "content", "words"), bad_input.WHOLE, ids=[w[0] for w in bad_input.WHOLE])
def test_a_file_of_which_nothing_can_be_used_is_told(tmp_path, title, content, words):
    code, said = bad_input.run_whole(tmp_path / "b", content)
    assert code == 2
    assert said.startswith("error: ") and words in said and "\n" not in said
    assert not (tmp_path / "b" / "out").exists()


@pytest.mark.parametrize("command", [
    pytest.param(command, marks=[] if command.environment is None else pytest.mark.all, id=command.title)
    for command in bad_input.COMMANDS])
def test_each_command_line_gets_its_answer(tmp_path, command):
    code, said = command.run(tmp_path / "f")
    assert code == command.code, said
    assert re.search(command.said, said) and "Traceback" not in said


def test_the_table_has_all_kinds():
    titles = [case.title for case in (*bad_input.CASES, *bad_input.COMMANDS)]
    assert len(titles) == len(set(titles)) and len(titles) + len(bad_input.WHOLE) >= 150


@pytest.mark.parametrize("target", fuzz.TARGETS)
def test_a_few_rounds_of_the_fuzzer_find_nothing(target):
    """`python tests/fuzz.py --minutes 10` is the long one. The seeds that once found something are tried again."""
    assert fuzz.fuzz(target, 0, examples=12) is None
    if target == "picture" and not hasattr(pictures, "read_noted"):
        pytest.skip("what it found is mended in the reader with a short list of formats")
    for number in [known for name, known in fuzz.kept() if name == target]:
        assert fuzz.fuzz(target, number) is None


def test_the_fuzzer_finds_what_is_wrong(monkeypatch):
    monkeypatch.setattr(fuzz, "plan", lambda file, *_: {}[file.name])
    assert "KeyError: 'b.json'" in fuzz.fuzz("batch file", 0)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats() | st.text(max_size=6)
    | st.sampled_from(["1.png", "../1.png", "wolf", *(f.name for f in fields(Method)), "learned"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
        st.sampled_from(["image", "source", "prompt", "seed", "name", "method", "settings", "full_frame", "steps",
                         "sizes", "defects", "1.png", ""]), inner, max_size=8), max_leaves=25)


@settings(max_examples=400, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(content=VALUES)
def test_any_json_gives_a_plan_or_a_sentence(tmp_path_factory, content):
    folder = tmp_path_factory.getbasetemp() / "any json"
    if not folder.exists():
        folder.mkdir()
        Image.new("RGB", (8, 8)).save(folder / "1.png")
    (folder / "b.json").write_text(json.dumps(content), encoding="utf-8")
    try:
        found = plan(folder / "b.json", folder, folder / "out")
    except UserError as error:
        assert "\n" not in str(error)
        return
    assert isinstance(found, Plan)
    assert len({i.name.casefold() for i in found.items}) == len(found.items)
    for item in found.items:
        assert item.folder.parent == folder / "out"
        assert item.image == folder / "1.png" and item.prompt.strip() and item.source.strip()
    assert all("\n" not in p.message for p in found.problems)
    assert found.items or found.problems


NUMBERS = st.floats(allow_nan=True) | st.floats(0, 1) | st.integers(-2, 20)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(changes=st.fixed_dictionaries({}, optional={
    "anchors": st.integers(-1, 5), "sizes": st.lists(st.floats(0, 1.2), max_size=3).map(tuple),
    "shortlist": st.integers(-1, 4), "pool": st.integers(0, 9), "iterations": st.integers(-1, 3), "lr": NUMBERS,
    "border": NUMBERS, "distance": NUMBERS, "temperature": NUMBERS, "occlusion_weight": NUMBERS, "patches_weight": NUMBERS,
    "area_weight": NUMBERS, "guidance": NUMBERS, "samples": st.integers(0, 4), "entropy_weight": NUMBERS,
    "estimator": st.sampled_from(["expectation", "reinforce", "straight_through", "none", "x"]),
    "choice": st.sampled_from(["score", "softmax_score", "loss", "x"]), "standardise": st.booleans()}),
    width=st.sampled_from([1, 2, 63, 64, 65, 200, 1500]), height=st.sampled_from([1, 3, 64, 90, 700]),
    mode=st.sampled_from(["RGB", "RGBA", "L", "P", "CMYK", "1"]), seed=st.integers(-1, 2**63))
def test_any_setting_and_size_gives_an_edit_or_a_sentence(models, changes, width, height, mode, seed):
    picture = Image.fromarray(scene(5, 1).render()).resize((width, height)).convert(mode)
    base = METHODS["learned"].but(steps=1, anchors=2, sizes=(0.4, 0.6), shortlist=2, iterations=1)
    try:
        result = edit(models, picture, "wolf", "a cake", base.but(**changes), seed, progress=False)
    except UserError as error:
        assert "\n" not in str(error)
        return
    assert result.image.size == (width, height)
    assert 0 < len(result.candidates) <= result.method.anchors
    x0, y0, x1, y1 = result.box
    assert 0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height
    outside_is_kept(picture.convert("RGBA" if mode == "RGBA" else "RGB"), result.image, result.box, (width, height))


def outside_is_kept(before: Image.Image, after: Image.Image, box, shown: tuple[int, int]) -> None:
    """Asserts that nothing but the box, given in pixels of a copy of this width and height, has changed."""
    a, b = np.asarray(before).copy(), np.asarray(after)
    assert a.shape == b.shape
    columns, rows = (slice(round(box[i] * n / side), round(box[i + 2] * n / side))
                     for i, (n, side) in enumerate(zip(before.size, shown, strict=True)))
    a[rows, columns] = b[rows, columns]
    assert np.array_equal(a, b)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(width=st.integers(1, 130), height=st.integers(1, 130), side=st.sampled_from([8, 64]),
       mode=st.sampled_from(["RGB", "RGBA"]), feather=st.sampled_from([0.0, 0.06, 0.5]), corners=st.tuples(
           *[st.floats(0, 1)] * 4))
def test_pasting_changes_the_box_alone(width, height, side, mode, feather, corners):
    rng = np.random.default_rng(width * 200 + height)
    before = Image.fromarray(rng.integers(0, 256, (height, width, len(mode)), dtype=np.uint8), mode)
    x0, x1 = sorted(int(c * (side - 1)) for c in corners[:2])
    y0, y1 = sorted(int(c * (side - 1)) for c in corners[2:])
    box = (x0, y0, x1 + 1, y1 + 1)
    after = paste_back(before, torch.rand(3, side, side, generator=torch.Generator().manual_seed(1)), box, feather)
    assert after.mode == mode
    outside_is_kept(before, after, box, (side, side))
    assert flatten(after).size == before.size
