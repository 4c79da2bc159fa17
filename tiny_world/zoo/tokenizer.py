"""A CLIP tokenizer in which every word of the world is one token."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

from transformers import CLIPTokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode

from tiny_world.words import vocabulary

LENGTH = 32
"""Tokens of a prompt, start and end included."""


def _apply(pieces: list[str], merges: dict[tuple[str, str], int]) -> list[str]:
    """Byte pair encoding: join the pair of lowest rank until none is left."""
    while True:
        ranked = [(merges[p], i) for i, p in enumerate(pairwise(pieces)) if p in merges]
        if not ranked:
            return pieces
        i = min(ranked)[1]
        pieces = [*pieces[:i], pieces[i] + pieces[i + 1], *pieces[i + 2:]]


def build(words: Iterable[str] | None = None) -> CLIPTokenizer:
    """All single bytes, then the merges that make each of `words` (default: the vocabulary) one token, then start and
    end.

    A merge added later has a lower priority, so it can't break a word that is whole already. The end
    token has the highest id because open_clip finds it by argmax.
    """
    merges: dict[tuple[str, str], int] = {}
    for word in vocabulary() if words is None else words:
        pieces = _apply([*word[:-1], word[-1] + "</w>"], merges)
        while len(pieces) > 1:
            merges[pieces[0], pieces[1]] = len(merges)
            pieces = _apply(pieces, merges)
    symbols = list(bytes_to_unicode().values())
    tokens = [*symbols, *(s + "</w>" for s in symbols), *("".join(p) for p in merges),
              "<|startoftext|>", "<|endoftext|>"]
    ids = {token: i for i, token in enumerate(tokens)}
    assert len(ids) == len(tokens)
    return CLIPTokenizer(vocab=ids, merges=list(merges), unk_token="<|endoftext|>",
                         pad_token="<|endoftext|>", model_max_length=LENGTH)


def save(tokenizer: CLIPTokenizer, folder: Path) -> None:
    """Write the tokenizer's files into `folder`."""
    tokenizer.save_pretrained(folder)
