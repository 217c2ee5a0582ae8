"""The faults of a score, by name: rules over the rows of `score_health`.

A fault is found where a measure lies beyond a size by three standard errors. Significance alone
does not count, since with enough examples every network differs significantly from the truth. The
sizes lie between those of sound networks (perceptrons and U-Nets on digits and photographs) and
those of the faults. Rules are tried in order. A fault of the first five explains all other
measures, and the last rule is for measures that no other fault explains.

    not finite     a denoised value is NaN or infinite
    sign           the slope of the noise on the predicted noise is below 0
    start          the averaged weights are worse than the live ones by SIZE
    range          the model's mean is a m + b with the data's m, or its variance is a multiple of
                   the data's: the values were scaled differently when it was trained
    start          D is close to a x, as for an untrained network, or to the denoiser of means and
                   variances alone, and its loss is far above the best Gaussian's
    curl           |J - J'| is as large as |J|
    memorised      the training loss is below half of the held-out loss
    over-smoothed  in directions of fine detail D follows the data far less than the best linear
                   denoiser does; or the trace of its Jacobian is far smaller and its error is
                   above its own prediction
    other data     the model's mean differs from the data's, or its errors are far above a
                   Gaussian's and above its own prediction, in training data too

`notes` lists measures that are off by more than SIZE without being a fault.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from ..objectives import Estimate
from .health_data import Reference
from .health_rows import HealthRow, plain_number

ERRORS = 3.0  # standard errors that a measure must lie beyond the size that counts
SIZE = 0.05  # size above which a difference counts
INFORMED = 0.7  # a Gaussian's loss below which a level shows whether something was learned
NEAR = 0.5  # of what the best Gaussian knows, below which `learned` is that of an untrained network
SHIFT = 0.25  # of a mean, in standard deviations of the data; sound networks: up to 0.08
SCALE = 2.5  # factor of a variance; sound networks: 0.4 to 1.6
AFFINE = 0.9  # part of a mean's difference that a m + b explains, where it is taken as a cause
LEAST_SCALE = 0.2  # of |a|: an untrained network has the mean 0, whatever the data are
ELEMENTS = 8  # elements from which a and b are estimated
WORSE = 1.25  # loss over a Gaussian's, and error over its own prediction; sound: up to 1.24
MEMORISED = 0.5  # gap; sound networks: up to 0.2
DETAIL = 0.7  # sound networks: 0.97 and more
TRACE = 0.62  # with errors of WORSE times the prediction; sound networks: 0.36 without such errors
CURL = 1.0  # asymmetry; sound networks: up to 0.84


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a score.

    Attributes:
        name: A name of the module docstring.
        sentence: What was measured, and a remedy where one is known.
        size: The measure that decided.
        sigma: The noise level where it is largest, model units.
    """

    name: str
    sentence: str
    size: float
    sigma: float

    def to_dict(self) -> dict[str, Any]:
        """Name, sentence, size and sigma; NaN becomes None."""
        return {**asdict(self), "size": plain_number(self.size)}


Rows = Sequence[HealthRow]


def above(found: Estimate, size: float) -> bool:
    """Whether an estimate lies above a size by ERRORS standard errors; False for NaN."""
    return found.value - ERRORS * found.se > size


def below(found: Estimate, size: float) -> bool:
    """Whether an estimate lies below a size by ERRORS standard errors; False for NaN."""
    return found.value + ERRORS * found.se < size


def judge(rows: Rows, reference: Reference) -> list[Finding]:
    """Try the rules of the module docstring.

    Args:
        rows: The rows, largest sigma first.
        reference: The references from the training data.

    Returns:
        The findings; empty for a sound model.
    """
    for rule in (_not_finite, _sign, _lagging, _range, _start):
        found = rule(rows, reference)
        if found is not None:
            return [found]
    curl, smooth = _curl(rows), _memorised(rows) or _over_smoothed(rows)
    several = [found for found in (curl, smooth) if found is not None]
    other = None if several else _other_data(rows, reference)
    return several if other is None else [other]


def notes(rows: Rows) -> list[str]:
    """Sentences about measures that are off by more than SIZE; sound models may have some.

    Args:
        rows: The rows, largest sigma first.

    Returns:
        One sentence for each measure that is off.
    """
    limits: tuple[tuple[str, Callable[[HealthRow], Estimate], str], ...] = (
        ("the held-out loss is above the best Gaussian's", _excess, ""),
        ("the training loss is below the held-out loss", lambda row: row.gap, ""),
        ("the error is above what the model's own Jacobian predicts", _surplus, ""),
        ("Stein's identity is off", _deviation, " of the dimension"),
    )
    found = []
    for words, measure, of in limits:
        off = [row for row in rows if above(measure(row), SIZE)]
        if off:
            worst = max(off, key=lambda row: measure(row).value)
            found.append(
                f"At {len(off)} of {len(rows)} levels {words}, by up to "
                f"{measure(worst).value:.0%}{of} (sigma {worst.sigma:.3g})."
            )
    return found


def _excess(row: HealthRow) -> Estimate:
    """loss/gaussian - 1, with the standard error of the loss alone."""
    return Estimate(row.loss.value / row.gaussian.value - 1, row.loss.se / row.gaussian.value)


def _surplus(row: HealthRow) -> Estimate:
    """actual/predicted - 1, from the predicted error over the actual one."""
    value = row.calibration.value
    if not value > 0:
        return Estimate(math.inf if value < 0 else math.nan, 0.0)
    return Estimate(1 / value - 1, row.calibration.se / value**2)


def _deviation(row: HealthRow) -> Estimate:
    return Estimate(abs(row.stein.value), row.stein.se)


def _not_finite(rows: Rows, reference: Reference) -> Finding | None:
    bad = [row for row in rows if not math.isfinite(row.loss.value + row.training_loss.value)]
    if not bad:
        return None
    words = f"not finite: the model gives NaN or infinity at {len(bad)} of {len(rows)} levels."
    return Finding("not finite", words, math.nan, bad[0].sigma)


def _sign(rows: Rows, reference: Reference) -> Finding | None:
    wrong = [row for row in rows if below(row.slope, 0)]
    if len(wrong) <= len(rows) / 2:
        return None
    worst = min(wrong, key=lambda row: row.slope.value)
    return Finding(
        "sign",
        "sign: the score points away from the data. The slope of the noise on the predicted noise "
        f"is {worst.slope.value:.2f} at sigma {worst.sigma:.3g} in place of 1. Multiply the score "
        "by -1.",
        worst.slope.value,
        worst.sigma,
    )


def _lagging(rows: Rows, reference: Reference) -> Finding | None:
    lagging = [row for row in rows if _lag(row) > SIZE]
    if len(lagging) >= len(rows) / 2:
        worst = max(lagging, key=_lag)
        assert worst.live is not None
        return Finding(
            "start",
            "start: the averaged weights still hold the start of training. At sigma "
            f"{worst.sigma:.3g} their held-out loss is {worst.loss.value:.3f}, that of the live "
            f"weights {worst.live.value:.3f}. Use the live weights, a narrower average, or train "
            "longer.",
            _lag(worst),
            worst.sigma,
        )
    return None


def _start(rows: Rows, reference: Reference) -> Finding | None:
    informed = [row for row in rows if row.gaussian.value < INFORMED]
    if not informed or not all(_bare(row) for row in informed):
        return None
    best = min(informed, key=lambda row: row.gaussian.value)
    return Finding(
        "start",
        "start: the model knows little more than means and variances. At sigma "
        f"{best.sigma:.3g} its held-out loss is {best.loss.value:.3f}, knowing nothing 1, the best "
        f"Gaussian {best.gaussian.value:.3f}. The weights, or their average, are still those of "
        "the start of training.",
        best.loss.value,
        best.sigma,
    )


def _bare(row: HealthRow) -> bool:
    """Whether D is close to that of an untrained network, and far worse than a Gaussian's."""
    worse = min(row.loss.value, row.training_loss.value) > WORSE * row.gaussian.value
    return worse and row.learned.value < NEAR * (1 - row.gaussian.value)


def _lag(row: HealthRow) -> float:
    """How far the loss is above that of the live weights, beyond ERRORS standard errors."""
    if row.live is None or not row.live.value > 0:
        return 0.0
    error = math.hypot(row.loss.se, row.live.se)
    return (row.loss.value - row.live.value - ERRORS * error) / row.live.value


def _range(rows: Rows, reference: Reference) -> Finding | None:
    widest = rows[0]
    std = float(reference.variance.mean().sqrt())
    if widest.sigma < 2 * std:
        return None
    if widest.mean_shift > SHIFT:
        if not _are_overconfident(rows, std):
            return None
        fitted = _affine(reference.mean, reference.mean + widest.shift, std)
        if fitted is None:
            return None
        a, b = fitted
        return Finding(
            "range",
            f"range: the model's mean example is {a:.2f} times the data's {b:+.2f} (model units). "
            "Values were scaled or inverted otherwise when it was trained: check the data's range "
            "and the model's units.",
            a,
            widest.sigma,
        )
    factor, follows = max(widest.trace_ratio, 0.0), not below(rows[-1].detail, DETAIL)
    narrow = factor < 1 / SCALE and follows and _are_overconfident(rows, std)
    if not (narrow or (factor > SCALE and above(widest.calibration, WORSE))):
        return None
    return Finding(
        "range",
        f"range: the variance of the data by the model is {factor:.2f} times that of the examples. "
        "Values were scaled otherwise when it was trained: check the data's range and the model's "
        "units.",
        factor,
        widest.sigma,
    )


def _overconfident(row: HealthRow) -> bool:
    """Whether the error is above the model's own prediction."""
    return below(row.calibration, 1 / WORSE)


def _are_overconfident(rows: Rows, std: float) -> bool:
    """Whether the model is overconfident at most levels about the data's scale."""
    middle = [row for row in rows if std / 10 < row.sigma < 2 * std]
    return sum(_overconfident(row) for row in middle) > len(middle) / 2


def _affine(mean: Tensor, believed: Tensor, std: float) -> tuple[float, float] | None:
    """a and b of believed = a mean + b, where this explains the difference; else None."""
    centred = mean - mean.mean()
    if len(mean) < ELEMENTS or float(centred.square().mean().sqrt()) < std / 10:
        return None
    a = float((centred * believed).sum() / centred.square().sum())
    b = float(believed.mean() - a * mean.mean())
    left = (believed - a * mean - b).square().mean()
    explained = float(left) <= (1 - AFFINE) * float((believed - mean).square().mean())
    return (a, b) if explained and abs(a) > LEAST_SCALE else None


def _other_data(rows: Rows, reference: Reference) -> Finding | None:
    std = float(reference.variance.mean().sqrt())
    advice = "The model was trained on other data than these, or hardly at all."
    widest = rows[0]
    if widest.sigma > 2 * std and widest.mean_shift > SHIFT:
        return Finding(
            "other data",
            f"other data: the model's mean example is {widest.mean_shift:.2f} standard deviations "
            f"away from the data's on average. {advice}",
            widest.mean_shift,
            widest.sigma,
        )
    middle = [row for row in rows if std / 10 < row.sigma < 2 * std]
    wrong = [
        row
        for row in middle
        if _overconfident(row)
        and min(row.loss.value, row.training_loss.value) > WORSE * row.gaussian.value
    ]
    if not middle or len(wrong) <= len(middle) / 2:
        return None
    worst = max(wrong, key=lambda row: row.loss.value / row.gaussian.value)
    size = worst.loss.value / worst.gaussian.value
    return Finding(
        "other data",
        f"other data: at sigma {worst.sigma:.3g} the error is {size:.2f} times that of the best "
        f"Gaussian and {1 / worst.calibration.value:.2f} times what the model predicts. {advice}",
        size,
        worst.sigma,
    )


def _memorised(rows: Rows) -> Finding | None:
    found = [row for row in rows if above(row.gap, MEMORISED)]
    if not found:
        return None
    worst = max(found, key=lambda row: row.gap.value)
    return Finding(
        "memorised",
        f"memorised: at sigma {worst.sigma:.3g} the training loss {worst.training_loss.value:.3f} "
        f"is {worst.gap.value:.0%} below the held-out loss {worst.loss.value:.3f}. Stop earlier, "
        "use more data, or a smaller network with dropout.",
        worst.gap.value,
        worst.sigma,
    )


def _over_smoothed(rows: Rows) -> Finding | None:
    found = [row for row in rows if below(row.detail, DETAIL)]
    if found:
        worst = min(found, key=lambda row: row.detail.value)
        return Finding(
            "over-smoothed",
            f"over-smoothed: at sigma {worst.sigma:.3g} the denoised examples have "
            f"{worst.detail.value:.0%} of the fine detail that the best linear denoiser recovers.",
            worst.detail.value,
            worst.sigma,
        )
    informed = [row for row in rows if row.gaussian.value < INFORMED]
    slack = [r for r in informed if r.trace_ratio < TRACE and _overconfident(r)]
    if not informed or len(slack) <= len(informed) / 2:
        return None
    worst = min(slack, key=lambda row: row.trace_ratio)
    return Finding(
        "over-smoothed",
        f"over-smoothed: at sigma {worst.sigma:.3g} the denoised value follows its input "
        f"{worst.trace_ratio:.2f} times as much as the best linear one, and its error is "
        f"{1 / worst.calibration.value:.2f} times what that allows.",
        worst.trace_ratio,
        worst.sigma,
    )


def _curl(rows: Rows) -> Finding | None:
    found = [row for row in rows if above(row.asymmetry, CURL)]
    if not found:
        return None
    worst = max(found, key=lambda row: row.asymmetry.value)
    return Finding(
        "curl",
        f"curl: at sigma {worst.sigma:.3g} the Jacobian of the denoised value differs from its "
        f"transpose by {worst.asymmetry.value:.2f} of its size, so the score is far from a "
        "gradient.",
        worst.asymmetry.value,
        worst.sigma,
    )
