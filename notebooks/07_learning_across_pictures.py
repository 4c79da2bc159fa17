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
# # 07 · Learning across pictures
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/learnable-regions/blob/main/notebooks/07_learning_across_pictures.ipynb)
#
# **You will** turn the region network, which so far began anew on every picture, into one network for all of them. It reads
# the picture and both texts, says where to edit, and the editor runs once. You write what it reads, the unit in which its losses
# count, what it is meant to say, and how sure it is; then you compare what searching and predicting cost, and what they give.
#
# | | |
# |---|---|
# | time | 2 minutes on a laptop without GPU (profile `tiny`), 75 with the five exercises |
# | memory | about 1.5 GB |
# | paper | goes beyond it: the paper learns on each picture ([section 3.2](https://arxiv.org/abs/2311.16432)) |
# | before | [05 Learning the region](05_learning_the_region.ipynb), [06 The whole method](06_the_whole_method.ipynb) |

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
pictures = 10  # how many are edited here, to learn from
boxes = 12  # edited of each
updates = 150  # of the network
seed = 42

# %% tags=["costs"]
from lr_helpers.costs import course

course.say("07", profile, pictures=pictures, boxes=boxes)

# %%
import json
from pathlib import Path

import torch
from torch.nn import functional as F

from lr_helpers import METHODS, checks, edit, learning, load_models, plots, predictor
from lr_helpers.across.asks import lessons
from lr_helpers.across.collect import tried
from lr_helpers.across.confidence import thresholds
from lr_helpers.across.train import chosen_loss
from lr_helpers.boxes import iou
from lr_helpers.files.canvas import Canvas
from lr_helpers.files.paths import DATA
from lr_helpers.files.pictures import to_tensor
from lr_helpers.method import OBJECTIVES

models = load_models(profile)
print(models.profile.title)

# %% [markdown]
# ## What changes
#
# | | on each picture ([05](05_learning_the_region.ipynb)) | across pictures (here) |
# |---|---|---|
# | the network sees | what the ViT sees in each box | that, and what CLIP makes of picture and texts |
# | it learns from | edits of this picture | edits of other pictures, made once |
# | at use | edits many boxes, learns, takes the best | one pass, then one edit |
# | what it knows afterwards | nothing: it starts anew | where such texts are edited in such pictures |
#
# The signal is the same: losses of edits that the frozen editor made. Nobody tells it where anything is.
#
# ## What will come out
#
# How often a network that was trained on so many pictures does the task, and finds the known region, on scenes that it has
# never seen. (*Hit*: its **IoU**, intersection over union, with the known box is at least 0.5: the area that both share,
# divided by the area of both together. *Task done*: the judge sees what was asked for, and no longer sees what was to go.
# Nothing of the kind was known in training.)

# %%
stored = json.loads((DATA / "studies" / "predictors.json").read_text(encoding="utf-8"))
names = next(iter(stored["means"].values()))  # as "400 pictures", "400 pictures, without texts"
counts = sorted(int(name.split()[0]) for name in names if "," not in name)
panels = {}
for title in ("replace, one object", "replace, two objects", "add, one object there"):
    points = [stored["means"][title][f"{count} pictures"] for count in counts]
    measures = {"task done": "success", "hit": "hit"}
    panels[title] = {
        said: [p[name] for p in points] for said, name in measures.items() if name in points[0]
    }
plots.show_bands(counts, panels, "training pictures");

# %% [markdown]
# The notebook makes the small beginning of these curves by itself, and then uses the network that the course ships: trained on
# as many pictures as stand at their end, for twice as long.
#
# ## 1. Pictures to learn from
#
# A few pictures, each with a source and a prompt: things to replace, to add and to remove. In each of them the editor fills
# some boxes, in few steps: some that the edit-free terms of notebook 04 like best, the others drawn at random.

# %%
*asked, unseen = lessons(models.profile, pictures + 1)
views, tables = [], []
for number, one in enumerate(asked):
    canvas = Canvas(one.picture, models.editor.size)
    view, table = tried(
        models, canvas, one.source, one.prompt, f"lesson {number}", boxes, models.profile.few
    )
    views.append(view)
    tables.append(table)

# %% [markdown]
# What is to be low? The loss by which `learned` searches: of the edit it asks whether the picture shows the prompt, changed as
# the text did and lost the source (notebook 04); of the box, whether the source is in it (notebook 06). Where something is
# added, the source is the place that it is added to. In orange, the box with the lowest sum. (The network that the course ships
# learned from this loss and, unless something is to be added, 4 times the box's share of the picture: of two boxes that do, the
# smaller.)

# %%
weights = OBJECTIVES["learned"]


def terms_of(table) -> dict[str, torch.Tensor]:
    """Each term of a picture's N boxes, (N,)."""
    return {name: values[:, 0] for name, values in table.terms.items()}

# %%
best = [int(predictor.weighed(terms_of(table), weights).argmin()) for table in tables]
plots.show_pictures(
    [one.picture for one in asked],
    [f"{one.source} → {one.prompt}" for one in asked],
    columns=4,
    boxes=[table.boxes[i, 0].tolist() for table, i in zip(tables, best)],
    side=2.4,
);

# %% [markdown]
# Look at them one by one: some lie on the right thing, some don't. Single losses are noisy. One network that has to explain
# all pictures at once can't follow the noise of each, and that is the hope of this notebook.
#
# ## 2. What the network reads
#
# The ViT knows where things are, but not what they are called. CLIP's patches lie in the space of its texts: the cosine of a
# patch with a text says how much it looks like that. (How high cosines are differs between CLIPs, so only what stands out *in this
# picture* counts.)
#
# **Exercise 1** ★★☆ · 10 minutes. Write the map of each text.

# %% tags=["solution"]
def text_maps(patches: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
    """Where a picture looks like each text.

    (D, h, w) patches and (T, D) texts, vectors of any length (norm) → (T, h, w): the cosine of each
    patch with each text, then each map standardised over the picture: minus its mean, divided by
    (its standard deviation, `std(correction=0)`, + 1e-6).
    """
    cosines = torch.einsum(
        "td,dhw->thw", F.normalize(texts, dim=1), F.normalize(patches, dim=0)
    )
    mean = cosines.mean((1, 2), keepdim=True)
    return (cosines - mean) / (cosines.std((1, 2), keepdim=True, correction=0) + 1e-6)


# %% tags=["nbval-check-output"]
checks.text_maps(text_maps)

# %%
first = 0
source_map, prompt_map = text_maps(views[first].patches, views[first].texts)
plots.show_panels(
    {
        f"{asked[first].source} → {asked[first].prompt}": to_tensor(asked[first].picture),
        "the ViT's attention": views[first].attention,
        "looks like the source": source_map,
        "looks like the prompt": prompt_map,
    }
);

# %% [markdown]
# Each map should be bright where the picture shows what its text says; if the prompt is not in the picture yet, its map may be
# bright anywhere.
#
# All of this goes into a small network: the ViT's features, its attention, these maps, and the products of patch and text,
# channel by channel, whose sums are the cosines. Two convolutions, whose channels the texts scale and shift, read the picture;
# RoIAlign (notebook 03) reads the result inside each box *and around it*; and a few layers give each box a logit. Here is our
# package's, untrained, with one logit for each box that was edited in the first picture.

# %% tags=["nbval-check-output"]
def new_network() -> predictor.RegionPredictor:
    torch.manual_seed(seed)
    view = views[0]
    return predictor.RegionPredictor(view.features.shape[0], view.texts.shape[1])


network = new_network()
print("weights:", f"{sum(p.numel() for p in network.parameters()):,}")
print("logits of the first picture:", tuple(network(views[0], tables[0].boxes[:, 0]).shape))

# %% [markdown]
# ## 3. One unit for all pictures
#
# In one picture the losses of its boxes differ by much, because an object is replaced or it isn't. In another, an empty one
# that something is added to, any place will do, and most of what differs is noise. If each picture's losses were divided by
# their *own* deviation, that noise would count as much as the signal of the others. So divide all of them by the *mean* deviation.
#
# **Exercise 2** ★☆☆ · 10 minutes. Write this common unit.

# %% tags=["solution"]
def common_scale(losses: list[torch.Tensor]) -> float:
    """The unit in which losses count: the mean, over the pictures, of the deviation among a
    picture's boxes.

    `losses`: a tensor (N,) for each picture, with any N of its own. The deviation is that of
    `std(correction=0)`.
    """
    deviations = [float(one.std(correction=0)) for one in losses]
    return sum(deviations) / len(deviations)


# %% tags=["nbval-check-output"]
checks.common_scale(common_scale)

# %%
direction = [terms_of(table)["direction"] for table in tables]
unit = common_scale(direction)
plots.show_points(
    {
        f"{number}\n{one.title}": ((losses - losses.mean()) / unit).tolist()
        for number, (one, losses) in enumerate(zip(asked, direction), 1)
    },
    "direction loss, in the common unit",
    "how far apart the losses of a picture's boxes are",
);

# %% [markdown]
# The wider a column of points, the more that picture has to teach.
#
# ## 4. What the network is meant to say
#
# As in notebook 05 the network is trained by the *expected loss*, minus a bonus of $T$ times the entropy:
#
# $$\sum_n π_n L_n + T \sum_n π_n \log π_n$$
#
# For one picture, and with logits that are free to take any value, what is best can be written down: set the gradient with
# respect to the logits to 0, as in notebook 05, and you find it. Boxes that are equally good share the probability; $T$ says
# what counts as equal.
#
# **Exercise 3** ★★☆ · 10 minutes. Write what the network is meant to say.

# %% tags=["solution"]
def wished(losses: torch.Tensor, temperature: float) -> torch.Tensor:
    """(N,) losses → the (N,) probabilities with the lowest expected loss minus `temperature` times
    the entropy.
    """
    return (-losses / temperature).softmax(0)


# %% tags=["nbval-check-output"]
checks.wished(wished)

# %% [markdown]
# Is that really where training goes? Let a network learn *one* picture by heart, and compare; three times, with three pictures.

# %%
scales = predictor.common_scales([terms_of(table) for table in tables], weights)
examples = [
    predictor.Example(view, table.boxes[:, 0], predictor.weighed(terms_of(table), weights, scales))
    for view, table in zip(views, tables)
]
temperature = 0.3  # T
how = {
    "estimator": learning.Expectation(),
    "steps": updates,
    "scale": 1.0,
    "temperature": temperature,
}

# %%
panels = {}
for one, example in zip(asked[:3], examples):
    by_heart = new_network()
    predictor.fit(by_heart, [example], dropout=0.0, **how)
    with torch.no_grad():
        said = by_heart(example.view, example.boxes).softmax(0)
    panels[f"{one.source} → {one.prompt}"] = {"boxes": (wished(example.losses, temperature), said)}
plots.show_against(panels, "wished: softmax(−loss / T)", "said by the network");

# %% [markdown]
# Points on the dotted line mean that it says what it should.
#
# ## 5. Learning from several, and by heart
#
# Now on all but three of the pictures, which are kept back. At every tenth update: the loss of the box that the network likes best,
# in deviations of the picture's losses (0 is what a box drawn at random has on average).

# %%
own, kept_back = examples[:-3], examples[-3:]
network, books = new_network(), {"learned from": [], "kept back": []}


def write_down(step: int, loss: float) -> None:
    """The chosen box's loss so far."""
    if step % 10 == 0:
        network.eval()
        for name, group in (("learned from", own), ("kept back", kept_back)):
            books[name].append(chosen_loss(network, group)["chosen"])
        network.train()

# %%
predictor.fit(network, own, on_step=write_down, **how)
curves = {name: [values] for name, values in books.items()}
plots.show_curves(curves, "updates / 10", "loss of the chosen box");

# %% [markdown]
# The pictures that it has seen are soon known by heart. About those that it hasn't seen it knows less, or nothing: a few pictures
# teach little that holds for others. That is why the network has to be small, why a fifth of its channels are left out
# while it learns, and above all why it needs more pictures than ten. The figure at the beginning says how many help: with more
# pictures each panel rises, up to about a thousand; what four times as many add, thirty scenes a panel don't show.
#
# ## 6. Where would it edit?
#
# The course ships a network that was trained by this very recipe on many pictures: `python -m lr_helpers train-regions`
# (see [Learning across pictures](../docs/across.md)). With a profile that has none, the one from above has to do.

# %% tags=["nbval-check-output"]
shipped = models.profile.regions.exists()
if not shipped:
    network.trained_on = predictor.models_of(models)
    file = Path("../results/07_learning_across_pictures/regions.safetensors")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(network.to_bytes())
    models.profile = models.profile.but(regions=file)
network = predictor.predictor_of(models)
print(f"trained on {network.card['pictures']}" if shipped else "the network from above")

# %%
texts = unseen.source, unseen.prompt
result = edit(models, unseen.picture, *texts, METHODS["predicted"], seed=seed, progress=False)
plots.show_prediction(result);

# %%
plots.show_before_after(result);

# %% [markdown]
# ## 7. How sure is it?
#
# The network's probabilities are spread over hundreds of boxes, so that of the best is small even where the place is clear: many boxes lie
# there. Two boxes whose IoU is ½ or more count as the same place, and its **confidence** is the probability of the first place.
#
# **Exercise 4** ★☆☆ · 10 minutes. Write how probable the first place is.

# %% tags=["solution"]
def confidence(boxes: torch.Tensor, probabilities: torch.Tensor) -> float:
    """How probable the place of the most probable box is.

    (N, 4) boxes (x0, y0, x1, y1), end exclusive, and their (N,) probabilities, in any order → the
    sum of the probabilities of all boxes whose IoU with the most probable one is at least ½, itself
    included.
    """
    overlap = iou(boxes[probabilities.argmax()], boxes)
    return float(probabilities[overlap >= 0.5].sum())


# %% tags=["nbval-check-output"]
checks.confidence(confidence)

# %% [markdown]
# Where it isn't sure, a few places can be edited, and the loss decides between *edits* again. They should be different places, not
# four boxes that hardly differ.
#
# **Exercise 5** ★★☆ · 15 minutes. Find the most probable boxes at different places.

# %% tags=["solution"]
def places(boxes: torch.Tensor, probabilities: torch.Tensor, count: int) -> list[int]:
    """The most probable boxes at different places.

    (N, 4) boxes (x0, y0, x1, y1), end exclusive, and their (N,) probabilities, perhaps 0 → the
    indices of at most `count` of them, the most probable first: each the most probable box whose
    IoU with every one before it is below ½.
    """
    taken: list[int] = []
    for i in probabilities.argsort(descending=True).tolist():
        apart = all(iou(boxes[i], boxes[j]) < 0.5 for j in taken)
        if apart and len(taken) < count:
            taken.append(i)
    return taken


# %% tags=["nbval-check-output"]
checks.places(places)

# %% tags=["nbval-check-output"]
different, where = torch.unique(result.boxes.reshape(-1, 4), dim=0, return_inverse=True)
chances = torch.zeros(len(different))
chances[where] = result.probabilities.flatten()
four = places(different.float(), chances, 4)
mine = confidence(different.float(), chances)
print(f"confidence {mine:.2f}, the package says {result.confidence:.2f}")

# %%
plots.show_nested(result.picture, [different[four]], ["four places"]);

# %% [markdown]
# Does the confidence mean what it says? For the study's choices, sorted by confidence: how often was the place right?

# %%
# An addition has no true box: a row of nothing else is left out.
rows = stored["calibration"][f"{counts[-1]} pictures"].items()
calibration = {title: row for title, row in rows if "hit" in row}
bars = {
    said: [row[name] for row in calibration.values()]
    for said, name in (("hit", "hit"), ("task done", "success"))
}
plots.show_bars(list(calibration), bars, "confidence", "share, with 95 % interval");

# %% [markdown]
# The preset `fast` puts both together: one edit where the network is confident, else up to four places, edited in few steps,
# of which the best is finished. From where on is it confident? On scenes that no study reports on, each picture was edited
# both ways. From left to right, fewer pictures are left at one edit.

# %%
both_ways = json.loads((DATA / "studies" / "confidence.json").read_text(encoding="utf-8"))
thresholds(both_ways);

# %% [markdown]
# Trying always, at the right, finds fewer regions than trying never, at the left: a trial edit is one draw of noise, and the
# network has averaged over thousands. The preset takes 0.5: others are tried where the first place is less likely than not.
#
# ## 8. To search or to predict
#
# The three ways side by side on the same picture, with what each costs.

# %%
ways = {
    name: edit(models, unseen.picture, *texts, METHODS[name], seed=seed, progress=False)
    for name in ("predicted", "fast", "learned")
}
plots.show_pictures(
    [unseen.picture, *(one.image for one in ways.values())],
    [f"{unseen.source} → {unseen.prompt}"]
    + [f"{name}: {one.cost['denoiser_evaluations']} evaluations" for name, one in ways.items()],
    columns=4,
    boxes=[None, *(one.box for one in ways.values())],
    side=2.4,
);

# %% [markdown]
# One picture proves nothing. The same over the test scenes of the study ([notebook 08](08_reproduction.ipynb) says how it is measured):

# %% tags=["nbval-check-output"]
regions = json.loads((DATA / "studies" / "regions.json").read_text(encoding="utf-8"))
rows = ("predicted", "fast", "learned", "known_region")
for title, means in regions["means"].items():
    print(title)
    for name in (n for n in rows if n in means):
        done, spent = means[name]["success"], means[name]["evaluations"]["value"]
        interval = f"{done['low']:.2f} to {done['high']:.2f}"
        print(f"  {name:14} task done {done['value']:.2f} ({interval}), {spent:4.0f} evaluations")

# %% [markdown]
# ## What is worth what
#
# Each thing that the network sees was left out once, all else the same, and once all that it knows of the words: the texts and
# CLIP's patches, which lie in the same space.

# %%
whole = f"{counts[-1]} pictures"
shown = {whole: whole} | {name: name.split(", ")[1] for name in names if "without" in name}
replaced = {
    title: means for title, means in stored["means"].items() if title.startswith("replace")
}
plots.show_measures(replaced, shown, ("hit", "success"));

# %% [markdown]
# A single input is hardly missed: what one tells, another tells too, and thirty scenes a row show only large differences.
# Without any knowledge of the words it can only say what usually is edited. How it *adds* then shows that best:

# %% tags=["nbval-check-output"]
for name, said in shown.items():
    done = stored["means"]["add, one object there"][name]["success"]
    interval = f"{done['value']:.2f} [{done['low']:.2f}, {done['high']:.2f}]"
    print(f"added beside an object, {said:28} {interval} of {done['count']}")

# %% [markdown]
# ## What we learned
#
# * A network that is trained on *one* picture has to be paid for on each. Trained *across* pictures, it is paid for once.
# * It has to know what the words mean, by the texts or by CLIP's patches: without both it edits what is there, where something
#   should be added beside it.
# * Losses of single edits are noisy; over many pictures the noise averages out, if all losses count in one unit.
# * Its confidence says how likely the *place* is right. That more places are worth their edits, these scenes hardly show.
#
# **Next:** [08 Reproduction](08_reproduction.ipynb): the paper's claims as measurements.
