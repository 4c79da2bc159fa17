"""The author's tool for README.md and docs/: `python -m lr_helpers docs` writes what they quote of the stored studies.

A page says where something is generated: `<!-- generated: NAME -->…<!-- end -->`. NAME is a block of
`BLOCKS`, "figure NAME" with one of `DRAWINGS`, or the path of a value in a study (`Store.find`), which may stand
within a sentence. The text outside these markers is written by hand.
"""

from __future__ import annotations

import re
from pathlib import Path

from lr_helpers.authoring import docs_figures as figures
from lr_helpers.authoring.docs_store import Store
from lr_helpers.authoring.docs_tables import BLOCKS, difference, interval
from lr_helpers.errors import UserError
from lr_helpers.files.paths import ROOT
from lr_helpers.files.writing import write_bytes

MARKED = re.compile(r"(<!-- generated: (?P<name>[^\n]+?) -->)(?P<text>.*?)(<!-- end -->)", re.DOTALL)


def pages(root: Path = ROOT) -> list[Path]:
    """The pages that may quote something: README.md, CONTRIBUTING.md and all of docs/."""
    folders = (root / "docs", root / "docs" / "teaching")
    return [root / "README.md", root / "CONTRIBUTING.md", *(page for f in folders for page in sorted(f.glob("*.md")))]


def quoted(store: Store, path: str) -> str:
    """The value at a path of the store, as a sentence quotes it."""
    found = store.find(path)
    keys = path.split(" / ")
    if isinstance(found, dict) and {"value", "low", "high"} <= found.keys():
        compared = any(key in ("differences", "less seen") for key in keys)
        return difference(found) if compared else interval(found, keys[-1])
    if isinstance(found, bool) or not isinstance(found, (int, float)):
        raise UserError(f"{path!r} is no number and no interval; a page can't quote it.")
    return f"{found:,}"


def generated(name: str, page: Path, store: Store) -> str:
    """What belongs between the markers of this name on a page. Raises UserError for an unknown name."""
    if name in BLOCKS:
        return f"\n{BLOCKS[name](store)}\n"
    if name.startswith("figure "):
        figure = name.removeprefix("figure ")
        if figure not in figures.DRAWINGS:
            raise UserError(f"{page.name} shows the figure {figure!r}; there are {', '.join(figures.DRAWINGS)}.")
        said = figures.recorded(figure, store).get("Description", "")
        folder = "docs/figures" if page.parent == store.root else "figures"
        return f"\n![{said}]({folder}/{figure}.png)\n"
    return quoted(store, name)


def renewed(page: Path, store: Store) -> str:
    """The page with everything between its markers as it should be."""
    text = page.read_text(encoding="utf-8")
    if text.count("<!-- generated:") != text.count("<!-- end -->"):
        raise UserError(f"{page.name} has an unequal number of <!-- generated: … --> and <!-- end -->; close each.")
    return MARKED.sub(lambda m: m[1] + generated(m["name"], page, store) + m[4], text)


def stale(root: Path = ROOT) -> list[str]:
    """A sentence for each figure and each passage that is not what the stored studies say."""
    store, found = Store(root), []
    for name in figures.DRAWINGS:
        if figures.recorded(name, store).get("Digest") != figures.digest(name, store):
            found.append(f"docs/figures/{name}.png was drawn from other data, or by other code.")
    for page in pages(root):
        text, wanted = page.read_text(encoding="utf-8"), renewed(page, store)
        for had, has in zip(MARKED.finditer(text), MARKED.finditer(wanted), strict=True):
            if had["text"] != has["text"]:
                found.append(f"{page.relative_to(root)}: {had['name']} is not what is stored.")
    return found


def run(check: bool = False, root: Path = ROOT) -> int:
    """Write what is stale, or only tell it; 0 if all is (or could be made) as it should be, 1 if `check` found more."""
    if check:
        found = stale(root)
        print("\n".join([*found, f"Renew with: python -m lr_helpers docs ({len(found)} stale)"]) if found
              else "README.md and docs/ say what the studies say.")
        return int(bool(found))
    store = Store(root)
    for name in figures.DRAWINGS:
        if figures.recorded(name, store).get("Digest") != figures.digest(name, store):
            figures.write(name, store)
            print(f"docs/figures/{name}.png: drawn")
    for page in pages(root):
        text, wanted = page.read_text(encoding="utf-8"), renewed(page, store)
        if text != wanted:
            write_bytes(page, wanted.encode())
            print(f"{page.relative_to(root)}: renewed")
    return 0
