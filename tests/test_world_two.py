"""World two: scenes, words, sprites, and the batches that the trainings draw."""

from dataclasses import replace
from functools import partial
from random import Random

import numpy as np
import pytest
import torch

from tiny_world.two import DATA, GRID, SIZE, places, sprites, tokenizer, words
from tiny_world.two.__main__ import main
from tiny_world.two.evaluate import GROUPS, PARTS, cases, evaluate, evaluate_editor, square
from tiny_world.two.scenes import (
    HELD_OUT_SEEDS,
    TEST_SEEDS,
    TRAINING_SEEDS,
    VALIDATION_SEEDS,
    Placed,
    Recipe,
    random_recipe,
    scene,
    shadow,
)
from tiny_world.two.sprites import HELD_OUT_STYLE, SIZES, STYLES, TURNS
from tiny_world.two.words import HELD_OUT_TEXTURES, NAMES, OBJECTS, PHRASES, PLACES, STYLE_WORDS, held_out
from tiny_world.two.zoo import clip, dino, inpainting, judge, vae
from tiny_world.two.zoo.looks import Lots, bent, recoloured, worn

torch.set_num_threads(1)
SEEDS = [*range(150), *TEST_SEEDS[:50]]


def changed(a: Recipe, b: Recipe) -> np.ndarray:
    """(128, 128) summed absolute difference of two pictures."""
    return np.abs(a.render().astype(int) - b.render().astype(int)).sum(2)


def test_scenes_are_deterministic_and_whole():
    for seed in SEEDS:
        recipe = scene(seed)
        assert recipe == scene(seed)
        assert 1 <= len(recipe.objects) <= 3
        assert len({o.name for o in recipe.objects}) == len(recipe.objects)
        for o in recipe.objects:
            assert o.x % GRID == o.y % GRID == o.size % GRID == 0
            assert 0 <= o.x <= SIZE - o.size and 0 <= o.y <= SIZE - o.size
            assert o.size in SIZES and o.style in STYLES and o.turn in TURNS
            assert not held_out(o.name, recipe.place)
    picture = scene(7).render()
    assert picture.shape == (SIZE, SIZE, 3) and picture.dtype == np.uint8
    assert (picture == scene(7).render()).all()


def test_rendering_leaves_the_caches_alone():
    recipe = scene(3)
    before = places.place(recipe.place, recipe.variant).copy()
    recipe.render()
    assert (places.place(recipe.place, recipe.variant) == before).all()
    with pytest.raises(ValueError, match="read-only"):
        places.place(recipe.place, recipe.variant)[0, 0, 0] = 1


def test_every_object_has_a_sprite_in_every_style_and_fills_its_square():
    for style in sprites.styles():
        for name in NAMES:
            alpha = sprites.sprite(name, 128, style)[..., 3]
            x0, y0, x1, y1 = sprites.extent(name, 128, style)
            assert max(x1 - x0, y1 - y0) >= 120, (style, name)
            assert (alpha > 63).mean() > 0.1, (style, name)
    assert len(NAMES) == len(set(NAMES)) >= 50


def test_styles_differ():
    for name in NAMES:
        looks = [sprites.sprite(name, 64, style).astype(int) for style in sprites.styles()]
        assert all(np.abs(a - b).mean() > 3 for i, a in enumerate(looks) for b in looks[:i]), name


@pytest.mark.parametrize("style", sprites.styles())
@pytest.mark.parametrize("turn", [0, 12])
def test_boxes_are_tight(style, turn):
    """Where nothing throws a shadow, an object changes its box and hardly anything outside it."""
    for name in NAMES[::5]:
        thing = Placed(name, 24, 32, 64, style, True, turn)
        x0, y0, x1, y1 = thing.box
        there = changed(Recipe("sky", 0, (thing,)), Recipe("sky", 0, ()))
        seen = there > 0
        inside = np.zeros_like(seen)
        inside[y0:y1, x0:x1] = True
        assert there[~inside].sum() < 0.01 * there.sum()
        alpha = sprites.sprite(*thing.look)[..., 3] > 63
        for edge in (alpha[y0 - 32], alpha[y1 - 33], alpha[:, x0 - 24], alpha[:, x1 - 25]):
            assert edge.any()


def test_flip_and_turn():
    plain = sprites.sprite("car", 64, "fluent")
    assert np.abs(sprites.sprite("car", 64, "fluent", True).astype(int) - plain[:, ::-1]).mean() < 1
    assert np.abs(sprites.sprite("car", 64, "fluent", False, 12).astype(int) - plain).mean() > 3


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


def test_recipes_change_one_thing():
    recipe = scene(11, count=2)
    other = recipe.replaced(0, "robot")
    thing = recipe.objects[0]
    assert other.objects[0] == replace(thing, name="robot") and other.objects[1:] == recipe.objects[1:]
    assert recipe.removed(0).objects == recipe.objects[1:]
    assert recipe.removed(0).added(thing).objects == (*recipe.objects[1:], thing)
    assert {o.style for o in recipe.styled(HELD_OUT_STYLE).objects} == {HELD_OUT_STYLE}
    assert recipe.on("marble", 3).objects == recipe.objects
    assert recipe.to_dict()["caption"] == recipe.caption()


def test_seeds_are_split():
    assert not set(VALIDATION_SEEDS) & set(TEST_SEEDS)
    assert VALIDATION_SEEDS[0] == 300_000 and TEST_SEEDS[0] == 400_000
    assert HELD_OUT_SEEDS[-1] < TRAINING_SEEDS[0]
    assert {*VALIDATION_SEEDS[:5], *TEST_SEEDS[-5:]} <= set(HELD_OUT_SEEDS)


def recipes_of_trainings() -> list[Recipe]:
    """Scenes that the trainings' own functions draw."""
    found = vae.recipes(5, 100)
    found += [judge.example(Random(f"a {i}"))[0] for i in range(100)]
    found += [r for i in range(50) for r in dino.recipes(Random(f"b {i}"))[:2]]
    found += [clip.example(Random(f"c {i}"))[0] for i in range(100)]
    for i in range(200):
        one = inpainting.example(Random(f"d {i}"), 96 if i % 2 else SIZE)
        found.append(one.recipe.added(one.thing) if one.thing else one.recipe)
    return found


def test_what_is_held_out_is_in_no_training():
    found = recipes_of_trainings()
    assert {o.style for r in found for o in r.objects} == set(STYLES)
    assert {r.place for r in found} == set(PLACES)
    assert not set(PLACES) & set(HELD_OUT_TEXTURES) and HELD_OUT_STYLE not in STYLES
    assert HELD_OUT_STYLE not in STYLE_WORDS


def test_no_batch_opens_a_held_out_file(monkeypatch):
    """The batch functions themselves, pixels and all."""
    plain, ground = sprites.sprite, places.place

    def watched(name, size, style, *rest):
        assert style != HELD_OUT_STYLE
        return plain(name, size, style, *rest)

    def watched_place(name, variant):
        assert name not in HELD_OUT_TEXTURES
        return ground(name, variant % 2)

    monkeypatch.setattr("tiny_world.two.scenes.sprite", watched)
    monkeypatch.setattr("tiny_world.two.scenes.place", watched_place)
    assert vae.batch(1, 8, 64).shape == (8, 3, 64, 64)
    assert judge.batch(1, 8)[0].shape == (8, 3, 64, 64)
    assert [v.shape[1:3] for v in dino.views(1, 4)] == [(4, 3)] * 2
    assert clip.batch(1, 8)[0].shape == (8, SIZE, SIZE, 3)
    inpainting.prepare(vae.build().eval(), 4, 96, "test", "cpu")


def test_styles_are_drawn_evenly_for_the_editor_and_half_are_named():
    many = [inpainting.example(Random(f"even {i}")) for i in range(600)]
    drawn = [e for e in many if e.thing]
    for style in STYLES:
        assert 0.26 < sum(e.thing.style == style for e in drawn) / len(drawn) < 0.41
    named = [e for e in drawn if set(e.prompt.replace(".", "").split()) & set(STYLE_WORDS.values())]
    assert 0.4 < len(named) / len(drawn) < 0.6
    assert all(STYLE_WORDS[e.thing.style] in e.prompt for e in named)


def test_the_editor_sees_nothing_of_the_answer():
    """Before and after differ inside the mask alone, shadow included, and the new object is whole."""
    whole = 0
    for i in range(60):
        one = inpainting.example(Random(f"leak {i}"))
        before, after = one.pictures()
        box = one.mask()[..., None] > 0
        assert (np.where(box, 0, before) == np.where(box, 0, after)).all()
        whole += one.thing is None or judge.overlap_share(one.thing.box, one.box) == 1
    assert whole >= 58


def test_fade_is_zero_at_edges_but_not_at_the_border():
    soft = inpainting.fade((0, 40, 60, 128))
    assert soft[39].max() == 0 and soft[:, 60].max() == 0
    assert soft[80, 0] == 1 and soft[127, 30] == 1 and soft[40, 30] < 0.1


def test_every_word_is_a_token_and_the_demo_prompts_are_known():
    text = tokenizer.build()
    for word in words.vocabulary():
        assert len(text(word).input_ids) == 3, word
    known = set(words.vocabulary()) | {"3D"}
    for i in range(300):
        rng = Random(f"words {i}")
        name, place = rng.choice(NAMES), rng.choice([*PLACES, *HELD_OUT_TEXTURES])
        for said in (words.prompt_for(name, place, rng, rng.choice((*STYLES, None))), words.prompt_for_place(place, rng),
                     words.caption([name, "cat"], place, rng)):
            assert set(said.replace(".", " .").split()) <= known, said
    assert text("a 3D wolf").input_ids == text("a 3d wolf").input_ids
    assert text.unk_token_id not in text("a 3D wolf").input_ids[1:-1]
    for prompt in ("a big tree with many flowers in the center", "soft drink", "a rabbit with white fur",
                   "a white cow standing in the snow"):
        assert set(prompt.split()) <= known
    assert set(PHRASES) <= set(OBJECTS)


def test_captions_do_not_name_unknown_textures():
    recipe = scene(5).on("gravel")
    assert "ground" in recipe.caption() and "gravel" not in recipe.caption()
    assert Recipe("marble", 0, ()).caption() == "empty ground"


def test_clip_truth():
    _, texts, truth = clip.batch(3, 40)
    assert truth.diagonal().all()
    assert truth.float().mean() < 0.2
    assert len(texts) == 40


def test_augmentation_keeps_range_and_repeats():
    crops = torch.rand(4, 3, 64, 64)

    def look() -> torch.Tensor:
        lots = Lots(4, 9)
        return worn(recoloured(bent(crops, lots), lots), lots)

    assert torch.equal(look(), look())
    assert look().min() >= 0 and look().max() <= 1
    assert not torch.equal(look(), crops)


def test_cases_for_edits():
    for kind in ("empty", "replace"):
        for recipe, box, name in cases(kind, 20, "held-out textures"):
            assert recipe.place in HELD_OUT_TEXTURES
            assert name not in {o.name for o in recipe.objects}
            inside = [o for o in recipe.objects if judge.overlap_share(o.box, box) > 0.9]
            assert (len(inside) >= 1) == (kind == "replace")


def test_groups_use_known_and_held_out_hands():
    recipe = scene(TEST_SEEDS[3])
    assert {o.style for o in GROUPS["held-out style"](recipe, 3).objects} == {HELD_OUT_STYLE}
    assert GROUPS["held-out textures"](recipe, 3).place in HELD_OUT_TEXTURES
    assert GROUPS["training styles"](recipe, 3) == recipe
    assert square(Placed("cat", 0, 0, 40)) == (0, 0, 46, 46)


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    """Every part trained for one step at a tiny size, then resumed for another."""
    folder = tmp_path_factory.mktemp("two")
    for steps in ("1", "2"):
        main(["train", "--part", "critic", "wide_vae", "vae", "judge", "dino", "clip", "--steps", steps, "--batch", "2",
              "--runs", str(folder / "runs"), "--output", str(folder / "zoo")])
        inpainting.run(folder / "runs" / "inpainting", folder / "zoo", int(steps), 2, "cpu", shelves=1, examples=8)
    main(["train", "--part", "decoder", "--steps", "1", "--batch", "2", "--runs", str(folder / "runs"),
          "--output", str(folder / "zoo")])
    return folder


def test_trainings_resume(zoo):
    for part in ("critic", "wide_vae", "vae", "judge", "dino", "clip", "inpainting"):
        log = (zoo / "runs" / part / "log.jsonl").read_text().splitlines()
        assert ['"step": 1,' in log[0], '"step": 2,' in log[-1]] == [True, True], part
        assert torch.load(zoo / "runs" / part / "last.pt", weights_only=True)["step"] == 2


def latents_after(zoo, *changes) -> torch.Tensor:
    """Of eight pictures, after changes of the latents' basis, which must leave the pictures as they are."""
    book = vae.AutoencoderKL.from_pretrained(zoo / "runs" / "wide_vae" / "averaged", torch_dtype=torch.float32).eval()
    images = vae.batch(-1, 8, SIZE)
    with torch.no_grad():
        before = book.decode(book.encode(images).latent_dist.mode()).sample
        for change in changes:
            change(book, images)
        latents = book.encode(images).latent_dist.mode()
        assert (before - book.decode(latents).sample).abs().max() < 1e-3
    return latents


def test_whitened_latents(zoo):
    latents = latents_after(zoo, vae.whiten)
    assert latents.mean((0, 2, 3)).abs().max() < 0.01 and (latents.std((0, 2, 3)) - 1).abs().max() < 0.01


def test_the_basis_of_the_latents_tells_directions_apart(zoo):
    """Directions are not correlated, and none drowns the others."""
    book = vae.AutoencoderKL.from_pretrained(zoo / "zoo" / "wide", torch_dtype=torch.float32).eval()
    images = vae.batch(-1, 8, SIZE)
    matrix, mean = vae.basis(book, images)
    with torch.no_grad():
        latents = book.encode(images).latent_dist.mode() - mean[:, None, None]
    flat = torch.einsum("kc,nchw->nkhw", matrix, latents).permute(1, 0, 2, 3).flatten(1)
    deviations = flat.std(1, correction=0)
    assert flat.mean(1).abs().max() < 0.02 and float(deviations.square().mean()) == pytest.approx(1, abs=0.02)
    assert (torch.corrcoef(flat) - torch.eye(len(flat))).abs().max() < 0.05


def test_a_narrowed_autoencoder_says_what_the_wide_one_does(zoo):
    """With all directions kept, the decoder is given the same; with fewer, the latents are whitened."""
    wide = vae.AutoencoderKL.from_pretrained(zoo / "zoo" / "wide", torch_dtype=torch.float32).eval()
    images = vae.batch(-1, 8, SIZE)
    with torch.no_grad():
        # All that the decoder takes in is there, but for its border, which is padded with other zeros.
        same = vae.narrow(wide, images, vae.WIDE)
        mine, theirs = (a.decoder.conv_in(a.post_quant_conv(a.encode(images).latent_dist.mode())) for a in (same, wide))
        assert torch.allclose(mine[:, :, 1:-1, 1:-1], theirs[:, :, 1:-1, 1:-1], atol=1e-3)
        few = vae.narrow(wide, images)
        latents = few.encode(images).latent_dist.mode()
    assert few.config.latent_channels == vae.CHANNELS == latents.shape[1]
    assert latents.mean((0, 2, 3)).abs().max() < 0.02 and (latents.std((0, 2, 3)) - 1).abs().max() < 0.02


def test_noise_is_in_proportion_to_the_latents():
    latents = torch.randn(64, 2, 16, 16, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 50.0])[:, None, None]
    noise = vae.noisy(latents, torch.Generator().manual_seed(1)) - latents
    each = noise.std((2, 3)) / torch.tensor([1.0, 50.0])
    assert 0.1 < each.mean() < 0.2 and each.max() < 1.1 * vae.NOISE
    assert (each[:, 0] / each[:, 1] - 1).abs().max() < 0.3


def test_evaluate_measures_every_part(zoo, capsys, monkeypatch):
    monkeypatch.setitem(PARTS, "editor", (PARTS["editor"][0], partial(evaluate_editor, steps=1)))
    metrics = evaluate(zoo / "zoo", None, 6, 2, zoo / "METRICS.json", zoo / "pictures")
    assert {"judge", "vae", "clip", "dino", "editor", "megabytes"} == set(metrics)
    assert "held-out style" in capsys.readouterr().out
    assert (zoo / "pictures" / "edits by seed and style.png").exists()


def test_assets_are_licensed():
    text = (DATA / "LICENSES.md").read_text()
    for what in (*sprites.styles(), "grass", "brick", "gravel", "fur"):
        assert what in text
    assert sum(f.stat().st_size for f in DATA.rglob("*") if f.is_file()) < 4_000_000


def test_random_recipe_refuses_unknown_combinations():
    with pytest.raises(ValueError, match="combinations"):
        random_recipe(Random(0), combinations="some")
