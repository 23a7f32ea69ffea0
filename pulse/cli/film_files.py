"""The files of `pulse video`, as they are made."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from PIL import Image

from pulse.cli.outputs import say, write_file
from pulse.cli.progress import Display, display
from pulse.cli.upscale import PLAIN_EVERY
from pulse.faces.follow import Track as FaceTrack
from pulse.imaging.colours import eight_bits
from pulse.superres.weights import AnyNetwork
from pulse.upscale import Upscaler
from pulse.video.config import Cut
from pulse.video.film import FilmProgress, make, shape_of, size_of, still
from pulse.video.imaginary import (
    Faces,
    Following,
    followed,
    matches,
    read_tracks,
    summary,
    write_tracks,
)
from pulse.video.job import FilmJob
from pulse.video.parts import work_folder


def write_still(
    job: FilmJob, network: AnyNetwork, number: int, upscaler: Upscaler | None = None
) -> dict[str, Any]:
    """Write one frame as a picture, and say so.

    Its faces are searched for afresh, so they need not be those that the film will show.

    Raises:
        InputError: there is no such frame, or it cannot be written.
    """
    faces = None
    if upscaler is not None and job.config.faces is not None:
        with display() as shown:
            tracks = _followed(job, Cut(), shown)
        faces = Faces(upscaler, tracks, job.config.faces)
    pixels = eight_bits(still(job.footage, job.method(network, faces), number))
    write_file(job.preview, job.to_png(Image.fromarray(pixels)))
    return job.record(job.preview, pixels.shape[:2]) | {"frame": number}


def write_film(
    job: FilmJob, network: AnyNetwork, upscaler: Upscaler | None = None
) -> dict[str, Any]:
    """Make the film, saying how far it is, and give the facts of it.

    Args:
        upscaler: what draws the faces, where the film's are searched for.

    Raises:
        InputError: it cannot be made; what was made of it stays.
        MemoryError: there is too little.
    """
    began = time.monotonic()
    method = job.method(network)
    size = size_of(job.footage, method)
    if job.encoding is not None:
        shape = shape_of(job.footage, method, job.encoding)
        if (shape.height, shape.width) != size:
            say(f"{job.target}: its last row or column comes twice, since sides have to be even.")
        size = shape.height, shape.width
    report: dict[str, Any] = {}
    with work_folder(job.target, job.identity(upscaler)) as folder, display() as shown:
        progress = FilmProgress(0, None, 0)
        try:
            if upscaler is not None and job.config.faces is not None:
                tracks = _tracks(job, folder, shown)
                method = job.method(network, Faces(upscaler, tracks, job.config.faces, folder))
            for progress in make(job.footage, method, job.sink(method, folder), job.config.cut):
                _show(shown, job.target.name, progress)
        except KeyboardInterrupt:
            shown.say(f"{job.target}: stopped; the same command goes on with what is made.")
            raise
        if progress.damage:
            shown.say(progress.damage)
        if upscaler is not None:
            report = _report(job, folder, progress.done)
    return job.record(job.target, size) | {
        "frames": progress.done,
        "damage": progress.damage,
        "seconds": round(time.monotonic() - began, 2),
        **report,
    }


def _tracks(job: FilmJob, folder: Path, shown: Display) -> tuple[FaceTrack, ...]:
    """The film's faces, looked for once."""
    known = folder / "faces.safetensors"
    if known.is_file():
        return read_tracks(known)
    tracks = _followed(job, job.config.cut, shown)
    write_tracks(known, tracks)
    return tracks


def _followed(job: FilmJob, cut: Cut, shown: Display) -> tuple[FaceTrack, ...]:
    at = Following(0, None)
    for at in followed(job.footage, cut):
        words = f"{at.done}/{at.total or '?'} frames looked at"
        shown.bar("faces", at.done, at.total, words)
        if shown.due(PLAIN_EVERY):
            shown.line(words)
    return at.tracks


def _report(job: FilmJob, folder: Path, count: int) -> dict[str, Any]:
    """Write how well each face of each frame matches, and give the sums of it."""
    frames = matches(folder)
    faces = summary(frames, count)
    for face in faces:
        found, drawn = face["found"], face["frames"]
        say(f"{job.target}: face {face['face']} is drawn in {drawn} frames and matches in {found}.")
    left = count - len({entry["frame"] for entry in frames})
    if left:
        say(f"{job.target}: {left} of {count} frames show no face that was found and stay so.")
    text = json.dumps({"input": str(job.footage.path), "faces": faces, "frames": frames}, indent=1)
    write_file(job.report, text.encode())
    return {"report": str(job.report), "faces": faces}


def _show(shown: Display, name: str, progress: FilmProgress) -> None:
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
