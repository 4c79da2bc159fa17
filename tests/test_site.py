"""The web site: its sources, its links, and the built pages themselves."""

import http.server
import json
import re
import threading
from functools import partial
from pathlib import Path

import pytest

from lr_helpers.authoring import badges, site
from lr_helpers.errors import UserError
from lr_helpers.files.outputs import ForeignError
from lr_helpers.files.paths import ROOT


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """What Sphinx is given."""
    folder = tmp_path_factory.mktemp("site") / "source"
    site.write_sources(folder)
    return folder


def test_every_notebook_and_page_is_in_the_menu(source):
    front = (source / "index.md").read_text(encoding="utf-8")
    assert front.index("docs/teaching/README\n") < front.index("docs/teaching/1_an_edit_and_where\n")
    for file in (*ROOT.glob("notebooks/*.ipynb"), *ROOT.glob("docs/*.md"), *ROOT.glob("docs/teaching/*.md")):
        name = file.relative_to(ROOT).with_suffix("").as_posix()
        assert re.search(rf"^{re.escape(name)}$", front, re.MULTILINE), name
        assert (source / file.relative_to(ROOT)).is_file()


def test_the_reference_has_every_public_module(source):
    pages = "\n".join(f.read_text(encoding="utf-8") for f in (source / "api").glob("*.rst"))
    for file in (ROOT / "lr_helpers").rglob("*.py"):
        name = ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        if name != "lr_helpers" and not name.split(".")[-1].startswith("_"):
            assert f".. automodule:: {name}\n" in pages, name


def test_sources_ask_for_nothing_from_elsewhere(source):
    shown = set()
    for file in (*source.rglob("*.md"), *source.rglob("*.ipynb")):
        text = file.read_text(encoding="utf-8")
        assert "colab-badge" not in text.replace("[badge]: " + badges.BADGE_PICTURE, ""), file
        for target in re.findall(r"!\[[^\]]*\]\(([^)\s]+)|<img[^>]*\ssrc=\\?[\"']([^\"'\\]+)", text):
            picture = "".join(target)
            if not picture.startswith(("data:", "attachment:")):
                assert (file.parent / picture).is_file(), (file.name, picture)
                shown.add((file.parent / picture).resolve().relative_to(source.resolve()).parent.as_posix())
    assert {"docs/figures", "docs/screens"} <= shown
    for file in source.rglob("*.ipynb"):
        cells = json.loads(file.read_text(encoding="utf-8"))["cells"]
        hidden = [c for c in cells if "hide-cell" in c["metadata"].get("tags", [])]
        assert hidden and all({badges.TAG, "parameters"} & set(c["metadata"]["tags"]) for c in hidden)


@pytest.mark.parametrize(("page", "text", "expected"), [
    ("docs/editing.md", "[a](batch.md#x)", "[a](batch.md#x)"),
    ("docs/editing.md", "[a](../README.md#start)", "[a](../index.md#start)"),
    ("docs/editing.md", "[a](../LICENSE)", "[a]({address}/blob/main/LICENSE)"),
    ("docs/editing.md", "[a](../notebooks/exercises)", "[a]({address}/tree/main/notebooks/exercises)"),
    ("README.md", "[a](docs/batch.md) and [b](https://x.org/y)", "[a](docs/batch.md) and [b](https://x.org/y)"),
    ("notebooks/01_the_inpainting_model.ipynb", "[a](../docs/batch.md)", "[a](../docs/batch.md)"),
    ("notebooks/01_the_inpainting_model.ipynb", "[a](exercises/01_the_inpainting_model.py)",
     "[a]({address}/blob/main/notebooks/exercises/01_the_inpainting_model.py)")])
def test_links_lead_to_the_site_or_to_the_repository(page, text, expected):
    address, _ = badges.project()
    assert site._linked(text, page, {"README.md", "docs/batch.md", "docs/editing.md"}) == expected.format(address=address)


def test_broken_links_are_found(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.html").write_text('<a href="sub/b.html#there">x</a><a href="https://x.org/gone">x</a><p id="here"></p>'
                                     '<a href="#here">x</a><a href="#nowhere">x</a><img src="no.png">')
    (tmp_path / "sub" / "b.html").write_text('<p id="there"></p><a href="../a.html#gone">x</a><a href="c.html">x</a>')
    assert list(site.broken_links(tmp_path)) == [
        ("a.html", "#nowhere"), ("a.html", "no.png"), ("sub/b.html", "../a.html#gone"), ("sub/b.html", "c.html")]


def test_docstrings_become_restructured_text():
    lines = ["`count` boxes of ``two``, and `a b`; see :func:`x`.", "", "All *args, 3 * 4."]
    site.as_restructured(None, "function", "f", None, None, lines)
    assert lines == ["``count`` boxes of ``two``, and ``a b``; see :func:`x`.", "", "All \\*args, 3 * 4."]


def test_without_sphinx_one_sentence_says_so(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "sphinx.cmd.build", None)
    with pytest.raises(UserError, match=r"needs Sphinx; run \./reproduce\.sh site"):
        site.build(tmp_path / "site")
    assert not (tmp_path / "site").exists()


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """The site itself."""
    said: list[str] = []
    folder = tmp_path_factory.mktemp("built") / "site"
    assert site.build(folder, said.append) == 0, said
    return folder


@pytest.mark.all
def test_the_site_is_whole(built):
    notebooks = {f.stem for f in ROOT.glob("notebooks/*.ipynb")}
    assert {f.stem for f in (built / "notebooks").glob("*.html")} == notebooks
    for name in notebooks:
        page = (built / "notebooks" / f"{name}.html").read_text(encoding="utf-8")
        assert f"colab.research.google.com/github/{badges.project()[0].removeprefix('https://github.com/')}" in page
        assert "Show code cell content" in page
    losses = (built / "notebooks" / "04_the_losses.html").read_text(encoding="utf-8")
    assert losses.count("<math") > 20 and "MathJax" not in losses
    index = (built / "searchindex.js").read_text(encoding="utf-8")
    assert "gumbel" in index
    assert "top_anchors" in (built / "api" / "lr_helpers.html").read_text(encoding="utf-8")


@pytest.mark.all
def test_pages_fetch_nothing_from_elsewhere(built):
    for file in built.rglob("*.html"):
        if "_static" in file.parts:
            continue
        text = file.read_text(encoding="utf-8")
        for address in re.findall(r'<(?:script|img|iframe)[^>]*\ssrc="([^"]+)"|<link[^>]*\shref="([^"]+)"', text):
            assert not any(a.startswith(("http:", "https:", "//")) for a in address), (file.name, address)


@pytest.mark.all
def test_the_site_is_built_again_in_its_place_and_spares_others(built):
    (built / "mine.txt").write_text("mine")
    (built / "index.html").write_text("changed by hand")
    with pytest.raises(ForeignError):
        site.build(built)
    assert (built / "mine.txt").read_text() == "mine" and (built / "index.html").read_text() == "changed by hand"


@pytest.mark.all
def test_the_search_finds_pages_in_a_browser(built):
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(built))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with playwright.sync_playwright() as engine:
        try:
            browser = engine.chromium.launch(executable_path=_chromium())
        except playwright.Error as error:
            pytest.skip(f"no browser: {str(error).splitlines()[0]}")
        for width in (1280, 420):
            page = browser.new_page(viewport={"width": width, "height": 900})
            failed: list[str] = []
            page.on("requestfailed", lambda request, failed=failed: failed.append(request.url))
            page.goto(f"http://127.0.0.1:{server.server_port}/search.html?q=gumbel")
            page.wait_for_selector("#search-results li")
            assert any("box_generator" in (a.get_attribute("href") or "")
                       for a in page.query_selector_all("#search-results a"))
            page.goto(f"http://127.0.0.1:{server.server_port}/notebooks/04_the_losses.html")
            wide = page.evaluate("document.documentElement.scrollWidth")
            assert wide <= width + 1, f"{width}: the page is {wide} wide"
            assert failed == []
        browser.close()
    server.shutdown()


def _chromium() -> str | None:
    return next((str(p) for p in map(Path, ("/usr/bin/chromium", "/usr/bin/google-chrome")) if p.exists()), None)
