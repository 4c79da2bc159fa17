"""`python -m lr_helpers study zoo`: what the shipped miniatures reach on held-out scenes, and grids to look at.

It measures models, not methods; part by part, because each is trained by itself.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random

import torch
from diffusers import StableDiffusionPipeline
from tqdm.auto import tqdm

from lr_helpers.anchors import anchor_centres, top_anchors
from lr_helpers.baselines import Parts
from lr_helpers.baselines.wording import instruction
from lr_helpers.boxes import Box, box_mask
from lr_helpers.files.outputs import Output, own_json
from lr_helpers.files.pictures import to_image
from lr_helpers.files.writing import png_bytes, write_json
from lr_helpers.inpainting import composite
from lr_helpers.intervals import mean_with_interval, rate
from lr_helpers.losses import occluded
from lr_helpers.models.libraries import quiet
from lr_helpers.models.loading import Models, load_models
from lr_helpers.study import tables
from tiny_world import DATA, SIZE, judge
from tiny_world.scenes import Placed, Recipe, random_placed, scene, square, tensor
from tiny_world.words import NAMES, PLACES, caption, held_out, with_article

FIRST_SEED = 100_000
"""Seeds 100,000 … are this study's share of the held-out ones."""


def cases(kind: str, count: int) -> list[tuple[Recipe, Box, str]]:
    """`count` held-out (scene, box, name of the object to paint): kind "empty" or "replace"."""
    found, seed = [], FIRST_SEED
    while len(found) < count:
        seed += 1
        rng, recipe = Random(f"case {seed}"), scene(seed)
        names = [n for n in NAMES if n not in {o.name for o in recipe.objects} and not held_out(n, recipe.place)]
        # Every object in turn is painted into empty places.
        name = names[len(found) % len(names)] if kind == "empty" else rng.choice(names)
        if kind == "replace":
            thing = rng.choice(recipe.objects)
        else:
            thing = random_placed(name, rng)
            # A place counts as empty if the judge's square there holds nothing of an object.
            if any(judge.overlap_share(o.box, square(thing)) > 0 for o in recipe.objects):
                continue
        found.append((recipe, square(thing), name))
    return found


def edits(models: Models, chosen: list[tuple[Recipe, Box, str]]) -> tuple[torch.Tensor, torch.Tensor]:
    """The model's own frame for each case, and how far it is from the picture outside the box (PSNR, dB)."""
    made, outside, done = [], [], 0
    with tqdm(total=len(chosen), leave=False) as bar:
        for part in models.editor.batches(chosen):
            pictures = torch.stack([tensor(recipe) for recipe, _, _ in part])
            masks = torch.stack([box_mask(box, SIZE, SIZE) for _, box, _ in part])
            frames = models.editor.inpaint(pictures, masks, [with_article(name) for _, _, name in part], seed=done)
            # The model's own frame, before anything is pasted: what does it do to the rest?
            error = ((frames - pictures).square() * (1 - masks)).sum((1, 2, 3)) / (3 * (1 - masks).sum((1, 2, 3)))
            made.append(composite(frames, pictures, masks))
            outside.append(-10 * error.log10())
            done += len(part)
            bar.update(len(part))
    return torch.cat(made), torch.cat(outside)


def evaluate_judge(judge_model: judge.Judge, count: int) -> dict:
    """Does the judge name the objects of real scenes, see nothing where nothing is, and not guess at what is hidden?"""
    right = total = guessed = 0
    for seed in range(FIRST_SEED, FIRST_SEED + count):
        recipe = scene(seed)
        pictures = tensor(recipe).expand(len(recipe.objects), -1, -1, -1)
        looks = [square(o) for o in recipe.objects]
        said = judge_model.name(pictures, looks)
        right += sum(a == o.name for a, o in zip(said, recipe.objects, strict=True))
        total += len(said)
        # Whoever names an object that is painted over guesses by the surroundings.
        hidden = judge_model.name(occluded(pictures[0], torch.tensor(looks)), looks)
        guessed += sum(a == o.name for a, o in zip(hidden, recipe.objects, strict=True))
    empty = cases("empty", count)
    nothing = judge_model.name(torch.stack([tensor(r) for r, _, _ in empty]), [b for _, b, _ in empty])
    return {"names real objects": rate(right, total),
            "names objects that are painted over": rate(guessed, total),
            "sees nothing where nothing is": rate(sum(w == "nothing" for w in nothing), count)}


def evaluate_editor(models: Models, judge_model: judge.Judge, count: int, pictures: Path) -> dict:
    """Edit success in a given box, by the judge, and the background outside it."""
    result = {}
    for kind in ("empty", "replace"):
        chosen = cases(kind, count)
        made, outside = edits(models, chosen)
        said = judge_model.name(made, [box for _, box, _ in chosen])
        kept = sum(bool(((e - tensor(r)).abs() * (1 - box_mask(b, SIZE, SIZE))).max() == 0)
                   for e, (r, b, _) in zip(made, chosen, strict=True))
        result[f"{kind}: judge sees the object"] = rate(
            sum(a == name for a, (_, _, name) in zip(said, chosen, strict=True)), count)
        result[f"{kind}: own frame outside the box, PSNR dB"] = mean_with_interval(outside.tolist())
        result[f"{kind}: pasted edit exact outside the box"] = rate(kept, count)
        Output(pictures, "zoo").write(f"{kind}.png", png_bytes(to_image(tiles(made[:60], 10))))
    # One more grid: all objects, each once, in the middle of a place.
    thing = Placed("", 12, 12, 40)
    grid = [(Recipe(list(PLACES)[i % 8], i % 48, ()), square(thing), n) for i, n in enumerate(NAMES)]
    Output(pictures, "zoo").write("all_objects.png", png_bytes(to_image(tiles(edits(models, grid)[0], 10))))
    return result


def evaluate_text_to_image(models: Models, judge_model: judge.Judge, count: int, pictures: Path) -> dict:
    """Does the text-to-image model paint what a text names?"""
    parts, noise, painted = Parts(models.profile, models), torch.Generator().manual_seed(0), []
    chosen = cases("replace", count)
    texts = [caption([name], recipe.place) for recipe, _, name in chosen]
    with quiet():
        painter = StableDiffusionPipeline.from_pipe(parts.text_to_image.pipeline)
        painter.set_progress_bar_config(disable=True)
        for start in tqdm(range(0, count, 16), leave=False):
            painted.append(painter(texts[start:start + 16], num_inference_steps=models.profile.steps,
                                   guidance_scale=models.profile.guidance, generator=noise, output_type="pt").images)
    made = torch.cat(painted)
    Output(pictures, "zoo").write("text_to_image.png", png_bytes(to_image(tiles(made[:60], 10))))
    # A text alone decides the picture, so the object may stand anywhere.
    right = sum(judge.sees(p, name, judge_model) >= judge.SURE for p, (_, _, name) in zip(made, chosen, strict=True))
    return {"judge sees the object anywhere": rate(right, count)}


def evaluate_instruct(models: Models, judge_model: judge.Judge, count: int, pictures: Path) -> dict:
    """Does the instruction-following model replace what it is told to?"""
    parts, shown = Parts(models.profile, models), []
    told = {"judge sees the new object anywhere": 0, "judge no longer sees the old one": 0, "both": 0}
    for i, (recipe, box, name) in enumerate(tqdm(cases("replace", count), leave=False)):
        old = next(o.name for o in recipe.objects if square(o) == box)
        made = parts.instruct.follow(tensor(recipe), instruction(old, with_article(name)), steps=models.profile.steps,
                                     guidance=models.profile.guidance, image_guidance=1.5, seed=i)
        came = judge.sees(made, name, judge_model) >= judge.SURE
        went = judge_model.name(made[None], [box])[0] != old
        for row, true in zip(told, (came, went, came and went), strict=True):
            told[row] += true
        shown += [tensor(recipe), made]
    Output(pictures, "zoo").write("instruct.png", png_bytes(to_image(tiles(torch.stack(shown[:60]), 10))))
    return {f"replace: {row}": rate(n, count) for row, n in told.items()}


def evaluate_vae(models: Models, count: int) -> dict:
    """Pictures through the autoencoder and back."""
    values = []
    vae = models.editor.pipeline.vae
    for seed in range(FIRST_SEED, FIRST_SEED + count):
        picture = tensor(scene(seed))[None]
        with torch.no_grad():
            back = vae.decode(vae.encode(picture * 2 - 1).latent_dist.mode()).sample.clamp(-1, 1) / 2 + 0.5
        values.append(-10 * math.log10(float((back - picture).square().mean())))
    return {"reconstruction PSNR dB": mean_with_interval(values)}


def evaluate_clip(models: Models, count: int) -> dict:
    """Retrieval among 200 scenes with different captions, and the right one of two scenes."""
    # Two scenes with the same caption could not be told apart; one of them stays.
    by_caption = {scene(s).caption(): scene(s) for s in range(FIRST_SEED, FIRST_SEED + 300)}
    texts = list(by_caption)[:200]
    with torch.no_grad():
        seen = models.clip.encode_image(torch.stack([tensor(by_caption[t]) for t in texts]))[0]
    table, same = seen @ models.clip.encode_text(texts).T, torch.arange(len(texts))
    right = 0
    for seed in range(FIRST_SEED, FIRST_SEED + count):
        recipe, rng = scene(seed), Random(f"pair {seed}")
        index = rng.randrange(len(recipe.objects))
        other = rng.choice([n for n in NAMES if n not in {o.name for o in recipe.objects}])
        # The scene with its object, and with another in its place: which is nearer to the word?
        pair = torch.stack([tensor(recipe), tensor(recipe.replaced(index, other))])
        with torch.no_grad():
            text = models.clip.encode_text([with_article(recipe.objects[index].name)])[0]
            likeness = models.clip.encode_image(pair)[0] @ text
        right += bool(likeness[0] > likeness[1])
    return {"caption found for picture, of 200": rate(int((table.argmax(1) == same).sum()), len(texts)),
            "picture found for caption, of 200": rate(int((table.argmax(0) == same).sum()), len(texts)),
            "prefers the scene with X to the one with Y": rate(right, count)}


def evaluate_anchors(models: Models, count: int, top: int = 9) -> dict:
    """Share of the most attended patches whose centre is inside an object's box, and chance."""
    shares, chance = [], []
    for seed in range(FIRST_SEED, FIRST_SEED + count):
        recipe = scene(seed)
        attention = models.backbone.encode_image(tensor(recipe))[1]
        grid = attention.shape[1:]
        # Chance: the same share over all patches.
        everywhere = anchor_centres(torch.cartesian_prod(torch.arange(grid[0]), torch.arange(grid[1])), grid, SIZE)
        chance.append(_inside(everywhere, recipe))
        shares.append(_inside(anchor_centres(top_anchors(attention, top), grid, SIZE), recipe))
    return {f"top {top} anchors inside an object": mean_with_interval(shares), "chance": mean_with_interval(chance)}


def _inside(points: torch.Tensor, recipe: Recipe) -> float:
    x, y = points[:, 0:1], points[:, 1:2]
    b = torch.tensor([o.box for o in recipe.objects])
    return float(((x >= b[:, 0]) & (x < b[:, 2]) & (y >= b[:, 1]) & (y < b[:, 3])).any(1).float().mean())


def tiles(pictures: torch.Tensor, columns: int) -> torch.Tensor:
    """(N, 3, H, W) → one picture (3, rows·2H, columns·2W), at twice the size."""
    rows = [torch.cat(list(pictures[i:i + columns]), dim=2) for i in range(0, len(pictures), columns)]
    rows = [r for r in rows if r.shape[2] == rows[0].shape[2]]
    return torch.cat(rows, dim=1).repeat_interleave(2, 1).repeat_interleave(2, 2)


GRIDS = ("empty", "replace", "all_objects", "text_to_image", "instruct")
"""The grids of edits, by the names of their files."""
PARTS = ("judge", "editor", "vae", "clip", "dino", "text_to_image", "instruct")


def run(count: int, scenes: int, output: Path, pictures: Path, parts: Sequence[str] = PARTS) -> dict:
    """Measure these parts, print the table, write it as JSON; what the file holds of other parts stays.

    `count` edits a row, `scenes` for what needs no edit, half as many for text_to_image and instruct; grids of edits go
    to the folder `pictures`. The file is written after each part. Returns the whole table. Raises
    ForeignError, before any work, if the file holds something else, or a grid would replace somebody's picture.
    """
    found = own_json(output, (*PARTS, "megabytes"))
    Output(pictures, "zoo").require(f"{name}.png" for name in GRIDS)
    begun, models, one = time.perf_counter(), load_models("tiny", "cpu"), judge.load()
    settings = {"steps": models.profile.steps, "guidance": models.profile.guidance}
    measure = {"judge": lambda: evaluate_judge(one, scenes),
               "editor": lambda: {**settings, **evaluate_editor(models, one, count, pictures)},
               "vae": lambda: evaluate_vae(models, scenes), "clip": lambda: evaluate_clip(models, scenes),
               "dino": lambda: evaluate_anchors(models, scenes),
               "text_to_image": lambda: evaluate_text_to_image(models, one, scenes // 2, pictures),
               "instruct": lambda: evaluate_instruct(models, one, scenes // 2, pictures)}
    for part in parts:
        found[part] = measure[part]()
        found = {name: found[name] for name in PARTS if name in found} | {"megabytes": megabytes()}
        write_json(output, found)
        for name, value in found[part].items():
            shown = f"{tables.said(value, 4)}  n = {value['count']}" if isinstance(value, dict) else value
            print(f"{part:13} {name:48} {shown}")
    print(f"{found['megabytes']['all']} MB in all; {time.perf_counter() - begun:.0f} s; written to {output}; grids in "
          f"{pictures}")
    return found


def megabytes() -> dict[str, float]:
    """What each part of the zoo takes on the disk, and all of it."""
    found = {}
    for folder in sorted(DATA.iterdir()):
        if folder.is_dir():
            found[folder.name] = round(sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) / 1e6, 2)
    return {**found, "all": round(sum(found.values()), 2)}
