"""PIE-Bench: its format is read exactly, its words become ours, and the study stops and goes on."""

import csv
import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from lr_helpers.baselines import Parts
from lr_helpers.cli import main
from lr_helpers.costs import random_weights
from lr_helpers.errors import UserError
from lr_helpers.files.outputs import Output
from lr_helpers.files.paths import DATA
from lr_helpers.files.pictures import to_tensor
from lr_helpers.files.writing import csv_bytes, json_bytes
from lr_helpers.models.profiles import MEASURES, get_profile
from lr_helpers.study.metrics import METRICS
from lr_helpers.study.pie import emoji as pie
from lr_helpers.study.pie import table
from lr_helpers.study.pie.emoji import KINDS, SCENES, recipe_of
from lr_helpers.study.pie.items import MAPPING, PICTURES, TYPES, dealt, load
from lr_helpers.study.pie.masks import decode, encode
from lr_helpers.study.pie.rows import MASK, ROWS, asked, edit, overlap
from lr_helpers.study.pie.study import Pie
from lr_helpers.study.pie.wording import wording
from lr_helpers.study.pool import worker_pool
from lr_helpers.study.run import work
from tiny_world import judge
from tiny_world.scenes import HELD_OUT_SEEDS, tensor
from tiny_world.words import held_out, vocabulary

SHIPPED = DATA / "pie_emoji"


@pytest.fixture(scope="module")
def shipped():
    return load(SHIPPED)


@pytest.fixture(scope="module")
def scenes() -> dict[str, dict]:
    return json.loads((SHIPPED / SCENES).read_text())


@pytest.fixture
def small(tmp_path) -> Path:
    """The first item of each of two types, as a benchmark of its own."""
    return part(tmp_path / "small", ["100000801000", "300000803000"])


def part(folder: Path, names: list[str], changes: dict | None = None) -> Path:
    """These items of the shipped benchmark, with changed fields, in a folder of their own."""
    mapping = json.loads((SHIPPED / MAPPING).read_text())
    mapping = {name: {**mapping[name], **(changes or {}).get(name, {})} for name in names}
    for entry in mapping.values():
        if (SHIPPED / PICTURES / str(entry["image_path"])).is_file():
            (folder / PICTURES / entry["image_path"]).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(SHIPPED / PICTURES / entry["image_path"], folder / PICTURES / entry["image_path"])
    (folder / MAPPING).write_text(json.dumps(mapping))
    known = json.loads((SHIPPED / SCENES).read_text())
    (folder / SCENES).write_text(json.dumps({name: known[name] for name in names}))
    return folder


# Masks


@settings(max_examples=200, deadline=None)
@given(arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.integers(0, 1)))
def test_masks_survive_their_runs(mask):
    runs = encode(mask)
    assert np.array_equal(decode(runs, *mask.shape, border=False), mask)
    assert all(type(n) is int for n in runs) and all(length > 0 for length in runs[1::2])
    ends = [start + length for start, length in zip(runs[::2], runs[1::2], strict=True)]
    assert all(end < start for end, start in zip(ends, runs[2::2], strict=False))  # no two runs touch


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 34), st.integers(0, 50)), max_size=6), st.booleans())
def test_any_runs_are_read_pixel_by_pixel(pairs, border):
    """Overlapping, touching, empty and overlong ones too, as the benchmark's own loop reads them."""
    expected = np.zeros(35, np.uint8)
    for start, length in pairs:
        for i in range(min(length, 35 - start)):
            expected[start + i] = 1
    expected = expected.reshape(5, 7)
    if border:
        expected[0] = expected[-1] = 1
        expected[:, 0] = expected[:, -1] = 1
    assert np.array_equal(decode([n for pair in pairs for n in pair], 5, 7, border), expected)


def test_a_mask_by_hand():
    assert decode([5, 2, 9, 1], 4, 4, border=False).tolist() == [[0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0]]
    assert decode([5, 2, 9, 1], 4, 4).tolist() == [[1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 0, 1], [1, 1, 1, 1]]
    assert decode([], 2, 3, border=False).tolist() == [[0, 0, 0], [0, 0, 0]]
    assert encode(np.ones((2, 3))) == [0, 6] and encode(np.zeros((2, 3))) == []


@pytest.mark.parametrize("runs", [None, "1 2", [1], [1, 2.0], [1, "2"], [True, 1], {"1": 2}, [[1, 2]]])
def test_what_is_no_list_of_runs_is_refused(runs):
    with pytest.raises(UserError, match=r"The mask is no list \[start, length, …\]"):
        decode(runs, 4, 4)


@pytest.mark.parametrize("runs", [[16, 1], [-1, 2], [3, -1], [10**30, 1]])
def test_runs_outside_the_picture_are_refused(runs):
    with pytest.raises(UserError, match="does not begin within its 4×4 pixels"):
        decode(runs, 4, 4)
    assert decode([3, 10**30], 4, 4, border=False).sum() == 13  # an end beyond the picture is cut


# Wording


@pytest.mark.parametrize(("before", "after", "blended", "source", "prompt"), [
    ("a wolf on the grass", "a mushroom on the grass", "wolf mushroom", "wolf", "a mushroom"),
    ("a wolf on the grass", "a mushroom on the grass", "", "wolf", "a mushroom"),
    ("an owl and a cat in the snow", "a fox and a cat in the snow", "", "owl", "a fox"),
    ("a cat and an owl at night", "a cat and a christmas tree at night", "owl tree", "owl", "a christmas tree"),
    ("flowers on the table", "bread on the table", "", "flowers", "bread"),
    ("a round cake with orange frosting on a plate", "a square cake with orange frosting on a plate", "cake cake",
     "round cake", "a square cake"),
    ("a slanted mountain bicycle on the road in front of a building",
     "a slanted rusty mountain bicycle on the road in front of a building", "bicycle bicycle",
     "slanted mountain bicycle", "a slanted rusty mountain bicycle"),
    ("a slanted mountain bicycle on the road", "a slanted rusty mountain bicycle on the road", "",
     "slanted mountain bicycle", "a slanted rusty mountain bicycle"),
    ("a cat on the grass", "a cat and a dog on the grass", "", "grass", "a dog on the grass"),
    ("a cat on the grass", "a dog and a cat on the grass", "", "grass", "a dog on the grass"),
    ("the grass", "a dog on the grass", "", "grass", "a dog on the grass"),
    ("night", "a dog at night", "", "night", "a dog at night"),
    ("a cat on a sofa", "a cat with a hat on a sofa", "cat cat", "cat", "a cat with a hat"),
    ("a dog on the grass", "the grass", "", "dog", "the grass"),
    ("a cat and a dog on the grass", "a dog on the grass", "", "cat", "the grass"),
    ("a cat and a dog on the grass", "a cat on the grass", "", "dog", "the grass"),
    ("a woman with a hat sitting on a chair", "a woman sitting on a chair", "woman woman", "woman", "a woman"),
    ("a cat on the grass", "a cat in the snow", "", "grass", "the snow"),
    ("a dog is running in the park", "a dog is lying in the park", "dog dog", "dog", "a dog is lying"),
    ("a photo of a cat", "a watercolor of a cat", "", "photo", "a watercolor"),
    ("a cat", "a cat smiling", "", "cat", "a cat smiling"),
    ("woman", "Taylor Swift", "woman woman", "woman", "Taylor Swift"),
    ("A Cat, on the grass.", "A Dog, on the grass.", "Cat Dog", "Cat", "A Dog"),
    ("a cat", "a cat", "", "cat", "a cat"),
    ("a cat on a chair", "a dog on a chair", "zebra giraffe", "cat", "a dog"),  # words that are in neither sentence
])
def test_two_sentences_become_two_phrases(before, after, blended, source, prompt):
    found = wording(before, after, tuple(blended.split()))
    assert (found.source, found.prompt) == (source, prompt)


WORDS = st.lists(st.sampled_from(["a", "the", "cat", "dog", "and", "on", "in", "grass", "with", "red", "hat", ",", "."]),
                 min_size=1, max_size=8)


@settings(max_examples=300, deadline=None)
@given(WORDS, WORDS, st.lists(st.sampled_from(["cat", "dog", "grass", "moon"]), max_size=3))
def test_any_two_sentences_give_words_of_their_own(before, after, blended):
    found = wording(" ".join(before), " ".join(after), tuple(blended))
    assert found.source and found.prompt
    assert set(found.source.split()) <= {w.strip(" ,.;:") for w in before} | set(before)
    assert set(found.prompt.split()) <= {w.strip(" ,.;:") for w in after} | set(after)


# The shipped set


def test_the_shipped_set_is_whole_and_small(shipped):
    assert shipped.problems == () and len(shipped.items) == 60
    assert {kind: sum(i.kind == kind for i in shipped.items) for kind in TYPES if kind in KINDS} == dict.fromkeys(KINDS, 15)
    assert sum(f.stat().st_size for f in SHIPPED.rglob("*") if f.is_file()) < 1_000_000
    known = set(vocabulary())
    for item in shipped.items:
        assert item.size == 128
        for text in (item.before, item.after, item.wording.source, item.wording.prompt):
            assert "[" not in text and set(text.split()) <= known


def test_the_shipped_set_is_what_its_command_writes(tmp_path):
    assert main(["study", "pie-data", "--output", str(tmp_path / "again")]) == 0
    assert (tmp_path / "again" / "README.md").read_bytes() == (SHIPPED / "README.md").read_bytes()
    for name in (MAPPING, SCENES):
        assert json.loads((tmp_path / "again" / name).read_text()) == json.loads((SHIPPED / name).read_text())
    for file in (tmp_path / "again" / PICTURES).rglob("*.png"):
        there = SHIPPED / file.relative_to(tmp_path / "again")
        assert np.array_equal(np.asarray(Image.open(file)), np.asarray(Image.open(there)))


def test_no_scene_of_it_is_seen_in_training_or_twice(shipped):
    seeds = [int(item.name[1:]) for item in shipped.items]
    assert len(set(seeds)) == len(seeds)
    assert all(seed in HELD_OUT_SEEDS and 800_000 <= seed < 900_000 for seed in seeds)


def test_its_masks_hold_the_true_edit_and_no_more(shipped, scenes):
    for item in shipped.items:
        before, after = (recipe_of(scenes[item.name][k]) for k in ("before", "after"))
        assert np.array_equal(np.asarray(item.picture), before.render())
        assert not any(held_out(o.name, r.place) for r in (before, after) for o in r.objects)
        change = np.abs(before.render().astype(int) - after.render()).max(2)
        changed, mask = change > 0, item.mask(border=False)
        if item.kind == 8:
            assert before.objects == after.objects and before.place != after.place
            assert 8 * change[mask == 0].mean() < change[mask == 1].mean()  # an object's rim shows some background
        else:
            assert not changed[mask == 0].any()
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            assert mask[rows[0]:rows[-1] + 1, columns[0]:columns[-1] + 1].all()  # a box, and none smaller would do:
            assert changed[rows[[0, -1]]].any(1).all() and changed[:, columns[[0, -1]]].any(0).all()


def test_the_judge_knows_the_true_edit_from_none(shipped, scenes):
    one = judge.load()
    for item in shipped.items:
        before, after = (recipe_of(scenes[item.name][k]) for k in ("before", "after"))
        done, undone = (pie.success(before, after, tensor(r), one) for r in (after, before))
        assert all(v == 1 for v in done.values())
        assert item.kind == 8 or (undone.pop("success") == 0 and any(v == 0 for v in undone.values()))


def test_a_folder_that_holds_something_is_not_written_into(tmp_path):
    (tmp_path / "mine.txt").touch()
    with pytest.raises(UserError, match="is not empty"):
        pie.write(tmp_path, 4)
    with pytest.raises(UserError, match="--count is 3; give a number from 4 to 4000"):
        pie.write(tmp_path / "new", 3)


# The format


def test_everything_that_is_wrong_is_told_at_once_with_its_id(tmp_path, shipped):
    names = [item.name for item in shipped.items[:12]]
    folder = part(tmp_path / "bad", names, {
        names[0]: {"image_path": "nowhere.png"},
        names[1]: {"image_path": "../mapping_file.json"},
        names[2]: {"mask": [1]},
        names[3]: {"mask": [128 * 128, 1], "editing_type_id": "10"},
        names[4]: {"editing_prompt": "[]", "editing_type_id": True},
        names[5]: {"original_prompt": 3},
        names[6]: {"image_path": "wide.png"},
        names[7]: {"image_path": "broken.png"},
        names[8]: {"blended_word": ["cat", "dog"]},
    })
    Image.new("RGB", (64, 32)).save(folder / PICTURES / "wide.png")
    (folder / PICTURES / "broken.png").write_bytes(b"no picture")
    mapping = json.loads((folder / MAPPING).read_text())
    mapping[names[9]] = "x"
    del mapping[names[10]]["mask"], mapping[names[10]]["editing_prompt"]
    mapping["a/b"] = mapping[names[11]]
    text = json.dumps(mapping)
    (folder / MAPPING).write_text(text[:-1] + f', "{names[11]}": {json.dumps(mapping[names[11]])}' + "}")

    found = load(folder)
    wanted = [
        (names[11], "there twice"), (names[0], "There is no file 'nowhere.png'"), (names[1], "leads out of"),
        (names[2], "The mask is no list"), (names[3], "editing_type_id is '10'"), (names[3], "does not begin within"),
        (names[4], "editing_type_id is True"), (names[4], "The prompt is empty"), (names[5], "original_prompt is 3"),
        (names[6], "wide.png has 64×32 pixels"), (names[7], "broken.png is not a picture"),
        (names[8], "blended_word is ['cat', 'dog']"), (names[9], "not an object"),
        (names[10], "editing_prompt, mask is missing"), ("a/b", "can't be that of a folder")]
    assert len(found.problems) == len(wanted)
    for problem, (name, message) in zip(found.problems, wanted, strict=True):
        assert problem.startswith(f"{name}: ") and message in problem and problem.endswith(".")
    assert [item.name for item in found.items] == [names[11]]


@pytest.mark.parametrize(("text", "message"), [
    ("{", "is not valid JSON"), ("[]", "holds no items"), ("{}", "holds no items"), ('"x"', "holds no items"),
    ("\xff", "is not valid JSON"), (None, "can't be read")])
def test_a_mapping_file_that_is_none_is_told(tmp_path, text, message):
    (tmp_path / PICTURES).mkdir()
    if text is not None:
        (tmp_path / MAPPING).write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=message):
        load(tmp_path)
    with pytest.raises(UserError, match="There is no folder"):
        load(tmp_path / "elsewhere")


def test_the_published_form_is_read(tmp_path):
    """As the benchmark's own file has it: 512 pixels, ids and types as text, brackets, no blended word."""
    (tmp_path / PICTURES / "0_random_140").mkdir(parents=True)
    Image.new("RGB", (512, 512), "red").save(tmp_path / PICTURES / "0_random_140" / "000000000000.jpg")
    (tmp_path / MAPPING).write_text(json.dumps({"000000000000": {
        "image_path": "0_random_140/000000000000.jpg", "original_prompt": "a mountain bicycle on the road",
        "editing_prompt": "a [rusty] mountain bicycle on the road", "editing_instruction": "Make it rusty",
        "editing_type_id": "0", "blended_word": "", "mask": [262143, 5, 1000, 24], "extra": 1}}))
    (item,) = load(tmp_path).items
    assert (item.size, item.kind, item.after) == (512, 0, "a rusty mountain bicycle on the road")
    assert item.mask(border=False).sum() == 25 and item.mask().sum() == 512 * 4 - 4 + 23  # what is not in it yet
    assert item.wording.source == "mountain bicycle"


def test_a_limit_deals_from_all_types_and_a_larger_one_only_adds(shipped):
    few, more = dealt(shipped.items, 6), dealt(shipped.items, 20)
    assert [i.kind for i in few] == [1, 2, 3, 8, 1, 2]
    assert more[:6] == few and len(set(more)) == 20
    assert dealt(shipped.items, None) == list(shipped.items) and len(dealt(shipped.items, 999)) == 60


def test_other_data_is_another_study(small, shipped):
    before = load(small).digest
    assert before != shipped.digest and before == load(small).digest
    picture = next((small / PICTURES).rglob("*.png"))
    image = Image.open(picture).convert("RGB")
    image.putpixel((0, 0), (1, 2, 3))
    image.save(picture)
    assert load(small).digest != before


# Rows


def test_rows_are_asked_in_their_own_words(shipped):
    item = shipped.items[0]
    assert asked("sdedit", item) == asked("whole_picture", item) == (item.before, item.after)
    assert asked("learned", item) == asked(MASK, item) == (item.wording.source, item.wording.prompt)
    assert ROWS[0] == "learned" and MASK in ROWS and len(set(ROWS)) == len(ROWS)


def test_the_benchmarks_mask_is_a_region_whose_background_stays(models, shipped):
    parts = Parts(models.profile, models)
    for item in (shipped.items[0], shipped.items[-1]):  # a box, and all but the objects
        made = edit(MASK, item, models, parts, seed=1)
        before, inside = to_tensor(item.picture), torch.from_numpy(item.mask(border=False)) > 0
        assert torch.equal(made.picture[:, ~inside], before[:, ~inside])
        assert not torch.equal(made.picture[:, inside], before[:, inside])
        assert overlap(made.region, item) == 1 and made.evaluations == 2 * models.profile.steps
    assert edit("whole_picture", shipped.items[0], models, parts, seed=1).region is None


def test_pictures_of_another_size_come_back_at_theirs(models, tmp_path, shipped):
    """An item of 320 pixels by models of 128: the region's row keeps every other pixel, the whole picture's can't."""
    item = shipped.items[0]
    large = tmp_path / "large.png"
    item.picture.resize((320, 320), Image.Resampling.LANCZOS).save(large)
    mask = np.zeros((320, 320), np.uint8)
    mask[80:240, 100:220] = 1
    item = replace(item, path=large, size=320, runs=tuple(encode(mask)))
    parts, before = Parts(models.profile, models), to_tensor(item.picture)
    made = edit(MASK, item, models, parts, seed=1)
    assert made.picture.shape == (3, 320, 320) and made.region.shape == (128, 128)
    away = torch.ones(320, 320, dtype=torch.bool)
    away[77:243, 97:223] = False  # a pixel of the model is 2.5 of the picture's
    assert torch.equal(made.picture[:, away], before[:, away])
    assert (made.picture[:, 85:235, 105:215] - before[:, 85:235, 105:215]).abs().mean() > 0.05
    assert overlap(made.region, item) == pytest.approx(1, abs=0.06)
    assert edit("whole_picture", item, models, parts, seed=1).picture.shape == (3, 320, 320)


def test_overlap_by_hand(shipped):
    item = replace(shipped.items[0], runs=(0, 128 * 64))  # the upper half
    region = torch.zeros(128, 128)
    region[:, :64] = 1
    assert overlap(region, item) == pytest.approx(1 / 3)
    assert overlap(torch.zeros(128, 128), item) == 0


# The table


def record(row: str, kind: int, psnr: float | None, success: float | None = None, iou: float | None = None) -> dict:
    found = {"id": "1", "row": row, "kind": kind, "source": "a", "prompt": "b", "evaluations": 4, "seconds": 0.5,
             "measures": {"psnr": psnr, "mse": 0.0, "structure_distance": 0.01}, "measured_by": {},
             "judge": {} if success is None else {"success": success}}
    return found if iou is None else {**found, "iou": iou}


def test_the_table_has_means_units_and_what_was_not_run(tmp_path):
    records = [record("learned", 1, 20.0, 1.0, 0.5), record("learned", 2, 30.0, 0.0, 0.7),
               record("learned", 8, None), record("whole_picture", 1, 10.0, 1.0)]
    groups = table.summarise(records)
    summary = {"groups": groups, "not_run": {"clipseg": "No weights."}, "of": " of X", "missing": {"lpips": "No LPIPS."}}
    assert list(groups) == ["all", "change object", "add object", "change background"]
    mine = groups["all"]["learned"]
    assert mine["items"] == 3 and mine["psnr"]["value"] == 25 and mine["psnr"]["count"] == 2  # NaN dropped
    assert mine["structure_distance"] == {"value": 10, "low": 10, "high": 10, "count": 3}
    assert mine["mse"] == {"value": 0, "low": 0, "high": 0, "count": 3}  # no rate, though all are 0
    assert mine["success"]["value"] == 50 and mine["success"]["count"] == 2
    assert groups["all"]["whole_picture"]["success"]["low"] < 50  # one of one, by Wilson
    assert "psnr" not in groups["change background"]["learned"] and "lpips" not in mine

    text = table.page(summary, "A study.")
    (line,) = [row for row in text.split("## change object")[0].splitlines() if row.startswith("| learned")]
    cells = [c.strip() for c in line.strip("|").split("|")]
    head = next(row for row in text.splitlines() if row.startswith("| method"))
    titles = [c.strip() for c in head.strip("|").split("|")]
    shown = dict(zip(titles, cells, strict=True))
    assert shown["background PSNR (dB) ↑"] == "25.00 [20.00, 30.00] (n = 2)"
    assert shown["background LPIPS ×10³ ↓"] == "not run here"
    assert shown["structure distance of X ×10³ ↓"] == "10.00 [10.00, 10.00]"
    assert shown["denoiser evaluations"] == "4 [4, 4]"
    assert "| CLIPSeg, its box" in text and "- CLIPSeg, its box: No weights." in text and "No LPIPS." in text
    (tmp_path / "edits.csv").write_bytes(csv_bytes(table.COLUMNS, table.flat(records, percent=True)))
    rows = list(csv.DictReader((tmp_path / "edits.csv").read_text().splitlines()))
    assert [row["success"] for row in rows] == ["100.0", "0.0", "", "100.0"]
    assert len(rows) == 4 and rows[0]["psnr"] == "20.0" and rows[2]["psnr"] == "" and rows[0]["type"] == "change object"


def test_published_rows_are_data_with_their_source():
    there = table.published()
    assert there["columns"] == list(METRICS) and len(there["rows"]) == 5
    assert there["rows"]["Direct Inversion + P2P"] == [11.65, 27.22, 54.55, 32.86, 84.76, 25.02, 22.10]
    assert "700 photographs" in there["note"] and "2310.01506" in there["source"]
    text = table.page({"groups": {}, "not_run": {}, "of": "", "missing": {}}, "")
    assert text.count("| 700 |") == 5 and there["note"] in text and "Not comparable" in text


# The study


def command_for(data: Path, output: Path, *more: str) -> list[str]:
    return ["study", "pie", "--data", str(data), "--output", str(output), "--steps", "1", "--device", "cpu", *more]


def test_a_study_end_to_end_and_again(small, tmp_path, capsys):
    output = tmp_path / "out"
    command = command_for(small, output, "--workers", "1", "--methods", MASK, "whole_picture", "clipseg")
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "the benchmark's mask" in said and "not run here" in said and "Direct Inversion + P2P" in said
    summary = json.loads((output / "summary.json").read_text())
    assert list(summary["not_run"]) == ["clipseg"] and "CLIPSeg" in summary["not_run"]["clipseg"]
    mine = summary["groups"]["all"][MASK]
    assert mine["items"] == 2 and mine["psnr"]["value"] == 60 and mine["iou"]["value"] == 1
    assert mine["evaluations"]["value"] == 2  # one step, both halves of the guidance
    assert summary["groups"]["all"]["whole_picture"]["psnr"]["value"] < 25
    assert len((output / "edits.csv").read_text().splitlines()) == 5
    assert "## delete object" in (output / "table.md").read_text()

    # Again: nothing is edited. What was measured by other models is measured again, from the stored picture.
    files = sorted((output / "records").rglob("*.json"))
    pictures = {p: p.stat().st_mtime_ns for p in (output / "edits").rglob("*.png")}
    assert len(files) == len(pictures) == 4
    stored = json.loads(files[0].read_text())
    Output(output, "study").write(files[0].relative_to(output).as_posix(), json_bytes(
        {**stored, "measured_by": {"clip": "another"}, "measures": {"psnr": 1.0}}))
    files[1].write_text("{damaged")
    assert main(command) == 2
    assert f"{files[1].name}' is not as a study wrote it (changed or damaged since)" in capsys.readouterr().err
    files[1].unlink()
    stamps = {f: f.stat().st_mtime_ns for f in files if f.exists()}
    assert main(command) == 0
    assert json.loads(files[0].read_text()) == stored
    assert json.loads(files[1].read_text())["row"] == stored["row"]
    assert [f for f in files if f.stat().st_mtime_ns != stamps.get(f)] == files[:2]
    edited = [p for p, stamp in pictures.items() if p.stat().st_mtime_ns != stamp]
    assert [p.stem for p in edited] == [files[1].stem]

    assert main([*command, "--seed", "7"]) == 2
    assert "a study with other settings (seed)" in capsys.readouterr().err


def test_a_profile_of_photographs_is_measured_as_the_benchmark_does(small, tmp_path, monkeypatch):
    """Random weights of Stable Diffusion 2's classes; LPIPS out of reach, which is said; and no judge of emoji."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    torch.manual_seed(0)
    profile = random_weights.write("sd2", tmp_path / "models")
    monkeypatch.setitem(MEASURES, "structure", profile.backbone)
    monkeypatch.setitem(MEASURES, "clip", profile.clip)
    rows = [MASK, "whole_picture", "sdedit"]
    study = Pie(tmp_path / "out", small, profile, rows, steps=1, device="cpu")
    done = work(study, workers=1)
    assert len(done.records) == 4 and list(done.not_run) == ["sdedit"] and list(done.about["missing"]) == ["lpips"]
    for found in done.records:
        assert list(found["measures"]) == [m for m in METRICS if m != "lpips"] and found["judge"] == {}
    text = table.page(study.summarise(done), "")
    assert text.count("CLIP, whole picture ↑") == 4 and "task done" not in text  # all, two types, published
    assert "- background LPIPS ×10³ ↓: SqueezeNet's weights" in text and "- SDEdit: " in text


@pytest.mark.all
def test_a_study_that_is_killed_goes_on(small, tmp_path):
    """Two processes, killed with their parent; then the same command: what was finished is not touched."""
    output = tmp_path / "out"
    command = command_for(small, output, "--workers", "2", "--methods", "learned", MASK)
    process = subprocess.Popen([sys.executable, "-m", "lr_helpers", *command], cwd=DATA.parent, stderr=subprocess.DEVNULL)
    started = time.monotonic()
    while not (done := list(output.glob("records/*/*.json"))):
        assert process.poll() is None and time.monotonic() - started < 300
        time.sleep(0.05)
    workers = psutil.Process(process.pid).children(recursive=True)
    assert len(workers) >= 2
    process.send_signal(signal.SIGKILL)
    process.wait()
    _, alive = psutil.wait_procs(workers, timeout=180)  # one that is starting still has to get as far as to look
    assert not alive  # no orphan goes on, or waits for ever
    done = {f: f.stat().st_mtime_ns for f in output.glob("records/*/*.json")}
    finished = subprocess.run([sys.executable, "-m", "lr_helpers", *command, "--workers", "1"], cwd=DATA.parent,
                              capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    assert all(f.stat().st_mtime_ns == stamp for f, stamp in done.items())
    assert len(list(output.glob("records/*/*.json"))) == len(list(output.glob("edits/*/*.png"))) == 4
    assert json.loads((output / "summary.json").read_text())["groups"]["all"]["learned"]["items"] == 2


@pytest.mark.parametrize(("more", "message"), [
    (["--limit", "0"], "--limit is 0; give 1 or more."), (["--steps", "0"], "--steps is 0"),
    (["--seed", "-1"], "seed is -1"), (["--methods", "magic"], "The method 'magic' is unknown; choose from whole_picture, "),
    (["--methods", MASK, MASK], "names 'known_region' twice"), (["--profile", "huge"], "The profile 'huge' is unknown"),
    (["--data", "nowhere"], "There is no folder")])
def test_wrong_options_are_told_before_any_work(small, tmp_path, capsys, more, message):
    assert main([*command_for(small, tmp_path / "out"), *more]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("name", "more"), [
    ("pie", ["--replace", "3"]), ("pie", ["--validation"]), ("regions", ["--limit", "3"])])
def test_options_of_other_studies_are_refused(name, more, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["study", name, "--output", str(tmp_path), *more])
    assert stop.value.code == 2
    assert f"study {name}: error: unrecognized arguments: {' '.join(more)}" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_bad_benchmark_is_not_begun(tmp_path, capsys):
    names = ["100000801000", "300000803000"]
    folder = part(tmp_path / "bad", names, {names[0]: {"mask": "x"}, names[1]: {"editing_type_id": "x"}})
    assert main(command_for(folder, tmp_path / "out")) == 2
    said = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in said] == [*names, "error"]
    assert said[-1].endswith("has 2 problems, listed above; fix these entries, or take them out.")


# The worker_pool


@pytest.mark.slow
def test_a_pool_works_tells_errors_and_tells_of_a_worker_that_dies():
    with worker_pool(1, int, ()) as each:
        assert list(each(divmod, [(7, 2), (9, 4)])) == [(3, 1), (2, 1)]
    with pytest.raises(UserError, match="A worker process died"), worker_pool(2, int, ()) as each:
        assert sorted(each(divmod, [(7, 2), (9, 4)])) == [(2, 1), (3, 1)]
        with pytest.raises(ZeroDivisionError):
            list(each(divmod, [(1, 0)]))
        list(each(signal.raise_signal, [(signal.SIGKILL,)]))
    for start, arguments, said in ((get_profile, ("sd9",), "'sd9'"), (json.loads, ("{",), "Expecting property name")):
        # The reason why the models don't load, not "a worker died".
        with pytest.raises((UserError, ValueError), match=said), worker_pool(2, start, arguments) as each:
            list(each(divmod, [(7, 2)]))
