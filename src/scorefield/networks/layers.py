"""Layers that the networks share, for signals, images and volumes.

    space_to_depth(x, f)   (B, C, *n) -> (B, C prod(f), *(n / f)): blocks of f become channels;
                           depth_to_space inverts it
    rms_norm(x)            x / sqrt(mean over channels of x² + eps) at each position: no statistics
                           of the batch, none over space
    modulate(x, s, t)      x (1 + s) + t with s, t (B, C) from the embedding

Tensors are (B, C, *space) with the channels innermost in memory ("channels-last"). In this layout
processors convolve without a repack, and a norm over channels reads neighbours. PyTorch has it for
two and three spatial dimensions only, so a signal runs as an image of height one; `lift` pads
sizes, kernels and factors to match.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..conditions import Condition, ConditionSpec

EPS = 1e-6


def lift(values: Sequence[int]) -> tuple[int, ...]:
    """Sizes, kernels or factors in two or three dimensions: (n,) becomes (1, n)."""
    return (1, *values) if len(values) == 1 else tuple(values)


def channels_last(spatial: int) -> torch.memory_format:
    """The memory format with channels innermost, for 2 or 3 spatial dimensions."""
    return torch.channels_last if spatial == 2 else torch.channels_last_3d


def conv(
    dims: int, inputs: int, outputs: int, kernel: int = 3, stride: int = 1, zero: bool = False
) -> nn.Module:
    """A convolution with weights from N(0, 1/fan_in) and biases of zero.

    Args:
        dims: Spatial dimensions, 1 to 3.
        inputs: Channels of the input.
        outputs: Channels of the output.
        kernel: Side of the kernel, odd for stride 1.
        stride: 1 keeps the size; stride = kernel makes one position of each block.
        zero: Whether the weights start at zero, too.

    Returns:
        The layer.
    """
    size, step = lift((kernel,) * dims), lift((stride,) * dims)
    kind: Callable[..., nn.Conv2d | nn.Conv3d] = nn.Conv2d if len(size) == 2 else nn.Conv3d
    layer = kind(inputs, outputs, size, step, tuple(k // 2 if stride == 1 else 0 for k in size))
    with torch.no_grad():
        layer.weight.normal_(0, 0.0 if zero else 1 / math.sqrt(inputs * kernel**dims))
        assert layer.bias is not None
        layer.bias.zero_()
        layer.weight.data = layer.weight.data.contiguous(memory_format=channels_last(len(size)))
    return layer


def linear(inputs: int, outputs: int, zero: bool = False) -> nn.Linear:
    """A linear map, initialised as `conv`."""
    layer = nn.Linear(inputs, outputs)
    with torch.no_grad():
        layer.weight.normal_(0, 0.0 if zero else 1 / math.sqrt(inputs))
        layer.bias.zero_()
    return layer


def rms_norm(x: Tensor) -> Tensor:
    """Divide x (B, C, ...) by its root mean square over channels.

    It is plain arithmetic, which a compiler fuses with what follows.
    """
    return x * torch.rsqrt(x.square().mean(1, keepdim=True) + EPS)


def modulate(x: Tensor, scale_shift: Tensor) -> Tensor:
    """x (1 + scale) + shift: x (B, C, ...), scale_shift (B, 2C)."""
    scale, shift = scale_shift.reshape(*scale_shift.shape, *(1,) * (x.ndim - 2)).chunk(2, dim=1)
    return x * (1 + scale) + shift


def space_to_depth(x: Tensor, factors: Sequence[int]) -> Tensor:
    """Make channels of blocks (pixel-unshuffle), channels innermost in memory.

    Args:
        x: (B, C, *n).
        factors: Sides of the blocks, which divide n.

    Returns:
        (B, prod(factors) C, *(n / factors)).
    """
    b, c, *n = x.shape
    d = len(n)
    split = [size for s, f in zip(n, factors, strict=True) for size in (s // f, f)]
    x = (
        x.movedim(1, -1)
        .reshape(b, *split, c)
        .permute(0, *range(1, 2 * d, 2), *range(2, 2 * d + 1, 2), 2 * d + 1)
    )
    return x.reshape(b, *split[::2], math.prod(factors) * c).movedim(-1, 1)


def depth_to_space(x: Tensor, factors: Sequence[int]) -> Tensor:
    """The inverse of `space_to_depth`."""
    b, c, *n = x.shape
    d = len(n)
    c //= math.prod(factors)
    x = x.movedim(1, -1).reshape(b, *n, *factors, c)
    x = x.permute(0, *(axis for i in range(d) for axis in (1 + i, 1 + d + i)), 2 * d + 1)
    return x.reshape(b, *(s * f for s, f in zip(n, factors, strict=True)), c).movedim(-1, 1)


def fourier(t: Tensor, features: int, lowest: float = 0.25, highest: float = 32.0) -> Tensor:
    """Fourier features: cosines and sines at frequencies evenly spaced in their logarithm.

    The frequencies suit ln(sigma)/4, one unit of which is a factor of 55 in sigma, as well as the
    index of a level. They are computed in float32 at least, whatever the type of the weights: an
    angle in bfloat16 would be noise.

    Args:
        t: (B,).
        features: Number of features, even.
        lowest: Lowest frequency, radians per unit of t.
        highest: Highest frequency.

    Returns:
        (B, features).
    """
    t = t.to(
        torch.promote_types(t.dtype if t.is_floating_point() else torch.float32, torch.float32)
    )
    half = features // 2
    power = torch.arange(half, device=t.device, dtype=t.dtype) / max(half - 1, 1)
    angle = t[:, None] * (lowest * (highest / lowest) ** power)
    return torch.cat([angle.cos(), angle.sin()], dim=1) * math.sqrt(2)


class Embedding(nn.Module):
    """The embedding of the noise level and of the conditions, through one hidden layer.

    A class is looked up in a table whose last row stands for "no class"; a vector goes through a
    linear map, or is replaced by a learned vector where it is null (see `conditions`).

    Args:
        width: Width of the embedding.
        conditions: What the network can be conditioned on, by name; None for nothing.
        features: Number of Fourier features of the noise input.
    """

    def __init__(
        self,
        width: int,
        conditions: Mapping[str, ConditionSpec] | None = None,
        features: int = 64,
    ) -> None:
        super().__init__()
        self.features = features
        self.specs = dict(conditions or {})
        self.noise = linear(features, width)
        self.tables = nn.ModuleDict(
            {
                name: nn.Embedding(spec.size + 1, width)
                for name, spec in self.specs.items()
                if spec.kind == "class"
            }
        )
        self.maps = nn.ModuleDict(
            {
                name: linear(spec.size, width)
                for name, spec in self.specs.items()
                if spec.kind == "vector"
            }
        )
        self.absent = nn.ParameterDict({name: torch.zeros(width) for name in self.maps})
        self.out = linear(width, width)

    def forward(
        self, batch: int, noise_input: Tensor | None, condition: Condition | None
    ) -> Tensor:
        """The embedding (batch, width).

        Args:
            batch: Number of samples B.
            noise_input: (B,), or None for a network without a noise level.
            condition: Mapping of tensors with B rows; None, or a missing name, is null.
        """
        weight = self.noise.weight
        if noise_input is None:
            h = self.noise.bias.expand(batch, -1)
        else:
            h = self.noise(fourier(noise_input, self.features).to(weight.dtype))
        given = condition or {}
        for name, table in self.tables.items():
            null = torch.full((batch,), -1, device=weight.device)
            index = given.get(name, null)
            last = self.specs[name].size
            h = h + table(torch.where(index < 0, last, index))
        for name, layer in self.maps.items():
            value = given.get(name)
            if value is None:
                h = h + self.absent[name]
                continue
            missing = torch.isnan(value).any(1, keepdim=True)
            mapped = layer(value.nan_to_num().to(weight.dtype))
            h = h + torch.where(missing, self.absent[name], mapped)
        return F.silu(self.out(F.silu(h)))
