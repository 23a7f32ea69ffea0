"""Train a frame-recurrent network on clips."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from pulse.imaging.pictures import InputError, setting
from pulse.superres.clip_pairs import Clips
from pulse.superres.discriminators import Discriminator
from pulse.superres.networks import FRVSR, FRVSRConfig
from pulse.superres.networks.frvsr import FlowNetwork
from pulse.superres.recurrent import unrolled
from pulse.superres.train import SAVE_SECONDS, advanced
from pulse.superres.training import Training
from pulse.superres.training_config import Progress, TrainConfig
from pulse.superres.weights import Config

SEEN = 3
"""Successive frames that the discriminator looks at together (Chu et al. 2020, TecoGAN, 3.1)."""


@dataclass(frozen=True)
class FilmTrainConfig(TrainConfig):
    """How to train; `TrainConfig` says what is not said here, of frames instead of pictures.

    Attributes:
        network: an `FRVSRConfig`.
        warp: where flow is learned, weight of what each LR frame, warped, misses the next by,
            counted like the result's pixels (Sajjadi et al. 2018, equation 4: both squared).
        ping_pong: weight of how a frame differs when the clip is gone through forwards and then
            backwards to its first frame (Chu et al. 2020, equation 3): it keeps what was drawn
            from growing without end. 0 is without, which takes half of the time.
        batch: clips a step.
    """

    network: Config = field(default_factory=FRVSRConfig)
    warp: float = 1.0
    ping_pong: float = 0.0
    batch: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.network, FRVSRConfig):
            raise InputError("Only FRVSR is trained on clips; train other networks on pictures.")
        if min(self.warp, self.ping_pong) < 0:
            raise InputError(
                f"Weights of losses cannot be negative: give {setting('warp')} and "
                f"{setting('ping_pong')} of 0 or more."
            )


class FilmTraining(Training):
    """The state of a training on clips, flow and body together from the first step on."""

    def __init__(
        self,
        config: FilmTrainConfig,
        device: torch.device | str = "cpu",
        start: FRVSR | None = None,
    ) -> None:
        self.film = config
        super().__init__(config, device, start)

    def _new_judge(self) -> nn.Module:
        return Discriminator(self.config.discriminator, SEEN)

    def _drawn(
        self, lr: Float[Tensor, "b t 3 h w"]
    ) -> tuple[Float[Tensor, "n 3 H W"], Float[Tensor, ""]]:
        """All frames, and the losses of flow and of going back and forth."""
        assert isinstance(self.network, FRVSR)
        length, ping_pong = lr.shape[1], self.film.ping_pong
        if ping_pong:
            lr = torch.cat((lr, lr.flip(1)[:, 1:]), 1)
        with torch.autocast(
            self.device.type, torch.bfloat16, enabled=self.precision == torch.bfloat16
        ):
            sr, warped = unrolled(self.network, lr)
        # Lucas and Kanade's flow cannot be trained, so what it misses is no loss.
        learned = isinstance(self.network.flow, FlowNetwork)
        loss = self.film.warp * self._difference(warped, lr[:, 1:]) if learned else sr.new_zeros(())
        if ping_pong:
            back = sr[:, length:].flip(1)
            loss = loss + ping_pong * F.mse_loss(back, sr[:, : length - 1])
            sr = sr[:, :length]
        return sr.flatten(0, 1), loss

    def _difference(self, x: Tensor, y: Tensor) -> Float[Tensor, ""]:
        return F.mse_loss(x, y) if self.config.loss == "mse" else F.l1_loss(x, y)

    def _seen(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "m 9 h w"]:
        """Each so many successive frames of a clip as the channels of one picture."""
        clips = images.unflatten(0, (self.config.batch, -1))
        windows = clips.unfold(1, SEEN, 1)  # [b, t - 2, 3, h, w, 3]
        return windows.flatten(0, 1).permute(0, 4, 1, 2, 3).flatten(1, 2)


def train_film(
    config: FilmTrainConfig,
    clips: Clips,
    folder: Path,
    device: torch.device | str = "cpu",
    start: FRVSR | None = None,
    every: float = SAVE_SECONDS,
) -> Iterator[Progress]:
    """Train to the end; to stop is to stop iterating, and the same call goes on from there.

    The folder, the arguments and the errors are those of `train`.
    """
    if config.gan and clips.config.frames < SEEN:
        raise InputError(f"A discriminator of films needs clips of {SEEN} frames at least.")
    yield from advanced(FilmTraining(config, device, start), clips, folder, every)
