"""Normal densities given a linear observation, component by component.

With S = A C A' + Sigma, an observation y = A x + n of x ~ N(m, C) gives

    mean        m + C A' S^-1 (y - A m)
    covariance  C - C A' S^-1 A C
    evidence    N(y; A m, S)

Neither S nor a difference of covariances is formed. The noise is rotated to be independent, and
C = F F'. The exact rows of y come first: A F = P diag(s) V' fixes the coordinates V' F^-1 (x - m)
with s > 0 at P' (y - A m) / s. Rows with noise n follow: A F / sqrt(n) = P diag(s) V' divides the
standard deviations of these coordinates by sqrt(1 + s²). So no variance is rounded to below zero,
and the noise may be zero, tiny, or different in every row.

Where y is exact and a component has no variance in some direction of y, y either disagrees with the
component (evidence zero) or lies in its range. Evidence is then the density on that range, as in
the limit of small noise, in which components of smaller range outweigh all others.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from .common import LOG_2PI
from .linear import AGREES, Elements, LinearGaussian

SINGULAR = 1e-12  # relative singular value below which an exact row adds nothing
ALIKE = 1e6  # ratio of variances within which rows are decomposed together
LEAST_NOISE = 1e-10  # least standard deviation of noise relative to that of A x; smaller is as good


class Components(NamedTuple):
    """Normal densities, in the form of `GaussianMixture`.

    Attributes:
        means: (K, d).
        spectrum: (K, d), eigenvalues of the covariances.
        vectors: (K, d, r), eigenvectors of the first r; the other d - r eigenvalues are equal. None
            for diagonal covariances.
    """

    means: Tensor
    spectrum: Tensor
    vectors: Tensor | None


class Conditioned(NamedTuple):
    """Components given an observation.

    Attributes:
        components: The densities given y.
        log_evidence: (K,), log p(y) of each component; -inf where y is impossible.
        rank: (K,), in how many exact directions of y the component has a variance.
    """

    components: Components
    log_evidence: Tensor
    rank: Tensor


class Update(NamedTuple):
    """The result of one group of rows, in coordinates of F: x = m + F (shift + z).

    Attributes:
        shift: (K, r).
        factor: (K, r, r), the new F in coordinates of the basis.
        log_evidence: (K,).
        rank: (K,), exact directions of y that the component spans.
    """

    shift: Tensor
    factor: Tensor
    log_evidence: Tensor
    rank: Tensor


def condition(prior: Components, observation: LinearGaussian) -> Conditioned:
    """Every component given one observation.

    Args:
        prior: The components.
        observation: Of examples with d elements.

    Returns:
        The components given the observation, and their evidence.
    """
    elements = observation.by_element() if prior.vectors is None else None
    if elements is not None:
        return _each_element(prior, elements)
    return _coupled(prior, observation.independent)


def _each_element(prior: Components, y: Elements) -> Conditioned:
    """Diagonal covariances and an observation of single elements stay diagonal."""
    v, seen = prior.spectrum, y.seen
    total = v + y.variance
    held = total == 0
    safe = torch.where(seen & ~held, total, 1.0)
    share = torch.where(seen, v / safe, 0.0)
    noise = torch.where(seen, y.variance, 1.0)
    apart = y.value - prior.means
    left = torch.where(seen, v * (noise / safe), v)
    nats = -(apart.square() / safe + safe.log() + LOG_2PI) / 2 - y.log_scale
    nats = torch.where(seen & ~held, nats, 0.0).sum(1) + y.log_constant
    size = y.value.abs() + prior.means.abs()
    impossible = (held & (apart.abs() > AGREES * size)).any(1)
    rank = ((y.variance == 0) & (v > 0)).sum(1)
    means = prior.means + torch.where(seen, share * apart, 0.0)
    return Conditioned(
        Components(means, left, None), torch.where(impossible, -math.inf, nats), rank
    )


def _basis(prior: Components, a: Tensor) -> tuple[Tensor | None, Tensor]:
    """An orthonormal basis (K or 1, d, r) in which only r elements of x are observed.

    Returns:
        The basis, None for the elements themselves, and the variances (K, r) along it; beyond the
        basis they are as before.
    """
    (count, d), m = prior.spectrum.shape, len(a)
    alike = bool((prior.spectrum == prior.spectrum[:, :1]).all())
    if prior.vectors is None and not (alike and m < d):
        return None, prior.spectrum
    if prior.vectors is None:
        found = torch.linalg.qr(a.T)[0][None]
        return found, prior.spectrum[:, : found.shape[2]]
    r = prior.vectors.shape[2]
    if r == d:
        return prior.vectors, prior.spectrum
    both = torch.cat([prior.vectors, a.T.expand(count, -1, -1)], 2)
    if r + m < d:
        return torch.linalg.qr(both)[0], prior.spectrum[:, : r + m]
    return torch.linalg.qr(both, mode="complete")[0], prior.spectrum


def _coupled(prior: Components, rows: LinearGaussian) -> Conditioned:
    """Any observation with independent noise."""
    basis, variances = _basis(prior, rows.matrix)
    count, r = variances.shape
    a = (rows.matrix[None] if basis is None else rows.matrix @ basis).expand(count, -1, -1)
    error = rows.observed - prior.means @ rows.matrix.T
    size = rows.observed.abs() + prior.means.abs() @ rows.matrix.abs().T
    exact = rows.covariance == 0
    norms = rows.matrix.norm(dim=1)
    zero = variances.new_zeros(count)
    state = Update(torch.zeros_like(variances), torch.diag_embed(variances.sqrt()), zero, zero)
    if bool(exact.any()):
        scale = torch.where(norms > 0, norms, 1.0)[exact]
        state = _exact_rows(state, a[:, exact], error[:, exact], size[:, exact], scale)
    for group in _groups(rows.covariance):
        state = _noisy_rows(state, a[:, group], error[:, group], rows.covariance[group])
    turned, deviations, _ = torch.linalg.svd(state.factor)
    rounding = 8 * r * torch.finfo(torch.float64).eps * deviations[:, :1]
    spectrum = prior.spectrum.clone()
    spectrum[:, :r] = torch.where(deviations <= rounding, 0.0, deviations.square())
    shift = state.shift if basis is None else (basis @ state.shift[..., None])[..., 0]
    vectors = turned if basis is None else basis @ turned
    components = Components(prior.means + shift, spectrum, vectors)
    return Conditioned(components, state.log_evidence, state.rank)


def _groups(variance: Tensor) -> list[Tensor]:
    """Rows with noise in groups of similar noise, the smallest first.

    A decomposition of rows of very different noise would round the noisier ones away.
    """
    found: list[Tensor] = []
    left = variance > 0
    while bool(left.any()):
        group = left & (variance <= ALIKE * variance[left].min())
        found.append(group)
        left = left & ~group
    return found


def _exact_rows(state: Update, a: Tensor, error: Tensor, size: Tensor, norms: Tensor) -> Update:
    """Condition on rows of y without noise.

    Args:
        state: Before.
        a: (K, m, r), the rows in the basis.
        error: (K, m), y - A m.
        size: (K, m), the size of the numbers of which `error` is the difference.
        norms: (m,), the rows' norms.

    Returns:
        The state after.
    """
    b = a / norms[:, None] @ state.factor
    left, s, right = torch.linalg.svd(b, full_matrices=True)
    least = min(b.shape[1:])
    kept = (s > SINGULAR * s[:, :1]) & (s > 0)
    goal = error / norms
    coordinates = (left.mT @ goal[..., None])[..., 0][:, :least]
    coordinates = torch.where(kept, coordinates, 0.0)
    safe = torch.where(kept, s, 1.0)
    z = coordinates / safe
    outside = goal - (left[..., :least] @ coordinates[..., None])[..., 0]
    impossible = outside.abs().amax(1) > AGREES * (size / norms).amax(1)
    used = left[..., :least] * kept[:, None]
    volume = (used * norms[:, None]).mT @ (used * norms[:, None])
    volume = volume + torch.diag_embed((~kept).to(volume))
    nats = torch.where(kept, -(z.square() + 2 * safe.log() + LOG_2PI) / 2, 0.0).sum(1)
    nats = nats - torch.linalg.slogdet(volume)[1] / 2
    turned = state.factor @ right.mT
    shift = state.shift + (turned[..., :least] @ z[..., None])[..., 0]
    free = torch.ones_like(turned[:, 0])
    free[:, :least] = (~kept).to(free)
    return Update(
        shift,
        turned * free[:, None],
        state.log_evidence + torch.where(impossible, -math.inf, nats),
        state.rank + kept.sum(1),
    )


def _noisy_rows(state: Update, a: Tensor, error: Tensor, variance: Tensor) -> Update:
    """Condition on rows of y with independent noise of variances (m,); arguments as above."""
    error = error - (a @ state.shift[..., None])[..., 0]
    b = a @ state.factor
    # Standard deviations in a ratio of 1e10 leave ten digits for directions without signal.
    noise = torch.maximum(variance, LEAST_NOISE**2 * b.square().sum(2))
    root = noise.sqrt()
    left, s, right = torch.linalg.svd(b / root[..., None], full_matrices=True)
    least = min(b.shape[1:])
    coordinates = (left.mT @ (error / root)[..., None])[..., 0]
    gain = torch.zeros_like(coordinates)
    gain[:, :least] = s.square()
    nats = coordinates.square() / (1 + gain) + gain.log1p() + noise.log() + LOG_2PI
    turned = state.factor @ right.mT
    z = s / (1 + s.square()) * coordinates[:, :least]
    shift = state.shift + (turned[..., :least] @ z[..., None])[..., 0]
    narrower = torch.ones_like(turned[:, 0])
    narrower[:, :least] = (1 + s.square()).rsqrt()
    return Update(
        shift, turned * narrower[:, None], state.log_evidence - nats.sum(1) / 2, state.rank
    )


def posterior_weights(log_weights: Tensor, found: Conditioned) -> Tensor:
    """log(w_k p(y | k)) (K,), not normalised: its logsumexp is the log evidence of the whole.

    Args:
        log_weights: (K,), of the prior.
        found: The components given y.

    Returns:
        (K,); all -inf where no component can give y.
    """
    logs = log_weights + found.log_evidence
    possible = logs > -math.inf
    if not bool(possible.any()):
        return logs
    outweighed = found.rank > found.rank[possible].min()
    return torch.where(outweighed, -math.inf, logs)
