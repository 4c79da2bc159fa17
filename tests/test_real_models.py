"""The real architectures, with random weights: true shapes at full size, and the whole method at reduced width."""

import warnings
from dataclasses import replace

import psutil
import pytest
import torch
from diffusers import DDIMScheduler
from PIL import Image

from lr_helpers import METHODS, EditResult, UserError, edit, load_models
from lr_helpers.costs import random_weights
from lr_helpers.inpainting import composite, count_evaluations
from lr_helpers.models.lora import Lora
from lr_helpers.models.pipelines import load_editor
from lr_helpers.models.profiles import get_profile
from tiny_world.scenes import scene

PROFILES = list(random_weights.FULL)
FAST = METHODS["learned"].but(anchors=3, sizes=(0.4, 0.6), iterations=3, steps=2, shortlist=4)


# Full size


@pytest.mark.parametrize(("profile", "millions"), [
    ("sd15", {"unet": 859.5, "vae": 83.7, "text_encoder": 123.1}),
    ("sd2", {"unet": 865.9, "vae": 83.7, "text_encoder": 340.4}),
    ("sdxl", {"unet": 2567.5, "vae": 83.7, "text_encoder": 123.1, "text_encoder_2": 694.7}),
    ("sd15_lcm", {"unet": 859.5, "vae": 83.7, "text_encoder": 123.1}),
    ("amused", {"transformer": 608.3, "vqvae": 146.2, "text_encoder": 123.7}),
    ("zimage", {"transformer": 6154.9, "vae": 83.8, "text_encoder": 4022.5})])
def test_the_architectures_have_the_published_sizes(profile, millions):
    found = {name: round(sum(p.numel() for p in network.parameters()) / 1e6, 1)
             for name, network in random_weights.networks(profile, device="meta").items()}
    assert found == millions
    part = get_profile(profile).parts["editor"]
    # Z-Image's transformer is stored in float32, the rest of it in bfloat16.
    widths = {"transformer": 4, "vae": 2, "text_encoder": 2} if profile == "zimage" else dict.fromkeys(
        millions, 2 if part.variant else 4)
    assert part.gigabytes == pytest.approx(sum(count * widths[name] for name, count in millions.items()) / 1e3, rel=0.01)


def test_the_lora_and_the_small_decoder_have_the_published_sizes():
    about = get_profile("sd15_lcm").parts
    changes = random_weights.lora(random_weights.networks("sd15_lcm", device="meta")["unet"])
    count = sum(values.numel() for values in changes.values()) / 1e6
    assert count == pytest.approx(67.5, abs=0.05)  # as its card says
    assert about["lora"].gigabytes == pytest.approx(count * 2e-3, rel=0.01)
    count = sum(p.numel() for p in random_weights.small_decoder("sd15_lcm").parameters()) / 1e6
    assert about["decoder"].gigabytes == pytest.approx(count * 4e-3, rel=0.01)


@pytest.mark.parametrize(("profile", "side", "millions"), [("sd2", 8, 85.8), ("sd15", 16, 85.8)])
def test_the_backbones_have_the_published_size(profile, side, millions):
    vit = random_weights.backbone(profile, device="meta")
    assert vit.config.patch_size == side
    assert sum(p.numel() for p in vit.parameters()) / 1e6 == pytest.approx(millions, abs=0.05)
    assert get_profile(profile).backbone[0].endswith(f"vitb{side}")


def test_clip_has_the_published_size():
    assert sum(p.numel() for p in random_weights.clip(device="meta").parameters()) / 1e6 == pytest.approx(149.6, abs=0.05)


def test_the_word_pieces_are_clips_own():
    words = random_weights.tokenizer()
    assert len(words) == 49408
    assert words("a white cow").input_ids == [49406, 320, 1579, 9706, 49407]


@pytest.mark.all
def test_one_denoiser_evaluation_at_full_size():
    """Stable Diffusion 2's UNet in float32 at 64×64 latents: shapes and memory are real."""
    if psutil.virtual_memory().available < 8e9:
        pytest.skip("less than 8 GB of memory are available")
    config = random_weights.configurations("sd2")["unet"]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        unet = random_weights.network("unet", config)
    before = psutil.Process().memory_info().rss
    assert before > 865.9e6 * 4
    with torch.inference_mode():
        noise = unet(torch.randn(1, 9, 64, 64), torch.tensor([500]), torch.randn(1, 77, 1024)).sample
    assert noise.shape == (1, 4, 64, 64)
    assert noise.isfinite().all()
    assert noise.std() > 0


# The whole method at reduced width


@pytest.fixture(scope="session")
def written(tmp_path_factory):
    """Each profile's checkpoints in the real file formats, by name."""
    root = tmp_path_factory.mktemp("real classes")
    found = {}
    for name in PROFILES:
        (root / name).mkdir()
        found[name] = random_weights.write(name, root / name)
    return found


@pytest.fixture(scope="session")
def loaded(written):
    return {name: load_models(profile, device="cpu") for name, profile in written.items()}


def evaluations(models, steps: int) -> int:
    """Of one edit with the profile's guidance."""
    return count_evaluations(1, steps, models.profile.guidance)


@pytest.mark.parametrize("name", PROFILES)
def test_the_whole_edit(name, loaded, tmp_path):
    models = loaded[name]
    side = random_weights.GRID
    features, attention = models.backbone.encode_image(torch.rand(3, 64, 64))
    assert features.shape == (24, side, side)
    assert attention.shape == (3, side, side)

    wide = Image.fromarray(scene(9, 1).render()).resize((150, 90))  # where every profile has two places
    a, b, c = (edit(models, wide, "wolf", "a rabbit", FAST, seed=s, progress=False) for s in (1, 1, 2))
    other = edit(models, wide, "wolf", "a red car", FAST, seed=1, progress=False)
    assert a.image.size == (150, 90)
    assert a.edits.shape[1:] == (2, 3, 64, 107)  # its own aspect
    assert a.loss.isfinite().sum() == a.cost["different_edits"] >= 4
    finished = 1 if models.profile.decoder else 0  # drafts, of which the winner is made anew
    assert a.cost["denoiser_evaluations"] == (a.cost["different_edits"] + finished) * evaluations(models, 2)
    assert a.record["profile"] == f"small {name}"
    assert a.warnings == []

    assert a.image.tobytes() == b.image.tobytes()
    assert torch.equal(a.edits.nan_to_num(), b.edits.nan_to_num())
    assert torch.equal(a.boxes, c.boxes)
    assert not torch.equal(a.edits.nan_to_num(), c.edits.nan_to_num())
    assert not torch.equal(a.edits.nan_to_num(), other.edits.nan_to_num())

    a.save(tmp_path / "out")
    assert EditResult.load(tmp_path / "out").record["origins"] == models.origins


@pytest.mark.parametrize("name", PROFILES)
def test_pixels_outside_the_box_are_exact(name, loaded):
    editor = loaded[name].editor
    boxes = [(9 * i, 3, 9 * i + 19, 30) for i in range(4)]  # on no grid of latents or tokens
    image = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0))
    for (x0, y0, x1, y1), edited in zip(boxes, editor.edit(image, boxes, "a cat", seed=0, steps=2), strict=True):
        inside = torch.zeros(64, 64, dtype=torch.bool)
        inside[y0:y1, x0:x1] = True
        assert torch.equal(edited[:, ~inside], image[:, ~inside])
        assert (edited != image).any(0)[inside].float().mean() > 0.9
        assert edited.min() >= 0
        assert edited.max() <= 1


@pytest.mark.parametrize("name", PROFILES)
def test_an_edit_does_not_depend_on_its_batch(name, loaded):
    editor = loaded[name].editor
    image = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0))
    boxes = [(0, 0, 40, 40), (8, 8, 64, 56), (30, 0, 60, 30)]
    kept, found = editor.batch, {}
    for batch in (1, 2, 3):
        editor.batch = batch
        found[batch] = editor.edit(image, boxes, "a cat", seed=3, steps=2)
    editor.batch = kept
    spread = max(float((found[1] - found[batch]).abs().max()) for batch in (2, 3))
    apart = float((editor.edit(image, boxes, "a cat", seed=4, steps=2) - found[1]).abs().max())
    # Rounding differs with the shape of the products (1e-6 here); another seed differs by far more.
    assert spread < 1e-4 < 0.01 < apart


@pytest.mark.parametrize("name", PROFILES)
def test_candidates_share_their_noise(name, loaded):
    """Two masks that ask for the same give the same frame, wherever they stand in the batch."""
    editor = loaded[name].editor
    image = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0))
    first, other, again = editor.edit(image, [(0, 0, 32, 32), (16, 16, 64, 64), (0, 0, 32, 32)], "a cat", seed=0, steps=2)
    assert torch.allclose(first, again, atol=1e-5)
    assert not torch.allclose(first, other, atol=1e-2)


@pytest.mark.parametrize("name", PROFILES)
def test_guidance_doubles_the_evaluations(name, loaded):
    editor = loaded[name].editor
    image, before = torch.full((3, 64, 64), 0.5), editor.evaluations
    editor.edit(image, [(8, 8, 56, 56)], "a cat", seed=0, steps=3, guidance=1.0)
    alone = editor.evaluations - before
    editor.edit(image, [(8, 8, 56, 56)], "a cat", seed=0, steps=3, guidance=4.0)
    assert alone == 3
    assert editor.evaluations - before == 3 * alone


def test_ddim_makes_as_many_evaluations_as_steps(written, tmp_path):
    models = load_models(written["sd2"], device="cpu")
    pipeline = models.editor.pipeline
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
    models.editor.edit(torch.rand(3, 64, 64), [(0, 0, 32, 32)] * 2, "a cat", seed=0)
    assert models.editor.evaluations == 2 * 2 * 3


def test_every_token_that_a_box_touches_is_edited(loaded):
    """aMUSEd's pipeline looks at one pixel of a token; a box between two of them must still be edited."""
    editor = loaded["amused"].editor
    side = editor.pipeline.vae_scale_factor
    image = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0))
    masks = torch.zeros(2, 1, 64, 64)
    masks[0, :, side + 1:2 * side - 1, side + 1:2 * side - 1] = 1
    masks[1, :, side:2 * side, side:2 * side] = 1
    touched, whole = editor.inpaint(image, masks, "a cat", seed=0, steps=2)
    assert torch.equal(touched, whole)
    nothing = editor.inpaint(image, torch.zeros(1, 1, 64, 64), "a cat", seed=0, steps=2)[0]
    assert not torch.equal(touched, nothing)


def test_amused_refuses_sizes_that_its_masks_do_not_have(written):
    with pytest.raises(UserError, match="multiple of 64 pixels, not 96"):
        load_models(replace(written["amused"], size=96), device="cpu")


def test_the_old_family_loads_and_edits_in_silence(written, capfd):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for name in ("amused", "sdxl"):
            models = load_models(written[name], device="cpu")
            models.editor.edit(torch.rand(3, 64, 64), [(0, 0, 32, 32)], "a cat", seed=0, steps=1)
    out, err = capfd.readouterr()
    assert "deprecated" not in err
    assert "float32" not in err
    assert out == ""
    assert not [w for w in caught if "diffusers" in str(w.message).lower()]


@pytest.mark.parametrize("name", PROFILES)
def test_half_precision_edits_too(name, loaded, written):
    """bfloat16, as on newer GPUs: the same path, near the same pixels where no token is drawn."""
    profile, whole = written[name], loaded[name].editor
    lora = Lora.load(profile.lora[0])[0] if profile.lora else None
    editor, _ = load_editor(profile.editor[0], "cpu", torch.bfloat16, solver=profile.solver, lora=lora, size=64, steps=2,
                            guidance=1.5, batch=2)
    image = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0))
    arguments = {"seed": 0, "steps": 2, "guidance": 1.5}
    found = editor.edit(image, [(0, 0, 40, 40)], "a cat", **arguments)
    assert found.dtype == torch.float32
    assert found.isfinite().all()
    if name != "amused":
        assert (found - whole.edit(image, [(0, 0, 40, 40)], "a cat", **arguments)).abs().mean() < 0.02


@pytest.mark.parametrize("name", PROFILES)
def test_a_long_prompt_names_what_is_cut_off(name, loaded):
    # 77 pieces of words; Z-Image reads 512, here letters, and a dialogue's are among them.
    fits = " ".join(["cat"] * 75) if name != "zimage" else " ".join(["cat"] * 123) + "ss"
    assert loaded[name].warnings_for(fits) == []
    (text,) = loaded[name].warnings_for(f"{fits} rabbit in the snow")
    assert "'rabbit in the snow'" in text
    assert "cat" not in text


# Memory


@pytest.fixture
def small_memory(loaded):
    """Lets a profile's denoiser run out of memory when more than `most` pictures enter it, as a GPU would."""
    hooks, kept = [], {}

    def limit(name: str, most: int):
        editor = loaded[name].editor
        kept[name] = editor.batch

        def refuse(module, args, kwargs):
            if len(args[0] if args else kwargs["sample"]) > most:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")

        denoiser = getattr(editor.pipeline, editor.denoiser)
        hooks.append(denoiser.register_forward_pre_hook(refuse, with_kwargs=True))
        return editor

    yield limit
    for hook in hooks:
        hook.remove()
    for name, batch in kept.items():
        loaded[name].editor.batch = batch


@pytest.mark.parametrize("name", ["sd2", "sdxl"])
def test_a_batch_that_does_not_fit_is_halved_and_nothing_is_lost(name, loaded, small_memory, capfd):
    boxes = [(0, 0, 16 + 8 * i, 40) for i in range(6)]
    image = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0))
    whole = loaded[name].editor.edit(image, boxes, "a cat", seed=0, steps=2)
    capfd.readouterr()
    editor = small_memory(name, 4)  # two pictures, with and without the prompt
    editor.batch = 6
    found = editor.edit(image, boxes, "a cat", seed=0, steps=2)
    assert torch.allclose(found, whole, atol=1e-4)
    assert editor.batch == 2
    assert capfd.readouterr().err.splitlines() == [
        f"warning: The memory of cpu does not hold {many} edits at once; going on with {fewer}."
        for many, fewer in ((6, 3), (3, 2))]
    editor.edit(image, boxes, "a cat", seed=0, steps=2)
    assert capfd.readouterr().err == ""


def test_a_learned_edit_survives_a_small_memory(loaded, small_memory, scene_picture):
    models = loaded["sd2"]
    whole = edit(models, scene_picture, "wolf", "a rabbit", FAST, seed=1, progress=False)
    small_memory("sd2", 2)
    found = edit(models, scene_picture, "wolf", "a rabbit", FAST, seed=1, progress=False)
    assert found.box == whole.box
    assert torch.allclose(found.edits.nan_to_num(), whole.edits.nan_to_num(), atol=1e-4)


@pytest.mark.parametrize("name", PROFILES)
def test_one_edit_that_does_not_fit_is_said_in_a_sentence(name, loaded, small_memory):
    editor = small_memory(name, evaluations(loaded[name], 1) - 1)
    with pytest.raises(UserError) as error:
        editor.edit(torch.rand(3, 64, 64), [(0, 0, 32, 32)] * 3, "a cat", seed=0, steps=2)
    assert "does not hold one edit of 64×64 pixels" in str(error.value)
    assert "\n" not in str(error.value)
    assert editor.batch == 1


def test_the_batch_follows_the_free_memory(monkeypatch):
    from lr_helpers.models.loading import batch_for

    def free(gigabytes):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device=None: (int(gigabytes * 1e9), 16e9))

    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    assert batch_for("cuda", 16, None) == 16
    for gigabytes, batch in ((0.1, 1), (2.6, 2), (10.1, 8), (100, 16)):
        free(gigabytes)
        assert batch_for("cuda", 16, 2.0) == batch  # 1 GB an edit in half precision, of four fifths
    assert batch_for("cpu", 4, 1000.0) == 1


def test_the_pictures_of_a_batch_may_differ(loaded):
    """N pictures with N prompts give what each gives alone."""
    editor = loaded["sdxl"].editor
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    masks = torch.zeros(2, 1, 64, 64)
    masks[:, :, 8:40, 8:40] = 1
    both = editor.inpaint(images, masks, ["a cat", "a dog"], seed=0, steps=2)
    for i, prompt in enumerate(("a cat", "a dog")):
        alone = editor.inpaint(images[i], masks[:1], prompt, seed=0, steps=2)
        assert torch.allclose(composite(both[i], images[i], masks[0]), composite(alone[0], images[i], masks[0]), atol=1e-4)


def test_a_picture_of_another_mode_goes_through(loaded):
    found = edit(loaded["amused"], Image.new("L", (70, 40), 128), "a dog", "a cat", FAST, progress=False)
    assert found.image.size == (70, 40)
