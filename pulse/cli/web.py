"""`pulse web`: the page in the browser."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated, Literal

import typer

from pulse.cli import options
from pulse.cli.outputs import say
from pulse.imaging.pictures import InputError
from pulse.web.studio import Studio
from pulse.web.updates import Limits
from stylegan import EMBEDDED
from stylegan.memory import keep_freed_memory


def web(
    host: Annotated[
        str,
        typer.Option(
            envvar="GRADIO_SERVER_NAME",
            help="Address to listen at; 0.0.0.0 lets other machines in.",
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int,
        typer.Option(envvar="GRADIO_SERVER_PORT", min=0, max=65535, help="0 takes a free one."),
    ] = 7860,
    root_path: Annotated[
        str | None,
        typer.Option(
            envvar="GRADIO_ROOT_PATH", help="Where a proxy shows the page, if not at its root."
        ),
    ] = None,
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
    precision: options.PrecisionName = "auto",
    fetch: Annotated[
        bool, typer.Option(help="Whether visitors may fetch generators that are not here.")
    ] = Limits.fetch,
    searches: Annotated[
        int, typer.Option(min=1, help="Searches at once; further visitors wait.")
    ] = Limits.searches,
    waiting: Annotated[int, typer.Option(min=0, help="Visitors that may wait.")] = Limits.waiting,
    per_address: Annotated[
        int, typer.Option(min=1, help="Searches of one address that may run and wait.")
    ] = Limits.each,
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
    max_result: Annotated[
        float,
        typer.Option(min=0.001, max=256, help="Megapixels that an enlarged picture may have."),
    ] = Limits.enlarged / 1e6,
    max_seconds: Annotated[
        float, typer.Option(min=0.1, help="Seconds of a film that are enlarged at once.")
    ] = Limits.seconds,
    max_film: Annotated[
        float, typer.Option(min=0.001, help="Megabytes that a film's file may have.")
    ] = Limits.film / 1e6,
    max_frame: Annotated[
        float, typer.Option(min=0.001, help="Megapixels that a frame of a film may have.")
    ] = Limits.frame / 1e6,
) -> None:
    """Serve the page: faces are imagined, photos and films enlarged, methods compared."""
    user, colon, password = (auth or "").partition(":")
    if auth is not None and not (user and colon and password):
        raise InputError("--auth takes a name and a password with a colon between: NAME:PASSWORD.")
    limits = Limits(
        searches, waiting, max_candidates, max_steps, int(max_upload * 1e6), int(max_pixels * 1e6),
        fetch=fetch, each=per_address, enlarged=int(max_result * 1e6), seconds=max_seconds,
        film=int(max_film * 1e6), frame=int(max_frame * 1e6),
    )  # fmt: skip
    say(f"Opening the generator {generator} and the page, which takes some seconds.")
    keep_freed_memory()
    with tempfile.TemporaryDirectory(prefix="pulse-", ignore_cleanup_errors=True) as folder:
        studio = Studio(Path(folder), limits, generator, device=device, precision=precision)
        # Here, since it takes seconds that other commands need not spend.
        from pulse.web.page import site_of
        from pulse.web.server import Address, serve

        address = Address(host, port, root_path, (user, password) if auth else None)
        serve(site_of(studio), address, "PULSE is at", studio.sweep)
