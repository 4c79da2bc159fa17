"""What is measured of one edit of a task."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional as F
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from lr_helpers.boxes import box_mask, iou
from lr_helpers.models.loading import Models
from lr_helpers.study.tasks import NOTHING, Task
from tiny_world.judge import SURE, Judge, sees
from tiny_world.scenes import square

EXACT = 60.0
"""dB that stand for "no pixel differs", whose PSNR is infinite."""

JUDGED = ("success", "source_gone", "others_kept")
"""What says something only where the judge named the objects before the edit: one that it never knew would always be
"gone"."""


def names_objects(task: Task, judge: Judge) -> list[bool]:
    """Of each object of the scene, before any edit: does the judge call it what it is? An empty scene has none."""
    objects = task.recipe.objects
    said = judge.name(task.picture.expand(len(objects), -1, -1, -1), [square(o) for o in objects])
    return [name == o.name for name, o in zip(said, objects, strict=True)]


def region(task: Task, box: Sequence[int]) -> dict[str, float]:
    """IoU with the known region, whether it is at least 0.5, and whether the box's centre lies inside. Empty for
    tasks without a known region.
    """
    if task.truth is None:
        return {}
    overlap = float(iou(torch.tensor(box), torch.tensor(task.truth)))
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    inside = task.truth[0] <= x < task.truth[2] and task.truth[1] <= y < task.truth[3]
    return {"iou": overlap, "hit": float(overlap >= 0.5), "centre_inside": float(inside)}


def success(task: Task, box: Sequence[int] | None, edit: torch.Tensor, judge: Judge) -> dict[str, float]:
    """Does the judge see the target where it was edited, the source no more, and every other object still? Where an
    object is to be removed, the target is that nothing is seen in its place.

    `edit` (3, S, S) in 0..1; `box`: where it was edited, None to look for the target everywhere. The parts, and
    "success" if all of them hold. A part is left out where there is nothing to ask: no object to go, no other object.
    """
    # The judge names what it sees in each of these squares, in one batch.
    looks = [*([task.replaced[1]] if task.replaced else []), *(b for _, b in task.others)]
    if task.target == NOTHING:
        looks.insert(0, task.replaced[1])
    elif box is not None:
        looks.insert(0, tuple(box))
    said = judge.name(edit.expand(len(looks), -1, -1, -1), looks) if looks else []
    anywhere = box is None and task.target != NOTHING
    parts = {"target_seen": sees(edit, task.target, judge) >= SURE if anywhere else said.pop(0) == task.target}
    if task.replaced:
        parts["source_gone"] = said.pop(0) != task.replaced[0]
    if task.others:
        parts["others_kept"] = said == [name for name, _ in task.others]
    return {**{k: float(v) for k, v in parts.items()}, "success": float(all(parts.values()))}


def background(task: Task, edit: torch.Tensor, models: Models) -> dict[str, float]:
    """How much is as it was outside the known region: PSNR in dB (60 if nothing changed), SSIM, and the distance
    1 − cos of the ViT's features, averaged over the patches whose centre is outside. Empty without a known region.
    """
    if task.truth is None:
        return {}
    picture = task.picture
    size = picture.shape[-1]
    # All that was not to change, whatever box was chosen.
    outside = box_mask(task.truth, size, size)[0] == 0
    same = torch.equal(edit[:, outside], picture[:, outside])
    psnr = EXACT if same else float(peak_signal_noise_ratio(edit[:, outside], picture[:, outside], data_range=1.0))
    # SSIM of every pixel, so that it can be averaged outside only.
    _, ssim = structural_similarity_index_measure(edit[None], picture[None], data_range=1.0, return_full_image=True)
    before, after = models.backbone.encode_image(picture)[0], models.backbone.encode_image(edit)[0]
    distance = 1 - F.cosine_similarity(before, after, dim=0)
    # A patch counts if its centre is outside.
    far = F.interpolate(outside[None, None].float(), size=distance.shape, mode="nearest-exact")[0, 0] > 0
    return {"psnr": min(psnr, EXACT), "ssim": float(ssim[0, :, outside].mean()),
            "vit_distance": float(distance[far].mean())}

