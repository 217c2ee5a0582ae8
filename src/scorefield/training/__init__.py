"""Training: from data to a run directory that can be continued, sampled and checked."""

from .fit import fit
from .loop import Hooks, Progress, Summary, train
from .posthoc import rebuild

__all__ = ["Hooks", "Progress", "Summary", "fit", "rebuild", "train"]
