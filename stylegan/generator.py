"""What the rest of the program may ask of a generator, whatever family it comes from."""

from collections.abc import Sequence
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

Noise = Sequence[Float[Tensor, "b 1 h w"]] | Literal["zero"] | None
"""One tensor per entry of `noise_shapes`; `None` is the stored noise (zeros where none is stored)
and `"zero"` no noise at all."""


def noise_of(
    noise: Noise, index: int, stored: Float[Tensor, "1 1 h w"]
) -> Float[Tensor, "b 1 h w"] | None:
    """What the layer with that noise input adds, if anything."""
    if noise is None:
        return stored
    return None if isinstance(noise, str) else noise[index]


@runtime_checkable
class Generator(Protocol):
    """A pretrained network that draws pictures from latents: mapping z -> w, synthesis ws -> image.

    Attributes:
        family: the architecture, for example "StyleGAN2".
        resolution: side of the square pictures in pixels.
        z_dim, w_dim: lengths of the latents z and w.
        num_layers: L, how many w vectors one picture takes.
        noise_shapes: (h, w) of each noise input; empty where the family has none.
        feature_sizes: sides at which `features` can be had, ascending.
        w_mean: [w_dim], the mean of `mapping(z)` over z.
        precision: type of the larger feature maps; it may be changed at any time.
    """

    family: str
    resolution: int
    z_dim: int
    w_dim: int
    num_layers: int
    noise_shapes: tuple[tuple[int, int], ...]
    feature_sizes: tuple[int, ...]
    precision: torch.dtype

    @property
    def w_mean(self) -> Float[Tensor, " w_dim"]: ...

    @property
    def device(self) -> torch.device: ...

    def mapping(self, z: Float[Tensor, "b z_dim"]) -> Float[Tensor, "b w_dim"]:
        """Map z, drawn from a standard normal, to w; no truncation."""
        ...

    def synthesis(
        self, ws: Float[Tensor, "b L w_dim"], noise: Noise = None
    ) -> Float[Tensor, "b 3 r r"]:
        """Draw pictures in RGB, nominal range [-1, 1], unclamped, float32."""
        ...

    def features(
        self, ws: Float[Tensor, "b L w_dim"], noise: Noise, size: int
    ) -> Float[Tensor, "b c size size"]:
        """Feature maps after the last layer of that side, float32; later layers do not run.

        Where the network sums RGB from every side (the skip of StyleGAN2), the sum so far is the
        first three channels.

        Args:
            ws, noise: as for `synthesis`; what later layers take is not read, and noise for them
                may be absent.
            size: one of `feature_sizes`.
        """
        ...
