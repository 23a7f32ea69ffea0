"""`pulse run`: a few pictures, watched."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from PIL import Image

from pulse.cli import options
from pulse.cli.inputs import usable
from pulse.cli.models import load_generator
from pulse.cli.outputs import (
    check_output,
    claim,
    complain,
    first_names,
    say,
    write_file,
    writing,
)
from pulse.cli.progress import Display, display
from pulse.faces import plausibility
from pulse.faces.framing import Framing, choose, draw_faces, find_framings
from pulse.faces.prepare import LRFace, prepare
from pulse.imaging.pictures import InputError, read_picture, to_png
from pulse.results import Format, Result, folder_name, too_fine, write_result
from pulse.search import State, Status
from pulse.settings import Settings
from pulse.upscale import NOTICE, Upscaler
from stylegan import EMBEDDED

PLAIN_EVERY = 25  # Steps between the lines of progress when nobody watches.


def run(
    inputs: Annotated[
        list[str], typer.Argument(metavar="INPUT...", help="Pictures of faces, 'patterns*.png'.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to write to.")] = Path(
        "results"
    ),
    candidates: options.Candidates = Settings.candidates,
    steps: options.Steps = Settings.steps,
    seed: options.Seed = Settings.seed,
    generator: options.GeneratorName = EMBEDDED,
    device: options.Device = "auto",
    precision: options.PrecisionName = "auto",
    tolerance: options.Tolerance = Settings.tolerance,
    lr_size: options.LrSize = Settings.lr_size,
    degrade: options.Degrade = Settings.degrade,
    align: options.Alignment = Settings.align,
    face: options.Face = Settings.face,
    detector: options.DetectorName = Settings.detector,
    paste: options.Paste = Settings.paste,
    show_faces: Annotated[
        bool, typer.Option("--show-faces", help="Write the photo with numbered faces, too.")
    ] = False,
    preset: options.PresetName = Settings.preset,
    exact: options.Exact = Settings.exact,
    mend: options.Mend = Settings.mend,
    time_limit: options.TimeLimit = Settings.time_limit,
    size: options.Size = Settings.size,
    finish: options.Finish = Settings.finish,
    format: options.FileFormat = Settings.format,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the records, and nothing else, on stdout.")
    ] = False,
) -> None:
    """Search for high-resolution faces that downscale to each input."""
    settings = Settings(
        candidates=candidates, steps=steps, seed=seed, tolerance=tolerance, lr_size=lr_size,
        degrade=degrade, align=align, face=face, detector=detector, preset=preset, exact=exact,
        mend=mend, time_limit=time_limit, format=format, paste=paste, size=size, finish=finish,
    )  # fmt: skip
    paths, refused = usable(inputs)
    names = first_names(paths)
    check_output(output)

    faces: list[tuple[Path, LRFace]] = []
    upscaler: Upscaler | None = None

    def refuse(_: Framing, error: InputError) -> None:
        nonlocal refused
        refused = True
        complain(error)

    for path in paths:
        try:
            picture = read_picture(path)
            if upscaler is None:
                upscaler = load_generator(generator, device, precision)
                upscaler.finisher(settings.config)  # Before the work, not after it.
            resolution = upscaler.generator.resolution
            framings = find_framings(picture, str(path), align, detector)
            if show_faces:
                _show_faces(picture.image, framings, path, output / folder_name(path, 0))
            chosen = choose(framings, settings.faces.which, str(path))
            found = prepare(picture, settings.faces, resolution, str(path), chosen, refuse)
        except InputError as error:
            complain(error)
            refused = True
            continue
        for one in found:
            try:
                claim(names, path, one.index)
            except InputError as error:
                complain(error)
                refused = True
                continue
            faces.append((path, one))
            for note in one.notes:
                say(f"{path}: {note}")
        if settings.faces.which == "largest" and len(framings) > 1:
            say(f"{path}: It shows {len(framings)} faces; the largest is used, see --face.")
        if paste and framings[0].found is None:
            say(f"{path}: No face was looked for or found, so there is none to paste over.")

    records: list[dict[str, Any]] = []
    complete = matched = True
    try:
        for path, one in faces:
            assert upscaler is not None
            folder = output / folder_name(path, one.index)
            try:
                check_output(folder)
                result = _search(path, one, upscaler, settings)
                if result is None:
                    complete = False
                    break
                record = _write(result, folder, format, paste)
            except InputError as error:
                complain(error)
                refused = True
                continue
            records.append(record)
            matched &= result.found
            if not as_json:
                _report(record, result.ranked, folder)
            if result.interrupted:
                complete = False
                break
    finally:
        if as_json:
            print(json.dumps(records, indent=2))
        elif records:
            print(NOTICE)
    if refused:
        raise typer.Exit(2)
    if not (complete and matched):
        raise typer.Exit(1)


def _show_faces(image: Image.Image, framings: list[Framing], path: Path, folder: Path) -> None:
    """Write the photo with numbered boxes, and list them."""
    check_output(folder)
    file = folder / "faces.png"
    write_file(file, to_png(draw_faces(image, framings)))
    say(f"{path}: {file} shows its faces by number.")
    for framing in framings:
        where = ""
        if framing.found is not None:
            left, top, right, bottom = (round(value) for value in framing.found.box)
            where = f" from ({left}, {top}) to ({right}, {bottom})"
        say(f"{path}: face {framing.index}{where}, framed by {framing.side} pixels.")


def _search(path: Path, face: LRFace, upscaler: Upscaler, settings: Settings) -> Result | None:
    """Search for one face while showing how it goes; None if it was stopped before it began."""
    config, start = settings.config, time.monotonic()
    state: State | None = None
    interrupted = False
    try:
        with display() as shown:
            # The first search with a large generator is getting ready for most of a minute.
            shown.bar(path.name, 0, None, "getting ready")
            for state in upscaler.search(face, config):
                _show(shown, path.name, state)
            if state is not None:
                _show(shown, path.name, state, ended=True)
    except KeyboardInterrupt:
        interrupted = True
        if state is not None:
            state = upscaler.finished(face, state, config)
    except MemoryError as error:
        raise InputError(
            f"There is too little memory to draw {path}: ask for fewer candidates with -n, or for "
            "a smaller generator."
        ) from error
    if state is None:
        say("Stopped before anything was found.")
        return None
    if interrupted:
        say("Stopped; what was found so far is written.")
    seconds = time.monotonic() - start
    return Result(str(path), face, state, config, settings.preset, upscaler, seconds, interrupted)


def _show(shown: Display, name: str, state: State, ended: bool = False) -> None:
    """Where the search is; all candidates may be done before the last step."""
    errors = f"best mse {_errors(state)}"
    total = state.step if ended else state.steps
    shown.bar(name, state.step, total, f"{state.step}/{state.steps} steps, {errors}")
    if ended:
        shown.line(f"{name}: ended at step {state.step}/{state.steps}, {errors}")
    elif state.step % PLAIN_EVERY == 0 and state.step < state.steps and state.exact is None:
        shown.line(f"{name}: step {state.step}/{state.steps}, {errors}")


def _errors(state: State) -> str:
    """The best errors in thousandths, a tick behind those that match."""
    parts = [
        f"{error * 1e3:.2f}{'✓' if status is Status.FOUND else ''}"
        for error, status in zip(state.best.tolist(), state.status, strict=True)
    ]
    shown = parts if len(parts) <= 8 else [*parts[:8], "..."]
    return " ".join(shown) + " (e-3)"


def _write(result: Result, folder: Path, format: Format, paste: bool) -> dict[str, Any]:
    photo = None
    if paste:
        try:  # Again, since all photos of a run might not fit into memory.
            photo = read_picture(Path(result.source)).image
        except InputError as error:
            complain(error)
    with writing(folder):
        return write_result(result, folder, format, photo)


def _report(record: dict[str, Any], ranked: list[int], folder: Path) -> None:
    """Say on stdout what was made of one face, the best candidate first."""
    best, candidates = None, record["candidates"]
    for candidate in (candidates[index] for index in ranked):
        mse = "not finite" if candidate["mse"] is None else f"mse {candidate['mse']:.3e}"
        if candidate["mse_drawn"] != candidate["mse"]:
            mse = f"mse {candidate['mse_drawn']:.3e}, mended {candidate['mse']:.1e}"
        if candidate["mse_exact"] is not None:
            mse += f", then {candidate['mse_exact']:.1e}"
        status = Status(candidate["status"])
        looks = plausibility.in_words(candidate["plausibility"])
        line = f"{folder / candidate['file']}  {status.value.replace('_', ' ')}  {mse}  {looks}"
        print(line.rstrip())
        best = Status.FOUND if Status.FOUND in (best, status) else status
    if best is not None and best is not Status.FOUND:
        print(f"No candidate matches {record['input']}. {best.advice}")
    if record["tolerance"] > record["config"]["search"]["tolerance"]:
        print(f"The noise raises the tolerance to {record['tolerance']:.2e}.")
    print(f"{folder / 'comparison.png'}  shows them side by side")
    if record["paste"] is not None:
        print(f"{folder / candidates[0]['photo']}  and on: the photo with each of them")
        fine = too_fine(record["paste"]["photo"], record["paste"]["size"])
        if fine is not None:
            print(fine)
