"""World two: 128×128 emoji scenes in several hands, on drawn places and textures, whose regions are known.

Read in this order: `words` (what there is and how people say it), `sprites`, `textures` and `places` (what it looks
like), `scenes` (recipes, pictures, boxes, captions), then `zoo` with one module for each miniature model, and last
`evaluate`.
"""

from pathlib import Path

DATA = Path(__file__).resolve().parents[2] / "data" / "world_two"

SIZE = 128
"""Side of every scene in pixels."""

GRID = 8
"""Objects stand on this pixel grid and their sizes are multiples of it (one latent of the autoencoder)."""
