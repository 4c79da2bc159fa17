"""Students' answers to the exercises of notebook 04."""

import numpy as np
import torch
from torch.nn import functional as F


def cos(a, b):
    return F.cosine_similarity(a, b, dim=-1)


def q(t):
    t = F.normalize(t, dim=-1)
    return torch.einsum("nid,njd->nij", t, t)


def structure(e, i):
    return ((q(e) - q(i[None])) ** 2).mean((1, 2)).sqrt()


def direction(e, i, s, p):
    return 1 - cos(e - i, (p - s).expand_as(e))


def total(tables, weights):
    out = 0
    for name in tables:
        if name in weights:
            out = out + weights[name] * tables[name]
    return out


def total_in_place(tables, weights):
    first = None
    for name, table in tables.items():
        table *= weights.get(name, 0)
        first = table if first is None else first.add_(table)
    return first.argmin(1)


def s(e, i, p, alpha=2.0, beta=1.0):
    return alpha * cos(e, p) + beta * cos(e, i)


WRONG = {
    "cosine_distance": [
        ("similarity", "similarity", cos),
        ("no lengths", "length", lambda a, b: 1 - (a * b).sum(-1)),
        ("one length", "only one", lambda a, b: 1 - (a * b).sum(-1) / b.norm(dim=-1).clamp(min=1e-8)),
        ("NaN at 0", "0 / 0", lambda a, b: 1 - (a * b).sum(-1) / (a.norm(dim=-1) * b.norm(dim=-1))),
        ("whole norm", "length|axis|last", lambda a, b: 1 - (a * b).sum(-1) / (a.norm() * b.norm()).clamp(min=1e-8)),
        ("mean", "don't average|summed, averaged", lambda a, b: (1 - cos(a, b)).mean()),
        ("nan_to_num", "its distance is 1", lambda a, b: (1 - (a * b).sum(-1) / (a.norm(dim=-1) * b.norm(dim=-1))).nan_to_num(0)),
        ("squared lengths", "squares|lengths", lambda a, b: 1 - (a * b).sum(-1) / ((a * a).sum(-1) * (b * b).sum(-1)).clamp(min=1e-8)),
        ("wrong axis of norm", "last", lambda a, b: 1 - (F.normalize(a, dim=0) * F.normalize(b, dim=0)).sum(-1)),
        ("axis 1", "last", lambda a, b: 1 - F.cosine_similarity(a, b.expand_as(a) if b.ndim < a.ndim else b, dim=min(1, a.ndim - 1))),
        ("matrix product", "own partner", lambda a, b: 1 - F.normalize(a, dim=-1) @ F.normalize(b, dim=-1).mT
            if b.ndim > 1 else 1 - F.normalize(a, dim=-1) @ F.normalize(b, dim=-1)),
        ("matrix product with .T", "own partner", lambda a, b: 1 - F.normalize(a, dim=-1) @ F.normalize(b, dim=-1).T),
        ("normalises in place", "in place", lambda a, b: 1 - (a.div_(a.norm(dim=-1, keepdim=True).clamp(min=1e-8)) * F.normalize(b, dim=-1)).sum(-1)),
        ("keeps the axis", "axis|keepdim", lambda a, b: (1 - cos(a, b)).unsqueeze(-1)),
        ("half", "multiplied|1/2", lambda a, b: (1 - cos(a, b)) / 2),
        ("product of lengths at least 0.1", "short vectors|tiny", lambda a, b: 1 - (a * b).sum(-1) / (
            a.norm(dim=-1) * b.norm(dim=-1)).clamp(min=0.1)),
        ("1e-5 added", "nearly right|short vectors|tiny", lambda a, b: 1 - (a * b).sum(-1) / (a.norm(dim=-1) * b.norm(dim=-1) + 1e-5)),
        ("1e-6 added", "short vectors", lambda a, b: 1 - (a * b).sum(-1) / (a.norm(dim=-1) * b.norm(dim=-1) + 1e-6)),
    ],
    "self_similarity": [
        ("dot products", "length", lambda t: t @ t.mT),
        (".T", "last two axes only", lambda t: F.normalize(t, dim=-1) @ F.normalize(t, dim=-1).T),
        ("channels", "channels", lambda t: F.normalize(t, dim=-1).mT @ F.normalize(t, dim=-1)),
        ("wrong axis", "last axis|along", lambda t: F.normalize(t, dim=1) @ F.normalize(t, dim=1).mT),
        ("distance", "distance", lambda t: 1 - q(t)),
        ("default axis of cosine_similarity", "axis|tokens", lambda t: F.cosine_similarity(t[:, :, None], t[:, None], dim=1)),
        ("softmax", "softmax", lambda t: q(t).softmax(-1)),
        ("whole norm", "of all together|length of its own", lambda t: (t / t.norm()) @ (t / t.norm()).mT),
        ("first picture", "length|axis", lambda t: q(t)[:1]),
        ("normalised once", "only one", lambda t: F.normalize(t, dim=-1) @ t.mT),
        ("zero diagonal", "diagonal", lambda t: q(t) - torch.eye(t.shape[1])),
        ("clipped", "negative", lambda t: q(t).clamp(0, 1)),
        ("in place", "in place", lambda t: t.div_(t.norm(dim=-1, keepdim=True)) @ t.mT),
        ("a little too large", "nearly right", lambda t: q(t) * (1 + 5e-5)),
        ("rounded", "nearly right|rounding", lambda t: (q(t) * 200).round() / 200),
        ("centred", "off the tokens", lambda t: q(t - t.mean(1, keepdim=True))),
    ],
    "structure_loss": [
        ("not divided", "divide", lambda e, i: (q(e) - q(i[None])).flatten(1).norm(dim=1)),
        ("mean square", "root", lambda e, i: ((q(e) - q(i[None])) ** 2).mean((1, 2))),
        ("one number", "N numbers", lambda e, i: structure(e, i).mean()),
        ("one number by mse", "N numbers|axis|own", lambda e, i: F.mse_loss(q(e), q(i[None]).expand_as(q(e))).sqrt()),
        ("absolute", "absolute", lambda e, i: (q(e) - q(i[None])).abs().mean((1, 2))),
        ("L squared", "once too often|multiplied|too small", lambda e, i: (q(e) - q(i[None])).flatten(1).norm(dim=1) / e.shape[1] ** 2),
        ("tokens", "self-similarities", lambda e, i: ((e - i) ** 2).mean((1, 2)).sqrt()),
        ("by d", "channels", lambda e, i: (q(e) - q(i[None])).flatten(1).norm(dim=1) / e.shape[2]),
        ("spectral", "singular", lambda e, i: torch.linalg.matrix_norm(q(e) - q(i[None]), 2) / e.shape[1]),
        ("dot products", "length 1", lambda e, i: ((e @ e.mT - i @ i.T) ** 2).mean((1, 2)).sqrt()),
        ("mean before the root of rows", "whole matrix", lambda e, i: ((q(e) - q(i[None])) ** 2).mean(2).sqrt().mean(1)),
        ("root of L", "root", lambda e, i: (q(e) - q(i[None])).flatten(1).norm(dim=1) / e.shape[1] ** .5),
    ],
    "direction_loss": [
        ("source − prompt", "backwards", lambda e, i, s, p: 1 - cos(e - i, s - p)),
        ("image − edited", "backwards", lambda e, i, s, p: 1 - cos(i - e, p - s)),
        ("no source picture", "difference", lambda e, i, s, p: 1 - cos(e, p - s)),
        ("no source text", "difference", lambda e, i, s, p: 1 - cos(e - i, p[None])),
        ("similarity", "similarity", lambda e, i, s, p: cos(e - i, p - s)),
        ("NaN", "0 / 0", lambda e, i, s, p: 1 - ((e - i) * (p - s)).sum(-1) / ((e - i).norm(dim=-1) * (p - s).norm())),
        ("dot product", "length", lambda e, i, s, p: 1 - (e - i) @ (p - s)),
        ("mean", "N numbers", lambda e, i, s, p: direction(e, i, s, p).mean()),
        ("arguments swapped", "mixed up", lambda e, i, s, p: direction(e, s, i, p)),
        ("CLIP loss", "L_Clip", lambda e, i, s, p: 1 - cos(e, p[None])),
        ("0 for no change", "not 0|loss is 1", lambda e, i, s, p: torch.where((e == i).all(-1), 0.0, direction(e, i, s, p))),
        ("in place", "in place", lambda e, i, s, p: 1 - cos(e.sub_(i), p - s)),
        ("1 for small changes", "small change", lambda e, i, s, p: torch.where((e - i).norm(dim=-1) < 1e-1, 1.0, direction(e, i, s, p))),
        ("0.01 added", "small change|nearly right|length|0 / 0", lambda e, i, s, p: 1 - ((e - i) @ (p - s)) / (
            (e - i).norm(dim=-1) * (p - s).norm() + 1e-2)),
    ],
    "best_proposals": [
        ("argmax", "smallest", lambda t, w: total(t, w).argmax(1)),
        ("down the columns", "row", lambda t, w: total(t, w).argmin(0)),
        ("over all", "each anchor", lambda t, w: total(t, w).argmin()),
        ("no weights", "weights", lambda t, w: sum(t.values()).argmin(1)),
        ("KeyError", "get(name, 0)", lambda t, w: sum(w[n] * t[n] for n in t).argmin(1)),
        ("missing is 1", "0, not 1|counts nothing", lambda t, w: sum(w.get(n, 1) * t[n] for n in t).argmin(1)),
        ("zipped", "names", lambda t, w: sum(a * b for a, b in zip(t.values(), w.values())).argmin(1)),
        ("values", "position", lambda t, w: total(t, w).min(1).values),
        ("in place", "in place", total_in_place),
        ("fixed names", "KeyError|names|negative|counts nothing|get(name", lambda t, w: (
            w["clip"] * t["clip"] + w["structure"] * t["structure"] + w["direction"] * t["direction"]).argmin(1)),
        ("absolute weights", "sign", lambda t, w: total(t, {n: abs(v) for n, v in w.items()}).argmin(1)),
        ("min returns both", "tensor was expected", lambda t, w: total(t, w).min(1)),
        ("one-hot", "position|axis|axes", lambda t, w: F.one_hot(total(t, w).argmin(1), next(iter(t.values())).shape[1])),
        ("weighted mean", "divide by nothing", lambda t, w: (total(t, w) / sum(w.values())).argmin(1)),
        ("a tensor of tensors", "torch.stack", lambda t, w: torch.tensor([w.get(n, 0) * v for n, v in t.items()]).sum(0).argmin(1)),
        ("pops the weights", "in place", lambda t, w: sum(w.pop(n, 0) * t[n] for n in t).argmin(1)),
    ],
    "score": [
        ("alpha and beta swapped", "swapped", lambda e, i, p, alpha=2.0, beta=1.0: s(e, i, p, beta, alpha)),
        ("distances", "similarities", lambda e, i, p, alpha=2.0, beta=1.0: alpha * (1 - cos(e, p)) + beta * (1 - cos(e, i))),
        ("dot products", "cosines", lambda e, i, p, alpha=2.0, beta=1.0: alpha * e @ p + beta * e @ i),
        ("constants", "fixed", lambda e, i, p, alpha=2.0, beta=1.0: 2 * cos(e, p) + cos(e, i)),
        ("minus", "add it", lambda e, i, p, alpha=2.0, beta=1.0: alpha * cos(e, p) - beta * cos(e, i)),
        ("prompt and picture", "both cosines|cosine", lambda e, i, p, alpha=2.0, beta=1.0: alpha * cos(e, p) + beta * cos(i, p)),
        ("softmax", "softmax", lambda e, i, p, alpha=2.0, beta=1.0: alpha * cos(e, p).softmax(0) + beta * cos(e, i).softmax(0)),
        ("no beta", "source picture", lambda e, i, p, alpha=2.0, beta=1.0: alpha * cos(e, p)),
        ("mean", "N numbers", lambda e, i, p, alpha=2.0, beta=1.0: s(e, i, p, alpha, beta).mean()),
        ("weights in the wrong default", "not given|required", lambda e, i, p, alpha, beta: s(e, i, p, alpha, beta)),
        ("normalised weights", "mean|α + β", lambda e, i, p, alpha=2.0, beta=1.0: s(e, i, p, alpha, beta) / (alpha + beta)),
        ("unit edits only", "image and prompt", lambda e, i, p, alpha=2.0, beta=1.0: F.normalize(e, dim=-1) @ (alpha * p + beta * i)),
        ("of the sum", "cosine|cos(", lambda e, i, p, alpha=2.0, beta=1.0: cos(e, (alpha * p + beta * i).expand_as(e))),
    ],
}

RIGHT = {
    "cosine_distance": [("normalise", lambda a, b: 1 - (F.normalize(a, dim=-1) * F.normalize(b, dim=-1)).sum(-1)),
                        ("tiny number", lambda a, b: 1 - (a * b).sum(-1) / (a.norm(dim=-1) * b.norm(dim=-1) + 1e-8)),
                        ("numpy", lambda a, b: 1 - (a.numpy() * b.numpy()).sum(-1) / np.maximum(
                            np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1), 1e-8)),
                        ("where", lambda a, b: torch.where((a.norm(dim=-1) == 0) | (b.norm(dim=-1) == 0), 1.0, 1 - cos(a, b)))],
    "self_similarity": [("einsum", q), ("pairs", lambda t: F.cosine_similarity(t[:, :, None], t[:, None], dim=-1)),
                        ("outer lengths", lambda t: (t @ t.mT) / (t.norm(dim=-1)[:, :, None] * t.norm(dim=-1)[:, None])),
                        ("numpy", lambda t: np.matmul(*(lambda u: (u, u.transpose(0, 2, 1)))(
                            t.numpy() / np.linalg.norm(t, axis=-1, keepdims=True))))],
    "structure_loss": [("mean square", structure), ("norm", lambda e, i: (q(e) - q(i[None])).norm(dim=(1, 2)) / len(i)),
                       ("loop", lambda e, i: torch.stack([torch.linalg.norm(q(x[None])[0] - q(i[None])[0]) / len(i) for x in e]))],
    "direction_loss": [("cosine", direction), ("normalise", lambda e, i, s, p: 1 - F.normalize(e - i, dim=-1) @ F.normalize(p - s, dim=0)),
                       ("list", lambda e, i, s, p: [float(1 - F.cosine_similarity(x - i, p - s, dim=0)) for x in e])],
    "best_proposals": [("loop", lambda t, w: total(t, w).argmin(1)),
                       ("stack", lambda t, w: (torch.stack(list(t.values())) * torch.tensor(
                           [w.get(n, 0.) for n in t])[:, None, None]).sum(0).argmin(-1)),
                       ("list", lambda t, w: total(t, w).argmin(1).tolist()),
                       ("numpy", lambda t, w: np.argmin(sum(w.get(n, 0) * v.numpy() for n, v in t.items()), axis=1))],
    "score": [("cosines", s), ("normalised", lambda e, i, p, alpha=2.0, beta=1.0: F.normalize(e, dim=-1) @ (
        alpha * F.normalize(p, dim=0) + beta * F.normalize(i, dim=0)))],
}
