"""The paper's user study, repeated by a class on itself: two edits side by side, no names, which one is better?

In the paper, 203 people saw 40 pairs each and had to prefer one edit. Here voters may also say "can't tell", and a few
pairs come back at the end with their sides exchanged: how often does a voter agree with himself?

Whoever votes gets pictures and their marks, which tell nothing; who made what is known to the pairs alone, and joined
to the votes when they are counted. There are two doors: `lr_helpers.course.vote_widget.VoteWidget` in a notebook, and
the page that `python -m lr_helpers vote export` writes. Both draw order and sides by the same rule, and both keep each
voter's votes in a file of their own, of the same form.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from functools import cached_property
from hashlib import sha256
from pathlib import Path

import numpy as np
from PIL import Image

from lr_helpers.errors import OutputError, UserError
from lr_helpers.files import locks
from lr_helpers.files.paths import DATA
from lr_helpers.files.pictures import flatten, read_image
from lr_helpers.files.writing import write_json
from lr_helpers.intervals import share_with_interval

CHOICES = ("left", "right", "tie")
REPEATS = 4
"""So many pairs come back at the end."""
FORM = "votes on pairs of edits, 1"
"""The first entry of a file of votes."""


# The pairs


@dataclass(frozen=True, eq=False)
class Pair:
    """One picture and what two methods made of it for the same prompt. Raises UserError for another number of edits,
    and for edits of another size: it would betray who made them.
    """

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
        if any(edit.size != self.picture.size for edit in self.edits.values()):
            raise UserError(f"The edits for {self.prompt!r} are of other sizes than their picture; make them alike.")

    @cached_property
    def key(self) -> str:
        """Stands for pictures, texts and methods: 16 hex digits, the same wherever these are the same."""
        found = sha256(json.dumps([self.source, self.prompt, *sorted(self.edits)]).encode())
        for picture in (self.picture, *(self.edits[name] for name in sorted(self.edits))):
            found.update(_pixels(picture))
        return found.hexdigest()[:16]

    @cached_property
    def marks(self) -> dict[str, str]:
        """What each edit is called before voters, by method: 8 hex digits that tell nothing."""
        return {name: sha256(self.key.encode() + _pixels(edit)).hexdigest()[:8] for name, edit in self.edits.items()}

    @cached_property
    def alike(self) -> bool:
        """Did both methods make the very same picture?"""
        first, second = map(_pixels, self.edits.values())
        return first == second


def _pixels(picture: Image.Image) -> bytes:
    return f"{picture.size}".encode() + flatten(picture).tobytes()


def read_pairs(folder: str | Path) -> list[Pair]:
    """The pairs that `python -m lr_helpers vote make` wrote into a folder. Raises UserError if there are none."""
    folder = Path(folder)
    try:
        found = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        if found["study"] != "vote":
            raise ValueError
        pairs = []
        for one in found["pairs"]:
            picture, a, b = (read_image(folder / "pictures" / f"{one['seed']}_{part}.png") for part in
                             ("input", "a", "b"))
            pairs.append(Pair(picture, one["source"], one["prompt"], {one["a"]: a, one["b"]: b}))
        return pairs
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{str(folder)!r} holds no finished pairs; make them by: python -m lr_helpers vote make "
                        f"--output {folder}") from error


def different(pairs: Sequence[Pair]) -> list[Pair]:
    """Those that can be voted on: two different edits. Raises UserError for a pair given twice, and if none is left."""
    if len({pair.key for pair in pairs}) < len(pairs):
        raise UserError(f"Of {len(pairs)} pairs only {len({pair.key for pair in pairs})} differ; give each pair once.")
    found = [pair for pair in pairs if not pair.alike]
    if not found:
        raise UserError(f"None of {len(pairs)} pairs has two different edits; there is nothing to vote on.")
    return found


def reveal(pairs: Sequence[Pair]) -> dict[str, dict[str, str]]:
    """Who made what: by a pair's key, the method of each mark."""
    return {pair.key: {mark: name for name, mark in pair.marks.items()} for pair in pairs}


# Order and sides


def draw(*words: object) -> int:
    """32 bits that hang on these words alone (FNV-1a, and the last steps of MurmurHash 3); the page has the same."""
    found = 2166136261
    for byte in "\n".join(map(str, words)).encode():
        found = (found ^ byte) * 16777619 & 0xFFFFFFFF
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, 1)):
        found = (found ^ found >> shift) * factor & 0xFFFFFFFF
    return found


@dataclass(frozen=True)
class Turn:
    """A pair as one voter meets it."""

    pair: str
    """Its key."""
    flipped: bool
    """Is the edit whose mark comes first in the alphabet on the right?"""
    round: int = 1
    """2 if the pair comes back."""


def turns(keys: Sequence[str], seed: int, voter: str, repeats: int = 0) -> list[Turn]:
    """A voter's way through the pairs of these keys: order and sides are drawn for every voter anew, so that a tired
    end and a favoured side harm no method. Of the first half, `repeats` come back at the end, their sides exchanged.
    """
    order = sorted(keys, key=lambda key: (draw(seed, voter, key, "order"), key))
    first = [Turn(key, draw(seed, voter, key, "side") % 2 == 1) for key in order]
    return first + [Turn(turn.pair, not turn.flipped, 2) for turn in first[:min(repeats, len(first) // 2)]]


# Voting


@dataclass(frozen=True)
class Vote:
    """One entry of a voter's file."""

    voter: str
    pair: str
    """The pair's key."""
    left: str
    """The mark of the edit on the left; likewise `right`."""
    right: str
    choice: str
    """"left", "right" or "tie"."""
    time: str
    """ISO 8601, UTC."""
    round: int = 1
    """2 if the pair came back."""

    @property
    def preferred(self) -> str:
        """The mark of the better edit; "tie" if there is none."""
        return self.choice if self.choice == "tie" else getattr(self, self.choice)


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

    Each vote is in the voter's file before the next pair is shown; whoever comes back, also under a kernel of their
    own, goes on where they stopped. Pairs whose two edits are the same picture are left out: there is nothing to
    prefer.
    """

    def __init__(self, pairs: Sequence[Pair], folder: str | Path, voter: str, seed: int = 0, ties: bool = True,
                 repeats: int = REPEATS):
        """`folder`: for the files of all voters, one each. Raises UserError for a voter without a name, pairs that are
        given twice, no pair with different edits, and a voter's file that holds something else.
        """
        self.voter = " ".join(voter.split())
        if not 1 <= len(self.voter) <= 80 or not self.voter.isprintable():
            raise UserError(f"The voter's name is {voter[:90]!r}; give 1 to 80 letters.")
        self._pairs = {pair.key: pair for pair in different(pairs)}
        self.alike = len(pairs) - len(self._pairs)
        """How many pairs were left out because both edits are the same."""
        self.folder, self.choices = Path(folder), CHOICES if ties else CHOICES[:2]
        way = turns(sorted(self._pairs), seed, self.voter, repeats)
        self.total = len(way)
        voted = {(v.pair, v.round) for v in (_read(self.file) if self.file.exists() else [])}
        self._left = [turn for turn in way if (turn.pair, turn.round) not in voted]

    @property
    def file(self) -> Path:
        """Where this voter's votes are."""
        # Names that a file system takes for one another have files of their own.
        short = re.sub(r"[^A-Za-z0-9]+", "_", self.voter)[:40].strip("_")
        return self.folder / f"votes_{short}_{sha256(self.voter.encode()).hexdigest()[:8]}.json"

    @property
    def done(self) -> int:
        """How many votes this voter has given."""
        return self.total - len(self._left)

    @property
    def ballot(self) -> Ballot | None:
        """The pair to vote on now; None when all are done."""
        if not self._left:
            return None
        pair = self._pairs[self._left[0].pair]
        left, right = (pair.edits[name] for name in self._sides(self._left[0]))
        return Ballot(pair.picture, pair.source, pair.prompt, left, right)

    def _sides(self, turn: Turn) -> list[str]:
        marks = self._pairs[turn.pair].marks
        return sorted(marks, key=marks.get, reverse=turn.flipped)

    def vote(self, choice: str) -> None:
        """Store a vote on the pair of `ballot`, and go on to the next.

        Raises UserError for an unknown choice or when all is done, OutputError if the file can't be written: the pair
        then stays the one to vote on.
        """
        if choice not in self.choices:
            raise UserError(f"The vote {choice!r} is unknown; choose one of {', '.join(self.choices)}.")
        if not self._left:
            raise UserError(f"{self.voter} has voted on all {self.total} pairs; there is none left.")
        turn = self._left[0]
        left, right = (self._pairs[turn.pair].marks[name] for name in self._sides(turn))
        _add(self.file, Vote(self.voter, turn.pair, left, right, choice,
                             datetime.now(UTC).isoformat(timespec="seconds"), turn.round))
        del self._left[0]


def _add(file: Path, vote: Vote) -> None:
    """The file with one more vote, whole on the disk, unless this voter has voted on it already (in another window)."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        # One window at a time. The lock is a file beside the votes, as filelock wants it.
        with locks.alone(file.with_name(f".{file.name}.lock")):
            votes = _read(file) if file.exists() else []
            if any((v.pair, v.round) == (vote.pair, vote.round) for v in votes):
                return
            write_json(file, _as_record([*votes, vote]))
    except OSError as error:
        raise OutputError(f"{file} can't be written ({error.strerror}), so this vote is not counted; free space or "
                          "choose another folder, and vote again.") from error
    except OutputError as error:
        raise OutputError(f"This vote is not counted: {error}") from error


def _as_record(votes: Sequence[Vote]) -> dict:
    return {"form": FORM, "voter": votes[0].voter,
            "votes": [{k: v for k, v in asdict(vote).items() if k != "voter"} for vote in votes]}


# Counting


def read_votes(*places: str | Path) -> list[Vote]:
    """The votes of files and of folders full of them, in their order; of a voter's votes on the same pair and round,
    the first.

    Raises UserError for what is missing or holds something else, and for a folder without votes.
    """
    votes = {}
    for place in map(Path, places):
        files = [place]
        if place.is_dir():
            files = sorted(file for file in place.glob("*.json") if not file.name.startswith("."))
            if not files:
                raise UserError(f"The folder {str(place)!r} holds no votes; give one with files that end with .json.")
        for file in files:
            for vote in _read(file):
                votes.setdefault((vote.voter, vote.pair, vote.round), vote)
    return list(votes.values())


def _read(file: Path) -> list[Vote]:
    try:
        found = json.loads(file.read_bytes())
    except OSError as error:
        raise UserError(f"The votes in {str(file)!r} can't be read ({error.strerror}); check the path.") from error
    except ValueError as error:
        raise _strange(file) from error
    try:
        if found["form"] != FORM:
            raise ValueError
        votes = [Vote(voter=found["voter"], **one) for one in found["votes"]]
        for vote in votes:
            texts = [getattr(vote, field.name) for field in fields(Vote) if field.name != "round"]
            if vote.choice not in CHOICES or vote.round not in (1, 2) or not all(isinstance(t, str) for t in texts):
                raise ValueError
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise _strange(file) from error
    return votes


def _strange(file: Path) -> UserError:
    return UserError(f"{str(file)!r} is no file of votes; give one that a poll or its page has written.")


def preferences(votes: Sequence[Vote], pairs: Sequence[Pair] | Mapping[str, Mapping[str, str]],
                ours: str) -> dict[str, dict]:
    """How often `ours` was preferred, by the method it was beside. Votes on pairs that came back don't count here.

    `pairs`: those that were voted on, or what `reveal` says of them. "value" is the share of the decided votes (0..1),
    "low" and "high" its 95 % interval over other voters and other pairs (`share_with_interval`), "count" the decided
    votes; then "ties", "pairs" and "voters". A method against which nothing was decided is left out. Raises UserError
    if a vote is about other pairs, or none is about `ours`.
    """
    made = pairs if isinstance(pairs, Mapping) else reveal(pairs)
    counted = [vote for vote in votes if vote.round == 1]
    strange = sum(not {v.left, v.right} <= set(made.get(v.pair, ())) for v in votes)
    if strange:
        raise UserError(f"{strange} of {len(votes)} votes are about other pairs; give the pairs on which they were "
                        "made.")
    found: dict[str, list[Vote]] = {}
    for vote in counted:
        by = made[vote.pair]
        if ours in (by[vote.left], by[vote.right]):
            theirs = by[vote.right] if by[vote.left] == ours else by[vote.left]
            found.setdefault(theirs, []).append(vote)
    if not found:
        known = sorted({name for vote in counted for name in made[vote.pair].values()})
        raise UserError(f"No vote is about {ours!r}; there are votes about {', '.join(known) or 'nothing'}.")
    table = {}
    for theirs, about in sorted(found.items()):
        decided = [v for v in about if v.choice != "tie"]
        if decided:
            won = [made[v.pair][v.preferred] == ours for v in decided]
            table[theirs] = {**_share(decided, won), "ties": len(about) - len(decided),
                             "pairs": len({v.pair for v in about}), "voters": len({v.voter for v in about})}
    return table


def _share(votes: Sequence[Vote], right: Sequence[bool]) -> dict[str, float]:
    """On how many of the votes it is so, with the interval over other voters and other pairs."""
    voters, pairs = sorted({v.voter for v in votes}), sorted({v.pair for v in votes})
    so, given = np.zeros((2, len(voters), len(pairs)))
    for vote, is_so in zip(votes, right, strict=True):
        place = voters.index(vote.voter), pairs.index(vote.pair)
        given[place] += 1
        so[place] += is_so
    return share_with_interval(so, given)


def agreement(votes: Sequence[Vote]) -> dict[str, dict]:
    """How far votes can be trusted: "again", the share of pairs that came back on which a voter said the same, sides
    exchanged; and "left", the share of decided votes for the left edit, which is a half if sides don't matter (those of
    the first round alone: of a pair that comes back exchanged, a firm voter says left once and right once). Each with
    "low" and "high", its 95 % interval over other voters and other pairs, and "count"; left out where there is none.
    Who votes by lot agrees with himself in half of the cases, or in a third if all three answers are as likely.
    """
    first = {(v.voter, v.pair): v.preferred for v in votes if v.round == 1}
    again = [v for v in votes if v.round == 2 and (v.voter, v.pair) in first]
    decided = [v for v in votes if v.round == 1 and v.choice != "tie"]
    found = {"again": (again, [first[v.voter, v.pair] == v.preferred for v in again]),
             "left": (decided, [v.choice == "left" for v in decided])}
    return {name: _share(about, right) for name, (about, right) in found.items() if about}


def paper_preferences() -> dict[str, dict]:
    """What the paper's users preferred its method to: "value", "low", "high" (0..1, ± as the paper prints it), and
    "kind": "editor" or "ablation".
    """
    rows = tomllib.loads((DATA / "user_study.toml").read_text(encoding="utf-8"))["over"]
    signs = {"value": 0, "low": -1, "high": 1}
    return {row["name"]: {**{k: round((row["percent"] + sign * row["margin"]) / 100, 4) for k, sign in signs.items()},
                          "kind": row["kind"]} for row in rows}
