"""Train the network that makes a match of a face that nearly is one, and measure it.

    python benchmarks/mending.py --data ../shared/faces -o mending.safetensors

Faces of the folder, the last 300 kept apart, are bent, mixed with other faces and given other
colours and light; what their small versions are enlarged to, by the other network, tells what they
were. That alone makes soft pictures. So then, with `--draw`, three critics join: one of texture,
one that looks through a network trained on photographs, and one through a network trained to tell
people apart. Most of what is mended then comes from searches: for small faces of the folder, where
they stopped, of which nobody knows what they should become, and for larger ones, where the
generator has come as near as it can in a few steps, which should become the faces. Most of those
are the folder's rarest: what the generator hardly ever draws, hats, babies and hands before mouths,
is what the network has to.
Prints how near held-out faces come to what they were, beside back projection and the other network
alone, and writes a sheet of searches for such faces: where they stopped, back projected, enlarged
alone, and mended.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import torch
import torch.nn.functional as F
import typer
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

import stylegan
from pulse.faces.prepare import LRFace
from pulse.guide import Guide
from pulse.imaging.degrade import Bicubic, DegradeConfig
from pulse.search import SearchConfig
from pulse.superres import weights
from pulse.superres.losses import load_features, perceptual_loss
from pulse.superres.mending import (
    ENLARGER,
    REACH,
    SIDE,
    SMALL,
    MendingNetwork,
    face,
    in_place,
    load,
    oval,
    save,
)
from pulse.upscale import UpscaleConfig, Upscaler
from stylegan.dataset import Pictures, load_pictures, uncaptioned
from stylegan.memory import keep_freed_memory
from stylegan.precision import multiplies_bfloat16
from stylegan.projected import ProjectedJudges
from stylegan.rarest import rarest
from stylegan.sheet import save_sheet

HELD_OUT = 300
SHOWN = 24
BATCH = 16
CHANGED, INVERTED = 3, 6
"""Of a batch, where there are critics: faces that were changed, and the generator's nearest to
faces; the rest are searches for small ones."""
RATE = 1e-3
CRITIC_RATE, R1_EVERY = 5e-4, 16
ADVERSARIAL, PROJECTED = 0.04, (3e-3, 8e-3)
"""Weights of what the critics say: of patches, and of features of either network in turn."""
LOOKED_AT, SHIFT = 10, 10
"""Pictures of a batch that the critics of features see, and by how many pixels they are shifted."""
USUAL = 256
"""Faces that tell what features are usual."""
RARE = 1100
"""Faces that are called rare, those least like the generator's."""
COMMON = 0.3
"""Share of all faces, rare or not, among the photographs that critics see."""
HELD = 0.2
"""Weight of staying, in the face, where the network was before, and of the truth around it."""
ALONE = 3
"""Every which face is searched for without a guide."""
NEAREST, STEPS = 64, 10
"""Side in pixels of the faces that the generator's nearest are searched for, and how long."""
FARTHEST = 2 * REACH
"""Error beyond which what a search leaves is not mended."""
HEADS = [
    Path(stylegan.__file__).parent / "weights" / f"{stylegan.EMBEDDED}-{name}"
    for name in ProjectedJudges.FILES
]
"""What the critics of features begin with."""
TEXTURE = 1.5
"""Weight of the strength of detail."""
EVERY = 4
"""Steps between those that compare features, which take as long as all the rest."""
LINE = torch.linspace(-1, 1, SIDE)
Y, X = LINE[:, None].expand(-1, SIDE), LINE.expand(SIDE, -1)
Faces = Float[Tensor, "b 3 128 128"]


def uniform(count: int, low: float, high: float) -> Float[Tensor, "b 1 1 1"]:
    return (torch.rand(count) * (high - low) + low)[:, None, None, None]


def chance(count: int, share: float) -> Float[Tensor, "b 1 1 1"]:
    return (torch.rand(count) < share).float()[:, None, None, None]


def field(count: int, channels: int, cells: int) -> Float[Tensor, "b c 128 128"]:
    cells_ = torch.randn(count, channels, cells, cells)
    return F.interpolate(cells_, (SIDE, SIDE), mode="bicubic", align_corners=True)


def blob(count: int, least: float, most: float) -> Float[Tensor, "b 1 128 128"]:
    """A soft patch somewhere."""
    across = (X - uniform(count, -0.9, 0.9)) / uniform(count, least, most)
    down = (Y - uniform(count, -0.9, 0.9)) / uniform(count, least, most)
    return ((1.2 - across**2 - down**2) * uniform(count, 1, 6)).clamp(0, 1)


def head(soft: float) -> Float[Tensor, "128 128"]:
    """Where the head is in FFHQ's frame."""
    return oval(0.72, 0.95, 0.05, soft)


def in_other_light(x: Faces) -> Faces:
    """Brighter on one side, with other contrast and colours: as cameras see."""
    count, angle = len(x), uniform(len(x), 0, 2 * math.pi)
    ramp = X * angle.cos() + Y * angle.sin()
    x = x * (1 + chance(count, 0.5) * uniform(count, 0.05, 0.4) * ramp)
    use, grey = chance(count, 0.5), x.mean(1, keepdim=True)
    x = grey + (x - grey) * (1 + use * (uniform(count, 0.6, 1.5) - 1))
    x = (x - 0.5) * (1 + use * (uniform(count, 0.75, 1.3) - 1)) + 0.5
    x = x + use * uniform(count, -0.1, 0.1)
    cast = uniform(3 * count, 0.92, 1.08).view(count, 3, 1, 1)
    return (x * (1 + use * (cast - 1))).clamp(0, 1)


def changed(x: Faces) -> Faces:
    """The faces as a search might leave them, with errors of up to two reaches."""
    count, other = len(x), x.roll(1, 0)
    swapped = torch.lerp(other, x, head(float(uniform(1, 2, 6))))
    y = torch.lerp(x, swapped, chance(count, 0.3))
    y = torch.lerp(y, other, blob(count, 0.15, 0.6) * chance(count, 0.5) * uniform(count, 0.3, 1))
    for least, most, far in ((3, 6, 0.13), (7, 13, 0.04)):
        bent = field(count, 2, int(uniform(1, least, most)))
        bent = bent * uniform(count, 0, far) * chance(count, 0.7)
        grid = torch.stack([X + bent[:, 0], Y + bent[:, 1]], -1)
        y = F.grid_sample(y, grid, padding_mode="reflection", align_corners=True)
    for _ in range(3):
        y = y + _recoloured(y) * chance(count, 0.35)
    y = y * (field(count, 1, int(uniform(1, 2, 6))) * 0.15 * chance(count, 0.6)).exp()
    y = y + field(count, 3, int(uniform(1, 2, 5))) * 0.05 * chance(count, 0.6)
    stain = torch.randn(count, 3, 1, 1) * 0.12 * chance(count, 0.5)
    y = (y + blob(count, 0.05, 0.3) * stain).clamp(0, 1)
    small = Bicubic(SIDE, SMALL)
    error = (small(y) - small(x)).square().mean((1, 2, 3), keepdim=True)
    wanted = uniform(count, math.log(1.5e-3), math.log(1.2e-2)).exp()
    return torch.lerp(x, y, (wanted / (error + 1e-9)).sqrt().clamp(max=1))


def _recoloured(x: Faces) -> Faces:
    """What gives regions of about one colour another."""
    count = len(x)
    soft = F.avg_pool2d(F.pad(x, (2,) * 4, mode="reflect"), 5, 1)
    row, column = torch.randint(SIDE, (2, count))
    colour = soft[torch.arange(count), :, row, column][:, :, None, None]
    far = (soft - colour).square().sum(1, keepdim=True)
    mask = (-far / (2 * uniform(count, 0.05, 0.25) ** 2)).exp()
    mask = torch.where(chance(count, 0.4) > 0, blob(count, 0.3, 1.2) * mask, mask)
    shift = torch.randn(count, 3, 1, 1) * 0.12 + torch.randn(count, 1, 1, 1) * 0.1
    return mask * (shift + (x - colour) * uniform(count, -0.3, 0.3))


@dataclass(frozen=True)
class Searched:
    """Where searches for small faces stopped.

    Attributes:
        images, faces: [n, 3, 128, 128] bytes each; the second are what the small faces were.
        low: [n, 3, 16, 16], what they were to match.
    """

    images: UInt8[Tensor, "n 3 128 128"]
    faces: UInt8[Tensor, "n 3 128 128"]
    low: Float[Tensor, "n 3 16 16"]

    def draw(self, count: int) -> tuple[Faces, Faces, Tensor]:
        index, flip = torch.randint(len(self.low), (count,)), chance(count, 0.5)
        parts = _floats(self.images[index]), _floats(self.faces[index]), self.low[index]
        images, faces, low = (torch.lerp(x, x.flip(3), flip) for x in parts)
        return images, faces, low


@dataclass(frozen=True)
class Inverted:
    """Faces, and the generator's nearest to each: what it cannot draw is missing there.

    Attributes:
        images, faces: [n, 3, 128, 128] bytes each.
    """

    images: UInt8[Tensor, "n 3 128 128"]
    faces: UInt8[Tensor, "n 3 128 128"]

    def draw(self, count: int) -> tuple[Faces, Faces]:
        """Both in the same other light."""
        index, flip = torch.randint(len(self.faces), (count,)), chance(count, 0.5)
        both = [_floats(self.images[index]), _floats(self.faces[index])]
        images, faces = (torch.lerp(x, x.flip(3), flip) for x in both)
        light = torch.get_rng_state()
        images = in_other_light(images)
        torch.set_rng_state(light)
        return images, in_other_light(faces)


def searched(faces: Faces, generator: str) -> Searched:
    """Where a search for each's small version stops, but for those that come nowhere near.

    Two of three stop where the first search does; the others are searched for by themselves, as
    what is not guided is.
    """
    upscaler, low = Upscaler.load(generator), Bicubic(SIDE, SMALL)(faces)
    small = [LRFace(number, one) for number, one in enumerate(low)]
    search = SearchConfig()
    guide = Guide.of(upscaler.known, small[0], search)
    assert guide is not None
    plain = replace(search, mend=False, goal=REACH / search.tolerance)
    alone = [face for face in small if face.index % ALONE == 0]
    others = [guide.larger(face) for face in small if face.index % ALONE != 0]
    images = torch.empty_like(faces)
    for some, how in ((alone, plain), (others, guide.search)):
        images[[face.index for face in some]] = _found(upscaler, some, how)
    kept = _near(images, low)
    return Searched(_bytes(images[kept]), _bytes(faces[kept]), low[kept])


def inverted(faces: Faces, generator: str) -> Inverted:
    """The generator's nearest to each, but for those that come nowhere near."""
    search = SearchConfig(steps=STEPS, mend=False)
    large = Bicubic(SIDE, NEAREST)(faces).clamp(0, 1)
    some = [LRFace(number, one) for number, one in enumerate(large)]
    images = _found(Upscaler.load(generator), some, search)
    kept = _near(images, Bicubic(SIDE, SMALL)(faces))
    return Inverted(_bytes(images[kept]), _bytes(faces[kept]))


def _found(upscaler: Upscaler, faces: Sequence[LRFace], search: SearchConfig) -> Faces:
    """What a search of one candidate for each comes to, before any last step."""
    how, images = replace(search, exact=False), torch.empty(len(faces), 3, SIDE, SIDE)
    jobs = [(face, UpscaleConfig(1, face.index, search=how), n) for n, face in enumerate(faces)]
    for done, (number, state, _) in enumerate(upscaler.search_many(jobs), 1):
        images[number] = state.images[0]
        if done % 100 == 0:
            print(f"{done} searches", flush=True)
    return images


def _near(images: Faces, low: Float[Tensor, "b 3 16 16"]) -> list[int]:
    error = (Bicubic(SIDE, SMALL)(images) - low).square().mean((1, 2, 3))
    return (error < FARTHEST).nonzero().squeeze(1).tolist()


def _bytes(images: Faces) -> UInt8[Tensor, "b 3 128 128"]:
    return (images * 255).round().to(torch.uint8)


def _floats(pixels: UInt8[Tensor, "n 3 s s"]) -> Faces:
    return pixels.float() / 255


class Critic(nn.Module):
    """Tells patches of photographs from patches that were mended (Isola et al. 2017).

    Patches, since it is to judge detail: what a whole picture shows is for the other critic.
    """

    def __init__(self) -> None:
        super().__init__()
        self.fine = _layers(12, 64, 64, 96, 96, 128, 128)
        self.coarse = _layers(128, 160, 160)
        self.of_fine, self.of_coarse = nn.Conv2d(128, 1, 3, 1, 1), nn.Conv2d(160, 1, 3, 1, 1)

    def forward(self, images: Faces) -> Float[Tensor, "b 320"]:
        """Logits of 16x16 small patches and of 8x8 larger ones."""
        x = F.pixel_unshuffle(images * 2 - 1, 2).contiguous(memory_format=torch.channels_last)
        x = self.fine(x)
        small, large = self.of_fine(x), self.of_coarse(self.coarse(x))
        return torch.cat([small.flatten(1), large.flatten(1)], 1).float()


def _layers(*widths: int) -> nn.Sequential:
    """3x3 convolutions; a wider one that others follow halves, but for the first of pixels."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        stride = 2 if inputs < outputs and inputs > 12 else 1
        layers += [nn.Conv2d(inputs, outputs, 3, stride, 1), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers)


class Training:
    """The network, and what is needed to mend with it."""

    def __init__(
        self, network: MendingNetwork, faces: Pictures, rare: Int[Tensor, " r"] | None = None
    ) -> None:
        """
        Args:
            rare: numbers of faces that are to be drawn more often where it is asked for.
        """
        self.network = network.train().requires_grad_(True)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.faces, self.rare = faces, None
        if rare is not None:
            self.rare = torch.zeros(len(faces)).index_fill(0, rare, 1 / len(rare))
        self.enlarger = weights.load(ENLARGER)
        self.down = Bicubic(SIDE, SMALL)
        inverse = DegradeConfig().inverse(SIDE, SMALL)
        assert inverse is not None
        self.up = inverse
        self.features = load_features(None, "vanilla")
        self.fast = multiplies_bfloat16(torch.device("cpu"))

    def mend(self, x: Faces, low: Tensor) -> tuple[Faces, Faces]:
        """Mended pictures, and what the enlarging network alone would make of them."""
        enlarged = self._enlarged(x, low)
        return self._with(self.network, x, low, enlarged), x + enlarged[0] - enlarged[1]

    @torch.no_grad()
    def shown(self, x: Faces, low: Tensor) -> tuple[Faces, Faces]:
        """The same with the mean of a face and its mirror image, as the program mends."""
        mended, simple = self.mend(x, low)
        mirrored, _ = self.mend(x.flip(3), low.flip(3))
        return torch.lerp(mended, mirrored.flip(3), 0.5), simple

    @torch.no_grad()
    def _enlarged(self, x: Faces, low: Tensor) -> tuple[Faces, Faces]:
        with self._cast():
            both = torch.cat([low, self.down(x)]).clamp(0, 1)
            wanted, shown = self.enlarger(both).float().chunk(2)
        return wanted, shown

    def _with(
        self, network: MendingNetwork, x: Faces, low: Tensor, enlarged: tuple[Faces, Faces]
    ) -> Faces:
        wanted, shown = enlarged
        with self._cast():
            kept, shown = in_place(x, wanted, shown)
            y = network(kept, wanted, shown)
        return y + self.up(low - self.down(y))

    def _cast(self) -> torch.autocast:
        return torch.autocast("cpu", torch.bfloat16, enabled=self.fast)

    def drawn(self, count: int, rare: float = 0) -> Faces:
        """Faces of the folder in other light, about that share of them rare."""
        weights = self.faces.weights / self.faces.weights.sum()
        if self.rare is not None:
            weights = torch.lerp(weights, self.rare, rare)
        x = _floats(self.faces.pixels[torch.multinomial(weights, count)])
        return in_other_light(torch.lerp(x, x.flip(3), chance(count, 0.5)))

    def undo(self, minutes: float, rate: float) -> None:
        """Learn what faces were before they were changed."""
        adam = torch.optim.Adam(self.network.parameters(), rate, (0.9, 0.99))
        for step in _while(minutes, adam):
            x = self.drawn(BATCH)
            y, _ = self.mend(changed(x), self.down(x))
            _update(adam, self._loss(y, x, step))

    def draw(self, minutes: float, rate: float, found: Searched, nearest: Inverted) -> None:
        """Learn to please three critics that learn, too, without going far from what was there."""
        before, inner = deepcopy(self.network).requires_grad_(False), face()
        critic = Critic().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        precision = torch.bfloat16 if self.fast else torch.float32
        judges = ProjectedJudges(PROJECTED, torch.device("cpu"), precision, 0)
        judges.settle(_floats(self.faces.draw(USUAL, torch.Generator()).pixels) * 2 - 1)
        judges.load(HEADS, seen=0)
        adam = torch.optim.Adam(self.network.parameters(), rate, (0.5, 0.99))
        judging = torch.optim.Adam(critic.parameters(), CRITIC_RATE, (0.5, 0.99))
        known = CHANGED + INVERTED
        for step in _while(minutes, adam):
            # As rare as what is mended, or critics would call a hat false.
            x, real = self.drawn(CHANGED), self.drawn(BATCH, 1 - COMMON)
            near, faces = nearest.draw(INVERTED)
            others, likely, low_others = found.draw(BATCH - known)
            images = torch.cat([changed(x), near, others])
            low = torch.cat([self.down(x), self.down(faces), low_others])
            enlarged = self._enlarged(images, low)
            y = self._with(self.network, images, low, enlarged)
            with torch.no_grad():
                old = self._with(
                    before, others, low_others, (enlarged[0][known:], enlarged[1][known:])
                )
                wanted = torch.lerp(likely, old, inner)
            truth = torch.cat([x, faces])
            # What the generator lacks is not known to the pixel, so an error would blur it.
            coarse = (_coarse(y[CHANGED:known]) - _coarse(faces)).abs().mean()
            held = (_coarse(y[known:]) - _coarse(wanted)).abs().mean()
            loss = 0.7 * (CHANGED * _error(y[:CHANGED], x) + INVERTED * coarse) / known
            loss = loss + 0.7 * self._likeness(y[:known], truth, step) + HELD * held
            loss = loss + 0.7 * TEXTURE * (_detail(y[:CHANGED]) - _detail(x)).abs().mean()
            critic.requires_grad_(False)
            with self._cast():
                pleased = F.softplus(-critic(y)).mean()
            loss = loss + ADVERSARIAL * min(1.0, step / 300) * pleased
            shown, photos = _shifted(y[-LOOKED_AT:].clamp(0, 1)), _shifted(real[:LOOKED_AT])
            by_shown, _ = judges.step(photos * 2 - 1, shown.detach() * 2 - 1)
            # A loss whose gradient by what was shown is that of the heads.
            _update(adam, loss + 2 * (by_shown * shown).sum())
            critic.requires_grad_(True)
            with self._cast():
                fake, true = critic(torch.cat([y.detach().clamp(0, 1), real])).chunk(2)
            _update(judging, (F.softplus(fake) + F.softplus(-true)).mean())
            if step % R1_EVERY == 0:
                real = real.clone().requires_grad_()
                verdict = critic(real).mean(1).sum()
                (slope,) = torch.autograd.grad(verdict, real, create_graph=True)
                _update(judging, slope.square().sum((1, 2, 3)).mean() * R1_EVERY / 2)

    def _loss(self, y: Faces, x: Faces, step: int) -> Float[Tensor, ""]:
        texture = (_detail(y) - _detail(x)).abs().mean()
        return _error(y, x) + TEXTURE * texture + self._likeness(y, x, step)

    def _likeness(self, y: Faces, x: Faces, step: int) -> Float[Tensor, ""]:
        """Of features, at some steps."""
        if step % EVERY:
            return torch.zeros(())
        return 0.1 * EVERY * perceptual_loss(self.features, y, x)


def _error(y: Faces, x: Faces) -> Float[Tensor, ""]:
    return (y - x).abs().mean()


def _coarse(x: Faces) -> Float[Tensor, "b 3 32 32"]:
    return F.avg_pool2d(x, 4)


def _shifted(x: Faces) -> Faces:
    """Each moved a little, so that a critic cannot learn places by heart."""
    moved: list[Tensor] = []
    for one in F.pad(x, (SHIFT,) * 4, mode="reflect"):
        row, column = torch.randint(2 * SHIFT + 1, (2,)).tolist()
        moved.append(one[:, row : row + SIDE, column : column + SIDE])
    return torch.stack(moved)


def _update(adam: torch.optim.Adam, loss: Tensor) -> None:
    adam.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_([p for g in adam.param_groups for p in g["params"]], 1.0)
    adam.step()


def _detail(x: Faces) -> Float[Tensor, "b 3 16 16"]:
    """Strength of the finest detail in each place, which an error alone would smooth away."""
    fine = x - F.avg_pool2d(F.pad(x, (1,) * 4, mode="reflect"), 3, 1)
    return F.avg_pool2d(fine.abs(), 8)


def _while(minutes: float, adam: torch.optim.Adam) -> Iterator[int]:
    """Steps for that long, while the learning rate rises and then falls to a twentieth."""
    top, began, step = adam.param_groups[0]["lr"], time.monotonic(), 0
    while (done := (time.monotonic() - began) / (60 * minutes)) < 1:
        falling = 0.05 + 0.95 * (1 + math.cos(math.pi * done)) / 2
        adam.param_groups[0]["lr"] = top * min(1, (step + 1) / 100) * falling
        yield step
        step += 1
        if step % 200 == 0:
            print(f"{step} steps, {done:.0%}", flush=True)


def main(
    data: Annotated[Path, typer.Option(help="Folder of faces.")],
    output: Annotated[
        Path | None, typer.Option("-o", help="Train anew and write to this file.")
    ] = None,
    minutes: Annotated[float, typer.Option(help="How long to train.")] = 18,
    draw: Annotated[float, typer.Option(help="Minutes after that with critics.")] = 0,
    searches: Annotated[int, typer.Option(help="Of each kind for the critics.")] = 1000,
    start: Annotated[Path | None, typer.Option(help="A network to go on with.")] = None,
    sheet: Annotated[Path | None, typer.Option(help="Where to draw searches.")] = None,
    generator: Annotated[str, typer.Option(help="For these.")] = stylegan.EMBEDDED,
    seed: int = 0,
) -> None:
    """Train where -o is given, then print the figures."""
    keep_freed_memory()
    torch.manual_seed(seed)
    learn, held_out = load_pictures(data, SIDE, HELD_OUT)
    if output is not None:
        begun = MendingNetwork() if start is None else load(start.resolve())
        faces = uncaptioned(learn, data)
        rare = rarest(faces, stylegan.load(generator), RARE) if draw else None
        training = Training(begun, faces, rare)
        training.undo(minutes, RATE if start is None else RATE / 2)
        if draw:
            found = searched(training.drawn(searches, 0.5), generator)
            nearest = inverted(training.drawn(searches, 1), generator)
            training.draw(draw, RATE / 2, found, nearest)
        save(training.network, output)
    training = Training(load() if output is None else load(output.resolve()), learn)
    torch.manual_seed(seed + 1)
    truth = in_other_light(_floats(held_out.pixels[held_out.natural]))
    before, low = changed(truth), training.down(truth)
    back = before + training.up(low - training.down(before))
    mended, simple = training.shown(before, low)
    for name, x in (
        ("changed", before),
        ("back projected", back),
        ("enlarged alone", simple),
        ("mended", mended),
    ):
        error = float((x.clamp(0, 1) - truth).square().mean())
        features = float(perceptual_loss(training.features, x.clamp(0, 1), truth))
        print(f"{name:16}{-10 * math.log10(error):6.2f} dB, features {features:.3f}")
    if sheet is not None:
        found = searched(truth[:SHOWN], generator)
        x, low = _floats(found.images), found.low
        mended, simple = training.shown(x, low)
        rows = [x, x + training.up(low - training.down(x)), simple, mended]
        save_sheet(torch.stack(rows, 1).flatten(0, 1) * 2 - 1, sheet, 8)


if __name__ == "__main__":
    typer.run(main)
