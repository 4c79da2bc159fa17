"""What the tests that drive a browser share: the browser, a view that watches for errors, and pictures to be looked at."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest

WIDTHS = (1280, 420)
SHOTS = os.environ.get("LR_SHOTS")
"""A folder for pictures of what the tests see."""
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@contextmanager
def browser() -> Iterator:
    """A headless Chromium or Chrome of this machine; skips where there is none, or no Playwright to drive it."""
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed (pip install -e '.[browser]')")
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip(f"no browser is on the PATH ({', '.join(NAMES)})")
    # Its sandbox can't be had by root, nor in most containers; the pages are our own.
    with playwright.sync_playwright() as engine:
        try:
            running = engine.chromium.launch(executable_path=found, args=["--no-sandbox"])
        except playwright.Error as error:
            pytest.skip(f"the browser does not start: {str(error).splitlines()[0]}")
        yield running
        running.close()


@contextmanager
def watched(running, address: str, width: int, ours=lambda text, url: True) -> Iterator:
    """A page of this width at the address. In the end nothing went wrong in it that is `ours`, nothing was asked of another
    host, and it is no wider than its window."""
    view = running.new_page(viewport={"width": width, "height": 1000})
    view.set_default_timeout(30_000)
    wrong, asked = [], []

    def noted(message) -> None:
        url = message.location.get("url", "")
        if message.type == "error" and ours(message.text, url):
            wrong.append(f"{message.text} ({url})")

    view.on("console", noted)
    view.on("pageerror", lambda error: wrong.append(str(error)) if ours(str(error), view.url) else None)
    view.on("request", lambda one: asked.append(one.url))
    view.goto(address)
    try:
        yield view
    except BaseException:
        view.close()
        raise
    assert wrong == [], wrong
    assert {urlsplit(url).netloc for url in asked if url.startswith("http")} == {urlsplit(address).netloc}
    wide = view.evaluate("document.documentElement.scrollWidth")
    assert wide <= width + 1, f"{width}: the page is {wide} wide"
    view.close()


def shot(view, name: str, whole=None) -> None:
    """A picture of the page, or of an element of it, where LR_SHOTS names a folder."""
    if SHOTS:
        size = view.viewport_size
        view.set_viewport_size(size | {"height": 3000})  # JupyterLab scrolls within its page
        view.wait_for_timeout(600)
        path = f"{SHOTS}/{name}_{size['width']}.png"
        whole.screenshot(path=path) if whole else view.screenshot(path=path, full_page=True)
        view.set_viewport_size(size)


def tab_to(view, selector: str, most: int = 80) -> None:
    """Press Tab until what has the focus lies in the selector."""
    for _ in range(most):
        view.keyboard.press("Tab")
        if view.evaluate("s => !!document.activeElement.closest(s)", selector):
            return
    pytest.fail(f"Tab does not reach {selector}")
