"""Averages of the weights over training, counted in images and kept apart from the live weights.

With t images seen after a step of B images, and live weights theta,

    power      w_t = beta w_(t-B) + (1 - beta) theta_t,  beta = (1 - B/t)^(gamma + 1)
               (Karras et al. 2024, Eq. 127): a window of constant width relative to t, so that no
               warm-up has to be chosen and the initial weights have weight 0;
               relative width sigma_rel = sqrt(gamma + 1) / ((gamma + 2) sqrt(gamma + 3))
    halflife   beta = 2^(-B/h),  h = min(halflife, warmup t): images until a weight counts half
"""

import torch
from torch import Tensor, nn

from ..errors import InputError
from ..values import finite, number, one_of

INITIAL = "__initial_fraction__"


def gamma_of(sigma_rel: float) -> float:
    """The exponent gamma whose profile has the relative width sigma_rel.

    It is the real root of a cubic (Karras et al. 2024, Alg. 2), found by bisection.

    Args:
        sigma_rel: The relative width, in (0, 0.28).

    Returns:
        gamma, above 0.

    Raises:
        InputError: For a width outside (0, 0.28).
    """
    sigma_rel = number(sigma_rel, "sigma_rel")
    if not 0 < sigma_rel < 0.28:
        raise InputError(
            f"the relative width of an average must lie in (0, 0.28); got {sigma_rel:g}"
        )
    low, high = 0.0, 1e7
    for _ in range(200):
        middle = (low + high) / 2
        width = (middle + 1) ** 0.5 / ((middle + 2) * (middle + 3) ** 0.5)
        low, high = (middle, high) if width > sigma_rel else (low, middle)
    return (low + high) / 2


class EMA:
    """One average of a network's weights. It lies on the device where the network is.

    Args:
        network: The network, on its device: bring the model there first (`Execution.apply`).
        kind: "power" or "halflife".
        width: power: the relative width, in (0, 0.28). halflife: images until a weight counts
            half; 0 keeps the live weights.
        warmup: halflife: the halflife is at most this fraction of the images seen; 0 = no limit.

    Attributes:
        weights: The averaged state_dict of the network, by name.
        initial_fraction: The weight that the initial weights have in the average.

    Raises:
        InputError: For an unknown kind or a width out of range.
    """

    def __init__(
        self, network: nn.Module, kind: str = "power", width: float = 0.1, warmup: float = 0.05
    ) -> None:
        kind = one_of(kind, ("power", "halflife"), "kind of average")
        width, warmup = finite(width, "width"), finite(warmup, "warmup", 0.0)
        if kind == "halflife" and width < 0:
            raise InputError(f"the halflife of an average must not be negative; got {width:g}")
        self.kind, self.width, self.warmup = kind, width, warmup
        self.gamma = gamma_of(width) if kind == "power" else 0.0
        self.weights = {
            name: value.detach().clone() for name, value in network.state_dict().items()
        }
        self.initial_fraction = 1.0

    def decay(self, images: int, batch: int) -> float:
        """The decay beta of one step.

        Args:
            images: Images seen, those of the step included.
            batch: Images of the step.

        Returns:
            beta, in [0, 1).
        """
        if self.kind == "power":
            return (1 - batch / images) ** (self.gamma + 1)
        halflife = min(self.width, self.warmup * images) if self.warmup > 0 else self.width
        return 0.5 ** (batch / halflife) if halflife > 0 else 0.0

    @torch.no_grad()
    def update(self, network: nn.Module, images: int, batch: int) -> None:
        """Add the live weights after a step.

        Args:
            network: The network that is averaged.
            images: Images seen, those of the step included.
            batch: Images of the step.
        """
        beta = self.decay(images, batch)
        live = network.state_dict()
        floating = [name for name, value in self.weights.items() if value.is_floating_point()]
        torch._foreach_lerp_(
            [self.weights[name] for name in floating],
            [live[name].detach() for name in floating],
            1 - beta,
        )
        for name in self.weights.keys() - set(floating):
            self.weights[name].copy_(live[name])
        self.initial_fraction *= beta

    def state_dict(self) -> dict[str, Tensor | float]:
        """Weights by name, and the initial weights' fraction."""
        return {**self.weights, INITIAL: self.initial_fraction}

    def load_state_dict(self, state: dict[str, Tensor | float]) -> None:
        """Restore the average from `state_dict`, in place.

        Args:
            state: The result of `state_dict`, from any device.

        Raises:
            InputError: Where the parameter names are those of another network.
        """
        if state.keys() != {*self.weights, INITIAL}:
            raise InputError("the stored average belongs to another network")
        for name, value in self.weights.items():
            value.copy_(torch.as_tensor(state[name]))
        self.initial_fraction = float(state[INITIAL])
