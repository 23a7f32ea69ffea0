"""Upscaling networks as tests need them."""

import torch

from pulse.superres.weights import AnyNetwork, Config, build


def shaken(config: Config) -> AnyNetwork:
    """A network whose every weight tells: a new one may begin with nothing in its last layer."""
    network = build(config).eval().requires_grad_(False)
    for parameter in network.parameters():
        parameter.add_(0.05 * torch.randn_like(parameter))
    return network
