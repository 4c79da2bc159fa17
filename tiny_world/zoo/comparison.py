"""Two miniatures more, for comparison: text to image, and an editor that follows instructions (InstructPix2Pix).

Both start from the inpainting editor's weights, as InstructPix2Pix started from Stable Diffusion's, and are smaller: no
middle block, and no attention on the way down at the lowest resolution. So all of the zoo stays under 48 MB.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random

import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    DiffusionPipeline,
    StableDiffusionInstructPix2PixPipeline,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from torch import nn
from torch.nn import functional as F
from transformers import CLIPTextModel, CLIPTokenizer

from lr_helpers.boxes import Box
from tiny_world import GRID, SIZE
from tiny_world.scenes import Recipe, random_recipe
from tiny_world.words import INSTRUCTION_WORDS, NAMES, held_out, instruction, vocabulary
from tiny_world.zoo import tokenizer
from tiny_world.zoo.inpainting import CROP, build_scheduler, build_text_encoder, kept, window
from tiny_world.zoo.training import save_half, train
from tiny_world.zoo.vae import CHANNELS


@dataclass(frozen=True)
class Example:
    """A picture to make, and what it is made from."""

    after: Recipe
    before: Recipe | None
    """The picture that an instruction changes; None for a caption."""
    boxes: tuple[Box, ...]
    """What counts most in the loss."""
    text: str


def scene_example(rng: Random) -> Example:
    """A scene of 0-3 objects, and a caption of it."""
    recipe = random_recipe(rng, rng.choice((0, 1, 1, 1, 1, 2, 2, 3)))
    return Example(recipe, None, tuple(o.box for o in recipe.objects), recipe.caption(rng))


def instruction_example(rng: Random) -> Example:
    """Two scenes that differ in one object, and the instruction that leads from one to the other.

    Half of them replace, a fourth adds, the others remove.
    """
    after, kind = random_recipe(rng), rng.choice(("replace", "replace", "add", "remove"))
    index = rng.randrange(len(after.objects))
    thing, there = after.objects[index], {o.name for o in after.objects}
    if kind == "replace":
        free = [n for n in NAMES if n not in there and not held_out(n, after.place)]
        before = after.replaced(index, rng.choice(free))
        old = before.objects[index]
        return Example(after, before, (thing.box, old.box), instruction(old.name, thing.name, after.place, rng))
    if kind == "add":
        return Example(after, after.removed(index), (thing.box,), instruction(None, thing.name, after.place, rng))
    return Example(after.removed(index), after, (thing.box,), instruction(thing.name, None, after.place, rng))


def build_unet(channels: int) -> UNet2DConditionModel:
    """An untrained UNet of 5.3 M weights with this many channels in, 8 out."""
    return UNet2DConditionModel(
        sample_size=SIZE // GRID, in_channels=channels, out_channels=CHANNELS, block_out_channels=(64, 128, 128),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"), mid_block_type=None,
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1, cross_attention_dim=128, attention_head_dim=4, norm_num_groups=16)


def start_unet(unet: UNet2DConditionModel, editor: UNet2DConditionModel, grey: torch.Tensor) -> None:
    """Take over all weights that the inpainting editor has too; its channels are noisy (8), mask (1), picture (8).

    Without picture channels, the network starts as the editor is where all is masked: what it makes of a mask of ones
    and of a grey picture's latents, `grey` (8,), goes into the bias. So it can paint from a text before the first step.
    """
    known = editor.state_dict()
    noisy, mask, picture = known["conv_in.weight"].split((CHANNELS, 1, CHANNELS), dim=1)
    if unet.config.in_channels == CHANNELS:
        known["conv_in.weight"] = noisy
        known["conv_in.bias"] = known["conv_in.bias"] + mask.sum((1, 2, 3)) + picture.sum((2, 3)) @ grey
    else:
        known["conv_in.weight"] = torch.cat([noisy, picture], dim=1)
    unet.load_state_dict({name: known[name] for name in unet.state_dict()})


def start_text_encoder(encoder: CLIPTextModel, words: CLIPTokenizer, editor: CLIPTextModel,
                       editors_words: CLIPTokenizer) -> None:
    """Take over all weights of the editor's text encoder; words that it does not know keep their first values."""
    mine, known = encoder.state_dict(), editor.state_dict()
    name = next(n for n in known if n.endswith("token_embedding.weight"))
    embedding, ids = mine[name].clone(), editors_words.get_vocab()
    for word, i in words.get_vocab().items():
        if word in ids:
            embedding[i] = known[name][ids[word]]
    encoder.load_state_dict({**known, name: embedding})


@torch.no_grad()
def prepare(vae: AutoencoderKL, example: Callable[[Random], Example], words: CLIPTokenizer, count: int, crop: int,
            outside: float, seed: str, device: str) -> dict[str, torch.Tensor]:
    """`count` encoded examples: latents after and before (fp16), loss weights (`outside` the boxes, 1 in them), ids."""
    rng = Random(seed)
    out: dict[str, list[torch.Tensor]] = {"after": [], "before": [], "weight": [], "tokens": []}
    for start in range(0, count, 64):
        examples = [example(rng) for _ in range(min(64, count - start))]
        weights = np.full((len(examples), 1, SIZE, SIZE), outside, np.float32)
        pictures = np.empty((2, len(examples), crop, crop, 3), np.uint8)
        cut = np.empty((len(examples), 1, crop, crop), np.float32)
        for i, one in enumerate(examples):
            for x0, y0, x1, y1 in one.boxes:
                weights[i, 0, y0:y1, x0:x1] = 1
            x, y = window(one.boxes[0], crop, rng) if crop < SIZE else (0, 0)
            here = slice(y, y + crop), slice(x, x + crop)
            cut[i, 0] = weights[i, 0][here]
            for j, recipe in enumerate((one.after, one.before or one.after)):
                pictures[j, i] = recipe.render()[here]
        tensor = torch.from_numpy(pictures).flatten(0, 1).permute(0, 3, 1, 2).float().to(device) / 127.5 - 1
        with torch.autocast(device, torch.bfloat16):  # on a CPU in half the time
            latents = vae.encode(tensor.to(memory_format=torch.channels_last)).latent_dist.mode()
        after, before = latents.half().cpu().chunk(2)
        ids = words([e.text for e in examples], padding="max_length", truncation=True, return_tensors="pt").input_ids
        values = (after, before, F.avg_pool2d(torch.from_numpy(cut), GRID).half(), ids.short())
        for key, value in zip(out, values, strict=True):
            out[key].append(value)
        if start % 4096 == 0:
            print(f"encoded {start}/{count} examples of {crop} px", flush=True)
    return {key: torch.cat(values) for key, values in out.items()}


@dataclass(frozen=True)
class Kind:
    """What the two trainings differ in."""

    example: Callable[[Random], Example]
    channels: int
    words: tuple[str, ...]
    """Beside the vocabulary."""
    outside: float
    """Weight of the loss outside the boxes."""
    crops: bool
    """Most samples are 96×96 windows, as for the inpainting editor."""
    pipeline: type[DiffusionPipeline]


KINDS = {
    "text_to_image": Kind(scene_example, CHANNELS, (), 0.4, False, StableDiffusionPipeline),
    "instruct": Kind(instruction_example, 2 * CHANNELS, INSTRUCTION_WORDS, 0.15, True,
                     StableDiffusionInstructPix2PixPipeline),
}


def run(name: str, folder: Path, out: Path, steps: int, size: int, device: str, examples: int = 20_000) -> None:
    """Train UNet and text encoder of this kind on encoded examples; write the pipeline to `out/name`."""
    kind, source = KINDS[name], out / "inpainting"
    torch.manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    vae = AutoencoderKL.from_pretrained(source / "vae", torch_dtype=torch.float32).eval()
    vae.to(device, memory_format=torch.channels_last)
    words, scheduler = tokenizer.build(vocabulary(kind.words)), build_scheduler()
    caches = {}
    for crop, number in ((CROP, examples), (SIZE, examples * 3 // 10)) if kind.crops else ((SIZE, examples),):
        make = partial(prepare, vae, kind.example, words, number, crop, kind.outside, f"{name} {crop}", device)
        caches[crop] = kept(folder, str(crop), vae, make)
    empty = words("", padding="max_length", return_tensors="pt").input_ids
    unet, text_encoder = build_unet(kind.channels), build_text_encoder(words)
    with torch.no_grad():
        grey = vae.encode(torch.zeros(1, 3, SIZE, SIZE, device=device)).latent_dist.mode().mean((0, 2, 3)).cpu()
    start_unet(unet, UNet2DConditionModel.from_pretrained(source / "unet", torch_dtype=torch.float32), grey)
    start_text_encoder(text_encoder, words,
                       CLIPTextModel.from_pretrained(source / "text_encoder", torch_dtype=torch.float32),
                       CLIPTokenizer.from_pretrained(source / "tokenizer"))
    unet.to(device)  # on a CPU a third faster than in channels_last
    text_encoder.to(device)

    def loss_of(step: int) -> dict[str, torch.Tensor]:
        draw = torch.Generator().manual_seed(step)
        whole = not kind.crops or (step >= 0.5 * steps and step % 2 == 0)
        cache = caches[SIZE if whole else CROP]
        rows = torch.randint(len(cache["tokens"]), (size,), generator=draw)
        latent, picture, weight = (cache[k][rows].float().to(device) for k in ("after", "before", "weight"))
        # One example in ten forgets its text, one in ten its picture, half of these both: as InstructPix2Pix does.
        lot = torch.rand(size, 1, generator=draw)
        tokens = torch.where(lot < 0.1, empty, cache["tokens"][rows].long()).to(device)
        picture = torch.where(((lot > 0.05) & (lot < 0.15)).to(device)[..., None, None], 0, picture)
        noise = torch.randn(latent.shape, generator=draw).to(device)
        times = (1000 * torch.rand(size, generator=draw) ** 0.6).long().to(device)
        noisy = scheduler.add_noise(latent, noise, times)
        target = scheduler.get_velocity(latent, noise, times)
        seen = torch.cat([noisy, picture], 1)[:, :kind.channels]
        with torch.autocast(device, torch.bfloat16):
            result = unet(seen, times, text_encoder(tokens).last_hidden_state).sample.float()
        error = (result - target).square().mean(1, keepdim=True)
        return {"loss": ((weight * error).flatten(1).sum(1) / weight.flatten(1).sum(1)).mean()}

    def export(modules: dict[str, nn.Module]) -> None:
        save_pipeline(out / name, kind, vae, words, modules["unet"], modules["text_encoder"])

    train({"unet": unet, "text_encoder": text_encoder}, loss_of, folder=folder, steps=steps, rate=1e-3, export=export)


def save_pipeline(folder: Path, kind: Kind, vae: AutoencoderKL, words: CLIPTokenizer, unet: nn.Module,
                  text_encoder: nn.Module) -> None:
    """Write all parts but the VAE, which is the inpainting editor's, and the `model_index.json` of the pipeline."""
    save_half(unet, folder / "unet")
    save_half(text_encoder, folder / "text_encoder")
    tokenizer.save(words, folder / "tokenizer")
    build_scheduler().save_pretrained(folder / "scheduler")
    pipeline = kind.pipeline(vae=vae, text_encoder=text_encoder, tokenizer=words, unet=unet,
                             scheduler=build_scheduler(), safety_checker=None, feature_extractor=None,
                             requires_safety_checker=False)
    pipeline.to_json_file(folder / "model_index.json")


text_to_image, instruct = partial(run, "text_to_image"), partial(run, "instruct")
