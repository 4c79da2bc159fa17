"""What to ask of an editor that needs two phrases, "what is there" and "what you want", for two whole sentences."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import SequenceMatcher

from lr_helpers.baselines.wording import PLACES

ARTICLES = {"a", "an", "the", "some", "his", "her", "its", "their"}
LINKS = {*PLACES, "and", "or", "with", "without", "of", "to", "from", "into", "for", "is", "are", "while"}
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


class Sentence:
    """Its words, and the same words as they are compared: without punctuation, in small letters."""

    def __init__(self, text: str):
        self.words = text.split()
        self.keys = [word.strip(".,;:!?\"'").lower() for word in self.words]

    def find(self, word: str) -> set[int]:
        """Where the word stands first, as a set of one index; the empty set if it does not."""
        return {self.keys.index(word.lower())} if word and word.lower() in self.keys else set()

    def noun_phrase(self, inside: set[int], article: bool) -> str:
        """The noun phrase that holds these words: from the article or the stop before them to the stop behind them."""
        if not inside:
            return ""
        first, last, keys = min(inside), max(inside), self.keys
        # A phrase neither begins nor ends with a word that links two.
        while first <= last and keys[first] in LINKS:
            first += 1
        while last >= first and keys[last] in LINKS | ARTICLES:
            last -= 1
        if first > last:
            return ""
        # Then to the right up to the next stop, and to the left up to its article.
        while last + 1 < len(keys) and keys[last + 1] not in STOPS | ARTICLES:
            last += 1
        while first and keys[first] not in ARTICLES and keys[first - 1] not in STOPS:
            first -= 1
        return self.text(first, last + 1, article)

    def last_preposition(self) -> int | None:
        """Where the last preposition of place stands."""
        found = None
        for i, key in enumerate(self.keys):
            if key in PLACES:
                found = i
        return found

    def place(self, article: bool) -> str:
        """What follows the last preposition of place; all if there is none."""
        at = self.last_preposition()
        return self.text(0 if at is None else at + 1, len(self.words), article)

    def text(self, first: int, end: int, article: bool) -> str:
        """The words from `first` to before `end`, with or without the article that they begin with."""
        words = self.words[first:end]
        if not article and words and words[0].lower() in ARTICLES:
            words = words[1:]
        return " ".join(words).strip(" ,.;:")


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
    old, new = Sentence(before), Sentence(after)
    gone, fresh = changed(old, new)
    old_word, new_word = set(), set()
    if len(blended) >= 2:
        old_word, new_word = old.find(blended[0]), new.find(blended[1])
    # Three kinds of edits: words are replaced or deleted; a noun gets a further word; a whole phrase is added.
    added = bool(fresh) and not gone
    further = added and not any(new.keys[i] in STOPS | ARTICLES for i in fresh)

    if further and not old_word:
        old_word = {described(old, min(fresh))}
    source = old.noun_phrase(old_word or gone, article=False) or old.place(article=False)

    prompt = new.noun_phrase(fresh | new_word, article=True)
    if prompt and added and not further and not new_word:
        prompt = with_place(new, prompt, min(fresh))
    return Wording(source or before, prompt or new.place(article=True) or after)


def changed(old: Sentence, new: Sentence) -> tuple[set[int], set[int]]:
    """Which words of the old sentence are gone, and which of the new one are new."""
    gone, fresh = set(range(len(old.keys))), set(range(len(new.keys)))
    for same in SequenceMatcher(None, old.keys, new.keys, autojunk=False).get_matching_blocks():
        gone -= set(range(same.a, same.a + same.size))
        fresh -= set(range(same.b, same.b + same.size))
    return gone, fresh


def described(old: Sentence, at: int) -> int:
    """The word of the old sentence that a further word at this place describes: the one that stands there, or the one
    before where no phrase goes on.
    """
    goes_on = at < len(old.keys) and old.keys[at] not in STOPS
    return at if goes_on or at == 0 else at - 1


def with_place(new: Sentence, prompt: str, at: int) -> str:
    """The prompt, and the place that the sentence names behind what is new at `at`."""
    place = new.last_preposition()
    if place is None or place < at:
        return prompt
    return f"{prompt} {' '.join(new.words[place:])}"
