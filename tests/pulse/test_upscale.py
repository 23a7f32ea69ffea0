from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pulse.devices import choose_device, choose_precision
from pulse.faces.framing import find_framings
from pulse.faces.prepare import FaceSettings, LRFace, prepare
from pulse.imaging.degrade import Bicubic, Box, DegradeConfig, Grey
from pulse.imaging.pictures import InputError, Picture, to_tensor
from pulse.search import SearchConfig, State, Status
from pulse.search.losses import squared_error
from pulse.upscale import UpscaleConfig, Upscaler
from stylegan import Generator
from stylegan.checkpoints import save
from stylegan.stylegan2 import StyleGAN2, StyleGAN2Config


def picture(width: int, height: int) -> Picture:
    rng = np.random.default_rng(0)
    return Picture(Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8)))


@pytest.mark.parametrize(
    ("side", "asked", "size"),
    [(16, None, 16), (20, None, 20), (64, None, 64), (32, 16, 16), (100, None, 16), (100, 32, 32)],
)
def test_size_that_is_matched(side: int, asked: int | None, size: int) -> None:
    (face,) = prepare(picture(side, side), FaceSettings(asked), 128)
    assert face.low.shape == (3, size, size)
    unseen = "No face was found in it; it is taken as one face, framed like FFHQ's."
    assert face.notes == ((unseen,) if side > 64 else ())


def test_a_small_picture_is_matched_as_it_is() -> None:
    source = picture(16, 16)
    (face,) = prepare(source, FaceSettings(), 128)
    expected = torch.from_numpy(np.array(source.image)).permute(2, 0, 1) / 255
    torch.testing.assert_close(face.low, expected)


def test_a_larger_one_is_downscaled_as_pillow_would() -> None:
    source = picture(256, 256)
    (face,) = prepare(source, FaceSettings(), 128)
    expected = np.array(source.image.resize((16, 16), Image.Resampling.BICUBIC), int)
    ours = (face.low * 255).round().permute(1, 2, 0).numpy()
    assert np.abs(ours - expected).max() <= 1


def test_of_a_small_oblong_the_middle_is_used_and_said() -> None:
    source = picture(16, 20)
    (face,) = prepare(source, FaceSettings(), 128)
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
        prepare(picture(*size), FaceSettings(asked), 128, "me")


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


def test_bfloat16_is_chosen_where_it_is_fast(
    tiny: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def has(**capabilities: bool) -> None:
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)

    assert choose_precision("bfloat16", tiny) == torch.bfloat16
    has(avx512_bf16=True)
    assert choose_precision("auto", tiny) == torch.float32
    tiny.resolution = 1024
    assert choose_precision("auto", tiny) == torch.bfloat16
    assert choose_precision("float32", tiny) == torch.float32
    has(amx_bf16=True)
    assert choose_precision("auto", tiny) == torch.bfloat16
    has(avx512_f=True, avx512_bf16=False)
    assert choose_precision("auto", tiny) == torch.float32
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert choose_precision("auto", tiny) == torch.float32
    has(avx512_bf16=True)
    for family in ("StyleGAN", "StyleGAN3"):
        tiny.family = family
        assert choose_precision("auto", tiny) == torch.float32


def test_a_loaded_generator_has_the_precision_that_is_asked_for() -> None:
    assert Upscaler.load(precision="bfloat16").generator.precision == torch.bfloat16
    assert Upscaler.load().generator.precision == torch.float32


def test_upscaler_searches_at_the_faces_size(tiny: Generator) -> None:
    upscaler = Upscaler(tiny, "tiny", "0")
    (face,) = prepare(picture(10, 10), FaceSettings(), tiny.resolution)
    config = UpscaleConfig(2, 5, None, SearchConfig(steps=2, draws=2))
    *_, state = upscaler.search(face, config)
    assert state.images.shape == (2, 3, 32, 32)
    assert state.low.shape == (2, 3, 10, 10)


def test_a_larger_one_is_downscaled_in_the_way_that_is_given() -> None:
    source = picture(96, 96)
    (face,) = prepare(source, FaceSettings(degrade=DegradeConfig(resampling="box")), 128)
    torch.testing.assert_close(face.low, Box(96, 16)(to_tensor(source.image)), atol=4e-3, rtol=0)


def test_a_grey_picture_is_matched_in_grey_unless_told_otherwise() -> None:
    source = Picture(picture(16, 16).image.convert("L").convert("RGB"), ("A note.",))
    (face,) = prepare(source, FaceSettings(), 128)
    assert face.degrade == DegradeConfig(grey=True)
    assert face.notes == ("A note.", "It is grey and is matched in grey.")
    plain = DegradeConfig()
    (face,) = prepare(source, FaceSettings(degrade=plain), 128)
    assert face.degrade == plain
    assert face.notes[1:] == (
        "It is grey but is matched in colour; add grey to degrade if it should.",
    )
    (face,) = prepare(source, FaceSettings(degrade=DegradeConfig(grey=True)), 128)
    assert face.notes == ("A note.",)
    assert prepare(picture(16, 16), FaceSettings(), 128)[0].degrade == plain


def searched(tiny: Generator, source: Picture, degrade: DegradeConfig) -> tuple[LRFace, State]:
    (face,) = prepare(source, FaceSettings(8, degrade), tiny.resolution)
    config = UpscaleConfig(1, 5, 8, SearchConfig(steps=6, draws=8, goal=0.0), degrade)
    *_, state = Upscaler(tiny, "tiny", "0").search(face, config)
    return face, state


def test_in_grey_colours_do_not_matter(tiny: Generator) -> None:
    """A picture and its luma lead to the same face, and the error is that of the luma."""
    source = picture(32, 32)
    face, state = searched(tiny, source, DegradeConfig(grey=True))
    assert (face.low == face.low[:1]).all()
    luma = Grey()(Bicubic(32, 8)(state.images))
    torch.testing.assert_close(state.low, luma)
    torch.testing.assert_close((luma - face.low)[:, 0].square().mean((1, 2)), state.best)


def test_what_is_masked_has_no_influence(tiny: Generator, tmp_path: Path) -> None:
    white = np.full((8, 8), 255, np.uint8)
    white[5:] = 0
    Image.fromarray(white).save(tmp_path / "mask.png")
    degrade = DegradeConfig(mask=tmp_path / "mask.png")
    one = picture(8, 8)
    pixels = np.array(one.image)
    pixels[5:] = 255 - pixels[5:]
    _, state = searched(tiny, one, degrade)
    _, same = searched(tiny, Picture(Image.fromarray(pixels)), degrade)
    assert torch.equal(state.images, same.images)
    pixels[:5] = 255 - pixels[:5]
    _, other = searched(tiny, Picture(Image.fromarray(pixels)), degrade)
    assert not torch.equal(state.images, other.images)
    # The mean is over what counts, and the rest is black.
    seen = Bicubic(32, 8)(state.images)[..., :5, :]
    error = squared_error(seen, to_tensor(one.image)[:, :5])
    torch.testing.assert_close(error, state.best)
    assert (state.low[..., 5:, :] == 0).all()


def test_noise_raises_the_tolerance(tiny: Generator) -> None:
    source = picture(8, 8)
    _, state = searched(tiny, source, DegradeConfig())
    missed = SearchConfig(steps=1, draws=8, tolerance=0.9 * state.best.item())
    for noise, status in ((0.0, Status.NOT_CONVERGED), (0.5, Status.FOUND)):
        (face,) = prepare(source, FaceSettings(degrade=DegradeConfig(noise=noise)), 32)
        *_, last = Upscaler(tiny, "tiny", "0").search(face, UpscaleConfig(1, 5, 8, missed))
        assert last.status == (status,)


def test_naming_what_happened_comes_closer_to_the_truth(tiny: Generator) -> None:
    """Matching a blurred picture as if it were sharp leads further from the sharp one."""
    w = tiny.mapping(torch.randn(1, tiny.z_dim))[:, None].expand(-1, tiny.num_layers, -1)
    truth = ((tiny.synthesis(w)[0] + 1) / 2).clamp(0, 1)
    blurred = DegradeConfig(blur=2.0)
    low = blurred.operator(32, 8)(truth)
    config = UpscaleConfig(2, 0, None, SearchConfig(steps=60, tolerance=1e-4))
    distance: list[float] = []
    for degrade in (DegradeConfig(), blurred):
        *_, state = Upscaler(tiny, "tiny", "0").search(LRFace(0, low, (), degrade), config)
        sharp = Bicubic(32, 8)
        distance.append(squared_error(sharp(state.images), sharp(truth)).mean().item())
    assert distance[1] < 0.8 * distance[0]


def test_settings_are_named_in_the_words_of_the_front_end() -> None:
    with pytest.raises(InputError) as refused:
        prepare(picture(16, 16), FaceSettings(32), 128, "me.png")
    assert "leave out lr_size or give" in str(refused.value)
    words = refused.value.worded(lambda name: f"<{name.upper()}>")
    assert "leave out <LR_SIZE> or give" in words
    assert words.startswith("me.png has only 16x16")


def test_a_face_that_cannot_be_used_does_not_stop_the_others() -> None:
    source = picture(100, 100)
    (framing,) = find_framings(source, align="never")
    small = replace(framing, index=1, square=(0, 0, 3))
    refused: list[tuple[int, str]] = []
    faces = prepare(
        source,
        FaceSettings(),
        128,
        framings=[framing, small],
        refuse=lambda where, error: refused.append((where.index, str(error))),
    )
    assert [face.index for face in faces] == [0]
    assert refused[0][0] == 1
    assert "too few to tell a face" in refused[0][1]
    with pytest.raises(InputError, match="too few"):
        prepare(source, FaceSettings(), 128, framings=[framing, small])


def test_every_engine_opens_generators_in_the_same_precision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker elsewhere gets a file and opens it as the local engine does."""
    monkeypatch.setattr("pulse.devices.multiplies_bfloat16", lambda device: True)
    large = StyleGAN2(StyleGAN2Config(channels=(8, 8, 8, 8, 8, 4, 4), z_dim=16, w_dim=16))
    path = tmp_path / "large.safetensors"
    save(large, path)
    here = Upscaler.load(str(path), "cpu")
    elsewhere = Upscaler.open(path, "large", torch.device("cpu"), "auto", here.prior)
    assert here.precision == elsewhere.precision == "bfloat16"
    assert (here.sha256, here.name) == (elsewhere.sha256, "large.safetensors")
    assert Upscaler.load(str(path), "cpu", "float32").precision == "float32"
