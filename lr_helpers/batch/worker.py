"""One of several processes that edit a batch: a rank that torchrun started, or an actor of a Ray pool."""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Callable
from pathlib import Path

from lr_helpers.batch import folder, key
from lr_helpers.batch.items import Item
from lr_helpers.batch.progress import LOG, Log
from lr_helpers.batch.work import DONE, FAILED, Outcome, edit_item
from lr_helpers.errors import UserError
from lr_helpers.models.profiles import Profile

TRIES = 3
"""So many workers in a row may die over one item."""


class Worker:
    """Called with an item, it edits it. It holds its models, and its part of the folder's lock until closed or dead."""

    def __init__(self, output: Path, profile: Profile, identity: dict[str, str], load: Callable[[], object]):
        """`identity`: the main process's `key.identity(profile)`; `load` gives the models.

        Raises UserError if they can't be loaded or are not those of the main process, OutputError if the folder can't
        be used.
        """
        self.output, self.identity, self.first = output, identity, True
        with contextlib.ExitStack() as opened:
            opened.enter_context(folder.joined(output))
            self.log = Log(output / LOG)
            opened.callback(self.log.close)
            self.models = load()
            own = key.identity(profile) or identity
            if own != identity:
                parts = ", ".join(sorted(part for part in {*own, *identity} if own.get(part) != identity.get(part)))
                raise UserError(f"The models on {platform.node()} are not those of the batch's main process ({parts}); "
                                "give both machines the same.")
            self.close = opened.pop_all().close

    def __call__(self, item: Item) -> Outcome:
        """What became of the item. Raises OutputError if the output can't be written."""
        # An engine gives an item again whose worker died, perhaps after the last byte of it.
        state = folder.check(item, self.identity)
        if state.done:
            return Outcome(item.name, DONE, row=state.record["row"])
        if self.first and self._begun(item) >= TRIES:
            return Outcome(item.name, FAILED, f"{item.image.name} was given up after {TRIES} workers died over it; it "
                                              "may need more memory than there is.")
        self.first = False
        self.log.write(f"begin {item.name}")
        return edit_item(self.models, item, self.identity)

    def _begun(self, item: Item) -> int:
        """How often this run has begun the item, by the log."""
        text = (self.output / LOG).read_text(encoding="utf-8", errors="replace")
        lines = text.rpartition("] start ")[2].splitlines()
        return sum(line.endswith(f"] begin {item.name}") for line in lines)
