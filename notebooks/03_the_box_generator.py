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
# # 03 · The box generator
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/learnable-regions/blob/main/notebooks/03_the_box_generator.ipynb)
#
# **You will** build the part that decides *how large* the edited region is: squares of growing size around an
# anchor point, the features inside each of them, a small network that scores them, and a way to draw one at
# random through which gradients still flow. At the end you train all of it on a goal whose answer is known.
#
# | | |
# |---|---|
# | time | about 1 minute on a laptop without GPU (profile `tiny`), 95 with the seven exercises |
# | memory | about 1 GB |
# | paper | section 3.2, equations 1 and 2 of [Text-Driven Image Editing via Learnable Regions](https://arxiv.org/abs/2311.16432) |
# | before | [01 The inpainting model](01_the_inpainting_model.ipynb), [02 Where could we edit?](02_where_could_we_edit.ipynb) |

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
prompt = "an apple"
seed = 42

# %% tags=["costs"]
from lr_helpers.costs import course

course.say("03", profile)

# %%
import torch
from torch.nn import functional as F

from lr_helpers import METHODS, checks, load_models, plots, regions

models = load_models(profile)
print(models.profile.title)

# %% [markdown]
# ## What goes in
#
# A picture, the features that a ViT sees in it, and the anchor points of notebook 02: the centres of the most
# attended patches, in pixels. The ViT cuts the picture into a grid of patches and describes each by a vector, the
# patch's *token*.

# %% tags=["nbval-check-output"]
from lr_helpers.anchors import anchor_centres, top_anchors
from lr_helpers.course.samples import sample, square

size, method = models.profile.size, METHODS["learned"].but(anchors=9)
# an emoji scene, or a photograph for models that know the world
picture, known = square(sample(models.profile), size)
features, attention = models.backbone.encode_image(picture)
rows, columns = attention.shape[1:]
centres = anchor_centres(top_anchors(attention, method.anchors), (rows, columns), size)
print("picture", tuple(picture.shape), " features", tuple(features.shape), " anchors (x, y)",
      centres[:3].tolist(), "…")

# %% [markdown]
# ## What will come out
#
# The whole generator for one anchor, with the functions of the package: squares around the anchor, a weight for each,
# one of them drawn as mask, and the inpainting model's edit inside it. Nothing has been learned yet, so the size is
# a pure guess. By the end of the notebook you will have written each of these `regions` functions yourself.

# %%
from lr_helpers.inpainting import composite

some_boxes = regions.proposals(centres[:1], method.sizes, size)[0]
noise = torch.rand(len(some_boxes), generator=torch.Generator().manual_seed(10))
weights = regions.gumbel_softmax(torch.zeros(len(some_boxes)), 1.0, noise)
mask = regions.region_mask(regions.straight_through(weights), some_boxes, size)
frame = models.editor.inpaint(picture, mask[None], prompt, seed=seed)[0]
plots.show_generator(
    picture, some_boxes, weights, {"mask": mask, f"“{prompt}”": composite(frame, picture, mask)}
);

# %% [markdown]
# ## 1. Proposals
#
# An anchor says where, not how large. So the paper puts $M$ squares of growing size around it, the **proposals**, and
# learns to choose among them. Their sides are given as shares of the picture's side: the same setting then means
# the same on any picture. (The official code counts half-sides of 4, 6 … 14 tokens on a grid of 32 × 32: the shares
# 0.25, 0.375 … 0.875. We use seven from 0.25 to 0.75.)
#
# **Exercise 1** ★☆☆ · 5 minutes. Make the squares. A box is (x0, y0, x1, y1) in pixels: x to the right, y down, x1 and
# y1 just outside. What leaves the picture is cut off, so there the box is smaller and the anchor no longer in its
# middle.

# %% tags=["solution"]
def proposals(centres: torch.Tensor, sizes: tuple[float, ...], size: int) -> torch.Tensor:
    """Squares around each centre, cut at the picture's border.

    centres: (K, 2) floats, each (x, y) in pixels.
    sizes: M sides of squares, as shares of the picture's side, e.g. 0.25.
    size: side of the picture in pixels.
    Returns (K, M, 4) whole numbers (int64), each (x0, y0, x1, y1): corners rounded to the nearest
    pixel, then clamped to 0 … size.
    """
    half = torch.tensor(sizes)[None, :, None] * size / 2
    low, high = centres[:, None] - half, centres[:, None] + half
    return torch.cat([low, high], dim=-1).round().clamp(0, size).long()


# %% tags=["nbval-check-output"]
checks.proposals(proposals)

# %% [markdown]
# The proposals of the strongest anchor, and of a point near the top left corner, dark for small and bright for large.

# %%
corner = torch.tensor([[0.12 * size, 0.2 * size]])
boxes, at_corner = proposals(centres, method.sizes, size), proposals(corner, method.sizes, size)
plots.show_nested(
    picture,
    [boxes[0], at_corner[0]],
    ["proposals around anchor 0", "around a point near the corner"],
);

# %% [markdown]
# Near the border squares become rectangles, and the clamped area grows more slowly than the setting says. (The
# official code avoids such anchors while it has enough others.)

# %% tags=["nbval-check-output"]
from lr_helpers.boxes import area

print("side²       ", [f"{side ** 2:.2f}" for side in method.sizes])
print("at anchor 0 ", [f"{a:.2f}" for a in (area(boxes[0]) / size ** 2).tolist()])
print("at corner   ", [f"{a:.2f}" for a in (area(at_corner[0]) / size ** 2).tolist()])

# %% [markdown]
# ## 2. RoIAlign: the features of a box
#
# A network that scores boxes needs an input of the same shape for every box. **RoIAlign** makes it: it divides the box
# into $l × l$ bins and reads the features once or several times in each, between the tokens if need be. We look at
# features through their three main directions (principal components), drawn as red, green and blue.
#
# **Exercise 2** ★★☆ · 10 minutes. First: *where* does it read? Take one point a bin, in its middle. Two
# scales meet here. The box is in pixels, the points shall be in tokens, where 0 is the **middle** of the first token
# and 1 that of the second. The picture's border then lies at −0.5, half a token before the first middle.

# %% tags=["solution"]
def sample_points(box: torch.Tensor, scale: float, side: int) -> torch.Tensor:
    """The middles of side × side bins of a box, in tokens.

    box: (4,) as (x0, y0, x1, y1) in pixels.
    scale: tokens per pixel, e.g. 0.25.
    side: number of bins along each axis.
    Returns (side, side, 2) floats: [i, j] is the point (x, y) of the bin in row i and column j,
    where 0 is the middle of the first token: pixel position p becomes p · scale − 0.5.
    """
    x0, y0, x1, y1 = box * scale - 0.5
    steps = (torch.arange(side) + 0.5) / side
    y, x = torch.meshgrid(y0 + steps * (y1 - y0), x0 + steps * (x1 - x0), indexing="ij")
    return torch.stack([x, y], dim=-1)


# %% tags=["nbval-check-output"]
checks.sample_points(sample_points)

# %%
colours = plots.principal_colours(features)
scale, box = columns / size, boxes[0, 2]
points = sample_points(box, scale, method.pool)
plots.show_sampling(picture, colours(features), box.tolist(), points);

# %% [markdown]
# Most points fall between tokens. There RoIAlign mixes the four tokens around the point; the closer one is, the more it
# counts: **bilinear** interpolation. With $a$ and $b$ the distances from the upper left one, to the right and down,
# $$f = (1-a)(1-b)\,f_{00} + a(1-b)\,f_{01} + (1-a)b\,f_{10} + ab\,f_{11}.$$
# ($f_{01}$: row 0, column 1, the upper right one.)
#
# **Exercise 3** ★★★ · 20 minutes. Read the features at the points. A point beyond the outer middles takes the value at the
# border, so clamp first.

# %% tags=["solution"]
def pool_box(features: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """Features at points between the tokens, by bilinear interpolation.

    features: (d, h, w), indexed [channel, row, column].
    points: (l, l, 2) floats, each (x, y) in tokens; 0 is the middle of the first token, and points
    outside of 0 … w − 1 (x) or 0 … h − 1 (y) are clamped to it.
    Returns (d, l, l).
    """
    _, h, w = features.shape
    x, y = points[..., 0].clamp(0, w - 1), points[..., 1].clamp(0, h - 1)
    left, top = x.floor().long(), y.floor().long()
    right, bottom = (left + 1).clamp(max=w - 1), (top + 1).clamp(max=h - 1)
    a, b = x - left, y - top
    upper = (1 - a) * features[:, top, left] + a * features[:, top, right]
    lower = (1 - a) * features[:, bottom, left] + a * features[:, bottom, right]
    return (1 - b) * upper + b * lower


# %% tags=["nbval-check-output"]
checks.pool_box(pool_box)

# %% [markdown]
# You have written RoIAlign. Let torchvision judge: with one sample a bin it gives the same numbers. The package
# takes the mean of 2 × 2 samples a bin, which hardly differs here.

# %% tags=["nbval-check-output"]
from torchvision.ops import roi_align

mine = pool_box(features, points)
theirs = {
    n: roi_align(
        features[None], [box[None].float()], method.pool, scale, sampling_ratio=n, aligned=True
    )[0]
    for n in (1, 2)
}
print("mine", tuple(mine.shape), " the same as torchvision's:",
      torch.allclose(mine, theirs[1], atol=1e-4))
print(
    f"cosine to 2 × 2 samples a bin: "
    f"{F.cosine_similarity(mine.flatten(), theirs[2].flatten(), dim=0):.2f}"
)

# %% [markdown]
# Every proposal becomes a small picture of the same shape. Above the boxes as the eye sees them, below what the
# network gets: a small box close up, a large one from afar.

# %%
every = [pool_box(features, sample_points(b, scale, method.pool)) for b in boxes[0]]
crops = [picture[:, y0:y1, x0:x1] for x0, y0, x1, y1 in boxes[0].tolist()]
plots.show_pictures(
    crops + [colours(p) for p in every],
    [f"side {s:.3g}" for s in method.sizes] + ["pooled"] * len(every),
    columns=len(every),
    side=1.5,
);

# %% [markdown]
# The $M$ results of an anchor are put one after the other along the channels, so that one network sees all
# sizes at once and can compare them: channels $m·d$ to $(m+1)·d$ belong to proposal $m$. From here on
# `pool_proposals` of the package does this for all anchors.

# %% tags=["nbval-check-output"]
pooled = regions.pool_proposals(features, boxes, size, method.pool)
d = len(features)
print("one proposal", tuple(every[0].shape), " one anchor", tuple(torch.cat(every).shape),
      " all anchors", tuple(pooled.shape))
close = [
    F.cosine_similarity(pooled[0, m * d : (m + 1) * d].flatten(), every[m].flatten(), dim=0)
    for m in range(len(every))
]
print("proposal m is found in its own channels:", all(c > 0.95 for c in close))

# %% [markdown]
# ## What the official code pools
#
# Its boxes are in tokens already, yet it calls RoIAlign with `spatial_scale=0.125`, as if they were in pixels.
# So each box is scaled once more, towards the top left corner. We need not believe that: RoIAlign is linear, so the
# gradient of its sum tells how often each token is read.

# %%
def tokens_read(boxes: torch.Tensor, scale: float, aligned: bool) -> torch.Tensor:
    blank = torch.zeros(1, 1, rows, columns, requires_grad=True)
    roi_align(blank, [boxes.float()], method.pool, scale, aligned=aligned).sum().backward()
    return blank.grad[0, 0]


plots.show_reads(
    picture,
    [tokens_read(boxes[0], scale, True), tokens_read(boxes[0] * scale, 0.125, False)],
    ["read as it should be", "read by the official call"],
    boxes[0],
);

# %% [markdown]
# Dashed: the proposals that were meant. Bright: read often. Over all anchors and sizes, how much of what is read lies
# inside the box that was meant, and how different do the anchors look to the network? (Our own share is below 1
# because a point near the border of its box also mixes in the token beyond it.)

# %% tags=["nbval-check-output"]
def share_inside(box: torch.Tensor, read: torch.Tensor) -> float:
    inside = regions.region_mask(torch.ones(1), box[None], size)
    return float((F.adaptive_avg_pool2d(inside, (rows, columns))[0] * read).sum() / read.sum())


official = roi_align(features[None], [(boxes * scale).reshape(-1, 4)], method.pool,
                     spatial_scale=0.125)
for name, factor, extra, aligned, seen in (
    ("right   ", 1, scale, True, pooled),
    ("official", scale, 0.125, False, official.reshape(pooled.shape)),
):
    inside = [
        share_inside(b, tokens_read(b[None] * factor, extra, aligned)) for b in boxes.reshape(-1, 4)
    ]
    print(
        f"{name}  inside its box {sum(inside) / len(inside):.2f}   spread over the anchors "
        f"{seen.std(0).mean() / seen.std():.2f}"
    )

# %% [markdown]
# Through the official call all anchors look nearly alike, so its network could not tell them apart, even if a gradient
# reached it (notebook 05: none does).
#
# ## 3. The region generation network
#
# **Exercise 4** ★★☆ · 15 minutes. The network of equation 1: two convolutions and two linear layers with ReLU between,
# $\text{pooled} → π \in \mathbb{R}^M$. The numbers $π$ are *logits*: any real numbers, the higher the better. Use 1×1
# convolutions (they mix the channels, that is, features and sizes) and `hidden`, then `hidden // 2` channels; then
# flatten, so that the linear layers see where in the box something is.

# %% tags=["solution"]
class RegionNetwork(torch.nn.Module):
    """Scores the M proposals of each anchor.

    proposals: M; channels: d, features of a token (so M · d channels come in); pool: l, side of the
    pooled features; hidden: width.
    Layers: 1×1 convolution to `hidden` channels, ReLU, 1×1 convolution to `hidden // 2`, ReLU,
    flatten, linear to `hidden`, ReLU, linear to M.
    """

    def __init__(self, proposals: int, channels: int, pool: int, hidden: int = 32):
        super().__init__()
        self.mix = torch.nn.Conv2d(proposals * channels, hidden, 1)
        self.narrow = torch.nn.Conv2d(hidden, hidden // 2, 1)
        self.look = torch.nn.Linear(hidden // 2 * pool * pool, hidden)
        self.score = torch.nn.Linear(hidden, proposals)

    def forward(self, pooled: torch.Tensor) -> torch.Tensor:
        """(K, M·d, l, l) pooled features → (K, M) logits, each anchor by itself; no softmax."""
        x = self.narrow(self.mix(pooled).relu()).relu()
        return self.score(self.look(x.flatten(1)).relu())


# %% tags=["nbval-check-output"]
checks.region_network(RegionNetwork)

# %% [markdown]
# A *forward hook* is called whenever a layer has run. It lets us see the shapes on the way without touching the network.

# %% tags=["nbval-check-output"]
def report(layer: torch.nn.Module, inputs: tuple, output: torch.Tensor) -> None:
    weights = sum(p.numel() for p in layer.parameters())
    print(
        f"{type(layer).__name__:8} {tuple(inputs[0].shape)!s:18} → {tuple(output.shape)!s:17} "
        f"{weights:7,} weights"
    )


torch.manual_seed(seed)
network = RegionNetwork(len(method.sizes), d, method.pool)
hooks = [
    layer.register_forward_hook(report) for layer in network.modules() if not list(layer.children())
]
logits = network(pooled)
for hook in hooks:
    hook.remove()

# %% [markdown]
# Softmax over the $M$ proposals (equation 2) turns the logits into probabilities, for each anchor by itself. Before
# any training they are almost even.

# %%
plots.show_table(
    logits.detach().softmax(dim=1), method.sizes, "softmax(π) of the untrained network"
);

# %% [markdown]
# ### A word on the scale of the inputs
#
# Features have a large part that all anchors share. It says nothing about where they differ, and the network first has
# to learn to overlook it. `standardise` takes each feature's mean over the anchors away and divides by its deviation.
# To see what that is worth, let the network learn by heart an arbitrary size for each anchor, three times from new
# weights:

# %%
def learn_by_heart(inputs: torch.Tensor, seed: int, steps: int = 60) -> list[float]:
    torch.manual_seed(seed)
    network, losses = RegionNetwork(len(method.sizes), d, method.pool), []
    optimiser = torch.optim.Adam(network.parameters(), lr=method.lr)
    for _ in range(steps):
        loss = F.cross_entropy(network(inputs), torch.arange(len(inputs)) % len(method.sizes))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses

# %%
ready = regions.standardise(pooled)
plots.show_curves(
    {
        name: [learn_by_heart(x, s) for s in range(3)]
        for name, x in (("raw", pooled), ("standardised", ready))
    },
    "update",
    "cross-entropy",
);

# %% [markdown]
# ## 4. Drawing a size by chance
#
# In training the generator must *try* sizes: mostly those it believes in, sometimes others. So it draws a
# proposal with the probabilities $\text{softmax}(π)$. The **Gumbel-max trick** draws it without ever computing them: add
# noise $g_m = -\log(-\log u_m)$, $u_m$ uniform in 0..1, to each logit and take the largest. Let us count, with logits
# made by hand that like middle sizes.

# %%
from lr_helpers.intervals import rate

sizes, draws = torch.tensor(method.sizes), 4000
liked = -(((sizes - 0.45) / 0.22) ** 2)
uniform = torch.rand(draws, len(sizes), generator=torch.Generator().manual_seed(seed))
chosen = (liked - (-uniform.log()).log()).argmax(dim=1)
found = [rate(int((chosen == m).sum()), draws) for m in range(len(sizes))]
names = [f"{s:.3g}" for s in method.sizes]
plots.show_bars(names, {"softmax(π)": liked.softmax(0).tolist(), f"drawn, {draws} times": found},
                "side of the box", "share");

# %% [markdown]
# The bars carry 95 % intervals: with so many of them, about one run in three has a miss somewhere, and that is as it
# should be.
#
# **Exercise 5** ★★☆ · 10 minutes. *Take the largest* has no gradient. The **Gumbel-softmax** replaces it by a
# softmax at temperature $τ$:
# $$y_m = \frac{\exp((π_m + g_m)/τ)}{\sum_j \exp((π_j + g_j)/τ)}.$$
# The random numbers are an argument, so that the same call always gives the same sample.

# %% tags=["solution"]
def gumbel_softmax(logits: torch.Tensor, temperature: float, uniform: torch.Tensor) -> torch.Tensor:
    """A soft sample of the categorical distribution with these logits.

    logits: (..., M) any real numbers, large ones too.
    temperature: above 0; low makes samples hard, high makes them even.
    uniform: (..., M) random numbers between 0 and 1 (without 0 and 1, but perhaps near them); the
    Gumbel noise is −log(−log(uniform)).
    Returns (..., M): not negative, sum 1 over the last axis; gradients flow back to the logits.
    """
    gumbel = -(-uniform.log()).log()
    return ((logits + gumbel) / temperature).softmax(dim=-1)


# %% tags=["nbval-check-output"]
checks.gumbel_softmax(gumbel_softmax)

# %% [markdown]
# (The package's version is also safe when a random number is exactly 0 or 1.) Now the temperature. Above, one row
# is one sample, dark 0 and bright 1. Below, the mean size $\sum_m y_m · \text{side}_m$ that each of the samples stands for.

# %%
samples = {t: gumbel_softmax(liked, t, uniform) for t in (0.1, 0.5, 1.0, 3.0, 10.0)}
plots.show_temperatures(samples, method.sizes);

# %% [markdown]
# Cold samples are one size or another, as often as $\text{softmax}(π)$ says. Hot ones are a little of everything: always the
# mean. But the *largest* entry stays where it was, at any temperature. So the temperature does not change how often
# a size is chosen; it changes how soft the sample is from which the gradient comes.

# %% tags=["nbval-check-output"]
for t, soft in samples.items():
    print(f"temperature {t:4}: largest weight {soft.amax(1).mean():.2f} on average,",
          "same choices:", torch.equal(soft.argmax(1), chosen))

# %% [markdown]
# ### Hard forward, soft backward
#
# The editor needs one box, not a mixture (MaskGIT, the paper's second editor, knows no soft masks at all). The
# **straight-through** estimator takes both: the forward pass sees exactly 0 and 1, the backward pass pretends
# that the soft sample had been there.
#
# **Exercise 6** ★★☆ · 10 minutes. Write it. You need something whose *value* is 0 but whose *gradient* is that of `soft`.

# %% tags=["solution"]
def straight_through(soft: torch.Tensor) -> torch.Tensor:
    """One-hot forward, the gradient of `soft` backward.

    soft: (..., M) weights.
    Returns (..., M): 1 at the largest of the last axis (the first of equally large ones), else 0;
    to a gradient it is as if `soft` had been returned.
    """
    hard = F.one_hot(soft.argmax(dim=-1), soft.shape[-1]).to(soft)
    return hard + (soft - soft.detach())


# %% tags=["nbval-check-output"]
checks.straight_through(straight_through)

# %% [markdown]
# Take a toy loss $\sum_m y_m L_m$ that would like boxes of side 0.4, and send one sample through three ways. What goes
# forward, and what comes back to the logits? A negative gradient says: more of this size.

# %% tags=["nbval-check-output"]
loss_of_size = (sizes - 0.4).square()
ways = {
    "soft": lambda soft: soft,
    "straight-through": straight_through,
    "argmax": lambda soft: F.one_hot(soft.argmax(-1), len(sizes)),
}
back = {}
for name, way in ways.items():
    leaf = liked.clone().requires_grad_()
    y = way(gumbel_softmax(leaf, 1.0, uniform[0]))
    print(
        f"{name:17} forward {[round(v, 2) for v in y.tolist()]}  has a gradient: {y.requires_grad}"
    )
    if y.requires_grad:
        (y * loss_of_size).sum().backward()
        back[name] = leaf.grad

# %% [markdown]
# For this linear loss the two that have a gradient have the same one; for others they differ by where the loss is
# evaluated. Is it the *right* one? The exact gradient of the expected loss $\sum_m \text{softmax}(π)_m L_m$ can be computed here, so
# compare it with the mean over all draws.

# %%
leaf = liked.clone().requires_grad_()
(leaf.softmax(0) * loss_of_size).sum().backward()
gradients = {"exact": leaf.grad}
for t in (0.3, 1.0, 3.0):
    each = liked.expand(draws, -1).clone().requires_grad_()
    (straight_through(gumbel_softmax(each, t, uniform)) * loss_of_size).sum().backward()
    gradients[f"temperature {t:g}"] = each.grad.mean(0)
    print(f"temperature {t:g}: deviation of a single draw {each.grad.std(0).mean():.3f}")
plots.show_bars(names, gradients, "side of the box", "mean gradient of its logit");

# %% [markdown]
# The trade of the temperature: cold gradients point the right way on average but a single one is noise; hot ones are steady,
# yet biased. Notebook 05 asks how much that costs and what else one can do.
#
# ## 5. From weights to a mask
#
# **Exercise 7** ★★☆ · 10 minutes. The editor takes a mask. Add up the proposals' masks, each times its weight:
# $\text{mask} = \sum_m y_m · \text{mask}_m$. Soft weights give a soft mask, one-hot weights the mask of one box, and the
# derivative with respect to a weight is the mask of its box. Compare pixel positions with the corners instead of
# assigning to slices, and no loop is needed.

# %% tags=["solution"]
def region_mask(weights: torch.Tensor, boxes: torch.Tensor, size: int) -> torch.Tensor:
    """The weighted sum of the boxes' masks.

    weights: (..., M) floats, with any number of axes before M.
    boxes: (..., M, 4), each (x0, y0, x1, y1) in pixels, x1 and y1 just outside.
    size: side of the square mask in pixels.
    Returns (..., 1, size, size), rows first; gradients flow back to the weights.
    """
    at = torch.arange(size)
    x0, y0, x1, y1 = (boxes[..., i, None] for i in range(4))
    across, down = (x0 <= at) & (at < x1), (y0 <= at) & (at < y1)
    masks = (down[..., :, None] & across[..., None, :]).to(weights)
    return (weights[..., None, None] * masks).sum(dim=-3).unsqueeze(-3)


# %% tags=["nbval-check-output"]
checks.region_mask(region_mask)

# %% [markdown]
# One draw of a large box for anchor 0, soft at three temperatures and hard. The inpainting model edits in the drawn box;
# the edit is laid over the picture by $\text{mask} · \text{edit} + (1-\text{mask}) · \text{picture}$, which is where the
# gradient of the pixels reaches the mask.

# %%
temperatures, large = (0.3, 1.0, 3.0), int((chosen == len(sizes) - 2).nonzero()[0])
softs = [gumbel_softmax(liked, t, uniform[large]) for t in temperatures]
masks = torch.stack([region_mask(w, boxes[0], size) for w in (*softs, straight_through(softs[0]))])
frame = models.editor.inpaint(picture, masks[-1:], prompt, seed=seed)[0]
titles = [f"soft, temperature {t:g}" for t in temperatures] + ["hard"]
plots.show_pictures(
    [m.expand(3, -1, -1) for m in masks] + [composite(frame, picture, m) for m in masks],
    [*titles, *["its composite"] * 4], columns=4, side=2.2, boxes=[[0, 0, size, size]] * 8,
    colours=["gray"] * 8
);

# %% [markdown]
# A soft mask gives a ghost: new object and old picture shine through each other. CLIP would judge a picture that nobody
# will ever get. That is why the forward pass is hard.
#
# ## 6. All of it learns
#
# Now the whole chain with a goal whose answer we know: the mask shall cover the object. (In the real method the loss
# comes from CLIP and the edits; here we only test that the generator can learn at all.) In the emoji world the true box
# is in the recipe; on a photograph it was drawn by hand. How well a box covers it is measured by **IoU**, intersection
# over union: the area that both share, divided by the area of both together. 1 is the very box, 0 a miss. Written with
# the mask's pixels it has a gradient, so the loss is 1 − IoU.

# %%
from lr_helpers.boxes import box_mask, iou

true_box = torch.tensor(known)
truth, overlap = box_mask(true_box, size, size), iou(boxes, true_box)
near = overlap.amax(dim=1) > 0.2  # anchors whose squares reach the object
optimiser = torch.optim.Adam(network.parameters(), lr=method.lr)
generator, before = torch.Generator().manual_seed(seed), network(ready).argmax(dim=1)
print(f"{int(near.sum())} of {len(near)} anchors have a square that reaches the object")

# %%
drawn, likeliest = [], []
for _ in range(100):
    logits = network(ready)
    soft = gumbel_softmax(logits, 1.0, torch.rand(logits.shape, generator=generator))
    mask = region_mask(straight_through(soft), boxes, size)
    both = (mask * truth).sum(dim=(1, 2, 3))
    loss = 1 - (both / (mask.sum(dim=(1, 2, 3)) + truth.sum() - both)).mean()
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    for found, values in ((drawn, soft), (likeliest, logits)):
        found.append(overlap.gather(1, values.argmax(1, keepdim=True))[near].mean().item())

# %%
top = overlap.amax(dim=1)[near].mean().item()
plots.show_curves({"drawn boxes": [drawn], "most probable boxes": [likeliest],
                   "best possible": [[top] * len(drawn)]},
                  "update", "IoU with the true box, mean over these anchors");

# %% [markdown]
# The drawn boxes stay restless, because chance keeps drawing. What counts is the size that each anchor believes in. (An anchor
# whose squares all miss the object learns nothing of its own: each of them has the loss 1.)

# %% tags=["nbval-check-output"]
after, best = network(ready).argmax(dim=1), overlap.argmax(dim=1)
for name, choice in (("untrained", before), ("trained", after), ("best possible", best)):
    print(f"{name:14} IoU with the true box {overlap.gather(1, choice[:, None])[near].mean():.1f}")

# %%
spots = torch.arange(len(boxes))
plots.show_nested(picture, [boxes[spots, before], boxes[spots, after], true_box[None]],
                  ["before: one box an anchor", "after training", "the true box"]);

# %% [markdown]
# Each anchor can only choose among squares around itself, so even the best choice is not perfect: notebook 02's places
# and this notebook's sizes limit what learning can reach.
#
# ## Explore
#
# Choose an anchor, one of its proposals to look into, a temperature, and a roll of the dice (its number is a seed). The
# weights use the logits of the network that you have just trained; the thick box is the one that a hard choice would
# take.

# %%
from ipywidgets import FloatSlider, IntSlider

from lr_helpers.course.widgets import explore


def draw(anchor: int, proposal: int, temperature: float, roll: int):
    dice = torch.rand(len(sizes), generator=torch.Generator().manual_seed(roll))
    soft = gumbel_softmax(network(ready)[anchor].detach(), temperature, dice)
    inside = pool_box(features, sample_points(boxes[anchor, proposal], scale, method.pool))
    panels = {
        f"proposal {proposal}, pooled": colours(inside),
        "soft mask": region_mask(soft, boxes[anchor], size),
    }
    return plots.show_generator(picture, boxes[anchor], soft, panels)


explore(draw, anchor=IntSlider(0, 0, len(boxes) - 1), proposal=IntSlider(2, 0, len(sizes) - 1),
        temperature=FloatSlider(value=1.0, min=0.1, max=10, step=0.1), roll=IntSlider(1, 0, 50))

# %% [markdown]
# ## What we learned
#
# * Proposals turn *where* into *where and how large*; clamping makes them smaller and less square at the border.
# * RoIAlign reads the features at points inside a box, between the tokens. Its scale must be applied once: the official
#   code applies one too many, and reads another place.
# * The region generation network maps an anchor's $M$ pooled boxes to $M$ logits; it learns faster from
#   what distinguishes the anchors.
# * Gumbel noise plus argmax draws from softmax(π). The temperature changes the softness of a sample, not the choice.
# * Straight-through: hard forward, soft backward. The gradient it gives is biased when hot and noisy when cold.
# * A mask that is a weighted sum of boxes carries the gradient from pixels back to the logits.
#
# ## More to try
#
# * Add boxes that are twice as wide as high to `proposals`. What has to change in the network, and what not?
# * In section 6 send the soft weights to the mask instead of the hard ones. Which sizes win, and why?
# * Turn the temperature of section 6 down while it learns. Does the end get better?
#
# **Next:** [04 The losses](04_the_losses.ipynb) asks what makes an edit good, when nobody tells us the true box.
