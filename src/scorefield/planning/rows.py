"""The lines of a plan for a data set."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from ..config import Config, DataFacts, Scales
from ..config.resolve import MANY_PASSES, planned_steps
from ..data import FittedUnits
from ..data.distances import Distances
from ..noise import SigmaDistribution, langevin_step, level_count, level_ratio
from ..progress import duration
from ..training.cost import Cost
from .checks import VISIBLE
from .density import step_lines
from .result import Line

DRAWS = 4096  # noise levels of the training law, evenly spaced in probability
MOST_STEPS = 1_000_000  # training steps over which the share of the initial weights is computed


def in_data_units(value: float, fitted: FittedUnits) -> str:
    """A length in model units as data units; "" where they are the same or have no one factor."""
    units = fitted.units
    if not units.is_affine:
        return ""
    scale = units.scale[~units.constant].abs()
    if scale.numel() == 0 or bool((scale == 1).all()):
        return ""
    low, high = float(scale.min()) * value, float(scale.max()) * value
    return f"{low:.3g}" if high <= low * (1 + 1e-6) else f"{low:.3g} to {high:.3g}"


def law_draws(distribution: SigmaDistribution) -> Tensor:
    """ln sigma of the training law at DRAWS evenly spaced probabilities."""
    u = (torch.arange(DRAWS, dtype=torch.float64) + 0.5) / DRAWS
    return distribution.quantile(u).double().log()


def data_lines(facts: DataFacts, fitted: FittedUnits, held_out: int) -> Iterator[Line]:
    """What the data are, with their moments."""
    shape = " x ".join(map(str, facts.event_shape))
    train = facts.count - held_out
    yield Line(
        "examples", f"{facts.count:,} of {shape}", f"{train:,} train, {held_out:,} held out."
    )
    mean, std = facts.mean or (), facts.std or ()
    if not mean:
        return
    kind = "columns" if facts.vectors else "channels"
    if len(mean) == 1:
        words = f"mean {mean[0]:.4g}, standard deviation {std[0]:.4g}."
    else:
        words = (
            f"{len(mean)} {kind}: means {min(mean):.3g} to {max(mean):.3g}, standard deviations "
            f"{min(std):.3g} to {max(std):.3g}."
        )
    yield Line("moments", "in data units", words)


def scale_lines(config: Config, scales: Scales, fitted: FittedUnits) -> Iterator[Line]:
    """Standard deviation and range of the noise levels."""
    n = config.noise
    how = {
        "standardise": "Model units: every channel or column is scaled to it.",
        "unit": "Model units are [0, 1]; measured.",
        "none": "Model units are data units; measured.",
        "logit": "Model units are logits; measured.",
    }
    data_std = n.sigma_data if config.data.units == "standardise" else scales.data_std
    yield Line(
        "sigma_data",
        f"{data_std:.3g}",
        how[config.data.units],
        in_data_units(data_std, fitted),
        data_std,
    )
    pairs = (
        ("sigma_max", n.sigma_max, scales.sigma_max, scales.sigma_max_reason),
        ("sigma_min", n.sigma_min, scales.sigma_min, scales.sigma_min_reason),
    )
    for name, value, planned, reason in pairs:
        why = reason if value == planned else f"As given. The data suggest {planned:.3g}: {reason}"
        yield Line(name, f"{value:.3g}", why, in_data_units(value, fitted), value)


def level_lines(config: Config, scales: Scales) -> Iterator[Line]:
    """Levels, steps and step size of annealed Langevin dynamics."""
    n = config.noise
    levels = n.levels or level_count(n.sigma_max, n.sigma_min, scales.elements)
    ratio = level_ratio(scales.elements)
    used = (n.sigma_max / n.sigma_min) ** (1 / (levels - 1))
    capped = ", its cap in few dimensions" if ratio == 1.6 else ""
    who = "Trained at" if n.sigma_distribution == "levels" else "Annealed Langevin alone needs"
    yield Line(
        "levels",
        str(levels),
        f"{who} geometric levels. Technique 2 for {scales.elements:,} elements: ratio "
        f"{ratio:.4f}{capped}, and at least 10 levels; the ratio is then {used:.4f}.",
        "",
        levels,
    )
    steps = config.sampling.steps_per_level
    given = config.sampling.options.get("epsilon")
    if config.sampling.sampler == "annealed-langevin" and steps is not None:
        found, reached = langevin_step(n.sigma_min, used, steps)
        yield from step_lines(steps, given or found, reached)
    else:
        yield from step_lines(*planned_steps(n.sigma_max, n.sigma_min, levels))


def start_line(sigma_max: float, statistic: float) -> Line:
    """How well the start fits x at sigma_max."""
    verdict = "x no longer shows the data" if statistic <= VISIBLE else "x still shows the data"
    return Line(
        "start",
        f"{statistic:.4f}",
        f"Kolmogorov distance of x at {sigma_max:.3g} to the normal distribution that sampling "
        f"starts from: {verdict} ({VISIBLE:g} is the limit).",
        "",
        statistic,
    )


def law_lines(config: Config, draws: Tensor, distances: Distances, reason: str) -> Iterator[Line]:
    """The training distribution of sigma, and what part of it single examples decide."""
    n = config.noise
    if n.sigma_distribution == "lognormal":
        shift = math.log(n.sigma_data / 0.5)
        value = f"ln sigma ~ N({n.mean + shift:.3g}, {n.std:.3g}²)"
        shifted = f" P_mean = {n.mean:g} + ln(sigma_data/0.5)." if shift else ""
    else:
        value, shifted = n.sigma_distribution, ""
    low, middle, high = (float(draws[int(q * len(draws))].exp()) for q in (0.025, 0.5, 0.975))
    yield Line(
        "training law",
        value,
        f"{reason}{shifted} Median sigma {middle:.3g}; 95 % from {low:.3g} to {high:.3g}.",
        "",
        middle,
    )
    if distances.collapse is None:
        return
    share = float((draws.exp() < distances.collapse).double().mean())
    yield Line(
        "collapse",
        f"{distances.collapse:.3g}",
        "Below this sigma the score of a perfect fit points at single training examples (Biroli et "
        f"al. 2024; among {distances.compared:,}); {share:.0%} of training is below.",
        "",
        distances.collapse,
    )


def initial_share(config: Config, width: float, images: int) -> float:
    """The weight of the initial weights in an average at the end of training.

    Args:
        config: The resolved settings.
        width: Width of the average, one of `ema.profiles`.
        images: Examples seen at the end.

    Returns:
        From 0 to 1.
    """
    if config.ema.kind == "power" or width == 0:
        return 0.0  # the first step has decay 0
    batch, share = config.optim.batch, 1.0
    for step in range(1, min(MOST_STEPS, math.ceil(images / batch)) + 1):
        limit = config.ema.warmup * step * batch
        halflife = min(width, limit) if config.ema.warmup > 0 else width
        share *= 0.5 ** (batch / halflife)
        if share < 1e-12:
            return 0.0
    return share


def training_lines(config: Config, cost: Cost | None, reasons: dict[str, str]) -> Iterator[Line]:
    """Network, batch, averages and cost."""
    options = config.network.options
    shown = "".join(f", {k} {v}" for k, v in options.items())
    why = " ".join(reasons[k] for k in reasons if k.startswith("network."))
    yield Line("network", f"{config.network.name}{shown}", why or "As given.")
    batch = config.optim.batch
    yield Line("batch", f"{batch:,}", reasons.get("optim.batch", "As given."), number=batch)
    if cost is None:
        return
    widths = ", ".join(f"{w:g}" for w in config.ema.profiles)
    unit = "of the examples seen" if config.ema.kind == "power" else "examples, halflife"
    shares = ", ".join(f"{initial_share(config, w, cost.images):.2g}" for w in config.ema.profiles)
    yield Line("averages", widths, f"Widths {unit}. Share of the initial weights left: {shares}.")
    yield Line("parameters", f"{cost.parameters:,}", "In the network.", number=cost.parameters)
    part = "" if cost.measured == cost.batch else f" A part of {cost.measured} was measured."
    yield Line(
        "step",
        f"{_short(cost.seconds_a_step)}, {_bytes(cost.memory)}",
        f"A measured step of {cost.batch:,} examples ({cost.device}): {cost.images_a_second:,.0f} "
        f"a second. Memory of weights, optimiser, averages and backward pass.{part}",
        number=cost.seconds_a_step,
    )


def budget_lines(config: Config, distances: Distances, cost: Cost | None) -> Iterator[Line]:
    """What the budget has time for, and when single examples are memorised."""
    onset = MANY_PASSES * distances.total
    when = ""
    if cost is not None:
        passes = cost.images / distances.total
        yield Line(
            "budget",
            f"{duration(cost.seconds)}, {_count(cost.images)} examples",
            f"About {passes:,.3g} passes over {distances.total:,} training examples.",
            number=cost.images,
        )
        when = f", {duration(onset / cost.images_a_second)} at this rate"
    yield Line(
        "memorisation",
        f"from {_count(onset)} examples",
        f"{MANY_PASSES:,.0f} passes{when}. A rule of thumb: the onset grows in proportion to the "
        "number of examples (Bonnaire et al. 2025), and the held-out loss of tables rises after "
        "about so many passes. Training keeps the point with the lowest held-out loss.",
        number=onset,
    )


def sampler_line(config: Config, reasons: dict[str, str]) -> Line:
    """How the trained model is sampled."""
    s = config.sampling
    options = "".join(f", {k} {v:.3g}" for k, v in s.options.items() if isinstance(v, int | float))
    nfe = f", {s.nfe} evaluations" if s.nfe else ""
    return Line(
        "sampler", f"{s.sampler}{nfe}{options}", reasons.get("sampling.sampler", "As given.")
    )


def _count(number: float) -> str:
    """A count with three digits."""
    return f"{float(f'{number:.3g}'):,.0f}"


def _short(seconds: float) -> str:
    return f"{seconds * 1000:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


def _bytes(count: int) -> str:
    return f"{count / 2**30:.3g} GiB" if count >= 2**30 else f"{count / 2**20:.3g} MiB"
