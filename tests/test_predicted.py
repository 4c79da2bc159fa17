"""The presets that predict: one pass of a predictor over the proposals, and one edit or the best of a few."""

import json
import os
from dataclasses import replace

import pytest
import torch
from predictors import untrained, with_predictor

from lr_helpers import METHODS, EditResult, UserError, edit, load_models, plots
from lr_helpers.baselines import BASELINES, Request, load_baseline, rows_here
from lr_helpers.batch import key
from lr_helpers.batch.items import plan
from lr_helpers.boxes import iou
from lr_helpers.cli import main
from lr_helpers.costs.evaluations import candidates_of, search
from lr_helpers.editing import predict, propose
from lr_helpers.files.canvas import Canvas
from lr_helpers.files.pictures import to_tensor
from lr_helpers.method import LOSSES, OBJECTIVES, Method
from lr_helpers.models import doctor
from lr_helpers.models.profiles import PROFILES, get_profile
from lr_helpers.predictor import SAME_PLACE, ranking, view_of
from lr_helpers.sequence import edit_in_turn
from lr_helpers.study import measures, tables
from lr_helpers.study.tasks import TEST, restyled, task
from tiny_world import judge

PRESETS = ("predicted", "fast")


@pytest.fixture(scope="module")
def ours(models, tmp_path_factory):
    """The miniatures with an untrained predictor, which is not confident."""
    return with_predictor(models, tmp_path_factory.mktemp("net") / "net.safetensors")


@pytest.fixture(scope="module")
def file(ours):
    return ours.profile.regions


def edited(models, picture, method, **more) -> EditResult:
    return edit(models, picture, "wolf", "a rabbit", method, progress=False, **more)


# What they edit


def test_predicted_makes_one_full_edit_in_the_most_probable_box(ours, scene_picture):
    result = edited(ours, scene_picture, "predicted")
    canvas = Canvas(scene_picture, ours.editor.size)
    found = propose(ours, canvas, "wolf", METHODS["predicted"])
    ranked = ranking(ours.predictor[1], view_of(ours, canvas, "wolf", "a rabbit"), found.boxes)
    assert result.box == tuple(ranked.boxes[0].tolist()) and result.confidence == pytest.approx(ranked.confidence)
    assert (result.cost["edits"], result.cost["different_edits"], result.cost["denoiser_evaluations"]) == (1, 1, 24)
    (only,) = result.candidates
    assert only.probability == pytest.approx(float(ranked.probabilities[0])) and only.steps == 12
    assert (result.network, result.history) == (None, None)
    (full,) = ours.editor.edit(to_tensor(scene_picture), [result.painted], "a rabbit", seed=42)
    assert torch.allclose(only.picture, full, atol=1e-5)
    # A single edit's terms count as they are: there is nothing to compare it with.
    k, m = only.anchor, only.proposal
    assert only.loss == pytest.approx(float(result.terms["direction"][k, m] + result.terms["area"][k, m]))
    assert result.record["regions"].startswith("net.safetensors ")


def test_no_box_is_looked_at_hidden(ours, scene_picture, monkeypatch):
    looks, encode = [], ours.clip.encode_image
    monkeypatch.setattr(ours.clip, "encode_image", lambda images, **more: looks.append(len(images)) or encode(images, **more))
    edited(ours, scene_picture, METHODS["predicted"].but(steps=1))
    assert looks == [1, 1]  # the edit, and the picture before it


def test_fast_screens_places_and_finishes_the_best(ours, scene_picture):
    result = edited(ours, scene_picture, METHODS["fast"].but(confident=1.0))
    assert result.cost["different_edits"] == 4 and result.cost["denoiser_evaluations"] == 2 * (4 * 4 + 12)
    assert (result.record["screening_steps"], result.record["steps"]) == (4, 12)
    assert [c.steps for c in result.candidates] == [12, 4, 4, 4]
    losses = [c.loss for c in result.candidates]
    assert losses == sorted(losses) and len(set(losses)) == 4
    boxes = torch.tensor([c.box for c in result.candidates])
    apart = iou(boxes[:, None], boxes[None])
    assert float((apart - torch.eye(4)).max()) < SAME_PLACE
    # All that the tables hold beside these four is unknown.
    assert int((~result.loss.isnan()).sum()) == 4 and result.probabilities.shape == result.loss.shape
    # Probabilities are of different boxes.
    first = {tuple(box): p for box, p in zip(result.boxes.reshape(-1, 4).tolist(), result.probabilities.flatten().tolist(), strict=True)}
    assert sum(first.values()) == pytest.approx(1, abs=1e-4)


def test_the_confidence_decides_how_many_are_edited(ours, scene_picture):
    unsure = edited(ours, scene_picture, METHODS["fast"].but(steps=2, confident=1.0))
    sure = edited(ours, scene_picture, METHODS["fast"].but(steps=2, confident=unsure.confidence))
    assert len(unsure.candidates) == 4 and len(sure.candidates) == 1 and 0 < unsure.confidence < 1
    assert sure.box == edited(ours, scene_picture, METHODS["predicted"].but(steps=2)).box
    # Fewer steps than the screening has: then candidates are full edits, and nothing is made twice.
    assert unsure.cost["denoiser_evaluations"] == 2 * 4 * 2 and unsure.cost["different_edits"] == 4


def test_the_same_seed_gives_the_same_and_the_texts_decide(ours, scene_picture):
    quick = METHODS["predicted"].but(steps=1)
    one, again = (edited(ours, scene_picture, quick) for _ in range(2))
    assert one.image.tobytes() == again.image.tobytes() and torch.equal(one.probabilities, again.probabilities)
    other = edit(ours, scene_picture, "grass", "a car on the grass", quick, progress=False)
    assert not torch.equal(one.probabilities, other.probabilities)


@pytest.mark.parametrize("preset", PRESETS)
def test_pictures_of_any_shape_and_the_whole_frame(preset, ours, scene_picture):
    method = METHODS[preset].but(steps=1)
    for size in ((200, 70), (64, 150)):
        result = edited(ours, scene_picture.resize(size), method)
        assert result.image.size == size
    whole = edited(ours, scene_picture, method, full_frame=True)
    assert whole.cost["denoiser_evaluations"] - edited(ours, scene_picture, method).cost["denoiser_evaluations"] == 2


def test_what_is_to_be_avoided_is(ours, scene_picture):
    method = METHODS["fast"].but(steps=1)
    box = edited(ours, scene_picture, method).box
    other = edited(ours, scene_picture, method, avoid=[box])
    assert all(float(iou(torch.tensor(c.box), torch.tensor(box))) == 0 for c in other.candidates)
    # Everywhere: then the least overlap stays.
    assert edited(ours, scene_picture, method, avoid=[(0, 0, 64, 64)]).box


def test_edits_in_turn_keep_apart(ours, scene_picture, tmp_path):
    turns = edit_in_turn(ours, scene_picture, [("wolf", "a car"), ("grass", "a cake on the grass")],
                         METHODS["predicted"].but(steps=1), progress=False)
    assert turns.cost["different_edits"] == 2 and not turns.warnings
    folder = turns.save(tmp_path)
    assert not (folder / "step_1" / "region_network.safetensors").exists()
    assert EditResult.load(folder / "step_2").confidence == turns.steps[1].confidence


# What they leave behind


@pytest.mark.parametrize("preset", PRESETS)
def test_a_result_comes_back_from_disk(preset, ours, scene_picture, tmp_path):
    result = edited(ours, scene_picture, METHODS[preset].but(steps=2))
    again = EditResult.load(result.save(tmp_path, draw_boxes=True))
    assert not (tmp_path / "region_network.safetensors").exists()
    assert (again.network, again.history, again.confidence) == (None, None, result.confidence)
    assert again.method == result.method and again.box == result.box
    assert {**again.record, "method": 0} == {**result.record, "method": 0} and again.record["regions"]
    assert len(again.candidates) == len(result.candidates) == len(list((tmp_path / "results").iterdir()))
    assert torch.allclose(again.probabilities, result.probabilities, atol=1e-6)
    for one, other in zip(again.candidates, result.candidates, strict=True):
        assert one.terms.keys() == other.terms.keys() and one.terms["occlusion"] != one.terms["occlusion"]
    # A search afterwards leaves its network, and another prediction takes it away.
    learned = edited(ours, scene_picture, METHODS["learned"].but(anchors=3, sizes=(0.4,), shortlist=2, iterations=1, steps=1))
    learned.save(tmp_path)
    assert (tmp_path / "region_network.safetensors").exists()
    result.save(tmp_path)
    assert not (tmp_path / "region_network.safetensors").exists()


@pytest.mark.parametrize("preset", ["paper", "official_code"])
def test_a_method_that_asks_for_no_occlusion_is_saved_too(preset, models, scene_picture, tmp_path):
    result = edited(models, scene_picture, METHODS[preset].but(anchors=2, sizes=(0.4,), iterations=1, steps=1))
    again = EditResult.load(result.save(tmp_path))
    assert json.loads((tmp_path / "result.json").read_text())["candidates"][0]["terms"]["occlusion"] is None
    assert again.candidates[0].terms["occlusion"] != again.candidates[0].terms["occlusion"]  # NaN


def test_figures_show_a_prediction(ours, models, scene_picture):
    result = edited(ours, scene_picture, METHODS["fast"].but(steps=2))
    figure = plots.show_learning(result)
    chance = figure.axes[1].images[0].get_array()
    assert chance.shape == scene_picture.size[::-1] and 0 < chance.max() <= 1 + 1e-5 and "4 edited; confidence 0." in figure.axes[2].get_title()
    assert len(figure.axes[2].patches) == 4
    rows = len({c.anchor for c in result.candidates})
    assert plots.show_terms(result).axes[0].images[0].get_array().shape[0] == rows
    for show in (plots.show_attention, plots.show_proposals, plots.show_candidates, plots.show_before_after):
        show(result)
    learned = edited(models, scene_picture, METHODS["learned"].but(anchors=2, sizes=(0.4,), shortlist=2, iterations=1, steps=1))
    with pytest.raises(UserError, match="learned on the picture, not predicted"):
        plots.show_prediction(learned)


# Where the weights come from


def test_without_weights_one_sentence_says_how_to_train_them(models, scene_picture, tmp_path):
    here = replace(models, profile=models.profile.but(regions=tmp_path / "none.safetensors"), predictor=None)
    for preset in PRESETS:
        with pytest.raises(UserError, match="There is no region predictor for the profile 'tiny'") as caught:
            edited(here, scene_picture, preset)
        said = str(caught.value)
        assert "python -m lr_helpers train-regions --profile tiny" in said and "--regions" in said and "\n" not in said
    here.profile = replace(here.profile, regions=None)
    with pytest.raises(UserError, match="There is no region predictor for the profile 'tiny'; train"):
        edited(here, scene_picture, "predicted")


def test_every_profile_names_a_file_of_its_own():
    assert [profile.regions.name for profile in PROFILES.values()] == [f"{name}.safetensors" for name in PROFILES]
    tiny = get_profile("tiny")
    assert tiny.but(regions="x").regions.is_absolute() and tiny.but(clip="x").regions == tiny.regions
    assert [PROFILES[name].few for name in ("tiny", "sd2", "amused")] == [4, 8, 12]


def test_load_models_takes_a_file(file, scene_picture):
    models = load_models("tiny", "cpu", regions=file)
    assert edited(models, scene_picture, METHODS["predicted"].but(steps=1)).record["regions"].startswith(file.name)


def test_the_command_edits_and_tells_the_confidence(file, scene_file, tmp_path, capsys):
    command = ["edit", "--image", str(scene_file), "--source", "wolf", "--prompt", "a rabbit", "--steps", "1"]
    assert main([*command, "--method", "fast", "--regions", str(file), "--output", str(tmp_path / "a")]) == 0
    said = capsys.readouterr().out
    assert "The predictor's confidence in the place of its first box: 0." in said and "4 different edits" in said
    assert main([*command, "--method", "predicted", "--regions", str(file), "--output", str(tmp_path / "b"), "--then", "grass",
                 "a cake on the grass", "--quiet"]) == 0
    assert (tmp_path / "b" / "step_2" / "result.json").exists()
    capsys.readouterr()
    # What can't work is told before a model is loaded, and nothing is written.
    (tmp_path / "odd").write_bytes(b"no predictor")
    for regions, words in (("odd", "is no region predictor"), ("none", "is missing")):
        assert main([*command, "--method", "predicted", "--regions", str(tmp_path / regions), "--output", str(tmp_path / "c")]) == 2
        error = capsys.readouterr().err
        assert words in error and "train-regions" in error and error.count("\n") == 1 and not (tmp_path / "c").exists()


def test_an_objective_sets_all_weights_and_a_weight_of_its_own_wins(file, scene_file, tmp_path, capsys):
    command = ["edit", "--image", str(scene_file), "--source", "wolf", "--prompt", "a rabbit", "--steps", "1", "--quiet"]
    assert main([*command, "--method", "predicted", "--regions", str(file), "--objective", "learned", "--area-weight", "0.5",
                 "--output", str(tmp_path / "a")]) == 0
    method = EditResult.load(tmp_path / "a").method
    assert {term: getattr(method, f"{term}_weight") for term in LOSSES} == dict.fromkeys(LOSSES, 0) | OBJECTIVES[
        "learned"] | {"area": 0.5}
    assert main([*command, "--objective", "direction", "--output", str(tmp_path / "b")]) == 2
    assert "has neither patches nor occlusion for a shortlist" in capsys.readouterr().err


# A batch


def test_a_batch_predicts_and_refuses_what_has_no_weights(file, scene_file, tmp_path, capsys):
    images = scene_file.parent
    entries = [{"image": "scene.png", "source": "wolf", "prompt": "a rabbit", "name": name, "method": name,
                "settings": {"steps": 1, "anchors": 4, "iterations": 1}} for name in ("learned", "predicted", "fast")]
    (tmp_path / "batch.json").write_text(json.dumps(entries))
    command = ["batch", str(tmp_path / "batch.json"), "--images", str(images), "--output", str(tmp_path / "out"), "--quiet"]
    assert main([*command, "--regions", str(tmp_path / "none")]) == 1
    error = capsys.readouterr().err
    assert error.count("There is no region predictor") == 2
    assert main([*command, "--regions", str(file)]) == 0
    rows = (tmp_path / "out" / "summary.csv").read_text()
    assert rows.count('"done"') == 3
    learned, predicted = ((tmp_path / "out" / name / "result.json").stat().st_mtime_ns for name in ("learned", "predicted"))
    # With other weights, what was predicted is predicted again, and nothing else.
    file.with_name("other.safetensors").write_bytes(untrained(load_models("tiny", "cpu"), seed=1).to_bytes())
    assert main([*command, "--regions", str(file.with_name("other.safetensors"))]) == 0
    again = [(tmp_path / "out" / name / "result.json").stat().st_mtime_ns for name in ("learned", "predicted")]
    assert again[0] == learned and again[1] > predicted
    # Where all would be refused, no model is loaded.
    assert main([*command, "--method", "fast", "--regions", str(tmp_path / "none")]) == 2


def test_the_identity_of_a_profile_knows_its_predictor(file):
    tiny = get_profile("tiny")
    with_it, without = (key.identity(tiny.but(regions=place)) for place in (file, file.with_name("none")))
    assert with_it == {**without, "regions": key.digest(file)}


def test_the_key_of_an_item_knows_what_its_method_asks_and_nothing_else(tmp_path, scene_file):
    """What is asked, and so what makes an item be done again: the predictor, and what all texts share."""
    tiny = get_profile("tiny")
    other = tmp_path / "neutral.txt"
    other.write_text("a wolf\ngrass\n", encoding="utf-8")
    here = key.identity(tiny)
    there = key.identity(replace(tiny, neutral_texts=other))
    assert {part for part in here if here[part] != there[part]} == {"neutral_texts"}
    (tmp_path / "batch.json").write_text(json.dumps({scene_file.name: ["wolf", "a fox"]}))
    for name, asked in (("learned", {"neutral_texts"}), ("paper", set()), ("official_code", set()),
                        ("predicted", {"neutral_texts", "regions"}), ("fast", {"neutral_texts", "regions"})):
        (item,) = plan(tmp_path / "batch.json", scene_file.parent, tmp_path / "out", method=name).items
        decides = key.inputs(item, "0", here)
        assert {"neutral_texts", "regions"} & set(decides) == asked
        assert (key.key(decides) != key.key(key.inputs(item, "0", there))) == ("neutral_texts" in asked)


# The doctor


def test_the_doctor_tells_of_the_predictor(file, tmp_path):
    def line(regions):
        return next(line for line in doctor.examine(get_profile("tiny").but(regions=regions)) if line.name == "regions")

    assert "trained on data/tiny_world/dino and data/tiny_world/clip" in line(file).text
    assert "train one: python -m lr_helpers train-regions --profile tiny" in line(tmp_path / "none").text
    (tmp_path / "pipe").unlink(missing_ok=True)
    os.mkfifo(tmp_path / "pipe")
    bad = line(tmp_path / "pipe")
    assert "no plain file" in bad.text and "train one: python -m lr_helpers train-regions" in bad.fix
    # None of it keeps a profile from running.
    assert not any(found.problem for found in (line(file), line(tmp_path / "none"), bad))


# Costs, rows, settings


def test_costs_are_known_before(ours, scene_picture):
    tiny, sd2 = get_profile("tiny"), get_profile("sd2")
    assert (search(tiny, "predicted").evaluations, search(tiny, "predicted").at_most) == (24, False)
    assert (search(tiny, "fast").evaluations, search(tiny, "fast").at_most) == (56, True)
    assert search(sd2, "predicted").evaluations == 40 and search(sd2, "fast").evaluations == 2 * (4 * 8 + 20)
    assert candidates_of(METHODS["fast"].but(anchors=1, sizes=(0.4, 0.5))) == (2, True)
    assert search(tiny, "fast").evaluations <= search(tiny, "learned").evaluations / 4
    for preset in PRESETS:
        known = search(replace(tiny, steps=2, few_steps=1), METHODS[preset])
        with_few = replace(ours, profile=replace(ours.profile, few_steps=1))
        made = edited(with_few, scene_picture, METHODS[preset].but(steps=2))
        assert made.cost["denoiser_evaluations"] == known.evaluations


def test_rows_of_the_registry_are_the_presets(ours, scene_picture):
    for name in PRESETS:
        row = load_baseline(name, ours.profile, ours, steps=2)
        request = Request(to_tensor(scene_picture), "wolf", "a rabbit", traced=True)
        made = row.run(request)
        plain = edited(ours, scene_picture, METHODS[name].but(steps=2))
        assert made.box == plain.box and made.evaluations == plain.cost["denoiser_evaluations"]
        assert torch.allclose(made.picture, plain.candidates[0].picture, atol=1e-6)
        assert made.trace == [(len(plain.candidates), made.box)]
        # A row that finds its edits made is charged for them all the same.
        assert row.run(request).evaluations == made.evaluations
    assert all(BASELINES[name].needs == ("regions",) for name in PRESETS)


def test_a_row_without_weights_is_told_before_any_work(models, tmp_path):
    here = replace(models, profile=models.profile.but(regions=tmp_path / "none"), predictor=None)
    with pytest.raises(UserError, match="There is no region predictor"):
        load_baseline("predicted", here.profile, here)


def test_studies_have_the_rows_where_there_are_weights(file, tmp_path):
    tiny = get_profile("tiny")
    rows = ("paper", "learned", "edit_free")
    assert rows_here(rows, tiny.but(regions=file)) == ("paper", "learned", "predicted", "fast", "edit_free")
    assert rows_here(("paper", "fast"), tiny.but(regions=file)) == ("paper", "predicted", "fast")
    assert rows_here(rows, tiny.but(regions=tmp_path / "none")) == rows


@pytest.mark.slow
def test_the_study_of_regions_knows_all_kinds_and_styles(file, tmp_path, capsys):
    command = ["study", "regions", "--methods", "predicted", "fast", "edit_free", "known_region", "--regions", str(file), "--replace", "2",
               "--add", "2", "--remove", "2", "--steps", "1", "--workers", "1", "--style", "twemoji", "--output", str(tmp_path)]
    assert main(command) == 0
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert len(summary["means"]) == 6 and summary["style"] == "twemoji"
    judge_model = judge.load()
    for title, means in summary["means"].items():
        kind, objects = tables.GROUPS[title]
        (one,) = (one for i in range(2) if len((one := restyled(task(kind, TEST + i), "twemoji")).recipe.objects) == objects)
        named = all(measures.names_objects(one, judge_model))  # of what the judge doesn't know, it can't tell
        assert set(means) == {"predicted", "fast", "edit_free", "known_region"} - ({"known_region"} if "add" in title else set())
        assert means["predicted"]["evaluations"]["value"] == 2 and means["predicted"]["seconds"]["value"] > 0
        assert ("source_gone" in means["predicted"]) == ("add" not in title and named)
        assert ("success" in means["predicted"]) == named and ("psnr" in means["predicted"]) == ("add" not in title)
    capsys.readouterr()
    assert main([*command[:-1], str(tmp_path / "other"), "--style", "pencil"]) == 2
    assert "--style is 'pencil'; choose one of noto" in capsys.readouterr().err
    assert main(["study", "regions", "--methods", "predicted", "--regions", str(tmp_path / "none"), "--output", str(tmp_path / "o")]) == 2
    assert "There is no region predictor" in capsys.readouterr().err


@pytest.mark.parametrize("change, words", [
    ({"finder": "magic"}, "choose from search, predictor"), ({"confident": 1.5}, "from 0.0 to 1.0"),
    ({"finder": "predictor"}, "shortlist is 0; with the finder 'predictor' give 1 or more")])
def test_settings_that_cannot_work_are_refused(change, words):
    with pytest.raises(UserError, match=words):
        Method(**change)


def test_objectives_are_weights_by_name():
    for name in ("paper", "learned"):
        assert METHODS[name].objective == name and METHODS[name].aiming(name) == METHODS[name]
    assert {METHODS[name].objective for name in PRESETS} == {"direction_area"}
    assert METHODS["learned"].but(area_weight=0.7).objective == ""
    assert METHODS["paper"].aiming("direction").objective == "direction"
    assert all(set(weights) <= set(LOSSES) for weights in OBJECTIVES.values())
    with pytest.raises(UserError, match="'taste' is unknown; choose one of paper"):
        Method().aiming("taste")


def test_a_search_shares_nothing_with_a_prediction(ours, scene_picture):
    """`predict` takes what was proposed, and edits that others made."""
    canvas = Canvas(scene_picture, ours.editor.size)
    method = METHODS["fast"].but(steps=1)
    found = propose(ours, canvas, "wolf", method)
    assert found.pooled is None and found.free.keys() == {"area"} and bool(found.kept.all())
    done = predict(ours, canvas, "wolf", "a rabbit", method, 42, found=found)
    assert done.proposals is found and done.order[0] == tuple(map(int, (done.candidates.loss.nan_to_num(9e9) == done.candidates.loss[~done.candidates.loss.isnan()].min()).nonzero()[0]))
