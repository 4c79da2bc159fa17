"""The table of candidate edits of one picture: K anchors × M sizes, each edited at most once."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from lr_helpers.boxes import area
from lr_helpers.config import Method
from lr_helpers.inpainting import composite
from lr_helpers.losses import clip_loss, direction_loss, source_loss, structure_loss
from lr_helpers.models import Models
from lr_helpers.ranking import score
from lr_helpers.regions import region_mask

TERMS = ("clip", "structure", "direction", "source", "area")


class Candidates:
    """Edits are made when first asked for, in batches; boxes that are clamped to the same are shared.

    Attributes after `make`: `edits` (K, M, 3, S, S) in 0..1, `terms[name]` (K, M) for each of TERMS,
    `text_similarity`, `image_similarity` and `score` (K, M), all NaN where nothing was edited.
    """

    def __init__(self, models: Models, image: torch.Tensor, prompt: str, source: str, boxes: torch.Tensor,
                 method: Method, seed: int):
        self.models, self.image, self.prompt, self.method, self.seed = models, image, prompt, method, seed
        self.boxes = boxes
        k, m = boxes.shape[:2]
        flat = boxes.reshape(-1, 4)
        self._unique, self._slot = torch.unique(flat, dim=0, return_inverse=True)
        self._slot = self._slot.reshape(k, m)
        self._made = torch.zeros(len(self._unique), dtype=torch.bool)
        nothing = torch.full((k, m), float("nan"))
        self.on_edit: Callable[[int], None] | None = None
        """Called with the number of new edits after each batch, for a progress bar."""
        self.seconds = 0.0
        """Spent on edits and on judging them so far."""
        self.edits = torch.full((k, m, *image.shape), float("nan"))
        self.terms = {name: nothing.clone() for name in TERMS if name != "area"}
        self.terms["area"] = area(boxes).float() / image[0].numel()
        self.text_similarity, self.image_similarity, self.score = (nothing.clone() for _ in range(3))
        with torch.no_grad():
            embedding, tokens = models.clip.see(image[None])
            self._image, self._tokens = embedding[0], tokens[0]
            self._prompt, self._source = models.clip.read([prompt, source])

    @property
    def count(self) -> int:
        """How many different boxes there are to edit."""
        return len(self._unique)

    @property
    def made(self) -> int:
        """How many different boxes have been edited so far."""
        return int(self._made.sum())

    def _see(self, edits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.models.clip.see(edits, scale=255.0 if "pixels_255" in self.method.defects else 1.0)

    def _judge(self, seen: torch.Tensor, tokens: torch.Tensor) -> dict[str, torch.Tensor]:
        """The terms that CLIP decides, of N pictures' embeddings and tokens; (N,) each, differentiable."""
        return {
            "clip": clip_loss(seen, self._prompt),
            "structure": structure_loss(tokens, self._tokens),
            "direction": direction_loss(seen, self._image, self._prompt, self._source),
            "source": source_loss(seen, self._source),
        }

    @torch.no_grad()
    def make(self, wanted: torch.Tensor) -> None:
        """Edit the entries of the (K, M) boolean `wanted` that are not there yet."""
        begun = time.perf_counter()
        missing = [int(s) for s in self._slot[wanted].unique() if not self._made[s]]
        batch = self.models.editor.batch
        for start in range(0, len(missing), batch):
            slots = missing[start:start + batch]
            edits = self.models.editor.edit(self.image, self._unique[slots], self.prompt, seed=self.seed,
                                            steps=self.method.steps, guidance=self.method.guidance)
            seen, tokens = self._see(edits)
            values = self._judge(seen, tokens)
            total = score(seen, self._image, self._prompt, self.method.alpha, self.method.beta)
            for i, slot in enumerate(slots):
                here = self._slot == slot
                self.edits[here] = edits[i]
                for name, value in values.items():
                    self.terms[name][here] = value[i]
                self.text_similarity[here] = seen[i] @ self._prompt
                self.image_similarity[here] = seen[i] @ self._image
                self.score[here] = total[i]
                self._made[slot] = True
            if self.on_edit:
                self.on_edit(len(slots))
        self.seconds += time.perf_counter() - begun

    def _weighted(self, terms: dict[str, torch.Tensor]) -> torch.Tensor:
        return sum(getattr(self.method, f"{name}_weight") * terms[name] for name in TERMS)

    @property
    def loss(self) -> torch.Tensor:
        """(K, M) weighted sum of the terms (eq. 6, and our source and area terms); NaN where nothing was edited."""
        return self._weighted(self.terms)

    def losses(self, choices: torch.Tensor | None) -> torch.Tensor:
        """(K,) chosen proposals → (K,) losses; None → the whole (K, M) table. Edits what is missing."""
        k, m = self.boxes.shape[:2]
        wanted = torch.ones(k, m, dtype=torch.bool)
        if choices is not None:
            wanted = torch.nn.functional.one_hot(choices, m).bool()
        self.make(wanted)
        return self.loss if choices is None else self.loss[torch.arange(k), choices]

    def blended(self, weights: torch.Tensor) -> torch.Tensor:
        """(K, M) weights, one-hot in value → (K,) losses of each anchor's edit pasted with the weighted mask.

        In value these are `losses(weights.argmax(1))`; the gradient goes through the mask to all weights.
        """
        choices = weights.argmax(dim=1)
        self.losses(choices)
        edits = self.edits[torch.arange(len(choices)), choices]
        pictures = composite(edits, self.image, region_mask(weights, self.boxes, self.image.shape[-1]))
        area = (weights * self.terms["area"]).sum(dim=1)
        return self._weighted({**self._judge(*self._see(pictures)), "area": area})
