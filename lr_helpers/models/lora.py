"""A LoRA: low-rank changes of a UNet's weights, here those that make it denoise in few steps."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from lr_helpers.errors import UserError
from lr_helpers.models.hub import opened
from lr_helpers.models.layouts import LORA_WEIGHTS
from lr_helpers.models.libraries import quiet
from lr_helpers.models.origins import label

KOHYA = re.compile(r"lora_unet_(\w+)\.(lora_down\.weight|lora_up\.weight|alpha)")
"""How tensors are called by kohya's scripts, and so in LCM-LoRA: a layer's name, its dots written as underscores."""
PEFT = re.compile(r"unet\.([\w.]+)\.(lora_A\.weight|lora_B\.weight)")
"""How diffusers and peft call them."""


@dataclass(frozen=True)
class Lora:
    """Its tensors by name, as published."""

    tensors: dict[str, torch.Tensor]
    origin: str

    @classmethod
    def load(cls, origin: str) -> tuple[Lora, str]:
        """From a folder or hub id, and the origin's label; safetensors only, without what their header says beside.

        Raises UnavailableError where it can't serve, ValueError if there is anything but a UNet's changes.
        """
        with opened("lora", origin) as found:
            tensors = load_file(Path(found.place, LORA_WEIGHTS))
        odd = [name for name in tensors if not (KOHYA.fullmatch(name) or PEFT.fullmatch(name))]
        if odd or not tensors:
            raise ValueError(f"it holds {odd[0][:60] if odd else 'nothing'}, which is no LoRA of a UNet")
        return cls(tensors, origin), found.label

    def put_on(self, pipeline: Any, origin: str) -> None:
        """Add the changes to the weights of a pipeline's UNet, which needs no more memory or time then.

        `origin`: the pipeline's. Raises UserError where they do not fit, or are not finite.
        """
        try:
            changes = self._by_layer(pipeline.unet)
            with quiet():
                pipeline.load_lora_weights(changes)
                found = [name for name, _ in pipeline.unet.named_modules() if name.endswith(".lora_A")]
                if 2 * len(found) != len(changes):
                    raise ValueError(f"{len(changes) // 2} changes for {len(found)} layers")
                pipeline.fuse_lora(safe_fusing=True)
                pipeline.unload_lora_weights()
        except (AttributeError, KeyError, RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())[:160]
            raise UserError(f"The LoRA of {label(self.origin)} does not fit the editor of {label(origin)} ({reason}); "
                            "give an editor of the family it was made for, or use a profile without one.") from error

    def _by_layer(self, unet: torch.nn.Module) -> dict[str, torch.Tensor]:
        """The tensors by peft's names for the layers of this UNet; ValueError for a layer that it does not have.

        diffusers guesses names from kohya's, differently in each version.
        """
        layers = {name.replace(".", "_"): name for name, _ in unet.named_modules()}
        found = {}
        for name, values in self.tensors.items():
            given = KOHYA.fullmatch(name) or PEFT.fullmatch(name)
            stem, what = given.groups()
            layer = layers.get(stem.replace(".", "_"))
            if layer is None:
                raise ValueError(f"it changes {stem[:60]}, which is not there")
            if what in ("lora_down.weight", "lora_A.weight"):
                found[f"unet.{layer}.lora_A.weight"] = values
            elif what != "alpha":
                # The change is α / rank · up · down; without α, it is that of 1.
                alpha = self.tensors.get(f"{name.removesuffix(f'.{what}')}.alpha")
                found[f"unet.{layer}.lora_B.weight"] = values if alpha is None else values * (alpha / values.shape[1])
        return found
