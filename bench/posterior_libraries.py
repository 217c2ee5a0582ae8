"""The posterior samplers of this package, azula and deepinv as candidates of `posteriors`.

Every library gets the exact denoiser of the prior in the units that it expects. azula's examples
have variance one; here x is divided by the prior's standard deviation. deepinv's have values in
[0, 1]; here [-20, 20] is mapped to that range, which holds every component to four standard
deviations. Constants are the libraries' defaults, and grids give those that are tuned besides.
"""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

import scorefield as sf
from scorefield.errors import InputError
from scorefield.inverse import METHODS, operators

from .peers import need
from .posterior_cells import Candidate
from .posterior_suite import Problem

RANGE = 20.0  # deepinv: data in [-RANGE, RANGE] become images in [0, 1]
FACTORS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)  # constants whose default is 1
WIDE = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)  # a batch of 1,000 has a norm 32 times a row's


# -- this package


def _ours(
    method: str, problem: Problem, steps: int, draws: int, seed: int, **options: Any
) -> Tensor:
    measurement = sf.Measurement(problem.y, operators.Matrix(problem.matrix), problem.noise_std)
    settings = {**options} if method == "exact" else {"nfe": steps, **options}
    found = sf.restore(problem.prior(), measurement, draws, seed, method=method, options=settings)
    return found.draws.to(torch.float64)


def scorefield() -> list[Candidate]:
    """Every method of METHODS but inpainting by projection, which takes masks only."""
    return [
        Candidate("scorefield", name, partial(_ours, name), OUR_GRIDS.get(name, ()), "defaults")
        for name in METHODS
        if name != "inpainting"
    ]


def grid(name: str, factors: tuple[float, ...] = FACTORS) -> tuple[Mapping[str, float], ...]:
    """Options of one name."""
    return tuple({name: value} for value in factors)


OUR_GRIDS: dict[str, tuple[Mapping[str, Any], ...]] = {
    "dps": grid("zeta", WIDE),
    "diffpir": grid("weight", (0.3, 1.0, 3.0, 10.0)),
    "ddrm": grid("eta", (0.5, 0.85, 1.0)),
}


# -- azula


def _scale(problem: Problem) -> float:
    """The root mean variance of the prior's elements."""
    moments = problem.prior().moments()
    return math.sqrt(float(moments.variance.mean()))


def _azula_denoiser(problem: Problem, scale: float) -> Any:
    """The exact denoiser as azula's, on its variance-preserving schedule."""
    denoise, noise = need("azula.denoise"), need("azula.noise")
    prior = problem.prior()

    class Exact(denoise.Denoiser):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.schedule = noise.VPSchedule()

        def forward(self, x: Tensor, t: Tensor, **_: Any) -> Any:
            alpha, sigma = self.schedule(t)
            found = prior.denoise(x * (scale / alpha), scale * sigma / alpha) / scale
            return denoise.DiracPosterior(mean=found)

    return Exact()


def _azula(
    make: Callable[..., Any],
    problem: Problem,
    steps: int,
    draws: int,
    seed: int,
    **options: Any,
) -> Tensor:
    torch.manual_seed(seed)
    scale = _scale(problem)
    matrix = scale * problem.matrix

    def A(u: Tensor) -> Tensor:
        return u @ matrix.T

    run = {"steps": steps, "silent": True, "dtype": torch.float64}
    y = problem.y.expand(draws, -1)
    sampler = make(_azula_denoiser(problem, scale), y, A, problem, matrix, run, **options)
    start = sampler.init((draws, problem.d), dtype=torch.float64)
    found: Tensor = scale * sampler(start)
    return found.detach()


def _azula_dps(
    denoiser: Any, y: Tensor, A: Any, problem: Problem, matrix: Tensor, run: Any, **options: Any
) -> Any:
    return need("azula.guidance").DPSSampler(denoiser, y=y, A=A, **options, **run)


def _azula_pigdm(
    denoiser: Any, y: Tensor, A: Any, problem: Problem, matrix: Tensor, run: Any, **options: Any
) -> Any:
    inverse = torch.linalg.pinv(matrix)
    return need("azula.guidance").PGDMSampler(
        denoiser, y=y, A=A, A_inv=lambda v: v @ inverse.T, **options, **run
    )


def _azula_guided(
    name: str,
    denoiser: Any,
    y: Tensor,
    A: Any,
    problem: Problem,
    matrix: Tensor,
    run: Any,
    **options: Any,
) -> Any:
    """A guided denoiser in azula's DDPM sampler."""
    guidance, variance = need("azula.guidance"), problem.noise_std**2
    if name == "MMPSDenoiser":
        covariance = need("azula.linalg.covariance").IsotropicCovariance(variance)
        options = {"cov_y": covariance, **options}
    else:
        options = {"var_y": variance, **options}
    guided = getattr(guidance, name)(denoiser, y=y, A=A, **options)
    return need("azula.sample").DDPMSampler(guided, **run)


def azula() -> list[Candidate]:
    """azula's methods: variance-preserving schedule, DDPM steps; PGDM on its DDIM steps."""
    need("azula")
    rows = (
        ("dps", _azula_dps, grid("zeta", WIDE), "zeta 1; residual norm over the whole batch"),
        ("pigdm", _azula_pigdm, grid("eta", (0.0, 0.5, 1.0)), "DDIM, eta 0; assumes no noise"),
        ("tmpd", partial(_azula_guided, "TMPDenoiser"), (), ""),
        (
            "mmps",
            partial(_azula_guided, "MMPSDenoiser"),
            grid("iterations", (1, 2, 4)),
            "one iteration of gmres",
        ),
        (
            "diffpir",
            partial(_azula_guided, "DiffPIRDenoiser"),
            tuple(
                {"lmbda": factor, "iterations": n}
                for factor in (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
                for n in (1, 4)
            ),
            "lambda 10, one iteration of gmres",
        ),
    )
    return [
        Candidate("azula", method, partial(_azula, make), options, f"VP schedule; {note}")
        for method, make, options, note in rows
    ]


# -- deepinv


def _deepinv_denoiser(problem: Problem) -> Any:
    """The exact denoiser as deepinv's: images in [0, 1]."""
    models = need("deepinv.models")
    prior = problem.prior()

    class Exact(models.Denoiser):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()

        def forward(self, u: Tensor, sigma: Any, **_: Any) -> Tensor:
            level = torch.as_tensor(sigma, dtype=torch.float64) * (2 * RANGE)
            level = level.reshape(-1) if level.numel() > 1 else level.reshape(())
            return (prior.denoise(RANGE * (2 * u - 1), level) / RANGE + 1) / 2

    return Exact()


def _deepinv_physics(problem: Problem) -> tuple[Any, Tensor]:
    """The operator of images in [0, 1] with its decomposition, and y for it (d_y,)."""
    physics = need("deepinv.physics")
    u, s, vt = torch.linalg.svd(problem.matrix)
    d, d_y = problem.d, problem.d_y
    values = torch.zeros(1, d, dtype=torch.float64)
    values[0, :d_y] = 2 * RANGE * s

    def typed(m: Tensor, x: Tensor) -> Tensor:
        return x @ m.to(x.dtype)

    found = physics.DecomposablePhysics(
        U=lambda c: typed(u.T, c[:, :d_y]),
        U_adjoint=lambda y: torch.nn.functional.pad(typed(u, y), (0, d - d_y)),
        V=lambda c: typed(vt, c),
        V_adjoint=lambda x: typed(vt.T, x),
        img_size=(d,),
        mask=values,
        noise_model=physics.GaussianNoise(problem.noise_std),
    )
    return found, problem.y + problem.matrix @ torch.full((d,), RANGE, dtype=torch.float64)


def _deepinv(
    make: Callable[..., Any],
    problem: Problem,
    steps: int,
    draws: int,
    seed: int,
    **options: Any,
) -> Tensor:
    torch.manual_seed(seed)
    physics, y = _deepinv_physics(problem)
    sampler = make(_deepinv_denoiser(problem), problem, steps, **options)
    images: Tensor = sampler(y.expand(draws, -1).clone(), physics, draws)
    return (RANGE * (2 * images - 1)).detach().to(torch.float64)


def _deepinv_ddrm(denoiser: Any, problem: Problem, steps: int, **options: Any) -> Any:
    sampling = need("deepinv.sampling")
    sigmas = torch.linspace(options.pop("first", 1.0), 0, steps).numpy()
    method = sampling.DDRM(denoiser, sigmas=sigmas, **options)
    return lambda y, physics, draws: method(y, physics)


def _deepinv_diffpir(denoiser: Any, problem: Problem, steps: int, **options: Any) -> Any:
    sampling, optim = need("deepinv.sampling"), need("deepinv.optim")
    method = sampling.DiffPIR(
        denoiser, optim.L2(), sigma=problem.noise_std, max_iter=steps, **options
    )
    return lambda y, physics, draws: method(y, physics)


def _deepinv_dps(denoiser: Any, problem: Problem, steps: int, **options: Any) -> Any:
    method = need("deepinv.sampling").DPS(denoiser, num_steps=steps + 1, **options)
    return lambda y, physics, draws: method(y, physics, x_init=(draws, problem.d))


def _deepinv_guided(name: str, denoiser: Any, problem: Problem, steps: int, **options: Any) -> Any:
    """A data fidelity on the schedule and the solver that deepinv's DPS has by default."""
    sampling = need("deepinv.sampling")
    method = sampling.PosteriorDiffusion(
        getattr(sampling, name)(denoiser, **options),
        denoiser,
        sampling.VariancePreservingDiffusion(alpha=1.0),
        sampling.DDPMSolver(torch.linspace(1, 0, steps + 1, dtype=torch.float64)),
    )
    return lambda y, physics, draws: method(y, physics, x_init=(draws, problem.d))


def deepinv() -> list[Candidate]:
    """deepinv's methods: variance-preserving schedule, DDPM steps, float32 denoiser."""
    need("deepinv")
    rows = (
        ("dps", _deepinv_dps, grid("weight"), "weight 1"),
        (
            "pigdm",
            partial(_deepinv_guided, "PiGDMDataFidelity"),
            grid("weight", (0.3, 1.0, 3.0, 10.0, 30.0)),
            "assumes variance one",
        ),
        (
            "mmps",
            partial(_deepinv_guided, "MomentMatchingDataFidelity"),
            grid("cg_max_iter", (3, 8)),
            "three iterations of conjugate gradients",
        ),
        (
            "diffpir",
            _deepinv_diffpir,
            tuple(
                {"lambda_": factor, "zeta": zeta}
                for factor in (0.3, 1.0, 7.0, 25.0)
                for zeta in (0.1, 0.5, 1.0)
            ),
            "lambda 7, zeta 0.1",
        ),
        (
            "ddrm",
            _deepinv_ddrm,
            tuple(
                {"first": first, "eta": eta}
                for first in (0.5, 1.0, 3.0)
                for eta in (0.5, 0.85, 1.0)
            ),
            "sigmas from 1 to 0, eta 0.85",
        ),
    )
    return [
        Candidate("deepinv", method, partial(_deepinv, make), options, note)
        for method, make, options, note in rows
    ]


LIBRARIES: dict[str, Callable[[], list[Candidate]]] = {
    "scorefield": scorefield,
    "azula": azula,
    "deepinv": deepinv,
}


def candidates(libraries: tuple[str, ...], methods: tuple[str, ...] = ()) -> list[Candidate]:
    """The methods of libraries.

    Args:
        libraries: Keys of LIBRARIES.
        methods: Our names of methods; empty: all.

    Raises:
        InputError: A library is unknown or missing, or no library has a method.
    """
    unknown = [name for name in libraries if name not in LIBRARIES]
    if unknown or not libraries:
        raise InputError(f"libraries are {', '.join(LIBRARIES)}; got {', '.join(unknown)!r}")
    found = [candidate for name in libraries for candidate in LIBRARIES[name]()]
    known = {candidate.method for candidate in found}
    missing = [method for method in methods if method not in known]
    if missing:
        raise InputError(
            f"{', '.join(libraries)} have the methods {', '.join(sorted(known))}; got "
            f"{', '.join(missing)}"
        )
    return [candidate for candidate in found if not methods or candidate.method in methods]
