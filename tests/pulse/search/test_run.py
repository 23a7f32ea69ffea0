import itertools
import math
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor

import stylegan
from pulse.imaging.degrade import Bicubic
from pulse.search import (
    PAPER,
    PRESETS,
    Aids,
    Job,
    Level,
    SearchConfig,
    Start,
    State,
    Status,
    search,
    search_many,
)
from pulse.search.coarse import Coarse
from pulse.search.latent import LatentPrior
from pulse.search.losses import squared_error
from stylegan import Generator, Noise
from stylegan.stylegan2 import StyleGAN2

SHORT = SearchConfig(steps=15, draws=8, goal=0.0)


def face(generator: Generator, size: int, seed: int = 5) -> Tensor:
    """The downscaled picture of a random latent."""
    rng = torch.Generator().manual_seed(seed)
    w = generator.mapping(torch.randn(1, generator.z_dim, generator=rng))
    image = generator.synthesis(w[:, None].expand(-1, generator.num_layers, -1))
    return Bicubic(generator.resolution, size)((image[0].clamp(-1, 1) + 1) / 2)


def last(*arguments: object) -> State:
    return list(search(*arguments))[-1]  # type: ignore[arg-type]


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_comes_closer(preset: str, tiny: Generator) -> None:
    config = replace(PRESETS[preset], steps=30, tolerance=1e-6)
    states = list(search(tiny, face(tiny, 8), [0, 1], Bicubic(32, 8), config))
    assert [state.step for state in states] == list(range(31))
    assert (states[-1].best < 0.3 * states[0].best).all()
    for earlier, later in pairwise(states):
        assert (later.best <= earlier.best).all()


@pytest.mark.parametrize("config", [replace(SHORT, steps=8), replace(PAPER, steps=8)])
def test_a_candidate_is_the_same_alone_and_in_company(
    config: SearchConfig, tiny: Generator
) -> None:
    """To the last bit on a CPU with batches of one size; up to rounding with others."""
    target, degrade, prior = face(tiny, 8), Bicubic(32, 8), LatentPrior.fit(tiny)
    # Each step amplifies rounding, so the courses are compared where they begin.
    few = replace(config, steps=2)
    usual = last(tiny, target, [3, 4, 5], degrade, few, prior)
    for batch in (None, 1, 2, 3):
        company = last(tiny, target, [3, 4, 5], degrade, config, prior, batch)
        for i, seed in enumerate([3, 4, 5]):
            alone = last(tiny, target, [seed], degrade, config, prior, batch)
            assert torch.equal(company.images[i], alone.images[0])
            assert company.best[i] == alone.best[0]
        other = last(tiny, target, [3, 4, 5], degrade, few, prior, batch)
        assert (usual.images - other.images).abs().max() < 0.01


def test_company_may_have_other_targets(tiny: Generator) -> None:
    degrade = Bicubic(32, 8)
    targets = torch.stack([face(tiny, 8, 5), face(tiny, 8, 6)])
    together = last(tiny, targets, [1, 1], degrade, SHORT)
    alone = last(tiny, targets[1], [1], degrade, SHORT)
    assert torch.equal(together.images[1], alone.images[0])


@pytest.mark.parametrize("config", [replace(SHORT, tone=None), replace(PAPER, steps=15)])
def test_best_is_one_consistent_picture(config: SearchConfig, tiny: Generator) -> None:
    """Image, low image, latents, noise and error are all of the same step."""
    target, degrade = face(tiny, 8), Bicubic(32, 8)
    states = list(search(tiny, target, [0, 1, 2], degrade, config))
    state = states[-1]
    again = ((tiny.synthesis(state.ws, list(state.noise)) + 1) / 2).clamp(0, 1)
    torch.testing.assert_close(again, state.images, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(degrade(state.images), state.low, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(squared_error(state.low, target), state.best)
    for i, step in enumerate(state.best_step.tolist()):
        assert states[step].error[i] == state.best[i]


def test_the_same_seed_gives_the_same_face_and_another_seed_another(tiny: Generator) -> None:
    target, degrade = face(tiny, 8), Bicubic(32, 8)
    one, same = (last(tiny, target, [0], degrade, SHORT) for _ in range(2))
    other = last(tiny, target, [1], degrade, SHORT)
    assert torch.equal(one.images, same.images)
    assert (one.images - other.images).abs().mean() > 0.01


def test_no_global_randomness_is_touched(tiny: Generator) -> None:
    before = torch.get_rng_state()
    last(tiny, face(tiny, 8), [0], Bicubic(32, 8), SHORT)
    assert torch.equal(torch.get_rng_state(), before)


def test_candidates_that_reach_the_goal_stop_and_the_search_ends(tiny: Generator) -> None:
    target, degrade = face(tiny, 8), Bicubic(32, 8)
    config = SearchConfig(steps=200, draws=8, tolerance=0.02, goal=0.5)
    states = list(search(tiny, target, [0, 1, 2], degrade, config))
    state = states[-1]
    assert state.step < 200
    assert state.status == (Status.FOUND,) * 3
    assert (state.best <= 0.01).all()
    assert state.best_step.max() == state.step


def test_the_paper_takes_every_step_and_keeps_the_last_picture_in_tolerance(
    tiny: Generator,
) -> None:
    config = replace(PAPER, steps=20, tolerance=1.0)
    state = last(tiny, face(tiny, 8), [0, 1], Bicubic(32, 8), config)
    assert state.step == 20
    assert state.best_step.tolist() == [20, 20]


def test_statuses(tiny: Generator) -> None:
    target, degrade = face(tiny, 8), Bicubic(32, 8)
    missed = last(tiny, target, [0], degrade, replace(SHORT, steps=1, tolerance=1e-9))
    assert missed.status == (Status.NOT_CONVERGED,)
    met = last(tiny, target, [0], degrade, replace(SHORT, steps=1, tolerance=1.0))
    assert met.status == (Status.FOUND,)
    assert all(status.advice.endswith(".") for status in Status)


class Overflowing:
    """A generator that overflows at one picture of one call."""

    def __init__(self, inner: Generator, call: int, picture: int = 1) -> None:
        self.inner, self.calls_left, self.picture = inner, call, picture
        self.resolution, self.z_dim, self.w_dim = inner.resolution, inner.z_dim, inner.w_dim
        self.num_layers, self.noise_shapes = inner.num_layers, inner.noise_shapes
        self.feature_sizes, self.features = inner.feature_sizes, inner.features
        self.precision = inner.precision
        self.w_mean, self.device = inner.w_mean, inner.device
        self.mapping = inner.mapping

    def synthesis(self, ws: Tensor, noise: Noise = None) -> Tensor:
        images = self.inner.synthesis(ws, noise)
        self.calls_left -= 1
        if self.calls_left != -1:
            return images
        factor = torch.ones(len(images), 1, 1, 1)
        factor[self.picture] = math.nan
        return images * factor


@pytest.mark.parametrize("config", [replace(SHORT, draws=0), replace(PAPER, steps=15)])
def test_an_overflow_touches_that_candidate_only(config: SearchConfig, tiny: Generator) -> None:
    """Adam gives it up with its best so far; the line search takes the step back and goes on."""
    target, degrade = face(tiny, 8), Bicubic(32, 8)
    config = replace(config, tolerance=1e-9)
    broken = last(Overflowing(tiny, 5), target, [0, 1, 2], degrade, config)
    sound = last(tiny, target, [0, 1, 2], degrade, config)
    assert broken.images.isfinite().all()
    if config.optimiser == "adam":
        assert broken.status[1] == Status.NONFINITE
        assert broken.best_step[1] <= 4
    else:
        assert broken.status[1] == Status.NOT_CONVERGED
        assert broken.best_step[1] > 5
    assert broken.status[0] == broken.status[2] == Status.NOT_CONVERGED
    for i in (0, 2):
        assert torch.equal(broken.images[i], sound.images[i])


def test_an_overflow_from_the_start_is_reported(tiny: Generator) -> None:
    config = replace(SHORT, draws=0)
    state = last(Overflowing(tiny, 0), face(tiny, 8), [0, 1, 2], Bicubic(32, 8), config)
    assert state.status[1] == Status.NONFINITE
    assert state.best[1].isinf()
    assert state.images.isfinite().all()


def test_a_draw_that_overflows_is_not_the_nearest(tiny: Generator) -> None:
    config = replace(SHORT, steps=1)
    nearest = last(tiny, face(tiny, 8), [0], Bicubic(32, 8), replace(config, draws=2))
    state = last(Overflowing(tiny, 0), face(tiny, 8), [0], Bicubic(32, 8), replace(config, draws=2))
    # One of the two draws was lost, but not the candidate.
    assert nearest.status == (Status.NOT_CONVERGED,)
    assert state.status == (Status.NOT_CONVERGED,)


@pytest.mark.gpu
def test_on_a_gpu(tiny: Generator) -> None:
    assert isinstance(tiny, StyleGAN2)
    target, degrade = face(tiny, 8), Bicubic(32, 8)
    on_cpu = last(tiny, target, [0, 1], degrade, SHORT)
    on_gpu = last(tiny.to("cuda"), target, [0, 1], degrade, SHORT)
    assert on_gpu.images.device.type == "cuda"
    torch.testing.assert_close(on_gpu.best.cpu(), on_cpu.best, rtol=0.5, atol=1e-4)


@pytest.mark.parametrize(
    "change", [{"steps": 0}, {"tolerance": 0.0}, {"tolerance": math.nan}, {"tolerance": 1e38}]
)
def test_impossible_settings_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"at least one step|at most 1"):
        SearchConfig(**change)  # type: ignore[arg-type]


def test_it_comes_closer_and_sooner_than_the_paper_s_recipe(tiny: Generator) -> None:
    target, degrade = face(tiny, 8), Bicubic(32, 8)
    config = SearchConfig(tolerance=3e-3)
    ours = last(tiny, target, [0, 1], degrade, config)
    paper = last(tiny, target, [0, 1], degrade, replace(PAPER, tolerance=3e-3))
    assert ours.status == (Status.FOUND,) * 2
    assert ours.best.median() < paper.best.median()
    assert ours.step <= paper.step


@pytest.mark.slow
def test_the_embedded_generator_finds_its_own_faces() -> None:
    """Better and sooner than the paper's recipe, on faces that it can draw for certain."""
    generator = stylegan.load(stylegan.EMBEDDED)
    degrade = Bicubic(generator.resolution, 16)
    for seed in (1, 2):
        target = face(generator, 16, seed)
        ours = last(generator, target, [0, 1], degrade, SearchConfig())
        closer = last(generator, target, [0, 1], degrade, SearchConfig(goal=0.3))
        paper = last(generator, target, [0, 1], degrade, PAPER)
        assert ours.status == closer.status == (Status.FOUND,) * 2
        assert closer.best.median() < paper.best.median()
        assert ours.step <= closer.step <= paper.step


def levels_of(generator: Generator, size: int, sizes: list[int]) -> list[Level]:
    prior = LatentPrior.fit(generator, 1000)
    maps = Coarse.fit(generator, prior, sizes)
    return [Level(one, Bicubic(one.size, size)) for one in maps]


class Counting:
    """How many pictures are drawn, with gradients or without, and to the end or not."""

    def __init__(self, inner: Generator) -> None:
        self.inner, self.whole, self.early, self.slopes = inner, 0, 0, 0

    def __getattr__(self, name: str) -> object:
        return getattr(self.inner, name)

    def synthesis(self, ws: Tensor, noise: Noise = None) -> Tensor:
        self.whole += len(ws)
        self.slopes += len(ws) * torch.is_grad_enabled()
        return self.inner.synthesis(ws, noise)

    def features(self, ws: Tensor, noise: Noise, size: int) -> Tensor:
        self.early += len(ws)
        return self.inner.features(ws, noise, size)


def test_coarse_levels_save_passes_of_the_whole(tiny: Generator) -> None:
    target, degrade = face(tiny, 4), Bicubic(32, 4)
    levels = levels_of(tiny, 4, [8, 16])
    config = SearchConfig(steps=60, tolerance=1e-3, tone=None)

    def run(levels: list[Level]) -> tuple[State, Counting]:
        counting = Counting(tiny)
        state = last(counting, target, [0, 1], degrade, config, None, 1, Aids(levels))
        return state, counting

    plain, all_whole = run([])
    state, some = run(levels)
    assert state.status == plain.status == (Status.FOUND,) * 2
    assert some.early > 0
    assert all_whole.early == 0
    assert some.whole < 0.3 * all_whole.whole
    # What is reported is the real picture, not the coarse one.
    again = ((tiny.synthesis(state.ws, list(state.noise)) + 1) / 2).clamp(0, 1)
    torch.testing.assert_close(squared_error(degrade(again), target), state.best)


def test_a_coarse_level_that_misleads_is_left(tiny: Generator) -> None:
    """Its gradients point anywhere; then the generator itself is searched on."""
    target, degrade = face(tiny, 8), Bicubic(32, 8)
    (level,) = levels_of(tiny, 8, [16])
    wrong = replace(level.coarse, weight=-3 * level.coarse.weight)
    config = SearchConfig(steps=80, tolerance=2e-3, tone=None)
    misled = last(
        tiny, target, [0, 1], degrade, config, None, None, Aids([replace(level, coarse=wrong)])
    )
    assert misled.status == (Status.FOUND,) * 2


def test_coarse_steps_choose_where_to_start(tiny: Generator) -> None:
    """From some starts a few of them lead nearer than from the one that is nearest at first."""
    target, degrade = face(tiny, 4), Bicubic(32, 4)
    config = SearchConfig(steps=1, draws=8)
    seeds = list(range(10))

    def started(aids: Aids) -> Tensor:
        return next(iter(search(tiny, target, seeds, degrade, config, aids=aids))).best

    raced = started(Aids(levels_of(tiny, 4, [16])))
    assert raced.mean() < 0.5 * started(Aids()).mean()


def test_the_coarse_picture_has_the_colours_that_can_be_saved(tiny: Generator) -> None:
    (level,) = levels_of(tiny, 4, [16])
    bright = replace(level, coarse=replace(level.coarse, bias=level.coarse.bias + 1))
    ws = tiny.mapping(torch.randn(2, tiny.z_dim))[:, None].expand(-1, tiny.num_layers, -1)
    images = (bright.coarse.draw(tiny, ws, None) + 1) / 2
    assert images.max() > 1
    assert torch.equal(bright.low(tiny, ws, None), level.degrade(images.clamp(0, 1)))


@pytest.mark.parametrize("sizes", [[], [8]])
def test_candidates_of_many_targets_become_what_they_would_alone(
    sizes: list[int], tiny: Generator
) -> None:
    """To the last bit on a CPU, though those that are done give their places to others."""
    degrade, aids = Bicubic(32, 4), Aids(levels_of(tiny, 4, sizes))
    config = SearchConfig(steps=25, tolerance=0.02)
    targets = [face(tiny, 4, seed) for seed in range(5)]
    jobs = [Job(target, [7, 8, 9], number) for number, target in enumerate(targets)]
    prior = LatentPrior.fit(tiny)
    found = {
        number: state
        for number, state, _ in search_many(tiny, iter(jobs), 4, degrade, config, prior, 2, aids)
    }
    assert sorted(found) == [0, 1, 2, 3, 4]
    assert len({state.step for state in found.values()}) > 1  # They end at different times.
    for number, target in enumerate(targets):
        alone = last(tiny, target, [7, 8, 9], degrade, config, prior, 2, aids)
        assert torch.equal(found[number].images, alone.images)
        assert torch.equal(found[number].best, alone.best)
        assert found[number].status == alone.status


def test_jobs_are_taken_only_when_there_is_room(tiny: Generator) -> None:
    taken = 0

    def jobs() -> Iterator[Job[int]]:
        nonlocal taken
        for seed in range(100):
            taken += 1
            yield Job(face(tiny, 4, seed), [0], seed)

    config = SearchConfig(steps=2, draws=2)
    done = search_many(tiny, jobs(), 4, Bicubic(32, 4), config, None, 2)
    for finished, _ in enumerate(itertools.islice(done, 20)):
        assert taken <= finished + 5  # Twice a batch of two.


def test_while_time_lasts_a_miss_begins_anew(tiny: Generator) -> None:
    target, degrade = face(tiny, 8), Bicubic(32, 8)
    config = SearchConfig(steps=3, draws=2, tolerance=1e-9)
    once = last(tiny, target, [0], degrade, config)
    start = time.monotonic()
    longer = last(tiny, target, [0], degrade, replace(config, time_limit=1.5))
    passed = time.monotonic() - start
    assert longer.step > 12  # Several attempts of three steps,
    assert longer.best <= once.best  # of which the best is kept.
    assert 1.5 <= passed < 15
    assert longer.step <= longer.steps


def test_time_limits_do_not_hold_up_what_is_found(tiny: Generator) -> None:
    config = SearchConfig(steps=30, draws=8, tolerance=0.5, time_limit=600)
    state = last(tiny, face(tiny, 8), [0], Bicubic(32, 8), config)
    assert state.status == (Status.FOUND,)


def test_the_paper_s_recipe_has_one_attempt_in_any_time(tiny: Generator) -> None:
    config = replace(PAPER, steps=3, tolerance=1e-9, time_limit=600)
    assert last(tiny, face(tiny, 8), [0], Bicubic(32, 8), config).step == 3


def test_a_search_goes_on_where_another_ended(tiny: Generator) -> None:
    target, degrade = face(tiny, 8), Bicubic(32, 8)
    before = last(tiny, target, [0, 1], degrade, SHORT)
    states = list(search(tiny, target, Start.after(before, [5, 6]), degrade, SHORT))
    torch.testing.assert_close(states[0].best, before.best, rtol=1e-3, atol=1e-7)
    torch.testing.assert_close(states[0].images, before.images, rtol=1e-3, atol=1e-4)
    assert (states[-1].best < 0.9 * before.best).all()
    # The next target of a film is much like the last: from there it is near.
    moved = degrade((before.images[:1] * 0.98).clamp(0, 1))[0]
    (from_there,) = next(iter(search(tiny, moved, Start.after(before, [5, 6]), degrade))).best[:1]
    (drawn,) = next(iter(search(tiny, moved, [5], degrade))).best
    assert from_there < 0.1 * drawn
    with pytest.raises(ValueError, match="for each of its seeds"):
        Start([1], before.ws)


def test_a_start_carried_over_still_begins_anew_elsewhere(tiny: Generator) -> None:
    target, degrade = face(tiny, 8), Bicubic(32, 8)
    before = last(tiny, face(tiny, 8, 77), [0], degrade, SHORT)
    config = SearchConfig(steps=2, draws=2, tolerance=1e-9, time_limit=1.0)
    states = list(search(tiny, target, Start.after(before, [3]), degrade, config))
    assert states[-1].step > 6
    errors = [float(state.error) for state in states]
    assert len({round(error, 7) for error in errors[::3]}) > 2
