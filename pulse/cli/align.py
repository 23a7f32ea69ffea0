"""`pulse align`: the faces of photos, cut out as FFHQ does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from align import crop_face
from pulse.cli import options
from pulse.cli.inputs import usable
from pulse.cli.outputs import check_output, claim, complain, first_names, say, write_file
from pulse.faces.framing import choose, describe, find_framings
from pulse.imaging.pictures import InputError, read_picture, to_png
from pulse.results import folder_name
from pulse.settings import which_face


def align_photos(
    photos: Annotated[
        list[str], typer.Argument(metavar="PHOTO...", help="Photos of people, 'patterns*.jpg'.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to write to.")] = Path(
        "aligned"
    ),
    size: Annotated[
        int, typer.Option(min=16, max=4096, help="Side of the crops in pixels.")
    ] = 1024,
    face: options.Face = "all",
    detector: options.DetectorName = "frontal",
) -> None:
    """Cut out the faces of photos as FFHQ does, without a search."""
    which = which_face(face)
    paths, refused = usable(photos)
    names = first_names(paths)
    check_output(output)
    for path in paths:
        try:
            picture = read_picture(path)
            framings = find_framings(picture, str(path), "always", detector)
            record = {
                "input": str(path),
                "width": picture.image.width,
                "height": picture.image.height,
                "detector": detector,
                "size": size,
                "faces": [],
            }
            for framing in choose(framings, which, str(path)):
                assert framing.found is not None
                claim(names, path, framing.index)
                file = output / f"{folder_name(path, framing.index)}.png"
                if file.exists() and file.samefile(path):
                    raise InputError(f"{file} is the photo itself; give another folder with -o.")
                crop = crop_face(picture.image, framing.found, size)
                landmarks = framing.found.landmarks.round(3).tolist()
                facts = {"file": file.name, "face": framing.index, **describe(framing.found)}
                record["faces"].append({**facts, "landmarks": landmarks})
                write_file(file, to_png(crop))
                print(file)
                for note in framing.notes:
                    say(f"{file}: {note}")
            text = json.dumps(record, indent=2) + "\n"
            write_file(output / f"{folder_name(path, 0)}.json", text.encode())
        except InputError as error:
            complain(error)
            refused = True
    if refused:
        raise typer.Exit(2)
