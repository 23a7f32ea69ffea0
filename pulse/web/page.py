"""The page: a picture goes in, imaginary faces come out. Gradio's part of the browser front end."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from random import randrange
from typing import Any

# Nothing is reported to anyone, and no model hub is asked for anything.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ["HF_HUB_OFFLINE"] = "1"

import gradio as gr

from pulse.imaging.pictures import read_picture
from pulse.search import PRESETS, SearchConfig
from pulse.upscale import UpscaleConfig
from pulse.web import html
from pulse.web.blocks import Blocks, address_of, file_of
from pulse.web.controls import describe, sentence
from pulse.web.controls import order as read_order
from pulse.web.controls import wish as read_wish
from pulse.web.markup import lead
from pulse.web.scripts import CHOOSE, SCROLL, SLIDE
from pulse.web.server import Site
from pulse.web.studio import Studio, archive, candidate_file
from pulse.web.tabs import Updates, limit_of, other_tabs, style
from pulse.web.updates import Done, Searching

EXAMPLES = Path(__file__).parents[2] / "examples"
GONE = "This result is not kept any more; please search again."


def site_of(studio: Studio) -> Site:
    """The page of a studio."""
    os.environ["GRADIO_TEMP_DIR"] = str(studio.folder)  # Uploads are swept up with the rest.
    blocks = Page(studio).blocks
    return Site(blocks, style(), ("api", "settings"), EXAMPLES, limit_of(studio.limits))


class Page:
    """The page's parts and what happens when one of them is touched."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        self.examples = sorted(EXAMPLES.glob("*.*")) if EXAMPLES.is_dir() else []
        with Blocks(title="PULSE", analytics_enabled=False, fill_width=True) as self.blocks:
            with gr.Tabs():
                with gr.Tab("Face"):
                    lead(
                        "Give it a small, blurred or pixelated face. It imagines people who would "
                        "look just like that if they were as small."
                    )
                    gr.HTML(html.caution(), elem_id="caution")
                    with gr.Row():
                        with gr.Column(scale=2, min_width=300):
                            self._inputs()
                        with gr.Column(scale=3, min_width=300):
                            self._outputs()
                other_tabs(studio, self.examples)
            self._events()

    def _inputs(self) -> None:
        limits = self.studio.limits
        self.picture = gr.Image(
            type="filepath",
            image_mode=None,
            sources=["upload", "clipboard", "webcam"],
            label="Your picture",
            height=260,
            elem_id="picture",
        )
        # Gradio would open the file first, and say of a broken one only that there is an error. (As
        # a subclass it would be taken for a component of a third party.)
        self.picture.preprocess = file_of  # type: ignore[method-assign]
        self.problem = gr.HTML(elem_id="problem")
        self.faces = gr.HTML(js_on_load=CHOOSE, elem_id="faces")
        self.matched = gr.HTML(elem_id="matched")
        self.candidates = gr.Slider(
            1, limits.candidates, min(UpscaleConfig.candidates, limits.candidates), step=1,
            label="How many faces",
        )  # fmt: skip
        self.run = gr.Button("Imagine faces", variant="primary", elem_id="run")
        self.stop = gr.Button("Stop", variant="stop", visible=False, elem_id="stop")
        if self.examples:
            cards = [(read_picture(path).image, path.stem) for path in self.examples]
            self.tried = gr.HTML(
                "<h3>Or try one of these</h3>" + html.choices(cards, None, "Examples"),
                js_on_load=CHOOSE,
                elem_id="examples",
            )
        with gr.Accordion("More settings", open=False, elem_id="settings"):
            self._settings()
        self.face = gr.Number(0, precision=0, visible=False, label="Face")

    def _settings(self) -> None:
        search = SearchConfig()
        self.generator = gr.Dropdown(
            [(describe(name), name) for name in self.studio.generators()],
            value=self.studio.first,
            label="Generator",
            info="What draws the faces; it shapes what they look like.",
        )
        self.steps = gr.Slider(
            1,
            self.studio.limits.steps,
            min(search.steps, self.studio.limits.steps),
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
            info="0: a small picture as it is, a larger one at 16.",
        )
        self.tolerance = gr.Number(
            search.tolerance,
            label="Tolerance",
            info="Largest mean squared difference of a match, colours going from 0 to 1.",
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
        gr.HTML("<h3>What happened to the picture?</h3>")
        self.pixelated = gr.Checkbox(False, label="It was pixelated")
        self.grey = gr.Checkbox(False, label="It lost its colours")
        self.blur = gr.Slider(
            0, 4, 0, step=0.1, label="Blur", info="Sigma in pixels of the small picture; 0: none."
        )
        self.jpeg = gr.Slider(
            0, 100, 0, step=1, label="JPEG quality", info="Of the small picture; 0: was not one."
        )
        self.noise = gr.Slider(
            0, 0.2, 0, step=0.01, label="Noise", info="Sigma, black being 0 and white 1."
        )

    def _outputs(self) -> None:
        self.status = gr.HTML(html.status("Choose a picture to begin."), elem_id="status")
        self.gallery = gr.HTML(html.explanation(), js_on_load=CHOOSE, elem_id="gallery")
        self.detail = gr.HTML(js_on_load=SLIDE, elem_id="detail")
        with gr.Row(visible=False, elem_id="downloads") as self.downloads:
            self.one = gr.DownloadButton("Download this face", elem_id="one", size="sm")
            self.all = gr.DownloadButton("Download all (ZIP)", elem_id="all", size="sm")
            self.paste = gr.Button("Show it in the photo", elem_id="paste", size="sm")
        self.photo = gr.HTML(elem_id="photo")
        self.photo_file = gr.DownloadButton(
            "Download the photo", elem_id="photo-file", size="sm", visible=False
        )
        self.chosen = gr.Number(0, precision=0, visible=False)

    def _events(self) -> None:
        private: Any = {"api_visibility": "private", "show_progress": "hidden"}
        framing = [
            self.picture, self.face, self.generator, self.lr_size, self.as_it_is, self.pixelated,
            self.blur, self.grey, self.jpeg, self.noise,
        ]  # fmt: skip
        controls = [
            self.picture, self.face, self.candidates, self.steps, self.seed, self.generator,
            self.lr_size, self.tolerance, self.preset, *framing[4:],
        ]  # fmt: skip
        pasted = [self.photo, self.photo_file]
        results = [
            self.problem, self.status, self.gallery, self.detail, self.downloads, self.one,
            self.all, self.paste, self.chosen, self.run, self.stop, *pasted,
        ]  # fmt: skip
        anew: Any = {"concurrency_limit": None, **private}
        gr.on(
            [self.picture.change, self.as_it_is.change],
            self.look,
            [self.picture, self.as_it_is],
            [self.problem, self.faces, self.face],
            **anew,
        ).then(self.preview, framing, [self.problem, self.matched], **anew)
        gr.on(
            [part.change for part in framing[2:4] + framing[5:]],
            self.preview,
            framing,
            [self.problem, self.matched],
            **anew,
        )
        self.faces.select(self.chosen_face, None, self.face, queue=False, **private).then(
            self.preview, framing, [self.problem, self.matched], **anew
        )
        for event in (self.run.click, self.tried.select) if self.examples else (self.run.click,):
            event(None, js=SCROLL, queue=False, **private)
        self.run.click(self.search, controls, results, **anew)
        self.stop.click(self.halt, None, self.stop, queue=False, **private)
        self.gallery.select(
            self.choose, None, [self.detail, self.one, self.chosen, *pasted], queue=False, **private
        )
        self.paste.click(self.put_back, self.chosen, pasted, **anew)
        self.dice.click(lambda: randrange(2**31), None, self.seed, queue=False, **private)
        if self.examples:
            self.tried.select(
                self.example, None, [self.picture, self.face], queue=False, **private
            ).then(self.search, controls, results, **anew)
        self.blocks.unload(self.leave)
        # The same for programs: the page's own controls are its arguments, defaults and limits.
        with gr.Row(visible=False):
            record, archived = gr.JSON(label="record"), gr.File(label="archive")
            gr.Button().click(
                self.upscale,
                controls,
                [record, archived],
                api_name="upscale",
                concurrency_limit=None,
                api_description="Search for faces that downscale to the one in a picture. Yields "
                "how far it is, and at last the record, as in result.json, and a ZIP file.",
            )

    def look(self, picture: str | None, as_it_is: bool) -> Updates:
        """Show the faces of a new picture."""
        nothing: Updates = {self.problem: "", self.faces: "", self.face: 0}
        if picture is None:
            return nothing
        try:
            framings = self.studio.framings(Path(picture), as_it_is)
            if len(framings) == 1:
                return nothing
            image = self.studio.read(Path(picture)).image
        except Exception as error:
            return {**nothing, self.problem: html.message(sentence(error))}
        cuts = [(framing.cut(image), f"{framing.index + 1}") for framing in framings]
        title = f"<h3>{len(cuts)} faces were found. Which one?</h3>"
        return {**nothing, self.faces: title + html.choices(cuts, 0, "The faces of the picture")}

    def preview(self, *framing: Any) -> Updates:
        """Show what of the chosen face will be matched."""
        if framing[0] is None:
            return {self.problem: "", self.matched: ""}
        try:
            face = self.studio.face(read_wish(*framing))
        except Exception as error:
            return {self.problem: html.message(sentence(error)), self.matched: ""}
        return {self.problem: "", self.matched: html.matched(face)}

    def search(self, request: gr.Request, *controls: Any) -> Iterator[Updates]:
        """Search, and show the candidates as they get better."""
        key, visit, stop = str(request.session_hash), None, threading.Event()
        self._stop(key)  # An earlier search, should one go on.
        idle: Updates = {self.run: gr.Button(visible=True), self.stop: gr.Button(visible=False)}
        yield {
            self.problem: "",
            self.status: html.status("Starting."),
            self.detail: "",
            self.downloads: gr.Row(visible=False),
            **self._without_photo(),
            self.run: gr.Button(visible=False),
            self.stop: gr.Button(visible=True, interactive=True),
        }
        try:
            wish, config = read_order(*controls)
            done: Done | None = None
            for update in self.studio.run(wish, config, controls[8], stop, address_of(request)):
                if visit is None:  # Only who gave a picture that can be searched for is kept.
                    visit = self.studio.visit(key)
                    visit.stop, visit.running = stop, visit.running + 1
                if isinstance(update, Done):
                    done = update
                    continue
                updates: Updates = {self.status: html.progress(update)}
                if isinstance(update, Searching):
                    updates[self.gallery] = html.gallery(update.state, update.tolerance)
                yield updates
            if done is None or visit is None:
                yield {self.status: html.status("Stopped before anything was found."), **idle}
                return
            result = done.result
            zipped = archive(result, visit.results)
            visit.picture, visit.face = wish.picture, result.face
            visit.details = [html.detail(result, i) for i in range(config.candidates)]
            best, framing = html.order(result.state)[0], result.face.framing
            yield {
                self.status: html.outcome(result),
                self.gallery: html.gallery(result.state, result.tolerance, over=True),
                self.detail: visit.details[best],
                self.chosen: best,
                self.downloads: gr.Row(visible=True),
                self.one: str(candidate_file(visit.results, best)),
                self.all: str(zipped),
                self.paste: gr.Button(visible=framing is not None and framing.found is not None),
                **idle,
            }
        except Exception as error:
            text = sentence(error)
            failed = html.status("The search could not begin.")
            yield {self.problem: html.message(text), self.status: failed, **idle}
        finally:
            if visit is not None:
                visit.running -= 1

    def upscale(
        self,
        picture: str | None,
        face: int,
        candidates: int,
        steps: int,
        seed: int,
        generator: str,
        lr_size: int,
        tolerance: float,
        preset: str,
        as_it_is: bool,
        pixelated: bool,
        blur: float,
        grey: bool,
        jpeg: int,
        noise: float,
        request: gr.Request,
    ) -> Iterator[tuple[dict[str, Any], str | None]]:
        """The same for programs."""
        stop = threading.Event()
        try:
            wish, config = read_order(
                picture, face, candidates, steps, seed, generator, lr_size, tolerance, preset,
                as_it_is, pixelated, blur, grey, jpeg, noise,
            )  # fmt: skip
            for update in self.studio.run(wish, config, preset, stop, address_of(request)):
                if isinstance(update, Done):
                    folder = self.studio.new_folder() / "results"
                    zipped = archive(update.result, folder)
                    yield json.loads((folder / "result.json").read_text("utf-8")), str(zipped)
                elif isinstance(update, Searching):
                    state = update.state
                    mse = state.best.nan_to_num(posinf=1.0).tolist()  # JSON knows no infinity.
                    yield {"step": state.step, "steps": state.steps, "mse": mse}, None
        except Exception as error:
            raise gr.Error(sentence(error), print_exception=False) from error

    def halt(self, request: gr.Request) -> Any:
        """Stop the visitor's search."""
        self._stop(str(request.session_hash))
        return gr.Button(interactive=False)

    def _stop(self, key: str) -> None:
        visit = self.studio.find(key)
        if visit is not None:
            visit.stop.set()

    def choose(self, event: gr.EventData, request: gr.Request) -> Updates:
        """Show one candidate large."""
        visit, index = self.studio.find(str(request.session_hash)), int(event.index)
        if visit is None or not 0 <= index < len(visit.details):
            return {self.detail: html.message(GONE)}
        return {
            self.detail: visit.details[index],
            self.one: str(candidate_file(visit.results, index)),
            self.chosen: index,
            **self._without_photo(),
        }

    def put_back(self, chosen: int, request: gr.Request) -> Updates:
        """Show the photo with the chosen candidate in it."""
        visit = self.studio.find(str(request.session_hash))
        if visit is None or not 0 <= chosen < len(visit.details):
            return {self.photo: html.message(GONE)}
        try:
            file = self.studio.paste(visit, chosen)
        except Exception as error:
            return {self.photo: html.message(sentence(error))}
        return {
            self.photo: html.photo(file),
            self.photo_file: gr.DownloadButton(value=str(file), visible=True),
        }

    @staticmethod
    def chosen_face(event: gr.EventData) -> int:
        return int(event.index)

    def _without_photo(self) -> Updates:
        return {self.photo: "", self.photo_file: gr.DownloadButton(visible=False)}

    def example(self, event: gr.EventData) -> tuple[str, int]:
        """Take an example as the picture."""
        return str(self.examples[int(event.index)]), 0

    def leave(self, request: gr.Request) -> None:
        """The visitor closed the page."""
        self.studio.leave(str(request.session_hash))
