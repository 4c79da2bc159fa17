"""One edit as a generator of stages: the engine of the widget and of the web page.

It runs what `edit` runs, in a thread of its own, so that whoever shows the stages stays free to be told to cancel.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from PIL import Image

from lr_helpers.boxes import Box
from lr_helpers.candidates import Candidates
from lr_helpers.costs.evaluations import Part, Speed, search, speed
from lr_helpers.editing import Proposals, Region, edit_checked
from lr_helpers.errors import UserError
from lr_helpers.files.canvas import Canvas
from lr_helpers.files.pictures import open_noted
from lr_helpers.inpainting import Editor
from lr_helpers.learning import History
from lr_helpers.machine.boundary import sentence
from lr_helpers.method import METHODS, Method, check_input, get_method
from lr_helpers.models.loading import WORD, Models
from lr_helpers.predictor import Ranking, predictor_of
from lr_helpers.result import EditResult


@dataclass(frozen=True)
class Prepared:
    """The picture is read and the texts are checked; nothing is computed yet."""

    original: Image.Image
    """RGB or RGBA."""
    picture: torch.Tensor
    """(3, h, w) in 0..1: what the encoders see."""
    cost: Part
    """Denoiser evaluations of the edit that begins."""
    warnings: list[str]


@dataclass(frozen=True)
class Proposed:
    """Where the method may edit."""

    attention: torch.Tensor
    """(h, w): the mean of the heads."""
    anchors: torch.Tensor
    """(K, 2) rows and columns of it."""
    boxes: torch.Tensor
    """(K, M, 4) in the picture's own pixels."""
    kept: torch.Tensor
    """(K, M) boolean: the shortlist; for a predictor all that it may choose from."""


@dataclass(frozen=True)
class Edited:
    """One candidate edit was made and judged."""

    number: int
    """0 for the first."""
    most: int
    """How many there can be: `number` + 1 is at most this."""
    box: Box
    """(x0, y0, x1, y1) in the picture's own pixels."""
    picture: torch.Tensor = field(repr=False)
    """(3, h, w) in 0..1: the frame with the edit pasted in."""
    loss: float | None
    """None while it is not known: a method that counts terms in deviations over all edits knows it when all are made.
    Then `judged` tells it."""
    score: float
    """S of eq. 7."""
    terms: dict[str, float]
    """NaN for a term that the method does not ask for."""


@dataclass(frozen=True)
class Chosen:
    """What was learned on this picture, or predicted: how probable each region is."""

    boxes: torch.Tensor
    """(N, 4) in the picture's own pixels: all that could be chosen."""
    probabilities: torch.Tensor
    """(N,), their sum is 1; after a search each anchor has the same share of it."""
    history: History | None
    """Of the learning; None where a predictor chose."""
    confidence: float | None
    """Of a predictor, 0..1."""


@dataclass(frozen=True)
class Finished:
    """The last stage: what `edit` returns."""

    result: EditResult


@dataclass(frozen=True)
class Stopped:
    """The last stage of an edit that was cancelled."""

    evaluations: int
    """Denoiser evaluations made until then."""
    seconds: float


Stage = Prepared | Proposed | Edited | Chosen | Finished | Stopped

MOST = 1000
"""Characters of a text; models read far less."""
SAID = {
    "learned": "learns on this picture where to edit: edits some places, and looks which edits fit both texts.",
    "fast": "one network for all pictures says where; unless it is sure, up to four places are edited.",
    "predicted": "one network for all pictures says where; one edit.",
    "paper": "as the paper describes it, more slowly.",
    "official_code": "as the authors' code does it, with its faults, for comparison.",
}
"""What a preset does, in a few words."""

_busy = threading.Lock()
"""Models count their evaluations, so one edit runs at a time."""


class _CancelledError(Exception):
    """Raised inside an edit that was cancelled."""


def stages(models: Models, image: str | Path | Image.Image, source: str, prompt: str, method: Method | str = "learned",
           seed: int = 42, *, cancel: threading.Event | None = None) -> Iterator[Stage]:
    """The stages of one edit, each as soon as it is reached; arguments as for `edit`, and the same bits in the end.

    Setting `cancel` from another thread ends the edit before its next denoiser call; so does closing the generator.
    Raises UserError, one sentence, whatever goes wrong, also while another edit runs.
    """
    cancel = threading.Event() if cancel is None else cancel
    method = get_method(method) if isinstance(method, str) else method
    source, prompt = check_input(*_short(source, prompt), seed)
    original, notes = open_noted(image)
    warnings = [*notes, *models.warnings_for(prompt), *models.warnings_for(source)]
    if not _busy.acquire(blocking=False):
        raise UserError("Another edit is running; cancel it, or wait for its end.")
    try:
        yield Prepared(original, Canvas(original, models.profile.size).frame, cost(models, method), warnings)
        yield from _run(models, original, source, prompt, method, seed, notes, cancel)
    finally:
        _busy.release()


def _run(models: Models, original: Image.Image, source: str, prompt: str, method: Method, seed: int,
         notes: list[str], cancel: threading.Event) -> Iterator[Stage]:
    """Edit in a thread, and pass on what it tells."""
    told: queue.SimpleQueue[Stage | Exception] = queue.SimpleQueue()
    begun, before = time.perf_counter(), models.editor.evaluations
    teller = _Teller(told, cancel)

    def work() -> None:
        try:
            with _stoppable(models.editor, cancel):
                result = edit_checked(models, original, source, prompt, method, seed, notes=notes, watch=teller)
            told.put(Finished(result))
        except _CancelledError:
            told.put(Stopped(models.editor.evaluations - before, time.perf_counter() - begun))
        except Exception as error:
            told.put(error)

    worker = threading.Thread(target=work, name="edit", daemon=True)
    worker.start()
    try:
        while True:
            stage = told.get()
            if isinstance(stage, UserError):
                raise stage
            if isinstance(stage, Exception):
                raise UserError(in_one_sentence(stage)) from stage
            yield stage
            if isinstance(stage, (Finished, Stopped)):
                return
    finally:  # also where nobody wants the stages any more
        if worker.is_alive():
            cancel.set()
            worker.join()


@contextmanager
def _stoppable(editor: Editor, cancel: threading.Event) -> Iterator[None]:
    """Within, a set `cancel` stops this thread's edits before their next denoiser call."""
    own = threading.get_ident()

    def check(*_) -> None:
        if cancel.is_set() and threading.get_ident() == own:
            raise _CancelledError

    # Before the hook that counts evaluations: the call that is not made does not count.
    hook = getattr(editor.pipeline, editor.denoiser).register_forward_pre_hook(check, prepend=True)
    try:
        yield
    finally:
        hook.remove()


class _Teller:
    """Makes stages of what `editing.Watch` is told."""

    def __init__(self, told: queue.SimpleQueue, cancel: threading.Event):
        self.told, self.cancel = told, cancel
        self.boxes = self.kept = torch.empty(0)
        self.seen: set[Box] = set()

    def __call__(self, what: object) -> None:
        if self.cancel.is_set():
            raise _CancelledError
        if isinstance(what, Proposals):
            self.boxes, self.kept = what.boxes, what.kept
            self.told.put(Proposed(what.attention.mean(0), what.anchors, what.boxes, what.kept))
        elif isinstance(what, Candidates):
            self._tell_new(what)
        elif isinstance(what, Region):
            # Each anchor's proposals have the sum 1; all of them together shall have it here.
            share = what.probabilities[self.kept] / len(what.probabilities)
            self.told.put(Chosen(self.boxes[self.kept], share, what.history, None))
        elif isinstance(what, Ranking):
            self.told.put(Chosen(what.boxes, what.probabilities, None, what.confidence))

    def _tell_new(self, table: Candidates) -> None:
        """Every box that was judged since the last time, once."""
        loss, score = table.loss, table.score
        final = not table.method.standardise_terms or table.made == table.count
        for k, m in (~loss.isnan()).nonzero().tolist():
            box = tuple(table.boxes[k, m].tolist())
            if box in self.seen:
                continue
            self.seen.add(box)
            self.told.put(Edited(len(self.seen) - 1, table.count, box, table.picture(k, m).clone(),
                                 float(loss[k, m]) if final else None, float(score[k, m]),
                                 {name: float(v[k, m]) for name, v in table.terms.items()}))


def judged(edits: Sequence[Edited], result: EditResult) -> list[Edited]:
    """The edits of a finished run, each with its loss among all of them."""
    boxes, values = result.boxes.reshape(-1, 4).tolist(), result.loss.flatten().tolist()
    losses = {tuple(box): loss for box, loss in zip(boxes, values, strict=True) if loss == loss}
    return [replace(one, loss=losses.get(one.box)) for one in edits]


# What is told before


def _short(*texts: str) -> tuple[str, ...]:
    """The texts, if neither is longer than MOST; raises UserError otherwise."""
    for name, text in zip(("source", "prompt"), texts, strict=True):
        if len(text) > MOST:
            raise UserError(f"The {name} has {len(text):,} characters; give at most {MOST:,}.")
    return texts


def in_one_sentence(error: Exception) -> str:
    """What a user can do about an exception; of a fault of ours, that it is one."""
    said = " ".join(f"{type(error).__name__}: {error}".split())[:200]
    return sentence(error) or f"This is a fault of the program, not of yours; please report it ({said})."


def methods(models: Models) -> tuple[str, ...]:
    """The presets that these models can do, the cheapest first: those that predict need a predictor that fits them."""
    try:
        predictor_of(models)
    except UserError:
        known = [name for name, method in METHODS.items() if not method.predicts]
    else:
        known = list(METHODS)
    return tuple(sorted(known, key=lambda name: cost(models, name).evaluations))


def cost(models: Models, method: Method | str) -> Part:
    """Denoiser evaluations of an edit by this method."""
    return search(models.profile, method)


def cost_sentence(models: Models, method: Method | str) -> str:
    """What an edit costs, before it begins: evaluations, and seconds where they are known."""
    part, known = cost(models, method), _speed(models)
    count = f"{'At most ' if part.at_most else ''}{part.evaluations:,} denoiser evaluations"
    return f"{count}, {known.said(part.evaluations)}." if known else f"{count}."


def _speed(models: Models) -> Speed | None:
    on_gpu = torch.device(models.device).type == "cuda"
    return speed(models.profile, torch.cuda.get_device_name() if on_gpu else None)


def marked(models: Models, text: str) -> list[tuple[str, bool]]:
    """The text in pieces, in order: (piece, is it a word that the models don't know?)."""
    pieces, at, text = [], 0, text[:MOST]
    for found in WORD.finditer(text):
        if models.words is not None and found[0].lower() not in models.words:
            pieces += [(text[at:found.start()], False), (found[0], True)]
            at = found.end()
    return [piece for piece in (*pieces, (text[at:], False)) if piece[0]]
