"""The study that chooses the search's weights: what an order lists, what a rule takes, and one task for real."""

import pytest
import torch

from lr_helpers.study import weights
from lr_helpers.study.tasks import VALIDATION, task
from tiny_world import judge


def record(success):
    """Four boxes: the first two are listed by every order; the second is the known region."""
    occlusion = {"False": [0.0, 0.1, 5.0, 5.0], "True": [0.0, 0.1, 5.0, 5.0]}
    terms = {name: [0.0, 0.0, 0.0, 0.0] for name in weights.JUDGED} | {"direction": [1.0, 0.0, 1.0, 1.0]}
    return {"task": "replace_300000", "objects": 1, "area": [0.1] * 4, "patches": occlusion,
            "boxes": [[[0, 0, 10, 10], [20, 0, 30, 10]], [[40, 0, 50, 10], [60, 0, 70, 10]]], "iou": [0.2, 0.9, 0.0, 0.0], "occlusion": occlusion,
            "edited": [0, 1, 2, 3], "terms": {"False": terms, "True": terms},
            "found": {"success": success, "hit": [0.0, 1.0, 0.0, 0.0], "iou": [0.2, 0.9, 0.0, 0.0], "covered": [0.3, 1.0, 0.0, 0.0]}}


def test_orders_standardise_all_but_area():
    occlusion = {False: torch.tensor([[0.0, 2.0]]), True: torch.tensor([[6.0, 0.0]])}
    patches = {False: torch.tensor([[3.0, 1.0]]), True: torch.tensor([[1.0, 3.0]])}
    found = weights.orders_of(patches, occlusion, torch.tensor([[0.5, 0.25]]))
    assert found.keys() == weights.ORDERS.keys()
    assert torch.allclose(found["raw"], torch.tensor([[0.375, 3.1875]]))
    assert torch.allclose(found["patches"], torch.tensor([[-1.0, 1.0]]), atol=1e-4)
    # 1 and 0.25 times what is -1 and 1, or 1 and -1, once standardised.
    assert torch.allclose(found["patches + 0.25 occlusion"], torch.tensor([[-0.75, 0.75]]), atol=1e-4)
    assert torch.allclose(found["patches + 0.25 occlusion, uncentred"], torch.tensor([[0.75, -0.75]]), atol=1e-4)
    assert torch.allclose(found["occlusion + area"], torch.tensor([[1.5, -0.75]]), atol=1e-4)


def test_the_rule_that_does_the_task_is_named(monkeypatch):
    monkeypatch.setattr(weights, "SHORTLIST", 2)
    found = weights.summarise([record([0.0, 1.0, 0.0, 0.0])], best=5)
    assert found["orders_found"]["raw"]["listed"]["value"] == 1 and found["orders_found"]["raw"]["first_hit"]["value"] == 0
    named = list(found["chosen"])
    assert len(named) == 8 and {"raw: no edit", weights.shipped()} <= set(named)
    assert found["chosen"]["raw: no edit"]["success"]["value"] == 0
    for name in named[:5]:
        assert "direction" in name and found["chosen"][name]["success"]["value"] == 1
    # Where it is the other box's edit that is right, no rule that looks at the edits is better than none.
    assert "direction" not in next(iter(weights.summarise([record([1.0, 0.0, 0.0, 0.0])], best=1)["chosen"]))


@pytest.mark.slow
def test_a_task_is_measured(models):
    found = weights.record_of(task("replace", VALIDATION), models, judge.load(), steps=1)
    edited = found["edited"]
    assert 12 <= len(edited) <= 12 * len(weights.ORDERS) and len(set(edited)) == len(edited)
    assert len(found["area"]) == len(found["iou"]) == len(found["occlusion"]["True"]) > max(edited)
    for terms in found["terms"].values():
        assert all(len(values) == len(edited) for values in terms.values())
    assert [found["iou"][i] for i in edited] == pytest.approx(found["found"]["iou"], abs=1e-4)
    # Centring changes what the texts say, and nothing else.
    assert found["terms"]["True"]["structure"] == found["terms"]["False"]["structure"]
    assert found["terms"]["True"]["clip"] != found["terms"]["False"]["clip"]
    assert found["patches"]["True"] != found["patches"]["False"]
