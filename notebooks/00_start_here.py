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
# # 00 · Start here
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/learnable-regions/blob/main/notebooks/00_start_here.ipynb)
#
# **You will** edit a picture by saying what is there and what you want instead. You draw no mask: the method learns where
# to edit. Then you see in one picture how it does that, and where in the course each step is taken apart.
#
# This course is for people who have trained a small network in PyTorch. It teaches, reproduces and extends
# [Text-Driven Image Editing via Learnable Regions](https://arxiv.org/abs/2311.16432) (CVPR 2024). It runs on a laptop: each
# model comes as a small version, really trained, that knows drawn scenes of emoji.
#
# | | |
# |---|---|
# | time | 5 minutes on a laptop without GPU (profile `tiny`) |
# | memory | about 1 GB |
# | paper | its first figure |
# | before | nothing |

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
seed = 42

# %% tags=["costs"]
from lr_helpers.costs import course

course.say("00", profile)

# %% [markdown]
# ## Play
#
# Run the cells down to this form: click into a cell and press Shift + Enter. Choose a picture, type what is there and what
# you want, and press **Run**.

# %%
from lr_helpers import load_models
from lr_helpers.course import editor

models = load_models(profile)
editor(models)

# %% [markdown]
# If you are reading this on a web page or on paper, you see no form. This is what it does: it takes a picture, the word for
# what is there, and what you want instead.

# %% tags=["nbval-check-output"]
from lr_helpers.course.samples import sample, square
from lr_helpers.files.pictures import to_image

main = sample(models.profile)  # an emoji scene, or a photograph for models that know the world
picture, true_box = square(main, models.profile.size)
print(f"{main.title}: {main.source!r} becomes {main.prompt!r}")

# %%
from lr_helpers import METHODS, edit, plots

result = edit(models, to_image(picture), main.source, main.prompt, METHODS["learned"], seed=seed)
plots.show_before_after(result);

# %% tags=["nbval-check-output"]
print("the learned region (x0, y0, x1, y1):", result.box)
print("where the object is:                ", true_box)

# %% [markdown]
# Nobody told the method where the object is. Outside the region the picture is untouched.
#
# ## How it works, in one picture
#
# This is that very edit:

# %%
from lr_helpers.authoring import diagram

figure = diagram.draw(diagram.of(main, result))

# %% [markdown]
# 1. A vision transformer that was trained without labels looks at the picture. Where it looks most are the **anchor
#    points** (notebook 02).
# 2. Around each of them stand **squares** of several sizes (03).
# 3. In the most promising ones a frozen inpainting model paints what you asked for: **trial edits** (01).
# 4. CLIP, which has learned from pictures with captions, judges each trial: the **losses** (04).
# 5. A small network **learns** which square each anchor should take (03, 05).
#
# The best of the chosen squares is the learned region, and its edit is the result (06). What it costs is counted in
# *denoiser evaluations*: one is one step of the inpainting model for one picture.

# %% tags=["nbval-check-output"]
print(result.cost["different_edits"], "trial edits,",
      result.cost["denoiser_evaluations"], "denoiser evaluations")

# %% [markdown]
# ## The course
#
# | notebook | the one idea | minutes | exercises |
# |---|---|---|---|
# | **00 · Start here** | an editor, the method in one picture, a map of the course | 5 |  |
# | [01 · The inpainting model](01_the_inpainting_model.ipynb) | mask + prompt → edit; the denoising loop, written by you | 60 | [5](exercises/01_the_inpainting_model.ipynb) |
# | [02 · Where could we edit?](02_where_could_we_edit.ipynb) | self-attention → anchor points, and how often they hit | 75 | [6](exercises/02_where_could_we_edit.ipynb) |
# | [03 · The box generator](03_the_box_generator.ipynb) | proposals, RoIAlign, region network, Gumbel-softmax | 95 | [7](exercises/03_the_box_generator.ipynb) |
# | [04 · The losses](04_the_losses.ipynb) | CLIP guidance, direction and structure, on real edits | 70 | [6](exercises/04_the_losses.ipynb) |
# | [05 · Learning the region](05_learning_the_region.ipynb) | where the official code loses the gradient, and three ways to get it back | 75 | [6](exercises/05_learning_the_region.ipynb) |
# | [06 · The whole method](06_the_whole_method.ipynb) | your own functions of 02-05, put together and run | 60 | [1](exercises/06_the_whole_method.ipynb) |
# | [07 · Learning across pictures](07_learning_across_pictures.ipynb) | one network for all pictures: one pass, one edit | 75 | [5](exercises/07_learning_across_pictures.ipynb) |
# | [08 · Reproduction](08_reproduction.ipynb) | the paper's claims as measurements: a dozen ways to choose, every knob | 45 | [2](exercises/08_reproduction.ipynb) |
# | [09 · Comparison](09_comparison.ipynb) | other editors and regions: the edit, the background, the cost | 60 | [3](exercises/09_comparison.ipynb) |
# | [10 · Extended experiments](10_extended_experiments.ipynb) | unseen combinations, styles, prompts; failures by cause | 40 | [2](exercises/10_extended_experiments.ipynb) |
# | [A1 · Editing many images](A1_editing_many_images.ipynb) | a batch that survives `kill -9`, by one process or many | 50 | [4](exercises/A1_editing_many_images.ipynb) |
#
# Minutes are those with the exercises, where there are any. Each notebook *runs* alone; its head says what it builds on. In a
# hurry? Take 02, 03, 04 and 05. If you only want to use the method, go from here to [A1](A1_editing_many_images.ipynb).
#
# ## Exercises that check themselves
#
# The notebooks in [exercises](exercises) are the same, but the functions that matter are yours to write. The cell below
# each of them tries your function on several inputs. It says what was expected, what came, and for the usual slips
# why. Here somebody has taken rows for columns:

# %% tags=["nbval-check-output"]
from lr_helpers import checks
from lr_helpers.anchors import top_anchors


def my_top_anchors(attention, count):
    return top_anchors(attention, count).flip(1)


try:
    checks.top_anchors(my_top_anchors)
except checks.CheckFailed as told:
    print(told)

# %% [markdown]
# ## A picture of your own
#
# In the form, choose *my own*; in Python, `edit(models, "photo.jpg", "bird", "a rabbit")`. Any size and shape
# will do. The miniatures know emoji, not the world, and say which words they don't know:

# %% tags=["nbval-check-output"]
for warning in models.warnings_for("a zebra with a hat") if models.words else ["(any words)"]:
    print(warning)

# %% [markdown]
# Photographs need models of full size. The profile `sd2` takes Stable Diffusion 2: several GB to download once, and a GPU,
# which Colab lends for free ([how to](../docs/real_models.md)). What an edit costs depends on the method, not on the
# picture:

# %% tags=["nbval-check-output"]
from lr_helpers.costs.evaluations import search

for name in METHODS:
    cost = search(models.profile, name)
    print(f"{name:14} {'at most ' if cost.at_most else ''}{cost.evaluations:,} evaluations")

# %% [markdown]
# ## What you need to know, and where to ask
#
# * **PyTorch**: tensors, broadcasting, what `backward()` does. That a picture is a tensor (3, height, width) is enough of vision.
# * **Not needed**: how diffusion models are trained, or anything about the paper.
# * **Something does not run?** `python -m lr_helpers doctor` says in a few lines what is missing and how to mend it.
# * **Something is unclear?** The [pages](../docs/README.md) say more: [what does not work yet](../docs/limits.md),
#   [how to edit](../docs/editing.md), [how to run the notebooks](../docs/notebooks.md). Questions and mistakes that you
#   find belong in the repository's issues.
#
# ## What we learned
#
# * Words alone are enough to edit: where to edit can be learned.
# * Attention proposes places, squares propose sizes, the inpainting model makes trials, CLIP judges them.
#
# **Next:** [01 The inpainting model](01_the_inpainting_model.ipynb) starts with the part that paints.
