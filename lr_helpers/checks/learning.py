"""Exercises of notebook 05: gradients that arrive, the expected loss, and the estimators of its gradient."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

from lr_helpers.checks.exercise import Exercise
from lr_helpers.learning import Expectation
from lr_helpers.learning import entropy as _entropy
from lr_helpers.learning import leave_one_out as _leave_one_out


def _random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _observed_norms(function: Callable, reached: str) -> dict:
    """The norms of a small network after a backward pass that reached all, only the last layer, or nothing of it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3))
    hidden = network[:2](_random(7, 5))
    out = network[2](hidden.detach() if reached == "last layer" else hidden)
    if reached != "nothing":
        (out.square().sum() * (0.0 if reached == "all, with zeros" else 1.0)).backward()
    return function(network)


def _norms(of: Callable, missing: float | None = None) -> Callable:
    return lambda network: {name: missing if p.grad is None else float(of(p)) for name, p in network.named_parameters()}


gradient_norms = Exercise(
    name="gradient_norms", reference=_norms(lambda p: p.grad.norm()), observe=_observed_norms,
    cases=lambda: [("all",), ("last layer",), ("nothing",), ("all, with zeros",)],
    mistakes={
        "a weight without gradient is not one with gradient 0: its norm is None": _norms(lambda p: p.grad.norm(), 0.0),
        "that is the norm of the weights themselves: take their `.grad`": _norms(lambda p: p.detach().norm()),
        "that is the square of the norm: take its root": _norms(lambda p: p.grad.square().sum()),
        "that is the largest entry; the norm is the root of the sum of squares": _norms(lambda p: p.grad.abs().max()),
        "a gradient of exactly 0 did arrive: test for None, not for truth":
            lambda network: {n: v or None for n, v in _norms(lambda p: p.grad.norm())(network).items()},
        "name every weight, also those without a gradient: they are the point":
            lambda network: {n: float(p.grad.norm()) for n, p in network.named_parameters() if p.grad is not None},
    })


class _Known:
    """A problem whose losses are known."""

    def __init__(self, table: torch.Tensor):
        self.table = table

    def losses(self, choices: torch.Tensor | None) -> torch.Tensor:
        return self.table


def _expected_loss(logits: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    return Expectation()(logits, _Known(table), torch.Generator())


def _tables() -> list[tuple]:
    sizes = ((9, 6), (3, 7), (1, 4), (6, 2))
    return [(_random(k, m, seed=k), 1 + _random(k, m, seed=m + 10)) for k, m in sizes]


expected_loss = Exercise(
    name="expected_loss", reference=_expected_loss, cases=_tables,
    mistakes={
        "each anchor chooses among its M proposals: softmax over the last axis":
            lambda logits, table: (logits.softmax(0) * table).sum(1).mean(),
        "average over the anchors instead of adding them up":
            lambda logits, table: (logits.softmax(1) * table).sum(),
        "add up over the proposals: their probabilities are the weights of the mean already":
            lambda logits, table: (logits.softmax(1) * table).mean(),
        "logits are not probabilities yet: softmax them": lambda logits, table: (logits * table).sum(1).mean(),
        "these are logarithms of probabilities: take softmax, not log_softmax":
            lambda logits, table: (logits.log_softmax(1) * table).sum(1).mean(),
        "that is the loss of the most probable proposal alone: weigh all of them":
            lambda logits, table: table.gather(1, logits.argmax(1, keepdim=True)).mean(),
    })


def _expected_gradient(logits: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    with torch.enable_grad():
        leaf = logits.detach().clone().requires_grad_()
        return torch.autograd.grad(_expected_loss(leaf, table), leaf)[0]


def _mean(logits: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    return (logits.softmax(1) * table).sum(1, keepdim=True)


expected_gradient = Exercise(
    name="expected_gradient", reference=_expected_gradient, cases=_tables,
    mistakes={
        "take the anchor's expected loss off first: a loss is bad only if it is above the average":
            lambda logits, table: logits.softmax(1) * table / len(table),
        "the expected loss is a mean over K anchors: divide by K":
            lambda logits, table: logits.softmax(1) * (table - _mean(logits, table)),
        "the sign is wrong: a loss above the average has a positive gradient, so that a step down makes it rarer":
            lambda logits, table: logits.softmax(1) * (_mean(logits, table) - table) / len(table),
        "compare each loss with the expected loss of its own anchor, not with that of all":
            lambda logits, table: logits.softmax(1) * (table - _mean(logits, table).mean()) / len(table),
        "the average has to be weighted by π, not the plain mean of the row":
            lambda logits, table: logits.softmax(1) * (table - table.mean(1, keepdim=True)) / len(table),
        "a proposal that is hardly ever chosen hardly counts: the factor π is missing":
            lambda logits, table: (table - _mean(logits, table)) / len(table),
        "divide by the number of anchors K, not by that of all K · M proposals":
            lambda logits, table: logits.softmax(1) * (table - _mean(logits, table)) / table.numel(),
    })


leave_one_out = Exercise(
    name="leave_one_out", reference=_leave_one_out,
    cases=lambda: [(1 + _random(4, 9),), (_random(2, 5, seed=1),), (3 * _random(7, 3, seed=2),),
                   (_random(5, 1, seed=3),)],
    mistakes={
        "a draw's own loss is part of its baseline: leave it out, or the gradient is biased":
            lambda losses: losses - losses.mean(0),
        "draws lie along the first axis: compare a draw with the other draws of the same anchor":
            lambda losses: losses - (losses.sum(1, keepdim=True) - losses) / (losses.shape[1] - 1),
        "the sign is wrong: it is the draw's loss minus the mean of the others": lambda losses: -_leave_one_out(losses),
        "there are only R − 1 others: divide by that, not by R":
            lambda losses: losses - (losses.sum(0) - losses) / len(losses),
        "each anchor has a baseline of its own: don't average over all anchors":
            lambda losses: losses - (losses.sum() - losses) / (losses.numel() - 1),
        "that is the baseline itself: take it off the losses":
            lambda losses: (losses.sum(0) - losses) / (len(losses) - 1),
    })


def _surrogate(logits: torch.Tensor, choices: torch.Tensor, advantages: torch.Tensor,
               log: Callable = lambda logits: logits.log_softmax(1)) -> torch.Tensor:
    chosen = log(logits).expand(len(choices), -1, -1).gather(2, choices[..., None])[..., 0]
    return (advantages * chosen).mean()


def _gradient(function: Callable, logits: torch.Tensor, choices: torch.Tensor, advantages: torch.Tensor) -> dict:
    """Is the result one number, and the gradient that goes back to the logits; 0 if it is cut off."""
    leaf = logits.clone().requires_grad_()
    result = function(leaf, choices, advantages)
    gradient = torch.zeros_like(logits)
    if isinstance(result, torch.Tensor) and result.requires_grad:
        gradient = torch.autograd.grad(result.sum(), leaf)[0]
    return {"is a single number": isinstance(result, torch.Tensor) and result.ndim == 0, "gradient": gradient}


def _draws(draws: int, k: int, m: int, seed: int) -> tuple:
    choices = torch.randint(m, (draws, k), generator=torch.Generator().manual_seed(seed))
    return _random(k, m, seed=seed), choices, _random(draws, k, seed=seed + 1)


reinforce_surrogate = Exercise(
    name="reinforce_surrogate", reference=_surrogate, observe=_gradient,
    cases=lambda: [_draws(4, 9, 6, 0), _draws(2, 3, 7, 1), _draws(6, 1, 3, 2), _draws(1, 4, 2, 3)],
    mistakes={
        "the logarithm is missing: this is π of the choice, not log π":
            lambda logits, choices, advantages: _surrogate(logits, choices, advantages, lambda x: x.softmax(1)),
        "the logit itself is not log π: the softmax's normalisation has a gradient too, use log_softmax":
            lambda logits, choices, advantages: _surrogate(logits, choices, advantages, lambda x: x),
        "each anchor chooses among its M proposals: log_softmax over the last axis":
            lambda logits, choices, advantages: _surrogate(logits, choices, advantages, lambda x: x.log_softmax(0)),
        "average over draws and anchors, don't add up":
            lambda logits, choices, advantages: _surrogate(logits, choices, advantages) * choices.numel(),
        "average over the anchors too, not only over the draws":
            lambda logits, choices, advantages: _surrogate(logits, choices, advantages) * choices.shape[1],
        "the sign is wrong: going down this gradient has to make choices with a positive advantage (a high loss) rarer":
            lambda logits, choices, advantages: -_surrogate(logits, choices, advantages),
        "no gradient comes back: log π has to stay in the graph (no detach, no item, no float)":
            lambda logits, choices, advantages: _surrogate(logits.detach(), choices, advantages),
        "every draw has choices of its own; those of the first are used for all":
            lambda logits, choices, advantages: _surrogate(logits, choices[:1].expand_as(choices), advantages),
    })


entropy = Exercise(
    name="entropy", reference=_entropy,
    cases=lambda: [(_random(9, 6),), (3 * _random(4, 7, seed=1),), (torch.zeros(5, 8),),
                   (torch.tensor([[300.0, 0.0, 0.0], [0.0, 1.0, 2.0]]),)],
    mistakes={
        "the mean over the anchors, not their sum": lambda logits: _entropy(logits) * len(logits),
        "the sign is wrong: an entropy is never negative": lambda logits: -_entropy(logits),
        "that is in bits: take the natural logarithm": lambda logits: _entropy(logits) / torch.tensor(2.0).log(),
        "each anchor has a distribution of its own: softmax over the last axis": lambda logits: _entropy(logits.T),
        "add up over the proposals, and average over the anchors only":
            lambda logits: _entropy(logits) / logits.shape[1],
        "the logarithm of π is missing: logits are not normalised, log_softmax is":
            lambda logits: -(logits.softmax(1) * logits).sum(1).mean(),
        "0 · log 0 gives NaN where the network is sure: take log_softmax, not the logarithm of the softmax":
            lambda logits: -(F.softmax(logits, 1) * F.softmax(logits, 1).log()).sum(1).mean(),
    })
