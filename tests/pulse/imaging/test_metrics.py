"""Figures of pictures, against torchmetrics and against the papers."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torchmetrics.functional.image import peak_signal_noise_ratio

from pulse.imaging.metrics import luma, psnr_y, ssim_y


def test_luma_is_that_of_matlab() -> None:
    """Its rgb2ycbcr: white is 235, black 16, pure red 81.48."""
    colours = torch.tensor([[1.0, 1, 1], [0, 0, 0], [1, 0, 0]]).T[None, :, :, None]
    expected = torch.tensor([235.0, 16.0, 81.481], dtype=torch.float64)
    torch.testing.assert_close(luma(colours).flatten(), expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize("channels", [3, 1])
def test_psnr_agrees_with_torchmetrics(channels: int) -> None:
    hr = torch.rand(2, channels, 40, 33)
    sr = (hr + 0.1 * torch.randn_like(hr)).clamp(0, 1)
    x, y = (luma(image)[..., 4:-4, 4:-4] for image in (sr, hr))
    for i in range(2):
        expected = peak_signal_noise_ratio(x[i], y[i], data_range=255.0)
        torch.testing.assert_close(psnr_y(sr, hr, 4)[i], expected.double(), atol=1e-4, rtol=0)


@pytest.mark.parametrize("channels", [3, 1])
def test_ssim_agrees_with_scipys_gaussian(channels: int) -> None:
    """Windows that stand out of the picture are left out, which torchmetrics does not do."""
    hr = torch.rand(2, channels, 40, 33)
    sr = (hr + 0.1 * torch.randn_like(hr)).clamp(0, 1)

    def mean(x: np.ndarray) -> np.ndarray:
        return gaussian_filter(x, 1.5, truncate=5 / 1.5)[5:-5, 5:-5]

    for i in range(2):
        x, y = (luma(image)[i, 0, 4:-4, 4:-4].numpy() for image in (sr, hr))
        a, b = mean(x), mean(y)
        same = (2 * a * b + 6.5025) * (2 * (mean(x * y) - a * b) + 58.5225)
        power = (a**2 + b**2 + 6.5025) * (mean(x * x) - a**2 + mean(y * y) - b**2 + 58.5225)
        assert ssim_y(sr, hr, 4)[i] == pytest.approx((same / power).mean(), abs=1e-9)


def test_equal_pictures() -> None:
    image = torch.rand(3, 20, 20)
    assert psnr_y(image, image, 2) == torch.inf
    torch.testing.assert_close(ssim_y(image, image, 2), torch.tensor(1.0, dtype=torch.float64))
