"""Training in bfloat16, whatever the processor multiplies: it is only slower where it does not."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from pulse.superres.clip_pairs import ClipConfig, Clips
from pulse.superres.discriminators import DiscriminatorConfig
from pulse.superres.networks import FRVSRConfig, SRResNetConfig
from pulse.superres.pairs import PairConfig, Pairs
from pulse.superres.shelf import Shelf
from pulse.superres.train_film import FilmTrainConfig, FilmTraining
from pulse.superres.training import Training
from pulse.superres.training_config import TrainConfig

CONTENT = TrainConfig(
    network=SRResNetConfig(4, 1, 8, batch_norm=True, kernel=3),
    steps=4, batch=2, warmup=1, precision="bfloat16",
)  # fmt: skip
GAN = replace(CONTENT, gan=True, pretrain=0.0, discriminator=DiscriminatorConfig(4, "patch"))
FILM = FilmTrainConfig(
    network=FRVSRConfig(4, 1, 8), steps=4, batch=2, warmup=1, precision="bfloat16"
)
LEARNED = replace(FILM, network=FRVSRConfig(4, 1, 8, flow=(8, 8)), flow_share=0.5)


def shelf(seed: int) -> Shelf:
    """A smooth picture."""
    made = Shelf()
    coarse = torch.rand(1, 3, 12, 12, generator=torch.Generator().manual_seed(seed)) * 255
    large = nn.functional.interpolate(coarse, (256, 256), mode="bicubic").clamp(0, 255)
    made.add(large[0].permute(1, 2, 0).byte().numpy())
    return made


def training_of(config: TrainConfig) -> tuple[Training, Pairs | Clips]:
    if isinstance(config, FilmTrainConfig):
        return FilmTraining(config), Clips(ClipConfig(patch=12, frames=3), shelf(0), shelf(1))
    return Training(config), Pairs(PairConfig(patch=12), shelf(0), torch.ones(1), shelf(1))


@contextmanager
def spied(layer: nn.Module) -> Iterator[set[torch.dtype]]:
    """The types of what a layer gives."""
    kinds: set[torch.dtype] = set()

    def note(module: nn.Module, given: tuple[Tensor, ...], made: Tensor) -> None:
        kinds.add(made.dtype)

    handle = layer.register_forward_hook(note)
    yield kinds
    handle.remove()


@pytest.mark.parametrize(
    "config", [CONTENT, GAN, FILM, LEARNED], ids=["content", "gan", "film", "learned flow"]
)
def test_weights_and_the_last_layer_stay_float32(config: TrainConfig) -> None:
    training, source = training_of(config)
    assert training.precision == torch.bfloat16
    inner = next(m for m in training.network.blocks.modules() if isinstance(m, nn.Conv2d))  # type: ignore[union-attr]
    before = [p.clone() for p in training.network.parameters()]
    with spied(inner) as inside, spied(training.network.last) as last:
        while training.done < 1:
            if training.stage_is_over and training.next_stage is not None:
                training.begin(training.next_stage)
            training.advance(source)
    assert (inside, last) == ({torch.bfloat16}, {torch.float32})
    parts = [training.network, training.average, *([training.judge] if training.judge else [])]
    for tensor in (x for part in parts for x in part.state_dict().values()):
        assert tensor.dtype in (torch.float32, torch.int64)
        assert tensor.isfinite().all()
    after = training.network.parameters()
    assert all(not torch.equal(x, y) for x, y in zip(before, after, strict=True))


def test_the_discriminator_looks_in_bfloat16_and_judges_in_float32() -> None:
    training, source = training_of(GAN)
    assert training.judge is not None
    first = next(m for m in training.judge.modules() if isinstance(m, nn.Conv2d))
    with spied(first) as inside, spied(training.judge) as verdict:
        progress = training.advance(source)
    assert (inside, verdict) == ({torch.bfloat16}, {torch.float32})
    assert progress.stage == "gan"
    assert progress.adversarial > 0


@pytest.mark.parametrize("config", [CONTENT, FILM, LEARNED], ids=["content", "film", "learned"])
def test_a_step_is_that_of_float32_but_for_rounding(config: TrainConfig) -> None:
    grads = []
    for precision in ("float32", "bfloat16"):
        training, source = training_of(replace(config, precision=precision))
        loss, _ = training._losses(source.draw(2, torch.Generator().manual_seed(3), "cpu"))
        loss.backward()
        parameters = training.network.parameters()
        grads.append(torch.cat([p.grad.flatten() for p in parameters if p.grad is not None]))
    likeness = torch.cosine_similarity(*grads, dim=0)
    assert likeness > 0.98


@pytest.mark.parametrize(
    ("precision", "able", "expected"),
    [
        ("auto", True, torch.bfloat16),
        ("auto", False, torch.float32),
        ("bfloat16", False, torch.bfloat16),
        ("float32", True, torch.float32),
    ],
)
def test_auto_is_what_the_processor_multiplies(
    monkeypatch: pytest.MonkeyPatch,
    precision: Literal["auto", "bfloat16", "float32"],
    able: bool,
    expected: torch.dtype,
) -> None:
    monkeypatch.setattr("pulse.superres.training.multiplies_bfloat16", lambda _: able)
    assert Training(replace(CONTENT, precision=precision)).precision == expected
