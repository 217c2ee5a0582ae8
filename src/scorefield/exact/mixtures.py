"""Gaussian mixtures: their smoothed score, density and posterior mean in closed form.

    p = sum_k w_k N(m_k, C_k),   p_sigma = sum_k w_k N(m_k, C_k + sigma² I)

With C_k = Q_k diag(l_k) Q_k' computed once, u_k = Q_k' (x - m_k), v_k = l_k + sigma² and the
responsibilities r_k(x) ~ w_k N(x; m_k, C_k + sigma² I):

    log p_sigma = logsumexp_k(log w_k - (|u_k|²/v_k + log v_k + d log 2 pi) / 2)
    score       = - sum_k r_k Q_k (u_k / v_k)
    D           = sum_k r_k (m_k + Q_k (l_k u_k / v_k))

sigma enters as l + sigma², so one decomposition serves every sigma, one a sample included, and
sigma = 0 where every l > 0. All of it is computed in float64 and returned in x's type.

Q_k may have r < d columns: then the other d - r eigenvalues are equal, c_k, and

    C_k = Q_k diag(l_k) Q_k' + c_k (I - Q_k Q_k')

A posterior of isotropic components has this form, with one column an observed number.
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
from .conditioning import Components, Conditioned, condition, posterior_weights
from .linear import Observation, as_linear_gaussian, impossible

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
    has_posterior = True
    sampling_defaults = SAMPLING
    means: Tensor  # (K, d)
    spectrum: Tensor  # (K, d), the eigenvalues; those without a column of `vectors` are equal
    vectors: Tensor | None  # (K, d, r) with 0 < r <= d; None: diagonal covariances
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
        """u (B, K, d + rest), v and log(w_k N_k) (B, K) of the module docstring.

        v is (1 or B, K, d), or (1 or B, K, r + d) where `vectors` has r < d columns: then the last
        d entries of u and v are those of (I - Q_k Q_k') (x - m_k).
        """
        level = self.check(x, sigma, condition, density).to(x.device, torch.float64)
        apart = x.to(torch.float64).flatten(1)[:, None] - self.means
        u, spectrum = apart, self.spectrum
        if self.vectors is not None:
            u = torch.einsum("bkd,kde->bke", apart, self.vectors)
            if self._rest:
                others = apart - torch.einsum("bke,kde->bkd", u, self.vectors)
                u, spectrum = torch.cat([u, others], -1), self._spread
        square = level.square().reshape(-1, 1, 1)
        v = spectrum + square
        log_det = (self.spectrum + square).log().sum(-1)
        squares = (u.square() / v).sum(-1) + log_det + self.means.shape[1] * LOG_2PI
        return u, v, self._class_log_weights(condition) - squares / 2

    @property
    def _rest(self) -> int:
        """How many equal eigenvalues have no column of `vectors`."""
        return 0 if self.vectors is None else self.means.shape[1] - self.vectors.shape[2]

    @property
    def _spread(self) -> Tensor:
        """The eigenvalue of each entry of u in `_components`."""
        if not self._rest:
            return self.spectrum
        r, d = self.spectrum.shape[1] - self._rest, self.spectrum.shape[1]
        return torch.cat([self.spectrum[:, :r], self.spectrum[:, -1:].expand(-1, d)], 1)

    def _back(self, u: Tensor) -> Tensor:
        """sum_k Q_k u_k, and what lies outside Q_k: (B, K, d + rest) -> (B, d)."""
        if self.vectors is None:
            return u.sum(1)
        r = self.vectors.shape[2]
        found = torch.einsum("bke,kde->bd", u[..., :r], self.vectors)
        return found + u[..., r:].sum(1) if self._rest else found

    def denoise(
        self, x: Tensor, sigma: Tensor | float, condition: Condition | None = None
    ) -> Tensor:
        """E[x0 | x], and x itself where sigma = 0; arguments as for any score model."""
        u, v, logs = self._components(x, sigma, condition)
        share = logs.softmax(1)
        spectrum = self._spread
        denoised = share @ self.means + self._back(share[..., None] * spectrum / v * u)
        # sigma² may lie below the rounding of every eigenvalue
        clean = (v == spectrum).flatten(1).all(1).reshape(-1, *[1] * len(self.event_shape))
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
        x = keyed(rng.normal, keys, 1, tuple(self.means.shape[1:]))
        if self.vectors is None:
            x = x * scale
        else:
            for k in chosen.unique().tolist():  # a gather of (count, d, d) would not fit for images
                rows = chosen == k
                x[rows] = self._stretch(k, x[rows], scale[rows])
        return (self.means[chosen] + x).reshape(count, *self.event_shape)

    def _stretch(self, k: int, z: Tensor, scale: Tensor) -> Tensor:
        """Standard normals z (n, d) with the standard deviations (n, d) along component k."""
        assert self.vectors is not None
        q = self.vectors[k]
        if not self._rest:
            return (z * scale) @ q.T
        r = q.shape[1]
        along = z @ q
        return scale[:, -1:] * (z - along @ q.T) + (scale[:, :r] * along) @ q.T

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
            for k, share in enumerate(weights.T):
                covariance = covariance + share[:, None, None] * self._covariance(k)
        mean = mean.reshape(-1, *self.event_shape).cpu()
        variance = covariance.diagonal(dim1=1, dim2=2).reshape(-1, *self.event_shape).cpu()
        rows = slice(None) if given else 0
        return Moments(mean[rows], variance[rows], covariance.cpu()[rows])

    def _covariance(self, k: int) -> Tensor:
        """C_k (d, d) of a component with eigenvectors."""
        assert self.vectors is not None
        q = self.vectors[k]
        rest = self.spectrum[k, -1] if self._rest else self.spectrum.new_zeros(())
        found = (q * (self.spectrum[k, : q.shape[1]] - rest)) @ q.T
        return found + rest * torch.eye(len(q), dtype=q.dtype, device=q.device)

    def sampling_range(self) -> tuple[float, float]:
        """A range from the smallest component to well beyond the whole mixture."""
        covariance = self.moments().covariance
        assert covariance is not None
        widest = float(torch.linalg.eigvalsh(covariance)[-1].clamp(min=0).sqrt())
        used = self.spectrum[self.log_weights > -math.inf]
        smallest = float(used.min().sqrt())
        if smallest == 0.0 and bool(used.any()):
            # Where x is exact the last denoising puts it; the others still have to be resolved.
            smallest = min(float(used[used > 0].min().sqrt()), 0.05 * widest)
        return default_range(smallest, widest)

    def _given(self, observation: Observation) -> tuple[Conditioned, Tensor]:
        """The components given an observation, and log(w_k p(y | k)) (K,)."""
        y = as_linear_gaussian(observation, self.event_shape, self.means.device)
        found = condition(Components(self.means, self.spectrum, self.vectors), y)
        logs = posterior_weights(self.log_weights, found)
        if not bool((logs > -math.inf).any()):
            raise impossible("mixture")
        return found, logs

    def posterior(self, observation: Observation) -> "GaussianMixture":
        """The mixture given y = A x + n with n ~ N(0, Sigma), again a mixture (see `conditioning`).

            weights     ~ w_k N(y; A m_k, S_k),   S_k = A C_k A' + Sigma
            means       m_k + C_k A' S_k^-1 (y - A m_k)
            covariances C_k - C_k A' S_k^-1 A C_k

        Args:
            observation: A `LinearGaussian`, or an object that has `linear_gaussian`. It observes x
                in model units; `units` are not applied.

        Returns:
            The posterior, component by component in the same order. Labels stay unless y rules out
            a class.

        Raises:
            InputError: For an observation of other examples, or an exact one that no x of the
                mixture gives.
        """
        found, logs = self._given(observation)
        means = found.components.means.reshape(-1, *self.event_shape)
        labels = self.labels
        if labels is not None and len(labels[logs > -math.inf].unique()) < len(labels.unique()):
            labels = None
        made = GaussianMixture(means, found.components.spectrum, log_weights=logs, labels=labels)
        made.vectors = found.components.vectors
        return made

    def log_evidence(self, observation: Observation) -> float:
        """log p(y) in nats, y as for `posterior`.

        Where y is exact and a component is a point in a direction of y, it is the density on the
        range of y that the mixture reaches: the log of a probability for a mixture of points.

        Raises:
            InputError: As for `posterior`.
        """
        return float(self._given(observation)[1].logsumexp(0))


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

    def posterior(self, observation: Observation) -> "Gaussian":
        """N(mean, covariance) given y = A x + n, again a Gaussian.

        Arguments and errors are those of `GaussianMixture.posterior`.
        """
        components = self._given(observation)[0].components
        made = Gaussian(components.means[0].reshape(self.event_shape), components.spectrum[0])
        made.vectors = components.vectors
        return made
