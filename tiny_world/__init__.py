"""The emoji world: 64×64 scenes whose regions are known, and the training of the miniature models.

Read in this order: `words` (what there is and how people say it), `sprites` and `places` (what it
looks like), `scenes` (recipes, pictures, boxes, captions), `judge` (who names what is in a box). `zoo` trains the
miniature models; `python -m lr_helpers study zoo` measures them.
"""

from lr_helpers.files.paths import ROOT

DATA = ROOT / "data" / "tiny_world"

SIZE = 64
"""Side of every scene in pixels."""

GRID = 4
"""Objects stand on this pixel grid and their sizes are multiples of it (one latent of the VAE)."""
