"""A small classifier that judges whether an image is a digit: trained on mnist5k within seconds, an
eleventh class for what is no digit.
"""

import functools

import torch
from torch import Tensor, nn
from torch.nn import functional as F

NONE = 10  # the class of noise


def blurred_noise(count: int, seed: int) -> Tensor:
    """Smooth random blobs in [0, 1], (count, 1, 28, 28), of random scale and share of ink: what an
    untrained sampler might leave.
    """
    g = torch.Generator().manual_seed(seed)
    out = []
    for _ in range(count):
        width = 0.05 + 3.2 * torch.rand(
            (), generator=g
        )  # pixels; the smallest leave the noise as it is
        t = torch.arange(-8, 9)
        kernel = torch.exp(-(t.float() ** 2) / (2 * width**2))
        kernel = kernel / kernel.sum()
        x = torch.randn(1, 1, 44, 44, generator=g)
        x = F.conv2d(F.conv2d(x, kernel.view(1, 1, 17, 1)), kernel.view(1, 1, 1, 17))[0]
        x = (x - x.mean()) / x.std()
        threshold, gain = 1.5 * torch.rand((), generator=g), 0.3 + torch.rand((), generator=g)
        out.append(((x - threshold) * gain).clamp(0, 1))
    return torch.stack(out)


@functools.cache
def classifier() -> tuple[nn.Module, Tensor]:
    """The trained network in evaluation mode, images (N, 1, 28, 28) in [0, 1] -> logits (N, 11),
    and the held-out digits it never saw.
    """
    from scorefield.data import open as open_data
    from scorefield.data import split

    digits = open_data("mnist5k")
    assert digits.labels is not None
    x, y = digits.floats(slice(None)), digits.labels
    train, held = split(y, len(digits), 123, 0.1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        g = torch.Generator().manual_seed(0)
        parts = [(1, 32, 5, 2), (32, 32, 3, 1), (32, 64, 3, 2), (64, 64, 3, 2)]
        layers = [
            m
            for i, o, k, s in parts
            for m in (nn.Conv2d(i, o, k, s, k // 2), nn.BatchNorm2d(o), nn.ReLU())
        ]
        net = nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.2), nn.Linear(64 * 16, NONE + 1))
        optimiser = torch.optim.AdamW(net.parameters(), 3e-3, weight_decay=0.01)
        epochs, size = 14, 64
        steps = epochs * (len(train) // size)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, steps)
        junk = blurred_noise(1000, 1)
        for step in range(steps):
            if step % (steps // epochs) == 0:
                order = train[torch.randperm(len(train), generator=g)]
            rows = order[step * size % (len(order) - size) :][:size]
            shift = torch.randint(-2, 3, (2,), generator=g).tolist()
            images = torch.cat(
                [
                    torch.roll(x[rows], shift, (2, 3)),
                    junk[torch.randint(len(junk), (8,), generator=g)],
                ]
            )
            labels = torch.cat([y[rows], torch.full((8,), NONE)])
            loss = F.cross_entropy(net(images), labels)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return net.eval(), x[held]


def confident(images: Tensor) -> int:
    """How many of the images (N, 1, 28, 28) in [0, 1] are some digit with probability > 0.9."""
    net, _ = classifier()
    with torch.no_grad():
        return int((net(images.float()).softmax(1)[:, :NONE].amax(1) > 0.9).sum())
