"""What the widget and the page show of a stage: pictures and pieces of HTML, the same in both."""

from __future__ import annotations

from html import escape

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image, ImageDraw

from lr_helpers.anchors import anchor_centres
from lr_helpers.app.engine import Chosen, Edited, Prepared, Proposed, marked
from lr_helpers.boxes import Box, Size, box_mask
from lr_helpers.files.canvas import scaled
from lr_helpers.files.pictures import draw_box, on_white, to_image
from lr_helpers.models.loading import Models
from lr_helpers.plots.anchors import heat_picture
from lr_helpers.plots.style import BLACK, BLUE

SIDE = 384
"""Pixels of the longer side of a shown picture."""
SMALL = 128
"""Of a candidate among others."""
UNKNOWN = "background:#ffe08a;color:#222;border-bottom:2px solid #d55e00;padding:0 2px"
"""How an unknown word looks."""


def shown(picture: Image.Image | torch.Tensor, side: int = SIDE) -> Image.Image:
    """RGB with a longer side of `side` pixels, or nearly: small pictures are enlarged in whole pixels."""
    picture = to_image(picture) if isinstance(picture, torch.Tensor) else on_white(picture)
    longest = max(picture.size)
    scale = side // longest if longest <= side else side / longest
    how = Image.Resampling.NEAREST if longest <= side else Image.Resampling.LANCZOS
    return picture.resize(tuple(max(1, round(n * scale)) for n in picture.size), how)


def with_box(picture: Image.Image | torch.Tensor, box: Box, shape: Size, side: int = SIDE) -> Image.Image:
    """`shown`, and a box of a picture of this shape on it."""
    return draw_box(shown(picture, side), box, shape)


def attention_picture(prepared: Prepared, found: Proposed) -> Image.Image:
    """The attention laid over the picture, and the anchors as points on it."""
    base = shown(prepared.picture)
    drawn = _overlaid(base, found.attention)
    pen = ImageDraw.Draw(drawn)
    radius = max(3, base.width // 90)
    for x, y in anchor_centres(found.anchors, tuple(found.attention.shape), (base.height, base.width)).tolist():
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill="#d55e00", outline="white", width=2)
    return drawn


def region_picture(prepared: Prepared, chosen: Chosen, box: Box | None = None) -> Image.Image:
    """How probable it is that a pixel lies in the region, laid over the picture; and the region itself, once it is
    known.
    """
    height, width = prepared.picture.shape[1:]
    shape = prepared.original.height, prepared.original.width
    heat = torch.zeros(height, width)
    for one, probability in zip(scaled(chosen.boxes, shape, (height, width)).tolist(), chosen.probabilities.tolist(),
                                strict=True):
        heat += probability * box_mask([round(v) for v in one], height, width)[0]
    drawn = _overlaid(shown(prepared.picture), heat)
    return draw_box(drawn, box, shape) if box else drawn


def _overlaid(base: Image.Image, values: torch.Tensor) -> Image.Image:
    """Values (h, w) ≥ 0 in the heat map's colours, half transparent."""
    side = max(base.size)
    heat = to_image(heat_picture(values.float().clamp(min=0) + 1e-9, side)).resize(base.size)
    return Image.blend(base, heat, 0.55)


def history_picture(chosen: Chosen) -> Image.Image | None:
    """The loss at each update of the network; None where nothing was learned."""
    if chosen.history is None or not chosen.history.loss:
        return None
    # Not by pyplot, which is for one thread only.
    figure = Figure(figsize=(SIDE / 100, 2.2), dpi=100, layout="constrained", facecolor="white")
    axes = figure.add_subplot()
    axes.plot(chosen.history.loss, color=BLUE)
    axes.set_xlabel("update of the network")
    axes.set_ylabel("loss")
    axes.tick_params(colors=BLACK)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())


def halves(before: Image.Image, after: Image.Image, share: float) -> Image.Image:
    """`after`, whose left `share` (0..1) shows `before`, with a line between."""
    first, second = shown(before), shown(after)
    at = round(share * second.width)
    second.paste(first.crop((0, 0, at, first.height)), (0, 0))
    if 0 < at < second.width:
        ImageDraw.Draw(second).line((at, 0, at, second.height), fill="white", width=3)
    return second


# Words


def marked_html(models: Models, text: str) -> str:
    """The text's unknown words marked, and what the models say of them; "" where there is nothing to say."""
    pieces = marked(models, text)
    warnings = models.warnings_for(text) if text.strip() else []
    if not warnings:
        return ""
    words = "".join(f'<mark style="{UNKNOWN}">{escape(piece)}</mark>' if unknown else escape(piece)
                    for piece, unknown in pieces)
    return f'<div role="status">{words}<br><small>{"<br>".join(map(escape, warnings))}</small></div>'


def error_html(sentence: str) -> str:
    """One sentence, for all to see."""
    return (f'<div role="alert" style="border-left:4px solid #b00020;background:#fdecee;color:#222;padding:6px 10px">'
            f"{escape(sentence)}</div>")


def bar_html(done: int, most: int, said: str) -> str:
    """A progress bar and what it stands for."""
    return (f'<div role="status"><progress value="{done}" max="{max(most, 1)}" style="width:100%" '
            f'aria-label="progress"></progress><br>{escape(said)}</div>')


def title_of(edit: Edited) -> str:
    """A candidate in a few words."""
    return f"{edit.number + 1}: loss {edit.loss:.2f}"


def table_html(edit: Edited) -> str:
    """A candidate's box and figures."""
    rows = {"box (x0, y0, x1, y1)": str(edit.box), "loss": f"{edit.loss:.3f}", "S (eq. 7)": f"{edit.score:.3f}"}
    rows |= {f"term {name}": f"{value:.3f}" for name, value in edit.terms.items() if value == value}
    cells = "".join(f'<tr><th scope="row" style="text-align:left;padding-right:1em">{escape(name)}</th>'
                    f"<td>{escape(value)}</td></tr>" for name, value in rows.items())
    return f"<table>{cells}</table>"


def cost_html(cost: dict) -> str:
    """What a finished edit took."""
    return (f"<div>{cost['different_edits']} different edits, {cost['denoiser_evaluations']:,} denoiser evaluations, "
            f"{cost['seconds']['total']:.1f} s</div>")
