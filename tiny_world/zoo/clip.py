"""The picture-text model: open_clip's CLIP with a ViT image tower of 8×8 tokens.

Large CLIPs learn from a great many pictures what stands at a patch's place. So few scenes don't teach that, so the
patches are told: those of an object are compared with its name, those beside all objects with the place.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from random import Random

import numpy as np
import torch
from open_clip import CLIP, get_tokenizer
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

from tiny_world import SIZE
from tiny_world.scenes import Placed, Recipe, random_recipe
from tiny_world.words import GROUND, STYLE_WORDS, TEXTURES, caption, noun_phrase, prompt_for_place
from tiny_world.zoo import tokenizer
from tiny_world.zoo.looks import Lots, bent, recoloured, worn
from tiny_world.zoo.training import train

PREPROCESS = {"mean": [0.48145466, 0.4578275, 0.40821073], "std": [0.26862954, 0.26130258, 0.27577711],
              "interpolation": "bicubic", "resize_mode": "squash"}


def config() -> dict:
    """What goes into `open_clip_config.json`."""
    return {
        "model_cfg": {
            "embed_dim": 128,
            "vision_cfg": {"image_size": SIZE, "patch_size": 16, "layers": 4, "width": 128, "head_width": 32},
            "text_cfg": {"context_length": tokenizer.LENGTH, "vocab_size": len(tokenizer.build()),
                         "width": 128, "heads": 4, "layers": 2, "hf_tokenizer_name": "local"},
        },
        "preprocess_cfg": PREPROCESS,
    }


GRID = 8
"""Patches along a side."""
PARTS = 0.5
"""What the parts count beside the pictures."""
SHELF = 24_000
"""Scenes that are drawn once. Drawing them takes longer than learning from them, so each is used some dozen times,
with another caption and other looks."""


def random_scene(number: int) -> Recipe:
    """One of the shelf; one of 25 is empty."""
    rng = Random(f"clip scene {number}")
    return random_recipe(rng, count=0 if rng.random() < 0.04 else None)


def shelf(file: Path, count: int = SHELF) -> np.ndarray:
    """Pictures of the first `count` scenes, (count, 128, 128, 3) uint8; drawn into `file` where they are not there."""
    if not file.exists():
        drawn = np.lib.format.open_memmap(file.with_suffix(".part"), "w+", np.uint8, (count, SIZE, SIZE, 3))
        for number in range(count):
            drawn[number] = random_scene(number).render()
        drawn.flush()
        file.with_suffix(".part").rename(file)
    return np.load(file, mmap_mode="r")


def described(recipe: Recipe, rng: Random) -> tuple[str, set[str], set[str]]:
    """A caption of a scene, what the caption says, and all that is so in the scene.

    A caption names all objects and the place, or leaves some of them out; one of four says in which style they are.
    """
    there = {o.name for o in recipe.objects} | {f"{o.style} {o.name}" for o in recipe.objects} | {recipe.place}
    there |= {GROUND} if recipe.place in TEXTURES else set()
    if not recipe.objects:
        text = prompt_for_place(recipe.place, rng)
        return text, {"nothing", GROUND if GROUND in text.split() else recipe.place}, there | {"nothing"}
    some = rng.sample(recipe.objects, rng.randint(1, len(recipe.objects)))
    styles = [o.style if rng.random() < 0.25 and o.style in STYLE_WORDS else None for o in some]
    if rng.random() < 0.35:
        text = " and ".join(noun_phrase(o.name, rng, s) for o, s in zip(some, styles, strict=True))
    else:
        text = caption([o.name for o in some], recipe.place, rng, styles)
    said = {f"{s} {o.name}" if s else o.name for o, s in zip(some, styles, strict=True)}
    return text, said | ({recipe.place, GROUND} & set(text.split())), there


def batch(step: int, size: int, pictures: np.ndarray) -> tuple[np.ndarray, list[int], list[str], torch.Tensor]:
    """`size` of the pictures of `shelf`, their numbers, captions, and (size, size) truth: caption j holds for i."""
    rng = Random(f"clip {step}")
    chosen = rng.sample(range(len(pictures)), size)
    examples = [described(random_scene(number), rng) for number in chosen]
    truth = torch.tensor([[said <= there for _, said, _ in examples] for *_, there in examples])
    return pictures[chosen], chosen, [text for text, *_ in examples], truth


def parts(step: int, chosen: Sequence[int]) -> tuple[torch.Tensor, list[str], torch.Tensor]:
    """One part of each scene, an object or the background: the (N, 8, 8) share of each patch that lies in it, what the
    part is called, and (N, N) truth: text j holds for part i."""
    rng = Random(f"clip parts {step}")
    shares, texts, said, there = [], [], [], []
    for recipe in map(random_scene, chosen):
        if recipe.objects and rng.random() < 0.7:
            thing = rng.choice(recipe.objects)
            style = thing.style if rng.random() < 0.25 and thing.style in STYLE_WORDS else None
            texts.append(noun_phrase(thing.name, rng, style))
            said.append({f"{style} {thing.name}" if style else thing.name})
            there.append({thing.name, f"{thing.style} {thing.name}"})
            shares.append(covered(thing))
        else:
            texts.append(prompt_for_place(recipe.place, rng))
            said.append({GROUND if GROUND in texts[-1].split() else recipe.place})
            there.append({recipe.place} | ({GROUND} if recipe.place in TEXTURES else set()))
            free = torch.ones(GRID, GRID)
            for thing in recipe.objects:
                free = free * (covered(thing) == 0)
            # Where objects touch all patches, the scene as it is.
            shares.append(free if free.any() else torch.ones(GRID, GRID))
    truth = torch.tensor([[one <= own for one in said] for own in there])
    return torch.stack(shares), texts, truth


def covered(thing: Placed) -> torch.Tensor:
    """(8, 8): the share of each patch that lies in the object's square."""
    edges = torch.arange(GRID + 1) * (SIZE / GRID)

    def along(start: int) -> torch.Tensor:
        return (edges[1:].clamp(max=start + thing.size) - edges[:-1].clamp(min=start)).clamp(min=0) * GRID / SIZE

    return along(thing.y)[:, None] * along(thing.x)


def patch_values(tower: nn.Module, before: torch.Tensor) -> torch.Tensor:
    """The (N, L, d) patch tokens that enter the last block → (N, L, D) in the space of the texts, each by its own value
    alone: what `lr_helpers` takes for the patches' embeddings (MaskCLIP)."""
    block = tower.transformer.resblocks[-1]
    inside = block.ln_1(before)
    alone = ~torch.eye(inside.shape[1], dtype=torch.bool, device=inside.device)
    tokens = block.attn(inside, inside, inside, attn_mask=alone, need_weights=False)[0]
    return tower.ln_post(tokens) @ tower.proj


def contrast(seen: torch.Tensor, read: torch.Tensor, scale: torch.Tensor, truth: torch.Tensor
             ) -> tuple[torch.Tensor, torch.Tensor]:
    """(N, D) embeddings of pictures or parts, and of their texts; (N, N) truth → the loss, and who finds its text.

    A text that is true of another picture too is neither a positive there nor a negative.
    """
    logits = scale * F.normalize(seen, dim=1) @ F.normalize(read, dim=1).T
    same = torch.arange(len(seen), device=seen.device)
    others = truth.to(seen.device) & ~torch.eye(len(seen), dtype=bool, device=seen.device)
    logits = logits.masked_fill(others, -1e4)
    loss = (F.cross_entropy(logits, same) + F.cross_entropy(logits.T, same)) / 2
    return loss, (logits.argmax(1) == same).float().mean()


def run(folder: Path, out: Path, steps: int, size: int, device: str) -> None:
    """Contrastive training in which a caption true of another picture is not a negative."""
    torch.manual_seed(0)
    target = out / "clip"
    target.mkdir(parents=True, exist_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    scenes = shelf(folder / "scenes.npy")
    (target / "open_clip_config.json").write_text(json.dumps(config(), indent=1) + "\n")
    tokenizer.save(tokenizer.build(), target)
    tokens_of = get_tokenizer(f"local-dir:{target}")
    model = CLIP(**config()["model_cfg"]).to(device)
    mean, std = (torch.tensor(PREPROCESS[k], device=device)[:, None, None] for k in ("mean", "std"))

    def loss_of(step: int) -> dict[str, torch.Tensor]:
        raw, chosen, texts, truth = batch(step, size, scenes)
        shares, names, true_of_parts = parts(step, chosen)
        pictures, lots = torch.from_numpy(raw).permute(0, 3, 1, 2).float() / 255, Lots(size, step)
        pictures = worn(recoloured(bent(pictures, lots, 0.06, 0.06, 0.02), lots), lots).to(device)
        with torch.autocast(device, torch.bfloat16):
            out = model.forward_intermediates(image=(pictures - mean) / std, image_indices=2, image_output_fmt="NLC")
            values = patch_values(model.visual, out["image_intermediates"][0])
            read = model.encode_text(tokens_of([*texts, *names]).to(device)).float()
        own = shares.flatten(1).to(device)
        means = torch.einsum("np,npd->nd", own / own.sum(1, keepdim=True), F.normalize(values.float(), dim=-1))
        scale = model.logit_scale.exp().clamp(max=100)
        loss, right = contrast(out["image_features"].float(), read[:size], scale, truth)
        beside, found = contrast(means, read[size:], scale, true_of_parts)
        return {"loss": loss + PARTS * beside, "right": right, "parts": found}

    def export(modules: dict[str, nn.Module]) -> None:
        state = {k: v.half().cpu().contiguous() for k, v in modules["clip"].state_dict().items()}
        save_file(state, target / "open_clip_model.safetensors")

    train({"clip": model}, loss_of, folder=folder, steps=steps, rate=1e-3, weight_decay=0.02, export=export,
          every=200)
