"""`python -m lr_helpers study zoo`: what the shipped miniatures reach on held-out scenes, and grids to look at.

It measures models, not methods; part by part, because each is trained by itself.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from pathlib import Path
from random import Random

import torch
from diffusers import StableDiffusionPipeline
from tqdm.auto import tqdm

from lr_helpers.anchors import anchor_centres, top_anchors
from lr_helpers.baselines import Parts
from lr_helpers.baselines.wording import instruction
from lr_helpers.boxes import Box, box_mask
from lr_helpers.editing import FEATHER
from lr_helpers.files.outputs import Output, own_json
from lr_helpers.files.pictures import paste_back, to_image, to_tensor
from lr_helpers.files.writing import png_bytes, write_json
from lr_helpers.inpainting import composite, seam
from lr_helpers.intervals import mean_with_interval, rate
from lr_helpers.losses import occluded
from lr_helpers.models.libraries import quiet
from lr_helpers.models.loading import Models, load_models
from lr_helpers.study import tables
from lr_helpers.study.tasks import on_strange_ground
from tiny_world import DATA, SIZE, judge
from tiny_world.judge import Judge
from tiny_world.places import VARIANTS
from tiny_world.scenes import Placed, Recipe, random_placed, scene, square, tensor
from tiny_world.sheets import as_pictures, sheet
from tiny_world.sprites import HELD_OUT_STYLE, STYLES
from tiny_world.words import NAMES, PLACES, STYLE_WORDS, caption, held_out, with_article

FIRST_SEED = 450_000
"""Test seeds; other kinds of scenes are made of the same seeds, so rows can be compared pair by pair."""

EDITS_AT_ONCE = 60
"""Pictures on a grid to look at."""


GROUPS: dict[str, Callable[[Recipe, int], Recipe]] = {
    "training styles": lambda recipe, seed: recipe,
    "held-out style": lambda recipe, seed: recipe.styled(HELD_OUT_STYLE),
    "held-out textures": on_strange_ground,
    "held-out style and texture": lambda recipe, seed: on_strange_ground(recipe.styled(HELD_OUT_STYLE), seed),
}
"""Kinds of test scenes: what is done to the scene of a seed."""


def scenes(count: int, group: str = "training styles") -> Iterator[tuple[int, Recipe]]:
    """`count` test seeds with their scenes of this kind."""
    for seed in range(FIRST_SEED, FIRST_SEED + count):
        yield seed, GROUPS[group](scene(seed), seed)


def cases(kind: str, count: int, group: str = "training styles") -> list[tuple[Recipe, Box, str]]:
    """`count` test (scene, box, name of the object to paint): kind "empty" or "replace"."""
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
            thing = random_placed(name, rng, where=recipe.place)
            # A place counts as empty if the judge's square there holds nothing of an object.
            if any(judge.overlap_share(o.box, square(thing)) > 0 for o in recipe.objects):
                continue
        found.append((GROUPS[group](recipe, seed), square(thing), name))
    return found


def edits(models: Models, chosen: list[tuple[Recipe, Box, str]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Each case's edit, pasted by a hard mask, and how far the model's own frame is from the picture outside the box
    (PSNR, dB).
    """
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


def evaluate_judge(models: Models, judge_model: Judge, count: int, pictures: Path) -> dict:
    """Does the judge name the objects of real scenes, see nothing where nothing is, and not guess at what is hidden?"""
    rows = {}
    for group in GROUPS:
        right = total = 0
        for _, recipe in scenes(count, group):
            looks = [square(o) for o in recipe.objects]
            said = judge_model.name(tensor(recipe).expand(len(looks), -1, -1, -1), looks)
            right += sum(a == o.name for a, o in zip(said, recipe.objects, strict=True))
            total += len(said)
        rows[f"names objects, {group}"] = rate(right, total)
    guessed = total = 0
    for _, recipe in scenes(count):
        # Whoever names an object that is painted over guesses by the surroundings.
        looks = [square(o) for o in recipe.objects]
        said = judge_model.name(occluded(tensor(recipe), torch.tensor(looks)), looks)
        guessed += sum(a == o.name for a, o in zip(said, recipe.objects, strict=True))
        total += len(said)
    rows["names objects that are painted over"] = rate(guessed, total)
    empty = cases("empty", count)
    said = judge_model.name(torch.stack([tensor(r) for r, _, _ in empty]), [b for _, b, _ in empty])
    rows["sees nothing where nothing is"] = rate(sum(w == "nothing" for w in said), count)
    return rows


def evaluate_editor(models: Models, judge_model: Judge, count: int, pictures: Path) -> dict:
    """Edit success in a given box by the judge, the background outside it, and the box's edges; in other styles and on
    other ground a third as many edits.
    """
    rows = {"steps": models.profile.steps, "guidance": models.profile.guidance}
    for group in ("training styles", "held-out style", "held-out textures"):
        for kind in ("empty", "replace"):
            row = f"{kind}, {group}"
            chosen = cases(kind, count if group == "training styles" else -(-count // 3), group)
            boxes, names = [b for _, b, _ in chosen], [n for _, _, n in chosen]
            made, outside = edits(models, chosen)
            seen = sum(a == b for a, b in zip(judge_model.name(made, boxes), names, strict=True))
            kept = sum(bool(((e - tensor(r)).abs() * (1 - box_mask(b, SIZE, SIZE))).max() == 0)
                       for e, (r, b, _) in zip(made, chosen, strict=True))
            # The candidates, whose edges are hard, and what a person gets, whose edges are blended.
            final = [to_tensor(paste_back(to_image(tensor(r)), e, b, FEATHER))
                     for e, (r, b, _) in zip(made, chosen, strict=True)]
            rows[f"judge sees the object, {row}"] = rate(seen, len(chosen))
            rows[f"own frame outside the box, PSNR dB, {row}"] = mean_with_interval(outside.tolist())
            rows[f"pasted edit exact outside the box, {row}"] = rate(kept, len(chosen))
            for name, pasted in (("pasted hard", made), ("blended", final)):
                seams = [seam(e, b) for e, b in zip(pasted, boxes, strict=True)]
                rows[f"jump across the box's edges less beside them, of 255, {name}, {row}"] = mean_with_interval(
                    [across - beside for across, beside in seams])
                rows[f"jump over twice that beside, {name}, {row}"] = rate(
                    sum(across > 2 * beside + 2 for across, beside in seams), len(chosen))
            show(pictures, row, made)
    # One more grid: all objects, each once, in the middle of a place.
    thing, places = Placed("", 24, 24, 80), list(PLACES)
    grid = [(Recipe(places[i % len(places)], VARIANTS + i % VARIANTS, ()), square(thing), n)
            for i, n in enumerate(NAMES)]
    show(pictures, "all objects", edits(models, grid)[0])
    return {**rows, **evaluate_seeds(models, judge_model, max(count // 10, 2), pictures)}


def evaluate_seeds(models: Models, judge_model: Judge, count: int, pictures: Path, seeds: int = 4) -> dict:
    """How far edits by several seeds lie apart, against edits that are asked for in the several styles."""
    by_seed, by_style, drawn, right, seen, shown = [], [], [], 0, 0, []
    for i in range(count):
        name, place, variant = NAMES[(7 * i) % len(NAMES)], list(PLACES)[i % len(PLACES)], VARIANTS + i % VARIANTS
        ground, box = tensor(Recipe(place, variant, ())), square(Placed(name, 32, 32, 64))
        images, masks = ground[None], box_mask(box, SIZE, SIZE)[None]
        # Edits of one call share their noise, so each seed has a call of its own.
        tries = [models.editor.inpaint(images, masks, with_article(name), seed=10 * i + k) for k in range(seeds)]
        named = [with_article(f"{STYLE_WORDS[style]} {name}") for style in STYLES]
        many = len(named), -1, -1, -1
        styled = models.editor.inpaint(images.expand(many), masks.expand(many), named, seed=10 * i)
        made = composite(torch.cat([*tries, styled]), images, masks)
        real = [tensor(Recipe(place, variant, (Placed(name, 32, 32, 64, style),))) for style in STYLES]
        by_seed.append(spread(made[:seeds], box))
        by_style.append(spread(made[seeds:], box))
        drawn.append(spread(torch.stack(real), box))
        right += sum(nearest_style(e, name, place, variant, box) == style
                     for e, style in zip(made[seeds:], STYLES, strict=True))
        seen += sum(word == name for word in judge_model.name(made[seeds:], [box] * len(STYLES)))
        shown.append(made)
    show(pictures, "by seed and style", torch.cat(shown), seeds + len(STYLES))
    return {"spread over seeds, mean difference in the box": mean_with_interval(by_seed),
            "spread over the styles, named in the prompt": mean_with_interval(by_style),
            "spread over the styles as they are drawn": mean_with_interval(drawn),
            "spread over seeds / over styles": round(sum(by_seed) / sum(by_style), 3),
            "judge sees the object, style named": rate(seen, count * len(STYLES)),
            "nearest drawing has the style named": rate(right, count * len(STYLES))}


def spread(images: torch.Tensor, box: Box) -> float:
    """Mean absolute difference, 0..1, of all pairs of pictures (N, 3, H, W), inside the box."""
    x0, y0, x1, y1 = box
    parts = images[:, :, y0:y1, x0:x1]
    pairs = [float((a - b).abs().mean()) for a, b in combinations(parts, 2)]
    return sum(pairs) / len(pairs)


def nearest_style(edit: torch.Tensor, name: str, place: str, variant: int, box: Box) -> str:
    """The style whose drawing of the object, mirrored or not and a little larger or smaller, is nearest to the edit."""
    def away(style: str) -> float:
        looks = [Placed(name, 64 - s // 2, 64 - s // 2, s, style, flip) for s in (56, 64, 72) for flip in (False, True)]
        return min(spread(torch.stack([edit, tensor(Recipe(place, variant, (look,)))]), box) for look in looks)

    return min(STYLES, key=away)


def evaluate_text_to_image(models: Models, judge_model: Judge, count: int, pictures: Path) -> dict:
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
    show(pictures, "text_to_image", made)
    # A text alone decides the picture, so the object may stand anywhere.
    right = sum(judge.sees(p, name, judge_model) >= judge.SURE for p, (_, _, name) in zip(made, chosen, strict=True))
    return {"judge sees the object anywhere": rate(right, count)}


def evaluate_instruct(models: Models, judge_model: Judge, count: int, pictures: Path) -> dict:
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
    show(pictures, "instruct", torch.stack(shown))
    return {f"replace: {row}": rate(n, count) for row, n in told.items()}


def evaluate_vae(models: Models, judge_model: Judge, count: int, pictures: Path) -> dict:
    """Pictures through the autoencoder and back."""
    rows, vae = {}, models.editor.pipeline.vae
    for group in GROUPS:
        values, shown = [], []
        for _, recipe in scenes(min(count, 100), group):
            picture = tensor(recipe)[None]
            with torch.no_grad():
                back = vae.decode(vae.encode(picture * 2 - 1).latent_dist.mode()).sample.clamp(-1, 1) / 2 + 0.5
            values.append(-10 * math.log10(float((back - picture).square().mean())))
            shown += [picture, back]
        rows[f"reconstruction PSNR dB, {group}"] = mean_with_interval(values)
        show(pictures, f"vae, {group}", torch.cat(shown))
    return rows


def evaluate_clip(models: Models, judge_model: Judge, count: int, pictures: Path) -> dict:
    """The right one of two scenes, and retrieval among 200 scenes with different captions."""
    rows = {}
    for group in GROUPS:
        right = 0
        for seed, recipe in scenes(count, group):
            rng = Random(f"pair {seed}")
            index = rng.randrange(len(recipe.objects))
            other = rng.choice([n for n in NAMES if n not in {o.name for o in recipe.objects}])
            # The scene with its object, and with another in its place: which is nearer to the word?
            pair = torch.stack([tensor(recipe), tensor(recipe.replaced(index, other))])
            with torch.no_grad():
                text = models.clip.encode_text([with_article(recipe.objects[index].name)])[0]
                likeness = models.clip.encode_image(pair)[0] @ text
            right += bool(likeness[0] > likeness[1])
        rows[f"prefers the scene with X to the one with Y, {group}"] = rate(right, count)
    # Two scenes with the same caption could not be told apart; one of them stays.
    by_caption = {recipe.caption(): recipe for _, recipe in scenes(300)}
    texts = list(by_caption)[:200]
    with torch.no_grad():
        seen = models.clip.encode_image(torch.stack([tensor(by_caption[t]) for t in texts]))[0]
        table = seen @ models.clip.encode_text(texts).T
    same = torch.arange(len(texts))
    return {**rows, "caption found for picture, of 200": rate(int((table.argmax(1) == same).sum()), len(texts)),
            "picture found for caption, of 200": rate(int((table.argmax(0) == same).sum()), len(texts))}


def evaluate_anchors(models: Models, judge_model: Judge, count: int, pictures: Path, top: int = 9) -> dict:
    """Share of the most attended patches whose centre is inside an object's box, and chance."""
    rows, chance = {}, []
    for group in GROUPS:
        shares = []
        for _, recipe in scenes(count, group):
            attention = models.backbone.encode_image(tensor(recipe))[1]
            grid = attention.shape[1:]
            shares.append(_inside(anchor_centres(top_anchors(attention, top), grid, SIZE), recipe))
            if group == "training styles":  # chance: the same share over all patches
                everywhere = torch.cartesian_prod(torch.arange(grid[0]), torch.arange(grid[1]))
                chance.append(_inside(anchor_centres(everywhere, grid, SIZE), recipe))
        rows[f"top {top} anchors inside an object, {group}"] = mean_with_interval(shares)
    return {**rows, "chance": mean_with_interval(chance)}


def _inside(points: torch.Tensor, recipe: Recipe) -> float:
    x, y = points[:, 0:1], points[:, 1:2]
    b = torch.tensor([o.box for o in recipe.objects])
    return float(((x >= b[:, 0]) & (x < b[:, 2]) & (y >= b[:, 1]) & (y < b[:, 3])).any(1).float().mean())


def show(pictures: Path, name: str, batch: torch.Tensor, columns: int = 10) -> None:
    """Write the first pictures of (N, 3, H, W) as a grid to look at."""
    page = sheet(as_pictures(batch[:EDITS_AT_ONCE].numpy()), columns)
    Output(pictures, "zoo").write(f"{name}.png", png_bytes(page))


GRIDS = ("all objects", "by seed and style", "text_to_image", "instruct", *(f"vae, {group}" for group in GROUPS),
         *(f"{kind}, {group}" for kind in ("empty", "replace")
           for group in ("training styles", "held-out style", "held-out textures")))
"""The grids of edits, by the names of their files."""
PARTS = ("judge", "editor", "vae", "clip", "dino", "text_to_image", "instruct")


def run(count: int, scene_count: int, output: Path, pictures: Path, parts: Sequence[str] = PARTS) -> dict:
    """Measure these parts, print the table, write it as JSON; what the file holds of other parts stays.

    `count` edits a row, `scene_count` scenes for what needs no edit, half as many for text_to_image and instruct;
    grids of edits go to the folder `pictures`. The file is written after each part. Returns the whole table. Raises
    ForeignError, before any work, if the file holds something else, or a grid would replace somebody's picture.
    """
    found = own_json(output, (*PARTS, "megabytes"))
    Output(pictures, "zoo").require(f"{name}.png" for name in GRIDS)
    begun, models, one = time.perf_counter(), load_models("tiny", "cpu"), judge.load()
    measure = {"judge": evaluate_judge, "editor": evaluate_editor, "vae": evaluate_vae, "clip": evaluate_clip,
               "dino": evaluate_anchors, "text_to_image": evaluate_text_to_image, "instruct": evaluate_instruct}
    size = {"editor": count, "text_to_image": scene_count // 2, "instruct": scene_count // 2}
    for part in parts:
        found[part] = measure[part](models, one, size.get(part, scene_count), pictures)
        found = {name: found[name] for name in PARTS if name in found} | {"megabytes": megabytes()}
        write_json(output, found)
        for name, value in found[part].items():
            shown = f"{tables.said(value, 4)}  n = {value['count']}" if isinstance(value, dict) else value
            print(f"{part:13} {name:72} {shown}")
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
