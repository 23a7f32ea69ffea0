"""The same for films: each frame against its original, and what moves from frame to frame."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from pulse import __version__, superres
from pulse.evaluation.methods import TRUTH, Enlarged, Network
from pulse.evaluation.statistics import Value, mean_of
from pulse.evaluation.store import write
from pulse.evaluation.table import Column, Row
from pulse.imaging.degrade import DegradeConfig
from pulse.imaging.encoding import needs_pyav
from pulse.imaging.metrics import luma, psnr_y, ssim_y
from pulse.imaging.motion import flow_difference, optical_flow, warping_error
from pulse.imaging.pictures import InputError, as_saved, read_picture, setting, to_tensor
from pulse.superres.weights import REALESRGAN

FilmMethod: TypeAlias = Enlarged | Network
Frames: TypeAlias = Iterator[Float[Tensor, "3 h w"]]
FRAMES = 24
"""That are compared, unless another number is asked for."""
COLUMNS = (
    Column("psnr", "PSNR-Y", "high"),
    Column("ssim", "SSIM", "high", 1, 3),
    Column("tof", "tOF", "low", 1, 3),
    Column("warping", "warping e-3", "low", 1e3),
    Column("speed", "frames/s", "high"),
)
LEGEND = (
    "PSNR-Y, SSIM: of each frame against the original, but for a border as wide as the factor. "
    "tOF: how far the film's optical flow is from the original's, in pixels. warping: mean "
    "difference, on [0, 1], between each frame, moved along the original's flow, and the next; the "
    "original has some, too, and what is blurred has less. Intervals are over frames, as if those "
    "were independent."
)


@dataclass(frozen=True)
class Film:
    """Frames of one size that are there as they were and small.

    Attributes:
        hr: [t, 3, h*s, w*s] in [0, 1].
        lr: [t, 3, h, w], downscaled bicubically and rounded to 8 bits.
        scale: s.
    """

    hr: Float[Tensor, "t 3 h*s w*s"]
    lr: Float[Tensor, "t 3 h w"]
    scale: int

    @classmethod
    def read(cls, path: Path, scale: int, count: int = FRAMES) -> Film:
        """The first frames of a film, or of a folder of pictures by their names.

        Raises:
            InputError: there are fewer than two, they differ in size, or are too small.
        """
        taken = list(islice(_pictures(path), count))
        if len(taken) < 2 or len({frame.shape for frame in taken}) > 1:
            raise InputError(f"{path} does not have two frames or more of one size.")
        height, width = (side // scale for side in taken[0].shape[-2:])
        if min(height, width) < 16:
            raise InputError(
                f"{path} is too small to be downscaled {scale} times; give {setting('factor')}."
            )
        hr = torch.stack(taken)[..., : height * scale, : width * scale]
        down = DegradeConfig().oblong(height, width, scale)
        return cls(hr, as_saved(down(hr)), scale)

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
    flows = _between(luma(film.hr).float() / 255, optical_flow)
    for number, method in enumerate((None, *methods), 1):
        parts = (__version__, repr(method), film.digest, film.scale)
        key = hashlib.sha256(repr(parts).encode()).hexdigest()
        name = TRUTH if method is None else method.name
        file = folder / "films" / f"{Path(name).name}.json"
        values = _kept(file, key)
        if values is None:
            start = time.monotonic()
            sr = film.hr if method is None else torch.stack(list(_enlarge(film, method)))
            speed = None if method is None else len(sr) / (time.monotonic() - start)
            values = _measured(film, sr, flows, speed)
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


def _enlarge(film: Film, method: FilmMethod) -> Frames:
    """Frames in [0, 1], in 8 bits, as a film would hold them."""
    if isinstance(method, Enlarged):
        for lr in film.lr:
            yield as_saved(F.interpolate(lr[None], scale_factor=film.scale, mode=method.name)[0])
        return
    network = superres.load(method.name)
    if network.scale != film.scale:
        raise InputError(
            f"The network {method.name} enlarges {network.scale} times: give {setting('factor')} "
            f"{network.scale}, or other {setting('methods')}."
        )
    for sr in superres.upscale_film(network, (lr[None] for lr in film.lr)):
        yield as_saved(sr[0])


def _between(
    grey: Float[Tensor, "t 1 h w"], of: Callable[[Tensor, Tensor], Tensor]
) -> Float[Tensor, "t-1 2 h w"]:
    """Of each frame and the next, one pair at a time for the sake of memory."""
    return torch.cat([of(grey[i : i + 1], grey[i + 1 : i + 2]) for i in range(len(grey) - 1)])


def _measured(
    film: Film,
    sr: Float[Tensor, "t 3 p q"],
    flows: Float[Tensor, "t-1 2 p q"],
    speed: float | None,
) -> dict[str, Value]:
    grey, border = luma(sr).float() / 255, film.scale
    pairs = [(slice(i, i + 2), flows[i : i + 1]) for i in range(len(flows))]
    lists = {
        "psnr": [float(psnr_y(a, b, border)) for a, b in zip(sr, film.hr, strict=True)],
        "ssim": [float(ssim_y(a, b, border)) for a, b in zip(sr, film.hr, strict=True)],
        "tof": [flow_difference(grey[pair], flow, border) for pair, flow in pairs],
        "warping": [warping_error(sr[pair], flow, border) for pair, flow in pairs],
        "speed": [math.nan if speed is None else speed],
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
