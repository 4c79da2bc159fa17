"""The two encoders a method asks: a self-supervised ViT for where, CLIP for how well."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path

import open_clip
import torch
from torch.nn import functional as F
from transformers import ViTImageProcessor, ViTModel

from lr_helpers.models import clip_config
from lr_helpers.models.layouts import CLIP_WEIGHTS
from lr_helpers.models.libraries import LOCAL, require_weights

SAMPLED = 64
"""So many values of each weight enter a fingerprint."""


def fingerprint(model: torch.nn.Module) -> str:
    """Which weights these are, in 16 hexadecimal digits: by their names, shapes and first values. The same wherever
    they were loaded from, and on any device; training changes it.
    """
    whole = sha256()
    for name, values in sorted(model.state_dict().items()):
        whole.update(f"{name} {tuple(values.shape)} ".encode())
        whole.update(values.flatten()[:SAMPLED].float().cpu().numpy().tobytes())
    return whole.hexdigest()[:16]


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
                                               use_safetensors=True, dtype=torch.float32, output_loading_info=True,
                                               **LOCAL)
        require_weights(loaded)
        processor = ViTImageProcessor.from_pretrained(folder, **LOCAL)
        return cls(vit.to(device), processor.image_mean, processor.image_std, size)

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of patches for a picture of this size: its own aspect, as many patches as the square of
        side `size` has, as nearly as whole patches allow.
        """
        side = self.size // self.vit.config.patch_size
        if height == width:
            return side, side
        columns = max(1, round(side * (width / height) ** 0.5))
        return max(1, round(side * side / columns)), columns

    @torch.no_grad()
    def encode_image(self, image: torch.Tensor, normalise: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
        """(3, H, W) in 0..1 → features (d, h, w) of the last layer, and the last layer's attention of
        the [CLS] query over the patches, (heads, h, w). Section 3.1 of the paper.

        Without `normalise` the pixels go in as 0..1 (a defect of the official code).
        """
        h, w = self.grid(*image.shape[1:])
        patch = self.vit.config.patch_size
        pixels = F.interpolate(image[None].to(self.vit.device), size=(h * patch, w * patch), mode="bicubic",
                               antialias=True).clamp(0, 1)
        if normalise:
            pixels = (pixels - self.mean) / self.std
        out = self.vit(pixels, output_attentions=True, interpolate_pos_encoding=True)
        features = out.last_hidden_state[0, 1:].T.reshape(-1, h, w)
        attention = out.attentions[-1][0, :, 0, 1:].reshape(-1, h, w)
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
    def load(cls, folder: str, device: str, released: str = "") -> Clip:
        """From a folder with `open_clip_config.json` and weights as safetensors.

        `released`: "openclip:NAME:TAG" for weights that open_clip builds by name, with the settings of their tag.
        Raises UnavailableError if what is built is not what its configuration says, e.g. has another activation.
        """
        if released:
            about = clip_config.released(released)
            name, config = about.name, about.config
            # The name's own `quick_gelu` may be another than the tag's, of which open_clip would only warn.
            model = open_clip.create_model(
                name, pretrained=str(Path(folder, CLIP_WEIGHTS)), device=device, require_pretrained=True,
                force_preprocess_cfg=config["preprocess_cfg"], quick_gelu=config["model_cfg"]["quick_gelu"])
        else:
            name = f"local-dir:{folder}"
            config = json.loads(Path(folder, "open_clip_config.json").read_text(encoding="utf-8"))
            model = open_clip.create_model(name, device=device, require_pretrained=True)
        clip_config.require_built(model, config)
        # Its own tokenizer knows no such arguments, and reads nothing of the folder.
        from_folder = not released and config["model_cfg"]["text_cfg"].get("hf_tokenizer_name")
        tokenizer = open_clip.get_tokenizer(name, **(LOCAL if from_folder else {}))
        words = getattr(tokenizer, "tokenizer", None)
        if words is not None and len(words) < model.vocab_size:
            raise ValueError(f"its tokenizer has {len(words)} tokens, its text tower {model.vocab_size}")
        return cls(model.float(), tokenizer, device)

    def resized(self, images: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) in 0..1 → (N, 3, h, w) of the size that the image tower takes; all of the picture, squashed if
        it is not square: what is cut off at the sides could not be judged.
        """
        if tuple(images.shape[-2:]) == self.size:
            return images
        return F.interpolate(images, size=self.size, mode="bicubic", antialias=True).clamp(0, 1)

    def encode_image(self, images: torch.Tensor, scale: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
        """(N, 3, H, W) in 0..1 → unit embeddings (N, D) and the (N, L, d) visual tokens that enter the
        last block (as the official code takes them for its structural loss). Differentiable.

        `scale` multiplies the pixels first; 255 repeats a defect of the official code.
        """
        pixels = self.resized(images.to(self.device))
        out = self.model.forward_intermediates(
            image=(scale * pixels - self.mean) / self.std, image_indices=2, image_output_fmt="NLC")
        return out["image_features"].cpu(), out["image_intermediates"][0].cpu()

    @torch.no_grad()
    def patches(self, image: torch.Tensor, path: str = "value") -> torch.Tensor:
        """(3, H, W) in 0..1 → (h, w, D) unit embeddings of the patches, in the space of `encode_text`.

        `path`: "value" leaves the last block's attention out and takes each patch's own value (MaskCLIP, Zhou et al.
        2022, arXiv 2112.01071); "last" takes the tokens that leave the last block, which were trained only through
        what [CLS] reads from them, and say little of their place.
        """
        tower, pixels = self.model.visual, self.resized(image[None].to(self.device))
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
    def encode_text(self, texts: Sequence[str]) -> torch.Tensor:
        """Texts → unit embeddings (N, D)."""
        return self.model.encode_text(self.tokenizer(list(texts)).to(self.device), normalize=True).cpu()
