"""Networks: `(x, noise_input, condition) -> same shape`. They know nothing of sigma; model.py makes
score models of them.

x: (B, *event_shape); noise_input: (B,) floats such as ln(sigma)/4 or a level's index, or None;
condition: (B, k) floats, or None.
A builder takes the event's shape and options that JSON can hold, so that a card of (name, event
shape, options) rebuilds the network.
"""

from collections.abc import Callable
from importlib import import_module

from torch import nn

from ..errors import InputError

# name -> "module:builder", imported when first asked for
NETWORKS: dict[str, str] = {
    "unet": "unet:UNet",
    "mlp": "mlp:MLP",
    "refinenet": "refinenet:RefineNet",
}


def builder(name: str) -> Callable[..., nn.Module]:
    """The builder `(event_shape, **options) -> network` of a name in NETWORKS; any other name is an
    InputError.
    """
    if name not in NETWORKS:
        raise InputError(f"network must be one of {', '.join(NETWORKS)}; got {name!r}")
    module, attribute = NETWORKS[name].split(":")
    return getattr(import_module(f".{module}", __name__), attribute)


def build(name: str, event_shape: tuple[int, ...], **options: object) -> nn.Module:
    """The network `name` for events of `event_shape`, freshly initialised from torch's global
    generator.
    """
    return builder(name)(tuple(event_shape), **options)


def options(network: nn.Module) -> dict[str, object]:
    """The options `build` needs to make the same network again, defaults spelled out so that later
    ones do not change old cards.
    """
    return dict(network.options)  # type: ignore[arg-type]
