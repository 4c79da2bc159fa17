"""`study compare`: what is asked of whom, the judge's scan, the frontier, and a study that goes on where it stopped."""

import json

import matplotlib.pyplot as plt
import pytest
import torch

from lr_helpers import UserError, load_models, plots
from lr_helpers.baselines import ABLATIONS, ACROSS, BASELINES, TITLES, load_baseline
from lr_helpers.cli import main
from lr_helpers.files.paths import DATA
from lr_helpers.models.profiles import get_profile
from lr_helpers.study import compare, rivals
from lr_helpers.study.compare import asked, at, measure, variants
from lr_helpers.study.tasks import TEST, VALIDATION, task
from tiny_world import judge
from tiny_world.scenes import tensor


@pytest.fixture(scope="module")
def models():
    return load_models("tiny", device="cpu")


@pytest.fixture(scope="module")
def judge_model():
    return judge.load()


def done(one) -> torch.Tensor:
    """The task done without a fault: the scene drawn again with the target."""
    index = next(i for i, o in enumerate(one.recipe.objects) if o.name == one.source)
    return tensor(one.recipe.replaced(index, one.target))


# What is asked of whom


def test_each_row_is_tried_at_each_cost_that_it_can_have():
    found = variants()
    here = get_profile("tiny").regions.is_file()  # those that ask a region predictor come with its weights
    assert {v.row for v in found} == set(BASELINES) - set(ABLATIONS) - (set() if here else set(ACROSS))
    assert len({v.name for v in found}) == len(found)
    steps = {row: [v.settings["steps"] for v in found if v.row == row] for row in BASELINES}
    assert steps["sdedit"] == list(compare.STEPS) == [3, 6, 12, 25]
    assert steps["learned"] == [3, 6, 12]
    assert steps["paper"] == [12]
    assert steps["ledits_pp"] == [6, 12, 25]
    assert variants(["sdedit"], [4]) == [at("sdedit", 4)]
    assert variants(["reinforce"]) == [at("reinforce", 12)]
    assert variants(["fast", "predicted"]) == [at(row, n) for row, most in (("fast", 12), ("predicted", 25)) for n in (3, 6, 12, 25) if n <= most]
    with pytest.raises(UserError, match="'photoshop' is unknown; choose from whole_picture"):
        variants(["photoshop"])


def test_who_paints_whole_pictures_gets_whole_sentences():
    one = task("replace", TEST + 1)
    assert asked(one, "learned") == (one.source, one.prompt)
    before, after = asked(one, "sdedit")
    other = one.others[0][0]
    assert one.source in before and one.target not in before
    assert one.target in after and one.source not in after.split()
    assert other in before and other in after and before == one.recipe.caption()
    added = task("add", TEST + 1)
    before, after = asked(added, "diffedit")
    assert added.target in after and added.target not in before and added.others[0][0] in after


# Measures


def test_the_scan_sees_what_is_there_and_nothing_else(judge_model):
    found = compare.calibrate(12, judge_model)
    assert found["seen though not there"]["value"] == 0 and found["seen where it is"]["value"] == 1
    assert found["seen where it is"]["count"] == 12
    one = task("replace", VALIDATION)
    grey = torch.full((3, 128, 128), 0.5)
    assert judge.sees(one.picture, one.source, judge_model) > judge.SURE > judge.sees(grey, one.source, judge_model)


@pytest.mark.parametrize("seed", [TEST, TEST + 1])
def test_the_true_edit_does_the_task_and_no_edit_does_not(seed, models, judge_model):
    one = task("replace", seed)
    x0, y0, x1, y1 = one.truth
    region = torch.zeros(128, 128)
    region[y0:y1, x0:x1] = 1
    right = measure(one, done(one), region, models, judge_model)
    assert right["success"] == right["target_seen"] == right["source_gone"] == right["iou"] == right["hit"] == 1
    nothing = measure(one, one.picture, None, models, judge_model)
    assert nothing["success"] == nothing["target_seen"] == nothing["source_gone"] == 0
    assert "iou" not in nothing and nothing["psnr"] == 60
    assert right["clip"] > nothing["clip"]
    assert ("others_kept" in right) == bool(one.others)
    assert measure(one, done(one), torch.zeros(128, 128), models, judge_model)["iou"] == 0


def test_measures_that_not_all_tasks_have_are_means_over_those_that_have_them():
    common = {"row": "sdedit at 12", "success": 1.0, "psnr": 20.0, "evaluations": 18}
    records = [{**common, "task": "replace_1", "objects": 1}, {**common, "task": "replace_2", "objects": 2, "others_kept": 1.0},
               {**common, "task": "replace_3", "objects": 2, "others_kept": 0.0}, {**common, "task": "add_1", "objects": 0}]
    means = compare.summarise(records)["means"]
    assert means["replace"]["sdedit at 12"]["others_kept"]["value"] == 0.5
    assert [means[kind]["sdedit at 12"]["success"]["count"] for kind in ("replace", "add")] == [3, 1]
    assert means["replace"]["sdedit at 12"]["others_kept"]["count"] == 2


# The frontier


def means(**found: tuple[float, float, float]) -> dict:
    return {name.replace("_at_", " at "): {k: {"value": v, "low": v, "high": v} for k, v in zip(
        ("success", "psnr", "evaluations"), values, strict=True)} for name, values in found.items()}


@pytest.mark.parametrize(("other", "beats"), [
    ((0.9, 30, 100), False),  # the same in all three
    ((0.9, 30, 99), True), ((0.95, 30, 100), True), ((0.9, 31, 100), True), ((1.0, 40, 50), True),
    ((1.0, 40, 101), False), ((1.0, 29, 50), False), ((0.8, 40, 50), False)])
def test_who_beats_ours(other, beats):
    found = compare.better(means(learned_at_6=(0.9, 30, 100), sdedit_at_6=other, known_region_at_6=(1, 60, 1)))
    assert found == {"learned at 6": ["sdedit at 6"] if beats else []}


def test_our_own_other_costs_do_not_count():
    assert compare.better(means(learned_at_6=(0.9, 30, 100), learned_at_3=(1, 40, 50)))["learned at 6"] == []


def test_the_worst_come_first():
    records = [{"row": v, "task": f"{kind}_{seed}", "success": s, "psnr": p} for v, kind, seed, s, p in (
        ("learned at 12", "replace", 1, 1.0, 20), ("learned at 12", "replace", 2, 0.0, 40),
        ("learned at 12", "replace", 3, 0.0, 30), ("learned at 6", "replace", 4, 0.0, 1), ("learned at 12", "add", 5, 0.0, 1))]
    assert compare.worst(records, "learned") == [3, 2, 1]


def test_the_frontier_is_drawn_and_described():
    families = {name: row.family for name, row in BASELINES.items()}
    figure = plots.show_frontier(means(learned_at_3=(0.8, 30, 30), learned_at_6=(0.9, 31, 60), sdedit_at_3=(0.5, 20, 5),
                                       known_region_at_3=(1, 60, 6)), TITLES, families)
    try:
        assert [len(axes.lines) > 0 for axes in figure.axes] == [True, True]
        assert [t.get_text() for t in figure.legends[0].get_texts()] == ["learned", "SDEdit", "known region"]
        assert "learned at 6: denoiser evaluations 60, task success 0.9" in figure.get_label()
    finally:
        plt.close(figure)


# The run


def records_of(rows, seed):
    """Made up: five replacements and three additions of each row."""
    draw = torch.Generator().manual_seed(seed)
    return [{"task": f"{kind}_{n}", "row": row, "objects": 1 + n % 2, "success": float(torch.rand((), generator=draw) > 0.5),
             "psnr": 30 + 10 * float(torch.rand((), generator=draw)), "evaluations": 24} for row in rows
            for kind, count in (("replace", 5), ("add", 3)) for n in range(count)]


def summary_of(records, **more):
    return {"study": "compare", "steps": 12, "scenes": "test", "tasks": {"replace": 5, "add": 3}, "not_run": {},
            **compare.summarise(records), "worst": {"learned": compare.worst(records, "learned")}, **more}


@pytest.mark.parametrize("again", [["learned at 6", "learned at 12"], ["sdedit at 12"], ["sam3 at 12"]])
def test_rows_that_are_run_again_take_the_place_of_the_earlier_ones(again):
    rows = ["sdedit at 12", "learned at 6", "learned at 12", "paper at 12"]
    kept, fresh = records_of([row for row in rows if row not in again], 0), records_of(again, 1)
    earlier = summary_of(records_of(rows, 0), not_run={"sam3": "no weights", "clipseg": "no weights"})
    earlier["means"] |= {title: {**found, **compare.summarise(kept)["means"][title]} for title, found in earlier["means"].items()}
    found = compare.onto(earlier, summary_of(fresh))
    whole = summary_of(kept + fresh)
    assert found["means"] == whole["means"] and found["beaten_by"] == whole["beaten_by"]
    assert found["worst"] == (whole["worst"] if "learned at 12" in again else earlier["worst"])
    assert list(found["not_run"]) == (["clipseg"] if again == ["sam3 at 12"] else ["sam3", "clipseg"])


def test_rows_that_were_asked_of_other_kinds_of_tasks_lose_nothing():
    only, both = [r for r in records_of(["paper at 12"], 0) if r["task"].startswith("replace")], records_of(["sdedit at 12"], 1)
    for earlier, fresh in ((only, both), (both, only)):
        found = compare.onto({**summary_of(both), **compare.summarise(earlier)}, {**summary_of(both), **compare.summarise(fresh)})
        assert found["means"] == compare.summarise([*earlier, *fresh])["means"]


@pytest.mark.parametrize("change", [{}, {"scenes": "validation"}, {"tasks": {"replace": 6, "add": 3}}, {"study": "regions"}, None])
def test_a_summary_of_other_scenes_is_refused_before_anything_is_edited(change, tmp_path, capsys):
    earlier = summary_of(records_of(["learned at 12"], 0))
    file = tmp_path / "earlier.json"
    if change is not None:
        file.write_text(json.dumps({**earlier, **change}), encoding="utf-8")
    make = lambda: compare.Compare(tmp_path / "out", replace=5, add=3, onto=file)  # noqa: E731
    if change == {}:
        assert make().earlier == earlier
        return
    with pytest.raises(UserError, match="--onto"):
        make()
    command = ["study", "compare", "--replace", "5", "--add", "3", "--onto", str(file), "--output", str(tmp_path / "out")]
    assert main(command) == 2
    assert "--onto" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_a_comparison_goes_on_where_it_stopped(tmp_path, capsys):
    command = ["study", "compare", "--validation", "--replace", "1", "--add", "0", "--workers", "1",
               "--output", str(tmp_path), "--methods", "known_region", "whole_picture", "clipseg"]
    assert main(command) == 0
    stored = tmp_path / "records" / "known_region_at_3" / f"replace_{VALIDATION}.json"
    stamp, record = stored.stat().st_mtime_ns, json.loads(stored.read_text(encoding="utf-8"))
    assert record["iou"] == 1 and record["evaluations"] == 6  # three steps, with guidance
    assert "iou" not in json.loads((tmp_path / "records" / "whole_picture_at_3" / stored.name).read_text(encoding="utf-8"))
    said = capsys.readouterr().out
    assert "known region" in said and "CLIPSeg, its box: not run here." in said
    command[command.index("--replace") + 1] = "2"
    assert main([*command, "learned"]) == 0
    assert stored.stat().st_mtime_ns == stamp
    summary = json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))
    assert summary["means"]["replace"]["learned at 12"]["success"]["count"] == 2
    assert summary["means"]["replace, two objects"]["known_region at 25"]["evaluations"]["value"] == 50
    assert list(summary["not_run"]) == ["clipseg"] and set(summary["worst"]["learned"]) == {VALIDATION, VALIDATION + 1}
    assert set(summary["beaten_by"]["replace"]) == {f"learned at {n}" for n in (3, 6, 12)}
    assert len((tmp_path / "edits.csv").read_text().splitlines()) == 1 + 2 * (4 + 4 + 3)  # tasks × (variants of each)
    assert (tmp_path / "frontier.png").stat().st_size > 10_000
    capsys.readouterr()
    command.remove("--validation")
    assert main(command) == 2
    assert "other settings (validation)" in capsys.readouterr().err


@pytest.mark.parametrize(("more", "said"), [
    (["--replace", "0", "--add", "0"], "at least one task"), (["--add", "-1"], "--add is -1"),
    (["--methods", "photoshop"], "'photoshop' is unknown")])
def test_wrong_options_are_told(more, said, tmp_path, capsys):
    assert main(["study", "compare", "--output", str(tmp_path), *more]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("more", [["--steps", "3"], ["--scenes", "3"]])  # it takes several steps; extended has scenes
def test_options_of_other_studies_are_refused(more, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["study", "compare", "--output", str(tmp_path), *more])
    assert stop.value.code == 2
    assert f"study compare: error: unrecognized arguments: {' '.join(more)}" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_each_rival_is_tried_at_its_default_and_gets_what_served_it_best(tmp_path, models):
    names = [variant.name for variant in rivals.variants()]
    assert len(names) == len(set(names))
    for row in rivals.GRID:
        assert rivals.named(row, rivals.usual(row)) in names
        means = {rivals.named(row, rivals.usual(row)): {"success": {"value": 0.5}, "psnr": {"value": 20.0}}}
        assert rivals.best(row, means) == rivals.usual(row)
        other = next(name for name in names if name.startswith(row) and name not in means)
        for success, psnr, better in ((0.5, 21.0, True), (0.6, 1.0, True), (0.4, 60.0, False), (0.5, 19.0, False)):
            found = rivals.best(row, {**means, other: {"success": {"value": success}, "psnr": {"value": psnr}}})
            assert (rivals.named(row, found) == other) == better
    for variant in rivals.variants()[::7]:
        assert {k: getattr(variant.load(models), k) for k in variant.settings} == variant.settings


def test_what_was_chosen_for_the_rivals_is_what_they_get(models):
    stored = json.loads((DATA / "studies" / "rivals.json").read_text(encoding="utf-8"))
    chosen = {row: {name: value for name, value in settings.items() if value != stored["usual"][row][name]}
              for row, settings in stored["chosen"].items()}
    assert {row: own for row, own in chosen.items() if own} == get_profile("tiny").rivals
    assert stored["chosen"] == {row: rivals.best(row, stored["means"]) for row in rivals.GRID}
    for row, settings in stored["chosen"].items():
        loaded = load_baseline(row, "tiny", models)
        assert {name: getattr(loaded, name) or models.profile.guidance for name in settings} == settings
        assert load_baseline(row, "tiny", models, **stored["usual"][row]).guidance == stored["usual"][row]["guidance"]
