"""The emoji world: 64×64 scenes whose regions are known, and the training of the miniature models.

Read in this order: `words` (what there is and how people say it), `sprites` and `places` (what it
looks like), `scenes` (recipes, pictures, boxes, captions), then `training` and one module for each
miniature model, and last `evaluate`.
"""

from lr_helpers.files.paths import ROOT

DATA = ROOT / "data" / "tiny_world"

SIZE = 64
"""Side of every scene in pixels."""

GRID = 4
"""Objects stand on this pixel grid and their sizes are multiples of it (one latent of the VAE)."""
