"""`fit`: training from Python in one call."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from torch import nn

from ..config import override, parse_count, parse_seconds
from ..config import preset as find_preset
from ..errors import InputError
from .shown import train_with_progress
from .trainer import Hooks, Summary, train


def fit(
    data: Any,
    run: str | Path,
    preset: str = "fast",
    budget: str | float | None = None,
    images: str | int | None = None,
    seed: int = 0,
    condition: str | None = None,
    network: nn.Module | None = None,
    settings: Mapping[str, Any] | None = None,
    hooks: Hooks | None = None,
) -> Summary:
    """Train a model of `data` in the run directory `run`, or resume it.

    Args:
        data: An array or tensor (N, ...), a torch Dataset, a folder of images, a file (.npy, .npz,
            .csv, .parquet), or a name such as "digits".
        run: The run directory. The same call again resumes it.
        preset: Settings to start from: "fast", "mlp", "ncsn" or "ncsnv2".
        budget: Wall time, compilation included: "90s", "5m", "1.5h" or seconds. None: five minutes,
            or the preset's own budget.
        images: A budget in images seen instead: 250_000 or "250k".
        seed: Decides weights, data order and noise.
        condition: "class" to condition on the data's class labels; None: unconditional.
        network: A network of your own, called as network(x, noise_input, condition): x is
            (B, *event), noise_input (B,) is ln(sigma)/4, condition a mapping of tensors or None. A
            copy of it is trained. `sf.load(run, network=...)` needs it again.
        settings: {"optim.lr": 1e-3, ...}; they override all of the above.
        hooks: Receive progress and notices in place of the display. None: a terminal and a
            notebook show them as `scorefield train` does, and other output stays empty. `Hooks()`
            shows nothing anywhere.

    Returns:
        How the run ended; `sf.load(run)` gives the model.

    Raises:
        InputError: Where something does not fit. Nothing is written then.
        NonFiniteError: Where a loss or gradient is not finite.

    Example:
        sf.fit(x, "runs/mine", budget="2m", condition="class")
        model = sf.load("runs/mine")
    """
    if budget is not None and images is not None:
        raise InputError("budget (time) and images both say how long to train; give one of them")
    named = isinstance(data, str | Path)
    chosen: dict[str, Any] = {
        "data.source": str(data) if named else f"<{type(data).__name__}>",
        "seed": seed,
    }
    if budget is not None:
        chosen["seconds"] = parse_seconds(str(budget), "budget")
    if images is not None:
        chosen["images"] = parse_count(str(images), "images")
    if condition is not None:
        chosen["condition.kind"] = condition
    request = override(override(find_preset(preset), chosen), settings or {})
    source = None if named else data
    if hooks is not None:
        return train(request, run, source, network, hooks)
    console = Console(highlight=False)
    return train_with_progress(request, run, source, network, console=console)
