"""The command line as a person meets it: in a process of its own."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import stylegan
from pulse.cli.app import main
from pulse.superres import weights
from pulse.superres.networks import SRResNetConfig
from stylegan.checkpoints import save
from stylegan.evaluate import samples
from stylegan.generator import Noise
from stylegan.stylegan2 import StyleGAN2, StyleGAN2Config
from tests.command import Done, Started, fresh, pulse
from tests.systems import LINUX, NOT_ROOT

ROOT = Path(__file__).parents[3]


def drawn(size: int) -> Image.Image:
    """A face of the embedded generator, downscaled: no real person, and certain to be findable."""
    (pixels,) = list(samples(stylegan.load(stylegan.EMBEDDED), 1, seed=1))
    image = Image.fromarray(pixels.permute(1, 2, 0).numpy())
    return image.resize((size, size), Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def face() -> Image.Image:
    return drawn(16)


@pytest.fixture
def quick(tiny: StyleGAN2, tmp_path: Path) -> list[str]:
    """One step with a small generator, where nothing depends on what it draws."""
    save(tiny, tmp_path / "tiny.safetensors")
    return ["-n", "1", "--steps", "1", "--generator", "tiny.safetensors"]


def test_the_main_job(face: Image.Image, tmp_path: Path) -> None:
    face.save(tmp_path / "face.png")
    done = fresh("run", "face.png", "--steps", "100", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "results" / "face"
    record = json.loads((folder / "result.json").read_text("utf-8"))
    assert record["lr_size"] == 16
    assert record["generator"]["resolution"] == 128
    assert len(record["candidates"]) == 4
    assert "found" in [c["status"] for c in record["candidates"]]
    for candidate in record["candidates"]:
        with Image.open(folder / candidate["file"]) as image:
            assert image.size == (128, 128)
            low = np.array(image.resize((16, 16), Image.Resampling.BICUBIC), float) / 255
        error = np.square(low - np.array(face, float) / 255).mean()
        if candidate["status"] == "found":
            assert candidate["mse"] <= 1e-3
            assert candidate["mse_exact"] < 2.68e-5  # What SR3 reports (table 1).
            assert error < 2.68e-5
        else:
            assert error == pytest.approx(candidate["mse"], rel=0.05)
    said = re.findall(r"candidate-(\d+)\.png  found .*  looks like a face: (\d+)%", done.stdout)
    shares = {c["file"]: c["plausibility"] for c in record["candidates"] if c["status"] == "found"}
    assert len(said) == sum(share >= 0.01 for share in shares.values()) > 0
    percents = [int(percent) for _, percent in said]
    assert percents == sorted(percents, reverse=True)
    for number, percent in said:
        assert abs(shares[f"candidate-{number}.png"] * 100 - int(percent)) <= 0.5
    assert str(Path("results/face/candidate-03.png")) in done.stdout
    assert "imaginary" in done.stdout
    # Nobody watches: plain lines, no control characters.
    assert re.search(r"face\.png: step 0/100, best mse [\d. ]+", done.stderr)
    assert re.search(r"face\.png: ended at step \d+/100, best mse [\d. ]+✓", done.stderr)
    assert "\x1b" not in done.stderr


def test_the_same_command_makes_the_same_picture(
    face: Image.Image, quick: list[str], tmp_path: Path
) -> None:
    face.save(tmp_path / "face.png")
    for folder in ("a", "b"):
        done = pulse("run", "face.png", "-o", folder, *quick, "--steps", "5", cwd=tmp_path)
        assert done.returncode in (0, 1), done.stderr
    one, two = (tmp_path / f / "face" / "candidate-00.png" for f in "ab")
    assert one.read_bytes() == two.read_bytes()


def test_json_and_several_inputs(face: Image.Image, quick: list[str], tmp_path: Path) -> None:
    face.save(tmp_path / "one.png")
    drawn(256).save(tmp_path / "two.jpg")
    arguments = ["--json", *quick, "-n", "2", "--preset", "paper", "--format", "webp"]
    arguments += ["--precision", "bfloat16"]
    done = pulse("run", "one.png", "two.jpg", *arguments, "--seed", "0", cwd=tmp_path)
    assert done.returncode == 1
    records = json.loads(done.stdout)
    assert [r["input"] for r in records] == ["one.png", "two.jpg"]
    assert [r["lr_size"] for r in records] == [16, 16]
    assert records[0]["config"]["preset"] == "paper"
    assert records[0]["config"]["precision"] == "bfloat16"
    assert records[0]["config"]["search"]["optimiser"] == "adam"
    assert [c["seed"] for c in records[0]["candidates"]] == [0, 1]
    assert {c["status"] for c in records[0]["candidates"]} == {"not_converged"}
    assert (tmp_path / "results" / "two" / "candidate-01.webp").exists()


def test_degradations(face: Image.Image, tiny: StyleGAN2, tmp_path: Path) -> None:
    """All of them at once, and again from what the record says; and grey of itself."""
    save(tiny, tmp_path / "tiny.safetensors")
    face.convert("L").save(tmp_path / "grey.png")
    face.save(tmp_path / "face.jpg", quality=60)
    mask = Image.new("L", (16, 16), "white")
    mask.paste("black", (0, 12, 16, 16))
    (tmp_path / "masks").mkdir()
    mask.save(tmp_path / "masks" / "chin.png")
    one = ["-n", "1", "--steps", "2", "--json", "--generator", "tiny.safetensors"]
    spec = "noise:0.02,mask:masks/chin.png,jpeg:60,grey,blur:0.5,box"
    done = pulse("run", "face.jpg", "grey.png", *one, "--degrade", spec, cwd=tmp_path)
    assert done.returncode in (0, 1), done.stderr
    for record in json.loads(done.stdout):
        assert (
            record["config"]["degrade"]
            == "blur:0.5,box,grey,jpeg:60,mask:masks/chin.png,noise:0.02"
        )
        assert record["tolerance"] == pytest.approx(1.4e-3)
        assert record["config"]["search"]["tolerance"] == pytest.approx(1e-3)
        assert record["candidates"][0]["mse"] is not None
    shown = np.array(Image.open(tmp_path / "results" / "face" / "input.png"))
    assert (shown[12:] == 0).all()
    assert (shown[:12].std(axis=2) == 0).all()

    again = json.loads(done.stdout)[0]["config"]["degrade"]
    second = pulse("run", "face.jpg", *one, "--degrade", again, "-o", "b", cwd=tmp_path)
    first, same = (tmp_path / f / "face" / "candidate-00.png" for f in ("results", "b"))
    assert second.returncode in (0, 1), second.stderr
    assert first.read_bytes() == same.read_bytes()

    done = pulse("run", "grey.png", *one, cwd=tmp_path)
    assert "grey.png: It is grey and is matched in grey." in done.stderr
    assert json.loads(done.stdout)[0]["config"]["degrade"] == "bicubic,grey"
    done = pulse("run", "grey.png", *one, "--degrade", "bicubic", cwd=tmp_path)
    assert "grey.png: It is grey but is matched in colour" in done.stderr
    assert json.loads(done.stdout)[0]["config"]["degrade"] == "bicubic"


def test_a_bad_input_does_not_stop_the_good_ones(face: Image.Image, tmp_path: Path) -> None:
    face.save(tmp_path / "good.png")
    done = pulse("run", "bad.png", "good.png", "-n", "1", "--steps", "1", cwd=tmp_path)
    assert done.returncode == 2
    assert "pulse: bad.png does not exist" in done.stderr
    assert (tmp_path / "results" / "good" / "result.json").exists()


def test_a_photo_its_faces_and_the_photo_with_a_new_face(quick: list[str], tmp_path: Path) -> None:
    arguments = ["-n", "1", "--steps", "1", "--paste", "--show-faces", "--lr-size", "auto"]
    done = pulse("run", ROOT / "examples" / "astronaut.jpg", *arguments, cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    folder = tmp_path / "results" / "astronaut"
    record = json.loads((folder / "result.json").read_text("utf-8"))
    assert record["framing"]["detector"] == "frontal"
    assert record["candidates"][0]["photo"] == "photo-00.png"
    assert record["lr_size"] == 64
    with Image.open(folder / "photo-00.png") as image:
        assert image.size == (512, 512)
        assert image.info["Synthetic"] == "yes"
        assert "A face in this photo is imaginary" in image.info["Description"]
        assert "compositeWithTrainedAlgorithmicMedia" in image.info["XML:com.adobe.xmp"]
    with Image.open(folder / "faces.png") as image:
        assert image.size == (512, 512)
    assert "faces.png shows its faces by number." in done.stderr
    assert "face 0 from (175, 76) to (265, 166), framed by 172 pixels." in done.stderr
    # Without --paste the pasted photo of the last time goes.
    again = [*quick, "--align", "never"]
    done = pulse("run", ROOT / "examples" / "astronaut.jpg", *again, cwd=tmp_path)
    assert not (folder / "photo-00.png").exists()
    assert json.loads((folder / "result.json").read_text("utf-8"))["framing"] is None


def test_several_faces_of_a_photo(quick: list[str], tmp_path: Path) -> None:
    with Image.open(ROOT / "examples" / "astronaut.jpg") as image:
        head = image.crop((110, 0, 340, 230))
    pair = Image.new("RGB", (460, 230))
    pair.paste(head, (0, 0))
    pair.paste(head.resize((180, 180)), (250, 20))
    pair.save(tmp_path / "pair.png")
    done = pulse("run", "pair.png", "--face", "all", *quick, cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    for folder, index in (("pair", 0), ("pair-1", 1)):
        record = json.loads((tmp_path / "results" / folder / "result.json").read_text("utf-8"))
        assert record["face"] == index
    done = pulse("run", "pair.png", "-o", "one", *quick, cwd=tmp_path)
    assert "pair.png: It shows 2 faces; the largest is used, see --face." in done.stderr
    assert [path.name for path in (tmp_path / "one").iterdir()] == ["pair"]
    done = pulse("run", "pair.png", "--face", "2", *quick, cwd=tmp_path)
    refused(done, "pulse: pair.png has no face 2, it has faces 0 to 1", "--show-faces")
    head.save(tmp_path / "pair-1.png")
    done = pulse("run", "pair.png", "pair-1.png", "-o", "b", "--face", "all", *quick, cwd=tmp_path)
    assert done.returncode == 2
    assert "would be written to the same folder pair-1" in done.stderr


def test_crops_alone(tmp_path: Path) -> None:
    Image.new("RGB", (80, 80)).save(tmp_path / "nobody.png")
    photo = ROOT / "examples" / "astronaut.jpg"
    done = pulse("align", "nobody.png", photo, "-o", "out", "--size", "256", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("pulse: No face was found in nobody.png (80x80 pixels)")
    assert done.stdout == f"{Path('out/astronaut.png')}\n"
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"astronaut.png", "astronaut.json"}
    with Image.open(tmp_path / "out" / "astronaut.png") as image:
        assert image.size == (256, 256)
    record = json.loads((tmp_path / "out" / "astronaut.json").read_text("utf-8"))
    assert (record["width"], record["height"], record["size"]) == (512, 512, 256)
    (face,) = record["faces"]
    assert face["file"] == "astronaut.png"
    assert np.array(face["landmarks"]).shape == (68, 2)
    assert np.array(face["quad"]).shape == (4, 2)


Convert = Callable[[Image.Image], Image.Image]


def same(image: Image.Image) -> Image.Image:
    return image


def grey(image: Image.Image) -> Image.Image:
    return image.convert("L").convert("RGB")


def white(image: Image.Image) -> Image.Image:
    """White where `_transparent` lets it through."""
    image = image.copy()
    image.paste("white", (0, 0, image.width, 4))
    return image


# How a file is written, and what of the face must then be matched, up to 4 of 255.
GOOD: dict[str, tuple[Callable[[Image.Image, Path], object], Convert]] = {
    "grey.png": (lambda im, p: im.convert("L").save(p), grey),
    "alpha.png": (lambda im, p: _transparent(im).save(p), white),
    "cmyk.jpg": (lambda im, p: im.convert("CMYK").save(p, quality=100, subsampling=0), same),
    "palette.gif": (lambda im, p: im.quantize(256).save(p), same),
    "oblong.png": (lambda im, p: _framed(im).save(p), same),
    "16bit.png": (lambda im, p: _deep(im).save(p), grey),
    "frames.gif": (
        lambda im, p: im.quantize(256).save(p, save_all=True, append_images=[grey(im)]),
        same,
    ),
    "turned.jpg": (lambda im, p: _turned(im, p), same),
}


def _deep(image: Image.Image) -> Image.Image:
    """Grey with 16 bits."""
    return Image.fromarray(np.array(image.convert("L"), np.uint16) * 257)


def _transparent(image: Image.Image) -> Image.Image:
    image = image.convert("RGBA")
    image.paste((0, 0, 0, 0), (0, 0, image.width, 4))
    return image


def _framed(image: Image.Image) -> Image.Image:
    """The face with four black rows above and below."""
    frame = Image.new("RGB", (16, 24))
    frame.paste(image, (0, 4))
    return frame


def _turned(image: Image.Image, path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image.transpose(Image.Transpose.ROTATE_90).save(path, exif=exif, quality=100, subsampling=0)


def test_unusual_but_usable_inputs(face: Image.Image, quick: list[str], tmp_path: Path) -> None:
    for name, (write, _) in GOOD.items():
        write(face, tmp_path / name)
    done = pulse("run", *GOOD, *quick, "--align", "never", cwd=tmp_path)
    assert done.returncode in (0, 1), done.stderr
    for name, (_, convert) in GOOD.items():
        folder = tmp_path / "results" / Path(name).stem
        assert (folder / "candidate-00.png").exists()
        matched = np.array(Image.open(folder / "input.png"), int)
        assert np.abs(matched - np.array(convert(face), int)).mean() < 4, name
    assert "alpha.png: Its transparent parts were put on white." in done.stderr
    assert "oblong.png: It is not square; the 16x16 pixels in the middle" in done.stderr
    assert "frames.gif: It has several frames; only the first is used." in done.stderr


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing.png": (lambda p: None, "does not exist"),
    "empty.png": (lambda p: p.write_bytes(b""), "is empty"),
    "text.png": (lambda p: p.write_text("hello", "utf-8"), "not a picture of a known format"),
    "folder": (lambda p: p.mkdir(), "is a folder"),
    "cut.png": (lambda p: _cut(p), "is damaged"),
    "dot.png": (lambda p: Image.new("RGB", (1, 1)).save(p), "1x1 pixels, too few"),
    "wide.png": (lambda p: Image.new("RGB", (300, 200)).save(p), "crop it to a square"),
    "strip.png": (
        lambda p: Image.effect_noise((3000, 4), 90).save(p),
        "is a strip of 3000x4 pixels",
    ),
    "white.png": (lambda p: Image.new("RGB", (16, 16), "white").save(p), "is of one colour"),
    "n" * 300: (lambda p: None, "cannot be looked up"),
    "huge.png": (lambda p: Image.new("1", (10_000, 10_000)).save(p), "at most 64 megapixels"),
    "bomb.png": (lambda p: Image.new("1", (20_000, 20_000)).save(p), "at most 64 megapixels"),
}


def _cut(path: Path) -> None:
    noise = torch.randint(0, 256, (64, 64, 3), dtype=torch.uint8).numpy()
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:5000])


def test_links_are_not_fetched_and_patterns_are(
    face: Image.Image, quick: list[str], tmp_path: Path
) -> None:
    face.save(tmp_path / "one.png")
    face.save(tmp_path / "two.png")
    given = ["https://example.com/a.png", "t*.png", "x*.png", "one.png", "*e.png"]
    done = pulse("run", *given, *quick, cwd=tmp_path)
    assert done.returncode == 2
    said = [line for line in done.stderr.splitlines() if line.startswith("pulse: ")]
    assert said == [
        "pulse: https://example.com/a.png is a link, and links are not fetched: save the picture "
        "and give its file.",
        "pulse: Nothing is called like x*.png; check the pattern.",
    ]
    assert {path.name for path in (tmp_path / "results").iterdir()} == {"one", "two"}
    done = pulse("align", "https://example.com/a.png", cwd=tmp_path)
    assert (done.returncode, "links are not fetched" in done.stderr) == (2, True)
    done = pulse("upscale", "https://example.com/a.png", cwd=tmp_path)
    assert (done.returncode, "links are not fetched" in done.stderr) == (2, True)


@pytest.mark.parametrize("name", BAD)
def test_unusable_inputs(name: str, tmp_path: Path) -> None:
    write, message = BAD[name]
    write(tmp_path / name)
    start = "pulse: No face was found in " if name == "wide.png" else "pulse: "
    refused(pulse("run", name, cwd=tmp_path), f"{start}{name}", message)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--generator", "nobody"], "No generator is named nobody"),
        (["--generator", "face.png"], "it is none of safetensors, torch archive and pickle"),
        (["--device", "abacus"], "'abacus' is not one of"),
        (["--device", "cuda"], "no device cuda here; give --device auto or cpu"),
        (["--precision", "float64"], "'float64' is not one of"),
        (["--steps", "0"], "--steps"),
        (["--steps", "many"], "--steps"),
        (["-n", "0"], "--candidates"),
        (["--seed", "-1"], "--seed"),
        (["--tolerance", "0"], "tolerance must be a number above 0"),
        (["--tolerance", "nan"], "tolerance must be a number above 0"),
        (["--tolerance", "1e40"], "tolerance must be a number above 0"),
        (
            ["--degrade", "melt"],
            "cannot take 'melt'; give one or more of bicubic, box, point, blur:",
        ),
        (["--degrade", "blur:-1"], "blur of -1 cannot be"),
        (["--degrade", "noise:nan"], "Noise of nan cannot be"),
        (["--degrade", "jpeg:0"], "from 1 to 100"),
        (["--degrade", "box,bicubic"], "says two things of resampling"),
        (["--degrade", "mask:none.png"], "none.png does not exist"),
        (["--degrade", "mask:face.png,mask:face.png"], "says two things of mask"),
        (["--degrade", "mask:dark.png"], "ignores everything"),
        (["--lr-size", "3"], "--lr-size takes a whole number of pixels from 4 on"),
        (["--lr-size", "few"], "or auto; not few"),
        (["--face", "-1"], "--face takes largest, all or a number"),
        (["--face", "1"], "face.png has no face 1, it has one face, number 0"),
        (["--align", "maybe"], "--align"),
        (["--align", "always", "--detector", "eyes"], "--detector"),
        (["--generator", "g" * 300], "cannot be looked up"),
        (["--lr-size", "32"], "cannot be matched at 32: leave out --lr-size or give a smaller"),
        (["--preset", "magic"], "--preset"),
        (["--format", "bmp"], "--format"),
        (["--nonsense"], "--nonsense"),
        (["-o", "face.png"], "cannot be made"),
        (["-o", "face.png/deeper"], "cannot be made"),
        pytest.param(["-o", "/proc/nowhere"], "cannot be made", marks=LINUX),
        (["sub/face.jpg"], "would be written to the same folder"),
    ],
)
def test_wrong_calls(arguments: list[str], message: str, face: Image.Image, tmp_path: Path) -> None:
    if arguments[-1] == "cuda" and torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    face.save(tmp_path / "face.png")
    Image.new("L", (16, 16)).save(tmp_path / "dark.png")
    refused(pulse("run", "face.png", *arguments, cwd=tmp_path), "pulse: ", message)
    assert not (tmp_path / "results" / "face").exists()


@NOT_ROOT
def test_an_output_folder_that_may_not_be_written(face: Image.Image, tmp_path: Path) -> None:
    face.save(tmp_path / "face.png")
    (tmp_path / "out").mkdir(mode=0o500)
    refused(pulse("run", "face.png", "-o", "out", cwd=tmp_path), "pulse: ", "may not be written")


def refused(done: Done, start: str, message: str) -> None:
    """Exit code 2 and one plain sentence on stderr."""
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stdout == ""
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert done.stderr.startswith(start)
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_no_arguments_and_version(tmp_path: Path) -> None:
    assert "run" in pulse(cwd=tmp_path).stdout
    assert re.fullmatch(r"pulse \d+\.\d+\.\d+\n", pulse("--version", cwd=tmp_path).stdout)
    shown = pulse("run", "--help", cwd=tmp_path).stdout
    for option in ("--steps", "--seed", "--lr-size", "--face", "--align", "--paste", "--json"):
        assert option in shown


def test_stopping_keeps_what_was_found(face: Image.Image, tmp_path: Path) -> None:
    face.save(tmp_path / "one.png")
    face.save(tmp_path / "two.png")
    endless = ["--steps", "100000", "--tolerance", "1e-9", "-n", "2", "--json"]
    process = Started(["run", "one.png", "two.png", *endless], cwd=tmp_path)
    assert process.stderr is not None
    for line in process.stderr:
        if "step 25/" in line:
            break
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Stopped; what was found so far is written." in errors
    assert "Traceback" not in errors
    record = json.loads((tmp_path / "results" / "one" / "result.json").read_text("utf-8"))
    assert json.loads(output) == [record]
    assert record["interrupted"] is True
    assert len(record["candidates"]) == 2
    assert all(c["mse"] < 0.02 for c in record["candidates"])
    assert not (tmp_path / "results" / "two" / "result.json").exists()


def test_stopping_at_any_moment_is_quiet(face: Image.Image, tmp_path: Path) -> None:
    face.save(tmp_path / "face.png")
    for wait in (0.1, 0.4, 1.2):
        process = Started(["run", "face.png", "--tolerance", "1e-9"], cwd=tmp_path)
        time.sleep(wait)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        if process.returncode == -signal.SIGINT:
            continue  # The program had not begun.
        assert process.returncode == 1
        assert "topped" in errors


def test_a_result_that_cannot_be_written_does_not_cost_the_others(
    face: Image.Image, quick: list[str], tmp_path: Path
) -> None:
    for name in ("one.png", "two.png", "...png"):
        face.save(tmp_path / name, "PNG")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "one").write_text("in the way", "utf-8")
    arguments = ["-o", "out", *quick, "--json"]
    done = pulse("run", "one.png", "two.png", "...png", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert "out/one cannot be made" in done.stderr
    assert [r["input"] for r in json.loads(done.stdout)] == ["two.png", "...png"]
    assert (tmp_path / "out" / "...png" / "result.json").exists()
    assert (tmp_path / "out" / "one").read_text("utf-8") == "in the way"


@LINUX
def test_a_person_who_watches_sees_a_bar(
    face: Image.Image, quick: list[str], tmp_path: Path
) -> None:
    face.save(tmp_path / "face.png")
    import pty  # Here, since Windows has none.

    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "pulse", "run", "face.png", *quick, "--steps", "8"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "120"},
        stderr=slave,
        stdout=subprocess.DEVNULL,
    )
    os.close(slave)
    seen = b""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            part = os.read(master, 4096)
        except OSError:  # The other end is closed.
            break
        if not part:
            break
        seen += part
    process.wait(timeout=60)
    os.close(master)
    text = seen.decode(errors="replace")
    assert "8/8 steps" in text
    assert "best mse" in text
    assert "\x1b[" in text


def test_too_little_memory_is_a_sentence(
    face: Image.Image, quick: list[str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    def fail(self: StyleGAN2, ws: torch.Tensor, noise: Noise = None) -> torch.Tensor:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried too much")

    face.save(tmp_path / "face.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(StyleGAN2, "synthesis", fail)
    monkeypatch.setattr(sys, "argv", ["pulse", "run", "face.png", *quick])
    assert main() == 2
    said = capsys.readouterr().err
    assert "too little memory to draw face.png" in said
    assert "Traceback" not in said


@LINUX
@pytest.mark.slow
def test_memory_at_1024_pixels(face: Image.Image, tmp_path: Path) -> None:
    """StyleGAN2's largest configuration, with random weights."""
    face.save(tmp_path / "face.png")
    config = StyleGAN2Config((512, 512, 512, 512, 512, 256, 128, 64, 32), 512, 512, 8)
    save(StyleGAN2(config), tmp_path / "large.safetensors")
    command = (
        "import resource, subprocess, sys\n"
        "limit = int(sys.argv[1]) * 2**30 or resource.RLIM_INFINITY\n"
        "resource.setrlimit(resource.RLIMIT_AS, (limit, limit))\n"
        "done = subprocess.run([sys.executable, '-m', 'pulse', *sys.argv[2:]])\n"
        "print('peak', resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)\n"
        "sys.exit(done.returncode)"
    )

    def run(limit: int) -> Done:
        return subprocess.run(
            [sys.executable, "-c", command, str(limit), "run", "face.png", "-n", "1", "--steps",
             "1", "--preset", "paper", "--generator", "large.safetensors", "--precision",
             "float32"],
            capture_output=True, text=True, cwd=tmp_path, check=False,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )  # fmt: skip

    done = run(0)
    assert done.returncode == 1, done.stderr
    assert int(done.stdout.rpartition("peak ")[2]) < 4000
    done = run(2)
    assert done.returncode == 2
    assert "too little memory to draw face.png" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("preset", ["paper", pytest.param("default", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "name",
    [
        "stylegan2-ada-pytorch.pkl",
        "stylegan2-ada-pytorch-hostile.pkl",
        "stylegan2-tf.pkl",
        "rosinality.pt",
        "stylegan1-synthesis.pt",
        "stylegan3-t.pkl",
        "stylegan3-r.pkl",
    ],
)
def test_any_family(
    name: str, preset: str, shared: Path, face: Image.Image, tmp_path: Path
) -> None:
    """The default preset draws some hundred pictures to know the generator, the paper's a few."""
    face.save(tmp_path / "face.png")
    generator = shared / "fixtures" / name
    words = ("-n", 2, "--steps", 4, "--preset", preset, "--generator", generator, "--json")
    done = pulse("run", "face.png", *words, cwd=tmp_path)
    assert done.returncode == 1, done.stderr  # Random weights draw no faces.
    (record,) = json.loads(done.stdout)
    assert record["generator"]["resolution"] == 64
    errors = [candidate["mse"] for candidate in record["candidates"]]
    assert all(0 < error < 1 for error in errors)
    for candidate in record["candidates"]:
        with Image.open(tmp_path / "results" / "face" / candidate["file"]) as image:
            assert image.size == (64, 64)
    assert {path.name for path in tmp_path.iterdir()} == {"face.png", "results"}


def test_larger_faces(face: Image.Image, tmp_path: Path) -> None:
    face.save(tmp_path / "face.png")
    network = weights.build(SRResNetConfig(4, 1, 8, kernel=3)).requires_grad_(False)
    for parameter in network.last.parameters():
        parameter.mul_(0.05)  # It does little more than to upscale.
    weights.save(network, tmp_path / "x.safetensors")
    common = ("run", "face.png", "-n", 1, "--steps", 60, "--finish", "x.safetensors")
    done = pulse(*common, "--size", 200, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (record,) = json.loads(done.stdout)
    assert record["size"] == 200
    assert record["finish"]["network"] == "x.safetensors"
    assert record["candidates"][0]["mse_exact"] < 1e-5
    with Image.open(tmp_path / "results" / "face" / "candidate-00.png") as image:
        assert image.size == (200, 200)
        assert image.info["Finished"].startswith("x.safetensors sha256:")
        small = image.resize((16, 16), Image.Resampling.BICUBIC)
    assert np.abs(np.array(small, float) - np.array(face, float)).max() < 3
    for wrong, words in (((64,), "--size"), ((300, "--finish", "off"), "--finish")):
        refused(pulse(*common, "--size", *wrong, cwd=tmp_path), "", words)
