"""`pulse batch`: a folder, a pattern or a list of pictures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Literal

import typer

from pulse.batch.inputs import Inputs, Item
from pulse.batch.jobs import Batch, Engine, Local, Summary
from pulse.cli import options
from pulse.cli.models import load_generator
from pulse.cli.outputs import say
from pulse.cli.progress import Display, display
from pulse.imaging.pictures import InputError
from pulse.settings import Settings
from pulse.upscale import NOTICE
from stylegan import EMBEDDED

PLAIN_EVERY = 10.0
"""Seconds between the lines of progress when nobody watches."""


def work(
    inputs: Annotated[
        str,
        typer.Argument(metavar="IN", help="A folder, 'pattern*.png', or list (.txt or .jsonl)."),
    ],
    output: Annotated[str, typer.Argument(metavar="OUT", help="Folder to write to.")],
    recursive: Annotated[
        bool, typer.Option("-r", "--recursive", help="Folders inside the folder, too.")
    ] = False,
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
    preset: options.PresetName = Settings.preset,
    exact: options.Exact = Settings.exact,
    mend: options.Mend = Settings.mend,
    time_limit: options.TimeLimit = Settings.time_limit,
    size: options.Size = Settings.size,
    finish: options.Finish = Settings.finish,
    format: options.FileFormat = Settings.format,
    batch_size: Annotated[
        str,
        typer.Option(metavar="N|auto", help="Candidates drawn at once, of several pictures."),
    ] = "auto",
    force: Annotated[bool, typer.Option("--force", help="Do what is done anew.")] = False,
    break_lock: Annotated[
        bool,
        typer.Option(
            "--break-lock", help="Go on where a batch that was killed holds an object storage."
        ),
    ] = False,
    engine: Annotated[
        Literal["local", "ray"], typer.Option(help="This process, or a Ray cluster.")
    ] = "local",
    address: Annotated[
        str | None,
        typer.Option(help="Of the Ray cluster, or auto; else one is started on this machine."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="With Ray: at most so many. [default: all it has]")
    ] = None,
    cpus_per_worker: Annotated[
        int, typer.Option(min=1, help="With Ray, for workers without a GPU.")
    ] = 1,
) -> None:
    """Search for faces of many pictures; the same command goes on where it stopped."""
    settings = Settings(
        candidates=candidates, steps=steps, seed=seed, tolerance=tolerance, lr_size=lr_size,
        degrade=degrade, align=align, face=face, detector=detector, preset=preset, exact=exact,
        mend=mend, time_limit=time_limit, format=format, paste=paste, size=size, finish=finish,
    )  # fmt: skip
    if batch_size != "auto" and (not batch_size.isdecimal() or int(batch_size) == 0):
        raise InputError(f"--batch-size takes a whole number from 1 on, or auto; not {batch_size}.")
    at_once = None if batch_size == "auto" else int(batch_size)
    if engine == "local" and (address is not None or workers is not None):
        raise InputError("--address and --workers are for a Ray cluster; add --engine ray.")
    items = Inputs(inputs, settings, recursive, output)
    count, wrong = 0, []
    for item in items:
        count += 1
        wrong += [] if item.wrong is None else [item.wrong]
    if items.skipped:
        say(f"{inputs}: {items.skipped} left out that are no pictures by their names.")
    if count == 0:
        deeper = "" if recursive else "; -r looks into the folders inside, too"
        raise InputError(f"{inputs} holds no pictures{deeper}.")
    if len(wrong) == count:
        raise InputError(wrong[0])

    worker: Engine
    if engine == "ray":
        from pulse.batch import ray_engine  # Here, since only this needs Ray.

        ray_engine.check((inputs, output), device)
        upscaler = load_generator(generator, "cpu", precision)
        upscaler.finisher(settings.config)  # Before the work, not picture by picture.
        worker = ray_engine.Cluster(
            upscaler,
            generator,
            device=device,
            precision=precision,
            batch=at_once,
            address=address,
            workers=workers,
            cpus_per_worker=cpus_per_worker,
        )
    else:
        upscaler = load_generator(generator, device, precision)
        upscaler.finisher(settings.config)
        worker = Local(upscaler, at_once)
    batch = Batch(items, output, worker, force, break_lock)
    stopped = False
    try:
        with display() as shown:
            _show(shown, batch, count)
    except KeyboardInterrupt:
        stopped = True
    except MemoryError as error:
        raise InputError(
            "There is too little memory to draw one candidate: ask for a smaller generator, or "
            "for fewer candidates with -n."
        ) from error
    print(batch.summary)
    if batch.summary.faces:
        print(f"{output.rstrip('/')}/index.html  shows them")
        print(NOTICE)
    if stopped:
        say("Stopped; what is finished stays, and the same command goes on from there.")
    if stopped or not batch.summary.complete:
        raise typer.Exit(1)


def _show(shown: Display, batch: Batch, inputs: int) -> None:
    """Work through the batch and show how far it is.

    Args:
        inputs: how many pictures there are; each counts as one face until more are found in it.
    """
    count, summary = inputs, batch.summary
    shown.bar("", 0, count, "getting ready")
    batch.inputs = _announced(batch.inputs, shown, f"0/{count} faces, getting ready")
    for outcome in batch:
        summary = batch.summary
        count += (outcome.entry.face or 0) > 0
        if outcome.entry.failed:
            shown.say(f"pulse: {outcome.entry.reason}")
        done = summary.faces + summary.errors
        shown.bar("", done, count, f"{done}/{count} faces, {_words(summary)}")
        if not shown.watched and shown.due(PLAIN_EVERY):
            rest = (count - done) / summary.rate * 60 if summary.rate else None
            left = "" if rest is None else f", {_duration(rest)} left"
            shown.line(f"{done}/{count} faces, {_words(summary)}{left}")


def _announced(items: Iterable[Item], shown: Display, line: str) -> Iterator[Item]:
    """The same, with a line before the first, which is when it is known that the folders will do.

    To get ready for that one takes a minute with a large generator.
    """
    shown.line(line)
    yield from items


def _words(summary: Summary) -> str:
    found = f"{summary.found} found, {summary.faces - summary.found} not, {summary.errors} failed"
    return f"{summary.rate:.1f} a minute, {found}" if summary.searched else found


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"
