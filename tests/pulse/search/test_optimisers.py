from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import LbfgsInvHessProduct
from torch import Tensor

from pulse.search import optimisers
from pulse.search.optimisers import (
    Optimiser,
    SphericalAdam,
    SphericalLBFGS,
    linear1cycledrop,
)


def make(kind: str, point: list[Tensor]) -> Optimiser:
    return SphericalAdam(point, 0.1, 60) if kind == "adam" else SphericalLBFGS(point)


def problem(n: int) -> tuple[list[Tensor], list[Tensor]]:
    """Start and goal on spheres of latents and of noise."""
    rng = torch.Generator().manual_seed(1)
    shapes = [(n, 4, 32), (n, 1, 4, 4)]
    start = [torch.randn(shape, generator=rng) for shape in shapes]
    goal = [torch.randn(shape, generator=rng) for shape in shapes]
    return start, goal


def descend(
    optimiser: Optimiser, goal: list[Tensor], steps: int, active: Tensor | None = None
) -> Tensor:
    """Minimise an ill-conditioned distance to the goal; the losses at the last point."""
    loss = torch.empty(0)
    for _ in range(steps + 1):
        point = [x.clone().requires_grad_() for x in optimiser.point]
        scale = torch.linspace(0.1, 3, point[0].shape[-1])
        loss = ((point[0] - goal[0]) * scale).square().sum((1, 2))
        loss = loss + (point[1] - goal[1]).square().sum((1, 2, 3))
        gradients = list(torch.autograd.grad(loss.sum(), point))
        everyone = torch.ones(len(loss), dtype=torch.bool)
        optimiser.step(loss.detach(), gradients, everyone if active is None else active)
    return loss.detach()


def test_adam_takes_the_originals_steps(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reference = np.load(shared / "fixtures" / "pulse-method.npz")
    target = torch.from_numpy(reference["spherical_target"])
    start = torch.from_numpy(reference["spherical_start"])
    monkeypatch.setattr(optimisers, "linear1cycledrop", lambda progress: 1.0)
    adam = SphericalAdam([start], float(reference["spherical_lr"]), 5)
    for expected in torch.from_numpy(reference["spherical_trajectory"]):
        (x,) = adam.point
        gradient = 2 * (x.detach() - target)
        loss = (x.detach() - target).square().sum((1, 2))
        adam.step(loss, [gradient], torch.ones(len(loss), dtype=torch.bool))
        torch.testing.assert_close(adam.point[0], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["adam", "lbfgs"])
def test_norms_are_kept_and_the_loss_falls(kind: str) -> None:
    start, goal = problem(3)
    optimiser = make(kind, start)
    first = descend(make(kind, start), goal, 0)
    last = descend(optimiser, goal, 59)
    assert (last < 0.5 * first).all()
    for x, old, dims in zip(optimiser.point, start, [(2,), (2, 3)], strict=True):
        torch.testing.assert_close(
            x.square().sum(dims).sqrt(), old.square().sum(dims).sqrt(), rtol=1e-4, atol=1e-4
        )


@pytest.mark.parametrize("kind", ["adam", "lbfgs"])
def test_candidates_do_not_see_each_other(kind: str) -> None:
    start, goal = problem(3)
    together = make(kind, start)
    descend(together, goal, 20)
    for i in range(3):
        alone = make(kind, [x[i : i + 1] for x in start])
        descend(alone, [x[i : i + 1] for x in goal], 20)
        for x, y in zip(together.point, alone.point, strict=True):
            torch.testing.assert_close(x[i : i + 1], y, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ["adam", "lbfgs"])
def test_who_is_not_active_stands_still(kind: str) -> None:
    start, goal = problem(3)
    optimiser = make(kind, start)
    descend(optimiser, goal, 5)
    before = [x.clone() for x in optimiser.point]
    descend(optimiser, goal, 5, torch.tensor([True, False, True]))
    for x, old in zip(optimiser.point, before, strict=True):
        assert torch.equal(x[1], old[1])
        assert not torch.equal(x[0], old[0])


def test_curvature_pays() -> None:
    start, goal = problem(4)
    reached = descend(SphericalLBFGS(start), goal, 60)
    converged = descend(SphericalLBFGS(start), goal, 400)
    by_adam = descend(SphericalAdam(start, 0.1, 60), goal, 60)
    assert (reached - converged < 0.1 * (by_adam - converged)).all()


def test_a_scale_that_fits_saves_steps() -> None:
    """The inverse of the quadratic's diagonal, bounded as `pulse.search.curvature` bounds it."""
    start, far = problem(4)
    goal = [x + 0.5 * y for x, y in zip(start, far, strict=True)]  # So that the spheres are flat.
    diagonal = torch.linspace(0.1, 3, 32).square()
    latent = 1 / (diagonal / diagonal.mean() + 0.1)
    scale = [latent.expand(4, 32), (1 / (1 / diagonal.mean() + 0.1)).expand(1, 4, 4)]
    plain, scaled = SphericalLBFGS(start), SphericalLBFGS(start, scale)
    converged = descend(SphericalLBFGS(start), goal, 400)
    by_plain = descend(plain, goal, 12) - converged
    by_scaled = descend(scaled, goal, 12) - converged
    assert (by_scaled < 0.5 * by_plain).all()
    for x, first in zip(scaled.point, start, strict=True):
        dims = tuple(range(2, x.ndim))
        torch.testing.assert_close(x.square().sum(dims), first.square().sum(dims))


def test_a_scale_of_ones_changes_nothing() -> None:
    start, goal = problem(2)
    plain, same = (
        SphericalLBFGS(start),
        SphericalLBFGS(start, [torch.ones_like(x[0]) for x in start]),
    )
    assert torch.equal(descend(plain, goal, 20), descend(same, goal, 20))


def test_going_back_keeps_what_is_known_of_the_curvature() -> None:
    """The second time as many steps lead further, and the other stays where it is."""
    start, goal = problem(2)
    optimiser = SphericalLBFGS(start)
    before = descend(optimiser, goal, 10)
    first, second = torch.tensor([True, False]), torch.tensor([False, True])
    ended = [x[1] for x in optimiser.base]
    optimiser.reopen(first, start)
    for x, begun in zip(optimiser.point, start, strict=True):
        torch.testing.assert_close(x[0], begun[0] * x[0].norm() / begun[0].norm())
    after = descend(optimiser, goal, 10, first)
    assert after[0] < before[0]
    assert all(torch.equal(x[1], end) for x, end in zip(optimiser.base, ended, strict=True))
    assert descend(optimiser, goal, 1, second)[1] <= before[1]


def test_lbfgs_survives_nonfinite_losses() -> None:
    """A trial that overflows is taken back and tried shorter."""
    start, goal = problem(2)
    optimiser = SphericalLBFGS(start)
    descend(optimiser, goal, 3)
    zeros = [torch.zeros_like(x) for x in optimiser.point]
    everyone = torch.ones(2, dtype=torch.bool)
    before = descend(SphericalLBFGS(start), goal, 0)
    optimiser.step(torch.tensor([torch.nan, torch.inf]), zeros, everyone)
    assert all(x.isfinite().all() for x in optimiser.point)
    assert (descend(optimiser, goal, 40) < before).all()


def test_the_papers_schedule() -> None:
    values = [linear1cycledrop(x / 100) for x in range(101)]
    assert values[0] == pytest.approx(0.1)
    assert max(values) == values[45] == pytest.approx(1.0)
    assert values[90] == pytest.approx(0.1)
    assert values[100] == pytest.approx(0.001)


def test_the_limited_memory_product_is_scipy_s() -> None:
    """With unit scale and gamma <s, y> / <y, y> as first guess, which scipy takes as one."""
    start, goal = problem(2)
    optimiser = SphericalLBFGS(start)
    descend(optimiser, goal, 12)
    for row in range(2):
        pairs = optimiser._pairs[row]
        assert pairs >= 5
        s, y = optimiser._s[row, :pairs].double(), optimiser._y[row, :pairs].double()
        gamma = float((s[-1] @ y[-1]) / (y[-1] @ y[-1]))
        # Scaling steps by a root of gamma and gradients by its inverse turns a first guess of gamma
        # into one of one: H = gamma * H'.
        root = gamma**0.5
        product = LbfgsInvHessProduct((s / root).numpy(), (y * root).numpy())
        gradient = optimiser._gradient[row]
        expected = -gamma * torch.from_numpy(product.matvec(gradient.double().numpy()))
        longest = optimiser.LONGEST * optimiser._base[row].norm()
        expected = expected * (longest / expected.norm()).clamp_max(1)
        torch.testing.assert_close(
            optimiser._downhill(row).double(), expected, rtol=1e-3, atol=1e-5
        )
