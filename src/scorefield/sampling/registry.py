"""The samplers by name: a kernel, its default ladder, and what it costs."""

import difflib
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InputError
from ..model import ScoreModel
from ..noise import LADDERS, check_ladder, few_step, geometric, karras
from .diffusion import Euler, Heun, StochasticHeun
from .driver import Kernel
from .langevin import MALA, AnnealedLangevin, Langevin
from .multistep import DPMSolver2M, DPMSolver2MSDE, DPMSolver3M, MatchedSDE, UniPC
from .reverse import Ancestral, ConsistentAnnealed, PredictorCorrector, ReverseSDE

DEFAULT_LEVELS = 18  # Karras et al. 2022: 35 evaluations of Heun suffice for small images
# for vectors evaluations are cheap, and 18 are seen: the ring's mean radius comes out 0.028 too
# large, with 64 within 0.003
VECTOR_LEVELS = 64
# the largest ratio of neighbouring levels of a default annealed ladder: levels overlap well up to a
# thousand dimensions
GAMMA = 1.25
WIDEST, FINEST = (
    20.0,
    0.04,
    # ends of a default annealed ladder in standard deviations of the data, where the model says what
    # they are
)
REVERSE_LEVELS = 128  # of a reverse SDE: its error is of order 1
LANGEVIN_STEPS = 1000  # in all: 100 at each of the article's 10 levels, 4 at each of NCSNv2's 232


def _range(model: ScoreModel, name: str) -> tuple[float, float]:
    if not (math.isfinite(model.sigma_max) and model.sigma_min > 0):
        got = f"[{model.sigma_min:g}, {model.sigma_max:g}]"
        raise InputError(
            f"{name} has no default ladder for a model known on {got}: pass ladder=, such as "
            "karras(80, 0.002, 18)"
        )
    return model.sigma_max, model.sigma_min


def _spread(model: ScoreModel) -> float | None:
    """The data's standard deviation, root mean square over the event; None where the model does not
    say.
    """
    moments = getattr(model, "moments", None)
    known = moments() if moments is not None else None
    if known is None:
        return None
    variance = known[1] if known[1].shape == known[0].shape else known[1].diagonal()
    spread = float(variance.cpu().double().mean().sqrt())
    return spread if spread > 0 else None


def _flow_ladder(model: ScoreModel, levels: int | None) -> Tensor:
    """Karras et al. 2022, Eq. 5, over the model's range."""
    return karras(
        *_range(model, "a flow"),
        levels or (DEFAULT_LEVELS if len(model.event_shape) > 1 else VECTOR_LEVELS),
    )


def _few_step_ladder(model: ScoreModel, levels: int | None, widened: float = 1.0) -> Tensor:
    """few_step over the model's range for `widened` times the data's spread where that is known,
    geometric where it is not: both beat karras
    for multistep methods."""
    spread, ends = _spread(model), _range(model, "a flow")
    return (
        geometric(*ends, levels or DEFAULT_LEVELS)
        if spread is None
        else few_step(*ends, levels or DEFAULT_LEVELS, widened * spread)
    )


def _matched_ladder(model: ScoreModel, levels: int | None) -> Tensor:
    """few_step for data half as wide again: directions wider than the elements' mean lose variance
    else, -4.4 % at five times that (docs/log.md).
    """
    return _few_step_ladder(model, levels, 1.5)


def _reverse_ladder(model: ScoreModel, levels: int | None) -> Tensor:
    """The model's own levels, evenly thinned where fewer are asked for; where it has none, karras
    over its range, REVERSE_LEVELS.
    """
    own = getattr(model, "ladder", None)
    if own is None:
        return karras(*_range(model, "a reverse SDE"), levels or REVERSE_LEVELS)
    own = check_ladder(own)
    if levels is None or levels == len(own):
        return own
    if levels < len(own):
        return own[torch.linspace(0, len(own) - 1, levels, dtype=torch.float64).round().long()]
    return geometric(float(own[0]), float(own[-1]), levels)


def _consistent_ladder(model: ScoreModel, levels: int | None) -> Tensor:
    """The model's own levels; where it has none, geometric: a constant ratio serves a constant eta."""
    if getattr(model, "ladder", None) is not None:
        return _reverse_ladder(model, levels)
    return geometric(*_range(model, "consistent-annealed"), levels or REVERSE_LEVELS)


def _annealed_ladder(model: ScoreModel, levels: int | None) -> Tensor:
    """The model's own levels; where it has none, geometric with a ratio of at most GAMMA, over the
    part of its range where there is something
    to do: above WIDEST standard deviations of the data p_sigma is all but the terminal law, below
    FINEST the final denoise does the rest.
    """
    own = getattr(model, "ladder", None)
    if own is not None and levels in (None, len(own)):
        return check_ladder(own)
    high, low = _range(model, "annealed-langevin")
    spread = _spread(model)
    if spread is not None:
        high, low = (
            min(high, max(WIDEST * spread, 2 * low)),
            max(low, min(FINEST * spread, high / 2)),
        )
    return geometric(
        high, low, levels or max(10, math.ceil(1 + math.log(high / low) / math.log(GAMMA)))
    )


def named_ladder(name: str, model: ScoreModel, levels: int) -> Tensor:
    """The ladder of that name in noise.LADDERS over the model's range; few-step takes the data's
    spread where the model knows it.
    """
    if name not in LADDERS:
        raise InputError(
            f"a ladder is sigmas that decrease, or one of {', '.join(LADDERS)}; got {name!r}"
        )
    spread, ends = _spread(model), _range(model, f"ladder={name!r}")
    return (
        few_step(*ends, levels, spread)
        if name == "few-step" and spread is not None
        else LADDERS[name](*ends, levels)
    )


def _last_level(model: ScoreModel, levels: int | None) -> Tensor:
    """The one level sigma_min."""
    return check_ladder([_range(model, "langevin")[1]])


def _once(ladder: Tensor) -> int:
    return 1


def _shared(ladder: Tensor) -> int:
    """LANGEVIN_STEPS over all levels."""
    return max(1, round(LANGEVIN_STEPS / len(ladder)))


def _as_ancestral(ladder: Tensor) -> float:
    """eta = 1 - r² at the ladder's steepest ratio r: as much fresh noise as the reverse SDE has
    there, and always within reach.
    """
    return 1 - float((ladder[1:] / ladder[:-1]).min()) ** 2 if len(ladder) > 1 else 0.0


@dataclass(frozen=True)
class Sampler:
    """A row of the registry.

    make(epsilon) -> kernel. ladder(model, levels or None) -> the default ladder, None for its usual
    length. repeats(ladder) -> visits of a level.
    evaluations: of the model in one step. epsilon: the default step in units of sigma_L², None for
    kernels that take none; least(ladder): what
    it must not fall below. takes_eta: the kernel is told the strength of its noise.
    """

    kernel: type[Kernel]
    make: Callable[[float], Kernel]
    ladder: Callable[[ScoreModel, int | None], Tensor]
    repeats: Callable[[Tensor], int]
    evaluations: int
    help: str
    epsilon: float | None = None
    least: Callable[[Tensor], float] | None = None
    takes_eta: bool = False

    def default_epsilon(self, ladder: Tensor) -> float | None:
        """The default step on this ladder, in squared model units."""
        if self.epsilon is None:
            return None
        return (
            max(self.epsilon, 0.0 if self.least is None else self.least(ladder))
            * float(ladder[-1]) ** 2
        )


SAMPLERS: dict[str, Sampler] = {
    "heun": Sampler(
        Heun,
        lambda _: Heun(),
        _flow_ladder,
        _once,
        2,
        "probability flow, order 2, two evaluations a step (Karras et al. 2022)",
    ),
    "euler": Sampler(
        Euler,
        lambda _: Euler(),
        _flow_ladder,
        _once,
        1,
        "probability flow, order 1, one evaluation a step",
    ),
    "unipc": Sampler(
        UniPC,
        lambda _: UniPC(),
        _few_step_ladder,
        _once,
        1,
        "probability flow, multistep, order 3: for few evaluations (Zhao et al. 2023)",
    ),
    "dpmpp-2m": Sampler(
        DPMSolver2M,
        lambda _: DPMSolver2M(),
        _few_step_ladder,
        _once,
        1,
        "probability flow, multistep, order 2: DPM-Solver++ (Lu et al. 2022)",
    ),
    "dpmpp-3m": Sampler(
        DPMSolver3M,
        lambda _: DPMSolver3M(),
        _few_step_ladder,
        _once,
        1,
        "probability flow, multistep, order 3 inside, 2 with its start",
    ),
    "dpmpp-2m-sde": Sampler(
        DPMSolver2MSDE,
        lambda _: DPMSolver2MSDE(),
        _few_step_ladder,
        _once,
        1,
        "reverse SDE of any eta, multistep, weak order 2: SDE-DPM-Solver++ (Lu et al. 2022)",
        takes_eta=True,
    ),
    "matched-sde": Sampler(
        MatchedSDE,
        lambda _: MatchedSDE(),
        _matched_ladder,
        _once,
        1,
        "as dpmpp-2m-sde, and a Gaussian keeps its variance in long steps: for few evaluations",
        takes_eta=True,
    ),
    "heun-churn": Sampler(
        StochasticHeun,
        lambda _: StochasticHeun(),
        _flow_ladder,
        _once,
        2,
        "heun with noise added before each step (Karras et al. 2022, Alg. 2)",
    ),
    "ancestral": Sampler(
        Ancestral,
        lambda _: Ancestral(),
        _reverse_ladder,
        _once,
        1,
        "reverse SDE, exact noise a step, weak order 1 (Song et al. 2021)",
    ),
    "reverse-sde": Sampler(
        ReverseSDE,
        lambda _: ReverseSDE(),
        _reverse_ladder,
        _once,
        1,
        "reverse SDE by Euler-Maruyama, weak order 1 (Song et al. 2021)",
    ),
    "predictor-corrector": Sampler(
        PredictorCorrector,
        lambda _: PredictorCorrector(Ancestral()),
        _reverse_ladder,
        _once,
        2,
        "ancestral steps, a Langevin step after each (Song et al. 2021)",
    ),
    "consistent-annealed": Sampler(
        ConsistentAnnealed,
        ConsistentAnnealed,
        _consistent_ladder,
        _once,
        1,
        "Langevin that keeps to the ladder's noise levels (Jolicoeur-Martineau et al. 2020)",
        0.2,
        _as_ancestral,
    ),
    "annealed-langevin": Sampler(
        AnnealedLangevin,
        AnnealedLangevin,
        _annealed_ladder,
        _shared,
        1,
        "Langevin at each level in turn (Song & Ermon 2019)",
        0.2,
    ),
    "langevin": Sampler(
        Langevin,
        Langevin,
        _last_level,
        _shared,
        1,
        "Langevin at one level: slow between modes, a baseline",
        0.2,
    ),
    "mala": Sampler(
        MALA,
        MALA,
        _annealed_ladder,
        _shared,
        4,
        "annealed Langevin without a step's bias, for models with log_density",
        0.2,
    ),
}


def find_sampler(name: str) -> Sampler:
    """The registry's row of that name; an InputError with the nearest name where there is none."""
    if name in SAMPLERS:
        return SAMPLERS[name]
    near = difflib.get_close_matches(name, SAMPLERS, n=1, cutoff=0.4)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise InputError(f"unknown sampler {name!r}.{hint} There are {', '.join(SAMPLERS)}")
