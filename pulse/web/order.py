"""What the controls of the Face view say: as the engine takes it, and as a command line."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from pathlib import Path

from pulse.imaging.degrade import DegradeConfig
from pulse.imaging.pictures import InputError
from pulse.search import PRESETS, SearchConfig
from pulse.superres.finish import AUTO, OFF
from pulse.upscale import UpscaleConfig
from pulse.web.history import Asked
from pulse.web.updates import Wish
from stylegan import EMBEDDED

ALL = -1
"""Stands for every face of a picture."""
SIZES = (512, 1024)
"""Sides in pixels that faces can be made, besides what the generator draws."""


@dataclass(frozen=True)
class Order:
    """What the controls say, in the order of the controls and of the API's arguments.

    Attributes:
        face: its number in the picture, or `ALL`.
        lr_size: as in `UpscaleConfig`; 0 is None.
        as_it_is: whether no face is looked for, and the picture taken as one.
        pixelated, blur, grey, jpeg, noise: what happened to the picture; 0 is nothing.
        size, finish: as in `UpscaleConfig`, but with size 0, which is None, the network is for
            photos alone: faces stay as they are drawn.
    """

    picture: str | None
    face: int
    candidates: int
    steps: int
    seed: int
    generator: str
    lr_size: int
    tolerance: float
    preset: str
    as_it_is: bool
    pixelated: bool
    blur: float
    grey: bool
    jpeg: int
    noise: float
    size: int
    finish: str

    def wish(self, face: int | None = None) -> Wish:
        """Which face of which picture to match, and how.

        Args:
            face: instead of the one that was chosen.

        Raises:
            InputError: something is missing, or cannot be.
        """
        if self.picture is None:
            raise InputError("Choose a picture first.")
        number = self.face if face is None else face
        if None in (number, self.lr_size):
            raise InputError("A number is missing in the settings.")
        return Wish(
            Path(self.picture), number, self.generator, self.lr_size or None, self.as_it_is,
            self._degradation(),
        )  # fmt: skip

    def asked(self, face: int | None = None) -> Asked:
        """A search for that face.

        Raises:
            InputError: something is missing, or cannot be.
        """
        wish = self.wish(face)
        if None in (self.candidates, self.steps, self.seed, self.tolerance):
            raise InputError("A number is missing in the settings.")
        finish = self.finish if self.size or self.finish == OFF else AUTO
        try:
            search = replace(PRESETS[self.preset], steps=int(self.steps), tolerance=self.tolerance)
            config = UpscaleConfig(
                int(self.candidates), int(self.seed), wish.lr_size, search, wish.degrade,
                self.size or None, finish,
            )  # fmt: skip
        except InputError:
            raise
        except ValueError as error:
            raise InputError(str(error)) from error
        return Asked(wish, config, self.preset, self.finish)

    def command(self, degrade: DegradeConfig | None) -> str:
        """`python -m pulse run` with what differs from its defaults.

        Args:
            degrade: what the face is matched with, where something is said to have happened to it.

        Raises:
            InputError: something is missing, or cannot be.
        """
        config = self.asked().config
        words = ["python", "-m", "pulse", "run", Path(self.picture or "").name]
        for option, value, usual in (
            ("-n", config.candidates, UpscaleConfig.candidates),
            ("--steps", config.search.steps, SearchConfig.steps),
            ("--seed", config.seed, UpscaleConfig.seed),
            ("--generator", self.generator, EMBEDDED),
            ("--lr-size", config.lr_size, None),
            ("--tolerance", config.search.tolerance, SearchConfig.tolerance),
            ("--preset", self.preset, "default"),
            ("--align", "never" if self.as_it_is else "auto", "auto"),
            ("--face", "all" if self.face == ALL else self.face, 0),
            ("--degrade", degrade, None),
            ("--size", config.size, None),
            ("--finish", config.finish, AUTO),
        ):
            if value != usual:
                words += [option, str(value)]
        return shlex.join(words)

    def _degradation(self) -> DegradeConfig | None:
        """What happened to the picture; None, which finds out about grey by itself, if nothing."""
        config = DegradeConfig(
            blur=float(self.blur or 0),
            resampling="box" if self.pixelated else "bicubic",
            grey=bool(self.grey),
            jpeg=int(self.jpeg) if self.jpeg else None,
            noise=float(self.noise or 0),
        )
        return None if config == DegradeConfig() else config
