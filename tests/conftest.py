import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from pulse.faces.prepare import LRFace
from pulse.search import SearchConfig
from pulse.upscale import Upscaler
from stylegan import Generator
from stylegan.stylegan2 import StyleGAN2, StyleGAN2Config
from tests.browser import browser as browser

# Tests run in several processes (pyproject.toml), so each of them, and each command that it starts,
# computes in one thread; more would wait for each other.
os.environ["OMP_NUM_THREADS"] = "1"
torch.set_num_threads(1)

SHARED = Path(__file__).parents[2] / "shared"


@pytest.fixture(autouse=True)
def _same_start() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is worked out once for a generator, so that not every test does it again.

    It is there for the embedded generator at once; for others the first test leaves it. All
    processes of the tests share it.
    """
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    with FileLock(base / "fitted.lock"), pytest.MonkeyPatch.context() as patch:
        patch.setenv("PULSE_HOME", str(base / "fitted"))
        Upscaler.load().prepare(LRFace(0, torch.zeros(3, 16, 16)), SearchConfig())
    return base / "fitted"


@pytest.fixture(autouse=True)
def home(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, fitted: Path
) -> Iterator[Path]:
    """A cache folder of the test's own, for the commands that it starts as well."""
    folder = tmp_path_factory.mktemp("home") / "cache"
    shutil.copytree(fitted, folder, copy_function=os.link)
    monkeypatch.setenv("PULSE_HOME", str(folder))
    monkeypatch.delenv("PULSE_MIRROR", raising=False)
    yield folder
    for file in folder.glob(f"*/{64 * '[0-9a-f]'}-*"):  # Known by a file's checksum.
        with suppress(FileExistsError):
            os.link(file, fitted / file.relative_to(folder))


@pytest.fixture
def bare_home(home: Path) -> Path:
    """A cache folder in which nothing is kept yet, and which is not there itself."""
    shutil.rmtree(home)
    return home


@pytest.fixture
def shared() -> Path:
    """The folder of data that is measured with but never shipped."""
    if not SHARED.is_dir():
        pytest.skip(f"the data folder {SHARED} is not here")
    return SHARED


@pytest.fixture
def tiny() -> Generator:
    """A random StyleGAN2 of 32 pixels, small enough for any test, and the same in all."""
    torch.manual_seed(0)
    config = StyleGAN2Config(channels=(16, 16, 8, 8), z_dim=32, w_dim=32, mapping_layers=2)
    generator = StyleGAN2(config).requires_grad_(False).eval()
    for block in generator.blocks:
        for conv in block.convs:  # type: ignore[union-attr]
            conv.noise_strength.fill_(0.1)
    z = torch.randn(1000, config.z_dim)
    generator.w_mean.copy_(generator.mapping(z).mean(0))
    return generator
