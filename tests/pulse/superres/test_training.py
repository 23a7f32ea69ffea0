"""Training of networks: what is drawn, where it ends, and that stopping costs nothing."""

import json
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pulse.imaging.degrade import DegradeConfig
from pulse.imaging.pictures import InputError
from pulse.superres.discriminators import DiscriminatorConfig
from pulse.superres.networks import RRDBNetConfig, SRResNetConfig, TransformNetConfig
from pulse.superres.pairs import PairConfig, Pairs
from pulse.superres.shelf import Shelf
from pulse.superres.sources import read_pairs
from pulse.superres.train import BEFORE_GAN, LOG, NETWORK, STATE, train
from pulse.superres.training_config import TrainConfig
from pulse.superres.weights import NetworkError, load, read_metadata

SMALL = TrainConfig(
    network=SRResNetConfig(4, 1, 8, kernel=3), steps=20, batch=2, warmup=2, precision="float32"
)
GAN = replace(SMALL, gan=True, steps=6, discriminator=DiscriminatorConfig(channels=4, head="patch"))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Pictures with edges and gradients, none of them square."""
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(6):
        coarse = Image.fromarray(rng.integers(0, 256, (9, 7, 3), np.uint8))
        large = coarse.resize((448, 576), Image.Resampling.NEAREST).rotate(10 * number)
        large.resize((112, 144), Image.Resampling.BOX).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def pairs(photos: Path) -> Pairs:
    return read_pairs([photos], PairConfig(patch=12, held_out=2))


@pytest.mark.parametrize("degradation", ["bicubic", "blur:1.2", "jpeg:40", "noise:0.05", "grey"])
def test_patches_are_what_they_would_be_in_the_whole_picture(
    photos: Path, degradation: str
) -> None:
    config = PairConfig(patch=12, held_out=2, degradation=DegradeConfig.parse(degradation))
    pairs = read_pairs([photos], replace(config, upright=True))
    pair = pairs.draw(3, torch.Generator().manual_seed(1))
    assert pair.lr.shape == (3, 3, 12, 12)
    assert pair.hr.shape == (3, 3, 48, 48)
    torch.testing.assert_close(pair.lr * 255, (pair.lr * 255).round())
    if degradation in ("bicubic", "blur:1.2"):
        # The same place, degraded with the whole of its picture.
        for lr, hr in zip(*pair, strict=True):
            assert any(
                _found(pairs.training[i], lr, hr, config.degradation)
                for i in range(len(pairs.training))
            )
    shrunk = torch.nn.functional.avg_pool2d(pair.hr, 4)
    if degradation == "grey":
        shrunk = shrunk.mean(1, keepdim=True).expand_as(shrunk)
    assert (shrunk - pair.lr).abs().mean() < 0.2


def _found(
    pixels: np.ndarray, lr: torch.Tensor, hr: torch.Tensor, degradation: DegradeConfig
) -> bool:
    whole = torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 255
    for image in (whole, whole.flip(2)):
        for top in range(image.shape[1] - 47):
            match = (image[:, top : top + 48].unfold(2, 48, 1).permute(2, 0, 1, 3) - hr).abs()
            for left in torch.nonzero(match.amax((1, 2, 3)) < 1e-6).flatten().tolist():
                image = image[:, top % 4 :, left % 4 :]
                rows, columns = (n // 4 for n in image.shape[1:])
                low = degradation.oblong(rows, columns, 4)(image[:, : 4 * rows, : 4 * columns])
                low = low.clamp(0, 1)  # Interpolation goes beyond at edges, 8 bits do not.
                part = low[:, top // 4 : top // 4 + 12, left // 4 : left // 4 + 12]
                inner = (part - lr)[:, 3:-3, 3:-3].abs().max()
                return bool(inner < 1.01 / 255)
    return False


def test_zips_tables_and_squares(photos: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for file in sorted(photos.iterdir()):
            archive.write(file, file.name)
    config = PairConfig(scale=4, patch=8, square=64, resized=False, held_out=2)
    one = read_pairs([tmp_path / "a.zip"], config)
    other = read_pairs([photos], config)
    assert len(one.training) == len(other.training) == 4
    for i in range(4):
        assert one.training[i].shape == (64, 64, 3)
        np.testing.assert_array_equal(one.training[i], other.training[i])


def test_smaller_copies(photos: Path) -> None:
    pairs = read_pairs([photos], PairConfig(patch=12, held_out=2, resized=True))
    shapes = {pairs.training[i].shape[:2] for i in range(len(pairs.training))}
    assert shapes == {(144, 112), (108, 84), (72, 56)}


def test_a_shelf_keeps_what_does_not_fit_into_memory_in_a_file() -> None:
    pictures = [
        np.random.default_rng(i).integers(0, 256, (5 + i, 7, 3), np.uint8) for i in range(9)
    ]
    shelf = Shelf(budget=300)
    for picture in pictures:
        shelf.add(picture)
    assert sum(isinstance(shelf[i], np.memmap) for i in range(9)) > 5
    for i, picture in enumerate(pictures):
        np.testing.assert_array_equal(shelf[i], picture)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (PairConfig(patch=40), "smaller than the 160 pixels"),
        (PairConfig(patch=12, held_out=6), "6 are kept apart"),
    ],
)
def test_too_little(photos: Path, config: PairConfig, words: str) -> None:
    with pytest.raises(InputError, match=words):
        read_pairs([photos], config)


def test_too_few_and_broken(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_pairs([tmp_path / "nothing"], PairConfig())
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="at least two"):
        read_pairs([tmp_path / "empty"], PairConfig())
    (tmp_path / "empty" / "a.png").write_bytes(b"\x89PNG nonsense")
    (tmp_path / "empty" / "b.png").write_bytes(b"\x89PNG nonsense")
    with pytest.raises(InputError, match=r"a\.png"):
        read_pairs([tmp_path / "empty"], PairConfig())
    with pytest.raises(InputError, match="too small for patches"):
        PairConfig(patch=24, scale=8, square=128)


@pytest.mark.parametrize(
    "change",
    [{"steps": None}, {"pretrain": 2.0}, {"lr": -1.0}, {"gan": True, "batch": 1}],
    ids=str,
)
def test_settings_that_cannot_be(change: dict[str, float | None]) -> None:
    with pytest.raises(InputError):
        replace(SMALL, **change)  # type: ignore[arg-type]


def test_training_beats_bicubic_upscaling_and_says_so(pairs: Pairs, tmp_path: Path) -> None:
    network = SRResNetConfig(4, 2, 16, kernel=3)
    config = replace(SMALL, network=network, steps=250, batch=8, lr=5e-3, average=0.97)
    *_, last = train(config, pairs, tmp_path / "out")
    assert (last.step, last.done, last.stage) == (250, 1.0, "content")
    assert last.psnr_y is not None
    assert last.bicubic is not None
    assert last.psnr_y > last.bicubic + 0.3
    lines = (tmp_path / "out" / LOG).read_text("utf-8").splitlines()
    assert json.loads(lines[-1])["psnr_y"] == last.psnr_y
    network = load(tmp_path / "out" / NETWORK)
    assert network.config == config.network
    notes = read_metadata(tmp_path / "out" / NETWORK)
    assert notes["degradation"] == "bicubic"
    assert notes["steps"] == "250"
    assert float(notes["psnr_y"]) == pytest.approx(last.psnr_y, abs=1e-3)
    with Image.open(tmp_path / "out" / "sheet-0000250.png") as sheet:
        assert sheet.width == 4 * sheet.height // 2  # Four columns, two pictures held out.


@pytest.mark.parametrize("config", [SMALL, GAN], ids=["content", "gan"])
def test_stopping_anywhere_changes_nothing(
    pairs: Pairs, tmp_path: Path, config: TrainConfig
) -> None:
    config = replace(config, steps=6)
    list(train(config, pairs, tmp_path / "whole"))
    for stop in (2, 2, 1, 9):
        run = train(config, pairs, tmp_path / "parts")
        for number, _ in enumerate(run, 1):
            if number == stop:
                run.close()  # type: ignore[attr-defined]
                break
    one, other = (load(tmp_path / name / NETWORK).state_dict() for name in ("whole", "parts"))
    for name, x in one.items():
        assert torch.equal(x, other[name]), name
    assert [p.step for p in train(config, pairs, tmp_path / "parts")] == [6]


@pytest.mark.parametrize("adversarial", ["vanilla", "relativistic"])
def test_both_stages(pairs: Pairs, tmp_path: Path, adversarial: str) -> None:
    config = replace(
        GAN, adversarial=adversarial, loss="perceptual", pixel=0.1, adversarial_weight=0.01
    )  # type: ignore[arg-type]
    told = list(train(config, pairs, tmp_path))
    assert [p.stage for p in told] == ["content"] * 3 + ["gan"] * 3
    assert told[2].psnr_y is not None  # Measured before the discriminator came.
    assert all(p.adversarial > 0 for p in told[3:])
    before, after = load(tmp_path / BEFORE_GAN), load(tmp_path / NETWORK)
    assert not torch.equal(before.last.weight, after.last.weight)


@pytest.mark.parametrize(
    "network", [TransformNetConfig(4, 1, 8), RRDBNetConfig(4, 1, 8, 4)], ids=str
)
def test_other_families_learn_with_features(
    pairs: Pairs, tmp_path: Path, network: TransformNetConfig | RRDBNetConfig
) -> None:
    told = list(
        train(replace(SMALL, network=network, loss="perceptual", steps=12), pairs, tmp_path)
    )
    assert told[-1].content < told[0].content


def test_a_start_from_other_weights(pairs: Pairs, tmp_path: Path) -> None:
    list(train(replace(SMALL, steps=3), pairs, tmp_path / "first"))
    start = load(tmp_path / "first" / NETWORK)
    config = replace(SMALL, steps=1, lr=1e-9)
    list(train(config, pairs, tmp_path / "second", start=start))
    for name, x in load(tmp_path / "second" / NETWORK).state_dict().items():
        torch.testing.assert_close(x, start.state_dict()[name], atol=1e-4, rtol=1e-2)


def test_a_state_of_another_training(pairs: Pairs, tmp_path: Path) -> None:
    list(train(replace(SMALL, steps=1), pairs, tmp_path))
    with pytest.raises(NetworkError, match="give the same sizes"):
        next(iter(train(replace(SMALL, network=SRResNetConfig(4, 2, 8)), pairs, tmp_path)))
    (tmp_path / STATE).write_bytes(b"torn")
    with pytest.raises(NetworkError, match="move it away"):
        next(iter(train(SMALL, pairs, tmp_path)))
