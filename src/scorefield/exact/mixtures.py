"""Gaussian mixtures: their smoothed score, density and posterior mean in closed form.

    p = sum_k w_k N(m_k, C_k),   p_sigma = sum_k w_k N(m_k, C_k + sigma² I)

With C_k = Q_k diag(l_k) Q_k' computed once, u_k = Q_k' (x - m_k), v_k = l_k + sigma² and the
responsibilities r_k(x) ~ w_k N(x; m_k, C_k + sigma² I):

    log p_sigma = logsumexp_k(log w_k - (|u_k|²/v_k + log v_k + d log 2 pi) / 2)
    score       = - sum_k r_k Q_k (u_k / v_k)
    D           = sum_k r_k (m_k + Q_k (l_k u_k / v_k))

sigma enters as l + sigma², so one decomposition serves every sigma, one a sample included, and
sigma = 0 where every l > 0. All of it is computed in float64 and returned in x's type.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .. import conditions, rng
from ..conditions import NULL_CLASS, Condition, ConditionSpec
from ..errors import InputError
from ..models import Moments, ScoreModel
from ..tensors import float64, reals
from ..values import whole, whole_numbers
from .common import (
    LOG_2PI,
    SAMPLING,
    SIGMA_TINY,
    default_range,
    draw_keys,
    keyed,
    noise_levels,
)

SHOWN_WEIGHTS = 6  # components whose weights a summary names


def _spectrum(
    covariances: Tensor, count: int, event_shape: tuple[int, ...]
) -> tuple[Tensor, Tensor | None]:
    """Eigenvalues (K, d) and eigenvectors (K, d, d) in columns; None for diagonal covariances."""
    d = math.prod(event_shape)
    vectors: Tensor | None = None
    if covariances.shape in ((), (count,)):
        values = covariances.reshape(-1, 1).expand(count, d).clone()
    elif covariances.shape in ((count, d), (count, *event_shape)):
        values = covariances.reshape(count, d).clone()
    elif covariances.shape == (count, d, d):
        if not torch.allclose(
            covariances, covariances.mT, rtol=1e-10, atol=1e-10 * float(covariances.abs().max())
        ):
            raise InputError("covariances must be symmetric; use (c + c.mT) / 2")
        values, vectors = torch.linalg.eigh((covariances + covariances.mT) / 2)
        rounding = 8 * d * torch.finfo(torch.float64).eps * values.abs().amax(-1, keepdim=True)
        # The zeros of a singular covariance come out as +-1e-17.
        values = torch.where(values.abs() <= rounding, 0.0, values)
    else:
        shapes = f"(), ({count},), ({count}, {d}) or ({count}, {d}, {d})"
        raise InputError(
            f"covariances must have shape {shapes} for {count} components of {d} elements; got "
            f"{tuple(covariances.shape)}"
        )
    if bool((values < 0).any()):
        raise InputError(
            f"covariances must have no negative eigenvalue; got {float(values.min()):g}"
        )
    return values, vectors


def _log_weights(weights: Any, log_weights: Any, count: int) -> Tensor:
    """Normalised log weights (K,); equal ones where neither form is given."""
    if weights is not None and log_weights is not None:
        raise InputError("give weights or log_weights, not both")
    if weights is not None:
        given = float64(weights, "weights")
        if bool((given < 0).any()) or not float(given.sum()) > 0:
            raise InputError(
                f"weights must not be negative and not all be zero; got {given.tolist()}"
            )
        logs = given.log()
    elif log_weights is not None:
        logs = reals(log_weights, "log_weights", torch.float64)
    else:
        logs = torch.zeros(count, dtype=torch.float64)
    if logs.shape != (count,) or bool(torch.isnan(logs).any()):
        raise InputError(
            f"need one weight for each of {count} components; got shape {tuple(logs.shape)}"
        )
    return logs.log_softmax(0)


def _labels(labels: Any) -> Tensor:
    """The classes (K,) of the components, int64."""
    return torch.tensor(whole_numbers(labels, "labels"), dtype=torch.int64)


class GaussianMixture(ScoreModel):
    """The mixture sum_k w_k N(m_k, C_k), for examples of any shape with d elements.

        p = GaussianMixture([[-5.0, -5.0], [5.0, 5.0]], 1.0, [0.2, 0.8])
        x = sf.sample(p, 1000, nfe=20)

    Args:
        means: (K, *event).
        covariances: (K, d, d); variances (K, d) or (K, *event); (K,), or one number. Zero
            covariances are point masses; such a mixture is known from sigma > 0 on.
        weights: (K,), not negative; normalised here. None: equal weights.
        log_weights: (K,), instead of `weights`.
        labels: (K,) whole numbers from 0: the class of each component. The condition {"class": c}
            then restricts the mixture to the components of class c.

    Raises:
        InputError: For shapes that do not fit together, negative weights or eigenvalues, numbers
            that are not finite, or labels with a gap.
    """

    has_log_density = True
    sampling_defaults = SAMPLING
    means: Tensor  # (K, d)
    spectrum: Tensor  # (K, d)
    vectors: Tensor | None  # (K, d, d)
    log_weights: Tensor  # (K,)
    labels: Tensor | None  # (K,)

    def __init__(
        self,
        means: Tensor | Sequence[Any],
        covariances: Tensor | Sequence[Any] | float,
        weights: Tensor | Sequence[float] | None = None,
        log_weights: Tensor | Sequence[float] | None = None,
        labels: Tensor | Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        centres = float64(means, "means")
        if centres.ndim < 2 or centres.numel() == 0:
            raise InputError(
                "means must be (K, *event) with at least one component and one element; got "
                f"{tuple(centres.shape)}"
            )
        count, self.event_shape = len(centres), tuple(centres.shape[1:])
        spectrum, vectors = _spectrum(float64(covariances, "covariances"), count, self.event_shape)
        self.register_buffer("means", centres.flatten(1).clone())
        self.register_buffer("spectrum", spectrum)
        self.register_buffer("vectors", vectors)
        self.register_buffer("log_weights", _log_weights(weights, log_weights, count))
        classes = None if labels is None else _labels(labels).to(centres.device)
        if classes is not None:
            found = classes.unique().tolist()
            if classes.shape != (count,) or found != list(range(len(found))):
                raise InputError(
                    f"labels must be {count} whole numbers that fill 0, 1, ...; got {found}"
                )
            self.conditions = {"class": ConditionSpec("class", len(found))}
        self.register_buffer("labels", classes)
        self.sigma_min = 0.0 if bool((spectrum > 0).all()) else SIGMA_TINY
        self.sigma_max = math.inf

    def summary(self) -> str:
        weights = [f"{w:.3g}" for w in self.weights.tolist()]
        shown = ", ".join(weights[:SHOWN_WEIGHTS])
        shown += ", ..." if len(weights) > SHOWN_WEIGHTS else ""
        kind = "points" if not bool(self.spectrum.any()) else "components"
        return f"{type(self).__name__} of {len(weights):,} {kind} with weights {shown}"

    @property
    def weights(self) -> Tensor:
        """The weights (K,), which sum to one."""
        return self.log_weights.exp()

    def _class_log_weights(self, condition: Condition | None) -> Tensor:
        """Log weights (1, K), or (B, K) given the class of each sample, normalised."""
        if condition is None or "class" not in condition or self.labels is None:
            return self.log_weights[None]
        wanted = condition["class"].to(self.labels.device)[:, None]
        inside = (wanted == NULL_CLASS) | (wanted == self.labels)
        return self.log_weights.where(inside, -math.inf).log_softmax(1)

    def _components(
        self,
        x: Tensor,
        sigma: Tensor | float,
        condition: Condition | None,
        density: bool = False,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """u (B, K, d) and v (1 or B, K, d) of the module docstring, and log(w_k N_k) (B, K)."""
        level = self.check(x, sigma, condition, density).to(x.device, torch.float64)
        u = x.to(torch.float64).flatten(1)[:, None] - self.means
        if self.vectors is not None:
            u = torch.einsum("bkd,kde->bke", u, self.vectors)
        v = self.spectrum + level.square().reshape(-1, 1, 1)
        squares = (u.square() / v + v.log()).sum(-1) + u.shape[-1] * LOG_2PI
        return u, v, self._class_log_weights(condition) - squares / 2

    def _back(self, u: Tensor) -> Tensor:
        """sum_k Q_k u_k: (B, K, d) -> (B, d)."""
        return u.sum(1) if self.vectors is None else torch.einsum("bke,kde->bd", u, self.vectors)

    def denoise(
        self, x: Tensor, sigma: Tensor | float, condition: Condition | None = None
    ) -> Tensor:
        """E[x0 | x], and x itself where sigma = 0; arguments as for any score model."""
        u, v, logs = self._components(x, sigma, condition)
        share = logs.softmax(1)
        denoised = share @ self.means + self._back(share[..., None] * self.spectrum / v * u)
        # sigma² may lie below the rounding of every eigenvalue
        clean = (v == self.spectrum).flatten(1).all(1).reshape(-1, *[1] * len(self.event_shape))
        return torch.where(clean, x, denoised.reshape(x.shape).to(x.dtype))

    def score(self, x: Tensor, sigma: Tensor | float, condition: Condition | None = None) -> Tensor:
        """grad log p_sigma(x); arguments as for any score model."""
        u, v, logs = self._components(x, sigma, condition)
        return -self._back(logs.softmax(1)[..., None] * u / v).reshape(x.shape).to(x.dtype)

    def log_prob(
        self, x: Tensor, sigma: Tensor | float = 0.0, condition: Condition | None = None
    ) -> Tensor:
        """log p_sigma(x), normalised, in nats.

        Args:
            x: (B, *event).
            sigma: () or (B,), 0 or more.
            condition: One row a sample, or None.

        Returns:
            (B,), x's type.
        """
        return self._components(x, sigma, condition, density=True)[2].logsumexp(1).to(x.dtype)

    def log_density(
        self, x: Tensor, sigma: Tensor | float = 0.0, condition: Condition | None = None
    ) -> Tensor:
        """The same as `log_prob`: the method of `ScoreModel` that samplers call."""
        return self.log_prob(x, sigma, condition)

    def sample(
        self,
        count: int,
        sigma: Tensor | float = 0.0,
        seed: int = 0,
        condition: Mapping[str, Any] | None = None,
    ) -> Tensor:
        """Independent draws of p_sigma; draw k is a function of (seed, k).

        Args:
            count: Number of draws.
            sigma: () or (count,), 0 or more.
            seed: A whole number.
            condition: Such as {"class": 3}: one value for all draws, or one for each; or None.

        Returns:
            float64 (count, *event).
        """
        count = whole(count, "count", 0)
        condition = conditions.resolve(condition, self.conditions, count, type(self).__name__)
        noise = noise_levels(sigma, count).to(self.means.device)
        keys = draw_keys(seed, count, self.means.device)
        ticket = keyed(rng.uniform, keys, 0, ())[:, None].contiguous()
        ladder = self._class_log_weights(condition).exp().cumsum(1).expand(count, -1)
        ladder = ladder / ladder[:, -1:]
        chosen = torch.searchsorted(ladder.contiguous(), ticket)[:, 0]
        chosen = chosen.clamp(max=len(self.means) - 1)
        scale = (self.spectrum[chosen] + noise.square()).sqrt()
        x = keyed(rng.normal, keys, 1, tuple(self.means.shape[1:])) * scale
        if self.vectors is not None:
            for k in chosen.unique().tolist():  # a gather of (count, d, d) would not fit for images
                x[chosen == k] = x[chosen == k] @ self.vectors[k].T
        return (self.means[chosen] + x).reshape(count, *self.event_shape)

    def moments(self, condition: Condition | None = None) -> Moments:
        """Mean, variance and covariance of x0, row by row where there is a condition."""
        given = condition is not None and "class" in condition
        weights = self._class_log_weights(condition).exp()
        mean = weights @ self.means
        apart = self.means - mean[:, None]
        covariance = torch.einsum("bk,bkd,bke->bde", weights, apart, apart)
        if self.vectors is None:
            covariance = covariance + torch.diag_embed(weights @ self.spectrum)
        else:
            covariance = covariance + torch.einsum(
                "bk,kde,ke,kfe->bdf", weights, self.vectors, self.spectrum, self.vectors
            )
        mean = mean.reshape(-1, *self.event_shape).cpu()
        variance = covariance.diagonal(dim1=1, dim2=2).reshape(-1, *self.event_shape).cpu()
        rows = slice(None) if given else 0
        return Moments(mean[rows], variance[rows], covariance.cpu()[rows])

    def sampling_range(self) -> tuple[float, float]:
        """A range from the smallest component to well beyond the whole mixture."""
        covariance = self.moments().covariance
        assert covariance is not None
        widest = float(torch.linalg.eigvalsh(covariance)[-1].clamp(min=0).sqrt())
        used = self.spectrum[self.log_weights > -math.inf]
        return default_range(float(used.min().sqrt()), widest)


class Gaussian(GaussianMixture):
    """The normal density N(mean, covariance).

    Args:
        mean: (*event) with d elements.
        covariance: (d, d); variances (d,) or (*event); or one number.

    Raises:
        InputError: As for GaussianMixture.
    """

    def __init__(
        self, mean: Tensor | Sequence[Any], covariance: Tensor | Sequence[Any] | float
    ) -> None:
        centre, spread = float64(mean, "mean"), float64(covariance, "covariance")
        if centre.ndim == 0:
            raise InputError(
                "mean must be (*event) with at least one dimension; got one number. One element "
                "is [mean]"
            )
        super().__init__(centre[None], spread[None] if spread.ndim else spread)

    def summary(self) -> str:
        return "Gaussian, a normal density"
