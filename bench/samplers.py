"""Samplers of azula and diffusers beside this package's default, at equal numbers of evaluations.

Every library gets the exact denoiser of the problems of `scorefield.studies`, in the units that it
expects: data of mean zero and standard deviation one (0.5 for diffusers' EDM schedulers), for which
the study passes the problem's own mean and standard deviation. Schedules are the libraries' own.

For each problem and number of evaluations the best peer is chosen by its mean sliced W1 distance on
seeds 0 to 4 and then compared with `sf.sample(model, nfe=N)` on seeds 5 to 14: both with the same
exact sets, so that the differences are paired. The record is written after every cell.
"""

import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scorefield import rng
from scorefield.errors import InputError
from scorefield.sampling import draw, resolve_sampling
from scorefield.sampling.recipe import budget_row
from scorefield.studies import Problem, Protocol
from scorefield.studies.measures import distances
from scorefield.studies.problems import PROBLEMS, find_problem
from scorefield.studies.report import markdown_table
from scorefield.studies.study import Measurer, read_record

from .kept import Kept
from .peers import need
from .posterior_cells import machine

Record = dict[str, Any]
Sample = Callable[[Problem, int, int, int], Tensor]
CHOOSING, COMPARING = range(5), range(5, 15)
BUDGETS = (5, 7, 10, 20, 40, 100)


@dataclass(frozen=True)
class Peer:
    """A sampler of another library.

    Attributes:
        name: Library, sampler, schedule.
        sample: (problem, evaluations, count, seed) -> (count, d) in data units.
    """

    name: str
    sample: Sample


@dataclass(frozen=True)
class Standard:
    """The exact denoiser of data that are shifted and scaled to mean 0 and standard deviation s."""

    problem: Problem
    data_std: float = 1.0

    def __post_init__(self) -> None:
        moments = self.problem.model.moments()
        assert moments is not None and moments.data_std is not None
        object.__setattr__(self, "mean", moments.mean)
        object.__setattr__(self, "scale", moments.data_std / self.data_std)

    def denoise(self, x: Tensor, sigma: float) -> Tensor:
        """D(x, sigma) in standard units."""
        mean, scale = vars(self)["mean"], vars(self)["scale"]
        x = x.to(torch.float64)
        return (self.problem.model.denoise(mean + scale * x, scale * sigma) - mean) / scale

    def data(self, x: Tensor) -> Tensor:
        """Samples in data units."""
        found: Tensor = vars(self)["mean"] + vars(self)["scale"] * x.to(torch.float64)
        return found


# -- azula


def _azula(
    sampler: str,
    schedule: str,
    limits: dict[str, float],
    order: int | None,
    problem: Problem,
    nfe: int,
    count: int,
    seed: int,
) -> Tensor:
    denoise, noise, sample = (need(f"azula.{name}") for name in ("denoise", "noise", "sample"))
    units = Standard(problem)

    class Exact(denoise.Denoiser):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.schedule = getattr(noise, schedule)(**limits)

        def forward(self, x: Tensor, t: Tensor, **_: Any) -> Any:
            alpha, sigma = self.schedule(t)
            mean = units.denoise(x / alpha, float(sigma / alpha))
            return denoise.DiracPosterior(mean=mean)

    cost = 2 if sampler == "HeunSampler" else 1
    options = {} if order is None else {"order": order}
    made = getattr(sample, sampler)(
        Exact(), steps=max(nfe // cost, 1), silent=True, dtype=torch.float64, **options
    )
    torch.manual_seed(seed)
    start = made.init((count, *problem.model.event_shape), dtype=torch.float64)
    return units.data(made(start).detach())


AZULA_SCHEDULES: dict[str, tuple[str, dict[str, float]]] = {
    "VP": ("VPSchedule", {}),
    "cosine": ("CosineSchedule", {}),
    "rectified": ("RectifiedSchedule", {}),
    "VE 0.01 to 20": ("VESchedule", {"sigma_min": 0.01, "sigma_max": 20.0}),
}


def azula() -> Iterator[Peer]:
    """azula's multistep samplers of order 2 and 3 on its schedules, and Heun and DDIM on VP."""
    need("azula.sample")
    for sampler in ("zABSampler", "vABSampler", "zEABSampler", "xEABSampler"):
        for order in (2, 3):
            for schedule, (kind, limits) in AZULA_SCHEDULES.items():
                name = f"azula {sampler.removesuffix('Sampler')}{order}, {schedule}"
                yield Peer(name, partial(_azula, sampler, kind, limits, order))
    for sampler in ("HeunSampler", "DDIMSampler"):
        name = f"azula {sampler.removesuffix('Sampler')}, VP"
        yield Peer(name, partial(_azula, sampler, "VPSchedule", {}, None))


# -- diffusers


def _diffusers(
    kind: str, options: dict[str, Any], problem: Problem, nfe: int, count: int, seed: int
) -> Tensor:
    schedulers = need("diffusers.schedulers")
    edm = kind.startswith("EDM")
    units = Standard(problem, 0.5 if edm else 1.0)
    scheduler = getattr(schedulers, kind)(**options)
    scheduler.set_timesteps(nfe)
    generator = torch.Generator().manual_seed(seed)
    shape = (count, *problem.model.event_shape)
    x = torch.randn(shape, generator=generator, dtype=torch.float64) * scheduler.init_noise_sigma
    for step, t in enumerate(scheduler.timesteps):
        sigma = float(scheduler.sigmas[step])
        if edm:
            skip = 0.25 / (sigma**2 + 0.25)
            out = sigma * 0.5 / math.sqrt(sigma**2 + 0.25)
            predicted = (units.denoise(x, sigma) - skip * x) / out
        else:  # variance preserving: x = alpha (x0 + sigma n)
            predicted = units.denoise(x * math.sqrt(1 + sigma**2), sigma)
        x = scheduler.step(predicted, t, x).prev_sample.to(torch.float64)
    return units.data(x)


def diffusers() -> Iterator[Peer]:
    """diffusers' schedulers: DPM-Solver++, UniPC and DEIS on linear betas, and the EDM forms."""
    need("diffusers.schedulers")
    linear: dict[str, Any] = {"prediction_type": "sample"}
    karras = {**linear, "use_karras_sigmas": True}
    for kind, title in (
        ("DPMSolverMultistepScheduler", "DPM-Solver++"),
        ("UniPCMultistepScheduler", "UniPC"),
        ("DEISMultistepScheduler", "DEIS"),
    ):
        for order in (2, 3):
            for spacing, options in (("linear", linear), ("karras", karras)):
                name = f"diffusers {title} {order}, {spacing}"
                yield Peer(name, partial(_diffusers, kind, {**options, "solver_order": order}))
    for order in (2, 3):
        name = f"diffusers EDM DPM-Solver++ {order}"
        yield Peer(
            name, partial(_diffusers, "EDMDPMSolverMultistepScheduler", {"solver_order": order})
        )


def default_sample(problem: Problem, nfe: int, count: int, seed: int) -> Tensor:
    """What `sf.sample(model, nfe=N)` draws."""
    recipe = resolve_sampling(problem.model, nfe=nfe)
    return draw(problem.model, recipe, rng.keys(seed, count)).x


# -- cells and summary


def _distances(
    work: Measurer, problem: Problem, sample: Sample, nfe: int, seeds: Sequence[int]
) -> list[float | None]:
    """Sliced W1 of each seed; None where a sample is not finite."""
    found: list[float | None] = []
    for seed in seeds:
        x = sample(problem, nfe, work.protocol.count, seed)
        finite = bool(torch.isfinite(x).all())
        reference = work.reference(problem, seed)
        value = distances(work.project(x, problem), reference)["sw1"] if finite else None
        found.append(value)
    return found


def pair(ours: Sequence[float | None], theirs: Sequence[float | None]) -> Record:
    """The paired difference, ours less theirs, with its standard error."""
    gaps = [a - b for a, b in zip(ours, theirs, strict=True) if a is not None and b is not None]
    mean = statistics.fmean(gaps)
    error = statistics.stdev(gaps) / math.sqrt(len(gaps))
    return {"difference": mean, "se": error, "worse": mean > 2 * error, "better": mean < 0}


def samplers(
    problems: Sequence[str] = tuple(PROBLEMS),
    budgets: Sequence[int] = BUDGETS,
    count: int = 10_000,
    choosing: int = 1000,
    out: Path | None = None,
    tell: Callable[[str], None] = print,
) -> Record:
    """Choose the best peer of each cell on five seeds, and compare it on ten others.

    Args:
        problems: Names of `scorefield.studies.PROBLEMS`.
        budgets: Numbers of evaluations.
        count: Samples of a set in the comparison.
        choosing: Samples of a set where the peer is chosen.
        out: A .json; what is in it is not measured again.
        tell: Receives progress.

    Returns:
        The record: protocol, cells, rows.

    Raises:
        InputError: `out` has cells of another protocol, or a library is missing.
    """
    torch.set_num_threads(1)
    peers = [*azula(), *diffusers()]
    kept = Kept(out, lambda text: None) if out is not None else None
    protocol = {"count": count, "choosing": choosing, "peers": [peer.name for peer in peers]}
    if kept is not None:
        kept.require(protocol)

    def get(name: str, make: Callable[[], Any]) -> Any:
        return make() if kept is None else kept.get(name, make)

    rows = []
    for name in problems:
        problem = find_problem(name)
        small, large = (
            Measurer(read_record(None, p), p)
            for p in (Protocol(count=choosing), Protocol(count=count))
        )
        for nfe in budgets:
            place = f"{name} | {nfe}"
            chosen = get(
                f"{place} | choice",
                lambda: choose(small, problem, peers, nfe),  # noqa: B023
            )
            chosen_row = budget_row(problem.model, nfe)
            mine = "default" if chosen_row is None else f"default, {chosen_row.name}"
            best = next(peer for peer in peers if peer.name == chosen["best"])
            theirs, ours = (
                get(
                    f"{place} | {title}",
                    partial(_distances, large, problem, sample, nfe, COMPARING),
                )
                for title, sample in ((best.name, best.sample), (mine, default_sample))
            )
            row = {
                "problem": name,
                "nfe": nfe,
                "sampler": mine.removeprefix("default, "),
                "ours": statistics.fmean(v for v in ours if v is not None),
                "peer": best.name,
                "theirs": statistics.fmean(v for v in theirs if v is not None),
                **pair(ours, theirs),
            }
            rows.append(row)
            tell(
                f"{name}, {nfe} evaluations: {row['sampler']} {row['ours']:.4g}, {best.name} "
                f"{row['theirs']:.4g}, difference {row['difference']:+.2g} ± {row['se']:.2g}"
            )
    record = {"protocol": protocol, "rows": rows, "machine": machine()}
    return record if kept is None else {**kept.read(), **record}


def choose(work: Measurer, problem: Problem, peers: Sequence[Peer], nfe: int) -> Record:
    """The peer of the smallest mean distance on the choosing seeds, and all means."""
    means: dict[str, float] = {}
    for peer in peers:
        try:
            values = _distances(work, problem, peer.sample, nfe, CHOOSING)
        except (ValueError, IndexError, RuntimeError, InputError):
            continue  # too few steps for the sampler
        if all(value is not None for value in values):
            means[peer.name] = statistics.fmean(v for v in values if v is not None)
    return {"best": min(means, key=lambda name: means[name]), "means": means}


def table(record: Record) -> str:
    """The rows as a Markdown table."""
    head = ["problem", "evaluations", "default", "", "best peer", "", "difference", "worse"]
    rows = [
        [
            row["problem"],
            str(row["nfe"]),
            row["sampler"],
            f"{row['ours']:.4g}",
            row["peer"],
            f"{row['theirs']:.4g}",
            f"{row['difference']:+.2g} ± {row['se']:.1g}",
            "yes" if row["worse"] else "no",
        ]
        for row in record["rows"]
    ]
    return "\n".join(markdown_table(head, rows))
