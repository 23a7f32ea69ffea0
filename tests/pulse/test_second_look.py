"""Candidates that match but are hardly plausible begin anew, and give way to what is."""

from collections import deque
from collections.abc import Iterator, Sequence

import pytest
import torch
from torch import Tensor

from pulse.faces import plausibility
from pulse.faces.prepare import LRFace
from pulse.imaging.degrade import Bicubic
from pulse.search import SearchConfig, Start, State, Status
from pulse.second_look import ELSEWHERE, second_look
from pulse.upscale import UpscaleConfig, Upscaler


class ByBrightness:
    """A judge to whom the brightest picture is the most plausible."""

    def plausibility(self, images: Tensor) -> Tensor:
        return (images.mean((1, 2, 3)) + 1) / 2


@pytest.fixture
def by_brightness(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plausibility, "load", ByBrightness)


def ended(brightness: Sequence[float], drawn: float = 5e-3, best: float = 1e-9) -> State:
    """A search that ended after three steps, with pictures of one colour each."""
    count = len(brightness)
    images = torch.tensor(brightness)[:, None, None, None].expand(-1, 3, 8, 8).clone()
    error = torch.full((count,), best)
    return State(
        step=3,
        steps=100,
        error=error,
        images=images,
        low=images[:, :, :2, :2].clone(),
        ws=images[:, :2, :2, 0].clone(),
        noise=(images[:, :1].clone(),),
        best=error,
        drawn=torch.full((count,), drawn),
        best_step=torch.full((count,), 2),
        overflowed=torch.zeros(count, dtype=torch.bool),
        status=(Status.FOUND if best < 1e-3 else Status.NOT_CONVERGED,) * count,
    )


class Again:
    """A second search, which remembers what it was asked for."""

    def __init__(self, state: State) -> None:
        self.state, self.seeds = state, list[int]()

    def __call__(self, start: Start) -> Iterator[State]:
        self.seeds += start.seeds
        yield self.state


@pytest.mark.usefixtures("by_brightness")
def test_what_is_plausible_takes_the_place_of_what_is_not() -> None:
    first, again = ended([0.002, 0.5, 0.004, 0.003]), Again(ended([0.8, 0.001, 0.006]))
    *_, last = second_look(first, (10, 11, 12, 13), again)
    assert again.seeds == [10 + ELSEWHERE, 12 + ELSEWHERE, 13 + ELSEWHERE]
    for part in (last.images, last.low, last.noise[0]):
        torch.testing.assert_close(part[:, 0, 0, 0], torch.tensor([0.8, 0.5, 0.004, 0.003]))
    assert last.ws[:, 0, 0].tolist() == last.images[:, 0, 0, 0].tolist()
    assert last.best_step.tolist() == [5, 2, 2, 2]
    assert (last.step, last.steps) == (6, 100)
    assert first.images[0].max() < 0.01, "the state that was given has changed"


@pytest.mark.usefixtures("by_brightness")
def test_until_then_the_first_ones_are_shown() -> None:
    first, *_ = second_look(ended([0.002, 0.5]), (1, 2), Again(ended([0.8])))
    assert first.images[0].max() < 0.01
    assert first.step == 6


@pytest.mark.usefixtures("by_brightness")
def test_a_second_one_that_does_not_match_is_not_taken() -> None:
    first = ended([0.002])
    *_, last = second_look(first, (1,), Again(ended([0.8], best=5e-3)))
    torch.testing.assert_close(last.images, first.images)


@pytest.mark.usefixtures("by_brightness")
@pytest.mark.parametrize(
    "state",
    [
        pytest.param(ended([0.5, 0.9]), id="all plausible"),
        pytest.param(ended([0.001], drawn=1e-9), id="matched without mending"),
        pytest.param(ended([0.001], best=5e-3), id="not found"),
    ],
)
def test_nothing_else_begins_anew(state: State) -> None:
    again = Again(state)
    assert list(second_look(state, (1, 2)[: len(state.status)], again)) == []
    assert again.seeds == []


def test_many_faces_get_the_second_look_that_one_gets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every candidate is doubted, so that all begin anew, and half of them are taken."""
    monkeypatch.setattr("pulse.second_look.DOUBTED", 1.1)
    monkeypatch.setattr("pulse.second_look.BETTER", 0.0)
    upscaler = Upscaler.load(device="cpu")
    w = torch.randn(2, upscaler.generator.z_dim, generator=torch.Generator().manual_seed(4))
    ws = upscaler.generator.mapping(w)[:, None].expand(-1, upscaler.generator.num_layers, -1)
    with torch.no_grad():
        drawn = (upscaler.generator.synthesis(ws).clamp(-1, 1) + 1) / 2
    faces = [LRFace(index, low) for index, low in enumerate(Bicubic(128, 16)(drawn))]
    config = UpscaleConfig(2, seed=5)
    anew = [deque(upscaler.search(face, config), maxlen=1)[0].images for face in faces]
    shares = plausibility.load().plausibility(torch.cat(anew) * 2 - 1).sort().values
    assert shares[1] < shares[2], "none is better than another"
    monkeypatch.setattr("pulse.second_look.BETTER", float(shares[1:3].mean()))
    alone = [deque(upscaler.search(face, config), maxlen=1)[0] for face in faces]
    many = {
        tag: state
        for tag, state, _ in upscaler.search_many((face, config, face.index) for face in faces)
    }
    replaced = 0
    once = UpscaleConfig(2, seed=5, search=SearchConfig(time_limit=60))
    for face, state in zip(faces, alone, strict=True):
        assert torch.equal(many[face.index].images, state.images)
        (first,) = deque(upscaler.search(face, once), maxlen=1)
        assert first.step < state.step, "one of a time limit was looked at again"
        replaced += int((state.ws != first.ws).flatten(1).any(1).sum())
    assert replaced == 2, "begun anew is not begun elsewhere"
