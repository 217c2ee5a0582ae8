"""Densities whose smoothed score is known in closed form: what a method claims is shown here before
a network is trusted with it.

    GaussianMixture   p = sum_k w_k N(m_k, C_k);  p_sigma has C_k + sigma² I.  With C_k = Q_k diag(l_k) Q_k' computed once,
                      u_k = Q_k' (x - m_k),  v_k = l_k + sigma²  and the responsibilities  r_k(x) ~
                      w_k N(x; m_k, C_k + sigma² I):
                      log p_sigma = logsumexp_k(log w_k - (|u_k|²/v_k + log v_k + d log 2 pi) / 2)
                      score = - sum_k r_k Q_k (u_k / v_k)        D = sum_k r_k (m_k + Q_k (l_k u_k / v_k))
    Gaussian          one component
    Empirical         p = 1/N sum_j delta(x - x_j): zero covariances, so D is a softmax average of the data, taken over blocks

sigma enters as l + sigma², so one decomposition serves every sigma, one a sample included, and
sigma = 0 where every l > 0. All of it is
computed in float64 and returned in x's dtype. `sample` draws from Stream.TOY: a sampler started
from the same seed shares nothing with it.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from . import rng
from .errors import InputError
from .model import ScoreModel
from .rng import Stream

SIGMA_TINY = (
    2.0**-63
    # the least sigma where p has no density of its own: its square is float32's smallest normal number
)
LOG_2PI = math.log(2 * math.pi)


def _float64(value: Any, what: str) -> Tensor:
    tensor = (
        (value if isinstance(value, Tensor) else torch.as_tensor(value, dtype=torch.float64))
        .detach()
        .to(torch.float64)
    )
    if not bool(torch.isfinite(tensor).all()):
        raise InputError(
            f"{what} must be finite; got {int((~torch.isfinite(tensor)).sum())} values that are not"
        )
    return tensor


def _spectrum(
    covariances: Tensor, count: int, event_shape: tuple[int, ...]
) -> tuple[Tensor, Tensor | None]:
    """Eigenvalues (K, d) and eigenvectors (K, d, d) in columns, None where the covariances are
    diagonal.
    """
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
        values = torch.where(
            values.abs() <= rounding, 0.0, values
        )  # a singular covariance's zeros come out as +-1e-17
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


def _sigma_of(sigma: Tensor | float, count: int) -> Tensor:
    """sigma >= 0 for `sample`, () or (count,), as float64 (1, 1) or (count, 1)."""
    level = _float64(sigma, "sigma")
    if level.shape not in ((), (count,)) or bool((level < 0).any()):
        raise InputError(
            f"sigma must be zero or more, one number or one for each of {count} samples; got "
            f"shape {tuple(level.shape)}"
        )
    return level.reshape(-1, 1)


class GaussianMixture(ScoreModel):
    """sum_k w_k N(m_k, C_k), any event shape of d elements.

    means (K, *event); covariances (K, d, d), variances (K, d) or (K, *event), (K,), or one number;
    weights (K,) >= 0 or log_weights (K,),
    normalised here, equal where neither is given. Zero covariances are point masses; such a mixture
    is known from sigma > 0 on.
    """

    means: Tensor  # (K, d)
    spectrum: Tensor  # (K, d)
    vectors: Tensor | None  # (K, d, d)
    log_weights: Tensor  # (K,)

    def __init__(
        self,
        means: Tensor | Sequence[Any],
        covariances: Tensor | Sequence[Any] | float,
        weights: Tensor | Sequence[float] | None = None,
        log_weights: Tensor | Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        centres = _float64(means, "means")
        if centres.ndim < 2 or centres.numel() == 0:
            raise InputError(
                "means must be (K, *event) with at least one component and one element; got "
                f"{tuple(centres.shape)}"
            )
        count, self.event_shape = len(centres), tuple(centres.shape[1:])
        spectrum, vectors = _spectrum(_float64(covariances, "covariances"), count, self.event_shape)
        if weights is not None and log_weights is not None:
            raise InputError("give weights or log_weights, not both")
        if weights is not None:
            given = _float64(weights, "weights")
            if bool((given < 0).any()) or not float(given.sum()) > 0:
                raise InputError(
                    f"weights must not be negative and not all be zero; got {given.tolist()}"
                )
            logs = given.log()
        else:
            logs = (
                torch.as_tensor(torch.zeros(count) if log_weights is None else log_weights)
                .detach()
                .to(torch.float64)
            )
        if logs.shape != (count,) or bool(torch.isnan(logs).any()):
            raise InputError(
                f"need one weight for each of {count} components; got shape {tuple(logs.shape)}"
            )
        self.register_buffer("means", centres.flatten(1).clone())
        self.register_buffer("spectrum", spectrum)
        self.register_buffer("vectors", vectors)
        self.register_buffer("log_weights", logs.log_softmax(0))
        self.sigma_min = 0.0 if bool((spectrum > 0).all()) else SIGMA_TINY
        self.sigma_max = math.inf

    @property
    def weights(self) -> Tensor:
        """(K,), summing to one."""
        return self.log_weights.exp()

    def _components(
        self, x: Tensor, sigma: Tensor | float, condition: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """u and v of the module docstring, (B, K, d) and (1 or B, K, d), and log(w_k N_k), (B, K)."""
        noise = (
            self.check(x, sigma, condition).to(x.device, torch.float64).square().reshape(-1, 1, 1)
        )
        u = x.to(torch.float64).flatten(1)[:, None] - self.means
        if self.vectors is not None:
            u = torch.einsum("bkd,kde->bke", u, self.vectors)
        v = self.spectrum + noise
        return (
            u,
            v,
            self.log_weights - ((u.square() / v + v.log()).sum(-1) + u.shape[-1] * LOG_2PI) / 2,
        )

    def _back(self, u: Tensor) -> Tensor:
        """sum_k Q_k u_k: (B, K, d) -> (B, d)."""
        return u.sum(1) if self.vectors is None else torch.einsum("bke,kde->bd", u, self.vectors)

    def denoise(self, x: Tensor, sigma: Tensor | float, condition: Tensor | None = None) -> Tensor:
        """E[x0 | x]; x itself where sigma = 0."""
        u, v, logs = self._components(x, sigma, condition)
        share = logs.softmax(1)
        denoised = share @ self.means + self._back(share[..., None] * self.spectrum / v * u)
        clean = (
            (v == self.spectrum).flatten(1).all(1)
        )  # sigma² below the rounding of every eigenvalue
        return torch.where(
            clean.reshape(-1, *[1] * len(self.event_shape)),
            x,
            denoised.reshape(x.shape).to(x.dtype),
        )

    def score(self, x: Tensor, sigma: Tensor | float, condition: Tensor | None = None) -> Tensor:
        """grad log p_sigma(x)."""
        u, v, logs = self._components(x, sigma, condition)
        return -self._back(logs.softmax(1)[..., None] * u / v).reshape(x.shape).to(x.dtype)

    def log_prob(self, x: Tensor, sigma: Tensor | float = 0.0) -> Tensor:
        """log p_sigma(x), normalised, in nats: (B,)."""
        return self._components(x, sigma)[2].logsumexp(1).to(x.dtype)

    def log_density(self, x: Tensor, sigma: Tensor | float = 0.0) -> Tensor:
        """`log_prob`, under the name of the capability."""
        return self.log_prob(x, sigma)

    def sample(self, count: int, sigma: Tensor | float = 0.0, seed: int = 0) -> Tensor:
        """`count` draws of p_sigma, float64 (count, *event); draw k is a function of (seed, k)."""
        noise = _sigma_of(sigma, count).to(self.means.device)
        keys = rng.keys(seed, count).to(self.means.device)
        ticket = rng.uniform(keys, Stream.TOY, 0, (), torch.float64).contiguous()
        chosen = torch.searchsorted(self.weights.cumsum(0), ticket).clamp(max=len(self.means) - 1)
        x = (
            rng.normal(keys, Stream.TOY, 1, self.means.shape[1:], torch.float64)
            * (self.spectrum[chosen] + noise.square()).sqrt()
        )
        if self.vectors is not None:
            for k in chosen.unique().tolist():  # a gather of (count, d, d) would not fit for images
                x[chosen == k] = x[chosen == k] @ self.vectors[k].T
        return (self.means[chosen] + x).reshape(count, *self.event_shape)

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean (*event) and covariance (d, d) of x0."""
        mean = self.weights @ self.means
        apart = self.means - mean
        covariance = torch.einsum("k,kd,ke->de", self.weights, apart, apart)
        if self.vectors is None:
            covariance = covariance + torch.diag(self.weights @ self.spectrum)
        else:
            covariance = covariance + torch.einsum(
                "k,kde,ke,kfe->df", self.weights, self.vectors, self.spectrum, self.vectors
            )
        return mean.reshape(self.event_shape), covariance


class Gaussian(GaussianMixture):
    """N(mean, covariance): mean (*event) of d elements; covariance (d, d), variances (d,) or
    (*event), or one number.
    """

    def __init__(
        self, mean: Tensor | Sequence[Any], covariance: Tensor | Sequence[Any] | float
    ) -> None:
        centre, spread = _float64(mean, "mean"), _float64(covariance, "covariance")
        if centre.ndim == 0:
            raise InputError(
                "mean must be (*event) with at least one dimension; got one number. One element "
                "is [mean]"
            )
        super().__init__(centre[None], spread[None] if spread.ndim else spread)


class Empirical(ScoreModel):
    """The data set itself, N point masses, smoothed by sigma > 0: D(x, sigma) = sum_j softmax_j(-|x
    - x_j|² / (2 sigma²)) x_j.

    data (N, *event). The softmax runs over `block` data and `rows` states at a time with a running
    maximum, so that memory is rows x block
    numbers whatever N is (60,000 x 784 in float32 costs its own 190 MB and 60 MB beside it). Where
    d <= 64 `moments` has the covariance.
    """

    data: Tensor
    centre: Tensor
    rows = 1024
    full_moments = 64

    def __init__(self, data: Tensor | Sequence[Any], block: int = 4096) -> None:
        super().__init__()
        points = torch.as_tensor(data).detach()
        points = points if points.is_floating_point() else points.to(torch.float64)
        if points.ndim < 2 or points.numel() == 0:
            raise InputError(
                "data must be (N, *event) with at least one row and one element; got "
                f"{tuple(points.shape)}"
            )
        if not bool(torch.isfinite(points).all()):
            raise InputError(
                "data must be finite; row "
                f"{int((~torch.isfinite(points.flatten(1))).any(1).nonzero()[0])} is not"
            )
        if block < 1:
            raise InputError(f"block must be at least 1; got {block}")
        self.event_shape, self.block = tuple(points.shape[1:]), int(block)
        self.register_buffer("data", points.flatten(1))
        self.register_buffer("centre", self.data.mean(0, dtype=torch.float64))
        self.sigma_min, self.sigma_max = SIGMA_TINY, math.inf

    def _average(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """For centred x (B, d) and sigma (1 or B, 1): logsumexp_j(-|x - x_j|²/(2 sigma²)), (B,),
        and the centred D, (B, d).
        """
        # |x|² is common to all data and stays out of the softmax: only products of the size of the
        # data's spread are subtracted.
        top = torch.full((len(x), 1), -math.inf, dtype=x.dtype, device=x.device)
        total, mean = torch.zeros_like(top), torch.zeros_like(x)
        for start in range(0, len(self.data), self.block):
            points = self.data[start : start + self.block].to(torch.float64) - self.centre
            logits = (x @ points.T - points.square().sum(1) / 2) / sigma.square()
            higher = torch.maximum(top, logits.detach().amax(1, keepdim=True))
            weight, keep = (logits - higher).exp(), (top - higher).exp()
            total, mean, top = (
                total * keep + weight.sum(1, keepdim=True),
                mean * keep + weight @ points,
                higher,
            )
        log_sum = top + total.log() - x.square().sum(1, keepdim=True) / (2 * sigma.square())
        return log_sum[:, 0], mean / total

    def _evaluate(
        self, x: Tensor, sigma: Tensor | float, condition: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Centred x and D (B, d), sigma (1 or B, 1), log p_sigma (B,): float64."""
        level = self.check(x, sigma, condition).to(x.device, torch.float64).reshape(-1, 1)
        flat = x.to(torch.float64).flatten(1) - self.centre
        parts = [
            self._average(
                flat[i : i + self.rows], level if len(level) == 1 else level[i : i + self.rows]
            )
            for i in range(0, max(len(flat), 1), self.rows)
        ]
        log_sum, mean = torch.cat([a for a, _ in parts]), torch.cat([b for _, b in parts])
        constant = math.log(len(self.data)) + flat.shape[1] * (level.log() + LOG_2PI / 2)
        return flat, mean, level, log_sum - constant[:, 0]

    def denoise(self, x: Tensor, sigma: Tensor | float, condition: Tensor | None = None) -> Tensor:
        """E[x0 | x], a softmax average of the data."""
        return (self._evaluate(x, sigma, condition)[1] + self.centre).reshape(x.shape).to(x.dtype)

    def score(self, x: Tensor, sigma: Tensor | float, condition: Tensor | None = None) -> Tensor:
        """(D - x) / sigma², subtracted in float64."""
        flat, mean, level, _ = self._evaluate(x, sigma, condition)
        return ((mean - flat) / level.square()).reshape(x.shape).to(x.dtype)

    def log_prob(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """log p_sigma(x), normalised, in nats: (B,)."""
        return self._evaluate(x, sigma)[3].to(x.dtype)

    def log_density(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """`log_prob`, under the name of the capability."""
        return self.log_prob(x, sigma)

    def sample(self, count: int, sigma: Tensor | float = 0.0, seed: int = 0) -> Tensor:
        """`count` draws of p_sigma, data drawn with replacement, float64 (count, *event); draw k is
        a function of (seed, k).
        """
        noise = _sigma_of(sigma, count).to(self.data.device)
        keys = rng.keys(seed, count).to(self.data.device)
        ticket = rng.uniform(keys, Stream.TOY, 0, (), torch.float64).contiguous()
        chosen = (ticket * len(self.data)).long().clamp(max=len(self.data) - 1)
        z = rng.normal(keys, Stream.TOY, 1, self.data.shape[1:], torch.float64)
        return (self.data[chosen].to(torch.float64) + noise * z).reshape(count, *self.event_shape)

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean (*event) and covariance (d, d) of the data, divided by N; the variance (*event)
        alone where d > 64.
        """
        d = self.data.shape[1]
        spread = self.centre.new_zeros((d, d) if d <= self.full_moments else d)
        for start in range(0, len(self.data), self.block):
            points = self.data[start : start + self.block].to(torch.float64) - self.centre
            spread += points.T @ points if spread.ndim == 2 else points.square().sum(0)
        spread = spread / len(self.data)
        return self.centre.reshape(
            self.event_shape
        ), spread if spread.ndim == 2 else spread.reshape(self.event_shape)
