"""Checkpoints of other programs, against what those programs make of them."""

import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from stylegan import CheckpointError, archive
from stylegan.checkpoints import open_checkpoint, save
from stylegan.stylegan1 import StyleGAN1, StyleGAN1Config, _up_conv, _up_kernel
from stylegan.stylegan2 import StyleGAN2, StyleGAN2Config, upsample

FIXTURES = {
    "stylegan2-ada-pytorch": ("stylegan2-ada-pytorch.pkl", "StyleGAN2", 1e-4),
    "stylegan2-tf": ("stylegan2-tf.pkl", "StyleGAN2", 1e-4),
    "rosinality": ("rosinality.pt", "StyleGAN2", 1e-4),
    "stylegan1": ("stylegan1-synthesis.pt", "StyleGAN", 1e-4),
    "stylegan3-t": ("stylegan3-t.pkl", "StyleGAN3", 1e-3),
    "stylegan3-r": ("stylegan3-r.pkl", "StyleGAN3", 1e-3),
}


def check(found: Tensor, expected: np.ndarray[Any, Any], tolerance: float) -> None:
    wanted = torch.from_numpy(expected)
    assert (found - wanted).abs().max() < tolerance * wanted.std()


@pytest.mark.parametrize("name", FIXTURES)
def test_the_original_s_pictures(name: str, shared: Path) -> None:
    file, family, tolerance = FIXTURES[name]
    generator = open_checkpoint(shared / "fixtures" / file)
    expected = np.load(shared / "fixtures" / f"{name}.npz")
    assert (generator.family, generator.resolution) == (family, 64)

    w = generator.mapping(torch.from_numpy(expected["z"]))
    check(w, expected["w"] if "w" in expected else expected["ws"][:, 0], tolerance)
    if "ws_psi07" in expected:  # Truncation tells whether w_mean is right.
        check(torch.lerp(generator.w_mean, w, 0.7), expected["ws_psi07"][:, 0], tolerance)
    ws = w[:, None].expand(-1, generator.num_layers, -1)
    mixed = torch.from_numpy(expected["ws_plus"])
    noise = [torch.from_numpy(expected[key]) for key in sorted(expected) if "noise_" in key[:6]]
    assert [tuple(x.shape[2:]) for x in noise] == list(generator.noise_shapes)
    drawn = {
        "image": lambda: generator.synthesis(ws),
        "image_plus": lambda: generator.synthesis(mixed),
        "image_no_noise": lambda: generator.synthesis(mixed, "zero"),
        "image_explicit_noise": lambda: generator.synthesis(mixed, noise),
    }
    met = [key for key in drawn if key in expected]
    assert met
    for key in met:
        check(drawn[key](), expected[key], tolerance)


@pytest.mark.parametrize("name", FIXTURES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_ours_draws_the_same(name: str, dtype: torch.dtype, shared: Path, tmp_path: Path) -> None:
    generator = open_checkpoint(shared / "fixtures" / FIXTURES[name][0])
    save(generator, tmp_path / "g.safetensors", dtype=dtype)
    again = open_checkpoint(tmp_path / "g.safetensors")
    w = generator.mapping(torch.randn(2, generator.z_dim))
    images = [g.synthesis(w[:, None].expand(-1, g.num_layers, -1)) for g in (generator, again)]
    assert again.config == generator.config
    if dtype == torch.float32:
        assert torch.equal(*images)
    else:
        # Rounded weights change the normalised maps a little; StyleGAN3's waves the most.
        assert (images[1] - images[0]).std() < 0.02 * images[0].std()


@pytest.mark.parametrize("name", FIXTURES)
def test_half_precision_draws_nearly_the_same(name: str, shared: Path) -> None:
    path = shared / "fixtures" / FIXTURES[name][0]
    exact = open_checkpoint(path)
    w = exact.mapping(torch.randn(2, exact.z_dim))
    ws = w[:, None].expand(-1, exact.num_layers, -1)
    image = exact.synthesis(ws)
    # StyleGAN3's waves show what is rounded most, and its random pictures are pale.
    brain = 0.04 if exact.family == "StyleGAN3" else 0.01
    for precision, error in ((torch.bfloat16, brain), (torch.float16, 0.005)):
        drawn = open_checkpoint(path, precision=precision).synthesis(ws)
        assert drawn.dtype == torch.float32
        assert (drawn - image).abs().mean() < error * image.std(), precision


def test_pulse_s_two_files(shared: Path, tmp_path: Path) -> None:
    for part in ("synthesis", "mapping"):
        source = shared / "fixtures" / f"stylegan1-{part}.pt"
        (tmp_path / f"{part}.pt").write_bytes(source.read_bytes())
        (tmp_path / f"{part}.pt.sha256").write_text("what a download leaves beside it", "utf-8")
    z = torch.randn(1, 512)
    expected = open_checkpoint(tmp_path / "synthesis.pt").mapping(z)
    for path in (tmp_path, tmp_path / "mapping.pt"):
        assert torch.equal(open_checkpoint(path).mapping(z), expected)
    (tmp_path / "mapping.pt").unlink()
    with pytest.raises(CheckpointError, match="mapping network is missing"):
        open_checkpoint(tmp_path / "synthesis.pt")
    with pytest.raises(CheckpointError, match="0 pairs of files"):
        open_checkpoint(tmp_path)


# Files with other shapes, written as the other programs do.


@pytest.fixture
def foreign() -> Iterator[dict[str, Any]]:
    """Stand-ins for the classes that pickles of other programs name."""

    class Network:
        pass

    def reconstruct(meta: Any) -> None:
        raise AssertionError("something in the file was run")

    modules: dict[str, tuple[str, Any]] = {
        "dnnlib.tflib.network": ("Network", Network),
        "torch_utils.persistence": ("_reconstruct_persistent_obj", reconstruct),
    }
    names: dict[str, Any] = {}
    added: list[str] = []
    for module_name, (name, thing) in modules.items():
        parts = module_name.split(".")
        for end in range(1, len(parts) + 1):
            sys.modules[".".join(parts[:end])] = ModuleType(".".join(parts[:end]))
            added.append(".".join(parts[:end]))
        thing.__module__, thing.__qualname__ = module_name, name
        setattr(sys.modules[module_name], name, thing)
        names[name] = thing
    yield names
    for name in set(added):
        del sys.modules[name]


class Persistent:
    """Pickled as NVIDIA's persistent objects are."""

    def __init__(self, reconstruct: Any, state: dict[str, Any]) -> None:
        self.made = (reconstruct, ({"type": "class", "class_name": "Module", "state": state},))

    def __reduce__(self) -> tuple[Any, Any]:
        return self.made


def random_stylegan2(config: StyleGAN2Config) -> StyleGAN2:
    generator = StyleGAN2(config).requires_grad_(False)
    for name, parameter in generator.named_parameters():
        if name.endswith(("bias", "noise_strength")):
            parameter += 0.1 * torch.randn(parameter.shape)
    generator.w_mean.copy_(torch.randn(config.w_dim))
    return generator


def as_nvidia(generator: StyleGAN2, reconstruct: Any) -> Persistent:
    """The pickle of stylegan2-ada-pytorch for a generator of ours."""

    def module(tensors: dict[str, Tensor], modules: dict[str, Any], **settings: Any) -> Persistent:
        state = {"_parameters": tensors, "_buffers": {}, "_modules": modules, **settings}
        return Persistent(reconstruct, state)

    def convolution(conv: Any, **settings: Any) -> Persistent:
        affine = module({"weight": conv.affine.weight, "bias": conv.affine.bias}, {})
        tensors = {"weight": conv.weight, "bias": conv.bias}
        if hasattr(conv, "noise"):
            tensors |= {"noise_const": conv.noise[0, 0], "noise_strength": conv.noise_strength}
        return module(tensors, {"affine": affine}, **settings)

    config = generator.config
    blocks: dict[str, Any] = {}
    for level, block in enumerate(generator.blocks):
        block: Any
        parts = {
            f"conv{index + (level == 0)}": convolution(
                conv, conv_clamp=config.conv_clamp, activation="lrelu"
            )
            for index, conv in enumerate(block.convs)
        }
        if block.to_rgb is not None:
            parts["torgb"] = convolution(block.to_rgb)
        if block.shortcut is not None:
            parts["skip"] = module({"weight": block.shortcut.weight}, {})
        const = {"const": generator.const[0]} if level == 0 else {}
        blocks[f"b{4 * 2**level}"] = module(const, parts)
    layers = {
        f"fc{index}": module({"weight": fc.weight, "bias": fc.bias}, {}, bias_gain=fc.lr)  # type: ignore[union-attr]
        for index, fc in enumerate(generator.mapping_network.layers)
    }
    mapping = module({"w_avg": generator.w_mean}, layers)
    return module({}, {"synthesis": module({}, blocks), "mapping": mapping})


def test_other_shapes_and_architectures(foreign: dict[str, Any], tmp_path: Path) -> None:
    reconstruct = foreign["_reconstruct_persistent_obj"]
    for config in (
        StyleGAN2Config((12, 10, 6), 24, 20, 3, 0.02, "resnet", 256.0),
        StyleGAN2Config((12, 10), 8, 20, 1, 0.01, "orig"),
        StyleGAN2Config((7, 5, 4, 3), 20, 24, 2, 0.01, "skip", 64.0),
    ):
        generator = random_stylegan2(config)
        content = {"G": None, "D": None, "G_ema": as_nvidia(generator, reconstruct)}
        (tmp_path / "x.pkl").write_bytes(pickle.dumps(content, protocol=4))
        opened = open_checkpoint(tmp_path / "x.pkl")
        assert opened.config == config
        assert all(
            torch.equal(value, generator.state_dict()[name])
            for name, value in opened.state_dict().items()
        )


def test_classes_are_refused(foreign: dict[str, Any], tmp_path: Path) -> None:
    generator = random_stylegan2(StyleGAN2Config((8, 8), 8, 8, 1))
    content = as_nvidia(generator, foreign["_reconstruct_persistent_obj"])
    mapping = content.made[1][0]["state"]["_modules"]["mapping"]
    embed = {"_parameters": {"weight": torch.zeros(8, 8)}, "_modules": {}}
    mapping.made[1][0]["state"]["_modules"]["embed"] = Persistent(mapping.made[0], embed)
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(CheckpointError, match="draws by class"):
        open_checkpoint(tmp_path / "x.pkl")


def test_resnet_and_orig_by_the_book() -> None:
    """Figure 7 of the paper, with NVIDIA's scaling of the sum."""
    for architecture in ("resnet", "orig"):
        config = StyleGAN2Config((6, 5, 4), 8, 8, 1, architecture=architecture)
        generator = random_stylegan2(config)
        ws = torch.randn(2, generator.num_layers, 8)
        x, index = generator.const.expand(2, -1, -1, -1), 0
        for block in generator.blocks:
            block: Any
            before = x
            for conv in block.convs:
                gain, conv.output_gain = conv.output_gain, 1.0
                x = conv(x, ws[:, index], conv.noise)
                conv.output_gain = gain
                index += 1
            if architecture == "resnet" and index > 1:
                weight = block.shortcut.weight / before.shape[1] ** 0.5
                x = (x + upsample(F.conv2d(before, weight))) * 0.5**0.5
        rgb = generator.blocks[-1].to_rgb(x, ws[:, index])  # type: ignore[operator]
        assert torch.allclose(generator.synthesis(ws), rgb, atol=1e-5)


def as_tensorflow(generator: StyleGAN1, network_class: Any) -> tuple[Any, ...]:
    """The pickle of NVIDIA's StyleGAN for a generator of ours, as (G, D, Gs)."""

    def network(variables: dict[str, Tensor], **components: Any) -> Any:
        made = network_class()
        made.__dict__ = {
            "version": 4,
            "name": "x",
            "static_kwargs": {},
            "components": components,
            "variables": [(name, value.detach().numpy()) for name, value in variables.items()],
        }
        return made

    mapping: dict[str, Tensor] = {}
    for index, layer in enumerate(generator.mapping_network.layers):
        layer: Any
        mapping[f"Dense{index}/weight"] = layer.weight.T
        mapping[f"Dense{index}/bias"] = layer.bias * 2**0.5
    synthesis: dict[str, Tensor] = {"4x4/Const/const": generator.const}
    for index, layer in enumerate(generator.layers):
        layer: Any
        side = 4 * 2 ** (index // 2)
        part = (("Const", "Conv") if side == 4 else ("Conv0_up", "Conv1"))[index % 2]
        name = f"{side}x{side}/{part}"
        if layer.weight is not None:
            flip = layer.up and side >= 128
            weight = layer.weight.flip(2, 3) if flip else layer.weight
            synthesis[f"{name}/weight"] = weight.permute(2, 3, 1, 0)
        synthesis[f"{name}/bias"] = layer.bias
        synthesis[f"{name}/Noise/weight"] = layer.noise_strength
        synthesis[f"{name}/StyleMod/weight"] = layer.affine.weight.T
        synthesis[f"{name}/StyleMod/bias"] = layer.affine.bias
        synthesis[f"noise{index}"] = layer.noise
    synthesis["ToRGB_lod0/weight"] = generator.rgb_weight.permute(2, 3, 1, 0)
    synthesis["ToRGB_lod0/bias"] = generator.rgb_bias
    parts = {"mapping": network(mapping), "synthesis": network(synthesis)}
    averaged = network({"dlatent_avg": generator.w_mean, "lod": torch.zeros([])}, **parts)
    return (network({}), network({}), averaged)


def test_stylegan_in_tensorflow(foreign: dict[str, Any], tmp_path: Path) -> None:
    config = StyleGAN1Config((6, 5, 5, 4, 4, 3), 9, 8, 2)  # 128 pixels: one size is fused.
    generator = StyleGAN1(config).requires_grad_(False)
    for name, value in generator.state_dict().items():
        if "weight" not in name:
            value.add_(0.3 * torch.randn(value.shape))
    with (tmp_path / "x.pkl").open("wb") as file:
        pickle.dump(as_tensorflow(generator, foreign["Network"]), file, protocol=2)
    opened = open_checkpoint(tmp_path / "x.pkl")
    assert opened.config == config
    ws = generator.mapping(torch.randn(2, 9))[:, None].expand(-1, 12, -1)
    assert torch.allclose(opened.synthesis(ws), generator.synthesis(ws), atol=1e-4)
    assert torch.equal(opened.w_mean, generator.w_mean)


def test_pulse_s_stylegan_as_tensorflow_has_it(
    shared: Path, foreign: dict[str, Any], tmp_path: Path
) -> None:
    original = open_checkpoint(shared / "fixtures" / "stylegan1-synthesis.pt")
    assert isinstance(original, StyleGAN1)
    content = as_tensorflow(original, foreign["Network"])
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(content))
    expected = np.load(shared / "fixtures" / "stylegan1.npz")
    noise = [torch.from_numpy(expected[key]) for key in sorted(expected) if "noise_" in key[:6]]
    generator = open_checkpoint(tmp_path / "x.pkl")
    image = generator.synthesis(torch.from_numpy(expected["ws_plus"]), noise)
    wanted = torch.from_numpy(expected["image_explicit_noise"])
    # The two differ in the epsilon of the normalisation, which shows where maps are nearly flat.
    assert (image - wanted).std() < 5e-3 * wanted.std()


def test_doubling_is_repeating_convolving_and_blurring() -> None:
    x, weight = torch.randn(2, 3, 5, 6), torch.randn(4, 3, 3, 3)
    repeated = F.conv2d(x.repeat_interleave(2, 2).repeat_interleave(2, 3), weight, padding=1)
    taps = torch.tensor([1.0, 2.0, 1.0]) / 4
    blur = torch.outer(taps, taps).expand(4, 1, 3, 3)
    expected = F.conv2d(repeated, blur, padding=1, groups=4)
    assert torch.allclose(_up_conv(x, _up_kernel(weight)), expected, atol=1e-5)
    # NVIDIA's fused form, which takes its kernel the other way round.
    kernel = F.pad(weight.transpose(0, 1), (1, 1, 1, 1))
    kernel = sum(kernel[:, :, i : i + 4, j : j + 4] for i in (0, 1) for j in (0, 1))
    fused = F.conv2d(
        F.conv_transpose2d(x, torch.as_tensor(kernel), stride=2, padding=1),
        blur,
        padding=1,
        groups=4,
    )
    assert torch.allclose(_up_conv(x, _up_kernel(weight.flip(2, 3))), fused, atol=1e-5)


@pytest.mark.parametrize("zipped", [True, False])
def test_torch_s_archives(zipped: bool, tmp_path: Path) -> None:
    """What torch saves, new and old, is read as torch reads it."""
    long = torch.arange(24, dtype=torch.float64)
    content = {
        "view": long.view(4, 6).T,
        "part": long[3:9:2],
        "half": torch.randn(3).half(),
        "brain": torch.randn(3).bfloat16(),
        "bits": torch.tensor([True, False]),
        "none": torch.zeros(0, 3),
        "parameter": torch.nn.Parameter(torch.randn(2)),
        "array": np.asfortranarray(np.arange(6, dtype=np.int64).reshape(2, 3)),
        "number": np.float32(2.5),
    }
    torch.save(content, tmp_path / "x.pt", _use_new_zipfile_serialization=zipped)
    budget = archive.budget_of(tmp_path / "x.pt")
    found = archive.read(tmp_path / "x.pt", budget)
    reader = archive.Tensors(budget)
    for name, value in content.items():
        tensor = reader.tensor(found[name])
        assert tensor is not None
        expected = value.detach() if isinstance(value, Tensor) else torch.as_tensor(value)
        assert tensor.dtype == expected.dtype
        assert torch.equal(tensor, expected), name
