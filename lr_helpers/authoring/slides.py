"""`python -m lr_helpers slides`: a page of slides a meeting, picked from the executed notebooks by nbconvert.

docs/teaching/slides.toml names the headings. Words, figures and what was printed come from the notebooks as they are
now, goals and questions from the meeting's page, so that slides can't be stale. reveal.js is taken from the package
sphinx-revealjs and laid beside the pages: nothing is fetched, neither here nor in the browser.
"""

from __future__ import annotations

import importlib.util
import re
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from lr_helpers.errors import UserError
from lr_helpers.files.outputs import Output
from lr_helpers.files.paths import ROOT
from lr_helpers.machine.installing import install_extra

TEACHING = ROOT / "docs" / "teaching"
LIST = TEACHING / "slides.toml"
SHOWS = ("figure", "printed", "code", "nothing")
HIDDEN = "hide-input"
HEADING = re.compile(r"^#{1,6}\s+(.+?)\s*$", re.MULTILINE)
TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Slide:
    """One slide: a section of a notebook, shortened."""

    notebook: str
    """Its name without ".ipynb"."""
    heading: str
    """As it stands in the notebook, without the # before it."""
    show: str = "figure"
    """What stands below the words: one of SHOWS."""
    which: int = 1
    """The which-th figure, print or cell of code of the section."""
    paragraphs: int = 1
    """How many of the section's paragraphs stand on the slide."""
    start: int = 1
    """The first of them."""
    points: int | None = None
    """How many points of a list stand on it; None: all."""

    def __post_init__(self) -> None:
        if self.show not in SHOWS:
            raise UserError(f"{LIST.name} shows {self.show!r} of {self.heading!r}; choose one of {', '.join(SHOWS)}.")


@dataclass(frozen=True)
class Meeting:
    """One meeting of a class."""

    page: str
    """Its page in docs/teaching, without ".md"."""
    slides: Sequence[Slide] = field(default_factory=tuple)

    @property
    def text(self) -> str:
        """The page."""
        return (TEACHING / f"{self.page}.md").read_text(encoding="utf-8")


def meetings(file: Path = LIST) -> list[Meeting]:
    """What the list names, in its order. Raises UserError where it is not such a list."""
    try:
        found = tomllib.loads(file.read_text(encoding="utf-8"))["meeting"]
        return [Meeting(one["page"], tuple(Slide(**slide) for slide in one["slide"])) for one in found]
    except (OSError, tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise UserError(f"{str(file)!r} is no list of slides ({error}); see the one in docs/teaching.") from error


# What a notebook says under a heading


def sections(notebook: nbformat.NotebookNode) -> dict[str, list[nbformat.NotebookNode]]:
    """The cells below each heading, up to the next one; Markdown cells are cut at their headings."""
    found: dict[str, list] = {}
    here: list = []
    for cell in notebook.cells:
        if cell.cell_type != "markdown":
            here.append(cell)
            continue
        # The text before the first heading belongs to the section before.
        *parts, = HEADING.split(cell.source)
        if parts[0].strip():
            here.append(new_markdown_cell(parts[0].strip()))
        for heading, text in zip(parts[1::2], parts[2::2], strict=True):
            here = found.setdefault(heading, [])
            if text.strip():
                here.append(new_markdown_cell(text.strip()))
    return found


def cells_of(slide: Slide, notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    """The slide as cells. Raises UserError where the notebook lacks the heading, or what is to be shown below it."""
    known = sections(notebook)
    if slide.heading not in known:
        raise UserError(f"{slide.notebook} has no heading {slide.heading!r}; set {LIST.name} right. Its headings are: "
                        f"{', '.join(known)}.")
    here = known[slide.heading]
    words = [part for cell in here if cell.cell_type == "markdown" for part in re.split(r"\n\s*\n", cell.source)
             if not part.startswith(("**Exercise", "**Next", "[![")) and "data:image" not in part]
    words = [part for part in (ASIDE.sub("", part).strip() for part in words) if part]
    # A formula goes with the sentence before it.
    taken: list[str] = []
    for part in words[slide.start - 1:]:
        full = sum(not t.startswith("$$") for t in taken) >= slide.paragraphs
        if full and not (taken and part.startswith("$$")):
            break
        if slide.paragraphs:
            taken.append("\n* ".join(part.split("\n* ")[:slide.points]) if part.startswith("* ") else part)
    title = re.sub(r"^\d+\.\s+|:\s+\$[^$]*\$$|\$", "", slide.heading)
    text = "\n\n".join([f"## {title}", *taken, f'<p class="from">{slide.notebook}</p>'])
    found = [new_markdown_cell(plain(text), metadata={"slideshow": {"slide_type": "slide"}})]
    return found + _shown(slide, here)


def _shown(slide: Slide, here: list[nbformat.NotebookNode]) -> list[nbformat.NotebookNode]:
    """What stands below the words, as a cell of its own."""
    code = [cell for cell in here if cell.cell_type == "code"]
    if slide.show == "nothing":
        return []
    if slide.show == "code":
        choice = [new_code_cell(cell.source) for cell in code]
    else:
        outputs = [output for cell in code for output in cell.get("outputs", [])]
        if slide.show == "figure":
            wanted = [_described(o) for o in outputs if "image/png" in o.get("data", {})]
        else:
            wanted = [o for o in outputs if o.output_type == "stream" and o.name == "stdout"]
        choice = [new_code_cell(outputs=[output], metadata={"tags": [HIDDEN]}) for output in wanted]
    if not 1 <= slide.which <= len(choice):
        raise UserError(f"{slide.notebook} has {len(choice)} of what {LIST.name} shows ({slide.show}) under "
                        f"{slide.heading!r}, not {slide.which}; set the list right, or execute the notebook.")
    return [choice[slide.which - 1]]


def _described(output: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """A figure with its alternative text, which nbconvert leaves away."""
    said = output.metadata.get("image/png", {}).get("alt", "a figure")
    source = "".join(output.data["image/png"]).replace("\n", "")
    return new_output("display_data", {"text/html": f'<div class="jp-RenderedImage"><img alt="{escape(said)}" '
                                                    f'src="data:image/png;base64,{source}"></div>'})


ASIDE = re.compile(r"\s*\([A-Z](?:[^()]|\([^()]*\))*[.!?]\)", re.DOTALL)
"""A whole sentence in brackets: for who reads at leisure."""
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\([^)]*\)")
MATH = re.compile(r"\$\$(?P<block>.+?)\$\$|(?<![\\$])\$(?P<inline>[^$\n]+?)\$(?!\d)", re.DOTALL)


def plain(markdown: str) -> str:
    """Markdown for a slide: links lead nowhere from there, and formulas become MathML, which browsers draw by
    themselves.
    """
    from latex2mathml.converter import convert

    def formula(match: re.Match) -> str:
        if match["block"]:
            return f'<div class="formula">{convert(" ".join(match["block"].split()), display="block")}</div>'
        return convert(match["inline"])

    return MATH.sub(formula, LINK.sub(r"\1", markdown))


# A meeting


def section_of(text: str, title: str) -> str:
    """What stands below a heading of a page; "" if it isn't there."""
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    return found[1].strip() if found else ""


def questions(text: str) -> list[str]:
    """What is to be discussed: the bold sentences of the page's section "Discuss"; the answers are the teacher's."""
    found = re.findall(r"^\d+\. \*\*(.+?)\*\*", section_of(text, "Discuss"), re.MULTILINE | re.DOTALL)
    return [" ".join(question.split()) for question in found]


def notebook_of(meeting: Meeting, folder: Path = ROOT / "notebooks") -> nbformat.NotebookNode:
    """A meeting's slides: its title and goals, the sections of the notebooks, what to do, what to discuss."""
    text, read = meeting.text, {}
    title = HEADING.search(text)[1]

    def slide(source: str) -> nbformat.NotebookNode:
        return new_markdown_cell(plain(source), metadata={"slideshow": {"slide_type": "slide"}})

    cells = [slide(f"# {title}\n\n{section_of(text, 'Goals')}")]
    for one in meeting.slides:
        if one.notebook not in read:
            file = folder / f"{one.notebook}.ipynb"
            if not file.is_file():
                raise UserError(f"There is no notebook {one.notebook!r}, which {LIST.name} names; set the list right.")
            read[one.notebook] = nbformat.read(file, as_version=4)
        cells += cells_of(one, read[one.notebook])
    cells.append(slide(f"## Now you\n\n{section_of(text, 'What to let them do')}"))
    asked = "\n".join(f"{number}. {question}" for number, question in enumerate(questions(text), 1))
    cells.append(slide(f"## Let us discuss\n\n{asked}"))
    return new_notebook(cells=cells, metadata={"title": title, "language_info": {"name": "python"}})


def page_of(notebook: nbformat.NotebookNode) -> str:
    """The slides as HTML, for a folder that holds `reveal_files` in "reveal"."""
    from nbconvert import SlidesExporter
    from nbconvert.preprocessors import TagRemovePreprocessor
    from traitlets.config import Config

    settings = Config()
    settings.SlidesExporter.reveal_url_prefix = "reveal"
    settings.SlidesExporter.reveal_theme = "white"
    settings.TagRemovePreprocessor.enabled = True
    settings.TagRemovePreprocessor.remove_input_tags = {HIDDEN}
    exporter = SlidesExporter(config=settings, template_name="slides", extra_template_basedirs=[str(TEMPLATES)],
                              exclude_input_prompt=True, exclude_output_prompt=True)
    exporter.register_preprocessor(TagRemovePreprocessor(config=settings), enabled=True)
    page, _ = exporter.from_notebook_node(notebook)
    return page


def reveal_files() -> dict[str, bytes]:
    """reveal.js as the pages need it, by its name below "reveal". Raises UserError if its package is missing."""
    found: Any = importlib.util.find_spec("sphinx_revealjs")
    if found is None:
        raise UserError("Slides need reveal.js, which comes with the package sphinx-revealjs; run ./reproduce.sh "
                        f"slides, or install it by: {install_extra('test')}")
    place = Path(found.origin).parent / "_static" / "revealjs"
    names = ["LICENSE", "dist/reveal.js", "dist/reveal.css", "dist/theme/white.css"]
    fonts = (place / "dist" / "theme" / "fonts" / "source-sans-pro").iterdir()
    names += sorted(f.relative_to(place).as_posix() for f in fonts if f.suffix in (".css", ".woff", "")
                    and f.is_file())
    return {name: (place / name).read_bytes() for name in names}


INDEX = """<!DOCTYPE html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Slides</title>
<link rel="icon" href="data:,"><style>body {{ font: 20px/1.6 system-ui, sans-serif; margin: 3rem auto; max-width: 40rem;
padding: 0 1rem; }}</style><h1>Slides</h1><ol>{items}</ol>
<p>Arrow keys turn the pages, <kbd>F</kbd> fills the screen, <kbd>Esc</kbd> shows all.</p></html>
"""


def build(folder: Path, file: Path = LIST, say: Callable[[str], None] = print) -> int:
    """Write the slides of all meetings and an index; what was built there before is replaced. Returns the exit code.

    Raises UserError for a list that does not fit the notebooks, ForeignError if somebody else's files lie there.
    """
    pages = {meeting.page: notebook_of(meeting) for meeting in meetings(file)}
    with Output(folder, "slides").change() as change:
        for name, content in reveal_files().items():
            change.write(f"reveal/{name}", content)
        for name, notebook in pages.items():
            change.write(f"{name}.html", page_of(notebook).encode())
            slides = sum("slideshow" in cell.metadata for cell in notebook.cells)
            say(f"{notebook.metadata.title}: {slides} slides")
        items = "".join(f'<li><a href="{name}.html">{notebook.metadata.title}</a></li>'
                        for name, notebook in pages.items())
        change.write("index.html", INDEX.format(items=items).encode())
        change.remove_others()
    say(f"Open {folder / 'index.html'}")
    return 0
