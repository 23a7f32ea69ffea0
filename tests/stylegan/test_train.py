from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import stylegan
from stylegan import CheckpointError
from stylegan.augment import augment
from stylegan.dataset import Pictures
from stylegan.discriminator import Discriminator
from stylegan.projected import (
    Faces,
    Photographs,
    ProjectedJudge,
    ProjectedJudges,
    Projection,
    generator_loss,
)
from stylegan.stylegan2 import StyleGAN2, StyleGAN2Config, upsample
from stylegan.train import FILES, Trainer
from stylegan.training_config import DivergedError, TrainConfig
from stylegan.widen import widen
from tests.command import stylegan as run

SMALL = TrainConfig(
    resolution=16,
    start_resolution=8,
    images=64,
    start_images=32,
    channels=(8, 8, 8),
    batch=8,
    warmup_images=0,
    precision="float32",
    projected=0.0,
)


@pytest.fixture
def pictures() -> Pictures:
    return Pictures(
        torch.randint(0, 256, (20, 3, 16, 16), dtype=torch.uint8),
        torch.ones(20),
        torch.zeros(20, dtype=torch.bool),
    )


def test_trains_through_both_resolutions(pictures: Pictures) -> None:
    trainer = Trainer(SMALL)
    before = trainer.generator.mapping_network.state_dict()
    before = {name: value.clone() for name, value in before.items()}
    seen = [(p.resolution, p.images) for p in trainer.run(pictures, every=32)]
    assert seen == [(8, 32), (16, 32), (16, 64)]
    assert trainer.average.resolution == 16
    after = trainer.generator.mapping_network.state_dict()
    assert not torch.equal(after["layers.0.weight"], before["layers.0.weight"])
    assert all(p.isfinite().all() for p in trainer.average.parameters())


def test_both_gradients_are_those_of_separate_passes() -> None:
    """One forward pass gives what StyleGAN2's two give on the same pictures."""
    trainer = Trainer(replace(SMALL, augment=0.0))
    real = torch.rand(8, 3, 8, 8) * 2 - 1
    captured: dict[str, list[torch.Tensor]] = {}

    def capture(name: str, network: torch.nn.Module) -> None:
        captured[name] = [p.grad.clone() for p in network.parameters() if p.grad is not None]

    trainer.generator_adam.step = lambda: capture("g", trainer.generator)  # type: ignore[method-assign]
    trainer.discriminator_adam.step = lambda: capture("d", trainer.discriminator)  # type: ignore[method-assign]
    rng = trainer.rng.get_state()
    trainer._step(real)

    trainer.rng.set_state(rng)
    ws, noise = trainer._draw(len(real))
    fake = trainer.generator.synthesis(ws, noise)
    loss = F.softplus(-trainer.discriminator(fake)).mean()
    expected = torch.autograd.grad(loss, list(trainer.generator.parameters()), allow_unused=True)
    wanted = [g for g in expected if g is not None]
    torch.testing.assert_close(captured["g"], wanted, atol=1e-6, rtol=1e-4)
    loss = F.softplus(-trainer.discriminator(real)).mean()
    loss = loss + F.softplus(trainer.discriminator(fake.detach())).mean()
    wanted = list(torch.autograd.grad(loss, list(trainer.discriminator.parameters())))
    torch.testing.assert_close(captured["d"], wanted, atol=1e-6, rtol=1e-4)


def test_growing_forgets_nothing(pictures: Pictures) -> None:
    trainer = Trainer(SMALL)
    z = torch.randn(4, trainer.generator.z_dim)
    images = torch.rand(4, 3, 16, 16)

    def draw(generator: StyleGAN2) -> torch.Tensor:
        w = generator.mapping(z)
        return generator.synthesis(w[:, None].expand(-1, generator.num_layers, -1), "zero")

    coarse = draw(trainer.generator)
    judged = trainer.discriminator(F.avg_pool2d(images, 2))
    trainer.grow()
    torch.testing.assert_close(draw(trainer.generator), upsample(coarse), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(trainer.discriminator(images), judged, atol=1e-5, rtol=1e-4)


def test_a_resumed_training_is_the_same_training(pictures: Pictures, tmp_path: Path) -> None:
    whole = Trainer(SMALL)
    for progress in whole.run(pictures, every=16):
        if progress.resolution == 16 and progress.images == 16:
            whole.save(tmp_path)
    resumed = Trainer(SMALL)
    resumed.restore(tmp_path / "state.pt")
    assert resumed.images == 16
    for _ in resumed.run(pictures):
        pass
    for old, new in zip(whole.average.parameters(), resumed.average.parameters(), strict=True):
        torch.testing.assert_close(old, new)


def test_starting_from_trained_networks(pictures: Pictures, tmp_path: Path) -> None:
    trained = Trainer(SMALL)
    for _ in trained.run(pictures):
        pass
    trained.save(tmp_path)
    files = [tmp_path / name for name in FILES]
    fresh = Trainer(SMALL)
    fresh.start_from(files)
    assert (fresh.generator.resolution, fresh.images) == (16, 0)
    images = torch.rand(4, 3, 16, 16)
    expected = trained.discriminator(images)
    # Weights are stored with half precision.
    torch.testing.assert_close(fresh.discriminator(images), expected, atol=0.02, rtol=0.02)
    for old, new in zip(trained.average.parameters(), fresh.generator.parameters(), strict=True):
        torch.testing.assert_close(old, new.detach(), atol=0.2, rtol=1e-3)
    with pytest.raises(CheckpointError, match="not a judge"):
        fresh.start_from([files[0]] * 4)
    with pytest.raises(CheckpointError, match="ask for the same, or for more"):
        Trainer(replace(SMALL, channels=(8, 8, 4))).start_from(files)
    wide = Trainer(replace(SMALL, channels=(16, 12, 8), discriminator_channels=(8, 8, 8)))
    wide.start_from(files)
    torch.testing.assert_close(draw(wide.generator), draw(fresh.generator), atol=1e-4, rtol=1e-4)
    before = wide.generator.blocks[0].convs[0].weight.detach().clone()  # type: ignore[union-attr]
    for _ in wide.run(pictures):
        pass
    # Nothing read the new maps at first; training takes them into use.
    after = wide.generator.blocks[0].convs[0].weight  # type: ignore[union-attr]
    assert not before[:8, 8:].any()
    assert after[:8, 8:].abs().mean() > 1e-4


def draw(generator: StyleGAN2) -> torch.Tensor:
    rng = torch.Generator().manual_seed(1)
    w = generator.mapping(torch.randn(4, generator.z_dim, generator=rng))
    return generator.synthesis(w[:, None].expand(-1, generator.num_layers, -1), "zero")


HEADS = {
    "heads": replace(SMALL, projected=0.7, images=32, batch=4),
    "face_heads": replace(SMALL, faces=0.7, images=32, batch=4),
}


@pytest.mark.parametrize("kind", HEADS)
def test_projected_heads_learn_first_and_then_teach(
    kind: str, pictures: Pictures, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("stylegan.projected.ALONE", 8)
    trainer = Trainer(replace(HEADS[kind], augment=0.0))
    judge, _ = trainer.judges.of[kind]
    judge.projection.settle(torch.rand(8, 3, 8, 8) * 2 - 1)
    real = torch.rand(4, 3, 8, 8) * 2 - 1
    gradients: list[torch.Tensor] = []
    trainer.generator_adam.step = lambda: gradients.append(  # type: ignore[method-assign]
        trainer.generator.const.grad.clone()  # type: ignore[union-attr]
    )
    trainer.discriminator_adam.step = lambda: None  # type: ignore[method-assign]
    rng = trainer.rng.get_state()
    first = {name: value.clone() for name, value in judge.heads.state_dict().items()}
    for _ in range(3):
        trainer.rng.set_state(rng)
        trainer._step(real)
    # The same pictures: only the heads change, and only from the third step on are they heard.
    torch.testing.assert_close(gradients[0], gradients[1])
    assert (gradients[2] - gradients[0]).norm() > 0.01 * gradients[0].norm()
    changed = judge.heads.state_dict()
    assert any(not torch.equal(first[name], changed[name]) for name in first)

    trainer = Trainer(HEADS[kind])
    trained, _ = trainer.judges.of[kind]
    last = list(trainer.run(pictures))[-1]
    assert (last.heads_real if kind == "heads" else last.faces_real) != 0
    assert (last.faces_real if kind == "heads" else last.heads_real) == 0
    trainer.save(tmp_path)
    resumed = Trainer(HEADS[kind])
    resumed.restore(tmp_path / "state.pt")
    again, _ = resumed.judges.of[kind]
    assert again.seen == trained.seen == trainer.seen
    for old, new in zip(trained.heads.parameters(), again.heads.parameters(), strict=True):
        torch.testing.assert_close(old, new)
    fresh = Trainer(HEADS[kind])
    files = [tmp_path / name for name in FILES]
    assert [file.exists() for file in files[2:]] == [kind == "heads", kind == "face_heads"]
    fresh.start_from(files)
    loaded, _ = fresh.judges.of[kind]
    assert loaded.seen == trainer.seen
    for old, new in zip(trained.heads.parameters(), loaded.heads.parameters(), strict=True):
        torch.testing.assert_close(old, new, atol=1e-2, rtol=1e-2)


@pytest.mark.parametrize("network", [Photographs, Faces])
def test_the_heads_gradient_is_that_of_their_loss(
    network: type[Photographs | Faces], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stylegan.projected.ALONE", 0)
    judge = ProjectedJudge(network(), "cpu", 0)
    judge.projection.settle(torch.rand(8, 3, 16, 16) * 2 - 1)
    judge.heads.eval()  # Or each look at it changes the spectral norm's estimate.
    judge.adam.step = lambda: None  # type: ignore[method-assign]
    fake = (torch.rand(4, 3, 16, 16) * 2 - 1).requires_grad_()
    loss = generator_loss(judge.heads(judge.projection(fake)))
    (expected,) = torch.autograd.grad(loss, fake)
    by_fake, _ = judge.step(torch.rand(4, 3, 16, 16), fake.detach())
    torch.testing.assert_close(by_fake, expected, atol=1e-6, rtol=1e-4)
    assert expected.abs().max() > 0


def test_judges_of_both_kinds_add_up_by_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stylegan.projected.ALONE", 0)
    real, fake = (torch.rand(4, 3, 16, 16) * 2 - 1 for _ in range(2))

    learned: dict[str, dict[str, torch.Tensor]] = {}

    def step(weights: tuple[float, float]) -> tuple[torch.Tensor, torch.Tensor]:
        judges = ProjectedJudges(weights, torch.device("cpu"), torch.float32, 0)
        for name, (judge, _) in judges.of.items():
            judge.heads.eval()  # Or each look at it changes the spectral norm's estimate.
            state = {key: value.clone() for key, value in judge.heads.state_dict().items()}
            judge.heads.load_state_dict(learned.setdefault(name, state))
        return judges.step(real, fake)

    (photographs, first), (faces, second) = step((1.0, 0.0)), step((0.0, 1.0))
    both, logits = step((0.5, 2.0))
    torch.testing.assert_close(both, 0.5 * photographs + 2 * faces)
    torch.testing.assert_close(logits, first + second)
    nothing, logits = step((0.0, 0.0))
    assert not nothing.any()
    assert not logits.any()


def test_faces_are_settled_to_even_features() -> None:
    projection = Projection(Faces(), torch.Generator().manual_seed(0))
    pictures = torch.rand(32, 3, 32, 32) * 2 - 1
    projection.settle(pictures)
    for level, x in enumerate(projection.network(pictures)):
        even = (x - projection.get_buffer(f"mean{level}")) / projection.get_buffer(f"scale{level}")
        assert even.mean((0, 2, 3)).abs().max() < 1e-3
        spread = even.transpose(0, 1).flatten(1).std(1)
        assert 0.9 < spread.median() <= 1.001


def test_first_weights_are_not_the_latents_of_a_small_seed() -> None:
    first = next(Trainer(SMALL).generator.mapping_network.parameters())
    for seed in range(3):
        z = torch.randn(first.shape, generator=torch.Generator().manual_seed(seed))
        assert torch.cosine_similarity(first, z).abs().max() < 0.5


def test_widening_draws_the_same() -> None:
    torch.manual_seed(0)
    small = StyleGAN2(StyleGAN2Config(channels=(8, 8, 4)))
    wide = widen(small, StyleGAN2Config(channels=(16, 8, 6)))
    torch.testing.assert_close(draw(wide), draw(small), atol=1e-5, rtol=1e-4)
    with pytest.raises(ValueError, match="at least as many"):
        widen(small, StyleGAN2Config(channels=(16, 8, 2)))
    with pytest.raises(ValueError, match="at least as many"):
        widen(small, StyleGAN2Config(channels=(16, 8, 4), mapping_layers=8))


def test_precision_is_what_the_processor_multiplies(monkeypatch: pytest.MonkeyPatch) -> None:
    for able, expected in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr("stylegan.train.multiplies_bfloat16", lambda _, able=able: able)
        assert Trainer(replace(SMALL, precision="auto")).generator.precision == expected


def test_groups_of_four_are_judged_apart() -> None:
    judge = Discriminator((8, 8, 8))
    images = torch.randn(8, 3, 16, 16)
    torch.testing.assert_close(judge(images)[4:], judge(images[4:]), atol=1e-5, rtol=1e-4)


def test_r1_is_gamma_half_the_squared_gradient() -> None:
    """For D(x) = <a, x> the gradient by x is a, whatever x is."""
    trainer = Trainer(replace(SMALL, augment=0.0, r1=0.5))

    class Linear(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = torch.nn.Parameter(torch.randn(3, 8, 8))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (x * self.a).sum((1, 2, 3))

    judge = Linear()
    trainer.discriminator = judge  # type: ignore[assignment]
    trainer.discriminator_adam.step = lambda: None  # type: ignore[method-assign]
    penalty = trainer._r1_step(torch.randn(8, 3, 8, 8))
    assert penalty == pytest.approx(judge.a.square().sum().item(), rel=1e-5)
    assert judge.a.grad is not None
    # d/da of gamma / 2 * |a|^2, times the interval of 16.
    torch.testing.assert_close(judge.a.grad, 0.5 * 16 * judge.a.detach())


def test_growing_and_going_on_keep_the_averaged_weights(pictures: Pictures) -> None:
    trainer = Trainer(SMALL)
    trainer.seen = 100_000
    trainer.grow()
    before = [p.clone() for p in trainer.average.parameters()]
    trainer.average.const.fill_(5.0)
    trainer._update_average()
    assert trainer.average.const.mean() > 4.9
    assert before[0].shape == trainer.average.const.shape


def test_divergence_is_said_before_anything_is_saved(pictures: Pictures) -> None:
    trainer = Trainer(SMALL)
    trainer.generator.const.data.fill_(torch.nan)
    with pytest.raises(DivergedError, match="lower learning rate"):
        list(trainer.run(pictures, every=16))


def test_a_state_of_other_networks_or_no_state_is_refused(tmp_path: Path) -> None:
    Trainer(SMALL).save(tmp_path)
    for change in ({"channels": (8, 8, 4)}, {"start_resolution": 16}):
        with pytest.raises(CheckpointError, match="was trained with"):
            Trainer(replace(SMALL, **change)).restore(tmp_path / "state.pt")
    whole = (tmp_path / "state.pt").read_bytes()
    for content in (b"", b"nothing", whole[: len(whole) // 2]):
        (tmp_path / "state.pt").write_bytes(content)
        with pytest.raises(CheckpointError, match="not a training state"):
            Trainer(SMALL).restore(tmp_path / "state.pt")


def test_path_length_penalty_runs_and_is_finite(pictures: Pictures) -> None:
    trainer = Trainer(replace(SMALL, path_length=2.0, start_images=64))
    last = list(trainer.run(pictures, every=64))[-1]
    assert last.path_length > 0
    assert torch.tensor(last.path_length).isfinite()


def test_path_length_is_that_of_equation_4() -> None:
    """For images A ws the gradient of <images, y> by ws is A^T y: known without autograd."""
    trainer = Trainer(replace(SMALL, path_length=2.0))
    generator = trainer.generator
    matrix = torch.randn(3 * 8 * 8, generator.num_layers * generator.w_dim, requires_grad=True)

    def synthesis(ws: torch.Tensor, noise: object) -> torch.Tensor:
        return (ws.flatten(1) @ matrix.T).unflatten(1, (3, 8, 8))

    generator.synthesis = synthesis  # type: ignore[method-assign,assignment]
    trainer.generator_adam.step = lambda: None  # type: ignore[method-assign]
    rng = trainer.rng.get_state()
    penalty = trainer._path_length_step()
    trainer.rng.set_state(rng)
    trainer._draw(4)
    y = torch.randn((4, 3, 8, 8), generator=trainer.rng).flatten(1) / 8
    lengths = (y @ matrix).unflatten(1, (generator.num_layers, -1)).square().sum(2).mean(1).sqrt()
    mean = 0.01 * lengths.mean()
    assert penalty == pytest.approx((lengths - mean).square().mean().item(), rel=1e-4)


def test_augmentation_leaves_some_pictures_alone_and_can_be_turned_off() -> None:
    rng = torch.Generator().manual_seed(0)
    images = torch.rand(200, 3, 16, 16)
    assert augment(images, 0.0, 0.0, rng) is images
    same = (augment(images, 0.5, 0.5, rng) - images).abs().amax((1, 2, 3)) < 1e-5
    # Four operations at one half each and one at a quarter leave 3/64 of the pictures as they are.
    assert 0.015 < same.float().mean() < 0.1


def test_without_changes_of_colour_pixels_are_only_moved() -> None:
    rng = torch.Generator().manual_seed(0)
    images = torch.full((50, 3, 16, 16), 0.5)
    moved = augment(images, 1.0, 0.0, rng)
    assert ((moved - 0.5).abs() < 1e-5).logical_or((moved >= -1e-5) & (moved < 0.5)).all()
    assert not torch.equal(moved, images)
    coloured = augment(images, 0.0, 1.0, rng)
    assert (coloured - coloured.mean((2, 3), keepdim=True)).abs().max() < 1e-5


def test_layers_that_lie_apart_stay_between_two_latents() -> None:
    trainer = Trainer(replace(SMALL, apart=1.0, mixing=0.0))
    ws, _ = trainer._draw(4)
    spread = (ws - ws[:, :1]).norm(dim=2)
    assert (spread[:, 1:] > 0).all()
    plain, _ = Trainer(replace(SMALL, mixing=0.0))._draw(4)
    assert (plain == plain[:, :1]).all()


@pytest.mark.parametrize("first", [8, 16])
def test_a_discriminator_goes_on_with_the_patches_it_learned_on(
    first: int, pictures: Pictures, tmp_path: Path
) -> None:
    """Whether it grew or saw the largest pictures from the first."""
    trainer = Trainer(replace(SMALL, start_resolution=first))
    for _ in trainer.run(pictures, every=64):
        pass
    trainer.save(tmp_path)
    again = Trainer(SMALL)
    again.start_from([tmp_path / name for name in FILES])
    images = torch.rand(4, 3, 16, 16) * 2 - 1
    torch.testing.assert_close(
        again.discriminator(images), trainer.discriminator(images), rtol=1e-2, atol=1e-2
    )
    assert [p.resolution for p in again.run(pictures, every=64)] == [16]
    again.save(tmp_path)
    resumed = Trainer(SMALL)
    resumed.restore(tmp_path / "state.pt")
    torch.testing.assert_close(resumed.discriminator(images), again.discriminator(images))


def test_new_judges_learn_first(pictures: Pictures) -> None:
    """Until then the generator that was trained before stays as it is."""
    trainer = Trainer(replace(SMALL, start_resolution=16, judges_first=16))
    before = {name: x.clone() for name, x in trainer.generator.state_dict().items()}
    judge = {name: x.clone() for name, x in trainer.discriminator.state_dict().items()}
    steps = trainer.run(pictures, every=8)
    for _ in range(2):
        next(steps)
    after = trainer.generator.state_dict()
    assert all(torch.equal(x, before[name]) for name, x in after.items())
    assert not torch.equal(trainer.discriminator.state_dict()["out.weight"], judge["out.weight"])
    next(steps)
    assert not torch.equal(trainer.generator.state_dict()["const"], before["const"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"resolution": 64}, "draw 16 pixels"),
        ({"start_resolution": 12}, "power of two"),
        ({"batch": 6}, "multiple of four"),
        ({"discriminator_channels": (8, 8)}, "as many channel counts"),
    ],
)
def test_impossible_settings_are_refused(changes: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **changes)


def test_command_line_trains_resumes_and_measures(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for i in range(24):
        Image.effect_noise((40, 30), 50 + i).convert("RGB").save(data / f"{i:02d}.png")
    command = ["train", "--data", data, "--output", "run", "--resolution", 16]
    command += ["--start-resolution", 8, "--channels", "8,8,8", "--held-out", 4]
    command += ["--start-images", 32, "--batch", 8, "--faces", 0.7]
    first = run(*command, "--images", 32, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert "20 pictures" in first.stdout
    names = {path.name for path in (tmp_path / "run").iterdir()}
    networks = set(FILES)
    assert names == networks | {"state.pt", "log.jsonl", "16-00000032.png"}
    again = run(*command, "--images", 64, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "Going on at 16 pixels, 32 pictures." in again.stdout
    generator = tmp_path / "run" / "generator.safetensors"
    assert stylegan.load(generator).resolution == 16
    # Who goes on from trained networks need not know their sizes.
    more = ["train", "--data", data, "--output", "more", "--resolution", 16, "--held-out", 4]
    more += ["--start-resolution", 8, "--start-from", "run", "--images", 8, "--batch", 8]
    more += ["--rare", 0.5]
    for _ in range(2):
        done = run(*more, cwd=tmp_path)
        assert done.returncode == 0, done.stderr

    measured = run("evaluate", generator, "--data", data, "--count", 8, cwd=tmp_path)
    assert measured.returncode == 0, measured.stderr
    assert "kernel x 1000, Lite0" in measured.stdout
    with Image.open(tmp_path / "samples.png") as sheet:
        assert sheet.size == (160, 160)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "nowhere", "--output", "x"], "nowhere is not a folder"),
        (["--data", ".", "--output", "x", "--device", "abacus"], "no device abacus"),
        (["--data", ".", "--output", "x", "--batch", "3"], "multiple of four"),
        (["--data", "."], "Missing option"),
    ],
)
def test_command_line_refuses_in_one_sentence(
    arguments: list[str], message: str, tmp_path: Path
) -> None:
    done = run("train", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
