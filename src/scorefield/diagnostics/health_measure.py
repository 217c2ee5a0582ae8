"""Measuring a model at one noise level: the means of `health_rows`."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..conditions import Condition, take
from ..models import ScoreModel, jacobian
from ..objectives import Estimate
from .health_data import FINE, Examples, Reference
from .health_rows import HealthRow, mean_of, ratio_of

BATCH = 256  # examples an evaluation
PROBED = 8  # the Jacobian is probed at one of this many held-out examples
PROBED_ELEMENTS = 1 << 18  # elements of the examples that are probed at a time
PROBES = 3  # probes at each of these examples; every pair of probes is used
PROBE_DRAW = 1 << 20  # first draw of the probes, beyond those of the noise
WORK = 5e9  # elements of training data times noisy examples that the memoriser reads at a level
LEAST = 64  # examples at which the memoriser is evaluated, at least
Columns = dict[str, Tensor]


def evaluate(model: ScoreModel, x: Tensor, sigma: float, condition: Condition | None) -> Tensor:
    """The denoised values of a batch, in parts.

    Args:
        model: The model.
        x: (n, *event) in model units.
        sigma: The noise level.
        condition: One row an example, or None.

    Returns:
        (n, d), float64 on the CPU.
    """
    parts = []
    for first in range(0, len(x), BATCH):
        rows = slice(first, first + BATCH)
        parts.append(model.denoise(x[rows], sigma, take(condition, rows)))
    return torch.cat(parts).flatten(1).to("cpu", torch.float64)


@dataclass(frozen=True)
class Probe:
    """Measures a model.

    Attributes:
        model: The model.
        reference: The references from the training data.
        held_out: Held-out examples.
        training: Training examples.
        live: The model with its live weights, or None.
        truth: A model whose score is known to be right, or None.
    """

    model: ScoreModel
    reference: Reference
    held_out: Examples
    training: Examples
    live: ScoreModel | None = None
    truth: ScoreModel | None = None

    @torch.no_grad()
    def row(self, sigma: float, level: int) -> HealthRow:
        """All measures at a noise level.

        Args:
            sigma: The noise level.
            level: Its number, which decides the noise.

        Returns:
            The row.
        """
        held, shift = self._held_out(sigma, level)
        nothing, d = self.reference.nothing(sigma), len(self.reference.mean)
        loss = mean_of(held["error"] / nothing)
        training = mean_of(self._training_errors(sigma, level) / nothing)
        slope = ratio_of(held["z z_hat"], held["z_hat z_hat"])
        trace = self.reference.trace(sigma) + held["trace"] / sigma
        detail = Estimate(math.nan, math.nan)
        if held["fine gaussian"].mean() > FINE * held["fine data"].mean():
            detail = ratio_of(held["fine"], held["fine gaussian"])
        spread = (shift.square().sum() / self.reference.variance.sum()).sqrt()
        return HealthRow(
            sigma,
            loss,
            training,
            mean_of(held["gaussian"] / nothing),
            mean_of(held["memoriser"] / nothing),
            ratio_of(held["distance"], held["memoriser"]),
            _gap(training, loss),
            mean_of(held["stein"] / (sigma**2 * d)),
            slope,
            mean_of((held["z"] - slope.value * held["z_hat"]) / d),
            ratio_of(held["x0 D"], held["D D"]),
            ratio_of(sigma**2 * trace, held["error"]),
            self._asymmetry(sigma, level),
            detail,
            min(
                ratio_of(held["from nothing"], held["nothing"]),
                ratio_of(held["from scaling"], held["nothing"]),
            ),
            float(spread),
            None if self.live is None else mean_of(held["live"] / nothing),
            None if self.truth is None else mean_of(held["fisher"]),
            shift,
            float(trace.mean()) / self.reference.trace(sigma),
        )

    def _training_errors(self, sigma: float, level: int) -> Tensor:
        """Squared errors (n,) of training examples."""
        examples, total = self.training, torch.zeros(0)
        for draw in range(examples.draws):
            x = examples.x0 + sigma * examples.normals(level, draw)
            denoised = evaluate(self.model, x, sigma, examples.condition)
            error = (denoised - _flat(examples.x0)).square().sum(1)
            total = error if draw == 0 else total + error
        return total / examples.draws

    def _held_out(self, sigma: float, level: int) -> tuple[Columns, Tensor]:
        """Means over the noises of each held-out example, and E[D - D_gauss] (d,)."""
        examples = self.held_out
        total: Columns = {}
        shift = torch.zeros_like(self.reference.mean)
        for draw in range(examples.draws):
            z = examples.normals(level, draw)
            found, apart = self._columns(examples.x0 + sigma * z, z, sigma)
            total = {name: total.get(name, 0) + value for name, value in found.items()}
            shift += apart
        return {n: value / examples.draws for n, value in total.items()}, shift / examples.draws

    def _columns(self, noisy: Tensor, noise: Tensor, sigma: float) -> tuple[Columns, Tensor]:
        """One number an example (n,) for each mean of `health_rows`."""
        reference, condition = self.reference, self.held_out.condition
        D = evaluate(self.model, noisy, sigma, condition)
        x0, x, z, mean = _flat(self.held_out.x0), _flat(noisy), _flat(noise), reference.mean
        wide = x.reshape(noisy.shape)
        gauss = reference.baselines.gaussian.denoise(wide, sigma).flatten(1)
        nothing = reference.baselines.nothing.denoise(wide, sigma).flatten(1)
        bent = D - (D * x).sum() / x.square().sum() * x
        memorised = self._memorised(wide, sigma)
        part, error, predicted = slice(0, len(memorised)), D - x0, (x - D) / sigma
        # The linear denoiser is a control variate: its part is averaged over z in closed form.
        still = reference.baselines.gaussian.denoise(x0.reshape(noisy.shape), sigma).flatten(1)
        stein = _dot(D - gauss, x - mean) + _dot(still - x0, x0 - mean)
        stein = stein + sigma**2 * reference.trace(sigma)
        found = {
            "error": _dot(error, error),
            "gaussian": _dot(gauss - x0, gauss - x0),
            "memoriser": _dot(memorised - x0[part], memorised - x0[part]),
            "distance": _dot(memorised - D[part], memorised - D[part]),
            "nothing": _dot(nothing - x0, nothing - x0),
            "from nothing": _dot(nothing - D, nothing - D),
            "from scaling": _dot(bent, bent),
            "stein": stein,
            "z": z.sum(1),
            "z_hat": predicted.sum(1),
            "z z_hat": _dot(z, predicted),
            "z_hat z_hat": _dot(predicted, predicted),
            "x0 D": _dot(x0 - mean, D - mean),
            "D D": _dot(D - mean, D - mean),
            "trace": _dot(z, D - gauss),
            "fine": reference.fine(D - mean, x0 - mean),
            "fine gaussian": reference.fine(gauss - mean, x0 - mean),
            "fine data": reference.fine(x0 - mean, x0 - mean),
        }
        if self.live is not None:
            live = evaluate(self.live, noisy, sigma, condition) - x0
            found["live"] = _dot(live, live)
        if self.truth is not None:
            apart = (evaluate(self.truth, wide, sigma, condition) - D) / sigma**2
            found["fisher"] = _dot(apart, apart) / 2
        return found, (D - gauss).mean(0)

    def _memorised(self, x: Tensor, sigma: float) -> Tensor:
        """The memoriser's denoised values (m, d), of the first examples where there is much."""
        memoriser = self.reference.memoriser
        rows = max(LEAST, int(WORK / memoriser.data.numel()))
        return memoriser.denoise(x[:rows], sigma).flatten(1)

    def _asymmetry(self, sigma: float, level: int) -> Estimate:
        """|J - J'|/|J| from random probes of the Jacobian of D."""
        examples = self.held_out
        count = min(len(examples.x0), max(2, len(examples.x0) * examples.draws // PROBED))
        noisy = examples.x0 + sigma * examples.normals(level, 0)
        probes = [examples.normals(level, PROBE_DRAW + k) for k in range(PROBES)]
        step = max(1, PROBED_ELEMENTS // noisy[0].numel())
        parts = []
        for first in range(0, count, step):
            rows = slice(first, min(first + step, count))
            condition = take(examples.condition, rows)
            _, product = jacobian(self.model, noisy[rows], sigma, condition)
            parts.append(_skew([probe[rows] for probe in probes], product))
        square = ratio_of(*(torch.cat(columns) for columns in zip(*parts, strict=True)))
        root = math.sqrt(max(square.value, 0.0)) if math.isfinite(square.value) else math.nan
        return Estimate(root, square.se / (2 * root) if root > 0 else 0.0)


def _skew(probes: Sequence[Tensor], product: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """Means (n,) of (u'Jv - v'Ju)² over pairs of probes, and of |u'J|² over probes."""
    products, flat = [_flat(product(u)) for u in probes], [_flat(u) for u in probes]
    pairs = [
        (_dot(products[a], flat[b]) - _dot(products[b], flat[a])).square()
        for a in range(len(probes))
        for b in range(a)
    ]
    return torch.stack(pairs).mean(0), torch.stack([_dot(p, p) for p in products]).mean(0)


def _flat(x: Tensor) -> Tensor:
    """(n, d), float64 on the CPU."""
    return x.flatten(1).to("cpu", torch.float64)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Inner products (n,) of rows."""
    return (a * b).sum(1)


def _gap(training: Estimate, loss: Estimate) -> Estimate:
    """1 - training/loss of independent means."""
    if not loss.value > 0:
        return Estimate(math.nan, math.nan)
    share = training.value / loss.value
    return Estimate(1 - share, math.hypot(training.se, share * loss.se) / loss.value)
