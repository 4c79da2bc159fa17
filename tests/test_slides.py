"""The teacher's pack: slides that fit the notebooks, hints that the checks really give, minutes that add up."""

import re
from itertools import pairwise
from pathlib import Path

import nbformat
import pytest

from lr_helpers.authoring import slides
from lr_helpers.authoring.slides import TEACHING, Meeting, Slide, cells_of, meetings, notebook_of, plain, sections
from lr_helpers.cli import main
from lr_helpers.errors import UserError
from lr_helpers.files.outputs import ForeignError
from lr_helpers.files.paths import ROOT

PAGES = sorted(TEACHING.glob("[0-9]_*.md"))


def made(source: list) -> nbformat.NotebookNode:
    """A notebook of these cells: texts, or lists of outputs."""
    cells = [nbformat.v4.new_markdown_cell(one) if isinstance(one, str) else nbformat.v4.new_code_cell("run()", outputs=one)
             for one in source]
    return nbformat.v4.new_notebook(cells=cells)


def printed(text: str):
    return nbformat.v4.new_output("stream", name="stdout", text=text)


NOTEBOOK = made(["# Title\n\nFirst.", "## 1. A part: $x$\n\nOne [link](a.md).\n\n$$y = 2$$\n\n(Aside, for (some) readers.) Two.\n\n"
                 "**Exercise 1** Do.\n\n* a\n* b\n* c", [printed("first\n")], "Rest.\n\n## Other\n\nLast.", [printed("second\n")]])


def test_sections_go_from_heading_to_heading_also_within_a_cell():
    found = sections(NOTEBOOK)
    assert list(found) == ["Title", "1. A part: $x$", "Other"]
    assert [c.cell_type for c in found["1. A part: $x$"]] == ["markdown", "code", "markdown"]
    assert [c.source for c in found["Other"]] == ["Last.", "run()"]


def test_a_slide_holds_what_the_list_asks_for():
    words, shown = cells_of(Slide("n", "1. A part: $x$", show="printed"), NOTEBOOK)
    assert words.source.startswith("## A part\n\nOne link.") and "<math" in words.source  # a formula goes with its sentence
    assert "Aside" not in words.source and "Exercise" not in words.source and "Two." not in words.source
    assert shown.outputs[0].text == "first\n"
    (words,) = cells_of(Slide("n", "1. A part: $x$", show="nothing", start=3, paragraphs=2, points=2), NOTEBOOK)
    assert "Two.\n\n* a\n* b" in words.source and "* c" not in words.source
    assert cells_of(Slide("n", "Other", show="code"), NOTEBOOK)[1].source == "run()"


@pytest.mark.parametrize(("slide", "said"), [
    (Slide("n", "Nowhere"), "n has no heading 'Nowhere'"), (Slide("n", "Other"), "has 0 of what slides.toml shows"),
    (Slide("n", "Other", show="printed", which=2), "has 1 of what")])
def test_a_stale_list_is_told(slide, said):
    with pytest.raises(UserError, match=said):
        cells_of(slide, NOTEBOOK)


def test_a_list_of_something_else_is_told(tmp_path):
    for content in ("", "[[meeting]]\npage = 'x'", "[[meeting]]\npage = 'x'\nslide = [{ notebook = 'n', wrong = 1 }]", "= ="):
        (tmp_path / "list.toml").write_text(content)
        with pytest.raises(UserError, match="is no list of slides"):
            meetings(tmp_path / "list.toml")
    with pytest.raises(UserError, match="choose one of figure"):
        Slide("n", "h", show="video")


@pytest.mark.parametrize("meeting", meetings(), ids=lambda m: m.page)
def test_every_listed_heading_is_in_its_notebook_with_what_it_shows(meeting):
    notebook = notebook_of(meeting)
    slides_of = [c for c in notebook.cells if "slideshow" in c.metadata]
    assert len(slides_of) == len(meeting.slides) + 3 <= 20
    assert len(slides.questions(meeting.text)) == 3 == slides_of[-1].source.count("?\n") + slides_of[-1].source.endswith("?")
    assert not any("$" in c.source or "](" in c.source for c in slides_of)


def test_the_list_has_every_meeting():
    assert [m.page for m in meetings()] == [p.stem for p in PAGES] and len(PAGES) == 4


def test_formulas_become_mathml_and_prices_stay():
    assert plain("a $x_1$ b").count("<math") == 1 and plain("costs 5 $ and \\$6") == "costs 5 $ and \\$6"


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("slides") / "slides"
    assert main(["slides", "--output", str(folder)]) == 0
    return folder


def test_pages_fetch_nothing_from_elsewhere(built):
    for page in built.glob("*.html"):
        text = page.read_text(encoding="utf-8")
        found = re.findall(r'<(?:script|img|iframe)[^>]*\ssrc="([^"]+)"|<link[^>]*\shref="([^"]+)"', text)
        addresses = [a or b for a, b in found]
        for address in addresses:
            assert address.startswith("data:") or (built / address).is_file(), (page.name, address[:80])
        assert page.stem == "index" or sum(a.startswith("reveal/") for a in addresses) == 3
        pictures = re.findall(r"<img [^>]*>", text)
        assert page.stem == "index" or len(pictures) >= 5
        assert all(re.search(r'alt="[^"]{5,}"', p) and "No description" not in p for p in pictures)
        assert "MathJax" not in text and not re.search(r"@import\s+url\(['\"]?http", text)
    assert b"MIT" in (built / "reveal" / "LICENSE").read_bytes() or (built / "reveal" / "LICENSE").stat().st_size > 500


def test_slides_are_built_again_and_spare_others(built, monkeypatch, capsys):
    (built / "index.html").write_text("mine")
    assert main(["slides", "--output", str(built)]) == 2 and "index.html" in capsys.readouterr().err
    with pytest.raises(ForeignError):
        slides.build(built)
    (built / "index.html").unlink()
    assert slides.build(built, say=lambda _: None) == 0
    monkeypatch.setattr(slides.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="sphinx-revealjs"):
        slides.reveal_files()


@pytest.mark.all
def test_no_slide_is_larger_than_the_screen(built):
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    with playwright.sync_playwright() as engine:
        try:
            browser = engine.chromium.launch(executable_path=_chromium(), args=["--no-sandbox"])
        except playwright.Error as error:
            pytest.skip(f"no browser: {str(error).splitlines()[0]}")
        page = browser.new_page(viewport={"width": 1280, "height": 720})
        wrong: list[str] = []
        page.on("console", lambda m: wrong.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("requestfailed", lambda request: wrong.append(request.url))
        for meeting in meetings():
            page.goto((built / f"{meeting.page}.html").as_uri())
            page.wait_for_timeout(500)
            for number in range(page.evaluate("Reveal.getTotalSlides()")):
                page.evaluate(f"Reveal.slide({number})")
                page.wait_for_timeout(50)
                inside = page.evaluate("""() => {
                    const slide = Reveal.getCurrentSlide(), all = [slide, ...slide.querySelectorAll("*")];
                    return all.every(e => e.scrollHeight <= 721 && e.getBoundingClientRect().bottom <= 721
                                          && e.getBoundingClientRect().right <= 1281)
                        && [...slide.querySelectorAll("pre")].every(e => e.scrollWidth <= e.clientWidth + 1)
                        && [...slide.querySelectorAll("img")].every(e => e.complete && e.getBoundingClientRect().height > 100)}""")
                if not inside:
                    wrong.append(f"{meeting.page}: slide {number + 1} does not fit")
        browser.close()
    assert wrong == []


def _chromium() -> str | None:
    return next((str(p) for p in map(Path, ("/usr/bin/chromium", "/usr/bin/google-chrome")) if p.exists()), None)


# The pages


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_hints_that_a_page_promises_are_those_that_the_check_gives(page):
    from lr_helpers import checks
    from tests.mutations import WRONG
    from tests.mutations.judging import message_of

    rows = re.findall(r"^\| `(\w+)` \| .+? \| “(.+)” \|$", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(rows) >= 8
    said: dict[str, list[str]] = {}
    for exercise, hint in rows:
        if exercise not in said:
            said[exercise] = [" ".join((message_of(checks.ALL[exercise], f) or "").split()) for _, _, f in WRONG[exercise]]
        assert any(hint in message for message in said[exercise]), (exercise, hint)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_a_meeting_takes_ninety_minutes(page):
    text = page.read_text(encoding="utf-8")
    parts = [tuple(map(int, found)) for found in re.findall(r"^\| (\d+)-(\d+) \|", text, re.MULTILINE)]
    assert parts[0][0] == 0 and parts[-1][1] == 90
    assert all(a[1] == b[0] for a, b in pairwise(parts))
    assert [h for h in ("Goals", "Minute plan", "What to show", "What to let them do", "Wrong answers to expect", "Discuss")
            if not slides.section_of(text, h)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_exercises_and_headings_that_a_page_names_are_in_the_notebooks(page):
    text = page.read_text(encoding="utf-8")
    notebooks = {file.stem[:2]: file.read_text(encoding="utf-8") for file in (ROOT / "notebooks").glob("*.py")}
    show = slides.section_of(text, "What to show")
    named = [(bullet[:2], heading) for bullet in re.split(r"^- ", show, flags=re.MULTILINE)[1:]
             for heading in re.findall(r"“([^”]+)”", bullet)]
    assert len(named) >= 4
    for number, heading in named:
        assert re.search(rf"^# #+ {re.escape(' '.join(heading.split()))}$", notebooks[number], re.MULTILINE), (number, heading)
    for line in re.findall(r"^- (\d\d), exercises? (.*)", slides.section_of(text, "What to let them do"), re.MULTILINE):
        body = notebooks[line[0]]
        numbers = re.match(r"[\d, andto]+", line[1])[0]
        first = [int(n) for n in re.findall(r"\d+", numbers)]
        wanted = list(range(first[0], first[1] + 1)) if "to" in numbers else first
        # The names stand in the order of the numbers, and the n-th exercise's check is called in its notebook.
        order = re.findall(r'tags=\["solution"\][\s\S]*?^checks\.(\w+)\(', body, re.MULTILINE)
        assert re.findall(r"`(\w+)`", line[1]) == [order[n - 1] for n in wanted], line


def test_meetings_know_their_page():
    assert Meeting("1_an_edit_and_where").text.startswith("# Meeting 1")
