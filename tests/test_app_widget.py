"""The editor in a notebook, driven by its own objects."""

import base64
import re
from datetime import UTC, datetime
from io import BytesIO
from types import SimpleNamespace

import pytest
from PIL import Image

from lr_helpers import edit
from lr_helpers.app import engine
from lr_helpers.app.sources import compose, uploaded
from lr_helpers.app.widget import COMPOSE, SAMPLE, UPLOAD, EditorWidget, _files
from lr_helpers.course import editor
from lr_helpers.errors import UserError
from lr_helpers.files.writing import png_bytes
from lr_helpers.method import METHODS, Method

QUICK = Method(anchors=3, sizes=(0.4, 0.6), iterations=3, steps=2, estimator="expectation")


@pytest.fixture
def form(models, monkeypatch):
    """Whose "learned" is quick."""
    monkeypatch.setitem(METHODS, "learned", QUICK)
    return editor(models)


def run(form) -> None:
    form.run.click()
    form.thread.join(60)
    assert not form.thread.is_alive()


def picture(widget) -> Image.Image:
    return Image.open(BytesIO(bytes(widget.value)))


def is_open(form, name) -> bool:
    return form.blocks[name].layout.display != "none"


def test_an_edit_from_the_first_click_to_the_download(form, models):
    assert isinstance(form, EditorWidget) and form.kind.value == SAMPLE
    assert (form.source.value, form.prompt.value) == ("wolf", "a mushroom") and picture(form.preview).size == (384, 384)
    assert form.cost.value.count("denoiser evaluations") == 1
    run(form)
    known = edit(models, form.picture, "wolf", "a mushroom", QUICK, 42, progress=False)
    assert form.result.image.tobytes() == known.image.tobytes()
    assert all(is_open(form, name) for name in ("result", "attention", "region", "candidates"))
    (data,) = re.findall(r"base64,([^\"]+)", form.download.value)
    assert Image.open(BytesIO(base64.b64decode(data))).tobytes() == known.image.tobytes()
    assert f"{known.cost['denoiser_evaluations']} denoiser evaluations" in form.took.value
    assert form.status.value == "Done." and not form.run.disabled and form.cancel.disabled


def test_a_click_on_a_candidate_shows_it_and_its_losses(form):
    run(form)
    assert len(form.candidates.children) == form.result.cost["different_edits"]
    assert not is_open(form, "one")
    seen = set()
    for i, cell in enumerate(form.candidates.children):
        cell.children[1].click()
        assert is_open(form, "one") and f"Candidate {i + 1}" in form.figures.value and "term clip" in form.figures.value
        seen.add(bytes(form.one.value))
    assert len(seen) == len(form.candidates.children)


def test_the_slider_goes_from_before_to_after(form):
    run(form)
    shown = {}
    for share in (0, 50, 100):
        form.slider.value = share
        shown[share] = picture(form.after).convert("RGB")
    large = form.result.original.resize((384, 384), Image.Resampling.NEAREST)
    assert shown[100].tobytes() == large.tobytes() and shown[0].tobytes() != large.tobytes()
    assert shown[50].crop((0, 0, 190, 384)).tobytes() == large.crop((0, 0, 190, 384)).tobytes()
    assert shown[50].crop((194, 0, 384, 384)).tobytes() == shown[0].crop((194, 0, 384, 384)).tobytes()


def test_unknown_words_are_marked_while_one_types(form):
    form.prompt.value = "a zeppelin & <b>"
    assert re.search(r"<mark[^>]*>zeppelin</mark> &amp; &lt;", form.prompt_marks.value)
    assert "do not know the word &#x27;zeppelin&#x27;" in form.prompt_marks.value and "<b>" not in form.prompt_marks.value
    form.prompt.value = "a fox"
    assert form.prompt_marks.value == ""


def test_cancel_stops_and_run_works_again(form, models):
    made = []

    def after(*_):
        made.append(1)
        form.cancel.click()

    hook = getattr(models.editor.pipeline, models.editor.denoiser).register_forward_hook(after)
    run(form)
    hook.remove()
    assert len(made) == 1 and "Cancelled after 12 denoiser evaluations" in form.status.value and form.result is None
    run(form)
    assert form.result is not None and form.status.value == "Done."


def test_what_is_wrong_is_one_sentence_in_the_form(form, monkeypatch):
    form.prompt.value = " "
    run(form)
    assert "The prompt is empty" in form.status.value and 'role="alert"' in form.status.value
    form.kind.value = UPLOAD
    form.run.click()
    assert "There is no picture yet" in form.status.value
    form.kind.value = SAMPLE

    def broken(*_, **__):
        raise ZeroDivisionError("<script>")
        yield

    monkeypatch.setattr(engine, "stages", broken)
    run(form)
    assert "fault of the program" in form.status.value and "<script>" not in form.status.value
    assert not form.run.disabled


def file_of(name: str, data: bytes) -> dict:
    return {"name": name, "type": "image/png", "size": len(data), "content": memoryview(data), "last_modified": datetime.now(UTC)}


def test_an_upload_is_read_by_the_houses_reader(form):
    form.kind.value = UPLOAD
    given = Image.new("L", (90, 60), 120)
    buffer = BytesIO()
    given.save(buffer, "PNG")
    form.upload.set_trait("value", (file_of("grey.png", buffer.getvalue()),))
    assert form.picture.size == (90, 60) and "grey.png is grey" in form.status.value
    form.upload.set_trait("value", (file_of("page.png", b"%PDF-1.7"),))
    assert form.picture is None and "it is a PDF document" in form.status.value
    run_before = form.thread
    form.run.click()
    assert form.thread is run_before


def test_both_versions_of_ipywidgets_give_their_files():
    seven = SimpleNamespace(value={"a.png": {"metadata": {}, "content": b"1"}})
    eight = SimpleNamespace(value=({"name": "a.png", "content": memoryview(b"1")},))
    assert _files(seven) == _files(eight) == [("a.png", b"1")]


@pytest.mark.parametrize("name", ["../../etc/passwd", "a/b.png", "..", "", "x" * 300, "C:\\p.png"])
def test_an_uploads_name_leads_nowhere(name, tmp_path, monkeypatch, scene_picture):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    found, notes = uploaded(name, png_bytes(scene_picture))
    assert found.tobytes() == scene_picture.tobytes() and notes == []
    with pytest.raises(UserError, match="is empty"):
        uploaded(name, b"")
    assert list(tmp_path.iterdir()) == []


def test_a_scene_is_composed(form):
    form.kind.value = COMPOSE
    form.first.value, form.place.value, form.second.value = "cat", "snow", "apple"
    assert form.source.value == "cat"
    assert form.picture.tobytes() == compose("snow", "cat", second="apple").tobytes() != compose("snow", "cat").tobytes()
    pictures = {compose("grass", "fox", where, size).tobytes() for where in ("left", "middle", "right") for size in (20, 40)}
    assert len(pictures) == 6
    with pytest.raises(UserError, match="The place 'moon' is unknown"):
        compose("moon", "fox")
