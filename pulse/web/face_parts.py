"""What the Face view consists of."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import gradio as gr
from gradio.components import Component

from pulse.imaging.pictures import read_picture
from pulse.search import PRESETS, SearchConfig
from pulse.superres import weights
from pulse.superres.finish import AUTO, FINISHERS
from pulse.upscale import UpscaleConfig
from pulse.web import html
from pulse.web.blocks import file_of
from pulse.web.controls import describe
from pulse.web.order import SIZES, Order
from pulse.web.scripts import CHOOSE, COPY, SLIDE
from pulse.web.studio import Studio

# Beside the packages in the repository, beside this file where a wheel was installed.
_WITH_WHEEL = Path(__file__).with_name("examples")
EXAMPLES = _WITH_WHEEL if _WITH_WHEEL.is_dir() else Path(__file__).parents[2] / "examples"


class FaceParts:
    """Its parts: what is given, what comes of it, and the rest; on a phone in that order.

    The controls are called as `Order` calls what they say.
    """

    def __init__(self, studio: Studio) -> None:
        self._studio, self._limits = studio, studio.limits
        self.examples = sorted(EXAMPLES.glob("*.*")) if EXAMPLES.is_dir() else []
        with gr.Row(elem_id="face-view", elem_classes="view"):
            with gr.Column(min_width=0, elem_classes="given"):
                self._given()
            with gr.Column(min_width=0, elem_id="results", elem_classes="results"):
                self._results()
            with gr.Column(min_width=0, elem_classes="rest"):
                self._rest()

    @property
    def controls(self) -> list[Component]:
        return [getattr(self, field.name) for field in fields(Order)]

    @property
    def shown(self) -> list[Component | gr.Row]:
        """What a search changes."""
        return [
            self.problem, self.status, self.gallery, self.detail, self.downloads, self.one,
            self.all, self.paste, self.chosen, self.run, self.stop, self.photo, self.photo_file,
            self.earlier,
        ]  # fmt: skip

    def _given(self) -> None:
        most = self._limits.candidates
        self.picture = gr.Image(
            type="filepath",
            image_mode=None,
            sources=["upload", "clipboard", "webcam"],
            label="Your picture",
            height=220,
            elem_id="picture",
        )
        # Gradio would open the file first, and say of a broken one only that there is an error. (As
        # a subclass it would be taken for a component of a third party.)
        self.picture.preprocess = file_of  # type: ignore[method-assign]
        self.problem = gr.HTML(elem_id="problem")
        self.faces = gr.HTML(js_on_load=CHOOSE, elem_id="faces")
        self.matched = gr.HTML(elem_id="matched")
        self.candidates = gr.Slider(
            1, most, min(UpscaleConfig.candidates, most), step=1, label="How many faces"
        )
        self.size = gr.Radio(
            [("As drawn", 0), *((str(size), size) for size in SIZES)],
            value=0,
            label="How large, in pixels",
            info="A second network makes up the finest detail of larger faces. "
            f"{SIZES[-1]} can take minutes more for each.",
            elem_id="size",
        )
        self.run = gr.Button("Imagine faces", variant="primary", elem_id="run")
        self.stop = gr.Button("Stop", variant="stop", visible=False, elem_id="stop")
        self.face = gr.Number(0, precision=0, visible=False, label="Face")

    def _results(self) -> None:
        self.status = gr.HTML(html.status("Choose a picture to begin."), elem_id="status")
        self.gallery = gr.HTML(html.explanation(), js_on_load=CHOOSE, elem_id="gallery")
        self.detail = gr.HTML(js_on_load=SLIDE, elem_id="detail")
        with gr.Row(visible=False, elem_id="downloads") as self.downloads:
            self.one = gr.DownloadButton("Download this face", variant="primary", elem_id="one")
            self.more = gr.Button("More like this", elem_id="more")
            self.paste = gr.Button("Show it in the photo", elem_id="paste")
            self.all = gr.DownloadButton(
                "Download its search (ZIP)", variant="primary", elem_id="all"
            )
        self.photo = gr.HTML(js_on_load=SLIDE, elem_id="photo")
        self.photo_file = gr.DownloadButton(
            "Download the photo", variant="primary", elem_id="photo-file", visible=False
        )
        self.earlier = gr.HTML(js_on_load=CHOOSE, elem_id="earlier")
        self.chosen = gr.Number(0, precision=0, visible=False)

    def _rest(self) -> None:
        if self.examples:
            cards = [(read_picture(path).image, path.stem) for path in self.examples]
            self.tried = gr.HTML(
                "<h3>Or try one of these</h3>" + html.choices(cards, None, "Examples"),
                js_on_load=CHOOSE,
                elem_id="examples",
            )
        with gr.Accordion("More settings", open=False, elem_id="settings"):
            self._search_settings()
            gr.HTML("<h3>What happened to the picture?</h3>")
            self._degradation()
            gr.HTML("<h3>The same without this page</h3>")
            self.command = gr.HTML(js_on_load=COPY, elem_id="command")

    def _search_settings(self) -> None:
        search, most = SearchConfig(), self._limits.steps
        self.generator = gr.Dropdown(
            [(describe(name), name) for name in self._studio.generators()],
            value=self._studio.first,
            label="What draws the faces",
            info="A generator; the pictures that it learned from shape what faces look like.",
        )
        here = [name for name in FINISHERS if name in weights.names()]
        self.finish = gr.Dropdown(
            [("the best that is here", AUTO), *((name, name) for name in here)],
            value=AUTO,
            label="What makes it larger",
            info="The network for larger faces, and for a face that is put into a photo.",
            elem_id="finish",
        )
        self.steps = gr.Slider(
            1,
            most,
            min(search.steps, most),
            step=1,
            label="Steps",
            elem_id="steps",
            info="More steps take longer and match better.",
        )
        with gr.Row(elem_id="seeds"):
            self.seed = gr.Number(
                0, precision=0, minimum=0, label="Seed", info="The same seed, the same faces."
            )
            self.dice = gr.Button("⚄ Another", elem_id="dice", min_width=80)
        self.lr_size = gr.Number(
            0,
            precision=0,
            minimum=0,
            label="Size to match, in pixels",
            info="How small the picture is made before it is matched. 0 decides by itself: a small "
            "picture stays as it is, a larger one is made 16 pixels wide.",
        )
        self.tolerance = gr.Number(
            search.tolerance,
            label="Tolerance",
            info="How far colours may be off in a match: smaller is stricter. 0.001 can hardly be "
            "seen.",
        )
        self.preset = gr.Radio(
            list(PRESETS),
            value="default",
            label="Way of searching",
            info="'paper' is the published recipe.",
        )
        self.as_it_is = gr.Checkbox(
            False, label="Take it as it is", info="Look for no face: the whole picture is one."
        )

    def _degradation(self) -> None:
        self.pixelated = gr.Checkbox(False, label="It was pixelated")
        self.grey = gr.Checkbox(False, label="It lost its colours")
        self.blur = gr.Slider(
            0, 4, 0, step=0.1, label="It was blurred", info="0: not at all. 4: hardly a face."
        )
        self.jpeg = gr.Slider(
            0,
            100,
            0,
            step=1,
            label="It was squeezed into a small JPEG file",
            info="0: it was not. Else its quality, from 1, with large blocks, to 100, like new.",
        )
        self.noise = gr.Slider(
            0, 0.2, 0, step=0.01, label="It is grainy", info="0: not at all. 0.2: very much."
        )
