"""A predictor from pictures: edits are made and kept, the network is trained on their losses, and what came of it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence

import torch
from tqdm.auto import tqdm

from lr_helpers.across.asks import kinds_of
from lr_helpers.across.collect import Collect, example
from lr_helpers.across.settings import Training
from lr_helpers.errors import UserError
from lr_helpers.files.writing import json_bytes
from lr_helpers.learning import make_estimator
from lr_helpers.losses import standardised
from lr_helpers.models.libraries import versions
from lr_helpers.predictor import Example, RegionPredictor, fit
from lr_helpers.study.run import read, work

HELD_OUT = 10
"""Every so manieth picture is kept back, to see whether what was learned holds for others."""
PATIENCE = 3600
"""Seconds that rank 0 waits for another rank's next picture."""


def train_regions(training: Training) -> RegionPredictor | None:
    """Make the edits that are missing, train, and store the predictor in `output/predictor`.

    Under torchrun each rank edits its share; rank 0 trains once all are there and the others return None. Raises
    UserError for a folder that holds another training, and where another rank's edits don't come.
    """
    rank, ranks = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if len(training.asks) < 2:
        raise UserError("There is one picture; give at least two, since one is kept back.")
    predictor = None
    for round_ in range(training.rounds):
        collect = Collect(training, round_, rank, ranks)
        collect.output.require_pattern("predictor*/*", "history*.json")
        if rank and round_:
            network = training.output / f"predictor{round_ - 1}" / "config.json"
            _wait(network.exists, "rank 0's network")
        work(collect, training.workers or (1 if ranks > 1 else None))
        if rank:
            continue
        _wait_for_all(collect)
        predictor, card = learn(training, collect)
        folder = "predictor" if round_ == training.rounds - 1 else f"predictor{round_}"
        for name, data in predictor.files(card).items():
            collect.output.write(f"{folder}/{name}", data)
    return predictor


def learn(training: Training, collect: Collect) -> tuple[RegionPredictor, dict]:
    """Train on all rounds so far; the predictor and its card."""
    kept, held = [], []
    for i, ask in enumerate(training.asks):
        files = [collect.tensors(ask, round_) for round_ in range(collect.round + 1)]
        (held if i % HELD_OUT == HELD_OUT - 1 or i == len(training.asks) - 1 else kept).append(
            example(files, training.weights))
    first = kept[0].view
    torch.manual_seed(training.seed)
    predictor = RegionPredictor(first.features.shape[0], first.texts.shape[1])
    with tqdm(total=training.updates, desc=f"training, round {collect.round + 1}", unit="updates") as bar:
        def shown(step: int, loss: float) -> None:
            bar.set_postfix_str(f"loss {loss:.3f}")
            bar.update()

        history = fit(predictor, kept, estimator=make_estimator(training.estimator), steps=training.updates,
                      lr=training.lr, temperature=training.temperature, seed=training.seed, on_step=shown)
    collect.output.write(f"history{collect.round}.json", json_bytes({"loss": [round(v, 5) for v in history]}))
    card = {"profile": training.profile.name, "pictures": kinds_of(training.asks), "rounds": collect.round + 1,
            "boxes": training.boxes, "steps": training.steps, "weights": training.weights,
            "estimator": training.estimator, "temperature": training.temperature, "updates": training.updates,
            "lr": training.lr, "seed": training.seed, "evaluations": training.evaluations,
            "chosen box's loss, standardised": {"training pictures": chosen_loss(predictor, kept),
                                                "pictures kept back": chosen_loss(predictor, held)},
            "versions": versions()}
    print("The loss of the chosen box, in standard deviations of its picture's boxes (0 is by lot): " + ", ".join(
        f"{value['chosen']:.2f} on {value['count']} {name}, {value['lowest']:.2f} at best"
        for name, value in card["chosen box's loss, standardised"].items()))
    return predictor, card


@torch.no_grad()
def chosen_loss(predictor: RegionPredictor, examples: Sequence[Example]) -> dict[str, float]:
    """The mean loss of the boxes that it chooses, in standard deviations of each picture's losses; and the lowest."""
    chosen, lowest = [], []
    for one in examples:
        losses = standardised(one.losses)
        chosen.append(float(losses[int(predictor(one.view, one.boxes).argmax())]))
        lowest.append(float(losses.min()))
    count = len(examples)
    return {"chosen": round(sum(chosen) / count, 4), "lowest": round(sum(lowest) / count, 4), "count": count}


def _wait_for_all(collect: Collect) -> None:
    """Until every picture's record of this round is there."""
    missing = list(collect.training.asks)

    def fewer() -> bool:
        missing[:] = [ask for ask in missing if read(collect.record(ask)) is None]
        return not missing

    _wait(fewer, "other ranks' pictures", lambda: len(missing))


def _wait(done: Callable[[], bool], what: str, progress: Callable[[], int] = lambda: 0) -> None:
    """Raises UserError if nothing happens for PATIENCE seconds."""
    since, before = time.monotonic(), None
    while not done():
        if (now := progress()) != before:
            since, before = time.monotonic(), now
        if time.monotonic() - since > PATIENCE:
            raise UserError(f"Waited an hour for {what}; start the same command again, on all ranks.")
        time.sleep(0.5)
