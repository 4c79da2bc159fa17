"""Exercises of notebook 07: what the network reads, the unit of losses, what it will say, and how sure it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch.nn import functional as F

from lr_helpers.boxes import iou
from lr_helpers.checks.exercise import Exercise, case
from lr_helpers.losses import standardised
from lr_helpers.predictor import SAME_PLACE, Ranking


def _random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# text_maps


def _maps(patches: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
    """As `predictor.read` makes them."""
    products = F.normalize(texts, dim=-1)[:, :, None, None] * F.normalize(patches, dim=0)
    return standardised(products.sum(1), dim=(1, 2))


def _cosines(patches: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
    return torch.einsum("td,dhw->thw", F.normalize(texts, dim=-1), F.normalize(patches, dim=0))


def _flat(patches: torch.Tensor) -> torch.Tensor:
    """One patch like all others: nothing stands out."""
    return patches[:, :1, :1].expand_as(patches).clone()


def _with_epsilon(power: float, epsilon: float, patches: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
    """With another number, added to the deviation (power 1) or to the variance (power ½)."""
    cosines = _cosines(patches, texts)
    spread = cosines.std((1, 2), keepdim=True, correction=0)
    return (cosines - cosines.mean((1, 2), keepdim=True)) / (spread ** (1 / power) + epsilon) ** power


text_maps = Exercise(
    name="text_maps", reference=_maps,
    cases=lambda: [(3 * _random(6, 4, 4), _random(2, 6, seed=1)), (_random(8, 3, 5, seed=2), 5 * _random(2, 8, seed=3)),
                   (_random(5, 5, 5, seed=4) + 2, _random(2, 5, seed=5)),
                   case(_random(4, 1, 6, seed=6), _random(3, 4, seed=7),
                        about="there may be any number of texts, and the grid need not be square"),
                   case(_flat(_random(6, 2, 2, seed=8)), _random(2, 6, seed=9),
                        about="where all patches are alike the map is 0 everywhere: add 1e-6 to the deviation"),
                   case(_flat(_random(6, 4, 4, seed=10)) + 0.003 * _random(6, 4, 4, seed=11), _random(2, 6, seed=12),
                        about="patches may be nearly alike: add 1e-6 to the deviation, and nothing larger")],
    tolerance=1e-3,
    reminder="the cosine of each text with each patch, then minus its mean over the map, by its deviation over the map",
    mistakes={
        "each map is standardised by its own mean and deviation, not both together":
            lambda patches, texts: standardised(_cosines(patches, texts)),
        "standardise over the picture, that is over rows and columns, not over the texts":
            lambda patches, texts: standardised(_cosines(patches, texts), dim=0),
        "standardise over the whole picture, not each row of patches by itself": (
            lambda patches, texts: standardised(_cosines(patches, texts), dim=2),
            lambda patches, texts: standardised(_cosines(patches, texts), dim=1)),
        "these are the cosines; now take each map's mean off and divide by its deviation": _cosines,
        "the mean is taken off, but nothing is divided by the deviation":
            lambda patches, texts: (lambda c: c - c.mean((1, 2), keepdim=True))(_cosines(patches, texts)),
        "take the mean off before you divide by the deviation":
            lambda patches, texts: (lambda c: c / (c.std((1, 2), keepdim=True, correction=0) + 1e-6))(
                _cosines(patches, texts)),
        "a cosine needs patches of length 1, too: normalise them along their channels": (
            lambda patches, texts: standardised(
                torch.einsum("td,dhw->thw", F.normalize(texts, dim=-1), patches), dim=(1, 2)),
            lambda patches, texts: standardised(torch.einsum("td,dhw->thw", texts, patches), dim=(1, 2))),
        "the patches' channels are their first axis: normalise along that one": (
            lambda patches, texts: standardised(
                torch.einsum("td,dhw->thw", F.normalize(texts, dim=-1), F.normalize(patches, dim=1)), dim=(1, 2)),
            lambda patches, texts: standardised(
                torch.einsum("td,dhw->thw", F.normalize(texts, dim=-1), F.normalize(patches, dim=-1)), dim=(1, 2))),
        "the deviation divides by the number of patches, not by one less: std(correction=0)":
            lambda patches, texts: (lambda c: (c - c.mean((1, 2), keepdim=True)) / (
                c.std((1, 2), keepdim=True) + 1e-6))(_cosines(patches, texts)),
        "divide by the deviation, the root of the variance":
            lambda patches, texts: (lambda c: (c - c.mean((1, 2), keepdim=True)) / (
                c.var((1, 2), keepdim=True, correction=0) + 1e-6))(_cosines(patches, texts)),
        "a patch that looks like the text has a high value: the sign is wrong":
            lambda patches, texts: -_maps(patches, texts),
        "one map for each text, (T, h, w), not their sum": lambda patches, texts: _maps(patches, texts).sum(0),
        "the shape is (T, h, w): texts first": lambda patches, texts: _maps(patches, texts).permute(1, 2, 0),
        "the shape is (T, h, w): rows before columns": lambda patches, texts: _maps(patches, texts).transpose(1, 2),
        "add 1e-6 to the deviation itself, neither more nor before the root": (
            *(partial(_with_epsilon, 1.0, epsilon) for epsilon in (1e-2, 1e-3, 1e-4)),
            *(partial(_with_epsilon, 0.5, epsilon) for epsilon in (1e-2, 1e-3, 1e-4, 1e-5, 1e-6))),
        "no map into 0..1 here: mean 0 and deviation 1": (
            lambda patches, texts: _cosines(patches, texts).flatten(1).softmax(1).view_as(_cosines(patches, texts)),
            lambda patches, texts: (lambda c: (c - c.amin((1, 2), keepdim=True)) / (
                c.amax((1, 2), keepdim=True) - c.amin((1, 2), keepdim=True)))(_cosines(patches, texts))),
    })


# common_scale


def _scale(losses: Sequence[torch.Tensor]) -> float:
    """As `predictor.common_scales` does for each term."""
    return sum(float(one.std(correction=0)) for one in losses) / len(losses)


def _all(losses: Sequence[torch.Tensor]) -> torch.Tensor:
    return torch.cat(list(losses))


def _of_each(function: Callable) -> Callable:
    return lambda losses: sum(float(function(one)) for one in losses) / len(losses)


common_scale = Exercise(
    name="common_scale", reference=_scale,
    cases=lambda: [([2 * _random(16), _random(16, seed=1) + 4, 0.5 * _random(12, seed=2) - 3],),
                   ([_random(9, seed=3), 3 * _random(16, seed=4)],), ([_random(7, seed=s) * s for s in (5, 6, 7, 8)],),
                   case([_random(16, seed=9)], about="there may be one picture only"),
                   case([torch.full((5,), 2.0), _random(5, seed=10)],
                        about="a picture whose losses are all equal counts, too, with a deviation of 0")],
    reminder="the mean, over the pictures, of std(correction=0) of a picture's losses; a float",
    mistakes={
        "a picture's own mean doesn't matter: take the deviation within each picture, then the mean of those": (
            lambda losses: float(_all(losses).std(correction=0)), lambda losses: float(_all(losses).std())),
        "the deviation divides by the number of boxes, not by one less: std(correction=0)": _of_each(torch.std),
        "take deviations, the roots of the variances": _of_each(lambda one: one.var(correction=0)),
        "the mean of the deviations, not the root of the mean variance":
            lambda losses: _of_each(lambda one: one.var(correction=0))(losses) ** 0.5,
        "that is their sum; divide by the number of pictures":
            lambda losses: sum(float(one.std(correction=0)) for one in losses),
        "that is the mean of the losses, not of their deviations": _of_each(torch.mean),
        "how far losses are apart, not how large they are: take each picture's mean off first":
            _of_each(lambda one: one.square().mean().sqrt()),
        "deviations are squared before the mean; that is the mean of absolute differences":
            _of_each(lambda one: (one - one.mean()).abs().mean()),
        "that is the range; take the standard deviation": _of_each(lambda one: one.max() - one.min()),
        "one number for all pictures: their mean":
            lambda losses: [float(one.std(correction=0)) for one in losses],
        "every picture counts alike, however many boxes it has": lambda losses: sum(
            float(one.std(correction=0)) * len(one) for one in losses) / sum(map(len, losses)),
        "the mean of all pictures, not their median":
            lambda losses: float(torch.tensor([float(one.std(correction=0)) for one in losses]).median()),
        "leave no picture out: one in which all boxes are alike has the deviation 0": lambda losses: (
            lambda kept: sum(kept) / max(len(kept), 1))([float(one.std(correction=0)) for one in losses
                                                          if one.std(correction=0) > 0]),
    })


# wished


def _wished(losses: torch.Tensor, temperature: float) -> torch.Tensor:
    """Where the expected loss minus `temperature` times the entropy is lowest."""
    return (-losses / temperature).softmax(-1)


def _one_best(losses: torch.Tensor, temperature: float) -> torch.Tensor:
    return F.one_hot(losses.argmin(-1), losses.shape[-1]).float()


wished = Exercise(
    name="wished", reference=_wished,
    cases=lambda: [(_random(8), 0.3), (2 * _random(16, seed=1), 1.0), (_random(5, seed=2) + 3, 0.5),
                   case(torch.tensor([1.0, 0.0, 0.0, 2.0]), 0.3,
                        about="boxes that are as good get the same probability"),
                   case(400 * _random(6, seed=3), 0.1,
                        about="e to the power of hundreds is ∞, and ∞ / ∞ is NaN: let softmax do it, which is safe"),
                   case(torch.tensor([3.0]), 0.3,
                        about="with one box there is nothing to choose: its probability is 1")],
    reminder="the softmax of −loss / temperature",
    mistakes={
        "a low loss is good: the softmax of −loss": lambda losses, temperature: (losses / temperature).softmax(-1),
        "the temperature divides, it doesn't multiply": lambda losses, temperature: (-losses * temperature).softmax(-1),
        "the temperature is missing: divide by it before the softmax":
            lambda losses, temperature: (-losses).softmax(-1),
        "divide by the temperature before the softmax, not after it":
            lambda losses, temperature: (-losses).softmax(-1) / temperature,
        "these are logarithms of probabilities: softmax, not log_softmax":
            lambda losses, temperature: (-losses / temperature).log_softmax(-1),
        "probabilities of a choice sum to 1: softmax, not sigmoid":
            lambda losses, temperature: (-losses / temperature).sigmoid(),
        "probabilities sum to 1: divide by the sum over the boxes":
            lambda losses, temperature: (-losses / temperature).exp(),
        "that is only the best box; the entropy shares the probability among all that are about as good": _one_best,
        "no squares here: the loss itself stands in the exponent":
            lambda losses, temperature: (-losses.square() / temperature).softmax(-1),
        "don't standardise again: the losses are in units of the common scale already":
            lambda losses, temperature: (-standardised(losses) / temperature).softmax(-1),
        "e to the power of hundreds is ∞, and ∞ / ∞ is NaN: let softmax do it, which is safe":
            lambda losses, temperature: (lambda e: e / e.sum())((-losses / temperature).exp()),
        "not in shares of the largest: they have to sum to 1":
            lambda losses, temperature: (lambda p: p / p.max())(_wished(losses, temperature)),
    })


# confidence and places


def _ranking(boxes: torch.Tensor, probabilities: torch.Tensor) -> Ranking:
    order = probabilities.argsort(descending=True, stable=True)
    return Ranking(boxes[order], probabilities[order])


def _confidence(boxes: torch.Tensor, probabilities: torch.Tensor) -> float:
    return _ranking(boxes, probabilities).confidence


def _boxes(count: int, seed: int, side: float = 40) -> torch.Tensor:
    """Squares near each other, so that many overlap and some don't."""
    draw = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=draw) * side
    length = 20 + 20 * torch.rand(count, 1, generator=draw)
    return torch.cat([corner, corner + length], 1).round()


def _even(count: int, seed: int) -> torch.Tensor:
    return (0.7 * _random(count, seed=seed)).softmax(0)


HALVES = torch.tensor([[0.0, 0, 20, 20], [0, 0, 20, 40], [60, 60, 80, 80]])
"""The second box overlaps the first with an IoU of exactly ½."""

NEAR = torch.tensor([[0.0, 0, 4, 4], [0, 0, 4, 9], [30, 30, 50, 50]])
"""The second box overlaps the first with an IoU of 4/9; with a pixel more on each side it would be ½."""

CHAIN = torch.tensor([[0.0, 0, 20, 20], [6, 0, 26, 20], [12, 0, 32, 20]])
"""Each overlaps the next by more than half; the first and the third don't."""

APART = "boxes that share nothing have negative sides in common: keep them from falling below 0 before you multiply"

IN_A_ROW = torch.tensor([[0.0, 0, 20, 20], [14, 0, 34, 20], [20, 0, 40, 20], [60, 0, 80, 20]])
"""The third overlaps the second by more than half, and not the first."""


def _near(boxes: torch.Tensor, probabilities: torch.Tensor, least: float = SAME_PLACE) -> torch.Tensor:
    return iou(boxes[probabilities.argmax()], boxes) >= least


def _share_of_best(boxes: torch.Tensor, probabilities: torch.Tensor) -> float:
    """By the share of the best box that another covers, which isn't the IoU."""
    best = boxes[probabilities.argmax()]
    shared = (torch.minimum(boxes[:, 2:], best[2:]) - torch.maximum(boxes[:, :2], best[:2])).clamp(min=0).prod(1)
    return float(probabilities[shared / (best[2:] - best[:2]).prod() >= SAME_PLACE].sum())


confidence = Exercise(
    name="confidence", reference=_confidence,
    cases=lambda: [(_boxes(30, 0), _even(30, 1)), (_boxes(40, 2), _even(40, 3)), (_boxes(20, 4, 20), _even(20, 5)),
                   case(HALVES, torch.tensor([0.5, 0.3, 0.2]), about="an IoU of exactly ½ is the same place: ≥, not >"),
                   case(_boxes(1, 6), torch.ones(1), about="of one box the confidence is 1"),
                   case(HALVES.flip(0), torch.tensor([0.1, 0.3, 0.6]),
                        about="the best box is the most probable one; it need not stand first"),
                   case(NEAR, torch.tensor([0.5, 0.3, 0.2]),
                        about="the end of a box is exclusive: a side is x1 − x0, without a pixel more"),
                   case(torch.tensor([[0.0, 0, 10, 10], [20, 20, 30, 30], [0, 40, 10, 60]]),
                        torch.tensor([0.5, 0.3, 0.2]), about=APART)],
    reminder="the sum of the probabilities of all boxes whose IoU with the most probable one is at least ½",
    mistakes={
        "a place is more than its best box: add the boxes that overlap it by half": (
            lambda boxes, probabilities: float(probabilities.max())),
        "the best box overlaps itself by all: it counts, too":
            lambda boxes, probabilities: float(
                (probabilities * _near(boxes, probabilities)).sum() - probabilities.max()),
        "the best box is the most probable one; it need not stand first": (
            lambda boxes, probabilities: float(probabilities[iou(boxes[0], boxes) >= SAME_PLACE].sum())),
        "every box that touches it is too much: the IoU has to be at least ½":
            lambda boxes, probabilities: float(probabilities[iou(boxes[probabilities.argmax()], boxes) > 0].sum()),
        "an IoU of exactly ½ is the same place: ≥, not >": (
            lambda boxes, probabilities: float(probabilities[iou(boxes[probabilities.argmax()], boxes) > 0.5].sum())),
        "add up their probabilities; how many boxes there are doesn't matter": (
            lambda boxes, probabilities: float(_near(boxes, probabilities).float().mean()),
            lambda boxes, probabilities: float(_near(boxes, probabilities).sum())),
        "add up their probabilities instead of averaging them":
            lambda boxes, probabilities: float(probabilities[_near(boxes, probabilities)].mean()),
        "weigh nothing by the IoU: a box is at the same place or it isn't":
            lambda boxes, probabilities: float((probabilities * iou(boxes[probabilities.argmax()], boxes)).sum()),
        "those at the same place, not all the others":
            lambda boxes, probabilities: float(probabilities[~_near(boxes, probabilities)].sum()),
        "the IoU divides by the area of both together, not by that of the best box": _share_of_best,
        "the most probable box, not the least probable": (
            lambda boxes, probabilities: float(
                probabilities[iou(boxes[probabilities.argmin()], boxes) >= SAME_PLACE].sum())),
    })


def _places(boxes: torch.Tensor, probabilities: torch.Tensor, count: int) -> list[int]:
    order = probabilities.argsort(descending=True, stable=True)
    return [int(order[i]) for i in _ranking(boxes, probabilities).places(count)]


def _taken(boxes: torch.Tensor, probabilities: torch.Tensor, count: int, *, descending: bool = True,
           same: Callable = lambda overlap: overlap >= SAME_PLACE,
           against: Callable = lambda taken: taken) -> list[int]:
    """Greedy, with the slips that are asked for; `against`: those taken → those that a box is compared with."""
    taken: list[int] = []
    for i in probabilities.argsort(descending=descending, stable=True).tolist():
        if len(taken) < count and not any(bool(same(iou(boxes[i], boxes[j]))) for j in against(taken)):
            taken.append(i)
    return taken


def _stops_at_the_first(boxes: torch.Tensor, probabilities: torch.Tensor, count: int) -> list[int]:
    """Looks at the `count` most probable ones alone."""
    few = probabilities.argsort(descending=True, stable=True)[:count]
    return [int(few[i]) for i in _places(boxes[few], probabilities[few], count)]


def _apart_from_all(boxes: torch.Tensor, probabilities: torch.Tensor, count: int) -> list[int]:
    """Leaves a box out for any more probable one, taken or not."""
    return [i for i in probabilities.argsort(descending=True, stable=True).tolist()
            if not (iou(boxes[i], boxes)[probabilities > probabilities[i]] >= SAME_PLACE).any()][:count]


def _without_end(boxes: torch.Tensor, probabilities: torch.Tensor, count: int) -> list[int]:
    """Takes the most probable one and sets its place to 0, `count` times, though there may be fewer places."""
    left, taken = probabilities.clone(), []
    for _ in range(count):
        taken.append(int(left.argmax()))
        left[iou(boxes[taken[-1]], boxes) >= SAME_PLACE] = 0
    return taken


def _removed_by_0(boxes: torch.Tensor, probabilities: torch.Tensor, count: int) -> list[int]:
    """Takes the most probable one and sets its place to 0, until all are 0."""
    left, taken = probabilities.clone(), []
    while len(taken) < count and left.max() > 0:
        taken.append(int(left.argmax()))
        left[iou(boxes[taken[-1]], boxes) >= SAME_PLACE] = 0
    return taken


places = Exercise(
    name="places", reference=_places,
    cases=lambda: [(_boxes(60, 0, 70), _even(60, 1), 6), (_boxes(80, 2), _even(80, 3), 4),
                   (_boxes(25, 6), _even(25, 7), 2), (IN_A_ROW.flip(0), torch.tensor([0.1, 0.2, 0.3, 0.4]), 4),
                   case(_boxes(6, 10, 4), _even(6, 11), 4, about="there may be fewer places than asked for"),
                   case(CHAIN, torch.tensor([0.5, 0.3, 0.2]), 3,
                        about="a box that was left out itself keeps no other one out: compare with those taken"),
                   case(HALVES, torch.tensor([0.5, 0.3, 0.2]), 3,
                        about="an IoU of exactly ½ is the same place: ≥, not >"),
                   case(_boxes(9, 12), _even(9, 13), 1, about="a single place is the most probable box"),
                   case(torch.tensor([[0.0, 0, 60, 60], [0, 13, 60, 73], [70, 70, 75, 75], [73, 73, 78, 78]]),
                        torch.tensor([0.4, 0.3, 0.2, 0.1]), 4,
                        about="the IoU says what one place is, not how far the centres are apart"),
                   case(NEAR, torch.tensor([0.5, 0.3, 0.2]), 3,
                        about="the end of a box is exclusive: a side is x1 − x0, without a pixel more"),
                   case(torch.tensor([[0.0, 0, 20, 20], [7, 0, 27, 20]]), torch.tensor([0.6, 0.4]), 2,
                        about="an IoU a little below ½ is another place: compare with ½ itself"),
                   case(torch.tensor([[40.0, 40, 60, 60], [80, 80, 100, 100]]), torch.tensor([0.6, 0.4]), 2,
                        about=APART),
                   case(torch.tensor([[0.0, 0, 20, 20], [10, 0, 30, 20], [20, 0, 40, 20], [5, 0, 35, 20]]),
                        torch.tensor([0.4, 0.02, 0.3, 0.28]), 4,
                        about="the IoU with each box that is taken counts by itself: don't add them up"),
                   case(torch.tensor([[0.0, 0, 20, 20], [60, 0, 80, 20], [2, 0, 22, 20]]),
                        torch.tensor([0.7, 0.0, 0.3]), 3,
                        about="a box of probability 0 is a box, too, and may be at a place of its own")],
    reminder="go through the boxes from the most probable one on; take one if its IoU with each that is taken is below "
             "½",
    mistakes={
        "those are the most probable boxes, which mostly lie at one place: leave out what overlaps one that is taken":
            lambda boxes, probabilities, count: probabilities.argsort(descending=True, stable=True)[:count].tolist(),
        "compare with every box that is taken, not with the first alone":
            lambda boxes, probabilities, count: _taken(boxes, probabilities, count, against=lambda taken: taken[:1]),
        "compare with every box that is taken, not with the last alone":
            lambda boxes, probabilities, count: _taken(boxes, probabilities, count, against=lambda taken: taken[-1:]),
        "a box that was left out itself keeps no other one out: compare with those taken": _apart_from_all,
        "when nothing is left, stop: a place comes once": _without_end,
        "begin with the most probable box": (
            lambda boxes, probabilities, count: _taken(boxes, probabilities, count, descending=False),
            lambda boxes, probabilities, count: _places(boxes, torch.arange(len(boxes), 0, -1).float(), count)),
        "boxes that only touch are different places: leave out those with an IoU of ½ or more":
            lambda boxes, probabilities, count: _taken(boxes, probabilities, count, same=lambda overlap: overlap > 0),
        "an IoU of exactly ½ is the same place: ≥, not >":
            lambda boxes, probabilities, count: _taken(boxes, probabilities, count, same=lambda overlap: overlap > 0.5),
        "a box that is left out makes room for the next: go on until there are enough": _stops_at_the_first,
        "stop when there are `count` of them": lambda boxes, probabilities, count: _taken(boxes, probabilities, 10**6),
        "return the indices into `boxes`, not into the sorted list":
            lambda boxes, probabilities, count: _ranking(boxes, probabilities).places(count),
        "return indices, not boxes": lambda boxes, probabilities, count: boxes[_places(boxes, probabilities, count)],
        "the most probable place comes first: don't sort the indices":
            lambda boxes, probabilities, count: sorted(_places(boxes, probabilities, count)),
        "a box of probability 0 is a box, too: mark what is left out in another way, by −1 or in a list of its own":
            _removed_by_0,
        "different places, so leave out what overlaps; you keep only what does":
            lambda boxes, probabilities, count: _taken(boxes, probabilities, count, same=lambda overlap: overlap < 0.5),
    })
