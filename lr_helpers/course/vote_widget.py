"""The door of `votes` in a notebook: two edits side by side, and a button for each."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from html import escape
from io import BytesIO
from pathlib import Path

import ipywidgets
from PIL import Image

from lr_helpers.course.votes import REPEATS, Pair, Poll
from lr_helpers.errors import UserError
from lr_helpers.files.pictures import flatten

BUTTONS = {"left": "left is better", "right": "right is better", "tie": "can't tell"}


class VoteWidget(ipywidgets.VBox):
    """A form to vote in: type a name, see picture, sentence and two edits, click the better one.

    Each vote is stored at the click, in a file of the voter's own; any number of voters may use one folder at once.
    When all pairs are done the next person may type a name; who has voted before goes on where they stopped. What is
    wrong is said below the pictures, and the pair stays. Put it in the last line of a cell.
    """

    def __init__(self, pairs: Sequence[Pair], folder: str | Path, seed: int = 0, ties: bool = True,
                 repeats: int = REPEATS, side: int = 256, pause: float = 0.5):
        """`side`: pixels of the shown pictures' longer side. `pause`: seconds for which clicks on a new pair are
        ignored, so that a double click is one vote. The rest as `lr_helpers.course.votes.Poll` takes it.
        """
        super().__init__()
        self.poll: Poll | None = None
        self._poll_of = lambda voter: Poll(pairs, folder, voter, seed=seed, ties=ties, repeats=repeats)
        self.side, self.pause, self._shown_at = side, pause, 0.0
        self.name = ipywidgets.Text(placeholder="your name")
        self.start = ipywidgets.Button(description="Start", button_style="primary")
        self.question, self.status = ipywidgets.HTML(), ipywidgets.HTML()
        self.pictures = {part: ipywidgets.Image(format="png") for part in ("input", "left", "right")}
        self.buttons = {choice: ipywidgets.Button(description=text) for choice, text in BUTTONS.items()
                        if ties or choice != "tie"}
        self.start.on_click(lambda _: self._try(self._start))
        for choice, button in self.buttons.items():
            button.on_click(lambda _, choice=choice: self._try(lambda: self._vote(choice)))
        # Beside each other where there is room, below each other on a phone.
        columns = [ipywidgets.VBox([ipywidgets.Label(part), picture, *filter(None, [self.buttons.get(part)])],
                                   layout=ipywidgets.Layout(max_width="100%", margin="0 12px 0 0"))
                   for part, picture in self.pictures.items()]
        self.paper = ipywidgets.VBox([
            self.question, ipywidgets.Box(columns, layout=ipywidgets.Layout(flex_flow="row wrap")),
            *filter(None, [self.buttons.get("tie")])])
        self.children = [ipywidgets.HBox([self.name, self.start]), self.paper, self.status]
        self._show()

    def _try(self, act: Callable[[], None]) -> None:
        try:
            act()
        except UserError as error:
            self.status.value = escape(str(error))

    def _start(self) -> None:
        self.poll = None
        self._show()
        self.poll = self._poll_of(self.name.value)
        self._show()

    def _vote(self, choice: str) -> None:
        if time.monotonic() - self._shown_at >= self.pause:
            self.poll.vote(choice)
            self._show()

    def _show(self) -> None:
        ballot = self.poll.ballot if self.poll else None
        self.paper.layout.display = "" if ballot else "none"
        if ballot:
            self.question.value = (f"There is: {escape(ballot.source)}. Wanted: <b>{escape(ballot.prompt)}</b>, and "
                                   "all else as it was. Which edit is better?")
            for part, picture in (("input", ballot.picture), ("left", ballot.left), ("right", ballot.right)):
                self.pictures[part].value = _png(picture, self.side)
            told = f"{self.poll.done} of {self.poll.total} done"
        elif self.poll:
            told = f"Thank you, {self.poll.voter}: all {self.poll.total} pairs are done. The next may type a name."
        else:
            told = "Type your name, then click Start. Nothing here tells which method made which picture."
        self.status.value = escape(told)
        self._shown_at = time.monotonic()


def _png(picture: Image.Image, side: int) -> bytes:
    """A picture as PNG whose longer side has `side` pixels, or nearly: small ones are enlarged in whole pixels."""
    picture, longest = flatten(picture), max(picture.size)
    scale = side // longest if longest <= side else side / longest
    how = Image.Resampling.NEAREST if longest <= side else Image.Resampling.LANCZOS
    buffer = BytesIO()
    picture.resize(tuple(max(1, round(n * scale)) for n in picture.size), how).save(buffer, "PNG")
    return buffer.getvalue()
