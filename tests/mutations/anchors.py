"""Students' answers to the exercises of notebook 02."""

import math
from itertools import combinations

import numpy as np
import torch


def top(attention, count):
    mean = attention.mean(0)
    index = mean.flatten().argsort(descending=True, stable=True)[:count]
    return torch.stack([index // mean.shape[1], index % mean.shape[1]], 1)


def spread(attention, count, distance, far=None, values=None, complain=True):
    far = far or (lambda a, b: math.hypot(a[0] - b[0], a[1] - b[1]) >= distance)
    mean = attention.mean(0) if values is None else values
    order = mean.flatten().argsort(descending=True, stable=True).tolist()
    chosen = []
    for i in order:
        place = divmod(i, mean.shape[1])
        if all(far(place, c) for c in chosen):
            chosen.append(place)
        if len(chosen) == count:
            return torch.tensor(chosen)
    if complain:
        raise ValueError("too few")
    return torch.tensor(chosen)


def by_suppression(attention, count, distance, least=0.0):
    """Takes the maximum again and again, and blots out what is near."""
    mean = attention.mean(0).clone()
    h, w = mean.shape
    rows, columns = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    chosen = []
    for _ in range(count):
        if mean.max() <= least:
            raise ValueError(f"only {len(chosen)} fit")
        r, c = divmod(int(mean.argmax()), w)
        chosen.append((r, c))
        near = ((rows - r) ** 2 + (columns - c) ** 2).float().sqrt() < distance
        mean[near] = least
        mean[r, c] = least
    return torch.tensor(chosen)


def suppression_repeats(attention, count, distance):
    mean = attention.mean(0).clone()
    h, w = mean.shape
    rows, columns = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    chosen = []
    for _ in range(count):
        if mean.max() <= 0:
            raise ValueError("too few")
        r, c = divmod(int(mean.argmax()), w)
        chosen.append((r, c))
        mean[((rows - r) ** 2 + (columns - c) ** 2).float().sqrt() < distance] = 0
    return torch.tensor(chosen)


def suppression_in_place(attention, count, distance):
    attention[0] = attention.mean(0)
    return by_suppression(attention[:1], count, distance)


def raises_runtime(attention, count, distance):
    try:
        return spread(attention, count, distance)
    except ValueError:
        raise RuntimeError("no room") from None


def gives_up(attention, count, distance):
    try:
        return spread(attention, count, distance)
    except ValueError:
        return None


def inside(points, boxes):
    return torch.tensor([[bool(x0 <= x < x1 and y0 <= y < y1) for x0, y0, x1, y1 in boxes.tolist()]
                         for x, y in points.tolist()])


def within(p, b):
    return ((p[:, None] >= b[:, :2]) & (p[:, None] < b[:, 2:])).all(-1)


def on_canvas(points, boxes, side=64):
    found = []
    for x0, y0, x1, y1 in boxes.tolist():
        canvas = torch.zeros(side, side, dtype=torch.bool)
        canvas[int(y0):int(y1), int(x0):int(x1)] = True
        found.append(canvas[points[:, 1].long(), points[:, 0].long()])
    return torch.stack(found, 1)


def covered_in(side):
    def share(boxes, size):
        canvas = torch.zeros(side, side)
        for x0, y0, x1, y1 in boxes.tolist():
            canvas[y0:y1, x0:x1] = 1
        return float(canvas.sum()) / size ** 2
    return share


def inclusion_exclusion(boxes, size, upto=None):
    def common(some):
        x0, y0, x1, y1 = (f(b[i] for b in some) for i, f in enumerate((max, max, min, min)))
        return max(0, x1 - x0) * max(0, y1 - y0)
    b = boxes.tolist()
    return sum((-1) ** (n + 1) * sum(map(common, combinations(b, n))) for n in range(1, (upto or len(b)) + 1)) / size ** 2


def covered(boxes, size):
    picture = np.zeros((size, size))
    for x0, y0, x1, y1 in np.asarray(boxes):
        picture[y0:y1, x0:x1] = 1
    return picture.mean()


def pairwise(boxes, size):
    total, done = 0, []
    for x0, y0, x1, y1 in boxes.tolist():
        total += (x1 - x0) * (y1 - y0)
        for a, b, c, d in done:
            total -= max(0, min(x1, c) - max(x0, a)) * max(0, min(y1, d) - max(y0, b))
        done.append((x0, y0, x1, y1))
    return total / size ** 2


def pixels(boxes, size):
    return len({(x, y) for x0, y0, x1, y1 in boxes.tolist() for x in range(x0, x1) for y in range(y0, y1)}) / size ** 2


WRONG = {
    "cls_attention": [
        ("column", "column", lambda a, g: a[0, :, 1:, 0].view(-1, *g)),
        ("all keys", "itself", lambda a, g: a[0, :, 0].reshape(a.shape[1], *g)),
        ("last key left out", "first key", lambda a, g: a[0, :, 0, :-1].view(a.shape[1], *g)),
        ("mean of heads", "heads", lambda a, g: a.mean(1)[0, 0, 1:].view(*g)),
        ("(w, h)", "reading order|turned|transpose|reshape to", lambda a, g: a[0, :, 0, 1:].view(-1, g[1], g[0])),
        ("keeps the batch", "axis", lambda a, g: a[:, :, 0, 1:].view(1, -1, *g)),
        ("first head", "head", lambda a, g: a[0, 0, 0, 1:].view(*g)[None]),
        ("normalised", "as they are|divide", lambda a, g: (lambda m: m / m.sum((1, 2), keepdim=True))(a[0, :, 0, 1:].view(-1, *g))),
        ("not reshaped", "reshape|grid", lambda a, g: a[0, :, 0, 1:]),
        ("hard-coded grid", "shape", lambda a, g: a[0, :, 0, 1:].reshape(-1, 3, 5)),
        ("squeezes single heads", "keep their axes|axis", lambda a, g: a[0, :, 0, 1:].reshape(-1, *g).squeeze()),
    ],
    "top_anchors": [
        ("(column, row)", "(row, column)", lambda a, k: top(a, k)[:, [1, 0]]),
        ("divides by the height", "number of", lambda a, k: (lambda i: torch.stack([i // a.shape[1], i % a.shape[1]], 1))(
            a.mean(0).flatten().argsort(descending=True, stable=True)[:k])),
        ("ascending", "descending", lambda a, k: top(-a, k)),
        ("max over heads", "mean|average", lambda a, k: top(a.max(0).values[None], k)),
        ("one head", "average", lambda a, k: top(a[:1], k)),
        ("no mean", "not averaged", lambda a, k: (lambda i: torch.stack([i // a.shape[2], i % a.shape[2]], 1))(
            a.flatten().argsort(descending=True, stable=True)[:k])),
        ("no mean, places within a head", "not averaged", lambda a, k: (lambda i: torch.stack(
            [i % a[0].numel() // a.shape[2], i % a.shape[2]], 1))(a.flatten().argsort(descending=True, stable=True)[:k])),
        ("in reading order", "strongest|order", lambda a, k: torch.tensor(sorted(top(a, k).tolist()))),
        ("floats", "whole-number", lambda a, k: top(a, k).float()),
        ("true division", "whole-number", lambda a, k: (lambda i: torch.stack([i / a.shape[2], i % a.shape[2]], 1))(
            a.mean(0).flatten().argsort(descending=True, stable=True)[:k])),
        ("ties by topk of the flipped", "stable|reading order", lambda a, k: (lambda i: torch.stack(
            [i // a.shape[2], i % a.shape[2]], 1))(a.mean(0).flatten().argsort(stable=True).flip(0)[:k])),
        ("always nine", "shape|count|length", lambda a, k: top(a, min(9, a[0].numel()))),
        ("flat indices", "position", lambda a, k: a.mean(0).flatten().argsort(descending=True, stable=True)[:k]),
        ("stacked the other way", "stack|turned", lambda a, k: top(a, k).T),
    ],
    "anchor_centres": [
        ("swapped", "swapped", lambda a, g, s: torch.stack([(a[:, 0] + .5) * s / g[0], (a[:, 1] + .5) * s / g[1]], 1)),
        ("corners", "corner", lambda a, g, s: torch.stack([a[:, 1] * s / g[1], a[:, 0] * s / g[0]], 1)),
        ("half pixel", "half a pixel|half a patch", lambda a, g, s: torch.stack([a[:, 1] * s / g[1] + .5, a[:, 0] * s / g[0] + .5], 1)),
        ("square patches", "square", lambda a, g, s: (a.flip(1) + .5) * (s / g[0])),
        ("whole division", "cut off|fraction|/", lambda a, g, s: ((a.flip(1) + .5) * torch.tensor([s // g[1], s // g[0]]))),
        ("64 pixels", "size|multiplied|64", lambda a, g, s: torch.stack([(a[:, 1] + .5) * 64 / g[1], (a[:, 0] + .5) * 64 / g[0]], 1)),
        ("last patch at the border", "w - 1|w patches", lambda a, g, s: torch.stack(
            [a[:, 1] / (g[1] - 1) * s, a[:, 0] / (g[0] - 1) * s], 1)),
        ("in patches", "patches, not in pixels|pixels", lambda a, g, s: a.flip(1).float() + .5),
        ("shares of the picture", "pixels", lambda a, g, s: torch.stack([(a[:, 1] + .5) / g[1], (a[:, 0] + .5) / g[0]], 1)),
        ("rounded", "fraction|rounded", lambda a, g, s: torch.stack([(a[:, 1] + .5) * s / g[1], (a[:, 0] + .5) * s / g[0]], 1).round()),
        ("whole numbers", "floating-point", lambda a, g, s: torch.stack(
            [(a[:, 1] + .5) * s / g[1], (a[:, 0] + .5) * s / g[0]], 1).long()),
    ],
    "points_in_boxes": [
        ("inclusive", "exclusive", lambda p, b: (p[:, None, 0] >= b[:, 0]) & (p[:, None, 0] <= b[:, 2]) & (
            p[:, None, 1] >= b[:, 1]) & (p[:, None, 1] <= b[:, 3])),
        ("strict", "start", lambda p, b: (p[:, None, 0] > b[:, 0]) & (p[:, None, 0] < b[:, 2]) & (
            p[:, None, 1] > b[:, 1]) & (p[:, None, 1] < b[:, 3])),
        ("x, y swapped", "swapped", lambda p, b: inside(p[:, [1, 0]], b)),
        ("turned", "turned", lambda p, b: inside(p, b).T),
        ("width and height", "corner", lambda p, b: inside(p, torch.cat([b[:, :2], b[:, :2] + b[:, 2:]], 1))),
        ("only one inclusive end", "exclusive", lambda p, b: (p[:, None, 0] >= b[:, 0]) & (p[:, None, 0] < b[:, 2]) & (
            p[:, None, 1] >= b[:, 1]) & (p[:, None, 1] <= b[:, 3])),
        ("rounds the points", "fractions", lambda p, b: inside(p.round(), b)),
        ("any box", "each box|axis", lambda p, b: inside(p, b).any(1)),
        ("or", "both x and y", lambda p, b: ((p[:, None] >= b[:, :2]) & (p[:, None] < b[:, 2:])).any(-1)),
        ("as numbers", "boolean", lambda p, b: inside(p, b).float()),
        ("first box only", "axis|length|shape", lambda p, b: inside(p, b[:1])),
        ("cuts the points off", "fractions", lambda p, b: within(p.long(), b)),
        ("floor", "fractions", lambda p, b: within(p.floor(), b)),
        ("cuts the boxes off", "fractions", lambda p, b: within(p, b.long())),
        ("rounds the boxes", "fractions", lambda p, b: within(p, b.float().round())),
        ("the first box that holds it", "several boxes", lambda p, b: (lambda m: m & (m.cumsum(1) == 1))(within(p, b))),
        ("on a canvas", "fractions|any|64", on_canvas),
        ("on a large canvas", "fractions", lambda p, b: on_canvas(p, b, 400)),
    ],
    "covered_share": [
        ("sum of areas", "twice|once", lambda b, s: float(((b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1])).sum()) / s ** 2),
        ("pairwise inclusion-exclusion", "each pair", pairwise),
        ("counts pixels", "divide", lambda b, s: covered(b, s) * s * s),
        ("inclusive", "exclusive", lambda b, s: pixels(b + torch.tensor([0, 0, 1, 1]), s)),
        ("outside", "outside", lambda b, s: 1 - covered(b, s)),
        ("mean of boxes", "average", lambda b, s: float(((b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1])).float().mean()) / s ** 2),
        ("of 64", "64", lambda b, s: covered(b, s) * s * s / 4096),
        ("per cent", "100", lambda b, s: 100 * covered(b, s)),
        ("hull", "around all boxes|between", lambda b, s: float((b[:, 2:].max(0).values - b[:, :2].min(0).values).prod()) / s ** 2),
        ("the first box", "first box", lambda b, s: covered(b[:1], s)),
        ("intersection", "all of them", lambda b, s: float(np.min([[[x0 <= x < x1 and y0 <= y < y1 for x in range(s)] for y in range(s)]
                                                             for x0, y0, x1, y1 in b.tolist()], 0).mean())),
        ("canvas of 64", "64", covered_in(64)),
        ("canvas of 100", "any size", covered_in(100)),
        ("up to three boxes", "four boxes", lambda b, s: inclusion_exclusion(b, s, 3)),
        ("slices of floats", "whole number", lambda b, s: (lambda c: [c.__setitem__((slice(x[1], x[3]), slice(x[0], x[2])), 1)
                                                                     for x in b.float()] and float(c.mean()))(torch.zeros(s, s))),
        ("only each box and the one before", "three boxes|pixels|four boxes|overlap", lambda b, s: (
            covered(b[:1], s) + sum(covered(b[i:i + 1], s) - (covered(b[i - 1:i], s) + covered(b[i:i + 1], s)
                                                              - covered(b[i - 1:i + 1], s)) for i in range(1, len(b))))),
    ],
    "spread_anchors": [
        ("plain top", "plain top", lambda a, k, d: top(a, k)),
        (">", "exactly", lambda a, k, d: spread(a, k, d, lambda p, c: math.dist(p, c) > d)),
        ("never raises", "ValueError", lambda a, k, d: spread(a, k, d, complain=False)),
        ("squared distance", "squared", lambda a, k, d: spread(a, k, d, lambda p, c: (p[0] - c[0]) ** 2 + (p[1] - c[1]) ** 2 >= d)),
        ("city blocks", "sum of the two", lambda a, k, d: spread(a, k, d, lambda p, c: abs(p[0] - c[0]) + abs(p[1] - c[1]) >= d)),
        ("chessboard", "larger of the two", lambda a, k, d: spread(a, k, d, lambda p, c: max(
            abs(p[0] - c[0]), abs(p[1] - c[1])) >= d)),
        ("loudest head", "average|mean", lambda a, k, d: spread(a, k, d, values=a.amax(0))),
        ("(column, row)", "(row, column)", lambda a, k, d: spread(a, k, d).flip(1)),
        ("raises another error", "ValueError", raises_runtime),
        ("suppression that repeats at 0", "each patch once|distance 0", suppression_repeats),
        ("blots the input out", "in place", suppression_in_place),
        ("ignores the last ones", "all that are chosen|last|last chosen", lambda a, k, d: spread(
            a, k, d, lambda p, c: True) if k < 2 else spread_against_last(a, k, d)),
        ("whole distances", "distance", lambda a, k, d: spread(a, k, int(d))),
        ("rounded up", "don't round", lambda a, k, d: spread(a, k, math.ceil(d))),
        ("norm rounded", "don't round", lambda a, k, d: spread(a, k, d, lambda p, c: round(math.dist(p, c)) >= d)),
        ("norm rounded up", "don't round", lambda a, k, d: spread(a, k, d, lambda p, c: math.ceil(math.dist(p, c)) >= d)),
        ("whole norm", "don't round", lambda a, k, d: spread(a, k, d, lambda p, c: int(math.dist(p, c)) >= d)),
        ("nothing where few fit", "ValueError", gives_up),
    ],
}


def spread_against_last(attention, count, distance):
    order, chosen = top(attention, attention[0].numel()).tolist(), []
    for p in order:
        if not chosen or math.dist(p, chosen[-1]) >= distance:
            chosen.append(p)
        if len(chosen) == count:
            return torch.tensor(chosen)
    raise ValueError("too few")


RIGHT = {
    "cls_attention": [
        ("squeeze and view", lambda a, g: a.squeeze(0)[:, 0, 1:].contiguous().view(a.shape[1], g[0], g[1])),
        ("unflatten", lambda a, g: a[0, :, 0, 1:].unflatten(1, g)),
        ("numpy", lambda a, g: a.numpy()[0, :, 0, 1:].reshape(-1, *g)),
    ],
    "top_anchors": [
        ("unravel_index", lambda a, k: torch.stack(torch.unravel_index(
            a.mean(0).flatten().argsort(descending=True, stable=True)[:k], a.shape[1:]), 1)),
        ("numpy", lambda a, k: np.stack(np.unravel_index(np.argsort(-a.numpy().mean(0).ravel(), kind="stable")[:k],
                                                         a.shape[1:]), 1)),
        ("list of tuples", lambda a, k: [divmod(i, a.shape[2]) for i in sorted(
            range(a[0].numel()), key=lambda i: -float(a.mean(0).flatten()[i]))[:k]]),
    ],
    "anchor_centres": [
        ("all at once", lambda a, g, s: (a.flip(1) + 0.5) * s / torch.tensor([g[1], g[0]])),
        ("numpy", lambda a, g, s: (a.numpy()[:, ::-1] + 0.5) * s / np.array(g[::-1])),
        ("list", lambda a, g, s: [[(c + 0.5) * s / g[1], (r + 0.5) * s / g[0]] for r, c in a.tolist()]),
    ],
    "points_in_boxes": [
        ("loops", inside),
        ("list", lambda p, b: inside(p, b).tolist()),
        ("not outside", lambda p, b: ~((p[:, None] < b[:, :2]) | (p[:, None] >= b[:, 2:])).any(2)),
        ("all", lambda p, b: ((b[None, :, :2] <= p[:, None]) & (p[:, None] < b[None, :, 2:])).all(2)),
        ("numpy", lambda p, b: ((b.numpy()[:, :2] <= p.numpy()[:, None]) & (p.numpy()[:, None] < b.numpy()[:, 2:])).all(2)),
    ],
    "covered_share": [("numpy", covered), ("set of pixels", pixels), ("inclusion-exclusion of all", inclusion_exclusion),
                      ("tensor", lambda b, s: torch.tensor(covered(b, s)))],
    "spread_anchors": [
        ("loop", spread), ("suppression map", by_suppression),
        ("suppression by −1", lambda a, k, d: by_suppression(a, k, d, -1.0)),
        ("lists", lambda a, k, d: spread(a, k, d).tolist()),
    ],
}
