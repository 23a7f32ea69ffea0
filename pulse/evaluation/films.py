"""The same for films: each frame against its original, and what moves from frame to frame."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice, pairwise
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from pulse import __version__, superres
from pulse.evaluation.methods import TRUTH, Enlarged, Network
from pulse.evaluation.statistics import FEWEST, Value, mean_of
from pulse.evaluation.store import write
from pulse.evaluation.table import Column, Row
from pulse.imaging.degrade import BD, DegradeConfig
from pulse.imaging.encoding import needs_pyav
from pulse.imaging.metrics import luma, psnr_y, ssim_y
from pulse.imaging.motion import flow_difference, optical_flow, warping_error
from pulse.imaging.pictures import InputError, as_saved, read_picture, setting, to_tensor
from pulse.superres.networks.parts import bicubic
from pulse.superres.weights import REALESRGAN

FilmMethod: TypeAlias = Enlarged | Network
Frames: TypeAlias = Iterator[Float[Tensor, "*b 3 h w"]]
Way: TypeAlias = Callable[[Frames], Frames]
"""Small frames, [1, 3, h, w], to large ones, which may go beyond [0, 1]."""
Shrinking: TypeAlias = Literal["bd", "bicubic"]
"""How frames are made small: see `pulse.imaging.degrade.BD`, or as photos are."""
BD_SCALE = 4
"""The factor by which articles make films small as "BD"."""
BORDER, CUT = 8, 2
"""Pixels at each edge and frames at either end that do not count, as in TecoGAN's evaluation."""
FRAMES = 24
"""That are taken, unless another number is asked for."""
SHORTEST = FEWEST + 2 * CUT
SIZE = (270, 480)
"""Height and width of the small frames by which speeds are told."""
ROUNDS, LONGEST = 8, 10.0
"""Frames, and seconds after which no further one begins, for a speed."""
COLUMNS = (
    Column("psnr", "PSNR-Y", "high"),
    Column("ssim", "SSIM", "high", 1, 3),
    Column("tof", "tOF", "low", 1, 3),
    Column("warping", "warping", "low", 1, 3),
    Column("flicker", "flicker", "low", 1, 3),
    Column("speed", "frames/s", "high"),
)
LEGEND = (
    "bd: a Gaussian blur of 0.375 small pixels (1.5 large ones at four times the size), of which "
    f"the middle of each block is kept. {BORDER} pixels at each edge and {CUT} frames at either "
    "end do not count. PSNR-Y, SSIM: of each frame against the original. tOF: how far the film's "
    "optical flow is from the original's, in pixels. warping: mean difference of luma, in levels "
    "of 255, between each frame, moved along the original's flow, and the next; the original has "
    "some, too, and what is blurred has less; flicker: the same of the difference from the "
    f"original. frames/s: of {SIZE[1]}x{SIZE[0]} small pixels. Intervals are over frames, as if "
    "those were independent."
)


@dataclass(frozen=True)
class Film:
    """Frames of one size that are there as they were and small.

    Attributes:
        hr: [t, 3, h*s, w*s] in [0, 1].
        lr: [t, 3, h, w], in 8 bits.
        scale: s.
        degradation: that made the one from the other.
    """

    hr: Float[Tensor, "t 3 h*s w*s"]
    lr: Float[Tensor, "t 3 h w"]
    scale: int
    degradation: Shrinking

    @classmethod
    def read(
        cls, path: Path, scale: int, count: int = FRAMES, degradation: Shrinking | None = None
    ) -> Film:
        """The first frames of a film, or of a folder of pictures by their names.

        Args:
            degradation: None is what articles have: BD at four times the size, else bicubic.

        Raises:
            InputError: there are too few, they differ in size, or are too small.
        """
        taken = list(islice(_pictures(path), count))
        if len(taken) < SHORTEST:
            raise InputError(
                f"{path} gives {len(taken)} frames, but {SHORTEST} are needed, since {CUT} at "
                f"either end do not count; give a longer film, or a larger {setting('count')}."
            )
        if len({frame.shape for frame in taken}) > 1:
            raise InputError(f"The frames of {path} differ in size; give those of one film.")
        height, width = (side // scale for side in taken[0].shape[-2:])
        if min(height, width) < 16:
            raise InputError(
                f"{path} is too small to be downscaled {scale} times; give {setting('factor')}."
            )
        hr = torch.stack(taken)[..., : height * scale, : width * scale]
        degradation = degradation or ("bd" if scale == BD_SCALE else "bicubic")
        config = DegradeConfig.parse(BD) if degradation == "bd" else DegradeConfig()
        return cls(hr, as_saved(config.oblong(height, width, scale)(hr)), scale, degradation)

    @property
    def counted(self) -> slice:
        """The frames that are compared."""
        return slice(CUT, len(self.hr) - CUT)

    @property
    def digest(self) -> str:
        return hashlib.sha256((self.hr * 255).round().byte().numpy().tobytes()).hexdigest()


def film_methods(scale: int) -> list[FilmMethod]:
    """All that enlarge a film by that factor: interpolation, networks of photos, of films."""
    here = superres.names()
    shipped = [name for name in here if name not in REALESRGAN and "-faces-" not in name]
    fast = [name for name in REALESRGAN if name.startswith("realesr-") and name in here]
    fitting = [name for name in shipped + fast if superres.load(name).scale == scale]
    return [Enlarged("nearest"), Enlarged("bicubic"), *map(Network.of, fitting)]


def compare_film(
    film: Film, methods: Sequence[FilmMethod], folder: Path
) -> Iterator[tuple[Row, int, int]]:
    """A row for the original and for each method, which is kept, and how many of how many are done.

    One follows the other in this process, since speeds are compared.

    Raises:
        InputError: a network does not enlarge by the film's factor.
    """
    flows = _flows(_grey(film.hr[film.counted]))
    for number, method in enumerate((None, *methods), 1):
        parts = (__version__, repr(method), film.digest, film.scale, film.degradation)
        key = hashlib.sha256(repr(parts).encode()).hexdigest()
        name = TRUTH if method is None else method.name
        file = folder / "films" / f"{Path(name).name}.json"
        values = _kept(file, key)
        if values is None:
            if method is None:
                values = _measured(film, film.hr, flows)
            else:
                way = _opened(method, film.scale)
                sr = torch.cat([as_saved(frame) for frame in way(iter(film.lr[:, None]))])
                values = {**_measured(film, sr, flows), "speed": Value(_speed(way))}
            record = {"key": key, "values": {name: asdict(v) for name, v in values.items()}}
            write(file, json.dumps(record).encode())
        yield Row(name, 1, values), number, len(methods) + 1


def _pictures(path: Path) -> Frames:
    if path.is_dir():
        files = sorted(f for f in path.iterdir() if f.is_file() and not f.name.startswith("."))
        yield from (to_tensor(read_picture(file).image) for file in files)
        return
    with needs_pyav():
        from pulse.imaging.clips import frames
    for frame in frames(path):
        white = np.iinfo(frame.pixels.dtype).max
        pixels = torch.from_numpy(frame.pixels.astype(np.float32) / white)
        yield pixels.permute(2, 0, 1)


def _opened(method: FilmMethod, scale: int) -> Way:
    """
    Raises:
        InputError: there is no such network, or it does not enlarge by that factor.
    """
    if isinstance(method, Enlarged):
        how = bicubic if method.name == "bicubic" else _nearest
        return lambda frames: (how(frame, scale) for frame in frames)
    network = superres.load(method.name)
    if network.scale != scale:
        raise InputError(
            f"The network {method.name} enlarges {network.scale} times: give {setting('factor')} "
            f"{network.scale}, or other {setting('methods')}."
        )
    return partial(superres.upscale_film, network)


def _nearest(x: Float[Tensor, "1 3 h w"], scale: int) -> Float[Tensor, "1 3 h*s w*s"]:
    return F.interpolate(x, scale_factor=float(scale), mode="nearest")


def _speed(way: Way) -> float:
    """Frames a second of a film that pans, the first of which does not count."""
    height, width = SIZE
    wide = torch.rand(1, 3, height, width + ROUNDS, generator=torch.Generator().manual_seed(0))
    results = way(wide[..., i : i + width] for i in range(ROUNDS + 1))
    next(results)
    start, count, seconds = time.perf_counter(), 0, 0.0
    while count < ROUNDS and seconds <= LONGEST:
        next(results)
        count, seconds = count + 1, time.perf_counter() - start
    return count / seconds


def _grey(film: Float[Tensor, "t 3 h w"]) -> Float[Tensor, "t 1 h w"]:
    return luma(film).float() / 255


def _flows(grey: Float[Tensor, "t 1 h w"]) -> Float[Tensor, "t-1 2 h w"]:
    """From each frame to the next, one pair at a time for the sake of memory."""
    return torch.cat([optical_flow(a[None], b[None]) for a, b in pairwise(grey)])


def _measured(
    film: Film, sr: Float[Tensor, "t 3 p q"], flows: Float[Tensor, "n 2 p q"]
) -> dict[str, Value]:
    hr, sr = film.hr[film.counted], sr[film.counted]
    grey = _grey(sr)
    added = grey - _grey(hr)
    pairs = [(slice(i, i + 2), flows[i : i + 1]) for i in range(len(flows))]
    lists = {
        "psnr": [float(psnr_y(a, b, BORDER)) for a, b in zip(sr, hr, strict=True)],
        "ssim": [float(ssim_y(a, b, BORDER)) for a, b in zip(sr, hr, strict=True)],
        "tof": [flow_difference(grey[pair], flow, BORDER) for pair, flow in pairs],
        "warping": [255 * warping_error(grey[pair], flow, BORDER) for pair, flow in pairs],
        "flicker": [255 * warping_error(added[pair], flow, BORDER) for pair, flow in pairs],
    }
    means = {name: mean_of(values) for name, values in lists.items()}
    return {name: value for name, value in means.items() if value is not None}


def _kept(file: Path, key: str) -> dict[str, Value] | None:
    """What was measured before, of the same film by the same method."""
    try:
        record = json.loads(file.read_bytes())
        if record["key"] != key:
            return None
        return {name: Value(**values) for name, values in record["values"].items()}
    except (OSError, ValueError, LookupError, TypeError):
        return None
