"""What to make of a picture, as a person says it: the options of `run` and `batch`, checked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from typing import Literal, get_args

from align import Detector
from pulse.faces.framing import MIN_LR_SIZE, Align
from pulse.faces.prepare import FaceSettings
from pulse.imaging.degrade import DegradeConfig
from pulse.imaging.pictures import InputError, setting
from pulse.results import Format
from pulse.search import PRESETS, SearchConfig
from pulse.upscale import UpscaleConfig

Preset = Literal["default", "paper"]


@dataclass(frozen=True)
class Settings:
    """All that decides what a picture becomes, but for the generator.

    Attributes:
        candidates, seed: as in `UpscaleConfig`.
        steps, tolerance: as in `SearchConfig`.
        lr_size: side in pixels at which to match, or `auto`; None as in `UpscaleConfig`.
        degrade: what happened to the picture, as `DegradeConfig.parse` takes it.
        align, detector: as in `find_framings`.
        face: `largest`, `all` or a number.
        preset: that the search is made from.
        exact: whether candidates that match are made to match exactly; None as the preset has it.
        mend: whether tone and last errors are put right in what the generator draws, instead of
            searching on; likewise.
        time_limit: seconds for a face, as in `SearchConfig`.
        format: of the candidates' files.
        paste: whether the photo with each candidate in its place is written, too.
        size, finish: as in `UpscaleConfig`.

    Raises:
        InputError: one of them cannot be.
    """

    candidates: int = UpscaleConfig.candidates
    steps: int = SearchConfig.steps
    seed: int = UpscaleConfig.seed
    tolerance: float = SearchConfig.tolerance
    lr_size: str | None = None
    degrade: str | None = None
    align: Align = "auto"
    face: str = "largest"
    detector: Detector = "frontal"
    preset: Preset = "default"
    exact: bool | None = None
    mend: bool | None = None
    time_limit: float | None = None
    format: Format = "png"
    paste: bool = False
    size: int | None = UpscaleConfig.size
    finish: str = UpscaleConfig.finish

    def __post_init__(self) -> None:
        _ = self.config, self.faces  # They say what is wrong.

    @cached_property
    def config(self) -> UpscaleConfig:
        try:
            preset = PRESETS[self.preset]
            mend = preset.mend if self.mend is None else self.mend
            search = replace(
                preset,
                steps=self.steps,
                tolerance=self.tolerance,
                exact=preset.exact if self.exact is None else self.exact,
                time_limit=self.time_limit,
                mend=mend,
                tone=SearchConfig().tone if mend else None,
            )
            degrade = None if self.degrade is None else DegradeConfig.parse(self.degrade)
            size = read_lr_size(self.lr_size)
            return UpscaleConfig(
                self.candidates, self.seed, size, search, degrade, self.size, self.finish
            )
        except InputError:
            raise
        except ValueError as error:
            raise InputError(str(error)) from error

    @cached_property
    def faces(self) -> FaceSettings:
        """Which faces of a picture, and at what size."""
        config, which = self.config, which_face(self.face)
        return FaceSettings(config.lr_size, config.degrade, which, self.align, self.detector)

    def changed(self, wishes: Mapping[str, object]) -> Settings:
        """The same with some of them as a line of JSON has them.

        Raises:
            InputError: there is no setting of a name, or it does not take the value.
        """
        names = [field.name for field in fields(self)]
        values: dict[str, object] = {}
        for name, value in wishes.items():
            if name not in names:
                raise InputError(f"There is no setting {name}; known are {', '.join(names)}.")
            kinds, words = KINDS[name]
            # Python counts its booleans as numbers.
            if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
                raise InputError(f"{name} takes {words}, not {json.dumps(value)}.")
            if name in CHOICES and value not in CHOICES[name]:
                given = json.dumps(value)
                raise InputError(f"{name} takes {', '.join(CHOICES[name])}; not {given}.")
            numbered = name in ("face", "lr_size") and value is not None
            values[name] = str(value) if numbered else value
        return replace(self, **values)  # type: ignore[arg-type]  # They were just checked.

    def __str__(self) -> str:
        """What people want to know of them: the main ones, and those that are not the default."""
        main = (
            f"{self.candidates} candidates from seed {self.seed}, {self.steps} steps, "
            f"tolerance {self.tolerance:g}, preset {self.preset}"
        )
        told = {"candidates", "seed", "steps", "tolerance", "preset"}
        others = (field for field in fields(self) if field.name not in told)
        changed = (
            f", {field.name.replace('_', ' ')} {getattr(self, field.name)}"
            for field in others
            if getattr(self, field.name) != field.default
        )
        return main + "".join(changed)

    def record(self) -> dict[str, object]:
        """All of them as JSON, spelt out: what a preset or a default stands for may change."""
        spelt = {"config": asdict(self.config), "which": self.faces.which}
        return {**asdict(self), **spelt}


CHOICES: dict[str, tuple[str, ...]] = {
    "align": get_args(Align),
    "detector": get_args(Detector),
    "preset": get_args(Preset),
    "format": get_args(Format),
}
_WHOLE, _TEXT = ((int,), "a whole number"), ((str,), "a text")
KINDS: dict[str, tuple[tuple[type, ...], str]] = {
    "candidates": _WHOLE,
    "steps": _WHOLE,
    "seed": _WHOLE,
    "tolerance": ((int, float), "a number"),
    "lr_size": ((int, str, type(None)), "a whole number or auto"),
    "degrade": ((str, type(None)), "a text"),
    "align": _TEXT,
    "face": ((int, str), "a whole number, largest or all"),
    "detector": _TEXT,
    "preset": _TEXT,
    "format": _TEXT,
    "paste": ((bool,), "true or false"),
    "size": ((int, type(None)), "a whole number"),
    "finish": _TEXT,
    "exact": ((bool, type(None)), "true or false"),
    "mend": ((bool, type(None)), "true or false"),
    "time_limit": ((int, float, type(None)), "a number of seconds"),
}


def read_lr_size(text: str | None) -> int | Literal["auto"] | None:
    """What the setting lr_size says.

    Raises:
        InputError: it is neither a number nor `auto`.
    """
    if text is None or text == "auto":
        return text
    if not text.isdecimal() or int(text) < MIN_LR_SIZE:
        raise InputError(
            f"{setting('lr_size')} takes a whole number of pixels from {MIN_LR_SIZE} on, or auto; "
            f"not {text}."
        )
    return int(text)


def which_face(text: str) -> Literal["largest", "all"] | int:
    """What the setting face says.

    Raises:
        InputError: it is none of those.
    """
    if text == "largest" or text == "all":
        return text
    if not text.isdecimal():
        raise InputError(f"{setting('face')} takes largest, all or a number from 0 on; not {text}.")
    return int(text)
