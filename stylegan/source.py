"""Finds the generator in a checkpoint and lists its weights and settings by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from torch import Tensor

from stylegan.archive import Tensors
from stylegan.unpickle import LONGEST_NAME, Record, UnpickleError

Scalar: TypeAlias = int | float | str | tuple[int | float, ...] | None

DEEPEST = 12
"""Levels of modules in modules."""
MOST = 64
"""Layers of a kind that a network may have; known ones have up to 18."""
PERSISTENT = "torch_utils.persistence._reconstruct_persistent_obj"


class Source:
    """Tensors and settings of a checkpoint by their dotted names."""

    def __init__(self, tensors: Tensors) -> None:
        self.reader = tensors
        self.records: dict[str, Record] = {}
        self.settings: dict[str, Scalar] = {}

    def __contains__(self, name: str) -> bool:
        return name in self.records

    def take(self, name: str) -> Tensor:
        if name not in self.records:
            raise UnpickleError(f"its weight {name} is missing")
        tensor = self.reader.tensor(self.records[name])
        if tensor is None or not tensor.is_floating_point():
            raise UnpickleError(f"its weight {name} is not a tensor of floating-point numbers")
        return tensor.float()

    def count(self, pattern: str) -> int:
        """How many of the names with a number in the place of {} there are, from zero on."""
        count = 0
        while pattern.format(count) in self.records:
            count += 1
            if count > MOST:
                raise UnpickleError("it has more layers than a network needs")
        return count

    def setting(self, name: str, default: Any, kind: type | tuple[type, ...] = (int, float)) -> Any:
        value = self.settings.get(name, default)
        if value is not default and not isinstance(value, kind):
            raise UnpickleError(f"its setting {name} is of the wrong kind")
        return value


def read_source(content: Any, tensors: Tensors) -> Source:
    """Everything that the generator in a checkpoint consists of.

    Args:
        content: what `archive.read` gave.
        tensors: of the same file.

    Raises:
        UnpickleError: nothing in it looks like a network.
    """
    source = Source(tensors)
    network = _tensorflow_network(content)
    if network is not None:
        _collect_tensorflow(source, network, "")
        return source
    _collect_modules(source, _averaged(content), "", 0, set())
    if isinstance(content, dict) and isinstance(content.get("latent_avg"), Record):
        source.records["latent_avg"] = content["latent_avg"]  # rosinality's, beside the weights.
    return source


def merge(first: Any, second: Any) -> Any:
    """The contents of two files, such as PULSE's synthesis.pt and mapping.pt, as those of one."""
    if not isinstance(first, dict) or not isinstance(second, dict):
        raise UnpickleError("there is no StyleGAN generator of a known kind in it")
    return {**first, **second}


def _averaged(content: Any) -> Any:
    """Of the networks in a training checkpoint, the averaged generator."""
    if isinstance(content, dict):
        for name in ("G_ema", "g_ema", "G", "g", "generator", "state_dict"):
            if name in content:
                return content[name]
    return content


def _collect_modules(source: Source, value: Any, prefix: str, depth: int, seen: set[int]) -> None:
    """Weights and settings of a module, or of a dict of weights, and of what they hold."""
    if id(value) in seen or depth > DEEPEST:
        raise UnpickleError("its modules hold themselves")
    seen.add(id(value))
    if isinstance(value, Record):
        if value.name == PERSISTENT and value.args:
            meta = value.args[0]
            meta = meta.pairs if isinstance(meta, Record) else meta
            state = meta.get("state") if isinstance(meta, dict) else None
        else:
            state = value.state
        if not isinstance(state, dict):
            raise UnpickleError("there is no StyleGAN generator of a known kind in it")
        for name, setting in state.items():
            if _is_name(name) and not name.startswith("_"):
                source.settings[prefix + name] = _scalar(source, setting)
        for group in ("_parameters", "_buffers"):
            _collect_tensors(source, state.get(group) or {}, prefix)
        modules = state.get("_modules") or {}
        if not isinstance(modules, dict):
            raise UnpickleError("its modules are damaged")
        for name, module in modules.items():
            if isinstance(module, Record) and _is_name(name):
                _collect_modules(source, module, f"{prefix}{name}.", depth + 1, seen)
    elif isinstance(value, dict):
        _collect_tensors(source, value, prefix)
    else:
        raise UnpickleError("there is no StyleGAN generator of a known kind in it")


def _collect_tensors(source: Source, values: Any, prefix: str) -> None:
    if not isinstance(values, dict):
        raise UnpickleError("its weights are damaged")
    for name, value in values.items():
        if _is_name(name) and isinstance(value, Record):
            source.records[prefix + name.removeprefix("module.")] = value


def _is_name(value: Any) -> bool:
    """Whether it is a text that names something; longer ones, joined, would fill the memory."""
    return isinstance(value, str) and len(value) <= LONGEST_NAME


def _scalar(source: Source, value: Any) -> Scalar:
    """A setting, of which numpy's numbers and short arrays become Python's."""
    if isinstance(value, Record) and value.name.startswith("numpy."):
        tensor = source.reader.tensor(value)
        if tensor is None or tensor.numel() > 16:
            return None
        return tuple(tensor.tolist()) if tensor.ndim == 1 else tensor.flatten().tolist()[0]
    if isinstance(value, list | tuple):
        return tuple(part for part in value[:16] if isinstance(part, int | float))
    return value if isinstance(value, int | float | str) else None


def _tensorflow_network(content: Any) -> dict[Any, Any] | None:
    """The state of the averaged generator: the last network with a part named synthesis."""
    networks = content if isinstance(content, tuple | list) else (content,)
    for network in reversed(networks):
        if isinstance(network, Record) and network.name.endswith("tflib.network.Network"):
            state = network.state
            if isinstance(state, dict) and "synthesis" in _pairs(state.get("components")):
                return state
    return None


def _collect_tensorflow(source: Source, state: dict[Any, Any], prefix: str) -> None:
    variables = state.get("variables")
    if not isinstance(variables, list):
        raise UnpickleError("its network has no variables")
    for variable in variables:
        match variable:
            case (str(name), Record() as record) if _is_name(name):
                source.records[prefix + name] = record
    for name, setting in _pairs(state.get("static_kwargs")).items():
        if not _is_name(name):
            continue
        source.settings[f"{prefix}{name}"] = _scalar(source, setting)
    for name, network in _pairs(state.get("components")).items():
        if (
            isinstance(network, Record)
            and isinstance(network.state, dict)
            and not prefix
            and _is_name(name)
        ):
            _collect_tensorflow(source, network.state, f"{name}/")


def _pairs(value: Any) -> Mapping[Any, Any]:
    if isinstance(value, Record):
        return value.pairs
    return value if isinstance(value, dict) else {}
