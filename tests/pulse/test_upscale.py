import numpy as np
import pytest
import torch
from PIL import Image

from pulse.images import InputError, Picture
from pulse.search import SearchConfig
from pulse.upscale import UpscaleConfig, Upscaler, choose_device, find_faces
from stylegan import Generator


def picture(width: int, height: int) -> Picture:
    rng = np.random.default_rng(0)
    return Picture(Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8)))


@pytest.mark.parametrize(
    ("side", "asked", "size"),
    [(16, None, 16), (20, None, 20), (64, None, 64), (32, 16, 16), (100, None, 16), (100, 32, 32)],
)
def test_size_that_is_matched(side: int, asked: int | None, size: int) -> None:
    (face,) = find_faces(picture(side, side), asked, 128)
    assert face.low.shape == (3, size, size)
    unseen = "No face was found in it; it is taken as one face, framed like FFHQ's."
    assert face.notes == ((unseen,) if side > 64 else ())


def test_a_small_picture_is_matched_as_it_is() -> None:
    source = picture(16, 16)
    (face,) = find_faces(source, None, 128)
    expected = torch.from_numpy(np.array(source.image)).permute(2, 0, 1) / 255
    torch.testing.assert_close(face.low, expected)


def test_a_larger_one_is_downscaled_as_pillow_would() -> None:
    source = picture(256, 256)
    (face,) = find_faces(source, None, 128)
    expected = np.array(source.image.resize((16, 16), Image.Resampling.BICUBIC), int)
    ours = (face.low * 255).round().permute(1, 2, 0).numpy()
    assert np.abs(ours - expected).max() <= 1


def test_of_a_small_oblong_the_middle_is_used_and_said() -> None:
    source = picture(16, 20)
    (face,) = find_faces(source, None, 128)
    expected = np.array(source.image)[2:18].transpose(2, 0, 1) / 255
    assert np.abs(face.low.numpy() - expected).max() < 1e-6
    assert face.notes[-1] == "It is not square; the 16x16 pixels in the middle are used."


@pytest.mark.parametrize(
    ("size", "asked", "message"),
    [
        ((300, 200), None, r"No face was found in me \(300x200 pixels\): crop it to a square"),
        ((1, 1), None, "too few to tell a face"),
        ((16, 16), 32, "has only 16x16 pixels and cannot be matched at 32"),
        ((300, 300), 256, "the generator draws only 128"),
    ],
)
def test_refusals(size: tuple[int, int], asked: int | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        find_faces(picture(*size), asked, 128, "me")


def test_seeds_count_up_and_zero_is_a_seed() -> None:
    assert list(UpscaleConfig(3, 0).seeds) == [0, 1, 2]
    assert list(UpscaleConfig(2, 7).seeds) == [7, 8]


@pytest.mark.parametrize("change", [{"candidates": 0}, {"seed": -1}])
def test_impossible_numbers(change: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be"):
        UpscaleConfig(**change)  # type: ignore[arg-type]


def test_devices() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("auto").type in ("cpu", "cuda", "mps")
    with pytest.raises(InputError, match="no device abacus here"):
        choose_device("abacus")
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="no device cuda here"):
            choose_device("cuda")


def test_upscaler_searches_at_the_faces_size(tiny: Generator) -> None:
    upscaler = Upscaler(tiny, "tiny", "0")
    (face,) = find_faces(picture(10, 10), None, tiny.resolution)
    config = UpscaleConfig(2, 5, None, SearchConfig(steps=2, draws=2))
    *_, state = upscaler.search(face, config)
    assert state.images.shape == (2, 3, 32, 32)
    assert state.low.shape == (2, 3, 10, 10)
