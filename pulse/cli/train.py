"""`pulse train`: an upscaling network from pictures or a film."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import typer

from pulse.cli import options
from pulse.cli.outputs import check_output, complain, say, writing
from pulse.cli.progress import Display, display
from pulse.devices import Precision, choose_device
from pulse.imaging.degrade import BD, SYNTAX, DegradeConfig
from pulse.imaging.pictures import InputError, setting
from pulse.superres import weights
from pulse.superres.clip_pairs import ClipConfig
from pulse.superres.discriminators import DiscriminatorConfig
from pulse.superres.film_sources import read_clips
from pulse.superres.losses import Adversarial, Content
from pulse.superres.networks import (
    FRVSR,
    CompactConfig,
    ConfigError,
    FRVSRConfig,
    MSRResNetConfig,
    RRDBNetConfig,
    SRResNetConfig,
    TransformNetConfig,
    UNetConfig,
)
from pulse.superres.networks.frvsr import PAPER_FLOW, Body
from pulse.superres.networks.srresnet import ARTICLE, PAPER
from pulse.superres.pairs import PairConfig
from pulse.superres.sources import read_pairs
from pulse.superres.train import NETWORK, SAVE_SECONDS, train
from pulse.superres.train_film import FilmTrainConfig, train_film
from pulse.superres.training_config import TrainConfig, TrainingProgress
from pulse.superres.weights import AnyNetwork, Config
from stylegan.training_config import DivergedError

Family: TypeAlias = Literal[
    "srresnet", "srresnet-paper", "srresnet-article", "msrresnet", "rrdb", "compact", "transform",
    "unet", "frvsr",
]  # fmt: skip
Flow: TypeAlias = Literal["lucas-kanade", "learned"]
PLAIN_EVERY = 30.0
"""Seconds between the lines of progress when nobody watches."""


def work(
    data: Annotated[
        list[Path],
        typer.Argument(metavar="DATA...", help="Folders, zip files, pictures, films."),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the training.")],
    network: Annotated[Family, typer.Option(help="What is trained.")] = "srresnet",
    scale: Annotated[int, typer.Option(help="Times as wide and high.")] = PairConfig.scale,
    blocks: Annotated[
        int | None,
        typer.Option(
            min=1, help="Blocks or layers. [default: the network's own]", show_default=False
        ),
    ] = None,
    channels: Annotated[
        int | None,
        typer.Option(
            min=1, help="Width; U-Net's first level. [default: the network's]", show_default=False
        ),
    ] = None,
    loss: Annotated[Content, typer.Option(help="What is compared.")] = TrainConfig.loss,
    pixel: Annotated[
        float, typer.Option(min=0, help="Weight of pixels beside --loss perceptual.")
    ] = TrainConfig.pixel,
    vgg: Annotated[
        Path | None,
        typer.Option(
            help="torchvision's weights of VGG-16 or VGG-19. [default: EfficientNet-Lite0]",
            show_default=False,
        ),
    ] = TrainConfig.vgg,
    gan: Annotated[
        bool, typer.Option("--gan", help="Go on against a discriminator afterwards.")
    ] = TrainConfig.gan,
    pretrain: Annotated[
        float, typer.Option(help="With --gan, share of the training before it.")
    ] = TrainConfig.pretrain,
    adversarial: Annotated[
        Adversarial, typer.Option(help="SRGAN's loss, or ESRGAN's.")
    ] = TrainConfig.adversarial,
    adversarial_weight: Annotated[
        float, typer.Option(min=0, help="Of that loss.")
    ] = TrainConfig.adversarial_weight,
    judge_channels: Annotated[
        int, typer.Option(min=1, max=512, help="Width of the discriminator.")
    ] = DiscriminatorConfig.channels,
    judge_head: Annotated[
        Literal["dense", "patch"], typer.Option(help="It judges pictures, or each place of them.")
    ] = DiscriminatorConfig.head,
    minutes: Annotated[
        float | None,
        typer.Option(
            min=0, help="Budget of time. [default: without end, or --steps]", show_default=False
        ),
    ] = TrainConfig.minutes,
    steps: Annotated[
        int | None,
        typer.Option(
            min=1, help="Steps in all. [default: 100000, or --minutes]", show_default=False
        ),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(
            min=1, help="Patches, or clips, a step. [default: 16, or 4]", show_default=False
        ),
    ] = None,
    patch: Annotated[
        int, typer.Option(min=4, help="Side of the patches, in pixels of the small picture.")
    ] = PairConfig.patch,
    lr: Annotated[float, typer.Option(help="Learning rate.")] = TrainConfig.lr,
    gan_lr: Annotated[
        float, typer.Option(help="Learning rate with the discriminator.")
    ] = TrainConfig.gan_lr,
    degrade: Annotated[
        str | None,
        typer.Option(
            metavar="OPERATORS",
            help=f"What makes pictures small: {SYNTAX}. [default: bicubic; for frvsr {BD}]",
            show_default=False,
        ),
    ] = None,
    frames: Annotated[
        int, typer.Option(min=2, help="With --network frvsr, of each clip.")
    ] = ClipConfig.frames,
    body: Annotated[
        Body, typer.Option(help="With --network frvsr, blocks like SRResNet's or like ESRGAN's.")
    ] = FRVSRConfig.body,
    flow: Annotated[
        Flow, typer.Option(help="With --network frvsr, what finds how things have moved.")
    ] = "lucas-kanade",
    flow_share: Annotated[
        float,
        typer.Option(help="With --flow learned, share of the training in which it learns alone."),
    ] = FilmTrainConfig.flow_share,
    ping_pong: Annotated[
        float,
        typer.Option(min=0, help="With --network frvsr, weight of going there and back (TecoGAN)."),
    ] = FilmTrainConfig.ping_pong,
    square: Annotated[
        int | None,
        typer.Option(help="Take squares of this side, for faces.", show_default=False),
    ] = PairConfig.square,
    resized: Annotated[
        bool, typer.Option("--resized", help="Show each picture at smaller sizes, too.")
    ] = PairConfig.resized,
    upright: Annotated[
        bool, typer.Option("--upright", help="Mirror pictures, but do not turn them.")
    ] = PairConfig.upright,
    every: Annotated[
        int, typer.Option(min=1, help="Of a film, take each so manyth frame.")
    ] = PairConfig.every,
    test_seconds: Annotated[
        float, typer.Option(min=0, help="At the end of a film, kept apart to measure on.")
    ] = PairConfig.test_seconds,
    held_out: Annotated[
        int | None,
        typer.Option(
            min=1, help="Pictures kept apart. [default: a tenth, 1 to 300]", show_default=False
        ),
    ] = PairConfig.held_out,
    start_from: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE", help="Begin with this network's weights.", show_default=False
        ),
    ] = None,
    save_every: Annotated[
        float, typer.Option(metavar="SECONDS", min=0, help="Between measurements, each saved.")
    ] = SAVE_SECONDS,
    seed: Annotated[int, typer.Option(min=0, help="Of everything random.")] = TrainConfig.seed,
    device: options.Device = "auto",
    precision: options.PrecisionName = "auto",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print each measurement as a line of JSON on stdout.")
    ] = False,
) -> None:
    """Train a network that upscales; the same command goes on where it was stopped.

    `--network frvsr`, which is for films, learns from films and from photos that are moved.

    The folder then holds network.safetensors, for `pulse upscale --network`, and sheets of LR,
    bicubic, result and original, the pictures being some that were kept apart.
    """
    start = None if start_from is None else weights.load(start_from)
    if steps is None and minutes is None:
        steps = TrainConfig.steps
    if start is not None:
        sizes = start.config
    else:
        sizes = _config(network, scale, blocks, channels)
        if isinstance(sizes, FRVSRConfig):
            sizes = _of_films(sizes, body, flow)
    kind = FilmTrainConfig if isinstance(sizes, FRVSRConfig) else TrainConfig
    config = kind(
        network=sizes,
        loss=loss, pixel=pixel, vgg=vgg, gan=gan, pretrain=pretrain, adversarial=adversarial,
        adversarial_weight=adversarial_weight,
        discriminator=DiscriminatorConfig(judge_channels, judge_head),
        minutes=minutes, steps=steps, batch=batch or kind.batch, lr=lr, gan_lr=gan_lr, seed=seed,
        precision=_precision(precision),
    )  # fmt: skip
    if isinstance(config, FilmTrainConfig):
        config = replace(config, ping_pong=ping_pong, flow_share=flow_share)
    if start is not None and start.scale != scale:
        raise InputError(
            f"{start_from} upscales {start.scale} times; give --scale {start.scale} with it."
        )
    place = choose_device(device)
    check_output(output)
    if isinstance(config, FilmTrainConfig):
        if square is not None or resized or upright:
            raise InputError("--square, --resized and --upright are not for films; leave them out.")
        clip_config = ClipConfig(
            scale=scale, patch=patch, frames=frames, every=every, test_seconds=test_seconds,
            degradation=DegradeConfig.parse(degrade or BD), held_out=held_out,
        )  # fmt: skip
        say("reading the films")
        clips = read_clips(data, clip_config)
        say(
            f"{len(clips.films)} frames of films and {len(clips.stills)} stills to learn from, "
            f"{len(clips.tests)} stills to measure on, {_count(config)} parameters"
        )
        assert start is None or isinstance(start, FRVSR)
        run = train_film(config, clips, output, place, start, save_every)
    else:
        pair_config = PairConfig(
            scale=scale, patch=patch, degradation=DegradeConfig.parse(degrade or "bicubic"),
            square=square, resized=resized, upright=upright, every=every,
            test_seconds=test_seconds, held_out=held_out,
        )  # fmt: skip
        say("reading the pictures")
        pairs = read_pairs(data, pair_config)
        say(
            f"{len(pairs.training)} pictures to learn from, {len(pairs.tests)} to measure on, "
            f"{_count(config)} parameters"
        )
        run = train(config, pairs, output, place, start, save_every)
    last = None
    try:
        with display() as shown, writing(output):
            for progress in run:
                last = progress
                _show(shown, progress, as_json)
    except DivergedError as error:
        complain(error)
        raise typer.Exit(1) from error
    if last is not None and not as_json:
        print(output / NETWORK)


def _precision(precision: Precision) -> Literal["auto", "bfloat16", "float32"]:
    if precision == "float16":
        raise InputError(
            f"Training cannot be done in float16; give {setting('precision')} bfloat16 or float32."
        )
    return precision


def _config(family: Family, scale: int, blocks: int | None, channels: int | None) -> Config:
    """The family's own sizes, but for those that are given.

    Raises:
        InputError: there is no such network.
    """
    try:
        match family:
            case "srresnet" | "srresnet-paper" | "srresnet-article":
                kinds = {"srresnet-paper": PAPER, "srresnet-article": ARTICLE}
                config = kinds.get(family, SRResNetConfig())
                return replace(
                    config, scale=scale, blocks=blocks or config.blocks,
                    channels=channels or config.channels,
                )  # fmt: skip
            case "msrresnet":
                own = MSRResNetConfig()
                return MSRResNetConfig(scale, blocks or own.blocks, channels or own.channels)
            case "rrdb":
                channels = channels or RRDBNetConfig.channels
                return RRDBNetConfig(
                    scale, blocks or RRDBNetConfig.blocks, channels, max(1, channels // 2)
                )
            case "compact":
                return CompactConfig(
                    scale, blocks or CompactConfig.convs, channels or CompactConfig.channels
                )
            case "transform":
                return TransformNetConfig(
                    scale,
                    blocks or TransformNetConfig.blocks,
                    channels or TransformNetConfig.channels,
                )
            case "frvsr":
                return FRVSRConfig(
                    scale, blocks or FRVSRConfig.blocks, channels or FRVSRConfig.channels
                )
            case "unet":
                levels, first = blocks or len(UNetConfig.channels), channels or 64
                return UNetConfig(scale, tuple(first * 2**level for level in range(levels)))
    except ConfigError as error:
        raise InputError(f"Such a network cannot be: {error}.") from error


def _of_films(config: FRVSRConfig, body: Body, flow: Flow) -> FRVSRConfig:
    """The sizes with such blocks and such a flow, a dense body's growth being half its width."""
    if body == "dense":
        config = replace(config, body=body, growth=max(1, config.channels // 2))
    return replace(config, flow=PAPER_FLOW) if flow == "learned" else config


def _count(config: TrainConfig) -> str:
    network: AnyNetwork = weights.build(config.network)
    return f"{sum(parameter.numel() for parameter in network.parameters()):,}"


def _show(shown: Display, progress: TrainingProgress, as_json: bool) -> None:
    words = " ".join(_words(progress))
    shown.bar("training", progress.done, 1.0, words)
    if progress.psnr_y is not None and as_json:
        print(json.dumps(asdict(progress)), flush=True)
    elif progress.psnr_y is not None:
        shown.say(words)
    elif shown.due(PLAIN_EVERY):
        shown.line(f"{words} ({progress.done:.0%})")


def _words(progress: TrainingProgress) -> Iterator[str]:
    yield f"step {progress.step}, {progress.rate:.1f} a second, loss {progress.content:.4f}"
    if progress.stage == "gan":
        yield (
            f"+ {progress.adversarial:.2f}, judge {progress.real:+.2f} of originals and "
            f"{progress.fake:+.2f} of ours"
        )
    if progress.psnr_y is not None:
        yield f"PSNR {progress.psnr_y:.2f} dB, bicubic {progress.bicubic:.2f}"
