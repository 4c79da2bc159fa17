"""The engine behind the widget and the page: the same bits as `edit`, stages in order, a cancel that stops, one sentence."""

import json
import threading

import pytest
import torch
from predictors import with_predictor

from lr_helpers import edit
from lr_helpers.app import drawing, engine
from lr_helpers.app.engine import Chosen, Edited, Finished, Prepared, Proposed, Stopped, stages
from lr_helpers.errors import UserError
from lr_helpers.method import METHODS, Method

QUICK = Method(anchors=3, sizes=(0.4, 0.6), iterations=3, steps=2, estimator="expectation")
LONG = QUICK.but(steps=6)
DRAWN = QUICK.but(estimator="straight_through", iterations=4)
SCREENED = METHODS["learned"].but(anchors=4, sizes=(0.4, 0.6), shortlist=3, iterations=3, steps=3, screening_steps=2)


def all_of(models, picture, method, **more):
    return list(stages(models, picture, "wolf", "an apple", method, 1, **more))


def same(result, other) -> None:
    """Every bit but the seconds."""
    assert result.image.tobytes() == other.image.tobytes()
    first, second = (json.loads(json.dumps(r.to_dict())) for r in (result, other))
    first["cost"].pop("seconds"), second["cost"].pop("seconds")
    assert first == second
    assert all(torch.equal(a.picture, b.picture) for a, b in zip(result.candidates, other.candidates, strict=True))


@pytest.mark.parametrize("method", [QUICK, DRAWN, SCREENED], ids=["all edits", "drawn", "screened"])
def test_a_search_has_the_bits_of_edit_and_its_stages_in_order(models, scene_picture, method):
    known = edit(models, scene_picture, "wolf", "an apple", method, 1, progress=False)
    found = all_of(models, scene_picture, method)
    same(found[-1].result, known)
    kinds = [type(stage) for stage in found]
    edits = [stage for stage in found if isinstance(stage, Edited)]
    assert [kinds[0], kinds[1], kinds[-1]] == [Prepared, Proposed, Finished] and kinds.count(Chosen) == 1
    assert len(edits) == known.cost["different_edits"] == len({e.box for e in edits})
    assert [e.number for e in edits] == list(range(len(edits))) and all(e.most >= len(edits) for e in edits)
    assert found[0].cost.evaluations >= known.cost["denoiser_evaluations"]
    # What was told of each edit is what the table has of it.
    for told in edits:
        k, m = (known.boxes == torch.tensor(told.box)).all(-1).nonzero()[0].tolist()
        assert told.score == pytest.approx(float(known.scores[k, m]), abs=1e-6)
        if told.box != known.box:  # the winner's picture in `known` is the full edit
            assert torch.equal(told.picture, known.table.picture(k, m))
    (chosen,) = (stage for stage in found if isinstance(stage, Chosen))
    assert float(chosen.probabilities.sum()) == pytest.approx(1, abs=1e-5) and len(chosen.history.loss) == method.iterations


@pytest.mark.parametrize("name", ["predicted", "fast"])
def test_a_prediction_has_the_bits_of_edit(models, scene_picture, tmp_path, name):
    own = with_predictor(models, tmp_path / "regions.safetensors")
    assert set(METHODS) == set(engine.methods(own))
    method = METHODS[name].but(steps=2, anchors=4, sizes=(0.4, 0.6))
    known = edit(own, scene_picture, "wolf", "an apple", method, 1, progress=False)
    found = all_of(own, scene_picture, method)
    same(found[-1].result, known)
    kinds = [type(stage) for stage in found]
    assert kinds.index(Chosen) < kinds.index(Edited)  # a predictor chooses before anything is edited
    (chosen,) = (stage for stage in found if isinstance(stage, Chosen))
    assert chosen.history is None and chosen.confidence == known.confidence
    assert float(chosen.probabilities.sum()) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("calls", [0, 3])
def test_a_cancel_stops_between_two_denoiser_calls_and_leaves_the_models_as_they_were(models, scene_picture, calls):
    known = all_of(models, scene_picture, LONG)[-1].result
    cancel, made = threading.Event(), []
    if calls == 0:
        cancel.set()
    denoiser = getattr(models.editor.pipeline, models.editor.denoiser)

    def after(module, inputs, output):
        made.append(1)
        if len(made) == calls:
            cancel.set()  # in the middle of an edit, which has more steps to go

    hook = denoiser.register_forward_hook(after)
    try:
        last = all_of(models, scene_picture, LONG, cancel=cancel)[-1]
    finally:
        hook.remove()
    assert isinstance(last, Stopped) and len(made) == calls
    assert (last.evaluations > 0) == (calls > 0) and last.evaluations < known.cost["denoiser_evaluations"]
    same(all_of(models, scene_picture, LONG)[-1].result, known)


def test_a_generator_that_is_closed_ends_its_edit(models, scene_picture):
    before = threading.active_count()
    running = stages(models, scene_picture, "wolf", "an apple", QUICK.but(steps=40), 1)
    assert isinstance(next(running), Prepared) and isinstance(next(running), Proposed)
    begun = models.editor.evaluations
    running.close()
    assert threading.active_count() == before
    assert models.editor.evaluations - begun < 40 * 6  # by far not all
    assert isinstance(all_of(models, scene_picture, QUICK)[-1], Finished)


def test_one_edit_at_a_time(models, scene_picture):
    running = stages(models, scene_picture, "wolf", "an apple", QUICK, 1)
    next(running)
    with pytest.raises(UserError, match="Another edit is running"):
        all_of(models, scene_picture, QUICK)
    running.close()
    assert isinstance(all_of(models, scene_picture, QUICK)[-1], Finished)


@pytest.mark.parametrize(("changes", "said"), [
    ({"source": " "}, "The source is empty"), ({"prompt": "\x1b"}, "control character"), ({"seed": -1}, "seed is -1"),
    ({"method": "best"}, "The method 'best' is unknown"), ({"image": "no such file.png"}, "There is no file"),
    ({"method": "predicted"}, "predict"), ({"source": "x" * 1001}, "The source has 1,001 characters; give at most 1,000"),
    ({"prompt": "x " * 900}, "The prompt has 1,800 characters")])
def test_what_is_wrong_is_one_sentence_and_the_next_edit_works(models, scene_picture, tmp_path, changes, said):
    if changes.get("method") == "predicted":  # models that have no predictor
        models = type(models)(**{**vars_of(models), "profile": models.profile.but(regions=tmp_path / "none"), "predictor": None})
    asked = {"image": scene_picture, "source": "wolf", "prompt": "an apple", "method": QUICK, "seed": 1} | changes
    with pytest.raises(UserError, match=said) as error:
        list(stages(models, **asked))
    assert "\n" not in str(error.value)
    assert isinstance(next(stages(models, scene_picture, "wolf", "an apple", QUICK, 1)), Prepared)


def vars_of(models) -> dict:
    return {name: getattr(models, name) for name in models.__dataclass_fields__}


@pytest.mark.parametrize(("fault", "said"), [
    (ZeroDivisionError("division by zero"), "This is a fault of the program, not of yours; please report it "
                                            r"\(ZeroDivisionError: division by zero\)\."),
    (MemoryError(), "The memory of this machine"), (UserError("Give a smaller picture."), "^Give a smaller picture.$")])
def test_a_fault_while_it_runs_is_one_sentence(models, scene_picture, monkeypatch, fault, said):
    def fail(*_, **__):
        raise fault

    monkeypatch.setattr(models.clip, "encode_text", fail)
    with pytest.raises(UserError, match=said):
        all_of(models, scene_picture, QUICK)
    monkeypatch.undo()
    assert isinstance(all_of(models, scene_picture, QUICK)[-1], Finished)


def test_unknown_words_are_marked_where_they_stand(models):
    assert engine.marked(models, "a Zebra, in the snow") == [("a ", False), ("Zebra", True), (", in the snow", False)]
    assert engine.marked(models, "a wolf") == [("a wolf", False)] and engine.marked(models, "") == []
    for text in ("xyzzy <b>fox</b> plugh", "foo", "  a fox  "):
        assert "".join(piece for piece, _ in engine.marked(models, text)) == text


def test_the_cost_is_told_before(models):
    said = {name: engine.cost_sentence(models, name) for name in engine.methods(models)}
    assert {"learned", "paper", "official_code"} <= said.keys() and engine.SAID.keys() == METHODS.keys()
    costs = [engine.cost(models, name).evaluations for name in said]
    assert costs == sorted(costs)  # the quickest is offered first
    assert said["learned"].startswith("288 denoiser evaluations, about ")
    assert said["paper"].startswith("At most ")


@pytest.mark.parametrize("batch", [1, 18])
def test_a_loss_that_hangs_on_all_edits_is_told_when_all_are_made(models, scene_picture, batch, monkeypatch):
    monkeypatch.setattr(models.editor, "batch", batch)
    found = all_of(models, scene_picture, QUICK.but(standardise_terms=True))
    edits, result = [stage for stage in found if isinstance(stage, Edited)], found[-1].result
    assert len(edits) > 2
    assert [one.loss is None for one in edits] == [batch == 1] * (len(edits) - 1) + [False]
    final = engine.judged(edits, result)
    best = min(final, key=lambda one: one.loss)
    assert best.loss == pytest.approx(float(result.loss[~result.loss.isnan()].min()), abs=1e-5)
    assert [one.box for one in final] == [one.box for one in edits] and all(
        one.loss == pytest.approx(told.loss, abs=1e-5) for one, told in zip(final, edits, strict=True) if told.loss is not None)
    assert drawing.title_of(edits[0]) == ("1" if batch == 1 else f"1: loss {edits[0].loss:.2f}")
    assert drawing.title_of(final[0]) == f"1: loss {final[0].loss:.2f}"
