from pathlib import Path

import pytest

from pulse.superres import finish, weights
from pulse.superres.networks import CompactConfig


@pytest.fixture
def small_networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Instead of those that are shipped, networks that are quick; they repeat each pixel."""
    folder = tmp_path / "networks"
    folder.mkdir()
    for name in ("srgan-faces-x4", "srgan-faces-x8", "srresnet-x4", "unet-faces-x8"):
        network = weights.build(CompactConfig(int(name[-1]), 1, 4))
        weights.save(network, folder / f"{name}.safetensors")
    monkeypatch.setattr(weights, "SHIPPED", folder)
    monkeypatch.setattr(weights, "_realesrgan", lambda: None)
    monkeypatch.setattr(finish, "FINISHERS", ("srgan-faces-x4",))
