"""The networks, one file for each family: a frozen config and a plain module."""

from pulse.superres.networks.compact import Compact, CompactConfig
from pulse.superres.networks.frvsr import FRVSR, FRVSRConfig
from pulse.superres.networks.parts import ConfigError, Network
from pulse.superres.networks.rrdb import RRDBNet, RRDBNetConfig
from pulse.superres.networks.srresnet import (
    MSRResNet,
    MSRResNetConfig,
    SRResNet,
    SRResNetConfig,
)  # fmt: skip
from pulse.superres.networks.transform import TransformNet, TransformNetConfig
from pulse.superres.networks.unet import UNet, UNetConfig

__all__ = [
    "FRVSR", "Compact", "CompactConfig", "ConfigError", "FRVSRConfig", "MSRResNet",
    "MSRResNetConfig", "Network", "RRDBNet", "RRDBNetConfig", "SRResNet", "SRResNetConfig",
    "TransformNet", "TransformNetConfig", "UNet", "UNetConfig",
]  # fmt: skip
