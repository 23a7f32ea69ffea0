"""Films of visitors, and single frames of them, through a network. Needs the extra for films."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from PIL import Image

from pulse.imaging.colours import eight_bits
from pulse.imaging.encode import PART
from pulse.imaging.pictures import InputError, setting
from pulse.photos import ENHANCED
from pulse.results import TOOL
from pulse.superres.pictures import PictureConfig
from pulse.video.config import Cut, FilmConfig
from pulse.video.film import FilmProgress, make, shape_of, still
from pulse.video.job import ENHANCED_FILM, FilmJob, job_of
from pulse.video.parts import parts_of, work_folder
from pulse.web import html
from pulse.web.jobs import Made, Networks, Note, Place, Step, check_upload, emptied, reworded
from pulse.web.photo import check_scale, write_shown
from pulse.web.studio import Studio
from pulse.web.updates import Limits

FASTEST = 60
"""Frames a second, on average, of a film that is as long as is allowed."""
SUFFIX = ".mp4"
"""Of results: what all browsers play."""


def most_frames(limits: Limits) -> int:
    """How many frames are made at once."""
    return int(limits.seconds * FASTEST)


@dataclass(frozen=True)
class Order:
    """A film to enlarge."""

    job: FilmJob
    studio: Studio
    networks: Networks

    def run(self, place: Place) -> Iterator[Step]:
        """The last step has the film, or says that parts of one that was stopped are in the folder.

        They need not be made again.
        """
        source, most = self.job.footage.path, most_frames(self.studio.limits)
        target = place.folder / f"{source.stem}-enlarged{SUFFIX}"
        job, made = replace(self.job, target=target), None

        def work(tell: Callable[[Step], None]) -> None:
            nonlocal made
            tell(Note(f"Opening the network {job.network}."))
            method, start = job.method(self.networks.open(job.network)), time.monotonic()
            emptied(place.folder, parts_of(target).name)
            progress = FilmProgress(0, None, 0)
            with (
                reworded(_said(source) | {str(target): "The result"}),
                work_folder(target, job.identity()) as folder,
            ):
                for progress in make(job.footage, method, job.sink(method, folder), job.config.cut):
                    if progress.done > most:
                        raise InputError(_too_many(most))
                    tell(frames_done(progress))
            size = method.size((job.footage.height, job.footage.width))
            if job.encoding is not None:
                shape = shape_of(job.footage, method, job.encoding)
                size = shape.height, shape.width
            damage = progress.damage.replace(str(source), "The film")
            record = job.record(target, size) | {
                "input": source.name,
                "output": target.name,
                "frames": progress.done,
                "damage": damage,
                "seconds": round(time.monotonic() - start, 2),
                "notice": ENHANCED_FILM,
            }
            made = Made(record, target, place.folder)

        yield from self.studio.line.serve(work, place.stop, place.address)
        if made is not None:
            yield made
        elif parts := len([*parts_of(target).glob(f"*.{PART}")]):
            yield Made({"parts": parts}, folder=place.folder, cut=True)


@dataclass(frozen=True)
class Preview:
    """One frame of a film, to see what the whole would look like.

    Attributes:
        number: the first is 1.
    """

    job: FilmJob
    number: int
    studio: Studio
    networks: Networks

    def run(self, place: Place) -> Iterator[Step]:
        """The last step has the frame before and after."""
        job, made = self.job, None

        def work(tell: Callable[[Step], None]) -> None:
            nonlocal made
            tell(Note(f"Making frame {self.number}."))
            method = job.method(self.networks.open(job.network))
            folder = place.folder / "preview"
            folder.mkdir(parents=True, exist_ok=True)
            with reworded(_said(job.footage.path)):
                after = eight_bits(still(job.footage, method, self.number))
                frames = islice(job.footage.frames(), self.number - 1, None)
                before = eight_bits(next(frames).pixels)
            facts = {"Software": TOOL, "Description": ENHANCED, "Network": job.network}
            shown = write_shown(folder, Image.fromarray(before), Image.fromarray(after), facts)
            made = Made({"frame": self.number}, shown=shown)

        yield from self.studio.line.serve(work, place.stop, place.address)
        if made is not None:
            yield made


def frames_done(progress: FilmProgress) -> Note:
    total = "" if progress.total is None else f" of {progress.total}"
    left = "" if progress.left is None else f", about {html.duration(progress.left)} left"
    share = progress.done / progress.total if progress.total else None
    return Note(f"Frame {progress.done}{total}{left}.", share)


def film_job(studio: Studio, film: str | None, network: str, scale: float, cut: Cut) -> FilmJob:
    """A film that may be made; its target is not said yet.

    Raises:
        InputError: it may not, or cannot.
    """
    limits = studio.limits
    path = check_upload(None if film is None else Path(film), limits.film, "film")
    config = FilmConfig(PictureConfig(float(scale or 0)), cut=cut, drop=True, tone_map=True)
    with reworded(_said(path)):
        job = job_of(path, path.with_name(f"none{SUFFIX}"), network, config)
    footage = job.footage
    if footage.width * footage.height > limits.frame:
        raise InputError(
            f"The film has {footage.width}x{footage.height} pixels; at most "
            f"{limits.frame / 1e6:.3g} megapixels a frame are taken here: make it smaller first."
        )
    check_scale(scale, footage.height, footage.width, limits)
    start = job.config.cut.start or 0.0
    if footage.count is None:
        end = start + limits.seconds if cut.end is None else cut.end
        job = replace(job, config=replace(job.config, cut=Cut(cut.start, end)))
        length = end - start
        job = replace(job, notes=(*job.notes, f"At most {limits.seconds:g} s of it are taken."))
    else:
        known = float(footage.count / footage.rate)
        length = min(cut.end or known, known) - start
    if length > limits.seconds + 1 / float(footage.rate):
        raise InputError(
            f"That are {length:.3g} s of film, and at most {limits.seconds:g} s are made at once "
            f"here: say {setting('start')} and {setting('end')}."
        )
    if length * footage.rate > (most := most_frames(limits)):
        raise InputError(_too_many(most))
    return job


def _too_many(most: int) -> str:
    return (
        f"The film has more than {most} frames, the most that are made at once here: say "
        f"{setting('start')} and {setting('end')}."
    )


def _said(path: Path) -> dict[str, str]:
    """What is said of a visitor's film, and how the page says it."""
    return {
        f"{path} has no pictures in it; give a film.": "The file has no pictures in it, perhaps "
        "sound alone; give a film.",
        str(path): "The film",
        "`pulse upscale` enlarges pictures": "the tab Photo enlarges pictures",
    }
