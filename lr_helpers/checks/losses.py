"""Exercises of notebook 04: the three losses, their sum, and the ranking S."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from lr_helpers import losses as _losses
from lr_helpers.checks.exercise import Exercise, case


def _random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _plain_distance(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Without a word for zero vectors: 0 / 0 is NaN."""
    return 1 - (a * b).sum(-1) / (a.norm(dim=-1) * b.norm(dim=-1))


def _cos(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return F.cosine_similarity(a, b, dim=-1)


def _zeros_are_0(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return _plain_distance(a, b).nan_to_num(0.0)


def _distance_cases() -> list[tuple]:
    zero = "a vector of length 0 gives 0 / 0: keep the divisor above a tiny number, so that its distance is 1"
    return [(_random(5, 8), _random(8, seed=1)), (_random(4, 6), 3 * _random(4, 6, seed=2)),
            (_random(6, 3, seed=7) * 0.2, _random(6, 3, seed=8)),
            case(_random(3, 1, 7), _random(1, 4, 7, seed=3),
                 about="all axes but the last are broadcast, also to more axes: sum over the last one, -1"),
            case(_random(9, seed=5), _random(9, seed=6), about="a single vector against another gives a single number"),
            case(_random(4, 4, seed=9), _random(4, 4, seed=10),
                 about="vectors lie along the last axis, also where all axes are alike"),
            case(torch.stack([torch.zeros(3), torch.ones(3)]), torch.tensor([1.0, 0.0, 0.0]), about=zero),
            case(_random(2, 3), torch.zeros(3), about=zero),
            case(0.03 * _random(4, 6, seed=11), 0.05 * _random(6, seed=12),
                 about="short vectors have a direction, too: the number that saves from 0 / 0 has to be tiny")]


cosine_distance = Exercise(
    name="cosine_distance", reference=_losses.cosine_distance, cases=_distance_cases,
    reminder="1 minus the dot product along the last axis, divided by both lengths",
    mistakes={
        "that is the similarity: the distance is 1 minus it, 0 where both point the same way": _cos,
        "the similarity has to be taken off 1, not 1 off the similarity": lambda a, b: _cos(a, b) - 1,
        "the sign is wrong: 1 minus the similarity, so that the same direction gives 0": lambda a, b: 1 + _cos(a, b),
        "the 1 is missing: the distance is 1 minus the similarity": lambda a, b: -_cos(a, b),
        "the lengths still count: divide the dot product by the lengths of both vectors":
            lambda a, b: 1 - (a * b).sum(-1),
        "only one of the two vectors is brought to length 1": (
            lambda a, b: 1 - (a * F.normalize(b, dim=-1)).sum(-1),
            lambda a, b: 1 - (F.normalize(a, dim=-1) * b).sum(-1)),
        "divide by the lengths themselves, not by their squares": (
            lambda a, b: 1 - (a * b).sum(-1) / (a.square().sum(-1) * b.square().sum(-1)).clamp(min=1e-8)),
        "divide by the product of the lengths, not by their sum":
            lambda a, b: 1 - (a * b).sum(-1) / (a.norm(dim=-1) + b.norm(dim=-1)).clamp(min=1e-8),
        "a length is the root of the sum of squares, not the sum of the absolute values": (
            lambda a, b: 1 - (a * b).sum(-1) / (a.abs().sum(-1) * b.abs().sum(-1)).clamp(min=1e-8)),
        "the vectors lie along the last axis: take lengths and sums over that one":
            lambda a, b: 1 - (F.normalize(a, dim=0) * F.normalize(b, dim=0)).sum(-1),
        "add the products up along the last axis: a mean divides once more by the number of entries":
            lambda a, b: 1 - (F.normalize(a, dim=-1) * F.normalize(b, dim=-1)).mean(-1),
        "each vector meets its own partner: multiply entry by entry and sum, where @ compares all with all": (
            lambda a, b: 1 - F.normalize(a, dim=-1) @ F.normalize(b, dim=-1).T,
            lambda a, b: 1 - F.normalize(a, dim=-1) @ F.normalize(b, dim=-1).transpose(-1, -2)),
        "each pair of vectors has a distance of its own: don't average over them":
            lambda a, b: _losses.cosine_distance(a, b).mean(),
        "that is the length of the difference of both vectors: take 1 minus the cosine": (
            lambda a, b: (F.normalize(a, dim=-1) - F.normalize(b, dim=-1)).norm(dim=-1),
            lambda a, b: (a - b).norm(dim=-1)),
        "a distance is not negative, but a similarity may be: don't take its absolute value":
            lambda a, b: 1 - _cos(a, b).abs(),
        "a vector of length 0 gives 0 / 0: keep the divisor above a tiny number, so that its distance is 1":
            _plain_distance,
        "a vector of length 0 has no direction in common with anything: its distance is 1, not 0": _zeros_are_0,
        "the tiny number that saves from 0 / 0 is too large: it changes the others": (
            lambda a, b: 1 - (a * b).sum(-1) / (a.norm(dim=-1) * b.norm(dim=-1) + 1e-2),
            lambda a, b: 1 - (a * b).sum(-1) / (a.norm(dim=-1) * b.norm(dim=-1)).clamp(min=1.0)),
    })


def _unit(tokens: torch.Tensor) -> torch.Tensor:
    return F.normalize(tokens, dim=-1)


self_similarity = Exercise(
    name="self_similarity", reference=_losses.self_similarity,
    cases=lambda: [(_random(2, 6, 4),), (_random(3, 5, 9, seed=1),), (0.2 * _random(2, 7, 3, seed=4),),
                   case(10 * _random(1, 4, 4, seed=2),
                        about="there may be a single picture, and as many tokens as channels: normalise along the "
                              "last axis"),
                   case(torch.ones(1, 2, 3), about="equal tokens have the similarity 1"),
                   case(_random(2, 1, 5, seed=3), about="a single token is 1 × 1, and similar to itself")],
    reminder="bring each token to length 1 along the last axis, then tokens @ tokens.transpose(-1, -2)",
    mistakes={
        "the tokens' lengths still count: bring each to length 1 before the products":
            lambda tokens: tokens @ tokens.transpose(-1, -2),
        "each token is a vector along the last axis: normalise over that one, not over the tokens": (
            lambda tokens: F.normalize(tokens, dim=-2) @ F.normalize(tokens, dim=-2).transpose(-1, -2),
            lambda tokens: _unit(tokens.transpose(-1, -2)).transpose(-1, -2) @ _unit(tokens.transpose(-1, -2))),
        "each token is a vector along the last axis: normalise over that one, not over the pictures":
            lambda tokens: F.normalize(tokens, dim=0) @ F.normalize(tokens, dim=0).transpose(-1, -2),
        "each token has a length of its own: don't divide by that of all together": (
            lambda tokens: (tokens / tokens.norm()) @ (tokens / tokens.norm()).transpose(-1, -2),
            lambda tokens: (tokens / tokens.norm(dim=(-1, -2), keepdim=True)) @ (
                tokens / tokens.norm(dim=(-1, -2), keepdim=True)).transpose(-1, -2)),
        "only one of the two tokens of each pair is brought to length 1": (
            lambda tokens: _unit(tokens) @ tokens.transpose(-1, -2),
            lambda tokens: tokens @ _unit(tokens).transpose(-1, -2)),
        "compare tokens with tokens, not channels with channels: the result is L × L":
            lambda tokens: _unit(tokens).transpose(-1, -2) @ _unit(tokens),
        "that is a distance: Q holds similarities, and 1 on its diagonal":
            lambda tokens: 1 - _losses.self_similarity(tokens),
        "compare only tokens of the same picture: N matrices, no pairs across pictures":
            lambda tokens: _unit(tokens).flatten(0, 1) @ _unit(tokens).flatten(0, 1).T,
        "transpose the last two axes only, transpose(-1, -2): .T turns the axis of the pictures as well":
            lambda tokens: _unit(tokens) @ _unit(tokens).T,
        "no softmax: Q holds the cosines as they are": lambda tokens: _losses.self_similarity(tokens).softmax(-1),
        "the diagonal is 1: each token is as similar to itself as can be":
            lambda tokens: _losses.self_similarity(tokens) * (1 - torch.eye(tokens.shape[1])),
        "cosines may be negative: don't cut them off at 0, and keep their sign": (
            lambda tokens: _losses.self_similarity(tokens).clamp(min=0),
            lambda tokens: _losses.self_similarity(tokens).abs()),
        "divide by the root of the number of channels only in attention; here by both lengths":
            lambda tokens: tokens @ tokens.transpose(-1, -2) / tokens.shape[-1] ** 0.5,
        "the cosines are divided once more: the product of two vectors of length 1 is the cosine already":
            lambda tokens: _losses.self_similarity(tokens) / tokens.shape[-1],
        "a length is the root of the sum of squares, not the sum": lambda tokens: F.normalize(
            tokens, p=1, dim=-1) @ F.normalize(tokens, p=1, dim=-1).transpose(-1, -2),
        "take nothing off the tokens first: cosines are of the tokens as they are":
            lambda tokens: _losses.self_similarity(
            tokens - tokens.mean(-2, keepdim=True)),
    })


def _change(edited: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
    """(N, L, L) change of the self-similarity."""
    return _losses.self_similarity(edited) - _losses.self_similarity(image[None])


structure_loss = Exercise(
    name="structure_loss", reference=_losses.structure_loss,
    cases=lambda: [(_random(3, 6, 4), _random(6, 4, seed=1)), (_random(4, 7, 5, seed=8), 2 * _random(7, 5, seed=9)),
                   case(_random(1, 9, 5, seed=2), _random(9, 5, seed=3),
                        about="a single edit gives one number in a row: the shape is (1,)"),
                   case(torch.stack([_random(5, 7, seed=4), _random(5, 7, seed=5)]), _random(5, 7, seed=4),
                        about="an edit that changed nothing has the loss 0"),
                   case(_random(2, 1, 3, seed=6), _random(1, 3, seed=7),
                        about="with a single token nothing can change: 0")],
    reminder="the change of Q, squared, averaged over both of its axes, and the root of that: one number an edit",
    mistakes={
        "the norm grows with the number of tokens: divide it by L":
            lambda e, i: torch.linalg.matrix_norm(_change(e, i)),
        "that is the mean square: take its root": lambda e, i: _change(e, i).square().mean((-1, -2)),
        "that is the sum of squares: take the mean, and its root": lambda e, i: _change(e, i).square().sum((-1, -2)),
        "each picture has a loss of its own: N numbers, not one for all": (
            lambda e, i: _losses.structure_loss(e, i).mean(), lambda e, i: _losses.structure_loss(e, i).sum(),
            lambda e, i: _change(e, i).square().mean().sqrt()),
        "divided once too often: an L × L matrix has L² entries, and the root of L² is L":
            lambda e, i: torch.linalg.matrix_norm(_change(e, i)) / e.shape[-2] ** 2,
        "divide by L, not by its root": lambda e, i: torch.linalg.matrix_norm(_change(e, i)) / e.shape[-2] ** 0.5,
        "divide by the number of tokens L, not by that of channels d":
            lambda e, i: torch.linalg.matrix_norm(_change(e, i)) / e.shape[-1],
        "divide by the number of tokens L, not by that of edits N":
            lambda e, i: torch.linalg.matrix_norm(_change(e, i)) / e.shape[0],
        "compare the self-similarities, not the tokens themselves": (
            lambda e, i: torch.linalg.matrix_norm(e - i) / e.shape[-2],
            lambda e, i: (e - i).square().mean((-1, -2)).sqrt()),
        "that is the mean absolute difference: the norm squares, sums, and takes the root":
            lambda e, i: _change(e, i).abs().mean((-1, -2)),
        "that is the largest singular value; here ‖·‖₂ is the root of the sum of all squares": (
            lambda e, i: torch.linalg.matrix_norm(_change(e, i), ord=2) / e.shape[-2]),
        "each row of Q counts together with the others: square, mean and root over the whole matrix": (
            lambda e, i: _change(e, i).norm(dim=-1).mean(-1),
            lambda e, i: _change(e, i).square().mean(-1).sqrt().mean(-1)),
        "that is only how similar the edit's tokens are: take the source picture's Q off":
            lambda e, i: _losses.self_similarity(e).square().mean((-1, -2)).sqrt(),
        "self-similarity is made of cosines: bring the tokens to length 1": (
            lambda e, i: (e @ e.transpose(-1, -2) - i @ i.T).square().mean((-1, -2)).sqrt()),
        "all pairs count, also those of the diagonal and both triangles": (
            lambda e, i: _change(e, i).triu(1).square().mean((-1, -2)).sqrt()),
        "the mean of the changes lets those up and down cancel out: square them first":
            lambda e, i: _change(e, i).mean((-1, -2)),
        "0 means no change: don't take it off 1": lambda e, i: 1 - _losses.structure_loss(e, i),
    })


def _direction_cases() -> list[tuple]:
    image, source, prompt = _random(6), _random(6, seed=2), _random(6, seed=1)
    edited = torch.stack([image + prompt - source, image - prompt + source, _random(6, seed=3)])
    step = 0.003 * (prompt - source)
    return [(_random(5, 8), _random(8, seed=1), _random(8, seed=2), _random(8, seed=3)),
            (F.normalize(_random(3, 4, seed=4), dim=-1), *F.normalize(_random(3, 4, seed=5), dim=-1)),
            case(edited, image, source, prompt,
                 about="an edit that goes just the way of the text has the loss 0, one that goes the other way 2"),
            case(_random(1, 7, seed=6), _random(7, seed=7), _random(7, seed=8), _random(7, seed=9),
                 about="a single edit gives one number in a row: the shape is (1,)"),
            case(torch.stack([image, image, edited[0]]), image, source, prompt,
                 about="an edit that changes nothing gives 0 / 0: its loss is 1"),
            case(torch.stack([image + step, image - step, image]), image, source, prompt,
                 about="a small change has a direction, too: only an edit that changes nothing at all has the loss 1")]


direction_loss = Exercise(
    name="direction_loss", reference=_losses.direction_loss, cases=_direction_cases,
    reminder="cosine_distance(edited − image, prompt − source)",
    mistakes={
        "one of the two directions points backwards: it is edited − image, and prompt − source": (
            lambda edited, image, source, prompt: _losses.direction_loss(edited, image, prompt, source),
            lambda edited, image, source, prompt: _losses.cosine_distance(image - edited, (prompt - source).expand_as(
                edited))),
        "take the source picture's embedding off the edit's: a direction is a difference":
            lambda edited, image, source, prompt: _losses.cosine_distance(edited, prompt - source),
        "take the source's text off the prompt's: a direction is a difference":
            lambda edited, image, source, prompt: _losses.cosine_distance(edited - image, prompt),
        "that is L_Clip, how far the edit is from the prompt: compare the two changes":
            lambda edited, image, source, prompt: _losses.cosine_distance(edited, prompt),
        "that is the similarity of the two directions: the loss is 1 minus it":
            lambda edited, image, source, prompt: 1 - _losses.direction_loss(edited, image, source, prompt),
        "the two directions have to be brought to length 1":
            lambda edited, image, source, prompt: 1 - (edited - image) @ (prompt - source),
        "bring the two directions to length 1, not the embeddings before their difference": (
            lambda edited, image, source, prompt: _losses.cosine_distance(
                _unit(edited) - _unit(image), (_unit(prompt) - _unit(source)).expand_as(edited)),
            lambda edited, image, source, prompt: 1 - (_unit(edited) - _unit(image)) @ (_unit(prompt) - _unit(source))),
        "image and source are mixed up: picture with picture, text with text": (
            lambda edited, image, source, prompt: _losses.cosine_distance(edited - source, (prompt - image).expand_as(
                edited)),
            lambda edited, image, source, prompt: _losses.cosine_distance(edited - prompt, (image - source).expand_as(
                edited))),
        "compare the picture's change with the text's change: differences, not sums": (
            lambda edited, image, source, prompt: _losses.cosine_distance(edited + image, (prompt + source).expand_as(
                edited))),
        "that is the length of what separates both changes: take their cosine distance": (
            lambda edited, image, source, prompt: (edited - image - prompt + source).norm(dim=-1)),
        "each edit has a loss of its own: N numbers, not their mean": (
            lambda edited, image, source, prompt: _losses.direction_loss(edited, image, source, prompt).mean()),
        "an edit that changes nothing gives 0 / 0: its loss is 1":
            lambda edited, image, source, prompt: _plain_distance(edited - image, prompt - source),
        "an edit that changes nothing has no direction: its loss is 1, not 0":
            lambda edited, image, source, prompt: _zeros_are_0(edited - image, prompt - source),
    })


def _total(tables: dict[str, torch.Tensor], weights: dict[str, float], missing: float = 0.0) -> torch.Tensor:
    return sum(weights.get(name, missing) * table for name, table in tables.items())


def _best_proposals(tables: dict[str, torch.Tensor], weights: dict[str, float]) -> torch.Tensor:
    return _total(tables, weights).argmin(dim=1)


def _tables(k: int, m: int, names: str, seed: int) -> dict[str, torch.Tensor]:
    return {name: _random(k, m, seed=seed + i).abs() for i, name in enumerate(names.split())}


best_proposals = Exercise(
    name="best_proposals", reference=_best_proposals,
    cases=lambda: [(_tables(9, 6, "clip structure direction", 0), {"clip": 1.0, "structure": 1.0, "direction": 1.0}),
                   (_tables(4, 7, "clip structure direction", 10), {"clip": 0.1, "structure": 3.0, "direction": 0.5}),
                   (_tables(12, 9, "direction clip structure", 40), {"structure": 0.4, "direction": 2.0, "clip": 1.0}),
                   case(_tables(8, 5, "clip structure source", 20), {"structure": 2.0, "source": -1.0, "clip": 0.3},
                        about="a weight may be negative: multiply by it, whatever its sign"),
                   case(_tables(11, 7, "clip structure area", 50), {"structure": 1.0, "area": 0.2},
                        about="a term without a weight counts nothing: weights.get(name, 0)"),
                   case(_tables(5, 5, "clip area", 30), {"clip": 1.0, "area": 0.0},
                        about="a weight of 0 is a weight: the term counts nothing"),
                   case(_tables(1, 6, "source clip", 60), {"clip": 1.0},
                        about="one anchor is a row of its own: the shape is (1,)"),
                   case(_tables(8, 5, "clip source", 70), {"clip": 0.5, "source": -2.0},
                        about="the weights may sum to less than 0: add up, and divide by nothing")],
    reminder="the sum over the names of weights.get(name, 0) · table, then argmin along axis 1",
    mistakes={
        "low losses are good: take the smallest, not the largest":
            lambda tables, weights: _total(tables, weights).argmax(1),
        "each anchor chooses among its own M proposals: go along the row, K answers":
            lambda tables, weights: _total(tables, weights).argmin(dim=0),
        "the weights have no effect: multiply each table by its own": (
            lambda tables, weights: sum(tables.values()).argmin(dim=1),
            lambda tables, weights: sum(tables[n] for n in weights).argmin(dim=1)),
        "a term without a weight counts nothing: 0, not 1":
            lambda tables, weights: _total(tables, weights, missing=1.0).argmin(1),
        "tables and weights belong together by their names, not by their order":
            lambda tables, weights: sum(w * t for w, t in zip(weights.values(), tables.values(), strict=False)).argmin(
                1),
        "only one of the tables decides: add up all of them, weighted": (
            lambda tables, weights: next(iter(tables.values())).argmin(1),
            lambda tables, weights: list(tables.values())[-1].argmin(1),
            lambda tables, weights: tables["clip"].argmin(1)),
        "a missing weight has to be looked up with get(name, 0): weights[name] raises KeyError":
            lambda tables, weights: sum(weights[name] * table for name, table in tables.items()).argmin(1),
        "a weight's sign counts: don't take its absolute value": (
            lambda tables, weights: _best_proposals(tables, {n: abs(w) for n, w in weights.items()}),
            lambda tables, weights: _best_proposals(tables, {n: max(w, 0) for n, w in weights.items()})),
        "one answer for each anchor, not one for the whole table": (
            lambda tables, weights: _total(tables, weights).argmin(),),
        "that is the lowest sum itself: return its position, argmin":
            lambda tables, weights: _total(tables, weights).amin(1),
        "proposals count from 0": lambda tables, weights: _best_proposals(tables, weights) + 1,
        "weigh the losses with the weights, not with their squares": lambda tables, weights: _best_proposals(
            tables, {n: w * w for n, w in weights.items()}),
        "add the terms up, don't multiply them": lambda tables, weights: torch.stack(
            [weights.get(n, 0.0) * t for n, t in tables.items()]).prod(0).argmin(1),
        "the sum decides, not the smallest single term": lambda tables, weights: torch.stack(
            [weights.get(n, 0.0) * t for n, t in tables.items()]).amin(0).argmin(1),
    })


def _score_cases() -> list[tuple]:
    def one(n: int, d: int, seed: int, *factors: float, about: str = "") -> tuple:
        return case((1 + seed) * _random(n, d, seed=seed), _random(d, seed=seed + 1), _random(d, seed=seed + 2),
            *factors,
                    about=about)

    return [one(5, 8, 0, 2.0, 1.0), one(4, 6, 3, 0.5, 3.0), one(6, 5, 9, 1.3, 0.7),
            one(3, 4, 6, 1.0, 0.0, about="β may be 0: then the prompt alone counts"),
            one(3, 4, 16, 0.0, 1.0, about="α may be 0: then the source picture alone counts"),
            one(1, 7, 19, 2.0, 1.0, about="a single edit gives one number in a row: the shape is (1,)"),
            one(4, 5, 12, about="where they are not given, α is 2 and β is 1")]


score = Exercise(
    name="score", reference=_losses.score, cases=_score_cases,
    reminder="alpha · cos(edited, prompt) + beta · cos(edited, image)",
    mistakes={
        "α belongs to the prompt and β to the source picture; they are swapped":
            lambda edited, image, prompt, alpha=2.0, beta=1.0: _losses.score(edited, image, prompt, beta, alpha),
        "S is high for good edits: add similarities, not distances": (
            lambda edited, image, prompt, alpha=2.0, beta=1.0:
                alpha * (1 - _cos(edited, prompt)) + beta * (1 - _cos(edited, image)),
            lambda edited, image, prompt, alpha=2.0, beta=1.0: -alpha * _cos(edited, prompt) - beta * _cos(edited,
                image)),
        "likeness to the source picture counts in favour: add it, don't take it off": (
            lambda edited, image, prompt, alpha=2.0, beta=1.0: alpha * _cos(edited, prompt) - beta * _cos(edited,
                image)),
        "bring the embeddings to length 1: S adds cosines, not dot products":
            lambda edited, image, prompt, alpha=2.0, beta=1.0: alpha * (edited @ prompt) + beta * (edited @ image),
        "bring the edits to length 1, too": lambda edited, image, prompt, alpha=2.0, beta=1.0: (
            alpha * (edited @ _unit(prompt)) + beta * (edited @ _unit(image))),
        "bring image and prompt to length 1, too": lambda edited, image, prompt, alpha=2.0, beta=1.0: (
            alpha * (_unit(edited) @ prompt) + beta * (_unit(edited) @ image)),
        "both cosines are those of the edit: one with the prompt, one with the source picture": (
            lambda edited, image, prompt, alpha=2.0, beta=1.0: alpha * _cos(edited, prompt) + beta * _cos(image,
                prompt)),
        "the source picture's part is missing: add β times its cosine with the edit":
            lambda edited, image, prompt, alpha=2.0, beta=1.0: alpha * _cos(edited, prompt),
        "the prompt's part is missing: add α times its cosine with the edit":
            lambda edited, image, prompt, alpha=2.0, beta=1.0: beta * _cos(edited, image),
        "no softmax over the candidates: the official code has one, eq. 7 has not":
            lambda edited, image, prompt, alpha=2.0, beta=1.0:
                alpha * _cos(edited, prompt).softmax(0) + beta * _cos(edited, image).softmax(0),
        "α and β are fixed at 2 and 1: use the ones given": (
            lambda edited, image, prompt, alpha=2.0, beta=1.0: _losses.score(edited, image, prompt)),
        "α and β have no effect: multiply the cosines by them": (
            lambda edited, image, prompt, alpha=2.0, beta=1.0: _cos(edited, prompt) + _cos(edited, image)),
        "S is a sum, not a mean: don't divide by α + β": (
            lambda edited, image, prompt, alpha=2.0, beta=1.0: _losses.score(edited, image, prompt, alpha, beta) / (
                alpha + beta)),
        "each edit has a score of its own: N numbers, not one for all": (
            lambda edited, image, prompt, alpha=2.0, beta=1.0: _losses.score(edited, image, prompt, alpha, beta).mean(),
            lambda edited, image, prompt, alpha=2.0, beta=1.0: _losses.score(edited, image, prompt, alpha, beta).max()),
        "S compares the edit itself, not its change: don't take the source picture off":
            lambda edited, image, prompt, alpha=2.0, beta=1.0: alpha * _cos(edited - image, prompt) + beta * _cos(
                edited, image),
        "where they are not given, α is 2 and β is 1":
            lambda edited, image, prompt, alpha=1.0, beta=1.0: _losses.score(edited, image, prompt, alpha, beta),
    })
