"""The compact network of Real-ESRGAN: convolutions on the small picture, one pixel shuffle."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from pulse.superres.networks.parts import ConfigError, conv, dtype_of, near_identity_, zero_


@dataclass(frozen=True)
class CompactConfig:
    """Sizes of a `Compact`; 16 convolutions of 64 are those of Real-ESRGAN's film network.

    Attributes:
        convs: in the body, without the first and the last.
        inner: how much the pixel shuffle enlarges, where the result is then resampled to `scale`;
            None where that is the same. Real-ESRGAN's film networks for 2 and 3 enlarge by 4.
    """

    scale: int = 4
    convs: int = 16
    channels: int = 64
    inner: int | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.scale <= self.shuffle <= 8:
            raise ConfigError(f"a compact network cannot upscale by {self.scale}: take 1 to 8")

    @property
    def shuffle(self) -> int:
        return self.scale if self.inner is None else self.inner


class Compact(nn.Module):
    """SRVGGNetCompact of Wang et al. 2021 (Real-ESRGAN), as its authors published it later.

    Every convolution but the last is followed by a PReLU; the input, each pixel repeated, is added
    to the result. Resampling to a smaller scale is torch's bicubic without antialiasing (a =
    -0.75), as the published networks for 2 and 3 have it.
    """

    family = "Compact"
    grid = 1

    def __init__(self, config: CompactConfig) -> None:
        super().__init__()
        self.config, self.scale = config, config.scale
        channels = config.channels
        # It begins linear, and with nothing added: with torch's own weights nothing passes eighteen
        # layers, and a result that begins as noise is unlearned together with all features.
        layers: list[nn.Module] = [conv(3, channels), nn.PReLU(channels, 1.0)]
        for _ in range(config.convs):
            layers += [near_identity_(conv(channels, channels)), nn.PReLU(channels, 1.0)]
        self.body = nn.Sequential(*layers)
        self.last = zero_(conv(channels, 3 * config.shuffle**2))
        resampled = config.shuffle != config.scale
        self.reach = config.convs + 2 + resampled
        self.floats = max(3 * channels, 12 * config.shuffle**2)

    def forward(self, lr: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h*s w*s"]:
        factor = self.config.shuffle
        x = self.last(self.body(lr.to(dtype_of(self.body))).float())
        x = F.pixel_shuffle(x, factor)
        # In float32, so that half precision does not touch what was there before.
        x = x + F.interpolate(lr.float(), scale_factor=float(factor), mode="nearest")
        if factor == self.scale:
            return x
        size = [side * self.scale for side in lr.shape[-2:]]
        return F.interpolate(x, size=size, mode="bicubic", align_corners=False)
