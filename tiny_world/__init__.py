"""The emoji world: 128×128 scenes in several hands, on drawn places and textures, whose regions are known; a judge that
names what stands there, and a zoo of models.

Read in this order: `words` (what there is and how people say it), `sprites`, `textures` and `places` (what it looks
like), `scenes` (recipes, pictures, boxes, captions), `sheets` (many of them on one page) and `judge` (what a crop
shows; it only measures). They are the world. `zoo` trains the miniature models that `data/tiny_world` ships:
`zoo.training` is the loop, and each model has a module beside it. Nothing here knows the method;
`lr_helpers.study.zoo` measures what the zoo reaches.
"""

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from lr_helpers.files.paths import ROOT

DATA = ROOT / "data" / "tiny_world"
"""The shipped models, sprites, textures and word list."""

SIZE = 128
"""Side of every scene in pixels."""

MODELS = ("classifier", "clip", "dino", "inpainting", "instruct", "text_to_image")
"""Folders of the miniatures in DATA; the classifier is the judge."""

GRID = 8
"""Objects stand on this pixel grid and their sizes are multiples of it (one latent of the VAE)."""


def weights_digest(folder: Path = DATA, models: Sequence[str] = MODELS) -> str:
    """Which weights these miniatures have, and which neutral texts CLIP is centred by: 64 hexadecimal digits."""
    found = sha256()
    for name in models:
        for file in sorted((folder / name).rglob("*.safetensors")):
            found.update(file.read_bytes())
    found.update((folder / "neutral_texts.txt").read_bytes())
    return found.hexdigest()
