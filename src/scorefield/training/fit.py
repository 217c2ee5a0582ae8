"""`fit`: training from Python in one call."""

import os
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from torch import nn

from ..config import override
from ..config import preset as find_preset
from ..data import NAMES, ReadOptions
from ..data import open as open_data
from ..data.options import read_origin
from ..errors import InputError
from ..values import describe, file_path, mapping, one_of, parse_count, parse_seconds
from .run import train
from .shown import train_with_progress
from .summary import Hooks, Summary


def fit(
    data: Any,
    run: str | os.PathLike[str],
    preset: str = "fast",
    budget: str | float | None = None,
    images: str | int | None = None,
    seed: int = 0,
    condition: str | Mapping[str, Any] | None = None,
    network: nn.Module | None = None,
    settings: Mapping[str, Any] | None = None,
    hooks: Hooks | None = None,
) -> Summary:
    """Train a model of `data` in the run directory `run`, resume it, or let it go on.

    Args:
        data: Anything that `data.open` reads: an array or tensor (N, ...), a table, a folder of
            images, a file, a torch Dataset, or a name such as "digits".
        run: The run directory, a text or a path. The same call again resumes it, and a larger
            budget lets a finished run go on. `training.set_aside(run)` makes room for another one.
        preset: Settings to start from: "fast", "mlp", "ncsn" or "ncsnv2".
        budget: Wall time, compilation included: "90s", "5m", "1.5h" or seconds. None: five minutes,
            or the preset's own budget.
        images: A budget in images seen instead: 250_000 or "250k".
        seed: Decides weights, data order and noise.
        condition: "class" to condition on the class labels that the data bring. A mapping tells
            where the condition comes from: {"class": "species"} or {"vector": ["x1", "x2"]} name
            columns of a table, the key of an array, or a file; {"class": labels} and {"vector": y}
            are arrays with one row an example. None: unconditional.
        network: A network of your own, called as network(x, noise_input, condition): x is
            (B, *event), noise_input (B,) is ln(sigma)/4, condition a mapping of tensors or None. A
            copy of it is trained. `sf.load(run, network=...)` needs it again.
        settings: {"optim.lr": 1e-3, ...}, or nested {"optim": {"lr": 1e-3}, ...}; they override all
            of the above.
        hooks: Receive progress and notices in place of the display. None: a terminal and a
            notebook show them as `scorefield train` does, and other output stays empty. `Hooks()`
            shows nothing anywhere.

    Returns:
        How the run ended; `sf.load(run)` gives the model.

    Raises:
        InputError: Where something does not fit. Nothing is written then.
        NonFiniteError: Where a loss or gradient is not finite.

    Example:
        sf.fit("birds.csv", "runs/mine", budget="2m", condition={"class": "species"})
        model = sf.load("runs/mine")
    """
    named, chosen = read_arguments(data, budget, images, seed)
    kind, origin = _read_condition(condition)
    if kind is not None:
        chosen["condition.kind"] = kind
    if isinstance(origin, tuple):
        chosen["condition.source"] = origin
    _check_objects(network, hooks)
    named_settings = mapping({} if settings is None else settings, "settings")
    request = override(override(find_preset(preset), chosen), named_settings)
    folder, source = file_path(run, "run"), None if named else data
    if origin is not None and not isinstance(origin, tuple):
        read = ReadOptions.of_settings(request.data)
        place = data if source is not None else request.data.source
        source = open_data(place, read, condition=kind, condition_from=origin)
    if hooks is not None:
        return train(request, folder, source, network, hooks)
    console = Console(highlight=False)
    return train_with_progress(request, folder, source, network, console=console)


def _read_condition(condition: Any) -> tuple[str | None, Any]:
    """The kind of a condition, and where it comes from: a tuple of names, an array or None."""
    if condition is None or isinstance(condition, str):
        return condition, None
    needed = "'class', or a mapping such as {'class': 'species'} or {'vector': ['a', 'b']}"
    if not isinstance(condition, Mapping) or len(condition) != 1:
        raise InputError(f"condition must be {needed}; got {describe(condition)}")
    kind, origin = next(iter(condition.items()))
    kind = one_of(kind, ("class", "vector"), "the kind of the condition")
    if origin is None:
        raise InputError(f"condition names no origin; give {needed}")
    return kind, read_origin(kind, origin)


def _check_objects(network: Any, hooks: Any) -> None:
    """Refuse a network or hooks of another type."""
    if network is not None and not isinstance(network, nn.Module):
        made = ", an object and not its class" if isinstance(network, type) else ""
        raise InputError(f"network must be an nn.Module{made}; got {describe(network)}")
    if hooks is not None and not isinstance(hooks, Hooks):
        raise InputError(f"hooks must be Hooks(on_progress=..., ...); got {describe(hooks)}")


def _place(data: str | os.PathLike[str]) -> str:
    """The path of data as it is recorded; "./digits" is no built-in data set and stays so."""
    text = str(file_path(data, "data"))
    return f"./{text}" if text in NAMES and data != text else text


def read_arguments(
    data: Any, budget: str | float | None, images: str | int | None, seed: int
) -> tuple[bool, dict[str, Any]]:
    """Settings of the arguments that `fit` and a plan share.

    Args:
        data: As for `fit`.
        budget: As for `fit`.
        images: As for `fit`.
        seed: As for `fit`.

    Returns:
        Whether the data are given by name or path, and the settings.

    Raises:
        InputError: Both budgets are given, or one cannot be read.
    """
    if budget is not None and images is not None:
        raise InputError("budget (time) and images both say how long to train; give one of them")
    named = isinstance(data, str | os.PathLike)
    chosen: dict[str, Any] = {
        "data.source": _place(data) if named else f"<{type(data).__name__}>",
        "seed": seed,
    }
    if budget is not None:
        chosen["seconds"] = parse_seconds(budget, "budget")
    if images is not None:
        chosen["images"] = parse_count(images, "images")
    return named, chosen
