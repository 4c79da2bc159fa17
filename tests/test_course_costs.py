"""What is said of costs before anything runs is what goes through the denoisers; and it is small.

The notebooks themselves are run and counted in test_other_profile.py.
"""

import ast
import re
from dataclasses import replace

import pytest
import torch

from lr_helpers import METHODS, edit
from lr_helpers.authoring import notebooks
from lr_helpers.baselines import Parts, Request, load_baseline
from lr_helpers.costs import course, random_weights
from lr_helpers.costs.evaluations import T4, candidates_of, duration, full_edits, row, search, speed
from lr_helpers.files.pictures import to_tensor
from lr_helpers.models.profiles import PROFILES, get_profile

SOURCES = sorted(notebooks.FOLDER.glob(notebooks.PATTERN + ".py"))


def cell(source, tag: str) -> str:
    (found,) = (c.source for c in notebooks.read_script(source).cells if tag in c.metadata.get("tags", []))
    return found


def test_every_notebook_is_counted():
    assert [source.stem[:2] for source in SOURCES] == list(course.NOTEBOOKS)


@pytest.mark.parametrize("source", SOURCES, ids=lambda s: s.stem)
def test_a_notebook_says_its_costs_with_its_own_parameters(source):
    number, names = source.stem[:2], {}
    for line in ast.parse(cell(source, "parameters")).body:
        if isinstance(line, ast.Assign) and isinstance(line.value, ast.Constant):
            names[line.targets[0].id] = line.value.value
    wanted = course.defaults(number)
    assert {name: names[name] for name in wanted} == wanted
    said = "".join(f", {name}={name}" for name in wanted)
    assert cell(source, "costs").splitlines()[-1] == f'course.say("{number}", profile{said})'
    # Before anything that takes time: only the set-up and the parameters come first.
    tags = [c.metadata.get("tags", []) for c in notebooks.read_script(source).cells if c.cell_type == "code"]
    assert tags[:3] == [["setup"], ["parameters"], ["costs"]]


@pytest.mark.parametrize("name", [name for name, profile in PROFILES.items() if profile.solver])
def test_the_course_is_small_on_real_profiles(name):
    each = {number: course.cost(number, name).evaluations for number in course.NOTEBOOKS}
    assert max(each.values()) <= 3000
    assert sum(each.values()) <= 15000
    assert search(get_profile(name)).evaluations <= 250


def test_hand_computed_costs():
    sd2 = get_profile("sd2")
    assert full_edits(sd2) == 40
    assert full_edits(sd2, 3, 4) == 24
    assert full_edits(sd2, guidance=1.0) == 20
    assert search(sd2).evaluations == 12 * 16 + 40
    assert not search(sd2).at_most
    assert search(sd2, METHODS["learned"].but(steps=50)).evaluations == 12 * 16 + 100
    assert search(sd2, METHODS["learned"].but(screening_steps=20)).evaluations == 12 * 40
    assert search(get_profile("tiny")).evaluations == 288
    assert candidates_of(METHODS["paper"]) == (63, True)
    assert candidates_of(METHODS["official_code"].but(iterations=2)) == (27, True)
    assert candidates_of(METHODS["learned"].but(estimator="reinforce", iterations=1, anchors=2)) == (10, True)
    assert course.cost("06", "sd2").evaluations == 2 * 232 + (63 * 16 + 40) + (54 * 16 + 40) + 2 * 15 * 16
    assert course.cost("01", "tiny", scenes=0).evaluations < course.cost("01", "tiny").evaluations
    assert course.cost("A1", "sd2", count=100) == course.cost("A1", "sd2", count=5)  # so many photographs are shipped


@pytest.fixture(scope="module")
def small():
    """Stable Diffusion 2's classes at reduced width; three steps an edit, two a candidate."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        models = random_weights.models("sd2", reduced=True)
    models.profile = replace(models.profile, steps=3, screening_steps=2)
    models.editor.steps, models.editor.screening_steps = 3, 2
    return models


@pytest.mark.parametrize("method", [
    METHODS["learned"], METHODS["learned"].but(estimator="none", iterations=10), METHODS["learned"].but(steps=2),
    METHODS["learned"].but(guidance=1.0, shortlist=3), METHODS["paper"].but(anchors=3, iterations=4),
    METHODS["official_code"].but(anchors=3), METHODS["learned"].but(estimator="reinforce", iterations=2)],
    ids=["learned", "none", "steps", "guidance", "paper", "official", "reinforce"])
def test_a_search_costs_what_was_said(small, scene_picture, method):
    count, unet = [0], small.editor.pipeline.unet
    handle = unet.register_forward_hook(lambda module, given, made: count.__setitem__(0, count[0] + len(made[0])))
    edit(small, scene_picture, "wolf", "a rabbit", method, progress=False)
    handle.remove()
    said = search(small.profile, method)
    assert count[0] == said.evaluations or (said.at_most and 0.3 * said.evaluations < count[0] < said.evaluations)


@pytest.mark.parametrize("name", course.ROWS_09)
def test_a_row_of_the_comparison_costs_what_was_said(models, scene_picture, name):
    profile = replace(models.profile, steps=5)
    some = replace(models, profile=profile)
    baseline = load_baseline(name, profile, some, parts=Parts(profile, some), steps=5)
    made = baseline.run(Request(to_tensor(scene_picture), "wolf", "a rabbit", 1, known=(8, 8, 41, 40)))
    said = row(profile, name, 5)
    assert made.evaluations == said.evaluations or (said.at_most and 0.6 * said.evaluations < made.evaluations < said.evaluations)


# How long


def test_what_is_assumed_is_marked():
    sd2 = get_profile("sd2")
    assert course.sentence("02", sd2, T4) == ("Notebook 02 with the profile sd2: 80 denoiser evaluations, about 10 seconds on a "
                                              "Tesla T4 (assumed: 0.12 s each).")
    assert course.sentence("08", sd2, T4) == "Notebook 08 with the profile sd2: no denoiser evaluations."
    assert course.sentence("02", sd2, "NVIDIA X9") == (
        "Notebook 02 with the profile sd2: 80 denoiser evaluations, for how long on NVIDIA X9 is not known; about 10 seconds on "
        "a Tesla T4 (assumed: 0.12 s each).")
    here = course.sentence("06", sd2, None)
    assert re.search(r"at most 2,896 denoiser evaluations, about 10\.1 hours on CPU \(.*\) \(measured: 13 s each\)", here)
    assert "And at most" in course.sentence("10", sd2, T4)
    tiny = course.sentence("02", get_profile("tiny"), None)
    assert tiny == ("Notebook 02 with the profile tiny: 48 denoiser evaluations, about 1 second on two quiet CPU cores, learning "
                    "included (measured: 0.009 s each).")


@pytest.mark.parametrize(("seconds", "said"), [(0.2, "1 second"), (1.2, "1 second"), (2, "2 seconds"), (89, "89 seconds"),
                                               (90, "2 minutes"), (3000, "50 minutes"), (7200, "2.0 hours")])
def test_durations(seconds, said):
    assert duration(seconds) == said


def test_the_stored_work_of_an_evaluation_is_that_of_the_architecture():
    sd2, amused = (random_weights.teraflop(name) for name in ("sd2", "amused"))
    assert amused / sd2 * 0.12 == pytest.approx(speed(get_profile("amused"), T4).seconds, abs=0.001)


def test_the_command_prints_the_table(capsys):
    course.main([])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "| notebook | `tiny` | `sd2` | `sd15` | `sd15_lcm` | `sdxl` | `amused` | `zimage` |"
    assert len(lines) == 2 + 12 + 5  # all, one edit by each of three methods, all in time
    assert len({line.count("|") for line in lines}) == 1
    assert "assumed" in lines[-1]
