"""`pulse evaluate`: every method on the same faces, in one table."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import torch
import typer

from pulse.cli import options
from pulse.cli.evaluate_film import evaluate_film
from pulse.cli.models import load_generator
from pulse.cli.outputs import check_output, say, write_file
from pulse.cli.progress import Display, display
from pulse.evaluation import figures, report
from pulse.evaluation.faces import Choice, Original, read_faces, sampled_faces
from pulse.evaluation.films import BD_SCALE, Shrinking
from pulse.evaluation.judge import Judge
from pulse.evaluation.methods import (
    FINISHED,
    Enlarged,
    Method,
    Network,
    Search,
    face_networks,
    finished,
)
from pulse.evaluation.opinions import lines_of, opinions
from pulse.evaluation.store import Store
from pulse.evaluation.table import rows_of
from pulse.evaluation.work import Plan, TableProgress, compare
from pulse.faces.prepare import LRFace
from pulse.imaging.pictures import InputError
from pulse.settings import Settings
from pulse.superres import mending
from pulse.superres.finish import AUTO, chosen
from pulse.upscale import Upscaler
from stylegan import EMBEDDED

PLAIN_EVERY = 10.0
"""Seconds between the lines of progress when nobody watches."""
SAMPLES = 8
"""Faces where no data are given."""
WIDE = 1000
"""Characters in a line where nobody watches."""
LR_SIZE = 16
"""Of the small pictures, unless a factor says otherwise."""


def evaluate(
    data: Annotated[
        Path | None,
        typer.Argument(
            metavar="[DATA]",
            help="Folder or zip file of FFHQ-framed faces. [default: faces that the generator "
            "draws by itself]",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Folder to write to; what is there goes on.")
    ] = Path("evaluation"),
    methods: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,...",
            help="nearest, bicubic, paper, default, default-512, and networks by name or file. "
            "[default: these, networks of faces and Real-ESRGAN's if it is installed]",
            show_default=False,
        ),
    ] = None,
    count: Annotated[
        int | None,
        typer.Option(
            min=1,
            help=f"Faces, spread evenly over the data. [default: all; {SAMPLES} without data]",
            show_default=False,
        ),
    ] = None,
    held_out: Annotated[
        int | None,
        typer.Option(min=1, help="Take only the last so many, which training left out."),
    ] = None,
    align: Annotated[
        bool, typer.Option("--align", help="DATA are photos: look for faces and frame them.")
    ] = False,
    labels: Annotated[
        str | None,
        typer.Option(metavar="FILE[:COLUMN]", help="Table (CSV) of files and their groups."),
    ] = None,
    factor: Annotated[
        float | None,
        typer.Option(
            help="Side of a face by that of its small picture. [default: to 16 pixels]",
            show_default=False,
        ),
    ] = None,
    candidates: options.Candidates = Settings.candidates,
    seed: options.Seed = Settings.seed,
    steps: options.Steps = Settings.steps,
    generator: options.GeneratorName = EMBEDDED,
    device: options.Device = "auto",
    precision: options.PrecisionName = "auto",
    workers: Annotated[int, typer.Option(min=1, help="Processes at once.")] = 1,
    video: Annotated[
        bool, typer.Option("--video", help="DATA is a film, or a folder of its frames.")
    ] = False,
    degradation: Annotated[
        Shrinking | None,
        typer.Option(
            help="How a film is made small; bd: blurred, and the middle of each block kept. "
            f"[default: bd by a factor of {BD_SCALE}, else bicubic]",
            show_default=False,
        ),
    ] = None,
    rate: Annotated[
        bool,
        typer.Option("--rate", help="Show a page on which people rate what a run has made."),
    ] = False,
    host: Annotated[str, typer.Option(help="Of that page.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Of that page; 0 takes a free one.")
    ] = 7860,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print table.json, and nothing else, on stdout.")
    ] = False,
) -> None:
    """Measure every method on the same faces; the same command goes on where it stopped."""
    if rate:
        _rate(output, host, port)
        return
    check_output(output)
    names = None if methods is None else [n.strip() for n in methods.split(",") if n.strip()]
    if video:
        if data is None:
            raise InputError("--video needs a film: give it as DATA.")
        if workers > 1:
            say("--workers is not used with --video: methods follow each other to compare speeds.")
        shown, text = evaluate_film(
            data, output, names, factor=factor, count=count, degradation=degradation
        )
        print(text if as_json else f"{shown}\n{output / 'film.md'}, film.json: the table")
        return
    if degradation is not None:
        raise InputError("--degradation is of films; give --video, too.")
    Judge()  # What it needs is missed now, and not after the drawing.
    figures.ready()
    upscaler = load_generator(generator, device, precision)
    size = upscaler.generator.resolution
    store = Store(output, size, _lr_size(size, factor))
    settings = Settings(candidates=candidates, seed=seed, steps=steps)
    searches = []
    for name in ("paper", "default"):
        config, weights = _preset(settings, name).config, upscaler.sha256
        if config.search.mend:
            weights = f"{weights} {mending.identity()}"
        searches.append(Search(name, generator, weights, config, device, precision))
    taken = chosen_methods(names, searches, store)

    choice = Choice(count, held_out, align, labels)
    faces = _faces(data, choice, upscaler)
    entries = tuple(store.add(face) for face in faces)
    if not entries:
        raise InputError(f"None of the pictures in {data} can be used.")
    for search in searches:
        if search in taken:  # Worked out here once, and not by each process.
            low = torch.zeros(3, store.lr_size, store.lr_size)
            upscaler.prepare(LRFace(0, low), search.config.search)
    plan = Plan(store, entries, taken, workers)
    try:
        with display() as shown:
            for progress in compare(plan):
                _show(shown, progress)
    except KeyboardInterrupt:
        say("Stopped; what is finished stays, and the same command goes on from there.")
        raise typer.Exit(1) from None

    rows = list(rows_of(plan))
    source = (
        f"samples of the generator {generator}, the easiest there are for a search with it"
        if data is None
        else data.name
    )
    record = json.dumps(report.record(rows, plan, source), indent=2)
    write_file(output / "table.md", report.markdown(rows, report.title_of(plan, source)).encode())
    write_file(output / "sheet.png", figures.sheet(plan))
    write_file(output / "plot.png", figures.plot(rows))
    write_file(output / "table.json", f"{record}\n".encode())
    if as_json:
        print(record)
        return
    print(report.text(rows, shutil.get_terminal_size((WIDE, 0)).columns))
    print(f"{output / 'table.md'}, table.json, sheet.png, plot.png: the table, faces and a chart")


def _faces(data: Path | None, choice: Choice, upscaler: Upscaler) -> Iterator[Original]:
    """The faces of a folder, or samples of the generator."""
    if data is not None:
        return read_faces(data, upscaler.generator.resolution, choice, say)
    if choice.align or choice.labels is not None or choice.held_out is not None:
        raise InputError("--align, --labels and --held-out are of a folder; give DATA.")
    return sampled_faces(upscaler.generator, choice.count or SAMPLES)


def _rate(output: Path, host: str, port: int) -> None:
    """Serve the page until it is ended, then print what was said."""
    # Here, since it takes seconds that the table need not spend.
    from pulse.web.rate import site_of
    from pulse.web.server import Address, serve

    serve(site_of(output), Address(host, port), "Rate the pictures at")
    said = opinions(output)
    print("\n".join(lines_of(said)) if said else "Nothing was rated.")


def _preset(settings: Settings, name: str) -> Settings:
    return settings.changed({"preset": name})


def _lr_size(size: int, factor: float | None) -> int:
    """Side of the small pictures.

    Raises:
        InputError: the factor does not lead to whole pixels.
    """
    lr_size = LR_SIZE if factor is None else size / factor if factor > 0 else 0
    if lr_size != int(lr_size) or not 4 <= lr_size <= size:
        raise InputError(
            f"--factor {factor:g} does not take faces of {size} pixels to a small picture of whole "
            f"pixels, 4 or more; {size / LR_SIZE:g} takes them to {LR_SIZE}."
        )
    return int(lr_size)


def chosen_methods(
    names: list[str] | None, searches: list[Search], store: Store
) -> tuple[Method, ...]:
    """The methods that are named, in that order; all that are here for such faces where none is.

    Raises:
        InputError: one is not here, or two would be called the same.
    """
    known: dict[str, Method] = {
        "nearest": Enlarged("nearest"),
        "bicubic": Enlarged("bicubic"),
        **{name: Network.of(name) for name in face_networks(store.size / store.lr_size)},
        **{search.name: search for search in searches},
    }
    network = chosen(AUTO) if store.size < FINISHED else None
    if network is not None:
        larger = finished(searches[-1], network)
        known[larger.name] = larger
    if names is None:
        return tuple(known.values())
    methods = [known[name] if name in known else Network.of(name) for name in names]
    folders = [Path(method.name).name for method in methods]
    twice = next((name for name in folders if folders.count(name) > 1), None)
    if twice is not None or not methods:
        raise InputError(
            f"--methods names {twice} twice." if twice else "--methods names none; leave it out."
        )
    return tuple(methods)


def _show(shown: Display, progress: TableProgress) -> None:
    words = f"{progress.done}/{progress.total}"
    shown.bar(progress.stage, progress.done, progress.total, words)
    if not shown.watched and shown.due(PLAIN_EVERY):
        shown.line(f"{progress.stage}: {words}")
