"""Score-based generative modelling: learn the score of a data set and put it to work.

    import scorefield as sf
    sf.fit("mnist5k", run="runs/mine", budget="5m")
    model = sf.load("runs/mine")
    images = sf.sample(model, count=64, seed=0)

The functions here take and return data units. Most functions of the packages below work in model
units, as their docstrings state. The packages are attributes too: `sf.exact`, `sf.models`,
`sf.sampling` (also as `sf.kernels`), `sf.operators` and so on. They are imported when first used.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# Name -> the module it lives in, imported when first used: `import scorefield` stays light.
_NAMES = {
    "Batch": "training",
    "Bound": "models",
    "ConditionSpec": "conditions",
    "Guidance": "models",
    "Guided": "models",
    "Measurement": "inverse",
    "Preconditioned": "models",
    "SamplingRecipe": "sampling",
    "ScoreModel": "models",
    "TrainState": "training",
    "Units": "units",
    "check_operator": "inverse",
    "count_cost": "models",
    "draw": "sampling",
    "evaluate": "evaluation",
    "fit": "training",
    "import_checkpoint": "interop",
    "load": "checkpoint",
    "log_prob": "likelihood",
    "operators": "inverse",
    "plan": "planning",
    "plan_restoration": "inverse",
    "predict_error": "sampling",
    "resolve_accuracy": "sampling",
    "resolve_sampling": "sampling",
    "restore": "inverse",
    "sample": "sampling",
    "save_model": "checkpoint",
    "show": "data",
    "train_step": "training",
    "tune": "tuning",
}
_PACKAGES = {
    "kernels": "sampling",
    **{
        name: name
        for name in (
            "checkpoint",
            "conditions",
            "config",
            "data",
            "diagnostics",
            "errors",
            "evaluation",
            "exact",
            "execution",
            "interop",
            "inverse",
            "likelihood",
            "models",
            "networks",
            "noise",
            "objectives",
            "planning",
            "plotting",
            "rng",
            "sampling",
            "studies",
            "training",
            "tuning",
            "units",
        )
    },
}

__all__ = ["__version__", *_NAMES, *_PACKAGES]


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(import_module(f".{_NAMES[name]}", __name__), name)
    if name in _PACKAGES:
        return import_module(f".{_PACKAGES[name]}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
