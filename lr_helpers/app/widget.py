"""The editor in a notebook: choose a picture, type, run, and look at how the region was found."""

from __future__ import annotations

import base64
import threading
from html import escape
from io import BytesIO

import ipywidgets
from PIL import Image

from lr_helpers.app import drawing, engine, sources
from lr_helpers.app.engine import Chosen, Edited, Finished, Prepared, Proposed, Stage, Stopped
from lr_helpers.errors import UserError
from lr_helpers.files.writing import png_bytes
from lr_helpers.models.loading import Models
from tiny_world.sprites import SIZES
from tiny_world.words import NAMES, PLACES

SAMPLE, UPLOAD, COMPOSE = "a sample", "my own picture", "an emoji scene"
WIDE = {"description_width": "initial"}


class EditorWidget(ipywidgets.VBox):
    """A form for one edit after the other. Put it in the last line of a cell.

    An edit runs in a thread, so the form stays alive: Cancel ends it before its next denoiser call. What is wrong is
    said in one sentence below the buttons.
    """

    def __init__(self, models: Models):
        super().__init__()
        self.models = models
        self.picture: Image.Image | None = None
        """What will be edited."""
        self.result = None
        """The `EditResult` of the last edit that was finished."""
        self.thread: threading.Thread | None = None
        self._cancel, self._edits = threading.Event(), []
        self._prepared: Prepared | None = None
        self._chosen: Chosen | None = None
        self._make_source()
        self._make_question()
        self._make_answer()
        left = ipywidgets.VBox([self.kind, *self.panels.values(), self.preview], layout=_flex(300))
        right = ipywidgets.VBox([self.source, self.source_marks, self.prompt, self.prompt_marks, self.method, self.seed,
                                 self.cost, ipywidgets.HBox([self.run, self.cancel]), self.status], layout=_flex(300))
        self.children = [ipywidgets.HBox([left, right], layout=ipywidgets.Layout(flex_flow="row wrap")), self.answer]
        self._choose_kind()
        self._tell_cost()

    # The parts of the form

    def _make_source(self) -> None:
        profile = self.models.profile
        kinds = [SAMPLE, UPLOAD, *([COMPOSE] if profile.vocabulary else [])]
        self.kind = ipywidgets.ToggleButtons(options=kinds, description="picture", style={"button_width": "auto"})
        self.sample = ipywidgets.Dropdown(options=sources.sample_names(profile), description="sample")
        self.upload = ipywidgets.FileUpload(accept="image/*", multiple=False, description="Choose a file")
        self.place = ipywidgets.Dropdown(options=list(PLACES), description="place")
        self.first = ipywidgets.Dropdown(options=NAMES, value="wolf", description="object")
        self.where = ipywidgets.Dropdown(options=list(sources.WHERE), value="middle", description="where")
        self.size = ipywidgets.Dropdown(options=SIZES, value=32, description="size, pixels", style=WIDE)
        self.second = ipywidgets.Dropdown(options=(sources.NOBODY, *NAMES), description="and also")
        self.panels = {SAMPLE: self.sample, UPLOAD: self.upload, COMPOSE: ipywidgets.VBox(
            [self.place, self.first, self.where, self.size, self.second])}
        self.preview = _picture()
        self.kind.observe(lambda _: self._choose_kind(), names="value")
        for part in (self.sample, self.place, self.first, self.where, self.size, self.second):
            part.observe(lambda _: self._take_picture(), names="value")
        self.upload.observe(lambda _: self._take_picture(), names="value")

    def _make_question(self) -> None:
        self.source = ipywidgets.Text(description="there is", placeholder="bird")
        self.prompt = ipywidgets.Text(description="I want", placeholder="a rabbit")
        self.source_marks, self.prompt_marks = ipywidgets.HTML(), ipywidgets.HTML()
        for text, marks in ((self.source, self.source_marks), (self.prompt, self.prompt_marks)):
            text.layout.width = "95%"
            text.observe(lambda change, marks=marks: self._mark(change["new"], marks), names="value")
        self.method = ipywidgets.Dropdown(options=engine.methods(self.models), description="method")
        self.method.observe(lambda _: self._tell_cost(), names="value")
        self.seed = ipywidgets.BoundedIntText(value=42, min=0, max=2**31 - 1, description="seed")
        self.cost, self.status = ipywidgets.HTML(), ipywidgets.HTML()
        self.run = ipywidgets.Button(description="Run", button_style="primary")
        self.cancel = ipywidgets.Button(description="Cancel", disabled=True)
        self.run.on_click(lambda _: self.start())
        self.cancel.on_click(lambda _: self._cancel.set())

    def _make_answer(self) -> None:
        self.after, self.slider = _picture(), ipywidgets.IntSlider(
            50, 0, 100, description="before | after, %", readout=False, style=WIDE)
        self.slider.observe(lambda _: self._show_halves(), names="value")
        self.took, self.download = ipywidgets.HTML(), ipywidgets.HTML()
        self.attention, self.region, self.history = _picture(), _picture(), _picture()
        self.region_said = ipywidgets.HTML()
        self.candidates = ipywidgets.HBox(layout=ipywidgets.Layout(flex_flow="row wrap"))
        self.one, self.figures = _picture(), ipywidgets.HTML()
        self.blocks = {
            "result": _block("Before and after", [self.after, self.slider, self.took, self.download]),
            "attention": _block("Attention and anchors", [self.attention]),
            "region": _block("The region", [self.region, self.region_said, self.history]),
            "candidates": _block("Candidate edits; click one", [self.candidates], "100%"),
            "one": _block("One candidate", [self.one, self.figures])}
        self.answer = ipywidgets.HBox(list(self.blocks.values()), layout=ipywidgets.Layout(flex_flow="row wrap"))
        self._clear()

    # The picture and the texts

    def _choose_kind(self) -> None:
        for kind, panel in self.panels.items():
            panel.layout.display = "" if kind == self.kind.value else "none"
        self._take_picture()

    def _take_picture(self) -> None:
        """Read or draw the picture that is chosen now."""
        self.picture, self.status.value = None, ""
        try:
            if self.kind.value == SAMPLE:
                found = sources.sample(self.models.profile, self.sample.value)
                self.picture, self.source.value, self.prompt.value = found.picture, found.source, found.prompt
            elif self.kind.value == COMPOSE:
                self.picture = sources.compose(self.place.value, self.first.value, self.where.value, self.size.value,
                                               self.second.value)
                self.source.value = self.first.value
            elif files := _files(self.upload):
                self.picture, notes = sources.uploaded(*files[-1])
                self.status.value = "<br>".join(map(escape, notes))
        except UserError as error:
            self.status.value = drawing.error_html(str(error))
        _set(self.preview, self.picture and drawing.shown(self.picture))

    def _mark(self, text: str, marks: ipywidgets.HTML) -> None:
        marks.value = drawing.marked_html(self.models, text)

    def _tell_cost(self) -> None:
        self.cost.value = f"<small>{escape(engine.cost_sentence(self.models, self.method.value))}</small>"

    # The edit

    def start(self) -> None:
        """What a click on Run does: begin an edit, unless one runs."""
        if self.thread and self.thread.is_alive():
            return
        if self.picture is None:
            self.status.value = drawing.error_html("There is no picture yet; choose one first.")
            return
        self._clear()
        self._cancel = threading.Event()
        self.run.disabled, self.cancel.disabled = True, False
        asked = self.picture, self.source.value, self.prompt.value, self.method.value, self.seed.value
        self.thread = threading.Thread(target=self._work, args=asked, name="editor widget", daemon=True)
        self.thread.start()

    def _work(self, *asked) -> None:
        try:
            for stage in engine.stages(self.models, *asked, cancel=self._cancel):
                self._show(stage)
        except UserError as error:
            self.status.value = drawing.error_html(str(error))
        except Exception as error:  # of showing: a thread's traceback would be seen by nobody
            self.status.value = drawing.error_html(engine.in_one_sentence(error))
        finally:
            self.run.disabled, self.cancel.disabled = False, True

    def _show(self, stage: Stage) -> None:
        if isinstance(stage, Prepared):
            self._prepared = stage
            self.status.value = drawing.bar_html(0, 1, "Looking for places …")
        elif isinstance(stage, Proposed):
            _set(self.attention, drawing.attention_picture(self._prepared, stage))
            self._open("attention")
        elif isinstance(stage, Edited):
            self._add(stage)
            self.status.value = drawing.bar_html(stage.number + 1, stage.most, f"{stage.number + 1} edits made, of at "
                                                 f"most {stage.most} …")
        elif isinstance(stage, Chosen):
            self._show_region(stage)
        elif isinstance(stage, Finished):
            self._show_result(stage)
        elif isinstance(stage, Stopped):
            self.status.value = (f"Cancelled after {stage.evaluations:,} denoiser evaluations and "
                                 f"{stage.seconds:.1f} s.")

    def _add(self, edit: Edited) -> None:
        self._edits.append(edit)
        picture, button = _picture(drawing.SMALL), ipywidgets.Button(description=drawing.title_of(edit))
        button.layout.width = f"{drawing.SMALL}px"
        _set(picture, drawing.with_box(edit.picture, edit.box, self._shape, drawing.SMALL))
        button.on_click(lambda _, edit=edit: self.show_candidate(edit.number))
        self.candidates.children = (*self.candidates.children, ipywidgets.VBox([picture, button]))
        self._open("candidates")

    def show_candidate(self, number: int) -> None:
        """What a click on a candidate does."""
        edit = self._edits[number]
        _set(self.one, drawing.with_box(edit.picture, edit.box, self._shape))
        self.figures.value = f"<b>Candidate {number + 1}</b>{drawing.table_html(edit)}"
        self._open("one")

    def _show_region(self, stage: Chosen, box=None) -> None:
        self._chosen = stage
        _set(self.region, drawing.region_picture(self._prepared, stage, box))
        _set(self.history, drawing.history_picture(stage))
        how = "learned on this picture" if stage.history else f"predicted, with a confidence of {stage.confidence:.2f}"
        self.region_said.value = f"<small>How probable each place is, {how}.</small>"
        self._open("region")

    def _show_result(self, stage: Finished) -> None:
        self.result = stage.result
        self._show_region(self._chosen, self.result.box)
        self._show_halves()
        self.took.value = drawing.cost_html(self.result.cost)
        data = base64.b64encode(png_bytes(self.result.image)).decode()
        self.download.value = ('<a class="jupyter-button widget-button mod-info" style="width:auto;'
                               'display:inline-block" download="edited.png" '
                               f'href="data:image/png;base64,{data}">Download the picture</a>')
        self.status.value = "<br>".join(["Done.", *map(escape, self.result.warnings)])
        self._open("result")

    def _show_halves(self) -> None:
        if self.result is not None:
            _set(self.after, drawing.halves(self.result.original, self.result.image, self.slider.value / 100))

    @property
    def _shape(self) -> tuple[int, int]:
        return self._prepared.original.height, self._prepared.original.width

    def _open(self, *names: str) -> None:
        for name in names:
            self.blocks[name].layout.display = ""

    def _clear(self) -> None:
        """Nothing of an earlier edit stays."""
        self.result, self._edits, self._chosen, self.candidates.children = None, [], None, ()
        for block in self.blocks.values():
            block.layout.display = "none"


def _picture(side: int = drawing.SIDE) -> ipywidgets.Image:
    return ipywidgets.Image(format="png", layout=ipywidgets.Layout(max_width="100%", width=f"{side}px", height="auto",
                                                            object_fit="contain", display="none"))


def _set(widget: ipywidgets.Image, picture: Image.Image | None) -> None:
    """Show a picture; hide the place of none."""
    widget.layout.display = "none" if picture is None else ""
    if picture is not None:
        buffer = BytesIO()
        picture.save(buffer, "PNG")
        widget.value = buffer.getvalue()


def _flex(width: int) -> ipywidgets.Layout:
    """As wide as there is room, below the neighbour where there is less than this."""
    return ipywidgets.Layout(flex=f"1 1 {width}px", min_width="0", max_width="100%")


def _block(title: str, parts: list[ipywidgets.Widget], width: str = "400px") -> ipywidgets.VBox:
    return ipywidgets.VBox([ipywidgets.HTML(f"<b>{escape(title)}</b>"), *parts],
                           layout=ipywidgets.Layout(width=width, max_width="100%", padding="4px"))


def _files(upload: ipywidgets.FileUpload) -> list[tuple[str, bytes]]:
    """Names and contents; ipywidgets 7 has them by name, 8 in a row."""
    value = upload.value
    if isinstance(value, dict):
        return [(name, bytes(one["content"])) for name, one in value.items()]
    return [(one["name"], bytes(one["content"])) for one in value]

