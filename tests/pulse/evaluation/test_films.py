import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from pulse.evaluation import films
from pulse.evaluation.films import Film, FilmMethod, compare_film, film_methods
from pulse.evaluation.methods import Enlarged, Network
from pulse.evaluation.statistics import Value
from pulse.evaluation.table import Row
from pulse.imaging.metrics import psnr_y
from pulse.imaging.pictures import InputError, to_image
from pulse.superres import weights
from pulse.superres.networks import SRResNetConfig

BOTH = (Enlarged("nearest"), Enlarged("bicubic"))


def pan(count: int, step: int) -> Float[Tensor, "t 3 96 128"]:
    """A picture of soft spots over which the camera moves `step` pixels to the right a frame."""
    spots = torch.rand(1, 3, 20, 60, generator=torch.Generator().manual_seed(0))
    wide = F.interpolate(spots, (96, 288), mode="bicubic", align_corners=False).clamp(0, 1)[0]
    return torch.stack([wide[..., i * step : i * step + 128] for i in range(count)])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "frames"
    place.mkdir()
    for number, frame in enumerate(pan(7, 2)):
        to_image(frame).save(place / f"{number}.png")
    return place


def rows(film: Film, folder: Path, methods: Sequence[FilmMethod] = BOTH) -> dict[str, Row]:
    return {row.name: row for row, _, _ in compare_film(film, methods, folder)}


def of_nearest(film: Film, folder: Path) -> dict[str, Value]:
    return rows(film, folder, BOTH[:1])["nearest"].values


def test_the_original_and_worse_ones(folder: Path, tmp_path: Path) -> None:
    film = Film.read(folder, 4)
    assert film.hr.shape == (7, 3, 96, 128)
    assert film.lr.shape == (7, 3, 24, 32)
    table = rows(film, tmp_path)
    truth, nearest, bicubic = (table[name].values for name in ("truth", "nearest", "bicubic"))
    assert truth["psnr"].mean == float("inf")
    assert truth["tof"].mean == truth["flicker"].mean == 0
    assert truth["warping"].mean < 2
    assert "speed" not in truth
    assert nearest["speed"].mean > 0
    for key in ("psnr", "ssim"):
        assert nearest[key].mean < bicubic[key].mean < truth[key].mean
    for key in ("tof", "warping", "flicker"):
        assert nearest[key].mean > bicubic[key].mean > truth[key].mean


def test_small_frames_are_those_of_articles(folder: Path) -> None:
    """A blur of 1.5 pixels of which each fourth is kept; by hand, where no edge is near."""
    film = Film.read(folder, 4)
    places = np.arange(32) - 15.5  # About the middle of a block of four pixels.
    weights = np.exp(-0.5 * (places / 1.5) ** 2)
    weights /= weights.sum()
    row, column = 12, 20
    square = film.hr[3, :, 4 * row - 14 : 4 * row + 18, 4 * column - 14 : 4 * column + 18]
    expected = np.einsum("cyx,y,x->c", square.double().numpy(), weights, weights)
    small = film.lr[3, :, row, column].numpy()
    np.testing.assert_allclose(small, expected, rtol=0, atol=0.51 / 255)

    bicubic = Film.read(folder, 4, degradation="bicubic")
    by_torch = F.interpolate(film.hr, (24, 32), mode="bicubic", antialias=True).clamp(0, 1)
    assert (bicubic.lr - by_torch).abs().max() <= 0.51 / 255
    assert (bicubic.lr - film.lr).abs().max() > 3 / 255
    assert film.degradation == "bd"
    assert Film.read(folder, 2).degradation == "bicubic"
    assert torch.equal(Film.read(folder, 2, degradation="bicubic").lr, Film.read(folder, 2).lr)


def test_edges_of_8_pixels_and_2_frames_at_either_end_do_not_count(
    folder: Path, tmp_path: Path
) -> None:
    film = Film.read(folder, 4)
    nearest = film.lr.repeat_interleave(4, 2).repeat_interleave(4, 3)
    inner = (slice(2, 5), slice(None), slice(8, -8), slice(8, -8))
    by_hand = psnr_y(nearest[inner], film.hr[inner], 0).mean()
    plain = of_nearest(film, tmp_path / "plain")
    assert plain["psnr"].mean == pytest.approx(float(by_hand))

    def psnr_with_black(*where: Any) -> float:
        lr = film.lr.clone()
        lr[where] = 0
        name = str(len(list(tmp_path.iterdir())))
        return of_nearest(replace(film, lr=lr), tmp_path / name)["psnr"].mean

    assert psnr_with_black(slice(2)) == psnr_with_black(slice(5, None)) == plain["psnr"].mean
    assert psnr_with_black(..., slice(2)) == plain["psnr"].mean
    assert psnr_with_black(..., slice(-2, None), slice(None)) == plain["psnr"].mean
    for where in ((2,), (4,), (..., 2), (..., -3, slice(None))):
        assert psnr_with_black(*where) < plain["psnr"].mean - 1


def test_warping_and_flicker_are_levels_of_luma(tmp_path: Path) -> None:
    """Of a film that stands still, and of one whose frames are brighter in turn by 20 of 255."""
    hr = pan(1, 0).expand(8, -1, -1, -1) * 0.5 + 0.25
    lr = hr[..., ::4, ::4].clone()
    steady = of_nearest(Film(hr, lr, 4, "bd"), tmp_path / "steady")
    assert steady["flicker"].mean == pytest.approx(0, abs=1e-3)
    lr[::2] += 20 / 255
    blinking = of_nearest(Film(hr, lr, 4, "bd"), tmp_path / "blinking")
    luma = 20 * 219 / 255  # Its range is 16 to 235.
    assert blinking["flicker"].mean == pytest.approx(luma, rel=0.01)
    assert blinking["warping"].mean == pytest.approx(luma, rel=0.01)


def test_speed_is_told_of_frames_of_one_size(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the film's: 480x270 pixels, as many as are to be, but for those that take long."""
    seen = []

    def nearest(x: torch.Tensor, scale: int) -> torch.Tensor:
        seen.append(tuple(x.shape))
        return F.interpolate(x, scale_factor=scale, mode="nearest")

    monkeypatch.setattr(films, "_nearest", nearest)
    film = Film.read(folder, 4)
    of_nearest(film, tmp_path / "quick")
    assert seen == 7 * [(1, 3, 24, 32)] + (films.ROUNDS + 1) * [(1, 3, 270, 480)]
    seen.clear()
    monkeypatch.setattr(films, "LONGEST", 0.0)
    of_nearest(film, tmp_path / "slow")
    assert seen.count((1, 3, 270, 480)) == 2  # The first does not count, and one does.


def test_a_film_that_stands_still_where_it_should_move_has_the_motion_as_tof(
    tmp_path: Path,
) -> None:
    """Seen through the flow alone: frames are the first one again and again."""
    moving = pan(7, 3)
    film = Film(moving, moving[..., ::4, ::4], 4, "bicubic")
    still = replace(film, lr=moving[:1, ..., ::4, ::4].expand(7, -1, -1, -1))
    tof = rows(still, tmp_path)["bicubic"].values["tof"].mean
    assert tof == pytest.approx(3, abs=0.5)


def test_what_was_measured_is_kept_and_other_frames_are_measured_anew(
    folder: Path, tmp_path: Path
) -> None:
    film = Film.read(folder, 4)
    first = rows(film, tmp_path)
    file = tmp_path / "films" / "bicubic.json"
    record = json.loads(file.read_text("utf-8"))
    record["values"]["psnr"]["mean"] = 99.0
    file.write_text(json.dumps(record), "utf-8")
    assert rows(film, tmp_path)["bicubic"].values["psnr"].mean == 99
    for other in (Film.read(folder, 4, 6), Film.read(folder, 4, degradation="bicubic")):
        assert rows(other, tmp_path)["bicubic"].values["psnr"].mean < 60
    file.write_text("{", "utf-8")
    again = rows(film, tmp_path)["bicubic"].values
    assert again["psnr"] == first["bicubic"].values["psnr"]


def test_a_coded_film_is_read(tmp_path: Path) -> None:
    path = tmp_path / "film.mkv"
    with av.open(path, "w") as container:
        stream = container.add_stream("ffv1", rate=5)
        stream.width, stream.height, stream.pix_fmt = 100, 70, "bgr0"
        for value in (10, 200, 20, 190, 30, 180):
            pixels = np.full((70, 100, 3), value, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
        container.mux(stream.encode())
    film = Film.read(path, 3)
    assert film.hr.shape == (6, 3, 69, 99)
    assert (film.hr * 255).round().amax((1, 2, 3)).tolist() == [10, 200, 20, 190, 30, 180]


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
    with pytest.raises(InputError, match="gives 5 frames, but 6 are needed"):
        Film.read(folder, 4, 5)
    Image.new("RGB", (64, 64)).save(folder / "7.png")
    with pytest.raises(InputError, match="differ in size"):
        Film.read(folder, 4)


def test_methods_that_are_here_fit() -> None:
    for method in film_methods(4)[2:]:
        assert "faces" not in method.name
        assert "anime" not in method.name or "video" in method.name
