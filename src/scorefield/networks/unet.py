"""The default network for signals, images and volumes: a small U-Net that is fast on processors.

    x -> pad -> blocks of `patch` become channels -> 3-wide convolution
      -> [residual blocks, fold and mix] per level -> blocks -> [mix and unfold, add the skip,
      residual blocks] per level
      -> norm, SiLU, mix -> channels become blocks again -> crop

    block      h + conv(silu(norm(conv(silu(modulate(norm(h), embedding))))))
    fold, mix  2-wide blocks become channels (an odd side gets a row of zeros), a 1-wide convolution
    brings them to the next width

Processors are fast with many channels and few positions, so most operations are wide convolutions
at the coarse levels. The finest level is narrow (twice the elements of a patch, at least 32
channels) and has residual blocks on the way up only. The norm is a root mean
square over channels at each position: it fuses with its neighbours, needs no second pass over the
image, and does not mix samples. Layers are channels-last from the first fold on (layers.py).
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from ..conditions import Condition, ConditionSpec
from ..errors import InputError
from ..values import finite, shape, whole, whole_numbers
from .layers import (
    Embedding,
    conv,
    depth_to_space,
    lift,
    linear,
    modulate,
    rms_norm,
    space_to_depth,
)

POSITIONS = 1024  # at most so many patches an event, while patches are at most LARGEST_PATCH wide
LARGEST_PATCH = 8
WIDTHS = (32, 64, 128, 192)  # of the finest level
SCALES = (1.0, 0.75, 0.5, 0.25)  # of the coarser levels' widths
NARROWEST = 32  # channels of a coarser level at any scale
COARSEST = 8  # levels are added until the longest side has at most so many positions


def size_from_data(event_shape: Sequence[int], scale: float = 1.0) -> dict[str, Any]:
    """Choose the sizes of the network; 1x28x28 gives patch 2, widths (32, 128) at 14x14 and 7x7.

    Sides under 16 keep patch 1. Larger ones get the smallest power of two from 2 up that leaves at
    most POSITIONS patches. The finest level has the least of WIDTHS that is twice what a patch
    holds.

    Args:
        event_shape: (C, *space).
        scale: Factor of the widths of the coarser levels, in (0, 1]; they are multiples of 16.

    Returns:
        The options patch, widths and depths of `UNet`.
    """
    channels, *space = event_shape
    patch = 1 if max(space) < 16 else 2
    while (
        patch > 1 and patch < LARGEST_PATCH and math.prod(-(-n // patch) for n in space) > POSITIONS
    ):
        patch *= 2
    longest = -(-max(space) // patch)
    levels = 1
    while longest > COARSEST:
        longest, levels = -(-longest // 2), levels + 1
    levels = max(levels, 2) if longest > 2 else levels
    finest = next(
        (width for width in WIDTHS if width >= 2 * channels * patch ** len(space)), WIDTHS[-1]
    )
    coarser = [128, 192][: levels - 1] + [192] * (levels - 3)
    coarser = [max(NARROWEST, round(scale * width / 16) * 16) for width in coarser]
    return {
        "patch": patch,
        "widths": [finest, *coarser] if levels > 1 else [max(finest, 64)],
        "depths": [1] * (levels - 1) + [4],
    }


def multiply_adds(event_shape: Sequence[int], scale: float = 1.0) -> int:
    """Multiplications in the convolutions of the network of `size_from_data`, for one example.

    Args:
        event_shape: (C, *space).
        scale: As in `size_from_data`.

    Returns:
        Their number in a forward pass; training takes about three times as many.
    """
    channels, *space = event_shape
    sized = size_from_data(event_shape, scale)
    widths, depths = sized["widths"], sized["depths"]
    kernel, corners = 3 ** len(space), 2 ** len(space)
    folded = channels * sized["patch"] ** len(space)
    sides = [-(-n // sized["patch"]) for n in space]
    total = math.prod(sides) * folded * widths[0] * (kernel + 1)  # stem and head
    for level, (width, depth) in enumerate(zip(widths, depths, strict=True)):
        last = level == len(widths) - 1
        blocks = depth if last or level == 0 else 2 * depth
        total += math.prod(sides) * blocks * 2 * kernel * width**2
        sides = [-(-n // 2) for n in sides]
        if not last:
            total += math.prod(sides) * 2 * corners * width * widths[level + 1]
    return int(total)


def costs(event_shape: Sequence[int]) -> dict[float, int]:
    """`multiply_adds` at each of SCALES; empty for events that the network does not take."""
    if len(event_shape) not in (2, 3, 4):
        return {}
    return {scale: multiply_adds(event_shape, scale) for scale in SCALES}


class Block(nn.Module):
    """h + conv2(silu(norm(conv1(silu(modulate(norm(h))))))), starting as the identity."""

    def __init__(self, dims: int, width: int, embedding: int) -> None:
        super().__init__()
        self.modulation = linear(embedding, 2 * width, zero=True)
        self.conv1 = conv(dims, width, width)
        self.conv2 = conv(dims, width, width, zero=True)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.conv1(F.silu(modulate(rms_norm(x), self.modulation(embedding))))
        return x + self.conv2(F.silu(rms_norm(h)))


class UNet(nn.Module):
    """The U-Net of this module for events (C, *space) with 1, 2 or 3 spatial dimensions.

    Args:
        event_shape: (C, *space), sides of any size.
        patch: Side of the blocks that become channels at the stem; None: read off the event
            (`size_from_data`), as are `widths` and `depths`.
        widths: Channels of each level, finest first.
        depths: Residual blocks of each level: on the way up at level i and, but for the finest, as
            many on the way down; the last number is that of the coarsest level in all.
        embedding: Width of the embedding of noise level and conditions.
        conditions: What the network can be conditioned on, by name; None for nothing.
        scale: Factor of the widths of the coarser levels where `widths` is None, in (0, 1].

    Raises:
        InputError: For an event without spatial dimensions, or sizes that do not fit together.
    """

    def __init__(
        self,
        event_shape: Sequence[int],
        patch: int | None = None,
        widths: Sequence[int] | None = None,
        depths: Sequence[int] | None = None,
        embedding: int = 256,
        conditions: Mapping[str, ConditionSpec] | None = None,
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        event_shape = shape(event_shape, "event_shape")
        channels, *space = event_shape
        if len(space) not in (1, 2, 3) or min(event_shape) < 1:
            raise InputError(
                "unet needs an event (channels, *space) with 1 to 3 spatial dimensions; got "
                f"{tuple(event_shape)}. Vectors? use mlp"
            )
        scale = finite(scale, "scale", 0.0, 1.0, above=True)
        sized = size_from_data(event_shape, scale)
        patch = whole(sized["patch"] if patch is None else patch, "patch")
        widths = whole_numbers(sized["widths"] if widths is None else widths, "widths")
        usual = [1] * (len(widths) - 1) + [4]
        depths = whole_numbers(usual if depths is None else depths, "depths")
        embedding = whole(embedding, "embedding", 1)
        if (
            len(widths) != len(depths)
            or not widths
            or min(widths) < 1
            or min(depths) < 0
            or patch < 1
        ):
            raise InputError(
                f"unet needs patch >= 1 and one width and one depth a level; got patch={patch}, "
                f"widths={widths}, depths={depths}"
            )
        self.options = {
            "patch": patch,
            "widths": widths,
            "depths": depths,
            "embedding": embedding,
        }
        dims, levels = len(space), len(widths)
        self.space = lift(space)
        self.patch = lift((patch,) * dims)
        self.factors = tuple(
            2 if n > 1 else 1 for n in lift((2,) * dims)
        )  # of every fold; the first of a signal's two dimensions stays 1
        self.padding, self.window = fit(self.space, self.patch)
        folded, corners = channels * patch**dims, 2**dims
        self.embed = Embedding(embedding, conditions)
        self.stem = conv(dims, folded, widths[0])
        self.head = conv(dims, widths[0], folded, kernel=1, zero=True)

        def blocks(level: int, count: int) -> nn.ModuleList:
            return nn.ModuleList(Block(dims, widths[level], embedding) for _ in range(count))

        self.down = nn.ModuleList(blocks(i, depths[i] if i else 0) for i in range(levels - 1))
        self.coarsen = nn.ModuleList(
            conv(dims, widths[i] * corners, widths[i + 1], kernel=1) for i in range(levels - 1)
        )
        self.middle = blocks(levels - 1, depths[-1])
        self.refine = nn.ModuleList(
            conv(dims, widths[i + 1], widths[i] * corners, kernel=1) for i in range(levels - 1)
        )
        self.up = nn.ModuleList(blocks(i, depths[i]) for i in range(levels - 1))

    def matrix_parameters(self) -> list[nn.Parameter]:
        """Weights of the convolutions within and between levels, modulations left out."""
        rooms = (self.down, self.coarsen, self.middle, self.refine, self.up)
        return [
            p
            for room in rooms
            for name, p in room.named_parameters()
            if p.ndim >= 2 and "modulation" not in name
        ]

    def forward(
        self, x: Tensor, noise_input: Tensor | None = None, condition: Condition | None = None
    ) -> Tensor:
        """The network's output.

        Args:
            x: (B, *event_shape).
            noise_input: (B,), or None.
            condition: Mapping of tensors with B rows, or None.

        Returns:
            (B, *event_shape).
        """
        shape = x.shape
        e = self.embed(len(x), noise_input, condition)
        h = x.reshape(*x.shape[:2], *self.space)
        h = F.pad(h, self.padding) if any(self.padding) else h
        h = self.stem(space_to_depth(h, self.patch))
        skips = []
        for blocks, coarsen in zip(self.down, self.coarsen, strict=True):
            for block in blocks:  # type: ignore[attr-defined]
                h = block(h, e)
            skips.append(h)
            padding, _ = fit(h.shape[2:], self.factors)
            h = coarsen(space_to_depth(F.pad(h, padding) if any(padding) else h, self.factors))
        for block in self.middle:
            h = block(h, e)
        for i in reversed(range(len(self.up))):
            _, window = fit(skips[i].shape[2:], self.factors)
            h = depth_to_space(self.refine[i](h), self.factors)[window] + skips[i]
            for block in self.up[i]:  # type: ignore[attr-defined]
                h = block(h, e)
        h = depth_to_space(self.head(F.silu(rms_norm(h))), self.patch)
        return h[self.window].reshape(shape)


def fit(space: Sequence[int], multiple: Sequence[int]) -> tuple[list[int], tuple[Any, ...]]:
    """Make each size a multiple by padding that is nearly even on both sides.

    Args:
        space: Sizes.
        multiple: What each size must be a multiple of.

    Returns:
        The list for F.pad (last dimension first), and the window that undoes the padding.
    """
    low = [(-n % m) // 2 for n, m in zip(space, multiple, strict=True)]
    high = [-n % m - a for n, m, a in zip(space, multiple, low, strict=True)]
    padding = [p for a, b in zip(reversed(low), reversed(high), strict=True) for p in (a, b)]
    return padding, (..., *(slice(a, a + n) for n, a in zip(space, low, strict=True)))
