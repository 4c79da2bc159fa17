"""What a zoo reaches on test scenes: rates and means with 95 % intervals, and grids to look at.

Every row is measured for the training styles together and one by one, for the held-out style, and on held-out
textures, wherever it has a meaning there.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path
from random import Random

import numpy as np
import torch
from diffusers import AutoencoderKL, StableDiffusionInpaintPipeline
from open_clip import create_model_and_transforms, get_tokenizer
from scipy.stats import binomtest
from transformers import ViTModel

from lr_helpers.boxes import box_mask
from lr_helpers.inpainting import seam
from tiny_world.two import SIZE
from tiny_world.two.places import VARIANTS
from tiny_world.two.scenes import TEST_SEEDS, Box, Placed, Recipe, random_placed, scene
from tiny_world.two.sheets import picture, sheet
from tiny_world.two.sprites import HELD_OUT_STYLE, STYLES
from tiny_world.two.words import HELD_OUT_TEXTURES, NAMES, PLACES, STYLE_WORDS, held_out, with_article
from tiny_world.two.zoo import judge as judging
from tiny_world.two.zoo.inpainting import inpaint

STEPS, GUIDANCE, BATCH = 12, 2.5, 20
"""How edits are made here: denoising steps, classifier-free guidance, and edits at once."""


def rate(right: int, count: int) -> dict:
    """A share with Wilson's 95 % interval."""
    low, high = binomtest(int(right), count).proportion_ci(method="wilson")
    return {"value": round(right / count, 4), "low": round(float(low), 4), "high": round(float(high), 4),
            "count": count}


def mean(values: list[float]) -> dict:
    """A mean with its 95 % interval (1.96 standard errors)."""
    v = np.asarray(values, float)
    middle, half = float(v.mean()), float(1.96 * v.std(ddof=1) / math.sqrt(len(v)))
    return {"value": round(middle, 4), "low": round(middle - half, 4), "high": round(middle + half, 4),
            "count": len(v)}


def tensor(recipe: Recipe) -> torch.Tensor:
    """The rendered scene as (3, 128, 128) in 0..1."""
    return torch.from_numpy(recipe.render()).permute(2, 0, 1) / 255


def strange(recipe: Recipe, seed: int) -> Recipe:
    """The scene on a held-out texture."""
    rng = Random(f"strange {seed}")
    return recipe.on(rng.choice(HELD_OUT_TEXTURES), rng.randrange(VARIANTS))


GROUPS: dict[str, Callable[[Recipe, int], Recipe]] = {
    "training styles": lambda recipe, seed: recipe,
    **{style: lambda recipe, seed, style=style: recipe.styled(style) for style in STYLES},
    "held-out style": lambda recipe, seed: recipe.styled(HELD_OUT_STYLE),
    "held-out textures": strange,
    "held-out style and texture": lambda recipe, seed: strange(recipe.styled(HELD_OUT_STYLE), seed),
}
"""Kinds of test scenes: what is done to the scene of a seed."""


def scenes(count: int, group: str = "training styles") -> Iterator[tuple[int, Recipe]]:
    """`count` test seeds with their scenes."""
    for seed in TEST_SEEDS[:count]:
        yield seed, GROUPS[group](scene(seed), seed)


def square(thing: Placed, room: int = 6) -> Box:
    """The object's square with a little room around, clamped to the picture."""
    return (max(thing.x - room, 0), max(thing.y - room, 0),
            min(thing.x + thing.size + room, SIZE), min(thing.y + thing.size + room, SIZE))


def hidden(image: torch.Tensor, box: Box) -> torch.Tensor:
    """The (3, 128, 128) picture with the box painted over by its border's mean colour."""
    x0, y0, x1, y1 = box
    around = box_mask((max(x0 - 2, 0), max(y0 - 2, 0), min(x1 + 2, SIZE), min(y1 + 2, SIZE)), SIZE, SIZE)[0].bool()
    ring = around & ~box_mask(box, SIZE, SIZE)[0].bool()
    image = image.clone()
    image[:, y0:y1, x0:x1] = image[:, ring].mean(1)[:, None, None]
    return image


def evaluate_judge(zoo: Path, count: int, pictures: Path) -> dict:
    """Does the judge name the objects of real scenes, see nothing where nothing is, and not guess at what is hidden?"""
    judge, rows = judging.load(zoo / "classifier"), {}
    for group in GROUPS:
        right = total = 0
        for _, recipe in scenes(count, group):
            said = judge.name(tensor(recipe).expand(len(recipe.objects), -1, -1, -1), [o.box for o in recipe.objects])
            right += sum(a == o.name for a, o in zip(said, recipe.objects, strict=True))
            total += len(said)
        rows[f"names objects, {group}"] = rate(right, total)
    first = [(recipe, recipe.objects[0]) for _, recipe in scenes(count)]
    covered = torch.stack([hidden(tensor(recipe), square(thing)) for recipe, thing in first])
    said = judge.name(covered, [square(thing) for _, thing in first])
    rows["names objects that are painted over"] = rate(
        sum(word == thing.name for word, (_, thing) in zip(said, first, strict=True)), count)
    bare = torch.stack([tensor(Recipe(r.place, r.variant, ())) for r, _ in first])
    said = judge.name(bare, [square(thing) for _, thing in first])
    rows["sees nothing where nothing is"] = rate(sum(word == "nothing" for word in said), count)
    return rows


def evaluate_vae(zoo: Path, count: int, pictures: Path) -> dict:
    """Pictures through the autoencoder and back."""
    vae, rows = AutoencoderKL.from_pretrained(zoo / "inpainting" / "vae", torch_dtype=torch.float32).eval(), {}
    for group in GROUPS:
        values, shown = [], []
        for _, recipe in scenes(min(count, 100), group):
            image = tensor(recipe)[None]
            with torch.no_grad():
                back = vae.decode(vae.encode(image * 2 - 1).latent_dist.mode()).sample.clamp(-1, 1) / 2 + 0.5
            values.append(-10 * math.log10(float((back - image).square().mean())))
            shown += [image, back]
        rows[f"reconstruction PSNR dB, {group}"] = mean(values)
        sheet(picture(torch.cat(shown[:48]).numpy()), 8).save(pictures / f"vae {group}.png")
    return rows


def evaluate_clip(zoo: Path, count: int, pictures: Path) -> dict:
    """The right one of two scenes that differ in one object, and retrieval among 200 scenes."""
    model, _, _ = create_model_and_transforms(f"local-dir:{zoo / 'clip'}")
    model, words = model.eval().float(), get_tokenizer(f"local-dir:{zoo / 'clip'}")
    config = json.loads((zoo / "clip" / "open_clip_config.json").read_text())["preprocess_cfg"]
    mid, deviation = (torch.tensor(config[k])[:, None, None] for k in ("mean", "std"))

    def see(images: list[torch.Tensor]) -> torch.Tensor:
        return model.encode_image((torch.stack(images) - mid) / deviation, normalize=True)

    rows = {}
    with torch.no_grad():
        for group in GROUPS:
            right = 0
            for seed, recipe in scenes(count, group):
                rng = Random(f"pair {seed}")
                index = rng.randrange(len(recipe.objects))
                other = rng.choice([n for n in NAMES if n not in {o.name for o in recipe.objects}])
                text = model.encode_text(words([with_article(recipe.objects[index].name)]), normalize=True)
                likeness = see([tensor(recipe), tensor(recipe.replaced(index, other))]) @ text[0]
                right += bool(likeness[0] > likeness[1])
            rows[f"prefers the scene with X to the one with Y, {group}"] = rate(right, count)
        by_caption = {recipe.caption(): recipe for _, recipe in scenes(300)}
        texts = list(by_caption)[:200]
        table = see([tensor(by_caption[t]) for t in texts]) @ model.encode_text(words(texts), normalize=True).T
    same = torch.arange(len(texts))
    rows["caption found for picture, of 200"] = rate(int((table.argmax(1) == same).sum()), len(texts))
    rows["picture found for caption, of 200"] = rate(int((table.argmax(0) == same).sum()), len(texts))
    return rows


def evaluate_dino(zoo: Path, count: int, pictures: Path, top: int = 9) -> dict:
    """Share of the patches most attended by [CLS], a mean over heads, whose centre is inside an object's box."""
    vit = ViTModel.from_pretrained(zoo / "dino", attn_implementation="eager", add_pooling_layer=False,
                                   dtype=torch.float32).eval()
    side, rows = SIZE // vit.config.patch_size, {}
    for group in (*GROUPS, "chance"):
        shares = []
        for _, recipe in scenes(count, "training styles" if group == "chance" else group):
            with torch.no_grad():
                attention = vit(tensor(recipe)[None] * 2 - 1, output_attentions=True).attentions[-1]
            best = attention[0, :, 0, 1:].mean(0).topk(side * side if group == "chance" else top).indices
            x, y = ((best % side + 0.5) * SIZE / side)[:, None], ((best // side + 0.5) * SIZE / side)[:, None]
            b = torch.tensor([o.box for o in recipe.objects])
            inside = (x >= b[:, 0]) & (x < b[:, 2]) & (y >= b[:, 1]) & (y < b[:, 3])
            shares.append(float(inside.any(1).float().mean()))
        rows[f"top {top} anchors inside an object, {group}"] = mean(shares)
    return rows


class Editor:
    """The trained pipeline as a function."""

    def __init__(self, folder: Path, steps: int = STEPS, guidance: float = GUIDANCE) -> None:
        self.pipeline = StableDiffusionInpaintPipeline.from_pretrained(folder, torch_dtype=torch.float32,
                                                                       safety_checker=None)
        self.steps, self.guidance = steps, guidance

    def frames(self, images: torch.Tensor, boxes: list[Box], prompts: list[str], seeds: list[int]) -> torch.Tensor:
        """The model's own frames: (N, 3, 128, 128) pictures in 0..1, a box, a prompt and a seed each."""
        out = []
        for i in range(0, len(images), BATCH):
            part = slice(i, i + BATCH)
            masks = torch.stack([box_mask(box, SIZE, SIZE) for box in boxes[part]])
            out.append(inpaint(self.pipeline, images[part], masks, prompts[part], seeds[part], self.steps,
                               self.guidance))
        return torch.cat(out)


def pasted(frames: torch.Tensor, images: torch.Tensor, boxes: list[Box]) -> torch.Tensor:
    """The frames inside the boxes, the pictures outside."""
    masks = torch.stack([box_mask(box, SIZE, SIZE) for box in boxes])
    return masks * frames + (1 - masks) * images


def cases(kind: str, count: int, group: str) -> list[tuple[Recipe, Box, str]]:
    """`count` test (scene, box, name of the object to paint): kind "empty" or "replace"."""
    found = []
    for seed in TEST_SEEDS:
        if len(found) == count:
            break
        rng, recipe = Random(f"case {seed}"), scene(seed)
        names = [n for n in NAMES if n not in {o.name for o in recipe.objects} and not held_out(n, recipe.place)]
        name = names[len(found) % len(names)] if kind == "empty" else rng.choice(names)
        thing = rng.choice(recipe.objects) if kind == "replace" else random_placed(name, rng, where=recipe.place)
        if kind == "empty" and any(judging.overlap_share(o.box, square(thing)) > 0 for o in recipe.objects):
            continue
        found.append((GROUPS[group](recipe, seed), square(thing), name))
    return found


def evaluate_editor(zoo: Path, count: int, pictures: Path, steps: int = STEPS) -> dict:
    """Edit success in a given box by the judge, the background outside it, and the box's edges."""
    editor, judge, rows = Editor(zoo / "inpainting", steps), judging.load(zoo / "classifier"), {}
    for group in ("training styles", "held-out style", "held-out textures"):
        for kind in ("empty", "replace"):
            chosen = cases(kind, count if group == "training styles" else count // 3, group)
            images, boxes = torch.stack([tensor(r) for r, _, _ in chosen]), [b for _, b, _ in chosen]
            prompts, names = [with_article(n) for _, _, n in chosen], [n for _, _, n in chosen]
            frames = editor.frames(images, boxes, prompts, list(range(len(chosen))))
            edits = pasted(frames, images, boxes)
            row = f"{kind}, {group}"
            said = judge.name(edits, boxes)
            seen = sum(a == b for a, b in zip(said, names, strict=True))
            rows[f"judge sees the object, {row}"] = rate(seen, len(names))
            masks = torch.stack([box_mask(b, SIZE, SIZE) for b in boxes])
            error = ((frames - images).square() * (1 - masks)).sum((1, 2, 3)) / (3 * (1 - masks).sum((1, 2, 3)))
            rows[f"own frame outside the box PSNR dB, {row}"] = mean((-10 * error.log10()).tolist())
            seams = [seam(e, b) for e, b in zip(edits, boxes, strict=True)]
            rows[f"jump across the edges less beside them, of 255, {row}"] = mean([a - b for a, b in seams])
            rows[f"jump over twice that beside, {row}"] = rate(sum(a > 2 * b + 2 for a, b in seams), len(seams))
            sheet(picture(edits[:60].numpy()), 10).save(pictures / f"edits {row}.png")
    return {**rows, **evaluate_seeds(editor, judge, max(count // 10, 2), pictures)}


def evaluate_seeds(editor: Editor, judge: judging.Judge, count: int, pictures: Path, seeds: int = 4) -> dict:
    """How far edits by several seeds lie apart, against edits that are asked for in the several styles."""
    by_seed, by_style, drawn, asked, seen, shown = [], [], [], 0, 0, []
    for i in range(count):
        name, place = NAMES[(7 * i) % len(NAMES)], list(PLACES)[i % len(PLACES)]
        thing = Placed(name, 32, 32, 64)
        box, x = square(thing), tensor(Recipe(place, i % VARIANTS, ()))
        prompts = [with_article(name)] * seeds + [with_article(f"{STYLE_WORDS[s]} {name}") for s in STYLES]
        images = x.expand(len(prompts), -1, -1, -1)
        made = pasted(editor.frames(images, [box] * len(prompts), prompts, [*range(seeds), *([i] * len(STYLES))]),
                      images, [box] * len(prompts))
        by_seed.append(spread(made[:seeds], box))
        by_style.append(spread(made[seeds:], box))
        real = torch.stack([tensor(Recipe(place, i % VARIANTS, (Placed(name, 32, 32, 64, s),))) for s in STYLES])
        drawn.append(spread(real, box))
        asked += sum(nearest_style(e, name, place, i % VARIANTS, box) == s
                     for e, s in zip(made[seeds:], STYLES, strict=True))
        seen += sum(word == name for word in judge.name(made[seeds:], [box] * len(STYLES)))
        shown.append(made)
    sheet(picture(torch.cat(shown).numpy()), seeds + len(STYLES)).save(pictures / "edits by seed and style.png")
    return {"spread over seeds, mean |difference| in the box": mean(by_seed),
            "spread over styles named in the prompt": mean(by_style), "spread over the drawn styles": mean(drawn),
            "seeds' spread over styles' spread": round(float(np.mean(by_seed) / np.mean(by_style)), 3),
            "seeds' spread over drawn styles' spread": round(float(np.mean(by_seed) / np.mean(drawn)), 3),
            "judge sees the object, style named": rate(seen, count * len(STYLES)),
            "nearest drawing has the style named": rate(asked, count * len(STYLES))}


def spread(images: torch.Tensor, box: Box) -> float:
    """Mean absolute difference of all pairs of pictures, inside the box."""
    x0, y0, x1, y1 = box
    parts = images[:, :, y0:y1, x0:x1]
    return float(np.mean([float((a - b).abs().mean()) for a, b in combinations(parts, 2)]))


def nearest_style(edit: torch.Tensor, name: str, place: str, variant: int, box: Box) -> str:
    """The style whose drawing of the object, mirrored or not and a little larger or smaller, is nearest to the edit."""
    def away(style: str) -> float:
        looks = [Placed(name, 64 - s // 2, 64 - s // 2, s, style, flip) for s in (56, 64, 72) for flip in (False, True)]
        return min(spread(torch.stack([edit, tensor(Recipe(place, variant, (p,)))]), box) for p in looks)

    return min(STYLES, key=away)


PARTS: dict[str, tuple[str, Callable[[Path, int, Path], dict]]] = {
    "judge": ("classifier/model.safetensors", evaluate_judge),
    "vae": ("inpainting/vae/config.json", evaluate_vae),
    "clip": ("clip/open_clip_model.safetensors", evaluate_clip),
    "dino": ("dino/config.json", evaluate_dino),
    "editor": ("inpainting/model_index.json", evaluate_editor),
}
"""Part → the file that says it is there, and how it is measured."""


def evaluate(zoo: Path, parts: list[str] | None, count: int, scene_count: int, output: Path, pictures: Path) -> dict:
    """Measure the parts that are there (or those asked for), print the table, write it as JSON; returns it."""
    begun, metrics = time.perf_counter(), json.loads(output.read_text()) if output.exists() else {}
    pictures.mkdir(parents=True, exist_ok=True)
    for part, (file, measure) in PARTS.items():
        if (parts and part not in parts) or not (zoo / file).exists():
            continue
        metrics[part] = measure(zoo, count if part == "editor" else scene_count, pictures)
        for name, value in metrics[part].items():
            shown = (f"{value['value']:.4g}  [{value['low']:.4g}, {value['high']:.4g}]  n = {value['count']}"
                     if isinstance(value, dict) else value)
            print(f"{part:8} {name:72} {shown}", flush=True)
    metrics["megabytes"] = {p.name: round(sum(f.stat().st_size for f in p.rglob("*") if f.is_file()) / 1e6, 2)
                            for p in sorted(zoo.iterdir()) if p.is_dir()}
    output.write_text(json.dumps(metrics, indent=1) + "\n")
    print(f"megabytes {metrics['megabytes']}; {time.perf_counter() - begun:.0f} s; written to {output}")
    return metrics


