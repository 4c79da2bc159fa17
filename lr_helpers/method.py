"""Methods (how the region is found and learned) as plain data with its sources, and the check of what a user asks."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from typing import Any

from lr_helpers.errors import UserError

OFFICIAL_SIZES = (0.25, 0.375, 0.5, 0.625, 0.75, 0.875)
"""Half-sizes 4, 6 … 14 of 32 tokens, as sides of the box / side of the picture."""

DEFECTS = {
    "raw_backbone": "the picture enters DINO as 0..1, without the normalisation it was trained with",
    "transposed_anchors": "rows and columns of the anchors are swapped before boxes are drawn around them",
    "scaled_twice": "RoIAlign scales boxes that are in tokens already by 1/8, and so pools an eighth of their place",
    "pixels_255": "the edited pictures enter CLIP as 0..255, the source as 0..1",
}
"""What the official code does and surely does not mean to, each measured on it; its missing gradient is
the estimator 'none'."""


ESTIMATORS = ("expectation", "reinforce", "straight_through", "none")
"""How the gradient reaches the region network; `learning` has one class for each."""

LOSSES = ("clip", "structure", "direction", "source", "patches", "occlusion", "area")
"""The terms of the loss; each has a weight."""

WEIGHTS = (-1000.0, 1000.0)
"""Range of the weights; a larger one would drown the other terms, and at last leave the numbers of float32."""

_SEARCHED = {"clip": 0.25, "structure": 0.125, "direction": 0.25, "source": 0.25, "patches": 1.0, "occlusion": 0.25}
OBJECTIVES: dict[str, dict[str, float]] = {
    "paper": {"clip": 1.0, "structure": 1.0, "direction": 1.0},
    "learned": _SEARCHED,
    "tight": {**_SEARCHED, "area": 4.0},
    "direction": {"direction": 1.0},
    "direction_area": {"direction": 1.0, "area": 1.0},
}
"""Weights of the loss by name, 0 for every other term. Patches ask where the source is, so `learned` is for
replacing and removing; what the paper calls direction serves adding too: did the picture change as the text did?
`direction_area` asks that of a small box, with each term standardised over the boxes of the picture. `tight` is
`learned` of a small box: what is learned across pictures finds more regions by it (docs/across.md).
`python -m lr_helpers study objectives` compares them."""

ADDING = {"tight": "learned"}
"""The objective that is taken instead where the texts ask to add something: an empty place sets no box its size."""

FINDERS = ("search", "predictor")
"""Who says where to edit: a region network that is trained on this picture, or one that was trained on others."""

CHOICES = ("score", "softmax_score", "loss")
"""What the final choice among the anchors' edits goes by."""


def setting(default: Any, meaning: str, within: tuple[float, float] | None = None,
            options: tuple[str, ...] | None = None) -> Any:
    """A field with a default, what it means and where that is from, and which values work."""
    return field(default=default, metadata={"help": meaning, "within": within, "options": options})


def check_settings(settings: Any) -> None:
    """Raise UserError for the first field of a dataclass whose value, or one of whose values, does not work."""
    for known in fields(settings):
        value = getattr(settings, known.name)
        within, options = known.metadata.get("within"), known.metadata.get("options")
        several = isinstance(value, tuple)
        name = f"each of {known.name}" if several else known.name
        for one in value if several else (value,):
            if isinstance(one, float) and not math.isfinite(one):
                raise UserError(f"{known.name} is {value}; give finite numbers.")
            if within and one is not None:  # None: the profile's own
                check_range(name, one, *within)
            if options and one not in options:
                raise UserError(f"{known.name} is {one!r}; choose from {', '.join(options)}.")


@dataclass(frozen=True)
class Method:
    """How a region is found and learned; the defaults are the paper's. "Official" means the official code."""

    finder: str = setting(
        "search",
        "who says where to edit: 'search' (a region network trained on this picture's edits, as in the paper) or "
        "'predictor' (one trained on other pictures' edits; ours): what only a search does is not asked for then",
        options=FINDERS)
    anchors: int = setting(9, "anchor points K (official: point_number 9)", within=(1, 256))
    border: float = setting(
        0.0,
        "anchors nearer to the border than this share of the picture's side are passed over while there are enough "
        "others (official 15/32; paper 0)",
        within=(0.0, 0.5))
    distance: float = setting(
        0.0,
        "anchors keep at least this distance from each other, as a share of the picture's side (ours; paper 0); the "
        "border rule is not applied then",
        within=(0.0, 1.0))
    sizes: tuple[float, ...] = setting(
        (*OFFICIAL_SIZES, 1.0),
        "sides of the M proposals as shares of the picture's side (paper: M = 7, sizes not told; official: "
        "half-sizes 4, 6 … 14 of 32 tokens, the first six of these)",
        within=(0.02, 1.0))
    shortlist: int = setting(
        0,
        "edit only this many different ones of the K×M boxes, those whose edit-free terms (patches, occlusion, area) "
        "are lowest; 0: all (ours; paper 0). With the finder 'predictor': at most so many of the places it likes best",
        within=(0, 256 * 64))
    places: int = setting(
        0,
        "the shortlist's boxes lie around this many anchors, as many at each, so that the region network has "
        "sizes to choose from; 0: they lie anywhere (ours; paper 0)",
        within=(0, 256))
    nms_iou: float = setting(
        1.0,
        "of boxes that overlap by more than this IoU only the best gets onto the shortlist, of places only the "
        "best one (non-maximum suppression); 1: all may (ours; paper 1)",
        within=(0.0, 1.0))
    confident: float = setting(
        1.0,
        "the predictor's confidence from which on its first box alone is edited, instead of the whole shortlist: the "
        "probability of all boxes that overlap that box by half (IoU 0.5), itself included (ours)",
        within=(0.0, 1.0))
    margin: float = setting(
        0.0,
        "painted is this much more than the region on each of its sides, as a share of the picture's shorter side: "
        "proposals come in steps, so a rim of the old object would stay (ours; paper 0)",
        within=(0.0, 0.25))
    pool: int = setting(7, "RoIAlign output side l (paper 7, official 8)", within=(1, 32))
    standardise: bool = setting(False, "pooled features standardised over the anchors (ours; not in the paper)")
    estimator: str = setting(
        "straight_through",
        "gradient of the region network: 'straight_through' (paper), 'none' (official), 'expectation' (exact, ours) "
        "or 'reinforce' (ours)",
        options=ESTIMATORS)
    temperature: float = setting(
        1.0, "temperature of the Gumbel-softmax under straight_through (paper: not told)",
        within=(0.01, 100.0))
    samples: int = setting(
        4, "draws an update under reinforce, each compared with the others (ours)",
        within=(2, 1000))
    iterations: int = setting(
        150, "updates of the region network (official 10; paper: 5 epochs, length not told)",
        within=(0, 100_000))
    lr: float = setting(3e-3, "learning rate of Adam (paper 3e-3, official 5e-3)", within=(1e-8, 1.0))
    update_every: int = setting(
        1, "the optimiser steps every this many iterations (official 25, of 10)",
        within=(1, 100_000))
    entropy_weight: float = setting(
        0.0, "bonus for undecided probabilities, fading to 0 (ours; paper 0)",
        within=WEIGHTS)
    clip_weight: float = setting(1.0, "weight of L_Clip, eq. 3 (paper 1)", within=WEIGHTS)
    structure_weight: float = setting(1.0, "weight of L_Str, eq. 4 (paper 1)", within=WEIGHTS)
    direction_weight: float = setting(1.0, "weight of L_Dir, eq. 5 (paper 1)", within=WEIGHTS)
    source_weight: float = setting(
        0.0, "weight of cos(edit, source text): is the old object gone? (ours; paper 0)",
        within=WEIGHTS)
    patches_weight: float = setting(
        0.0,
        "weight of the patches loss: do the box's patches look like the source, and only they? needs no edit (ours; "
        "paper 0)",
        within=WEIGHTS)
    occlusion_weight: float = setting(
        0.0,
        "weight of the occlusion loss: does hiding the box take the source away? needs no edit (ours; paper 0)",
        within=WEIGHTS)
    area_weight: float = setting(0.0, "weight of the box's share of the picture (ours; paper 0)", within=WEIGHTS)
    centre_texts: bool = setting(
        False,
        "what all texts have in common (the mean of many names of things and of grounds) is taken off source and "
        "prompt before the terms are computed (ours; paper no)")
    standardise_terms: bool = setting(
        False,
        "each term but area, which is a share, counts in standard deviations over the picture's own boxes, so that no "
        "weight depends on which CLIP judges; the whole shortlist is edited then (ours; paper no)")
    alpha: float = setting(2.0, "weight of cos(edit, prompt) in S, eq. 7 (paper 2)", within=WEIGHTS)
    beta: float = setting(1.0, "weight of cos(edit, source picture) in S (paper 1)", within=WEIGHTS)
    choice: str = setting(
        "score",
        "which anchor's edit is final: 'score' (highest S, paper), 'softmax_score' (official: S of similarities "
        "softmaxed over the anchors, among the three nearest to the text) or 'loss' (lowest loss, ours)",
        options=CHOICES)
    steps: int | None = setting(None, "denoising steps of a full edit (default: the profile's)", within=(1, 500))
    screening_steps: int | None = setting(
        None,
        "denoising steps of the candidates, of which the winner then gets a full edit (ours; default: the profile's, "
        "and never more than a full edit's)",
        within=(1, 500))
    guidance: float | None = setting(None, "guidance scale (default: the profile's)", within=(0.0, 100.0))
    defects: tuple[str, ...] = setting((), "defects of the official code to repeat", options=tuple(DEFECTS))

    def __post_init__(self) -> None:
        check_settings(self)
        check_range("number of sizes (M)", len(self.sizes), 1, 64)
        if len(set(self.sizes)) < len(self.sizes):
            raise UserError(f"sizes {self.sizes} name a size twice; give each once.")
        if not any(getattr(self, f"{term}_weight") for term in LOSSES):
            names = ", ".join(f"{term}_weight" for term in LOSSES)
            raise UserError(f"All weights of the loss are 0 ({names}); give one of them another value.")
        if self.predicts and not self.shortlist:
            raise UserError("shortlist is 0; with the finder 'predictor' give 1 or more boxes to edit.")
        if self.shortlist and not (self.predicts or self.patches_weight or self.occlusion_weight or self.area_weight):
            raise UserError("shortlist needs edit-free terms; give patches_weight, occlusion_weight or area_weight a "
                            "value above 0.")

    @property
    def predicts(self) -> bool:
        """Does a predictor say where to edit, so that no region network is trained?"""
        return self.finder == "predictor"

    @property
    def most_candidates(self) -> int:
        """A result has at most so many candidates: each anchor's best, or a prediction's shortlist."""
        return self.shortlist if self.predicts else self.anchors

    @property
    def objective(self) -> str:
        """The name of its weights in OBJECTIVES; "" where they are others."""
        own = {term: weight for term in LOSSES if (weight := getattr(self, f"{term}_weight"))}
        return next((name for name, weights in OBJECTIVES.items() if weights == own), "")

    def aiming(self, objective: str) -> Method:
        """A copy with the weights of this name (see OBJECTIVES).

        Raises UserError for an unknown one, and where a search's shortlist would go by the boxes' areas alone.
        """
        if objective not in OBJECTIVES:
            raise UserError(f"The objective {objective!r} is unknown; choose one of {', '.join(OBJECTIVES)}.")
        weights = OBJECTIVES[objective]
        if self.shortlist and not self.predicts and not (weights.get("patches") or weights.get("occlusion")):
            raise UserError(f"The objective {objective!r} has neither patches nor occlusion for a shortlist; give "
                            "shortlist 0 first, or take a method that predicts.")
        return self.but(**{f"{term}_weight": weights.get(term, 0.0) for term in LOSSES})

    def planned_steps(self, steps: int, screening_steps: int | None) -> tuple[int, int]:
        """Denoising steps of a candidate and of the full edit, with a profile's own `steps` and `screening_steps`.

        What the method names wins. Where both are the same, candidates are full edits and nothing is made twice.
        """
        full = self.steps or steps
        return self.screening_steps or min(screening_steps or full, full), full

    def judges_drafts(self, steps: int, screening_steps: int | None, decoder: bool) -> bool:
        """Are candidates decoded by the profile's small decoder, where there is one, and only the winner by its own?
        Not where the method asks for full edits: where its `screening_steps` are those of a full edit.
        """
        return decoder and self.screening_steps != self.planned_steps(steps, screening_steps)[1]

    def predicted_steps(self, count: int, steps: int, few: int) -> tuple[int, int]:
        """`planned_steps` where a predictor chose `count` boxes, with a profile's own `steps` and `few` of them: a
        single box gets the full edit at once.
        """
        full = self.steps or steps
        return (full if count == 1 else self.screening_steps or min(few, full)), full

    def but(self, **changes) -> Method:
        """A copy with these fields changed; fields given as None keep their value."""
        return replace(self, **{k: v for k, v in changes.items() if v is not None})


def check_range(name: str, value: float, low: float, high: float) -> None:
    """Raise UserError unless low ≤ value ≤ high."""
    if not low <= value <= high:
        raise UserError(f"{name} is {value}; give a value from {low} to {high}.")


LEARNED = Method(anchors=48, distance=0.0625, sizes=(0.25, 0.3125, 0.375, 0.4375, 0.5, 0.625, 0.75), shortlist=12,
                 places=4, nms_iou=0.35, estimator="expectation", choice="loss", clip_weight=0.25,
                 structure_weight=0.125, direction_weight=0.25, source_weight=0.25, patches_weight=1.0,
                 occlusion_weight=0.25, centre_texts=True, standardise_terms=True, standardise=True, lr=1e-3,
                 entropy_weight=0.2)
PREDICTED = LEARNED.but(finder="predictor", shortlist=1, margin=1 / 32).aiming("direction_area")

METHODS: dict[str, Method] = {
    "learned": LEARNED,
    "fast": PREDICTED.but(shortlist=4, confident=0.5),
    "predicted": PREDICTED,
    "paper": Method(),
    "official_code": Method(border=15 / 32, sizes=OFFICIAL_SIZES, pool=8, estimator="none", iterations=10, lr=5e-3,
                            update_every=25, choice="softmax_score", defects=tuple(DEFECTS)),
}
"""Presets. `learned` is a search; its weights were chosen on validation scenes (`python -m lr_helpers study
weights`), and notebook 08 reports them on others (`study regions`). `predicted` asks a network that was trained on
other pictures for one box, which fits more closely, and paints it with a margin of half the step between two sizes;
`fast` has up to four of its places edited in few steps and finishes the best,
unless the network is confident. `paper` is what the paper says.
`official_code` does what the official code does; left out of it are what changes no region here: its prompt
template, the 16 augmented views of a CLIP embedding, the fixed random convolution before its network, weight decay."""


OF_THE_EDIT = ("steps", "screening_steps", "guidance", "margin")
"""Settings that say nothing of where to edit, so every preset has a use for them."""


def default_method(predicts: bool, changed: Iterable[str] = ()) -> str:
    """The preset of the command line and of a batch where none is named, by the settings that are `changed`.

    `predicted` if the profile `predicts`: on scenes that no setting was chosen on it did no fewer tasks than `learned`,
    at a twelfth of the evaluations (docs/results.md). But whoever changes a setting of the search wants a search; and
    without a network that was trained on other pictures there is no other way.
    """
    return "learned" if not predicts or set(changed) - set(OF_THE_EDIT) else "predicted"


def get_method(name: str) -> Method:
    """The preset of this name; raises UserError for an unknown one."""
    if name not in METHODS:
        raise UserError(f"The method {name!r} is unknown; choose one of {', '.join(METHODS)}.")
    return METHODS[name]


MAX_SEED = 2**63 - 1


def check_input(source: str, prompt: str, seed: int) -> tuple[str, str]:
    """`check_texts` and `check_seed`: source and prompt, each on one line."""
    check_seed(seed)
    return check_texts(source, prompt)


def check_seed(seed: int) -> None:
    """Raises UserError for a seed outside 0 … MAX_SEED."""
    check_range("seed", seed, 0, MAX_SEED)


def check_texts(source: str, prompt: str) -> tuple[str, str]:
    """Source and prompt, each as `check_text` returns it."""
    return check_text("source", source), check_text("prompt", prompt)


TEXTS = {"source": "what is there now", "prompt": "what you want to see"}


def check_text(name: str, text: str) -> str:
    """The text called `name`, a key of TEXTS, on one line. Raises UserError if it is empty or holds control characters.
    """
    for character in text:
        if unicodedata.category(character) in ("Cc", "Cs") and character not in "\t\n\v\f\r":
            raise UserError(f"The {name} holds the control character {character!r}; take it out.")
    if not any(c.isprintable() and not c.isspace() for c in text):
        raise UserError(f"The {name} is empty; say in a few words {TEXTS[name]}.")
    return " ".join(text.split())
