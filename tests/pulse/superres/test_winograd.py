"""Dense blocks by Winograd's algorithm give what plain convolutions give."""

import copy

import pytest
import torch

from pulse.superres.networks import RRDBNetConfig, winograd
from pulse.superres.networks.rrdb import DenseBlock
from pulse.superres.weights import build


@pytest.mark.parametrize(("height", "width"), [(1, 1), (4, 4), (5, 9), (33, 18), (7, 200)])
@pytest.mark.parametrize("strip", [1, 20, 1000])
def test_any_size(height: int, width: int, strip: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(winograd, "STRIP", strip)
    block, x = DenseBlock(12, 5), torch.randn(2, 12, height, width)
    for layer in block.convs:
        torch.nn.init.normal_(layer.bias)  # type: ignore[arg-type]
    expected = block(x)
    assert expected.requires_grad  # Plain, as in training.
    with torch.no_grad():
        made = block(x)
    assert torch.allclose(made, expected, atol=1e-4)
    assert (made - expected).std() < 1e-5 * expected.std()


def test_changed_weights_are_packed_anew() -> None:
    network = build(RRDBNetConfig(2, 1, 8, 4)).requires_grad_(False)
    lr = torch.rand(1, 3, 8, 8)
    before = network(lr)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1.5)
    changed = network(lr)
    assert not torch.allclose(changed, before)
    assert torch.allclose(copy.deepcopy(network).requires_grad_(True)(lr), changed, atol=1e-4)
    network.load_state_dict({name: x / 1.5 for name, x in network.state_dict().items()})
    assert torch.allclose(network(lr), before, atol=1e-4)
