"""Faces along a film, of a detector whose errors are known."""

from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from align import Face
from pulse.faces.follow import EVERY, GAP, Follower, Track, size_of

SHAPE = np.stack([np.linspace(-20, 20, 68), 12 * np.sin(np.linspace(0, 6, 68))], 1)
Where = Callable[[int], list[tuple[float, float]]]


def face(x: float, y: float, error: np.ndarray | None = None) -> Face:
    landmarks = SHAPE + (x, y) + (0 if error is None else error)
    return Face(landmarks, (x - 20, y - 20, x + 20, y + 20), 1.0)


def follow(where: Where, count: int, noise: float = 0.0, cut: int = -1) -> tuple[Track, ...]:
    """The tracks of a film whose frames are grey but for a number in their first pixels."""
    rng = np.random.default_rng(0)

    def find(image: Image.Image) -> list[Face]:
        number = int(np.asarray(image)[0, 0, 0])
        errors = noise * rng.standard_normal((9, 68, 2))
        return [face(*place, error) for place, error in zip(where(number), errors, strict=False)]

    follower = Follower(find)
    for number in range(count):
        pixels = np.full((64, 64, 3), 220 if 0 <= cut <= number else 40, np.uint8)
        pixels[0, 0] = number
        follower.see(Image.fromarray(pixels))
    return follower.tracks()


def places(track: Track, count: int) -> list[float | None]:
    """Where the middle of the landmarks is, from left to right."""
    found = (track.at(number) for number in range(count))
    return [None if one is None else float(one.landmarks[:, 0].mean()) for one in found]


def test_a_steady_movement_is_followed_without_delay() -> None:
    (track,) = follow(lambda n: [(100 + 1.5 * n, 80)], 42)
    assert track.numbers.tolist() == [*range(0, 41, EVERY), 41]  # The last frame, too.
    assert places(track, 42) == pytest.approx([100 + 1.5 * n for n in range(42)], abs=1e-6)
    assert track.at(42) is None
    assert size_of(track) > 0


def test_errors_of_the_detector_are_smoothed() -> None:
    (track,) = follow(lambda n: [(100, 80)], 120, noise=1.0)
    raw = (track.points[:, :68] - SHAPE - (100, 80)).std()
    inner = [found for n in range(20, 100) if (found := track.at(n)) is not None]
    smooth = np.stack([found.landmarks - SHAPE - (100, 80) for found in inner])
    assert smooth.std() < 0.6 * raw
    jumps = np.abs(np.diff(smooth, axis=0)).mean()
    assert jumps < 0.2 * raw


def test_two_faces_are_told_apart_in_any_order() -> None:
    def where(n: int) -> list[tuple[float, float]]:
        both = [(60.0 + n, 60.0), (160.0 - n, 120.0)]  # One passes above the other.
        return both if n % 8 else both[::-1]

    tracks = follow(where, 81)
    assert len(tracks) == 2
    above, below = sorted(tracks, key=lambda track: track.points[0, :68, 1].mean())
    assert places(above, 81) == pytest.approx([60 + n for n in range(81)], abs=1e-6)
    assert places(below, 81) == pytest.approx([160 - n for n in range(81)], abs=1e-6)


def test_a_face_that_is_missed_once_is_bridged_and_one_that_is_lost_is_not() -> None:
    (track,) = follow(lambda n: [] if n == 8 or 20 <= n < 60 else [(100, 80)], 100)
    shown = [place is not None for place in places(track, 100)]
    assert shown == [n < 20 or n >= 60 for n in range(100)]
    assert GAP < 60 - 16
    assert all(place is None or abs(place - 100) < 1e-6 for place in places(track, 100))


def test_a_face_stays_until_the_look_that_misses_it() -> None:
    """And goes on as it went, also where the film ends."""

    def leaves(after: int, count: int) -> list[float | None]:
        (track,) = follow(lambda n: [(100 + 1.5 * n, 80)] if n <= after else [], count)
        return places(track, count)

    for after, count, end in ((17, 40, 20), (16, 40, 20), (21, 24, 23), (21, 22, 22)):
        there = [100 + 1.5 * n for n in range(end)]
        made = leaves(after, count)
        assert made[:end] == pytest.approx(there, abs=1e-6)
        assert made[end:] == [None] * (count - end)


def test_a_new_scene_has_new_faces() -> None:
    tracks = follow(lambda n: [(100 if n < 30 else 104, 80)], 60, cut=30)
    assert [(t.numbers[0], t.numbers[-1]) for t in tracks] == [(0, 29), (30, 59)]
    # Nothing of the one is smoothed into the other.
    assert places(tracks[0], 60)[29] == pytest.approx(100)
    assert places(tracks[1], 60)[30] == pytest.approx(104)


def test_what_is_found_once_is_no_face() -> None:
    tracks = follow(lambda n: [(100, 80), (200, 80)] if n == 12 else [(100, 80)], 40)
    assert len(tracks) == 1
    assert follow(lambda n: [], 40) == ()
    assert len(follow(lambda n: [(100, 80)], 1)) == 1  # But in a film of one frame.
