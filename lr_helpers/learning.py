"""Learning which proposal to edit: four gradient estimators behind one interface, and the training loop.

An estimator takes logits (K, M) with gradient, the problem it may ask for losses, and a random generator. It
returns a scalar: its value is the loss it saw, its `backward()` gives the estimator's gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import torch

from lr_helpers.errors import UserError
from lr_helpers.method import ESTIMATORS
from lr_helpers.regions import RegionNetwork, gumbel_softmax, straight_through


class Problem(Protocol):
    """What an estimator may ask for; every new edit has to be paid. `candidates.Candidates` is one."""

    def losses(self, choices: torch.Tensor | None) -> torch.Tensor:
        """(K,) int64 proposal of each anchor → (K,) losses of those edits; None → the whole (K, M) table."""

    def blended(self, weights: torch.Tensor) -> torch.Tensor:
        """(K, M) weights, one-hot in value, with gradient → (K,) losses of m·edit + (1 − m)·source, where the
        mask m is the weighted sum of the proposals' masks; differentiable in the weights.
        """


Estimator = Callable[[torch.Tensor, Problem, torch.Generator], torch.Tensor]


def _uniform(logits: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return torch.rand(logits.shape, generator=generator)


def sample(logits: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """One proposal of each anchor drawn from the softmax of its logits (K, M) → (K,) int64 (Gumbel-max)."""
    return gumbel_softmax(logits.detach(), 1.0, _uniform(logits, generator)).argmax(dim=1)


def shortlisted(logits: torch.Tensor, kept: torch.Tensor | None) -> torch.Tensor:
    """Logits (K, M) with probability 0, and no gradient, where the boolean `kept` is false."""
    return logits if kept is None else logits.masked_fill(~kept, -1e4)  # not −∞: the entropy would be NaN


def leave_one_out(losses: torch.Tensor) -> torch.Tensor:
    """Each draw's loss less the mean of its anchor's other draws: (R, K) → (R, K), R ≥ 2."""
    return losses - (losses.sum(0) - losses) / (len(losses) - 1)


def entropy(logits: torch.Tensor) -> torch.Tensor:
    """How undecided the softmax of logits (K, M) is, averaged over the anchors: 0 … log M."""
    return -(logits.softmax(dim=1) * logits.log_softmax(dim=1)).sum(dim=1).mean()


@dataclass(frozen=True)
class Expectation:
    """Σ_m π_km L_km, averaged over the anchors: exact and without noise; every edit is paid for once. Ours."""

    def __call__(self, logits: torch.Tensor, problem: Problem, generator: torch.Generator) -> torch.Tensor:
        return (logits.softmax(dim=1) * problem.losses(None)).sum(dim=1).mean()


@dataclass(frozen=True)
class Reinforce:
    """The score-function estimator: L · ∇ log π of sampled proposals. Unbiased, pays only for what it draws. Ours.

    With `baseline`, each draw's loss is compared with the mean of the other draws of its anchor (leave one out),
    which lowers the variance and leaves the mean as it is; needs at least two `samples`.
    """

    samples: int = 4
    baseline: bool = True

    def __post_init__(self) -> None:
        if self.samples < 1 + self.baseline:
            raise UserError(f"samples is {self.samples}; the leave-one-out baseline needs at least 2.")

    def __call__(self, logits: torch.Tensor, problem: Problem, generator: torch.Generator) -> torch.Tensor:
        choices = torch.stack([sample(logits, generator) for _ in range(self.samples)])  # (R, K)
        losses = torch.stack([problem.losses(c) for c in choices]).detach()
        advantages = leave_one_out(losses) if self.baseline else losses
        log_chosen = logits.log_softmax(dim=1).expand(self.samples, -1, -1).gather(2, choices[..., None])[..., 0]
        surrogate = (advantages * log_chosen).mean()
        return surrogate + (losses.mean() - surrogate).detach()


@dataclass(frozen=True)
class StraightThrough:
    """Gumbel-softmax, straight through (section 3.2 of the paper): the edit of one sampled proposal, pasted with a
    mask through which the gradient reaches all proposals' weights. Biased: it feels only what is in the picture.
    """

    temperature: float = 1.0

    def __call__(self, logits: torch.Tensor, problem: Problem, generator: torch.Generator) -> torch.Tensor:
        soft = gumbel_softmax(logits, self.temperature, _uniform(logits, generator))
        return problem.blended(straight_through(soft)).mean()


@dataclass(frozen=True)
class NoGradient:
    """What the official code does: a proposal is sampled, edited and judged, but the picture has left the graph
    (as 8-bit pixels), and `requires_grad_` on the loss makes a leaf. No gradient reaches the network.
    """

    def __call__(self, logits: torch.Tensor, problem: Problem, generator: torch.Generator) -> torch.Tensor:
        return problem.losses(sample(logits, generator)).mean().detach().requires_grad_(True)


def make_estimator(name: str, temperature: float = 1.0, samples: int = 4) -> Estimator:
    """The estimator of this name; `temperature` is for straight_through, `samples` for reinforce."""
    made = {"expectation": Expectation, "none": NoGradient,
            "reinforce": lambda: Reinforce(samples), "straight_through": lambda: StraightThrough(temperature)}
    if name not in made:
        raise UserError(f"estimator is {name!r}; choose one of {', '.join(ESTIMATORS)}.")
    return made[name]()


@dataclass
class History:
    """What happened at each update; every list has one entry an iteration."""

    loss: list[float] = field(default_factory=list)
    gradient_norm: list[float | None] = field(default_factory=list)
    """Norm over all weights; None where no weight had a gradient at all."""
    probabilities: list[list[list[float]]] = field(default_factory=list)
    """π as (K, M) lists, before the update."""


def learn(network: RegionNetwork, pooled: torch.Tensor, problem: Problem, *, estimator: Estimator, iterations: int,
          lr: float, generator: torch.Generator, entropy_weight: float = 0.0,
          update_every: int = 1, kept: torch.Tensor | None = None) -> History:
    """Train the region network in place with Adam on pooled proposals (K, M·d, l, l); returns the history.

    `entropy_weight`, in units of the loss, rewards undecided probabilities at first and fades to 0 linearly:
    without it the softmax saturates on the first good size, and its gradient dies. It is left out where the
    loss is a leaf, because there no gradient of any kind reaches the network. `update_every` 25 is the official
    code's habit: its optimiser steps at iterations 0, 25, … only. `kept` (K, M) boolean is the shortlist: all
    other proposals have probability 0 (see `shortlisted`).
    """
    optimiser = torch.optim.Adam(network.parameters(), lr=lr)
    history = History()
    for step in range(iterations):
        logits = shortlisted(network(pooled), kept)
        loss = estimator(logits, problem, generator)
        if not loss.isfinite():
            raise UserError(f"The loss is {float(loss.detach())} at iteration {step + 1}; the learning left the finite "
                            "numbers: give a lower lr, a higher temperature, or smaller weights.")
        objective = loss
        if entropy_weight and not loss.is_leaf:
            objective = loss - entropy_weight * (1 - step / iterations) * entropy(logits)
        optimiser.zero_grad(set_to_none=True)
        objective.backward()
        gradients = [p.grad for p in network.parameters() if p.grad is not None]
        history.loss.append(float(loss.detach()))
        history.gradient_norm.append(
            float(torch.stack([g.norm() for g in gradients]).norm()) if gradients else None)
        history.probabilities.append(logits.detach().softmax(dim=1).tolist())
        if step % update_every == 0:
            optimiser.step()
    return history
