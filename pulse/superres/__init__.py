"""Networks that upscale in one pass: pictures, films, and the faces that were found."""

from pulse.superres.networks import Network
from pulse.superres.pictures import PictureConfig, upscale
from pulse.superres.recurrent import recurrent, upscale_film
from pulse.superres.tiles import upscale_tensor
from pulse.superres.weights import NetworkError, build, load, locate, mixed, names, save

__all__ = [
    "Network",
    "NetworkError",
    "PictureConfig",
    "build",
    "load",
    "locate",
    "mixed",
    "names",
    "recurrent",
    "save",
    "upscale",
    "upscale_film",
    "upscale_tensor",
]
