"""Caption and prompt in the words that other editors want."""

from __future__ import annotations

import re

DETERMINERS = r"(?:(?:an?|the|some|this|that|these|those|his|her|its|my|our|your|their)\s+)?"
PLACING = (r"(?:on|in|at|by|under|over|above|below|behind|beside|inside|near|on top of|next to|in front of|"
           r"in the back of)")
"""Words by which a prompt places something at what its caption names."""

REPLACE = "turn the {caption} into {prompt}"
ADD = "add {prompt}"


def adds(caption: str, prompt: str) -> bool:
    """Does the prompt put something beside what is there, rather than in its place? True where it ends by naming the
    caption as a place: `("grass", "a cat on the grass")`, `("the table", "a cabinet on top of the table")`.
    """
    thing = re.escape(re.sub(rf"^{DETERMINERS}", "", caption.strip().lower()))
    return re.search(rf"\b{PLACING}\s+{DETERMINERS}{thing}\W*$", prompt.lower()) is not None


def instruction(caption: str, prompt: str, replace: str = REPLACE, add: str = ADD) -> str:
    """The instruction for an editor that wants one: `("wolf", "a mushroom")` → "turn the wolf into a mushroom",
    `("grass", "a cat on the grass")` → "add a cat on the grass".

    `replace` and `add` are the wordings; "{caption}" in them has lost its article, "{prompt}" stands as it is.
    """
    bare = re.sub(rf"^{DETERMINERS}", "", caption.strip(), flags=re.IGNORECASE)
    wording = add if adds(caption, prompt) else replace
    return wording.format(caption=bare or caption, prompt=prompt.strip().rstrip("."))
