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
    assert ">Done.<" in form.status.value and not form.run.disabled and form.cancel.disabled


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


def test_losses_that_hang_on_all_edits_come_when_all_are_made(models, monkeypatch):
    monkeypatch.setitem(METHODS, "learned", QUICK.but(standardise_terms=True))
    monkeypatch.setattr(models.editor, "batch", 1)
    form = editor(models)
    run(form)
    titles = [cell.children[1].description for cell in form.candidates.children]
    assert len(titles) > 2 and all(re.fullmatch(rf"{i}: loss -?\d+\.\d\d", title) for i, title in enumerate(titles, 1))
    assert len({title.split(": ")[1] for title in titles}) > 2  # not what the first one of its own would say


def test_before_lies_over_after_up_to_the_slider(form):
    assert form.compared.value == ""
    run(form)
    large = {name: Image.open(BytesIO(base64.b64decode(data))) for name, data in
             re.findall(r'alt="(before|after)" src="data:image/png;base64,([^"]+)"', form.compared.value)}
    for name, known in (("before", form.result.original), ("after", form.result.image)):
        assert large[name].tobytes() == known.resize((384, 384), Image.Resampling.NEAREST).tobytes()
    assert large["before"].tobytes() != large["after"].tobytes()
    assert 'type="range"' in form.compared.value and "clip-path:inset(0 calc(100% - var(--at)) 0 0)" in form.compared.value


def test_samples_are_taken_by_a_click_and_prompts_too(form):
    taken = {}
    for name, cell in form.thumbnails.items():
        cell.children[1].click()
        assert (form.source.value, form.prompt.value) == (name, form.samples[name].prompt)
        taken[name] = form.picture.tobytes()
    assert len(set(taken.values())) == len(taken) > 1
    for idea in form.ideas.children:
        idea.click()
        assert form.prompt.value == idea.description and not form.models.warnings_for(idea.description)
    assert "run this cell" in repr(form)


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
    assert form.result is not None and ">Done.<" in form.status.value


def test_what_is_wrong_is_one_sentence_in_the_form(form, monkeypatch):
    form.prompt.value = " "
    run(form)
    assert "The prompt is empty" in form.status.value and 'role="alert"' in form.status.value
    form.source.value, form.prompt.value = "wolf", "a fox " * 200
    assert "At most 1,000 characters; these are 1,200" in form.prompt_marks.value
    run(form)
    assert "The prompt has 1,200 characters; give at most 1,000." in form.status.value
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
    assert form.picture.size == (90, 60) and "grey.png is grey" in form.read.value
    form.upload.set_trait("value", (file_of("page.png", b"%PDF-1.7"),))
    assert form.picture is None and "it is a PDF document" in form.read.value
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
    with pytest.raises(UserError, match="The file has 101 MB; give one of at most 100 MB"):
        uploaded(name, bytes(101_000_000))
    assert list(tmp_path.iterdir()) == []


def test_a_scene_is_composed(form):
    form.kind.value = COMPOSE
    form.first.value, form.place.value, form.second.value = "cat", "snow", "apple"
    assert form.source.value == "cat"
    assert form.picture.tobytes() == compose("snow", "cat", second="apple").tobytes() != compose("snow", "cat").tobytes()
    pictures = {compose("grass", "fox", where, size).tobytes() for where in ("left", "middle", "right") for size in (40, 80)}
    assert len(pictures) == 6
    with pytest.raises(UserError, match="The place 'moon' is unknown"):
        compose("moon", "fox")
