"""Few steps for the candidates, one full edit for the winner; and the solver that makes few steps enough."""

from dataclasses import replace

import diffusers
import pytest
import torch
from PIL import Image

from lr_helpers import METHODS, EditResult, UserError, edit
from lr_helpers.baselines import Request, load_baseline
from lr_helpers.batch import key
from lr_helpers.batch.items import plan
from lr_helpers.candidates import Candidates
from lr_helpers.cli import main
from lr_helpers.costs import random_weights
from lr_helpers.costs.evaluations import search
from lr_helpers.editing import FEATHER, propose
from lr_helpers.files.pictures import paste_back, to_tensor
from lr_helpers.method import Method
from lr_helpers.models.pipelines import use_solver
from lr_helpers.models.profiles import PROFILES, get_profile

REAL = [name for name, profile in PROFILES.items() if profile.solver and not profile.lora]
DISTILLED = ["sd15_lcm", "zimage"]
FAST = METHODS["learned"].but(anchors=3, sizes=(0.4, 0.6), iterations=3, shortlist=4)


@pytest.fixture(scope="module")
def sd2():
    """Stable Diffusion 2's classes at reduced width, with all settings of the profile."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        models = random_weights.models("sd2", reduced=True)
    models.editor.batch = 4
    return models


@pytest.fixture
def small_picture(scene_picture):
    """The scene at the side that the reduced classes edit, 64 pixels."""
    return scene_picture.resize((64, 64))


class Forwards:
    """Pictures that go through a network, counted by a hook of its own."""

    def __init__(self, network):
        self.count, self.handle = 0, network.register_forward_hook(self._add)

    def _add(self, module, args, output):
        self.count += len(output[0])


def test_one_learned_edit_of_sd2_takes_at_most_250_evaluations(sd2, small_picture, tmp_path):
    forwards = Forwards(sd2.editor.pipeline.unet)
    result = edit(sd2, small_picture, "wolf", "a rabbit", "learned", progress=False)
    forwards.handle.remove()
    assert result.cost["different_edits"] == 12
    assert forwards.count == result.cost["denoiser_evaluations"] == 12 * 2 * 8 + 2 * 20 <= 250
    assert (result.record["steps"], result.record["screening_steps"]) == (20, 8)
    assert result.record["scheduler"] == "DPMSolverMultistepScheduler"
    assert [c.steps for c in result.candidates] == [20] + [8] * (len(result.candidates) - 1)

    # The final picture and that of the first candidate are the full edit, the tables are of those that were judged.
    image = to_tensor(small_picture)
    (full,), (judged,) = (sd2.editor.edit(image, [result.box], "a rabbit", seed=42, steps=steps) for steps in (20, 8))
    assert not torch.allclose(full, judged, atol=1e-3)
    first = result.candidates[0]
    assert torch.allclose(first.picture, full, atol=1e-5)
    blended = paste_back(small_picture, full, result.box, FEATHER)
    assert (to_tensor(result.image) - to_tensor(blended)).abs().max() < 1.1 / 255
    assert torch.allclose(result.edits[first.anchor, first.proposal], judged, atol=1e-5)
    assert first.loss == result.loss[first.anchor, first.proposal] == result.loss[~result.loss.isnan()].min()

    again = EditResult.load(result.save(tmp_path))
    for name in ("steps", "screening_steps", "scheduler"):
        assert again.record[name] == result.record[name]
    assert [c.steps for c in again.candidates] == [c.steps for c in result.candidates]
    assert again.image.tobytes() == result.image.tobytes()


@pytest.mark.parametrize(("changes", "screening", "full"), [
    ({"steps": 4}, 4, 4), ({"screening_steps": 3}, 3, 20), ({"steps": 5, "screening_steps": 2}, 2, 5),
    ({"steps": 12}, 8, 12), ({"steps": 3, "screening_steps": 6}, 6, 3), ({"screening_steps": 20}, 20, 20)])
def test_what_the_user_says_wins(sd2, small_picture, changes, screening, full):
    result = edit(sd2, small_picture, "wolf", "a rabbit", FAST.but(**changes), progress=False)
    made, once = result.cost["different_edits"], screening == full
    assert result.cost["denoiser_evaluations"] == 2 * (made * screening + (0 if once else full))
    assert (result.record["screening_steps"], result.record["steps"]) == (screening, full)
    assert {c.steps for c in result.candidates[1:]} <= {screening}
    assert result.candidates[0].steps == full


def test_the_miniatures_finish_nothing(models, scene_picture):
    assert get_profile("tiny").screening_steps is None
    image, method = to_tensor(scene_picture), FAST.but(steps=2)
    found = propose(models, image, "wolf", method)
    table = Candidates(models, image, "wolf", "a rabbit", found.boxes, method, 42, kept=found.kept)
    table.losses(None)
    k, m = table.kept.nonzero()[0].tolist()
    before, spent, patch = models.editor.evaluations, table.seconds, table.patch(k, m)
    table.finish(k, m)
    assert (table.to_finish, models.editor.evaluations, table.seconds) == (0, before, spent)
    assert table.patch(k, m) is patch
    # The profile's default is the same as its steps said twice.
    plain = FAST.but(shortlist=2)
    said = plain.but(steps=12, screening_steps=12)
    one, other = (edit(models, scene_picture, "wolf", "a rabbit", m, progress=False) for m in (plain, said))
    assert one.image.tobytes() == other.image.tobytes()
    assert torch.equal(one.loss.nan_to_num(), other.loss.nan_to_num())
    assert one.cost["denoiser_evaluations"] == one.cost["different_edits"] * 12 * 2


def test_the_bar_counts_the_full_edit_too(sd2, small_picture):
    image, told = to_tensor(small_picture), []
    found = propose(sd2, image, "wolf", FAST)
    table = Candidates(sd2, image, "wolf", "a rabbit", found.boxes, FAST, 42, kept=found.kept)
    table.on_edit = told.append
    table.losses(None)
    k, m = table.kept.nonzero()[0].tolist()
    for _ in range(2):  # the second time it is there
        table.finish(k, m)
    assert sum(told) == table.count + table.to_finish == table.made + 1
    other = table.under(FAST.but(area_weight=2.0))
    assert other.steps_of(k, m) == table.steps_of(k, m) == 20


@pytest.mark.parametrize("name", ["learned", "exhaustive", "random_sizes", "edit_free"])
def test_rows_of_the_comparison_show_the_full_edit_and_pay_for_it(sd2, small_picture, name):
    image = to_tensor(small_picture)
    settings = {"method": FAST} if name != "random_sizes" else {"method": METHODS["paper"].but(anchors=2)}
    row = load_baseline(name, sd2.profile, sd2, **settings)
    request = Request(image, "wolf", "a rabbit", 42)
    first = row.run(request)
    (full,) = sd2.editor.edit(image, [first.box], "a rabbit", seed=42, steps=20)
    assert torch.allclose(first.picture, full, atol=1e-5)
    edits = {"learned": 4, "exhaustive": 4, "random_sizes": 2, "edit_free": 0}[name]
    assert first.evaluations == 2 * (8 * edits + 20)
    # A row that finds all of it made is charged the same.
    before = sd2.editor.evaluations
    second = row.run(request)
    assert sd2.editor.evaluations == before
    assert second.evaluations == first.evaluations


def test_the_key_of_a_batch_knows_how_edits_are_made(tmp_path):
    (tmp_path / "images").mkdir()
    Image.new("RGB", (64, 64)).save(tmp_path / "images" / "1.png")
    (tmp_path / "batch.json").write_text('{"1.png": ["wolf", "a cake"]}')
    profile, keys = get_profile("tiny"), set()
    for changes, own in (({}, profile), ({"screening_steps": 4}, profile), ({"steps": 4}, profile),
                         ({}, replace(profile, screening_steps=4)), ({}, replace(profile, solver="DDIMScheduler"))):
        (item,) = plan(tmp_path / "batch.json", tmp_path / "images", tmp_path / "out", changes=changes).items
        keys.add(key.key(key.inputs(item, "picture", key.identity(own))))
    assert len(keys) == 5


def test_the_command_screens(tmp_path, scene_picture, capsys):
    scene_picture.save(tmp_path / "scene.png")
    options = ["--image", str(tmp_path / "scene.png"), "--source", "wolf", "--prompt", "a cake", "--device", "cpu",
               "--anchors", "2", "--shortlist", "2", "--iterations", "1", "--steps", "3", "--screening-steps", "1"]
    assert main(["edit", *options, "--profile", "tiny", "--output", str(tmp_path / "out")]) == 0
    assert "2 different edits, 10 denoiser evaluations" in capsys.readouterr().out  # 2 × (2 × 1 + 3)
    assert main(["edit", *options[:-1], "0", "--profile", "tiny", "--output", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err == "error: screening_steps is 0; give a value from 1 to 500.\n"


# The solver


def pipe(scheduler):
    """Something that has this scheduler, as a pipeline has."""
    class Pipe:
        pass

    made = Pipe()
    made.scheduler = scheduler
    return made


BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


@pytest.mark.parametrize("own", [
    diffusers.PNDMScheduler(**BETAS, skip_prk_steps=True, set_alpha_to_one=False, steps_offset=1),
    diffusers.EulerDiscreteScheduler(**BETAS, prediction_type="v_prediction", timestep_spacing="leading", steps_offset=1),
    diffusers.DDIMScheduler(**BETAS, prediction_type="sample", clip_sample=False, timestep_spacing="leading"),
    diffusers.EulerDiscreteScheduler(beta_schedule="linear", rescale_betas_zero_snr=True, timestep_spacing="trailing"),
], ids=lambda s: f"{type(s).__name__}, {s.config.prediction_type}")
def test_a_solver_keeps_noise_levels_and_what_is_predicted(own, capfd):
    made = pipe(own)
    use_solver(made, "DPMSolverMultistepScheduler")
    solver = made.scheduler
    assert type(solver) is diffusers.DPMSolverMultistepScheduler
    assert solver.config.prediction_type == own.config.prediction_type
    assert torch.equal(solver.betas, own.betas)
    assert (solver.config.algorithm_type, solver.config.solver_order) == ("dpmsolver++", 2)
    for steps in (1, 2, 8, 20):
        solver.set_timesteps(steps)
        assert len(solver.timesteps) == steps
        assert solver.timesteps[0] == 999  # where a picture is noise, as what the loop begins with
    out, err = capfd.readouterr()
    assert out + err == ""


@pytest.mark.parametrize("own", [diffusers.AmusedScheduler(mask_token_id=3), diffusers.LCMScheduler(), diffusers.TCDScheduler(),
                                 diffusers.FlowMatchEulerDiscreteScheduler()], ids=lambda s: type(s).__name__)
def test_samplers_of_another_kind_are_left_alone(own):
    made = pipe(own)
    use_solver(made, "DPMSolverMultistepScheduler")
    assert made.scheduler is own


@pytest.mark.parametrize("name", ["DPMSolver", "UNet2DConditionModel", "__name__"])
def test_a_solver_that_is_none_is_refused(name):
    with pytest.raises(UserError, match=r"is no scheduler of diffusers; give e\.g\. DPMSolverMultistepScheduler"):
        use_solver(pipe(diffusers.PNDMScheduler()), name)


def test_a_solver_that_draws_at_each_step_draws_from_the_seed_of_the_edit(models):
    editor, own = models.editor, models.editor.pipeline.scheduler
    image, masks = torch.rand(3, 128, 128, generator=torch.Generator().manual_seed(0)), torch.zeros(2, 1, 128, 128)
    masks[:, :, 32:96, 32:96] = 1
    try:
        use_solver(editor.pipeline, "EulerAncestralDiscreteScheduler")
        found = editor.inpaint(image, masks, "a cat", seed=3, steps=3)
        torch.rand(1)  # the caller's own generator goes on, and decides nothing
        again = editor.inpaint(image, masks, "a cat", seed=3, steps=3)
        other = editor.inpaint(image, masks[:1], "a cat", seed=4, steps=3)
    finally:
        editor.pipeline.scheduler = own
    assert torch.equal(found, again) and torch.allclose(found[0], found[1], atol=1e-4)  # every mask gets the same noise
    assert (found[0] - other[0]).abs().max() > 0.05


def test_two_steps_of_the_solver_find_the_picture_that_the_network_is_sure_of():
    """A denoiser that always predicts the same clean latents is followed to them, from any number of steps."""
    made, clean = pipe(diffusers.PNDMScheduler(**BETAS)), torch.randn(1, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    use_solver(made, "DPMSolverMultistepScheduler")
    solver = made.scheduler
    for steps in (1, 2, 8, 20):
        latents = torch.randn(1, 4, 3, 3, generator=torch.Generator().manual_seed(1))
        solver.set_timesteps(steps)
        for time in solver.timesteps:
            alpha = solver.alphas_cumprod[time]
            noise = (latents - alpha.sqrt() * clean) / (1 - alpha).sqrt()
            latents = solver.step(noise, time, latents).prev_sample
        assert torch.allclose(latents, clean, atol=1e-3)


@pytest.mark.parametrize("name", REAL)
def test_real_profiles_take_twenty_steps_and_screen_with_at_most_eight(name):
    profile = get_profile(name)
    assert (profile.steps, profile.solver) == (20, "DPMSolverMultistepScheduler")
    assert profile.screening_steps <= 8
    screening, full = Method().planned_steps(profile.steps, profile.screening_steps)
    assert 2 * (METHODS["learned"].shortlist * screening + full) <= 250


@pytest.mark.parametrize("name", DISTILLED)
def test_distilled_profiles_take_eight_steps_without_guidance(name):
    profile = get_profile(name)
    assert (profile.steps, profile.guidance, profile.screening_steps) == (8, 1.0, None)
    assert profile.solver == ("LCMScheduler" if profile.lora else None)
    assert search(profile).evaluations == METHODS["learned"].shortlist * 8 + (8 if profile.decoder else 0) <= 104


def test_every_real_profile_is_one_of_these():
    assert {*REAL, *DISTILLED, "amused", "tiny"} == set(PROFILES)
