"""Networks of transformers that find in a picture what a text names; its quirks stay here."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional as F
from transformers import (
    CLIPSegForImageSegmentation,
    CLIPSegProcessor,
    GroundingDinoForObjectDetection,
    GroundingDinoProcessor,
    Sam3Model,
    Sam3Processor,
    SamModel,
    SamProcessor,
)

from lr_helpers.files.pictures import to_image
from lr_helpers.models.hub import opened
from lr_helpers.models.libraries import LOCAL, require_weights


class Segmenter:
    """A network and its processor, in float32."""

    part: str
    """Its name in the profile's comparison, by which its files are known."""
    kind: Any
    processing: Any

    def __init__(self, model: torch.nn.Module, processor: Any):
        self.model, self.processor = model.eval().requires_grad_(False), processor

    @classmethod
    def load(cls, origin: str, device: str) -> tuple[Segmenter, str]:
        """From a folder or hub id, safetensors only, and the origin's label. Raises UnavailableError where it can't
        serve, ValueError if weights are missing.
        """
        with opened(cls.part, origin) as found:
            model, loaded = cls.kind.from_pretrained(found.place, use_safetensors=True, dtype=torch.float32,
                                                     output_loading_info=True, **LOCAL)
            require_weights(loaded)
            return cls(model.to(device), cls.processing.from_pretrained(found.place, **LOCAL)), found.label

    def _inputs(self, image: torch.Tensor, **arguments: Any) -> Any:
        return self.processor(images=to_image(image), return_tensors="pt", **arguments).to(self.model.device)


class ClipSeg(Segmenter):
    """CLIPSeg (Lüddecke & Ecker 2022, arXiv 2112.10003)."""

    part, kind, processing = "clipseg", CLIPSegForImageSegmentation, CLIPSegProcessor

    @torch.no_grad()
    def heat(self, image: torch.Tensor, text: str) -> torch.Tensor:
        """(3, S, S) → (S, S) in 0..1: how likely each pixel is what the text names."""
        logits = self.model(**self._inputs(image, text=[text], padding=True, truncation=True)).logits
        logits = logits.reshape(1, 1, *logits.shape[-2:])  # for one text there is no batch
        return F.interpolate(logits.sigmoid(), size=image.shape[1:], mode="bilinear")[0, 0].float().cpu()


class Detector(Segmenter):
    """Grounding DINO (Liu et al. 2023, arXiv 2303.05499)."""

    part, kind, processing = "grounding_dino", GroundingDinoForObjectDetection, GroundingDinoProcessor

    @torch.no_grad()
    def boxes(self, image: torch.Tensor, text: str, threshold: float) -> torch.Tensor:
        """(3, S, S) → (N, 4) boxes in pixels, clamped to the picture, of at least this score, the highest first."""
        # It wants phrases in small letters, each with a full stop behind it.
        phrase = text.lower().replace(".", " ").strip() + "."
        inputs = self._inputs(image, text=[phrase], truncation=True)
        found = self.processor.post_process_grounded_object_detection(
            self.model(**inputs), inputs.input_ids, threshold=threshold, target_sizes=[tuple(image.shape[1:])])[0]
        # The highest score first, so that a higher threshold keeps the first ones.
        order = found["scores"].argsort(descending=True, stable=True)
        return found["boxes"][order].clamp(0, image.shape[-1]).float().cpu()


class Sam(Segmenter):
    """Segment Anything (Kirillov et al. 2023, arXiv 2304.02643)."""

    part, kind, processing = "sam", SamModel, SamProcessor

    @torch.no_grad()
    def mask(self, image: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
        """(3, S, S) and (N, 4) boxes in pixels → (S, S) boolean: what is in any of them."""
        inputs = self._inputs(image, input_boxes=[boxes.tolist()])
        found = self.model(pixel_values=inputs["pixel_values"], input_boxes=inputs["input_boxes"].float(),
                           multimask_output=False)
        masks = self.processor.post_process_masks(found.pred_masks.cpu(), inputs["original_sizes"].cpu(),
                                                  inputs["reshaped_input_sizes"].cpu())[0]
        return masks.flatten(0, 1).any(0)


class Sam3(Segmenter):
    """SAM 3 (Carion et al. 2025, arXiv 2511.16719): all instances of what a noun phrase names, in one pass."""

    part, kind, processing = "sam3", Sam3Model, Sam3Processor

    @torch.no_grad()
    def mask(self, image: torch.Tensor, text: str, threshold: float) -> torch.Tensor:
        """(3, S, S) → (S, S) boolean: every instance of at least this score."""
        # It reads 32 pieces of words; its processor pads to so many, but does not cut off.
        tokenizer = self.processor.tokenizer
        ids = tokenizer(text, truncation=True, max_length=32).input_ids
        text = text if len(tokenizer(text, verbose=False).input_ids) <= 32 else tokenizer.decode(
            ids, skip_special_tokens=True)
        found = self.processor.post_process_instance_segmentation(
            self.model(**self._inputs(image, text=text)), threshold=threshold,
            target_sizes=[tuple(image.shape[1:])])[0]
        return found["masks"].bool().any(0).cpu()
