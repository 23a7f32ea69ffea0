"""A film to make of a film: what is made of what, and whether that can be."""

from __future__ import annotations

import hashlib
import importlib.metadata
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image

from pulse import superres
from pulse.imaging.clips import Clip, Track
from pulse.imaging.encoding import HOLD, Encoding
from pulse.imaging.join import Companions, unholdable
from pulse.imaging.pictures import InputError, setting
from pulse.photos import ENHANCED
from pulse.results import COMPOSITE, PASTED, TOOL, encode
from pulse.superres import weights
from pulse.superres.networks import FRVSR
from pulse.superres.tiles import Tile
from pulse.superres.weights import AnyNetwork
from pulse.upscale import Upscaler
from pulse.video.config import FilmConfig
from pulse.video.film import PART_FRAMES, shape_of
from pulse.video.footage import Footage, open_footage
from pulse.video.imaginary import Faces
from pulse.video.methods import Batches, Method, compare, per_frame, recurrent, side_by_side
from pulse.video.parts import FilmSink, PictureSink, Sink, parts_of
from stylegan.marks import xmp

ENHANCED_FILM = ENHANCED.replace("picture", "film")
IMAGINARY = (
    "Faces in this film are imaginary: a generative network drew them to match small versions of "
    "those that were there."
)
DEFAULTS = ("frvsr-x4", "compact-x4", "realesr-animevideov3-x4", "srresnet-x4")
"""What films are upscaled with where nothing is said: the first of these that is here."""
_ASPECT_LOST = ("vp9", "av1", "ffv1")
"""Codecs that leave the shape of pixels to the container; libav's Matroska takes it from none."""


@dataclass(frozen=True)
class FilmJob:
    """A film to make.

    Attributes:
        target: a film, or a folder for its pictures.
        network: as the person named it.
        sha256: of the network's weights.
        encoding: None for a folder.
        tracks: of the footage, those that come along.
        notes: what a person should know before, one sentence each.
    """

    footage: Footage
    target: Path
    network: str
    sha256: str
    config: FilmConfig
    encoding: Encoding | None
    tracks: tuple[Track, ...]
    notes: tuple[str, ...]

    @property
    def preview(self) -> Path:
        """The file of a still."""
        return self.target.with_name(f"{self.target.stem}-preview.png")

    @property
    def made(self) -> bool:
        """Whether the result is there, and whole."""
        if parts_of(self.target).exists():
            return False
        return any(self.target.iterdir()) if self.target.is_dir() else self.target.exists()

    @property
    def report(self) -> Path:
        """The file that says of each face in each frame how well it matches."""
        return self.target.with_name(f"{self.target.name}.json")

    @property
    def words(self) -> str:
        """What the film says of itself."""
        if self.config.faces is None:
            return f"{ENHANCED_FILM} {TOOL}; Network: {self.network}"
        generator = f"Generator: {self.config.faces.generator}"
        return f"{IMAGINARY} {ENHANCED_FILM} {TOOL}; {generator}; Network: {self.network}"

    def identity(self, upscaler: Upscaler | None = None) -> dict[str, Any]:
        """What parts of the film have to agree on."""
        config = asdict(self.config)
        del config["drop"]  # It is about what joins the parts.
        files = sorted(self.footage.path.iterdir()) if self.footage.path.is_dir() else ()
        facts = [(path.name, *_fingerprint(path)) for path in (self.footage.path, *files)]
        return {
            "input": hashlib.sha256(repr(facts).encode()).hexdigest(),
            "network": self.sha256,
            "generator": None if upscaler is None else [upscaler.sha256, upscaler.precision],
            "config": {name: str(value) for name, value in config.items()},
            "encoding": str(self.encoding),
            "frames": PART_FRAMES,
            "made by": [TOOL, importlib.metadata.version("av")],
        }

    def method(self, network: AnyNetwork, faces: Faces | None = None) -> Method:
        """What is done to the frames.

        Args:
            faces: those of the film and what draws them anew.
        """
        picture, levels = self.config.picture, 65535 if self.footage.depth > 8 else 255
        if isinstance(network, FRVSR):
            picture = replace(picture, scale=picture.scale or network.scale)
            method = recurrent(_in_order(network, picture.tile), picture, levels)
        else:
            method = per_frame(network, picture, levels)
        if faces is not None:
            method = faces.method(method)
        match self.config.panels:
            case "compare":
                return compare(method, self.config.picture.scale or network.scale)
            case "side-by-side":
                return side_by_side(method)
            case "none":
                return method

    def sink(self, method: Method, folder: Path) -> Sink:
        """What takes the frames; its parts lie in the folder."""
        if self.encoding is None:
            return PictureSink(folder, self.target, self.to_png)
        shape = shape_of(self.footage, method, self.encoding)
        clip = self.footage if isinstance(self.footage, Clip) else None
        start, end = self.config.cut
        companions = Companions(
            clip=clip, tracks=self.tracks, start=start, end=end, comment=self.words,
            xmp=xmp(COMPOSITE, TOOL, self.words),
        )  # fmt: skip
        return FilmSink(folder, self.target, shape, companions)

    def to_png(self, image: Image.Image) -> bytes:
        """The file of a frame, which says what it is."""
        facts = {"Software": TOOL, "Description": ENHANCED, "Network": self.network}
        if self.config.faces is not None:
            facts["Description"] = f"{PASTED} {ENHANCED}".replace("photo", "picture")
            facts["Generator"] = self.config.faces.generator
        return encode(image, "png", facts, COMPOSITE)

    def record(self, output: Path, size: tuple[int, int]) -> dict[str, Any]:
        """The facts of a result of that height and width."""
        return {
            "input": str(self.footage.path),
            "output": str(output),
            "new": True,
            "network": self.network,
            "width": size[1],
            "height": size[0],
            "tracks": [str(track) for track in self.tracks],
            "notes": list(self.notes),
        }


def job_of(source: Path, target: Path, network: str | None, config: FilmConfig) -> FilmJob:
    """A film that can be made, as far as can be told before.

    Raises:
        InputError: it cannot.
    """
    encoding = _encoding(target, config)
    if target.exists() and source.exists() and target.samefile(source):
        raise InputError(f"{source} would be overwritten; give another name with -o.")
    name = weights.default(DEFAULTS) if network is None else network
    sha256 = weights.identity(name)
    footage = open_footage(source, config.fps, config.tone_map)
    seconds = None if footage.count is None else float(footage.count / footage.rate)
    config = replace(config, cut=config.cut.of(seconds))
    tracks, notes = footage.tracks if isinstance(footage, Clip) else (), [*footage.notes]
    if encoding is None:
        if tracks:
            notes.append(f"Pictures hold no {' and no '.join(sorted({t.kind for t in tracks}))}.")
        tracks = ()
        if footage.depth > 8:
            notes.append("It has more than 8 bits, of which the pictures keep 8.")
    else:
        _check_aspect(footage, target, encoding)
        lost = unholdable(footage, target) if isinstance(footage, Clip) else []
        if lost and not config.drop:
            what = ", ".join(map(str, lost))
            raise InputError(
                f"{target.suffix} cannot hold {what} of {source}; give a name that ends in .mkv, "
                f"or leave out what it cannot hold with {setting('drop')}."
            )
        notes += [f"Left out is {track}." for track in lost]
        tracks = tuple(track for track in tracks if track not in lost)
    return FilmJob(footage, target, name, sha256, config, encoding, tracks, tuple(notes))


def _in_order(network: FRVSR, tile: Tile) -> Callable[[Batches], Batches]:
    """The network, for the frames of a film one after another, wherever it computes."""
    place = next(network.parameters()).device

    def run(frames: Batches) -> Batches:
        yield from superres.recurrent(network, (frame.to(place) for frame in frames), tile)

    return run


def _encoding(target: Path, config: FilmConfig) -> Encoding | None:
    """How the film is coded; None for a folder of pictures."""
    suffix = target.suffix.lower()
    if suffix not in HOLD:
        if not suffix or target.is_dir():
            return None
        raise InputError(
            f"{target} cannot be written: films end in {', '.join(HOLD)}; what has no ending is a "
            "folder for pictures."
        )
    if target.is_dir():
        raise InputError(f"{target} is a folder; give a film's name with -o.")
    codec = config.codec or HOLD[suffix][0]
    if codec not in HOLD[suffix]:
        kinds = " or ".join(kind for kind, codecs in HOLD.items() if codec in codecs)
        raise InputError(f"{suffix} cannot hold {codec}; give a name that ends in {kinds}.")
    return Encoding(codec, config.crf)


def _check_aspect(footage: Footage, target: Path, encoding: Encoding) -> None:
    kept = encoding.codec not in _ASPECT_LOST or target.suffix.lower() not in (".mkv", ".webm")
    if footage.pixel_aspect != 1 and not kept:
        raise InputError(
            f"The pixels of {footage.path} are not square, which {target.suffix} does not tell of "
            f"{encoding.codec}; give {setting('codec')} h264 or a name that ends in .mp4."
        )


def _fingerprint(path: Path) -> Iterator[int]:
    facts = path.stat()
    yield facts.st_mtime_ns
    yield facts.st_size
