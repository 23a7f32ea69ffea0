import base64
import hashlib
import io
import json
import re
import zipfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import stylegan
from pulse.faces.prepare import FaceSettings, LRFace, prepare
from pulse.imaging.degrade import Bicubic, DegradeConfig
from pulse.imaging.pictures import read_picture, to_tensor
from pulse.results import Format, Result, write_result
from pulse.search import SearchConfig, Status
from pulse.superres import mending
from pulse.upscale import UpscaleConfig, Upscaler
from pulse.web import html
from pulse.web.history import Asked, Past, Place
from pulse.web.studio import archive
from pulse.web.updates import Pasted, Wish
from stylegan import Generator
from stylegan.evaluate import samples
from stylegan.marks import COMPOSITE, SOURCE_TYPE
from stylegan.sheet import save_sheet


def drawn_face() -> Tensor:
    (pixels,) = samples(stylegan.load(stylegan.EMBEDDED), 1, seed=1)
    return pixels[None] / 255


@pytest.fixture
def result(tiny: Generator) -> Result:
    upscaler = Upscaler(tiny, "tiny", "abc123")
    face = LRFace(0, torch.rand(3, 8, 8), ("A note.",))
    config = UpscaleConfig(3, 4, None, SearchConfig(steps=3, draws=2))
    *_, state = upscaler.search(face, config)
    return Result("in/face.png", face, state, config, "default", upscaler, 1.234)


def test_files_and_record(result: Result, tmp_path: Path) -> None:
    record = write_result(result, tmp_path / "face")
    assert record == json.loads((tmp_path / "face" / "result.json").read_text("utf-8"))
    names = {path.name for path in (tmp_path / "face").iterdir()}
    candidates = {f"candidate-{i:02d}.png" for i in range(3)}
    assert names == candidates | {"input.png", "comparison.png", "result.json"}
    assert record["input"] == "in/face.png"
    assert record["face"] == 0
    assert record["lr_size"] == 8
    assert record["seconds"] == 1.23
    assert record["generator"] == {"name": "tiny", "sha256": "abc123", "resolution": 32}
    assert record["notes"] == ["A note."]
    assert [c["seed"] for c in record["candidates"]] == [4, 5, 6]
    keys = {"file", "seed", "status", "mse_drawn", "mse", "mse_exact", "step", "plausibility"}
    assert all(set(c) == keys for c in record["candidates"])
    assert record["config"]["search"]["steps"] == 3


def test_the_record_names_the_network_that_mended(result: Result, tmp_path: Path) -> None:
    assert write_result(result, tmp_path)["mending"] is None
    drawn = torch.cat([result.state.best[:2], result.state.best[2:] + 1])
    mended = replace(result, state=replace(result.state, drawn=drawn))
    weights = hashlib.sha256(mending.WEIGHTS.read_bytes()).hexdigest()
    assert write_result(mended, tmp_path)["mending"] == {"sha256": weights}


def test_the_error_is_that_of_the_saved_picture(result: Result, tmp_path: Path) -> None:
    """Anyone can check it from the files alone, up to rounding to 8 bits."""
    record = write_result(result, tmp_path)
    wanted = to_tensor(Image.open(tmp_path / "input.png"))
    for candidate in record["candidates"]:
        image = to_tensor(Image.open(tmp_path / candidate["file"]))
        error = (Bicubic(32, 8)(image) - wanted).square().mean().item()
        assert error == pytest.approx(candidate["mse"], rel=0.02)


@pytest.mark.parametrize("format", ["png", "jpg", "webp"])
def test_pictures_say_that_they_are_synthetic(
    result: Result, format: Format, tmp_path: Path
) -> None:
    record = write_result(result, tmp_path, format)
    for name in [record["candidates"][1]["file"], "comparison.png"]:
        with Image.open(tmp_path / name) as image:
            image.load()
            xmp = image.info["XML:com.adobe.xmp" if name.endswith("png") else "xmp"]
            xmp = xmp if isinstance(xmp, str) else xmp.decode()
            tree = ElementTree.fromstring(xmp.encode())
            (source,) = tree.iter("{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType")
            assert source.text == SOURCE_TYPE
            assert "imaginary person" in "".join(tree.itertext())
            description = (
                image.info["Description"] if name.endswith("png") else image.getexif()[0x010E]
            )
            assert "imaginary person" in description
    file = record["candidates"][1]["file"]
    with Image.open(tmp_path / file) as image:
        if format == "png":
            assert image.info["Seed"] == "5"
            assert image.info["Steps"] == "3"
            assert image.info["Generator"] == "tiny sha256:abc123"
            assert float(image.info["MSE"]) == pytest.approx(
                record["candidates"][1]["mse"], rel=0.01
            )
        else:
            assert "Seed: 5; MSE:" in image.getexif()[0x010E]


def marks_of(data: bytes) -> str | None:
    """IPTC's source type that a picture carries in its XMP."""
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        xmp = image.info.get("XML:com.adobe.xmp") or image.info.get("xmp")
    if xmp is None:
        return None
    tree = ElementTree.fromstring(xmp.encode() if isinstance(xmp, str) else xmp)
    name = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType"
    (source,) = [element.text for element in tree.iter(name)]
    return source


def test_all_that_holds_a_made_face_carries_its_mark(result: Result, tmp_path: Path) -> None:
    photo_file = Path(__file__).parents[2] / "examples" / "astronaut.jpg"
    photo = read_picture(photo_file)
    (face,) = prepare(photo, FaceSettings(8), 32)
    pasted = replace(result, face=face, config=replace(result.config, finish="compact-x4"))
    zipped = archive(pasted, tmp_path / "zip")
    write_result(pasted, tmp_path / "files", photo=photo.image)
    files = {path.name: path.read_bytes() for path in (tmp_path / "files").glob("*.png")}
    expected = {f"photo-{i:02d}.png": COMPOSITE for i in range(3)}
    expected |= {f"candidate-{i:02d}.png": SOURCE_TYPE for i in range(3)}
    expected |= {"comparison.png": SOURCE_TYPE, "input.png": None}
    assert {name: marks_of(data) for name, data in files.items()} == expected
    with zipfile.ZipFile(zipped) as file:
        inside = {name: file.read(name) for name in file.namelist() if name.endswith(".png")}
    found = {name: marks_of(data) for name, data in inside.items()}
    assert found == {name: mark for name, mark in expected.items() if "photo" not in name}
    # The page's pictures; only what the visitor gave, which is shown twice, is as it is.
    place = Place(Asked(Wish(photo_file), pasted.config, "default"), 0, zipped.parent)
    past = Past.of(pasted, place, html.thumbnails(pasted.state))
    shown = html.detail(past, 0) + html.found(past)
    uris = re.findall(r"data:image/\w+;base64,([\w+/=]+)", shown)
    assert Counter(marks_of(base64.b64decode(uri)) for uri in uris) == {None: 2, SOURCE_TYPE: 6}
    assert len({uri for uri in uris if marks_of(base64.b64decode(uri)) is None}) == 1
    assert face.framing is not None
    given = Pasted(tmp_path / "files" / "photo-00.png", photo.image, None)
    uris = re.findall(r"data:image/\w+;base64,([\w+/=]+)", html.photo(given, face.framing))
    marks = [marks_of(base64.b64decode(uri)) for uri in uris]
    assert marks == [None, COMPOSITE] * 2  # The face closely, and all; before, and after.
    save_sheet(result.state.images * 2 - 1, tmp_path / "sheet.png")
    assert marks_of((tmp_path / "sheet.png").read_bytes()) == SOURCE_TYPE


def test_candidates_of_a_larger_run_do_not_stay(result: Result, tmp_path: Path) -> None:
    (tmp_path / "candidate-07.jpg").write_bytes(b"old")
    mine = {"mine.txt", "candidate-john.jpg", "candidate-07.jpg.txt"}
    for name in mine:
        (tmp_path / name).write_bytes(b"keep")
    write_result(result, tmp_path)
    left = {path.name for path in tmp_path.iterdir()}
    assert "candidate-07.jpg" not in left
    assert mine <= left


def test_an_overflowed_candidate_is_written_too(result: Result, tmp_path: Path) -> None:
    state = result.state
    broken = replace(
        state,
        best=torch.tensor([torch.inf, 0.1, 0.1]),
        status=(Status.NONFINITE, *state.status[1:]),
    )
    record = write_result(replace(result, state=broken), tmp_path)
    assert record["candidates"][0]["mse"] is None
    assert record["candidates"][0]["status"] == "nonfinite"
    json.loads((tmp_path / "result.json").read_text("utf-8"), parse_constant=pytest.fail)


def test_matches_come_first_and_the_most_plausible_of_them_before_the_others(
    result: Result, tmp_path: Path
) -> None:
    """The files keep their numbers; only what is shown first changes."""
    found, missed = Status.FOUND, Status.NOT_CONVERGED
    rng = torch.Generator().manual_seed(0)
    face, noise = drawn_face(), torch.rand(1, 3, 128, 128, generator=rng)
    images = torch.cat([face, noise, face])
    state = replace(
        result.state,
        images=images,
        best=torch.tensor([0.02, 1e-4, 9e-4]),
        status=(missed, found, found),
    )
    other = replace(result, state=state)
    record = write_result(other, tmp_path)
    shares = [candidate["plausibility"] for candidate in record["candidates"]]
    assert shares[0] == shares[2] > 0.01 > shares[1]
    assert other.ranked == [2, 1, 0]
    with Image.open(tmp_path / "candidate-02.png") as image:
        best = np.array(image.resize((256, 256), Image.Resampling.BICUBIC), int)
    with Image.open(tmp_path / "comparison.png") as image:
        assert np.abs(np.array(image, int)[8:264, 272:528] - best).max() <= 1
    place = Place(Asked(Wish(Path("face.png")), other.config, "default"), 0, tmp_path)
    shown = html.found(Past.of(other, place, html.thumbnails(state)))
    assert re.findall(r'data-choice="(\d)"', shown) == ["2", "1", "0"]
    labels = re.findall(r'class="label (\w+)"', shown)
    assert labels == ["matches", "broken", "does"]
    assert f"looks like a face: {shares[2]:.0%}" in shown
    assert shown.count("looks broken") == 1


def test_of_other_things_than_faces_it_is_not_told(result: Result, tmp_path: Path) -> None:
    tiny = result.upscaler
    cats = Upscaler(tiny.generator, "stylegan2-afhqcat-512", "abc123", tiny.prior)
    record = write_result(replace(result, upscaler=cats), tmp_path / "cats")
    assert {candidate["plausibility"] for candidate in record["candidates"]} == {None}
    images = result.state.images.clone()
    images[1] = torch.nan
    overflowed = replace(result, state=replace(result.state, images=images))
    told = [share is not None for share in overflowed.plausibility]
    assert told == [True, False, True]


def test_the_comparison_shows_the_candidates(result: Result, tmp_path: Path) -> None:
    record = write_result(result, tmp_path)
    best = record["candidates"][result.ranked[0]]
    with Image.open(tmp_path / "comparison.png") as image:
        sheet = np.array(image, int)
    with Image.open(tmp_path / best["file"]) as image:
        first = np.array(image.resize((256, 256), Image.Resampling.BICUBIC), int)
    assert sheet.shape[1] == 4 * 264 + 8
    assert np.abs(sheet[8:264, 272:528] - first).max() <= 1


def test_a_degraded_face_is_recorded_and_shown(result: Result, tmp_path: Path) -> None:
    low = result.face.low.clone()
    low[:, 0] = torch.nan
    degrade = DegradeConfig(0.5, "box", mask=Path("mask.png"), noise=0.1)
    face = replace(result.face, low=low, degrade=degrade)
    config = replace(result.config, degrade=degrade)
    record = write_result(replace(result, face=face, config=config), tmp_path)
    assert record["config"]["degrade"] == "blur:0.5,box,mask:mask.png,noise:0.1"
    assert record["config"]["search"]["tolerance"] == 1e-3
    assert record["tolerance"] == pytest.approx(0.011)
    shown = np.array(Image.open(tmp_path / "input.png"))
    assert (shown[0] == 0).all()
    assert (shown[1:] > 0).any()
    with Image.open(tmp_path / record["candidates"][0]["file"]) as image:
        assert image.info["Tolerance"] == "0.011"
        assert image.info["Degradation"] == record["config"]["degrade"]
