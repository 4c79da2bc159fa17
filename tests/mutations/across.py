"""Students' answers to the exercises of notebook 07."""

import numpy as np
import torch
from torch.nn import functional as F
from torchvision.ops import box_iou, nms


def maps(patches, texts, unit=True, over=(1, 2), ddof=0, eps=1e-6, shift=True, divide=True):
    t = texts / texts.norm(dim=1, keepdim=True)
    p = patches / patches.norm(dim=0, keepdim=True) if unit else patches
    c = (t @ p.reshape(len(p), -1)).reshape(len(t), *p.shape[1:])
    if shift:
        c = c - c.mean(over, keepdim=True)
    return c / (c.std(over, keepdim=True, correction=ddof) + eps) if divide else c


def maps_by_loops(patches, texts):
    out = torch.empty(len(texts), *patches.shape[1:])
    for i, text in enumerate(texts):
        for r in range(patches.shape[1]):
            for c in range(patches.shape[2]):
                out[i, r, c] = F.cosine_similarity(text, patches[:, r, c], dim=0)
        out[i] = (out[i] - out[i].mean()) / (out[i].std(correction=0) + 1e-6)
    return out


def maps_by_numpy(patches, texts):
    p, t = patches.numpy(), texts.numpy()
    c = np.einsum("td,dhw->thw", t / np.linalg.norm(t, axis=1, keepdims=True), p / np.linalg.norm(p, axis=0))
    return (c - c.mean((1, 2), keepdims=True)) / (c.std((1, 2), keepdims=True) + 1e-6)


def in_place(patches, texts):
    patches /= patches.norm(dim=0)
    return maps(patches, texts)


def scale(losses, of=lambda x: x.std(correction=0), join=lambda x: x.mean()):
    return float(join(torch.stack([of(one) for one in losses])))


def soft(losses, temperature):
    return F.softmax(-losses / temperature, dim=0)


def by_hand(losses, temperature):
    best = losses.min()
    e = torch.exp(-(losses - best) / temperature)
    return e / e.sum()


def by_descent(losses, temperature):
    """What the training would find, were it let run for long."""
    z = torch.zeros_like(losses, requires_grad=True)
    optimiser = torch.optim.Adam([z], lr=0.05)
    for _ in range(200):
        p, log = z.softmax(0), z.log_softmax(0)
        optimiser.zero_grad()
        ((p * losses).sum() + temperature * (p * log).sum()).backward()
        optimiser.step()
    return z.detach().softmax(0)


def sure(boxes, probabilities, test=lambda o: o >= 0.5, pick=torch.argmax):
    best = boxes[pick(probabilities)]
    return probabilities[test(box_iou(best[None], boxes)[0])].sum().item()


def sure_by_loops(boxes, probabilities):
    b, total = boxes[probabilities.argmax()].tolist(), 0.0
    for box, p in zip(boxes.tolist(), probabilities.tolist()):
        w, h = min(b[2], box[2]) - max(b[0], box[0]), min(b[3], box[3]) - max(b[1], box[1])
        both = max(w, 0) * max(h, 0)
        union = (b[2] - b[0]) * (b[3] - b[1]) + (box[2] - box[0]) * (box[3] - box[1]) - both
        total += p if both / union >= 0.5 else 0
    return total


def covered(boxes, probabilities):
    """Intersection over the smaller area."""
    b = boxes[probabilities.argmax()]
    wh = (torch.minimum(boxes[:, 2:], b[2:]) - torch.maximum(boxes[:, :2], b[:2])).clamp(min=0)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    return probabilities[wh.prod(1) / torch.minimum(areas, (b[2:] - b[:2]).prod()) >= 0.5].sum().item()


def several(boxes, probabilities, count, same=lambda o: o >= 0.5, order=None):
    order = probabilities.argsort(descending=True) if order is None else order(probabilities)
    overlaps, out = box_iou(boxes, boxes), []
    for i in order.tolist():
        if len(out) == count:
            break
        if all(not same(overlaps[i, j]) for j in out):
            out.append(i)
    return out


def by_removal(boxes, probabilities, count, out_of_it=-1.0):
    left, out = probabilities.clone(), []
    while len(out) < count and left.max() > out_of_it:
        out.append(int(left.argmax()))
        left[box_iou(boxes[out[-1]][None], boxes)[0] >= 0.5] = out_of_it
    return out


def overlap(a, b, extra=0, clamp=True):
    """(4,) and (N, 4) → (N,) IoU."""
    sides = torch.minimum(a[2:], b[:, 2:]) - torch.maximum(a[:2], b[:, :2]) + extra
    both = (sides.clamp(min=0) if clamp else sides).prod(1)
    return both / ((a[2:] - a[:2] + extra).prod() + (b[:, 2:] - b[:, :2] + extra).prod(1) - both)


def sure_by(boxes, probabilities, **how):
    return probabilities[overlap(boxes[probabilities.argmax()], boxes, **how) >= 0.5].sum().item()


def places_by(boxes, probabilities, count, far=lambda overlaps: bool((overlaps < 0.5).all()), **how):
    out = []
    for i in probabilities.argsort(descending=True, stable=True).tolist():
        if len(out) < count and (not out or far(overlap(boxes[i], boxes[out], **how))):
            out.append(i)
    return out


def by_centres(boxes, probabilities, count):
    centres, out = (boxes[:, :2] + boxes[:, 2:]) / 2, []
    for i in probabilities.argsort(descending=True).tolist():
        if len(out) < count and all((centres[i] - centres[j]).norm() > 10 for j in out):
            out.append(i)
    return out


def into_a_default(boxes, probabilities, count, out=[]):  # noqa: B006
    for i in probabilities.argsort(descending=True).tolist():
        if len(out) < count and all(box_iou(boxes[i][None], boxes[j][None]) < 0.5 for j in out):
            out.append(i)
    return out


def suppressed_by_all(boxes, probabilities, count):
    """A box that was itself left out leaves others out."""
    order = probabilities.argsort(descending=True)
    overlaps = box_iou(boxes[order], boxes[order])
    return [int(order[n]) for n in range(len(order)) if (overlaps[n, :n] < 0.5).all()][:count]


def goes_on_when_empty(boxes, probabilities, count):
    left, out = probabilities.clone(), []
    while len(out) < count:
        out.append(int(left.argmax()))
        left[box_iou(boxes[out[-1]][None], boxes)[0] >= 0.5] = 0
    return out


def neighbours_only(boxes, probabilities, count):
    """Compares with the one that was taken last."""
    out = []
    for i in probabilities.argsort(descending=True).tolist():
        if len(out) < count and (not out or box_iou(boxes[i][None], boxes[out[-1]][None]) < 0.5):
            out.append(i)
    return out


def calls_itself(losses, temperature):
    return calls_itself(losses, temperature)


WRONG = {
    "text_maps": [
        ("dot products", "length 1", lambda p, t: maps(p, t, unit=False)),
        ("cosines alone", "mean off", lambda p, t: maps(p, t, shift=False, divide=False)),
        ("centred alone", "deviation", lambda p, t: maps(p, t, divide=False)),
        ("not centred", "mean off", lambda p, t: maps(p, t, shift=False)),
        ("over both texts", "each map|own mean", lambda p, t: maps(p, t, over=(0, 1, 2))),
        ("by rows", "each row|whole picture", lambda p, t: maps(p, t, over=(2,))),
        ("sample deviation", "correction=0", lambda p, t: maps(p, t, ddof=1)),
        ("no epsilon", "1e-6", lambda p, t: maps(p, t, eps=0.0)),
        ("distance", "sign", lambda p, t: -maps(p, t)),
        ("epsilon of 1e-3", "1e-6", lambda p, t: maps(p, t, eps=1e-3)),
        ("epsilon of 1e-4", "1e-6", lambda p, t: maps(p, t, eps=1e-4)),
        ("epsilon before the root", "1e-6", lambda p, t: (lambda c: (c - c.mean((1, 2), keepdim=True)) / (c.var(
            (1, 2), keepdim=True, correction=0) + 1e-6).sqrt())(maps(p, t, shift=False, divide=False))),
        ("softmax", "mean 0", lambda p, t: maps(p, t, shift=False, divide=False).flatten(1).softmax(1).view(
            len(t), *p.shape[1:])),
        ("transposed", "rows before columns", lambda p, t: maps(p, t).mT),
        ("texts last", "texts first|shape", lambda p, t: maps(p, t).permute(1, 2, 0)),
        ("in place", "in place", in_place),
        ("source alone", "shape|number of texts", lambda p, t: maps(p, t[:1])),
    ],
    "common_scale": [
        ("pooled", "within each picture", lambda l: float(torch.cat(l).std(correction=0))),
        ("sample deviation", "correction=0", lambda l: scale(l, torch.std)),
        ("variance", "roots", lambda l: scale(l, lambda x: x.var(correction=0))),
        ("root of mean variance", "root of the mean variance",
         lambda l: scale(l, lambda x: x.var(correction=0), lambda x: x.mean().sqrt())),
        ("sum", "divide by the number", lambda l: scale(l, join=torch.sum)),
        ("mean loss", "not of their deviations", lambda l: scale(l, torch.mean)),
        ("median", "median", lambda l: scale(l, join=torch.median)),
        ("list", "one number|float|number was", lambda l: [x.std(correction=0).item() for x in l]),
        ("weighted by boxes", "counts alike", lambda l: sum(x.std(correction=0).item() * len(x) for x in l)
         / sum(len(x) for x in l)),
        ("absolute deviation", "absolute", lambda l: scale(l, lambda x: (x - x.mean()).abs().mean())),
        ("whole numbers", "have no deviation", lambda l: scale([x.round().long() for x in l])),
        ("range", "range", lambda l: scale(l, lambda x: x.max() - x.min())),
        ("leaves flat ones out", "leave no picture out|counts, too",
         lambda l: scale([x for x in l if x.std(correction=0) > 0])),
    ],
    "wished": [
        ("wrong sign", "−loss", lambda l, t: torch.softmax(l / t, 0)),
        ("times", "divides", lambda l, t: torch.softmax(-l * t, 0)),
        ("no temperature", "temperature is missing", lambda l, t: torch.softmax(-l, 0)),
        ("not normalised", "sum", lambda l, t: torch.exp(-l / t)),
        ("log", "log_softmax", lambda l, t: torch.log_softmax(-l / t, 0)),
        ("best alone", "best box", lambda l, t: torch.eye(len(l))[l.argmin()]),
        ("for ever", "calls itself", calls_itself),
        ("overflows", "softmax do it", lambda l, t: torch.exp(-l / t) / torch.exp(-l / t).sum()),
        ("standardises", "standardise", lambda l, t: torch.softmax(-(l - l.mean()) / (l.std(correction=0) + 1e-6) / t, 0)),
        ("even", "constant|softmax of|temperature|only", lambda l, t: torch.full_like(l, 1 / len(l))),
        ("inverse losses", "softmax", lambda l, t: (1 / l) / (1 / l).sum()),
    ],
    "confidence": [
        ("highest probability", "add the boxes", lambda b, p: p.max().item()),
        ("first box", "need not stand first", lambda b, p: p[box_iou(b[:1], b)[0] >= 0.5].sum().item()),
        ("more than half", "≥", lambda b, p: sure(b, p, lambda o: o > 0.5)),
        ("any overlap", "touches", lambda b, p: sure(b, p, lambda o: o > 0)),
        ("mean of booleans", "have no mean", lambda b, p: (box_iou(b[p.argmax()][None], b)[0] >= 0.5).mean()),
        ("mean", "instead of averaging", lambda b, p: p[box_iou(b[p.argmax()][None], b)[0] >= 0.5].mean().item()),
        ("count", "how many", lambda b, p: (box_iou(b[p.argmax()][None], b)[0] >= 0.5).sum().item()),
        ("weighted", "weigh nothing", lambda b, p: (p * box_iou(b[p.argmax()][None], b)[0]).sum().item()),
        ("the others", "not all the others", lambda b, p: sure(b, p, lambda o: o < 0.5)),
        ("without itself", "itself", lambda b, p: sure(b, p) - p.max().item()),
        ("least probable", "least probable", lambda b, p: sure(b, p, pick=torch.argmin)),
        ("smaller area", "IoU", covered),
        ("everything", "IoU|constant|same", lambda b, p: p.sum().item()),
        ("inclusive ends", "exclusive", lambda b, p: sure_by(b, p, extra=1)),
        ("no clamp", "below 0", lambda b, p: sure_by(b, p, clamp=False)),
        ("a little too large", "nearly right", lambda b, p: sure(b, p) * (1 + 5e-5)),
    ],
    "places": [
        ("top k", "leave out", lambda b, p, k: p.topk(min(k, len(p))).indices.tolist()),
        ("first only", "every box that is taken",
         lambda b, p, k: [i for n, i in enumerate(p.argsort(descending=True).tolist())
                          if n == 0 or box_iou(b[i][None], b[p.argmax()][None]) < 0.5][:k]),
        ("any overlap", "touch", lambda b, p, k: several(b, p, k, lambda o: o > 0)),
        ("more than half", "≥", lambda b, p, k: several(b, p, k, lambda o: o > 0.5)),
        ("all of them", "stop", lambda b, p, k: several(b, p, 1000)),
        ("boxes", "indices, not boxes", lambda b, p, k: b[several(b, p, k)]),
        ("sorted", "don't sort", lambda b, p, k: sorted(several(b, p, k))),
        ("least probable first", "most probable", lambda b, p, k: several(b, p, k, order=torch.argsort)),
        ("by number", "most probable", lambda b, p, k: several(b, p, k, order=lambda q: torch.arange(len(q)))),
        ("ranks", "into `boxes`", lambda b, p, k: (lambda o: [o.index(i) for i in several(b, p, k)])(
            p.argsort(descending=True).tolist())),
        ("only the best k looked at", "go on", lambda b, p, k: (lambda few: [few[i] for i in several(
            b[few], p[few], k)])(p.topk(min(k, len(p))).indices.tolist())),
        ("last one taken", "not with the last alone", neighbours_only),
        ("one that is left out leaves out", "left out itself keeps no other one out", suppressed_by_all),
        ("goes on when nothing is left", "a place comes once", goes_on_when_empty),
        ("by removal, to 0", "probability 0", lambda b, p, k: by_removal(b, p, k, 0.0)),
        ("inclusive ends", "exclusive", lambda b, p, k: places_by(b, p, k, extra=1)),
        ("no clamp", "below 0", lambda b, p, k: places_by(b, p, k, clamp=False)),
        ("0.45", "½ itself|below ½", lambda b, p, k: places_by(b, p, k, lambda o: bool((o < 0.45).all()))),
        ("sum of overlaps", "don't add them up|below ½", lambda b, p, k: places_by(b, p, k, lambda o: float(o.sum()) < 0.5)),
        ("distance of centres", "centres", by_centres),
        ("floats", "whole number", lambda b, p, k: [float(i) for i in several(b, p, k)]),
        ("tensor of floats", "whole number", lambda b, p, k: torch.tensor(several(b, p, k)).float()),
        ("a list as a default", "made once", into_a_default),
        ("argmax of booleans", "True and False", lambda b, p, k: [int((p == p.max()).argmax())] * k),
    ],
}

RIGHT = {
    "text_maps": [("matrix product", maps), ("loops", maps_by_loops), ("numpy", maps_by_numpy)],
    "common_scale": [("stack", scale), ("sum by hand", lambda l: sum(x.std(correction=0).item() for x in l) / len(l)),
                     ("numpy", lambda l: float(np.mean([x.numpy().std() for x in l]))),
                     ("tensor", lambda l: torch.stack([x.std(unbiased=False) for x in l]).mean())],
    "wished": [("softmax", soft), ("by hand, safely", by_hand),
               ("numpy", lambda l, t: (lambda e: e / e.sum())(np.exp(-(l.numpy() - l.numpy().min()) / t)))],
    "confidence": [("torchvision", sure), ("loops", sure_by_loops), ("tensor", lambda b, p: torch.tensor(sure(b, p)))],
    "places": [("loop", several), ("by removal", by_removal),
               ("torchvision's nms", lambda b, p, k: nms(b, p, 0.499999)[:k].tolist()),
               ("tensor", lambda b, p, k: torch.tensor(several(b, p, k)))],
}
