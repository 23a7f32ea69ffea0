"""The files of `pulse video`, as they are made."""

from __future__ import annotations

import time
from typing import Any

from PIL import Image

from pulse.cli.outputs import say, write_file
from pulse.cli.progress import Display, display
from pulse.cli.upscale import PLAIN_EVERY
from pulse.imaging.colours import eight_bits
from pulse.superres.weights import AnyNetwork
from pulse.video.film import Progress, make, shape_of, still
from pulse.video.job import FilmJob
from pulse.video.parts import work_folder


def write_still(job: FilmJob, network: AnyNetwork, number: int) -> dict[str, Any]:
    """Write one frame as a picture, and say so.

    Raises:
        InputError: there is no such frame, or it cannot be written.
    """
    pixels = eight_bits(still(job.footage, job.method(network), number))
    write_file(job.preview, job.to_png(Image.fromarray(pixels)))
    return job.record(job.preview, pixels.shape[:2]) | {"frame": number}


def write_film(job: FilmJob, network: AnyNetwork) -> dict[str, Any]:
    """Make the film, saying how far it is, and give the facts of it.

    Raises:
        InputError: it cannot be made; what was made of it stays.
        MemoryError: there is too little.
    """
    began = time.monotonic()
    method = job.method(network)
    size = method.size((job.footage.height, job.footage.width))
    if job.encoding is not None:
        shape = shape_of(job.footage, method, job.encoding)
        if (shape.height, shape.width) != size:
            say(f"{job.target}: its last row or column comes twice, since sides have to be even.")
        size = shape.height, shape.width
    with work_folder(job.target, job.identity()) as folder, display() as shown:
        progress = Progress(0, None, 0)
        try:
            for progress in make(job.footage, method, job.sink(method, folder), job.config.cut):
                _show(shown, job.target.name, progress)
        except KeyboardInterrupt:
            shown.say(f"{job.target}: stopped; the same command goes on with what is made.")
            raise
        if progress.damage:
            shown.say(progress.damage)
    return job.record(job.target, size) | {
        "frames": progress.done,
        "damage": progress.damage,
        "seconds": round(time.monotonic() - began, 2),
    }


def _show(shown: Display, name: str, progress: Progress) -> None:
    words = f"{progress.done}/{progress.total or '?'} frames"
    if progress.speed:
        words += f", {progress.speed:.2g} a second"
    if progress.left is not None:
        words += f", {_span(progress.left)} left"
    shown.bar(name, progress.done, progress.total, words)
    if shown.due(PLAIN_EVERY):
        shown.line(f"{name}: {words}")


def _span(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
