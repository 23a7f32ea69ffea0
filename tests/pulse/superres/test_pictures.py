"""Pictures of every kind come out as they went in, but larger."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from pulse.imaging.pictures import InputError, Picture
from pulse.superres import pictures
from pulse.superres.histogram import match_histogram
from pulse.superres.networks import SRResNetConfig, TransformNetConfig
from pulse.superres.pictures import PictureConfig, passes_of, steps, upscale
from pulse.superres.weights import AnyNetwork, build


@pytest.fixture
def network() -> AnyNetwork:
    """It repeats the picture's colours about, and adds random detail."""
    network = build(SRResNetConfig(2, 1, 8, kernel=3)).eval().requires_grad_(False)
    network.last.weight.mul_(0.5)
    return network


def photo(mode: str = "RGB", width: int = 37, height: int = 23) -> Image.Image:
    """Smooth colours with an edge."""
    y, x = np.mgrid[:height, :width] / 40
    parts = [0.5 + 0.4 * np.sin(3 * x + k) * np.cos(2 * y - k) for k in range(3)]
    values = np.stack(parts, -1)
    values[:, width // 2 :] *= 0.8
    image = Image.fromarray((values * 255).astype(np.uint8))
    if mode in ("RGBA", "LA"):
        alpha = Image.fromarray(((x > 0.3) * 255).astype(np.uint8))
        image.putalpha(alpha)
    return image.convert(mode)


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("RGB", "RGB"), ("L", "L"), ("1", "L"), ("P", "RGB"), ("RGBA", "RGBA"), ("LA", "LA"),
        ("CMYK", "RGB"), ("YCbCr", "RGB"),
    ],
)  # fmt: skip
def test_kinds_are_kept(network: AnyNetwork, mode: str, expected: str) -> None:
    image = photo(mode)
    large = upscale(network, image)
    assert large.mode == expected
    assert large.size == (74, 46)
    # No colour has drifted: the mean is within half a level of the input's.
    small = np.array(large.resize(image.size, Image.Resampling.BICUBIC), float)
    if mode != "1":  # Black and white alone are overshot and cut off.
        before = np.array(image.convert(expected), float)
        visible = before[..., -1:] / 255 if expected in ("RGBA", "LA") else np.ones(())
        shift = ((small - before) * visible).mean((0, 1))
        colours = len(expected.replace("A", ""))
        assert np.abs(np.atleast_1d(shift)[:colours]).max() < 0.5


@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 9), (2, 3), (150, 7)])
@pytest.mark.parametrize("scale", [None, 1, 1.3, 3.5, 4])
def test_any_size_and_scale(
    network: AnyNetwork, width: int, height: int, scale: float | None
) -> None:
    large = upscale(network, photo("RGB", width, height), PictureConfig(scale, exact=True))
    factor = 2 if scale is None else scale
    assert large.size == (max(1, round(width * factor)), max(1, round(height * factor)))


def test_sixteen_bits_stay(network: AnyNetwork) -> None:
    values = np.linspace(0, 65535, 40 * 30).reshape(30, 40).astype(np.uint16)
    image = Image.fromarray(values)
    assert image.mode == "I;16"
    large = upscale(network, image, PictureConfig(exact=True))
    assert large.mode == "I;16"
    made = np.array(large).astype(np.float32)
    assert len(np.unique(made)) > 1000
    low = np.array(Image.fromarray(made).resize(image.size, Image.Resampling.BICUBIC))
    inside = np.s_[3:-3, 3:-3]  # The darkest and brightest corner is cut off.
    assert np.abs(low - values)[inside].max() < 8


def test_exactness(network: AnyNetwork) -> None:
    image = photo()
    for scale in (2, 3.3):
        rough = upscale(network, image, PictureConfig(scale))
        close = upscale(network, image, PictureConfig(scale, exact=True))
        errors = [
            np.abs(
                np.array(one.resize(image.size, Image.Resampling.BICUBIC), int)
                - np.array(image, int)
            )
            for one in (rough, close)
        ]
        assert errors[0].max() > 3
        assert errors[1].max() <= 1
        assert errors[1].mean() < 0.1  # Pillow rounds between rows and columns.


def test_grey_stays_grey_whatever_the_network_does() -> None:
    class Tinted(nn.Module):
        family, scale, reach, grid, floats = "Tinted", 2, 0, 1, 10

        def forward(self, lr: Tensor) -> Tensor:
            large = lr.repeat_interleave(2, -1).repeat_interleave(2, -2)
            return large + torch.tensor([0.2, -0.1, 0.05])[:, None, None]

    image = photo("L")
    large = upscale(Tinted(), image)
    assert large.mode == "L"
    assert np.abs(np.array(large.reduce(2), int) - np.array(image, int)).max() <= 1
    # And a colour that is shifted everywhere is shifted back.
    coloured = photo()
    large = upscale(Tinted(), coloured)
    assert np.abs(np.array(large.reduce(2), int) - np.array(coloured, int)).max() <= 1


def test_alpha(network: AnyNetwork) -> None:
    image = photo("RGBA")
    pixels = np.array(image)
    pixels[pixels[..., 3] == 0] = (255, 0, 255, 0)
    garish = Image.fromarray(pixels)
    large = upscale(network, garish)
    expected = image.getchannel("A").resize(large.size, Image.Resampling.BICUBIC)
    difference = np.array(large.getchannel("A"), int) - np.array(expected, int)
    assert np.abs(difference).max() <= 1
    # What cannot be seen does not tell.
    pixels[pixels[..., 3] == 0] = 0
    assert large == upscale(network, Image.fromarray(pixels))
    opaque = image.copy()
    opaque.putalpha(255)
    assert upscale(network, opaque).mode == "RGB"


def test_a_picture_is_an_image(network: AnyNetwork) -> None:
    assert upscale(network, Picture(photo())) == upscale(network, photo())


def test_steps_tell_of_tiles(network: AnyNetwork) -> None:
    found = list(steps(network, photo("RGB", 90, 40), PictureConfig(4, tile=40)))
    assert [step.image is None for step in found] == [True] * (len(found) - 1) + [False]
    assert [step.done for step in found] == list(range(1, found[-1].total + 1))
    assert found[-1].done == found[-1].total


def test_passes(network: AnyNetwork) -> None:
    assert [passes_of(network, scale) for scale in (1, 2, 2.1, 4, 5, 8)] == [1, 1, 2, 2, 3, 3]


def test_what_cannot_be_done_is_refused(
    network: AnyNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    for scale in (0.5, 17, float("nan")):
        with pytest.raises(InputError, match="scale"):
            PictureConfig(scale)
    with pytest.raises(InputError, match="tile"):
        PictureConfig(tile=0)
    with pytest.raises(InputError, match="floating-point"):
        upscale(network, Image.new("F", (3, 3)))
    with pytest.raises(InputError, match="32-bit"):
        upscale(network, Image.new("I", (3, 3), 70000))
    monkeypatch.setattr(pictures, "MOST_PIXELS", 5_000_000)
    with pytest.raises(InputError, match="2000x3000 pixels; at most 5 megapixels"):
        upscale(network, Image.new("RGB", (1000, 1500)))


def test_histogram_matching() -> None:
    image, reference = torch.rand(3, 60, 50) ** 2, 0.2 + 0.6 * torch.rand(3, 20, 20)
    matched = match_histogram(image, reference)
    shares = torch.linspace(0.05, 0.95, 19)
    for one, other in zip(matched, reference, strict=True):
        assert torch.allclose(one.quantile(shares), other.quantile(shares), atol=0.02)
    # What was brighter is not darker afterwards, and a matched picture stays as it is.
    order = image[0].flatten().argsort()
    assert (matched[0].flatten()[order].diff() >= -1e-6).all()
    assert torch.allclose(match_histogram(reference, reference), reference, atol=2e-5)


def ranked(image: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Each value becomes that of the reference's value of the same rank, as a share."""
    ranks = (image[None] <= image[:, None]).mean(1)
    values = np.unique(reference)
    shares = (reference[None] <= values[:, None]).mean(1)
    return np.interp(ranks, shares, values)


@pytest.mark.parametrize("levels", [255, 65535])
def test_histogram_matching_is_exact(levels: int) -> None:
    """Against the definition, with and without many pixels of a value."""
    image, reference = torch.rand(3, 30, 25) ** 2, 0.2 + 0.6 * torch.rand(3, 14, 11)
    image, reference = ((x * levels).round() / levels for x in (image, reference))
    matched = match_histogram(image, reference)
    for one, other, made in zip(image, reference, matched, strict=True):
        expected = ranked(one.double().numpy().ravel(), other.double().numpy().ravel())
        assert np.abs(made.numpy().ravel() - expected).max() < 1e-6


def test_johnsons_network_is_matched_and_others_are_not(
    network: AnyNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def spy(image: Tensor, reference: Tensor) -> Tensor:
        calls.append(image.shape)
        return match_histogram(image, reference)

    monkeypatch.setattr(pictures, "match_histogram", spy)
    johnson = build(TransformNetConfig(2, 1, 8)).eval()
    upscale(johnson, photo())
    assert calls == [(3, 46, 74)]
    upscale(johnson, photo(), PictureConfig(histogram=False))
    upscale(network, photo())
    assert len(calls) == 1
    upscale(network, photo(), PictureConfig(histogram=True))
    assert len(calls) == 2
