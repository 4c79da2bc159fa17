"""The course as a web site: the notebooks with their outputs, the pages of docs/ and an API reference, by Sphinx.

Nothing is run and nothing is fetched: the notebooks are shown as they were executed, formulas become MathML. What a
page links to in the repository and the site does not hold leads to the repository's address.
"""

from __future__ import annotations

import pkgutil
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

import nbformat

import lr_helpers
from lr_helpers.authoring import badges
from lr_helpers.errors import UserError
from lr_helpers.files.outputs import Output
from lr_helpers.files.paths import ROOT
from lr_helpers.machine.installing import install_extra

TITLE = "Learnable regions: a course"
PARTS = {"Notebooks": "notebooks/*.ipynb", "Pages": "docs/*.md", "Teaching": "docs/teaching/*.md"}
"""Captions of the menu, and the files below them."""
PICTURES = ("png", "svg", "jpg", "jpeg", "gif", "webp")
"""How the names of pictures end that pages below docs/ show: the site has its own copies."""
LINK = re.compile(r"(?P<before>\]\()(?P<target>[^)\s#]+)(?P<rest>(?:#[^)\s]*)?\))")
GENERATED = re.compile(r"<!-- (?:generated: [^>]*|end) -->\n?")
"""The marks of what `docs` writes; Markdown readers on GitHub don't show them either."""

BADGE_PICTURE = re.compile(r"!\[[^\]]*\](?:\[badge\]|\(" + re.escape(badges.BADGE_PICTURE) + r"\))")
STYLE = """\
/* What a cell printed is wrapped, not cut off. */
.cell_output pre { white-space: pre-wrap; }
.formula { margin: 1em 0; overflow-x: auto; text-align: center; }
"""


def build(folder: Path, say: Callable[[str], None] = print) -> int:
    """Build the site into `folder`; what was built there before is replaced. Returns the exit code: 1 if Sphinx warns
    or a link leads nowhere, which is told.

    Raises UserError if its packages are missing, ForeignError if somebody else's files lie there.
    """
    try:
        from sphinx.cmd.build import build_main
    except ImportError as error:
        raise UserError("The site needs Sphinx; run ./reproduce.sh site, or install it by: "
                        f"{install_extra('test')}") from error
    output = Output(folder, "site")
    with tempfile.TemporaryDirectory(prefix="site-") as place:
        source, made = Path(place, "source"), Path(place, "html")
        write_sources(source)
        failed = build_main(["-b", "html", "-q", "-W", "--keep-going", "-d", str(Path(place, "doctrees")),
                             str(source), str(made)])
        broken = list(broken_links(made))
        for page, target in broken:
            say(f"{page}: the link to {target} leads nowhere")
        if failed and not made.joinpath("index.html").exists():
            return 1
        files = {f.relative_to(made).as_posix(): f for f in sorted(made.rglob("*")) if f.is_file()}
        files.pop(".buildinfo", None)  # it names nothing that a reader needs
        output.require(files)
        with output.change() as change:
            for name, file in files.items():
                change.write(name, file.read_bytes())
            change.remove_others()
    pages = sum(name.endswith(".html") for name in files)
    say(f"{pages} pages, {sum(f.stat().st_size for f in folder.rglob('*') if f.is_file()) / 1e6:.0f} MB; open "
        f"{folder / 'index.html'}")
    return 1 if failed or broken else 0


# What Sphinx is given


def write_sources(source: Path) -> None:
    """All pages as Sphinx reads them: the front page, notebooks, docs, a page a room of the API, and conf.py."""
    source.mkdir(parents=True)
    copied = {"README.md", *(f.relative_to(ROOT).as_posix() for pattern in PARTS.values() for f in ROOT.glob(pattern)),
              *(f.relative_to(ROOT).as_posix() for kind in PICTURES for f in ROOT.glob(f"docs/**/*.{kind}"))}
    for name in sorted(copied):
        file, target = ROOT / name, source / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix == ".md":
            target.write_text(_linked(GENERATED.sub("", file.read_text(encoding="utf-8")), name, copied),
                              encoding="utf-8")
        elif file.suffix == ".ipynb":
            nbformat.write(_notebook(file, name, copied), target)
        else:
            shutil.copyfile(file, target)
    # The front page is the index, so the repository's README is read under that name.
    menu = [_menu(caption, pattern) for caption, pattern in PARTS.items()]
    front = (source / "README.md").read_text(encoding="utf-8")
    (source / "README.md").unlink()
    (source / "index.md").write_text("\n\n".join([front, *menu, _menu("Reference", "api/*.rst")]), encoding="utf-8")
    write_reference(source / "api")
    (source / "_static").mkdir()
    (source / "_static" / "course.css").write_text(STYLE, encoding="utf-8")
    (source / "conf.py").write_text(_settings(), encoding="utf-8")


def _notebook(file: Path, name: str, copied: set[str]) -> nbformat.NotebookNode:
    notebook = nbformat.read(file, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            # Every page has a button that opens it on Colab, so the badge goes.
            cell.source = _linked(badges.BADGE.sub("", cell.source), name, copied)
        # The set-up cell and the parameters are for whoever runs it.
        if {badges.TAG, "parameters"} & set(cell.metadata.get("tags", [])):
            cell.metadata.setdefault("tags", []).append("hide-cell")
    return notebook


def _linked(text: str, page: str, copied: set[str]) -> str:
    """Links of a page to files: to the site's own pages, or else to the repository."""
    address, _ = badges.project()

    text = BADGE_PICTURE.sub("Colab", text)  # no picture from elsewhere

    def link(match: re.Match) -> str:
        target, rest = match["target"], match["rest"]
        if urlsplit(target).scheme:
            return match[0]
        path = _resolved(PurePosixPath(page).parent, unquote(target))
        if path == "README.md":
            up = "../" * (len(PurePosixPath(page).parts) - 1)
            return f"{match['before']}{up}index.md{rest}"
        if path in copied:
            return match[0]
        kind = "tree" if (ROOT / path).is_dir() else "blob"
        return f"{match['before']}{address}/{kind}/{badges.BRANCH}/{path}{rest}"

    return LINK.sub(link, text)


def _resolved(folder: PurePosixPath, target: str) -> str:
    """A relative path seen from a folder of the repository, with .. taken away."""
    parts = []
    for part in (*folder.parts, *PurePosixPath(target).parts):
        if part == "..":
            parts.pop()
        elif part != ".":
            parts.append(part)
    return "/".join(parts)


def _menu(caption: str, pattern: str) -> str:
    names = sorted(PurePosixPath(f.relative_to(ROOT)).with_suffix("").as_posix() for f in ROOT.glob(pattern))
    # A folder's README is its first page.
    names = sorted(names, key=lambda name: not name.endswith("/README")) or ["api/index"]
    return "\n".join(["```{toctree}", ":hidden:", f":caption: {caption}", "", *names, "```"])


# The reference


def rooms() -> dict[str, list[str]]:
    """The package's modules by room: the flat ones under "lr_helpers", then each folder's."""
    found: dict[str, list[str]] = {"lr_helpers": []}
    for module in pkgutil.walk_packages(lr_helpers.__path__, "lr_helpers."):
        room = ".".join(module.name.split(".")[:2]) if module.name.count(".") > 1 or module.ispkg else "lr_helpers"
        if not module.name.split(".")[-1].startswith("_"):
            found.setdefault(room, []).append(module.name)
    return found


def write_reference(folder: Path) -> None:
    """A page a room with all that its modules say of their public names, and an index."""
    folder.mkdir()
    for room, modules in rooms().items():
        lines = [room, "=" * len(room), ""]
        for name in modules:
            lines += [name, "-" * len(name), "", f".. automodule:: {name}", "   :members:", "   :show-inheritance:", ""]
        (folder / f"{room}.rst").write_text("\n".join(lines), encoding="utf-8")
    names = list(rooms())
    lines = ["Reference", "=========", "",
             "What the helper package offers, room by room. The method itself lies flat in ``lr_helpers``.", "",
             ".. toctree::", "   :maxdepth: 2", "", *(f"   {name}" for name in names), ""]
    (folder / "index.rst").write_text("\n".join(lines), encoding="utf-8")


CODE = re.compile(r"(?<![`:\w])`([^`\n]+)`(?!`)")


def as_restructured(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Our docstrings are Markdown's: `code` in single backticks, and no other marks."""
    text = CODE.sub(r"``\1``", "\n".join(lines))
    text = re.sub(r"(?<![*\\\w`])\*(?=\w)", r"\\*", text)  # `*args` in a sentence begins no emphasis
    lines[:] = text.split("\n")


def mathml(self: Any, node: Any) -> None:
    """A formula as MathML, which browsers draw without any script; Sphinx calls this for each."""
    from docutils import nodes
    from latex2mathml.converter import convert

    block = node.tagname == "math_block"
    formula = convert(node.astext(), display="block" if block else "inline")
    self.body.append(f'<div class="formula">{formula}</div>' if block else formula)
    raise nodes.SkipNode


def _settings() -> str:
    """conf.py."""
    address, version = badges.project()
    values = {
        "project": TITLE, "author": "The course's authors", "copyright": "the course's authors, MIT licence",
        "version": version, "release": version,
        "extensions": ["myst_nb", "sphinx.ext.autodoc"],
        "nb_execution_mode": "off", "nb_merge_streams": True,
        "myst_enable_extensions": ["dollarmath", "amsmath"], "myst_heading_anchors": 4,
        "autodoc_member_order": "bysource", "autodoc_typehints": "signature", "add_module_names": False,
        "suppress_warnings": ["mystnb.unknown_mime_type", "myst.header", "misc.highlighting_failure",
                              "ref.python"],  # a type of a signature that several modules have one of
        "html_static_path": ["_static"], "html_css_files": ["course.css"],
        "html_theme": "sphinx_book_theme", "html_title": TITLE,
        "html_show_sourcelink": False, "html_copy_source": False,
        "html_theme_options": {
            "repository_url": address, "repository_branch": badges.BRANCH, "path_to_docs": "",
            "use_repository_button": True, "use_download_button": True, "use_fullscreen_button": False,
            "launch_buttons": {"colab_url": "https://colab.research.google.com"},
            "navbar_start": [], "navbar_center": [], "navbar_end": [], "navbar_persistent": [],  # the menu has them
            "show_navbar_depth": 1, "home_page_in_toc": True},
    }
    lines = [f"{name} = {value!r}" for name, value in values.items()]
    return "\n".join([
        f"import sys\n\nsys.path.insert(0, {str(ROOT)!r})\n", *lines, "", "",
        "def setup(app):",
        "    from lr_helpers.authoring import site",
        "    app.connect('autodoc-process-docstring', site.as_restructured)",
        "    for name in ('math', 'math_block'):",
        "        from docutils import nodes",
        "        app.add_node(getattr(nodes, name), override=True, html=(site.mathml, None))",
        ""])


# Links


class _Page(HTMLParser):
    """The addresses that a page leads to, and the names that can be led to."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.names: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for key, value in attrs:
            if value and key in ("href", "src"):
                self.links.append(value)
            elif value and key in ("id", "name"):
                self.names.add(value)


def broken_links(folder: Path) -> Iterator[tuple[str, str]]:
    """(page, address) of every link within a built site whose file or whose place in it is missing."""
    pages: dict[Path, _Page] = {}
    for file in sorted(f for f in folder.rglob("*.html") if "_static" not in f.parts):  # there lie templates
        pages[file] = _Page()
        pages[file].feed(file.read_text(encoding="utf-8"))
    for file, page in pages.items():
        for link in dict.fromkeys(page.links):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            known = pages.get(target)
            if not target.exists() or (parts.fragment and known and unquote(parts.fragment) not in known.names):
                yield file.relative_to(folder).as_posix(), link
