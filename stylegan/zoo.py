"""Generators by name: where they come from, under which licence, and the cache they are kept in."""

from __future__ import annotations

import difflib
import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from filelock import FileLock
from platformdirs import user_cache_dir

from stylegan.checkpoints import CheckpointError, files_of, open_checkpoint
from stylegan.download import DownloadError, download, held
from stylegan.files import whole
from stylegan.generator import Generator

SLACK = 2**24
"""Bytes that a file may have beside twice what is known of its size."""
EMBEDDED = "faces"
"""The generator that comes with the program."""

Watch = Callable[[str, int, int | None], None]
"""Told a file's name, its bytes that are here, and those of the whole file if that is known."""


@dataclass(frozen=True)
class RemoteFile:
    """A file to fetch.

    Attributes:
        size: bytes, approximately; more than about twice as many are not taken.
        sha256: as its publisher states it; None where he does not.
    """

    url: str
    filename: str
    size: int
    sha256: str | None = None

    @property
    def most(self) -> int:
        """Bytes that may be fetched."""
        return 2 * self.size + SLACK


@dataclass(frozen=True)
class Model:
    """A generator that is known by name.

    Attributes:
        resolution: side of its pictures in pixels.
        draws: what its pictures show.
        files: what to fetch; none for the generator that is embedded.
        note: what else to know before fetching it, one sentence.
    """

    name: str
    resolution: int
    draws: str
    licence: str
    files: tuple[RemoteFile, ...]
    note: str = ""


NVIDIA = "NVIDIA Source Code License (non-commercial: research or evaluation only)"
_NGC = "https://api.ngc.nvidia.com/v2/models/nvidia/research"
_SG2 = f"{_NGC}/stylegan2/versions/1/files"
_SG3 = f"{_NGC}/stylegan3/versions/1/files"
_ADA = "https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained"
_DRIVE = "https://drive.usercontent.google.com/download?export=download&confirm=t&id="
_UNALIGNED = "faces, not aligned"


def _nvidia(
    folder: str, filename: str, resolution: int, draws: str, size: int, name: str | None = None
) -> Model:
    """A checkpoint that NVIDIA publishes.

    NVIDIA states neither sizes nor checksums. The sizes are those of the weights inside, twice the
    generator's (with its average) and the discriminator's, as 32-bit floats.
    """
    name = name or filename.removesuffix(f"x{resolution}.pkl")
    file = RemoteFile(f"{folder}/{filename}", filename, size)
    return Model(name, resolution, draws, NVIDIA, (file,))


MODELS = (
    Model(EMBEDDED, 128, "faces", "research and demonstration, see MODEL_CARD.md", ()),
    _nvidia(_SG2, "stylegan2-ffhq-1024x1024.pkl", 1024, "faces", 380_000_000),
    _nvidia(_SG2, "stylegan2-ffhq-512x512.pkl", 512, "faces", 360_000_000),
    _nvidia(_SG2, "stylegan2-ffhq-256x256.pkl", 256, "faces", 300_000_000),
    _nvidia(_SG2, "stylegan2-ffhqu-256x256.pkl", 256, _UNALIGNED, 300_000_000),
    _nvidia(_SG2, "stylegan2-celebahq-256x256.pkl", 256, "faces of celebrities", 300_000_000),
    _nvidia(_SG2, "stylegan2-afhqcat-512x512.pkl", 512, "cats", 360_000_000),
    _nvidia(_SG2, "stylegan2-afhqdog-512x512.pkl", 512, "dogs", 360_000_000),
    _nvidia(_SG2, "stylegan2-afhqwild-512x512.pkl", 512, "wild animals", 360_000_000),
    _nvidia(_SG2, "stylegan2-metfaces-1024x1024.pkl", 1024, "faces in works of art", 380_000_000),
    _nvidia(_SG3, "stylegan3-t-ffhq-1024x1024.pkl", 1024, "faces", 290_000_000),
    _nvidia(_SG3, "stylegan3-r-ffhq-1024x1024.pkl", 1024, "faces", 240_000_000),
    _nvidia(_SG3, "stylegan3-t-ffhqu-256x256.pkl", 256, _UNALIGNED, 280_000_000),
    _nvidia(_SG3, "stylegan3-r-ffhqu-256x256.pkl", 256, _UNALIGNED, 220_000_000),
    _nvidia(_ADA, "ffhq.pkl", 1024, "faces", 380_000_000, "stylegan2-ada-ffhq-1024"),
    Model(
        "stylegan1-ffhq-1024",
        1024,
        "faces",
        "CC BY-NC 4.0, NVIDIA (non-commercial)",
        (
            RemoteFile(f"{_DRIVE}1TCViX1YpQyRsklTVYEJwdbmK91vklCo8", "synthesis.pt", 100_000_000),
            RemoteFile(f"{_DRIVE}14R6iHGf5iuVx3DMNsACAl7eBr7Vdpd0k", "mapping.pt", 8_400_000),
        ),
        "NVIDIA's StyleGAN as PULSE's authors converted it; on Google Drive, often over its quota.",
    ),
)


def find(name: str | Path) -> Model | None:
    """The model of exactly that name, if there is one."""
    return next((model for model in MODELS if model.name == name), None)


def unknown(name: str) -> CheckpointError:
    """What to say of a name that is neither a model's nor a file's, with those spelt alike."""
    names = [model.name for model in MODELS]
    close = [known for known in names if name.lower() in known]
    close = close or difflib.get_close_matches(name.lower(), names, n=4, cutoff=0.5)
    nearest = f" (nearest: {', '.join(close[:4])})" if close else ""
    return CheckpointError(
        f"No generator is named {name}, nor is there such a file: `pulse models` lists "
        f"them{nearest}; the embedded one is '{EMBEDDED}'."
    )


def home() -> Path:
    """The folder for what is fetched or worked out once: `$PULSE_HOME` or the platform's cache."""
    folder = Path(os.environ.get("PULSE_HOME") or user_cache_dir("pulse", appauthor=False))
    return folder.expanduser().absolute()


def path_of(model: Model) -> Path:
    """What `open_checkpoint` takes, there or not: the file, or the folder where it has several.

    Each model has a folder of its own in `models` under `home()`.
    """
    paths = _paths(model)
    return paths[0] if len(paths) == 1 else paths[0].parent


def _paths(model: Model) -> list[Path]:
    if not model.files:
        return [Path(__file__).parent / "weights" / f"{model.name}.safetensors"]
    folder = home() / "models" / model.name
    return [folder / file.filename for file in model.files]


def is_here(model: Model) -> bool:
    """Whether all its files can be read, without asking anyone."""
    return all(os.access(path, os.R_OK) for path in _paths(model))


def size_of(model: Model) -> int:
    """Bytes on the disk, or approximately those to fetch if it is not here."""
    if is_here(model):
        return sum(path.stat().st_size for path in _paths(model))
    return sum(file.size for file in model.files)


def address(file: RemoteFile) -> str:
    """Where to fetch it: at its publisher's, or from the folder that `$PULSE_MIRROR` names."""
    mirror = os.environ.get("PULSE_MIRROR")
    return f"{mirror.rstrip('/')}/{file.filename}" if mirror else file.url


def fetch(model: Model, progress: Watch | None = None) -> Path:
    """Get a model into the cache; where its files are there already, they are checked.

    A file is held to its publisher's checksum, or else to the one it had when it was first here
    and opened as a generator, which is kept beside it in the format of `sha256sum`. What came of a
    download that failed is used by the next. Several processes may fetch the same.

    Returns:
        `path_of(model)`.

    Raises:
        CheckpointError: a file cannot be had, or is not what it was.
    """
    new: list[Path] = []
    for file, path in zip(model.files, _paths(model), strict=False):
        try:
            new += [path] if _get(model, file, path, progress) else []
        except OSError as error:
            raise CheckpointError(
                f"{path.parent} cannot hold {path.name} ({error.strerror or error}): mend that or "
                "let PULSE_HOME name another folder; what has come is kept."
            ) from error
    _trust(model, new)
    return path_of(model)


def _get(model: Model, file: RemoteFile, path: Path, progress: Watch | None) -> bool:
    """Fetch one file unless it is there, and hold it to its checksum; whether it was fetched."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(path.name + ".lock")):
            # Another process may have fetched it meanwhile.
            if not path.exists():
                _download(model, file, path, progress)
                return True
    if _expected(file, path) is None:
        return False
    expected, found = _expected(file, path), checksum(path)
    if found != expected:
        raise CheckpointError(
            f"{path} has the sha256 {found} and not {expected}, so it is damaged or was changed: "
            f"delete it and fetch it anew with `pulse models fetch {model.name}`."
        )
    return False


def _trust(model: Model, new: list[Path]) -> None:
    """Remember the checksums of files that have none yet, once they have opened as a generator.

    Args:
        new: those that were just fetched; the others were put there by hand.

    Raises:
        CheckpointError: they are none; what was fetched is removed.
    """
    pairs = zip(model.files, _paths(model), strict=False)
    unknown = [path for file, path in pairs if _expected(file, path) is None]
    if not unknown:
        return
    try:
        for path in unknown:
            _check_start(path)
        open_checkpoint(path_of(model))
    except (CheckpointError, OSError) as error:
        for path in {*new} & {*unknown}:
            path.unlink(missing_ok=True)
        done = "What was fetched is removed" if new else "Delete it"
        raise CheckpointError(f"{error} {done}; fetch {model.name} again later.") from error
    for path in unknown:
        _record(path, checksum(path))


def _check_start(path: Path) -> None:
    """Refuse what is sent in the place of files.

    Raises:
        CheckpointError: it is empty, or a web page.
    """
    with path.open("rb") as file:
        start = file.read(256)
    if not start:
        raise CheckpointError(f"{path} is empty.")
    if start.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        raise CheckpointError(f"{path} is a web page and not a checkpoint.")


def _download(model: Model, file: RemoteFile, path: Path, progress: Watch | None) -> None:
    part = path.with_name(path.name + ".part")
    told = partial(progress, file.filename) if progress is not None else None
    try:
        download(address(file), part, file.most, told)
    except DownloadError as error:
        again = "later, which goes on where it stopped" if held(part) else "later"
        raise CheckpointError(
            f"{model.name} was not fetched: {error}; try again {again}, or put the file into "
            f"{path.parent} by hand, named {file.filename}."
        ) from error
    expected = _expected(file, path)
    if expected is not None and (found := checksum(part)) != expected:
        part.unlink()
        raise CheckpointError(
            f"{address(file)} gave a file with the sha256 {found} and not {expected}, which was "
            "removed: try again, or, if a new version was published and you trust it, delete "
            f"{path.parent} first."
        )
    os.replace(part, path)


def _expected(file: RemoteFile, path: Path) -> str | None:
    """The checksum to hold a file to, if there is one yet."""
    if file.sha256 is not None:
        return file.sha256
    record = _record_of(path)
    return record.read_text("utf-8").partition(" ")[0] if record.exists() else None


def _record(path: Path, sha256: str) -> None:
    with whole(_record_of(path)) as file:
        file.write_text(f"{sha256}  {path.name}\n", "utf-8")


def _record_of(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def checksum(path: Path) -> str:
    """The sha256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def identity(path: Path) -> str:
    """The sha256 that a generator is known by: its file's, or that of its two files' sha256."""
    sums = [checksum(file) for file in files_of(path)]
    return sums[0] if len(sums) == 1 else hashlib.sha256("".join(sums).encode()).hexdigest()


def locate(name: str | Path) -> Path:
    """The file (or folder, where it takes two) of a generator: of a known name, or the path itself.

    A model that is not in the cache is fetched; `fetch` tells of its progress.
    """
    model = find(name)
    if model is not None:
        return fetch(model)
    path = Path(name)
    try:
        there = path.exists()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be looked up ({error.strerror}).") from error
    if not there:
        raise unknown(str(name))
    files_of(path)  # A folder has to hold a generator.
    return path


def load(
    name: str | Path = EMBEDDED,
    device: torch.device | str = "cpu",
    precision: torch.dtype = torch.float32,
) -> Generator:
    """Open a generator by name or path, ready for inference on a device."""
    return open_checkpoint(locate(name), device, precision)
