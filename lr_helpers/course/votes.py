"""The paper's user study, repeated by a class on itself: two edits side by side, no names, which one is better?

In the paper, 203 people saw 40 pairs each and had to prefer one edit. So is the default here; with `ties` they may also
say "can't tell", which is counted apart. `lr_helpers.course.vote_widget.VoteWidget` is its door in a notebook.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from random import Random

from PIL import Image

from lr_helpers.errors import OutputError, UserError
from lr_helpers.files import locks
from lr_helpers.files.paths import DATA
from lr_helpers.files.pictures import flatten

CHOICES = ("left", "right", "tie")
_START = b'{"voter": '


@dataclass(frozen=True, eq=False)
class Pair:
    """One picture and what two methods made of it for the same prompt. Raises UserError for another number of edits."""

    picture: Image.Image
    source: str
    """What is there now."""
    prompt: str
    """What was asked for."""
    edits: dict[str, Image.Image]
    """Two edits, by method."""

    def __post_init__(self) -> None:
        if len(self.edits) != 2:
            raise UserError(f"The pair for {self.prompt!r} has {len(self.edits)} edits; give those of two methods.")

    @cached_property
    def key(self) -> str:
        """Stands for pictures, texts and methods: 16 hex digits, the same wherever these are the same."""
        found = sha256(json.dumps([self.source, self.prompt, *sorted(self.edits)]).encode())
        for picture in (self.picture, *(self.edits[name] for name in sorted(self.edits))):
            found.update(_pixels(picture))
        return found.hexdigest()[:16]

    @cached_property
    def alike(self) -> bool:
        """Did both methods make the very same picture?"""
        first, second = map(_pixels, self.edits.values())
        return first == second


def _pixels(picture: Image.Image) -> bytes:
    return f"{picture.size}".encode() + flatten(picture).tobytes()


@dataclass(frozen=True)
class Vote:
    """One line of the file of votes."""

    voter: str
    pair: str
    """The pair's key."""
    left: str
    """The method whose edit was on the left; likewise `right`."""
    right: str
    choice: str
    """"left", "right" or "tie"."""
    time: str
    """ISO 8601, UTC."""


@dataclass(frozen=True)
class Ballot:
    """What a voter sees: nothing in it tells who made what."""

    picture: Image.Image
    source: str
    prompt: str
    left: Image.Image
    right: Image.Image


class Poll:
    """One voter's way through the pairs.

    Order and sides are shuffled by seed and voter, so a tired end and a favoured side harm no method. Each vote is in
    the file before the next pair is shown; whoever comes back, also under a kernel of their own, goes on where they
    stopped. Pairs whose two edits are the same picture are left out: there is nothing to prefer.
    """

    def __init__(self, pairs: Sequence[Pair], file: str | Path, voter: str, seed: int = 0, ties: bool = False):
        """`file`: JSON lines, one a vote, shared by all voters. Raises UserError for a voter without a name, pairs
        that are given twice, no pair with different edits, and a file that holds something else.
        """
        self.voter = " ".join(voter.split())
        if not 1 <= len(self.voter) <= 80 or not self.voter.isprintable():
            raise UserError(f"The voter's name is {voter[:90]!r}; give 1 to 80 letters.")
        self.file, self.seed, self.choices = Path(file), seed, CHOICES if ties else CHOICES[:2]
        by_key = {pair.key: pair for pair in pairs}
        if len(by_key) < len(pairs):
            raise UserError(f"Of {len(pairs)} pairs only {len(by_key)} differ; give each pair once.")
        self.alike = sum(pair.alike for pair in pairs)
        """How many pairs were left out because both edits are the same."""
        order = sorted(key for key, pair in by_key.items() if not pair.alike)
        if not order:
            raise UserError(f"None of {len(pairs)} pairs has two different edits; there is nothing to vote on.")
        Random(f"{seed} {self.voter}").shuffle(order)
        self.total = len(order)
        voted = {v.pair for v in _read(self.file) if v.voter == self.voter} if self.file.exists() else set()
        self._left = [by_key[key] for key in order if key not in voted]

    @property
    def done(self) -> int:
        """How many pairs this voter has voted on."""
        return self.total - len(self._left)

    @property
    def ballot(self) -> Ballot | None:
        """The pair to vote on now; None when all are done."""
        if not self._left:
            return None
        pair = self._left[0]
        left, right = (pair.edits[name] for name in self._sides(pair))
        return Ballot(pair.picture, pair.source, pair.prompt, left, right)

    def _sides(self, pair: Pair) -> list[str]:
        names = sorted(pair.edits)
        return names[::-1] if Random(f"{self.seed} {self.voter} {pair.key}").random() < 0.5 else names

    def vote(self, choice: str) -> None:
        """Store a vote on the pair of `ballot`, and go on to the next.

        Raises UserError for an unknown choice or when all is done, OutputError if the file can't be written: the pair
        then stays the one to vote on.
        """
        if choice not in self.choices:
            raise UserError(f"The vote {choice!r} is unknown; choose one of {', '.join(self.choices)}.")
        if not self._left:
            raise UserError(f"{self.voter} has voted on all {self.total} pairs; there is none left.")
        pair = self._left[0]
        left, right = self._sides(pair)
        _append(self.file, Vote(self.voter, pair.key, left, right, choice,
                                datetime.now(UTC).isoformat(timespec="seconds")))
        del self._left[0]


def _append(file: Path, vote: Vote) -> None:
    """Add a line, flushed to disk, unless this voter has a vote on the pair already (in another window)."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        # One voter at a time. The lock is a file beside the votes, as filelock wants it.
        with (locks.alone(file.with_name(f".{file.name}.lock")),
              os.fdopen(os.open(file, os.O_RDWR | os.O_CREAT, 0o666), "r+b") as stream):
            data = stream.read()
            if any((v.voter, v.pair) == (vote.voter, vote.pair) for v in _parse(data, file)):
                return
            stream.seek(data.rfind(b"\n") + 1)  # over the half line that a kill may have left
            stream.truncate()
            stream.write((json.dumps(asdict(vote), ensure_ascii=False) + "\n").encode())
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise OutputError(f"{file} can't be written ({error.strerror}), so this vote is not counted; free space or "
                          "choose another file, and vote again.") from error


def _read(file: Path) -> list[Vote]:
    try:
        return _parse(file.read_bytes(), file)
    except OSError as error:
        raise UserError(f"The votes in {str(file)!r} can't be read ({error.strerror}); check the path.") from error


def _parse(data: bytes, file: Path) -> list[Vote]:
    """All whole lines; a last one without its end is a vote that was never confirmed."""
    *lines, rest = data.split(b"\n")
    if not (_START.startswith(rest) or rest.startswith(_START)):
        lines.append(rest)  # not ours: complain of it below rather than write over it
    votes = []
    for number, line in enumerate(lines, 1):
        try:
            vote = Vote(**json.loads(line))
            if vote.choice not in CHOICES or not all(isinstance(getattr(vote, f.name), str) for f in fields(Vote)):
                raise ValueError
        except (TypeError, ValueError) as error:
            raise UserError(f"Line {number} of {file} is no vote; give a file that a poll has written, or a new "
                            "name.") from error
        votes.append(vote)
    return votes


def read_votes(*files: str | Path) -> list[Vote]:
    """The votes of one or more files, in their order; of a voter's votes on the same pair, the first.

    Raises UserError for a file that is missing or holds something else.
    """
    votes = {}
    for file in files:
        for vote in _read(Path(file)):
            votes.setdefault((vote.voter, vote.pair), vote)
    return list(votes.values())


def preferences(votes: Sequence[Vote], ours: str) -> dict[str, dict]:
    """How often `ours` was preferred, by the method it was beside.

    "value" is the share of the decided votes (0..1), "low" and "high" its Wilson 95 % interval, "count" the decided
    votes; then "ties", "pairs" and "voters". A method against which nothing was decided is left out. The interval
    takes votes as independent: where many voters saw few pairs, it is too narrow for other pairs. Raises UserError if
    no vote is about `ours`.
    """
    from lr_helpers.intervals import rate  # loads the models' libraries, which voting does not need

    found: dict[str, list[Vote]] = {}
    for vote in votes:
        if ours in (vote.left, vote.right):
            found.setdefault(vote.right if vote.left == ours else vote.left, []).append(vote)
    if not found:
        known = sorted({m for v in votes for m in (v.left, v.right)})
        raise UserError(f"No vote is about {ours!r}; there are votes about {', '.join(known) or 'nothing'}.")
    table = {}
    for theirs, about in sorted(found.items()):
        decided = [v for v in about if v.choice != "tie"]
        if decided:
            won = sum(getattr(v, v.choice) == ours for v in decided)
            table[theirs] = {**rate(won, len(decided)), "ties": len(about) - len(decided),
                             "pairs": len({v.pair for v in about}), "voters": len({v.voter for v in about})}
    return table


def paper_preferences() -> dict[str, dict]:
    """What the paper's users preferred its method to: "value", "low", "high" (0..1, ± as the paper prints it), and
    "kind": "editor" or "ablation".
    """
    rows = tomllib.loads((DATA / "user_study.toml").read_text(encoding="utf-8"))["over"]
    signs = {"value": 0, "low": -1, "high": 1}
    return {row["name"]: {**{k: round((row["percent"] + sign * row["margin"]) / 100, 4) for k, sign in signs.items()},
                          "kind": row["kind"]} for row in rows}
