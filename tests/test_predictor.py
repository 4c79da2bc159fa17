"""The region network that is trained across pictures: what it sees, what it learns, and how it is stored."""

import json
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from lr_helpers import UserError
from lr_helpers.course.samples import sample
from lr_helpers.files.canvas import Canvas
from lr_helpers.learning import Expectation, Reinforce, StraightThrough
from lr_helpers.losses import standardised
from lr_helpers.predictor import (
    Example,
    RegionPredictor,
    View,
    around,
    fit,
    geometry,
    read,
    view_of,
    weighed,
)

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


def test_clips_patches_find_a_known_object(models, scene_recipe, scene_picture):
    """The similarity to the source, as the network reads it, is highest inside the object's box."""
    thing = scene_recipe.objects[0]
    canvas = Canvas(scene_picture, models.editor.size)
    view = view_of(models, canvas, thing.name, "a rabbit")
    similarity = read(view)[-3]
    h, w = similarity.shape
    row, column = divmod(int(similarity.argmax()), w)
    x, y = (column + 0.5) * scene_picture.width / w, (row + 0.5) * scene_picture.height / h
    assert thing.box[0] <= x < thing.box[2] and thing.box[1] <= y < thing.box[3]


# What it learns


def test_terms_are_weighed_after_they_are_standardised_and_a_share_as_it_is():
    terms = {"direction": torch.tensor([0.1, 0.2, 0.3]), "area": torch.tensor([0.5, 0.2, 0.1]), "clip": torch.ones(3)}
    weights = {"direction": 1.0, "area": 0.5, "clip": 2.0, "source": 0.0}
    found = weighed(terms, weights)
    other = weighed({**terms, "direction": 100 * terms["direction"] - 7}, weights)
    assert torch.allclose(found, other, atol=1e-4)
    assert torch.allclose(found, standardised(terms["direction"]) + 0.5 * terms["area"], atol=1e-4)


def test_on_one_picture_the_softmax_becomes_that_of_the_losses():
    one, net = made_up(3, count=6), network()
    fit(net, [Example(one.view, one.boxes, one.losses)], estimator=Expectation(), steps=500, lr=3e-3, temperature=0.5)
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


# How it is stored


def store(net: RegionPredictor, folder: Path, card: dict) -> None:
    folder.mkdir(exist_ok=True)
    for name, data in net.files(card).items():
        (folder / name).write_bytes(data)


def test_it_comes_back_from_its_folder(tmp_path):
    one, net = made_up(4), network()
    store(net, tmp_path / "net", {"pictures": 4})
    again = RegionPredictor.load(tmp_path / "net")
    assert torch.allclose(again(one.view, one.boxes), net(one.view, one.boxes), atol=2e-2)  # stored in half
    assert json.loads((tmp_path / "net" / "config.json").read_text())["card"] == {"pictures": 4}


@pytest.mark.parametrize("damage", ["nothing", "no weights", "cut off", "another kind", "other sizes", "no JSON"])
def test_what_is_no_predictor_is_refused_in_one_sentence(damage, tmp_path):
    store(network(), tmp_path, {})
    config, weights = tmp_path / "config.json", tmp_path / "model.safetensors"
    if damage == "nothing":
        config.unlink()
    elif damage == "no weights":
        weights.unlink()
    elif damage == "cut off":
        weights.write_bytes(weights.read_bytes()[:-50])
    elif damage == "no JSON":
        config.write_text("{")
    else:
        found = json.loads(config.read_text())
        found |= {"kind": "tokenizer"} if damage == "another kind" else {"hidden": 17}
        config.write_text(json.dumps(found))
    with pytest.raises(UserError, match="holds no region predictor") as caught:
        RegionPredictor.load(tmp_path)
    assert "train-regions" in str(caught.value)
