from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import stylegan
from stylegan import CheckpointError, Generator
from stylegan.checkpoints import read_metadata, save
from stylegan.stylegan2 import StyleGAN2


def draw(generator: Generator) -> torch.Tensor:
    rng = torch.Generator().manual_seed(3)
    w = generator.mapping(torch.randn(2, generator.z_dim, generator=rng))
    return generator.synthesis(w[:, None].expand(-1, generator.num_layers, -1))


def test_round_trip(tiny: Generator, tmp_path: Path) -> None:
    assert isinstance(tiny, StyleGAN2)
    path = tmp_path / "g.safetensors"
    save(tiny, path, {"trained_images": "7"}, torch.float32)
    opened = stylegan.load(path)
    assert torch.equal(draw(opened), draw(tiny))
    assert torch.equal(opened.w_mean, tiny.w_mean)
    assert read_metadata(path)["trained_images"] == "7"
    assert [p.name for p in tmp_path.iterdir()] == ["g.safetensors"]


def test_half_precision_weights_draw_nearly_the_same(tiny: Generator, tmp_path: Path) -> None:
    assert isinstance(tiny, StyleGAN2)
    save(tiny, tmp_path / "g.safetensors")
    image = draw(tiny)
    assert (draw(stylegan.load(tmp_path / "g.safetensors")) - image).std() < 5e-3 * image.std()


def test_no_weight_asks_for_gradients(tiny: Generator, tmp_path: Path) -> None:
    assert isinstance(tiny, StyleGAN2)
    save(tiny, tmp_path / "g.safetensors")
    opened = stylegan.load(tmp_path / "g.safetensors")
    assert isinstance(opened, StyleGAN2)
    assert not any(p.requires_grad for p in opened.parameters())


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"\x80\x02}q\x00."])
def test_other_files_are_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "g.bin").write_bytes(content)
    with pytest.raises(CheckpointError, match="cannot be opened as a generator"):
        stylegan.load(tmp_path / "g.bin")


def test_a_cut_file_is_refused(tiny: Generator, tmp_path: Path) -> None:
    assert isinstance(tiny, StyleGAN2)
    path = tmp_path / "g.safetensors"
    save(tiny, path)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        stylegan.load(path)


def test_someone_elses_safetensors_is_refused(tmp_path: Path) -> None:
    save_file({"x": torch.zeros(3)}, tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError, match="not a generator"):
        stylegan.load(tmp_path / "x.safetensors")


def test_weights_that_do_not_fit_are_refused(tiny: Generator, tmp_path: Path) -> None:
    metadata = {"format": "pulse-generator-1", "family": "stylegan2", "config": '{"channels": [8]}'}
    save_file({"x": torch.zeros(3)}, tmp_path / "x.safetensors", metadata)
    with pytest.raises(CheckpointError, match="do not fit"):
        stylegan.load(tmp_path / "x.safetensors")


def test_unknown_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="No generator is named nobody"):
        stylegan.load("nobody")
    with pytest.raises(CheckpointError, match="is a folder"):
        stylegan.load(tmp_path)


def test_the_embedded_generator() -> None:
    generator = stylegan.load(stylegan.EMBEDDED)
    assert stylegan.locate(stylegan.EMBEDDED).stat().st_size < 20e6
    assert generator.resolution == 128
    images = draw(generator)
    assert images.isfinite().all()
    # Faces are neither flat nor noise: neighbouring pixels agree.
    assert images.std() > 0.2
    assert (images[..., 1:] - images[..., :-1]).abs().mean() < 0.2 * images.std()
    # w_mean is that of the weights in the file.
    z = torch.randn(20_000, generator.z_dim)
    spread = generator.mapping(z).std(0)
    assert ((generator.mapping(z).mean(0) - generator.w_mean).abs() < 0.05 * spread + 1e-3).all()


def test_the_embedded_generator_in_half_precision() -> None:
    exact = stylegan.load(stylegan.EMBEDDED)
    half = stylegan.load(stylegan.EMBEDDED, precision=torch.bfloat16)
    error = (draw(half) - draw(exact)).abs()
    assert error.mean() < 4e-3
    assert (error < 1e-2).float().mean() > 0.97
