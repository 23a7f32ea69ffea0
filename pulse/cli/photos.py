"""The files of `pulse upscale`: which pictures are meant, and what is written where."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pulse.batch.inputs import readable
from pulse.batch.listing import files_in
from pulse.cli.inputs import picture_files
from pulse.imaging.pictures import InputError
from pulse.photos import FORMATS, format_of
from pulse.results import Format


@dataclass(frozen=True)
class Job:
    """A picture to upscale, and the file to write."""

    source: Path
    target: Path

    @property
    def format(self) -> Format:
        return format_of(self.target)

    @property
    def comparison(self) -> Path:
        return self.target.with_name(f"{self.target.stem}-comparison.png")


def jobs_of(inputs: list[str], output: Path, format: Format | Literal["auto"]) -> list[Job]:
    """What is to be done, in order.

    Args:
        inputs: files, folders and patterns.
        output: a folder; or a file, where one file is to be upscaled and it has a picture's ending.
        format: "auto" keeps JPEG, PNG and WebP and makes PNG of all others.

    Raises:
        InputError: an input is not there, or two would be written to the same file.
    """
    sources = [path for text in inputs for path in _files(text)]
    single = len(inputs) == len(sources) == 1 and str(sources[0]) == inputs[0]
    if single and output.suffix.lower() in FORMATS and not output.is_dir():
        jobs = [Job(sources[0], output)]
    else:
        jobs = [Job(path, output / f"{path.stem}.{format_of(path, format)}") for path in sources]
    taken: dict[Path, Path] = {}
    for job in jobs:
        other = taken.setdefault(job.target, job.source)
        if other is not job.source:
            raise InputError(
                f"{other} and {job.source} would both be written to {job.target}; upscale them "
                "apart with different -o."
            )
        if job.target.resolve() == job.source.resolve():
            raise InputError(f"{job.source} would be overwritten; give another folder with -o.")
    return jobs


def _files(text: str) -> Iterator[Path]:
    path = Path(text)
    if path.is_dir():
        found = [
            file.name
            for file in files_in(text, False)
            if Path(file.name).suffix.lower() in readable()
        ]
        if not found:
            raise InputError(f"{text} holds no pictures.")
        yield from (path / name for name in found)
    else:
        yield from picture_files(text)
