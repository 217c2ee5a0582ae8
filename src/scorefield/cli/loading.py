"""From a path to a model that is ready to run, and from a file to a user's own network."""

import importlib.util
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from ..config import ExecutionRequest
from ..errors import InputError

USUAL_NFE = 35
# Speed of eager evaluation on two cores, measured in elements per second. It decides whether the
# time that compiling takes is earned back.
ELEMENTS_PER_SECOND = 2.2e6


def run_file(path: Path, option: str) -> dict[str, Any]:
    """Run a user's own Python file.

    Args:
        path: the file; files beside it can be imported.
        option: the option that names it, for messages.

    Returns:
        What the file defines, by name.

    Raises:
        InputError: there is no such file, or its code fails.
    """
    if path.suffix != ".py":
        raise InputError(f"{option} must name a Python file, FILE.py; got {path}")
    if not path.is_file():
        raise InputError(f"{option}: there is no file {path}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise InputError(f"{option}: {path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(path.stem, module)
    sys.path.insert(0, str(path.parent.resolve()))
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever a user's code raises
        raise InputError(f"{option}: {path} fails: {type(error).__name__}: {error}") from error
    finally:
        sys.path.pop(0)
    return vars(module)


def load_factory(text: str) -> Callable[[], Any]:
    """Load a user's own network class. The file's code is run.

    Args:
        text: "FILE.py:NAME"; NAME is a class or function that makes the network without arguments.

    Returns:
        The class or function.

    Raises:
        InputError: there is no such file or name, or the file's code fails.
    """
    path_text, colon, name = text.rpartition(":")
    path = Path(path_text)
    if not colon or not name.isidentifier() or path.suffix != ".py":
        raise InputError(
            f"--network takes FILE.py:NAME, for example own.py:MyNetwork; got {text!r}"
        )
    names = run_file(path, f"--network {text}")
    made = names.get(name)
    if not callable(made):
        known = ", ".join(key for key, value in names.items() if callable(value) and key[:1] != "_")
        raise InputError(
            f"--network {text}: {path} has no class or function {name}; it has {known or 'none'}"
        )
    return cast(Callable[[], Any], made)


def make_network(text: str) -> Any:
    """Make a user's own network from "FILE.py:NAME". The file's code is run.

    Raises:
        InputError: there is no such name, or it does not make a torch module without arguments.
    """
    from torch import nn

    factory = load_factory(text)
    try:
        network = factory()
    except Exception as error:  # whatever a user's code raises
        raise InputError(
            f"--network {text} cannot be made without arguments: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(network, nn.Module):
        raise InputError(
            f"--network {text} must make a torch.nn.Module; got {type(network).__name__}"
        )
    return network


def ready(
    path: Path,
    request: ExecutionRequest | None = None,
    network: str | None = None,
    count: int = 0,
    nfe: int | None = None,
) -> tuple[Any, Any]:
    """Load a model and bring it to where it runs.

    Args:
        path: a run's folder or a model file.
        request: execution settings; None and settings left out are chosen here.
        network: "FILE.py:NAME" for models of a user's own network.
        count: number of samples that will be drawn; decides whether compiling pays.
        nfe: evaluations per sample; None: the number in the model card.

    Returns:
        The model, and the `Execution` that was applied to it.

    Raises:
        InputError: there is no model at the path, or the settings do not fit this machine.
    """
    from ..checkpoint import load
    from ..execution import choose, count_layers

    request = request or ExecutionRequest()
    model = load(path, network=None if network is None else make_network(network))
    sampling = ((model.card or {}).get("config") or {}).get("sampling") or {}
    evaluations = nfe or sampling.get("nfe") or USUAL_NFE
    energy = any(leaf.has_log_density for leaf in model.leaves())
    networks = [net for leaf in model.leaves() if (net := leaf.leaf_network()) is not None]
    execution = choose(
        request.device,
        # The score of an energy is a derivative, which bfloat16 rounds too much.
        request.precision or ("float32" if energy else None),
        request.compile,
        request.threads,
        count * evaluations * math.prod(model.event_shape) / ELEMENTS_PER_SECOND,
        len(model.event_shape) - 1,
        layers=sum(count_layers(net) for net in networks),
    )
    execution.configure_process()
    from .show import warn

    return execution.apply(model, request.compile == "on", warn), execution
