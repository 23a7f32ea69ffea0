import json
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from pulse.evaluation.films import Film, compare_film, film_methods
from pulse.evaluation.methods import Enlarged, Network
from pulse.evaluation.table import Row
from pulse.imaging.pictures import InputError, to_image
from pulse.superres import weights
from pulse.superres.networks import SRResNetConfig


def pan(count: int, step: int) -> Float[Tensor, "t 3 96 128"]:
    """A picture of soft spots over which the camera moves `step` pixels to the right a frame."""
    spots = torch.rand(1, 3, 20, 60, generator=torch.Generator().manual_seed(0))
    wide = F.interpolate(spots, (96, 288), mode="bicubic", align_corners=False).clamp(0, 1)[0]
    return torch.stack([wide[..., i * step : i * step + 128] for i in range(count)])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "frames"
    place.mkdir()
    for number, frame in enumerate(pan(4, 2)):
        to_image(frame).save(place / f"{number}.png")
    return place


def rows(film: Film, folder: Path) -> dict[str, Row]:
    methods = [Enlarged("nearest"), Enlarged("bicubic")]
    return {row.name: row for row, _, _ in compare_film(film, methods, folder)}


def test_the_original_and_worse_ones(folder: Path, tmp_path: Path) -> None:
    film = Film.read(folder, 4)
    assert film.hr.shape == (4, 3, 96, 128)
    assert film.lr.shape == (4, 3, 24, 32)
    table = rows(film, tmp_path)
    truth, nearest, bicubic = (table[name].values for name in ("truth", "nearest", "bicubic"))
    assert truth["psnr"].mean == float("inf")
    assert truth["tof"].mean == 0
    assert truth["warping"].mean < 0.01
    assert "speed" not in truth
    assert nearest["speed"].mean > 0
    for key in ("psnr", "ssim"):
        assert nearest[key].mean < bicubic[key].mean < truth[key].mean
    for key in ("tof", "warping"):
        assert nearest[key].mean > bicubic[key].mean > truth[key].mean


def test_a_film_that_stands_still_where_it_should_move_has_the_motion_as_tof(
    tmp_path: Path,
) -> None:
    """Seen through the flow alone: frames are the first one again and again."""
    moving = pan(3, 3)
    film = Film(moving, moving[..., ::4, ::4], 4)
    still = replace(film, lr=moving[:1, ..., ::4, ::4].expand(3, -1, -1, -1))
    tof = rows(still, tmp_path)["bicubic"].values["tof"].mean
    assert tof == pytest.approx(3, abs=0.5)


def test_what_was_measured_is_kept_and_other_frames_are_measured_anew(
    folder: Path, tmp_path: Path
) -> None:
    film = Film.read(folder, 4)
    first = rows(film, tmp_path)
    file = tmp_path / "films" / "bicubic.json"
    record = json.loads(file.read_text())
    record["values"]["psnr"]["mean"] = 99.0
    file.write_text(json.dumps(record))
    assert rows(film, tmp_path)["bicubic"].values["psnr"].mean == 99
    fewer = Film.read(folder, 4, 3)
    assert rows(fewer, tmp_path)["bicubic"].values["psnr"].mean < 60
    file.write_text("{")
    again = rows(film, tmp_path)["bicubic"].values
    assert again["psnr"] == first["bicubic"].values["psnr"]


def test_a_coded_film_is_read(tmp_path: Path) -> None:
    path = tmp_path / "film.mkv"
    with av.open(path, "w") as container:
        stream = container.add_stream("ffv1", rate=5)
        stream.width, stream.height, stream.pix_fmt = 100, 70, "bgr0"
        for value in (10, 200):
            pixels = np.full((70, 100, 3), value, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
        container.mux(stream.encode())
    film = Film.read(path, 3)
    assert film.hr.shape == (2, 3, 69, 99)
    assert (film.hr * 255).round().amax((1, 2, 3)).tolist() == [10, 200]


def test_networks_of_other_scales_and_short_films_are_refused(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "x2.safetensors"
    weights.save(weights.build(SRResNetConfig(2, 1, 8, kernel=3)), path)
    with pytest.raises(InputError, match="enlarges 2 times"):
        list(compare_film(Film.read(folder, 4), [Network.of(str(path))], tmp_path))
    film = Film.read(folder, 2)
    (_, network) = (row for row, _, _ in compare_film(film, [Network.of(str(path))], tmp_path))
    assert network.values["psnr"].mean > 0
    with pytest.raises(InputError, match="too small to be downscaled"):
        Film.read(folder, 8)
    (tmp_path / "one").mkdir()
    Image.new("RGB", (64, 64)).save(tmp_path / "one" / "a.png")
    with pytest.raises(InputError, match="does not have two frames"):
        Film.read(tmp_path / "one", 4)


def test_methods_that_are_here_fit() -> None:
    for method in film_methods(4)[2:]:
        assert "faces" not in method.name
        assert "anime" not in method.name or "video" in method.name
