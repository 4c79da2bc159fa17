"""`load_models(profile)`: one loading path for the shipped miniatures and the real models."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import open_clip
import torch
from torch.nn import functional as F
from transformers import AutoImageProcessor, ViTModel
from transformers.utils import logging

from lr_helpers.config import Part, Profile, get_profile
from lr_helpers.errors import UserError
from lr_helpers.hub import fetch
from lr_helpers.inpainting import Editor
from lr_helpers.pipelines import load_editor, require_weights
from lr_helpers.sources import UnavailableError, label

T = TypeVar("T")
logging.disable_progress_bar()


class Backbone:
    """A self-supervised ViT (DINO): features for pooling, and the attention of its [CLS] query."""

    def __init__(self, vit: ViTModel, mean: Sequence[float], std: Sequence[float], size: int):
        self.vit, self.size = vit.eval(), size
        self.mean = torch.tensor(mean, device=vit.device)[:, None, None]
        self.std = torch.tensor(std, device=vit.device)[:, None, None]

    @classmethod
    def load(cls, folder: str, device: str, size: int) -> Backbone:
        """From a folder; safetensors only. Raises ValueError if weights are missing."""
        # Only eager attention returns its weights. The stored type may be half; the CPU wants float32.
        vit, loaded = ViTModel.from_pretrained(folder, attn_implementation="eager", add_pooling_layer=False,
                                               use_safetensors=True, dtype=torch.float32, output_loading_info=True)
        require_weights(loaded)
        processor = AutoImageProcessor.from_pretrained(folder)
        return cls(vit.to(device), processor.image_mean, processor.image_std, size)

    @torch.no_grad()
    def see(self, image: torch.Tensor, normalise: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
        """(3, H, W) in 0..1 → features (d, h, w) of the last layer, and the last layer's attention of
        the [CLS] query over the patches, (heads, h, w). Section 3.1 of the paper.

        Without `normalise` the pixels go in as 0..1 (a defect of the official code).
        """
        pixels = F.interpolate(image[None].to(self.vit.device), size=(self.size, self.size), mode="bicubic",
                               antialias=True).clamp(0, 1)
        if normalise:
            pixels = (pixels - self.mean) / self.std
        out = self.vit(pixels, output_attentions=True, interpolate_pos_encoding=True)
        side = self.size // self.vit.config.patch_size
        features = out.last_hidden_state[0, 1:].T.reshape(-1, side, side)
        attention = out.attentions[-1][0, :, 0, 1:].reshape(-1, side, side)
        return features.float().cpu(), attention.float().cpu()

    @torch.no_grad()
    def keys(self, image: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
        """(3, H, W) in 0..1 → (1 + h·w, d) keys of the last layer's attention, all heads side by side, [CLS] first.

        Resized bilinearly without antialiasing, as torchvision's `Resize` did to tensors when PIE-Bench was published
        (it antialiases since 0.17). `scale` multiplies the pixels before they are normalised.
        """
        pixels = F.interpolate(image[None].to(self.vit.device), size=(self.size, self.size), mode="bilinear")
        taken: list[torch.Tensor] = []
        # transformers returns attention, not keys; the layer's name differs between its versions.
        layers = [m for name, m in self.vit.named_modules() if name.rsplit(".", 1)[-1] in ("k_proj", "key")]
        hook = layers[-1].register_forward_hook(lambda module, inputs, out: taken.append(out))
        try:
            self.vit((scale * pixels - self.mean) / self.std, interpolate_pos_encoding=True)
        finally:
            hook.remove()
        return taken[0][0].float().cpu()


class Clip:
    """open_clip's CLIP: unit embeddings of pictures and texts, and the image tower's tokens."""

    def __init__(self, model: torch.nn.Module, tokenizer: Callable, device: str):
        self.model, self.tokenizer, self.device = model.eval().requires_grad_(False), tokenizer, device
        size = model.visual.image_size
        self.size = size if isinstance(size, tuple) else (size, size)
        self.mean = torch.tensor(model.visual.image_mean, device=device)[:, None, None]
        self.std = torch.tensor(model.visual.image_std, device=device)[:, None, None]

    @classmethod
    def load(cls, place: str, device: str) -> Clip:
        """From a folder with `open_clip_config.json`, or `openclip:NAME:TAG` for a released model."""
        _, name, tag = place.split(":") if place.startswith("openclip:") else (None, f"local-dir:{place}", None)
        model, _, _ = open_clip.create_model_and_transforms(name, pretrained=tag, device=device)
        tokenizer = open_clip.get_tokenizer(name)
        words = getattr(tokenizer, "tokenizer", None)
        if words is not None and len(words) < model.vocab_size:
            raise ValueError(f"its tokenizer has {len(words)} tokens, its text tower {model.vocab_size}")
        return cls(model.float(), tokenizer, device)

    def see(self, images: torch.Tensor, scale: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
        """(N, 3, H, W) in 0..1 → unit embeddings (N, D) and the (N, L, d) visual tokens that enter the
        last block (as the official code takes them for its structural loss). Differentiable.

        `scale` multiplies the pixels first; 255 repeats a defect of the official code.
        """
        pixels = images.to(self.device)
        if tuple(pixels.shape[-2:]) != self.size:
            pixels = F.interpolate(pixels, size=self.size, mode="bicubic", antialias=True).clamp(0, 1)
        out = self.model.forward_intermediates(
            image=(scale * pixels - self.mean) / self.std, image_indices=2, image_output_fmt="NLC")
        return out["image_features"].cpu(), out["image_intermediates"][0].cpu()

    @torch.no_grad()
    def patches(self, image: torch.Tensor, path: str = "value") -> torch.Tensor:
        """(3, H, W) in 0..1 → (h, w, D) unit embeddings of the patches, in the space of `read`.

        `path`: "value" leaves the last block's attention out and takes each patch's own value (MaskCLIP, Zhou et al.
        2022, arXiv 2112.01071); "last" takes the tokens that leave the last block, which were trained only through
        what [CLS] reads from them, and say little of their place.
        """
        tower, pixels = self.model.visual, image[None].to(self.device)
        if tuple(pixels.shape[-2:]) != self.size:
            pixels = F.interpolate(pixels, size=self.size, mode="bicubic", antialias=True).clamp(0, 1)
        before, tokens = self.model.forward_intermediates(
            image=(pixels - self.mean) / self.std, image_indices=2, image_output_fmt="NLC")["image_intermediates"]
        if path == "value":
            block = tower.transformer.resblocks[-1]
            inside = block.ln_1(before)
            alone = ~torch.eye(inside.shape[1], dtype=torch.bool, device=inside.device)  # each sees itself only
            tokens = block.attn(inside, inside, inside, attn_mask=alone, need_weights=False)[0]
        found = F.normalize(tower.ln_post(tokens) @ tower.proj, dim=-1)[0]
        return found.reshape(*tower.grid_size, -1).cpu()

    @torch.no_grad()
    def read(self, texts: Sequence[str]) -> torch.Tensor:
        """Texts → unit embeddings (N, D)."""
        return self.model.encode_text(self.tokenizer(list(texts)).to(self.device), normalize=True).cpu()


@dataclass
class Models:
    """What `load_models` returns: the three models, and where each came from."""

    profile: Profile
    editor: Editor
    backbone: Backbone
    clip: Clip
    device: str
    sources: dict[str, str]
    """Which source served, by part; what came from the hub with `@` and its commit."""
    words: frozenset[str] | None = None
    """All words the models know, or None where any word may be used."""

    def warnings_for(self, text: str) -> list[str]:
        """What the user should know about a prompt: unknown words with the nearest known ones, lost ends."""
        found = []
        if self.words is not None:
            words = dict.fromkeys(re.findall(r"[^\s!-/:-@\[-`{-~]+", text.lower()))
            unknown = [word[:40] for word in words if word not in self.words]
            for word in unknown[:10]:
                near = difflib.get_close_matches(word, sorted(self.words), n=3, cutoff=0.0)
                found.append(f"The models of profile {self.profile.name!r} do not know the word {word!r}; "
                             f"the nearest they know: {', '.join(near)}.")
            if len(unknown) > 10:
                found.append(f"They do not know {len(unknown) - 10} other words of this text either.")
        if lost := self.editor.lost_words(text):
            found.append(f"The text is longer than the model can read; cut off: {lost[:200]!r}.")
        return found


def default_device() -> str:
    """"cuda" where there is one, else "cpu"."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def dtype_for(device: str) -> torch.dtype:
    """The editor's precision on a device: bfloat16 on CUDA GPUs of compute capability 8.0 or higher, float16 on
    older ones (Colab's T4), which have no native bfloat16, and float32 elsewhere."""
    if torch.device(device).type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.get_device_capability(device) >= (8, 0) else torch.float16


def batch_for(device: str, most: int, gigabytes: float | None) -> int:
    """How many edits to make at once: on a GPU what four fifths of its free memory hold, from 1 to `most`.

    `gigabytes`: what one edit takes in float32 (`Part.gigabytes_per_edit`); None where it is small, then `most`. Large
    edits are made one by one on a CPU, where a batch saves no time.
    """
    if gigabytes is None:
        return most
    if torch.device(device).type != "cuda":
        return 1
    edit = gigabytes * dtype_for(device).itemsize / 4
    return max(1, min(most, int(0.8 * torch.cuda.mem_get_info(device)[0] / 1e9 / edit)))


SHIPPED = "use the profile 'tiny', which is shipped"


def first_source(part: str, sources: Sequence[str], load: Callable[[str], tuple[T, str]],
                 otherwise: str = SHIPPED) -> tuple[T, str]:
    """Try the sources in order: what `load` returns, a model and the source's label. UserError if none of them serves:
    one sentence with every reason and mend, `otherwise` the last of them."""
    reasons, mends = [], []
    for source in sources:
        try:
            return load(source)
        except UserError:
            raise
        except torch.OutOfMemoryError as error:
            raise UserError(f"The memory of the GPU does not hold the {part} of {label(source)}; free it (nvidia-smi "
                            "shows who holds it), or use a profile with a smaller model.") from error
        except UnavailableError as error:
            reasons.append(f"{label(source)} ({error.state.text})")
            mends.append(error.state.mend)
        except Exception as error:  # each library has its own; the reason goes to the user
            said = " ".join([type(error).__name__ + ":", *str(error).strip().splitlines()[:1]])
            reasons.append(f"{label(source)} ({said[:180].rstrip(':')})")
            mends.append("give a folder with the whole model")
    mends.append(otherwise)
    raise UserError(f"No source of the {part} could be loaded: {'; '.join(reasons)}; "
                    f"{', or '.join(dict.fromkeys(mends))}.")


def load_backbone(sources: Sequence[str], device: str, size: int,
                  otherwise: str = SHIPPED) -> tuple[Backbone, str]:
    """The first of the sources that can be had, and its label; `size`: side in pixels of what it sees.

    Raises UserError if none can be had, as `first_source`.
    """

    def load(source: str) -> tuple[Backbone, str]:
        found = fetch("backbone", source)
        return Backbone.load(found.place, device, size), found.label

    return first_source("backbone", sources, load, otherwise)


def load_clip(sources: Sequence[str], device: str, otherwise: str = SHIPPED) -> tuple[Clip, str]:
    """The first of the sources that can be had, and its label; UserError if none can be had, as `first_source`."""

    def load(source: str) -> tuple[Clip, str]:
        found = fetch("clip", source)
        return Clip.load(found.place, device), found.label

    return first_source("CLIP model", sources, load, otherwise)


def load_models(profile: str | Profile = "tiny", device: str | None = None, *, editor: str | None = None,
                backbone: str | None = None, clip: str | None = None) -> Models:
    """Load editor, backbone and CLIP of a profile (a name, or a Profile of your own).

    `editor`, `backbone`, `clip`: a folder or a hub id (`OWNER/NAME` or `OWNER/NAME@REVISION`) that is taken instead of
    the profile's own sources. Raises UserError for an unknown profile, a device that is not there, and models that
    are missing, damaged, unfit or out of reach.
    """
    profile = get_profile(profile) if isinstance(profile, str) else profile
    profile = profile.but(editor=editor, backbone=backbone, clip=clip)
    device = device or default_device()
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"The device {device!r} is not available here; use 'cpu'.") from error

    about = profile.parts.get("editor", Part())
    settings = {k: getattr(profile, k) for k in ("size", "steps", "guidance", "batch")}

    editing, editor_source = first_source(
        "editor", profile.editor, lambda s: load_editor(s, device, dtype_for(device), about.variant, **settings))
    seeing, backbone_source = load_backbone(profile.backbone, device, profile.backbone_size)
    judging, clip_source = load_clip(profile.clip, device)
    editing.batch = batch_for(device, profile.batch, about.gigabytes_per_edit)
    words = None
    if profile.vocabulary is not None:
        if not profile.vocabulary.is_file():
            raise UserError(f"The word list {profile.vocabulary} is missing; restore it from the repository.")
        words = frozenset(profile.vocabulary.read_text(encoding="utf-8").split())
    return Models(profile, editing, seeing, judging, device,
                  {"editor": editor_source, "backbone": backbone_source, "clip": clip_source}, words)
