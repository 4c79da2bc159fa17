"""Students' answers to the exercises of notebooks 08 (results), 09 (comparison) and 10 (extended experiments)."""

import math

import numpy as np
import torch
from torch.nn import functional as F

# 08


def iou(a, b, clamp=True, extra=0):
    w = min(a[2], b[2]) - max(a[0], b[0]) + extra
    h = min(a[3], b[3]) - max(a[1], b[1]) + extra
    shared = max(w, 0) * max(h, 0) if clamp else w * h
    union = (a[2] - a[0] + extra) * (a[3] - a[1] + extra) + (b[2] - b[0] + extra) * (b[3] - b[1] + extra) - shared
    return shared / union if union else 0


def hits(chosen, truths, of=iou, test=lambda v: v >= 0.5):
    return sum(test(of(a, b)) for a, b in zip(chosen.tolist(), truths.tolist())) / len(chosen)


def box_iou(chosen, truths):
    from torchvision.ops import box_iou

    return box_iou(chosen.float(), truths.float())


def shared(a, b):
    return max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0)


def size(a):
    return (a[2] - a[0]) * (a[3] - a[1])


def paired(ours, theirs, draws, ends=(2.5, 97.5)):
    d = ours - theirs
    means = [d[rows].mean() for rows in draws]
    return d.mean(), np.percentile(means, ends[0]), np.percentile(means, ends[1])


def own_draws(ours, theirs, draws):
    d = ours - theirs
    means = [np.random.choice(d, len(d)).mean() for _ in range(len(draws))]
    return d.mean(), *np.percentile(means, (2.5, 97.5))


def picked(ours, theirs, draws):
    d = ours - theirs
    means = sorted(d[draws].mean(1))
    return d.mean(), means[int(0.025 * len(means))], means[int(0.975 * len(means))]


def in_place(ours, theirs, draws):
    ours -= theirs
    return ours.mean(), *np.percentile(ours[draws].mean(1), (2.5, 97.5))


# 09


def beats(a, b):
    return a[0] >= b[0] and a[1] >= b[1] and a[2] <= b[2] and (a[0] > b[0] or a[1] > b[1] or a[2] < b[2])


def front(points, beats=beats):
    return [i for i in range(len(points)) if not any(beats(points[j], points[i]) for j in range(len(points)) if j != i)]


def better_in(points, *columns):
    """As `front`, but what makes the difference has to be in these columns."""
    def test(a, b):
        better = a[0] > b[0], a[1] > b[1], a[2] < b[2]
        return a[0] >= b[0] and a[1] >= b[1] and a[2] <= b[2] and any(better[c] for c in columns)
    return front(points, test)


def tolerant(a, b, by=0.01):
    better = a[0] > b[0] + by or a[1] > b[1] + by or a[2] < b[2] - by
    return a[0] >= b[0] - by and a[1] >= b[1] - by and a[2] <= b[2] + by and better


def taken_so_far(points):
    found = []
    for i in range(len(points)):
        if not any(beats(points[j], points[i]) for j in found):
            found.append(i)
    return found


def negate_cost(points):
    points[:, 2] *= -1
    return [i for i in range(len(points)) if not ((points >= points[i]).all(1) & (points > points[i]).any(1)).any()]


def unroll(runs, h, w):
    mask = np.zeros((h, w), bool)
    for i in range(0, len(runs), 2):
        for p in range(runs[i], runs[i] + runs[i + 1]):
            mask[p // w, p % w] = True
    return mask


def unrolled(runs, h, w, shift=0, longer=0):
    flat = torch.zeros(h * w, dtype=torch.bool)
    for a, n in zip(runs[::2], runs[1::2]):
        flat[max(a + shift, 0):max(a + shift, 0) + n + longer] = True
    return flat.view(h, w)


def ends(runs, h, w):
    flat = torch.zeros(h * w, dtype=torch.bool)
    for a, b in zip(runs[::2], runs[1::2]):
        flat[a:b] = True
    return flat.view(h, w)


def pops(runs, h, w):
    flat = torch.zeros(h * w, dtype=torch.bool)
    while runs:
        n = runs.pop()
        a = runs.pop()
        flat[a:a + n] = True
    return flat.view(h, w)


def differences(runs, h, w, add=False):
    steps = np.zeros(h * w + 1, int)
    for a, n in zip(runs[::2], runs[1::2]):
        if add:
            steps[a] += 1
            steps[a + n] -= 1
        else:
            steps[a], steps[a + n] = 1, -1
    return (np.cumsum(steps)[:-1] > 0).reshape(h, w)


def toggles(runs, h, w):
    marks = {m for a, n in zip(runs[::2], runs[1::2]) for m in (a, a + n)}
    on, flat = False, []
    for i in range(h * w):
        on = not on if i in marks else on
        flat.append(on)
    return torch.tensor(flat).reshape(h, w)


def mse(a, b, mask):
    return (((a - b) * (1 - mask)) ** 2).mean()


def numpy_psnr(a, b, mask):
    with np.errstate(divide="ignore"):
        return -10 * np.log10(np.mean(((a - b) * (1 - mask)).numpy() ** 2))


# 10


def overlaps(a, b):
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def free(boxes, before, test=overlaps):
    return torch.tensor([[not any(test(b, r) for r in before) for b in row] for row in boxes.tolist()])


def corners(b, r):
    return any(r[0] <= x < r[2] and r[1] <= y < r[3] for x in (b[0], b[2] - 1) for y in (b[1], b[3] - 1))


def on_canvas(boxes, before, side=64, step=1):
    canvas = np.zeros((side, side), bool)
    for x0, y0, x1, y1 in before:
        canvas[y0:y1, x0:x1] = True
    return np.array([[not canvas[y0:y1:step, x0:x1:step].any() for x0, y0, x1, y1 in row] for row in boxes.tolist()])


def on_large_canvas(boxes, before):
    return on_canvas(boxes, before, max([int(boxes.max()), *(max(r) for r in before)]))


def stage(iou, kept, chosen, fits=lambda v: v >= 0.5):
    k, m = chosen
    if fits(iou[k, m]):
        return "found"
    if not bool(fits(iou).any()):
        return "proposals"
    if not bool(fits(iou)[kept].any()):
        return "shortlist"
    return "choice"


def stage_by_loops(iou, kept, chosen):
    best = kept_best = 0.0
    for k in range(iou.shape[0]):
        for m in range(iou.shape[1]):
            best = max(best, float(iou[k, m]))
            if kept[k, m]:
                kept_best = max(kept_best, float(iou[k, m]))
    if iou[chosen] >= 0.5:
        return "found"
    return "proposals" if best < 0.5 else "shortlist" if kept_best < 0.5 else "choice"


def masks_in_place(iou, kept, chosen):
    iou[~kept] = 0
    return stage(iou, kept, chosen)


WRONG = {
    "hit_rate": [
        ("no clamp", "clamp|below 0", lambda c, t: hits(c, t, lambda a, b: iou(a, b, clamp=False))),
        ("clamped product", "clamp|below 0", lambda c, t: hits(c, t, lambda a, b: (lambda w, h: (lambda s: s / (
            size(a) + size(b) - s))(max(w * h, 0)))(min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])))),
        ("above", "exactly 0.5", lambda c, t: hits(c, t, test=lambda v: v > 0.5)),
        ("inclusive ends", "exclusive", lambda c, t: hits(c, t, lambda a, b: iou(a, b, extra=1))),
        ("over the truth", "union", lambda c, t: hits(c, t, lambda a, b: shared(a, b) / size(b))),
        ("over the chosen", "union", lambda c, t: hits(c, t, lambda a, b: shared(a, b) / size(a))),
        ("dice", "Dice|union", lambda c, t: hits(c, t, lambda a, b: 2 * shared(a, b) / (size(a) + size(b)))),
        ("sum of areas", "union|twice", lambda c, t: hits(c, t, lambda a, b: shared(a, b) / (size(a) + size(b)))),
        ("mean IoU", "mean IoU", lambda c, t: sum(map(iou, c.tolist(), t.tolist())) / len(c)),
        ("mean of booleans", "have no mean", lambda c, t: (box_iou(c, t).diagonal() >= .5).mean()),
        ("count", "number of hits", lambda c, t: hits(c, t) * len(c)),
        ("all with all", "all with all|own true box", lambda c, t: float((box_iou(c, t) >= .5).float().mean())),
        ("best of all", "all with all|own true box", lambda c, t: float((box_iou(c, t).max(1).values >= .5).float().mean())),
        ("centre", "centre", lambda c, t: float((((c[:, :2] + c[:, 2:]) / 2 >= t[:, :2]) & (
            (c[:, :2] + c[:, 2:]) / 2 < t[:, 2:])).all(1).float().mean())),
        ("per cent", "per cent", lambda c, t: 100 * hits(c, t)),
        ("whole rate", "whole number", lambda c, t: int(hits(c, t))),
        ("0.49", "a little below", lambda c, t: hits(c, t, test=lambda v: v >= 0.49)),
        ("each hit", "number was expected", lambda c, t: torch.tensor([iou(a, b) >= .5 for a, b in zip(c.tolist(), t.tolist())])),
        ("in place", "in place", lambda c, t: (c[:, 2:].sub_(c[:, :2]), hits(c, t))[1]),
    ],
    "paired_difference": [
        ("theirs − ours", "other way round", lambda o, t, d: paired(t, o, d)),
        ("5 and 95", "2.5", lambda o, t, d: paired(o, t, d, (5, 95))),
        ("shares", "100", lambda o, t, d: paired(o, t, d, (.025, .975))),
        ("no average", "average each resample", lambda o, t, d: ((o - t).mean(), *np.percentile((o - t)[d], (2.5, 97.5)))),
        ("axis 0", "axis 1", lambda o, t, d: ((o - t).mean(), *np.percentile((o - t)[d].mean(0), (2.5, 97.5)))),
        ("own draws", "same call", own_draws),
        ("quantile in per cent", "from 0 to 1", lambda o, t, d: ((o - t).mean(), *np.quantile((o - t)[d].mean(1), (2.5, 97.5)))),
        ("1.96 SE by np.std", "standard errors", lambda o, t, d: (lambda m, s: (m, m - 1.96 * s, m + 1.96 * s))(
            (o - t).mean(), (o - t).std() / len(o) ** .5)),
        ("theirs by other rows", "same draws", lambda o, t, d: ((o - t).mean(), *np.percentile(
            o[d].mean(1) - t[d[::-1]].mean(1), (2.5, 97.5)))),
        ("1.96 SE", "resamples", lambda o, t, d: (lambda m, s: (m, m - 1.96 * s, m + 1.96 * s))((o - t).mean(), (o - t).std(
            ddof=1) / len(o) ** .5)),
        ("extremes", "lowest and the highest", lambda o, t, d: ((o - t).mean(), (o - t)[d].mean(1).min(), (o - t)[d].mean(1).max())),
        ("mean of the resamples", "not of the resamples", lambda o, t, d: ((o - t)[d].mean(), *paired(o, t, d)[1:])),
        ("high first", "mean, low, high", lambda o, t, d: (lambda m, a, b: (m, b, a))(*paired(o, t, d))),
        ("half widths", "how far", lambda o, t, d: (lambda m, a, b: (m, m - a, b - m))(*paired(o, t, d))),
        ("two values", "3 values", lambda o, t, d: paired(o, t, d)[1:]),
        ("picked from the sorted means", "interpolates", picked),
        ("the nearest mean", "interpolates", lambda o, t, d: ((o - t).mean(), *np.percentile(
            (o - t)[d].mean(1), (2.5, 97.5), method="nearest"))),
        ("lists", "lists can't be calculated with", lambda o, t, d: np.mean(list(o) - list(t))),
        ("two intervals", "difference of two intervals", lambda o, t, d: ((o - t).mean(), *(
            np.percentile(o[d].mean(1), (2.5, 97.5)) - np.percentile(t[d].mean(1), (2.5, 97.5))))),
        ("absolute", "sign", lambda o, t, d: paired(abs(o - t), 0 * t, d)),
        ("in place", "in place", in_place),
        ("unpaired", "same draws", lambda o, t, d: ((o - t).mean(), *np.percentile(
            o[d].mean(1) - t[np.roll(d, 1, 0)].mean(1), (2.5, 97.5)))),
    ],
    "frontier": [
        ("cost up", "lower", lambda p: front(p, lambda a, b: (a >= b).all() and (a > b).any())),
        ("all better", "better in everything", lambda p: front(p, lambda a, b: a[0] > b[0] and a[1] > b[1] and a[2] < b[2])),
        ("equals beat", "equal in everything", lambda p: front(p, lambda a, b: a[0] >= b[0] and a[1] >= b[1] and a[2] <= b[2])),
        ("itself", "itself", lambda p: [i for i in range(len(p)) if not any(
            q[0] >= p[i][0] and q[1] >= p[i][1] and q[2] <= p[i][2] for q in p)]),
        ("champions", "compromise", lambda p: sorted({int(p[:, 0].argmax()), int(p[:, 1].argmax()), int(p[:, 2].argmin())})),
        ("no cost", "cost left out", lambda p: front(p, lambda a, b: beats([*a[:2], 0], [*b[:2], 0]))),
        ("mask", "indices, not a mask", lambda p: np.isin(np.arange(len(p)), front(p))),
        ("beaten ones", "beaten", lambda p: [i for i in range(len(p)) if i not in front(p)]),
        ("rows", "rows", lambda p: p[front(p)].tolist()),
        ("from 1", "count from 0", lambda p: [i + 1 for i in front(p)]),
        ("sorted by quality", "rise", lambda p: sorted(front(p), key=lambda i: -p[i][0])),
        ("sum of three", "added up", lambda p: [int((p[:, 0] + p[:, 1] - p[:, 2]).argmax())]),
        ("in place", "in place", negate_cost),
        ("two of three", "all three", lambda p: front(p, lambda a, b: (a[0] > b[0]) + (a[1] > b[1]) + (a[2] < b[2]) >= 2)),
        ("a set", "values were expected", lambda p: set(front(p))),
        ("better in quality or cost", "whichever", lambda p: better_in(p, 0, 2)),
        ("better in background or cost", "whichever", lambda p: better_in(p, 1, 2)),
        ("better in quality or background", "whichever|better in one", lambda p: better_in(p, 0, 1)),
        ("with a tolerance", "small difference", lambda p: front(p, tolerant)),
        ("floats", "whole number", lambda p: [float(i) for i in front(p)]),
        ("only those above", "further down", lambda p: [i for i in range(len(p)) if not any(beats(p[j], p[i]) for j in range(i))]),
        ("only those taken so far", "further down", taken_so_far),
        ("equal ones once", "equal in everything", lambda p: [i for i in front(p) if not any((p[i] == p[j]).all() for j in range(i))]),
    ],
    "mask_of_runs": [
        ("column by column", "row by row", lambda r, h, w: unrolled(r, w, h).T),
        ("ends", "length", ends),
        ("one more", "n pixels", lambda r, h, w: unrolled(r, h, w, longer=1)),
        ("one less", "n pixels", lambda r, h, w: unrolled(r, h, w, longer=-1)),
        ("counts from 1", "number 0", lambda r, h, w: unrolled(r, h, w, shift=-1)),
        ("shifted on", "itself", lambda r, h, w: unrolled(r, h, w, shift=1)),
        ("wrong shape", "row by row|turned|transpose|axes", lambda r, h, w: unrolled(r, h, w).reshape(w, h)),
        ("flat", "reshape", lambda r, h, w: unrolled(r, h, w).flatten()),
        ("floats", "boolean", lambda r, h, w: unrolled(r, h, w).float()),
        ("inverted", "True in the runs", lambda r, h, w: ~unrolled(r, h, w)),
        ("first run", "every run", lambda r, h, w: unrolled(r[:2], h, w)),
        ("all neighbours", "on by two|pair", lambda r, h, w: unrolled([x for p in zip(r, r[1:]) for x in p], h, w)),
        ("pops", "in place", pops),
        ("steps assigned", "touch", differences),
        ("toggles at a set of marks", "touch", toggles),
        ("within rows", "end of a row", lambda r, h, w: torch.tensor(np.array([[any(
            a // w == y and a % w <= x < a % w + n for a, n in zip(r[::2], r[1::2])) for x in range(w)] for y in range(h)]))),
    ],
    "background_psnr": [
        ("outside only", "outside only", lambda a, b, m: float(-10 * ((a - b)[:, m == 0] ** 2).mean().log10())),
        ("region", "region", lambda a, b, m: float(-10 * (((a - b) * m) ** 2).mean().clamp(min=1e-12).log10())),
        ("whole", "whole picture", lambda a, b, m: float(-10 * ((a - b) ** 2).mean().log10())),
        ("ln", "log10", lambda a, b, m: float(-10 * mse(a, b, m).log())),
        ("20", "root|20", lambda a, b, m: float(-20 * mse(a, b, m).log10())),
        ("255", "255", lambda a, b, m: float(10 * (255 ** 2 / mse(a, b, m)).log10())),
        ("sign", "sign", lambda a, b, m: float(10 * mse(a, b, m).log10())),
        ("mse", "mean squared error", lambda a, b, m: float(mse(a, b, m))),
        ("no 10", "ten times|factor", lambda a, b, m: float(-mse(a, b, m).log10())),
        ("absolute", "square", lambda a, b, m: float(-10 * ((a - b) * (1 - m)).abs().mean().log10())),
        ("peak of the picture", "peak", lambda a, b, m: float(10 * (a.max() ** 2 / mse(a, b, m)).log10())),
        ("the logarithm of 0 breaks off", "float(\"inf\")", lambda a, b, m: -10 * math.log10(float(mse(a, b, m)))),
        ("60 dB for equal ones", "float(\"inf\")", lambda a, b, m: float(min(-10 * mse(a, b, m).log10(), torch.tensor(60.)))),
        ("inf below 1e-8", "smallest difference", lambda a, b, m: float("inf") if mse(a, b, m) < 1e-8 else float(-10 * mse(a, b, m).log10())),
        ("inf if allclose", "smallest difference", lambda a, b, m: float("inf") if torch.allclose(a * (1 - m), b * (1 - m)) else float(
            -10 * mse(a, b, m).log10())),
        ("at most 100 dB", "cut off", lambda a, b, m: float("inf") if mse(a, b, m) == 0 else min(100.0, float(-10 * mse(a, b, m).log10()))),
        ("1e-10 added", "smallest difference|nearly right", lambda a, b, m: float(-10 * (mse(a, b, m) + 1e-10).log10()) if mse(
            a, b, m) > 0 else float("inf")),
        ("mask transposed", "transpose", lambda a, b, m: float(-10 * mse(a, b, m.T).log10())),
        ("mean of channels", "channels", lambda a, b, m: float(np.mean([-10 * math.log10(mse(a[c], b[c], m)) for c in range(3)]))),
        ("in place", "in place", lambda a, b, m: float(-10 * (a.sub_(b).mul_(1 - m) ** 2).mean().log10())),
        ("only before blackened", "blacken", lambda a, b, m: float(-10 * ((a * (1 - m) - b) ** 2).mean().log10())),
        ("one number a channel", "number was expected", lambda a, b, m: -10 * (((a - b) * (1 - m)) ** 2).mean((1, 2)).log10()),
    ],
    "free_proposals": [
        ("their corners", "corners|corner", lambda b, r: free(b, r, corners)),
        ("both's corners", "corners|corner", lambda b, r: free(b, r, lambda p, q: corners(p, q) or corners(q, p))),
        ("touching", "touch", lambda b, r: free(b, r, lambda p, q: p[0] <= q[2] and q[0] <= p[2] and p[1] <= q[3] and q[1] <= p[3])),
        ("inside only", "sharing a part", lambda b, r: free(b, r, lambda p, q: q[0] <= p[0] and q[1] <= p[1] and p[2] <= q[2] and p[3] <= q[3])),
        ("centre", "centre", lambda b, r: free(b, r, lambda p, q: q[0] <= (p[0] + p[2]) / 2 < q[2] and q[1] <= (p[1] + p[3]) / 2 < q[3])),
        ("or", "rows and columns", lambda b, r: free(b, r, lambda p, q: (p[0] < q[2] and q[0] < p[2]) or (p[1] < q[3] and q[1] < p[3]))),
        ("x only", "rows and columns|only rows", lambda b, r: free(b, r, lambda p, q: p[0] < q[2] and q[0] < p[2])),
        ("last region", "not only the last", lambda b, r: free(b, r[-1:])),
        ("first region", "not only the first", lambda b, r: free(b, r[:1])),
        ("overlapping ones", "do *not*", lambda b, r: ~free(b, r)),
        ("swapped", "swapped", lambda b, r: free(b[..., [1, 0, 3, 2]], r)),
        ("widths", "corner", lambda b, r: free(b, r, lambda p, q: overlaps((p[0], p[1], p[0] + p[2], p[1] + p[3]),
                                                                           (q[0], q[1], q[0] + q[2], q[1] + q[3])))),
        ("per anchor", "each proposal|axis", lambda b, r: free(b, r).all(1)),
        ("IoU of a half", "sharing a part", lambda b, r: free(b, r, lambda p, q: shared(p, q) > size(p) / 2)),
        ("IoU below a half", "one shared pixel", lambda b, r: free(b, r, lambda p, q: iou(p, q) >= .5)),
        ("0 and 1", "return booleans", lambda b, r: free(b, r).float()),
        ("the boxes", "True and False|axis|axes|boolean", lambda b, r: b[free(b, r)]),
        ("on a canvas of 64", "larger than 64", on_canvas),
        ("on a canvas of 128", "and than 128", lambda b, r: on_canvas(b, r, 128)),
        ("IoU above 0.005", "one shared pixel", lambda b, r: free(b, r, lambda p, q: iou(p, q) > .005)),
        ("more than one pixel", "one shared pixel", lambda b, r: free(b, r, lambda p, q: shared(p, q) > 1)),
        ("more than five pixels", "one shared pixel", lambda b, r: free(b, r, lambda p, q: shared(p, q) > 5)),
        ("every second pixel", "larger than 64|one shared pixel", lambda b, r: on_canvas(b, r, 64, 2)),
        ("one side", "either side", lambda b, r: free(b, r, lambda p, q: p[2] > q[0] and p[3] > q[1])),
    ],
    "lost_at": [
        ("own row only", "all proposals count|another anchor", lambda i, k, c: stage(i[c[0]:c[0] + 1], k[c[0]:c[0] + 1], (0, c[1]))),
        ("no proposal of its row", "all proposals count", lambda i, k, c: stage(i, k, c) if (i[c] >= .5) or (
            i[c[0]] >= .5).any() else "proposals"),
        ("its row instead of itself", "`chosen` is one box", lambda i, k, c: "found" if (i[c[0]] >= .5).any() else stage(i, k, c)),
        ("is the best box kept", "not the best one alone", lambda i, k, c: {"choice": "choice" if k.view(-1)[i.argmax()] else
            "shortlist"}.get(stage(i, k, c), stage(i, k, c))),
        ("mean of booleans", "have no mean", lambda i, k, c: (i >= .5).mean()),
        ("shortlist of its row", "all proposals count|another anchor", lambda i, k, c: stage(i, k & (torch.arange(len(k)) == c[0])[:, None], c)),
        ("above", "exactly 0.5", lambda i, k, c: stage(i, k, c, lambda v: v > .5)),
        ("best is found", "chosen box decides", lambda i, k, c: "found" if bool((i * k).max() >= .5) else stage(i, k, c)),
        ("blames the choice", "fits & kept", lambda i, k, c: {"shortlist": "choice"}.get(stage(i, k, c), stage(i, k, c))),
        ("blames the shortlist", "all proposals|none that fits was kept", lambda i, k, c: {"proposals": "shortlist"}.get(
            stage(i, k, c), stage(i, k, c))),
        ("blames the proposals", "none of them fits", lambda i, k, c: {"shortlist": "proposals"}.get(stage(i, k, c), stage(i, k, c))),
        ("swapped names", "swapped", lambda i, k, c: {"shortlist": "choice", "choice": "shortlist"}.get(stage(i, k, c), stage(i, k, c))),
        ("capital letters", "names are", lambda i, k, c: stage(i, k, c).title()),
        ("index (m, k)", "anchor first", lambda i, k, c: stage(i, k, (c[1] % 2, c[0] % 3)) if i.shape == (2, 3) else stage(
            i, k, (c[1] % len(i), c[0] % i.shape[1]))),
        ("not kept", "True means", lambda i, k, c: stage(i, ~k, c)),
        ("bool", "name the stage", lambda i, k, c: bool(i[c] >= .5)),
        ("0.75", "another number", lambda i, k, c: stage(i, k, c, lambda v: v >= .6)),
        ("in place", "in place", masks_in_place),
        ("0.499", "a little below", lambda i, k, c: stage(i, k, c, lambda v: v >= .499)),
        ("the chosen one has to be kept", "whatever was kept", lambda i, k, c: stage(i, k, c) if k[c] or stage(i, k, c) != "found" else "shortlist"),
        ("nothing kept is the choice's fault", "nothing was kept", lambda i, k, c: stage(i, k, c) if k.any() or stage(
            i, k, c) != "shortlist" else "choice"),
        ("breaks off where nothing was kept", "nothing was kept", lambda i, k, c: "found" if i[c] >= .5 else "proposals" if i.max() < .5
         else "choice" if i[k].max() >= .5 else "shortlist"),
        ("never shortlist", "fits & kept", lambda i, k, c: "found" if i[c] >= .5 else "choice" if (i >= .5).any() else "proposals"),
    ],
}

RIGHT = {
    "hit_rate": [("loops", hits), ("torchvision", lambda c, t: (box_iou(c, t).diagonal() >= .5).float().mean()),
                 ("numpy", lambda c, t: np.mean([iou(a, b) >= .5 for a, b in zip(c.numpy(), t.numpy())]))],
    "paired_difference": [("loops", paired), ("means of both", lambda o, t, d: (o.mean() - t.mean(), *np.percentile(
        o[d].mean(1) - t[d].mean(1), [2.5, 97.5]))),
                          ("quantile", lambda o, t, d: [(o - t).mean(), *np.quantile((o - t)[d].mean(1), [.025, .975])]),
                          ("array", lambda o, t, d: np.array(paired(o, t, d)))],
    "frontier": [("loops", front), ("array", lambda p: np.array(front(p), dtype=int)), ("tensor", lambda p: torch.tensor(front(p))),
                 ("numpy numbers", lambda p: list(np.flatnonzero([i in front(p) for i in range(len(p))])))],
    "mask_of_runs": [("steps added up", lambda r, h, w: differences(r, h, w, add=True)), ("pixels", unroll), ("flat", unrolled), ("lists", lambda r, h, w: unroll(r, h, w).tolist())],
    "background_psnr": [("tensor", lambda a, b, m: -10 * torch.log10(mse(a, b, m))),
                        ("mse_loss", lambda a, b, m: (10 * math.log10(1 / e) if (
                            e := F.mse_loss(a * (1 - m), b * (1 - m)).item()) else math.inf)),
                        ("numpy", numpy_psnr)],
    "free_proposals": [("loops", free), ("canvas", on_large_canvas), ("list", lambda b, r: free(b, r).tolist()),
                       ("areas", lambda b, r: free(b, r, lambda p, q: shared(p, q) > 0))],
    "lost_at": [("indices", stage), ("loops", stage_by_loops)],
}
