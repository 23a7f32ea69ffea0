"""Train, measure and convert generators: `python -m stylegan train|evaluate|convert`."""

from __future__ import annotations

import json
import math
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import torch
import typer
from safetensors import SafetensorError
from typer.exceptions import TyperException

from stylegan.checkpoints import CheckpointError, open_checkpoint, save
from stylegan.dataset import NATURAL_SHARE, DataError, load_pictures, uncaptioned
from stylegan.evaluate import evaluate as measure
from stylegan.evaluate import samples
from stylegan.imagenet import MissingNetworkError
from stylegan.memory import keep_freed_memory
from stylegan.rarest import rarest
from stylegan.sheet import save_sheet
from stylegan.stylegan2 import StyleGAN2
from stylegan.train import FILES, Trainer
from stylegan.training_config import DivergedError, TrainConfig
from stylegan.zoo import EMBEDDED, identity, load, locate

app = typer.Typer(add_completion=False, rich_markup_mode=None)
SAVE_SECONDS = 180
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
INTERRUPTED = 130  # What typer makes of Ctrl-C.
HELD_OUT = "Pictures at the end of the table that training never sees."


@app.callback()
def _root() -> None:
    """Train, measure and convert generators of faces."""


@app.command()
def train(
    data: Annotated[Path, typer.Option(help="Folder of pictures or zip files.")],
    output: Annotated[Path, typer.Option(help="Folder for checkpoints, samples and the log.")],
    resolution: Annotated[int, typer.Option(help="Side of the pictures.")] = 128,
    start_resolution: Annotated[
        int, typer.Option(help="Side to start with; it doubles up to the resolution.")
    ] = TrainConfig.start_resolution,
    images: Annotated[
        int, typer.Option(min=1, help="Pictures to show at the final resolution.")
    ] = TrainConfig.images,
    start_images: Annotated[
        int, typer.Option(min=1, help="Pictures to show at each earlier resolution.")
    ] = TrainConfig.start_images,
    channels: Annotated[
        str | None,
        typer.Option(
            help="Feature maps at 4, 8, 16, ... pixels. [default: those that it starts from, or "
            f"{','.join(map(str, TrainConfig.channels))}]"
        ),
    ] = None,
    discriminator_channels: Annotated[
        str | None,
        typer.Option(help="Those of the discriminator. [default: the same, or as it was trained]"),
    ] = None,
    projected: Annotated[
        float,
        typer.Option(min=0, help="Weight of judges that look through a network of photographs."),
    ] = TrainConfig.projected,
    faces: Annotated[
        float,
        typer.Option(min=0, help="Weight of judges that look through a network of faces."),
    ] = TrainConfig.faces,
    natural: Annotated[
        float, typer.Option(min=0, max=1, help="Least share of natural pictures among those shown.")
    ] = NATURAL_SHARE,
    rare: Annotated[
        float,
        typer.Option(
            min=0, max=0.9, help="Share shown of the tenth that the generator draws least."
        ),
    ] = 0.0,
    batch: Annotated[int, typer.Option(help="Pictures a step.")] = TrainConfig.batch,
    lr: Annotated[float, typer.Option(help="Learning rate.")] = TrainConfig.lr,
    r1: Annotated[
        float | None, typer.Option(help="Weight of R1. [default: 0.0002 * pixels / batch]")
    ] = TrainConfig.r1,
    augment: Annotated[
        float, typer.Option(min=0, max=1, help="Probability of shifts; turns and zooms half of it.")
    ] = TrainConfig.augment,
    colour: Annotated[
        float, typer.Option(min=0, max=1, help="Probability of changes of colour and contrast.")
    ] = TrainConfig.colour,
    mixing: Annotated[
        float, typer.Option(min=0, max=1, help="Probability of style mixing.")
    ] = TrainConfig.mixing,
    apart: Annotated[
        float,
        typer.Option(min=0, max=1, help="Probability that a picture's layers lie apart in w."),
    ] = TrainConfig.apart,
    path_length: Annotated[
        float, typer.Option(min=0, help="Weight of the path length penalty; the paper's is 2.")
    ] = TrainConfig.path_length,
    ema_images: Annotated[
        int, typer.Option(min=1, help="Half-life of the averaged weights, in pictures.")
    ] = TrainConfig.ema_images,
    judges_first: Annotated[
        int,
        typer.Option(min=0, help="Pictures from which new judges of a trained generator learn."),
    ] = TrainConfig.judges_first,
    precision: Annotated[
        Literal["auto", "bfloat16", "float32"], typer.Option(help="Type of the feature maps.")
    ] = TrainConfig.precision,
    start_from: Annotated[
        str | None,
        typer.Option(help="Begin with trained networks: 'faces', or the folder of another run."),
    ] = None,
    held_out: Annotated[int, typer.Option(min=0, help=HELD_OUT)] = 300,
    device: Annotated[str, typer.Option(help="cpu, cuda or mps.")] = "cpu",
) -> None:
    """Train a generator; the same command again goes on where it stopped."""
    keep_freed_memory()
    try:
        config = TrainConfig(
            resolution=resolution,
            start_resolution=start_resolution,
            images=images,
            start_images=start_images,
            channels=_counts(channels) if channels else _channels_of(start_from),
            discriminator_channels=_counts(discriminator_channels)
            if discriminator_channels
            else None,
            projected=projected,
            faces=faces,
            batch=batch,
            lr=lr,
            r1=r1,
            augment=augment,
            colour=colour,
            mixing=mixing,
            apart=apart,
            ema_images=ema_images,
            judges_first=judges_first,
            path_length=path_length,
            precision=precision,
        )
    except ValueError as error:
        raise DataError(str(error)) from error
    trainer = Trainer(config, _device(device))
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{output} cannot be made ({error.strerror}).") from error
    if (output / "state.pt").exists():
        trainer.restore(output / "state.pt")
        print(f"Going on at {trainer.generator.resolution} pixels, {trainer.images} pictures.")
    elif start_from is not None:
        trainer.start_from(_trained(start_from))
    pictures, _ = load_pictures(data, resolution, held_out, natural)
    print(f"{len(pictures)} pictures.", flush=True)
    pictures = uncaptioned(pictures, data)
    if rare:
        numbers = rarest(pictures, trainer.average, math.ceil(len(pictures) / 10))
        pictures = pictures.with_share(numbers, rare)
    saved = time.monotonic()
    for progress in trainer.run(pictures):
        line = json.dumps({key: round(value, 4) for key, value in asdict(progress).items()})
        print(line, flush=True)
        with (output / "log.jsonl").open("a", encoding="utf-8") as log:
            log.write(line + "\n")
        finished = progress.resolution == resolution and progress.images >= images
        if time.monotonic() - saved > SAVE_SECONDS or finished:
            trainer.save(output)
            trainer.sample_sheet(output / f"{progress.resolution}-{progress.images:08d}.png")
            saved = time.monotonic()


@app.command()
def evaluate(
    data: Annotated[Path, typer.Option(help="Folder of pictures or zip files to compare with.")],
    generator: Annotated[str, typer.Argument(help="Name or file of the generator.")] = EMBEDDED,
    count: Annotated[int, typer.Option(min=5, help="Samples, and pictures, to compare.")] = 1000,
    sheet: Annotated[Path, typer.Option(help="PNG file for a sheet of 100 samples.")] = Path(
        "samples.png"
    ),
    device: Annotated[str, typer.Option(help="cpu, cuda or mps.")] = "cpu",
) -> None:
    """Measure a generator: distances of faces, of whole pictures, and a sheet to look at."""
    network = load(generator, _device(device))
    pictures, _ = load_pictures(data, network.resolution)
    if len(pictures) < 2 * count:
        raise DataError(f"{data} holds {len(pictures)} pictures; {2 * count} are needed.")
    result = measure(network, pictures, count)
    print(f"                         samples    faces    ({count} of each)")
    sets = {"all pictures": result.distances, "natural": result.natural, "others": result.other}
    for words, distances in sets.items():
        if distances is not None:
            d = distances
            print(words)
            print(f"  Frechet, dlib         {d.frechet:8.4f} {d.frechet_floor:8.4f}")
            print(f"  kernel x 1000, Lite0  {1000 * d.kernel:8.1f} {1000 * d.kernel_floor:8.1f}")
    print(f"detector, mean score    {result.score:8.3f} {result.score_faces:8.3f}")
    print(f"detector, share         {result.share:8.3f} {result.share_faces:8.3f}")
    try:
        save_sheet(torch.stack(list(samples(network, 100))).float() / 127.5 - 1, sheet)
    except OSError as error:
        raise DataError(f"{sheet} cannot be written ({error.strerror}).") from error


@app.command()
def convert(
    source: Annotated[str, typer.Argument(metavar="IN", help="Name or file of the generator.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="The safetensors file to write.")],
    dtype: Annotated[
        Literal["float32", "float16", "bfloat16"], typer.Option(help="Type of the stored weights.")
    ] = "float32",
) -> None:
    """Turn a checkpoint of any known kind into safetensors, which draw the same pictures."""
    if target.suffix != ".safetensors":
        raise DataError(f"{target} should end in .safetensors, for that is what it becomes.")
    path = locate(source)
    network = open_checkpoint(path)
    try:
        save(network, target, {"source": path.name, "source_sha256": identity(path)}, DTYPES[dtype])
    except (OSError, SafetensorError) as error:
        raise DataError(f"{target} cannot be written: {error}.") from error
    print(f"{target}  {network.family}, {network.resolution} pixels, {dtype}")


def _counts(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(",") if part)


def _channels_of(start_from: str | None) -> tuple[int, ...]:
    """Feature maps of what training starts from; of what starts anew, the usual ones."""
    if start_from is None:
        return TrainConfig.channels
    network = open_checkpoint(_trained(start_from)[0])
    # What is no StyleGAN2 is refused when training starts from it.
    return network.config.channels if isinstance(network, StyleGAN2) else TrainConfig.channels


def _trained(name: str) -> list[Path]:
    """The files to begin with, in the order of `FILES`."""
    if name == EMBEDDED:
        weights = locate(EMBEDDED)
        return [weights, *(weights.with_name(f"{EMBEDDED}-{file}") for file in FILES[1:])]
    return [Path(name) / file for file in FILES]


def _device(name: str) -> torch.device:
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise DataError(f"There is no device {name} here; give --device cpu.") from error


def main() -> int:
    """Run the command line; errors that a user can mend become one sentence and exit code 2."""
    try:
        arguments = sys.argv[1:] or ["--help"]
        code = typer.main.get_command(app).main(arguments, standalone_mode=False)
    except (DataError, CheckpointError, MissingNetworkError) as error:
        print(f"stylegan: {error}", file=sys.stderr)
        return 2
    except DivergedError as error:
        print(f"stylegan: {error}", file=sys.stderr)
        return 1
    except TyperException as error:
        print(f"stylegan: {error.format_message()}", file=sys.stderr)
        return 2
    if code == INTERRUPTED:
        print("stylegan: stopped; the last checkpoint stays.", file=sys.stderr)
        return 1
    return code if isinstance(code, int) else 0


if __name__ == "__main__":
    raise SystemExit(main())
