"""The networks that come with the program: what they are, and what they are worth."""

import json
import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from torch import Tensor

from pulse.imaging.degrade import DegradeConfig
from pulse.imaging.metrics import psnr_y
from pulse.imaging.pictures import as_saved, to_image
from pulse.superres import weights
from pulse.superres.networks.parts import bicubic
from pulse.superres.pictures import upscale
from pulse.superres.tiles import upscale_tensor
from pulse.video.config import FilmConfig
from pulse.video.job import job_of
from tests.films import make_film

SHIPPED = sorted(file.stem for file in weights.SHIPPED.glob("*.safetensors"))
SMALLEST = ("butterfly", "woman")
"""Of Set5's pictures."""


@pytest.mark.parametrize("name", SHIPPED)
def test_each_is_what_its_name_says(name: str) -> None:
    network, file = weights.load(name), weights.SHIPPED / f"{name}.safetensors"
    kind, scale = re.fullmatch(r"([a-z]+)(?:-faces)?-x(\d)", name).groups()  # type: ignore[union-attr]
    assert network.scale == int(scale)
    families = {"transform": "TransformNet", "rrdb": "RRDBNet", "srgan": "SRResNet"}
    assert network.family.lower() == families.get(kind, kind).lower()
    with safe_open(file, "pt") as opened:
        kinds = {opened.get_slice(key).get_dtype() for key in opened.keys()}  # noqa: SIM118
    assert kinds - {"I64"} == {"F16"}  # A norm counts its batches.
    notes = weights.read_metadata(file)
    assert int(notes["steps"]) > 0
    assert json.loads(notes["training"])["batch"] > 0
    assert network(torch.rand(1, 3, 9, 7)).isfinite().all()


def test_together_they_are_small() -> None:
    sizes = [file.stat().st_size for file in weights.SHIPPED.iterdir()]
    assert sum(sizes) <= 20 * 10**6


def test_the_first_of_each_list_that_is_here_is_taken(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    film = make_film(tmp_path / "in.mp4")
    assert job_of(film, tmp_path / "out.mp4", None, FilmConfig()).network == "frvsr-x4"
    for here, expected in (
        ([*SHIPPED, *weights.REALESRGAN], "realesrgan-x4plus"),
        (SHIPPED, "srgan-x4"),
        (["compact-x4", "srresnet-x4"], "srresnet-x4"),
    ):
        monkeypatch.setattr(weights, "names", lambda here=here: here)
        assert weights.default() == expected


@cache
def _set5(shared: Path, name: str) -> tuple[Tensor, Tensor]:
    """The picture, and a small one of it by MATLAB's bicubic, both as files hold them."""
    pixels = np.array(Image.open(shared / "sr" / "test" / "Set5" / f"{name}.png").convert("RGB"))
    height, width = (side // 4 for side in pixels.shape[:2])
    hr = torch.from_numpy(pixels[: 4 * height, : 4 * width]).permute(2, 0, 1)[None] / 255
    return hr, as_saved(DegradeConfig().oblong(height, width, 4)(hr))


@torch.no_grad()
def psnr(shared: Path, name: str) -> float:
    """Mean PSNR in dB of the luma of the smallest pictures, 4 pixels at each edge left out."""
    found = []
    for picture in SMALLEST:
        hr, lr = _set5(shared, picture)
        sr = bicubic(lr, 4) if name == "bicubic" else upscale_tensor(weights.load(name), lr)
        found.append(float(psnr_y(as_saved(sr), hr, 4)))
    return sum(found) / len(found)


def test_what_they_are_worth(shared: Path) -> None:
    faithful = psnr(shared, "srresnet-x4")
    assert faithful > psnr(shared, "bicubic") + 1.5
    # A GAN draws what may have been there, which is farther away than the mean of it.
    assert faithful - 5 < psnr(shared, "srgan-x4") < faithful


@pytest.mark.parametrize("picture", SMALLEST)
@pytest.mark.parametrize("name", SHIPPED)
def test_no_colour_is_shifted(name: str, picture: str, shared: Path) -> None:
    """The mean of the result, downscaled, is within half a level of the input's."""
    small = to_image(_set5(shared, picture)[1][0])
    large = upscale(weights.load(name), small)
    again = large.resize(small.size, Image.Resampling.BICUBIC)
    shift = (np.array(again, float) - np.array(small, float)).mean((0, 1))
    assert np.abs(shift).max() < 0.5
