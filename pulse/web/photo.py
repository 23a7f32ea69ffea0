"""The tab Photo: any picture through a network that enlarges it."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import gradio as gr
from PIL import Image

from pulse.imaging.pictures import InputError, Photo, read_photo, setting, write_bytes
from pulse.photos import ENHANCED, check_size, enhanced, facts_of_photo, format_of
from pulse.results import Format, encode
from pulse.superres.pictures import PictureConfig, enlarged_size, steps
from pulse.superres.weights import DEFAULTS
from pulse.web import html
from pulse.web.blocks import file_of
from pulse.web.jobs import (
    Desk,
    Made,
    Networks,
    Note,
    Place,
    Stage,
    Step,
    check_upload,
    emptied,
    reworded,
)
from pulse.web.markup import bar, coming, enlargement, lead, notes
from pulse.web.scripts import CHOOSE
from pulse.web.studio import Studio
from pulse.web.updates import Limits, Updates, repeating
from stylegan.marks import COMPOSITE

SHOWN = 2048
"""Longest side in pixels of what the slider shows."""
LARGEST = 8
WEBP = "image/webp"
EXPLAINED = coming(
    "Here your photo will appear, larger",
    enlargement("your photo", "the same, as the network draws it"),
    "Give it a picture: any photo or drawing that is too small, of anything.",
    "A network draws it larger: tile by tile, with the detail that such pictures mostly have.",
    "You compare: slide between your picture and the result, and download it. Date, place and "
    "colour profile of the photo stay in the file, which says that a network made it.",
)


@dataclass(frozen=True)
class PhotoJob:
    """A photo to enlarge."""

    source: Path
    photo: Photo
    network: str
    config: PictureConfig
    format: Format
    studio: Studio
    networks: Networks

    def run(self, place: Place) -> Iterator[Step]:
        """The last step has the file, and what the slider shows."""
        made: Made | None = None

        def work(tell: Callable[[Step], None]) -> None:
            nonlocal made
            tell(Note(f"Opening the network {self.network}."))
            network, start = self.networks.open(self.network), time.monotonic()
            image = None
            for step in steps(network, self.photo.image, self.config):
                if step.image is None:
                    tell(tiles_done(step.done, step.total, time.monotonic() - start))
                image = step.image
            assert image is not None
            tell(Note("Writing the file.", 1.0))
            made = self._written(image, emptied(place.folder), time.monotonic() - start)

        yield from self.studio.line.serve(work, place.stop, place.address)
        if made is not None:
            yield made

    def _written(self, image: Image.Image, folder: Path, seconds: float) -> Made:
        data, left_out = enhanced(image, self.photo, self.format, self.network)
        file = folder / f"{self.source.stem}-enlarged.{self.format}"
        write_bytes(file, data)
        facts = facts_of_photo(self.photo, self.network)
        shown = write_shown(folder, self.photo.image, image, facts, self.photo.icc)
        record = {
            "input": self.source.name,
            "output": file.name,
            "network": self.network,
            "scale": self.config.scale,
            "width": image.width,
            "height": image.height,
            "seconds": round(seconds, 2),
            "notes": left_out,
            "notice": ENHANCED,
        }
        return Made(record, file, folder, shown)


def tiles_done(done: int, total: int, seconds: float) -> Note:
    left = "" if not done else f", about {html.duration(seconds / done * (total - done))} left"
    return Note(f"Tile {done} of {total}{left}.", done / total)


def write_shown(
    folder: Path,
    before: Image.Image,
    after: Image.Image,
    facts: dict[str, str],
    icc: bytes | None = None,
) -> tuple[Path, Path]:
    """Write what a slider shows: the input enlarged by interpolation, and the result."""
    share = min(SHOWN / max(after.size), 1)
    size = max(round(after.width * share), 1), max(round(after.height * share), 1)
    buffer = io.BytesIO()
    _plain(before).resize(size, Image.Resampling.BICUBIC).save(
        buffer, "WEBP", quality=90, icc_profile=icc
    )
    files = folder / "before.webp", folder / "after.webp"
    write_bytes(files[0], buffer.getvalue())
    small = _plain(after).resize(size, Image.Resampling.BICUBIC)
    write_bytes(files[1], encode(small, "webp", facts, COMPOSITE, icc=icc))
    return files


def _plain(image: Image.Image) -> Image.Image:
    """RGB of 8 bits, what is transparent on white."""
    if image.mode.startswith("I"):
        image = image.point(lambda value: value / 257).convert("L")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def check_scale(scale: float | None, height: int, width: int, limits: Limits) -> tuple[int, int]:
    """Height and width of what becomes of that height and width.

    Raises:
        InputError: more is asked for than is allowed.
    """
    if scale is None or not 1 <= scale <= LARGEST:
        raise InputError(f"{setting('scale')} has to be from 1 to {LARGEST}.")
    height, width = enlarged_size(height, width, scale)
    if height * width > limits.enlarged:
        raise InputError(
            f"It would become {width}x{height} pixels; at most {limits.enlarged / 1e6:.3g} "
            f"megapixels are made here: give a smaller {setting('scale')}."
        )
    return height, width


class PhotoTab:
    """The tab's parts and what happens when one of them is touched."""

    def __init__(self, studio: Studio, networks: Networks, examples: list[Path]) -> None:
        self.studio, self.networks, self.examples = studio, networks, examples
        self.desk = Desk(studio, "photo")
        lead("Give it a photo that is too small. A network draws it larger, with what it lacks.")
        bar("What is fine in the result need not have been there.", "A network draws the detail.")
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
        self.picture = gr.Image(
            type="filepath", image_mode=None, sources=["upload", "clipboard", "webcam"],
            label="Your photo", height=260, elem_id="photo-picture",
        )  # fmt: skip
        self.picture.preprocess = file_of  # type: ignore[method-assign]  # As the page's.
        self.problem = gr.HTML(elem_id="photo-problem", elem_classes="problem")
        choices = self.networks.choices(DEFAULTS)
        self.network = gr.Dropdown(
            choices, value=choices[0][1] if choices else None, label="Network",
            info="What draws the larger picture.", elem_id="photo-network",
        )  # fmt: skip
        self.scale = gr.Slider(
            1, LARGEST, 4, step=0.5, label="How much larger", elem_id="photo-scale",
            info="4: four times as wide and as high.",
        )  # fmt: skip
        self.begin = gr.Button("Enlarge", variant="primary", elem_id="photo-run")
        self.stop = gr.Button("Stop", variant="stop", visible=False, elem_id="photo-stop")

    def _outputs(self) -> None:
        self.status = gr.HTML(html.status("Choose a photo to begin."), elem_id="photo-status")
        self.how = gr.HTML(EXPLAINED)
        self.slider = gr.ImageSlider(
            type="filepath", label="Before and after", visible=False,
            interactive=False, buttons=["fullscreen"], max_height=520, elem_id="photo-slider",
        )  # fmt: skip
        self.notes = gr.HTML(elem_id="photo-notes", elem_classes="notes-of")
        self.download = gr.DownloadButton(
            "Download the photo", visible=False, variant="primary", elem_id="photo-download"
        )

    def _rest(self) -> None:
        with gr.Accordion("More settings", open=False):
            self.exact = gr.Checkbox(
                False, label="Keep to it exactly", info="Made small again it is your photo."
            )
            self.format = gr.Radio(
                [("as the photo's", "auto"), "png", "jpg", "webp"],
                value="auto", label="Kind of file",
            )  # fmt: skip
        if self.examples:
            cards = [(read_photo(p).image.convert("RGB"), p.stem) for p in self.examples]
            self.tried = gr.HTML(
                "<h3>Or try one of these</h3>" + html.choices(cards, None, "Examples of photos"),
                js_on_load=CHOOSE, elem_id="photo-examples",
            )  # fmt: skip

    def _events(self) -> None:
        private: Any = {"api_visibility": "private", "show_progress": "hidden"}
        anew: Any = {"concurrency_limit": None, **private}
        results = [self.how, self.slider, self.notes, self.download]
        controls = [self.picture, self.network, self.scale, self.exact, self.format]
        self.picture.change(self.changed, None, results, queue=False, **private).then(
            self.look, controls, [self.problem, self.status], **anew
        )
        for part in (self.scale, self.format):
            part.change(self.look, controls, [self.problem, self.status], **anew)
        self.begin.click(self.enlarge, controls, [*self.stage.parts, *results], **anew)
        self.stop.click(self.desk.halt, None, self.stop, queue=False, **private)
        if self.examples:
            self.tried.select(self.example, None, self.picture, queue=False, **private)
        with gr.Row(visible=False):
            gr.Button().click(
                self.api,
                controls,
                [gr.JSON(label="record"), gr.File(label="file")],
                api_name="photo",
                concurrency_limit=None,
                api_description="Enlarge a picture with a network. Yields how far it is, and at "
                "last the record and the file.",
            )

    def _prepared(
        self, picture: str | None, network: str, scale: float, exact: bool, format: str
    ) -> PhotoJob:
        limits = self.studio.limits
        path = check_upload(None if picture is None else Path(picture), limits.upload, "photo")
        with reworded({str(path): "The photo"}):
            photo = read_photo(path, limits.pixels)
            check_scale(scale, photo.image.height, photo.image.width, limits)
            kind = format_of(path, _known(format))
            check_size(photo, scale, kind)
        config = PictureConfig(float(scale), exact=bool(exact))
        name = self.networks.check(network)
        return PhotoJob(path, photo, name, config, kind, self.studio, self.networks)

    def look(self, *controls: Any) -> Updates:
        """Say how large the photo is and what it would become."""
        if controls[0] is None:
            return {self.problem: "", self.status: html.status("Choose a photo to begin.")}
        stage = replace(self.stage, begin=())
        try:
            photo = self._prepared(*controls).photo.image
            height, width = check_scale(controls[2], photo.height, photo.width, self.studio.limits)
        except Exception as error:
            failed = stage.failed(error)
            return {self.problem: failed[self.problem], self.status: ""}
        words = f"{photo.width}x{photo.height} pixels, which become {width}x{height}."
        return {self.problem: "", self.status: html.status(words)}

    def changed(self, request: gr.Request) -> Updates:
        """Another picture: the old one's results go."""
        self.desk.stop(request)
        return self._without_result()

    def _without_result(self) -> Updates:
        return {
            self.how: gr.HTML(visible=True),
            self.slider: gr.ImageSlider(value=None, visible=False),
            self.notes: "",
            self.download: gr.DownloadButton(visible=False),
        }

    @repeating
    def enlarge(self, request: gr.Request, *controls: Any) -> Iterator[Updates]:
        """Enlarge the photo and show it."""
        yield self._without_result()
        yield from self.desk.attend(
            request, self.stage, lambda: self._prepared(*controls), self._shown
        )

    def _shown(self, made: Made) -> Updates:
        record, file, shown = made.record, made.file, made.shown
        assert file is not None
        assert shown is not None
        size = f"{record['width']}x{record['height']} pixels, {html.bytes_of(file)}"
        return {
            self.status: html.status(f"Done: {size}, in {html.duration(record['seconds'])}."),
            self.how: gr.HTML(visible=False),
            self.slider: gr.ImageSlider(value=(str(shown[0]), str(shown[1])), visible=True),
            self.notes: notes([record["notice"], *record["notes"]]),
            self.download: gr.DownloadButton(value=str(file), visible=True),
        }

    def api(
        self,
        picture: str | None,
        network: str,
        scale: float,
        exact: bool,
        format: str,
        request: gr.Request,
    ) -> Iterator[tuple[dict[str, Any], str | None]]:
        """The same for programs."""
        yield from self.desk.answer(
            request, lambda: self._prepared(picture, network, scale, exact, format)
        )

    def example(self, event: gr.EventData) -> str:
        return str(self.examples[int(event.index)])


def _known(format: str) -> Format | Literal["auto"]:
    match format:
        case "png" | "jpg" | "webp" | "auto":
            return format
    raise InputError(f"{setting('format')} has to be auto, png, jpg or webp.")
