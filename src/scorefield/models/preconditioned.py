"""Networks as score models.

A network receives scaled inputs. A preconditioner turns its output F into a denoiser and a score:

    D = c_skip x + c_out F(c_in x, c_noise)        score = s_skip x + s_out F(c_in x, c_noise)

Both pairs are given in closed form, so that nothing cancels at small sigma:

    name    c_in       c_skip  c_out             c_noise      s_skip  s_out
    edm     1/sqrt(v)  sd²/v   sigma sd/sqrt(v)  ln(sigma)/4  -1/v    sd/(sigma sqrt(v))
    ncsn    1          1       sigma²            level index  0       1
    ncsnv2  1          1       sigma             none         0       1/sigma

where sd = sigma_data and v = sigma² + sd². Sources: Karras et al. 2022, Table 1 (edm); Song & Ermon
2019 (ncsn); Song & Ermon 2020, Technique 3 (ncsnv2).

Energy forms take F = grad_u phi(u, c_noise), u = c_in x, for a scalar phi made of the same network.
The score is then minus the gradient of

    energy(x, sigma) = -(s_skip/2) |x|² - (s_out/c_in) phi(c_in x, c_noise)

so it has no curl, -energy is log p_sigma up to a constant of sigma, and the scales of the weights
are those of the table.

    square    phi = 1/2 |u|² - 1/2 |u - f(u)|²     F = f + (grad f)'(u - f)     after Salimans & Ho
    scalar    phi = sum of the elements of f(u)    F = (grad f)'1               2021
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..conditions import Condition, ConditionSpec, standardise
from ..errors import InputError
from ..noise import check_ladder
from ..units import Units
from ..values import finite, mapping, number, one_of, shape
from .base import Moments, ScoreModel, broadcast
from .cost import record


class Coefficients(NamedTuple):
    """One row of the table in the module docstring at given sigmas, each shaped like sigma."""

    c_in: Tensor
    c_skip: Tensor
    c_out: Tensor
    s_skip: Tensor
    s_out: Tensor


@dataclass(frozen=True)
class Preconditioner:
    """One row of the table.

    Args:
        coefficients: (sigma, sigma_data) -> Coefficients.
        noise_input: What the network receives: "log" (ln sigma / 4), "index" or "none".
    """

    coefficients: Callable[[Tensor, float], Coefficients]
    noise_input: str


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


#: The preconditioners by name; the rows of the table in `preconditioned`.
PRECONDITIONERS: dict[str, Preconditioner] = {
    "edm": Preconditioner(_edm, "log"),
    "ncsn": Preconditioner(_ncsn, "index"),
    "ncsnv2": Preconditioner(_ncsnv2, "none"),
}


class Preconditioned(ScoreModel):
    """A score model made of a network and a row of PRECONDITIONERS.

    Args:
        network: Module `(u, noise_input, condition) -> F` with F of u's shape. u is (B, *event);
            noise_input is (B,), or None for "ncsnv2"; condition is a mapping of tensors or None,
            its vectors standardised by their specs.
        event_shape: Shape of one example.
        sigma_min: Smallest noise level, model units, above 0.
        sigma_max: Largest noise level, model units.
        preconditioner: "edm", "ncsn" or "ncsnv2" (module docstring).
        sigma_data: The data's standard deviation in model units.
        ladder: Noise levels of training, largest first. The "ncsn" row needs it: such a model
            is defined at these levels only (the nearest one within 1e-3 in ln sigma).
        conditions: What the network can be conditioned on, by name.
        units: The map between data and model units; None for the identity.
        moments: The data's moments in model units, for the prior; None where not known.

    Raises:
        InputError: For an unknown row, a bad range, or a missing ladder.
    """

    form = "score"  # the name in FORMS, recorded in cards
    network: nn.Module

    def __init__(
        self,
        network: nn.Module,
        event_shape: Sequence[int],
        sigma_min: float = 0.002,
        sigma_max: float = 80.0,
        preconditioner: str = "edm",
        sigma_data: float = 0.5,
        ladder: Tensor | Sequence[float] | None = None,
        conditions: Mapping[str, ConditionSpec] | None = None,
        units: Units | None = None,
        moments: Moments | None = None,
    ) -> None:
        super().__init__()
        preconditioner = one_of(preconditioner, PRECONDITIONERS, "preconditioner")
        sigma_min, sigma_max = number(sigma_min, "sigma_min"), number(sigma_max, "sigma_max")
        if not 0 < sigma_min <= sigma_max:
            raise InputError(f"need 0 < sigma_min <= sigma_max; got {sigma_min:g}, {sigma_max:g}")
        self.ladder_only = PRECONDITIONERS[preconditioner].noise_input == "index"
        if self.ladder_only and ladder is None:
            raise InputError(
                f"the {preconditioner} preconditioner feeds the index of a noise level to the "
                "network, so it needs the ladder"
            )
        self.network = network
        self.event_shape = shape(event_shape, "event_shape")
        self.sigma_min, self.sigma_max = sigma_min, sigma_max
        self.preconditioner = preconditioner
        self.sigma_data = finite(sigma_data, "sigma_data", 0.0, above=True)
        self.ladder = None if ladder is None else check_ladder(ladder)
        self.conditions = {} if conditions is None else mapping(conditions, "conditions")
        self.units = Units.identity() if units is None else units
        self.data_moments = moments

    def moments(self, condition: Condition | None = None) -> Moments | None:
        """The data's moments over all conditions, model units; None where not recorded."""
        return self.data_moments

    def summary(self) -> str:
        kind = "Score model" if self.form == "score" else f"Energy model ({self.form})"
        source = ((self.card or {}).get("data") or {}).get("source")
        return f"{kind} of {source}" if source else f"{kind} made of a network"

    def leaf_network(self) -> nn.Module | None:
        """The network."""
        return self.network

    def _prepare(
        self, x: Tensor, sigma: Tensor | float, condition: Condition | None, density: bool = False
    ) -> tuple[Coefficients, Tensor | None]:
        """The row's coefficients shaped against x, and the network's noise input."""
        sigma = self.check(x, sigma, condition, density)
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

    def _network(
        self, u: Tensor, noise_input: Tensor | None, condition: Condition | None
    ) -> Tensor:
        """F(u, noise_input)."""
        out: Tensor = self.network(u, noise_input, condition)
        return out

    def _evaluate(
        self, x: Tensor, sigma: Tensor | float, condition: Condition | None
    ) -> tuple[Tensor, Coefficients]:
        c, noise_input = self._prepare(x, sigma, condition)
        with torch.autocast(x.device.type, dtype=self.autocast, enabled=self.autocast is not None):
            given = standardise(condition, self.conditions)
            return self._network(c.c_in * x, noise_input, given), c

    def denoise(
        self, x: Tensor, sigma: Tensor | float, condition: Condition | None = None
    ) -> Tensor:
        """c_skip x + c_out F; arguments, result and errors as for any score model."""
        out, c = self._evaluate(x, sigma, condition)
        return c.c_skip * x + c.c_out * out.to(x.dtype)

    def score(self, x: Tensor, sigma: Tensor | float, condition: Condition | None = None) -> Tensor:
        """s_skip x + s_out F; arguments, result and errors as for any score model."""
        out, c = self._evaluate(x, sigma, condition)
        return c.s_skip * x + c.s_out * out.to(x.dtype)


class Energy(Preconditioned):
    """A score model whose F is the gradient of a scalar `potential`, which a subclass defines.

    It is made like Preconditioned. An evaluation costs a forward and a backward pass, under no_grad
    too; training differentiates through it, so it stays in float32 and is not compiled.
    """

    has_log_density = True

    def potential(
        self, u: Tensor, noise_input: Tensor | None, condition: Condition | None
    ) -> Tensor:
        """phi(u, noise_input) from the network.

        Args:
            u: (B, *event_shape), the scaled input of the network.
            noise_input: (B,), or None.
            condition: One row a sample, or None.

        Returns:
            (B,).
        """
        raise NotImplementedError

    def _network(
        self, u: Tensor, noise_input: Tensor | None, condition: Condition | None
    ) -> Tensor:
        graph = torch.is_grad_enabled() and (
            u.requires_grad or any(p.requires_grad for p in self.network.parameters())
        )
        with torch.enable_grad():
            if not u.requires_grad:
                u = u.detach().requires_grad_(True)
            potential = self.potential(u, noise_input, condition).sum()
            (slope,) = torch.autograd.grad(potential, u, create_graph=graph)
        record(products=len(u))
        return slope

    def energy(
        self, x: Tensor, sigma: Tensor | float, condition: Condition | None = None
    ) -> Tensor:
        """The energy in nats, up to a constant of sigma: score = -grad energy.

        Its result is (B,); the arguments and errors are those of `denoise`.
        """
        c, noise_input = self._prepare(x, sigma, condition, density=True)
        given = standardise(condition, self.conditions)
        potential = self.potential(c.c_in * x, noise_input, given)
        square = x.square().flatten(1).sum(1)
        return -(c.s_skip.flatten() * square / 2 + (c.s_out / c.c_in).flatten() * potential)

    def log_density(
        self, x: Tensor, sigma: Tensor | float, condition: Condition | None = None
    ) -> Tensor:
        """-energy, (B,): log p_sigma in nats up to a constant of sigma."""
        return -self.energy(x, sigma, condition)


class SquareEnergy(Energy):
    """phi = 1/2 |u|² - 1/2 |u - f(u)|²."""

    form = "square"

    def potential(
        self, u: Tensor, noise_input: Tensor | None, condition: Condition | None
    ) -> Tensor:
        """u'f - 1/2 |f|², (B,), which is phi without a difference of large squares."""
        f: Tensor = self.network(u, noise_input, condition)
        return (f * (u - f / 2)).flatten(1).sum(1)


class ScalarEnergy(Energy):
    """phi = the sum of the elements of f(u)."""

    form = "scalar"

    def potential(
        self, u: Tensor, noise_input: Tensor | None, condition: Condition | None
    ) -> Tensor:
        """The sum over the elements of f(u), (B,)."""
        f: Tensor = self.network(u, noise_input, condition)
        return f.flatten(1).sum(1)


#: The classes of trained models by the name that a model card records.
FORMS: dict[str, type[Preconditioned]] = {
    form.form: form for form in (Preconditioned, SquareEnergy, ScalarEnergy)
}
