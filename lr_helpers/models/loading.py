"""`load_models(profile)`: one loading path for the shipped miniatures and the real models."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import torch

from lr_helpers.errors import UserError
from lr_helpers.inpainting import Editor
from lr_helpers.machine.threads import adapt
from lr_helpers.models.encoders import Backbone, Clip
from lr_helpers.models.hub import opened
from lr_helpers.models.libraries import truncated
from lr_helpers.models.lora import Lora
from lr_helpers.models.origins import UnavailableError, label
from lr_helpers.models.pipelines import load_decoder, load_editor
from lr_helpers.models.profiles import NO_GPU, Part, Profile, get_profile
from lr_helpers.models.refusals import told

T = TypeVar("T")

SHIPPED = "use the profile 'tiny', which is shipped"
"""The last fix that is offered where a profile's model can't be had."""
WORD = re.compile(r"[^\s!-/:-@\[-`{-~]+")
"""Words are what stands between spaces and ASCII punctuation."""


@dataclass
class Models:
    """What `load_models` returns: the three models, and where each came from."""

    profile: Profile
    editor: Editor
    backbone: Backbone
    clip: Clip
    device: str
    origins: dict[str, str]
    """Which origin served, by part; what came from the hub with `@` and its commit."""
    words: frozenset[str] | None = None
    """All words the models know, or None where any word may be used."""
    predictor: Any = field(default=None, repr=False, compare=False)
    """Kept here by `predictor.predictor_of`, once it is loaded, with its file."""

    @cached_property
    def neutral(self) -> torch.Tensor:
        """(D,): the mean of CLIP's embeddings of the profile's neutral texts, what all its texts have in common.

        Half of them name things, half what lies behind things (grass, a wall, the sky). With names of things alone the
        rest of a source's text would no longer say that it is a thing, and patches of the background look like it.

        Raises UserError if their file is missing or empty.
        """
        file = self.profile.neutral_texts
        try:
            texts = [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{file} can't be read ({error}); restore it, e.g. by: git checkout -- "
                            f"{file.name}") from error
        if not texts:
            raise UserError(f"{file} is empty; give names of things, one a line.")
        return self.clip.encode_text(texts).mean(0)

    def warnings_for(self, text: str) -> list[str]:
        """What the user should know about a text: words the models do not know, and an end they can't read.

        One sentence each; at most ten unknown words are named, each with the nearest known ones.
        """
        found = []
        if self.words is not None:
            unknown = [word[:40] for word in dict.fromkeys(WORD.findall(text.lower())) if word not in self.words]
            for word in unknown[:10]:
                near = difflib.get_close_matches(word, sorted(self.words), n=3, cutoff=0.0)
                found.append(f"The models of profile {self.profile.name!r} do not know the word {word!r}; "
                             f"the nearest they know: {', '.join(near)}.")
            if len(unknown) > 10:
                found.append(f"They do not know {len(unknown) - 10} other words of this text either.")
        lost = truncated(self.editor.pipeline, text)
        if lost:
            found.append(f"The text is longer than the model can read; cut off: {lost[:200]!r}.")
        return found


def load_models(profile: str | Profile = "tiny", device: str | None = None, *, editor: str | None = None,
                backbone: str | None = None, clip: str | None = None, regions: str | Path | None = None,
                allow_cpu: bool | None = None) -> Models:
    """Load editor, backbone and CLIP of a profile (a name, or a Profile of your own).

    `device`: "cpu", "cuda", "cuda:1" …; None takes the `default_device`. `editor`, `backbone`, `clip`: a folder or
    a hub id (`OWNER/NAME` or `OWNER/NAME@REVISION`) that is taken instead of the profile's own origins. `regions`: a
    file of `train-regions`, for the methods that predict; it is read when one of them asks. `allow_cpu`: see
    `check_device`. Raises UserError for an unknown profile, a device that is not there or too slow for the
    profile, before anything is downloaded; and for models that are missing, damaged, unfit or out of reach.
    """
    adapt()  # a first look at the machine, for the first edit to compare with
    profile = get_profile(profile) if isinstance(profile, str) else profile
    profile = profile.but(editor=editor, backbone=backbone, clip=clip, regions=regions)
    device = check_device(profile, device, allow_cpu)

    about = profile.parts.get("editor", Part())

    def load(origin: str) -> tuple[Editor, str]:
        return load_editor(origin, device, dtype_for(device), about.variant, profile.solver, lora, decoder,
                           size=profile.size, steps=profile.steps, guidance=profile.guidance,
                           batch=profile.batch, screening_steps=profile.screening_steps)

    origins, lora, decoder = {}, None, None
    if profile.lora:
        lora, origins["lora"] = first_origin("LoRA", profile.lora, Lora.load)
    if profile.decoder:
        decoder, origins["decoder"] = first_origin("small decoder", profile.decoder, load_decoder)
    the_editor, origins["editor"] = first_origin("editor", profile.editor, load)
    the_backbone, origins["backbone"] = load_backbone(profile.backbone, device, profile.backbone_size)
    the_clip, origins["clip"] = load_clip(profile.clip, device)
    # Asked last: what the models take of a GPU's memory is not free for edits.
    the_editor.batch = batch_for(device, profile.batch, about.gigabytes_per_edit)
    words = None if profile.vocabulary is None else _read_words(profile.vocabulary)
    return Models(profile, the_editor, the_backbone, the_clip, device, origins, words)


def _read_words(file: Path) -> frozenset[str]:
    if not file.is_file():
        raise UserError(f"The word list {file} is missing; restore it from the repository.")
    return frozenset(file.read_text(encoding="utf-8").split())


def load_backbone(origins: Sequence[str], device: str, size: int, otherwise: str = SHIPPED) -> tuple[Backbone, str]:
    """The first backbone of these origins that can be had, and its origin's label; UserError as `first_origin`.

    `size`: side in pixels of what it sees.
    """

    def load(origin: str) -> tuple[Backbone, str]:
        with opened("backbone", origin) as found:
            return Backbone.load(found.place, encoder_device(device), size), found.label

    return first_origin("backbone", origins, load, otherwise)


def load_clip(origins: Sequence[str], device: str, otherwise: str = SHIPPED) -> tuple[Clip, str]:
    """The first CLIP of these origins that can be had, and its origin's label; UserError as `first_origin`."""

    def load(origin: str) -> tuple[Clip, str]:
        released = origin if origin.startswith("openclip:") else ""
        with opened("clip", origin) as found:
            return Clip.load(found.place, encoder_device(device), released), found.label

    return first_origin("CLIP model", origins, load, otherwise)


def first_origin(part: str, origins: Sequence[str], load: Callable[[str], tuple[T, str]],
                 otherwise: str = SHIPPED) -> tuple[T, str]:
    """Try the origins in order; return what `load` returns of the first that serves: a model and its origin's label.

    `part`: what sentences call the model. Raises UserError if none serves, with every reason and fix in one sentence,
    `otherwise` the last fix; also at once where `load` does (a model of another kind) or the GPU's memory is too small.
    """
    reasons, fixes = [], []
    for origin in origins:
        try:
            return load(origin)
        except UserError:
            raise
        except torch.OutOfMemoryError as error:
            raise UserError(f"The memory of the GPU does not hold the {part} of {label(origin)}; free it (nvidia-smi "
                            "shows who holds it), or use a profile with a smaller model.") from error
        except UnavailableError as error:
            reasons.append(f"{label(origin)} ({error.state.text})")
            fixes.append(error.state.fix)
        except Exception as error:  # each library has its own; the reason goes to the user
            state = told(error)
            reasons.append(f"{label(origin)} ({state.text})")
            fixes.append(state.fix)
    fixes.append(otherwise)
    raise UserError(f"No origin of the {part} could be loaded: {'; '.join(reasons)}; "
                    f"{', or '.join(dict.fromkeys(fixes))}.")


# The machine


def check_device(profile: Profile, device: str | None = None, allow_cpu: bool | None = None) -> str:
    """The device that a profile will run on: `device`, or the `default_device`.

    Every door asks here before anything is downloaded. Raises UserError for a device that is not there, and for the
    CPU if the profile needs a GPU, unless `allow_cpu` (None: as the environment variable LR_ALLOW_CPU says, 1 or 0).
    """
    device = device or default_device(profile)
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"The device {device!r} is not available here; use 'cpu'.") from error
    if is_too_slow(profile, device, allow_cpu):
        raise UserError(f"The profile {profile.name!r} needs a GPU and would run on the CPU; {NO_GPU}.")
    return device


def is_too_slow(profile: Profile, device: str, allow_cpu: bool | None = None) -> bool:
    """Is the device the CPU, while the profile needs a GPU and nobody allows that? As `check_device`."""
    if allow_cpu is None:
        allow_cpu = os.environ.get("LR_ALLOW_CPU", "") not in ("", "0")
    return profile.needs_gpu and torch.device(device).type == "cpu" and not allow_cpu


def default_device(profile: Profile | None = None) -> str:
    """"cuda" where there is one; else "mps", Apple's GPU, where there is one and the profile needs a GPU; else "cpu".

    On Apple's machines miniatures stay on the CPU, where they were tried and are as fast.
    """
    if torch.cuda.is_available():
        return "cuda"
    wants_gpu = profile is None or profile.needs_gpu
    return "mps" if wants_gpu and torch.backends.mps.is_available() else "cpu"


def encoder_device(device: str) -> str:
    """Where the backbone and CLIP run: with the editor, but on the CPU where that is on Apple's GPU.

    They are small, and resizing with antialiasing, which they begin with, was long missing on MPS.
    """
    return "cpu" if torch.device(device).type == "mps" else device


def dtype_for(device: str) -> torch.dtype:
    """The editor's precision on a device: bfloat16 on CUDA GPUs of compute capability 8.0 or higher, float16 on
    older ones (Colab's T4), which have no native bfloat16, and float32 elsewhere."""
    if torch.device(device).type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.get_device_capability(device) >= (8, 0) else torch.float16


def batch_for(device: str, most: int, gigabytes: float | None) -> int:
    """How many edits to make at once: on a GPU what four fifths of its free memory hold, from 1 to `most`.

    `gigabytes`: what one edit takes in float32 (`Part.gigabytes_per_edit`); None where it is small, then `most`. Large
    edits are made one by one on a CPU, where a batch saves no time, and all are on Apple's MPS, where diffusers'
    documentation calls batches unreliable.
    """
    if torch.device(device).type == "mps":
        return 1
    if gigabytes is None:
        return most
    if torch.device(device).type != "cuda":
        return 1
    edit = gigabytes * dtype_for(device).itemsize / 4
    return max(1, min(most, int(0.8 * torch.cuda.mem_get_info(device)[0] / 1e9 / edit)))
