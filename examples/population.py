"""A particle population: draws of a posterior and its evidence by sequential importance resampling.

    python examples/population.py

The prior is N(0, v), the observation y = x0 + n with n ~ N(0, t²). Particles move down the noise
levels by the prior's reverse transitions and are weighted by p(y | x); where the weights of a group
have become uneven, the group is resampled. For a Gaussian all of it is known:

    E[x0 | y] = y v / (v + t²),     evidence p(y) = N(y; 0, v + t²)
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from scorefield import rng
from scorefield.exact import Gaussian
from scorefield.noise import geometric
from scorefield.sampling import Draws, Kernel, State, run


@dataclass(frozen=True)
class Resampling(Kernel):
    """Sequential importance resampling on a Gaussian prior of variance `prior_variance`.

    observed, noise_std: y and t. least: Fraction of the particles below which the effective sample
    size of a group leads to resampling; 0 never resamples.
    """

    observed: float = 1.5
    noise_std: float = 0.5
    prior_variance: float = 4.0
    least: float = 0.5
    draws_noise: ClassVar[bool] = True

    def variance(self, sigma: float) -> float:
        """Var(x0 | x) at noise level sigma."""
        return self.prior_variance * sigma**2 / (self.prior_variance + sigma**2)

    def log_likelihood(self, denoised: Tensor, sigma: float) -> Tensor:
        """log p(y | x), (B,), from the denoised x."""
        spread = self.noise_std**2 + self.variance(sigma)
        away = (self.observed - denoised[:, 0]).square() / spread
        return -(away + math.log(2 * math.pi * spread)) / 2

    def start(self, model, ladder, state: State, draws: Draws) -> State:
        """Weigh the particles at the first level; keep what each was weighed by."""
        weight = self.log_likelihood(model.denoise(state.x, ladder[0]), float(ladder[0]))
        return state.replace(log_weight=weight, memory=weight)

    def step(self, model, state: State, sigma, sigma_next, draws: Draws) -> State:
        """Move by the exact reverse transition of a Gaussian, weigh anew, resample."""
        a, b, x = float(sigma), float(sigma_next), state.x
        kept = (b / a) ** 2
        std = math.sqrt(b**2 * (1 - kept) + (1 - kept) ** 2 * self.variance(a))
        x = kept * x + (1 - kept) * model.denoise(x, sigma) + std * draws.normal()
        likelihood = self.log_likelihood(model.denoise(x, sigma_next), b)
        weight = state.log_weight + likelihood - state.memory
        return self.resample(state.replace(x=x, log_weight=weight, memory=likelihood), draws)

    def resample(self, state: State, draws: Draws) -> State:
        """Systematic resampling within the groups that need it.

        After it the particles of a group share its mean weight, so that the mean of the weights
        remains an unbiased estimate of the evidence.
        """
        logs = state.log_weight.reshape(state.groups, state.particles)
        shares = logs.softmax(1)
        worth = 1 / shares.square().sum(1)  # effective sample size
        place = torch.arange(state.particles) + draws.group_uniform()[:, None]
        chosen = torch.searchsorted(shares.cumsum(1), place / state.particles)
        chosen = chosen.clamp(max=state.particles - 1)
        stay = torch.arange(state.particles).expand_as(chosen)
        uneven = (worth < self.least * state.particles)[:, None]
        first = torch.arange(state.groups)[:, None] * state.particles
        index = (first + torch.where(uneven, chosen, stay)).flatten()
        mean = (logs.logsumexp(1, keepdim=True) - math.log(state.particles)).expand_as(logs)
        weight = torch.where(uneven, mean, logs).flatten()
        return state.select(index).replace(log_weight=weight)


def estimate(kernel: Resampling, groups: int, particles: int, seed: int = 0) -> list[Tensor]:
    """The evidence of each group, (groups,), and evidence times posterior mean, (groups,)."""
    prior, ladder = Gaussian([0.0], kernel.prior_variance), geometric(20.0, 0.01, 25)
    keys = rng.keys(seed, groups * particles)
    x = prior.sample(len(keys), float(ladder[0]), seed=seed + 1)
    end = run(kernel, prior, ladder, State(x, particles=particles), keys=keys)
    weight = end.state.log_weight.exp().reshape(groups, particles)
    return [weight.mean(1), (weight * end.x.reshape(groups, particles)).mean(1)]


def main(groups: int = 400, particles: int = 64) -> dict[str, tuple[float, float, float]]:
    """Evidence and posterior mean over many groups: {name: (estimate, standard error, truth)}."""
    kernel = Resampling()
    total = kernel.prior_variance + kernel.noise_std**2
    evidence, first = estimate(kernel, groups, particles)
    mean = float(first.mean() / evidence.mean())
    residual = (first - mean * evidence) / evidence.mean()  # of the ratio, to first order
    density = math.exp(-(kernel.observed**2) / total / 2) / math.sqrt(2 * math.pi * total)
    found = {
        "evidence": (float(evidence.mean()), float(evidence.std()) / groups**0.5, density),
        "mean": (
            mean,
            float(residual.std()) / groups**0.5,
            kernel.observed * kernel.prior_variance / total,
        ),
    }
    for name, (value, se, truth) in found.items():
        print(f"{name}: {value:.4f} ± {se:.4f}, exactly {truth:.4f}")
    return found


if __name__ == "__main__":
    main()
