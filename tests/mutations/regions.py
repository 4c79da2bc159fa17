"""Students' answers to the exercises of notebook 03."""

import math

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F


def squares(centres, sizes, size, half=lambda s, size: s * size / 2, finish=lambda b, size: b.round().clamp(0, size).long()):
    boxes = torch.stack([torch.stack([torch.stack([c[0] - half(s, size), c[1] - half(s, size), c[0] + half(s, size),
                                                   c[1] + half(s, size)]) for s in sizes]) for c in centres])
    return finish(boxes, size)


def squares_by_lists(centres, sizes, size):
    out = []
    for x, y in centres.tolist():
        row = []
        for s in sizes:
            h = s * size / 2
            row.append([int(np.clip(np.rint(v), 0, size)) for v in (x - h, y - h, x + h, y + h)])
        out.append(row)
    return out


def points(box, scale, side, offset=-0.5, middle=0.5, order="xy"):
    out = torch.empty(side, side, 2)
    x0, y0, x1, y1 = (float(v) for v in box)
    for i in range(side):
        for j in range(side):
            x = (x0 + (j + middle) * (x1 - x0) / side) * scale + offset
            y = (y0 + (i + middle) * (y1 - y0) / side) * scale + offset
            out[i, j] = torch.tensor([x, y] if order == "xy" else [y, x])
    return out


def read(f, p, clamp=True, right=1):
    d, h, w = f.shape
    out = torch.zeros(d, *p.shape[:2])
    for i in range(p.shape[0]):
        for j in range(p.shape[1]):
            x, y = p[i, j].tolist()
            if clamp:
                x, y = min(max(x, 0), w - 1), min(max(y, 0), h - 1)
            x0, y0 = math.floor(x), math.floor(y)
            x1, y1 = min(x0 + right, w - 1), min(y0 + right, h - 1)
            a, b = x - x0, y - y0
            out[:, i, j] = ((1 - a) * (1 - b) * f[:, y0, x0] + a * (1 - b) * f[:, y0, x1] + (1 - a) * b * f[:, y1, x0]
                            + a * b * f[:, y1, x1])
    return out


def beyond(f, x, y):
    """Reads wherever the points are; only the token to the right or below is kept inside."""
    j, i = x.floor().long(), y.floor().long()
    a, b = x - j, y - i
    right, below = (j + 1).clamp(max=f.shape[2] - 1), (i + 1).clamp(max=f.shape[1] - 1)
    return ((1 - a) * (1 - b) * f[:, i, j] + a * (1 - b) * f[:, i, right] + (1 - a) * b * f[:, below, j]
            + a * b * f[:, below, right])


def read_past_the_end(f, p):
    _, h, w = f.shape
    x, y = p[..., 0].clamp(0, w - 1), p[..., 1].clamp(0, h - 1)
    i, j = y.floor().long(), x.floor().long()
    a, b = x - j, y - i
    return ((1 - a) * (1 - b) * f[:, i, j] + a * (1 - b) * f[:, i, j + 1] + (1 - a) * b * f[:, i + 1, j]
            + a * b * f[:, i + 1, j + 1])


class Net(nn.Module):
    """The right one, with every part open to change."""

    kernel, acts, last, flat, bias = 1, (F.relu, F.relu, F.relu), None, "flatten", True

    def __init__(self, proposals, channels, pool, hidden=32):
        super().__init__()
        self.a = nn.Conv2d(proposals * channels, hidden, self.kernel, padding=self.kernel // 2)
        self.b = nn.Conv2d(hidden, self.narrow(hidden), self.kernel, padding=self.kernel // 2)
        inside = pool * pool if self.flat == "flatten" else 1
        self.c = nn.Linear(self.narrow(hidden) * inside, hidden)
        self.d = nn.Linear(hidden, proposals)

    def narrow(self, hidden):
        return hidden // 2

    def forward(self, x):
        x = self.acts[1](self.b(self.acts[0](self.a(x))))
        x = x.flatten(1) if self.flat == "flatten" else x.mean((-1, -2))
        x = self.d(self.acts[2](self.c(x)))
        return x if self.last is None else self.last(x)


def net(**changes):
    return type("Net", (Net,), changes)


class Clamped(Net):
    def forward(self, x):
        x = self.b(self.a(x).clamp(min=0))
        x = torch.maximum(x, torch.zeros_like(x)).reshape(len(x), -1)
        return self.d(self.c(x).clamp_min(0))


class ByToken(Net):
    """Flattens token by token."""

    def forward(self, x):
        x = F.relu(self.b(F.relu(self.a(x))))
        return self.d(F.relu(self.c(x.permute(0, 2, 3, 1).flatten(1))))


class Padded(Net):
    def __init__(self, proposals, channels, pool, hidden=32):
        super().__init__(proposals, channels, pool + 4, hidden)
        self.a.padding = self.b.padding = (1, 1)


class Silent(Net):
    def forward(self, x):
        super().forward(x)


class NoSuper(nn.Module):
    def __init__(self, proposals, channels, pool, hidden=32):
        self.a = nn.Conv2d(proposals * channels, hidden, 1)


class Dropped(Net):
    def forward(self, x):
        return super().forward(F.dropout(x, 0.5))


class InPlace(Net):
    def forward(self, x):
        return super().forward(x.relu_())


class Detached(Net):
    def forward(self, x):
        x = F.relu(self.b(F.relu(self.a(x)))).detach()
        return self.d(F.relu(self.c(x.flatten(1))))


class OneConvolution(Net):
    def forward(self, x):
        x = F.relu(self.a(x))[:, :self.b.out_channels]
        return self.d(F.relu(self.c(x.flatten(1))))


class InAList(nn.Module):
    def __init__(self, proposals, channels, pool, hidden=32):
        super().__init__()
        self.convolutions = [nn.Conv2d(proposals * channels, hidden, 1), nn.Conv2d(hidden, hidden // 2, 1)]
        self.linear = [nn.Linear(hidden // 2 * pool * pool, hidden), nn.Linear(hidden, proposals)]

    def forward(self, x):
        for convolution in self.convolutions:
            x = F.relu(convolution(x))
        return self.linear[1](F.relu(self.linear[0](x.flatten(1))))


class FlatAltogether(Net):
    def forward(self, x):
        return self.d(F.relu(self.c(F.relu(self.b(F.relu(self.a(x)))).flatten())))


def gumbel(u):
    return -torch.log(-torch.log(u))


def one_hot(soft):
    return F.one_hot(soft.argmax(-1), soft.shape[-1]).to(soft.dtype)


def mask_by_slices(weights, boxes, size, end=0, turned=False, add=True, keep=True):
    flat_w, flat_b = weights.reshape(-1, weights.shape[-1]), boxes.reshape(-1, *boxes.shape[-2:])
    masks = []
    for w, bs in zip(flat_w, flat_b):
        total = torch.zeros(size, size)
        for m, (x0, y0, x1, y1) in enumerate(bs.tolist()):
            one = torch.zeros(size, size)
            if turned:
                one[x0:x1, y0:y1] = 1
            else:
                one[y0:y1 + end, x0:x1 + end] = 1
            total = total + w[m] * one if add else torch.where(one > 0, w[m], total)
        masks.append(total)
    out = torch.stack(masks).reshape(*weights.shape[:-1], size, size)
    return out.unsqueeze(-3) if keep else out


def mask_of_one_row(weights, boxes, size):
    mask = torch.zeros(1, size, size)
    for w, (x0, y0, x1, y1) in zip(weights, boxes.tolist()):
        mask[0, y0:y1, x0:x1] += w
    return mask


def mask_of_one_or_two_axes(weights, boxes, size):
    if weights.ndim == 1:
        return mask_by_slices(weights, boxes, size)
    rows = []
    for k in range(weights.shape[0]):
        total = 0
        for m in range(weights.shape[1]):
            total = total + weights[k, m] * mask_by_slices(torch.ones(1), boxes[k, m][None], size)
        rows.append(total)
    return torch.stack(rows)


def corners(centres, half, size):
    return torch.cat([centres[:, None] - half, centres[:, None] + half], -1).round().clamp(0, size).long()


WRONG = {
    "proposals": [
        ("whole sides as half sides", "whole sides", lambda c, s, n: squares(c, s, n, lambda k, size: k * size)),
        ("no clamp", "clamp", lambda c, s, n: squares(c, s, n, finish=lambda b, size: b.round().long())),
        ("clamp to size − 1", "size − 1|0 … size", lambda c, s, n: squares(c, s, n, finish=lambda b, z: b.round().clamp(0, z - 1).long())),
        ("cut off decimals", "cutting off", lambda c, s, n: squares(c, s, n, finish=lambda b, z: b.long().clamp(0, z))),
        ("clamped, then cut off", "cutting off", lambda c, s, n: (lambda half: torch.cat(
            [c[:, None] - half, c[:, None] + half], -1).clamp(0, n).long())(torch.tensor(s)[:, None] * n / 2)),
        ("the tuple times half the side", "torch.tensor", lambda c, s, n: corners(c, n / 2 * s, n)),
        ("the tuple times the side, halved", "torch.tensor", lambda c, s, n: corners(c, s * n / 2, n)),
        ("the tuple off the centre", "torch.tensor", lambda c, s, n: c[:, None] - s),
        ("rounded up", "not up|nearest", lambda c, s, n: squares(c, s, n, finish=lambda b, z: b.ceil().clamp(0, z).long())),
        ("x, y swapped", "swapped", lambda c, s, n: squares(c[:, [1, 0]], s, n)),
        ("floats", "whole-number", lambda c, s, n: squares(c, s, n, finish=lambda b, z: b.round().clamp(0, z))),
        ("pushed inside", "pushed inside|cut", lambda c, s, n: squares(
            torch.stack([c.clamp(min(s) * n / 2, n - min(s) * n / 2)[i] for i in range(len(c))]), s, n)),
        ("width and height", "other corner", lambda c, s, n: (lambda b: torch.cat([b[..., :2], b[..., 2:] - b[..., :2]], -1))(
            squares(c, s, n))),
        ("sizes first", "(K, M, 4)|order|axes|length", lambda c, s, n: squares(c, s, n).transpose(0, 1)),
        ("of 64 pixels", "64|side", lambda c, s, n: squares(c, s, n, lambda k, size: k * 32)),
        ("inclusive ends", "exclusive", lambda c, s, n: squares(c, s, n, finish=lambda b, z: (
            b.round() - torch.tensor([0, 0, 1, 1])).clamp(0, z).long())),
        ("flattened", "axis|axes", lambda c, s, n: squares(c, s, n).flatten(0, 1)),
        ("a single size squeezed", "single size", lambda c, s, n: squares(c, s, n).squeeze(1)),
    ],
    "sample_points": [
        ("no half token", "half token", lambda b, s, n: points(b, s, n, offset=0)),
        ("corners of bins", "corner|middles", lambda b, s, n: points(b, s, n, middle=0)),
        ("(y, x)", "x first|x and y", lambda b, s, n: points(b, s, n, order="yx")),
        ("transposed", "swapped", lambda b, s, n: points(b, s, n).permute(1, 0, 2)),
        ("scale twice", "once", lambda b, s, n: points(b, s * s, n)),
        ("divides by the scale", "multiply by it|divide", lambda b, s, n: points(b, 1 / s, n)),
        ("linspace", "border", lambda b, s, n: torch.stack(torch.meshgrid(
            torch.linspace(float(b[0]), float(b[2]), n) * s - .5, torch.linspace(float(b[1]), float(b[3]), n) * s - .5,
            indexing="xy"), -1)),
        ("half a pixel", "after scaling", lambda b, s, n: points(b, s, n, offset=-s / 2)),
        ("plus a half", "taken off", lambda b, s, n: points(b, s, n, offset=.5)),
        ("from the origin", "begin at", lambda b, s, n: points(b - b[[0, 1, 0, 1]], s, n)),
        ("flat list of points", "axis|axes", lambda b, s, n: points(b, s, n).reshape(-1, 2)),
        ("in pixels", "scale", lambda b, s, n: points(b, 1.0, n)),
        ("x and y first", "last axis", lambda b, s, n: points(b, s, n).permute(2, 0, 1)),
        ("x and y apart", "last axis", lambda b, s, n: tuple(points(b, s, n).unbind(-1))),
    ],
    "pool_box": [
        ("x, y swapped", "row|swapped|y chooses", lambda f, p: F.grid_sample(
            f[None], (p.flip(-1) / (torch.tensor([f.shape[2], f.shape[1]]) - 1) * 2 - 1)[None], align_corners=True,
            padding_mode="border")[0]),
        ("nearest", "four tokens", lambda f, p: f[:, p[..., 1].round().long().clamp(0, f.shape[1] - 1),
                                                  p[..., 0].round().long().clamp(0, f.shape[2] - 1)]),
        ("floor", "upper left|four tokens", lambda f, p: f[:, p[..., 1].long().clamp(0, f.shape[1] - 1),
                                                           p[..., 0].long().clamp(0, f.shape[2] - 1)]),
        ("past the end", "clamp its index|last token", read_past_the_end),
        ("zeros outside", "border", lambda f, p: F.grid_sample(
            f[None], (p / (torch.tensor([f.shape[2], f.shape[1]]) - 1) * 2 - 1)[None], align_corners=True)[0]),
        ("align_corners=False", "align_corners=True", lambda f, p: F.grid_sample(
            f[None], (p / (torch.tensor([f.shape[2], f.shape[1]]) - 1) * 2 - 1)[None], align_corners=False,
            padding_mode="border")[0]),
        ("no clamp of the points", "clamp", lambda f, p: read(f, p, clamp=False)),
        ("channels last", "channels|order", lambda f, p: read(f, p).permute(1, 2, 0)),
        ("a for both", "weights|a and b|swapped|1−b|ab", lambda f, p: read(f, torch.stack([p[..., 0], p[..., 1].clamp(
            0, f.shape[1] - 1).floor() + p[..., 0].clamp(0, f.shape[2] - 1) % 1], -1))),
        ("mean of four", "alike", lambda f, p: (read(f, p.clamp(min=0).floor()) + read(f, p.ceil()) + read(
            f, torch.stack([p[..., 0].clamp(min=0).floor(), p[..., 1].ceil()], -1)) + read(
                f, torch.stack([p[..., 0].ceil(), p[..., 1].clamp(min=0).floor()], -1))) / 4),
        ("one point", "axis|axes", lambda f, p: read(f, p)[:, 0, 0]),
        ("clamps below only", "right or the lower end", lambda f, p: beyond(f, p[..., 0].clamp(min=0), p[..., 1].clamp(min=0))),
        ("clamps y below only", "right or the lower end", lambda f, p: beyond(
            f, p[..., 0].clamp(0, f.shape[2] - 1), p[..., 1].clamp(min=0))),
        ("clamps by the longer side", "right or the lower end|clamp", lambda f, p: beyond(
            f, *p.clamp(0, max(f.shape[1:]) - 1).unbind(-1))),
        ("clamps to w and h", "right or the lower end|clamp", lambda f, p: beyond(
            f, p[..., 0].clamp(0, f.shape[2]), p[..., 1].clamp(0, f.shape[1]))),
        ("clamps in place", "in place", lambda f, p: (p.clamp_(min=0), read(f, p))[1]),
    ],
    "region_network": [
        ("3 × 3", "1 × 1", net(kernel=3)),
        ("softmax", "softmax", net(last=lambda self, x: x.softmax(1))),
        ("relu at the end", "ReLU", net(last=lambda self, x: x.relu())),
        ("no relu", "ReLU", net(acts=(lambda x: x,) * 3)),
        ("one relu missing", "ReLU", net(acts=(F.relu, F.relu, lambda x: x))),
        ("tanh", "ReLU", net(acts=(torch.tanh,) * 3)),
        ("mean instead of flatten", "flatten", net(flat="mean")),
        ("same width twice", "hidden // 2|narrow", net(narrow=lambda self, hidden: hidden)),
        ("32 and 16 written down", "hidden", lambda p, c, s, hidden=32: Net(p, c, s, 32)),
        ("no super().__init__", "super", NoSuper),
        ("dropout", "by itself|another result|same call|no numbers", Dropped),
        ("relu_ on the input", "stay as they were|in place", InPlace),
        ("detached", "gradient", Detached),
        ("second convolution never called", "never called|layers in the order|gradient", OneConvolution),
        ("the softmax over anchors", "by itself|softmax", net(last=lambda self, x: x.softmax(0))),
        ("a token's channels alone", "count all that go in", lambda p, c, s, hidden=32: nn.Sequential(
            nn.Conv2d(c, hidden, 1), *list(Net(p, c, s, hidden).children())[1:])),
        ("flattens the anchors too", "flatten(1)", FlatAltogether),
        ("layers in a list", "ModuleList", InAList),
        ("padding", "layers in the order", Padded),
        ("ReLU6", "large numbers", net(acts=(F.relu6,) * 3)),
        ("clamped logits", "large numbers", net(last=lambda self, x: x.clamp(-10, 10))),
        ("half rounded up", "hidden // 2|rounded down", net(narrow=lambda self, hidden: -(-hidden // 2))),
        ("at least four", "hidden // 2|small", net(narrow=lambda self, hidden: max(hidden // 2, 4))),
        ("forward returns nothing", "return statement", Silent),
        ("a function that returns nothing", "return statement", lambda p, c, s, hidden=32: None),
        ("turned", "shape of the logits", net(last=lambda self, x: x.T)),
        ("squeezed", "by itself", net(last=lambda self, x: x.squeeze())),
        ("a network instead of its class", "stub's parameters", nn.Linear(3, 3)),
        ("one logit", "shape|layers", lambda p, c, s, hidden=32: nn.Sequential(*list(Net(p, c, s, hidden).children())[:2], nn.Flatten(),
                                                                       nn.Linear(hidden // 2 * s * s, 1))),
    ],
    "gumbel_softmax": [
        ("detached", "gradient", lambda l, t, u: ((l.detach() + gumbel(u)) / t).softmax(-1)),
        ("own noise", "same call|given", lambda l, t, u: F.gumbel_softmax(l, t)),
        ("no noise", "noise", lambda l, t, u: (l / t).softmax(-1)),
        ("times the temperature", "divide", lambda l, t, u: ((l + gumbel(u)) * t).softmax(-1)),
        ("one logarithm", "logarithm", lambda l, t, u: ((l - u.log()) / t).softmax(-1)),
        ("minus", "sign", lambda l, t, u: ((l - gumbel(u)) / t).softmax(-1)),
        ("first axis", "last axis", lambda l, t, u: ((l + gumbel(u)) / t).softmax(0)),
        ("axis 1", "last one", lambda l, t, u: ((l + gumbel(u)) / t).softmax(1 if l.ndim > 1 else 0)),
        ("temperature on the logits", "sum of logits and noise", lambda l, t, u: (l / t + gumbel(u)).softmax(-1)),
        ("hard", "hard", lambda l, t, u: one_hot(((l + gumbel(u)) / t).softmax(-1))),
        ("log_softmax", "log", lambda l, t, u: ((l + gumbel(u)) / t).log_softmax(-1)),
        ("no temperature", "temperature", lambda l, t, u: (l + gumbel(u)).softmax(-1)),
        ("in place", "in place", lambda l, t, u: (l.add_(gumbel(u)) / t).softmax(-1)),
        ("numpy", "stay in torch|gradient", lambda l, t, u: np.exp((l.numpy() + gumbel(u).numpy()) / t)),
        ("not normalised", "divide by the sum", lambda l, t, u: ((l + gumbel(u)) / t).exp()),
        ("by exp", "power of hundreds", lambda l, t, u: (lambda e: e / e.sum(-1, keepdim=True))(((l + gumbel(u)) / t).exp())),
        ("noise cut off", "near 0 or 1", lambda l, t, u: ((l + gumbel(u.clamp(1e-2, 1 - 1e-2))) / t).softmax(-1)),
        ("noise cut off a little", "near 0 or 1", lambda l, t, u: ((l + gumbel(u.clamp(1e-3, 1 - 1e-3))) / t).softmax(-1)),
        ("temperature at least 0.1", "low", lambda l, t, u: ((l + gumbel(u)) / max(t, 0.1)).softmax(-1)),
        ("logits cut off", "any numbers", lambda l, t, u: ((l.clamp(-10, 10) + gumbel(u)) / t).softmax(-1)),
        ("math.log", "torch's functions", lambda l, t, u: ((l - math.log(-math.log(u))) / t).softmax(-1)),
        ("returns nothing", "return statement", lambda l, t, u: None),
    ],
    "straight_through": [
        ("plain one-hot", "gradient", one_hot),
        ("soft", "soft", lambda s: s),
        ("adds soft", "detached copy|value", lambda s: one_hot(s) + s),
        ("wrong sign", "sign", lambda s: one_hot(s) - s + s.detach()),
        ("threshold", "below a half", lambda s: (s > .5).float() + s - s.detach()),
        ("rounding", "below a half", lambda s: s.round() + s - s.detach()),
        ("largest of all", "each row", lambda s: (s == s.max()).float() + s - s.detach()),
        ("largest of all, by argmax", "each row", lambda s: F.one_hot(s.argmax(), s.shape[-1]) + s - s.detach()),
        ("first axis", "last axis", lambda s: (s == s.max(0, keepdim=True).values).float() + s - s.detach()),
        ("first axis, by argmax", "last axis", lambda s: F.one_hot(s.argmax(0), s.shape[-1]) + s - s.detach()),
        ("both detached", "gradient", lambda s: one_hot(s) + (s - s).detach()),
        ("position", "one-hot", lambda s: s.argmax(-1)),
        ("smallest", "smallest", lambda s: one_hot(-s) + s - s.detach()),
        ("times soft", "exactly 1", lambda s: one_hot(s) * s),
        ("gradient of one entry", "all of|gradient", lambda s: one_hot(s) * (1 + s - s.detach())),
        ("equality", "equally large|one alone", lambda s: (s == s.amax(-1, keepdim=True)).to(s) - s.detach() + s),
        ("sharp softmax", "equally large", lambda s: (s * 1e6).softmax(-1) + s - s.detach()),
        ("above the second", "equally large|lie in", lambda s: (s - s.topk(2, -1).values[..., 1:]).sign().clamp(min=0)
         + s - s.detach()),
        ("one_hot of the weights", "takes positions", lambda s: F.one_hot(s, s.shape[-1])),
        ("gradient doubled", "gradient|detached", lambda s: one_hot(s) + 2 * (s - s.detach())),
    ],
    "region_mask": [
        ("rows and columns", "swapped", lambda w, b, n: mask_by_slices(w, b, n, turned=True)),
        ("inclusive", "exclusive", lambda w, b, n: mask_by_slices(w, b, n, end=1)),
        ("last box wins", "overwrites|add up", lambda w, b, n: mask_by_slices(w, b, n, add=False)),
        ("mean", "average|mean", lambda w, b, n: mask_by_slices(w, b, n) / w.shape[-1]),
        ("detached", "gradient", lambda w, b, n: mask_by_slices(w.detach(), b, n)),
        ("floats", "gradient", lambda w, b, n: mask_by_slices(torch.tensor(w.tolist()), b, n)),
        ("no channel", "axis", lambda w, b, n: mask_by_slices(w, b, n, keep=False)),
        ("clamped", "cut", lambda w, b, n: mask_by_slices(w, b, n).clamp(0, 1)),
        ("argmax", "largest weight", lambda w, b, n: mask_by_slices(one_hot(w) + 0 * w, b, n)),
        ("softmax once more", "softmax", lambda w, b, n: mask_by_slices(w.softmax(-1), b, n)),
        ("unweighted", "weight", lambda w, b, n: mask_by_slices(torch.ones_like(w) + 0 * w, b, n)),
        ("a loop over the first axis", "axes before M", mask_of_one_row),
        ("one axis before M, or none", "axes before M", mask_of_one_or_two_axes),
        ("einsum of one axis before M", "axes before M", lambda w, b, n: (lambda masks: torch.einsum(
            "km,kmhw->khw" if w.ndim == 2 else "m,mhw->hw", w, masks).unsqueeze(-3))(
                mask_by_slices(torch.ones(b.shape[:-1])[..., None], b[..., None, :], n, keep=False))),
        ("no negative weights", "any numbers", lambda w, b, n: mask_by_slices(w.relu(), b, n)),
        ("times 0", "only zeros", lambda w, b, n: mask_by_slices(w.detach(), b, n) + 0 * w.sum()),
        ("no sum", "add them up|axis", lambda w, b, n: mask_by_slices(w[..., None], b[..., None, :], n)),
    ],
}

RIGHT = {
    "proposals": [("stacks", squares), ("lists", squares_by_lists),
                  ("int32", lambda c, s, n: squares(c, s, n).int()), ("numpy", lambda c, s, n: squares(c, s, n).numpy())],
    "sample_points": [("loops", points), ("float64", lambda b, s, n: points(b, s, n).double()),
                      ("meshgrid xy", lambda b, s, n: torch.stack(torch.meshgrid(
                          (b[0] + (torch.arange(n) + .5) * (b[2] - b[0]) / n) * s - .5,
                          (b[1] + (torch.arange(n) + .5) * (b[3] - b[1]) / n) * s - .5, indexing="xy"), -1))],
    "pool_box": [("loops", read), ("grid_sample", lambda f, p: F.grid_sample(
        f[None], (2 * p / (torch.tensor([f.shape[2], f.shape[1]]) - 1) - 1)[None], align_corners=True, padding_mode="border")[0]),
                 ("numpy", lambda f, p: read(f, p).numpy())],
    "region_network": [("module", Net), ("clamps", Clamped), ("flattened token by token", ByToken), ("inplace ReLU", net(acts=(lambda x: F.relu(x, inplace=True),) * 3)),
                       ("Sequential", lambda p, c, s, hidden=32: nn.Sequential(
                           nn.Conv2d(p * c, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, hidden // 2, (1, 1)), nn.ReLU(), nn.Flatten(),
                           nn.LazyLinear(hidden), nn.ReLU(), nn.Linear(hidden, p))),
                       ("no bias", lambda p, c, s, hidden=32: nn.Sequential(
                           nn.Conv2d(p * c, hidden, 1, bias=False), nn.ReLU(), nn.Conv2d(hidden, hidden // 2, 1), nn.ReLU(),
                           nn.Flatten(), nn.Linear(hidden // 2 * s * s, hidden), nn.ReLU(), nn.Linear(hidden, p)))],
    "gumbel_softmax": [("plain", lambda l, t, u: torch.softmax((l + gumbel(u)) / t, -1)),
                       ("by exp, less the largest", lambda l, t, u: (lambda z: (lambda e: e / e.sum(-1, keepdim=True))(
                           (z - z.amax(-1, keepdim=True)).exp()))((l + gumbel(u)) / t)),
                       ("clamped", lambda l, t, u: F.softmax((l - (-u.clamp(1e-9, 1 - 1e-7).log()).log()) / t, dim=-1))],
    "straight_through": [("one_hot", lambda s: one_hot(s) + s - s.detach()), ("detached difference", lambda s: s + (one_hot(s) - s).detach()),
                         ("scatter", lambda s: (lambda h: (h - s).detach() + s)(
                             torch.zeros_like(s).scatter(-1, s.argmax(-1, keepdim=True), 1.0)))],
    "region_mask": [("slices", mask_by_slices),
                    ("einsum", lambda w, b, n: (lambda at: torch.einsum(
                        "...m,...my,...mx->...yx", w, ((b[..., 1, None] <= at) & (at < b[..., 3, None])).float(),
                        ((b[..., 0, None] <= at) & (at < b[..., 2, None])).float()).unsqueeze(-3))(torch.arange(n)))],
}
