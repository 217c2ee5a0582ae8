"""Networks: modules `(x, noise_input, condition) -> same shape`.

x is (B, *event_shape); noise_input is (B,), such as ln(sigma)/4 or the index of a level, or None;
condition is a mapping of tensors with B rows, or None. `models.Preconditioned` turns a network into
a score model.

A builder takes the shape of an example and options that JSON can hold, so that a card of (name,
event shape, conditions, options) rebuilds the network. A network declares by `matrix_parameters()`
which of its parameters are weight matrices of hidden layers, which the Muon optimiser may step.
"""

import inspect
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, Protocol, runtime_checkable

from torch import nn

from ..conditions import ConditionSpec
from ..errors import InputError
from ..values import did_you_mean, one_of, plain_tree, shape

#: Networks by name, as "module:class" of this package; a class is imported when it is first used.
NETWORKS: dict[str, str] = {
    "unet": "unet:UNet",
    "mlp": "mlp:MLP",
    "refinenet": "refinenet:RefineNet",
}


@runtime_checkable
class HasMatrices(Protocol):
    """A network that declares the weight matrices of its hidden layers."""

    def matrix_parameters(self) -> list[nn.Parameter]:
        """The weight matrices of hidden layers."""
        ...


@runtime_checkable
class HasOptions(Protocol):
    """A network that keeps the options it was made with, in a form that JSON can hold."""

    options: dict[str, Any]


def builder(name: str) -> Callable[..., nn.Module]:
    """The class of a name in NETWORKS: `(event_shape, conditions=, **options) -> network`.

    Raises:
        InputError: For any other name.
    """
    module, attribute = NETWORKS[one_of(name, NETWORKS, "network")].split(":")
    made: Callable[..., nn.Module] = getattr(import_module(f".{module}", __name__), attribute)
    return made


def option_names(name: str) -> list[str]:
    """The names of the options of a network, from its signature."""
    return [p for p in inspect.signature(builder(name)).parameters if p not in _SHAPE]


_SHAPE = ("event_shape", "conditions")


def check_options(name: str, options: Mapping[str, object]) -> None:
    """Refuse options that the network `name` does not have.

    Raises:
        InputError: An option does not exist; the message lists those of the network.
    """
    known = option_names(name)
    for option in options:
        if option not in known:
            raise InputError(
                f"the network {name!r} has no option {option!r}{did_you_mean(option, known)} It "
                f"has {', '.join(known)}"
            )


def build(
    name: str,
    event_shape: tuple[int, ...],
    conditions: Mapping[str, ConditionSpec] | None = None,
    **options: object,
) -> nn.Module:
    """A new network with weights drawn from torch's global generator.

    Args:
        name: A name of NETWORKS.
        event_shape: Shape of one example.
        conditions: What the network can be conditioned on, by name; None for nothing.
        options: The network's own options.

    Returns:
        The network.

    Raises:
        InputError: For an unknown name or option, a value of the wrong type, or a shape or
            conditions that the network does not take.
    """
    check_options(name, options)
    sides, options = shape(event_shape, "event_shape"), plain_tree(options)
    try:
        return builder(name)(sides, conditions=conditions, **options)
    except (TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"the options {dict(options)} do not fit the network {name!r}: {error}"
        ) from error


def options(network: nn.Module) -> dict[str, Any]:
    """The options with which `build` makes the same network again, defaults spelled out.

    A network of the user's own that has no `options` gives an empty dictionary.
    """
    return dict(network.options) if isinstance(network, HasOptions) else {}
