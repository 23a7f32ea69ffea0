"""One small face of a visitor through every method."""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from pulse import superres
from pulse.evaluation.methods import (
    FINISHED,
    STAND_INS,
    Enlarged,
    Method,
    Network,
    Search,
    finished,
)
from pulse.faces.prepare import LRFace
from pulse.imaging.niqe import natural, niqe
from pulse.imaging.pictures import InputError, as_saved, to_image, to_png, write_bytes
from pulse.photos import ENHANCED
from pulse.results import TOOL, encode
from pulse.search import PRESETS, State
from pulse.search.losses import squared_error
from pulse.superres import weights
from pulse.superres.finish import AUTO, SHIPPED
from pulse.upscale import NOTICE, UpscaleConfig, Upscaler
from pulse.web.controls import sentence
from pulse.web.jobs import Made, Note, Place, Step, emptied
from pulse.web.studio import Studio, packed
from pulse.web.updates import Opening
from stylegan.evaluate import MISSED, FaceMeter
from stylegan.marks import COMPOSITE, SOURCE_TYPE

LARGER = f"default-{FINISHED}"
TITLES = {
    "nearest": ("Blocks", "Each pixel becomes a square."),
    "bicubic": ("Smooth", "Interpolation: nothing is added."),
    "paper": ("PULSE as published", "A search among faces, by the published recipe."),
    "default": ("PULSE", "A search among faces, as the tab Face does it."),
    LARGER: (
        f"PULSE, {FINISHED} pixels",
        "The same faces; where they match, a second network makes up finer detail.",
    ),
}


@dataclass(frozen=True)
class Turn:
    """One of so many methods, and who is told how far it is."""

    title: str
    number: int
    count: int
    tell: Callable[[Step], None]

    def say(self, words: str = "", share: float = 0.0) -> None:
        text = f"{self.title} ({self.number + 1} of {self.count}){words}."
        self.tell(Note(text, (self.number + share) / self.count))


class Searched(NamedTuple):
    """A search as it stands, and the seconds that it took."""

    state: State
    seconds: float


@dataclass(frozen=True)
class Comparison:
    """A face and the methods that enlarge it."""

    source: Path
    face: LRFace
    methods: tuple[Method, ...]
    studio: Studio
    judge: Judge

    def run(self, place: Place) -> Iterator[Step]:
        """A step with a record for each method, as it is done; the last has the file of all."""
        made: list[dict[str, Any]] = []
        searched: dict[UpscaleConfig, Searched] = {}
        folder, count = place.folder, len(self.methods)

        def work(tell: Callable[[Step], None]) -> None:
            emptied(folder)
            write_bytes(folder / "input.png", to_png(to_image(self.face.low)))
            upscaler = self._upscaler(tell)
            for number, method in enumerate(self.methods):
                turn = Turn(title_of(method), number, count, tell)
                turn.say()
                try:
                    drawn, seconds = self._drawn(method, upscaler, searched, turn)
                    made.append(self._record(method, drawn, seconds, folder))
                except Exception as error:  # The others can still be compared.
                    problem = sentence(error)
                    made.append({"method": method.name, "problem": problem, "candidates": []})
                tell(Note(f"{number + 1} of {count} methods are done.", (number + 1) / count))

        shown = 0
        for step in self.studio.line.serve(work, place.stop, place.address):
            while shown < len(made):
                yield Made(made[shown], folder=folder)
                shown += 1
            yield step
        for record in made[shown:]:
            yield Made(record, folder=folder)
        if done := list(made):  # What is computed after a stop comes too late.
            record = {"input": self.source.name, "methods": done, "notice": NOTICE}
            write_bytes(folder / "compare.json", f"{json.dumps(record, indent=2)}\n".encode())
            cut = len(done) < len(self.methods)
            yield Made(record, packed(folder), folder, cut=cut)

    def _upscaler(self, tell: Callable[[Step], None]) -> Upscaler:
        def opening(update: object) -> None:
            if isinstance(update, Opening):
                tell(Note(f"Opening the generator {update.generator}."))

        return self.studio.first_upscaler(opening)

    def _drawn(
        self,
        method: Method,
        upscaler: Upscaler,
        searched: dict[UpscaleConfig, Searched],
        turn: Turn,
    ) -> tuple[Float[Tensor, "n 3 r r"], float]:
        """What the method makes of the face, and the seconds that it took.

        Args:
            searched: what the searches came to, so that none is made again for larger faces.
        """
        start = time.monotonic()
        if not isinstance(method, Search):
            draw = method.open(self.face.low.shape[-1], upscaler.generator.resolution)
            return as_saved(draw(self.face.low)), time.monotonic() - start
        plain = replace(method.config, size=None, finish=AUTO)
        found = searched.get(plain)
        before = 0.0 if found is None else found.seconds
        states = (
            upscaler.search(self.face, method.config)
            if found is None
            else upscaler.finishing(self.face, found.state, method.config)
        )
        images = None
        for state in states:
            images = state.images
            if state.exact is None:
                found = Searched(state, time.monotonic() - start)
                turn.say(f": step {state.step} of {state.steps}", state.step / state.steps)
            elif method.config.finishes:
                larger = int(state.exact.isfinite().sum())
                turn.say(f": {larger} are made larger", larger / len(state.status))
        assert found is not None
        assert images is not None
        searched[plain] = found
        return as_saved(images.cpu()), before + time.monotonic() - start

    def _record(
        self, method: Method, pictures: Float[Tensor, "n 3 r r"], seconds: float, folder: Path
    ) -> dict[str, Any]:
        """The facts of a method's pictures, the nearest to the input first, which are written."""
        size, lr_size = pictures.shape[-1], self.face.low.shape[-1]
        low = self.face.degrade.operator(size, lr_size)(pictures)
        errors = squared_error(low, self.face.low).tolist()
        faces = []
        for place, index in enumerate(sorted(range(len(errors)), key=errors.__getitem__)):
            file = f"{Path(method.name).name}-{place:02d}.png"
            write_bytes(folder / file, png_of(method, pictures[index]))
            faces.append({"file": file, "mse": errors[index], **self.judge.judge(pictures[index])})
        tolerance = None
        if isinstance(method, Search):
            tolerance = method.config.search.with_noise(self.face.degrade.noise).tolerance
        return {
            "method": method.name,
            "problem": None,
            "size": size,
            "lr_size": lr_size,
            "seconds": round(seconds, 2),
            "tolerance": tolerance,
            "found": None if tolerance is None else sum(error <= tolerance for error in errors),
            "candidates": faces,
        }


class Judge:
    """Measures what needs no original; opened when it is first used."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # dlib's networks serve one at a time.
        self._meter: FaceMeter | None = None

    def judge(self, picture: Float[Tensor, "3 r r"]) -> dict[str, float | None]:
        """`niqe`, None where it cannot be told, and `detector`, None where no face is near."""
        with self._lock:
            self._meter = self._meter or FaceMeter()
            _, score = self._meter.measure((picture * 255).round().to(torch.uint8))
        try:
            natural()
            natural_distance = niqe(picture.double())
        except InputError:  # The package with its parameters is an extra.
            natural_distance = math.nan
        return {
            "niqe": None if math.isnan(natural_distance) else natural_distance,
            "detector": None if score <= MISSED else float(score),
        }


def methods_of(studio: Studio, resolution: int, lr_size: int, how: UpscaleConfig) -> list[Method]:
    """Every method that is here, the simplest first.

    Args:
        how: how many candidates a search is for, from which seed, in how many steps.
    """
    names = dict.fromkeys((*networks_for(resolution / lr_size), weights.default()))
    searches = [
        Search(name, studio.first, "", replace(how, search=replace(preset, steps=how.search.steps)))
        for name, preset in (("paper", PRESETS["paper"]), ("default", PRESETS["default"]))
    ]
    if resolution < FINISHED:
        # Not `auto`: with Real-ESRGAN's network a visitor waits a minute on a CPU.
        searches.append(finished(searches[-1], SHIPPED))
    return [
        Enlarged("nearest"), Enlarged("bicubic"), *(Network.of(name) for name in names), *searches,
    ]  # fmt: skip


def networks_for(factor: float) -> list[str]:
    """Of each family of networks for faces the one that enlarges least, but by the factor.

    What it makes too large is resampled. Where no family enlarges so much, networks of photos stand
    in, which may go over a picture several times.
    """
    here = superres.names()
    scales = {name: superres.load(name).scale for name in here if "-faces-" in name}
    nearest: dict[str, str] = {}
    for name in sorted(scales, key=scales.__getitem__):
        if scales[name] >= factor:
            nearest.setdefault(name.rpartition("-x")[0], name)
    return sorted(nearest.values()) or [name for name in STAND_INS if name in here]


def title_of(method: Method) -> str:
    return TITLES[method.name][0] if method.name in TITLES else method.name


def png_of(method: Method, picture: Float[Tensor, "3 r r"]) -> bytes:
    """The file of a picture, which says what it is."""
    image = to_image(picture)
    match method:
        case Search():
            facts = {"Software": TOOL, "Description": NOTICE, "Synthetic": "yes"}
            return encode(image, "png", facts | {"Method": method.name}, SOURCE_TYPE)
        case Network():
            facts = {"Software": TOOL, "Description": ENHANCED, "Network": method.name}
            return encode(image, "png", facts, COMPOSITE)
        case _:
            return to_png(image)
