"""Films in parts: the same however often the work was cut off, and a few frames at a time."""

import contextlib
import gc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pulse.imaging.clips import Clip, Frame, open_clip
from pulse.imaging.encoding import Encoding
from pulse.imaging.join import Companions
from pulse.imaging.pictures import InputError, to_png
from pulse.superres.pictures import PictureConfig
from pulse.video.config import Cut
from pulse.video.film import FilmProgress, make, shape_of, still
from pulse.video.footage import open_footage
from pulse.video.methods import Batches, Frames, Method, compare, recurrent, side_by_side
from pulse.video.parts import FilmSink, PictureSink, work_folder
from tests.films import Kind, decoded, make_film, picture, times

LONG = Kind(times=range(0, 50 * 3600, 3600), sounds=0)


def trail(frames: Frames, begin: int = 0) -> Frames:
    """Each frame with what is left of those before it, as a recurrent network has them."""
    last = None
    for frame in frames:
        last = frame if last is None else 0.5 * frame + 0.5 * last
        yield last


TRAIL = Method(trail, lambda size: size, lead=8)


def sink(clip: Clip, folder: Path, target: Path) -> FilmSink:
    encoding = Encoding("ffv1")
    shape = shape_of(clip, TRAIL, encoding)
    companions = Companions(clip=clip, tracks=(), start=None, end=None, comment="made")
    return FilmSink(folder, target, shape, companions)


def made(clip: Clip, target: Path, stop_after: int | None = None) -> list[FilmProgress]:
    seen: list[FilmProgress] = []
    with work_folder(target, {"film": "this"}) as folder:
        for progress in make(clip, TRAIL, sink(clip, folder, target), Cut(), part=20):
            seen.append(progress)
            if progress.done == stop_after:
                raise KeyboardInterrupt
    return seen


def test_what_is_cut_off_becomes_the_same(tmp_path: Path) -> None:
    clip = open_clip(make_film(tmp_path / "in.mp4", LONG))
    whole = made(clip, tmp_path / "whole.mkv")
    assert [p.done for p in whole] == [*range(1, 51), 50]
    assert {p.total for p in whole} == {50}
    for stop in (7, 20, 35):
        with pytest.raises(KeyboardInterrupt):
            made(clip, tmp_path / "cut.mkv", stop)
        assert not (tmp_path / "cut.mkv").exists()
    last = made(clip, tmp_path / "cut.mkv")
    assert [p.done for p in last][:2] == [20, 21]  # One part was whole.
    assert (decoded(tmp_path / "cut.mkv") == decoded(tmp_path / "whole.mkv")).all()
    assert times(tmp_path / "cut.mkv") == times(tmp_path / "whole.mkv")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cut.mkv", "in.mp4", "whole.mkv"]


def test_a_recurrent_network_in_parts(tmp_path: Path) -> None:
    """As `superres.recurrent` runs it: batches of one, another size and unclamped values."""
    clip = open_clip(make_film(tmp_path / "in.mp4", LONG))

    def network(frames: Batches) -> Batches:
        last = torch.zeros(())
        for frame in frames:
            last = 0.8 * frame + 0.2 * last
            yield last.repeat_interleave(4, -1).repeat_interleave(4, -2) * 1.5

    method = recurrent(network, PictureConfig(scale=2))
    for name in ("whole", "cut"):
        for stop in (25, None) if name == "cut" else (None,):
            with (
                contextlib.suppress(KeyboardInterrupt),
                work_folder(tmp_path / f"{name}.mkv", {}) as folder,
            ):
                shape = shape_of(clip, method, Encoding("ffv1"))
                companions = Companions(clip=None, tracks=(), start=None, end=None, comment="")
                parts = FilmSink(folder, tmp_path / f"{name}.mkv", shape, companions)
                for progress in make(clip, method, parts, Cut(), part=20):
                    if progress.done == stop:
                        raise KeyboardInterrupt
    made = decoded(tmp_path / "whole.mkv")
    assert made.shape == (50, 96, 128, 3)
    assert (made == decoded(tmp_path / "cut.mkv")).all()
    first = next(clip.frames()).pixels
    assert abs(made[0].mean() - first.mean()) < 2  # Its colours are held to those it was given.


def test_parts_hardly_show(tmp_path: Path) -> None:
    """A method that looks back sees frames from before each part."""
    clip = open_clip(make_film(tmp_path / "in.mp4", LONG))
    made(clip, tmp_path / "out.mkv")
    frames = (torch.from_numpy(frame.pixels).permute(2, 0, 1) / 255 for frame in clip.frames())
    exact = np.stack([255 * frame.permute(1, 2, 0).numpy() for frame in trail(frames)])
    assert np.abs(decoded(tmp_path / "out.mkv") - exact).max() < 4


def test_a_few_frames_at_a_time(tmp_path: Path) -> None:
    clip = open_clip(make_film(tmp_path / "in.mp4", LONG))

    def counted(frames: Frames, begin: int) -> Frames:
        for frame in frames:
            assert sum(type(o) is Frame for o in gc.get_objects()) < 20
            yield frame

    method = Method(counted, lambda size: size, lead=8)
    with work_folder(tmp_path / "out.mkv", {}) as folder:
        *_, last = make(clip, method, sink(clip, folder, tmp_path / "out.mkv"), Cut(), part=40)
    assert last.done == 50


def test_speed_and_what_is_left() -> None:
    assert FilmProgress(10, 30, 4).left == 5
    assert FilmProgress(10, None, 4).left is None
    assert FilmProgress(0, 30, 0).left is None


def test_pictures_go_on_with_their_times(tmp_path: Path) -> None:
    clip = open_clip(make_film(tmp_path / "in.mp4", LONG))

    def run(stop: int | None) -> None:
        with work_folder(tmp_path / "out", {}) as folder:
            pictures = PictureSink(folder, tmp_path / "out", to_png)
            for progress in make(clip, TRAIL, pictures, Cut(), part=20):
                if progress.done == stop:
                    raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(25)
    run(None)
    back = open_footage(tmp_path / "out", None, tone_map=False)
    assert back.count == 50
    wanted = [round(float(t), 6) for t in times(tmp_path / "in.mp4")]
    assert [round(frame.seconds, 6) for frame in back.frames()] == wanted
    # A shorter film leaves nothing of the longer one.
    with work_folder(tmp_path / "out", {}) as folder:
        pictures = PictureSink(folder, tmp_path / "out", to_png)
        list(make(clip, TRAIL, pictures, Cut(None, 1), part=20))
    assert len(list((tmp_path / "out").glob("*.png"))) == 25


def test_frames_of_a_folder_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for number in (1, 2, 10):
        Image.fromarray(picture(number, 40, 30)).save(tmp_path / f"shot{number}.png")
    folder = open_footage(tmp_path, None, tone_map=False)
    for frame, number in zip(folder.frames(), (1, 2, 10), strict=True):
        assert (frame.pixels == picture(number, 40, 30)).all()
    Image.fromarray(picture(0, 41, 30)).save(tmp_path / "shot11.png")
    with pytest.raises(InputError, match=r"shot11.png has 41x30 pixels"):
        list(open_footage(tmp_path, None, tone_map=False).frames())


def test_times_that_are_none(tmp_path: Path) -> None:
    for number in range(3):
        Image.fromarray(picture(number, 40, 30)).save(tmp_path / f"{number}.png")
    for text in ("0\n40\n", "0\n40\n30\n", "0\nsoon\n80\n"):
        (tmp_path / "timecodes.txt").write_text(f"# timestamp format v2\n{text}", "utf-8")
        with pytest.raises(InputError, match="does not hold 3 times that rise"):
            open_footage(tmp_path, None, tone_map=False)


def test_a_still_is_the_frame_of_the_film(tmp_path: Path) -> None:
    clip = open_clip(make_film(tmp_path / "in.mp4", LONG))
    made(clip, tmp_path / "out.mkv")
    frames = decoded(tmp_path / "out.mkv").astype(int)
    for number in (1, 5, 15, 50):
        assert np.abs(still(clip, TRAIL, number).astype(int) - frames[number - 1]).max() < 4
    with pytest.raises(InputError, match="has no frame 51 but only 50"):
        still(clip, TRAIL, 51)


def test_panels_say_their_size_before() -> None:
    twice = Method(doubled, lambda size: (2 * size[0], 2 * size[1]))
    for method in (side_by_side(twice), compare(twice, 2)):
        for shape in ((30, 40), (31, 45), (200, 100)):
            (panels,) = method.apply(iter([torch.rand(3, *shape)]), 0)
            assert tuple(panels.shape[-2:]) == method.size(shape)
            assert panels.shape[-1] % 2 == panels.shape[-2] % 2 == 0


def doubled(frames: Iterator[torch.Tensor], begin: int) -> Iterator[torch.Tensor]:
    for frame in frames:
        yield frame.repeat_interleave(2, -1).repeat_interleave(2, -2)
