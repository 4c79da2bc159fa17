"""The region network that is trained across pictures: what it sees, what it learns, and how it is stored."""

import os
import resource
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from predictors import untrained, with_predictor
from safetensors.torch import load_file, save
from torch.nn import functional as F

from lr_helpers import UserError
from lr_helpers.course.samples import sample
from lr_helpers.files.canvas import Canvas
from lr_helpers.files.paths import DATA
from lr_helpers.learning import Expectation, Reinforce, StraightThrough
from lr_helpers.losses import standardised
from lr_helpers.models.encoders import fingerprint
from lr_helpers.models.loading import load_backbone
from lr_helpers.models.region_weights import metadata
from lr_helpers.predictor import (
    INPUTS,
    Example,
    Ranking,
    RegionPredictor,
    View,
    around,
    common_scales,
    fit,
    geometry,
    predictor_of,
    ranking,
    read,
    view_of,
    weighed,
)
from tiny_world.scenes import scene, tensor

SHAPE = (96, 128)


def made_up(seed: int, width: int = 12, count: int = 20) -> Example:
    """A picture with a patch of 3×3 tokens that CLIP finds like the prompt; boxes near it have the lowest losses."""
    draw = torch.Generator().manual_seed(seed)
    h, w = 9, width
    shape = (9 * 8, w * 8)
    texts = F.normalize(torch.randn(2, 16, generator=draw), dim=1)
    patches = 0.3 * torch.randn(16, h, w, generator=draw)
    row, column = (int(torch.randint(n - 3, (), generator=draw)) for n in (h, w))
    patches[:, row:row + 3, column:column + 3] += texts[1][:, None, None]
    view = View(torch.randn(8, h, w, generator=draw), torch.rand(h, w, generator=draw), patches, texts, shape)
    corners = torch.stack([torch.randint(n - 24, (count,), generator=draw) for n in (shape[1], shape[0])], 1)
    corners[0] = torch.tensor([column * 8, row * 8])
    boxes = torch.cat([corners, corners + 24], 1)
    middle = torch.tensor([column * 8 + 12.0, row * 8 + 12.0])
    return Example(view, boxes, ((boxes[:, :2] + 12.0) - middle).norm(dim=1))


def network(seed: int = 0) -> RegionPredictor:
    torch.manual_seed(seed)
    return RegionPredictor(8, 16, 16).eval()


# What it sees


def test_every_box_gets_a_logit_whatever_the_shape_of_the_table():
    one, net = made_up(0), network()
    flat = net(one.view, one.boxes)
    assert flat.shape == (20,) and torch.allclose(net(one.view, one.boxes.reshape(4, 5, 4)), flat.reshape(4, 5))
    assert sum(p.numel() for p in RegionPredictor(768, 512).parameters()) < 2_000_000  # ViT-B and CLIP's ViT-B


def test_pictures_are_seen_together_as_one_by_one():
    some, net = [made_up(i, count=5 + i) for i in range(3)], network()
    together = net.several([one.view for one in some], [one.boxes for one in some])
    for one, logits in zip(some, together, strict=True):
        assert torch.allclose(logits, net(one.view, one.boxes), atol=1e-5)


def test_no_scale_of_a_model_reaches_the_logits():
    """Features twice as large, a shifted attention, texts and patches of another length: the same logits."""
    one, net = made_up(1), network()
    v = one.view
    other = View(2 * v.features + 3, 5 * v.attention + 1, 4 * v.patches, 3 * v.texts, v.shape)
    assert torch.allclose(net(v, one.boxes), net(other, one.boxes), atol=1e-3)


def test_a_mirrored_picture_has_its_boxes_mirrored():
    one = made_up(2)
    other = one.flipped()
    x0, y0, x1, y1 = one.boxes[0].tolist()
    width = one.view.shape[1]
    assert other.boxes[0].tolist() == [width - x1, y0, width - x0, y1]
    assert torch.equal(other.view.attention[:, 0], one.view.attention[:, -1])
    assert torch.equal(other.flipped().boxes, one.boxes) and torch.equal(other.flipped().view.patches, one.view.patches)


def test_geometry_and_surroundings():
    boxes = torch.tensor([[0.0, 0.0, 128.0, 96.0], [32.0, 24.0, 64.0, 72.0]])
    assert torch.allclose(geometry(boxes, SHAPE)[0], torch.tensor([0.5, 0.5, 1, 1, 1, 0]))
    assert torch.allclose(geometry(boxes, SHAPE)[1], torch.tensor([0.375, 0.5, 0.25, 0.5, 0.125, -0.6931]), atol=1e-4)
    assert around(boxes)[1].tolist() == [16, 0, 80, 96]


def test_the_view_of_a_photograph_lies_on_its_own_grid(models):
    photo = sample("sd2", "flower")
    canvas = Canvas(photo.picture, models.editor.size)
    view = view_of(models, canvas, "flower", "a rabbit")
    h, w = view.attention.shape
    assert w > h and view.features.shape[1:] == view.patches.shape[1:] == (h, w)
    assert view.shape == photo.picture.size[::-1] and view.texts.shape[0] == 2
    assert read(view).shape == (view.features.shape[0] + 2 * view.texts.shape[1] + 3, h, w)
    assert read(view).isfinite().all()


def test_clips_patches_find_a_known_object(models):
    """The similarity to the source, as the network reads it, is highest inside the object's box; by lot, in about a
    sixth of these held-out scenes."""
    found = 0
    for seed in range(20):
        recipe = scene(seed, 1)
        (thing,), picture = recipe.objects, tensor(recipe)
        similarity = read(view_of(models, picture, thing.name, "a rabbit"))[-3]
        h, w = similarity.shape
        row, column = divmod(int(similarity.argmax()), w)
        x, y = (column + 0.5) * picture.shape[2] / w, (row + 0.5) * picture.shape[1] / h
        found += thing.box[0] <= x < thing.box[2] and thing.box[1] <= y < thing.box[3]
    assert found >= 12


# What it learns


def test_terms_are_weighed_after_they_are_standardised_and_a_share_as_it_is():
    terms = {"direction": torch.tensor([0.1, 0.2, 0.3]), "area": torch.tensor([0.5, 0.2, 0.1]), "clip": torch.ones(3)}
    weights = {"direction": 1.0, "area": 0.5, "clip": 2.0, "source": 0.0}
    found = weighed(terms, weights)
    other = weighed({**terms, "direction": 100 * terms["direction"] - 7}, weights)
    assert torch.allclose(found, other, atol=1e-4)
    assert torch.allclose(found, standardised(terms["direction"]) + 0.5 * terms["area"], atol=1e-4)


def test_with_common_scales_a_picture_whose_edits_are_alike_teaches_less():
    """Ten times as much between the boxes of one picture as between those of the other."""
    loud, soft = ({"direction": size * torch.tensor([1.0, 2, 3, 4]), "area": torch.full((4,), 0.1)} for size in (1.0, 0.1))
    weights = {"direction": 2.0, "area": 1.0, "clip": 0.0}
    scales = common_scales([loud, soft], weights)
    assert scales == {"direction": pytest.approx(float(loud["direction"].std(correction=0)) * 0.55)}
    a, b = (weighed(terms, weights, scales) for terms in (loud, soft))
    assert torch.allclose(a - 0.1, 10 * (b - 0.1), atol=1e-4)
    # Of no model's scale all the same: ten times as much in all pictures changes nothing.
    tenfold = [{**terms, "direction": 10 * terms["direction"] + 5} for terms in (loud, soft)]
    again = weighed(tenfold[0], weights, common_scales(tenfold, weights))
    assert torch.allclose(a, again, atol=1e-3)
    # And in training: where losses hardly differ, the choice stays open.
    one = made_up(3, count=6)
    nets = [network(), network()]
    for net, factor in zip(nets, (1.0, 0.05), strict=True):
        fit(net, [Example(one.view, one.boxes, factor * standardised(one.losses))], estimator=Expectation(), steps=150, lr=3e-3,
            temperature=0.3, scale=1.0, dropout=0.0)
    decided, open_ = (float(net(one.view, one.boxes).softmax(0).max().detach()) for net in nets)
    assert decided > 0.5 > 0.3 > open_ > 1 / 6


def test_nothing_is_dropped_when_it_is_used():
    one, net = made_up(0), network()
    fit(net, [one], estimator=Expectation(), steps=2, dropout=0.5)
    assert not net.training and torch.equal(net(one.view, one.boxes), net(one.view, one.boxes))


def test_on_one_picture_the_softmax_becomes_that_of_the_losses():
    one, net = made_up(3, count=6), network()
    fit(net, [Example(one.view, one.boxes, one.losses)], estimator=Expectation(), steps=500, lr=3e-3, temperature=0.5,
        dropout=0.0)
    with torch.no_grad():
        found = net(one.view, one.boxes).softmax(0)
    wanted = (-standardised(one.losses) / 0.5).softmax(0)
    assert (found - wanted).abs().max() < 0.05


@pytest.mark.parametrize("estimator", [Expectation(), Reinforce(8)], ids=["expectation", "reinforce"])
def test_what_is_learned_on_some_pictures_holds_for_others(estimator):
    """Pictures of two shapes; on new ones the chosen box is far better than by lot, of which the untrained is no
    better: losses are distances in pixels, so a box by lot lies some 30 off.
    """
    training = [made_up(i, width=12 if i % 2 else 10) for i in range(80)]
    net, others = network(), [made_up(i) for i in range(1000, 1040)]

    def distance() -> float:
        with torch.no_grad():
            return sum(float(o.losses[int(net(o.view, o.boxes).argmax())]) for o in others) / len(others)

    before = distance()
    history = fit(net, training, estimator=estimator, steps=150, lr=3e-3)
    assert len(history) == 150 and sum(history[-20:]) < sum(history[:20])
    by_lot = sum(float(o.losses.mean()) for o in others) / len(others)
    assert before > 0.6 * by_lot and distance() < 0.4 * by_lot


def test_training_is_the_same_each_time_and_leaves_the_generator_alone():
    training = [made_up(i) for i in range(4)]
    torch.manual_seed(5)
    state = torch.get_rng_state()
    a, b = network(), network()
    torch.set_rng_state(state)
    assert fit(a, training, estimator=Expectation(), steps=5) == fit(b, training, estimator=Expectation(), steps=5)
    assert torch.equal(torch.get_rng_state(), state)


def test_straight_through_and_broken_losses_are_refused():
    one = made_up(0)
    with pytest.raises(UserError, match="use expectation or reinforce"):
        fit(network(), [one], estimator=StraightThrough(), steps=1)
    with pytest.raises(UserError, match="step 1; give a lower lr"):
        fit(network(), [Example(one.view, one.boxes, one.losses * torch.nan)], estimator=Expectation(), steps=1)


# What it says


def test_a_box_that_stands_there_twice_counts_once():
    one, net = made_up(5), network()
    twice = torch.cat([one.boxes, one.boxes[:7]])
    found, plain = ranking(net, one.view, twice), ranking(net, one.view, one.boxes)
    assert torch.equal(found.boxes, plain.boxes) and torch.allclose(found.probabilities, plain.probabilities)
    assert found.probabilities.sum() == pytest.approx(1, abs=1e-5) and (found.probabilities.diff() <= 0).all()


def test_the_confidence_is_the_probability_of_a_place():
    boxes = torch.tensor([[0, 0, 10, 10], [0, 0, 10, 8], [40, 40, 50, 50], [0, 0, 4, 4], [40, 40, 50, 48]])
    ranked = Ranking(boxes, torch.tensor([0.4, 0.25, 0.2, 0.1, 0.05]))
    assert ranked.confidence == pytest.approx(0.65)  # the fourth lies in the first, but overlaps it by a sixth
    assert ranked.places(1) == [0] and ranked.places(2) == [0, 2]
    assert ranked.places(4) == [0, 2, 3]  # there are three places


@pytest.mark.parametrize("left_out", INPUTS)
def test_what_a_network_shall_not_see_decides_nothing(left_out):
    """Without an input, another picture's is as good; with it, it is not."""
    one, other = made_up(6), made_up(7)
    v, w = one.view, other.view
    changed = {"features": replace(v, features=w.features), "attention": replace(v, attention=w.attention),
               "patches": replace(v, patches=w.patches), "texts": replace(v, texts=w.texts)}
    nets = [network_without(), network_without(left_out)]
    if left_out in changed:
        # The texts come with CLIP's patches too.
        seen, without = (net(changed[left_out], one.boxes) - net(v, one.boxes) for net in
                         (nets if left_out != "texts" else (network_without("patches"), network_without("patches", "texts"))))
        assert without.abs().max() == 0 < seen.abs().max()
    else:
        # The columns of the first layer that read it: whatever they are, they read zeros.
        at = {"surroundings": slice(64 * 16, 64 * 20), "geometry": slice(64 * 20, None)}[left_out]
        before = [net(v, one.boxes) for net in nets]
        for net in nets:
            with torch.no_grad():
                net.judge[0].weight[:, at] *= -3
        assert torch.equal(nets[1](v, one.boxes), before[1]) and not torch.allclose(nets[0](v, one.boxes), before[0])


def network_without(*names: str) -> RegionPredictor:
    torch.manual_seed(0)
    return RegionPredictor(8, 16, 64, without=names).eval()


def test_an_unknown_input_is_told():
    with pytest.raises(UserError, match="The input smell is unknown; choose from features"):
        RegionPredictor(8, 16, without=["smell"])


# How it is stored


TRAINED_ON = {"backbone": {"name": "a ViT", "fingerprint": "0" * 16}, "clip": {"name": "a CLIP", "fingerprint": "1" * 16}}


def store(net: RegionPredictor, file: Path, **settings) -> Path:
    """Its file; with settings that its author may have made up."""
    net.trained_on, net.card = TRAINED_ON, {"pictures": 4}
    state = {name: value.half() for name, value in net.state_dict().items()}
    file.write_bytes(save(state, metadata({**net.settings, **settings}, net.trained_on, net.card)))
    return file


def test_it_comes_back_from_its_file(tmp_path):
    one, net = made_up(4), network_without("geometry")
    file = store(net, tmp_path / "net.safetensors")
    assert file.read_bytes() == net.to_bytes()
    again = RegionPredictor.load(file)
    assert torch.allclose(again(one.view, one.boxes), net(one.view, one.boxes), atol=2e-2)  # stored in half
    assert (again.card, again.trained_on, again.settings) == ({"pictures": 4}, TRAINED_ON, net.settings)
    assert not again.training and not any(p.is_meta for p in again.parameters())


ABSURD = 10**9
DAMAGES = {  # by what is wrong: settings that the file tells, or what is done to the file; and the words of the refusal
    "nothing there": (lambda file: file.unlink(), "No such file"),
    "a folder": (lambda file: (file.unlink(), file.mkdir()), "no plain file"),
    "a pipe": (lambda file: (file.unlink(), os.mkfifo(file)), "no plain file"),
    "empty": (lambda file: file.write_bytes(b""), "header"),
    "cut off": (lambda file: file.write_bytes(file.read_bytes()[:-50]), ""),
    "no safetensors": (lambda file: file.write_bytes(b"{}" * 500), "header"),
    "a long header": (lambda file: file.write_bytes((2**62).to_bytes(8, "little") + b"{" * 99), "too long"),
    "deep JSON": (lambda file: file.write_bytes((10**5).to_bytes(8, "little") + b"[" * 10**5), "header"),
    "another kind": (lambda file: file.write_bytes(save({"x": torch.zeros(3)}, {"format": "pt"})), "does not say that it is"),
    "no numbers": (lambda file: spoil(file, torch.nan), "not finite"),
    "endless numbers": (lambda file: spoil(file, torch.inf), "not finite"),
    "another hidden": ({"hidden": 17}, "shapes"),
    "absurd hidden": ({"hidden": ABSURD}, "hidden is '1000000000', not a whole number from 1 to 512"),
    "absurd features": ({"features": ABSURD}, "from 1 to 4096"),
    "largest sizes": ({"features": 4096, "embedding": 4096, "hidden": 512}, "shapes"),
    "no size": ({"embedding": 0}, "from 1 to 4096"),
    "negative": ({"embedding": -8}, "from 1 to 4096"),
    "half a size": ({"hidden": 16.5}, "whole number"),
    "true": ({"hidden": True}, "whole number"),
    "a list": ({"hidden": [16]}, "whole number"),
    "an odd input": ({"without": ["smell"]}, "smell"),
    "inputs as text": ({"without": "texts"}, "list of names"),
    "more settings": ({"layers": 3}, "settings that no predictor has"),
}


def spoil(file: Path, value: float) -> None:
    state = load_file(file)
    state["judge.0.bias"][3] = value
    file.write_bytes(save(state, metadata(network().settings, TRAINED_ON, {})))


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_no_predictor_is_refused_in_one_sentence(damage, tmp_path):
    """Nothing is allocated by what the file claims of itself: the process's memory stays as it is."""
    change, words = DAMAGES[damage]
    file = store(network(), tmp_path / "net.safetensors", **(change if isinstance(change, dict) else {}))
    if not isinstance(change, dict):
        change(file)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError, match="is no region predictor") as caught:
        RegionPredictor.load(file)
    assert words in str(caught.value) and "train-regions` has written." in str(caught.value)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # kB


def test_a_file_that_does_not_say_its_models_is_refused(tmp_path):
    net = network()
    for wrong in ({}, {"backbone": "x", "clip": "y"}, {"backbone": TRAINED_ON["backbone"]},
                  {**TRAINED_ON, "clip": {"name": 3, "fingerprint": "0"}}):
        (tmp_path / "net").write_bytes(save({k: v.half() for k, v in net.state_dict().items()}, metadata(net.settings, wrong, {})))
        with pytest.raises(UserError, match="does not say on which"):
            RegionPredictor.load(tmp_path / "net")


# Which models it is for


def test_a_fingerprint_tells_weights_apart_wherever_they_lie(models, tmp_path):
    folder = shutil.copytree(DATA / "tiny_world" / "dino", tmp_path / "elsewhere")
    same, other = (load_backbone((str(place),), "cpu", 64)[0] for place in (folder, DATA / "tiny_world" / "dino"))
    assert fingerprint(same.vit) == fingerprint(other.vit) == fingerprint(models.backbone.vit)
    with torch.no_grad():
        next(same.vit.parameters()).add_(1e-4)  # a step of training
    assert fingerprint(same.vit) != fingerprint(other.vit) != fingerprint(models.clip.model)


@pytest.mark.parametrize(("part", "words"), [("backbone", "another ViT"), ("clip", "another CLIP")])
def test_another_models_predictor_is_refused(part, words, models, tmp_path):
    theirs = with_predictor(models, tmp_path / "net.safetensors")
    assert predictor_of(theirs) is predictor_of(theirs)
    net = untrained(models)
    net.trained_on = {**net.trained_on, part: {"name": "evil\x1b[2J", "fingerprint": "f" * 16}}
    (tmp_path / "other.safetensors").write_bytes(net.to_bytes())
    theirs.profile = theirs.profile.but(regions=tmp_path / "other.safetensors")
    with pytest.raises(UserError, match=words) as caught:
        predictor_of(theirs)
    said = str(caught.value)
    assert "train-regions --profile tiny" in said and models.origins[part] in said and "\x1b" not in said
