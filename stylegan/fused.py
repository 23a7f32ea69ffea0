"""What the layers of a frozen network do, in few passes over memory.

At 1024 pixels a feature map has over a hundred megabytes, and as much time goes into reading and
writing maps as into convolving them. So what lies between two convolutions is done on a band of
rows at a time, which stays in the processor's cache, in float32 whatever the maps' type; and the
backward passes give gradients by what a search moves, not by weights. Training, which needs those,
and gradients of gradients, takes the same formulas in plain torch instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from stylegan.mapping import LRELU_SLOPE

BAND = 2**20
"""Numbers in a band of rows: 4 MiB, where times were shortest from 0.5 to 2 million."""

Value = TypeVar("Value")


class Once(Generic[Value]):
    """What is worked out from a weight, kept while the weight is frozen and does not change."""

    def __init__(self) -> None:
        self._kept: tuple[tuple[object, ...], Tensor, Value] | None = None

    def __call__(
        self, weight: Tensor, dtype: torch.dtype, make: Callable[[torch.dtype], Value]
    ) -> Value:
        """`make(dtype)`, or what it gave before."""
        # A tensor of inference mode does not tell when it is changed.
        if weight.requires_grad or weight.is_inference():
            return make(dtype)
        key = (weight.data_ptr(), weight._version, weight.dtype, dtype)
        kept = self._kept
        if kept is None or kept[0] != key:
            # What is kept may serve calls in which gradients are wanted. The weight is kept too, so
            # that no other can take its place in memory.
            with torch.inference_mode(False), torch.no_grad():
                kept = self._kept = (key, weight.detach(), make(dtype))
        return kept[2]


def frozen(*parameters: Tensor) -> bool:
    """Whether none of them asks for gradients."""
    return not any(parameter.requires_grad for parameter in parameters)


def bands(x: Float[Tensor, "b c h w"]) -> Iterator[slice]:
    """Rows to work on at a time; all of them on a GPU, which hides memory's delay by itself."""
    height = x.shape[2]
    rows = max(1, BAND * height // max(1, x.numel())) if x.device.type == "cpu" else height
    for top in range(0, height, rows):
        yield slice(top, top + rows)


def precise(x: Tensor) -> Tensor:
    """In float32, or float64 if it is."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def activation_gradient(gradient: Tensor, y: Tensor) -> Tensor:
    """Gradient by the input of the leaky ReLU, from that by its output y."""
    return torch.ops.aten.leaky_relu_backward(gradient, y, LRELU_SLOPE, True)


class StyledConvolution(torch.autograd.Function):
    """y = clamp(lrelu(scale * C(style * x) + bias + noise)), C a linear map with a known adjoint.

    With u = C(style * x) and g the gradient by the argument of the leaky ReLU, the gradients are
    sum(g * u) by scale, the sum of g over channels by noise, and, with h = C^T(scale * g),
    sum(h * x) by style and style * h by x.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Float[Tensor, "b i h h"],
        style: Float[Tensor, "b i"],
        scale: Float[Tensor, "b o"],
        noise: Float[Tensor, "n 1 r r"] | None,
        bias: Float[Tensor, " o"],
        clamp: float | None,
        convolve: Callable[[Tensor], Tensor],
        adjoint: Callable[[Tensor], Tensor],
    ) -> Float[Tensor, "b o r r"]:
        u = convolve(x * style.to(x.dtype)[:, :, None, None])
        y = torch.empty_like(u)
        for rows in bands(u):
            z = torch.addcmul(bias[:, None, None], precise(u[:, :, rows]), scale[:, :, None, None])
            if noise is not None:
                z += noise[:, :, rows]
            F.leaky_relu_(z, LRELU_SLOPE)
            if clamp is not None:
                z.clamp_(-clamp, clamp)
            y[:, :, rows] = z
        ctx.save_for_backward(x, style, scale, u, y)
        ctx.clamp, ctx.adjoint = clamp, adjoint
        ctx.noise_shape = None if noise is None else noise.shape
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Any) -> Any:  # type: ignore[override]
        (by_y,) = gradients
        x, style, scale, u, y = ctx.saved_tensors
        by_u = torch.empty_like(u)
        by_scale = torch.zeros_like(scale)
        by_noise = None
        if ctx.needs_input_grad[3]:
            by_noise = scale.new_zeros(ctx.noise_shape)
        for rows in bands(u):
            g = activation_gradient(by_y[:, :, rows], y[:, :, rows])
            if ctx.clamp is not None:
                g.masked_fill_(y[:, :, rows].abs() >= ctx.clamp, 0)
            by_scale += (g * u[:, :, rows]).sum((2, 3))
            if by_noise is not None:
                part = g.sum(1, keepdim=True, dtype=by_noise.dtype)
                by_noise[:, :, rows] += part.sum_to_size(by_noise[:, :, rows].shape)
            torch.mul(g, scale.to(g.dtype)[:, :, None, None], out=by_u[:, :, rows])
        by_x = ctx.adjoint(by_u)
        by_style = torch.zeros_like(style)
        for rows in bands(x):
            h = by_x[:, :, rows]
            by_style += (h * x[:, :, rows]).sum((2, 3))
            h.mul_(style.to(h.dtype)[:, :, None, None])
        return by_x, by_style, by_scale, by_noise, None, None, None, None


class Projection(torch.autograd.Function):
    """y = W x at every pixel, with a matrix for every sample; few outputs.

    The gradients are W^T g by x and, as the sum over all pixels, g x^T by W. Channels are last in
    memory for both, wherever g comes from.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Float[Tensor, "b i h w"], weight: Float[Tensor, "b o i"]
    ) -> Float[Tensor, "b o h w"]:
        """In float32 (or float64), of products in the type of x."""
        ctx.save_for_backward(x, weight)
        pixels = x.permute(0, 2, 3, 1).flatten(1, 2)
        y = pixels @ weight.transpose(1, 2).to(x.dtype)
        return precise(y).unflatten(1, x.shape[2:]).permute(0, 3, 1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Any) -> Any:  # type: ignore[override]
        x, weight = ctx.saved_tensors
        g = gradients[0].permute(0, 2, 3, 1).to(x.dtype).contiguous()
        by_x = g.flatten(1, 2) @ weight.to(x.dtype)
        # Row by row, since products of few outputs and a million pixels are slow in one go.
        by_weight = precise(g.transpose(2, 3) @ x.permute(0, 2, 3, 1)).sum(1)
        return by_x.unflatten(1, x.shape[2:]).permute(0, 3, 1, 2), by_weight


class Normalisation(torch.autograd.Function):
    """AdaIN of an activation: scale * (y - mean) / deviation + shift, y = lrelu(u + bias + noise).

    Mean and deviation (the root of variance + epsilon) are those of each map; the variance is put
    together from the bands' by Chan's formula, so that nearly even maps lose nothing. The noise
    enters each map with a strength of its own. With g the gradient by the output, m(.) the mean
    over a map and n = (y - mean) / deviation, the gradients are sum(g * n) by scale, sum(g) by
    shift, and scale / deviation * (g - m(g) - n * m(g * n)) by y.
    """

    @staticmethod
    def forward(
        ctx: Any,
        u: Float[Tensor, "b c h h"],
        noise: Float[Tensor, "n 1 h h"] | None,
        scale: Float[Tensor, "b c"],
        shift: Float[Tensor, "b c"],
        bias: Float[Tensor, " c"],
        strength: Float[Tensor, " c"],
        epsilon: float,
    ) -> Float[Tensor, "b c h h"]:
        counts: list[int] = []
        means: list[Tensor] = []
        squares: list[Tensor] = []
        for rows in bands(u):
            y = _activated(u, rows, noise, bias, strength)
            counts.append(y[0, 0].numel())
            means.append(y.mean((2, 3), keepdim=True))
            squares.append(y.sub_(means[-1]).square_().sum((2, 3), keepdim=True))
        count = scale.new_tensor(counts)[:, None, None, None, None]
        each = torch.stack(means)
        mean = (each * count).sum(0) / count.sum()
        spread = torch.stack(squares).sum(0) + ((each - mean).square() * count).sum(0)
        inverse = (spread / count.sum() + epsilon).rsqrt()
        out = torch.empty_like(u)
        factor = scale[:, :, None, None] * inverse
        for rows in bands(u):
            y = _activated(u, rows, noise, bias, strength).sub_(mean)
            out[:, :, rows] = y.mul_(factor).add_(shift[:, :, None, None])
        ctx.save_for_backward(u, noise, scale, bias, strength, mean, inverse)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Any) -> Any:  # type: ignore[override]
        (by_out,) = gradients
        u, noise, scale, bias, strength, mean, inverse = ctx.saved_tensors
        total, product = torch.zeros_like(mean), torch.zeros_like(mean)
        for rows in bands(u):
            g = precise(by_out[:, :, rows])
            total += g.sum((2, 3), keepdim=True)
            y = _activated(u, rows, noise, bias, strength)
            product += y.sub_(mean).mul_(g).sum((2, 3), keepdim=True)
        product *= inverse
        count = u[0, 0].numel()
        by_u = torch.empty_like(u)
        by_noise = torch.zeros_like(noise) if ctx.needs_input_grad[1] else None
        factor = scale[:, :, None, None] * inverse
        for rows in bands(u):
            y = _activated(u, rows, noise, bias, strength)
            g = precise(by_out[:, :, rows]) - total / count
            g.addcmul_(y - mean, product * inverse / -count).mul_(factor)
            g = activation_gradient(g, y)
            by_u[:, :, rows] = g
            if by_noise is not None:
                part = g.mul_(strength[:, None, None]).sum(1, keepdim=True)
                by_noise[:, :, rows] += part.sum_to_size(by_noise[:, :, rows].shape)
        by_scale, by_shift = product.flatten(1), total.flatten(1)
        return by_u, by_noise, by_scale, by_shift, None, None, None


def _activated(
    u: Float[Tensor, "b c h h"],
    rows: slice,
    noise: Float[Tensor, "n 1 h h"] | None,
    bias: Float[Tensor, " c"],
    strength: Float[Tensor, " c"],
) -> Float[Tensor, "b c rows h"]:
    """A band of y as `Normalisation` has it.

    It is worked out anew wherever it is needed: rounded to a half precision, a map that is nearly
    even would be nothing but rounding errors once its mean is taken off.
    """
    z = precise(u[:, :, rows]) + bias[:, None, None]
    if noise is not None:
        z.addcmul_(noise[:, :, rows], strength[:, None, None])
    return F.leaky_relu_(z, LRELU_SLOPE)
