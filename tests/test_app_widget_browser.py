"""The editor's widget in JupyterLab, in a headless browser: as a learner uses it."""

import json
import os
import re
import subprocess
import sys
import time
from io import BytesIO
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import nbformat
import pytest
from browsing import SHOTS, WIDTHS, browser, shot, tab_to, watched
from PIL import Image

from lr_helpers import edit
from lr_helpers.files.writing import png_bytes
from lr_helpers.method import Method

pytestmark = pytest.mark.all
QUICK = Method(anchors=3, sizes=(0.4, 0.6), iterations=3, steps=2, estimator="expectation")
FAST = "official_code"
"""The preset that is QUICK in the notebook."""
CELL = """
from lr_helpers import load_models
from lr_helpers.app import sources
from lr_helpers.course import editor
from lr_helpers.method import METHODS, Method

METHODS["official_code"] = Method(anchors=3, sizes=(0.4, 0.6), iterations=3, steps=2, estimator="expectation")
METHODS["paper"] = METHODS["official_code"].but(steps=500)
sources.LARGEST = 1
if "models" not in globals():
    models = load_models("tiny", device="cpu")
editor(models)
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """The address of a notebook in JupyterLab that shows the editor with a quick method and one that takes long."""
    pytest.importorskip("jupyterlab", reason="JupyterLab is not installed (pip install -e '.[lab]')")
    folder = tmp_path_factory.mktemp("lab")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL.strip())])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    (folder / "editor.ipynb").write_text(nbformat.writes(notebook), encoding="utf-8")
    own = {name: str(folder / f".{name.lower()}") for name in (
        "HOME", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTERLAB_SETTINGS_DIR",
        "JUPYTERLAB_WORKSPACES_DIR", "IPYTHONDIR")}
    for place in own.values():
        Path(place).mkdir()
    # News would be asked of another host.
    settings = Path(own["JUPYTERLAB_SETTINGS_DIR"], "@jupyterlab", "apputils-extension", "notification.jupyterlab-settings")
    settings.parent.mkdir(parents=True)
    settings.write_text(json.dumps({"fetchNews": "false", "checkForUpdates": False}))
    options = ["--no-browser", "--allow-root", "--ServerApp.port=0", "--IdentityProvider.token=", "--ServerApp.ip=127.0.0.1",
               "--LabApp.extension_manager=readonly", f"--ServerApp.root_dir={folder}"]
    root = str(Path(__file__).resolve().parents[1])
    environment = os.environ | own | {"PYTHONPATH": root, "LR_PROFILE": "tiny"}
    with (folder / "log").open("w") as log:
        server = subprocess.Popen([sys.executable, "-m", "jupyterlab", *options], cwd=folder, env=environment, stdout=log,
                                  stderr=subprocess.STDOUT)
    try:
        yield _address(server, Path(own["JUPYTER_RUNTIME_DIR"]), folder / "log") + "doc/tree/editor.ipynb"
    finally:
        server.terminate()
        server.wait(30)


def _address(server, runtime: Path, log: Path) -> str:
    """Where the server listens, once it answers."""
    for _ in range(600):
        if server.poll() is not None:
            pytest.fail(f"JupyterLab ended: {log.read_text()[-2000:]}")
        for file in runtime.glob("jpserver-*.json"):
            try:
                address = json.loads(file.read_text())["url"]
                urlopen(f"{address}api", timeout=5).close()
                return address
            except (URLError, OSError, ValueError):
                pass
        time.sleep(0.1)
    pytest.fail(f"JupyterLab does not answer: {log.read_text()[-2000:]}")


@pytest.fixture(scope="module")
def running():
    with browser() as found:
        yield found


def run_cell(view) -> None:
    """Run the first cell until its editor is there; again where it was not taken: run before the kernel is there, a cell
    has a star for a moment and then stays as it was. On a busy machine JupyterLab may also take the kernel for one that
    is ending, and says so in a dialog; opened again, the page finds it."""
    from playwright.sync_api import Error  # the browser is not part of every set-up

    dialog = view.locator(".jp-Dialog")
    cell = view.locator(".jp-CodeCell").first
    prompt = cell.locator(".jp-InputPrompt")
    before = prompt.inner_text()
    end = time.monotonic() + 240  # torch is imported and models are loaded, maybe on a busy machine
    while time.monotonic() < end:
        now = prompt.inner_text()
        if dialog.count():
            view.reload()
            prompt.wait_for()
            before = prompt.inner_text()  # what the file holds: an earlier run's number, or none
        elif now in (before, "[ ]:"):
            try:
                cell.locator(".cm-content").click(force=True, timeout=5000)  # a dialog in its way is seen the next time
                view.keyboard.press("Shift+Enter")
            except Error:
                pass  # the notebook is in the page before it is shown: tried again until the end
        elif "*" not in now:
            return view.wait_for_selector(".lr-editor")
        view.wait_for_timeout(1000)
    pytest.fail(f"the cell did not run: {cell.inner_text()[-1000:]}")


def ours(text: str, url: str) -> bool:
    """Is an error of ours? JupyterLab asks for files that need not be there; and of a page that is opened again it says
    that its requests to the kernel were given up."""
    return "Failed to load resource" not in text and "Canceled future for" not in text


@pytest.fixture(params=WIDTHS)
def view(running, lab, request):
    with watched(running, lab, request.param, ours) as found:
        run_cell(found)
        yield found


def field(view, label: str):
    """The field of a widget by its description."""
    return view.locator(f".lr-editor .jupyter-widgets:has(> label:text-is('{label}'))").locator("input, select").first


def button(view, name: str):
    """A button by its text, before which an icon may stand."""
    return view.locator(".lr-editor button", has_text=re.compile(rf"^\W*{name}$")).first


def finished(view) -> None:
    view.wait_for_selector(".lr-editor [role=status]:has-text('Done.')", timeout=60_000)


def card(view, title: str):
    return view.locator(f".lr-editor .lr-card:has(h3:text-is('{title}'))").last


def test_upload_type_run_click_slide_and_download(view, models, scene_picture, tmp_path):
    shot(view, "widget_start", view.locator(".lr-editor"))
    # A sample, and a picture of one's own.
    view.locator(".lr-editor .lr-thumb button").nth(1).click()
    view.wait_for_selector(".lr-editor small:has-text('a cow in the snow')")
    file = tmp_path / "mine.png"
    file.write_bytes(png_bytes(scene_picture))
    button(view, "my own").click()
    with view.expect_file_chooser() as choosing:
        view.locator(".lr-editor .widget-upload").click()
    choosing.value.set_files(str(file))
    view.wait_for_function("document.querySelector('.lr-editor img.lr-picture').naturalWidth == 384")
    # A word that the models don't know is marked while one types.
    prompt = field(view, "I want")
    prompt.fill("")
    prompt.press_sequentially("a zeppelin")
    view.wait_for_selector(".lr-editor mark:text-is('zeppelin')")
    shot(view, "widget_typed", view.locator(".lr-editor"))
    button(view, "an apple").click()
    view.wait_for_selector(".lr-editor mark", state="detached")
    field(view, "There is").fill("wolf")
    # The edit, and what it shows.
    field(view, "Method").select_option(FAST)
    button(view, "Run").click()
    finished(view)
    for title in ("Before and after", "The region", "Attention and anchors", "The network learns", "Candidate edits"):
        assert card(view, title).is_visible(), title
    known = edit(models, scene_picture, "wolf", "an apple", QUICK, 42, progress=False)
    thumbnails = card(view, "Candidate edits").locator("button")
    assert thumbnails.count() == known.cost["different_edits"]
    thumbnails.nth(1).click()
    view.wait_for_selector(".lr-editor b:text-is('Candidate 2')")
    for row in card(view, "One candidate").locator("table, img").all():
        place = row.bounding_box()
        assert place["x"] + place["width"] <= view.viewport_size["width"], "cut off"
    shot(view, "widget_result", view.locator(".lr-editor"))
    # The line between before and after goes where the slider goes.
    line = card(view, "Before and after")
    edges = []
    for value in ("0", "50", "100"):
        line.locator("input[type=range]").fill(value)
        edges.append(line.locator("img[alt=before]").evaluate("one => getComputedStyle(one).clipPath"))
    assert len(set(edges)) == 3
    with view.expect_download() as loading:
        card(view, "Before and after").get_by_text("Download the picture").click()
    with Image.open(BytesIO(Path(loading.value.path()).read_bytes())) as picture:
        assert picture.tobytes() == known.image.tobytes()


def test_the_picture_in_the_docs(running, lab):
    """LR_SHOTS=docs/screens makes it: the first sample, edited by `learned` as it is."""
    with watched(running, lab, 1100, ours) as view:
        run_cell(view)
        field(view, "Method").select_option("learned")
        button(view, "Run").click()
        finished(view)
        known = view.locator(".lr-editor td").all_inner_texts()
        assert known == [] and card(view, "Candidate edits").locator("button").count() > 5
        if SHOTS:
            view.set_viewport_size({"width": 1100, "height": 3000})
            view.wait_for_timeout(600)
            place, last = (view.locator(".lr-editor").bounding_box(), card(view, "The region").bounding_box())
            whole = view.screenshot(clip=place | {"height": last["y"] + last["height"] - place["y"] + 4})
            with Image.open(BytesIO(whole)) as picture:
                picture.convert("RGB").quantize(200, dither=Image.Dither.NONE).save(f"{SHOTS}/editor.png", optimize=True)


def test_a_page_opened_again_while_it_talks_with_its_kernel(running, lab):
    """JupyterLab gives its requests up then, and says so as errors: not ours. One of ours is still seen."""
    with pytest.raises(AssertionError, match="of ours"), watched(running, lab, 1280, ours) as view:
        for _ in range(3):
            view.wait_for_selector(".jp-CodeCell")
            view.keyboard.press("Shift+Enter")
            view.reload()
        run_cell(view)
        view.evaluate("setTimeout(() => { throw new Error('one of ours') })")
        view.wait_for_timeout(500)


def test_cancel_stops_the_edit_and_run_works_again(view):
    field(view, "Method").select_option("paper")
    button(view, "Run").click()
    view.wait_for_selector(".lr-editor progress")
    card(view, "Attention and anchors").wait_for()
    button(view, "Cancel").click()
    view.wait_for_selector(".lr-editor [role=status]:has-text('Cancelled after')")
    field(view, "Method").select_option(FAST)
    button(view, "Run").click()
    finished(view)


def test_a_scene_is_composed(view):
    button(view, "emoji scene").click()
    field(view, "object").select_option("cat")
    view.wait_for_function("[...document.querySelectorAll('.lr-editor input')].some(one => one.value == 'cat')")
    field(view, "place").select_option("snow")
    shot(view, "widget_compose", view.locator(".lr-editor"))
    button(view, "Run").click()
    finished(view)


def test_what_is_wrong_is_one_sentence(view, scene_picture, tmp_path):
    field(view, "I want").fill(" ")
    button(view, "Run").click()
    view.wait_for_selector(".lr-editor [role=alert]:has-text('The prompt is empty')")
    field(view, "I want").fill("a fox " * 400)
    button(view, "Run").click()
    view.wait_for_selector(".lr-editor [role=alert]:has-text('The prompt has 2,400 characters; give at most 1,000.')")
    button(view, "my own").click()
    for name, data, said in (("page.png", b"%PDF-1.7 no picture", "it is a PDF document"),
                             ("large.png", bytes(1_500_000), "The file has 2 MB; give one of at most 1 MB."),
                             ("half.png", png_bytes(scene_picture)[:900], "is damaged")):
        file = tmp_path / name
        file.write_bytes(data)
        with view.expect_file_chooser() as choosing:
            view.locator(".lr-editor .widget-upload").click()
        choosing.value.set_files(str(file))
        view.wait_for_selector(f".lr-editor [role=alert]:has-text('{said}')")
    shot(view, "widget_wrong", view.locator(".lr-editor"))
    button(view, "Run").click()
    view.wait_for_selector(".lr-editor [role=alert]:has-text('There is no picture yet')")


def test_by_the_keyboard_alone(view):
    view.keyboard.press("Escape")  # out of a cell's text, in which Tab indents, if JupyterLab put the cursor there
    tab_to(view, ".lr-thumb button")
    view.keyboard.press("Enter")
    tab_to(view, ".widget-text input[placeholder*='like to see']")
    view.keyboard.press("Control+A")
    view.keyboard.type("a fox")
    tab_to(view, ".lr-run")
    view.keyboard.press("Enter")
    finished(view)
    tab_to(view, ".lr-editor input[type=range]")
    view.keyboard.press("ArrowRight")
    assert view.evaluate("document.activeElement.value") == "51"
    tab_to(view, ".lr-editor a[download]")
    tab_to(view, ".lr-card .lr-thumb button[title^='Show candidate']")
    view.keyboard.press("Enter")
    view.wait_for_selector(".lr-editor b:text-is('Candidate 1')")
