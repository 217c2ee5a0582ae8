"""Models of other projects: published checkpoints and models of other libraries.

ncsn.py       NCSN and NCSNv2 checkpoints (.pth) -> model.safetensors with a card
adapters.py   variance-preserving, flow-matching, diffusers and azula models -> ScoreModel
adapted.py    `Adapted`, the score model that holds such a network, and its table of predictions
times.py      the map from sigma to the time of another convention
"""

from .adapted import Adapted
from .adapters import from_azula, from_diffusers, from_flow, from_vp
from .ncsn import Imported, import_checkpoint

__all__ = [
    "Adapted",
    "Imported",
    "from_azula",
    "from_diffusers",
    "from_flow",
    "from_vp",
    "import_checkpoint",
]
