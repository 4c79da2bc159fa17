"""What an edit leaves behind, in memory and on disk."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from PIL import Image

from lr_helpers.boxes import Box, grown
from lr_helpers.errors import UserError
from lr_helpers.files.canvas import Canvas, scaled
from lr_helpers.files.outputs import FINAL, RESULT, Output, edit_names
from lr_helpers.files.pictures import draw_box, on_white, read_image, to_image, to_tensor
from lr_helpers.files.writing import json_bytes, png_bytes
from lr_helpers.learning import History
from lr_helpers.method import Method
from lr_helpers.regions import RegionNetwork

if TYPE_CHECKING:
    from lr_helpers.candidates import Candidates

FORMAT = 4
RECORD = ("profile", "origins", "device", "size", "steps", "screening_steps", "scheduler", "guidance", "method",
          "full_frame", "versions")
NOT_ALWAYS = ("avoid", "regions")
"""What a record has only where it applies."""


@dataclass
class Candidate:
    """The edit inside one anchor's best proposal, or at one place that a predictor chose."""

    anchor: int
    """Index of the anchor, 0 the most attended."""
    proposal: int
    """Index of its size, 0 the smallest."""
    box: Box
    """(x0, y0, x1, y1) in the picture's own pixels."""
    probability: float
    loss: float
    terms: dict[str, float]
    score: float
    text_similarity: float
    image_similarity: float
    steps: int
    """Denoising steps of the picture; the other figures are those of the edit that was judged, which may have had
    fewer (the record's `screening_steps`)."""
    picture: torch.Tensor = field(repr=False)
    """(3, h, w) in 0..1: what the encoders see of the picture, edited."""

    @classmethod
    def of(cls, table: Candidates, probabilities: torch.Tensor, k: int, m: int) -> Candidate:
        """Entry (k, m) of the table."""
        return cls(k, m, tuple(table.boxes[k, m].tolist()), float(probabilities[k, m]), float(table.loss[k, m]),
                   {name: float(values[k, m]) for name, values in table.terms.items()},
                   float(table.score[k, m]), float(table.text_similarity[k, m]),
                   float(table.image_similarity[k, m]), table.steps_of(k, m), table.picture(k, m))

    def to_dict(self) -> dict:
        """Plain data for JSON, without the picture; null for a term that the method does not ask for."""
        terms = {name: None if value != value else value for name, value in self.terms.items()}
        return {k: v for k, v in vars(self).items() if k != "picture"} | {"terms": terms}

    @classmethod
    def from_dict(cls, plain: dict, picture: torch.Tensor) -> Candidate:
        """What `to_dict` gave, with its picture."""
        terms = {name: float("nan") if value is None else value for name, value in plain["terms"].items()}
        return cls(**{**plain, "box": tuple(plain["box"]), "terms": terms}, picture=picture)


@dataclass
class EditResult:
    """The final picture, and everything that led to it. Tables are (K, M), NaN where nothing was edited."""

    image: Image.Image
    """The final picture, as large as the input. RGB, or RGBA where the input has transparency; likewise `original`."""
    original: Image.Image
    picture: torch.Tensor
    """The input as the encoders saw it, (3, h, w) in 0..1: its own aspect, about S² pixels."""
    candidates: list[Candidate]
    """One for each anchor, or each place that a predictor chose, best first; the first is the final one."""
    network: RegionNetwork | None
    """Trained on this picture; None where a predictor chose, likewise the history."""
    history: History | None
    confidence: float | None
    """A predictor's, in its first box's place, 0..1; None after a search."""
    attention: torch.Tensor
    """(heads, h, w)."""
    anchors: torch.Tensor
    """(K, 2) rows and columns."""
    boxes: torch.Tensor
    """(K, M, 4) proposals in the picture's own pixels."""
    probabilities: torch.Tensor
    """(K, M): of each anchor's proposals, or, where a predictor chose, of all different boxes of the picture."""
    terms: dict[str, torch.Tensor]
    loss: torch.Tensor
    scores: torch.Tensor
    table: Candidates | None = field(repr=False)
    """All edits; None after loading from disk, where only the candidates are kept."""
    prompt: str
    source: str
    seed: int
    method: Method
    cost: dict
    record: dict
    """Profile, origins of the models, device, versions and settings."""
    warnings: list[str]

    @property
    def box(self) -> Box:
        """The learned region: (x0, y0, x1, y1) in the picture's own pixels."""
        return self.candidates[0].box

    @property
    def painted(self) -> Box:
        """The region with the method's margin: outside of it the input's pixels are kept, unless `full_frame`."""
        return tuple(grown(torch.tensor(self.box), self.method.margin, self.shape).tolist())

    @property
    def edits(self) -> torch.Tensor | None:
        """(K, M, 3, h, w) in 0..1 as they were judged, NaN where nothing was edited; None after loading from disk."""
        return self.table.edits if self.table else None

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) of the picture, in whose pixels boxes are given."""
        return self.original.height, self.original.width

    def in_frame(self, boxes: torch.Tensor) -> torch.Tensor:
        """(..., 4) boxes in the picture's own pixels → in pixels of `picture` and of the candidates' pictures."""
        return scaled(boxes, self.shape, tuple(self.picture.shape[1:]))

    def save(self, folder: str | Path, draw_boxes: bool = False) -> Path:
        """Write pictures as the official code lays them out, then `result.json` last; returns the folder.

        `input.png`, `results/NN.png` (one a candidate, best first), `boxes/NN.png` if asked for, `overview.png` with
        them (input, region, final picture), `final_output.png`, and of a search `region_network.safetensors`. They
        appear when all are whole on the disk, and what an earlier edit saved there goes; `files.outputs` lists what
        that was. Raises ForeignError, before anything is written, if something else lies at one of these names, and
        OutputError if the folder can't be written to.
        """
        output = Output(folder, "edit")
        output.require(edit_names(len(self.candidates), draw_boxes))
        with output.change() as change:
            change.remove_others()
            for name, data in self.files(draw_boxes):
                change.write(name, data, record=name == RESULT)
        return output.folder

    def files(self, draw_boxes: bool = False) -> Iterator[tuple[str, bytes]]:
        """What `save` writes: the names and contents of its files, the record last."""
        yield "input.png", png_bytes(self.original)
        for i, candidate in enumerate(self.candidates):
            picture = to_image(candidate.picture)
            yield f"results/{i:02}.png", png_bytes(picture)
            if draw_boxes:
                times = max(1, round(256 / max(picture.size)))  # small pictures are drawn large
                large = picture.resize((times * picture.width, times * picture.height), Image.Resampling.NEAREST)
                yield f"boxes/{i:02}.png", png_bytes(draw_box(large, candidate.box, self.shape))
        if draw_boxes:
            yield "overview.png", png_bytes(self._overview())
        yield FINAL, png_bytes(self.image)
        if self.network is not None:
            yield "region_network.safetensors", self.network.to_bytes()
        yield RESULT, json_bytes(self.to_dict())

    def _overview(self, height: int = 256) -> Image.Image:
        """Input, input with the learned region, and final picture, side by side."""
        scale = min(height / self.original.height, 2 * height / self.original.width)  # panoramas get two squares
        size = tuple(max(1, round(side * scale)) for side in self.original.size)
        scaling = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS
        before, after = (on_white(p).resize(size, scaling) for p in (self.original, self.image))
        sheet = Image.new("RGB", (3 * size[0] + 16, size[1]), "white")
        for i, panel in enumerate((before, draw_box(before, self.box, self.shape), after)):
            sheet.paste(panel, (i * (size[0] + 8), 0))
        return sheet

    def to_dict(self) -> dict:
        """Everything but pictures, as plain data for JSON (null where nothing was edited)."""
        tables = {name: _plain(values) for name, values in self.terms.items()}
        return {"format": FORMAT, "prompt": self.prompt, "source": self.source, "seed": self.seed,
                "box": list(self.box), "painted": list(self.painted), "cost": self.cost,
                "warnings": self.warnings, **self.record,
                "candidates": [c.to_dict() for c in self.candidates], "anchors": self.anchors.tolist(),
                "boxes": self.boxes.tolist(), "probabilities": _plain(self.probabilities), "terms": tables,
                "loss": _plain(self.loss), "scores": _plain(self.scores),
                "history": asdict(self.history) if self.history else None, "confidence": self.confidence,
                "attention": _plain(self.attention)}

    @classmethod
    def load(cls, folder: str | Path) -> EditResult:
        """What `save` wrote, without the edits that were no anchor's best."""
        folder = Path(folder)
        file = folder / RESULT
        if not file.is_file():
            raise UserError(f"{folder} holds no finished edit (no result.json); give the output folder of an edit.")
        try:
            d = json.loads(file.read_text(encoding="utf-8"))
            if d["format"] != FORMAT:
                raise UserError(f"{file} has format {d['format']}, not {FORMAT}; make the edit again.")
            method = Method(**{k: tuple(v) if isinstance(v, list) else v for k, v in d["method"].items()})
            candidates = [Candidate.from_dict(c, to_tensor(read_image(folder / "results" / f"{i:02}.png")))
                          for i, c in enumerate(d["candidates"])]
            original = read_image(folder / "input.png", keep_alpha=True)
            record = {k: d[k] for k in (*RECORD, *NOT_ALWAYS) if k in RECORD or k in d}
            learned = d["history"] is not None
            return cls(
                image=read_image(folder / FINAL, keep_alpha=True), original=original,
                picture=Canvas(original, d["size"]).frame, candidates=candidates,
                network=RegionNetwork.load(folder / "region_network.safetensors") if learned else None,
                history=History(**d["history"]) if learned else None, confidence=d.get("confidence"),
                attention=_table(d["attention"]), anchors=torch.tensor(d["anchors"]), boxes=torch.tensor(d["boxes"]),
                probabilities=_table(d["probabilities"]), terms={k: _table(v) for k, v in d["terms"].items()},
                loss=_table(d["loss"]), scores=_table(d["scores"]), table=None, prompt=d["prompt"],
                source=d["source"], seed=d["seed"], method=method, cost=d["cost"], record=record,
                warnings=d["warnings"])
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise UserError(f"{file} is damaged ({type(error).__name__}: {error}); make the edit again.") from error


def _plain(values: torch.Tensor) -> list:
    """Nested lists with 6 decimals and None for NaN."""
    def walk(v):
        return [walk(x) for x in v] if isinstance(v, list) else None if v != v else round(v, 6)
    return walk(values.double().tolist())


def _table(values: list) -> torch.Tensor:
    def walk(v):
        return [walk(x) for x in v] if isinstance(v, list) else float("nan") if v is None else v
    return torch.tensor(walk(values))
