"""A sampling method of your own with an option, and its order of accuracy measured.

    python examples/own_kernel.py

A kernel is one step: the state at sigma becomes the state at sigma_next. The loop, the noise, the
checks of the ladder, traces and the count of evaluations belong to `run`; `sf.sample` takes the
same kernel on a trained network.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import scorefield as sf
from scorefield.exact import GaussianMixture
from scorefield.noise import geometric
from scorefield.sampling import Kernel, run


@dataclass(frozen=True)
class Midpoint(Kernel):
    """The midpoint rule on the probability flow, in ln sigma: dx / dln sigma = - sigma² score.

    Args:
        where: Place of the second slope within the step. 1/2 gives order 2, anything else order 1.
    """

    where: float = 0.5
    needs_continuous_sigma: ClassVar[bool] = True  # it evaluates between the levels of the ladder

    @property
    def order(self) -> float:
        """The claim that `measure` checks: a property, since it depends on an option."""
        return 2 if self.where == 0.5 else 1

    @property
    def evaluations_per_step(self) -> int:
        """Two slopes."""
        return 2

    def step(self, model, state, sigma, sigma_next, draws):
        """Euler to the inner level, then the whole step with the slope found there."""
        x, h = state.x, float((sigma_next / sigma).log())
        inner = sigma * (sigma_next / sigma) ** self.where
        ahead = x - self.where * h * float(sigma) ** 2 * model.score(x, sigma)
        return state.replace(x=x - h * float(inner) ** 2 * model.score(ahead, inner))


def measure(kernel: Kernel) -> float:
    """The order of a kernel: halve the steps and look at the error."""
    mixture = GaussianMixture(
        [[-2.0, 0.5], [1.0, 1.0], [0.0, -3.0]], [0.3, 0.5, 0.2], weights=[0.5, 0.3, 0.2]
    )
    high, low = 3.0, 0.1
    x = mixture.sample(64, high, seed=0)
    truth = run(Midpoint(), mixture, geometric(high, low, 2049), x, final="none").x
    errors = {}
    for steps in (32, 64, 128):
        reached = run(kernel, mixture, geometric(high, low, steps + 1), x, final="none")
        errors[steps] = float((reached.x - truth).square().mean().sqrt())
        print(f"{steps:4d} steps, {reached.evaluations:4d} evaluations: error {errors[steps]:.2e}")
    return math.log2(errors[64] / errors[128])


def main() -> tuple[float, float]:
    """Measure the order with the slope in the middle and elsewhere, then sample with the kernel."""
    orders = measure(Midpoint()), measure(Midpoint(where=0.4))
    print(f"order {orders[0]:.2f} in the middle, {orders[1]:.2f} at 0.4")
    x = sf.sample(GaussianMixture([[-5.0], [5.0]], 1.0), 64, sampler=Midpoint(where=0.4), nfe=60)
    print(f"{len(x)} samples, standard deviation {float(x.std()):.2f}; 5.10 is right")
    return orders


if __name__ == "__main__":
    main()
