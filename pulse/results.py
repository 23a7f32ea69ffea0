"""The files that a search leaves: pictures that say what they are, a comparison, and a record."""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngImageFile

from pulse import __version__
from pulse.faces import plausibility
from pulse.faces.framing import Framing
from pulse.faces.prepare import LRFace
from pulse.imaging.pictures import to_image, to_png, write_bytes
from pulse.search import State, Status
from pulse.superres import mending
from pulse.superres.finish import OFF, Finisher
from pulse.upscale import NOTICE, UpscaleConfig, Upscaler
from stylegan import marks
from stylegan.marks import COMPOSITE, SOURCE_TYPE, XMP_KEY

Format = Literal["png", "jpg", "webp"]

RECORD = "result.json"
"""The last file to be written: where it is, the others are whole."""
OURS = re.compile(r"candidate-\d{2,}\.(png|jpg|webp)|photo-\d{2,}\.png")
PASTED = (
    "A face in this photo is imaginary: a generative network drew it to match a small version of "
    "the one that was there."
)
TOOL = f"PULSE {__version__}"


@dataclass(frozen=True)
class Result:
    """A finished, or interrupted, search for one face.

    Attributes:
        source: the input as the user named it.
        seconds: that the search took.
        interrupted: whether the user stopped it before its last step.
        near: seed of the candidate that this search began near to; None if it began at random.
    """

    source: str
    face: LRFace
    state: State
    config: UpscaleConfig
    preset: str
    upscaler: Upscaler
    seconds: float
    interrupted: bool = False
    near: int | None = None

    @property
    def found(self) -> bool:
        """Whether at least one candidate met the tolerance."""
        return Status.FOUND in self.state.status

    @cached_property
    def plausibility(self) -> tuple[float | None, ...]:
        """Of each candidate, the share of real faces that look worse; None where it cannot be told.

        That is so for what is not finite, and for generators that draw something else.
        """
        images = self.state.images
        if not plausibility.can_tell(self.upscaler.name):
            return (None,) * len(images)
        shares = plausibility.load().plausibility(images * 2 - 1).tolist()
        return tuple(None if math.isnan(share) else round(share, 3) for share in shares)

    @property
    def ranked(self) -> list[int]:
        """The candidates' indices, best first: matches by plausibility, then the rest by error."""
        found = [status is Status.FOUND for status in self.state.status]
        return plausibility.ranking(found, self.plausibility, self.state.best.tolist())

    @property
    def mended(self) -> bool:
        """Whether a network made a match of at least one candidate."""
        return bool((self.state.best < self.state.drawn).any())

    @property
    def pastable(self) -> bool:
        """Whether it is known where in a photo the face was."""
        return self.face.framing is not None and self.face.framing.found is not None

    @property
    def tolerance(self) -> float:
        """The one that was used: what was asked for and what the noise adds."""
        return self.config.search.with_noise(self.face.degrade.noise).tolerance

    @property
    def drawn_for_photo(self) -> tuple[int, Finisher | None]:
        """Side in pixels of a face as it is pasted into the photo, and what makes it so large.

        Who asks for a size or a network gets that, here as elsewhere.
        """
        assert self.face.framing is not None
        finish = OFF if self.config.finishes else self.config.finish
        drawn = self.state.images.shape[-1]
        return self.upscaler.for_photo(drawn, self.face.framing.side, finish)

    def record(self, format: Format, paste: bool = False) -> dict[str, Any]:
        """What `result.json` holds.

        Args:
            paste: whether the photo with each candidate in it is written, too.
        """
        state, generator = self.state, self.upscaler.generator
        exact = [None] * len(state.best) if state.exact is None else state.exact.tolist()
        finisher = self.upscaler.finisher(self.config)
        return {
            "input": self.source,
            "face": self.face.index,
            "lr_size": self.face.low.shape[-1],
            "tolerance": self.tolerance,
            "framing": None if self.face.framing is None else self.face.framing.record(),
            "seconds": round(self.seconds, 2),
            "near_seed": self.near,
            "interrupted": self.interrupted,
            "generator": {
                "name": self.upscaler.name,
                "sha256": self.upscaler.sha256,
                "resolution": generator.resolution,
            },
            "size": state.images.shape[-1],
            "finish": finisher and {"network": finisher.name, "sha256": finisher.sha256},
            "mending": {"sha256": mending.identity()} if self.mended else None,
            "paste": self._paste_record() if paste else None,
            "config": {
                "version": __version__,
                "preset": self.preset,
                "device": str(generator.device),
                "precision": self.upscaler.precision,
                **asdict(self.config),
                "degrade": str(self.face.degrade),
            },
            "notice": NOTICE,
            "notes": list(self.face.notes),
            "candidates": [
                {
                    "file": f"candidate-{index:02d}.{format}",
                    "seed": seed,
                    "status": status.value,
                    "mse_drawn": drawn if math.isfinite(drawn) else None,
                    "mse": error if math.isfinite(error) else None,
                    "mse_exact": None if last is None or math.isnan(last) else last,
                    "step": step,
                    "plausibility": self.plausibility[index],
                    **({"photo": f"photo-{index:02d}.png"} if paste else {}),
                }
                for index, (seed, status, drawn, error, last, step) in enumerate(
                    zip(
                        self.config.seeds,
                        state.status,
                        state.drawn.tolist(),
                        state.best.tolist(),
                        exact,
                        state.best_step.tolist(),
                        strict=True,
                    )
                )
            ],
        }

    def _paste_record(self) -> dict[str, Any]:
        assert self.face.framing is not None
        size, finisher = self.drawn_for_photo
        return {
            "photo": self.face.framing.side,
            "size": size,
            "finish": finisher and {"network": finisher.name, "sha256": finisher.sha256},
        }


def too_fine(photo: int, drawn: int) -> str | None:
    """What to say where a face in a photo has more pixels per side than are drawn."""
    if photo <= drawn:
        return None
    return (
        f"The photo is finer than what can be drawn: the face takes {photo}x{photo} of its pixels "
        f"and was drawn with {drawn}x{drawn}, so that it looks softer than what is around it."
    )


def folder_name(path: Path, index: int) -> str:
    """Where the results for a face go: the file's name without suffix, numbered after the first."""
    stem = path.name if path.stem in (".", "..") else path.stem
    return stem if index == 0 else f"{stem}-{index}"


def write_result(
    result: Result, folder: Path, format: Format = "png", photo: Image.Image | None = None
) -> dict[str, Any]:
    """Write candidates, input, comparison and record into a folder, each file whole or not at all.

    Candidates of an earlier, larger run in the same folder are removed.

    Args:
        photo: that the face was found in; each candidate is pasted into it.

    Returns:
        The record, as in `result.json`.
    """
    record = result.record(format, photo is not None and result.pastable)
    folder.mkdir(parents=True, exist_ok=True)
    names = set()
    for name, data in result_files(result, record, photo):
        write_bytes(folder / name, data)
        names.add(name)
    for old in folder.iterdir():
        if OURS.fullmatch(old.name) and old.name not in names:
            old.unlink()
    return record


def result_files(
    result: Result, record: dict[str, Any], photo: Image.Image | None = None
) -> Iterator[tuple[str, bytes]]:
    """The files of a result, one after the other: name and bytes, the record last.

    Args:
        record: from `result.record`; it names the candidates' files.
        photo: that the face was found in, where the record names photos.
    """
    images = [to_image(image) for image in result.state.images]
    for image, candidate in zip(images, record["candidates"], strict=True):
        name = candidate["file"]
        format: Format = name.rpartition(".")[2]
        yield name, encode(image, format, _facts(result, candidate))
    framing = result.face.framing
    if photo is not None and framing is not None and record["paste"] is not None:
        size, finisher = result.drawn_for_photo
        for index, candidate in enumerate(record["candidates"]):
            facts = _facts(result, candidate)
            one = result.state.images[index : index + 1]
            if finisher is not None:
                one, facts = finisher.fitted(one, size), facts | finished_by(finisher)
            yield candidate["photo"], pasted(to_image(one[0]), facts, framing, photo)
    yield "input.png", to_png(to_image(result.face.low.nan_to_num(0)))
    yield "comparison.png", encode(_comparison(result, images), "png", _facts(result, None))
    yield RECORD, (json.dumps(record, indent=2) + "\n").encode()


def pasted(
    image: Image.Image, facts: dict[str, str], framing: Framing, photo: Image.Image
) -> bytes:
    """The photo with a candidate in the place of the face, as PNG that says so."""
    facts = {**facts, "Description": PASTED}
    return encode(framing.paste(photo, image), "png", facts, COMPOSITE)


def facts_of(candidate: Path) -> dict[str, str]:
    """What a candidate that was written as PNG says of itself."""
    with Image.open(candidate) as image:
        assert isinstance(image, PngImageFile)
        return {name: text for name, text in image.text.items() if name != XMP_KEY}


def finished_by(finisher: Finisher) -> dict[str, str]:
    """What a picture says of the network that made it larger."""
    network = finisher.name.encode(errors="backslashreplace").decode()
    return {"Finished": f"{network} sha256:{finisher.sha256}"}


def _facts(result: Result, candidate: dict[str, Any] | None) -> dict[str, str]:
    """What a picture says of itself, as name and text."""
    name = result.upscaler.name.encode(errors="backslashreplace").decode()
    facts = {
        "Software": TOOL,
        "Description": NOTICE,
        "Synthetic": "yes",
        "Generator": f"{name} sha256:{result.upscaler.sha256}",
        "Steps": str(result.state.step),
        "Tolerance": f"{result.tolerance:g}",
        "Degradation": str(result.face.degrade).encode(errors="backslashreplace").decode(),
    }
    finisher = result.upscaler.finisher(result.config)
    if finisher is not None:
        facts |= finished_by(finisher)
    if candidate is not None:
        mse = candidate["mse"]
        facts["Seed"] = str(candidate["seed"])
        facts["MSE"] = "not finite" if mse is None else f"{mse:.3g}"
        facts["Status"] = candidate["status"]
    return facts


def encode(
    image: Image.Image,
    format: Format,
    facts: dict[str, str],
    source: str = SOURCE_TYPE,
    *,
    exif: Image.Exif | None = None,
    icc: bytes | None = None,
) -> bytes:
    """A synthetic picture as a file: facts in PNG text (EXIF elsewhere), source type in XMP.

    Args:
        facts: "Description" is a sentence or two, the others are short.
        exif: of the picture that it was made from, to be kept; what it says goes before the facts.
        icc: the colour profile that the numbers are meant by.
    """
    line = "; ".join(f"{name}: {text}" for name, text in facts.items() if name != "Description")
    description = f"{facts['Description']} {line}"
    buffer = io.BytesIO()
    if format == "png":
        info = marks.png_marks(source, TOOL, facts)
        image.save(buffer, "PNG", pnginfo=info, icc_profile=icc, exif=exif or b"")
        return buffer.getvalue()
    xmp = marks.xmp(source, TOOL, description).encode()
    exif = Image.Exif() if exif is None else exif
    exif.setdefault(0x010E, description)  # ImageDescription
    exif.setdefault(0x0131, TOOL)  # Software
    kept = {"quality": 95, "exif": exif, "icc_profile": icc, "xmp": xmp}
    if format == "jpg":
        image.save(buffer, "JPEG", subsampling=0, **kept)
    else:
        image.save(buffer, "WEBP", **kept)
    return buffer.getvalue()


def _comparison(result: Result, images: list[Image.Image]) -> Image.Image:
    """Input, then each candidate, best first, above its own downscaled version, with captions."""
    size = min(max(256, result.state.images.shape[-1]), 512)
    gap, caption = 8, 22
    columns = 1 + len(images)
    width = columns * (size + gap) + gap
    sheet = Image.new("RGB", (width, 2 * (size + caption + gap) + gap + caption), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(14)

    def place(column: int, row: int, image: Image.Image, text: str, blocks: bool) -> None:
        x, y = gap + column * (size + gap), gap + row * (size + caption + gap)
        how = Image.Resampling.NEAREST if blocks else Image.Resampling.BICUBIC
        sheet.paste(image.resize((size, size), how), (x, y))
        draw.text((x, y + size + 2), text, "black", font)

    low = to_image(result.face.low.nan_to_num(0))
    place(0, 0, low, f"input, {low.width}x{low.height}", True)
    place(0, 1, low, "what each should downscale to", True)
    state = result.state
    for column, index in enumerate(result.ranked, 1):
        share = result.plausibility[index]
        looks = "" if share is None else f", plausible {share:.0%}"
        looks = ", looks broken" if plausibility.is_broken(share) else looks
        text = f"seed {result.config.seeds[index]}, imaginary{looks}"
        place(column, 0, images[index], text, False)
        status, error = state.status[index].value.replace("_", " "), float(state.best[index])
        place(column, 1, to_image(state.low[index]), f"{status}, mse {error:#.4g}", True)
    draw.text((gap, sheet.height - caption - 2), NOTICE.split(". ")[0] + ".", "black", font)
    return sheet
