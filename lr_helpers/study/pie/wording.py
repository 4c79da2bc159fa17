"""What to ask of an editor that needs two phrases, "what is there" and "what you want", for two whole sentences."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import SequenceMatcher

ARTICLES = {"a", "an", "the", "some", "his", "her", "its", "their"}
PLACES = {"in", "on", "at", "by", "near", "under", "over", "behind", "beside", "against", "along", "across", "inside"}
LINKS = PLACES | {"and", "or", "with", "without", "of", "to", "from", "into", "for", "is", "are", "while"}
STOPS = LINKS | {"sitting", "standing", "lying", "walking", "running", "wearing", "holding", "looking", "flying",
                 "riding"}
"""Words at which a noun phrase ends; it never begins or ends with one of LINKS. A list for English sentences as
PIE-Bench has them, no grammar.
"""


@dataclass(frozen=True)
class Wording:
    """An edit in two phrases."""

    source: str
    """What is there now, without article: the paper's T_ROI."""
    prompt: str
    """What is to be there instead."""


def wording(before: str, after: str, blended: tuple[str, ...] = ()) -> Wording:
    """The phrases of an edit that turns a picture of `before` into one of `after` (no brackets in either).

    `blended`: the benchmark's blended_word, one word of each sentence, if it has them.

    - The source is the noun phrase around the blended word of `before`, else around the words that are gone from it.
      Where none is gone, it is the noun phrase that has got a further word ("a [rusty] bicycle"); where a whole phrase
      is added, it is the place: what follows the last preposition of place, or all.
    - The prompt is the noun phrase around the words that are new in `after` and its blended word. If a whole phrase is
      added without a blended word, the place is said too ("a dog on the grass"). Where no word is new (something is
      deleted), it is the place.
    """
    old, new = before.split(), after.split()
    matches = SequenceMatcher(None, _keys(old), _keys(new), autojunk=False).get_matching_blocks()
    gone = set(range(len(old))) - {m.a + i for m in matches for i in range(m.size)}
    fresh = set(range(len(new))) - {m.b + i for m in matches for i in range(m.size)}
    old_word, new_word = (_find(words, word) for words, word in zip((old, new), _pair(blended), strict=True))
    inserted = fresh and not gone
    further = bool(inserted) and not any(_keys(new)[i] in STOPS | ARTICLES for i in fresh)
    if further and not old_word:
        at = min(fresh)  # what stands there in the old sentence, or before it if no phrase goes on
        old_word = {at if at < len(old) and _keys(old)[at] not in STOPS else at - 1} if at else {0}
    source = _phrase(old, old_word or gone, article=False) or _place(old, article=False)
    prompt = _phrase(new, fresh | new_word, article=True)
    if prompt and inserted and not further and not new_word:
        at = _last_place(new)
        prompt = prompt if at is None or at < min(fresh) else f"{prompt} {' '.join(new[at:])}"
    return Wording(source or before, prompt or _place(new, article=True) or after)


def _keys(words: list[str]) -> list[str]:
    return [word.strip(".,;:!?\"'").lower() for word in words]


def _pair(blended: tuple[str, ...]) -> tuple[str, str]:
    return (blended[0], blended[1]) if len(blended) >= 2 else ("", "")


def _find(words: list[str], word: str) -> set[int]:
    keys = _keys(words)
    return {keys.index(word.lower())} if word and word.lower() in keys else set()


def _phrase(words: list[str], inside: set[int], article: bool) -> str:
    """The noun phrase that holds these words: from the article or the stop before them to the stop behind them."""
    if not inside:
        return ""
    keys, first, last = _keys(words), min(inside), max(inside)
    while first <= last and keys[first] in LINKS:
        first += 1
    while last >= first and keys[last] in LINKS | ARTICLES:
        last -= 1
    if first > last:
        return ""
    while last + 1 < len(keys) and keys[last + 1] not in STOPS | ARTICLES:
        last += 1
    while first and keys[first] not in ARTICLES and keys[first - 1] not in STOPS:
        first -= 1
    return _text(words[first:last + 1], article)


def _last_place(words: list[str]) -> int | None:
    return max((i for i, key in enumerate(_keys(words)) if key in PLACES), default=None)


def _place(words: list[str], article: bool) -> str:
    at = _last_place(words)
    return _text(words if at is None else words[at + 1:], article)


def _text(words: list[str], article: bool) -> str:
    if not article and words and words[0].lower() in ARTICLES:
        words = words[1:]
    return " ".join(words).strip(" ,.;:")
