"""What all trainings share: a resumable loop with weight averaging, progress and time left."""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable
from hashlib import sha256
from io import BytesIO
from pathlib import Path

import torch
from diffusers.training_utils import EMAModel
from torch import nn

from lr_helpers.errors import UserError
from lr_helpers.files.outputs import ForeignError, Output
from lr_helpers.files.writing import prepare_folder


def cosine_rate(step: int, steps: int, warm_up: int = 200) -> float:
    """Learning rate factor 0..1: a linear warm-up, then half a cosine down to 0.02."""
    if step < warm_up:
        return (step + 1) / warm_up
    done = (step - warm_up) / max(1, steps - warm_up)
    return 0.02 + 0.49 * (1 + math.cos(math.pi * min(1.0, done)))


def tensors(modules: dict[str, nn.Module]) -> list[torch.Tensor]:
    """All parameters and buffers, in an order that depends on the modules alone: what the average is kept of."""
    return [tensor for module in modules.values() for tensor in (*module.parameters(), *module.buffers())]


def train(
    modules: dict[str, nn.Module],
    loss_of: Callable[[int], dict[str, torch.Tensor]],
    *,
    folder: Path,
    steps: int,
    rate: float,
    decay: float = 0.999,
    weight_decay: float = 1e-2,
    betas: tuple[float, float] = (0.9, 0.99),
    export: Callable[[dict[str, nn.Module]], None],
    every: int = 500,
    log_every: int = 100,
) -> None:
    """Minimise `loss_of(step)["loss"]` with AdamW; resume from `folder/last.pt` if it is there.

    `loss_of` draws its own batch from a generator seeded by the step, so a resumed run sees the same
    batches. Every `every` steps the state is stored and `export` gets copies of the modules with the averaged weights:
    diffusers' `EMAModel`, whose decay grows as (1 + s) / (10 + s) up to `decay`, where s counts the steps from 0.
    What has no gradient (frozen weights, buffers) is not averaged but copied.

    Raises UserError for a checkpoint of an earlier version, which holds its average in another form, and for files at
    the names of checkpoint and log that no training wrote.
    """
    output = Output(folder, "training")
    prepare_folder(folder)
    output.sweep()
    log_file = _claimed_log(output)
    parameters = [p for m in modules.values() for p in m.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=rate, betas=betas, weight_decay=weight_decay)
    average = EMAModel(tensors(modules), decay=decay, foreach=True)
    averaged = {name: copy.deepcopy(module).eval() for name, module in modules.items()}
    checkpoint, first = folder / "last.pt", 0
    if checkpoint.exists():
        state = _checkpoint(output)
        if "shadow_params" not in state["average"]:
            raise UserError(f"{checkpoint} is of an earlier version of this training; delete it, or give another "
                            "folder.")
        first = state["step"]
        optimiser.load_state_dict(state["optimiser"])
        for name, module in modules.items():
            module.load_state_dict(state["modules"][name])
        average.load_state_dict(state["average"])
        average.to(parameters[0].device)
        print(f"resumed at step {first} of {steps}", flush=True)

    begun, sums = time.perf_counter(), {}
    for step in range(first, steps):
        for group in optimiser.param_groups:
            group["lr"] = rate * cosine_rate(step, steps)
        losses = loss_of(step)
        optimiser.zero_grad(set_to_none=True)
        losses["loss"].backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        average.step(tensors(modules))
        for key, value in losses.items():
            sums[key] = sums.get(key, 0.0) + float(value.detach())
        done = step + 1
        if done % log_every == 0 or done == steps:
            # The mean over the steps since the last line; after a resumption, since then.
            since = min(log_every if done % log_every == 0 else done % log_every, done - first)
            each = (time.perf_counter() - begun) / (done - first)
            record = {k: round(v / since, 5) for k, v in sums.items()}
            print(f"step {done}/{steps}  " + "  ".join(f"{k} {v:.4f}" for k, v in record.items())
                  + f"  {each:.3f} s/step, {each * (steps - done) / 60:.1f} min left", flush=True)
            with log_file.open("a", encoding="utf-8") as log:
                log.write(json.dumps({"step": done, **record}) + "\n")
            sums = {}
        if done % every == 0 or done == steps:
            state = {"step": done, "optimiser": optimiser.state_dict(), "average": average.state_dict(),
                     "modules": {name: module.state_dict() for name, module in modules.items()}}
            buffer = BytesIO()
            torch.save(state, buffer)
            output.write(checkpoint.name, buffer.getvalue())
            average.copy_to(tensors(averaged))
            export(averaged)
    if first >= steps:
        average.copy_to(tensors(averaged))
        export(averaged)


def _claimed_log(output: Output) -> Path:
    """The log, to which lines are added; raises ForeignError for a file of that name that is none."""
    file = output.folder / "log.jsonl"
    try:
        return output.claim(file.name)
    except ForeignError:
        try:  # of a training from before there was a list of what was written
            with file.open(encoding="utf-8") as lines:
                ours = "step" in json.loads(next(lines))
        except (OSError, ValueError, TypeError, StopIteration):
            ours = False
        if not ours:
            raise
        output.adopt(file.name, changing=True)
        return file


def _checkpoint(output: Output) -> dict:
    """What `last.pt` holds; raises UserError if it is no checkpoint of a training."""
    file = output.folder / "last.pt"
    try:
        state = torch.load(file, weights_only=True, map_location="cpu")
        whole = {"step", "optimiser", "average", "modules"} <= state.keys()
    except Exception as error:  # torch raises what it likes for files that are something else
        raise UserError(f"{file} is no checkpoint of a training; move it away, or give another folder.") from error
    if not whole:
        raise UserError(f"{file} is no checkpoint of a training; move it away, or give another folder.")
    if not output.is_ours(file.name):
        output.adopt(file.name)
    return state


def save_half(module: nn.Module, folder: Path) -> None:
    """`save_pretrained` with the weights stored as float16, to halve the download."""
    copy.deepcopy(module).half().cpu().save_pretrained(folder, safe_serialization=True)
    config = json.loads((folder / "config.json").read_text())
    config.pop("_name_or_path", None)  # the folder it was loaded from, on the machine that trained it
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def digest_of(module: nn.Module) -> str:
    """Which weights a network has, in 12 hexadecimal digits."""
    found = sha256()
    for values in module.state_dict().values():
        found.update(values.detach().float().cpu().numpy().tobytes())
    return found.hexdigest()[:12]
