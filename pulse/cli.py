"""The command line."""

from __future__ import annotations

import io
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from typer.exceptions import TyperException

from pulse import __version__, models_cli
from pulse.degrade import SYNTAX, DegradeConfig
from pulse.images import InputError, read_picture
from pulse.results import Format, Result, write_result
from pulse.search import PRESETS, SearchConfig, State, Status
from pulse.upscale import (
    MAX_SEED,
    MIN_LR_SIZE,
    NOTICE,
    Face,
    UpscaleConfig,
    Upscaler,
    choose_device,
    find_faces,
)
from pulse.web import Limits, Studio
from stylegan import EMBEDDED, CheckpointError, zoo
from stylegan.memory import keep_freed_memory

app = typer.Typer(
    name="pulse",
    help="Imagine high-resolution faces that downscale to a tiny one. They are imaginary people.",
    add_completion=False,
    rich_markup_mode=None,
)
app.add_typer(models_cli.app, name="models")
INTERRUPTED = 130  # What typer makes of Ctrl-C.
PLAIN_EVERY = 25  # Steps between the lines of progress when nobody watches.


def _version(wanted: bool) -> None:
    if wanted:
        print(f"pulse {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    pass


@app.command()
def run(
    inputs: Annotated[list[Path], typer.Argument(metavar="INPUT...", help="Pictures of faces.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to write to.")] = Path(
        "results"
    ),
    candidates: Annotated[
        int, typer.Option("-n", "--candidates", min=1, max=1000, help="Faces to search for.")
    ] = UpscaleConfig.candidates,
    steps: Annotated[
        int, typer.Option(min=1, max=1_000_000, help="Steps of the search.")
    ] = SearchConfig.steps,
    seed: Annotated[
        int, typer.Option(min=0, max=MAX_SEED, help="Seed of the first candidate.")
    ] = UpscaleConfig.seed,
    generator: Annotated[str, typer.Option(help="Name or file of the generator.")] = EMBEDDED,
    device: Annotated[
        Literal["auto", "cpu", "cuda", "mps"], typer.Option(help="Where to compute.")
    ] = "auto",
    tolerance: Annotated[
        float, typer.Option(help="Largest mean squared error, on [0, 1] at LR size, of a match.")
    ] = SearchConfig.tolerance,
    lr_size: Annotated[
        int | None,
        typer.Option(
            min=MIN_LR_SIZE,
            help="Side in pixels at which to match. [default: a small picture's own size, else 16]",
            show_default=False,
        ),
    ] = UpscaleConfig.lr_size,
    degrade: Annotated[
        str | None,
        typer.Option(
            metavar="OPERATORS",
            help=f"What happened to the picture, commas between: {SYNTAX}. "
            "[default: bicubic, and grey if it is]",
            show_default=False,
        ),
    ] = None,
    preset: Annotated[
        Literal["default", "paper"],
        typer.Option(help="How to search; 'paper' is the publication's recipe."),
    ] = "default",
    format: Annotated[Format, typer.Option(help="File format of the candidates.")] = "png",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the records, and nothing else, on stdout.")
    ] = False,
) -> None:
    """Search for high-resolution faces that downscale to each input."""
    try:
        search = replace(PRESETS[preset], steps=steps, tolerance=tolerance)
        degraded = None if degrade is None else DegradeConfig.parse(degrade)
        config = UpscaleConfig(candidates, seed, lr_size, search, degraded)
    except ValueError as error:
        raise InputError(str(error)) from error
    _check_names(inputs)
    _check_output(output)

    faces: list[tuple[Path, Face]] = []
    upscaler: Upscaler | None = None
    refused = False
    for path in inputs:
        try:
            picture = read_picture(path)
            if upscaler is None:
                upscaler = _load(generator, device)
            resolution = upscaler.generator.resolution
            found = find_faces(picture, lr_size, resolution, str(path), degraded)
        except InputError as error:
            _complain(error)
            refused = True
            continue
        for face in found:
            faces.append((path, face))
            for note in face.notes:
                _say(f"{path}: {note}")

    records: list[dict[str, Any]] = []
    complete = matched = True
    try:
        for path, face in faces:
            assert upscaler is not None
            folder = output / _folder_name(path, face.index)
            try:
                _check_output(folder)
                result = _search(path, face, upscaler, config, preset)
                if result is None:
                    complete = False
                    break
                record = _write(result, folder, format)
            except InputError as error:
                _complain(error)
                refused = True
                continue
            records.append(record)
            matched &= result.found
            if not as_json:
                _report(record, folder)
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


@app.command()
def web(
    host: Annotated[
        str, typer.Option(help="Address to listen at; 0.0.0.0 lets other machines in.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 7860,
    auth: Annotated[
        str | None,
        typer.Option(
            metavar="NAME:PASSWORD", envvar="PULSE_AUTH", help="What visitors have to give."
        ),
    ] = None,
    generator: Annotated[
        str, typer.Option(help="Name or file of the generator that is chosen at first.")
    ] = EMBEDDED,
    device: Annotated[
        Literal["auto", "cpu", "cuda", "mps"], typer.Option(help="Where to compute.")
    ] = "auto",
    fetch: Annotated[
        bool, typer.Option(help="Whether visitors may fetch generators that are not here.")
    ] = Limits.fetch,
    searches: Annotated[
        int, typer.Option(min=1, help="Searches at once; further visitors wait.")
    ] = Limits.searches,
    waiting: Annotated[int, typer.Option(min=0, help="Visitors that may wait.")] = Limits.waiting,
    max_candidates: Annotated[
        int, typer.Option(min=1, max=1000, help="Faces that may be asked for.")
    ] = Limits.candidates,
    max_steps: Annotated[
        int, typer.Option(min=1, help="Steps that may be asked for.")
    ] = Limits.steps,
    max_upload: Annotated[
        float, typer.Option(min=0.001, help="Megabytes that a picture file may have.")
    ] = Limits.upload / 1e6,
    max_pixels: Annotated[
        float, typer.Option(min=0.001, max=64, help="Megapixels that a picture may have.")
    ] = Limits.pixels / 1e6,
) -> None:
    """Serve the page: a picture goes in, imaginary faces come out."""
    user, colon, password = (auth or "").partition(":")
    if auth is not None and not (user and colon and password):
        raise InputError("--auth takes a name and a password with a colon between: NAME:PASSWORD.")
    limits = Limits(
        searches, waiting, max_candidates, max_steps, int(max_upload * 1e6), int(max_pixels * 1e6),
        fetch=fetch,
    )  # fmt: skip
    keep_freed_memory()
    with tempfile.TemporaryDirectory(prefix="pulse-", ignore_cleanup_errors=True) as folder:
        studio = Studio(Path(folder), limits, generator, device)
        from pulse import page  # Here, since it takes seconds that other commands need not spend.

        page.serve(studio, host, port, (user, password) if auth else None)


def _load(generator: str, device: str) -> Upscaler:
    """The generator, or the end of the run: without it no input can be used."""
    keep_freed_memory()
    try:
        model = zoo.find(generator)
        if model is not None and not zoo.is_here(model):
            choose_device(device)  # So that a wrong one is known before a long download.
            models_cli.fetch_shown(model)
        return Upscaler.load(generator, device)
    except (InputError, CheckpointError) as error:
        _complain(error)
        raise typer.Exit(2) from error


def _search(
    path: Path, face: Face, upscaler: Upscaler, config: UpscaleConfig, preset: str
) -> Result | None:
    """Search for one face while showing how it goes; None if it was stopped before it began."""
    start = time.monotonic()
    state: State | None = None
    interrupted = False
    try:
        with _progress(path.name, config.search.steps) as show:
            for state in upscaler.search(face, config):
                show(state)
    except KeyboardInterrupt:
        interrupted = True
    except MemoryError as error:
        raise InputError(
            f"There is too little memory to draw {path}: ask for fewer candidates with -n, or for "
            "a smaller generator."
        ) from error
    if state is None:
        _say("Stopped before anything was found.")
        return None
    if interrupted:
        _say("Stopped; what was found so far is written.")
    seconds = time.monotonic() - start
    return Result(str(path), face, state, config, preset, upscaler, seconds, interrupted)


@contextmanager
def _progress(name: str, steps: int) -> Iterator[Any]:
    """A live display on a terminal, a line now and then elsewhere; both on stderr."""
    console = Console(stderr=True)
    last: State | None = None
    if not console.is_terminal:

        def line(state: State) -> None:
            nonlocal last
            if last is not None and last.step % PLAIN_EVERY == 0:
                _say(f"{name}: step {last.step}/{steps}, best mse {_errors(last)}")
            last = state

        try:
            yield line
        finally:
            if last is not None:
                _say(f"{name}: ended at step {last.step}/{steps}, best mse {_errors(last)}")
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        TextColumn("{task.completed}/{task.total} steps"),
        TimeRemainingColumn(),
        TextColumn("best mse {task.fields[errors]}"),
    )
    with Progress(*columns, console=console) as progress:
        task: TaskID = progress.add_task(name, total=steps, errors="")

        def bar(state: State) -> None:
            nonlocal last
            last = state
            progress.update(task, completed=state.step, errors=_errors(state))

        yield bar
        if last is not None:  # All candidates may be done before the last step.
            progress.update(task, total=last.step, completed=last.step)


def _errors(state: State) -> str:
    """The best errors in thousandths, a tick behind those that match."""
    parts = [
        f"{error * 1e3:.2f}{'✓' if status is Status.FOUND else ''}"
        for error, status in zip(state.best.tolist(), state.status, strict=True)
    ]
    shown = parts if len(parts) <= 8 else [*parts[:8], "..."]
    return " ".join(shown) + " (e-3)"


def _write(result: Result, folder: Path, format: Format) -> dict[str, Any]:
    try:
        return write_result(result, folder, format)
    except OSError as error:
        raise InputError(
            f"{folder} cannot be written ({error.strerror or error}); give another folder with -o."
        ) from error


def _report(record: dict[str, Any], folder: Path) -> None:
    """Say on stdout what was made of one face."""
    best = None
    for candidate in record["candidates"]:
        mse = "not finite" if candidate["mse"] is None else f"mse {candidate['mse']:.2e}"
        status = Status(candidate["status"])
        print(f"{folder / candidate['file']}  {status.value.replace('_', ' ')}  {mse}")
        best = Status.FOUND if Status.FOUND in (best, status) else status
    if best is not None and best is not Status.FOUND:
        print(f"No candidate matches {record['input']}. {best.advice}")
    if record["tolerance"] > record["config"]["search"]["tolerance"]:
        print(f"The noise raises the tolerance to {record['tolerance']:.2e}.")
    print(f"{folder / 'comparison.png'}  shows them side by side")


def _folder_name(path: Path, index: int) -> str:
    """Where the results for a face go: the file's name without suffix, numbered after the first."""
    stem = path.name if path.stem in (".", "..") else path.stem
    return stem if index == 0 else f"{stem}-{index}"


def _check_names(inputs: list[Path]) -> None:
    names: dict[str, Path] = {}
    for path in inputs:
        name = _folder_name(path, 0)
        if name in names:
            raise InputError(
                f"{names[name]} and {path} would be written to the same folder {name}; "
                "run them apart with different -o."
            )
        names[name] = path


def _check_output(folder: Path) -> None:
    """Find out before the search whether its results can be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"The output folder {folder} cannot be made ({error.strerror}); give another with -o."
        ) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"The output folder {folder} may not be written; give another with -o.")


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _complain(error: Exception) -> None:
    _say(f"pulse: {error}")


def main() -> int:
    """Run the command line; errors that a user can mend become one sentence and exit code 2."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # File names may hold anything.
    try:
        arguments = sys.argv[1:] or ["--help"]
        code = typer.main.get_command(app).main(arguments, standalone_mode=False)
    except (InputError, CheckpointError) as error:
        _complain(error)
        return 2
    except TyperException as error:
        _say(f"pulse: {error.format_message()}")
        return 2
    if code == INTERRUPTED:
        _say("pulse: stopped.")
        return 1
    return code if isinstance(code, int) else 0
