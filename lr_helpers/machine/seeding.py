"""Draws that only torch's global generators give (a layer's first weights, dropout), from a seed of their own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_ONE = threading.RLock()


@contextmanager
def seeded(seed: int, device: torch.device | str = "cpu") -> Iterator[None]:
    """Within this, torch's generator of the CPU, and of `device` where that is a GPU, starts from `seed`.

    Afterwards they go on where they were, and those of other devices never notice (`torch.manual_seed` would set all).
    The generators belong to the process, so one thread at a time is let in: the same seed gives the same draws.
    """
    found = torch.device(device)
    devices = [found] if found.type == "cuda" else []
    with _ONE, torch.random.fork_rng(devices=devices):
        torch.default_generator.manual_seed(seed)
        for gpu in devices:
            with torch.cuda.device(gpu):
                torch.cuda.manual_seed(seed)
        yield
