"""The models of other libraries as candidates, trained the way their own examples train them.

That is plain float32, eager. They need the peers' environment (`make bench-env`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from scorefield import networks
from scorefield.config import override, preset
from scorefield.data import open as open_data
from scorefield.errors import InputError
from scorefield.execution import cores
from scorefield.noise import geometric
from scorefield.training.build import build, resolve_config
from scorefield.training.segment import learning_rate
from scorefield.training.state import train_step


@dataclass(frozen=True)
class Candidate:
    """A model whose speed is measured.

    Attributes:
        name: Its name.
        network: For counting parameters.
        images: Images of one training step.
        train: One optimiser step.
        evaluated: Images of one evaluation.
        evaluate: One network evaluation.
        precision: The type that the network computes in.
    """

    name: str
    network: nn.Module
    images: int
    train: Callable[[], Any]
    evaluated: int
    evaluate: Callable[[], Any]
    precision: str = "float32"

    @property
    def parameters(self) -> int:
        """Number of parameters."""
        return sum(p.numel() for p in self.network.parameters())


def need(module: str) -> Any:
    """An optional library.

    Raises:
        InputError: Where it is missing; the message says how to get it.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise InputError(
            f"this measurement needs {module}: run `make bench-env`, then "
            f".venv-bench/bin/python -m bench ... ({error})"
        ) from error


def ours(
    scratch: Path, settings: tuple[str, ...] = (), batch: int = 256, name: str = "fast"
) -> Candidate:
    """A preset through the training loop's own step: data, noise, loss, optimiser, averages.

    Args:
        scratch: Not used; nothing is written.
        settings: Settings NAME=VALUE.
        batch: Images of one evaluation.
        name: The preset.
    """
    data = "mnist5k"
    dataset = open_data(data)
    request = override(preset(name), ["seconds=7200", f"data.source={data}", *settings])
    config = resolve_config(request, dataset)
    setup = build(config, dataset)
    setup.execution.configure_process()
    state, o = setup.state, config.optim
    model = state.model
    x = torch.randn(batch, *dataset.event_shape, device=setup.execution.device)
    level = 0.5 if model.ladder is None else float(model.ladder[0])
    sigma = torch.full((batch,), level, device=setup.execution.device)

    def train() -> None:
        rate = learning_rate(o.lr, state.images, o.warmup, o.decay, 0.0)
        made = setup.batches.batch(state.images, o.batch)
        train_step(state, made, rate, o.clip, o.accumulate)

    @torch.no_grad()
    def evaluate() -> Tensor:
        return model.denoise(x, sigma)

    return Candidate(
        f"scorefield, {name}",
        model.network,
        o.batch,
        train,
        batch,
        evaluate,
        setup.execution.precision,
    )


def _plain(
    name: str,
    network: nn.Module,
    loss: Callable[[Tensor], Tensor],
    images: Tensor,
    batch: int,
    evaluate: Callable[[Tensor], Tensor],
) -> Candidate:
    """Adam at batch `batch` on random images, float32, eager."""
    optimiser = torch.optim.Adam(network.parameters(), 1e-4)

    def train() -> None:
        rows = torch.randint(len(images), (batch,))
        value = loss(images[rows])
        optimiser.zero_grad()
        value.backward()
        optimiser.step()

    @torch.no_grad()
    def once() -> Tensor:
        return evaluate(images[:batch])

    return Candidate(name, network, batch, train, batch, once)


def denoising_diffusion(images: Tensor, batch: int = 128) -> Candidate:
    """The Unet(dim=32, dim_mults=(1, 2, 4)) of denoising-diffusion-pytorch, 1,000 time steps."""
    library = need("denoising_diffusion_pytorch")
    network = library.Unet(dim=32, dim_mults=(1, 2, 4), channels=images.shape[1])
    diffusion = library.GaussianDiffusion(
        network, image_size=images.shape[-1], timesteps=1000, auto_normalize=False
    )
    time = torch.full((batch,), 500)
    return _plain(
        "denoising-diffusion-pytorch", network, diffusion, images, batch, lambda x: network(x, time)
    )


def diffusers(images: Tensor, batch: int = 128) -> Candidate:
    """The UNet2DModel of diffusers with (32, 64, 64) channels and its DDPMScheduler."""
    library = need("diffusers")
    network = library.UNet2DModel(
        sample_size=images.shape[-1],
        in_channels=images.shape[1],
        out_channels=images.shape[1],
        block_out_channels=(32, 64, 64),
        layers_per_block=2,
        down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
    )
    scheduler = library.DDPMScheduler(num_train_timesteps=1000)

    def loss(x: Tensor) -> Tensor:
        noise, time = torch.randn_like(x), torch.randint(1000, (len(x),))
        return nn.functional.mse_loss(
            network(scheduler.add_noise(x, noise, time), time).sample, noise
        )

    time = torch.full((batch,), 500)
    return _plain("diffusers", network, loss, images, batch, lambda x: network(x, time).sample)


def published_ncsn(images: Tensor, batch: int = 128, width: int = 64) -> Candidate:
    """The NCSN network at full width for MNIST (ngf 64) on its own loss, float32, eager."""
    network = networks.build("refinenet", tuple(images.shape[1:]), width=width)
    ladder = geometric(1.0, 0.01, 10).float()

    def loss(x: Tensor) -> Tensor:
        level = torch.randint(10, (len(x),))
        sigma = ladder[level].view(-1, 1, 1, 1)
        noise = torch.randn_like(x)
        residual = network(x + sigma * noise, level, None) * sigma + noise
        return (residual.square().flatten(1).sum(1) / 2).mean()

    level = torch.zeros(batch, dtype=torch.long)
    return _plain(
        "NCSN as published", network, loss, images, batch, lambda x: network(x, level, None)
    )


def _peer(make: Callable[[Tensor], Candidate], scale: bool) -> Callable[[Path], Candidate]:
    """`make` on mnist5k, in [-1, 1] where the library expects that."""

    def build_peer(scratch: Path) -> Candidate:
        images = open_data("mnist5k").floats(slice(None))
        return make(images.mul(2).sub(1) if scale else images)

    return build_peer


# name -> candidates, this package first; every batch is 128
SUITES: dict[str, tuple[Callable[[Path], Candidate], ...]] = {
    "peers": (
        lambda scratch: ours(scratch, ("optim.batch=128",)),
        _peer(denoising_diffusion, True),
        _peer(diffusers, True),
        _peer(published_ncsn, True),
    ),
    "ncsn": (lambda scratch: ours(scratch, batch=128, name="ncsn"), _peer(published_ncsn, False)),
}


def make_candidate(suite: str, number: int, scratch: Path) -> Candidate:
    """The candidate at a place of a suite, on all cores of this process."""
    torch.set_num_threads(cores())
    return SUITES[suite][number](scratch)
