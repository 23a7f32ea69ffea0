"""What is worked out once of a generator and makes its searches shorter."""

from __future__ import annotations

from functools import lru_cache

from pulse.faces.plausibility import can_tell
from pulse.faces.prepare import LRFace
from pulse.imaging.degrade import Degradation, DegradeConfig
from pulse.search import Aids, Level, SearchConfig
from pulse.search.coarse import Coarse, saves_steps, useful_sizes
from pulse.search.curvature import Curvature
from pulse.search.latent import LatentPrior
from pulse.superres.mending import Mender, mender
from stylegan import Generator

OPERATORS = 16
"""Kinds of degradation whose operators are kept."""


class Known:
    """Coarse stand-ins, curvature and mending of one generator, kept from their first use on."""

    def __init__(self, generator: Generator, name: str, sha256: str, prior: LatentPrior) -> None:
        self.generator, self.name, self.sha256, self.prior = generator, name, sha256, prior
        self._coarse: dict[tuple[int, ...], list[Coarse]] = {}
        self._curvature: Curvature | None = None

    def aids(self, face: LRFace, config: SearchConfig) -> Aids:
        """What helps such a search."""
        size, levels = face.low.shape[-1], self._levels(face) if config.coarse else ()
        mends = self.mender(face, config)
        if not (config.precondition or config.whiten):
            return Aids(levels, mending=mends)
        if self._curvature is None:
            self._curvature = Curvature.cached(self.generator, self.prior, self.sha256)
        known = self._curvature
        side, easy = known.pictures.shape[-1], None
        if config.whiten and size <= side:  # Larger small pictures are not known that well.
            easy = known.easy(operator(face.degrade, side, size))
        return Aids(levels, known.scale() if config.precondition else None, easy, mends)

    def mender(self, face: LRFace, config: SearchConfig) -> Mender | None:
        """What mends candidates for such a face; None where nothing does."""
        if not (config.mend and can_tell(self.name)):
            return None
        return mender(face.degrade, self.generator, face.low.shape[-1])

    def ready(self, face: LRFace, config: SearchConfig) -> bool:
        """Whether `aids` are worked out or read for such a search; if not, they take a while."""
        levels = not config.coarse or self._sides(face) in (*self._coarse, ())
        return levels and bool(self._curvature or not (config.precondition or config.whiten))

    def _sides(self, face: LRFace) -> tuple[int, ...]:
        return tuple(useful_sizes(self.generator, face.detail or face.low.shape[-1]))

    def _levels(self, face: LRFace) -> list[Level]:
        size, key = face.low.shape[-1], self._sides(face)
        if not key:
            return []
        if key not in self._coarse:
            self._coarse[key] = Coarse.cached(self.generator, self.prior, self.sha256, list(key))
        return [
            Level(
                one,
                operator(face.degrade, one.size, size),
                saves_steps(self.generator, one.size),
            )
            for one in self._coarse[key]
        ]


def operator(degrade: DegradeConfig, hr_size: int, lr_size: int) -> Degradation:
    """What turns `hr_size` pixels into `lr_size`, built once for all faces of a kind.

    A mask is read anew each time, since its file may have changed.
    """
    if degrade.mask is not None:
        return degrade.operator(hr_size, lr_size)
    return _operator(degrade, hr_size, lr_size)


@lru_cache(OPERATORS)
def _operator(degrade: DegradeConfig, hr_size: int, lr_size: int) -> Degradation:
    return degrade.operator(hr_size, lr_size)
