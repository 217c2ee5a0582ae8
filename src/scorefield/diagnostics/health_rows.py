"""What `score_health` measures at one noise level, from pairs of clean and noisy examples.

    x = x0 + sigma z,   D = E[x0 | x],   z_hat = (x - D)/sigma

Each measure is a mean over examples, or a ratio of two such means, with its standard error. For the
true D and examples of d elements the following hold for any data:

    Stein's identity      E[(s + z/sigma)·(x - m)] = E[(D - x0)·(x - m)]/sigma² = 0, relative
                          to d = -E[s·(x - m)]; low variance, since s + z/sigma is small where s
                          is large
    slopes                z on z_hat and x0 - m on D - m have slope 1: the errors of a conditional
                          mean are uncorrelated with every function of x
    calibration           E|D - x0|² = sigma² E tr J, J = dD/dx (Miyasawa 1961): predicted over
                          actual error, the trace from E[z·D] = sigma E tr J, in which the linear
                          denoiser of the best Gaussian is the control variate
    symmetry              J = Cov[x0 | x]/sigma² = J': |J - J'|/|J| (Frobenius) from Gaussian probes
                          u, v with E (u'Jv - v'Ju)² = |J - J'|² and E |u'J|² = |J|²
    detail                in every direction D explains at least what the best linear one does:
                          E[P D·x0]/E[P D_gauss·x0] >= 1, P on the directions of smallest variance
                          that hold a tenth of the data's

Losses are in units of the loss of a model that knows only the mean and variance of each channel
("knowing nothing", `baselines`); this is the EDM weight where the data are standardised. The
memoriser is the training data's own denoiser (`exact.Empirical`).
"""

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..objectives import Estimate

Z90 = 1.6449  # standard errors on either side of a 90 % interval


@dataclass(frozen=True)
class HealthRow:
    """The measures of one noise level, on held-out data unless stated otherwise.

    Attributes:
        sigma: The noise level, model units.
        loss: Denoising loss; 1 for a model that knows only means and variances.
        training_loss: The same on training data, with other noise.
        gaussian: The loss of the best Gaussian: training mean and covariance.
        memoriser: The loss of the training data's own denoiser.
        memoriser_distance: E|D - D_memoriser|²/E|x0 - D_memoriser|²: 0 for a memoriser, and
            1 - loss/memoriser for the true D.
        gap: 1 - training_loss/loss; large where the model memorises.
        stein: Relative deviation from Stein's identity.
        slope: Slope of the noise z on the predicted noise.
        intercept: Mean of z less slope times the predicted noise.
        denoised_slope: Slope of x0 on D, both centred.
        calibration: Squared error that the model's own Jacobian predicts, over the actual one;
            below 1 where the model is overconfident.
        asymmetry: |J - J'|/|J|, between 0 and 2; NaN where it is not measured.
        detail: Covariance of D with x0 in fine directions, over the same of the best Gaussian; NaN
            where the latter is below a tenth of the data's variance.
        learned: E|D - D_0|²/E|x0 - D_nothing|², the smaller value of two choices of D_0: the
            denoiser D_nothing of means and variances, and a x with the best number a, which is
            the form of an untrained network. At most 1 - loss for the true D.
        mean_shift: Root mean square over elements of E[D - D_gauss], in standard deviations of
            the data; the model's mean less the data's where sigma is large.
        live: Loss of the live weights; None where they were not given.
        fisher: Fisher divergence 1/2 E|s_truth - s|² to a known truth; None without one.
        shift: E[D - D_gauss] by element, (d,).
        trace_ratio: E tr J over that of the best Gaussian.
    """

    sigma: float
    loss: Estimate
    training_loss: Estimate
    gaussian: Estimate
    memoriser: Estimate
    memoriser_distance: Estimate
    gap: Estimate
    stein: Estimate
    slope: Estimate
    intercept: Estimate
    denoised_slope: Estimate
    calibration: Estimate
    asymmetry: Estimate
    detail: Estimate
    learned: Estimate
    mean_shift: float
    live: Estimate | None = None
    fisher: Estimate | None = None
    shift: Tensor = field(default_factory=lambda: torch.zeros(0), repr=False, compare=False)
    trace_ratio: float = field(default=math.nan, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Numbers by name, in a form that JSON can hold; estimates with their 90 % interval."""
        found: dict[str, Any] = {}
        for name, value in vars(self).items():
            if isinstance(value, Estimate):
                found[name] = interval(value)
            elif not isinstance(value, Tensor):
                found[name] = plain_number(value)
        return found


def plain_number(value: float | None) -> float | None:
    """A number that JSON can hold: None for NaN and infinity."""
    return value if value is not None and math.isfinite(value) else None


def interval(found: Estimate) -> dict[str, float | None]:
    """An estimate as value, standard error and 90 % interval of the normal distribution."""
    low, high = found.value - Z90 * found.se, found.value + Z90 * found.se
    names = {"value": found.value, "se": found.se, "low": low, "high": high}
    return {name: plain_number(value) for name, value in names.items()}


def mean_of(values: Tensor) -> Estimate:
    """Mean of (n,) and its standard error."""
    return Estimate(values.mean().item(), (values.std() / len(values) ** 0.5).item())


def ratio_of(top: Tensor, bottom: Tensor) -> Estimate:
    """E top/E bottom of paired (n,), with the standard error of the linearised ratio."""
    below = bottom.mean()
    value = top.mean() / below
    se = (top - value * bottom).std() / (below.abs() * len(top) ** 0.5)
    return Estimate(value.item(), se.item())
