"""Films whose faces the search draws anew, each frame's beginning where the one before ended."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import isnan
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFont
from safetensors import safe_open
from safetensors.numpy import load_file as load_arrays
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import load_file, save_file
from torch import Tensor

from align import Face, paste_back
from pulse.faces.follow import Follower, Track, size_of, sizes_of
from pulse.faces.framing import MIN_LR_SIZE
from pulse.faces.prepare import LR_SIZE, LRFace, cut_out
from pulse.imaging.colours import eight_bits
from pulse.imaging.pictures import InputError, setting, to_image, to_tensor
from pulse.known import operator
from pulse.search import Start, State, Status
from pulse.search.descent import usual_batch
from pulse.upscale import MAX_SEED, UpscaleConfig, Upscaler
from pulse.video.config import Cut, FaceConfig
from pulse.video.film import Reading, frames_in
from pulse.video.footage import Footage
from pulse.video.methods import Frames, Method, kept
from pulse.video.steady import steadied
from stylegan.files import whole

LABEL = "imaginary face"
"""What a corner of each frame says."""
_CARRIED = "carried"  # Suffix of what a part leaves to the next.


class Following(NamedTuple):
    """How far a film is looked through.

    Attributes:
        done: frames that were looked at.
        total: frames that there are, if that is known.
        tracks: its faces, at the end; before that none.
    """

    done: int
    total: int | None
    tracks: tuple[Track, ...] = ()


def followed(footage: Footage, cut: Cut) -> Iterator[Following]:
    """Find the faces of a film; the last of what is given has them.

    Raises:
        InputError: there are none.
    """
    follower, total, done = Follower(), frames_in(footage, cut), 0
    for done, frame in enumerate(Reading(footage, cut), 1):
        follower.see(Image.fromarray(eight_bits(frame.pixels)))
        yield Following(done, total)
    tracks = tuple(track for track in follower.tracks() if size_of(track) >= MIN_LR_SIZE)
    if not tracks:
        raise InputError(
            f"No face was found in {footage.path}; a search needs upright faces of 16 pixels or "
            f"more: enlarge it without one by leaving out {setting('network')} pulse."
        )
    yield Following(done, done, tracks)


def write_tracks(path: Path, tracks: Sequence[Track]) -> None:
    """Keep tracks in a file."""
    arrays = {
        f"{index}.{part}": np.ascontiguousarray(getattr(track, part))
        for index, track in enumerate(tracks)
        for part in ("numbers", "points", "scores", "until")
    }
    with whole(path) as file:
        save_arrays(arrays, file)


def read_tracks(path: Path) -> tuple[Track, ...]:
    """Those that `write_tracks` kept."""
    arrays = load_arrays(path)
    count = len(arrays) // 4
    return tuple(
        Track(
            arrays[f"{i}.numbers"],
            arrays[f"{i}.points"],
            arrays[f"{i}.scores"],
            arrays[f"{i}.until"],
        )
        for i in range(count)
    )


class Carried(NamedTuple):
    """What a frame leaves of a face to the next: where a search begins, and what was drawn."""

    start: Start
    image: Float[Tensor, "3 r r"]


class Faces:
    """The faces of a film, and what draws others in their places.

    Where a face first shows, several candidates are searched for, and the one that comes nearest
    goes on. In every other frame the search begins at the latents and noise of the frame before
    and is held to them, so that only that changes which the small face asks for. Where it does not
    find a match like that, it goes on without being held, and where it still finds none, it begins
    anew: another person who matches takes the place of one who does not. The fine detail of a
    match, which no search asks for, is that of the frame before (see `steadied`).
    """

    def __init__(
        self,
        upscaler: Upscaler,
        tracks: Sequence[Track],
        config: FaceConfig,
        folder: Path | None = None,
    ) -> None:
        """
        Args:
            folder: where parts of the film leave to the next what it begins with, and what they
                tell of each frame; None leaves nothing, and each part begins anew.
        """
        self.upscaler, self.tracks, self.config, self.folder = upscaler, tracks, config, folder
        self._sizes = [min(LR_SIZE, size_of(track)) for track in tracks]
        self._largest = [float(sizes_of(track).max()) for track in tracks]
        search = config.search
        self._batch = min(config.candidates, usual_batch(upscaler.generator))
        self._first = UpscaleConfig(config.candidates, config.seed, search=search)
        self._free = replace(self._first, candidates=1)
        self._held = replace(self._free, search=replace(search, hold=config.hold))

    def method(self, background: Method) -> Method:
        """Frames with such faces; all else is made by another method."""

        def apply(frames: Frames, begin: int) -> Frames:
            seen: deque[Float[Tensor, "3 h w"]] = deque()
            carried, entries = self._carried(begin), list[dict[str, Any]]()
            number, label = begin - min(background.lead, begin), None
            for large in background.apply(kept(frames, seen), begin):
                small = seen.popleft()
                if number >= begin:
                    large = self.drawn(number, small, large, carried, entries)
                    if self.config.label:
                        label = label if label is not None else _label(large.shape[-2])
                        large = _labelled(large, label)
                yield large
                number += 1
            self._leave(number, carried, entries)

        return Method(apply, background.size, background.lead)

    def drawn(
        self,
        number: int,
        small: Float[Tensor, "3 h w"],
        large: Float[Tensor, "3 p q"],
        carried: dict[int, Carried],
        entries: list[dict[str, Any]],
    ) -> Float[Tensor, "3 p q"]:
        """The frame with all faces that show in it drawn.

        Args:
            number: of the frame, the film's first being 0.
            small, large: it, and what the background makes of it.
            carried: by face what the frame before has left, which is renewed.
            entries: what is told of each face, to which is added.
        """
        image: Image.Image | None = None
        for index, track in enumerate(self.tracks):
            face = track.at(number)
            if face is None:
                continue
            image = image or to_image(small)
            began = time.monotonic()
            largest, scale = self._largest[index], large.shape[-1] / small.shape[-1]
            low = cut_out(image, face, self._sizes[index], index=index, largest=largest)
            last = carried.get(index)
            state, anew = self._searched(number, low, None if last is None else last.start)
            new = state.images[0].cpu()
            if last is not None and not anew and state.status[0] is Status.FOUND:
                sides = new.shape[-1], low.low.shape[-1]
                degrade = operator(low.degrade, *sides)
                new = steadied(new, last.image, degrade, low.degrade.inverse(*sides))
            carried[index] = Carried(Start.after(state, (self.config.seed,)), new)
            under = to_image(large)
            pasted = paste_back(
                under, _enlarged(face, scale), to_image(new), largest=scale * largest
            )
            # As a difference, so that what has more than 8 bits keeps them elsewhere.
            large = large + (to_tensor(pasted) - to_tensor(under))
            about = {"frame": number + 1, "face": index, "anew": anew}  # The film's first is 1.
            entries.append({**about, **_told(state, time.monotonic() - began)})
        return large

    def _searched(self, number: int, low: LRFace, start: Start | None) -> tuple[State, bool]:
        """The nearest candidate, and whether it began anew."""
        if start is None:
            return self._anew(low, self.config.seed), True
        state = self._from(low, self._held, start)
        if state.status[0] is not Status.FOUND:
            freed = self._from(low, self._free, Start.after(state, (self.config.seed,)))
            state = freed if freed.best[0] < state.best[0] else state
        if state.status[0] is not Status.FOUND:
            # Frames that are hard one after another each get seeds of their own.
            seed = (self.config.seed + number * self.config.candidates) % (MAX_SEED + 1)
            other = self._anew(low, seed)
            # Where neither matches, it is better that the person stays.
            if other.status[0] is Status.FOUND:
                return other, True
        return state, False

    def _from(self, low: LRFace, config: UpscaleConfig, start: Start) -> State:
        (state,) = deque(self.upscaler.search(low, config, 1, start), maxlen=1)
        return state

    def _anew(self, low: LRFace, seed: int) -> State:
        """The nearest of candidates of which the first has that seed."""
        config = replace(self._first, seed=seed)
        (state,) = deque(self.upscaler.search(low, config, self._batch), maxlen=1)
        return _only(state, int(state.best.argmin()))

    def _carried(self, begin: int) -> dict[int, Carried]:
        """What the frame before has left, by face."""
        path = None if self.folder is None else _left(self.folder, begin)
        if not begin or path is None or not path.is_file():
            return {}
        tensors = load_file(path)
        carried = {}
        for index in {int(name.split(".")[0]) for name in tensors}:
            count = sum(name.startswith(f"{index}.noise") for name in tensors)
            noise = tuple(tensors[f"{index}.noise{i}"] for i in range(count))
            start = Start((self.config.seed,), tensors[f"{index}.ws"], noise)
            carried[index] = Carried(start, tensors[f"{index}.image"])
        return carried

    def _leave(
        self, end: int, carried: dict[int, Carried], entries: Sequence[dict[str, Any]]
    ) -> None:
        """Write for the next part what this one carries, and what it tells of its frames."""
        if self.folder is None:
            return
        tensors = {}
        for index, (start, image) in carried.items():
            if start.ws is None or self.tracks[index].until[-1] < end:
                continue
            tensors[f"{index}.ws"] = start.ws.cpu().contiguous()
            tensors[f"{index}.image"] = image.contiguous()
            for i, noise in enumerate(start.noise or ()):
                tensors[f"{index}.noise{i}"] = noise.cpu().contiguous()
        with whole(_left(self.folder, end)) as file:
            save_file(tensors, file, {"frames": json.dumps(entries)})


def matches(folder: Path) -> list[dict[str, Any]]:
    """What the parts of a film have told of each face in each frame, in order."""
    found = []
    for path in sorted(folder.glob(f"*.{_CARRIED}")):
        with safe_open(path, "pt") as file:
            found += json.loads((file.metadata() or {}).get("frames", "[]"))
    return found


def summary(entries: Sequence[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """The same summed up by face.

    Args:
        count: frames of the film.
    """
    faces = []
    for index in sorted({entry["face"] for entry in entries}):
        own = [entry for entry in entries if entry["face"] == index]
        drawn = [entry["frame"] for entry in own]
        lost = sorted({*range(drawn[0], drawn[-1])} - {*drawn})
        faces.append(
            {
                "face": index,
                "frames": len(own),
                "found": sum(entry["status"] == Status.FOUND for entry in own),
                "first": drawn[0],
                "last": drawn[-1],
                "lost": lost,
                "share": round(len(own) / max(1, count), 4),
            }
        )
    return faces


def _left(folder: Path, end: int) -> Path:
    return folder / f"{end:09}.{_CARRIED}"


def _told(state: State, seconds: float) -> dict[str, Any]:
    """What is told of a face in a frame."""
    last = None if state.exact is None else float(state.exact[0])
    return {
        "status": state.status[0].value,
        "mse": float(state.best[0]),
        "mse_exact": None if last is None or isnan(last) else last,
        "steps": state.step,
        "seconds": round(seconds, 3),
    }


def _only(state: State, index: int) -> State:
    """One candidate of a state."""
    one = slice(index, index + 1)
    return replace(
        state,
        error=state.error[one],
        images=state.images[one],
        low=state.low[one],
        ws=state.ws[one],
        noise=tuple(x[one] for x in state.noise),
        best=state.best[one],
        drawn=state.drawn[one],
        best_step=state.best_step[one],
        overflowed=state.overflowed[one],
        status=state.status[one],
        exact=None if state.exact is None else state.exact[one],
    )


def _enlarged(face: Face, scale: float) -> Face:
    """Where a face is in a larger picture; coordinates count from the middle of the first pixel."""
    left, top, right, bottom = ((value + 0.5) * scale - 0.5 for value in face.box)
    landmarks = (face.landmarks + 0.5) * scale - 0.5
    return Face(landmarks, (left, top, right, bottom), face.score)


def _label(height: int) -> Float[Tensor, "3 h w"]:
    """The label of frames of a height: white on black."""
    font = ImageFont.load_default(max(8, height / 24))
    left, top, right, bottom = font.getbbox(LABEL)
    margin = max(2, round(font.size / 4)) if isinstance(font, ImageFont.FreeTypeFont) else 2
    size = round(right - left) + 2 * margin, round(bottom - top) + 2 * margin
    image = Image.new("RGB", size)
    ImageDraw.Draw(image).text((margin - left, margin - top), LABEL, "white", font)
    return to_tensor(image)


def _labelled(frame: Float[Tensor, "3 h w"], label: Float[Tensor, "3 p q"]) -> Tensor:
    """The frame with the label in its lower left corner, as much of it as there is room for."""
    height, width = min(frame.shape[-2], label.shape[-2]), min(frame.shape[-1], label.shape[-1])
    frame = torch.clone(frame)
    frame[:, -height:, :width] = label[:, -height:, :width]
    return frame
