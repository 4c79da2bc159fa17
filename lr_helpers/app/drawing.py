"""What the widget and the page show of a stage: pictures and pieces of HTML, the same in both."""

from __future__ import annotations

import base64
from html import escape

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image, ImageDraw

from lr_helpers.anchors import anchor_centres
from lr_helpers.app.engine import MOST, SAID, Chosen, Edited, Prepared, Proposed, Stopped, cost_sentence, marked
from lr_helpers.boxes import Box, Size, box_mask
from lr_helpers.files.canvas import scaled
from lr_helpers.files.pictures import draw_box, on_white, to_image
from lr_helpers.files.writing import png_bytes
from lr_helpers.models.loading import Models
from lr_helpers.plots.anchors import heat_picture
from lr_helpers.plots.style import BLACK, BLUE

SIDE = 384
"""Pixels of the longer side of a shown picture."""
SMALL = 128
"""Of a candidate among others."""
TINY = 64
"""Of a sample to choose."""
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


def compared_html(before: Image.Image, after: Image.Image) -> str:
    """`after`, over whose left part lies `before`; the slider below moves the line between. The browser does it alone,
    so it is smooth, and works where no kernel runs any more.
    """
    first, second = shown(before), shown(after)
    pixels = "image-rendering:pixelated;" if max(after.size) < SIDE else ""
    whole = f"display:block;width:100%;height:auto;margin:0;{pixels}"
    badge = ("position:absolute;top:6px;padding:0 7px;border-radius:9px;background:rgba(0,0,0,.6);color:#fff;"
             "font-size:12px;line-height:18px;")
    return (
        f'<div style="--at:50%;width:min({second.width}px, 100%)">'
        f'<div style="position:relative;overflow:hidden;border-radius:6px">'
        f'<img alt="after" src="{data_uri(second)}" style="{whole}">'
        f'<img alt="before" src="{data_uri(first)}" style="{whole}position:absolute;left:0;top:0;'
        'clip-path:inset(0 calc(100% - var(--at)) 0 0)">'
        '<div style="position:absolute;top:0;bottom:0;left:calc(var(--at) - 1px);width:2px;background:#fff;'
        'box-shadow:0 0 4px #000"></div>'
        f'<div style="{badge}left:6px">before</div><div style="{badge}right:6px">after</div></div>'
        # JupyterLab leaves the arrow keys to what is marked so.
        '<input type="range" min="0" max="100" value="50" data-lm-suppress-shortcuts="true" '
        'aria-label="how much of the picture before is shown, %" '
        'style="display:block;width:100%;margin:8px 0 0;accent-color:#0072b2" '
        "oninput=\"this.parentNode.style.setProperty('--at', this.value + '%')\"></div>")


def data_uri(picture: Image.Image) -> str:
    """A picture as an address that holds it."""
    return "data:image/png;base64," + base64.b64encode(png_bytes(picture)).decode()


# Words


def marked_html(models: Models, text: str) -> str:
    """The text's unknown words marked, and what the models say of them; "" where there is nothing to say."""
    if len(text) > MOST:
        return f'<div role="status"><small>At most {MOST:,} characters; these are {len(text):,}.</small></div>'
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


def bar_html(said: str, done: int = 0, most: int = 0) -> str:
    """A progress bar and what it stands for; of 0 the bar says only that something goes on."""
    value = f'value="{done}" max="{most}" ' if most else ""
    return (f'<div role="status"><progress {value}style="display:block;width:100%;height:12px;accent-color:#0072b2" '
            f'aria-label="progress"></progress>{escape(said)}</div>')


def edits_bar_html(edit: Edited) -> str:
    """The bar after this edit."""
    return bar_html(f"{edit.number + 1} edits made, of at most {edit.most} …", edit.number + 1, edit.most)


def title_of(edit: Edited) -> str:
    """A candidate in a few words."""
    return f"{edit.number + 1}" if edit.loss is None else f"{edit.number + 1}: loss {edit.loss:.2f}"


def table_html(edit: Edited) -> str:
    """A candidate's box and figures."""
    loss = "known when all edits are made" if edit.loss is None else f"{edit.loss:.3f}"
    rows = {"box (x0, y0, x1, y1)": str(edit.box), "loss": loss, "S (eq. 7)": f"{edit.score:.3f}"}
    rows |= {f"term {name}": f"{value:.3f}" for name, value in edit.terms.items() if value == value}
    cells = "".join(f'<tr><th scope="row" style="text-align:left;padding-right:1em">{escape(name)}</th>'
                    f"<td>{escape(value)}</td></tr>" for name, value in rows.items())
    return f"<table>{cells}</table>"


def cost_html(cost: dict) -> str:
    """What a finished edit took."""
    return (f"<div>{cost['different_edits']} different edits, {cost['denoiser_evaluations']:,} denoiser evaluations, "
            f"{cost['seconds']['total']:.1f} s</div>")


def preset_html(models: Models, name: str) -> str:
    """What a preset does, and what it will cost."""
    return f"<small><b>{escape(name)}</b> {escape(SAID[name])}<br>{escape(cost_sentence(models, name))}</small>"


def stopped_html(stopped: Stopped) -> str:
    """What a cancelled edit took."""
    return (f'<div role="status">Cancelled after {stopped.evaluations:,} denoiser evaluations and '
            f"{stopped.seconds:.1f} s.</div>")


def notes_html(notes: list[str]) -> str:
    """What is lost of a picture that was read; "" where nothing is."""
    return f'<div role="status"><small>{"<br>".join(map(escape, notes))}</small></div>' if notes else ""


def done_html(warnings: list[str]) -> str:
    """That an edit is finished, and what there is to say of it."""
    return f'<div role="status">{"<br>".join(["Done.", *map(escape, warnings)])}</div>'


def chosen_html(chosen: Chosen) -> str:
    """Where the probabilities come from."""
    how = "learned on this picture" if chosen.history else f"predicted, with a confidence of {chosen.confidence:.2f}"
    return f"<small>How probable each place is, {how}; the box is the place chosen.</small>"
