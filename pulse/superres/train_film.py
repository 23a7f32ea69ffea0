"""Train a frame-recurrent network on clips."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from pulse.imaging.pictures import InputError, setting
from pulse.superres.clip_pairs import Clips
from pulse.superres.discriminators import Discriminator
from pulse.superres.networks import FRVSR, FRVSRConfig
from pulse.superres.networks.frvsr import FlowNetwork
from pulse.superres.pairs import Pair
from pulse.superres.recurrent import followed, unrolled
from pulse.superres.train import SAVE_SECONDS, advanced
from pulse.superres.training import Training, lowered, told_alone
from pulse.superres.training_config import Stage, TrainConfig, TrainingProgress
from pulse.superres.weights import Config

SEEN = 3
"""Successive frames that the discriminator looks at together."""
Made = TypeVar("Made")


@dataclass(frozen=True)
class FilmTrainConfig(TrainConfig):
    """How to train; `TrainConfig` says what is not said here, of frames instead of pictures.

    Attributes:
        network: an `FRVSRConfig`.
        warp: where flow is learned, weight of what each LR frame, warped, misses the next by,
            counted like the result's pixels (Sajjadi et al. 2018, equation 4: both squared).
        flow_share: where flow is learned, share of what goes before the discriminator in which it
            is learned alone, so that what is carried is in place before the rest relies on it. The
            paper trains all at once.
        ping_pong: weight of how a frame differs when the clip is gone through forwards and then
            backwards to its first frame (Chu et al. 2020, equation 3): it keeps what was drawn
            from growing without end. 0 is without, which takes half of the time.
        batch: clips a step.
    """

    network: Config = field(default_factory=FRVSRConfig)
    warp: float = 1.0
    flow_share: float = 0.1
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
        if not 0 <= self.flow_share <= 1:
            raise InputError(f"{setting('flow_share')} is a share: give it from 0 to 1.")


class FilmTraining(Training):
    """The state of a training on clips: of learned flow alone, then of flow and body together.

    The discriminator sees successive frames as they are. TecoGAN's (Chu et al. 2020, section 3.1)
    is shown more: the same three frames once more with the outer ones moved onto the middle one by
    the flow, and the three LR frames, so that it knows what moves and what was given.
    """

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

    @property
    def _learns_flow(self) -> bool:
        """Whether there is a flow to learn: Lucas and Kanade's is what it is."""
        assert isinstance(self.network, FRVSR)
        return isinstance(self.network.flow, FlowNetwork)

    def _ends(self) -> dict[Stage, float]:
        alone = self.film.flow_share * self.film.content_share if self._learns_flow else 0.0
        ends = super()._ends()
        return {"flow": alone, **ends} if alone else ends

    def _losses(self, pair: Pair) -> tuple[Float[Tensor, ""], Float[Tensor, " 4"]]:
        if self.stage != "flow":
            return super()._losses(pair)
        missed = self._difference(self._made(followed, pair.lr).warped, pair.lr[:, 1:])
        return missed, told_alone(missed)

    def _made(self, work: Callable[[FRVSR, Tensor], Made], lr: Float[Tensor, "b t 3 h w"]) -> Made:
        """What is made of clips, by weights of the precision that feature maps have."""
        assert isinstance(self.network, FRVSR)
        if self.precision == torch.float32:
            return work(self.network, lr)
        lower = lowered(self.network, self.precision)
        at_work = {f"network.{name}": weight for name, weight in lower.items()}
        return functional_call(_AtWork(self.network, work), at_work, (lr,))

    def _drawn(
        self, lr: Float[Tensor, "b t 3 h w"]
    ) -> tuple[Float[Tensor, "n 3 H W"], Float[Tensor, ""]]:
        """All frames, and the losses of flow and of going back and forth."""
        length, ping_pong = lr.shape[1], self.film.ping_pong
        if ping_pong:
            lr = torch.cat((lr, lr.flip(1)[:, 1:]), 1)
        sr, warped = self._made(unrolled, lr)
        loss = sr.new_zeros(())
        if self._learns_flow:
            loss = self.film.warp * self._difference(warped, lr[:, 1:])
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


class _AtWork(nn.Module):
    """A network and what it is to do, so that both can be called with other weights."""

    def __init__(self, network: FRVSR, work: Callable[[FRVSR, Tensor], object]) -> None:
        super().__init__()
        self.network, self.work = network, work

    def forward(self, lr: Float[Tensor, "b t 3 h w"]) -> object:
        assert isinstance(self.network, FRVSR)
        return self.work(self.network, lr)


def train_film(
    config: FilmTrainConfig,
    clips: Clips,
    folder: Path,
    device: torch.device | str = "cpu",
    start: FRVSR | None = None,
    every: float = SAVE_SECONDS,
) -> Iterator[TrainingProgress]:
    """Train to the end; to stop is to stop iterating, and the same call goes on from there.

    The folder, the arguments and the errors are those of `train`.
    """
    if config.gan and clips.config.frames < SEEN:
        raise InputError(f"A discriminator of films needs clips of {SEEN} frames at least.")
    yield from advanced(FilmTraining(config, device, start), clips, folder, every)
