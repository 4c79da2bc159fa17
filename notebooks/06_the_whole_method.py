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
# # 06 · The whole method
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/learnable-regions/blob/main/notebooks/06_the_whole_method.ipynb)
#
# **You will** give a picture, a word for what is there now, and a sentence for what you want, and look over the
# method's shoulder: anchors, proposals, candidate edits, losses, learning, the final choice. Then you put the functions
# that you wrote in notebooks 02 to 05 together, so that one function of your own does all of it, and compare its edit
# with the package's.
#
# | | |
# |---|---|
# | time | 1-2 minutes on a laptop without GPU (profile `tiny`), 60 with the exercise |
# | memory | about 1.5 GB |
# | paper | sections 3.1-3.4, equations 1-7 of [Text-Driven Image Editing via Learnable Regions](https://arxiv.org/abs/2311.16432) |
# | before | the walk: nothing; the exercise: [02](02_where_could_we_edit.ipynb), [03](03_the_box_generator.ipynb), [04](04_the_losses.ipynb) and [05](05_learning_the_region.ipynb), or ours instead |

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
image = None  # path of a picture of your own; None takes a sample, which the models know
source = ""  # what is there now; empty: what the sample shows
prompt = ""  # what you want to see; empty: the sample's
seed = 42

# %% tags=["costs"]
from lr_helpers.costs import course

course.say("06", profile)

# %%
import numpy as np
import torch
from PIL import Image, ImageOps

from lr_helpers import METHODS, EditResult, checks, edit, load_models, plots
from lr_helpers.course.samples import sample, square
from lr_helpers.files.pictures import read_image, to_tensor

models = load_models(profile)
print(models.profile.title)

# %% [markdown]
# ## The picture
#
# A held-out scene of the emoji world, so that afterwards we can compare the learned region with the true
# one. The method itself never sees the recipe.

# %% tags=["nbval-check-output"]
main = sample(models.profile) if image is None else None
picture = main.picture if main else read_image(image)
known = main.truth if main else None  # the box of what is there now
emoji = models.words is not None
slow = models.profile.needs_gpu  # then a bar shows how far an edit is
if main:
    source, prompt = source or main.source, prompt or main.prompt
print(main.title if main else image, picture.size)

# %% [markdown]
# ## Two lines
#
# This is the whole call. The rest of the notebook looks at what it did.

# %%
result = edit(models, picture, source, prompt, METHODS["learned"], seed=seed, progress=slow)
plots.show_before_after(result);

# %% tags=["nbval-check-output"]
print("learned region:", result.box)
print(
    result.cost["different_edits"],
    "different edits,",
    result.cost["denoiser_evaluations"],
    "denoiser evaluations",
)

# %% [markdown]
# In the emoji scene nothing of the wolf is left; it was chosen for that. Often an ear or a foot stays: the box is one of
# seven squares around an anchor, and so small a rest hardly changes a loss. “Found” never means “cut out”.
#
# ## 1. Where could we edit? Anchor points
#
# A ViT trained without labels (DINO) looks at the picture. The patches that its `[CLS]` token attends to
# most are the *anchor points*: objects attract attention, background does not.

# %%
plots.show_attention(result);

# %% tags=["nbval-check-output"]
print("attention (heads, rows, columns):", tuple(result.attention.shape))
print("anchors (row, column):", result.anchors.tolist()[:5], "…")

# %% [markdown]
# ## 2. Proposals
#
# Around every anchor stand squares of growing size: the region is one of these. That makes many boxes, and each edit
# costs. So we first ask what needs no edit. CLIP's image tower cuts the picture into **patches**; which of them look like
# the source's word? The map is rough, so a box counts all of its patches: it is good if it holds those that stand out, and
# few others. And does **hiding** the box, filled in with the colours around it, take the source out of CLIP's sight? The four
# places that do best are kept, and at each the three sizes that do best: the *shortlist*. (Ours, not the paper's.)
#
# In a large CLIP all texts lie close together, whatever they say. So what they share is taken off the word first:
# `models.neutral`, the mean of many names, half of them of things and half of grounds.

# %%
(word,) = models.clip.encode_text([result.source]) - models.neutral
alike = models.clip.patches(result.picture) @ word  # a number for each patch
title = f"patches like “{result.source}”"
plots.show_panels(
    {"the picture": result.picture, title: plots.heat_picture(alike - alike.min(), 128)}
);

# %%
winner = result.candidates[0].anchor  # the anchor whose edit will be the result
plots.show_proposals(result, anchor=winner);

# %% tags=["nbval-check-output"]
print("proposals (anchors K, sizes M, box):", tuple(result.boxes.shape))
kept = ~result.loss.isnan()
print(
    f"in the shortlist: {int(kept.sum())} boxes, around {len(kept)} of the {result.method.anchors} "
    f"anchors"
)

# %% [markdown]
# ## 3. Candidate edits
#
# The inpainting model edits inside each box of the shortlist, always from the same noise. (With models of full size these
# edits take few steps, and only the one that wins is made again with all of them.)

# %%
plots.show_pictures(
    list(result.edits[kept]), columns=6, side=1.5, boxes=result.boxes[kept].tolist()
);

# %% [markdown]
# ## 4. The losses
#
# CLIP judges each edit: does it look like the prompt ($L_{Clip}$)? Did the
# picture change the way the text did ($L_{Dir}$)? Is its inner structure still that of the source ($L_{Str}$)? A term of ours asks whether it still looks like the source
# text. Two more need no edit: do the box's patches look like the source, and does hiding the box take it
# away? Dark is good; white boxes are not in the shortlist, and were not edited. The rings are the proposals that the region network has learned to prefer.
# (A full table, and what each term alone would choose: [04 The losses](04_the_losses.ipynb).)

# %%
plots.show_terms(result);

# %% [markdown]
# ## 5. Learning
#
# The region generation network scores the proposals of each anchor: $\pi_k \in \mathbb{R}^M$. We minimise the
# expected loss $\frac1K\sum_k\sum_m \pi_{km}L_{km}$ with Adam. The losses of the whole shortlist are known
# (all other boxes have probability 0), so the gradient is exact, and more iterations cost no further edits.

# %%
plots.show_learning(result);

# %% [markdown]
# In the official code no gradient reaches the network, so its curve only jumps from one random box to the next;
# [05](05_learning_the_region.ipynb) shows where the gradient is lost.
#
# ## 6. The final choice
#
# Each anchor offers its best proposal; one of these edits is the answer. The paper takes the highest
# $S = 2\cos(edit, prompt) + \cos(edit, picture)$. Our default takes the lowest loss instead, because $S$
# does not notice whether the old object is gone.

# %%
plots.show_candidates(result);

# %% [markdown]
# Two other presets for comparison: `paper` says what the paper says (its three losses, straight-through
# gradient, highest $S$), `official_code` does what the official code does, with all its defects.

# %%
paper = edit(models, picture, source, prompt, METHODS["paper"], seed=seed, progress=slow)
official = edit(models, picture, source, prompt, METHODS["official_code"], seed=seed, progress=slow)
plots.show_pictures(
    [r.image for r in (result, paper, official)],
    ["learned", "paper", "official_code"],
    side=2.3,
    boxes=[r.box for r in (result, paper, official)],
);

# %% [markdown]
# ## How good is the region?
#
# In the emoji world we can tell, by **IoU**, intersection over union: the area that the learned and the true box share,
# divided by the area of both together. 1 is the very box, 0 a miss. (For the photographs the true box was drawn by hand.)

# %% tags=["nbval-check-output"]
from lr_helpers.boxes import iou

if known:
    truth = torch.tensor(known).float()
    print(f"learned box {result.box}, IoU {iou(torch.tensor(result.box).float(), truth):.2f}")

# %%
for name, r in (("paper", paper), ("official_code", official)) if known else ():
    print(f"{name:13} box {r.box!s:18} IoU {iou(torch.tensor(r.box).float(), truth):.2f}")

# %% [markdown]
# One scene proves nothing: this one was chosen because it is easy to read, and a random box may be lucky. The box of
# `official_code` *is* random, the best of nine by its ranking: where it beats `paper` on this picture, that is chance,
# not learning. [08 Reproduction](08_reproduction.ipynb) measures many scenes.
#
# ## All of it, by you
#
# Now without `edit`: one function that goes from picture and words to the edited picture. Its pieces are those that you
# wrote. `checks.pieces()` looks for them in the notebooks beside this one, tries each by its check, and takes ours where
# yours is missing or not right yet. (Save a notebook after you have changed it.)

# %% tags=["nbval-check-output"]
mine = checks.pieces()
print(mine)

# %% [markdown]
# Where the notebooks are not at hand, as on Colab, paste a function into a cell here and put it in:
# `mine.proposals = proposals`.
#
# These of your pieces you call yourself; the other pieces are the models, and five functions of the package:
#
# | call | gives |
# |---|---|
# | `mine.spread_anchors(attention, count, distance)` | anchors (K, 2), each (row, column) |
# | `mine.anchor_centres(anchors, (h, w), size)` | centres (K, 2), each (x, y) |
# | `mine.proposals(centres, sizes, size)` | boxes (K, M, 4), int64 |
# | `models.backbone.encode_image(picture)` | features (d, h, w), attention (heads, h, w) |
# | `models.editor.inpaint(picture, masks, prompt, seed=…, steps=…)` | the model's own frames (N, 3, S, S), of masks (N, 1, S, S); all start from the same noise |
# | `models.clip.encode_image(pictures)` | embeddings (N, D), visual tokens (N, L, d) |
# | `models.clip.encode_text([text, …])` | embeddings (N, D) |
# | `pool_proposals(features, boxes, size, side)` | RoIAlign of (K, M, 4) boxes: (K, M·d, side, side) |
# | `standardise(pooled)` | the same with mean 0 and deviation 1 over the anchors |
# | `box_mask(box, height, width)`, `composite(frame, picture, mask)`, `area(boxes)` | a mask (1, height, width); the edit pasted into the picture; pixels of each box |

# %%
from lr_helpers.boxes import area, box_mask
from lr_helpers.inpainting import composite
from lr_helpers.regions import pool_proposals, standardise

# %% [markdown]
# The settings are a `Method`, as always; here a small one, in which every box is edited. It has three of the terms, as they
# are: direction, structure and area, which is the share of the picture that the box takes. Five anchors are few, so it may
# well miss the object; what counts here is that yours and the package's agree.

# %% tags=["nbval-check-output"]
steps = models.editor.screening_steps or models.editor.steps
small_method = METHODS["learned"].but(
    anchors=5, distance=0.15, sizes=(0.4375, 0.5, 0.625), shortlist=0, clip_weight=0.0,
    structure_weight=0.5, direction_weight=1.0, source_weight=0.0, patches_weight=0.0,
    occlusion_weight=0.0, area_weight=0.75, centre_texts=False, standardise_terms=False,
    entropy_weight=0.0,
    steps=steps, screening_steps=steps)
for name in ("anchors", "distance", "sizes", "pool", "direction_weight", "structure_weight",
             "area_weight", "lr", "iterations", "steps"):
    print(f"method.{name:17} {getattr(small_method, name)}")

# %% [markdown]
# Two steps you have written before, the losses of a table of edits (04) and the training on such a table (05). They stand
# here with your pieces, so that what is left is how all of it hangs together.

# %%
def losses_of(models, picture, edits, boxes, source: str, prompt: str, method) -> torch.Tensor:
    """Edits (K·M, 3, S, S) in boxes (K, M, 4) → the (K, M) table of their weighted losses."""
    seen, tokens = models.clip.encode_image(edits)
    (before,), (inside,) = models.clip.encode_image(picture[None])
    wanted, now = models.clip.encode_text([prompt, source])
    loss = method.direction_weight * mine.direction_loss(seen, before, now, wanted)
    loss = loss + method.structure_weight * mine.structure_loss(tokens, inside)
    loss = loss + method.area_weight * area(boxes).flatten() / picture.shape[-1] ** 2
    return loss.reshape(boxes.shape[:2])

# %%
def trained(pooled: torch.Tensor, table: torch.Tensor, method, seed: int) -> torch.Tensor:
    """Pooled features and the (K, M) table → (K, M) probabilities of a network trained on it."""
    torch.manual_seed(seed)  # of its first weights
    sizes = table.shape[1]
    network = mine.RegionNetwork(sizes, pooled.shape[1] // sizes, method.pool)
    optimiser = torch.optim.Adam(network.parameters(), lr=method.lr)
    for _ in range(method.iterations):
        optimiser.zero_grad()
        mine.expected_loss(network(pooled), table).backward()
        optimiser.step()
    return network(pooled).softmax(dim=1).detach()

# %% [markdown]
# **Exercise 1** ★★★ · 45 minutes. The whole method.
#
# 1. **Anchors** at least `method.distance` × the grid's shorter side apart (a number of patches).
# 2. **Proposals** around their centres, and their pooled features, standardised.
# 3. **Edits**: a mask for each box, in the order of `boxes.flatten(0, 1)`; all frames by one call; pasted.
# 4. **Losses**: the (K, M) table, by `losses_of`.
# 5. **Learning**: the probabilities, by `trained`.
# 6. **The choice**: each anchor's most probable box; of these the one with the lowest loss.

# %% tags=["solution"]
def whole_edit(models, picture: torch.Tensor, source: str, prompt: str, method, seed: int) -> dict:
    """A picture and words in, an edit out.

    models: with `backbone`, `editor` and `clip`. picture: (3, S, S) in 0..1. source: what is there
    now; prompt: what is wanted. method: the settings listed above. seed: of the edits' noise and of
    the network's first weights, which `torch.manual_seed(seed)` gives right before it is made.

    Returns a dict: "boxes" (K, M, 4), K anchors, M sizes; "loss" (K, M); "probabilities" (K, M) of
    the trained network, detached; "box" (4,), the chosen one; "image" (3, S, S), its edit.
    """
    size = picture.shape[-1]
    # 1. Where the ViT looks.
    features, attention = models.backbone.encode_image(picture)
    grid = tuple(attention.shape[1:])
    anchors = mine.spread_anchors(attention, method.anchors, method.distance * min(grid))
    # 2. Squares around these places, and what the ViT sees in them.
    boxes = mine.proposals(mine.anchor_centres(anchors, grid, size), method.sizes, size)
    pooled = standardise(pool_proposals(features, boxes, size, method.pool))
    # 3. An edit in each of them.
    masks = [box_mask(box, size, size) for box in boxes.flatten(0, 1).tolist()]
    masks = torch.stack(masks)
    frames = models.editor.inpaint(picture, masks, prompt, seed=seed, steps=method.steps)
    edits = composite(frames, picture, masks)
    # 4. How good each is.
    table = losses_of(models, picture, edits, boxes, source, prompt, method)
    # 5. Learn which of its boxes each anchor should take.
    probabilities = trained(pooled, table, method, seed)
    # 6. The best of the anchors' choices.
    best = probabilities.argmax(dim=1)
    k = int(table[torch.arange(len(best)), best].argmin())
    image = edits.unflatten(0, table.shape)[k, best[k]]
    return {"boxes": boxes, "loss": table, "probabilities": probabilities,
            "box": boxes[k, best[k]], "image": image}

# %% tags=["nbval-check-output"]
checks.whole_edit(whole_edit)

# %% [markdown]
# The check ran it on stand-ins, random matrices with the calls of the three models, and compared every number with what
# the package's own search finds there. Now on the real ones, in a square part of the picture:

# %%
size = models.profile.size
if main:
    part, part_truth = square(main, size)
else:
    part, part_truth = to_tensor(ImageOps.fit(picture, (size, size)), size), None
yours = whole_edit(models, part, source, prompt, small_method, seed)

# %% [markdown]
# And the package's, by the same method from the same seed:

# %%
theirs = checks.whole_edit.reference(models, part, source, prompt, small_method, seed)
plots.show_pictures(
    [part, yours["image"], theirs["image"]], [source, "your edit", "the package's"], side=2.3,
    boxes=[part_truth, yours["box"].tolist(), theirs["box"].tolist()],
);

# %% tags=["nbval-check-output"]
print("your box:         ", yours["box"].tolist())
print("the package's box:", theirs["box"].tolist())
same = bool((yours["loss"] - theirs["loss"]).abs().max() < 1e-3)
print(f"tables of {yours['loss'].numel()} losses differ by less than 0.001: {same}")

# %% [markdown]
# The same box from the same table: the core of `edit` is what you have just written. The method `learned` goes further: 48
# anchors instead of five; seven sizes instead of three; other terms, each counted in deviations over the picture's boxes, and
# all texts compared less what they have in common; a shortlist of twelve boxes at four places, chosen by terms that need no edit, which
# alone are edited; and a bonus for undecided probabilities, which keeps the softmax from saturating early. Compare both boxes
# with the object (on one scene five anchors may do as well; 08 asks many):

# %%
for name, box, of in (("five anchors, yours", yours["box"], part_truth),
                      ("48 anchors, `learned`", torch.tensor(result.box), known)):
    if of:
        print(f"{name:22} IoU {iou(box.float(), torch.tensor(of).float()):.2f}")

# %% [markdown]
# ## Keep it
#
# `save` writes the pictures first and the record last, each whole or not at all; `load` brings it back.

# %%
folder = result.save("../results/06_the_whole_method", draw_boxes=True)
again = EditResult.load(folder)
sorted(str(p.relative_to(folder)) for p in folder.rglob("*.png"))[:4]

# %% tags=["nbval-check-output"]
print(
    "same box:",
    again.box == result.box,
    " same pixels:",
    again.image.tobytes() == result.image.tobytes(),
)

# %% [markdown]
# ## A picture of your own
#
# Any JPEG, PNG or WebP of any size and shape will do: `edit(models, "photo.jpg", source, prompt)`. Boxes are
# squares of your picture, in its own pixels; the inpainting model sees a square window around the region, and only
# the region is pasted back. The miniature models know emoji, not the world: for photographs take the profile `sd2`.
# Words they don't know are reported, with the nearest ones they do.

# %% tags=["nbval-check-output"]
for warning in (
    models.warnings_for("a zebra with a hat")
    if models.words
    else ["(this profile takes any words)"]
):
    print(warning)

# %% [markdown]
# Here is the scene twice as wide (its left edge is drawn out) and four times as large: nothing gets stretched.

# %%
wide = picture
if emoji:  # a photograph is wide as it is
    wide = Image.fromarray(np.pad(np.asarray(picture), ((0, 0), (128, 0), (0, 0)), "edge"))
    wide = wide.resize((1024, 512), Image.Resampling.BICUBIC)
big = edit(models, wide, source, "a balloon", METHODS["learned"], seed=seed, progress=slow)
print(big.original.size, "→", big.image.size)
plots.show_before_after(big);

# %% [markdown]
# ## What we learned
#
# * Attention proposes places, squares propose sizes, the inpainting model makes the edits, CLIP judges them.
# * With the whole table of edits in hand, learning the region is an exact and cheap gradient descent.
# * The whole method is thirty lines, once its pieces are there.
# * The final choice matters as much as the learning.
#
# **Next:** [07 Learning across pictures](07_learning_across_pictures.ipynb): what one picture teaches can serve the next.
