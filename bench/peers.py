"""The other libraries' models as contestants, trained the way their own examples train them: plain
float32, eager.

Needs the peers' environment (`make bench-env`). Each contestant has `images` a training step,
`train()` for one step, `evaluate()` for one
network evaluation of a batch, and `name`, `parameters`, `precision`.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from scorefield.config import override, preset, settle
from scorefield.data import load
from scorefield.errors import InputError
from scorefield.execution import cores
from scorefield.runs import Run
from scorefield.training.trainer import Trainer


@dataclass(frozen=True)
class Contestant:
    """train(): one optimiser step on `images` images; evaluate(): one network evaluation of
    `evaluated` images; network: for counting.
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
        """How many."""
        return sum(p.numel() for p in self.network.parameters())


def need(module: str) -> Any:
    """An optional library, or words where to get it."""
    from importlib import import_module

    try:
        return import_module(module)
    except ImportError as error:
        raise InputError(
            f"this benchmark needs {module}: run `make bench-env`, then "
            f".venv-bench/bin/scorefield benchmark ... ({error})"
        ) from error


def ours(
    scratch: Path, settings: tuple[str, ...] = (), batch: int = 256, name: str = "fast"
) -> Contestant:
    """A preset through the training loop's own step and execution policy: data, noise, loss,
    optimiser, averages.
    """
    data = "mnist5k"
    config = override(
        replace(preset(name), images=0, seconds=7200.0), [f"data.source={data}", *settings]
    )
    collection = load(data)
    trainer = Trainer(
        settle(config, collection.event_shape), collection, Run(scratch), lambda _: None
    )
    trainer.place(None)
    x = torch.randn(batch, *collection.event_shape)
    sigma = torch.full((batch,), 0.5 if trainer.ladder is None else float(trainer.ladder[0]))

    @torch.no_grad()
    def evaluate() -> Tensor:
        return trainer.model.denoise(x, sigma)

    return Contestant(
        f"scorefield, {name}",
        trainer.network,
        trainer.config.optim.batch,
        trainer.step,
        batch,
        evaluate,
        trainer.execution.precision,
    )


def _plain(
    name: str,
    network: nn.Module,
    loss: Callable[[Tensor], Tensor],
    images: Tensor,
    batch: int,
    evaluate: Callable[[Tensor], Tensor],
) -> Contestant:
    """Adam at batch `batch` on random images in [-1, 1], float32, eager."""
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

    return Contestant(name, network, batch, train, batch, once)


def denoising_diffusion(images: Tensor, batch: int = 128) -> Contestant:
    """denoising-diffusion-pytorch's Unet(dim=32, dim_mults=(1, 2, 4)) in its GaussianDiffusion,
    1,000 time steps.
    """
    library = need("denoising_diffusion_pytorch")
    network = library.Unet(dim=32, dim_mults=(1, 2, 4), channels=images.shape[1])
    diffusion = library.GaussianDiffusion(
        network, image_size=images.shape[-1], timesteps=1000, auto_normalize=False
    )
    time = torch.full((batch,), 500)
    return _plain(
        "denoising-diffusion-pytorch", network, diffusion, images, batch, lambda x: network(x, time)
    )


def diffusers(images: Tensor, batch: int = 128) -> Contestant:
    """diffusers' UNet2DModel with (32, 64, 64) channels and its DDPMScheduler, epsilon prediction."""
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


def published_ncsn(images: Tensor, batch: int = 128, width: int = 64) -> Contestant:
    """The NCSN network at full width for MNIST (ngf 64) in plain float32, eager, on its own loss."""
    from scorefield import networks
    from scorefield.noise import geometric

    network = networks.build("refinenet", tuple(images.shape[1:]), width=width)
    ladder = geometric(1.0, 0.01, 10).float()

    def loss(x: Tensor) -> Tensor:
        level = torch.randint(10, (len(x),))
        sigma = ladder[level].view(-1, 1, 1, 1)
        noise = torch.randn_like(x)
        return (
            (network(x + sigma * noise, level, None) * sigma + noise).square().flatten(1).sum(1) / 2
        ).mean()

    level = torch.zeros(batch, dtype=torch.long)
    return _plain(
        "NCSN as published", network, loss, images, batch, lambda x: network(x, level, None)
    )


def _peer(make: Callable[[Tensor], Contestant], scale: bool) -> Callable[[Path], Contestant]:
    """`make` on mnist5k, in [-1, 1] where the library wants that."""

    def build(scratch: Path) -> Contestant:
        images = load("mnist5k").floats(slice(None))
        return make(images.mul(2).sub(1) if scale else images)

    return build


FIELDS: dict[
    str, tuple[Callable[[Path], Contestant], ...]
] = {  # ours first; everybody's batch is 128
    "peers": (
        lambda scratch: ours(scratch, ("optim.batch=128",)),
        _peer(denoising_diffusion, True),
        _peer(diffusers, True),
        _peer(published_ncsn, True),
    ),
    "ncsn": (lambda scratch: ours(scratch, batch=128, name="ncsn"), _peer(published_ncsn, False)),
}


def entrant(field: str, number: int, scratch: Path) -> Contestant:
    """The contestant of a place in a field, on all cores of this process."""
    torch.set_num_threads(cores())
    return FIELDS[field][number](scratch)
