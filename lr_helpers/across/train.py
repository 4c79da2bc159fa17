"""A predictor from pictures: edits are made and kept, the network is trained on their losses, and what came of it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path

import torch
from tqdm.auto import tqdm

from lr_helpers.across.asks import Ask, kinds_of
from lr_helpers.across.collect import Collect, example, terms_of
from lr_helpers.across.settings import Training
from lr_helpers.errors import UserError
from lr_helpers.files.writing import json_bytes
from lr_helpers.learning import make_estimator
from lr_helpers.losses import standardised
from lr_helpers.machine.seeding import seeded
from lr_helpers.models.libraries import versions
from lr_helpers.models.loading import default_device, encoder_device
from lr_helpers.predictor import Example, RegionPredictor, common_scales, fit
from lr_helpers.study.run import work

HELD_OUT = 10
"""Every so manieth picture is kept back, to see whether what was learned holds for others."""
RESULT = "regions.safetensors"
"""The network in the output folder, as `--regions` takes it."""
PATIENCE = 3600
"""Seconds that rank 0 waits for another rank's next picture."""


def train_regions(training: Training) -> RegionPredictor | None:
    """Make the edits that are missing, train, and store the predictor as `output/regions.safetensors`.

    What was made before is not made again: an edit, or the network of a round that was trained on these very edits in
    this very way. Under torchrun each rank edits its share; rank 0 trains once all are there and the others return
    None. Raises UserError for a folder that holds another training, and where another rank's edits don't come.
    """
    rank, ranks = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if len(training.asks) < 2:
        raise UserError("There is one picture; give at least two, since one is kept back.")
    predictor = None
    for round_ in range(training.rounds):
        collect = Collect(training, round_, rank, ranks)
        collect.output.require_pattern("networks/*", "history*.json", RESULT)
        if rank and round_:
            _wait_for_network(training, Collect(training, round_ - 1, rank, ranks))
        done = work(collect, training.workers or (1 if ranks > 1 else None))
        if rank:
            continue
        _wait_for_all(collect)
        predictor = _trained(training, collect)
        if predictor is None:
            predictor, history = learn(training, collect)
            collect.output.write(f"history{round_}.json", json_bytes({"loss": history}))
            predictor.trained_on = done.about["encoders"]
            collect.output.write(f"networks/round{round_}.safetensors", predictor.to_bytes())
    if predictor:
        collect.output.write(RESULT, predictor.to_bytes())
    return predictor


def _trained(training: Training, collect: Collect) -> RegionPredictor | None:
    """The network of this round, if it is there and was trained on the same edits in the same way."""
    file = collect.network(collect.round)
    if not file.exists():
        return None
    found = RegionPredictor.load(file)
    return found if found.card.get("digest") == digest(training, collect) else None


def digest(training: Training, collect: Collect) -> str:
    """What decides a round's network: the edits by their contents, and how it is trained on them."""
    whole = sha256(json.dumps(_how(training), sort_keys=True).encode())
    for file in (file for files in _files(training, collect) for file in files):
        whole.update(sha256(file.read_bytes()).digest())
    return whole.hexdigest()[:16]


def _how(training: Training) -> dict:
    to_add = {"weights to add": training.weights_to_add} if training.weights_to_add != training.weights else {}
    return {"objective": training.objective, "weights": training.weights, **to_add, "estimator": training.estimator,
            "temperature": training.temperature, "updates": training.updates, "lr": training.lr, "seed": training.seed,
            "without": list(training.without)}


def _files(training: Training, collect: Collect) -> list[list[Path]]:
    """Each picture's edits, of all rounds so far."""
    return [[collect.tensors(ask, round_) for round_ in range(collect.round + 1)] for ask in training.asks]


def learn(training: Training, collect: Collect) -> tuple[RegionPredictor, list[float]]:
    """Train on all rounds so far: the predictor with its card, and the loss at each update."""
    files, back = _files(training, collect), kept_back(training.asks)
    scales = common_scales([terms_of(one) for one, is_back in zip(files, back, strict=True) if not is_back],
                           {**training.weights_to_add, **training.weights})
    kept, held = [], []
    for ask, one, is_back in zip(training.asks, files, back, strict=True):
        (held if is_back else kept).append(example(one, training.weights_for(ask), scales))
    first = kept[0].view
    with seeded(training.seed):
        predictor = RegionPredictor(first.features.shape[0], first.texts.shape[1], without=training.without)
    # Where the encoders run, then back: what is stored and what `chosen_loss` asks is of no device.
    predictor.to(encoder_device(training.device or default_device(training.profile)))
    with tqdm(total=training.updates, desc=f"training, round {collect.round + 1}", unit="updates") as bar:
        def shown(step: int, loss: float) -> None:
            bar.set_postfix_str(f"loss {loss:.3f}")
            bar.update()

        history = fit(predictor, kept, estimator=make_estimator(training.estimator), steps=training.updates,
                      lr=training.lr, temperature=training.temperature, scale=1.0, seed=training.seed, on_step=shown)
    predictor.cpu()
    card = {"profile": training.profile.name, "pictures": kinds_of(training.asks), "rounds": collect.round + 1,
            "boxes": training.boxes, "steps": training.steps, **_how(training), "scales": scales,
            "evaluations": training.evaluations * (collect.round + 1) // training.rounds,
            "digest": digest(training, collect),
            "chosen box's loss, standardised": {"training pictures": chosen_loss(predictor, kept),
                                                "pictures kept back": chosen_loss(predictor, held)},
            "versions": versions()}
    print("The loss of the chosen box, in standard deviations of its picture's boxes (0 is by lot): " + ", ".join(
        f"{value['chosen']:.2f} on {value['count']} {name}, {value['lowest']:.2f} at best"
        for name, value in card["chosen box's loss, standardised"].items()))
    predictor.card = card
    return predictor, [round(loss, 5) for loss in history]


def kept_back(asks: Sequence[Ask]) -> list[bool]:
    """Which pictures are kept back from training: every HELD_OUT-th of each kind, and the last of all, so that there is
    one.
    """
    seen: dict[str, int] = {}
    found = []
    for ask in asks:
        seen[ask.kind] = seen.get(ask.kind, 0) + 1
        found.append(seen[ask.kind] % HELD_OUT == 0)
    return [*found[:-1], True]


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


def _wait_for_network(training: Training, collect: Collect) -> None:
    """Until rank 0 has trained on the edits that are there now: a folder may hold an earlier training's network."""
    _wait_for_all(collect)
    wanted, file = digest(training, collect), collect.network(collect.round)
    _wait(lambda: file.exists() and RegionPredictor.load(file).card.get("digest") == wanted, "rank 0's network")


def _wait_for_all(collect: Collect) -> None:
    """Until every picture's edits of this round are there, and are those that are asked for now."""
    missing = list(collect.training.asks)

    def fewer() -> bool:
        missing[:] = [ask for ask in missing if not collect.complete(ask, {})]
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
