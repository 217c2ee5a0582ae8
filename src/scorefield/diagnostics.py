"""Is Langevin dynamics doing its work? What a step, a level and a set of chains can be asked.

    x <- x + eps_i s(x, sigma_i) + sqrt(2 eps_i) z,   eps_i = epsilon sigma_i² / sigma_L²,   C chains, `repeats` steps a level

    drift to noise   sqrt(E|eps s|² / E|sqrt(2 eps) z|²) = sqrt(eps E|s|² / (2 d)); the same at every level where s is sigma_i's: 0.32 in NCSN
    stable limit     2 / L, L the largest eigenvalue of -ds/dx: beyond it the map x + eps s stretches along that direction, and x grows
    R-hat            sqrt of (variance within + between half chains) / within: 1 where chains have forgotten where they started
    ESS              C T / (-1 + 2 sum of autocorrelations), summed as far as Geyer's initial monotone sequence goes

R-hat and ESS are those of Vehtari, Gelman, Simpson, Carpenter & Bürkner 2021 (arXiv 1903.08008): on
halves of chains, after replacing draws
by normal scores of their ranks, R-hat the larger of that and of the same for |x - median|, so that
it sees scale as well as place. They
are taken of every coordinate, of fixed random directions where there are many, and of log p_sigma
where the model has it.

Annealed Langevin needs no level to mix between modes: the weights come from the levels above. A
level not mixed is a fact about it, and
where every level says so, a reason to doubt the weights.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from . import rng
from .errors import InputError, NonFiniteError
from .model import ScoreModel, terminal
from .noise import check_ladder
from .rng import Stream
from .sampling import AnnealedLangevin, Event, run, working_type
from .sampling.driver import Field, Noise

# R-hat of stationary chains is near sqrt(1 + 1/m), m effective draws a half chain. A level has to
# forget its start, not to give precise
# averages: 1.2 (Brooks & Gelman 1998) is m = 2 to 3, about ten relaxation times a level; NCSN's 100
# steps at its ratio of 0.32 give 1.09.
R_HAT_LIMIT = 1.2
FUNCTIONALS = 32  # coordinates, or random directions where there are more
PLACES = 16  # chains at which the curvature is measured
KRYLOV = 20  # products it is read from
SIGNIFICANT, MATERIAL = (
    4.5,
    0.05,
)  # a start is warned of beyond this many standard errors and this share of the variance
RARE = 12.6  # -ln of the probability of 4.5 standard errors


# ---- convergence of chains


def split_chains(draws: Tensor) -> Tensor:
    """(C, T, ...) -> (2 C, T // 2, ...): the halves as chains of their own; the middle draw of an
    odd T is left out.
    """
    half = draws.shape[1] // 2
    return torch.cat([draws[:, :half], draws[:, -half:]])


def rank_normalise(draws: Tensor) -> Tensor:
    """(C, T, K) -> normal scores of the ranks over all chains, ties averaged: Phi^-1((rank - 3/8) /
    (C T + 1/4)) (Vehtari et al., Eq. 14).
    """
    flat = draws.reshape(-1, draws.shape[-1]).to(torch.float64)
    count = len(flat)
    scores = torch.empty_like(flat)
    for k in range(flat.shape[1]):
        _, member, sizes = flat[:, k].unique(return_inverse=True, return_counts=True)
        last = sizes.cumsum(0).to(torch.float64)
        scores[:, k] = (last - (sizes - 1) / 2)[member]
    return torch.special.ndtri((scores - 0.375) / (count + 0.25)).reshape(draws.shape)


def _check_draws(draws: Tensor) -> tuple[Tensor, bool]:
    """draws (C, T, K) in float64, and whether K was there."""
    if draws.ndim not in (2, 3) or draws.shape[1] < 4 or len(draws) < 1:
        raise InputError(
            "draws must be (chains, steps) or (chains, steps, K) with at least 4 steps; got "
            f"{tuple(draws.shape)}"
        )
    if not bool(torch.isfinite(draws).all()):
        raise NonFiniteError(
            f"{int((~torch.isfinite(draws)).sum())} of the {draws.numel()} draws are not finite"
        )
    wide = draws.ndim == 3
    return (draws if wide else draws[..., None]).detach().to("cpu", torch.float64), wide


def _gelman_rubin(chains: Tensor) -> Tensor:
    """sqrt(((n - 1)/n W + B/n) / W) of chains (M, n, K), (K,): Gelman & Rubin 1992. 1 where nothing
    moves anywhere, infinite where chains
    stand still apart from each other."""
    n = chains.shape[1]
    within, between = chains.var(1).mean(0), chains.mean(1).var(0)
    total = (n - 1) / n * within + between
    return torch.where(total == 0, 1.0, (total / within).sqrt())


def r_hat(draws: Tensor) -> Tensor:
    """Rank-normalised split R-hat, the larger of bulk and folded (Vehtari et al., Eq. 4, 14, 15):
    draws (C, T) or (C, T, K) -> () or (K,).
    """
    draws, wide = _check_draws(draws)
    halves = split_chains(draws)
    folded = (halves - halves.flatten(0, 1).median(0).values).abs()
    value = torch.maximum(
        _gelman_rubin(rank_normalise(halves)), _gelman_rubin(rank_normalise(folded))
    )
    return value if wide else value[0]


def effective_sample_size(draws: Tensor, ranks: bool = True) -> Tensor:
    """How many independent draws the chains are worth, over all chains: draws (C, T) or (C, T, K)
    -> () or (K,).

    Vehtari et al., Eq. 10 to 13: autocorrelations of split chains, summed by Geyer's (1992) initial
    monotone sequence, at most
    C T log10(C T). ranks: of normal scores ("bulk"), as is right where moments may not exist;
    False: of the draws.
    """
    draws, wide = _check_draws(draws)
    chains = split_chains(draws)
    chains = rank_normalise(chains) if ranks else chains
    m, n, _ = chains.shape
    within = chains.var(1)  # (m, K)
    total = (n - 1) / n * within.mean(0) + (chains.mean(1).var(0) if m > 1 else 0.0)
    centred = chains - chains.mean(1, keepdim=True)
    spectrum = torch.fft.rfft(centred, 2 * n, dim=1)
    autocovariance = (
        torch.fft.irfft(spectrum.abs().square(), 2 * n, dim=1)[:, :n].mean(0) / n
    )  # (n, K), the biased kind: no large lags
    rho = 1 - ((n / (n - 1)) * autocovariance[0] - autocovariance) / total
    rho[0] = 1.0
    pairs = rho[: n // 2 * 2].reshape(n // 2, 2, -1).sum(1)
    positive = (pairs > 0).cumprod(0)
    monotone = pairs.cummin(0).values * positive
    time = (-1 + 2 * monotone.sum(0)).clamp(min=1 / math.log10(m * n))
    value = torch.where(
        total == 0, math.nan, m * n / time
    )  # a functional that never moves says nothing
    return value if wide else value[0]


# ---- the step


def curvature(
    model: ScoreModel,
    x: Tensor,
    sigma: Tensor | float,
    condition: Tensor | None = None,
    steps: int = KRYLOV,
    seed: int = 0,
) -> Tensor:
    """The largest eigenvalue of -ds/dx at each of x (B, *event), model units: (B,). 2 / it is the
    stable limit of a Langevin step.

    Rayleigh-Ritz on `steps` products of -ds/dx from a random vector, symmetric part (Lanczos 1950):
    unlike power iteration it does not fall
    for the large negative eigenvalues between modes. Products by central differences of 1e-3 sigma,
    so any score will do; 2 evaluations
    a product. From below, exact from `steps` = d on.
    """
    level = torch.as_tensor(sigma, dtype=torch.float64)
    count, d = len(x), math.prod(x.shape[1:])
    width = 1e-3 * float(level) * math.sqrt(d)
    with torch.no_grad():
        v = rng.normal(rng.keys(seed, count).to(x.device), Stream.PROBE, 0, (d,), x.dtype)
        basis, products = x.new_zeros(count, 0, d), x.new_zeros(count, 0, d)
        for _ in range(min(steps, d)):
            for _ in range(2):  # once leaves rounding along the basis that grows from step to step
                v = v - torch.einsum("bk,bkd->bd", torch.einsum("bkd,bd->bk", basis, v), basis)
            v = v / v.norm(dim=1, keepdim=True).clamp(min=torch.finfo(x.dtype).tiny)
            move = width * v.reshape(x.shape)
            w = (
                model.score(x - move, level, condition) - model.score(x + move, level, condition)
            ).flatten(1) / (2 * width)
            basis, products = (
                torch.cat([basis, v[:, None]], 1),
                torch.cat([products, w[:, None]], 1),
            )
            v = w
        small = (basis @ products.mT).to("cpu", torch.float64)
        return torch.linalg.eigvalsh((small + small.mT) / 2)[:, -1].to(x.device, x.dtype)


# ---- the report


@dataclass(frozen=True)
class Level:
    """One level, model units: step is eps_i; drift_to_noise, curvature (L), stable_limit 2 / L; ess
    the smallest and r_hat the largest
    over functionals;
    these three are NaN where the level was not finished."""

    sigma: float
    step: float
    drift_to_noise: float
    curvature: float
    stable_limit: float
    ess: float
    r_hat: float

    @property
    def stable(self) -> bool:
        """Whether the step is below the stable limit."""
        return self.step < self.stable_limit

    @property
    def mixed(self) -> bool:
        """Whether R-hat is below R_HAT_LIMIT."""
        return self.r_hat < R_HAT_LIMIT


@dataclass(frozen=True)
class Report:
    """levels from the top; warnings in words, one for each kind of trouble; start_scale: mean
    square of the whitened start, 1 where it matches.
    """

    levels: tuple[Level, ...]
    warnings: tuple[str, ...]
    chains: int
    repeats: int
    epsilon: float
    evaluations: int
    start_scale: float
    functionals: tuple[str, ...] = field(default=(), repr=False)

    def to_dict(self) -> dict[str, Any]:
        """A form JSON can hold: NaN and infinity become None."""

        def plain(value: Any) -> Any:
            return None if isinstance(value, float) and not math.isfinite(value) else value

        rows = [
            {k: plain(v) for k, v in asdict(row).items()}
            | {"stable": row.stable, "mixed": row.mixed}
            for row in self.levels
        ]
        return {k: plain(v) for k, v in vars(self).items()} | {
            "levels": rows,
            "warnings": list(self.warnings),
            "functionals": list(self.functionals),
        }

    def __str__(self) -> str:
        lines = [
            f"{'sigma':>10} {'step':>10} {'limit':>10} {'drift/noise':>12} {'R-hat':>8} "
            f"{'ESS':>10}   of {self.chains} x {self.repeats}"
        ]
        for row in self.levels:
            step = f"{row.step:10.4g} {row.stable_limit:10.4g} {row.drift_to_noise:12.3f}"
            lines.append(f"{row.sigma:10.4g} {step} {row.r_hat:8.3f} {row.ess:10.0f}")
        return "\n".join([*lines, *(f"warning: {text}" for text in self.warnings)])


class _Noting:
    """A field that notes E|s|² / d of every score asked for."""

    def __init__(self, field: Field, squares: list[float]) -> None:
        self.field, self.squares = field, squares

    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        return self.field.denoise(x, sigma)

    def score(self, x: Tensor, sigma: Tensor) -> Tensor:
        score = self.field.score(x, sigma)
        self.squares.append(score.square().mean().item())
        return score


class _Watched(AnnealedLangevin):
    """AnnealedLangevin that notes its drift; the step itself is the parent's."""

    def __init__(self, epsilon: float) -> None:
        super().__init__(epsilon)
        self.squares: list[float] = []

    def step(
        self, model: Field, x: Tensor, sigma: Tensor, sigma_next: Tensor, noise: Noise, state: Any
    ) -> tuple[Tensor, Any]:
        return super().step(_Noting(model, self.squares), x, sigma, sigma_next, noise, state)


class _Functionals:
    """What is followed of the states: coordinates, or random directions where there are more than
    FUNCTIONALS, and log p_sigma.
    """

    def __init__(self, model: ScoreModel, seed: int) -> None:
        d = math.prod(model.event_shape)
        self.density = getattr(model, "log_density", None)
        self.directions: Tensor | None = None
        if d > FUNCTIONALS:
            directions = rng.normal(
                rng.keys(seed, FUNCTIONALS), Stream.PROBE, 1, (d,), torch.float64
            )
            self.directions = directions / directions.norm(dim=1, keepdim=True)
        names = (
            [f"coordinate {k}" for k in range(d)]
            if d <= FUNCTIONALS
            else [f"direction {k}" for k in range(FUNCTIONALS)]
        )
        self.names = (*names, *(["log p_sigma"] if self.density is not None else []))

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        """(C, *event) -> (C, K) in float64 on the CPU."""
        flat = x.flatten(1).to("cpu", torch.float64)
        values = flat if self.directions is None else flat @ self.directions.T
        if self.density is None:
            return values
        return torch.cat([values, self.density(x, sigma).to("cpu", torch.float64)[:, None]], dim=1)


def start_mismatch(model: ScoreModel, x: Tensor, sigma: float) -> tuple[float, str]:
    """(mean square of x whitened by the terminal law at sigma, words or ""): x (C, *event), model
    units.

    The square is 1 under the terminal law. Words where it, or the mean of x, differs from the law's
    by more than SIGNIFICANT standard
    errors over chains and MATERIAL of the variance.
    """
    law = terminal(model, sigma)
    count, d = len(x), math.prod(x.shape[1:])
    x = x.detach().to("cpu", torch.float64)
    centre = law.mean.to("cpu", torch.float64)[None]
    top = law.log_prob(centre)
    square = 2 * (top - law.log_prob(x)) / d  # |whitened|² / d of each chain
    scale, se = square.mean().item(), max(square.std().item(), math.sqrt(2 / d)) / math.sqrt(count)
    away = (
        2 * (top - law.log_prob(x.mean(0, keepdim=True))).item() / d
    )  # of the chains' mean: 1/count in expectation
    advice = (
        "Start from the terminal law (leave start out), or at a larger sigma, where it matters less"
    )
    # Laurent & Massart 2000, Lemma 1: chi-square of d degrees of freedom exceeds d + 2 sqrt(d t) +
    # 2 t with probability at most exp(-t).
    chance = (1 + 2 * math.sqrt(RARE / d) + 2 * RARE / d) / count
    if away > max(chance, MATERIAL):
        off = math.sqrt(away)
        return scale, (
            f"the start does not match the terminal law at sigma {sigma:g}: its mean is {off:.2g} "
            f"standard deviations off on average. {advice}"
        )
    if abs(scale - 1) > max(SIGNIFICANT * se, MATERIAL):
        return (
            scale,
            f"the start does not match the terminal law at sigma {sigma:g}: {scale:.3g} times its "
            f"variance on average. {advice}",
        )
    return scale, ""


def langevin_report(
    model: ScoreModel,
    ladder: Tensor | Sequence[float],
    epsilon: float,
    repeats: int,
    chains: int = 64,
    seed: int = 0,
    *,
    start: Tensor | None = None,
    condition: Tensor | None = None,
) -> Report:
    """Run `chains` chains of annealed Langevin down the ladder (one level: plain Langevin) and
    report on each level.

    epsilon: the coefficient of the score at the last level, squared model units. repeats: steps a
    level, 4 or more. start: (chains, *event)
    in model units, by default the terminal law. condition: one for all chains, (chains, ...). A run
    that leaves a NaN or an infinity is
    reported up to there, with a warning, not raised. Costs (levels x repeats) evaluations of
    `chains` states, and 40 a level of 16 states.
    Raises InputError for a bad ladder, fewer than 2 chains or 4 repeats, a start of another shape.
    """
    ladder = check_ladder(ladder)
    if chains < 2 or repeats < 4:
        raise InputError(
            f"R-hat needs at least 2 chains and 4 repeats; got chains={chains}, repeats={repeats}"
        )
    device, dtype = working_type(model)
    keys = rng.keys(seed, chains).to(device)
    if start is None:
        start = terminal(model, float(ladder[0])).sample(
            rng.normal(keys, Stream.INIT, 0, model.event_shape, dtype)
        )
    if start.shape != (chains, *model.event_shape):
        raise InputError(
            f"start must be ({chains}, {', '.join(map(str, model.event_shape))}); got "
            f"{tuple(start.shape)}"
        )
    start = start.to(device)
    scale, mismatch = start_mismatch(model, start, float(ladder[0]))
    warnings = [mismatch] if mismatch else []

    functionals = _Functionals(model, seed)
    kernel = _Watched(epsilon)
    rows: list[Level] = []
    draws: list[Tensor] = []
    part = condition[:PLACES] if condition is not None else None

    def begin(i: int, x: Tensor) -> None:
        """The row of level i, as far as it is known where it is entered."""
        sigma = float(ladder[i])
        largest = curvature(model, x[:PLACES], sigma, part, seed=seed).max().item()
        limit = 2 / largest if largest > 0 else math.inf
        step = epsilon * (sigma / float(ladder[-1])) ** 2
        rows.append(Level(sigma, step, math.nan, largest, limit, math.nan, math.nan))
        draws.clear()
        kernel.squares.clear()

    def watch(event: Event) -> None:
        draws.append(functionals(event.x, event.sigma))
        if len(draws) < repeats:
            return
        row, followed = rows[-1], torch.stack(draws, dim=1)
        ratio = math.sqrt(row.step * sum(kernel.squares) / len(kernel.squares) / 2)
        sizes, worst = effective_sample_size(followed), r_hat(followed)
        rows[-1] = replace(
            row,
            drift_to_noise=ratio,
            ess=sizes.nan_to_num(math.inf).min().item(),
            r_hat=worst.max().item(),
        )
        if event.level + 1 < len(ladder):
            begin(event.level + 1, event.x)

    training = model.training
    model.eval()
    evaluations = 0
    try:
        begin(0, start)
        done = run(
            kernel,
            model,
            ladder,
            start,
            repeats,
            "none",
            keys=keys,
            condition=condition,
            callbacks=(watch,),
        )
        evaluations = done.evaluations
    except NonFiniteError as problem:
        warnings.append(f"the chains diverged: {problem}")
    finally:
        model.train(training)
    warnings += _words(rows, chains, repeats)
    return Report(
        tuple(rows),
        tuple(warnings),
        chains,
        repeats,
        float(epsilon),
        evaluations,
        scale,
        functionals.names,
    )


def _where(rows: Sequence[Level], those: Sequence[int]) -> str:
    """level 3 (sigma 0.2), or levels 3, 5 of 10 (sigma 0.2 to 0.05)."""
    if len(those) == 1:
        return f"level {those[0] + 1} (sigma {rows[those[0]].sigma:g})"
    whole = len(those) == those[-1] - those[0] + 1
    named = f"{those[0] + 1} to {those[-1] + 1}" if whole else ", ".join(str(i + 1) for i in those)
    return f"levels {named} of {len(rows)} (sigma {rows[those[0]].sigma:g} to {rows[those[-1]].sigma:g})"


def _words(rows: Sequence[Level], chains: int, repeats: int) -> list[str]:
    """What is wrong with the levels, each kind of trouble once."""
    said = []
    steep = [i for i, row in enumerate(rows) if not row.stable]
    if steep:
        share = min(rows[i].stable_limit / rows[i].step for i in steep)
        said.append(
            f"{_where(rows, steep)}: the step is beyond the stable limit 2 / L, where x grows "
            "along the steepest direction. Take epsilon below "
            f"{share:.2g} times the one given"
        )
    stuck = [i for i, row in enumerate(rows) if math.isfinite(row.ess) and not row.mixed]
    if stuck:
        worst = max(stuck, key=lambda i: rows[i].r_hat)
        said.append(
            f"not mixed: {_where(rows, stuck)}. R-hat up to {rows[worst].r_hat:.3f}, there "
            f"{rows[worst].ess:.0f} effective draws of {chains} chains "
            f"x {repeats} steps. More repeats; what a level cannot reach by itself, such as "
            "another mode, must come right from the levels above"
        )
    return said
