"""One item, from its picture to its record; picklable in and out, so that any engine can map it over items."""

from __future__ import annotations

import math
import time
import traceback
from dataclasses import dataclass, field

from lr_helpers.batch import folder, key
from lr_helpers.batch.items import Item
from lr_helpers.errors import OutputError, UserError
from lr_helpers.files.pictures import read_noted
from lr_helpers.files.writing import explained

DONE, KEPT, REFUSED, FAILED = "done", "kept", "refused", "failed"


@dataclass(frozen=True)
class Outcome:
    """What became of an item."""

    name: str
    status: str
    """`done` now, `kept` from an earlier run, `refused` for its input, or `failed` for a reason that is not the
    user's."""
    message: str = ""
    """One sentence, for the last two."""
    row: dict = field(default_factory=dict)
    """What the summary tells of it, if it is done or kept."""
    detail: str = ""
    """The traceback of a failure, for the log."""

    @property
    def good(self) -> bool:
        return self.status in (DONE, KEPT)


def edit_item(models, item: Item, identity: dict[str, str]) -> Outcome:
    """Edit one item with loaded `Models` and write its folder, the record last; `identity` as `key.identity` gives it.

    Whatever is wrong with the item itself becomes the outcome's message. Raises OutputError only, when the output
    can't be written: the batch has to stop then.
    """
    from lr_helpers.editing import edit_checked  # with diffusers behind it; a finished batch does not need it

    begun = time.perf_counter()
    try:
        stamp = folder.stamp_of(item.image)
        picture, notes = read_noted(item.image)
        decides = key.inputs(item, key.digest(item.image), identity)
        # The texts were checked when the batch was planned, and the picture was made upright when it was read.
        result = edit_checked(models, picture, item.source, item.prompt, item.method, item.seed,
                              full_frame=item.full_frame, notes=notes)
        if stamp != folder.stamp_of(item.image):
            raise UserError(f"{item.image.name} changed while it was read; start the batch again.")
        row = _row(item, result)
    except UserError as error:
        return Outcome(item.name, REFUSED, str(error))
    except OSError as error:
        return Outcome(item.name, REFUSED, f"{item.image.name} can't be read ({error.strerror}); check the file.")
    except Exception as error:
        return _failed(item, "edited", error)
    try:
        folder.begin(item)
        with explained(item.folder):
            result.save(item.folder, draw_boxes=True)
        row |= {"seconds": round(time.perf_counter() - begun, 3)}
        folder.complete(item, decides, stamp, row)
    except OutputError:
        raise
    except UserError as error:  # somebody put a file there since the batch began
        return Outcome(item.name, REFUSED, str(error))
    except Exception as error:
        return _failed(item, "saved", error)
    return Outcome(item.name, DONE, row=row)


def _failed(item: Item, what: str, error: Exception) -> Outcome:
    """Out of memory, say: the night's other items go on."""
    return Outcome(item.name, FAILED, f"{item.image.name} could not be {what} ({type(error).__name__}: "
                                      f"{' '.join(str(error).split())[:200]}); the log tells where.",
                   detail=traceback.format_exc())


def _row(item: Item, result) -> dict:
    """What the summary tells of an `EditResult`."""
    best, cost = result.candidates[0], result.cost
    numbers = {name: round(getattr(best, name), 5) for name in ("loss", "score", "probability")}
    if not all(map(math.isfinite, numbers.values())):
        raise ArithmeticError(f"the models gave {numbers}")
    return {"image": item.image.name, "source": result.source, "prompt": result.prompt, "seed": item.seed,
            "size": list(result.image.size), "box": list(result.box), **numbers, "edits": cost["different_edits"],
            "evaluations": cost["denoiser_evaluations"], "warnings": result.warnings}
