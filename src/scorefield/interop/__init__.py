"""Other people's models: published checkpoints become files of ours, other libraries' models become
ScoreModels.

ncsn.py       NCSN and NCSNv2 checkpoints (.pth) -> model.safetensors with a card
adapters.py   variance-preserving, flow-matching, diffusers and azula models -> ScoreModel, in memory
"""

from .adapters import from_azula, from_diffusers, from_flow, from_vp
from .ncsn import Imported, import_checkpoint

__all__ = ["Imported", "from_azula", "from_diffusers", "from_flow", "from_vp", "import_checkpoint"]
