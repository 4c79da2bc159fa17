"""What the real models cost here: architectures of true size with random weights give true memory and true seconds."""

from __future__ import annotations

import json
import platform
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import torch
from PIL import Image

from lr_helpers.costs import random_weights
from lr_helpers.costs.edit import show
from lr_helpers.editing import edit
from lr_helpers.errors import UserError
from lr_helpers.files.paths import DATA
from lr_helpers.files.writing import write_json
from lr_helpers.inpainting import count_evaluations
from lr_helpers.method import get_method
from lr_helpers.models.loading import Models, default_device, dtype_for
from lr_helpers.models.profiles import PROFILES, get_profile

RECORD = DATA / "benchmarks.json"
"""The rows that were measured so far; "usual" says whether edits take this precision on this device."""
PRECISIONS = ("bfloat16", "float16", "float32")
"""Of the editor; the encoders are in float32 always."""
DEVICES = ("NVIDIA H200", "Tesla T4")
"""Devices that the table shows, measured or not."""
HEAD = ("| profile | device | precision | weights | peak memory | batch | s per denoiser evaluation "
        "| s to encode + decode | one learned edit |\n|---|---|---|---|---|---|---|---|---|")
OTHERS_GB = 3.0
"""Room for CLIP, the backbone and one edit beside the editor's weights."""


def run(name: str, output: Path | None = None, remark: str = "", precision: str | None = None) -> dict[str, Any]:
    """Measure a profile on this machine; print and return the figures.

    `output`: a JSON file of such rows, to which this one is added (for the same profile, device and precision:
    replaced); the table of all of them is printed then. `remark` goes into the row. `precision`: the editor's, one of
    PRECISIONS; None: what `loading.dtype_for` takes on this device. Raises UserError for a profile whose architecture
    is not here, a precision that is unknown, a file of other content, and memory that can't hold the weights.
    """
    if name not in random_weights.FULL:
        raise UserError(f"The profile {name!r} has no random weights; choose one of {', '.join(random_weights.FULL)}.")
    get_profile(name)
    if precision not in (None, *PRECISIONS):
        raise UserError(f"The precision {precision!r} is unknown; choose one of {', '.join(PRECISIONS)}.")
    rows = read(output) if output and output.exists() else []
    device = "cuda" if default_device() == "cuda" else "cpu"  # Apple's GPU has no such clock and memory here
    dtype = getattr(torch, precision) if precision else dtype_for(device)
    networks = random_weights.networks(name, device="meta").values()
    weights = sum(p.numel() for network in networks for p in network.parameters()) * dtype.itemsize / 1e9
    free = (torch.cuda.mem_get_info()[0] if device == "cuda" else psutil.virtual_memory().available) / 1e9
    if free < weights + OTHERS_GB:
        raise UserError(f"The profile {name!r} needs {weights + OTHERS_GB:.1f} GB of memory and {free:.1f} GB are "
                        "free; close other programs, or measure a smaller profile.")
    begun = time.perf_counter()
    models = random_weights.models(name, device, dtype=dtype)
    figures = {"profile": name, "device": device_name(device), "weights_gb": round(weights, 2),
               "seconds_to_build": round(time.perf_counter() - begun, 1),
               "dtype": str(dtype).removeprefix("torch."), "usual": dtype == dtype_for(device),
               **measure(models, whole=device == "cuda"), "remark": remark}
    show(figures)
    print(f"\n{HEAD}\n{line(figures)}")
    if output:
        same = ("profile", "device", "dtype")
        rows = [row for row in rows if [row[key] for key in same] != [figures[key] for key in same]] + [figures]
        write_json(output, rows)
        print(f"\n{table(rows)}")
    return figures


def read(file: Path = RECORD) -> list[dict[str, Any]]:
    """The rows of a file that `run` wrote; raises UserError for any other."""
    try:
        rows = json.loads(file.read_text(encoding="utf-8"))
        for row in rows:
            line(row)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"{file} holds no rows of this benchmark; give another file.") from error
    return rows


def device_name(device: str) -> str:
    """The GPU by its name, or the CPU by its kind and the threads used."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    threads = torch.get_num_threads()
    return f"CPU ({platform.machine()}, {threads} thread{'s' if threads > 1 else ''})"


def measure(models: Models, whole: bool) -> dict[str, Any]:
    """Figures of an editor, by batches of one denoising step; `whole`: measure a learned edit too, else compute it.

    What is computed is marked so: evaluations × seconds of one + edits × seconds to encode and decode.
    """
    editor, on_gpu = models.editor, models.device == "cuda"
    clock = Clock(on_gpu)
    image = torch.rand(3, editor.size, editor.size, generator=torch.Generator().manual_seed(0))
    batch = editor.batch if on_gpu else 1  # on a CPU a batch saves no time
    if on_gpu:
        editor.edit(image, [(0, 0, 64, 64)], "a cat", seed=0, steps=1)  # to warm up
    before, peak, seconds = _one_step(models, image, batch, clock)
    batch = min(batch, editor.batch)  # which may have been halved
    vae = editor.pipeline.vae if "vae" in editor.pipeline.components else editor.pipeline.vqvae
    pixels = image[None].to(vae.device, vae.dtype)
    with torch.no_grad():
        coded, encode = clock.timed(lambda: vae.encode(pixels))
        latents = coded.latents if "latents" in coded else coded.latent_dist.mode()
        _, decode = clock.timed(lambda: vae.decode(latents))
    count = editor.evaluations
    if whole:
        picture = Image.new("RGB", (640, 480), "white")
        result, total = clock.timed(lambda: edit(models, picture, "a dog", "a cat", progress=False))
        edits, evaluations = result.cost["different_edits"], editor.evaluations - count
    else:
        method = get_method("learned")
        planned = editor.steps, editor.screening_steps
        edits, (screening, full) = method.shortlist, method.planned_steps(*planned)
        # The winner, once more with all steps and the whole decoder.
        finished = int(screening != full or method.judges_drafts(*planned, editor.decoder is not None))
        evaluations = (count_evaluations(edits, screening, editor.guidance)
                       + count_evaluations(finished, full, editor.guidance))
        total = evaluations * seconds + (edits + finished) * (encode + decode)
    return {"batch": batch, "peak_gb": round(peak, 2),
            "gb_per_edit": round((peak - before) / batch, 2),
            "seconds_per_evaluation": round(seconds, 4), "seconds_to_encode": round(encode, 3),
            "seconds_to_decode": round(decode, 3), "edits": edits, "evaluations": evaluations,
            "seconds_of_a_learned_edit": round(total, 1), "computed": not whole, "torch": torch.__version__}


def _one_step(models: Models, image: torch.Tensor, count: int, clock: Clock) -> tuple[float, float, float]:
    """Memory in GB before `count` edits at once at one step and at its peak, and seconds per denoiser evaluation."""
    editor, spent, begun = models.editor, [], 0.0

    def start(*_: Any) -> None:
        nonlocal begun
        begun = clock.now()

    denoiser = getattr(editor.pipeline, editor.denoiser)
    hooks = [denoiser.register_forward_pre_hook(start),
             denoiser.register_forward_hook(lambda *_: spent.append(clock.now() - begun))]
    evaluations, kept, editor.batch = editor.evaluations, editor.batch, count
    with Peak(models.device) as peak:
        before = peak.used()
        editor.edit(image, [(0, 0, editor.size // 2, editor.size // 2)] * count, "a cat", seed=0, steps=1)
    for hook in hooks:
        hook.remove()
    editor.batch = kept if editor.batch == count else editor.batch
    return before, peak.gigabytes, sum(spent) / (editor.evaluations - evaluations)


class Clock:
    """Seconds of the device. On a CPU those that this process computed, by thread: other programs' work is left out."""

    def __init__(self, on_gpu: bool):
        self.on_gpu = on_gpu

    def now(self) -> float:
        """Seconds from some beginning."""
        if self.on_gpu:
            torch.cuda.synchronize()
            return time.perf_counter()
        return time.process_time() / torch.get_num_threads()

    def timed(self, call: Callable[[], Any]) -> tuple[Any, float]:
        """What a call returns, and the seconds it took."""
        begun = self.now()
        return call(), self.now() - begun


class Peak:
    """The most memory in use inside a `with`: the GPU's by torch's own count, else this process's, sampled."""

    def __init__(self, device: str):
        self.on_gpu, self.gigabytes, self.over = device == "cuda", 0.0, threading.Event()

    def __enter__(self) -> Peak:
        if self.on_gpu:
            torch.cuda.reset_peak_memory_stats()
        else:
            self.gigabytes = self.used()
            self.thread = threading.Thread(target=self._sample, daemon=True)
            self.thread.start()
        return self

    def used(self) -> float:
        """GB in use now."""
        return (torch.cuda.memory_allocated() if self.on_gpu else psutil.Process().memory_info().rss) / 1e9

    def _sample(self) -> None:
        while not self.over.wait(0.02):
            self.gigabytes = max(self.gigabytes, self.used())

    def __exit__(self, *_: Any) -> None:
        if self.on_gpu:
            self.gigabytes = torch.cuda.max_memory_allocated() / 1e9
        else:
            self.over.set()
            self.thread.join()


def line(row: dict[str, Any]) -> str:
    """One row of the Markdown table."""
    spent = row["seconds_of_a_learned_edit"]
    whole = f"{spent / 60:.1f} min" if spent >= 120 else f"{spent:.1f} s"
    how = "computed from the parts" if row["computed"] else "measured"
    remark = f"; {row['remark']}" if row["remark"] else ""
    return (f"| `{row['profile']}` | {row['device']} | {row['dtype']} | {row['weights_gb']:.1f} GB | "
            f"{row['peak_gb']:.1f} GB | {row['batch']} | {row['seconds_per_evaluation']:.3g} | "
            f"{row['seconds_to_encode']:.3g} + {row['seconds_to_decode']:.3g} | "
            f"{row['edits']} edits, {row['evaluations']} evaluations: {whole}, {how}{remark} |")


def table(rows: list[dict[str, Any]]) -> str:
    """All rows as Markdown, by profile; a device of DEVICES without a row is marked "not measured"."""
    lines = [HEAD]
    for name in (n for n in PROFILES if n in random_weights.FULL):
        own = [row for row in rows if row["profile"] == name]
        lines += map(line, own)
        if not any("CPU" in row["device"] for row in own):
            lines.append(f"| `{name}` | CPU |{' not measured |' + ' |' * 6}")
        lines += [f"| `{name}` | {device} |{' not measured |' + ' |' * 6}" for device in DEVICES
                  if not any(device in row["device"] for row in own)]
    return "\n".join(lines)
