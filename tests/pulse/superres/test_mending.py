"""The network that makes a match of a face that nearly is one."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import stylegan
from pulse.faces.prepare import LRFace
from pulse.imaging.degrade import Bicubic, DegradeConfig
from pulse.search import Aids, SearchConfig, Status, search
from pulse.search.losses import squared_error
from pulse.superres import mending
from pulse.superres.mending import MendingNetwork, face, in_place, load, mender, save
from pulse.upscale import UpscaleConfig, Upscaler
from stylegan import Generator

EMBEDDED = stylegan.EMBEDDED
MOUTH = slice(None), slice(None), slice(88, 104), slice(52, 76)
"""About where a mouth is, at 128 pixels."""
STRIPES = torch.tensor([1.0, -1.0]).repeat_interleave(4).repeat(3)
"""Over it, of which 16 pixels show nothing."""


@pytest.fixture(scope="module")
def generator() -> Generator:
    return stylegan.load(EMBEDDED)


@pytest.fixture(scope="module")
def faces(generator: Generator) -> Tensor:
    """Eight of the generator's faces, in [0, 1]."""
    z = torch.randn(8, generator.z_dim, generator=torch.Generator().manual_seed(11))
    w = generator.w_mean + 0.6 * (generator.mapping(z) - generator.w_mean)
    ws = w[:, None].expand(-1, generator.num_layers, -1)
    return ((generator.synthesis(ws) + 1) / 2).clamp(0, 1).detach()


def bent(faces: Tensor, far: float = 0.06) -> Tensor:
    """Faces whose outlines are elsewhere."""
    field = F.interpolate(
        torch.randn(len(faces), 2, 4, 4, generator=torch.Generator().manual_seed(2)),
        faces.shape[2:],
        mode="bicubic",
        align_corners=True,
    )
    line = torch.linspace(-1, 1, faces.shape[-1])
    grid = torch.stack(torch.meshgrid(line, line, indexing="xy"), -1) + far * field.movedim(1, 3)
    return F.grid_sample(faces, grid, padding_mode="reflection", align_corners=True)


def test_it_is_small() -> None:
    assert sum(p.numel() for p in MendingNetwork().parameters()) < 2_200_000
    assert mending.WEIGHTS.stat().st_size < 4_500_000


def test_a_new_one_adds_what_the_other_network_sees(faces: Tensor) -> None:
    other = faces.roll(1, 0)
    with torch.no_grad():
        mended = MendingNetwork()(faces, other, faces * 0.9)
    assert torch.allclose(mended, faces * 0.1 + other, atol=1e-6)


@pytest.mark.parametrize("size", [8, 16, 32, 64])
def test_what_is_near_becomes_a_match(size: int, generator: Generator, faces: Tensor) -> None:
    low = Bicubic(128, size)(faces)
    mend = mender(DegradeConfig(), generator, low.shape[-1])
    assert mend is not None
    mended = mend(bent(faces), low)
    assert mended.min() >= 0
    assert mended.max() <= 1
    assert (squared_error(Bicubic(128, size)(mended), low) < 1e-3).all()


def test_it_comes_nearer_to_the_face_than_back_projection(
    generator: Generator, faces: Tensor
) -> None:
    """By the features that photographs are compared with, since it is to look like one."""
    from pulse.superres.losses import load_features, perceptual_loss

    low, changed = Bicubic(128, 16)(faces), bent(faces, 0.1)
    mend = mender(DegradeConfig(), generator, low.shape[-1])
    assert mend is not None
    inverse = DegradeConfig().inverse(128, 16)
    assert inverse is not None
    projected = (changed + inverse(low - Bicubic(128, 16)(changed))).clamp(0, 1)
    features = load_features(None, "vanilla")
    with torch.no_grad():
        by_network = perceptual_loss(features, mend(changed, low), faces)
        assert by_network < 0.95 * perceptual_loss(features, projected, faces)


def test_what_lies_elsewhere_in_the_face_is_left_out(faces: Tensor) -> None:
    shown = faces * 0.9
    kept, seen = in_place(faces, faces, shown)
    assert torch.equal(kept, faces)
    assert torch.equal(seen, shown)
    astray = faces.clone()
    astray[MOUTH] = 1 - astray[MOUTH].round()  # About the mouth,
    astray[..., :12, :12] = 1 - astray[..., :12, :12].round()  # and in a corner.
    kept, seen = in_place(astray, faces, shown)
    mouth = slice(None), slice(None), slice(94, 98), slice(60, 68)
    assert torch.allclose(kept[mouth], faces[mouth], atol=1e-6)
    assert torch.allclose(seen[mouth], faces[mouth], atol=1e-6)
    assert torch.equal(kept[..., :12, :12], astray[..., :12, :12])
    assert torch.equal(kept[..., 32:64, :], faces[..., 32:64, :])
    assert torch.equal(seen[..., 32:64, :], shown[..., 32:64, :])
    # Some of what is a little astray is left.
    kept, _ = in_place(faces + 0.1, faces, shown)
    assert 0 < (kept - faces)[mouth].min() < (kept - faces)[mouth].max() < 0.0999


def test_skin_in_the_hair_beside_a_face_is_left_out(faces: Tensor) -> None:
    """As high as the mouth, not beside the brow, where hair is sharper as it is drawn."""
    haired = faces.clone()
    haired[..., 96:116] = 0.1
    patched = haired.clone()
    patched[..., 82:94, 100:108] = patched[..., 30:42, 100:108] = 0.5
    kept, _ = in_place(patched, haired, haired)
    assert (kept[..., 86:90, 102:106] < 0.15).all()
    assert torch.equal(kept[..., 30:42, :], patched[..., 30:42, :])


def test_of_a_dark_face_a_smaller_error_is_left_out(faces: Tensor) -> None:
    """As much is kept of a teeth-like pattern over the mouth when a lamp is dimmed."""
    striped = faces.clone()
    striped[MOUTH] += 0.15 * STRIPES

    def left(light: float) -> Tensor:
        kept, _ = in_place(striped * light, faces * light, faces * light)
        return (kept - faces * light)[MOUTH].abs().mean((1, 2, 3)) / light

    assert (left(1) < 0.7 * 0.15).all()
    assert (left(0.6) < 0.8 * 0.15).all()
    assert left(0.6).mean() < 1.35 * left(1).mean()
    # What is hardly seen is kept, or every shadow would be enlarged.
    assert torch.allclose(left(0.02), torch.full((len(faces),), 0.15), atol=1e-3)


def test_the_brightness_of_a_background_leaves_nothing_out(faces: Tensor) -> None:
    """Only that of the face says which errors are seen."""
    outside = face() == 0
    lit = torch.where(outside, torch.ones(()), faces)
    drawn = faces.clone()
    drawn[MOUTH] += 0.1
    kept, _ = in_place(drawn, faces, faces)
    inside, _ = in_place(torch.where(outside, torch.ones(()), drawn), lit, lit)
    assert torch.allclose(kept[MOUTH], inside[MOUTH], atol=1e-6)


def test_what_sixteen_pixels_do_not_show_is_taken_out_of_a_face(
    generator: Generator, faces: Tensor
) -> None:
    """Stripes over the mouth, of which the small picture shows nothing."""
    low, striped = Bicubic(128, 16)(faces), faces.clone()
    striped[MOUTH] = (striped[MOUTH] + 0.35 * STRIPES).clamp(0, 1)
    mouth = slice(None), slice(None), slice(90, 102), slice(54, 74)
    mend = mender(DegradeConfig(), generator, 16)
    assert mend is not None
    left = (mend(striped, low) - mend(faces, low))[mouth].abs().mean((1, 2, 3))
    assert (left < 0.35 * (striped - faces)[mouth].abs().mean((1, 2, 3))).all()


@pytest.mark.parametrize(
    ("size", "degrade"),
    [(32, DegradeConfig()), (16, DegradeConfig(blur=1)), (16, DegradeConfig(grey=True))],
)
def test_only_the_mean_of_faces_tells_what_lies_elsewhere(
    size: int,
    degrade: DegradeConfig,
    generator: Generator,
    faces: Tensor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    low = degrade.operator(128, size)(faces)
    mend, usual = mender(degrade, generator, size), mender(DegradeConfig(), generator, 16)
    assert mend is not None
    assert usual is not None
    changed = bent(faces, 0.1)
    as_it_is, leaving_out = mend(changed, low), usual(changed, Bicubic(128, 16)(faces))
    monkeypatch.setattr(mending, "ASTRAY", (1e3, 2e3))
    assert torch.equal(mend(changed, low), as_it_is)
    assert not torch.equal(usual(changed, Bicubic(128, 16)(faces)), leaving_out)


def test_a_face_is_the_same_in_any_company(generator: Generator, faces: Tensor) -> None:
    low = Bicubic(128, 16)(faces)
    mend = mender(DegradeConfig(), generator, low.shape[-1])
    assert mend is not None
    changed = bent(faces)
    assert torch.equal(mend(changed, low)[3:4], mend(changed[3:4], low[3:4]))


def test_a_mirrored_face_is_mended_alike(generator: Generator, faces: Tensor) -> None:
    low, changed = Bicubic(128, 16)(faces), bent(faces)
    mend = mender(DegradeConfig(), generator, low.shape[-1])
    assert mend is not None
    mirrored = mend(changed.flip(3), low.flip(3)).flip(3)
    assert torch.allclose(mirrored, mend(changed, low), atol=1e-3)


def test_a_larger_face_keeps_its_detail(generator: Generator, faces: Tensor) -> None:
    """What 128 pixels do not show is not changed."""
    large = F.interpolate(faces[:2], (512, 512), mode="bicubic").clamp(0.1, 0.9)
    detail = torch.randn(large.shape, generator=torch.Generator().manual_seed(1)) * 0.02
    detail = detail - F.interpolate(F.adaptive_avg_pool2d(detail, 128), (512, 512))
    low = Bicubic(512, 16)(large) * 0.95 + 0.02
    mend = mender(DegradeConfig(), generator, low.shape[-1])
    assert mend is not None
    difference = mend(large + detail, low) - mend(large, low)
    assert (difference - detail).abs().mean() < 1e-3
    assert (squared_error(Bicubic(512, 16)(mend(large, low)), low) < 1e-3).all()


def test_where_it_knows_nothing_it_does_nothing(generator: Generator, tiny: Generator) -> None:
    assert mender(DegradeConfig(), generator, 16) is not None
    assert mender(DegradeConfig(), tiny, 16) is None
    assert mender(DegradeConfig.parse("noise:0.05"), generator, 16) is None
    cats = Upscaler(generator, "stylegan2-afhqcat-512", "0" * 64)
    face, config = LRFace(0, torch.zeros(3, 16, 16)), SearchConfig(coarse=False, whiten=False)
    assert cats.known.aids(face, replace(config, precondition=False)).mending is None


def test_weights_are_read_as_they_were_written(tmp_path: Path, faces: Tensor) -> None:
    network = MendingNetwork().half().float().eval().requires_grad_(False)
    save(network, tmp_path / "a.safetensors")
    again = load(tmp_path / "a.safetensors")
    assert torch.equal(again(faces, faces, faces * 0.9), network(faces, faces, faces * 0.9))


class Plain:
    """Adds to every colour what its mean lacks."""

    reach = 0.15

    def __init__(self, share: float) -> None:
        self.share = share
        self.asked = 0

    def __call__(self, images: Tensor, target: Tensor) -> Tensor:
        self.asked += len(images)
        lacking = F.interpolate(target, images.shape[2:], mode="nearest") - images
        return images + self.share * lacking


def test_a_search_ends_where_it_can_be_mended(tiny: Generator) -> None:
    down = Bicubic(32, 8)
    target = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(0)) * 0.2 + 0.4
    config = SearchConfig(steps=40, tolerance=3e-3, tone=None)
    mend = Plain(1.0)
    *_, state = search(tiny, target, [0, 1], down, config, aids=Aids(mending=mend))
    assert mend.asked == 2
    assert state.status == (Status.FOUND, Status.FOUND)
    assert (state.drawn > config.tolerance).all()
    assert (state.drawn <= mend.reach).all()
    assert (state.best <= config.tolerance).all()
    assert torch.allclose(squared_error(down(state.images), target), state.best, atol=1e-7)
    assert torch.allclose(down(state.images), state.low, atol=1e-6)


def test_what_cannot_be_mended_is_searched_for_to_the_end(tiny: Generator) -> None:
    down = Bicubic(32, 8)
    w = tiny.mapping(torch.randn(1, tiny.z_dim, generator=torch.Generator().manual_seed(5)))
    image = (tiny.synthesis(w[:, None].expand(-1, tiny.num_layers, -1))[0] + 1) / 2
    target, config = down(image.clamp(0, 1)), SearchConfig(steps=30, tone=None)
    mend = Plain(0.0)
    *_, state = search(tiny, target, [0, 1], down, config, aids=Aids(mending=mend))
    *_, plain = search(tiny, target, [0, 1], down, replace(config, mend=False))
    assert mend.asked >= 2
    # On another way, since at first both were held more to what the generator draws.
    assert (state.best < mend.reach / 20).all()
    torch.testing.assert_close(state.best, plain.best, rtol=0.3, atol=0)
    assert torch.equal(state.drawn, state.best)

    # Without those weights it is the same way, and one step more for another look at its point.
    free = replace(config, geocross=0.0, strange=0.0)
    *_, state = search(tiny, target, [0, 1], down, free, aids=Aids(mending=Plain(0.0)))
    *_, plain = search(tiny, target, [0, 1], down, replace(free, mend=False, steps=29))
    assert torch.equal(state.images, plain.images)


class AtSecond(Plain):
    """Can do nothing when it is asked first."""

    def __call__(self, images: Tensor, target: Tensor) -> Tensor:
        self.share = 1.0 if self.asked else 0.0
        return super().__call__(images, target)


def test_who_begins_anew_can_be_mended_anew(tiny: Generator) -> None:
    down, target = Bicubic(32, 8), torch.full((3, 8, 8), 0.5)
    config = SearchConfig(steps=2, tolerance=1e-6, tone=None, time_limit=30)
    mend = AtSecond(0.0)
    mend.reach = 1.0
    *_, state = search(tiny, target, [0], down, config, aids=Aids(mending=mend))
    assert state.status == (Status.FOUND,)
    assert mend.asked == 2
    assert state.step < 10


def test_a_looser_tolerance_does_not_widen_what_is_mended(fitted: Path) -> None:
    upscaler, face = Upscaler.load(), LRFace(0, torch.rand(3, 16, 16) * 0.4 + 0.3)
    how = UpscaleConfig(1, search=SearchConfig(steps=2, tolerance=4e-3))
    *_, state = upscaler.search(face, how)
    assert (state.drawn > mending.REACH).all()
    assert state.status == (Status.NOT_CONVERGED,)


def unlike_any(upscaler: Upscaler) -> LRFace:
    """A small face with light and outlines of its own, far from what the generator draws."""
    w = upscaler.generator.mapping(torch.randn(1, 256, generator=torch.Generator().manual_seed(4)))
    ws = w[:, None].expand(-1, upscaler.generator.num_layers, -1)
    image = ((upscaler.generator.synthesis(ws) + 1) / 2).clamp(0, 1).detach()
    ramp = torch.linspace(0.5, 1.3, 128)
    return LRFace(0, Bicubic(128, 16)((bent(image) * ramp).clamp(0, 1))[0])


def test_who_can_be_mended_stays_nearer_to_what_the_generator_draws(fitted: Path) -> None:
    upscaler = Upscaler.load()
    face, far = unlike_any(upscaler), []
    for strange in (0.0, SearchConfig().strange):
        how = UpscaleConfig(2, search=SearchConfig(strange=strange))
        *_, state = upscaler.search(face, how)
        assert state.status == (Status.FOUND, Status.FOUND)
        far.append(upscaler.prior.strangeness(upscaler.prior.from_w(state.ws)))
    assert (far[1] < 0.7 * far[0]).all()


def test_a_tighter_tolerance_holds_no_more(fitted: Path) -> None:
    upscaler = Upscaler.load()
    face, steps = unlike_any(upscaler), []
    for tolerance in (1e-3, 1e-5):
        how = UpscaleConfig(2, search=SearchConfig(tolerance=tolerance))
        *_, state = upscaler.search(face, how)
        assert state.status == (Status.FOUND, Status.FOUND)
        steps.append(int(state.best_step.max()))
    assert steps[1] <= 1.5 * steps[0]


def test_a_face_that_the_generator_does_not_draw_is_found_soon(fitted: Path) -> None:
    upscaler = Upscaler.load()
    face = unlike_any(upscaler)
    *_, state = upscaler.search(face, UpscaleConfig(2, search=SearchConfig(steps=60)))
    assert state.status == (Status.FOUND, Status.FOUND)
    assert (state.drawn > 1e-3).all()
    assert state.exact is not None
    assert (state.exact < 1e-5).all()
    search_alone = SearchConfig(steps=60, mend=False, tone=None)
    *_, alone = upscaler.search(face, UpscaleConfig(2, search=search_alone))
    assert state.best_step.max() < alone.best_step.max()
