"""Loss terms, each one number per candidate."""

import torch
from jaxtyping import Float
from torch import Tensor


def squared_error(
    low: Float[Tensor, "b 3 l l"], target: Float[Tensor, "... 3 l l"]
) -> Float[Tensor, " b"]:
    """Mean squared error over colours and pixels where the target is known; of pictures in [0, 1].

    The target is NaN where it is not, which must not be everywhere.
    """
    known = ~target.isnan()
    difference = torch.where(known, low - target, 0.0)
    return difference.square().mean((1, 2, 3)) / known.float().mean((-3, -2, -1))


def weighted_error(
    low: Float[Tensor, "b 3 l l"],
    target: Float[Tensor, "... 3 l l"],
    easy: Float[Tensor, "k 3 l l"],
) -> Float[Tensor, " b"]:
    """`squared_error` with less weight on what is easy to mend, see `pulse.search.curvature`."""
    known = ~target.isnan()
    difference = torch.where(known, low - target, 0.0)
    counted = difference.square().sum((1, 2, 3))
    counted = counted - (difference.flatten(1) @ easy.flatten(1).T).square().sum(1)
    return counted / known.sum((-3, -2, -1))


def departure(point: list[Tensor], begin: list[Tensor]) -> Float[Tensor, " b"]:
    """How far a candidate is from where it began: what holds a film's frame to the one before.

    The mean squared difference of its latents v, plus the same of its noise inputs, on the average
    of these. All of them live on spheres on which the mean square is 1, so this is from 0 to 8, and
    about 4 between strangers.

    Args:
        point, begin: latents [b, L, w_dim] and noise inputs [b, 1, h, w].
    """
    parts = [(x - y).square().flatten(1).mean(1) for x, y in zip(point, begin, strict=True)]
    if len(parts) == 1:
        return parts[0]
    return parts[0] + torch.stack(parts[1:]).mean(0)


def geocross(v: Float[Tensor, "b L d"]) -> Float[Tensor, " b"]:
    """GEOCROSS: how far the L latents of a candidate are from each other along the sphere.

    PULSE, section 3.2: the sum over pairs of squared geodesic distances, here scaled as in the
    authors' code: the mean over all L * L pairs of angle^2, times d / 8. Zero if all are equal.
    """
    _, layers, size = v.shape
    if layers == 1:
        return v.new_zeros(len(v))
    x, y = v[:, :, None], v[:, None]
    # The angle between unit vectors by half-angle tangent, which is exact also for small angles.
    across = ((x - y).square().sum(-1) + 1e-9).sqrt()
    along = ((x + y).square().sum(-1) + 1e-9).sqrt()
    angle = 2 * torch.atan2(across, along)
    return angle.square().mean((1, 2)) * size / 8
