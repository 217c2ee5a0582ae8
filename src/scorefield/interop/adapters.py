"""Models of other conventions and libraries as score models.

    convention           alpha, beta                 sigma                  source
    variance preserving  sqrt(abar), sqrt(1 - abar)  sqrt((1 - abar)/abar)  Ho et al. 2020
    flow, data at t = 0  1 - t, t                    t/(1 - t)              Liu et al. 2022
    flow, data at t = 1  t, 1 - t                    (1 - t)/t              Lipman et al. 2022
    azula                those of its schedule       beta/alpha

x is rescaled, y = alpha x, and time is found from sigma (`times`); `adapted` turns the network's
prediction into D and the score.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from .. import conditions as conditions_module
from ..conditions import Condition, ConditionSpec
from ..errors import InputError
from ..models import ScoreModel
from ..units import Units
from ..values import describe, finite, mapping, number, numbers, whole
from .adapted import Adapted
from .times import Coefficients, TimeMap, TimeTable

DIFFUSERS_PREDICTIONS = {"epsilon": "epsilon", "sample": "sample", "v_prediction": "v"}


@dataclass(frozen=True)
class PlainCall:
    """The call of a network (y, t) or (y, t, condition), t multiplied by `time_scale`.

    Args:
        time_scale: Factor between the convention's time and the network's.
        sign: Factor of the output.
    """

    time_scale: float = 1.0
    sign: float = 1.0

    def __call__(
        self, network: Any, y: Tensor, time: Tensor, condition: Condition | None
    ) -> Tensor:
        """The prediction (B, *event) at y (B, *event) and time (B,)."""
        scaled = self.time_scale * time if self.time_scale != 1 else time
        out: Tensor = network(y, scaled) if condition is None else network(y, scaled, condition)
        return self.sign * out if self.sign != 1 else out


def from_vp(
    network: Callable[..., Tensor],
    alpha_bar: Callable[[Tensor], Tensor] | Tensor | Sequence[float],
    event_shape: Sequence[int],
    prediction: str = "epsilon",
    times: tuple[float, float] = (1e-3, 1.0),
    rounding: str = "interpolate",
    units: Units | None = None,
    conditions: Mapping[str, ConditionSpec] | None = None,
) -> ScoreModel:
    """A variance-preserving model, y_t = sqrt(abar_t) x0 + sqrt(1 - abar_t) z, as a score model.

    Args:
        network: Module `(y, t)` or, with a condition, `(y, t, condition)`: y (B, *event_shape),
            t (B,), condition a mapping of tensors with B rows.
        alpha_bar: abar as a function of float64 times that falls over `times`, or as a table (T,)
            at t = 0, 1, ...
        event_shape: Shape of one example.
        prediction: "epsilon", "sample", "v", "velocity" or "score".
        times: Times of the least and of the most noise, where alpha_bar is a function.
        rounding: "interpolate" or "nearest", where alpha_bar is a table (see `TimeTable`).
        units: The map between data and model units; None for the identity.
        conditions: What the network can be conditioned on, by name.

    Returns:
        The model; its range of sigma is that of the schedule.

    Raises:
        InputError: For a schedule whose noise does not rise, or an unknown prediction.
    """
    time_map: TimeMap
    if not callable(alpha_bar):
        time_map = TimeTable(alpha_bar, rounding)
    else:
        schedule = alpha_bar
        ends = numbers(times, "times")
        if len(ends) != 2:
            raise InputError(f"times must be (least noise, most noise); got {describe(times)}")

        def coefficients(t: Tensor) -> Coefficients:
            bar = schedule(t)
            return bar.sqrt(), (1 - bar).sqrt()

        time_map = TimeMap(coefficients, ends[0], ends[1])
    return Adapted(network, PlainCall(), event_shape, time_map, prediction, units, conditions)


def from_flow(
    network: Callable[..., Tensor],
    event_shape: Sequence[int],
    data_at: int = 0,
    margin: float = 1e-3,
    time_scale: float = 1.0,
    units: Units | None = None,
    conditions: Mapping[str, ConditionSpec] | None = None,
) -> ScoreModel:
    """A flow-matching model on the straight path between data and N(0, I) as a score model.

    Args:
        network: Module `(y, t)` or `(y, t, condition)` that gives dy/dt; it receives
            time_scale t, with t from 0 to 1.
        event_shape: Shape of one example.
        data_at: Time of the data: 0 (Liu et al. 2022) or 1 (Lipman et al. 2022).
        margin: sigma covers t from margin to 1 - margin; at the ends sigma is zero and infinite.
        time_scale: Factor between t and the network's time.
        units: The map between data and model units; None for the identity.
        conditions: What the network can be conditioned on, by name.

    Returns:
        The model.

    Raises:
        InputError: For another data_at, or a margin outside (0, 0.5).
    """
    data_at, margin = whole(data_at, "data_at"), number(margin, "margin")
    time_scale = finite(time_scale, "time_scale")
    if data_at not in (0, 1):
        raise InputError(
            f"data_at must be 0 (rectified flow) or 1 (Lipman et al.); got {data_at!r}"
        )
    if not 0 < margin < 0.5:
        raise InputError(f"margin must lie in (0, 0.5); got {margin:g}")
    ends = (margin, 1 - margin) if data_at == 0 else (1 - margin, margin)
    times = TimeMap(lambda t: (1 - t, t) if data_at == 0 else (t, 1 - t), *ends)
    call = PlainCall(time_scale, 1.0 if data_at == 0 else -1.0)
    return Adapted(network, call, event_shape, times, "velocity", units, conditions)


# ---- diffusers


@runtime_checkable
class HasAlphasCumprod(Protocol):
    """A scheduler that is variance preserving in discrete steps."""

    alphas_cumprod: Tensor
    config: Mapping[str, Any]


@dataclass(frozen=True)
class DiffusersCall:
    """The call of a UNet2DModel: class labels or a vector as `class_labels`.

    Args:
        labelled: Whether the network needs class labels.
        null_class: The label that stands for "no class", or None where the network has none.
    """

    labelled: bool
    null_class: int | None = None

    def __call__(
        self, network: Any, y: Tensor, time: Tensor, condition: Condition | None
    ) -> Tensor:
        """The prediction (B, *event) at y (B, *event) and time (B,)."""
        out: Tensor
        if not self.labelled:
            out = network(y, time).sample
        else:
            out = network(y, time, class_labels=self._labels(condition, y)).sample
        return out

    def _labels(self, condition: Condition | None, y: Tensor) -> Tensor:
        """The labels (B,), or the vectors (B, k), of a condition."""
        value = next(iter((condition or {}).values()), None)
        if value is None:
            value = torch.full((len(y),), conditions_module.NULL_CLASS, device=y.device)
        absent = conditions_module.is_null(value)
        if not bool(absent.any()):
            return value.to(y.dtype) if value.is_floating_point() else value
        if self.null_class is None or value.is_floating_point():
            raise InputError(
                "this diffusers network needs a condition for every sample, such as "
                "condition={'class': 0}: it has no label for 'no class'. If it was trained with "
                "one, pass from_diffusers(..., null_class=LABEL)"
            )
        return torch.where(absent, self.null_class, value)


def from_diffusers(
    unet: Any,
    scheduler: Any,
    rounding: str = "interpolate",
    units: Units | None = None,
    conditions: Mapping[str, ConditionSpec] | None = None,
    null_class: int | None = None,
) -> ScoreModel:
    """A diffusers UNet2DModel with its scheduler as a score model.

    Args:
        unet: The network. Its config gives channels, size and number of classes.
        scheduler: One with `alphas_cumprod` (DDPM, DDIM, DPM-Solver, Euler, ...). Its
            prediction_type is read: epsilon, v_prediction or sample.
        rounding: "interpolate" or "nearest" (see `TimeTable`).
        units: The map between data and model units; None for images in [0, 1] seen as [-1, 1],
            as diffusers trains them.
        conditions: The one condition that becomes `class_labels`: a class or a vector; None for
            the classes of the config.
        null_class: The label on which the network was trained without a class, for guidance.

    Returns:
        The model; class-conditional networks take condition={"class": ...}.

    Raises:
        InputError: For schedulers without that table, a prediction_type that is not known, or a
            config without sample_size.
    """
    if not isinstance(scheduler, HasAlphasCumprod):
        raise InputError(
            f"{type(scheduler).__name__} has no alphas_cumprod, so it is not variance preserving "
            "in discrete steps; for flow matching use from_flow"
        )
    prediction = str(dict(scheduler.config).get("prediction_type", "epsilon"))
    if prediction not in DIFFUSERS_PREDICTIONS:
        raise InputError(
            f"prediction_type must be one of {', '.join(DIFFUSERS_PREDICTIONS)}; the scheduler's "
            f"is {prediction!r}"
        )
    config = dict(unet.config)
    size, classes = config.get("sample_size"), config.get("num_class_embeds")
    if size is None:
        raise InputError(
            "the UNet's config has no sample_size, so the shape of an example is unknown; set "
            "unet.config.sample_size first"
        )
    sides = (size, size) if isinstance(size, int) else tuple(size)
    null_class = None if null_class is None else whole(null_class, "null_class", 0)
    if conditions is None and classes is not None:
        last = null_class is not None and null_class == classes - 1
        conditions = {"class": ConditionSpec("class", classes - 1 if last else classes)}
    labelled = classes is not None or config.get("class_embed_type") is not None
    return Adapted(
        unet,
        DiffusersCall(labelled, null_class),
        (config["in_channels"], *sides),
        TimeTable(torch.as_tensor(scheduler.alphas_cumprod), rounding),
        DIFFUSERS_PREDICTIONS[prediction],
        Units.affine(0.5, 0.5, image=True) if units is None else units,
        conditions,
    )


# ---- azula


@runtime_checkable
class HasSchedule(Protocol):
    """A denoiser that keeps its noise schedule, t -> (alpha, beta)."""

    schedule: Callable[[Tensor], Coefficients]


@dataclass(frozen=True)
class AzulaCall:
    """The call of an azula Denoiser: conditions go in as keywords.

    Args:
        keywords: The keyword of each condition's name.
    """

    keywords: Mapping[str, str] = field(default_factory=dict)

    def __call__(
        self, network: Any, y: Tensor, time: Tensor, condition: Condition | None
    ) -> Tensor:
        """The posterior mean (B, *event) at y (B, *event) and time (B,)."""
        given = {self.keywords.get(name, name): value for name, value in (condition or {}).items()}
        mean: Tensor = network(y, time, **given).mean
        return mean


def from_azula(
    denoiser: Any,
    event_shape: Sequence[int],
    conditions: Mapping[str, ConditionSpec] | None = None,
    keywords: Mapping[str, str] | None = None,
    units: Units | None = None,
) -> ScoreModel:
    """An azula Denoiser as a score model: D is the mean of its posterior.

    Args:
        denoiser: The denoiser; sigma covers its schedule from t = 0 to t = 1.
        event_shape: Shape of one example.
        conditions: What the denoiser can be conditioned on, by name.
        keywords: The keyword under which the denoiser takes each condition, where it differs from
            the condition's name: {"class": "label"}.
        units: The map between data and model units; None for the identity.

    Returns:
        The model.

    Raises:
        InputError: For a denoiser without a schedule.
    """
    if not isinstance(denoiser, HasSchedule):
        raise InputError(
            f"{type(denoiser).__name__} has no schedule; an azula Denoiser keeps its own as "
            "`.schedule`"
        )
    times = TimeMap(denoiser.schedule, 0.0, 1.0)
    call = AzulaCall({} if keywords is None else mapping(keywords, "keywords"))
    return Adapted(denoiser, call, event_shape, times, "sample", units, conditions)
