"""The options that several commands share."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from align import Detector
from pulse.devices import Precision
from pulse.faces.framing import Align
from pulse.imaging.degrade import SYNTAX
from pulse.results import Format
from pulse.settings import Preset
from pulse.upscale import MAX_SEED

Candidates = Annotated[
    int, typer.Option("-n", "--candidates", min=1, max=1000, help="Faces to search for.")
]
Steps = Annotated[int, typer.Option(min=1, max=1_000_000, help="Steps of the search.")]
Seed = Annotated[int, typer.Option(min=0, max=MAX_SEED, help="Seed of the first candidate.")]
GeneratorName = Annotated[str, typer.Option(help="Name or file of the generator.")]
Device = Annotated[Literal["auto", "cpu", "cuda", "mps"], typer.Option(help="Where to compute.")]
PrecisionName = Annotated[
    Precision,
    typer.Option(
        help="Of the generator's larger feature maps; auto: bfloat16 where that is much faster."
    ),
]
Tolerance = Annotated[
    float, typer.Option(help="Largest mean squared error, on [0, 1] at LR size, of a match.")
]
LrSize = Annotated[
    str | None,
    typer.Option(
        metavar="N|auto",
        help="Side in pixels at which to match; auto: what the pixels hold. "
        "[default: a small picture's own size, else 16]",
        show_default=False,
    ),
]
Degrade = Annotated[
    str | None,
    typer.Option(
        metavar="OPERATORS",
        help=f"What happened to the picture, commas between: {SYNTAX}. "
        "[default: bicubic, and grey if it is]",
        show_default=False,
    ),
]
Alignment = Annotated[
    Align, typer.Option(help="Look for faces: in pictures that need it, in all, or in none.")
]
Face = Annotated[
    str,
    typer.Option(
        metavar="largest|all|N",
        help="Which of a photo's faces; 0 is the largest, as in --show-faces.",
    ),
]
DetectorName = Annotated[
    Detector,
    typer.Option(help="cnn finds profiles and covered faces, too, but takes seconds."),
]
Paste = Annotated[
    bool, typer.Option("--paste", help="Write the photo with each candidate in its place, too.")
]
PresetName = Annotated[
    Preset, typer.Option(help="How to search; 'paper' is the publication's recipe.")
]
Exact = Annotated[
    bool | None,
    typer.Option(
        "--exact/--no-exact",
        help="Change what matches by the little that makes it match exactly. "
        "[default: yes, but not with the paper's preset]",
        show_default=False,
    ),
]
Mend = Annotated[
    bool | None,
    typer.Option(
        "--mend/--no-mend",
        help="Put tone and last errors right in what is drawn, instead of searching on. "
        "[default: yes, but not with the paper's preset]",
        show_default=False,
    ),
]
TimeLimit = Annotated[
    float | None,
    typer.Option(
        metavar="SECONDS",
        help="For each face; while it lasts, what does not match begins anew elsewhere.",
    ),
]
Scale = Annotated[
    float | None,
    typer.Option(
        help="Times as wide and high, for instance 2.5. [default: the network's]",
        show_default=False,
    ),
]
TileSide = Annotated[
    str, typer.Option(metavar="auto|N", help="Side of the tiles, in pixels of the input.")
]
Size = Annotated[
    int | None,
    typer.Option(
        metavar="PIXELS",
        help="Make the faces that match so large, by a network. [default: the generator's size]",
        show_default=False,
    ),
]
Finish = Annotated[
    str,
    typer.Option(
        metavar="auto|off|NAME|FILE",
        help="The network of --size; auto: Real-ESRGAN's if it is installed, else a shipped one.",
    ),
]
FileFormat = Annotated[Format, typer.Option(help="File format of the candidates.")]
