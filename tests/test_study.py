"""The study: tasks, measures and choosers mean what they say, and it goes on where it stopped."""

import json

import pytest
import torch

from lr_helpers.candidates import Candidates, Edits, shortlist
from lr_helpers.cli import main
from lr_helpers.editing import propose
from lr_helpers.files.paths import DATA
from lr_helpers.method import METHODS, Method
from lr_helpers.study import measures
from lr_helpers.study.choosers import CHOOSERS, Scene, learning
from lr_helpers.study.runner import Settings, run, write_csv
from lr_helpers.study.summary import _chosen, curves, summarise
from lr_helpers.study.tasks import TEST, VALIDATION, task
from tiny_world import judge
from tiny_world.scenes import tensor


@pytest.fixture(scope="module")
def judge_model():
    return judge.load()


@pytest.fixture(scope="module")
def replace_scene(models):
    return Scene(task("replace", VALIDATION), models, steps=2)


# Tasks


def test_replace_knows_the_box_of_what_must_go():
    for seed in range(TEST, TEST + 6):
        one = task("replace", seed)
        assert len(one.recipe.objects) == 1 + seed % 2 == len(one.others) + 1
        thing = next(o for o in one.recipe.objects if o.name == one.source)
        assert one.truth == thing.box
        assert one.target not in {o.name for o in one.recipe.objects}
        assert one.target in one.prompt


def test_add_asks_for_the_same_target_in_the_scene_with_an_object_less():
    for seed in (TEST, TEST + 1):
        before, one = task("replace", seed), task("add", seed)
        assert one.truth is None and one.replaced is None
        assert one.target == before.target
        assert [o.name for o in one.recipe.objects] == [n for n, _ in before.others] == [n for n, _ in one.others]


# Measures


def test_success_is_seen_by_the_judge(judge_model):
    one = task("replace", TEST + 1)
    index = next(i for i, o in enumerate(one.recipe.objects) if o.name == one.source)
    done = tensor(one.recipe.replaced(index, one.target))
    assert measures.success(one, one.truth, done, judge_model) == {
        "target_seen": 1, "source_gone": 1, "others_kept": 1, "success": 1}
    nothing = measures.success(one, one.truth, one.picture, judge_model)
    assert nothing == {"target_seen": 0, "source_gone": 0, "others_kept": 1, "success": 0}
    emptied = tensor(one.recipe.removed(1 - index).replaced(0, one.target))
    assert measures.success(one, one.truth, emptied, judge_model)["others_kept"] == 0


def test_region_measures_on_hand_computed_boxes():
    one = task("replace", TEST)
    x0, y0, x1, y1 = one.truth
    assert measures.region(one, one.truth) == {"iou": 1, "hit": 1, "centre_inside": 1}
    half = measures.region(one, (x0, y0, x0 + (x1 - x0) // 2, y1))
    assert half["iou"] == pytest.approx(((x1 - x0) // 2) / (x1 - x0))
    assert measures.region(one, (0, 0, 1, 1))["hit"] == 0
    assert measures.region(task("add", TEST), (0, 0, 9, 9)) == {}


def test_background_is_perfect_if_only_the_known_region_changed(models):
    one = task("replace", TEST)
    x0, y0, x1, y1 = one.truth
    edit = one.picture.clone()
    edit[:, y0:y1, x0:x1] = 0
    assert measures.background(one, edit, models)["psnr"] == measures.EXACT
    same = measures.background(one, one.picture, models)
    assert same["ssim"] == pytest.approx(1, abs=1e-4) and same["vit_distance"] == pytest.approx(0, abs=1e-5)
    # The mean square error outside is 0.01, so 20 dB.
    grey = torch.where(edit > 0.5, one.picture - 0.1, one.picture + 0.1)
    assert measures.background(one, grey, models)["psnr"] == pytest.approx(20, abs=0.01)


def test_intervals_hold_the_mean_in_about_95_of_100_cases():
    rng = torch.Generator().manual_seed(0)
    found = [measures.mean_with_interval((torch.rand(60, generator=rng) < 0.3).float().tolist(), i) for i in range(300)]
    share = sum(f["low"] <= 0.3 <= f["high"] for f in found) / 300
    assert 0.90 <= share <= 0.98  # binomial spread of 300 trials around .95 (percentile bootstrap: about .93)
    # 100 hits of 100, by Wilson's formula: n / (n + 1.96²) … 1
    assert measures.mean_with_interval([1.0] * 100, share=True) == {"value": 1, "low": 0.963, "high": 1, "count": 100}
    assert measures.mean_with_interval([1.0] * 100) == {"value": 1, "low": 1, "high": 1, "count": 100}  # e.g. IoUs
    assert measures.mean_with_interval([7.0, 7.0]) == {"value": 7, "low": 7, "high": 7, "count": 2}


# Candidates that share edits, shortlists and the edit-free term


def test_shared_edits_are_the_same_and_are_made_once(models, replace_scene):
    method = METHODS["learned"].but(steps=2)
    found = propose(models, replace_scene.picture, replace_scene.task.source, method)
    store = Edits(models, replace_scene.picture, replace_scene.task.prompt, 42, 2)

    def table(**more):
        return Candidates(models, replace_scene.picture, replace_scene.task.source, replace_scene.task.prompt,
                          found.boxes, method, 42, kept=found.kept, **more)

    alone, first, second = table(), table(edits=store), table(edits=store)
    losses = [t.losses(None) for t in (alone, first)]
    spent = models.editor.evaluations
    losses.append(second.losses(None))
    assert models.editor.evaluations == spent
    assert torch.equal(losses[0], losses[1]) and torch.equal(losses[1], losses[2])
    assert second.made == first.made == int(found.kept.sum()) == method.shortlist
    assert second.seconds > sum(store.seconds.values())  # counted as if it had made them


def test_a_shortlist_keeps_the_lowest():
    values, boxes = torch.tensor([[3.0, 1.0], [2.0, 1.0]]), torch.arange(16).reshape(2, 2, 4)
    assert shortlist(values, boxes, 2).tolist() == [[False, True], [False, True]]
    assert shortlist(values, boxes, 3).tolist() == [[False, True], [True, True]]
    assert shortlist(values, boxes, 0).all() and shortlist(values, boxes, 99).all()


def test_a_shortlist_holds_a_box_once():
    values, boxes = torch.tensor([[3.0, 1.0], [2.0, 1.0]]), torch.arange(16).reshape(2, 2, 4)
    boxes[1, 1] = boxes[0, 1]
    assert shortlist(values, boxes, 1).tolist() == [[False, True], [False, False]]
    assert shortlist(values, boxes, 2).tolist() == [[False, True], [True, False]]
    assert shortlist(values, boxes, 9).tolist() == [[True, True], [True, False]]
    assert shortlist(values, boxes, 0).all()


def test_slopes_are_what_autograd_finds_through_the_mask(models, replace_scene):
    from lr_helpers.candidates import weighted
    from lr_helpers.inpainting import composite
    from lr_helpers.regions import region_mask

    method = Method(steps=2, occlusion_weight=0.5, area_weight=0.5, anchors=3)
    table = replace_scene.table(method)
    choices = torch.tensor([2, 0, 5])
    weights = torch.nn.functional.one_hot(choices, 7).float().requires_grad_()
    (ours,) = torch.autograd.grad(table.blended(weights).sum(), weights)
    edits = table.edits[torch.arange(3), choices]
    pictures = composite(edits, table.image, region_mask(weights, table.boxes, 64))
    terms = {**table._judge(*table._see(pictures)),
             **{name: (weights * table.terms[name]).sum(1) for name in ("occlusion", "area")}}
    (theirs,) = torch.autograd.grad(weighted(terms, method).sum(), weights)
    assert torch.allclose(ours, theirs, atol=1e-5)
    again = table.under(METHODS["paper"])
    (papers,) = torch.autograd.grad(again.blended(weights).sum(), weights)
    assert not torch.allclose(papers, ours, atol=1e-3)


# Choosers


def test_every_chooser_answers_and_its_cost_is_what_the_editor_counts(models):
    one = task("replace", VALIDATION + 1)
    for name, choose in CHOOSERS.items():
        alone = Scene(one, models, steps=2)
        before = models.editor.evaluations
        choice = choose(alone)
        x0, y0, x1, y1 = choice.box
        assert 0 <= x0 < x1 <= 64 and 0 <= y0 < y1 <= 64
        spent = (models.editor.evaluations - before) / 4  # 2 steps, both halves of the guidance
        if name == "official_code":
            assert choice.edits > spent  # what it draws is counted, not made: it learns nothing from it
        elif not choice.trace:
            assert choice.edits == spent
        else:
            assert choice.edits <= spent  # retracing the way may ask for boxes that were passed over
            assert choice.trace[-1] == (choice.edits, choice.box)


@pytest.mark.parametrize("name", ["paper", "learned"])
def test_a_network_that_does_not_move_would_always_have_chosen_its_final_box(models, name):
    still = learning(METHODS[name].but(lr=1e-8, iterations=4))
    choice = still(Scene(task("replace", VALIDATION + 1), models, steps=1))
    assert len(choice.trace) >= 1
    assert {box for _, box in choice.trace} == {choice.box}


def test_learned_needs_no_truth_and_no_judge(models, replace_scene):
    """The same choice when the task lies about the truth."""
    from dataclasses import replace

    lying = replace(replace_scene.task, truth=(0, 0, 3, 3), others=(), replaced=None, target="ball")
    for name in ("random_anchors", "random_sizes", "official_code", "paper", "expectation", "exhaustive", "edit_free"):
        assert CHOOSERS[name](Scene(lying, models, 2)).box == CHOOSERS[name](replace_scene).box


def test_a_curve_counts_no_choice_yet_as_a_miss():
    records = [{"choices": {"a": {"trace": [[3, 0.9, 1.0]]}}}, {"choices": {"a": {"trace": [[1, 0.2, 0.0], [5, 0.7, 1.0]]}}}]
    assert curves(records) == {"a": {"edits": [1, 3, 5], "iou": [0.1, 0.55, 0.8], "hit": [0.0, 0.5, 1.0]}}


def test_a_curve_ends_with_the_final_choice():
    records = [{"choices": {"a": {"trace": [[12, 0.1, 0.0], [12, 0.9, 1.0]]}}},
               {"choices": {"a": {"trace": [[5, 0.2, 0.0], [12, 0.3, 0.0], [9, 0.4, 0.0], [12, 0.7, 1.0]]}}}]
    assert curves(records) == {"a": {"edits": [5, 9, 12], "iou": [0.1, 0.2, 0.8], "hit": [0.0, 0.0, 1.0]}}
    stored = json.loads((DATA / "studies" / "regions.json").read_text(encoding="utf-8"))
    for name, curve in stored["curves"].items():
        means = [stored["means"][f"replace, {n} object{'s' * (n == 'two')}"][name]["hit"] for n in ("one", "two")]
        ends = sum(m["value"] * m["count"] for m in means) / sum(m["count"] for m in means)
        assert curve["hit"][-1] == pytest.approx(ends, abs=1e-3), name


def test_a_rule_takes_the_entry_with_its_lowest_value():
    table = {"iou": torch.tensor([[0.1, 0.6], [0.3, 0.9]]), "clip": torch.tensor([[3.0, 1.0], [2.0, 5.0]])}
    assert _chosen([table], lambda t: t["clip"])["iou"]["value"] == pytest.approx(0.6)


# The run


@pytest.mark.all
def test_a_study_goes_on_where_it_stopped_and_says_the_same(tmp_path, capsys):
    settings = Settings("regions", 1, True)
    records = run(settings, tmp_path, 2, 1, workers=2)
    stored = (tmp_path / "tasks" / f"replace_{VALIDATION}.json")
    stamp = stored.stat().st_mtime_ns
    (tmp_path / "tasks" / f"replace_{VALIDATION + 1}.json").unlink()
    again = run(settings, tmp_path, 2, 1, workers=1)
    assert stored.stat().st_mtime_ns == stamp
    assert [c["box"] for r in again for c in r["choices"].values()] == [
        c["box"] for r in records for c in r["choices"].values()]

    summary = summarise(records)
    assert set(summary["means"]) == {"replace, one object", "replace, two objects", "add, empty scene"}
    assert summary["means"]["replace, one object"]["oracle"]["iou"]["value"] == 1
    write_csv(tmp_path / "rows.csv", records)
    assert len((tmp_path / "rows.csv").read_text().splitlines()) == 1 + 2 * len(CHOOSERS) + len(CHOOSERS) - 1

    command = ["study", "regions", "--output", str(tmp_path), "--replace", "2", "--add", "1", "--steps", "1"]
    assert main([*command, "--validation"]) == 0
    assert {"summary.json", "tasks.csv", "regions.png", "success.png", "curves.png"} <= {
        p.name for p in tmp_path.iterdir()}
    assert main(command) == 2  # the test scenes into a folder that holds validation scenes
    assert "other settings" in capsys.readouterr().err


@pytest.mark.parametrize("bad", [["--replace", "-1"], ["--steps", "0"], ["--replace", "0", "--add", "0"]])
def test_bad_numbers_are_told(bad, tmp_path, capsys):
    assert main(["study", "regions", "--output", str(tmp_path), *bad]) == 2
    assert bad[0] in capsys.readouterr().err
