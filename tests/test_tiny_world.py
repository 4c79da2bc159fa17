"""The emoji world: scenes, sprites, shadows, words, tokenizer, and the batches that the trainings draw."""

import re
from collections import Counter
from dataclasses import replace
from random import Random

import numpy as np
import pytest
import torch

from lr_helpers.across.asks import emoji_asks
from lr_helpers.models import profiles as config
from lr_helpers.study.tasks import TEST, task
from tiny_world import DATA, GRID, SIZE, judge, places, sprites
from tiny_world import scenes as scenes_module
from tiny_world.judge import overlap_share
from tiny_world.places import SHADOWS
from tiny_world.scenes import (
    FOOT,
    HELD_OUT_SEEDS,
    TEST_SEEDS,
    TRAINING_SEEDS,
    VALIDATION_SEEDS,
    Placed,
    Recipe,
    random_recipe,
    scene,
    shadow,
    square,
)
from tiny_world.sprites import HELD_OUT_STYLE, SEEN_STYLES, SIZES, STYLES, TURNS
from tiny_world.words import (
    ADJECTIVES,
    GROUND,
    HELD_OUT_TEXTURES,
    NAMES,
    OBJECTS,
    PHRASES,
    PLACE_PROMPTS,
    PLACES,
    STYLE_WORDS,
    TEXTURES,
    caption,
    held_out,
    known_words,
    noun_phrase,
    prompt_for,
    prompt_for_place,
    vocabulary,
    with_article,
)
from tiny_world.zoo import clip, comparison, dino, inpainting, tokenizer, vae
from tiny_world.zoo import judge as judge_training
from tiny_world.zoo.looks import Lots, bent, recoloured, worn

SEEDS = [*range(150), *TEST_SEEDS[:50]]
DEMOS = {
    "trees": "a big tree with many flowers in the center",
    "coffee": "soft drink",
    "bird": "a rabbit with white fur",
    "wolf": "a white cow standing in the snow",
}
GROUNDS = (*PLACES, *HELD_OUT_TEXTURES)


def squares_apart(recipe: Recipe) -> bool:
    """True where no two squares share a pixel."""
    taken = np.zeros((SIZE, SIZE), int)
    for o in recipe.objects:
        taken[o.y : o.y + o.size, o.x : o.x + o.size] += 1
    return taken.max() <= 1


APART = [r for r in map(scene, SEEDS) if squares_apart(r)]


def changed(a: Recipe, b: Recipe) -> np.ndarray:
    """(128, 128) summed absolute difference of two pictures."""
    return np.abs(a.render().astype(int) - b.render().astype(int)).sum(2)


def outside(picture: np.ndarray, thing: Placed, where: str) -> np.ndarray:
    """A copy with all that the object may change set to 0: its square and, where it throws a shadow, half a size more."""
    picture, room = picture.copy(), thing.size // 2 if where in SHADOWS else 0
    rows, columns = (slice(max(at - room, 0), at + thing.size + room) for at in (thing.y, thing.x))
    picture[rows, columns] = 0
    return picture


# Scenes


def test_the_same_seed_gives_the_same_pixels_whatever_was_drawn_before():
    def draw(seeds):
        for cached in (places.place, sprites.sprite, sprites.extent, sprites._stored, shadow):
            cached.cache_clear()
        return {seed: scene(seed).render().tobytes() for seed in seeds}

    forwards, backwards = draw(range(40)), draw(reversed(range(40)))
    assert forwards == backwards
    assert len(set(forwards.values())) == 40
    picture = scene(7).render()
    assert picture.shape == (SIZE, SIZE, 3) and picture.dtype == np.uint8


def test_drawing_leaves_the_shared_pictures_as_they_are():
    recipe = Recipe("snow", 3, (Placed("cat", 16, 16, 64),))
    before = places.place("snow", 3).copy()
    recipe.render()
    assert np.array_equal(places.place("snow", 3), before)
    for shared in (places.place("snow", 3), sprites.sprite("cat", 64), shadow("cat", 64, "noto", False, 0, "stand")):
        with pytest.raises(ValueError, match="read-only"):
            shared[0, 0] = 1


def test_seeds_are_held_out_or_for_training():
    assert HELD_OUT_SEEDS.step == TRAINING_SEEDS.step == 1
    assert HELD_OUT_SEEDS[-1] < TRAINING_SEEDS[0]
    assert len(HELD_OUT_SEEDS) >= 200
    assert VALIDATION_SEEDS[0] == 300_000 and TEST_SEEDS[0] == 400_000
    assert not set(VALIDATION_SEEDS) & set(TEST_SEEDS)
    assert {VALIDATION_SEEDS[0], VALIDATION_SEEDS[-1], TEST_SEEDS[0], TEST_SEEDS[-1]} <= set(HELD_OUT_SEEDS)


@pytest.mark.parametrize("count", [None, 0, 1, 2, 3])
def test_scenes_hold_what_was_asked_for(count):
    counts, looks = Counter(), Counter()
    for seed in range(400):
        recipe = scene(seed, count)
        assert recipe == scene(seed, count)
        names = [o.name for o in recipe.objects]
        counts[len(names)] += 1
        looks.update((o.style, o.flip, o.turn) for o in recipe.objects)
        assert len(set(names)) == len(names)
        assert set(names) <= set(NAMES)
        for i, o in enumerate(recipe.objects):
            assert o.x % GRID == o.y % GRID == o.size % GRID == 0
            assert o.size in SIZES and o.style in STYLES and o.turn in TURNS
            x0, y0, x1, y1 = o.box
            assert 0 <= o.x <= x0 < x1 <= o.x + o.size <= SIZE
            assert 0 <= o.y <= y0 < y1 <= o.y + o.size <= SIZE
            if SHADOWS.get(recipe.place) == "stand":  # nothing stands in the sky
                assert o.y + o.size >= FOOT
            for other in recipe.objects[:i]:
                squares = [(p.x, p.y, p.x + p.size, p.y + p.size) for p in (o, other)]
                assert max(overlap_share(*squares), overlap_share(*squares[::-1])) < 0.05
    assert set(counts) == ({1, 2, 3} if count is None else {count})
    if count != 0:
        total = looks.total()
        assert set(looks) == {(s, f, t) for s in STYLES for f in (False, True) for t in TURNS}
        for style in STYLES:
            assert 0.25 < sum(n for (s, _, _), n in looks.items() if s == style) / total < 0.42
        assert 0.4 < sum(n for (_, flip, _), n in looks.items() if flip) / total < 0.6
        assert 0.2 < sum(n for (_, _, turn), n in looks.items() if turn) / total < 0.45


def test_known_boxes_hold_what_an_object_changes_and_no_more():
    """Where nothing throws a shadow; elsewhere the box is the object's alone, too."""
    plain = [r for r in APART if r.place not in SHADOWS]
    assert len(plain) > 30
    for recipe in plain:
        for i, o in enumerate(recipe.objects):
            difference = changed(recipe, recipe.removed(i))
            x0, y0, x1, y1 = o.box
            inside = difference[y0:y1, x0:x1]
            assert inside.sum() >= 0.97 * difference.sum(), o
            for edge in (inside[0], inside[-1], inside[:, 0], inside[:, -1]):
                assert edge.any(), o
    for o in (o for r in APART for o in r.objects):
        x0, y0, x1, y1 = o.box
        seen = sprites.sprite(*o.look)[..., 3] > 63
        assert seen.sum() == seen[y0 - o.y : y1 - o.y, x0 - o.x : x1 - o.x].sum()


@pytest.mark.parametrize("style", sprites.styles())
@pytest.mark.parametrize("turn", [0, 12])
def test_boxes_are_tight_in_every_style(style, turn):
    for name in NAMES[::5]:
        thing = Placed(name, 24, 32, 64, style, True, turn)
        x0, y0, x1, y1 = thing.box
        there = changed(Recipe("sky", 0, (thing,)), Recipe("sky", 0, ()))
        inside = np.zeros(there.shape, bool)
        inside[y0:y1, x0:x1] = True
        assert there[~inside].sum() < 0.01 * there.sum()
        alpha = sprites.sprite(*thing.look)[..., 3] > 63
        for edge in (alpha[y0 - 32], alpha[y1 - 33], alpha[:, x0 - 24], alpha[:, x1 - 25]):
            assert edge.any()


def test_one_tenth_of_the_pairs_is_held_out():
    pairs = [(n, p) for n in NAMES for p in PLACES if held_out(n, p)]
    assert len(NAMES) == 50
    assert len(PLACES) == 16
    assert len(pairs) == 80
    # every place and every object is also seen in training, and every place is tested
    assert set(Counter(p for _, p in pairs).values()) == {5}
    assert max(Counter(n for n, _ in pairs).values()) < len(PLACES) / 2
    # of a held-out texture, all is held out, so no pair of it counts
    assert not any(held_out(n, p) for n in NAMES for p in HELD_OUT_TEXTURES)


@pytest.mark.parametrize(
    ("combinations", "wanted"), [("training", {False}), ("held_out", {True}), ("all", {True, False})])
def test_scenes_keep_to_their_object_place_pairs(combinations, wanted):
    recipes = [scene(seed, combinations=combinations) for seed in range(400)]
    assert {held_out(o.name, r.place) for r in recipes for o in r.objects} == wanted
    if combinations == "training":
        assert all(not held_out(o.name, r.place) for r in map(scene, range(400)) for o in r.objects)


def test_unknown_combinations_are_refused():
    with pytest.raises(ValueError, match="combinations"):
        random_recipe(Random(0), combinations="traning")


def test_one_changed_object_changes_its_square_and_its_shadow_alone():
    assert len(APART) > 100
    for number, recipe in enumerate(APART):
        i, where = number % len(recipe.objects), recipe.place
        o = recipe.objects[i]
        other = NAMES[(NAMES.index(o.name) + 1 + number % 48) % 50]
        for after in (recipe.replaced(i, other), recipe.removed(i)):
            difference = changed(recipe, after)
            assert difference.any()
            assert not outside(difference, o, where).any()
        replaced = recipe.replaced(i, other).objects
        assert [p.name for p in replaced] == [p.name if p != o else other for p in recipe.objects]
        assert replaced[i] == replace(o, name=other)
        assert recipe.removed(i).objects == tuple(p for p in recipe.objects if p != o)
        if where not in SHADOWS:  # a shadow falls on what is behind
            assert np.array_equal(recipe.removed(i).added(o).render(), recipe.render())
        new = Placed(other, 0, 0, 40)
        assert not outside(changed(recipe, recipe.added(new)), new, where).any()
    # the last object comes back exactly, even where squares overlap
    for recipe in map(scene, SEEDS):
        assert recipe.removed(len(recipe.objects) - 1).added(recipe.objects[-1]) == recipe


def test_an_added_object_stands_in_front():
    behind = Recipe("night", 0, (Placed("house", 16, 16, 80),))
    alone = Recipe("night", 0, ()).added(Placed("apple", 32, 32, 48))
    middle = (slice(48, 64), slice(48, 64))

    def difference(a: Recipe, b: Recipe) -> int:
        return np.abs(a.render()[middle].astype(int) - b.render()[middle]).max()

    # a sprite's middle lets a level or two of what is behind it through
    assert difference(behind.added(Placed("apple", 32, 32, 48)), alone) < 8
    assert difference(behind, alone) > 50


def test_a_scene_is_drawn_on_other_ground_and_with_room_around_its_objects():
    recipe = scene(11, count=2)
    assert recipe.on("marble", 3).objects == recipe.objects
    assert (recipe.on("marble", 3).place, recipe.on("marble", 3).variant) == ("marble", 3)
    assert recipe.on("marble").variant == recipe.variant
    assert square(Placed("cat", 0, 0, 40)) == (0, 0, 46, 46)
    assert square(Placed("cat", 40, 80, 48), room=4) == (36, 76, 92, 128)


def test_plain_data_holds_boxes_and_caption():
    recipe = scene(3, 2)
    d = recipe.to_dict()
    assert d["caption"] == recipe.caption()
    assert [(o["name"], tuple(o["box"])) for o in d["objects"]] == [(o.name, o.box) for o in recipe.objects]
    assert [(o["style"], o["flip"], o["turn"]) for o in d["objects"]] == [(o.style, o.flip, o.turn) for o in recipe.objects]


def test_shadows_lie_where_the_light_puts_them():
    lying = shadow("ball", 64, "noto", False, 0, "lie").astype(float)
    y, x = np.mgrid[0:128, 0:128]
    assert (lying * x).sum() / lying.sum() > 65 and (lying * y).sum() / lying.sum() > 65
    standing = shadow("ball", 64, "noto", False, 0, "stand").astype(float)
    assert (standing * y).sum() / standing.sum() > 85
    thing = Placed("ball", 32, 32, 64)
    for where in PLACES:
        below = changed(Recipe(where, 0, (thing,)), Recipe(where, 0, ()))[97:105, 40:100].sum()
        assert (below > 0) == (where in places.SHADOWS), where


# Sprites and places


@pytest.mark.parametrize("style", sprites.styles())
def test_there_is_a_sprite_of_every_object(style):
    shapes = set()
    for name in NAMES:
        for size in sprites.SIZES:
            pixels = sprites.sprite(name, size, style)
            assert pixels.shape == (size, size, 4) and pixels.dtype == np.uint8
            colour, alpha = pixels[..., :3].astype(int), pixels[..., 3:]
            assert (alpha > 127).mean() > 0.1, name
            assert (colour <= alpha.astype(int) + 1).all(), f"{name} is not premultiplied"
        x0, y0, x1, y1 = sprites.extent(name, 128, style)
        assert max(x1 - x0, y1 - y0) >= 120, name  # it fills its square
        shapes.add(sprites.sprite(name, 40, style).tobytes())
    assert len(shapes) == len(NAMES) == 50
    files = [f for f in (DATA / "sprites" / style).iterdir() if f.suffix in (".png", ".webp")]
    assert sorted(f.stem.replace("_", " ") for f in files) == sorted(NAMES)


def test_the_styles_differ():
    assert sprites.styles()[:3] == STYLES == ("noto", "blob", "fluent") and HELD_OUT_STYLE in sprites.styles()[3:]
    for name in NAMES:
        looks = [sprites.sprite(name, 64, style).astype(int) for style in sprites.styles()]
        assert all(np.abs(a - b).mean() > 3 for i, a in enumerate(looks) for b in looks[:i]), name


def test_sprites_are_mirrored_and_lean():
    plain = sprites.sprite("car", 64, "fluent")
    assert np.abs(sprites.sprite("car", 64, "fluent", True).astype(int) - plain[:, ::-1]).mean() < 1
    assert np.abs(sprites.sprite("car", 64, "fluent", False, 12).astype(int) - plain).mean() > 3
    # what leans to the left has its top further left than its foot
    guitar = [sprites.sprite("palm tree", 80, "noto", False, turn)[..., 3].astype(float) for turn in (-12, 12)]
    right, left = ((top * np.arange(80)).sum() / top.sum() - (foot * np.arange(80)).sum() / foot.sum()
                   for top, foot in ((a[:40], a[40:]) for a in guitar))
    assert left < right


@pytest.mark.parametrize("name", GROUNDS)
def test_places_have_different_variants(name):
    variants = [places.place(name, i) for i in (*range(6), places.VARIANTS - 1)]
    assert len({v.tobytes() for v in variants}) == 7
    assert all(v.shape == (SIZE, SIZE, 3) and v.dtype == np.uint8 and v.std() > 1 for v in variants)


@pytest.mark.all
def test_all_variants_of_all_places_differ():
    assert len({places.place(name, i).tobytes() for name in GROUNDS for i in range(2 * places.VARIANTS)}) == (
        len(GROUNDS) * 2 * places.VARIANTS)


def test_sprites_and_textures_are_licensed_and_small():
    text = (DATA / "LICENSES.md").read_text(encoding="utf-8")
    for style in sprites.styles():
        assert f"`data/tiny_world/sprites/{style}/*." in text
    for name in ("OFL.txt", "Apache-2.0.txt", "MIT.txt", "CC-BY-4.0.txt"):
        assert len(list((DATA / "sprites").glob(f"*/{name}"))) == 1 and name in text
    for file in (DATA / "textures").iterdir():
        assert file.stem in text
    for folder in ("sprites", "textures"):
        assert sum(f.stat().st_size for f in (DATA / folder).rglob("*") if f.is_file()) < 2_000_000


# Words


def test_captions_name_every_object_and_the_place():
    assert caption(["cat", "owl", "coffee"], "snow") == "a cat and an owl and coffee in the snow"
    assert caption([], "sand") == "empty sand"
    assert caption(["cat"], "bricks") == "a cat on the bricks"
    for recipe in map(scene, SEEDS):
        said = recipe.caption()
        assert said == recipe.caption()
        assert said.endswith(PLACES[recipe.place])
        assert all(with_article(o.name) in said for o in recipe.objects)
    recipe = scene(5, 3)
    assert recipe.caption(Random(1)) == recipe.caption(Random(1))
    assert len({recipe.caption(Random(i)) for i in range(30)}) > 10


def test_captions_do_not_name_unknown_textures():
    recipe = scene(5).on("gravel")
    assert "on the ground" in recipe.caption() and "gravel" not in recipe.caption()
    assert Recipe("marble", 0, ()).caption() == "empty ground"


def ways_to_say(name: str) -> dict[str, str | None]:
    """All phrases that mean this object, each with the style it asks for."""
    nouns = (name, *OBJECTS[name][1])
    before = ("a", "an", *(f"a {w}" for w in ADJECTIVES))
    said: dict[str, str | None] = {**{f"{a} {n}": None for a in before for n in nouns}, **dict.fromkeys(nouns),
                                   **dict.fromkeys(PHRASES.get(name, ()))}
    for style, word in STYLE_WORDS.items():
        said |= {f"{a} {word} {n}": style for a in before for n in nouns} | {f"{word} {n}": style for n in nouns}
    return said


SAY = {phrase: (name, style) for name in NAMES for phrase, style in ways_to_say(name).items()}
# longest first, so that "a big tree with many flowers" is no flowers
SAID = re.compile(r"\b(" + "|".join(sorted(map(re.escape, SAY), key=len, reverse=True)) + r")\b")


def asked(text: str) -> list[tuple[str, str | None]]:
    """The objects that a text names, each with its style or None, read by its words alone."""
    return [SAY[phrase] for phrase in SAID.findall(text)]


def named(text: str) -> list[str]:
    """The objects that a text names."""
    return [name for name, _ in asked(text)]


def placed_in(text: str) -> set[str]:
    """The places that a text may mean; all there are where it says none."""
    words = set(text.split())
    if said := words & set(PLACES):
        return said
    return {*TEXTURES, *HELD_OUT_TEXTURES} if GROUND in words else set(GROUNDS)


def test_no_phrase_means_two_objects():
    assert sum(len(ways_to_say(n)) for n in NAMES) == len(SAY)
    for phrase, (name, style) in SAY.items():
        assert asked(phrase) == [(name, style)]


def test_prompts_name_their_object():
    rng = Random(0)
    for name in NAMES:
        for place in GROUNDS:
            for style in (None, *STYLES):
                assert asked(prompt_for(name, place, rng, style)) == [(name, style)]
                assert asked(noun_phrase(name, rng, style)) == [(name, style)]
            text = prompt_for_place(place, rng)
            assert named(text) == []
            assert place in placed_in(text) and len(placed_in(text)) < len(GROUNDS)


def test_place_prompts_name_a_place_alone():
    # what the truth of captions below rests on
    assert all(named(p.format(place)) == [] for p in PLACE_PROMPTS for place in (*PLACES, GROUND))


def test_the_held_out_style_has_no_word():
    assert set(STYLE_WORDS) == set(STYLES) and not set(PLACES) & set(HELD_OUT_TEXTURES)
    known = set(known_words())
    assert not known & {HELD_OUT_STYLE, *HELD_OUT_TEXTURES} - {"fur"}  # "a rabbit with white fur"


def all_prompts() -> set[str]:
    """Many of everything that the generators write."""
    rng, texts = Random(1), set(DEMOS) | set(DEMOS.values())
    for place in GROUNDS:
        for name in NAMES:
            texts |= {prompt_for(name, place, rng, rng.choice((*STYLES, None))) for _ in range(20)}
            texts |= {caption([name, *rng.sample(NAMES, rng.randint(0, 2))], place, rng) for _ in range(5)}
        texts |= {prompt_for_place(place, rng) for _ in range(60)} | {caption([], place)}
    texts |= {caption(["tree", "panda"], "room", rng, ["fluent", "blob"]) for _ in range(100)}
    return texts | {caption(["tree", "panda", "rabbit"], "room", Random(i)) for i in range(2000)}


PROMPTS = sorted(all_prompts())


def test_every_prompt_is_made_of_known_words_and_fits():
    words, known, listed = tokenizer.build(), {*vocabulary(), "3", "d"}, set(known_words())
    assert len(PROMPTS) > 5000
    for text in PROMPTS:
        pieces = re.findall(r"[a-z]+|[0-9]|[^a-z0-9\s]", text.lower())
        assert set(pieces) <= known, text
        assert set(re.findall(r"[a-z0-9]+", text.lower())) <= listed, text
        ids = words(text).input_ids
        assert len(ids) == len(pieces) + 2, text
        assert len(ids) <= tokenizer.LENGTH, text


@pytest.mark.parametrize(("source", "prompt"), [*DEMOS.items(), ("wolf", "a 3D fox"), ("cartoon owl", "a little blob.")])
def test_words_of_the_official_demo_and_of_the_styles_are_known(source, prompt, models):
    assert models.warnings_for(source) == models.warnings_for(prompt) == []


def test_the_stored_word_list_is_what_is_known():
    stored = (config.DATA / "tiny_world" / "vocabulary.txt").read_text(encoding="utf-8")
    assert stored.split("\n") == [*known_words(), ""]
    assert len(set(known_words())) == len(known_words())
    assert set(known_words()) - set(vocabulary()) == {"3d"}


# Tokenizer


def test_every_known_word_is_one_token():
    words = tokenizer.build()
    ids = {word: words(word).input_ids for word in vocabulary()}
    assert all(len(i) == 3 for i in ids.values()), [w for w, i in ids.items() if len(i) != 3]
    assert len({i[1] for i in ids.values()}) == len(ids)
    for word, (start, middle, end) in ids.items():
        assert (start, end) == (words.bos_token_id, words.eos_token_id)
        assert words.decode([middle]).strip() == word


def test_text_comes_back_and_the_end_token_is_the_highest():
    words = tokenizer.build()
    assert words.eos_token_id == len(words) - 1 == max(words.get_vocab().values())
    for text in PROMPTS[::50]:
        back = words.decode(words(text).input_ids, skip_special_tokens=True)
        assert back.replace(" ", "") == text.lower().replace(" ", "")
    # an unknown word is spelled in pieces, not lost
    assert words.decode(words("a zebra").input_ids, skip_special_tokens=True).strip() == "a zebra"
    assert words("a 3D wolf").input_ids == words("a 3d wolf").input_ids
    assert words.unk_token_id not in words("a 3D wolf").input_ids[1:-1]


def test_the_stored_tokenizers_are_this_one(models):
    words = tokenizer.build()
    stored = models.editor.pipeline.tokenizer
    expected = words(PROMPTS[::20], padding="max_length").input_ids
    assert stored(PROMPTS[::20], padding="max_length").input_ids == expected
    assert stored.model_max_length == tokenizer.LENGTH
    assert models.clip.tokenizer(PROMPTS[::20]).tolist() == expected
    assert models.editor.pipeline.text_encoder.get_input_embeddings().num_embeddings == len(words)


# What the trainings see


@pytest.mark.parametrize("largest", [inpainting.CROP, SIZE])
def test_examples_mask_one_object_or_none(largest):
    rng, kinds, kept = Random("examples"), Counter(), []
    for _ in range(1500):
        one = inpainting.example(rng, largest)
        x0, y0, x1, y1 = box = one.box
        assert 0 <= x0 < x1 <= SIZE
        assert 0 <= y0 < y1 <= SIZE
        assert max(x1 - x0, y1 - y0) <= largest
        names, meant = [o.name for o in one.recipe.objects], asked(one.prompt)
        assert len(set(names)) == len(names)
        shares = [overlap_share(o.box, box) for o in one.recipe.objects]
        if one.thing is None:
            kinds["empty"] += 1
            assert meant == [] and one.recipe.place in placed_in(one.prompt)
            assert all(s < 0.1 for s in shares)
            continue
        kinds["whole" if box == (0, 0, SIZE, SIZE) else "object"] += 1
        # the prompt's object is new and in the mask, in the style that is asked for; the others are mostly outside
        assert [name for name, _ in meant] == [one.thing.name] and one.thing.name not in names
        assert meant[0][1] in (None, one.thing.style)
        kept.append(overlap_share(one.thing.box, box))
        assert all(s < 0.5 for s in shares)
        assert min(one.thing.x, one.thing.y) >= 0
        assert max(one.thing.x, one.thing.y) + one.thing.size <= SIZE
    assert min(kept) > 0.6
    assert np.mean(np.array(kept) > 0.9) > 0.9
    assert kinds["empty"] / 1500 == pytest.approx(0.12, abs=0.04)
    assert (kinds["whole"] > 20) == (largest == SIZE)
    assert kinds["object"] / 1500 > 0.75


def test_styles_are_drawn_evenly_for_the_editor_and_half_are_named():
    many = [inpainting.example(Random(f"even {i}")) for i in range(600)]
    drawn = [e for e in many if e.thing]
    for style in STYLES:
        assert 0.26 < sum(e.thing.style == style for e in drawn) / len(drawn) < 0.41
    of_style = [e for e in drawn if asked(e.prompt)[0][1]]
    assert 0.4 < len(of_style) / len(drawn) < 0.6
    assert all(STYLE_WORDS[e.thing.style] in e.prompt for e in of_style)


def test_the_editor_sees_nothing_of_the_answer():
    """Before and after differ inside the mask alone, shadow included, and the new object is whole."""
    whole = 0
    for i in range(60):
        one = inpainting.example(Random(f"leak {i}"))
        before, after = one.pictures()
        box = one.mask()[..., None] > 0
        assert (np.where(box, 0, before) == np.where(box, 0, after)).all()
        whole += one.thing is None or overlap_share(one.thing.box, one.box) == 1
    assert whole >= 58


def test_a_shadow_fades_at_the_masks_edges_but_not_at_the_pictures_border():
    soft = inpainting.fade((0, 40, 60, 128))
    assert soft[39].max() == 0 and soft[:, 60].max() == 0
    assert soft[80, 0] == 1 and soft[127, 30] == 1 and soft[40, 30] < 0.1


@pytest.mark.parametrize("crop", [inpainting.CROP, SIZE])
def test_windows_lie_on_the_grid_and_show_most_of_the_mask(crop):
    rng = Random("windows")
    for _ in range(1000):
        box = inpainting.example(rng, crop).box
        x, y = inpainting.window(box, crop, rng)
        assert x % GRID == y % GRID == 0
        assert min(x, y) >= 0
        assert max(x, y) <= SIZE - crop
        assert overlap_share(box, (x, y, x + crop, y + crop)) >= 0.5


def index_picture() -> torch.Tensor:
    """(3, 128, 128) whose channels hold column, row and 0."""
    y, x = torch.meshgrid(torch.arange(128.0), torch.arange(128.0), indexing="ij")
    return torch.stack([x, y, torch.zeros(128, 128)])


@pytest.mark.parametrize(
    ("box", "corner"),
    [
        ((20, 40, 84, 104), (20, 40)),
        ((20, 40, 52, 104), (4, 40)),  # narrow: the longer side, centred
        ((20, 40, 84, 48), (20, 12)),
        ((-16, -8, 48, 56), (0, 0)),  # beyond the left top
        ((100, 80, 164, 144), (64, 64)),  # beyond the right bottom
    ],
)
def test_the_judge_looks_at_the_square_around_a_box(box, corner):
    picture, (x, y) = index_picture(), corner
    assert torch.allclose(judge.crop(picture, box), picture[:, y : y + 64, x : x + 64], atol=1e-4)


def test_the_judge_enlarges_and_shrinks():
    picture = index_picture()
    whole = judge.crop(picture, (-20, -20, 180, 180))
    assert whole.shape == (3, 64, 64)
    assert torch.allclose(whole[0].mean(), torch.tensor(63.5), atol=0.1)
    small = judge.crop(picture, (40, 60, 56, 76))
    assert small.shape == (3, 64, 64)
    assert 40 <= small[0].min() < small[0].max() <= 55
    assert 60 <= small[1].min() < small[1].max() <= 75


def test_judge_batches_are_crops_with_classes():
    crops, labels = judge_training.batch(3, 60)
    assert crops.shape == (60, 3, 64, 64)
    assert crops.min() >= 0
    assert crops.max() <= 1
    again = judge_training.batch(3, 60)
    assert torch.equal(crops, again[0])
    assert torch.equal(labels, again[1])
    assert not torch.equal(judge_training.batch(4, 60)[1], labels)


def test_the_judge_learns_objects_and_one_time_of_eight_nothing():
    empties = 0
    for i in range(1000):
        recipe, box, label = judge_training.example(Random(f"one {i}"))
        if label == judge.NOTHING:
            empties += 1
            assert all(overlap_share(o.box, box) < 0.1 for o in recipe.objects)
        else:
            (thing,) = [o for o in recipe.objects if o.name == NAMES[label]]
            assert overlap_share(thing.box, box) > 0.6
    assert empties / 1000 == pytest.approx(0.12, abs=0.03)


def test_augmented_crops_stay_in_range_and_repeat():
    crops = torch.rand(4, 3, 64, 64)

    def look() -> torch.Tensor:
        lots = Lots(4, 9)
        return worn(recoloured(bent(crops, lots), lots), lots)

    assert torch.equal(look(), look())
    assert look().min() >= 0 and look().max() <= 1
    assert not torch.equal(look(), crops)


@pytest.fixture
def drawn(monkeypatch):
    """Every recipe that is to be rendered, in order; nothing is drawn."""
    recipes = []
    monkeypatch.setattr(Recipe, "render", lambda self: (recipes.append(self), np.zeros((SIZE, SIZE, 3), np.uint8))[1])
    return recipes


def test_caption_truth_follows_from_the_recipes():
    scenes = np.arange(300, dtype=np.int32)  # in place of pictures: which scene each is
    empties = 0
    for step in range(4):
        pictures, chosen, texts, truth = clip.batch(step, 64, scenes)
        drawn = [clip.random_scene(number) for number in chosen]
        assert len(set(chosen)) == 64 and pictures.tolist() == chosen
        assert truth.diagonal().all() and truth.float().mean() < 0.2
        for j, text in enumerate(texts):
            objects = set(asked(text))
            # its own scene holds what a caption says
            assert {name for name, _ in objects} <= {o.name for o in drawn[j].objects}
            assert drawn[j].place in placed_in(text)
            for i, recipe in enumerate(drawn):
                there = {(o.name, style) for o in recipe.objects for style in (None, o.style)}
                holds = (objects <= there if objects else not there) and recipe.place in placed_in(text)
                assert bool(truth[i, j]) == holds, (text, recipe)
            empties += not objects
    assert empties


def check_parts(found: clip.Parts, recipes: list[Recipe]) -> int:
    """Each part is an object called by its name, or the ground beside all objects; returns how many are grounds."""
    truth, grounds = found.truth(), 0
    assert truth.diagonal().all() and truth.float().mean() < 0.1
    for i, (owner, share, text) in enumerate(zip(found.owners, found.shares, found.texts, strict=True)):
        recipe, named = recipes[owner], asked(text)
        if not named:
            grounds += 1
            assert recipe.place in placed_in(text)
            assert all(not (share * clip.covered(o)).any() for o in recipe.objects) or share.all()
            continue
        ((name, _),) = named
        assert any(torch.equal(share, clip.covered(o)) for o in recipe.objects if o.name == name)
        for j in (j for j, other in enumerate(found.texts) if asked(other)):
            if truth[i, j]:
                assert next(iter(asked(found.texts[j])))[0] == name
    return grounds


def test_clips_parts_are_objects_by_name_and_the_ground_beside_them():
    found = clip.parts(3, range(200))
    assert found.owners == list(range(200)) and found.shares[0].shape == (8, 8)
    assert 20 < check_parts(found, [clip.random_scene(i) for i in range(200)]) < 120
    thing = Placed("cat", 8, 32, 48)
    assert clip.covered(thing).sum() * 16**2 == 48**2  # in patches of 16 pixels
    assert clip.covered(thing)[2].tolist() == [0.5, 1, 1, 0.5, 0, 0, 0, 0] and not clip.covered(thing)[:2].any()


def test_clips_second_training_compares_a_part_with_one_beside_it():
    found = clip.parts_beside(3, range(200))
    assert found.owners == [i for i in range(200) for _ in range(2)]
    check_parts(found, [clip.changed_scene(i)[0] for i in range(200)])
    truth = found.truth()
    for i in range(0, 400, 2):  # neither text of a scene's two parts is true of the other
        assert not truth[i, i + 1] and not truth[i + 1, i]


def test_clips_second_training_compares_a_scene_with_one_in_which_one_object_is_another():
    for number in range(0, 400, 2):
        (before, index), (after, same) = clip.changed_scene(number), clip.changed_scene(number + 1)
        assert index == same and before == after.replaced(index, before.objects[index].name) != after
        assert len({o.name for o in after.objects}) == len(after.objects)
        assert not any(held_out(o.name, after.place) for o in after.objects)
    numbers = np.arange(400, dtype=np.int32)  # in place of pictures: which scene each is
    pictures, chosen, texts, truth = clip.alike(2, 64, numbers)
    assert pictures.tolist() == chosen and len(set(chosen)) == 64
    for i in range(0, 64, 2):
        assert chosen[i] % 2 == 0 and chosen[i + 1] == chosen[i] + 1
        assert truth[i, i] and truth[i + 1, i + 1] and not truth[i, i + 1] and not truth[i + 1, i]
        for k in (i, i + 1):
            recipe, index = clip.changed_scene(chosen[k])
            assert recipe.objects[index].name in {name for name, _ in asked(texts[k])}


def test_clips_patches_are_trained_as_they_are_used(models):
    picture = scenes_module.tensor(scene(3))
    tower = models.clip.model.visual
    before = models.clip.encode_image(picture[None])[1]
    with torch.no_grad():
        own = torch.nn.functional.normalize(clip.patch_values(tower, before), dim=-1)[0]
    assert torch.allclose(own.reshape(clip.GRID, clip.GRID, -1), models.clip.patches(picture), atol=1e-5)


def test_clips_scenes_are_drawn_once(drawn, tmp_path):
    pictures = clip.shelf(tmp_path / "scenes.npy", clip.random_scene, 5)
    assert pictures.shape == (5, SIZE, SIZE, 3) and drawn == [clip.random_scene(i) for i in range(5)]
    assert (clip.shelf(tmp_path / "scenes.npy", clip.random_scene, 5) == pictures).all() and len(drawn) == 5


def of_the_editor(count: int) -> list[Recipe]:
    """Scenes with the object that the editor learns to paint."""
    found = []
    for i in range(count):
        one = inpainting.example(Random(f"d {i}"), inpainting.CROP if i % 2 else SIZE)
        found.append(one.recipe.added(one.thing) if one.thing else one.recipe)
    return found


TRAININGS = {
    "vae": lambda: [r for step in range(8) for r in vae.recipes(step, 24)],
    "inpainting": lambda: of_the_editor(200),
    "text_to_image": lambda: [comparison.scene_example(Random(f"t {i}")).after for i in range(200)],
    "instruct": lambda: [r for i in range(200) for one in [comparison.instruction_example(Random(f"e {i}"))]
                         for r in (one.before, one.after)],
    "clip": lambda: [clip.random_scene(i) for i in range(200)],
    "clip_alike": lambda: [clip.changed_scene(i)[0] for i in range(200)],
    "critic": lambda: [judge_training.example(Random(f"a {i}"), STYLES)[0] for i in range(200)],
    "judge": lambda: [judge_training.example(Random(f"a {i}"))[0] for i in range(200)],
    "dino": lambda: [r for i in range(100) for r in dino.recipes(Random(f"b {i}"))[:2]],
    "dino_whole": lambda: [r for i in range(100) for r in dino.whole_recipes(Random(f"b {i}"))[:2]],
}
"""Scenes that each training draws."""


@pytest.mark.parametrize("part", TRAININGS)
def test_no_training_draws_a_held_out_style_or_texture(part):
    found = TRAININGS[part]()
    more = part in ("clip_alike", "judge", "dino_whole")
    assert {o.style for r in found for o in r.objects} == set(SEEN_STYLES if more else STYLES)
    assert {r.place for r in found} == set(PLACES) and HELD_OUT_STYLE not in SEEN_STYLES


@pytest.mark.parametrize("part", TRAININGS)
def test_no_training_shows_the_grounds_of_held_out_scenes(part):
    assert max(r.variant for r in TRAININGS[part]()) < places.VARIANTS


def test_an_empty_held_out_scene_is_in_no_training():
    """It is nothing but its ground, so it would be the very picture of a training scene with the same one."""
    kept = [task("add", seed).recipe for seed in range(TEST, TEST + 200)]
    assert any(not r.objects for r in kept) and all(places.VARIANTS <= r.variant < 2 * places.VARIANTS for r in kept)
    grounds = {name: {places.place(name, i).tobytes() for i in range(places.VARIANTS)} for name in PLACES}
    assert not any(r.removed(0).render().tobytes() in grounds[r.place] if r.objects else r.render().tobytes() in grounds[r.place]
                   for r in kept)
    tested = {r.render().tobytes() for r in kept}
    assert not any(ask.picture().tobytes() in tested for ask in emoji_asks(200))


@pytest.mark.parametrize("part", ["vae", "inpainting", "text_to_image", "instruct", "clip", "clip_alike"])
def test_editors_and_clip_never_see_a_held_out_pair(part):
    pairs = {(o.name, r.place) for r in TRAININGS[part]() for o in r.objects}
    assert len(pairs) > 100
    assert [p for p in pairs if held_out(*p)] == []


def test_what_trainings_draw_is_what_their_batches_render(drawn):
    """So that the two tests above speak of the batches: vae here, CLIP above, the others below, pixels and all."""
    vae.batch(3, 24, 64)
    assert drawn == vae.recipes(3, 24)


def test_no_batch_opens_a_held_out_file(monkeypatch, tmp_path):
    """The batch functions themselves, pixels and all."""
    plain, ground = sprites.sprite, places.place

    def watched(name, size, style, *rest):
        assert style != HELD_OUT_STYLE
        return plain(name, size, style, *rest)

    def watched_place(name, variant):
        assert name not in HELD_OUT_TEXTURES
        return ground(name, variant % 2)

    monkeypatch.setattr(scenes_module, "sprite", watched)
    monkeypatch.setattr(scenes_module, "place", watched_place)
    assert vae.batch(1, 8, 64).shape == (8, 3, 64, 64)
    assert judge_training.batch(1, 8)[0].shape == (8, 3, 64, 64)
    assert [v.shape[1:3] for v in dino.views(1, 4)] == [(4, 3)] * 2
    assert [v.shape[1:3] for v in dino.whole_views(1, 4)] == [(4, 3)] * 2
    for name, scene_of, batch in (("one", clip.random_scene, clip.batch),
                                  ("two", lambda number: clip.changed_scene(number)[0], clip.alike)):
        assert batch(1, 8, clip.shelf(tmp_path / f"{name}.npy", scene_of, 12))[0].shape == (8, SIZE, SIZE, 3)
    autoencoder = vae.build(vae.CHANNELS).eval()
    inpainting.prepare(autoencoder, 4, inpainting.CROP, "test", "cpu")
    comparison.prepare(autoencoder, comparison.instruction_example, tokenizer.build(), 4, SIZE, 0.2, "test", "cpu")


def test_views_are_two_looks_at_one_object():
    large, small = dino.views(5, 16)
    assert large.shape == (2, 16, 3, dino.GLOBAL, dino.GLOBAL)
    assert small.shape == (2, 16, 3, dino.LOCAL, dino.LOCAL)
    for v in (large, small):
        assert v.min() >= -1
        assert v.max() <= 1
        assert not torch.equal(v[0], v[1])
    assert torch.equal(dino.views(5, 16)[0], large)
    for i in range(100):
        one, other, index = dino.recipes(Random(i))
        (thing,) = other.objects
        assert thing == replace(one.objects[index], flip=thing.flip)


def test_whole_views_are_the_same_objects_elsewhere():
    large, small = dino.whole_views(5, 6)
    assert large.shape == (2, 6, 3, SIZE, SIZE) and small.shape == (2, 6, 3, dino.GLOBAL, dino.GLOBAL)
    for v in (large, small):
        assert -1 <= v.min() < v.max() <= 1 and not torch.equal(v[0], v[1])
    assert torch.equal(dino.whole_views(5, 6)[1], small)
    for i in range(100):
        one, other, name = dino.whole_recipes(Random(i))
        assert {(o.name, o.style) for o in one.objects} == {(o.name, o.style) for o in other.objects}
        assert one.place != other.place and name in {o.name for o in one.objects}
        pairs = [(a, b) for j, a in enumerate(other.objects) for b in other.objects[:j]]
        assert all(scenes_module.overlap(a, b) < 0.05 for a, b in pairs)


def test_vae_batches_depend_on_the_step_alone():
    a, b = vae.batch(1, 8, 32), vae.batch(1, 8, 32)
    assert a.shape == (8, 3, 32, 32)
    assert torch.equal(a, b)
    assert not torch.equal(a, vae.batch(2, 8, 32))
    # a batch of any step from a crop as large as the picture is whole pictures
    assert vae.batch(1, 2, SIZE).shape == (2, 3, SIZE, SIZE)
    assert -1 <= a.min() < 0 < a.max() <= 1
