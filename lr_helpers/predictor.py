"""Learning across pictures: one network for all of them says where to edit, before anything is edited. Ours.

The region network of the paper (`regions`) starts anew on every picture. This one reads the texts too, so what it
learned on other pictures holds for a new one. It learns from the same signal and by the same estimators (`learning`):
losses of edits that the frozen editor made. It sees no truth and no judge.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn
from torch.nn import functional as F
from torchvision.ops import roi_align

from lr_helpers.boxes import iou
from lr_helpers.errors import UserError
from lr_helpers.files.canvas import Canvas
from lr_helpers.files.names import shown
from lr_helpers.learning import Estimator, entropy
from lr_helpers.losses import SHARES, standardised
from lr_helpers.machine.seeding import seeded
from lr_helpers.models.encoders import fingerprint
from lr_helpers.models.loading import Models
from lr_helpers.models.profiles import Profile
from lr_helpers.models.region_weights import PARTS, metadata, read_header

INPUTS = ("features", "attention", "patches", "texts", "surroundings", "geometry")
"""What the network sees, by name, so that it can be trained without: the ViT's features and attention; CLIP's patches,
which come multiplied by the texts; the texts by themselves; what stands around a box; where the box lies.
"""
SAME_PLACE = 0.5
"""Boxes with this IoU or more count as the same place."""
POOL, AROUND = 4, 2
"""RoIAlign's output sides: of a box, and of the box twice as wide around it, which shows what stands beside."""
GEOMETRY = 6
"""Numbers that say where a box lies and how large it is."""


@dataclass(frozen=True)
class View:
    """What the network sees of one picture and its texts; nothing of it needs an edit."""

    features: torch.Tensor
    """(d, h, w): the self-supervised ViT's last layer."""
    attention: torch.Tensor
    """(h, w): its [CLS] query's attention, the mean of the heads."""
    patches: torch.Tensor
    """(D, h, w): CLIP's patches in the space of its texts, resized to the ViT's grid."""
    texts: torch.Tensor
    """(2, D): unit embeddings of source and prompt."""
    shape: tuple[int, int]
    """(H, W) of the picture, in whose pixels boxes are given."""

    def to(self, device: str | torch.device) -> View:
        """The same on a device."""
        seen = self.features, self.attention, self.patches, self.texts
        return View(*(values.to(device) for values in seen), self.shape)

    def flipped(self) -> View:
        """Of the mirrored picture."""
        return View(self.features.flip(-1), self.attention.flip(-1), self.patches.flip(-1), self.texts, self.shape)


@dataclass(frozen=True)
class Example:
    """One picture with some of its boxes, each edited once: what the network learns from."""

    view: View
    boxes: torch.Tensor
    """(N, 4) in the picture's pixels."""
    losses: torch.Tensor
    """(N,) lower is better; of any scale, unless `fit` is told one."""

    def flipped(self) -> Example:
        """The mirrored picture with its mirrored boxes; the losses stay."""
        x0, y0, x1, y1 = self.boxes.unbind(-1)
        width = self.view.shape[1]
        return Example(self.view.flipped(), torch.stack([width - x1, y0, width - x0, y1], -1), self.losses)


@torch.no_grad()
def view_of(models: Models, picture: Canvas | torch.Tensor, source: str, prompt: str,
            seen: tuple[torch.Tensor, torch.Tensor] | None = None) -> View:
    """What the network sees of a picture, a canvas or (3, H, W) in 0..1: one pass through the ViT and one through CLIP.

    `seen`: what the ViT gave already, features (d, h, w) and attention (heads, h, w).
    """
    canvas = Canvas.of(picture, models.editor.size)
    features, attention = seen or models.backbone.encode_image(canvas.frame)
    # CLIP sees all of the picture, squashed if it is not square; its patches lie on the ViT's grid again afterwards.
    patches = models.clip.patches(canvas.frame).permute(2, 0, 1)[None]
    patches = F.interpolate(patches, size=tuple(attention.shape[1:]), mode="bilinear", antialias=True)[0]
    return View(features, attention.mean(0), patches, models.clip.encode_text([source, prompt]), canvas.shape)


def weighed(terms: dict[str, torch.Tensor], weights: dict[str, float],
            scales: dict[str, float] | None = None) -> torch.Tensor:
    """(N,) weighted sum of the terms of N boxes of one picture, each but shares in standard deviations from its mean.

    `scales`: the deviations by term, the same for all pictures (`common_scales`); None: this picture's own.
    """
    total = torch.zeros_like(next(iter(terms.values())))
    for name in (name for name, weight in weights.items() if weight):
        values, weight = terms[name], weights[name]
        if name not in SHARES:
            values = standardised(values) if scales is None else (values - values.mean()) / (scales[name] + 1e-6)
        total = total + weight * values
    return total


def common_scales(pictures: Sequence[dict[str, torch.Tensor]], weights: dict[str, float]) -> dict[str, float]:
    """By term, the mean over the pictures of the deviation among a picture's boxes. `pictures`: the terms (N,) of each.

    In such units a picture whose edits are much alike teaches little. In its own, its noise would count as much as
    another's signal: where something is to be added to an empty scene, any place will do.
    """
    return {name: sum(float(terms[name].std(correction=0)) for terms in pictures) / len(pictures)
            for name, weight in weights.items() if weight and name not in SHARES}


class RegionPredictor(nn.Module):
    """A view and N boxes → N logits π; their softmax is how the network would choose among the boxes.

    A 1×1 convolution to few channels; two 3×3 convolutions, which the texts modulate (FiLM, Perez et al. 2018);
    RoIAlign of each box and of its surroundings, and a small network for each box. 0.3 M weights for the emoji world's
    models, 0.6 M for sd2's.
    """

    def __init__(self, features: int, embedding: int, hidden: int = 64, without: Sequence[str] = ()):
        """`features` d of the ViT, `embedding` D of CLIP; `without`: those of INPUTS that are zeros to it.

        Raises UserError for an input that there isn't.
        """
        super().__init__()
        if unknown := set(without) - set(INPUTS):
            raise UserError(f"The input {shown(min(unknown))} is unknown; choose from {', '.join(INPUTS)}.")
        self.settings = {"features": features, "embedding": embedding, "hidden": hidden, "without": list(without)}
        self.trained_on: dict[str, dict[str, str]] = {}
        """Its ViT and CLIP, from `models_of`; set by who trains it, and stored."""
        self.card: dict = {}
        """Plain data that says what it was trained on; likewise."""
        # Few pictures teach few weights: what the models see has hundreds of channels, of which some few are kept.
        self.squeeze = nn.Conv2d(features + 2 * embedding + 3, max(hidden // 2, 1), 1)
        self.enter = nn.Conv2d(max(hidden // 2, 1), hidden, 3, padding=1)
        self.mix = nn.Conv2d(hidden, hidden, 3, padding=1)
        self.modulate = nn.Linear(2 * embedding, 4 * hidden)
        self.judge = nn.Sequential(
            nn.Linear(hidden * (POOL**2 + AROUND**2) + GEOMETRY, 2 * hidden), nn.ReLU(), nn.Dropout(),
            nn.Linear(2 * hidden, 2 * hidden), nn.ReLU(), nn.Dropout(), nn.Linear(2 * hidden, 1))
        self.drop = nn.Dropout2d()  # only while it is trained, by the share that `fit` says

    def forward(self, view: View, boxes: torch.Tensor) -> torch.Tensor:
        """Boxes (..., 4) in the picture's pixels → logits (...)."""
        (logits,) = self.several([view], [boxes.reshape(-1, 4)])
        return logits.reshape(boxes.shape[:-1])

    def several(self, views: Sequence[View], boxes: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Pictures whose grids have one shape, each with (N, 4) boxes of its own → the (N,) logits of each."""
        device = self.enter.weight.device
        without = self.settings["without"]
        views = [view.to(device) for view in views]
        grid = torch.stack([read(view, without) for view in views])
        texts = F.normalize(torch.stack([view.texts for view in views]), dim=-1).flatten(1)
        texts = texts * ("texts" not in without)
        scale1, shift1, scale2, shift2 = self.modulate(texts)[..., None, None].chunk(4, dim=1)
        grid = self.squeeze(self.drop(grid))
        grid = self.drop(F.relu((1 + scale1) * self.enter(grid) + shift1))
        grid = self.drop(F.relu((1 + scale2) * self.mix(grid) + shift2))
        own = [rows.to(device, torch.float32) for rows in boxes]
        shapes = [view.shape for view in views]
        described = torch.cat([geometry(*pair) for pair in zip(own, shapes, strict=True)])
        inside, beside = pool(grid, own, shapes, POOL), pool(grid, [around(rows) for rows in own], shapes, AROUND)
        beside, described = beside * ("surroundings" not in without), described * ("geometry" not in without)
        logits = self.judge(torch.cat([inside, beside, described], dim=1))[:, 0]
        return list(logits.split([len(rows) for rows in own]))

    def to_bytes(self) -> bytes:
        """The network as one safetensors file, its weights in half precision; with `trained_on` and `card`."""
        state = {name: value.detach().half().cpu().contiguous() for name, value in self.state_dict().items()}
        return save(state, metadata(self.settings, self.trained_on, self.card))

    @classmethod
    def load(cls, file: str | Path) -> RegionPredictor:
        """What `to_bytes` gave, ready to use; raises UserError if it is missing, damaged or something else."""
        try:
            header = read_header(Path(file))
            with torch.device("meta"):  # shapes without memory, whatever the header says
                network = cls(**header.settings)
            wanted = {name: list(value.shape) for name, value in network.state_dict().items()}
            with safe_open(file, "pt") as stored:
                if {name: stored.get_slice(name).get_shape() for name in stored.keys()} != wanted:  # noqa: SIM118
                    raise ValueError("its weights have not the shapes that its settings say")
                state = {name: stored.get_tensor(name).float() for name in wanted}
            if not all(values.isfinite().all() for values in state.values()):
                raise ValueError("it holds numbers that are not finite")
            network.load_state_dict(state, assign=True)
        except UserError as error:
            raise _no_predictor(file, str(error)) from error
        except (OSError, ValueError, TypeError, SafetensorError, RuntimeError) as error:
            raise _no_predictor(file, getattr(error, "strerror", None) or str(error)) from error
        network.trained_on, network.card = header.trained_on, header.card
        return network.eval()

    def require_fit(self, models: Models, file: str | Path) -> None:
        """Raises UserError if it was trained on another ViT or CLIP than these; `file`: what the sentence calls it."""
        for part, here in models_of(models).items():
            if self.trained_on[part]["fingerprint"] != here["fingerprint"]:
                raise UserError(f"{shown(str(file))} was trained on another {TITLES[part]} "
                                f"({shown(self.trained_on[part]['name'])}) than this one ({shown(here['name'])}); "
                                f"{_train(models.profile)}.")


TITLES = {"backbone": "ViT", "clip": "CLIP"}
"""What sentences call the models that a predictor depends on."""


def models_of(models: Models) -> dict[str, dict[str, str]]:
    """What a predictor for these models was trained on: of each of its models the name, and which weights they are."""
    networks = {"backbone": models.backbone.vit, "clip": models.clip.model}
    return {part: {"name": models.origins[part], "fingerprint": fingerprint(networks[part])} for part in PARTS}


def require_predictor(profile: Profile) -> RegionPredictor:
    """The predictor of a profile, before its models are loaded; raises UserError where there is none, or a damaged one.
    """
    if profile.regions is None or not profile.regions.exists():
        where = f" ({shown(str(profile.regions))} is missing)" if profile.regions else ""
        raise UserError(f"There is no region predictor for the profile {profile.name!r}{where}; {_train(profile)}.")
    return RegionPredictor.load(profile.regions)


def predictor_of(models: Models) -> RegionPredictor:
    """The predictor of these models' profile, loaded once. Raises UserError as `require_predictor` does, and for one
    that was trained on another ViT or CLIP.
    """
    file = models.profile.regions
    if models.predictor is None or models.predictor[0] != file:
        found = require_predictor(models.profile)
        found.require_fit(models, file)
        models.predictor = file, found
    return models.predictor[1]


def stored_name(models: Models) -> str:
    """What records call the predictor of these models: its file's name, and which weights it has."""
    return f"{models.profile.regions.name} {fingerprint(predictor_of(models))}"


def _train(profile: Profile) -> str:
    return (f"train one by `python -m lr_helpers train-regions --profile {profile.name}` and give its file by "
            "--regions, or take the method 'learned', which needs none")


def _no_predictor(file: str | Path, why: str) -> UserError:
    why = " ".join(why.split())[:200].rstrip(".")
    return UserError(f"{shown(str(file))} is no region predictor ({why}); give a file that `python -m lr_helpers "
                     "train-regions` has written.")


# What it says of a picture


@dataclass(frozen=True)
class Ranking:
    """The different boxes of a picture, the most probable first."""

    boxes: torch.Tensor
    """(N, 4)."""
    probabilities: torch.Tensor
    """(N,), their sum is 1."""

    @property
    def confidence(self) -> float:
        """How sure it is of the place: the probability of the first box and all others at the same place."""
        return float(self.probabilities[iou(self.boxes[0], self.boxes) >= SAME_PLACE].sum())

    def places(self, count: int) -> list[int]:
        """The indices of at most `count` boxes at different places, the most probable of each."""
        taken: list[int] = []
        for i, box in enumerate(self.boxes):
            if len(taken) == count:
                break
            if not taken or bool((iou(box, self.boxes[taken]) < SAME_PLACE).all()):
                taken.append(i)
        return taken


@torch.no_grad()
def ranking(predictor: RegionPredictor, view: View, boxes: torch.Tensor) -> Ranking:
    """What the predictor says of the boxes (..., 4); equal ones count once."""
    different = torch.unique(boxes.reshape(-1, 4), dim=0)
    probabilities = predictor(view, different).softmax(0).cpu()
    order = probabilities.argsort(descending=True, stable=True)
    return Ranking(different[order], probabilities[order])


# What it reads


def read(view: View, without: Sequence[str] = ()) -> torch.Tensor:
    """The picture's grid as the network takes it: (d + 2 D + 3, h, w), every part of a scale of its own.

    The ViT's features; CLIP's patches times each text, elementwise, whose sum over the channels is their similarity;
    these similarities, standardised over the picture; and the attention, likewise. Those of INPUTS in `without` are 0.
    """
    texts = F.normalize(view.texts, dim=-1)
    products = texts[:, :, None, None] * F.normalize(view.patches, dim=0)
    similarity = standardised(products.sum(1), dim=(1, 2))
    parts = {"features": standardised(view.features, dim=0),
             "patches": torch.cat([*(standardised(p, dim=0) for p in products), similarity]),
             "attention": standardised(view.attention)[None]}
    return torch.cat([values * (name not in without) for name, values in parts.items()])


def around(boxes: torch.Tensor) -> torch.Tensor:
    """(N, 4) boxes → the boxes twice as wide and high with the same middles; they may leave the picture."""
    x0, y0, x1, y1 = boxes.unbind(-1)
    w, h = (x1 - x0) / 2, (y1 - y0) / 2
    return torch.stack([x0 - w, y0 - h, x1 + w, y1 + h], -1)


def pool(grid: torch.Tensor, boxes: Sequence[torch.Tensor], shapes: Sequence[tuple[int, int]],
         side: int) -> torch.Tensor:
    """RoIAlign of B grids (B, C, h, w) in the boxes (N, 4) of each picture → (all N, C · side²)."""
    h, w = grid.shape[2:]
    on_grid = [rows * rows.new_tensor([w / width, h / height, w / width, h / height])
               for rows, (height, width) in zip(boxes, shapes, strict=True)]
    return roi_align(grid, on_grid, output_size=side, sampling_ratio=2, aligned=True).flatten(1)


def geometry(boxes: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
    """(N, 4) boxes → (N, GEOMETRY): middle and sides as shares of the picture, area, and the logarithm of the sides'
    ratio.
    """
    height, width = shape
    x0, y0, x1, y1 = boxes.unbind(-1)
    w, h = (x1 - x0) / width, (y1 - y0) / height
    return torch.stack([(x0 + x1) / (2 * width), (y0 + y1) / (2 * height), w, h, w * h, (w / h).log()], -1)


class Known:
    """The losses of one picture's boxes as the estimators ask for them: a table of one anchor (`learning.Problem`)."""

    def __init__(self, losses: torch.Tensor):
        self.table = losses[None]

    def losses(self, choices: torch.Tensor | None) -> torch.Tensor:
        """(1,) chosen boxes → (1,) losses; None → all, (1, N)."""
        return self.table if choices is None else self.table.gather(1, choices[:, None])[:, 0]

    def blended(self, weights: torch.Tensor) -> torch.Tensor:
        """What straight-through needs, and stored losses cannot give."""
        raise UserError("straight_through needs the edited pictures, which are not stored; use expectation or "
                        "reinforce.")


def fit(predictor: RegionPredictor, examples: Sequence[Example], *, estimator: Estimator, steps: int, lr: float = 1e-3,
        batch: int = 16, temperature: float = 0.5, scale: float | None = None,
        dropout: float = 0.2, seed: int = 0, on_step: Callable[[int, float], None] | None = None) -> list[float]:
    """Train the predictor in place; returns the loss at each step.

    Each step takes `batch` pictures, half of them mirrored. `estimator` sees one picture's boxes as the proposals of
    one anchor. Losses count in units of `scale`, None: in standard deviations over the picture's boxes. An entropy
    bonus of `temperature`, in the same units, keeps the choice as
    undecided as the losses are: with `Expectation` the best network's softmax is softmax(−loss / temperature), so
    boxes that are as good share the probability, and single losses' noise averages out over pictures. On one example
    this is learning on one picture. `dropout`: the share of channels and neurons that are left out at each step, so
    that pictures are not learned by heart. `on_step(step, loss)` is called after each step.
    """
    for layer in predictor.modules():
        if isinstance(layer, (nn.Dropout, nn.Dropout2d)):
            layer.p = dropout
    draw = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(predictor.parameters(), lr=lr, weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, lr, total_steps=max(steps, 2), pct_start=0.1)
    groups = list(by_grid(examples).values())
    sizes = torch.tensor([float(len(group)) for group in groups])
    predictor.train()
    history = []
    with seeded(seed, next(predictor.parameters()).device):  # what is dropped
        for step in range(steps):
            # Pictures of one shape go through the convolutions together.
            group = groups[int(torch.multinomial(sizes, 1, generator=draw))]
            some = [group[i] for i in torch.randint(len(group), (min(batch, len(group)),), generator=draw).tolist()]
            some = [one.flipped() if torch.rand((), generator=draw) < 0.5 else one for one in some]
            found = predictor.several([one.view for one in some], [one.boxes for one in some])
            total = 0.0
            for one, logits in zip(some, found, strict=True):
                table = logits.cpu()[None]  # one anchor, whose proposals are the picture's boxes
                losses = standardised(one.losses) if scale is None else one.losses / scale
                loss = estimator(table, Known(losses), draw) - temperature * entropy(table)
                total = total + loss / len(some)
            optimiser.zero_grad(set_to_none=True)
            total.backward()
            nn.utils.clip_grad_norm_(predictor.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            history.append(float(total.detach()))
            if not total.isfinite():
                raise UserError(f"The loss is {history[-1]} at step {step + 1}; give a lower lr.")
            if on_step:
                on_step(step, history[-1])
    predictor.eval()
    return history


def by_grid(examples: Sequence[Example]) -> dict[tuple[int, int], list[Example]]:
    """The examples by the shape of the ViT's grid."""
    found: dict[tuple[int, int], list[Example]] = {}
    for one in examples:
        found.setdefault(tuple(one.view.attention.shape), []).append(one)
    return found
