import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from pulse.imaging.degrade import Bicubic, Blur, Box, DegradeConfig, Grey, Mask, Point, read_mask
from pulse.imaging.jpeg import Jpeg
from pulse.imaging.pictures import InputError, to_image, to_tensor
from pulse.search import PAPER, SearchConfig
from pulse.search.losses import squared_error

SIZES = [(128, 16), (128, 20), (64, 64), (1024, 16), (33, 7), (5, 1)]
PARTLY = torch.tensor([[True, False, True], [True, True, True], [False, False, True]])

# Every linear operator with the side of what goes in and of what comes out.
LINEAR: dict[str, tuple[Any, int, int]] = {
    **{f"bicubic {high} {low}": (Bicubic(high, low), high, low) for high, low in SIZES},
    **{f"box {high} {low}": (Box(high, low), high, low) for high, low in SIZES},
    "point 128 32": (Point(128, 32, 0.375), 128, 32),
    "point 33 7": (Point(33, 7, 0.5), 33, 7),
    "blur 0.1": (Blur(20, 0.1), 20, 20),
    "blur 1.5": (Blur(20, 1.5), 20, 20),
    "blur 100": (Blur(20, 100.0), 20, 20),
    "grey": (Grey(), 9, 9),
    "mask": (Mask(PARTLY), 3, 3),
}
MEANS = [name for name in LINEAR if name != "mask"]


def double(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


@pytest.mark.parametrize("name", LINEAR)
def test_adjoint(name: str) -> None:
    """<A x, y> = <x, A* y>, and the adjoint is what gradients go back through."""
    operator, high, low = LINEAR[name]
    x, y = double(2, 3, high, high).requires_grad_(), double(2, 3, low, low)
    product = (operator(x) * y).sum()
    torch.testing.assert_close(product, (x * operator.adjoint(y)).sum(), rtol=1e-10, atol=1e-10)
    (gradient,) = torch.autograd.grad(product, x)
    torch.testing.assert_close(gradient, operator.adjoint(y), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", LINEAR)
def test_is_linear_and_does_to_each_picture_what_it_does_to_one(name: str) -> None:
    operator, high, _ = LINEAR[name]
    x = double(2, 3, high, high)
    a, b = operator(x)
    torch.testing.assert_close(operator(x[0]), a)
    torch.testing.assert_close(operator(2 * x[0] - x[1]), 2 * a - b)


@pytest.mark.parametrize("name", MEANS)
def test_keeps_an_even_grey(name: str) -> None:
    operator, high, low = LINEAR[name]
    flat = torch.full((3, high, high), 0.3)
    torch.testing.assert_close(operator(flat), torch.full((3, low, low), 0.3))


@pytest.mark.parametrize("kind", ["BICUBIC", "BOX"])
@pytest.mark.parametrize(("high", "low"), [*SIZES, (24, 16), (100, 64)])
def test_is_pillows(kind: str, high: int, low: int) -> None:
    image = torch.rand(1, high, high)
    size = (low, low)
    expected = Image.fromarray(image[0].numpy()).resize(size, Image.Resampling[kind])
    operator = Box(high, low) if kind == "BOX" else Bicubic(high, low)
    ours = operator(image.expand(3, -1, -1))[0]
    assert np.abs(ours.numpy() - np.array(expected)).max() < 1e-5


def test_points_of_a_blurred_picture() -> None:
    image = torch.rand(3, 30, 30)
    expected = Blur(30, 1.5)(image)[:, 1::3, 1::3]
    torch.testing.assert_close(Point(30, 10, 0.5)(image), expected)


def test_points_need_a_blur() -> None:
    with pytest.raises(InputError, match=r"blur:0\.375,point"):
        DegradeConfig(resampling="point")
    assert DegradeConfig.parse("point, blur:0.5") == DegradeConfig(0.5, "point")
    assert DegradeConfig.parse(str(DegradeConfig(0.5, "point"))) == DegradeConfig(0.5, "point")


def test_blur_of_a_dot_is_a_gaussian() -> None:
    dot = torch.zeros(3, 41, 41)
    dot[:, 20, 20] = 1
    blurred = Blur(41, 3.0)(dot)[0]
    place = torch.arange(41) - 20.0
    assert blurred.sum().item() == pytest.approx(1, abs=1e-5)
    assert (blurred.sum(0) * place**2).sum().sqrt().item() == pytest.approx(3, rel=1e-3)
    assert (blurred.sum(1) * place**2).sum().sqrt().item() == pytest.approx(3, rel=1e-3)


def test_grey_is_pillows_luma() -> None:
    image = to_image(torch.rand(3, 16, 16))
    expected = np.array(image.convert("L"), float)
    ours = Grey()(to_tensor(image)) * 255
    assert np.abs(ours.numpy() - expected).max() < 0.51


def test_is_the_originals_inside_and_close_to_it_at_the_border(shared: Path) -> None:
    """PULSE mirrors the picture at the border where Pillow, and we, renormalise the kernel."""
    reference = np.load(shared / "fixtures" / "pulse-method.npz")
    low = torch.from_numpy(reference["low"])
    difference = (Bicubic(128, 16)(torch.from_numpy(reference["image"])) - low).abs()
    assert difference[..., 2:-2, 2:-2].max() < 1e-6
    assert difference.max() < 0.05


def test_same_size_changes_nothing() -> None:
    image = torch.rand(3, 16, 16)
    torch.testing.assert_close(Bicubic(16, 16)(image), image)


def test_refuses_to_enlarge() -> None:
    with pytest.raises(ValueError, match="Cannot downscale 16 pixels to 32"):
        Bicubic(16, 32)


@pytest.mark.parametrize(
    ("text", "config", "normal"),
    [
        ("bicubic", DegradeConfig(), "bicubic"),
        ("box", DegradeConfig(resampling="box"), "box"),
        ("blur:1.5", DegradeConfig(blur=1.5), "blur:1.5,bicubic"),
        ("blur:0,noise:0", DegradeConfig(), "bicubic"),
        ("grey", DegradeConfig(grey=True), "bicubic,grey"),
        (
            "noise:1e-5, mask:my dir/a:b.png ,jpeg:75,grey,box,blur:0.1",
            DegradeConfig(0.1, "box", True, 75, Path("my dir/a:b.png"), 1e-5),
            "blur:0.1,box,grey,jpeg:75,mask:my dir/a:b.png,noise:1e-05",
        ),
    ],
)
def test_text_to_config_and_back(text: str, config: DegradeConfig, normal: str) -> None:
    assert DegradeConfig.parse(text) == config
    assert str(config) == normal
    assert DegradeConfig.parse(normal) == config


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot take ''; give one or more of bicubic, box, point, blur:SIGMA"),
        ("grey,", "cannot take ''"),
        ("melt", "cannot take 'melt'"),
        ("grey:1", "cannot take 'grey:1'"),
        ("box:2", "cannot take 'box:2'"),
        ("blur", "cannot take 'blur'"),
        ("blur:much", "cannot take 'blur:much'"),
        ("blur:-1", "blur of -1 cannot be"),
        ("blur:nan", "blur of nan cannot be"),
        ("blur:inf", "blur of inf cannot be"),
        ("jpeg", "cannot take 'jpeg'"),
        ("jpeg:7.5", "cannot take 'jpeg:7.5'"),
        ("jpeg:0", "quality 0 cannot be"),
        ("jpeg:101", "quality 101 cannot be"),
        ("noise:-0.1", "Noise of -0.1 cannot be"),
        ("noise:nan", "Noise of nan cannot be"),
        ("noise:5", r"5 of 255 levels are noise:0\.02"),
        ("mask", "cannot take 'mask'"),
        ("mask:", "cannot take 'mask:'"),
        ("box,bicubic", "says two things of resampling"),
        ("grey,blur:1,grey", "says two things of grey"),
        ("blur:1,blur:2", "says two things of blur"),
    ],
)
def test_wrong_texts(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        DegradeConfig.parse(text)


def test_operators_are_applied_in_the_order_in_which_things_happen(tmp_path: Path) -> None:
    path = saved_mask(tmp_path, np.eye(8) == 0)
    config = DegradeConfig.parse(f"mask:{path},noise:0.1,jpeg:40,grey,blur:0.5,box")
    x = torch.rand(2, 3, 32, 32)
    expected = Jpeg(40)(Grey()(Box(32, 8)(Blur(32, 2.0)(x))))
    expected = expected * ~torch.eye(8, dtype=torch.bool)
    torch.testing.assert_close(config.operator(32, 8)(x), expected)


def test_the_default_is_bicubic_to_the_last_bit() -> None:
    x = torch.rand(2, 3, 32, 32)
    assert torch.equal(DegradeConfig().operator(32, 8)(x), Bicubic(32, 8)(x))
    assert torch.equal(DegradeConfig().target(x[0]), x[0])


def test_the_target_is_made_grey_and_unknown_where_it_is_ignored(tmp_path: Path) -> None:
    path = saved_mask(tmp_path, np.eye(4) == 0)
    low = torch.rand(3, 4, 4)
    ignored = torch.eye(4, dtype=torch.bool).expand(3, -1, -1)
    target = DegradeConfig.parse(f"grey,mask:{path},jpeg:10,blur:2,noise:0.1").target(low)
    assert torch.equal(target.isnan(), ignored)
    torch.testing.assert_close(target[~ignored], Grey()(low)[~ignored])


def saved_mask(folder: Path, white: np.ndarray) -> Path:
    path = folder / "mask.png"
    Image.fromarray(np.where(white, 255, 0).astype(np.uint8)).save(path)
    return path


def test_a_pixel_counts_if_all_of_it_is_white(tmp_path: Path) -> None:
    white = np.ones((64, 64), bool)
    white[17, 40] = False  # One black dot, in row 4 and column 10 of 16 pixels.
    counts = read_mask(saved_mask(tmp_path, white), 16)
    expected = torch.ones(16, 16, dtype=torch.bool)
    expected[4, 10] = False
    assert torch.equal(counts, expected)


def test_a_mask_may_be_smaller_or_off_white(tmp_path: Path) -> None:
    path = tmp_path / "mask.jpg"
    Image.fromarray(np.array([[250, 4], [250, 250]], np.uint8)).save(path, quality=100)
    expected = torch.ones(8, 8, dtype=torch.bool)
    expected[:4, 4:] = False
    assert torch.equal(read_mask(path, 8), expected)


@pytest.mark.parametrize(
    ("size", "colour", "message"),
    [
        ((8, 8), "black", "ignores everything: none of 8x8 pixels is wholly white"),
        ((8, 6), "white", "has 8x6 pixels; make it square"),
        (None, "", "does not exist"),
    ],
)
def test_unusable_masks(
    size: tuple[int, int] | None, colour: str, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "mask.png"
    if size is not None:
        Image.new("RGB", size, colour).save(path)
    with pytest.raises(InputError, match=message):
        DegradeConfig(mask=path).target(torch.rand(3, 8, 8))


@pytest.mark.parametrize("text", ["bicubic", "box", "blur:0.7", "grey", "jpeg:50,grey,blur:0.3"])
def test_gradients(text: str) -> None:
    """Analytic against numerical, in double."""
    operator = DegradeConfig.parse(text).operator(12, 5)
    x = torch.rand(1, 3, 12, 12, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(operator, x, fast_mode=True)


def test_noise_is_what_the_error_of_the_truth_becomes() -> None:
    """E |target - A(x)|^2 = sigma^2, which is what `SearchConfig.with_noise` adds."""
    clean = torch.full((3, 64, 64), 0.5)
    noisy = clean + 0.05 * torch.randn(3, 64, 64)
    assert squared_error(clean[None], noisy).item() == pytest.approx(0.05**2, rel=0.05)
    config = SearchConfig(tolerance=1e-3, goal=0.3)
    assert config.with_noise(0.0) is config
    raised = config.with_noise(0.05)
    assert raised.tolerance == pytest.approx(1e-3 + 0.05**2)
    assert raised.goal * raised.tolerance == pytest.approx(0.3e-3 + 0.05**2)
    assert PAPER.with_noise(0.05).goal == pytest.approx(1)
    assert math.isclose(SearchConfig(tolerance=1.0).with_noise(0.5).tolerance, 1.0)
