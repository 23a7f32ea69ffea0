import io
import math

import numpy as np
import pytest
import torch
from PIL import Image

from pulse.imaging.jpeg import Jpeg, soft_round
from pulse.imaging.pictures import to_image, to_tensor

# Width and height: whole blocks and not, even and odd, and too narrow to interpolate chroma.
SIZES = [(16, 16), (64, 64), (20, 20), (17, 17), (33, 33), (4, 4), (5, 5), (8, 8), (31, 18)]
QUALITIES = [1, 10, 30, 49, 50, 75, 90, 100]


def picture(width: int, height: int) -> Image.Image:
    """Colours that change slowly, with some grain."""
    y, x = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
    smooth = torch.stack([(4 * x + y).sin(), (3 * y - x).cos(), (5 * x * y).sin()]) / 2 + 0.5
    return to_image(smooth * 0.8 + 0.2 * torch.rand(3, height, width))


def saved(image: Image.Image, quality: int) -> np.ndarray:
    """What Pillow makes of it, in levels of 8 bits."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return np.array(Image.open(buffer).convert("RGB"), float)


@pytest.mark.parametrize("quality", QUALITIES)
def test_is_what_pillow_writes_and_reads(quality: int) -> None:
    """Off by 0.5 levels on average, by 6 where a coefficient fell on the other side of rounding."""
    differences: list[float] = []
    for size in SIZES:
        for image in (picture(*size), picture(*size).convert("L").convert("RGB")):
            expected = saved(image, quality)
            ours = Jpeg(quality)(to_tensor(image)).permute(1, 2, 0).numpy() * 255
            assert np.abs(ours - ours.round()).max() < 1e-3
            assert math.sqrt(np.square(ours - expected).mean()) < 6
            differences.append(float(np.abs(ours - expected).mean()))
    assert np.mean(differences) < 0.5


def test_it_matters() -> None:
    """At quality 30 the difference to Pillow is a small part of what JPEG does."""
    image = picture(32, 32)
    ours = Jpeg(30)(to_tensor(image)).permute(1, 2, 0).numpy() * 255
    miss = np.square(ours - saved(image, 30)).mean()
    assert miss < 0.05 * np.square(np.array(image, float) - saved(image, 30)).mean()


def test_a_picture_is_the_same_in_a_batch() -> None:
    x = torch.rand(2, 2, 3, 17, 13)
    together = Jpeg(60)(x)
    assert together.shape == x.shape
    torch.testing.assert_close(Jpeg(60)(x[1, 0]), together[1, 0])


def test_colours_out_of_range_are_cut_off_as_in_a_file() -> None:
    x = 3 * torch.randn(3, 16, 16)
    torch.testing.assert_close(Jpeg(90)(x), Jpeg(90)(x.clamp(0, 1)))
    assert 0 <= Jpeg(90)(x).min() <= Jpeg(90)(x).max() <= 1


def test_an_even_colour_stays() -> None:
    x = torch.tensor([0.2, 0.6, 0.4])[:, None, None].expand(3, 19, 21)
    assert (Jpeg(100)(x) - x).abs().max() < 2.1 / 255


@pytest.mark.parametrize("size", [(16, 16), (9, 5), (4, 4)])
def test_while_gradients_are_recorded_it_is_smooth_with_the_right_ones(
    size: tuple[int, int],
) -> None:
    x = torch.rand(1, 3, *size, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(Jpeg(50), x, fast_mode=True)


@pytest.mark.parametrize("quality", [10, 50, 90])
def test_the_smooth_stand_in_is_near_what_it_stands_for(quality: int) -> None:
    x = to_tensor(picture(32, 32))
    exact = Jpeg(quality)(x)
    smooth = Jpeg(quality)(x.requires_grad_())
    off = (smooth - exact).square().mean().sqrt()
    assert off < 0.7 * (x - exact).square().mean().sqrt()


def test_soft_round() -> None:
    x = torch.linspace(-3, 3, 6001, dtype=torch.float64)
    assert (soft_round(x).diff() >= 0).all()
    torch.testing.assert_close(soft_round(x[::1000]), x[::1000].round())
    torch.testing.assert_close(soft_round(x[500::1000]), x[500::1000])
