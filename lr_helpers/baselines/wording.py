"""Source and prompt in the words that other editors want."""

from __future__ import annotations

import re

DETERMINERS = r"(?:(?:an?|the|some|this|that|these|those|his|her|its|my|our|your|their)\s+)?"
PLACES = ("in", "on", "at", "by", "near", "under", "over", "above", "below", "behind", "beside", "against", "along",
          "across", "inside")
"""Words that say where."""
PLACING = rf"(?:{'|'.join(PLACES)}|on top of|next to|in front of|in the back of)"
"""Words by which a prompt places something at what its source names."""

REPLACE = "turn the {source} into {prompt}"
ADD = "add {prompt}"


def adds(source: str, prompt: str) -> bool:
    """Does the prompt put something beside what is there, rather than in its place? True where it ends by naming the
    source as a place: `("grass", "a cat on the grass")`, `("the table", "a cabinet on top of the table")`.
    """
    # "the table" is found in "on top of a table" too: articles don't count.
    thing = re.escape(re.sub(rf"^{DETERMINERS}", "", source.strip().lower()))
    return re.search(rf"\b{PLACING}\s+{DETERMINERS}{thing}\W*$", prompt.lower()) is not None


def instruction(source: str, prompt: str, replace: str = REPLACE, add: str = ADD) -> str:
    """The instruction for an editor that wants one: `("wolf", "a mushroom")` → "turn the wolf into a mushroom",
    `("grass", "a cat on the grass")` → "add a cat on the grass".

    `replace` and `add` are the wordings; "{source}" in them has lost its article, "{prompt}" stands as it is.
    """
    # "turn the the wolf" would be nonsense.
    bare = re.sub(rf"^{DETERMINERS}", "", source.strip(), flags=re.IGNORECASE)
    wording = add if adds(source, prompt) else replace
    return wording.format(source=bare or source, prompt=prompt.strip().rstrip("."))
