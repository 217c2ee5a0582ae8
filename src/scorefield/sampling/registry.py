"""The samplers by name: a kernel, its default ladder, and what it costs."""

import difflib
import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from ..errors import InputError
from ..model import ScoreModel
from ..noise import check_ladder, geometric, karras
from .diffusion import Euler, Heun
from .driver import Kernel
from .langevin import AnnealedLangevin, Langevin

DEFAULT_LEVELS = 18  # Karras et al. 2022: 35 evaluations of Heun suffice for small images
GAMMA = 1.25  # the largest ratio of neighbouring levels of a default annealed ladder: levels overlap well up to a thousand dimensions
WIDEST, FINEST = 20.0, 0.04  # ends of a default annealed ladder in standard deviations of the data, where the model says what they are
LANGEVIN_STEPS = 1000  # in all: 100 at each of the article's 10 levels, 4 at each of NCSNv2's 232


def _range(model: ScoreModel, name: str) -> tuple[float, float]:
    if not (math.isfinite(model.sigma_max) and model.sigma_min > 0):
        got = f"[{model.sigma_min:g}, {model.sigma_max:g}]"
        raise InputError(f"{name} has no default ladder for a model known on {got}: pass ladder=, such as karras(80, 0.002, 18)")
    return model.sigma_max, model.sigma_min


def _flow_ladder(model: ScoreModel, levels: int | None) -> Tensor:
    """Karras et al. 2022, Eq. 5, over the model's range."""
    return karras(*_range(model, "a flow"), levels or DEFAULT_LEVELS)


def _annealed_ladder(model: ScoreModel, levels: int | None) -> Tensor:
    """The model's own levels; where it has none, geometric with a ratio of at most GAMMA, over the part of its range where there is something
    to do: above WIDEST standard deviations of the data p_sigma is all but the terminal law, below FINEST the final denoise does the rest."""
    own = getattr(model, "ladder", None)
    if own is not None and levels in (None, len(own)):
        return check_ladder(own)
    high, low = _range(model, "annealed-langevin")
    moments = getattr(model, "moments", None)
    known = moments() if moments is not None else None
    if known is not None:
        variance = known[1] if known[1].shape == known[0].shape else known[1].diagonal()
        spread = float(variance.double().mean().sqrt())
        high, low = min(high, max(WIDEST * spread, 2 * low)), max(low, min(FINEST * spread, high / 2))
    return geometric(high, low, levels or max(10, math.ceil(1 + math.log(high / low) / math.log(GAMMA))))


def _last_level(model: ScoreModel, levels: int | None) -> Tensor:
    """The one level sigma_min."""
    return check_ladder([_range(model, "langevin")[1]])


def _once(ladder: Tensor) -> int:
    return 1


def _shared(ladder: Tensor) -> int:
    """LANGEVIN_STEPS over all levels."""
    return max(1, round(LANGEVIN_STEPS / len(ladder)))


@dataclass(frozen=True)
class Sampler:
    """A row of the registry.

    make(epsilon) -> kernel. ladder(model, levels or None) -> the default ladder, None for its usual length. repeats(ladder) -> visits of a level.
    evaluations: of the model in one step. epsilon: the default step in units of sigma_L², None for kernels that take none.
    """

    kernel: type[Kernel]
    make: Callable[[float], Kernel]
    ladder: Callable[[ScoreModel, int | None], Tensor]
    repeats: Callable[[Tensor], int]
    evaluations: int
    help: str
    epsilon: float | None = None


SAMPLERS: dict[str, Sampler] = {
    "heun": Sampler(
        Heun, lambda _: Heun(), _flow_ladder, _once, 2, "probability flow, order 2, two evaluations a step (Karras et al. 2022)"
    ),
    "euler": Sampler(Euler, lambda _: Euler(), _flow_ladder, _once, 1, "probability flow, order 1, one evaluation a step"),
    "annealed-langevin": Sampler(
        AnnealedLangevin, AnnealedLangevin, _annealed_ladder, _shared, 1, "Langevin at each level in turn (Song & Ermon 2019)", 0.2
    ),
    "langevin": Sampler(Langevin, Langevin, _last_level, _shared, 1, "Langevin at one level: slow between modes, a baseline", 0.2),
}


def find_sampler(name: str) -> Sampler:
    """The registry's row of that name; an InputError with the nearest name where there is none."""
    if name in SAMPLERS:
        return SAMPLERS[name]
    near = difflib.get_close_matches(name, SAMPLERS, n=1, cutoff=0.4)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise InputError(f"unknown sampler {name!r}.{hint} There are {', '.join(SAMPLERS)}")
