"""`python -m lr_helpers study weights`: the weights of the search `learned`, chosen on validation scenes.

Where an object is to be replaced, all boxes are looked at by the terms that need no edit, and those that one of ORDERS
would put on its shortlist are edited. The rest is arithmetic on what was measured: which weights of the terms take the
box on which the judge, whom they don't see, says that the task is done?
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import product
from typing import NamedTuple

import torch

from lr_helpers.baselines import Request
from lr_helpers.baselines.request import Share
from lr_helpers.boxes import covered, iou
from lr_helpers.candidates import area_table, occlusion_table, patches_table, shortlist
from lr_helpers.losses import standardised
from lr_helpers.method import METHODS
from lr_helpers.models.loading import Models
from lr_helpers.study import measures, tables
from lr_helpers.study.regions import Choosing
from lr_helpers.study.run import Done
from lr_helpers.study.tasks import Task, task
from tiny_world.judge import Judge

JUDGED = ("clip", "structure", "direction", "source")
"""The terms that need an edit."""
MEASURES = ("success", "hit", "iou", "covered")


class Order(NamedTuple):
    """What a shortlist can go by."""

    patches: float
    occlusion: float
    area: float
    places: int = 4
    """Around how many anchors its boxes lie; 0: any."""
    overlap: float = 0.35
    """The IoU above which only the better is taken: of places, or of boxes."""
    scaled: bool = True
    """Are terms standardised?"""
    centre: bool = True
    """Is what all texts share taken off?"""


ORDERS = {
    "patches": Order(1.0, 0.0, 0.0),
    "patches, any places": Order(1.0, 0.0, 0.0, places=0, overlap=0.5),
    "patches + 0.25 occlusion": Order(1.0, 0.25, 0.0),
    "patches + 0.25 occlusion, uncentred": Order(1.0, 0.25, 0.0, centre=False),
    "patches + 0.25 occlusion, overlap 0.5": Order(1.0, 0.25, 0.0, overlap=0.5),
    "patches + 0.5 occlusion": Order(1.0, 0.5, 0.0),
    "occlusion + area": Order(0.0, 1.0, 1.0, overlap=0.5),
    "raw": Order(0.0, 1.5, 0.75, places=0, overlap=0.7, scaled=False, centre=False)}
"""By name; "raw" has the weights that were chosen for the first world."""
GRID = {"clip": (0.0, 0.25, 0.5), "structure": (0.0, 0.125, 0.25, 0.5), "direction": (0.0, 0.125, 0.25, 0.5, 1.0),
        "source": (0.0, 0.25, 0.5, 1.0)}
"""Weights that are tried, all with all."""
SHORTLIST = METHODS["learned"].shortlist


def orders_of(patches: dict[bool, torch.Tensor], occlusion: dict[bool, torch.Tensor], area: torch.Tensor
              ) -> dict[str, torch.Tensor]:
    """By name of ORDERS, the (K, M) values by which it sorts; `patches`, `occlusion`: of the text as it is and centred.
    """
    found = {}
    for name, order in ORDERS.items():
        terms = patches[order.centre], occlusion[order.centre]
        by_patches, by_occlusion = map(standardised, terms) if order.scaled else terms
        found[name] = order.patches * by_patches + order.occlusion * by_occlusion + order.area * area
    return found


def first_of(name: str, values: torch.Tensor, boxes: torch.Tensor) -> list[int]:
    """Which of the (K, M, 4) boxes, counted through, this order puts on the shortlist by its values, the best first."""
    order = ORDERS[name]
    kept = shortlist(values, boxes, SHORTLIST, order.overlap, order.places).flatten().nonzero()[:, 0]
    return kept[values.flatten()[kept].argsort(stable=True)].tolist()


def record_of(one: Task, models: Models, judge: Judge, steps: int) -> dict:
    """One task: the edit-free terms and IoU of all boxes, and terms and measures of those edited."""
    request = Request(one.picture, one.source, one.prompt, name=one.name)
    share = Share(request, models)
    method = METHODS["learned"].but(steps=steps, screening_steps=steps, shortlist=0)
    table = share.proposals(method).boxes
    occlusion = {centre: occlusion_table(models, one.picture, one.source, table, centre) for centre in (False, True)}
    patches = {centre: patches_table(models, one.picture, one.source, table, centre) for centre in (False, True)}
    area = area_table(table, one.picture.shape[1:])
    # All that any order would edit.
    boxes = table.reshape(-1, 4)
    wanted = torch.zeros(len(boxes), dtype=torch.bool)
    for name, values in orders_of(patches, occlusion, area).items():
        wanted[first_of(name, values, table)] = True
    chosen = wanted.nonzero()[:, 0]
    terms = {}
    for centre in (False, True):
        edits = share.candidates(method.but(centre_texts=centre), boxes[chosen][:, None],
                                 free={"occlusion": occlusion[centre].flatten()[chosen][:, None]})
        edits.losses(None)
        terms[str(centre)] = {name: _rounded(edits.terms[name]) for name in JUDGED}
    found = {name: [] for name in MEASURES}
    for i, box in enumerate(boxes[chosen].tolist()):
        said = {**measures.region(one, box), **measures.success(one, box, edits.picture(i, 0), judge)}
        said["covered"] = covered(box, one.truth)
        for name, values in found.items():
            values.append(round(said[name], 5))
    return {"task": one.name, "objects": len(one.recipe.objects), "boxes": table.tolist(),
            "area": _rounded(area),
            "patches": {str(centre): _rounded(values) for centre, values in patches.items()},
            "iou": _rounded(iou(boxes.float(), torch.tensor(one.truth).float())),
            "occlusion": {str(centre): _rounded(values) for centre, values in occlusion.items()},
            "edited": chosen.tolist(), "terms": terms, "found": found}


def _rounded(values: torch.Tensor) -> list[float]:
    """All values of a table, counted through."""
    return [round(v, 6) for v in values.flatten().tolist()]


class Weights(Choosing):
    """What each rule would choose from the same edits."""

    def settings(self, about: dict) -> dict:
        return {"study": "weights", "steps": self.steps, "shortlist": SHORTLIST, "boxes": asdict(METHODS["learned"]),
                "orders": {name: order._asdict() for name, order in ORDERS.items()}}

    def do(self, job: tuple[str, int]) -> dict:
        return record_of(task(*job), self.models, self.judge, self.steps)

    def summarise(self, done: Done) -> dict:
        groups = {**tables.by_group(done.records), "all tasks": done.records}
        return {**self.settings({}), "tasks": len(done.records),
                "groups": {title: summarise(part) for title, part in groups.items()}}

    def show(self, summary: dict, done: Done) -> None:
        for title, found in summary["groups"].items():
            tables.print_means(f"{title}, what a shortlist goes by", found["orders_found"], ("listed", "first_hit"))
            tables.print_means(f"{title}, what chooses from it", found["chosen"], MEASURES)


def rules() -> Iterator[tuple[str, str, dict[str, float]]]:
    """Name, order and weights of the edits' terms of each rule."""
    for order in ORDERS:
        for values in product(*GRID.values()):
            weights = dict(zip(GRID, values, strict=True))
            said = " + ".join(f"{weight:g} {term}" for term, weight in weights.items() if weight)
            yield f"{order}: {said or 'no edit'}", order, weights


def shipped() -> str:
    """The rule that is preset `learned`."""
    learned = METHODS["learned"]
    order = Order(learned.patches_weight, learned.occlusion_weight, learned.area_weight, learned.places,
                  learned.nms_iou, learned.standardise_terms, learned.centre_texts)
    wanted = {term: getattr(learned, f"{term}_weight") for term in GRID}
    (name,) = [name for name, own, weights in rules() if ORDERS[own] == order and weights == wanted]
    return name


def summarise(records: Sequence[dict], best: int = 25) -> dict:
    """How often a shortlist holds a hit, and what the `best` rules choose from it; our presets' weights always."""
    listed: list[dict] = []
    chosen: dict[str, list[dict]] = {}
    for record in records:
        boxes = torch.tensor(record["boxes"])
        patches, occlusion = ({centre: torch.tensor(record[name][str(centre)]).reshape(boxes.shape[:2])
                               for centre in (False, True)} for name in ("patches", "occlusion"))
        area = torch.tensor(record["area"]).reshape(boxes.shape[:2])
        hit = torch.tensor(record["iou"]) >= 0.5
        place = {box: i for i, box in enumerate(record["edited"])}
        lists = {}
        for name, values in orders_of(patches, occlusion, area).items():
            first = first_of(name, values, boxes)
            listed.append({"task": record["task"], "row": name, "listed": float(hit[first].any()),
                           "first_hit": float(hit[first[0]])})
            rows = [place[box] for box in first]
            order = ORDERS[name]
            terms = {term: torch.tensor(v)[rows] for term, v in record["terms"][str(order.centre)].items()}
            terms = {term: standardised(v) if order.scaled else v for term, v in terms.items()}
            lists[name] = rows, values.flatten()[first], terms
        for name, order, weights in rules():
            rows, total, terms = lists[order]
            for term, weight in weights.items():
                total = total + weight * terms[term]
            i = rows[int(total.argmin())]
            found = {measure: values[i] for measure, values in record["found"].items()}
            chosen.setdefault(name, []).append({"task": record["task"], "row": name, **found})

    def worth(name: str) -> tuple[float, float]:
        own = chosen[name]
        return sum(one["success"] for one in own), sum(one["iou"] for one in own)

    ranked = sorted(chosen, key=worth, reverse=True)[:best]
    ours = ["raw: 0.5 structure + 1 direction", "raw: no edit", shipped()]
    kept = [*ranked, *(name for name in ours if name not in ranked)]
    return {"orders_found": tables.means(listed, ("listed", "first_hit")),
            "chosen": tables.means([one for name in kept for one in chosen[name]], MEASURES)}
