"""The tab Film: a film through a network that enlarges it. Needs the extra for films."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr

from pulse.imaging.pictures import InputError, setting
from pulse.video.config import Cut
from pulse.video.job import DEFAULTS, FilmJob
from pulse.web import html
from pulse.web.blocks import file_of
from pulse.web.film_jobs import Order, Preview, film_job, most_frames
from pulse.web.jobs import Desk, Made, Networks, Stage
from pulse.web.markup import bar, coming, enlargement, lead, notes
from pulse.web.photo import LARGEST, check_scale
from pulse.web.studio import Studio
from pulse.web.updates import Updates, repeating

EXPLAINED = coming(
    "Here your film will play, larger",
    enlargement("your film", "the same, as the network draws it", "▶"),
    "Give it a film: short, and too small.",
    "Try one frame: that takes a moment and shows what the whole will look like.",
    "Make the film: frame by frame, with its sound. A film that was stopped goes on where it was "
    "when it is made again, as long as this page is open.",
)


class FilmTab:
    """The tab's parts and what happens when one of them is touched."""

    def __init__(self, studio: Studio, networks: Networks) -> None:
        self.studio, self.networks = studio, networks
        self.desk = Desk(studio, "film")
        lead("Give it a short film that is too small. A network draws each frame larger.")
        bar("What is fine in the result need not have been there.", "A network draws the detail.")
        with gr.Row(elem_classes="view"):
            with gr.Column(min_width=0, elem_classes="given"):
                self._inputs()
            with gr.Column(min_width=0, elem_classes="results"):
                self._outputs()
            with gr.Column(min_width=0, elem_classes="rest"):
                self._rest()
        self.stage = Stage(self.problem, self.status, (self.try_one, self.begin), self.stop)
        self._events()

    def _inputs(self) -> None:
        limits = self.studio.limits
        self.film = gr.Video(
            sources=["upload"], label=f"Your film, up to {limits.seconds:g} s at once",
            height=260, include_audio=True, elem_id="film",
        )  # fmt: skip
        # Gradio would convert it with a program that need not be here.
        self.film.preprocess = file_of  # type: ignore[method-assign]
        self.problem = gr.HTML(elem_id="film-problem", elem_classes="problem")
        choices = self.networks.choices(DEFAULTS)
        self.network = gr.Dropdown(
            choices, value=choices[0][1] if choices else None, label="Network",
            info="What draws the larger frames.", elem_id="film-network",
        )  # fmt: skip
        self.scale = gr.Slider(
            1, LARGEST, 4, step=0.5, label="How much larger", elem_id="film-scale",
            info="4: four times as wide and as high.",
        )  # fmt: skip
        self.number = gr.Number(
            1, precision=0, minimum=1, label="Frame to try first", elem_id="film-number"
        )
        self.try_one = gr.Button("Try one frame", elem_id="film-try")
        self.begin = gr.Button("Make the film", variant="primary", elem_id="film-run")
        self.stop = gr.Button("Stop", variant="stop", visible=False, elem_id="film-stop")

    def _outputs(self) -> None:
        self.status = gr.HTML(html.status("Choose a film to begin."), elem_id="film-status")
        self.how = gr.HTML(EXPLAINED)
        self.slider = gr.ImageSlider(
            type="filepath", label="Before and after", visible=False,
            interactive=False, buttons=["fullscreen"], max_height=520, elem_id="film-slider",
        )  # fmt: skip
        self.result = gr.Video(
            label="The enlarged film", visible=False, interactive=False, buttons=[],
            include_audio=True, elem_id="film-result",
        )  # fmt: skip
        self.notes = gr.HTML(elem_id="film-notes", elem_classes="notes-of")
        self.download = gr.DownloadButton(
            "Download the film", visible=False, variant="primary", elem_id="film-download"
        )

    def _rest(self) -> None:
        with gr.Accordion("A part of the film", open=False, elem_id="film-part"), gr.Row():
            self.start = gr.Number(None, minimum=0, label="From second", min_width=120)
            self.end = gr.Number(None, minimum=0, label="To second", min_width=120)

    def _events(self) -> None:
        private: Any = {"api_visibility": "private", "show_progress": "hidden"}
        anew: Any = {"concurrency_limit": None, **private}
        results = [self.how, self.slider, self.result, self.notes, self.download]
        controls = [self.film, self.network, self.scale, self.start, self.end]
        told = [self.problem, self.status]
        self.film.change(self.changed, None, results, queue=False, **private).then(
            self.look, controls, told, **anew
        )
        for part in (self.scale, self.start, self.end):
            part.change(self.look, controls, told, **anew)
        outputs = [*self.stage.parts, *results]
        self.try_one.click(self.preview, [self.number, *controls], outputs, **anew)
        self.begin.click(self.enlarge, controls, outputs, **anew)
        self.stop.click(self.desk.halt, None, self.stop, queue=False, **private)
        with gr.Row(visible=False):
            gr.Button().click(
                self.api,
                controls,
                [gr.JSON(label="record"), gr.File(label="file")],
                api_name="film",
                concurrency_limit=None,
                api_description="Enlarge a film with a network. Yields how far it is, and at last "
                "the record and the file.",
            )

    def _job(
        self,
        film: str | None,
        network: str,
        scale: float,
        start: float | None,
        end: float | None,
    ) -> FilmJob:
        if min(start or 0, end or 0) < 0:
            raise InputError(f"{setting('start')} and {setting('end')} count from the beginning.")
        cut = Cut(start or None, end or None)
        return film_job(self.studio, film, self.networks.check(network), scale, cut)

    def _preview(self, number: float | None, *controls: Any) -> Preview:
        most = most_frames(self.studio.limits)
        if number is None or not 1 <= number <= most:
            raise InputError(f"Try a frame from 1 to {most}.")
        job = self._job(*controls)
        return Preview(job, int(number), self.studio, self.networks)

    def look(self, *controls: Any) -> Updates:
        """Say how large the film is and what it would become."""
        if controls[0] is None:
            return {self.problem: "", self.status: html.status("Choose a film to begin.")}
        try:
            job = self._job(*controls)
            film, limits = job.footage, self.studio.limits
            height, width = check_scale(controls[2], film.height, film.width, limits)
        except Exception as error:
            return {self.problem: self.stage.failed(error)[self.problem], self.status: ""}
        words = f"{film.width}x{film.height} pixels, which become {width}x{height}"
        if film.count is not None:
            words += f"; {film.count} frames in all"
        return {self.problem: "", self.status: html.status(f"{words}.")}

    def changed(self, request: gr.Request) -> Updates:
        """Another film: the old one's results go."""
        self.desk.stop(request)
        return self._without_result()

    def _without_result(self) -> Updates:
        return {
            self.how: gr.HTML(visible=True),
            self.slider: gr.ImageSlider(value=None, visible=False),
            self.result: gr.Video(value=None, visible=False),
            self.notes: "",
            self.download: gr.DownloadButton(visible=False),
        }

    @repeating
    def preview(
        self, request: gr.Request, number: float | None, *controls: Any
    ) -> Iterator[Updates]:
        """Show one frame."""
        yield self._without_result()
        yield from self.desk.attend(
            request, self.stage, lambda: self._preview(number, *controls), self._frame_shown
        )

    def _frame_shown(self, made: Made) -> Updates:
        assert made.shown is not None
        before, after = map(str, made.shown)
        return {
            self.status: html.status(f"So frame {made.record['frame']} would look."),
            self.how: gr.HTML(visible=False),
            self.slider: gr.ImageSlider(value=(before, after), visible=True),
        }

    @repeating
    def enlarge(self, request: gr.Request, *controls: Any) -> Iterator[Updates]:
        """Make the film and show it."""
        yield self._without_result()
        yield from self.desk.attend(
            request,
            self.stage,
            lambda: Order(self._job(*controls), self.studio, self.networks),
            self._shown,
        )

    def _shown(self, made: Made) -> Updates:
        record, file = made.record, made.file
        if file is None:  # It was stopped; the parts that were made stay for another time.
            return {}
        size = f"{record['width']}x{record['height']} pixels, {html.bytes_of(file)}"
        words = f"Done: {record['frames']} frames of {size}, in {html.duration(record['seconds'])}."
        lines = [record["notice"], *record["notes"], record["damage"]]
        return {
            self.status: html.status(words),
            self.how: gr.HTML(visible=False),
            self.result: gr.Video(value=str(file), visible=True),
            self.notes: notes([line for line in lines if line]),
            self.download: gr.DownloadButton(value=str(file), visible=True),
        }

    def api(
        self,
        film: str | None,
        network: str,
        scale: float,
        start: float | None,
        end: float | None,
        request: gr.Request,
    ) -> Iterator[tuple[dict[str, Any], str | None]]:
        """The same for programs."""
        yield from self.desk.answer(
            request,
            lambda: Order(self._job(film, network, scale, start, end), self.studio, self.networks),
        )
