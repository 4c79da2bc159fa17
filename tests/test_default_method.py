"""Which preset is taken where none is named: by the command line, and by a batch for each of its entries."""

import json

import pytest

from lr_helpers.batch.items import plan
from lr_helpers.cli import main, parser
from lr_helpers.cli.options import SETTINGS, chosen_method, chosen_profile
from lr_helpers.editing import EditResult
from lr_helpers.errors import UserError
from lr_helpers.files.paths import DATA
from lr_helpers.method import METHODS, OF_THE_EDIT, default_method
from lr_helpers.models.profiles import PROFILES

WORDS = ["edit", "--image", "x.png", "--source", "wolf", "--prompt", "a mushroom", "--output", "out"]
SHIPPED = str(DATA / "regions" / "tiny.safetensors")


def chosen(*words):
    """The method that `edit` would take."""
    options = parser().parse_args([*WORDS, *words])
    return chosen_method(options, chosen_profile(options))[1]


@pytest.mark.parametrize("words, name, changes", [
    ((), "predicted", {}),
    (("--steps", "6"), "predicted", {"steps": 6}),
    (("--guidance", "3"), "predicted", {"guidance": 3.0}),
    (("--seed", "7", "--full-frame"), "predicted", {}),
    (("--anchors", "16"), "learned", {"anchors": 16}),
    (("--steps", "6", "--iterations", "10"), "learned", {"steps": 6, "iterations": 10}),
    (("--method", "predicted", "--anchors", "16"), "predicted", {"anchors": 16}),
    (("--method", "learned"), "learned", {}),
    (("--profile", "sd2"), "learned", {}),  # no network is shipped for it
    (("--profile", "sd2", "--regions", SHIPPED), "predicted", {}),
    (("--clip", "some/clip"), "learned", {}),  # the shipped one was trained on another CLIP
    (("--backbone", "some/vit"), "learned", {}),
    (("--clip", "some/clip", "--regions", SHIPPED), "predicted", {}),
    (("--editor", "some/editor"), "predicted", {}),  # it is told by the losses of edits, and reads no editor
    (("--regions", "nothing/there"), "predicted", {}),  # it is meant, and that it is missing is said
    (("--regions", SHIPPED, "--anchors", "16"), "predicted", {"anchors": 16}),
])
def test_the_command_predicts_where_it_can_and_searches_where_a_search_is_set(words, name, changes):
    assert chosen(*words) == METHODS[name].but(**changes)


def test_a_network_that_is_named_and_missing_is_told(scene_file, tmp_path, capsys):
    assert main([*WORDS, "--output", str(tmp_path / "out"), "--image", str(scene_file), "--regions", str(tmp_path / "none")]) == 2
    said = capsys.readouterr().err
    assert "There is no region predictor" in said and "is missing" in said and said.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_an_objective_is_a_setting_of_the_search():
    assert chosen("--objective", "learned") == METHODS["learned"].aiming("learned")


def test_every_option_is_of_the_edit_or_asks_for_a_search():
    assert set(OF_THE_EDIT) <= set(SETTINGS)
    for setting in SETTINGS:
        assert default_method(True, [setting]) == ("predicted" if setting in OF_THE_EDIT else "learned")
        assert default_method(False, [setting]) == "learned"
    assert default_method(True) == "predicted" and default_method(False) == "learned"


def test_a_profile_predicts_where_a_network_is_shipped_or_given():
    shipped = {name for name, profile in PROFILES.items() if profile.predicts}
    assert shipped == {file.stem for file in (DATA / "regions").glob("*.safetensors")} == {"tiny"}
    assert PROFILES["sd2"].but(regions=SHIPPED).predicts and not PROFILES["tiny"].but(regions="nothing/there").predicts


# A batch


@pytest.fixture
def batch(tmp_path, scene_file):
    """Entry by entry, the method that a batch would take."""
    def methods(entries, **arguments):
        file = tmp_path / "batch.json"
        file.write_text(json.dumps([{"image": scene_file.name, "source": "wolf", "prompt": "a fox", "name": str(i), **entry}
                                    for i, entry in enumerate(entries)]))
        found = plan(file, scene_file.parent, tmp_path / "out", **arguments)
        return [item.method for item in found.items], [problem.message for problem in found.problems]

    return methods


def test_each_entry_of_a_batch_has_its_own(batch):
    entries = [{}, {"settings": {"steps": 6}}, {"settings": {"anchors": 16}}, {"settings": {"anchors": None}},
               {"method": "fast", "settings": {"anchors": 16}}, {"method": "paper"}]
    searching, predicting = METHODS["learned"], METHODS["predicted"]
    named = [METHODS["fast"].but(anchors=16), METHODS["paper"]]
    assert batch(entries, method=None, predicts=True) == (
        [predicting, predicting.but(steps=6), searching.but(anchors=16), predicting, *named], [])
    assert batch(entries, method=None)[0] == [
        searching, searching.but(steps=6), searching.but(anchors=16), searching, *named]
    # A setting of the whole batch counts for each.
    changes = {"iterations": 10}
    assert batch([{}], method=None, predicts=True, changes=changes)[0] == [searching.but(**changes)]
    # From Python the default is the search, as it is of `edit`.
    assert batch([{}], predicts=True)[0] == [searching]


def test_no_method_is_none_but_one_that_is_not_said(batch):
    for wrong in (None, "", 3, ["predicted"]):
        methods, problems = batch([{"method": wrong}], method=None, predicts=True)
        assert not methods and len(problems) == 1 and "method" in problems[0]
    for wrong in ("nobody", ""):
        with pytest.raises(UserError, match="is unknown"):
            batch([{}], method=wrong)


# For real


def test_a_plain_edit_and_a_plain_batch_take_one_edit_each(scene_file, tmp_path, capsys):
    assert main(["edit", "--image", str(scene_file), "--source", "wolf", "--prompt", "a mushroom", "--steps", "2",
                 "--output", str(tmp_path / "a")]) == 0
    assert "The method is predicted, the default here" in capsys.readouterr().out
    (tmp_path / "b.json").write_text(json.dumps({scene_file.name: ["wolf", "a mushroom"]}))
    assert main(["batch", str(tmp_path / "b.json"), "--images", str(scene_file.parent), "--steps", "2", "--quiet",
                 "--output", str(tmp_path / "b")]) == 0
    one, other = EditResult.load(tmp_path / "a"), EditResult.load(tmp_path / "b" / scene_file.stem)
    for result in (one, other):
        assert result.method == METHODS["predicted"].but(steps=2) and result.cost["denoiser_evaluations"] == 4
        assert 0 < result.confidence <= 1
    assert one.box == other.box
    # A network that is named is asked, by both, whatever else is set.
    given = ["--regions", SHIPPED, "--anchors", "6", "--steps", "1", "--quiet"]
    assert main(["edit", "--image", str(scene_file), "--source", "wolf", "--prompt", "a mushroom", *given,
                 "--output", str(tmp_path / "c")]) == 0
    assert main(["batch", str(tmp_path / "b.json"), "--images", str(scene_file.parent), *given, "--output", str(tmp_path / "d")]) == 0
    for folder in ("c", f"d/{scene_file.stem}"):
        assert EditResult.load(tmp_path / folder).method == METHODS["predicted"].but(anchors=6, steps=1)
