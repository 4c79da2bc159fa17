"""Students' answers, wrong and right, that the checks were not written from: see tests/mutations."""

import time

import pytest
from mutations import RIGHT, WRONG
from mutations.judging import message_of, names_the_slip

from lr_helpers import checks

SHARE = 0.95
"""Of the wrong answers at least so many have to be told their slip."""


def test_every_exercise_has_answers_of_both_kinds():
    assert set(WRONG) == set(RIGHT) == set(checks.ALL)
    assert [name for name, answers in WRONG.items() if len(answers) < 5] == []
    assert [name for name, answers in RIGHT.items() if len(answers) < 2] == []
    for answers in WRONG.values():
        assert len({what for what, _, _ in answers}) == len(answers)


@pytest.fixture(scope="module")
def told():
    """(exercise, what is wrong) → (what the check says, the words it has to hold, seconds)."""
    found = {}
    for name, answers in WRONG.items():
        for what, words, function in answers:
            began = time.process_time()
            found[name, what] = message_of(checks.ALL[name], function), words, time.process_time() - began
    return found


def test_every_wrong_answer_is_refused(told):
    assert [of for of, (said, _, _) in told.items() if said is None] == []


def test_nearly_every_wrong_answer_is_told_its_slip(told):
    unnamed = [of for of, (said, words, _) in told.items() if said is None or not names_the_slip(said, words)]
    assert len(unnamed) <= (1 - SHARE) * len(told), unnamed


def test_no_check_keeps_a_learner_waiting(told):
    assert {of: seconds for of, (_, _, seconds) in told.items() if seconds > 2} == {}


@pytest.mark.parametrize("name", RIGHT)
def test_right_answers_of_any_style_are_accepted(name):
    assert {what: said for what, function in RIGHT[name] if (said := message_of(checks.ALL[name], function))} == {}
