"""`pulse models`: the generators that are known by name, fetched and described."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from torch import nn

import stylegan
from pulse.cli.outputs import complain, say
from pulse.cli.progress import Display, display
from pulse.devices import Precision, choose_device
from pulse.imaging.pictures import InputError
from pulse.upscale import Upscaler
from stylegan import CheckpointError, zoo
from stylegan.checkpoints import files_of
from stylegan.memory import keep_freed_memory
from stylegan.zoo import Model

app = typer.Typer(help="List, fetch and describe generators.", rich_markup_mode=None)
PLAIN_EVERY = 10.0  # Seconds between the lines of progress when nobody watches.
Json = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on stdout.")]


@app.callback(invoke_without_command=True)
def _root(context: typer.Context, as_json: Json = False) -> None:
    """List the generators that are known by name, fetch them, describe them."""
    if context.invoked_subcommand is None:
        list_models(as_json)
    elif as_json:
        raise typer.BadParameter("give --json after the command")


@app.command("list")
def list_models(as_json: Json = False) -> None:
    """List the generators that are known by name."""
    if as_json:
        print(json.dumps([_facts(model) for model in zoo.MODELS], indent=2))
        return
    heads = ("name", "pixels", "draws", "size", "here", "licence")
    rows: list[tuple[str, ...]] = [heads]
    for model in zoo.MODELS:
        here = "yes" if zoo.is_here(model) else "no"
        rows.append(
            (model.name, str(model.resolution), model.draws, _size(model), here, model.licence)
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(heads))]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())
    for model in zoo.MODELS:
        if model.note:
            print(f"{model.name}: {model.note}")


@app.command()
def fetch(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="As the list has them.")],
    as_json: Json = False,
) -> None:
    """Fetch generators, so that they are here when there is no connection."""
    models: list[Model] = []
    for name in names:
        model = zoo.find(name)
        if model is None:
            raise zoo.unknown(name)
        models.append(model)
    got: list[dict[str, Any]] = []
    try:
        for model in models:
            path = fetch_shown(model)
            got.append({"name": model.name, "path": str(path), "sha256": zoo.identity(path)})
            if not as_json:
                print(path)
    finally:
        if as_json:
            print(json.dumps(got, indent=2))


@app.command()
def info(
    name: Annotated[str, typer.Argument(metavar="NAME|FILE", help="Name or file.")],
    as_json: Json = False,
) -> None:
    """Describe a generator; one that is not here is not fetched for it."""
    model = zoo.find(name)
    facts = {} if model is None else _facts(model)
    if model is None or zoo.is_here(model):
        facts |= _inside(zoo.locate(name))
    if as_json:
        print(json.dumps(facts, indent=2))
        return
    for key, value in facts.items():
        if value not in ("", []):
            print(f"{key.replace('_', ' '):<14}{_shown(key, value)}")


def _shown(key: str, value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(value)
    return f"{value} ({_megabytes(value)})" if key.endswith("bytes") else str(value)


def fetch_shown(model: Model) -> Path:
    """Fetch a model, saying on stderr what comes and how far it is; nothing if it is here."""
    if zoo.is_here(model):
        return zoo.fetch(model)
    say(f"Fetching {model.name}, {_size(model)}. Licence: {model.licence}.")
    if model.note:
        say(model.note)
    with display() as shown:
        return zoo.fetch(model, _watch(shown))


def load_generator(name: str, device: str, precision: Precision = "auto") -> Upscaler:
    """The generator, or the end of the command: without it no input can be used."""
    keep_freed_memory()
    try:
        model = zoo.find(name)
        if model is not None and not zoo.is_here(model):
            choose_device(device)  # So that a wrong one is known before a long download.
            fetch_shown(model)
        return Upscaler.load(name, device, precision)
    except (InputError, CheckpointError) as error:
        complain(error)
        raise typer.Exit(2) from error


def _watch(shown: Display) -> zoo.Watch:
    """Shows how much of each file is here."""

    def watch(name: str, done: int, total: int | None) -> None:
        words = _megabytes(done) + (f" of {_megabytes(total)}" if total else "")
        shown.bar(name, done, total, words)
        if not shown.watched and (shown.due(PLAIN_EVERY) or done == total):
            shown.line(f"{name}: {words}")

    return watch


def _facts(model: Model) -> dict[str, Any]:
    """What is known of a model without opening it."""
    here = zoo.is_here(model)
    return {
        "name": model.name,
        "resolution": model.resolution,
        "draws": model.draws,
        "licence": model.licence,
        "note": model.note,
        "addresses": [zoo.address(file) for file in model.files],
        "path": str(zoo.path_of(model)),
        "here": here,
        "bytes" if here else "about_bytes": zoo.size_of(model),
    }


def _inside(path: Path) -> dict[str, Any]:
    """What a checkpoint tells when it is opened."""
    generator = stylegan.load(path)
    assert isinstance(generator, nn.Module)
    files = files_of(path)
    return {
        "path": str(path),
        "bytes": sum(file.stat().st_size for file in files),
        "sha256": zoo.identity(path),
        "family": generator.family,
        "resolution": generator.resolution,
        "z_dim": generator.z_dim,
        "w_dim": generator.w_dim,
        "num_layers": generator.num_layers,
        "parameters": sum(parameter.numel() for parameter in generator.parameters()),
    }


def _size(model: Model) -> str:
    about = "" if zoo.is_here(model) else "about "
    return about + _megabytes(zoo.size_of(model))


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.0f} MB" if size >= 10e6 else f"{size / 1e6:.1f} MB"
