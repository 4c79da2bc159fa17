# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 05 · Learning the region
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/learnable-regions/blob/main/notebooks/05_learning_the_region.ipynb)
#
# **You will** follow the gradient of the official code station by station and find the place where it gets lost, then
# bring it back in different ways: write two estimators of it yourself, take a third from notebook 03, and measure which
# of them points the right way, how noisy each is, and what each costs.
#
# | | |
# |---|---|
# | time | 1-2 minutes on a laptop without GPU (profile `tiny`), 75 with the six exercises |
# | memory | about 1.5 GB |
# | paper | sections 3.2 and 3.3 of [Text-Driven Image Editing via Learnable Regions](https://arxiv.org/abs/2311.16432) |
# | before | [03 The box generator](03_the_box_generator.ipynb), [04 The losses](04_the_losses.ipynb) |

# %% tags=["setup"]
import os, sys  # On Colab this fetches the course and what is missing; elsewhere it does nothing.
if "google.colab" in sys.modules and "lr_helpers" not in sys.modules:
    sys.exit("Nothing was fetched: https://github.com/OWNER/learnable-regions "
             "is only a placeholder for the real address; open the course "
             "from its own repository, or put its address into pyproject.toml and run: "
             "python -m lr_helpers notebooks --badges")

# %% tags=["parameters"]
import os

profile = os.environ.get("LR_PROFILE", "tiny")  # which models; see data/models.toml
prompt = "an apple"  # what you want to see
source = ""  # what is there now; empty: what the sample shows
seed = 42
runs = 5  # trainings of each estimator, from different weights
draws = 400  # how often each estimator is asked for a gradient, to measure its bias and noise

# %% tags=["costs"]
from lr_helpers.costs import course

course.say("05", profile)

# %%
import ipywidgets
import numpy as np
import torch

from lr_helpers import METHODS, checks, edit, learning, load_models, plots, regions
from lr_helpers.course.samples import sample, square
from lr_helpers.course.widgets import explore
from lr_helpers.files.pictures import to_image

models = load_models(profile)
size, method = models.profile.size, METHODS["learned"].but(anchors=9)
print(models.profile.title)

# %% [markdown]
# ## What goes in
#
# The same picture as in notebooks 01 and 03: its anchors, $M$ proposals around each of the $K$ anchors, and the features
# pooled inside each of them.

# %% tags=["nbval-check-output"]
from lr_helpers.anchors import anchor_centres, top_anchors

main = sample(models.profile)  # an emoji scene, or a photograph for models that know the world
picture, true_box = square(main, size)
source = source or main.source
features, attention = models.backbone.encode_image(picture)
centres = anchor_centres(top_anchors(attention, method.anchors), tuple(attention.shape[1:]), size)
boxes = regions.proposals(centres, method.sizes, size)
pooled = regions.pool_proposals(features, boxes, size, method.pool)
ready = regions.standardise(pooled)
(K, M), rows = boxes.shape[:2], torch.arange(len(boxes))
print("proposals (anchors K, sizes M, box):", tuple(boxes.shape), " pooled features:",
      tuple(ready.shape))

# %% [markdown]
# All edits share one noise, so there are only $K·M$ different ones, and we can afford to make **all** of them: the table of
# losses $L_{km}$. A loss here is that of the method `learned`: notebook 04's terms, and two that need no edit. *Patches* asks
# whether the box's patches look like the source to CLIP, *occlusion* whether hiding the box takes the source away. Terms have
# different scales, so each counts in standard deviations over the picture's own boxes: 0 is an average box, and negative is
# better. The table is made once, here, and used by everything below. It tells us the truth that estimators of the
# gradient only guess. Its price is the unit of this notebook's costs.

# %% tags=["nbval-check-output"]
from lr_helpers.candidates import Candidates

before = models.editor.evaluations
candidates = Candidates(models, picture, source, prompt, boxes, method, seed)
table = candidates.losses(None)  # None: of all proposals
spent = models.editor.evaluations - before
price = spent / candidates.count  # of one edit
print(f"{candidates.count} different edits, {spent} denoiser evaluations, {price:g} for one edit")

# %% [markdown]
# ## What will come out
#
# A network that knows nothing learns one anchor's size by gradient descent, here with the package's functions. Above, the
# more probable a box is the stronger it is drawn; below, its probability.

# %%
def moments(probabilities: list) -> dict[int, list]:
    """The (K, M) probabilities of some iterations, more of the early ones."""
    last = len(probabilities) - 1
    return {i: torch.tensor(probabilities[i]) for i in (0, 10, 30, 60, 100, last) if i <= last}

# %%
torch.manual_seed(seed)
network = regions.RegionNetwork(M, len(features), method.pool)
history = learning.learn(
    network,
    ready,
    candidates,
    estimator=learning.Expectation(),
    iterations=method.iterations,
    lr=method.lr,
    generator=torch.Generator(),
    entropy_weight=method.entropy_weight,
)

# %%
anchor = int(table.amin(1).argmin())
plots.show_moving(
    picture,
    boxes[anchor],
    {i: p[anchor] for i, p in moments(history.probabilities).items()},
    method.sizes,
);

# %% [markdown]
# ## 1. Where the gradient gets lost
#
# The official code does the following in each iteration. We re-enact it on our small models, one station after the other.
# (Its way of choosing anchors and its other defects are left out here: only the wiring matters.)
#
# First from the network to the box: logarithms of the probabilities, a hard Gumbel sample with straight-through, the half side
# of the chosen square, its corners, and these rounded up to whole pixels. Then from the box to the loss: a mask, the frozen
# inpainting model, pictures of 8 bits as they come out of the pipeline, and CLIP's verdict on them.

# %%
from lr_helpers.boxes import box_mask
from lr_helpers.inpainting import composite
from lr_helpers.losses import clip_loss

torch.manual_seed(seed)
network = regions.RegionNetwork(M, len(features), method.pool)
generator = torch.Generator().manual_seed(seed)
logits = network(ready).log_softmax(dim=1)
chosen = regions.straight_through(
    regions.gumbel_softmax(logits, 1.0, torch.rand(K, M, generator=generator))
)
half = (chosen * torch.tensor(method.sizes) * size / 2).sum(dim=1, keepdim=True)
corners = torch.cat([centres - half, centres + half], dim=1).clamp(0, size)
whole = corners.ceil()  # up to whole pixels

# %%
mask = torch.stack([box_mask(box, size, size) for box in whole.tolist()])
frames = models.editor.inpaint(
    picture, mask, prompt, seed=seed, steps=models.editor.screening_steps
)
edited = (composite(frames, picture, mask) * 255).round().to(torch.uint8)
loss = clip_loss(
    models.clip.encode_image(edited / 255)[0], models.clip.encode_text([prompt])[0]
).mean()

# %% [markdown]
# PyTorch writes down how each tensor was made: its `grad_fn`. A tensor without one has forgotten where it comes from.
# So ask each station two questions. Does it remember? And if a gradient started here, what would arrive at the first layer
# of the network?

# %%
def arriving(station: torch.Tensor) -> float | None:
    """Norm of the gradient of a station at the network's first weight; None where nothing connects
    them.
    """
    if not station.requires_grad:
        return None
    first = next(network.parameters())
    gradient, = torch.autograd.grad(
        station.square().sum(), first, retain_graph=True, allow_unused=True
    )
    return None if gradient is None else float(gradient.norm())

# %% tags=["nbval-check-output"]
stations = {
    "log-softmax": logits,
    "Gumbel sample": chosen,
    "half side": half,
    "corners": corners,
    "whole pixels": whole,
    "mask": mask,
    "8-bit edit": edited,
    "CLIP loss": loss,
}
for name, station in stations.items():
    value = arriving(station)
    print(f"{name:14} grad_fn {type(station.grad_fn).__name__:22} arrives:",
          "something" if value else value)

# %%
plots.show_chain(
    {name.replace(" ", "\n"): arriving(station) for name, station in stations.items()}
);

# %% [markdown]
# Two cuts, and each alone would be enough. **Rounding** is a staircase: it is still connected, but its slope is 0 everywhere.
# Then the corners become a **mask** by cutting out pixels, the pipeline runs without recording anything, and its
# pictures are whole numbers from 0 to 255, which have no gradient in PyTorch at all.
#
# Normally one would notice. `loss.backward()` complains:

# %% tags=["nbval-check-output"]
try:
    loss.backward()
except RuntimeError as error:
    print("RuntimeError:", str(error).splitlines()[0])

# %% [markdown]
# The official code has a line that silences the complaint: `loss.requires_grad_(True)`. It doesn't repair the graph. It
# declares the loss itself to be a *leaf*, something like a weight. Now `backward()` runs, and ends where it began.
#
# **Exercise 1** ★☆☆ · 5 minutes. To see what arrives, write the tool that every training should start with: the norm of the
# gradient of each weight.

# %% tags=["solution"]
def gradient_norms(network: torch.nn.Module) -> dict[str, float | None]:
    """What the last `backward()` left at each weight of a network of any layers.

    Returns {name: norm} for all of `network.named_parameters()`, in their order: the Euclidean norm
    of the weight's gradient as float, which may be exactly 0, or None where the weight has no
    gradient at all.
    """
    return {
        name: None if p.grad is None else p.grad.norm().item()
        for name, p in network.named_parameters()
    }


# %% tags=["nbval-check-output"]
checks.gradient_norms(gradient_norms)

# %% tags=["nbval-check-output"]
loss.requires_grad_(True)
loss.backward()
print(
    "is the loss a leaf?", loss.is_leaf, " its gradient with respect to itself:", loss.grad.item()
)
gradient_norms(network)

# %% [markdown]
# And over the whole training? The preset `official_code` does all that the official code does, its 10 iterations
# included. (We let it take 2 denoising steps: how well the edits are painted makes no difference to the wiring.) A
# measurement that can't fail proves nothing, so the second line repeats it with a gradient that arrives.

# %%
def largest_change(method) -> tuple[float, list]:
    """The largest change of any weight in an edit by this method, and the last gradients' norms."""
    result = edit(models, to_image(picture), source, prompt, method, seed=seed, progress=False)
    torch.manual_seed(seed)
    fresh = regions.RegionNetwork(**result.network.settings)
    change = max(
        float((a - b).detach().abs().max())
        for a, b in zip(result.network.parameters(), fresh.parameters())
    )
    return change, list(gradient_norms(result.network).values())

# %% tags=["nbval-check-output"]
official = METHODS["official_code"].but(steps=2)
for name, tried in (
    ("official_code", official),
    ("… with a gradient", official.but(estimator="expectation")),
):
    change, norms = largest_change(tried)
    print(
        f"{name:18} largest change of a weight after {tried.iterations} iterations: {change:.3f},",
        f"weights without gradient: {norms.count(None)} of {len(norms)}",
    )

# %% [markdown]
# The same was measured on the official network class itself, with a stand-in for the inpainting model: `None`
# for all eight weight tensors, and a largest change of 0.0. What it returns is a random proposal for each anchor, ranked
# afterwards. (Even with a gradient it would take one step only: its optimiser steps at iterations 0, 25, 50, …, and there
# are 10.)
#
# ## 2. What we want to go down
#
# What *is* the gradient that should have arrived? The network doesn't make a picture, it makes a choice: proposal
# $m$ of anchor $k$ with the probability $π_{km}$. Nobody can take the derivative of a choice. But the loss that we must *expect*
# is a smooth function of the probabilities:
#
# $$E = \frac1K\sum_k\sum_m π_{km}\,L_{km}, \qquad π_k = \text{softmax}(\text{logits}_k)$$
#
# **Exercise 2** ★☆☆ · 5 minutes. Write it.

# %% tags=["solution"]
def expected_loss(logits: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    """The loss to be expected if each anchor chooses by chance, averaged over the anchors.

    logits: (K, M) any numbers, also large ones, for M proposals of each of K anchors. table:
    (K, M), the loss of each edit.
    Returns one number (shape ()); gradients flow back to the logits.
    """
    return (logits.softmax(dim=1) * table).sum(dim=1).mean()


# %% tags=["nbval-check-output"]
checks.expected_loss(expected_loss)

# %% [markdown]
# **Exercise 3** ★★☆ · 15 minutes. Autograd could now differentiate that, but do it once by hand, for the formula tells what
# learning does. Start from $\partial π_j / \partial \text{logit}_m = π_j (\delta_{jm} - π_m)$. You should find a product of
# three things: how probable the proposal is, how much worse than its anchor's average, and $1/K$.

# %% tags=["solution"]
def expected_gradient(logits: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    """The derivative of the expected loss with respect to each logit, written out.

    logits, table: (K, M) as for `expected_loss`. Returns (K, M).
    """
    probabilities = logits.softmax(dim=1)
    average = (probabilities * table).sum(dim=1, keepdim=True)
    return probabilities * (table - average) / len(table)


# %% tags=["nbval-check-output"]
checks.expected_gradient(expected_gradient)

# %% [markdown]
# This is the **true gradient**: of real edits, all of them counted. Left the table of losses, with each anchor's best size ringed;
# right the true gradient at the untrained network. Dark means: a step down its gradient makes this proposal more probable.

# %%
start = network(ready).detach()
truth, best = expected_gradient(start, table), table.argmin(dim=1).tolist()
plots.show_tables(
    {"loss of the edit": table, "true gradient of the expected loss": truth},
    method.sizes,
    {"loss of the edit": best, "true gradient of the expected loss": best},
);

# %% [markdown]
# ## 3. Four estimators
#
# An *estimator* gets the logits and a *problem* that it may ask for the losses of edits, and returns a number whose
# `backward()` leaves a gradient at the logits. All four stand behind this one interface. The first is the official code's, on
# one line; the second is yours already: it asks for the whole table.

# %%
def sample(logits: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """(K, M) logits → (K,) one proposal of each anchor by chance (Gumbel-max, notebook 03)."""
    return regions.gumbel_softmax(
        logits.detach(), 1.0, torch.rand(logits.shape, generator=generator)
    ).argmax(dim=1)


def none(logits, problem, generator):
    return problem.losses(sample(logits, generator)).mean().detach().requires_grad_(True)


def expectation(logits, problem, generator):
    return expected_loss(logits, problem.losses(None))

# %% [markdown]
# ### Reinforce: try some, and remember
#
# If the table is too dear, try a few proposals and see. $\nabla π_m = π_m \nabla \log π_m$ turns the gradient into a mean over
# draws, so a few draws estimate it without bias:
#
# $$\nabla E = \mathbb{E}_{m\sim π}\,[\,L_m \nabla \log π_m\,] = \mathbb{E}_{m\sim π}\,[\,(L_m - b)\,\nabla \log π_m\,]$$
#
# Were all losses positive, then without $b$ *every* drawn proposal would get rarer, the bad ones a little more: right on average,
# wild in a single step. Ours are positive and negative, and yet a draw says more beside other draws than alone. The *baseline*
# $b$ may be anything that doesn't depend on the draw itself: it changes the noise, not the mean. With $R$ draws for each anchor, a good one is at hand: the mean loss of the *other* draws. What is left, $L - b$, is
# called the draw's *advantage*.
#
# **Exercise 4** ★★☆ · 10 minutes. Write that **leave-one-out** baseline.

# %% tags=["solution"]
def leave_one_out(losses: torch.Tensor) -> torch.Tensor:
    """How much worse each draw is than the other draws of its anchor.

    losses: (R, K), R draws (at least 2) for each of K anchors. Returns (R, K): the loss of the draw
    minus the mean loss of the anchor's other R − 1 draws.
    """
    others = (losses.sum(dim=0) - losses) / (len(losses) - 1)
    return losses - others


# %% tags=["nbval-check-output"]
checks.leave_one_out(leave_one_out)

# %% [markdown]
# **Exercise 5** ★★★ · 15 minutes. PyTorch wants a number to differentiate. Make one whose *gradient* is that of the formula (its value
# means nothing): the mean of advantage times $\log π$ of what was drawn. The check compares gradients.

# %% tags=["solution"]
def reinforce_surrogate(
    logits: torch.Tensor, choices: torch.Tensor, advantages: torch.Tensor
) -> torch.Tensor:
    """A number whose gradient with respect to the logits is the score-function estimate.

    logits: (K, M). choices: (R, K) whole numbers, the proposal drawn for each anchor, R times.
    advantages: (R, K), constants. Returns one number (shape ()): the mean over draws and anchors of
    advantage · log π of the choice.
    """
    log_probabilities = logits.log_softmax(dim=1)
    rows = torch.arange(len(logits))
    return torch.stack(
        [(a * log_probabilities[rows, c]).mean() for c, a in zip(choices, advantages)]
    ).mean()


# %% tags=["nbval-check-output"]
checks.reinforce_surrogate(reinforce_surrogate)

# %%
def reinforce(logits, problem, generator, repeats=4, advantage=leave_one_out):
    choices = torch.stack([sample(logits, generator) for _ in range(repeats)])
    losses = torch.stack([problem.losses(c) for c in choices])
    return reinforce_surrogate(logits, choices, advantage(losses))


def without_baseline(logits, problem, generator):
    return reinforce(logits, problem, generator, advantage=lambda losses: losses)

# %% [markdown]
# ### Straight-through: the gradient through the picture
#
# The paper's way: draw one proposal with Gumbel-softmax, edit there, and let the gradient of CLIP's losses flow back through the
# picture. How it is to get through the editor the paper doesn't say; the one door we see is the mask with which the edit is
# pasted, $a·\text{edit} + (1-a)·\text{source}$ with $a = \sum_m y_m\,\text{mask}_m$, which you built in notebook 03. `blended` of
# the package pastes, asks CLIP, and keeps the graph.

# %%
def straight_through(logits, problem, generator, temperature=1.0):
    soft = regions.gumbel_softmax(
        logits, temperature, torch.rand(logits.shape, generator=generator)
    )
    return problem.blended(regions.straight_through(soft)).mean()

# %% [markdown]
# One step with each. What arrives at the network's eight weight tensors?

# %%
estimators = {
    "expectation": expectation,
    "reinforce": reinforce,
    "straight-through": straight_through,
    "none (official)": none,
}
layers = [
    f"{layer}\n{kind}"
    for layer in ("conv 1", "conv 2", "linear 1", "linear 2")
    for kind in ("weight", "bias")
]
arrived = {}
for name, estimator in estimators.items():
    network.zero_grad(set_to_none=True)
    estimator(network(ready), candidates, torch.Generator().manual_seed(seed)).backward()
    arrived[name] = dict(zip(layers, gradient_norms(network).values()))
plots.show_gradient_norms(arrived);

# %% [markdown]
# ### To measure without paying again
#
# We want hundreds of draws and tens of trainings. The losses are in the table. And straight-through? Its weights are one-hot in
# value, so for anchor $k$ and choice $m$ its picture, and with it the gradient $G_{kmj}$ that reaches the choice weight $y_j$ of
# proposal $j$, is always the same. $K·M$ backward passes through CLIP hold all that straight-through can ever feel.

# %%
def feel(candidates: Candidates) -> torch.Tensor:
    """G, (K, M, M): [k, m, j] is what reaches the choice weight of proposal j when m was chosen for
    anchor k.
    """
    felt = torch.zeros(K, M, M)
    for m in range(M):
        one_hot = torch.eye(M)[m].repeat(K, 1).requires_grad_(True)
        felt[:, m] = torch.autograd.grad(candidates.blended(one_hot).sum(), one_hot)[0]
    return felt


felt = feel(candidates)

# %% [markdown]
# With it the problem becomes a class of a few lines that answers like the real one, and keeps the books: which different
# edits were asked for, and how many in all.

# %%
class Paid:
    """The table as an estimator sees it that has to pay for what it asks for."""

    def __init__(self, table=table, boxes=boxes, felt=felt):
        self.table, self.boxes, self.felt, self.different, self.asked = table, boxes, felt, set(), 0

    def losses(self, choices):
        edits = self.boxes if choices is None else self.boxes[rows, choices]
        self.different.update(map(tuple, edits.reshape(-1, 4).tolist()))
        self.asked += edits[..., 0].numel()
        return self.table if choices is None else self.table[rows, choices]

    def blended(self, weights):
        choices = weights.argmax(dim=1)
        change = ((weights - weights.detach()) * self.felt[rows, choices]).sum(dim=1)  # 0 in value
        return self.losses(choices) + change

# %% [markdown]
# Trust, but check: the same gradients as with the real pictures, and as those of the package's estimators?

# %% tags=["nbval-check-output"]
def gradient(estimator, problem, generator) -> torch.Tensor:
    """(K, M) at the logits of the untrained network."""
    leaf = start.clone().requires_grad_()
    estimator(leaf, problem, generator).backward()
    return leaf.grad


packaged = {
    "expectation": learning.Expectation(),
    "reinforce": learning.Reinforce(),
    "straight-through": learning.StraightThrough(),
}
for name, theirs in packaged.items():
    mine = gradient(estimators[name], Paid(), torch.Generator().manual_seed(seed))
    real = gradient(theirs, candidates, torch.Generator().manual_seed(seed))
    print(f"{name:17} the same as the package's on the real edits:",
          torch.allclose(mine, real, atol=1e-5))

# %% [markdown]
# ### Which way do they point?
#
# Ask each estimator often for a gradient at the same logits and compare with the true one. *Cosine* of a single draw: 1 is the right way,
# below 0 it goes uphill. *Bias*: how far the mean of all draws is from the truth, in lengths of the truth; beside it,
# how far it would be by chance alone. *Noise*: how far a single draw is from that mean.

# %%
asked = {
    **{name: f for name, f in estimators.items() if f is not none},
    "no baseline": without_baseline,
}
generator = torch.Generator().manual_seed(seed)
drawn = {
    name: torch.stack([gradient(f, Paid(), generator) for _ in range(draws)])
    for name, f in asked.items()
}

# %%
def compare(drawn: torch.Tensor, truth: torch.Tensor) -> str:
    """Bias, what of it is chance, noise, and the cosine of a draw with its 95 % interval."""
    cosines = torch.cosine_similarity(drawn.flatten(1), truth.flatten()[None])
    noise = drawn.var(0).sum().sqrt() / truth.norm()
    bias = (drawn.mean(0) - truth).norm() / truth.norm()
    half = 1.96 * cosines.std() / len(drawn) ** 0.5
    chance = noise / len(drawn) ** 0.5
    return (
        f"cosine {cosines.mean():5.2f} ± {half:.2f}   bias {bias:.2f} (by chance {chance:.2f})"
        f"   noise {noise:.2f}"
    )

# %% tags=["nbval-check-output"]
print(f"at the untrained network, {draws} draws each")
for name, gradients in drawn.items():
    problem = Paid()
    gradient(asked[name], problem, generator)
    print(f"{name:17} {compare(gradients, truth)}   edits asked for {problem.asked}")

# %%
def mean_and_interval(gradients: torch.Tensor) -> tuple:
    return truth, gradients.mean(0), 1.96 * gradients.std(0) / draws ** 0.5


shown = ("reinforce", "no baseline", "straight-through")
plots.show_against({name: {name: mean_and_interval(drawn[name])} for name in shown},
                   "true gradient of a logit", "mean of the draws, 95 %");

# %% [markdown]
# Each point is one logit; on the dotted line the mean is right. Reinforce agrees within its intervals, with and without
# baseline: it has no bias. What the baseline buys is noise.
#
# ### What straight-through can't feel
#
# On a loss that is linear in the weights, straight-through points about the right way: notebook 03 showed it. Here the loss is
# CLIP's verdict on a picture. Its cosine above is explained by the table $G$. When proposal $m$ was drawn, straight-through
# believes that moving to proposal $j$ would change the loss by $G_{kmj} - G_{kmm}$. The tables know what really happens:
# $L_{kj} - L_{km}$. Compare them, for larger and smaller boxes than the drawn one, once for the paper's three losses and once
# for ours. (No new edits: only the weights of the loss terms differ.)

# %%
papers = candidates.under(METHODS["learned"].but(shortlist=0).aiming("paper"))
felt_paper = feel(papers)


def beliefs(table: torch.Tensor, felt: torch.Tensor) -> dict[str, tuple]:
    """(true change, believed change) of the loss for all moves to a smaller and to a larger box."""
    true = table[:, None, :] - table[:, :, None]
    believed = felt - felt.diagonal(dim1=1, dim2=2)[..., None]
    larger = torch.ones(M, M).triu(1).bool()
    return {"to a larger box": (true[:, larger], believed[:, larger]),
            "to a smaller box": (true[:, larger.T], believed[:, larger.T])}

# %%
moves = {"the paper's losses": beliefs(papers.loss, felt_paper), "our losses": beliefs(table, felt)}
plots.show_against(moves, "true change of the loss", "believed change");

# %% tags=["nbval-check-output"]
for name, groups in moves.items():
    (true, believed), (smaller, thought) = groups.values()
    print(
        f"{name:18} larger box: improves the loss in {(true < 0).float().mean():.0%} of the moves,",
        f"believed to in {(believed < -1e-4).float().mean():.0%} (largest belief "
        f"{believed.abs().max():.2f});",
        f"smaller box: right sign in {((smaller < 0) == (thought < 0)).float().mean():.0%}",
    )
problem = Paid(papers.loss, boxes, felt_paper)
gradients = torch.stack([gradient(straight_through, problem, generator) for _ in range(draws)])
print(
    f"straight-through, the paper's losses: "
    f"{compare(gradients, expected_gradient(start, problem.table))}"
)

# %% [markdown]
# The reason is plain once seen. **Outside the drawn box the pasted edit *is* the source picture.** A larger mask would paste the very
# same pixels, so the paper's losses give a larger box a believed change of exactly 0. Ours have two terms that need no
# edit, patches and occlusion: these are linear in the weights, and straight-through gets them exactly right. But what the inpainting model *would
# have painted* with more room is not in the picture, and no gradient can find it there. To a smaller box there is a belief,
# but of another edit: the drawn one with its rim faded out, not the one that the model would paint in the smaller box.
#
# So with the paper's losses the gradient is not lost any more, it arrives at every weight, and yet it answers another
# question. A gradient that arrives is necessary, not sufficient. (This is our reading of the paper, with our losses and editor, on one scene.)
#
# ## 4. Learning curves at equal cost
#
# Now train. The loop is the usual one, with one addition: while the probabilities are still undecided they are rewarded for it, less
# and less. The softmax's gradient has the factor $π$: a proposal that the network has given up
# gets no gradient any more, whether it was rightly given up or not. The reward is the entropy
# $H = -\frac1K\sum_k\sum_m π_{km} \log π_{km}$.
#
# **Exercise 6** ★☆☆ · 5 minutes. Write it.

# %% tags=["solution"]
def entropy(logits: torch.Tensor) -> torch.Tensor:
    """How undecided the probabilities are: 0 when sure, log M when even.

    logits: (K, M). Returns one number (shape ()): the entropy of each anchor's softmax, with the
    natural logarithm, averaged over the anchors. It and its gradient are finite also where a
    probability has run down to 0. Gradients flow back.
    """
    return -(logits.softmax(dim=1) * logits.log_softmax(dim=1)).sum(dim=1).mean()


# %% tags=["nbval-check-output"]
checks.entropy(entropy)

# %% [markdown]
# The loop writes down the probabilities and the books after each update. How good the probabilities are is read off the table; that is
# evaluation, and no estimator gets to see it.

# %%
def write_down(run: dict, logits: torch.Tensor, problem: Paid) -> None:
    """Add the present probabilities, and what has been paid so far, to the books."""
    run["probabilities"].append(logits.softmax(dim=1).tolist())
    run["different"].append(len(problem.different) * price)
    run["asked"].append(problem.asked * price)

# %%
def untrained(seed: int, sizes: int) -> tuple:
    """A region network with the first weights of this seed, and its optimiser."""
    torch.manual_seed(seed)
    network = regions.RegionNetwork(sizes, len(features), method.pool)
    return network, torch.optim.Adam(network.parameters(), lr=method.lr)

# %%
def train(estimator, seed, inputs=ready, bonus=method.entropy_weight, problem=None) -> dict:
    problem, run = problem or Paid(), {"probabilities": [], "different": [], "asked": []}
    network, optimiser = untrained(seed, problem.table.shape[1])
    generator, logits = torch.Generator().manual_seed(seed), network(inputs)
    write_down(run, logits, problem)
    for step in range(method.iterations):
        loss = estimator(logits, problem, generator)
        if not loss.is_leaf:  # to a leaf nothing can be added that would reach the network
            loss = loss - bonus * (1 - step / method.iterations) * entropy(logits)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        logits = network(inputs)
        write_down(run, logits, problem)
    run["loss"] = (torch.tensor(run["probabilities"]) * problem.table).sum(2).mean(1).tolist()
    return run

# %% tags=["nbval-check-output"]
again = train(expectation, seed)["probabilities"][:-1]
print(
    "the same probabilities as with the package's `learn`:",
    np.allclose(again, history.probabilities, atol=1e-3),
)

# %%
learned = {name: [train(f, s) for s in range(runs)] for name, f in estimators.items()}
floor = float(table.amin(dim=1).mean())
print(
    f"expected loss at first {np.mean([r['loss'][0] for r in learned['expectation']]):.2f}, each "
    f"anchor's best {floor:.2f}"
)
for name, trained in learned.items():
    print(
        f"{name:17} after {method.iterations} updates: "
        f"{np.mean([r['loss'][-1] for r in trained]):.2f}"
    )

# %% [markdown]
# Lines are means of the runs, bands go from the best to the worst. Left by updates. In the middle by what was paid when **every different
# edit is paid once**, which is right here, where all share one noise. Right when **every draw is paid**, as with new
# noise for each edit, where nothing can be kept. The price is that of the estimator running alone.

# %%
def curves(x: str) -> dict[str, list]:
    return {
        name: [(r[x] if x != "update" else range(len(r["loss"])), r["loss"]) for r in trained]
        for name, trained in learned.items()
    }


paid_once, paid_always = "evaluations, different edits", "evaluations, every draw"
plots.show_runs(
    {"update": curves("update"), paid_once: curves("different"), paid_always: curves("asked")},
    "expected loss", floor, logarithmic=(paid_always,)
);

# %% [markdown]
# `expectation` can do nothing until the whole table is paid (the flat line in the middle), then its steps are free and exact. Reinforce starts
# to learn with its first draws, but looking for the best it soon has bought the whole (small) table too. If each draw costs, the
# one with the better gradient for the money wins: compare the two on the right. `none` pays and gets nothing.
#
# ### When the table is large
#
# More sizes make the table larger, and then *paying only for what one draws* counts. We have no edits for sizes in between, so for this
# one experiment the losses are **interpolated** between the real ones; boxes and features are real. Both learn without the bonus
# here, for it makes a point of trying everything.

# %%
fine = np.linspace(method.sizes[0], method.sizes[-1], 31)
fine_table = torch.tensor(
    np.array([np.interp(fine, method.sizes, row) for row in table.numpy()]), dtype=torch.float32
)
fine_boxes = regions.proposals(centres, fine.tolist(), size)
fine_ready = regions.standardise(regions.pool_proposals(features, fine_boxes, size, method.pool))

# %%
large = {
    f"{name}, {len(fine)} sizes": [
        train(estimators[name], s, fine_ready, 0.0, Paid(fine_table, fine_boxes)) for s in range(3)
    ]
    for name in ("expectation", "reinforce")
}
plots.show_runs(
    {
        paid_once: {
            name: [(r["different"], r["loss"]) for r in trained] for name, trained in large.items()
        }
    },
    "expected loss",
    float(fine_table.amin(1).mean()),
);

# %% [markdown]
# So the advice is this. A table that you can afford: make it, and use `expectation`. A table that you can't, or a new noise for every
# edit: look at the right panel above. Straight-through is the cheapest for each update, one edit an anchor, and with *our* losses that
# is money well spent, because two of their terms know a box without its edit (it ends higher than the others). With losses that see nothing but the edit, as the paper's
# do, it is led astray, as we saw; there reinforce with a baseline is the one that is right on average.
#
# ## 5. Watching the box move
#
# The most probable box of one anchor, for the four estimators from the same first weights. Dashed is the known box of the object,
# which no estimator has seen.

# %%
known = torch.tensor(true_box)
strips = {
    name: {i: p[anchor] for i, p in moments(trained[0]["probabilities"]).items()}
    for name, trained in learned.items()
}
plots.show_strips(picture, boxes[anchor], strips, known.tolist());

# %% [markdown]
# Choose the anchor, the estimator and the iteration yourself.

# %%
def draw(estimator: str, anchor: int, iteration: int):
    probabilities = torch.tensor(learned[estimator][0]["probabilities"])[:, anchor]
    return plots.show_moving(picture, boxes[anchor],
                             {i: probabilities[i] for i in sorted({0, iteration})}, method.sizes)


explore(draw, estimator=ipywidgets.Dropdown(options=list(learned)),
        anchor=ipywidgets.IntSlider(anchor, 0, K - 1),
        iteration=ipywidgets.IntSlider(30, 0, method.iterations))

# %% [markdown]
# ### Why it can get stuck
#
# Two things of ours, which are not in the paper, are in all the trainings above: the bonus, and `standardise`, which takes from the features
# what all anchors have in common. What are they worth? Train by `expectation`, the exact gradient, with and without them.

# %%
ways = {
    "both": {},
    "no bonus": {"bonus": 0.0},
    "raw features": {"inputs": pooled},
    "neither": {"inputs": pooled, "bonus": 0.0},
}
tried = {name: [train(expectation, s, **how) for s in range(3)] for name, how in ways.items()}
ends = {name: torch.tensor(trained[0]["probabilities"][-1]) for name, trained in tried.items()}

# %%
plots.show_tables(
    {f"π at the end: {name}": p for name, p in ends.items()},
    method.sizes,
    {f"π at the end: {name}": best for name in ends},
    columns=2,
);

# %%
for name, trained in tried.items():
    last = [torch.tensor(r["probabilities"][-1]).argmax(1) for r in trained]
    different = [len(set(m.tolist())) for m in last]
    print(
        f"{name:13} expected loss {np.mean([r['loss'][-1] for r in trained]):.2f} (best "
        f"{floor:.2f}),",
        f"different sizes chosen by the {K} anchors, in 3 runs: {different}",
    )

# %% [markdown]
# Rings mark each anchor's best. A network that is stuck shows a single bright column: one size for all anchors. It first learns what
# helps all of them at once, "this size is good on average", and makes it more and more certain. Once its softmax is saturated, every
# other size has $π ≈ 0$, and with it a gradient of about 0: the anchors never come to differ. Does it happen here? Read it off the
# numbers: 1 or 2 different sizes, and an expected loss far above the best, is stuck. Where all four rows are alike, this scene does
# not need the two helpers. They cost nothing, and are kept for the scenes that do.
#
# ## 6. Against the known box
#
# Each anchor takes its most probable proposal, and the edit with the lowest loss is the final one. How well does its box overlap with the true
# one? Intersection over union (IoU), mean and range of the runs.

# %%
from lr_helpers.boxes import iou


def final(run: dict) -> tuple[int, int]:
    """(anchor, proposal) of the final edit."""
    chosen = torch.tensor(run["probabilities"][-1]).argmax(dim=1)
    k = int(table[rows, chosen].argmin())
    return k, int(chosen[k])


# %%
overlap = iou(boxes, known)
for name, trained in learned.items():
    found = [float(overlap[final(r)]) for r in trained]
    print(f"{name:26} IoU {np.mean(found):.2f}   [{min(found):.2f} … {max(found):.2f}]")
for name, value in {
    "a random proposal": overlap.mean(),
    "lowest loss in the table": overlap.flatten()[table.argmin()],
    "best box in the table": overlap.max(),
}.items():
    print(f"{name:26} IoU {value:.2f}")

# %%
ends = {name: final(trained[0]) for name, trained in learned.items()}
plots.show_pictures(
    [picture, *(candidates.edits[end] for end in ends.values())],
    ["known box", *ends],
    columns=5,
    boxes=[known.tolist(), *(boxes[end].tolist() for end in ends.values())],
    colours=[plots.BLACK, *[plots.ORANGE] * len(ends)],
    side=1.9,
);

# %% [markdown]
# **One scene proves nothing.** Here even `none` may be lucky: each of its nine anchors tries one size by chance, and the best of nine edits
# is picked afterwards. Whether learning finds better regions than that is a question for many scenes, and notebook 08 asks it. And
# mind what even a perfect estimator can do: it finds the lowest *loss*. Whether that is the right *region* depends on the loss.
#
# ## What we learned
#
# * In the official code no gradient reaches the network: corners are rounded, the mask is cut out, the edit comes back in 8 bits, and
#   `loss.requires_grad_(True)` silences the error that would have told.
# * To print the norm of each weight's gradient takes two lines. `None` is not 0.
# * A choice has no derivative, but the expected loss has: $π (L - \text{mean}) / K$.
# * `expectation` is exact, and pays for the table once. Reinforce is right on average and pays for what it draws; the leave-one-out
#   baseline takes most of its noise away.
# * Straight-through through a pasted mask feels only what is in the picture. Of what a larger box would show, it knows nothing,
#   unless the loss has terms that need no edit.
# * A saturated softmax stops learning: keep the probabilities undecided at first, and show the network what differs.
#
# ## More to try
#
# * `reinforce` with 2, 8 and 16 repeats: is it better to draw more often for one step, or to make more steps?
# * Straight-through at temperatures 0.3 and 3. Does one of them point the right way?
# * Give `none` the same number of edits as `expectation`, and let it keep the best it has ever seen. What does learning add?
# * One network for *all* pictures: that is [notebook 07](07_learning_across_pictures.ipynb).
#
# **Next:** [06 The whole method](06_the_whole_method.ipynb) puts it all together.
