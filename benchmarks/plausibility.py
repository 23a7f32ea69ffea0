"""Train the small network that tells faces from faces that have fallen apart, and measure it.

    python benchmarks/plausibility.py --data ../shared/faces --generator faces -o judge.safetensors

Whole faces are those of the folder, the last 300 kept apart, and, with a softer label, what the
generators draw near their mean, also with layers of several faces: otherwise a generator's finest
marks would tell the two kinds apart. Broken ones are drawn with latents far from the generators'
own, as a search leaves them, or are faces of the folder that were warped, cut, smeared or stained.
Mended ones are faces of the folder that were changed, or drawn by the generator as near as it can,
and then mended: they count as the less whole, the less they came out like what they were, beside
the others. Where a search for a small face stopped and was mended it is another face, and counts as
nearly whole: how unlike the first it is says nothing.
Both are changed alike in sharpness, colour, noise and place. Prints how well the two are told apart
on pictures that were not trained on.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import mending
import torch
import torch.nn.functional as F
import typer
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

import stylegan
from pulse.faces.plausibility import BROKEN, SIDE, FaceNetwork, Judge, at_side, load, save
from pulse.imaging.pictures import to_tensor
from pulse.superres.losses import Features, perceptual_loss
from stylegan.dataset import Pictures, load_pictures
from stylegan.memory import keep_freed_memory
from stylegan.precision import multiplies_bfloat16
from stylegan.rarest import rarest
from stylegan.sheet import save_sheet

HELD_OUT = 300
RATE = 2e-3
BATCH = 64
# Of a batch: whole faces, whole samples, broken samples, mended faces; the rest are broken faces.
REAL, DRAWN, APART, MENDED = 20, 6, 14, 12
LABELS = (1.0, 0.9, 0.02, 0.0)
GOOD, WORSE = 0.5, 0.95
"""Share of the mended faces that counts as whole; beyond the second, as broken."""
OTHER = 0.8
"""Label of where searches stopped, mended."""
INNER = (slice(20, 116), slice(16, 112))
"""Where the face is, by which that is decided."""
CALIBRATED = 3
"""Changes of each real face, so that the lowest hundredth is not that of one or two."""
CHUNK = 8
"""Pictures that lose the same sharpness."""
LATENTS = 2000
"""Samples that a generator's spread on W is measured with."""


@torch.no_grad()
def drawn(
    generator: stylegan.Generator, count: int, broken: bool, rng: torch.Generator
) -> UInt8[Tensor, "n 3 128 128"]:
    """Faces near the generator's mean, or with latents that it was never trained on."""
    layers, mean = generator.num_layers, generator.w_mean
    w = generator.mapping(torch.randn(LATENTS, generator.z_dim, generator=rng))
    std = w.std(0)
    made: list[Tensor] = []
    while sum(map(len, made)) < count:
        ws = _pick(w, 16, layers, rng)
        noise = None
        if broken:
            ws = mean + _uniform(1.2, 2.3, rng) * (ws - mean)
            ws = ws + _uniform(0, 2.2, rng) * std * torch.randn(ws.shape, generator=rng)
            scale = _uniform(0.5, 3, rng)[..., None]
            noise = [
                scale * torch.randn(16, 1, *shape, generator=rng)
                for shape in generator.noise_shapes
            ]
        else:
            ws = mean + _uniform(0.3, 0.65, rng) * (ws - mean)
        images = at_side(generator.synthesis(ws, noise))
        made.append(_bytes(images))
    return torch.cat(made)[:count]


def _pick(w: Tensor, count: int, layers: int, rng: torch.Generator) -> Float[Tensor, "b l w_dim"]:
    """One w for all layers, or in two thirds of the pictures another for many of them."""
    index = torch.randint(len(w), (count, 1), generator=rng).expand(-1, layers)
    other = torch.randint(len(w), (count, layers), generator=rng)
    share = torch.rand(count, 1, generator=rng) * 1.5 - 0.5
    use = torch.rand(count, layers, generator=rng) < share.clamp(0)
    return w[torch.where(use, other, index)]


def _uniform(low: float, high: float, rng: torch.Generator) -> Float[Tensor, "16 1 1"]:
    return torch.rand(16, 1, 1, generator=rng) * (high - low) + low


# What follows breaks one face; `other` is another one. Both are [3, s, s] in [-1, 1].


def _number(low: float, high: float) -> float:
    return float(torch.rand(())) * (high - low) + low


def _places() -> tuple[Tensor, Tensor]:
    line = torch.linspace(-1, 1, SIDE)
    return line[:, None].expand(-1, SIDE), line.expand(SIDE, -1)


def _blob(least: float = 0.12, most: float = 0.4) -> Float[Tensor, "s s"]:
    """A soft patch somewhere on the face."""
    y, x = _places()
    place = ((x - _number(-0.45, 0.45)) / _number(least, most)) ** 2
    place = place + ((y - _number(-0.4, 0.6)) / _number(least, most)) ** 2
    return ((1.2 - place) * _number(2, 8)).clamp(0, 1)


def _moved(face: Tensor, dx: Tensor | float, dy: Tensor | float) -> Tensor:
    y, x = _places()
    grid = torch.stack([x + dx, y + dy], 2)[None]
    return F.grid_sample(face[None], grid, padding_mode="reflection", align_corners=True)[0]


def warp(face: Tensor, other: Tensor) -> Tensor:
    cells = int(_number(3, 9))
    field = torch.randn(1, 2, cells, cells) * _number(0.5, 1) * 0.55 / cells
    field = F.interpolate(field, (SIDE, SIDE), mode="bicubic", align_corners=True)[0]
    return _moved(face, field[0], field[1])


def halves(face: Tensor, other: Tensor) -> Tensor:
    y, x = _places()
    angle = _number(0, math.pi)
    side = x * math.cos(angle) + y * math.sin(angle) - _number(-0.25, 0.25)
    mask = (side * _number(6, 40) + 0.5).clamp(0, 1)
    moved = _moved(other, _number(-0.25, 0.25), _number(-0.25, 0.25))
    return torch.lerp(face, moved, mask)


def paste(face: Tensor, other: Tensor) -> Tensor:
    for _ in range(1 + int(_number(0, 3))):
        source = face if _number(0, 1) < 0.5 else other
        angle, far = _number(0, 2 * math.pi), _number(0.25, 0.8)
        moved = _moved(source, far * math.cos(angle), far * math.sin(angle))
        face = torch.lerp(face, moved, _blob())
    return face


def smear(face: Tensor, other: Tensor) -> Tensor:
    angle, far = _number(0, 2 * math.pi), _number(0.15, 0.5)
    along = [
        _moved(face, far * step * math.cos(angle), far * step * math.sin(angle))
        for step in torch.linspace(0, 1, 7).tolist()
    ]
    return torch.lerp(face, torch.stack(along).mean(0), _blob(0.2, 0.6))


def wipe(face: Tensor, other: Tensor) -> Tensor:
    small = F.adaptive_avg_pool2d(face, int(_number(5, 12)))
    soft = F.interpolate(small[None], (SIDE, SIDE), mode="bicubic", align_corners=False)[0]
    return torch.lerp(face, soft, _blob(0.2, 0.7))


def shuffle(face: Tensor, other: Tensor) -> Tensor:
    parts = 2 if _number(0, 1) < 0.6 else 4
    side = SIDE // parts
    tiles = face.unfold(1, side, side).unfold(2, side, side).flatten(1, 2)
    order = torch.randperm(parts**2)
    if torch.equal(order, torch.arange(parts**2)):
        order = order.flip(0)
    tiles = tiles[:, order].unflatten(1, (parts, parts))
    return tiles.permute(0, 1, 3, 2, 4).reshape(3, SIDE, SIDE)


def lines(face: Tensor, other: Tensor) -> Tensor:
    y, x = _places()
    for _ in range(1 + int(_number(0, 4))):
        angle = _number(0, math.pi)
        far = x * math.cos(angle) + y * math.sin(angle) - _number(-0.5, 0.5)
        far = far + _number(0, 0.15) * torch.sin(_number(2, 9) * (x - y) + _number(0, 6))
        mask = (1 - far.abs() / _number(0.015, 0.05)).clamp(0, 1) * _blob(0.4, 0.9)
        face = face + mask * _number(0.25, 0.7) * (1 if _number(0, 1) < 0.5 else -1)
    return face


def stain(face: Tensor, other: Tensor) -> Tensor:
    for _ in range(1 + int(_number(0, 3))):
        cloud = F.interpolate(torch.randn(1, 1, 9, 9), (SIDE, SIDE), mode="bicubic")[0, 0]
        mask = _blob(0.2, 0.6) * cloud.clamp(0, 1)
        face = torch.lerp(face, (torch.rand(3) * 2 - 1)[:, None, None].expand_as(face), mask)
    return face


def pattern(face: Tensor, other: Tensor) -> Tensor:
    y, x = _places()
    rate = 2 * math.pi / _number(0.06, 0.25)
    waves = torch.sin(rate * x + _number(0, 6)) * torch.sin(rate * y + _number(0, 6))
    return face + _blob(0.3, 0.9) * waves * _number(0.2, 0.5)


def negative(face: Tensor, other: Tensor) -> Tensor:
    """Burnt out or inverted in places."""
    mask = _blob(0.25, 0.7)
    bent = -face if _number(0, 1) < 0.5 else (face * _number(2.5, 5)).clamp(-1, 1)
    return torch.lerp(face, bent, mask)


DAMAGES: tuple[Callable[[Tensor, Tensor], Tensor], ...] = (
    *(warp, halves, paste, smear, wipe, shuffle, lines, stain, pattern, negative),
)


def damaged(faces: Float[Tensor, "n 3 s s"]) -> Float[Tensor, "n 3 s s"]:
    """Each of them broken in one way or two."""
    made = []
    for index, face in enumerate(faces):
        other = faces[(index + 1) % len(faces)]
        for which in torch.randperm(len(DAMAGES))[: 1 + int(_number(0, 1.6))].tolist():
            face = DAMAGES[which](face, other)
        made.append(face)
    return torch.stack(made)


def changed(images: Float[Tensor, "n 3 s s"]) -> Float[Tensor, "n 3 s s"]:
    """In place, colour, sharpness and noise, whatever they show."""
    count = len(images)

    def spread(size: float) -> Tensor:
        return torch.randn(count) * size

    turn, zoom = spread(0.05), spread(0.05).exp()
    flip = torch.where(torch.rand(count) < 0.5, -1.0, 1.0)
    cos, sin = turn.cos() * zoom, turn.sin() * zoom
    shift = torch.rand(2, count) * 0.12 - 0.06
    rows = [
        torch.stack([cos * flip, -sin, shift[0]], 1),
        torch.stack([sin * flip, cos, shift[1]], 1),
    ]
    grid = F.affine_grid(torch.stack(rows, 1), list(images.shape), align_corners=False)
    images = F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
    parts = []
    for part in images.split(CHUNK):
        if _number(0, 1) < 0.6:
            side = int(_number(48, 128))
            part = F.interpolate(part, (side, side), mode="area")
            part = part + torch.randn(part.shape) * _number(0, 0.06)
            part = F.interpolate(part, (SIDE, SIDE), mode="bilinear")
        elif _number(0, 1) < 0.5:
            blocks = torch.randn(len(part), 3, SIDE // 8, SIDE // 8) * _number(0, 0.04)
            part = part + torch.randn(part.shape) * _number(0, 0.1)
            part = part + F.interpolate(blocks, (SIDE, SIDE), mode="nearest")
        parts.append(part)
    images = torch.cat(parts)
    grey = images.mean(1, keepdim=True)
    saturation = (1 + spread(0.25)).clamp(0)[:, None, None, None]
    images = grey + (images - grey) * torch.where(
        torch.rand(count, 1, 1, 1) < 0.08, 0.0, saturation
    )
    contrast = spread(0.2).exp()[:, None, None, None]
    cast = torch.randn(count, 3, 1, 1) * 0.06
    return (images * contrast + spread(0.15)[:, None, None, None] + cast).clamp(-1, 1)


def mended(
    faces: Pictures, count: int, searches: int, generator: str
) -> tuple[UInt8[Tensor, "n 3 128 128"], Float[Tensor, " n"]]:
    """Faces that were changed, drawn, or searched for, all mended; and their labels."""
    work = mending.Training(
        mending.load(), faces, rarest(faces, stylegan.load(generator), mending.RARE)
    )
    truth = torch.cat([work.drawn(BATCH) for _ in range(math.ceil(count / BATCH))])
    before = torch.cat([mending.changed(part) for part in truth.split(BATCH)])
    near = mending.inverted(work.drawn(searches, 0.7), generator)
    found = mending.searched(work.drawn(searches, 0.5), generator)
    parts = [
        _mended(work, before, work.down(truth)),
        _mended(work, near.images / 255, work.down(near.faces / 255)),
        _mended(work, found.images / 255, found.low),
    ]
    labels = [
        _wholeness(work.features, parts[0], truth),
        _wholeness(work.features, parts[1], near.faces / 255),
        torch.full((len(parts[2]),), OTHER),
    ]
    return _bytes(torch.cat(parts) * 2 - 1), torch.cat(labels)


def _mended(work: mending.Training, images: Tensor, low: Tensor) -> Float[Tensor, "n 3 128 128"]:
    pairs = zip(images.split(BATCH), low.split(BATCH), strict=True)
    return torch.cat([work.shown(x, y)[0].clamp(0, 1) for x, y in pairs])


@torch.no_grad()
def _wholeness(features: Features, images: Tensor, truth: Tensor) -> Float[Tensor, " n"]:
    """Labels by how like the truth each came out, beside the others."""
    pairs = zip(images, truth, strict=True)
    rank = torch.tensor([_far(features, *pair) for pair in pairs]).argsort().argsort()
    return ((WORSE - rank / len(rank)) / (WORSE - GOOD)).clamp(0, 1) * LABELS[1]


def _far(features: Features, x: Tensor, y: Tensor) -> float:
    """How much two faces differ by their features, but for what is around them."""
    return float(perceptual_loss(features, x[None, :, *INNER], y[None, :, *INNER]))


@dataclass(frozen=True)
class Stock:
    """Pictures to draw from, as bytes.

    Attributes:
        real, broken: faces, whole and damaged.
        drawn, apart: samples of generators, whole and broken.
        weights: how often each of the faces is to be drawn.
        mended: faces that the mending network changed, and their labels.
    """

    real: UInt8[Tensor, "n 3 128 128"]
    weights: Float[Tensor, " n"]
    broken: UInt8[Tensor, "k 3 128 128"]
    drawn: UInt8[Tensor, "m 3 128 128"]
    apart: UInt8[Tensor, "l 3 128 128"]
    mended: tuple[UInt8[Tensor, "j 3 128 128"], Float[Tensor, " j"]]

    def batch(self) -> tuple[Float[Tensor, "b 3 128 128"], Float[Tensor, " b"]]:
        """Pictures of all kinds in any order, and their labels."""
        images, labels = self.mended
        index = torch.randint(len(labels), (MENDED,))
        counts = (REAL, DRAWN, APART, BATCH - REAL - DRAWN - APART - MENDED)
        parts = [self.real[torch.multinomial(self.weights, REAL)]]
        for pool, count in zip((self.drawn, self.apart, self.broken), counts[1:], strict=True):
            parts.append(pool[torch.randint(len(pool), (count,))])
        order = torch.randperm(BATCH)
        plain = torch.tensor(LABELS).repeat_interleave(torch.tensor(counts))
        parts, labels = [*parts, images[index]], torch.cat([plain, labels[index]])
        return changed(_floats(torch.cat(parts)[order])), labels[order]


def _floats(pixels: UInt8[Tensor, "n 3 s s"]) -> Float[Tensor, "n 3 s s"]:
    return pixels.float() / 127.5 - 1


def _bytes(images: Float[Tensor, "n 3 s s"]) -> UInt8[Tensor, "n 3 s s"]:
    return (images.clamp(-1, 1) * 127.5 + 127.5).round().to(torch.uint8)


def train(stock: Stock, minutes: float, start: FaceNetwork | None = None) -> FaceNetwork:
    """For that long, the learning rate falling to nothing.

    Args:
        start: where to go on, at half the rate.
    """
    top = RATE if start is None else RATE / 2
    network = (
        (start or FaceNetwork()).train().requires_grad_(True).to(memory_format=torch.channels_last)
    )  # type: ignore[call-overload]
    optimiser = torch.optim.AdamW(network.parameters(), top, (0.9, 0.99), weight_decay=0.02)
    fast = multiplies_bfloat16(torch.device("cpu"))
    began, step, done, mean = time.monotonic(), 0, 0.0, 0.0
    while done < 1:
        done = (time.monotonic() - began) / (60 * minutes)
        rate = top * min(1, (step + 1) / 100) * (1 + math.cos(math.pi * min(done, 1))) / 2
        for group in optimiser.param_groups:
            group["lr"] = rate
        images, labels = stock.batch()
        images = images.contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16, enabled=fast):
            scores = network(images)
        loss = F.binary_cross_entropy_with_logits(scores.float(), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        mean += 0.02 * (loss.item() - mean)
        step += 1
        if step % 100 == 0:
            print(f"{step * BATCH} pictures, {done:.0%}: loss {mean:.3f}", flush=True)
    return network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]


def calibrated(network: FaceNetwork, real: Float[Tensor, "n 3 128 128"]) -> Judge:
    """With what faces that it has not seen get from it, as they are and changed like in training.

    The changes stand for the ways that photographs are taken: they widen what counts as real.
    """
    judge = Judge(network, torch.linspace(0, 1, 101))
    scores = [judge.score(changed(real)) for _ in range(CALIBRATED)]
    scores = torch.cat([judge.score(real).repeat(CALIBRATED), *scores])
    return Judge(network, torch.quantile(scores, torch.linspace(0, 1, 101)))


def auc(good: Float[Tensor, " n"], bad: Float[Tensor, " m"]) -> float:
    """Chance that a whole face scores more than a broken one."""
    more = (good[:, None] > bad).float() + 0.5 * (good[:, None] == bad).float()
    return more.mean().item()


def _line(name: str, judge: Judge, images: Tensor, real: Tensor) -> None:
    score, share = judge.score(images), judge.plausibility(images)
    print(
        f"{name:24}{len(images):5}{auc(real, score):8.4f}{(share < BROKEN).float().mean():8.1%}"
        f"{(share < 0.05).float().mean():8.1%}{share.median():8.2f}",
        flush=True,
    )


def main(
    data: Annotated[Path, typer.Option(help="Folder of faces.")],
    generator: Annotated[list[str], typer.Option(help="Name or file; several times for more.")],
    output: Annotated[
        Path | None, typer.Option("-o", help="Train anew and write to this file.")
    ] = None,
    aligned: Annotated[Path | None, typer.Option(help="Folder of other true faces.")] = None,
    minutes: Annotated[float, typer.Option(help="How long to train.")] = 10,
    samples: Annotated[int, typer.Option(help="Broken ones drawn to train on.")] = 800,
    searches: Annotated[int, typer.Option(help="Faces to search for, about a second each.")] = 600,
    start: Annotated[Path | None, typer.Option(help="A judge to go on with.")] = None,
    sheet: Annotated[Path | None, typer.Option(help="Where to draw samples, worst first.")] = None,
    seed: int = 1,
) -> None:
    """Train where -o is given, then print the table."""
    keep_freed_memory()
    torch.manual_seed(seed)
    learn, held_out = load_pictures(data, SIDE, HELD_OUT)
    real = _floats(held_out.pixels)
    generators = [stylegan.load(name) for name in generator]
    if output is not None:
        rng = torch.Generator().manual_seed(seed)
        begun = None if start is None else load(start.resolve()).network
        share = math.ceil(samples / len(generators))
        good = torch.cat([drawn(one, math.ceil(share / 3), False, rng) for one in generators])
        apart = torch.cat([drawn(one, share, True, rng) for one in generators])
        chosen = learn.draw(4 * samples, rng).pixels
        broken = torch.cat([_bytes(damaged(_floats(part))) for part in chosen.split(BATCH)])
        both = mended(learn, 4 * samples, searches, generator[0])
        stock = Stock(learn.pixels, learn.weights, broken, good, apart, both)
        print(
            f"{len(learn)} faces, {len(broken)} damaged; {len(good)} samples, {len(apart)} broken; "
            f"{len(both[1])} mended",
            flush=True,
        )
        save(calibrated(train(stock, minutes, begun), real[held_out.natural]), output)
    judge = load() if output is None else load(output.resolve())

    good = judge.score(real)
    print(f"{'':24}{'n':>5}{'AUC':>8}{'<0.01':>8}{'<0.05':>8}{'median':>8}")
    _line("held-out faces", judge, real, good)
    _line("  natural ones", judge, real[held_out.natural], good)
    if aligned is not None:
        _line("other true faces", judge, _read(aligned), good)
    _line("damaged held-out faces", judge, damaged(real).clamp(-1, 1), good)
    for damage in DAMAGES:
        broken = torch.stack([damage(x, y) for x, y in zip(real, real.roll(1, 0), strict=True)])
        _line(f"  {damage.__name__}", judge, broken.clamp(-1, 1), good)
    rng = torch.Generator().manual_seed(seed + 1)
    for name, one in zip(generator, generators, strict=True):
        print(name)
        plain = _plain(one, 200, rng)
        _line("  samples", judge, plain, good)
        _line("  samples near the mean", judge, _floats(drawn(one, 200, False, rng)), good)
        _line("  broken samples", judge, _floats(drawn(one, 200, True, rng)), good)
        if sheet is not None and one is generators[0]:
            save_sheet(plain[judge.score(plain).argsort()], sheet, 20)


@torch.no_grad()
def _plain(generator: stylegan.Generator, count: int, rng: torch.Generator) -> Tensor:
    w = generator.mapping(torch.randn(count, generator.z_dim, generator=rng))
    ws = w[:, None].expand(-1, generator.num_layers, -1)
    return torch.cat([at_side(generator.synthesis(x)).clamp(-1, 1) for x in ws.split(20)])


def _read(folder: Path) -> Float[Tensor, "n 3 128 128"]:
    pictures = []
    for path in sorted(folder.glob("*.jpg")):
        with Image.open(path) as image:
            pictures.append(at_side(to_tensor(image)[None] * 2 - 1))
    return torch.cat(pictures)


if __name__ == "__main__":
    typer.run(main)
