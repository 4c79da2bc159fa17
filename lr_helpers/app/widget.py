"""The editor in a notebook: choose a picture, type, run, and look at how the region was found."""

from __future__ import annotations

import threading
from html import escape
from uuid import uuid4

import ipywidgets
from PIL import Image

from lr_helpers.app import drawing, engine, sources
from lr_helpers.app.engine import Chosen, Edited, Finished, Prepared, Proposed, Stage, Stopped
from lr_helpers.errors import UserError
from lr_helpers.files.writing import png_bytes
from lr_helpers.models.loading import Models
from lr_helpers.result import EditResult
from tiny_world.sprites import SIZES
from tiny_world.words import NAMES, PLACES

SAMPLE, UPLOAD, COMPOSE = "sample", "my own", "emoji scene"
CSS = """<style>
.lr-editor {max-width: 1080px; padding: 2px 8px 8px 2px; --line: color-mix(in srgb, currentColor 22%, transparent)}
.lr-editor .widget-html-content, .lr-editor .widget-html > .widget-html-content {line-height: 1.4; white-space: normal}
.lr-editor h3 {margin: 0 0 4px; font-size: 15px; font-weight: 600}
.lr-editor small {font-size: 12px; opacity: .85}
.lr-editor .lr-card {border: 1px solid var(--line); border-radius: 10px; padding: 12px; margin: 4px; gap: 4px;
  overflow: hidden}
.lr-editor .lr-row {overflow: visible}
.lr-editor .lr-picture {border-radius: 6px; margin: 2px}
.lr-editor .lr-thumb, .lr-editor .lr-thumb > * {overflow: visible}
.lr-editor .lr-thumb button {background-repeat: no-repeat; background-position: top center; border-radius: 6px;
  border: 2px solid var(--line); padding: 0; display: flex; align-items: flex-end; justify-content: center;
  font-size: 12px; line-height: 22px; background-color: transparent; color: inherit; margin: 3px; cursor: pointer}
.lr-editor .lr-thumb button:hover {border-color: #0072b2}
.lr-editor .lr-thumb button.lr-on {border-color: #d55e00; box-shadow: 0 0 0 1px #d55e00}
.lr-editor button.lr-idea {border-radius: 14px; width: auto; padding: 0 10px; font-size: 12px}
.lr-editor button:focus-visible, .lr-editor input:focus-visible, .lr-editor select:focus-visible,
.lr-editor a:focus-visible {outline: 2px solid #0072b2; outline-offset: 1px}
.lr-editor .lr-one {gap: 16px}
.lr-editor table {border-collapse: collapse; font-size: 12px}
.lr-editor td, .lr-editor th {padding: 2px 12px 2px 0; border-bottom: 1px solid var(--line)}
.lr-editor .widget-html:has(> .widget-html-content:empty) {display: none}
.lr-editor .widget-label {width: 64px !important; text-align: left; justify-content: flex-start}
.lr-editor button.lr-run {font-weight: 600}
</style>"""


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
        left = _card("1. The picture", [self.kind, *self.panels.values(), self.preview, self.read], "1 1 300px")
        right = _card("2. The words", [self.source, self.source_marks, self.prompt, self.prompt_marks, self.ideas,
                                       self.method, self.cost, self.seed, _row([self.run, self.cancel]), self.status],
                      "1.4 1 300px")
        self.children = [ipywidgets.HTML(CSS), _row([left, right]), self.answer]
        self.add_class("lr-editor")
        self._choose_kind()
        self._tell_cost()

    def __repr__(self) -> str:
        """What is seen where no widgets are, as in a stored notebook."""
        return "The editor: run this cell, and choose a picture, say what is there and what you want, and click Run."

    # The parts of the form

    def _make_source(self) -> None:
        profile = self.models.profile
        kinds = [SAMPLE, UPLOAD, *([COMPOSE] if profile.vocabulary else [])]
        self.kind = ipywidgets.ToggleButtons(options=kinds, style={"button_width": "auto"})
        self.samples = {name: sources.sample(profile, name) for name in sources.sample_names(profile)}
        self.sample = next(iter(self.samples))
        """The name of the sample that is chosen."""
        self.thumbnails = {name: _thumbnail(drawing.shown(found.picture, drawing.TINY), drawing.TINY, "", found.title)
                           for name, found in self.samples.items()}
        for name, cell in self.thumbnails.items():
            cell.children[1].on_click(lambda _, name=name: self.choose_sample(name))
        self.upload = ipywidgets.FileUpload(accept="image/*", multiple=False, description="Choose a file")
        self.upload.layout.width = "auto"
        self.place = _dropdown("place", list(PLACES))
        self.first = _dropdown("object", NAMES, "wolf")
        self.where = _dropdown("where", list(sources.WHERE), "middle")
        self.size = _dropdown("pixels", SIZES, 64)
        self.second = _dropdown("and also", (sources.NOBODY, *NAMES))
        self.panels = {
            SAMPLE: _row(list(self.thumbnails.values())),
            UPLOAD: ipywidgets.VBox([self.upload, ipywidgets.HTML(
                "<small>JPEG, PNG, WebP …; notebook servers take at most 10 MB.</small>")]),
            COMPOSE: ipywidgets.VBox([self.place, self.first, self.where, self.size, self.second])}
        self.preview, self.read = _picture(256), ipywidgets.HTML()
        self.kind.observe(lambda _: self._choose_kind(), names="value")
        for part in (self.place, self.first, self.where, self.size, self.second, self.upload):
            part.observe(lambda _: self._take_picture(), names="value")

    def _make_question(self) -> None:
        self.source = ipywidgets.Text(description="There is", placeholder="what is in the picture: a bird")
        self.prompt = ipywidgets.Text(description="I want", placeholder="what you would like to see: a rabbit")
        self.source_marks, self.prompt_marks = ipywidgets.HTML(), ipywidgets.HTML()
        for text, marks in ((self.source, self.source_marks), (self.prompt, self.prompt_marks)):
            text.layout.width = "98%"
            text.observe(lambda change, marks=marks: self._mark(change["new"], marks), names="value")
        self.ideas = _row([])
        self.method = _dropdown("Method", engine.methods(self.models))
        self.method.observe(lambda _: self._tell_cost(), names="value")
        self.seed = ipywidgets.BoundedIntText(value=42, min=0, max=2**31 - 1, description="Seed")
        self.seed.layout.width = "200px"
        self.cost, self.status = ipywidgets.HTML(), ipywidgets.HTML()
        self.run = ipywidgets.Button(description="Run", button_style="primary", icon="play")
        self.cancel = ipywidgets.Button(description="Cancel", disabled=True, icon="stop")
        self.run.add_class("lr-run")
        self.run.on_click(lambda _: self.start())
        self.cancel.on_click(lambda _: self.stop())

    def _make_answer(self) -> None:
        self.compared, self.took, self.download = ipywidgets.HTML(), ipywidgets.HTML(), ipywidgets.HTML()
        self.attention, self.region, self.history = _picture(), _picture(), _picture()
        self.region_said = ipywidgets.HTML()
        self.candidates = _row([])
        self.one, self.figures = _picture(), ipywidgets.HTML()
        self.blocks = {
            "result": _card("Before and after", [self.compared, self.took, self.download]),
            "region": _card("The region", [self.region, self.region_said]),
            "attention": _card("Attention and anchors", [
                self.attention, ipywidgets.HTML("<small>How much of the picture's attention each place has; edits are "
                                                "tried around the points.</small>")]),
            "history": _card("The network learns", [self.history]),
            "candidates": _card("Candidate edits", [
                ipywidgets.HTML("<small>Each edit that was tried, with its place; the lower the loss, the better it "
                                "fits your words. Click one.</small>"), self.candidates], "1 1 100%"),
            "one": _card("One candidate", [_row([self.one, self.figures])], "1 1 100%")}
        self.blocks["one"].children[1].add_class("lr-one")
        self.answer = _row(list(self.blocks.values()))
        self._clear()

    # The picture and the texts

    def _choose_kind(self) -> None:
        for kind, panel in self.panels.items():
            panel.layout.display = "" if kind == self.kind.value else "none"
        self._take_picture()

    def choose_sample(self, name: str) -> None:
        """What a click on a sample does."""
        self.sample = name
        self._take_picture()

    def _take_picture(self) -> None:
        """Read or draw the picture that is chosen now."""
        self.picture, self.status.value, self.read.value = None, "", ""
        found = self.samples[self.sample]
        for name, cell in self.thumbnails.items():
            _switch(cell.children[1], name == self.sample)
        try:
            if self.kind.value == SAMPLE:
                self.picture, self.source.value, self.prompt.value = found.picture, found.source, found.prompt
                self.read.value = f"<small>{escape(found.title)}; {escape(found.credit)}</small>"
            elif self.kind.value == COMPOSE:
                self.picture = sources.compose(self.place.value, self.first.value, self.where.value, self.size.value,
                                               self.second.value)
                self.source.value = self.first.value
            elif files := _files(self.upload):
                self.picture, notes = sources.uploaded(*files[-1])
                self.read.value = drawing.notes_html(notes)
        except UserError as error:
            self.read.value = drawing.error_html(str(error))
        # Words that fit: a sample's own; in the emoji world the same for every picture, since its models know few.
        fitting = self.kind.value == SAMPLE or self.models.profile.vocabulary
        self._suggest(found.prompts if fitting else ())
        _set(self.preview, self.picture and drawing.shown(self.picture))

    def _suggest(self, prompts: tuple[str, ...]) -> None:
        """Buttons that put a prompt in its place."""
        if [one.description for one in self.ideas.children] == list(prompts):
            return
        buttons = []
        for prompt in prompts:
            button = ipywidgets.Button(description=prompt, tooltip=f"I want {prompt}")
            button.layout.width = "auto"
            button.add_class("lr-idea")
            button.on_click(lambda _, prompt=prompt: setattr(self.prompt, "value", prompt))
            buttons.append(button)
        self.ideas.children = buttons

    def _mark(self, text: str, marks: ipywidgets.HTML) -> None:
        marks.value = drawing.marked_html(self.models, text)

    def _tell_cost(self) -> None:
        self.cost.value = drawing.preset_html(self.models, self.method.value)

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

    def stop(self) -> None:
        """What a click on Cancel does: the edit ends before its next denoiser call."""
        self._cancel.set()
        self.cancel.disabled = True

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
            self.status.value = drawing.bar_html("Looking for places …")
        elif isinstance(stage, Proposed):
            _set(self.attention, drawing.attention_picture(self._prepared, stage))
            self._open("attention")
        elif isinstance(stage, Edited):
            self._add(stage)
            self.status.value = drawing.edits_bar_html(stage)
        elif isinstance(stage, Chosen):
            self._show_region(stage)
        elif isinstance(stage, Finished):
            self._show_result(stage)
        elif isinstance(stage, Stopped):
            self.status.value = drawing.stopped_html(stage)

    def _add(self, edit: Edited) -> None:
        self._edits.append(edit)
        cell = _thumbnail(drawing.with_box(edit.picture, edit.box, self._shape, drawing.SMALL), drawing.SMALL,
                          drawing.title_of(edit), f"Show candidate {edit.number + 1}")
        cell.children[1].on_click(lambda _, edit=edit: self.show_candidate(edit.number))
        self.candidates.children = (*self.candidates.children, cell)
        self._open("candidates")

    def _tell_losses(self, result: EditResult) -> None:
        """Titles and figures with the losses that are known now."""
        self._edits = engine.judged(self._edits, result)
        for edit, cell in zip(self._edits, self.candidates.children, strict=True):
            cell.children[1].description = drawing.title_of(edit)
        if self._shown is not None:
            self.show_candidate(self._shown)

    def show_candidate(self, number: int) -> None:
        """What a click on a candidate does."""
        self._shown = number
        edit = self._edits[number]
        _set(self.one, drawing.with_box(edit.picture, edit.box, self._shape))
        self.figures.value = f"<b>Candidate {number + 1}</b>{drawing.table_html(edit)}"
        for i, cell in enumerate(self.candidates.children):
            _switch(cell.children[1], i == number)
        self._open("one")

    def _show_region(self, stage: Chosen, box=None) -> None:
        self._chosen = stage
        _set(self.region, drawing.region_picture(self._prepared, stage, box))
        self.region_said.value = drawing.chosen_html(stage)
        self._open("region")
        curve = drawing.history_picture(stage)
        if curve is not None:
            _set(self.history, curve)
            self._open("history")

    def _show_result(self, stage: Finished) -> None:
        self.result = stage.result
        if any(edit.loss is None for edit in self._edits):
            self._tell_losses(self.result)
        self._show_region(self._chosen, self.result.box)
        self.compared.value = drawing.compared_html(self.result.original, self.result.image)
        self.took.value = drawing.cost_html(self.result.cost)
        self.download.value = ('<a class="jupyter-button widget-button mod-info" style="width:auto;'
                               'display:inline-block" download="edited.png" '
                               f'href="{drawing.data_uri(self.result.image)}">Download the picture</a>')
        self.status.value = drawing.done_html(self.result.warnings)
        self._open("result")

    @property
    def _shape(self) -> tuple[int, int]:
        return self._prepared.original.height, self._prepared.original.width

    def _open(self, *names: str) -> None:
        for name in names:
            self.blocks[name].layout.display = ""

    def _clear(self) -> None:
        """Nothing of an earlier edit stays."""
        self.result, self._edits, self._chosen, self.candidates.children = None, [], None, ()
        self._shown = None
        for block in self.blocks.values():
            block.layout.display = "none"


def _picture(side: int = drawing.SIDE) -> ipywidgets.Image:
    layout = ipywidgets.Layout(max_width="100%", width=f"{side}px", height="auto", object_fit="contain", display="none")
    picture = ipywidgets.Image(format="png", layout=layout)
    picture.add_class("lr-picture")
    return picture


def _thumbnail(picture: Image.Image, side: int, title: str, tooltip: str) -> ipywidgets.VBox:
    """A picture to click: [its style, the button]. Pictures are no buttons in ipywidgets, so it is the background."""
    name = f"lr-{uuid4().hex[:12]}"
    button = ipywidgets.Button(description=title, tooltip=tooltip)
    button.layout.width, button.layout.height = f"{side + 4}px", f"{side + 4 + 22 * bool(title)}px"
    button.add_class(name)
    style = ipywidgets.HTML(f"<style>.lr-editor button.{name} {{background-image: url({drawing.data_uri(picture)})}}"
                            "</style>", layout=ipywidgets.Layout(display="none"))
    cell = ipywidgets.VBox([style, button])
    cell.add_class("lr-thumb")
    return cell


def _switch(button: ipywidgets.Button, on: bool) -> None:
    """Show that a thumbnail is chosen."""
    (button.add_class if on else button.remove_class)("lr-on")


def _dropdown(title: str, options, value=None) -> ipywidgets.Dropdown:
    found = ipywidgets.Dropdown(options=options, description=title, **({} if value is None else {"value": value}))
    found.layout.max_width = "98%"
    return found


def _set(widget: ipywidgets.Image, picture: Image.Image | None) -> None:
    """Show a picture; hide the place of none."""
    widget.layout.display = "none" if picture is None else ""
    if picture is not None:
        widget.value = png_bytes(picture)


def _row(parts: list[ipywidgets.Widget]) -> ipywidgets.HBox:
    """Side by side, below each other where there is no room."""
    row = ipywidgets.HBox(parts, layout=ipywidgets.Layout(flex_flow="row wrap"))
    row.add_class("lr-row")
    return row


def _card(title: str, parts: list[ipywidgets.Widget], flex: str = "1 1 400px") -> ipywidgets.VBox:
    """Parts below a title, in a frame; as wide as there is room, below its neighbour where there is less than `flex`
    says.
    """
    card = ipywidgets.VBox([ipywidgets.HTML(f"<h3>{escape(title)}</h3>"), *parts],
                           layout=ipywidgets.Layout(flex=flex, min_width="0", max_width="100%"))
    card.add_class("lr-card")
    return card


def _files(upload: ipywidgets.FileUpload) -> list[tuple[str, bytes]]:
    """Names and contents; ipywidgets 7 has them by name, 8 in a row."""
    value = upload.value
    if isinstance(value, dict):
        return [(name, bytes(one["content"])) for name, one in value.items()]
    return [(one["name"], bytes(one["content"])) for one in value]

