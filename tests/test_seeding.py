"""First weights and dropout come from a seed of their own, and nobody else's draws are moved."""

from concurrent.futures import ThreadPoolExecutor

import torch

from lr_helpers.candidates import Candidates
from lr_helpers.editing import propose
from lr_helpers.machine.seeding import seeded
from lr_helpers.method import METHODS
from tiny_world.scenes import scene, tensor


def test_the_same_seed_draws_the_same_and_the_callers_draws_go_on():
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    with seeded(1):
        first = torch.rand(2)
    assert torch.equal(torch.rand(3), wanted)
    with seeded(1):
        assert torch.equal(torch.rand(2), first)


def test_threads_that_make_networks_at_once_get_those_of_their_seeds():
    def weights(seed):
        with seeded(seed):
            return torch.cat([torch.rand(50) for _ in range(200)])

    alone = {seed: weights(seed) for seed in range(4)}
    with ThreadPoolExecutor(8) as pool:
        for seed, found in zip([*range(4)] * 8, pool.map(weights, [*range(4)] * 8), strict=True):
            assert torch.equal(found, alone[seed])


def test_no_loss_is_known_before_the_first_edit(models):
    picture = tensor(scene(3, 1))
    for name in ("learned", "paper"):  # terms in deviations, and as they are
        method = METHODS[name]
        found = propose(models, picture, "wolf", method)
        table = Candidates(models, picture, "wolf", "a fox", found.boxes, method, 42, kept=found.kept, free=found.free)
        assert table.loss.isnan().all()
