"""The presets: settings to start from, as data."""

from typing import Any

from ..values import one_of
from .groups.whole import Request

# Averages as NCSNv2 takes them (Technique 5): 0.999 per step of 128 images, in images until a
# weight counts half.
NCSN_AVERAGES: dict[str, Any] = {"kind": "halflife", "profiles": [88_700.0]}

# Adam as NCSN and NCSNv2 use it.
NCSN_ADAM: dict[str, Any] = {
    "name": "adam",
    "batch": 128,
    "beta2": 0.999,
    "warmup": 0,
    "decay": "constant",
    "clip": 0.0,
}

#: The presets by name, each the settings in which it differs from the defaults.
PRESETS: dict[str, dict[str, Any]] = {
    "fast": {},
    "mlp": {
        "network": {"name": "mlp"},
        "optim": {"batch": 1024, "warmup": 50_000},
    },
    # Song & Ermon 2019 as released: sigma from 1 to 0.01 in 10 levels, lambda = sigma², 200,000
    # steps of 128 images; annealed Langevin from uniform noise with T = 100 and epsilon = 2e-5,
    # the coefficient of the score (the article prints 2 eps), no denoising at the end. The
    # article takes no average; NCSNv2 advises the one used here.
    "ncsn": {
        "images": 25_600_000,
        "data": {"units": "unit"},
        "network": {"name": "refinenet", "options": {"variant": "ncsn"}},
        "noise": {
            "preconditioner": "ncsn",
            "sigma_distribution": "levels",
            "sigma_min": 0.01,
            "sigma_max": 1.0,
            "levels": 10,
        },
        "objective": {"weight": "ncsn"},
        "optim": NCSN_ADAM | {"lr": 1e-3},
        "ema": NCSN_AVERAGES,
        "sampling": {
            "sampler": "annealed-langevin",
            "steps_per_level": 100,
            "start": "uniform",
            "final": "none",
            "options": {"epsilon": 2e-5},
        },
    },
    # Song & Ermon 2020 for CIFAR-10: sigma from 50 to 0.01 in 232 levels, 300,000 steps of 128
    # images, T = 5, epsilon = 6.2e-6, a last denoising step. Other data need their own
    # noise.sigma_max (Technique 1: the largest pairwise distance) and noise.levels (Technique 2).
    "ncsnv2": {
        "images": 38_400_000,
        "data": {"units": "unit", "flip": True},
        "network": {"name": "refinenet", "options": {"variant": "ncsnv2"}},
        "noise": {
            "preconditioner": "ncsnv2",
            "sigma_distribution": "levels",
            "sigma_min": 0.01,
            "sigma_max": 50.0,
            "levels": 232,
        },
        "objective": {"weight": "ncsn"},
        "optim": NCSN_ADAM | {"lr": 1e-4},
        "ema": NCSN_AVERAGES,
        "sampling": {
            "sampler": "annealed-langevin",
            "steps_per_level": 5,
            "start": "uniform",
            "final": "denoise",
            "options": {"epsilon": 6.2e-6},
        },
    },
}


def preset(name: str) -> Request:
    """Return a preset by name.

    Args:
        name: a key of `PRESETS`.

    Raises:
        InputError: there is no such preset; the message names the nearest one.
    """
    found = one_of(name, PRESETS, "preset")
    return Request.from_dict({"preset": found, **PRESETS[found]})
