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

NAMES = re.compile(r"lora_unet_\w+\.(?:lora_down\.weight|lora_up\.weight|alpha)"
                   r"|unet\.[\w.]+\.(?:lora_A|lora_B|lora\.down|lora\.up)\.weight")
"""How tensors are called, in the form of kohya's scripts, in which LCM-LoRA is published, and in diffusers' own."""


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
        odd = [name for name in tensors if not NAMES.fullmatch(name)]
        if odd or not tensors:
            raise ValueError(f"it holds {odd[0][:60] if odd else 'nothing'}, which is no LoRA of a UNet")
        return cls(tensors, origin), found.label

    def put_on(self, pipeline: Any, origin: str) -> None:
        """Add the changes to the weights of a pipeline's UNet, which needs no more memory or time then.

        `origin`: the pipeline's. Raises UserError where they do not fit, or are not finite.
        """
        down = [value for name, value in self.tensors.items() if name.endswith(("down.weight", "lora_A.weight"))]
        try:
            with quiet():
                pipeline.load_lora_weights(dict(self.tensors))
                found = [name for name, _ in pipeline.unet.named_modules() if name.endswith(".lora_A")]
                if len(found) != len(down):
                    raise ValueError(f"{len(down)} changes for {len(found)} layers")
                pipeline.fuse_lora(safe_fusing=True)
                pipeline.unload_lora_weights()
        except (AttributeError, KeyError, RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())[:160]
            raise UserError(f"The LoRA of {label(self.origin)} does not fit the editor of {label(origin)} ({reason}); "
                            "give an editor of the family it was made for, or use a profile without one.") from error
