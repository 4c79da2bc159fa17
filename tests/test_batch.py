"""A batch of one process: what it reads, writes, keeps, does again and tells."""

import csv
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lr_helpers import METHODS, EditResult, edit, method
from lr_helpers.batch import folder, items, key, run, summary
from lr_helpers.batch.entries import read_entries
from lr_helpers.batch.items import plan
from lr_helpers.batch.work import DONE, FAILED, KEPT, Outcome, edit_item
from lr_helpers.boxes import box_mask
from lr_helpers.cli import main
from lr_helpers.editing import FEATHER
from lr_helpers.errors import UserError
from lr_helpers.files import pictures
from lr_helpers.files.canvas import Canvas, inner_box
from lr_helpers.files.outputs import LEDGER
from lr_helpers.files.paths import DATA
from lr_helpers.files.pictures import paste_back, read_image, to_tensor, upright
from lr_helpers.method import check_text
from lr_helpers.models.profiles import get_profile
from tiny_world.scenes import scene

TINY = get_profile("tiny")
CHANGES = {"steps": 1, "anchors": 2, "sizes": (0.4,), "shortlist": 1, "iterations": 1}
FAST = ["--steps", "1", "--anchors", "2", "--sizes", "0.4", "--shortlist", "1", "--iterations", "1", "--device", "cpu",
        "--profile", "tiny"]


@pytest.fixture
def images(tmp_path) -> Path:
    """A folder of three scenes."""
    there = tmp_path / "my images"
    there.mkdir()
    for i in range(3):
        Image.fromarray(scene(i, 1).render()).save(there / f"{i + 1}.png")
    return there


def planned(images: Path, content, output="out", **options):
    """The plan of a batch file with this content."""
    file = images.parent / "batch.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return plan(file, images, images.parent / output, **{"changes": CHANGES} | options)


def done(wanted, models) -> int:
    return run.run(wanted, TINY, lambda: models, quiet=True)


OFFICIAL = {"1.png": ["wolf", "a mushroom"], "2.png": ["fox", "a cake"], "3.png": ["pig", "a boat"]}


def rows(output: Path) -> list[dict]:
    with (output / "summary.csv").open(encoding="utf-8", newline="") as table:
        return list(csv.DictReader(table))


def states(output: Path) -> dict[str, tuple]:
    """Inode and time of change of every item's files."""
    return {f.relative_to(output).as_posix(): (f.stat().st_ino, f.stat().st_mtime_ns)
            for f in output.glob("*/**/*") if f.is_file()}


def begun(output: Path) -> list[str]:
    return re.findall(r"\] begin (.*)", (output / "batch.log").read_text(encoding="utf-8"))


# What it reads


def test_entries_know_their_lines_and_read_as_json_does(tmp_path):
    file = tmp_path / "b.json"
    for content in (OFFICIAL, [OFFICIAL, 3, "a {[\\\"", [], None, {"x": [1, {"y": 2}]}]):
        for indent in (None, 1, 4):
            text = "\ufeff\n " + json.dumps(content, indent=indent)
            file.write_text(text, encoding="utf-8")
            found = read_entries(file)
            pairs = content.items() if isinstance(content, dict) else ((None, v) for v in content)
            assert [(e.key, e.value) for e in found] == list(pairs)
            if indent is None:
                assert {e.line for e in found} == {2}
            elif isinstance(content, dict):
                assert [e.line for e in found] == [3, 7, 11]


def test_all_that_is_wrong_is_told_at_once_with_its_line(images):
    wanted = planned(images, """[
 {"image": "1.png", "source": "wolf", "prompt": "a cake"},
 {"image": "9.png", "source": "", "prompt": ["", "a fox", 3],
  "seed": -1, "settings": {"steps": 0}},
 {"image": "2.png", "source": "x", "prompt": "y", "prompt": "z"}
]""")
    assert [i.name for i in wanted.items] == ["1"]
    assert [(p.line, p.name) for p in wanted.problems] == [(3, "9.png")] * 6 + [(5, "2.png")]
    told = " ".join(p.message for p in wanted.problems)
    for words in ("no file '9.png'", "steps is 0", "seed is -1", "prompt is empty", "source is empty", "prompt is 3", "'prompt' is given twice"):
        assert words in told
    assert all(p.message.endswith(".") and "\n" not in p.message for p in wanted.problems)


def test_a_picture_named_twice_in_the_official_form_is_done_once_and_refused_once(images):
    wanted = planned(images, '{"1.png": ["a", "b"],\n "1.png": ["a", "c"]}')
    assert [(i.name, i.prompt) for i in wanted.items] == [("1", "b")]
    assert [(p.line, p.name) for p in wanted.problems] == [(2, "1.png")]


def test_the_list_form_sets_what_an_entry_asks_for(images):
    (images / "more").mkdir()
    Image.new("RGB", (8, 8)).save(images / "more" / "4.png")
    wanted = planned(images, [
        {"image": "1.png", "source": "wolf", "prompt": ["a cake", "a\n fox "], "seed": 7},
        {"image": "2.png", "source": "x", "prompt": "y", "name": "my name", "method": "paper",
         "settings": {"lr": 1, "sizes": [0.5, 0.25], "standardise": True, "guidance": None}},
        {"image": "more/4.png", "source": "x", "prompt": "y", "full_frame": True}], seed=3, changes={"steps": 1})
    assert not wanted.problems
    names = [(i.name, i.prompt, i.seed, i.full_frame) for i in wanted.items]
    assert names[:2] == [("1-1", "a cake", 7, False), ("1-2", "a fox", 7, False)]
    assert names[-1] == ("more_4", "y", 3, True)
    assert wanted.items[2].name == "my name"
    assert wanted.items[2].method == METHODS["paper"].but(steps=1, lr=1.0, sizes=(0.5, 0.25), standardise=True)


def test_the_sample_batch_is_whole_and_in_words_that_the_miniatures_know(models, tmp_path):
    wanted = plan(DATA / "images.json", DATA / "images", tmp_path)
    assert len(wanted.items) == 6 and not wanted.problems
    assert not [w for i in wanted.items for t in (i.source, i.prompt) for w in models.warnings_for(t)]
    for item in wanted.items:
        assert read_image(item.image).size == (128, 128)


# What it writes


@pytest.fixture(scope="module")
def batch(models, tmp_path_factory):
    """A finished batch of the official form: its plan."""
    images = tmp_path_factory.mktemp("batch") / "images"
    images.mkdir()
    for i in range(3):
        picture = Image.fromarray(scene(i, 1).render())
        (picture if i else picture.resize((150, 100))).save(images / f"{i + 1}.png")
    wanted = planned(images, OFFICIAL)
    assert done(wanted, models) == 0
    return wanted


def test_each_item_has_the_documented_files(batch):
    for name in ("1", "2", "3"):
        written = sorted(f.relative_to(batch.folder / name).as_posix()
                         for f in (batch.folder / name).rglob("*") if f.is_file())
        assert written == [LEDGER, "boxes/00.png", "final_output.png", "input.png", "item.json", "overview.png",
                           "region_network.safetensors", "result.json", "results/00.png"]
    assert {f.name for f in batch.folder.iterdir()} == {
        LEDGER, "1", "2", "3", "batch.lock", "batch.log", "contact_sheet.png", "summary.csv", "summary.json"}


def test_an_items_input_is_checked_once_and_made_upright_once(images, models, monkeypatch):
    uprights, checks = [], []
    monkeypatch.setattr(items, "check_text", lambda *named: checks.append(named) or check_text(*named))
    wanted = planned(images, {"1.png": [" wolf ", "a cake"]})
    assert sorted(checks) == [("prompt", "a cake"), ("source", " wolf ")]
    monkeypatch.setattr(pictures, "upright", lambda image: uprights.append(image) or upright(image))
    monkeypatch.setattr(method, "check_text", lambda *named: pytest.fail("checked again"))  # behind check_input, too
    with folder.locked(wanted.folder):
        outcome = edit_item(models, wanted.items[0], {})
    assert outcome.good and outcome.row["source"] == "wolf"
    assert len(uprights) == 1


def test_an_item_is_what_one_edit_gives(batch, models):
    for item in batch.items:
        alone = edit(models, item.image, item.source, item.prompt, item.method, item.seed, progress=False)
        loaded = EditResult.load(item.folder)
        assert loaded.image.tobytes() == alone.image.tobytes()
        assert loaded.box == alone.box and loaded.method == alone.method and loaded.seed == 42


def test_the_table_has_every_entry_in_order(batch):
    table = rows(batch.folder)
    assert [(r["name"], r["line"], r["status"], r["source"], r["prompt"]) for r in table] == [
        (n[0], "1", "done", *texts) for n, texts in OFFICIAL.items()]
    for row in table:
        result = EditResult.load(batch.folder / row["name"])
        assert tuple(int(row[k]) for k in ("x0", "y0", "x1", "y1")) == result.box
        assert float(row["loss"]) == pytest.approx(result.candidates[0].loss, abs=1e-5)
        assert float(row["seconds"]) > 0
        assert int(row["evaluations"]) == result.cost["denoiser_evaluations"] > 0


def test_the_contact_sheet_shows_every_final_picture(batch):
    sheet = read_image(batch.folder / "contact_sheet.png")
    assert sheet.size == (3 * (324 + 8) + 8, 108 + 34 + 16)
    for i, item in enumerate(batch.items):
        picture = read_image(item.folder / "overview.png")
        picture.thumbnail((324, 108), Image.Resampling.LANCZOS)
        x, y = 8 + i * 332, 8 + 108 - picture.height
        assert sheet.crop((x, y, x + picture.width, y + picture.height)).tobytes() == picture.tobytes()


def test_many_items_get_several_contact_sheets_of_limited_size(batch, tmp_path):
    def sheets(items) -> list[Path]:
        with folder.output_of(tmp_path).change() as change:
            change.remove(*summary._sheets(tmp_path))
            summary._write_sheets(change, items)
        return sorted(f for f in tmp_path.iterdir() if f.name != LEDGER)

    (tmp_path / "contact_sheet_holiday.png").write_text("mine")
    many = sheets(batch.items * 33)
    assert [f.name for f in many] == [*(f"contact_sheet_{i:03}.png" for i in (1, 2, 3)), "contact_sheet_holiday.png"]
    assert all(max(read_image(f).size) < 2000 for f in many[:3])
    assert [f.name for f in sheets(batch.items)] == ["contact_sheet.png", "contact_sheet_holiday.png"]
    assert (tmp_path / "contact_sheet_holiday.png").read_text() == "mine"


def test_a_cell_that_could_be_a_formula_is_harmless(models, images):
    done(planned(images, {"1.png": ["=1+1", "@x"]}), models)
    assert [(r["source"], r["prompt"]) for r in rows(images.parent / "out")] == [("'=1+1", "'@x")]


# What it keeps and does again


def test_a_finished_batch_is_kept_and_loads_no_model(batch):
    before, edits = states(batch.folder), len(begun(batch.folder))

    def load():
        raise AssertionError("models were loaded")

    assert run.run(batch, TINY, load, quiet=True) == 0
    assert states(batch.folder) == before
    assert len(begun(batch.folder)) == edits
    assert json.loads((batch.folder / "summary.json").read_text())["kept"] == 3


def test_only_what_has_changed_is_done_again_and_why_is_told(models, images, capsys):
    first = planned(images, OFFICIAL)
    done(first, models)
    before = states(first.folder)
    os.utime(images / "1.png")  # another time, the same content
    second = planned(images, {**OFFICIAL, "2.png": ["fox", "an apple"]})
    assert run.run(second, TINY, lambda: models) == 0
    now = states(first.folder)
    assert {n for n in now if now[n] != before.get(n)} == {n for n in now if n.startswith("2/")}
    assert "again: 2: changed since: prompt" in capsys.readouterr().err

    # Another picture of the same size and time, as an archive or a copy that keeps times leaves it.
    state, data = (images / "3.png").stat(), (images / "3.png").read_bytes()
    (images / "3.png").write_bytes(data[::-1])
    os.utime(images / "3.png", ns=(state.st_atime_ns, state.st_mtime_ns))
    found = run.survey(planned(images, {**OFFICIAL, "2.png": ["fox", "an apple"]}), key.identity(TINY))
    assert found.again == {"3": "changed since: image"}
    (first.folder / "1" / "final_output.png").write_bytes(b"short")
    (first.folder / "2" / "results" / "00.png").unlink()
    found = run.survey(planned(images, {**OFFICIAL, "2.png": ["fox", "an apple"]}), key.identity(TINY))
    assert found.again == {"3": "changed since: image", "2": "some of its files are missing or damaged"}
    # What is not as it was written may be somebody's work by now, so it is not edited over.
    (refused,) = found.refused
    assert (refused.name, refused.status) == ("1", "refused")
    assert "final_output.png' is not as an edit wrote it (changed or damaged since); move it away" in refused.message
    (first.folder / "1" / "final_output.png").unlink()
    found = run.survey(planned(images, {**OFFICIAL, "2.png": ["fox", "an apple"]}), key.identity(TINY))
    assert found.again["1"] == "some of its files are missing or damaged" and not found.refused
    other = planned(images, OFFICIAL, seed=1, changes={**CHANGES, "steps": 2})
    assert run.survey(other, key.identity(TINY)).again["3"] == "changed since: image, seed, steps"


def test_the_key_holds_all_that_decides_the_result(images):
    one = planned(images, {"1.png": ["wolf", "a cake"]}).items[0]
    models = key.identity(TINY)
    inputs = key.inputs(one, "picture", models)
    others = [planned(images, {"1.png": texts}, **options).items[0] for texts, options in (
        (["fox", "a cake"], {}), (["wolf", "a fox"], {}), (["wolf", "a cake"], {"seed": 1}),
        (["wolf", "a cake"], {"full_frame": True}), (["wolf", "a cake"], {"method": "paper", "changes": {"steps": 1}}),
        (["wolf", "a cake"], {"changes": {**CHANGES, "lr": 0.01}}))]
    keys = [key.key(i) for i in (inputs, *(key.inputs(o, "picture", models) for o in others),
                                 key.inputs(one, "another", models))]
    assert len(set(keys)) == len(keys)
    assert key.key(key.inputs(one, "picture", dict(reversed(models.items())))) == keys[0]


def test_models_are_known_by_their_contents(tmp_path):
    from dataclasses import replace

    copy = tmp_path / "dino"
    copy.mkdir()
    for file in Path(TINY.backbone[0]).iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    mine = replace(TINY, backbone=(str(tmp_path / "not there"), str(copy)))
    before = key.identity(mine)
    assert before["backbone"].rsplit(" ", 1)[1] == key.identity(TINY)["backbone"].rsplit(" ", 1)[1]
    weights = copy / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    after = key.identity(mine)
    assert {part for part in after if after[part] != before[part]} == {"backbone"}
    assert key.identity(replace(TINY, clip=("nobody/has-such-a-model",))) is None


# What goes wrong with one item


def test_a_failure_leaves_the_others_alone_and_is_in_the_log(models, images):
    calls = []

    def fail(module, args, kwargs):
        calls.append(1)
        if len(calls) == 1:
            raise RuntimeError("the accelerator\nis on fire")

    wanted = planned(images, OFFICIAL)
    denoiser = next(m for n, m in models.editor.pipeline.components.items() if n in ("unet", "transformer"))
    hook = denoiser.register_forward_pre_hook(fail, with_kwargs=True, prepend=True)
    try:
        assert done(wanted, models) == 1
    finally:
        hook.remove()
    table = rows(wanted.folder)
    assert [r["status"] for r in table] == [FAILED, DONE, DONE]
    assert table[0]["message"] == ("1.png could not be edited (RuntimeError: the accelerator is on fire); the log tells "
                                   "where.")
    assert "Traceback" in (wanted.folder / "batch.log").read_text()
    assert not (wanted.folder / "1").exists()
    assert done(wanted, models) == 0
    assert sorted(begun(wanted.folder)) == ["1", "1", "2", "3"]


def test_an_item_that_cannot_be_saved_leaves_the_others_alone(models, images, monkeypatch):
    saved = EditResult.save

    def save(result, folder, **how):
        if Path(folder).name == "1":
            raise MemoryError
        return saved(result, folder, **how)

    wanted = planned(images, OFFICIAL)
    with monkeypatch.context() as patched:
        patched.setattr(EditResult, "save", save)
        assert done(wanted, models) == 1
    table = rows(wanted.folder)
    assert [r["status"] for r in table] == [FAILED, DONE, DONE] and "1.png could not be saved (MemoryError" in table[0]["message"]
    assert done(wanted, models) == 0


def test_a_damaged_overview_does_not_stop_the_summary(batch, models, tmp_path):
    folder = tmp_path / "out"
    shutil.copytree(batch.folder, folder)
    wanted = plan(batch.folder.parent / "batch.json", batch.folder.parent / "images", folder, changes=CHANGES)
    overview = folder / "1" / "overview.png"
    data = bytearray(overview.read_bytes())
    data[len(data) // 2] ^= 255
    overview.write_bytes(data)
    (folder / "2" / "item.json").unlink()  # one is to be done
    assert done(wanted, models) == 0 and len(rows(folder)) == 3


def test_a_batch_without_a_good_entry_makes_nothing(images, tmp_path):
    with pytest.raises(UserError, match=r"line 1, 1\.png: The prompt is empty"):
        run.run(planned(images, {"1.png": ["a", ""]}), TINY, lambda: None)
    assert not (images.parent / "out").exists()


# For engines


def test_items_and_outcomes_travel_and_shares_cover_all(batch, models, tmp_path):
    again = pickle.loads(pickle.dumps(batch.items))
    assert again == batch.items
    outcome = Outcome("x", KEPT, row={"box": [1]})
    assert pickle.loads(pickle.dumps(outcome)) == outcome
    items = list(range(10))
    for n in (1, 2, 3, 12):
        parts = [run.share(items, rank, n) for rank in range(n)]
        assert sorted(i for part in parts for i in part) == items
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_one_item_is_edited_by_itself(models, images):
    wanted = planned(images, OFFICIAL)
    item, identity = wanted.items[1], key.identity(TINY)
    with folder.locked(wanted.folder):
        outcome = edit_item(models, item, identity)
    assert outcome.status == DONE and outcome.good
    state = folder.check(item, identity)
    assert state.done and state.record["row"] == outcome.row
    assert not folder.check(wanted.items[0], identity).done


# The command


def test_the_command_tells_machines_what_happens(images, capsys):
    (images.parent / "b.json").write_text(json.dumps({**OFFICIAL, "9.png": ["a", "b"]}))
    arguments = ["batch", str(images.parent / "b.json"), "--images", str(images), "--output",
                 str(images.parent / "o"), "--json", "--quiet", *FAST]
    assert main(arguments) == 1
    said = capsys.readouterr()
    events = [json.loads(line) for line in said.out.splitlines()]
    assert [e["event"] for e in events] == ["refused", "start", *["begin", "done"] * 3, "end"]
    assert events[0]["name"] == "9.png" and events[0]["line"] == 1
    assert [e["name"] for e in events if e["event"] == "done"] == ["1", "2", "3"]
    assert events[-1]["good"] == 3 and events[-1]["entries"] == 4 and events[-1]["refused"] == 1
    assert said.err.splitlines()[0].startswith("refused: line 1, 9.png: There is no file '9.png'")
    assert "4 entries: 3 edited, 0 done before, 1 refused" in said.err


def test_the_command_shows_a_bar_unless_it_is_quiet(images, capsys):
    (images.parent / "b.json").write_text(json.dumps(OFFICIAL))
    arguments = ["batch", str(images.parent / "b.json"), "--images", str(images), "--output",
                 str(images.parent / "o"), *FAST]
    assert main(arguments) == 0
    said = capsys.readouterr()
    assert "3/3" in said.err and said.out == ""
    assert "3 entries: 3 edited, 0 done before;" in said.err
    assert main([*arguments, "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")


def test_check_reads_everything_and_edits_nothing(images, capsys):
    (images / "2.png").write_bytes(b"nothing")
    (images.parent / "b.json").write_text(json.dumps({**OFFICIAL, "3.png": ["a"]}))
    arguments = ["batch", str(images.parent / "b.json"), "--images", str(images), "--output",
                 str(images.parent / "o"), "--check"]
    assert main(arguments) == 1
    said = capsys.readouterr().out
    assert "3.png: What stands after the picture" in said and "line 1, 2: 2.png is not a picture" in said
    assert main([*arguments, "--json"]) == 2 and "leave --json out" in capsys.readouterr().err
    assert "2 problems" in said
    assert not (images.parent / "o").exists()
    (images.parent / "b.json").write_text(json.dumps({"1.png": ["a", "b"]}))
    assert main(arguments) == 0


@pytest.mark.parametrize("bad", [["--images", "nowhere"], ["--anchors", "0"], ["--seed", "-1"], ["--lr", "nan"],
                                 ["--profile", "nothing"]])
def test_an_option_that_is_wrong_is_told_before_any_work(images, capsys, bad):
    (images.parent / "b.json").write_text(json.dumps(OFFICIAL))
    arguments = ["batch", str(images.parent / "b.json"), "--images", str(images), "--output",
                 str(images.parent / "o"), *FAST, *bad]
    assert main(arguments) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not (images.parent / "o").exists()


# Pictures of other sizes and kinds


def region(result: EditResult) -> tuple[slice, slice]:
    """Rows and columns of the region in the input."""
    x0, y0, x1, y1 = result.box
    return slice(y0, y1), slice(x0, x1)


@pytest.mark.parametrize("name", ["rgba.png", "turned.jpg", "wide.png", "grey.png"])
def test_outside_the_region_the_result_is_the_input(models, images, name):
    whole = Image.fromarray(scene(4, 1).render()).resize((300, 130))
    if name == "rgba.png":
        whole.putalpha(Image.fromarray(np.random.default_rng(0).integers(0, 256, (130, 300), dtype=np.uint8)))
    exif = Image.Exif()
    exif[0x0112] = 6 if name == "turned.jpg" else 1
    (whole.convert("L") if name == "grey.png" else whole).save(images / name, exif=exif)
    wanted = planned(images, {name: ["wolf", "a cake"]})
    assert done(wanted, models) == 0
    result = EditResult.load(wanted.items[0].folder)
    with Image.open(images / name) as stored:
        given = np.asarray(stored if name == "rgba.png" else stored.convert("RGB"))
        given = np.rot90(given, -1) if name == "turned.jpg" else given
    with Image.open(wanted.items[0].folder / "final_output.png") as written:
        assert written.mode == ("RGBA" if name == "rgba.png" else "RGB")
        assert written.getexif().get(0x0112) is None
        final = np.asarray(written).copy()
    assert final.shape == given.shape
    rows_, columns = region(result)
    assert (final[rows_, columns] != given[rows_, columns]).mean() > 0.5
    if name == "rgba.png":
        middle = final[rows_, columns][final[rows_, columns].shape[0] // 2]
        assert middle[len(middle) // 2, 3] == 255
    final[rows_, columns] = given[rows_, columns]
    assert np.array_equal(final, given)


def test_the_full_frame_is_the_models_own(models, images):
    Image.fromarray(scene(4, 1).render()).resize((300, 130)).save(images / "1.png")
    wanted = planned(images, {"1.png": ["wolf", "a cake"]}, full_frame=True)
    assert done(wanted, models) == 0
    item = wanted.items[0]
    result = EditResult.load(item.folder)
    assert result.image.size == (300, 130) and result.record["full_frame"] is True
    assert result.cost["denoiser_evaluations"] == (result.cost["different_edits"] + 1) * 2
    canvas = Canvas(read_image(item.image), 128)
    left, top, right, bottom = window = canvas.window(result.box)
    inside = [round(v) for v in inner_box(result.box, window, 128)]
    frame = models.editor.inpaint(canvas.crop(window), box_mask(inside, 128, 128)[None], item.prompt, seed=item.seed,
                                  steps=1)[0]
    expected = paste_back(canvas.picture, frame, (0, 0, 128, 128), FEATHER, window)
    assert result.image.tobytes() == expected.tobytes()
    # All of what the model saw has changed, region or not, and nothing else.
    changed = (np.asarray(result.image) != np.asarray(canvas.picture)).any(2)
    assert changed[top:bottom, left:right].mean() > 0.5
    changed[top:bottom, left:right] = False
    assert not changed.any()


def test_the_edit_command_gives_the_full_frame_too(images, capsys):
    output = images.parent / "one"
    assert main(["edit", "--image", str(images / "1.png"), "--source", "wolf", "--prompt", "a cake", "--output",
                 str(output), "--full-frame", "--quiet", *FAST]) == 0
    plain = to_tensor(read_image(images / "1.png"))
    changed = (to_tensor(read_image(output / "final_output.png")) != plain).any(0)
    assert changed.float().mean() > 0.5
    assert EditResult.load(output).record["full_frame"] is True


def test_a_colour_profile_stays_with_the_colours_it_describes(models, images):
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    picture = Image.fromarray(scene(4, 1).render())
    picture.save(images / "rgb.jpg", icc_profile=profile)
    picture.convert("CMYK").save(images / "cmyk.jpg", icc_profile=profile)
    wanted = planned(images, {"rgb.jpg": ["wolf", "a cake"], "cmyk.jpg": ["wolf", "a cake"]})
    assert done(wanted, models) == 0
    for item, expected in zip(wanted.items, (profile, None), strict=True):
        with Image.open(item.folder / "final_output.png") as written:
            assert written.info.get("icc_profile") == expected


# What it costs


def test_a_finished_batch_does_not_wait_for_torch(batch):
    program = ("import sys\nfrom pathlib import Path\nfrom lr_helpers.cli import main\ncode = main(sys.argv[1:])\n"
               "print(code, [m for m in ('torch', 'diffusers', 'transformers') if m in sys.modules])")
    file = batch.folder.parent / "batch.json"
    ran = subprocess.run([sys.executable, "-c", program, "batch", str(file), "--images", str(file.parent / "images"),
                          "--output", str(batch.folder), "--quiet", *FAST], capture_output=True, text=True,
                         cwd=DATA.parent)
    assert (ran.stdout, ran.stderr) == ("0 []\n", "")


@pytest.mark.all
def test_the_benchmark_measures_what_it_says(tmp_path, capsys, monkeypatch):
    from lr_helpers.costs import batch as benchmark

    monkeypatch.setattr(benchmark, "TURNS", 1)  # there and not back: most of its time goes into starting processes
    monkeypatch.setattr(benchmark, "RESUMED", 1)
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")  # two threads that wait spinning beside other tests take minutes
    assert benchmark.main(["--overhead", "1", "--memory", "4", "--resume", "5", "--throughput", "2", "--machine", "1",
                           "--output", str(tmp_path / "f.json")]) == 0
    figures = json.loads((tmp_path / "f.json").read_text(encoding="utf-8"))
    assert figures["resume"]["finished items"] == 5 and figures["memory"]["items"] == 4
    assert all(value > 0 for name in ("memory", "resume", "machine") for key_, value in figures[name].items() if "%" not in key_)
    assert figures["overhead"]["seconds of an edit, median"] > 0
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == sum(map(len, figures.values()))
