"""`edit(...)`: the whole method on one page. Picture and sentence in, one `EditResult` out."""

from __future__ import annotations

import platform
import time
from dataclasses import asdict
from pathlib import Path

import diffusers
import open_clip
import torch
import transformers
from PIL import Image
from tqdm.auto import tqdm

from lr_helpers.anchors import anchor_centres, inside_anchors
from lr_helpers.candidates import Candidates
from lr_helpers.config import Method, check_input, get_method
from lr_helpers.images import flatten, paste_back, read_image, to_tensor
from lr_helpers.learning import learn, make_estimator
from lr_helpers.models import Models
from lr_helpers.ranking import softmax_score
from lr_helpers.regions import RegionNetwork, pool_proposals, proposals, standardise
from lr_helpers.result import Candidate, EditResult


def edit(models: Models, image: str | Path | Image.Image, prompt: str, source: str,
         method: Method | str = "learned", seed: int = 42, progress: bool = True) -> EditResult:
    """Learn where to edit `image` so that `source` ("bird") becomes `prompt` ("a rabbit"), and edit there.

    The same seed on the same machine gives the same pixels. Raises UserError for input that can't work.
    """
    method = get_method(method) if isinstance(method, str) else method
    original = read_image(image) if isinstance(image, (str, Path)) else flatten(image)
    prompt, source = check_input(prompt, source, seed)
    begun, seconds, evaluations = time.perf_counter(), {}, models.editor.evaluations
    size = models.profile.size
    picture = to_tensor(original, size)

    # 1. Anchors: where the [CLS] token of a self-supervised ViT looks.
    features, attention = models.backbone.see(picture, normalise="raw_backbone" not in method.defects)
    grid = (attention.shape[1], attention.shape[2])
    anchors = inside_anchors(attention, method.anchors, int(method.border * min(grid)))

    # 2. Proposals around each, and what the ViT sees in them.
    drawn = anchors.flip(1) if "transposed_anchors" in method.defects else anchors
    boxes = proposals(anchor_centres(drawn, grid, size), method.sizes, size)
    pooled = pool_proposals(features, boxes, size, method.pool, 1 / 8 if "scaled_twice" in method.defects else 1.0)
    if method.standardise:
        pooled = standardise(pooled)

    # 3. Learn to score the proposals; edits are made as the estimator asks for them.
    candidates = Candidates(models, picture, prompt, source, boxes, method, seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):  # the seed of the weights; the caller's generator stays as it is
        torch.manual_seed(seed)
        network = RegionNetwork(boxes.shape[1], features.shape[0], method.pool)
    with tqdm(total=candidates.count, desc="editing", unit="edit", disable=not progress, leave=False) as bar:
        start, candidates.on_edit = time.perf_counter(), bar.update
        estimator = make_estimator(method.estimator, method.temperature, method.samples)
        history = learn(network, pooled, candidates, estimator=estimator, iterations=method.iterations,
                        lr=method.lr, generator=generator, entropy_weight=method.entropy_weight,
                        update_every=method.update_every)
        seconds["learning"] = time.perf_counter() - start - candidates.seconds

        # 4. Each anchor's best proposal is edited, and one of these edits is chosen.
        with torch.no_grad():
            probabilities = network(pooled).softmax(dim=1)
        best = probabilities.argmax(dim=1)
        candidates.losses(best)
    rows = torch.arange(len(best))
    order = _value(candidates, rows, best, method).argsort(descending=True, stable=True).tolist()
    chosen = [Candidate.of(candidates, probabilities, k, int(best[k])) for k in order]
    final = paste_back(original, chosen[0].picture, chosen[0].box, feather=0 if original.size == (size, size) else 0.06)
    seconds["edits"] = candidates.seconds
    seconds["total"] = time.perf_counter() - begun

    return EditResult(
        image=final, original=original, picture=picture, candidates=chosen, network=network, history=history,
        attention=attention, anchors=anchors, boxes=boxes, probabilities=probabilities,
        edits=candidates.edits, terms=candidates.terms, loss=candidates.loss, scores=candidates.score,
        prompt=prompt, source=source, seed=seed, method=method,
        cost={"denoiser_evaluations": models.editor.evaluations - evaluations,
              "edits": int((~candidates.loss.isnan()).sum()), "different_edits": candidates.made,
              "seconds": {k: round(v, 3) for k, v in seconds.items()}},
        record={"profile": models.profile.name, "sources": models.sources, "device": models.device,
                "size": size, "steps": method.steps or models.profile.steps,
                "guidance": models.profile.guidance if method.guidance is None else method.guidance,
                "method": asdict(method), "versions": versions()},
        warnings=[*models.warnings_for(prompt), *models.warnings_for(source)])


def _value(candidates: Candidates, rows: torch.Tensor, best: torch.Tensor, method: Method) -> torch.Tensor:
    """What the final choice goes by, (K,), higher is better."""
    if method.choice == "score":
        return candidates.score[rows, best]
    if method.choice == "loss":
        return -candidates.loss[rows, best]
    return softmax_score(candidates.text_similarity[rows, best], candidates.image_similarity[rows, best],
                         method.alpha, method.beta)


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that decide the pixels."""
    return {"python": platform.python_version(), "torch": torch.__version__, "diffusers": diffusers.__version__,
            "transformers": transformers.__version__, "open_clip": open_clip.__version__}
