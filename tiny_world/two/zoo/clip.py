"""The picture-text model: open_clip's CLIP with a ViT image tower of 8×8 tokens."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import numpy as np
import torch
from open_clip import CLIP, get_tokenizer
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

from tiny_world.two import SIZE, tokenizer
from tiny_world.two.scenes import Recipe, random_recipe
from tiny_world.two.words import GROUND, STYLE_WORDS, TEXTURES, caption, noun_phrase, prompt_for_place
from tiny_world.two.zoo.looks import Lots, bent, recoloured, worn
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


def example(rng: Random) -> tuple[Recipe, str, set[str], set[str]]:
    """A scene, a caption, what the caption says, and all that is so in the scene.

    A caption names all objects and the place, or leaves some of them out; one of four says in which style they are.
    """
    recipe = random_recipe(rng, count=0 if rng.random() < 0.04 else None)
    there = {o.name for o in recipe.objects} | {f"{o.style} {o.name}" for o in recipe.objects} | {recipe.place}
    there |= {GROUND} if recipe.place in TEXTURES else set()
    if not recipe.objects:
        text = prompt_for_place(recipe.place, rng)
        return recipe, text, {"nothing", GROUND if GROUND in text.split() else recipe.place}, there | {"nothing"}
    some = rng.sample(recipe.objects, rng.randint(1, len(recipe.objects)))
    styles = [o.style if rng.random() < 0.25 and o.style in STYLE_WORDS else None for o in some]
    if rng.random() < 0.35:
        text = " and ".join(noun_phrase(o.name, rng, s) for o, s in zip(some, styles, strict=True))
    else:
        text = caption([o.name for o in some], recipe.place, rng, styles)
    said = {f"{s} {o.name}" if s else o.name for o, s in zip(some, styles, strict=True)}
    return recipe, text, said | ({recipe.place, GROUND} & set(text.split())), there


def batch(step: int, size: int) -> tuple[np.ndarray, list[str], torch.Tensor]:
    """Pictures (size, 128, 128, 3) uint8, captions, and (size, size) truth: caption j holds for picture i."""
    rng = Random(f"clip {step}")
    examples = [example(rng) for _ in range(size)]
    pictures = np.stack([recipe.render() for recipe, *_ in examples])
    truth = torch.tensor([[said <= there for _, _, said, _ in examples] for *_, there in examples])
    return pictures, [text for _, text, *_ in examples], truth


def run(folder: Path, out: Path, steps: int, size: int, device: str) -> None:
    """Contrastive training in which a caption true of another picture is not a negative."""
    torch.manual_seed(0)
    target = out / "clip"
    target.mkdir(parents=True, exist_ok=True)
    (target / "open_clip_config.json").write_text(json.dumps(config(), indent=1) + "\n")
    tokenizer.save(tokenizer.build(), target)
    tokens_of = get_tokenizer(f"local-dir:{target}")
    model = CLIP(**config()["model_cfg"]).to(device)
    mean, std = (torch.tensor(PREPROCESS[k], device=device)[:, None, None] for k in ("mean", "std"))

    def loss_of(step: int) -> dict[str, torch.Tensor]:
        raw, texts, truth = batch(step, size)
        pictures, lots = torch.from_numpy(raw).permute(0, 3, 1, 2).float() / 255, Lots(size, step)
        pictures = worn(recoloured(bent(pictures, lots, 0.06, 0.06, 0.02), lots), lots).to(device)
        with torch.autocast(device, torch.bfloat16):
            seen = model.encode_image((pictures - mean) / std).float()
            read = model.encode_text(tokens_of(texts).to(device)).float()
        seen, read = F.normalize(seen, dim=1), F.normalize(read, dim=1)
        logits = model.logit_scale.exp().clamp(max=100) * seen @ read.T
        same = torch.arange(size, device=device)
        # True of this picture but written for another: neither a positive nor a negative.
        logits = logits.masked_fill(truth.to(device) & ~torch.eye(size, dtype=bool, device=device), -1e4)
        loss = (F.cross_entropy(logits, same) + F.cross_entropy(logits.T, same)) / 2
        return {"loss": loss, "right": (logits.argmax(1) == same).float().mean()}

    def export(modules: dict[str, nn.Module]) -> None:
        state = {k: v.half().cpu().contiguous() for k, v in modules["clip"].state_dict().items()}
        save_file(state, target / "open_clip_model.safetensors")

    train({"clip": model}, loss_of, folder=folder, steps=steps, rate=1e-3, weight_decay=0.02, export=export,
          every=200)
