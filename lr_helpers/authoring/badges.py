"""The author's tool for how a notebook opens: the Colab badge under its title, and the set-up cell.

Both follow from the address and the version in pyproject.toml.
"""

from __future__ import annotations

import re
import tomllib

from lr_helpers.errors import UserError
from lr_helpers.files.paths import ROOT

PYPROJECT = ROOT / "pyproject.toml"
PLACEHOLDER = "github.com/OWNER/"
BRANCH = "main"
"""The branch whose notebooks the badges open; a notebook then fetches the code of its own version."""

BADGE_PICTURE = "https://colab.research.google.com/assets/colab-badge.svg"

TAG = "setup"
"""Tag of the set-up cell."""

BADGE = re.compile(r"\[!\[Open in Colab\]\([^)]*\)\]\([^)]*\)")
TITLE = re.compile(rf"^(# # .+\n)(?:#\n# {BADGE.pattern}\n)?", re.MULTILINE)
SETUP = re.compile(rf'^# %% tags=\["{TAG}"\]\n.*?\n(?=\n*(?:# %%|\Z))', re.MULTILINE | re.DOTALL)
PARAMETERS = re.compile(r'^(?=# %% tags=\[[^]]*"parameters")', re.MULTILINE)


def project() -> tuple[str, str]:
    """Address of the repository and version of the course, as pyproject.toml has them."""
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    address = project.get("urls", {}).get("Repository", "").rstrip("/").removesuffix(".git")
    if not re.fullmatch(r"https://github\.com/[\w.-]+/[\w.-]+", address):
        raise UserError(f"The Repository in pyproject.toml's [project.urls] is {address!r}; Colab opens notebooks from "
                        "addresses like https://github.com/OWNER/NAME.")
    return address, project["version"]


def placeholder() -> str | None:
    """One sentence while the repository has no address of its own, else None."""
    address, _ = project()
    if PLACEHOLDER not in address:
        return None
    return (f"{address} in pyproject.toml is a placeholder, so no badge opens anything yet; put the repository's "
            "address there and run: python -m lr_helpers notebooks --badges")


def colab_address(path: str) -> str:
    """Where Colab opens a notebook; `path` from the repository's root, e.g. notebooks/01_x.ipynb."""
    address, _ = project()
    place = address.removeprefix("https://github.com/")
    return f"https://colab.research.google.com/github/{place}/blob/{BRANCH}/{path}"


def badge(path: str) -> str:
    """The Markdown of the badge that opens a notebook; `path` as in `colab_address`."""
    return f"[![Open in Colab]({BADGE_PICTURE})]({colab_address(path)})"


def setup_cell() -> str:
    """The code of the set-up cell, the same in all notebooks.

    On Colab, once a session: it fetches the tag of its version into course/ (or else the default branch), and calls
    `colab.set_up`. While the address is a placeholder, it refuses instead: an account of that name may be anybody's.
    """
    address, version = project()
    begun = (
        "import os, sys  # On Colab this fetches the course and what is missing; elsewhere it does nothing.",
        'if "google.colab" in sys.modules and "lr_helpers" not in sys.modules:')
    if placeholder():
        return "\n".join((
            *begun,
            f'    sys.exit("Nothing was fetched: {address} "',
            '             "is only a placeholder for the real address; open the course "',
            '             "from its own repository, or put its address into pyproject.toml and run: "',
            '             "python -m lr_helpers notebooks --badges")'))
    # The command in words: make course/ a repository, fetch the tag or else the default branch, and take what came.
    return "\n".join((
        *begun,
        f'    tag = "v{version}"',
        f'    fetch = "git fetch -q --depth 1 {address}"',
        '    get = f"({fetch} tag {tag} 2>/dev/null || {fetch}) && git checkout -q FETCH_HEAD"',
        '    if os.system(f"git init -q course; cd course; {get}"):',
        '        sys.exit("The course could not be fetched from GitHub; check the network, "',
        '                 "then run this cell again.")',
        '    sys.path.insert(0, "course"); from lr_helpers.colab import set_up; set_up(tag)'))


def opens(script: str) -> bool:
    """Has a percent script a badge or a set-up cell?"""
    return bool(BADGE.search(script) or SETUP.search(script))


def opened(script: str, name: str) -> str:
    """A percent script, NAME.py in notebooks/, with the badge and the set-up cell that it should have.

    They are renewed where they are, or put under the title and before the cell tagged "parameters". Raises UserError
    where there is no title, or no such cell.
    """
    if not TITLE.search(script):
        raise UserError(f"{name}.py has no title to put a badge under; begin its first cell with '# Title'.")
    line = badge(f"notebooks/{name}.ipynb")
    script = TITLE.sub(lambda match: f"{match[1]}#\n# {line}\n", script, count=1)
    cell = f'# %% tags=["{TAG}"]\n{setup_cell()}\n'
    if SETUP.search(script):
        return SETUP.sub(lambda _: cell, script, count=1)
    if not PARAMETERS.search(script):
        raise UserError(f"{name}.py has no cell tagged \"parameters\"; the set-up cell goes before it.")
    return PARAMETERS.sub(lambda _: cell + "\n", script, count=1)
