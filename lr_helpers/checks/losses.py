"""Exercises of notebook 04: the three losses, their sum, and the ranking S."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from lr_helpers import losses as _losses
from lr_helpers.checks.exercise import Exercise


def _random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _plain_distance(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Without a word for zero vectors: 0 / 0 is NaN."""
    return 1 - (a * b).sum(-1) / (a.norm(dim=-1) * b.norm(dim=-1))


cosine_distance = Exercise(
    name="cosine_distance", reference=_losses.cosine_distance,
    cases=lambda: [(_random(5, 8), _random(8, seed=1)),
                   (_random(4, 6), 3 * _random(4, 6, seed=2)),
                   (_random(3, 1, 7), _random(1, 4, 7, seed=3)),
                   (torch.stack([torch.zeros(3), torch.ones(3)]), torch.tensor([1.0, 0.0, 0.0]))],
    mistakes={
        "that is the similarity: the distance is 1 minus it, 0 where both point the same way":
            lambda a, b: 1 - _losses.cosine_distance(a, b),
        "the lengths still count: divide the dot product by the lengths of both vectors":
            lambda a, b: 1 - (a * b).sum(-1),
        "only one of the two vectors is brought to length 1":
            lambda a, b: 1 - (a * F.normalize(b, dim=-1)).sum(-1),
        "the vectors lie along the last axis: take lengths and sums over that one":
            lambda a, b: 1 - (F.normalize(a, dim=0) * F.normalize(b, dim=0)).sum(-1),
        "a vector of length 0 gives 0 / 0: keep the divisor above a tiny number, so that its distance is 1":
            _plain_distance,
    })


def _unit(tokens: torch.Tensor) -> torch.Tensor:
    return F.normalize(tokens, dim=-1)


self_similarity = Exercise(
    name="self_similarity", reference=_losses.self_similarity,
    cases=lambda: [(_random(2, 6, 4),), (_random(3, 5, 9, seed=1),), (10 * _random(1, 4, 4, seed=2),),
                   (torch.ones(1, 2, 3),)],
    mistakes={
        "the tokens' lengths still count: bring each to length 1 before the products":
            lambda tokens: tokens @ tokens.transpose(-1, -2),
        "each token is a vector along the last axis: normalise over that one, not over the tokens":
            lambda tokens: F.normalize(tokens, dim=-2) @ F.normalize(tokens, dim=-2).transpose(-1, -2),
        "compare tokens with tokens, not channels with channels: the result is L × L":
            lambda tokens: _unit(tokens).transpose(-1, -2) @ _unit(tokens),
        "that is a distance: Q holds similarities, and 1 on its diagonal":
            lambda tokens: 1 - _losses.self_similarity(tokens),
        "compare only tokens of the same picture: N matrices, no pairs across pictures":
            lambda tokens: _unit(tokens).flatten(0, 1) @ _unit(tokens).flatten(0, 1).T,
    })


def _change(edited: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
    """(N, L, L) change of the self-similarity."""
    return _losses.self_similarity(edited) - _losses.self_similarity(image[None])


structure_loss = Exercise(
    name="structure_loss", reference=_losses.structure_loss,
    cases=lambda: [(_random(3, 6, 4), _random(6, 4, seed=1)),
                   (_random(1, 9, 5, seed=2), _random(9, 5, seed=3)),
                   (torch.stack([_random(5, 7, seed=4), _random(5, 7, seed=5)]), _random(5, 7, seed=4)),
                   (_random(2, 1, 3, seed=6), _random(1, 3, seed=7))],
    mistakes={
        "the norm grows with the number of tokens: divide it by L":
            lambda e, i: torch.linalg.matrix_norm(_change(e, i)),
        "that is the mean square: take its root": lambda e, i: _change(e, i).square().mean((-1, -2)),
        "each picture has a loss of its own: N numbers, not one for all":
            lambda e, i: _losses.structure_loss(e, i).mean(),
        "divided once too often: an L × L matrix has L² entries, and the root of L² is L":
            lambda e, i: torch.linalg.matrix_norm(_change(e, i)) / e.shape[-2] ** 2,
        "compare the self-similarities, not the tokens themselves":
            lambda e, i: torch.linalg.matrix_norm(e - i) / e.shape[-2],
        "that is the mean absolute difference: the norm squares, sums, and takes the root":
            lambda e, i: _change(e, i).abs().mean((-1, -2)),
    })


def _direction_cases() -> list[tuple]:
    image, source, prompt = _random(6), _random(6, seed=2), _random(6, seed=1)
    edited = torch.stack([image, image + prompt - source, image - prompt + source, _random(6, seed=3)])
    return [(_random(5, 8), _random(8, seed=1), _random(8, seed=2), _random(8, seed=3)),
            (F.normalize(_random(3, 4, seed=4), dim=-1), *F.normalize(_random(3, 4, seed=5), dim=-1)),
            (edited, image, source, prompt)]


direction_loss = Exercise(
    name="direction_loss", reference=_losses.direction_loss,
    cases=_direction_cases,
    mistakes={
        "the direction of the text goes from the source to the prompt: prompt − source":
            lambda edited, image, source, prompt: _losses.direction_loss(edited, image, prompt, source),
        "take the source picture's embedding off the edit's: a direction is a difference":
            lambda edited, image, source, prompt: _losses.cosine_distance(edited, prompt - source),
        "take the source's text off the prompt's: a direction is a difference":
            lambda edited, image, source, prompt: _losses.cosine_distance(edited - image, prompt),
        "that is the similarity of the two directions: the loss is 1 minus it":
            lambda edited, image, source, prompt: 1 - _losses.direction_loss(edited, image, source, prompt),
        "the two directions have to be brought to length 1":
            lambda edited, image, source, prompt: 1 - (edited - image) @ (prompt - source),
        "an edit that changes nothing gives 0 / 0: its loss is 1":
            lambda edited, image, source, prompt: _plain_distance(edited - image, prompt - source),
    })


def _best_proposals(tables: dict[str, torch.Tensor], weights: dict[str, float]) -> torch.Tensor:
    return sum(weights.get(name, 0.0) * table for name, table in tables.items()).argmin(dim=1)


def _tables(k: int, m: int, names: str, seed: int) -> dict[str, torch.Tensor]:
    return {name: _random(k, m, seed=seed + i).abs() for i, name in enumerate(names.split())}


best_proposals = Exercise(
    name="best_proposals", reference=_best_proposals,
    cases=lambda: [(_tables(9, 6, "clip structure direction", 0), {"clip": 1.0, "structure": 1.0, "direction": 1.0}),
                   (_tables(4, 7, "clip structure direction", 10), {"clip": 0.1, "structure": 3.0, "direction": 0.5}),
                   (_tables(8, 5, "clip structure source", 20), {"structure": 2.0, "source": -1.0}),
                   (_tables(5, 5, "clip area", 30), {"clip": 1.0, "area": 0.0})],
    mistakes={
        "low losses are good: take the smallest, not the largest":
            lambda tables, weights: _best_proposals({n: -t for n, t in tables.items()}, weights),
        "each anchor chooses among its own M proposals: go along the row, K answers":
            lambda tables, weights: sum(weights.get(n, 0.0) * t for n, t in tables.items()).argmin(dim=0),
        "the weights have no effect: multiply each table by its own":
            lambda tables, weights: sum(tables.values()).argmin(dim=1),
        "a term without a weight counts nothing: 0, not 1":
            lambda tables, weights: _best_proposals(tables, {n: weights.get(n, 1.0) for n in tables}),
        "one answer for each anchor, not one for the whole table":
            lambda tables, weights: sum(weights.get(n, 0.0) * t for n, t in tables.items()).argmin(),
    })


def _cos(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return F.cosine_similarity(a, b, dim=-1)


score = Exercise(
    name="score", reference=_losses.score,
    cases=lambda: [(_random(5, 8), _random(8, seed=1), _random(8, seed=2), 2.0, 1.0),
                   (3 * _random(4, 6, seed=3), _random(6, seed=4), _random(6, seed=5), 0.5, 3.0),
                   (_random(3, 4, seed=6), _random(4, seed=7), _random(4, seed=8), 1.0, 0.0)],
    mistakes={
        "α belongs to the prompt and β to the source picture; they are swapped":
            lambda edited, image, prompt, alpha, beta: _losses.score(edited, image, prompt, beta, alpha),
        "S is high for good edits: add similarities, not distances":
            lambda edited, image, prompt, alpha, beta:
                alpha * (1 - _cos(edited, prompt)) + beta * (1 - _cos(edited, image)),
        "bring the embeddings to length 1: S adds cosines, not dot products":
            lambda edited, image, prompt, alpha, beta: alpha * (edited @ prompt) + beta * (edited @ image),
        "both cosines are those of the edit: one with the prompt, one with the source picture":
            lambda edited, image, prompt, alpha, beta: alpha * _cos(edited, prompt) + beta * _cos(image, prompt),
        "no softmax over the candidates: the official code has one, eq. 7 has not":
            lambda edited, image, prompt, alpha, beta:
                alpha * _cos(edited, prompt).softmax(0) + beta * _cos(edited, image).softmax(0),
        "α and β are fixed at 2 and 1: use the ones given":
            lambda edited, image, prompt, alpha, beta: _losses.score(edited, image, prompt),
    })
