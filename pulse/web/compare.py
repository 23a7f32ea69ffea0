"""The tab Compare: one small face through every method, side by side."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr

from pulse.faces.prepare import LRFace
from pulse.imaging.pictures import InputError, read_picture
from pulse.upscale import UpscaleConfig
from pulse.web import html
from pulse.web.blocks import file_of
from pulse.web.compare_jobs import LARGER, TITLES, Comparison, Judge, methods_of
from pulse.web.jobs import Desk, Made, Stage
from pulse.web.markup import Card, bar, cards, coming, lead, uri
from pulse.web.scripts import CHOOSE
from pulse.web.studio import Studio
from pulse.web.updates import Updates, Wish, repeating

NETWORK = "A network: one answer, without a search."
PLAIN = (TITLES["nearest"], TITLES["bicubic"])
SEARCHES = (TITLES["paper"], TITLES["default"], TITLES[LARGER])
EXPLAINED = coming(
    "Here the face will appear, enlarged in each of these ways",
    cards([Card(*words) for words in (*PLAIN, ("Networks", NETWORK), *SEARCHES)]),
    "Give it a small face: what is larger is made small first.",
    "Each method enlarges it: interpolation, networks, and PULSE's searches, one after another.",
    "You see them side by side: with how well each fits the small picture and how real it looks.",
)
FIGURES = (
    "<p class='facts'>Error: how far the picture, made small again, is from yours; 0 is the same. "
    "Unnatural: how little it looks like a photograph (NIQE), fewer is better. Face: how sure a "
    "detector is that it is one; from 0 on it takes it for one.</p>"
)


def card_of(record: dict[str, Any], folder: Path) -> Card:
    """A method's pictures and figures as the page shows them."""
    name, faces = record["method"], record["candidates"]
    title, words = TITLES.get(name, (name, NETWORK))
    if not faces:
        return Card(title, record["problem"])
    best = faces[0]
    sources = [uri((folder / face["file"]).read_bytes(), "image/png") for face in faces]
    figures = [("Error", f"{best['mse']:.5f}")]
    if best["niqe"] is not None:
        figures.append(("Unnatural", f"{best['niqe']:.1f}"))
    figures.append(("Face", "no" if best["detector"] is None else f"{best['detector']:+.2f}"))
    if record["found"] is not None:
        figures.append(("Matches", f"{record['found']} of {len(faces)}"))
    figures.append(("Seconds", f"{record['seconds']:.1f}"))
    kind = "" if name in ("nearest", "bicubic") else "enhanced"
    if record["tolerance"] is not None:
        kind = "imaginary"
    return Card(title, words, sources[0], tuple(sources[1:]), kind, tuple(figures))


class CompareTab:
    """The tab's parts and what happens when one of them is touched."""

    def __init__(self, studio: Studio, examples: list[Path]) -> None:
        self.studio, self.examples = studio, examples
        self.desk, self.judge = Desk(studio, "compare"), Judge()
        lead("Give it a small face. Interpolation, networks and searches enlarge it, side by side.")
        bar("What networks draw need not have been there.", "PULSE's people do not exist.")
        with gr.Row(elem_classes="view"):
            with gr.Column(min_width=0, elem_classes="given"):
                self._inputs()
            with gr.Column(min_width=0, elem_classes="results"):
                self._outputs()
            with gr.Column(min_width=0, elem_classes="rest"):
                self._rest()
        self.stage = Stage(self.problem, self.status, (self.begin,), self.stop)
        self._events()

    def _inputs(self) -> None:
        limits = self.studio.limits
        self.picture = gr.Image(
            type="filepath", image_mode=None, sources=["upload", "clipboard", "webcam"],
            label="Your picture", height=260, elem_id="compare-picture",
        )  # fmt: skip
        self.picture.preprocess = file_of  # type: ignore[method-assign]  # As the page's.
        self.problem = gr.HTML(elem_id="compare-problem", elem_classes="problem")
        self.matched = gr.HTML(elem_id="compare-matched", elem_classes="notes-of")
        self.candidates = gr.Slider(
            1, limits.candidates, min(2, limits.candidates), step=1,
            label="Faces of each search", elem_id="compare-candidates",
        )  # fmt: skip
        self.begin = gr.Button("Compare", variant="primary", elem_id="compare-run")
        self.stop = gr.Button("Stop", variant="stop", visible=False, elem_id="compare-stop")

    def _outputs(self) -> None:
        self.status = gr.HTML(html.status("Choose a picture to begin."), elem_id="compare-status")
        self.cards = gr.HTML(EXPLAINED, elem_id="compare-cards")
        self.download = gr.DownloadButton(
            "Download all (ZIP)", visible=False, variant="primary", elem_id="compare-download"
        )

    def _rest(self) -> None:
        limits = self.studio.limits
        with gr.Accordion("More settings", open=False, elem_id="compare-settings"):
            self.face = gr.Number(
                1, precision=0, minimum=1, label="Which face",
                info="In a photo of several: 1 is the largest.",
            )  # fmt: skip
            steps = min(UpscaleConfig().search.steps, limits.steps)
            self.steps = gr.Slider(
                1, limits.steps, steps, step=1, label="Steps of each search",
                elem_id="compare-steps",
            )  # fmt: skip
            self.seed = gr.Number(
                0, precision=0, minimum=0, label="Seed", info="The same seed, the same faces."
            )
            self.as_it_is = gr.Checkbox(
                False, label="Take it as it is", info="Look for no face: the whole picture is one."
            )
        if self.examples:
            shown = [(read_picture(path).image, path.stem) for path in self.examples]
            self.tried = gr.HTML(
                "<h3>Or try one of these</h3>" + html.choices(shown, None, "Examples to compare"),
                js_on_load=CHOOSE, elem_id="compare-examples",
            )  # fmt: skip

    def _events(self) -> None:
        private: Any = {"api_visibility": "private", "show_progress": "hidden"}
        anew: Any = {"concurrency_limit": None, **private}
        controls = [
            self.picture, self.face, self.candidates, self.steps, self.seed, self.as_it_is,
        ]  # fmt: skip
        results = [self.cards, self.download]
        told = [self.problem, self.matched, self.status]
        self.picture.change(self.changed, None, results, queue=False, **private).then(
            self.look, controls, told, **anew
        )
        for part in (self.face, self.as_it_is):
            part.change(self.look, controls, told, **anew)
        self.begin.click(self.side_by_side, controls, [*self.stage.parts, *results], **anew)
        self.stop.click(self.desk.halt, None, self.stop, queue=False, **private)
        if self.examples:
            self.tried.select(self.example, None, self.picture, queue=False, **private)
        with gr.Row(visible=False):
            gr.Button().click(
                self.api,
                controls,
                [gr.JSON(label="record"), gr.File(label="archive")],
                api_name="compare",
                concurrency_limit=None,
                api_description="Enlarge a small face with every method. Yields how far it is and "
                "each method's record, and at last all of them and a ZIP file.",
            )

    def _face(self, picture: str | None, face: float | None, as_it_is: bool) -> LRFace:
        if picture is None:
            raise InputError("Choose a picture first.")
        if face is None or face < 1:
            raise InputError("Faces are counted from 1.")
        return self.studio.face(
            Wish(Path(picture), int(face) - 1, self.studio.first, as_it_is=bool(as_it_is))
        )

    def _prepared(
        self,
        picture: str | None,
        face: float | None,
        candidates: float | None,
        steps: float | None,
        seed: float | None,
        as_it_is: bool,
    ) -> Comparison:
        if candidates is None or steps is None or seed is None:
            raise InputError("A number is missing in the settings.")
        found = self._face(picture, face, as_it_is)
        search = replace(UpscaleConfig().search, steps=int(steps))
        try:
            how = UpscaleConfig(int(candidates), int(seed), search=search)
        except InputError:
            raise
        except ValueError as error:
            raise InputError(str(error)) from error
        self.studio.limits.check(how)
        resolution = self.studio.first_upscaler(lambda _: None).generator.resolution
        methods = methods_of(self.studio, resolution, found.low.shape[-1], how)
        return Comparison(Path(picture or ""), found, tuple(methods), self.studio, self.judge)

    def look(self, picture: str | None, face: float | None, *controls: Any) -> Updates:
        """Show what of the picture will be enlarged."""
        told: Updates = {self.problem: "", self.matched: "", self.status: ""}
        if picture is None:
            return told | {self.status: html.status("Choose a picture to begin.")}
        try:
            return told | {self.matched: html.matched(self._face(picture, face, controls[-1]))}
        except Exception as error:
            return told | {self.problem: self.stage.failed(error)[self.problem]}

    def changed(self, request: gr.Request) -> Updates:
        """Another picture: the old one's results go."""
        self.desk.stop(request)
        return {self.cards: EXPLAINED, self.download: gr.DownloadButton(visible=False)}

    @repeating
    def side_by_side(self, request: gr.Request, *controls: Any) -> Iterator[Updates]:
        """Run the methods and show each as it comes."""
        made: list[Card] = []

        def shown(step: Made) -> Updates:
            if step.file is None:
                assert step.folder is not None
                made.append(card_of(step.record, step.folder))
                return {self.cards: cards(made) + FIGURES}
            updates: Updates = {
                self.download: gr.DownloadButton(value=str(step.file), visible=True)
            }
            if not step.cut:
                good = sum(bool(card.source) for card in made)
                failed = f" {len(made) - good} could not do it." if good < len(made) else ""
                updates[self.status] = html.status(f"Done: {good} methods.{failed}")
            return updates

        yield {self.cards: EXPLAINED, self.download: gr.DownloadButton(visible=False)}
        yield from self.desk.attend(request, self.stage, lambda: self._prepared(*controls), shown)

    def api(
        self,
        picture: str | None,
        face: int,
        candidates: int,
        steps: int,
        seed: int,
        as_it_is: bool,
        request: gr.Request,
    ) -> Iterator[tuple[dict[str, Any], str | None]]:
        """The same for programs."""
        yield from self.desk.answer(
            request, lambda: self._prepared(picture, face, candidates, steps, seed, as_it_is)
        )

    def example(self, event: gr.EventData) -> str:
        return str(self.examples[int(event.index)])
