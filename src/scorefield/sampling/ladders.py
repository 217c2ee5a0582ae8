"""Default ladders: the noise levels (sigmas), largest first, of each kind of sampler.

They run over `model.sampling_range()`. The constants were measured; docs/log.md has the protocols.
"""

import math

import torch
from torch import Tensor

from ..errors import InputError
from ..models import ScoreModel
from ..noise import LADDERS, check_ladder, few_step, geometric, karras
from ..values import whole

DEFAULT_LEVELS = 18  # Karras et al. 2022: 35 evaluations of Heun suffice for small images
# For vectors evaluations are cheap and the bias of 18 levels is visible: the mean radius of the
# ring comes out 0.028 too large, with 64 levels within 0.003.
VECTOR_LEVELS = 64
GAMMA = 1.25  # largest ratio of neighbouring levels of a default annealed ladder
WIDEST, FINEST = 20.0, 0.04  # ends of a default annealed ladder in standard deviations of the data
REVERSE_LEVELS = 128  # of a reverse SDE, whose error is of order 1
# The first level of `short_range` is max(LOWEST_TOP, RISE * levels) standard deviations of the
# widest direction of the data. More steps do not reduce the error of a low start, so that the start
# rises with their number.
DATA_RISE, NOISE_RISE, LOWEST_TOP = 1.0, 0.5, 2.5


def check_levels(levels: int | None, default: int) -> int:
    """`levels`, or `default` where it is None.

    Raises:
        InputError: For anything but a whole number of at least 1.
    """
    if levels is None:
        return default
    return whole(levels, "the number of noise levels", 1)


def data_std(model: ScoreModel) -> float | None:
    """The data's standard deviation in model units; None for models without moments."""
    known = model.moments()
    found = None if known is None else known.data_std
    return found if found else None


def _ends(model: ScoreModel) -> tuple[float, float]:
    """Largest and smallest noise level."""
    low, high = model.sampling_range()
    return high, low


def flow_ladder(model: ScoreModel, levels: int | None = None) -> Tensor:
    """Karras et al. 2022, Eq. 5, over the model's range."""
    usual = DEFAULT_LEVELS if len(model.event_shape) > 1 else VECTOR_LEVELS
    return karras(*_ends(model), check_levels(levels, usual))


def few_step_ladder(model: ScoreModel, levels: int | None = None, widened: float = 1.0) -> Tensor:
    """`noise.few_step` for `widened` times the data's standard deviation.

    Where the standard deviation is not known the ladder is geometric; both beat Karras' for
    multistep methods.
    """
    count, std = check_levels(levels, DEFAULT_LEVELS), data_std(model)
    if std is None:
        return geometric(*_ends(model), count)
    return few_step(*_ends(model), count, widened * std)


def reverse_ladder(model: ScoreModel, levels: int | None = None) -> Tensor:
    """The model's own levels, or Karras' ladder for a model without levels of its own.

    Own levels are thinned evenly where fewer are requested; where more are, the ladder is geometric
    between the ends of the own one.
    """
    if model.ladder is None:
        return karras(*_ends(model), check_levels(levels, REVERSE_LEVELS))
    own = check_ladder(model.ladder)
    count = check_levels(levels, len(own))
    if count == len(own):
        return own
    if count < len(own):
        return own[torch.linspace(0, len(own) - 1, count, dtype=torch.float64).round().long()]
    return geometric(float(own[0]), float(own[-1]), count)


def consistent_ladder(model: ScoreModel, levels: int | None = None) -> Tensor:
    """The model's own levels, or geometric ones: a constant ratio suits a constant eta."""
    if model.ladder is not None:
        return reverse_ladder(model, levels)
    return geometric(*_ends(model), check_levels(levels, REVERSE_LEVELS))


def annealed_ladder(model: ScoreModel, levels: int | None = None) -> Tensor:
    """The model's own levels, or geometric ones with a ratio of at most GAMMA.

    Where the standard deviation of the data is known, the ladder runs from WIDEST to FINEST times
    that number: above, p_sigma is nearly the prior; below, the final denoise removes the noise.
    """
    if model.ladder is not None and levels in (None, len(model.ladder)):
        return check_ladder(model.ladder)
    high, low = _ends(model)
    std = data_std(model)
    if std is not None:
        high, low = (
            min(high, max(WIDEST * std, 2 * low)),
            max(low, min(FINEST * std, high / 2)),
        )
    usual = max(10, math.ceil(1 + math.log(high / low) / math.log(GAMMA)))
    return geometric(high, low, check_levels(levels, usual))


def last_level(model: ScoreModel, levels: int | None = None) -> Tensor:
    """The one level sigma_min."""
    if levels not in (None, 1):
        raise InputError(f"plain Langevin dynamics has one noise level; got levels={levels}")
    return check_ladder([_ends(model)[1]])


def named_ladder(name: str, model: ScoreModel, levels: int) -> Tensor:
    """A ladder of `noise.LADDERS` over the model's range.

    Args:
        name: "geometric", "karras" or "few-step".
        model: Its range decides, and for "few-step" the data's standard deviation.
        levels: Number of noise levels, 1 or more.

    Returns:
        The ladder (levels,), float64, decreasing.

    Raises:
        InputError: For an unknown name.
    """
    if not isinstance(name, str) or name not in LADDERS:
        raise InputError(
            f"a ladder is sigmas that decrease, or one of {', '.join(LADDERS)}; got {name!r}"
        )
    count, std = check_levels(levels, levels), data_std(model)
    if name == "few-step" and std is not None:
        return few_step(*_ends(model), count, std)
    return LADDERS[name](*_ends(model), count)


def short_range(model: ScoreModel, levels: int, rise: float) -> tuple[float, float]:
    """The model's range, cut where p_sigma is close to the terminal law.

    The prior matches mean and covariance at any level, so that above a few standard deviations of
    the data's widest direction it misses third and higher moments only. A model whose covariance is
    not known keeps its whole range, since its prior takes the elements to be independent.

    Args:
        model: The model; its range and moments decide.
        levels: Number of noise levels.
        rise: Largest level in standard deviations of the widest direction, per noise level of the
            ladder.

    Returns:
        (largest, smallest) noise level.
    """
    low, high = model.sampling_range()
    known = model.moments()
    if known is None or known.covariance is None or known.covariance.ndim > 2:
        return high, low
    widest = math.sqrt(max(float(torch.linalg.eigvalsh(known.covariance)[-1]), 0.0))
    top = widest * max(LOWEST_TOP, rise * levels)
    return (min(high, max(top, 2 * low)) if widest > 0 else high), low


def few_levels(model: ScoreModel, levels: int | None, widened: float) -> Tensor:
    """`noise.few_step` over a short range, for `widened` times the data's standard deviation."""
    count, std = check_levels(levels, DEFAULT_LEVELS), data_std(model)
    ends = short_range(model, count, DATA_RISE)
    return geometric(*ends, count) if std is None else few_step(*ends, count, widened * std)


def angular(sigma_max: float, sigma_min: float, levels: int, data_std: float) -> Tensor:
    """sigma = S tan(theta) with equal steps of theta = arctan(sigma / S), the angle of veab.

    Args:
        sigma_max: First level.
        sigma_min: Last level.
        levels: Number of levels.
        data_std: S, above zero.

    Returns:
        float64 (levels,).
    """
    ladder = geometric(sigma_max, sigma_min, levels)
    first, last = math.atan(sigma_max / data_std), math.atan(sigma_min / data_std)
    angles = torch.linspace(first, last, levels, dtype=torch.float64)
    ladder[1:-1] = data_std * angles[1:-1].tan()
    return check_ladder(ladder)
