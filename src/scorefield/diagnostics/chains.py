"""Convergence of chains: split R-hat and effective sample size.

    R-hat   sqrt((within + between half chains)/within): 1 where chains do not depend on their start
    ESS     C T/(-1 + 2 sum of autocorrelations), summed over Geyer's initial monotone sequence

Both are those of Vehtari, Gelman, Simpson, Carpenter & Bürkner 2021 (arXiv 1903.08008): on halves
of chains, after draws were replaced by normal scores of their ranks. R-hat is the larger of its
values for x and for |x - median|, so that it measures location and scale.
"""

import math

import torch
from torch import Tensor

from ..errors import InputError, NonFiniteError
from ..tensors import floats
from ..values import flag


def split_chains(draws: Tensor) -> Tensor:
    """The halves of chains as chains of their own.

    Args:
        draws: (C, T, ...).

    Returns:
        (2 C, T // 2, ...); the middle draw of an odd T is left out.
    """
    draws = _read(draws)
    half = draws.shape[1] // 2
    return torch.cat([draws[:, :half], draws[:, -half:]])


def rank_normalise(draws: Tensor) -> Tensor:
    """Normal scores of the ranks over all chains: Phi^-1((rank - 3/8)/(C T + 1/4)) (Eq. 14).

    Args:
        draws: (C, T, K).

    Returns:
        (C, T, K) float64; tied draws share the average of their ranks.
    """
    draws = _read(draws)
    flat = draws.reshape(-1, draws.shape[-1]).to(torch.float64)
    count = len(flat)
    scores = torch.empty_like(flat)
    for k in range(flat.shape[1]):
        _, member, sizes = flat[:, k].unique(return_inverse=True, return_counts=True)
        last = sizes.cumsum(0).to(torch.float64)
        scores[:, k] = (last - (sizes - 1) / 2)[member]
    normal: Tensor = torch.special.ndtri((scores - 0.375) / (count + 0.25))
    return normal.reshape(draws.shape)


def _read(draws: Tensor) -> Tensor:
    """The draws as a floating tensor, all of them finite."""
    draws = floats(draws, "draws")
    bad = int((~torch.isfinite(draws)).sum())
    if bad:
        raise NonFiniteError(f"{bad} of the {draws.numel()} draws are not finite")
    return draws


def _check_draws(draws: Tensor) -> tuple[Tensor, bool]:
    """The draws (C, T, K) in float64, and whether they had three dimensions."""
    draws = _read(draws)
    if draws.ndim not in (2, 3) or draws.shape[1] < 4 or len(draws) < 1:
        raise InputError(
            "draws must be (chains, steps) or (chains, steps, K) with at least 4 steps; got "
            f"{tuple(draws.shape)}"
        )
    wide = draws.ndim == 3
    return (draws if wide else draws[..., None]).detach().to("cpu", torch.float64), wide


def _gelman_rubin(chains: Tensor) -> Tensor:
    """sqrt(((n - 1)/n W + B/n)/W) of chains (M, n, K): (K,) (Gelman & Rubin 1992).

    It is 1 where all draws are equal, and infinite where each chain is constant at another value.
    """
    n = chains.shape[1]
    within, between = chains.var(1).mean(0), chains.mean(1).var(0)
    total = (n - 1) / n * within + between
    return torch.where(total == 0, 1.0, (total / within).sqrt())


def r_hat(draws: Tensor) -> Tensor:
    """Rank-normalised split R-hat, the larger of bulk and folded (Eq. 4, 14, 15).

    Args:
        draws: (C, T) or (C, T, K), 4 steps or more.

    Returns:
        () or (K,).

    Raises:
        InputError: For another shape.
        NonFiniteError: For draws that are not finite.
    """
    draws, wide = _check_draws(draws)
    halves = split_chains(draws)
    folded = (halves - halves.flatten(0, 1).median(0).values).abs()
    value = torch.maximum(
        _gelman_rubin(rank_normalise(halves)), _gelman_rubin(rank_normalise(folded))
    )
    return value if wide else value[0]


def effective_sample_size(draws: Tensor, ranks: bool = True) -> Tensor:
    """Effective sample size: the number of independent draws that all chains are worth (Eq. 10-13).

    Autocorrelations of split chains are summed by Geyer's (1992) initial monotone sequence; the
    result is at most C T log10(C T).

    Args:
        draws: (C, T) or (C, T, K), 4 steps or more.
        ranks: True for normal scores of ranks ("bulk"), which need no moments; False for the draws
            as they are.

    Returns:
        () or (K,); NaN where all draws are equal.

    Raises:
        InputError: For another shape.
        NonFiniteError: For draws that are not finite.
    """
    draws, wide = _check_draws(draws)
    chains = split_chains(draws)
    chains = rank_normalise(chains) if flag(ranks, "ranks") else chains
    m, n, _ = chains.shape
    within = chains.var(1)  # (m, K)
    total = (n - 1) / n * within.mean(0) + (chains.mean(1).var(0) if m > 1 else 0.0)
    centred = chains - chains.mean(1, keepdim=True)
    spectrum = torch.fft.rfft(centred, 2 * n, dim=1)
    # The biased estimate (n, K): it damps large lags.
    autocovariance = torch.fft.irfft(spectrum.abs().square(), 2 * n, dim=1)[:, :n].mean(0) / n
    rho = 1 - ((n / (n - 1)) * autocovariance[0] - autocovariance) / total
    rho[0] = 1.0
    pairs = rho[: n // 2 * 2].reshape(n // 2, 2, -1).sum(1)
    positive = (pairs > 0).cumprod(0)
    monotone = pairs.cummin(0).values * positive
    time = (-1 + 2 * monotone.sum(0)).clamp(min=1 / math.log10(m * n))
    value = torch.where(total == 0, math.nan, m * n / time)
    return value if wide else value[0]
