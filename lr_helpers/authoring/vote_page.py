"""The blind vote on paper, so to speak: one HTML page for a class without Python, and the count of what comes back."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from lr_helpers import plots
from lr_helpers.course.votes import (
    FORM,
    REPEATS,
    Pair,
    agreement,
    different,
    paper_preferences,
    preferences,
    read_pairs,
    read_votes,
    reveal,
)
from lr_helpers.files.outputs import Output
from lr_helpers.files.pictures import flatten
from lr_helpers.files.writing import csv_bytes, png_bytes

PAGE = "vote.html"


def page(pairs: Sequence[Pair], seed: int = 0, repeats: int = REPEATS) -> str:
    """The whole page as HTML. It holds the pictures and their marks; no name of a method is in it.

    Raises UserError where none of the pairs can be voted on.
    """
    shown = []
    for pair in sorted(different(pairs), key=lambda pair: pair.key):
        marks = sorted((mark, pair.edits[name]) for name, mark in pair.marks.items())
        shown.append({"pair": pair.key, "source": pair.source, "prompt": pair.prompt, "picture": _address(pair.picture),
                      "edits": [{"mark": mark, "picture": _address(edit)} for mark, edit in marks]})
    poll = sha256(json.dumps([seed, repeats, *(one["pair"] for one in shown)]).encode()).hexdigest()[:12]
    data = {"form": FORM, "poll": poll, "seed": seed, "repeats": repeats, "pairs": shown}
    templates = Environment(loader=PackageLoader("lr_helpers.authoring"), autoescape=True, undefined=StrictUndefined,
                            trim_blocks=True, lstrip_blocks=True)
    return templates.get_template(PAGE).render(data=data, count=len(shown))


def _address(picture) -> str:
    # Without the file's own remarks: pixels alone.
    return "data:image/png;base64," + base64.b64encode(png_bytes(flatten(picture))).decode()


def write(pairs: Sequence[Pair], folder: Path, seed: int = 0, repeats: int = REPEATS) -> Path:
    """The page as a file in `folder`. Raises ForeignError where somebody else's lies."""
    Output(folder, "vote").write(PAGE, page(pairs, seed, repeats).encode())
    return folder / PAGE


def count(places: Sequence[Path], pairs_folder: Path, folder: Path, ours: str | None = None,
          say: Callable[[str], None] = print) -> int:
    """Merge the votes, say the shares, and write them as table.csv, votes.csv and preferences.png. Returns the exit
    code. Raises UserError for votes on other pairs.
    """
    pairs = read_pairs(pairs_folder)
    ours = ours or json.loads((pairs_folder / "summary.json").read_text(encoding="utf-8"))["ours"]
    votes, made = read_votes(*places), reveal(pairs)
    table = preferences(votes, made, ours)
    say(f"{len(votes)} votes of {len({v.voter for v in votes})} voters on {len({v.pair for v in votes})} pairs")
    for name, row in table.items():
        say(f"{ours} preferred to {name:28} {row['value']:4.0%} [{row['low']:.0%}, {row['high']:.0%}], "
            f"n = {row['count']}, can't tell {row['ties']}, {row['pairs']} pairs, {row['voters']} voters")
    words = {"again": "the same said of a pair that came back", "left": "the left one preferred"}
    for name, row in agreement(votes).items():
        say(f"{words[name]}: {row['value']:.0%} [{row['low']:.0%}, {row['high']:.0%}], n = {row['count']}")
    rows = [{"method": ours, "beside": name, **row} for name, row in table.items()]
    rows += [{"method": words[name], **row} for name, row in agreement(votes).items()]
    named = [{**asdict(v), "left": made[v.pair][v.left], "right": made[v.pair][v.right],
              "preferred": made[v.pair].get(v.preferred, "tie")} for v in votes]
    figure = plots.show_preferences(table, paper_preferences(), ours)
    with Output(folder, "vote").change() as change:
        change.write("votes.csv", csv_bytes(("voter", "pair", "round", "left", "right", "choice", "preferred", "time"),
                                            named))
        change.write("preferences.png", plots.as_png(figure))
        change.write("table.csv", csv_bytes(("method", "beside", "value", "low", "high", "count", "ties", "pairs",
                                             "voters"), rows), record=True)
    plots.close(figure)
    say(f"Tables and figure: {folder}")
    return 0
