"""`pulse video`: films through a network that enlarges them."""

from __future__ import annotations

import json
import re
from fractions import Fraction
from pathlib import Path
from typing import Annotated

import typer

from pulse.cli import options
from pulse.cli.inputs import check_no_link
from pulse.cli.models import load_generator
from pulse.cli.outputs import check_output, say
from pulse.cli.upscale import enough_memory, load_network, tile_of
from pulse.imaging.encoding import Codec, needs_pyav
from pulse.imaging.pictures import InputError, setting
from pulse.superres.pictures import PictureConfig
from pulse.video.config import Cut, FaceConfig, FilmConfig, Panels

PULSE = "pulse"
"""The name of the search among networks."""


def video(
    input: Annotated[str, typer.Argument(metavar="INPUT", help="A film, or a folder of pictures.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Film to write, or a folder for its pictures.")
    ],
    network: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE",
            help="What enlarges: a shipped network, one of Real-ESRGAN's, or a file; 'pulse': its "
            "faces are drawn anew by a search, and the best network here enlarges the rest. "
            "[default: the best for films that is here]",
            show_default=False,
        ),
    ] = None,
    scale: options.Scale = PictureConfig.scale,
    tile: options.TileSide = "auto",
    exact: Annotated[
        bool, typer.Option("--exact", help="Make each frame downscale to exactly the input's.")
    ] = PictureConfig.exact,
    compare: Annotated[
        bool,
        typer.Option(
            "--compare",
            help="Make a film of four panels: the input, the input downscaled, and that enlarged "
            "bicubically and by the network.",
        ),
    ] = False,
    side_by_side: Annotated[
        bool,
        typer.Option(
            "--side-by-side", help="Make a film of two: enlarged bicubically and by the network."
        ),
    ] = False,
    preview: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Write the N-th frame alone, as a picture, and end."),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="Begin there: seconds, or 1:02:03.5; -25: so long before the end."
        ),
    ] = None,
    end: Annotated[str | None, typer.Option(metavar="TIME", help="End before that.")] = None,
    codec: Annotated[
        Codec | None,
        typer.Option(help="[default: h264; vp9 in .webm]", show_default=False),
    ] = None,
    crf: Annotated[
        float | None,
        typer.Option(
            help="Quality of the film, 0 the best. [default: of no visible loss]",
            show_default=False,
        ),
    ] = FilmConfig.crf,
    fps: Annotated[
        str | None,
        typer.Option(
            metavar="N",
            help="Frames a second of a folder, also 30000/1001. [default: 25]",
            show_default=False,
        ),
    ] = None,
    drop: Annotated[
        bool, typer.Option("--drop", help="Leave out tracks that the output cannot hold.")
    ] = False,
    tone_map: Annotated[
        bool, typer.Option("--tone-map", help="Make HDR what a common screen can show.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Do what is done anew.")] = False,
    generator: Annotated[
        str, typer.Option(help="With --network pulse, what draws the faces: name or file.")
    ] = FaceConfig.generator,
    seed: options.Seed = FaceConfig.seed,
    label: Annotated[
        bool,
        typer.Option(
            "--label/--no-label",
            help="With --network pulse, say in a corner that the faces are imaginary.",
        ),
    ] = FaceConfig.label,
    device: options.Device = "auto",
    precision: options.PrecisionName = "auto",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the record, and nothing else, on stdout.")
    ] = False,
) -> None:
    """Enlarge a film with a network; sound, subtitles, times and colours stay.

    With --network pulse its faces become imaginary ones that downscale to those of the film.
    The same command goes on where it was stopped.
    """
    config = FilmConfig(
        picture=PictureConfig(scale, tile_of(tile), exact),
        faces=FaceConfig(generator, seed, label=label) if network == PULSE else None,
        panels=_panels(compare, side_by_side),
        cut=Cut(_seconds("start", start), _seconds("end", end)),
        codec=codec,
        crf=crf,
        fps=_rate(fps),
        drop=drop,
        tone_map=tone_map,
    )
    with needs_pyav():
        from pulse.cli.film_files import write_film, write_still
        from pulse.video.job import job_of
    check_no_link(input, "film")
    source = Path(input)
    job = job_of(source, output, None if network == PULSE else network, config)
    check_output(output.parent)
    for note in job.notes:
        say(f"{source}: {note}")
    with enough_memory(source):
        upscaler = None
        if config.faces is not None and (preview is not None or force or not job.made):
            upscaler = load_generator(generator, device, precision)
        if preview is not None:
            opened = load_network(job.network, device, precision)
            record = write_still(job, opened, preview, upscaler)
        elif job.made and not force:
            say(f"{output} is there already; --force makes it anew.")
            record = {"input": str(source), "output": str(output), "new": False}
        else:
            record = write_film(job, load_network(job.network, device, precision), upscaler)
    if as_json:
        print(json.dumps(record, indent=2))
    elif record["new"]:
        print(f"{record['output']}  {record['width']}x{record['height']}")
    unmatched = any(face["found"] < face["frames"] for face in record.get("faces", ()))
    if record.get("damage") or unmatched:
        raise typer.Exit(1)


def _panels(compare: bool, side_by_side: bool) -> Panels:
    if compare and side_by_side:
        raise InputError("Give --compare or --side-by-side; a film is of one kind.")
    return "compare" if compare else "side-by-side" if side_by_side else "none"


def _seconds(name: str, text: str | None) -> float | None:
    """Seconds, minutes and seconds, or hours, minutes and seconds; with a minus before the end."""
    if text is None:
        return None
    if not re.fullmatch(r"-?(\d+:){0,2}\d+(\.\d*)?", text):
        raise InputError(
            f"{setting(name)} cannot be {text}; give seconds like 90, or a time like 1:02:03.5."
        )
    total = 0.0
    for part in text.removeprefix("-").split(":"):
        total = 60 * total + float(part)
    return -total if text.startswith("-") else total


def _rate(text: str | None) -> Fraction | None:
    if text is None:
        return None
    try:
        return Fraction(text)
    except (ValueError, ZeroDivisionError):
        raise InputError(
            f"{setting('fps')} cannot be {text}; give a number like 25, or 30000/1001."
        ) from None
