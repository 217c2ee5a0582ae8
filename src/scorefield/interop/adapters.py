"""Models of other conventions become ScoreModels: x is rescaled and time is mapped to sigma.

    y_t = alpha_t x0 + beta_t z = alpha_t (x0 + sigma z),   sigma = beta_t / alpha_t,   y = alpha x

    convention              alpha, beta                               sigma
    variance preserving     sqrt(abar), sqrt(1 - abar)                sqrt((1 - abar) / abar)       Ho et al. 2020, Song et al. 2021
    flow, data at t = 0     1 - t, t                                  t / (1 - t)                   Liu et al. 2022 (rectified flow)
    flow, data at t = 1     t, 1 - t                                  (1 - t) / t                   Lipman et al. 2022
    azula                   its schedule's                            beta / alpha

What the network says of y, and what follows for x0 and z:

    prediction      x0                                     z
    epsilon         (y - beta out) / alpha                 out
    sample          out                                    (y - alpha out) / beta
    v               (alpha y - beta out) / (alpha² + beta²)   (beta y + alpha out) / (alpha² + beta²)     out = alpha z - beta x0, Salimans & Ho 2022
    velocity        (y - beta out) / (alpha + beta)        (y + alpha out) / (alpha + beta)            out = z - x0, where dalpha = -1, dbeta = 1
    score           (y + beta² out) / alpha                -beta out                                    out = grad log p(y)

D(x, sigma) = x0 and score(x, sigma) = -z / sigma: neither is a difference where the network gives
it directly.

Time is found from sigma in float64: by 64 bisections for a time map that is a function; for a table
abar_0 > abar_1 > ... by interpolating
the index linearly in ln sigma, exact at the table's own sigmas. rounding="interpolate" hands the
network that fractional index, which
sinusoidal embeddings take; rounding="nearest" the whole number next to it, for networks that look
time up: between two entries the network
is then told a noise level wrong by at most half the gap in ln sigma, while x is scaled by the sigma
asked for.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..errors import InputError
from ..model import ScoreModel, broadcast
from ..units import Units

BISECTIONS = 64
GRID = 1025  # points at which a time map is checked

Coefficients = tuple[Tensor, Tensor]


class Estimate(NamedTuple):
    """x0 and the standard normal z of y = alpha x0 + beta z."""

    x0: Tensor
    z: Tensor


PREDICTIONS: dict[str, Callable[[Tensor, Tensor, Tensor, Tensor], Estimate]] = {
    "epsilon": lambda y, out, a, b: Estimate((y - b * out) / a, out),
    "sample": lambda y, out, a, b: Estimate(out, (y - a * out) / b),
    "v": lambda y, out, a, b: Estimate(
        (a * y - b * out) / (a * a + b * b), (b * y + a * out) / (a * a + b * b)
    ),
    "velocity": lambda y, out, a, b: Estimate((y - b * out) / (a + b), (y + a * out) / (a + b)),
    "score": lambda y, out, a, b: Estimate((y + b * b * out) / a, -b * out),
}


class TimeMap:
    """A time map that is a function: coefficients(t) -> alpha, beta, float64; sigma = beta/alpha
    rises strictly from `first` to `last`.
    """

    def __init__(
        self, coefficients: Callable[[Tensor], Coefficients], first: float, last: float
    ) -> None:
        self.coefficients, self.first, self.last = coefficients, float(first), float(last)
        grid = torch.linspace(self.first, self.last, GRID, dtype=torch.float64)
        alpha, beta = coefficients(grid)
        sigma = beta / alpha
        bad = ~(torch.isfinite(sigma) & (alpha > 0) & (beta > 0))
        bad[1:] |= sigma[1:] <= sigma[:-1]
        if bool(bad.any()):
            i = int(bad.nonzero()[0])
            raise InputError(
                f"sigma = beta/alpha must be finite, above zero and rise from t={self.first:g} to "
                f"t={self.last:g}; at t={float(grid[i]):g} "
                f"alpha={float(alpha[i]):g}, beta={float(beta[i]):g}. Choose times inside the "
                "schedule, or exchange them"
            )
        self.sigma_min, self.sigma_max = float(sigma[0]), float(sigma[-1])

    def at(self, sigma: Tensor) -> Coefficients:
        """sigma float64, any shape -> time and alpha, same shape and dtype."""
        low, high = torch.full_like(sigma, self.first), torch.full_like(sigma, self.last)
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            alpha, beta = self.coefficients(middle)
            before = beta < sigma * alpha
            low, high = torch.where(before, middle, low), torch.where(before, high, middle)
        time = (low + high) / 2
        return time, self.coefficients(time)[0]


class TimeTable(TimeMap):
    """abar_0 > abar_1 > ... at t = 0, 1, ...; entries from the first abar of zero on (a schedule
    that ends in pure noise) are left out.
    """

    def __init__(self, alpha_bar: Tensor, rounding: str) -> None:
        if rounding not in ("interpolate", "nearest"):
            raise InputError(f"rounding must be interpolate or nearest; got {rounding!r}")
        table = alpha_bar.detach().to("cpu", torch.float64).flatten()
        table = table[: int((table > 0).cumprod(0).sum())]
        self.sigmas = ((1 - table) / table).sqrt()
        if (
            len(table) < 2
            or not bool((self.sigmas > 0).all())
            or not bool((self.sigmas[1:] > self.sigmas[:-1]).all())
        ):
            raise InputError(
                "alpha_bar must hold at least two numbers that fall from below 1 to above 0; "
                "reversed? use alpha_bar.flip(0)"
            )
        self.rounding = rounding
        self.sigma_min, self.sigma_max = float(self.sigmas[0]), float(self.sigmas[-1])

    def at(self, sigma: Tensor) -> Coefficients:
        """sigma float64, any shape -> index (fractional, or whole as int64) and alpha = 1/sqrt(1 +
        sigma²).
        """
        logs, wanted = self.sigmas.log(), sigma.log()
        right = torch.searchsorted(logs, wanted.contiguous()).clamp(1, len(logs) - 1)
        share = ((wanted - logs[right - 1]) / (logs[right] - logs[right - 1])).clamp(0, 1)
        index = right - 1 + share
        return index.round().long() if self.rounding == "nearest" else index, (
            1 + sigma.square()
        ).rsqrt()


class Adapted(ScoreModel):
    """A network of another convention as a ScoreModel: call(y, t, condition) -> what `prediction`
    names, y's shape.

    time (B,) is handed over in y's floating type, at least float32, or as int64 where it was
    rounded. A module's weights decide y's type.
    """

    ladder: Tensor | None = None

    def __init__(
        self,
        network: Any,
        call: Callable[[Tensor, Tensor, Tensor | None], Tensor],
        event_shape: Sequence[int],
        times: TimeMap,
        prediction: str,
        units: Units | None = None,
        takes_condition: bool = False,
    ) -> None:
        super().__init__()
        if prediction not in PREDICTIONS:
            raise InputError(
                f"prediction must be one of {', '.join(PREDICTIONS)}; got {prediction!r}"
            )
        self.network, self.call = (
            network,
            call,
        )  # a module is registered, so that .to(), .parameters() and .eval() reach it
        self.event_shape = tuple(int(n) for n in event_shape)
        self.times, self.prediction, self.takes_condition = times, prediction, takes_condition
        self.sigma_min, self.sigma_max = times.sigma_min, times.sigma_max
        if isinstance(times, TimeTable):
            self.ladder = times.sigmas.flip(0)
        if units is not None:
            self.units = units

    def _estimate(
        self, x: Tensor, sigma: Tensor | float, condition: Tensor | None
    ) -> tuple[Estimate, Tensor]:
        level = (
            self.check(x, sigma, condition)
            .detach()
            .to("cpu", torch.float64)
            .clamp(self.sigma_min, self.sigma_max)
        )
        time, alpha = self.times.at(level)
        a, b = broadcast(alpha, x), broadcast(alpha * level, x)
        y = a * x
        weights = (
            next(self.network.parameters(), None) if isinstance(self.network, nn.Module) else None
        )
        inside = y if weights is None else y.to(weights.dtype)
        if time.is_floating_point():
            time = time.to(torch.promote_types(inside.dtype, torch.float32))
        out = self.call(inside, time.to(x.device).expand(len(x)), condition)
        if out.shape != x.shape:
            raise InputError(
                f"the network must return its input's shape {tuple(x.shape)}; it returned "
                f"{tuple(out.shape)}"
            )
        return PREDICTIONS[self.prediction](y, out.to(x.dtype), a, b), broadcast(level, x)

    def denoise(self, x: Tensor, sigma: Tensor | float, condition: Tensor | None = None) -> Tensor:
        """The network's x0."""
        return self._estimate(x, sigma, condition)[0].x0

    def score(self, x: Tensor, sigma: Tensor | float, condition: Tensor | None = None) -> Tensor:
        """-z / sigma with the network's z."""
        estimate, level = self._estimate(x, sigma, condition)
        return -estimate.z / level


def _plain_call(
    network: Callable[..., Tensor], time_scale: float = 1.0, sign: float = 1.0
) -> Callable[..., Tensor]:
    """call(y, t, condition) for network(y, t) or network(y, t, condition)."""

    def call(y: Tensor, time: Tensor, condition: Tensor | None) -> Tensor:
        given = (y, time_scale * time if time_scale != 1 else time)
        return sign * (network(*given) if condition is None else network(*given, condition))

    return call


def from_vp(
    network: Callable[..., Tensor],
    alpha_bar: Callable[[Tensor], Tensor] | Tensor,
    event_shape: Sequence[int],
    prediction: str = "epsilon",
    times: tuple[float, float] = (1e-3, 1.0),
    rounding: str = "interpolate",
    units: Units | None = None,
    takes_condition: bool = False,
) -> ScoreModel:
    """A variance-preserving model, y_t = sqrt(abar_t) x0 + sqrt(1 - abar_t) z, as a ScoreModel.

    network(y, t[, condition]): y (B, *event_shape), t (B,). alpha_bar: a function of float64 times,
    falling over `times` = (least noise,
    most noise), or a table (T,) of abar at t = 0, 1, ..., where `rounding` says what is done
    between (module docstring). prediction: a name of
    PREDICTIONS. The range of sigma is the schedule's. Raises InputError for a schedule whose noise
    does not rise.
    """

    def coefficients(t: Tensor) -> Coefficients:
        assert not isinstance(alpha_bar, Tensor)
        bar = alpha_bar(t)
        return bar.sqrt(), (1 - bar).sqrt()

    time_map = (
        TimeTable(alpha_bar, rounding)
        if isinstance(alpha_bar, Tensor)
        else TimeMap(coefficients, *times)
    )
    return Adapted(
        network, _plain_call(network), event_shape, time_map, prediction, units, takes_condition
    )


def from_flow(
    network: Callable[..., Tensor],
    event_shape: Sequence[int],
    data_at: int = 0,
    margin: float = 1e-3,
    time_scale: float = 1.0,
    units: Units | None = None,
    takes_condition: bool = False,
) -> ScoreModel:
    """A flow-matching model on the straight path between data and N(0, I) as a ScoreModel.

    network(y, t[, condition]) -> dy/dt, with t running from 0 to 1 and the data at t = `data_at` (0
    or 1); it is told time_scale t.
    margin: sigma covers t from margin to 1 - margin; at the ends it would be zero and infinite.
    """
    if data_at not in (0, 1):
        raise InputError(
            f"data_at must be 0 (rectified flow) or 1 (Lipman et al.); got {data_at!r}"
        )
    if not 0 < margin < 0.5:
        raise InputError(f"margin must lie in (0, 0.5); got {margin:g}")
    ends = (margin, 1 - margin) if data_at == 0 else (1 - margin, margin)
    times = TimeMap(lambda t: (1 - t, t) if data_at == 0 else (t, 1 - t), *ends)
    call = _plain_call(network, time_scale, 1.0 if data_at == 0 else -1.0)
    return Adapted(network, call, event_shape, times, "velocity", units, takes_condition)


def from_diffusers(
    unet: Any, scheduler: Any, rounding: str = "interpolate", units: Units | None = None
) -> ScoreModel:
    """A diffusers UNet2DModel and its scheduler as a ScoreModel; class-conditional ones take
    `condition` = class labels (B,).

    scheduler: any with `alphas_cumprod` (DDPM, DDIM, DPM-Solver, Euler, ...); its prediction_type
    is read: epsilon, v_prediction or sample.
    units: default images in [0, 1] seen as [-1, 1], as diffusers trains them. Raises InputError for
    schedulers without that table.
    """
    table = getattr(scheduler, "alphas_cumprod", None)
    if table is None:
        raise InputError(
            f"{type(scheduler).__name__} has no alphas_cumprod, so it is not variance preserving "
            "in discrete steps; for flow matching use from_flow"
        )
    named = str(getattr(scheduler.config, "prediction_type", "epsilon"))
    kinds = {"epsilon": "epsilon", "sample": "sample", "v_prediction": "v"}
    if named not in kinds:
        raise InputError(
            f"prediction_type must be one of {', '.join(kinds)}; the scheduler says {named!r}"
        )
    size = unet.config.sample_size
    if size is None:
        raise InputError(
            "the UNet's config says no sample_size, so the event's shape is unknown; set "
            "unet.config.sample_size first"
        )
    sides = (size, size) if isinstance(size, int) else tuple(size)

    def call(y: Tensor, time: Tensor, condition: Tensor | None) -> Tensor:
        return (
            unet(y, time, class_labels=condition).sample
            if condition is not None
            else unet(y, time).sample
        )

    labelled = (
        getattr(unet.config, "num_class_embeds", None) is not None
        or getattr(unet.config, "class_embed_type", None) is not None
    )
    units = Units.affine(0.5, 0.5, image=True) if units is None else units
    return Adapted(
        unet,
        call,
        (unet.config.in_channels, *sides),
        TimeTable(torch.as_tensor(table), rounding),
        kinds[named],
        units,
        labelled,
    )


def from_azula(
    denoiser: Any,
    event_shape: Sequence[int],
    condition_name: str | None = None,
    units: Units | None = None,
) -> ScoreModel:
    """An azula Denoiser as a ScoreModel: D is the mean of its posterior, sigma runs over its
    schedule from t = 0 to t = 1.

    condition_name: the keyword under which the denoiser takes a condition, None where it takes
    none.
    """
    schedule = getattr(denoiser, "schedule", None)
    if schedule is None:
        raise InputError(
            f"{type(denoiser).__name__} has no schedule; an azula Denoiser keeps its own as "
            "`.schedule`"
        )

    def call(y: Tensor, time: Tensor, condition: Tensor | None) -> Tensor:
        return denoiser(
            y,
            time,
            **({} if condition is None or condition_name is None else {condition_name: condition}),
        ).mean

    return Adapted(
        denoiser,
        call,
        event_shape,
        TimeMap(schedule, 0.0, 1.0),
        "sample",
        units,
        condition_name is not None,
    )
