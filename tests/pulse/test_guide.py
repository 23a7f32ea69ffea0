"""The first search, for what a network makes of the small picture."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from pulse import guide
from pulse.faces.prepare import LRFace
from pulse.guide import Guide, completed
from pulse.imaging.degrade import Bicubic, DegradeConfig
from pulse.search import SearchConfig, Start, State, Status
from pulse.search import search as search_for
from pulse.search.losses import squared_error
from pulse.superres import mending
from pulse.upscale import UpscaleConfig, Upscaler

SMALL, LARGER, SIDE = 16, 32, 128


@pytest.fixture(scope="module")
def upscaler() -> Upscaler:
    return Upscaler.load(device="cpu")


@pytest.fixture(scope="module")
def images(upscaler: Upscaler) -> Tensor:
    """Six faces, lit from one side as none of the generator's is."""
    generator = upscaler.generator
    z = torch.randn(6, generator.z_dim, generator=torch.Generator().manual_seed(21))
    w = generator.w_mean + 0.8 * (generator.mapping(z) - generator.w_mean)
    with torch.no_grad():
        drawn = (generator.synthesis(w[:, None].expand(-1, generator.num_layers, -1)) + 1) / 2
    return (drawn * torch.linspace(0.5, 1.2, SIDE)).clamp(0, 1)


@pytest.fixture(scope="module")
def faces(images: Tensor) -> list[LRFace]:
    return [LRFace(index, low) for index, low in enumerate(Bicubic(SIDE, SMALL)(images))]


def guide_of(upscaler: Upscaler, face: LRFace, search: SearchConfig | None = None) -> Guide:
    found = Guide.of(upscaler.known, face, search or SearchConfig())
    assert found is not None
    return found


def test_the_larger_face_is_like_the_small_one_and_nearer_to_the_truth(
    upscaler: Upscaler, images: Tensor, faces: list[LRFace]
) -> None:
    larger = torch.stack([guide_of(upscaler, face).larger(face).low for face in faces])
    small = torch.stack([face.low for face in faces])
    assert larger.shape == (6, 3, LARGER, LARGER)
    assert larger.min() >= 0
    assert larger.max() <= 1
    assert (squared_error(Bicubic(LARGER, SMALL)(larger), small) < 1e-3).all()
    truth = Bicubic(SIDE, LARGER)(images)
    smooth = F.interpolate(small, (LARGER, LARGER), mode="bicubic").clamp(0, 1)
    assert squared_error(larger, truth).mean() < 0.7 * squared_error(smooth, truth).mean()


def test_where_to_start_is_found_as_cheaply(upscaler: Upscaler, faces: list[LRFace]) -> None:
    search = SearchConfig()
    plain = upscaler.known.aids(faces[0], search).levels
    larger = upscaler.known.aids(guide_of(upscaler, faces[0]).larger(faces[0]), search).levels
    assert [level.coarse for level in larger] == [level.coarse for level in plain]
    coarse = torch.rand(1, 3, larger[0].coarse.size, larger[0].coarse.size)
    assert larger[0].degrade(coarse).shape == (1, 3, LARGER, LARGER)


def test_of_the_nearest_draws_the_best_by_finer_maps_begins(
    upscaler: Upscaler, images: Tensor, faces: list[LRFace]
) -> None:
    """A search that may take no step stands where it began."""
    search, errors = SearchConfig(mend=False, exact=False, goal=1.0, tolerance=1.0), []
    for face in faces:
        larger = guide_of(upscaler, face).larger(face)
        degrade = larger.degrade.operator(SIDE, LARGER)
        aids = upscaler.known.aids(larger, search)
        for levels in (aids.levels, aids.levels[:1]):
            state = next(
                search_for(
                    upscaler.generator,
                    larger.low,
                    [7],
                    degrade,
                    search,
                    upscaler.prior,
                    aids=replace(aids, levels=levels),
                )
            )
            errors.append(float(state.best[0]))
    by_both, by_the_first = torch.tensor(errors).unflatten(0, (-1, 2)).unbind(1)
    assert by_both.mean() < by_the_first.mean()


@pytest.mark.parametrize("how", ["blur:0.8,bicubic", "box", "grey,bicubic"])
def test_what_was_degraded_otherwise_is_enlarged_as_it_is(
    how: str, upscaler: Upscaler, images: Tensor
) -> None:
    """As if it had been degraded to the larger size, so that the search compares like with like."""
    degrade = DegradeConfig.parse(how)
    errors = []
    for image in images:
        face = LRFace(0, degrade.operator(SIDE, SMALL)(image[None])[0], degrade=degrade)
        larger = guide_of(upscaler, face).larger(face)
        assert larger.degrade.blur == 2 * degrade.blur
        truth = larger.degrade.operator(SIDE, LARGER)(image[None])
        errors.append(squared_error(larger.low[None], truth))
    assert torch.cat(errors).mean() < 3e-3


def test_where_it_knows_nothing_there_is_none(
    upscaler: Upscaler, faces: list[LRFace], tmp_path: Path
) -> None:
    Image.new("L", (SMALL, SMALL), 255).save(tmp_path / "mask.png")
    mask = DegradeConfig(mask=tmp_path / "mask.png")
    usual = SearchConfig()
    for face, search in (
        (faces[0], replace(usual, guide=False)),
        (faces[0], replace(usual, mend=False)),
        (faces[0], replace(usual, stop=False)),
        (LRFace(0, torch.rand(3, 8, 8)), usual),
        (LRFace(0, torch.rand(3, 32, 32)), usual),
        (replace(faces[0], degrade=mask), usual),
        (replace(faces[0], degrade=DegradeConfig(noise=0.02)), usual),
        (replace(faces[0], degrade=DegradeConfig(jpeg=50)), usual),
    ):
        assert Guide.of(upscaler.known, face, search) is None
    cats = Upscaler(upscaler.generator, "stylegan2-afhqcat-512", "0" * 64, upscaler.prior)
    assert Guide.of(cats.known, faces[0], usual) is None


def test_both_searches_share_the_seconds(upscaler: Upscaler, faces: list[LRFace]) -> None:
    limited = guide_of(upscaler, faces[0], SearchConfig(time_limit=30))
    assert limited.search.time_limit is not None
    assert limited.rest.time_limit is not None
    assert limited.search.time_limit + limited.rest.time_limit == 30
    assert guide_of(upscaler, faces[0]).rest.time_limit is None


def state_of(images: Tensor, best: Sequence[float], low: Tensor | None = None) -> State:
    count, error = len(images), torch.tensor(best)
    return State(
        step=3,
        steps=100,
        error=error,
        images=images,
        low=Bicubic(SIDE, LARGER)(images) if low is None else low,
        ws=torch.arange(count)[:, None, None].expand(-1, 2, 4).float(),
        noise=(torch.zeros(count, 1, 4, 4),),
        best=error,
        drawn=error,
        best_step=torch.full((count,), 2),
        overflowed=error.isinf(),
        status=(Status.NOT_CONVERGED,) * count,
    )


def test_who_is_near_is_mended_for_the_small_face(
    upscaler: Upscaler, images: Tensor, faces: list[LRFace]
) -> None:
    """Rows: near, not yet near, overflowed."""
    tinted = (images[:1] * torch.tensor([1.1, 1.0, 0.9])[:, None, None]).clamp(0, 1)
    three = torch.cat([tinted, tinted, torch.zeros_like(tinted)])
    states = [
        state_of(three, [0.02, 0.03, torch.inf]),
        state_of(three, [guide.REACH / 2, 0.02, torch.inf]),
    ]
    target = faces[0].low
    before, after = guide_of(upscaler, faces[0]).followed(states, target)
    small = Bicubic(SIDE, SMALL)
    own = squared_error(small(tinted), target)
    assert own > 1e-3
    torch.testing.assert_close(before.drawn, torch.cat([own, own, torch.tensor([torch.inf])]))
    assert torch.equal(before.images, three)
    assert before.status == (Status.NOT_CONVERGED, Status.NOT_CONVERGED, Status.NONFINITE)
    assert after.status == (Status.FOUND, Status.NOT_CONVERGED, Status.NONFINITE)
    assert after.low.shape == (3, 3, SMALL, SMALL)
    torch.testing.assert_close(small(after.images), after.low)
    torch.testing.assert_close(squared_error(after.low[:2], target), after.best[:2])
    assert after.best[0] < 1e-3
    torch.testing.assert_close(after.drawn, before.drawn)
    assert torch.equal(after.images[1:], three[1:])


class Search:
    """A search that remembers where it was to start."""

    def __init__(self, state: State) -> None:
        self.state, self.seeds = state, list[int]()

    def __call__(self, start: Start) -> Iterator[State]:
        self.seeds += start.seeds
        yield self.state


def test_who_was_not_found_is_searched_for_without_it() -> None:
    """Of four the first was found, and of the others the third comes no nearer."""
    images = torch.linspace(0, 0.6, 7)[:, None, None, None].expand(-1, 3, SIDE, SIDE)
    first = state_of(images[:4], [1e-7, 5e-3, 2e-3, torch.inf])
    first = replace(first, status=(Status.FOUND, *first.status[1:]))
    others = replace(
        state_of(images[4:], [1e-8, 4e-3, 3e-3]),
        status=(Status.FOUND, Status.NOT_CONVERGED, Status.NOT_CONVERGED),
    )
    search = Search(others)
    shown, last = completed(first, Start([5, 6, 7, 8]), search)
    assert search.seeds == [6, 7, 8]
    assert torch.equal(shown.images, first.images)
    assert shown.step == last.step == 6
    torch.testing.assert_close(
        last.images[:, 0, 0, 0], torch.tensor([0.0, 0.4, 0.2, 0.6]), atol=1e-6, rtol=0
    )
    torch.testing.assert_close(last.best, torch.tensor([1e-7, 1e-8, 2e-3, 3e-3]))
    assert last.best_step.tolist() == [2, 5, 2, 5]
    assert last.status == (Status.FOUND, Status.FOUND, *(Status.NOT_CONVERGED,) * 2)


def test_where_all_were_found_nothing_follows() -> None:
    state = state_of(torch.zeros(2, 3, SIDE, SIDE), [1e-7, 1e-7])
    search = Search(state)
    found = replace(state, status=(Status.FOUND, Status.FOUND))
    assert list(completed(found, Start([1, 2]), search)) == []
    assert search.seeds == []


def test_candidates_are_nearer_to_what_the_face_may_have_been(
    upscaler: Upscaler, images: Tensor, faces: list[LRFace]
) -> None:
    far = []
    for with_guide in (True, False):
        search = SearchConfig(guide=with_guide)
        jobs = [(face, UpscaleConfig(2, search=search), face.index) for face in faces[:4]]
        truth = Bicubic(SIDE, LARGER)(images)
        for index, state, _ in upscaler.search_many(jobs):
            assert state.status == (Status.FOUND, Status.FOUND)
            assert (state.drawn > 1e-3).all()
            far.append(squared_error(Bicubic(SIDE, LARGER)(state.images), truth[index]).mean())
    assert torch.stack(far[:4]).mean() < 0.85 * torch.stack(far[4:]).mean()


def test_what_it_cannot_reach_is_found_as_without_it(
    upscaler: Upscaler, faces: list[LRFace], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guide, "REACH", 1e-9)
    monkeypatch.setattr("pulse.second_look.DOUBTED", 0.0)
    search = SearchConfig(steps=12)
    *_, plain = upscaler.search(
        faces[0], UpscaleConfig(2, search=replace(search, guide=False, goal=1e-6))
    )
    with_guide = UpscaleConfig(2, search=replace(search, goal=1e-6))
    *_, state = upscaler.search(faces[0], with_guide)
    assert torch.equal(state.images, plain.images)
    assert state.status == plain.status == (Status.FOUND, Status.FOUND)
    assert state.step == 12 + plain.step
    (many,) = upscaler.search_many([(faces[0], with_guide, None)])
    assert torch.equal(many[1].images, state.images)


def test_the_network_that_enlarges_is_asked_for_small_faces(upscaler: Upscaler) -> None:
    mender = upscaler.known.mender(LRFace(0, torch.zeros(3, SMALL, SMALL)), SearchConfig())
    assert mender is not None
    grey = torch.full((2, 3, mending.SMALL, mending.SMALL), 0.5)
    assert mender.enlarged(grey).shape == (2, 3, SIDE, SIDE)
