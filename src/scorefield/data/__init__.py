"""Data: anything that is an array becomes one `Collection`; a `Pipeline` serves it in model units
as a function of (seed, images seen).
"""

from .collection import Collection
from .images import read_images
from .moments import Moments, measure
from .pipeline import Pipeline, split
from .sources import NAMES, load
from .toys import TOYS, toy_density

__all__ = [
    "NAMES",
    "TOYS",
    "Collection",
    "Moments",
    "Pipeline",
    "load",
    "measure",
    "read_images",
    "split",
    "toy_density",
]
