"""The study: tasks, measures and choosers mean what they say, and it goes on where it stopped."""

import json

import numpy as np
import pytest
import torch
from scipy.stats import binom, multinomial

import tiny_world
from lr_helpers.baselines import ACROSS, Request
from lr_helpers.baselines.request import Share
from lr_helpers.candidates import Candidates, Edits, shortlist
from lr_helpers.cli import main
from lr_helpers.editing import propose
from lr_helpers.errors import UserError
from lr_helpers.files.paths import DATA
from lr_helpers.intervals import difference_with_interval, mean_with_interval
from lr_helpers.method import METHODS, Method
from lr_helpers.study import learning, measures, run, tables
from lr_helpers.study.regions import ROWS, Regions, flat, run_task, summarise
from lr_helpers.study.rules import ceiling, column, curves, part, pick, without
from lr_helpers.study.tasks import NOTHING, TEST, VALIDATION, restyled, task
from lr_helpers.study.variants import Variant, plain
from tiny_world import judge
from tiny_world.scenes import tensor
from tiny_world.sprites import HELD_OUT_STYLE


@pytest.fixture(scope="module")
def judge_model():
    return judge.load()


@pytest.fixture(scope="module")
def one():
    return task("replace", VALIDATION)


def request_for(one, **more) -> Request:
    return Request(one.picture, one.source, one.prompt, name=one.name, **more)


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


def test_remove_asks_for_the_place_that_is_left():
    for seed in range(TEST, TEST + 4):
        before, one = task("replace", seed), task("remove", seed)
        assert (one.source, one.truth, one.replaced, one.others) == (before.source, before.truth, before.replaced, before.others)
        assert one.prompt == f"empty {one.recipe.place}" and one.target == NOTHING and one.name == f"remove_{seed}"
    with pytest.raises(ValueError, match="use one of replace, add, remove"):
        task("paint", TEST)


# Measures


def test_a_removal_is_done_when_nothing_is_seen_in_its_place(judge_model):
    """Wherever the edit was: be it a box that holds another object too, or none."""
    for seed in range(TEST, TEST + 4):
        one = task("remove", seed)
        index = next(i for i, o in enumerate(one.recipe.objects) if o.name == one.source)
        done, another = tensor(one.recipe.removed(index)), tensor(one.recipe.replaced(index, task("replace", seed).target))
        for box in (one.truth, (0, 0, 64, 64), None):
            assert measures.success(one, box, done, judge_model)["success"] == 1
            assert measures.success(one, box, one.picture, judge_model)["success"] == 0
            replaced = measures.success(one, box, another, judge_model)
            assert replaced["source_gone"] == 1 and replaced["target_seen"] == replaced["success"] == 0


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
    found = [mean_with_interval(torch.rand(60, generator=rng).tolist(), i) for i in range(300)]
    share = sum(f["low"] <= 0.5 <= f["high"] for f in found) / 300
    assert 0.90 <= share <= 0.98  # binomial spread of 300 trials around .95 (percentile bootstrap: about .93)
    # 100 hits of 100, by Wilson's formula: n / (n + 1.96²) … 1
    assert mean_with_interval([1.0] * 100, share=True) == {"value": 1, "low": 0.963, "high": 1, "count": 100}
    assert mean_with_interval([1.0] * 100) == {"value": 1, "low": 1, "high": 1, "count": 100}  # e.g. IoUs
    assert mean_with_interval([7.0, 7.0]) == {"value": 7, "low": 7, "high": 7, "count": 2}


@pytest.mark.parametrize("n", [16, 25, 30])
def test_the_interval_of_a_share_holds_the_truth_whatever_it_is(n):
    """Exactly, by all outcomes there are. A percentile bootstrap falls to 84 % here."""
    found = [mean_with_interval([1.0] * k + [0.0] * (n - k), share=True) for k in range(n + 1)]
    for true in np.linspace(0.05, 0.95, 31):
        held = sum(binom.pmf(k, n, true) for k, one in enumerate(found) if one["low"] <= true <= one["high"])
        assert held > 0.91
    lows = [one["low"] for one in found]
    assert lows == sorted(lows)  # who did more has no lower bound


@pytest.mark.parametrize("n", [16, 25, 30])
def test_the_interval_of_a_paired_difference_holds_the_truth(n):
    every = {(won, lost): difference_with_interval([1.0] * won + [-1.0] * lost + [0.0] * (n - won - lost), share=True)
             for won in range(n + 1) for lost in range(n + 1 - won)}
    for wins, losses in ((0.02, 0.02), (0.1, 0.0), (0.1, 0.1), (0.3, 0.05), (0.5, 0.3)):
        held = sum(multinomial.pmf([won, lost, n - won - lost], n, [wins, losses, 1 - wins - losses])
                   for (won, lost), one in every.items() if one["low"] <= wins - losses <= one["high"])
        assert held > 0.91, (wins, losses)
    same = every[0, 0]
    assert same["value"] == 0 and same["low"] == -same["high"] < -0.05  # no pair differs: that isn't "no difference"


def test_values_of_one_scene_count_as_alike():
    rng = np.random.default_rng(0)
    scene = (rng.random(30) < 0.6).astype(float)
    values, scenes = np.repeat(scene, 4), np.repeat(np.arange(30), 4)  # four tasks a scene that always end alike
    for find, kind in ((mean_with_interval, True), (mean_with_interval, False), (difference_with_interval, True)):
        once, four = find(scene, share=kind), find(values, share=kind, scenes=scenes)
        assert four["count"] == 120 and four["value"] == once["value"]
        width = (four["high"] - four["low"]) / (once["high"] - once["low"])
        assert 0.85 < width < 1.15  # as sure as 30 trials; 120 would be twice as sure
        assert find(scene, share=kind, scenes=range(30)) == once  # one a scene: no other interval
    never = difference_with_interval([0.0] * 120, share=True, scenes=scenes)
    assert never == {**difference_with_interval([0.0] * 30, share=True), "count": 120}


@pytest.mark.parametrize(("task_name", "scene"), [("replace_400000", "400000"), ("style_400000", "400000"),
                                                  ("replace_twemoji_400003", "400003"), ("seen_1", "seen_1"), (7, "7"),
                                                  ("one kind_3", "one kind_3")])
def test_tasks_of_one_seed_are_of_one_scene(task_name, scene):
    assert tables.scene_of({"task": task_name}, 0) == scene and tables.scene_of({}, 3) == "3"


# Candidates that share edits, shortlists and the edit-free term


def test_shared_edits_are_the_same_and_are_made_once(models, one):
    method = METHODS["learned"].but(steps=2)
    found = propose(models, one.picture, one.source, method)
    store = Edits(models, one.picture, one.prompt, 42, 2)

    def table(**more):
        return Candidates(models, one.picture, one.source, one.prompt, found.boxes, method, 42, kept=found.kept, **more)

    alone, first, second = table(), table(edits=lambda *_, **__: store), table(edits=lambda *_, **__: store)
    losses = [t.losses(None) for t in (alone, first)]
    spent = models.editor.evaluations
    losses.append(second.losses(None))
    assert models.editor.evaluations == spent
    assert torch.equal(losses[0], losses[1]) and torch.equal(losses[1], losses[2])
    assert second.made == first.made == int(found.kept.sum()) == method.shortlist
    assert second.seconds > sum(store.seconds.values())  # counted as if it had made them
    assert set(store.evaluations.values()) == {2 * 2} and len(store.evaluations) == method.shortlist


def test_what_a_row_finds_made_is_charged_once(models, one):
    request, method = request_for(one), METHODS["learned"].but(steps=1)
    first, second = Share(request, models), Share(request, models)
    boxes = torch.tensor([[4, 4, 30, 30], [20, 20, 60, 60], [4, 4, 30, 30]])
    made = first.edits(1)(boxes)
    assert (first.saved_seconds, first.saved_evaluations) == (0, 0)
    edits = second.edits(1)
    assert torch.equal(edits(boxes), made) and torch.equal(edits(boxes), made)
    (store,) = request.shared.edits.values()
    assert second.saved_evaluations == 2 * 2  # two different boxes, one step, both halves of the guidance
    assert second.saved_seconds == pytest.approx(sum(store.seconds.values()))
    proposals, spared = first.proposals(method), second.saved_seconds
    assert second.proposals(method.but(estimator="reinforce", lr=1.0)) is proposals  # what comes later plays no part
    assert second.saved_seconds > spared
    assert second.proposals(method.but(shortlist=1)) is not proposals


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


def test_a_shortlist_suppresses_what_overlaps_a_better_box():
    values = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    boxes = torch.tensor([[[0, 0, 10, 10], [0, 0, 10, 8], [0, 0, 10, 5], [0, 0, 10, 4]]])  # IoU .8, .5, .4 with the first
    assert shortlist(values, boxes, 3).tolist() == [[True, True, True, False]]
    assert shortlist(values, boxes, 3, 0.7).tolist() == [[True, False, True, False]]  # the last has .8 with the third
    assert shortlist(values, boxes, 3, 0.5).tolist() == [[True, False, True, False]]  # .5 is not above .5
    assert shortlist(values, boxes, 3, 0.0).tolist() == [[True, False, False, False]]


def test_a_shortlist_of_places_has_sizes_at_each():
    at = torch.tensor([10, 12, 50, 90])  # the first two places nearly the same
    boxes = torch.stack([torch.stack([at - half, at - half, at + half, at + half], dim=1) for half in (4, 6, 8)], dim=1)
    values = torch.tensor([[0.1, 0.4, 0.2], [0.0, 0.3, 0.2], [0.9, 0.5, 0.6], [0.7, 0.8, 0.7]])
    # Anywhere, nearly all would lie around the first two anchors; the better of these stands for both.
    assert shortlist(values, boxes, 4).sum(dim=1).tolist() == [2, 2, 0, 0]
    kept = shortlist(values, boxes, 4, 0.3, places=2)
    assert kept.tolist() == [[False] * 3, [True, False, True], [False, True, True], [False] * 3]
    # What can't be shared out evenly goes to the better places; there are only so many sizes.
    assert shortlist(values, boxes, 5, 0.3, places=3).sum(dim=1).tolist() == [0, 2, 2, 1]
    assert shortlist(values, boxes, 99, 0.3, places=2).sum(dim=1).tolist() == [0, 3, 3, 0]
    # More places than boxes: one box each. Neighbours count where overlap may be anything.
    assert shortlist(values, boxes, 2, 0.3, places=9).sum(dim=1).tolist() == [0, 1, 1, 0]
    assert shortlist(values, boxes, 4, 1.0, places=2).sum(dim=1).tolist() == [2, 2, 0, 0]
    # A box of two anchors that were clamped to the same is kept once.
    boxes[2] = boxes[1]
    assert shortlist(values, boxes, 9, 1.0, places=3).sum(dim=1).tolist() == [3, 3, 0, 0]


def test_slopes_are_what_autograd_finds_through_the_mask(models, one):
    from lr_helpers.candidates import weighted
    from lr_helpers.inpainting import composite
    from lr_helpers.regions import region_mask

    method = Method(steps=2, occlusion_weight=0.5, area_weight=0.5, anchors=3)
    table = Candidates(models, one.picture, one.source, one.prompt, propose(models, one.picture, one.source, method).boxes,
                       method, 42)
    choices = torch.tensor([2, 0, 5])
    weights = torch.nn.functional.one_hot(choices, 7).float().requires_grad_()
    (ours,) = torch.autograd.grad(table.blended(weights).sum(), weights)
    edits = table.edits[torch.arange(3), choices]
    pictures = composite(edits, table.image, region_mask(weights, table.boxes, 128))
    views = [(0, 0, 128, 128)] * 3  # all of the square picture
    terms = {**table._judge(*table._encode(pictures, views), *table._before(views)),
             **{name: (weights * table.terms[name]).sum(1) for name in ("occlusion", "area")}}
    (theirs,) = torch.autograd.grad(weighted(terms, method).sum(), weights)
    assert torch.allclose(ours, theirs, atol=1e-5)
    again = table.under(METHODS["paper"])
    (papers,) = torch.autograd.grad(again.blended(weights).sum(), weights)
    assert not torch.allclose(papers, ours, atol=1e-3)


# Rows


def test_every_row_answers_and_its_cost_is_what_the_editor_counts(models):
    other = task("replace", VALIDATION + 1)
    for variant in plain(ROWS, steps=2):
        before = models.editor.evaluations
        made = variant.load(models).run(request_for(other, known=other.truth))
        x0, y0, x1, y1 = made.box
        assert 0 <= x0 < x1 <= 128 and 0 <= y0 < y1 <= 128
        assert made.evaluations == models.editor.evaluations - before > 0
        assert made.evaluations % 4 == 0  # 2 steps, both halves of the guidance


@pytest.mark.parametrize("name", ["paper", "learned"])
def test_a_network_that_does_not_move_would_always_have_chosen_its_final_box(models, name):
    still = Variant(name, name, {"method": METHODS[name].but(lr=1e-8, iterations=4), "steps": 1})
    made = still.load(models).run(request_for(task("replace", VALIDATION + 1), traced=True))
    assert len(made.trace) >= 1
    assert {box for _, box in made.trace} == {made.box}


def test_a_record_needs_no_truth_and_no_judge_to_choose(models, one, judge_model):
    """The same boxes when the task lies about the truth."""
    from dataclasses import replace

    lying = replace(one, truth=(0, 0, 3, 3), others=(), replaced=None, target="ball")
    rows = plain([row for row in ROWS if row != "known_region"])
    told, lied = (run_task(t, models, judge_model, rows, steps=1)["choices"] for t in (one, lying))
    assert {row: c["box"] for row, c in told.items()} == {row: c["box"] for row, c in lied.items()}
    assert told["learned"]["iou"] > lied["learned"]["iou"] == 0


def test_variants_of_learning_differ_in_what_their_names_say():
    names = [variant.name for variant in learning.VARIANTS]
    assert len(set(names)) == len(names) == 15
    for variant in learning.VARIANTS:
        preset, changed = METHODS[variant.row], variant.settings.get("method", METHODS[variant.row])
        differs = {k: v for k, v in vars(changed).items() if v != getattr(preset, k)}
        _, _, said = variant.name.partition(", ")
        assert len(differs) == bool(said)
        assert all(f"{v:g}" in said if isinstance(v, float | int) else v in said for v in differs.values())


def test_a_curve_counts_no_choice_yet_as_a_miss():
    records = [{"row": "a", "trace": [[3, 0.9, 1.0]]}, {"row": "a", "trace": [[1, 0.2, 0.0], [5, 0.7, 1.0]]},
               {"row": "b", "trace": []}]
    found = curves(records)["a"]
    assert found.pop("end") == mean_with_interval([1.0, 1.0], share=True)
    assert found == {"edits": [1, 3, 5], "iou": [0.1, 0.55, 0.8], "hit": [0.0, 0.5, 1.0]}


def test_a_curve_ends_with_the_final_choice():
    records = [{"row": "a", "trace": [[12, 0.1, 0.0], [12, 0.9, 1.0]]},
               {"row": "a", "trace": [[5, 0.2, 0.0], [12, 0.3, 0.0], [9, 0.4, 0.0], [12, 0.7, 1.0]]}]
    found = curves(records)["a"]
    assert (found["edits"], found["iou"], found["hit"]) == ([5, 9, 12], [0.1, 0.2, 0.8], [0.0, 0.0, 1.0])
    stored = json.loads((DATA / "studies" / "regions.json").read_text(encoding="utf-8"))
    for name, curve in stored["curves"].items():
        means = [stored["means"][f"replace, {n} object{'s' * (n == 'two')}"][name]["hit"] for n in ("one", "two")]
        ends = sum(m["value"] * m["count"] for m in means) / sum(m["count"] for m in means)
        assert curve["hit"][-1] == pytest.approx(ends, abs=1e-3), name
        assert curve["end"]["value"] == curve["hit"][-1] and curve["end"]["count"] == sum(m["count"] for m in means)


def test_a_rule_takes_the_entry_with_its_lowest_value():
    table = {"iou": torch.tensor([[0.1, 0.6], [0.3, 0.9]]), "clip": torch.tensor([[3.0, 1.0], [2.0, 5.0]])}
    assert pick([table], column("clip"))["iou"]["value"] == pytest.approx(0.6)
    assert pick([table], ceiling)["iou"]["value"] == pytest.approx(0.9)
    assert pick(part([table], [0, 1], [0]), column("clip"))["iou"]["value"] == pytest.approx(0.3)
    changed = without(METHODS["learned"], "area", "structure")
    assert (changed.area_weight, changed.structure_weight) == (0, 0) and changed.patches_weight == 1


# Tables


def test_means_are_over_the_tasks_to_which_a_measure_applies():
    records = [{"row": "a", "task": "1", "hit": 1.0, "psnr": 20.0}, {"row": "a", "task": "2", "hit": 1.0, "psnr": None},
               {"row": "b", "task": "1", "hit": 0.0}]
    found = tables.means(records, ("hit", "psnr", "ssim"))
    assert list(found) == ["a", "b"] and list(found["a"]) == ["hit", "psnr"] and list(found["b"]) == ["hit"]
    assert (found["a"]["psnr"]["value"], found["a"]["psnr"]["count"]) == (20, 1)
    assert found["a"]["hit"]["low"] < 1  # a share: Wilson's interval


def test_differences_are_paired_by_their_task():
    ours = [{"task": "1", "iou": 0.9}, {"task": "2", "iou": 0.5}, {"task": "3", "iou": 0.1}]
    theirs = [{"task": "3", "iou": 0.4}, {"task": "1", "iou": 0.4}, {"task": "2", "iou": None}]
    found = tables.differences(ours, theirs, ("iou", "psnr"))
    assert list(found) == ["iou"] and found["iou"]["count"] == 2
    assert found["iou"]["value"] == pytest.approx((0.5 - 0.3) / 2)


def test_records_fall_into_their_groups():
    records = [{"task": f"{kind}_{i}", "objects": n} for i, (kind, n) in enumerate(
        [("replace", 1), ("add", 0), ("replace", 2), ("replace", 1)])]
    groups = tables.by_group(records)
    assert list(groups) == ["replace, one object", "replace, two objects", "add, empty scene"]
    assert [r["task"] for r in groups["replace, one object"]] == ["replace_0", "replace_3"]


# The loop


class Counting(run.Study):
    """Squares numbers; 13 can't be had."""

    def __init__(self, folder, count, seed=0, labels=None):
        self.folder, self.count, self.seed, self.asks_models = folder, count, seed, labels is not None
        self.labels, self.loaded, self.done = labels, 0, []

    def settings(self, about):
        return {"seed": self.seed}

    def jobs(self):
        return list(range(self.count))

    def file(self, job):
        return f"part/{job}"

    def row(self, job):
        return "odd" if job % 2 else "even"

    def load(self):
        self.loaded += 1

    def about(self):
        return {"labels": self.labels}

    def complete(self, job, about):
        record = run.read(self.record(job))
        return record is not None and record["labels"] == about.get("labels")

    def do(self, job):
        if job == 13:
            raise UserError("13 is out of reach.")
        self.done.append(job)
        return {"square": job ** 2, "labels": self.labels}

    def summarise(self, done):
        return {"sum": sum(r["square"] for r in done.records), "not_run": done.not_run}

    def show(self, summary, done):
        print(summary["sum"])


def test_the_loop_does_what_is_missing_and_no_more(tmp_path, capsys):
    first = Counting(tmp_path, 4)
    assert run.run(first, workers=1) == {"sum": 14, "not_run": {}}
    assert json.loads((tmp_path / "summary.json").read_text())["sum"] == 14
    damaged = tmp_path / "records" / "part" / "2.json"
    damaged.write_text('{"squ')  # a disk that broke, say; or somebody's own
    (tmp_path / "records" / "part" / "1.json").unlink()
    with pytest.raises(UserError, match=r"2\.json' is not as a study wrote it \(changed or damaged since\); move it"):
        run.run(Counting(tmp_path, 6), workers=1)
    assert damaged.read_text() == '{"squ'
    damaged.unlink()
    again = Counting(tmp_path, 6)
    assert run.run(again, workers=1)["sum"] == 55 and again.done == [1, 2, 4, 5]
    whole = Counting(tmp_path, 6)
    assert run.run(whole, workers=1)["sum"] == 55 and whole.loaded == 0  # nothing to do: no models
    assert "6 tasks" in capsys.readouterr().out


def test_other_settings_are_refused_and_told_apart(tmp_path):
    run.run(Counting(tmp_path, 2), workers=1)
    stamp = (tmp_path / "settings.json").read_bytes()
    for there in (None, b"{damaged"):
        if there:
            (tmp_path / "settings.json").write_bytes(there)
        other = Counting(tmp_path, 3, seed=7)
        told = "settings.json' is not as a study wrote it" if there else (
            r"other settings \(seed\); give another --output, or delete it")
        with pytest.raises(UserError, match=told):
            run.run(other, workers=1)
        assert other.done == [] and not (tmp_path / "records" / "part" / "2.json").exists()
        assert (tmp_path / "settings.json").read_bytes() == (there or stamp)


def test_an_empty_scene_is_judged(models, judge_model):
    one = task("add", TEST)
    assert not one.recipe.objects and measures.names_objects(one, judge_model) == []
    (found,) = run_task(one, models, judge_model, plain(["edit_free"]), steps=1)["choices"].values()
    assert found["success"] in (0.0, 1.0)


@pytest.mark.parametrize("style", [HELD_OUT_STYLE, None])
def test_where_the_judge_does_not_know_an_object_it_tells_nothing(models, judge_model, style):
    """However the task came to be strange: by its kind, or by restyling a familiar one."""
    tasks = [restyled(task("replace", seed), style) if style else task("style", seed)
             for seed in range(VALIDATION, VALIDATION + 40)]
    strange = next(t for t in tasks if not all(measures.names_objects(t, judge_model)))
    known = next(t for t in tasks if all(measures.names_objects(t, judge_model)))
    row = plain(["known_region"])
    for one, told in ((strange, False), (known, True)):
        (found,) = run_task(one, models, judge_model, row, steps=1)["choices"].values()
        assert all((found[name] is not None) == told for name in ("source_gone", "success")) and found["psnr"] is not None


def test_a_study_of_other_weights_is_refused(tmp_path, monkeypatch):
    run.run(Counting(tmp_path, 2), workers=1)
    monkeypatch.setattr(run, "weights_digest", lambda: "after a training")
    with pytest.raises(UserError, match=r"other settings \(weights\)"):
        run.run(Counting(tmp_path, 3), workers=1)


def test_the_weights_digest_knows_each_miniature_and_the_neutral_texts(tmp_path):
    for place in ("clip", "inpainting/unet", "classifier"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "model.safetensors").write_bytes(place.encode())
    (tmp_path / "neutral_texts.txt").write_text("a\n")
    found = {tiny_world.weights_digest(tmp_path)}
    for file in (*tmp_path.rglob("*.safetensors"), tmp_path / "neutral_texts.txt"):
        file.write_bytes(file.read_bytes() + b"x")
        found.add(tiny_world.weights_digest(tmp_path))
    assert len(found) == 5
    there = {file.relative_to(DATA / "tiny_world").parts[0] for file in (DATA / "tiny_world").rglob("*.safetensors")}
    assert there == set(tiny_world.MODELS)


def test_a_row_that_cannot_be_run_is_left_out_and_tried_once(tmp_path):
    study = Counting(tmp_path, 18)
    found = run.run(study, workers=1)
    assert found["not_run"] == {"odd": "13 is out of reach."}
    assert study.done == [*range(13), 14, 16]  # not 15 and 17, which need the same
    study.row = lambda job: None
    with pytest.raises(UserError, match="13 is out of reach"):
        run.run(study, workers=1)


def test_what_the_models_say_decides_what_is_done_again(tmp_path):
    run.run(Counting(tmp_path, 3, labels="one"), workers=1)
    same, other = Counting(tmp_path, 3, labels="one"), Counting(tmp_path, 3, labels="two")
    run.run(same, workers=1)
    run.run(other, workers=1)
    assert (same.loaded, same.done) == (1, []) and other.done == [0, 1, 2]


# The study


@pytest.mark.all
def test_a_study_goes_on_where_it_stopped_and_says_the_same(tmp_path, capsys):
    study = Regions(tmp_path, replace=2, add=1, steps=1, validation=True)
    records = run.work(study, workers=2).records
    stored = (tmp_path / "records" / f"replace_{VALIDATION}.json")
    stamp = stored.stat().st_mtime_ns
    (tmp_path / "records" / f"replace_{VALIDATION + 1}.json").unlink()
    again = run.work(study, workers=1).records
    assert stored.stat().st_mtime_ns == stamp
    assert [c["box"] for r in again for c in r["choices"].values()] == [
        c["box"] for r in records for c in r["choices"].values()]

    summary = summarise(records)
    assert set(summary["means"]) == {"replace, one object", "replace, two objects", "add, empty scene"}
    assert summary["means"]["replace, one object"]["known_region"]["iou"]["value"] == 1
    # The shipped region predictor's rows too; an added object has no known region.
    rows = list(study.variants)
    assert {*ROWS, *ACROSS} == set(rows)
    assert [list(r["choices"]) for r in records] == [rows, rows, [row for row in rows if row != "known_region"]]
    assert len(flat(records)) == 3 * len(rows) - 1

    command = ["study", "regions", "--output", str(tmp_path), "--replace", "2", "--add", "1", "--steps", "1"]
    assert main([*command, "--validation"]) == 0
    assert len((tmp_path / "tasks.csv").read_text().splitlines()) == 1 + len(flat(records))
    assert {"summary.json", "tasks.csv", "regions_replace.png", "success_replace.png", "success_add.png", "curves.png"} <= {
        p.name for p in tmp_path.iterdir()}
    assert main(command) == 2  # the test scenes into a folder that holds validation scenes
    assert "other settings (validation)" in capsys.readouterr().err


@pytest.mark.parametrize("bad", [["--replace", "-1"], ["--steps", "0"], ["--replace", "0", "--add", "0"]])
def test_bad_numbers_are_told(bad, tmp_path, capsys):
    assert main(["study", "regions", "--output", str(tmp_path), *bad]) == 2
    assert bad[0] in capsys.readouterr().err
