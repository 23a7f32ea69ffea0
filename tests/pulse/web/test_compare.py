"""What the tab Compare does, without the page."""

import json
import threading
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from pulse.evaluation.methods import Draw, Enlarged, Method, Search
from pulse.faces.prepare import LRFace
from pulse.imaging.degrade import DegradeConfig
from pulse.imaging.pictures import InputError
from pulse.search import SearchConfig
from pulse.upscale import UpscaleConfig, Upscaler
from pulse.web.compare import card_of
from pulse.web.compare_jobs import Comparison, Judge, methods_of, networks_for
from pulse.web.jobs import Made, Note, Place
from pulse.web.markup import cards
from pulse.web.studio import Studio
from pulse.web.updates import Limits
from stylegan import Generator
from stylegan.stylegan2 import StyleGAN2, StyleGAN2Config

HOW = UpscaleConfig(2, search=SearchConfig(steps=3, draws=2))


def studio_of(generator: Generator, folder: Path) -> Studio:
    folder = folder / "studio"
    folder.mkdir()
    sha256 = f"{generator.resolution:064}"  # By which is known what was worked out for it.
    return Studio(folder, Limits(), "tiny", upscaler=Upscaler(generator, "tiny", sha256))


def face_of(generator: Generator, size: int) -> LRFace:
    """A face that the generator can draw, made small."""
    with torch.no_grad():
        ws = generator.w_mean.expand(1, generator.num_layers, -1)
        drawn = (generator.synthesis(ws) / 2 + 0.5).clamp(0, 1)
    return LRFace(0, DegradeConfig().operator(generator.resolution, size)(drawn)[0])


def compared(
    studio: Studio, face: LRFace, methods: list[Method], folder: Path
) -> tuple[list[dict[str, Any]], Made]:
    """The methods' records as they came, and the end."""
    job = Comparison(Path("face.png"), face, tuple(methods), studio, Judge())
    steps = list(job.run(Place(folder, threading.Event())))
    *parts, last = [step for step in steps if isinstance(step, Made)]
    assert any(isinstance(step, Note) for step in steps)
    return [part.record for part in parts], last


@pytest.mark.parametrize(
    ("factor", "names"),
    [
        (8, ["srgan-faces-x8", "unet-faces-x8"]),
        (128 / 20, ["srgan-faces-x8", "unet-faces-x8"]),
        (4, ["srgan-faces-x4", "unet-faces-x8"]),
        (128 / 48, ["srgan-faces-x4", "unet-faces-x8"]),
        (128 / 12, ["srresnet-x4"]),
    ],
)
@pytest.mark.usefixtures("small_networks")
def test_of_each_family_the_nearest_network_takes_part(factor: float, names: list[str]) -> None:
    assert networks_for(factor) == names


@pytest.mark.usefixtures("small_networks")
def test_a_face_that_is_enlarged_very_much(tmp_path: Path) -> None:
    """By 25.6, which is more than a network is asked for at once."""
    config = StyleGAN2Config(channels=(8, 8, 4, 4, 4, 4), z_dim=8, w_dim=8, mapping_layers=1)
    generator = StyleGAN2(config).requires_grad_(False).eval()
    generator.w_mean.copy_(generator.mapping(torch.randn(1000, config.z_dim)).mean(0))
    assert generator.resolution == 128
    studio, face = studio_of(generator, tmp_path), face_of(generator, 5)
    methods = methods_of(studio, 128, 5, HOW)
    records, last = compared(studio, face, methods, tmp_path / "out")
    names = ["nearest", "bicubic", "srresnet-x4", "paper", "default", "default-512"]
    assert [record["method"] for record in records] == names
    for record in records:
        assert bool(record["candidates"]) == (record["problem"] is None)
    assert all(record["problem"] is None for record in records if record["method"] in names[:2])
    assert all(record["problem"] is None for record in records[-3:])
    assert last.record["methods"] == records
    assert not last.cut


@dataclass(frozen=True)
class Broken:
    """A method that cannot be used."""

    name: str
    error: Exception
    late: bool = False

    def open(self, lr_size: int, size: int) -> Draw:
        def draw(low: Tensor) -> Tensor:
            raise self.error

        if not self.late:
            raise self.error
        return draw


def test_what_cannot_be_opened_is_told_and_the_others_go_on(
    tiny: Generator, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    studio, face = studio_of(tiny, tmp_path), face_of(tiny, 8)
    search = Search("paper", "tiny", "", HOW)
    broken = [
        Broken("a", InputError("It cannot enlarge so much.")),
        Broken("b", MemoryError(), late=True),
        Broken("c", ZeroDivisionError(), late=True),
    ]
    methods = [Enlarged("nearest"), *broken, search]
    records, last = compared(studio, face, methods, tmp_path / "out")
    assert [record["method"] for record in records] == ["nearest", "a", "b", "c", "paper"]
    problems = [record["problem"] for record in records]
    assert problems[:2] == [None, "It cannot enlarge so much."]
    assert "too little memory" in problems[2]
    assert "went wrong inside" in problems[3]
    assert "ZeroDivisionError" in caplog.text  # A fault of ours, which the log tells of.
    assert problems[4] is None
    assert len(records[4]["candidates"]) == 2

    assert last.file is not None
    with zipfile.ZipFile(last.file) as archive:
        assert json.loads(archive.read("compare.json")) == last.record
        files = [face["file"] for record in records for face in record["candidates"]]
        assert {"nearest-00.png", "paper-00.png", "paper-01.png"} == set(files)
        assert set(files) <= set(archive.namelist())
    shown = cards([card_of(record, tmp_path / "out") for record in records])
    assert "It cannot enlarge so much." in shown
    assert shown.count('alt="The face by') == 2


@pytest.mark.usefixtures("small_networks")
def test_larger_faces_are_those_of_the_search_before(
    tiny: Generator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    studio, face = studio_of(tiny, tmp_path), face_of(tiny, 8)
    searches, search = [], Upscaler.search

    def counted(upscaler: Upscaler, *given: Any) -> Any:
        searches.append(given)
        return search(upscaler, *given)

    monkeypatch.setattr(Upscaler, "search", counted)
    methods: list[Method] = []
    for method in methods_of(studio, 32, 8, HOW):
        if isinstance(method, Search) and method.name != "paper":
            easy = replace(method.config.search, steps=60, tolerance=0.01)
            methods.append(replace(method, config=replace(method.config, search=easy)))
    assert [method.name for method in methods] == ["default", "default-512"]
    drawn, larger = compared(studio, face, methods, tmp_path / "out")[0]
    assert len(searches) == 1
    assert (drawn["size"], larger["size"]) == (32, 512)
    assert larger["found"] == 2
    assert larger["seconds"] >= drawn["seconds"]  # With those of the search.
    for one in larger["candidates"]:
        with Image.open(tmp_path / "out" / one["file"]) as image:
            assert image.size == (512, 512)
            assert "imaginary" in image.info["Description"]
    # A face that is large already needs no second network.
    assert methods_of(studio, 1024, 16, HOW)[-1].name == "default"


def test_a_comparison_that_is_stopped_calls_nothing_a_failure(
    tiny: Generator, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    studio, face = studio_of(tiny, tmp_path), face_of(tiny, 8)
    long = replace(HOW, search=replace(HOW.search, steps=100_000, tolerance=1e-9))
    methods = (Enlarged("nearest"), Search("paper", "tiny", "", long))
    place = Place(tmp_path / "out", threading.Event())
    job = Comparison(Path("face.png"), face, methods, studio, Judge())
    last = None
    for step in job.run(place):
        if isinstance(step, Note) and ": step " in step.text:
            place.stop.set()
        last = step
    assert isinstance(last, Made)
    assert last.cut
    assert [one["method"] for one in last.record["methods"]] == ["nearest"]
    next_one = studio.line.join()
    until(lambda: studio.line.ahead(next_one) == 0)  # The work has ended, too.
    assert [one["method"] for one in last.record["methods"]] == ["nearest"]
    assert "A fault" not in caplog.text


def until(true: Callable[[], bool]) -> None:
    waited = threading.Event()
    for _ in range(100):
        if true():
            return
        waited.wait(0.1)
    raise AssertionError("it did not come true in ten seconds")
