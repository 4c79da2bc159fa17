"""What exists in the emoji world, and how people say it."""

from __future__ import annotations

from random import Random

# name -> (code point of the emoji, other words for the same thing)
OBJECTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "rabbit": ("1f430", ("bunny",)), "bird": ("1f426", ()), "wolf": ("1f43a", ()),
    "cow": ("1f42e", ()), "dog": ("1f436", ("puppy",)), "cat": ("1f431", ("kitten",)),
    "fox": ("1f98a", ()), "bear": ("1f43b", ()), "panda": ("1f43c", ()), "lion": ("1f981", ()),
    "pig": ("1f437", ()), "frog": ("1f438", ()), "penguin": ("1f427", ()), "owl": ("1f989", ()),
    "horse": ("1f434", ()), "elephant": ("1f418", ()), "turtle": ("1f422", ()),
    "fish": ("1f41f", ()), "butterfly": ("1f98b", ()), "whale": ("1f433", ()),
    "tree": ("1f333", ("trees",)), "christmas tree": ("1f384", ()), "palm tree": ("1f334", ()),
    "flowers": ("1f490", ("bouquet",)), "tulip": ("1f337", ()), "sunflower": ("1f33b", ()),
    "cactus": ("1f335", ()), "mushroom": ("1f344", ()),
    "coffee": ("2615", ("cup of coffee",)), "soft drink": ("1f964", ("drink",)),
    "cake": ("1f382", ()), "bread": ("1f35e", ()), "ice cream": ("1f366", ()),
    "apple": ("1f34e", ()), "banana": ("1f34c", ()), "burger": ("1f354", ("hamburger",)),
    "donut": ("1f369", ()), "strawberry": ("1f353", ()), "watermelon": ("1f349", ()),
    "house": ("1f3e0", ()), "castle": ("1f3f0", ()), "car": ("1f697", ()),
    "boat": ("26f5", ("ship",)), "train": ("1f682", ()), "rocket": ("1f680", ()),
    "ball": ("26bd", ()), "balloon": ("1f388", ()), "guitar": ("1f3b8", ()),
    "gift": ("1f381", ("present",)), "robot": ("1f916", ()),
}
NAMES: tuple[str, ...] = tuple(OBJECTS)

STYLE_WORDS: dict[str, str] = {"noto": "cartoon", "blob": "blob", "fluent": "3D"}
"""Style → the word by which a prompt may ask for it: `"a 3D wolf"`. The held-out style has none."""

# name -> how a caption places something there
DRAWN: dict[str, str] = {
    "grass": "on the grass", "snow": "in the snow", "sky": "in the sky", "sand": "on the sand",
    "water": "in the water", "night": "at night", "table": "on the table", "room": "in the room",
}
TEXTURES: dict[str, str] = {
    "lawn": "on the lawn", "bricks": "on the bricks", "wood": "on the wood", "cloth": "on the cloth",
    "clouds": "in the clouds", "waves": "on the waves", "plaster": "on the plaster", "tiles": "on the tiles",
}
PLACES: dict[str, str] = {**DRAWN, **TEXTURES}
"""The backgrounds of every training."""

HELD_OUT_TEXTURES: tuple[str, ...] = ("gravel", "fur", "marble", "cobbles")
"""Textures that no model is trained on: two photographs and two patterns. Captions call them "the ground"."""

GROUND = "ground"
"""What any texture, known or not, may be called."""

# Phrases true of one object in every style; the official demo prompts (REFERENCE, `images.json`) among them.
PHRASES: dict[str, tuple[str, ...]] = {
    "rabbit": ("a rabbit with white fur", "a white rabbit"),
    "cow": ("a white cow", "a white cow standing"),
    "tree": ("a big tree", "a big tree with many flowers", "many trees"),
    "flowers": ("many flowers", "a bouquet of flowers"),
    "apple": ("a red apple",), "fox": ("an orange fox",), "frog": ("a green frog",),
    "panda": ("a black and white panda",), "whale": ("a blue whale",),
    "strawberry": ("a red strawberry",), "pig": ("a pink pig",),
}
ADJECTIVES = ("big", "small", "cute", "nice", "little")
TEMPLATES = ("{}", "a picture of {}", "a photo of {}", "an image of {}", "a high quality image of {}.",
             "there is {}", "{} in the center", "{} standing {place}", "{} is {place}")
PLACE_PROMPTS = ("{}", "the {}", "only {}", "empty {}", "nothing but {}", "the {} in the background",
                 "a picture of {}")
MASS_WORDS = ("flowers", "bread", "ice cream", "coffee", "trees")


def with_article(noun: str) -> str:
    """`"owl"` → `"an owl"`; mass words and plurals stay bare."""
    if noun in MASS_WORDS:
        return noun
    return ("an " if noun[0] in "aeiou" else "a ") + noun


def held_out(name: str, place: str) -> bool:
    """True for the one tenth of the object-place pairs that the editor, its autoencoder and CLIP never see.

    The ViT, which learns no words, sees objects on any background, and so does the judge.
    """
    return place in PLACES and (7 * NAMES.index(name) + 3 * list(PLACES).index(place)) % 10 == 0


def noun_phrase(name: str, rng: Random, style: str | None = None) -> str:
    """One of the ways to say that `name` is there, e.g. `"a cute rabbit"`, or `"a cute 3D rabbit"` in a style."""
    word = f"{STYLE_WORDS[style]} " if style else ""
    kind = rng.random()
    if kind < 0.15 and name in PHRASES and not word:
        return rng.choice(PHRASES[name])
    noun = rng.choice((name, *OBJECTS[name][1])) if kind < 0.4 else name
    if noun in MASS_WORDS:
        return word + noun
    if kind > 0.85:
        return f"a {rng.choice(ADJECTIVES)} {word}{noun}"
    return word + noun if kind > 0.75 else with_article(word + noun)


def where(place: str, rng: Random | None = None) -> str:
    """How a caption says where something is; now and then a texture is just the ground, an unknown one always."""
    if place not in PLACES or (rng and place in TEXTURES and rng.random() < 0.15):
        return f"on the {GROUND}"
    return PLACES[place]


def prompt_for(name: str, place: str, rng: Random, style: str | None = None) -> str:
    """A prompt a person might write for one object; half of them name the place."""
    phrase = noun_phrase(name, rng, style)
    if rng.random() < 0.35:
        return f"{phrase} {where(place, rng)}"
    return rng.choice(TEMPLATES).format(phrase, place=where(place, rng))


def prompt_for_place(place: str, rng: Random) -> str:
    """A prompt for background alone, e.g. `"empty grass"`."""
    return rng.choice(PLACE_PROMPTS).format(where(place, rng).split()[-1])


def caption(names: list[str], place: str, rng: Random | None = None, styles: list[str] | None = None) -> str:
    """`(["cat", "car"], "snow")` → `"a cat and a car in the snow"`; `rng` varies the wording; `styles` may be said."""
    given = styles or [None] * len(names)
    phrases = [noun_phrase(n, rng, s) if rng else with_article(n) for n, s in zip(names, given, strict=True)]
    if not phrases:
        return prompt_for_place(place, rng) if rng else f"empty {where(place).split()[-1]}"
    if rng and rng.random() < 0.2:
        return " and ".join(phrases)
    return f"{' and '.join(phrases)} {where(place, rng)}"


INSTRUCTIONS: dict[str, tuple[str, ...]] = {
    "replace": ("turn {old} into {new}", "replace {old} by {new}", "replace {old} with {new}", "make {old} {new}"),
    "add": ("add {new}", "add {new} {place}", "put {new} {place}"),
    "remove": ("remove {old}", "take away {old}", "delete {old}"),
}
INSTRUCTION_WORDS = ("turn", "into", "replace", "by", "make", "add", "put", "remove", "take", "away", "delete")
"""What instructions say beside the vocabulary; only the instruction-following miniature knows them."""


def instruction(old: str | None, new: str | None, place: str, rng: Random) -> str:
    """How a person would ask for an edit: `("cat", "car", …)` → `"turn the cat into a car"`; None for nothing there."""
    kind = "replace" if old and new else "remove" if old else "add"
    said = {"new": new and noun_phrase(new, rng), "place": where(place),
            "old": old and (f"the {old}" if rng.random() < 0.6 else noun_phrase(old, rng))}
    return rng.choice(INSTRUCTIONS[kind]).format(**said)


def vocabulary(more: tuple[str, ...] = ()) -> list[str]:
    """Every word that the miniature models have seen, and `more`, sorted."""
    text = [*OBJECTS, *(s for _, synonyms in OBJECTS.values() for s in synonyms), *PLACES,
            *PLACES.values(), *(p for ps in PHRASES.values() for p in ps), *ADJECTIVES, "cartoon blob", GROUND,
            *TEMPLATES, *PLACE_PROMPTS, "a an the and with of in on at", *more]
    words = " ".join(text).replace("{place}", " ").replace("{}", " ").replace(".", " . ").split()
    return sorted(set(words))


def known_words() -> list[str]:
    """What `vocabulary.txt` lists: the vocabulary, and "3d", which the tokenizer reads as its two letters."""
    return sorted({*vocabulary(), *(word.lower() for word in STYLE_WORDS.values())})
