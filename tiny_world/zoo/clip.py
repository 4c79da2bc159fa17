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

from tiny_world import SIZE
from tiny_world.scenes import random_recipe
from tiny_world.words import caption, prompt_for_place, with_article
from tiny_world.zoo import tokenizer
from tiny_world.zoo.training import train

PREPROCESS = {"mean": [0.48145466, 0.4578275, 0.40821073], "std": [0.26862954, 0.26130258, 0.27577711],
              "interpolation": "bicubic", "resize_mode": "squash"}


def config() -> dict:
    """What goes into `open_clip_config.json`."""
    return {
        "model_cfg": {
            "embed_dim": 128,
            "vision_cfg": {"image_size": SIZE, "patch_size": 8, "layers": 4, "width": 128, "head_width": 32},
            "text_cfg": {"context_length": tokenizer.LENGTH, "vocab_size": len(tokenizer.build()),
                         "width": 128, "heads": 4, "layers": 2, "hf_tokenizer_name": "local"},
        },
        "preprocess_cfg": PREPROCESS,
    }


def batch(step: int, size: int) -> tuple[np.ndarray, list[str], torch.Tensor]:
    """Pictures (size, 64, 64, 3) uint8, captions, and (size, size) truth: caption j holds for picture i.

    A caption names all objects and the place, or leaves some of them out.
    """
    rng = Random(f"clip {step}")
    pictures, texts, said, there = np.empty((size, SIZE, SIZE, 3), np.uint8), [], [], []
    for i in range(size):
        recipe = random_recipe(rng, count=0 if rng.random() < 0.04 else None)
        pictures[i] = recipe.render()
        names = [thing.name for thing in recipe.objects]
        some = rng.sample(names, rng.randint(1, len(names))) if names else []
        if some and rng.random() < 0.35:
            text, facts = " and ".join(with_article(n) for n in some), set(some)
        elif some:
            text = caption(some, recipe.place, rng)
            facts = {*some, *([recipe.place] if recipe.place in text.split() else [])}
        else:
            text, facts = prompt_for_place(recipe.place, rng), {recipe.place, "nothing"}
        texts.append(text)
        said.append(facts)
        there.append({*names, recipe.place, *(() if names else ("nothing",))})
    truth = torch.tensor([[facts <= scene for facts in said] for scene in there])
    return pictures, texts, truth


def _softened(pictures: torch.Tensor) -> torch.Tensor:
    return F.interpolate(F.avg_pool2d(pictures, 2), scale_factor=2, mode="bilinear")


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
        pictures = torch.from_numpy(raw).to(device).permute(0, 3, 1, 2).float() / 255
        if step % 3 == 0:
            pictures = _softened(pictures)
        seen = model.encode_image((pictures - mean) / std, normalize=True)
        read = model.encode_text(tokens_of(texts).to(device), normalize=True)
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
          every=250)
