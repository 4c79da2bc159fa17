"""The editor as a web page: what the command says, and the page itself in a headless browser."""

import json
import os
import sys
import tempfile
from io import BytesIO
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from browsing import WIDTHS, browser, shot, tab_to, watched
from PIL import Image

from lr_helpers import edit
from lr_helpers.app import page as app
from lr_helpers.app import sources
from lr_helpers.cli import main
from lr_helpers.files.writing import png_bytes
from lr_helpers.method import METHODS, Method

QUICK = Method(anchors=3, sizes=(0.4, 0.6), iterations=3, steps=2, estimator="expectation")
SLOW = QUICK.but(steps=500)


def test_without_gradio_one_sentence_says_so(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gradio", None)
    monkeypatch.setattr("lr_helpers.models.loading.load_models", lambda *_, **__: pytest.fail("models were loaded"))
    assert main(["app"]) == 2
    assert "The app needs Gradio" in capsys.readouterr().err and os.environ["GRADIO_ANALYTICS_ENABLED"] == "False"


@pytest.mark.parametrize("port", ["0", "65536"])
def test_a_port_that_cannot_be_is_told(port, capsys):
    assert main(["app", "--port", port]) == 2
    assert f"--port is {port}" in capsys.readouterr().err


@pytest.fixture(scope="module")
def address(models, tmp_path_factory):
    """The page, with a quick method and one that takes long; its temporary files lie in a folder of the test's."""
    pytest.importorskip("gradio", reason="Gradio is not installed (pip install -e '.[app]')")
    scratch = tmp_path_factory.mktemp("scratch")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(scratch))
        patch.setenv("GRADIO_TEMP_DIR", "")
        patch.setitem(METHODS, "learned", QUICK)
        patch.setitem(METHODS, "paper", SLOW)
        patch.setattr(sources, "LARGEST", 1)
        with app.served(models) as found:
            yield found
    assert list(scratch.glob("learnable_regions_*")) == []  # nothing stays


@pytest.fixture(scope="module")
def running():
    with browser() as found:
        yield found


def ours(text: str, url: str) -> bool:
    """Is an error in the console of ours? Gradio asks how far an upload is, also of one that is done already or was refused,
    and writes "Response" where it gets no answer."""
    return "upload" not in url and text != "Response"


@pytest.fixture(params=WIDTHS)
def view(running, address, request):
    """The page at two widths."""
    with watched(running, address, request.param, ours) as found:
        found.wait_for_selector("#run")
        yield found


def finished(view) -> None:
    view.wait_for_function("document.querySelector('#status').innerText.includes('Done.')", timeout=60_000)


@pytest.mark.all
def test_upload_type_run_click_and_download(view, models, scene_picture, tmp_path):
    shot(view, "start")
    # A picture of one's own.
    file = tmp_path / "mine.png"
    file.write_bytes(png_bytes(scene_picture))
    view.get_by_role("tab", name="Upload").click()
    view.set_input_files("#upload input[type=file]", str(file))
    view.wait_for_selector("#upload >> text=mine")
    # A word that the models don't know is marked while one types.
    box = view.locator("#prompt textarea")
    box.fill("")
    box.press_sequentially("a zeppelin")
    view.wait_for_selector("#prompt_marks mark:has-text('zeppelin')")
    shot(view, "typed")
    box.fill("an apple")
    view.wait_for_function("!document.querySelector('#prompt_marks mark')")
    view.locator("#source textarea").fill("wolf")
    # The edit, and what it shows.
    view.click("#run")
    finished(view)
    for part in ("#attention img", "#region img", "#slider img[alt=before]", "#took"):
        view.wait_for_selector(part)
    thumbnails = view.locator("#candidates button:has(img)")
    known = edit(models, scene_picture, "wolf", "an apple", QUICK, 42, progress=False)
    assert thumbnails.count() == known.cost["different_edits"]
    thumbnails.nth(1).click()
    view.wait_for_selector("#figures >> text=Candidate 2")
    place = view.locator("#figures table").bounding_box()
    assert place["x"] + place["width"] <= view.viewport_size["width"], "the figures are cut off"
    shot(view, "result")
    # The line between before and after goes where the slider goes.
    edges = []
    for value in ("0", "50", "100"):
        view.locator("#slider input[type=range]").fill(value)
        edges.append(view.locator("#slider img[alt=before]").evaluate("one => getComputedStyle(one).clipPath"))
    assert len(set(edges)) == 3
    with view.expect_download() as loading:
        view.click("#download")
    with Image.open(BytesIO(Path(loading.value.path()).read_bytes())) as picture:
        assert picture.tobytes() == known.image.tobytes()


def hold(view, text: str) -> list:
    """The first question with this text in it is held back, as by a busy machine; the list gets it, to be let go."""
    held = []

    def late(route) -> None:
        if not held and text in (route.request.post_data or ""):
            held.append(route)
        else:
            route.continue_()

    view.route("**/queue/join*", late)
    return held


@pytest.mark.all
def test_an_earlier_text_does_not_overtake_a_later_one(view):
    """Each letter typed asks which words are unknown. A browser asks over several connections, and the first may come last."""
    held = hold(view, "a zep")
    box = view.locator("#prompt textarea")
    box.fill("")
    box.press_sequentially("a zeppelin", delay=60)
    view.wait_for_timeout(1000)
    held[0].continue_()
    view.wait_for_selector("#prompt_marks mark:text-is('zeppelin')")
    view.wait_for_timeout(1000)
    assert view.locator("#prompt_marks mark").inner_text() == "zeppelin"


@pytest.mark.all
@pytest.mark.parametrize("tab, label, first, second", [("Sample", "sample", "cow", "apple"), ("Compose", "object", "cat", "owl")])
def test_a_choice_made_while_another_is_drawn_counts(view, tab, label, first, second):
    view.get_by_role("tab", name=tab).click()
    view.wait_for_timeout(1000)
    held = hold(view, f'"{first}"')
    for choice in (first, second):
        view.get_by_label(label, exact=True).click()
        view.get_by_role("option", name=choice, exact=True).click()
    view.wait_for_timeout(500)
    held[0].continue_()
    view.wait_for_function("there => document.querySelector('#source textarea').value == there", arg=second)
    view.wait_for_timeout(1000)
    assert view.locator("#source textarea").input_value() == second


@pytest.mark.all
def test_a_choice_is_made_by_the_keyboard(view):
    view.get_by_role("tab", name="Sample").click()
    view.get_by_label("sample", exact=True).focus()
    view.keyboard.press("Control+A")
    view.keyboard.type("cow")
    view.keyboard.press("Enter")
    view.wait_for_function("document.querySelector('#source textarea').value == 'cow'")


@pytest.mark.all
def test_a_candidate_clicked_while_another_is_fetched_is_shown(view):
    view.click("#run")
    finished(view)
    held = hold(view, "trigger_id")
    thumbnails = view.locator("#candidates button:has(img)")
    thumbnails.nth(0).click()
    thumbnails.nth(1).click()
    view.wait_for_timeout(500)
    held[0].continue_()
    view.wait_for_selector("#figures >> text=Candidate 2")
    view.wait_for_timeout(1000)
    assert "Candidate 2" in view.locator("#figures").inner_text()


@pytest.mark.all
def test_a_sample_is_taken_and_a_scene_is_composed(view):
    """A choice is drawn at once."""
    for tab, label, choice, there in (("Sample", "sample", "cow", "cow"), ("Compose", "object", "cat", "cat")):
        view.get_by_role("tab", name=tab).click()
        view.get_by_label(label, exact=True).click()
        view.get_by_role("option", name=choice, exact=True).click()
        view.wait_for_function("there => document.querySelector('#source textarea').value == there", arg=there)
    view.get_by_role("button", name="a cake").click()
    view.wait_for_function("document.querySelector('#prompt textarea').value == 'a cake'")
    shot(view, "compose")
    view.get_by_label("learned").check()
    view.click("#run")
    finished(view)


@pytest.mark.all
def test_cancel_stops_the_edit_and_run_works_again(view):
    view.get_by_label("paper").check()
    view.click("#run")
    view.wait_for_selector("#cancel:not([disabled])")
    view.wait_for_selector("#attention img")
    view.click("#cancel")
    view.wait_for_function("document.querySelector('#status').innerText.includes('Cancelled after')", timeout=30_000)
    view.get_by_label("learned").check()
    view.click("#run")
    finished(view)


@pytest.mark.all
def test_what_is_wrong_is_one_sentence(view, scene_picture, tmp_path):
    view.locator("#source textarea").fill(" ")
    view.click("#run")
    view.wait_for_selector("#status [role=alert] >> text=The source is empty")
    file = tmp_path / "page.png"
    file.write_bytes(b"%PDF-1.7 no picture")
    view.get_by_role("tab", name="Upload").click()
    view.set_input_files("#upload input[type=file]", str(file))
    view.wait_for_selector("#status [role=alert] >> text=it is a PDF document")
    for name, data, said in (("half.png", png_bytes(scene_picture)[:900], "#status [role=alert] >> text=is damaged"),
                             ("large.png", bytes(1_500_000), "text=/exceeds|too large|maximum/i")):
        (tmp_path / name).write_bytes(data)
        view.locator("#upload [aria-label*=lear], #upload [aria-label*=emove]").first.click()
        view.set_input_files("#upload input[type=file]", str(tmp_path / name))
        view.wait_for_selector(said)
    view.click("#run")
    view.wait_for_selector("#status [role=alert] >> text=There is no picture yet")
    shot(view, "wrong")


@pytest.mark.all
def test_by_the_keyboard_alone(view):
    tab_to(view, "#prompt")
    view.keyboard.press("Control+A")
    view.keyboard.type("a fox")
    tab_to(view, "#run")
    view.keyboard.press("Enter")
    finished(view)
    tab_to(view, "#slider input[type=range]")
    view.keyboard.press("ArrowRight")
    assert view.evaluate("document.activeElement.value") == "51"
    tab_to(view, "#download")
    tab_to(view, "#candidates button:has(img)")
    view.keyboard.press("Enter")
    view.wait_for_selector("#figures >> text=Candidate")


@pytest.mark.all
def test_the_page_tells_nobody_anything_and_lists_no_api(address, running):
    view = running.new_page()
    config = json.loads(view.goto(f"{address}config").text())
    assert config["analytics_enabled"] is False and not config["run_history"] and config["footer_links"] == []
    assert all(one["api_visibility"] == "private" for one in config["dependencies"] if one["targets"] and one["js"] is None)
    assert urlsplit(address).hostname == "127.0.0.1"
    assert view.goto(f"{address}gradio_api/file=/etc/hostname").status in (403, 404)
    view.close()
