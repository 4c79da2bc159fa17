"""Exercises of notebook 05: gradients that arrive, the expected loss, and the estimators of its gradient."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

from lr_helpers.checks.exercise import NO_GRADIENT, Exercise, case, forward_and_gradient
from lr_helpers.learning import Expectation
from lr_helpers.learning import entropy as _entropy
from lr_helpers.learning import leave_one_out as _leave_one_out


def _random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# gradient_norms

NORMS = "the norms"
UNTOUCHED = "weights and gradients stay as they were"
IN_ORDER = "the weights' names, in their order"


def _small_network(nested: bool) -> tuple[nn.Module, torch.Tensor]:
    """A network and what goes into it; nested, there are layers in layers, a convolution, and a frozen bias."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if not nested:
            return nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)), _random(7, 5)
        look = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1, bias=False), nn.Tanh())
        network = nn.Sequential(OrderedDict(look=look, flat=nn.Flatten(), score=nn.Linear(12, 2)))
    network.score.bias.requires_grad_(False)
    return network, _random(5, 2, 2, 2)


def _observed_norms(function: Callable, backward_reached: str) -> dict | None:
    """The norms of a small network after a backward pass that reached all, only the last layer, or nothing of it.

    None where nothing was returned.
    """
    network, given = _small_network(nested=backward_reached == "everything but a frozen bias")
    hidden = network[:2](given)
    out = network[2](hidden.detach() if backward_reached == "the last layer" else hidden)
    if backward_reached != "nothing":
        (out.square().sum() * (0.0 if backward_reached == "everything, with zeros" else 1.0)).backward()

    def state() -> list:
        return [(p.detach().clone(), None if p.grad is None else p.grad.clone()) for p in network.parameters()]

    before, found = state(), function(network)
    if found is None:
        return None
    same = all(torch.equal(a, c) and ((b is None) == (d is None)) and (b is None or torch.equal(b, d))
               for (a, b), (c, d) in zip(before, state(), strict=True))
    order = ", ".join(map(str, found)) if isinstance(found, dict) else ""
    return {UNTOUCHED: same, NORMS: found, IN_ORDER: order}


def _norms(of: Callable, missing: float | None = None) -> Callable:
    return lambda network: {name: missing if p.grad is None else float(of(p)) for name, p in network.named_parameters()}


def _emptied(network: nn.Module) -> dict:
    norms = _norms(lambda p: p.grad.norm())(network)
    network.zero_grad(set_to_none=True)
    return norms


def _norms_by(name: Callable) -> Callable:
    return lambda network: {name(i, n): None if p.grad is None else float(p.grad.norm())
                            for i, (n, p) in enumerate(network.named_parameters())}


gradient_norms = Exercise(
    name="gradient_norms", reference=_norms(lambda p: p.grad.norm()), observe=_observed_norms,
    cases=lambda: [("everything",),
                   case("the last layer", about="a weight whose `.grad` is None has the norm None: test for it first"),
                   case("nothing", about="a weight whose `.grad` is None has the norm None: test for it first"),
                   case("everything, with zeros",
                        about="a gradient of exactly 0 did arrive: its norm is 0.0, not None"),
                   case("everything but a frozen bias",
                        about="a network may hold other layers than linear ones, layers in layers, and weights that "
                              "are frozen: named_parameters() names them all")],
    reminder="for each name and weight of network.named_parameters(): None where grad is None, else float(grad.norm())",
    mistakes={
        "a weight without gradient is not one with gradient 0: its norm is None": _norms(lambda p: p.grad.norm(), 0.0),
        "a weight without gradient has the norm None, not NaN": _norms(lambda p: p.grad.norm(), float("nan")),
        "that is the norm of the weights themselves: take their `.grad`": (
            _norms(lambda p: p.detach().norm()),
            lambda network: {n: float(p.norm()) for n, p in network.named_parameters()}),
        "that is the square of the norm: take its root": _norms(lambda p: p.grad.square().sum()),
        "that is the largest entry; the norm is the root of the sum of squares": _norms(lambda p: p.grad.abs().max()),
        "that is the sum of absolute values; the Euclidean norm is the root of the sum of squares": (
            _norms(lambda p: p.grad.abs().sum())),
        "that is a mean; the Euclidean norm is the root of the sum of squares": (
            _norms(lambda p: p.grad.square().mean().sqrt()), _norms(lambda p: p.grad.abs().mean()),
            _norms(lambda p: p.grad.mean())),
        "that is a sum in which up and down cancel out; the norm is the root of the sum of squares":
            _norms(lambda p: p.grad.sum()),
        "a matrix counts as one long vector: its Euclidean norm, not its largest singular value":
            _norms(lambda p: p.grad.norm() if p.ndim < 2 else torch.linalg.matrix_norm(p.grad, 2).norm()),
        "a gradient of exactly 0 did arrive: test for None, not for truth":
            lambda network: {n: v or None for n, v in _norms(lambda p: p.grad.norm())(network).items()},
        "name every weight, also those without a gradient: they are the point":
            lambda network: {n: float(p.grad.norm()) for n, p in network.named_parameters() if p.grad is not None},
        "the gradients are gone afterwards: only look at them, no zero_grad": _emptied,
        "use the names of named_parameters(), not their numbers": _norms_by(lambda i, n: i),
        "use the whole names of named_parameters(), with the layer's number":
            _norms_by(lambda i, n: n.split(".")[-1] + str(i)),
        "one norm for each weight, not for each layer": lambda network: {
            str(i): None if m.weight.grad is None else float(m.weight.grad.norm())
            for i, m in enumerate(network) if isinstance(m, nn.Linear)},
        "name the biases as well: they are weights, too": lambda network: {
            n: None if p.grad is None else float(p.grad.norm()) for n, p in network.named_parameters(
                ) if "bias" not in n},
    })


# expected_loss and expected_gradient


class _Known:
    """A problem whose losses are known."""

    def __init__(self, table: torch.Tensor):
        self.table = table

    def losses(self, choices: torch.Tensor | None) -> torch.Tensor:
        return self.table


def _expected_loss(logits: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    return Expectation()(logits, _Known(table), torch.Generator())


def _tables() -> list[tuple]:
    sizes = ((9, 6, ""), (3, 7, ""), (6, 2, ""), (5, 5, ""), (1, 4, "there may be one anchor only"),
             (4, 1, "with one proposal there is nothing to choose: its probability is 1"))
    plain = [case(_random(k, m, seed=k), 1 + _random(k, m, seed=m + 10), about=about) for k, m, about in sizes]
    middling = torch.tensor([[9.0, 6.0, 0.0], [0.0, -7.0, 1.0]])
    large = torch.tensor([[200.0, 198.0, 0.0], [0.0, -150.0, 1.0]])
    return [*plain,
            case(middling, 1 + _random(2, 3, seed=30), about="logits are any numbers: don't cut them off"),
            case(large, 1 + _random(2, 3, seed=31),
                 about="logits may be large, and e to the power of hundreds is ∞: let softmax do it, which is safe")]


expected_loss = Exercise(
    name="expected_loss", reference=_expected_loss, observe=forward_and_gradient, cases=_tables,
    reminder="softmax along axis 1, times the table, summed over the proposals, averaged over the anchors",
    mistakes={
        "each anchor chooses among its M proposals: softmax over the last axis":
            lambda logits, table: (logits.softmax(0) * table).sum(1).mean(),
        "each anchor chooses for itself: softmax over the last axis, not over all K · M at once": (
            lambda logits, table: (logits.flatten().softmax(0).reshape(logits.shape) * table).sum(1).mean(),
            lambda logits, table: (logits.flatten().softmax(0).reshape(logits.shape) * table).sum()),
        "average over the anchors instead of adding them up":
            lambda logits, table: (logits.softmax(1) * table).sum(),
        "add up over the proposals: their probabilities are the weights of the mean already":
            lambda logits, table: (logits.softmax(1) * table).mean(),
        "add up over the proposals and average over the anchors, not the other way round":
            lambda logits, table: (logits.softmax(1) * table).mean(1).sum(),
        "logits are not probabilities yet: softmax them": lambda logits, table: (logits * table).sum(1).mean(),
        "these are logarithms of probabilities: take softmax, not log_softmax":
            lambda logits, table: (logits.log_softmax(1) * table).sum(1).mean(),
        "probabilities of a choice sum to 1: softmax, not sigmoid":
            lambda logits, table: (logits.sigmoid() * table).sum(1).mean(),
        "probabilities sum to 1: divide e^logit by the sum over the proposals":
            lambda logits, table: (logits.exp() * table).sum(1).mean(),
        "e to the power of hundreds is ∞, and ∞ / ∞ is NaN: let softmax do it, which is safe":
            lambda logits, table: (logits.exp() / logits.exp().sum(1, keepdim=True) * table).sum(1).mean(),
        "high logits are probable: don't take the softmax of −logits": lambda logits, table: (
            (-logits).softmax(1) * table).sum(1).mean(),
        "a loss is to be expected, not a reward: the sign is wrong":
            lambda logits, table: -_expected_loss(logits, table),
        "that is the plain mean of the table: weigh each loss by its probability":
            lambda logits, table: table.mean() + 0 * (
            logits.sum()),
        "that is the loss of the most probable proposal alone: weigh all of them":
            lambda logits, table: table.gather(1, logits.argmax(1, keepdim=True)).mean() + 0 * logits.sum(),
        "one number for all: average over the anchors": lambda logits, table: (logits.softmax(1) * table).sum(1),
        "no gradient comes back to the logits: don't detach them, and return a tensor": (
            lambda logits, table: _expected_loss(logits.detach(), table),
            lambda logits, table: _expected_loss(logits, table).item()),
    })


def _expected_gradient(logits: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    with torch.enable_grad():
        leaf = logits.detach().clone().requires_grad_()
        return torch.autograd.grad(_expected_loss(leaf, table), leaf)[0]


def _mean(logits: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    return (logits.softmax(1) * table).sum(1, keepdim=True)


expected_gradient = Exercise(
    name="expected_gradient", reference=_expected_gradient, cases=_tables,
    reminder="for each logit a product of three things: how probable the proposal is (π, the softmax along axis 1), "
             "how much worse than its anchor's average, and 1 / K",
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
        "the average is a sum over the proposals: π weighs them already, don't take the mean once more": (
            lambda logits, table: logits.softmax(1) * (
                table - (logits.softmax(1) * table).mean(1, keepdim=True)) / len(table)),
        "a proposal that is hardly ever chosen hardly counts: the factor π is missing":
            lambda logits, table: (table - _mean(logits, table)) / len(table),
        "divide by the number of anchors K, not by that of all K · M proposals":
            lambda logits, table: logits.softmax(1) * (table - _mean(logits, table)) / table.numel(),
        "divide by the number of anchors K, not by that of proposals M":
            lambda logits, table: logits.softmax(1) * (table - _mean(logits, table)) / table.shape[1],
        "the factor is π: logits are not probabilities":
            lambda logits, table: logits * (table - _mean(logits, table)) / len(
            table),
        "the factor is π once, not π (1 − π): the other proposals change, too":
            lambda logits, table: logits.softmax(1) * (1 - logits.softmax(1)) * table / len(table),
        "the factor is π once, not its square":
            lambda logits, table: logits.softmax(1) ** 2 * (table - _mean(logits, table)) / len(table),
        "each anchor chooses among its M proposals: softmax over the last axis": lambda logits, table: (
            logits.softmax(0) * (table - (logits.softmax(0) * table).sum(0, keepdim=True)) / len(table)),
        "a derivative for each logit: the shape is (K, M), nothing is added up": (
            lambda logits, table: _expected_gradient(logits, table).sum(1), lambda logits, table: _expected_gradient(
                logits, table).mean()),
    })


# leave_one_out and reinforce_surrogate


leave_one_out = Exercise(
    name="leave_one_out", reference=_leave_one_out,
    cases=lambda: [(1 + _random(4, 9),), (3 * _random(7, 3, seed=2),), (_random(5, 5, seed=5),),
                   case(_random(2, 5, seed=1), about="of two draws each is compared with the other"),
                   case(_random(5, 1, seed=3), about="there may be one anchor only: (R, 1)"),
                   case(torch.tensor([[1.0, 2.0], [1.0, 5.0], [4.0, 2.0], [1.0, 2.0]]),
                        about="draws may have equal losses: leave out the draw itself, by its place and not by its "
                              "value")],
    reminder="losses − (losses.sum(0) − losses) / (R − 1)",
    mistakes={
        "a draw's own loss is part of its baseline: leave it out, or the gradient is biased":
            lambda losses: losses - losses.mean(0),
        "draws lie along the first axis: compare a draw with the other draws of the same anchor": (
            lambda losses: losses - (losses.sum(1, keepdim=True) - losses) / max(losses.shape[1] - 1, 1),
            lambda losses: losses - losses.mean(1, keepdim=True)),
        "the sign is wrong: it is the draw's loss minus the mean of the others": lambda losses: -_leave_one_out(losses),
        "there are only R − 1 others: divide by that, not by R":
            lambda losses: losses - (losses.sum(0) - losses) / len(losses),
        "there are R − 1 others without the draw: divide by that, not by R − 2 or R + 1": (
            lambda losses: losses - (losses.sum(0) - losses) / (len(losses) + 1),),
        "the draw's own loss is still in the sum: take it off before you divide by R − 1":
            lambda losses: losses - losses.sum(0) / (len(losses) - 1),
        "that is the sum of the others: divide it by R − 1": lambda losses: losses - (losses.sum(0) - losses),
        "each anchor has a baseline of its own: don't average over all anchors": (
            lambda losses: losses - (losses.sum() - losses) / (losses.numel() - 1),
            lambda losses: losses - losses.mean()),
        "that is the baseline itself: take it off the losses":
            lambda losses: (losses.sum(0) - losses) / (len(losses) - 1),
        "a baseline is a mean of the other draws: not the previous draw alone":
            lambda losses: losses - losses.roll(1, 0),
        "a baseline is a mean of the other draws: not the lowest, the highest or the middle one": (
            lambda losses: losses - losses.amin(0), lambda losses: losses - losses.amax(0),
            lambda losses: losses - losses.median(0).values),
        "take the mean off, and nothing more: don't divide by the deviation": (
            lambda losses: (losses - losses.mean(0)) / losses.std(0),
            lambda losses: _leave_one_out(losses) / losses.std(0)),
        "each draw has a number of its own: don't average them": lambda losses: _leave_one_out(losses).mean(0),
    })


def _surrogate(logits: torch.Tensor, choices: torch.Tensor, advantages: torch.Tensor,
               log: Callable = lambda logits: logits.log_softmax(1)) -> torch.Tensor:
    chosen = log(logits).expand(len(choices), -1, -1).gather(2, choices[..., None])[..., 0]
    return (advantages * chosen).mean()


def _gradient(function: Callable, logits: torch.Tensor, choices: torch.Tensor, advantages: torch.Tensor) -> dict | None:
    """Is the result one number, and the gradient that goes back to the logits. None where nothing was returned."""
    leaf = logits.clone().requires_grad_()
    result = function(leaf, choices, advantages)
    if result is None:
        return None
    gradient = NO_GRADIENT
    if isinstance(result, torch.Tensor) and result.requires_grad:
        gradient, = torch.autograd.grad(result.sum(), leaf, allow_unused=True)
        gradient = NO_GRADIENT if gradient is None else gradient
    return {"a single number": getattr(result, "ndim", 0) == 0, "gradient": gradient}


def _draws(draws: int, k: int, m: int, seed: int, about: str = "") -> tuple:
    choices = torch.randint(m, (draws, k), generator=torch.Generator().manual_seed(seed))
    return case(_random(k, m, seed=seed), choices, _random(draws, k, seed=seed + 1), about=about)


reinforce_surrogate = Exercise(
    name="reinforce_surrogate", reference=_surrogate, observe=_gradient,
    cases=lambda: [_draws(4, 9, 6, 0), _draws(2, 3, 7, 1), _draws(5, 4, 4, 5),
                   _draws(6, 1, 3, 2, "there may be one anchor only"), _draws(1, 4, 2, 3,
                       "there may be one draw only")],
    reminder="the mean over draws and anchors of advantage · log_softmax(logits) at the choice",
    mistakes={
        "the logarithm is missing: this is π of the choice, not log π":
            lambda logits, choices, advantages: _surrogate(logits, choices, advantages, lambda x: x.softmax(1)),
        "the logit itself is not log π: the softmax's normalisation has a gradient too, use log_softmax": (
            lambda logits, choices, advantages: _surrogate(logits, choices, advantages, lambda x: x),
            lambda logits, choices, advantages: _surrogate(
                logits, choices, advantages, lambda x: x - x.logsumexp(1, keepdim=True).detach())),
        "each anchor chooses among its M proposals: log_softmax over the last axis":
            lambda logits, choices, advantages: _surrogate(logits, choices, advantages, lambda x: x.log_softmax(0)),
        "average over draws and anchors, don't add up":
            lambda logits, choices, advantages: _surrogate(logits, choices, advantages) * choices.numel(),
        "average over the anchors too, not only over the draws":
            lambda logits, choices, advantages: _surrogate(logits, choices, advantages) * choices.shape[1],
        "average over the draws too, not only over the anchors":
            lambda logits, choices, advantages: _surrogate(logits, choices, advantages) * choices.shape[0],
        "divide by the draws and anchors, not by the proposals too":
            lambda logits, choices, advantages: _surrogate(logits, choices, advantages) / logits.shape[1],
        "the sign is wrong: going down this gradient has to make choices with a positive advantage (a high loss) rarer":
            lambda logits, choices, advantages: -_surrogate(logits, choices, advantages),
        "no gradient comes back: log π has to stay in the graph (no detach, no item, no float)": (
            lambda logits, choices, advantages: _surrogate(logits.detach(), choices, advantages),
            lambda logits, choices, advantages: _surrogate(logits, choices, advantages).item()),
        "gather(1, choices) takes row r of the table for draw r, but rows are anchors: gather(1, choices.T), which "
        "gives (K, R), or rows picked by torch.arange(K)":
            lambda logits, choices, advantages: (advantages * logits.log_softmax(1).gather(1, choices)).mean(),
        "every draw has choices of its own; those of the first are used for all":
            lambda logits, choices, advantages: _surrogate(logits, choices[:1].expand_as(choices), advantages),
        "every draw has advantages of its own; those of the first are used for all":
            lambda logits, choices, advantages: _surrogate(logits, choices, advantages[:1].expand_as(advantages)),
        "the advantages have no effect: multiply log π by them":
            lambda logits, choices, advantages: _surrogate(logits, choices, torch.ones_like(advantages)),
        "each choice has its own advantage: multiply before you average": (
            lambda logits, choices, advantages: _surrogate(logits, choices, torch.ones_like(
                advantages)) * advantages.mean(),),
        "a negative advantage counts as well: don't cut it off, and keep its sign": (
            lambda logits, choices, advantages: _surrogate(logits, choices, advantages.clamp(min=0)),
            lambda logits, choices, advantages: _surrogate(logits, choices, advantages.abs())),
        "log π of what was drawn, not of the most probable proposal": lambda logits, choices, advantages: _surrogate(
            logits, logits.argmax(1).expand_as(choices), advantages),
        "log π of what was drawn alone, not of all proposals": lambda logits, choices, advantages: (
            advantages[..., None] * logits.log_softmax(1)).mean(),
    })


# entropy


def _sure() -> torch.Tensor:
    return torch.tensor([[300.0, 0.0, 0.0], [0.0, 1.0, 2.0]])


entropy = Exercise(
    name="entropy", reference=_entropy, observe=forward_and_gradient,
    cases=lambda: [(_random(9, 6),), (3 * _random(4, 7, seed=1),), (_random(5, 5, seed=3),),
                   case(torch.zeros(5, 8), about="even probabilities have the entropy log M, the largest there is"),
                   case(_random(1, 6, seed=2), about="there may be one anchor only"),
                   case(_sure(), about="0 · log 0 gives NaN where the network is sure: take log_softmax, not the "
                                       "logarithm of "
                        "the softmax")],
    reminder="−Σ π · log π along axis 1, with log π from log_softmax, averaged over the anchors",
    mistakes={
        "the mean over the anchors, not their sum": lambda logits: _entropy(logits) * len(logits),
        "the sign is wrong: an entropy is never negative": lambda logits: -_entropy(logits),
        "that is in bits: take the natural logarithm": lambda logits: _entropy(logits) / torch.tensor(2.0).log(),
        "take the natural logarithm, not the one to base 10":
            lambda logits: _entropy(logits) / torch.tensor(10.0).log(),
        "each anchor has a distribution of its own: softmax over the last axis": (
            lambda logits: _entropy(logits.T),
            lambda logits: -(logits.softmax(0) * logits.log_softmax(0)).sum(1).mean()),
        "each anchor has a distribution of its own: no softmax over all K · M at once":
            lambda logits: _entropy(logits.reshape(1, -1)),
        "add up over the proposals, and average over the anchors only":
            lambda logits: _entropy(logits) / logits.shape[1],
        "not in shares of the largest entropy: don't divide by log M": lambda logits: _entropy(logits) / torch.tensor(
            float(logits.shape[1])).log(),
        "the logarithm of π is missing: logits are not normalised, log_softmax is":
            lambda logits: -(logits.softmax(1) * logits).sum(1).mean(),
        "weigh each log π by its π": (lambda logits: -logits.log_softmax(1).sum(1).mean(),
                                      lambda logits: -logits.log_softmax(1).mean()),
        "that is Σ π², how sure the network is: take −Σ π log π": (
            lambda logits: logits.softmax(1).square().sum(1).mean(),
            lambda logits: 1 - logits.softmax(1).square().sum(1).mean()),
        "one number for all: average over the anchors": lambda logits: -(
            logits.softmax(1) * logits.log_softmax(1)).sum(1),
        "0 · log 0 gives NaN where the network is sure: take log_softmax, not the logarithm of the softmax": (
            lambda logits: -(F.softmax(logits, 1) * F.softmax(logits, 1).log()).sum(1).mean()),
        "torch.special.entr(π) has no slope at 0, and a NaN comes back: π · log_softmax has one": (
            lambda logits: torch.special.entr(logits.softmax(1)).sum(1).mean(),
            lambda logits: -torch.special.xlogy(logits.softmax(1), logits.softmax(1)).sum(1).mean()),
        "the entropy of the mean of all anchors is not the mean of their entropies": lambda logits: -(
            logits.softmax(1).mean(0) * logits.softmax(1).mean(0).log()).sum(),
        "no gradient comes back to the logits: don't detach them, and return a tensor": (
            lambda logits: _entropy(logits.detach()), lambda logits: _entropy(logits).item()),
        "π depends on the logits, too: don't detach it":
            lambda logits: -(logits.softmax(1).detach() * logits.log_softmax(1)).sum(1).mean(),
        "the tiny number that saves from log 0 is too large: it changes the rest": (
            lambda logits: -(logits.softmax(1) * (logits.softmax(1) + 1e-2).log()).sum(1).mean(),
            lambda logits: -(logits.softmax(1) * (logits.softmax(1) + 1e-3).log()).sum(1).mean(),
            lambda logits: -(logits.softmax(1) * (logits.softmax(1) + 1e-4).log()).sum(1).mean(),
            lambda logits: -(logits.softmax(1) * (logits.softmax(1) + 1e-5).log()).sum(1).mean(),
            lambda logits: -(logits.softmax(1) * logits.softmax(1).clamp(min=1e-2).log()).sum(1).mean(),
            lambda logits: -(logits.softmax(1) * logits.softmax(1).clamp(min=1e-3).log()).sum(1).mean()),
        "log M less the entropy is asked for nowhere: the entropy itself is":
            lambda logits: torch.tensor(float(logits.shape[1])).log() - _entropy(logits),
    })
