"""What students write: for every exercise wrong answers with what the check has to say of them, and right ones.

`WRONG[exercise]` lists (what is wrong, words that the check's message has to hold, function); several words are parted by
`|`, and one of them will do. `RIGHT[exercise]` lists (in which style, function). They are written apart from the `mistakes`
of the checks, in other words. `python -m tests.mutations` prints the totals.
"""

from . import across, anchors, batch, capstone, comparison, inpainting, learning, losses, regions

WRONG: dict[str, list] = {}
RIGHT: dict[str, list] = {}
for _module in (inpainting, anchors, regions, losses, learning, capstone, across, batch, comparison):
    WRONG.update(_module.WRONG)
    RIGHT.update(_module.RIGHT)
