"""Adams-Bashforth methods for few evaluations: one evaluation a step, earlier values reused.

With eps(x, sigma) = (x - D) / sigma = - sigma s(x, sigma), the noise that the model sees in x, the
probability flow is dx/dsigma = eps. A method replaces one quantity by the polynomial through its
last p values and integrates it exactly; everything else is integrated in closed form. The step
from a to b, with lambda = - ln sigma:

    ipndm  eps in sigma     x(b) = x(a) + int eps dsigma
    zeab   eps in lambda    the same
    xeab   D in lambda      x(b) = (b/a) x(a) + int e^-(lambda_b - lambda) D dlambda
    veab   v in lambda      z(b) = z(a) + int v dtheta
                            z = (x - m) / sqrt(S² + sigma²),  theta = arctan(sigma / S)
                            v = dz/dtheta = (r eps - sigma (x - m) / r) / S,  r² = S² + sigma²

ipndm is iPNDM (Zhang and Chen 2022, arXiv 2204.13902, where it is tAB-DEIS for t = sigma; Liu et
al. 2022, arXiv 2202.09778) with weights for unequal steps. zeab and xeab are exponential
Adams-Bashforth methods (Hochbruck and Ostermann 2005) with prediction of the noise and of the data;
xeab with p = 3 is `DPMSolver3M`. veab predicts the velocity of Salimans and Ho 2022 (arXiv
2202.00512) for data of mean m and standard deviation S. It is constant on N(m, S²), where veab is
exact, and it tends to the noise as S grows and to the data as S goes to zero: at noise levels far
above S, D is the smooth quantity; at levels far below S, eps is; and v is close to the smoother one
of both.

The first steps have no earlier values. Above the first noise level p_sigma is nearly the normal
distribution with the data's mean and covariance, whose flow has a closed form (`normal_past`). The
values of this flow stand in for earlier ones, shifted so that the value at the first level is that
of the model. They cost no evaluation. The error of the slope that they give is made once, over one
step, so that the order from the start is 2, as it is without them, with a smaller constant.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from ..errors import InputError
from ..models import ScoreModel
from ..noise import karras
from ..values import finite, flag, whole
from .ladders import (
    DEFAULT_LEVELS,
    NOISE_RISE,
    angular,
    check_levels,
    data_std,
    few_levels,
    short_range,
)
from .multistep import GAUSS, History, Multistep, advance
from .state import Draws, State

MOST = 4  # values of the polynomial, the newest included
FARTHEST = 2.0  # largest ratio of neighbouring levels of the past that costs no evaluation
Points = list[tuple[float, float]]


def log_points(sigma: float, sigma_next: float) -> Points:
    """Noise levels of a step and their weights in int f(sigma) dsigma, even in ln sigma.

    16 Gauss points in each part of at most one unit of ln sigma: exact to rounding for the
    densities and polynomials of this file.
    """
    h = math.log(sigma_next / sigma)
    parts = max(1, math.ceil(abs(h)))
    points = []
    for k in range(parts):
        for s, weight in GAUSS:
            at = sigma * math.exp(h * (k + s) / parts)
            points.append((at, weight * h * at / parts))
    return points


def plain_points(sigma: float, sigma_next: float) -> Points:
    """Noise levels of a step and their weights in int f(sigma) dsigma.

    16 Gauss points in sigma: exact for polynomials in sigma up to degree 31.
    """
    return [(sigma + s * (sigma_next - sigma), w * (sigma_next - sigma)) for s, w in GAUSS]


def lagrange_values(
    points: Points, nodes: Sequence[float], variable: Callable[[float], float]
) -> list[list[float]]:
    """Lagrange's polynomials l_j(variable(sigma_i)) at the points i of a quadrature.

    Args:
        points: (sigma, weight) of a quadrature.
        nodes: The noise levels at which the integrand is known; the polynomial goes through all.
        variable: The polynomial's variable as a function of sigma.

    Returns:
        One row a node, one number a point.
    """
    at, placed = [variable(node) for node in nodes], [variable(sigma) for sigma, _ in points]
    return [
        [math.prod((u - a) / (own - a) for i, a in enumerate(at) if i != j) for u in placed]
        for j, own in enumerate(at)
    ]


def lagrange_weights(
    points: Points, nodes: Sequence[float], variable: Callable[[float], float]
) -> list[float]:
    """The integrals of Lagrange's polynomials; arguments as in `lagrange_values`.

    Returns:
        One weight a node.
    """
    shares = [weight for _, weight in points]
    return [
        sum(value * share for value, share in zip(row, shares, strict=True))
        for row in lagrange_values(points, nodes, variable)
    ]


def normal_past(
    model: ScoreModel, x: Tensor, sigma: float, levels: Sequence[float]
) -> list[tuple[Tensor, Tensor]]:
    """The flow through x of the normal distribution with the data's mean and covariance.

    Along an eigenvector of the covariance with eigenvalue v, where y is the component of x - mean,

        y(b) = y sqrt((v + b²) / (v + sigma²)),   eps(b) = y b / sqrt((v + b²) (v + sigma²))

    Args:
        model: The model; its moments decide.
        x: (B, *event) at sigma.
        sigma: The noise level of x.
        levels: The noise levels b.

    Returns:
        (x, eps) at each of the levels, each (B, *event); empty for a model without moments.
    """
    known = model.moments()
    if known is None:
        return []
    basis = None
    if known.covariance is None:
        spectrum = known.variance.flatten(-len(model.event_shape))
    else:
        spectrum, vectors = torch.linalg.eigh(known.covariance)
        spectrum, basis = spectrum.clamp(min=0), vectors.to(x.dtype).to(x.device)
    mean = known.mean.to(x.dtype).to(x.device)
    y = (x - mean).flatten(1)
    if basis is not None:
        y = y @ basis if basis.ndim == 2 else (y[:, None] @ basis)[:, 0]

    def back(part: Tensor) -> Tensor:
        if basis is not None:
            part = part @ basis.mT if basis.ndim == 2 else (part[:, None] @ basis.mT)[:, 0]
        return part.reshape(x.shape)

    found = []
    for level in levels:
        there, here = (spectrum + level**2).sqrt(), (spectrum + sigma**2).sqrt()
        grown = (there / here).to(x.dtype).to(x.device)
        noise = (level / (there * here)).to(x.dtype).to(x.device)
        found.append((mean + back(y * grown), back(y * noise)))
    return found


@dataclass(frozen=True)
class AdamsMemory(History):
    """The state that an Adams method keeps between steps.

    Args:
        past: (sigma, value) of the levels visited, newest first; what the value is depends on the
            method.
        origin: As in `History`; not used.
        centre: (B, *event), the data's mean; None where the method does not take it.
        data_std: (B,) float64 on the CPU, the data's standard deviation; None where the method
            does not take it.
        ratio: The first level over the second one.
    """

    centre: Tensor | None = None
    data_std: Tensor | None = None
    ratio: float = FARTHEST

    def add(self, sigma: float, denoised: Tensor, length: int) -> "AdamsMemory":
        """As `History.add`, the rest kept."""
        return replace(self, past=super().add(sigma, denoised, length).past)


@dataclass(frozen=True)
class Adams(Multistep):
    """Base class of the Adams methods: the history and its start.

    A subclass defines the predicted quantity (`evaluate`, `predicted`) and the step (`move`).

    Args:
        p: Number of values that the polynomial goes through, 1 to 4: the order of a step in the
            middle of a run.
        known_past: Whether the first steps take earlier values from the flow of the normal
            distribution with the data's moments (module docstring). Where it is False, or the
            model has no moments, the first steps have fewer values.

    Raises:
        InputError: For another p.
    """

    p: int = 2
    known_past: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "p", whole(self.p, "p", 1))
        object.__setattr__(self, "known_past", flag(self.known_past, "known_past"))
        if self.p > MOST:
            raise InputError(f"p must be 1, 2, 3 or 4; got {self.p}")

    @property
    def length(self) -> int:
        """p values."""
        return self.p

    @property
    def order(self) -> float | None:  # type: ignore[override]
        """The order of a run from its start: 2 at most, since no exact earlier values are known."""
        return min(self.p, 2)

    @property
    def order_interior(self) -> float | None:  # type: ignore[override]
        """The order with exact earlier values; None where it is that from the start."""
        return None if self.p < 3 else self.p

    def default_ladder(self, model: ScoreModel, levels: int | None = None) -> Tensor:
        """The few-step ladder of a short range; geometric where no moments are known."""
        return few_levels(model, levels, 1.0)

    def start(self, model: ScoreModel, ladder: Tensor, state: State, draws: Draws) -> State:
        """An empty history, or the one that `prime` made."""
        if isinstance(state.memory, AdamsMemory):
            return state
        ratio = float(ladder[0] / ladder[1]) if len(ladder) > 1 else FARTHEST
        memory = self.memory(model, state.x, float(ladder[-1]))
        return state.replace(memory=replace(memory, ratio=min(ratio, FARTHEST)))

    def prime(self, model: ScoreModel, points: Sequence[tuple[Tensor, Tensor]]) -> AdamsMemory:
        """The history that earlier points of an exact solution leave behind: see `Multistep`."""
        memory = self.memory(model, points[0][1], float(points[-1][0]))
        for sigma, x in points:
            memory = memory.add(float(sigma), self.evaluate(model, x, sigma, memory), self.length)
        return memory

    def step(
        self, model: ScoreModel, state: State, sigma: Tensor, sigma_next: Tensor, draws: Draws
    ) -> State:
        """Evaluate the model, then move."""
        here, old = float(sigma), state.memory
        value = self.evaluate(model, state.x, sigma, old)
        memory = old.add(here, value, self.length)
        if not old.past and self.known_past and self.p > 1:
            memory = replace(
                memory, past=(*memory.past, *self.earlier(model, state.x, here, value, old))
            )
        x = self.move(state.x, here, float(sigma_next), memory, draws)
        return state.replace(x=x, memory=memory)

    def earlier(
        self, model: ScoreModel, x: Tensor, sigma: float, value: Tensor, memory: AdamsMemory
    ) -> list[tuple[float, Tensor]]:
        """(level, value) at p - 1 levels above sigma, from the flow of the normal distribution."""
        levels = [sigma * memory.ratio**k for k in range(self.p)]
        flow = normal_past(model, x, sigma, levels)
        found = [
            self.predicted(there, noise, level, memory)
            for level, (there, noise) in zip(levels, flow, strict=False)
        ]
        return [
            (level, value + (one - found[0]))
            for level, one in zip(levels[1:], found[1:], strict=False)
        ]

    def memory(self, model: ScoreModel, x: Tensor, least: float) -> AdamsMemory:
        """The memory before the first step, with what the method takes from the moments.

        Args:
            model: The score model.
            x: (B, *event).
            least: The smallest noise level of the run, as far as it is known.

        Returns:
            A memory without values.
        """
        return AdamsMemory()

    def evaluate(self, model: ScoreModel, x: Tensor, sigma: Tensor, memory: AdamsMemory) -> Tensor:
        """The value that the polynomial goes through, by one evaluation of the model.

        Args:
            model: The score model.
            x: (B, *event) at sigma.
            sigma: The noise level.
            memory: The memory of the run.

        Returns:
            (B, *event).
        """
        here = float(sigma)
        return self.predicted(x, -here * model.score(x, sigma), here, memory)

    def predicted(self, x: Tensor, noise: Tensor, sigma: float, memory: AdamsMemory) -> Tensor:
        """The same value from x and eps (B, *event) at sigma; here eps itself."""
        return noise


def _sum(x: Tensor, weights: Sequence[float], past: Sequence[tuple[float, Tensor]]) -> Tensor:
    for weight, (_, value) in zip(weights, past, strict=True):
        x = x + weight * value
    return x


@dataclass(frozen=True)
class IPNDM(Adams):
    """Adams-Bashforth in sigma with prediction of the noise (Zhang and Chen 2022).

    x(b) = x(a) + int eps dsigma with the polynomial in sigma through the last p values of eps, its
    weights those of the ladder at hand.

    Args:
        p: Number of values that the polynomial goes through, 1 to 4. One is Euler's rule.
        known_past: See `Adams`.
    """

    help: ClassVar[str] = (
        "probability flow, multistep, order 2 (inside a run p): Adams-Bashforth on the noise in "
        "sigma (Zhang and Chen 2022)"
    )

    def default_ladder(self, model: ScoreModel, levels: int | None = None) -> Tensor:
        """`angular` over a short range; Karras' ladder where no moments are known."""
        count, std = check_levels(levels, DEFAULT_LEVELS), data_std(model)
        ends = short_range(model, count, NOISE_RISE)
        return karras(*ends, count) if std is None else angular(*ends, count, std)

    def move(
        self, x: Tensor, sigma: float, sigma_next: float, history: History, draws: Draws
    ) -> Tensor:
        """The integral of the polynomial in sigma."""
        points, nodes = plain_points(sigma, sigma_next), [node for node, _ in history.past]
        return _sum(x, lagrange_weights(points, nodes, float), history.past)


@dataclass(frozen=True)
class NoiseAdams(Adams):
    """Exponential Adams-Bashforth with prediction of the noise.

    x(b) = x(a) + int eps dsigma with the polynomial in ln sigma through the last p values of eps.

    Args:
        p: Number of values that the polynomial goes through, 1 to 4. One is Euler's rule.
        known_past: See `Adams`.
    """

    help: ClassVar[str] = (
        "probability flow, multistep, order 2 (inside a run p): exponential Adams-Bashforth on the "
        "noise"
    )

    def default_ladder(self, model: ScoreModel, levels: int | None = None) -> Tensor:
        """Karras' ladder over a short range."""
        count = check_levels(levels, DEFAULT_LEVELS)
        return karras(*short_range(model, count, NOISE_RISE), count)

    def move(
        self, x: Tensor, sigma: float, sigma_next: float, history: History, draws: Draws
    ) -> Tensor:
        """The integral of the polynomial in ln sigma."""
        points, nodes = log_points(sigma, sigma_next), [node for node, _ in history.past]
        return _sum(x, lagrange_weights(points, nodes, math.log), history.past)


@dataclass(frozen=True)
class DataAdams(Adams):
    """Exponential Adams-Bashforth with prediction of the data.

    x(b) = (b/a) x(a) + int e^-(lambda_b - lambda) D dlambda with the polynomial in lambda through
    the last p values of D. DPM-Solver++(2M) is p = 2 with the integral of the slope taken at the
    middle of the step; `DPMSolver3M` is p = 3 without a known past; UniPC is p followed by a
    correction.

    Args:
        p: Number of values that the polynomial goes through, 1 to 4.
        known_past: See `Adams`.
    """

    help: ClassVar[str] = (
        "probability flow, multistep, order 2 (inside a run p): exponential Adams-Bashforth on the "
        "data"
    )

    def evaluate(self, model: ScoreModel, x: Tensor, sigma: Tensor, memory: AdamsMemory) -> Tensor:
        """D."""
        return model.denoise(x, sigma)

    def predicted(self, x: Tensor, noise: Tensor, sigma: float, memory: AdamsMemory) -> Tensor:
        """D = x - sigma eps."""
        return x - sigma * noise

    def move(
        self, x: Tensor, sigma: float, sigma_next: float, history: History, draws: Draws
    ) -> Tensor:
        """The integral of the polynomial."""
        return advance(x, sigma, sigma_next, history.past)


@dataclass(frozen=True)
class VelocityAdams(NoiseAdams):
    """Exponential Adams-Bashforth with prediction of the velocity.

    z(b) = z(a) + int v dtheta with the polynomial in ln sigma through the last p values of v; see
    the module docstring. Exact on N(m, S²) with one value.

    Args:
        p: Number of values that the polynomial goes through, 1 to 4.
        known_past: See `Adams`.
        data_std: S, the data's standard deviation in model units, above zero; None: that of the
            model's moments. For a model without moments S is infinite, which gives `NoiseAdams`.
    """

    data_std: float | None = None

    help: ClassVar[str] = (
        "probability flow, multistep, order 2 (inside a run p): exponential Adams-Bashforth on the "
        "velocity, for 5 to 10 evaluations"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.data_std is not None:
            std = finite(self.data_std, "data_std", 0.0, above=True)
            object.__setattr__(self, "data_std", std)

    def default_ladder(self, model: ScoreModel, levels: int | None = None) -> Tensor:
        """The few-step ladder of a short range, for 1.5 times the data's standard deviation."""
        return few_levels(model, levels, 1.5)

    def memory(self, model: ScoreModel, x: Tensor, least: float) -> AdamsMemory:
        """m and S, by row where the moments depend on a condition.

        S is at least a hundredth of `least`, since constant data would have S = 0; a smaller S
        would make no difference.
        """
        known = model.moments()
        if known is None and self.data_std is None:
            return AdamsMemory()
        mean = torch.zeros_like(x) if known is None else known.mean.to(x.dtype).to(x.device)
        if self.data_std is not None:
            std = torch.full((len(x),), self.data_std, dtype=torch.float64)
        else:
            assert known is not None
            variance = known.variance.flatten(-len(model.event_shape)).mean(-1)
            std = variance.sqrt().clamp(min=0.01 * least).expand(len(x))
        return AdamsMemory(centre=mean.expand_as(x), data_std=std)

    def predicted(self, x: Tensor, noise: Tensor, sigma: float, memory: AdamsMemory) -> Tensor:
        """v, or eps where S is infinite."""
        if memory.data_std is None or memory.centre is None:
            return noise
        r = (memory.data_std.square() + sigma**2).sqrt()
        of_noise, of_x = r / memory.data_std, sigma / (r * memory.data_std)
        return _rows(of_noise, x) * noise - _rows(of_x, x) * (x - memory.centre)

    def move(
        self, x: Tensor, sigma: float, sigma_next: float, history: History, draws: Draws
    ) -> Tensor:
        """The integral over theta: z back to x."""
        assert isinstance(history, AdamsMemory)
        if history.data_std is None or history.centre is None:
            return super().move(x, sigma, sigma_next, history, draws)
        std, points = history.data_std[:, None], log_points(sigma, sigma_next)
        at, share = torch.tensor(points, dtype=torch.float64).unbind(1)
        values = lagrange_values(points, [node for node, _ in history.past], math.log)
        weights = (share * std / (std.square() + at.square())) @ torch.tensor(
            values, dtype=torch.float64
        ).T
        here, there = ((history.data_std.square() + s**2).sqrt() for s in (sigma, sigma_next))
        moved = history.centre + _rows(there / here, x) * (x - history.centre)
        for j, (_, value) in enumerate(history.past):
            moved = moved + _rows(there * weights[:, j], x) * value
        return moved


def _rows(factor: Tensor, x: Tensor) -> Tensor:
    """One float64 number a row, in x's type, to multiply x (B, *event)."""
    return factor.to(x.dtype).to(x.device).reshape(-1, *[1] * (x.ndim - 1))
