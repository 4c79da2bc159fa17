"""Learning which proposal to edit: gradient estimators behind one interface, and the training loop.

An estimator takes logits (K, M) with gradient, a function `losses(choices)` that pays for edits, and a
random generator; it returns a scalar whose `backward()` gives its gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from lr_helpers.regions import RegionNetwork

Losses = Callable[[torch.Tensor | None], torch.Tensor]
"""(K,) int64 proposal of each anchor → (K,) losses of those edits; None → the whole (K, M) table."""

Estimator = Callable[[torch.Tensor, Losses, torch.Generator], torch.Tensor]


def expectation(logits: torch.Tensor, losses: Losses, generator: torch.Generator) -> torch.Tensor:
    """Σ_m π_km L_km, averaged over the anchors: exact and without noise; every edit is paid for once."""
    return (logits.softmax(dim=1) * losses(None)).sum(dim=1).mean()


def none(logits: torch.Tensor, losses: Losses, generator: torch.Generator) -> torch.Tensor:
    """What the official code does: a proposal is sampled, edited and judged, but the picture has left the
    graph (as 8-bit pixels), and `requires_grad_` on the loss makes a leaf. No gradient reaches the network.
    """
    uniform = torch.rand(logits.shape, generator=generator).clamp(min=1e-20)
    sampled = (logits.detach() - (-uniform.log()).log()).argmax(dim=1)  # the Gumbel-max trick
    return losses(sampled).mean().detach().requires_grad_(True)


ESTIMATORS: dict[str, Estimator] = {"expectation": expectation, "none": none}


@dataclass
class History:
    """What happened at each update; every list has one entry an iteration."""

    loss: list[float] = field(default_factory=list)
    gradient_norm: list[float | None] = field(default_factory=list)
    """Norm over all weights; None where no weight had a gradient at all."""
    probabilities: list[list[list[float]]] = field(default_factory=list)
    """π as (K, M) lists, before the update."""


def learn(network: RegionNetwork, pooled: torch.Tensor, losses: Losses, *, estimator: str, iterations: int,
          lr: float, generator: torch.Generator, entropy_weight: float = 0.0) -> History:
    """Train the region network in place with Adam on pooled proposals (K, M·d, l, l); returns the history.

    `entropy_weight`, in units of the loss, rewards undecided probabilities at first and fades to 0 linearly:
    without it the softmax saturates on the first good size, and its gradient dies. It is left out under
    `none`, where no gradient of any kind reaches the network.
    """
    optimiser = torch.optim.Adam(network.parameters(), lr=lr)
    history = History()
    for step in range(iterations):
        logits = network(pooled)
        loss = ESTIMATORS[estimator](logits, losses, generator)
        objective = loss
        if entropy_weight and estimator != "none":
            entropy = -(logits.softmax(dim=1) * logits.log_softmax(dim=1)).sum(dim=1).mean()
            objective = loss - entropy_weight * (1 - step / iterations) * entropy
        optimiser.zero_grad(set_to_none=True)
        objective.backward()
        gradients = [p.grad for p in network.parameters() if p.grad is not None]
        history.loss.append(float(loss.detach()))
        history.gradient_norm.append(
            float(torch.stack([g.norm() for g in gradients]).norm()) if gradients else None)
        history.probabilities.append(logits.detach().softmax(dim=1).tolist())
        optimiser.step()
    return history
