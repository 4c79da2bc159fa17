"""PIE-Bench's seven metrics of an edited picture (Ju et al., "Direct Inversion", arXiv 2310.01506), and who measures.

The benchmark's definitions, as its own code has them:

- *structure distance*: mean squared difference of the cosine self-similarities of DINO ViT-B/8's keys (last layer,
  all heads side by side, [CLS] included), source against edit, at 224 × 224. The published figures come from pixels of
  0..255 that are normalised as if they were 0..1, so that is the default here; `scale=1.0` is what was surely meant.
- *background* PSNR, MSE, SSIM and LPIPS (SqueezeNet): of picture × (1 − mask), over **all** its pixels. Those inside
  the mask are black in both and count as equal, so a large mask makes a better figure. NaN if nothing is outside.
- *CLIP similarity* (ViT-L/14) with the whole target prompt, 100 × cos: of the picture, and of picture × mask. NaN if
  nothing is inside. (The benchmark sets negative values to 0, of which the published ones are far.)

Pictures are what an 8-bit PNG holds. CLIP sees them through torch's antialiased bicubic filter instead of Pillow's,
whose result has 8 bits.
"""

from __future__ import annotations

import contextlib
import math
import pickle
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch.nn import functional as F
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure
from torchmetrics.functional.regression import mean_squared_error
from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity
from torchvision.models import SqueezeNet1_1_Weights

from lr_helpers.errors import UserError
from lr_helpers.models.encoders import Backbone, Clip
from lr_helpers.models.loading import Models, load_backbone, load_clip
from lr_helpers.models.profiles import MEASURES

SIZE = 224
"""Side at which ViT-B/8 sees a picture for the structure distance."""
PUBLISHED_SCALE = 255.0
TIMEOUT = 20.0
"""Seconds without a byte from the server until LPIPS's network counts as out of reach."""


@dataclass(frozen=True)
class Metric:
    """How one of the seven is shown."""

    name: str
    title: str
    """With {of} where the owner of the measuring model is said."""
    factor: float
    """Tables show the value times this, as the published ones do."""
    digits: int
    up: bool
    """Is more better?"""
    model: str = ""
    """Which of the measuring models it needs: "structure", "clip" or "lpips"."""

    def heading(self, of: str = "") -> str:
        """The column's title, `Measures.of` said."""
        return self.title.format(of=of)


METRICS: dict[str, Metric] = {m.name: m for m in (
    Metric("structure_distance", "structure distance{of} ×10³", 1e3, 2, False, "structure"),
    Metric("psnr", "background PSNR (dB)", 1.0, 2, True),
    Metric("lpips", "background LPIPS ×10³", 1e3, 2, False, "lpips"),
    Metric("mse", "background MSE ×10⁴", 1e4, 2, False),
    Metric("ssim", "background SSIM ×10²", 1e2, 2, True),
    Metric("clip_whole", "CLIP{of}, whole picture", 1.0, 2, True, "clip"),
    Metric("clip_edited", "CLIP{of}, edited part", 1.0, 2, True, "clip"),
)}
"""In the order of the published table."""


def self_similarity(keys: torch.Tensor) -> torch.Tensor:
    """(T, d) keys → (T, T) cosines between them."""
    # Keys of length 0 are like nothing, not like NaN.
    norms = keys.norm(dim=1, keepdim=True)
    return keys @ keys.T / (norms @ norms.T).clamp(min=1e-8)


def structure_distance(backbone: Backbone, before: torch.Tensor, after: torch.Tensor,
                       scale: float = PUBLISHED_SCALE) -> float:
    """Of two (3, H, W) pictures in 0..1, seen at the backbone's own size."""
    return float(F.mse_loss(self_similarity(backbone.keys(after, scale)),
                            self_similarity(backbone.keys(before, scale))))


def background(before: torch.Tensor, after: torch.Tensor, mask: torch.Tensor) -> dict[str, float]:
    """PSNR in dB (infinite if nothing differs), MSE and SSIM of (3, H, W) pictures in 0..1 × (1 − mask).

    `mask` (H, W) is 1 where the benchmark expects the edit. All NaN if it is 1 everywhere.
    """
    if not bool((1 - mask).any()):
        return dict.fromkeys(("psnr", "mse", "ssim"), math.nan)
    # The benchmark blackens the region in both and averages over all pixels.
    old, new = (picture[None] * (1 - mask) for picture in (before, after))
    return {"psnr": float(peak_signal_noise_ratio(new, old, data_range=1.0)),
            "mse": float(mean_squared_error(new, old)),
            "ssim": float(structural_similarity_index_measure(new, old, data_range=1.0))}


def background_lpips(lpips: LearnedPerceptualImagePatchSimilarity, before: torch.Tensor, after: torch.Tensor,
                     mask: torch.Tensor) -> float:
    """LPIPS of the same products; NaN if the mask is 1 everywhere."""
    if not bool((1 - mask).any()):
        return math.nan
    old, new = (picture[None] * (1 - mask) for picture in (before, after))
    device = next(lpips.parameters()).device
    lpips.reset()
    with torch.no_grad():
        return float(lpips(new.to(device), old.to(device)))


@torch.no_grad()
def clip_similarity(clip: Clip, picture: torch.Tensor, text: str, mask: torch.Tensor | None = None) -> float:
    """100 × cos of a (3, H, W) picture in 0..1 and a text; with a (H, W) mask, of picture × mask, NaN if that is 0."""
    if mask is not None:
        if not bool(mask.any()):
            return math.nan
        # Likewise what is outside of the mask is black to CLIP.
        picture = picture * mask
    return 100 * float(clip.encode_image(picture[None])[0][0] @ clip.encode_text([text])[0])


def lpips_network(device: str = "cpu") -> LearnedPerceptualImagePatchSimilarity:
    """LPIPS with SqueezeNet, for pictures in 0..1: torchmetrics ships its heads, torchvision downloads the network.

    The network is taken from torch's cache if it is there. Raises UserError where it can't be had.
    """
    url = SqueezeNet1_1_Weights.DEFAULT.url
    try:
        with _timeout(TIMEOUT):
            # torchvision would unpickle anything; what loads as weights alone is harmless, and is in the cache then.
            torch.hub.load_state_dict_from_url(url, map_location="cpu", progress=False, check_hash=True,
                                               weights_only=True)
    except (OSError, RuntimeError, pickle.UnpicklingError, EOFError) as error:  # URLError is an OSError
        reason = str(getattr(error, "reason", error)).strip().splitlines()[0][:120]
        raise UserError(f"SqueezeNet's weights for LPIPS can't be had ({type(error).__name__}: {reason}); put "
                        f"{url.rsplit('/', 1)[1]} from torchvision's model zoo into {torch.hub.get_dir()}/checkpoints, "
                        "or go without this metric.") from error
    return LearnedPerceptualImagePatchSimilarity(net_type="squeeze", normalize=True).to(device)


@contextlib.contextmanager
def _timeout(seconds: float) -> Iterator[None]:
    """torch.hub sets none, and would wait for a silent server for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


@dataclass
class Measures:
    """The models that measure; None for one that can't be had, whose metrics are then left out."""

    structure: Backbone | None
    clip: Clip | None
    lpips: LearnedPerceptualImagePatchSimilarity | None
    scale: float = PUBLISHED_SCALE
    """Of the pixels for the structure distance."""
    labels: dict[str, str] = field(default_factory=dict)
    """By "structure", "clip" and "lpips": which model it is, for the columns' names and the record."""
    missing: dict[str, str] = field(default_factory=dict)
    """Likewise why one is not there, in a sentence."""
    of: str = ""
    """Whose models they are where not the benchmark's, for the columns' titles."""

    def measure(self, before: torch.Tensor, after: torch.Tensor, mask: torch.Tensor, prompt: str) -> dict[str, float]:
        """The metrics that can be measured, of (3, H, W) pictures in 0..1, a (H, W) mask in {0, 1} and the whole
        target prompt; NaN where one does not apply.
        """
        found = background(before, after, mask)
        if self.structure is not None:
            found["structure_distance"] = structure_distance(self.structure, before, after, self.scale)
        if self.lpips is not None:
            found["lpips"] = background_lpips(self.lpips, before, after, mask)
        if self.clip is not None:
            found["clip_whole"] = clip_similarity(self.clip, after, prompt)
            found["clip_edited"] = clip_similarity(self.clip, after, prompt, mask)
        return {name: found[name] for name in METRICS if name in found}


def load_measures(models: Models) -> Measures:
    """The benchmark's own models for a profile of photographs, the emoji world's stand-ins for its profile.

    A model that is out of reach is left out, and why is in `missing`.
    """
    if models.profile.vocabulary is not None:
        return Measures(
            models.backbone, models.clip, None, 1.0,
            labels={"structure": f"the emoji world's ViT at {models.backbone.size}", "clip": "the emoji world's CLIP"},
            missing={"lpips": "LPIPS is not run in the emoji world: its network has only seen photographs."},
            of=" of the emoji world")
    labels: dict[str, str] = {}
    missing: dict[str, str] = {}

    def attempt(part: str, load):
        try:
            model, labels[part] = load()
            return model
        except UserError as error:
            missing[part] = str(error)
            return None

    # Each measuring model may be out of reach by itself.
    without = "go without this metric"
    structure = attempt("structure", lambda: load_backbone(MEASURES["structure"], models.device, SIZE, without))
    clip = attempt("clip", lambda: load_clip(MEASURES["clip"], models.device, without))
    lpips = attempt("lpips", lambda: (lpips_network(models.device), "SqueezeNet 1.1, torchmetrics"))
    return Measures(structure, clip, lpips, labels=labels, missing=missing)
