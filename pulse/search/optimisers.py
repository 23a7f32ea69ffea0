"""Descent on products of spheres, for many candidates at once that do not see each other.

A point is a list of tensors [n, ...]: latents [n, L, w_dim] with one sphere per layer, noise
pictures [n, 1, h, w] with one sphere each. Every tensor keeps the norms that it starts with over
all dimensions after the second. An optimiser holds the point to be judged next; it is told loss and
gradients there, and moves on.
"""

from __future__ import annotations

from typing import Literal, Protocol

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pulse.search.latent import to_sphere

Name = Literal["lbfgs", "adam"]


class Optimiser(Protocol):
    """What a descent asks of an optimiser.

    Attributes:
        point: to be judged next.
        base: the last accepted point, than which the one to be judged may be worse.
    """

    @property
    def point(self) -> list[Tensor]: ...

    @property
    def base(self) -> list[Tensor]: ...

    def place(self, rows: Bool[Tensor, " n"], point: list[Tensor]) -> None:
        """Begin anew with those candidates, at points on the spheres that they had."""
        ...

    def reopen(self, rows: Bool[Tensor, " n"], base: list[Tensor] | None = None) -> None:
        """Go back to the last accepted point of those candidates, or to an earlier one."""
        ...

    def step(
        self, loss: Float[Tensor, " n"], gradients: list[Tensor], active: Bool[Tensor, " n"]
    ) -> None:
        """Move from the point, given loss and gradients there, those candidates that are active."""
        ...


def follows_schedule(name: Name) -> bool:
    """Whether an optimiser's steps follow a schedule with an end, as the paper's do.

    Then candidates begin together and have one attempt, and a step cannot be taken back.
    """
    return name == "adam"


def optimiser_for(
    name: Name, point: list[Tensor], lr: float, steps: int, scale: list[Tensor] | None
) -> Optimiser:
    """The optimiser of that name at points; it takes of the rest what it needs."""
    if name == "adam":
        return SphericalAdam(point, lr, steps)
    return SphericalLBFGS(point, scale)


class _Spheres:
    """The norms that a point's tensors keep."""

    def __init__(self, point: list[Tensor]) -> None:
        self.dims = [tuple(range(2, x.ndim)) for x in point]
        self.radii = [
            x.square().sum(dims, keepdim=True).sqrt()
            for x, dims in zip(point, self.dims, strict=True)
        ]

    def project(self, point: list[Tensor]) -> list[Tensor]:
        """Back to the spheres, along the radius."""
        return [
            to_sphere(x, radius, dims)
            for x, radius, dims in zip(point, self.radii, self.dims, strict=True)
        ]

    def tangent(self, point: list[Tensor], vectors: list[Tensor]) -> list[Tensor]:
        """The part of vectors that does not leave the spheres."""
        return [
            v - x * ((v * x).sum(dims, keepdim=True) / radius.square())
            for x, v, radius, dims in zip(point, vectors, self.radii, self.dims, strict=True)
        ]


class SphericalAdam:
    """Adam whose point is put back on its spheres after every step (PULSE, section 3.2).

    The learning rate follows `linear1cycledrop`, as in the authors' code.
    """

    def __init__(self, point: list[Tensor], lr: float, steps: int) -> None:
        self.point = [x.clone() for x in point]
        self.lr, self.steps, self.taken = lr, steps, 0
        self._spheres = _Spheres(self.point)
        self._adam = torch.optim.Adam(self.point, lr)

    @property
    def base(self) -> list[Tensor]:
        return self.point

    def place(self, rows: Bool[Tensor, " n"], point: list[Tensor]) -> None:
        """Begin with those candidates, before any step, at points on the spheres they had."""
        for x, new in zip(self.point, point, strict=True):
            x.copy_(torch.where(_wide(rows, x), new, x))

    def reopen(self, rows: Bool[Tensor, " n"], base: list[Tensor] | None = None) -> None:
        """Every point is accepted here, so there is only an earlier one to go back to."""
        if base is not None:
            self.place(rows, base)

    @torch.no_grad()
    def step(
        self, loss: Float[Tensor, " n"], gradients: list[Tensor], active: Bool[Tensor, " n"]
    ) -> None:
        """Move from the point, given loss and gradients there, those candidates that are active."""
        self._adam.param_groups[0]["lr"] = self.lr * linear1cycledrop(self.taken / self.steps)
        before = [x.clone() for x in self.point]
        for x, gradient in zip(self.point, gradients, strict=True):
            x.grad = gradient
        self._adam.step()
        for x, old, new in zip(self.point, before, self._spheres.project(self.point), strict=True):
            x.copy_(torch.where(_wide(active, x), new, old))
        self.taken += 1


def linear1cycledrop(progress: float) -> float:
    """The paper's schedule: rate up and down over 90% of the steps, then towards zero."""
    if progress < 0.9:
        return (9 * (1 - abs(progress / 0.9 - 0.5) * 2) + 1) / 10
    return 0.1 + (progress - 0.9) / 0.1 * (0.001 - 0.1)


class SphericalLBFGS:
    """Limited-memory BFGS (Nocedal and Wright, algorithm 7.4) on spheres.

    The first guess of the inverse Hessian is `scale` on its diagonal, times a number that follows
    the newest step. Each candidate has its own history and its own step length. A step that does
    not bring its loss down enough (Armijo's condition) is taken back and tried shorter, which costs
    that candidate one judgement. Differences of points and gradients are carried from tangent plane
    to tangent plane unchanged, which is right to first order.
    """

    HISTORY = 64
    FIRST = 0.05
    """Length of the first step, as a share of the point's norm."""
    LONGEST = 0.3
    """Bound on any step, likewise."""
    ARMIJO = 1e-4

    def __init__(self, point: list[Tensor], scale: list[Tensor] | None = None) -> None:
        """Begin at points; a scale has the shape that one candidate's have, None is ones."""
        self._spheres = _Spheres(point)
        scale = scale or [torch.ones_like(x[0]) for x in point]
        self._scale = torch.cat([x.flatten() for x in scale])
        self._shapes = [x.shape[1:] for x in point]
        self._trial = _flat(point)
        count = len(self._trial)
        # Last accepted point, with its loss and gradient; of the fresh none is known yet.
        self._fresh = torch.ones(count, dtype=torch.bool, device=self._trial.device)
        self._base = self._trial.clone()
        self._loss = self._trial.new_full([count], torch.inf)
        self._gradient = torch.zeros_like(self._trial)
        self._direction = torch.zeros_like(self._trial)
        self._length = self._trial.new_ones([count])
        # Differences of points s and of gradients y of each candidate, oldest first, and how many.
        shape = (count, self.HISTORY, self._trial.shape[1])
        self._s, self._y = self._trial.new_zeros(shape), self._trial.new_zeros(shape)
        self._pairs = [0] * count

    @property
    def point(self) -> list[Tensor]:
        return self._unflat(self._trial)

    @property
    def base(self) -> list[Tensor]:
        """The last accepted point, than which the one to be judged may be worse."""
        return self._unflat(self._base)

    def place(self, rows: Bool[Tensor, " n"], point: list[Tensor]) -> None:
        """Begin anew with those candidates, at points on the spheres that they had."""
        self._trial = torch.where(rows[:, None], _flat(point), self._trial)
        self._base = torch.where(rows[:, None], self._trial, self._base)
        self._fresh = self._fresh | rows
        for row in torch.nonzero(rows).flatten().tolist():
            self._pairs[row] = 0

    def reopen(self, rows: Bool[Tensor, " n"], base: list[Tensor] | None = None) -> None:
        """Go back to the last accepted point of those candidates, or to an earlier one.

        For when their loss has changed. What is known of the curvature stays: the losses of a
        search are much alike.
        """
        if base is not None:
            self._base = torch.where(rows[:, None], _flat(base), self._base)
        self._trial = torch.where(rows[:, None], self._base, self._trial)
        self._fresh = self._fresh | rows

    @torch.no_grad()
    def step(
        self, loss: Float[Tensor, " n"], gradients: list[Tensor], active: Bool[Tensor, " n"]
    ) -> None:
        """Move from the point, given loss and gradients there, those candidates that are active."""
        gradient = _flat(self._spheres.tangent(self.point, gradients))
        slope = (self._gradient * self._direction).sum(1)
        accepted = self._fresh | (loss <= self._loss + self.ARMIJO * self._length * slope)
        # Where the loss would have been least on the parabola through what is known.
        curvature = loss - self._loss - self._length * slope
        shorter = (-slope * self._length.square() / (2 * curvature)).nan_to_num(0.0)
        shorter = torch.maximum(torch.minimum(shorter, 0.5 * self._length), 0.1 * self._length)
        moved = accepted & active
        self._remember(moved & ~self._fresh, gradient)
        self._length = torch.where(moved, 1.0, torch.where(active, shorter, self._length))
        self._base = torch.where(moved[:, None], self._trial, self._base)
        self._loss = torch.where(moved, loss, self._loss)
        self._gradient = torch.where(moved[:, None], gradient, self._gradient)
        for row in torch.nonzero(moved).flatten().tolist():
            self._direction[row] = self._downhill(row)
        # The scale leads off the spheres. Only who moved is led back: others keep every bit.
        base = self._unflat(self._base)
        tangent = _flat(self._spheres.tangent(base, self._unflat(self._direction)))
        self._direction = torch.where(moved[:, None], tangent, self._direction)
        self._fresh = self._fresh & ~active
        trial = self._base + self._length[:, None] * self._direction
        trial = _flat(self._spheres.project(self._unflat(trial)))
        self._trial = torch.where(active[:, None], trial, self._trial)

    def _remember(self, moved: Tensor, gradient: Tensor) -> None:
        """Keep what the last accepted step tells of the curvature, of those who moved."""
        s, y = self._trial - self._base, gradient - self._gradient
        usable = moved & ((s * y).sum(1) > 1e-10 * y.square().sum(1))
        for row in torch.nonzero(usable).flatten().tolist():
            if self._pairs[row] == self.HISTORY:  # The oldest makes room.
                self._s[row], self._y[row] = self._s[row].roll(-1, 0), self._y[row].roll(-1, 0)
                self._pairs[row] -= 1
            self._s[row, self._pairs[row]] = s[row]
            self._y[row, self._pairs[row]] = y[row]
            self._pairs[row] += 1

    def _downhill(self, row: int) -> Float[Tensor, " d"]:
        """Minus the inverse Hessian times the gradient, not longer than is allowed.

        In the compact form (Byrd, Nocedal and Schnabel 1994, equation 3.1), which is the two-loop
        recursion in a few products of matrices: with R the upper triangle of S^T Y, D its diagonal,
        B the scale, and gamma <s, y> / <y, B y> of the newest pair, H g = gamma B g
        + S R^-T ((D + gamma Y^T B Y) R^-1 S^T g - gamma Y^T B g) - gamma B Y R^-1 S^T g.
        One candidate at a time, so that rounding does not depend on how many there are.
        """
        gradient, base, pairs = self._gradient[row], self._base[row], self._pairs[row]
        scaled = self._scale * gradient
        if pairs == 0:
            h = scaled * (self.FIRST * self._norm(base) / self._norm(scaled))
        else:
            s, y = self._s[row, :pairs], self._y[row, :pairs]
            by = self._scale * y
            sy, yy = (s @ y.T).cpu().double(), (by @ y.T).cpu().double()  # MPS has no float64.
            s_g, y_g = (s @ gradient).cpu().double(), (by @ gradient).cpu().double()
            gamma = sy[-1, -1] / yy[-1, -1]
            r = sy.triu()
            a = torch.linalg.solve_triangular(r, s_g[:, None], upper=True)
            b = sy.diag()[:, None] * a + gamma * (yy @ a - y_g[:, None])
            b = torch.linalg.solve_triangular(r.T, b, upper=False)
            h = gamma.to(gradient) * (scaled - a[:, 0].to(gradient) @ by) + b[:, 0].to(gradient) @ s
        return -h * (self.LONGEST * self._norm(base) / self._norm(h)).clamp_max(1)

    @staticmethod
    def _norm(x: Tensor) -> Tensor:
        return x.norm().clamp_min(1e-30)

    def _unflat(self, flat: Tensor) -> list[Tensor]:
        sizes = [shape.numel() for shape in self._shapes]
        return [
            x.unflatten(1, shape)
            for x, shape in zip(flat.split(sizes, 1), self._shapes, strict=True)
        ]


def _flat(point: list[Tensor]) -> Float[Tensor, "n d"]:
    return torch.cat([x.flatten(1) for x in point], 1)


def _wide(mask: Tensor, like: Tensor) -> Tensor:
    """A mask per candidate in a shape that applies to all of its numbers."""
    return mask.reshape(-1, *[1] * (like.ndim - 1))
