"""Clips of moved stills and of films."""

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from pulse.imaging.clips import Frame, frames
from pulse.imaging.metrics import luma
from pulse.imaging.motion import optical_flow
from pulse.imaging.pictures import InputError
from pulse.superres.clip_pairs import ClipConfig, Clips, Run
from pulse.superres.film_sources import read_clips
from pulse.superres.shelf import Shelf

SMALL = ClipConfig(patch=16, frames=4)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def still(height: int = 300, width: int = 320, seed: int = 0) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (height // 10, width // 10, 3), np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def shelf(*pictures: np.ndarray) -> Shelf:
    new = Shelf()
    for picture in pictures:
        new.add(picture)
    return new


def clips(config: ClipConfig = SMALL) -> Clips:
    return Clips(config, shelf(still()), shelf(still(seed=1)))


def test_lr_is_what_the_degradation_makes_of_hr() -> None:
    pair = clips().draw(3, rng())
    assert pair.lr.shape == (3, 4, 3, 16, 16)
    assert pair.hr.shape == (3, 4, 3, 64, 64)
    assert torch.equal((pair.lr * 255).round() / 255, pair.lr)
    again = SMALL.degradation.oblong(16, 16, 4)(pair.hr)
    assert (again - pair.lr)[..., 2:-2, 2:-2].abs().max() < 0.6 / 255


def test_the_same_seed_draws_the_same() -> None:
    one, other = clips().draw(2, rng()), clips().draw(2, rng())
    assert torch.equal(one.hr, other.hr)
    assert not torch.equal(one.hr, clips().draw(2, rng(1)).hr)


def test_what_is_held_out_is_always_the_same_and_of_other_stills() -> None:
    one, other = next(clips().held_out()), next(clips().held_out())
    assert torch.equal(one.lr, other.lr)
    assert one.lr.shape[-2:] == (64, 64)


def test_stills_move_and_no_faster_than_they_may() -> None:
    config = ClipConfig(patch=32, frames=2, speed=2.0, front=0.0)
    hr = clips(config).draw(12, rng()).hr
    grey = luma(hr).float() / 255
    flow = optical_flow(grey[:, 0], grey[:, 1])[..., 30:-30, 30:-30]
    lengths = flow.mean((2, 3)).norm(dim=1)
    assert lengths.max() < 2 * 4 + 6  # What turns, grows and bends is beside it.
    assert lengths.median() > 0.2
    still_ones = Clips(ClipConfig(patch=16, frames=2, front=0), shelf(still()), shelf(still()))
    same = [(p := still_ones.draw(1, rng(i)).hr)[0, 0].equal(p[0, 1]) for i in range(60)]
    assert 0 < sum(same) < 20


def test_what_moves_in_front_moves_otherwise() -> None:
    """A mean over many: no flow within a clip tells where it bends and where something passes."""
    spread = []
    for front in (0.0, 1.0):
        config = ClipConfig(patch=32, frames=2, front=front)
        grey = luma(clips(config).draw(16, rng()).hr).float() / 255
        flow = optical_flow(grey[:, 0], grey[:, 1])[..., 10:-10, 10:-10]
        spread.append(flow.std((-2, -1)).mean())
    assert spread[1] > 1.5 * spread[0]


def test_a_still_that_is_too_small_for_its_movement_is_mirrored() -> None:
    small = Clips(ClipConfig(patch=16, frames=5, speed=20), shelf(still(70, 70)), shelf(still()))
    hr = small.draw(4, rng()).hr
    assert hr.min() >= 0
    assert hr.max() <= 1
    assert hr.std((-2, -1)).min() > 0.02


def test_films_give_successive_frames_of_one_scene() -> None:
    frames = [np.full((120, 130, 3), 20 * n, np.uint8) for n in range(10)]
    film = Clips(SMALL, Shelf(), shelf(still()), shelf(*frames), (Run(0, 5), Run(5, 10)))
    seen = set()
    for number in range(40):
        levels = film.draw(1, rng(number)).hr.mean((0, 2, 3, 4)) * 255 / 20
        numbers = tuple(levels.round().int().tolist())
        assert (np.diff(numbers) == 1).all() or (np.diff(numbers) == -1).all()
        assert len({n // 5 for n in numbers}) == 1
        seen.add(numbers)
    assert len(seen) == 8


def test_films_are_read_in_scenes_and_without_their_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a.mp4"
    first, second = still(), still(seed=5)
    with av.open(file, "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 320, 300, "yuv420p"
        for number in range(30):
            picture = first if number < 8 else second
            pixels = np.ascontiguousarray(np.roll(picture, number, 1))
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    opened = []

    def counted(path: Path) -> Iterator[Frame]:
        opened.append(path)
        return frames(path)

    monkeypatch.setattr("pulse.imaging.clips.frames", counted)
    read = read_clips([file], ClipConfig(patch=16, frames=4, test_seconds=1.0))
    assert opened == [file]  # A film is decoded once.
    assert read.runs == (Run(0, 8), Run(8, 20))
    assert len(read.tests) == 2
    assert read.draw(2, rng()).lr.shape == (2, 4, 3, 16, 16)


def test_what_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not move"):
        ClipConfig(frames=1)
    frames = shelf(*[np.zeros((80, 80, 3), np.uint8)] * 4)
    with pytest.raises(InputError, match="smaller patch"):
        Clips(SMALL, Shelf(), Shelf(), frames, (Run(0, 4),))
    with pytest.raises(InputError, match="does not exist"):
        read_clips([tmp_path / "none"], SMALL)
