from dataclasses import replace

import torch

from pulse.imaging.degrade import Bicubic
from pulse.search.best import Best
from pulse.search.latent import LatentPrior
from pulse.search.losses import geocross, squared_error
from pulse.search.objective import Objective
from stylegan import Generator


def test_loss_and_gradients_are_those_written_out(tiny: Generator) -> None:
    prior, degrade = LatentPrior.fit(tiny), Bicubic(32, 8)
    objective = Objective(tiny, prior, degrade, geocross=0.05)
    v = prior.on_sphere(torch.randn(2, tiny.num_layers, tiny.w_dim)).requires_grad_()
    noise = [torch.randn(2, 1, *shape) for shape in tiny.noise_shapes]
    target = torch.rand(2, 3, 8, 8)
    images, loss, (by_v, by_noise) = objective.at([v, noise[0]], noise[1:], target, 0.0)

    expected = (tiny.synthesis(prior.to_w(v), noise) + 1) / 2
    error = squared_error(degrade(expected.clamp(0, 1)), target)
    written = 100 * error + 0.05 * geocross(v)
    torch.testing.assert_close(images, expected.detach())
    torch.testing.assert_close(loss, written.detach())
    (gradient,) = torch.autograd.grad(written.sum(), v)
    torch.testing.assert_close(by_v, gradient)
    assert by_noise.shape == noise[0].shape
    assert v.grad is None

    # Who may leave more is held more: the first by nothing, the second by three tolerances.
    ours, spare = replace(objective, strange=0.1), torch.tensor([0.0, 3.0])
    _, loss, (by_v, _) = ours.at([v, noise[0]], noise[1:], target, 0.0, spare=spare)
    more = spare * (0.05 * geocross(v) + 0.1 * prior.strangeness(v))
    torch.testing.assert_close(loss, (written + more).detach())
    (of_more,) = torch.autograd.grad(more.sum(), v)
    torch.testing.assert_close(by_v, gradient + of_more)
    assert not of_more[0].any()

    # Below the floor GEOCROSS alone has a gradient.
    _, _, (only, nothing) = objective.at([v, noise[0]], noise[1:], target, 1.0)
    (gradient,) = torch.autograd.grad(0.05 * geocross(v).sum(), v)
    torch.testing.assert_close(only, gradient)
    assert not nothing.any()


def test_candidates_do_not_see_each_other(tiny: Generator) -> None:
    prior = LatentPrior.fit(tiny)
    objective = Objective(tiny, prior, Bicubic(32, 8), geocross=0.05)
    v = prior.on_sphere(torch.randn(3, tiny.num_layers, tiny.w_dim))
    noise = [torch.randn(3, 1, *shape) for shape in tiny.noise_shapes]
    target = torch.rand(3, 3, 8, 8)
    _, loss, (gradient,) = objective.at([v], noise, target, 0.0)
    _, alone, (by_itself,) = objective.at([v[1:2]], [x[1:2] for x in noise], target[1:2], 0.0)
    torch.testing.assert_close(loss[1:2], alone, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(gradient[1:2], by_itself, rtol=1e-3, atol=1e-5)


def test_the_best_is_of_one_step_in_all_its_parts() -> None:
    def of(value: float, *shape: int) -> torch.Tensor:
        return torch.full((2, *shape), value)

    shapes = (3, 4, 4), (3, 2, 2), (5, 6), (1, 4, 4)
    best = Best(of(0.0, 3, 4, 4), of(0.0, 3, 2, 2), of(0.0, 5, 6), [of(0.0, 1, 4, 4)], goal=0.1)

    def offer(step: int, errors: tuple[float, float]) -> None:
        images, low, ws, noise = (of(float(step), *shape) for shape in shapes)
        index, steps = torch.arange(2), torch.tensor([step, step])
        error = torch.tensor(errors)
        best.offer(index, steps, error=error, images=images, low=low, ws=ws, noise=[noise])

    offer(0, (torch.inf, 0.9))  # The first is kept, whatever it is;
    offer(1, (0.5, torch.inf))  # a broken one later is not,
    offer(2, (0.6, 0.05))  # nor a worse one.
    offer(3, (0.5, 0.09))  # As good is newer, and below the goal all are as good.
    assert best.step.tolist() == [3, 3]
    torch.testing.assert_close(best.error, torch.tensor([0.5, 0.09]))
    for kept in (best.images, best.low, best.ws, *best.noise):
        assert (kept == 3).all()
    best.forget(torch.tensor([1]))
    offer(0, (0.7, 0.8))
    assert best.step.tolist() == [3, 0]
