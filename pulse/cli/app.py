"""The command line."""

from __future__ import annotations

import io
import sys
from typing import Annotated

import typer
from typer.exceptions import TyperException

from pulse import __version__
from pulse.cli import align, batch, doctor, evaluate, models, run, train, upscale, video, web
from pulse.cli.outputs import complain, say
from pulse.imaging.pictures import InputError
from stylegan import CheckpointError

app = typer.Typer(
    name="pulse",
    help="Imagine high-resolution faces that downscale to a tiny one. They are imaginary people.",
    rich_markup_mode=None,
)
app.add_typer(models.app, name="models")
app.command("run")(run.run)
app.command("align")(align.align_photos)
app.command("web")(web.web)
app.command("batch")(batch.work)
app.command("upscale")(upscale.upscale)
app.command("train")(train.work)
app.command("evaluate")(evaluate.evaluate)
app.command("video")(video.video)
app.command("doctor")(doctor.doctor)
INTERRUPTED = 130  # What typer makes of Ctrl-C.


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


def main() -> int:
    """Run the command line; errors that a user can mend become one sentence and exit code 2."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # File names may hold anything.
    try:
        arguments = sys.argv[1:] or ["--help"]
        code = typer.main.get_command(app).main(arguments, "pulse", standalone_mode=False)
    except (InputError, CheckpointError) as error:
        complain(error)
        return 2
    except TyperException as error:
        say(f"pulse: {error.format_message()}")
        return 2
    if code == INTERRUPTED:
        say("pulse: stopped.")
        return 1
    return code if isinstance(code, int) else 0
