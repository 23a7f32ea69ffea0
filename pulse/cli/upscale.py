"""`pulse upscale`: pictures through a network that enlarges them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from pulse.cli import options
from pulse.cli.outputs import check_output, complain, say, write_file
from pulse.cli.photos import Job, jobs_of
from pulse.cli.progress import Display, display
from pulse.devices import Precision, choose_device, network_precision
from pulse.imaging.pictures import InputError, read_photo, setting
from pulse.photos import check_size, comparison, enhanced
from pulse.superres import weights
from pulse.superres.pictures import PictureConfig, Step, steps
from pulse.superres.tiles import Tile
from pulse.superres.weights import AnyNetwork
from stylegan.memory import keep_freed_memory

PLAIN_EVERY = 10.0
"""Seconds between the lines of progress when nobody watches."""


def upscale(
    inputs: Annotated[
        list[str], typer.Argument(metavar="INPUT...", help="Pictures, folders, 'patterns*.png'.")
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Folder to write to; a file for one picture.")
    ] = Path("upscaled"),
    network: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE",
            help="What enlarges: a shipped network, one of Real-ESRGAN's, or a file. "
            "[default: the best for photos that is here]",
            show_default=False,
        ),
    ] = None,
    mix: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE",
            help="Mix that network with another of the same sizes, such as the one that a GAN "
            "began with.",
            show_default=False,
        ),
    ] = None,
    share: Annotated[float, typer.Option(help="With --mix: the other's share, 0 to 1.")] = 0.5,
    scale: options.Scale = PictureConfig.scale,
    tile: options.TileSide = "auto",
    exact: Annotated[
        bool, typer.Option("--exact", help="Make the result downscale to exactly the input.")
    ] = PictureConfig.exact,
    histogram: Annotated[
        bool | None,
        typer.Option(
            "--histogram/--no-histogram",
            help="Give the result the input's distribution of values. "
            "[default: with Johnson et al.'s network]",
            show_default=False,
        ),
    ] = PictureConfig.histogram,
    format: Annotated[
        Literal["auto", "png", "jpg", "webp"],
        typer.Option(help="File format; auto keeps the input's where it is one of these."),
    ] = "auto",
    compare: Annotated[
        bool, typer.Option("--compare", help="Write a comparison with bicubic upscaling, too.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Do what is done anew.")] = False,
    device: options.Device = "auto",
    precision: options.PrecisionName = "auto",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the records, and nothing else, on stdout.")
    ] = False,
) -> None:
    """Enlarge pictures with a network in one pass; not a search, and not only faces."""
    config = PictureConfig(scale, tile_of(tile), exact, histogram)
    jobs = jobs_of(inputs, output, format)
    name = weights.default() if network is None else network
    weights.locate(name)
    if mix is not None:
        weights.locate(mix)
    said = name if mix is None else f"{name} with {share:g} of {mix}"
    check_output(jobs[0].target.parent)

    opened: AnyNetwork | None = None
    records: list[dict[str, Any]] = []
    refused = False
    try:
        for job in jobs:
            if job.target.exists() and not force:
                say(f"{job.target} is there already; --force makes it anew.")
                records.append({"input": str(job.source), "output": str(job.target), "new": False})
                continue
            try:
                if opened is None:
                    opened = load_network(name, device, precision)
                    if mix is not None:
                        other = load_network(mix, device, precision)
                        opened = weights.mixed(opened, other, share)
                record = _one(job, opened, config, {"network": said, "compare": compare})
            except InputError as error:
                complain(error)
                refused = True
                if opened is None:
                    break  # Without a network no picture can be upscaled.
                continue
            records.append(record)
            if not as_json:
                print(f"{record['output']}  {record['width']}x{record['height']}")
    finally:
        if as_json:
            print(json.dumps(records, indent=2))
    if refused:
        raise typer.Exit(2)


def tile_of(text: str) -> Tile:
    """What `--tile` says.

    Raises:
        InputError: it says neither.
    """
    if text == "auto":
        return "auto"
    if not text.isdecimal():
        raise InputError(f"{setting('tile')} cannot be {text}; give auto or a number of pixels.")
    return int(text)


def load_network(name: str, device: str, precision: Precision) -> AnyNetwork:
    """The network on its device, in the precision that is fast there.

    Raises:
        InputError: the network or the device is not there.
    """
    keep_freed_memory()
    place = choose_device(device)
    return weights.load(name, place, network_precision(precision, place))


@contextmanager
def enough_memory(source: Path) -> Iterator[None]:
    """Says of a picture or film that there is too little memory for it, where that turns out."""
    try:
        yield
    except MemoryError as error:
        raise InputError(
            f"There is too little memory to upscale {source}: close other programs, or give a "
            f"smaller {setting('scale')}."
        ) from error


def _one(
    job: Job, network: AnyNetwork, config: PictureConfig, wishes: dict[str, Any]
) -> dict[str, Any]:
    """Upscale a picture and write it.

    Raises:
        InputError: it cannot be read, upscaled or written.
    """
    start = time.monotonic()
    photo = read_photo(job.source)
    scale = network.scale if config.scale is None else config.scale
    check_size(photo, scale, job.format)
    step = Step(0, 0, None)
    with enough_memory(job.source), display() as shown:
        for step in steps(network, photo.image, config):
            _show(shown, job.source.name, step)
    assert step.image is not None
    data, notes = enhanced(step.image, photo, job.format, wishes["network"])
    if wishes["compare"]:
        write_file(job.comparison, comparison(step.image, photo, wishes["network"]))
    write_file(job.target, data)
    for note in notes:
        say(f"{job.source}: {note}")
    return {
        "input": str(job.source),
        "output": str(job.target),
        "new": True,
        "network": wishes["network"],
        "scale": scale,
        "width": step.image.width,
        "height": step.image.height,
        "seconds": round(time.monotonic() - start, 2),
        "notes": notes,
    }


def _show(shown: Display, name: str, step: Step) -> None:
    words = f"{step.done}/{step.total} tiles"
    shown.bar(name, step.done, step.total, words)
    if shown.due(PLAIN_EVERY):
        shown.line(f"{name}: {words}")
