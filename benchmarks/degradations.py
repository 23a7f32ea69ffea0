"""What each degradation does to a picture, and what it helps to name it.

    python benchmarks/degradations.py [--faces 6] [--picture docs/degradations.png]

Faces that the embedded generator drew are degraded and searched for at 16x16, two candidates each,
once as if they had only been downscaled and once with the degradation named. `truth` is the mean
squared error between the candidates and the face that was drawn, both downscaled without any
degradation, in thousandths; in grey it is that of the luma. `found` is the share of candidates
within the tolerance.
"""

import argparse
import io
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from pulse.faces.prepare import LRFace
from pulse.imaging.degrade import Bicubic, DegradeConfig, Grey
from pulse.imaging.pictures import to_image, to_tensor
from pulse.search import Status
from pulse.search.losses import squared_error
from pulse.upscale import UpscaleConfig, Upscaler

SIZE = 16
SPECS = ("bicubic", "box", "blur:1.5", "grey", "jpeg:20", "mask:FILE", "noise:0.1")


def parsed(spec: str, mask: Path) -> DegradeConfig:
    return DegradeConfig.parse(spec.replace("FILE", str(mask)))


def write_mask(path: Path) -> None:
    """White, with a black bar over the eyes."""
    mask = Image.new("L", (16, 16), "white")
    mask.paste("black", (3, 6, 13, 9))
    mask.save(path)


def degraded(image: Tensor, config: DegradeConfig, low: int, seed: int = 0) -> Tensor:
    """What a person would have: noise added, JPEG by Pillow, in 8 bits, the masked part covered."""
    clean = replace(config, jpeg=None, mask=None, noise=0.0)
    small = clean.operator(image.shape[-1], low)(image)
    rng = torch.Generator().manual_seed(seed)
    picture = to_image(small + config.noise * torch.randn(small.shape, generator=rng))
    if config.jpeg is not None:
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=config.jpeg)
        picture = Image.open(buffer)
    small = to_tensor(picture)
    if config.mask is not None:
        small = config.target(small).nan_to_num(0)
    return small


def table(faces: int, mask: Path) -> None:
    upscaler = Upscaler.load()
    generator = upscaler.generator
    down, config = Bicubic(generator.resolution, SIZE), UpscaleConfig(candidates=2)
    print(f"{'':12}{'not named':>16}{'named':>16}")
    print(f"{'':12}{'found   truth':>16}{'found   truth':>16}")
    for spec in SPECS[1:]:
        named = parsed(spec, mask)
        line = f"{spec:12}"
        for asked in (DegradeConfig(), named):
            found, errors = 0, []
            for seed in range(1, faces + 1):
                rng = torch.Generator().manual_seed(seed)
                w = generator.mapping(torch.randn(1, generator.z_dim, generator=rng))
                ws = w[:, None].expand(-1, generator.num_layers, -1)
                truth = ((generator.synthesis(ws)[0] + 1) / 2).clamp(0, 1)
                low = asked.target(degraded(truth, named, SIZE, seed))
                *_, state = upscaler.search(LRFace(0, low, (), asked), config)
                found += state.status.count(Status.FOUND)
                ours, clean = down(state.images), down(truth)
                if named.grey:
                    ours, clean = Grey()(ours), Grey()(clean)
                errors += squared_error(ours, clean).tolist()
            share = found / len(errors)
            line += f"{share:>8.0%}{torch.tensor(errors).median() * 1e3:8.2f}"
        print(line, flush=True)


def picture(path: Path, mask: Path) -> None:
    """One face at 32x32 under each degradation."""
    side, gap, caption = 160, 8, 22
    photo = Image.open(Path(__file__).parents[1] / "examples" / "astronaut.jpg").convert("RGB")
    face = to_tensor(photo.crop((112, 8, 336, 232)))
    sheet = Image.new("RGB", (len(SPECS) * (side + gap) + gap, side + 2 * gap + caption), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for column, spec in enumerate(SPECS):
        low = to_image(degraded(face, parsed(spec, mask), 32))
        x = gap + column * (side + gap)
        sheet.paste(low.resize((side, side), Image.Resampling.NEAREST), (x, gap))
        draw.text((x, gap + side + 3), spec, "black", font)
    sheet.quantize(255, dither=Image.Dither.NONE).save(path, optimize=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--faces", type=int, default=6)
    parser.add_argument("--picture", type=Path, help="only draw the README's picture")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        mask = Path(folder) / "mask.png"
        write_mask(mask)
        if arguments.picture:
            picture(arguments.picture, mask)
        else:
            table(arguments.faces, mask)
