"""The table of candidate edits of one picture: K anchors × M sizes, each edited at most once."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Container, Sequence
from functools import partial

import torch
from torch.nn import functional as F

from lr_helpers.boxes import Box, area, box_mask, grown, iou
from lr_helpers.files.canvas import Canvas, Patch, crop, inner_box, scaled
from lr_helpers.inpainting import composite
from lr_helpers.losses import (
    clip_loss,
    direction_loss,
    occluded,
    occlusion_loss,
    patches_loss,
    source_loss,
    standardised,
    structure_loss,
)
from lr_helpers.method import Method
from lr_helpers.models.loading import Models
from lr_helpers.regions import region_mask

EDIT_FREE = ("patches", "occlusion", "area")
"""Terms of a box alone: they need no edit."""
TERMS = ("clip", "structure", "direction", "source", *EDIT_FREE)


class Edits:
    """The edits of one picture by box, each made when first asked for and kept.

    An edit depends on picture, prompt, seed, steps, guidance, decoder, margin and box only, so methods can share them.
    """

    def __init__(self, models: Models, image: Canvas | torch.Tensor, prompt: str, seed: int, steps: int | None = None,
                 guidance: float | None = None, draft: bool = False, margin: float = 0.0):
        """`draft`: decoded by the editor's small decoder, where there is one; `margin` as in `boxes.grown`."""
        self.editor, self.prompt, self.seed = models.editor, prompt, seed
        self.canvas = Canvas.of(image, models.editor.size)
        self.settings, self.margin = {"steps": steps, "guidance": guidance, "draft": draft}, margin
        self.patches: dict[Box, Patch] = {}
        """At the editor's resolution, by box in the picture's own pixels; each has the box that was painted, which is
        wider by the margin."""
        self.seconds: dict[Box, float] = {}
        """What each took when it was made (its share of the batch)."""
        self.evaluations: dict[Box, int] = {}
        """Denoiser evaluations of each."""

    def __call__(self, boxes: torch.Tensor) -> torch.Tensor:
        """(N, 4) boxes in the picture's pixels → (N, 3, h, w) in 0..1: its frame with each edit pasted in.

        What is missing is edited in batches.
        """
        wanted = [tuple(box) for box in boxes.tolist()]
        missing = [box for box in dict.fromkeys(wanted) if box not in self.patches]
        for part in self.editor.batches(missing):
            begun, before = time.perf_counter(), self.editor.evaluations
            patches = self._edited(part)
            # The edits of a batch take the same time, and the same evaluations.
            spent = (time.perf_counter() - begun) / len(part)
            evaluations = (self.editor.evaluations - before) // len(part)
            for box, patch in zip(part, patches, strict=True):
                self.patches[box], self.seconds[box], self.evaluations[box] = patch, spent, evaluations
        return torch.stack([self.canvas.pasted(self.patches[box]) for box in wanted])

    def _edited(self, boxes: Sequence[Box]) -> list[Patch]:
        """Each box is edited in a window of its own; the mask is the box, with its margin, in pixels of the window."""
        size = self.editor.size
        boxes = [tuple(box) for box in grown(torch.tensor(boxes), self.margin, self.canvas.shape).tolist()]
        windows = [self.canvas.window(box) for box in boxes]
        pictures = torch.stack([self.canvas.crop(window) for window in windows])
        inside = [[round(v) for v in inner_box(*pair, size)] for pair in zip(boxes, windows, strict=True)]
        masks = torch.stack([box_mask(box, size, size) for box in inside])
        frames = self.editor.inpaint(pictures, masks, self.prompt, seed=self.seed, **self.settings)
        edits = composite(frames, pictures, masks)
        return [Patch.of(*parts) for parts in zip(boxes, windows, edits, strict=True)]


class Candidates:
    """Edits are made when first asked for, in batches; boxes that are clamped to the same are shared.

    Attributes after `make`: `terms[name]` (K, M) for each of TERMS, `text_similarity` and `image_similarity` (K, M),
    all NaN where nothing was edited. The terms of EDIT_FREE need no edit and are there from the start ("patches" and
    "occlusion" are NaN if their weight is 0). `image` is the picture's frame (3, h, w).
    """

    def __init__(self, models: Models, image: Canvas | torch.Tensor, source: str, prompt: str, boxes: torch.Tensor,
                 method: Method, seed: int, *, kept: torch.Tensor | None = None,
                 free: dict[str, torch.Tensor] | None = None, edits: Callable[..., Edits] | None = None):
        """`boxes` (K, M, 4) in the picture's own pixels. `kept` (K, M) boolean: the shortlist (default: all); others
        are never edited and have loss 0.

        `free`: those of the edit-free terms (K, M) that are known already. `edits`: gives the store of edits of so many
        steps and with a `margin`, or of drafts (`draft=True`), which tables of the same picture, prompt, seed and
        guidance share.
        """
        self.canvas = canvas = Canvas.of(image, models.editor.size)
        self.models, self.image, self.boxes, self.method = models, canvas.frame, boxes, method
        self.source, self.prompt, self.seed = source, prompt, seed
        k, m = boxes.shape[:2]
        self.kept = torch.ones(k, m, dtype=torch.bool) if kept is None else kept
        # Candidates are judged by edits of few steps, and the winner is finished with a full one.
        planned = models.editor.steps, models.editor.screening_steps
        self.steps, self.full_steps = method.planned_steps(*planned)
        self.drafts = method.judges_drafts(*planned, models.editor.decoder is not None)
        edits = edits or partial(Edits, models, canvas, prompt, seed, guidance=method.guidance)
        self.store = edits(self.steps, draft=self.drafts, margin=method.margin)
        self._full = edits(self.full_steps, margin=method.margin) if self.to_finish else self.store
        self._finished: set[Box] = set()
        self.on_edit: Callable[[int], None] | None = None
        """Called with the number of new edits after each batch, for a progress bar."""
        self.seconds = 0.0
        """Spent on edits and on judging them so far; a shared edit counts as if it had been made for this table."""

        # Near the border, boxes of several sizes may be clamped to the same one. Each is edited once: `_slot` (K, M)
        # says which of the different boxes an entry is, `_made` which of them have been edited.
        self._unique, slot = torch.unique(boxes.reshape(-1, 4), dim=0, return_inverse=True)
        self._slot = slot.reshape(k, m)
        self._made = torch.zeros(len(self._unique), dtype=torch.bool)

        nothing = torch.full((k, m), float("nan"))
        self.text_similarity, self.image_similarity = nothing.clone(), nothing.clone()
        self._slopes = torch.full((k, m, m), float("nan"))  # see `_find_slopes`
        self.terms = {name: nothing.clone() for name in TERMS}
        self.terms |= {name: table.clone() for name, table in (free or {}).items()}
        self.terms |= free_terms(models, canvas, source, boxes, method, known=free or {})
        self._seen: dict[Box, tuple[torch.Tensor, torch.Tensor]] = {}  # see `_before`
        with torch.no_grad():
            self._prompt, self._source = models.clip.encode_text([prompt, source])
        # The texts that the terms compare with; S (eq. 7) takes the prompt as it is.
        common = models.neutral if method.centre_texts else 0.0
        self._aim, self._from = self._prompt - common, self._source - common

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
        """(K, M, 3, h, w) in 0..1: every edit that was judged, pasted into the frame; NaN where nothing was edited. To
        look at: it is large, and made anew at each call.
        """
        table = torch.full((*self.boxes.shape[:2], *self.image.shape), float("nan"))
        made = self._made[self._slot]
        if made.any():
            table[made] = self.store(self.boxes[made])
        return table

    def picture(self, k: int, m: int) -> torch.Tensor:
        """(3, h, w) in 0..1: the frame with the edit of anchor k's proposal m; it must have been made."""
        return self.canvas.pasted(self.patch(k, m))

    def patch(self, k: int, m: int) -> Patch:
        """The edit of anchor k's proposal m, at the editor's resolution: the full one if it was finished, else the one
        that was judged, which must have been made."""
        box = tuple(self.boxes[k, m].tolist())
        return (self._full if box in self._finished else self.store).patches[box]

    def steps_of(self, k: int, m: int) -> int:
        """How many steps the edit that `patch` gives was made with."""
        return self.full_steps if tuple(self.boxes[k, m].tolist()) in self._finished else self.steps

    @property
    def to_finish(self) -> int:
        """How many edits `finish` makes: 1, or 0 where candidates are full edits."""
        return int(self.full_steps != self.steps or self.drafts)

    def finish(self, k: int, m: int) -> None:
        """Make the full edit of anchor k's proposal m from the same noise, unless candidates are full edits.

        `edits`, terms and losses stay those of the edit by which it was chosen.
        """
        box = tuple(self.boxes[k, m].tolist())
        if not self.to_finish or box in self._finished:
            return
        self._full(self.boxes[k, m][None])
        self._finished.add(box)
        self.seconds += self._full.seconds[box]
        if self.on_edit:
            self.on_edit(1)

    def different(self, wanted: torch.Tensor) -> int:
        """How many different boxes there are in the (K, M) boolean `wanted`."""
        return len(self._slot[wanted].unique())

    def under(self, method: Method) -> Candidates:
        """The same edits under another method's weights: a copy, so this table stays as it is.

        Raises ValueError for a method that computes terms in another way.
        """
        for setting in ("centre_texts", "standardise_terms", "margin"):
            if getattr(method, setting) != getattr(self.method, setting):
                raise ValueError(f"the methods differ in {setting}, which decides the terms themselves")
        other = copy.copy(self)
        other.method, other.terms, other._finished = method, dict(self.terms), set(self._finished)
        other._slopes = torch.full_like(self._slopes, float("nan"))
        known = [name for name in EDIT_FREE if not bool(self.terms[name].isnan().any())]
        other.terms |= free_terms(self.models, self.canvas, self.source, self.boxes, method, known=known)
        return other

    @torch.no_grad()
    def make(self, wanted: torch.Tensor) -> None:
        """Edit the entries of the (K, M) boolean `wanted` that are not there yet, and judge them."""
        missing = [slot for slot in self._slot[wanted].unique().tolist() if not self._made[slot]]
        for slots in self.models.editor.batches(missing):
            boxes = self._unique[slots]
            edits = self.store(boxes)
            self.seconds += sum(self.store.seconds[tuple(box)] for box in boxes.tolist())
            begun = time.perf_counter()
            views = [self.canvas.view(tuple(box)) for box in boxes.tolist()]
            seen, tokens = self._encode(edits, views)
            image, before = self._before(views)
            # All entries of these boxes, and the place of each one's edit in the batch.
            place = torch.full((len(self._unique),), -1)
            place[slots] = torch.arange(len(slots))
            here = place[self._slot] >= 0
            which = place[self._slot[here]]
            for name, values in self._judge(seen, tokens, image, before).items():
                self.terms[name][here] = values[which]
            self.text_similarity[here] = (seen @ self._prompt)[which]
            self.image_similarity[here] = (seen * image).sum(1)[which]
            self._made[slots] = True
            self.seconds += time.perf_counter() - begun
            if self.on_edit:
                self.on_edit(len(slots))

    def _encode(self, pictures: torch.Tensor, views: Sequence[Box]) -> tuple[torch.Tensor, torch.Tensor]:
        """N views of (N, 3, h, w) pictures → CLIP's unit embeddings (N, D) and visual tokens (N, L, d)."""
        parts = torch.stack([crop(picture, view) for picture, view in zip(pictures, views, strict=True)])
        return self.models.clip.encode_image(parts, scale=255.0 if "pixels_255" in self.method.defects else 1.0)

    @torch.no_grad()
    def _before(self, views: Sequence[Box]) -> tuple[torch.Tensor, torch.Tensor]:
        """The same of the source picture: (N, D) and (N, L, d); each view is encoded once."""
        for view in dict.fromkeys(views):
            if view not in self._seen:
                embedding, tokens = self.models.clip.encode_image(crop(self.image, view)[None])
                self._seen[view] = embedding[0], tokens[0]
        embeddings, tokens = zip(*(self._seen[view] for view in views), strict=True)
        return torch.stack(embeddings), torch.stack(tokens)

    def _judge(self, seen: torch.Tensor, tokens: torch.Tensor, image: torch.Tensor,
               before: torch.Tensor) -> dict[str, torch.Tensor]:
        """The terms that CLIP decides, of N edits and their source as it encodes them; (N,) each, differentiable."""
        return {
            "clip": clip_loss(seen, self._aim),
            "structure": structure_loss(tokens, before),
            "direction": direction_loss(seen, image, self._from, self._aim),
            "source": source_loss(seen, self._from),
        }

    @property
    def score(self) -> torch.Tensor:
        """(K, M) S of eq. 7, higher is better; NaN where nothing was edited."""
        return self.method.alpha * self.text_similarity + self.method.beta * self.image_similarity

    @property
    def loss(self) -> torch.Tensor:
        """(K, M) weighted sum of the terms (eq. 6, and ours); NaN where nothing was edited."""
        loss = weighted(self._counted(self.terms), self.method)
        return torch.where(self._made[self._slot], loss, float("nan"))  # a box's own terms alone are no loss

    def _counted(self, terms: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Terms as the weights count them: those of edits, if the method says so, in deviations over all edits made."""
        if not self.method.standardise_terms:
            return terms
        # Boxes that were clamped to the same are one edit, so one value.
        first = [(self._slot == slot).nonzero()[0].tolist() for slot in self._made.nonzero()[:, 0].tolist()]
        rows, columns = torch.tensor(first, dtype=torch.int64).reshape(-1, 2).T  # also where none is made yet
        return {name: values if name in EDIT_FREE else standardised(values, self.terms[name][rows, columns])
                for name, values in terms.items()}

    def losses(self, choices: torch.Tensor | None) -> torch.Tensor:
        """(K,) chosen proposals → (K,) losses; None → the whole (K, M) table, 0 where nothing is kept. Edits what
        is missing.
        """
        if choices is None:
            self.make(self.kept)
            return torch.where(self.kept, self.loss, 0.0)
        # Deviations are known only when all edits are.
        chosen = F.one_hot(choices, self.kept.shape[1]).bool()
        self.make(chosen | self.kept if self.method.standardise_terms else chosen)
        return self.loss[torch.arange(len(choices)), choices]

    def blended(self, weights: torch.Tensor) -> torch.Tensor:
        """(K, M) weights, one-hot in value → (K,) losses of each anchor's edit pasted with the weighted mask.

        In value these are `losses(weights.argmax(1))`; the gradient goes through the mask to all weights. It is the
        same whenever the same proposal is drawn, so CLIP is asked for it once.
        """
        choices = weights.argmax(dim=1)
        losses = self.losses(choices)
        self._find_slopes(choices)
        slopes = self._slopes[torch.arange(len(choices)), choices]
        # The second addend is 0 in value: it only brings the gradient.
        return losses + ((weights - weights.detach()) * slopes).sum(dim=1)

    def _find_slopes(self, choices: torch.Tensor) -> None:
        """∂ loss / ∂ weights where anchor k's weights are the one-hot of choices[k], for those not known yet."""
        rows = torch.arange(len(choices))
        rows = rows[self._slopes[rows, choices, 0].isnan()]
        if not len(rows):
            return
        with torch.enable_grad():
            weights = F.one_hot(choices[rows], self.kept.shape[1]).float().requires_grad_()
            painted = grown(self.boxes[rows], self.method.margin, self.canvas.shape)
            masks = region_mask(weights, self.canvas.in_frame(painted), tuple(self.image.shape[1:]))
            pictures = composite(self.store(self.boxes[rows, choices[rows]]), self.image, masks)
            # A proposal that is not in the shortlist is never drawn; what it would be worth does not matter.
            own = {name: (weights * self.terms[name][rows].nan_to_num()).sum(dim=1) for name in EDIT_FREE}
            views = [self.canvas.view(tuple(box)) for box in self.boxes[rows, choices[rows]].tolist()]
            judged = self._judge(*self._encode(pictures, views), *self._before(views))
            loss = weighted(self._counted({**judged, **own}), self.method)
            self._slopes[rows, choices[rows]] = torch.autograd.grad(loss.sum(), weights)[0]


def area_table(boxes: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
    """(K, M) areas of the (K, M, 4) boxes as shares of the largest square in a picture of this (height, width)."""
    return area(boxes).float() / min(shape)**2


@torch.no_grad()
def occlusion_table(models: Models, image: Canvas | torch.Tensor, source: str, boxes: torch.Tensor,
                    centre: bool = False) -> torch.Tensor:
    """(K, M) occlusion losses of the (K, M, 4) boxes in 0..2: CLIP looks once with each different box hidden; no edit.

    `centre`: of the source less what all texts have in common.

    They are hidden in a copy of the size that CLIP sees anyway, so a large picture costs no more than a small one.
    """
    canvas = Canvas.of(image, models.editor.size)
    different, slot = torch.unique(boxes.reshape(-1, 4), dim=0, return_inverse=True)
    inside = canvas.in_frame(different)
    views = [canvas.view(tuple(box)) for box in different.tolist()]
    (text,) = models.clip.encode_text([source]) - (models.neutral if centre else 0.0)
    losses = torch.empty(len(different))
    for view in dict.fromkeys(views):  # a square picture has one
        small = models.clip.resized(crop(canvas.frame, view)[None])[0]
        mine = torch.tensor([other == view for other in views])
        offset, side = torch.tensor(view[:2]).repeat(2), view[2] - view[0]
        shifted = (inside[mine] - offset).clamp(0, side)
        part = scaled(shifted, (side, side), tuple(small.shape[1:]))
        # 64 pictures at a time: hundreds would fill the memory.
        hidden = torch.cat([models.clip.encode_image(occluded(small, some))[0] for some in part.split(64)])
        (seen,), _ = models.clip.encode_image(small[None])
        losses[mine] = occlusion_loss(hidden, seen, text)
    return losses[slot].reshape(boxes.shape[:2])


@torch.no_grad()
def patches_table(models: Models, image: Canvas | torch.Tensor, source: str, boxes: torch.Tensor,
                  centre: bool = False) -> torch.Tensor:
    """(K, M) patches losses of the (K, M, 4) boxes, about −1..1: CLIP looks once at the whole picture; no edit.

    `centre`: the source's text less what all texts have in common, as in `occlusion_table`.
    """
    canvas = Canvas.of(image, models.editor.size)
    (text,) = models.clip.encode_text([source]) - (models.neutral if centre else 0.0)
    similarity = models.clip.patches(canvas.frame) @ text
    return patches_loss(similarity, canvas.in_frame(boxes), tuple(canvas.frame.shape[1:]))


def free_terms(models: Models, image: Canvas | torch.Tensor, source: str, boxes: torch.Tensor, method: Method,
               known: Container[str] = ()) -> dict[str, torch.Tensor]:
    """The edit-free terms (K, M) that the method weighs and that are not `known`, as it counts them: standardised over
    these boxes, if it says so, but for the area, which is there always."""
    found = {}
    if "patches" not in known and method.patches_weight:
        found["patches"] = patches_table(models, image, source, boxes, centre=method.centre_texts)
    if "occlusion" not in known and method.occlusion_weight:
        found["occlusion"] = occlusion_table(models, image, source, boxes, centre=method.centre_texts)
    if method.standardise_terms:
        found = {name: standardised(table) for name, table in found.items()}
    shape = Canvas.of(image, models.editor.size).shape
    return found if "area" in known else found | {"area": area_table(boxes, shape)}


def weighted(terms: dict[str, torch.Tensor], method: Method) -> torch.Tensor:
    """These terms (any shape) summed with the method's weights; a term of weight 0 is not looked at, be it NaN."""
    total = torch.zeros_like(terms["area"])
    for name, values in terms.items():
        weight = getattr(method, f"{name}_weight")
        if weight:
            total = total + weight * values
    return total


def shortlist(values: torch.Tensor, boxes: torch.Tensor, count: int, overlap: float = 1.0, places: int = 0
              ) -> torch.Tensor:
    """(K, M) values of the (K, M, 4) boxes → (K, M) boolean: `count` different boxes of low value, the earlier first
    among equals; all entries for 0. Of boxes that were clamped to the same, the first stands for all.

    `places` 0: the lowest of all. Otherwise those of so many anchors, as many of each: the anchors whose lowest box is
    lowest, and of each its lowest boxes. Of boxes (with `places`: of the anchors' lowest) whose IoU is above
    `overlap` only the lowest is taken (non-maximum suppression, as detectors do it). Fewer than `count` are kept where
    so many can't be found.
    """
    if not count:
        return torch.ones_like(values, dtype=torch.bool)
    if not places:
        return _apart(values.flatten(), boxes.reshape(-1, 4), count, overlap).reshape(values.shape)
    anchors = torch.arange(len(values))
    lowest = values.argmin(dim=1)
    taken = _apart(values[anchors, lowest], boxes[anchors, lowest], min(places, count), overlap)
    order = anchors[taken][values[taken].amin(dim=1).argsort(stable=True)].tolist()
    kept = torch.zeros_like(values, dtype=torch.bool)
    for i, k in enumerate(order):
        # So many of each; where they can't be shared out evenly, the first anchors have one more.
        share = count // len(order) + (i < count % len(order))
        for m in values[k].sort(stable=True).indices.tolist():
            if kept[k].sum() == share:
                break
            kept[k, m] = not (boxes[kept] == boxes[k, m]).all(dim=1).any()
    return kept


def _apart(values: torch.Tensor, boxes: torch.Tensor, count: int, overlap: float) -> torch.Tensor:
    """(N,) boolean: the `count` lowest of the (N, 4) boxes of which no two are the same, nor overlap by more."""
    kept = torch.zeros(len(values), dtype=torch.bool)
    for i in values.sort(stable=True).indices.tolist():
        taken = boxes[kept]
        if len(taken) == count:
            break
        same = (taken == boxes[i]).all(1).any()
        if not same and bool((iou(boxes[i].float(), taken.float()) <= overlap).all()):
            kept[i] = True
    return kept
