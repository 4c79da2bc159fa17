"""Exercises of notebook 03: proposals, RoIAlign, the region network, and the way from its logits to a mask."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from lr_helpers import regions as _regions
from lr_helpers.checks.exercise import Exercise


def _random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def _squares(centres, sizes, size, factor=0.5, shift=0, clamp=True, whole=round):
    def box(x, y, share):
        half = share * size * factor
        corners = [whole(x - half), whole(y - half), whole(x + half) + shift, whole(y + half) + shift]
        return [min(max(v, 0), size) for v in corners] if clamp else corners

    return torch.tensor([[box(x, y, share) for share in sizes] for x, y in centres.tolist()])


def _moved_inside(centres, sizes, size):
    sides = torch.tensor(sizes) * size
    low = torch.minimum((centres[:, None] - sides[:, None] / 2).clamp(min=0), size - sides[:, None])
    return torch.cat([low, low + sides[:, None]], dim=-1).round().long()


proposals = Exercise(
    name="proposals", reference=_regions.proposals,
    cases=lambda: [(torch.tensor([[20.3, 41.8], [50.2, 9.9]]), (0.25, 0.5), 64),
                   (torch.tensor([[30.0, 34.0]]), (0.125, 0.25, 0.5), 64),
                   (torch.tensor([[2.0, 250.0], [128.0, 128.0]]), (0.1, 0.33, 0.9, 1.0), 256),
                   (_random(5, 2) * 96, (0.27, 0.61), 96)],
    mistakes={
        "the sizes are whole sides: half a side goes to the left of the centre, half to the right":
            lambda centres, sizes, size: _squares(centres, sizes, size, factor=1.0),
        "the sizes are shares of the picture's side: multiply them by it":
            lambda centres, sizes, size: _squares(centres, [s / size for s in sizes], size),
        "a centre is (x, y) and a box (x0, y0, x1, y1): x and y are swapped":
            lambda centres, sizes, size: _squares(centres.flip(-1), sizes, size),
        "some boxes leave the picture: clamp their corners to 0 … size":
            lambda centres, sizes, size: _squares(centres, sizes, size, clamp=False),
        "a box that meets the border is cut there, not pushed inside: its centre's place has to stay": _moved_inside,
        "the end of a box is exclusive: don't take one off x1 and y1":
            lambda centres, sizes, size: _squares(centres, sizes, size, shift=-1),
        "round the corners to the nearest pixel instead of cutting off the decimals":
            lambda centres, sizes, size: _squares(centres, sizes, size, whole=int),
    })


def _sample_points(box: torch.Tensor, scale: float, side: int, offset: float = 0.5, corners: bool = False):
    steps = torch.linspace(0, 1, side) if corners else (torch.arange(side) + 0.5) / side
    x0, y0, x1, y1 = box * scale - offset
    y, x = torch.meshgrid(y0 + steps * (y1 - y0), x0 + steps * (x1 - x0), indexing="ij")
    return torch.stack([x, y], dim=-1)


sample_points = Exercise(
    name="sample_points", reference=_sample_points,
    cases=lambda: [(torch.tensor([8, 16, 40, 32]), 0.25, 2), (torch.tensor([0, 0, 64, 64]), 0.25, 7),
                   (torch.tensor([3, 50, 20, 60]), 0.125, 3), (torch.tensor([10, 2, 12, 30]), 1.0, 4)],
    mistakes={
        "the half token is missing: the middle of token 0 is half a token right of the picture's border":
            lambda box, scale, side: _sample_points(box, scale, side, offset=0.0),
        "scale the box once: applied twice, the points gather near the top left corner":
            lambda box, scale, side: _sample_points(box, scale * scale, side),
        "the scale is forgotten: the box is in pixels, the points are in tokens":
            lambda box, scale, side: _sample_points(box, 1.0, side),
        "the points are the bins' centres, half a bin away from the box's border":
            lambda box, scale, side: _sample_points(box, scale, side, corners=True),
        "each point is (x, y), x first": lambda box, scale, side: _sample_points(box, scale, side).flip(-1),
        "rows and columns are swapped: in a row of the result y stays and x grows":
            lambda box, scale, side: _sample_points(box, scale, side).transpose(0, 1),
    })


def _pool_box(features: torch.Tensor, points: torch.Tensor, **how) -> torch.Tensor:
    last = torch.tensor([features.shape[2] - 1, features.shape[1] - 1])
    how = {"mode": "bilinear", "padding_mode": "border", **how}
    return F.grid_sample(features[None], (points / last * 2 - 1)[None], align_corners=True, **how)[0]


def _mirrored_weights(features, points):
    points = torch.minimum(points.clamp(min=0), torch.tensor([features.shape[2] - 1, features.shape[1] - 1]))
    return _pool_box(features, 2 * points.floor() + 1 - points)


def _pool_cases() -> list[tuple]:
    inside = [(_random(d, h, w, seed=s), _random(n, n, 2, seed=s + 9) * torch.tensor([w - 1, h - 1]))
              for s, (d, h, w, n) in enumerate([(1, 3, 5, 2), (4, 6, 4, 3), (8, 16, 12, 7)])]
    border = (_random(2, 3, 4), torch.tensor([[[-0.5, -0.4], [3.4, 0.0]], [[3.0, 2.0], [1.5, 2.5]]]))
    return [*inside, border]


pool_box = Exercise(
    name="pool_box", reference=_pool_box, cases=_pool_cases,
    mistakes={
        "features are indexed [channel, row, column]: y chooses the row, x the column":
            lambda features, points: _pool_box(features, points.flip(-1)),
        "this is the nearest token; mix the four tokens around the point":
            lambda features, points: _pool_box(features, points, mode="nearest"),
        "the weights are mirrored: the closer a token is, the more it counts": _mirrored_weights,
        "a point beyond the outer tokens' middles takes the border's value: clamp the points to the grid":
            lambda features, points: _pool_box(features, points, padding_mode="zeros"),
        "only the token to the upper left of each point is read":
            lambda features, points: _pool_box(features, points.clamp(min=0).floor()),
    })


class _Relus(TorchFunctionMode):
    """Counts the calls of ReLU, as layer or as function."""

    count = 0

    def __torch_function__(self, function, types, args=(), kwargs=None):
        self.count += getattr(function, "__name__", "") in ("relu", "relu_")
        return function(*args, **(kwargs or {}))


def _network_facts(kind: Callable[[int, int, int], nn.Module], proposals: int, channels: int, pool: int,
                   anchors: int) -> dict:
    """What makes a region network: facts that hold for any number of hidden channels."""
    torch.manual_seed(0)
    network = kind(proposals, channels, pool)
    pooled = torch.randn(anchors, proposals * channels, pool, pool)
    with _Relus() as relus:
        logits = network(pooled)
    (logits * torch.randn(anchors, proposals)).sum().backward()
    alone = torch.cat([network(pooled[k:k + 1]) for k in range(anchors)])
    turned = network(pooled.flip(-1))
    count = {name: sum(isinstance(m, layer) for m in network.modules())
             for name, layer in (("convolutions", nn.Conv2d), ("linear layers", nn.Linear))}
    return {
        "shape of the logits": tuple(logits.shape),
        **count,
        "times ReLU is called": relus.count,
        "every weight gets a gradient": all(p.grad is not None for p in network.parameters()),
        "each anchor is scored by itself": torch.allclose(logits, alone, atol=1e-4),
        "sees where in the box something is": not torch.allclose(logits, turned, atol=1e-6),
        "its outputs are probabilities already": torch.allclose(logits.sum(1), torch.ones(anchors), atol=1e-4),
    }


def _layers(proposals: int, channels: int, pool: int, norm: bool = False, relu: bool = True, mean: bool = False,
            ) -> list[nn.Module]:
    between = nn.ReLU if relu else nn.Identity
    last = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 32)] if mean else [
        nn.Flatten(), nn.Linear(16 * pool * pool, 32)]
    return [nn.Conv2d(proposals * channels, 32, 1), *([nn.BatchNorm2d(32)] if norm else []), between(),
            nn.Conv2d(32, 16, 1), between(), *last, between(), nn.Linear(32, proposals)]


class _Unused(_regions.RegionNetwork):
    """Makes a layer that it never calls."""

    def __init__(self, proposals: int, channels: int, pool: int):
        super().__init__(proposals, channels, pool)
        self.layers[-3] = nn.Linear(1, 1)
        self.first = nn.Linear(16 * pool * pool, 32)

    def forward(self, pooled: torch.Tensor) -> torch.Tensor:
        return self.layers[-1](self.layers[-2](self.first(self.layers[:-3](pooled))))


region_network = Exercise(
    name="region_network", reference=_regions.RegionNetwork, observe=_network_facts,
    cases=lambda: [(6, 12, 7, 9), (2, 5, 3, 4), (7, 8, 4, 3)],
    mistakes={
        "leave the softmax away: the network's outputs are logits, and softmax comes later":
            lambda p, c, l: nn.Sequential(*_layers(p, c, l), nn.Softmax(dim=1)),
        "without ReLU between them all layers together are but one linear map":
            lambda p, c, l: nn.Sequential(*_layers(p, c, l, relu=False)),
        "batch normalisation mixes the anchors: each has to get the score it would get alone":
            lambda p, c, l: nn.Sequential(*_layers(p, c, l, norm=True)),
        "flatten instead of averaging: the network has to see where in the box something is":
            lambda p, c, l: nn.Sequential(*_layers(p, c, l, mean=True)),
        "there is a layer that is never called: its weights get no gradient": _Unused,
        "one logit for each proposal: no ReLU after the last layer, it would cut off those below 0":
            lambda p, c, l: nn.Sequential(*_layers(p, c, l), nn.ReLU()),
    })


def _gumbel(uniform: torch.Tensor) -> torch.Tensor:
    return -(-uniform.log()).log()


gumbel_softmax = Exercise(
    name="gumbel_softmax", reference=_regions.gumbel_softmax,
    cases=lambda: [(_random(n, m, seed=n) * 4 - 2, t, _random(n, m, seed=m) * 0.98 + 0.01)
                   for n, m, t in ((1, 6, 1.0), (4, 6, 0.3), (7, 3, 5.0))] + [
                       (_random(4) * 2, 0.5, _random(4, seed=1) * 0.98 + 0.01)],
    mistakes={
        "the noise is missing: this is the plain softmax, without chance":
            lambda logits, temperature, uniform: (logits / temperature).softmax(-1),
        "the temperature divides the sum of logits and noise, not the logits alone":
            lambda logits, temperature, uniform: (logits / temperature + _gumbel(uniform)).softmax(-1),
        "divide by the temperature: low ones make hard samples":
            lambda logits, temperature, uniform: ((logits + _gumbel(uniform)) * temperature).softmax(-1),
        "softmax runs over the last axis, the proposals":
            lambda logits, temperature, uniform: ((logits + _gumbel(uniform)) / temperature).softmax(0),
        "the noise has the wrong sign: it is −log(−log(u))":
            lambda logits, temperature, uniform: ((logits - _gumbel(uniform)) / temperature).softmax(-1),
        "one logarithm is missing: the noise is −log(−log(u))":
            lambda logits, temperature, uniform: ((logits - uniform.log()) / temperature).softmax(-1),
        "uniform noise is not Gumbel noise: turn u into −log(−log(u)) first":
            lambda logits, temperature, uniform: ((logits + uniform) / temperature).softmax(-1),
    })


def _forward_and_gradient(function: Callable, values: torch.Tensor, *rest) -> dict:
    """The result, and the gradient that its random weighted sum sends back to `values`; 0 if it is cut off."""
    leaf = values.clone().requires_grad_()
    result = function(leaf, *rest)
    gradient = torch.zeros_like(values)
    if isinstance(result, torch.Tensor) and result.requires_grad:
        (result * _random(*result.shape, seed=5)).sum().backward()
        gradient = leaf.grad
    return {"result": result, "gradient": gradient}


def _hard(soft: torch.Tensor, axis: int = -1) -> torch.Tensor:
    return torch.zeros_like(soft).scatter_(axis, soft.argmax(axis, keepdim=True), 1.0)


straight_through = Exercise(
    name="straight_through", reference=_regions.straight_through, observe=_forward_and_gradient,
    cases=lambda: [((_random(*shape, seed=seed) * spread).softmax(-1),)
                   for seed, (spread, *shape) in enumerate([(1, 3, 5), (8, 6, 4), (3, 1, 7), (1, 2, 3, 4)])],
    mistakes={
        "the result is right, but no gradient comes back: argmax has none, so the way of `soft` has to be added": _hard,
        "this is still soft: forward it has to be exactly 0 and 1": lambda soft: soft * 1.0,
        "the largest value is sought over the last axis": lambda soft: _hard(soft, 0) + (soft - soft.detach()),
        "what is added for the gradient's sake must be 0 in value: take off a detached copy":
            lambda soft: _hard(soft) + soft,
        "the gradient has the wrong sign: detach the copy that is taken off":
            lambda soft: _hard(soft) - (soft - soft.detach()),
        "the largest value may be below a half: use argmax, not a threshold":
            lambda soft: (soft > 0.5).to(soft) + (soft - soft.detach()),
    })


def _masks(boxes: torch.Tensor, size: int, end: int = 0) -> torch.Tensor:
    at = torch.arange(size)
    x, y = ((boxes[..., i, None] <= at) & (at < boxes[..., i + 2, None] + end) for i in (0, 1))
    return (y[..., :, None] & x[..., None, :]).float()


def _summed(weights, boxes, size, end=0):
    return (weights[..., None, None] * _masks(boxes, size, end)).sum(-3).unsqueeze(-3)


def _mask_cases() -> list[tuple]:
    boxes = torch.tensor([[[1, 2, 5, 4], [0, 0, 8, 7], [3, 3, 4, 8]], [[2, 0, 4, 8], [2, 2, 7, 4], [0, 1, 2, 3]]])
    weights = _random(2, 3).softmax(-1)
    return [(weights, boxes, 8), (weights[0], boxes[0], 9), (torch.eye(3)[:2], boxes, 8),
            (_random(1, 1), torch.tensor([[[4, 1, 6, 2]]]), 12)]


region_mask = Exercise(
    name="region_mask", reference=_regions.region_mask, cases=_mask_cases, observe=_forward_and_gradient,
    mistakes={
        "rows and columns are swapped: y0:y1 are the rows of the mask":
            lambda weights, boxes, size: _summed(weights, boxes, size).transpose(-1, -2),
        "the end of a box is exclusive: this one is a pixel too wide and too high":
            lambda weights, boxes, size: _summed(weights, boxes, size, end=1),
        "add the weighted masks up, don't average them: the weights sum to 1 already":
            lambda weights, boxes, size: _summed(weights, boxes, size) / boxes.shape[-2],
        "where boxes overlap their weights add up; this takes the largest":
            lambda weights, boxes, size: (weights[..., None, None] * _masks(boxes, size)).amax(-3).unsqueeze(-3),
        "the weights have left the graph (by float, item or detach): no gradient comes back":
            lambda weights, boxes, size: _summed(weights.detach(), boxes, size),
        "the masks have to be weighted; this is the box with the largest weight alone":
            lambda weights, boxes, size: _summed(_hard(weights), boxes, size),
    })
