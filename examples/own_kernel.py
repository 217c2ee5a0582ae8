"""A sampler of one's own: the midpoint rule in ln sigma, run on a mixture whose score is known, and
its order of accuracy measured.

    python examples/own_kernel.py

A kernel is one step: x at sigma -> x at sigma_next. The loop, the noise, the ladder's checks,
traces and the count of evaluations are `run`'s,
and `sample` takes the same object on a trained network: sf.sample(model, 64, kernel=Midpoint(),
ladder=geometric(80, 0.002, 18)).
"""

import math

from scorefield.exact import GaussianMixture
from scorefield.noise import geometric
from scorefield.sampling import Kernel, run


class Midpoint(Kernel):
    """x at the middle of the step in ln sigma by Euler, the whole step with the slope found there.
    Two evaluations a step.
    """

    order = 2
    # it asks between the levels, which models conditioned on a level's index cannot answer
    off_ladder = True

    def step(self, model, x, sigma, sigma_next, noise, state):
        middle = (sigma * sigma_next).sqrt()
        h = float((sigma_next / sigma).log())
        halfway = x - h / 2 * float(sigma) ** 2 * model.score(
            x, sigma
        )  # dx / dln sigma = - sigma² score
        return x - h * float(middle) ** 2 * model.score(halfway, middle), state


def main() -> float:
    """Halve the steps and watch the error: returns the measured order."""
    mixture = GaussianMixture(
        [[-2.0, 0.5], [1.0, 1.0], [0.0, -3.0]], [0.3, 0.5, 0.2], weights=[0.5, 0.3, 0.2]
    )
    high, low = 3.0, 0.1
    x = mixture.sample(64, high, seed=0)
    truth = run(Midpoint(), mixture, geometric(high, low, 2049), x, final="none").x
    errors = {}
    for steps in (32, 64, 128):
        reached = run(Midpoint(), mixture, geometric(high, low, steps + 1), x, final="none")
        errors[steps] = float((reached.x - truth).square().mean().sqrt())
        print(f"{steps:4d} steps, {reached.evaluations:4d} evaluations: error {errors[steps]:.2e}")
    order = math.log2(errors[64] / errors[128])
    print(f"order {order:.2f}, claimed {Midpoint.order}")
    return order


if __name__ == "__main__":
    main()
