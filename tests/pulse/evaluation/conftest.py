from pathlib import Path

import pytest

from stylegan import Generator
from stylegan.checkpoints import save
from stylegan.stylegan2 import StyleGAN2


@pytest.fixture
def tiny_file(tiny: Generator, tmp_path: Path) -> Path:
    """A random StyleGAN2 of 32 pixels as a file."""
    assert isinstance(tiny, StyleGAN2)
    path = tmp_path / "tiny.safetensors"
    save(tiny, path)
    return path
