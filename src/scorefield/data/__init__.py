"""Data: every source becomes one `Dataset`, and a `Pipeline` serves it in model units.

Batches are a function of (seed, images seen).
"""

from . import array_form, image_form, table_form  # noqa: F401  (they register themselves)
from .card import Split, is_card_data, open_card_data
from .conditioning import read_vectors
from .dataset import Dataset, Reading
from .examples import read_examples
from .fitting import FittedUnits, fit_units
from .form import FORMS, Form, form_of
from .like import open_like, read_mask, read_observation
from .making import as_dataset
from .opening import open
from .options import ReadOptions
from .pipeline import Pipeline, split
from .sources import NAMES
from .table_files import write_table
from .toys import TOYS, toy_density
from .view import View, show, view_of

__all__ = [
    "FORMS",
    "NAMES",
    "TOYS",
    "Dataset",
    "FittedUnits",
    "Form",
    "Pipeline",
    "ReadOptions",
    "Reading",
    "Split",
    "View",
    "as_dataset",
    "fit_units",
    "form_of",
    "is_card_data",
    "open",
    "open_card_data",
    "open_like",
    "read_examples",
    "read_mask",
    "read_observation",
    "read_vectors",
    "show",
    "split",
    "toy_density",
    "view_of",
    "write_table",
]
