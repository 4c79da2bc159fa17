"""No weight of a method depends on the scale of the CLIP that judges: centred texts, standardised terms."""

import copy

import pytest
import torch

from lr_helpers import METHODS, UserError
from lr_helpers.boxes import iou
from lr_helpers.candidates import TERMS, Candidates, occlusion_table, patches_table
from lr_helpers.editing import propose, search
from lr_helpers.files.paths import DATA
from lr_helpers.losses import clip_loss, direction_loss, source_loss, standardised
from lr_helpers.models.profiles import PROFILES
from lr_helpers.study import gaps
from lr_helpers.study.gaps import with_gap
from lr_helpers.study.regions import COMPARING, run_task
from lr_helpers.study.tasks import VALIDATION, task
from tiny_world import judge
from tiny_world.words import GROUND, NAMES, PLACES, with_article

FREE = METHODS["learned"].but(steps=1, iterations=5)
RAW = METHODS["learned"].but(**gaps.RAW)
BOXES = torch.tensor([[[8, 8, 24, 24], [4, 4, 36, 36]], [[8, 8, 24, 24], [30, 30, 60, 60]]])


def table(models, method, one, boxes=BOXES):
    return Candidates(models, one.picture, one.source, one.prompt, boxes, method, seed=3)


# One term


def test_standardised_values_know_no_scale():
    values = torch.tensor([[1.0, 2.0], [3.0, float("nan")]])
    found = standardised(values)
    assert torch.allclose(found[0], torch.tensor([-1.2247, 0.0]), atol=1e-3) and found[1, 1].isnan()
    assert torch.allclose(standardised(100 * values - 7), found, atol=1e-4, equal_nan=True)
    assert torch.allclose(standardised(values, torch.tensor([2.0, 4.0])), values - 3, atol=1e-4, equal_nan=True)
    assert standardised(torch.full((3,), 0.4)).tolist() == [0, 0, 0]
    rows = torch.tensor([[1.0, 3.0], [10.0, 30.0]])
    assert torch.allclose(standardised(rows, dim=1), torch.tensor([[-1.0, 1.0]] * 2), atol=1e-4)
    nothing = torch.full((2,), float("nan"))
    assert standardised(nothing).isnan().all()


def test_every_profile_has_neutral_texts_and_says_where_they_are_missing(models, tmp_path, monkeypatch):
    assert {p.neutral_texts.name for p in PROFILES.values()} == {"neutral_texts.txt"}
    for profile in PROFILES.values():
        lines = profile.neutral_texts.read_text(encoding="utf-8").splitlines()
        assert len(set(lines)) == len(lines) >= 50
    tiny = PROFILES["tiny"].neutral_texts.read_text(encoding="utf-8").splitlines()
    assert not any(models.warnings_for(line) for line in tiny)
    # Half of them are things, half grounds: with things alone what is left of a text no longer says that it is one.
    things = {with_article(name) for name in NAMES}
    assert things < set(tiny) and len(tiny) == 2 * len(things)
    assert all(any(place in line for place in (*PLACES, GROUND)) for line in set(tiny) - things)
    assert torch.allclose(models.neutral, models.clip.encode_text(tiny).mean(0))
    assert PROFILES["tiny"].but(clip="some/where").neutral_texts == DATA / "neutral_texts.txt"
    other = copy.copy(models)
    other.__dict__.pop("neutral", None)
    other.profile = copy.copy(models.profile)
    object.__setattr__(other.profile, "neutral_texts", tmp_path / "none.txt")
    with pytest.raises(UserError, match=r"none.txt can't be read"):
        other.neutral  # noqa: B018
    (tmp_path / "none.txt").write_text("\n")
    with pytest.raises(UserError, match="give names of things"):
        other.neutral  # noqa: B018


# The table


def test_terms_compare_with_centred_texts_and_the_score_does_not(models):
    one = task("replace", VALIDATION)
    plain, centred = (table(models, METHODS["paper"].but(steps=1, source_weight=1.0, centre_texts=c), one) for c in (False, True))
    for found in (plain, centred):
        found.losses(None)
    prompt, source = models.clip.encode_text([one.prompt, one.source])
    with torch.no_grad():
        seen = models.clip.encode_image(centred.edits[0, 1][None])[0]
        image = models.clip.encode_image(one.picture[None])[0][0]
    assert torch.allclose(centred.terms["clip"][0, 1], clip_loss(seen, prompt - models.neutral)[0], atol=1e-5)
    assert torch.allclose(centred.terms["source"][0, 1], source_loss(seen, source - models.neutral)[0], atol=1e-5)
    assert torch.allclose(plain.terms["clip"][0, 1], clip_loss(seen, prompt)[0], atol=1e-5)
    # A difference of two texts has nothing in common with them all.
    assert torch.allclose(centred.terms["direction"], plain.terms["direction"], atol=1e-5)
    assert torch.allclose(centred.terms["direction"][0, 1], direction_loss(seen, image, source, prompt)[0], atol=1e-5)
    assert torch.equal(centred.score, plain.score)


def test_the_loss_is_the_weighted_sum_of_deviations_over_different_edits(models):
    one = task("replace", VALIDATION + 2)
    method = METHODS["paper"].but(steps=1, standardise_terms=True, area_weight=2.0, clip_weight=0.5)
    found = table(models, method, one)
    loss = found.losses(None)
    assert found.made == 3  # two entries are one box
    total = 2.0 * found.terms["area"]
    for name, weight in (("clip", 0.5), ("structure", 1.0), ("direction", 1.0)):
        values = found.terms[name]
        each = torch.stack([values[0, 0], values[0, 1], values[1, 1]])
        total = total + weight * (values - each.mean()) / each.std(correction=0)
    assert torch.allclose(loss, total, atol=1e-3)
    assert loss[0, 0] == loss[1, 0]


def test_deviations_need_the_whole_shortlist_so_it_is_edited(models):
    one = task("replace", VALIDATION + 2)
    lazy, whole = (table(models, METHODS["paper"].but(steps=1, standardise_terms=s), one) for s in (False, True))
    assert lazy.losses(torch.tensor([0, 0])).shape == whole.losses(torch.tensor([0, 0])).shape == (2,)
    assert (lazy.made, whole.made) == (1, 3)
    assert torch.allclose(whole.losses(torch.tensor([1, 1])), whole.losses(None)[:, 1])


def test_methods_that_compute_terms_in_another_way_share_no_table(models):
    found = table(models, METHODS["paper"].but(steps=1), task("replace", VALIDATION))
    for setting in ("centre_texts", "standardise_terms"):
        with pytest.raises(ValueError, match=setting):
            found.under(METHODS["paper"].but(**{setting: True}))


# Another CLIP


def test_a_gap_is_a_gap(models):
    """What is simulated is what large CLIPs have: cos(picture, text) near .2, texts alike."""
    words = ["a fox", "a burger", "a tulip", "a car"]
    alike, off = {}, ~torch.eye(4, dtype=torch.bool)
    for name, other in (("plain", models), ("moved", with_gap(models, 1.2, 1.73))):
        texts = other.clip.encode_text(words)
        assert torch.allclose(texts.norm(dim=1), torch.ones(4), atol=1e-5)
        alike[name] = (texts @ texts.T)[off]
    # Length 1 and a move by 1.73 at a right angle leave a quarter of what was; the direction is hardly ever at one.
    assert torch.allclose(alike["moved"], 0.75 + 0.25 * alike["plain"], atol=0.12)
    assert alike["moved"].mean() > alike["plain"].mean()


def likeness(a, b):
    """The correlation of two tables."""
    return float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1])


@pytest.mark.parametrize("seed", range(VALIDATION, VALIDATION + 3))
def test_every_term_outlives_a_gap_and_none_that_names_a_text_does_so_uncentred(models, seed):
    """Over one picture's shortlist, edited in a step. Measured on four scenes and five gaps: centred at least 0.991."""
    one = task("replace", seed)
    found = propose(models, one.picture, one.source, FREE)
    boxes = found.boxes[found.kept][:, None]
    for pictures, texts in ((1.2, 1.73), (2.0, 1.73), (0.0, 3.0)):
        other = with_gap(models, pictures, texts)
        for centred in (True, False):
            here, there = (table(m, FREE.but(centre_texts=centred), one, boxes) for m in (models, other))
            here.losses(None), there.losses(None)
            alike = {term: likeness(here.terms[term], there.terms[term]) for term in TERMS}
            least = set(alike) if centred else set(alike) - set(COMPARING)
            assert min(alike[term] for term in least) > 0.97, (pictures, texts, alike)
            if texts == 3.0 and not centred:
                assert max(alike[term] for term in COMPARING) < 0.99, alike


@pytest.mark.parametrize("pictures, texts", [
    pytest.param(1.2, 1.73, marks=pytest.mark.all), pytest.param(2.0, 1.73, marks=pytest.mark.all),
    pytest.param(0.0, 3.0, marks=pytest.mark.all)])
def test_the_boxes_order_outlives_a_gap_between_pictures_and_texts(models, pictures, texts):
    """Of eight scenes the box that is chosen without an edit: with our terms hardly any changes, with raw ones many."""
    other = with_gap(models, pictures, texts)
    changed = {}
    for name, method in (("raw", RAW), ("scale-free", FREE)):
        moved = 0
        for seed in range(VALIDATION, VALIDATION + 8):
            one = task("replace", seed)
            first, second = (propose(m, one.picture, one.source, method.but(shortlist=1)) for m in (models, other))
            a, b = (found.boxes[found.kept][0] for found in (first, second))
            moved += float(iou(a.float(), b.float())) < 0.5
        changed[name] = moved
    assert changed["scale-free"] <= 1
    if texts and pictures:
        assert changed["raw"] > changed["scale-free"]


def test_edit_free_terms_of_all_boxes_have_mean_0_and_deviation_1(models):
    one = task("replace", VALIDATION)
    found = propose(models, one.picture, one.source, FREE.but(shortlist=0, occlusion_weight=1.0))
    tables = {"patches": patches_table(models, one.picture, one.source, found.boxes, centre=True),
              "occlusion": occlusion_table(models, one.picture, one.source, found.boxes, centre=True)}
    assert found.free.keys() == {*tables, "area"}
    for name, table in tables.items():
        assert abs(float(found.free[name].mean())) < 1e-4
        assert float(found.free[name].std(correction=0)) == pytest.approx(1, abs=1e-3)
        assert torch.allclose(found.free[name], standardised(table), atol=1e-4)


def test_a_search_with_these_terms_works_from_end_to_end(models):
    one = task("replace", VALIDATION)
    done = search(models, one.picture, one.source, one.prompt, FREE.but(shortlist=3), seed=1)
    assert done.candidates.made == 3 and done.candidates.loss[done.proposals.kept].isfinite().all()
    best = done.region.order[0]
    assert float(done.candidates.loss[best, done.region.best[best]]) == pytest.approx(float(done.candidates.loss[done.proposals.kept].min()), abs=1e-5)


@pytest.mark.slow
def test_the_study_runs_both_with_every_gap(models, tmp_path, monkeypatch):
    monkeypatch.setattr(gaps, "GAPS", {"as it is": (0.0, 0.0), "both, apart": (1.2, 1.73)})
    study = gaps.Gaps(tmp_path / "gaps", replace=1, steps=1)
    study.models, study.judge = models, judge.load()
    record = study.do(study.jobs()[0])
    means = gaps.summarise([record])
    assert list(means) == ["learned", "terms as they are"]
    for found in means.values():
        assert list(found) == list(gaps.GAPS) and all(set(gaps.MEASURES) <= set(one) for one in found.values())
    # Nothing is moved by a gap of 0, so this is the search of every other study.
    plain = run_task(task(*study.jobs()[0]), models, study.judge, gaps.VARIANTS, 1)["choices"]
    assert {name: choice["box"] for name, choice in record["found"]["as it is"].items()} == {
        name: choice["box"] for name, choice in plain.items()}
