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
# **You will** load a pre-trained inpainting model, give it a picture, a mask and a sentence, and see
# what each of its knobs does. It stays frozen through the whole course: everything we learn later is
# *where* to let it work.
#
# | | |
# |---|---|
# | time | about 1 minute on a laptop without GPU (profile `tiny`) |
# | memory | about 1 GB |
# | paper | section 3.1 and figure 2 of [Text-Driven Image Editing via Learnable Regions](https://arxiv.org/abs/2311.16432) |
# | before | nothing |
#
# The pictures come from the **emoji world**: small scenes of which we know every object and its box.
# The models are miniatures, really trained on that world and stored in the formats of the real ones, so
# the same notebook runs on Stable Diffusion if you set `profile = "sd2"` below.

# %% tags=["parameters"]
import os

profile = os.environ.get("LR_PROFILE", "tiny")  # which models; see data/models.toml
prompt = "an apple"
seed = 42

# %%
import torch

from lr_helpers import load_models
from lr_helpers.images import to_tensor
from lr_helpers.plots import show_pictures
from tiny_world.scenes import scene

models = load_models(profile)
models.sources

# %% [markdown]
# ## A picture whose contents we know
#
# Scene 2477 of the emoji world, a recipe from which the picture can be drawn again at any time. Seeds below
# 1,000,000 were kept away from every training.

# %%
from PIL import Image

recipe = scene(2477, count=1)
size = models.profile.size
picture = to_tensor(Image.fromarray(recipe.render()), size)
recipe.caption()

# %% [markdown]
# ## Mask + prompt → edit
#
# A mask says where the model may paint: 1 inside, 0 outside. Here it is the known box of the object,
# with a little room around it.

# %%
from lr_helpers.boxes import box_mask

scale = size / 64
x0, y0, x1, y1 = recipe.objects[0].box
box = [int(max(0, v - 3) * scale) for v in (x0, y0)] + [int(min(64, v + 3) * scale) for v in (x1, y1)]
mask = box_mask(box, size, size)
masked = picture * (1 - mask) + 0.5 * mask

# %% tags=["nbval-check-output"]
print("picture", tuple(picture.shape), " mask", tuple(mask.shape), " box", box)
print(f"share of the picture that may change: {mask.mean():.2f}")

# %%
frame = models.editor.inpaint(picture, mask[None], prompt, seed=seed)[0]
show_pictures([picture, mask.expand(3, -1, -1), masked, frame],
              ["picture", "mask", "what the model sees", f"its frame for “{prompt}”"], side=2.3);

# %% [markdown]
# The denoiser never sees what is under the mask. At every step it gets **nine channels**: 4 of the noisy
# latents, 1 of the mask, 4 of the masked picture's latents. Latents are what the autoencoder makes of
# a picture: fewer pixels, four channels.

# %% tags=["nbval-check-output"]
pipeline = models.editor.pipeline
with torch.no_grad():
    latents = pipeline.vae.encode(picture[None].to(pipeline.device, pipeline.dtype) * 2 - 1).latent_dist.mode()
print("picture", tuple(picture[None].shape), "→ latents", tuple(latents.shape))
print("channels into the denoiser:", pipeline.unet.config.in_channels, " out:", pipeline.unet.config.out_channels)

# %% [markdown]
# ## The frame and the edit
#
# The model returns a whole frame, and its background is not quite yours: it went through the autoencoder.
# So `edit` pastes the inside of the box back. Outside the box, every pixel stays as it was.

# %% tags=["nbval-check-output"]
edited = models.editor.edit(picture, [box], prompt, seed=seed)[0]
outside = (1 - mask).bool().expand_as(picture)
print("the frame differs outside the box:", bool((frame - picture)[outside].abs().max() > 0.01))
print(f"largest change outside the box, of the edit: {(edited - picture)[outside].abs().max():.1f}")

# %% [markdown]
# ## From noise to a picture
#
# Sampling starts from pure noise and takes a few steps. Here is what the latents look like when they are
# decoded on the way.

# %%
strip = []


def keep(pipe, step, time, state):
    with torch.no_grad():
        decoded = pipe.vae.decode(state["latents"] / pipe.vae.config.scaling_factor).sample[0]
    strip.append((decoded / 2 + 0.5).float().cpu())
    return state


pipeline(prompt=prompt, image=picture[None], mask_image=mask[None], height=size, width=size, strength=1.0,
         num_inference_steps=models.editor.steps, guidance_scale=models.editor.guidance,
         generator=torch.Generator().manual_seed(seed), callback_on_step_end=keep)
shown = range(0, len(strip), max(1, len(strip) // 6))
show_pictures([strip[i] for i in shown], [f"step {i + 1}" for i in shown], columns=7, side=1.5);

# %% [markdown]
# ## The knobs
#
# **Seed.** Other noise, another apple. In this course all edits of one picture share the same noise,
# so that they differ by their region alone.

# %%
show_pictures([models.editor.edit(picture, [box], prompt, seed=s)[0] for s in range(6)],
              [f"seed {s}" for s in range(6)], side=1.5);

# %% [markdown]
# **Steps.** More steps, finer pictures, and a higher price. The unit of cost is the *denoiser evaluation*:
# one picture once through the UNet. With guidance each step needs two.

# %%
before, pictures, titles = models.editor.evaluations, [], []
for steps in (1, 2, 4, 8, 16):
    pictures.append(models.editor.edit(picture, [box], prompt, seed=seed, steps=steps)[0])
    titles.append(f"{steps} steps\n{models.editor.evaluations - before} evaluations")
    before = models.editor.evaluations
show_pictures(pictures, titles, side=1.7);

# %% tags=["nbval-check-output"]
before = models.editor.evaluations
models.editor.edit(picture, [box, box], prompt, seed=seed, steps=5)
print("2 edits × 5 steps × 2 for guidance =", models.editor.evaluations - before, "denoiser evaluations")

# %% [markdown]
# **Guidance.** The model is asked twice, with the prompt and without, and its answer is pushed along the
# difference. With 1 there is no push; too much overdoes colours and contrast.

# %%
scales = (1.0, 2.0, 4.0, 7.5, 15.0)
show_pictures([models.editor.edit(picture, [box], prompt, seed=seed, guidance=g)[0] for g in scales],
              [f"guidance {g:g}" for g in scales], side=1.7);

# %% [markdown]
# ## Why the region matters
#
# The same prompt and the same noise, six regions. Too small: no room for the object, or the old one peeps
# out. Too large: the background changes. In the wrong place: now the old object is still there. This is the paper's
# figure 2 in our world, and the reason for everything that follows.

# %%
half = size // 2
regions = [[int(v * size) for v in r] for r in
           [(0.1, 0.1, 0.35, 0.35), (0.05, 0.05, 0.6, 0.6), (0.4, 0.4, 0.95, 0.95), (0, 0.5, 0.5, 1), (0.1, 0.1, 0.95, 0.95)]]
regions.append(box)
show_pictures(list(models.editor.edit(picture, regions, prompt, seed=seed)), boxes=regions,
              titles=[f"{(r[2] - r[0]) / size:.2f} × {(r[3] - r[1]) / size:.2f}" for r in regions]);

# %% [markdown]
# ## What we learned
#
# * An inpainting model is a function of picture, mask, prompt, steps, guidance and seed.
# * It never sees what is under the mask; it changes nothing outside once the edit is pasted back.
# * Cost is counted in denoiser evaluations: edits × steps × 2.
# * Its result stands and falls with the region. Nobody has told us the region yet.
#
# **Next:** [06 Editing one image](06_editing_one_image.ipynb) finds the region from the picture and the
# sentence alone.
