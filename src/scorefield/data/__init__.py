"""Data: every source becomes one `Dataset`, and a `Pipeline` serves it in model units.

Batches are a function of (seed, images seen).
"""

from .card import Split, is_card_data, open_card_data
from .dataset import Dataset, as_dataset
from .fitting import FittedUnits, fit_units
from .images import read_images
from .pipeline import Pipeline, split
from .sources import NAMES, load
from .toys import TOYS, toy_density
from .view import View, show, view_of

__all__ = [
    "NAMES",
    "TOYS",
    "Dataset",
    "FittedUnits",
    "Pipeline",
    "Split",
    "View",
    "as_dataset",
    "fit_units",
    "is_card_data",
    "load",
    "open_card_data",
    "read_images",
    "show",
    "split",
    "toy_density",
    "view_of",
]
