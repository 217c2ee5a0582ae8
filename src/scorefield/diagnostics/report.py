"""`langevin_report`: a run of annealed Langevin dynamics with convergence measures for each level.

    x <- x + eps_i s(x, sigma_i) + sqrt(2 eps_i) z,   eps_i = epsilon sigma_i²/sigma_L²

    drift to noise   sqrt(E|eps s|²/E|sqrt(2 eps) z|²) = sqrt(eps E|s|²/(2 d)): the same at every
                     level where the score is sigma_i's, 0.32 in NCSN (Song & Ermon 2019, Sec. 4.3)
    stable limit     2/L (`curvature`)
    R-hat, ESS       of every coordinate, of fixed random directions where there are many, and of
                     log p_sigma where the model has it (`chains`)

Annealed Langevin dynamics needs no level to mix between modes: the weights come from the levels
above. That a level has not mixed concerns that level alone; where no level has mixed, the weights
are doubtful.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from .. import conditions, rng
from ..conditions import Condition
from ..errors import InputError, NonFiniteError
from ..models import Cost, ScoreModel, Wrapped, check_model, count_cost
from ..noise import check_ladder
from ..rng import Stream
from ..sampling import (
    AnnealedLangevin,
    SamplingRecipe,
    StepEvent,
    first_state,
    run,
    working_type,
)
from ..tensors import floats
from ..values import whole
from .chains import effective_sample_size, r_hat
from .curvature import curvature
from .start import start_mismatch

# R-hat of stationary chains is near sqrt(1 + 1/m), m effective draws a half chain. At a level the
# chains must become independent of their start; precise averages are not needed. 1.2 (Brooks &
# Gelman 1998) is m = 2 to 3, about ten relaxation times at a level; NCSN's 100 steps at its
# ratio of 0.32 give 1.09.
#: A level counts as mixed below this R-hat.
R_HAT_LIMIT = 1.2
#: Number of recorded functions of the states: coordinates, or random directions where an example
#: has more elements.
FUNCTIONALS = 32
PLACES = 16  # chains at which the curvature is measured


@dataclass(frozen=True)
class Level:
    """One noise level of a report, model units.

    Args:
        sigma: The noise level.
        step: eps_i.
        drift_to_noise: Size of the drift over that of the noise; NaN for an unfinished level.
        curvature: L, the largest eigenvalue of -ds/dx where the level begins.
        stable_limit: 2/L.
        ess: Smallest effective sample size over functionals; NaN for an unfinished level.
        r_hat: Largest R-hat over functionals; NaN for an unfinished level.
    """

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
    """The result of `langevin_report`.

    Args:
        levels: One row a noise level, largest first.
        warnings: One sentence for each kind of problem found.
        chains: Number of chains.
        steps_per_level: Langevin steps at each noise level.
        epsilon: Coefficient of the score at the last level, squared model units.
        evaluations: Evaluations of the score by each chain.
        cost: All evaluations in rows of a batch, those of the diagnostics included.
        start_scale: Mean square of the whitened start, 1 where it matches the prior.
        functionals: Names of the recorded functions of the states.
    """

    levels: tuple[Level, ...]
    warnings: tuple[str, ...]
    chains: int
    steps_per_level: int
    epsilon: float
    evaluations: int
    cost: Cost
    start_scale: float
    functionals: tuple[str, ...] = field(default=(), repr=False)

    def to_dict(self) -> dict[str, Any]:
        """A form that JSON can hold: NaN and infinity become None."""

        def plain(value: Any) -> Any:
            return None if isinstance(value, float) and not math.isfinite(value) else value

        rows = [
            {name: plain(value) for name, value in asdict(row).items()}
            | {"stable": row.stable, "mixed": row.mixed}
            for row in self.levels
        ]
        return {name: plain(value) for name, value in vars(self).items()} | {
            "levels": rows,
            "warnings": list(self.warnings),
            "cost": self.cost.to_dict(),
            "functionals": list(self.functionals),
        }

    def __str__(self) -> str:
        lines = [
            f"{'sigma':>10} {'step':>10} {'limit':>10} {'drift/noise':>12} {'R-hat':>8} "
            f"{'ESS':>10}   of {self.chains} x {self.steps_per_level}"
        ]
        for row in self.levels:
            step = f"{row.step:10.4g} {row.stable_limit:10.4g} {row.drift_to_noise:12.3f}"
            lines.append(f"{row.sigma:10.4g} {step} {row.r_hat:8.3f} {row.ess:10.0f}")
        return "\n".join([*lines, *(f"warning: {text}" for text in self.warnings)])


class _Noting(Wrapped):
    """A model that records E|s|²/d of each score that is computed."""

    def __init__(self, inner: ScoreModel) -> None:
        super().__init__(inner)
        self.squares: list[float] = []
        self.evaluations = 0

    def score(self, x: Tensor, sigma: Tensor | float, condition: Condition | None = None) -> Tensor:
        """The inner model's score."""
        score = self.inner.score(x, sigma, condition)
        self.squares.append(score.square().mean().item())
        self.evaluations += 1
        return score


class _Functionals:
    """The recorded functions of the states: coordinates or random directions, and log p_sigma."""

    def __init__(self, model: ScoreModel, seed: int, condition: Condition | None) -> None:
        d = math.prod(model.event_shape)
        self.model, self.condition = model, condition
        self.directions: Tensor | None = None
        if d > FUNCTIONALS:
            directions = rng.normal(
                rng.keys(seed, FUNCTIONALS), Stream.DIRECTION, 0, (d,), torch.float64
            )
            self.directions = directions / directions.norm(dim=1, keepdim=True)
        kind = "coordinate" if self.directions is None else "direction"
        names = [f"{kind} {k}" for k in range(min(d, FUNCTIONALS))]
        self.names = (*names, *(["log p_sigma"] if model.has_log_density else []))

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        """(C, K) in float64 on the CPU, of x (C, *event)."""
        flat = x.flatten(1).to("cpu", torch.float64)
        values = flat if self.directions is None else flat @ self.directions.T
        if not self.model.has_log_density:
            return values
        density = self.model.log_density(x, sigma, self.condition).to("cpu", torch.float64)
        return torch.cat([values, density[:, None]], dim=1)


class _Observer:
    """Callback of a run: a row a level, from the states that the chains visit."""

    def __init__(
        self,
        model: _Noting,
        kernel: AnnealedLangevin,
        ladder: Tensor,
        steps: int,
        functionals: _Functionals,
        seed: int,
    ) -> None:
        self.model, self.kernel, self.ladder, self.steps = model, kernel, ladder, steps
        self.functionals, self.seed = functionals, seed
        self.rows: list[Level] = []
        self.draws: list[Tensor] = []

    def begin(self, level: int, x: Tensor) -> None:
        """Add the row of a level, as far as it is known where the level is entered."""
        sigma = float(self.ladder[level])
        part = conditions.take(self.functionals.condition, slice(0, PLACES))
        # The inner model: what is noted are the scores of the chains alone.
        place = x[:PLACES]
        largest = curvature(self.model.inner, place, sigma, part, seed=self.seed).max().item()
        limit = 2 / largest if largest > 0 else math.inf
        assert self.kernel.epsilon is not None
        step = self.kernel.epsilon * (sigma / float(self.ladder[-1])) ** 2
        self.rows.append(Level(sigma, step, math.nan, largest, limit, math.nan, math.nan))
        self.draws.clear()
        self.model.squares.clear()

    def __call__(self, event: StepEvent) -> None:
        """Follow one step, and finish the level after its last one."""
        self.draws.append(self.functionals(event.x, event.sigma))
        if len(self.draws) < self.steps:
            return
        row, followed, squares = self.rows[-1], torch.stack(self.draws, dim=1), self.model.squares
        self.rows[-1] = replace(
            row,
            drift_to_noise=math.sqrt(row.step * sum(squares) / len(squares) / 2),
            ess=effective_sample_size(followed).nan_to_num(math.inf).min().item(),
            r_hat=r_hat(followed).max().item(),
        )
        if event.level + 1 < len(self.ladder):
            self.begin(event.level + 1, event.x)


def langevin_report(
    model: ScoreModel,
    ladder: Tensor | Sequence[float] | None = None,
    epsilon: float | None = None,
    steps_per_level: int | None = None,
    chains: int = 64,
    seed: int = 0,
    *,
    start: Tensor | None = None,
    condition: Mapping[str, Any] | None = None,
) -> Report:
    """Run chains of annealed Langevin dynamics down a ladder and report on each level.

    The cost is levels x steps_per_level scores of all chains, 40 scores of 16 chains more at each
    level, and one log density of all chains for each step where the model has a density.

    Args:
        model: The score model.
        ladder: Noise levels, largest first, model units; one level is plain Langevin dynamics.
            None: the default ladder of 'annealed-langevin'.
        epsilon: Coefficient of the score at the last level, squared model units; None: 0.2 times
            the level's variance sigma².
        steps_per_level: Steps at each level, 4 or more; None: the default of 'annealed-langevin'.
        chains: Number of chains, 2 or more.
        seed: Decides starts and noise.
        start: (chains, *event) in model units; None: drawn from the prior.
        condition: One value for all chains, such as {"class": 3}, or one for each; None for none.

    Returns:
        The report. Where a step leaves a NaN or an infinity, the report ends there with a warning.

    Raises:
        InputError: For a bad ladder, too few chains or steps, or a start of another shape.

    Example:
        print(langevin_report(model, chains=32))
    """
    check_model(model)
    kernel = AnnealedLangevin(epsilon)
    ladder = kernel.default_ladder(model) if ladder is None else check_ladder(ladder)
    kernel = replace(kernel, epsilon=kernel.resolve(model, ladder).epsilon)
    chains = whole(chains, "chains")
    if steps_per_level is None:
        steps_per_level = max(4, kernel.default_steps_per_level(ladder))
    steps_per_level = whole(steps_per_level, "steps_per_level")
    if chains < 2 or steps_per_level < 4:
        raise InputError(
            "R-hat needs at least 2 chains and 4 steps a level; got "
            f"chains={chains}, steps_per_level={steps_per_level}"
        )
    given = conditions.resolve(condition, model.conditions, chains, type(model).__name__)
    device, dtype = working_type(model)
    given = conditions.to_device(given, device)
    keys = rng.keys(seed, chains).to(device)
    if start is None:
        recipe = SamplingRecipe(kernel, ladder, steps_per_level, final="none")
        start = first_state(model, recipe, keys, dtype, given)
    start = floats(start, "start")
    if start.shape != (chains, *model.event_shape):
        raise InputError(
            f"start must be ({chains}, {', '.join(map(str, model.event_shape))}); got "
            f"{tuple(start.shape)}"
        )
    functionals = _Functionals(model, seed, given)
    observer = _Observer(_Noting(model), kernel, ladder, steps_per_level, functionals, seed)
    return _run_chains(observer, start.to(device), keys)


def _run_chains(observer: _Observer, start: Tensor, keys: Tensor) -> Report:
    """Run the chains with the observer as callback, and make the report."""
    model, kernel, ladder = observer.model, observer.kernel, observer.ladder
    given, steps = observer.functionals.condition, observer.steps
    scale, mismatch = start_mismatch(model, start, float(ladder[0]), given)
    warnings = [mismatch] if mismatch else []
    training = model.inner.training
    model.eval()
    try:
        with torch.no_grad(), count_cost() as cost:
            observer.begin(0, start)
            run(
                kernel,
                model,
                ladder,
                start,
                steps,
                "none",
                keys=keys,
                condition=given,
                callbacks=(observer,),
            )
    except NonFiniteError as problem:
        warnings.append(f"the chains diverged: {problem}")
    finally:
        model.inner.train(training)
    warnings += _warnings(observer.rows, len(start), steps)
    assert kernel.epsilon is not None
    return Report(
        levels=tuple(observer.rows),
        warnings=tuple(warnings),
        chains=len(start),
        steps_per_level=steps,
        epsilon=kernel.epsilon,
        evaluations=model.evaluations,
        cost=cost,
        start_scale=scale,
        functionals=observer.functionals.names,
    )


def _name_levels(rows: Sequence[Level], chosen: Sequence[int]) -> str:
    """Words such as `level 3 (sigma 0.2)`, or `levels 3, 5 of 10 (sigma 0.2 to 0.05)`."""
    first, last = chosen[0], chosen[-1]
    if len(chosen) == 1:
        return f"level {first + 1} (sigma {rows[first].sigma:g})"
    whole = len(chosen) == last - first + 1
    named = f"{first + 1} to {last + 1}" if whole else ", ".join(str(i + 1) for i in chosen)
    return f"levels {named} of {len(rows)} (sigma {rows[first].sigma:g} to {rows[last].sigma:g})"


def _warnings(rows: Sequence[Level], chains: int, steps: int) -> list[str]:
    """One sentence for each kind of problem with the levels."""
    found = []
    steep = [i for i, row in enumerate(rows) if not row.stable]
    if steep:
        fraction = min(rows[i].stable_limit / rows[i].step for i in steep)
        found.append(
            f"{_name_levels(rows, steep)}: the step is beyond the stable limit 2 / L, where x "
            f"grows along the steepest direction. Take epsilon below {fraction:.2g} times the one "
            "given"
        )
    stuck = [i for i, row in enumerate(rows) if math.isfinite(row.ess) and not row.mixed]
    if stuck:
        worst = max(stuck, key=lambda i: rows[i].r_hat)
        found.append(
            f"not mixed: {_name_levels(rows, stuck)}. R-hat is up to {rows[worst].r_hat:.3f}, with "
            f"{rows[worst].ess:.0f} effective draws of {chains} chains x {steps} steps. Take more "
            "steps a level; what a level cannot reach by itself, such as another mode, must come "
            "right from the levels above"
        )
    return found
