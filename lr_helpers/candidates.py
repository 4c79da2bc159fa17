"""The table of candidate edits of one picture: K anchors × M sizes, each edited at most once."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable

import torch

from lr_helpers.boxes import Box, area, box_mask
from lr_helpers.canvas import Canvas, Patch, inner_box, scaled
from lr_helpers.inpainting import composite
from lr_helpers.losses import (
    clip_loss,
    direction_loss,
    occluded,
    occlusion_loss,
    score,
    source_loss,
    structure_loss,
)
from lr_helpers.method import Method
from lr_helpers.models.loading import Models
from lr_helpers.regions import region_mask

EDIT_FREE = ("occlusion", "area")
"""Terms of a box alone: they need no edit."""
TERMS = ("clip", "structure", "direction", "source", *EDIT_FREE)


class Edits:
    """The edits of one picture by box, each made when first asked for and kept.

    An edit depends on picture, prompt, seed, steps, guidance and box only, so methods can share them.
    """

    def __init__(self, models: Models, image: Canvas | torch.Tensor, prompt: str, seed: int, steps: int | None = None,
                 guidance: float | None = None):
        self.editor, self.prompt, self.seed = models.editor, prompt, seed
        self.canvas = Canvas.of(image, models.editor.size)
        self.settings = {"steps": steps, "guidance": guidance}
        self.patches: dict[Box, Patch] = {}
        """At the editor's resolution, by box in the picture's pixels."""
        self.seconds: dict[Box, float] = {}
        """What each took when it was made (its share of the batch)."""

    def __call__(self, boxes: torch.Tensor) -> torch.Tensor:
        """(N, 4) boxes in the picture's pixels → (N, 3, h, w) in 0..1: the frame with each edit pasted in.

        What is missing is edited, in batches of what the memory holds.
        """
        wanted = [tuple(box) for box in boxes.tolist()]
        missing = [box for box in dict.fromkeys(wanted) if box not in self.patches]
        while missing:
            part, begun = missing[:self.editor.batch], time.perf_counter()
            self._make(part)
            self.seconds.update(dict.fromkeys(part, (time.perf_counter() - begun) / len(part)))
            missing = missing[len(part):]  # the batch may have become smaller meanwhile
        return torch.stack([self.canvas.pasted(self.patches[box]) for box in wanted])

    def _make(self, boxes: list[Box]) -> None:
        size, windows = self.editor.size, [self.canvas.window(box) for box in boxes]
        pictures, masks = [], []
        for box, window in zip(boxes, windows, strict=True):
            pictures.append(self.canvas.crop(window))
            inner = [round(v) for v in inner_box(box, window, size)]
            masks.append(box_mask(inner, size, size))
        pictures, masks = torch.stack(pictures), torch.stack(masks)
        frames = self.editor.inpaint(pictures, masks, self.prompt, seed=self.seed, **self.settings)
        for box, window, picture in zip(boxes, windows, composite(frames, pictures, masks), strict=True):
            self.patches[box] = Patch.of(box, window, picture)


class Candidates:
    """Edits are made when first asked for, in batches; boxes that are clamped to the same are shared.

    Attributes after `make`: `terms[name]` (K, M) for each of TERMS, `text_similarity`, `image_similarity` and
    `score` (K, M), all NaN where nothing was edited. The terms "occlusion" and "area" need no edit and are there from
    the start ("occlusion" is NaN if its weight is 0). `image` is the frame (3, h, w) of the picture.
    """

    def __init__(self, models: Models, image: Canvas | torch.Tensor, source: str, prompt: str, boxes: torch.Tensor,
                 method: Method, seed: int, *, kept: torch.Tensor | None = None,
                 occlusion: torch.Tensor | None = None, edits: Edits | None = None):
        """`boxes` (K, M, 4) in the picture's own pixels. `kept` (K, M) boolean: the shortlist (default: all); others
        are never edited and have loss 0.

        `occlusion` (K, M): that term if it is known already. `edits`: a store that tables of the same picture,
        prompt, seed and editor's settings share.
        """
        self.canvas = canvas = Canvas.of(image, models.editor.size)
        self.models, self.image, self.prompt, self.method, self.seed = models, canvas.frame, prompt, method, seed
        self.source, self.boxes = source, boxes
        k, m = boxes.shape[:2]
        self.kept = torch.ones(k, m, dtype=torch.bool) if kept is None else kept
        self.store = edits or Edits(models, canvas, prompt, seed, method.steps, method.guidance)
        self._unique, self._slot = torch.unique(boxes.reshape(-1, 4), dim=0, return_inverse=True)
        self._slot = self._slot.reshape(k, m)
        self._made = torch.zeros(len(self._unique), dtype=torch.bool)
        nothing = torch.full((k, m), float("nan"))
        self.on_edit: Callable[[int], None] | None = None
        """Called with the number of new edits after each batch, for a progress bar."""
        self.seconds = 0.0
        """Spent on edits and on judging them so far; a shared edit counts as if it had been made for this table."""
        self._slopes = torch.full((k, m, m), float("nan"))
        if occlusion is None:
            occlusion = occlusion_table(models, canvas, source, boxes) if method.occlusion_weight else nothing.clone()
        self.terms = {name: nothing.clone() for name in TERMS}
        self.terms |= {"occlusion": occlusion, "area": area_table(boxes, canvas.shape)}
        self.text_similarity, self.image_similarity, self.score = (nothing.clone() for _ in range(3))
        with torch.no_grad():
            embedding, tokens = models.clip.encode_image(canvas.frame[None])
            self._image, self._tokens = embedding[0], tokens[0]
            self._prompt, self._source = models.clip.encode_text([prompt, source])

    @property
    def count(self) -> int:
        """How many different boxes there are to edit."""
        return self.different(self.kept)

    @property
    def made(self) -> int:
        """How many different boxes have been edited so far."""
        return int(self._made.sum())

    @property
    def edits(self) -> torch.Tensor:
        """(K, M, 3, h, w) in 0..1: every edit pasted into the frame, NaN where nothing was edited. Made anew at each
        call, and large: it is for looking at.
        """
        table = torch.full((*self.boxes.shape[:2], *self.image.shape), float("nan"))
        made = self._made[self._slot]
        if made.any():
            table[made] = self.store(self.boxes[made])
        return table

    def patch(self, k: int, m: int) -> Patch:
        """The edit of anchor k's proposal m, at the editor's resolution; it must have been made."""
        return self.store.patches[tuple(self.boxes[k, m].tolist())]

    def different(self, wanted: torch.Tensor) -> int:
        """How many different boxes there are in the (K, M) boolean `wanted`."""
        return len(self._slot[wanted].unique())

    def _encode(self, edits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.models.clip.encode_image(edits, scale=255.0 if "pixels_255" in self.method.defects else 1.0)

    def _judge(self, seen: torch.Tensor, tokens: torch.Tensor) -> dict[str, torch.Tensor]:
        """The terms that CLIP decides, of N edits' embeddings and tokens; (N,) each, differentiable."""
        return {
            "clip": clip_loss(seen, self._prompt),
            "structure": structure_loss(tokens, self._tokens),
            "direction": direction_loss(seen, self._image, self._source, self._prompt),
            "source": source_loss(seen, self._source),
        }

    def under(self, method: Method) -> Candidates:
        """The same edits under another method's weights: a copy, so this table stays as it is."""
        other = copy.copy(self)
        other.method, other.terms = method, dict(self.terms)
        other._slopes = torch.full_like(self._slopes, float("nan"))
        if method.occlusion_weight and bool(self.terms["occlusion"].isnan().any()):
            other.terms["occlusion"] = occlusion_table(self.models, self.canvas, self.source, self.boxes)
        return other

    @torch.no_grad()
    def make(self, wanted: torch.Tensor) -> None:
        """Edit the entries of the (K, M) boolean `wanted` that are not there yet."""
        missing = [int(s) for s in self._slot[wanted].unique() if not self._made[s]]
        batch = self.models.editor.batch
        for start in range(0, len(missing), batch):
            slots = missing[start:start + batch]
            edits = self.store(self._unique[slots])
            self.seconds += sum(self.store.seconds[tuple(b)] for b in self._unique[slots].tolist())
            begun = time.perf_counter()
            seen, tokens = self._encode(edits)
            values = self._judge(seen, tokens)
            total = score(seen, self._image, self._prompt, self.method.alpha, self.method.beta)
            for i, slot in enumerate(slots):
                here = self._slot == slot
                for name, value in values.items():
                    self.terms[name][here] = value[i]
                self.text_similarity[here] = seen[i] @ self._prompt
                self.image_similarity[here] = seen[i] @ self._image
                self.score[here] = total[i]
                self._made[slot] = True
            self.seconds += time.perf_counter() - begun
            if self.on_edit:
                self.on_edit(len(slots))

    @property
    def loss(self) -> torch.Tensor:
        """(K, M) weighted sum of the terms (eq. 6, and ours); NaN where nothing was edited."""
        loss = weighted(self.terms, self.method)
        return torch.where(self._made[self._slot], loss, float("nan"))

    def losses(self, choices: torch.Tensor | None) -> torch.Tensor:
        """(K,) chosen proposals → (K,) losses; None → the whole (K, M) table, 0 where nothing is kept. Edits what
        is missing.
        """
        if choices is None:
            self.make(self.kept)
            return torch.where(self.kept, self.loss, 0.0)
        self.make(torch.nn.functional.one_hot(choices, self.kept.shape[1]).bool())
        return self.loss[torch.arange(len(choices)), choices]

    def blended(self, weights: torch.Tensor) -> torch.Tensor:
        """(K, M) weights, one-hot in value → (K,) losses of each anchor's edit pasted with the weighted mask.

        In value these are `losses(weights.argmax(1))`; the gradient goes through the mask to all weights. It is the
        same whenever the same proposal is drawn, so CLIP is asked for it once.
        """
        choices = weights.argmax(dim=1)
        self.losses(choices)
        self._find_slopes(choices)
        rows = torch.arange(len(choices))
        slopes = self._slopes[rows, choices]
        return self.loss[rows, choices] + ((weights - weights.detach()) * slopes).sum(dim=1)

    def _find_slopes(self, choices: torch.Tensor) -> None:
        """∂ loss / ∂ weights where anchor k's weights are the one-hot of choices[k], for those not known yet."""
        rows = torch.arange(len(choices))
        rows = rows[self._slopes[rows, choices, 0].isnan()]
        if not len(rows):
            return
        with torch.enable_grad():
            weights = torch.nn.functional.one_hot(choices[rows], self.kept.shape[1]).float().requires_grad_()
            masks = region_mask(weights, self.canvas.in_frame(self.boxes[rows]), tuple(self.image.shape[1:]))
            pictures = composite(self.store(self.boxes[rows, choices[rows]]), self.image, masks)
            # A proposal that is not in the shortlist is never drawn; what it would be worth does not matter.
            own = {name: (weights * self.terms[name][rows].nan_to_num()).sum(dim=1) for name in EDIT_FREE}
            loss = weighted({**self._judge(*self._encode(pictures)), **own}, self.method)
            self._slopes[rows, choices[rows]] = torch.autograd.grad(loss.sum(), weights)[0]


def area_table(boxes: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
    """(K, M) areas of the (K, M, 4) boxes as shares of the largest square of a picture of this (height, width)."""
    return area(boxes).float() / min(shape)**2


@torch.no_grad()
def occlusion_table(models: Models, image: Canvas | torch.Tensor, source: str, boxes: torch.Tensor) -> torch.Tensor:
    """(K, M) occlusion losses of the (K, M, 4) boxes: one look of CLIP for each different box, and no edit.

    Boxes are filled in a copy of the size that CLIP sees anyway, so a large picture costs no more than a small one.
    """
    canvas = Canvas.of(image, models.editor.size)
    small = models.clip.resized(canvas.frame[None])[0]
    different, slot = torch.unique(boxes.reshape(-1, 4), dim=0, return_inverse=True)
    inside = scaled(different, canvas.shape, tuple(small.shape[1:]))
    hidden = torch.cat([models.clip.encode_image(occluded(small, part))[0] for part in inside.split(64)])
    seen, text = models.clip.encode_image(small[None])[0][0], models.clip.encode_text([source])[0]
    return occlusion_loss(hidden, seen, text)[slot].reshape(boxes.shape[:2])


def weighted(terms: dict[str, torch.Tensor], method: Method) -> torch.Tensor:
    """These terms (any shape) summed with the method's weights; a term of weight 0 is not looked at."""
    weights = {name: getattr(method, f"{name}_weight") for name in terms}
    return sum((w * terms[name] for name, w in weights.items() if w), torch.zeros_like(terms["area"]))


def shortlist(values: torch.Tensor, boxes: torch.Tensor, count: int) -> torch.Tensor:
    """(K, M) values of the (K, M, 4) boxes → (K, M) boolean: the `count` different boxes of lowest value, the earlier
    first among equals; all entries for 0. Of boxes that were clamped to the same, the first stands for all.
    """
    kept, seen = torch.full((values.numel(),), not count), set()
    for i in values.flatten().sort(stable=True).indices.tolist():
        box = tuple(boxes.reshape(-1, 4)[i].tolist())
        if len(seen) < count and box not in seen:
            kept[i] = True
            seen.add(box)
    return kept.reshape(values.shape)
