"""A batch whose faces a network makes larger."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from pulse.superres import weights
from pulse.superres.networks import SRResNetConfig
from stylegan.checkpoints import save
from stylegan.stylegan2 import StyleGAN2
from tests.command import pulse

SIZE = 300


def test_larger_faces(tiny: StyleGAN2, tmp_path: Path) -> None:
    save(tiny, tmp_path / "tiny.safetensors")
    network = weights.build(SRResNetConfig(4, 1, 8, kernel=3)).requires_grad_(False)
    for parameter in network.last.parameters():
        parameter.mul_(0.05)  # It does little more than to upscale.
    weights.save(network, tmp_path / "x.safetensors")
    (tmp_path / "in").mkdir()
    for seed in range(2):
        pixels = np.random.default_rng(seed).integers(100, 156, (8, 8, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "in" / f"{seed}.png")
    common = (
        "batch", "in", "out", "--generator", "tiny.safetensors", "-n", 2, "--steps", 2,
        "--tolerance", 1,
    )  # fmt: skip
    done = pulse(*common, "--size", SIZE, "--finish", "x.safetensors", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for seed in range(2):
        folder = tmp_path / "out" / str(seed)
        record = json.loads((folder / "result.json").read_text("utf-8"))
        assert record["size"] == SIZE
        assert record["finish"] == {
            "network": "x.safetensors",
            "sha256": weights.identity(tmp_path / "x.safetensors"),
        }
        faces = {}
        for candidate in record["candidates"]:
            assert candidate["status"] == "found"
            assert candidate["mse_exact"] is not None
            with Image.open(folder / candidate["file"]) as image:
                assert image.size == (SIZE, SIZE)
                assert image.info["Finished"].startswith("x.safetensors sha256:")
                faces[-candidate["plausibility"], candidate["mse"]] = np.array(image)
        with Image.open(folder / "comparison.png") as sheet:
            shown = np.array(sheet)
        # The first column is the input's; the best face stands beside it, as it is.
        for column, place in enumerate(sorted(faces), 1):
            left = 8 + column * (SIZE + 8)
            assert np.array_equal(shown[8 : 8 + SIZE, left : left + SIZE], faces[place])
    # What was made at another size is not taken for it.
    done = pulse(*common, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "out" / "0" / "candidate-00.png") as image:
        assert image.size == (32, 32)
    done = pulse(*common, "--size", 16, cwd=tmp_path)
    assert done.returncode == 2
    assert "--size" in done.stderr
