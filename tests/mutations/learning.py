"""Students' answers to the exercises of notebook 05."""

import numpy as np
import torch
from torch.nn import functional as F


def norms(network, of=lambda g: g.norm().item(), missing=None):
    out = {}
    for name, p in network.named_parameters():
        out[name] = missing if p.grad is None else of(p.grad)
    return out


def skips(network):
    return {n: p.grad.norm().item() for n, p in network.named_parameters() if p.grad is not None}


def zero_grad_first(network):
    network.zero_grad()
    return norms(network)


def clips(network):
    torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    return norms(network)


def fills_gaps(network):
    for p in network.parameters():
        if p.grad is None:
            p.grad = torch.zeros_like(p)
    return norms(network)


def sorted_names(network):
    return dict(sorted(norms(network).items(), key=lambda kv: kv[0], reverse=True))


def of_children(network):
    """One level deep."""
    return {f"{a}.{b}": None if p.grad is None else p.grad.norm().item()
            for a, m in network.named_children() for b, p in m.named_parameters(recurse=False)}


def of_modules(network):
    return {f"{a}.{b}": None if p.grad is None else p.grad.norm().item()
            for a, m in network.named_modules() for b, p in m.named_parameters(recurse=False)}


def by_another_value(losses):
    out = torch.empty_like(losses)
    for r in range(len(losses)):
        for k in range(losses.shape[1]):
            rest = losses[:, k][losses[:, k] != losses[r, k]]
            out[r, k] = losses[r, k] - (rest.mean() if len(rest) else 0)
    return out


def by_set(losses):
    def of(k, loss):
        rest = set(losses[:, k].tolist()) - {loss}
        return loss - (sum(rest) / len(rest) if rest else 0)
    return torch.tensor([[of(k, loss) for k, loss in enumerate(row)] for row in losses.tolist()])


def by_list(losses):
    def of(k, loss):
        rest = losses[:, k].tolist()
        rest.remove(loss)
        return loss - sum(rest) / len(rest)
    return torch.tensor([[of(k, loss) for k, loss in enumerate(row)] for row in losses.tolist()])


def expected(logits, table):
    return (F.softmax(logits, -1) * table).sum(-1).mean()


def expected_by_loops(logits, table):
    total = 0
    for k in range(len(logits)):
        p = logits[k].softmax(0)
        for m in range(logits.shape[1]):
            total = total + p[m] * table[k, m]
    return total / len(logits)


def gradient(logits, table):
    p = torch.softmax(logits, 1)
    return p * (table - (p * table).sum(1, keepdim=True)) / logits.shape[0]


def by_autograd(logits, table):
    leaf = logits.clone().requires_grad_()
    expected(leaf, table).backward()
    return leaf.grad


def by_jacobian(logits, table):
    out = torch.zeros_like(logits)
    for k in range(len(logits)):
        p = logits[k].softmax(0)
        out[k] = (torch.diag(p) - torch.outer(p, p)) @ table[k] / len(logits)
    return out


def others(losses):
    out = torch.empty_like(losses)
    for r in range(len(losses)):
        out[r] = losses[r] - torch.cat([losses[:r], losses[r + 1:]]).mean(0)
    return out


def surrogate(logits, choices, advantages, log=lambda x: x.log_softmax(-1), reduce=torch.mean):
    logs = log(logits)
    picked = torch.stack([logs[torch.arange(len(logits)), c] for c in choices])
    return reduce(advantages * picked)


def cross_entropy(logits, choices, advantages):
    r, k = choices.shape
    each = F.cross_entropy(logits.repeat(r, 1), choices.reshape(-1), reduction="none").reshape(r, k)
    return -(advantages * each).mean()


def entropy(logits):
    p = logits.softmax(1)
    return -(p * logits.log_softmax(1)).sum(1).mean()


WRONG = {
    "gradient_norms": [
        ("0 for None", "None", lambda n: norms(n, missing=0.0)),
        ("skips None", "every weight|names", skips),
        ("crashes on None", "None", lambda n: {k: p.grad.norm().item() for k, p in n.named_parameters()}),
        ("weights", "grad", lambda n: {k: p.norm().item() for k, p in n.named_parameters()}),
        ("sum", "sum of absolute|root", lambda n: norms(n, lambda g: g.abs().sum().item())),
        ("squared", "square", lambda n: norms(n, lambda g: (g ** 2).sum().item())),
        ("largest", "largest entry", lambda n: norms(n, lambda g: g.abs().max().item())),
        ("truth", "0 did arrive|None", lambda n: {k: (p.grad.norm().item() or None) if p.grad is not None else None
                                                  for k, p in n.named_parameters()}),
        ("zero_grad", "as they were|no zero_grad", zero_grad_first),
        ("clips", "as they were", clips),
        ("fills gaps", "as they were", fills_gaps),
        ("tuple of norms", "dict", lambda n: tuple(norms(n).values())),
        ("no biases", "biases", lambda n: {k: v for k, v in norms(n).items() if k.endswith("weight")}),
        ("other order", "order", sorted_names),
        ("tensors of gradients", "number", lambda n: norms(n, lambda g: g)),
        ("None for 0 of one weight", "0 did arrive|None came", lambda n: {k: v if v else None for k, v in norms(n).items()}),
        ("a name is left out", "missing in the dict: 2.bias", lambda n: {k: v for k, v in norms(n).items() if k != "2.bias"}),
        ("one more", "not asked for in the dict: all", lambda n: {**norms(n), "all": 1.0}),
        ("one level deep", "layers in layers", of_children),
        ("linear layers alone", "layers in layers", lambda n: {f"{i}.{w}": None if getattr(m, w).grad is None else getattr(
            m, w).grad.norm().item() for i, m in enumerate(n) if isinstance(m, torch.nn.Linear) for w in ("weight", "bias")}),
        ("written-down names", "layers in layers", lambda n: {k: norms(n)[k] for k in ("0.weight", "0.bias", "2.weight", "2.bias")}),
        ("norms of rows and columns", "layers in layers", lambda n: norms(n, lambda g: g.norm(dim=-1).norm().item() if g.ndim < 3
         else g.norm(dim=-1).norm(dim=-1).sum().item())),
        ("without the frozen ones", "frozen", lambda n: {k: v for k, v in norms(n).items() if dict(n.named_parameters())[k].requires_grad}),
        ("rounded", "nearly right", lambda n: norms(n, lambda g: round(g.norm().item(), 3))),
        ("prints only", "return statement", lambda n: print(norms(n))),
        ("one norm", "dict", lambda n: sum(v or 0 for v in norms(n).values())),
    ],
    "expected_loss": [
        ("detached", "gradient|left the graph", lambda l, t: expected(l.detach(), t)),
        ("item", "gradient|left the graph", lambda l, t: expected(l, t).item()),
        ("sum", "average", lambda l, t: (l.softmax(1) * t).sum()),
        ("mean of all", "add up", lambda l, t: (l.softmax(1) * t).mean()),
        ("softmax 0", "last axis", lambda l, t: (l.softmax(0) * t).sum(1).mean()),
        ("logits", "softmax", lambda l, t: (l * t).sum(1).mean()),
        ("log_softmax", "log", lambda l, t: (l.log_softmax(1) * t).sum(1).mean()),
        ("argmax", "most probable", lambda l, t: t[torch.arange(len(l)), l.argmax(1)].mean()),
        ("per anchor", "one number|average", lambda l, t: (l.softmax(1) * t).sum(1)),
        ("sigmoid", "sigmoid", lambda l, t: (l.sigmoid() * t).sum(1).mean()),
        ("numpy", "stay in torch", lambda l, t: float((np.exp(l.numpy()) * t.numpy()).sum())),
        ("divides by M", "axis|proposals", lambda l, t: (l.softmax(1) * t).sum() / l.shape[1]),
        ("probabilities as constants", "left the graph|gradient", lambda l, t: (torch.tensor(l.softmax(1).tolist()) * t).sum(1).mean()),
        ("negative", "sign", lambda l, t: -expected(l, t)),
        ("keeps an axis", "axis", lambda l, t: expected(l, t)[None]),
        ("exp without care", "safe", lambda l, t: (l.exp() / l.exp().sum(1, keepdim=True) * t).sum(1).mean()),
        ("logits cut off", "cut them off", lambda l, t: expected(l.clamp(-5, 5), t)),
        ("a little too large", "nearly right", lambda l, t: expected(l, t) * (1 + 5e-5)),
        ("softmax without an axis", "dim=-1", lambda l, t: (torch.softmax(l) * t).sum(1).mean()),
        ("gradient times 0", "only zeros", lambda l, t: expected(l.detach(), t) + 0 * l.sum()),
    ],
    "expected_gradient": [
        ("no 1/K", "divide by K", lambda l, t: gradient(l, t) * len(l)),
        ("no keepdim", "keepdim|axis", lambda l, t: l.softmax(1) * (t - (l.softmax(1) * t).sum(1)) / len(l)),
        ("no average", "average|expected loss off", lambda l, t: l.softmax(1) * t / len(l)),
        ("sign", "sign", lambda l, t: -gradient(l, t)),
        ("plain mean", "weighted by π", lambda l, t: l.softmax(1) * (t - t.mean(1, keepdim=True)) / len(l)),
        ("no π", "π is missing", lambda l, t: (t - (l.softmax(1) * t).sum(1, keepdim=True)) / len(l)),
        ("global average", "own anchor", lambda l, t: l.softmax(1) * (t - (l.softmax(1) * t).sum(1).mean()) / len(l)),
        ("divides by all", "K · M", lambda l, t: gradient(l, t) / l.shape[1]),
        ("divides by M", "proposals M|axis", lambda l, t: gradient(l, t) * len(l) / l.shape[1]),
        ("softmax 0", "last axis", lambda l, t: gradient(l.T, t.T).T * l.shape[1] / l.shape[0]),
        ("only the diagonal of the Jacobian", "other proposals|1 − π", lambda l, t: l.softmax(1) * (1 - l.softmax(1)) * t / len(l)),
        ("broadcast the wrong way", "size of tensor|own anchor|average|shape", lambda l, t: l.softmax(1) * (
            t - (l.softmax(1) * t).sum(1)) / len(l)),
        ("exp without care", "safe", lambda l, t: (lambda p: p * (t - (p * t).sum(1, keepdim=True)) / len(l))(
            l.exp() / l.exp().sum(1, keepdim=True))),
        ("log π", "π|logits", lambda l, t: l.log_softmax(1) * (t - (l.softmax(1) * t).sum(1, keepdim=True)) / len(l)),
        ("summed", "nothing is added up|axis", lambda l, t: gradient(l, t).sum(1)),
        ("in place", "in place", lambda l, t: l.softmax(1) * t.sub_((l.softmax(1) * t).sum(1, keepdim=True)) / len(l)),
    ],
    "leave_one_out": [
        ("mean of all", "own loss|leave it out", lambda x: x - x.mean(0, keepdim=True)),
        ("wrong axis", "first axis|same anchor", lambda x: others(x.T).T if x.shape[1] > 1 else x - x),
        ("sign", "sign", lambda x: -others(x)),
        ("divides by R", "R − 1", lambda x: x - (x.sum(0) - x) / x.shape[0]),
        ("baseline", "baseline itself", lambda x: x - others(x)),
        ("all anchors", "of its own|all anchors", lambda x: x - (x.sum() - x) / (x.numel() - 1)),
        ("keeps itself", "take it off|still in the sum|own loss", lambda x: x - x.sum(0) / (len(x) - 1)),
        ("standardised", "deviation", lambda x: (x - x.mean(0)) / x.std(0)),
        ("before", "previous", lambda x: x - torch.roll(x, 1, 0)),
        ("best", "lowest", lambda x: x - x.min(0).values),
        ("sum of others", "divide", lambda x: x - (x.sum(0) - x)),
        ("in place", "in place", lambda x: x.sub_((x.sum(0) - x) / (len(x) - 1))),
        ("averaged", "average|axis", lambda x: others(x).mean(0)),
        ("those with another value", "equal losses", by_another_value),
        ("set of the others", "equal losses", by_set),
    ],
    "reinforce_surrogate": [
        ("π", "logarithm", lambda l, c, a: surrogate(l, c, a, lambda x: x.softmax(-1))),
        ("logits", "normalisation", lambda l, c, a: surrogate(l, c, a, lambda x: x)),
        ("sum", "average", lambda l, c, a: surrogate(l, c, a, reduce=torch.sum)),
        ("sign", "sign", lambda l, c, a: -surrogate(l, c, a)),
        ("axis 0", "last axis", lambda l, c, a: surrogate(l, c, a, lambda x: x.log_softmax(0))),
        ("detached", "gradient", lambda l, c, a: surrogate(l.detach(), c, a)),
        ("first draw", "first", lambda l, c, a: surrogate(l, c[:1].expand_as(c), a)),
        ("mean of each", "multiply before", lambda l, c, a: a.mean() * surrogate(l, c, torch.ones_like(a))),
        ("no advantages", "advantages", lambda l, c, a: surrogate(l, c, torch.ones_like(a))),
        ("over draws only", "anchors too", lambda l, c, a: surrogate(l, c, a) * l.shape[0]),
        ("not reduced", "number", lambda l, c, a: a * torch.stack([l.log_softmax(1)[torch.arange(len(l)), x] for x in c])),
        ("all proposals", "alone|drawn", lambda l, c, a: (a[..., None] * l.log_softmax(1)).mean()),
        ("absolute advantages", "negative|sign", lambda l, c, a: surrogate(l, c, a.abs())),
        ("gather by row", "rows are anchors", lambda l, c, a: (a * F.log_softmax(l, -1).gather(1, c)).mean()),
        ("float", "gradient", lambda l, c, a: float(surrogate(l, c, a))),
        ("backward inside", "return statement", lambda l, c, a: surrogate(l, c, a).backward()),
    ],
    "entropy": [
        ("detached", "gradient|left the graph", lambda l: entropy(l.detach())),
        ("π detached", "detach|gradient", lambda l: -(l.softmax(1).detach() * l.log_softmax(1)).sum(1).mean()),
        ("sum", "mean over the anchors|a sum", lambda l: -(l.softmax(1) * l.log_softmax(1)).sum()),
        ("mean of all", "add up", lambda l: -(l.softmax(1) * l.log_softmax(1)).mean()),
        ("sign", "sign", lambda l: -entropy(l)),
        ("bits", "natural", lambda l: -(l.softmax(1) * l.softmax(1).clamp(min=1e-12).log2()).sum(1).mean()),
        ("NaN", "log", lambda l: -(l.softmax(1) * l.softmax(1).log()).sum(1).mean()),
        ("entr has a gradient of NaN", "special.entr", lambda l: torch.special.entr(l.softmax(1)).sum(1).mean()),
        ("xlogy", "log_softmax has one", lambda l: -torch.special.xlogy(l.softmax(1), l.softmax(1)).sum(1).mean()),
        ("nan_to_num", "NaN|log", lambda l: (-(l.softmax(1) * l.softmax(1).log())).nan_to_num(0).sum(1).mean()),
        ("axis 0", "last axis", lambda l: -(l.softmax(0) * l.log_softmax(0)).sum(0).mean()),
        ("large eps", "too large", lambda l: -(l.softmax(1) * (l.softmax(1) + 1e-2).log()).sum(1).mean()),
        ("a small eps", "too large|nearly right", lambda l: -(l.softmax(1) * (l.softmax(1) + 1e-5).log()).sum(1).mean()),
        ("clamped at 0.001", "too large", lambda l: -(l.softmax(1) * l.softmax(1).clamp(min=1e-3).log()).sum(1).mean()),
        ("less than log M", "log M", lambda l: np.log(l.shape[1]) - entropy(l)),
        ("returns nothing", "return statement", lambda l: None),
        ("of logits", "normalised", lambda l: -(l.softmax(1) * l).sum(1).mean()),
        ("in shares", "log M", lambda l: entropy(l) / np.log(l.shape[1])),
        ("per anchor", "one number|average", lambda l: -(l.softmax(1) * l.log_softmax(1)).sum(1)),
        ("item", "gradient|left the graph", lambda l: entropy(l).item()),
    ],
}

RIGHT = {
    "gradient_norms": [("loop", norms), ("flat", lambda n: norms(n, lambda g: float(g.flatten().pow(2).sum().sqrt()))),
                       ("numpy", lambda n: norms(n, lambda g: np.linalg.norm(g.numpy()))),
                       ("0-d tensors", lambda n: norms(n, lambda g: torch.linalg.vector_norm(g))),
                       ("module by module", of_modules)],
    "expected_loss": [("sum", expected), ("loops", expected_by_loops),
                      ("einsum", lambda l, t: torch.einsum("km,km->", l.softmax(-1), t) / len(l)),
                      ("exp of log_softmax", lambda l, t: (l.log_softmax(1).exp() * t).sum() / len(t))],
    "expected_gradient": [("by hand", gradient), ("Jacobian", by_jacobian), ("autograd", by_autograd),
                          ("numpy", lambda l, t: gradient(l, t).numpy())],
    "leave_one_out": [("loop", others), ("scaled mean", lambda x: (x - x.mean(0)) * len(x) / (len(x) - 1)),
                      ("list", lambda x: others(x).tolist()), ("list.remove", by_list)],
    "reinforce_surrogate": [("stack", surrogate), ("cross entropy", cross_entropy),
                            ("gather, turned", lambda l, c, a: (a * F.log_softmax(l, -1).gather(1, c.T).T).mean()),
                            ("Categorical", lambda l, c, a: (a * torch.distributions.Categorical(logits=l).log_prob(c)).mean()),
                            ("log of softmax", lambda l, c, a: surrogate(l, c, a, lambda x: x.softmax(1).log()))],
    "entropy": [("log_softmax", entropy), ("Categorical", lambda l: torch.distributions.Categorical(logits=l).entropy().mean()),
                ("log π detached, which changes nothing", lambda l: -(l.softmax(1) * l.log_softmax(1).detach()).sum(1).mean()),
                ("logsumexp", lambda l: (l.logsumexp(1) - (l.softmax(1) * l).sum(1)).mean()),
                ("clamped", lambda l: -(l.softmax(1) * l.softmax(1).clamp(min=1e-30).log()).sum(1).mean())],
}
