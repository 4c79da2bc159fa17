"""The editor as a local web page, by Gradio: it asks nothing of the network and tells nobody anything."""

# Annotations are not put off here: Gradio reads those of `request` and `event` and must find its own classes.

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

from PIL import Image

from lr_helpers.app import drawing, engine, sources
from lr_helpers.app.engine import Chosen, Edited, Finished, Prepared, Proposed, Stopped
from lr_helpers.errors import UserError
from lr_helpers.files.pictures import read_noted
from lr_helpers.files.writing import png_bytes
from lr_helpers.machine.installing import install_extra
from lr_helpers.models.loading import Models
from tiny_world.sprites import SIZES
from tiny_world.words import NAMES, PLACES

LOOPBACK = "127.0.0.1"
NOTHING = "<span></span>"
"""Gradio leaves what was there where it is given an empty text."""
CSS = """
.gradio-container {max-width: 1200px !important; margin: 0 auto}
.pixels img {image-rendering: pixelated}
mark {border-radius: 3px}
progress {accent-color: #0072b2}
#candidates .grid-wrap {max-height: none; height: auto; overflow: visible}
#candidates .grid-container {min-width: 0}
#source_marks:not(:has([role])), #prompt_marks:not(:has([role])), #status:not(:has([role])) {display: none}
#slider {min-width: 0 !important}
#answer, #one {flex-wrap: wrap}
#answer > * {flex: 1 1 320px !important; min-width: min(320px, 100%) !important}
#one > * {flex: 1 1 280px !important; min-width: min(280px, 100%) !important}
#ideas {flex-wrap: wrap; gap: 6px}
#ideas button {flex: 0 0 auto; min-width: 0; border-radius: 14px}
button:focus-visible, input:focus-visible {outline: 2px solid #0072b2; outline-offset: 1px}
@media (max-width: 600px) {#candidates .grid-container {grid-template-columns: repeat(2, minmax(0, 1fr)) !important}}
"""


def gradio() -> Any:
    """The library, told to be silent before it loads. Raises UserError where it is not installed."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    try:
        import gradio
    except ModuleNotFoundError as error:
        raise UserError("The app needs Gradio, which is not installed; start the app by ./reproduce.sh app, or install "
                        f"Gradio by: {install_extra('app')}") from error
    return gradio


@contextmanager
def served(models: Models, host: str = LOOPBACK, port: int | None = None, browser: bool = False) -> Iterator[str]:
    """The page, served within the context; gives its address. `port`: None takes a free one from 7860 on.

    Temporary files lie in one folder, which goes in the end. Raises UserError if Gradio is missing or the port taken.
    """
    with TemporaryDirectory(prefix="learnable_regions_") as folder:
        os.environ["GRADIO_TEMP_DIR"] = str(Path(folder, "uploads"))
        gr = gradio()
        page = build(models, Path(folder))
        try:
            _, address, _ = page.launch(
                server_name=host, server_port=port, inbrowser=browser, prevent_thread_lock=True, quiet=True,
                share=False, ssr_mode=False, pwa=False, mcp_server=False, enable_monitoring=False, run_history=False,
                footer_links=[], max_file_size=f"{sources.LARGEST}mb", strict_cors=True, allowed_paths=[folder],
                css=CSS,
                theme=gr.themes.Base(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]))
        except OSError as error:
            raise UserError(f"The port {port or 'from 7860 on'} of {host} can't be opened; give another "
                            "--port.") from error
        try:
            yield address
        finally:
            page.close(verbose=False)


def build(models: Models, folder: Path) -> Any:
    """The page as `gradio.Blocks`; `folder` holds the pictures to download."""
    gr = gradio()
    running: dict[str, threading.Event] = {}
    profile = models.profile
    first = sources.sample(profile, sources.sample_names(profile)[0])
    private = {"api_visibility": "private", "show_progress": "hidden"}
    # What changes again while an answer is awaited is asked again after it, of the page as it is then. Gradio's other
    # ways lose the second change ("once") or ask for both at once ("multiple"), where the first's answer may come last.
    newest = {"trigger_mode": "always_last", **private}

    with gr.Blocks(title="Learnable regions", analytics_enabled=False, delete_cache=(3600, 3600)) as page:
        gr.Markdown("# Edit a picture by learnable regions\n"
                    "Say what is there and what you want; the method finds where.")
        picture, edits = gr.State(first.picture), gr.State([])
        with gr.Row():
            with gr.Column(min_width=320):
                with gr.Tab("Sample") as sample_tab:
                    sample = gr.Dropdown(list(sources.sample_names(profile)), value=first.name, label="sample",
                                         elem_id="sample")
                with gr.Tab("Upload") as upload_tab:
                    upload = gr.File(label=f"a picture (JPEG, PNG, WebP …), at most {sources.LARGEST} MB",
                                     file_types=["image"], elem_id="upload", height=140)
                if profile.vocabulary:
                    with gr.Tab("Compose") as compose_tab, gr.Row():
                        parts = [gr.Dropdown(list(PLACES), value="grass", label="place", min_width=120),
                                 gr.Dropdown(list(NAMES), value="wolf", label="object", min_width=120),
                                 gr.Dropdown(list(sources.WHERE), value="middle", label="where", min_width=120),
                                 gr.Dropdown(list(SIZES), value=64, label="size in pixels", min_width=120),
                                 gr.Dropdown([sources.NOBODY, *NAMES], value=sources.NOBODY, label="and also",
                                             min_width=120)]
                preview = gr.Image(drawing.shown(first.picture), label="picture", interactive=False, buttons=[],
                                   format="png", elem_classes="pixels", alt_text="the picture to edit", height=320)
            with gr.Column(min_width=320):
                source = gr.Textbox(first.source, label="there is", elem_id="source", max_length=1000)
                source_marks = gr.HTML(elem_id="source_marks")
                prompt = gr.Textbox(first.prompt, label="I want", elem_id="prompt", max_length=1000)
                prompt_marks = gr.HTML(elem_id="prompt_marks")
                ideas = []
                if profile.vocabulary:  # its models know few words
                    with gr.Row(elem_id="ideas"):
                        ideas = [gr.Button(one, size="sm") for one in first.prompts]
                names = list(engine.methods(models))
                method = gr.Radio(names, value=names[0], label="method", elem_id="method")
                seed = gr.Number(42, label="seed", precision=0, minimum=0, elem_id="seed")
                cost = gr.HTML(drawing.preset_html(models, names[0]), elem_id="cost")
                with gr.Row():
                    run = gr.Button("Run", variant="primary", elem_id="run", min_width=120)
                    cancel = gr.Button("Cancel", elem_id="cancel", min_width=120, interactive=False)
                status = gr.HTML(elem_id="status")
        with gr.Row(elem_id="answer"):
            with gr.Column(visible=False, min_width=320, elem_id="result") as result_column:
                slider = gr.HTML(elem_id="slider")
                took = gr.HTML(elem_id="took")
                download = gr.DownloadButton("Download the picture", elem_id="download")
            with gr.Column(min_width=320):
                region = gr.Image(label="how probable each place is", visible=False, interactive=False, buttons=[],
                                  format="png", alt_text="the region's probabilities over the picture",
                                  elem_id="region")
        with gr.Row():
            with gr.Column(min_width=320):
                attention = gr.Image(label="attention and anchors", visible=False, interactive=False, buttons=[],
                                     format="png", alt_text="attention laid over the picture, anchors as points",
                                     elem_id="attention")
            with gr.Column(min_width=320):
                # A label would lie on its axis.
                history = gr.Image(show_label=False, visible=False, interactive=False, buttons=[], format="png",
                                   alt_text="the loss at each update of the network", elem_id="history")
        gallery = gr.Gallery(label="candidate edits; click one", visible=False, columns=6, height="auto", format="png",
                             allow_preview=False, interactive=False, buttons=[], elem_id="candidates")
        with gr.Row(visible=False, elem_id="one") as one_row:
            one = gr.Image(label="one candidate", interactive=False, buttons=[], format="png", elem_classes="pixels",
                           alt_text="the chosen candidate with its box", min_width=320)
            figures = gr.HTML(elem_id="figures", min_width=280)

        # The picture

        def chosen_sample(name: str):
            try:
                found = sources.sample(profile, name)
            except UserError as error:
                return {status: drawing.error_html(str(error))}
            return {picture: found.picture, preview: drawing.shown(found.picture), source: found.source,
                    prompt: found.prompt, source_marks: NOTHING, prompt_marks: NOTHING, status: NOTHING}

        def uploaded(file: str | None):
            if file is None:
                return {picture: None, preview: None, status: NOTHING}
            try:
                found, notes = read_noted(file)
            except UserError as error:
                return {picture: None, preview: None, status: drawing.error_html(str(error))}
            return {picture: found, preview: drawing.shown(found), status: drawing.notes_html(notes) or NOTHING}

        def composed(*chosen):
            try:
                found = sources.compose(*chosen)
            except UserError as error:
                return {status: drawing.error_html(str(error))}
            return {picture: found, preview: drawing.shown(found), source: chosen[1], source_marks: NOTHING,
                    status: NOTHING}

        taken = [picture, preview, source, prompt, source_marks, prompt_marks, status]
        # A dropdown's `input` comes twice for one choice, too quickly for "always_last" to hold the second back, and
        # its `select` not at all from the keyboard; `change` comes once.
        for event in (sample.change, sample_tab.select):
            event(chosen_sample, sample, taken, **newest)
        for event in (upload.change, upload_tab.select):
            event(uploaded, upload, taken, **newest)
        if profile.vocabulary:
            for event in (*(part.change for part in parts), compose_tab.select):
                event(composed, parts, taken, **newest)

        # The texts

        for text, marks in ((source, source_marks), (prompt, prompt_marks)):
            text.change(lambda words: drawing.marked_html(models, words) or NOTHING, text, marks, **newest)
        method.change(lambda name: drawing.preset_html(models, name), method, cost, **newest)
        for idea in ideas:
            idea.click(None, idea, prompt, js="words => words", **private)

        # The edit

        shown = [status, run, cancel, edits, attention, region, history, gallery, one_row, result_column, slider, took,
                 download]

        def edit(image: Image.Image | None, there: str, wanted: str, name: str, number: float | None,
                 request: gr.Request):
            event = running[request.session_hash] = threading.Event()
            hidden = {part: gr.update(visible=False)
                      for part in (attention, region, history, gallery, one_row, result_column)}
            yield {run: gr.update(interactive=False), cancel: gr.update(interactive=True), edits: [],
                   status: drawing.bar_html("Looking for places …"), **hidden}
            done = {run: gr.update(interactive=True), cancel: gr.update(interactive=False)}
            try:
                if image is None:
                    raise UserError("There is no picture yet; choose one first.")
                if number is None:
                    raise UserError("The seed is empty; give a whole number, such as 42.")
                found = _Shown()
                for stage in engine.stages(models, image, there, wanted, name, int(number), cancel=event):
                    changes = dict(updates(stage, found))
                    if changes:  # Gradio takes no empty answer
                        yield changes | (done if isinstance(stage, (Finished, Stopped)) else {})
            except Exception as error:  # a full disk, say: who asked shall know, and can ask again
                yield {status: drawing.error_html(engine.in_one_sentence(error)), **done}
            finally:
                running.pop(request.session_hash, None)

        def updates(stage: engine.Stage, found: _Shown):
            """Which part of the page changes at this stage, and how."""
            if isinstance(stage, Prepared):
                found.prepared = stage
            elif isinstance(stage, Proposed):
                yield attention, gr.update(value=drawing.attention_picture(found.prepared, stage), visible=True)
            elif isinstance(stage, Edited):
                found.add(stage)
                yield status, drawing.edits_bar_html(stage)
                yield gallery, gr.update(value=found.small, visible=True, selected_index=None)
                yield edits, found.large
            elif isinstance(stage, Chosen):
                found.chosen = stage
                curve = drawing.history_picture(stage)
                yield region, gr.update(value=drawing.region_picture(found.prepared, stage), visible=True)
                yield history, gr.update(value=curve, visible=curve is not None)
            elif isinstance(stage, Finished):
                result = stage.result
                file = folder / f"edited_{uuid4().hex[:8]}.png"
                file.write_bytes(png_bytes(result.image))
                yield region, gr.update(value=drawing.region_picture(found.prepared, found.chosen, result.box))
                yield slider, drawing.compared_html(result.original, result.image)
                yield took, drawing.cost_html(result.cost)
                yield download, gr.update(value=str(file))
                yield result_column, gr.update(visible=True)
                if any(one.loss is None for one in found.edits):
                    found.edits = engine.judged(found.edits, result)
                    yield gallery, gr.update(value=found.small, selected_index=None)
                    yield edits, found.large
                yield status, drawing.done_html(result.warnings)
            elif isinstance(stage, Stopped):
                yield status, drawing.stopped_html(stage)

        run.click(edit, [picture, source, prompt, method, seed], shown, concurrency_limit=None, **private)

        def stop(request: gr.Request) -> None:
            if event := running.get(request.session_hash):
                event.set()

        cancel.click(stop, None, None, queue=False, **private)
        page.unload(stop)

        def show_one(large: list, thumbnails: gr.Gallery):
            # The gallery's state, not the click's: "always_last" asks again with the first click's event.
            image, table = large[thumbnails.selected_index]
            return {one: image, figures: f"<b>Candidate {thumbnails.selected_index + 1}</b>{table}",
                    one_row: gr.update(visible=True)}

        gallery.select(show_one, [edits, gallery], [one, figures, one_row], **newest)
    return page


class _Shown:
    """What one edit has shown so far."""

    def __init__(self):
        self.prepared: Prepared | None = None
        self.chosen: Chosen | None = None
        self.edits: list[Edited] = []
        self._pictures: list[tuple[Image.Image, Image.Image]] = []

    def add(self, edit: Edited) -> None:
        """One more candidate, drawn once in both sizes."""
        shape = self.prepared.original.height, self.prepared.original.width
        self.edits.append(edit)
        self._pictures.append((drawing.with_box(edit.picture, edit.box, shape, 192),
                               drawing.with_box(edit.picture, edit.box, shape)))

    @property
    def small(self) -> list[tuple[Image.Image, str]]:
        """All candidates as thumbnails with their titles."""
        return [(small, drawing.title_of(edit)) for (small, _), edit in zip(self._pictures, self.edits, strict=True)]

    @property
    def large(self) -> list[tuple[Image.Image, str]]:
        """All candidates with their figures."""
        return [(large, drawing.table_html(edit)) for (_, large), edit in zip(self._pictures, self.edits, strict=True)]
