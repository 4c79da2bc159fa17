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
# # 02 · Where could we edit?
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/learnable-regions/blob/main/notebooks/02_where_could_we_edit.ipynb)
#
# **You will** look into a vision transformer that was never told what an object is, find the patches it
# attends to, and turn them into *anchor points*: the places where the method will try an edit. Then you will
# measure, on many scenes whose objects are known, how often an anchor stands on an object, and what makes it
# miss.
#
# | | |
# |---|---|
# | time | about 1 minute to run on a laptop without GPU (profile `tiny`), 75 minutes with the exercises |
# | memory | about 1.5 GB |
# | paper | section 3.1 of [Text-Driven Image Editing via Learnable Regions](https://arxiv.org/abs/2311.16432); [DINO](https://arxiv.org/abs/2104.14294) |
# | before | nothing; [01 The inpainting model](01_the_inpainting_model.ipynb) explains the edits at the end |

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
count = 9     # anchor points K
scenes = 200  # how many held-out scenes the measurements take

# %% tags=["costs"]
from lr_helpers.costs import course

course.say("02", profile)

# %%
import ipywidgets
import torch
from PIL import Image
from torch.nn import functional as F

import lr_helpers.anchors as packaged
from lr_helpers import checks, load_models, plots
from lr_helpers.files.pictures import to_tensor
from lr_helpers.course.samples import sample, square
from lr_helpers.course.widgets import explore
from lr_helpers.intervals import rate
from tiny_world import SIZE
from tiny_world.scenes import scene

models = load_models(profile)
size = models.profile.size
print(models.profile.title)

# %% [markdown]
# Scenes of the emoji world come with the boxes of their objects. The method never sees these boxes; we need
# them to judge the anchors.

# %% tags=["nbval-check-output"]
def load(recipe) -> tuple[torch.Tensor, torch.Tensor]:
    """A recipe → its picture (3, size, size) in 0..1 and its objects' boxes (N, 4) in pixels."""
    boxes = torch.tensor([thing.box for thing in recipe.objects]) * size // SIZE
    return to_tensor(Image.fromarray(recipe.render()), size), boxes


recipe = scene(2102, count=3)
picture, boxes = load(recipe)
print(recipe.caption(), boxes.tolist())

# %% [markdown]
# This is what we build. Bright patches get much attention; the rings are the most attended ones, for every
# *head* of the transformer and for the mean of the heads. The last panel is what the method uses.

# %%
if models.words is None:  # models that know the world look at a photograph
    picture, _ = square(sample(models.profile), size)
attention = models.backbone.encode_image(picture)[1]
plots.show_heads(
    picture, attention, [packaged.top_anchors(a, count) for a in [*attention[:, None], attention]]
);

# %% [markdown]
# ## 1. What a vision transformer sees
#
# A ViT cuts the picture into square patches and makes one vector, a *token*, of each. A further token that
# belongs to no patch stands before them: `[CLS]`. Layer by layer every token looks at all the others and
# takes over what it finds useful. In the end `[CLS]` holds a summary of the whole picture.
#
# **DINO** trains this without labels: a student sees one crop of a picture, a teacher another, and the
# student has to predict the teacher's summary. What two crops of one picture share is mostly its object,
# so `[CLS]` learns to look at objects. (The miniature of profile `tiny` was trained the same way on emoji
# scenes. Its crops were cut around objects, much as the photographs of ImageNet are centred on theirs; so it was
# helped to find them, though never told what they are.)

# %% tags=["nbval-check-output"]
vit = models.backbone.vit
patch, side = vit.config.patch_size, models.backbone.size
grid = (side // patch, side // patch)
print(f"picture {side}×{side}, patches of {patch}×{patch} → {grid[0]}×{grid[1]} patches")
print(f"{1 + grid[0] * grid[1]} tokens of {vit.config.hidden_size} numbers")
print(f"{vit.config.num_hidden_layers} layers of {vit.config.num_attention_heads} heads")

# %%
def cut(picture: torch.Tensor, gap: int) -> torch.Tensor:
    """The picture, at the size the ViT sees, with a white gap around every patch."""
    step, picture = patch, F.interpolate(picture[None], size=(side, side))[0]
    patches = picture.unfold(1, step, step).unfold(2, step, step)  # (3, h, w, step, step)
    patches = F.pad(patches, (0, gap, 0, gap), value=1.0)
    return patches.permute(0, 1, 3, 2, 4).reshape(3, grid[0] * (step + gap), grid[1] * (step + gap))


patches = cut(picture, max(1, side // 64))
plots.show_pictures([picture, patches], ["the picture", "what becomes of it: patches"], side=3.2);

# %% [markdown]
# ## 2. Self-attention
#
# How much does token $i$ take from token $j$? Each token has a query $q_i$ and a key $k_j$ of length $d$, and
#
# $$A_{ij} = \mathrm{softmax}_j\left(\frac{q_i \cdot k_j}{\sqrt d}\right)$$
#
# Every head has queries and keys of its own, so every head may look for something else. We take $A$ of the
# **last layer**. Before the picture goes in, its channels are normalised as in training. (The official
# code leaves that out, so there DINO sees paler pictures than it knows.)

# %% tags=["nbval-check-output"]
with torch.no_grad():
    pixels = F.interpolate(
        picture[None].to(vit.device), (side, side), mode="bicubic", antialias=True
    ).clamp(0, 1)
    pixels = (pixels - models.backbone.mean) / models.backbone.std
    seen = vit(pixels, output_attentions=True, interpolate_pos_encoding=True)
raw = seen.attentions[-1].float().cpu()
print("A of the last layer (picture, heads, queries, keys):", tuple(raw.shape))
print(f"each query's attention sums to 1: {raw.sum(-1).min():.3f} … {raw.sum(-1).max():.3f}")

# %% [markdown]
# **Exercise 1** ★☆☆ · 5 minutes. What we want from all these numbers is one row: how much `[CLS]` (token 0)
# takes from each patch. Patches are in reading order: row by row, from left to right.

# %% tags=["solution"]
def cls_attention(attention: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """The attention that [CLS] pays to the patches, as a map for each head.

    `attention` (1, heads, 1 + h·w, 1 + h·w): queries, then keys; token 0 is [CLS], then come the
    patches in reading order. `grid` is (h, w). Returns (heads, h, w).
    """
    return attention[0, :, 0, 1:].reshape(-1, *grid)


# %% tags=["nbval-check-output"]
checks.cls_attention(cls_attention)

# %% [markdown]
# ## 3. Anchor points
#
# The heads are averaged, and the $K$ most attended patches are the anchor points $C_1 \dots C_K$.
#
# **Exercise 2** ★★☆ · 10 minutes. Write that. An anchor is (row, column), as a matrix is indexed.

# %% tags=["solution"]
def top_anchors(attention: torch.Tensor, count: int) -> torch.Tensor:
    """The `count` most attended patches, strongest first.

    `attention` (heads, h, w): average it over the heads first. Returns (K, 2) int64 of (row,
    column). Of equally attended patches the earlier one in reading order comes first (sort with
    stable=True).
    """
    mean = attention.mean(0)
    index = mean.flatten().sort(descending=True, stable=True).indices[:count]
    return torch.stack([index // mean.shape[1], index % mean.shape[1]], dim=1)


# %% tags=["nbval-check-output"]
checks.top_anchors(top_anchors)

# %% [markdown]
# Both functions at work on the picture above: the map of `[CLS]`, and the strongest anchors of the mean and of
# each head.

# %% tags=["nbval-check-output"]
attention = cls_attention(raw, grid)
print("attention of [CLS] (heads, rows, columns):", tuple(attention.shape))
print(
    "the same as the package's:",
    torch.allclose(attention, models.backbone.encode_image(picture)[1], atol=1e-5),
)
for name, a in {
    "mean": attention,
    **{f"head {i}": head[None] for i, head in enumerate(attention)},
}.items():
    print(f"{name:6} attends most to (row, column)", top_anchors(a, count)[:4].tolist())

# %% [markdown]
# Heads share the work. Here is another scene: compare the heads with each other, and each with the mean.
# What one head overlooks another may see; what the loudest heads agree on wins the mean.

# %%
other, _ = load(scene(2340, count=3))
heads = models.backbone.encode_image(other)[1]
plots.show_heads(other, heads, [top_anchors(a, count) for a in [*heads[:, None], heads]]);

# %% [markdown]
# ## 4. From patches to pixels
#
# The editor wants pixels, and a pixel is given as $(x, y)$: first how far to the right, then how far down.
# An anchor is (row, column): first how far down. So the order has to turn round, once.
#
# **Exercise 3** ★★☆ · 10 minutes. Give the centre of every anchor's patch. In a picture of `size` pixels
# with $w$ patches across, patch 0 goes from 0 to `size`$/w$.

# %% tags=["solution"]
def anchor_centres(anchors: torch.Tensor, grid: tuple[int, int], size: int) -> torch.Tensor:
    """The centres of patches in pixels.

    `anchors` (K, 2) as (row, column) of a grid (h, w) that covers a size×size picture; a patch need
    not be square. Returns (K, 2) float as (x, y), x to the right, y down, in 0..size.
    """
    x = (anchors[:, 1] + 0.5) * size / grid[1]
    y = (anchors[:, 0] + 0.5) * size / grid[0]
    return torch.stack([x, y], dim=1)


# %% tags=["nbval-check-output"]
checks.anchor_centres(anchor_centres)

# %% [markdown]
# The official code takes the row for $x$ and the column for $y$. Nothing crashes: on a square picture every
# swapped anchor is still a valid one, mirrored in the diagonal. On an object near the diagonal one may not
# even notice. So here are two scenes: of a hundred, the ones whose object is nearest to the diagonal and farthest
# from it.

# %%
candidates = [load(scene(s, count=1)) for s in range(300_000, 300_100)]
candidates.sort(key=lambda c: abs(int((c[1][0, 0] + c[1][0, 2]) - (c[1][0, 1] + c[1][0, 3]))))
near, far = candidates[0], candidates[-1]
centres = [
    anchor_centres(top_anchors(models.backbone.encode_image(image)[1], count), grid, size)
    for image, _ in (near, far)
]
plots.show_anchors(
    [near[0], near[0], far[0], far[0]],
    [centres[0], centres[0].flip(1), centres[1], centres[1].flip(1)],
    ["near the diagonal", "rows, columns swapped", "far from it", "rows, columns swapped"],
    [near[1], near[1], far[1], far[1]],
);

# %% [markdown]
# ## 5. How many anchors stand on an object?
#
# Two pictures prove nothing. To count over many we need two small functions.
#
# **Exercise 4** ★★☆ · 10 minutes. Which points lie in which boxes? A box is $(x_0, y_0, x_1, y_1)$, its end
# exclusive: $x_0 \le x < x_1$, and the same for $y$.

# %% tags=["solution"]
def points_in_boxes(points: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
    """Which points lie in which boxes.

    `points` (K, 2) as (x, y); `boxes` (N, 4) as (x0, y0, x1, y1), end exclusive, both in pixels of
    a picture of any size, with fractions or without. Returns (K, N) bool: [k, n] says whether point
    k lies in box n; it may lie in several, or in none.
    """
    x, y = points[:, 0:1], points[:, 1:2]
    x0, y0, x1, y1 = boxes.T
    return (x0 <= x) & (x < x1) & (y0 <= y) & (y < y1)


# %% tags=["nbval-check-output"]
checks.points_in_boxes(points_in_boxes)

# %% [markdown]
# A share means little without **chance** beside it: a point thrown anywhere hits an object as often as the
# objects fill the picture.
#
# **Exercise 5** ★★☆ · 10 minutes. What share of the picture is covered by the boxes? They may overlap.

# %% tags=["solution"]
def covered_share(boxes: torch.Tensor, size: int) -> float:
    """The share of a size×size picture that lies in at least one box, 0..1.

    `boxes` (N, 4) as (x0, y0, x1, y1), end exclusive, whole pixels; N is at least 1.
    """
    covered = torch.zeros(size, size, dtype=torch.bool)
    for x0, y0, x1, y1 in boxes.tolist():
        covered[y0:y1, x0:x1] = True
    return float(covered.float().mean())


# %% tags=["nbval-check-output"]
checks.covered_share(covered_share)

# %% [markdown]
# Now many scenes. Seeds below 1,000,000 are kept away from every training, and `lr_helpers/study/zoo.py`
# uses those from 100,000 on; we take those from 200,000 on. The attention of each is computed once.

# %%
recipes = [scene(s) for s in range(200_000, 200_000 + scenes)]
study = []
for recipe in recipes:
    image, known = load(recipe)
    study.append((models.backbone.encode_image(image)[1], known))

# %% [markdown]
# `measure` takes any rule for choosing anchors and gives two rates. The first is the share of **anchors on an
# object**. The second asks the reverse: in scenes of two or three objects, the share of **objects that got
# an anchor**: an object without one can hardly be edited. Both carry a 95 % interval, by Wilson's formula: all true
# shares under which our count would not be surprising. It also works where few were counted, or none. Anchors of one
# scene are not independent, so for the first rate a scene counts once.

# %%
def measure(choose, swapped: bool = False) -> tuple[dict, dict]:
    """`choose`: attention → (K, 2) anchors. Returns the rates of anchors on an object and of
    objects reached.
    """
    shares, reached = [], []
    for attention, known in study:
        centres = anchor_centres(choose(attention), grid, size)
        inside = points_in_boxes(centres.flip(1) if swapped else centres, known)
        shares.append(float(inside.any(1).float().mean()))
        if len(known) > 1:
            reached += inside.any(0).tolist()
    return rate(sum(shares), len(shares)), rate(sum(reached), len(reached))


# %% tags=["nbval-check-output"]
def show(name: str, r: dict) -> None:
    print(f"{name:32} {r['value']:4.0%}  [{r['low']:.0%}, {r['high']:.0%}]  n = {r['count']}")


on_object, reached = measure(lambda a: top_anchors(a, count))
chance = rate(sum(covered_share(known, size) for _, known in study), scenes)
show(f"top {count} anchors on an object", on_object)
show("chance: share covered by boxes", chance)
show(f"objects with one of {count} anchors", reached)

# %% [markdown]
# And for other $K$? Beside attention stand the swapped anchors of the official code, and chance. For the objects
# reached there is no simple formula of chance, so patches are drawn by lot.

# %%
lottery = torch.Generator().manual_seed(seed)


def random_anchors(attention: torch.Tensor, count: int) -> torch.Tensor:
    index = torch.randperm(attention[0].numel(), generator=lottery)[:count]
    return torch.stack([index // grid[1], index % grid[1]], dim=1)


numbers = (1, 3, 5, 9, 15, 20, 30, 50)
most = [measure(lambda a, k=k: top_anchors(a, k)) for k in numbers]
swapped = [measure(lambda a, k=k: top_anchors(a, k), swapped=True) for k in numbers]
lots = [measure(lambda a, k=k: random_anchors(a, k)) for k in numbers]

# %%
on = {
    "most attended": [r for r, _ in most],
    "rows and columns swapped": [r for r, _ in swapped],
    "chance": [chance] * len(numbers),
}
got = {
    "most attended": [r for _, r in most],
    "rows and columns swapped": [r for _, r in swapped],
    "chance": [r for _, r in lots],
}
plots.show_bands(
    numbers,
    {
        f"anchors on an object ({scenes} scenes)": on,
        f"objects with an anchor ({reached['count']} objects)": got,
    },
    "number of anchors K",
);

# %% [markdown]
# Why are swapped anchors better than chance at all, on the left? Many objects lie across the diagonal, and there a
# mirrored point often falls on the same object again.
#
# The two panels pull in opposite directions. A few anchors are safe, but they all sit on the object that
# `[CLS]` likes best. More anchors reach more objects, and more background. Compare with chance on the
# right: the more anchors there are, the less attention helps to reach *every* object, because its anchors stand
# in clumps.
#
# ## 6. Keep your distance
#
# The most attended patches are neighbours: nine anchors, and nearly one place. A simple cure is to pass over
# every patch that is too near to an anchor we already have.
#
# **Exercise 6** ★★★ · 20 minutes. Go through the patches from the most attended on, and take each that is at
# least `distance` away from *all* chosen so far. (`torch.sort` and a loop will do.)

# %% tags=["solution"]
def spread_anchors(attention: torch.Tensor, count: int, distance: float) -> torch.Tensor:
    """The most attended patches that stand at least `distance` apart, strongest first.

    `attention` (heads, h, w): average it over the heads first. `distance` is Euclidean, in patches,
    between (row, column) positions; exactly `distance` is far enough, and 0 gives the plain top
    anchors. Returns (K, 2) int64 of (row, column). Raises ValueError if fewer than `count` can be
    placed.
    """
    chosen = []
    for row, column in top_anchors(attention, attention[0].numel()).tolist():
        if all(((row - r) ** 2 + (column - c) ** 2) ** 0.5 >= distance for r, c in chosen):
            chosen.append((row, column))
        if len(chosen) == count:
            return torch.tensor(chosen)
    raise ValueError(f"only {len(chosen)} of {count} anchors fit at distance {distance}")


# %% tags=["nbval-check-output"]
checks.spread_anchors(spread_anchors)

# %% [markdown]
# Look at it where it matters: in the first scene of the study in which the top anchors miss an object and the
# spread ones don't.

# %%
unit = grid[0] / 16  # the same distances in pixels for a finer grid


def misses(anchors: torch.Tensor, known: torch.Tensor) -> bool:
    return not bool(points_in_boxes(anchor_centres(anchors, grid, size), known).any(0).all())

# %%
found = 0
for i, (a, known) in enumerate(study):
    spread = spread_anchors(a, count, 2.5 * unit)
    if misses(top_anchors(a, count), known) and not misses(spread, known):
        found = i
        break
image, known = load(recipes[found])
chosen = [spread_anchors(study[found][0], count, d * unit) for d in (0, 1.4, 2.5)]
plots.show_anchors([image] * 3, [anchor_centres(c, grid, size) for c in chosen],
                   ["most attended", f"distance {1.4 * unit:g}", f"distance {2.5 * unit:g}"],
                   [known] * 3);

# %% [markdown]
# What does the distance buy, and what does it cost? The same number of anchors throughout.

# %%
distances = [d * unit for d in (0, 1.4, 2, 2.2, 2.8, 3)]
spread = [measure(lambda a, d=d: spread_anchors(a, count, d)) for d in distances]
plots.show_bands(
    distances,
    {
        f"with {count} anchors ({scenes} scenes, {reached['count']} objects)": {
            "anchors on an object": [on for on, _ in spread],
            "objects with an anchor": [got for _, got in spread],
        }
    },
    "least distance between anchors, in patches",
);

# %% [markdown]
# Look for the distance at which many objects are gained and few anchors lost. (The distance is our addition;
# the paper takes the plain top $K$. Our own method, in [06](06_the_whole_method.ipynb), goes another way: it takes
# 48 anchors, and picks beforehand which of their boxes are worth an edit.)
#
# ## 7. The border rule of the official code
#
# Boxes will grow around the anchors (that is [03](03_the_box_generator.ipynb)). The official code wants the
# largest one to fit into the picture, so it passes over every patch with fewer than `max_window_size` = 15 of
# its 32 patches left to any side (although the half-size of its largest box is 14). Count what remains: rows
# 15 and 16, columns 15 and 16. With four places for nine anchors, patches near the border are taken after all, the
# most attended first. The picture below shows it where it hurts: in the scene of the study whose objects are
# farthest from the middle.

# %% tags=["nbval-check-output"]
margin = 15 * grid[0] // 32
official = [packaged.inside_anchors(attention, count, margin) for attention, _ in study]
always = set.intersection(*({tuple(a) for a in anchors.tolist()} for anchors in official))
print(
    f"patches at least {margin} away from every border:",
    (grid[0] - 2 * margin) * (grid[1] - 2 * margin),
)
print(f"anchors that all {scenes} scenes have in common:", sorted(always))

# %%
def off_centre(known: torch.Tensor) -> float:
    """How far the object nearest to the middle is from it, in pixels."""
    return float((known.float().view(-1, 2, 2).mean(1) - size / 2).norm(dim=1).min())


outer = max(range(scenes), key=lambda i: off_centre(study[i][1]))
attention, known = study[outer]
rules = {
    "most attended": top_anchors(attention, count),
    "border rule": official[outer],
    "border rule, swapped": official[outer].flip(1),
}
image = load(recipes[outer])[0]
plots.show_anchors([image] * 3, [anchor_centres(a, grid, size) for a in rules.values()],
                   list(rules), [known] * 3);

# %% [markdown]
# So with its own settings the official code spends four of nine anchors on the middle of the picture, whatever
# the picture shows. For a photograph with its subject in the middle that is no bad guess. But it is a guess,
# and the boxes are clamped to the picture later anyway, so the rule isn't needed. (The official code
# fills up from *all* patches, so it may even name an anchor twice; our `inside_anchors` does not.)
#
# Put together, on all scenes:

# %% tags=["nbval-check-output"]
def border(attention: torch.Tensor) -> torch.Tensor:
    return packaged.inside_anchors(attention, count, margin)


ways = {"most attended (paper)": measure(lambda a: top_anchors(a, count)),
        "… and the border rule": measure(border),
        "… and swapped (official code)": measure(border, swapped=True),
        f"distance {2 * unit:g}": measure(lambda a: spread_anchors(a, count, 2 * unit)),
        "drawn by lot": measure(lambda a: random_anchors(a, count))}
for name, (on, got) in ways.items():
    show(f"{name}:", on)
    show("    objects with an anchor", got)

# %% [markdown]
# ## 8. When anchors fall on the background
#
# The paper names it as a failure: the transformer may find something in the background more interesting than
# the objects. Here are the four scenes of the study with the fewest anchors on an object.

# %%
def on_object_share(i: int) -> float:
    attention, known = study[i]
    centres = anchor_centres(top_anchors(attention, count), grid, size)
    return float(points_in_boxes(centres, known).any(1).float().mean())


worst = sorted(range(scenes), key=on_object_share)[:4]
plots.show_anchors([load(recipes[i])[0] for i in worst],
                   [anchor_centres(top_anchors(study[i][0], count), grid, size) for i in worst],
                   [f"scene {200_000 + i}\n{on_object_share(i):.0%} on an object" for i in worst],
                   [study[i][1] for i in worst]);

# %% [markdown]
# What comes of it? Take the worst scene that has an anchor on an object at all, and edit twice, with the same prompt
# and the same noise: around its strongest anchor on the background, and around its strongest anchor on an object.

# %%
from lr_helpers.regions import proposals

both = (i for i in range(scenes) if 0 < on_object_share(i) < 1)  # anchors of both kinds
shown = min(both, key=on_object_share, default=worst[0])
image, known = load(recipes[shown])
centres = anchor_centres(top_anchors(study[shown][0], count), grid, size)
hit = points_in_boxes(centres, known).any(1)
two = centres[[int((~hit).float().argmax()), int(hit.float().argmax())]]
regions = proposals(two, [0.5], size)[:, 0].tolist()
edits = models.editor.edit(image, regions, prompt, seed=seed)
plots.show_pictures([image, *edits],
                    [recipes[shown].caption(), "region on the background", "region on the object"],
                    boxes=[None, *regions], side=3.0);

# %% [markdown]
# In the first edit the new thing is *added* and the old one stays, or is cut by the region's edge. Only a
# region on the object can *replace* it. The method makes an edit around every anchor and chooses among them at
# the end, so one good anchor is enough, provided that the choice recognises it. That is what notebook
# [04](04_the_losses.ipynb) is about.
#
# ## Try it
#
# Move the sliders: more anchors, more distance, another head. When does the last object get its anchor?

# %%
tried_recipe = next((r for r in recipes if len(r.objects) == 3), recipes[0])
tried, tried_boxes = load(tried_recipe)
tried_attention = models.backbone.encode_image(tried)[1]


def draw(count: int, distance: float, head: str):
    chosen = tried_attention if head == "mean" else tried_attention[int(head)][None]
    points = anchor_centres(spread_anchors(chosen, count, distance), grid, size)
    inside = points_in_boxes(points, tried_boxes)
    title = (
        f"{int(inside.any(1).sum())} of {count} anchors on an object\n"
        f"{int(inside.any(0).sum())} of {len(tried_boxes)} objects reached"
    )
    return plots.show_anchors([plots.heat_picture(chosen.mean(0), size), tried],
                              [points[:0], points], [f"attention, {head}\n", title],
                              [tried_boxes] * 2, side=3.4)


# %%
explore(draw, count=ipywidgets.IntSlider(value=count, min=1, max=16),
        distance=ipywidgets.FloatSlider(value=0, min=0, max=3, step=0.25),
        head=ipywidgets.Dropdown(options=["mean", *map(str, range(len(tried_attention)))]))

# %% [markdown]
# ## What we learned
#
# * A transformer trained without labels attends to objects. The patches its `[CLS]` token takes most from,
#   averaged over the heads, are the anchor points.
# * An anchor is (row, column), a pixel is (x, y). Who swaps them gets no error, only worse edits.
# * Judge a share beside chance, and with its interval.
# * The top $K$ stand close together. A least distance reaches more objects for the same number of anchors and
#   puts more of them on the background.
# * The border rule of the official code spends anchors on the middle of every picture.
# * An anchor on the background leads to a thing added, not to one replaced.
#
# ## More exercises
#
# * ★★☆ Write `inside_anchors` yourself (`help(packaged.inside_anchors)` is all you need) and compare it with the
#   package's on all scenes of `study`.
# * ★★☆ Is the mean of the heads the best choice? `measure` each head alone, and the maximum over heads.
# * ★★★ Instead of a fixed $K$, take the smallest set of patches that holds 60 % of the attention. How many are
#   they in a scene of one object, and of three?
# * ★★★ Feed the transformer pictures that are not normalised, as the official code does. What does `measure`
#   say?
#
# **Next:** [03 The box generator](03_the_box_generator.ipynb) grows boxes around the anchors and scores them.
