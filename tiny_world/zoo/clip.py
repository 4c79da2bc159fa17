"""The picture-text model: open_clip's CLIP with a ViT image tower of 8×8 tokens.

Large CLIPs learn from a great many pictures what stands at a patch's place. So few scenes don't teach that, so the
patches are told: those of an object are compared with its name, those beside all objects with the place.

Two trainings, one after the other. In `run` a scene is compared with scenes that mostly differ in everything. In
`run_alike` it is compared with the same scene where one object is another, and an object's patches with those of what
stands beside it: hard negatives, as for NegCLIP (Yüksekgönül et al. 2023, arXiv 2210.01936).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

import numpy as np
import torch
from open_clip import CLIP, get_tokenizer
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F

from tiny_world import SIZE
from tiny_world.scenes import Placed, Recipe, random_recipe
from tiny_world.sprites import SEEN_STYLES
from tiny_world.words import GROUND, NAMES, STYLE_WORDS, TEXTURES, caption, held_out, noun_phrase, prompt_for_place
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


def changed_scene(number: int) -> tuple[Recipe, int]:
    """A scene (even numbers), or the one before it with one object replaced by another (odd ones), and which one. No
    training pair of object and place is a held-out one.
    """
    rng = Random(f"clip changed scene {number // 2}")
    recipe = random_recipe(rng, hands=SEEN_STYLES)
    index = rng.randrange(len(recipe.objects))
    others = [n for n in NAMES if n not in {o.name for o in recipe.objects} and not held_out(n, recipe.place)]
    name = rng.choice(others)
    return recipe.replaced(index, name) if number % 2 else recipe, index


def shelf(file: Path, scene_of: Callable[[int], Recipe] = random_scene, count: int = SHELF) -> np.ndarray:
    """Pictures of the first `count` scenes, (count, 128, 128, 3) uint8; drawn into `file` where they are not there."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        drawn = np.lib.format.open_memmap(file.with_suffix(".part"), "w+", np.uint8, (count, SIZE, SIZE, 3))
        for number in range(count):
            drawn[number] = scene_of(number).render()
        drawn.flush()
        file.with_suffix(".part").rename(file)
    return np.load(file, mmap_mode="r")


def described(recipe: Recipe, rng: Random, index: int | None = None) -> tuple[str, set[str], set[str]]:
    """A caption of a scene, what the caption says, and all that is so in the scene.

    A caption names all objects and the place, or leaves some of them out, but not the one of this `index`; one of four
    says in which style they are.
    """
    there = {o.name for o in recipe.objects} | {f"{o.style} {o.name}" for o in recipe.objects} | {recipe.place}
    there |= {GROUND} if recipe.place in TEXTURES else set()
    if not recipe.objects:
        text = prompt_for_place(recipe.place, rng)
        return text, {"nothing", GROUND if GROUND in text.split() else recipe.place}, there | {"nothing"}
    some = rng.sample(recipe.objects, rng.randint(1, len(recipe.objects)))
    if index is not None and recipe.objects[index] not in some:
        some[0] = recipe.objects[index]
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


def alike(step: int, size: int, pictures: np.ndarray) -> tuple[np.ndarray, list[int], list[str], torch.Tensor]:
    """The same of `changed_scene`: both scenes of a pair, and each caption names the object in which they differ."""
    rng = Random(f"clip alike {step}")
    pairs = rng.sample(range(len(pictures) // 2), size // 2)
    chosen = [number for pair in pairs for number in (2 * pair, 2 * pair + 1)]
    examples = [described(recipe, rng, index) for recipe, index in map(changed_scene, chosen)]
    truth = torch.tensor([[said <= there for _, said, _ in examples] for *_, there in examples])
    return pictures[chosen], chosen, [text for text, *_ in examples], truth


class Parts:
    """Parts of scenes, objects and backgrounds: where each is, what it is called, and what else is true of it."""

    def __init__(self) -> None:
        self.owners: list[int] = []
        """For each part, which picture of the batch it is of."""
        self.shares: list[torch.Tensor] = []
        """(8, 8): how much of each patch lies in it."""
        self.texts: list[str] = []
        self._said: list[set[str]] = []
        self._there: list[set[str]] = []

    def add_object(self, owner: int, thing: Placed, rng: Random) -> None:
        """An object, called by its name, and one time of four by its style too."""
        style = thing.style if rng.random() < 0.25 and thing.style in STYLE_WORDS else None
        self.owners.append(owner)
        self.shares.append(covered(thing))
        self.texts.append(noun_phrase(thing.name, rng, style))
        self._said.append({f"{style} {thing.name}" if style else thing.name})
        self._there.append({thing.name, f"{thing.style} {thing.name}"})

    def add_ground(self, owner: int, recipe: Recipe, rng: Random) -> None:
        """All that no object touches, called by the place."""
        free = torch.ones(GRID, GRID)
        for thing in recipe.objects:
            free = free * (covered(thing) == 0)
        text = prompt_for_place(recipe.place, rng)
        self.owners.append(owner)
        # Where objects touch all patches, the scene as it is.
        self.shares.append(free if free.any() else torch.ones(GRID, GRID))
        self.texts.append(text)
        self._said.append({GROUND if GROUND in text.split() else recipe.place})
        self._there.append({recipe.place} | ({GROUND} if recipe.place in TEXTURES else set()))

    def truth(self) -> torch.Tensor:
        """(N, N): text j holds for part i."""
        return torch.tensor([[one <= own for one in self._said] for own in self._there])


def parts(step: int, chosen: Sequence[int]) -> Parts:
    """One part of each of `random_scene`'s."""
    rng, found = Random(f"clip parts {step}"), Parts()
    for owner, recipe in enumerate(map(random_scene, chosen)):
        if recipe.objects and rng.random() < 0.7:
            found.add_object(owner, rng.choice(recipe.objects), rng)
        else:
            found.add_ground(owner, recipe, rng)
    return found


def parts_beside(step: int, chosen: Sequence[int]) -> Parts:
    """Two parts of each of `changed_scene`'s: two objects, or an object and the ground."""
    rng, found = Random(f"clip parts beside {step}"), Parts()
    for owner, (recipe, _) in enumerate(map(changed_scene, chosen)):
        things = rng.sample(recipe.objects, min(2, len(recipe.objects)))
        if len(things) == 2 and rng.random() < 0.3:
            things.pop()
        for thing in things:
            found.add_object(owner, thing, rng)
        if len(things) == 1:
            found.add_ground(owner, recipe, rng)
    return found


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


def run(folder: Path, out: Path, steps: int, size: int, device: str, count: int = SHELF) -> None:
    """Contrastive training in which a caption true of another picture is not a negative."""
    torch.manual_seed(0)
    target = out / "clip"
    target.mkdir(parents=True, exist_ok=True)
    (target / "open_clip_config.json").write_text(json.dumps(config(), indent=1) + "\n")
    tokenizer.save(tokenizer.build(), target)
    model = CLIP(**config()["model_cfg"])
    scenes = shelf(folder / "scenes.npy", random_scene, count)
    _learn(model, folder, target, steps, size, device, scenes, batch, parts, rate=1e-3)


def run_alike(folder: Path, out: Path, steps: int, size: int, device: str, count: int = SHELF) -> None:
    """Goes on from the weights in `out/clip`, with scenes and parts that are much alike."""
    torch.manual_seed(0)
    target = out / "clip"
    model = CLIP(**config()["model_cfg"])
    stored = load_file(target / "open_clip_model.safetensors")
    model.load_state_dict({name: tensor.float() for name, tensor in stored.items()})
    scenes = shelf(folder / "scenes.npy", lambda number: changed_scene(number)[0], count)
    _learn(model, folder, target, steps, size, device, scenes, alike, parts_beside, rate=7e-4)


def _learn(model: CLIP, folder: Path, target: Path, steps: int, size: int, device: str,
           scenes: np.ndarray, batch_of: Callable, parts_of: Callable, rate: float) -> None:
    """Both trainings: pictures with their captions, and parts with theirs; writes the weights into `target`."""
    tokens_of = get_tokenizer(f"local-dir:{target}")
    model = model.to(device)
    mean, std = (torch.tensor(PREPROCESS[k], device=device)[:, None, None] for k in ("mean", "std"))

    def loss_of(step: int) -> dict[str, torch.Tensor]:
        raw, chosen, texts, truth = batch_of(step, size, scenes)
        part = parts_of(step, chosen)
        pictures, lots = torch.from_numpy(raw).permute(0, 3, 1, 2).float() / 255, Lots(size, step)
        pictures = worn(recoloured(bent(pictures, lots, 0.06, 0.06, 0.02), lots), lots).to(device)
        with torch.autocast(device, torch.bfloat16):
            out = model.forward_intermediates(image=(pictures - mean) / std, image_indices=2, image_output_fmt="NLC")
            values = patch_values(model.visual, out["image_intermediates"][0])
            read = model.encode_text(tokens_of([*texts, *part.texts]).to(device)).float()
        own, values = torch.stack(part.shares).flatten(1).to(device), F.normalize(values.float(), dim=-1)[part.owners]
        means = torch.einsum("np,npd->nd", own / own.sum(1, keepdim=True), values)
        scale = model.logit_scale.exp().clamp(max=100)
        loss, right = contrast(out["image_features"].float(), read[:size], scale, truth)
        beside, found = contrast(means, read[size:], scale, part.truth())
        return {"loss": loss + PARTS * beside, "right": right, "parts": found}

    def export(modules: dict[str, nn.Module]) -> None:
        state = {k: v.half().cpu().contiguous() for k, v in modules["clip"].state_dict().items()}
        save_file(state, target / "open_clip_model.safetensors")

    train({"clip": model}, loss_of, folder=folder, steps=steps, rate=rate, weight_decay=0.02, export=export,
          every=200)
