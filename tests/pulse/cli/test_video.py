"""`pulse video` as a person meets it."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from av.stream import Disposition
from PIL import Image

from align import Frame, find_upright
from pulse.imaging.clips import open_clip
from pulse.results import COMPOSITE
from pulse.superres import weights
from pulse.superres.networks import FRVSR, CompactConfig, FRVSRConfig
from pulse.superres.pictures import undrifted, upscale
from pulse.superres.recurrent import recurrent
from pulse.video.footage import TIMES
from stylegan import Generator
from stylegan.checkpoints import save
from stylegan.stylegan2 import StyleGAN2
from tests.command import ROOT, Done, pulse
from tests.films import UNEVEN, Kind, decoded, make_film, packets, picture, save_network, times


def words(*arguments: str | float | Path) -> list[str]:
    given = [*map(str, arguments)]
    network = [] if "--network" in given else ["--network", "x.safetensors"]
    return ["video", *given, *network]


def video(*arguments: str | float | Path) -> Done:
    return pulse(*words(*arguments), cwd=Path.cwd())


def started(*arguments: str | float | Path, limit: int | None = None) -> subprocess.Popen[str]:
    """The same in a process of its own, whose files may be so long."""
    if os.name == "nt":
        pytest.skip("limits and signals are as Unix has them")

    def limited() -> None:
        import resource  # Here, since Windows has none.

        if limit is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    return subprocess.Popen(
        [sys.executable, "-m", "pulse", *words(*arguments)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=limited,
    )


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    save_network(tmp_path / "x.safetensors")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def like(image: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(image.astype(float) - expected).mean())


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_all_that_a_film_holds_stays(folder: Path, suffix: str) -> None:
    kind = Kind(
        times=UNEVEN if suffix == ".mp4" else [round(t / 90) for t in range(0, 43200, 3600)],
        base=Fraction(1, 90_000) if suffix == ".mp4" else Fraction(1, 1000),
        colours=(6, 1, 6, 6),
        aspect=Fraction(16, 15),
        rotation=(90, False, False),
        sounds=2,
        subtitles=True,
        chapters=True,
    )
    film = make_film(folder / f"in{suffix}", kind)
    done = video(film, "-o", f"out{suffix}", "--crf", 4, "--json")
    assert done.returncode == 0, done.stderr
    out = folder / f"out{suffix}"
    assert not list(folder.glob("*.parts"))
    record = json.loads(done.stdout)
    assert (record["width"], record["height"], record["frames"]) == (96, 128, 12)
    assert times(out) == times(film) == [t * kind.base for t in kind.times]
    assert packets(out, "audio") == packets(film, "audio")
    assert len(packets(out, "audio")) == 2
    assert packets(out, "subtitle") == packets(film, "subtitle")
    assert sum(b"Line" in data for _, data in packets(out, "subtitle")[0]) == 3
    with av.open(str(out)) as new, av.open(str(film)) as old:
        stream = new.streams.video[0]
        assert stream.sample_aspect_ratio == Fraction(15, 16)
        colours = (stream.colorspace, stream.color_range, stream.color_primaries, stream.color_trc)
        assert colours == kind.colours
        assert next(new.decode(video=0)).rotation == 0
        names = [s.metadata.get("language") for s in old.streams if s.type != "data"]
        assert [s.metadata.get("language") for s in new.streams if s.type != "data"] == names
        assert [s.disposition for s in new.streams.audio] == [
            s.disposition for s in old.streams.audio
        ]
        ends = [float(c["end"] * (c["time_base"] or 0)) for c in new.chapters()]
        assert ends == [0.2, 0.44]
        assert [c["metadata"]["title"] for c in new.chapters()] == ["One", "Two"]
        metadata = {name.lower(): text for name, text in new.metadata.items()}
        assert (metadata["title"], metadata["artist"]) == ("A film", "Someone")
        assert metadata["comment"].startswith("by hand\n")
        assert "neural network enlarged this film" in metadata["comment"]
        assert "x.safetensors" in metadata["comment"]


def test_frames_are_what_the_network_makes_of_each(folder: Path) -> None:
    film = make_film(folder / "in.mkv", Kind(size=(40, 30)))
    done = video(film, "-o", "out.mkv", "--codec", "ffv1")
    assert done.returncode == 0, done.stderr
    network = weights.load(folder / "x.safetensors")
    made = [frame.pixels for frame in open_clip(folder / "out.mkv").frames()]
    for frame, result in zip(open_clip(film).frames(), made, strict=True):
        expected = np.asarray(upscale(network, Image.fromarray(frame.pixels)), float)
        assert np.abs(result - expected).max() <= 3


def test_a_network_that_carries_frames_on(folder: Path) -> None:
    network = weights.build(FRVSRConfig(blocks=1, channels=8))
    weights.save(network, folder / "x.safetensors")
    film = make_film(folder / "in.mkv", Kind((40, 32)))
    done = video(film, "-o", "out.mkv", "--codec", "ffv1")
    assert done.returncode == 0, done.stderr
    frames = [
        torch.from_numpy(frame.pixels).permute(2, 0, 1)[None] / 255
        for frame in open_clip(film).frames()
    ]
    network = weights.load(folder / "x.safetensors")
    assert isinstance(network, FRVSR)
    made = decoded(folder / "out.mkv")
    for lr, sr, image in zip(frames, recurrent(network, frames), made, strict=True):
        expected = 255 * undrifted(sr, lr)[0].clamp(0, 1).permute(1, 2, 0).numpy()
        assert like(image, expected) < 1.5


@pytest.mark.parametrize("colours", [(1, 1, 1, 1), (6, 1, 6, 6), (1, 2, 1, 1)])
def test_colours_come_back(folder: Path, colours: tuple[int, int, int, int]) -> None:
    network = weights.build(CompactConfig(scale=1, convs=1, channels=4))
    torch.nn.init.zeros_(network.last.weight)
    assert network.last.bias is not None
    torch.nn.init.zeros_(network.last.bias)  # What is added to the input is nothing.
    weights.save(network, folder / "x.safetensors")
    film = make_film(folder / "in.mp4", Kind(colours=colours, size=(128, 96)))
    done = video(film, "-o", "out.mp4", "--crf", 1)
    assert done.returncode == 0, done.stderr
    before = np.stack([frame.pixels for frame in open_clip(film).frames()]).astype(float)
    after = np.stack([frame.pixels for frame in open_clip(folder / "out.mp4").frames()])
    # Of squares of 8 pixels, since half the colour resolution is lost at edges.
    squares = (after - before).reshape(12, 12, 8, 16, 8, 3).mean((2, 4))
    assert np.abs(squares).max() <= 2


@pytest.mark.parametrize(
    ("kind", "format"),
    [
        (Kind((61, 47), range(0, 400, 40), Fraction(1, 1000), "ffv1"), "yuv420p"),
        (Kind(pixel_format="yuv420p10le"), "yuv420p10le"),
        (
            Kind(pixel_format="gray", codec="ffv1", base=Fraction(1, 1000), times=range(5)),
            "yuv420p",
        ),
        (Kind(sounds=0), "yuv420p"),
        (Kind(interlaced=True), "yuv420p"),
        (Kind(times=(0,), sounds=0), "yuv420p"),
    ],
)
def test_films_of_many_kinds(folder: Path, kind: Kind, format: str) -> None:
    film = make_film(folder / "in.mkv", kind)
    done = video(film, "-o", "out.mp4")
    assert done.returncode == 0, done.stderr
    clip = open_clip(folder / "out.mp4")
    assert (clip.width, clip.height) == (2 * kind.size[0], 2 * kind.size[1])
    assert [round(float(t), 3) for t in times(folder / "out.mp4")] == [
        round(float(t), 3) for t in times(film)
    ]
    with av.open(str(folder / "out.mp4")) as out:
        assert out.streams.video[0].pix_fmt == format
    if kind.pixel_format == "gray":
        frame = next(clip.frames()).pixels.astype(int)
        assert np.abs(frame[..., 0] - frame[..., 2]).max() <= 2
    if kind.interlaced:
        assert "interlaced" in done.stderr


def test_odd_sides_get_their_last_pixels_again(folder: Path) -> None:
    save_network(folder / "x.safetensors", scale=3)
    base = Fraction(1, 1000)
    film = make_film(folder / "in.mkv", Kind((41, 31), range(0, 200, 40), base, "ffv1"))
    assert video(film, "-o", "out.mp4").returncode == 0
    clip = open_clip(folder / "out.mp4")
    assert (clip.width, clip.height) == (124, 94)
    pixels = next(clip.frames()).pixels.astype(int)
    assert np.abs(pixels[:, -1] - pixels[:, -2]).mean() < 3


@pytest.mark.parametrize(
    ("target", "codec"), [("out.webm", "vp9"), ("out.mp4", "h265"), ("out.mkv", "av1")]
)
def test_codecs(folder: Path, target: str, codec: str) -> None:
    film = make_film(folder / "in.mp4", Kind((128, 96), sounds=0))
    done = video(film, "-o", target, "--codec", codec)
    assert done.returncode == 0, done.stderr
    with av.open(str(folder / target)) as out:
        name = out.streams.video[0].codec_context.name
    assert name == {"vp9": "vp9", "h265": "hevc", "av1": "libdav1d"}[codec]
    assert len(decoded(folder / target)) == 12
    assert "Svt" not in done.stderr
    network = weights.load(folder / "x.safetensors")
    first = upscale(network, Image.fromarray(next(open_clip(film).frames()).pixels))
    assert like(next(open_clip(folder / target).frames()).pixels, np.asarray(first)) < 4


def test_a_part_of_a_film(folder: Path) -> None:
    film = make_film(folder / "in.mp4", Kind(times=range(0, 100 * 3600, 3600), chapters=True))
    done = video(film, "-o", "out.mp4", "--start", "0:01", "--end", 2.2)
    assert done.returncode == 0, done.stderr
    found = times(folder / "out.mp4")
    assert found == [Fraction(n, 25) for n in range(30)]
    network = weights.load(folder / "x.safetensors")
    wanted = upscale(network, Image.fromarray(picture(25, 64, 48)))
    assert like(decoded(folder / "out.mp4")[0], np.asarray(wanted)) < 4
    (sound,), (whole,) = packets(folder / "out.mp4", "audio"), packets(film, "audio")
    assert [data for _, data in sound] == [data for at, data in whole if 1 <= at < 2.2]
    assert all(
        abs(a - b + 1) < 0.002
        for (a, _), (b, _) in zip(sound, [p for p in whole if 1 <= p[0] < 2.2], strict=True)
    )


def test_the_last_seconds(folder: Path) -> None:
    film = make_film(folder / "in.mp4", Kind(times=range(0, 100 * 3600, 3600)))
    done = video(film, "-o", "out.mp4", "--start", -1.5, "--end", -0.5)
    assert done.returncode == 0, done.stderr
    assert times(folder / "out.mp4") == [Fraction(n, 50) - Fraction(0) for n in range(1, 51, 2)]


def test_a_killed_run_goes_on_and_nothing_differs(folder: Path) -> None:
    """Killed at several moments, among them those at which parts are renamed and joined."""
    make_film(folder / "in.mp4", Kind(times=range(0, 200 * 3600, 3600)))
    assert video("in.mp4", "-o", "whole.mp4").returncode == 0
    kills = 0
    for seconds in (0.1, 0.5, 0.9, 0.2, 0.4, 0.7):
        with started("in.mp4", "-o", "cut.mp4") as process:
            parts = folder / "cut.mp4.parts"
            known = len(list(parts.glob("*.nut")))
            while process.poll() is None and len(list(parts.glob("*.nut"))) == known:
                time.sleep(0.01)
            time.sleep(seconds / 4)
            process.send_signal(signal.SIGKILL)
        kills += process.returncode == -signal.SIGKILL
        if (folder / "cut.mp4").exists():
            break
    assert kills >= 2
    done = video("in.mp4", "-o", "cut.mp4")
    assert done.returncode == 0, done.stderr
    assert not list(folder.glob("*.parts"))
    assert not list(folder.glob(".*"))
    assert times(folder / "cut.mp4") == times(folder / "whole.mp4")
    assert (decoded(folder / "cut.mp4") == decoded(folder / "whole.mp4")).all()
    assert packets(folder / "cut.mp4", "audio") == packets(folder / "whole.mp4", "audio")


def test_parts_of_another_film_are_not_taken(folder: Path) -> None:
    film = make_film(folder / "in.mp4", Kind(times=range(0, 130 * 3600, 3600)))
    with started(film, "-o", "out.mp4") as process:
        while not list(folder.glob("*.parts/*.nut")):
            time.sleep(0.01)
            assert process.poll() is None
        process.send_signal(signal.SIGSTOP)
        other = video(film, "-o", "out.mp4")
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert other.returncode == 2
    assert "is being made by another process" in other.stderr
    torch.manual_seed(1)
    save_network(folder / "x.safetensors")
    assert video(film, "-o", "out.mp4").returncode == 0
    assert video(film, "-o", "anew.mp4").returncode == 0
    assert (decoded(folder / "out.mp4") == decoded(folder / "anew.mp4")).all()


def test_what_is_there_is_not_made_again(folder: Path) -> None:
    film = make_film(folder / "in.mp4")
    assert video(film, "-o", "out.mp4").returncode == 0
    before = (folder / "out.mp4").stat().st_mtime_ns
    done = video(film, "-o", "out.mp4", "--json")
    assert done.returncode == 0
    assert "--force" in done.stderr
    assert json.loads(done.stdout)["new"] is False
    assert (folder / "out.mp4").stat().st_mtime_ns == before
    assert video(film, "-o", "out.mp4", "--force").returncode == 0
    assert (folder / "out.mp4").stat().st_mtime_ns > before


def test_a_broken_tail(folder: Path) -> None:
    film = make_film(folder / "in.mkv", Kind(times=range(0, 4000, 40), base=Fraction(1, 1000)))
    data = film.read_bytes()
    film.write_bytes(data[: len(data) // 2])
    done = video(film, "-o", "out.mkv", "--json")
    assert done.returncode == 1
    assert "is damaged" in done.stderr
    record = json.loads(done.stdout)
    assert "is damaged" in record["damage"]
    assert len(times(folder / "out.mkv")) == record["frames"] > 30


def test_four_panels(folder: Path) -> None:
    film = make_film(folder / "in.mp4", Kind((160, 120)))
    done = video(film, "-o", "out.mp4", "--compare", "--crf", 5, "--json")
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    pixels = next(open_clip(folder / "out.mp4").frames()).pixels.astype(float)
    assert pixels.shape[:2] == (record["height"], record["width"])
    strip = 18
    panels = [
        pixels[top : top + 120, left : left + 160]
        for top in (8 + strip, 8 + 2 * strip + 120 + 8)
        for left in (8, 8 + 160 + 8)
    ]
    original = next(open_clip(film).frames()).pixels
    small = Image.fromarray(original).resize((80, 60), Image.Resampling.BICUBIC)
    network = weights.load(folder / "x.safetensors")
    expected = [
        original,
        np.asarray(small.resize((160, 120), Image.Resampling.NEAREST)),
        np.asarray(small.resize((160, 120), Image.Resampling.BICUBIC)),
        np.asarray(upscale(network, small)),
    ]
    for panel, like_this in zip(panels, expected, strict=True):
        assert like(panel[4:-4, 4:-4], like_this[4:-4, 4:-4]) < 3
    assert packets(folder / "out.mp4", "audio") == packets(film, "audio")
    assert (pixels[4:8].mean(), pixels[10:24, 8:80].min() < 100) == pytest.approx(
        (255, True), abs=2
    )


def test_side_by_side(folder: Path) -> None:
    film = make_film(folder / "in.mp4", Kind((80, 60)))
    done = video(film, "-o", "out.mp4", "--side-by-side", "--crf", 5)
    assert done.returncode == 0, done.stderr
    pixels = next(open_clip(folder / "out.mp4").frames()).pixels
    image = Image.fromarray(next(open_clip(film).frames()).pixels)
    bicubic = np.asarray(image.resize((160, 120), Image.Resampling.BICUBIC))
    assert like(pixels[30:140, 12:164], bicubic[4:114, 4:156]) < 3
    assert pixels.shape[1] == 2 * 160 + 3 * 8


def test_a_still(folder: Path) -> None:
    film = make_film(folder / "in.mp4")
    done = video(film, "-o", "out.mp4", "--preview", 5)
    assert done.returncode == 0, done.stderr
    assert "out-preview.png  128x96" in done.stdout
    assert not (folder / "out.mp4").exists()
    network = weights.load(folder / "x.safetensors")
    with Image.open(folder / "out-preview.png") as still:
        expected = upscale(network, Image.fromarray(picture(4, 64, 48)))
        assert like(np.asarray(still), np.asarray(expected)) < 3
        assert "neural network" in still.info["Description"]
    done = video(film, "-o", "out.mp4", "--preview", 13)
    assert done.returncode == 2
    assert "has no frame 13 but only 12" in done.stderr


def test_pictures_in_and_out(folder: Path) -> None:
    film = make_film(folder / "in.mp4", Kind(times=UNEVEN))
    done = video(film, "-o", "frames")
    assert done.returncode == 0, done.stderr
    assert "Pictures hold no audio" in done.stderr
    names = sorted(path.name for path in (folder / "frames").iterdir())
    assert names == [*(f"frame-{n:06}.png" for n in range(1, 13)), TIMES]
    assert COMPOSITE.encode() in (folder / "frames" / names[0]).read_bytes()
    done = video("frames", "-o", "out.mp4")
    assert done.returncode == 0, done.stderr
    assert times(folder / "out.mp4") == times(film)
    assert decoded(folder / "out.mp4").shape == (12, 192, 256, 3)
    done = video("frames", "-o", "even.mp4", "--fps", "30000/1001")
    assert done.returncode == 0, done.stderr
    assert times(folder / "even.mp4") == [Fraction(1001 * n, 30000) for n in range(12)]


def test_fonts_and_a_cover_come_along(folder: Path) -> None:
    with av.open(str(make_film(folder / "in.mp4"))) as source, av.open("more.mkv", "w") as out:
        copies = {s.index: out.add_stream_from_template(s, opaque=True) for s in source.streams}
        out.add_attachment("a.ttf", "font/ttf", b"a font")
        for packet in source.demux():
            if packet.size and packet.dts is not None:
                packet.stream = copies[packet.stream.index]
                out.mux(packet)
    done = video("more.mkv", "-o", "out.mkv")
    assert done.returncode == 0, done.stderr
    with av.open("out.mkv") as out:
        (font,) = out.streams.attachments
        assert (font.name, font.mimetype, font.data) == ("a.ttf", "font/ttf", b"a font")

    cover = io.BytesIO()
    Image.fromarray(picture(0, 20, 20)).save(cover, "PNG")
    with av.open(str(make_film(folder / "in.mp4"))) as source, av.open("art.mp4", "w") as out:
        copies = {s.index: out.add_stream_from_template(s, opaque=True) for s in source.streams}
        art = out.add_mux_stream("png", width=20, height=20)
        art.disposition = Disposition.attached_pic
        for packet in source.demux():
            if packet.size and packet.dts is not None:
                packet.stream = copies[packet.stream.index]
                out.mux(packet)
        packet = av.Packet(cover.getvalue())
        packet.pts = packet.dts = 0
        packet.stream, packet.time_base, packet.is_keyframe = art, Fraction(1, 1000), True
        out.mux(packet)
    done = video("art.mp4", "-o", "out.mp4")
    assert done.returncode == 0, done.stderr
    with av.open("out.mp4") as out:
        assert len(out.streams.video) == 2
        assert out.streams.video[1].disposition & Disposition.attached_pic
        (packet,) = (p for p in out.demux(out.streams.video[1]) if p.size)
        assert bytes(packet) == cover.getvalue()
    assert open_clip(folder / "out.mp4").width == 128


def test_tracks_that_the_output_cannot_hold(folder: Path) -> None:
    film = make_film(
        folder / "in.mkv", Kind(base=Fraction(1, 1000), times=range(0, 400, 40), subtitles=True)
    )
    done = video(film, "-o", "out.mp4")
    assert done.returncode == 2
    assert ".mp4 cannot hold subtitle track 2" in done.stderr
    assert "--drop" in done.stderr
    done = video(film, "-o", "out.mp4", "--drop")
    assert done.returncode == 0, done.stderr
    assert "Left out is subtitle track 2" in done.stderr
    assert packets(folder / "out.mp4", "subtitle") == []
    assert packets(folder / "out.mp4", "audio") == packets(film, "audio")


def test_a_full_disk(folder: Path) -> None:
    """A limit to the length of files stands for it; what was made before stays."""
    film = make_film(folder / "in.mp4", Kind((320, 240), times=range(0, 70 * 3600, 3600)))

    with started(film, "-o", "out.mp4", "--crf", 1, limit=100_000) as process:
        _, said = process.communicate()
    assert process.returncode == 2
    assert "out.mp4 cannot be written (File too large)" in said
    assert "same command again" in said
    assert "Traceback" not in said
    assert not (folder / "out.mp4").exists()
    assert video(film, "-o", "out.mp4", "--crf", 1).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("missing.mp4", "-o", "out.mp4"), "does not exist"),
        (("empty.mp4", "-o", "out.mp4"), "is empty"),
        (("picture.mp4", "-o", "out.mp4"), "is a picture, not a film"),
        (("sub", "-o", "out.mp4"), "holds no pictures"),
        (("in.mp4", "-o", "in.mp4"), "would be overwritten"),
        (("in.mp4", "-o", "./sub/../in.mp4"), "would be overwritten"),
        (("in.mp4", "-o", "out.avi"), "films end in .mp4"),
        (("in.mp4", "-o", "out.webm", "--codec", "h264"), ".webm cannot hold h264"),
        (("in.mp4", "-o", "out.mp4", "--codec", "mpeg2"), "--codec"),
        (("in.mp4", "-o", "out.mp4", "--crf", "70"), "--crf cannot be 70"),
        (("in.mp4", "-o", "out.mp4", "--start", "soon"), "--start cannot be soon"),
        (("in.mp4", "-o", "out.mp4", "--start", "2", "--end", "1"), "--end is at 1 s"),
        (("in.mp4", "-o", "out.mp4", "--end", "-9"), "--end is at 0 s"),
        (("in.mp4", "-o", "out.mp4", "--start", "100"), "has no pictures between 100 s"),
        (("in.mp4", "-o", "out.mp4", "--fps", "25"), "--fps is for a folder"),
        (("in.mp4", "-o", "out.mp4", "--compare", "--side-by-side"), "Give --compare or"),
        (("in.mp4", "-o", "out.mp4", "--scale", "99"), "--scale cannot be 99"),
        (("in.mp4", "-o", "x.safetensors/out.mp4"), "cannot be made"),
        (("hdr.mp4", "-o", "out.mp4"), "--tone-map"),
        (("wide.mp4", "-o", "out.webm"), "The pixels of wide.mp4 are not square"),
        (("in.mp4", "-o", "out.mp4", "--network", "nothing"), "There is no network nothing"),
        (("in.mp4", "-o", "out.mp4", "--network", "pulse"), "No face was found in in.mp4"),
        (("in.mp4", "-o", "out.mp4", "--network", "pulse", "--compare"), "give --side-by-side"),
    ],
)
def test_mistakes(folder: Path, arguments: tuple[str, ...], said: str) -> None:
    make_film(folder / "in.mp4", Kind(sounds=0))
    hdr = Kind(pixel_format="yuv420p10le", colours=(9, 1, 9, 16), sounds=0)
    make_film(folder / "hdr.mp4", hdr)
    make_film(folder / "wide.mp4", Kind(aspect=Fraction(16, 15), sounds=0))
    (folder / "empty.mp4").touch()
    Image.fromarray(picture(0, 40, 30)).save(folder / "p.png")
    (folder / "p.png").rename(folder / "picture.mp4")
    (folder / "sub").mkdir()
    done = video(*arguments)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("pulse: ") == 1
    assert not list(folder.glob("out.mp4*"))


def test_high_dynamic_range_is_made_common(folder: Path) -> None:
    hdr = Kind(pixel_format="yuv420p10le", colours=(9, 1, 9, 16))
    film = make_film(folder / "in.mp4", hdr)
    done = video(film, "-o", "out.mp4", "--tone-map")
    assert done.returncode == 0, done.stderr
    assert "high dynamic range" in done.stderr
    colours = open_clip(folder / "out.mp4").colours
    assert (colours.matrix, colours.primaries, colours.transfer) == (1, 1, 1)


def test_a_face_becomes_an_imaginary_one(folder: Path, tiny: Generator) -> None:
    """The exit code says whether each frame's face matches, as the report has it."""
    assert isinstance(tiny, StyleGAN2)
    save(tiny, folder / "tiny.safetensors")
    photo = Image.open(ROOT / "examples" / "astronaut.jpg").convert("RGB")
    (face, *_) = find_upright(photo)
    scale = 48 / Frame.of(face).size
    small = photo.resize((round(photo.width * scale), round(photo.height * scale)))
    (folder / "frames").mkdir()
    for number in range(3):
        matrix = (1.0, 0.0, float(number), 0.0, 1.0, 0.0)
        moved = small.transform(small.size, Image.Transform.AFFINE, matrix)
        moved.save(folder / "frames" / f"{number}.png")
    wish = ("--network", "pulse", "--generator", "tiny.safetensors", "--json")
    done = video("frames", "-o", "out.mp4", *wish)
    report = json.loads((folder / "out.mp4.json").read_text("utf-8"))
    assert [entry["frame"] for entry in report["frames"]] == [1, 2, 3]
    assert all(0 < entry["mse"] < 1 for entry in report["frames"])
    matching = [entry["status"] == "found" for entry in report["frames"]]
    assert matching == [entry["mse"] <= 1e-3 for entry in report["frames"]]
    assert done.returncode == (0 if all(matching) else 1), done.stderr
    assert f"face 0 is drawn in 3 frames and matches in {sum(matching)}" in done.stderr
    record = json.loads(done.stdout)
    (told,) = record["faces"]
    assert (told["frames"], told["found"], told["lost"]) == (3, sum(matching), [])
    assert COMPOSITE.encode() in (folder / "out.mp4").read_bytes()
    with av.open("out.mp4") as out:
        assert "Faces in this film are imaginary" in out.metadata["comment"]
    made = decoded(folder / "out.mp4")
    assert made.shape == (3, 4 * small.height, 4 * small.width, 3)
    corner = made[0, -small.height // 2 :, : small.width]
    assert corner.max() > 150  # The label, on a part that is dark.
    done = video("frames", "-o", "out.mp4", *wish)
    assert "is there already" in done.stderr


def test_links_are_not_fetched(folder: Path) -> None:
    done = video("https://example.com/film.mp4", "-o", "out.mp4")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "pulse: https://example.com/film.mp4 is a link, and links are not fetched: save the film "
        "and give its file.\n"
    )


def test_programs_are_told_what_made_a_film(folder: Path) -> None:
    film = make_film(folder / "in.mp4")
    for suffix in (".mp4", ".m4v", ".mkv", ".mov", ".webm"):
        assert video(film, "-o", f"out{suffix}", "--drop").returncode == 0
        assert COMPOSITE.encode() in (folder / f"out{suffix}").read_bytes()
        assert len(decoded(folder / f"out{suffix}")) == 12


def test_films_that_are_too_large(folder: Path) -> None:
    """What a header says is enough to refuse them."""
    base = Fraction(1, 1000)
    film = make_film(folder / "in.mkv", Kind((320, 304), (0,), base, "ffv1", sounds=0))
    assert video(film, "-o", "out.mkv", "--scale", "40").returncode == 2
    data = film.read_bytes()
    # libav does not even take the larger one for a size.
    for length, said in ((10_000, "has frames of 10000x10000 pixels"), (30_000, "too large")):
        patched = data
        for element, side in ((b"\xb0", 320), (b"\xba", 304)):
            old = element + b"\x82" + side.to_bytes(2)
            assert patched.count(old) == 1
            patched = patched.replace(old, element + b"\x82" + length.to_bytes(2))
        film.write_bytes(patched)
        done = video(film, "-o", "out.mkv")
        assert done.returncode == 2
        assert said in done.stderr
        assert done.stderr.count("pulse: ") == 1
