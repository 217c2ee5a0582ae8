"""`fit`: training from Python, in one line."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from ..config import count, override, seconds
from ..config import preset as find_preset
from .loop import Hooks, Summary, train


def fit(
    data: Any,
    run: str | Path,
    preset: str = "fast",
    budget: str | float = "5m",
    images: str | int | None = None,
    seed: int = 0,
    settings: dict[str, Any] | None = None,
    hooks: Hooks | None = None,
) -> Summary:
    """Train on `data` (array, tensor, torch Dataset, folder, file or name) into the run directory
    `run`, or go on with it.

    budget: wall time, "90s", "5m" or seconds; images: a budget in images seen instead. settings:
    {"optim.lr": 1e-3, ...} beats the preset.
    Raises InputError before anything is written where something does not fit.
    """
    config = find_preset(preset)
    if isinstance(data, str | Path):
        config = replace(config, data=replace(config.data, source=str(data)))
    else:
        config = replace(config, data=replace(config.data, source=f"<{type(data).__name__}>"))
    config = replace(
        config,
        seed=seed,
        seconds=seconds(str(budget)),
        images=count(str(images)) if images is not None else 0,
    )
    config = override(config, [f"{name}={value}" for name, value in (settings or {}).items()])
    return train(config, run, None if isinstance(data, str | Path) else data, hooks)
