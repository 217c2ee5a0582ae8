"""The contract: a score model is a family of smoothed densities.

    p_sigma = p * N(0, sigma² I),   x = x0 + sigma z,   z ~ N(0, I)

    denoise(x, sigma) = D = E[x0 | x]
    score(x, sigma) = grad log p_sigma(x) = (D - x) / sigma²      (Tweedie, Miyasawa 1961)

Trained networks, closed forms, adapters and wrappers are all score models. Samplers, likelihoods
and diagnostics run on each of them through the same line.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

import torch
from torch import Tensor, nn

from .. import conditions as conditions_module
from ..conditions import Condition, ConditionSpec
from ..errors import InputError, Unsupported
from ..tensors import check_floating, reals
from ..units import Units
from ..values import describe
from .cost import count_cost, record
from .describe import model_html, model_paragraph

LEVEL_TOLERANCE = 1e-3  # in ln sigma, to the nearest level of a model with fixed levels

#: What `ScoreModel.forward` returns: the denoised value or the score.
Quantity = Literal["denoise", "score"]


def as_sigma(sigma: Tensor | float) -> Tensor:
    """sigma as a tensor. Numbers and lists become float64: float32 would round 0.1.

    Raises:
        InputError: For anything but real numbers.
    """
    if isinstance(sigma, Tensor) and sigma.is_floating_point():
        return sigma
    if type(sigma) is float:
        return torch.tensor(sigma, dtype=torch.float64)
    return reals(sigma, "sigma", torch.float64)


def broadcast(sigma: Tensor, x: Tensor) -> Tensor:
    """sigma shaped so that it broadcasts against x, in x's type and on x's device.

    Args:
        sigma: () or (B,).
        x: (B, *event).

    Returns:
        () or (B, 1, ..., 1).

    Raises:
        InputError: For any other shape of sigma.
    """
    if sigma.ndim == 0 or (sigma.ndim == 1 and x.ndim >= 1 and len(sigma) == len(x)):
        shape = sigma.shape + (1,) * (x.ndim - 1) if sigma.ndim else ()
        return sigma.to(x.device, x.dtype).reshape(shape)
    raise InputError(
        f"sigma must have shape () or (B,) with B = {x.shape[0] if x.ndim else 0}; "
        f"got sigma {tuple(sigma.shape)} for x {tuple(x.shape)}"
    )


@dataclass(frozen=True)
class Moments:
    """Moments of x0 in model units, float64 on the CPU.

    Args:
        mean: (*event), or (B, *event) where they depend on the condition of each sample.
        variance: Like `mean`, per element.
        covariance: (d, d) or (B, d, d) with d elements an example; None where it is not known.
    """

    mean: Tensor
    variance: Tensor
    covariance: Tensor | None = None

    def __post_init__(self) -> None:
        for name in ("mean", "variance", "covariance"):
            value = getattr(self, name)
            if value is not None or name != "covariance":
                object.__setattr__(self, name, reals(value, name, torch.float64))

    @property
    def data_std(self) -> float:
        """The data's standard deviation, root mean square over the elements."""
        return float(self.variance.mean().sqrt())


class ScoreModel(nn.Module):
    """A family of smoothed densities p_sigma = p * N(0, sigma² I).

    x is (B, *event_shape) and sigma () or (B,), both in model units; results have x's shape and
    type. A subclass writes `denoise` or `score` and calls `check` first; the other one is derived
    here. What a model can do is declared by the attributes below.

    Attributes:
        event_shape: Shape of one example.
        sigma_min: Smallest noise level at which the model is defined, in model units.
        sigma_max: Largest noise level at which the model is defined, in model units.
        ladder: Noise levels (sigmas), largest first, that the model was trained on; or None.
        ladder_only: True where the model is defined at the levels of `ladder` only.
        has_log_density: True where `log_density` is implemented.
        has_posterior: True where `posterior` is implemented: exact densities alone.
        conditions: What the model can be conditioned on, by name; empty for nothing.
        sampling_defaults: How the model is sampled where neither caller nor card decides, in the
            form of a card's sampling settings: {"sampler": ..., "options": {...}}.
        units: The map between data units and model units.
        card: The model card, the JSON metadata of a model file; None for models without a file.
        autocast: The type in which a leaf's network computes; None for its own type.
        compiled: True where a leaf's network is compiled and should meet few shapes.
    """

    event_shape: tuple[int, ...]
    sigma_min: float
    sigma_max: float
    ladder: Tensor | None = None
    ladder_only: bool = False
    has_log_density: bool = False
    has_posterior: bool = False
    conditions: Mapping[str, ConditionSpec] = MappingProxyType({})
    sampling_defaults: Mapping[str, Any] = MappingProxyType({})
    units: Units = Units.identity()
    card: dict[str, Any] | None = None
    autocast: torch.dtype | None = None
    compiled: bool = False

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        if cls.denoise is ScoreModel.denoise and cls.score is ScoreModel.score:
            raise TypeError(f"{cls.__name__} must implement denoise or score")

    def summary(self) -> str:
        """What the model is, in a few words; the beginning of its `repr`."""
        return type(self).__name__

    def __repr__(self) -> str:
        return model_paragraph(self)

    def _repr_html_(self) -> str:
        return model_html(self)

    def denoise(
        self, x: Tensor, sigma: Tensor | float, condition: Condition | None = None
    ) -> Tensor:
        """The posterior mean E[x0 | x0 + sigma z = x].

        Args:
            x: (B, *event_shape) in model units.
            sigma: () or (B,) in model units.
            condition: One row a sample, or None.

        Returns:
            (B, *event_shape), x's type.

        Raises:
            InputError: For shapes, noise levels or conditions that do not fit.
        """
        level = broadcast(as_sigma(sigma), x)
        return x + level.square() * self.score(x, sigma, condition)

    def score(self, x: Tensor, sigma: Tensor | float, condition: Condition | None = None) -> Tensor:
        """The score grad log p_sigma(x). Arguments, result and errors are those of `denoise`."""
        level = broadcast(as_sigma(sigma), x)
        return (self.denoise(x, sigma, condition) - x) / level.square()

    def log_density(
        self, x: Tensor, sigma: Tensor | float, condition: Condition | None = None
    ) -> Tensor:
        """log p_sigma(x) in nats, up to a constant of sigma.

        Its result is (B,); the arguments are those of `denoise`.

        Raises:
            Unsupported: Where the model has no density (`has_log_density` is False).
        """
        raise Unsupported(
            f"{type(self).__name__} has no log density: networks that learn the score itself "
            "have none. Use log_prob, which integrates the probability flow, or train an energy"
        )

    def posterior(self, observation: Any) -> "ScoreModel":
        """The density of x0 given an observation of x0, in closed form.

        Args:
            observation: A linear observation with Gaussian noise, in model units.

        Returns:
            A score model of p(x0 | observation).

        Raises:
            Unsupported: Where the model has no posterior in closed form (`has_posterior` is False).
        """
        raise Unsupported(
            f"{type(self).__name__} has no posterior in closed form: only the exact densities have "
            "one. Use restore, which samples the posterior of any score model"
        )

    def moments(self, condition: Condition | None = None) -> Moments | None:
        """The moments of x0 in model units.

        Args:
            condition: One row a sample; the moments are then those given each row. None: those of
                the whole data.

        Returns:
            The moments, or None where they are not known.
        """
        return None

    def sampling_range(self) -> tuple[float, float]:
        """The noise levels (smallest, largest) between which default ladders run.

        Raises:
            InputError: Where the model's range is not finite and above zero.
        """
        if not 0 < self.sigma_min < self.sigma_max < float("inf"):
            raise InputError(
                f"a model known on [{self.sigma_min:g}, {self.sigma_max:g}] has no default "
                "noise levels: pass ladder=, such as noise.karras(80, 0.002, 18)"
            )
        return self.sigma_min, self.sigma_max

    def leaves(self) -> Iterator["ScoreModel"]:
        """The models that hold networks or closed forms: this one, or those that it wraps."""
        yield self

    def leaf_network(self) -> nn.Module | None:
        """The network of a leaf that execution settings apply to; None where there is none."""
        return None

    def forward(
        self,
        x: Tensor,
        sigma: Tensor | float,
        condition: Condition | None = None,
        quantity: Quantity = "denoise",
    ) -> Tensor:
        """`denoise`, or `score` where quantity is "score".

        Training calls the model through `forward`, so that wrappers such as
        DistributedDataParallel see the call. The other arguments, the result and the errors are
        those of `denoise`.
        """
        if quantity == "score":
            return self.score(x, sigma, condition)
        return self.denoise(x, sigma, condition)

    def check(
        self,
        x: Tensor,
        sigma: Tensor | float,
        condition: Condition | None = None,
        density: bool = False,
    ) -> Tensor:
        """Validate the arguments of an evaluation and count it. A leaf calls it once.

        Args:
            x: (B, *event_shape).
            sigma: () or (B,), within [sigma_min, sigma_max].
            condition: One row a sample, or None.
            density: Count a log density instead of a forward evaluation.

        Returns:
            sigma as a tensor.

        Raises:
            InputError: The shapes, the noise levels or the condition do not fit the model.
        """
        check_floating(x, "x")
        sigma = as_sigma(sigma)
        if x.ndim != 1 + len(self.event_shape) or tuple(x.shape[1:]) != tuple(self.event_shape):
            raise InputError(
                f"x must be (B, {', '.join(map(str, self.event_shape))}); got {tuple(x.shape)}"
            )
        broadcast(sigma, x)
        self.check_range(sigma)
        conditions_module.check(condition, self.conditions, len(x), type(self).__name__)
        record(forwards=0 if density else len(x), densities=len(x) if density else 0)
        return sigma

    def check_range(self, sigma: Tensor) -> None:
        """Refuse noise levels outside [sigma_min, sigma_max], up to the rounding of their type.

        Args:
            sigma: Noise levels of any shape, in model units.

        Raises:
            InputError: A level lies outside; the message states the range.
        """
        slack = 4 * torch.finfo(sigma.dtype).eps
        low, high = self.sigma_min * (1 - slack), self.sigma_max * (1 + slack)
        if not bool(((sigma >= low) & (sigma <= high) & (sigma < math.inf)).all()):
            least, most = float(sigma.min()), float(sigma.max())
            got = f"{least:g}" if least == most else f"{least:g} to {most:g}"
            raise InputError(
                f"sigma must lie in [{self.sigma_min:g}, {self.sigma_max:g}], the range of "
                f"this model; got {got}"
            )

    def level_index(self, sigma: Tensor) -> Tensor:
        """The index of the level of `ladder` nearest to each sigma, int64 of sigma's shape.

        Raises:
            InputError: Where no level lies within 1e-3 in ln sigma, or there is no ladder.
        """
        if self.ladder is None:
            raise InputError(f"{type(self).__name__} has no ladder of noise levels")
        levels = self.ladder.to(sigma.device, sigma.dtype)
        distance, index = (sigma.log().unsqueeze(-1) - levels.log()).abs().min(-1)
        if bool((distance > LEVEL_TOLERANCE).any()):
            place = distance.flatten().argmax()
            worst = float(sigma.flatten()[place])
            nearest = float(levels[int(index.flatten()[place])])
            raise InputError(
                f"this model is defined only at its {len(levels)} levels, {float(levels[0]):g} to "
                f"{float(levels[-1]):g}; got sigma={worst:g}, nearest level {nearest:g}. "
                "Use model.ladder"
            )
        return index


def check_model(model: Any) -> None:
    """Refuse anything but a score model, such as the path of a run.

    Raises:
        InputError: It is no model; the message states how a model is loaded.
    """
    if not isinstance(model, ScoreModel):
        raise InputError(
            f"model must be a score model, such as sf.load(path) gives; got {describe(model)}"
        )


def jacobian(
    model: nn.Module,
    x: Tensor,
    sigma: Tensor | float,
    condition: Condition | None = None,
    quantity: Quantity = "denoise",
    create_graph: bool = False,
) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """The denoised value (or the score) and its vector-Jacobian products.

    Args:
        model: A score model, or one inside DistributedDataParallel.
        x: (B, *event_shape) in model units; not written to.
        sigma: () or (B,).
        condition: One row a sample, or None.
        quantity: "denoise" for D, "score" for the score.
        create_graph: Keep a graph, so that value and products can be differentiated again: in
            the model's parameters, and in x where x requires a gradient.

    Returns:
        The value (B, *event_shape), without a graph unless `create_graph`, and the function
        v (B, *event_shape) -> v' (d value / d x), of the same shape. Samples do not mix: the
        product of one sample depends on its own x only. A product costs as many rows as the value
        did: two a sample for a guided model.
    """
    with torch.enable_grad(), count_cost() as spent:
        if not (create_graph and x.requires_grad):
            x = x.detach().requires_grad_(True)
        value = model(x, sigma, condition, quantity)
    rows = spent.forwards or len(x)

    def product(v: Tensor) -> Tensor:
        with torch.enable_grad():
            (result,) = torch.autograd.grad(
                value, x, v, create_graph=create_graph, retain_graph=True
            )
        record(products=rows)
        return result

    return (value if create_graph else value.detach()), product
