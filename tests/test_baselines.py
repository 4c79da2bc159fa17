"""Other editors and region choosers: every row from stored checkpoints to the edited picture, its cost counted."""

import importlib
import shutil
from copy import copy
from dataclasses import replace
from inspect import signature
from pathlib import Path

import pytest
import random_parts
import torch
from predictors import with_predictor
from safetensors.torch import load_file
from torch.nn import functional as F

from lr_helpers import METHODS, UserError, edit, load_models
from lr_helpers.baselines import ACROSS, BASELINES, Parts, Request, load_baseline, settings_of
from lr_helpers.baselines.diffusion import TrueLengths
from lr_helpers.baselines.regions import bounding_box
from lr_helpers.baselines.wording import adds, instruction
from lr_helpers.boxes import box_mask, iou
from lr_helpers.costs import random_weights
from lr_helpers.editing import FEATHER
from lr_helpers.files.paths import DATA
from lr_helpers.files.pictures import paste_back, to_image
from lr_helpers.models.profiles import PROFILES, Extra, get_profile
from lr_helpers.study.tasks import TEST, task

SMALL = METHODS["learned"].but(anchors=3, sizes=(0.4, 0.6), iterations=3, steps=2, shortlist=4)
KNOWN = (8, 8, 41, 40)
QUICK = {  # settings under which a row takes a second
    "fast": {"method": METHODS["fast"].but(screening_steps=2)},
    "ledits_pp": {"steps": 6}, "grounding_dino": {"threshold": 0.0}, "grounded_sam": {"threshold": 0.0},
    "sam3": {"threshold": 0.2}, "sam3_mask": {"threshold": 0.2},
    "learned": {"method": SMALL}, "exhaustive": {"method": SMALL},
    "straight_through": {"method": SMALL.but(estimator="straight_through")},
    "reinforce": {"method": SMALL.but(estimator="reinforce")}, "paper": {"method": METHODS["paper"].but(anchors=2, iterations=2, steps=2)},
    "official_code": {"method": METHODS["official_code"].but(anchors=2, iterations=2, steps=2)}}
WORLDS = ("tiny", "sd15", "sd2")
DENOISERS = ("sdedit", "diffedit", "instruct_pix2pix", "ledits_pp")
WHOLE_FRAME = (*DENOISERS, "whole_picture")
"""Rows that leave no pixel as it was."""
CHOOSERS = ("random_anchors", "random_sizes", "official_code", "paper", "straight_through", "reinforce", "learned",
            "fast", "exhaustive", "edit_free")
"""Rows that edit as many boxes as they need."""


@pytest.fixture(scope="session")
def worlds(tmp_path_factory):
    """By profile: its models at three steps, and random parts beside them, loaded from files."""
    found = {}
    for name in WORLDS:
        root = tmp_path_factory.mktemp(name)
        tiny = replace(get_profile("tiny"), steps=3)
        profile = tiny if name == "tiny" else replace(random_weights.write(name, root), size=128)
        loaded = with_predictor(load_models(profile, device="cpu"), root / "regions.safetensors")
        profile = replace(loaded.profile, comparison=random_parts.write(name, root / "parts"))
        found[name] = loaded, Parts(profile, loaded)
    return found


@pytest.fixture
def load(worlds):
    """Loads a row of a world under QUICK settings."""
    def load(name: str, world: str = "tiny", **settings):
        models, parts = worlds[world]
        return load_baseline(name, parts.profile, models, parts=parts, **{**QUICK.get(name, {}), **settings})
    return load


def run(baseline, one, seed: int = 0):
    """The task by this row; the known region, where it wants one, is KNOWN."""
    return baseline(one.picture, one.source, one.prompt, seed, known=KNOWN)


@pytest.fixture(scope="session")
def one():
    """A task whose object stands alone."""
    return task("replace", TEST)


@pytest.fixture(scope="session")
def copies(worlds, one):
    """What the autoencoder makes of the task's picture, by world."""
    found = {}
    with torch.no_grad():
        for name, (_, parts) in worlds.items():
            vae = parts.text_to_image.pipeline.vae
            found[name] = (vae.decode(vae.encode(one.picture[None] * 2 - 1).latent_dist.mode()).sample / 2 + 0.5)[0]
    return {name: picture.clamp(0, 1) for name, picture in found.items()}


def psnr(a, b) -> float:
    return float(-10 * (a - b).square().mean().log10())


def sentence(error) -> str:
    text = str(error.value)
    assert "\n" not in text
    assert text.endswith(".")
    return text


# Every row, whole


def expected(name: str, world: str, steps: int) -> int | None:
    """Denoiser evaluations by the formula; PNDM (text-to-image Stable Diffusion) makes one step twice. None: not so
    simple."""
    twice = 1 if world != "tiny" else 0
    strong = int(0.8 * steps)
    return {"sdedit": 2 * (strong + twice), "diffedit": 4 * 10 + strong + 2 * strong, "instruct_pix2pix": 3 * steps,
            "ledits_pp": steps + 3 * steps, "edit_free": 2 * steps, **dict.fromkeys(CHOOSERS[:-1])}.get(name, 2 * steps)


@pytest.mark.parametrize(("name", "world"), [
    (name, world) for name, row in BASELINES.items() for world in WORLDS
    if world == "sd15" or row.family == "editor"])  # the others differ in the inpainting editor only
def test_a_row_from_its_files_to_the_picture(name, world, load, one, worlds):
    models = worlds[world][0]
    settings = QUICK.get(name, {})
    baseline = load(name, world)
    assert baseline.row is BASELINES[name]
    image = one.picture
    first, other, again = (run(baseline, one, seed) for seed in (1, 2, 1))

    assert first.picture.shape == (3, 128, 128)
    assert first.picture.dtype == torch.float32
    assert first.picture.min() >= 0
    assert first.picture.max() <= 1
    assert first.picture.std() > 0
    assert torch.equal(first.picture, again.picture)
    assert not torch.equal(first.picture, other.picture)
    assert first.seconds > 0

    wanted = expected(name, world, settings.get("steps", models.profile.steps))
    assert first.evaluations == again.evaluations > 0
    if wanted is not None:
        assert first.evaluations == wanted

    if name in ("sdedit", "instruct_pix2pix", "ledits_pp", "whole_picture"):
        assert first.region is None and first.box is None
    else:
        assert first.region.shape == (128, 128)
        assert set(first.region.unique().tolist()) <= {0.0, 1.0}
        assert first.region.any()
        assert torch.equal(first.region, again.region)
    if name not in WHOLE_FRAME:
        painted = box_mask(first.painted, 128, 128)[0] if first.painted else first.region
        assert (painted >= first.region).all() and (first.painted is not None) == (name in ACROSS)  # they have a margin
        outside = painted == 0
        assert torch.equal(first.picture[:, outside], image[:, outside])
        assert not torch.equal(first.picture[:, ~outside], image[:, ~outside])


@pytest.mark.parametrize("name", BASELINES)
def test_steps_are_the_price(name, load, one):
    more = {"ratio": 1.0} if name == "diffedit" else {}  # a mask that is never empty
    for steps in (2, 5):
        evaluations = run(load(name, "sd15", steps=steps, **more), one).evaluations
        wanted = expected(name, "sd15", steps)
        if wanted is not None:
            assert evaluations == wanted
        else:  # so many candidates of two steps, and a full edit where that has more
            full = 0 if steps == 2 else 2 * steps
            assert (evaluations - full) % (2 * 2) == 0
            assert evaluations > full


def test_a_copy_of_an_editor_counts_too(worlds, one):
    editor = worlds["sd15"][0].editor
    other, before = copy(editor), editor.evaluations
    other.steps = 2
    other.edit(one.picture, [(0, 0, 32, 32)], "a cat", seed=0)
    assert editor.evaluations == other.evaluations == before + 2 * 2


@pytest.mark.parametrize("name", BASELINES)
def test_the_library_has_the_class_that_a_row_names(name):
    for library in filter(None, BASELINES[name].library.split(", ")):
        if "." in library:
            module, _, kind = library.rpartition(".")
            assert callable(getattr(importlib.import_module(module), kind))


def test_the_denoising_rows_use_these_classes(worlds):
    parts = worlds["sd15"][1]
    used = {"sdedit": parts.text_to_image.pipeline, "diffedit": parts.text_to_image._diffedit,
            "ledits_pp": parts.text_to_image._ledits, "instruct_pix2pix": parts.instruct.pipeline}
    for name, pipeline in used.items():
        assert BASELINES[name].library == f"diffusers.{type(pipeline).__name__}"
    assert parts.text_to_image._diffedit.unet is parts.text_to_image._ledits.unet is parts.text_to_image.pipeline.unet


@pytest.mark.parametrize("name", BASELINES)
def test_every_setting_is_documented(name):
    for setting, (_, meaning) in settings_of(name).items():
        assert meaning, f"{name}: {setting}"
        assert setting in signature(BASELINES[name].make).parameters
    assert all(settings_of(name)[k][0] == v for k, v in BASELINES[name].settings.items())


# The editors


def test_sdedit_keeps_the_picture_the_nearer_the_weaker(load, one, copies):
    near = [psnr(load("sdedit", strength=s, steps=12)(one.picture, one.source, one.prompt, 0).picture, copies["tiny"])
            for s in (0.09, 0.5, 1.0)]
    assert near[0] > near[1] + 1 > near[2] + 2
    assert near[0] > 20


def test_diffedit_keeps_the_background_up_to_the_autoencoder(load, one, copies):
    """Its pipeline ends the background on the first inverted latents, which must be almost clean."""
    edited = load("diffedit", maps=4, steps=12, ratio=3.0, guidance=2.5)(one.picture, one.source, one.prompt, 0)
    far = F.max_pool2d(edited.region[None], 33, 1, 16)[0] == 0
    assert 0 < edited.region.mean() < 0.1
    assert psnr(edited.picture[:, far], copies["tiny"][:, far]) > 45


def test_diffedit_without_a_difference_changes_nothing(load, one):
    edited = load("diffedit", ratio=90.0, maps=2)(one.picture, one.source, one.prompt, 0)
    assert torch.equal(edited.picture, one.picture)
    assert not edited.region.any()
    assert edited.evaluations == 4 * 2


def test_diffedit_masks_whole_latents(load, one):
    region = load("diffedit", maps=2)(one.picture, one.source, one.prompt, 0).region
    cells = region.reshape(16, 8, 16, 8).permute(0, 2, 1, 3).flatten(2)
    assert torch.equal(cells.amin(2), cells.amax(2))


def test_ledits_inverts(load, one, copies):
    """Steered nowhere, it gives the autoencoder's copy back, be the network as it may."""
    edited = load("ledits_pp", steps=20, guidance=0.0, away_guidance=0.0)(one.picture, one.source, one.prompt, 0)
    assert psnr(edited.picture, copies["tiny"]) > 28


def test_ledits_leaves_the_shared_network_as_it_was(load, one):
    sdedit, ask = load("sdedit"), (one.picture, one.source, one.prompt, 3)
    before = sdedit(*ask).picture
    load("ledits_pp")(*ask)
    assert torch.equal(sdedit(*ask).picture, before)


def test_ledits_does_not_steer_away_from_a_place(load, one):
    assert load("ledits_pp")(one.picture, "grass", "a cat on the grass", 0).evaluations == 6 + 2 * 6


def test_ledits_attends_to_words_not_to_padding(worlds, one, load):
    for world, length in (("tiny", 32), ("sd15", 77)):
        tokenizer = worlds[world][1].text_to_image.pipeline.tokenizer
        ask = {"padding": "max_length", "max_length": length, "truncation": True, "return_tensors": "pt",
               "return_length": True}
        found = TrueLengths(tokenizer)(["a cat", "a red balloon in the sky"], **ask)
        assert found.length.tolist() == [2 + 2, 6 + 2]
        assert found.input_ids.shape == (2, length)
    baseline = load("ledits_pp")
    pipeline = baseline.parts.text_to_image._ledits
    ours, wrapped = baseline(one.picture, one.source, one.prompt, 0).picture, pipeline.tokenizer
    pipeline.tokenizer = wrapped.tokenizer
    try:
        assert not torch.equal(baseline(one.picture, one.source, one.prompt, 0).picture, ours)
    finally:
        pipeline.tokenizer = wrapped


def test_the_instruction_decides(load, one):
    ask = one.picture, one.source, one.prompt, 0
    said = load("instruct_pix2pix")(*ask).picture
    assert torch.equal(load("instruct_pix2pix", replace="turn the {source} into {prompt}")(*ask).picture, said)
    assert not torch.equal(load("instruct_pix2pix", replace="replace {source} by {prompt}")(*ask).picture, said)
    assert torch.equal(load("instruct_pix2pix", add="put {prompt}")(*ask).picture, said)
    told = load("instruct_pix2pix")(*ask, instruction=f"replace {one.source} by {one.prompt}").picture
    assert torch.equal(load("instruct_pix2pix", replace="replace {source} by {prompt}")(*ask).picture, told)


@pytest.mark.parametrize(("source", "prompt", "said"), [
    ("wolf", "a mushroom", "turn the wolf into a mushroom"),
    ("the wolf", "a mushroom.", "turn the wolf into a mushroom"),
    ("An owl", "a mushroom", "turn the owl into a mushroom"),
    ("trees", "a big tree with many flowers in the center", "turn the trees into a big tree with many flowers in the center"),
    ("grass", "a cat on the grass", "add a cat on the grass"),
    ("night", "a cat at night", "add a cat at night"),
    ("the river", "a boat along the river", "add a boat along the river"),
    ("wall", "a ladder against the wall", "add a ladder against the wall"),
    ("the table", "a wooden cabinet on top of the table", "add a wooden cabinet on top of the table"),
    ("mountain", "a wooden bridge in front of the mountain", "add a wooden bridge in front of the mountain"),
    ("flowers", "a bouquet of flowers", "turn the flowers into a bouquet of flowers"),
    ("cat", "a cat wearing sunglasses", "turn the cat into a cat wearing sunglasses"),
    ("a", "a cat", "turn the a into a cat"),
    ("c++ (x)", "a cat", "turn the c++ (x) into a cat")])
def test_instructions(source, prompt, said):
    assert instruction(source, prompt) == said
    assert adds(source, prompt) == said.startswith("add")


@pytest.mark.parametrize("name", DENOISERS)
def test_half_precision(name, worlds, one):
    models, parts = worlds["sd15"]
    half = Parts(parts.profile, models)
    baseline = load_baseline(name, parts.profile, models, parts=half, **QUICK.get(name, {}))
    baseline.counted.pipeline.to(torch.bfloat16)
    edited = baseline(one.picture, one.source, one.prompt, 0)
    assert edited.picture.dtype == torch.float32
    assert edited.picture.isfinite().all()
    assert edited.picture.std() > 0


def test_nothing_is_printed(worlds, one, capfd):
    models, parts = worlds["sd15"]
    fresh = Parts(parts.profile, models)
    for name in ("sdedit", "diffedit", "ledits_pp", "clipseg", "grounded_sam", "sam3"):
        load_baseline(name, parts.profile, models, parts=fresh, **QUICK.get(name, {}))(one.picture, one.source, one.prompt, 0)
    out, err = capfd.readouterr()
    assert out == ""
    assert err == ""


# Regions


def test_the_bounding_box():
    mask = torch.zeros(8, 8)
    assert not bounding_box(mask).any()
    mask[2, 3] = mask[5, 4] = 1
    assert torch.equal(bounding_box(mask), box_mask((3, 2, 5, 6), 8, 8)[0])


@pytest.mark.parametrize(("box", "mask"), [("clipseg", "clipseg_mask"), ("patch_similarity", "patch_similarity_mask"),
                                           ("sam3", "sam3_mask")])
def test_a_box_is_the_smallest_around_the_mask(box, mask, load, one):
    found = [load(name)(one.picture, one.source, one.prompt, 0).region for name in (box, mask)]
    assert torch.equal(found[0], bounding_box(found[1]))
    assert found[0].sum() > found[1].sum()


@pytest.mark.parametrize(("name", "setting"), [("clipseg", {"threshold": 1.0}), ("grounded_sam", {"threshold": 1.0}),
                                               ("sam3", {"threshold": 1.0})])
def test_where_nothing_is_found_nothing_is_edited(name, setting, load, one):
    edited = load(name, **setting)(one.picture, one.source, one.prompt, 0)
    assert torch.equal(edited.picture, one.picture)
    assert not edited.region.any()
    assert edited.evaluations == 0


def test_a_detection_is_a_box_in_pixels(worlds, one):
    detector = worlds["sd15"][1].grounding_dino
    boxes = detector.boxes(one.picture, "A wolf. On the grass.", 0.0)
    assert boxes.shape == (20, 4)
    assert boxes.min() >= 0
    assert boxes.max() <= 128
    assert (boxes[:, 2:] >= boxes[:, :2]).all()
    counts = []
    for threshold in (0.3, 0.5, 0.7, 1.0):
        kept = detector.boxes(one.picture, "A wolf. On the grass.", threshold)
        assert torch.equal(kept, boxes[:len(kept)])
        counts.append(len(kept))
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] == 0


def test_sam_cuts_out_what_is_in_any_box(worlds, one):
    sam = worlds["sd15"][1].sam
    boxes = torch.tensor([[4.0, 4, 30, 30], [20, 20, 60, 60]])
    each = [sam.mask(one.picture, box[None]) for box in boxes]
    assert torch.equal(sam.mask(one.picture, boxes), each[0] | each[1])


def test_sam_3_takes_every_instance_of_its_score(worlds, one):
    """The detector within the published model for videos; what the processor gives, put together."""
    sam3 = worlds["sd15"][1].sam3
    inputs = sam3._inputs(one.picture, text="wolf")
    with torch.no_grad():
        found = sam3.model(**inputs)
    scores = found.pred_logits.sigmoid()[0] * found.presence_logits.sigmoid()[0]
    middle = float(scores.sort().values[5:7].mean())
    masks = torch.nn.functional.interpolate(found.pred_masks.sigmoid(), size=one.picture.shape[1:], mode="bilinear")[0] > 0.5
    assert torch.equal(sam3.mask(one.picture, "wolf", middle), masks[scores > middle].any(0))
    assert 0 < (scores > middle).sum() < len(scores)
    assert not sam3.mask(one.picture, "wolf", 1.0).any()


def test_sam_3_leaves_its_tracker_behind(worlds):
    origin = worlds["sd15"][1].profile.comparison["sam3"].origins[0]
    stored, loaded = load_file(f"{origin}/model.safetensors"), worlds["sd15"][1].sam3.model.state_dict()
    assert {name for name in stored if name.startswith("detector_model.")} == {f"detector_model.{name}" for name in loaded}
    assert any(name.startswith("tracker_") for name in stored)
    assert all(torch.equal(stored[f"detector_model.{name}"], values) for name, values in loaded.items())


def test_the_source_decides_the_region(load, one):
    similarity = load("patch_similarity").similarity
    assert not torch.allclose(similarity(one.picture, "wolf"), similarity(one.picture, "grass"), atol=0.01)
    heat = load("clipseg").parts.clipseg.heat
    assert not torch.equal(heat(one.picture, "wolf"), heat(one.picture, "grass"))


def test_a_long_source_is_cut_not_refused(load, one):
    for name in ("clipseg", "grounded_sam", "sam3", "sdedit", "diffedit", "ledits_pp", "instruct_pix2pix",
                 "patch_similarity"):
        assert load(name, "sd15")(one.picture, "a wolf and " * 150, "a cat and " * 150, 0).picture.isfinite().all()


def test_patches_know_their_place_by_their_values_only(load):
    """On held-out scenes of the emoji world; chance is about 0.2."""
    tasks = [task("replace", TEST + i) for i in range(40)]
    means = {}
    for path in ("value", "last"):
        baseline = load("patch_similarity", path=path)
        overlaps = []
        for t in tasks:
            region = bounding_box(baseline.region(Request(t.picture, t.source, t.prompt)))
            rows, columns = region.any(1).nonzero()[:, 0], region.any(0).nonzero()[:, 0]
            box = torch.tensor([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
            overlaps.append(float(iou(box, torch.tensor(t.truth))))
        means[path] = sum(overlaps) / len(overlaps)
    assert means["value"] > 0.4
    assert means["last"] < 0.3


def test_the_known_region(load, one):
    ask = one.picture, one.source, one.prompt, 0
    box = load("known_region")(*ask, known=one.truth)
    assert torch.equal(box.region, box_mask(one.truth, 128, 128)[0]) and box.box == one.truth
    mask = load("known_region")(*ask, known=box.region)
    assert torch.equal(mask.picture, box.picture)
    cut = box.region.clone()
    cut[one.truth[1], one.truth[0]] = 0  # a corner
    assert torch.equal(load("known_region")(*ask, known=cut).region, cut)
    assert torch.equal(load("known_region", shape="box")(*ask, known=cut).picture, box.picture)


# Our own choosers


def test_learned_is_the_edit(load, one, worlds):
    models = worlds["tiny"][0]
    edited = load("learned")(one.picture, one.source, one.prompt, 5)
    result = edit(models, to_image(one.picture), one.source, one.prompt, SMALL, 5, progress=False)
    assert torch.equal(edited.picture, result.candidates[0].picture)
    # The edges of the final picture are blended, for the eye.
    blended = paste_back(to_image(one.picture), edited.picture, result.box, FEATHER)
    assert blended.tobytes() == result.image.tobytes()
    assert torch.equal(edited.region, box_mask(result.box, 128, 128)[0]) and edited.box == result.box
    assert edited.evaluations == result.cost["denoiser_evaluations"] > 0


def test_a_tensor_is_taken_as_it_is(load, one):
    """Not through 8 bits: what an 8-bit picture can't hold reaches the method."""
    finer = (one.picture + 0.4 / 255).clamp(0, 1)
    edited = load("learned")(finer, one.source, one.prompt, 5)
    outside = edited.region == 0
    assert torch.equal(edited.picture[:, outside], finer[:, outside])


@pytest.mark.parametrize("name", [name for name in CHOOSERS if name not in ("edit_free", "fast")])  # fast edits in few steps
def test_a_chooser_pays_whole_edits_and_no_box_twice(name, load, one, worlds):
    editor, steps = worlds["tiny"][0].editor, load(name)._method.steps
    before = editor.evaluations
    edited = load(name)(one.picture, one.source, one.prompt, 42)
    assert edited.evaluations == editor.evaluations - before
    assert edited.evaluations % (steps * 2) == 0
    assert steps * 2 < edited.evaluations <= steps * 2 * load(name)._method.anchors * 7
    assert edited.trace == []  # nobody asked for it


def test_rows_share_edits_and_each_is_charged_as_if_it_were_alone(load, one, worlds):
    editor = worlds["tiny"][0].editor
    names = ("learned", "exhaustive", "reinforce", "learned")
    alone = [run(load(name), one) for name in names]
    before, request = editor.evaluations, Request(one.picture, one.source, one.prompt, 0)
    shared = [load(name).run(request) for name in names]
    made = editor.evaluations - before
    assert [e.evaluations for e in shared] == [e.evaluations for e in alone]
    assert made == shared[0].evaluations < sum(e.evaluations for e in shared)  # the shortlist, once
    for one_alone, one_shared in zip(alone, shared, strict=True):
        assert torch.equal(one_alone.picture, one_shared.picture)
    # The last one found everything made: what it is charged is more than the time that it took.
    (store,) = request.shared.edits.values()
    assert shared[-1].seconds > sum(store.seconds.values())


@pytest.mark.parametrize("name", ["learned", "straight_through", "reinforce", "paper", "official_code", "exhaustive"])
def test_a_trace_ends_with_the_choice_and_is_charged_to_nobody(name, load, one):
    plain = run(load(name), one)
    traced = load(name).run(Request(one.picture, one.source, one.prompt, 0, traced=True))
    assert (traced.box, traced.evaluations) == (plain.box, plain.evaluations)
    edits = plain.evaluations // (2 * load(name)._method.steps)
    assert traced.trace[-1] == (edits, plain.box)
    assert all(count <= edits for count, _ in traced.trace)


def test_what_is_random_hangs_on_the_name(load, one):
    row = load("random_anchors", steps=1)

    def box(name: str, seed: int = 0):
        return row.run(Request(one.picture, one.source, one.prompt, seed, name)).box

    first = box("a")
    assert box("a") == first != box("b")
    assert box("") == box(f"{one.source}, {one.prompt}, 0")


# The emoji world's own weights


@pytest.mark.parametrize("name", ["whole_picture", "patch_similarity", "patch_similarity_mask"])
def test_the_emoji_world_needs_no_further_weights(name, models, one):
    edited = load_baseline(name, "tiny", models)(one.picture, one.source, one.prompt, 42)
    seen = models.clip.encode_image(torch.stack([one.picture, edited.picture]))[0] @ models.clip.encode_text([one.prompt])[0]
    assert seen[1] > seen[0] + 0.05


@pytest.mark.parametrize("name", DENOISERS)
def test_the_shipped_miniatures(name, models, one):
    if not all((DATA / "tiny_world" / part).is_dir() for part in BASELINES[name].needs):
        pytest.skip("this miniature is not trained yet")
    edited = load_baseline(name, "tiny", models)(one.picture, one.source, one.prompt, 42)
    assert edited.picture.shape == (3, 128, 128)
    assert edited.evaluations > 0
    assert not torch.equal(edited.picture, one.picture)


# Sources and sizes


@pytest.mark.parametrize(("part", "make", "millions"), [
    ("clipseg", random_parts.clipseg, 150.7), ("grounding_dino", random_parts.grounding_dino, 172.3),
    ("sam", random_parts.sam, 93.7), ("sam3", random_parts.sam3, 859.9)])
def test_the_segmenters_have_the_published_sizes(part, make, millions):
    with torch.device("meta"):
        count = sum(p.numel() for p in make(reduced=False).parameters()) / 1e6
    assert round(count, 1) == millions
    assert PROFILES["sd2"].comparison[part].about.gigabytes == pytest.approx(count * 4e-3, abs=0.006)


@pytest.mark.parametrize(("profile", "part", "like", "channels"), [
    ("sd15", "text_to_image", "sd15", 4), ("sd2", "text_to_image", "sd2", 4), ("sd15", "instruct", "sd15", 8),
    ("sd2", "instruct", "sd15", 8)])
def test_the_denoisers_have_the_published_sizes(profile, part, like, channels):
    configs = random_weights.configurations(like)
    configs["unet"] = configs["unet"] | {"in_channels": channels}
    with torch.device("meta"):
        count = sum(p.numel() for n, c in configs.items() for p in random_weights.network(n, c).parameters()) / 1e6
    assert PROFILES[profile].comparison[part].about.gigabytes == pytest.approx(count * 4e-3, abs=0.006)


def test_every_part_has_a_licence_and_an_origin():
    for name in ("tiny", "sd2", "sd15"):
        comparison = get_profile(name).comparison
        assert set(comparison) == {"text_to_image", "instruct", "clipseg", "grounding_dino", "sam", "sam3"}
        for extra in comparison.values():
            assert extra.about.licence != "not stated"
            assert extra.origins
            assert not any(s.endswith((".bin", ".ckpt", ".pt")) for s in extra.origins)
    assert PROFILES["tiny"].comparison["instruct"].origins == (str(DATA / "tiny_world" / "instruct"),)


def test_parts_are_loaded_once_and_say_where_they_came_from(worlds, load):
    models, parts = worlds["sd15"]
    assert load("sdedit", "sd15").counted is load("diffedit", "sd15").counted is load("ledits_pp", "sd15").counted
    assert parts.origins["text_to_image"] == parts.profile.comparison["text_to_image"].origins[0]
    alone = load_baseline("sdedit", parts.profile, models)
    assert alone.counted is not parts.text_to_image


def test_the_emoji_denoisers_borrow_the_editors_vae(worlds):
    models, parts = worlds["tiny"]
    assert parts.text_to_image.pipeline.vae is models.editor.pipeline.vae
    assert parts.instruct.pipeline.vae is models.editor.pipeline.vae
    assert parts.text_to_image.pipeline.unet is not models.editor.pipeline.unet


# Errors


@pytest.mark.parametrize(("name", "settings", "said"), [
    ("sdedit", {"strength": 0.01}, "strength is 0.01, which leaves none of 3 steps; give 0.333 or more."),
    ("sdedit", {"strength": 1.5}, "strength is 1.5; give a value from 0.0 to 1.0."),
    ("sdedit", {"steps": 0}, "steps is 0; give a value from 1 to 1000."),
    ("diffedit", {"guidance": 1.0}, "the mask of DiffEdit needs more than 1"),
    ("diffedit", {"mask_strength": 0.0}, "mask_strength is 0, which leaves none"),
    ("diffedit", {"maps": 0}, "maps is 0"),
    ("instruct_pix2pix", {"image_guidance": 0.5}, "image_guidance is 0.5"),
    ("instruct_pix2pix", {"replace": "do {what}"}, "may hold {source} and {prompt} only"),
    ("ledits_pp", {"threshold": 2.0}, "threshold is 2.0"),
    ("clipseg", {"shape": "circle"}, "shape is 'circle'; choose from box, mask."),
    ("patch_similarity", {"path": "first"}, "path is 'first'"),
    ("learned", {"method": "best"}, "The method 'best' is unknown"),
    ("random_anchors", {"anchors": "few"}, "anchors is 'few'; choose from random, attended."),
    ("sdedit", {"strenght": 0.5}, "The method 'sdedit' has no setting 'strenght'; choose from steps, guidance, strength."),
    ("magic", {}, "The method 'magic' is unknown; choose from whole_picture, ")])
def test_wrong_settings(name, settings, said, load):
    with pytest.raises(UserError) as error:
        load(name, **settings)
    assert said in sentence(error)


@pytest.mark.parametrize(("known", "said"), [
    ((8, 8, 8, 20), "known is (8, 8, 8, 20); give 0 ≤ x0 < x1 ≤ 128"), ((8, 8, 129, 20), "give 0 ≤ x0 < x1 ≤ 128"),
    (None, "The known region is missing"), (torch.ones(3, 3), "give a mask of (128, 128)")])
def test_wrong_known_regions(known, said, load, one):
    with pytest.raises(UserError) as error:
        load("known_region")(one.picture, one.source, one.prompt, known=known)
    assert said in sentence(error)


def test_wrong_pictures_and_texts(load, one):
    baseline = load("sdedit")
    for image, source, prompt, seed, said in (
            (torch.rand(3, 32, 64), "wolf", "a cat", 0, "shape (3, 32, 64); sdedit edits (3, 128, 128)"),
            (one.picture * 255, "wolf", "a cat", 0, "give 0 to 1"),
            (one.picture + torch.nan, "wolf", "a cat", 0, "give 0 to 1"),
            (one.picture, "wolf", " ", 0, "The prompt is empty"),
            (one.picture, "", "a cat", 0, "The source is empty"),
            (one.picture, "wolf", "a cat", -1, "seed is -1")):
        with pytest.raises(UserError) as error:
            baseline(image, source, prompt, seed)
        assert said in sentence(error)


@pytest.mark.parametrize(("name", "profile", "said"), [
    ("sdedit", "sdxl", "The profile 'sdxl' has no text-to-image model"),
    ("instruct_pix2pix", "amused", "The profile 'amused' has no instruction-following model"),
    ("clipseg", "tiny", "CIDAS/clipseg-rd64-refined (not in the cache"),
    ("grounded_sam", "sd2", "IDEA-Research/grounding-dino-tiny (not in the cache"),
    ("instruct_pix2pix", "sd2", "timbrooks/instruct-pix2pix (not in the cache")])
def test_weights_that_cannot_be_had(name, profile, said, models, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError) as error:
        load_baseline(name, profile, models)
    assert said in sentence(error)
    assert "tiny', which is shipped" not in sentence(error)


def test_unfit_folders(worlds, tmp_path):
    models, parts = worlds["tiny"]
    known, c = parts.profile.comparison, models.editor.pipeline.vae.config.latent_channels
    (tmp_path / "pickled").mkdir()
    (tmp_path / "pickled" / "config.json").write_text("{}")
    (tmp_path / "pickled" / "pytorch_model.bin").write_bytes(b"")
    shutil.copytree(known["clipseg"].origins[0], tmp_path / "other")  # with another network's weights
    shutil.copy(Path(known["sam"].origins[0]) / "model.safetensors", tmp_path / "other")
    for name, part, extra, said in (
            ("sdedit", "text_to_image", known["instruct"], f"is no text-to-image model: its UNet takes {2 * c} channels, not {c}"),
            ("instruct_pix2pix", "instruct", known["text_to_image"], f"its UNet takes {c} channels, not {2 * c}"),
            ("sdedit", "text_to_image", replace(known["text_to_image"], borrows=()), "missing or damaged: vae/config.json"),
            ("sdedit", "text_to_image", Extra((str(tmp_path / "none"),)), "there is no such folder"),
            ("clipseg", "clipseg", Extra((str(tmp_path / "pickled"),)), "its weights are pickles"),
            ("clipseg", "clipseg", known["sam"], "missing or damaged: tokenizer"),
            ("clipseg", "clipseg", Extra((str(tmp_path / "other"),)), "weights are missing")):
        profile = replace(parts.profile, comparison={**known, part: extra})
        with pytest.raises(UserError) as error:
            load_baseline(name, profile, models)
        assert said in sentence(error)


def test_a_memory_that_does_not_suffice(load, one):
    baseline = load("sdedit")

    def refuse(module, args):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")

    hook = baseline.counted.pipeline.unet.register_forward_pre_hook(refuse)
    try:
        with pytest.raises(UserError) as error:
            baseline(one.picture, one.source, one.prompt, 0)
    finally:
        hook.remove()
    assert "does not hold one edit by sdedit" in sentence(error)
