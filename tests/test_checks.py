"""Every exercise: the right solution passes, every typical mistake is refused and gets its own hint."""

import importlib
import json
from itertools import pairwise

import numpy as np
import pytest
import torch

from lr_helpers import checks
from lr_helpers.authoring import notebooks
from lr_helpers.authoring.exercises import STUB, exercise_version, stub
from lr_helpers.checks.diagnosis import hint_of_error
from lr_helpers.checks.exercise import CheckFailed, Exercise, case, describe, difference, forward_and_gradient
from lr_helpers.errors import UserError
from lr_helpers.method import METHODS

ALL = [pytest.param(exercise, id=name) for name, exercise in checks.ALL.items()]
MISTAKES = [pytest.param(exercise, hint, wrongs if isinstance(wrongs, tuple) else (wrongs,), id=f"{name}: {hint[:50]}")
            for name, exercise in checks.ALL.items() for hint, wrongs in exercise.mistakes.items()]


@pytest.mark.parametrize("exercise", ALL)
def test_the_right_solution_passes(exercise, capsys):
    exercise(exercise.reference)
    assert capsys.readouterr().out.startswith(f"✓ {exercise.name}: right in all")


@pytest.mark.parametrize(("exercise", "hint", "wrongs"), MISTAKES)
def test_a_typical_mistake_is_refused_with_its_hint(exercise, hint, wrongs):
    for wrong in wrongs:
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
    # The first case is a plain one, and some are there for one thing each, or the facts that are observed are.
    assert not getattr(first[0], "about", "")
    assert any(getattr(case, "about", "") for case in first) or exercise.name == "write_whole"
    assert exercise.reminder


def test_a_gradient_is_checked_wherever_the_docstring_promises_one():
    promised = set()  # names of checks
    for script in notebooks.FOLDER.glob(notebooks.PATTERN + ".py"):
        cells = notebooks.read_script(script).cells
        for cell, check in pairwise(cells):
            if "solution" in cell.metadata.get("tags", []) and "radient" in cell.source.partition('"""')[2]:
                promised.add(check.source.partition("checks.")[2].partition("(")[0])
    assert {"expected_loss", "entropy", "gumbel_softmax", "straight_through", "region_mask"} <= promised
    promised -= {"gradient_norms"}  # gradients are its subject
    promised -= {"expected_gradient"}
    checked = {name for name, e in checks.ALL.items() if e.observe is forward_and_gradient}
    assert promised <= checked | {"reinforce_surrogate"}  # of which the gradient alone is compared


def test_no_corner_of_a_proposal_lies_between_two_pixels():
    """Which way a half is rounded is a matter of taste, and of the last bit."""
    for centres, sizes, size in checks.proposals.cases():
        corners = torch.stack([centres[:, None] + sign * torch.tensor(sizes)[None, :, None] * size / 2 for sign in (-1, 1)])
        assert ((corners % 1 - 0.5).abs() > 0.01).all()


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


@pytest.mark.parametrize(("value", "change"), [
    ([3, 1, 2], lambda x: x.sort()), ({"a": 1}, lambda x: x.update(b=2)), ({"a": {"b": [1]}}, lambda x: x["a"]["b"].append(1)),
    (np.ones(3), lambda x: x.__imul__(2)), ({"a": torch.ones(2)}, lambda x: x["a"].neg_()), ({"a": 1, "b": 2}, lambda x: x.pop("a"))])
def test_any_plain_input_is_watched(value, change):
    count = Exercise("count", len, lambda: [(value,)] * 3, {})
    with pytest.raises(CheckFailed, match="changed its input in place"):
        count(lambda x: (change(x), len(value))[1])


def test_inputs_are_named_also_where_facts_are_observed():
    with pytest.raises(CheckFailed) as told:
        checks.region_network(lambda proposals, channels, pool, hidden=32: torch.nn.Conv2d(proposals * channels, proposals, pool))
    given = [line.split(" = ")[0].split()[1:] for line in str(told.value).splitlines() if line.startswith("  given")]
    assert given == [["proposals"], ["channels"], ["pool"], ["anchors"]]


HALVED = Exercise("halved", lambda a: a / 2, lambda: [(torch.arange(1.0, 4),), (torch.ones(3),), case(
    torch.zeros(3), about="zeros stay zeros")], {"that is twice as much": lambda a: a * 2},
    observe=forward_and_gradient, reminder="a / 2")


def said(exercise, function) -> str:
    with pytest.raises(CheckFailed) as told:
        exercise(function)
    return str(told.value)


def test_a_lost_a_wrong_and_a_nan_gradient_are_told_apart():
    HALVED(lambda a: a * 0.5)
    assert "no gradient comes back" in said(HALVED, lambda a: a.detach() / 2)
    assert "from a to the result left the graph" in said(HALVED, lambda a: torch.tensor((a / 2).tolist()))
    assert "the result is right, but not its gradient" in said(HALVED, lambda a: a / 4 + (a / 4).detach() + (a - a.detach()) * a)
    assert "the gradient is NaN" in said(HALVED, lambda a: a / 2 + 0 * torch.where(a == 1, (a - 1).sqrt(), 0.0).detach().mul(0)
                                         + (a - a).sqrt())
    assert "stay in torch" in said(HALVED, lambda a: a.numpy() / 2)
    assert "changed its input in place (a)" in said(HALVED, lambda a: a.div_(2))


def test_hints_go_from_the_surest_to_the_reminder():
    double = Exercise("double", lambda a: 2 * a, lambda: [
        (torch.arange(1.0, 5),), (torch.rand(3, 2, generator=torch.Generator().manual_seed(0)),),
        case(torch.tensor([-1.0, 3.0]), about="numbers may be negative"), case(torch.zeros(0), about="there may be none")],
        {"that is the square": lambda a: a * a}, reminder="two times a")
    assert "hint      that is the square" in said(double, lambda a: a**2)
    assert "hint      numbers may be negative" in said(double, lambda a: 2 * a.abs())
    assert "hint      there may be none" in said(double, lambda a: 2 * a if a.numel() else a[0])
    # Right at the edges or not: in the plain cases it is this mistake.
    assert "hint      that is the square" in said(double, lambda a: a**2 if (a > 0).all() and a.numel() else 2 * a)
    assert "hint      the sign is wrong everywhere" in said(double, lambda a: -2 * a)
    assert "the same call gives another result" in said(double, lambda a: 2 * a + torch.rand(a.shape))
    assert "the same comes out whatever goes in" in said(double, lambda a: torch.tensor([2.0, 4.0, 6.0, 8.0]))
    assert "hint      two times a" in said(double, lambda a: a + a.cos())


@pytest.mark.parametrize(("wrong", "hint"), [
    (lambda a: a.mean(1) * a.shape[1], "sum where a mean"), (lambda a: a.mean(1) / a.shape[1], "mean where a sum"),
    (lambda a: 1 - a.mean(1), "1 minus"), (lambda a: a.mean(1, keepdim=True), "axis of length 1 too many"),
    (lambda a: a.mean(), "axis 0 is gone"), (lambda a: a.mean(1).flip(0), "backwards|another order"),
    (lambda a: a.mean(1) + 1, r"off by \+1"), (lambda a: a.mean(1).log(), "logarithm"), (lambda a: a.mean(1) ** 2, "square"),
    (lambda a: a.mean(1) / 0 * 0, "NaN"), (lambda a: a.mean(1) * 100, "per cent"), (lambda a: a.mean(1) * 1.5, "multiplied by 1.5"),
    (lambda a: a, "axis too many"), (lambda a: a.mean(1).floor(), "cut off"),
])
def test_marks_of_common_slips_are_read_off_the_numbers(wrong, hint):
    import re

    def tables() -> list[tuple]:
        return [(torch.rand(n, m, generator=torch.Generator().manual_seed(n)) * 3,) for n, m in ((3, 7), (4, 2), (6, 5))]

    assert re.search(f"hint      .*({hint})", said(Exercise("means", lambda a: a.mean(1), tables, {}), wrong))


def test_an_exception_is_wanted_where_the_reference_raises():
    def root(a: float) -> float:
        if a < 0:
            raise ValueError("no root")
        return a**0.5

    exercise = Exercise("root", root, lambda: [(4.0,), (2.0,), case(-1.0, about="negative numbers have none: ValueError")], {})
    exercise(lambda a: root(a))
    assert "ValueError should be raised here, and nothing was raised" in said(exercise, lambda a: abs(a) ** 0.5)
    assert "hint      negative numbers" in said(exercise, lambda a: [][0] if a < 0 else a**0.5)
    assert "raised ZeroDivisionError" in said(exercise, lambda a: 1 / 0)


@pytest.mark.parametrize(("came", "expected", "said"), [
    (None, torch.ones(2), "nothing was returned"),
    (["a"], torch.ones(1), "a tensor was expected, not a list"),
    ([[1.0], [1.0, 2.0]], torch.ones(2, 1), "a tensor was expected, not a list"),
    ([1.0, 2.0], torch.ones(1), r"shape should be \(1,\), not \(2,\)"),
    ([1.0, 2.0], torch.ones(2), "1 of 2 values differ"),
    (np.array([1.0, 2.0]), torch.ones(2), "1 of 2 values differ"),
    (torch.rand(2, 3).min(1), torch.ones(2), "values and indices"),
    (1_000_000, 1_000_001, "1000001 was expected, 1000000 came"),
    (np.array([0, 2]), [0, 1], "value 1: 1 was expected"),
    ({0, 1}, [0, 1], "2 values were expected, not a set"),
    (1, True, "True was expected"),
    (torch.ones(2, 3), torch.ones(3, 2), r"shape should be \(3, 2\), not \(2, 3\)"),
    (torch.ones(2), torch.ones(2, dtype=torch.int64), "should be whole-number, not floating-point"),
    (torch.tensor([1.0, float("nan")]), torch.ones(2), "1 of 2 values differ"),
    (1.2, 1.0, "1 was expected, 1.2 came"),
    (True, 1.0, "a number was expected, not a bool"),
    ({"a": 1}, {"a": 1, "b": 2}, "missing in the dict: b"),
    ({"a": 1, "c": 2}, {"a": 1}, "not asked for in the dict: c"),
    ([1], {"a": 1, "b": 2}, "a dict with the keys a, b was expected"),
    ({"a": None}, {"a": 0.0}, "a: 0.0 was expected, None came"),
    ([2, None], [2, 3], "value 1: 3 was expected, None came"),
    ({"all is well": False}, {"all is well": True}, "this should hold: all is well"),
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


@pytest.mark.parametrize(("came", "expected"), [
    ([[1, 2], [3, 4]], torch.tensor([[1, 2], [3, 4]])), (np.array([[True, False]]), torch.tensor([[True, False]])),
    ([torch.tensor(1.0), torch.tensor(2.0)], torch.tensor([1.0, 2.0])), (0.5, torch.tensor(0.5)), (np.float32(0.5), 0.5),
    (torch.tensor([0, 2]), [0, 2]), (np.array([0, 2]), [0, 2]), ((0, 2), [0, 2]), ([np.int64(0), np.int64(2)], (0, 2)),
    (torch.tensor([1.0, 2.0], dtype=torch.float64), torch.tensor([1.0, 2.0])), (range(3), [0, 1, 2]), (np.bool_(True), True),
    (torch.tensor([1, 2], dtype=torch.int32), torch.tensor([1, 2])),
])
def test_any_array_type_that_is_right_is_accepted(came, expected):
    assert difference(came, expected, 1e-5) is None


def test_who_returns_another_type_is_told_what_the_cells_below_take(capsys):
    ADD(lambda a, b: (a + b).tolist())
    assert "yours returns a list; the cells below take a tensor: wrap it in torch.as_tensor(…)" in capsys.readouterr().out


def test_also_of_one_thing_in_a_dict(capsys):
    exercise = Exercise("both", lambda a: {"twice": 2 * a, "sum": float(a.sum())}, lambda: [(torch.ones(2),)] * 3, {})
    exercise(lambda a: {"twice": (2 * a).tolist(), "sum": a.sum()})
    assert "(twice: yours returns a list; the cells below take a tensor" in capsys.readouterr().out
    lines = said(exercise, lambda a: {"twice": a, "sum": 0.0}).splitlines()
    assert lines[2:6] == ["  expected  twice: float32 tensor (2,) [2.0, 2.0]", "  came      twice: float32 tensor (2,) [1.0, 1.0]",
                          "  expected  sum: 2.0", "  came      sum: 0.0"]


def test_large_tensors_are_described_in_a_line_and_settings_by_what_is_special():
    assert describe(torch.zeros(20, 20)) == "float32 tensor (20, 20), 0 … 0, mean 0"
    assert describe([torch.ones(2), torch.zeros(20)]) == "[float32 tensor (2,) [1.0, 1.0], float32 tensor (20,), 0 … 0, mean 0]"
    assert describe(METHODS["learned"].but(anchors=3, lr=0.5)) == "`learned`, anchors 3, lr 0.5"


@pytest.mark.parametrize("wrong", [
    lambda a, b: (a > 0).mean() + b, lambda a, b: a.long().std() + b, lambda a, b: (a > 0).softmax(0) + b,
    lambda a, b: a.long().softmax(0) + b, lambda a, b: (a > 0).argmax() + b, lambda a, b: (a > 0).topk(1).values + b,
    lambda a, b: a.long().norm() + b])
def test_a_wrong_dtype_is_no_stub(wrong):
    """Torch raises NotImplementedError for it, too."""
    assert ".float()" in said(ADD, wrong) and "still a stub" not in said(ADD, wrong)


def test_a_crash_that_nobody_knows_does_not_show_the_solution():
    exercise = Exercise("double", lambda a: 2 * a, lambda: [(1.0,)] * 3, {}, reminder="two times a")
    assert "hint      Hint 1 under the stub" in said(exercise, lambda a: {}[a])
    assert "import it" in said(exercise, lambda a: twice(a))  # noqa: F821
    assert "two times a" in said(exercise, lambda a: "two")


def test_a_generator_is_told_apart_from_a_random_result():
    exercise = Exercise("same", list, lambda: [([1, 2],)] * 3, {})
    for made in (lambda items: (i for i in items), iter, lambda items: map(int, items), lambda items: filter(None, items)):
        assert "make a list" in said(exercise, made)
    assert "make a list" in said(HALVED, lambda a: (v / 2 for v in a))


def test_a_default_that_calls_have_filled_is_told():
    exercise = Exercise("same", list, lambda: [([1, 2],), ([3],), ([],)], {})

    def gather(items, found=[]):  # noqa: B006
        found.extend(items)
        return found

    for _ in range(2):  # it is filled already when it is tried again
        assert "the default of `found` is made once" in said(exercise, gather)
    assert "made once" not in said(exercise, lambda items, found=(), more=[1]: [*items, *more])


def test_two_crashes_are_the_same_only_if_they_say_the_same():
    exercise = Exercise("first", lambda a: a[0], lambda: [([1, 2],), ([3],), ([5, 6],)],
                        {"lists begin with 0": lambda a: a[len(a)], "a list has no key": lambda a: a["0"]})
    assert "lists begin with 0" in said(exercise, lambda a: [4][1])
    assert "a list has no key" in said(exercise, lambda a: a["first"])
    assert "Hint 1 under the stub" in said(exercise, lambda a: {}[a[0]])


def test_an_error_in_a_special_case_is_told_with_what_that_case_is_about():
    exercise = Exercise("sum", lambda a: a.sum(0), lambda: [(torch.ones(2, 3),), (torch.zeros(2, 3),), case(
        torch.ones(4, 3), about="there may be more rows")], {})
    assert "hint      there may be more rows (the shapes don't broadcast" in said(exercise, lambda a: (a + torch.zeros(2, 1)).sum(0))


def test_nothing_returned_is_told_also_where_more_than_the_result_is_observed():
    for name in ("gumbel_softmax", "reinforce_surrogate", "gradient_norms", "key_of", "region_network"):
        assert "is the return statement missing?" in said(checks.ALL[name], lambda *given: None)


def test_a_float_is_no_whole_number():
    assert "a whole number was expected, 3, not the float 3.0" in difference(3.0, 3, 1e-5)
    assert "value 1: a whole number was expected" in difference([1, 2.0], [1, 2], 1e-5)
    assert "value 0: a whole number was expected" in difference(torch.tensor([1.0, 2.0]), [1, 2], 1e-5)
    assert difference(np.int64(3), 3, 1e-5) is None


@pytest.mark.parametrize("near", [lambda a: a * (1 + 5e-5), lambda a: a + 3e-5 * a.max(), lambda a: a.half().float(),
                                  lambda a: (a * 400).round() / 400])
def test_what_is_nearly_right_is_not_told_another_slip(near):
    exercise = Exercise("kept", lambda a: 1 * a, lambda: [
        (torch.rand(n, 3, generator=torch.Generator().manual_seed(n)),) for n in (3, 4, 5)], {})
    assert "hint      nearly right: look for rounding" in said(exercise, near)
    assert "the largest difference is " in said(exercise, near)


def test_whole_numbers_are_never_nearly_right():
    exercise = Exercise("kept", lambda a: a, lambda: [(10_000,), (20_000,), (40_000,)], {})
    assert "every value is off by +1" in said(exercise, lambda a: a + 1)


def test_zeros_are_not_called_rounded():
    kept = Exercise("kept", lambda a: a, lambda: [(torch.full((n,), 0.1 * n),) for n in (2, 3, 4)], {})
    assert "hint      only zeros come out" in said(kept, lambda a: a * 0)
    assert "the gradient is wrong: only zeros come out" in said(HALVED, lambda a: a.detach() / 2 + 0 * a)


def recursion(a: int) -> int:
    return recursion(a)


@pytest.mark.parametrize(("wrong", "hint"), [
    (lambda: torch.cat([torch.ones(2, 3), torch.ones(3, 4)]), "has to agree on all axes but one"),
    (lambda: torch.softmax(torch.ones(2)), "dim=-1 is the last one"),
    (lambda: torch.tensor([torch.ones(2), torch.ones(2)]), "torch.stack for a list"),
    (lambda: [1, 2, 3][torch.ones(2):], "whole number"),
    (lambda: torch.ones(4).reshape(3, 2), "as many numbers"),
    (lambda: torch.nn.functional.one_hot(torch.ones(2)), "takes positions"),
    (lambda: [2] - [1], "lists can't be calculated with"),
    (lambda: (lambda a: a)(1, 2), "keep the stub's parameters"), (lambda: (lambda a: a)(), "keep the stub's parameters"),
    (lambda: recursion(1), "calls itself for ever"),
])
def test_messages_of_torch_and_python_are_explained(wrong, hint):
    try:
        wrong()
    except Exception as error:
        assert hint in hint_of_error(error)
    else:
        pytest.fail("nothing was raised")


def test_without_a_graphics_card_cuda_is_explained():
    assert "graphics card" in hint_of_error(RuntimeError("Found no NVIDIA driver on your system."))


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
    fewest = {"06": 1, "08": 2, "09": 2, "10": 2}  # one long exercise; and these read results more than they write code
    assert len(solutions) >= fewest.get(file.stem[:2], 4)
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
