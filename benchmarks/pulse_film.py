"""PULSE on a film: how much it flickers beside searching each frame afresh, and what it takes.

    python benchmarks/pulse_film.py [--film FILM] [--frames 12] [--side 16] [--strip strip.png]

Without a film one is made of a face of `examples/`, which moves, grows and turns slowly over a
background. The film is shrunk so that its largest face's FFHQ frame has `--side` pixels, the faces
are followed in the small film, and all is enlarged eight times, bicubically but for the face.

`found` is the share of the frames in which the face is drawn that match. `flicker` is the warping
error (Lai et al. 2018, equation 8) of consecutive frames along the original film's optical flow, of
255 levels, over those in both of which the face is drawn, inside the outline of jaw and brows, for
all methods alike. `anew` counts frames after the first whose search had to begin anew. `first s`
and `later s` are seconds for the first frame's face and on the average of the later ones. One
candidate is searched for in any case. `afresh, new seeds` is what a user gets who searches each
frame by itself with another seed each time, `afresh, one seed` if it is always the same.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice, pairwise
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image, ImageDraw
from torch import Tensor

from align import Face, Frame, find_upright
from pulse.faces.follow import Follower, Track
from pulse.imaging.clips import frames as read_frames
from pulse.imaging.metrics import luma
from pulse.imaging.motion import optical_flow, warp
from pulse.imaging.pictures import to_image, to_tensor
from pulse.upscale import Upscaler
from pulse.video.config import FaceConfig
from pulse.video.imaginary import Carried, Faces
from pulse.video.methods import Frames
from stylegan.memory import keep_freed_memory

SCALE = 8
EXAMPLE = Path(__file__).parents[1] / "examples" / "astronaut.jpg"


def moved(photo: Image.Image, count: int) -> list[Image.Image]:
    """A face that moves, grows and turns slowly over a background, which is the photo mirrored."""
    (face, *_) = find_upright(photo)
    frame = Frame.of(face)
    back = photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT).resize((360, 300))
    side, made = 200, []
    for n in range(count):
        scale = frame.size / (side * (0.9 + 0.004 * n))
        turn = np.radians(-6 + 0.5 * n)
        matrix = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        place = np.array([150 + 1.0 * n, 150 + 0.4 * n])
        shift = np.array(frame.centre) - matrix @ place
        data = (*matrix[0], shift[0], *matrix[1], shift[1])
        shape = (back.size, Image.Transform.AFFINE, data, Image.Resampling.BICUBIC)
        y, x = np.mgrid[: back.height, : back.width]
        far = np.hypot(x - place[0], y - place[1]) / side
        mask = Image.fromarray((255 * ((0.55 - far) / 0.06).clip(0, 1)).astype(np.uint8))
        made.append(Image.composite(photo.transform(*shape), back, mask))
    return made


def shrunk(film: Sequence[Image.Image], side: int) -> list[Image.Image]:
    """The film with a face whose FFHQ frame has so many pixels."""
    faces = next(filter(None, map(find_upright, film)), None)
    if not faces:
        raise SystemExit("No face was found in these frames.")
    scale = side / Frame.of(faces[0]).size
    size = round(film[0].width * scale), round(film[0].height * scale)
    print(f"{len(film)} frames of {film[0].size}, the face has {Frame.of(faces[0]).size:.0f} ")
    print(f"pixels; shrunk to {size}")
    return [frame.resize(size, Image.Resampling.BICUBIC) for frame in film]


def enlarged(frames: Frames, begin: int) -> Frames:
    for frame in frames:
        size = (SCALE * frame.shape[-2], SCALE * frame.shape[-1])
        yield F.interpolate(frame[None], size=size, mode="bicubic")[0].clamp(0, 1)


class Measured:
    """What of a film's frames is measured: the face's inside, along the original's flow."""

    def __init__(self, film: Sequence[Image.Image], size: tuple[int, int], track: Track) -> None:
        grey = torch.stack([to_tensor(frame.resize(size)) for frame in film])
        grey = luma(grey).float() / 255
        insides = [_inside(track.at(n), size) for n in range(len(film))]
        self.pairs: list[tuple[int, Float[Tensor, "1 2 h w"], Float[Tensor, "1 1 h w"]]] = []
        for n, (before, now) in enumerate(pairwise(insides)):
            if before is None or now is None:
                continue
            flow = optical_flow(grey[n : n + 1], grey[n + 1 : n + 2])
            self.pairs.append((n, flow, now * (warp(before, flow) > 0.5)))

    def flicker(self, made: Float[Tensor, "t 3 h w"]) -> float:
        """The mean over all pixels inside the face, colours and pairs of frames."""
        total = inside = 0.0
        for n, flow, mask in self.pairs:
            moved = warp(made[n : n + 1], flow)
            total += float(((moved - made[n + 1 : n + 2]).abs() * mask).sum())
            inside += 3 * float(mask.sum())
        return 255 * total / inside


def _inside(face: Face | None, size: tuple[int, int]) -> Float[Tensor, "1 1 h w"] | None:
    """1 within jaw and brows in the enlarged frame, all of which is drawn."""
    if face is None:
        return None
    points = SCALE * (face.landmarks + 0.5) - 0.5
    outline = np.concatenate([points[:17], points[26:16:-1]])
    mask = Image.new("L", size)
    ImageDraw.Draw(mask).polygon([tuple(point) for point in outline.tolist()], 255)
    return to_tensor(mask.convert("RGB"))[None, :1]


def main() -> None:
    parser = argparse.ArgumentParser(description="How much PULSE's films flicker.")
    parser.add_argument("--film", type=Path)
    parser.add_argument("--begin", type=int, default=0)
    parser.add_argument("--frames", type=int, default=12)
    parser.add_argument("--side", type=int, default=16)
    parser.add_argument("--hold", type=float, nargs="*", default=[FaceConfig.hold])
    parser.add_argument("--strip", type=Path)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    keep_freed_memory()
    count = arguments.frames
    if arguments.film is None:
        film = moved(Image.open(EXAMPLE).convert("RGB"), count)
    else:
        begin = arguments.begin
        some = islice(read_frames(arguments.film), begin, begin + count)
        film = [Image.fromarray(frame.pixels) for frame in some]
    small = shrunk(film, arguments.side)
    follower = Follower()
    for frame in small:
        follower.see(frame)
    track = max(follower.tracks(), key=lambda track: len(track.numbers), default=None)
    if track is None:
        raise SystemExit("No face was found in the small film.")
    shown = [track.at(n) is not None for n in range(count)]
    print(f"found in frames {track.numbers.tolist()}, drawn in {sum(shown)}\n")
    upscaler, lows = Upscaler.load(), [to_tensor(frame) for frame in small]
    size = small[0].width * SCALE, small[0].height * SCALE
    measured = Measured(film, size, track)
    rows = [("original", torch.stack([to_tensor(frame.resize(size)) for frame in film]))]
    rows.append(("bicubic", torch.stack(list(enlarged(iter(lows), 0)))))
    print(f"flicker over {len(measured.pairs)} pairs of frames")
    print("method              found  flicker  anew  first s  later s")
    for name, made in rows:
        print(f"{name:<18} {'':>6} {measured.flicker(made):>8.2f}")
    one = FaceConfig(candidates=1, label=False)
    ways = [("afresh, new seeds", one, True), ("afresh, one seed", one, False)]
    for name, config, new in ways:
        rows.append((name, report(name, afresh(upscaler, track, lows, config, new), measured)))
    for hold in arguments.hold:
        name, faces = f"carried, {hold:g}", Faces(upscaler, [track], replace(one, hold=hold))
        rows.append((name, report(name, carried(faces, lows), measured)))
    if arguments.strip is not None:
        picked = torch.linspace(0, count - 1, min(count, 8)).round().long()
        shown_rows = [torch.cat([*made[picked]], 2) for _, made in rows]
        to_image(torch.cat(shown_rows, 1)).save(arguments.strip)


Made: TypeAlias = tuple[Float[Tensor, "t 3 h w"], list[dict]]
"""A film, and what is told of its frames."""


def carried(faces: Faces, lows: Sequence[Tensor]) -> Made:
    """Each frame begins where the last one ended."""
    entries, last = list[dict](), dict[int, Carried]()
    larges = enlarged(iter(lows), 0)
    pairs = enumerate(zip(lows, larges, strict=True))
    return torch.stack([faces.drawn(n, *pair, last, entries) for n, pair in pairs]), entries


def afresh(
    upscaler: Upscaler, track: Track, lows: Sequence[Tensor], config: FaceConfig, new: bool
) -> Made:
    """Each frame begins anew, with a seed of its own or always the same one."""
    made, entries = [], list[dict]()
    for n, (low, large) in enumerate(zip(lows, enlarged(iter(lows), 0), strict=True)):
        seed = config.seed + n if new else config.seed
        faces = Faces(upscaler, [track], replace(config, seed=seed))
        made.append(faces.drawn(n, low, large, {}, entries))
    return torch.stack(made), entries


def report(name: str, made: Made, measured: Measured) -> Float[Tensor, "t 3 h w"]:
    """Print a row of the table, and give the film."""
    film, entries = made
    found = np.mean([entry["status"] == "found" for entry in entries])
    anew = sum(entry["anew"] for entry in entries[1:])
    seconds = [entry["seconds"] for entry in entries]
    print(
        f"{name:<18} {found:>6.1%} {measured.flicker(film):>8.2f} {anew:>5} {seconds[0]:>8.2f} "
        f"{np.mean(seconds[1:]):>8.2f}",
        flush=True,
    )
    return film


if __name__ == "__main__":
    main()
