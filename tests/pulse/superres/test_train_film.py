"""Training of FRVSR on clips."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from pulse import superres
from pulse.imaging.motion import warp
from pulse.imaging.pictures import InputError
from pulse.superres import weights
from pulse.superres.clip_pairs import ClipConfig, Clips
from pulse.superres.discriminators import DiscriminatorConfig
from pulse.superres.networks import FRVSR, CompactConfig, FRVSRConfig
from pulse.superres.networks.frvsr import FlowNetwork
from pulse.superres.pairs import Pair
from pulse.superres.recurrent import unrolled
from pulse.superres.shelf import Shelf
from pulse.superres.train import BEFORE_GAN, LOG, NETWORK, STATE
from pulse.superres.train_film import FilmTrainConfig, FilmTraining, train_film

TINY_CONFIG = FRVSRConfig(4, 1, 8, flow=(8, 8))
TINY = FilmTrainConfig(network=TINY_CONFIG, steps=6, batch=2, lr=2e-3, warmup=1, flow_share=0)


@pytest.fixture(scope="module")
def clips() -> Clips:
    shelves = []
    for seed in range(2):
        coarse = np.random.default_rng(seed).integers(0, 256, (60, 60, 3), np.uint8)
        shelf = Shelf()
        shelf.add(np.asarray(Image.fromarray(coarse).resize((480, 480), Image.Resampling.BICUBIC)))
        shelves.append(shelf)
    return Clips(ClipConfig(patch=16, frames=4), shelves[0], shelves[1])


def weights_of(path: Path) -> torch.Tensor:
    network = superres.load(path)
    return torch.cat([p.flatten() for p in network.parameters()])


@pytest.mark.parametrize("network", [TINY_CONFIG, FRVSRConfig(4, 1, 8)], ids=str)
def test_training_brings_the_loss_down(clips: Clips, network: FRVSRConfig) -> None:
    training = FilmTraining(replace(TINY, network=network, steps=60))
    pair = clips.draw(8, torch.Generator().manual_seed(1))

    @torch.no_grad()
    def content() -> float:
        sr, _ = training._drawn(pair.lr)
        return float(training._content(sr, pair.hr.flatten(0, 1)))

    before = content()
    while training.done < 1:
        training.advance(clips)
    assert content() < 0.96 * before


def test_training_leaves_what_it_says(clips: Clips, tmp_path: Path) -> None:
    steps = list(train_film(TINY, clips, tmp_path))
    assert [p.step for p in steps] == list(range(1, 7))
    assert steps[-1].psnr_y is not None
    assert steps[-1].bicubic is not None
    network = superres.load(tmp_path / NETWORK)
    assert isinstance(network, FRVSR)
    notes = weights.read_metadata(tmp_path / NETWORK)
    assert notes["degradation"] == "blur:0.375,point"
    assert notes["steps"] == "6"
    assert (tmp_path / LOG).read_text("utf-8").count("\n") == 1
    assert (tmp_path / "sheet-0000006.png").is_file()


@pytest.mark.parametrize("gan", [False, True])
def test_what_was_stopped_goes_on_as_if_it_had_not(clips: Clips, tmp_path: Path, gan: bool) -> None:
    judge, share = DiscriminatorConfig(4, "patch"), 0.5 if gan else 0.3
    ping_pong = 0.5 if gan else 0.0
    config = replace(TINY, gan=gan, discriminator=judge, flow_share=share, ping_pong=ping_pong)
    stages = [p.stage for p in train_film(config, clips, tmp_path / "a")]
    assert stages == ["flow"] * 2 + (["content"] + ["gan"] * 3 if gan else ["content"] * 4)
    assert (tmp_path / "a" / BEFORE_GAN).is_file() == gan
    for stop in (1, 4):  # While flow learns alone, and after the discriminator came.
        run = train_film(config, clips, tmp_path / "b")
        while next(run).step < stop:
            pass
        run.close()  # type: ignore[attr-defined]
        assert (tmp_path / "b" / STATE).is_file()
    last = list(train_film(config, clips, tmp_path / "b"))[-1]
    assert last.step == 6
    assert last.stage == ("gan" if gan else "content")
    assert torch.equal(weights_of(tmp_path / "a" / NETWORK), weights_of(tmp_path / "b" / NETWORK))


def test_the_discriminator_sees_three_successive_frames_of_one_clip() -> None:
    training = FilmTraining(replace(TINY, gan=True, discriminator=DiscriminatorConfig(4, "patch")))
    frames = torch.arange(8.0)[:, None, None, None].expand(8, 3, 5, 5)
    seen = training._seen(frames)[:, ::3, 0, 0]
    assert seen.tolist() == [[0, 1, 2], [1, 2, 3], [4, 5, 6], [5, 6, 7]]


def test_flow_is_learned_from_the_warped_frames_alone(clips: Clips) -> None:
    training = FilmTraining(TINY)
    pair = clips.draw(2, torch.Generator().manual_seed(0))
    _, loss = training._drawn(pair.lr)
    loss.backward()
    assert isinstance(training.network, FRVSR)
    assert isinstance(training.network.flow, FlowNetwork)
    assert training.network.flow.last.weight.grad is not None
    assert training.network.flow.last.weight.grad.abs().max() > 0
    assert all(p.grad is None for p in training.network.blocks.parameters())


def test_flow_learns_alone_at_first(clips: Clips) -> None:
    training = FilmTraining(replace(TINY, steps=8, flow_share=0.5, precision="float32"))
    before = {name: p.clone() for name, p in training.network.named_parameters()}
    told = [training.advance(clips) for _ in range(4)]
    assert {p.stage for p in told} == {"flow"}
    for name, p in training.network.named_parameters():
        assert torch.equal(p, before[name]) != name.startswith("flow."), name
    pair = clips.draw(2, torch.Generator().manual_seed(0))
    loss, _ = training._losses(pair)
    assert isinstance(training.network, FRVSR)
    warped = unrolled(training.network, pair.lr).warped
    torch.testing.assert_close(loss, F.l1_loss(warped, pair.lr[:, 1:]))
    assert training.stage_is_over
    assert training.next_stage == "content"
    training.begin("content")
    assert training.advance(clips).stage == "content"
    assert not torch.equal(training.network.last.weight, before["last.weight"])


def test_learning_alone_finds_where_things_were(
    clips: Clips, monkeypatch: pytest.MonkeyPatch
) -> None:
    still = F.interpolate(torch.rand(1, 3, 6, 6), (24, 24), mode="bicubic")
    moved = torch.tensor([0.8, -0.4])[None, :, None, None].expand(1, 2, 24, 24)
    lr = torch.stack([warp(still, n * moved) for n in range(3)], 1)
    monkeypatch.setattr(clips, "draw", lambda *_: Pair(lr, lr))
    training = FilmTraining(replace(TINY, steps=60, lr=1e-2, flow_share=1.0, precision="float32"))
    told = [training.advance(clips) for _ in range(60)]
    assert {p.stage for p in told} == {"flow"}
    assert training._losses(Pair(lr, lr))[0] < 0.5 * told[0].content


def test_a_flow_that_is_computed_does_not_learn_alone(clips: Clips) -> None:
    config = replace(TINY, network=FRVSRConfig(4, 1, 8), flow_share=0.5)
    assert FilmTraining(config).advance(clips).stage == "content"


def test_a_flow_that_is_computed_has_no_loss(clips: Clips) -> None:
    training = FilmTraining(replace(TINY, network=FRVSRConfig(4, 1, 8)))
    _, loss = training._drawn(clips.draw(2, torch.Generator().manual_seed(0)).lr)
    assert loss == 0


def test_ping_pong_compares_the_way_back(clips: Clips) -> None:
    pair = clips.draw(2, torch.Generator().manual_seed(0))
    plain, both = (FilmTraining(replace(TINY, ping_pong=p)) for p in (0.0, 1.0))
    (sr, loss), (sr_both, loss_both) = plain._drawn(pair.lr), both._drawn(pair.lr)
    assert torch.allclose(sr, sr_both, atol=1e-6)
    assert loss_both > loss


def test_what_cannot_be(clips: Clips, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Only FRVSR"):
        FilmTrainConfig(network=CompactConfig())
    with pytest.raises(InputError, match="cannot be negative"):
        FilmTrainConfig(warp=-1)
    with pytest.raises(InputError, match="is a share"):
        FilmTrainConfig(flow_share=1.5)
    short = Clips(ClipConfig(patch=16, frames=2), clips.stills, clips.tests)
    with pytest.raises(InputError, match="clips of 3 frames"):
        next(train_film(replace(TINY, gan=True), short, tmp_path))
