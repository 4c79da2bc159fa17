"""Every exercise: the right solution passes, every typical mistake is refused and gets its own hint."""

import importlib
import json

import pytest
import torch

from lr_helpers import checks
from lr_helpers.authoring import notebooks
from lr_helpers.authoring.exercises import STUB, exercise_version, stub
from lr_helpers.checks.exercise import CheckFailed, Exercise, describe, difference
from lr_helpers.errors import UserError

ALL = [pytest.param(exercise, id=name) for name, exercise in checks.ALL.items()]
MISTAKES = [pytest.param(exercise, hint, wrong, id=f"{name}: {hint[:50]}")
            for name, exercise in checks.ALL.items() for hint, wrong in exercise.mistakes.items()]


@pytest.mark.parametrize("exercise", ALL)
def test_the_right_solution_passes(exercise, capsys):
    exercise(exercise.reference)
    assert capsys.readouterr().out.startswith(f"✓ {exercise.name}: right in all")


@pytest.mark.parametrize(("exercise", "hint", "wrong"), MISTAKES)
def test_a_typical_mistake_is_refused_with_its_hint(exercise, hint, wrong):
    with pytest.raises(CheckFailed) as told:
        exercise(wrong)
    assert f"hint      {hint}" in str(told.value)
    # A hint that fits several mistakes would lead astray.
    assert str(told.value).count("hint  ") == 1


@pytest.mark.parametrize("exercise", ALL)
def test_an_exercise_is_worth_its_name(exercise):
    assert len(exercise.mistakes) >= 3
    assert len(exercise.cases()) >= 3
    first, again = exercise.cases(), exercise.cases()
    tensors = [(a, b) for x, y in zip(first, again, strict=True) for a, b in zip(x, y, strict=True)
               if isinstance(a, torch.Tensor)]
    assert all(torch.equal(a, b) for a, b in tensors)


@pytest.mark.parametrize("exercise", ALL)
def test_stubs_and_crashes_are_told(exercise):
    class Stub:
        def __init__(self, *a, **k):
            raise NotImplementedError

        def __call__(self, *a, **k):
            raise NotImplementedError

    def crash(*a, **k):
        raise ValueError("shapes (3,) and (4,)")

    with pytest.raises(CheckFailed, match="is still a stub"):
        exercise(Stub if isinstance(exercise.reference, type) else lambda *a, **k: Stub())
    with pytest.raises(CheckFailed, match=r"raised ValueError: shapes \(3,\)"):
        exercise(crash)


@pytest.mark.parametrize("notebook", ["inpainting", "anchors", "regions", "losses", "learning"])
def test_every_notebook_has_at_least_four_exercises(notebook):
    module = importlib.import_module(f"lr_helpers.checks.{notebook}")
    assert sum(isinstance(v, Exercise) for v in vars(module).values()) >= 4


def test_every_exercise_is_set_and_checked_in_a_notebook():
    sources = "".join(p.read_text(encoding="utf-8") for p in notebooks.FOLDER.glob(notebooks.PATTERN + ".py"))
    assert [name for name in checks.ALL if f"checks.{name}(" not in sources] == []


# What the learner is told


ADD = Exercise("add", lambda a, b: a + b, lambda: [(torch.ones(2), 1.0), (torch.arange(3.0), 2.0), (torch.ones(1), 0.0)],
               {"the sign is wrong": lambda a, b: a - b, "b is added twice": lambda a, b: a + 2 * b,
                "b is forgotten": lambda a, b: a})


def test_the_message_says_given_expected_came_and_hint():
    with pytest.raises(CheckFailed) as told:
        ADD(lambda a, b: a - b)
    lines = str(told.value).splitlines()
    assert lines[0] == "✗ add: case 1 of 3 is not right yet"
    assert lines[1:3] == ["  given     a = float32 tensor (2,) [1.0, 1.0]", "  given     b = 1.0"]
    assert lines[3] == "  expected  float32 tensor (2,) [2.0, 2.0]"
    assert lines[4] == "  came      float32 tensor (2,) [0.0, 0.0]"
    assert "first at [0]: 2 expected, 0 came" in lines[5]
    assert lines[6:] == ["  hint      the sign is wrong"]
    assert told.value._render_traceback_() == [str(told.value)]


def test_a_mistake_of_the_learners_own_gets_no_wrong_hint():
    with pytest.raises(CheckFailed) as told:
        ADD(lambda a, b: a * 7 + b)
    assert "hint" not in str(told.value)


def test_changing_the_input_in_place_is_refused():
    with pytest.raises(CheckFailed, match="changed its input in place"):
        ADD(lambda a, b: a.add_(b))


@pytest.mark.parametrize(("came", "expected", "said"), [
    (None, torch.ones(2), "nothing was returned"),
    ([1.0], torch.ones(1), "a tensor was expected, not a list"),
    (torch.ones(2, 3), torch.ones(3, 2), r"shape should be \(3, 2\), not \(2, 3\)"),
    (torch.ones(2), torch.ones(2, dtype=torch.int64), "should be whole-number, not floating-point"),
    (torch.tensor([1.0, float("nan")]), torch.ones(2), "1 of 2 values differ"),
    (1.2, 1.0, "1 was expected, 1.2 came"),
    (True, 1.0, "a number was expected, not a bool"),
    ({"a": 1}, {"a": 1, "b": 2}, "keys a, b"),
    ({"a": 1, "b": 3}, {"a": 1, "b": 2}, "b: 2 was expected"),
    ((1, 2), (1, 2, 3), "3 values"),
    ("left", "right", "'right' was expected"),
])
def test_differences_are_named(came, expected, said):
    import re

    assert re.search(said, difference(came, expected, 1e-5))


def test_what_is_the_same_is_no_difference():
    value = {"a": torch.tensor([1.0, float("inf")]), "b": [True, "x", 3], "c": 0.5}
    again = {"a": torch.tensor([1.0 + 1e-7, float("inf")]), "b": [True, "x", torch.tensor(3)], "c": torch.tensor(0.5)}
    assert difference(again, value, 1e-5) is None


def test_large_tensors_are_described_in_a_line():
    assert describe(torch.zeros(20, 20)) == "float32 tensor (20, 20), 0 … 0, mean 0"


def test_the_counting_exercise_agrees_with_the_editors_counter(models, scene_picture):
    from lr_helpers.files.pictures import to_tensor

    picture = to_tensor(scene_picture)
    for guidance in (1.0, 2.5):
        before = models.editor.evaluations
        models.editor.edit(picture, [(8, 8, 30, 30), (20, 20, 60, 60)], "an apple", seed=0, steps=2, guidance=guidance)
        expected = checks.count_evaluations.reference(2, 2, guidance)
        assert models.editor.evaluations - before == expected


# Exercise notebooks


def test_stubs_keep_signature_and_docstring_only():
    source = 'import torch\n\n\ndef f(a: int,\n      b: int) -> int:\n    """What it\n    does."""\n    c = a\n    return c + b'
    short = stub(source)
    assert short == ('import torch\n\n\ndef f(a: int,\n      b: int) -> int:\n    """What it\n    does."""\n    ' + STUB)
    with pytest.raises(NotImplementedError):
        scope = {}
        exec(short, scope)
        scope["f"](1, 2)


def test_stubs_of_a_class_keep_its_methods():
    source = 'class N:\n    """Doc."""\n\n    def __init__(self, a):\n        self.a = a\n\n    def g(self):\n        """G."""\n        return self.a'
    assert stub(source).count(STUB) == 2
    assert "self.a" not in stub(source)


@pytest.mark.parametrize(("source", "said"), [("x = 1", "defines no function"), ("def f():\n    return 1", "no docstring")])
def test_a_cell_that_can_not_become_an_exercise_is_refused(source, said):
    with pytest.raises(UserError, match=said):
        stub(source)


EXERCISES = sorted((notebooks.FOLDER / "exercises").glob("*.ipynb"))


@pytest.mark.parametrize("file", EXERCISES, ids=lambda f: f.stem)
def test_exercise_notebooks_hold_stubs_and_no_solution(file):
    cells = json.loads(file.read_text(encoding="utf-8"))["cells"]
    code = ["".join(c["source"]) for c in cells if c["cell_type"] == "code"]
    solved = notebooks.read_script(notebooks.FOLDER / f"{file.stem}.py")
    solutions = [c for c in solved.cells if "solution" in c.metadata.get("tags", [])]
    assert len(solutions) >= (2 if file.stem[:2] in ("08", "09", "10") else 4)  # these read results more than they write code
    assert sum(STUB in c for c in code) == len(solutions)
    assert all(not c.get("outputs") for c in cells)
    for solution in solutions:
        assert solution.source not in code
    assert exercise_version(solved, file.stem) is not None


def test_links_in_exercise_notebooks_lead_somewhere():
    import re

    for file in EXERCISES:
        text = "".join("".join(c["source"]) for c in json.loads(file.read_text(encoding="utf-8"))["cells"]
                       if c["cell_type"] == "markdown")
        for target in re.findall(r"\]\((?!\w+:|#)([^)#]+)\)", text):
            assert (file.parent / target).exists(), f"{file.name} links to {target}"
