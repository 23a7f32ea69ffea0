"""Films whose faces are searched for, with a tiny generator."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from align import Face
from pulse.faces.follow import Track
from pulse.faces.prepare import LRFace
from pulse.imaging.clips import open_clip
from pulse.imaging.degrade import DegradeConfig
from pulse.imaging.encoding import Encoding
from pulse.imaging.join import Companions
from pulse.imaging.pictures import InputError, to_image
from pulse.search import SearchConfig, Start
from pulse.search.losses import departure
from pulse.upscale import UpscaleConfig, Upscaler
from pulse.video.config import Cut, FaceConfig, FilmConfig
from pulse.video.film import make, shape_of
from pulse.video.imaginary import (
    Carried,
    Faces,
    followed,
    matches,
    read_tracks,
    summary,
    write_tracks,
)
from pulse.video.methods import Frames, Method
from pulse.video.parts import FilmSink, work_folder
from stylegan import Generator
from tests.films import Kind, decoded, make_film

COUNT = 12


def still(frames: Frames, begin: int) -> Frames:
    yield from frames


SAME = Method(still, lambda size: size)


def landmarks(x: float, y: float, size: float) -> np.ndarray:
    """Those of an upright face, roughly, whose FFHQ frame has about that side."""
    unit = size / 4
    points = np.zeros((68, 2))
    turn = np.linspace(np.pi, 0, 17)
    points[:17] = np.stack([np.cos(turn), 0.2 + 1.1 * np.sin(turn)], 1)
    points[17:27] = np.stack([np.linspace(-0.8, 0.8, 10), np.full(10, -0.6)], 1)
    points[27:36] = np.stack([np.zeros(9), np.linspace(-0.3, 0.3, 9)], 1)
    points[36:42], points[42:48] = (-0.45, -0.3), (0.45, -0.3)
    points[48:68] = np.stack([np.linspace(-0.35, 0.35, 20), np.full(20, 0.6)], 1)
    points[48], points[54] = (-0.35, 0.6), (0.35, 0.6)
    return points * unit + (x, y)


def track(count: int = COUNT, lost: tuple[int, ...] = ()) -> Track:
    """A face that moves slowly, found in each frame but those, and held to the end."""
    numbers = np.array([n for n in range(count) if n not in lost])
    until = np.append(numbers[:-1], count - 1)
    points = []
    for n in numbers:
        x, y = 30 + 0.3 * n, 24.0
        box = np.array([[x - 8, y - 8], [x + 8, y + 8]])
        points.append(np.concatenate([landmarks(x, y, 20), box]))
    return Track(numbers, np.stack(points), np.ones(len(numbers)), until)


@pytest.fixture
def upscaler(tiny: Generator) -> Upscaler:
    return Upscaler(tiny, "tiny", "0" * 64)


def config(**changes: float) -> FaceConfig:
    search = SearchConfig(2, changes.pop("tolerance", 1e-3), draws=8, tone=None)
    plain = FaceConfig(candidates=2, search=search, label=False)
    return replace(plain, **changes)  # type: ignore[arg-type]


def film(
    upscaler: Upscaler | None, target: Path, source: Path, stop: int | None = None
) -> list[dict]:
    """The film in parts of four frames, cut off after some; what is told of each frame.

    Its face is last found before the third part, in which it is held. None draws none.
    """
    clip = open_clip(source)
    with work_folder(target, {}) as folder:
        method = SAME
        if upscaler is not None:
            tracks = [track(lost=(8, 9, 10, 11))]
            method = Faces(upscaler, tracks, config(), folder).method(SAME)
        shape = shape_of(clip, method, Encoding("ffv1"))
        companions = Companions(clip=None, tracks=(), start=None, end=None, comment="")
        for progress in make(clip, method, FilmSink(folder, target, shape, companions), Cut(), 4):
            if progress.done == stop:
                raise KeyboardInterrupt
        return matches(folder)


def test_cut_off_it_becomes_the_same(upscaler: Upscaler, tmp_path: Path) -> None:
    source = make_film(tmp_path / "in.mkv", Kind(sounds=0, times=range(0, 40 * COUNT, 40)))
    whole = film(upscaler, tmp_path / "whole.mkv", source)
    for stop in (3, 6, 9):
        with pytest.raises(KeyboardInterrupt):
            film(upscaler, tmp_path / "cut.mkv", source, stop)
    again = film(upscaler, tmp_path / "cut.mkv", source)
    assert (decoded(tmp_path / "whole.mkv") == decoded(tmp_path / "cut.mkv")).all()
    assert [e["frame"] for e in whole] == list(range(1, COUNT + 1))
    assert [{**e, "seconds": 0} for e in whole] == [{**e, "seconds": 0} for e in again]
    assert [e["anew"] for e in whole] == [True] + [False] * (COUNT - 1)
    # The face is another, the rest is what it is without one.
    film(None, tmp_path / "plain.mkv", source)
    before, after = (decoded(tmp_path / name).astype(int) for name in ("plain.mkv", "whole.mkv"))
    assert (np.abs(after - before)[:, 15:30, 25:35].mean((1, 2, 3)) > 3).all()
    assert (after == before)[:, :, 55:].all()


def test_a_frame_begins_where_the_last_one_ended(upscaler: Upscaler) -> None:
    """Frames that are all alike ask for no change at all.

    The frame of the face has 18 pixels up to rounding, of which nothing may hang.
    """
    frame = torch.rand(3, 48, 64, generator=torch.Generator().manual_seed(0))
    frame = torch.nn.functional.avg_pool2d(frame[None], 9, 1, 4)[0]
    standing = track()
    standing = replace(standing, points=standing.points[:1].repeat(COUNT, 0))
    method = Faces(upscaler, [standing], config(tolerance=0.5)).method(SAME)
    made = list(method.apply(iter([frame] * COUNT), 0))
    assert all(torch.allclose(made[0], other, atol=0.01) for other in made[1:])
    afresh = next(iter(method.apply(iter([frame]), 3)))  # Nothing is known of what was before.
    assert torch.allclose(afresh, made[0], atol=1e-5)


def test_where_it_is_lost_the_frame_stays(upscaler: Upscaler, tmp_path: Path) -> None:
    lost = tuple(range(2, 22))
    frames = torch.rand(26, 3, 48, 64, generator=torch.Generator().manual_seed(0))
    method = Faces(upscaler, [track(26, lost)], config(), tmp_path).method(SAME)
    made = list(method.apply(iter(frames), 0))
    same = [torch.equal(a, b) for a, b in zip(made, frames, strict=True)]
    assert same == [n in lost for n in range(26)]
    (face,) = summary(matches(tmp_path), 26)
    assert face["lost"] == [n + 1 for n in lost]
    assert face["frames"] == 6


def test_held_it_changes_less(upscaler: Upscaler) -> None:
    """And matches as well: of the small change of a face it takes up what that asks for.

    The mean of several people, since how far one goes hangs on how a processor rounds.
    """
    rng = torch.Generator().manual_seed(3)
    loose = UpscaleConfig(1, search=SearchConfig(steps=60, exact=False, tone=None))
    moved = {0.0: 0.0, 0.3: 0.0, 0.5: 0.0, 1.0: 0.0}
    for _ in range(4):
        ws = upscaler.generator.mapping(torch.randn(2, 32, generator=rng))
        ws = torch.stack([ws[0], torch.lerp(ws[0], ws[1], 0.2)])[:, None]
        images = upscaler.generator.synthesis(ws.expand(-1, upscaler.generator.num_layers, -1))
        low = DegradeConfig().operator(32, 8)(((images + 1) / 2).clamp(0, 1))
        *_, first = upscaler.search(LRFace(0, low[0]), loose)
        start = Start.after(first, (0,))
        for hold in moved:
            held = replace(loose, search=replace(loose.search, hold=hold))
            *_, state = upscaler.search(LRFace(0, low[1]), held, 1, start)
            assert state.status[0] == "found"
            prior = upscaler.prior
            points = [[prior.on_sphere(prior.from_w(x.ws)), *x.noise] for x in (state, first)]
            moved[hold] += float(departure(*points)) / 4
    assert 0 < moved[1.0] < moved[0.5] < moved[0.3] < moved[0.0]
    assert moved[0.5] < 0.6 * moved[0.0]
    assert moved[1.0] < 0.5 * moved[0.0]


def test_where_it_loses_the_match_it_begins_anew(upscaler: Upscaler) -> None:
    """And finds as often as a search of that frame alone, with seeds that no frame before had."""
    frame = torch.rand(3, 48, 64, generator=torch.Generator().manual_seed(0))
    dark = torch.nn.functional.avg_pool2d(frame[None], 9, 1, 4)[0] / 2
    standing = track()
    standing = replace(standing, points=standing.points[:1].repeat(COUNT, 0))

    def drawn(tolerance: float, frames: dict[int, torch.Tensor], seed: int = 0) -> list[dict]:
        search = SearchConfig(steps=1, tolerance=tolerance, exact=False, tone=None)
        how = FaceConfig(seed=seed, candidates=2, search=search, hold=100.0, label=False)
        faces, entries = Faces(upscaler, [standing], how), list[dict]()
        carried = dict[int, Carried]()
        for number, small in frames.items():
            faces.drawn(number, small, small, carried, entries)
        return entries

    first, second = drawn(0.06, {0: dark, 3: dark + 0.5})
    (alone,) = drawn(0.06, {3: dark + 0.5}, seed=6)
    assert [first["status"], second["status"], alone["status"]] == ["found"] * 3
    assert second["anew"]
    assert second["mse"] == pytest.approx(alone["mse"], rel=1e-5)
    # Where no other matches, it stays who it is.
    _, stays = drawn(0.01, {0: dark, 3: dark + 0.5})
    assert stays["status"] == "not_converged"
    assert not stays["anew"]
    assert stays["mse"] > alone["mse"]


def test_departure_is_a_mean_square() -> None:
    x = [torch.zeros(2, 3, 4), torch.zeros(2, 1, 2, 2), torch.zeros(2, 1, 4, 4)]
    y = [torch.full((2, 3, 4), 2.0), torch.ones(2, 1, 2, 2), torch.full((2, 1, 4, 4), 3.0)]
    assert departure(x, y).tolist() == [4 + (1 + 9) / 2] * 2
    assert departure(x[:1], y[:1]).tolist() == [4, 4]
    with pytest.raises(ValueError, match="cannot be negative"):
        SearchConfig(hold=-1)


def test_the_label_lies_in_a_corner(upscaler: Upscaler) -> None:
    frame = torch.full((3, 120, 200), 0.5)
    faces = Faces(upscaler, [track(1)], config(label=True)).method(SAME)
    (made,) = faces.apply(iter([frame]), 5)  # Where no face shows.
    changed = (made != frame).any(0)
    rows, columns = torch.nonzero(changed).T
    assert rows.min() > 100
    assert 40 < columns.max() < 100
    assert made[:, rows, columns].max() > 0.8
    (tiny_frame,) = faces.apply(iter([torch.rand(3, 6, 9)]), 5)
    assert tiny_frame.shape == (3, 6, 9)


def test_tracks_are_kept(tmp_path: Path) -> None:
    write_tracks(tmp_path / "x", [track(), track(5)])
    for old, new in zip([track(), track(5)], read_tracks(tmp_path / "x"), strict=True):
        one, other = old.at(3), new.at(3)
        assert isinstance(one, Face)
        assert isinstance(other, Face)
        assert np.array_equal(one.landmarks, other.landmarks)
        assert one.box == other.box
    write_tracks(tmp_path / "y", [track(5, lost=(3, 4))])
    (again,) = read_tracks(tmp_path / "y")
    assert again.at(4) is not None


def test_no_face(tmp_path: Path) -> None:
    source = make_film(tmp_path / "in.mkv", Kind(sounds=0, times=range(0, 200, 40)))
    with pytest.raises(InputError, match=r"No face was found in .*in\.mkv"):
        list(followed(open_clip(source), Cut()))
    with pytest.raises(InputError, match="is for networks"):
        FilmConfig(faces=FaceConfig(), panels="compare")


def test_what_has_16_bits_keeps_them_around_the_face(upscaler: Upscaler) -> None:
    frame = torch.rand(3, 48, 64, generator=torch.Generator().manual_seed(0))
    (made,) = Faces(upscaler, [track(1)], config()).method(SAME).apply(iter([frame]), 0)
    assert torch.equal(made[:, :, 55:], frame[:, :, 55:])
    assert not torch.equal(made, frame)
    assert to_image(made).size == (64, 48)
    json.dumps(summary([], 3))
    assert Image.MIME
