"""Fine detail that is kept from frame to frame."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pulse.imaging.back_projection import back_project
from pulse.imaging.degrade import Degradation, DegradeConfig
from pulse.video.steady import KEPT, steadied

SIDE, SIZE = 128, 16
PLAIN = DegradeConfig()


def picture(seed: int, shift: int = 0) -> Tensor:
    """[3, SIDE, SIDE], strong shapes and faint detail, moved to the right by whole pixels."""
    rng = torch.Generator().manual_seed(seed)
    image = torch.full((3, SIDE, SIDE + 40), 0.5)
    for reach, strength in ((12, 0.15), (2, 0.06)):
        layer = torch.rand(1, *image.shape, generator=rng)
        layer = F.avg_pool2d(layer, 2 * reach + 1, 1, reach, count_include_pad=False)[0]
        image += strength * (layer - layer.mean()) / layer.std()
    return image[:, :, 20 - shift : 20 - shift + SIDE].clamp(0, 1)


def operators(degrade: DegradeConfig) -> tuple[Degradation, Degradation | None]:
    return degrade.operator(SIDE, SIZE), degrade.inverse(SIDE, SIZE)


def matching(image: Tensor, other: Tensor, degrade: DegradeConfig = PLAIN) -> Tensor:
    """A picture that downscales to what another does, as a search would find it."""
    down, inverse = operators(degrade)
    assert inverse is not None
    return back_project(image[None], down(other[None]), down, inverse)[0]


@pytest.mark.parametrize("degrade", [PLAIN, DegradeConfig(grey=True)])
def test_detail_moves_with_what_it_lies_on_and_the_match_stays(degrade: DegradeConfig) -> None:
    before, now = picture(0), picture(0, shift=3)
    stuck = matching(before, now, degrade)  # A generator that is asked for no more than a match.
    made = steadied(stuck, before, *operators(degrade))
    inside = (slice(None), slice(16, -16), slice(16, -16))
    off = [float((x - now)[inside].square().mean()) for x in (stuck, made)]
    assert off[1] < 0.25 * off[0]
    down = degrade.operator(SIDE, SIZE)
    assert (down(made) - down(stuck)).abs().max() < 1.5 / 255


def test_of_a_face_that_stands_most_is_kept() -> None:
    """New detail comes in by what is left of the share that is kept."""
    before = picture(0)
    other = matching(before + 0.2 * (picture(1) - picture(2)), before)
    made = steadied(other, before, *operators(PLAIN))
    changed = (made - before).square().mean().sqrt() / (other - before).square().mean().sqrt()
    assert abs(float(changed) - (1 - KEPT)) < 0.1


def test_where_another_picture_comes_nothing_is_kept() -> None:
    before, now = picture(0), 1 - picture(0)
    assert (steadied(now, before, *operators(PLAIN)) - now).abs().mean() < 2 / 255


def test_what_jpeg_has_rounded_stays_as_it_is_drawn() -> None:
    rounded = operators(DegradeConfig(jpeg=50))
    assert torch.equal(steadied(picture(0), picture(1), *rounded), picture(0))
