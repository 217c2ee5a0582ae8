"""scorefield learns the score of a data set and puts it to work: plan, train, sample, solve, check.

    import scorefield as sf
    sf.fit("mnist5k", run="runs/mine", budget="5m")
    model = sf.load("runs/mine")
    images = sf.sample(model, count=64, seed=0)

Functions here take and return data units; the rooms below them work in model units.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# Name -> the module it lives in, imported when first used: `import scorefield` stays light.
_NAMES = {
    "Measurement": "inverse",
    "ScoreModel": "model",
    "fit": "training",
    "import_checkpoint": "interop",
    "load": "checkpoint",
    "log_prob": "likelihood",
    "operators": "inverse",
    "restore": "inverse",
    "sample": "sampling",
}

__all__ = ["__version__", *_NAMES]


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_NAMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
