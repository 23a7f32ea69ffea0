"""Faces along a film: found every few frames, told apart, their landmarks smoothed along time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int
from PIL import Image
from scipy.optimize import linear_sum_assignment

from align import Face, Frame, find_upright

EVERY = 4
"""Frames from one look for faces to the next."""
SMOOTH = 6.0
"""Standard deviation in frames of the weights by which landmarks are smoothed: the detector's
errors, which have nothing to do with each other, fall to about a half."""
REACH = 30
"""Frames beyond which a find is not counted; its weight would be next to nothing."""
GAP = 16
"""Frames without a find that are bridged; in a longer stretch a face counts as lost."""
REMEMBERED = 250
"""Frames after which a face that was lost is not known again."""
NEAR = 1.0
"""How far a face may be from where it was last found, in widths of its box; twice as large is as
far as log(2)."""
LEAST = 3
"""Finds that make a face of what the detector took for one."""
CUT, CUT_SIDE = 0.15, 24
"""Mean difference of two successive frames, shrunk to that side, from which on the scene is another
one; on [0, 1]."""


@dataclass(frozen=True, eq=False)
class Track:
    """One face along a film.

    Attributes:
        numbers: [k], frames in which it was found, rising; the film's first is 0.
        points: [k, 70, 2], what was found: the landmarks, then the box's corners, as `align.Face`
            has them.
        scores: [k], the detector's.
        until: [k], the last frame before the next look after each find, up to which the face is
            taken to be there whatever that look finds.
    """

    numbers: Int[np.ndarray, " k"]
    points: Float[np.ndarray, "k 70 2"]
    scores: Float[np.ndarray, " k"]
    until: Int[np.ndarray, " k"]

    def at(self, number: int) -> Face | None:
        """The face in that frame; None before it is found, and from the look on that misses it.

        Its landmarks are where a straight line says that fits those around best in time, nearer
        ones weighing more (local linear regression, Cleveland 1979, with Gaussian weights): unlike
        a weighted mean that does not lag behind where a face begins, ends or moves steadily.
        """
        before = int(np.searchsorted(self.numbers, number, "right")) - 1
        if before < 0:
            return None
        bridged = before + 1 < len(self.numbers) and (
            self.numbers[before + 1] - self.numbers[before] <= GAP
        )
        if number > self.until[before] and not bridged:
            return None
        begin, end = self._stretch(before)
        times = (self.numbers[begin:end] - number).astype(float)
        weights = np.exp(-0.5 * np.square(times / SMOOTH))
        total = weights.sum()
        mean = (weights * times).sum() / total
        spread = (weights * np.square(times - mean)).sum()
        # The value at time 0 of the fitted line, as a weighted sum of what was found.
        shares = weights / total
        if spread > 1e-9:
            shares = shares - mean * weights * (times - mean) / spread
        points = np.tensordot(shares, self.points[begin:end], 1)
        (left, top), (right, bottom) = points[68:].tolist()
        nearest = begin + int(np.abs(times).argmin())
        return Face(points[:68], (left, top, right, bottom), float(self.scores[nearest]))

    def _stretch(self, index: int) -> tuple[int, int]:
        """The finds about one between which it was not lost."""
        breaks = np.flatnonzero(np.diff(self.numbers) > GAP) + 1
        which = int(np.searchsorted(breaks, index, "right"))
        edges = [0, *breaks.tolist(), len(self.numbers)]
        here = self.numbers[index]
        far = np.searchsorted(self.numbers, [here - REACH, here + REACH + 1])
        return max(edges[which], int(far[0])), min(edges[which + 1], int(far[1]))


@dataclass
class _Seen:
    """A face that is being followed."""

    numbers: list[int] = field(default_factory=list)
    faces: list[Face] = field(default_factory=list)

    def add(self, number: int, face: Face) -> None:
        self.numbers.append(number)
        self.faces.append(face)

    def track(self, until: Mapping[int, int]) -> Track:
        points = [np.concatenate([f.landmarks, np.reshape(f.box, (2, 2))]) for f in self.faces]
        scores = np.array([f.score for f in self.faces])
        ends = np.array([until[number] for number in self.numbers])
        return Track(np.array(self.numbers), np.stack(points), scores, ends)


def sizes_of(track: Track) -> Float[np.ndarray, " k"]:
    """Pixels along the side of the FFHQ frame around it, where it was found."""
    faces = (track.at(int(number)) for number in track.numbers)
    return np.array([Frame.of(face).size for face in faces if face is not None])


def size_of(track: Track) -> int:
    """The same as it mostly is."""
    return round(float(np.median(sizes_of(track))))


class Follower:
    """Is shown a film's frames one after another, and then knows its faces.

    It keeps the last frame and what was found. A face ends where the scene changes; one that is
    lost and found again near by within `REMEMBERED` frames is the same.
    """

    def __init__(self, find: Callable[[Image.Image], Sequence[Face]] = find_upright) -> None:
        """
        Args:
            find: what finds the faces of a frame.
        """
        self.find = find
        self._seen: list[_Seen] = []
        self._begin = 0  # Index of the first face of this scene.
        self._number = -1
        self._looks: list[int] = []  # Frames whose faces were looked for.
        self._last: Image.Image | None = None
        self._thumb: Float[np.ndarray, "s s"] | None = None

    def see(self, frame: Image.Image) -> None:
        """The next frame."""
        side = (CUT_SIDE, CUT_SIDE)
        thumb = np.asarray(frame.resize(side, Image.Resampling.BOX).convert("L"), np.float32) / 255
        cut = self._thumb is not None and float(np.abs(thumb - self._thumb).mean()) > CUT
        if cut:
            self._look()  # The last frame of the scene.
            self._begin = len(self._seen)
        self._number, self._last, self._thumb = self._number + 1, frame, thumb
        if cut or self._number % EVERY == 0:
            self._look()

    def tracks(self) -> tuple[Track, ...]:
        """The faces, in the order in which they came; to be asked after the last frame."""
        self._look()
        least = min(LEAST, self._number // EVERY + 1)
        ends = [*(number - 1 for number in self._looks[1:]), self._number]
        until = dict(zip(self._looks, ends, strict=True))
        return tuple(seen.track(until) for seen in self._seen if len(seen.numbers) >= least)

    def _look(self) -> None:
        """Find the faces of the last frame, and which of those that are known each is."""
        if self._last is None or self._looks[-1:] == [self._number]:
            return
        self._looks.append(self._number)
        faces = self.find(self._last)
        known = [
            seen
            for seen in self._seen[self._begin :]
            if self._number - seen.numbers[-1] <= REMEMBERED
        ]
        costs = np.array([[_apart(seen.faces[-1], face) for face in faces] for seen in known])
        costs = costs.reshape(len(known), len(faces))
        rows, columns = linear_sum_assignment(costs)
        same = {
            int(column): known[row]
            for row, column in zip(rows, columns, strict=True)
            if costs[row, column] < NEAR
        }
        for column, face in enumerate(faces):
            if column not in same:
                self._seen.append(same.setdefault(column, _Seen()))
            same[column].add(self._number, face)


def _apart(one: Face, other: Face) -> float:
    """How far two faces are from being the same, as `NEAR` counts; far ones all count alike."""
    middles = [np.array([f.box[0] + f.box[2], f.box[1] + f.box[3]]) / 2 for f in (one, other)]
    widths = max(one.width, 1e-3), max(other.width, 1e-3)
    distance = float(np.linalg.norm(middles[0] - middles[1])) / float(np.mean(widths))
    return min(distance + abs(float(np.log(widths[0] / widths[1]))), 2 * NEAR)
