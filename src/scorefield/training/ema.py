"""Averages of the weights over training, counted in images, kept apart from the live weights.

power      w_t = beta_t w_(t-B) + (1 - beta_t) theta_t,  beta_t = (1 - B/t)^(gamma + 1)        Karras et al. 2024, Eq. 127
           a window of constant width *relative* to t: no warm-up to choose, and the initial weights
           have share 0.
           relative standard deviation sigma_rel = sqrt(gamma + 1) / ((gamma + 2) sqrt(gamma + 3)).
halflife   beta = 2^(-B/h),  h = min(halflife, warmup t): images until a weight counts half
"""

import torch
from torch import Tensor, nn


def gamma_of(sigma_rel: float) -> float:
    """The exponent gamma whose profile has relative width sigma_rel (Karras et al. 2024, Alg. 2):
    the real root of a cubic, by bisection.
    """
    if not 0 < sigma_rel < 0.28:
        raise ValueError(f"sigma_rel must lie in (0, 0.28); got {sigma_rel:g}")
    low, high = 0.0, 1e7
    for _ in range(200):
        middle = (low + high) / 2
        width = (middle + 1) ** 0.5 / ((middle + 2) * (middle + 3) ** 0.5)
        low, high = (middle, high) if width > sigma_rel else (low, middle)
    return (low + high) / 2


class EMA:
    """One average of a network's parameters: kind `power` (width = sigma_rel) or `halflife` (width
    = images; 0 keeps the live weights).
    """

    def __init__(self, network: nn.Module, kind: str, width: float, warmup: float = 0.05) -> None:
        self.kind, self.width, self.warmup = kind, width, warmup
        self.gamma = gamma_of(width) if kind == "power" else 0.0
        self.weights = {
            name: value.detach().clone() for name, value in network.state_dict().items()
        }
        self.initial_share = 1.0  # how much of the average is still the initial weights

    def decay(self, images: int, batch: int) -> float:
        """beta for the step of `batch` images that ends at `images` images seen."""
        if self.kind == "power":
            return (1 - batch / images) ** (self.gamma + 1)
        halflife = min(self.width, self.warmup * images) if self.warmup > 0 else self.width
        return 0.5 ** (batch / halflife) if halflife > 0 else 0.0

    @torch.no_grad()
    def update(self, network: nn.Module, images: int, batch: int) -> None:
        """Take the live weights in."""
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
        self.initial_share *= beta

    def state_dict(self) -> dict[str, Tensor | float]:
        """Weights by parameter name, and the initial weights' share."""
        return {**self.weights, "__initial_share__": self.initial_share}

    def load_state_dict(self, state: dict[str, Tensor | float]) -> None:
        """Undo `state_dict`, in place."""
        for name, value in self.weights.items():
            stored = state[name]
            assert isinstance(stored, Tensor)
            value.copy_(stored)
        share = state["__initial_share__"]
        assert isinstance(share, float)
        self.initial_share = share
