import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from pulse.imaging.haarpsi import haarpsi


def waves(side: int) -> Float[Tensor, "2 3 h w"]:
    """Two pictures that need no random numbers."""
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side - 3), indexing="ij")
    channels = [torch.sin(x / a + y / b) / 2 + 0.5 for a, b in ((3, 7), (11, 5), (4, 4))]
    other = [torch.sin(x * y / (20 * a)) / 2 + 0.5 for a in (3, 5, 9)]
    return torch.stack((torch.stack(channels), torch.stack(other))).double()


@pytest.mark.parametrize(
    ("side", "expected"), [(64, (0.28814, 0.95494, 0.90538)), (51, (0.27974, 0.95517, 0.97578))]
)
def test_values_of_piq(side: int, expected: tuple[float, float, float]) -> None:
    """piq 0.8.0 in float64. Its weights of YIQ have a digit more than those of the authors."""
    one, two = waves(side)
    dark = one * 0.8
    noisy = (one + 0.1 * torch.sin(torch.arange(one.numel()).reshape(one.shape) * 12.9)).clamp(0, 1)
    others = torch.stack((two, dark, noisy))
    values = haarpsi(one.expand(3, -1, -1, -1), others)
    assert values.tolist() == pytest.approx(expected, abs=5e-4)


def test_same_pictures_and_order() -> None:
    one, two = waves(33)
    assert haarpsi(one[None], one[None]).item() == pytest.approx(1, abs=1e-9)
    assert haarpsi(torch.zeros(1, 3, 16, 16), torch.zeros(1, 3, 16, 16)).item() == pytest.approx(1)
    there, back = haarpsi(one[None], two[None]), haarpsi(two[None], one[None])
    assert there.item() == pytest.approx(back.item())
    assert 0 < there.item() < 0.6
