"""`train-regions`: what is asked, the edits that are kept, and the network that comes of them."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from lr_helpers import UserError, load_models
from lr_helpers.across import confidence, train
from lr_helpers.across.asks import FIRST, KINDS, Ask, _world, emoji_asks, given_asks, kinds_of
from lr_helpers.across.collect import Collect, edited, some_boxes
from lr_helpers.across.collect import example as learned_example
from lr_helpers.across.confidence import THRESHOLDS
from lr_helpers.across.curve import Predictors, Trial
from lr_helpers.across.objectives import Objectives, choices
from lr_helpers.across.settings import Training
from lr_helpers.across.train import learn as learned
from lr_helpers.across.train import train_regions
from lr_helpers.candidates import TERMS, patches_table
from lr_helpers.cli import main
from lr_helpers.costs import random_weights
from lr_helpers.editing import predict
from lr_helpers.files.canvas import Canvas
from lr_helpers.files.paths import DATA
from lr_helpers.inpainting import count_evaluations
from lr_helpers.method import METHODS, OBJECTIVES
from lr_helpers.models.profiles import get_profile
from lr_helpers.predictor import RegionPredictor, models_of
from lr_helpers.study.tasks import task
from tiny_world.scenes import HELD_OUT_SEEDS

ROOT = Path(__file__).resolve().parents[1]
SMALL = ["--boxes", "5", "--steps", "1", "--updates", "4", "--workers", "1"]


# What is asked


def test_scenes_are_of_all_kinds_and_none_is_reported_on(models):
    asks = emoji_asks(200)
    kinds = kinds_of(asks)
    assert set(kinds) == set(KINDS) and (kinds["replace"], kinds["remove"]) == (80, 40)
    assert kinds["add"] + kinds["add beside"] == 80 and min(kinds["add"], kinds["add beside"]) > 30
    assert len({ask.name for ask in asks}) == 200 and {ask.name.split("_")[0] for ask in asks} == {"replace", "add", "remove"}
    assert not {ask.seed for ask in asks} & set(HELD_OUT_SEEDS) and asks[0].seed == FIRST
    assert emoji_asks(200) == asks and asks[7].picture() == emoji_asks(8)[7].picture()
    for ask in asks:
        assert ask.source != ask.prompt and models.warnings_for(ask.source) == models.warnings_for(ask.prompt) == []
    # What is there to see is what the kind says: one scene less its object, one as it is.
    for ask in asks[:25]:
        _, recipe, _, _ = _world(ask.seed)
        assert (len(recipe.objects) == 0) == (ask.kind == "add")
        assert ask.kind != "remove" or ask.prompt == f"empty {recipe.place}"
    assert {ask.picture().size for ask in asks[:10]} == {(models.profile.size,) * 2}


def test_a_users_own_pictures_are_read_as_a_batch_reads_them(tmp_path):
    shutil.copy(DATA / "photographs" / "cat.jpg", tmp_path)
    file = tmp_path / "items.json"
    file.write_text(json.dumps([{"image": "cat.jpg", "source": "cat", "prompt": ["a tiger", "a fox"]}]))
    asks = given_asks(file, tmp_path)
    assert [(ask.kind, ask.source, ask.prompt) for ask in asks] == [("given", "cat", "a tiger"), ("given", "cat", "a fox")]
    assert asks[0].picture().size == (451, 300) and asks[0].name != asks[1].name
    file.write_text(json.dumps({"cat.jpg": ["cat", ""], "dog.jpg": ["dog", "a cat"]}))
    with pytest.raises(UserError, match=r"items.json: line 1, cat.jpg: The prompt is empty.*1 more are wrong"):
        given_asks(file, tmp_path)


def test_boxes_are_the_best_and_others_by_lot_and_none_twice():
    boxes = torch.tensor([[i, 0, i + 4, 4] for i in range(10)] * 2)
    values = torch.arange(20.0)
    draw = torch.Generator().manual_seed(0)
    found = some_boxes(boxes, values, 6, [(0, 0, 4, 4)], draw, 2)
    assert found[:2] == [(1, 0, 5, 4), (2, 0, 6, 4)] and len(set(found)) == 6 and (0, 0, 4, 4) not in found
    assert len(some_boxes(boxes, values, 50, [], draw, 2)) == 10  # all there are


def test_where_something_is_added_a_large_box_is_as_good():
    """The texts decide it, of emoji scenes and of a user's own pictures alike."""
    tight, plain = OBJECTIVES["tight"], OBJECTIVES["learned"]
    assert tight == plain | {"area": tight["area"]}
    training = Training(Path("x"), get_profile("tiny"), emoji_asks(40))
    for ask in training.asks:
        assert training.weights_for(ask) == (plain if ask.kind.startswith("add") else tight)
    own = [Ask("a", "given", "the table", "a vase on the table"), Ask("b", "given", "the table", "a bench"),
           Ask("c", "given", "a beach", "A dog on the beach."), Ask("d", "given", "dog", "a cat")]
    assert [training.weights_for(ask) == plain for ask in own] == [True, False, True, False]
    assert replace(training, objective="direction").weights_for(own[0]) == OBJECTIVES["direction"]


@pytest.mark.slow
def test_a_network_learns_from_the_weights_that_the_texts_ask_for(training, monkeypatch):
    seen = []
    monkeypatch.setattr(train, "example", lambda files, weights, scales: seen.append(weights) or learned_example(
        files, weights, scales))
    settings = Training(training, get_profile("tiny"), emoji_asks(6), 5, 2, updates=2)
    predictor, _ = train.learn(settings, Collect(settings))
    assert seen == [settings.weights_for(ask) for ask in settings.asks] and len({str(weights) for weights in seen}) == 2
    assert predictor.card["weights to add"] == OBJECTIVES["learned"] and set(predictor.card["scales"]) == set(
        OBJECTIVES["learned"])
    assert next(predictor.parameters()).device.type == "cpu"


# The command


def test_the_cost_is_said_first_and_nothing_else_is_done(tmp_path, capsys):
    assert main(["train-regions", "--dry-run", "--profile", "sd2", "--output", str(tmp_path / "out"), "--pictures",
                 "1000", "--steps", "8"]) == 0
    said = capsys.readouterr().out
    assert "1,000 pictures, 16 edits of 8 steps in each of 1 round: 256,000 denoiser evaluations" in said
    assert said.endswith("about 8.5 hours on a Tesla T4 (assumed: 0.12 s each), 60 minutes on an H100 (assumed).\n")
    assert not (tmp_path / "out").exists()
    assert main(["train-regions", "--dry-run", "--pictures", "10"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("10 pictures, 16 edits of 4 steps in each of 1 round: 1,280 denoiser evaluations, about ")
    assert "measured" in said and "H100" not in said


@pytest.mark.parametrize("options, said", [
    (["--items", "x.json"], "--items and --images belong together"),
    (["--items", "x.json", "--images", "."], "x.json"),
    (["--pictures", "1"], "--pictures is 1; give 2 or more"),
    (["--seed", "-1"], "seed is -1"),
    (["--profile", "sd3"], "'sd3' is unknown"),
])
def test_wrong_options_are_told_in_one_sentence(options, said, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["train-regions", *options]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1 and not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_training_goes_on_and_its_second_round_takes_other_boxes(models, tmp_path, capsys, monkeypatch):
    command = ["train-regions", "--pictures", "6", *SMALL, "--output", str(tmp_path)]
    assert main(command) == 0
    network, final = tmp_path / "networks" / "round0.safetensors", tmp_path / "regions.safetensors"
    assert f"--method predicted --regions {final}" in capsys.readouterr().out
    stored = RegionPredictor.load(final)
    assert sum(stored.card["pictures"].values()) == 6 and stored.card["evaluations"] == 60
    assert stored.card["objective"] == "tight" and final.read_bytes() == network.read_bytes()
    assert stored.trained_on == models_of(models)
    files = sorted((tmp_path / "edits" / "round0").iterdir())
    assert len(files) == 6
    edits = load_file(files[0])
    assert edits["boxes"].shape == (5, 4) and all(
            edits[f"term.{name}"].isfinite().all() for name in TERMS)
    # Again, with one picture's edits lost: only that one is made again, and it is the same.
    times = {file: file.stat().st_mtime_ns for file in files}
    before = files[2].read_bytes()
    files[2].unlink()
    assert main(command) == 0
    assert files[2].read_bytes() == before
    assert [file for file in files if file.stat().st_mtime_ns != times[file]] == [files[2]]
    # A second round: other boxes of the same pictures, half of them the network's favourites. The first round's network
    # is not trained again, be it once more; under other settings it is.
    trained = []
    monkeypatch.setattr(train, "learn", lambda training, collect: trained.append(collect.round) or learned(training, collect))
    first = network.stat().st_mtime_ns
    assert main([*command, "--rounds", "2"]) == 0
    assert trained == [1] and network.stat().st_mtime_ns == first
    assert main([*command, "--rounds", "2"]) == 0
    assert trained == [1] and final.read_bytes() == (tmp_path / "networks" / "round1.safetensors").read_bytes()
    assert main([*command, "--updates", "5"]) == 0
    assert trained == [1, 0] and network.stat().st_mtime_ns > first
    assert RegionPredictor.load(final).card["updates"] == 5
    again = load_file(tmp_path / "edits" / "round1" / files[0].name)
    old, new = ({tuple(box) for box in one["boxes"].tolist()} for one in (edits, again))
    assert len(new) == 5 and not old & new
    assert (stored.settings["features"], stored.settings["embedding"]) == (96, 128)
    # Under other settings the folder is refused.
    capsys.readouterr()
    assert main([*command, "--boxes", "4"]) == 2
    assert "other settings (boxes)" in capsys.readouterr().err


@pytest.mark.slow
def test_large_models_and_photographs_of_any_shape_can_be_trained_on(tmp_path):
    """Random weights of Stable Diffusion 2's classes."""
    torch.manual_seed(0)
    profile = random_weights.write("sd2", tmp_path / "models")
    images = tmp_path / "images"
    images.mkdir()
    for name, size in (("wide", (300, 100)), ("high", (90, 200)), ("square", (128, 128))):
        Image.effect_noise(size, 80).convert("RGB").save(images / f"{name}.png")
    (images / "items.json").write_text(json.dumps({f"{n}.png": ["cat", "a dog"] for n in ("wide", "high", "square")}))
    training = Training(tmp_path / "out", profile, given_asks(images / "items.json", images), boxes=3, steps=1, updates=3,
                        device="cpu", allow_cpu=True, workers=1)
    assert train_regions(training).settings["features"] == load_models(profile, "cpu", allow_cpu=True).backbone.vit.config.hidden_size


def test_as_many_steps_as_asked_for_are_made_and_clip_looks_once(models, monkeypatch):
    """A profile that screens with fewer steps does not shorten what is stored, nor is a picture looked at twice."""
    monkeypatch.setattr(models.editor, "screening_steps", 1)
    looks, encode = [], models.clip.encode_image
    monkeypatch.setattr(models.clip, "encode_image", lambda images, **more: looks.append(len(images)) or encode(images, **more))
    before, (ask,) = models.editor.evaluations, emoji_asks(1)
    stored = edited(models, ask, 3, 2)
    assert models.editor.evaluations - before == count_evaluations(3, 2, models.profile.guidance)
    canvas = Canvas(ask.picture(), models.editor.size)
    # Three boxes hidden, and the picture for those; three edits, and the picture for those.
    assert looks == [3, 1, 3, 1]
    found = patches_table(models, canvas, ask.source, stored["boxes"].long()[:, None])[:, 0]
    assert torch.allclose(stored["term.patches"], found, atol=1e-5)


def test_edits_of_other_models_do_not_belong_together(tmp_path):
    folder = shutil.copytree(DATA / "tiny_world" / "clip", tmp_path / "clip")
    profiles = get_profile("tiny"), get_profile("tiny").but(clip=str(folder))
    config = folder / "open_clip_config.json"
    config.write_text(config.read_text() + "\n")  # other bytes, so another model
    studies = [Collect(Training(tmp_path, profile, emoji_asks(2))) for profile in profiles]
    for study in studies:
        study.load()
    prints = [{part: model["fingerprint"] for part, model in study.about()["encoders"].items()} for study in studies]
    assert prints[0] == prints[1]  # the same weights, wherever they lie
    a, b = (study.settings(study.about()) for study in studies)
    assert a["models"] != b["models"] and {**a, "models": 0} == {**b, "models": 0}


def test_one_picture_is_too_few(tmp_path):
    with pytest.raises(UserError, match="give at least two"):
        train_regions(Training(tmp_path, get_profile("tiny"), emoji_asks(1)))


@pytest.mark.all
def test_ranks_share_the_pictures_and_one_trains(tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "-m", "lr_helpers", "train-regions",
               "--pictures", "6", *SMALL, "--output", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True,
                          timeout=500)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "records" / "round0").iterdir())) == 6 and done.stdout.count("The network:") == 1
    RegionPredictor.load(tmp_path / "regions.safetensors")


# What is measured


@pytest.fixture(scope="module")
def training(tmp_path_factory):
    """A training of six pictures."""
    folder = tmp_path_factory.mktemp("training")
    assert main(["train-regions", "--pictures", "6", *SMALL, "--output", str(folder)]) == 0
    return folder


TASKS = ["--replace", "2", "--add", "2", "--remove", "2", "--workers", "1", "--steps", "1"]


@pytest.mark.slow
def test_networks_are_compared_by_what_they_learned_from_and_see(training, tmp_path, capsys):
    command = ["study", "predictors", "--training", str(training), "--output", str(tmp_path), "--pictures", "4", "6",
               "--ablation", "--updates", "2", *TASKS]
    assert main(command) == 0
    said = capsys.readouterr().out
    summary = json.loads((tmp_path / "summary.json").read_text())
    groups = {"replace, one object", "replace, two objects", "add, empty scene", "add, one object there", "remove, one object",
              "remove, two objects"}
    assert set(summary["means"]) == groups and (tmp_path / "curve.png").stat().st_size > 1000
    names = ["4 pictures", "6 pictures", "6 pictures, without features", "6 pictures, without attention",
             "6 pictures, without patches", "6 pictures, without texts", "6 pictures, without surroundings",
             "6 pictures, without geometry", "6 pictures, without patches and texts"]
    for title, means in summary["means"].items():
        assert list(means) == names and all(("hit" in found) == ("add" not in title) for found in means.values())
        assert f"{title}: means" in said
    record = json.loads((tmp_path / "records" / "6_pictures_without_texts.json").read_text())
    assert record["without"] == ["texts"] and {r["evaluations"] for r in record["records"]} == {2}
    # Nothing is trained twice, and the training's own networks stay.
    capsys.readouterr()
    assert main(command) == 0
    assert "training, round" not in capsys.readouterr().err
    assert main(["study", "predictors", "--training", str(training), "--output", str(tmp_path / "other"), "--pictures", "7"]) == 2
    assert "has edits of 6 pictures, not of 7" in capsys.readouterr().err
    assert main(["study", "predictors", "--training", str(tmp_path), "--output", str(tmp_path / "other")]) == 2
    assert "holds no edits of emoji scenes; make some by" in capsys.readouterr().err


def test_the_trials_of_a_study(training, tmp_path):
    study = Predictors(tmp_path, training, pictures=(2, 5), ablation=True)
    assert [job.pictures for job in study.jobs()] == [2, 5] + [5] * 7
    assert study.file(Trial(5, ("patches", "texts"))) == "5_pictures_without_patches_and_texts"
    assert Predictors(tmp_path, training).jobs() == [Trial(6)]
    with pytest.raises(UserError, match=r"lacks edits of round 2 for some of 6 pictures; .*--pictures 6 --rounds 2"):
        Predictors(tmp_path, training, rounds=2)


@pytest.mark.slow
def test_a_second_round_is_compared_with_the_first(tmp_path):
    folder = tmp_path / "training"
    assert main(["train-regions", "--pictures", "4", "--rounds", "2", *SMALL, "--output", str(folder)]) == 0
    command = ["study", "predictors", "--training", str(folder), "--output", str(tmp_path / "out"), "--pictures", "2", "4",
               "--rounds", "2", "--updates", "2", *TASKS]
    assert main(command) == 0
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert list(summary["means"]["replace, one object"]) == ["2 pictures", "4 pictures", "4 pictures, 2 rounds"]
    cards = [json.loads((tmp_path / "out" / "records" / f"{name}.json").read_text())["card"]
             for name in ("4_pictures", "4_pictures_2_rounds")]
    assert [card["rounds"] for card in cards] == [1, 2] and cards[0]["digest"] != cards[1]["digest"]


@pytest.mark.slow
def test_one_run_answers_for_all_thresholds_of_the_confidence(tmp_path, capsys):
    command = ["study", "confidence", "--output", str(tmp_path), "--replace", "2", "--add", "1", "--remove", "1", "--strange",
               "1", "--workers", "1", "--steps", "1"]
    assert main(command) == 0
    assert "one edit from this confidence on" in capsys.readouterr().out
    assert (tmp_path / "thresholds.png").stat().st_size > 1000
    summary = json.loads((tmp_path / "summary.json").read_text())
    means = summary["means"]["all tasks"]
    spent = [found["evaluations"]["value"] for found in means.values()]
    assert list(means) == [f"{t:g}" for t in THRESHOLDS] and spent == sorted(spent) and spent[0] == 2 < spent[-1]
    assert summary["scenes"] == "validation" and list(summary["differences"]) == list(means)[1:]
    # The same scene by `fast` itself, when it is never confident.
    models, record = load_models("tiny", device="cpu"), json.loads((tmp_path / "records" / "add_300000.json").read_text())
    one = task("add", 300_000)
    made = predict(models, one.picture, one.source, one.prompt, METHODS["fast"].but(steps=1, confident=1.0), 42)
    assert record["choices"]["first"]["confidence"] == pytest.approx(made.confidence, abs=1e-5) and made.confidence < 0.9
    k, m = made.order[0]
    assert record["choices"]["tried"]["box"] == made.proposals.boxes[k, m].tolist()


def test_a_threshold_says_which_of_the_two_edits_counts():
    record = {"task": "replace_1", "objects": 1, "choices": {"first": {"success": True, "evaluations": 2, "confidence": 0.5},
                                                            "tried": {"success": False, "evaluations": 9}}}
    found = {r["row"]: r["success"] for r in confidence.flat([record])}
    assert found == {f"{t:g}": t <= 0.5 for t in THRESHOLDS}
    means = confidence.summarise([record])
    assert means["means"]["all tasks"]["0.5"]["evaluations"]["value"] == 2
    assert means["differences"]["0.6"]["success"]["value"] == -1
    figure = confidence.thresholds(means)  # of additions alone, which have no hit
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["task done"]


@pytest.mark.slow
def test_objectives_are_compared_on_edits_that_none_of_them_chose(tmp_path, capsys):
    assert main(["study", "objectives", "--output", str(tmp_path), "--boxes", "4", *TASKS]) == 0
    means = json.loads((tmp_path / "summary.json").read_text())["means"]
    rules = means["all tasks"]
    assert {"paper", "learned", "direction", "direction_area", "learned, to add direction_area", "direction alone",
            "S (the paper's ranking)", "edit-free terms", "any box, by lot", "the best box"} <= set(rules)
    assert all(rules["the best box"]["success"]["value"] >= found["success"]["value"] for found in rules.values())
    assert "the box of the lowest loss by" in capsys.readouterr().out


def test_an_objective_takes_its_lowest_loss():
    """Each term once the lowest in a box of its own; standardised, so that no term drowns another by its scale."""
    terms = {name: [1000.0 * (name == "direction") * (i != k) + (i != k) for i in range(7)] for k, name in enumerate(TERMS)}
    record = {"terms": terms, "score": [0.0, 0, 0, 3, 0, 0, 0], "adds": True}
    chosen = choices(record)
    assert [chosen[f"{name} alone"] for name in TERMS] == list(range(7))
    assert chosen["direction"] == TERMS.index("direction") and chosen["S (the paper's ranking)"] == 3
    assert chosen["learned"] == TERMS.index("patches")  # which weighs most
    assert chosen["paper, not standardised"] == TERMS.index("direction")
    assert chosen["learned, to add direction_area"] == chosen["direction_area"]
    assert choices(record | {"adds": False})["learned, to add direction_area"] == chosen["learned"]
    assert chosen["tight, to add learned"] == chosen["learned"]
    assert choices(record | {"adds": False})["tight, to add learned"] == chosen["tight"]
    assert Objectives(Path("x"), 1, 1, 1).jobs() == [("replace", 300_000), ("add", 300_000), ("remove", 300_000)]
    assert Objectives(Path("x"), 1, 0, 0, reported=True).jobs() == [("replace", 400_000)]


def test_of_each_kind_a_tenth_is_kept_back():
    asks = emoji_asks(400)
    back = train.kept_back(asks)
    for kind, count in kinds_of(asks).items():
        own = [is_back for ask, is_back in zip(asks, back, strict=True) if ask.kind == kind]
        assert len(own) == count and abs(sum(own) - count / 10) <= 1.1, kind
    assert train.kept_back(asks[:3]) == [False, False, True]


def test_edits_are_made_again_where_their_picture_or_the_network_that_chose_them_is_another(tmp_path):
    picture = tmp_path / "a.png"
    picture.write_bytes(b"one")
    ask = Ask("a", "given", "cat", "a dog", image=picture)
    training = Training(tmp_path / "out", get_profile("tiny"), [ask, replace(ask, name="b")], rounds=2)
    studies = [Collect(training, round_) for round_ in (0, 1)]
    for folder in ("networks", "records/round0", "records/round1", "edits/round0", "edits/round1"):
        (tmp_path / "out" / folder).mkdir(parents=True)
    studies[1].network(0).write_bytes(b"network")
    for study in studies:
        study.tensors(ask).write_bytes(b"edits")
        study.record(ask).write_text(json.dumps({"source": "cat", "prompt": "a dog", **study._from(ask)}), encoding="utf-8")
    assert [study.complete(ask, {}) for study in studies] == [True, True]
    studies[1].network(0).write_bytes(b"another network")
    assert [study.complete(ask, {}) for study in studies] == [True, False]
    picture.write_bytes(b"two")
    assert not studies[0].complete(ask, {})
