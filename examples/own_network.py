"""A network, batches and a loop of your own; the model file works with every other command.

    python examples/own_network.py own.safetensors
    scorefield sample own.safetensors --network examples/own_network.py:Network --out samples

A network is called as network(x, noise_input, condition) and returns a tensor of x's shape.
Everything that the model sees is in model units, in which the data have standard deviation 0.5;
`units` converts. A noise level sigma is the standard deviation of the noise, in model units too.
"""

import sys

import torch
from torch import nn

import scorefield as sf


class Network(nn.Module):
    """Two hidden layers on points of the plane."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(3, 128), nn.SiLU(), nn.Linear(128, 128), nn.SiLU(), nn.Linear(128, 2)
        )

    def forward(self, x, noise_input, condition):
        """x (B, 2) scaled to unit variance, noise_input (B,) = ln(sigma)/4, no condition."""
        return self.layers(torch.cat([x, noise_input[:, None]], 1))


def points(count: int, generator: torch.Generator) -> torch.Tensor:
    """Data of your own: a ring of radius 3 around (10, -5), width 0.1."""
    angle = 2 * torch.pi * torch.rand(count, generator=generator)
    radius = 3 + 0.1 * torch.randn(count, generator=generator)
    return torch.stack([10 + radius * angle.cos(), -5 + radius * angle.sin()], 1)


def main(path: str = "own.safetensors", steps: int = 2000, batch: int = 256) -> float:
    """Train, save, and return the mean loss of the last 100 steps."""
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)  # the network's initial weights
    data = points(10_000, generator).double()
    units = sf.Units.standardising(data.mean(0), data.std(0), target=0.5)
    x = units.to_model(data)
    moments = sf.models.Moments(x.mean(0), x.var(0))  # for the first state of samplers
    model = sf.Preconditioned(Network(), event_shape=(2,), units=units, moments=moments)
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3)
    average = sf.training.EMA(model.network, "power", 0.1)
    state = sf.TrainState(model, sf.objectives.Denoising(), optimiser, [average])
    # Training levels of Karras et al. 2022 for data of standard deviation 0.5, in (0.002, 80).
    levels = sf.noise.LogNormal(-1.2, 1.2, model.sigma_min, model.sigma_max)
    losses = []
    for _ in range(steps):
        x0 = units.to_model(points(batch, generator))
        sigma = levels.quantile(torch.rand(batch, generator=generator))
        # One key an example: its noise is a function of the key, so a step can be repeated exactly.
        keys = sf.rng.keys(0, batch, first=state.images)
        result = sf.train_step(state, sf.Batch(x0, sigma, keys), clip=1.0)
        losses.append(result.losses.mean().item())
    sf.save_model(path, state.averaged_model())
    return sum(losses[-100:]) / 100


if __name__ == "__main__":
    print(f"mean loss {main(*sys.argv[1:2]):.3f}")
