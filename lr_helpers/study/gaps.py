"""`python -m lr_helpers study gaps`: does a search outlive another CLIP's geometry?

In real CLIPs, pictures and texts lie in two cones, far apart (Liang et al. 2022, arXiv 2203.02053); the miniature has
hardly such a gap. So the gap is simulated, on the scenes for choosing settings: all embeddings of pictures are moved in
one direction, those of texts in another, and brought back to unit length. `learned` searches with each, and so does it
with weights that count terms as they are.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import asdict

import torch
from torch.nn import functional as F

from lr_helpers.method import METHODS
from lr_helpers.models.loading import Models
from lr_helpers.study import tables
from lr_helpers.study.regions import Choosing, run_task
from lr_helpers.study.run import Done
from lr_helpers.study.tasks import task
from lr_helpers.study.variants import Variant

GAPS = {"as it is": (0.0, 0.0), "pictures in a cone": (1.2, 0.0), "texts in a cone": (0.0, 1.73),
        "both, apart": (1.2, 1.73)}
"""How far pictures and texts are moved, in lengths of an embedding. At 1.2 and 1.73 the cosines of two pictures are
about 0.6 + 0.4 times what they were, of two texts 0.75 + 0.25 times, and of a picture and a text a third of it."""
RAW = {"centre_texts": False, "standardise_terms": False, "patches_weight": 0.0, "occlusion_weight": 1.5,
       "area_weight": 0.75, "clip_weight": 0.0, "structure_weight": 0.5, "direction_weight": 1.0, "source_weight": 0.0}
"""The weights that were chosen at the scale of the first miniature CLIP."""
VARIANTS = (Variant("learned", "learned"),
            Variant("terms as they are", "learned", {"method": METHODS["learned"].but(**RAW)}))
MEASURES = ("hit", "iou", "success")


class Gap:
    """A CLIP whose pictures and texts lie in two cones, around directions of their own."""

    def __init__(self, clip, pictures: float, texts: float, seed: int = 0):
        """`pictures`, `texts`: how far they are moved, in lengths of an embedding; `seed` of the two directions."""
        self.clip = clip
        width = clip.encode_text(["a"]).shape[1]
        draw = torch.Generator().manual_seed(seed)
        self.picture, self.text = torch.linalg.qr(torch.randn(width, 2, generator=draw))[0].T
        self.picture, self.text = pictures * self.picture, texts * self.text

    def encode_image(self, images: torch.Tensor, scale: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
        """As the CLIP's own; the tokens stay."""
        seen, tokens = self.clip.encode_image(images, scale)
        return F.normalize(seen + self.picture, dim=-1), tokens

    def patches(self, image: torch.Tensor) -> torch.Tensor:
        """As the CLIP's own."""
        return F.normalize(self.clip.patches(image) + self.picture, dim=-1)

    def encode_text(self, texts: Sequence[str]) -> torch.Tensor:
        """As the CLIP's own."""
        return F.normalize(self.clip.encode_text(texts) + self.text, dim=-1)

    def __getattr__(self, name):
        return getattr(self.clip, name)


def with_gap(models: Models, pictures: float, texts: float) -> Models:
    """The same models, their CLIP behind a `Gap`."""
    other = copy.copy(models)
    other.__dict__.pop("neutral", None)  # what all texts share is another there
    other.clip = Gap(models.clip, pictures, texts)
    return other


class Gaps(Choosing):
    """Each replacement with every gap."""

    def settings(self, about: dict) -> dict:
        return {"study": "gaps", "steps": self.steps, "gaps": GAPS, "learned": asdict(METHODS["learned"]), "raw": RAW}

    def do(self, job: tuple[str, int]) -> dict:
        one, found = task(*job), {}
        for name, moved in GAPS.items():
            models = with_gap(self.models, *moved)
            found[name] = run_task(one, models, self.judge, VARIANTS, self.steps)["choices"]
        return {"task": one.name, "objects": len(one.recipe.objects), "found": found}

    def summarise(self, done: Done) -> dict:
        return {**self.settings({}), "tasks": len(done.records), "means": summarise(done.records)}

    def show(self, summary: dict, done: Done) -> None:
        for variant, means in summary["means"].items():
            tables.print_means(variant, means, MEASURES)


def summarise(records: Sequence[dict]) -> dict:
    """Means by variant, gap and measure."""
    found = {}
    for variant in (one.name for one in VARIANTS):
        flat = [{"task": record["task"], "row": gap, **choices[variant]}
                for record in records for gap, choices in record["found"].items()]
        found[variant] = tables.means(flat, MEASURES)
    return found
