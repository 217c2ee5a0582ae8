"""`Adapted`: a network of another convention as a score model.

    y_t = alpha_t x0 + beta_t z = alpha_t (x0 + sigma z),   sigma = beta_t / alpha_t,   y = alpha x

The network's prediction for y gives x0 and z, and these give the score model:

    prediction   x0                                    z
    epsilon      (y - beta out)/alpha                  out
    sample       out                                   (y - alpha out)/beta
    v            (alpha y - beta out)/(alpha² + beta²) (beta y + alpha out)/(alpha² + beta²)
    velocity     (y - beta out)/(alpha + beta)         (y + alpha out)/(alpha + beta)
    score        (y + beta² out)/alpha                 -beta out

    v: out = alpha z - beta x0 (Salimans & Ho 2022);  velocity: out = z - x0, with alpha' = -1 and
    beta' = 1;  score: out = grad log p(y)

D(x, sigma) = x0 and score(x, sigma) = -z/sigma. Where the network predicts one of them directly, it
is used without a subtraction.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..conditions import Condition, ConditionSpec
from ..errors import InputError
from ..models import ScoreModel, broadcast
from ..units import Units
from ..values import mapping, one_of, shape
from .times import TimeMap, TimeTable


class Parts(NamedTuple):
    """x0 and the standard normal z of y = alpha x0 + beta z."""

    x0: Tensor
    z: Tensor


PREDICTIONS: dict[str, Callable[[Tensor, Tensor, Tensor, Tensor], Parts]] = {
    "epsilon": lambda y, out, a, b: Parts((y - b * out) / a, out),
    "sample": lambda y, out, a, b: Parts(out, (y - a * out) / b),
    "v": lambda y, out, a, b: Parts(
        (a * y - b * out) / (a * a + b * b), (b * y + a * out) / (a * a + b * b)
    ),
    "velocity": lambda y, out, a, b: Parts((y - b * out) / (a + b), (y + a * out) / (a + b)),
    "score": lambda y, out, a, b: Parts((y + b * b * out) / a, -b * out),
}

# (network, y, t, condition) -> the prediction, of y's shape
Call = Callable[[Any, Tensor, Tensor, Condition | None], Tensor]


class Adapted(ScoreModel):
    """A network of another convention as a score model.

    Args:
        network: The network. A module is registered, so that `.to`, copies and execution settings
            apply to its weights; they do not apply to weights inside a plain function.
        call: (network, y, t, condition) -> prediction of y's shape. It receives the network, so
            that a copy of this model calls the copied network. t is (B,), in y's floating type but
            at least float32, or int64 where the time map rounds it.
        event_shape: Shape of one example.
        times: The time map.
        prediction: A name of PREDICTIONS.
        units: The map between data and model units; None for the identity.
        conditions: What the network can be conditioned on, by name.

    Raises:
        InputError: For an unknown prediction.
    """

    def __init__(
        self,
        network: Any,
        call: Call,
        event_shape: Sequence[int],
        times: TimeMap,
        prediction: str,
        units: Units | None = None,
        conditions: Mapping[str, ConditionSpec] | None = None,
    ) -> None:
        super().__init__()
        prediction = one_of(prediction, PREDICTIONS, "prediction")
        self.network, self.call = network, call
        self.event_shape = shape(event_shape, "event_shape")
        self.times, self.prediction = times, prediction
        self.sigma_min, self.sigma_max = times.sigma_min, times.sigma_max
        self.ladder = times.sigmas.flip(0) if isinstance(times, TimeTable) else None
        self.conditions = {} if conditions is None else mapping(conditions, "conditions")
        self.units = Units.identity() if units is None else units

    def leaf_network(self) -> nn.Module | None:
        """The network, where it is a module."""
        return self.network if isinstance(self.network, nn.Module) else None

    def _parts(
        self, x: Tensor, sigma: Tensor | float, condition: Condition | None
    ) -> tuple[Parts, Tensor]:
        """x0 and z at x, and sigma shaped against x."""
        level = self.check(x, sigma, condition).detach().to("cpu", torch.float64)
        level = level.clamp(self.sigma_min, self.sigma_max)
        time, alpha = self.times.at(level)
        a, b = broadcast(alpha, x), broadcast(alpha * level, x)
        y = a * x
        module = self.leaf_network()
        weight = None if module is None else next(module.parameters(), None)
        inside = y if weight is None else y.to(weight.dtype)
        if time.is_floating_point():
            time = time.to(torch.promote_types(inside.dtype, torch.float32))
        with torch.autocast(x.device.type, dtype=self.autocast, enabled=self.autocast is not None):
            out = self.call(self.network, inside, time.to(x.device).expand(len(x)), condition)
        if out.shape != x.shape:
            raise InputError(
                f"the network must return its input's shape {tuple(x.shape)}; it returned "
                f"{tuple(out.shape)}"
            )
        return PREDICTIONS[self.prediction](y, out.to(x.dtype), a, b), broadcast(level, x)

    def denoise(
        self, x: Tensor, sigma: Tensor | float, condition: Condition | None = None
    ) -> Tensor:
        """The network's x0; arguments, result and errors as for any score model."""
        return self._parts(x, sigma, condition)[0].x0

    def score(self, x: Tensor, sigma: Tensor | float, condition: Condition | None = None) -> Tensor:
        """-z/sigma with the network's z; arguments, result and errors as for any score model."""
        parts, level = self._parts(x, sigma, condition)
        return -parts.z / level
