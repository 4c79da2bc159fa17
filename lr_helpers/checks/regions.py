"""Exercises of notebook 03: proposals, RoIAlign, the region network, and the way from its logits to a mask."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product

import torch
from torch import nn
from torch.nn import functional as F

from lr_helpers import regions as _regions
from lr_helpers.checks.exercise import Exercise, case, forward_and_gradient


def _random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def _squares(centres, sizes, size, factor=0.5, shift=0, clamp=True, whole=round, last=0):
    def box(x, y, share):
        half = share * size * factor
        corners = [whole(x - half), whole(y - half), whole(x + half) + shift, whole(y + half) + shift]
        return [min(max(v, 0), size + last) for v in corners] if clamp else corners

    return torch.tensor([[box(x, y, share) for share in sizes] for x, y in centres.tolist()])


def _moved_inside(centres, sizes, size):
    sides = torch.tensor(sizes) * size
    low = torch.minimum((centres[:, None] - sides[:, None] / 2).clamp(min=0), size - sides[:, None])
    return torch.cat([low, low + sides[:, None]], dim=-1).round().long()


def _as_sides(boxes):
    return torch.cat([boxes[..., :2], boxes[..., 2:] - boxes[..., :2]], dim=-1)


def _half_clamped(centres, sizes, size, low=True):
    boxes = _squares(centres, sizes, size, clamp=False)
    return boxes.clamp(min=0) if low else boxes.clamp(max=size)


def _proposal_cases() -> list[tuple]:
    border = "what leaves the picture is cut off there: clamp the corners to 0 … size"
    return [(torch.tensor([[20.3, 41.8], [50.2, 35.9]]), (0.25, 0.375), 64),
            (torch.tensor([[30.0, 34.0]]), (0.125, 0.25, 0.5), 64),
            (torch.tensor([[100.4, 131.6], [128.4, 120.6], [150.1, 97.4]]), (0.1, 0.33), 256),
            case(torch.tensor([[2.0, 50.3], [50.2, 9.7]]), (0.2, 0.7), 64, about=border),
            case(torch.tensor([[2.0, 250.0], [128.0, 128.0]]), (0.1, 0.33, 0.9, 1.0), 256, about=border),
            case(_random(5, 2) * 96, (0.27, 0.61), 96, about=border),
            case(torch.tensor([[20.3, 41.8], [50.2, 35.7]]), (0.3,), 64,
                 about="a single size keeps its axis: the shape is (K, 1, 4)")]


proposals = Exercise(
    name="proposals", reference=_regions.proposals, cases=_proposal_cases,
    reminder="x − half, y − half, x + half, y + half, where half is sizes · size / 2; rounded, clamped to 0 … size, "
             "int64",
    mistakes={
        "the sizes are whole sides: half a side goes to the left of the centre, half to the right":
            lambda centres, sizes, size: _squares(centres, sizes, size, factor=1.0),
        "half a side goes to each side of the centre, not a quarter":
            lambda centres, sizes, size: _squares(centres, sizes, size, factor=0.25),
        "the sizes are shares of the picture's side: multiply them by it":
            lambda centres, sizes, size: _squares(centres, [s / size for s in sizes], size),
        "multiply the sizes by the side of this picture, not by 64":
            lambda centres, sizes, size: _squares(centres, [s * 64 / size for s in sizes], size),
        "a centre is (x, y) and a box (x0, y0, x1, y1): x and y are swapped":
            lambda centres, sizes, size: _squares(centres.flip(-1), sizes, size),
        "some boxes leave the picture: clamp their corners to 0 … size":
            lambda centres, sizes, size: _squares(centres, sizes, size, clamp=False),
        "some boxes leave the picture to the right or below: clamp their corners to size, too": _half_clamped,
        "some boxes leave the picture to the left or above: clamp their corners to 0, too":
            lambda centres, sizes, size: _half_clamped(centres, sizes, size, low=False),
        "the end of a box is exclusive: clamp to 0 … size, not to size − 1":
            lambda centres, sizes, size: _squares(centres, sizes, size, last=-1),
        "a box that meets the border is cut there, not pushed inside: its centre's place has to stay": _moved_inside,
        "the end of a box is exclusive: don't take one off x1 and y1":
            lambda centres, sizes, size: _squares(centres, sizes, size, shift=-1),
        "the end of a box is exclusive: don't add one to x1 and y1":
            lambda centres, sizes, size: _squares(centres, sizes, size, shift=1),
        "round the corners to the nearest pixel instead of cutting off the decimals": (
            lambda centres, sizes, size: _squares(centres, sizes, size, whole=int),
            lambda centres, sizes, size: _squares(centres, sizes, size, whole=math.floor)),
        "round the corners to the nearest pixel, not up":
            lambda centres, sizes, size: _squares(centres, sizes, size, whole=math.ceil),
        "round the corners, not the centre and the half side before":
            lambda centres, sizes, size: torch.tensor([[[min(max(v, 0), size) for v in (
                round(x) - round(s * size / 2), round(y) - round(s * size / 2), round(x) + round(s * size / 2),
                round(y) + round(s * size / 2))] for s in sizes] for x, y in centres.tolist()]),
        "the last two numbers of a box are its other corner, not its width and height":
            lambda centres, sizes, size: _as_sides(_squares(centres, sizes, size)),
        "anchors come first, then sizes: the shape is (K, M, 4)":
            lambda centres, sizes, size: _squares(centres, sizes, size).transpose(0, 1),
        "a box is (x0, y0, x1, y1), not (x0, x1, y0, y1)":
            lambda centres, sizes, size: _squares(centres, sizes, size)[..., [0, 2, 1, 3]],
        "the centre is the middle of the box, not its left top corner":
            lambda centres, sizes, size: _squares(centres + torch.tensor(sizes[0]) * 0, sizes, size, factor=0.0)
            + torch.tensor([[0, 0, round(s * size), round(s * size)] for s in sizes]),
    })


def _sample_points(box: torch.Tensor, scale: float, side: int, offset: float = 0.5, steps: Callable | None = None):
    steps = (torch.arange(side) + 0.5) / side if steps is None else steps(side)
    x0, y0, x1, y1 = box * scale - offset
    y, x = torch.meshgrid(y0 + steps * (y1 - y0), x0 + steps * (x1 - x0), indexing="ij")
    return torch.stack([x, y], dim=-1)


sample_points = Exercise(
    name="sample_points", reference=_sample_points,
    cases=lambda: [(torch.tensor([8, 16, 40, 32]), 0.25, 3), (torch.tensor([0, 0, 64, 64]), 0.25, 7),
                   (torch.tensor([3, 50, 20, 60]), 0.125, 3), (torch.tensor([10, 2, 12, 30]), 1.0, 4),
                   case(torch.tensor([0, 40, 8, 64]), 0.25, 6,
                        about="the picture's border lies at −0.5, so points near it may be negative: clamp them later"),
                   case(torch.tensor([6, 3, 27, 40]), 0.25, 1,
                        about="a single bin has its point in the middle of the box")],
    reminder="the middle of bin i is at x0 + (i + ½) / side · (x1 − x0) in pixels; times scale, less ½; [i, j] is row "
             "i, "
             "column j, and its value is (x, y)",
    mistakes={
        "the half token is missing: the middle of token 0 is half a token right of the picture's border":
            lambda box, scale, side: _sample_points(box, scale, side, offset=0.0),
        "the half token has to be taken off, not added":
            lambda box, scale, side: _sample_points(box, scale, side, offset=-0.5),
        "take half a token off after scaling, not half a pixel before":
            lambda box, scale, side: _sample_points(box, scale, side, offset=0.5 * scale),
        "scale the box once: applied twice, the points gather near the top left corner":
            lambda box, scale, side: _sample_points(box, scale * scale, side),
        "the scale is forgotten: the box is in pixels, the points are in tokens":
            lambda box, scale, side: _sample_points(box, 1.0, side),
        "the scale is tokens per pixel: multiply by it, don't divide":
            lambda box, scale, side: _sample_points(box, 1 / scale, side),
        "the points are the bins' centres, half a bin away from the box's border":
            lambda box, scale, side: _sample_points(box, scale, side, steps=lambda n: torch.linspace(0, 1, n)),
        "these are the bins' left top corners: their middles are half a bin further":
            lambda box, scale, side: _sample_points(box, scale, side, steps=lambda n: torch.arange(n) / n),
        "these are the bins' right bottom corners: their middles are half a bin before":
            lambda box, scale, side: _sample_points(box, scale, side, steps=lambda n: (torch.arange(n) + 1) / n),
        "there are `side` bins: divide the box by side, not by side + 1 or side − 1": (
            lambda box, scale, side: _sample_points(box, scale, side, steps=lambda n: (torch.arange(n) + 1) / (n + 1)),
            lambda box, scale, side: _sample_points(box, scale, side, steps=lambda n: (torch.arange(n) + 0.5) / (
                n + 1)),
            lambda box, scale, side: _sample_points(
                box, scale, side, steps=lambda n: (torch.arange(n) + 0.5) / max(n - 1, 1))),
        "each point is (x, y), x first": lambda box, scale, side: _sample_points(box, scale, side).flip(-1),
        "rows and columns are swapped: in a row of the result y stays and x grows":
            lambda box, scale, side: _sample_points(box, scale, side).transpose(0, 1),
        "x and y of the box are swapped: it is (x0, y0, x1, y1)":
            lambda box, scale, side: _sample_points(box[[1, 0, 3, 2]], scale, side),
        "x and y of a point lie along the last axis: the shape is (side, side, 2)": (
            lambda box, scale, side: _sample_points(box, scale, side).permute(2, 0, 1),
            lambda box, scale, side: _sample_points(box, scale, side).unbind(-1)),
        "the last two numbers of a box are its other corner, not its width and height":
            lambda box, scale, side: _sample_points(torch.cat([box[:2], box[:2] + box[2:]]), scale, side),
        "the bins begin at the box's corner: add x0 and y0": (
            lambda box, scale, side: _sample_points(box - box[[0, 1, 0, 1]], scale, side)),
        "don't round: the points lie between the tokens": (
            lambda box, scale, side: _sample_points(box, scale, side).round(),
            lambda box, scale, side: _sample_points(box, scale, side).floor()),
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
    corners = torch.tensor([[[0.0, 0.0], [3.0, 0.0]], [[3.0, 2.0], [0.0, 2.0]]])
    return [*inside,
            case(_random(2, 3, 4), torch.tensor([[[1.0, 0.0], [2.0, 1.0]], [[0.0, 1.0], [1.5, 1.0]]]),
                 about="a point on the middle of a token reads that token alone"),
            case(_random(2, 3, 4), corners,
                 about="a point on the middle of the last token has no further token to the right or below: clamp its "
                       "index"),
            case(_random(2, 3, 4), torch.tensor([[[-0.5, -0.4], [3.4, 0.0]], [[0.7, 2.5], [1.5, -0.3]]]),
                 about="a point beyond the outer tokens' middles takes the border's value: clamp the points to the "
                       "grid"),
            case(_random(3, 4, 3, seed=2), torch.tensor([[[-4.0, 1.2]]]),
                 about="a point far outside takes the border's value too: clamp the points to the grid"),
            case(_random(2, 3, 5, seed=4), torch.tensor([[[9.0, 1.2], [1.3, 8.0]], [[7.0, 6.0], [4.6, 2.9]]]),
                 about="a point far beyond the right or the lower end takes the border's value too: clamp x to w − 1 "
                       "and y to h − 1")]


def _mixed(features: torch.Tensor, points: torch.Tensor, weights: Callable) -> torch.Tensor:
    """Pooling with other weights of the four tokens around: `weights(a, b)` of upper left, right, lower left, right."""
    h, w = features.shape[1:]
    x, y = points[..., 0].clamp(0, w - 1), points[..., 1].clamp(0, h - 1)
    left, top = x.floor().long(), y.floor().long()
    right, bottom = (left + 1).clamp(max=w - 1), (top + 1).clamp(max=h - 1)
    around = features[:, top, left], features[:, top, right], features[:, bottom, left], features[:, bottom, right]
    return sum(weight * token for weight, token in zip(weights(x - left, y - top), around, strict=True))


pool_box = Exercise(
    name="pool_box", reference=_pool_box, cases=_pool_cases,
    reminder="clamp x and y to the grid, take the four tokens around, and weigh them by (1−a)(1−b), a(1−b), (1−a)b "
             "and ab",
    mistakes={
        "features are indexed [channel, row, column]: y chooses the row, x the column":
            lambda features, points: _pool_box(features, points.flip(-1)),
        "this is the nearest token; mix the four tokens around the point": (
            lambda features, points: _pool_box(features, points, mode="nearest"),
            lambda features, points: _pool_box(features, points.round())),
        "the weights are mirrored: the closer a token is, the more it counts": (
            _mirrored_weights,
            lambda features, points: _mixed(features, points, lambda a, b: (a * b, (1 - a) * b, a * (1 - b),
                                                                            (1 - a) * (1 - b)))),
        "a point beyond the outer tokens' middles takes the border's value: clamp the points to the grid":
            lambda features, points: _pool_box(features, points, padding_mode="zeros"),
        "only the token to the upper left of each point is read":
            lambda features, points: _pool_box(features, points.clamp(min=0).floor()),
        "only the token to the lower right of each point is read":
            lambda features, points: _pool_box(features, points.ceil()),
        "the four tokens count alike here; the closer one is, the more it counts":
            lambda features, points: _mixed(features, points, lambda a, b: (0.25,) * 4),
        "a and b are swapped: a is how far to the right, b how far down": (
            lambda features, points: _mixed(features, points, lambda a, b: ((1 - a) * (1 - b), b * (1 - a), (1 - b) * a,
                                                                            a * b)),),
        "the tokens to the upper right and to the lower left are missing": (
            lambda features, points: _mixed(features, points, lambda a, b: ((1 - a) * (1 - b), 0, 0, a * b))),
        "only left and right are mixed; the row below counts as well": (
            lambda features, points: _mixed(features, points, lambda a, b: (1 - a, a, 0, 0))),
        "only above and below are mixed; the token to the right counts as well": (
            lambda features, points: _mixed(features, points, lambda a, b: (1 - b, 0, b, 0))),
        "the weights have to sum to 1: multiply those along x and y, don't add them": (
            lambda features, points: _mixed(features, points,
            lambda a, b: (1 - a + 1 - b, a + 1 - b, 1 - a + b, a + b))),
        "0 is the middle of the first token here: the points are shifted by half a token":
            lambda features, points: _pool_box(features, points - 0.5),
        "w − 1 is the middle of the last token, not the border: grid_sample needs align_corners=True for that":
            lambda features, points: F.grid_sample(
                features[None], (points / torch.tensor([features.shape[2] - 1, features.shape[1] - 1]) * 2 - 1)[None],
                padding_mode="border", align_corners=False)[0],
        "channels come first: the shape is (d, l, l)":
            lambda features, points: _pool_box(features, points).permute(1, 2, 0),
        "rows and columns of the points are swapped: the point [i, j] goes to [:, i, j]":
            lambda features, points: _pool_box(features, points).transpose(1, 2),
    })


def _network_facts(kind: Callable[..., nn.Module], proposals: int, channels: int, pool: int, anchors: int,
                   hidden: int | None = None) -> dict | None:
    """What makes a region network: facts that hold for whatever weights it begins with.

    None where nothing was returned.
    """
    state = torch.get_rng_state()
    torch.manual_seed(0)
    network = kind(proposals, channels, pool) if hidden is None else kind(proposals, channels, pool, hidden)
    pooled, weights = torch.randn(anchors, proposals * channels, pool, pool), torch.randn(anchors, proposals)
    torch.set_rng_state(state)
    if network is None:
        return None
    used: list[nn.Module] = []
    hooks = [m.register_forward_hook(lambda layer, *_: used.append(layer)) for m in network.modules()
             if next(m.parameters(recurse=False), None) is not None]
    before = pooled.clone()
    logits = network(pooled)
    for hook in hooks:
        hook.remove()
    if logits is None:
        return None
    facts = {
        "layers in the order of their use": ", ".join(_layer(m) for m in used),
        "the pooled features stay as they were": torch.equal(pooled, before),
        "shape of the logits": tuple(logits.shape),
        "each anchor is scored by itself": True,
        "every weight gets a gradient": True,
        "the chain": _RIGHT_CHAIN,
    }
    if logits.shape != weights.shape:
        return facts  # the rest can't be asked of such logits
    alone = torch.cat([network(before[k:k + 1].clone()) for k in (0, 2)])
    (logits * weights).sum().backward()
    facts["each anchor is scored by itself"] = alone.shape == logits[:2].shape and torch.allclose(
        logits[[0, 2]], alone, atol=1e-4)
    facts["every weight gets a gradient"] = all(p.grad is not None for p in network.parameters())
    with torch.no_grad():
        chain, large = _chain(used, before, logits), _LARGE * before
        if chain == _RIGHT_CHAIN and _chain(used, large, network(large.clone())) != chain:
            chain = "something that differs from it where numbers are large"
    return {**facts, "the chain": chain}


_RIGHT_CHAIN = "convolution, ReLU, convolution, ReLU, flatten, linear, ReLU, linear"
_LARGE = 300.0
"""Features so many times as large show what cuts numbers off."""


def _layer(layer: nn.Module) -> str:
    if isinstance(layer, nn.Conv2d):
        wide, deep, *kernel = layer.weight.shape
        return f"{' × '.join(map(str, kernel))} convolution from {deep} to {wide}"
    if isinstance(layer, nn.Linear):
        return f"linear from {layer.in_features} to {layer.out_features}"
    return type(layer).__name__


_FUNCTIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "ReLU": torch.relu, "": lambda x: x, "tanh": torch.tanh, "GELU": F.gelu, "leaky ReLU": F.leaky_relu,
    "sigmoid": torch.sigmoid, "softplus": F.softplus, "SiLU": F.silu, "ELU": F.elu,
}
_ENDS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "": lambda x: x, "softmax": lambda x: x.softmax(1), "log_softmax": lambda x: x.log_softmax(1), "ReLU": torch.relu,
    "sigmoid": torch.sigmoid, "tanh": torch.tanh, "softmax over the anchors": lambda x: x.softmax(0),
}
_FLAT: list[tuple[str, Callable[[torch.Tensor], torch.Tensor]]] = [
    ("flatten", lambda x: x.flatten(1)), ("flatten", lambda x: x.permute(0, 2, 3, 1).flatten(1)),  # both are right
    ("mean over the box", lambda x: x.mean((2, 3))), ("largest in the box", lambda x: x.amax((2, 3))),
]


def _chain(used: list[nn.Module], pooled: torch.Tensor, logits: torch.Tensor) -> str:
    """The functions between the layers that, with these layers, give these logits."""
    if [type(m) for m in used] != [nn.Conv2d, nn.Conv2d, nn.Linear, nn.Linear]:
        return "not two convolutions and two linear layers"
    mix, narrow, look, score = used
    one = list(_FUNCTIONS)
    # The same function at all three places, or ReLU at some of them.
    between = [(name,) * 3 for name in one] + [(a, b, c) for a in one[:2] for b in one[:2] for c in one[:2]]
    near = 1e-4 * max(1.0, float(logits.abs().max()))
    for (after_mix, after_narrow, after_look), (flat, flatten) in product(between, _FLAT):
        x = flatten(_FUNCTIONS[after_narrow](narrow(_FUNCTIONS[after_mix](mix(pooled)))))
        if x.shape[1] != look.in_features:
            continue
        x = score(_FUNCTIONS[after_look](look(x)))
        for end, function in _ENDS.items():
            if torch.allclose(function(x), logits, atol=near):
                parts = "convolution", after_mix, "convolution", after_narrow, flat, "linear", after_look, "linear", end
                return ", ".join(filter(None, parts))
    return "something else between the layers"


def _layers(proposals: int, channels: int, pool: int, hidden: int = 32, norm: bool = False,
            between: tuple[type, ...] = (nn.ReLU,) * 3, mean: bool = False, kernel: int = 1,
                widths: tuple | None = None,
            ) -> list[nn.Module]:
    wide, narrow, look = widths or (hidden, hidden // 2, hidden)
    last = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(narrow, look)] if mean else [
        nn.Flatten(), nn.Linear(narrow * pool * pool, look)]
    return [nn.Conv2d(proposals * channels, wide, kernel, padding=kernel // 2), *([nn.BatchNorm2d(
        wide)] if norm else []),
            between[0](), nn.Conv2d(wide, narrow, kernel, padding=kernel // 2), between[1](), *last, between[2](),
            nn.Linear(look, proposals)]


def _network(*after: nn.Module, **how) -> Callable[..., nn.Module]:
    return lambda *sizes: nn.Sequential(*_layers(*sizes, **how), *after)


class _Unused(_regions.RegionNetwork):
    """Makes a layer that it never calls."""

    def __init__(self, *sizes: int):
        super().__init__(*sizes)
        self.spare = nn.Linear(3, 3)


class _InAList(nn.Module):
    """Keeps its layers where torch does not find them."""

    def __init__(self, *sizes: int):
        super().__init__()
        self.layers = _layers(*sizes)

    def forward(self, pooled: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            pooled = layer(pooled)
        return pooled


class _Standardised(_regions.RegionNetwork):
    """Mixes the anchors."""

    def forward(self, pooled: torch.Tensor) -> torch.Tensor:
        return super().forward((pooled - pooled.mean(0)) / (pooled.std(0, correction=0) + 1e-5))


_I, _R = nn.Identity, nn.ReLU
region_network = Exercise(
    name="region_network", reference=_regions.RegionNetwork, observe=_network_facts,
    cases=lambda: [(6, 12, 7, 5), (2, 5, 3, 8), (7, 8, 4, 3),
                   case(4, 6, 5, 6, 20, about="`hidden` is a width to be chosen: take it instead of a fixed 32, and "
                                              "half of it for the second convolution"),
                   case(3, 4, 2, 5, 7, about="`hidden` may be odd or small: the second convolution leads to "
                                             "hidden // 2, rounded down")],
    reminder="1×1 convolution to hidden, ReLU, 1×1 convolution to hidden // 2, ReLU, flatten, linear to hidden, ReLU, "
             "linear "
             "to M",
    mistakes={
        "leave the softmax away: the network's outputs are logits, and softmax comes later": (
            _network(nn.Softmax(dim=1)), _network(nn.LogSoftmax(dim=1)), _network(nn.Softmax(dim=0))),
        "nothing follows the last layer: logits are any real numbers": (_network(nn.Sigmoid()), _network(nn.Tanh())),
        "without ReLU between them all layers together are but one linear map": _network(between=(_I, _I, _I)),
        "a ReLU is missing after the first convolution": _network(between=(_I, _R, _R)),
        "a ReLU is missing after the second convolution": _network(between=(_R, _I, _R)),
        "a ReLU is missing between the two linear layers": _network(between=(_R, _R, _I)),
        "ReLU is asked for between the layers, no other function": (
            _network(between=(nn.Tanh,) * 3), _network(between=(nn.GELU,) * 3), _network(between=(nn.LeakyReLU,) * 3),
            _network(between=(nn.Sigmoid,) * 3)),
        "ReLU cuts off only what is below 0: large numbers go through as they are": (
            _network(between=(nn.ReLU6,) * 3), _network(between=(nn.Hardtanh,) * 3),
            _network(nn.Hardtanh(-10.0, 10.0))),
        "batch normalisation mixes the anchors: each has to get the score it would get alone": _network(norm=True),
        "the anchors are mixed: each has to get the score it would get alone": _Standardised,
        "flatten instead of averaging: the network has to see where in the box something is": _network(mean=True),
        "1 × 1 convolutions: larger ones look at the tokens around": _network(kernel=3),
        "there is a layer that is never called: its weights get no gradient": _Unused,
        "torch finds no layers in a Python list: keep them in nn.Sequential or nn.ModuleList": _InAList,
        "one logit for each proposal: no ReLU after the last layer, it would cut off those below 0":
            _network(nn.ReLU()),
        "the second convolution narrows to hidden // 2 channels":
            lambda *sizes: nn.Sequential(*_layers(*sizes, widths=((*sizes, 32)[3],) * 3)),
        "the first linear layer leads to hidden numbers":
            lambda *sizes: nn.Sequential(*_layers(*sizes, widths=((*sizes, 32)[3], (*sizes, 32)[3] // 2, 16))),
        "`hidden` has no effect: take it instead of a fixed 32":
            lambda *sizes: nn.Sequential(*_layers(*sizes[:3])),
    })


def _gumbel(uniform: torch.Tensor) -> torch.Tensor:
    return -(-uniform.log()).log()


def _gumbel_cases() -> list[tuple]:
    rows = [(_random(n, m, seed=n) * 4 - 2, t, _random(n, m, seed=m) * 0.98 + 0.01)
            for n, m, t in ((3, 6, 1.7), (4, 6, 0.3), (7, 3, 5.0))]
    return [*rows,
            case(_random(2, 6, seed=1) * 4 - 2, 1.0, _random(2, 6, seed=6) * 0.98 + 0.01,
                 about="a temperature of 1 is allowed, and then changes nothing"),
            case(_random(4) * 2, 0.5, _random(4, seed=1) * 0.98 + 0.01,
                 about="logits may be a single row, (M,): softmax runs over the last axis, -1, however many there are"),
            case(_random(2, 3, 4) * 2, 0.7, _random(2, 3, 4, seed=1) * 0.98 + 0.01,
                 about="there may be more axes before M: softmax runs over the last one, -1"),
            case(torch.tensor([[1.0, 1.02, 0.98]]), 0.05, torch.full((1, 3), 0.5),
                 about="the temperature may be low: divide by it as it is"),
            case(torch.tensor([[0.0, 1.0, 2.0, 3.0]]), 2.0, torch.tensor([[1e-4, 0.5, 0.9, 0.3]]),
                 about="`uniform` may come near 0 or 1: take it as it is, or the noise is cut off"),
            case(torch.tensor([[60.0, -60.0, 0.0, 58.0], [0.0, 1.0, 2.0, 3.0]]), 0.05,
                 torch.tensor([[0.5, 0.9, 1e-5, 0.3], [1e-5, 0.99999, 0.4, 0.2]]),
                 about="logits are any numbers, also large ones: take them as they are, and let softmax do the rest, "
                       "for e to the power of hundreds is ∞")]


def _gumbel_softmax(logits: torch.Tensor, temperature: float, uniform: torch.Tensor) -> torch.Tensor:
    """As the notebook asks for it: the same logits may stand for many rows of random numbers."""
    return _regions.gumbel_softmax(logits.expand_as(uniform), temperature, uniform)


gumbel_softmax = Exercise(
    name="gumbel_softmax", reference=_gumbel_softmax, observe=forward_and_gradient, cases=_gumbel_cases,
    reminder="softmax over the last axis of (logits + noise) / temperature, where the noise is −log(−log(uniform))",
    mistakes={
        "the noise is missing: this is the plain softmax, without chance":
            lambda logits, temperature, uniform: (logits / temperature).softmax(-1),
        "the temperature divides the sum of logits and noise, not the logits alone":
            lambda logits, temperature, uniform: (logits / temperature + _gumbel(uniform)).softmax(-1),
        "the temperature divides the sum of logits and noise, not the noise alone":
            lambda logits, temperature, uniform: (logits + _gumbel(uniform) / temperature).softmax(-1),
        "divide by the temperature: low ones make hard samples":
            lambda logits, temperature, uniform: ((logits + _gumbel(uniform)) * temperature).softmax(-1),
        "the temperature has no effect: divide by it before the softmax": (
            lambda logits, temperature, uniform: (logits + _gumbel(uniform)).softmax(-1),
            lambda logits, temperature, uniform: (logits + _gumbel(uniform)).softmax(-1) / temperature),
        "softmax runs over the last axis, the proposals":
            lambda logits, temperature, uniform: ((logits + _gumbel(uniform)) / temperature).softmax(0),
        "the noise has the wrong sign: it is −log(−log(u))":
            lambda logits, temperature, uniform: ((logits - _gumbel(uniform)) / temperature).softmax(-1),
        "one logarithm is missing: the noise is −log(−log(u))": (
            lambda logits, temperature, uniform: ((logits - uniform.log()) / temperature).softmax(-1),
            lambda logits, temperature, uniform: ((logits + uniform.log()) / temperature).softmax(-1)),
        "uniform noise is not Gumbel noise: turn u into −log(−log(u)) first":
            lambda logits, temperature, uniform: ((logits + uniform) / temperature).softmax(-1),
        "the logits are added to the noise as they are, without a softmax or logarithm of their own":
            lambda logits, temperature, uniform: ((logits.softmax(-1) + _gumbel(uniform)) / temperature).softmax(-1),
        "the softmax is missing: the sample is not negative and sums to 1":
            lambda logits, temperature, uniform: (logits + _gumbel(uniform)) / temperature,
        "that is the logarithm of the sample: softmax, not log_softmax":
            lambda logits, temperature, uniform: ((logits + _gumbel(uniform)) / temperature).log_softmax(-1),
        "that is a hard sample: leave it soft, straight_through comes later":
            lambda logits, temperature, uniform: _hard(((logits + _gumbel(uniform)) / temperature).softmax(-1)),
        "e to the power of hundreds is ∞, and ∞ / ∞ is NaN: let softmax do it, which is safe":
            lambda logits, temperature, uniform: (lambda e: e / e.sum(-1, keepdim=True))(
                ((logits + _gumbel(uniform)) / temperature).exp()),
        "a soft sample is no bare e to the power: divide by the sum over the proposals":
            lambda logits, temperature, uniform: ((logits + _gumbel(uniform)) / temperature).exp(),
        "no gradient comes back to the logits: don't detach them":
            lambda logits, temperature, uniform: ((logits.detach() + _gumbel(uniform)) / temperature).softmax(-1),
    })


def _hard(soft: torch.Tensor, axis: int = -1) -> torch.Tensor:
    return torch.zeros_like(soft).scatter_(axis, soft.argmax(axis, keepdim=True), 1.0)


def _soft_cases() -> list[tuple]:
    shapes = enumerate([(1, 3, 5), (8, 6, 4), (3, 1, 7)])
    return [*(((_random(*shape, seed=seed) * spread).softmax(-1),) for seed, (spread, *shape) in shapes),
            case(_random(5, 6, seed=9) * 3 - 1, about="the weights need not sum to 1, nor lie in 0..1"),
            case((_random(2, 3, 4, seed=3)).softmax(-1),
                 about="there may be more axes before M: look for the largest along the last one, -1"),
            case((_random(6, seed=4)).softmax(-1),
                 about="there may be a single row, (M,): look along the last axis, -1"),
            case(torch.tensor([[0.25, 0.25, 0.25, 0.25], [0.4, 0.1, 0.4, 0.1]]),
                 about="of equally large values the first alone gets the 1, as argmax does it")]


straight_through = Exercise(
    name="straight_through", reference=_regions.straight_through, observe=forward_and_gradient, cases=_soft_cases,
    reminder="the one-hot of the argmax along the last axis, plus soft − soft.detach(), which is 0 with a gradient",
    mistakes={
        "the result is right, but no gradient comes back: argmax has none, so the way of `soft` has to be added": (
            _hard, lambda soft: _hard(soft) + (soft - soft).detach()),
        "this is still soft: forward it has to be exactly 0 and 1":
            (lambda soft: soft * 1.0, lambda soft: soft.round() * 0
                                                                     + soft),
        "the largest value is sought over the last axis": (
            lambda soft: _hard(soft, 0) + (soft - soft.detach()),
            lambda soft: F.one_hot(soft.argmax(0), soft.shape[-1]).to(soft) + (soft - soft.detach())),
        "the largest of each row, not of the whole tensor": (
            lambda soft: (soft == soft.max()).to(soft) + (soft - soft.detach()),
            lambda soft: F.one_hot(soft.argmax(), soft.shape[-1]).to(soft) + (soft - soft.detach())),
        "that is the smallest value: take the largest": lambda soft: _hard(-soft) + (soft - soft.detach()),
        "what is added for the gradient's sake must be 0 in value: take off a detached copy": (
            lambda soft: _hard(soft) + soft, lambda soft: _hard(soft) - soft.detach() * 0 + soft),
        "the gradient has the wrong sign: detach the copy that is taken off": (
            lambda soft: _hard(soft) - (soft - soft.detach()), lambda soft: _hard(soft) + soft.detach() - soft),
        "the largest value may be below a half: use argmax, not a threshold or rounding": (
            lambda soft: (soft > 0.5).to(soft) + (soft - soft.detach()),
            lambda soft: soft.round() + (soft - soft.detach())),
        "the gradient comes back only at the largest entry: it has to be that of all of `soft`": (
            lambda soft: _hard(soft) * (1 + soft - soft.detach()), lambda soft: _hard(soft) * soft / soft.detach()),
        "of equally large values one alone gets the 1: argmax takes the first, == takes all": (
            lambda soft: (soft == soft.amax(-1, keepdim=True)).to(soft) + (soft - soft.detach())),
        "that keeps the largest value as it is: forward it has to be exactly 1": lambda soft: _hard(soft) * soft,
        "that is the position of the largest: return a one-hot of the shape of `soft`": lambda soft: soft.argmax(-1),
    })


def _masks(boxes: torch.Tensor, size: int, end: int = 0) -> torch.Tensor:
    at = torch.arange(size)
    x, y = ((boxes[..., i, None] <= at) & (at < boxes[..., i + 2, None] + end) for i in (0, 1))
    return (y[..., :, None] & x[..., None, :]).float()


def _overwritten(weights, boxes, size):
    masks, out = _masks(boxes, size), torch.zeros(*weights.shape[:-1], size, size)
    for m in range(weights.shape[-1]):
        out = torch.where(masks[..., m, :, :] > 0, weights[..., m, None, None], out)
    return out.unsqueeze(-3)


def _summed(weights, boxes, size, end=0):
    return (weights[..., None, None] * _masks(boxes, size, end)).sum(-3).unsqueeze(-3)


def _one_row(weights, boxes, size):
    """By a loop over the first axis, as if it were that of the proposals."""
    out = torch.zeros(1, size, size)
    for weight, (x0, y0, x1, y1) in zip(weights, boxes.tolist(), strict=True):
        out[:, y0:y1, x0:x1] += weight
    return out


def _mask_cases() -> list[tuple]:
    boxes = torch.tensor([[[1, 2, 5, 4], [0, 0, 8, 7], [3, 3, 4, 8]], [[2, 0, 4, 8], [2, 2, 7, 4], [0, 1, 2, 3]]])
    weights = _random(2, 3).softmax(-1)
    return [(weights, boxes, 8), (_random(3, 2, seed=2), boxes[[0, 1, 0], 1:], 8),
            case(weights[0], boxes[0], 9, about="weights may be a single row, (M,), and boxes (M, 4)"),
            case(torch.tensor([[0.5, -1.5]]), torch.tensor([[[0, 0, 6, 6], [3, 2, 6, 5]]]), 6,
                 about="weights may be any numbers: add them up where boxes overlap, and cut nothing off"),
            case(torch.eye(3)[:2], boxes, 8, about="one-hot weights give the mask of one box"),
            case(_random(1, 1), torch.tensor([[[4, 1, 6, 2]]]), 12,
                 about="one anchor with one proposal keeps its axes"),
            case(_random(2, 2, 3), boxes.repeat(2, 1, 1, 1), 8,
                 about="there may be any number of axes before M, here two: the sum is over the last axis of the "
                       "weights")]


region_mask = Exercise(
    name="region_mask", reference=_regions.region_mask, cases=_mask_cases, observe=forward_and_gradient,
    reminder="the sum over the proposals of weight times mask, a mask being 1 in the rows y0:y1 and columns x0:x1",
    mistakes={
        "rows and columns are swapped: y0:y1 are the rows of the mask":
            lambda weights, boxes, size: _summed(weights, boxes, size).transpose(-1, -2),
        "the end of a box is exclusive: this one is a pixel too wide and too high":
            lambda weights, boxes, size: _summed(weights, boxes, size, end=1),
        "the end of a box is exclusive already: this one is a pixel too narrow and too low":
            lambda weights, boxes, size: _summed(weights, boxes, size, end=-1),
        "the start of a box belongs to it: compare with <=":
            lambda weights, boxes, size: _summed(weights, boxes + torch.tensor([1, 1, 0, 0]), size),
        "add the weighted masks up, don't average them: the weights sum to 1 already":
            lambda weights, boxes, size: _summed(weights, boxes, size) / boxes.shape[-2],
        "where boxes overlap their weights add up; this takes the largest":
            lambda weights, boxes, size: (weights[..., None, None] * _masks(boxes, size)).amax(-3).unsqueeze(-3),
        "where boxes overlap their weights add up; this cuts the sum off at 0 and 1":
            lambda weights, boxes, size: _summed(weights, boxes, size).clamp(0, 1),
        "where boxes overlap their weights add up; here the last box overwrites the others": _overwritten,
        "the weights have left the graph (by float, item or detach): no gradient comes back": (
            lambda weights, boxes, size: _summed(weights.detach(), boxes, size)),
        "there may be axes before M, one row for each anchor: the sum is over the last axis of the weights": _one_row,
        "the masks have to be weighted; this is the box with the largest weight alone":
            lambda weights, boxes, size: _summed(_hard(weights), boxes, size),
        "the masks have to be weighted: multiply each by its weight":
            lambda weights, boxes, size: _summed(torch.ones_like(weights) + 0 * weights, boxes, size),
        "weigh the masks with the weights as they are: no softmax": (
            lambda weights, boxes, size: _summed(weights.softmax(-1), boxes, size)),
        "both x and y have to lie within the box: this marks whole rows and columns": (
            lambda weights, boxes, size: (weights[..., None, None] * torch.maximum(
                _masks(boxes * torch.tensor([1, 0, 1, 0]) + torch.tensor([0, 0, 0, size]), size),
                _masks(boxes * torch.tensor([0, 1, 0, 1]) + torch.tensor([0, 0, size, 0]), size))).sum(-3).unsqueeze(
                    -3)),
        "the masks of single proposals are left: add them up over M":
            lambda weights, boxes, size: weights[..., None, None] * _masks(boxes, size),
        "the axis of the one channel is missing: (..., 1, size, size)":
            lambda weights, boxes, size: _summed(weights, boxes, size).squeeze(-3),
        "the last two numbers of a box are its other corner, not its width and height":
            lambda weights, boxes, size: _summed(
                weights, torch.cat([boxes[..., :2], boxes[..., :2] + boxes[..., 2:]], -1), size),
    })
