"""The figures of README.md and docs/, and whether they are stale.

Each is a `Drawing`: the plain data it shows, and a function that draws them. A figure is stale when its data or the
code that draws it have changed since it was written. Its pixels are not compared: they differ between versions of
matplotlib.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from lr_helpers.authoring import diagram
from lr_helpers.authoring import docs_drawings as drawings
from lr_helpers.authoring.docs_store import TITLES, Store
from lr_helpers.course.samples import sample
from lr_helpers.files.writing import write_bytes
from lr_helpers.method import METHODS
from lr_helpers.study import photographs
from tiny_world import weights_digest

FOLDER = Path("docs") / "figures"
DPI = 160
"""Dots an inch; the figures are ten inches wide, so twice as wide as the 800 pixels that GitHub shows."""

LARGE = 350_000
"""A figure of more bytes is kept in 256 colours."""


@dataclass(frozen=True)
class Drawing:
    """A figure: what it shows, and how."""

    data: Callable[[Store], Any]
    """What is drawn, as plain data for JSON; the figure is stale when it has changed."""
    draw: Callable[[Any], Figure]
    """Data → figure, whose label is the alternative text."""


def _method_data(store: Store) -> dict:
    weights = weights_digest(store.root / "data" / "tiny_world", ("clip", "dino", "inpainting"))
    shown = sample("tiny")
    return {"weights": weights, "method": asdict(METHODS["learned"]), "seed": diagram.SEED,
            "picture": sha256(shown.picture.tobytes()).hexdigest(), "texts": (shown.source, shown.prompt)}


def _photographs_data(store: Store) -> dict:
    return {"learned (ours)": store.photographs["boxes"]["learned"],
            "official code": store.photographs["boxes"]["official_code"]}


DRAWINGS: Mapping[str, Drawing] = {
    "method": Drawing(_method_data, lambda _: diagram.draw(diagram.run())),
    "regions": Drawing(drawings.regions_data, drawings.draw_regions),
    "rules": Drawing(drawings.rules_data, drawings.draw_rules),
    "cost": Drawing(drawings.compare_data, drawings.draw_cost),
    "background": Drawing(drawings.compare_data, drawings.draw_background),
    "causes": Drawing(drawings.causes_data, drawings.draw_causes),
    "unseen": Drawing(drawings.unseen_data, drawings.draw_unseen),
    "photographs": Drawing(_photographs_data, photographs.draw),
    "pie": Drawing(drawings.pie_data, drawings.draw_pie),
    "world": Drawing(drawings.world_data, drawings.draw_world),
}
"""By file name, without .png."""


def digest(name: str, store: Store) -> str:
    """What a figure's data and the code that draws it come to."""
    found = sha256(json.dumps(DRAWINGS[name].data(store), sort_keys=True).encode())
    # The diagram has a file of its own; the others share one, and the names of the ways to edit.
    if name == "method":
        found.update(Path(diagram.__file__).read_bytes())
    else:
        found.update(Path(drawings.__file__).read_bytes() + json.dumps(TITLES).encode())
    return found.hexdigest()


def recorded(name: str, store: Store) -> dict[str, str]:
    """What the figure's file says of itself: Digest and Description (its alternative text); empty without a file."""
    try:
        with Image.open(store.root / FOLDER / f"{name}.png") as picture:
            return {key: str(value) for key, value in picture.info.items() if key in ("Digest", "Description")}
    except OSError:
        return {}


def write(name: str, store: Store) -> None:
    """Draw the figure and write its PNG, which says what it was drawn from."""
    with plt.rc_context({"font.size": 11.5}):
        figure = DRAWINGS[name].draw(DRAWINGS[name].data(store))
    drawn, file, about = BytesIO(), BytesIO(), PngInfo()
    figure.savefig(drawn, format="png", dpi=DPI)
    plt.close(figure)
    for key, value in (("Digest", digest(name, store)), ("Description", figure.get_label())):
        about.add_itxt(key, value)
    with Image.open(drawn) as picture:
        # Photographs would take megabytes in full colour; colours found by k-means hardly show that they are few.
        picture = picture.convert("RGB")
        if len(drawn.getvalue()) > LARGE:
            picture = picture.quantize(256, kmeans=3)
        picture.save(file, "PNG", pnginfo=about, optimize=True)
    write_bytes(store.root / FOLDER / f"{name}.png", file.getvalue())
