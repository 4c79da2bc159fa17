"""The editor: edits inside masks by an inpainting model of any family; `pipelines` has one class for each."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import torch

from lr_helpers.boxes import Box, box_mask
from lr_helpers.errors import UserError
from lr_helpers.machine.threads import adapt

T = TypeVar("T")
Texts = dict[str, Any]
"""Prompts as a pipeline's own arguments: tensors, or the texts themselves."""


def composite(frame: torch.Tensor, image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """`frame` inside the mask, `image` outside: (..., 3, H, W) each, mask (..., 1, H, W) in 0..1; broadcasts."""
    return mask * frame + (1 - mask) * image


def seam(picture: torch.Tensor, box: Box) -> tuple[float, float]:
    """How visible are a pasted box's edges? (3, H, W) in 0..1 → the mean absolute step across them, and that between
    the neighbouring lines of pixels on both sides, which is the picture's own; both in 8-bit levels, 0..255.

    Edges within two pixels of the picture's border have no seam; (0, 0) where all are.
    """
    height, width = picture.shape[1:]
    x0, y0, x1, y1 = box
    jumps, own = [], []
    for edge, low, high, axis in ((x0, y0, y1, 2), (x1, y0, y1, 2), (y0, x0, x1, 1), (y1, x0, x1, 1)):
        if not 2 <= edge <= (height, width)[axis - 1] - 2:
            continue
        # steps[k]: between the lines of pixels k and k + 1, along the box's side.
        steps = picture.diff(dim=axis).abs().mean(0).movedim(axis - 1, 0)[:, low:high]
        jumps.append(steps[edge - 1].mean())
        own.append((steps[edge - 2] + steps[edge]).mean() / 2)
    return (255 * float(torch.stack(jumps).mean()), 255 * float(torch.stack(own).mean())) if jumps else (0.0, 0.0)


def colour_shift(frame: torch.Tensor, image: torch.Tensor, mask: torch.Tensor) -> float:
    """How far a model's own frame (3, H, W) moves the colours of what it was to leave alone, i.e. of `image` where
    `mask` (1, H, W) is 0: the absolute difference of the channels' means there, averaged, in 8-bit levels, 0..255.

    What the frame has moved outside, it has moved inside too, where it is pasted. 0 where the mask covers all.
    """
    outside = mask[0] == 0
    if not outside.any():
        return 0.0
    return 255 * float((frame[:, outside].mean(1) - image[:, outside].mean(1)).abs().mean())


def count_evaluations(edits: int, steps: int, guidance: float) -> int:
    """Denoiser evaluations of `edits` edits of so many steps: with guidance, a scale above 1, two a step."""
    return edits * steps * (2 if guidance > 1 else 1)


INPUTS = ("sample", "hidden_states", "x")
"""What denoisers call their first argument."""


class Evaluations:
    """Counts a denoiser's evaluations: pictures that went through it, both guidance halves counted."""

    def __init__(self, denoiser: torch.nn.Module):
        self.count = 0
        denoiser.register_forward_pre_hook(self._add, with_kwargs=True)

    def _add(self, module: torch.nn.Module, args: tuple, kwargs: dict) -> None:
        # UNets call their input `sample`, transformers `hidden_states`; Z-Image's is a list of pictures.
        self.count += len(args[0] if args else next(kwargs[name] for name in INPUTS if name in kwargs))


def _spread(values: torch.Tensor | list[str], count: int) -> torch.Tensor | list[str]:
    """Of one text or of `count` → of `count`."""
    if isinstance(values, torch.Tensor):
        return values.expand(count, *values.shape[1:])
    return values * count if len(values) == 1 else values


class Editor(ABC):
    """Edits inside a mask: a pure function of picture, mask, prompt, steps, guidance and seed."""

    denoiser: str
    """Name of the network in the pipeline that is asked at every step."""
    denoises_latents = False
    """Does it take noise from latents? Then it has `encode`, `decode`, `texts` and `predict`."""

    most_steps: int | None = None
    """What a distilled sampler knows; None: any number."""

    def __init__(self, pipeline: Any, size: int, steps: int, guidance: float, batch: int,
                 screening_steps: int | None = None, decoder: Any = None):
        sampler = getattr(pipeline, "scheduler", None)
        if type(sampler).__name__ == "LCMScheduler":
            self.most_steps = sampler.config.original_inference_steps
        pipeline.set_progress_bar_config(disable=True)
        self.pipeline, self.size = pipeline, size
        self.steps, self.guidance = steps, guidance
        self.screening_steps = screening_steps
        """Steps of an edit that is one of many candidates; None: as many as of any other."""
        self.batch = batch
        """Edits made at once; halved for good where the memory does not hold them. It never changes an edit."""
        self.decoder = decoder
        """A small autoencoder that decodes drafts; None: drafts are decoded as all other edits are."""
        self._evaluations = Evaluations(getattr(pipeline, self.denoiser))

    @property
    def evaluations(self) -> int:
        """Denoiser evaluations so far; copies of an editor, which share its denoiser, share the count."""
        return self._evaluations.count

    @abstractmethod
    def _encode_prompts(self, prompts: list[str]) -> Texts:
        """The prompts as the pipeline's own arguments, each of len(prompts)."""

    @abstractmethod
    def _paint(self, images: torch.Tensor, masks: torch.Tensor, texts: Texts, seed: int, steps: int, guidance: float,
               draft: bool) -> torch.Tensor:
        """One batch: (n, 3, S, S), (n, 1, S, S) → the model's own frames (n, 3, S, S) in 0..1; for a draft their
        latents, before they are decoded.
        """

    def _decode_draft(self, latents: torch.Tensor) -> torch.Tensor:
        """(n, c, s, s) latents as the pipeline gives them → (n, 3, S, S) in 0..1."""
        config = self.decoder.config
        latents = latents.to(self.decoder.dtype) / config.scaling_factor + config.shift_factor
        return (self.decoder.decode(latents).sample.float() / 2 + 0.5).clamp(0, 1)

    def batches(self, items: Sequence[T]) -> Iterator[Sequence[T]]:
        """`items` in order, in slices of `batch`, which may have been halved since the slice before."""
        done = 0
        while done < len(items):
            part = items[done:done + self.batch]
            yield part
            done += len(part)  # not `batch`, which is another one now if this part did not fit

    @torch.no_grad()
    def inpaint(self, image: torch.Tensor, masks: torch.Tensor, prompt: str | Sequence[str], *, seed: int,
                steps: int | None = None, guidance: float | None = None, draft: bool = False) -> torch.Tensor:
        """The model's own frames for several masks, of one picture and prompt or of N.

        `image` (3, S, S) or (N, 3, S, S) and `masks` (N, 1, S, S) in 0..1, 1 = edit here → (N, 3, S, S) in
        0..1. Every mask gets the same initial noise (common random numbers), so edits of one picture differ
        by the mask alone. A `draft` is decoded by the small decoder, where there is one. Where the memory does not hold
        a batch, smaller ones are made from then on; where half precision gives numbers that are not finite, the model
        works in float32 from then on. Raises UserError if the memory does not hold one edit, if frames are not finite
        in float32 either, and for more steps than a distilled sampler knows.
        """
        n = len(masks)
        if n == 0:
            return image.new_zeros(0, *image.shape[-3:])
        adapt()  # to what else the machine does now
        steps, guidance = steps or self.steps, self.guidance if guidance is None else guidance
        if self.most_steps and steps > self.most_steps:
            raise UserError(f"This editor was distilled to at most {self.most_steps} steps, not {steps}; give fewer "
                            "--steps.")
        images = image.expand(n, *image.shape[-3:])
        # One prompt is encoded once and stands for all; N prompts keep their order.
        texts = self._encode_prompts([prompt] if isinstance(prompt, str) else list(prompt))
        texts = {name: _spread(values, n) for name, values in texts.items()}
        draft = draft and self.decoder is not None
        frames, done = [], 0
        while done < n:
            part = slice(done, min(done + self.batch, n))
            try:
                own = {name: values[part] for name, values in texts.items()}
                made = self._paint(images[part], masks[part], own, seed, steps, guidance, draft)
                made = (self._decode_draft(made) if draft else made).float().cpu()
                if not made.isfinite().all():
                    self._use_float32()  # or gives up
                    texts = {name: values.float() if isinstance(values, torch.Tensor) else values
                             for name, values in texts.items()}
                    continue
                frames.append(made)
                done = part.stop
                continue
            except torch.OutOfMemoryError as error:
                if part.stop - done == 1:
                    raise UserError(f"The memory of {self.pipeline.device} does not hold one edit of {self.size}×"
                                    f"{self.size} pixels; free it (nvidia-smi shows who holds it), or use a profile "
                                    "with a smaller model.") from error
            self._halve(part.stop - done)  # outside of `except`, whose traceback holds the tensors
        return torch.cat(frames)

    def _use_float32(self) -> None:
        """Half precision overflows in some models: nothing of such a frame is used."""
        if self.pipeline.dtype == torch.float32:
            raise UserError("The editor's frames hold numbers that are not finite, in float32 too; its weights are "
                            "damaged, or it does not fit this library: give another copy of it by --editor.")
        print(f"warning: The editor gives numbers that are not finite in {str(self.pipeline.dtype)[6:]}; going on in "
              "float32, which is slower and takes twice the memory.", file=sys.stderr)
        self.pipeline.to(dtype=torch.float32)
        if self.decoder is not None:
            self.decoder.to(dtype=torch.float32)

    def _halve(self, held: int) -> None:
        self.batch = (held + 1) // 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        print(f"warning: The memory of {self.pipeline.device} does not hold {held} edits at once; going on with "
              f"{self.batch}.", file=sys.stderr)

    def edit(self, image: torch.Tensor, boxes: Sequence[Box] | torch.Tensor, prompt: str, *, seed: int,
             steps: int | None = None, guidance: float | None = None) -> torch.Tensor:
        """`inpaint` inside each box, pasted back: pixels outside a box are those of `image`.

        `image` (3, S, S) in 0..1, `boxes` N × (x0, y0, x1, y1) in pixels → (N, 3, S, S) in 0..1.
        """
        if len(boxes) == 0:
            return image.new_zeros(0, *image.shape)
        masks = torch.stack([box_mask(box, *image.shape[1:]) for box in boxes])
        frames = self.inpaint(image, masks, prompt, seed=seed, steps=steps, guidance=guidance)
        return composite(frames, image, masks)
