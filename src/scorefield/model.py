"""The contract: a score model is a family of smoothed densities p_sigma = p * N(0, sigma² I), x =
x0 + sigma z, z ~ N(0, I).

    denoise(x, sigma) = D = E[x0 | x]        score(x, sigma) = grad log p_sigma(x) = (D - x) / sigma²        (Tweedie, Miyasawa 1961)

Networks know nothing of sigma. A preconditioner makes a score model of one:

    D = c_skip x + c_out F(c_in x, c_noise)        score = s_skip x + s_out F(c_in x, c_noise)

with both pairs given in closed form, so that nothing cancels at small sigma.

    name      c_in              c_skip          c_out                  c_noise        s_skip          s_out
    edm       1/sqrt(v)         sd²/v           sigma sd/sqrt(v)       ln(sigma)/4    -1/v            sd/(sigma sqrt(v))     Karras et al. 2022, Table 1
    ncsn      1                 1               sigma²                 level index    0               1                      Song & Ermon 2019
    ncsnv2    1                 1               sigma                  none           0               1/sigma                Song & Ermon 2020, Technique 3

where sd = sigma_data and v = sigma² + sd².

Energy forms take F = grad_u phi(u, c_noise), u = c_in x, for a scalar phi made of the same network.
The score is then minus the gradient of

    energy(x, sigma) = -(s_skip/2) |x|² - (s_out/c_in) phi(c_in x, c_noise)

so it has no curl, -energy is log p_sigma up to a constant of sigma, and the weights' scales are
those of the table.

    square    phi = 1/2 |u|² - 1/2 |u - f(u)|²     F = f + (grad f)'(u - f)     after Salimans & Ho 2021
    scalar    phi = sum of f(u)'s elements         F = (grad f)'1
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .errors import InputError
from .units import Units

LEVEL_TOLERANCE = 1e-3  # in ln sigma: how near a level an index-conditioned model must be asked


def as_sigma(sigma: Tensor | float) -> Tensor:
    """sigma as a tensor; a Python number becomes float64, where torch.as_tensor would round 0.1 to
    float32.
    """
    return (
        sigma
        if isinstance(sigma, Tensor) and sigma.is_floating_point()
        else torch.as_tensor(sigma, dtype=torch.float64)
    )


def broadcast(sigma: Tensor, x: Tensor) -> Tensor:
    """sigma () or (B,) shaped so that it broadcasts against x (B, *event), in x's dtype and on its
    device; else an InputError with both shapes.
    """
    if sigma.ndim == 0 or (sigma.ndim == 1 and x.ndim >= 1 and len(sigma) == len(x)):
        return sigma.to(x.device, x.dtype).reshape(
            sigma.shape + (1,) * (x.ndim - 1) if sigma.ndim else ()
        )
    raise InputError(
        f"sigma must have shape () or (B,) with B = {x.shape[0] if x.ndim else 0}; got sigma "
        f"{tuple(sigma.shape)} for x {tuple(x.shape)}"
    )


class ScoreModel(nn.Module):
    """A family of smoothed densities p_sigma = p * N(0, sigma² I).

    x: (B, *event_shape); sigma: () or (B,); both in model units; results have x's shape and dtype.
    A subclass implements `denoise` or
    `score`, calling `check` first; the other is derived here. Optional capabilities, asked for by
    name: `log_density(x, sigma)`,
    `moments()`, `ladder`.
    """

    event_shape: tuple[int, ...]
    sigma_min: float
    sigma_max: float
    takes_condition = False
    units: Units = Units.identity()
    card: dict[str, Any] | None = None  # what a model file says of itself

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        if cls.denoise is ScoreModel.denoise and cls.score is ScoreModel.score:
            raise TypeError(f"{cls.__name__} must implement denoise or score")

    def denoise(self, x: Tensor, sigma: Tensor | float, condition: Tensor | None = None) -> Tensor:
        """E[x0 | x0 + sigma z = x]."""
        level = broadcast(as_sigma(sigma), x)
        return x + level.square() * self.score(x, sigma, condition)

    def score(self, x: Tensor, sigma: Tensor | float, condition: Tensor | None = None) -> Tensor:
        """grad log p_sigma(x)."""
        level = broadcast(as_sigma(sigma), x)
        return (self.denoise(x, sigma, condition) - x) / level.square()

    def forward(
        self,
        x: Tensor,
        sigma: Tensor | float,
        condition: Tensor | None = None,
        quantity: str = "denoise",
    ) -> Tensor:
        """`denoise`, or `score` where quantity = "score": what training calls, so that wrappers
        such as DistributedDataParallel see it.
        """
        return (
            self.score(x, sigma, condition)
            if quantity == "score"
            else self.denoise(x, sigma, condition)
        )

    def check(self, x: Tensor, sigma: Tensor | float, condition: Tensor | None = None) -> Tensor:
        """sigma as a tensor, after x's shape, sigma's shape and range and the condition were found
        right; else an InputError that says what is.
        """
        sigma = as_sigma(sigma)
        if x.ndim != 1 + len(self.event_shape) or tuple(x.shape[1:]) != tuple(self.event_shape):
            raise InputError(
                f"x must be (B, {', '.join(map(str, self.event_shape))}); got {tuple(x.shape)}"
            )
        broadcast(sigma, x)
        self.check_range(sigma)
        if condition is not None and not self.takes_condition:
            raise InputError(
                f"{type(self).__name__} takes no condition; got one of shape "
                f"{tuple(condition.shape)}. Pass condition=None"
            )
        if condition is not None and len(condition) != len(x):
            raise InputError(
                f"condition must have first dimension {len(x)}, x's; got {tuple(condition.shape)}"
            )
        return sigma

    def check_range(self, sigma: Tensor) -> None:
        """An InputError unless every sigma lies in [sigma_min, sigma_max], up to the rounding of
        sigma's own type.
        """
        slack = 4 * torch.finfo(sigma.dtype).eps
        if not bool(
            (
                (sigma >= self.sigma_min * (1 - slack)) & (sigma <= self.sigma_max * (1 + slack))
            ).all()
        ):
            low, high = float(sigma.min()), float(sigma.max())
            got = f"{low:g}" if low == high else f"{low:g} to {high:g}"
            raise InputError(
                f"sigma must lie in [{self.sigma_min:g}, {self.sigma_max:g}], the range this "
                f"model knows; got {got}"
            )


class Coefficients(NamedTuple):
    """One row of the table in the module docstring at given sigmas, each shaped like sigma."""

    c_in: Tensor
    c_skip: Tensor
    c_out: Tensor
    s_skip: Tensor
    s_out: Tensor


@dataclass(frozen=True)
class Preconditioner:
    """coefficients(sigma, sigma_data) -> Coefficients; noise_input: what the network is told of
    sigma.
    """

    coefficients: Callable[[Tensor, float], Coefficients]
    noise_input: str  # "log" (ln sigma / 4), "index" (of the level) or "none"


def _edm(sigma: Tensor, sigma_data: float) -> Coefficients:
    variance = sigma.square() + sigma_data**2
    root = variance.sqrt()
    return Coefficients(
        1 / root,
        sigma_data**2 / variance,
        sigma * sigma_data / root,
        -1 / variance,
        sigma_data / (sigma * root),
    )


def _ncsn(sigma: Tensor, sigma_data: float) -> Coefficients:
    one = torch.ones_like(sigma)
    return Coefficients(one, one, sigma.square(), torch.zeros_like(sigma), one)


def _ncsnv2(sigma: Tensor, sigma_data: float) -> Coefficients:
    one = torch.ones_like(sigma)
    return Coefficients(one, one, sigma, torch.zeros_like(sigma), 1 / sigma)


PRECONDITIONERS: dict[str, Preconditioner] = {
    "edm": Preconditioner(_edm, "log"),
    "ncsn": Preconditioner(_ncsn, "index"),
    "ncsnv2": Preconditioner(_ncsnv2, "none"),
}


class Preconditioned(ScoreModel):
    """A score model made of a network `(x, noise_input, condition) -> same shape` and a row of
    PRECONDITIONERS.

    ladder: the levels the network was trained on; needed by index-conditioned models, which answer
    only there (nearest in ln sigma within
    1e-3). mean, variance: the data's moments per element in model units, event_shape each, for
    `moments()`.
    """

    form = "score"  # the name in FORMS, recorded in cards
    mean: Tensor | None
    variance: Tensor | None

    def __init__(
        self,
        network: nn.Module,
        event_shape: tuple[int, ...],
        sigma_min: float,
        sigma_max: float,
        preconditioner: str = "edm",
        sigma_data: float = 0.5,
        ladder: Tensor | None = None,
        takes_condition: bool = False,
        units: Units | None = None,
        mean: Tensor | None = None,
        variance: Tensor | None = None,
    ) -> None:
        super().__init__()
        if preconditioner not in PRECONDITIONERS:
            raise InputError(
                f"preconditioner must be one of {', '.join(PRECONDITIONERS)}; got "
                f"{preconditioner!r}"
            )
        if not 0 < sigma_min <= sigma_max:
            raise InputError(f"need 0 < sigma_min <= sigma_max; got {sigma_min:g}, {sigma_max:g}")
        if PRECONDITIONERS[preconditioner].noise_input == "index" and ladder is None:
            raise InputError(
                f"the {preconditioner} preconditioner feeds a level's index to the network, so it "
                "needs the ladder"
            )
        self.network = network
        self.event_shape = tuple(event_shape)
        self.sigma_min, self.sigma_max = float(sigma_min), float(sigma_max)
        self.preconditioner, self.sigma_data = preconditioner, float(sigma_data)
        self.ladder = ladder
        self.takes_condition = takes_condition
        if units is not None:
            self.units = units
        self.autocast: torch.dtype | None = (
            None  # the type the network computes in; None: its own. execution.py chooses
        )
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("variance", variance, persistent=False)

    @property
    def index_conditioned(self) -> bool:
        """True where the model answers only at the levels of its ladder."""
        return PRECONDITIONERS[self.preconditioner].noise_input == "index"

    def moments(self) -> tuple[Tensor, Tensor] | None:
        """Mean and variance per element of x0 in model units, event_shape each; None where they
        were not recorded.
        """
        return None if self.mean is None or self.variance is None else (self.mean, self.variance)

    def level_index(self, sigma: Tensor) -> Tensor:
        """The index of the ladder's level nearest in ln sigma; an InputError where none is within
        1e-3.
        """
        assert self.ladder is not None
        ladder = self.ladder.to(sigma.device, sigma.dtype).log()
        distance, index = (sigma.log().unsqueeze(-1) - ladder).abs().min(-1)
        if bool((distance > LEVEL_TOLERANCE).any()):
            worst = sigma.flatten()[distance.flatten().argmax()]
            raise InputError(
                f"this model knows only its {len(self.ladder)} levels, {float(self.ladder[0]):g} "
                f"to {float(self.ladder[-1]):g}; got sigma={float(worst):g}, "
                "nearest level "
                f"{float(self.ladder[int(index.flatten()[distance.flatten().argmax()])]):g}. Use "
                "model.ladder"
            )
        return index

    def _prepare(
        self, x: Tensor, sigma: Tensor | float, condition: Tensor | None
    ) -> tuple[Coefficients, Tensor | None]:
        """The row's coefficients shaped against x, and what the network is told of sigma; after
        `check`.
        """
        sigma = self.check(x, sigma, condition)
        row = PRECONDITIONERS[self.preconditioner]
        c = Coefficients(
            *(broadcast(value, x) for value in row.coefficients(sigma, self.sigma_data))
        )
        noise_input: Tensor | None = None
        if row.noise_input == "log":
            noise_input = (sigma.log() / 4).to(x.device, x.dtype).expand(len(x))
        elif row.noise_input == "index":
            noise_input = self.level_index(sigma).to(x.device).expand(len(x))
        return c, noise_input

    def _network(self, u: Tensor, noise_input: Tensor | None, condition: Tensor | None) -> Tensor:
        """F(u, noise_input)."""
        return self.network(u, noise_input, condition)

    def _evaluate(
        self, x: Tensor, sigma: Tensor | float, condition: Tensor | None
    ) -> tuple[Tensor, Coefficients]:
        c, noise_input = self._prepare(x, sigma, condition)
        with torch.autocast(x.device.type, dtype=self.autocast, enabled=self.autocast is not None):
            return self._network(c.c_in * x, noise_input, condition), c

    def denoise(self, x: Tensor, sigma: Tensor | float, condition: Tensor | None = None) -> Tensor:
        """c_skip x + c_out F."""
        out, c = self._evaluate(x, sigma, condition)
        return c.c_skip * x + c.c_out * out.to(x.dtype)

    def score(self, x: Tensor, sigma: Tensor | float, condition: Tensor | None = None) -> Tensor:
        """s_skip x + s_out F."""
        out, c = self._evaluate(x, sigma, condition)
        return c.s_skip * x + c.s_out * out.to(x.dtype)


class Energy(Preconditioned):
    """A score model whose network F is the gradient of a scalar `potential`; a subclass says of
    which. Made like Preconditioned.

    An evaluation costs a forward and a backward pass, under no_grad too; training differentiates
    through it, so it stays float32 and eager.
    """

    def potential(self, u: Tensor, noise_input: Tensor | None, condition: Tensor | None) -> Tensor:
        """phi(u, noise_input), (B,), from the network."""
        raise NotImplementedError

    def _network(self, u: Tensor, noise_input: Tensor | None, condition: Tensor | None) -> Tensor:
        graph = torch.is_grad_enabled() and (
            u.requires_grad or any(p.requires_grad for p in self.network.parameters())
        )
        with torch.enable_grad():
            if not u.requires_grad:
                u = u.detach().requires_grad_(True)
            (slope,) = torch.autograd.grad(
                self.potential(u, noise_input, condition).sum(), u, create_graph=graph
            )
        return slope

    def energy(self, x: Tensor, sigma: Tensor | float, condition: Tensor | None = None) -> Tensor:
        """(B,): score = -grad energy; in nats, up to a constant of sigma."""
        c, noise_input = self._prepare(x, sigma, condition)
        potential = self.potential(c.c_in * x, noise_input, condition)
        return -(
            c.s_skip.flatten() * x.square().flatten(1).sum(1) / 2
            + (c.s_out / c.c_in).flatten() * potential
        )

    def log_density(
        self, x: Tensor, sigma: Tensor | float, condition: Tensor | None = None
    ) -> Tensor:
        """-energy, (B,): log p_sigma up to a constant of sigma."""
        return -self.energy(x, sigma, condition)


class SquareEnergy(Energy):
    """phi = 1/2 |u|² - 1/2 |u - f(u)|²."""

    form = "square"

    def potential(self, u: Tensor, noise_input: Tensor | None, condition: Tensor | None) -> Tensor:
        """u'f - 1/2 |f|², which is phi without a difference of large squares; (B,)."""
        f = self.network(u, noise_input, condition)
        return (f * (u - f / 2)).flatten(1).sum(1)


class ScalarEnergy(Energy):
    """phi = the sum of f(u)'s elements."""

    form = "scalar"

    def potential(self, u: Tensor, noise_input: Tensor | None, condition: Tensor | None) -> Tensor:
        """(B,)."""
        return self.network(u, noise_input, condition).flatten(1).sum(1)


FORMS: dict[str, type[Preconditioned]] = {
    form.form: form for form in (Preconditioned, SquareEnergy, ScalarEnergy)
}


@dataclass(frozen=True)
class Terminal:
    """N(mean, covariance) of p_sigma_max: mean (*event); variance (*event), or a root of the
    covariance (d, d) with d elements an event.
    """

    mean: Tensor
    variance: Tensor | None = None
    root: Tensor | None = None  # lower Cholesky factor

    def sample(self, noise: Tensor) -> Tensor:
        """Standard normals (B, *event) -> samples of the terminal law, same shape and dtype."""
        mean = self.mean.to(noise.device, noise.dtype)
        if self.root is not None:
            return mean + (noise.flatten(1) @ self.root.to(noise.device, noise.dtype).T).reshape(
                noise.shape
            )
        assert self.variance is not None
        return mean + self.variance.to(noise.device, noise.dtype).sqrt() * noise

    def log_prob(self, x: Tensor) -> Tensor:
        """log density (B,) of x (B, *event)."""
        centred = (x - self.mean.to(x.device, x.dtype)).flatten(1)
        d = centred.shape[1]
        if self.root is not None:
            root = self.root.to(x.device, x.dtype)
            white = torch.linalg.solve_triangular(root, centred.T, upper=False).T
            log_det = root.diagonal().log().sum()
        else:
            assert self.variance is not None
            variance = self.variance.to(x.device, x.dtype).flatten()
            white, log_det = centred / variance.sqrt(), variance.log().sum() / 2
        return -white.square().sum(1) / 2 - log_det - d / 2 * math.log(2 * math.pi)


def terminal(model: ScoreModel, sigma_max: float) -> Terminal:
    """N(mean, sigma_max² I + covariance or variance of x0): moment-matched where `moments()` is
    known, N(0, sigma_max² I) where it is not.
    """
    moments: Callable[[], tuple[Tensor, Tensor] | None] | None = getattr(model, "moments", None)
    known = None if moments is None else moments()
    if known is None:
        zero = torch.zeros(model.event_shape, dtype=torch.float64)
        return Terminal(zero, torch.full_like(zero, sigma_max**2))
    mean, spread = known
    if spread.shape == mean.shape:
        return Terminal(mean, spread + sigma_max**2)
    eye = torch.eye(mean.numel(), dtype=spread.dtype, device=spread.device)
    return Terminal(mean, root=torch.linalg.cholesky(spread + sigma_max**2 * eye))
