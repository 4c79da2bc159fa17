"""`edit(...)`: the whole method on one page. Picture and sentence in, one `EditResult` out."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from PIL import Image
from tqdm.auto import tqdm

from lr_helpers.anchors import anchor_centres, inside_anchors, spread_anchors
from lr_helpers.boxes import Box, box_mask, grown, least_overlap
from lr_helpers.candidates import Candidates, Edits, free_terms, shortlist, weighted
from lr_helpers.files.canvas import Canvas
from lr_helpers.files.pictures import open_noted, paste_back
from lr_helpers.learning import Estimator, History, learn, make_estimator, shortlisted
from lr_helpers.losses import softmax_score
from lr_helpers.machine.seeding import seeded
from lr_helpers.machine.threads import adapt
from lr_helpers.method import Method, check_input, get_method
from lr_helpers.models.libraries import versions
from lr_helpers.models.loading import Models
from lr_helpers.predictor import predictor_of, ranking, stored_name, view_of
from lr_helpers.regions import RegionNetwork, pool_proposals, proposals, standardise
from lr_helpers.result import Candidate, EditResult

FEATHER = 0.08
"""Width of the blend at a region's edges, as a share of its side. It is for the eye: candidates are pasted with hard
edges, as the paper's are, and judged so."""

Watch = Callable[[object], None]
"""Told how an edit goes on: the Proposals; the Candidates after each batch of edits; the Region that was learned, or
the Ranking of a predictor. It may raise, which ends the edit.
"""


@dataclass
class Proposals:
    """Where a method could edit one picture, before any edit; only the K anchors with a kept proposal are left."""

    features: torch.Tensor
    """(d, h, w): the backbone's last layer."""
    attention: torch.Tensor
    """(heads, h, w)."""
    anchors: torch.Tensor
    """(K, 2) rows and columns."""
    boxes: torch.Tensor
    """(K, M, 4) in the picture's own pixels."""
    kept: torch.Tensor
    """(K, M) boolean: the shortlist; for a predictor all that it may choose from."""
    free: dict[str, torch.Tensor]
    """(K, M) edit-free terms by name: those that the method weighs, and the area."""
    edit_free: torch.Tensor
    """(K, M) what the shortlist goes by: their sum, as the method weighs them."""
    pooled: torch.Tensor | None
    """(K, M·d, l, l): what the region network sees of them; None where a predictor chooses."""


def propose(models: Models, picture: Canvas | torch.Tensor, source: str, method: Method,
            avoid: Sequence[Box] = ()) -> Proposals:
    """Anchors, the boxes around them and what the backbone sees there; `picture` a canvas, or (3, H, W) in 0..1.

    Boxes that, with the method's margin, overlap a box of `avoid` are left out of the shortlist; where all do, those
    that overlap least stay.
    """
    canvas = Canvas.of(picture, models.editor.size)
    # Anchors: where the [CLS] token of a self-supervised ViT looks.
    features, attention = models.backbone.encode_image(canvas.frame, normalise="raw_backbone" not in method.defects)
    grid = (attention.shape[1], attention.shape[2])
    if method.distance:
        anchors = spread_anchors(attention, method.anchors, method.distance * min(grid))
    else:
        anchors = inside_anchors(attention, method.anchors, int(method.border * min(grid)))

    # Proposals around each; the shortlist goes by what can be known without an edit.
    centres = anchor_centres(anchors, grid, canvas.shape)
    if "transposed_anchors" in method.defects:  # as shares of the sides: the official code's pictures are all squares
        height, width = canvas.shape
        centres = centres.flip(1) * torch.tensor([width / height, height / width])
    boxes = proposals(centres, method.sizes, canvas.shape)
    free = free_terms(models, canvas, source, boxes, method)
    known = weighted(free, method)
    apart = least_overlap(grown(boxes, method.margin, canvas.shape), avoid)
    count = 0 if method.predicts else method.shortlist  # a predictor has its own
    kept = shortlist(known.masked_fill(~apart, torch.inf), boxes, count, method.nms_iou, method.places) & apart
    rows = kept.any(1)

    # What the ViT sees in them.
    pooled = None
    if not method.predicts:
        scale = 1 / 8 if "scaled_twice" in method.defects else 1.0
        pooled = pool_proposals(features, boxes, canvas.shape, method.pool, scale)
        pooled = (standardise(pooled) if method.standardise else pooled)[rows]
    free = {name: table[rows] for name, table in free.items()}
    return Proposals(features, attention, anchors[rows], boxes[rows], kept[rows], free, known[rows], pooled)


@dataclass
class Region:
    """What was learned: the network, how it got there, and each anchor's best proposal."""

    network: RegionNetwork
    history: History
    probabilities: torch.Tensor
    """(K, M)."""
    best: torch.Tensor
    """(K,) each anchor's most probable proposal."""
    order: list[int]
    """The anchors, best edit first."""


def learn_region(found: Proposals, candidates: Candidates, method: Method, seed: int,
                 estimator: Estimator | None = None) -> Region:
    """Train a region network on the proposals of one picture; edit each anchor's best, and rank these edits.

    `estimator` replaces the method's own.
    """
    with seeded(seed):
        sizes = found.boxes.shape[1]
        network = RegionNetwork(sizes, found.pooled.shape[1] // sizes, method.pool)
    estimator = estimator or make_estimator(method.estimator, method.temperature, method.samples)
    history = learn(network, found.pooled, candidates, estimator=estimator, iterations=method.iterations,
                    lr=method.lr, generator=torch.Generator().manual_seed(seed), entropy_weight=method.entropy_weight,
                    update_every=method.update_every, kept=found.kept)
    with torch.no_grad():
        probabilities = shortlisted(network(found.pooled), found.kept).softmax(dim=1)
    best = probabilities.argmax(dim=1)
    candidates.losses(best)
    order = final_value(candidates, torch.arange(len(best)), best, method).argsort(descending=True, stable=True)
    return Region(network, history, probabilities, best, order.tolist())


@dataclass
class Search:
    """A region learned for one picture: what was proposed, what was edited, what won."""

    proposals: Proposals
    candidates: Candidates
    region: Region
    seconds: float
    """Spent on learning, without the edits and their judging, which `candidates.seconds` has."""

    @property
    def order(self) -> list[tuple[int, int]]:
        """Each anchor's best edit (k, m), the best anchor first; the first one is the result, and alone a full edit."""
        return [(k, int(self.region.best[k])) for k in self.region.order]

    @property
    def probabilities(self) -> torch.Tensor:
        """(K, M), each row's sum is 1."""
        return self.region.probabilities

    confidence = None
    """Only a prediction has one."""


@dataclass
class Prediction:
    """A region that a predictor chose: what was proposed, what it said, what was edited, what won."""

    proposals: Proposals
    candidates: Candidates
    probabilities: torch.Tensor
    """(K, M): each box's among all different boxes of the picture, so that these have the sum 1."""
    confidence: float
    """See `predictor.Ranking`."""
    order: list[tuple[int, int]]
    """What was edited (k, m), the best first; the first one is the result, and alone a full edit."""
    seconds: float
    """Spent on predicting, without the edits and their judging."""


def search(models: Models, picture: Canvas | torch.Tensor, source: str, prompt: str, method: Method, seed: int, *,
           avoid: Sequence[Box] = (), found: Proposals | None = None, edits: Callable[..., Edits] | None = None,
           estimator: Estimator | None = None, progress: bool = False, watch: Watch | None = None) -> Search:
    """Learn where to edit one picture, a canvas or (3, H, W) in 0..1: propose, learn, choose, finish the winner.

    `avoid` as in `propose`; `found`: what was proposed already; `edits`: gives the stores that searches in the same
    picture share (see `Candidates`); `estimator` replaces the method's own; `watch`: see `Watch`.
    """
    adapt()  # torch's threads to what else the machine does now
    picture = Canvas.of(picture, models.editor.size)
    found = found or propose(models, picture, source, method, avoid)
    watch = watch or _nobody
    watch(found)
    # Edits are made as the estimator asks for them.
    candidates = Candidates(models, picture, source, prompt, found.boxes, method, seed, kept=found.kept,
                            free=found.free, edits=edits)
    count = candidates.count + candidates.to_finish
    with tqdm(total=count, desc="editing", unit="edit", disable=not progress, leave=False) as bar:
        begun, candidates.on_edit = time.perf_counter(), _after_edits(bar, candidates, watch)
        region = learn_region(found, candidates, method, seed, estimator)
        seconds = time.perf_counter() - begun - candidates.seconds
        watch(region)
        winner = region.order[0]
        candidates.finish(winner, int(region.best[winner]))
    return Search(found, candidates, region, seconds)


def predict(models: Models, picture: Canvas | torch.Tensor, source: str, prompt: str, method: Method, seed: int, *,
            avoid: Sequence[Box] = (), found: Proposals | None = None, edits: Callable[[int], Edits] | None = None,
            progress: bool = False, watch: Watch | None = None) -> Prediction:
    """Ask the profile's predictor where to edit one picture, edit the places that it likes best, finish the winner.

    Arguments as for `search`. Where it is confident enough for the method, its first box alone is edited, at once in
    full. Raises UserError where the profile has no predictor, or one that fits no model here.
    """
    predictor = predictor_of(models)
    adapt()
    picture = Canvas.of(picture, models.editor.size)
    found = found or propose(models, picture, source, method, avoid)
    watch = watch or _nobody
    watch(found)
    begun = time.perf_counter()
    seen = (found.features, found.attention) if "raw_backbone" not in method.defects else None
    view = view_of(models, picture, source, prompt, seen)
    ranked = ranking(predictor, view, found.boxes[found.kept])
    confidence = ranked.confidence
    places = ranked.places(1 if confidence >= method.confident else method.shortlist)
    seconds = time.perf_counter() - begun
    watch(ranked)

    # As tables over the proposals; a box that stands there several times is edited at its first place.
    probabilities, order = torch.zeros(found.kept.shape), []
    for i, box in enumerate(ranked.boxes):
        here = (found.boxes == box).all(-1) & found.kept
        probabilities[here] = ranked.probabilities[i]
        if i in places:
            order.append(tuple(here.nonzero()[0].tolist()))
    chosen = torch.zeros_like(found.kept)
    rows, columns = torch.tensor(order).T
    chosen[rows, columns] = True

    # A single edit has nothing to be compared with: it is made in full, and its terms count as they are.
    screening, _ = method.predicted_steps(len(order), models.editor.steps, models.profile.few)
    alone = {"standardise_terms": False} if len(order) == 1 else {}
    how = method.but(screening_steps=screening, **alone)
    candidates = Candidates(models, picture, source, prompt, found.boxes, how, seed, kept=chosen,
                            free=found.free, edits=edits)
    with tqdm(total=len(order) + candidates.to_finish, desc="editing", unit="edit", disable=not progress,
              leave=False) as bar:
        candidates.on_edit = _after_edits(bar, candidates, watch)
        candidates.losses(None)
        best = final_value(candidates, rows, columns, method).argsort(descending=True, stable=True)
        order = [order[i] for i in best.tolist()]
        candidates.finish(*order[0])
    return Prediction(found, candidates, probabilities, confidence, order, seconds)


def edit(models: Models, image: str | Path | Image.Image, source: str, prompt: str,
         method: Method | str = "learned", seed: int = 42, progress: bool = True,
         full_frame: bool = False, avoid: Sequence[Box] = ()) -> EditResult:
    """Learn where to edit `image` so that `source` ("bird") becomes `prompt` ("a rabbit"), and edit there.

    `method`: a Method, or the name of a preset. Those that predict ("predicted", "fast") learn nothing on this picture:
    they ask the profile's region predictor, which `python -m lr_helpers train-regions` trains.

    `image`: the path of a file, or any PIL picture; one with an EXIF orientation is turned as that says.

    The final picture has the size of the input, whose pixels outside the region (with the method's margin:
    `EditResult.painted`) it keeps, transparency included.
    With `full_frame` all that the model saw and made is pasted in instead, without an edge at the region, for one more
    full edit: pixels outside the region change too.

    Where the profile or the method has fewer `screening_steps` than `steps`, the candidates are made with so few, and
    only the one that wins gets a full edit: tables, terms and losses are those of the candidates, and of the pictures
    only the final one and that of the first candidate are full.

    `avoid`: boxes in the picture's own pixels in which nothing shall change, as `propose` takes them.

    The same seed on the same machine gives the same pixels, and with the same number of threads the same bits of every
    figure (see `threads`). Raises UserError for input that can't work.
    """
    method = get_method(method) if isinstance(method, str) else method
    source, prompt = check_input(source, prompt, seed)
    picture, notes = open_noted(image)
    return edit_checked(models, picture, source, prompt, method, seed, progress=progress, full_frame=full_frame,
                        avoid=avoid, notes=notes)


def edit_checked(models: Models, original: Image.Image, source: str, prompt: str, method: Method, seed: int, *,
                 progress: bool = False, full_frame: bool = False, avoid: Sequence[Box] = (),
                 notes: Sequence[str] = (), watch: Watch | None = None) -> EditResult:
    """`edit` for a picture with its notes as `open_noted` returns them, and texts as `check_input` does; and it can be
    watched.

    The command line and the batch call it: they read and check before they load a model.
    """
    begun, evaluations, size = time.perf_counter(), models.editor.evaluations, models.profile.size
    canvas = Canvas(original, size)

    choose = predict if method.predicts else search
    found = choose(models, canvas, source, prompt, method, seed, avoid=avoid, progress=progress, watch=watch)
    best, *others = (Candidate.of(found.candidates, found.probabilities, *place) for place in found.order)
    patch = found.candidates.patch(best.anchor, best.proposal)
    if full_frame:
        mask = box_mask([round(v) for v in patch.inner], size, size)
        frames = models.editor.inpaint(canvas.crop(patch.window), mask[None], prompt, seed=seed,
                                       steps=found.candidates.full_steps, guidance=method.guidance)
        final = paste_back(original, frames[0], (0, 0, size, size), FEATHER, patch.window)
    else:
        final = paste_back(original, patch.edited, patch.inner, FEATHER, patch.window)

    table, region = found.candidates, None if method.predicts else found.region
    seconds = {"predicting" if method.predicts else "learning": found.seconds, "edits": table.seconds,
               "total": time.perf_counter() - begun}
    return EditResult(
        image=final, original=original, picture=canvas.frame, candidates=[best, *others],
        network=region and region.network, history=region and region.history, confidence=found.confidence,
        attention=found.proposals.attention, anchors=found.proposals.anchors, boxes=table.boxes,
        probabilities=found.probabilities, table=table, terms=table.terms, loss=table.loss, scores=table.score,
        prompt=prompt, source=source, seed=seed, method=method,
        cost={"denoiser_evaluations": models.editor.evaluations - evaluations,
              "edits": int((~table.loss.isnan()).sum()), "different_edits": table.made,
              "seconds": {name: round(spent, 3) for name, spent in seconds.items()}},
        record={"profile": models.profile.name, "origins": models.origins, "device": models.device,
                "size": size, "steps": table.full_steps, "screening_steps": table.steps,
                "scheduler": type(models.editor.pipeline.scheduler).__name__,
                "guidance": models.profile.guidance if method.guidance is None else method.guidance,
                "method": asdict(method), "full_frame": full_frame, "versions": versions(),
                **({"regions": stored_name(models)} if method.predicts else {}),
                **({"avoid": [list(box) for box in avoid]} if avoid else {})},
        warnings=[*notes, *models.warnings_for(prompt), *models.warnings_for(source)])


def final_value(candidates: Candidates, rows: torch.Tensor, best: torch.Tensor, method: Method) -> torch.Tensor:
    """What the final choice goes by, (K,), higher is better."""
    if method.choice == "score":
        return candidates.score[rows, best]
    if method.choice == "loss":
        return -candidates.loss[rows, best]
    return softmax_score(candidates.text_similarity[rows, best], candidates.image_similarity[rows, best],
                         method.alpha, method.beta)


def _nobody(_: object) -> None:
    """Watches nothing."""


def _after_edits(bar: tqdm, candidates: Candidates, watch: Watch) -> Callable[[int], None]:
    """What a table of edits calls after each batch: the bar goes on, and who watches sees the table."""
    def told(count: int) -> None:
        bar.update(count)
        watch(candidates)
    return told
