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
# # 01 · The inpainting model
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/learnable-regions/blob/main/notebooks/01_the_inpainting_model.ipynb)
#
# **You will** load a pre-trained inpainting model, give it a picture, a mask and a sentence, write its
# denoising loop yourself, and see what each of its knobs does. The model stays frozen through the whole
# course: everything we learn later is *where* to let it work.
#
# | | |
# |---|---|
# | time | about 1 minute to run on a laptop without GPU (profile `tiny`), 60 minutes with the exercises |
# | memory | about 1.5 GB |
# | paper | section 3.1 and figure 2 of [Text-Driven Image Editing via Learnable Regions](https://arxiv.org/abs/2311.16432) |
# | before | nothing |
#
# The pictures come from the **emoji world**: scenes in three drawing styles, of which we know every object and its box.
# The models are miniatures, really trained on that world and stored in the formats of the real ones, so
# the same notebook runs on Stable Diffusion if you set `profile = "sd2"` below.

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
target = "apple"    # the one word for it that the judge should say
seed = 42
scenes = 12         # how many pictures the measurement at the end takes

# %% tags=["costs"]
from lr_helpers.costs import course

course.say("01", profile, scenes=scenes)

# %%
import ipywidgets
import torch
from torch.nn import functional as F

from lr_helpers import checks, load_models, plots
from lr_helpers.files.pictures import to_tensor
from lr_helpers.plots import show_pictures
from lr_helpers.course.samples import sample, square
from lr_helpers.course.skipping import only_if
from lr_helpers.course.widgets import explore
from tiny_world.scenes import scene

models = load_models(profile)
editor, pipeline = models.editor, models.editor.pipeline
emoji = models.words is not None  # else the models know the world, and look at photographs
models.origins

# %% [markdown]
# ## A picture whose contents we know
#
# This is scene 61074 of the emoji world. The number is the seed of a recipe, from which the picture can be drawn again
# at any time. Seeds below 1,000,000 were kept away from every training.

# %%
from PIL import Image

main = sample(models.profile)  # that scene; a photograph for models that know the world
size = models.profile.size
picture, truth = square(main, size)
main.title

# %% [markdown]
# ## Mask + prompt → edit
#
# A mask says where the model may paint: 1 inside, 0 outside. Here it is the known box of the object,
# with a little room around it.

# %%
from lr_helpers.boxes import box_mask

room = 3 * size // 64
box = [max(0, v - room) for v in truth[:2]] + [min(size, v + room) for v in truth[2:]]
mask = box_mask(box, size, size)
masked = picture * (1 - mask) + 0.5 * mask

# %% tags=["nbval-check-output"]
print("picture", tuple(picture.shape), " mask", tuple(mask.shape), " box", box)
print(f"share of the picture that may change: {mask.mean():.2f}")

# %% [markdown]
# One call, and the model paints what the prompt says where the mask is 1.

# %%
frame = editor.inpaint(picture, mask[None], prompt, seed=seed)[0]
show_pictures([picture, mask.expand(3, -1, -1), masked, frame],
              ["picture", "mask", "what the model sees", f"its frame for “{prompt}”"], side=2.3);

# %% [markdown]
# ## The frame and the edit
#
# The model returns a whole *frame*, and its background is not quite yours: it went through an autoencoder.
# So an *edit* takes the inside of the mask from the frame and everything else from the picture:
#
# $$X_o = m \cdot X_{frame} + (1 - m) \cdot X$$
#
# **Exercise 1** ★☆☆ · 5 minutes. Write it. The mask has one channel, the pictures have three, and the mask
# may be soft (values between 0 and 1).

# %% tags=["solution"]
def my_composite(frame: torch.Tensor, image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """What the model painted inside the mask, the picture outside.

    `frame`, `image`: (3, H, W) or (N, 3, H, W) in 0..1. `mask`: (1, H, W) or (N, 1, H, W) in 0..1,
    1 = take the frame. One picture or mask may stand for N frames. Returns the shape of `frame`.
    """
    return mask * frame + (1 - mask) * image

# %% tags=["nbval-check-output"]
checks.composite(my_composite)

# %% [markdown]
# Outside the box, every pixel now stays as it was. That is exact, not nearly so.

# %% tags=["nbval-check-output"]
edited = my_composite(frame, picture, mask)
outside = (1 - mask).bool().expand_as(picture)
print("the frame differs outside the box:", bool((frame - picture)[outside].abs().max() > 0.01))
print(f"largest change outside the box, of the edit: {(edited - picture)[outside].abs().max():.1f}")

# %% [markdown]
# ## What the denoiser is given
#
# The model doesn't work on pixels. An autoencoder shrinks the picture to *latents*: fewer pixels, more
# channels (4 in Stable Diffusion). A *denoiser* (a UNet) starts from latents of pure noise and cleans them step by step.
# (Not all models do: aMUSEd, the profile `amused`, fills in masked tokens, and Z-Image, the profile `zimage`, is given no
# mask: after every step, the picture's own latents take their place outside it. The cells that look into the loop are
# skipped there.)

# %% tags=["nbval-check-output"]
if only_if(editor.denoises_latents, "its denoiser is given no mask, so its loop is another one"):
    latents = editor.encode(picture[None])
    print("picture", tuple(picture[None].shape), "→ latents", tuple(latents.shape))
    print(
        "channels into the denoiser:",
        pipeline.unet.config.in_channels,
        " out:",
        pipeline.unet.config.out_channels,
    )

# %% [markdown]
# If latents have $C$ channels, $2C + 1$ go in: $C$ of the noisy latents, 1 of the mask, and $C$ of the *masked* picture's
# latents. So the denoiser never sees what is under the mask. It can't know what was there.
#
# **Exercise 2** ★★☆ · 10 minutes. Put these channels together, in this order. The mask comes in pixels;
# shrink it to the size of the latents by the nearest pixel (`F.interpolate` does it).

# %% tags=["solution"]
def denoiser_input(noisy: torch.Tensor, mask: torch.Tensor, masked: torch.Tensor) -> torch.Tensor:
    """The channels of an inpainting denoiser: noisy latents, mask, latents of the masked picture.

    `noisy`, `masked`: (N, C, h, w). `mask`: (N, 1, H, W) in pixels, 1 = paint here. Returns
    (N, 2 C + 1, h, w).
    """
    small = F.interpolate(mask, size=noisy.shape[-2:])
    return torch.cat([noisy, small, masked], dim=1)

# %% tags=["nbval-check-output"]
checks.denoiser_input(denoiser_input)

# %% [markdown]
# Here are the channels at the first step, when the noisy latents are nothing but noise. The noise comes
# from the seed; the same seed gives the same noise.

# %%
if only_if(editor.denoises_latents, "its denoiser is given no mask, so its loop is another one"):
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(latents.shape, generator=generator).to(latents)
    masked_latents = editor.encode(masked[None], generator)

    given = denoiser_input(noise, mask[None].to(noise), masked_latents)[0].float().cpu()
    views = [(c - c.min()) / (c.max() - c.min()).clamp(min=1e-6) for c in given]
    channels = range(noise.shape[1])
    names = [f"noise {i}" for i in channels] + ["mask"] + [f"masked {i}" for i in channels]
    show_pictures([v.expand(3, -1, -1) for v in views], names, columns=9, side=1.05)

# %% [markdown]
# ## Guidance
#
# At every step the model is asked twice: once with the prompt, once without. With $v_T$ and $v_\varnothing$ for the
# answers with and without prompt, the step goes along their difference, by a factor, the *guidance scale* $s$:
#
# $$v = v_\varnothing + s\,(v_T - v_\varnothing)$$
#
# With $s = 1$ that is simply the answer to the prompt.
#
# **Exercise 3** ★☆☆ · 5 minutes.

# %% tags=["solution"]
def guide(unconditional: torch.Tensor, conditional: torch.Tensor, scale: float) -> torch.Tensor:
    """Classifier-free guidance.

    `unconditional`, `conditional`: predictions without and with the prompt, of any same shape.
    `scale`: guidance scale, any number from 0 on, 1 = no push. Returns that shape.
    """
    return unconditional + scale * (conditional - unconditional)

# %% tags=["nbval-check-output"]
checks.guide(guide)

# %% [markdown]
# ## The denoising loop
#
# A *scheduler* says at which noise levels to stop (`timesteps`) and how to go from one to the next (`step`).
# The loop around it is all there is to sampling.
#
# **Exercise 4** ★★★ · 20 minutes. Write the loop. `predict` is the denoiser; the check puts another one in its
# place, and other schedulers. Some schedulers want to scale what the denoiser sees:
# `scheduler.scale_model_input(latents, time)`.

# %% tags=["solution"]
def denoise(predict, scheduler, latents: torch.Tensor, steps: int, scale: float) -> torch.Tensor:
    """From noise to clean latents.

    `predict(scaled_latents, time, with_prompt)` returns the denoiser's prediction, with the prompt
    or without (`with_prompt` is True or False). `scheduler`: a diffusers scheduler;
    `set_timesteps(steps)` first, then go through `timesteps`, which may be more than `steps`;
    `step(prediction, time, latents).prev_sample` are the next latents. `latents`: (N, C, h, w)
    noise to start from, already multiplied by `scheduler.init_noise_sigma`. `scale`: guidance
    scale. Returns the last latents, of the same shape.
    """
    scheduler.set_timesteps(steps)
    for time in scheduler.timesteps:
        scaled = scheduler.scale_model_input(latents, time)
        prediction = guide(predict(scaled, time, False), predict(scaled, time, True), scale)
        latents = scheduler.step(prediction, time, latents).prev_sample
    return latents

# %% tags=["nbval-check-output"]
checks.denoise(denoise)

# %% [markdown]
# Now with the real denoiser. Texts go in as embeddings; *without prompt* means the embedding of an empty text.
# (`editor.predict` asks the UNet. It passes on the embedding, and whatever else this family of models expects.) On the
# way we keep what the latents would look like, decoded.

# %%
strip = []


def predict(scaled_latents, time, with_prompt):
    if with_prompt:
        strip.append(editor.decode(scaled_latents)[0])
    in_pixels = mask[None].to(scaled_latents)
    given = denoiser_input(scaled_latents, in_pixels, masked_latents)
    return editor.predict(given, time, texts, with_prompt)


if only_if(editor.denoises_latents, "its denoiser is given no mask, so its loop is another one"):
    with torch.no_grad():
        texts = editor.texts(prompt)
    clean = denoise(predict, pipeline.scheduler, noise * pipeline.scheduler.init_noise_sigma,
                    editor.steps, editor.guidance)

# %%
if only_if(editor.denoises_latents, "its denoiser is given no mask, so its loop is another one"):
    strip.append(editor.decode(clean)[0])
    shown = [round(i * (len(strip) - 1) / 6) for i in range(7)]
    show_pictures(
        [strip[i] for i in shown], [f"after {i} steps" for i in shown], columns=7, side=1.4
    )

# %% [markdown]
# From noise to a picture, and the same picture that the library's pipeline makes. (Not with `sdxl`: its pipeline leaves
# out the first step and begins with the picture's own latents under noise. Nor with `sd15_lcm`, whose sampler adds new
# noise at every step.)

# %% tags=["nbval-check-output"]
if only_if(editor.denoises_latents, "its denoiser is given no mask, so its loop is another one"):
    mine = my_composite(strip[-1].clamp(0, 1), picture, mask)
    theirs = editor.edit(picture, [box], prompt, seed=seed)[0]
    print(
        f"largest difference between your loop and the pipeline: {(mine - theirs).abs().max():.2f}"
    )

# %% [markdown]
# ## What it costs
#
# The unit of cost in this course is the *denoiser evaluation*: one picture once through the UNet. Seconds
# depend on the machine, evaluations don't.
#
# **Exercise 5** ★☆☆ · 5 minutes. How many does it take? (The pipeline skips the question without prompt
# where it would have no effect: at a guidance scale of 1 or less.)

# %% tags=["solution"]
def count_evaluations(edits: int, steps: int, guidance: float) -> int:
    """Denoiser evaluations of `edits` edits of `steps` steps each, at this guidance scale."""
    return edits * steps * (2 if guidance > 1 else 1)

# %% tags=["nbval-check-output"]
checks.count_evaluations(count_evaluations)

# %% tags=["nbval-check-output"]
before = editor.evaluations
editor.edit(picture, [box, box, box], prompt, seed=seed, steps=4)
print(
    "counted:", editor.evaluations - before, " computed:", count_evaluations(3, 4, editor.guidance)
)
print("the official code, one image:", count_evaluations(9 * 11, 50, 7.5))

# %% [markdown]
# Nine thousand nine hundred evaluations for one image: nine edits in each of ten iterations, nine more at the
# end, 50 steps each, and two questions a step. Keep this number in mind.
#
# ## The knobs
#
# **Seed.** Other noise to start from. How much it changes depends on how much the prompt leaves open. In this
# course all edits of one picture share the same noise, so that they differ by their region alone.

# %%
by_seed = [editor.edit(picture, [box], prompt, seed=s)[0] for s in range(6)]
show_pictures(by_seed, [f"seed {s}" for s in range(6)], side=1.5);

# %% [markdown]
# **Steps.** More steps follow the path from noise to picture more closely, and the price grows with each of them.
# From how many on do you see no difference?

# %%
counts = (1, 2, 4, 8, 16)
by_steps = [editor.edit(picture, [box], prompt, seed=seed, steps=n)[0] for n in counts]
costs = [f"{n} steps\n{count_evaluations(1, n, editor.guidance)} evaluations" for n in counts]
show_pictures(by_steps, costs, side=1.7);

# %% [markdown]
# **Guidance.** At 1 nothing pushes further towards the prompt. Too much overdoes colours and contrast.

# %%
scales = (1.0, 2.0, 4.0, 7.5, 15.0)
by_guidance = [editor.edit(picture, [box], prompt, seed=seed, guidance=g)[0] for g in scales]
show_pictures(by_guidance, [f"guidance {g:g}" for g in scales], side=1.7);

# %% [markdown]
# **Prompt.** It is the same picture, mask and noise; only the sentence changes.

# %%
prompts = ("an apple", "a cake", "a penguin", "a tree", "a strawberry", "a gift")
by_prompt = [editor.edit(picture, [box], p, seed=seed)[0] for p in prompts]
show_pictures(by_prompt, [f"“{p}”" for p in prompts], side=1.5);

# %% [markdown]
# Which knob matters most? Take two pictures of a row: how different are they inside the box, on average over pixels
# and pairs? A small number is a knob that this model hardly feels. A miniature that has seen few kinds of pictures
# leaves the noise little to decide.

# %%
def spread(edits: list[torch.Tensor]) -> float:
    """Mean difference of two of these pictures inside the box, 0..1."""
    x0, y0, x1, y1 = box
    inside = torch.stack(edits)[..., y0:y1, x0:x1]
    one, other = torch.combinations(torch.arange(len(edits))).T
    return float((inside[one] - inside[other]).abs().mean())


rows = {"seed": by_seed, "steps": by_steps, "guidance": by_guidance, "prompt": by_prompt}
for name, edits in rows.items():
    print(f"{name:9} {spread(edits):.3f}")

# %% [markdown]
# Play with all of them. (In a notebook that isn't running, the sliders are dead and the picture stays.)

# %%
def draw_knobs(seed, steps, guidance):
    edit = editor.edit(picture, [box], prompt, seed=seed, steps=steps, guidance=guidance)[0]
    return show_pictures(
        [picture, edit], ["picture", f"seed {seed}, {steps} steps, guidance {guidance:g}"], side=2.3
    )


explore(draw_knobs, seed=ipywidgets.IntSlider(seed, 0, 99),
        steps=ipywidgets.IntSlider(editor.steps, 1, 50),
        guidance=ipywidgets.FloatSlider(value=editor.guidance, min=1, max=15, step=0.5))

# %% [markdown]
# ## Why the region matters
#
# The same prompt and the same noise, several regions. Ask of each: is the new object whole, is the old one gone, is
# the rest as it was? A region that is too small has no room for the object, and the old one peeps out. One that is
# too large changes the background too. In a flat or thin one the object doesn't fit, and in the wrong place the old
# object stays. This is the paper's figure 2 in our world, and the reason for everything that follows.

# %%
x0, y0, x1, y1 = box
width, height, rim = x1 - x0, y1 - y0, size // 20
aside = 2 * width // 3 if x0 + x1 < size else -2 * width // 3  # to the side that has more room
left, top = (0 if a + b > size else size - (b - a) for a, b in ((x0, x1), (y0, y1)))
tried = {
    "the object's box": box,
    "too small": [x0 + width // 3, y0 + height // 3, x1 - width // 3, y1 - height // 3],
    "shifted": [max(0, x0 + aside), y0, min(size, x1 + aside), y1],
    "elsewhere": [left, top, left + width, top + height],
    "too large": [rim, rim, size - rim, size - rim],
    "flat": [x0, y0 + height // 3, x1, y1 - height // 3],
    "thin": [x0 + width // 3, y0, x1 - width // 3, y1],
}
edits = editor.edit(picture, list(tried.values()), prompt, seed=seed)
show_pictures(list(edits), list(tried), columns=7, boxes=list(tried.values()), side=1.4);

# %% [markdown]
# A few pictures are an impression; let us measure. Over several scenes we put squares of growing size on the
# object's middle and ask an independent *judge*, a small classifier that no method ever sees: is the new
# object there?

# %%
from lr_helpers.boxes import square_around
from tiny_world import SIZE, judge
from lr_helpers.intervals import rate

def one_object(seed: int):
    """A scene with one object that isn't the target; None if the seed draws the target itself."""
    drawn = scene(seed, count=1)
    return None if drawn.objects[0].name == target else drawn

# %%
shares, right = (0.2, 0.3, 0.4, 0.55, 0.7, 0.85), []
if only_if(emoji, "the judge knows nothing but emoji"):
    asked, scale = judge.load(), size / SIZE
    drawn = [one_object(3000 + i) for i in range(2 * scenes)]
    cases = [case for case in drawn if case is not None][:scenes]
    pictures = torch.stack([to_tensor(Image.fromarray(c.render()), size) for c in cases])
    middles = [
        ((b[0] + b[2]) / 2 * scale, (b[1] + b[3]) / 2 * scale)
        for b in (c.objects[0].box for c in cases)
    ]
    for share in shares:
        boxes = [square_around(*m, share * size, size) for m in middles]
        masks = torch.stack([box_mask(b, size, size) for b in boxes])
        edits = my_composite(editor.inpaint(pictures, masks, prompt, seed=seed), pictures, masks)
        right.append(sum(name == target for name in asked.name(edits, boxes)))

# %%
rates = [rate(n, scenes) for n in right]
if only_if(emoji, "nothing was judged"):
    plots.show_bands(shares, {f"{scenes} scenes": {"the judge sees the new object": rates}},
                     "side of the region / side of the picture")

# %% tags=["nbval-check-output"]
for share, r in zip(shares, rates) if only_if(emoji, "nothing was judged") else ():
    print(f"side {share:.2f}: {r['value']:.2f} [{r['low']:.2f}, {r['high']:.2f}] of {scenes}")

# %% [markdown]
# The band is the 95 % interval: with so few scenes it is wide. Does the size alone decide here? It does between two
# sizes whose bands do not meet; where they overlap, so few scenes cannot tell. And this judge asks only for the new
# object: what became of the old one, and of the background, is another question.
#
# ## What we learned
#
# * An inpainting model is a function of picture, mask, prompt, steps, guidance and seed.
# * Its denoiser gets noise, mask and masked picture, and never sees what is under the mask; a short loop around it is all of sampling.
# * Once its frame is pasted back through the mask, nothing outside has changed.
# * Cost is counted in denoiser evaluations: edits × steps × 2 with guidance.
# * Its result stands and falls with the region. Nobody has told us the region yet.
#
# **More to try.** ★★☆ Guidance doubles the price. Call `denoise` with a `predict` that in the second half of the steps
# asks the model once a step, with prompt, and gives this answer to both questions: what do you save, what do you lose?
# ★★★ Give `editor.inpaint` a round mask instead of a box, and paste with it.
#
# **Next:** [02 Where could we edit?](02_where_could_we_edit.ipynb) looks for places in the picture itself.
