"""The emoji world: scenes, words, tokenizer, and the batches that the trainings draw."""

import re
from collections import Counter
from random import Random

import numpy as np
import pytest
import torch

from lr_helpers.models import profiles as config
from tiny_world import DATA, GRID, SIZE, judge, places, sprites
from tiny_world.judge import overlap_share
from tiny_world.scenes import HELD_OUT_SEEDS, TRAINING_SEEDS, Placed, Recipe, random_recipe, scene
from tiny_world.words import (
    ADJECTIVES,
    NAMES,
    OBJECTS,
    PHRASES,
    PLACE_PROMPTS,
    PLACES,
    caption,
    held_out,
    noun_phrase,
    prompt_for,
    prompt_for_place,
    vocabulary,
    with_article,
)
from tiny_world.zoo import clip, dino, inpainting, tokenizer, vae
from tiny_world.zoo import judge as judge_training

SEEDS = range(400)
DEMOS = {
    "trees": "a big tree with many flowers in the center",
    "coffee": "soft drink",
    "bird": "a rabbit with white fur",
    "wolf": "a white cow standing in the snow",
}


def squares_apart(recipe: Recipe) -> bool:
    """True where no two squares share a pixel."""
    taken = np.zeros((SIZE, SIZE), int)
    for o in recipe.objects:
        taken[o.y : o.y + o.size, o.x : o.x + o.size] += 1
    return taken.max() <= 1


APART = [r for r in map(scene, SEEDS) if squares_apart(r)]


def changed(a: Recipe, b: Recipe) -> np.ndarray:
    """(64, 64) summed absolute difference of two pictures."""
    return np.abs(a.render().astype(int) - b.render().astype(int)).sum(2)


def outside(picture: np.ndarray, thing: Placed) -> np.ndarray:
    """A copy with the object's square set to 0."""
    picture = picture.copy()
    picture[thing.y : thing.y + thing.size, thing.x : thing.x + thing.size] = 0
    return picture


# Scenes


def test_the_same_seed_gives_the_same_pixels_whatever_was_drawn_before():
    def draw(seeds):
        places.place.cache_clear()
        sprites.sprite.cache_clear()
        sprites.extent.cache_clear()
        return {seed: scene(seed).render().tobytes() for seed in seeds}

    forwards, backwards = draw(range(80)), draw(reversed(range(80)))
    assert forwards == backwards
    assert len(set(forwards.values())) == 80


def test_drawing_leaves_the_shared_pictures_as_they_are():
    recipe = Recipe("sky", 3, (Placed("cat", 8, 8, 32),))
    before = places.place("sky", 3).copy()
    recipe.render()
    assert np.array_equal(places.place("sky", 3), before)
    for shared in (places.place("sky", 3), *sprites.sprite("cat", 32)):
        with pytest.raises(ValueError, match="read-only"):
            shared[0, 0] = 1


def test_seeds_are_held_out_or_for_training():
    assert HELD_OUT_SEEDS.step == TRAINING_SEEDS.step == 1
    assert HELD_OUT_SEEDS[-1] < TRAINING_SEEDS[0]
    assert len(HELD_OUT_SEEDS) >= 200


@pytest.mark.parametrize("count", [None, 0, 1, 2, 3])
def test_scenes_hold_what_was_asked_for(count):
    counts = Counter()
    for recipe in (scene(seed, count) for seed in SEEDS):
        names = [o.name for o in recipe.objects]
        counts[len(names)] += 1
        assert len(set(names)) == len(names)
        assert set(names) <= set(NAMES)
        for i, o in enumerate(recipe.objects):
            assert o.x % GRID == o.y % GRID == o.size % GRID == 0
            x0, y0, x1, y1 = o.box
            assert 0 <= o.x <= x0 < x1 <= o.x + o.size <= SIZE
            assert 0 <= o.y <= y0 < y1 <= o.y + o.size <= SIZE
            for other in recipe.objects[:i]:
                squares = [(p.x, p.y, p.x + p.size, p.y + p.size) for p in (o, other)]
                assert max(overlap_share(*squares), overlap_share(*squares[::-1])) < 0.05
    assert set(counts) == ({1, 2, 3} if count is None else {count})


def test_known_boxes_hold_what_an_object_changes_and_no_more():
    for recipe in APART[:150]:
        for i, o in enumerate(recipe.objects):
            difference = changed(recipe, recipe.removed(i))
            x0, y0, x1, y1 = o.box
            inside = difference[y0:y1, x0:x1]
            assert inside.sum() >= 0.97 * difference.sum(), o
            for edge in (inside[0], inside[-1], inside[:, 0], inside[:, -1]):
                assert edge.any(), o


def test_one_tenth_of_the_pairs_is_held_out():
    pairs = [(n, p) for n in NAMES for p in PLACES if held_out(n, p)]
    assert len(NAMES) == 50
    assert len(PLACES) == 8
    assert len(pairs) == 40
    # every place and (almost) every object is also seen in training, and every place is tested
    assert set(Counter(p for _, p in pairs).values()) == {5}
    assert max(Counter(n for n, _ in pairs).values()) < len(PLACES) / 2


@pytest.mark.parametrize(
    ("combinations", "wanted"), [("training", {False}), ("held_out", {True}), ("all", {True, False})])
def test_scenes_keep_to_their_object_place_pairs(combinations, wanted):
    recipes = [scene(seed, combinations=combinations) for seed in SEEDS]
    assert {held_out(o.name, r.place) for r in recipes for o in r.objects} == wanted
    if combinations == "training":
        assert all(not held_out(o.name, r.place) for r in map(scene, SEEDS) for o in r.objects)


def test_unknown_combinations_are_refused():
    with pytest.raises(ValueError, match="combinations"):
        random_recipe(Random(0), combinations="traning")


def test_one_changed_object_changes_its_square_alone():
    assert len(APART) > 200
    for number, recipe in enumerate(APART):
        i = number % len(recipe.objects)
        o = recipe.objects[i]
        other = NAMES[(NAMES.index(o.name) + 1 + number % 48) % 50]
        for after in (recipe.replaced(i, other), recipe.removed(i)):
            difference = changed(recipe, after)
            assert difference.any()
            assert not outside(difference, o).any()
        replaced = recipe.replaced(i, other).objects
        assert [p.name for p in replaced] == [p.name if p != o else other for p in recipe.objects]
        assert recipe.removed(i).objects == tuple(p for p in recipe.objects if p != o)
        assert np.array_equal(recipe.removed(i).added(o).render(), recipe.render())
        new = Placed(other, 0, 0, 20)
        assert not outside(changed(recipe, recipe.added(new)), new).any()
    # the last object comes back exactly, even where squares overlap
    for recipe in map(scene, SEEDS):
        assert recipe.removed(len(recipe.objects) - 1).added(recipe.objects[-1]) == recipe


def test_an_added_object_stands_in_front():
    behind = Recipe("night", 0, (Placed("house", 8, 8, 40),))
    alone = Recipe("night", 0, ()).added(Placed("apple", 16, 16, 24))
    middle = (slice(24, 32), slice(24, 32))

    def difference(a: Recipe, b: Recipe) -> int:
        return np.abs(a.render()[middle].astype(int) - b.render()[middle]).max()

    # a sprite's middle lets a level or two of what is behind it through
    assert difference(behind.added(Placed("apple", 16, 16, 24)), alone) < 8
    assert difference(behind, alone) > 50


def test_plain_data_holds_boxes_and_caption():
    recipe = scene(3, 2)
    d = recipe.to_dict()
    assert d["caption"] == recipe.caption()
    assert [(o["name"], tuple(o["box"])) for o in d["objects"]] == [(o.name, o.box) for o in recipe.objects]


# Sprites and places


def test_there_is_a_sprite_of_every_object():
    shapes = set()
    for name in NAMES:
        for size in sprites.SIZES:
            colour, alpha = sprites.sprite(name, size)
            assert colour.shape == (size, size, 3)
            assert alpha.shape == (size, size, 1)
            assert alpha.min() >= 0
            assert alpha.max() <= 1
            assert (alpha > 0.5).mean() > 0.1, name
            assert (colour <= 255 * alpha + 1e-2).all(), f"{name} is not premultiplied"
        shapes.add(sprites.sprite(name, 20)[0].tobytes())
    assert len(shapes) == len(NAMES)
    assert {f.stem.replace("_", " ") for f in (DATA / "sprites").glob("*.png")} == set(NAMES)


def test_places_have_different_variants():
    for name in PLACES:
        variants = [places.place(name, i) for i in range(places.VARIANTS)]
        assert len({v.tobytes() for v in variants}) == places.VARIANTS
        assert all(v.min() >= 0 and v.max() <= 255 for v in variants)


# Words


def test_captions_name_every_object_and_the_place():
    assert caption(["cat", "owl", "coffee"], "snow") == "a cat and an owl and coffee in the snow"
    assert caption([], "sand") == "empty sand"
    for recipe in map(scene, SEEDS):
        said = recipe.caption()
        assert said == recipe.caption()
        assert said.endswith(PLACES[recipe.place])
        assert all(with_article(o.name) in said for o in recipe.objects)
    recipe = scene(5, 3)
    assert recipe.caption(Random(1)) == recipe.caption(Random(1))
    assert len({recipe.caption(Random(i)) for i in range(30)}) > 10


def ways_to_say(name: str) -> set[str]:
    """All phrases that mean this object."""
    nouns = (name, *OBJECTS[name][1])
    before = ("a", "an", *(f"a {w}" for w in ADJECTIVES))
    return {f"{a} {n}" for a in before for n in nouns} | {*nouns, *PHRASES.get(name, ())}


SAY = {phrase: name for name in NAMES for phrase in ways_to_say(name)}
# longest first, so that "a big tree with many flowers" is no flowers
SAID = re.compile(r"\b(" + "|".join(sorted(map(re.escape, SAY), key=len, reverse=True)) + r")\b")


def named(text: str) -> list[str]:
    """The objects that a text names, read by its words alone."""
    return [SAY[phrase] for phrase in SAID.findall(text)]


def test_no_phrase_means_two_objects():
    assert sum(len(ways_to_say(n)) for n in NAMES) == len(SAY)
    for phrase, name in SAY.items():
        assert named(phrase) == [name]


def test_prompts_name_their_object():
    rng = Random(0)
    for name in NAMES:
        for place in PLACES:
            assert named(prompt_for(name, place, rng)) == [name]
            assert named(noun_phrase(name, rng)) == [name]
            text = prompt_for_place(place, rng)
            assert named(text) == []
            assert place in text.split()


def all_prompts() -> set[str]:
    """Many of everything that the generators write."""
    rng, texts = Random(1), set(DEMOS) | set(DEMOS.values())
    for place in PLACES:
        for name in NAMES:
            texts |= {prompt_for(name, place, rng) for _ in range(40)}
            texts |= {caption([name, *rng.sample(NAMES, rng.randint(0, 2))], place, rng) for _ in range(10)}
        texts |= {prompt_for_place(place, rng) for _ in range(60)} | {caption([], place)}
    return texts | {caption(["tree", "panda", "rabbit"], "room", Random(i)) for i in range(2000)}


PROMPTS = sorted(all_prompts())


def test_every_prompt_is_made_of_known_words_and_fits():
    words, known = tokenizer.build(), set(vocabulary())
    assert len(PROMPTS) > 5000
    for text in PROMPTS:
        pieces = re.findall(r"[a-z0-9]+|[^a-z0-9\s]", text)
        assert set(pieces) <= known, text
        ids = words(text).input_ids
        assert len(ids) == len(pieces) + 2, text
        assert len(ids) <= tokenizer.LENGTH, text


@pytest.mark.parametrize(("source", "prompt"), DEMOS.items())
def test_the_official_demo_words_are_known(source, prompt, models):
    assert models.warnings_for(source) == models.warnings_for(prompt) == []


def test_the_stored_word_list_is_the_vocabulary():
    stored = (config.DATA / "tiny_world" / "vocabulary.txt").read_text(encoding="utf-8")
    assert stored.split("\n") == [*vocabulary(), ""]
    assert len(set(vocabulary())) == len(vocabulary())


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
        assert back.replace(" ", "") == text.replace(" ", "")
    # an unknown word is spelled in pieces, not lost
    assert words.decode(words("a zebra").input_ids, skip_special_tokens=True).strip() == "a zebra"


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
        recipe, box, prompt = inpainting.example(rng, largest)
        x0, y0, x1, y1 = box
        assert 0 <= x0 < x1 <= SIZE
        assert 0 <= y0 < y1 <= SIZE
        assert max(x1 - x0, y1 - y0) <= largest
        names, meant = [o.name for o in recipe.objects], named(prompt)
        assert len(set(names)) == len(names)
        shares = [overlap_share(o.box, box) for o in recipe.objects]
        if not meant:
            kinds["empty"] += 1
            assert recipe.place in prompt.split()
            assert all(s < 0.1 for s in shares)
            continue
        kinds["whole" if box == (0, 0, SIZE, SIZE) else "object"] += 1
        # the prompt's object is in front and in the mask, the others are mostly outside
        assert meant == names[-1:]
        kept.append(shares.pop())
        assert all(s < 0.5 for s in shares)
        square = recipe.objects[-1]
        assert min(square.x, square.y) >= 0
        assert max(square.x, square.y) + square.size <= SIZE
    assert min(kept) > 0.6
    assert np.mean(np.array(kept) > 0.9) > 0.9
    assert kinds["empty"] / 1500 == pytest.approx(0.12, abs=0.04)
    assert (kinds["whole"] > 20) == (largest == SIZE)
    assert kinds["object"] / 1500 > 0.75


@pytest.mark.parametrize("crop", [inpainting.CROP, SIZE])
def test_windows_lie_on_the_grid_and_show_most_of_the_mask(crop):
    rng = Random("windows")
    for _ in range(1000):
        _, box, _ = inpainting.example(rng, crop)
        x, y = inpainting.window(box, crop, rng)
        assert x % GRID == y % GRID == 0
        assert min(x, y) >= 0
        assert max(x, y) <= SIZE - crop
        assert overlap_share(box, (x, y, x + crop, y + crop)) >= 0.5


def index_picture() -> torch.Tensor:
    """(3, 64, 64) whose channels hold column, row and 0."""
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    return torch.stack([x, y, torch.zeros(64, 64)])


@pytest.mark.parametrize(
    ("box", "corner"),
    [
        ((10, 20, 42, 52), (10, 20)),
        ((10, 20, 26, 52), (2, 20)),  # narrow: the longer side, centred
        ((10, 20, 42, 24), (10, 6)),
        ((-8, -4, 24, 28), (0, 0)),  # beyond the left top
        ((50, 40, 82, 72), (32, 32)),  # beyond the right bottom
    ],
)
def test_the_judge_looks_at_the_square_around_a_box(box, corner):
    picture, (x, y) = index_picture(), corner
    assert torch.allclose(judge.crop(picture, box), picture[:, y : y + 32, x : x + 32], atol=1e-4)


def test_the_judge_enlarges_and_shrinks():
    picture = index_picture()
    whole = judge.crop(picture, (-10, -10, 90, 90))
    assert whole.shape == (3, 32, 32)
    assert torch.allclose(whole[0].mean(), torch.tensor(31.5), atol=0.1)
    small = judge.crop(picture, (20, 30, 28, 38))
    assert small.shape == (3, 32, 32)
    assert 20 <= small[0].min() < small[0].max() <= 27
    assert 30 <= small[1].min() < small[1].max() <= 37


def test_judge_batches_are_crops_with_classes():
    crops, labels = judge_training.batch(3, 200)
    assert crops.shape == (200, 3, 32, 32)
    assert crops.min() >= 0
    assert crops.max() <= 1
    assert (labels == judge.NOTHING).float().mean() == pytest.approx(0.12, abs=0.08)
    again = judge_training.batch(3, 200)
    assert torch.equal(crops, again[0])
    assert torch.equal(labels, again[1])
    assert not torch.equal(judge_training.batch(4, 200)[1], labels)


@pytest.fixture
def drawn(monkeypatch):
    """Every recipe that is rendered, in order."""
    recipes, render = [], Recipe.render
    monkeypatch.setattr(Recipe, "render", lambda self: (recipes.append(self), render(self))[1])
    return recipes


def test_caption_truth_follows_from_the_recipes(drawn):
    empties = 0
    for step in range(4):
        drawn.clear()
        pictures, texts, truth = clip.batch(step, 64)
        assert pictures.shape == (64, SIZE, SIZE, 3)
        assert len(drawn) == 64
        assert truth.diagonal().all()
        for j, text in enumerate(texts):
            objects, where = set(named(text)), [p for p in PLACES if p in text.split()]
            # its own scene holds what a caption says
            assert objects <= {o.name for o in drawn[j].objects}
            assert where in ([], [drawn[j].place])
            for i, recipe in enumerate(drawn):
                there = {o.name for o in recipe.objects}
                holds = (objects <= there if objects else not there) and where in ([], [recipe.place])
                assert bool(truth[i, j]) == holds, (text, recipe)
            empties += not objects
    assert empties


def test_place_prompts_name_a_place_alone():
    # what the truth of captions above rests on
    assert all(named(p.format(place)) == [] for p in PLACE_PROMPTS for place in PLACES)


TRAININGS = {
    "vae": lambda step: vae.batch(step, 24, 64),
    "inpainting": lambda step: [inpainting.example(Random(24 * step + i))[0].render() for i in range(24)],
    "clip": lambda step: clip.batch(step, 24),
}


@pytest.mark.parametrize("part", TRAININGS)
def test_editor_and_clip_never_see_a_held_out_pair(part, drawn):
    for step in range(8):
        TRAININGS[part](step)
    pairs = {(o.name, r.place) for r in drawn for o in r.objects}
    assert len(pairs) > 100
    assert [p for p in pairs if held_out(*p)] == []


def test_views_are_two_looks_at_one_object():
    large, small = dino.views(5, 16)
    assert large.shape == (2, 16, 3, dino.GLOBAL, dino.GLOBAL)
    assert small.shape == (2, 16, 3, dino.LOCAL, dino.LOCAL)
    for v in (large, small):
        assert v.min() >= -1
        assert v.max() <= 1
        assert not torch.equal(v[0], v[1])
    assert torch.equal(dino.views(5, 16)[0], large)


def test_vae_batches_depend_on_the_step_alone():
    a, b = vae.batch(1, 8, 32), vae.batch(1, 8, 32)
    assert a.shape == (8, 3, 32, 32)
    assert torch.equal(a, b)
    assert not torch.equal(a, vae.batch(2, 8, 32))
    # a batch of any step from a crop as large as the picture is whole pictures
    assert vae.batch(1, 2, 64).shape == (2, 3, 64, 64)
    assert -1 <= a.min() < 0 < a.max() <= 1
